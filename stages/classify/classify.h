/* stages/classify: core, connectivity, halo, redundancy and protection of every layer, how evenly
 * its channels write, and what they are compared with.
 *
 * Reads accumulate.h5 and the weights of the FFN blocks; writes classify.h5, k core channels, h
 * halo channels, K write support, n random channels:
 *
 * /core i32 [L, k] (LP descending), /halo i32 [L, h] (Conn descending), /write_support i32 [L, K],
 * /connectivity f64 [L, m], /redundancy_to_core f64 [L, h] in the order of /halo, /protection f64
 * [L, m], /entropy f64 [L, m] (nats, of the write weights, form absolute of score/entropy.h;
 * attribute uniform: ln d, the most there is), /core_mass f64 [L], with the bootstrap over
 * sequences: /core_mass_interval f64 [L, 2], /core_stability f64 [L] (mean Jaccard index),
 * /core_stability_interval f64 [L, 2]; root attribute write_support.
 *
 * /structure/<figure> f64 [L] and <figure>_interval f64 [L, 2], bootstrap over sequences, of the
 * figures of score/structure.h.
 *
 * /controls, unless classify.controls.channels is 0 (score/control.h):
 * random i32 [L, n]                 random channels outside core and halo; fewer than
 *                                   classify.controls.channels where there are fewer
 * random_core i32 [L, k]            a random core outside both; −1 where too few are left, and what
 *                                   depends on it is NaN
 * random_halo i32 [L, h]            the halo that the same rule finds of the random core; it may
 *                                   hold supernodes
 * random_redundancy_to_core f64 [L, n]
 * write_dimensions_core f64 [L]     effective number of dimensions that the core writes
 * write_dimensions_random f64 [L, draws]  … and as many random sets of k channels of the layer
 * and mean redundancies f64 [L], each with <name>_interval f64 [L, 2], bootstrap over channels:
 * halo_to_core, random_to_core, halo_to_random_core, random_halo_to_random_core (means of the
 * redundancy to that core), halo_halo, non_non, halo_non (means over all pairs of halo and random
 * channels).
 * With classify.controls.nodelens: redundancy_to_core_scale_free, redundancy_to_core_nodelens f64
 * [L, h], both forms of score/redundancy.h, whichever of them is /redundancy_to_core.
 * With classify.controls.read_halo: read_connectivity f64 [L, m], how much of what a channel reads
 * it reads where the core of the layer before writes; row 0 is NaN.
 *
 * All intervals are percentile intervals of 95 %, of classify.controls.draws draws.
 */
#ifndef LODE_STAGES_CLASSIFY_H
#define LODE_STAGES_CLASSIFY_H

#include "common/run.h"
#include "common/size.h"

/* What the stage takes for so many calibration sequences, with q of `tokens` tokens kept. Local. */
LODE_MUST_USE lode_status_t lode_classify_size(lode_stage_size_t *size, lode_run_t *run,
                                               int64_t sequences, int64_t tokens);

/* Errors: LODE_ERR_NUMERIC for statistics that are not finite, LODE_ERR_IO, LODE_ERR_MEMORY.
 * Collective. */
LODE_MUST_USE lode_status_t lode_stage_classify(lode_run_t *run);

#endif
