#include "linalg/matrix.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "linalg/internal.h"
#include "linalg/scalapack.h"

/* --- life ------------------------------------------------------------------------------------ */

/* How many of `count` indices part `part` of `parts` holds (ScaLAPACK's NUMROC). */
static int64_t share(int64_t count, int64_t block, int part, int parts) {
    const int64_t blocks = count / block; /* whole ones */
    const int64_t extra = blocks % parts;
    int64_t held = blocks / parts * block;
    if (part < extra)
        held += block;
    else if (part == extra)
        held += count % block;
    return held;
}

int64_t lode_matrix_bytes(int grid_rows, int grid_columns, int64_t rows, int64_t columns,
                          int64_t block) {
    if (block == 0)
        block = LODE_MATRIX_BLOCK;
    return share(rows, block, 0, grid_rows) * share(columns, block, 0, grid_columns) *
           (int64_t)sizeof(double);
}

static lode_status_t describe(lode_matrix_t *matrix) {
    int rows, columns, block, stride;
    LODE_TRY(lode_narrow(&rows, matrix->rows, "matrix rows"));
    LODE_TRY(lode_narrow(&columns, matrix->columns, "matrix columns"));
    LODE_TRY(lode_narrow(&block, matrix->block, "matrix block"));
    LODE_TRY(lode_narrow(&stride, matrix->stride, "matrix stride"));
    /* type (dense), grid, shape, blocks, where it starts, leading dimension */
    const int descriptor[9] = {1, matrix->grid->context, rows, columns, block, block, 0, 0, stride};
    memcpy(matrix->descriptor, descriptor, sizeof descriptor);
    return LODE_OK;
}

static lode_status_t allocate(lode_matrix_t *matrix) {
    const lode_grid_t *grid = matrix->grid;
    if (lode_grid_member(grid)) {
        matrix->local_rows = share(matrix->rows, matrix->block, grid->row, grid->rows);
        matrix->local_columns = share(matrix->columns, matrix->block, grid->column, grid->columns);
    }
    matrix->stride = matrix->local_rows > 0 ? matrix->local_rows : 1;
    LODE_TRY(describe(matrix));
    if (matrix->local_columns > INT_MAX / matrix->stride)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "a matrix of %lld × %lld over %d × %d ranks leaves each more elements "
                         "than ScaLAPACK can count; take more ranks",
                         (long long)matrix->rows, (long long)matrix->columns, grid->rows,
                         grid->columns);
    if (matrix->local_rows == 0)
        return LODE_OK;
    return LODE_NEW(&matrix->data, matrix->local_columns * matrix->stride, "distributed matrix");
}

lode_status_t lode_matrix_create(lode_matrix_t **out, lode_grid_t *grid, int64_t rows,
                                 int64_t columns, int64_t block) {
    *out = NULL;
    if (rows < 0 || columns < 0 || block < 0)
        return lode_fail(LODE_ERR_INTERNAL, "a matrix of %lld × %lld in blocks of %lld",
                         (long long)rows, (long long)columns, (long long)block);
    lode_matrix_t *matrix = NULL;
    lode_status_t status = LODE_NEW(&matrix, 1, "matrix");
    if (status == LODE_OK) {
        *matrix = (lode_matrix_t){.grid = grid,
                                  .rows = rows,
                                  .columns = columns,
                                  .block = block > 0 ? block : LODE_MATRIX_BLOCK};
        status = allocate(matrix);
    }
    status = lode_comm_agree(&grid->comm, status);
    if (status != LODE_OK)
        lode_matrix_destroy(&matrix);
    *out = matrix;
    return status;
}

void lode_matrix_destroy(lode_matrix_t **matrix) {
    if (!*matrix)
        return;
    free((*matrix)->data);
    free(*matrix);
    *matrix = NULL;
}

static int64_t global(int64_t local, int64_t block, int part, int parts) {
    return (local / block * parts + part) * block + local % block;
}

int64_t lode_matrix_global_row(const lode_matrix_t *matrix, int64_t local) {
    return global(local, matrix->block, matrix->grid->row, matrix->grid->rows);
}

int64_t lode_matrix_global_column(const lode_matrix_t *matrix, int64_t local) {
    return global(local, matrix->block, matrix->grid->column, matrix->grid->columns);
}

static lode_status_t require_square(const lode_matrix_t *matrix) {
    if (matrix->rows == matrix->columns)
        return LODE_OK;
    return lode_fail(LODE_ERR_INTERNAL, "a matrix of %lld × %lld is not square",
                     (long long)matrix->rows, (long long)matrix->columns);
}

static lode_status_t require_shape(const lode_matrix_t *matrix, int64_t rows, int64_t columns) {
    if (matrix->rows == rows && matrix->columns == columns)
        return LODE_OK;
    return lode_fail(LODE_ERR_INTERNAL, "a matrix of %lld × %lld where %lld × %lld was expected",
                     (long long)matrix->rows, (long long)matrix->columns, (long long)rows,
                     (long long)columns);
}

static lode_status_t require_grid(const lode_matrix_t *a, const lode_matrix_t *b) {
    if (a->grid == b->grid)
        return LODE_OK;
    return lode_fail(LODE_ERR_INTERNAL, "matrices on two process grids");
}

/* --- rows in and out ------------------------------------------------------------------------- */

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Whole rows, row-major, [each, columns] on every rank that has some in a round. */
typedef struct panel {
    double *data;
    int64_t each;  /* rows of one rank in one round */
    int64_t round; /* rows of all ranks in one round */
    lode_view_t view;
} panel_t;

static lode_status_t panel_create(panel_t *panel, const lode_matrix_t *matrix, int root) {
    const lode_comm_t *comm = &matrix->grid->comm;
    const int64_t columns = matrix->columns > 0 ? matrix->columns : 1;
    const int parts = root == LODE_MATRIX_ALL_RANKS ? comm->size : 1;
    const int64_t fit = matrix->grid->panel / columns > 0 ? matrix->grid->panel / columns : 1;
    const int64_t needed = (matrix->rows + parts - 1) / parts;
    *panel = (panel_t){.each = needed > 0 ? min2(fit, needed) : 1};
    panel->round = panel->each * parts;
    const bool part_taken = root == LODE_MATRIX_ALL_RANKS || comm->rank == root;
    panel->view = (lode_view_t){
        .root = root == LODE_MATRIX_ALL_RANKS ? 0 : root,
        .row = {.block = panel->each,
                .parts = parts,
                .part = !part_taken                     ? -1
                        : root == LODE_MATRIX_ALL_RANKS ? comm->rank
                                                        : 0,
                .rank_step = 1,
                .stride = matrix->columns},
        .column = {.block = columns, .parts = 1, .part = part_taken ? 0 : -1, .stride = 1}};
    lode_status_t status = LODE_OK;
    if (part_taken)
        status = LODE_NEW_RAW(&panel->data, panel->each * columns, "rows of a matrix");
    panel->view.data = panel->data;
    return lode_comm_agree(comm, status);
}

/* This rank's rows of the round that starts at `first`; returns their number. */
static int64_t rows_here(panel_t *panel, int64_t first, int64_t rows, int64_t *start) {
    panel->view.row.origin = first;
    *start = first;
    if (panel->view.row.part < 0)
        return 0;
    *start = first + panel->view.row.part * panel->each;
    return *start < rows ? min2(panel->each, rows - *start) : 0;
}

lode_status_t lode_matrix_from_rows(lode_matrix_t *matrix, int root, lode_matrix_fill_t fill,
                                    void *context) {
    const lode_comm_t *comm = &matrix->grid->comm;
    const lode_view_t to = lode_view_of(matrix);
    panel_t panel;
    LODE_TRY(panel_create(&panel, matrix, root));
    lode_status_t status = LODE_OK;
    for (int64_t first = 0; first < matrix->rows && status == LODE_OK; first += panel.round) {
        int64_t start, count = rows_here(&panel, first, matrix->rows, &start);
        if (count > 0)
            status = fill(context, start, count, panel.data);
        status = lode_comm_agree(comm, status);
        if (status == LODE_OK)
            status = lode_exchange(comm, &panel.view, &to,
                                   (lode_region_t){.first_row = first,
                                                   .rows = min2(panel.round, matrix->rows - first),
                                                   .columns = matrix->columns});
    }
    free(panel.data);
    return status;
}

static lode_status_t to_rows(const lode_matrix_t *matrix, int root, bool below,
                             lode_matrix_take_t take, void *context) {
    const lode_comm_t *comm = &matrix->grid->comm;
    const lode_view_t from = lode_view_of(matrix);
    panel_t panel;
    LODE_TRY(panel_create(&panel, matrix, root));
    lode_status_t status = LODE_OK;
    for (int64_t first = 0; first < matrix->rows && status == LODE_OK; first += panel.round) {
        int64_t start, count = rows_here(&panel, first, matrix->rows, &start);
        const int64_t rows = min2(panel.round, matrix->rows - first);
        status = lode_exchange(comm, &from, &panel.view,
                               (lode_region_t){.first_row = first,
                                               .rows = rows,
                                               .columns = below ? first + rows : matrix->columns});
        if (status == LODE_OK && count > 0)
            status = take(context, start, count, panel.data);
        status = lode_comm_agree(comm, status);
    }
    free(panel.data);
    return status;
}

lode_status_t lode_matrix_to_rows(const lode_matrix_t *matrix, int root, lode_matrix_take_t take,
                                  void *context) {
    return to_rows(matrix, root, false, take, context);
}

lode_status_t lode_matrix_to_rows_below(const lode_matrix_t *matrix, int root,
                                        lode_matrix_take_t take, void *context) {
    LODE_TRY(require_square(matrix));
    return to_rows(matrix, root, true, take, context);
}

/* --- copies ---------------------------------------------------------------------------------- */

lode_status_t lode_matrix_copy(lode_matrix_t *out, const lode_matrix_t *matrix) {
    LODE_TRY(require_grid(out, matrix));
    LODE_TRY(require_shape(out, matrix->rows, matrix->columns));
    if (out->block != matrix->block)
        return lode_fail(LODE_ERR_INTERNAL, "matrices in blocks of %lld and %lld",
                         (long long)out->block, (long long)matrix->block);
    if (matrix->data)
        memcpy(out->data, matrix->data,
               (size_t)(matrix->local_columns * matrix->stride) * sizeof *out->data);
    return LODE_OK;
}

/* Moves all of `from` to `to`, rows of `to` in rounds. `block` is that of its rows. */
static lode_status_t move(const lode_matrix_t *shape, const lode_view_t *from,
                          const lode_view_t *to) {
    const int64_t round = lode_exchange_rows(shape->grid, shape->block, shape->columns);
    for (int64_t first = 0; first < shape->rows; first += round)
        LODE_TRY(lode_exchange(&shape->grid->comm, from, to,
                               (lode_region_t){.first_row = first,
                                               .rows = min2(round, shape->rows - first),
                                               .columns = shape->columns}));
    return LODE_OK;
}

static lode_status_t check_index(const int32_t *index, int64_t count, int64_t extent) {
    if (!index && count > extent)
        return lode_fail(LODE_ERR_INTERNAL, "%lld of %lld rows or columns selected",
                         (long long)count, (long long)extent);
    for (int64_t i = 0; index && i < count; i++)
        if (index[i] < 0 || index[i] >= extent)
            return lode_fail(LODE_ERR_INTERNAL, "row or column %d of %lld selected", (int)index[i],
                             (long long)extent);
    return LODE_OK;
}

lode_status_t lode_matrix_select(lode_matrix_t *out, const lode_matrix_t *matrix,
                                 const int32_t *row_index, const int32_t *column_index) {
    lode_status_t status = require_grid(out, matrix);
    if (status == LODE_OK)
        status = check_index(row_index, out->rows, matrix->rows);
    if (status == LODE_OK)
        status = check_index(column_index, out->columns, matrix->columns);
    LODE_TRY(lode_comm_agree(&matrix->grid->comm, status));
    lode_view_t from = lode_view_of(matrix);
    const lode_view_t to = lode_view_of(out);
    from.row.index = row_index;
    from.column.index = column_index;
    return move(out, &from, &to);
}

lode_status_t lode_matrix_transpose(lode_matrix_t *out, const lode_matrix_t *matrix) {
    LODE_TRY(require_grid(out, matrix));
    LODE_TRY(require_shape(out, matrix->columns, matrix->rows));
    const lode_view_t from = lode_view_transposed(lode_view_of(matrix)), to = lode_view_of(out);
    return move(out, &from, &to);
}

lode_status_t lode_matrix_symmetrise(lode_matrix_t *matrix, bool from_upper) {
    LODE_TRY(require_square(matrix));
    const lode_view_t straight = lode_view_of(matrix);
    const lode_view_t transposed = lode_view_transposed(straight);
    const int64_t round = lode_exchange_rows(matrix->grid, matrix->block, matrix->columns);
    for (int64_t first = 0; first < matrix->rows; first += round) {
        const int64_t rows = min2(round, matrix->rows - first);
        LODE_TRY(lode_exchange(
            &matrix->grid->comm, from_upper ? &transposed : &straight,
            from_upper ? &straight : &transposed,
            (lode_region_t){
                .first_row = first, .rows = rows, .columns = first + rows, .below = true}));
    }
    return LODE_OK;
}

/* --- arithmetic ------------------------------------------------------------------------------ */

lode_status_t lode_matrix_multiply(lode_matrix_t *c, double alpha, const lode_matrix_t *a,
                                   bool transpose_a, const lode_matrix_t *b, bool transpose_b,
                                   double beta) {
    const int64_t inner = transpose_a ? a->rows : a->columns;
    LODE_TRY(require_grid(a, c));
    LODE_TRY(require_grid(b, c));
    LODE_TRY(require_shape(a, transpose_a ? inner : c->rows, transpose_a ? c->rows : inner));
    LODE_TRY(require_shape(b, transpose_b ? c->columns : inner, transpose_b ? inner : c->columns));
    if (a->block != c->block || b->block != c->block)
        return lode_fail(LODE_ERR_INTERNAL, "a product of matrices of different blocks");
    if (!lode_grid_member(c->grid) || c->rows == 0 || c->columns == 0)
        return LODE_OK;
    const int one = 1, m = c->descriptor[2], n = c->descriptor[3];
    const int k = transpose_a ? a->descriptor[2] : a->descriptor[3];
    pdgemm_(transpose_a ? "T" : "N", transpose_b ? "T" : "N", &m, &n, &k, &alpha, a->data, &one,
            &one, a->descriptor, b->data, &one, &one, b->descriptor, &beta, c->data, &one, &one,
            c->descriptor);
    return LODE_OK;
}

void lode_matrix_scale(lode_matrix_t *matrix, double factor) {
    for (int64_t i = 0; matrix->data && i < matrix->local_columns * matrix->stride; i++)
        matrix->data[i] *= factor;
}

void lode_matrix_set(lode_matrix_t *matrix, double value) {
    for (int64_t i = 0; matrix->data && i < matrix->local_columns * matrix->stride; i++)
        matrix->data[i] = value;
}

/* Where this rank keeps diagonal element `index`, NULL if elsewhere. */
static double *diagonal_element(const lode_matrix_t *matrix, int64_t index) {
    const lode_grid_t *grid = matrix->grid;
    const int64_t block = matrix->block, number = index / block;
    if (!matrix->data || number % grid->rows != grid->row || number % grid->columns != grid->column)
        return NULL;
    const int64_t row = number / grid->rows * block + index % block;
    const int64_t column = number / grid->columns * block + index % block;
    return matrix->data + column * matrix->stride + row;
}

void lode_matrix_add_diagonal(lode_matrix_t *matrix, double value) {
    for (int64_t i = 0; i < matrix->rows && i < matrix->columns; i++) {
        double *element = diagonal_element(matrix, i);
        if (element)
            *element += value;
    }
}

void lode_matrix_set_diagonal(lode_matrix_t *matrix, const double *diagonal) {
    for (int64_t i = 0; i < matrix->rows && i < matrix->columns; i++) {
        double *element = diagonal_element(matrix, i);
        if (element)
            *element = diagonal[i];
    }
}

lode_status_t lode_matrix_diagonal(const lode_matrix_t *matrix, double *diagonal) {
    int count;
    LODE_TRY(require_square(matrix));
    LODE_TRY(lode_narrow(&count, matrix->rows, "diagonal"));
    for (int64_t i = 0; i < matrix->rows; i++) {
        const double *element = diagonal_element(matrix, i);
        diagonal[i] = element ? *element : 0;
    }
    /* Each element has one owner and zeros from everybody else: the sum is exact. */
    const lode_comm_t *comm = &matrix->grid->comm;
    MPI_Allreduce(MPI_IN_PLACE, diagonal, count, MPI_DOUBLE, MPI_SUM, comm->comm);
    return lode_comm_agree(comm, lode_comm_received(comm, "the diagonal of a matrix"));
}

lode_status_t lode_matrix_trace(const lode_matrix_t *matrix, double *trace) {
    double *diagonal;
    LODE_TRY(require_square(matrix));
    lode_status_t status = LODE_NEW(&diagonal, matrix->rows, "diagonal");
    status = lode_comm_agree(&matrix->grid->comm, status);
    if (status == LODE_OK)
        status = lode_matrix_diagonal(matrix, diagonal);
    *trace = 0;
    for (int64_t i = 0; i < matrix->rows && status == LODE_OK; i++)
        *trace += diagonal[i];
    free(diagonal);
    return status;
}

lode_status_t lode_matrix_check_finite(const lode_matrix_t *matrix, const char *what) {
    int64_t first = INT64_MAX; /* of the elements that are not finite, by rows */
    double value = 0;
    for (int64_t j = 0; matrix->data && j < matrix->local_columns; j++)
        for (int64_t i = 0; i < matrix->local_rows; i++) {
            const double element = matrix->data[j * matrix->stride + i];
            if (isfinite(element))
                continue;
            const int64_t at = lode_matrix_global_row(matrix, i) * matrix->columns +
                               lode_matrix_global_column(matrix, j);
            if (at < first) {
                first = at;
                value = element;
            }
        }
    int64_t lowest;
    const lode_comm_t *comm = &matrix->grid->comm;
    MPI_Allreduce(&first, &lowest, 1, MPI_INT64_T, MPI_MIN, comm->comm);
    if (lowest == INT64_MAX)
        return LODE_OK;
    lode_status_t status = LODE_OK;
    if (first == lowest)
        status = lode_fail(LODE_ERR_NUMERIC, "%s: element [%lld, %lld] is %g", what,
                           (long long)(lowest / matrix->columns),
                           (long long)(lowest % matrix->columns), value);
    return lode_comm_agree(comm, status);
}
