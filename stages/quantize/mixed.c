#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/stop.h"
#include "quantize/internal.h"
#include "score/bits.h"

/* Elements of a block of rows of a matrix that is compared with its quantized self. */
enum { BLOCK_ELEMENTS = 1 << 20 };

/* --- error curves ---------------------------------------------------------------------------- */

/* A layer's feed-forward block at one precision after the other. */
typedef struct curves {
    lode_quantize_t *work;
    lode_stack_t *stack;
    float *scale, *minimum;     /* [m] */
    uint8_t *bits;              /* [m] all alike */
    lode_held_t *held;          /* super weights */
    lode_real_t *plain, *coded; /* blocks of rows */
    double *error, *power;      /* [m] ‖Ŵ − W‖² and ‖W‖² of a row or column */
    double *curve;              /* [m, LODE_BITS_CODED_LEVELS] */
} curves_t;

static void curve_path(char path[LODE_QUANTIZE_PATH], int64_t family) {
    snprintf(path, LODE_QUANTIZE_PATH, "/curves/%lld", (long long)family);
}

/* Adds the squares of some rows to those of their channels: rows, or columns of Wdown. */
static void add_squares(curves_t *curves, int64_t row, int64_t rows, int64_t in, bool by_column) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < in; j++) {
            const double plain = (double)curves->plain[i * in + j];
            const double off = (double)curves->coded[i * in + j] - plain;
            const int64_t channel = by_column ? j : row + i;
            curves->error[channel] += off * off;
            curves->power[channel] += plain * plain;
        }
}

/* Adds a matrix's relative errors to the curves' level. */
static lode_status_t add_matrix(curves_t *curves, const lode_weight_t *weight,
                                const lode_codec_t *codec, int level) {
    const int64_t height = BLOCK_ELEMENTS / (weight->in > 0 ? weight->in : 1);
    const int64_t step = height < 1 ? 1 : height;
    const bool by_column = codec->col_bits != NULL;
    const int64_t channels = by_column ? weight->in : weight->out;
    lode_codec_t fitted = *codec;
    lode_weight_t plain = *weight, coded = *weight;
    fitted.scale = curves->scale;
    fitted.minimum = curves->minimum;
    plain.codec = NULL;
    coded.codec = &fitted;
    LODE_TRY(lode_codec_fit(codec, weight, (double)INFINITY, curves->scale, curves->minimum));
    memset(curves->error, 0, (size_t)channels * sizeof *curves->error);
    memset(curves->power, 0, (size_t)channels * sizeof *curves->power);
    for (int64_t row = 0; row < weight->out; row += step) {
        const int64_t rows = weight->out - row < step ? weight->out - row : step;
        lode_codec_read(&plain, row, rows, 0, weight->in, curves->plain);
        lode_codec_read(&coded, row, rows, 0, weight->in, curves->coded);
        add_squares(curves, row, rows, weight->in, by_column);
    }
    for (int64_t j = 0; j < channels; j++)
        if (curves->power[j] > 0)
            curves->curve[j * LODE_BITS_CODED_LEVELS + level] +=
                curves->error[j] / curves->power[j];
    return LODE_OK;
}

static lode_status_t add_level(curves_t *curves, lode_layer_t *layer, int level,
                               int64_t held_count) {
    static const lode_layer_matrix_t matrices[] = {LODE_MATRIX_GATE, LODE_MATRIX_UP,
                                                   LODE_MATRIX_DOWN};
    memset(curves->bits, lode_bits_of_level(level), (size_t)curves->work->m);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        const bool down = matrices[i] == LODE_MATRIX_DOWN;
        const lode_weight_t *weight = lode_layer_matrix(layer, matrices[i]);
        const lode_codec_t codec = {.bits = lode_bits_of_level(level),
                                    .row_bits = down ? NULL : curves->bits,
                                    .col_bits = down ? curves->bits : NULL,
                                    .held = down ? curves->held : NULL,
                                    .held_count = down ? held_count : 0,
                                    .dtype = weight->dtype};
        if (weight->data)
            LODE_TRY(lode_fail_context(add_matrix(curves, weight, &codec, level), "%s",
                                       lode_matrix_name(matrices[i])));
    }
    return LODE_OK;
}

/* The curves of one layer, into the scratch file: of kept channels, in their order. */
static lode_status_t find_curves(curves_t *curves, int64_t family, int64_t layer) {
    lode_quantize_t *work = curves->work;
    const lode_quantize_family_t *what = &work->families[family];
    const int64_t offset[] = {layer, 0, 0}, count[] = {1, work->m, LODE_BITS_CODED_LEVELS};
    const int32_t *channels;
    char path[LODE_QUANTIZE_PATH];
    lode_quantize_use(work, curves->stack, work->bases[what->base].variant, layer, &channels);
    lode_layer_t *used = &curves->stack->layer[layer - curves->stack->first_layer];
    const int64_t held_count =
        what->holds ? lode_quantize_held(curves->held, work, layer,
                                         lode_layer_matrix(used, LODE_MATRIX_DOWN), channels)
                    : 0;
    memset(curves->curve, 0, (size_t)(work->m * LODE_BITS_CODED_LEVELS) * sizeof *curves->curve);
    for (int level = 0; level < LODE_BITS_CODED_LEVELS; level++)
        LODE_TRY(add_level(curves, used, level, held_count));
    curve_path(path, family);
    LODE_TRY(lode_store_write(work->scratch, path, offset, count, curves->curve));
    return lode_store_mark(work->scratch, LODE_QUANTIZE_CURVES, family * work->layers + layer, 1);
}

static lode_status_t allocate(curves_t *curves) {
    const lode_quantize_t *work = curves->work;
    const int64_t m = work->m, widest = m > work->d ? m : work->d;
    const int64_t block = widest > BLOCK_ELEMENTS ? widest : BLOCK_ELEMENTS;
    LODE_TRY(LODE_NEW(&curves->scale, 2 * m, "scales"));
    curves->minimum = curves->scale + m;
    LODE_TRY(LODE_NEW(&curves->bits, m, "bits"));
    LODE_TRY(LODE_NEW(&curves->held, work->weight_count, "super weights"));
    LODE_TRY(LODE_NEW(&curves->plain, 2 * block, "weights"));
    curves->coded = curves->plain + block;
    LODE_TRY(LODE_NEW(&curves->error, 2 * m, "errors"));
    curves->power = curves->error + m;
    LODE_TRY(LODE_NEW(&curves->curve, m * LODE_BITS_CODED_LEVELS, "errors"));
    return lode_stack_create(&curves->stack, work->run->checkpoint, &work->run->layout, 1, 1, 1);
}

static lode_status_t find_all_curves(lode_quantize_t *work) {
    const lode_layout_t *layout = &work->run->layout;
    curves_t curves = {.work = work};
    lode_status_t status = allocate(&curves);
    double seconds = 0;
    for (int64_t l = layout->first_layer; l < layout->layer_end; l++)
        for (int64_t f = 0; f < work->family_count && status == LODE_OK; f++) {
            const double start = lode_time();
            if (lode_store_done(work->scratch, LODE_QUANTIZE_CURVES, f * work->layers + l, 1))
                continue;
            if (lode_stop_before(seconds))
                status = lode_quantize_stopped();
            else
                status = lode_fail_context(find_curves(&curves, f, l), "quantize, layer %lld",
                                           (long long)l);
            seconds = lode_time() - start;
        }
    lode_stack_destroy(&curves.stack);
    free(curves.scale);
    free(curves.bits);
    free(curves.held);
    free(curves.plain);
    free(curves.error);
    free(curves.curve);
    return status;
}

/* --- distribution ---------------------------------------------------------------------------- */

/* All channels that a base has, layer after layer. */
typedef struct channels {
    int64_t count;
    double *loss_proxy, *error; /* [count], [count, LODE_BITS_CODED_LEVELS] */
    uint8_t *core, *bits;       /* [count] */
    int32_t *place;             /* [L, m] number of a channel, −1 where the base lacks it */
} channels_t;

static lode_status_t read_mask(uint8_t *keep, const lode_quantize_t *work, int64_t base,
                               int64_t layer) {
    const int64_t variant = work->bases[base].variant;
    const int64_t offset[] = {layer, 0}, count[] = {1, work->m};
    char path[LODE_QUANTIZE_PATH];
    if (variant < 0) {
        memset(keep, 1, (size_t)work->m);
        return LODE_OK;
    }
    snprintf(path, sizeof path, "/keep/%s", work->variants[variant].name);
    return lode_store_read(work->prune, path, offset, count, LODE_TYPE_U8, keep);
}

/* Channels of one layer, after those of the layers before. */
static lode_status_t add_channels(channels_t *channels, lode_quantize_t *work, int64_t family,
                                  int64_t layer, uint8_t *keep) {
    const int64_t first = channels->count, base = work->families[family].base;
    char path[LODE_QUANTIZE_PATH];
    LODE_TRY(read_mask(keep, work, base, layer));
    for (int64_t j = 0; j < work->m; j++) {
        channels->place[layer * work->m + j] = keep[j] ? (int32_t)channels->count : -1;
        if (keep[j])
            channels->loss_proxy[channels->count++] = work->loss_proxy[layer * work->m + j];
    }
    for (int64_t i = 0; i < work->core_size; i++) {
        const int32_t place =
            channels->place[layer * work->m + work->core[layer * work->core_size + i]];
        if (place >= 0)
            channels->core[place] = 1;
    }
    const int64_t offset[] = {layer, 0, 0},
                  count[] = {1, channels->count - first, LODE_BITS_CODED_LEVELS};
    curve_path(path, family);
    return count[1] == 0 ? LODE_OK
                         : lode_store_read(work->scratch, path, offset, count, LODE_TYPE_F64,
                                           channels->error + first * LODE_BITS_CODED_LEVELS);
}

static void channels_free(channels_t *channels) {
    free(channels->loss_proxy);
    free(channels->error);
    free(channels->core);
    free(channels->bits);
    free(channels->place);
    *channels = (channels_t){0};
}

static lode_status_t gather(channels_t *channels, lode_quantize_t *work, int64_t family) {
    const int64_t all = work->layers * work->m;
    uint8_t *keep = NULL;
    lode_status_t status = LODE_OK;
    *channels = (channels_t){0};
    LODE_GUARD(status, LODE_NEW(&channels->loss_proxy, all, "channels"), done);
    LODE_GUARD(status, LODE_NEW(&channels->error, all * LODE_BITS_CODED_LEVELS, "channels"), done);
    LODE_GUARD(status, LODE_NEW(&channels->core, all, "channels"), done);
    LODE_GUARD(status, LODE_NEW(&channels->bits, all, "channels"), done);
    LODE_GUARD(status, LODE_NEW(&channels->place, all, "channels"), done);
    LODE_GUARD(status, LODE_NEW(&keep, work->m, "channels"), done);
    for (int64_t l = 0; l < work->layers && status == LODE_OK; l++)
        status = add_channels(channels, work, family, l, keep);
done:
    free(keep);
    return status;
}

/* Writes a layer's bits and what is to be said of them. */
static lode_status_t write_layer(const channels_t *channels, lode_quantize_t *work,
                                 const lode_variant_t *variant, int64_t layer, uint8_t *row) {
    int64_t histogram[LODE_BITS_LEVELS] = {0}, high = 0, core = 0;
    const int64_t offset[] = {layer, 0}, levels[] = {1, LODE_BITS_LEVELS}, width[] = {1, work->m};
    char path[LODE_QUANTIZE_PATH];
    for (int64_t j = 0; j < work->m; j++) {
        const int32_t place = channels->place[layer * work->m + j];
        row[j] = place < 0 ? 0 : channels->bits[place];
        if (place < 0)
            continue;
        histogram[lode_bits_level(row[j])]++;
        core += channels->core[place];
        high += channels->core[place] && row[j] >= LODE_BITS_MOST;
    }
    const double share = core > 0 ? (double)high / (double)core : NAN;
    snprintf(path, sizeof path, "/variants/%s/channel_bits", variant->name);
    LODE_TRY(lode_store_write(work->store, path, offset, width, row));
    snprintf(path, sizeof path, "/variants/%s/bits", variant->name);
    LODE_TRY(lode_store_write(work->store, path, offset, levels, histogram));
    snprintf(path, sizeof path, "/variants/%s/core_high", variant->name);
    return lode_store_write(work->store, path, offset, levels, &share);
}

/* Supernodes that were to be protected and are not, for want of budget. */
static void say_unprotected(const channels_t *channels, const lode_variant_t *variant) {
    int64_t core = 0, stored = 0;
    for (int64_t j = 0; j < channels->count; j++) {
        core += channels->core[j];
        stored += channels->core[j] && channels->bits[j] == LODE_BITS_STORED;
    }
    if (stored < core)
        lode_log_warning("%s: the budget has room for 16 bits of %lld of %lld supernodes",
                         variant->name, (long long)stored, (long long)core);
}

static lode_status_t distribute_one(const channels_t *channels, lode_quantize_t *work,
                                    const lode_variant_t *variant, uint8_t *row) {
    const bool protects = lode_protects_supernode(variant->protection);
    const int64_t offset = 0, count = 2;
    double value[2];
    char path[LODE_QUANTIZE_PATH];
    LODE_TRY(lode_fail_context(lode_bits_allocate(channels->bits, &value[1], channels->loss_proxy,
                                                  channels->error, protects ? channels->core : NULL,
                                                  channels->count, variant->bits),
                               "%s, over all layers", variant->name));
    if (protects)
        say_unprotected(channels, variant);
    value[0] =
        lode_bits_value(channels->bits, channels->loss_proxy, channels->error, channels->count);
    for (int64_t l = 0; l < work->layers; l++)
        LODE_TRY(write_layer(channels, work, variant, l, row));
    snprintf(path, sizeof path, "/variants/%s/weighted_error", variant->name);
    LODE_TRY(lode_store_write(work->store, path, &offset, &count, value));
    return lode_store_mark(work->store, LODE_QUANTIZE_ALLOCATIONS, variant - work->variants, 1);
}

/* All variants that share curves, by rank 0: L·m channels are few. */
static lode_status_t distribute_family(lode_quantize_t *work, int64_t family) {
    channels_t channels = {0};
    uint8_t *row = NULL;
    lode_status_t status = gather(&channels, work, family);
    if (status == LODE_OK)
        status = LODE_NEW(&row, work->m, "channels");
    for (int64_t v = 0; v < work->count && status == LODE_OK; v++)
        if (lode_quantize_is_mixed(&work->variants[v]) &&
            lode_quantize_family_of(work, &work->variants[v]) == family &&
            !lode_store_done(work->store, LODE_QUANTIZE_ALLOCATIONS, v, 1))
            status = distribute_one(&channels, work, &work->variants[v], row);
    free(row);
    channels_free(&channels);
    return status;
}

lode_status_t lode_quantize_distribute(lode_quantize_t *work) {
    const lode_run_t *run = work->run;
    lode_status_t status = LODE_OK;
    if (work->family_count == 0)
        return LODE_OK;
    if (lode_run_owns_layers(run))
        status = find_all_curves(work);
    LODE_TRY(lode_comm_agree(run->comm, status));
    LODE_TRY(lode_store_synchronise(work->scratch));
    for (int64_t f = 0; f < work->family_count && run->comm->rank == 0 && status == LODE_OK; f++)
        status = distribute_family(work, f);
    LODE_TRY(lode_comm_agree(run->comm, status));
    return lode_store_synchronise(work->store);
}

int64_t lode_quantize_distribute_memory(const lode_quantize_t *work) {
    const int64_t m = work->m, all = work->layers * m;
    const int64_t widest = m > work->d ? m : work->d;
    const int64_t block = widest > BLOCK_ELEMENTS ? widest : BLOCK_ELEMENTS;
    const int64_t each = (int64_t)sizeof(double) * (1 + LODE_BITS_CODED_LEVELS);
    if (work->family_count == 0)
        return 0;
    const int64_t gathered =
        all * (each + (int64_t)sizeof(int32_t) + 2) + lode_bits_memory(all) + 2 * m;
    const int64_t curves = 2 * block * (int64_t)sizeof(lode_real_t) +
                           m * (each + (int64_t)(2 * sizeof(float) + sizeof(double) + 1));
    return gathered > curves ? gathered : curves;
}
