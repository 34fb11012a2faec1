#include <string.h>

#include "export/work.h"

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

lode_status_t lode_export_layer(lode_layer_t *layer, lode_export_work_t *work, int64_t index) {
    const lode_architecture_t *architecture = &work->run->architecture;
    *layer = (lode_layer_t){.d = architecture->hidden, .m = architecture->intermediate};
    lode_layer_weights_t weights;
    LODE_TRY(lode_checkpoint_layer(work->run->checkpoint, index, &weights));
    for (int which = 0; which < LODE_MATRICES; which++) {
        const lode_role_t role = lode_matrix_role((lode_layer_matrix_t)which);
        const lode_tensor_t *tensor = lode_layer_weights_role(&weights, role);
        if (tensor->data)
            *lode_layer_matrix(layer, (lode_layer_matrix_t)which) = lode_weight_of(tensor);
    }
    const lode_layer_edit_t edit = lode_edits_of(work->inputs->edits, work->plan->index, index);
    lode_layer_edit(layer, &edit);
    return LODE_OK;
}

/* A matrix in the folder's tensor: at least as many rows and columns as it has itself, the others
 * zero. */
typedef struct part {
    const lode_weight_t *weight;
    int64_t rows, columns; /* in the folder */
    int64_t first;         /* rows of the parts before, in `weight` */
} part_t;

typedef struct parts {
    int count;
    part_t part[LODE_TENSOR_MAX_PARTS];
    int64_t rows; /* of all their weights */
    lode_dtype_t dtype;
    int64_t size; /* bytes of an element */
} parts_t;

static void find_parts(parts_t *parts, lode_layer_t *layer, const lode_export_work_t *work,
                       const lode_tensor_info_t *info, lode_dtype_t dtype) {
    const lode_family_t *family = lode_family(work->run->architecture.model_type);
    *parts = (parts_t){
        .count = info->part_count, .dtype = dtype, .size = (int64_t)lode_dtype_size(dtype)};
    for (int p = 0; p < info->part_count; p++) {
        const lode_role_t role = info->parts[p].role;
        const lode_extent_t *extents = family->tensors[role].shape;
        const lode_weight_t *weight = NULL;
        for (int which = 0; which < LODE_MATRICES && !weight; which++)
            if (lode_matrix_role((lode_layer_matrix_t)which) == role)
                weight = lode_layer_matrix(layer, (lode_layer_matrix_t)which);
        LODE_ASSERT(weight != NULL);
        const int64_t width = work->plan->width;
        parts->part[p] =
            (part_t){.weight = weight,
                     .rows = extents[0] == LODE_EXTENT_INTERMEDIATE ? width : weight->out,
                     .columns = extents[1] == LODE_EXTENT_INTERMEDIATE ? width : weight->in,
                     .first = parts->rows};
        parts->rows += weight->out;
    }
}

/* Rounds values[count] into the sink, and `padding` elements of zeros after them. */
static lode_status_t put_values(lode_export_work_t *work, const parts_t *parts, const float *values,
                                int64_t count, int64_t padding) {
    unsigned char *place;
    LODE_TRY(lode_export_sink_take(&work->sink, count * parts->size, &place));
    LODE_TRY(lode_writer_round(place, parts->dtype, values, count));
    return lode_export_sink_zeros(&work->sink, padding * parts->size);
}

/* A part that is stored row by row. */
static lode_status_t put_rows(lode_export_work_t *work, const parts_t *parts, const part_t *part) {
    const lode_weight_t *weight = part->weight;
    const int64_t in = weight->in, step = in > 0 ? work->room / in : weight->out;
    for (int64_t row = 0; row < weight->out; row += step) {
        const int64_t rows = min2(step, weight->out - row);
        if (in > 0)
            lode_codec_read(weight, row, rows, 0, in, work->values);
        for (int64_t i = 0; i < rows; i++)
            LODE_TRY(put_values(work, parts, work->values + i * in, in, part->columns - in));
    }
    return lode_export_sink_zeros(&work->sink,
                                  (part->rows - weight->out) * part->columns * parts->size);
}

/* Parts that are stored transposed: a line has a column of each, one after the other. */
static lode_status_t put_columns(lode_export_work_t *work, const parts_t *parts) {
    const int64_t in = parts->part[0].weight->in;
    const int64_t step = parts->rows > 0 ? work->room / parts->rows : in;
    int64_t stored = 0; /* elements of a line in the folder */
    for (int p = 0; p < parts->count; p++)
        stored += parts->part[p].rows;
    for (int64_t column = 0; column < in; column += step) {
        const int64_t columns = min2(step, in - column);
        for (int p = 0; p < parts->count; p++) {
            const part_t *part = &parts->part[p];
            if (part->weight->out > 0)
                lode_codec_read(part->weight, 0, part->weight->out, column, columns,
                                work->values + part->first * columns);
        }
        for (int64_t j = 0; j < columns; j++)
            for (int p = 0; p < parts->count; p++) {
                const part_t *part = &parts->part[p];
                const int64_t out = part->weight->out;
                for (int64_t i = 0; i < out; i++)
                    work->line[i] = work->values[(part->first + i) * columns + j];
                LODE_TRY(put_values(work, parts, work->line, out, part->rows - out));
            }
    }
    return lode_export_sink_zeros(&work->sink,
                                  (parts->part[0].columns - in) * stored * parts->size);
}

lode_status_t lode_export_put_matrix(lode_export_work_t *work, const lode_export_tensor_t *tensor) {
    const lode_tensor_info_t info =
        lode_checkpoint_tensor_info(work->run->checkpoint, tensor->source);
    lode_layer_t layer;
    parts_t parts;
    LODE_TRY(lode_export_layer(&layer, work, tensor->owner));
    find_parts(&parts, &layer, work, &info, tensor->dtype);
    lode_status_t status = LODE_OK;
    if (info.transposed)
        status = put_columns(work, &parts);
    for (int p = 0; p < parts.count && !info.transposed && status == LODE_OK; p++)
        status = put_rows(work, &parts, &parts.part[p]);
    lode_checkpoint_release_layer(work->run->checkpoint, tensor->owner);
    return status;
}
