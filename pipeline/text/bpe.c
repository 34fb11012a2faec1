#include "text/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/bpe_model.h"
#include "text/field.h"
#include "text/utf8.h"

/* --- merges --------------------------------------------------------------------------------- */

/* Splits an entry of "merges", either "a b" or ["a", "b"], into its two tokens. */
static lode_status_t split_merge(const json_t *entry, int64_t rank, const char *parts[2],
                                 size_t lengths[2], const char *where) {
    if (json_is_string(entry)) {
        parts[0] = json_string_value(entry);
        const char *end = parts[0] + json_string_length(entry);
        const char *space = memchr(parts[0], ' ', json_string_length(entry));
        if (space && !memchr(space + 1, ' ', (size_t)(end - space - 1))) {
            parts[1] = space + 1;
            lengths[0] = (size_t)(space - parts[0]);
            lengths[1] = (size_t)(end - parts[1]);
            return LODE_OK;
        }
    } else if (json_array_size(entry) == 2 && json_is_string(json_array_get(entry, 0)) &&
               json_is_string(json_array_get(entry, 1))) {
        for (size_t side = 0; side < 2; side++) {
            parts[side] = json_string_value(json_array_get(entry, side));
            lengths[side] = json_string_length(json_array_get(entry, side));
        }
        return LODE_OK;
    }
    return lode_fail(LODE_ERR_FORMAT,
                     "%s: merge %lld is neither two tokens with a space between nor an array of "
                     "two tokens",
                     where, (long long)rank);
}

static lode_status_t find_merge_token(const lode_bpe_t *bpe, int32_t *id, const char *text,
                                      size_t length, int64_t rank, const char *where) {
    *id = lode_vocab_find(bpe->vocab, text, length);
    if (*id >= 0)
        return LODE_OK;
    return lode_fail(LODE_ERR_FORMAT,
                     "%s: merge %lld needs the token \"%.*s\", which is not in "
                     "the vocabulary",
                     where, (long long)rank, length > 100 ? 100 : (int)length, text);
}

bool lode_bpe_ends_with_mark(const char *text, size_t length) {
    return length >= LODE_BPE_MARK_BYTES &&
           memcmp(text + length - LODE_BPE_MARK_BYTES, LODE_BPE_MARK, LODE_BPE_MARK_BYTES) == 0;
}

static lode_status_t add_merge(lode_bpe_t *bpe, const json_t *entry, int64_t rank,
                               lode_buffer_t *joined, const char *where) {
    const char *parts[2];
    size_t lengths[2];
    int32_t ids[2], into;
    LODE_TRY(split_merge(entry, rank, parts, lengths, where));
    joined->length = 0;
    for (int side = 0; side < 2; side++) {
        LODE_TRY(find_merge_token(bpe, &ids[side], parts[side], lengths[side], rank, where));
        LODE_TRY(lode_buffer_append(joined, parts[side], lengths[side]));
    }
    LODE_TRY(find_merge_token(bpe, &into, joined->data, joined->length, rank, where));
    if (lengths[1] >= LODE_BPE_MARK_BYTES &&
        memcmp(parts[1], LODE_BPE_MARK, LODE_BPE_MARK_BYTES) == 0 &&
        !lode_bpe_ends_with_mark(parts[0], lengths[0]))
        bpe->cut_at_mark = false;
    /* Of a pair that is there again the last merge counts. */
    return lode_bpe_merge_add(&bpe->merges, ids[0], ids[1], (int32_t)rank, into);
}

static lode_status_t parse_merges(lode_bpe_t *bpe, const json_t *merges, const char *where) {
    size_t count = json_array_size(merges);
    if (count > LODE_TOKEN_ID_LIMIT)
        return lode_fail(LODE_ERR_FORMAT, "%s: more than %d merges", where, LODE_TOKEN_ID_LIMIT);
    LODE_TRY(lode_lookup_reserve(&bpe->merges, (int64_t)count, "merges"));
    lode_buffer_t joined = {0};
    lode_status_t status = LODE_OK;
    for (size_t rank = 0; status == LODE_OK && rank < count; rank++)
        status = add_merge(bpe, json_array_get(merges, rank), (int64_t)rank, &joined, where);
    lode_buffer_free(&joined);
    return status;
}

/* --- the model ------------------------------------------------------------------------------ */

/* Refuses what would change the ids and is not implemented. */
static lode_status_t check_options(const json_t *model, const char *where) {
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type && strcmp(type, "BPE") != 0)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "%s: type \"%.100s\" is not implemented; only models with a BPE tokenizer "
                         "can be run",
                         where, type);
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout && !json_is_null(dropout) &&
        !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "%s: \"dropout\" makes ids random; set it to null in the file", where);
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        json_t *affix;
        LODE_TRY(lode_field_find(&affix, model, affixes[i], JSON_STRING, where));
        if (affix && json_string_length(affix) > 0)
            return lode_fail(LODE_ERR_UNSUPPORTED, "%s: \"%s\" is not implemented", where,
                             affixes[i]);
    }
    return LODE_OK;
}

static lode_status_t parse_unknown(lode_bpe_t *bpe, const json_t *model, const char *where) {
    json_t *token;
    LODE_TRY(lode_field_find(&token, model, "unk_token", JSON_STRING, where));
    bpe->has_unknown = token != NULL;
    bpe->unknown = -1;
    if (token) {
        const char *text = json_string_value(token);
        size_t length = json_string_length(token);
        bpe->unknown = lode_vocab_find(bpe->vocab, text, length);
        /* An unknown token that reads as if it ended in a space could merge across a cut. */
        bpe->cut_at_mark &= !lode_bpe_ends_with_mark(text, length);
    }
    return LODE_OK;
}

/* The byte alphabet: printable Latin-1 stands for itself, the others are counted up from U+0100. */
static void make_symbols(lode_bpe_t *bpe) {
    uint32_t next = 0x100;
    for (int byte = 0; byte < 256; byte++) {
        bool printable =
            (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        lode_bpe_byte_t *symbol = &bpe->symbols[byte];
        char text[4];
        symbol->length = lode_utf8_encode(printable ? (uint32_t)byte : next++, text);
        memcpy(symbol->text, text, sizeof symbol->text);
        symbol->id = lode_vocab_find(bpe->vocab, symbol->text, (size_t)symbol->length);
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        bpe->fallback[byte] = lode_vocab_find(bpe->vocab, name, strlen(name));
    }
}

static void find_characters(lode_bpe_t *bpe) {
    for (uint32_t c = 0; c < LODE_BPE_DIRECT; c++) {
        char text[4];
        bpe->direct[c] = lode_vocab_find(bpe->vocab, text, (size_t)lode_utf8_encode(c, text));
    }
}

static lode_status_t parse_model(lode_bpe_t *bpe, const json_t *model, const char *where) {
    json_t *vocab, *merges;
    LODE_TRY(lode_field_expect(model, JSON_OBJECT, "the model", where));
    LODE_TRY(check_options(model, where));
    LODE_TRY(lode_field_bool(&bpe->fuse_unknown, model, "fuse_unk", false, where));
    LODE_TRY(lode_field_bool(&bpe->byte_fallback, model, "byte_fallback", false, where));
    LODE_TRY(lode_field_bool(&bpe->ignore_merges, model, "ignore_merges", false, where));
    LODE_TRY(lode_field_get(&vocab, model, "vocab", JSON_OBJECT, where));
    LODE_TRY(lode_field_get(&merges, model, "merges", JSON_ARRAY, where));
    LODE_TRY(lode_vocab_parse(&bpe->vocab, vocab, where));
    make_symbols(bpe);
    find_characters(bpe);
    bpe->cut_at_mark = !bpe->byte_level && !bpe->ignore_merges &&
                       lode_vocab_find(bpe->vocab, LODE_BPE_MARK, LODE_BPE_MARK_BYTES) >= 0;
    LODE_TRY(parse_unknown(bpe, model, where));
    return parse_merges(bpe, merges, where);
}

lode_status_t lode_bpe_parse(lode_bpe_t **out, const json_t *model, bool byte_level,
                             const char *name) {
    *out = NULL;
    char where[512];
    snprintf(where, sizeof where, "%.490s: model", name);
    lode_bpe_t *bpe = NULL;
    LODE_TRY(LODE_NEW(&bpe, 1, "tokenizer"));
    bpe->byte_level = byte_level;
    lode_status_t status = parse_model(bpe, model, where);
    if (status != LODE_OK)
        lode_bpe_destroy(&bpe);
    *out = bpe;
    return status;
}

void lode_bpe_destroy(lode_bpe_t **bpe) {
    if (!*bpe)
        return;
    lode_vocab_destroy(&(*bpe)->vocab);
    lode_lookup_free(&(*bpe)->merges);
    free(*bpe);
    *bpe = NULL;
}

int32_t lode_bpe_find(const lode_bpe_t *bpe, const char *token, size_t length) {
    return lode_vocab_find(bpe->vocab, token, length);
}

const char *lode_bpe_token(const lode_bpe_t *bpe, int32_t id) {
    return lode_vocab_token(bpe->vocab, id, NULL);
}

int32_t lode_bpe_size(const lode_bpe_t *bpe) {
    return lode_vocab_size(bpe->vocab);
}

int32_t lode_bpe_count(const lode_bpe_t *bpe) {
    return lode_vocab_count(bpe->vocab);
}

bool lode_bpe_divides(const lode_bpe_t *bpe, const char *text, size_t start, size_t length,
                      size_t at) {
    const char *place = text + start + at;
    return bpe->cut_at_mark && at > 0 && length - at >= LODE_BPE_MARK_BYTES &&
           memcmp(place, LODE_BPE_MARK, LODE_BPE_MARK_BYTES) == 0 &&
           !lode_bpe_ends_with_mark(text + start, at);
}
