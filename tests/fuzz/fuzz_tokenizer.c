/* Fuzz entry for the tokenizer: a tokenizer.json, a NUL byte, and a text for it. Whatever they are,
 * parsing and encoding end with a status, an encoded text has ids of the vocabulary only, and the
 * ids of two parts that join are those of the whole. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Cuts the text in the middle; ids [count] are those of the whole, with special tokens or not. */
static void check_parts(const lode_tokenizer_t *tokenizer, const char *text, size_t length,
                        bool special, const int32_t *ids, int64_t count) {
    size_t cut, visible;
    bool found, joined;
    const int32_t *part_ids;
    int64_t first_count, second_count;
    lode_encoder_t *encoder;
    if (lode_tokenizer_find_cut(tokenizer, &found, text, length, length / 2, &cut, &visible) !=
            LODE_OK ||
        !found)
        return;
    if (cut == 0 || cut >= length || visible <= cut || visible > length)
        abort();
    const lode_text_part_t first = {text, cut, visible, true, visible == length};
    const lode_text_part_t second = {text + cut, length - cut, length - cut, false, true};
    if (lode_encoder_create(&encoder, tokenizer, length) != LODE_OK)
        return;
    if (lode_encoder_encode(encoder, &first, special, &part_ids, &first_count, &joined) ==
            LODE_OK &&
        joined) {
        if (first_count > count ||
            (first_count && memcmp(ids, part_ids, (size_t)first_count * sizeof *ids) != 0))
            abort();
        if (lode_encoder_encode(encoder, &second, special, &part_ids, &second_count, &joined) !=
                LODE_OK ||
            !joined || first_count + second_count != count ||
            (second_count &&
             memcmp(ids + first_count, part_ids, (size_t)second_count * sizeof *ids) != 0))
            abort();
    }
    lode_encoder_destroy(&encoder);
}

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
    if (status == LODE_OK)
        check_parts(tokenizer, text, length, length % 2 == 0, ids, count);
    free(ids);
    lode_tokenizer_destroy(&tokenizer);
    return 0;
}
