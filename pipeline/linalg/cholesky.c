#include "linalg/cholesky.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "linalg/internal.h"
#include "linalg/scalapack.h"

static lode_status_t require_square(const lode_matrix_t *matrix) {
    if (matrix->rows == matrix->columns)
        return LODE_OK;
    return lode_fail(LODE_ERR_INTERNAL, "a Cholesky factor of %lld × %lld", (long long)matrix->rows,
                     (long long)matrix->columns);
}

static lode_status_t argument_failed(const char *routine, int info) {
    return lode_fail(LODE_ERR_INTERNAL, "%s refuses argument %d", routine, -info);
}

/* The factorisation itself, of elements that are finite. */
static lode_status_t factor(lode_matrix_t *matrix, int64_t *failed_minor) {
    const int one = 1, n = matrix->descriptor[2];
    int info = 0;
    if (lode_grid_member(matrix->grid) && n > 0)
        pdpotrf_("L", &n, matrix->data, &one, &one, matrix->descriptor, &info);
    info = lode_grid_info(matrix->grid, info);
    *failed_minor = info > 0 ? info : 0;
    return info < 0 ? argument_failed("pdpotrf", info) : LODE_OK;
}

lode_status_t lode_cholesky_factor(lode_matrix_t *matrix, int64_t *failed_minor, const char *what) {
    *failed_minor = 0;
    LODE_TRY(require_square(matrix));
    LODE_TRY(lode_matrix_check_finite(matrix, what));
    return factor(matrix, failed_minor);
}

lode_status_t lode_cholesky_solve(const lode_matrix_t *factored, lode_matrix_t *b) {
    LODE_TRY(require_square(factored));
    if (factored->grid != b->grid || factored->block != b->block || factored->rows != b->rows)
        return lode_fail(LODE_ERR_INTERNAL, "a factor of %lld rows and right sides of %lld",
                         (long long)factored->rows, (long long)b->rows);
    const int one = 1, n = factored->descriptor[2], sides = b->descriptor[3];
    int info = 0;
    if (lode_grid_member(b->grid) && n > 0 && sides > 0)
        pdpotrs_("L", &n, &sides, factored->data, &one, &one, factored->descriptor, b->data, &one,
                 &one, b->descriptor, &info);
    info = lode_grid_info(b->grid, info);
    return info < 0 ? argument_failed("pdpotrs", info) : LODE_OK;
}

lode_status_t lode_cholesky_inverse_diagonal(lode_matrix_t *factored, double *diagonal) {
    LODE_TRY(require_square(factored));
    const int one = 1, n = factored->descriptor[2];
    int info = 0;
    if (lode_grid_member(factored->grid) && n > 0)
        pdpotri_("L", &n, factored->data, &one, &one, factored->descriptor, &info);
    info = lode_grid_info(factored->grid, info);
    if (info < 0)
        return argument_failed("pdpotri", info);
    if (info > 0)
        return lode_fail(LODE_ERR_NUMERIC, "a Cholesky factor has a zero at [%d, %d]", info - 1,
                         info - 1);
    return lode_matrix_diagonal(factored, diagonal);
}

/* --- with a ridge ---------------------------------------------------------------------------- */

static lode_status_t mean_diagonal(double *mean, const double *diagonal, int64_t n,
                                   const char *what) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += diagonal[i];
    *mean = n > 0 && sum != 0 ? sum / (double)n : 1;
    if (*mean > 0 && isfinite(*mean))
        return LODE_OK;
    return lode_fail(LODE_ERR_NUMERIC,
                     "%s: the mean of its diagonal is %g, so it is no matrix of "
                     "second moments",
                     what, *mean);
}

/* Tries λ by λ. The strict upper triangle holds a copy of the lower one, diagonal[n] of the
 * diagonal, so that a failed factorisation can be taken back. */
static lode_status_t raise_until_definite(lode_matrix_t *matrix, const double *diagonal,
                                          double mean, lode_ridge_t *used, const char *what) {
    const double least = (double)matrix->rows * DBL_EPSILON * mean;
    for (;; used->raised++) {
        int64_t minor;
        lode_matrix_add_diagonal(matrix, used->lambda);
        LODE_TRY(factor(matrix, &minor));
        if (minor == 0)
            break;
        const double next = used->lambda < least ? least : 10 * used->lambda;
        if (next > mean)
            return lode_fail(LODE_ERR_NUMERIC,
                             "%s: is not positive definite (its minor of order %lld), not even "
                             "with a ridge of %g; it is no matrix of second moments",
                             what, (long long)minor, used->lambda);
        LODE_TRY(lode_matrix_symmetrise(matrix, true));
        lode_matrix_set_diagonal(matrix, diagonal);
        used->lambda = next;
    }
    if (used->raised > 0)
        lode_log_warning("%s: is not positive definite as it was rounded; the ridge was raised to "
                         "%g, %g of its mean diagonal",
                         what, used->lambda, used->lambda / mean);
    return LODE_OK;
}

lode_status_t lode_ridge_factor(lode_matrix_t *matrix, double ridge, lode_ridge_t *used,
                                const char *what) {
    *used = (lode_ridge_t){0};
    LODE_TRY(require_square(matrix));
    if (!(ridge >= 0))
        return lode_fail(LODE_ERR_INTERNAL, "%s: a ridge of %g", what, ridge);
    LODE_TRY(lode_matrix_check_finite(matrix, what));
    LODE_TRY(lode_matrix_symmetrise(matrix, false));
    double *diagonal, mean;
    lode_status_t status = LODE_NEW(&diagonal, matrix->rows, "diagonal");
    LODE_GUARD(status, lode_comm_agree(lode_grid_comm(matrix->grid), status), done);
    LODE_GUARD(status, lode_matrix_diagonal(matrix, diagonal), done);
    LODE_GUARD(status, mean_diagonal(&mean, diagonal, matrix->rows, what), done);
    used->lambda = ridge * mean;
    status = raise_until_definite(matrix, diagonal, mean, used, what);
done:
    free(diagonal);
    return status;
}
