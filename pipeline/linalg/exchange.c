#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "linalg/internal.h"

/* Positions of one axis that this rank holds on its side of an exchange, grouped by the part that
 * holds them on the other side. Both sides list a group in ascending order, so that no indices
 * travel with the elements. */
typedef struct group {
    int64_t *start;    /* [parts of the other side + 1] */
    int64_t *offset;   /* memory of this side, in elements */
    int64_t *position; /* in the exchange */
} group_t;

static int64_t element(const lode_axis_t *axis, int64_t position) {
    return (axis->index ? axis->index[position] : position) - axis->origin;
}

static int part_of(const lode_axis_t *axis, int64_t position) {
    return (int)(element(axis, position) / axis->block % axis->parts);
}

static int64_t offset_of(const lode_axis_t *axis, int64_t position) {
    const int64_t at = element(axis, position);
    return (at / axis->block / axis->parts * axis->block + at % axis->block) * axis->stride;
}

static void group_free(group_t *group) {
    free(group->start);
    free(group->offset);
    *group = (group_t){0};
}

static lode_status_t group_positions(group_t *group, const lode_axis_t *mine,
                                     const lode_axis_t *others, int64_t first, int64_t count) {
    *group = (group_t){0};
    LODE_TRY(LODE_NEW(&group->start, others->parts + 2, "exchange"));
    if (mine->part < 0)
        return LODE_OK;
    int64_t held = 0;
    for (int64_t i = first; i < first + count; i++)
        if (part_of(mine, i) == mine->part) {
            group->start[part_of(others, i) + 2]++;
            held++;
        }
    LODE_TRY(LODE_NEW_RAW(&group->offset, 2 * held, "exchange"));
    group->position = group->offset + held;
    for (int p = 0; p < others->parts; p++)
        group->start[p + 2] += group->start[p + 1];
    /* start[p + 1] walks through group p and ends where group p + 1 starts. */
    for (int64_t i = first; i < first + count; i++)
        if (part_of(mine, i) == mine->part) {
            const int64_t slot = group->start[part_of(others, i) + 1]++;
            group->offset[slot] = offset_of(mine, i);
            group->position[slot] = i;
        }
    return LODE_OK;
}

/* One side of an exchange: what goes to or comes from each rank. */
typedef struct side {
    group_t rows, columns;
    int *counts, *starts; /* [ranks], in elements; one allocation at counts */
    double *buffer;
    int64_t elements;
} side_t;

static void side_free(side_t *side) {
    group_free(&side->rows);
    group_free(&side->columns);
    free(side->counts);
    free(side->buffer);
    *side = (side_t){0};
}

static int rank_at(const lode_view_t *view, int row_part, int column_part) {
    return view->root + row_part * view->row.rank_step + column_part * view->column.rank_step;
}

static lode_status_t side_create(side_t *side, const lode_comm_t *comm, const lode_view_t *mine,
                                 const lode_view_t *others, lode_region_t region) {
    LODE_TRY(group_positions(&side->rows, &mine->row, &others->row, region.first_row, region.rows));
    LODE_TRY(group_positions(&side->columns, &mine->column, &others->column, 0, region.columns));
    LODE_TRY(LODE_NEW(&side->counts, 2 * comm->size, "exchange"));
    side->starts = side->counts + comm->size;
    const int64_t *rows = side->rows.start, *columns = side->columns.start;
    for (int p = 0; p < others->row.parts; p++)
        for (int q = 0; q < others->column.parts; q++) {
            const int64_t count = (rows[p + 1] - rows[p]) * (columns[q + 1] - columns[q]);
            LODE_TRY(lode_narrow(&side->counts[rank_at(others, p, q)], count, "exchange"));
        }
    for (int r = 0; r < comm->size; r++) {
        LODE_TRY(lode_narrow(&side->starts[r], side->elements, "exchange"));
        side->elements += side->counts[r];
    }
    return LODE_NEW_RAW(&side->buffer, side->elements, "exchange");
}

/* Gathers what goes to the rank at (p, q) of the other side, column by column. */
static void pack(side_t *side, const lode_view_t *mine, int p, int q, double *out) {
    const group_t *rows = &side->rows, *columns = &side->columns;
    for (int64_t j = columns->start[q]; j < columns->start[q + 1]; j++) {
        const double *column = mine->data + columns->offset[j];
        for (int64_t i = rows->start[p]; i < rows->start[p + 1]; i++)
            *out++ = column[rows->offset[i]];
    }
}

static void unpack(side_t *side, const lode_view_t *mine, int p, int q, const double *in,
                   bool below) {
    const group_t *rows = &side->rows, *columns = &side->columns;
    for (int64_t j = columns->start[q]; j < columns->start[q + 1]; j++) {
        double *column = mine->data + columns->offset[j];
        for (int64_t i = rows->start[p]; i < rows->start[p + 1]; i++, in++)
            if (!below || rows->position[i] > columns->position[j])
                column[rows->offset[i]] = *in;
    }
}

lode_status_t lode_exchange(const lode_comm_t *comm, const lode_view_t *from, const lode_view_t *to,
                            lode_region_t region) {
    side_t out = {0}, in = {0};
    lode_status_t status = side_create(&out, comm, from, to, region);
    if (status == LODE_OK)
        status = side_create(&in, comm, to, from, region);
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK) {
        for (int p = 0; p < to->row.parts && out.buffer; p++)
            for (int q = 0; q < to->column.parts; q++)
                pack(&out, from, p, q, out.buffer + out.starts[rank_at(to, p, q)]);
        MPI_Alltoallv(out.buffer, out.counts, out.starts, MPI_DOUBLE, in.buffer, in.counts,
                      in.starts, MPI_DOUBLE, comm->comm);
        status = lode_comm_received(comm, "elements of a matrix");
        for (int p = 0; p < from->row.parts && in.buffer && status == LODE_OK; p++)
            for (int q = 0; q < from->column.parts; q++)
                unpack(&in, to, p, q, in.buffer + in.starts[rank_at(from, p, q)], region.below);
        status = lode_comm_agree(comm, status);
    }
    side_free(&out);
    side_free(&in);
    return status;
}

lode_view_t lode_view_of(const lode_matrix_t *matrix) {
    const lode_grid_t *grid = matrix->grid;
    return (lode_view_t){.data = matrix->data,
                         .root = 0,
                         .row = {.block = matrix->block,
                                 .parts = grid->rows,
                                 .part = grid->row,
                                 .rank_step = grid->columns,
                                 .stride = 1},
                         .column = {.block = matrix->block,
                                    .parts = grid->columns,
                                    .part = grid->column,
                                    .rank_step = 1,
                                    .stride = matrix->stride}};
}

lode_view_t lode_view_transposed(lode_view_t view) {
    const lode_axis_t row = view.row;
    view.row = view.column;
    view.column = row;
    return view;
}

int64_t lode_exchange_rows(const lode_grid_t *grid, int64_t block, int64_t columns) {
    /* Whole rounds over the grid's rows, so that all of its ranks have something to send. */
    const int64_t round = block * grid->rows;
    const int64_t ranks = (int64_t)grid->rows * grid->columns;
    const int64_t rows = grid->panel * ranks / (columns > 0 ? columns : 1);
    return rows > round ? rows / round * round : round;
}
