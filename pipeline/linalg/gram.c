#include "linalg/gram.h"

#include <cblas.h>
#include <stdlib.h>

#include "base/memory.h"
#include "kernels/linear.h"
#include "linalg/internal.h"

/* Neighbouring blocks that are read together, so that a piece of a row is some kilobytes long. */
enum { BLOCKS_READ = 16 };

/* The blocks of columns of X that this rank's share needs, a chunk of rows at a time. */
typedef struct panels {
    const lode_gram_source_t *source;
    int64_t block;
    int64_t blocks; /* of the whole matrix */
    int64_t *slot;  /* [blocks] which panel of `data`, −1 where the block is not needed */
    int64_t count;  /* needed ones */
    double *data;   /* [count][LODE_GRAM_CHUNK, block], each row-major and dense */
    void *raw;      /* [LODE_GRAM_CHUNK, BLOCKS_READ · block] of the source's type */
} panels_t;

typedef struct work {
    lode_matrix_t *matrix;
    panels_t x, y_own;
    panels_t *y; /* &x or &y_own */
    bool below;  /* only blocks on and below the diagonal */
} work_t;

/* --- panels ---------------------------------------------------------------------------------- */

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t width(const panels_t *panels, int64_t block) {
    return min2(panels->block, panels->source->columns - block * panels->block);
}

static void panels_free(panels_t *panels) {
    free(panels->slot);
    free(panels->data);
    free(panels->raw);
}

static lode_status_t panels_plan(panels_t *panels, const lode_gram_source_t *source,
                                 int64_t block) {
    *panels = (panels_t){
        .source = source, .block = block, .blocks = (source->columns + block - 1) / block};
    LODE_TRY(LODE_NEW(&panels->slot, panels->blocks, "blocks"));
    for (int64_t b = 0; b < panels->blocks; b++)
        panels->slot[b] = -1;
    return LODE_OK;
}

/* Asks for every block whose number is `part` modulo `parts`. */
static void panels_need(panels_t *panels, int part, int parts) {
    for (int64_t b = part; part >= 0 && b < panels->blocks; b += parts)
        panels->slot[b] = 0;
}

static lode_status_t panels_allocate(panels_t *panels) {
    for (int64_t b = 0; b < panels->blocks; b++)
        if (panels->slot[b] >= 0)
            panels->slot[b] = panels->count++;
    if (panels->count == 0)
        return LODE_OK;
    LODE_TRY(LODE_NEW_RAW(&panels->data, panels->count * LODE_GRAM_CHUNK * panels->block,
                          "columns of a Gram matrix"));
    return lode_alloc_raw(&panels->raw, LODE_GRAM_CHUNK * BLOCKS_READ * panels->block,
                          lode_type_size(panels->source->type), "columns of a Gram matrix");
}

int64_t lode_gram_memory(int64_t columns, int ranks) {
    int across, down;
    lode_grid_choose(ranks, &down, &across);
    const int64_t block = LODE_MATRIX_BLOCK, blocks = (columns + block - 1) / block;
    const int64_t needed =
        min2(blocks, (blocks + down - 1) / down + (blocks + across - 1) / across);
    return LODE_GRAM_CHUNK * block *
           (needed * (int64_t)sizeof(double) + BLOCKS_READ * (int64_t)sizeof(float));
}

/* Takes one block's columns out of what was read, [rows, columns], as doubles. */
static void widen(const panels_t *panels, int64_t block, int64_t rows, int64_t offset,
                  int64_t columns) {
    const int64_t wide = width(panels, block);
    double *out = panels->data + panels->slot[block] * LODE_GRAM_CHUNK * panels->block;
    if (panels->source->type == LODE_TYPE_F32) {
        const float *in = (const float *)panels->raw + offset;
        for (int64_t t = 0; t < rows; t++)
            for (int64_t j = 0; j < wide; j++)
                out[t * wide + j] = (double)in[t * columns + j];
    } else {
        const double *in = (const double *)panels->raw + offset;
        for (int64_t t = 0; t < rows; t++)
            for (int64_t j = 0; j < wide; j++)
                out[t * wide + j] = in[t * columns + j];
    }
}

static lode_status_t panels_read(panels_t *panels, int64_t first_row, int64_t rows) {
    const lode_gram_source_t *source = panels->source;
    for (int64_t b = 0, end; b < panels->blocks; b = end) {
        end = b + 1;
        if (panels->slot[b] < 0)
            continue;
        while (end < panels->blocks && panels->slot[end] >= 0 && end - b < BLOCKS_READ)
            end++;
        const int64_t first = b * panels->block;
        const int64_t columns = min2(end * panels->block, source->columns) - first;
        LODE_TRY(source->read(source->context, first_row, rows, first, columns, panels->raw));
        for (int64_t i = b; i < end; i++)
            widen(panels, i, rows, i * panels->block - first, columns);
    }
    return LODE_OK;
}

/* --- blocks ---------------------------------------------------------------------------------- */

/* Adds `rows` rows to the block at local block row `bi` and column `bj`. */
static void add_block(const work_t *work, int64_t bi, int64_t bj, int64_t rows) {
    const lode_matrix_t *matrix = work->matrix;
    const int64_t block = matrix->block, panel = LODE_GRAM_CHUNK * block;
    const int64_t row = lode_matrix_global_row(matrix, bi * block) / block;
    const int64_t column = lode_matrix_global_column(matrix, bj * block) / block;
    if (work->below && row < column)
        return;
    const int high = (int)width(&work->x, row), wide = (int)width(work->y, column);
    /* A dense row-major panel [rows, width] is, column-major, its own transpose. */
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, high, wide, (int)rows, 1.0,
                work->x.data + work->x.slot[row] * panel, high,
                work->y->data + work->y->slot[column] * panel, wide, 1.0,
                matrix->data + bj * block * matrix->stride + bi * block, (int)matrix->stride);
}

static void add_rows(const work_t *work, int64_t rows) {
    const lode_matrix_t *matrix = work->matrix;
    const int64_t high = (matrix->local_rows + matrix->block - 1) / matrix->block;
    const int64_t wide = (matrix->local_columns + matrix->block - 1) / matrix->block;
    lode_blas_serial_begin();
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < high * wide; i++)
        add_block(work, i % high, i / high, rows);
    lode_blas_serial_end();
}

/* --- the product ----------------------------------------------------------------------------- */

static lode_status_t plan(work_t *work, const lode_gram_source_t *x, const lode_gram_source_t *y) {
    const lode_grid_t *grid = work->matrix->grid;
    LODE_TRY(panels_plan(&work->x, x, work->matrix->block));
    if (y)
        LODE_TRY(panels_plan(&work->y_own, y, work->matrix->block));
    panels_need(&work->x, grid->row, grid->rows);
    panels_need(work->y, grid->column, grid->columns);
    LODE_TRY(panels_allocate(&work->x));
    return y ? panels_allocate(&work->y_own) : LODE_OK;
}

static lode_status_t prepare(const lode_gram_source_t *source, int64_t first_row, int64_t rows) {
    return source && source->prepare ? source->prepare(source->context, first_row, rows) : LODE_OK;
}

static lode_status_t add(work_t *work, const lode_gram_source_t *x, const lode_gram_source_t *y) {
    const lode_comm_t *comm = &work->matrix->grid->comm;
    lode_status_t local = LODE_OK; /* one rank's failure to read must not stop the others here */
    LODE_TRY(lode_comm_agree(comm, plan(work, x, y)));
    for (int64_t first = 0; first < x->rows; first += LODE_GRAM_CHUNK) {
        const int64_t rows = min2(LODE_GRAM_CHUNK, x->rows - first);
        LODE_TRY(prepare(x, first, rows));
        LODE_TRY(prepare(y, first, rows));
        if (local == LODE_OK)
            local = panels_read(&work->x, first, rows);
        if (local == LODE_OK && y)
            local = panels_read(&work->y_own, first, rows);
        if (local == LODE_OK)
            add_rows(work, rows);
    }
    return lode_comm_agree(comm, local);
}

static lode_status_t add_all(lode_matrix_t *matrix, const lode_gram_source_t *x,
                             const lode_gram_source_t *y) {
    const int64_t columns = y ? y->columns : x->columns;
    if (matrix->rows != x->columns || matrix->columns != columns || (y && x->rows != y->rows))
        return lode_fail(LODE_ERR_INTERNAL,
                         "a matrix of %lld × %lld cannot hold the product of %lld and %lld columns",
                         (long long)matrix->rows, (long long)matrix->columns, (long long)x->columns,
                         (long long)columns);
    work_t work = {.matrix = matrix, .below = !y};
    work.y = y ? &work.y_own : &work.x;
    const lode_status_t status = add(&work, x, y);
    panels_free(&work.x);
    panels_free(&work.y_own);
    return status;
}

lode_status_t lode_gram_add(lode_matrix_t *matrix, const lode_gram_source_t *x) {
    return add_all(matrix, x, NULL);
}

lode_status_t lode_gram_add_cross(lode_matrix_t *matrix, const lode_gram_source_t *x,
                                  const lode_gram_source_t *y) {
    return add_all(matrix, x, y);
}
