/* stages/accumulate: backward statistics of the calibration sequences.
 *
 * Reads tokenize.h5 and the checkpoint; writes accumulate.h5, with q = u ⊙ dL/du: /loss_proxy,
 * /activation_power, /taylor, /curvature f64 [L, m], means over tokens; the same per sequence under
 * /sequences as sums (loss_proxy with its ½); /sequences/loss f64 [S], mean next-token loss in
 * nats; /redundancy/q f32 [tokens, L, m] of the first classify.redundancy.sequences sequences, each
 * cut at its max_length, with /redundancy/offsets i64; root attributes tokens, sequences.
 */
#ifndef LODE_STAGES_ACCUMULATE_H
#define LODE_STAGES_ACCUMULATE_H

#include "common/run.h"
#include "common/size.h"

typedef struct lode_accumulate lode_accumulate_t;

/* Creates the file for the sequences of `text`, which must outlive it. On failure *accumulate is
 * NULL, on all ranks. Collective. */
LODE_MUST_USE lode_status_t lode_accumulate_begin(lode_accumulate_t **accumulate, lode_run_t *run,
                                                  const lode_text_t *text);

/* Observes one layer's backward, as lode_observer_t ffn_backward. Local. */
LODE_MUST_USE lode_status_t lode_accumulate_ffn(lode_accumulate_t *accumulate,
                                                const lode_batch_t *batch, int64_t layer,
                                                const lode_real_t *u, const lode_real_t *g);

/* Observes the losses of a micro-batch, as lode_observer_t losses. Local. */
LODE_MUST_USE lode_status_t lode_accumulate_losses(lode_accumulate_t *accumulate,
                                                   const lode_batch_t *batch, const double *nll);

/* Whether an interrupted run has done a micro-batch. Local. */
bool lode_accumulate_done(const lode_accumulate_t *accumulate, const lode_batch_t *batch);

/* Sums up and commits, or abandons where `status`, which is the same on all ranks, is an error.
 * Releases *accumulate. Collective. */
LODE_MUST_USE lode_status_t lode_accumulate_end(lode_accumulate_t **accumulate,
                                                lode_status_t status);

/* What the stage takes for the sequences of `text`, of which only the offsets are read. Local. */
LODE_MUST_USE lode_status_t lode_accumulate_size(lode_stage_size_t *size, lode_run_t *run,
                                                 const lode_text_t *text);

/* The stage. Collective. */
LODE_MUST_USE lode_status_t lode_stage_accumulate(lode_run_t *run);

#endif
