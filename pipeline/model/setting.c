#include "model/setting.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_t *lode_setting_get(json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

bool lode_setting_is_null(json_t *object, const char *key) {
    return json_is_null(json_object_get(object, key));
}

/* A value as one short line for a message. */
static void quote(char text[64], json_t *value) {
    char *dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    bool whole = dump && strlen(dump) < 64;
    snprintf(text, 64, whole ? "%s" : "%.60s…", dump ? dump : "");
    free(dump);
}

lode_status_t lode_setting_wrong(json_t *value, const char *key, const char *wanted,
                                 const char *name) {
    char text[64];
    quote(text, value);
    return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" is %s, must be %s", name, key, text, wanted);
}

lode_status_t lode_setting_refuse(json_t *value, const char *key, const char *remedy,
                                  const char *name) {
    char text[64];
    quote(text, value);
    return lode_fail(LODE_ERR_UNSUPPORTED,
                     "%s: \"%s\" is %s, which this version does not implement; %s", name, key, text,
                     remedy);
}

lode_status_t lode_setting_size(int64_t *out, json_t *object, const char *key, int64_t maximum,
                                int64_t preset, const char *name) {
    json_t *value = lode_setting_get(object, key);
    *out = preset;
    if (!value && preset == 0)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" is missing", name, key);
    if (!value)
        return LODE_OK;
    *out = json_is_integer(value) ? json_integer_value(value) : 0;
    if (*out < 1 || *out > maximum) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "a whole number from 1 to %" PRId64, maximum);
        return lode_setting_wrong(value, key, wanted, name);
    }
    return LODE_OK;
}

lode_status_t lode_setting_real(double *out, json_t *object, const char *key, const char *name) {
    json_t *value = lode_setting_get(object, key);
    if (!value)
        return LODE_OK;
    *out = json_number_value(value); /* 0 for what is no number */
    if (!isfinite(*out) || *out <= 0)
        return lode_setting_wrong(value, key, "a number above 0", name);
    return LODE_OK;
}

lode_status_t lode_setting_bool(bool *out, json_t *object, const char *key, const char *name) {
    json_t *value = lode_setting_get(object, key);
    if (!value)
        return LODE_OK;
    if (!json_is_boolean(value))
        return lode_setting_wrong(value, key, "true or false", name);
    *out = json_is_true(value);
    return LODE_OK;
}
