/* training/schedule: the learning rate, and the weight of the entropy loss, of each step. Steps
 * count from 1. Pure functions; everything here is Local.
 */
#ifndef LODE_TRAINING_SCHEDULE_H
#define LODE_TRAINING_SCHEDULE_H

#include <stdint.h>

#include "config/choices.h"

typedef struct lode_rate {
    int64_t steps;  /* of the training */
    int64_t warmup; /* steps of them, in which the rate grows in proportion to the step */
    double most;    /* at the end of the warm-up */
    double final;   /* share of that at the last step */
    lode_train_decay_t decay;
} lode_rate_t;

/* The learning rate of a step in 1 … steps: step / warmup · most up to the end of the warm-up; then
 * with x = (step − warmup) / (steps − warmup) a share of `most` that falls from 1 to `final`:
 * final + (1 − final) · (1 + cos πx) / 2, or final + (1 − final) · (1 − x); or 1 throughout. */
double lode_rate_at(const lode_rate_t *rate, int64_t step);

/* λ of a step in 1 … steps, with x = step / steps: weight, weight · x, or
 * weight · (1 + cos πx) / 2. */
double lode_entropy_weight_at(double weight, lode_entropy_schedule_t schedule, int64_t steps,
                              int64_t step);

#endif
