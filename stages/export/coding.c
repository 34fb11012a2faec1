#include "export/coding.h"

#include <stdlib.h>

#include "base/memory.h"

static const char *const suffixes[LODE_EXPORT_PARAMETER_COUNT] = {
    [LODE_EXPORT_SCALE] = ".scale",         [LODE_EXPORT_MINIMUM] = ".minimum",
    [LODE_EXPORT_ROW_BITS] = ".row_bits",   [LODE_EXPORT_COLUMN_BITS] = ".column_bits",
    [LODE_EXPORT_KEPT_ROWS] = ".kept_rows", [LODE_EXPORT_KEPT_COLUMNS] = ".kept_columns",
    [LODE_EXPORT_HELD] = ".held",           [LODE_EXPORT_HELD_VALUES] = ".held_values",
    [LODE_EXPORT_CODES] = ".codes",
};

const char *lode_export_parameter_suffix(lode_export_parameter_t parameter) {
    return suffixes[parameter];
}

/* --- what is known of them ------------------------------------------------------------------- */

static int64_t count_set(const uint8_t *flags, int64_t count) {
    int64_t set = 0;
    for (int64_t i = 0; flags && i < count; i++)
        set += flags[i] != 0;
    return set;
}

/* An extent of a matrix in a layer that keeps `width` channels. */
static int64_t extent_of(const lode_architecture_t *architecture, lode_extent_t extent,
                         int64_t width) {
    return extent == LODE_EXTENT_INTERMEDIATE ? width : lode_family_extent(architecture, extent);
}

static lode_export_coding_t describe(const lode_codec_t *codec, int64_t rows, int64_t columns) {
    const bool rounded = codec->bits > 0 || codec->row_bits || codec->col_bits;
    return (lode_export_coding_t){
        .coded = 1,
        .rounded = rounded,
        .rows = rows,
        .columns = columns,
        .blocks = rounded ? lode_codec_blocks(codec, rows, columns) : 0,
        .row_bits = codec->row_bits != NULL,
        .column_bits = codec->col_bits != NULL,
        .kept_rows = count_set(codec->keep_row, rows),
        .kept_columns = count_set(codec->keep_col, columns),
        .held = codec->held_count,
    };
}

static void describe_layer(lode_export_coding_t codings[LODE_MATRICES], const lode_run_t *run,
                           const lode_layer_edit_t *edit) {
    const lode_architecture_t *architecture = &run->architecture;
    const lode_family_t *family = lode_family(architecture->model_type);
    const int64_t width = edit->channels ? edit->count : architecture->intermediate;
    for (int which = 0; which < LODE_MATRICES; which++) {
        const lode_extent_t *extents =
            family->tensors[lode_matrix_role((lode_layer_matrix_t)which)].shape;
        if (edit->codec[which])
            codings[which] =
                describe(edit->codec[which], extent_of(architecture, extents[0], width),
                         extent_of(architecture, extents[1], width));
    }
}

lode_status_t lode_export_codings(lode_export_coding_t **out, const lode_run_t *run,
                                  lode_edits_t *edits, int64_t variant) {
    const int64_t count = run->architecture.layers * LODE_MATRICES;
    const int64_t numbers = count * (int64_t)(sizeof **out / sizeof(int64_t));
    lode_status_t status = LODE_NEW(out, count, "matrices of a variant");
    int narrow = 0;
    if (status == LODE_OK)
        status = lode_narrow(&narrow, numbers, "matrices of a variant");
    status = lode_comm_agree(run->comm, status);
    if (status != LODE_OK) {
        free(*out);
        *out = NULL;
        return status;
    }
    for (int64_t l = run->layout.first_layer;
         variant >= 0 && lode_run_owns_layers(run) && l < run->layout.layer_end; l++) {
        const lode_layer_edit_t edit = lode_edits_of(edits, variant, l);
        describe_layer(*out + l * LODE_MATRICES, run, &edit);
    }
    if (run->comm->size > 1)
        MPI_Allreduce(MPI_IN_PLACE, *out, narrow, MPI_INT64_T, MPI_SUM, run->comm->comm);
    return LODE_OK;
}

/* --- tensors of parameters ------------------------------------------------------------------- */

static bool describe_as(lode_writer_tensor_t *item, const char *dtype, int64_t size, int rank,
                        int64_t first, int64_t second) {
    item->dtype = dtype;
    item->rank = rank;
    item->shape[0] = first;
    item->shape[1] = second;
    item->bytes = first * (rank == 2 ? second : 1) * size;
    return true;
}

bool lode_export_parameter_describe(lode_writer_tensor_t *item, const lode_export_coding_t *coding,
                                    lode_export_parameter_t parameter, bool codes) {
    if (!coding->rounded)
        return false;
    switch (parameter) {
    case LODE_EXPORT_SCALE:
    case LODE_EXPORT_MINIMUM:
        return describe_as(item, "F32", 4, 1, coding->blocks, 0);
    case LODE_EXPORT_ROW_BITS:
        return coding->row_bits && describe_as(item, "U8", 1, 1, coding->rows, 0);
    case LODE_EXPORT_COLUMN_BITS:
        return coding->column_bits && describe_as(item, "U8", 1, 1, coding->columns, 0);
    case LODE_EXPORT_KEPT_ROWS:
        return coding->kept_rows > 0 && describe_as(item, "I32", 4, 1, coding->kept_rows, 0);
    case LODE_EXPORT_KEPT_COLUMNS:
        return coding->kept_columns > 0 && describe_as(item, "I32", 4, 1, coding->kept_columns, 0);
    case LODE_EXPORT_HELD:
        return coding->held > 0 && describe_as(item, "I32", 4, 2, coding->held, 2);
    case LODE_EXPORT_HELD_VALUES:
        return coding->held > 0 && describe_as(item, "F32", 4, 1, coding->held, 0);
    case LODE_EXPORT_CODES:
        return codes && describe_as(item, "U8", 1, 2, coding->rows, coding->columns);
    case LODE_EXPORT_PARAMETER_COUNT:
        break;
    }
    return false;
}
