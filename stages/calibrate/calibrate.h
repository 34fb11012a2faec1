/* stages/calibrate: forward statistics of the calibration sequences.
 *
 * Reads tokenize.h5 and the checkpoint; writes calibrate.h5: /activation_mean and /activation_power
 * (means over tokens of u and u²), /activation_max (largest |u|), all f64 [L, m]; /input_power f64
 * [L, d] (Σ over all tokens of h², h the FFN's input); the same per sequence and undivided under
 * /sequences; with calibration.padding, /padded/u_power [L, m] and /padded/input_power [L, d], Σ
 * over all tokens of padded sequences of u² and h²; /logits f32 [tokens, V] of the first
 * keep_logits sequences; root attributes tokens, sequences.
 */
#ifndef LODE_STAGES_CALIBRATE_H
#define LODE_STAGES_CALIBRATE_H

#include "common/run.h"
#include "common/size.h"

typedef struct lode_calibrate lode_calibrate_t;

/* Creates the file for the sequences of `text`, which must outlive it, or goes on with it. On
 * failure *calibrate is NULL, on all ranks. Collective. */
LODE_MUST_USE lode_status_t lode_calibrate_begin(lode_calibrate_t **calibrate, lode_run_t *run,
                                                 const lode_text_t *text);

/* Observes one layer's forward, as lode_observer_t ffn_forward. Local. */
LODE_MUST_USE lode_status_t lode_calibrate_ffn(lode_calibrate_t *calibrate,
                                               const lode_batch_t *batch, int64_t layer,
                                               const lode_real_t *h, const lode_real_t *u);

/* The same of a pass over sequences padded with EOS, for calibration.padding. Local. */
LODE_MUST_USE lode_status_t lode_calibrate_padded(lode_calibrate_t *calibrate,
                                                  const lode_batch_t *batch, int64_t layer,
                                                  const lode_real_t *h, const lode_real_t *u);

/* Observes logits, as lode_observer_t logits. Local. */
LODE_MUST_USE lode_status_t lode_calibrate_logits(lode_calibrate_t *calibrate, int64_t first_token,
                                                  int64_t rows, const lode_real_t *logits);

/* The head has run for a micro-batch, after its logits. Local. */
LODE_MUST_USE lode_status_t lode_calibrate_head(lode_calibrate_t *calibrate,
                                                const lode_batch_t *batch);

/* Whether an interrupted run has done a micro-batch, and a padded one. Local. */
bool lode_calibrate_done(const lode_calibrate_t *calibrate, const lode_batch_t *batch);
bool lode_calibrate_padded_done(const lode_calibrate_t *calibrate, const lode_batch_t *batch);

/* Sums up and commits, or abandons where `status`, which is the same on all ranks, is an error.
 * Releases *calibrate. Collective. */
LODE_MUST_USE lode_status_t lode_calibrate_end(lode_calibrate_t **calibrate, lode_status_t status);

/* What the stage takes for the sequences of `text`, of which only the offsets are read. Local. */
LODE_MUST_USE lode_status_t lode_calibrate_size(lode_stage_size_t *size, lode_run_t *run,
                                                const lode_text_t *text);

/* The stage. Collective. */
LODE_MUST_USE lode_status_t lode_stage_calibrate(lode_run_t *run);

#endif
