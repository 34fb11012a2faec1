/* stages/export/write: one folder, from its plan. */
#ifndef LODE_STAGES_EXPORT_WRITE_H
#define LODE_STAGES_EXPORT_WRITE_H

#include "export/plan.h"

/* Writes the folder, going on with what an interrupted run left of it. Where it is interrupted or
 * fails, the folder stays for the next run to go on with, unless that would fail alike. Errors:
 * LODE_ERR_IO, LODE_ERR_NUMERIC, LODE_ERR_MEMORY, LODE_STOPPED. Collective. */
LODE_MUST_USE lode_status_t lode_export_write(const lode_export_plan_t *plan, lode_run_t *run,
                                              const lode_export_inputs_t *inputs);

#endif
