#include "train/work.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "common/folder.h"
#include "train/remarks.h"
#include "train/train.h"
#include "transformer/pass.h"

enum { FOLDER_PIECE_BYTES = 1 << 23 }; /* at most, of what becomes a folder */

/* --- settings ------------------------------------------------------------------------------- */

lode_dtype_t lode_train_dtype(const lode_config_t *config) {
    return config->train.dtype == LODE_TRAIN_F32 ? LODE_DTYPE_F32 : LODE_DTYPE_BF16;
}

void lode_train_setting(lode_trainer_setting_t *setting, const lode_run_t *run) {
    const lode_config_t *config = run->config;
    const lode_config_train_t *train = &config->train;
    *setting = (lode_trainer_setting_t){
        .length = train->length,
        .batch = train->batch,
        .micro_batch = config->micro_batch,
        .groups = train->groups,
        .rate = {.steps = train->steps,
                 .warmup = train->warmup,
                 .most = train->learning_rate,
                 .final = train->final,
                 .decay = train->decay},
        .beta_1 = train->beta1,
        .beta_2 = train->beta2,
        .epsilon = train->epsilon,
        .clip = train->clip,
        .decay = {[LODE_PARAMETER_MATRIX] = train->weight_decay.matrices,
                  [LODE_PARAMETER_EMBEDDING] = train->weight_decay.embeddings,
                  [LODE_PARAMETER_VECTOR] = train->weight_decay.vectors},
        .entropy_weight = train->entropy.weight,
        .entropy_form = train->entropy.form,
        .entropy_schedule = train->entropy.schedule,
        .entropy_layers = train->entropy.layers,
        .entropy_layer_count = train->entropy.layer_count,
        .threads = (int)config->threads,
        .memory = config->memory,
        .scratch = run->folder};
}

int64_t lode_train_other(const lode_run_t *run, int64_t blocks) {
    const lode_config_train_t *train = &run->config->train;
    const int64_t every = train->validation.every;
    const int64_t validations =
        *train->validation.corpus ? 2 + (every > 0 ? train->steps / every : 0) : 0;
    const int64_t curves =
        LODE_TRAIN_CURVES * train->steps + validations * (3 + run->architecture.layers);
    return 8 * (curves + blocks + train->batch) + 4 * train->batch * train->length +
           FOLDER_PIECE_BYTES;
}

lode_status_t lode_train_layout(lode_layout_t *layout, const lode_run_t *run, int64_t blocks,
                                int size, int rank) {
    lode_trainer_setting_t setting;
    lode_train_setting(&setting, run);
    setting.memory -= lode_train_other(run, blocks);
    return lode_trainer_layout(layout, &run->architecture, &setting, size, rank,
                               run->config->replicas);
}

/* --- the text ------------------------------------------------------------------------------- */

static lode_status_t map_text(lode_train_text_t *text, lode_store_t *store, const char *name,
                              int64_t length) {
    const void *ids;
    int64_t count;
    LODE_TRY(lode_store_map(store, name, LODE_TYPE_I32, &ids, &count));
    *text = (lode_train_text_t){.ids = ids, .sequences = count / length};
    return LODE_OK;
}

/* Collective. */
static lode_status_t open_text(lode_train_t *train) {
    const lode_config_train_t *keys = &train->run->config->train;
    LODE_TRY(lode_run_open(&train->tokenize, train->run, LODE_STAGE_TOKENIZE));
    lode_status_t status = map_text(&train->text, train->tokenize, "/train/ids", keys->length);
    if (status == LODE_OK && *keys->validation.corpus)
        status = map_text(&train->validation, train->tokenize, "/validation/ids", keys->length);
    if (status == LODE_OK)
        status = lode_order_create(&train->order, train->run->config->seed, train->text.sequences);
    if (status == LODE_OK)
        status = LODE_NEW(&train->taken, keys->batch, "blocks of a step");
    if (status == LODE_OK)
        status = LODE_NEW_RAW(&train->ids, keys->batch * keys->length, "ids of a step");
    return lode_comm_agree(train->run->comm, status);
}

/* --- the model ------------------------------------------------------------------------------ */

/* Whether this rank's part fits its memory, before any of it is taken: that of a model that is much
 * too large would have the system end the process. */
static lode_status_t check_memory(const lode_train_t *train,
                                  const lode_trainer_setting_t *setting) {
    const lode_config_t *config = train->run->config;
    const lode_architecture_t *architecture = &train->run->architecture;
    const lode_pass_size_t size = {.architecture = architecture,
                                   .layout = &train->layout,
                                   .tokens = lode_config_train_rows(config) * config->train.length,
                                   .batches = lode_config_train_batches(config),
                                   .variants = 1,
                                   .backward = true};
    lode_pass_memory_t pass;
    int64_t bytes;
    LODE_TRY(lode_pass_memory(&size, &pass));
    LODE_TRY(lode_trainer_memory(architecture, &train->layout, setting, &bytes));
    if (bytes + pass.least <= setting->memory)
        return LODE_OK;
    return lode_fail(
        LODE_ERR_MEMORY,
        "train needs %.0f MB on a rank for weights, gradients and moments, %.0f MB for "
        "activations, and memory = %.0f MB leaves %.0f MB; raise memory, use more "
        "ranks, or lower micro_batch or train.groups",
        (double)bytes / 1e6, (double)pass.least / 1e6, (double)config->memory / 1e6,
        fmax((double)setting->memory, 0) / 1e6);
}

/* The line by which the training says its layout. Local. */
static lode_status_t say_layout(const lode_train_t *train) {
    lode_buffer_t text = {0};
    const lode_status_t status =
        lode_train_remark_layout(&text, train->run, &train->layout, train->run->comm->size);
    if (status == LODE_OK)
        lode_log_info("train: %s", text.data);
    lode_buffer_free(&text);
    return status;
}

/* Collective. */
static lode_status_t open_trainer(lode_train_t *train) {
    const lode_run_t *run = train->run;
    const lode_comm_t *comm = run->comm;
    lode_trainer_setting_t setting;
    lode_train_setting(&setting, run);
    setting.memory -= lode_train_other(run, train->text.sequences);
    lode_status_t status =
        lode_train_layout(&train->layout, run, train->text.sequences, comm->size, comm->rank);
    if (status == LODE_OK)
        status = check_memory(train, &setting);
    if (status == LODE_OK)
        status = say_layout(train);
    if (status == LODE_OK)
        status = lode_parameters_create(&train->parameters, &run->architecture, &train->layout);
    LODE_TRY(lode_comm_agree(comm, status));
    return lode_trainer_create(&train->trainer, comm, &train->layout, train->parameters, &setting);
}

lode_train_share_t lode_train_share(const lode_train_t *train) {
    return (lode_train_share_t){.parameters = train->parameters,
                                .moments = lode_trainer_moments(train->trainer)};
}

/* Refuses what is somebody else's where checkpoints and states go. */
static lode_status_t check_folders(const lode_train_t *train) {
    LODE_TRY(lode_train_state_check(train->run->folder));
    for (int64_t i = 0; i < train->record.checkpoints; i++) {
        char *path;
        LODE_TRY(
            lode_train_folder_path(&path, train->run->folder, train->record.checkpoint_step[i]));
        const lode_status_t status = lode_folder_check(path);
        free(path);
        LODE_TRY(status);
    }
    return LODE_OK;
}

/* Collective. */
static lode_status_t open_folders(lode_train_t *train) {
    const lode_run_t *run = train->run;
    const lode_dtype_t dtype = lode_train_dtype(run->config);
    lode_status_t status =
        lode_train_record_create(&train->record, run->config, run->architecture.layers);
    if (status == LODE_OK)
        status = lode_inventory_create(&train->inventory, &run->architecture, dtype);
    if (status == LODE_OK)
        status = lode_train_folders_create(&train->folders, run, &train->layout, &train->inventory,
                                           train->course.weights, dtype);
    if (status == LODE_OK && run->comm->rank == 0)
        status = check_folders(train);
    return lode_comm_agree(run->comm, status);
}

/* Weights as they are before the first step. Local. */
static lode_status_t begin(lode_train_t *train) {
    const lode_run_t *run = train->run;
    const lode_config_train_t *keys = &run->config->train;
    if (keys->from == LODE_TRAIN_CHECKPOINT)
        return lode_parameters_load(train->parameters, run->checkpoint);
    lode_parameters_initialise(train->parameters, run->config->seed, keys->init.deviation,
                               keys->init.depth);
    return LODE_OK;
}

/* --- all of it ------------------------------------------------------------------------------ */

lode_status_t lode_train_open(lode_train_t *train, lode_run_t *run) {
    *train = (lode_train_t){.run = run};
    LODE_TRY(open_text(train));
    LODE_TRY(lode_train_course_find(&train->course, run, &train->text, &train->validation));
    LODE_TRY(open_trainer(train));
    LODE_TRY(open_folders(train));
    LODE_TRY(lode_train_find_known(train));
    lode_status_t status = begin(train);
    if (status == LODE_OK && run->comm->rank == 0)
        status = lode_train_check_space(train);
    return lode_comm_agree(run->comm, status);
}

void lode_train_close(lode_train_t *train) {
    lode_trainer_destroy(&train->trainer);
    lode_parameters_destroy(&train->parameters);
    lode_train_folders_free(&train->folders);
    lode_inventory_free(&train->inventory);
    lode_train_record_free(&train->record);
    lode_order_free(&train->order);
    free(train->taken);
    free(train->ids);
    lode_store_close(&train->tokenize);
    *train = (lode_train_t){0};
}
