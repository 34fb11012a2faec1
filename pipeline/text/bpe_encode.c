#include "text/bpe_encode.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/memory.h"
#include "text/bpe_merge.h"
#include "text/bpe_model.h"
#include "text/utf8.h"

enum {
    CACHE_BYTES = 26,   /* longest word that is remembered … */
    CACHE_IDS = 8,      /* … and most ids of one */
    CACHE_LEAST = 1024, /* text below which nothing repeats enough to be remembered */
    CACHE_SLOTS = 1 << 15
};

/* A word and its ids: one line of the processor's cache. */
typedef struct cache_slot {
    uint32_t tag;          /* of its hash */
    uint8_t length, count; /* bytes and ids; length 0 is a free slot */
    char bytes[CACHE_BYTES];
    int32_t ids[CACHE_IDS];
} cache_slot_t;
_Static_assert(sizeof(cache_slot_t) == 64, "a slot of the word cache is a cache line");

struct lode_bpe_encoder {
    const lode_bpe_t *bpe;
    int32_t *ids; /* [capacity] */
    int64_t count, capacity;
    cache_slot_t *cache; /* [cache_mask + 1], NULL for short texts */
    uint64_t cache_mask;
    lode_bpe_piece_t piece;
    lode_buffer_t spelt; /* a piece in the byte alphabet */
};

/* --- the encoder ---------------------------------------------------------------------------- */

lode_status_t lode_bpe_encoder_create(lode_bpe_encoder_t **encoder, const lode_bpe_t *bpe,
                                      size_t expected) {
    *encoder = NULL;
    lode_bpe_encoder_t *made = NULL;
    LODE_TRY(LODE_NEW(&made, 1, "encoder"));
    made->bpe = bpe;
    lode_status_t status = LODE_OK;
    if (expected >= CACHE_LEAST) {
        uint64_t slots = 64;
        while (slots < CACHE_SLOTS && slots < expected / 32)
            slots *= 2;
        made->cache_mask = slots - 1;
        status = LODE_NEW(&made->cache, (int64_t)slots, "word cache");
    }
    if (status != LODE_OK)
        lode_bpe_encoder_destroy(&made);
    *encoder = made;
    return status;
}

void lode_bpe_encoder_destroy(lode_bpe_encoder_t **encoder) {
    if (!*encoder)
        return;
    lode_bpe_piece_free(&(*encoder)->piece);
    lode_buffer_free(&(*encoder)->spelt);
    free((*encoder)->cache);
    free((*encoder)->ids);
    free(*encoder);
    *encoder = NULL;
}

static lode_status_t reserve_ids(lode_bpe_encoder_t *encoder, int64_t extra) {
    int64_t needed = encoder->count + extra;
    if (needed <= encoder->capacity)
        return LODE_OK;
    int64_t capacity = needed < 64 ? 64 : needed + needed / 2;
    int32_t *ids = NULL;
    LODE_TRY(LODE_NEW_RAW(&ids, capacity, "token ids"));
    if (encoder->count)
        memcpy(ids, encoder->ids, (size_t)encoder->count * sizeof *ids);
    free(encoder->ids);
    encoder->ids = ids;
    encoder->capacity = capacity;
    return LODE_OK;
}

lode_status_t lode_bpe_append(lode_bpe_encoder_t *encoder, int32_t id) {
    LODE_TRY(reserve_ids(encoder, 1));
    encoder->ids[encoder->count++] = id;
    return LODE_OK;
}

const int32_t *lode_bpe_ids(const lode_bpe_encoder_t *encoder, int64_t *count) {
    *count = encoder->count;
    return encoder->ids;
}

void lode_bpe_clear(lode_bpe_encoder_t *encoder) {
    encoder->count = 0;
}

/* --- symbols -------------------------------------------------------------------------------- */

/* Symbols of the piece so far, and whether an unknown token is due. It is held back because further
 * unknown characters may fuse with it, and, like in the reference, byte tokens overtake it. */
typedef struct spelling {
    int32_t *symbol;
    int64_t count;
    bool unknown_due;
} spelling_t;

static void settle_unknown(const lode_bpe_t *bpe, spelling_t *spelling) {
    if (spelling->unknown_due)
        spelling->symbol[spelling->count++] = bpe->unknown;
    spelling->unknown_due = false;
}

/* The id of the character at text[0], −1 where the vocabulary has none. */
static int32_t find_character(const lode_bpe_t *bpe, const char *text, int length) {
    if (length == 1)
        return bpe->direct[(unsigned char)text[0]];
    if (length == 2)
        return bpe->direct[((unsigned char)text[0] & 0x1F) << 6 | ((unsigned char)text[1] & 0x3F)];
    return lode_vocab_find(bpe->vocab, text, (size_t)length);
}

static lode_status_t spell_unknown(const lode_bpe_t *bpe, spelling_t *spelling, const char *text,
                                   int length) {
    bool covered = bpe->byte_fallback;
    for (int i = 0; covered && i < length; i++)
        covered = bpe->fallback[(unsigned char)text[i]] >= 0;
    if (covered) {
        for (int i = 0; i < length; i++)
            spelling->symbol[spelling->count++] = bpe->fallback[(unsigned char)text[i]];
        return LODE_OK;
    }
    if (!bpe->has_unknown)
        return LODE_OK;
    if (bpe->unknown < 0)
        return lode_fail(LODE_ERR_FORMAT,
                         "the text has \"%.*s\", which the tokenizer does not know, and its "
                         "\"unk_token\" is not in its vocabulary; fetch the model's own tokenizer",
                         length, text);
    if (!bpe->fuse_unknown)
        settle_unknown(bpe, spelling);
    spelling->unknown_due = true;
    return LODE_OK;
}

/* The piece as symbols: at most one a byte, and byte tokens for the two bytes of a byte symbol. */
static lode_status_t spell(lode_bpe_encoder_t *encoder, int64_t *count, const char *piece,
                           size_t length) {
    const lode_bpe_t *bpe = encoder->bpe;
    spelling_t spelling = {.symbol = encoder->piece.symbol};
    for (size_t i = 0; i < length;) {
        const char *text = piece + i;
        int bytes, used;
        int32_t id;
        if (bpe->byte_level) {
            const lode_bpe_byte_t *symbol = &bpe->symbols[(unsigned char)piece[i]];
            text = symbol->text;
            bytes = symbol->length;
            id = symbol->id;
            used = 1;
        } else {
            used = bytes = (int)lode_utf8_length(piece[i]);
            id = find_character(bpe, text, bytes);
        }
        if (id >= 0) {
            settle_unknown(bpe, &spelling);
            spelling.symbol[spelling.count++] = id;
        } else {
            LODE_TRY(spell_unknown(bpe, &spelling, text, bytes));
        }
        i += (size_t)used;
    }
    settle_unknown(bpe, &spelling);
    *count = spelling.count;
    return LODE_OK;
}

/* --- pieces --------------------------------------------------------------------------------- */

/* The id of a whole piece that is a token itself, −1 if it is none. */
static lode_status_t find_whole(lode_bpe_encoder_t *encoder, int32_t *id, const char *piece,
                                size_t length) {
    const lode_bpe_t *bpe = encoder->bpe;
    size_t longest = lode_vocab_longest(bpe->vocab);
    *id = -1;
    if (length > longest)
        return LODE_OK;
    if (!bpe->byte_level) {
        *id = lode_vocab_find(bpe->vocab, piece, length);
        return LODE_OK;
    }
    lode_buffer_t *spelt = &encoder->spelt;
    spelt->length = 0;
    for (size_t i = 0; i < length; i++) {
        const lode_bpe_byte_t *symbol = &bpe->symbols[(unsigned char)piece[i]];
        LODE_TRY(lode_buffer_append(spelt, symbol->text, (size_t)symbol->length));
    }
    if (spelt->length <= longest)
        *id = lode_vocab_find(bpe->vocab, spelt->data, spelt->length);
    return LODE_OK;
}

static lode_status_t encode_afresh(lode_bpe_encoder_t *encoder, const char *piece, size_t length) {
    const lode_bpe_t *bpe = encoder->bpe;
    if (length >= INT32_MAX / 2)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "a piece of text of %zu bytes without a place to cut it is too long to "
                         "tokenise",
                         length);
    int32_t whole = -1;
    if (bpe->ignore_merges)
        LODE_TRY(find_whole(encoder, &whole, piece, length));
    if (whole >= 0)
        return lode_bpe_append(encoder, whole);
    int64_t count;
    LODE_TRY(lode_bpe_piece_reserve(
        &encoder->piece, (int64_t)length * (bpe->byte_level && bpe->byte_fallback ? 2 : 1)));
    LODE_TRY(spell(encoder, &count, piece, length));
    count = lode_bpe_piece_merge(&encoder->piece, &bpe->merges, count);
    LODE_TRY(reserve_ids(encoder, count));
    if (count > 0) /* unknown characters may leave nothing, and then no array either */
        memcpy(encoder->ids + encoder->count, encoder->piece.symbol,
               (size_t)count * sizeof *encoder->ids);
    encoder->count += count;
    return LODE_OK;
}

static bool equal_bytes(const char *a, const char *b, size_t length) {
    uint64_t x, y;
    if (length >= sizeof x) { /* the last eight may overlap those before */
        for (size_t i = 0; i + sizeof x < length; i += sizeof x) {
            memcpy(&x, a + i, sizeof x);
            memcpy(&y, b + i, sizeof y);
            if (x != y)
                return false;
        }
        memcpy(&x, a + length - sizeof x, sizeof x);
        memcpy(&y, b + length - sizeof y, sizeof y);
        return x == y;
    }
    for (size_t i = 0; i < length; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

static lode_status_t encode_word(lode_bpe_encoder_t *encoder, const char *word, size_t length) {
    if (!encoder->cache || length > CACHE_BYTES)
        return encode_afresh(encoder, word, length);
    const uint64_t hash = XXH3_64bits(word, length);
    const uint32_t tag = (uint32_t)(hash >> 32);
    cache_slot_t *slot = &encoder->cache[hash & encoder->cache_mask];
    if (slot->tag == tag && slot->length == length && equal_bytes(slot->bytes, word, length)) {
        LODE_TRY(reserve_ids(encoder, CACHE_IDS));
        memcpy(encoder->ids + encoder->count, slot->ids, sizeof slot->ids);
        encoder->count += slot->count;
        return LODE_OK;
    }
    const int64_t before = encoder->count;
    LODE_TRY(encode_afresh(encoder, word, length));
    const int64_t count = encoder->count - before;
    if (count > CACHE_IDS)
        return LODE_OK;
    slot->tag = tag;
    slot->length = (uint8_t)length;
    slot->count = (uint8_t)count;
    memcpy(slot->bytes, word, length);
    if (count > 0)
        memcpy(slot->ids, encoder->ids + before, (size_t)count * sizeof *slot->ids);
    return LODE_OK;
}

/* Where the word that starts at text[0] ends: before the first mark behind something else. */
static size_t word_end(const char *text, size_t length) {
    size_t i = 0;
    while (length - i >= LODE_BPE_MARK_BYTES &&
           memcmp(text + i, LODE_BPE_MARK, LODE_BPE_MARK_BYTES) == 0)
        i += LODE_BPE_MARK_BYTES;
    for (; i < length; i++) {
        const char *found = memchr(text + i, LODE_BPE_MARK[0], length - i);
        if (!found)
            return length;
        i = (size_t)(found - text);
        if (length - i >= LODE_BPE_MARK_BYTES &&
            memcmp(found, LODE_BPE_MARK, LODE_BPE_MARK_BYTES) == 0)
            return i;
    }
    return length;
}

const lode_bpe_t *lode_bpe_of(const lode_bpe_encoder_t *encoder) {
    return encoder->bpe;
}

lode_status_t lode_bpe_encode(lode_bpe_encoder_t *encoder, const char *text, size_t start,
                              size_t length) {
    if (length == 0)
        return LODE_OK;
    if (!encoder->bpe->cut_at_mark)
        return encode_word(encoder, text + start, length);
    while (length > 0) {
        size_t word = word_end(text + start, length);
        LODE_TRY(encode_word(encoder, text + start, word));
        start += word;
        length -= word;
    }
    return LODE_OK;
}
