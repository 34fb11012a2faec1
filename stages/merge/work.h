/* merge/work: what the stage's own files share. */
#ifndef LODE_STAGES_MERGE_WORK_H
#define LODE_STAGES_MERGE_WORK_H

#include "merge/part.h"

enum { LODE_MERGE_BLOCK = 1 << 20 }; /* elements that are copied at a time */

/* What is merged, and the whole that it becomes. */
typedef struct lode_merge {
    const lode_comm_t *comm;
    lode_merge_part_t *parts; /* [count] */
    int64_t count;
    lode_run_t run;            /* of the whole; its layout divides the layers among all ranks */
    int64_t sequences, tokens; /* of the whole */
    int64_t *first;            /* [count + 1] each part's first sequence in the whole */
    int64_t *offsets;          /* [sequences + 1] */
    lode_store_t *store;       /* being written */
    void *block;               /* [2 * LODE_MERGE_BLOCK] doubles */
} lode_merge_t;

/* --- fill.c ---------------------------------------------------------------------------------- */

/* Writes the datasets and attributes of file `file` of the whole, lode_merge_stages[file], from the
 * parts into merge->store. Errors: LODE_ERR_FORMAT and LODE_ERR_UNSUPPORTED, naming the part,
 * LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_merge_fill(lode_merge_t *merge, int file);

#endif
