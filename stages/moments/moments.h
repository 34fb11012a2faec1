/* stages/moments: second moments of what the feed-forward blocks read and of their channels.
 *
 * Reads tokenize.h5 and the checkpoint; writes moments.h5: /second_moment [L, m(m+1)/2], the means
 * over all calibration tokens of u uᵀ, and /input_second_moment [L, d(d+1)/2], those of h hᵀ, h the
 * block's input. Symmetric, so only lower triangles are kept, packed by rows (linalg/packed.h), in
 * the type that calibration.second_moment names; root attributes tokens, sequences.
 *
 * During the forward pass every rank spools h and u of its layers as computed, in float32. Then all
 * ranks together take the moments of one layer after the other, in float64; the result is
 * bit-identical for any number of ranks.
 */
#ifndef LODE_STAGES_MOMENTS_H
#define LODE_STAGES_MOMENTS_H

#include "common/run.h"
#include "common/size.h"

typedef struct lode_moments lode_moments_t;

/* Creates the file, and the scratch file, for the text of `batches`, which must outlive it. On
 * failure *moments is NULL, on all ranks. Errors: LODE_ERR_IO where the disk lacks the space,
 * LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_moments_begin(lode_moments_t **moments, lode_run_t *run,
                                               const lode_batches_t *batches);

/* Observes one layer's forward, as lode_observer_t ffn_forward. Local. */
LODE_MUST_USE lode_status_t lode_moments_ffn(lode_moments_t *moments, const lode_batch_t *batch,
                                             int64_t layer, const lode_real_t *h,
                                             const lode_real_t *u);

/* Whether an interrupted run has done a micro-batch. Local. */
bool lode_moments_done(const lode_moments_t *moments, const lode_batch_t *batch);

/* Computes the moments and commits, or abandons where `status`, which is the same on all ranks, is
 * an error. Releases *moments. Collective. */
LODE_MUST_USE lode_status_t lode_moments_end(lode_moments_t **moments, lode_status_t status);

/* What the stage takes on `ranks` ranks for the text of `batches`, of which only the offsets are
 * read. `memory` is that of the end; while the pass runs a rank has lode_spool_memory(). Local. */
LODE_MUST_USE lode_status_t lode_moments_size(lode_stage_size_t *size, lode_run_t *run, int ranks,
                                              const lode_batches_t *batches);

/* The stage. Collective. */
LODE_MUST_USE lode_status_t lode_stage_moments(lode_run_t *run);

#endif
