#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "quantize/internal.h"
#include "transformer/pass.h"

/* Elements of a block of rows, and of its products: what is held of a matrix at a time. */
enum { BLOCK_ELEMENTS = 1 << 20 };

static int64_t max2(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* A pass of the unquantized models. */
typedef struct pass {
    lode_quantize_t *work;
    int part;        /* of the scratch file's journal */
    int64_t *base;   /* [count] of each of the pass's variants */
    int64_t count;   /* models */
    int64_t current; /* base in hand */
    lode_stack_t *stack;
    const int32_t **channels; /* [layers of the stack] of the base in hand */
    /* Of searches: */
    float *scale, *minimum;                     /* [blocks] of any matrix */
    lode_real_t *stored, *difference, *product; /* blocks */
    lode_real_t *scaled;                        /* [tokens, d] x divided by a smoothing */
    double *sums;                               /* [tokens] */
    double *errors;                             /* [candidates] */
    float *largest;                             /* [d] */
} pass_t;

static int64_t batch_number(const lode_quantize_t *work, const lode_batch_t *batch) {
    int64_t b = 0;
    while (work->batches.batch[b].first_sequence != batch->first_sequence)
        b++;
    return b;
}

static int64_t unit_of(const lode_quantize_t *work, int64_t base, int64_t batch, int64_t layer) {
    return (base * work->batches.count + batch) * work->layers + layer;
}

/* --- running --------------------------------------------------------------------------------- */

static lode_status_t on_variant(void *context, int64_t variant, int64_t start,
                                lode_stack_t *stack) {
    pass_t *pass = context;
    (void)start;
    pass->current = pass->base[variant];
    const int64_t pruned = pass->work->bases[pass->current].variant;
    for (int64_t i = 0; i < stack->count; i++)
        lode_quantize_use(pass->work, stack, pruned, stack->first_layer + i, &pass->channels[i]);
    return LODE_OK;
}

/* Whether an interrupted run has all that the pass is to find of a micro-batch. */
static bool is_done(const pass_t *pass, int64_t batch) {
    const lode_quantize_t *work = pass->work;
    for (int64_t i = 0; i < pass->count; i++)
        if (!lode_store_done(work->scratch, pass->part, unit_of(work, pass->base[i], batch, 0),
                             work->layers))
            return false;
    return true;
}

typedef lode_status_t (*input_t)(void *context, const lode_batch_t *batch, int64_t layer,
                                 lode_input_t which, const lode_real_t *x);

static lode_status_t run_batches(pass_t *pass, const char *name, input_t input, int64_t other,
                                 const uint8_t *done) {
    lode_quantize_t *work = pass->work;
    lode_run_t *run = work->run;
    lode_status_t status = LODE_OK;
    if (run->layout.replica >= 0)
        status =
            lode_stack_create(&pass->stack, run->checkpoint, &run->layout, work->batches.max_tokens,
                              work->batches.longest, (int)run->config->threads);
    if (status == LODE_OK && pass->stack)
        status = LODE_NEW(&pass->channels, pass->stack->count, "layers");
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK) {
        const int64_t ids = work->read.text.offsets[work->read.text.sequences] *
                            (int64_t)(2 * sizeof(int32_t) + sizeof(double));
        const int64_t edits = work->edits ? lode_edits_memory(work->edits) : 0;
        const lode_pass_t what = {
            .stage = name,
            .comm = run->comm,
            .layout = &run->layout,
            .stack = pass->stack,
            .batches = &work->batches,
            .variants = pass->count,
            .budget = lode_run_budget(run, pass->stack,
                                      ids + edits + other + lode_quantize_held_memory(work)),
            .done = done,
            .observer = {.context = pass, .variant = on_variant, .input = input}};
        status = lode_pass_run(&what);
    }
    lode_stack_destroy(&pass->stack);
    free(pass->channels);
    pass->channels = NULL;
    return status;
}

/* Runs the micro-batches that are left. Collective. */
static lode_status_t run_pass(pass_t *pass, const char *name, input_t input, int64_t other) {
    lode_quantize_t *work = pass->work;
    const lode_comm_t *comm = work->run->comm;
    uint8_t *done;
    int64_t count = 0;
    lode_status_t status =
        lode_comm_agree(comm, LODE_NEW(&done, work->batches.count, "micro-batches"));
    for (int64_t b = 0; b < work->batches.count && status == LODE_OK; b++)
        count += done[b] = is_done(pass, b);
    if (status == LODE_OK)
        lode_run_say_resumed(name, count, work->batches.count, "micro-batches");
    if (status == LODE_OK && count < work->batches.count)
        status = run_batches(pass, name, input, other, done);
    free(done);
    return status == LODE_OK ? lode_store_synchronise(work->scratch) : status;
}

static void pass_free(pass_t *pass) {
    free(pass->base);
    free(pass->scale);
    free(pass->minimum);
    free(pass->stored);
    free(pass->difference);
    free(pass->product);
    free(pass->scaled);
    free(pass->sums);
    free(pass->errors);
    free(pass->largest);
}

/* --- the largest magnitudes of inputs -------------------------------------------------------- */

static void maxima_path(char path[LODE_QUANTIZE_PATH], const lode_quantize_t *work, int64_t base,
                        lode_input_t input) {
    snprintf(path, LODE_QUANTIZE_PATH, "/maxima/%s/%s", lode_quantize_base_name(work, base),
             input == LODE_INPUT_ATTENTION ? "attention" : "ffn");
}

static lode_status_t on_maxima(void *context, const lode_batch_t *batch, int64_t layer,
                               lode_input_t which, const lode_real_t *x) {
    pass_t *pass = context;
    lode_quantize_t *work = pass->work;
    const int64_t b = batch_number(work, batch), unit = unit_of(work, pass->current, b, layer);
    const int64_t offset[] = {b, layer, 0}, count[] = {1, 1, work->d};
    char path[LODE_QUANTIZE_PATH];
    if ((which != LODE_INPUT_ATTENTION && which != LODE_INPUT_FFN) ||
        lode_store_done(work->scratch, pass->part, unit, 1))
        return LODE_OK;
    for (int64_t j = 0; j < work->d; j++)
        pass->largest[j] = 0;
    for (int64_t t = 0; t < batch->tokens; t++)
        for (int64_t j = 0; j < work->d; j++) {
            const float magnitude = fabsf((float)x[t * work->d + j]);
            pass->largest[j] = magnitude > pass->largest[j] ? magnitude : pass->largest[j];
        }
    maxima_path(path, work, pass->current, which);
    LODE_TRY(lode_store_write(work->scratch, path, offset, count, pass->largest));
    return which == LODE_INPUT_FFN ? lode_store_mark(work->scratch, pass->part, unit, 1) : LODE_OK;
}

/* The largest magnitude of each column of a matrix as used, where it is above `largest`. */
static lode_status_t add_columns(float *largest, const lode_weight_t *weight, lode_real_t *block,
                                 const char *name) {
    const int64_t rows = max2(1, BLOCK_ELEMENTS / max2(weight->in, 1));
    lode_weight_t plain = *weight;
    plain.codec = NULL;
    for (int64_t row = 0; row < weight->out; row += rows) {
        const int64_t count = weight->out - row < rows ? weight->out - row : rows;
        lode_codec_read(&plain, row, count, 0, weight->in, block);
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < weight->in; j++) {
                const float magnitude = fabsf((float)block[i * weight->in + j]);
                if (!isfinite(magnitude))
                    return lode_fail(LODE_ERR_NUMERIC,
                                     "%s[%lld, %lld] is not finite; the checkpoint is damaged or "
                                     "was not trained to the end",
                                     name, (long long)(row + i), (long long)j);
                largest[j] = magnitude > largest[j] ? magnitude : largest[j];
            }
    }
    return LODE_OK;
}

/* The smoothing of one input of a layer: s out, [d]. */
static lode_status_t smooth_input(float *s, pass_t *pass, int64_t base, int64_t layer,
                                  lode_input_t input) {
    lode_quantize_t *work = pass->work;
    const int64_t d = work->d;
    const double alpha = work->run->config->quantize.smooth;
    lode_layer_t *used = &pass->stack->layer[layer - pass->stack->first_layer];
    char path[LODE_QUANTIZE_PATH];
    float *row = pass->largest, *weights = pass->largest + d;
    maxima_path(path, work, base, input);
    for (int64_t j = 0; j < d; j++)
        s[j] = weights[j] = 0;
    for (int64_t b = 0; b < work->batches.count; b++) {
        const int64_t offset[] = {b, layer, 0}, count[] = {1, 1, d};
        LODE_TRY(lode_store_read(work->scratch, path, offset, count, LODE_TYPE_F32, row));
        for (int64_t j = 0; j < d; j++)
            s[j] = row[j] > s[j] ? row[j] : s[j];
    }
    for (int i = 0; i < LODE_MATRICES; i++) {
        const lode_weight_t *weight = lode_layer_matrix(used, (lode_layer_matrix_t)i);
        if (lode_matrix_input((lode_layer_matrix_t)i) == input && weight->data)
            LODE_TRY(add_columns(weights, weight, pass->stored,
                                 lode_matrix_name((lode_layer_matrix_t)i)));
    }
    for (int64_t j = 0; j < d; j++) {
        const double below = pow(fmax((double)weights[j], 1e-5), 1 - alpha);
        s[j] = (float)fmax(pow((double)s[j], alpha) / below, 1e-5);
    }
    return LODE_OK;
}

static lode_status_t smooth_layer(pass_t *pass, int64_t base, int64_t layer, float *s) {
    static const lode_input_t inputs[] = {LODE_INPUT_ATTENTION, LODE_INPUT_FFN};
    lode_quantize_t *work = pass->work;
    const int64_t offset = 0;
    char path[LODE_QUANTIZE_PATH];
    const int32_t *channels;
    lode_quantize_use(work, pass->stack, work->bases[base].variant, layer, &channels);
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        if (inputs[i] == LODE_INPUT_ATTENTION && !lode_quantize_has(work, LODE_MATRIX_Q))
            continue;
        LODE_TRY(smooth_input(s, pass, base, layer, inputs[i]));
        lode_quantize_smooth_path(path, work, base, layer, inputs[i]);
        LODE_TRY(lode_store_write(work->store, path, &offset, &work->d, s));
    }
    return LODE_OK;
}

/* The smoothing of this rank's layers: little work, done again by a run that goes on. */
static lode_status_t smooth_layers(pass_t *pass) {
    const lode_layout_t *layout = &pass->work->run->layout;
    float *s;
    LODE_TRY(LODE_NEW(&s, pass->work->d, "smoothing"));
    lode_status_t status =
        lode_stack_create(&pass->stack, pass->work->run->checkpoint, layout, 1, 1, 1);
    for (int64_t i = 0; i < pass->count && status == LODE_OK; i++)
        for (int64_t l = layout->first_layer; l < layout->layer_end && status == LODE_OK; l++)
            status = lode_fail_context(smooth_layer(pass, pass->base[i], l, s),
                                       "quantize, layer %lld", (long long)l);
    lode_stack_destroy(&pass->stack);
    free(s);
    return status;
}

lode_status_t lode_quantize_smooth(lode_quantize_t *work) {
    pass_t pass = {.work = work, .part = LODE_QUANTIZE_MAXIMA};
    lode_status_t status = LODE_NEW(&pass.base, work->base_count, "models");
    for (int64_t b = 0; b < work->base_count && status == LODE_OK; b++)
        if (work->bases[b].smoothed)
            pass.base[pass.count++] = b;
    if (status == LODE_OK)
        status = LODE_NEW(&pass.largest, 2 * work->d, "inputs' magnitudes");
    if (status == LODE_OK)
        status = LODE_NEW(&pass.stored, max2(BLOCK_ELEMENTS, max2(work->d, work->m)), "weights");
    status = lode_comm_agree(work->run->comm, status);
    if (status == LODE_OK && pass.count > 0) {
        status = run_pass(&pass, "quantize, inputs", on_maxima, 2 * BLOCK_ELEMENTS * 4);
        if (status == LODE_OK && lode_run_owns_layers(work->run))
            status = smooth_layers(&pass);
        status = lode_comm_agree(work->run->comm, status);
        if (status == LODE_OK)
            status = lode_store_synchronise(work->store);
    }
    pass_free(&pass);
    return status;
}

/* --- errors of candidates -------------------------------------------------------------------- */

/* Rows of a matrix that are held at a time: a matter of the experiment alone, as sums depend on it
 * through BLAS. */
static int64_t block_rows(const lode_quantize_t *work, const lode_weight_t *weight) {
    const int64_t rows = BLOCK_ELEMENTS / max2(max2(weight->in, work->batches.max_tokens), 1);
    return rows < 1 ? 1 : rows > weight->out ? weight->out : rows;
}

/* The weights of some rows as they are before they are rounded, into pass->stored, and what
 * rounding changes, into pass->difference. */
static void read_difference(pass_t *pass, const lode_weight_t *coded, int64_t row, int64_t rows) {
    const float *smooth = coded->codec->smooth;
    const int64_t in = coded->in;
    lode_weight_t plain = *coded;
    plain.codec = NULL;
    lode_codec_read(&plain, row, rows, 0, in, pass->stored);
    lode_codec_read(coded, row, rows, 0, in, pass->difference);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < in; j++) {
            const int64_t at = i * in + j;
            const lode_real_t stored = smooth ? pass->stored[at] * smooth[j] : pass->stored[at];
            pass->difference[at] -= stored;
        }
}

/* ‖x·(Ŵ − W)ᵀ‖²_F; x [tokens, in]. */
static double measure(pass_t *pass, const lode_weight_t *coded, const lode_real_t *x,
                      int64_t tokens) {
    const int64_t height = block_rows(pass->work, coded);
    double sum = 0;
    for (int64_t t = 0; t < tokens; t++)
        pass->sums[t] = 0;
    for (int64_t row = 0; row < coded->out; row += height) {
        const int64_t rows = coded->out - row < height ? coded->out - row : height;
        const lode_tensor_t tensor =
            lode_tensor_matrix(pass->difference, LODE_DTYPE_F32, rows, coded->in);
        const lode_weight_t difference = lode_weight_of(&tensor);
        read_difference(pass, coded, row, rows);
        lode_linear_forward(&difference, tokens, x, false, pass->product, NULL);
#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t i = 0; i < rows; i++) {
                const double y = (double)pass->product[t * rows + i];
                pass->sums[t] += y * y;
            }
    }
    for (int64_t t = 0; t < tokens; t++)
        sum += pass->sums[t];
    return sum;
}

/* Errors of all candidates of one matrix, into pass->errors. */
static lode_status_t try_candidates(pass_t *pass, const lode_codec_t *codec,
                                    const lode_weight_t *weight, const lode_real_t *x,
                                    int64_t tokens) {
    lode_codec_t fitted = *codec;
    lode_weight_t coded = *weight;
    fitted.scale = pass->scale;
    fitted.minimum = pass->minimum;
    coded.codec = &fitted;
    coded.bias = NULL;
    for (int64_t c = 0; c < pass->work->candidate_count; c++) {
        LODE_TRY(
            lode_codec_fit(codec, weight, pass->work->candidates[c], pass->scale, pass->minimum));
        pass->errors[c] = measure(pass, &coded, x, tokens);
    }
    return LODE_OK;
}

/* x/s, as the input codec has it. */
static const lode_real_t *divide(pass_t *pass, const lode_real_t *x, int64_t tokens,
                                 const float *smooth) {
    const int64_t d = pass->work->d;
    if (!smooth)
        return x;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t j = 0; j < d; j++)
            pass->scaled[t * d + j] = x[t * d + j] / smooth[j];
    return pass->scaled;
}

/* All matrices of a variant that read the input. */
static lode_status_t search_variant(pass_t *pass, const lode_variant_t *variant, int64_t batch,
                                    int64_t tokens, int64_t layer, lode_input_t input,
                                    const lode_real_t *x) {
    lode_quantize_t *work = pass->work;
    const int64_t index = layer - pass->stack->first_layer;
    lode_quantize_codecs_t codecs;
    char path[LODE_QUANTIZE_PATH];
    snprintf(path, sizeof path, "/error/%s", variant->name);
    lode_status_t status = lode_quantize_codecs_create(&codecs, work, variant, pass->stack, layer,
                                                       pass->channels[index]);
    for (int i = 0; i < LODE_MATRICES && status == LODE_OK; i++) {
        const lode_weight_t *weight =
            lode_layer_matrix(&pass->stack->layer[index], (lode_layer_matrix_t)i);
        const int64_t offset[] = {batch, layer, i, 0}, count[] = {1, 1, 1, work->candidate_count};
        if (lode_matrix_input((lode_layer_matrix_t)i) != input || !codecs.coded[i] ||
            weight->out == 0 || weight->in == 0)
            continue;
        status = try_candidates(pass, &codecs.codec[i], weight,
                                divide(pass, x, tokens, codecs.codec[i].smooth), tokens);
        if (status == LODE_OK)
            status = lode_store_write(work->scratch, path, offset, count, pass->errors);
        else
            status = lode_fail_context(status, "quantize, layer %lld, %s", (long long)layer,
                                       lode_matrix_name((lode_layer_matrix_t)i));
    }
    lode_quantize_codecs_free(&codecs);
    return status;
}

static lode_status_t on_search(void *context, const lode_batch_t *batch, int64_t layer,
                               lode_input_t which, const lode_real_t *x) {
    pass_t *pass = context;
    lode_quantize_t *work = pass->work;
    const int64_t b = batch_number(work, batch), unit = unit_of(work, pass->current, b, layer);
    if (lode_store_done(work->scratch, pass->part, unit, 1))
        return LODE_OK;
    for (int64_t v = 0; v < work->count; v++)
        if (lode_quantize_is_searched(&work->variants[v]) &&
            lode_quantize_base_of(work, &work->variants[v]) == pass->current)
            LODE_TRY(search_variant(pass, &work->variants[v], b, batch->tokens, layer, which, x));
    return which == LODE_INPUT_DOWN ? lode_store_mark(work->scratch, pass->part, unit, 1) : LODE_OK;
}

/* Blocks of the matrix that has most, of any searched variant; elements of the largest block of
 * rows, and of its products. */
typedef struct extents {
    int64_t blocks, elements, products, scaled;
} extents_t;

static extents_t extents_of(const lode_quantize_t *work, int64_t max_tokens) {
    extents_t most = {0};
    for (int64_t v = 0; v < work->count; v++) {
        const lode_variant_t *variant = &work->variants[v];
        for (int i = 0; i < LODE_MATRICES && lode_quantize_is_searched(variant); i++) {
            int64_t out, in;
            lode_quantize_extents(work, work->m, (lode_layer_matrix_t)i, &out, &in);
            const int64_t rows = max2(1, BLOCK_ELEMENTS / max2(max2(in, max_tokens), 1));
            const int64_t height = rows > out ? out : rows;
            most.blocks =
                max2(most.blocks, lode_quantize_blocks(variant, (lode_layer_matrix_t)i, out, in));
            most.elements = max2(most.elements, height * in);
            most.products = max2(most.products, height * max_tokens);
        }
        if (lode_quantize_is_searched(variant) && lode_quantize_is_smoothed(variant))
            most.scaled = work->d * max_tokens;
    }
    /* A base with fewer channels has narrower rows, more of which are held. */
    if (most.elements > 0 && work->pruned_count > 0) {
        most.elements = max2(most.elements, BLOCK_ELEMENTS);
        most.products = max2(most.products, BLOCK_ELEMENTS);
    }
    return most;
}

int64_t lode_quantize_search_memory(const lode_quantize_t *work, int64_t max_tokens) {
    const extents_t most = extents_of(work, max_tokens);
    int64_t smoothed = 0;
    for (int64_t b = 0; b < work->base_count; b++)
        if (work->bases[b].smoothed)
            smoothed = BLOCK_ELEMENTS;
    const int64_t search =
        most.blocks * (int64_t)(2 * sizeof(float)) +
        (2 * most.elements + most.products + most.scaled) * (int64_t)sizeof(lode_real_t) +
        max_tokens * (int64_t)sizeof(double);
    return max2(search, smoothed * (int64_t)sizeof(lode_real_t));
}

lode_status_t lode_quantize_search(lode_quantize_t *work) {
    pass_t pass = {.work = work, .part = LODE_QUANTIZE_ERRORS};
    const extents_t most = extents_of(work, work->batches.max_tokens);
    lode_status_t status = LODE_OK;
    LODE_GUARD(status, LODE_NEW(&pass.base, work->base_count, "models"), agree);
    for (int64_t b = 0; b < work->base_count; b++)
        if (work->bases[b].searched)
            pass.base[pass.count++] = b;
    LODE_GUARD(status, LODE_NEW(&pass.scale, most.blocks, "scales"), agree);
    LODE_GUARD(status, LODE_NEW(&pass.minimum, most.blocks, "minima"), agree);
    LODE_GUARD(status, LODE_NEW(&pass.stored, most.elements, "weights"), agree);
    LODE_GUARD(status, LODE_NEW(&pass.difference, most.elements, "weights"), agree);
    LODE_GUARD(status, LODE_NEW(&pass.product, most.products, "products"), agree);
    LODE_GUARD(status, LODE_NEW(&pass.scaled, most.scaled, "inputs"), agree);
    LODE_GUARD(status, LODE_NEW(&pass.sums, work->batches.max_tokens, "errors"), agree);
    LODE_GUARD(status, LODE_NEW(&pass.errors, work->candidate_count, "errors"), agree);
agree:
    status = lode_comm_agree(work->run->comm, status);
    if (status == LODE_OK && pass.count > 0)
        status = run_pass(&pass, "quantize, clipping", on_search,
                          lode_quantize_search_memory(work, work->batches.max_tokens));
    pass_free(&pass);
    return status;
}
