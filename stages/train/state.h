/* stages/train/state: train-state.h5, from which a training goes on.
 *
 * It has /weights/<tensor>, /first/<tensor> and /second/<tensor>, f32 in the tensor's full shape:
 * master weights and the moments of AdamW; the record so far, as train.h5 will have it; and the
 * root attribute step, the updates that were done. It carries the fingerprint of the stage: one of
 * another fingerprint is not used. Ranks write the parts that they own, and read the parts that
 * they own, whatever number of them wrote it, straight from and into their arrays.
 *
 * What order the data come in follows from seed and step, so that nothing of that is kept.
 */
#ifndef LODE_STAGES_TRAIN_STATE_H
#define LODE_STAGES_TRAIN_STATE_H

#include "common/run.h"
#include "train/record.h"
#include "training/trainer.h"

/* What a rank has of the state: its parameters, and its part of the moments. */
typedef struct lode_train_share {
    lode_parameters_t *parameters;
    lode_trainer_moments_t moments;
} lode_train_share_t;

/* Path of the state of a run in `folder`, the caller's. Local. */
LODE_MUST_USE lode_status_t lode_train_state_path(char **path, const char *folder);

/* Replaces the state on disk, at once or not at all. `step` updates were done. Errors:
 * LODE_ERR_NUMERIC where a weight is not finite (the state on disk then stays as it was),
 * LODE_ERR_IO. Collective. */
LODE_MUST_USE lode_status_t lode_train_state_save(const lode_run_t *run,
                                                  const lode_train_share_t *share,
                                                  const lode_train_record_t *record, int64_t step);

/* Reads the state of this run's fingerprint; *step is the updates that were done, −1 where there is
 * no such state, and nothing was changed. Errors: LODE_ERR_FORMAT (a damaged file), LODE_ERR_IO.
 * Collective. */
LODE_MUST_USE lode_status_t lode_train_state_load(const lode_run_t *run,
                                                  const lode_train_share_t *share,
                                                  lode_train_record_t *record, int64_t *step);

/* Bytes of the file of a model with this inventory. Local. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_train_state_bytes(int64_t *bytes,
                                                   const lode_inventory_t *inventory,
                                                   const lode_train_record_t *record);

#endif
