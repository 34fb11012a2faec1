/* Second moments from a scratch file, and least-squares compensation, on any number of ranks:
 * against plain loops, and the same bits as on one rank where that is promised. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "common/moment.h"
#include "common/spool.h"
#include "linalg/compensation.h"
#include "testing/check.h"
#include "testing/compare.h"
#include "testing/temporary.h"

static lode_comm_t world;

/* Element (i, j) of test matrix `which`, in [−1, 1). */
static double value(int which, int64_t i, int64_t j) {
    const uint64_t key = lode_random_key(which, "compensation test", i, 0);
    return 2 * lode_random_uniform(key, (uint64_t)j) - 1;
}

/* A failure of status `expected` on all ranks, with `part` in the message. */
static bool fails(lode_status_t status, lode_status_t expected, const char *part) {
    int mine = (int)status, least, most;
    MPI_Allreduce(&mine, &least, 1, MPI_INT, MPI_MIN, world.comm);
    MPI_Allreduce(&mine, &most, 1, MPI_INT, MPI_MAX, world.comm);
    return least == most && status == expected && strstr(lode_error_message(), part);
}

/* --- the scratch file ------------------------------------------------------------------------ */

enum { TOKENS = 611, AT_ONCE = 47 };
static const int64_t widths[] = {5, 128, 300};
enum { ARRAYS = sizeof widths / sizeof *widths };

static const char *array_name(int array) {
    static const char *const names[ARRAYS] = {"a", "group/b", "group/c"};
    return names[array];
}

static void fill_rows(int which, int64_t first, int64_t rows, int64_t width, float *x) {
    for (int64_t t = 0; t < rows; t++)
        for (int64_t j = 0; j < width; j++)
            x[t * width + j] = (float)value(which, first + t, j);
}

/* A spool with all arrays; every rank of `run` has written its share of the pieces. */
static lode_spool_t *written(const lode_run_t *run) {
    lode_spool_t *spool;
    static float x[AT_ONCE * 300];
    LODE_REQUIRE(lode_spool_create(&spool, run, LODE_STAGE_COMPENSATE, TOKENS, AT_ONCE) == LODE_OK);
    for (int a = 0; a < ARRAYS; a++)
        LODE_REQUIRE(lode_spool_add(spool, array_name(a), widths[a]) == LODE_OK);
    for (int64_t first = 0, piece = 0; first < TOKENS; first += AT_ONCE, piece++) {
        const int64_t rows = first + AT_ONCE < TOKENS ? AT_ONCE : TOKENS - first;
        for (int a = 0; a < ARRAYS && piece % run->comm->size == run->comm->rank; a++) {
            fill_rows(a, first, rows, widths[a], x);
            LODE_REQUIRE(lode_spool_write(spool, array_name(a), first, rows, x) == LODE_OK);
        }
    }
    LODE_REQUIRE(lode_spool_synchronise(spool) == LODE_OK);
    return spool;
}

static void check_columns(lode_spool_t *spool, int array, int64_t first, int64_t rows,
                          int64_t column, int64_t columns) {
    float *x = NULL;
    int64_t wrong = 0;
    LODE_REQUIRE(LODE_NEW(&x, rows * columns, "columns") == LODE_OK);
    LODE_REQUIRE(lode_spool_read_columns(spool, array_name(array), first, rows, column, columns,
                                         x) == LODE_OK);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t j = 0; j < columns; j++)
            wrong += x[t * columns + j] != (float)value(array, first + t, column + j);
    LODE_CHECK(wrong == 0);
    free(x);
}

static void test_spool(const char *folder) {
    char copy[256], path[512];
    snprintf(copy, sizeof copy, "%s", folder);
    snprintf(path, sizeof path, "%s/compensate-scratch.h5.partial", folder);
    const lode_run_t run = {.comm = &world, .folder = copy};
    lode_spool_t *spool = written(&run);
    static float x[AT_ONCE * 300], want[AT_ONCE * 300];
    for (int a = 0; a < ARRAYS; a++) {
        LODE_REQUIRE(lode_spool_read(spool, array_name(a), 33, AT_ONCE, x) == LODE_OK);
        fill_rows(a, 33, AT_ONCE, widths[a], want);
        LODE_CHECK(memcmp(x, want, (size_t)(AT_ONCE * widths[a]) * sizeof *x) == 0);
        check_columns(spool, a, 0, TOKENS, 0, widths[a]);
        check_columns(spool, a, 100, 256, 1, widths[a] - 1);
        check_columns(spool, a, 5, 1, widths[a] - 1, 1);
    }
    check_columns(spool, 2, 7, 200, 100, 180); /* over two edges of panels */
    check_columns(spool, 2, 7, 200, 128, 128); /* just one */
    LODE_CHECK(lode_file_exists(path));
    MPI_Barrier(world.comm);
    lode_spool_destroy(&spool, LODE_OK);
    LODE_CHECK(!lode_file_exists(path) && !spool);

    char missing[512];
    snprintf(missing, sizeof missing, "%s/missing", folder);
    const lode_run_t nowhere = {.comm = &world, .folder = missing};
    LODE_CHECK(fails(lode_spool_create(&spool, &nowhere, LODE_STAGE_COMPENSATE, 10, 10),
                     LODE_ERR_IO, "missing"));
    LODE_CHECK(!spool);
}

/* --- second moments -------------------------------------------------------------------------- */

/* Lower and upper triangle, of which this rank compares what it holds. */
static void check_moment(const lode_matrix_t *matrix, const lode_matrix_t *alone, int array) {
    int64_t wrong = 0;
    double worst = 0;
    for (int64_t lj = 0; lj < matrix->local_columns; lj++)
        for (int64_t li = 0; li < matrix->local_rows; li++) {
            const int64_t i = lode_matrix_global_row(matrix, li);
            const int64_t j = lode_matrix_global_column(matrix, lj);
            const double got = matrix->data[lj * matrix->stride + li];
            wrong += got != alone->data[j * alone->stride + i]; /* one rank holds all */
            wrong += got != alone->data[i * alone->stride + j];
            double sum = 0;
            for (int64_t t = 0; t < TOKENS && (i + j) % 17 == 0; t++)
                sum += (double)(float)value(array, t, i) * (double)(float)value(array, t, j);
            if ((i + j) % 17 == 0)
                worst = fmax(worst, fabs(got - sum / TOKENS));
        }
    LODE_CHECK(wrong == 0);
    LODE_CHECK(worst < 1e-14);
}

static void test_moment(const char *folder) {
    char copy[256], own[256];
    snprintf(copy, sizeof copy, "%s", folder);
    snprintf(own, sizeof own, "%s", lode_test_temporary());
    const lode_comm_t self = lode_comm_describe(MPI_COMM_SELF);
    const lode_run_t run = {.comm = &world, .folder = copy},
                     by_itself = {.comm = &self, .folder = own};
    lode_spool_t *spool = written(&run), *own_spool = written(&by_itself);
    lode_grid_t *grid, *own_grid;
    LODE_REQUIRE(lode_grid_create(&grid, &world, 0, 0) == LODE_OK);
    LODE_REQUIRE(lode_grid_create(&own_grid, &self, 0, 0) == LODE_OK);
    for (int a = 0; a < ARRAYS; a++) {
        lode_matrix_t *matrix, *alone;
        LODE_REQUIRE(lode_matrix_create(&matrix, grid, widths[a], widths[a], 0) == LODE_OK);
        LODE_REQUIRE(lode_matrix_create(&alone, own_grid, widths[a], widths[a], 0) == LODE_OK);
        lode_matrix_set(matrix, 7); /* what was there does not count */
        LODE_REQUIRE(lode_moment_of_spool(matrix, spool, array_name(a), TOKENS) == LODE_OK);
        LODE_REQUIRE(lode_moment_of_spool(alone, own_spool, array_name(a), TOKENS) == LODE_OK);
        check_moment(matrix, alone, a);
        lode_matrix_destroy(&matrix);
        lode_matrix_destroy(&alone);
    }
    lode_grid_destroy(&grid);
    lode_grid_destroy(&own_grid);
    lode_spool_destroy(&spool, LODE_OK);
    lode_spool_destroy(&own_spool, LODE_OK);
}

/* --- least squares --------------------------------------------------------------------------- */

enum { M = 90, D = 21, BLOCK = 16 };

/* One problem, whole on every rank, and the result on rank 0. */
typedef struct problem {
    double moment[M * M], down[D * M], out[D * M];
    uint8_t keep[M];
    int64_t kept;
    const double *source; /* of lode_matrix_from_rows */
    int64_t columns;
    lode_ridge_t used;
} problem_t;

static lode_status_t fill(void *context, int64_t first, int64_t rows, double *panel) {
    const problem_t *p = context;
    memcpy(panel, p->source + first * p->columns, (size_t)(rows * p->columns) * sizeof *panel);
    return LODE_OK;
}

static lode_status_t take(void *context, int64_t first, int64_t rows, const double *panel) {
    problem_t *p = context;
    memcpy(p->out + first * p->kept, panel, (size_t)(rows * p->kept) * sizeof *panel);
    return LODE_OK;
}

static lode_status_t solve(problem_t *p, lode_grid_t *grid, double ridge) {
    lode_matrix_t *moment, *down, *out;
    p->kept = 0;
    for (int64_t j = 0; j < M; j++)
        p->kept += p->keep[j];
    LODE_REQUIRE(lode_matrix_create(&moment, grid, M, M, BLOCK) == LODE_OK);
    LODE_REQUIRE(lode_matrix_create(&down, grid, D, M, BLOCK) == LODE_OK);
    LODE_REQUIRE(lode_matrix_create(&out, grid, D, p->kept, BLOCK) == LODE_OK);
    p->columns = M;
    p->source = p->moment;
    LODE_REQUIRE(lode_matrix_from_rows(moment, LODE_MATRIX_ALL_RANKS, fill, p) == LODE_OK);
    p->source = p->down;
    LODE_REQUIRE(lode_matrix_from_rows(down, world.size - 1, fill, p) == LODE_OK);
    lode_status_t status =
        lode_compensation_solve(out, moment, down, p->keep, ridge, &p->used, "the moment");
    if (status == LODE_OK)
        LODE_REQUIRE(lode_matrix_to_rows(out, 0, take, p) == LODE_OK);
    lode_matrix_destroy(&moment);
    lode_matrix_destroy(&down);
    lode_matrix_destroy(&out);
    return status;
}

/* E[u uᵀ] over `tokens` random tokens, of full rank where they are many. */
static void make_problem(problem_t *p, int64_t tokens) {
    memset(p->moment, 0, sizeof p->moment);
    for (int64_t t = 0; t < tokens; t++) {
        double u[M];
        for (int64_t j = 0; j < M; j++)
            u[j] = value(3, t, j);
        for (int64_t i = 0; i < M; i++)
            for (int64_t j = 0; j < M; j++)
                p->moment[i * M + j] += u[i] * u[j] / (double)tokens;
    }
    for (int64_t i = 0; i < D; i++)
        for (int64_t j = 0; j < M; j++)
            p->down[i * M + j] = value(4, i, j);
}

/* Largest element of (out − W_K)(C_KK + λI) − W_R·C_RK, over that of the last term: 0 at the
 * minimum. On rank 0. */
static double normal_residual(const problem_t *p) {
    double worst = 0, scale = 0;
    for (int64_t i = 0; i < D; i++)
        for (int64_t c = 0; c < M; c++) {
            if (!p->keep[c])
                continue;
            double lost = 0, made = 0;
            for (int64_t j = 0, k = 0; j < M; j++) {
                if (!p->keep[j]) {
                    lost += p->down[i * M + j] * p->moment[j * M + c];
                    continue;
                }
                const double change = p->out[i * p->kept + k++] - p->down[i * M + j];
                made += change * (p->moment[j * M + c] + (j == c ? p->used.lambda : 0));
            }
            worst = fmax(worst, fabs(made - lost));
            scale = fmax(scale, fabs(lost));
        }
    return worst / scale;
}

/* λ as it should be without raising. */
static double plain_lambda(const problem_t *p, double ridge) {
    double sum = 0;
    for (int64_t j = 0; j < M; j++)
        sum += p->keep[j] ? p->moment[j * M + j] : 0;
    return ridge * sum / (double)p->kept;
}

static void test_solve(lode_grid_t *grid) {
    static problem_t p;
    make_problem(&p, 4 * M);
    for (int kind = 0; kind < 4; kind++) { /* scattered, all but one, one, a block's worth */
        for (int64_t j = 0; j < M; j++)
            p.keep[j] = kind == 0   ? value(5, 0, j) > 0
                        : kind == 1 ? j != 40
                        : kind == 2 ? j == 40
                                    : j < BLOCK;
        LODE_CHECK(solve(&p, grid, 1e-3) == LODE_OK);
        LODE_CHECK(p.used.raised == 0);
        LODE_CHECK(fabs(p.used.lambda / plain_lambda(&p, 1e-3) - 1) < 1e-12);
        LODE_CHECK(world.rank != 0 || normal_residual(&p) < 1e-12);
    }
}

/* Where nothing is removed the weights stay; where nothing is kept there is nothing. */
static void test_nothing(lode_grid_t *grid) {
    static problem_t p;
    make_problem(&p, 2 * M);
    memset(p.keep, 1, sizeof p.keep);
    LODE_CHECK(solve(&p, grid, 1e-3) == LODE_OK);
    LODE_CHECK(p.used.lambda == 0);
    LODE_CHECK(world.rank != 0 || memcmp(p.out, p.down, sizeof p.down) == 0);
    memset(p.keep, 0, sizeof p.keep);
    LODE_CHECK(solve(&p, grid, 1e-3) == LODE_OK);
    LODE_CHECK(p.used.lambda == 0);
}

/* Removed channels that are sums of kept ones are made up for entirely. */
static void test_recovery(lode_grid_t *grid) {
    static problem_t p;
    static double u[4 * M][M];
    for (int64_t t = 0; t < 4 * M; t++)
        for (int64_t j = 0; j < M; j++) /* channel j of the last third is j − 30 + 2·(j − 60) */
            u[t][j] = j < 60 ? value(6, t, j) : u[t][j - 30] + 2 * u[t][j - 60];
    make_problem(&p, 1);
    memset(p.moment, 0, sizeof p.moment);
    for (int64_t t = 0; t < 4 * M; t++)
        for (int64_t i = 0; i < M; i++)
            for (int64_t j = 0; j < M; j++)
                p.moment[i * M + j] += u[t][i] * u[t][j];
    for (int64_t j = 0; j < M; j++)
        p.keep[j] = j < 60;
    LODE_CHECK(solve(&p, grid, 1e-13) == LODE_OK);
    double worst = 0;
    for (int64_t i = 0; i < D && world.rank == 0; i++)
        for (int64_t j = 0; j < 60; j++) {
            const double *w = p.down + i * M;
            const double want = w[j] + (j < 30 ? 2 * w[j + 60] : w[j + 30]);
            worst = fmax(worst, fabs(p.out[i * 60 + j] - want));
        }
    LODE_CHECK(worst < 1e-10);
}

/* Fewer tokens than channels: the ridge alone makes the system definite, and is raised where it is
 * too small for that. */
static void test_singular(lode_grid_t *grid) {
    static problem_t p;
    make_problem(&p, M / 4);
    for (int64_t j = 0; j < M; j++)
        p.keep[j] = j % 3 != 0;
    LODE_CHECK(solve(&p, grid, 1e-3) == LODE_OK);
    LODE_CHECK(p.used.raised == 0);
    LODE_CHECK(world.rank != 0 || normal_residual(&p) < 1e-11);
    LODE_CHECK(solve(&p, grid, 0) == LODE_OK);
    LODE_CHECK(p.used.raised > 0 && p.used.lambda > 0);
    LODE_CHECK(world.rank != 0 || normal_residual(&p) < 1e-9);
    /* A layer whose channels never fire loses nothing. */
    memset(p.moment, 0, sizeof p.moment);
    LODE_CHECK(solve(&p, grid, 1e-3) == LODE_OK);
    double worst = 0;
    for (int64_t i = 0; i < D && world.rank == 0; i++)
        for (int64_t j = 0, k = 0; j < M; j++)
            if (p.keep[j])
                worst = fmax(worst, fabs(p.out[i * p.kept + k++] - p.down[i * M + j]));
    LODE_CHECK(worst == 0);
    p.moment[4 * M + 2] = p.moment[2 * M + 4] = NAN;
    LODE_CHECK(fails(solve(&p, grid, 1e-3), LODE_ERR_NUMERIC, "the moment"));
}

static void test_memory(void) {
    const lode_config_t config = {.memory = 64 << 20};
    const lode_run_t run = {.comm = &world, .config = &config};
    LODE_CHECK(lode_moment_check_memory(&run, "least squares", 1000, 0, 0) == LODE_OK);
    LODE_CHECK(lode_moment_check_memory(&run, "least squares", 1000, 0, 65 << 20) ==
               LODE_ERR_MEMORY);
    LODE_CHECK(lode_moment_check_memory(&run, "least squares", 1000, 1 << 17, 0) ==
               LODE_ERR_MEMORY);
    LODE_CHECK(fails(lode_moment_check_memory(&run, "least squares", (int64_t)1 << 32, 0, 0),
                     LODE_ERR_MEMORY, "least squares needs"));
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    world = lode_comm_describe(MPI_COMM_WORLD);
    char folder[256] = "";
    lode_test_temporary_shared(folder, sizeof folder, &world);
    test_spool(folder);
    test_moment(folder);
    test_memory();
    lode_grid_t *grid;
    LODE_REQUIRE(lode_grid_create(&grid, &world, 0, 0) == LODE_OK);
    test_solve(grid);
    test_nothing(grid);
    test_recovery(grid);
    test_singular(grid);
    lode_grid_destroy(&grid);
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
