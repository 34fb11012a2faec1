#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "quantize/internal.h"

/* Place of a channel among those that are kept, −1 where it is not. */
static int64_t place_of(int32_t channel, const int32_t *channels, int64_t kept) {
    int64_t first = 0, end = kept;
    if (!channels)
        return channel;
    while (first < end) {
        const int64_t middle = first + (end - first) / 2;
        if (channels[middle] < channel)
            first = middle + 1;
        else
            end = middle;
    }
    return first < kept && channels[first] == channel ? first : -1;
}

static int compare_held(const void *left, const void *right) {
    const lode_held_t *a = left, *b = right;
    if (a->row != b->row)
        return a->row < b->row ? -1 : 1;
    return a->col < b->col ? -1 : a->col > b->col;
}

int64_t lode_quantize_held(lode_held_t *held, const lode_quantize_t *work, int64_t layer,
                           const lode_weight_t *down, const int32_t *channels) {
    lode_weight_t plain = *down;
    int64_t count = 0;
    plain.codec = NULL;
    for (int64_t i = 0; i < work->weight_count; i++) {
        const lode_quantize_weight_t *weight = &work->weights[i];
        const int64_t col =
            weight->layer == layer ? place_of(weight->channel, channels, down->in) : -1;
        lode_real_t value;
        if (col < 0)
            continue;
        lode_codec_read(&plain, weight->row, 1, col, 1, &value);
        held[count++] =
            (lode_held_t){.row = weight->row, .col = (int32_t)col, .value = (float)value};
    }
    qsort(held, (size_t)count, sizeof *held, compare_held);
    int64_t distinct = 0;
    for (int64_t i = 0; i < count; i++)
        if (i == 0 || compare_held(&held[i], &held[i - 1]) != 0)
            held[distinct++] = held[i];
    return distinct;
}

/* Marks the kept channels that are of the core. */
static void keep_core(lode_quantize_codecs_t *codecs, const lode_quantize_t *work, int64_t layer,
                      int64_t kept, const int32_t *channels) {
    for (int64_t i = 0; i < work->core_size; i++) {
        const int64_t place = place_of(work->core[layer * work->core_size + i], channels, kept);
        if (place >= 0) {
            codecs->keep[place] = 1;
            codecs->kept++;
        }
    }
}

/* Bits of the channels, and how many supernodes stay as stored. */
static lode_status_t read_bits(lode_quantize_codecs_t *codecs, lode_quantize_t *work,
                               const lode_variant_t *variant, int64_t layer, int64_t kept,
                               const int32_t *channels) {
    const int64_t offset[] = {layer, 0}, count[] = {1, work->m};
    char path[LODE_QUANTIZE_PATH];
    uint8_t *row;
    snprintf(path, sizeof path, "/variants/%s/channel_bits", variant->name);
    LODE_TRY(LODE_NEW(&row, work->m, "bits of channels"));
    lode_status_t status = lode_store_read(work->store, path, offset, count, LODE_TYPE_U8, row);
    for (int64_t j = 0; j < kept; j++)
        codecs->bits[j] = row[channels ? channels[j] : j];
    for (int64_t i = 0; i < work->core_size && lode_protects_supernode(variant->protection); i++)
        codecs->kept += row[work->core[layer * work->core_size + i]] == 16;
    free(row);
    return status;
}

static lode_status_t read_smooth(lode_quantize_codecs_t *codecs, lode_quantize_t *work,
                                 int64_t base, int64_t layer, lode_input_t input) {
    const int64_t offset = 0;
    char path[LODE_QUANTIZE_PATH];
    LODE_TRY(LODE_NEW(&codecs->smooth[input], work->d, "smoothing"));
    lode_quantize_smooth_path(path, work, base, layer, input);
    return lode_store_read(work->store, path, &offset, &work->d, LODE_TYPE_F32,
                           codecs->smooth[input]);
}

/* What protects the channels of the feed-forward block. */
static lode_status_t protect(lode_quantize_codecs_t *codecs, lode_quantize_t *work,
                             const lode_variant_t *variant, int64_t layer,
                             const lode_weight_t *down, const int32_t *channels) {
    lode_codec_t *codec = codecs->codec;
    if (lode_quantize_is_mixed(variant)) {
        LODE_TRY(LODE_NEW(&codecs->bits, down->in, "bits of channels"));
        LODE_TRY(read_bits(codecs, work, variant, layer, down->in, channels));
        codec[LODE_MATRIX_GATE].row_bits = codecs->bits;
        codec[LODE_MATRIX_UP].row_bits = codecs->bits;
        codec[LODE_MATRIX_DOWN].col_bits = codecs->bits;
    } else if (lode_protects_supernode(variant->protection)) {
        LODE_TRY(LODE_NEW(&codecs->keep, down->in, "protected channels"));
        keep_core(codecs, work, layer, down->in, channels);
        codec[LODE_MATRIX_GATE].keep_row = codecs->keep;
        codec[LODE_MATRIX_UP].keep_row = codecs->keep;
        codec[LODE_MATRIX_DOWN].keep_col = codecs->keep;
    }
    if (lode_protects_super_weight(variant->protection)) {
        LODE_TRY(LODE_NEW(&codecs->held, work->weight_count, "super weights"));
        codecs->held_count = lode_quantize_held(codecs->held, work, layer, down, channels);
        codec[LODE_MATRIX_DOWN].held = codecs->held;
        codec[LODE_MATRIX_DOWN].held_count = codecs->held_count;
    }
    return LODE_OK;
}

lode_status_t lode_quantize_codecs_create(lode_quantize_codecs_t *codecs, lode_quantize_t *work,
                                          const lode_variant_t *variant, const lode_stack_t *stack,
                                          int64_t layer, const int32_t *channels) {
    *codecs = (lode_quantize_codecs_t){0};
    const int64_t index = layer - stack->first_layer;
    const int64_t base = lode_quantize_base_of(work, variant);
    if (lode_quantize_is_smoothed(variant)) {
        LODE_TRY(read_smooth(codecs, work, base, layer, LODE_INPUT_FFN));
        if (lode_quantize_has(work, LODE_MATRIX_Q))
            LODE_TRY(read_smooth(codecs, work, base, layer, LODE_INPUT_ATTENTION));
    }
    for (int i = 0; i < LODE_MATRICES; i++) {
        const lode_layer_matrix_t which = (lode_layer_matrix_t)i;
        codecs->coded[i] = lode_quantize_has(work, which);
        if (codecs->coded[i])
            codecs->codec[i] =
                (lode_codec_t){.bits = variant->bits,
                               .granularity = variant->granularity,
                               .smooth = codecs->smooth[lode_matrix_input(which)],
                               .dtype = lode_layer_matrix(&stack->whole[index], which)->dtype};
    }
    return protect(codecs, work, variant, layer,
                   lode_layer_matrix(&stack->layer[index], LODE_MATRIX_DOWN), channels);
}

void lode_quantize_codecs_free(lode_quantize_codecs_t *codecs) {
    free(codecs->keep);
    free(codecs->bits);
    free(codecs->held);
    for (int i = 0; i < LODE_INPUTS; i++)
        free(codecs->smooth[i]);
    *codecs = (lode_quantize_codecs_t){0};
}
