#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "audit/work.h"
#include "base/memory.h"
#include "common/statistics.h"
#include "kernels/statistics.h"
#include "score/concentration.h"
#include "score/supernode.h"

enum { LOSS_PROXY, POWER, TAYLOR, CURVATURE, STATISTICS };

static const char *const figures[] = {"core_mass", "core_overlap", "proxy_correlation"};

/* The pass over one version. */
typedef struct pass {
    lode_audit_t *audit;
    lode_audit_item_t *item;
    char name[LODE_AUDIT_PATH];
    lode_statistic_t statistic;
    double *sums; /* [STATISTICS, n] */
} pass_t;

/* The loss proxy's sums over sequences, and their mean, in the scratch file. */
static lode_statistic_t statistic_of(const lode_audit_t *audit, const lode_audit_item_t *item,
                                     char name[LODE_AUDIT_PATH]) {
    snprintf(name, LODE_AUDIT_PATH, "proxy/%s/loss_proxy", item->version.entry->name);
    return (lode_statistic_t){.name = name,
                              .width = item->version.run.architecture.intermediate,
                              .reduction = LODE_REDUCE_SUM,
                              .divisor = (double)audit->tokens};
}

lode_status_t lode_audit_proxy_create(const lode_audit_t *audit, const lode_audit_item_t *item) {
    const lode_run_t *run = audit->run;
    const int64_t shape[] = {run->architecture.layers, run->architecture.intermediate};
    char path[LODE_AUDIT_PATH];
    const lode_statistic_t statistic = statistic_of(audit, item, path);
    LODE_TRY(
        lode_statistic_create(audit->scratch, &item->version.run, &statistic, audit->sequences));
    lode_audit_path(item, "loss_proxy", path);
    LODE_TRY(lode_store_dataset(audit->store, path, LODE_TYPE_F64, 2, shape, true));
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        lode_audit_path(item, figures[i], path);
        LODE_TRY(lode_store_dataset(audit->store, path, LODE_TYPE_F64, 1, shape, true));
    }
    return LODE_OK;
}

/* --- the pass -------------------------------------------------------------------------------- */

static lode_status_t on_ffn_backward(void *context, const lode_batch_t *batch, int64_t layer,
                                     const lode_real_t *u, const lode_real_t *g) {
    pass_t *pass = context;
    const int64_t n = pass->statistic.width;
    double *sums = pass->sums;
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        const int64_t first = batch->sequences.offsets[s];
        const int64_t tokens = batch->sequences.offsets[s + 1] - first;
        lode_statistics_backward(tokens, n, u + first * n, g + first * n, sums + LOSS_PROXY * n,
                                 sums + POWER * n, sums + TAYLOR * n, sums + CURVATURE * n);
        LODE_TRY(lode_statistic_write(pass->audit->scratch, &pass->statistic,
                                      batch->first_sequence + s, layer, sums + LOSS_PROXY * n));
    }
    return lode_statistic_mark(pass->audit->scratch, pass->item->sequences_part,
                               pass->audit->sequences, batch, layer);
}

/* There are no losses to keep, but the head's rank must have worked, too. */
static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    const pass_t *pass = context;
    (void)variant;
    (void)nll;
    (void)greedy;
    return lode_statistic_mark(pass->audit->scratch, pass->item->sequences_part,
                               pass->audit->sequences, batch,
                               pass->item->version.run.architecture.layers);
}

static bool is_done(void *context, const lode_batch_t *batch) {
    const pass_t *pass = context;
    return lode_statistic_done(pass->audit->scratch, pass->item->sequences_part,
                               pass->audit->sequences, batch,
                               pass->item->version.run.architecture.layers + 1);
}

static lode_status_t run_pass(pass_t *pass) {
    lode_run_t *run = &pass->item->version.run;
    const int64_t n = pass->statistic.width;
    lode_sequences_read_t read;
    lode_batches_t batches = {0};
    LODE_TRY(lode_run_calibration(&read, run));
    lode_status_t status = lode_batches_create(&batches, &read.text, run->config->micro_batch);
    if (status == LODE_OK)
        status = LODE_NEW(&pass->sums, STATISTICS * n, "statistics");
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK) {
        const lode_statistics_pass_t statistics = {
            .stage = pass->item->title,
            .batches = &batches,
            .backward = true,
            .head_batches = batches.count,
            .other = STATISTICS * n * (int64_t)sizeof *pass->sums,
            .observer = {.context = pass, .ffn_backward = on_ffn_backward, .losses = on_losses},
            .done = is_done,
            .context = pass};
        status = lode_statistics_pass(run, &statistics);
    }
    free(pass->sums);
    pass->sums = NULL;
    lode_batches_destroy(&batches);
    lode_sequences_free(&read);
    return status;
}

/* --- comparing ------------------------------------------------------------------------------- */

/* Arrays of a layer, by the original's channels. */
typedef struct row {
    double *original, *version; /* [m] loss proxies; 0 for channels that the version lacks */
    double *pair[2];            /* [m] of both, of the channels that it has */
    double *narrow;             /* [n] by the version's channels */
    int32_t *kept;              /* [n] */
    int32_t *core, *core_now;   /* [core size] */
    uint8_t *in_core;           /* [m] */
    bool *has;                  /* [m] */
} row_t;

static void row_free(row_t *row) {
    free(row->original);
    free(row->kept);
    free(row->core);
    free(row->in_core);
    free(row->has);
}

static lode_status_t row_allocate(row_t *row, const lode_audit_t *audit, int64_t n) {
    const int64_t m = audit->run->architecture.intermediate;
    static const char what[] = "loss proxies of a layer";
    LODE_TRY(LODE_NEW(&row->original, 4 * m + n, what));
    row->version = row->original + m;
    row->pair[0] = row->version + m;
    row->pair[1] = row->pair[0] + m;
    row->narrow = row->pair[1] + m;
    LODE_TRY(LODE_NEW(&row->kept, n, what));
    LODE_TRY(LODE_NEW(&row->core, 2 * audit->core_size, what));
    row->core_now = row->core + audit->core_size;
    LODE_TRY(LODE_NEW(&row->in_core, m, what));
    return LODE_NEW(&row->has, m, what);
}

static lode_status_t read_row(row_t *row, const pass_t *pass, int64_t layer) {
    const lode_audit_t *audit = pass->audit;
    const int64_t m = audit->run->architecture.intermediate, n = pass->statistic.width;
    const int64_t offset[] = {layer, 0}, all[] = {1, m}, own[] = {1, n};
    const int64_t core[] = {1, audit->core_size};
    char path[LODE_AUDIT_PATH];
    LODE_TRY(lode_store_read(audit->accumulate, "/loss_proxy", offset, all, LODE_TYPE_F64,
                             row->original));
    LODE_TRY(lode_store_read(audit->classify, "/core", offset, core, LODE_TYPE_I32, row->core));
    LODE_TRY(lode_store_read(audit->scratch, pass->name, offset, own, LODE_TYPE_F64, row->narrow));
    lode_audit_path(pass->item, "kept", path);
    LODE_TRY(lode_store_read(audit->store, path, offset, own, LODE_TYPE_I32, row->kept));
    for (int64_t j = 0; j < m; j++) {
        row->version[j] = 0;
        row->has[j] = false;
        row->in_core[j] = 0;
    }
    for (int64_t i = 0; i < n; i++)
        if (row->kept[i] >= 0) {
            row->version[row->kept[i]] = row->narrow[i];
            row->has[row->kept[i]] = true;
        }
    return LODE_OK;
}

/* The figures of a layer, in the order of their names. */
static lode_status_t measure(row_t *row, const lode_audit_t *audit, double values[3]) {
    const int64_t m = audit->run->architecture.intermediate, k = audit->core_size;
    int64_t shared = 0, pairs = 0;
    LODE_TRY(lode_supernode_mass(&values[0], row->core, k, row->version, m));
    LODE_TRY(lode_supernode_select(row->core_now, k, row->version, m));
    for (int64_t i = 0; i < k; i++)
        row->in_core[row->core[i]] = 1;
    for (int64_t i = 0; i < k; i++) /* channels that are gone only fill up a core */
        shared += row->in_core[row->core_now[i]] && row->has[row->core_now[i]];
    values[1] = (double)shared / (double)k;
    for (int64_t j = 0; j < m; j++)
        if (row->has[j]) {
            row->pair[0][pairs] = row->original[j];
            row->pair[1][pairs++] = row->version[j];
        }
    return lode_concentration_spearman(&values[2], row->pair[0], row->pair[1], pairs,
                                       "loss proxies");
}

static lode_status_t compare_layer(row_t *row, const pass_t *pass, int64_t layer) {
    const lode_audit_t *audit = pass->audit;
    const int64_t m = audit->run->architecture.intermediate;
    const int64_t offset[] = {layer, 0}, count[] = {1, m};
    double values[3];
    char path[LODE_AUDIT_PATH];
    LODE_TRY(read_row(row, pass, layer));
    LODE_TRY(measure(row, audit, values));
    for (int i = 0; i < 3; i++)
        LODE_TRY(lode_audit_figure(audit, pass->item, figures[i], layer, values[i]));
    for (int64_t j = 0; j < m; j++)
        if (!row->has[j])
            row->version[j] = NAN;
    lode_audit_path(pass->item, "loss_proxy", path);
    return lode_store_write(audit->store, path, offset, count, row->version);
}

/* This rank's layers. */
static lode_status_t compare(const pass_t *pass) {
    const lode_run_t *run = &pass->item->version.run;
    row_t row = {0};
    if (!lode_run_owns_layers(run))
        return LODE_OK;
    lode_status_t status = row_allocate(&row, pass->audit, pass->statistic.width);
    for (int64_t l = run->layout.first_layer; l < run->layout.layer_end && status == LODE_OK; l++)
        status = compare_layer(&row, pass, l);
    row_free(&row);
    return status;
}

lode_status_t lode_audit_proxy(lode_audit_t *audit, lode_audit_item_t *item) {
    const lode_comm_t *comm = audit->run->comm;
    pass_t pass = {.audit = audit, .item = item};
    pass.statistic = statistic_of(audit, item, pass.name);
    LODE_TRY(run_pass(&pass));
    LODE_TRY(lode_store_synchronise(audit->scratch));
    LODE_TRY(lode_comm_agree(comm, lode_statistic_reduce(audit->scratch, &item->version.run,
                                                         &pass.statistic, audit->sequences)));
    LODE_TRY(lode_store_synchronise(audit->scratch));
    return lode_comm_agree(comm, compare(&pass));
}
