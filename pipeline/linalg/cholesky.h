/* linalg/cholesky: symmetric positive definite systems, by the Cholesky factor L·Lᵀ of a
 * distributed matrix (ScaLAPACK's pdpotrf, pdpotrs, pdpotri).
 *
 * Only the lower triangle of a matrix is read or overwritten here, unless a function says
 * otherwise. `what` names the matrix in messages.
 */
#ifndef LODE_LINALG_CHOLESKY_H
#define LODE_LINALG_CHOLESKY_H

#include <stdint.h>

#include "base/error.h"
#include "linalg/matrix.h"

/* Factors a square matrix in place.
 *   matrix in and out; undefined where *failed_minor is not 0
 *   failed_minor out, on all ranks: 0, or the order of the leading minor that is not positive
 *   definite, which is no error
 * Errors: LODE_ERR_NUMERIC (an element of the whole matrix is not finite). Collective. */
LODE_MUST_USE lode_status_t lode_cholesky_factor(lode_matrix_t *matrix, int64_t *failed_minor,
                                                 const char *what);

/* Solves L·Lᵀ·X = B for all columns of B at once.
 *   factor [n, n] of lode_cholesky_factor() or lode_ridge_factor();  b [n, k] in, X out; on the
 *   same grid and of the same block
 * Collective. */
LODE_MUST_USE lode_status_t lode_cholesky_solve(const lode_matrix_t *factor, lode_matrix_t *b);

/* The diagonal of (L·Lᵀ)⁻¹. The factor becomes the inverse's lower triangle.
 *   factor [n, n] in, inverse out;  diagonal [n] out, on every rank
 * Errors: LODE_ERR_NUMERIC (a zero on the factor's diagonal). Collective. */
LODE_MUST_USE lode_status_t lode_cholesky_inverse_diagonal(lode_matrix_t *factor, double *diagonal);

/* How a ridge was chosen. */
typedef struct lode_ridge {
    double lambda; /* what was added to the diagonal in the end */
    int raised;    /* how often it had to be raised tenfold before the factorisation went through */
} lode_ridge_t;

/* Factors C + λI, with λ = ridge × mean diagonal of C; where rounding has left that indefinite, λ
 * is raised tenfold (from n·ε × mean diagonal where ridge is less) until it is not, and said so in
 * a warning. A C of zeros counts as having a mean diagonal of 1. matrix [n, n] in: C, lower
 * triangle; out: the factor in the lower triangle, C in the strict upper one;  ridge ≥ 0, relative;
 * used out, on all ranks Errors: LODE_ERR_NUMERIC (C is not finite, its mean diagonal is negative,
 * or λ would exceed the mean diagonal), LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_ridge_factor(lode_matrix_t *matrix, double ridge,
                                              lode_ridge_t *used, const char *what);

#endif
