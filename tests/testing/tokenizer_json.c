#include "testing/tokenizer_json.h"

#include <string.h>

json_t *lode_test_tokenizer(const json_t *vectors, const char *base, json_t *members,
                            json_t *model) {
    json_t *made = json_deep_copy(json_object_get(json_object_get(vectors, "bases"), base));
    json_t *own = json_object_get(made, "model");
    const char *key;
    json_t *value;
    int wrong = made ? json_object_update(made, members ? members : made) : -1;
    json_object_foreach(model, key, value) {
        if (strcmp(key, "vocab") != 0) {
            wrong |= json_object_set(own, key, value);
            continue;
        }
        const char *token;
        json_t *null;
        json_object_foreach(value, token, null) {
            wrong |= json_object_del(json_object_get(own, "vocab"), token);
        }
    }
    if (wrong) {
        json_decref(made);
        return NULL;
    }
    return made;
}
