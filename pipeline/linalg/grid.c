#include "linalg/grid.h"

#include <stdlib.h>

#include "base/memory.h"
#include "linalg/internal.h"
#include "linalg/scalapack.h"

void lode_grid_choose(int size, int *rows, int *columns) {
    *rows = 1;
    *columns = 1;
    for (int r = 1; r <= size / r; r++) {
        const int widest = size / r < 3 * r ? size / r : 3 * r;
        /* Heights ascend, so that of equally many ranks the squarer grid comes last. */
        if (r * widest >= *rows * *columns) {
            *rows = r;
            *columns = widest;
        }
    }
}

/* Takes this rank's place in the grid. Collective over the grid's ranks. */
static void join(lode_grid_t *grid) {
    int height, width;
    grid->handle = Csys2blacs_handle(grid->members);
    grid->context = grid->handle;
    Cblacs_gridinit(&grid->context, "Row", grid->rows, grid->columns);
    Cblacs_gridinfo(grid->context, &height, &width, &grid->row, &grid->column);
    LODE_ASSERT(grid->row == grid->comm.rank / grid->columns &&
                grid->column == grid->comm.rank % grid->columns);
}

lode_status_t lode_grid_create(lode_grid_t **out, const lode_comm_t *comm, int rows, int columns) {
    *out = NULL;
    if (rows == 0 && columns == 0)
        lode_grid_choose(comm->size, &rows, &columns);
    if (rows < 1 || columns < 1 || rows > comm->size / columns)
        return lode_fail(LODE_ERR_INTERNAL, "a process grid of %d × %d cannot be laid over %d %s",
                         rows, columns, comm->size, comm->size == 1 ? "rank" : "ranks");
    lode_grid_t *grid = NULL;
    lode_status_t status = lode_comm_agree(comm, LODE_NEW(&grid, 1, "process grid"));
    if (status != LODE_OK) {
        free(grid);
        return status;
    }
    *grid = (lode_grid_t){.comm = *comm,
                          .rows = rows,
                          .columns = columns,
                          .row = -1,
                          .column = -1,
                          .context = -1,
                          .panel = LODE_GRID_PANEL};
    /* BLACS gets to know the grid's ranks alone: it leaks on those that it leaves out. */
    const bool member = comm->rank < rows * columns;
    MPI_Comm_split(comm->comm, member ? 0 : MPI_UNDEFINED, comm->rank, &grid->members);
    if (member)
        join(grid);
    *out = grid;
    return LODE_OK;
}

void lode_grid_destroy(lode_grid_t **grid) {
    if (!*grid)
        return;
    /* BLACS itself is never left: that would end MPI, or make its next use impossible. */
    if (lode_grid_member(*grid)) {
        Cblacs_gridexit((*grid)->context);
        Cfree_blacs_system_handle((*grid)->handle);
        MPI_Comm_free(&(*grid)->members);
    }
    free(*grid);
    *grid = NULL;
}

const lode_comm_t *lode_grid_comm(const lode_grid_t *grid) {
    return &grid->comm;
}

void lode_grid_shape(const lode_grid_t *grid, int *rows, int *columns) {
    *rows = grid->rows;
    *columns = grid->columns;
}

bool lode_grid_member(const lode_grid_t *grid) {
    return grid->row >= 0;
}

void lode_grid_set_panel(lode_grid_t *grid, int64_t elements) {
    LODE_ASSERT(elements > 0);
    grid->panel = elements;
}

int lode_grid_info(const lode_grid_t *grid, int info) {
    int mine[2] = {info > 0 ? info : 0, info < 0 ? -info : 0}, all[2];
    MPI_Allreduce(mine, all, 2, MPI_INT, MPI_MAX, grid->comm.comm);
    return all[1] > 0 ? -all[1] : all[0];
}
