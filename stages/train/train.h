/* stages/train: a model trained from random weights, or further from its checkpoint.
 *
 * Reads tokenize.h5 and, where the experiment trains from it, the checkpoint. A step takes the
 * blocks of /train/ids that training/order gives it; what a step does is in training/trainer. The
 * validation loss is measured before the first step, every train.validation.every steps, and after
 * the last one.
 *
 * Checkpoints are the folders <run's folder>/step-000043 (six digits at least): a Hugging Face
 * folder with the weights in train.dtype, config.json, the tokenizer, the files beside the source's
 * weights, and lodestone.json, which says what it is: series, step, and the digest of its weights.
 * They appear under their name when they are complete.
 *
 * train.h5 has
 *     /loss, /gradient_norm, /learning_rate, /entropy_weight, /entropy   f64 [steps]
 *     /validation/step i64 [n], /validation/loss, /validation/stderr     f64 [n]
 *     /validation/entropy                                               f64 [n, L]
 *     /checkpoints/step i64 [k], with the text attributes digest-000043 … of the group
 * and the root attributes steps, sequences, length, batch, parameters and targets, and the texts
 * training and validation, by which the weights and the text of the validations are known again
 * (train/course.h). The loss is the
 * mean cross-entropy of a step's targets in nats, before its update, as are the norm of the
 * gradient, before clipping, and the mean entropy of the chosen layers' channels (NaN without
 * train.entropy.weight). A validation at step s is of the weights after s updates; its entropy is
 * the mean over the channels of each layer.
 *
 * Every train.save steps, and where it is stopped, the stage leaves train-state.h5: master weights,
 * both moments, and the curves so far, for any number of ranks to go on from
 * (train/state.h). It is deleted when train.h5 is complete, unless train.keep_state is set.
 *
 * Nothing is done that is known: curves and validations of an earlier train.h5 or state of the same
 * course, and the folders of such that are there, count for other checkpoints, validations and,
 * where no schedule depends on it, another number of steps. Training begins at the state that is
 * next before the first step of which anything is missing, or else at step 0, which it says; it
 * ends where nothing more is missing. The weights before the first step are always at hand, so
 * that what is due of them alone has nothing trained again.
 */
#ifndef LODE_STAGES_TRAIN_H
#define LODE_STAGES_TRAIN_H

#include "common/run.h"
#include "common/size.h"

/* The stage. Errors: LODE_ERR_NUMERIC where the loss, the gradient or a weight stops being finite,
 * naming the step and the remedy; LODE_ERR_IO (a folder of somebody else's where a checkpoint goes,
 * no space); LODE_ERR_INPUT, LODE_ERR_MEMORY; LODE_STOPPED, the state being saved. Collective. */
LODE_MUST_USE lode_status_t lode_stage_train(lode_run_t *run);

/* Whether all folders that a complete train.h5 of this run names are in run->folder, as they were
 * written. Local. */
bool lode_train_present(const lode_run_t *run);

/* Deletes the states that an interrupted run has left in `folder`, but not that of the last step
 * where it is to be kept. Never fails. Local. */
void lode_train_tidy(const char *folder, bool keep_state);

/* Lays `size` ranks out for the stage, with a training text of `blocks` sequences:
 * lode_trainer_layout() within the experiment's memory. Local; errors: as there. */
LODE_MUST_USE lode_status_t lode_train_layout(lode_layout_t *layout, const lode_run_t *run,
                                              int64_t blocks, int size, int rank);

/* What the stage takes of `run`, with a training text of `blocks` sequences, on a rank of this
 * layout, which is lode_train_layout's: the file; as scratch the state on disk and the next one
 * beside it; as memory all but what a pass keeps of activations. *folders out, bytes of all
 * checkpoints, and of the state where it is kept, which then is no scratch, is what stays on disk
 * beside the file. Local; errors: as in common/size.h. */
LODE_MUST_USE lode_status_t lode_train_size(lode_stage_size_t *size, int64_t *folders,
                                            lode_run_t *run, const lode_layout_t *layout,
                                            int64_t blocks);

#endif
