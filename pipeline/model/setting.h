/* model/setting: one setting of a config.json: found, checked, and complained about by file and
 * key. `name` stands for the file in messages; null counts as absent unless a function says
 * otherwise. Everything here is Local.
 */
#ifndef LODE_MODEL_SETTING_H
#define LODE_MODEL_SETTING_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* The value of a key, borrowed; NULL where it is absent or null. */
json_t *lode_setting_get(json_t *object, const char *key);

/* Whether a key is there and null. */
bool lode_setting_is_null(json_t *object, const char *key);

/* Fails with LODE_ERR_FORMAT: "key" is `value`, must be `wanted`. */
lode_status_t lode_setting_wrong(json_t *value, const char *key, const char *wanted,
                                 const char *name);

/* Fails with LODE_ERR_UNSUPPORTED: "key" is `value`, which is not implemented; `remedy`. */
lode_status_t lode_setting_refuse(json_t *value, const char *key, const char *remedy,
                                  const char *name);

/* A whole number in [1, maximum]; `preset` where the key is absent, required where that is 0. */
LODE_MUST_USE lode_status_t lode_setting_size(int64_t *out, json_t *object, const char *key,
                                              int64_t maximum, int64_t preset, const char *name);

/* A positive finite number; *out stays as it is where the key is absent. */
LODE_MUST_USE lode_status_t lode_setting_real(double *out, json_t *object, const char *key,
                                              const char *name);

/* true or false; *out stays as it is where the key is absent. */
LODE_MUST_USE lode_status_t lode_setting_bool(bool *out, json_t *object, const char *key,
                                              const char *name);

#endif
