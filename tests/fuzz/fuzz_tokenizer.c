/* Fuzz entry for the tokenizer: a tokenizer.json, a NUL byte, and a text for it. Whatever they are,
 * parsing and encoding end with a status, and an encoded text has ids of the vocabulary only. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *json = (const char *)data, *text = "";
    const char *nul = memchr(data, '\0', size);
    size_t json_size = size, length = 0;
    if (nul) {
        json_size = (size_t)(nul - json);
        text = nul + 1;
        length = size - json_size - 1;
    }
    lode_tokenizer_t *tokenizer;
    if (lode_tokenizer_parse(&tokenizer, json, json_size, "fuzz") != LODE_OK)
        return 0;
    int32_t *ids;
    int64_t count;
    lode_status_t status =
        lode_tokenizer_encode(tokenizer, text, length, length % 2 == 0, &ids, &count);
    if (status != LODE_OK && (ids || count))
        abort();
    for (int64_t i = 0; i < count; i++) {
        const char *token;
        if (lode_tokenizer_token(tokenizer, ids[i], &token) != LODE_OK)
            abort();
    }
    free(ids);
    lode_tokenizer_destroy(&tokenizer);
    return 0;
}
