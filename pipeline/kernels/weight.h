/* kernels/weight: a matrix in its checkpoint's dtype.
 *
 * A weight is a view of mapped bytes, [rows, cols] = [out, in]: row-major as nn.Linear has it, or
 * transposed as GPT-2's Conv1D does, dense or a part of a fused matrix; optionally of selected rows
 * (a sliced gate or up projection) or columns (a sliced down projection); optionally with a codec,
 * which says what values a quantized matrix has in place of the stored ones (kernels/codec).
 * Everything here is Local.
 */
#ifndef LODE_KERNELS_WEIGHT_H
#define LODE_KERNELS_WEIGHT_H

#include "kernels/real.h"
#include "model/tensor.h"

struct lode_codec;

typedef struct lode_weight {
    const void *data; /* NULL: there is none; may be unaligned; not owned */
    lode_dtype_t dtype;
    int64_t rows, cols; /* of the stored matrix */
    int64_t pitch;      /* elements from one stored line to the next */
    bool transposed;    /* lines are columns: element [i, j] is at j·pitch + i, not i·pitch + j */
    const int32_t *row_index; /* [out] ascending rows to use, NULL for all; not owned */
    const int32_t *col_index; /* [in] ascending columns to use, NULL for all; not owned */
    int64_t out, in;          /* of the matrix as used */
    const lode_real_t *bias;  /* b [rows], one for each stored row; NULL for none; not owned */
    const struct lode_codec *codec; /* of the matrix as used; NULL: as stored; not owned */
} lode_weight_t;

/* The whole of a rank-2 tensor, without a bias. */
lode_weight_t lode_weight_of(const lode_tensor_t *tensor);

/* Lines of a matrix are what lies together in memory: rows, or columns where it is transposed. A
 * line's places are then columns, or rows. */

/* out [places] = the stored values of places [place, place + places) of line `line` of the matrix
 * as used, codec or not. */
void lode_weight_line(const lode_weight_t *weight, int64_t line, int64_t place, int64_t places,
                      lode_real_t *out);

/* The same of columns [col, col + cols) of a row, however the matrix is stored: [cols] out. */
void lode_weight_row(const lode_weight_t *weight, int64_t row, int64_t col, int64_t cols,
                     lode_real_t *out);

/* out[i] = element i of `count` consecutive elements of `dtype` at `data`, as reals. */
void lode_convert(lode_real_t *out, const void *data, lode_dtype_t dtype, int64_t count);

#endif
