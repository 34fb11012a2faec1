/* stages/classify: core, connectivity, halo, redundancy and protection of every layer.
 *
 * Reads accumulate.h5 and the down projections; writes classify.h5: /core i32 [L, k], /halo i32
 * [L, h], /connectivity f64 [L, m], /redundancy_to_core f64 [L, h] in the order of /halo,
 * /protection f64 [L, m], /core_mass f64 [L], and from the sequences' bootstrap
 * /core_mass_interval f64 [L, 2] (95 %) and /core_stability f64 [L] (mean Jaccard index).
 */
#ifndef LODE_STAGES_CLASSIFY_H
#define LODE_STAGES_CLASSIFY_H

#include "common/run.h"

/* Errors: LODE_ERR_NUMERIC for statistics that are not finite, LODE_ERR_IO, LODE_ERR_MEMORY.
 * Collective. */
LODE_MUST_USE lode_status_t lode_stage_classify(lode_run_t *run);

#endif
