/* score/redundancy: how much of what one channel does to the loss another does too.
 *
 * Source: Supernodes and Halos (arXiv:2604.23475). q_tj is channel j's u·dL/du at token t. r_js is
 * the correlation over tokens of q_j and q_s, clamped to ±0.9999, and
 *     Red_js = −½·ln(1 − r²), with max(0, r) in place of r where positive_only
 * in nats: the mutual information of two Gaussian variables so correlated.
 *
 * Two forms of r, with population variances and covariances (divided by the number of tokens):
 *
 * scale-free  cov/√(var_j·var_s), Pearson's: no unit of q has a part in it. A channel that never
 *             varies has r = 0.
 * nodelens    cov/√(var_j·var_s + 1e-8), the form of the authors' reference program NodeLens
 *             (commit 5d9a88c), for comparison. It depends on the unit of q, which is 1/targets of
 *             the sequence where calibration.loss = "mean": with some hundred tokens var² lies far
 *             below 1e-8, so that r is all but proportional to the covariance and close to 0. As in
 *             single precision there, r² and 1 − r² are rounded to float before the logarithm: for
 *             r² below 2⁻²⁵, Red is exactly 0, and where all are, ranks by redundancy are those
 *             of the list, that is of connectivity.
 *
 * Products are formed by BLAS in float64 over the tokens of standardised q, in blocks whose shapes
 * depend on the arguments alone. One layer at a time; everything here is Local.
 */
#ifndef LODE_SCORE_REDUNDANCY_H
#define LODE_SCORE_REDUNDANCY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "config/choices.h"

typedef struct lode_redundancy {
    int64_t top_k; /* of the core channels, how many of the most redundant are averaged; ≥ 1 */
    bool positive_only; /* anticorrelated channels count as independent */
    lode_correlation_t correlation;
} lode_redundancy_t;

/* A layer's q: q[t·stride + j] for t < tokens and j < channels, the caller's. A layer of f32
 * [tokens, L, m] has stride L·m. */
typedef struct lode_q {
    const float *q;
    int64_t tokens, stride, channels; /* tokens ≥ 1 */
} lode_q_t;

/* Private bytes that the functions below take beside q and their results, for lists of `a` and `b`
 * channels of a layer (others and the core, for the first of them). */
int64_t lode_redundancy_memory(int64_t tokens, int64_t a, int64_t b);

/* Redundancy of each of some channels to the core: the mean of the min(top_k, core_size) largest
 * Red_js over the core.
 *   redundancy [count] out, nats, ≥ 0, in the order of `others`
 *   core       [core_size] in, core_size ≥ 1;  others [count] in, none of the core
 * Errors: LODE_ERR_NUMERIC where q of a channel in use is not finite, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_redundancy_to_core(double *redundancy, lode_q_t q,
                                                    const int32_t *core, int64_t core_size,
                                                    const int32_t *others, int64_t count,
                                                    lode_redundancy_t options);

/* Red of all pairs of two lists; 0 for a channel with itself, which is no pair.
 *   pairs [a_count, b_count] out
 *   a [a_count], b [b_count] in, channels; they may share some, or be the same
 * Errors: as above. */
LODE_MUST_USE lode_status_t lode_redundancy_pairs(double *pairs, lode_q_t q, const int32_t *a,
                                                  int64_t a_count, const int32_t *b,
                                                  int64_t b_count, lode_redundancy_t options);

#endif
