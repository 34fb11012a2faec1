/* What earlier runs have found out of a training, and where it goes on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "train/work.h"

/* --- what is known --------------------------------------------------------------------------- */

/* Whether the store has this text as an attribute of its root. */
static bool says(lode_store_t *store, const char *name, const char *text) {
    char *found = NULL;
    const bool same = lode_store_has_attribute(store, "/", name) &&
                      lode_store_get_attribute_text(store, "/", name, &found) == LODE_OK &&
                      strcmp(found, text) == 0;
    free(found);
    return same;
}

/* What a complete train.h5 of this course has, maybe with other checkpoints, validations or steps.
 * One that cannot be read is about to be replaced, and no matter. */
static void take_result(lode_train_t *train) {
    const lode_comm_t alone = lode_comm_alone();
    const lode_train_course_t *course = &train->course;
    lode_store_t *store = NULL;
    char *path;
    if (lode_run_path(&path, train->run, LODE_STAGE_TRAIN) != LODE_OK)
        return;
    if (lode_file_exists(path) &&
        (lode_store_open(&store, &alone, path) != LODE_OK ||
         (says(store, "training", course->weights) &&
          lode_train_record_take(&train->record, store,
                                 says(store, "validation", course->validation)) != LODE_OK)))
        lode_log_warning("train: %s is of no use: %s", path, lode_error_message());
    lode_store_close(&store);
    free(path);
}

/* By rank 0. */
static lode_status_t take_all(lode_train_t *train) {
    lode_train_record_t *record = &train->record;
    take_result(train);
    for (int slot = 0; slot < LODE_TRAIN_SLOTS; slot++)
        LODE_TRY(lode_train_state_find(train->run, (lode_train_slot_t)slot, &train->course, record,
                                       &train->state[slot]));
    for (int64_t i = 0; i < record->checkpoints; i++)
        lode_train_folder_find(record->digest[i], &train->folders, record->checkpoint_step[i]);
    return LODE_OK;
}

lode_status_t lode_train_find_known(lode_train_t *train) {
    const lode_comm_t *comm = train->run->comm;
    for (int slot = 0; slot < LODE_TRAIN_SLOTS; slot++)
        train->state[slot] = -1;
    if (train->run->force)
        return LODE_OK;
    LODE_TRY(lode_comm_agree(comm, comm->rank == 0 ? take_all(train) : LODE_OK));
    LODE_TRY(lode_comm_broadcast(comm, train->state, sizeof train->state, 0));
    return lode_train_record_share(&train->record, comm);
}

/* --- where to go on -------------------------------------------------------------------------- */

lode_train_slot_t lode_train_slot(const lode_train_t *train, int64_t step) {
    return train->state[LODE_TRAIN_LATEST] > step ? LODE_TRAIN_EARLIER : LODE_TRAIN_LATEST;
}

lode_train_slot_t lode_train_best_state(const lode_train_t *train, int64_t missing) {
    lode_train_slot_t best = LODE_TRAIN_SLOTS;
    int64_t step = train->step;
    for (int slot = 0; slot < LODE_TRAIN_SLOTS; slot++) {
        const int64_t there = train->state[slot];
        /* What is due after its own step its weights serve for, but not for that step's update. */
        if (there > step && there <= missing && lode_train_record_trained(&train->record, there)) {
            best = (lode_train_slot_t)slot;
            step = there;
        }
    }
    return best;
}

/* What is missing of a step. */
static void describe(char text[96], const lode_train_t *train, int64_t missing) {
    const lode_train_record_t *record = &train->record;
    const int64_t checkpoint = lode_train_record_checkpoint(record, missing);
    if (!lode_train_record_trained(record, missing))
        snprintf(text, 96, "there is no state of step %lld", (long long)missing - 1);
    else if (checkpoint >= 0 && !*record->digest[checkpoint])
        snprintf(text, 96, "the checkpoint of step %lld is not there in %s", (long long)missing,
                 lode_dtype_name(train->folders.dtype));
    else
        snprintf(text, 96, "the validation loss after step %lld is not known", (long long)missing);
}

void lode_train_say_again(const lode_train_t *train, int64_t missing) {
    char what[96];
    if (!lode_train_record_trained(&train->record, 1))
        return; /* nothing was done */
    describe(what, train, missing);
    lode_log_warning("train: %s%s; training begins again at step 0", what,
                     lode_train_record_trained(&train->record, missing)
                         ? ", and no state of that step or before"
                         : " or before");
}
