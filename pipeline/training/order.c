#include "training/order.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"

lode_status_t lode_order_create(lode_order_t *order, int64_t seed, int64_t blocks) {
    LODE_ASSERT(blocks >= 1);
    *order = (lode_order_t){.seed = seed, .blocks = blocks, .epoch = -1};
    const lode_status_t status = LODE_NEW_RAW(&order->permutation, blocks, "order of the blocks");
    if (status != LODE_OK)
        *order = (lode_order_t){0};
    return status;
}

void lode_order_free(lode_order_t *order) {
    free(order->permutation);
    *order = (lode_order_t){0};
}

static void shuffle(lode_order_t *order, int64_t epoch) {
    const uint64_t key = lode_random_key(order->seed, "train order", epoch, 0);
    int64_t *permutation = order->permutation;
    for (int64_t i = 0; i < order->blocks; i++)
        permutation[i] = i;
    for (int64_t i = order->blocks - 1; i > 0; i--) {
        const int64_t other = lode_random_below(key, (uint64_t)i, i + 1);
        const int64_t block = permutation[i];
        permutation[i] = permutation[other];
        permutation[other] = block;
    }
    order->epoch = epoch;
}

void lode_order_take(lode_order_t *order, int64_t step, int64_t batch, int64_t *taken) {
    for (int64_t i = 0; i < batch; i++) {
        const int64_t at = (step - 1) * batch + i;
        if (at / order->blocks != order->epoch)
            shuffle(order, at / order->blocks);
        taken[i] = order->permutation[at % order->blocks];
    }
}
