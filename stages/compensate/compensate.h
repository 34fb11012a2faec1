/* stages/compensate: what makes up for the channels that a variant lacks.
 *
 * Reads prune.h5, the FFN weights, and what the compensations ask for: calibrate.h5 (bias),
 * moments.h5 (least-squares), tokenize.h5 (sequential). Writes compensate.h5, for every variant of
 * the experiment with a compensation, K its kept and R its removed channels of a layer:
 *
 *   bias           /bias/<variant> f64 [L, d] = Σ_{j∈R} v_j·E[u_j], added to the block's output
 *                  (FLAP, arXiv:2312.11983)
 *   least-squares  /down/<variant>/<layer> f32 [d, kept], in place of Wdown[:,K] (formula in
 *                  linalg/compensation.h), with C of the unpruned model
 *   sequential     the same, layer by layer, with C of the model as pruned and compensated below
 *
 * /ridge/<variant> f64 [L] is the λ that each layer's solve came to; root attribute ridge, as asked
 * for, relative. Solves are by ScaLAPACK: f32 values agree to rounding over rank counts.
 */
#ifndef LODE_STAGES_COMPENSATE_H
#define LODE_STAGES_COMPENSATE_H

#include "common/run.h"
#include "common/size.h"

/* What the stage takes on `ranks` ranks for `tokens` calibration tokens in micro-batches of up to
 * `max_tokens`; a global allocation is taken for a uniform one, which keeps as much in all.
 * `memory` leaves out the layers' and, of sequential compensation, that of one layer's activations.
 * Local. */
LODE_MUST_USE lode_status_t lode_compensate_size(lode_stage_size_t *size, lode_run_t *run,
                                                 int ranks, int64_t tokens, int64_t max_tokens);

/* Errors: LODE_ERR_NUMERIC (second moments that are not finite, or cannot be factored),
 * LODE_ERR_MEMORY (a rank's share of a layer's matrices is over the budget), LODE_ERR_IO.
 * Collective. */
LODE_MUST_USE lode_status_t lode_stage_compensate(lode_run_t *run);

#endif
