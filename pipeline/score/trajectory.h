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

/* Cores of bootstrap draws over sequences (score/resample.h): each draw takes `sequences` of them
 * with replacement, adds up their sums in their order, and takes the core_size channels of largest
 * sum, the lower index first among equals. The draws of one seed and layer are the same for all
 * checkpoints that have as many sequences, so that overlaps of two of them are of paired draws.
 *   cores [draws, core_size] out; −1 throughout a draw in which every sum is 0
 *   seed, layer  name the stream
 * Errors: LODE_ERR_NUMERIC (a sum that is not finite), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_trajectory_cores(int32_t *cores, int64_t draws,
                                                  const lode_trajectory_sums_t *sums,
                                                  int64_t core_size, int64_t seed, int64_t layer);

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
