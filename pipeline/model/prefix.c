#include "model/prefix.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/json_text.h"

lode_status_t lode_prefix_file(char **path, const char *folder) {
    LODE_TRY(lode_path_join(path, folder, "tokenizer_config.json"));
    if (!lode_file_exists(*path)) {
        free(*path);
        *path = NULL;
    }
    return LODE_OK;
}

/* The text of a token, given as a string or as an object with "content"; NULL where it is neither.
 */
static const char *token_text(const json_t *config, const char *key) {
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value))
        value = json_object_get(value, "content");
    return json_is_string(value) && *json_string_value(value) ? json_string_value(value) : NULL;
}

/* The one token that a text is. */
static lode_status_t token_id(int32_t *id, const lode_tokenizer_t *tokenizer, const char *text,
                              const char *key, const char *path) {
    int32_t *ids;
    int64_t count;
    LODE_TRY(lode_tokenizer_encode(tokenizer, text, strlen(text), false, &ids, &count));
    const bool one = count == 1;
    if (one)
        *id = ids[0];
    free(ids);
    if (one)
        return LODE_OK;
    return lode_fail(LODE_ERR_FORMAT,
                     "%s: \"%s\" is \"%.100s\", which is no token of the tokenizer.json beside it; "
                     "the two belong to different models",
                     path, key, text);
}

/* *id stays as it is where the file names neither token. */
static lode_status_t read_file(int32_t *id, const char *path, const lode_tokenizer_t *tokenizer) {
    char *bytes;
    size_t size;
    json_t *config;
    LODE_TRY(lode_file_read(&bytes, &size, path));
    lode_status_t status = lode_json_text_object(&config, bytes, size, path);
    free(bytes);
    LODE_TRY(status);
    const char *key = token_text(config, "bos_token") ? "bos_token" : "eos_token";
    const char *text = token_text(config, key);
    if (text)
        status = token_id(id, tokenizer, text, key, path);
    json_decref(config);
    return status;
}

lode_status_t lode_prefix_token(int32_t *id, const char *folder, const lode_tokenizer_t *tokenizer,
                                const lode_architecture_t *architecture) {
    char *path;
    *id = -1;
    LODE_TRY(lode_prefix_file(&path, folder));
    if (path) {
        const lode_status_t status = read_file(id, path, tokenizer);
        free(path);
        LODE_TRY(status);
    }
    if (*id < 0 && !lode_tokenizer_bos(tokenizer, id))
        *id = architecture->bos >= 0 ? architecture->bos : architecture->eos;
    return LODE_OK;
}
