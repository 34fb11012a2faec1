#include "evaluate/evaluate.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "common/evaluation.h"
#include "prune/prune.h"
#include "text/tokenizer.h"
#include "transformer/pass.h"

enum { NAME_MAX_BYTES = 512 };

/* Variant 0 is the unpruned model, variant i the prune stage's i − 1. */
typedef struct work {
    lode_run_t *run;
    lode_store_t *tokenize, *prune, *store;
    lode_variant_t *variants;
    int64_t variant_count; /* without the unpruned model */
    int32_t bos;           /* that the tokenizer puts first, −1 if none */
    /* the kept channels of this rank's layers, all variants: channel lists of layer l of variant v
     * begin at index[v, l] in channels */
    int32_t *channels;
    int64_t *index; /* [variant_count · layers + 1] */
    /* the data set in hand */
    const lode_config_perplexity_t *entry;
    lode_windows_t windows;
    double *scored; /* [longest micro-batch] */
} work_t;

/* Variants that the data set in hand is evaluated on, the unpruned model included. */
static int64_t evaluated(const work_t *work) {
    return work->entry->pruned ? 1 + work->variant_count : 1;
}

static const char *variant_name(const work_t *work, int64_t variant) {
    return variant == 0 ? "dense" : work->variants[variant - 1].name;
}

static void dataset_path(char path[NAME_MAX_BYTES], const work_t *work, int64_t variant) {
    snprintf(path, NAME_MAX_BYTES, "/perplexity/%s/%s", work->entry->name,
             variant_name(work, variant));
}

/* --- masks ---------------------------------------------------------------------------------- */

static lode_status_t read_masks(work_t *work) {
    const lode_layout_t *layout = &work->run->layout;
    const int64_t first = layout->first_layer, layers = layout->layer_end - first;
    const int64_t m = work->run->architecture.intermediate;
    uint8_t *keep = NULL;
    lode_status_t status = LODE_OK;
    LODE_GUARD(status, LODE_NEW(&work->index, work->variant_count * layers + 1, "masks"), done);
    LODE_GUARD(status, LODE_NEW(&work->channels, work->variant_count * layers * m, "masks"), done);
    LODE_GUARD(status, LODE_NEW(&keep, m, "masks"), done);
    int64_t next = 0;
    for (int64_t i = 0; i < work->variant_count * layers; i++) {
        const int64_t offset[] = {first + i % layers, 0}, count[] = {1, m};
        char path[NAME_MAX_BYTES];
        snprintf(path, sizeof path, "/keep/%s", work->variants[i / layers].name);
        LODE_GUARD(status, lode_store_read(work->prune, path, offset, count, LODE_TYPE_U8, keep),
                   done);
        work->index[i] = next;
        for (int32_t j = 0; j < m; j++)
            if (keep[j])
                work->channels[next++] = j;
    }
    work->index[work->variant_count * layers] = next;
done:
    free(keep);
    return status;
}

/* --- observers ------------------------------------------------------------------------------ */

static lode_status_t on_edit(void *context, int64_t variant, int64_t layer,
                             lode_ffn_edit_t *edit) {
    const work_t *work = context;
    const lode_layout_t *layout = &work->run->layout;
    const int64_t layers = layout->layer_end - layout->first_layer;
    const int64_t *index = work->index + (variant - 1) * layers + layer - layout->first_layer;
    if (variant == 0)
        return LODE_OK;
    edit->channels = work->channels + index[0];
    edit->count = index[1] - index[0];
    return LODE_OK;
}

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll) {
    work_t *work = context;
    int64_t scored = 0;
    for (int64_t t = 0; t < batch->tokens; t++)
        if (work->windows.target[batch->first_token + t] >= 0)
            work->scored[scored++] = nll[t];
    char path[NAME_MAX_BYTES];
    dataset_path(path, work, variant);
    const int64_t offset = batch->first_sequence * work->windows.per_window;
    return lode_store_write(work->store, path, &offset, &scored, work->scored);
}

/* --- one data set --------------------------------------------------------------------------- */

static lode_status_t create_datasets(work_t *work) {
    const int64_t targets = work->windows.windows * work->windows.per_window;
    for (int64_t v = 0; v < evaluated(work); v++) {
        char path[NAME_MAX_BYTES];
        dataset_path(path, work, v);
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F64, 1, &targets, false));
    }
    return LODE_OK;
}

/* Runs all variants over the windows. */
static lode_status_t run_variants(work_t *work) {
    lode_run_t *run = work->run;
    const lode_evaluation_t evaluation = {.stage = "evaluate",
                                          .text = &work->windows.text,
                                          .variants = evaluated(work),
                                          .context = work,
                                          .edit = on_edit,
                                          .losses = on_losses};
    LODE_TRY(lode_comm_agree(run->comm, LODE_NEW(&work->scored, work->entry->length * 1000, "losses")));
    lode_status_t status = lode_evaluation_run(run, &evaluation);
    free(work->scored);
    work->scored = NULL;
    return status;
}

/* Attributes of every variant's losses, computed by all ranks from what was written. */
static lode_status_t write_values(work_t *work) {
    const lode_windows_t *windows = &work->windows;
    const lode_protocol_t protocol = work->entry->protocol;
    for (int64_t v = 0; v < evaluated(work); v++) {
        char path[NAME_MAX_BYTES];
        double *nll = NULL, value = 0, standard_error = 0;
        dataset_path(path, work, v);
        lode_status_t status = LODE_OK;
        if (work->run->comm->rank == 0)
            status = lode_store_read_all(work->store, path, LODE_TYPE_F64, &nll, NULL);
        if (status == LODE_OK && nll)
            lode_windows_value(protocol, nll, windows->windows, windows->per_window, &value,
                               &standard_error);
        free(nll);
        LODE_TRY(lode_comm_agree(work->run->comm, status));
        LODE_TRY(lode_store_attribute_f64(work->store, path, "value", value));
        LODE_TRY(lode_store_attribute_f64(work->store, path, "stderr", standard_error));
        LODE_TRY(lode_store_attribute_text(work->store, path, "protocol",
                                           lode_protocol_name(protocol)));
        LODE_TRY(lode_store_attribute_i64(work->store, path, "length", work->entry->length));
        LODE_TRY(lode_store_attribute_i64(work->store, path, "windows", windows->windows));
        LODE_TRY(lode_store_attribute_i64(work->store, path, "targets",
                                          windows->windows * windows->per_window));
        lode_log_info("%s: perplexity of %s is %.4f ± %.4f (%s, %lld)", work->entry->name,
                      variant_name(work, v), value, standard_error, lode_protocol_name(protocol),
                      (long long)work->entry->length);
    }
    return LODE_OK;
}

static lode_status_t evaluate_entry(work_t *work) {
    LODE_TRY(lode_comm_agree(work->run->comm, lode_evaluation_windows(&work->windows, work->tokenize, work->entry, work->bos)));
    lode_status_t status = create_datasets(work);
    if (status == LODE_OK)
        status = run_variants(work);
    if (status == LODE_OK)
        status = lode_store_synchronise(work->store);
    if (status == LODE_OK)
        status = write_values(work);
    lode_windows_free(&work->windows);
    return status;
}

/* --- the stage ------------------------------------------------------------------------------ */

static lode_status_t evaluate_all(work_t *work) {
    const lode_config_evaluate_t *evaluate = &work->run->config->evaluate;
    LODE_TRY(lode_run_open(&work->tokenize, work->run, LODE_STAGE_TOKENIZE));
    LODE_TRY(lode_run_open(&work->prune, work->run, LODE_STAGE_PRUNE));
    LODE_TRY(lode_evaluation_bos(&work->bos, work->run));
    lode_status_t status =
        lode_variants_list(&work->variants, &work->variant_count, work->run->config);
    if (status == LODE_OK)
        status = read_masks(work);
    LODE_TRY(lode_comm_agree(work->run->comm, status));
    LODE_TRY(lode_run_create(&work->store, work->run, LODE_STAGE_EVALUATE));
    for (int64_t i = 0; i < evaluate->perplexity_count; i++) {
        work->entry = &evaluate->perplexity[i];
        LODE_TRY(evaluate_entry(work));
    }
    return LODE_OK;
}

lode_status_t lode_stage_evaluate(lode_run_t *run) {
    work_t work = {.run = run};
    lode_status_t status = evaluate_all(&work);
    status = lode_run_finish(&work.store, run, LODE_STAGE_EVALUATE, status);
    lode_variants_free(&work.variants, work.variant_count);
    free(work.channels);
    free(work.index);
    lode_store_close(&work.prune);
    lode_store_close(&work.tokenize);
    return status;
}
