/* stages/common/spool: activations of all calibration tokens, on disk while a stage needs them.
 *
 * A spool is a file beside the stages' own that never gets its final name: it is deleted when the
 * stage is finished, and until then the next run goes on with it (store/journal.h). It holds named
 * arrays f32 [tokens, width]. On disk they lie in panels of LODE_SPOOL_PANEL columns, [panels,
 * tokens, LODE_SPOOL_PANEL], so that both some rows and a panel's columns are read in few pieces; a
 * Gram matrix wants columns.
 */
#ifndef LODE_STAGES_COMMON_SPOOL_H
#define LODE_STAGES_COMMON_SPOOL_H

#include "common/run.h"
#include "kernels/real.h"
#include "linalg/matrix.h"

enum { LODE_SPOOL_PANEL = LODE_MATRIX_BLOCK };

typedef struct lode_spool lode_spool_t;

/* Creates <run's folder>/<stage>-scratch.h5.partial for arrays of `tokens` rows, of which at most
 * `rows` are written or read at a time. lode_spool_resume() must follow once all arrays are added.
 * *out is the caller's to destroy, NULL on failure. Errors: LODE_ERR_IO, LODE_ERR_MEMORY.
 * Collective. */
LODE_MUST_USE lode_status_t lode_spool_create(lode_spool_t **out, const lode_run_t *run,
                                              lode_stage_t stage, int64_t tokens, int64_t rows);

/* Adds the array `array` of `width` columns and claims its disk space.
 * Errors: LODE_ERR_IO where the disk lacks it. Collective. */
LODE_MUST_USE lode_status_t lode_spool_add(lode_spool_t *spool, const char *array, int64_t width);

/* As lode_store_resume(). Collective. */
LODE_MUST_USE lode_status_t lode_spool_resume(lode_spool_t *spool, const lode_part_t *parts,
                                              int64_t count);

/* The file, for its units; the spool's. Local. */
lode_store_t *lode_spool_store(lode_spool_t *spool);

/* Writes rows [first, first + rows) of an array; x [rows, width]. Local. */
LODE_MUST_USE lode_status_t lode_spool_write(lode_spool_t *spool, const char *array, int64_t first,
                                             int64_t rows, const lode_real_t *x);

/* Makes what was written readable by all. Returns any rank's failed write on all. Collective. */
LODE_MUST_USE lode_status_t lode_spool_synchronise(lode_spool_t *spool);

/* Reads rows [first, first + rows) of an array into x [rows, width]. Local. */
LODE_MUST_USE lode_status_t lode_spool_read(lode_spool_t *spool, const char *array, int64_t first,
                                            int64_t rows, lode_real_t *x);

/* Reads columns [column, column + columns) of any number of rows into x [rows, columns]. Local. */
LODE_MUST_USE lode_status_t lode_spool_read_columns(lode_spool_t *spool, const char *array,
                                                    int64_t first, int64_t rows, int64_t column,
                                                    int64_t columns, float *x);

/* Bytes on disk of an array. Local. */
int64_t lode_spool_bytes(int64_t tokens, int64_t width);

/* Private bytes of a rank's spool. Local. */
int64_t lode_spool_memory(int64_t rows);

/* Deletes the file where `status`, the stage's on all ranks, is LODE_OK, else leaves it for a later
 * run; releases the spool. Keeps the current error message. NULL is fine on all ranks. Collective.
 */
void lode_spool_destroy(lode_spool_t **spool, lode_status_t status);

#endif
