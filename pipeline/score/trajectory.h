/* score/trajectory: how a model's concentration comes about over training, checkpoint by
 * checkpoint.
 *
 * Source: Supernodes and Halos (arXiv:2604.23475), which follows the loss concentration through
 * pretraining. A checkpoint's core are its core_size channels of largest loss proxy (LP); the
 * overlap with the last checkpoint is the share of the last one's core that is core already. One
 * layer at a time; everything here is Local.
 */
#ifndef LODE_SCORE_TRAJECTORY_H
#define LODE_SCORE_TRAJECTORY_H

#include <stdint.h>

#include "base/error.h"

/* What each sequence of the calibration adds to a layer's LP. */
typedef struct lode_trajectory_sums {
    int64_t channels, sequences; /* both ≥ 1 */
    int64_t stride;              /* from sequence to sequence, ≥ channels: L·m of [S,L,m] */
    const double *sums;          /* undivided, ≥ 0 */
} lode_trajectory_sums_t;

/* What bootstrap draws over sequences (score/resample.h) make of one layer. */
typedef struct lode_trajectory_draws {
    int64_t count;           /* draws */
    int64_t core_size;       /* 1 … channels */
    const double *fractions; /* [fraction_count] in (0, 1] */
    int64_t fraction_count;
    int32_t *cores; /* [count, core_size] out: the channels of largest LP, the lower index first
                     * among equals; −1 throughout a draw in which every sum is 0 */
    double *ranks;  /* [count, channels] out: of the LPs, as lode_order_ranks() gives them */
    double *masses; /* [fraction_count, count] out: as lode_trajectory_masses() has them */
} lode_trajectory_draws_t;

/* Fills the arrays of `draws`: each draw takes `sequences` of them with replacement and adds up
 * their sums in their order. The draws of one seed and layer are the same for all checkpoints that
 * have as many sequences, so that what is compared of two of them is of paired draws.
 *   seed, layer  name the stream
 * Errors: LODE_ERR_NUMERIC (a sum that is not finite), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_trajectory_draw(const lode_trajectory_draws_t *draws,
                                                 const lode_trajectory_sums_t *sums, int64_t seed,
                                                 int64_t layer);

/* Spearman's correlation of the draws' LPs with those of the same number of another checkpoint;
 * NaN where either is constant, as that of an empty draw is.
 *   rhos [count] out;  ranks, lasts [count, channels] in, as of lode_trajectory_draw() */
void lode_trajectory_correlations(double *rhos, int64_t count, const double *ranks,
                                  const double *lasts, int64_t channels);

/* Share of each last core that is in the core of the same number; NaN where either is empty (−1).
 *   shares [count] out;  cores [count, core_size], lasts [count, last_size] in, indices below
 *   `channels`, no index twice in a core, −1 behind the last of a shorter one
 * Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_trajectory_overlaps(double *shares, int64_t count,
                                                     const int32_t *cores, int64_t core_size,
                                                     const int32_t *lasts, int64_t last_size,
                                                     int64_t channels);

/* Shares of the sum that the largest values have: for each fraction those of the
 * max(1, ⌊fraction·channels⌋) channels of largest value; NaN where all are 0.
 *   masses [count] out;  fractions [count] in, in (0, 1];  values [channels] in, ≥ 0
 * Errors: LODE_ERR_NUMERIC, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_trajectory_masses(double *masses, const double *fractions,
                                                   int64_t count, const double *values,
                                                   int64_t channels, const char *what);

/* How far a layer's activations reach out of the ordinary. */
typedef struct lode_trajectory_reach {
    double ratio;    /* the largest of `largest` over their median; NaN where that is 0 */
    double outliers; /* share of channels whose `largest` is over `threshold` times the median */
    double kurtosis; /* over channels of √power: mean fourth power of deviations over their squared
                      * variance, 3 of a normal distribution; NaN where all are equal */
} lode_trajectory_reach_t;

/*   largest [channels] in, the largest |u| of each channel; NULL: ratio and outliers are NaN
 *   power   [channels] in, ≥ 0, mean over tokens of u²
 * Errors: LODE_ERR_NUMERIC, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_trajectory_reach(lode_trajectory_reach_t *reach,
                                                  const double *largest, const double *power,
                                                  int64_t channels, double threshold);

#endif
