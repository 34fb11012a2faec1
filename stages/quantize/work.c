#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "quantize/internal.h"

/* --- variants -------------------------------------------------------------------------------- */

bool lode_quantize_is_searched(const lode_variant_t *variant) {
    return variant->quantized && variant->clip == LODE_CLIP_SEARCHED;
}

bool lode_quantize_is_smoothed(const lode_variant_t *variant) {
    return variant->quantized && lode_activations_quantized_smooth(variant->activations);
}

bool lode_quantize_is_mixed(const lode_variant_t *variant) {
    return variant->quantized && variant->quantizer == LODE_QUANTIZER_LP;
}

const char *lode_quantize_base_name(const lode_quantize_t *work, int64_t base) {
    const int64_t variant = work->bases[base].variant;
    return variant < 0 ? "dense" : work->variants[variant].name;
}

int64_t lode_quantize_base_of(const lode_quantize_t *work, const lode_variant_t *variant) {
    int64_t base = 0;
    while (work->bases[base].variant != variant->base)
        base++;
    return base;
}

int64_t lode_quantize_family_of(const lode_quantize_t *work, const lode_variant_t *variant) {
    const int64_t base = lode_quantize_base_of(work, variant);
    const bool holds = lode_protects_super_weight(variant->protection);
    int64_t family = 0;
    while (work->families[family].base != base || work->families[family].holds != holds)
        family++;
    return family;
}

static void add_base(lode_quantize_t *work, const lode_variant_t *variant) {
    int64_t base = 0;
    while (base < work->base_count && work->bases[base].variant != variant->base)
        base++;
    if (base == work->base_count)
        work->bases[work->base_count++].variant = variant->base;
    work->bases[base].smoothed |= lode_quantize_is_smoothed(variant);
    work->bases[base].searched |= lode_quantize_is_searched(variant);
}

static void add_family(lode_quantize_t *work, const lode_variant_t *variant) {
    const lode_quantize_family_t new = {.base = lode_quantize_base_of(work, variant),
                                        .holds = lode_protects_super_weight(variant->protection)};
    for (int64_t i = 0; i < work->family_count; i++)
        if (work->families[i].base == new.base && work->families[i].holds == new.holds)
            return;
    work->families[work->family_count++] = new;
}

lode_status_t lode_quantize_prepare(lode_quantize_t *work) {
    const lode_config_quantize_t *quantize = &work->run->config->quantize;
    LODE_TRY(lode_variants_list(&work->variants, &work->count, work->run->config));
    while (work->pruned_count < work->count && work->variants[work->pruned_count].pruned)
        work->pruned_count++;
    LODE_TRY(LODE_NEW(&work->bases, work->count, "variants"));
    LODE_TRY(LODE_NEW(&work->families, work->count, "variants"));
    for (int64_t v = 0; v < work->count; v++) {
        if (work->variants[v].quantized)
            add_base(work, &work->variants[v]);
        if (lode_quantize_is_mixed(&work->variants[v]))
            add_family(work, &work->variants[v]);
    }
    for (int64_t b = 0; b < work->base_count; b++)
        LODE_TRY(LODE_NEW(&work->bases[b].kept, work->layers, "variants"));
    LODE_TRY(LODE_NEW(&work->candidates, quantize->z_count + 1, "candidates"));
    for (int64_t i = 0; i < quantize->z_count; i++)
        work->candidates[i] = quantize->z[i];
    work->candidates[quantize->z_count] = INFINITY;
    work->candidate_count = quantize->z_count + 1;
    return LODE_OK;
}

void lode_quantize_release(lode_quantize_t *work) {
    for (int64_t b = 0; b < work->base_count; b++)
        free(work->bases[b].kept);
    free(work->bases);
    free(work->families);
    free(work->candidates);
    free(work->weights);
    free(work->core);
    free(work->loss_proxy);
    lode_batches_destroy(&work->batches);
    lode_sequences_free(&work->read);
    lode_variants_free(&work->variants, work->count);
}

/* --- matrices -------------------------------------------------------------------------------- */

bool lode_quantize_has(const lode_quantize_t *work, lode_layer_matrix_t which) {
    const bool is_ffn =
        which == LODE_MATRIX_GATE || which == LODE_MATRIX_UP || which == LODE_MATRIX_DOWN;
    if (which == LODE_MATRIX_GATE && !work->run->architecture.gated)
        return false;
    return is_ffn || work->run->config->quantize.tensors == LODE_QUANTIZED_ALL;
}

void lode_quantize_extents(const lode_quantize_t *work, int64_t kept, lode_layer_matrix_t which,
                           int64_t *out, int64_t *in) {
    const lode_architecture_t *a = &work->run->architecture;
    *out = work->d;
    *in = work->d;
    switch (which) {
    case LODE_MATRIX_Q:
        *out = a->heads * a->head_dim;
        break;
    case LODE_MATRIX_K:
    case LODE_MATRIX_V:
        *out = a->kv_heads * a->head_dim;
        break;
    case LODE_MATRIX_O:
        *in = a->heads * a->head_dim;
        break;
    case LODE_MATRIX_DOWN:
        *in = kept;
        break;
    default:
        *out = kept;
        break;
    }
}

int64_t lode_quantize_blocks(const lode_variant_t *variant, lode_layer_matrix_t which, int64_t out,
                             int64_t in) {
    const lode_codec_t codec = {.bits = variant->bits, .granularity = variant->granularity};
    if (lode_quantize_is_mixed(variant) && which == LODE_MATRIX_DOWN)
        return in;
    if (lode_quantize_is_mixed(variant) && (which == LODE_MATRIX_GATE || which == LODE_MATRIX_UP))
        return out;
    return lode_codec_blocks(&codec, out, in);
}

void lode_quantize_smooth_path(char path[LODE_QUANTIZE_PATH], const lode_quantize_t *work,
                               int64_t base, int64_t layer, lode_input_t input) {
    const bool dense = work->bases[base].variant < 0;
    snprintf(path, LODE_QUANTIZE_PATH, "/smooth/%s%s%lld/%s",
             dense ? "" : lode_quantize_base_name(work, base), dense ? "" : "/", (long long)layer,
             input == LODE_INPUT_ATTENTION ? "attention" : "ffn");
}

void lode_quantize_use(const lode_quantize_t *work, lode_stack_t *stack, int64_t pruned,
                       int64_t layer, const int32_t **channels) {
    const int64_t index = layer - stack->first_layer;
    *channels = NULL;
    if (pruned < 0) {
        lode_stack_edit(stack, index, NULL);
        return;
    }
    const lode_layer_edit_t edit = lode_edits_of(work->edits, pruned, layer);
    lode_stack_edit(stack, index, &edit);
    *channels = edit.channels;
}
