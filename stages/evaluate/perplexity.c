#include "evaluate/perplexity.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "common/figure.h"

/* The data set in hand. */
typedef struct data {
    lode_evaluate_set_t set; /* first: see lode_evaluate_losses_t */
    const lode_config_perplexity_t *entry;
    lode_windows_t windows;
    int32_t bos;    /* token before the text, −1 for none */
    double *scored; /* [longest micro-batch] */
} data_t;

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    (void)greedy;
    data_t *data = context;
    int64_t scored = 0;
    for (int64_t t = 0; t < batch->tokens; t++)
        if (data->windows.target[batch->first_token + t] >= 0)
            data->scored[scored++] = nll[t];
    const int64_t offset = data->windows.first_target[batch->first_sequence];
    LODE_TRY(lode_store_write(data->set.work->store,
                              data->set.items[data->set.selected[variant]].path, &offset, &scored,
                              data->scored));
    return lode_evaluate_set_mark(&data->set, variant, batch);
}

static lode_status_t prepare(data_t *data, lode_evaluate_work_t *work) {
    const int64_t micro_batch = work->run->config->micro_batch, length = data->entry->length;
    LODE_TRY(lode_evaluation_windows(&data->windows, &data->bos, work->tokenize, data->entry));
    LODE_TRY(LODE_NEW(&data->scored, length > micro_batch ? length : micro_batch, "losses"));
    return lode_evaluate_set_create(&data->set, work, "/perplexity", data->entry->name,
                                    data->entry->pruned, &data->windows.text);
}

static lode_status_t create_datasets(data_t *data) {
    lode_store_t *store = data->set.work->store;
    const int64_t targets = data->windows.targets;
    for (int64_t v = 0; v < data->set.variants; v++) {
        const lode_reuse_item_t *item = &data->set.items[v];
        LODE_TRY(lode_store_dataset(store, item->path, LODE_TYPE_F64, 1, &targets, false));
        LODE_TRY(lode_store_attribute_text(store, item->path, "digest", item->digest));
    }
    return LODE_OK;
}

static lode_status_t compute(data_t *data) {
    const lode_windows_t *windows = &data->windows;
    const lode_reuse_kind_t kind = {.group = "/perplexity", .axes = 1, .shape = {windows->targets}};
    const int64_t tokens = windows->text.offsets[windows->windows];
    LODE_TRY(lode_evaluate_set_take(&data->set, &kind, data->set.part, data->set.sequences));
    return lode_evaluate_set_run(&data->set, tokens * (int64_t)sizeof(int32_t), on_losses);
}

static void data_free(data_t *data) {
    lode_evaluate_set_free(&data->set);
    lode_windows_free(&data->windows);
    free(data->scored);
}

/* Sets up entry `index`. *data is for data_free, also on failure. Collective. */
static lode_status_t open_entry(data_t *data, lode_evaluate_work_t *work, int64_t index) {
    *data = (data_t){.entry = &work->run->config->evaluate.perplexity[index]};
    const lode_status_t status = lode_comm_agree(work->run->comm, prepare(data, work));
    data->set.losses = work->store;
    data->set.part = work->first_part + (int)index;
    return status;
}

lode_status_t lode_evaluate_perplexity_create(lode_evaluate_work_t *work, int64_t index) {
    data_t data;
    lode_status_t status = open_entry(&data, work, index);
    if (status == LODE_OK)
        status = create_datasets(&data);
    work->parts[index] = (lode_part_t){data.entry->name, data.set.variants * data.set.sequences};
    data_free(&data);
    return status;
}

lode_status_t lode_evaluate_perplexity(lode_evaluate_work_t *work, int64_t index) {
    data_t data;
    lode_status_t status = open_entry(&data, work, index);
    if (status == LODE_OK)
        status = compute(&data);
    if (status == LODE_OK)
        status = lode_store_synchronise(work->store);
    for (int64_t v = 0; status == LODE_OK && v < data.set.variants; v++)
        status = lode_figure_write(work->store, work->run->comm, data.set.items[v].path, data.entry,
                                   &data.windows, data.bos, lode_evaluate_variant_name(work, v));
    data_free(&data);
    return status;
}
