/* text/bpe_pairs: how often two tokens stand next to each other, and where; a part of
 * text/bpe_train.
 *
 * Pairs are counted in rounds. In the first all pairs of a text are added; in every other only
 * those that the newest token makes with its neighbours, while counts of the pairs of earlier
 * rounds only fall. So a pair that has too few places at the end of its round will never have
 * enough, and is forgotten; and those of a round after the first are found by the other token of
 * theirs.
 *
 * Everything here is Local. */
#ifndef LODE_TEXT_BPE_PAIRS_H
#define LODE_TEXT_BPE_PAIRS_H

#include <stdint.h>

#include "base/error.h"

typedef struct lode_bpe_pair {
    int32_t left, right; /* token ids */
    int64_t count;       /* places where it stands now, each as often as its word */
    int32_t *places;     /* [place_count] where it has stood, ascending */
    int32_t place_count, place_capacity;
} lode_bpe_pair_t;

typedef struct lode_bpe_pairs lode_bpe_pairs_t;

/* Ids are below `vocabulary`; a pair that counts less than `least`, ≥ 1, at the end of its round is
 * forgotten. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_bpe_pairs_create(lode_bpe_pairs_t **pairs, int64_t vocabulary,
                                                  int64_t least);
void lode_bpe_pairs_destroy(lode_bpe_pairs_t **pairs);

/* Counts a place of a pair, as often as `count`, above 0, says; places of a pair come in ascending
 * order. After the first round `newest` is one of the two. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_bpe_pairs_add(lode_bpe_pairs_t *pairs, int32_t left, int32_t right,
                                               int32_t place, int64_t count);

/* Takes back a place of a pair that was added. */
void lode_bpe_pairs_remove(lode_bpe_pairs_t *pairs, int32_t left, int32_t right, int64_t count);

/* Ends a round; `newest` is the token of the next one. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_bpe_pairs_settle(lode_bpe_pairs_t *pairs, int32_t newest);

/* Takes out the pair of the earlier rounds that stands in the most places, the lowest of equals by
 * the left id, then by the right one; its places are the caller's to free. False where no pair
 * counts `least` or more. */
bool lode_bpe_pairs_take(lode_bpe_pairs_t *pairs, lode_bpe_pair_t *pair);

#endif
