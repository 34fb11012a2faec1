/* linalg/gram: products XᵀX of tall matrices that never are in one place.
 *
 * Every rank computes the blocks of the result that it holds, from pieces of X that a source hands
 * it: LODE_GRAM_CHUNK rows at a time, in order, one dgemm for each block. Blocks and chunks do not
 * depend on the grid, so that every element is bit-identical for every grid and number of ranks;
 * the number of threads changes nothing either.
 */
#ifndef LODE_LINALG_GRAM_H
#define LODE_LINALG_GRAM_H

#include <stdint.h>

#include "base/error.h"
#include "linalg/matrix.h"
#include "store/store.h"

/* Rows of X that are worked on at once. A rank holds LODE_GRAM_CHUNK × (rows + columns of its
 * share) doubles meanwhile. */
enum { LODE_GRAM_CHUNK = 256 };

/* A matrix X [rows, columns] that can be read in pieces. */
typedef struct lode_gram_source {
    void *context;
    int64_t rows, columns;
    lode_type_t type; /* LODE_TYPE_F32 or LODE_TYPE_F64, of what `read` supplies */

    /* Called on all ranks before any of them reads rows [first_row, first_row + rows), in order of
     * the chunks: a place for whoever has the rows to broadcast them. Must return the same status
     * on all ranks. NULL where every rank can read everything. Collective. */
    lode_status_t (*prepare)(void *context, int64_t first_row, int64_t rows);

    /* Supplies X[first_row … , first_column …] as out [rows, columns] of `type`, row-major. Only
     * rows of the chunk in hand, by one thread. Local. */
    lode_status_t (*read)(void *context, int64_t first_row, int64_t rows, int64_t first_column,
                          int64_t columns, void *out);
} lode_gram_source_t;

/* Bytes that each of `ranks` ranks holds meanwhile of an X with so many columns of float32, with
 * the grid and blocks that are chosen by default. Local. */
int64_t lode_gram_memory(int64_t columns, int ranks);

/* matrix += XᵀX, the lower triangle of blocks (blocks on the diagonal whole; blocks above it are
 * left as they are: lode_matrix_symmetrise()). Sums are in float64.
 *   matrix [x->columns, x->columns] in and out
 * Errors: those of the source, LODE_ERR_MEMORY, LODE_ERR_INTERNAL (shapes). Collective. */
LODE_MUST_USE lode_status_t lode_gram_add(lode_matrix_t *matrix, const lode_gram_source_t *x);

/* matrix += XᵀY, all blocks.
 *   matrix [x->columns, y->columns] in and out;  x, y  with equally many rows
 * Collective. */
LODE_MUST_USE lode_status_t lode_gram_add_cross(lode_matrix_t *matrix, const lode_gram_source_t *x,
                                                const lode_gram_source_t *y);

#endif
