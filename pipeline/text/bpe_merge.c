#include "text/bpe_merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { SHORT_PIECE = 24 /* symbols up to which scanning beats the heap */ };

static const uint32_t NO_RANK = UINT32_MAX; /* of a pair that no merge joins */

static uint64_t make_pair(int32_t left, int32_t right) {
    return (uint64_t)left << 32 | (uint32_t)right;
}

lode_status_t lode_bpe_merge_add(lode_lookup_t *merges, int32_t left, int32_t right, int32_t rank,
                                 int32_t into) {
    return lode_lookup_set(merges, make_pair(left, right), (int64_t)rank << 32 | into, "merges");
}

lode_status_t lode_bpe_piece_reserve(lode_bpe_piece_t *piece, int64_t symbols) {
    if (symbols < piece->room)
        return LODE_OK;
    lode_bpe_piece_free(piece);
    const int64_t spare = symbols < 1 << 16 ? symbols + 128 : 1 << 16, room = symbols + spare;
    LODE_TRY(LODE_NEW_RAW(&piece->symbol, room, "symbols"));
    LODE_TRY(LODE_NEW_RAW(&piece->rank, room, "symbols"));
    LODE_TRY(LODE_NEW_RAW(&piece->into, room, "symbols"));
    LODE_TRY(LODE_NEW_RAW(&piece->next, room, "symbols"));
    LODE_TRY(LODE_NEW_RAW(&piece->previous, room, "symbols"));
    LODE_TRY(LODE_NEW_RAW(&piece->heap, 2 * room, "symbols"));
    piece->room = room;
    return LODE_OK;
}

void lode_bpe_piece_free(lode_bpe_piece_t *piece) {
    free(piece->symbol);
    free(piece->rank);
    free(piece->into);
    free(piece->next);
    free(piece->previous);
    free(piece->heap);
    *piece = (lode_bpe_piece_t){0};
}

static void rate(lode_bpe_piece_t *piece, const lode_lookup_t *merges, int64_t left,
                 int64_t right) {
    const int64_t merge =
        lode_lookup_find(merges, make_pair(piece->symbol[left], piece->symbol[right]));
    piece->rank[left] = (uint32_t)((uint64_t)merge >> 32); /* of −1, that is NO_RANK */
    piece->into[left] = (int32_t)(merge & INT32_MAX);
}

/* Merges by looking for the lowest rank again and again; returns how many symbols are left. */
static int64_t merge_short(lode_bpe_piece_t *piece, const lode_lookup_t *merges, int64_t count) {
    int32_t *symbol = piece->symbol, *into = piece->into;
    uint32_t *rank = piece->rank;
    for (int64_t i = 0; i + 1 < count; i++)
        rate(piece, merges, i, i + 1);
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
            rate(piece, merges, best - 1, best);
        if (best + 1 < count)
            rate(piece, merges, best, best + 1);
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

static void rate_and_push(lode_bpe_piece_t *piece, const lode_lookup_t *merges, int64_t *size,
                          int32_t left, int32_t right) {
    rate(piece, merges, left, right);
    if (piece->rank[left] != NO_RANK)
        heap_push(piece->heap, size, (uint64_t)piece->rank[left] << 32 | (uint32_t)left);
}

/* Merges with a heap over a doubly linked list. An entry is stale when its position has another
 * rank by now. Every merge takes one entry out and puts two in at most, so 2 · count bounds the
 * heap. */
static int64_t merge_long(lode_bpe_piece_t *piece, const lode_lookup_t *merges, int64_t count) {
    int32_t *symbol = piece->symbol, *next = piece->next, *previous = piece->previous;
    int64_t size = 0;
    for (int32_t i = 0; i < count; i++) {
        previous[i] = i - 1;
        next[i] = i + 1 < count ? i + 1 : -1;
        piece->rank[i] = NO_RANK;
        if (i + 1 < count)
            rate_and_push(piece, merges, &size, i, i + 1);
    }
    while (size > 0) {
        uint64_t top = heap_pop(piece->heap, &size);
        int32_t at = (int32_t)(top & 0xFFFFFFFF);
        if (piece->rank[at] != (uint32_t)(top >> 32))
            continue;
        int32_t gone = next[at], after = next[gone];
        symbol[at] = piece->into[at];
        piece->rank[at] = piece->rank[gone] = NO_RANK;
        next[at] = after;
        if (after >= 0) {
            previous[after] = at;
            rate_and_push(piece, merges, &size, at, after);
        }
        if (previous[at] >= 0)
            rate_and_push(piece, merges, &size, previous[at], at);
    }
    int64_t left = 0;
    for (int32_t i = 0; i >= 0; i = next[i]) /* a symbol never moves to the right */
        symbol[left++] = symbol[i];
    return left;
}

int64_t lode_bpe_piece_merge(lode_bpe_piece_t *piece, const lode_lookup_t *merges, int64_t count) {
    return count <= SHORT_PIECE ? merge_short(piece, merges, count)
                                : merge_long(piece, merges, count);
}
