#include "text/bpe_pairs.h"

#include <stdlib.h>

#include "base/memory.h"

/* A pair in the heap, with the count that it had when it was put there. */
typedef struct entry {
    int64_t count, index;
    uint64_t key;
} entry_t;

struct lode_bpe_pairs {
    lode_bpe_pair_t *list; /* [capacity] */
    int64_t count, capacity, settled;
    int64_t *slots; /* [mask + 1] place in the list + 1; 0 is empty */
    uint64_t mask;
    entry_t *heap; /* [heap_capacity] */
    int64_t heap_count, heap_capacity;
};

static uint64_t make_key(int32_t left, int32_t right) {
    return (uint64_t)left << 32 | (uint32_t)right;
}

static uint64_t home(uint64_t key) {
    const uint64_t mixed = key * UINT64_C(0x9E3779B97F4A7C15);
    return mixed ^ mixed >> 32;
}

/* The slot of a pair, or the free one where it belongs. */
static int64_t *find_slot(const lode_bpe_pairs_t *pairs, int32_t left, int32_t right) {
    uint64_t at = home(make_key(left, right)) & pairs->mask;
    for (; pairs->slots[at]; at = (at + 1) & pairs->mask) {
        const lode_bpe_pair_t *pair = &pairs->list[pairs->slots[at] - 1];
        if (pair->left == left && pair->right == right)
            break;
    }
    return &pairs->slots[at];
}

static lode_status_t grow(lode_bpe_pairs_t *pairs) {
    const int64_t capacity = pairs->capacity ? 2 * pairs->capacity : 1024;
    LODE_TRY(lode_resize(&pairs->list, capacity, sizeof *pairs->list, "pairs"));
    pairs->capacity = capacity;
    free(pairs->slots);
    pairs->mask = 2 * (uint64_t)capacity - 1;
    LODE_TRY(LODE_NEW(&pairs->slots, 2 * capacity, "pairs"));
    for (int64_t i = 0; i < pairs->count; i++)
        *find_slot(pairs, pairs->list[i].left, pairs->list[i].right) = i + 1;
    return LODE_OK;
}

lode_status_t lode_bpe_pairs_create(lode_bpe_pairs_t **pairs) {
    LODE_TRY(LODE_NEW(pairs, 1, "pairs"));
    const lode_status_t status = grow(*pairs);
    if (status != LODE_OK)
        lode_bpe_pairs_destroy(pairs);
    return status;
}

void lode_bpe_pairs_destroy(lode_bpe_pairs_t **pairs) {
    if (!*pairs)
        return;
    for (int64_t i = 0; i < (*pairs)->count; i++)
        free((*pairs)->list[i].words);
    free((*pairs)->list);
    free((*pairs)->slots);
    free((*pairs)->heap);
    free(*pairs);
    *pairs = NULL;
}

lode_status_t lode_bpe_pairs_add(lode_bpe_pairs_t *pairs, int32_t left, int32_t right, int32_t word,
                                 int64_t count) {
    int64_t *slot = find_slot(pairs, left, right);
    if (*slot == 0 && pairs->count == pairs->capacity) {
        LODE_TRY(grow(pairs));
        slot = find_slot(pairs, left, right);
    }
    if (*slot == 0) {
        pairs->list[pairs->count] = (lode_bpe_pair_t){.left = left, .right = right};
        *slot = ++pairs->count;
    }
    lode_bpe_pair_t *pair = &pairs->list[*slot - 1];
    pair->count += count;
    if (pair->word_count > 0 && pair->words[pair->word_count - 1] == word)
        return LODE_OK;
    if (pair->word_count == pair->word_capacity) {
        const int64_t capacity = pair->word_capacity ? 2 * pair->word_capacity : 2;
        LODE_TRY(lode_resize(&pair->words, capacity, sizeof *pair->words, "words of a pair"));
        pair->word_capacity = capacity;
    }
    pair->words[pair->word_count++] = word;
    return LODE_OK;
}

void lode_bpe_pairs_remove(lode_bpe_pairs_t *pairs, int32_t left, int32_t right, int64_t count) {
    const int64_t *slot = find_slot(pairs, left, right);
    LODE_ASSERT(*slot != 0);
    pairs->list[*slot - 1].count -= count;
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

lode_status_t lode_bpe_pairs_settle(lode_bpe_pairs_t *pairs) {
    const int64_t wanted = pairs->heap_count + pairs->count - pairs->settled;
    if (wanted > pairs->heap_capacity) {
        LODE_TRY(lode_resize(&pairs->heap, 2 * wanted, sizeof *pairs->heap, "pairs"));
        pairs->heap_capacity = 2 * wanted;
    }
    for (; pairs->settled < pairs->count; pairs->settled++) {
        const lode_bpe_pair_t *pair = &pairs->list[pairs->settled];
        rise(pairs, pairs->heap_count++,
             (entry_t){.count = pair->count,
                       .index = pairs->settled,
                       .key = make_key(pair->left, pair->right)});
    }
    return LODE_OK;
}

bool lode_bpe_pairs_take(lode_bpe_pairs_t *pairs, lode_bpe_pair_t *pair) {
    while (pairs->heap_count > 0) {
        entry_t top = pairs->heap[0];
        lode_bpe_pair_t *now = &pairs->list[top.index];
        if (now->count > 0 && now->count < top.count) { /* it has lost places since */
            top.count = now->count;
            sink(pairs, top);
            continue;
        }
        const entry_t last = pairs->heap[--pairs->heap_count];
        if (pairs->heap_count > 0)
            sink(pairs, last);
        if (now->count > 0) {
            *pair = *now;
            now->words = NULL;
            now->word_count = now->word_capacity = 0;
            return true;
        }
    }
    return false;
}
