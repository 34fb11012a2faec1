/* kernels/linear: products with weight matrices that stay in their checkpoint's dtype.
 *
 * A matrix is converted, and coded where it has a codec (kernels/codec), block by block into a
 * buffer that BLAS reads at once, so that no converted copy of a matrix ever exists; float32
 * weights without a selection or a codec are read in place. Block shapes depend on the matrix
 * alone, so results depend on nothing but the operands. Everything here is Local.
 */
#ifndef LODE_KERNELS_LINEAR_H
#define LODE_KERNELS_LINEAR_H

#include "kernels/weight.h"

/* Reals that the functions below need as `workspace` for this weight, and for any selection of
 * fewer of its rows or columns, with the codec that it has or none. */
int64_t lode_linear_workspace(const lode_weight_t *weight);

/* y = x·Wᵀ + b, or y += x·Wᵀ + b where `accumulate`.
 * x [tokens, in], y [tokens, out], workspace as above. */
void lode_linear_forward(const lode_weight_t *weight, int64_t tokens, const lode_real_t *x,
                         bool accumulate, lode_real_t *y, lode_real_t *workspace);

/* dx = dy·W, or dx += dy·W where `accumulate`: the gradient with respect to x.
 * dy [tokens, out], dx [tokens, in]. */
void lode_linear_backward(const lode_weight_t *weight, int64_t tokens, const lode_real_t *dy,
                          bool accumulate, lode_real_t *dx, lode_real_t *workspace);

/* Where the gradient of a weight [out, in] is added, laid out as the weight's stored matrix: dense,
 * a part of a fused one, or transposed. data NULL: it is not wanted. Nothing here is owned. */
typedef struct lode_gradient {
    lode_real_t *data;
    int64_t pitch;     /* elements from one stored line to the next */
    bool transposed;   /* element [i, j] is at j·pitch + i, not i·pitch + j */
    lode_real_t *bias; /* [out], of the bias; NULL: there is none, or it is not wanted */
} lode_gradient_t;

/* dW += dyᵀ·x and db += Σ_t dy_t, the latter summed over the tokens in double: the gradients with
 * respect to W, whatever its dtype, and b. The bits do not depend on the threads.
 * x [tokens, in], dy [tokens, out]. */
void lode_linear_gradient(const lode_gradient_t *gradient, int64_t out, int64_t in, int64_t tokens,
                          const lode_real_t *x, const lode_real_t *dy);

/* Sets the number of threads that BLAS and the kernels' own loops use. */
void lode_set_threads(int threads);

/* Name and version of the BLAS in use, as far as it tells. Static. */
const char *lode_blas_description(void);

/* Keeps BLAS single-threaded while our own loops call it from several threads at once. Calls come
 * in pairs, outside parallel regions. */
void lode_blas_serial_begin(void);
void lode_blas_serial_end(void);

#endif
