/* linalg/packed: symmetric matrices in files, as packed lower triangles.
 *
 * Row i has i + 1 elements and starts at i(i + 1)/2, so that element (i, j ≤ i) of layer l lies at
 * [l, i(i + 1)/2 + j] of a dataset [L, n(n + 1)/2], f32 or f64.
 */
#ifndef LODE_LINALG_PACKED_H
#define LODE_LINALG_PACKED_H

#include <stdint.h>

#include "base/error.h"
#include "linalg/matrix.h"
#include "store/store.h"

/* n(n + 1)/2. Local. */
int64_t lode_packed_extent(int64_t n);

/* Writes the lower triangle as row `layer` of dataset `name`, rounded to the dataset's type; every
 * rank writes some rows.
 * Errors: LODE_ERR_NUMERIC (an element is not finite, or beyond float32), LODE_ERR_SHAPE (extents
 * or type of the dataset), LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_packed_write(const lode_matrix_t *matrix, lode_store_t *store,
                                              const char *name, int64_t layer);

/* Reads such a row into the whole symmetric matrix.
 * Errors: as above, and LODE_ERR_INPUT (no such dataset). Collective. */
LODE_MUST_USE lode_status_t lode_packed_read(lode_matrix_t *matrix, lode_store_t *store,
                                             const char *name, int64_t layer);

#endif
