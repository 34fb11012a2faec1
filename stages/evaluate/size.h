/* stages/evaluate/size: what the stage takes, for plans. Everything here is Local. */
#ifndef LODE_STAGES_EVALUATE_SIZE_H
#define LODE_STAGES_EVALUATE_SIZE_H

#include "common/run.h"
#include "common/size.h"

/* How large the data sets are, in the order of the experiment's. */
typedef struct lode_evaluate_extents {
    const int64_t *targets;       /* [perplexity_count] scored tokens */
    const int64_t *items, *width; /* [task_count] */
    int64_t *storage;             /* of the arrays, where they are the planner's */
} lode_evaluate_extents_t;

/* What the stage takes; `memory` is of a rank that owns `layers` layers: what the pruned variants
 * keep. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_evaluate_size(lode_stage_size_t *size, const lode_run_t *run,
                                               const lode_evaluate_extents_t *extents,
                                               int64_t layers);

/* Adds the results of the unpruned model alone to a store that only counts. Errors:
 * LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_evaluate_tally(lode_store_t *store, const lode_run_t *run,
                                                const lode_evaluate_extents_t *extents);

#endif
