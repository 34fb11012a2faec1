/* score/supernode: the core of a layer, the few channels that carry most of the loss proxy.
 *
 * Source: Supernodes and Halos (arXiv:2604.23475), section on supernodes. LP, the loss proxy of
 * channel j, is ½·mean_t q_tj². One layer at a time; everything here is Local.
 */
#ifndef LODE_SCORE_SUPERNODE_H
#define LODE_SCORE_SUPERNODE_H

#include <stdint.h>

#include "base/error.h"

/* Channels in the core: max(1, ⌊core_fraction·channels⌋), floor of the double product. */
int64_t lode_supernode_size(double core_fraction, int64_t channels);

/* The core: the `core_size` channels of largest loss proxy, largest first, the lower index first
 * among equals.
 *   core       [core_size] out, channel indices; 1 ≤ core_size ≤ channels
 *   loss_proxy [channels] in, ≥ 0
 * Errors: LODE_ERR_NUMERIC (NaN, infinite or negative loss proxy), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_supernode_select(int32_t *core, int64_t core_size,
                                                  const double *loss_proxy, int64_t channels);

/* Core mass Σ_core LP / Σ LP, summed in the orders of `core` and of the index; NaN where
 * every LP is 0.
 *   mass out, in [0, 1];  core [core_size] in;  loss_proxy [channels] in */
LODE_MUST_USE lode_status_t lode_supernode_mass(double *mass, const int32_t *core,
                                                int64_t core_size, const double *loss_proxy,
                                                int64_t channels);

#endif
