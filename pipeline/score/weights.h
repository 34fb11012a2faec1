/* score/weights: the weights of one FFN block, a row at a time, as doubles.
 *
 * Everything here is Local. `what` ("down_proj") names the tensor in messages.
 */
#ifndef LODE_SCORE_WEIGHTS_H
#define LODE_SCORE_WEIGHTS_H

#include <stdint.h>

#include "base/error.h"
#include "model/tensor.h"

/* Refuses a tensor that is absent or not [rows, columns] (LODE_ERR_SHAPE). */
LODE_MUST_USE lode_status_t lode_weights_check(const lode_tensor_t *tensor, int64_t rows,
                                               int64_t columns, const char *what);

/* Row `row` of a matrix, widened exactly; the data may be unaligned.
 *   out [columns] out
 * Errors: LODE_ERR_NUMERIC where an element is not finite, naming it. */
LODE_MUST_USE lode_status_t lode_weights_row(double *out, const lode_tensor_t *tensor, int64_t row,
                                             const char *what);

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
