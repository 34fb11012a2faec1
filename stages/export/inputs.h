/* stages/export/inputs: what the folders of a run are made from. */
#ifndef LODE_STAGES_EXPORT_INPUTS_H
#define LODE_STAGES_EXPORT_INPUTS_H

#include "common/edits.h"
#include "common/variants.h"

typedef struct lode_export_inputs {
    lode_variant_t *all; /* [all_count] the experiment's */
    int64_t all_count;
    lode_variant_t *variants; /* [count] those that are exported, and pruned ones that they are
                               * based on; names are those of `all` */
    int64_t count;
    int64_t *entry;      /* [export_count] the variant of each export, −1: the model as it is */
    lode_edits_t *edits; /* of `variants`; NULL where there are none */
    lode_store_t *prune; /* these three: NULL where no variant needs them */
    lode_store_t *compensate, *quantize;
} lode_export_inputs_t;

/* Finds the variants of all exports, which must be there, and opens what they need. *inputs is for
 * lode_export_inputs_close, also on failure. Errors: those of lode_edits_open. Collective. */
LODE_MUST_USE lode_status_t lode_export_inputs_open(lode_export_inputs_t *inputs,
                                                    const lode_run_t *run);
void lode_export_inputs_close(lode_export_inputs_t *inputs); /* Collective. */

/* The variant whose channels a variant keeps: itself, what it is based on, or NULL where it keeps
 * all; `variant` may be −1. Local. */
const lode_variant_t *lode_export_pruned(const lode_export_inputs_t *inputs, int64_t variant);

#endif
