/* linalg/matrix: dense float64 matrices spread over a grid of ranks.
 *
 * A matrix is cut into square blocks (those at the right and lower edge smaller), block (I, J)
 * lies on the rank at row I mod rows, column J mod columns of the grid, and each rank keeps its
 * blocks as one column-major array, as ScaLAPACK has it. No rank of a grid of P > 1 ever holds a
 * whole matrix: rows come and go in panels of bounded size.
 *
 * Shapes that do not fit each other are LODE_ERR_INTERNAL. A Collective function returns the same
 * status on all ranks of the grid's communicator, ranks beyond the grid included.
 */
#ifndef LODE_LINALG_MATRIX_H
#define LODE_LINALG_MATRIX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "linalg/grid.h"

/* Side of a block where the caller does not choose one. Not derived from the grid: the tiles of a
 * Gram matrix are blocks, and their bits depend on their size. */
enum { LODE_MATRIX_BLOCK = 128 };

/* For from_rows and to_rows: rows are shared out among all ranks. */
enum { LODE_MATRIX_ALL_RANKS = -1 };

typedef struct lode_matrix {
    lode_grid_t *grid; /* not owned */
    int64_t rows, columns, block;
    int64_t local_rows, local_columns; /* this rank's share; 0 beyond the grid */
    int64_t stride;                    /* elements from column to column, ≥ 1 */
    double *data;                      /* [local_columns, stride]; NULL where there is no share */
    int descriptor[9];                 /* ScaLAPACK's */
} lode_matrix_t;

/* --- life ------------------------------------------------------------------------------------ */

/* Makes a rows × columns matrix of zeros (extents ≥ 0); `block` 0 means LODE_MATRIX_BLOCK. *out is
 * the caller's to destroy, before the grid; NULL on failure.
 * Errors: LODE_ERR_MEMORY, LODE_ERR_UNSUPPORTED (a share beyond ScaLAPACK's 32-bit integers: take
 * more ranks). Collective. */
LODE_MUST_USE lode_status_t lode_matrix_create(lode_matrix_t **out, lode_grid_t *grid, int64_t rows,
                                               int64_t columns, int64_t block);

/* Releases this rank's share; NULL is fine. Local. */
void lode_matrix_destroy(lode_matrix_t **matrix);

/* Bytes of the largest share of such a matrix over a grid of rows × columns, for plans. Local. */
int64_t lode_matrix_bytes(int grid_rows, int grid_columns, int64_t rows, int64_t columns,
                          int64_t block);

/* Global index of this rank's local row or column, which must be in range. Local. */
int64_t lode_matrix_global_row(const lode_matrix_t *matrix, int64_t local);
int64_t lode_matrix_global_column(const lode_matrix_t *matrix, int64_t local);

/* --- rows in and out ------------------------------------------------------------------------- */

/* Supplies rows [first_row, first_row + rows) as panel [rows, columns], row-major, all elements.
 * Called by one thread. Local. */
typedef lode_status_t (*lode_matrix_fill_t)(void *context, int64_t first_row, int64_t rows,
                                            double *panel);

/* Takes the same. Local. */
typedef lode_status_t (*lode_matrix_take_t)(void *context, int64_t first_row, int64_t rows,
                                            const double *panel);

/* Fills the matrix: rank `root` supplies all rows, or, with LODE_MATRIX_ALL_RANKS, every rank a
 * contiguous range of them in each of several rounds. Rows come in ascending order to each rank,
 * each exactly once. `context` and `fill` are used on the ranks that supply.
 * Errors: those of `fill` on any rank, LODE_ERR_MEMORY, LODE_ERR_COMM. Collective. */
LODE_MUST_USE lode_status_t lode_matrix_from_rows(lode_matrix_t *matrix, int root,
                                                  lode_matrix_fill_t fill, void *context);

/* Hands all rows out in the same way. Collective. */
LODE_MUST_USE lode_status_t lode_matrix_to_rows(const lode_matrix_t *matrix, int root,
                                                lode_matrix_take_t take, void *context);

/* The same for the lower triangle: elements right of a row's diagonal are not moved, and are
 * undefined in the panel. Collective. */
LODE_MUST_USE lode_status_t lode_matrix_to_rows_below(const lode_matrix_t *matrix, int root,
                                                      lode_matrix_take_t take, void *context);

/* --- copies ---------------------------------------------------------------------------------- */

/* out = matrix, of the same shape and block. Local. */
LODE_MUST_USE lode_status_t lode_matrix_copy(lode_matrix_t *out, const lode_matrix_t *matrix);

/* out[i, j] = matrix[row_index[i], column_index[j]] on the same grid, blocks as they are.
 *   row_index [out->rows], column_index [out->columns] in, the same on all ranks, in any order,
 *   repeats allowed; NULL for 0, 1, 2 …
 * Errors: LODE_ERR_INTERNAL (an index out of range), LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_matrix_select(lode_matrix_t *out, const lode_matrix_t *matrix,
                                               const int32_t *row_index,
                                               const int32_t *column_index);

/* out = matrixᵀ on the same grid. Errors: LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_matrix_transpose(lode_matrix_t *out, const lode_matrix_t *matrix);

/* Copies the lower triangle of a square matrix onto the upper one, or, with `from_upper`, the
 * upper onto the lower. Errors: LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_matrix_symmetrise(lode_matrix_t *matrix, bool from_upper);

/* --- arithmetic ------------------------------------------------------------------------------ */

/* c = alpha·op(a)·op(b) + beta·c, op the transpose where asked for (pdgemm); all three on one grid
 * and of one block. Collective. */
LODE_MUST_USE lode_status_t lode_matrix_multiply(lode_matrix_t *c, double alpha,
                                                 const lode_matrix_t *a, bool transpose_a,
                                                 const lode_matrix_t *b, bool transpose_b,
                                                 double beta);

/* Multiplies every element by `factor`. Local. */
void lode_matrix_scale(lode_matrix_t *matrix, double factor);

/* Sets every element to `value`. Local. */
void lode_matrix_set(lode_matrix_t *matrix, double value);

/* Adds `value` to every diagonal element of a square matrix. Local. */
void lode_matrix_add_diagonal(lode_matrix_t *matrix, double value);

/* The diagonal of a square matrix.
 *   diagonal [rows] out, on every rank
 * Collective. */
LODE_MUST_USE lode_status_t lode_matrix_diagonal(const lode_matrix_t *matrix, double *diagonal);

/* Sets the diagonal from diagonal [rows], the same on all ranks. Local. */
void lode_matrix_set_diagonal(lode_matrix_t *matrix, const double *diagonal);

/* Σ of the diagonal in index order, so that no grid changes it. Errors: LODE_ERR_MEMORY.
 * Collective. */
LODE_MUST_USE lode_status_t lode_matrix_trace(const lode_matrix_t *matrix, double *trace);

/* Refuses NaN and infinities: LODE_ERR_NUMERIC naming `what` and the first such element by rows.
 * Collective. */
LODE_MUST_USE lode_status_t lode_matrix_check_finite(const lode_matrix_t *matrix, const char *what);

#endif
