/* transformer/schedule: the order in which a pipeline stage works on micro-batches.
 *
 * "One forward, one backward" (Narayanan et al. 2019, as in PipeDream-Flush): a stage runs ahead by
 * as many forwards as stages follow it, then alternates, so that no stage holds activations of more
 * micro-batches than there are stages, however many micro-batches there are. Pure functions; a test
 * drives them against a simulated clock. Everything here is Local.
 */
#ifndef LODE_TRANSFORMER_SCHEDULE_H
#define LODE_TRANSFORMER_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct lode_operation {
    bool backward;
    int64_t item; /* 0 … items − 1 */
} lode_operation_t;

/* Operation number `step` of `stage`; steps run from 0 to items − 1, or 2·items − 1 with
 * backward. */
lode_operation_t lode_schedule_operation(int stages, int stage, int64_t items, bool backward,
                                         int64_t step);

/* Micro-batches whose forward has run and whose backward has not, at most. At least 1. */
int64_t lode_schedule_in_flight(int stages, int stage, int64_t items, bool backward);

#endif
