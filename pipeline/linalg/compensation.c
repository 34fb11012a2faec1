#include "linalg/compensation.h"

#include <stdlib.h>

#include "base/memory.h"
#include "linalg/internal.h"

/* One solve: matrices and index lists. */
typedef struct solve {
    lode_grid_t *grid;
    int64_t block, d, kept, removed;
    int32_t *keep, *remove;  /* [kept], [removed], one allocation at keep */
    lode_matrix_t *system;   /* [kept, kept] C[K,K], then its factor */
    lode_matrix_t *solution; /* [kept, d] C[K,R]·Wdown[:,R]ᵀ, then (C[K,K] + λI)⁻¹ times it */
} solve_t;

int64_t lode_compensation_elements(int64_t m, int64_t d) {
    /* C, C[K,K] and C[K,R] are largest together where all but few are kept; Wdown, its columns of K
     * and R, the result, the right-hand sides and their transpose. */
    return 2 * m * m + 5 * m * d;
}

static lode_status_t list_channels(solve_t *solve, const uint8_t *keep, int64_t m) {
    LODE_TRY(LODE_NEW(&solve->keep, m, "channels"));
    for (int64_t j = 0; j < m; j++)
        if (keep[j])
            solve->keep[solve->kept++] = (int32_t)j;
    solve->remove = solve->keep + solve->kept;
    for (int64_t j = 0; j < m; j++)
        if (!keep[j])
            solve->remove[solve->removed++] = (int32_t)j;
    return LODE_OK;
}

/* solution = C[K,R]·Wdown[:,R]ᵀ. */
static lode_status_t right_sides(solve_t *solve, const lode_matrix_t *moment,
                                 const lode_matrix_t *down) {
    lode_matrix_t *cross = NULL, *lost = NULL;
    lode_status_t status;
    LODE_GUARD(status,
               lode_matrix_create(&cross, solve->grid, solve->kept, solve->removed, solve->block),
               done);
    LODE_GUARD(status,
               lode_matrix_create(&lost, solve->grid, solve->d, solve->removed, solve->block),
               done);
    LODE_GUARD(status, lode_matrix_select(cross, moment, solve->keep, solve->remove), done);
    LODE_GUARD(status, lode_matrix_select(lost, down, NULL, solve->remove), done);
    status = lode_matrix_multiply(solve->solution, 1, cross, false, lost, true, 0);
done:
    lode_matrix_destroy(&cross);
    lode_matrix_destroy(&lost);
    return status;
}

/* out += solutionᵀ; a transpose of the same shape and block lies as `out` does. */
static lode_status_t add_solution(lode_matrix_t *out, const solve_t *solve) {
    lode_matrix_t *change;
    LODE_TRY(lode_matrix_create(&change, solve->grid, solve->d, solve->kept, solve->block));
    const lode_status_t status = lode_matrix_transpose(change, solve->solution);
    if (status == LODE_OK)
        for (int64_t j = 0; j < out->local_columns; j++)
            for (int64_t i = 0; i < out->local_rows; i++)
                out->data[j * out->stride + i] += change->data[j * change->stride + i];
    lode_matrix_destroy(&change);
    return status;
}

static lode_status_t run(solve_t *solve, lode_matrix_t *out, const lode_matrix_t *moment,
                         const lode_matrix_t *down, double ridge, lode_ridge_t *used,
                         const char *what) {
    LODE_ASSERT(out->columns == solve->kept);
    LODE_TRY(lode_matrix_select(out, down, NULL, solve->keep));
    if (solve->kept == 0 || solve->removed == 0)
        return LODE_OK;
    LODE_TRY(
        lode_matrix_create(&solve->solution, solve->grid, solve->kept, solve->d, solve->block));
    LODE_TRY(right_sides(solve, moment, down));
    LODE_TRY(
        lode_matrix_create(&solve->system, solve->grid, solve->kept, solve->kept, solve->block));
    LODE_TRY(lode_matrix_select(solve->system, moment, solve->keep, solve->keep));
    LODE_TRY(lode_ridge_factor(solve->system, ridge, used, what));
    LODE_TRY(lode_cholesky_solve(solve->system, solve->solution));
    lode_matrix_destroy(&solve->system);
    return add_solution(out, solve);
}

lode_status_t lode_compensation_solve(lode_matrix_t *out, const lode_matrix_t *moment,
                                      const lode_matrix_t *down, const uint8_t *keep, double ridge,
                                      lode_ridge_t *used, const char *what) {
    solve_t solve = {.grid = out->grid, .block = out->block, .d = down->rows};
    *used = (lode_ridge_t){0};
    lode_status_t status =
        lode_comm_agree(&out->grid->comm, list_channels(&solve, keep, down->columns));
    if (status == LODE_OK)
        status = run(&solve, out, moment, down, ridge, used, what);
    free(solve.keep);
    lode_matrix_destroy(&solve.system);
    lode_matrix_destroy(&solve.solution);
    return status;
}
