#include "linalg/spectrum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "linalg/internal.h"
#include "linalg/scalapack.h"
#include "score/concentration.h"

static lode_status_t require_square(const lode_matrix_t *matrix) {
    if (matrix->rows == matrix->columns)
        return LODE_OK;
    return lode_fail(LODE_ERR_INTERNAL, "a spectrum of a matrix of %lld × %lld",
                     (long long)matrix->rows, (long long)matrix->columns);
}

/* *diagonal is the caller's. Collective. */
static lode_status_t new_diagonal(double **diagonal, const lode_matrix_t *matrix) {
    *diagonal = NULL;
    LODE_TRY(require_square(matrix));
    lode_status_t status = LODE_NEW(diagonal, matrix->rows, "diagonal");
    status = lode_comm_agree(lode_grid_comm(matrix->grid), status);
    if (status == LODE_OK)
        status = lode_matrix_diagonal(matrix, *diagonal);
    if (status != LODE_OK) {
        free(*diagonal);
        *diagonal = NULL;
    }
    return status;
}

lode_status_t lode_spectrum_centre(lode_matrix_t *matrix, const double *mean, double resolution) {
    double *variance;
    LODE_TRY(new_diagonal(&variance, matrix));
    for (int64_t i = 0; i < matrix->rows; i++) {
        const double power = variance[i];
        variance[i] -= mean[i] * mean[i];
        if (variance[i] <= resolution * power)
            variance[i] = 0;
    }
    for (int64_t lj = 0; lj < matrix->local_columns; lj++) {
        const int64_t j = lode_matrix_global_column(matrix, lj);
        double *column = matrix->data + lj * matrix->stride;
        for (int64_t li = 0; li < matrix->local_rows; li++) {
            const int64_t i = lode_matrix_global_row(matrix, li);
            column[li] -= mean[i] * mean[j];
            if (variance[i] == 0 || variance[j] == 0)
                column[li] = 0;
        }
    }
    free(variance);
    return LODE_OK;
}

lode_status_t lode_spectrum_correlation(lode_matrix_t *matrix) {
    double *deviation; /* 0 where a channel never varies */
    LODE_TRY(new_diagonal(&deviation, matrix));
    for (int64_t i = 0; i < matrix->rows; i++)
        deviation[i] = deviation[i] <= 0 ? 0 : sqrt(deviation[i]); /* NaN stays, to be found */
    for (int64_t lj = 0; lj < matrix->local_columns; lj++) {
        const int64_t j = lode_matrix_global_column(matrix, lj);
        double *column = matrix->data + lj * matrix->stride;
        for (int64_t li = 0; li < matrix->local_rows; li++) {
            const int64_t i = lode_matrix_global_row(matrix, li);
            if (deviation[i] == 0 || deviation[j] == 0)
                column[li] = 0;
            else if (i == j && isfinite(deviation[i]))
                column[li] = 1;
            else
                column[li] = column[li] / deviation[i] / deviation[j];
        }
    }
    free(deviation);
    return LODE_OK;
}

/* totals[columns] += this rank's sums over its rows: of the elements, or of their squares. */
static void add_columns(const lode_matrix_t *matrix, bool squares, double *totals) {
    for (int64_t lj = 0; lj < matrix->local_columns; lj++) {
        const double *column = matrix->data + lj * matrix->stride;
        double sum = 0;
        for (int64_t li = 0; li < matrix->local_rows; li++)
            sum += squares ? column[li] * column[li] : column[li];
        totals[lode_matrix_global_column(matrix, lj)] += sum;
    }
}

/* totals [columns] out, the same on all ranks. Collective. */
static lode_status_t total_columns(const lode_matrix_t *matrix, bool squares, double *totals) {
    int count;
    LODE_TRY(lode_narrow(&count, matrix->columns, "columns of a matrix"));
    memset(totals, 0, (size_t)matrix->columns * sizeof *totals);
    add_columns(matrix, squares, totals);
    const lode_comm_t *comm = lode_grid_comm(matrix->grid);
    MPI_Allreduce(MPI_IN_PLACE, totals, count, MPI_DOUBLE, MPI_SUM, comm->comm);
    return lode_comm_agree(comm, lode_comm_received(comm, "sums of columns"));
}

lode_status_t lode_spectrum_standardise(lode_matrix_t *matrix) {
    double *totals; /* [columns] */
    lode_status_t status = LODE_NEW(&totals, matrix->columns, "sums of columns");
    status = lode_comm_agree(lode_grid_comm(matrix->grid), status);
    /* Doubles add up equal floats exactly, so that nothing is left of a channel that never varies
     * when its mean is taken off. */
    LODE_GUARD(status, total_columns(matrix, false, totals), done);
    for (int64_t lj = 0; lj < matrix->local_columns; lj++) {
        const double mean = totals[lode_matrix_global_column(matrix, lj)] / (double)matrix->rows;
        for (int64_t li = 0; li < matrix->local_rows; li++)
            matrix->data[lj * matrix->stride + li] -= mean;
    }
    LODE_GUARD(status, total_columns(matrix, true, totals), done);
    for (int64_t lj = 0; lj < matrix->local_columns; lj++) {
        const double norm = sqrt(totals[lode_matrix_global_column(matrix, lj)]);
        for (int64_t li = 0; li < matrix->local_rows && norm != 0; li++) /* NaN stays */
            matrix->data[lj * matrix->stride + li] /= norm;
    }
done:
    free(totals);
    return status;
}

/* --- eigenvalues ----------------------------------------------------------------------------- */

/* Calls pdsyev for eigenvalues alone; `size` −1 asks for the work space. */
static int call_pdsyev(lode_matrix_t *matrix, double *eigenvalues, double *work, int size) {
    const int one = 1, n = matrix->descriptor[2];
    int info = 0;
    pdsyev_("N", "L", &n, matrix->data, &one, &one, matrix->descriptor, eigenvalues, matrix->data,
            &one, &one, matrix->descriptor, work, &size, &info);
    return info;
}

/* Work space of this rank: *work is the caller's. */
static lode_status_t new_work(double **work, int *size, lode_matrix_t *matrix,
                              double *eigenvalues) {
    double needed[2] = {0};
    *work = NULL;
    *size = 0;
    if (!lode_grid_member(matrix->grid))
        return LODE_OK;
    const int info = call_pdsyev(matrix, eigenvalues, needed, -1);
    if (info != 0)
        return lode_fail(LODE_ERR_INTERNAL, "pdsyev refuses argument %d", -info);
    LODE_TRY(lode_narrow(size, (int64_t)needed[0], "work space of pdsyev"));
    return LODE_NEW(work, *size, "work space of eigenvalues");
}

static void reverse(double *values, int64_t count) {
    for (int64_t i = 0; i < count / 2; i++) {
        const double first = values[i];
        values[i] = values[count - 1 - i];
        values[count - 1 - i] = first;
    }
}

lode_status_t lode_spectrum_eigenvalues(lode_matrix_t *matrix, double *eigenvalues,
                                        const char *what) {
    const lode_grid_t *grid = matrix->grid;
    double *work;
    int size;
    LODE_TRY(require_square(matrix));
    LODE_TRY(lode_matrix_check_finite(matrix, what));
    if (matrix->rows == 0)
        return LODE_OK;
    lode_status_t status =
        lode_comm_agree(&grid->comm, new_work(&work, &size, matrix, eigenvalues));
    if (status == LODE_OK) {
        int info = 0;
        if (lode_grid_member(grid))
            info = call_pdsyev(matrix, eigenvalues, work, size);
        info = lode_grid_info(grid, info);
        if (info < 0)
            status = lode_fail(LODE_ERR_INTERNAL, "pdsyev refuses argument %d", -info);
        else if (info > 0)
            status = lode_fail(LODE_ERR_NUMERIC, "%s: its eigenvalues did not converge", what);
    }
    free(work);
    if (status == LODE_OK)
        status = lode_comm_broadcast(&grid->comm, eigenvalues,
                                     (size_t)matrix->rows * sizeof *eigenvalues, 0);
    reverse(eigenvalues, matrix->rows);
    return status;
}

lode_status_t lode_spectrum_of_factor(const lode_matrix_t *x, double *eigenvalues,
                                      const char *what) {
    const bool wide = x->columns > x->rows;
    const int64_t n = wide ? x->rows : x->columns;
    lode_matrix_t *gram;
    LODE_TRY(lode_matrix_create(&gram, x->grid, n, n, x->block));
    lode_status_t status = lode_matrix_multiply(gram, 1, x, !wide, x, wide, 0);
    if (status == LODE_OK)
        status = lode_spectrum_eigenvalues(gram, eigenvalues, what);
    lode_matrix_destroy(&gram);
    for (int64_t i = n; i < x->columns; i++)
        eigenvalues[i] = 0;
    return status;
}

lode_status_t lode_spectrum_effective_rank(double *rank, const double *eigenvalues, int64_t n,
                                           const char *what) {
    double *weights;
    LODE_TRY(LODE_NEW(&weights, n, "eigenvalues"));
    for (int64_t i = 0; i < n; i++)
        weights[i] = eigenvalues[i] < 0 ? 0 : eigenvalues[i];
    *rank = NAN;
    lode_status_t status = LODE_OK;
    if (n > 0)
        status = lode_concentration_effective(rank, weights, n, what);
    free(weights);
    return status;
}
