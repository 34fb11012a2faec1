/* stages/plan: lode plan, what a run will take before an allocation is asked for. Local. */
#ifndef LODE_STAGES_PLAN_H
#define LODE_STAGES_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct lode_plan_request {
    const char *path; /* an experiment file, or a config.json or a folder that has one */
    const char *const *overrides; /* [override_count] arguments of --set */
    int64_t override_count;
    const char *model;       /* of the experiment, NULL for all */
    int ranks;               /* ≥ 1 */
    const char *machine;     /* a file of lode bench, NULL: measured now */
    const char *node_memory; /* "256G", bytes of a node, NULL: not given */
    int ranks_per_node;      /* 0: not given */
    bool json;
} lode_plan_request_t;

/* Prints the plan on standard output. Errors: LODE_ERR_USAGE, LODE_ERR_CONFIG, LODE_ERR_INPUT,
 * LODE_ERR_FORMAT, LODE_ERR_UNSUPPORTED, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_plan_print(const lode_plan_request_t *request);

#endif
