/* Distributed matrices on every grid that the ranks allow, ranks beyond the grid included: rows in
 * and out, selections, Gram matrices, factorisations and spectra against plain loops and LAPACK on
 * one rank. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "linalg/grid.h"
#include "linalg/matrix.h"
#include "testing/check.h"
#include "testing/compare.h"

static lode_comm_t world;

/* Grids to try: what fits into the ranks there are. */
static const int grids[][2] = {{0, 0}, {1, 1}, {1, 2}, {2, 1}, {2, 2}, {1, 3}, {2, 3}, {3, 2}};
enum { GRIDS = sizeof grids / sizeof *grids };

/* Element (i, j) of test matrix `which`, in [−1, 1). */
static double value(int which, int64_t i, int64_t j) {
    const uint64_t key = lode_random_key(which, "linalg test", i, 0);
    return 2 * lode_random_uniform(key, (uint64_t)j) - 1;
}

/* --- rows in and out ------------------------------------------------------------------------- */

typedef struct rows {
    int which;
    int64_t columns;
    bool below;      /* look at the lower triangle only */
    int64_t seen;    /* rows */
    int64_t wrong;   /* elements */
    int64_t last;    /* row */
    int64_t fail_at; /* row to fail at, −1 never */
    const int32_t *row_index, *column_index;
} rows_t;

static lode_status_t fill(void *context, int64_t first, int64_t count, double *panel) {
    rows_t *rows = context;
    for (int64_t i = 0; i < count; i++) {
        if (first + i == rows->fail_at)
            return lode_fail(LODE_ERR_IO, "row %lld cannot be read", (long long)(first + i));
        for (int64_t j = 0; j < rows->columns; j++)
            panel[i * rows->columns + j] = value(rows->which, first + i, j);
    }
    return LODE_OK;
}

static lode_status_t take(void *context, int64_t first, int64_t count, const double *panel) {
    rows_t *rows = context;
    rows->wrong += first < rows->last; /* rows come in ascending order */
    rows->last = first + count;
    rows->seen += count;
    for (int64_t i = 0; i < count; i++) {
        if (first + i == rows->fail_at)
            return lode_fail(LODE_ERR_IO, "row %lld cannot be written", (long long)(first + i));
        for (int64_t j = 0; j < (rows->below ? first + i + 1 : rows->columns); j++) {
            const int64_t row = rows->row_index ? rows->row_index[first + i] : first + i;
            const int64_t column = rows->column_index ? rows->column_index[j] : j;
            rows->wrong += panel[i * rows->columns + j] != value(rows->which, row, column);
        }
    }
    return LODE_OK;
}

static int64_t total(int64_t mine) {
    int64_t all;
    MPI_Allreduce(&mine, &all, 1, MPI_INT64_T, MPI_SUM, world.comm);
    return all;
}

static lode_matrix_t *filled(lode_grid_t *grid, int which, int64_t rows, int64_t columns,
                             int64_t block, int root) {
    lode_matrix_t *matrix;
    rows_t context = {.which = which, .columns = columns, .fail_at = -1};
    LODE_REQUIRE(lode_matrix_create(&matrix, grid, rows, columns, block) == LODE_OK);
    LODE_REQUIRE(lode_matrix_from_rows(matrix, root, fill, &context) == LODE_OK);
    return matrix;
}

static void check_local(const lode_matrix_t *matrix, int which) {
    int64_t wrong = 0;
    for (int64_t j = 0; j < matrix->local_columns; j++)
        for (int64_t i = 0; i < matrix->local_rows; i++)
            wrong += matrix->data[j * matrix->stride + i] !=
                     value(which, lode_matrix_global_row(matrix, i),
                           lode_matrix_global_column(matrix, j));
    LODE_CHECK(wrong == 0);
    LODE_CHECK(total(matrix->local_rows * matrix->local_columns) == matrix->rows * matrix->columns);
}

static void check_rows(const lode_matrix_t *matrix, rows_t rows, int root) {
    rows.fail_at = -1;
    LODE_CHECK(lode_matrix_to_rows(matrix, root, take, &rows) == LODE_OK);
    LODE_CHECK(rows.wrong == 0);
    LODE_CHECK(total(rows.seen) == matrix->rows);
    LODE_CHECK(root == LODE_MATRIX_ALL_RANKS || rows.seen == 0 || world.rank == root);
}

static void test_rows(lode_grid_t *grid) {
    static const int64_t shapes[][3] = {
        {1, 1, 4}, {13, 29, 4}, {40, 7, 3}, {64, 64, 16}, {5, 90, 64}};
    for (int s = 0; s < 5; s++)
        for (int r = 0; r < 2; r++) {
            const int root = r == 0 ? LODE_MATRIX_ALL_RANKS : world.size - 1;
            lode_grid_set_panel(grid, s == 1 ? 30 : 200); /* several rounds */
            lode_matrix_t *matrix = filled(grid, s, shapes[s][0], shapes[s][1], shapes[s][2], root);
            check_local(matrix, s);
            check_rows(matrix, (rows_t){.which = s, .columns = shapes[s][1]}, root);
            lode_matrix_destroy(&matrix);
        }
    lode_grid_set_panel(grid, LODE_GRID_PANEL);
}

/* A rank that fails while rows move, in any round, is everybody's failure. */
static void test_faults(lode_grid_t *grid) {
    rows_t rows = {.which = 1, .columns = 20, .fail_at = 33};
    lode_matrix_t *matrix;
    lode_grid_set_panel(grid, 60);
    LODE_REQUIRE(lode_matrix_create(&matrix, grid, 50, 20, 8) == LODE_OK);
    LODE_CHECK(lode_check_fails(lode_matrix_from_rows(matrix, LODE_MATRIX_ALL_RANKS, fill, &rows),
                                LODE_ERR_IO, "row 33 cannot be read"));
    LODE_CHECK(lode_check_fails(lode_matrix_to_rows(matrix, LODE_MATRIX_ALL_RANKS, take, &rows),
                                LODE_ERR_IO, "row 33 cannot be written"));
    lode_grid_set_panel(grid, LODE_GRID_PANEL);
    LODE_CHECK(lode_check_fails(lode_matrix_to_rows_below(matrix, 0, take, &rows),
                                LODE_ERR_INTERNAL, "not square"));
    lode_matrix_destroy(&matrix);
}

/* --- copies ---------------------------------------------------------------------------------- */

static void test_select(lode_grid_t *grid) {
    enum { N = 37, ROWS = 21, COLUMNS = 30 };
    int32_t row_index[ROWS], column_index[COLUMNS];
    for (int i = 0; i < ROWS; i++)
        row_index[i] = (11 * i + 5) % N;
    for (int j = 0; j < COLUMNS; j++)
        column_index[j] = j < 20 ? j + 4 : 3; /* ascending, then the same again and again */
    lode_matrix_t *matrix = filled(grid, 3, N, N, 4, LODE_MATRIX_ALL_RANKS), *selection;
    LODE_REQUIRE(lode_matrix_create(&selection, grid, ROWS, COLUMNS, 5) == LODE_OK);
    lode_grid_set_panel(grid, 50);
    LODE_CHECK(lode_matrix_select(selection, matrix, row_index, column_index) == LODE_OK);
    check_rows(
        selection,
        (rows_t){
            .which = 3, .columns = COLUMNS, .row_index = row_index, .column_index = column_index},
        LODE_MATRIX_ALL_RANKS);
    LODE_CHECK(lode_matrix_select(selection, matrix, NULL, column_index) == LODE_OK);
    check_rows(selection, (rows_t){.which = 3, .columns = COLUMNS, .column_index = column_index},
               0);
    row_index[7] = N;
    LODE_CHECK(lode_check_fails(lode_matrix_select(selection, matrix, row_index, NULL),
                                LODE_ERR_INTERNAL, "row or column 37 of 37"));
    lode_grid_set_panel(grid, LODE_GRID_PANEL);
    lode_matrix_destroy(&selection);
    lode_matrix_destroy(&matrix);
}

/* The elements of a local share against value(which, i, j) or, transposed, value(which, j, i). */
static int64_t wrong_elements(const lode_matrix_t *matrix, int which, bool symmetric,
                              bool transposed) {
    int64_t wrong = 0;
    for (int64_t lj = 0; lj < matrix->local_columns; lj++)
        for (int64_t li = 0; li < matrix->local_rows; li++) {
            const int64_t i = lode_matrix_global_row(matrix, li);
            const int64_t j = lode_matrix_global_column(matrix, lj);
            const bool swap = symmetric ? (transposed ? i > j : i < j) : transposed;
            wrong += matrix->data[lj * matrix->stride + li] !=
                     (swap ? value(which, j, i) : value(which, i, j));
        }
    return wrong;
}

static void test_transposes(lode_grid_t *grid) {
    lode_matrix_t *matrix = filled(grid, 4, 26, 41, 6, 0), *transpose, *square;
    lode_grid_set_panel(grid, 40);
    LODE_REQUIRE(lode_matrix_create(&transpose, grid, 41, 26, 6) == LODE_OK);
    LODE_CHECK(lode_matrix_transpose(transpose, matrix) == LODE_OK);
    LODE_CHECK(wrong_elements(transpose, 4, false, true) == 0);
    LODE_CHECK(
        lode_check_fails(lode_matrix_transpose(matrix, matrix), LODE_ERR_INTERNAL, "26 × 41"));
    for (int upper = 0; upper < 2; upper++) {
        square = filled(grid, 5, 45, 45, 4, LODE_MATRIX_ALL_RANKS);
        LODE_CHECK(lode_matrix_symmetrise(square, upper) == LODE_OK);
        LODE_CHECK(wrong_elements(square, 5, true, upper) == 0);
        lode_matrix_destroy(&square);
    }
    square = filled(grid, 6, 30, 30, 4, LODE_MATRIX_ALL_RANKS);
    rows_t rows = {.which = 6, .columns = 30, .below = true, .fail_at = -1};
    LODE_CHECK(lode_matrix_to_rows_below(square, LODE_MATRIX_ALL_RANKS, take, &rows) == LODE_OK);
    LODE_CHECK(rows.wrong == 0 && total(rows.seen) == 30);
    LODE_CHECK(lode_check_fails(lode_matrix_symmetrise(transpose, false), LODE_ERR_INTERNAL,
                                "not square"));
    lode_grid_set_panel(grid, LODE_GRID_PANEL);
    lode_matrix_destroy(&square);
    lode_matrix_destroy(&transpose);
    lode_matrix_destroy(&matrix);
}

/* --- arithmetic ------------------------------------------------------------------------------ */

static void test_product(lode_grid_t *grid) {
    enum { M = 23, N = 31, K = 17 };
    for (int form = 0; form < 4; form++) {
        const bool ta = form & 1, tb = form & 2;
        lode_matrix_t *a = filled(grid, 7, ta ? K : M, ta ? M : K, 4, 0);
        lode_matrix_t *b = filled(grid, 8, tb ? N : K, tb ? K : N, 4, 0);
        lode_matrix_t *c = filled(grid, 9, M, N, 4, 0);
        LODE_CHECK(lode_matrix_multiply(c, 1.5, a, ta, b, tb, -0.5) == LODE_OK);
        double worst = 0;
        for (int64_t lj = 0; lj < c->local_columns; lj++)
            for (int64_t li = 0; li < c->local_rows; li++) {
                const int64_t i = lode_matrix_global_row(c, li);
                const int64_t j = lode_matrix_global_column(c, lj);
                double sum = -0.5 * value(9, i, j);
                for (int64_t k = 0; k < K; k++)
                    sum += 1.5 * (ta ? value(7, k, i) : value(7, i, k)) *
                           (tb ? value(8, j, k) : value(8, k, j));
                worst = fmax(worst, fabs(sum - c->data[lj * c->stride + li]));
            }
        LODE_CHECK(worst < 1e-13);
        LODE_CHECK(lode_check_fails(lode_matrix_multiply(a, 1, c, false, b, tb, 0),
                                    LODE_ERR_INTERNAL, "was expected"));
        lode_matrix_destroy(&a);
        lode_matrix_destroy(&b);
        lode_matrix_destroy(&c);
    }
}

static void test_diagonal(lode_grid_t *grid) {
    enum { N = 33 };
    lode_matrix_t *matrix = filled(grid, 10, N, N, 4, LODE_MATRIX_ALL_RANKS);
    double diagonal[N], trace, sum = 0;
    lode_matrix_scale(matrix, 2);
    lode_matrix_add_diagonal(matrix, 0.25);
    LODE_CHECK(lode_matrix_diagonal(matrix, diagonal) == LODE_OK);
    LODE_CHECK(lode_matrix_trace(matrix, &trace) == LODE_OK);
    for (int64_t i = 0; i < N; i++) {
        LODE_CHECK(diagonal[i] == 2 * value(10, i, i) + 0.25);
        sum += diagonal[i];
    }
    LODE_CHECK(trace == sum);
    LODE_CHECK(lode_matrix_check_finite(matrix, "the test matrix") == LODE_OK);
    diagonal[20] = NAN;
    diagonal[29] = INFINITY;
    lode_matrix_set_diagonal(matrix, diagonal);
    LODE_CHECK(lode_check_fails(lode_matrix_check_finite(matrix, "the test matrix"),
                                LODE_ERR_NUMERIC, "the test matrix: element [20, 20] is nan"));
    lode_matrix_destroy(&matrix);
}

/* --- the grid -------------------------------------------------------------------------------- */

static void test_choice(void) {
    static const int expected[][3] = {{1, 1, 1},  {2, 1, 2},  {3, 1, 3},  {4, 2, 2},
                                      {5, 2, 2},  {6, 2, 3},  {8, 2, 4},  {11, 2, 5},
                                      {13, 3, 4}, {64, 8, 8}, {96, 8, 12}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        int rows, columns;
        lode_grid_choose(expected[i][0], &rows, &columns);
        LODE_CHECK(rows == expected[i][1] && columns == expected[i][2]);
    }
    lode_grid_t *grid;
    LODE_CHECK(lode_check_fails(lode_grid_create(&grid, &world, 1, world.size + 1),
                                LODE_ERR_INTERNAL, "cannot be laid over"));
    LODE_CHECK(grid == NULL);
}

/* No rank of several holds the whole. */
static void test_share(lode_grid_t *grid) {
    int rows, columns;
    lode_matrix_t *matrix;
    lode_grid_shape(grid, &rows, &columns);
    LODE_REQUIRE(lode_matrix_create(&matrix, grid, 1000, 1000, 0) == LODE_OK);
    const int64_t bytes = matrix->local_rows * matrix->local_columns * (int64_t)sizeof(double);
    LODE_CHECK(bytes <= lode_matrix_bytes(rows, columns, 1000, 1000, 0));
    if (rows * columns > 1) {
        LODE_CHECK(bytes < 8 * 1000 * 1000);
        LODE_CHECK(bytes * rows * columns < 8 * 1000 * 1000 * 3 / 2);
    }
    LODE_CHECK(lode_grid_member(grid) == (world.rank < rows * columns));
    LODE_CHECK(lode_grid_member(grid) || bytes == 0);
    lode_matrix_destroy(&matrix);
    LODE_CHECK(lode_check_fails(lode_matrix_create(&matrix, grid, 1000000, 1000000, 0),
                                LODE_ERR_UNSUPPORTED, "take more ranks"));
    LODE_CHECK(matrix == NULL);
    LODE_CHECK(lode_matrix_create(&matrix, grid, 0, 5, 0) == LODE_OK);
    lode_matrix_destroy(&matrix);
}

/* Grids of more than half of the ranks; smaller ones are tried where there are fewer ranks. */
static bool worth_trying(int places) {
    return places <= world.size && (places == 0 ? world.size == 5 : 2 * places > world.size);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    world = lode_comm_describe(MPI_COMM_WORLD);
    test_choice();
    for (int g = 0; g < GRIDS; g++) {
        lode_grid_t *grid;
        if (!worth_trying(grids[g][0] * grids[g][1]))
            continue;
        LODE_REQUIRE(lode_grid_create(&grid, &world, grids[g][0], grids[g][1]) == LODE_OK);
        test_share(grid);
        test_rows(grid);
        test_faults(grid);
        test_select(grid);
        test_transposes(grid);
        test_product(grid);
        test_diagonal(grid);
        lode_grid_destroy(&grid);
    }
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
