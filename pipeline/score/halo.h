/* score/halo: the channels that write where the core writes, those of the next layer that read
 * there, and what the halo's redundancy to the core (score/redundancy.h) is worth in protection.
 *
 * Source: Supernodes and Halos (arXiv:2604.23475). Wdown is [hidden, channels]: channel j writes
 * through column j. One layer at a time; everything here is Local. Weights may be F32, F16 or BF16,
 * unaligned; a non-finite weight is LODE_ERR_NUMERIC, a tensor of the wrong shape LODE_ERR_SHAPE.
 */
#ifndef LODE_SCORE_HALO_H
#define LODE_SCORE_HALO_H

#include <stdint.h>

#include "base/error.h"
#include "model/tensor.h"

/* a_h = Σ_{s∈set} |Wdown[h,s]|, how much some channels write into each dimension, summed in the
 * order of the set.
 *   written [hidden] out;  down in, [hidden, channels];  set [count] in */
LODE_MUST_USE lode_status_t lode_halo_written(double *written, const lode_tensor_t *down,
                                              const int32_t *set, int64_t count);

/* Write support S: the `support_size` rows h of Wdown of largest a_h of the core, largest
 * first, the lower row first among equals.
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

/* How much each channel reads from a write support, that of the layer before:
 * (Σ_{h∈S} |Wgate[j,h]| + Σ_{h∈S} |Wup[j,h]|) / (Σ_h |Wgate[j,h]| + Σ_h |Wup[j,h]|), sums over gate
 * before up, in the order of the support and of h; 0 for a channel that reads nothing. Weights
 * are taken as they are: the norm between the layers scales dimensions, and has no part in it.
 *   connectivity [channels] out, in [0, 1];  support in
 *   gate, up  in, [channels, hidden]; gate's data is NULL in a block without a gate, where up alone
 *             counts */
LODE_MUST_USE lode_status_t lode_halo_read_connectivity(double *connectivity,
                                                        const lode_tensor_t *gate,
                                                        const lode_tensor_t *up,
                                                        const int32_t *support,
                                                        int64_t support_size);

/* Channels in the halo: max(1, ⌊halo_fraction·(channels − core_size)⌋), floor of the double
 * product; 0 where there is nothing but core. */
int64_t lode_halo_size(double halo_fraction, int64_t channels, int64_t core_size);

/* The halo: the `halo_size` channels outside the core of largest connectivity, largest first, the
 * lower index first among equals.
 *   halo [halo_size] out;  connectivity [channels] in;  core [core_size] in */
LODE_MUST_USE lode_status_t lode_halo_select(int32_t *halo, int64_t halo_size,
                                             const double *connectivity, int64_t channels,
                                             const int32_t *core, int64_t core_size);

/* Protection factor P: floor + (1 − floor)·(1 − rank^power) in the halo, 1 outside it and for the
 * core. rank runs from 0 for the least redundant halo channel to 1 for the most redundant; equal
 * redundancies keep the order of `halo`. A halo of one channel has P = 1.
 *   protection [channels] out, in [floor, 1];  halo [halo_size], redundancy [halo_size] in
 *   floor  in [0, 1];  power  > 0 */
LODE_MUST_USE lode_status_t lode_halo_protection(double *protection, int64_t channels,
                                                 const int32_t *halo, const double *redundancy,
                                                 int64_t halo_size, double floor, double power);

#endif
