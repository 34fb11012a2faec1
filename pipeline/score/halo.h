/* score/halo: the channels that write where the core writes, how redundant they are to it, and what
 * that is worth in protection.
 *
 * Source: Supernodes and Halos (arXiv:2604.23475). Wdown is [hidden, channels]: channel j writes
 * through column j. One layer at a time; everything here is Local. Weights may be F32, F16 or BF16,
 * unaligned; a non-finite weight is LODE_ERR_NUMERIC, a tensor of the wrong shape LODE_ERR_SHAPE.
 */
#ifndef LODE_SCORE_HALO_H
#define LODE_SCORE_HALO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/tensor.h"

/* Write support S: the `support_size` rows h of Wdown of largest a_h = Σ_{s∈core} |Wdown[h,s]|
 * (summed in the order of `core`), largest first, the lower row first among equals.
 *   support [support_size] out, row indices
 *   down    in, [hidden, channels]
 *   core    [core_size] in
 * Errors: LODE_ERR_CONFIG, naming classify.write_support, unless 1 ≤ support_size < hidden: with
 * every row in S connectivity would be 1 everywhere. */
LODE_MUST_USE lode_status_t lode_halo_support(int32_t *support, int64_t support_size,
                                              const lode_tensor_t *down, const int32_t *core,
                                              int64_t core_size);

/* Conn_j = Σ_{h∈S} |Wdown[h,j]| / Σ_h |Wdown[h,j]|, sums in ascending row order; 0 for a column of
 * zeros, which writes nowhere.
 *   connectivity [channels] out, in [0, 1];  down in, [hidden, channels];  support in */
LODE_MUST_USE lode_status_t lode_halo_connectivity(double *connectivity, const lode_tensor_t *down,
                                                   const int32_t *support, int64_t support_size);

/* Channels in the halo: max(1, ⌊halo_fraction·(channels − core_size)⌋), floor of the double
 * product; 0 where there is nothing but core. */
int64_t lode_halo_size(double halo_fraction, int64_t channels, int64_t core_size);

/* The halo: the `halo_size` channels outside the core of largest connectivity, largest first, the
 * lower index first among equals.
 *   halo [halo_size] out;  connectivity [channels] in;  core [core_size] in */
LODE_MUST_USE lode_status_t lode_halo_select(int32_t *halo, int64_t halo_size,
                                             const double *connectivity, int64_t channels,
                                             const int32_t *core, int64_t core_size);

typedef struct lode_redundancy {
    int64_t top_k; /* of the core channels, how many of the most redundant are averaged; ≥ 1 */
    bool positive_only; /* anticorrelated channels count as independent */
} lode_redundancy_t;

/* Redundancy of each halo channel to the core. r_js is Pearson's correlation of q_j and q_s over
 * the tokens, in float64 and scale-free (the variances are divided by as they are; a channel that
 * never varies has r = 0), clamped to ±0.9999. Red_js = −½·ln(1 − r²), with max(0, r) in place of r
 * where positive_only. The result is the mean of the min(top_k, core_size) largest Red_js.
 *   redundancy [halo_size] out, nats, ≥ 0, in the order of `halo`
 *   q          in, q[t·stride + j], t < tokens; a layer of f32 [tokens, L, m] has stride L·m
 *   tokens     ≥ 1;  channels  extent of the indices in core and halo
 * Errors: LODE_ERR_NUMERIC where q of a channel in use is not finite, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_halo_redundancy(double *redundancy, const float *q, int64_t tokens,
                                                 int64_t stride, int64_t channels,
                                                 const int32_t *core, int64_t core_size,
                                                 const int32_t *halo, int64_t halo_size,
                                                 lode_redundancy_t options);

/* Protection factor P: floor + (1 − floor)·(1 − rank^power) in the halo, 1 outside it and for the
 * core. rank runs from 0 for the least redundant halo channel to 1 for the most redundant; equal
 * redundancies keep the order of `halo`. A halo of one channel has P = 1.
 *   protection [channels] out, in [floor, 1];  halo [halo_size], redundancy [halo_size] in
 *   floor  in [0, 1];  power  > 0 */
LODE_MUST_USE lode_status_t lode_halo_protection(double *protection, int64_t channels,
                                                 const int32_t *halo, const double *redundancy,
                                                 int64_t halo_size, double floor, double power);

#endif
