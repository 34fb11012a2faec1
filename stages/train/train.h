/* stages/train: models trained from scratch or from their checkpoints. */
#ifndef LODE_STAGES_TRAIN_H
#define LODE_STAGES_TRAIN_H

#include "common/run.h"

/* Collective. */
LODE_MUST_USE lode_status_t lode_stage_train(lode_run_t *run);

/* Whether all checkpoint folders that train.h5 records are there, each with the digest that it
 * records. By one rank. Local. */
bool lode_train_present(const lode_run_t *run);

#endif
