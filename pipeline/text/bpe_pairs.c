#include "text/bpe_pairs.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/lookup.h"

/* A pair in the heap, with the count that it had when it was put there. */
typedef struct entry {
    int64_t count;
    uint64_t key;
    int32_t index;
} entry_t;

enum { NONE = -1 }; /* no token, and no pair */

struct lode_bpe_pairs {
    lode_bpe_pair_t *list; /* [capacity] */
    int32_t count, capacity;
    int32_t settled;        /* pairs of earlier rounds; the others are this round's */
    lode_lookup_t table;    /* places in the list, of the first round and of earlier ones */
    int32_t newest;         /* NONE in the first round */
    int32_t *before, *with; /* [vocabulary] this round's pairs (token, newest), (newest, token) */
    int64_t least;
    entry_t *heap; /* [heap_capacity] */
    int64_t heap_count, heap_capacity;
};

static uint64_t make_key(int32_t left, int32_t right) {
    return (uint64_t)left << 32 | (uint32_t)right;
}

lode_status_t lode_bpe_pairs_create(lode_bpe_pairs_t **pairs, int64_t vocabulary, int64_t least) {
    lode_status_t status;
    LODE_TRY(LODE_NEW(pairs, 1, "pairs"));
    lode_bpe_pairs_t *made = *pairs;
    made->newest = NONE;
    made->least = least;
    LODE_GUARD(status, LODE_NEW_RAW(&made->before, vocabulary, "pairs"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&made->with, vocabulary, "pairs"), done);
    for (int64_t id = 0; id < vocabulary; id++)
        made->before[id] = made->with[id] = NONE;
    status = lode_lookup_reserve(&made->table, 0, "pairs");
done:
    if (status != LODE_OK)
        lode_bpe_pairs_destroy(pairs);
    return status;
}

void lode_bpe_pairs_destroy(lode_bpe_pairs_t **pairs) {
    if (!*pairs)
        return;
    for (int32_t i = 0; i < (*pairs)->count; i++)
        free((*pairs)->list[i].places);
    free((*pairs)->list);
    lode_lookup_free(&(*pairs)->table);
    free((*pairs)->before);
    free((*pairs)->with);
    free((*pairs)->heap);
    free(*pairs);
    *pairs = NULL;
}

/* Where this round's index of a pair is; NULL for a pair of the first round or an earlier one. */
static int32_t *this_round(const lode_bpe_pairs_t *pairs, int32_t left, int32_t right) {
    if (left == pairs->newest)
        return &pairs->with[right];
    return right == pairs->newest ? &pairs->before[left] : NULL;
}

static int32_t find(const lode_bpe_pairs_t *pairs, int32_t left, int32_t right) {
    const int32_t *index = this_round(pairs, left, right);
    return index ? *index : (int32_t)lode_lookup_find(&pairs->table, make_key(left, right));
}

/* Begins a pair; it is the last in the list. */
static lode_status_t begin(lode_bpe_pairs_t *pairs, int32_t left, int32_t right) {
    if (pairs->count == pairs->capacity) {
        if (pairs->count > INT32_MAX / 2)
            return lode_fail(LODE_ERR_UNSUPPORTED,
                             "a tokenizer cannot be trained on more than %d different pairs of "
                             "characters; set train.tokenizer.sample",
                             INT32_MAX / 2);
        const int32_t capacity = pairs->capacity ? 2 * pairs->capacity : 1024;
        LODE_TRY(lode_resize(&pairs->list, capacity, sizeof *pairs->list, "pairs"));
        pairs->capacity = capacity;
    }
    int32_t *index = this_round(pairs, left, right);
    if (index)
        *index = pairs->count;
    else
        LODE_TRY(lode_lookup_add(&pairs->table, make_key(left, right), pairs->count, "pairs"));
    pairs->list[pairs->count++] = (lode_bpe_pair_t){.left = left, .right = right};
    return LODE_OK;
}

lode_status_t lode_bpe_pairs_add(lode_bpe_pairs_t *pairs, int32_t left, int32_t right,
                                 int32_t place, int64_t count) {
    int32_t index = find(pairs, left, right);
    if (index == NONE) {
        index = pairs->count;
        LODE_TRY(begin(pairs, left, right));
    }
    lode_bpe_pair_t *pair = &pairs->list[index];
    LODE_ASSERT(index >= pairs->settled);
    if (pair->place_count == pair->place_capacity) {
        const int32_t old = pair->place_capacity;
        const int32_t capacity = old > INT32_MAX / 2 ? INT32_MAX : old ? 2 * old : 4;
        LODE_TRY(lode_resize(&pair->places, capacity, sizeof *pair->places, "places of a pair"));
        pair->place_capacity = capacity;
    }
    pair->places[pair->place_count++] = place;
    pair->count += count;
    return LODE_OK;
}

static void free_places(lode_bpe_pair_t *pair) {
    free(pair->places);
    pair->places = NULL;
    pair->place_count = pair->place_capacity = 0;
}

void lode_bpe_pairs_remove(lode_bpe_pairs_t *pairs, int32_t left, int32_t right, int64_t count) {
    const int32_t index = find(pairs, left, right);
    if (index == NONE) /* it has been forgotten */
        return;
    lode_bpe_pair_t *pair = &pairs->list[index];
    pair->count -= count;
    if (index < pairs->settled && pair->count < pairs->least)
        free_places(pair); /* it will never be taken */
}

/* --- the heap ------------------------------------------------------------------------------- */

static bool goes_first(entry_t a, entry_t b) {
    return a.count != b.count ? a.count > b.count : a.key < b.key;
}

static void rise(lode_bpe_pairs_t *pairs, int64_t at, entry_t entry) {
    for (int64_t above; at > 0 && goes_first(entry, pairs->heap[above = (at - 1) / 2]); at = above)
        pairs->heap[at] = pairs->heap[above];
    pairs->heap[at] = entry;
}

/* Puts an entry in the place of the top, which is free. */
static void sink(lode_bpe_pairs_t *pairs, entry_t entry) {
    int64_t at = 0;
    for (int64_t below; (below = 2 * at + 1) < pairs->heap_count; at = below) {
        if (below + 1 < pairs->heap_count && goes_first(pairs->heap[below + 1], pairs->heap[below]))
            below++;
        if (!goes_first(pairs->heap[below], entry))
            break;
        pairs->heap[at] = pairs->heap[below];
    }
    pairs->heap[at] = entry;
}

static lode_status_t push(lode_bpe_pairs_t *pairs, const lode_bpe_pair_t *pair, int32_t index) {
    if (pairs->heap_count == pairs->heap_capacity) {
        const int64_t capacity = pairs->heap_capacity ? 2 * pairs->heap_capacity : 1024;
        LODE_TRY(lode_resize(&pairs->heap, capacity, sizeof *pairs->heap, "pairs"));
        pairs->heap_capacity = capacity;
    }
    const uint64_t key = make_key(pair->left, pair->right);
    rise(pairs, pairs->heap_count++, (entry_t){.count = pair->count, .key = key, .index = index});
    return LODE_OK;
}

/* --- rounds --------------------------------------------------------------------------------- */

/* Keeps a pair of the round that ends, as the one at `index` in the list. */
static lode_status_t keep(lode_bpe_pairs_t *pairs, int32_t index) {
    lode_bpe_pair_t *pair = &pairs->list[index];
    const uint64_t key = make_key(pair->left, pair->right);
    if (pair->place_count < pair->place_capacity) {
        LODE_TRY(lode_resize(&pair->places, pair->place_count, sizeof *pair->places, "pairs"));
        pair->place_capacity = pair->place_count;
    }
    LODE_TRY(lode_lookup_add(&pairs->table, key, index, "pairs"));
    return push(pairs, pair, index);
}

lode_status_t lode_bpe_pairs_settle(lode_bpe_pairs_t *pairs, int32_t newest) {
    const int32_t made = pairs->count;
    lode_status_t status = LODE_OK;
    if (pairs->newest == NONE) { /* only pairs that are kept go in again */
        lode_lookup_free(&pairs->table);
        LODE_TRY(lode_lookup_reserve(&pairs->table, 0, "pairs"));
    }
    for (int32_t i = pairs->settled; i < made; i++) {
        lode_bpe_pair_t *pair = &pairs->list[i];
        int32_t *index = this_round(pairs, pair->left, pair->right);
        if (index)
            *index = NONE;
        if (status != LODE_OK || pair->count < pairs->least) {
            free_places(pair);
            continue;
        }
        pairs->list[pairs->settled] = *pair;
        status = keep(pairs, pairs->settled++);
    }
    pairs->count = pairs->settled;
    pairs->newest = newest;
    return status;
}

bool lode_bpe_pairs_take(lode_bpe_pairs_t *pairs, lode_bpe_pair_t *pair) {
    while (pairs->heap_count > 0) {
        entry_t top = pairs->heap[0];
        lode_bpe_pair_t *now = &pairs->list[top.index];
        if (now->count >= pairs->least && now->count < top.count) { /* it has lost places since */
            top.count = now->count;
            sink(pairs, top);
            continue;
        }
        const entry_t last = pairs->heap[--pairs->heap_count];
        if (pairs->heap_count > 0)
            sink(pairs, last);
        *pair = *now;
        if (pair->count < pairs->least) /* its places are freed */
            continue;
        now->places = NULL;
        return true;
    }
    *pair = (lode_bpe_pair_t){0};
    return false;
}
