/* report/training: how models were trained: train.h5 of all cases that have one. Local. */
#ifndef LODE_REPORT_TRAINING_H
#define LODE_REPORT_TRAINING_H

#include "report/plot.h"
#include "report/result.h"

/* Appends the section: charts of loss, gradient norm, learning rate and entropy against step, and a
 * table with a row for each run; nothing where nothing was trained. Runs share a chart where they
 * were trained on the same tokens, by the digests of their tokenize.h5. */
LODE_MUST_USE lode_status_t lode_training_page(lode_plot_t *plot, lode_buffer_t *page,
                                               const lode_report_case_t *cases, int64_t count);

/* Means over consecutive blocks of `block` values, the last perhaps of fewer, NaN left out.
 *   means [ceil(count/block)] out, NaN for a block without a number;  values [count] in
 * Returns the number of blocks. */
int64_t lode_training_means(double *means, const double *values, int64_t count, int64_t block);

/* Mean of the last twentieth of count ≥ 1 values, of one at least. */
double lode_training_final(const double *values, int64_t count);

#endif
