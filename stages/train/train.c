#include "train/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "common/folder.h"
#include "train/remarks.h"
#include "train/work.h"

#define SAVED_A_SECOND 1e8 /* bytes, before the first state has shown */

/* The loop, and what its units take. */
typedef struct loop {
    lode_train_t *train;
    lode_progress_t progress;
    double step_seconds, save_seconds, due_seconds; /* due: a validation and a checkpoint */
    bool stepped;                                   /* to where it stands, by an update */
    bool saving;                                    /* a state is being saved, or could not be */
    int64_t saved; /* the step last saved or gone on from, which need not be saved; 0: none */
} loop_t;

/* --- between steps -------------------------------------------------------------------------- */

/* Collective. */
static lode_status_t save(loop_t *loop) {
    lode_train_t *train = loop->train;
    const lode_train_share_t share = lode_train_share(train);
    const lode_train_slot_t slot = lode_train_slot(train, train->step);
    const double begun = lode_time();
    loop->saving = true;
    LODE_TRY(lode_fail_context(lode_train_state_save(train->run, slot, &train->course, &share,
                                                     &train->record, train->step),
                               "state of step %lld", (long long)train->step));
    loop->saving = false;
    loop->save_seconds = lode_time() - begun;
    loop->saved = train->state[slot] = train->step;
    return LODE_OK;
}

/* The validation loss, and the entropy of every layer. Collective. */
static lode_status_t validate(lode_train_t *train, int64_t i) {
    lode_train_record_t *record = &train->record;
    LODE_TRY(lode_trainer_evaluate(train->trainer, train->validation.ids,
                                   train->validation.sequences, &record->loss[i],
                                   &record->error[i]));
    LODE_TRY(lode_trainer_entropy(train->trainer, record->entropy + i * record->layers));
    if (!isfinite(record->loss[i]))
        return lode_fail(LODE_ERR_NUMERIC, "the loss is %g", record->loss[i]);
    lode_log_info("train: after step %lld the validation loss is %.4f ± %.4f",
                  (long long)train->step, record->loss[i], record->error[i]);
    return LODE_OK;
}

/* Collective. */
static lode_status_t write_checkpoint(lode_train_t *train, int64_t i) {
    char *digest = train->record.digest[i], found[LODE_DIGEST_TEXT];
    bool written;
    LODE_TRY(
        lode_train_folder_write(found, &written, &train->folders, train->parameters, train->step));
    memcpy(digest, found, sizeof found);
    lode_log_info("train: the checkpoint of step %lld is %s", (long long)train->step,
                  written ? "written" : "there already");
    return LODE_OK;
}

/* What is due after the steps that are done, and is not known. A folder that is passed on the way
 * is compared with the weights, which costs nothing to speak of. Collective. */
static lode_status_t arrive(loop_t *loop) {
    lode_train_t *train = loop->train;
    const lode_train_record_t *record = &train->record;
    const int64_t validation = lode_train_record_validation(record, train->step);
    const int64_t checkpoint = lode_train_record_checkpoint(record, train->step);
    const double begun = lode_time();
    if (validation >= 0 && isnan(record->loss[validation]))
        LODE_TRY(lode_fail_context(validate(train, validation), "validation after step %lld",
                                   (long long)train->step));
    if (checkpoint >= 0 && (!*record->digest[checkpoint] || loop->stepped))
        LODE_TRY(lode_fail_context(write_checkpoint(train, checkpoint), "checkpoint of step %lld",
                                   (long long)train->step));
    if (validation >= 0 || checkpoint >= 0)
        loop->due_seconds = lode_time() - begun;
    return LODE_OK;
}

/* --- a step --------------------------------------------------------------------------------- */

static void gather_ids(lode_train_t *train, int64_t step) {
    const lode_config_train_t *keys = &train->run->config->train;
    lode_order_take(&train->order, step, keys->batch, train->taken);
    for (int64_t i = 0; i < keys->batch; i++)
        memcpy(train->ids + i * keys->length, train->text.ids + train->taken[i] * keys->length,
               (size_t)keys->length * sizeof *train->ids);
}

static lode_status_t note_step(loop_t *loop, int64_t step, const lode_trainer_result_t *result) {
    lode_train_t *train = loop->train;
    const lode_config_train_t *keys = &train->run->config->train;
    double *const *curve = train->record.curve;
    if (!isfinite(result->loss) || !isfinite(result->gradient_norm))
        return lode_fail(LODE_ERR_NUMERIC, "step %lld: the loss is %g, the norm of its gradient %g",
                         (long long)step, result->loss, result->gradient_norm);
    curve[LODE_TRAIN_LOSS][step - 1] = result->loss;
    curve[LODE_TRAIN_GRADIENT_NORM][step - 1] = result->gradient_norm;
    curve[LODE_TRAIN_LEARNING_RATE][step - 1] = result->learning_rate;
    curve[LODE_TRAIN_ENTROPY_WEIGHT][step - 1] = result->entropy_weight;
    curve[LODE_TRAIN_ENTROPY][step - 1] = result->entropy;
    train->step = step;
    lode_progress_note(&loop->progress, "loss %.4f, rate %.3g, gradient %.3g", result->loss,
                       result->learning_rate, result->gradient_norm);
    lode_progress_add(&loop->progress, 1, keys->batch * keys->length);
    return LODE_OK;
}

/* Collective. */
static lode_status_t take_step(loop_t *loop) {
    lode_train_t *train = loop->train;
    const int64_t step = train->step + 1;
    const double begun = lode_time();
    lode_trainer_result_t result;
    gather_ids(train, step);
    LODE_TRY(lode_trainer_step(train->trainer, step, train->ids, &result));
    LODE_TRY(note_step(loop, step, &result));
    loop->stepped = true;
    loop->step_seconds = lode_time() - begun;
    return LODE_OK;
}

/* --- the loop ------------------------------------------------------------------------------- */

/* LODE_STOPPED where a step, what is due after it, and a state would come too late. Collective. */
static lode_status_t look_for_stop(const loop_t *loop) {
    const lode_train_t *train = loop->train;
    const bool due = lode_train_record_validation(&train->record, train->step + 1) >= 0 ||
                     lode_train_record_checkpoint(&train->record, train->step + 1) >= 0;
    return lode_comm_stop(train->run->comm,
                          loop->step_seconds + loop->save_seconds + (due ? loop->due_seconds : 0));
}

static void start_progress(loop_t *loop) {
    const lode_train_t *train = loop->train;
    lode_progress_start(&loop->progress, "train", "step", train->run->config->train.steps);
    lode_progress_resume(&loop->progress, train->step);
}

/* Goes on from a state, if there is one ahead before which nothing is missing. Collective. */
static lode_status_t leap(loop_t *loop, int64_t missing, bool *leapt) {
    lode_train_t *train = loop->train;
    const lode_run_t *run = train->run;
    const lode_train_share_t share = lode_train_share(train);
    const lode_train_slot_t slot = lode_train_best_state(train, missing);
    *leapt = slot != LODE_TRAIN_SLOTS;
    if (!*leapt)
        return LODE_OK;
    LODE_TRY(lode_train_state_load(run, slot, &share, train->state[slot]));
    loop->saved = train->step = train->state[slot];
    loop->stepped = false;
    if (slot == LODE_TRAIN_LATEST && run->comm->rank == 0)
        lode_train_state_remove(run->folder, LODE_TRAIN_EARLIER);
    if (slot == LODE_TRAIN_LATEST)
        train->state[LODE_TRAIN_EARLIER] = -1;
    lode_log_info("train: going on from the state of step %lld of %lld", (long long)train->step,
                  (long long)run->config->train.steps);
    start_progress(loop);
    return LODE_OK;
}

/* From where the training stands, step by step, until nothing is missing. Collective. */
static lode_status_t run_steps(loop_t *loop) {
    lode_train_t *train = loop->train;
    const lode_config_train_t *keys = &train->run->config->train;
    int64_t missing = 0;
    for (;;) {
        bool leapt;
        LODE_TRY(arrive(loop));
        if (train->step >= missing)
            missing = lode_train_record_missing(&train->record, train->step);
        if (missing < 0)
            return LODE_OK;
        LODE_TRY(leap(loop, missing, &leapt));
        if (leapt)
            continue;
        if (train->step == 0)
            lode_train_say_again(train, missing);
        if (train->step % keys->save == 0 && train->step > 0 && train->step != loop->saved)
            LODE_TRY(save(loop));
        LODE_TRY(look_for_stop(loop));
        LODE_TRY(take_step(loop));
    }
}

/* Says what to do about numbers that are not finite, where that has not been said. */
static lode_status_t advise(const loop_t *loop) {
    static const char remedy[] = "; lower train.learning_rate, or raise train.warmup";
    char kept[96] = "", message[LODE_MESSAGE_MAX];
    snprintf(message, sizeof message, "%s", lode_error_message());
    if (loop->saved > 0)
        snprintf(kept, sizeof kept, "; the state of step %lld is kept, for the same settings",
                 (long long)loop->saved);
    return lode_fail(LODE_ERR_NUMERIC, "train: %.1800s%s%s", message,
                     strstr(message, "train.learning_rate") ? "" : remedy, kept);
}

/* Keeps what is done before the stage ends early, unless that is no good. Collective. */
static lode_status_t keep(loop_t *loop, lode_status_t status) {
    const lode_train_t *train = loop->train;
    char message[LODE_MESSAGE_MAX];
    if (status == LODE_OK || status == LODE_ERR_COMM)
        return status;
    if (status == LODE_ERR_NUMERIC)
        return advise(loop);
    if (train->step == 0 || train->step == loop->saved || loop->saving)
        return status;
    snprintf(message, sizeof message, "%s", lode_error_message());
    const lode_status_t saved = save(loop);
    if (saved == LODE_OK)
        return lode_fail(status, "%s", message);
    if (status == LODE_STOPPED)
        return lode_fail_context(saved, "stopped, but the state could not be saved");
    lode_log_warning("train: the state of step %lld could not be saved: %s", (long long)train->step,
                     lode_error_message());
    return lode_fail(status, "%s", message);
}

/* Keeps the last state for more steps, unless it or a later one is there. Collective. */
static lode_status_t keep_last(loop_t *loop) {
    const lode_train_t *train = loop->train;
    const lode_config_train_t *keys = &train->run->config->train;
    if (!keys->keep_state || train->step < keys->steps ||
        train->state[LODE_TRAIN_LATEST] >= keys->steps)
        return LODE_OK;
    return save(loop);
}

/* Collective. */
static lode_status_t run_training(loop_t *loop) {
    const lode_train_t *train = loop->train;
    int64_t bytes;
    LODE_TRY(lode_comm_agree(
        train->run->comm,
        lode_train_state_bytes(&bytes, &train->parameters->inventory, &train->record)));
    loop->save_seconds = (double)bytes / SAVED_A_SECOND;
    start_progress(loop);
    lode_status_t status = run_steps(loop);
    if (status == LODE_OK)
        lode_progress_end(&loop->progress);
    if (status == LODE_OK && train->step < train->record.steps)
        lode_log_info("train: what comes after step %lld is known, and is not done again",
                      (long long)train->step);
    if (status == LODE_OK)
        status = keep_last(loop);
    return keep(loop, status);
}

/* Warns of a training that has raised the loss, although all its numbers are finite. Local. */
static void warn_of_rise(const lode_train_record_t *record) {
    lode_buffer_t text = {0};
    if (lode_train_remark_rise(&text, record) == LODE_OK && text.length > 0)
        lode_log_warning("train: %s", text.data);
    lode_buffer_free(&text);
}

/* --- the stage ------------------------------------------------------------------------------ */

/* What train.h5 says of the training as a whole. Collective. */
static lode_status_t put_attributes(lode_store_t *store, const lode_train_t *train) {
    const lode_run_t *run = train->run;
    const lode_config_train_t *keys = &run->config->train;
    const int64_t targets = keys->batch * (keys->length - 1);
    LODE_TRY(lode_store_attribute_i64(store, "/", "steps", keys->steps));
    LODE_TRY(lode_store_attribute_i64(store, "/", "sequences", train->text.sequences));
    LODE_TRY(lode_store_attribute_i64(store, "/", "length", keys->length));
    LODE_TRY(lode_store_attribute_i64(store, "/", "batch", keys->batch));
    LODE_TRY(lode_store_attribute_i64(store, "/", "targets", targets));
    LODE_TRY(lode_store_attribute_text(store, "/", "training", train->course.weights));
    LODE_TRY(lode_store_attribute_text(store, "/", "validation", train->course.validation));
    return lode_store_attribute_i64(store, "/", "parameters",
                                    lode_architecture_parameters(&run->architecture));
}

/* Collective. */
static lode_status_t write_result(lode_store_t *store, const lode_train_t *train) {
    LODE_TRY(lode_train_record_datasets(store, &train->record));
    LODE_TRY(lode_train_record_digests(store, &train->record));
    LODE_TRY(put_attributes(store, train));
    if (train->run->comm->rank == 0)
        lode_train_record_write(store, &train->record);
    return LODE_OK;
}

void lode_train_tidy(const char *folder, bool keep_state) {
    if (!keep_state)
        lode_train_state_remove(folder, LODE_TRAIN_LATEST);
    lode_train_state_remove(folder, LODE_TRAIN_EARLIER);
}

lode_status_t lode_stage_train(lode_run_t *run) {
    lode_train_t train = {0};
    loop_t loop = {.train = &train};
    lode_store_t *store;
    LODE_TRY(lode_run_create(&store, run, LODE_STAGE_TRAIN));
    lode_status_t status = lode_train_open(&train, run);
    if (status == LODE_OK)
        status = run_training(&loop);
    const bool trained = status == LODE_OK;
    if (trained)
        status = write_result(store, &train);
    status = lode_run_finish(&store, run, LODE_STAGE_TRAIN, status);
    if (trained) /* what has been learnt does not depend on a file that could not be written */
        status = keep(&loop, status);
    if (status == LODE_OK)
        warn_of_rise(&train.record);
    const lode_config_train_t *keys = &run->config->train;
    const bool kept = keys->keep_state && train.state[LODE_TRAIN_LATEST] >= keys->steps;
    lode_train_close(&train);
    if (status == LODE_OK && run->comm->rank == 0)
        lode_train_tidy(run->folder, kept);
    return status;
}

/* Whether the folder of a step is as train.h5 says. */
static bool is_present(const lode_run_t *run, lode_store_t *store, int64_t step) {
    char *path, digest[LODE_DIGEST_TEXT];
    if (lode_train_record_digest(digest, store, step) != LODE_OK ||
        lode_train_folder_path(&path, run->folder, step) != LODE_OK)
        return false;
    const bool present = *digest && lode_folder_is(path, digest);
    free(path);
    return present;
}

bool lode_train_present(const lode_run_t *run) {
    const lode_comm_t alone = lode_comm_describe(MPI_COMM_SELF);
    lode_train_record_t record;
    lode_store_t *store = NULL;
    char *path;
    if (lode_run_path(&path, run, LODE_STAGE_TRAIN) != LODE_OK)
        return false;
    bool present =
        lode_train_record_create(&record, run->config, run->architecture.layers) == LODE_OK &&
        lode_store_open(&store, &alone, path) == LODE_OK &&
        lode_train_record_take(&record, store, true) == LODE_OK; /* it can be read */
    for (int64_t i = 0; i < lode_config_checkpoint_total(run->config) && present; i++)
        present = is_present(run, store, lode_config_checkpoint_at(run->config, i));
    lode_store_close(&store);
    lode_train_record_free(&record);
    free(path);
    return present;
}
