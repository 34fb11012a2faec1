/* score/retention: what is left of a layer's weights in another version of the model.
 *
 * Weights are compared by value, whatever their types, element by element in float64. A channel's
 * weights are its gate row, its up row and its column of the down projection, its write vector;
 * biases are not counted. Channels are the original's: a version that has fewer lacks the others,
 * whose weights then count as zeros. Everything here is Local.
 */
#ifndef LODE_SCORE_RETENTION_H
#define LODE_SCORE_RETENTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/tensor.h"

/* The three matrices of a feed-forward block, [m, d], [m, d], [d, m]; gate.data NULL without a
 * gate. Not owned. */
typedef struct lode_retention_block {
    const lode_tensor_t *gate, *up, *down;
} lode_retention_block_t;

/* What became of one channel. Sums add up along the gate row, the up row, the write vector. */
typedef struct lode_retention_channel {
    double weight;   /* Σ W² */
    double error;    /* Σ (Ŵ − W)² */
    int64_t zeros;   /* elements with Ŵ = 0 */
    int64_t changed; /* elements with Ŵ ≠ W */
    bool removed;    /* the version lacks the channel */
    bool zeroed;     /* it has it, but with an all-zero gate row, up row or write vector */
} lode_retention_channel_t;

/* Compares a block with another version's.
 *   channel   [m] out
 *   original  in, with m channels
 *   version   in, with n ≤ m channels of the same hidden size
 *   place     [m] in, where the version has the channel, in [0, n); −1 where it lacks it. NULL:
 *             n = m, and all are at their own places
 * Errors: LODE_ERR_NUMERIC where a weight is not finite, LODE_ERR_SHAPE, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_retention_block(lode_retention_channel_t *channel,
                                                 lode_retention_block_t original,
                                                 lode_retention_block_t version,
                                                 const int32_t *place);

/* What became of some weights together. */
typedef struct lode_retention_share {
    double weight, error; /* sums of squares */
    int64_t zeros, elements;
} lode_retention_share_t;

/* Adds a channel of `elements` weights, (2 or 3)·d. */
void lode_retention_add_channel(lode_retention_share_t *share,
                                const lode_retention_channel_t *channel, int64_t elements);

/* Adds a whole matrix, rows in their order; `what` names it in messages. Errors: LODE_ERR_NUMERIC,
 * LODE_ERR_SHAPE where the two differ in theirs, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_retention_add_matrix(lode_retention_share_t *share,
                                                      const lode_tensor_t *original,
                                                      const lode_tensor_t *version,
                                                      const char *what);

/* ‖Ŵ − W‖ / ‖W‖, Frobenius; NaN where the original's weights are all zero or none. */
double lode_retention_error(const lode_retention_share_t *share);

/* Share of zeros among the version's weights; NaN where there are none. */
double lode_retention_zeros(const lode_retention_share_t *share);

#endif
