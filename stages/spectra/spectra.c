#include "spectra/spectra.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "linalg/gram.h"
#include "linalg/spectrum.h"
#include "spectra/matrices.h"

/* Parts of a layer whose effective ranks are written. */
enum { ALL, CORE, HALO, REST, PARTS };
static const char *const part_names[PARTS] = {"all", "core", "halo", "rest"};

typedef struct work {
    lode_run_t *run;
    lode_store_t *classify, *accumulate, *moments, *calibrate; /* open where they are needed */
    lode_store_t *store;
    lode_grid_t *grid;
    lode_matrix_t *matrix; /* in hand: X [rows, m] or, where that is no smaller, XᵀX [m, m] */
    int64_t m, d, tokens;  /* tokens of q, where that is needed */
    int64_t core_size, halo_size;
    uint8_t *part;       /* [m] CORE, HALO or REST */
    int32_t *channels;   /* [m] of one part */
    double *eigenvalues; /* [m] */
} work_t;

static void work_free(work_t *work) {
    free(work->part);
    free(work->channels);
    free(work->eigenvalues);
    lode_matrix_destroy(&work->matrix);
    lode_grid_destroy(&work->grid);
    lode_store_close(&work->calibrate);
    lode_store_close(&work->moments);
    lode_store_close(&work->accumulate);
    lode_store_close(&work->classify);
}

/* --- inputs ---------------------------------------------------------------------------------- */

static bool wants(const work_t *work, lode_spectrum_t spectrum) {
    const lode_config_classify_t *classify = &work->run->config->classify;
    for (int64_t i = 0; i < classify->spectra_count; i++)
        if (classify->spectra[i] == spectrum)
            return true;
    return false;
}

static lode_status_t open_inputs(work_t *work) {
    LODE_TRY(lode_run_open(&work->classify, work->run, LODE_STAGE_CLASSIFY));
    if (wants(work, LODE_SPECTRUM_Q)) {
        LODE_TRY(lode_run_open(&work->accumulate, work->run, LODE_STAGE_ACCUMULATE));
        LODE_TRY(lode_comm_agree(work->run->comm,
                                 lode_spectra_tokens_of_q(work->accumulate,
                                                          work->run->architecture.layers, work->m,
                                                          &work->tokens)));
    }
    if (wants(work, LODE_SPECTRUM_U)) {
        LODE_TRY(lode_run_open(&work->moments, work->run, LODE_STAGE_MOMENTS));
        LODE_TRY(lode_run_open(&work->calibrate, work->run, LODE_STAGE_CALIBRATE));
    }
    return LODE_OK;
}

static lode_status_t read_sizes(work_t *work) {
    const int64_t layers = work->run->architecture.layers;
    int core_axes, halo_axes;
    int64_t core[LODE_STORE_MAX_AXES], halo[LODE_STORE_MAX_AXES];
    LODE_TRY(lode_store_shape(work->classify, "/core", &core_axes, core));
    LODE_TRY(lode_store_shape(work->classify, "/halo", &halo_axes, halo));
    if (core_axes != 2 || halo_axes != 2 || core[0] != layers || halo[0] != layers ||
        core[1] > work->m || halo[1] > work->m)
        return lode_fail(LODE_ERR_SHAPE,
                         "classify.h5: /core and /halo are not those of %lld "
                         "layers of %lld channels",
                         (long long)layers, (long long)work->m);
    work->core_size = core[1];
    work->halo_size = halo[1];
    LODE_TRY(LODE_NEW(&work->part, work->m, "parts of a layer"));
    LODE_TRY(LODE_NEW(&work->channels, work->m, "parts of a layer"));
    return LODE_NEW(&work->eigenvalues, work->m, "eigenvalues");
}

/* Rows of what is kept of a layer's matrix: fewer than its columns where it is a factor X. */
static int64_t rows_kept(const work_t *work, lode_spectrum_t spectrum) {
    const int64_t rows = spectrum == LODE_SPECTRUM_Q       ? work->tokens
                         : spectrum == LODE_SPECTRUM_WRITE ? work->d
                                                           : work->m;
    return rows < work->m ? rows : work->m;
}

/* The most rows of any matrix. */
static int64_t most_rows(const work_t *work) {
    const lode_config_classify_t *classify = &work->run->config->classify;
    int64_t kept = 0;
    for (int64_t i = 0; i < classify->spectra_count; i++)
        if (rows_kept(work, classify->spectra[i]) > kept)
            kept = rows_kept(work, classify->spectra[i]);
    return kept;
}

/* Private bytes of a rank in a grid: the matrix or factor, a copy of nearly all of it, the factor's
 * small product, columns on their way into products, panels. */
static int64_t grid_bytes(const work_t *work, int rows, int columns) {
    const int64_t kept = most_rows(work);
    const int64_t m = work->m, share = lode_matrix_bytes(rows, columns, kept, m, 0);
    const int64_t product = kept < m ? lode_matrix_bytes(rows, columns, kept, kept, 0) : 0;
    const int64_t chunk = LODE_GRAM_CHUNK * (m / rows + m / columns + m) * (int64_t)sizeof(double);
    const int64_t panels = INT64_C(3) * LODE_GRID_PANEL * (int64_t)sizeof(double);
    const int64_t panel = panels < 3 * share ? panels : 3 * share;
    return 2 * share + product + (kept == m && chunk > panel ? chunk : panel);
}

static lode_status_t check_memory(const work_t *work) {
    int rows, columns;
    lode_grid_shape(work->grid, &rows, &columns);
    const int64_t kept = most_rows(work), m = work->m;
    const int64_t needed = grid_bytes(work, rows, columns);
    if (needed <= work->run->config->memory)
        return LODE_OK;
    return lode_fail(LODE_ERR_MEMORY,
                     "spectra: a rank's share of matrices of %lld × %lld over %d × %d ranks takes "
                     "%.1f MiB, memory allows %.1f MiB; take more ranks or raise memory",
                     (long long)kept, (long long)m, rows, columns, (double)needed / 0x1p20,
                     (double)work->run->config->memory / 0x1p20);
}

/* --- datasets -------------------------------------------------------------------------------- */

enum { NAME_BYTES = 64 };

static const char *rank_name(char name[NAME_BYTES], lode_spectrum_t spectrum, int part) {
    snprintf(name, NAME_BYTES, "/%s/effective_rank_%s", lode_spectrum_name(spectrum),
             part_names[part]);
    return name;
}

static const char *eigenvalues_name(char name[NAME_BYTES], lode_spectrum_t spectrum) {
    snprintf(name, NAME_BYTES, "/%s/eigenvalues", lode_spectrum_name(spectrum));
    return name;
}

static lode_status_t create_datasets(const work_t *work, lode_spectrum_t spectrum) {
    const int64_t shape[] = {work->run->architecture.layers, work->m};
    char name[NAME_BYTES];
    LODE_TRY(lode_store_dataset(work->store, eigenvalues_name(name, spectrum), LODE_TYPE_F64, 2,
                                shape, true));
    for (int part = 0; part < PARTS; part++)
        LODE_TRY(lode_store_dataset(work->store, rank_name(name, spectrum, part), LODE_TYPE_F64, 1,
                                    shape, true));
    snprintf(name, sizeof name, "/%s", lode_spectrum_name(spectrum));
    return lode_store_attribute_text(work->store, name, "kind",
                                     spectrum == LODE_SPECTRUM_WRITE ? "gram" : "correlation");
}

/* --- one layer ------------------------------------------------------------------------------- */

static lode_status_t mark(work_t *work, const char *name, int64_t layer, int64_t size,
                          uint8_t part) {
    const int64_t offset[] = {layer, 0}, count[] = {1, size};
    LODE_TRY(lode_store_read(work->classify, name, offset, count, LODE_TYPE_I32, work->channels));
    for (int64_t i = 0; i < size; i++) {
        const int32_t channel = work->channels[i];
        if (channel >= work->m)
            return lode_fail(LODE_ERR_FORMAT, "classify.h5: %s names channel %d of %lld", name,
                             (int)channel, (long long)work->m);
        if (channel >= 0)
            work->part[channel] = part;
    }
    return LODE_OK;
}

/* Which channel is in which part. */
static lode_status_t mark_parts(work_t *work, int64_t layer) {
    for (int64_t j = 0; j < work->m; j++)
        work->part[j] = REST;
    LODE_TRY(mark(work, "/halo", layer, work->halo_size, HALO));
    return mark(work, "/core", layer, work->core_size, CORE);
}

static lode_status_t fill_matrix(work_t *work, lode_spectrum_t spectrum, int64_t layer) {
    const bool factor = work->matrix->rows < work->m;
    switch (spectrum) {
    case LODE_SPECTRUM_Q:
        return factor ? lode_spectra_factor_of_q(work->matrix, work->accumulate, layer)
                      : lode_spectra_of_q(work->matrix, work->accumulate, work->tokens, layer);
    case LODE_SPECTRUM_U:
        return lode_spectra_of_u(work->matrix, work->moments, work->calibrate, layer);
    case LODE_SPECTRUM_WRITE:
        return factor ? lode_spectra_factor_of_write(work->matrix, work->run, layer)
                      : lode_spectra_of_write(work->matrix, work->run, layer);
    }
    return lode_fail(LODE_ERR_INTERNAL, "no such spectrum");
}

/* Effective rank of the matrix on the channels of one part. */
static lode_status_t rank_of_part(work_t *work, uint8_t part, double *rank, const char *what) {
    const bool factor = work->matrix->rows < work->m;
    lode_matrix_t *selection;
    int64_t count = 0;
    for (int64_t j = 0; j < work->m; j++)
        if (work->part[j] == part)
            work->channels[count++] = (int32_t)j;
    LODE_TRY(
        lode_matrix_create(&selection, work->grid, factor ? work->matrix->rows : count, count, 0));
    lode_status_t status =
        lode_matrix_select(selection, work->matrix, factor ? NULL : work->channels, work->channels);
    if (status == LODE_OK)
        status = factor ? lode_spectrum_of_factor(selection, work->eigenvalues, what)
                        : lode_spectrum_eigenvalues(selection, work->eigenvalues, what);
    lode_matrix_destroy(&selection);
    if (status == LODE_OK)
        status = lode_comm_agree(
            work->run->comm, lode_spectrum_effective_rank(rank, work->eigenvalues, count, what));
    return status;
}

/* The same of all channels, which takes the matrix. */
static lode_status_t rank_of_all(work_t *work, double *rank, const char *what) {
    LODE_TRY(work->matrix->rows < work->m
                 ? lode_spectrum_of_factor(work->matrix, work->eigenvalues, what)
                 : lode_spectrum_eigenvalues(work->matrix, work->eigenvalues, what));
    return lode_comm_agree(work->run->comm,
                           lode_spectrum_effective_rank(rank, work->eigenvalues, work->m, what));
}

static lode_status_t write_layer(const work_t *work, lode_spectrum_t spectrum, int64_t layer,
                                 int64_t unit, const double ranks[PARTS]) {
    const int64_t offset[] = {layer, 0}, count[] = {1, work->m}, one = 1;
    char name[NAME_BYTES];
    if (work->run->comm->rank != 0)
        return LODE_OK;
    LODE_TRY(lode_store_write(work->store, eigenvalues_name(name, spectrum), offset, count,
                              work->eigenvalues));
    for (int part = 0; part < PARTS; part++)
        LODE_TRY(lode_store_write(work->store, rank_name(name, spectrum, part), &layer, &one,
                                  &ranks[part]));
    return lode_store_mark(work->store, 0, unit, 1);
}

static lode_status_t spectrum_of_layer(work_t *work, lode_spectrum_t spectrum, int64_t layer,
                                       int64_t unit) {
    const lode_comm_t *comm = work->run->comm;
    double ranks[PARTS];
    char what[NAME_BYTES];
    snprintf(what, sizeof what, "matrix of %s", lode_spectrum_name(spectrum));
    LODE_TRY(lode_comm_agree(comm, mark_parts(work, layer)));
    LODE_TRY(fill_matrix(work, spectrum, layer));
    for (int part = CORE; part < PARTS; part++)
        LODE_TRY(rank_of_part(work, (uint8_t)part, &ranks[part], what));
    LODE_TRY(rank_of_all(work, &ranks[ALL], what));
    return lode_comm_agree(comm, write_layer(work, spectrum, layer, unit, ranks));
}

/* Layers that are not done yet; the units of this spectrum begin with `unit`. */
static lode_status_t spectrum_of_layers(work_t *work, lode_spectrum_t spectrum, int64_t unit,
                                        lode_progress_t *progress) {
    double seconds = 0;
    lode_status_t status =
        lode_matrix_create(&work->matrix, work->grid, rows_kept(work, spectrum), work->m, 0);
    for (int64_t l = 0; l < work->run->architecture.layers && status == LODE_OK; l++) {
        if (lode_store_done(work->store, 0, unit + l, 1))
            continue;
        const double start = lode_time();
        LODE_GUARD(status, lode_comm_stop(work->run->comm, seconds), done);
        status = spectrum_of_layer(work, spectrum, l, unit + l);
        if (status != LODE_OK)
            status = lode_fail_context(status, "spectra, layer %lld", (long long)l);
        lode_progress_add(progress, 1, 0);
        seconds = lode_time() - start;
    }
done:
    lode_matrix_destroy(&work->matrix);
    return status;
}

/* --- the stage ------------------------------------------------------------------------------- */

static lode_status_t take_spectra(work_t *work) {
    const lode_config_classify_t *classify = &work->run->config->classify;
    const int64_t layers = work->run->architecture.layers;
    lode_progress_t progress;
    for (int64_t i = 0; i < classify->spectra_count; i++)
        LODE_TRY(create_datasets(work, classify->spectra[i]));
    const int64_t units = classify->spectra_count * layers;
    LODE_TRY(lode_store_resume(work->store, &(lode_part_t){"matrices", units}, 1));
    const int64_t done = lode_store_done_count(work->store, 0);
    lode_run_say_resumed("spectra", done, units, "matrices");
    lode_progress_start(&progress, "spectra", "matrix", units);
    lode_progress_resume(&progress, done);
    for (int64_t i = 0; i < classify->spectra_count; i++)
        LODE_TRY(spectrum_of_layers(work, classify->spectra[i], i * layers, &progress));
    lode_progress_end(&progress);
    return LODE_OK;
}

static lode_status_t prepare(work_t *work) {
    LODE_TRY(open_inputs(work));
    LODE_TRY(lode_comm_agree(work->run->comm, read_sizes(work)));
    LODE_TRY(lode_grid_create(&work->grid, work->run->comm, 0, 0));
    LODE_TRY(lode_comm_agree(work->run->comm, check_memory(work)));
    return lode_run_create_resumable(&work->store, work->run, LODE_STAGE_SPECTRA);
}

lode_status_t lode_spectra_size(lode_stage_size_t *size, lode_run_t *run, int ranks,
                                int64_t tokens) {
    const lode_config_classify_t *classify = &run->config->classify;
    work_t work = {.run = run,
                   .m = run->architecture.intermediate,
                   .d = run->architecture.hidden,
                   .tokens = tokens};
    int rows, columns;
    lode_grid_choose(ranks, &rows, &columns);
    *size = (lode_stage_size_t){.memory = grid_bytes(&work, rows, columns)};
    LODE_TRY(lode_store_tally_create(&work.store));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < classify->spectra_count && status == LODE_OK; i++)
        status = create_datasets(&work, classify->spectra[i]);
    size->file = lode_store_tally_end(&work.store);
    return status;
}

lode_status_t lode_stage_spectra(lode_run_t *run) {
    work_t work = {.run = run, .m = run->architecture.intermediate, .d = run->architecture.hidden};
    lode_status_t status = prepare(&work);
    if (status == LODE_OK)
        status = lode_run_finish(&work.store, run, LODE_STAGE_SPECTRA, take_spectra(&work));
    work_free(&work);
    return status;
}
