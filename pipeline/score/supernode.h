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

/* How firm a core is when the calibration sequences are drawn again. */
typedef struct lode_stability {
    double mass;                /* core mass of all sequences */
    double mass_low, mass_high; /* percentile interval of the redrawn core mass */
    double jaccard;             /* mean Jaccard index of the redrawn core with the full one */
    double jaccard_low;         /* its lower percentile, (1 − level)/2 */
} lode_stability_t;

/* Bootstrap over sequences: each draw takes `sequences` of them with replacement, adds up their
 * loss-proxy sums, and finds core and core mass anew. Percentiles interpolate linearly between the
 * sorted draws. Depends on the arguments alone, not on ranks.
 *   stability   out
 *   sums        in, sums[s·stride + j] = ½·Σ_t q_tj² over sequence s, undivided
 *   sequences   ≥ 1;  stride  elements from one sequence to the next, ≥ channels (L·m of [S,L,m])
 *   core_size   1 … channels
 *   draws       ≥ 1;  level  of the interval, in (0, 1), as 0.95;  seed, layer  name the stream
 * Draws in which every LP is 0 leave no core and are left out; where all are, everything is NaN.
 * Errors: LODE_ERR_NUMERIC, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_supernode_bootstrap(lode_stability_t *stability,
                                                     const double *sums, int64_t sequences,
                                                     int64_t stride, int64_t channels,
                                                     int64_t core_size, int64_t draws, double level,
                                                     int64_t seed, int64_t layer);

#endif
