/* config/schema: the one table of experiment keys.
 *
 * Parsing, defaults, ranges, error messages, canonical text, stage hashes and documentation all
 * read this table; a key is added by adding its field and its row, which stands in the file of its
 * group (config/keys.h). Internal to config/ and its tests; everything here is Local.
 */
#ifndef LODE_CONFIG_SCHEMA_H
#define LODE_CONFIG_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "config/choices.h"

/* What a key holds, and the type of its field. */
typedef enum lode_key_type {
    LODE_KEY_INTEGER,     /* int64_t */
    LODE_KEY_REAL,        /* double; integers are accepted */
    LODE_KEY_BOOLEAN,     /* bool */
    LODE_KEY_TEXT,        /* char *, not empty unless it may be */
    LODE_KEY_NAME,        /* char *, fit for a file name */
    LODE_KEY_PATH,        /* char *, $VAR and ~ expanded */
    LODE_KEY_BYTES,       /* int64_t; "8G" or an integer */
    LODE_KEY_CHOICE,      /* an enum of config/choices.h */
    LODE_KEY_GRANULARITY, /* lode_granularity_t */
    LODE_KEY_GROUPS,      /* a list of groups; their keys follow as "path.[].key" */
    LODE_KEY_VALUES,      /* char **, a list of anything as canonical text */
} lode_key_type_t;

/* Stages whose numbers a key decides beyond what the stages before them wrote. */
enum {
    LODE_DECIDES_TOKENIZER = 1 << 0,
    LODE_DECIDES_TOKENIZE = 1 << 1,
    LODE_DECIDES_TRAIN = 1 << 2,
    LODE_DECIDES_CALIBRATE = 1 << 3,
    LODE_DECIDES_ACCUMULATE = 1 << 4,
    LODE_DECIDES_MOMENTS = 1 << 5,
    LODE_DECIDES_CLASSIFY = 1 << 6,
    LODE_DECIDES_SUPERWEIGHT = 1 << 7,
    LODE_DECIDES_SPECTRA = 1 << 8,
    LODE_DECIDES_PRUNE = 1 << 9,
    LODE_DECIDES_COMPENSATE = 1 << 10,
    LODE_DECIDES_QUANTIZE = 1 << 11,
    LODE_DECIDES_EVALUATE = 1 << 12,
    LODE_DECIDES_PROBE = 1 << 13,
    LODE_DECIDES_EXPORT = 1 << 14,
    LODE_DECIDES_AUDIT = 1 << 15,
};

typedef struct lode_key {
    const char *path; /* from the root, elements of lists of groups as "[]" */
    lode_key_type_t type;
    bool list;            /* the field is an array of the type; values differ from each other */
    bool may_be_empty;    /* of lists of any kind, and of texts, names and paths */
    bool distinct;        /* no two groups of a list share the value */
    const char *fallback; /* libconfig text of the default, NULL where the key is required */
    double low, high;     /* of numbers; low ≤ value ≤ high, strict where open */
    bool low_open, high_open;
    const lode_choice_t *choices;
    size_t offset;       /* in lode_config_t, or in the element of its list of groups */
    size_t count_offset; /* of lists: where their int64_t count is */
    size_t element;      /* of lists of groups: bytes of an element */
    unsigned stages;     /* LODE_DECIDES_… */
    bool spares_weights; /* of those that decide train: not the weights after any number of steps */
    const char *meaning;
} lode_key_t;

/* All rows; the keys of a group stand together. */
const lode_key_t *lode_schema(int64_t *count);

/* The row of a path, NULL where there is none. */
const lode_key_t *lode_schema_find(const char *path);

/* The list of groups that the row's key is part of, NULL where it is not. */
const lode_key_t *lode_schema_owner(const lode_key_t *key);

/* The row's path without its owner's and "[]". */
const char *lode_schema_local_path(const lode_key_t *key);

/* Whether some key's path starts with `path` and a '.'. */
bool lode_schema_is_group(const char *path);

/* Bit of a stage's name, 0 where there is no such stage. */
unsigned lode_schema_stage(const char *name);

/* Appends the names of the stages, "tokenizer, … and audit". */
LODE_MUST_USE lode_status_t lode_schema_stages_text(lode_buffer_t *text);

/* Appends what to write instead of the unknown key `name` of the group `group` ("" at the root):
 * the nearest key of the group, else one of the same name elsewhere, else all of the group. */
LODE_MUST_USE lode_status_t lode_schema_suggest(lode_buffer_t *text, const char *group,
                                                const char *name);

/* The choice nearest to `name`, NULL where none is near. */
const char *lode_schema_near_choice(const lode_choice_t *choices, const char *name);

/* Appends the range of a number, like "above 0 and below 1"; nothing where it has none. */
LODE_MUST_USE lode_status_t lode_schema_range_text(const lode_key_t *key, lode_buffer_t *text);

/* Appends the choices, separated by commas. */
LODE_MUST_USE lode_status_t lode_schema_choices_text(const lode_choice_t *choices,
                                                     lode_buffer_t *text);

/* Appends what the key holds, like "list of numbers". */
LODE_MUST_USE lode_status_t lode_schema_type_text(const lode_key_t *key, lode_buffer_t *text);

/* Moves an indexed path to its schema form: "models.[0].path" becomes "models.[].path".
 * schema_path: out, [size] bytes, cut off where too short. */
void lode_schema_path(char *schema_path, size_t size, const char *path);

#endif
