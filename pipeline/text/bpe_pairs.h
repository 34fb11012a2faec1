/* text/bpe_pairs: how often two tokens stand next to each other, and in which words; a part of
 * text/bpe_train. Everything here is Local. */
#ifndef LODE_TEXT_BPE_PAIRS_H
#define LODE_TEXT_BPE_PAIRS_H

#include <stdint.h>

#include "base/error.h"

typedef struct lode_bpe_pair {
    int32_t left, right; /* token ids */
    int64_t count;       /* places where it stands now, each as often as its word */
    int32_t *words;      /* [word_count] where it has stood, ascending */
    int64_t word_count, word_capacity;
} lode_bpe_pair_t;

typedef struct lode_bpe_pairs lode_bpe_pairs_t;

LODE_MUST_USE lode_status_t lode_bpe_pairs_create(lode_bpe_pairs_t **pairs);
void lode_bpe_pairs_destroy(lode_bpe_pairs_t **pairs);

/* Counts `count` more places (above 0) of a pair in a word; words come in ascending order. Errors:
 * LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_bpe_pairs_add(lode_bpe_pairs_t *pairs, int32_t left, int32_t right,
                                               int32_t word, int64_t count);

/* Counts `count` places less of a pair that was added. */
void lode_bpe_pairs_remove(lode_bpe_pairs_t *pairs, int32_t left, int32_t right, int64_t count);

/* Lets lode_bpe_pairs_take() see the pairs that were added since the last call: from now on nothing
 * but their counts may change, and these only fall. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_bpe_pairs_settle(lode_bpe_pairs_t *pairs);

/* Takes out the pair that stands in the most places, the lowest of equals by the left id, then by
 * the right one; its words are the caller's to free. False where no pair stands anywhere. */
bool lode_bpe_pairs_take(lode_bpe_pairs_t *pairs, lode_bpe_pair_t *pair);

#endif
