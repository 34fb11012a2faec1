#include "prune/prune.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "common/moment.h"
#include "common/variants.h"
#include "linalg/cholesky.h"
#include "linalg/packed.h"
#include "score/channel.h"
#include "score/mask.h"
#include "score/supernode.h"

enum { NAME_MAX_BYTES = 256 };
enum { INVERSES, LAYERS, PARTS }; /* of the journal; an inverse is of a kind and a layer */

/* Added to second moments before they are inverted, in mean diagonals (SparseGPT,
 * arXiv:2301.00774). */
static const double SPARSEGPT_DAMPING = 0.01;

/* What the stage reads and writes, and its buffers for one layer. */
typedef struct work {
    lode_run_t *run;
    lode_store_t *calibrate, *accumulate, *classify; /* open for reading */
    lode_store_t *store;
    lode_variant_t *variants;
    int64_t variant_count;
    int64_t m, d, sequences, tokens;
    double *loss_proxy, *activation_power, *taylor, *connectivity, *protection, *u_power, *score,
        *activation_mean, *inverse_u;    /* [m] each, one allocation at loss_proxy */
    double *input_power, *inverse_input; /* [d] each, one allocation at input_power */
    unsigned needs;                      /* of all methods, bits of lode_score_needs() */
    uint8_t *protect, *keep;             /* [m] each, one allocation at protect */
} work_t;

static lode_status_t work_allocate(work_t *work) {
    const int64_t m = work->m;
    LODE_TRY(LODE_NEW(&work->loss_proxy, 9 * m, "prune"));
    work->activation_power = work->loss_proxy + m;
    work->taylor = work->activation_power + m;
    work->connectivity = work->taylor + m;
    work->protection = work->connectivity + m;
    work->u_power = work->protection + m;
    work->score = work->u_power + m;
    work->activation_mean = work->score + m;
    work->inverse_u = work->activation_mean + m;
    LODE_TRY(LODE_NEW(&work->input_power, 2 * work->d, "prune"));
    work->inverse_input = work->input_power + work->d;
    LODE_TRY(LODE_NEW(&work->protect, 2 * m, "masks"));
    work->keep = work->protect + m;
    return LODE_OK;
}

static void work_free(work_t *work) {
    free(work->loss_proxy);
    free(work->input_power);
    free(work->protect);
    lode_variants_free(&work->variants, work->variant_count);
    lode_store_close(&work->classify);
    lode_store_close(&work->accumulate);
    lode_store_close(&work->calibrate);
}

static void score_path(char path[NAME_MAX_BYTES], lode_method_t method) {
    snprintf(path, NAME_MAX_BYTES, "/scores/%s", lode_method_name(method));
}

static void keep_path(char path[NAME_MAX_BYTES], const lode_variant_t *variant) {
    snprintf(path, NAME_MAX_BYTES, "/keep/%s", variant->name);
}

/* What a variant protects, written out. */
static lode_core_t protected_core(const lode_variant_t *variant) {
    return lode_mask_core(variant->method, variant->core);
}

/* One kind of activation: where its second moments are, and where their inverses' diagonals go. */
typedef struct moment {
    const char *dataset, *inverse;
    int64_t width;
} moment_t;

enum { KINDS = 2 };

static void list_moments(const work_t *work, moment_t kinds[KINDS]) {
    kinds[0] = (moment_t){"/input_second_moment", "/moments/inverse_input", work->d};
    kinds[1] = (moment_t){"/second_moment", "/moments/inverse_u", work->m};
}

/* --- datasets ------------------------------------------------------------------------------- */

static lode_status_t create_datasets(work_t *work) {
    const lode_config_prune_t *prune = &work->run->config->prune;
    const int64_t shape[] = {work->run->architecture.layers, work->m};
    char path[NAME_MAX_BYTES];
    for (int64_t i = 0; i < prune->method_count; i++) {
        score_path(path, prune->methods[i]);
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F64, 2, shape, false));
    }
    for (int64_t i = 0; i < work->variant_count; i++) {
        const lode_variant_t *variant = &work->variants[i];
        keep_path(path, variant);
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_U8, 2, shape, false));
        LODE_TRY(lode_store_attribute_text(work->store, path, "method",
                                           lode_method_name(variant->method)));
        LODE_TRY(lode_store_attribute_f64(work->store, path, "sparsity", variant->sparsity));
        LODE_TRY(lode_store_attribute_text(work->store, path, "core",
                                           lode_core_name(protected_core(variant))));
        LODE_TRY(lode_store_attribute_text(work->store, path, "allocation",
                                           lode_allocation_name(variant->allocation)));
        LODE_TRY(lode_store_attribute_text(work->store, path, "compensation",
                                           lode_compensation_name(variant->compensation)));
    }
    moment_t kinds[KINDS];
    list_moments(work, kinds);
    for (int i = 0; i < KINDS && work->needs & LODE_NEEDS_INVERSE_MOMENTS; i++) {
        const int64_t inverse[] = {shape[0], kinds[i].width};
        LODE_TRY(
            lode_store_dataset(work->store, kinds[i].inverse, LODE_TYPE_F64, 2, inverse, false));
    }
    return LODE_OK;
}

static lode_status_t resume(const work_t *work) {
    const int64_t layers = work->run->architecture.layers;
    const bool inverses = work->needs & LODE_NEEDS_INVERSE_MOMENTS;
    const lode_part_t parts[PARTS] = {
        [INVERSES] = {"inverses", inverses ? KINDS * layers : 0}, [LAYERS] = {"layers", layers}};
    LODE_TRY(lode_store_resume(work->store, parts, PARTS));
    lode_run_say_resumed("prune", lode_store_done_count(work->store, INVERSES),
                         parts[INVERSES].units, "inverses");
    lode_run_say_resumed("prune", lode_store_done_count(work->store, LAYERS), layers, "layers");
    return LODE_OK;
}

/* --- inverses of second moments -------------------------------------------------------------- */

static lode_status_t invert_layer(work_t *work, lode_store_t *moments, const moment_t *moment,
                                  lode_matrix_t *matrix, int64_t layer, int64_t unit,
                                  double *diagonal) {
    const int64_t offset[] = {layer, 0}, count[] = {1, moment->width};
    lode_ridge_t used;
    char what[128];
    snprintf(what, sizeof what, "%s of layer %lld", moment->dataset, (long long)layer);
    LODE_TRY(lode_packed_read(matrix, moments, moment->dataset, layer));
    LODE_TRY(lode_ridge_factor(matrix, SPARSEGPT_DAMPING, &used, what));
    LODE_TRY(lode_cholesky_inverse_diagonal(matrix, diagonal));
    if (work->run->comm->rank != 0)
        return LODE_OK;
    LODE_TRY(lode_store_write(work->store, moment->inverse, offset, count, diagonal));
    return lode_store_mark(work->store, INVERSES, unit, 1);
}

/* Layers that are not done yet; the units of this kind begin with `unit`. */
static lode_status_t invert_all(work_t *work, lode_store_t *moments, lode_grid_t *grid,
                                const moment_t *moment, int64_t unit) {
    const lode_run_t *run = work->run;
    lode_matrix_t *matrix = NULL;
    double *diagonal, seconds = 0;
    lode_status_t status =
        lode_comm_agree(run->comm, LODE_NEW(&diagonal, moment->width, "inverse"));
    if (status == LODE_OK)
        status = lode_matrix_create(&matrix, grid, moment->width, moment->width, 0);
    for (int64_t l = 0; l < run->architecture.layers && status == LODE_OK; l++) {
        const double start = lode_time();
        if (lode_store_done(work->store, INVERSES, unit + l, 1))
            continue;
        LODE_GUARD(status, lode_comm_stop(run->comm, seconds), done);
        status = lode_comm_agree(
            run->comm, invert_layer(work, moments, moment, matrix, l, unit + l, diagonal));
        seconds = lode_time() - start;
    }
done:
    lode_matrix_destroy(&matrix);
    free(diagonal);
    return status;
}

/* Elements of the second moments that are inverted, in all. */
static int64_t inverse_elements(const work_t *work) {
    return 2 * work->m * work->m;
}

/* /moments/inverse_input and /moments/inverse_u: diagonals of damped inverses, by all ranks
 * together. */
static lode_status_t invert_moments(work_t *work) {
    const int64_t layers = work->run->architecture.layers;
    moment_t kinds[KINDS];
    list_moments(work, kinds);
    lode_store_t *moments = NULL;
    lode_grid_t *grid = NULL;
    if (!(work->needs & LODE_NEEDS_INVERSE_MOMENTS))
        return LODE_OK;
    lode_status_t status =
        lode_comm_agree(work->run->comm, lode_moment_check_memory(work->run, "sparsegpt-channel",
                                                                  inverse_elements(work), 0, 0));
    if (status == LODE_OK)
        status = lode_run_open(&moments, work->run, LODE_STAGE_MOMENTS);
    if (status == LODE_OK)
        status = lode_grid_create(&grid, work->run->comm, 0, 0);
    for (int64_t i = 0; i < KINDS && status == LODE_OK; i++)
        status = invert_all(work, moments, grid, &kinds[i], i * layers);
    lode_grid_destroy(&grid);
    lode_store_close(&moments);
    return status == LODE_OK ? lode_store_synchronise(work->store) : status;
}

/* --- one layer ------------------------------------------------------------------------------ */

static lode_status_t read_row(lode_store_t *store, const char *name, int64_t layer, int64_t width,
                              double *row) {
    const int64_t offset[] = {layer, 0}, count[] = {1, width};
    return lode_store_read(store, name, offset, count, LODE_TYPE_F64, row);
}

/* Wanda's input norms are means over sequences of sums over tokens, of padded sequences where the
 * experiment asks for that. */
static lode_status_t read_input_norms(work_t *work, int64_t layer) {
    const double sequences = (double)work->sequences, tokens = (double)work->tokens;
    const bool padded = work->run->config->calibration.padding == LODE_PADDING_EOS;
    LODE_TRY(read_row(work->calibrate, padded ? "/padded/input_power" : "/input_power", layer,
                      work->d, work->input_power));
    if (padded)
        LODE_TRY(read_row(work->calibrate, "/padded/u_power", layer, work->m, work->u_power));
    for (int64_t j = 0; j < work->m; j++)
        work->u_power[j] =
            (padded ? work->u_power[j] : work->activation_power[j] * tokens) / sequences;
    for (int64_t i = 0; i < work->d; i++)
        work->input_power[i] /= sequences;
    return LODE_OK;
}

static lode_status_t read_layer(work_t *work, int64_t layer) {
    const int64_t m = work->m;
    LODE_TRY(read_row(work->accumulate, "/loss_proxy", layer, m, work->loss_proxy));
    LODE_TRY(read_row(work->accumulate, "/taylor", layer, m, work->taylor));
    LODE_TRY(read_row(work->calibrate, "/activation_power", layer, m, work->activation_power));
    LODE_TRY(read_row(work->classify, "/connectivity", layer, m, work->connectivity));
    LODE_TRY(read_row(work->classify, "/protection", layer, m, work->protection));
    LODE_TRY(read_row(work->calibrate, "/activation_mean", layer, m, work->activation_mean));
    if (work->needs & LODE_NEEDS_INVERSE_MOMENTS) {
        LODE_TRY(read_row(work->store, "/moments/inverse_u", layer, m, work->inverse_u));
        LODE_TRY(
            read_row(work->store, "/moments/inverse_input", layer, work->d, work->inverse_input));
    }
    return read_input_norms(work, layer);
}

static lode_status_t score_layer(work_t *work, int64_t layer) {
    const lode_config_t *config = work->run->config;
    lode_layer_weights_t weights = {0};
    LODE_TRY(lode_checkpoint_layer(work->run->checkpoint, layer, &weights));
    const lode_score_inputs_t inputs = {.m = work->m,
                                        .d = work->d,
                                        .loss_proxy = work->loss_proxy,
                                        .activation_power = work->activation_power,
                                        .taylor = work->taylor,
                                        .connectivity = work->connectivity,
                                        .protection = work->protection,
                                        .input_power_mean = work->input_power,
                                        .u_power_mean = work->u_power,
                                        .activation_mean = work->activation_mean,
                                        .inverse_input = work->inverse_input,
                                        .inverse_u = work->inverse_u,
                                        .gate = weights.gate,
                                        .up = weights.up,
                                        .down = weights.down,
                                        .seed = config->seed,
                                        .layer = layer};
    const int64_t offset[] = {layer, 0}, count[] = {1, work->m};
    for (int64_t i = 0; i < config->prune.method_count; i++) {
        char path[NAME_MAX_BYTES];
        score_path(path, config->prune.methods[i]);
        LODE_TRY(lode_score_channels(work->score, config->prune.methods[i], &inputs));
        LODE_TRY(lode_store_write(work->store, path, offset, count, work->score));
    }
    return LODE_OK;
}

static lode_status_t protect_layer(work_t *work, const lode_variant_t *variant, int64_t layer,
                                   uint8_t *protect) {
    const lode_config_t *config = work->run->config;
    return lode_mask_protect(protect, work->m, protected_core(variant),
                             lode_supernode_size(config->classify.core_fraction, work->m),
                             work->loss_proxy, work->activation_power, config->seed, layer);
}

static lode_status_t mask_layer(work_t *work, const lode_variant_t *variant, int64_t layer) {
    char path[NAME_MAX_BYTES];
    const int64_t offset[] = {layer, 0}, count[] = {1, work->m};
    score_path(path, variant->method);
    LODE_TRY(lode_store_read(work->store, path, offset, count, LODE_TYPE_F64, work->score));
    LODE_TRY(protect_layer(work, variant, layer, work->protect));
    LODE_TRY(lode_mask_uniform(work->keep, work->score, work->protect, work->m, variant->sparsity,
                               layer));
    keep_path(path, variant);
    return lode_store_write(work->store, path, offset, count, work->keep);
}

static lode_status_t prune_layers(work_t *work) {
    const lode_run_t *run = work->run;
    if (!lode_run_owns_layers(run))
        return LODE_OK;
    lode_progress_t progress;
    int64_t before = 0;
    for (int64_t l = run->layout.first_layer; l < run->layout.layer_end; l++)
        before += lode_store_done(work->store, LAYERS, l, 1);
    lode_progress_start(&progress, "prune", "layer",
                        run->layout.layer_end - run->layout.first_layer);
    lode_progress_resume(&progress, before);
    for (int64_t l = run->layout.first_layer; l < run->layout.layer_end; l++) {
        if (lode_store_done(work->store, LAYERS, l, 1))
            continue;
        lode_status_t status = read_layer(work, l);
        if (status == LODE_OK)
            status = score_layer(work, l);
        for (int64_t i = 0; i < work->variant_count && status == LODE_OK; i++)
            if (work->variants[i].allocation == LODE_ALLOCATION_UNIFORM)
                status = mask_layer(work, &work->variants[i], l);
        if (status == LODE_OK)
            status = lode_store_mark(work->store, LAYERS, l, 1);
        if (status != LODE_OK)
            return lode_fail_context(status, "prune, layer %lld", (long long)l);
        lode_progress_add(&progress, 1, 0);
    }
    lode_progress_end(&progress);
    return LODE_OK;
}

/* --- all layers at once --------------------------------------------------------------------- */

/* One ranking over all layers, by one rank: L·m scores are small. */
static lode_status_t mask_global(work_t *work, const lode_variant_t *variant) {
    const int64_t layers = work->run->architecture.layers, total = layers * work->m;
    const int64_t offset[] = {0, 0}, count[] = {layers, work->m};
    char path[NAME_MAX_BYTES];
    double *scores = NULL;
    uint8_t *protect = NULL, *keep;
    lode_status_t status = LODE_OK;
    score_path(path, variant->method);
    LODE_GUARD(status, LODE_NEW(&protect, 2 * total, "masks"), done);
    keep = protect + total;
    LODE_GUARD(status, lode_store_read_all(work->store, path, LODE_TYPE_F64, &scores, NULL), done);
    for (int64_t l = 0; l < layers; l++) {
        LODE_GUARD(status, read_row(work->accumulate, "/loss_proxy", l, work->m, work->loss_proxy),
                   done);
        LODE_GUARD(
            status,
            read_row(work->calibrate, "/activation_power", l, work->m, work->activation_power),
            done);
        LODE_GUARD(status, protect_layer(work, variant, l, protect + l * work->m), done);
    }
    LODE_GUARD(status,
               lode_mask_global(keep, scores, protect, layers, work->m, variant->sparsity,
                                work->run->config->prune.floor),
               done);
    keep_path(path, variant);
    status = lode_store_write(work->store, path, offset, count, keep);
done:
    free(scores);
    free(protect);
    return status;
}

static lode_status_t mask_globals(work_t *work) {
    if (work->run->comm->rank != 0)
        return LODE_OK;
    for (int64_t i = 0; i < work->variant_count; i++)
        if (work->variants[i].allocation == LODE_ALLOCATION_GLOBAL)
            LODE_TRY(mask_global(work, &work->variants[i]));
    return LODE_OK;
}

/* --- the stage ------------------------------------------------------------------------------ */

static lode_status_t open_inputs(work_t *work) {
    LODE_TRY(lode_run_open(&work->calibrate, work->run, LODE_STAGE_CALIBRATE));
    LODE_TRY(lode_run_open(&work->accumulate, work->run, LODE_STAGE_ACCUMULATE));
    LODE_TRY(lode_run_open(&work->classify, work->run, LODE_STAGE_CLASSIFY));
    lode_status_t status =
        lode_store_get_attribute_i64(work->calibrate, "/", "sequences", &work->sequences);
    if (status == LODE_OK)
        status = lode_store_get_attribute_i64(work->calibrate, "/", "tokens", &work->tokens);
    if (status == LODE_OK)
        status = lode_variants_pruned(&work->variants, &work->variant_count, work->run->config);
    if (status == LODE_OK)
        status = work_allocate(work);
    return lode_comm_agree(work->run->comm, status);
}

static work_t work_of(lode_run_t *run) {
    work_t work = {.run = run, .m = run->architecture.intermediate, .d = run->architecture.hidden};
    for (int64_t i = 0; i < run->config->prune.method_count; i++)
        work.needs |= lode_score_needs(run->config->prune.methods[i]);
    return work;
}

/* Private bytes: rows of a layer, a global ranking, second moments. */
static int64_t work_bytes(const work_t *work, int ranks) {
    const lode_config_prune_t *prune = &work->run->config->prune;
    const int64_t rows = (9 * work->m + 2 * work->d) * (int64_t)sizeof(double) + 2 * work->m;
    int64_t most = 0;
    for (int64_t i = 0; i < prune->allocation_count; i++)
        if (prune->allocation[i] == LODE_ALLOCATION_GLOBAL) /* scores, the ranking, two masks */
            most = work->run->architecture.layers * work->m * (int64_t)(4 * sizeof(double) + 2);
    const bool inverts = work->needs & LODE_NEEDS_INVERSE_MOMENTS;
    const int64_t inverse =
        inverts ? lode_moment_memory(ranks, inverse_elements(work), work->m * work->m, 0) : 0;
    return rows + (most > inverse ? most : inverse);
}

lode_status_t lode_prune_size(lode_stage_size_t *size, lode_run_t *run, int ranks) {
    work_t work = work_of(run);
    *size = (lode_stage_size_t){.memory = work_bytes(&work, ranks)};
    LODE_TRY(lode_variants_pruned(&work.variants, &work.variant_count, run->config));
    lode_status_t status = lode_store_tally_create(&work.store);
    if (status == LODE_OK)
        status = create_datasets(&work);
    size->file = lode_store_tally_end(&work.store);
    lode_variants_free(&work.variants, work.variant_count);
    return status;
}

lode_status_t lode_stage_prune(lode_run_t *run) {
    work_t work = work_of(run);
    lode_status_t status = open_inputs(&work);
    if (status == LODE_OK)
        status = lode_run_create_resumable(&work.store, run, LODE_STAGE_PRUNE);
    if (status == LODE_OK) {
        status = create_datasets(&work);
        if (status == LODE_OK)
            status = resume(&work);
        if (status == LODE_OK)
            status = invert_moments(&work);
        if (status == LODE_OK)
            status = lode_comm_agree(run->comm, prune_layers(&work));
        if (status == LODE_OK)
            status = lode_store_synchronise(work.store);
        if (status == LODE_OK)
            status = mask_globals(&work);
        status = lode_run_finish(&work.store, run, LODE_STAGE_PRUNE, status);
    }
    work_free(&work);
    return status;
}
