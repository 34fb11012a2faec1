/* Quantized variants: parameters of quantize.h5, and what classify.h5 and superweight.h5 protect.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/edits_internal.h"

enum { INPUT_BITS = 8 };

/* --- reading --------------------------------------------------------------------------------- */

/* Whether own layer l's matrix is quantized. */
static bool is_quantized(const lode_edits_t *edits, int64_t l, lode_layer_matrix_t which) {
    const bool chosen =
        edits->run->config->quantize.tensors == LODE_QUANTIZED_ALL || which >= LODE_MATRIX_GATE;
    return chosen && edits->matrix[l][which].out > 0;
}

static lode_status_t fail_extent(const lode_edits_t *edits, const char *path, int64_t found,
                                 int64_t wanted) {
    return lode_fail(LODE_ERR_SHAPE,
                     "%s of quantize.h5 in %s has %lld elements, and the variant's matrix asks for "
                     "%lld; run the stage quantize again (--force)",
                     path, edits->run->folder, (long long)found, (long long)wanted);
}

static lode_status_t map_array(lode_edits_t *edits, const char *group, const char *name,
                               lode_type_t type, int64_t wanted, const void **data) {
    char path[LODE_EDITS_PATH + 16];
    int64_t elements;
    snprintf(path, sizeof path, "%s/%s", group, name);
    LODE_TRY(lode_store_map(edits->quantize, path, type, data, &elements));
    return elements == wanted ? LODE_OK : fail_extent(edits, path, elements, wanted);
}

/* Maps bits of rows or columns, where the group has such. */
static lode_status_t map_bits(lode_edits_t *edits, const char *group, const char *name,
                              int64_t wanted, const uint8_t **bits) {
    char path[LODE_EDITS_PATH + 16];
    const void *data = NULL;
    snprintf(path, sizeof path, "%s/%s", group, name);
    if (!lode_store_has(edits->quantize, path))
        return LODE_OK;
    LODE_TRY(map_array(edits, group, name, LODE_TYPE_U8, wanted, &data));
    *bits = data;
    return LODE_OK;
}

/* Extents of a matrix as the variant's base uses it. */
static void used_extents(const lode_edits_t *edits, int64_t base, int64_t l,
                         lode_layer_matrix_t which, int64_t *out, int64_t *in) {
    *out = edits->matrix[l][which].out;
    *in = edits->matrix[l][which].in;
    if (which == LODE_MATRIX_GATE || which == LODE_MATRIX_UP)
        *out = lode_edits_kept(edits, base, l);
    else if (which == LODE_MATRIX_DOWN)
        *in = lode_edits_kept(edits, base, l);
}

static lode_codec_t codec_of(const lode_variant_t *variant, const lode_edits_parameters_t *p,
                             lode_dtype_t dtype) {
    return (lode_codec_t){.bits = variant->bits,
                          .granularity = variant->granularity,
                          .scale = p->scale,
                          .minimum = p->minimum,
                          .row_bits = p->row_bits,
                          .col_bits = p->col_bits,
                          .dtype = dtype};
}

static lode_status_t map_matrix(lode_edits_t *edits, int64_t v, int64_t l,
                                lode_layer_matrix_t which) {
    const lode_variant_t *variant = &edits->variants[v];
    lode_edits_parameters_t *p = &edits->parameters[edits->packed[v] * edits->layers + l][which];
    char group[LODE_EDITS_PATH];
    int64_t out, in;
    const void *data = NULL;
    snprintf(group, sizeof group, "/variants/%s/%lld/%s", variant->name,
             (long long)(edits->first_layer + l), lode_matrix_name(which));
    used_extents(edits, variant->base, l, which, &out, &in);
    LODE_TRY(map_bits(edits, group, "row_bits", out, &p->row_bits));
    LODE_TRY(map_bits(edits, group, "col_bits", in, &p->col_bits));
    if (p->row_bits && p->col_bits)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s of quantize.h5 in %s has bits both of rows and of columns; run the "
                         "stage quantize again (--force)",
                         group, edits->run->folder);
    const lode_codec_t codec = codec_of(variant, p, LODE_DTYPE_F32);
    const int64_t blocks = lode_codec_blocks(&codec, out, in);
    LODE_TRY(map_array(edits, group, "scale", LODE_TYPE_F32, blocks, &data));
    p->scale = data;
    LODE_TRY(map_array(edits, group, "minimum", LODE_TYPE_F32, blocks, &data));
    p->minimum = data;
    return LODE_OK;
}

/* Where the smoothing of own layer l's inputs stands for what starts from `base`. */
static lode_edits_smooth_t *smooth_of(const lode_edits_t *edits, int64_t base, int64_t l) {
    return &edits->smooth[(base < 0 ? 0 : 1 + edits->mask[base]) * edits->layers + l];
}

static lode_status_t map_smooth(lode_edits_t *edits, int64_t base) {
    if (!edits->smooth)
        LODE_TRY(LODE_EDITS_NEW(edits, &edits->smooth, (1 + edits->masks) * edits->layers));
    for (int64_t l = 0; l < edits->layers; l++) {
        const lode_input_t inputs[] = {LODE_INPUT_FFN, LODE_INPUT_ATTENTION};
        const int count = edits->run->config->quantize.tensors == LODE_QUANTIZED_ALL ? 2 : 1;
        for (int i = 0; i < count; i++) {
            char group[LODE_EDITS_PATH];
            const void *data = NULL;
            snprintf(group, sizeof group, "/smooth/%s%s%lld",
                     base < 0 ? "" : edits->variants[base].name, base < 0 ? "" : "/",
                     (long long)(edits->first_layer + l));
            LODE_TRY(map_array(edits, group, lode_input_name(inputs[i]), LODE_TYPE_F32, edits->d,
                               &data));
            (*smooth_of(edits, base, l))[inputs[i]] = data;
        }
    }
    return LODE_OK;
}

static bool keeps_core(const lode_variant_t *variant) {
    return variant->quantizer == LODE_QUANTIZER_RTN && lode_protects_supernode(variant->protection);
}

/* Marks the core channels of own layers. */
static lode_status_t read_core(lode_edits_t *edits) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    int32_t *core = NULL;
    if (edits->layers == 0) /* this rank idles */
        return LODE_OK;
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->core, edits->layers * edits->m));
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->protected, edits->layers * edits->m));
    LODE_TRY(lode_store_shape(edits->classify, "/core", &axes, shape));
    if (axes != 2 || shape[0] != edits->run->architecture.layers)
        return lode_fail(LODE_ERR_SHAPE,
                         "/core of classify.h5 in %s is not of this model; run the stage classify "
                         "again (--force)",
                         edits->run->folder);
    const int64_t offset[] = {edits->first_layer, 0}, count[] = {edits->layers, shape[1]};
    LODE_TRY(LODE_NEW(&core, edits->layers * shape[1], "cores"));
    lode_status_t status =
        lode_store_read(edits->classify, "/core", offset, count, LODE_TYPE_I32, core);
    for (int64_t i = 0; i < edits->layers * shape[1] && status == LODE_OK; i++)
        if (core[i] >= 0 && core[i] < edits->m) /* −1 fills rows up */
            edits->core[i / shape[1] * edits->m + core[i]] = 1;
    free(core);
    return status;
}

lode_status_t lode_edits_read_quantized(lode_edits_t *edits) {
    int64_t packed = 0;
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->packed, edits->count));
    for (int64_t v = 0; v < edits->count; v++)
        edits->packed[v] = edits->variants[v].quantized ? packed++ : -1;
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->parameters, packed * edits->layers));
    for (int64_t v = 0; v < edits->count; v++) {
        const lode_variant_t *variant = &edits->variants[v];
        if (!variant->quantized)
            continue;
        for (int64_t l = 0; l < edits->layers; l++)
            for (int which = 0; which < LODE_MATRICES; which++)
                if (is_quantized(edits, l, (lode_layer_matrix_t)which))
                    LODE_TRY(map_matrix(edits, v, l, (lode_layer_matrix_t)which));
        if (lode_activations_quantized_smooth(variant->activations))
            LODE_TRY(map_smooth(edits, variant->base));
        if (keeps_core(variant) && !edits->core)
            LODE_TRY(read_core(edits));
    }
    return LODE_OK;
}

/* --- protections ----------------------------------------------------------------------------- */

/* Place of a channel among those kept, −1 where it is not among them. */
static int64_t place_of(const lode_layer_edit_t *edit, int32_t channel) {
    int64_t low = 0, high = edit->count;
    if (!edit->channels)
        return channel;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (edit->channels[middle] < channel)
            low = middle + 1;
        else
            high = middle;
    }
    return low < edit->count && edit->channels[low] == channel ? low : -1;
}

/* Marks the kept channels that are of the core. */
static const uint8_t *protect_core(lode_edits_t *edits, int64_t l, const lode_layer_edit_t *edit) {
    const uint8_t *core = edits->core + l * edits->m;
    uint8_t *marks = edits->protected + l * edits->m;
    if (!edit->channels)
        return core;
    for (int64_t k = 0; k < edit->count; k++)
        marks[k] = core[edit->channels[k]];
    return marks;
}

/* Holds the layer's super weights at what the matrix has there. */
static void protect_supers(lode_edits_t *edits, int64_t l, const lode_layer_edit_t *edit,
                           lode_codec_t *down) {
    lode_held_t *held = edits->held + edits->first[l];
    int64_t count = 0;
    for (int64_t i = edits->first[l]; i < edits->first[l + 1]; i++) {
        const lode_edits_super_t *s = &edits->super[i];
        const int64_t place = place_of(edit, s->channel);
        const float *compensated = edit->down.data;
        if (place < 0)
            continue;
        held[count++] = (lode_held_t){
            .row = s->row,
            .col = (int32_t)place,
            .value = compensated ? compensated[s->row * edit->count + place] : s->value};
    }
    down->held = held;
    down->held_count = count;
}

/* --- inputs ---------------------------------------------------------------------------------- */

/* Adds a channel to an ascending list without doubles. */
static void insert(int32_t *list, int64_t *count, int32_t channel) {
    int64_t place = *count;
    while (place > 0 && list[place - 1] > channel)
        place--;
    if (place > 0 && list[place - 1] == channel)
        return;
    for (int64_t i = *count; i > place; i--)
        list[i] = list[i - 1];
    list[place] = channel;
    ++*count;
}

static bool is_alive(const lode_edits_t *edits, int64_t base, int64_t index) {
    return base < 0 || edits->alive[edits->mask[base] * edits->supers + index];
}

/* Channels of u that super activations of own layer l begin in. */
static void hold_down(lode_edits_t *edits, int64_t l, const lode_layer_edit_t *edit,
                      lode_input_codec_t *input) {
    int32_t *list = edits->held_down + edits->first[l];
    for (int64_t i = edits->first[l]; i < edits->first[l + 1]; i++) {
        const int64_t place = place_of(edit, edits->super[i].channel);
        if (place >= 0)
            insert(list, &input->held_count, (int32_t)place);
    }
    input->held = list;
}

/* Channels of hidden states that super activations of the layers before stand in. */
static void hold_hidden(lode_edits_t *edits, int64_t base, int64_t l, lode_input_codec_t *input) {
    int32_t *list = edits->held_hidden + l * edits->supers;
    for (int64_t i = 0; i < edits->first[l]; i++)
        if (is_alive(edits, base, i))
            insert(list, &input->held_count, edits->super[i].row);
    input->held = list;
}

static void edit_inputs(lode_edits_t *edits, const lode_variant_t *variant, int64_t l,
                        lode_layer_edit_t *edit) {
    const bool held = lode_activations_quantized_held(variant->activations);
    for (int which = 0; which < LODE_INPUTS; which++) {
        const bool attention = which == LODE_INPUT_ATTENTION || which == LODE_INPUT_OUTPUT;
        lode_input_codec_t *input = &edits->layer[l].input[which];
        if (attention && edits->run->config->quantize.tensors != LODE_QUANTIZED_ALL)
            continue;
        *input = (lode_input_codec_t){
            .bits = INPUT_BITS, .tensor = lode_activations_quantized_tensor(variant->activations)};
        if (held && which == LODE_INPUT_DOWN)
            hold_down(edits, l, edit, input);
        else if (held && which != LODE_INPUT_OUTPUT)
            hold_hidden(edits, variant->base, l, input);
        if (lode_activations_quantized_smooth(variant->activations))
            input->smooth = (*smooth_of(edits, variant->base, l))[which];
        edit->input[which] = input;
    }
}

/* --- all of it ------------------------------------------------------------------------------- */

void lode_edits_of_quantized(lode_edits_t *edits, int64_t v, int64_t l, lode_layer_edit_t *edit) {
    const lode_variant_t *variant = &edits->variants[v];
    const bool smooth = lode_activations_quantized_smooth(variant->activations);
    /* Mixed precision has 16 bits for what it protects. */
    const uint8_t *core = keeps_core(variant) ? protect_core(edits, l, edit) : NULL;
    for (int i = 0; i < LODE_MATRICES; i++) {
        const lode_layer_matrix_t which = (lode_layer_matrix_t)i;
        lode_codec_t *codec = &edits->layer[l].codec[which];
        if (!is_quantized(edits, l, which))
            continue;
        *codec = codec_of(variant, &edits->parameters[edits->packed[v] * edits->layers + l][which],
                          edits->matrix[l][which].dtype);
        if (which == LODE_MATRIX_GATE || which == LODE_MATRIX_UP)
            codec->keep_row = core;
        if (which == LODE_MATRIX_DOWN)
            codec->keep_col = core;
        if (which == LODE_MATRIX_DOWN && lode_protects_super_weight(variant->protection))
            protect_supers(edits, l, edit, codec);
        if (smooth)
            codec->smooth = (*smooth_of(edits, variant->base, l))[lode_matrix_input(which)];
        edit->codec[which] = codec;
    }
    if (variant->activations != LODE_INPUTS_NONE)
        edit_inputs(edits, variant, l, edit);
}
