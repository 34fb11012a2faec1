#include "audit/audit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "audit/work.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/figure.h"
#include "common/statistics.h"
#include "evaluate/perplexity.h"
#include "evaluate/tasks.h"
#include "score/halo.h"
#include "score/supernode.h"

void lode_audit_path(const lode_audit_item_t *item, const char *what, char path[LODE_AUDIT_PATH]) {
    snprintf(path, LODE_AUDIT_PATH, "%s/%s", item->group, what);
}

lode_status_t lode_audit_figure(const lode_audit_t *audit, const lode_audit_item_t *item,
                                const char *what, int64_t layer, double value) {
    const int64_t count = 1;
    char path[LODE_AUDIT_PATH];
    lode_audit_path(item, what, path);
    return lode_store_write(audit->store, path, &layer, &count, &value);
}

/* --- what is audited ------------------------------------------------------------------------- */

static void set_sizes(lode_audit_t *audit) {
    const lode_config_classify_t *classify = &audit->run->config->classify;
    const int64_t m = audit->run->architecture.intermediate;
    audit->core_size = lode_supernode_size(classify->core_fraction, m);
    audit->halo_size = lode_halo_size(classify->halo_fraction, m, audit->core_size);
}

static lode_status_t name_item(lode_audit_item_t *item, const lode_config_folder_t *entry) {
    lode_buffer_t group = {0}, title = {0};
    lode_status_t status = lode_buffer_printf(&group, "/folders/%s", entry->name);
    if (status == LODE_OK)
        status = lode_buffer_printf(&title, "audit of %s", entry->name);
    item->group = group.data;
    item->title = title.data;
    return status;
}

/* Room for all entries of the model, and all parts. */
static lode_status_t allocate(lode_audit_t *audit) {
    const lode_config_t *config = audit->run->config;
    const int64_t sets = config->evaluate.perplexity_count + config->evaluate.task_count;
    const int64_t folders = config->audit.folder_count;
    LODE_TRY(LODE_NEW(&audit->items, folders, "folders"));
    LODE_TRY(LODE_NEW(&audit->parts, 2 + folders * sets, "data sets"));
    return LODE_NEW(&audit->scratch_parts, folders * (1 + config->evaluate.task_count),
                    "data sets");
}

/* What losses of a version are told from others by; nothing is ever taken over. */
static lode_status_t set_digest(lode_audit_version_t *version, const lode_run_t *run) {
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_AUDIT]);
    lode_hash_add_text(hash, version->entry->name);
    lode_hash_text(hash, version->run.model_digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

/* Describes entry `number` as the next item. Collective. */
static lode_status_t add_item(lode_audit_t *audit, int64_t number) {
    lode_audit_item_t *item = &audit->items[audit->count++];
    const lode_run_t *run = audit->run;
    LODE_TRY(lode_comm_agree(run->comm, name_item(item, &run->config->audit.folders[number])));
    LODE_TRY(lode_audit_version_create(&item->version, run, number));
    LODE_TRY(lode_comm_agree(run->comm, set_digest(&item->version, run)));
    item->evaluate = (lode_evaluate_work_t){.run = &item->version.run,
                                            .stage = item->title,
                                            .dense = item->version.entry->name,
                                            .group = item->group,
                                            .tokenize = audit->tokenize};
    return lode_edit_digests_create(&item->evaluate.digests, &item->version.run, 1,
                                    lode_evaluate_edit, &item->evaluate);
}

static lode_status_t list_items(lode_audit_t *audit) {
    const lode_run_t *run = audit->run;
    const lode_config_audit_t *config = &run->config->audit;
    LODE_TRY(lode_comm_agree(run->comm, allocate(audit)));
    for (int64_t i = 0; i < config->folder_count; i++)
        if (lode_audit_applies(&config->folders[i], run->model->name))
            LODE_TRY(add_item(audit, i));
    return LODE_OK;
}

static void item_free(lode_audit_item_t *item) {
    lode_edit_digests_free(&item->evaluate.digests);
    lode_audit_version_free(&item->version);
    free(item->group);
    free(item->title);
}

/* --- what it is compared with ---------------------------------------------------------------- */

static lode_status_t read_extents(lode_audit_t *audit) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    LODE_TRY(lode_store_shape(audit->accumulate, "/sequences/loss_proxy", &axes, shape));
    audit->sequences = shape[0];
    LODE_TRY(lode_store_get_attribute_i64(audit->accumulate, "/", "tokens", &audit->tokens));
    if (!audit->superweight)
        return LODE_OK;
    LODE_TRY(lode_store_shape(audit->superweight, "/weights/layer", &axes, shape));
    audit->superweights = shape[0];
    return lode_superweight_text_read(&audit->prompts, audit->tokenize, "/superweight");
}

static lode_status_t open_inputs(lode_audit_t *audit) {
    lode_run_t *run = audit->run;
    LODE_TRY(lode_run_open(&audit->tokenize, run, LODE_STAGE_TOKENIZE));
    LODE_TRY(lode_run_open(&audit->accumulate, run, LODE_STAGE_ACCUMULATE));
    LODE_TRY(lode_run_open(&audit->classify, run, LODE_STAGE_CLASSIFY));
    if (run->config->evaluate.perplexity_count > 0)
        LODE_TRY(lode_run_open(&audit->evaluate, run, LODE_STAGE_EVALUATE));
    if (lode_stage_wanted(run->config, LODE_STAGE_SUPERWEIGHT))
        LODE_TRY(lode_run_open(&audit->superweight, run, LODE_STAGE_SUPERWEIGHT));
    return lode_comm_agree(run->comm, read_extents(audit));
}

static void original_path(const lode_config_perplexity_t *entry, char path[LODE_AUDIT_PATH]) {
    snprintf(path, LODE_AUDIT_PATH, "/original/perplexity/%s", entry->name);
}

static void dense_path(const lode_config_perplexity_t *entry, char path[LODE_AUDIT_PATH]) {
    snprintf(path, LODE_AUDIT_PATH, "/perplexity/%s/dense", entry->name);
}

static lode_status_t create_original(const lode_audit_t *audit) {
    const lode_config_evaluate_t *evaluate = &audit->run->config->evaluate;
    const int64_t L = audit->run->architecture.layers;
    LODE_TRY(lode_store_dataset(audit->store, "/original/core_mass", LODE_TYPE_F64, 1, &L, false));
    for (int64_t i = 0; i < evaluate->perplexity_count; i++) {
        char path[LODE_AUDIT_PATH];
        int axes;
        int64_t shape[LODE_STORE_MAX_AXES] = {0};
        dense_path(&evaluate->perplexity[i], path);
        LODE_TRY(lode_comm_agree(audit->run->comm,
                                 lode_store_shape(audit->evaluate, path, &axes, shape)));
        original_path(&evaluate->perplexity[i], path);
        LODE_TRY(lode_store_dataset(audit->store, path, LODE_TYPE_F64, 1, shape, false));
    }
    return LODE_OK;
}

/* Copies a dataset of float64. By rank 0. */
static lode_status_t copy(lode_store_t *store, const char *to, lode_store_t *source,
                          const char *from) {
    const int64_t offset = 0;
    int64_t count;
    double *values;
    LODE_TRY(lode_store_read_all(source, from, LODE_TYPE_F64, &values, &count));
    const lode_status_t status = lode_store_write(store, to, &offset, &count, values);
    free(values);
    return status;
}

static lode_status_t copy_original(const lode_audit_t *audit) {
    const lode_config_evaluate_t *evaluate = &audit->run->config->evaluate;
    LODE_TRY(copy(audit->store, "/original/core_mass", audit->classify, "/core_mass"));
    for (int64_t i = 0; i < evaluate->perplexity_count; i++) {
        char from[LODE_AUDIT_PATH], to[LODE_AUDIT_PATH];
        dense_path(&evaluate->perplexity[i], from);
        original_path(&evaluate->perplexity[i], to);
        LODE_TRY(copy(audit->store, to, audit->evaluate, from));
    }
    return LODE_OK;
}

/* What the versions are compared with. Collective. */
static lode_status_t write_original(const lode_audit_t *audit) {
    const lode_comm_t *comm = audit->run->comm;
    const lode_config_evaluate_t *evaluate = &audit->run->config->evaluate;
    LODE_TRY(lode_comm_agree(comm, comm->rank == 0 ? copy_original(audit) : LODE_OK));
    LODE_TRY(lode_store_synchronise(audit->store));
    for (int64_t i = 0; i < evaluate->perplexity_count; i++) {
        const lode_config_perplexity_t *entry = &evaluate->perplexity[i];
        lode_windows_t windows;
        int32_t bos;
        char path[LODE_AUDIT_PATH];
        original_path(entry, path);
        lode_status_t status =
            lode_comm_agree(comm, lode_evaluation_windows(&windows, &bos, audit->tokenize, entry));
        if (status == LODE_OK)
            status =
                lode_figure_write(audit->store, comm, path, entry, &windows, bos, "the original");
        lode_windows_free(&windows);
        LODE_TRY(status);
    }
    return LODE_OK;
}

/* --- the file -------------------------------------------------------------------------------- */

/* Creates the datasets of an item's perplexities and tasks. Collective. */
static lode_status_t create_evaluation(lode_audit_t *audit, lode_audit_item_t *item) {
    const lode_config_evaluate_t *evaluate = &audit->run->config->evaluate;
    lode_evaluate_work_t *work = &item->evaluate;
    work->store = audit->store;
    work->scratch = audit->scratch;
    work->first_part = audit->part_count;
    work->parts = audit->parts + audit->part_count;
    work->first_scratch_part = audit->scratch_part_count;
    work->scratch_parts = audit->scratch_parts + audit->scratch_part_count;
    for (int64_t i = 0; i < evaluate->perplexity_count; i++)
        LODE_TRY(lode_evaluate_perplexity_create(work, i));
    for (int64_t i = 0; i < evaluate->task_count; i++)
        LODE_TRY(lode_evaluate_task_create(work, i));
    audit->part_count += (int)(evaluate->perplexity_count + evaluate->task_count);
    audit->scratch_part_count += (int)evaluate->task_count;
    return LODE_OK;
}

static lode_status_t describe_item(const lode_audit_t *audit, const lode_audit_item_t *item) {
    const lode_audit_version_t *version = &item->version;
    lode_store_t *store = audit->store;
    LODE_TRY(lode_store_attribute_text(store, item->group, "path", version->folder));
    LODE_TRY(
        lode_store_attribute_i64(store, item->group, "layers", version->run.architecture.layers));
    LODE_TRY(lode_store_attribute_i64(store, item->group, "channels",
                                      version->run.architecture.intermediate));
    return lode_store_attribute_text(store, item->group, "known",
                                     lode_audit_kept_name(version->known));
}

/* The datasets of an item but its evaluation's, which need the tokenized texts. */
static lode_status_t create_item(lode_audit_t *audit, lode_audit_item_t *item) {
    LODE_TRY(lode_audit_weights_create(audit, item));
    if (lode_stage_wanted(audit->run->config, LODE_STAGE_SUPERWEIGHT)) {
        LODE_TRY(lode_audit_superweights_create(audit, item));
        LODE_TRY(lode_audit_detect_create(audit, item));
    }
    if (audit->run->config->audit.loss_proxy) {
        LODE_TRY(lode_audit_proxy_create(audit, item));
        item->sequences_part = audit->scratch_part_count++;
        audit->scratch_parts[item->sequences_part] = (lode_part_t){
            item->version.entry->name, lode_statistic_units(&item->version.run, audit->sequences)};
    }
    return describe_item(audit, item);
}

static lode_status_t create_stores(lode_audit_t *audit) {
    lode_run_t *run = audit->run;
    const bool scratch = run->config->audit.loss_proxy || run->config->evaluate.task_count > 0;
    LODE_TRY(lode_run_create_resumable(&audit->store, run, LODE_STAGE_AUDIT));
    if (scratch)
        LODE_TRY(lode_run_create_scratch(&audit->scratch, run, LODE_STAGE_AUDIT));
    audit->parts[audit->part_count++] =
        (lode_part_t){"layers", audit->count * run->architecture.layers};
    if (audit->superweight) {
        audit->detected_part = audit->part_count++;
        audit->parts[audit->detected_part] = (lode_part_t){"super-weights", audit->count};
    }
    LODE_TRY(create_original(audit));
    for (int64_t i = 0; i < audit->count; i++) {
        LODE_TRY(create_item(audit, &audit->items[i]));
        LODE_TRY(create_evaluation(audit, &audit->items[i]));
    }
    LODE_TRY(lode_store_resume(audit->store, audit->parts, audit->part_count));
    return scratch
               ? lode_store_resume(audit->scratch, audit->scratch_parts, audit->scratch_part_count)
               : LODE_OK;
}

/* --- an item --------------------------------------------------------------------------------- */

/* The mean over layers of a figure, without those that lack it. */
static lode_status_t mean_of(double *mean, const lode_audit_t *audit, const char *path) {
    double *values, sum = 0;
    int64_t count, defined = 0;
    LODE_TRY(lode_store_read_all(audit->store, path, LODE_TYPE_F64, &values, &count));
    for (int64_t l = 0; l < count; l++)
        if (!isnan(values[l])) {
            sum += values[l];
            defined++;
        }
    free(values);
    *mean = defined > 0 ? sum / (double)defined : NAN;
    return LODE_OK;
}

/* Says what was found. By rank 0. */
static lode_status_t say(const lode_audit_t *audit, const lode_audit_item_t *item) {
    static const char *const names[] = {
        "core_removed",      "core_zeroed",       "core_changed", "weight_error_core",
        "weight_error_halo", "weight_error_rest", "core_mass"};
    enum { FIGURES = sizeof names / sizeof *names };
    const bool proxy = audit->run->config->audit.loss_proxy;
    double mean[FIGURES], original;
    for (int i = 0; i < (proxy ? FIGURES : FIGURES - 1); i++) {
        char path[LODE_AUDIT_PATH];
        lode_audit_path(item, names[i], path);
        LODE_TRY(mean_of(&mean[i], audit, path));
    }
    lode_log_info("%s: of the core %.1f %% removed, %.1f %% zeroed, %.1f %% changed; weight error "
                  "%.4f on the core, %.4f on the halo, %.4f on the rest",
                  item->title, 100 * mean[0], 100 * mean[1], 100 * mean[2], mean[3], mean[4],
                  mean[5]);
    if (!proxy)
        return LODE_OK;
    LODE_TRY(mean_of(&original, audit, "/original/core_mass"));
    lode_log_info("%s: the core has %.1f %% of the loss proxy, %.1f %% in the original",
                  item->title, 100 * mean[6], 100 * original);
    return LODE_OK;
}

/* Everything that needs the version's weights, which are open. Collective. */
static lode_status_t measure_item(lode_audit_t *audit, int64_t index) {
    lode_audit_item_t *item = &audit->items[index];
    const lode_comm_t *comm = audit->run->comm;
    const lode_config_evaluate_t *evaluate = &audit->run->config->evaluate;
    LODE_TRY(lode_comm_agree(comm, lode_audit_weights(audit, index)));
    LODE_TRY(lode_store_synchronise(audit->store));
    if (audit->superweight) {
        LODE_TRY(lode_comm_agree(comm,
                                 comm->rank == 0 ? lode_audit_superweights(audit, item) : LODE_OK));
        LODE_TRY(lode_fail_context(lode_audit_detect(audit, index), "%s", item->version.folder));
    }
    if (audit->run->config->audit.loss_proxy)
        LODE_TRY(lode_fail_context(lode_audit_proxy(audit, item), "%s", item->version.folder));
    for (int64_t i = 0; i < evaluate->perplexity_count; i++)
        LODE_TRY(lode_evaluate_perplexity(&item->evaluate, i));
    for (int64_t i = 0; i < evaluate->task_count; i++)
        LODE_TRY(lode_evaluate_task(&item->evaluate, i));
    LODE_TRY(lode_store_synchronise(audit->store));
    return lode_comm_agree(comm, comm->rank == 0 ? say(audit, item) : LODE_OK);
}

static lode_status_t audit_all(lode_audit_t *audit) {
    set_sizes(audit);
    LODE_TRY(open_inputs(audit));
    LODE_TRY(list_items(audit));
    LODE_TRY(create_stores(audit));
    LODE_TRY(write_original(audit));
    for (int64_t i = 0; i < audit->count; i++) {
        LODE_TRY(lode_comm_stop(audit->run->comm, 0));
        LODE_TRY(lode_audit_version_open(&audit->items[i].version));
        const lode_status_t status = measure_item(audit, i);
        lode_audit_version_close(&audit->items[i].version);
        LODE_TRY(status);
    }
    return LODE_OK;
}

lode_status_t lode_stage_audit(lode_run_t *run) {
    lode_audit_t audit = {.run = run};
    lode_status_t status = audit_all(&audit);
    status = lode_run_finish(&audit.store, run, LODE_STAGE_AUDIT, status);
    lode_run_end_scratch(&audit.scratch, status);
    for (int64_t i = 0; i < audit.count; i++)
        item_free(&audit.items[i]);
    free(audit.items);
    free(audit.parts);
    free(audit.scratch_parts);
    lode_superweight_text_free(&audit.prompts);
    lode_store_close(&audit.superweight);
    lode_store_close(&audit.evaluate);
    lode_store_close(&audit.classify);
    lode_store_close(&audit.accumulate);
    lode_store_close(&audit.tokenize);
    return status;
}

/* --- for plans ------------------------------------------------------------------------------- */

/* An item like the model itself. */
static lode_status_t count_item(lode_audit_t *audit, const lode_config_folder_t *entry) {
    lode_audit_item_t *item = &audit->items[audit->count++];
    item->version = (lode_audit_version_t){.entry = entry, .run = *audit->run};
    LODE_TRY(lode_strdup(&item->version.folder, entry->path));
    LODE_TRY(name_item(item, entry));
    return create_item(audit, item);
}

static lode_status_t count_all(lode_audit_t *audit) {
    const lode_config_audit_t *config = &audit->run->config->audit;
    LODE_TRY(allocate(audit));
    LODE_TRY(lode_store_tally_create(&audit->store));
    LODE_TRY(lode_store_tally_create(&audit->scratch));
    for (int64_t i = 0; i < config->folder_count; i++)
        if (lode_audit_applies(&config->folders[i], audit->run->model->name))
            LODE_TRY(count_item(audit, &config->folders[i]));
    return LODE_OK;
}

lode_status_t lode_audit_size(lode_stage_size_t *size, lode_run_t *run,
                              const lode_evaluate_extents_t *extents, int64_t sequences) {
    lode_audit_t audit = {.run = run,
                          .sequences = sequences,
                          .tokens = 1,
                          .superweights = run->config->superweight.limit};
    set_sizes(&audit);
    *size = (lode_stage_size_t){.memory = lode_audit_weights_memory(run)};
    lode_status_t status = count_all(&audit);
    for (int64_t i = 0; i <= audit.count && status == LODE_OK; i++) /* of the original too */
        status = lode_evaluate_tally(audit.store, run, extents);
    size->file = lode_store_tally_end(&audit.store);
    size->scratch = lode_store_tally_end(&audit.scratch);
    for (int64_t i = 0; i < audit.count; i++)
        item_free(&audit.items[i]);
    free(audit.items);
    free(audit.parts);
    free(audit.scratch_parts);
    return status;
}
