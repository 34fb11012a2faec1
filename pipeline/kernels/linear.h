/* kernels/linear: products with weight matrices that stay in their checkpoint's dtype.
 *
 * A weight is a view of mapped bytes, [rows, cols] = [out, in]: row-major as nn.Linear has it, or
 * transposed as GPT-2's Conv1D does, dense or a part of a fused matrix; optionally of selected rows
 * (a sliced gate or up projection) or columns (a sliced down projection). It is converted block by
 * block into a buffer that BLAS reads at once, so that no converted copy of a matrix ever exists;
 * float32 weights without a selection are read in place. Block shapes depend on the matrix alone,
 * so results depend on nothing but the operands. Everything here is Local.
 */
#ifndef LODE_KERNELS_LINEAR_H
#define LODE_KERNELS_LINEAR_H

#include "kernels/real.h"
#include "model/tensor.h"

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
} lode_weight_t;

/* The whole of a rank-2 tensor, without a bias. */
lode_weight_t lode_weight_of(const lode_tensor_t *tensor);

/* Reals that the functions below need as `workspace` for this weight, and for any selection of
 * fewer of its rows or columns. */
int64_t lode_linear_workspace(const lode_weight_t *weight);

/* y = x·Wᵀ + b, or y += x·Wᵀ + b where `accumulate`.
 * x [tokens, in], y [tokens, out], workspace as above. */
void lode_linear_forward(const lode_weight_t *weight, int64_t tokens, const lode_real_t *x,
                         bool accumulate, lode_real_t *y, lode_real_t *workspace);

/* dx = dy·W, or dx += dy·W where `accumulate`: the gradient with respect to x. There is no
 * gradient with respect to W: nothing in Lodestone's statistics needs it.
 * dy [tokens, out], dx [tokens, in]. */
void lode_linear_backward(const lode_weight_t *weight, int64_t tokens, const lode_real_t *dy,
                          bool accumulate, lode_real_t *dx, lode_real_t *workspace);

/* out[i] = element i of `count` consecutive elements of `dtype` at `data`, as reals. */
void lode_convert(lode_real_t *out, const void *data, lode_dtype_t dtype, int64_t count);

/* Sets the number of threads that BLAS and the kernels' own loops use. */
void lode_set_threads(int threads);

/* Name and version of the BLAS in use, as far as it tells. Static. */
const char *lode_blas_description(void);

/* Keeps BLAS single-threaded while our own loops call it from several threads at once. Calls come
 * in pairs, outside parallel regions. */
void lode_blas_serial_begin(void);
void lode_blas_serial_end(void);

#endif
