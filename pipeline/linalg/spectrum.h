/* linalg/spectrum: correlation matrices, their eigenvalues, and how many directions they span.
 *
 * Only the lower triangle of a symmetric matrix is read here; centring and correlation treat all
 * elements alike, so that a matrix that is whole stays whole.
 */
#ifndef LODE_LINALG_SPECTRUM_H
#define LODE_LINALG_SPECTRUM_H

#include <stdint.h>

#include "base/error.h"
#include "linalg/matrix.h"

/* Turns second moments E[x xᵀ] into covariances E[x xᵀ] − E[x]·E[x]ᵀ. A channel whose variance is
 * not above `resolution` × E[x²] is taken for constant, since that much is rounding: its row and
 * column become 0.
 *   matrix [n, n] in and out;  mean [n] in, the same on all ranks;  resolution ≥ 0, the relative
 *   rounding of the moments as they were kept, with some room
 * Errors: LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_spectrum_centre(lode_matrix_t *matrix, const double *mean,
                                                 double resolution);

/* Turns covariances into correlations c_ij / √(c_ii·c_jj). A channel that never varies (c_ii ≤ 0)
 * has no correlation with anything, and none with itself either: its row and column become 0, so
 * that it adds neither a direction nor weight to the spectrum. Else the diagonal is 1 exactly.
 *   matrix [n, n] in and out
 * Errors: LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_spectrum_correlation(lode_matrix_t *matrix);

/* All eigenvalues of a symmetric matrix (pdsyev), which is destroyed.
 *   matrix [n, n] in, lower triangle;  eigenvalues [n] out, descending, on every rank
 * Errors: LODE_ERR_NUMERIC (the matrix is not finite, naming `what`; no convergence),
 * LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_spectrum_eigenvalues(lode_matrix_t *matrix, double *eigenvalues,
                                                      const char *what);

/* Standardises the columns of X: each less its mean over the rows, then divided by its norm, so
 * that XᵀX are correlations. A column that never varies becomes 0, as above. matrix [rows, n] in
 * and out Errors: LODE_ERR_MEMORY, LODE_ERR_COMM. Collective. */
LODE_MUST_USE lode_status_t lode_spectrum_standardise(lode_matrix_t *matrix);

/* All eigenvalues of XᵀX, from XᵀX or X·Xᵀ, whichever is smaller: the two have the same but for
 * zeros.
 *   x [rows, n] in;  eigenvalues [n] out, descending, on every rank
 * Errors: as lode_spectrum_eigenvalues(). Collective. */
LODE_MUST_USE lode_status_t lode_spectrum_of_factor(const lode_matrix_t *x, double *eigenvalues,
                                                    const char *what);

/* Effective rank exp(H(p)), p = λ/Σλ, H = −Σ p ln p (Roy and Vetterli: The effective rank, EUSIPCO
 * 2007), of a matrix whose eigenvalues are not negative but for rounding: negative ones count as
 * 0. NaN where there is no eigenvalue above 0.
 *   rank out, in [1, n];  eigenvalues [n] in, descending
 * Errors: LODE_ERR_NUMERIC (not finite), LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_spectrum_effective_rank(double *rank, const double *eigenvalues,
                                                         int64_t n, const char *what);

#endif
