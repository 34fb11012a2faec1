#include "export/inputs.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* The place of a variant of the experiment in the list of those needed, appended if need be. */
static int64_t need(lode_export_inputs_t *inputs, int64_t which) {
    lode_variant_t variant = inputs->all[which];
    if (variant.base >= 0)
        variant.base = need(inputs, variant.base);
    for (int64_t i = 0; i < inputs->count; i++)
        if (inputs->variants[i].name == variant.name)
            return i;
    inputs->variants[inputs->count] = variant;
    return inputs->count++;
}

static lode_status_t find_variants(lode_export_inputs_t *inputs, const lode_config_t *config) {
    LODE_TRY(lode_variants_list(&inputs->all, &inputs->all_count, config));
    LODE_TRY(LODE_NEW(&inputs->variants, inputs->all_count, "variants to export"));
    LODE_TRY(LODE_NEW(&inputs->entry, config->export_count, "variants to export"));
    for (int64_t e = 0; e < config->export_count; e++) {
        inputs->entry[e] = -1;
        for (int64_t i = 0; i < inputs->all_count; i++)
            if (strcmp(inputs->all[i].name, config->exports[e].variant) == 0)
                inputs->entry[e] = need(inputs, i);
    }
    return LODE_OK;
}

static lode_status_t open_stores(lode_export_inputs_t *inputs, const lode_run_t *run) {
    bool pruned = false, compensated = false, quantized = false;
    for (int64_t i = 0; i < inputs->count; i++) {
        const lode_variant_t *variant = &inputs->variants[i];
        pruned |= variant->pruned;
        compensated |= variant->pruned && variant->compensation != LODE_COMPENSATION_NONE;
        quantized |= variant->quantized;
    }
    if (pruned)
        LODE_TRY(lode_run_open(&inputs->prune, run, LODE_STAGE_PRUNE));
    if (compensated)
        LODE_TRY(lode_run_open(&inputs->compensate, run, LODE_STAGE_COMPENSATE));
    if (quantized)
        LODE_TRY(lode_run_open(&inputs->quantize, run, LODE_STAGE_QUANTIZE));
    return LODE_OK;
}

lode_status_t lode_export_inputs_open(lode_export_inputs_t *inputs, const lode_run_t *run) {
    *inputs = (lode_export_inputs_t){0};
    LODE_TRY(lode_comm_agree(run->comm, find_variants(inputs, run->config)));
    LODE_TRY(open_stores(inputs, run));
    if (inputs->count == 0)
        return LODE_OK;
    return lode_edits_open(&inputs->edits, run, inputs->variants, inputs->count);
}

void lode_export_inputs_close(lode_export_inputs_t *inputs) {
    lode_edits_close(&inputs->edits);
    lode_store_close(&inputs->quantize);
    lode_store_close(&inputs->compensate);
    lode_store_close(&inputs->prune);
    lode_variants_free(&inputs->all, inputs->all_count);
    free(inputs->variants);
    free(inputs->entry);
    *inputs = (lode_export_inputs_t){0};
}

const lode_variant_t *lode_export_pruned(const lode_export_inputs_t *inputs, int64_t variant) {
    if (variant >= 0 && inputs->variants[variant].quantized)
        variant = inputs->variants[variant].base;
    return variant >= 0 && inputs->variants[variant].pruned ? &inputs->variants[variant] : NULL;
}
