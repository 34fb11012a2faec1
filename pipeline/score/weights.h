/* score/weights: the weights of one FFN block, some rows at a time, as doubles.
 *
 * Rows are those of the matrix, [out, in], however it is stored: of a transposed view they come in
 * panels, so that its stored lines are read in whole cache lines. Everything here is Local. `what`
 * ("down_proj") names the tensor in messages.
 */
#ifndef LODE_SCORE_WEIGHTS_H
#define LODE_SCORE_WEIGHTS_H

#include <stdint.h>

#include "base/error.h"
#include "model/tensor.h"

/* Refuses a tensor that is absent or not [rows, columns] (LODE_ERR_SHAPE). */
LODE_MUST_USE lode_status_t lode_weights_check(const lode_tensor_t *tensor, int64_t rows,
                                               int64_t columns, const char *what);

/* Elements of rows [row, row + rows) and columns [column, column + columns), widened exactly,
 * finite or not; the data may be unaligned.
 *   out [rows, columns] out */
void lode_weights_block(double *out, const lode_tensor_t *tensor, int64_t row, int64_t rows,
                        int64_t column, int64_t columns);

/* Rows [first, first + rows) of a matrix, widened exactly; the data may be unaligned.
 *   out [rows, columns] out
 * Errors: LODE_ERR_NUMERIC where an element is not finite, naming the first by rows. */
LODE_MUST_USE lode_status_t lode_weights_panel(double *out, const lode_tensor_t *tensor,
                                               int64_t first, int64_t rows, const char *what);

/* Row `row` alone.
 *   out [columns] out */
LODE_MUST_USE lode_status_t lode_weights_row(double *out, const lode_tensor_t *tensor, int64_t row,
                                             const char *what);

/* The rows of a matrix one after the other, in whatever panels suit its storage. */
typedef struct lode_weights_reader {
    const lode_tensor_t *tensor; /* not owned, as is `what` */
    const char *what;
    double *panel;         /* [height, columns] */
    int64_t height;        /* rows of a panel */
    int64_t first, filled; /* the rows in the panel */
} lode_weights_reader_t;

/* Begins to read a matrix that must be [rows, columns]. The reader is the caller's, for
 * lode_weights_close, also on failure. Errors: LODE_ERR_SHAPE, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_weights_open(lode_weights_reader_t *reader,
                                              const lode_tensor_t *tensor, int64_t rows,
                                              int64_t columns, const char *what);

/* Row `row`; cheap in ascending order.
 *   out  points at [columns], the reader's, valid until the next call
 * Errors: LODE_ERR_NUMERIC where an element of its panel is not finite. */
LODE_MUST_USE lode_status_t lode_weights_at(lode_weights_reader_t *reader, int64_t row,
                                            const double **out);
void lode_weights_close(lode_weights_reader_t *reader);

/* Refuses a matrix with an element that is not finite (LODE_ERR_NUMERIC), naming the first by rows,
 * or in a transposed view by panels of them. Errors: also LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_weights_finite(const lode_tensor_t *tensor, const char *what);

/* L2 norms of the rows of a [rows, columns] matrix, squares added in the order of the columns.
 *   norms [rows] out
 * Errors: as lode_weights_row(), LODE_ERR_SHAPE (not a matrix), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_weights_row_norms(double *norms, const lode_tensor_t *tensor,
                                                   const char *what);

/* The same of the columns, squares added in the order of the rows.
 *   norms [columns] out */
LODE_MUST_USE lode_status_t lode_weights_column_norms(double *norms, const lode_tensor_t *tensor,
                                                      const char *what);

#endif
