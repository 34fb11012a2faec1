#include "tokenize/prefix.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/json_text.h"

/* The id of a token; one pass over all of them, since it is asked once. */
static lode_status_t find_token(int32_t *id, const lode_tokenizer_t *tokenizer, const char *wanted,
                                const char *key, const char *path) {
    const int32_t tokens = lode_tokenizer_vocab_size(tokenizer);
    for (*id = 0; *id < tokens; (*id)++) {
        const char *text;
        /* ids without a token are no failure here */
        if (lode_tokenizer_token(tokenizer, *id, &text) == LODE_OK && strcmp(text, wanted) == 0)
            return LODE_OK;
    }
    return lode_fail(LODE_ERR_FORMAT,
                     "%s: %s is no token of the tokenizer.json beside it; fetch both files of the "
                     "same model",
                     path, key);
}

/* Reads one token of tokenizer_config.json over *id, which stays as it is where the key is
 * missing. */
static lode_status_t read_token(int32_t *id, const json_t *root, const char *key,
                                const lode_tokenizer_t *tokenizer, const char *path) {
    const json_t *value = json_object_get(root, key);
    if (!value)
        return LODE_OK;
    *id = -1;
    if (json_is_null(value))
        return LODE_OK;
    if (json_is_object(value))
        value = json_object_get(value, "content");
    if (!json_is_string(value))
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: %s is neither a token, an object with its content, "
                         "nor null; fetch the model's file again",
                         path, key);
    return find_token(id, tokenizer, json_string_value(value), key, path);
}

static lode_status_t read_settings(int32_t *bos, int32_t *eos, const char *path,
                                   const lode_tokenizer_t *tokenizer) {
    char *text;
    size_t size;
    json_t *root = NULL;
    LODE_TRY(lode_file_read(&text, &size, path));
    lode_status_t status = lode_json_text_object(&root, text, size, path);
    if (status == LODE_OK)
        status = read_token(bos, root, "bos_token", tokenizer, path);
    if (status == LODE_OK)
        status = read_token(eos, root, "eos_token", tokenizer, path);
    json_decref(root);
    free(text);
    return status;
}

lode_status_t lode_tokenize_prefix(int32_t *prefix, const lode_run_t *run,
                                   const lode_tokenizer_t *tokenizer) {
    const char *folder = lode_checkpoint_folder(run->checkpoint);
    int32_t bos = run->architecture.bos, eos = run->architecture.eos;
    char *path;
    LODE_TRY(lode_path_join(&path, folder, "tokenizer_config.json"));
    lode_status_t status = LODE_OK;
    if (lode_file_exists(path))
        status = read_settings(&bos, &eos, path, tokenizer);
    free(path);
    LODE_TRY(status);
    *prefix = bos >= 0 ? bos : eos;
    if (*prefix < 0)
        return lode_fail(LODE_ERR_INPUT,
                         "%s: neither tokenizer_config.json nor config.json names a BOS or EOS "
                         "token, and a text's first token is predicted from one; give config.json "
                         "a bos_token_id",
                         folder);
    return LODE_OK;
}
