#include "linalg/packed.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

int64_t lode_packed_extent(int64_t n) {
    return n % 2 == 0 ? n / 2 * (n + 1) : (n + 1) / 2 * n;
}

typedef struct packed {
    lode_store_t *store;
    const char *name;
    int64_t layer, n;
    lode_type_t type; /* of the dataset */
} packed_t;

static lode_status_t describe(packed_t *packed, const lode_matrix_t *matrix, lode_store_t *store,
                              const char *name, int64_t layer) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    *packed = (packed_t){.store = store, .name = name, .layer = layer, .n = matrix->rows};
    LODE_TRY(lode_store_shape(store, name, &axes, shape));
    LODE_TRY(lode_store_type(store, name, &packed->type));
    if (matrix->rows != matrix->columns)
        return lode_fail(LODE_ERR_INTERNAL, "%s: a matrix of %lld × %lld is not symmetric", name,
                         (long long)matrix->rows, (long long)matrix->columns);
    if (axes != 2 || layer < 0 || layer >= shape[0] || shape[1] != lode_packed_extent(packed->n))
        return lode_fail(LODE_ERR_SHAPE,
                         "%s: does not hold a packed triangle of %lld rows for layer %lld", name,
                         (long long)packed->n, (long long)layer);
    if (packed->type != LODE_TYPE_F32 && packed->type != LODE_TYPE_F64)
        return lode_fail(LODE_ERR_SHAPE, "%s: is %s; f32 or f64 was expected", name,
                         lode_type_name(packed->type));
    return LODE_OK;
}

static lode_status_t check_element(const packed_t *packed, int64_t row, int64_t column,
                                   double element) {
    if (!isfinite(element))
        return lode_fail(LODE_ERR_NUMERIC, "%s, layer %lld: element [%lld, %lld] is %g",
                         packed->name, (long long)packed->layer, (long long)row, (long long)column,
                         element);
    if (packed->type == LODE_TYPE_F32 && fabs(element) > (double)FLT_MAX)
        return lode_fail(LODE_ERR_NUMERIC,
                         "%s, layer %lld: element [%lld, %lld], %g, is beyond float32; keep it as "
                         "float64",
                         packed->name, (long long)packed->layer, (long long)row, (long long)column,
                         element);
    return LODE_OK;
}

/* Packs rows of a panel one behind the other. */
static lode_status_t pack(const packed_t *packed, int64_t first, int64_t rows, const double *panel,
                          void *out) {
    float *singles = out;
    double *doubles = out;
    int64_t at = 0;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j <= first + i; j++, at++) {
            const double element = panel[i * packed->n + j];
            LODE_TRY(check_element(packed, first + i, j, element));
            if (packed->type == LODE_TYPE_F32)
                singles[at] = (float)element;
            else
                doubles[at] = element;
        }
    return LODE_OK;
}

static lode_status_t take(void *context, int64_t first, int64_t rows, const double *panel) {
    const packed_t *packed = context;
    const int64_t offset[] = {packed->layer, lode_packed_extent(first)};
    const int64_t count[] = {1, lode_packed_extent(first + rows) - offset[1]};
    void *out;
    LODE_TRY(lode_alloc_raw(&out, count[1], lode_type_size(packed->type), "packed rows"));
    lode_status_t status = pack(packed, first, rows, panel, out);
    if (status == LODE_OK)
        status = lode_store_write(packed->store, packed->name, offset, count, out);
    free(out);
    return status;
}

static lode_status_t fill(void *context, int64_t first, int64_t rows, double *panel) {
    const packed_t *packed = context;
    const int64_t offset[] = {packed->layer, lode_packed_extent(first)};
    const int64_t count[] = {1, lode_packed_extent(first + rows) - offset[1]};
    /* Packed rows fit into the panel's end; what is left of them there always lies beyond the row
     * that is being unpacked. */
    double *in = panel + rows * packed->n - count[1];
    LODE_TRY(lode_store_read(packed->store, packed->name, offset, count, LODE_TYPE_F64, in));
    for (int64_t i = 0; i < rows; i++) {
        double *row = panel + i * packed->n;
        const int64_t held = first + i + 1;
        memmove(row, in, (size_t)held * sizeof *row);
        in += held;
        for (int64_t j = held; j < packed->n; j++)
            row[j] = 0;
    }
    return LODE_OK;
}

lode_status_t lode_packed_write(const lode_matrix_t *matrix, lode_store_t *store, const char *name,
                                int64_t layer) {
    packed_t packed;
    LODE_TRY(lode_comm_agree(lode_grid_comm(matrix->grid),
                             describe(&packed, matrix, store, name, layer)));
    return lode_matrix_to_rows_below(matrix, LODE_MATRIX_ALL_RANKS, take, &packed);
}

lode_status_t lode_packed_read(lode_matrix_t *matrix, lode_store_t *store, const char *name,
                               int64_t layer) {
    packed_t packed;
    LODE_TRY(lode_comm_agree(lode_grid_comm(matrix->grid),
                             describe(&packed, matrix, store, name, layer)));
    LODE_TRY(lode_matrix_from_rows(matrix, LODE_MATRIX_ALL_RANKS, fill, &packed));
    return lode_matrix_symmetrise(matrix, false);
}
