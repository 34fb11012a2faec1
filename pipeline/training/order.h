/* training/order: which blocks of the training text a step takes.
 *
 * Epochs follow each other without a gap, each a permutation of all blocks that depends on the seed
 * and the epoch's number alone (Fisher and Yates, with the stream "train order"). A step takes the
 * next `batch` blocks of that endless row, so what it takes depends on the seed, the number of
 * blocks, the batch and the step. Everything here is Local.
 */
#ifndef LODE_TRAINING_ORDER_H
#define LODE_TRAINING_ORDER_H

#include <stdint.h>

#include "base/error.h"

typedef struct lode_order {
    int64_t seed, blocks;
    int64_t epoch;        /* the one in `permutation`, −1: none */
    int64_t *permutation; /* [blocks] */
} lode_order_t;

/* blocks ≥ 1. *order is for lode_order_free, {0} on failure. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_order_create(lode_order_t *order, int64_t seed, int64_t blocks);
void lode_order_free(lode_order_t *order);

/* taken [batch] out: the blocks of `step` ≥ 1, each in 0 … blocks − 1, in their order. Cheap as
 * long as the steps stay within an epoch. */
void lode_order_take(lode_order_t *order, int64_t step, int64_t batch, int64_t *taken);

#endif
