#include "evaluate/perplexity.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"

/* The data set in hand. */
typedef struct data {
    lode_evaluate_set_t set; /* first: it is the context of lode_evaluate_set_edit */
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

/* Takes what this stage was computed before, in part or for other settings. Collective. */
static lode_status_t take_earlier(data_t *data) {
    lode_evaluate_work_t *work = data->set.work;
    const int64_t sequences = data->set.sequences;
    const lode_reuse_kind_t kind = {
        .group = "/perplexity", .axes = 1, .shape = {data->windows.targets}};
    for (int64_t v = 0; v < data->set.variants; v++)
        data->set.items[v].done =
            lode_store_done(work->store, data->set.part, v * sequences, sequences);
    LODE_TRY(lode_reuse_take(work->store, work->run, &kind, data->set.items, data->set.variants));
    lode_status_t status = LODE_OK;
    for (int64_t v = 0; v < data->set.variants && status == LODE_OK; v++)
        if (data->set.items[v].found && work->run->comm->rank == 0) /* which has written it */
            status = lode_store_mark(work->store, data->set.part, v * sequences, sequences);
    return lode_comm_agree(work->run->comm, status);
}

static lode_status_t run_variants(data_t *data) {
    lode_evaluate_work_t *work = data->set.work;
    LODE_TRY(lode_comm_agree(work->run->comm, lode_evaluate_set_select(&data->set)));
    const int64_t text = data->windows.text.offsets[data->windows.windows];
    const lode_evaluation_t evaluation = {.stage = "evaluate",
                                          .text = &data->windows.text,
                                          .variants = data->set.computed,
                                          .parent = data->set.parent,
                                          .start = data->set.start,
                                          .other = lode_edits_memory(work->edits) +
                                                   text * (int64_t)sizeof(int32_t),
                                          .context = data,
                                          .edit = lode_evaluate_set_edit,
                                          .losses = on_losses,
                                          .done = lode_evaluate_set_done};
    return lode_evaluation_run(work->run, &evaluation);
}

/* <name> and <name>_stderr. */
static lode_status_t write_estimate(lode_store_t *store, const char *path, const char *name,
                                    lode_estimate_t estimate) {
    char error[64];
    snprintf(error, sizeof error, "%s_stderr", name);
    LODE_TRY(lode_store_attribute_f64(store, path, name, estimate.value));
    return lode_store_attribute_f64(store, path, error, estimate.standard_error);
}

/* What only lm-eval has. */
static lode_status_t write_units(lode_store_t *store, const char *path,
                                 const lode_windows_t *windows,
                                 const lode_perplexity_t *perplexity) {
    LODE_TRY(lode_store_attribute_i64(store, path, "words", windows->words));
    LODE_TRY(lode_store_attribute_i64(store, path, "bytes", windows->bytes));
    LODE_TRY(write_estimate(store, path, "word_perplexity", perplexity->value));
    LODE_TRY(write_estimate(store, path, "byte_perplexity", perplexity->byte_perplexity));
    LODE_TRY(write_estimate(store, path, "bits_per_byte", perplexity->bits_per_byte));
    return write_estimate(store, path, "token_perplexity", perplexity->token);
}

static lode_status_t write_attributes(const data_t *data, const char *path,
                                      const lode_perplexity_t *perplexity) {
    lode_store_t *store = data->set.work->store;
    const lode_windows_t *windows = &data->windows;
    const char *protocol = lode_protocol_name(data->entry->protocol);
    LODE_TRY(lode_store_attribute_f64(store, path, "value", perplexity->value.value));
    LODE_TRY(lode_store_attribute_f64(store, path, "stderr", perplexity->value.standard_error));
    LODE_TRY(lode_store_attribute_text(store, path, "protocol", protocol));
    LODE_TRY(lode_store_attribute_i64(store, path, "length", data->entry->length));
    LODE_TRY(lode_store_attribute_i64(store, path, "windows", windows->windows));
    LODE_TRY(lode_store_attribute_i64(store, path, "targets", windows->targets));
    LODE_TRY(lode_store_attribute_i64(store, path, "bos", data->bos));
    return data->entry->protocol == LODE_PROTOCOL_LM_EVAL
               ? write_units(store, path, windows, perplexity)
               : LODE_OK;
}

/* Attributes of a variant's losses, from what was written. Collective. */
static lode_status_t write_value(const data_t *data, int64_t variant) {
    const lode_evaluate_work_t *work = data->set.work;
    const char *path = data->set.items[variant].path;
    lode_perplexity_t perplexity = {0};
    double *nll = NULL;
    lode_status_t status = LODE_OK;
    if (work->run->comm->rank == 0)
        status = lode_store_read_all(work->store, path, LODE_TYPE_F64, &nll, NULL);
    if (status == LODE_OK && nll)
        perplexity = lode_windows_value(&data->windows, nll);
    free(nll);
    LODE_TRY(lode_comm_agree(work->run->comm, status));
    LODE_TRY(write_attributes(data, path, &perplexity));
    lode_log_info("%s: %s of %s is %.4f ± %.4f (%s, %lld)", data->entry->name,
                  data->entry->protocol == LODE_PROTOCOL_LM_EVAL ? "word perplexity" : "perplexity",
                  lode_evaluate_variant_name(work, variant), perplexity.value.value,
                  perplexity.value.standard_error, lode_protocol_name(data->entry->protocol),
                  (long long)data->entry->length);
    return LODE_OK;
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
    data->set.part = (int)index;
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
        status = take_earlier(&data);
    if (status == LODE_OK)
        status = run_variants(&data);
    if (status == LODE_OK)
        status = lode_store_synchronise(work->store);
    for (int64_t v = 0; status == LODE_OK && v < data.set.variants; v++)
        status = write_value(&data, v);
    data_free(&data);
    return status;
}
