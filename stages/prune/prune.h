/* stages/prune: scores, and which channels every variant keeps.
 *
 * Reads calibrate.h5, accumulate.h5, classify.h5 and the FFN weights; writes prune.h5:
 * /scores/<method> f64 [L, m] and /keep/<variant> u8 [L, m] for the product of prune.methods,
 * sparsity, cores, allocation and compensation, variants named as lode_variant_name does and
 * carrying the attributes method, sparsity, core (what is protected), allocation and compensation.
 * Variants that differ in their compensation alone have equal masks.
 *
 * For sparsegpt-channel also reads moments.h5, and writes /moments/inverse_input f64 [L, d] and
 * /moments/inverse_u f64 [L, m], the diagonals of (E[h hᵀ] + 1 %)⁻¹ and (E[u uᵀ] + 1 %)⁻¹, 1 %
 * being of the mean diagonal. These come from ScaLAPACK and agree to 1e-10 relative over rank
 * counts; everything else is bit-identical.
 */
#ifndef LODE_STAGES_PRUNE_H
#define LODE_STAGES_PRUNE_H

#include "common/run.h"
#include "common/size.h"

/* What the stage takes on `ranks` ranks. Local. */
LODE_MUST_USE lode_status_t lode_prune_size(lode_stage_size_t *size, lode_run_t *run, int ranks);

/* Errors: LODE_ERR_CONFIG where a sparsity leaves nothing to keep or protects too much,
 * LODE_ERR_NUMERIC, LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_stage_prune(lode_run_t *run);

#endif
