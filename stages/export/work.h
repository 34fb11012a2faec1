/* stages/export/work: what the files that write tensors share. Everything here is Local. */
#ifndef LODE_STAGES_EXPORT_WORK_H
#define LODE_STAGES_EXPORT_WORK_H

#include "export/plan.h"
#include "export/sink.h"

/* A folder while its tensors are written. */
typedef struct lode_export_work {
    const lode_export_plan_t *plan;
    lode_run_t *run;
    const lode_export_inputs_t *inputs;
    lode_export_sink_t sink;
    float *values; /* [room] converted weights */
    int64_t room;  /* as many as are converted at once, a row or a column at least */
    float *line;   /* one column */
} lode_export_work_t;

/* The matrices of a layer as the variant computes with them; they stay until the layer is released
 * and until the edits are asked about it again. Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_export_layer(lode_layer_t *layer, lode_export_work_t *work,
                                              int64_t index);

/* The bytes of a tensor of a layer's matrices, and of a parameter beside, into the sink. Errors:
 * LODE_ERR_IO, LODE_ERR_NUMERIC. */
LODE_MUST_USE lode_status_t lode_export_put_matrix(lode_export_work_t *work,
                                                   const lode_export_tensor_t *tensor);
LODE_MUST_USE lode_status_t lode_export_put_parameter(lode_export_work_t *work,
                                                      const lode_export_beside_t *beside);

#endif
