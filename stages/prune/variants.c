#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "prune/prune.h"
#include "score/mask.h"

/* Adds a variant unless one of its name is there. */
static lode_status_t add(lode_variant_t *variants, int64_t *count, lode_variant_t variant) {
    lode_buffer_t name = {0};
    lode_status_t status = lode_variant_name(&name, variant.method, variant.sparsity, variant.core,
                                             variant.allocation, variant.compensation);
    if (status != LODE_OK) {
        lode_buffer_free(&name);
        return status;
    }
    for (int64_t i = 0; i < *count; i++) {
        if (strcmp(variants[i].name, name.data) == 0) {
            lode_buffer_free(&name);
            return LODE_OK;
        }
    }
    variant.name = name.data; /* handed over */
    variants[(*count)++] = variant;
    return LODE_OK;
}

/* Adds a variant with every compensation of the experiment. */
static lode_status_t add_compensations(lode_variant_t *variants, int64_t *count,
                                       lode_variant_t variant, const lode_config_prune_t *prune) {
    for (int64_t i = 0; i < prune->compensation_count; i++) {
        variant.compensation = prune->compensation[i];
        LODE_TRY(add(variants, count, variant));
    }
    return LODE_OK;
}

lode_status_t lode_variants_list(lode_variant_t **variants, int64_t *count,
                                 const lode_config_t *config) {
    const lode_config_prune_t *prune = &config->prune;
    *count = 0;
    LODE_TRY(LODE_NEW(variants,
                      prune->method_count * prune->sparsity_count * prune->core_count *
                          prune->allocation_count * prune->compensation_count,
                      "variants"));
    lode_status_t status = LODE_OK;
    for (int64_t m = 0; m < prune->method_count; m++)
        for (int64_t s = 0; s < prune->sparsity_count; s++)
            for (int64_t c = 0; c < prune->core_count; c++)
                for (int64_t a = 0; a < prune->allocation_count && status == LODE_OK; a++) {
                    lode_variant_t variant = {.method = prune->methods[m],
                                              .sparsity = prune->sparsity[s],
                                              .core = prune->cores[c],
                                              .allocation = prune->allocation[a]};
                    if (variant.core == lode_mask_core(variant.method, LODE_CORE_DEFAULT))
                        variant.core = LODE_CORE_DEFAULT;
                    status = add_compensations(*variants, count, variant, prune);
                }
    if (status != LODE_OK)
        lode_variants_free(variants, *count);
    return status;
}

void lode_variants_free(lode_variant_t **variants, int64_t count) {
    for (int64_t i = 0; *variants && i < count; i++)
        free((*variants)[i].name);
    free(*variants);
    *variants = NULL;
}
