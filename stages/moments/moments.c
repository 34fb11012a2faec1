#include "moments/moments.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "common/moment.h"
#include "common/spool.h"
#include "common/statistics.h"
#include "linalg/packed.h"

enum { NAME_MAX_BYTES = 48 };

struct lode_moments {
    lode_run_t *run;
    lode_store_t *store;
    lode_spool_t *spool;
    int64_t tokens, sequences;
};

static void spool_name(char name[NAME_MAX_BYTES], const char *what, int64_t layer) {
    snprintf(name, NAME_MAX_BYTES, "%s/%lld", what, (long long)layer);
}

static lode_status_t create_datasets(lode_moments_t *moments) {
    const lode_architecture_t *architecture = &moments->run->architecture;
    const bool single =
        moments->run->config->calibration.second_moment == LODE_SECOND_MOMENT_FLOAT32;
    const lode_type_t type = single ? LODE_TYPE_F32 : LODE_TYPE_F64;
    const int64_t L = architecture->layers;
    const int64_t u[] = {L, lode_packed_extent(architecture->intermediate)};
    const int64_t h[] = {L, lode_packed_extent(architecture->hidden)};
    lode_store_t *store = moments->store;
    LODE_TRY(lode_store_dataset(store, "/second_moment", type, 2, u, false));
    LODE_TRY(lode_store_dataset(store, "/input_second_moment", type, 2, h, false));
    LODE_TRY(lode_store_attribute_i64(store, "/", "tokens", moments->tokens));
    return lode_store_attribute_i64(store, "/", "sequences", moments->sequences);
}

/* Bytes of the scratch file. */
static int64_t spool_bytes(const lode_moments_t *moments) {
    const lode_architecture_t *architecture = &moments->run->architecture;
    return architecture->layers * (lode_spool_bytes(moments->tokens, architecture->hidden) +
                                   lode_spool_bytes(moments->tokens, architecture->intermediate));
}

static lode_status_t create_spool(lode_moments_t *moments, int64_t rows) {
    const lode_architecture_t *architecture = &moments->run->architecture;
    const int64_t L = architecture->layers;
    char name[NAME_MAX_BYTES];
    lode_status_t status =
        lode_spool_create(&moments->spool, moments->run, LODE_STAGE_MOMENTS, moments->tokens, rows);
    for (int64_t l = 0; l < L && status == LODE_OK; l++) {
        spool_name(name, "h", l);
        status = lode_spool_add(moments->spool, name, architecture->hidden);
        spool_name(name, "u", l);
        if (status == LODE_OK)
            status = lode_spool_add(moments->spool, name, architecture->intermediate);
    }
    if (status == LODE_OK)
        status = lode_spool_resume(
            moments->spool,
            &(lode_part_t){"sequences", lode_statistic_units(moments->run, moments->sequences)}, 1);
    if (status == LODE_OK || status == LODE_ERR_MEMORY)
        return status;
    return lode_fail_context(status,
                             "moments keeps the activations of %lld tokens in a scratch file of "
                             "%.1f MB while it runs",
                             (long long)moments->tokens, (double)spool_bytes(moments) / 1e6);
}

lode_status_t lode_moments_begin(lode_moments_t **out, lode_run_t *run,
                                 const lode_batches_t *batches) {
    const int64_t m = run->architecture.intermediate;
    lode_status_t status = LODE_NEW(out, 1, "moments");
    if (status == LODE_OK)
        status = lode_moment_check_memory(run, "the second moment of a layer", m * m, m, 0);
    status = lode_comm_agree(run->comm, status);
    if (status != LODE_OK) {
        free(*out);
        *out = NULL;
        return status;
    }
    **out = (lode_moments_t){.run = run,
                             .tokens = batches->text->offsets[batches->text->sequences],
                             .sequences = batches->text->sequences};
    status = lode_run_create_resumable(&(*out)->store, run, LODE_STAGE_MOMENTS);
    if (status == LODE_OK)
        status = create_datasets(*out);
    if (status == LODE_OK)
        status = lode_store_resume((*out)->store,
                                   &(lode_part_t){"matrices", 2 * run->architecture.layers}, 1);
    if (status == LODE_OK)
        status = create_spool(*out, batches->max_tokens);
    if (status != LODE_OK)
        status = lode_moments_end(out, status);
    return status;
}

lode_status_t lode_moments_ffn(lode_moments_t *moments, const lode_batch_t *batch, int64_t layer,
                               const lode_real_t *h, const lode_real_t *u) {
    char name[NAME_MAX_BYTES];
    spool_name(name, "h", layer);
    LODE_TRY(lode_spool_write(moments->spool, name, batch->first_token, batch->tokens, h));
    spool_name(name, "u", layer);
    LODE_TRY(lode_spool_write(moments->spool, name, batch->first_token, batch->tokens, u));
    return lode_statistic_mark(lode_spool_store(moments->spool), 0, moments->sequences, batch,
                               layer);
}

bool lode_moments_done(const lode_moments_t *moments, const lode_batch_t *batch) {
    const int64_t layers = moments->run->architecture.layers;
    return lode_store_done(moments->store, 0, 0, 2 * layers) ||
           lode_statistic_done(lode_spool_store(moments->spool), 0, moments->sequences, batch,
                               layers);
}

/* All layers' moments of one kind of activation, `width` wide; their units begin with `unit`. */
static lode_status_t take_moments(lode_moments_t *moments, lode_grid_t *grid, const char *what,
                                  int64_t width, const char *dataset, int64_t unit,
                                  lode_progress_t *progress) {
    lode_matrix_t *matrix;
    char name[NAME_MAX_BYTES];
    double seconds = 0;
    LODE_TRY(lode_matrix_create(&matrix, grid, width, width, 0));
    lode_status_t status = LODE_OK;
    for (int64_t l = 0; l < moments->run->architecture.layers && status == LODE_OK; l++) {
        if (lode_store_done(moments->store, 0, unit + l, 1))
            continue;
        const double start = lode_time();
        LODE_GUARD(status, lode_comm_stop(moments->run->comm, seconds), done);
        spool_name(name, what, l);
        status = lode_moment_of_spool(matrix, moments->spool, name, moments->tokens);
        if (status == LODE_OK)
            status = lode_packed_write(matrix, moments->store, dataset, l);
        status = lode_store_mark_all(moments->store, 0, unit + l, false, status);
        lode_progress_add(progress, 1, 0);
        seconds = lode_time() - start;
    }
done:
    lode_matrix_destroy(&matrix);
    return status;
}

static lode_status_t take_all(lode_moments_t *moments) {
    const lode_architecture_t *architecture = &moments->run->architecture;
    const int64_t done = lode_store_done_count(moments->store, 0);
    lode_grid_t *grid;
    lode_progress_t progress;
    lode_run_say_resumed("moments", done, 2 * architecture->layers, "matrices");
    LODE_TRY(lode_spool_synchronise(moments->spool));
    LODE_TRY(lode_grid_create(&grid, moments->run->comm, 0, 0));
    lode_progress_start(&progress, "moments", "matrix", 2 * architecture->layers);
    lode_progress_resume(&progress, done);
    lode_status_t status = take_moments(moments, grid, "h", architecture->hidden,
                                        "/input_second_moment", 0, &progress);
    if (status == LODE_OK)
        status = take_moments(moments, grid, "u", architecture->intermediate, "/second_moment",
                              architecture->layers, &progress);
    if (status == LODE_OK)
        lode_progress_end(&progress);
    lode_grid_destroy(&grid);
    return status;
}

lode_status_t lode_moments_end(lode_moments_t **out, lode_status_t status) {
    lode_moments_t *moments = *out;
    if (status == LODE_OK)
        status = take_all(moments);
    status = lode_run_finish(&moments->store, moments->run, LODE_STAGE_MOMENTS, status);
    lode_spool_destroy(&moments->spool, status);
    free(moments);
    *out = NULL;
    return status;
}

lode_status_t lode_moments_size(lode_stage_size_t *size, lode_run_t *run, int ranks,
                                const lode_batches_t *batches) {
    const int64_t m = run->architecture.intermediate;
    lode_moments_t moments = {.run = run,
                              .tokens = batches->text->offsets[batches->text->sequences],
                              .sequences = batches->text->sequences};
    *size = (lode_stage_size_t){.scratch = spool_bytes(&moments),
                                .memory = lode_spool_memory(batches->max_tokens) +
                                          lode_moment_memory(ranks, m * m, m * m, m)};
    LODE_TRY(lode_store_tally_create(&moments.store));
    const lode_status_t status = create_datasets(&moments);
    size->file = lode_store_tally_end(&moments.store);
    return status;
}

lode_status_t lode_stage_moments(lode_run_t *run) {
    return lode_statistics_run(run, LODE_STATISTICS_MOMENTS);
}
