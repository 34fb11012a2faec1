/* stages/lode/model: what the stages are given of a model at a point of an experiment. */
#ifndef LODE_STAGES_LODE_MODEL_H
#define LODE_STAGES_LODE_MODEL_H

#include "common/run.h"

/* Opens run->model for its stages: its weights, or config.json alone where there are none yet, its
 * tokenizer and its layout, once the experiment is known to suit it.
 *   run       in: comm, config, model, point and force, the rest {0}; out, also on failure, for
 *             lode_model_close
 *   results   in, the experiment's folder, <results>/<name>
 * Errors: those of lode_checkpoint_open, LODE_ERR_CONFIG, LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_model_open(lode_run_t *run, const char *results);

/* Leaves {0}. Local. */
void lode_model_close(lode_run_t *run);

/* Lists where losses of the model may be found: what its results were before, and what those of
 * the other points [count] are. Nothing with run->force. Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_model_list_earlier(lode_run_t *run, const char *results,
                                                    const lode_config_point_t *points,
                                                    int64_t count);

/* Says which model it is, and, where anything is computed with it but its training, which has a
 * layout of its own, over which ranks its layers are spread. Local. */
void lode_model_describe(const lode_run_t *run, bool computed);

#endif
