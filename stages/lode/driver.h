/* stages/lode/driver: carries an experiment out: every point of its sweep, every model, every stage
 * that is not complete. */
#ifndef LODE_STAGES_LODE_DRIVER_H
#define LODE_STAGES_LODE_DRIVER_H

#include "comm/context.h"
#include "config/config.h"

/* What the command line asks for beside the experiment. */
typedef struct lode_request {
    unsigned stages;   /* bit s: run stage s (lode_stage_t) if need be */
    bool report;       /* build summary.csv and report.html at the end */
    const char *model; /* only this one, or NULL for all */
    bool force;        /* run the stages though they are complete */
} lode_request_t;

/* Runs an experiment. On any rank's failure all ranks return the same error; stages that were
 * complete by then stay. Collective. */
LODE_MUST_USE lode_status_t lode_driver_run(const lode_comm_t *comm, const lode_config_t *config,
                                            const lode_request_t *request);

/* Builds summary.csv and report.html from what there is. Collective; rank 0 works. */
LODE_MUST_USE lode_status_t lode_driver_report(const lode_comm_t *comm,
                                               const lode_config_t *config);

#endif
