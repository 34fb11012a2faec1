/* score/concentration: figures that say how unevenly something is shared out over channels, and how
 * alike two rankings are.
 *
 * Sums run in float64 in index order (ascending value order for Gini). A figure that is undefined
 * (a share of nothing, a correlation with a constant) is NaN, not an error; NaN or infinite input
 * is LODE_ERR_NUMERIC, and so is a negative share. Everything here is Local.
 */
#ifndef LODE_SCORE_CONCENTRATION_H
#define LODE_SCORE_CONCENTRATION_H

#include <stdint.h>

#include "base/error.h"

/* Gini coefficient Σ_i (2i − n − 1)·x_(i) / (n·Σ x), x_(1) ≤ … ≤ x_(n): 0 where all are equal,
 * (n − 1)/n where one has all, NaN where all are 0.
 *   gini out;  values [count] in, ≥ 0;  what  names the array in messages */
LODE_MUST_USE lode_status_t lode_concentration_gini(double *gini, const double *values,
                                                    int64_t count, const char *what);

/* The same from an order that is known already, of values that are known to be shares.
 *   values [count] in, ≥ 0;  descending [count] in, as lode_order_top() gives all of them */
double lode_concentration_gini_of(const double *values, const int32_t *descending, int64_t count);

/* Effective number exp(H(p)), p = x/Σx, H = −Σ p ln p: `count` where all are equal, 1 where one has
 * all, NaN where all are 0.
 *   effective out;  values [count] in, ≥ 0 */
LODE_MUST_USE lode_status_t lode_concentration_effective(double *effective, const double *values,
                                                         int64_t count, const char *what);

/* Spearman's rank correlation: Pearson's of the average ranks (lode_order_ranks), NaN where either
 * array is constant or count < 2. Ranks do not change under a logarithm, so this is also the
 * correlation of the logs.
 *   rho out, in [−1, 1];  a, b [count] in;  what  names the pair in messages */
LODE_MUST_USE lode_status_t lode_concentration_spearman(double *rho, const double *a,
                                                        const double *b, int64_t count,
                                                        const char *what);

/* The same from ranks that are known already.
 *   a, b [count] in, as lode_order_ranks() gives them */
double lode_concentration_rank_correlation(const double *a, const double *b, int64_t count);

/* Jaccard index |A ∩ B| / |A ∪ B| of two sets of indices in any order; 1 where both are empty.
 *   jaccard out;  a [a_count], b [b_count] in, 0 ≤ index < extent, no index twice (else
 *   LODE_ERR_INTERNAL);  extent  number of channels */
LODE_MUST_USE lode_status_t lode_concentration_jaccard(double *jaccard, const int32_t *a,
                                                       int64_t a_count, const int32_t *b,
                                                       int64_t b_count, int64_t extent);

#endif
