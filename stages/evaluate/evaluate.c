#include "evaluate/evaluate.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "common/evaluation.h"
#include "evaluate/edits.h"
#include "evaluate/reuse.h"

enum { NAME_MAX_BYTES = 512 };

/* Variant 0 is the unpruned model, variant i the prune stage's i − 1. */
typedef struct work {
    lode_run_t *run;
    lode_store_t *tokenize, *store;
    lode_variant_t *variants;
    int64_t variant_count; /* without the unpruned model */
    lode_edits_t *edits;
    lode_edit_digests_t digests; /* of all variants, the unpruned model included */
    int32_t bos;                 /* that the tokenizer puts first, −1 if none */
    /* the data set in hand */
    const lode_config_perplexity_t *entry;
    lode_windows_t windows;
    lode_reuse_item_t *items;           /* [evaluated] */
    int64_t *selected, *parent, *start; /* [computed] variants that are computed, their sharing */
    int64_t computed;
    double *scored; /* [longest micro-batch] */
} work_t;

/* Variants that the data set in hand is evaluated on, the unpruned model included. */
static int64_t evaluated(const work_t *work) {
    return work->entry->pruned ? 1 + work->variant_count : 1;
}

static const char *variant_name(const work_t *work, int64_t variant) {
    return variant == 0 ? "dense" : work->variants[variant - 1].name;
}

/* --- callbacks of the evaluator ------------------------------------------------------------- */

/* By variants of the stage. */
static lode_status_t edit_of(void *context, int64_t variant, int64_t layer, lode_ffn_edit_t *edit) {
    const work_t *work = context;
    if (variant > 0)
        *edit = lode_edits_of(work->edits, variant - 1, layer);
    return LODE_OK;
}

/* By variants that are computed. */
static lode_status_t on_edit(void *context, int64_t variant, int64_t layer, lode_ffn_edit_t *edit) {
    return edit_of(context, ((work_t *)context)->selected[variant], layer, edit);
}

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    (void)greedy;
    work_t *work = context;
    int64_t scored = 0;
    for (int64_t t = 0; t < batch->tokens; t++)
        if (work->windows.target[batch->first_token + t] >= 0)
            work->scored[scored++] = nll[t];
    const int64_t offset = batch->first_sequence * work->windows.per_window;
    return lode_store_write(work->store, work->items[work->selected[variant]].path, &offset,
                            &scored, work->scored);
}

/* --- what there is to compute --------------------------------------------------------------- */

static lode_status_t name_items(work_t *work) {
    const int64_t count = evaluated(work), micro_batch = work->run->config->micro_batch;
    const int64_t longest = work->entry->length > micro_batch ? work->entry->length : micro_batch;
    LODE_TRY(LODE_NEW(&work->items, count, "results"));
    LODE_TRY(LODE_NEW(&work->selected, 3 * count, "results"));
    work->parent = work->selected + count;
    work->start = work->parent + count;
    LODE_TRY(LODE_NEW(&work->scored, longest, "losses"));
    for (int64_t v = 0; v < count; v++) {
        char path[NAME_MAX_BYTES];
        snprintf(path, sizeof path, "/perplexity/%s/%s", work->entry->name, variant_name(work, v));
        LODE_TRY(lode_strdup(&work->items[v].path, path));
        LODE_TRY(lode_reuse_digest(work->items[v].digest, work->run, &work->windows,
                                   work->digests.variant[v]));
    }
    return LODE_OK;
}

static lode_status_t create_datasets(work_t *work) {
    const int64_t targets = work->windows.windows * work->windows.per_window;
    for (int64_t v = 0; v < evaluated(work); v++) {
        const lode_reuse_item_t *item = &work->items[v];
        LODE_TRY(lode_store_dataset(work->store, item->path, LODE_TYPE_F64, 1, &targets, false));
        LODE_TRY(lode_store_attribute_text(work->store, item->path, "digest", item->digest));
    }
    return lode_reuse_take(work->store, work->run, work->items, evaluated(work), targets);
}

/* Selects what was not found, and says how much that is. */
static lode_status_t select_variants(work_t *work) {
    int64_t equal = 0;
    work->computed = 0;
    for (int64_t v = 0; v < evaluated(work); v++)
        if (!work->items[v].found)
            work->selected[work->computed++] = v;
    LODE_TRY(lode_edit_digests_share(&work->digests, work->selected, work->computed, work->parent,
                                     work->start));
    for (int64_t i = 0; i < work->computed; i++)
        equal += work->start[i] == work->digests.layers;
    lode_log_info("evaluate: %s: %lld %s, %lld equal to others, %lld taken from earlier results",
                  work->entry->name, (long long)evaluated(work),
                  evaluated(work) == 1 ? "variant" : "variants", (long long)equal,
                  (long long)(evaluated(work) - work->computed));
    return LODE_OK;
}

/* --- one data set --------------------------------------------------------------------------- */

static lode_status_t run_variants(work_t *work) {
    LODE_TRY(lode_comm_agree(work->run->comm, select_variants(work)));
    const int64_t text = work->windows.text.offsets[work->windows.windows];
    const lode_evaluation_t evaluation = {.stage = "evaluate",
                                          .text = &work->windows.text,
                                          .variants = work->computed,
                                          .parent = work->parent,
                                          .start = work->start,
                                          .other = lode_edits_memory(work->edits) +
                                                   text * (int64_t)sizeof(int32_t),
                                          .context = work,
                                          .edit = on_edit,
                                          .losses = on_losses};
    return lode_evaluation_run(work->run, &evaluation);
}

/* Attributes of every variant's losses, computed by all ranks from what was written. */
static lode_status_t write_values(work_t *work) {
    const lode_windows_t *windows = &work->windows;
    const lode_protocol_t protocol = work->entry->protocol;
    for (int64_t v = 0; v < evaluated(work); v++) {
        const char *path = work->items[v].path;
        double *nll = NULL, value = 0, standard_error = 0;
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
        LODE_TRY(
            lode_store_attribute_text(work->store, path, "protocol", lode_protocol_name(protocol)));
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

static void entry_free(work_t *work) {
    for (int64_t v = 0; work->items && v < evaluated(work); v++)
        free(work->items[v].path);
    free(work->items);
    free(work->selected);
    free(work->scored);
    work->items = NULL;
    work->selected = NULL;
    work->scored = NULL;
    lode_windows_free(&work->windows);
}

static lode_status_t evaluate_entry(work_t *work) {
    lode_status_t status =
        lode_evaluation_windows(&work->windows, work->tokenize, work->entry, work->bos);
    if (status == LODE_OK)
        status = name_items(work);
    status = lode_comm_agree(work->run->comm, status);
    if (status == LODE_OK)
        status = create_datasets(work);
    if (status == LODE_OK)
        status = run_variants(work);
    if (status == LODE_OK)
        status = lode_store_synchronise(work->store);
    if (status == LODE_OK)
        status = write_values(work);
    entry_free(work);
    return status;
}

/* --- the stage ------------------------------------------------------------------------------ */

static lode_status_t evaluate_all(work_t *work) {
    lode_run_t *run = work->run;
    const lode_config_evaluate_t *evaluate = &run->config->evaluate;
    LODE_TRY(lode_run_open(&work->tokenize, run, LODE_STAGE_TOKENIZE));
    LODE_TRY(lode_evaluation_bos(&work->bos, run));
    LODE_TRY(lode_comm_agree(
        run->comm, lode_variants_list(&work->variants, &work->variant_count, run->config)));
    LODE_TRY(lode_edits_open(&work->edits, run, work->variants, work->variant_count));
    LODE_TRY(lode_edit_digests_create(&work->digests, run, 1 + work->variant_count, edit_of, work));
    LODE_TRY(lode_run_create(&work->store, run, LODE_STAGE_EVALUATE));
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
    lode_edit_digests_free(&work.digests);
    lode_edits_close(&work.edits);
    lode_variants_free(&work.variants, work.variant_count);
    lode_store_close(&work.tokenize);
    return status;
}
