/* config/value: libconfig text as a tree of values that can be changed, each with its place.
 *
 * Internal to config/; everything here is Local.
 */
#ifndef LODE_CONFIG_VALUE_H
#define LODE_CONFIG_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "config/source.h"

typedef enum lode_value_kind {
    LODE_VALUE_GROUP,
    LODE_VALUE_LIST, /* ( ) or [ ] */
    LODE_VALUE_INTEGER,
    LODE_VALUE_REAL,
    LODE_VALUE_BOOLEAN,
    LODE_VALUE_TEXT,
} lode_value_kind_t;

/* Owns its name, text and children; `file` is borrowed and must outlive it. */
typedef struct lode_value {
    lode_value_kind_t kind;
    char *name;       /* NULL in lists and at the root */
    const char *file; /* what messages call the place; may be an argument of --set */
    int64_t line;     /* 0 where the place has no lines */
    int64_t integer;
    double real;
    bool boolean;
    char *text;
    struct lode_value *children; /* [count] */
    int64_t count;
} lode_value_t;

/* Parses a scanned text; *root is freed with lode_value_free, {0} on failure. `source` must
 * outlive it. Errors: LODE_ERR_CONFIG with file and line. */
LODE_MUST_USE lode_status_t lode_value_read(lode_value_t *root, const lode_source_t *source);

/* The value at a path like "models.[0].name", NULL where there is none. */
lode_value_t *lode_value_find(const lode_value_t *root, const char *path);

/* Puts *value, which is taken over also on failure, at `path`: missing groups are made, elements
 * of lists must exist. Errors: LODE_ERR_CONFIG, naming the value's place. */
LODE_MUST_USE lode_status_t lode_value_set(lode_value_t *root, const char *path,
                                           lode_value_t *value);

/* Makes *value a list that holds it. */
LODE_MUST_USE lode_status_t lode_value_wrap(lode_value_t *value);

/* Appends the value as canonical libconfig text; its name is left out. */
LODE_MUST_USE lode_status_t lode_value_text(const lode_value_t *value, lode_buffer_t *text);

/* The canonical text of one scalar: wide integers end in L, reals are as short as reads back to
 * the same bits, strings are quoted. */
LODE_MUST_USE lode_status_t lode_value_integer_text(lode_buffer_t *text, int64_t value);
LODE_MUST_USE lode_status_t lode_value_real_text(lode_buffer_t *text, double value);
LODE_MUST_USE lode_status_t lode_value_string_text(lode_buffer_t *text, const char *value);

/* LODE_ERR_CONFIG with "place: key: " before the message. */
lode_status_t lode_value_fail(const lode_value_t *value, const char *key, const char *format, ...)
    LODE_PRINTF(3, 4);

void lode_value_free(lode_value_t *value); /* leaves {0} */

#endif
