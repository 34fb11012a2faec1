#include "text/field.h"

static const char *type_name(json_type type) {
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

lode_status_t lode_field_expect(const json_t *value, json_type type, const char *what,
                                const char *where) {
    if (value && json_typeof(value) == type)
        return LODE_OK;
    return lode_fail(LODE_ERR_FORMAT, "%s: %s must be %s, not %s", where, what, type_name(type),
                     value ? type_name(json_typeof(value)) : "missing");
}

lode_status_t lode_field_get(json_t **out, const json_t *object, const char *key, json_type type,
                             const char *where) {
    *out = json_object_get(object, key);
    if (!*out)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" is missing", where, key);
    if (json_typeof(*out) != type)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" must be %s, not %s", where, key,
                         type_name(type), type_name(json_typeof(*out)));
    return LODE_OK;
}

lode_status_t lode_field_find(json_t **out, const json_t *object, const char *key, json_type type,
                              const char *where) {
    *out = json_object_get(object, key);
    if (!*out || json_is_null(*out)) {
        *out = NULL;
        return LODE_OK;
    }
    return lode_field_get(out, object, key, type, where);
}

lode_status_t lode_field_string(const char **out, size_t *length, const json_t *object,
                                const char *key, const char *where) {
    json_t *value;
    LODE_TRY(lode_field_get(&value, object, key, JSON_STRING, where));
    *out = json_string_value(value);
    if (length)
        *length = json_string_length(value);
    return LODE_OK;
}

lode_status_t lode_field_bool(bool *out, const json_t *object, const char *key, bool fallback,
                              const char *where) {
    const json_t *value = json_object_get(object, key);
    *out = fallback;
    if (!value || json_is_null(value))
        return LODE_OK;
    if (!json_is_boolean(value))
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" must be true or false, not %s", where, key,
                         type_name(json_typeof(value)));
    *out = json_is_true(value);
    return LODE_OK;
}

lode_status_t lode_field_id(int32_t *out, const json_t *value, const char *token,
                            const char *where) {
    *out = -1;
    if (!json_is_integer(value))
        return lode_fail(LODE_ERR_FORMAT, "%s: the id of \"%.100s\" is not an integer", where,
                         token);
    json_int_t id = json_integer_value(value);
    if (id < 0 || id >= LODE_TOKEN_ID_LIMIT)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: the id of \"%.100s\" is %lld; ids lie within 0 and %d", where, token,
                         (long long)id, LODE_TOKEN_ID_LIMIT - 1);
    *out = (int32_t)id;
    return LODE_OK;
}
