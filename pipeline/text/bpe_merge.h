/* text/bpe_merge: merges the symbols of one piece of text. Everything here is Local. */
#ifndef LODE_TEXT_BPE_MERGE_H
#define LODE_TEXT_BPE_MERGE_H

#include <stdint.h>

#include "base/error.h"
#include "base/lookup.h"

/* Adds a merge to a table, or replaces that of the same pair: the ids it joins, its rank and the id
 * that it makes. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_bpe_merge_add(lode_lookup_t *merges, int32_t left, int32_t right,
                                               int32_t rank, int32_t into);

/* The symbols of a piece and the memory to merge them in: initialise with {0}. */
typedef struct lode_bpe_piece {
    int32_t *symbol; /* [room] */
    /* Of the pair that a symbol makes with the one that follows it; [room] */
    uint32_t *rank;
    int32_t *into;
    /* Of symbols of long pieces; [room] */
    int32_t *next, *previous;
    uint64_t *heap; /* [2 · room] rank and position */
    int64_t room;
} lode_bpe_piece_t;

/* Room for `symbols` symbols, below 2³¹, and one more; what was there is lost.
 * Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_bpe_piece_reserve(lode_bpe_piece_t *piece, int64_t symbols);
void lode_bpe_piece_free(lode_bpe_piece_t *piece); /* leaves {0} */

/* Merges `count` symbols, the pair of the lowest rank first and the leftmost of equals, until no
 * pair has one; returns how many are left. Takes O(count · log count). */
int64_t lode_bpe_piece_merge(lode_bpe_piece_t *piece, const lode_lookup_t *merges, int64_t count);

#endif
