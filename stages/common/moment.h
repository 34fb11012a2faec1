/* stages/common/moment: second moments E[x xᵀ] of a layer's activations, as matrices spread over
 * all ranks. */
#ifndef LODE_STAGES_COMMON_MOMENT_H
#define LODE_STAGES_COMMON_MOMENT_H

#include "common/run.h"
#include "common/spool.h"
#include "linalg/matrix.h"

/* matrix = XᵀX / rows of the spool's array X [rows, n], the mean over its rows of x xᵀ, every
 * element summed in the order of the rows; lower and upper triangle.
 *   matrix [n, n] out
 * Errors: those of reading and LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_moment_of_spool(lode_matrix_t *matrix, lode_spool_t *spool,
                                                 const char *array, int64_t rows);

/* Private bytes of each of `ranks` ranks for `elements` float64 of distributed matrices, the
 * largest of which has `largest`: its share, and the panels in which rows come and go, or those of
 * a moment of `gram` columns that is summed (0: none is). Local. */
int64_t lode_moment_memory(int ranks, int64_t elements, int64_t largest, int64_t gram);

/* Refuses an experiment whose memory budget a rank's share of distributed matrices exceeds, before
 * they are allocated: `elements` float64 in all, spread over the ranks of `run`, for `what` ("least
 * squares"), and `gram` as above, beside `other` private bytes of this rank. Errors:
 * LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_moment_check_memory(const lode_run_t *run, const char *what,
                                                     int64_t elements, int64_t gram, int64_t other);

#endif
