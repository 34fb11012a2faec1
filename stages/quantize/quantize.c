#include "quantize/quantize.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "quantize/internal.h"
#include "score/bits.h"
#include "score/mask.h"
#include "score/supernode.h"

/* --- what the stage reads -------------------------------------------------------------------- */

static bool needs_core(const lode_quantize_t *work) {
    for (int64_t v = 0; v < work->count; v++)
        if (work->variants[v].quantized && (lode_quantize_is_mixed(&work->variants[v]) ||
                                            lode_protects_supernode(work->variants[v].protection)))
            return true;
    return false;
}

static bool needs_super_weights(const lode_quantize_t *work) {
    for (int64_t v = 0; v < work->count; v++)
        if (work->variants[v].quantized && lode_protects_super_weight(work->variants[v].protection))
            return true;
    return false;
}

static bool needs_calibration(const lode_quantize_t *work) {
    for (int64_t b = 0; b < work->base_count; b++)
        if (work->bases[b].searched || work->bases[b].smoothed)
            return true;
    return false;
}

static lode_status_t take_core(lode_quantize_t *work, lode_store_t *classify) {
    int64_t elements;
    LODE_TRY(lode_store_read_all(classify, "/core", LODE_TYPE_I32, &work->core, &elements));
    work->core_size = elements / work->layers;
    return LODE_OK;
}

static lode_status_t read_core(lode_quantize_t *work) {
    lode_store_t *classify;
    LODE_TRY(lode_run_open(&classify, work->run, LODE_STAGE_CLASSIFY));
    const lode_status_t status = lode_comm_agree(work->run->comm, take_core(work, classify));
    lode_store_close(&classify);
    return status;
}

static lode_status_t take_super_weights(lode_quantize_t *work, lode_store_t *superweight) {
    int32_t *layer = NULL, *row = NULL, *channel = NULL;
    int64_t count;
    lode_status_t status;
    LODE_GUARD(status,
               lode_store_read_all(superweight, "/weights/layer", LODE_TYPE_I32, &layer, &count),
               done);
    LODE_GUARD(status, lode_store_read_all(superweight, "/weights/row", LODE_TYPE_I32, &row, NULL),
               done);
    LODE_GUARD(status,
               lode_store_read_all(superweight, "/weights/channel", LODE_TYPE_I32, &channel, NULL),
               done);
    LODE_GUARD(status, LODE_NEW(&work->weights, count, "super weights"), done);
    for (int64_t i = 0; i < count; i++)
        work->weights[i] =
            (lode_quantize_weight_t){.layer = layer[i], .row = row[i], .channel = channel[i]};
    work->weight_count = count;
done:
    free(layer);
    free(row);
    free(channel);
    return status;
}

static lode_status_t read_super_weights(lode_quantize_t *work) {
    lode_store_t *superweight;
    LODE_TRY(lode_run_open(&superweight, work->run, LODE_STAGE_SUPERWEIGHT));
    const lode_status_t status =
        lode_comm_agree(work->run->comm, take_super_weights(work, superweight));
    lode_store_close(&superweight);
    return status;
}

/* Rank 0 distributes bits, by the loss proxy of all layers. */
static lode_status_t read_loss_proxy(lode_quantize_t *work) {
    lode_store_t *accumulate;
    lode_status_t status = LODE_OK;
    LODE_TRY(lode_run_open(&accumulate, work->run, LODE_STAGE_ACCUMULATE));
    if (work->run->comm->rank == 0)
        status =
            lode_store_read_all(accumulate, "/loss_proxy", LODE_TYPE_F64, &work->loss_proxy, NULL);
    status = lode_comm_agree(work->run->comm, status);
    lode_store_close(&accumulate);
    return status;
}

static lode_status_t read_calibration(lode_quantize_t *work) {
    const int64_t asked = work->run->config->quantize.sequences;
    LODE_TRY(lode_run_calibration(&work->read, work->run));
    work->text = work->read.text;
    if (work->text.sequences > asked)
        work->text.sequences = asked;
    return lode_comm_agree(work->run->comm, lode_batches_create(&work->batches, &work->text,
                                                                work->run->config->micro_batch));
}

static lode_status_t count_kept(lode_quantize_t *work, const lode_quantize_base_t *base) {
    const lode_variant_t *variant = &work->variants[base->variant];
    char path[LODE_QUANTIZE_PATH];
    uint8_t *keep;
    snprintf(path, sizeof path, "/keep/%s", variant->name);
    LODE_TRY(lode_store_read_all(work->prune, path, LODE_TYPE_U8, &keep, NULL));
    for (int64_t i = 0; i < work->layers * work->m; i++)
        base->kept[i / work->m] += keep[i] != 0;
    free(keep);
    return LODE_OK;
}

/* Channels of every base; as many as uniform allocation leaves where there are no masks yet. */
static lode_status_t count_channels(lode_quantize_t *work) {
    for (int64_t b = 0; b < work->base_count; b++) {
        const lode_quantize_base_t *base = &work->bases[b];
        if (base->variant >= 0 && work->prune) {
            LODE_TRY(count_kept(work, base));
            continue;
        }
        const int64_t removed =
            base->variant < 0 ? 0
                              : lode_mask_removed(work->variants[base->variant].sparsity, work->m);
        for (int64_t l = 0; l < work->layers; l++)
            base->kept[l] = work->m - removed;
    }
    return LODE_OK;
}

static lode_status_t open_inputs(lode_quantize_t *work) {
    lode_run_t *run = work->run;
    if (needs_core(work))
        LODE_TRY(read_core(work));
    if (needs_super_weights(work))
        LODE_TRY(read_super_weights(work));
    if (work->family_count > 0)
        LODE_TRY(read_loss_proxy(work));
    if (needs_calibration(work))
        LODE_TRY(read_calibration(work));
    if (work->pruned_count > 0) {
        LODE_TRY(lode_edits_open(&work->edits, run, work->variants, work->pruned_count));
        LODE_TRY(lode_run_open(&work->prune, run, LODE_STAGE_PRUNE));
    }
    return lode_comm_agree(run->comm, count_channels(work));
}

/* --- datasets -------------------------------------------------------------------------------- */

static lode_status_t create_matrix(lode_quantize_t *work, const lode_variant_t *variant,
                                   int64_t layer, lode_layer_matrix_t which, int64_t kept) {
    static const char *const names[] = {"scale", "minimum"};
    const bool is_ffn = lode_matrix_input(which) == LODE_INPUT_FFN || which == LODE_MATRIX_DOWN;
    char path[LODE_QUANTIZE_PATH];
    int64_t out, in;
    lode_quantize_extents(work, kept, which, &out, &in);
    const int64_t blocks = lode_quantize_blocks(variant, which, out, in);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "/variants/%s/%lld/%s/%s", variant->name, (long long)layer,
                 lode_matrix_name(which), names[i]);
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F32, 1, &blocks, false));
    }
    if (!lode_quantize_is_mixed(variant) || !is_ffn)
        return LODE_OK;
    snprintf(path, sizeof path, "/variants/%s/%lld/%s/%s", variant->name, (long long)layer,
             lode_matrix_name(which), which == LODE_MATRIX_DOWN ? "col_bits" : "row_bits");
    return lode_store_dataset(work->store, path, LODE_TYPE_U8, 1, &blocks, false);
}

static lode_status_t create(lode_quantize_t *work, const lode_variant_t *variant, const char *name,
                            lode_type_t type, int64_t width, bool fill) {
    const int64_t shape[] = {work->layers, width};
    char path[LODE_QUANTIZE_PATH];
    snprintf(path, sizeof path, "/variants/%s/%s", variant->name, name);
    return lode_store_dataset(work->store, path, type, width == 1 ? 1 : 2, shape, fill);
}

static lode_status_t create_variant(lode_quantize_t *work, const lode_variant_t *variant) {
    const int64_t *kept = work->bases[lode_quantize_base_of(work, variant)].kept, two = 2;
    const int64_t error[] = {work->layers, LODE_MATRICES, work->candidate_count};
    char path[LODE_QUANTIZE_PATH];
    for (int64_t l = 0; l < work->layers; l++)
        for (int i = 0; i < LODE_MATRICES; i++)
            if (lode_quantize_has(work, (lode_layer_matrix_t)i))
                LODE_TRY(create_matrix(work, variant, l, (lode_layer_matrix_t)i, kept[l]));
    LODE_TRY(create(work, variant, "z", LODE_TYPE_F64, LODE_MATRICES, true));
    LODE_TRY(create(work, variant, "stored", LODE_TYPE_I64, LODE_MATRICES, false));
    LODE_TRY(create(work, variant, "coded", LODE_TYPE_I64, LODE_MATRICES, false));
    LODE_TRY(create(work, variant, "protected", LODE_TYPE_I64, 2, false));
    snprintf(path, sizeof path, "/error/%s", variant->name);
    if (lode_quantize_is_searched(variant))
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F64, 3, error, true));
    if (!lode_quantize_is_mixed(variant))
        return LODE_OK;
    LODE_TRY(create(work, variant, "channel_bits", LODE_TYPE_U8, work->m, false));
    LODE_TRY(create(work, variant, "bits", LODE_TYPE_I64, LODE_BITS_LEVELS, false));
    LODE_TRY(create(work, variant, "core_high", LODE_TYPE_F64, 1, true));
    snprintf(path, sizeof path, "/variants/%s/weighted_error", variant->name);
    return lode_store_dataset(work->store, path, LODE_TYPE_F64, 1, &two, false);
}

static lode_status_t create_smooth(lode_quantize_t *work, int64_t base) {
    char path[LODE_QUANTIZE_PATH];
    for (int64_t l = 0; l < work->layers; l++) {
        lode_quantize_smooth_path(path, work, base, l, LODE_INPUT_FFN);
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F32, 1, &work->d, false));
        lode_quantize_smooth_path(path, work, base, l, LODE_INPUT_ATTENTION);
        if (lode_quantize_has(work, LODE_MATRIX_Q))
            LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F32, 1, &work->d, false));
    }
    return LODE_OK;
}

static lode_status_t create_datasets(lode_quantize_t *work) {
    char path[LODE_QUANTIZE_PATH];
    bool smoothed = false, searched = false;
    for (int64_t row = 0; row <= work->count; row++) {
        const lode_variant_t *variant = row == 0 ? NULL : &work->variants[row - 1];
        snprintf(path, sizeof path, "/sizes/%s", variant ? variant->name : "dense");
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_I64, 1, &work->layers, false));
        if (variant && variant->quantized)
            LODE_TRY(create_variant(work, variant));
    }
    for (int64_t b = 0; b < work->base_count; b++) {
        if (work->bases[b].smoothed)
            LODE_TRY(create_smooth(work, b));
        smoothed = smoothed || work->bases[b].smoothed;
        searched = searched || work->bases[b].searched;
    }
    if (smoothed)
        LODE_TRY(lode_store_attribute_f64(work->store, "/smooth", "alpha",
                                          work->run->config->quantize.smooth));
    return searched ? lode_store_dataset(work->store, "/candidates", LODE_TYPE_F64, 1,
                                         &work->candidate_count, false)
                    : LODE_OK;
}

/* The scratch file's, for `batches` micro-batches. */
static lode_status_t create_scratch(lode_quantize_t *work, int64_t batches) {
    const int64_t maxima[] = {batches, work->layers, work->d};
    const int64_t errors[] = {batches, work->layers, LODE_MATRICES, work->candidate_count};
    const int64_t curves[] = {work->layers, work->m, LODE_BITS_CODED_LEVELS};
    static const char *const inputs[] = {"attention", "ffn"};
    char path[LODE_QUANTIZE_PATH];
    for (int64_t b = 0; b < work->base_count; b++)
        for (int i = 0; i < 2 && work->bases[b].smoothed; i++) {
            snprintf(path, sizeof path, "/maxima/%s/%s", lode_quantize_base_name(work, b),
                     inputs[i]);
            LODE_TRY(lode_store_dataset(work->scratch, path, LODE_TYPE_F32, 3, maxima, false));
        }
    for (int64_t v = 0; v < work->count; v++) {
        snprintf(path, sizeof path, "/error/%s", work->variants[v].name);
        if (lode_quantize_is_searched(&work->variants[v]))
            LODE_TRY(lode_store_dataset(work->scratch, path, LODE_TYPE_F64, 4, errors, true));
    }
    for (int64_t f = 0; f < work->family_count; f++) {
        snprintf(path, sizeof path, "/curves/%lld", (long long)f);
        LODE_TRY(lode_store_dataset(work->scratch, path, LODE_TYPE_F64, 3, curves, false));
    }
    return LODE_OK;
}

static bool needs_scratch(const lode_quantize_t *work) {
    return needs_calibration(work) || work->family_count > 0;
}

/* --- the stage ------------------------------------------------------------------------------- */

static lode_status_t write_candidates(lode_quantize_t *work) {
    const int64_t offset = 0;
    if (work->run->comm->rank != 0 || !lode_store_has(work->store, "/candidates"))
        return LODE_OK;
    return lode_store_write(work->store, "/candidates", &offset, &work->candidate_count,
                            work->candidates);
}

/* Goes on from an interrupted run. Collective. */
static lode_status_t begin(lode_quantize_t *work) {
    const int64_t units = work->base_count * work->batches.count * work->layers;
    const lode_part_t parts[LODE_QUANTIZE_PARTS] = {
        [LODE_QUANTIZE_FITS] = {"layers", (1 + work->count) * work->layers},
        [LODE_QUANTIZE_ALLOCATIONS] = {"distributions", work->count}};
    const lode_part_t scratch[LODE_QUANTIZE_SCRATCH_PARTS] = {
        [LODE_QUANTIZE_MAXIMA] = {"maxima", units},
        [LODE_QUANTIZE_ERRORS] = {"errors", units},
        [LODE_QUANTIZE_CURVES] = {"curves", work->family_count * work->layers}};
    LODE_TRY(lode_run_create_resumable(&work->store, work->run, LODE_STAGE_QUANTIZE));
    LODE_TRY(create_datasets(work));
    LODE_TRY(lode_store_resume(work->store, parts, LODE_QUANTIZE_PARTS));
    lode_run_say_resumed("quantize", lode_store_done_count(work->store, LODE_QUANTIZE_FITS),
                         parts[LODE_QUANTIZE_FITS].units, "layers of variants");
    LODE_TRY(lode_comm_agree(work->run->comm, write_candidates(work)));
    if (!needs_scratch(work))
        return LODE_OK;
    LODE_TRY(lode_run_create_scratch(&work->scratch, work->run, LODE_STAGE_QUANTIZE));
    LODE_TRY(create_scratch(work, work->batches.count));
    return lode_store_resume(work->scratch, scratch, LODE_QUANTIZE_SCRATCH_PARTS);
}

static lode_status_t quantize_all(lode_quantize_t *work) {
    LODE_TRY(lode_comm_agree(work->run->comm, lode_quantize_prepare(work)));
    LODE_TRY(open_inputs(work));
    LODE_TRY(begin(work));
    LODE_TRY(lode_quantize_smooth(work));
    LODE_TRY(lode_quantize_distribute(work));
    LODE_TRY(lode_quantize_search(work));
    LODE_TRY(lode_quantize_fit(work));
    return lode_quantize_describe(work);
}

static lode_quantize_t work_of(lode_run_t *run) {
    return (lode_quantize_t){.run = run,
                             .layers = run->architecture.layers,
                             .m = run->architecture.intermediate,
                             .d = run->architecture.hidden};
}

lode_status_t lode_stage_quantize(lode_run_t *run) {
    lode_quantize_t work = work_of(run);
    lode_status_t status = quantize_all(&work);
    status = lode_run_finish(&work.store, run, LODE_STAGE_QUANTIZE, status);
    lode_run_end_scratch(&work.scratch, status);
    lode_edits_close(&work.edits);
    lode_store_close(&work.prune);
    lode_quantize_release(&work);
    return status;
}

/* --- for plans ------------------------------------------------------------------------------- */

lode_status_t lode_quantize_pass(const lode_config_t *config, int64_t *sequences, int64_t *models,
                                 int64_t *passes) {
    lode_run_t run = {.config = config, .architecture = {.layers = 1}};
    lode_quantize_t work = work_of(&run);
    int64_t smoothed = 0, searched = 0;
    *sequences = *models = *passes = 0;
    const lode_status_t status = lode_quantize_prepare(&work);
    for (int64_t b = 0; b < work.base_count && status == LODE_OK; b++) {
        smoothed += work.bases[b].smoothed;
        searched += work.bases[b].searched;
    }
    if (smoothed + searched > 0)
        *sequences = config->quantize.sequences;
    *models = smoothed > searched ? smoothed : searched;
    *passes = (smoothed > 0) + (searched > 0);
    lode_quantize_release(&work);
    return status;
}

static lode_status_t describe_all(lode_quantize_t *work) {
    char path[LODE_QUANTIZE_PATH];
    for (int64_t row = 0; row <= work->count; row++) {
        const lode_variant_t *variant = row == 0 ? NULL : &work->variants[row - 1];
        snprintf(path, sizeof path, "/sizes/%s", variant ? variant->name : "dense");
        LODE_TRY(lode_store_attribute_i64(work->store, path, "bytes", 0));
        if (variant && variant->quantized)
            LODE_TRY(lode_quantize_describe_variant(work, variant, 0, 0));
    }
    return LODE_OK;
}

static lode_status_t count_files(lode_quantize_t *work, lode_stage_size_t *size, int64_t batches) {
    LODE_TRY(count_channels(work));
    LODE_TRY(lode_store_tally_create(&work->store));
    lode_status_t status = create_datasets(work);
    if (status == LODE_OK)
        status = describe_all(work);
    size->file = lode_store_tally_end(&work->store);
    if (status != LODE_OK || !needs_scratch(work))
        return status;
    LODE_TRY(lode_store_tally_create(&work->scratch));
    status = create_scratch(work, batches);
    size->scratch = lode_store_tally_end(&work->scratch);
    return status;
}

/* Datasets of quantize.h5. */
static int64_t count_datasets(const lode_quantize_t *work) {
    int64_t count = 1 + work->count, matrices = 0;
    for (int i = 0; i < LODE_MATRICES; i++)
        matrices += lode_quantize_has(work, (lode_layer_matrix_t)i);
    for (int64_t v = 0; v < work->count; v++) {
        if (work->variants[v].quantized)
            count += 2 * matrices * work->layers + 5;
        if (lode_quantize_is_mixed(&work->variants[v]))
            count += 3 * work->layers + 4;
    }
    for (int64_t b = 0; b < work->base_count; b++)
        count += work->bases[b].smoothed ? 2 * work->layers : 0;
    return count;
}

int64_t lode_quantize_held_memory(const lode_quantize_t *work) {
    /* What HDF5 and the store keep of a dataset of a file that is being written: measured with
     * HDF5 1.10. */
    enum { DATASET_BYTES = 18000 };
    const int64_t all = work->layers * work->m;
    const int64_t core =
        lode_supernode_size(work->run->config->classify.core_fraction, work->m) * work->layers;
    int64_t bytes = work->base_count * work->layers * (int64_t)sizeof(int64_t) +
                    count_datasets(work) * DATASET_BYTES;
    if (needs_core(work))
        bytes += core * (int64_t)sizeof(int32_t);
    if (work->family_count > 0)
        bytes += all * (int64_t)sizeof(double);
    return bytes;
}

lode_status_t lode_quantize_size(lode_stage_size_t *size, lode_run_t *run, const lode_text_t *text,
                                 int64_t layers) {
    lode_quantize_t work = work_of(run);
    *size = (lode_stage_size_t){0};
    lode_status_t status = lode_quantize_prepare(&work);
    work.text = *text;
    if (work.text.sequences > run->config->quantize.sequences)
        work.text.sequences = run->config->quantize.sequences;
    if (status == LODE_OK && needs_calibration(&work))
        status = lode_batches_create(&work.batches, &work.text, run->config->micro_batch);
    if (status == LODE_OK)
        status = count_files(&work, size, work.batches.count);
    if (status == LODE_OK) {
        const int64_t search = lode_quantize_search_memory(&work, work.batches.max_tokens);
        const int64_t mixed = lode_quantize_distribute_memory(&work);
        size->memory = lode_quantize_held_memory(&work) + (search > mixed ? search : mixed);
        if (work.pruned_count > 0)
            size->memory +=
                lode_edits_plan(work.variants, work.pruned_count, layers, work.m, work.d);
    }
    lode_quantize_release(&work);
    return status;
}
