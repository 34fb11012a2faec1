/* transformer/simulate: how long a pass over a pipeline takes, by a simulated clock.
 *
 * Every stage carries out the operations of transformer/schedule in their order, and messages go
 * through channels as transformer/channel has them: two buffers on either side of each direction, a
 * send waits for its buffer, a message travels once it was sent and its receive was posted, one at
 * a time in each direction, and a receive is posted when the message two before it was taken. So
 * the result is what transformer/pass does on ranks that take exactly the given times. Pure;
 * everything here is Local.
 */
#ifndef LODE_TRANSFORMER_SIMULATE_H
#define LODE_TRANSFORMER_SIMULATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* A pass of one pipeline. All times in seconds, or in any other unit. */
typedef struct lode_simulation {
    int stages;      /* ≥ 1 */
    int64_t batches; /* micro-batches, ≥ 0 */
    /* Each micro-batch passes so many times, once for each variant; 1 with backward. */
    int64_t variants;
    const double *forward;  /* [variants, stages] of one micro-batch, the head's loss included */
    const double *backward; /* [stages]; NULL: a forward pass only */
    /* [variants] the first stage that has anything to do with a variant: those before it neither
     * compute nor send. NULL: all 0. */
    const int *first_stage;
    double message; /* from a message's start to its arrival */
} lode_simulation_t;

typedef struct lode_simulated {
    double makespan; /* until the last stage is done */
    double busy;     /* of the stage that computes longest */
    double bubble;   /* share of all stages' time in which they wait, in [0,1]; 0 without work */
} lode_simulated_t;

/* Runs the clock. busy: out, [stages] time that each stage computes, or NULL.
 * Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_simulate(lode_simulated_t *out, double *busy,
                                          const lode_simulation_t *simulation);

/* The same for stages that are all alike and messages that take no time: a micro-batch's `each` on
 * one stage, (batches + stages − 1) · each in all (Narayanan et al. 2019). Nothing is faster where
 * no stage's share is smaller. */
double lode_simulate_ideal(int stages, int64_t batches, double each);

#endif
