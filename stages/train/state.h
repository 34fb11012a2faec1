/* stages/train/state: train-state.h5, from which a training goes on.
 *
 * It has /weights/<tensor>, /first/<tensor> and /second/<tensor>, f32 in the tensor's full shape:
 * master weights and the moments of AdamW; the record so far, as train.h5 has it; and the root
 * attributes step, the updates that were done, and validation, which text the losses of the
 * validations are of. It carries the fingerprint of the weights' course (train/course.h), and one
 * of another course is not used; other checkpoints, validations and numbers of steps than those it
 * was written for are no matter. Ranks write the parts that they own, and read the parts that they
 * own, whatever number of them wrote it, straight from and into their arrays.
 *
 * What order the data come in follows from seed and step, so that nothing of that is kept.
 *
 * A training that restores a checkpoint which was lost is behind a state that is there. It keeps
 * its own in train-state-earlier.h5, and goes on from the other when it needs nothing before that.
 */
#ifndef LODE_STAGES_TRAIN_STATE_H
#define LODE_STAGES_TRAIN_STATE_H

#include "common/run.h"
#include "train/course.h"
#include "train/record.h"
#include "training/trainer.h"

/* What a rank has of the state: its parameters, and its part of the moments. */
typedef struct lode_train_share {
    lode_parameters_t *parameters;
    lode_trainer_moments_t moments;
} lode_train_share_t;

typedef enum lode_train_slot {
    LODE_TRAIN_LATEST,  /* train-state.h5 */
    LODE_TRAIN_EARLIER, /* train-state-earlier.h5 */
    LODE_TRAIN_SLOTS,
} lode_train_slot_t;

/* Path of a state of a run in `folder`, the caller's. Local. */
LODE_MUST_USE lode_status_t lode_train_state_path(char **path, const char *folder,
                                                  lode_train_slot_t slot);

/* Refuses what is no file where states go. Errors: LODE_ERR_IO, naming it. Local. */
LODE_MUST_USE lode_status_t lode_train_state_check(const char *folder);

/* Replaces a state on disk, at once or not at all. `step` updates were done. Errors:
 * LODE_ERR_NUMERIC where a weight is not finite (the state on disk then stays as it was),
 * LODE_ERR_IO. Collective. */
LODE_MUST_USE lode_status_t lode_train_state_save(const lode_run_t *run, lode_train_slot_t slot,
                                                  const lode_train_course_t *course,
                                                  const lode_train_share_t *share,
                                                  const lode_train_record_t *record, int64_t step);

/* Takes over the record of a state of this course; *step is the updates that were done, −1 where
 * there is no such state; warns of one of another, and of a file that is none. Errors:
 * LODE_ERR_FORMAT (a damaged file), LODE_ERR_IO. Local, for one rank. */
LODE_MUST_USE lode_status_t lode_train_state_find(const lode_run_t *run, lode_train_slot_t slot,
                                                  const lode_train_course_t *course,
                                                  lode_train_record_t *record, int64_t *step);

/* Reads weights and moments of a state that was found, of `step` updates. Errors: LODE_ERR_FORMAT
 * (a damaged file, or another one by now), LODE_ERR_IO. Collective. */
LODE_MUST_USE lode_status_t lode_train_state_load(const lode_run_t *run, lode_train_slot_t slot,
                                                  const lode_train_share_t *share, int64_t step);

/* Deletes a state and what an interrupted run has left of it. Never fails. Local. */
void lode_train_state_remove(const char *folder, lode_train_slot_t slot);

/* Bytes of the file of a model with this inventory. Local. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_train_state_bytes(int64_t *bytes,
                                                   const lode_inventory_t *inventory,
                                                   const lode_train_record_t *record);

#endif
