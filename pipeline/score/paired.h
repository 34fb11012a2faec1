/* score/paired: whether one variant does better than another on the same tokens.
 *
 * Two variants that read the same text make their errors at the same hard words, so the losses are
 * compared token by token: d_t = nll_a(t) − nll_b(t), and Δ = mean d_t is the log of the ratio of
 * the two perplexities. Neighbouring d_t are correlated (a passage that suits one variant is longer
 * than a token), which makes the usual standard error of a mean too small. The interval therefore
 * rests on means over long blocks of consecutive targets:
 *
 *   The N targets, in text order, are cut into B equal blocks (whole tokens, so lengths differ by
 *   one at most), B = min(32, ⌊N/64⌋). With D_i the mean of d over block i and s² the variance of
 *   the D_i, the interval of level 1 − α is Δ ± t(1 − α/2; B − 1)·s/√B, t Student's quantile.
 *
 * B stays at 32 however long the text is: blocks then outgrow any correlation of fixed reach, while
 * the quantile, 2.04 rather than 1.96, pays for what few blocks leave uncertain. Blocks may be
 * shorter than a window of the evaluation or span several; texts run on from window to window.
 * Sources: Schmeiser, Batch size effects in the analysis of simulation output, Operations Research
 * 30 (1982) 556–568; Ibragimov and Müller, t-statistic based correlation and heterogeneity robust
 * inference, Journal of Business & Economic Statistics 28 (2010) 453–468, who show that a test at
 * 5 % also holds where the blocks differ in variance.
 *
 * Everything here is Local, and nothing is drawn at random.
 */
#ifndef LODE_SCORE_PAIRED_H
#define LODE_SCORE_PAIRED_H

#include <stdint.h>

#include "base/error.h"

enum { LODE_PAIRED_BLOCKS = 32, LODE_PAIRED_BLOCK_TARGETS = 64, LODE_PAIRED_FEWEST_BLOCKS = 8 };

/* Blocks for so many targets: min(32, ⌊targets/64⌋), 0 where that leaves fewer than 8: too short a
 * text for an interval. */
int64_t lode_paired_blocks(int64_t targets);

/* Means over the blocks of one variant's losses; sums run in text order.
 *   means [blocks] out, nats;  1 ≤ blocks ≤ targets
 *   nll   [targets] in, nats, in text order; what is not finite makes its block's mean so */
void lode_paired_block_means(double *means, int64_t blocks, const double *nll, int64_t targets);

typedef struct lode_paired {
    double difference;     /* mean of nll_a − nll_b, nats a target; negative where a is better */
    double standard_error; /* of it */
    double low, high;      /* interval */
    double p;              /* two-sided, of no difference; 1 where all block means are equal */
} lode_paired_t;

/* Compares two variants.
 *   result  out; difference is NaN where a block mean is not finite, the rest too where
 *           blocks < 2
 *   a, b    [blocks] in, of lode_paired_block_means over the same targets
 *   targets in all;  level  of the interval, in (0, 1), as 0.95 */
void lode_paired_compare(lode_paired_t *result, const double *a, const double *b, int64_t blocks,
                         int64_t targets, double level);

/* Two-sided p of Student's t with `freedom` ≥ 1 degrees of freedom: P(|T| ≥ |t|). By the finite
 * series of Abramowitz and Stegun 26.7.3 and 26.7.4; absolute error about 1e-15. */
double lode_student_p(double t, int64_t freedom);

/* The t with P(|T| ≥ t) = 1 − level; level in (0, 1). */
double lode_student_quantile(double level, int64_t freedom);

/* Holm's step-down adjustment: with adjusted[i] < α as the test of comparison i, the chance of any
 * false finding among all is at most α, however they depend on each other (Holm, A simple
 * sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979)
 * 65–70). NaN stays NaN and counts as no comparison.
 *   adjusted [count] out, in [0, 1];  p [count] in
 * Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_paired_holm(double *adjusted, const double *p, int64_t count);

#endif
