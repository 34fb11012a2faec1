#include "report/shelf.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void lode_shelf_free(lode_shelf_t *shelf) {
    for (int64_t i = 0; i < shelf->count; i++)
        free(shelf->arrays[i]);
    free(shelf->arrays);
    *shelf = (lode_shelf_t){0};
}

/* Makes room for one more array. */
static lode_status_t reserve(lode_shelf_t *shelf) {
    if (shelf->count < shelf->capacity)
        return LODE_OK;
    const int64_t larger = shelf->capacity ? 2 * shelf->capacity : 16;
    void **arrays;
    LODE_TRY(LODE_NEW(&arrays, larger, "figures"));
    if (shelf->count > 0)
        memcpy(arrays, shelf->arrays, (size_t)shelf->count * sizeof *arrays);
    free(shelf->arrays);
    shelf->arrays = arrays;
    shelf->capacity = larger;
    return LODE_OK;
}

lode_status_t lode_shelf_new(lode_shelf_t *shelf, double **out, int64_t count) {
    *out = NULL;
    LODE_TRY(reserve(shelf));
    LODE_TRY(LODE_NEW(out, count, "figures"));
    shelf->arrays[shelf->count++] = *out;
    return LODE_OK;
}

static lode_status_t check_shape(lode_store_t *store, const char *name, int axes, int64_t *shape) {
    int found;
    int64_t extents[LODE_STORE_MAX_AXES];
    LODE_TRY(lode_store_shape(store, name, &found, extents));
    bool fits = found == axes;
    for (int i = 0; fits && i < axes; i++)
        fits = shape[i] < 0 || shape[i] == extents[i];
    if (!fits)
        return lode_fail(LODE_ERR_SHAPE,
                         "dataset \"%s\" does not have the shape of the other results; run its "
                         "stage again (--force)",
                         name);
    for (int i = 0; i < axes; i++)
        shape[i] = extents[i];
    return LODE_OK;
}

static lode_status_t read_typed(lode_shelf_t *shelf, lode_store_t *store, const char *name,
                                int axes, int64_t *shape, lode_type_t type, void **out) {
    *out = NULL;
    if (!store || !lode_store_has(store, name))
        return LODE_OK;
    LODE_TRY(check_shape(store, name, axes, shape));
    LODE_TRY(reserve(shelf));
    LODE_TRY(lode_store_read_all(store, name, type, out, NULL));
    shelf->arrays[shelf->count++] = *out;
    return LODE_OK;
}

lode_status_t lode_shelf_f64(lode_shelf_t *shelf, lode_store_t *store, const char *name, int axes,
                             int64_t *shape, double **out) {
    void *array;
    lode_status_t status = read_typed(shelf, store, name, axes, shape, LODE_TYPE_F64, &array);
    *out = array;
    return status;
}

lode_status_t lode_shelf_i32(lode_shelf_t *shelf, lode_store_t *store, const char *name, int axes,
                             int64_t *shape, int32_t **out) {
    void *array;
    lode_status_t status = read_typed(shelf, store, name, axes, shape, LODE_TYPE_I32, &array);
    *out = array;
    return status;
}

lode_status_t lode_shelf_i64(lode_shelf_t *shelf, lode_store_t *store, const char *name, int axes,
                             int64_t *shape, int64_t **out) {
    void *array;
    lode_status_t status = read_typed(shelf, store, name, axes, shape, LODE_TYPE_I64, &array);
    *out = array;
    return status;
}
