#include "compensate/compensate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "common/moment.h"
#include "compensate/internal.h"
#include "linalg/compensation.h"
#include "linalg/packed.h"
#include "score/mask.h"
#include "score/weights.h"

/* --- names and masks ------------------------------------------------------------------------- */

void lode_compensate_down_path(char path[LODE_COMPENSATE_PATH], const lode_variant_t *variant,
                               int64_t layer) {
    snprintf(path, LODE_COMPENSATE_PATH, "/down/%s/%lld", variant->name, (long long)layer);
}

static void named(char path[LODE_COMPENSATE_PATH], const char *group,
                  const lode_variant_t *variant) {
    snprintf(path, LODE_COMPENSATE_PATH, "/%s/%s", group, variant->name);
}

int64_t lode_compensate_count(const lode_compensate_t *work, lode_compensation_t compensation) {
    int64_t count = 0;
    for (int64_t i = 0; i < work->variant_count; i++)
        count += work->variants[i].compensation == compensation;
    return count;
}

lode_status_t lode_compensate_mask(lode_compensate_t *work, const lode_variant_t *variant,
                                   int64_t layer, int64_t *kept) {
    char path[LODE_COMPENSATE_PATH];
    const int64_t offset[] = {layer, 0}, count[] = {1, work->m};
    named(path, "keep", variant);
    LODE_TRY(lode_store_read(work->prune, path, offset, count, LODE_TYPE_U8, work->keep));
    int64_t sum = 0;
    for (int64_t j = 0; j < work->m; j++)
        sum += work->keep[j] != 0;
    if (kept)
        *kept = sum;
    return LODE_OK;
}

/* --- solving --------------------------------------------------------------------------------- */

typedef struct rows_context {
    lode_compensate_t *work;
    lode_tensor_t tensor; /* being read */
    const char *path;     /* being written */
    int64_t columns;
    float *rounded; /* [columns] */
} rows_context_t;

static lode_status_t fill_down(void *context, int64_t first_row, int64_t rows, double *panel) {
    const rows_context_t *source = context;
    return lode_weights_panel(panel, &source->tensor, first_row, rows, "down_proj");
}

lode_status_t lode_compensate_load_down(lode_compensate_t *work, int64_t layer) {
    const int owner = work->owner[layer];
    rows_context_t source = {.work = work, .columns = work->m};
    lode_status_t status = LODE_OK;
    if (work->run->comm->rank == owner) {
        lode_layer_weights_t weights = {0};
        status = lode_checkpoint_layer(work->run->checkpoint, layer, &weights);
        source.tensor = weights.down;
        if (status == LODE_OK)
            status = lode_weights_check(&source.tensor, work->d, work->m, "down_proj");
    }
    LODE_TRY(lode_comm_agree(work->run->comm, status));
    return lode_matrix_from_rows(work->down, owner, fill_down, &source);
}

static lode_status_t take_down(void *context, int64_t first_row, int64_t rows,
                               const double *panel) {
    const rows_context_t *target = context;
    for (int64_t i = 0; i < rows && target->columns > 0; i++) {
        const int64_t offset[] = {first_row + i, 0}, count[] = {1, target->columns};
        for (int64_t j = 0; j < target->columns; j++) {
            target->rounded[j] = (float)panel[i * target->columns + j];
            if (!isfinite(target->rounded[j]))
                return lode_fail(LODE_ERR_NUMERIC,
                                 "%s: [%lld, %lld] comes to %g, which float32 cannot hold; raise "
                                 "prune.ridge",
                                 target->path, (long long)(first_row + i), (long long)j,
                                 panel[i * target->columns + j]);
        }
        LODE_TRY(
            lode_store_write(target->work->store, target->path, offset, count, target->rounded));
    }
    return LODE_OK;
}

static lode_status_t write_down(lode_compensate_t *work, const lode_matrix_t *down,
                                const char *path) {
    rows_context_t target = {.work = work, .path = path, .columns = down->columns};
    lode_status_t status = lode_comm_agree(
        work->run->comm, LODE_NEW(&target.rounded, down->columns, "down projection"));
    if (status == LODE_OK)
        status = lode_matrix_to_rows(down, LODE_MATRIX_ALL_RANKS, take_down, &target);
    free(target.rounded);
    return status;
}

static lode_status_t write_ridge(lode_compensate_t *work, const lode_variant_t *variant,
                                 int64_t layer, double lambda) {
    char path[LODE_COMPENSATE_PATH];
    const int64_t count = 1;
    named(path, "ridge", variant);
    return work->run->comm->rank == 0 ? lode_store_write(work->store, path, &layer, &count, &lambda)
                                      : LODE_OK;
}

static int64_t unit_of(const lode_compensate_t *work, const lode_variant_t *variant,
                       int64_t layer) {
    return (variant - work->variants) * work->layers + layer;
}

bool lode_compensate_solved(const lode_compensate_t *work, const lode_variant_t *variant,
                            int64_t layer) {
    return lode_store_done(work->store, LODE_COMPENSATE_SOLVES, unit_of(work, variant, layer), 1);
}

lode_status_t lode_compensate_solve(lode_compensate_t *work, const lode_variant_t *variant,
                                    int64_t layer, bool sync) {
    char path[LODE_COMPENSATE_PATH], what[LODE_COMPENSATE_PATH + 32];
    int64_t kept = 0;
    lode_ridge_t used;
    lode_matrix_t *out;
    lode_compensate_down_path(path, variant, layer);
    snprintf(what, sizeof what, "the second moment of layer %lld for %s", (long long)layer,
             variant->name);
    LODE_TRY(lode_comm_agree(work->run->comm, lode_compensate_mask(work, variant, layer, &kept)));
    LODE_TRY(lode_matrix_create(&out, work->grid, work->d, kept, 0));
    lode_status_t status = lode_compensation_solve(out, work->moment, work->down, work->keep,
                                                   work->run->config->prune.ridge, &used, what);
    if (status == LODE_OK)
        status = write_down(work, out, path);
    if (status == LODE_OK)
        status = lode_comm_agree(work->run->comm, write_ridge(work, variant, layer, used.lambda));
    status = lode_store_mark_all(work->store, LODE_COMPENSATE_SOLVES, unit_of(work, variant, layer),
                                 sync, status);
    lode_matrix_destroy(&out);
    lode_progress_add(&work->progress, 1, 0);
    return status;
}

/* Variants of a layer that are left to be solved for by least squares. */
static int64_t count_unsolved(const lode_compensate_t *work, int64_t layer) {
    int64_t count = 0;
    for (int64_t i = 0; i < work->variant_count; i++)
        count += work->variants[i].compensation == LODE_COMPENSATION_LEAST_SQUARES &&
                 !lode_compensate_solved(work, &work->variants[i], layer);
    return count;
}

/* One second moment serves all variants of a layer. */
static lode_status_t least_squares_layer(lode_compensate_t *work, lode_store_t *moments,
                                         int64_t layer) {
    double seconds = 0;
    LODE_TRY(lode_comm_stop(work->run->comm, 0));
    LODE_TRY(lode_packed_read(work->moment, moments, "/second_moment", layer));
    LODE_TRY(lode_compensate_load_down(work, layer));
    for (int64_t i = 0; i < work->variant_count; i++) {
        const lode_variant_t *variant = &work->variants[i];
        const double start = lode_time();
        if (variant->compensation != LODE_COMPENSATION_LEAST_SQUARES ||
            lode_compensate_solved(work, variant, layer))
            continue;
        LODE_TRY(lode_comm_stop(work->run->comm, seconds));
        LODE_TRY(lode_compensate_solve(work, variant, layer, false));
        seconds = lode_time() - start;
    }
    return LODE_OK;
}

static lode_status_t least_squares(lode_compensate_t *work) {
    if (lode_compensate_count(work, LODE_COMPENSATION_LEAST_SQUARES) == 0)
        return LODE_OK;
    lode_store_t *moments;
    LODE_TRY(lode_run_open(&moments, work->run, LODE_STAGE_MOMENTS));
    lode_status_t status = LODE_OK;
    for (int64_t l = 0; l < work->layers && status == LODE_OK; l++)
        if (count_unsolved(work, l) > 0)
            status = least_squares_layer(work, moments, l);
    lode_store_close(&moments);
    return status;
}

/* --- bias ------------------------------------------------------------------------------------ */

typedef struct bias_work {
    double *mean; /* [m] of a layer's channels */
    double *bias; /* [d] */
} bias_work_t;

/* Σ over removed j of mean_j·v_j. */
static lode_status_t add_removed(lode_compensate_t *work, const bias_work_t *arrays,
                                 const lode_tensor_t *down) {
    lode_weights_reader_t reader;
    lode_status_t status = lode_weights_open(&reader, down, work->d, work->m, "down_proj");
    for (int64_t i = 0; i < work->d && status == LODE_OK; i++) {
        const double *row;
        double sum = 0;
        LODE_GUARD(status, lode_weights_at(&reader, i, &row), done);
        for (int64_t j = 0; j < work->m; j++)
            sum += work->keep[j] ? 0 : row[j] * arrays->mean[j];
        arrays->bias[i] = sum;
    }
done:
    lode_weights_close(&reader);
    return status;
}

static lode_status_t bias_layer(lode_compensate_t *work, const bias_work_t *arrays,
                                const lode_variant_t *variant, int64_t layer) {
    char path[LODE_COMPENSATE_PATH];
    const int64_t offset[] = {layer, 0}, count[] = {1, work->d};
    lode_layer_weights_t weights = {0};
    LODE_TRY(lode_checkpoint_layer(work->run->checkpoint, layer, &weights));
    LODE_TRY(lode_compensate_mask(work, variant, layer, NULL));
    LODE_TRY(add_removed(work, arrays, &weights.down));
    named(path, "bias", variant);
    LODE_TRY(lode_store_write(work->store, path, offset, count, arrays->bias));
    return lode_store_mark(work->store, LODE_COMPENSATE_BIASES, unit_of(work, variant, layer), 1);
}

static lode_status_t bias_layers(lode_compensate_t *work, lode_store_t *calibrate,
                                 const bias_work_t *arrays) {
    const lode_layout_t *layout = &work->run->layout;
    for (int64_t l = layout->first_layer; l < layout->layer_end; l++) {
        const int64_t offset[] = {l, 0}, count[] = {1, work->m};
        LODE_TRY(lode_store_read(calibrate, "/activation_mean", offset, count, LODE_TYPE_F64,
                                 arrays->mean));
        for (int64_t i = 0; i < work->variant_count; i++)
            if (work->variants[i].compensation == LODE_COMPENSATION_BIAS &&
                !lode_store_done(work->store, LODE_COMPENSATE_BIASES,
                                 unit_of(work, &work->variants[i], l), 1))
                LODE_TRY(bias_layer(work, arrays, &work->variants[i], l));
    }
    return LODE_OK;
}

static lode_status_t biases(lode_compensate_t *work) {
    if (lode_compensate_count(work, LODE_COMPENSATION_BIAS) == 0)
        return LODE_OK;
    lode_store_t *calibrate;
    bias_work_t arrays = {0};
    LODE_TRY(lode_run_open(&calibrate, work->run, LODE_STAGE_CALIBRATE));
    lode_status_t status = LODE_OK;
    if (lode_run_owns_layers(work->run)) {
        status = LODE_NEW(&arrays.mean, work->m, "channel means");
        if (status == LODE_OK)
            status = LODE_NEW(&arrays.bias, work->d, "bias");
        if (status == LODE_OK)
            status = bias_layers(work, calibrate, &arrays);
    }
    free(arrays.mean);
    free(arrays.bias);
    lode_store_close(&calibrate);
    return lode_comm_agree(work->run->comm, status);
}

/* --- the stage ------------------------------------------------------------------------------- */

/* Channels that a variant keeps of a layer; as many as uniform allocation where there are no masks
 * yet. */
static lode_status_t count_kept(lode_compensate_t *work, const lode_variant_t *variant,
                                int64_t layer, int64_t *kept) {
    if (work->prune)
        return lode_comm_agree(work->run->comm, lode_compensate_mask(work, variant, layer, kept));
    *kept = work->m - lode_mask_removed(variant->sparsity, work->m);
    return LODE_OK;
}

static lode_status_t create_down(lode_compensate_t *work, const lode_variant_t *variant) {
    char path[LODE_COMPENSATE_PATH];
    for (int64_t l = 0; l < work->layers; l++) {
        int64_t shape[] = {work->d, 0};
        LODE_TRY(count_kept(work, variant, l, &shape[1]));
        lode_compensate_down_path(path, variant, l);
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F32, 2, shape, false));
    }
    named(path, "ridge", variant);
    return lode_store_dataset(work->store, path, LODE_TYPE_F64, 1, &work->layers, false);
}

static lode_status_t create_datasets(lode_compensate_t *work) {
    const int64_t bias_shape[] = {work->layers, work->d};
    char path[LODE_COMPENSATE_PATH];
    for (int64_t i = 0; i < work->variant_count; i++) {
        const lode_variant_t *variant = &work->variants[i];
        named(path, "bias", variant);
        if (variant->compensation == LODE_COMPENSATION_BIAS)
            LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F64, 2, bias_shape, false));
        else if (variant->compensation != LODE_COMPENSATION_NONE)
            LODE_TRY(create_down(work, variant));
    }
    return lode_store_attribute_f64(work->store, "/", "ridge", work->run->config->prune.ridge);
}

/* Goes on from an interrupted run. Collective. */
static lode_status_t resume(lode_compensate_t *work) {
    const int64_t units = work->variant_count * work->layers;
    const lode_part_t parts[LODE_COMPENSATE_PARTS] = {
        [LODE_COMPENSATE_BIASES] = {"biases", units}, [LODE_COMPENSATE_SOLVES] = {"solves", units}};
    LODE_TRY(lode_store_resume(work->store, parts, LODE_COMPENSATE_PARTS));
    const int64_t done = lode_store_done_count(work->store, LODE_COMPENSATE_SOLVES);
    lode_run_say_resumed("compensate", done, work->progress.units, "layers");
    lode_progress_resume(&work->progress, done);
    return LODE_OK;
}

/* Tells every rank who has each layer. */
static void find_owners(lode_compensate_t *work) {
    const lode_run_t *run = work->run;
    for (int64_t l = 0; l < work->layers; l++)
        work->owner[l] =
            lode_run_owns_layers(run) && l >= run->layout.first_layer && l < run->layout.layer_end
                ? run->comm->rank
                : -1;
    MPI_Allreduce(MPI_IN_PLACE, work->owner, (int)work->layers, MPI_INT, MPI_MAX, run->comm->comm);
}

static lode_status_t prepare(lode_compensate_t *work) {
    const lode_run_t *run = work->run;
    lode_status_t status = lode_variants_pruned(&work->variants, &work->variant_count, run->config);
    if (status == LODE_OK)
        status = LODE_NEW(&work->owner, work->layers, "layers");
    if (status == LODE_OK)
        status = LODE_NEW(&work->keep, work->m, "masks");
    LODE_TRY(lode_comm_agree(run->comm, status));
    find_owners(work);
    const int64_t solved = lode_compensate_count(work, LODE_COMPENSATION_LEAST_SQUARES) +
                           lode_compensate_count(work, LODE_COMPENSATION_SEQUENTIAL);
    lode_progress_start(&work->progress, "compensate", "layer", solved * work->layers);
    if (solved == 0)
        return LODE_OK;
    LODE_TRY(lode_comm_agree(
        run->comm, lode_moment_check_memory(run, "compensation by least squares",
                                            lode_compensation_elements(work->m, work->d), 0, 0)));
    LODE_TRY(lode_grid_create(&work->grid, run->comm, 0, 0));
    LODE_TRY(lode_matrix_create(&work->moment, work->grid, work->m, work->m, 0));
    return lode_matrix_create(&work->down, work->grid, work->d, work->m, 0);
}

static void release(lode_compensate_t *work) {
    lode_matrix_destroy(&work->down);
    lode_matrix_destroy(&work->moment);
    lode_grid_destroy(&work->grid);
    lode_variants_free(&work->variants, work->variant_count);
    free(work->owner);
    free(work->keep);
    lode_store_close(&work->prune);
}

lode_status_t lode_compensate_size(lode_stage_size_t *size, lode_run_t *run, int ranks,
                                   int64_t tokens, int64_t max_tokens) {
    const int64_t m = run->architecture.intermediate, d = run->architecture.hidden;
    lode_compensate_t work = {.run = run, .layers = run->architecture.layers, .m = m, .d = d};
    *size = (lode_stage_size_t){.memory = (m + d) * (int64_t)sizeof(double)};
    LODE_TRY(lode_variants_pruned(&work.variants, &work.variant_count, run->config));
    lode_status_t status = lode_store_tally_create(&work.store);
    if (status == LODE_OK)
        status = create_datasets(&work);
    size->file = lode_store_tally_end(&work.store);
    const int64_t sequential = lode_compensate_count(&work, LODE_COMPENSATION_SEQUENTIAL);
    const int64_t read = lode_compensate_count(&work, LODE_COMPENSATION_LEAST_SQUARES);
    /* Of matrices whose rows come or go, moments that are read are the largest. */
    if (sequential + read > 0)
        size->memory += lode_moment_memory(ranks, lode_compensation_elements(m, d),
                                           read > 0 ? m * m : m * d, sequential > 0 ? m : 0);
    if (sequential > 0)
        lode_compensate_sequential_size(size, &work, sequential, tokens, max_tokens);
    lode_variants_free(&work.variants, work.variant_count);
    return status;
}

lode_status_t lode_stage_compensate(lode_run_t *run) {
    lode_compensate_t work = {.run = run,
                              .layers = run->architecture.layers,
                              .m = run->architecture.intermediate,
                              .d = run->architecture.hidden};
    lode_status_t status = lode_run_open(&work.prune, run, LODE_STAGE_PRUNE);
    if (status == LODE_OK)
        status = prepare(&work);
    if (status == LODE_OK)
        status = lode_run_create_resumable(&work.store, run, LODE_STAGE_COMPENSATE);
    if (status == LODE_OK) {
        lode_spool_t *spool = NULL;
        status = create_datasets(&work);
        if (status == LODE_OK)
            status = resume(&work);
        if (status == LODE_OK)
            status = biases(&work);
        if (status == LODE_OK)
            status = least_squares(&work);
        if (status == LODE_OK)
            status = lode_compensate_sequential(&work, &spool);
        if (status == LODE_OK)
            lode_progress_end(&work.progress);
        status = lode_run_finish(&work.store, run, LODE_STAGE_COMPENSATE, status);
        lode_spool_destroy(&spool, status);
    }
    release(&work);
    return status;
}
