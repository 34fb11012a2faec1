/* stages/plan/show: a forecast for people and for programs. Everything here is Local. */
#ifndef LODE_STAGES_PLAN_SHOW_H
#define LODE_STAGES_PLAN_SHOW_H

#include <jansson.h>

#include "plan/forecast.h"

/* What a plan says beyond the forecast of its first point. */
typedef struct lode_plan_advice {
    int fewest;       /* ranks on which it fits the experiment's memory, 0: none that was tried */
    int fewest_nodes; /* and the nodes', where node_memory is not 0 */
    int most;         /* ranks that were tried */
    int64_t node_memory; /* bytes, 0: not given */
    int ranks_per_node;  /* ≥ 1 where that is not 0 */
    lode_forecast_node_t node;
    lode_buffer_t notes; /* lines of text, each ended by '\n' */
} lode_plan_advice_t;

/* Works the advice out. *advice is for lode_plan_advice_free, also on failure. */
LODE_MUST_USE lode_status_t lode_plan_advise(lode_plan_advice_t *advice,
                                             const lode_forecast_t *forecast, int64_t node_memory,
                                             int ranks_per_node);
void lode_plan_advice_free(lode_plan_advice_t *advice);

/* Points of a sweep, as far as they add to the first. */
typedef struct lode_plan_sweep {
    int64_t points;
    int64_t runs[LODE_STAGE_COUNT]; /* of each stage; points that agree on it share its file */
    double seconds;                 /* of all of them */
    int64_t disk;
} lode_plan_sweep_t;

/* Appends the plan as a table. */
LODE_MUST_USE lode_status_t lode_plan_table(lode_buffer_t *text, const lode_forecast_t *forecast,
                                            const lode_plan_advice_t *advice,
                                            const lode_plan_sweep_t *sweep);

/* The same as an object, the caller's; sizes in bytes, times in seconds. NULL: out of memory. */
json_t *lode_plan_json(const lode_forecast_t *forecast, const lode_plan_advice_t *advice,
                       const lode_plan_sweep_t *sweep);

/* "1.21 GB", "350 MB", "12 kB"; "–" for 0. */
enum { LODE_PLAN_TEXT = 32 };
const char *lode_plan_bytes(char text[LODE_PLAN_TEXT], int64_t bytes);
/* A limit as an experiment has it: "8G", "600M", else as above. */
const char *lode_plan_limit(char text[LODE_PLAN_TEXT], int64_t bytes);
/* "2 h 05 min", "3 min 20 s", "12 s". */
const char *lode_plan_seconds(char text[LODE_PLAN_TEXT], double seconds);

/* What a row of the stage is called: CALIBRATE's has the pass of several. */
const char *lode_plan_stage_name(const lode_forecast_t *forecast, lode_stage_t stage);

#endif
