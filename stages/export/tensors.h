/* stages/export/tensors: the bytes of exported tensors, from the checkpoint into the folder. */
#ifndef LODE_STAGES_EXPORT_TENSORS_H
#define LODE_STAGES_EXPORT_TENSORS_H

#include "export/plan.h"

/* Writes the tensors of all sets that this rank owns the source of and that are not done, in blocks
 * of a few megabytes, and marks each. writers [LODE_EXPORT_SETS], NULL for a set without tensors.
 * Errors: LODE_STOPPED after a tensor, LODE_ERR_IO, LODE_ERR_NUMERIC, LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_export_tensors(lode_writer_t *const writers[LODE_EXPORT_SETS],
                                                const lode_export_plan_t *plan, lode_run_t *run,
                                                const lode_export_inputs_t *inputs);

#endif
