/* config/decode: from a tree of values to an experiment, by the table of keys.
 *
 * Internal to config/; everything here is Local.
 */
#ifndef LODE_CONFIG_DECODE_H
#define LODE_CONFIG_DECODE_H

#include "config/config.h"
#include "config/value.h"

enum { LODE_DECODE_MAX_LIST = 1000 }; /* values of any list */

/* Where one key was written. */
typedef struct lode_config_place {
    char *key;   /* indexed path */
    char *where; /* "exp.cfg:12"; the origin alone where the value is the default */
} lode_config_place_t;

typedef struct lode_config_places {
    char *origin;
    lode_config_place_t *items; /* [count] */
    int64_t count, capacity;
    bool series; /* models were put in place of a folder of steps */
} lode_config_places_t;

/* Checks the whole tree against the table and fills an experiment, defaults included. Paths are
 * taken as they stand; the sweep's values are not checked against their keys.
 * *out is the caller's. origin: in, what messages call the whole text. */
LODE_MUST_USE lode_status_t lode_decode(lode_config_t **out, const lode_value_t *root,
                                        const char *origin);

/* Checks what no single key can be wrong about. */
LODE_MUST_USE lode_status_t lode_decode_check(const lode_config_t *config);

/* The part of that which is about models, their series and training (config/training.c). */
LODE_MUST_USE lode_status_t lode_training_check(const lode_config_t *config);

/* Lists in a point of a sweep what training will write and other stages measure. label: in, of the
 * point, "" without a sweep. */
LODE_MUST_USE lode_status_t lode_training_expand(lode_config_t *config, const char *label);

/* Releases that list. */
void lode_training_free(lode_config_t *config);

/* Whether the name is that of a checkpoint that training will write. */
bool lode_training_names(const lode_config_t *config, const char *name);

/* Expands $VAR and ~ in every path of the tree, or in one value that is to be a path. */
LODE_MUST_USE lode_status_t lode_decode_expand_paths(lode_value_t *root);
LODE_MUST_USE lode_status_t lode_decode_expand_path(lode_value_t *value, const char *key);

void lode_decode_places_destroy(lode_config_places_t **places);

#endif
