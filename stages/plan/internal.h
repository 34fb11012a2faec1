/* stages/plan/internal: what the forecast's own files share. Everything here is Local. */
#ifndef LODE_STAGES_PLAN_INTERNAL_H
#define LODE_STAGES_PLAN_INTERNAL_H

#include "evaluate/size.h"
#include "plan/forecast.h"
#include "probe/size.h"

/* Whether a stage keeps to the experiment's `memory`, or refuses to run where it cannot. */
bool lode_forecast_budgeted(lode_stage_t stage);
/* What `memory` must be for a rank to take one of the stage's figures, `bytes`. */
int64_t lode_forecast_setting(const lode_forecast_memory_t *memory, int64_t bytes);

/* Ids in tokenize.h5. */
int64_t lode_forecast_ids(const lode_forecast_texts_t *texts);

/* A text of `sequences` sequences of `length` tokens in micro-batches; for
 * lode_forecast_text_free, also on failure. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_forecast_even(lode_forecast_text_t *text, int64_t sequences,
                                               int64_t length, int64_t micro_batch);
/* The same of the first sequences of another text, as many as there are. */
LODE_MUST_USE lode_status_t lode_forecast_first(lode_forecast_text_t *text,
                                                const lode_forecast_text_t *from, int64_t sequences,
                                                int64_t micro_batch);
void lode_forecast_text_free(lode_forecast_text_t *text);

/* Extents of the evaluation's data sets. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_forecast_extents_create(lode_evaluate_extents_t *extents,
                                                         const lode_forecast_t *forecast);
void lode_forecast_extents_free(lode_evaluate_extents_t *extents);

/* The causal checks on the rank of `layout`. */
LODE_MUST_USE lode_status_t lode_forecast_probe(lode_probe_size_t *size, lode_forecast_t *forecast,
                                                const lode_layout_t *layout);

/* What training takes. A rank of its own layout, which may differ from that of the other stages:
 * the file, the state on disk, and memory beside what a pass keeps. *folders out: bytes of all
 * checkpoints. */
LODE_MUST_USE lode_status_t lode_forecast_train(lode_stage_size_t *size, int64_t *folders,
                                                lode_forecast_t *forecast,
                                                const lode_layout_t *layout);
/* Sets the memory of train on every rank, and adds to what passes spill. */
LODE_MUST_USE lode_status_t lode_forecast_train_memory(lode_forecast_t *forecast);
/* Sets the time and tokens of train, whose files are known. */
LODE_MUST_USE lode_status_t lode_forecast_train_time(lode_forecast_t *forecast);
/* Private bytes of a process before a stage does anything. */
int64_t lode_forecast_process(const lode_forecast_t *forecast, lode_stage_t stage);

/* A version of the model that is computed. */
typedef struct lode_forecast_version {
    double kept; /* share of its channels */
    bool coded;  /* its weights are quantized wherever they are read */
} lode_forecast_version_t;

/* Adds to the stage's time and tokens those of forward passes of versions [count] over a text. */
LODE_MUST_USE lode_status_t lode_forecast_forward(lode_forecast_t *forecast, lode_stage_t which,
                                                  const lode_forecast_text_t *text,
                                                  const lode_forecast_version_t *versions,
                                                  int64_t count);

/* Adds those of `times` passes forward and backward over the calibration sequences. */
LODE_MUST_USE lode_status_t lode_forecast_statistics(lode_forecast_t *forecast, lode_stage_t which,
                                                     int64_t times);

/* Sets the time and tokens of the stages that look for, quantize and compare weights. */
LODE_MUST_USE lode_status_t lode_forecast_weight_stages(lode_forecast_t *forecast);

/* Weights in a layer's matrices with this share of its channels, and the layers of the rank that
 * has most. */
double lode_forecast_matrices(const lode_architecture_t *architecture, double kept);
double lode_forecast_most_layers(const lode_forecast_t *forecast);

/* Versions of all variants of the experiment, the dense model first. *versions is the caller's.
 * Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_forecast_versions(lode_forecast_version_t **versions,
                                                   int64_t *count, const lode_forecast_t *forecast);

/* What the stage superweight takes; and what quantize takes on the rank of `layout`. */
LODE_MUST_USE lode_status_t lode_forecast_superweight(lode_stage_size_t *size,
                                                      lode_forecast_t *forecast);
LODE_MUST_USE lode_status_t lode_forecast_quantize(lode_stage_size_t *size,
                                                   lode_forecast_t *forecast,
                                                   const lode_layout_t *layout);
LODE_MUST_USE lode_status_t lode_forecast_audit(lode_stage_size_t *size, lode_forecast_t *forecast);

/* Releases what lode_forecast_layout made. */
void lode_forecast_layout_free(lode_forecast_t *forecast);

#endif
