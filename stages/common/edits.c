#include "common/edits.h"

#include <stdlib.h>

#include "common/edits_internal.h"

lode_status_t lode_edits_take(lode_edits_t *edits, void *out, int64_t count, size_t size) {
    LODE_TRY(lode_alloc(out, count, size, "edits"));
    edits->bytes += count * (int64_t)size;
    return LODE_OK;
}

/* --- what variants need ---------------------------------------------------------------------- */

typedef struct needs {
    bool pruned, compensated, weights, core, quantized;
    bool codecs; /* any of the last three, or an experiment */
} needs_t;

static needs_t needs_of(const lode_variant_t *variants, int64_t count) {
    needs_t needs = {0};
    for (int64_t v = 0; v < count; v++) {
        const lode_variant_t *variant = &variants[v];
        needs.pruned |= variant->pruned;
        needs.compensated |= variant->pruned && variant->compensation != LODE_COMPENSATION_NONE;
        needs.weights |=
            variant->experiment ||
            (variant->quantized && (lode_protects_super_weight(variant->protection) ||
                                    lode_activations_quantized_held(variant->activations)));
        needs.core |= variant->quantized && lode_protects_supernode(variant->protection);
        needs.quantized |= variant->quantized;
        needs.codecs |= variant->quantized || variant->experiment;
    }
    return needs;
}

static lode_status_t open_files(lode_edits_t *edits, const needs_t *needs) {
    const lode_run_t *run = edits->run;
    if (needs->pruned)
        LODE_TRY(lode_run_open(&edits->prune, run, LODE_STAGE_PRUNE));
    if (needs->compensated)
        LODE_TRY(lode_run_open(&edits->compensate, run, LODE_STAGE_COMPENSATE));
    if (needs->weights)
        LODE_TRY(lode_run_open(&edits->superweight, run, LODE_STAGE_SUPERWEIGHT));
    if (needs->core)
        LODE_TRY(lode_run_open(&edits->classify, run, LODE_STAGE_CLASSIFY));
    if (needs->quantized)
        LODE_TRY(lode_run_open(&edits->quantize, run, LODE_STAGE_QUANTIZE));
    return LODE_OK;
}

/* Notes what the checkpoint's matrices are. */
static lode_status_t read_matrices(lode_edits_t *edits) {
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->matrix, edits->layers));
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->layer, edits->layers));
    for (int64_t l = 0; l < edits->layers; l++) {
        lode_layer_weights_t weights;
        LODE_TRY(lode_checkpoint_layer(edits->run->checkpoint, edits->first_layer + l, &weights));
        for (int which = 0; which < LODE_MATRICES; which++) {
            const lode_tensor_t *tensor =
                lode_layer_weights_role(&weights, lode_matrix_role((lode_layer_matrix_t)which));
            if (tensor->data)
                edits->matrix[l][which] = (lode_edits_matrix_t){
                    .out = tensor->shape[0], .in = tensor->shape[1], .dtype = tensor->dtype};
        }
    }
    return LODE_OK;
}

static lode_status_t read_files(lode_edits_t *edits, const needs_t *needs) {
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->mask, edits->count));
    for (int64_t v = 0; v < edits->count; v++)
        edits->mask[v] = edits->variants[v].pruned ? edits->masks++ : -1;
    if (needs->pruned)
        LODE_TRY(lode_edits_read_pruned(edits));
    if (needs->codecs)
        LODE_TRY(read_matrices(edits));
    if (needs->weights)
        LODE_TRY(lode_edits_read_weights(edits));
    return needs->quantized ? lode_edits_read_quantized(edits) : LODE_OK;
}

/* --- the interface --------------------------------------------------------------------------- */

lode_status_t lode_edits_open(lode_edits_t **out, const lode_run_t *run,
                              const lode_variant_t *variants, int64_t count) {
    lode_status_t status = lode_comm_agree(run->comm, LODE_NEW(out, 1, "edits"));
    if (status != LODE_OK) {
        free(*out);
        *out = NULL;
        return status;
    }
    lode_edits_t *edits = *out;
    *edits = (lode_edits_t){.run = run,
                            .variants = variants,
                            .count = count,
                            .first_layer = run->layout.first_layer,
                            .layers = run->layout.layer_end - run->layout.first_layer,
                            .m = run->architecture.intermediate,
                            .d = run->architecture.hidden};
    const needs_t needs = needs_of(variants, count);
    status = open_files(edits, &needs);
    if (status == LODE_OK)
        status = lode_comm_agree(run->comm, read_files(edits, &needs));
    if (status != LODE_OK)
        lode_edits_close(out);
    return status;
}

void lode_edits_close(lode_edits_t **edits) {
    if (!*edits)
        return;
    lode_edits_t *e = *edits;
    lode_store_close(&e->quantize);
    lode_store_close(&e->classify);
    lode_store_close(&e->superweight);
    lode_store_close(&e->compensate);
    lode_store_close(&e->prune);
    void *const arrays[] = {
        e->mask,         e->keep,        e->kept,           e->down,        e->stored,
        e->channels,     e->bias,        e->super,          e->first,       e->alive,
        e->held,         e->restore,     e->held_down,      e->held_hidden, e->tensor.held,
        e->tensor.start, e->global.held, e->global.start,   e->matrix,      e->layer,
        e->packed,       e->parameters,  (void *)e->smooth, e->core,        e->protected};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
    free(e);
    *edits = NULL;
}

lode_layer_edit_t lode_edits_of(lode_edits_t *edits, int64_t variant, int64_t layer) {
    const lode_variant_t *v = &edits->variants[variant];
    const int64_t l = layer - edits->first_layer;
    lode_layer_edit_t edit = {0};
    if (v->pruned)
        lode_edits_of_pruned(edits, variant, l, &edit);
    else if (v->base >= 0)
        lode_edits_of_pruned(edits, v->base, l, &edit);
    if (v->experiment)
        lode_edits_of_experiment(edits, v, l, &edit);
    if (v->quantized)
        lode_edits_of_quantized(edits, variant, l, &edit);
    return edit;
}

int64_t lode_edits_memory(const lode_edits_t *edits) {
    return edits->bytes;
}

int64_t lode_edits_plan(const lode_variant_t *variants, int64_t count, int64_t layers, int64_t m,
                        int64_t d) {
    /* As many outliers as superweight.others_count is by default, in three forms while they are
     * read. */
    enum { SUPER_WEIGHTS = 32, OUTLIERS = 7000, OUTLIER_BYTES = 48 };
    const needs_t needs = needs_of(variants, count);
    int64_t bytes = count * 2 * (int64_t)sizeof(int64_t) + layers * m * (int64_t)sizeof(int32_t);
    bool biased = false;
    for (int64_t v = 0; v < count; v++) {
        const lode_variant_t *variant = &variants[v];
        if (variant->pruned)
            bytes += layers * ((m + 7) / 8 + (int64_t)(sizeof(int32_t) + sizeof(lode_tensor_t))) +
                     (int64_t)sizeof(void *);
        if (variant->quantized)
            bytes += layers * LODE_MATRICES * (int64_t)sizeof(lode_edits_parameters_t);
        if (variant->experiment && variant->what >= LODE_EXPERIMENT_OTHERS_TENSOR)
            bytes += OUTLIERS * OUTLIER_BYTES;
        biased |= variant->pruned && variant->compensation == LODE_COMPENSATION_BIAS;
    }
    bytes += needs.pruned ? m : 0;
    bytes += biased ? layers * d * (int64_t)sizeof(lode_real_t) : 0;
    bytes += needs.core ? 2 * layers * m : 0;
    bytes +=
        needs.weights ? (layers + SUPER_WEIGHTS) * SUPER_WEIGHTS * (int64_t)sizeof(int32_t) : 0;
    bytes += needs.codecs ? layers * (int64_t)(sizeof(lode_edits_layer_t) +
                                               LODE_MATRICES * sizeof(lode_edits_matrix_t) +
                                               LODE_INPUTS * sizeof(float *))
                          : 0;
    return bytes;
}
