/* linalg/grid: the ranks of a communicator as a rectangle, for dense matrices spread over them.
 *
 * Matrices are block-cyclic over a BLACS process grid (Blackford et al.: ScaLAPACK Users' Guide,
 * SIAM 1997, chapter 4). Rank r sits at row r / columns, column r % columns; ranks that are left
 * over hold no part of any matrix, but take part in everything that is Collective here: over all
 * ranks of the communicator, those beyond the grid included.
 */
#ifndef LODE_LINALG_GRID_H
#define LODE_LINALG_GRID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "comm/context.h"

typedef struct lode_grid lode_grid_t;

/* Elements of a matrix that a rank holds beside its share while rows come or go, by default:
 * 16 MiB, three times (the panel, what is sent, what is received). */
enum { LODE_GRID_PANEL = 2097152 };

/* Lays the ranks of `comm`, which must outlive the grid, out as rows × columns; 0 for both lets
 * lode_grid_choose() decide. *out is the caller's to destroy, NULL on failure.
 * Errors: LODE_ERR_INTERNAL (more places than ranks), LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_grid_create(lode_grid_t **out, const lode_comm_t *comm, int rows,
                                             int columns);

/* Releases the grid after all of its matrices; NULL is fine. MPI goes on. Collective. */
void lode_grid_destroy(lode_grid_t **grid);

/* The grid for `size` ≥ 1 ranks: the one that uses most of them and is no wider than three times
 * its height; the squarest of these. rows ≤ columns. Local. */
void lode_grid_choose(int size, int *rows, int *columns);

/* All ranks, those beyond the grid too. Belongs to the grid. Local. */
const lode_comm_t *lode_grid_comm(const lode_grid_t *grid);

/* Height and width of the grid. Local. */
void lode_grid_shape(const lode_grid_t *grid, int *rows, int *columns);

/* Whether this rank has a place in the grid. Local. */
bool lode_grid_member(const lode_grid_t *grid);

/* Sets LODE_GRID_PANEL for this grid; at least 1, the same on all ranks. Local. */
void lode_grid_set_panel(lode_grid_t *grid, int64_t elements);

#endif
