/* stages/train/work: what the stage train has open while it works, and how it is opened. */
#ifndef LODE_STAGES_TRAIN_WORK_H
#define LODE_STAGES_TRAIN_WORK_H

#include "common/run.h"
#include "train/checkpoint.h"
#include "train/course.h"
#include "train/record.h"
#include "train/state.h"
#include "training/order.h"
#include "training/trainer.h"

typedef struct lode_train {
    lode_run_t *run;
    lode_store_t *tokenize; /* whose ids are mapped */
    lode_train_text_t text, validation;
    lode_train_course_t course;
    lode_layout_t layout; /* of the training */
    lode_parameters_t *parameters;
    lode_trainer_t *trainer;
    lode_order_t order;
    int64_t *taken;             /* [batch] blocks of the step in hand */
    int32_t *ids;               /* [batch · length] their ids */
    lode_inventory_t inventory; /* of the folders' dtype */
    lode_train_folders_t folders;
    lode_train_record_t record;
    int64_t step;                    /* updates that are done */
    int64_t state[LODE_TRAIN_SLOTS]; /* steps of the states on disk; −1: there is none */
} lode_train_t;

/* What the keys of the experiment say to the trainer; pointers are the experiment's. Local. */
void lode_train_setting(lode_trainer_setting_t *setting, const lode_run_t *run);

/* Type of the weights in folders. Local. */
lode_dtype_t lode_train_dtype(const lode_config_t *config);

/* Private bytes of the stage beside the trainer's, with a training text of so many blocks. Local.
 */
int64_t lode_train_other(const lode_run_t *run, int64_t blocks);

/* Opens, allocates and reads all that the stage needs: what earlier runs have found out of the same
 * course into the record, and weights as they are before the first step. *train is for
 * lode_train_close, also on failure. Errors: those of lode_stage_train. Collective. */
LODE_MUST_USE lode_status_t lode_train_open(lode_train_t *train, lode_run_t *run);
void lode_train_close(lode_train_t *train); /* Collective. */

/* What a rank has of the state. Local. */
lode_train_share_t lode_train_share(const lode_train_t *train);

/* Where the next state goes: a later one must not be lost to it. Local. */
lode_train_slot_t lode_train_slot(const lode_train_t *train, int64_t step);

/* Takes over what is known of this course: by train.h5, by the states, and by the folders that are
 * there; nothing with --force. Errors: those of reading a state. Collective. */
LODE_MUST_USE lode_status_t lode_train_find_known(lode_train_t *train);

/* The state from which the training had best go on instead of where it stands, `missing` being the
 * first step after that of which something is not known: the latest one before which nothing is
 * missing. LODE_TRAIN_SLOTS where there is none. Local. */
lode_train_slot_t lode_train_best_state(const lode_train_t *train, int64_t missing);

/* Says why training begins at step 0 although some of it was done. Local. */
void lode_train_say_again(const lode_train_t *train, int64_t missing);

/* Whether the disk has room for the folders and states to come. For one rank. Errors: LODE_ERR_IO,
 * saying what is needed and what is there. Local. */
LODE_MUST_USE lode_status_t lode_train_check_space(const lode_train_t *train);

#endif
