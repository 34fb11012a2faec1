/* linalg/internal: what the files of linalg share. */
#ifndef LODE_LINALG_INTERNAL_H
#define LODE_LINALG_INTERNAL_H

#include "linalg/grid.h"
#include "linalg/matrix.h"

struct lode_grid {
    lode_comm_t comm;
    int rows, columns;
    int row, column;  /* this rank's place, −1 beyond the grid */
    MPI_Comm members; /* the ranks that have a place; MPI_COMM_NULL beyond the grid */
    int handle;       /* BLACS's of that */
    int context;      /* BLACS's of the grid, −1 beyond it */
    int64_t panel;    /* elements a rank holds beside its share */
};

/* --- moving elements between ranks ---------------------------------------------------------- */

/* One axis of an array spread over ranks in blocks, dealt out in turn to `parts` parts. Position i
 * of an exchange is element index[i] − origin of the axis (i − origin without an index). */
typedef struct lode_axis {
    int64_t block;
    int parts, part; /* `part` is this rank's, −1 where it holds nothing */
    int rank_step;   /* ranks from one part to the next */
    int64_t stride;  /* elements of memory between neighbours */
    int64_t origin;
    const int32_t *index; /* not owned; NULL for the identity */
} lode_axis_t;

/* A two-dimensional array spread over ranks: element (i, j) is on rank root + row part · row step
 * + column part · column step. */
typedef struct lode_view {
    double *data; /* this rank's part */
    int root;
    lode_axis_t row, column;
} lode_view_t;

/* Which positions an exchange covers. */
typedef struct lode_region {
    int64_t first_row, rows;
    int64_t columns; /* from 0 */
    bool below;      /* only positions strictly below the diagonal are stored */
} lode_region_t;

/* The matrix as it lies, and as its transpose. Local. */
lode_view_t lode_view_of(const lode_matrix_t *matrix);
lode_view_t lode_view_transposed(lode_view_t view);

/* Stores every position of `region` of `from` into `to`. The two may be parts of one matrix where
 * no position is both read and stored. Ranks send and receive what they hold of the region, and
 * need memory for that. Errors: LODE_ERR_MEMORY, LODE_ERR_COMM. Collective. */
LODE_MUST_USE lode_status_t lode_exchange(const lode_comm_t *comm, const lode_view_t *from,
                                          const lode_view_t *to, lode_region_t region);

/* Rows that one exchange of a matrix with `columns` columns may cover, so that no rank sends much
 * more than a panel. Local. */
int64_t lode_exchange_rows(const lode_grid_t *grid, int64_t block, int64_t columns);

/* Makes a ScaLAPACK routine's `info` of the ranks in the grid known to all: the largest in
 * magnitude, sign kept. Collective. */
int lode_grid_info(const lode_grid_t *grid, int info);

#endif
