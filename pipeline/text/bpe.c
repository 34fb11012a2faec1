#include "text/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/memory.h"
#include "text/field.h"
#include "text/utf8.h"
#include "text/vocab.h"

enum {
    NO_RANK = INT32_MAX, /* of a pair that no merge joins */
    SHORT_PIECE = 24,    /* symbols up to which scanning beats the heap */
    CACHE_BYTES = 26,    /* longest word that is remembered … */
    CACHE_IDS = 8,       /* … and most ids of one */
    CACHE_LEAST = 1024,  /* text below which nothing repeats enough to be remembered */
    CACHE_SLOTS = 1 << 15,
    DIRECT = 0x800 /* code points whose ids are looked up by themselves */
};

typedef struct pair_slot {
    uint64_t pair;      /* left id and right id, EMPTY_PAIR if the slot is free */
    int32_t rank, into; /* into: the id of the merged token */
} pair_slot_t;

static const uint64_t EMPTY_PAIR = UINT64_MAX; /* ids are below 2²² */

/* One of the 256 symbols of GPT-2's byte alphabet, in UTF-8. */
typedef struct byte_symbol {
    char text[2];
    int length;
    int32_t id; /* −1 if not in the vocabulary */
} byte_symbol_t;

struct lode_bpe {
    lode_vocab_t *vocab;
    pair_slot_t *pairs; /* [pair_mask + 1], open addressing */
    uint64_t pair_mask;
    bool byte_level, byte_fallback, fuse_unknown, ignore_merges;
    bool cut_at_mark;           /* no merge crosses from a non-space to "▁" */
    bool has_unknown;           /* an unknown token is named … */
    int32_t unknown;            /* … and its id, −1 if it is not in the vocabulary */
    int32_t fallback[256];      /* ids of <0x00> … <0xFF>, −1 if missing */
    byte_symbol_t symbols[256]; /* byte-level only */
    int32_t direct[DIRECT];     /* ids of characters, −1 if not in the vocabulary */
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
    /* One piece's symbols, [room] each; ranks and merged ids belong to the pair of a symbol and
     * the one that follows it. */
    int32_t *symbol, *rank, *into, *next, *previous;
    uint64_t *heap; /* [3 · room] rank and position */
    int64_t room;
    lode_buffer_t spelt; /* a piece in the byte alphabet */
};

static const char MARK[] = "\xE2\x96\x81"; /* ▁ */
enum { MARK_BYTES = 3 };

/* --- merges --------------------------------------------------------------------------------- */

static uint64_t make_pair(int32_t left, int32_t right) {
    return (uint64_t)left << 32 | (uint32_t)right;
}

static uint64_t pair_home(const lode_bpe_t *bpe, uint64_t pair) {
    uint64_t mixed = pair * UINT64_C(0x9E3779B97F4A7C15);
    return (mixed ^ mixed >> 32) & bpe->pair_mask;
}

/* The slot of a pair, or the free one where it belongs. */
static pair_slot_t *find_pair(const lode_bpe_t *bpe, uint64_t pair) {
    uint64_t at = pair_home(bpe, pair);
    while (bpe->pairs[at].pair != pair && bpe->pairs[at].pair != EMPTY_PAIR)
        at = (at + 1) & bpe->pair_mask;
    return &bpe->pairs[at];
}

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

static bool ends_with_mark(const char *text, size_t length) {
    return length >= MARK_BYTES && memcmp(text + length - MARK_BYTES, MARK, MARK_BYTES) == 0;
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
    if (lengths[1] >= MARK_BYTES && memcmp(parts[1], MARK, MARK_BYTES) == 0 &&
        !ends_with_mark(parts[0], lengths[0]))
        bpe->cut_at_mark = false;
    pair_slot_t *slot = find_pair(bpe, make_pair(ids[0], ids[1]));
    *slot = (pair_slot_t){make_pair(ids[0], ids[1]), (int32_t)rank, into}; /* the last one counts */
    return LODE_OK;
}

static lode_status_t parse_merges(lode_bpe_t *bpe, const json_t *merges, const char *where) {
    size_t count = json_array_size(merges);
    if (count > LODE_TOKEN_ID_LIMIT)
        return lode_fail(LODE_ERR_FORMAT, "%s: more than %d merges", where, LODE_TOKEN_ID_LIMIT);
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)count)
        slots *= 2;
    bpe->pair_mask = slots - 1;
    LODE_TRY(LODE_NEW_RAW(&bpe->pairs, (int64_t)slots, "merges"));
    for (uint64_t at = 0; at < slots; at++)
        bpe->pairs[at] = (pair_slot_t){EMPTY_PAIR, NO_RANK, -1};
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
        bpe->cut_at_mark &= !ends_with_mark(text, length);
    }
    return LODE_OK;
}

/* The byte alphabet: printable Latin-1 stands for itself, the others are counted up from U+0100. */
static void make_symbols(lode_bpe_t *bpe) {
    uint32_t next = 0x100;
    for (int byte = 0; byte < 256; byte++) {
        bool printable =
            (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        byte_symbol_t *symbol = &bpe->symbols[byte];
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
    for (uint32_t c = 0; c < DIRECT; c++) {
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
                       lode_vocab_find(bpe->vocab, MARK, MARK_BYTES) >= 0;
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
    free((*bpe)->pairs);
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

static void free_piece(lode_bpe_encoder_t *encoder) {
    free(encoder->symbol);
    free(encoder->rank);
    free(encoder->into);
    free(encoder->next);
    free(encoder->previous);
    free(encoder->heap);
    encoder->symbol = encoder->rank = encoder->into = encoder->next = encoder->previous = NULL;
    encoder->heap = NULL;
    encoder->room = 0;
}

void lode_bpe_encoder_destroy(lode_bpe_encoder_t **encoder) {
    if (!*encoder)
        return;
    free_piece(*encoder);
    lode_buffer_free(&(*encoder)->spelt);
    free((*encoder)->cache);
    free((*encoder)->ids);
    free(*encoder);
    *encoder = NULL;
}

/* Room for a piece of at most `symbols` symbols, each array with one to spare. */
static lode_status_t reserve_piece(lode_bpe_encoder_t *encoder, int64_t symbols) {
    if (symbols < encoder->room)
        return LODE_OK;
    free_piece(encoder);
    int64_t spare = symbols < 1 << 16 ? symbols + 128 : 1 << 16;
    int64_t room = symbols + spare;
    LODE_TRY(LODE_NEW_RAW(&encoder->symbol, room, "symbols"));
    LODE_TRY(LODE_NEW_RAW(&encoder->rank, room, "symbols"));
    LODE_TRY(LODE_NEW_RAW(&encoder->into, room, "symbols"));
    LODE_TRY(LODE_NEW_RAW(&encoder->next, room, "symbols"));
    LODE_TRY(LODE_NEW_RAW(&encoder->previous, room, "symbols"));
    LODE_TRY(LODE_NEW_RAW(&encoder->heap, 3 * room, "symbols"));
    encoder->room = room;
    return LODE_OK;
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
    spelling_t spelling = {.symbol = encoder->symbol};
    for (size_t i = 0; i < length;) {
        const char *text = piece + i;
        int bytes, used;
        int32_t id;
        if (bpe->byte_level) {
            const byte_symbol_t *symbol = &bpe->symbols[(unsigned char)piece[i]];
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

/* --- merging -------------------------------------------------------------------------------- */

static void rate(lode_bpe_encoder_t *encoder, int64_t left, int64_t right) {
    const pair_slot_t *slot =
        find_pair(encoder->bpe, make_pair(encoder->symbol[left], encoder->symbol[right]));
    encoder->rank[left] = slot->rank;
    encoder->into[left] = slot->into;
}

/* Merges by looking for the lowest rank again and again; returns how many symbols are left. */
static int64_t merge_short(lode_bpe_encoder_t *encoder, int64_t count) {
    int32_t *symbol = encoder->symbol, *rank = encoder->rank, *into = encoder->into;
    for (int64_t i = 0; i + 1 < count; i++)
        rate(encoder, i, i + 1);
    while (count > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < count; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NO_RANK)
            break;
        symbol[best] = into[best];
        size_t behind = (size_t)(count - best - 2) * sizeof *symbol;
        memmove(symbol + best + 1, symbol + best + 2, behind);
        memmove(rank + best + 1, rank + best + 2, behind);
        memmove(into + best + 1, into + best + 2, behind);
        count--;
        if (best > 0)
            rate(encoder, best - 1, best);
        if (best + 1 < count)
            rate(encoder, best, best + 1);
    }
    return count;
}

/* A heap whose nodes have four children each: half as many places of memory to visit as with two.
 */
enum { CHILDREN = 4 };

static void heap_push(uint64_t *heap, int64_t *size, uint64_t key) {
    int64_t at = (*size)++;
    while (at > 0 && heap[(at - 1) / CHILDREN] > key) {
        heap[at] = heap[(at - 1) / CHILDREN];
        at = (at - 1) / CHILDREN;
    }
    heap[at] = key;
}

static uint64_t heap_pop(uint64_t *heap, int64_t *size) {
    const uint64_t top = heap[0], key = heap[--*size];
    int64_t at = 0;
    for (;;) {
        const int64_t first = CHILDREN * at + 1;
        const int64_t end = first + CHILDREN < *size ? first + CHILDREN : *size;
        if (first >= *size)
            break;
        int64_t least = first;
        for (int64_t child = first + 1; child < end; child++)
            if (heap[child] < heap[least])
                least = child;
        if (heap[least] >= key)
            break;
        heap[at] = heap[least];
        at = least;
    }
    heap[at] = key;
    return top;
}

static void rate_and_push(lode_bpe_encoder_t *encoder, int64_t *size, int32_t left, int32_t right) {
    rate(encoder, left, right);
    if (encoder->rank[left] != NO_RANK)
        heap_push(encoder->heap, size, (uint64_t)encoder->rank[left] << 32 | (uint32_t)left);
}

/* Merges with a heap over a doubly linked list. An entry is stale when its position has another
 * rank by now. Every merge pushes two entries at most, so 3 · count bounds the heap. */
static int64_t merge_long(lode_bpe_encoder_t *encoder, int64_t count) {
    int32_t *symbol = encoder->symbol, *next = encoder->next, *previous = encoder->previous;
    int64_t size = 0;
    for (int32_t i = 0; i < count; i++) {
        previous[i] = i - 1;
        next[i] = i + 1 < count ? i + 1 : -1;
        encoder->rank[i] = NO_RANK;
        if (i + 1 < count)
            rate_and_push(encoder, &size, i, i + 1);
    }
    while (size > 0) {
        uint64_t top = heap_pop(encoder->heap, &size);
        int32_t at = (int32_t)(top & 0xFFFFFFFF);
        if (encoder->rank[at] != (int32_t)(top >> 32))
            continue;
        int32_t gone = next[at], after = next[gone];
        symbol[at] = encoder->into[at];
        encoder->rank[at] = encoder->rank[gone] = NO_RANK;
        next[at] = after;
        if (after >= 0) {
            previous[after] = at;
            rate_and_push(encoder, &size, at, after);
        }
        if (previous[at] >= 0)
            rate_and_push(encoder, &size, previous[at], at);
    }
    int64_t left = 0;
    for (int32_t i = 0; i >= 0; i = next[i]) /* a symbol never moves to the right */
        symbol[left++] = symbol[i];
    return left;
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
        const byte_symbol_t *symbol = &bpe->symbols[(unsigned char)piece[i]];
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
    LODE_TRY(
        reserve_piece(encoder, (int64_t)length * (bpe->byte_level && bpe->byte_fallback ? 2 : 1)));
    LODE_TRY(spell(encoder, &count, piece, length));
    count = count <= SHORT_PIECE ? merge_short(encoder, count) : merge_long(encoder, count);
    LODE_TRY(reserve_ids(encoder, count));
    if (count > 0) /* unknown characters may leave nothing, and then no array either */
        memcpy(encoder->ids + encoder->count, encoder->symbol,
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
    while (length - i >= MARK_BYTES && memcmp(text + i, MARK, MARK_BYTES) == 0)
        i += MARK_BYTES;
    for (; i < length; i++) {
        const char *found = memchr(text + i, MARK[0], length - i);
        if (!found)
            return length;
        i = (size_t)(found - text);
        if (length - i >= MARK_BYTES && memcmp(found, MARK, MARK_BYTES) == 0)
            return i;
    }
    return length;
}

const lode_bpe_t *lode_bpe_of(const lode_bpe_encoder_t *encoder) {
    return encoder->bpe;
}

bool lode_bpe_divides(const lode_bpe_t *bpe, const char *text, size_t start, size_t length,
                      size_t at) {
    const char *place = text + start + at;
    return bpe->cut_at_mark && at > 0 && length - at >= MARK_BYTES &&
           memcmp(place, MARK, MARK_BYTES) == 0 && !ends_with_mark(text + start, at);
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
