/* config/keys: the rows of the table of keys (config/schema), in a file for each group or few. What
 * is defined here has short names, and is for these files and the table alone.
 */
#ifndef LODE_CONFIG_KEYS_H
#define LODE_CONFIG_KEYS_H

#include "config/config.h"
#include "config/schema.h"

/* Where the field of a row is, and the count of one that is a list. */
#define AT(field) .offset = offsetof(lode_config_t, field)
#define COUNT(field) .count_offset = offsetof(lode_config_t, field)
/* The field of a key of a list of groups, in the list's element. */
#define IN(type, field) .offset = offsetof(type, field)

/* Stages that compute with the model's layers. */
enum {
    FORWARD = LODE_DECIDES_TRAIN | LODE_DECIDES_CALIBRATE | LODE_DECIDES_ACCUMULATE |
              LODE_DECIDES_MOMENTS | LODE_DECIDES_SUPERWEIGHT | LODE_DECIDES_COMPENSATE |
              LODE_DECIDES_QUANTIZE | LODE_DECIDES_EVALUATE | LODE_DECIDES_PROBE |
              LODE_DECIDES_AUDIT,
};

typedef struct lode_keys {
    const lode_key_t *rows; /* [count] */
    int64_t count;
} lode_keys_t;

/* What describes an array of rows. */
#define KEYS(array)                                                                                \
    { .rows = (array), .count = sizeof(array) / sizeof *(array) }

/* In the order of the table. */
extern const lode_keys_t lode_keys_general, lode_keys_calibration, lode_keys_classify,
    lode_keys_superweight, lode_keys_prune, lode_keys_quantize, lode_keys_evaluate, lode_keys_probe,
    lode_keys_train, lode_keys_folders, lode_keys_sweep;

#endif
