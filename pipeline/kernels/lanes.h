/* kernels/lanes: sums over arrays in double, in a fixed order that vectorises.
 *
 * Element i goes to partial sum i modulo 16, those after the last whole sixteen to partial sum 0;
 * the partial sums are added in ascending order. The order depends on nothing but the length.
 * Everything here is Local.
 */
#ifndef LODE_KERNELS_LANES_H
#define LODE_KERNELS_LANES_H

#include "kernels/real.h"

enum { LODE_LANES = 16 };

static inline double lode_lanes_sum(const double lanes[LODE_LANES]) {
    double sum = 0;
    for (int i = 0; i < LODE_LANES; i++)
        sum += lanes[i];
    return sum;
}

/* Σ x_i, 0 for an empty array. */
static inline double lode_lanes_total(const lode_real_t *x, int64_t count) {
    double lanes[LODE_LANES] = {0};
    int64_t i = 0;
    for (; i + LODE_LANES <= count; i += LODE_LANES)
        for (int j = 0; j < LODE_LANES; j++)
            lanes[j] += (double)x[i + j];
    for (; i < count; i++)
        lanes[0] += (double)x[i];
    return lode_lanes_sum(lanes);
}

/* x_i = exp(x_i − most), none of them larger than `most`; returns their sum. */
static inline double lode_lanes_exponentials(lode_real_t *x, int64_t count, lode_real_t most) {
    double lanes[LODE_LANES] = {0};
    int64_t i = 0;
    for (; i + LODE_LANES <= count; i += LODE_LANES)
        for (int j = 0; j < LODE_LANES; j++) {
            const lode_real_t e = lode_exp_nonpositive(x[i + j] - most);
            x[i + j] = e;
            lanes[j] += (double)e;
        }
    for (; i < count; i++) {
        x[i] = lode_exp_nonpositive(x[i] - most);
        lanes[0] += (double)x[i];
    }
    return lode_lanes_sum(lanes);
}

/* The largest of `count` ≥ 1 elements, NaN aside. */
static inline lode_real_t lode_lanes_most(const lode_real_t *x, int64_t count) {
    lode_real_t lanes[LODE_LANES], most = x[0];
    int64_t i = 0;
    for (int j = 0; j < LODE_LANES; j++)
        lanes[j] = most;
    for (; i + LODE_LANES <= count; i += LODE_LANES)
        for (int j = 0; j < LODE_LANES; j++)
            lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    for (int j = 0; j < LODE_LANES; j++)
        most = lanes[j] > most ? lanes[j] : most;
    for (; i < count; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

#endif
