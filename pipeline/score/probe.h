/* score/probe: which channels the causal checks take out, and the figures of what that does.
 *
 * Source: Supernodes and Halos (arXiv:2604.23475), its causal checks; how it draws is said nowhere,
 * so the rules here are ours. A draw depends on the experiment's seed, the layer and the number of
 * the draw, never on ranks. LP is the loss proxy. One layer at a time; everything here is Local,
 * and any function may return LODE_ERR_MEMORY.
 */
#ifndef LODE_SCORE_PROBE_H
#define LODE_SCORE_PROBE_H

#include <stdint.h>

#include "base/error.h"

/* Names a stream of draws. */
typedef struct lode_probe_stream {
    int64_t seed, layer, draw;
} lode_probe_stream_t;

/* --- channels -------------------------------------------------------------------------------- */

/* Core channels that a rate removes: ⌊rate·core_size⌋, floor of the double product, so that a small
 * core loses none at a small rate. */
int64_t lode_probe_core_removed(double rate, int64_t core_size);

/* A random mask that removes exactly `core_removed` channels of the core and `removed` in all. The
 * masks of one draw are nested: both the core and the other channels go in an order that the stream
 * alone decides, so that rates differ by what they ask for and by nothing else.
 *   keep [channels] out, u8, 1 = kept;  core [core_size] in
 * Errors: LODE_ERR_CONFIG, naming probe.sparsity and probe.rates, where the core alone is more than
 * `removed`, or the other channels are too few. */
LODE_MUST_USE lode_status_t lode_probe_random_mask(uint8_t *keep, int64_t channels,
                                                   const int32_t *core, int64_t core_size,
                                                   int64_t core_removed, int64_t removed,
                                                   lode_probe_stream_t stream);

/* A uniform draw of `count` channels among those not excluded.
 *   set      [count] out, ascending
 *   excluded [channels] in, u8, nonzero = never drawn; NULL: none
 *   purpose  names the stream beside seed, layer and draw; "random core" with nothing excluded is
 *            what lode_mask_protect draws for LODE_CORE_RANDOM, as draw 0
 * Errors: LODE_ERR_CONFIG, naming classify.core_fraction, where too few are left. */
LODE_MUST_USE lode_status_t lode_probe_random_set(int32_t *set, int64_t count, int64_t channels,
                                                  const uint8_t *excluded, const char *purpose,
                                                  lode_probe_stream_t stream);

/* A sample spread evenly over quantile bins of log LP. Bin b of B is channels ⌊b·m/B⌋ to
 * ⌊(b+1)·m/B⌋ in ascending order of LP, the lower index first among equals: ranks do not change
 * under a logarithm, and channels of LP 0 come first. Every bin gives as many channels as any
 * other, to within one, drawn uniformly; where `bins` divides `count`, as many.
 *   sample [count] out, by bin, ascending within it;  bin [count] out, 0 … bins − 1
 *   loss_proxy [channels] in;  count ≤ channels;  bins ≥ 1, some empty where there are more of them
 *   than channels
 * Errors: LODE_ERR_NUMERIC. */
LODE_MUST_USE lode_status_t lode_probe_binned_sample(int32_t *sample, int32_t *bin, int64_t count,
                                                     const double *loss_proxy, int64_t channels,
                                                     int64_t bins, lode_probe_stream_t stream);

/* What a channel is to lode_probe_matched_set. */
enum { LODE_PROBE_OTHER = 0, LODE_PROBE_HALO = 1, LODE_PROBE_CORE = 2 };

/* For each channel of `set`, all of them in the halo, another outside halo and core from the same
 * decile of LP; deciles are the bins above, of all channels outside the core. A decile that has too
 * few gives all, and the rest comes from the nearest one that still has some, the lower at equal
 * distance.
 *   matched [count] out, ascending, no channel twice;  set [count] in
 *   role [channels] in, LODE_PROBE_OTHER, _HALO or _CORE;  loss_proxy [channels] in
 * Errors: LODE_ERR_CONFIG, naming classify.halo_fraction, where fewer than `count` are outside
 * both; LODE_ERR_NUMERIC. */
LODE_MUST_USE lode_status_t lode_probe_matched_set(int32_t *matched, const int32_t *set,
                                                   int64_t count, const uint8_t *role,
                                                   const double *loss_proxy, int64_t channels,
                                                   lode_probe_stream_t stream);

/* --- figures --------------------------------------------------------------------------------- */

/* Mean and variance of a sequence's losses: Σx/n in the order given, Σ(x − mean)²/n. n ≥ 1. */
void lode_probe_moments(double *mean, double *variance, const double *nll, int64_t count);

/* Perplexity of sequences of `targets` scored tokens each, exp of the mean over all of them, and
 * its standard error: that of the mean over N tokens, √(Σ(x − mean)²/(N − 1)/N), times the
 * perplexity; NaN for one token. Sequences of equal length have the plain mean of their means, as
 * the protocol gptq asks for.
 *   mean, variance [sequences] in, of each sequence's losses;  targets [sequences] in, ≥ 1 */
void lode_probe_figures(double *perplexity, double *standard_error, const double *mean,
                        const double *variance, const int64_t *targets, int64_t sequences);

/* ΔNLL = Σ_s n_s·(nll_s − dense_s) / Σ_s n_s with n = targets, and its standard error over
 * sequences, paired: the sequences are taken for a sample, and Δ for a ratio of two of its means,
 * √(S/(S − 1)·Σ_s (n_s·(nll_s − dense_s − Δ))²) / Σ_s n_s; NaN for one sequence.
 *   nll, dense [sequences] in, means of each sequence */
void lode_probe_difference(double *delta, double *standard_error, const double *nll,
                           const double *dense, const int64_t *targets, int64_t sequences);

/* Spearman's correlation of a and b over channels, and its percentile interval when the channels
 * are drawn again with replacement, `draws` times; draws in which a or b is constant are left out.
 * All correlations of one stream see the same draws. NaN where it is undefined. rho out;  interval
 * [2] out;  a, b [count] in;  level in (0, 1), as 0.95 Errors: LODE_ERR_NUMERIC. */
LODE_MUST_USE lode_status_t lode_probe_spearman(double *rho, double interval[2], const double *a,
                                                const double *b, int64_t count, int64_t draws,
                                                double level, lode_probe_stream_t stream);

#endif
