#include "common/moment.h"

#include "linalg/gram.h"

typedef struct source {
    lode_spool_t *spool;
    const char *array;
} source_t;

static lode_status_t read_columns(void *context, int64_t first_row, int64_t rows,
                                  int64_t first_column, int64_t columns, void *out) {
    const source_t *source = context;
    return lode_spool_read_columns(source->spool, source->array, first_row, rows, first_column,
                                   columns, out);
}

lode_status_t lode_moment_of_spool(lode_matrix_t *matrix, lode_spool_t *spool, const char *array,
                                   int64_t rows) {
    source_t source = {.spool = spool, .array = array};
    const lode_gram_source_t x = {.context = &source,
                                  .rows = rows,
                                  .columns = matrix->columns,
                                  .type = LODE_TYPE_F32,
                                  .read = read_columns};
    lode_matrix_set(matrix, 0);
    LODE_TRY(lode_gram_add(matrix, &x));
    lode_matrix_scale(matrix, 1 / (double)rows);
    return lode_matrix_symmetrise(matrix, false);
}

int64_t lode_moment_memory(int ranks, int64_t elements, int64_t largest, int64_t gram) {
    int rows, columns;
    lode_grid_choose(ranks, &rows, &columns);
    /* Panels are no larger than the matrix; three exist at once. */
    const int64_t share = elements / (rows * columns);
    const int64_t panel = largest < LODE_GRID_PANEL ? largest : LODE_GRID_PANEL;
    const int64_t moving = 3 * panel * (int64_t)sizeof(double);
    const int64_t summing = gram > 0 ? lode_gram_memory(gram, ranks) : 0;
    return share * (int64_t)sizeof(double) + (summing > moving ? summing : moving);
}

lode_status_t lode_moment_check_memory(const lode_run_t *run, const char *what, int64_t elements,
                                       int64_t gram, int64_t other) {
    int rows, columns;
    lode_grid_choose(run->comm->size, &rows, &columns);
    const double needed =
        (double)other + (double)lode_moment_memory(run->comm->size, elements, elements, gram);
    if (needed <= (double)run->config->memory)
        return LODE_OK;
    return lode_fail(LODE_ERR_MEMORY,
                     "%s needs %.0f MB on each of %d ranks and memory is %.0f MB; use "
                     "more ranks or raise memory",
                     what, needed / 1e6, rows * columns, (double)run->config->memory / 1e6);
}
