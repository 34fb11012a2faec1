/* stages/train/remarks: what a training says of itself. Everything here is Local.
 *
 * The layout of the training is its own (training/trainer.h), and not that of the stages behind it;
 * and numbers that stay finite may yet be those of a training that came to nothing.
 */
#ifndef LODE_STAGES_TRAIN_REMARKS_H
#define LODE_STAGES_TRAIN_REMARKS_H

#include "common/run.h"
#include "train/record.h"

/* Appends what lode_train_layout made of `size` ranks: "6 layers over 2 ranks, in 4 replicas that
 * share the sequences", and where ranks idle, how many, and what would have more of them used.
 * Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_train_remark_layout(lode_buffer_t *text, const lode_run_t *run,
                                                     const lode_layout_t *layout, int size);

/* Appends, where a complete training has raised the loss, both figures and the remedy, else
 * nothing: validation losses before the first step and after the last one, where there are such;
 * else the loss of the first step and the mean over the last tenth of them (of a short training
 * some more), by more than twice the standard deviation within these, as a step's loss depends on
 * its sequences. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_train_remark_rise(lode_buffer_t *text,
                                                   const lode_train_record_t *record);

#endif
