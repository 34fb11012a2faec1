#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/stop.h"
#include "quantize/internal.h"
#include "score/bits.h"

/* What the fits of this rank's layers need. */
typedef struct fits {
    lode_quantize_t *work;
    lode_stack_t *stack;
    float *scale, *minimum; /* [blocks] of the matrix in hand */
    double *error;          /* [micro-batches, 7, candidates] of the layer in hand */
    double *sum;            /* [7, candidates] */
    double z[LODE_MATRICES];
    int64_t stored[LODE_MATRICES], coded[LODE_MATRICES]; /* bytes */
    lode_progress_t progress;
} fits_t;

lode_status_t lode_quantize_stopped(void) {
    return lode_fail(LODE_STOPPED,
                     "stopped by %s between the layers of quantize; run the same command again to "
                     "go on from there",
                     lode_stop_reason());
}

static void named(char path[LODE_QUANTIZE_PATH], const lode_variant_t *variant, const char *name) {
    snprintf(path, LODE_QUANTIZE_PATH, "/variants/%s/%s", variant->name, name);
}

/* --- clipping -------------------------------------------------------------------------------- */

/* The candidate of least error, the larger z of equal ones. */
static double choose(const lode_quantize_t *work, const double *error) {
    int64_t best = 0;
    for (int64_t c = 1; c < work->candidate_count; c++)
        if (error[c] < error[best] ||
            (error[c] == error[best] && work->candidates[c] > work->candidates[best]))
            best = c;
    return work->candidates[best];
}

/* Sums the errors over micro-batches in their order, and takes the best z of each matrix; INFINITY
 * where nothing is clipped. */
static lode_status_t choose_all(fits_t *fits, const lode_variant_t *variant, int64_t layer) {
    lode_quantize_t *work = fits->work;
    const int64_t width = LODE_MATRICES * work->candidate_count, batches = work->batches.count;
    const int64_t offset[] = {0, layer, 0, 0},
                  count[] = {batches, 1, LODE_MATRICES, work->candidate_count};
    char path[LODE_QUANTIZE_PATH];
    double z[LODE_MATRICES];
    for (int i = 0; i < LODE_MATRICES; i++)
        fits->z[i] = (double)INFINITY;
    if (!lode_quantize_is_searched(variant))
        return LODE_OK;
    snprintf(path, sizeof path, "/error/%s", variant->name);
    LODE_TRY(lode_store_read(work->scratch, path, offset, count, LODE_TYPE_F64, fits->error));
    for (int64_t i = 0; i < width; i++) {
        fits->sum[i] = 0;
        for (int64_t b = 0; b < batches; b++)
            fits->sum[i] += fits->error[b * width + i];
    }
    for (int i = 0; i < LODE_MATRICES; i++) {
        if (!isnan(fits->sum[i * work->candidate_count]))
            fits->z[i] = choose(work, fits->sum + i * work->candidate_count);
        z[i] = isinf(fits->z[i]) ? (double)NAN : fits->z[i];
    }
    LODE_TRY(lode_store_write(work->store, path, offset + 1, count + 1, fits->sum));
    named(path, variant, "z");
    return lode_store_write(work->store, path, offset + 1, count + 1, z);
}

/* --- one matrix ------------------------------------------------------------------------------ */

static int64_t whole_bytes(int64_t elements, int64_t bits) {
    return (elements * bits + 7) / 8;
}

/* Bytes of a matrix as a packed folder has it. */
static int64_t coded_bytes(const lode_codec_t *codec, int64_t out, int64_t in) {
    enum { BLOCK = 8, LINE = 4, HELD = 10 };
    const int64_t each = (int64_t)lode_dtype_size(codec->dtype);
    const uint8_t *bits = codec->row_bits ? codec->row_bits : codec->col_bits;
    const uint8_t *keep = codec->keep_row ? codec->keep_row : codec->keep_col;
    const bool by_row = codec->row_bits || codec->keep_row;
    const int64_t lines = by_row ? out : in, length = by_row ? in : out;
    int64_t bytes = codec->held_count * HELD;
    if (bits) {
        for (int64_t i = 0; i < lines; i++)
            bytes += 1 + (bits[i] == LODE_BITS_STORED ? length * each
                                                      : BLOCK + whole_bytes(length, bits[i]));
        return bytes;
    }
    int64_t kept = 0;
    for (int64_t i = 0; keep && i < lines; i++)
        kept += keep[i];
    return bytes + BLOCK * lode_codec_blocks(codec, out, in) + kept * (length * each + LINE) +
           whole_bytes(out * in - kept * length, codec->bits);
}

static lode_status_t write_parameters(fits_t *fits, const lode_variant_t *variant, int64_t layer,
                                      lode_layer_matrix_t which, const lode_codec_t *codec,
                                      int64_t blocks) {
    lode_store_t *store = fits->work->store;
    const int64_t offset = 0;
    char path[LODE_QUANTIZE_PATH], name[64];
    const char *matrix = lode_matrix_name(which);
    snprintf(name, sizeof name, "%lld/%s/scale", (long long)layer, matrix);
    named(path, variant, name);
    LODE_TRY(lode_store_write(store, path, &offset, &blocks, fits->scale));
    snprintf(name, sizeof name, "%lld/%s/minimum", (long long)layer, matrix);
    named(path, variant, name);
    LODE_TRY(lode_store_write(store, path, &offset, &blocks, fits->minimum));
    if (!codec->row_bits && !codec->col_bits)
        return LODE_OK;
    snprintf(name, sizeof name, "%lld/%s/%s", (long long)layer, matrix,
             codec->row_bits ? "row_bits" : "col_bits");
    named(path, variant, name);
    return lode_store_write(store, path, &offset, &blocks,
                            codec->row_bits ? codec->row_bits : codec->col_bits);
}

static lode_status_t fit_matrix(fits_t *fits, const lode_variant_t *variant, int64_t layer,
                                lode_layer_matrix_t which, const lode_codec_t *codec) {
    lode_layer_t *used = &fits->stack->layer[layer - fits->stack->first_layer];
    const lode_weight_t *weight = lode_layer_matrix(used, which);
    const int64_t blocks = lode_codec_blocks(codec, weight->out, weight->in);
    fits->coded[which] = coded_bytes(codec, weight->out, weight->in);
    if (blocks == 0)
        return LODE_OK;
    LODE_TRY(LODE_NEW_RAW(&fits->scale, 2 * blocks, "scales"));
    fits->minimum = fits->scale + blocks;
    lode_status_t status =
        lode_codec_fit(codec, weight, fits->z[which], fits->scale, fits->minimum);
    if (status == LODE_OK)
        status = write_parameters(fits, variant, layer, which, codec, blocks);
    free(fits->scale);
    return lode_fail_context(status, "quantize, layer %lld, %s", (long long)layer,
                             lode_matrix_name(which));
}

/* --- one layer ------------------------------------------------------------------------------- */

static lode_status_t fit_variant(fits_t *fits, const lode_variant_t *variant, int64_t layer,
                                 const int32_t *channels) {
    lode_quantize_t *work = fits->work;
    const int64_t offset[] = {layer, 0}, matrices[] = {1, LODE_MATRICES}, two[] = {1, 2};
    lode_quantize_codecs_t codecs = {0};
    char path[LODE_QUANTIZE_PATH];
    lode_status_t status = choose_all(fits, variant, layer);
    if (status == LODE_OK)
        status = lode_quantize_codecs_create(&codecs, work, variant, fits->stack, layer, channels);
    for (int i = 0; i < LODE_MATRICES && status == LODE_OK; i++)
        if (codecs.coded[i])
            status = fit_matrix(fits, variant, layer, (lode_layer_matrix_t)i, &codecs.codec[i]);
    const int64_t is_protected[] = {codecs.kept, codecs.held_count};
    lode_quantize_codecs_free(&codecs);
    LODE_TRY(status);
    named(path, variant, "protected");
    LODE_TRY(lode_store_write(work->store, path, offset, two, is_protected));
    named(path, variant, "stored");
    LODE_TRY(lode_store_write(work->store, path, offset, matrices, fits->stored));
    named(path, variant, "coded");
    return lode_store_write(work->store, path, offset, matrices, fits->coded);
}

/* Bytes of a layer's tensors beside the seven matrices, as the checkpoint has them. */
static int64_t other_bytes(const fits_t *fits, int64_t layer) {
    lode_checkpoint_t *checkpoint = fits->work->run->checkpoint;
    lode_layer_t *whole = &fits->stack->whole[layer - fits->stack->first_layer];
    int64_t bytes = 0;
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(checkpoint); i++) {
        const lode_tensor_info_t info = lode_checkpoint_tensor_info(checkpoint, i);
        bytes += info.owner == layer ? info.bytes : 0;
    }
    for (int i = 0; i < LODE_MATRICES; i++) {
        const lode_weight_t *weight = lode_layer_matrix(whole, (lode_layer_matrix_t)i);
        if (weight->data)
            bytes -= weight->out * weight->in * (int64_t)lode_dtype_size(weight->dtype);
    }
    return bytes;
}

/* What a model that is not quantized has more or fewer beside its matrices: biases of channels that
 * are gone, or one that was added. */
static int64_t bias_bytes(const fits_t *fits, const lode_variant_t *variant, int64_t layer) {
    const int64_t index = layer - fits->stack->first_layer;
    lode_layer_t *whole = &fits->stack->whole[index];
    const lode_layer_t *used = &fits->stack->layer[index];
    const int64_t each = (int64_t)lode_dtype_size(whole->down.dtype);
    const int64_t gone = whole->m - used->m;
    int64_t bytes = 0;
    bytes -= whole->gate.data && whole->gate.bias ? gone * each : 0;
    bytes -= whole->up.bias ? gone * each : 0;
    if (variant && variant->pruned && variant->compensation == LODE_COMPENSATION_BIAS &&
        !whole->down.bias)
        bytes += whole->d * each;
    return bytes;
}

/* The row `row` of /sizes, which is of variants[row − 1]: fits and sizes of a layer. */
static lode_status_t fit_row(fits_t *fits, int64_t row, int64_t layer) {
    lode_quantize_t *work = fits->work;
    const int64_t index = layer - fits->stack->first_layer, one = 1;
    const lode_variant_t *variant = row == 0 ? NULL : &work->variants[row - 1];
    const int64_t pruned = !variant             ? -1
                           : variant->quantized ? variant->base
                           : variant->pruned    ? row - 1
                                                : -1;
    const int32_t *channels;
    char path[LODE_QUANTIZE_PATH];
    lode_quantize_use(work, fits->stack, pruned, layer, &channels);
    for (int i = 0; i < LODE_MATRICES; i++) {
        const lode_weight_t *weight =
            lode_layer_matrix(&fits->stack->layer[index], (lode_layer_matrix_t)i);
        const lode_weight_t *whole =
            lode_layer_matrix(&fits->stack->whole[index], (lode_layer_matrix_t)i);
        fits->stored[i] =
            weight->data ? weight->out * weight->in * (int64_t)lode_dtype_size(whole->dtype) : 0;
        fits->coded[i] = fits->stored[i];
    }
    if (variant && variant->quantized)
        LODE_TRY(fit_variant(fits, variant, layer, channels));
    int64_t bytes = other_bytes(fits, layer) +
                    bias_bytes(fits, pruned < 0 ? NULL : &work->variants[pruned], layer);
    for (int i = 0; i < LODE_MATRICES; i++)
        bytes += fits->coded[i];
    snprintf(path, sizeof path, "/sizes/%s", variant ? variant->name : "dense");
    LODE_TRY(lode_store_write(work->store, path, &layer, &one, &bytes));
    return lode_store_mark(work->store, LODE_QUANTIZE_FITS, row * work->layers + layer, 1);
}

/* --- all of them ----------------------------------------------------------------------------- */

static lode_status_t fit_layers(fits_t *fits) {
    lode_quantize_t *work = fits->work;
    const lode_layout_t *layout = &work->run->layout;
    const int64_t rows = 1 + work->count, own = layout->layer_end - layout->first_layer;
    int64_t before = 0;
    double seconds = 0;
    for (int64_t l = layout->first_layer; l < layout->layer_end; l++)
        for (int64_t row = 0; row < rows; row++)
            before += lode_store_done(work->store, LODE_QUANTIZE_FITS, row * work->layers + l, 1);
    lode_progress_start(&fits->progress, "quantize", "layer", rows * own);
    lode_progress_resume(&fits->progress, before);
    for (int64_t l = layout->first_layer; l < layout->layer_end; l++)
        for (int64_t row = 0; row < rows; row++) {
            const double start = lode_time();
            if (lode_store_done(work->store, LODE_QUANTIZE_FITS, row * work->layers + l, 1))
                continue;
            if (lode_stop_before(seconds))
                return lode_quantize_stopped();
            LODE_TRY(fit_row(fits, row, l));
            lode_progress_add(&fits->progress, 1, 0);
            seconds = lode_time() - start;
        }
    lode_progress_end(&fits->progress);
    return LODE_OK;
}

lode_status_t lode_quantize_fit(lode_quantize_t *work) {
    const lode_run_t *run = work->run;
    fits_t fits = {.work = work};
    lode_status_t status = LODE_OK;
    if (lode_run_owns_layers(run)) {
        const int64_t width = LODE_MATRICES * work->candidate_count;
        status = LODE_NEW(&fits.error, work->batches.count * width, "errors");
        if (status == LODE_OK)
            status = LODE_NEW(&fits.sum, width, "errors");
        if (status == LODE_OK)
            status = lode_stack_create(&fits.stack, run->checkpoint, &run->layout, 1, 1, 1);
        if (status == LODE_OK)
            status = fit_layers(&fits);
        lode_stack_destroy(&fits.stack);
        free(fits.error);
        free(fits.sum);
    }
    LODE_TRY(lode_comm_agree(run->comm, status));
    return lode_store_synchronise(work->store);
}

/* --- what all layers come to ----------------------------------------------------------------- */

static lode_status_t sum_up(int64_t *sum, lode_store_t *store, const char *path, int64_t stride,
                            const bool *counts) {
    int64_t *values, elements;
    *sum = 0;
    LODE_TRY(lode_store_read_all(store, path, LODE_TYPE_I64, &values, &elements));
    for (int64_t i = 0; i < elements; i++)
        if (!counts || counts[i % stride])
            *sum += values[i];
    free(values);
    return LODE_OK;
}

/* Bytes of tensors outside the layers. */
static int64_t ends_bytes(const lode_quantize_t *work) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(work->run->checkpoint); i++) {
        const lode_tensor_info_t info = lode_checkpoint_tensor_info(work->run->checkpoint, i);
        bytes += info.owner < 0 && info.owner != LODE_OWNER_UNUSED ? info.bytes : 0;
    }
    return bytes;
}

/* What only rank 0 needs to find out of a row of /sizes. */
static lode_status_t sum_row(const lode_quantize_t *work, const lode_variant_t *variant,
                             int64_t *bytes, double *bits) {
    bool counts[LODE_MATRICES];
    char path[LODE_QUANTIZE_PATH];
    int64_t coded = 0, elements = 0;
    snprintf(path, sizeof path, "/sizes/%s", variant ? variant->name : "dense");
    LODE_TRY(sum_up(bytes, work->store, path, 1, NULL));
    *bytes += ends_bytes(work);
    *bits = (double)NAN;
    if (!variant || !variant->quantized)
        return LODE_OK;
    const int64_t *kept = work->bases[lode_quantize_base_of(work, variant)].kept;
    for (int i = 0; i < LODE_MATRICES; i++) {
        counts[i] = lode_quantize_has(work, (lode_layer_matrix_t)i);
        for (int64_t l = 0; l < work->layers && counts[i]; l++) {
            int64_t out, in;
            lode_quantize_extents(work, kept[l], (lode_layer_matrix_t)i, &out, &in);
            elements += out * in;
        }
    }
    named(path, variant, "coded");
    LODE_TRY(sum_up(&coded, work->store, path, LODE_MATRICES, counts));
    *bits = 8 * (double)coded / (double)elements;
    return LODE_OK;
}

lode_status_t lode_quantize_describe_variant(lode_quantize_t *work, const lode_variant_t *variant,
                                             int64_t bytes, double bits) {
    lode_store_t *store = work->store;
    char group[LODE_QUANTIZE_PATH], granularity[LODE_GRANULARITY_NAME];
    snprintf(group, sizeof group, "/variants/%s", variant->name);
    lode_granularity_name(granularity, variant->granularity);
    const struct {
        const char *name, *value;
    } texts[] = {
        {"base", variant->base < 0 ? "dense" : work->variants[variant->base].name},
        {"method", lode_quantizer_name(variant->quantizer)},
        {"granularity", granularity},
        {"clip", lode_clip_name(variant->clip)},
        {"activations", lode_activations_quantized_name(variant->activations)},
        {"protection", lode_protection_name(variant->protection)},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        LODE_TRY(lode_store_attribute_text(store, group, texts[i].name, texts[i].value));
    LODE_TRY(lode_store_attribute_i64(store, group, "bits", variant->bits));
    LODE_TRY(lode_store_attribute_i64(store, group, "bytes", bytes));
    return lode_store_attribute_f64(store, group, "bits_per_weight", bits);
}

lode_status_t lode_quantize_describe(lode_quantize_t *work) {
    char path[LODE_QUANTIZE_PATH];
    for (int64_t row = 0; row <= work->count; row++) {
        const lode_variant_t *variant = row == 0 ? NULL : &work->variants[row - 1];
        int64_t bytes = 0;
        double bits = 0;
        lode_status_t status = LODE_OK;
        if (work->run->comm->rank == 0)
            status = sum_row(work, variant, &bytes, &bits);
        LODE_TRY(lode_comm_agree(work->run->comm, status));
        snprintf(path, sizeof path, "/sizes/%s", variant ? variant->name : "dense");
        LODE_TRY(lode_store_attribute_i64(work->store, path, "bytes", bytes));
        if (variant && variant->quantized)
            LODE_TRY(lode_quantize_describe_variant(work, variant, bytes, bits));
    }
    return LODE_OK;
}
