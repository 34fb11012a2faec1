/* report/shelf: arrays read from a stage file for one topic of the page, released together. Local.
 */
#ifndef LODE_REPORT_SHELF_H
#define LODE_REPORT_SHELF_H

#include <stdint.h>

#include "base/error.h"
#include "store/store.h"

/* Owns what its functions hand out; initialise with {0}. */
typedef struct lode_shelf {
    void **arrays;
    int64_t count, capacity;
} lode_shelf_t;

void lode_shelf_free(lode_shelf_t *shelf); /* leaves {0} */

/* A zeroed array of `count` doubles, the shelf's. */
LODE_MUST_USE lode_status_t lode_shelf_new(lode_shelf_t *shelf, double **out, int64_t count);

/* Reads a whole dataset of `axes` extents as doubles or as integers; *out is the shelf's, and NULL
 * where the store is NULL or has no such dataset. An extent shape[i] that is negative is any and
 * set to what it is; another must be as given. Errors: LODE_ERR_SHAPE naming the dataset, those of
 * lode_store_read_all. */
LODE_MUST_USE lode_status_t lode_shelf_f64(lode_shelf_t *shelf, lode_store_t *store,
                                           const char *name, int axes, int64_t *shape,
                                           double **out);
LODE_MUST_USE lode_status_t lode_shelf_i32(lode_shelf_t *shelf, lode_store_t *store,
                                           const char *name, int axes, int64_t *shape,
                                           int32_t **out);
LODE_MUST_USE lode_status_t lode_shelf_i64(lode_shelf_t *shelf, lode_store_t *store,
                                           const char *name, int axes, int64_t *shape,
                                           int64_t **out);

#endif
