/* Gram matrices, packed triangles, Cholesky factors and spectra of distributed matrices on every
 * grid that the ranks allow, against plain loops and LAPACK on one rank. */
#include <cblas.h>
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "kernels/linear.h"
#include "linalg/cholesky.h"
#include "linalg/gram.h"
#include "linalg/packed.h"
#include "linalg/spectrum.h"
#include "testing/check.h"
#include "testing/compare.h"
#include "testing/hdf5_read.h"
#include "testing/temporary.h"

/* LAPACK, of whole matrices on one rank. */
void dsyev_(const char *vectors, const char *triangle, const int *n, double *a, const int *lda,
            double *w, double *work, const int *size, int *info);
void dposv_(const char *triangle, const int *n, const int *sides, double *a, const int *lda,
            double *b, const int *ldb, int *info);
void dpotri_(const char *triangle, const int *n, double *a, const int *lda, int *info);

static lode_comm_t world;
static char folder[256];

static const int grids[][2] = {{0, 0}, {1, 1}, {1, 2}, {2, 1}, {2, 2}, {2, 3}, {3, 2}};
enum { GRIDS = sizeof grids / sizeof *grids };

/* X [TOKENS, N] has three blocks of columns and three chunks of rows, the last of each short. */
enum { N = 300, TOKENS = 600, SIDES = 7, BLOCK = LODE_MATRIX_BLOCK };

static double *x;      /* [TOKENS, N], of floats' values */
static double *second; /* [N, N] XᵀX/TOKENS, by plain loops */

static bool close_to(const char *name, const double *got, const double *want, int64_t count,
                     double absolute, double relative) {
    const lode_comparison_t comparison =
        lode_compare_f64(name, got, count, want, count, absolute, relative);
    if (!comparison.equal)
        fprintf(stderr, "%s\n", comparison.text);
    return comparison.equal;
}

static double *new_array(int64_t count) {
    double *array;
    LODE_REQUIRE(LODE_NEW(&array, count, "test") == LODE_OK);
    return array;
}

/* Channels of very different sizes that hang together; x and second on every rank. */
static void make_data(void) {
    x = new_array(TOKENS * N);
    second = new_array(N * N);
    for (int64_t t = 0; t < TOKENS; t++) {
        const uint64_t key = lode_random_key(7, "factor test", t, 0);
        const double common = lode_random_uniform(key, N) - 0.3;
        for (int64_t j = 0; j < N; j++)
            x[t * N + j] = (double)(float)(exp(-0.02 * (double)j) *
                                           (lode_random_uniform(key, (uint64_t)j) - 0.5 + common));
    }
    for (int64_t t = 0; t < TOKENS; t++)
        for (int64_t i = 0; i < N; i++)
            for (int64_t j = 0; j < N; j++)
                second[i * N + j] += x[t * N + i] * x[t * N + j];
    for (int64_t i = 0; i < N * N; i++)
        second[i] /= TOKENS;
}

/* --- whole matrices -------------------------------------------------------------------------- */

typedef struct whole {
    double *data; /* row-major */
    int64_t columns;
} whole_t;

static lode_status_t take_whole(void *context, int64_t first, int64_t rows, const double *panel) {
    const whole_t *whole = context;
    memcpy(whole->data + first * whole->columns, panel,
           (size_t)(rows * whole->columns) * sizeof *panel);
    return LODE_OK;
}

static lode_status_t fill_whole(void *context, int64_t first, int64_t rows, double *panel) {
    const whole_t *whole = context;
    memcpy(panel, whole->data + first * whole->columns,
           (size_t)(rows * whole->columns) * sizeof *panel);
    return LODE_OK;
}

/* The matrix on rank 0, row-major; NULL on the others. The caller's. */
static double *gather(const lode_matrix_t *matrix) {
    whole_t whole = {.columns = matrix->columns};
    if (world.rank == 0)
        whole.data = new_array(matrix->rows * matrix->columns);
    LODE_REQUIRE(lode_matrix_to_rows(matrix, 0, take_whole, &whole) == LODE_OK);
    return whole.data;
}

static lode_matrix_t *scatter(lode_grid_t *grid, double *data, int64_t rows, int64_t columns) {
    lode_matrix_t *matrix;
    whole_t whole = {.data = data, .columns = columns};
    LODE_REQUIRE(lode_matrix_create(&matrix, grid, rows, columns, 0) == LODE_OK);
    LODE_REQUIRE(lode_matrix_from_rows(matrix, LODE_MATRIX_ALL_RANKS, fill_whole, &whole) ==
                 LODE_OK);
    return matrix;
}

/* --- Gram matrices --------------------------------------------------------------------------- */

typedef struct pieces {
    bool single;      /* as floats */
    int64_t columns;  /* the first ones of x */
    int64_t prepared; /* rows that may be read: −1 where all may */
    int64_t fail_at;  /* first row of the chunk to fail at, on the last rank; −1 never */
} pieces_t;

static lode_status_t read_piece(void *context, int64_t first_row, int64_t rows,
                                int64_t first_column, int64_t columns, void *out) {
    const pieces_t *pieces = context;
    if (first_row == pieces->fail_at && world.rank == 0)
        return lode_fail(LODE_ERR_IO, "row %lld cannot be read", (long long)first_row);
    LODE_CHECK(pieces->prepared < 0 || first_row + rows == pieces->prepared);
    LODE_CHECK(first_column + columns <= pieces->columns);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t j = 0; j < columns; j++) {
            const double value = x[(first_row + t) * N + first_column + j];
            if (pieces->single)
                ((float *)out)[t * columns + j] = (float)value;
            else
                ((double *)out)[t * columns + j] = value;
        }
    return LODE_OK;
}

static lode_status_t prepare_piece(void *context, int64_t first_row, int64_t rows) {
    pieces_t *pieces = context;
    int64_t end = first_row + rows;
    MPI_Bcast(&end, 1, MPI_INT64_T, world.size - 1, world.comm); /* nobody may be missing */
    pieces->prepared = end;
    return LODE_OK;
}

static lode_gram_source_t source_of(pieces_t *pieces) {
    return (lode_gram_source_t){.context = pieces,
                                .rows = TOKENS,
                                .columns = pieces->columns,
                                .type = pieces->single ? LODE_TYPE_F32 : LODE_TYPE_F64,
                                .prepare = pieces->prepared < 0 ? NULL : prepare_piece,
                                .read = read_piece};
}

/* Block by block and chunk by chunk on one rank: what every grid must give, bit for bit. */
static double *blockwise(int64_t columns) {
    double *sum = new_array(N * columns);
    for (int64_t t = 0; t < TOKENS; t += LODE_GRAM_CHUNK)
        for (int64_t bi = 0; bi < N; bi += BLOCK)
            for (int64_t bj = 0; bj < columns; bj += BLOCK) {
                const int high = (int)(N - bi < BLOCK ? N - bi : BLOCK);
                const int wide = (int)(columns - bj < BLOCK ? columns - bj : BLOCK);
                const int rows = (int)(TOKENS - t < LODE_GRAM_CHUNK ? TOKENS - t : LODE_GRAM_CHUNK);
                cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, high, wide, rows, 1,
                            x + t * N + bi, N, x + t * N + bj, N, 1, sum + bj * N + bi, N);
            }
    return sum;
}

/* Compares with `expected` [columns, N], column-major, below the diagonal or everywhere. */
static void check_bits(const lode_matrix_t *matrix, const double *expected, bool below) {
    int64_t wrong = 0;
    for (int64_t lj = 0; lj < matrix->local_columns; lj++)
        for (int64_t li = 0; li < matrix->local_rows; li++) {
            const int64_t i = lode_matrix_global_row(matrix, li);
            const int64_t j = lode_matrix_global_column(matrix, lj);
            if (!below || i >= j)
                wrong += matrix->data[lj * matrix->stride + li] != expected[j * N + i];
        }
    LODE_CHECK(wrong == 0);
}

static void test_gram(lode_grid_t *grid) {
    double *expected = blockwise(N);
    for (int form = 0; form < 4; form++) {
        pieces_t pieces = {
            .single = form & 1, .columns = N, .prepared = form & 2 ? 0 : -1, .fail_at = -1};
        const lode_gram_source_t source = source_of(&pieces);
        lode_matrix_t *matrix;
        LODE_REQUIRE(lode_matrix_create(&matrix, grid, N, N, 0) == LODE_OK);
        lode_set_threads(form == 3 ? 2 : 1);
        LODE_CHECK(lode_gram_add(matrix, &source) == LODE_OK);
        lode_set_threads(1);
        check_bits(matrix, expected, true);
        lode_matrix_scale(matrix, 1.0 / TOKENS);
        LODE_CHECK(lode_matrix_symmetrise(matrix, false) == LODE_OK);
        double *whole = gather(matrix);
        LODE_CHECK(!whole || close_to("Gram", whole, second, N * N, 1e-15, 1e-12));
        free(whole);
        pieces.fail_at = LODE_GRAM_CHUNK;
        LODE_CHECK(lode_check_fails(lode_gram_add(matrix, &source), LODE_ERR_IO,
                                    "row 256 cannot be read"));
        lode_matrix_destroy(&matrix);
    }
    free(expected);
}

static void test_cross(lode_grid_t *grid) {
    enum { COLUMNS = 140 };
    pieces_t left = {.single = true, .columns = N, .prepared = -1, .fail_at = -1};
    pieces_t right = {.columns = COLUMNS, .prepared = 0, .fail_at = -1};
    lode_gram_source_t a = source_of(&left), b = source_of(&right);
    lode_matrix_t *matrix;
    double *expected = blockwise(COLUMNS);
    LODE_REQUIRE(lode_matrix_create(&matrix, grid, N, COLUMNS, 0) == LODE_OK);
    LODE_CHECK(lode_gram_add_cross(matrix, &a, &b) == LODE_OK);
    check_bits(matrix, expected, false);
    LODE_CHECK(
        lode_check_fails(lode_gram_add_cross(matrix, &b, &a), LODE_ERR_INTERNAL, "cannot hold"));
    LODE_CHECK(lode_check_fails(lode_gram_add(matrix, &a), LODE_ERR_INTERNAL, "cannot hold"));
    lode_matrix_destroy(&matrix);
    free(expected);
}

/* --- packed triangles ------------------------------------------------------------------------ */

static void check_file(const char *path, const char *name, bool single) {
    lode_h5_array_t array;
    const hid_t file = lode_h5_open(path);
    int64_t wrong = 0;
    LODE_REQUIRE(file >= 0 && lode_h5_read(&array, file, name, LODE_H5_F64));
    LODE_REQUIRE(array.extent[0] == 2 && array.extent[1] == N * (N + 1) / 2);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j <= i; j++) {
            const double value = second[i * N + j];
            wrong += array.f64[array.extent[1] + i * (i + 1) / 2 + j] !=
                     (single ? (double)(float)value : value);
        }
    LODE_CHECK(wrong == 0);
    lode_h5_free(&array);
    H5Fclose(file);
}

static void test_packed(lode_grid_t *grid) {
    char path[512];
    const int64_t shape[] = {2, lode_packed_extent(N)};
    lode_store_t *store;
    lode_matrix_t *matrix = scatter(grid, second, N, N);
    snprintf(path, sizeof path, "%s/packed.h5", folder);
    LODE_CHECK(lode_packed_extent(4) == 10 && lode_packed_extent(5) == 15);
    lode_grid_set_panel(grid, 20 * N); /* several rounds */
    LODE_REQUIRE(lode_store_create(&store, &world, path) == LODE_OK);
    LODE_REQUIRE(lode_store_dataset(store, "/f64", LODE_TYPE_F64, 2, shape, true) == LODE_OK);
    LODE_REQUIRE(lode_store_dataset(store, "/f32", LODE_TYPE_F32, 2, shape, true) == LODE_OK);
    LODE_CHECK(lode_packed_write(matrix, store, "/f64", 1) == LODE_OK);
    LODE_CHECK(lode_packed_write(matrix, store, "/f32", 1) == LODE_OK);
    LODE_CHECK(lode_check_fails(lode_packed_write(matrix, store, "/f32", 2), LODE_ERR_SHAPE,
                                "for layer 2"));
    lode_matrix_scale(matrix, 1e60);
    LODE_CHECK(lode_check_fails(lode_packed_write(matrix, store, "/f32", 0), LODE_ERR_NUMERIC,
                                "beyond float32; keep it as float64"));
    lode_matrix_scale(matrix, 1e300);
    LODE_CHECK(
        lode_check_fails(lode_packed_write(matrix, store, "/f64", 0), LODE_ERR_NUMERIC, "is inf"));
    LODE_REQUIRE(lode_store_commit(&store) == LODE_OK);
    if (world.rank == 0) {
        check_file(path, "/f64", false);
        check_file(path, "/f32", true);
    }
    LODE_REQUIRE(lode_store_open(&store, &world, path) == LODE_OK);
    LODE_CHECK(lode_packed_read(matrix, store, "/f64", 1) == LODE_OK);
    double *whole = gather(matrix);
    LODE_CHECK(!whole || memcmp(whole, second, N * N * sizeof *whole) == 0);
    LODE_CHECK(
        lode_check_fails(lode_packed_read(matrix, store, "/none", 1), LODE_ERR_INPUT, "none"));
    free(whole);
    lode_store_close(&store);
    lode_grid_set_panel(grid, LODE_GRID_PANEL);
    lode_matrix_destroy(&matrix);
}

/* --- Cholesky -------------------------------------------------------------------------------- */

/* Solves (second + λI)·X = B by LAPACK, B [N, SIDES] the first columns of X; also the diagonal of
 * the inverse. */
static void solve_serially(double lambda, double *solution, double *diagonal) {
    const int n = N, sides = SIDES;
    double *a = new_array(N * N), *b = new_array(N * SIDES);
    int info;
    memcpy(a, second, N * N * sizeof *a);
    for (int64_t i = 0; i < N; i++) {
        a[i * N + i] += lambda;
        for (int64_t k = 0; k < SIDES; k++)
            b[k * N + i] = x[i * N + k];
    }
    dposv_("L", &n, &sides, a, &n, b, &n, &info);
    LODE_REQUIRE(info == 0);
    for (int64_t i = 0; i < N; i++)
        for (int64_t k = 0; k < SIDES; k++)
            solution[i * SIDES + k] = b[k * N + i];
    dpotri_("L", &n, a, &n, &info);
    for (int64_t i = 0; i < N; i++)
        diagonal[i] = a[i * N + i];
    free(a);
    free(b);
}

static double largest(const double *values, int64_t count) {
    double most = 0;
    for (int64_t i = 0; i < count; i++)
        most = fmax(most, fabs(values[i]));
    return most;
}

static lode_matrix_t *right_sides(lode_grid_t *grid) {
    double *b = new_array(N * SIDES);
    for (int64_t i = 0; i < N; i++)
        for (int64_t k = 0; k < SIDES; k++)
            b[i * SIDES + k] = x[i * N + k];
    lode_matrix_t *matrix = scatter(grid, b, N, SIDES);
    free(b);
    return matrix;
}

static void test_ridge(lode_grid_t *grid) {
    double *solution = new_array(N * SIDES), *want = new_array(N), *got = new_array(N);
    double mean = 0;
    lode_ridge_t used;
    for (int64_t i = 0; i < N; i++)
        mean += second[i * N + i] / N;
    solve_serially(0.01 * mean, solution, want);
    lode_matrix_t *matrix = scatter(grid, second, N, N), *b = right_sides(grid);
    LODE_CHECK(lode_ridge_factor(matrix, 0.01, &used, "moments") == LODE_OK);
    LODE_CHECK(used.raised == 0 && fabs(used.lambda / mean - 0.01) < 1e-14);
    LODE_CHECK(lode_cholesky_solve(matrix, b) == LODE_OK);
    double *whole = gather(b);
    LODE_CHECK(!whole || close_to("solution", whole, solution, N * SIDES,
                                  1e-10 * largest(solution, N * SIDES), 0));
    LODE_CHECK(lode_cholesky_inverse_diagonal(matrix, got) == LODE_OK);
    LODE_CHECK(close_to("diagonal of the inverse", got, want, N, 0, 1e-10));
    LODE_CHECK(lode_check_fails(lode_cholesky_solve(b, b), LODE_ERR_INTERNAL, "300 × 7"));
    LODE_CHECK(lode_check_fails(lode_ridge_factor(matrix, -1, &used, "moments"), LODE_ERR_INTERNAL,
                                "ridge of -1"));
    free(whole);
    free(solution);
    free(want);
    free(got);
    lode_matrix_destroy(&b);
    lode_matrix_destroy(&matrix);
}

/* A matrix with an eigenvalue of `lowest`: the identity less a bit of one direction that runs
 * through all blocks. */
static void nearly_singular(double *a, double lowest) {
    double norm = 0;
    for (int64_t i = 0; i < N; i++)
        norm += (double)((i + 1) * (i + 1));
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++)
            a[i * N + j] = (double)(i == j) - (1 - lowest) * (double)((i + 1) * (j + 1)) / norm;
}

static void test_raised(lode_grid_t *grid) {
    double *a = new_array(N * N);
    lode_ridge_t used;
    int64_t minor;
    nearly_singular(a, -1e-6);
    lode_matrix_t *matrix = scatter(grid, a, N, N);
    LODE_CHECK(lode_cholesky_factor(matrix, &minor, "test") == LODE_OK);
    LODE_CHECK(minor == N); /* only the whole has the negative direction */
    lode_matrix_destroy(&matrix);

    /* 1e-9, 1e-8, 1e-7 and 1e-6 times the mean, just below 1, are not enough; what was factored in
     * vain must leave no trace in the factor. */
    matrix = scatter(grid, a, N, N);
    LODE_CHECK(lode_ridge_factor(matrix, 1e-9, &used, "test") == LODE_OK);
    const double mean = (N - 1 - 1e-6) / N;
    LODE_CHECK(used.raised == 4 && fabs(used.lambda - 1e-5 * mean) < 1e-15);
    lode_matrix_t *b = right_sides(grid), *product, *again = scatter(grid, a, N, N);
    LODE_CHECK(lode_cholesky_solve(matrix, b) == LODE_OK);
    LODE_REQUIRE(lode_matrix_create(&product, grid, N, SIDES, 0) == LODE_OK);
    lode_matrix_add_diagonal(again, used.lambda);
    LODE_CHECK(lode_matrix_multiply(product, 1, again, false, b, false, 0) == LODE_OK);
    double *whole = gather(product);
    for (int64_t i = 0; whole && i < N; i++)
        LODE_CHECK(close_to("A·X", whole + i * SIDES, x + i * N, SIDES, 1e-9, 0));
    free(whole);
    lode_matrix_destroy(&again);
    lode_matrix_destroy(&product);
    lode_matrix_destroy(&b);
    lode_matrix_destroy(&matrix);

    nearly_singular(a, -5);
    matrix = scatter(grid, a, N, N);
    LODE_CHECK(lode_check_fails(lode_ridge_factor(matrix, 1e-3, &used, "this one"),
                                LODE_ERR_NUMERIC, "this one: is not positive definite"));
    lode_matrix_destroy(&matrix);

    for (int64_t i = 0; i < N * N; i++)
        a[i] = 0;
    matrix = scatter(grid, a, N, N);
    LODE_CHECK(lode_ridge_factor(matrix, 1e-3, &used, "zeros") == LODE_OK && used.lambda == 1e-3);
    lode_matrix_destroy(&matrix);
    a[5 * N + 3] = NAN;
    matrix = scatter(grid, a, N, N);
    LODE_CHECK(lode_check_fails(lode_ridge_factor(matrix, 1e-3, &used, "that one"),
                                LODE_ERR_NUMERIC, "that one: element [5, 3] is nan"));
    lode_matrix_destroy(&matrix);
    free(a);
}

/* --- spectra --------------------------------------------------------------------------------- */

/* Covariances of all channels, and their correlations; channel 17 never varies. */
static void correlate_serially(double *mean, double *moment, double *correlation) {
    for (int64_t j = 0; j < N; j++) {
        mean[j] = 0;
        for (int64_t t = 0; t < TOKENS; t++)
            mean[j] += j == 17 ? 0.125 : x[t * N + j];
        mean[j] /= TOKENS;
    }
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++) {
            const double a = i == 17 ? 0.125 : 0, b = j == 17 ? 0.125 : 0;
            moment[i * N + j] = i == 17 && j == 17 ? a * b
                                : i == 17          ? a * mean[j]
                                : j == 17          ? b * mean[i]
                                                   : second[i * N + j];
        }
    moment[17 * N + 17] *= 1 + 1e-15; /* what rounding may leave of no variance */
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++) {
            double covariance = 0, vi = 0, vj = 0;
            for (int64_t t = 0; t < TOKENS; t++) {
                const double p = x[t * N + i] - mean[i], q = x[t * N + j] - mean[j];
                covariance += p * q;
                vi += p * p;
                vj += q * q;
            }
            correlation[i * N + j] = i == 17 || j == 17 ? 0 : covariance / sqrt(vi) / sqrt(vj);
        }
}

static void eigenvalues_serially(const double *matrix, double *values) {
    const int n = N, size = 40 * N;
    double *a = new_array(N * N), *work = new_array(size), *ascending = new_array(N);
    int info;
    memcpy(a, matrix, N * N * sizeof *a);
    dsyev_("N", "L", &n, a, &n, ascending, work, &size, &info);
    LODE_REQUIRE(info == 0);
    for (int64_t i = 0; i < N; i++)
        values[i] = ascending[N - 1 - i];
    free(a);
    free(work);
    free(ascending);
}

static double *mean, *moment, *correlation, *spectrum; /* of correlate_serially, and eigenvalues */

static void test_spectrum(lode_grid_t *grid) {
    double *values = new_array(N);
    lode_matrix_t *matrix = scatter(grid, moment, N, N);
    LODE_CHECK(lode_spectrum_centre(matrix, mean, 1e-13) == LODE_OK);
    LODE_CHECK(lode_spectrum_correlation(matrix) == LODE_OK);
    double *whole = gather(matrix);
    LODE_CHECK(!whole || close_to("correlation", whole, correlation, N * N, 1e-12, 0));
    for (int64_t i = 0; whole && i < N; i++)
        LODE_CHECK(whole[i * N + i] == (i == 17 ? 0 : 1));
    LODE_CHECK(lode_spectrum_eigenvalues(matrix, values, "test") == LODE_OK);
    LODE_CHECK(close_to("eigenvalues", values, spectrum, N, 1e-10 * spectrum[0], 0));
    values[3] = INFINITY;
    lode_matrix_set_diagonal(matrix, values);
    LODE_CHECK(lode_check_fails(lode_spectrum_eigenvalues(matrix, values, "this one"),
                                LODE_ERR_NUMERIC, "this one: element [3, 3] is inf"));
    lode_matrix_destroy(&matrix);
    LODE_REQUIRE(lode_matrix_create(&matrix, grid, 1, 1, 0) == LODE_OK);
    lode_matrix_add_diagonal(matrix, 3);
    LODE_CHECK(lode_spectrum_eigenvalues(matrix, values, "one") == LODE_OK && values[0] == 3);
    lode_matrix_destroy(&matrix);
    free(whole);
    free(values);
}

/* A factor has the spectrum of its product, standing and lying. */
static void test_factor_spectrum(lode_grid_t *grid) {
    double *rows = new_array(TOKENS * N), *values = new_array(TOKENS + N);
    memcpy(rows, x, TOKENS * N * sizeof *rows);
    for (int64_t t = 0; t < TOKENS; t++)
        rows[t * N + 17] = 0.1f;
    lode_matrix_t *tall = scatter(grid, rows, TOKENS, N), *wide = NULL;
    LODE_CHECK(lode_spectrum_standardise(tall) == LODE_OK);
    double *standard = gather(tall);
    for (int64_t t = 0; standard && t < TOKENS; t++)
        LODE_CHECK(standard[t * N + 17] == 0);
    LODE_CHECK(lode_spectrum_of_factor(tall, values, "tall") == LODE_OK);
    LODE_CHECK(close_to("of a tall factor", values, spectrum, N, 1e-10 * spectrum[0], 0));
    LODE_REQUIRE(lode_matrix_create(&wide, grid, N, TOKENS, tall->block) == LODE_OK);
    LODE_CHECK(lode_matrix_transpose(wide, tall) == LODE_OK);
    LODE_CHECK(lode_spectrum_of_factor(wide, values, "wide") == LODE_OK);
    LODE_CHECK(close_to("of a wide factor", values, spectrum, N, 1e-10 * spectrum[0], 0));
    for (int64_t i = N; i < TOKENS; i++)
        LODE_CHECK(values[i] == 0);
    lode_matrix_destroy(&tall);
    lode_matrix_destroy(&wide);
    free(standard);
    free(rows);
    free(values);
}

static void test_effective_rank(void) {
    const double even[] = {2, 2, 2, 2, -1e-17}, lone[] = {5, 0, -1e-15}, none[] = {0, 0};
    const double halves[] = {3, 1};
    double rank;
    LODE_CHECK(lode_spectrum_effective_rank(&rank, even, 5, "test") == LODE_OK);
    LODE_CHECK(fabs(rank - 4) < 1e-14);
    LODE_CHECK(lode_spectrum_effective_rank(&rank, lone, 3, "test") == LODE_OK && rank == 1);
    LODE_CHECK(lode_spectrum_effective_rank(&rank, none, 2, "test") == LODE_OK && isnan(rank));
    LODE_CHECK(lode_spectrum_effective_rank(&rank, none, 0, "test") == LODE_OK && isnan(rank));
    LODE_CHECK(lode_spectrum_effective_rank(&rank, halves, 2, "test") == LODE_OK);
    LODE_CHECK(fabs(rank - exp(-0.75 * log(0.75) - 0.25 * log(0.25))) < 1e-14);
}

/* Grids of more than half of the ranks; smaller ones are tried where there are fewer ranks. */
static bool worth_trying(int places) {
    return places <= world.size && (places == 0 ? world.size == 5 : 2 * places > world.size);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    world = lode_comm_describe(MPI_COMM_WORLD);
    lode_test_temporary_shared(folder, sizeof folder, &world);
    lode_set_threads(1);
    make_data();
    mean = new_array(N);
    moment = new_array(N * N);
    correlation = new_array(N * N);
    spectrum = new_array(N);
    correlate_serially(mean, moment, correlation);
    eigenvalues_serially(correlation, spectrum);
    test_effective_rank();
    for (int g = 0; g < GRIDS; g++) {
        lode_grid_t *grid;
        if (!worth_trying(grids[g][0] * grids[g][1]))
            continue;
        LODE_REQUIRE(lode_grid_create(&grid, &world, grids[g][0], grids[g][1]) == LODE_OK);
        test_gram(grid);
        test_cross(grid);
        test_packed(grid);
        test_ridge(grid);
        test_raised(grid);
        test_spectrum(grid);
        test_factor_spectrum(grid);
        lode_grid_destroy(&grid);
    }
    double *arrays[] = {x, second, mean, moment, correlation, spectrum};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
