#include "export/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "score/weights.h"

enum { BLOCK_BYTES = 4 << 20, NAME_BYTES = 512 };

/* The tensor in hand, and the next of its bytes before they are written. */
typedef struct sink {
    lode_writer_t *writer;
    int64_t index, offset; /* offset: of the block's first byte */
    unsigned char *block;  /* [room] */
    size_t used, room;
    float *values; /* [BLOCK_BYTES / 4] or one row, for compensated weights */
    float *line;   /* [d], for compensated weights that are stored transposed */
} sink_t;

static lode_status_t flush(sink_t *sink) {
    if (sink->used == 0)
        return LODE_OK;
    LODE_TRY(lode_writer_write(sink->writer, sink->index, sink->offset, sink->block, sink->used));
    sink->offset += (int64_t)sink->used;
    sink->used = 0;
    return LODE_OK;
}

/* The place of the next `bytes` bytes, at most a block of them. */
static lode_status_t take(sink_t *sink, size_t bytes, unsigned char **place) {
    LODE_ASSERT(bytes <= sink->room);
    if (bytes > sink->room - sink->used)
        LODE_TRY(flush(sink));
    *place = sink->block + sink->used;
    sink->used += bytes;
    return LODE_OK;
}

static lode_status_t put_zeros(sink_t *sink, int64_t bytes) {
    while (bytes > 0) {
        unsigned char *place;
        const size_t piece = bytes < BLOCK_BYTES ? (size_t)bytes : BLOCK_BYTES;
        LODE_TRY(take(sink, piece, &place));
        memset(place, 0, piece);
        bytes -= (int64_t)piece;
    }
    return LODE_OK;
}

static lode_status_t put_copy(sink_t *sink, const unsigned char *bytes, int64_t size) {
    for (int64_t done = 0; done < size;) {
        unsigned char *place;
        const size_t piece = size - done < BLOCK_BYTES ? (size_t)(size - done) : BLOCK_BYTES;
        LODE_TRY(take(sink, piece, &place));
        memcpy(place, bytes + done, piece);
        done += (int64_t)piece;
    }
    return LODE_OK;
}

/* Kept lines of an array [parts, channels, ·], and in each part zeros for the rest of `width`. */
static lode_status_t put_lines(sink_t *sink, const lode_export_plan_t *plan,
                               const lode_export_tensor_t *tensor, const unsigned char *bytes) {
    const int64_t layer = tensor->owner;
    const uint8_t *keep = plan->keep + layer * plan->channels;
    const int64_t line = tensor->source_bytes / (tensor->parts * plan->channels);
    for (int64_t part = 0; part < tensor->parts; part++) {
        for (int64_t j = 0; j < plan->channels; j++)
            if (keep[j])
                LODE_TRY(put_copy(sink, bytes + (part * plan->channels + j) * line, line));
        LODE_TRY(put_zeros(sink, (plan->width - plan->widths[layer]) * line));
    }
    return LODE_OK;
}

/* out[k] = row[kept[k]] in elements of `size` bytes. */
static void gather(unsigned char *out, const unsigned char *row, size_t size, const uint8_t *keep,
                   int64_t channels) {
    if (size == 4) {
        for (int64_t j = 0; j < channels; j++) {
            memcpy(out, row + 4 * j, 4);
            out += keep[j] ? 4 : 0;
        }
        return;
    }
    for (int64_t j = 0; j < channels; j++) {
        memcpy(out, row + 2 * j, 2);
        out += keep[j] ? 2 : 0;
    }
}

/* Kept elements of the lines of an array [·, parts, channels], each part filled up with zeros. */
static lode_status_t put_elements(sink_t *sink, const lode_export_plan_t *plan,
                                  const lode_export_tensor_t *tensor, const unsigned char *bytes) {
    const int64_t layer = tensor->owner;
    const uint8_t *keep = plan->keep + layer * plan->channels;
    const size_t element = lode_dtype_size(tensor->dtype);
    const size_t kept = (size_t)plan->widths[layer] * element;
    const int64_t part = plan->channels * (int64_t)element;
    for (int64_t at = 0; at < tensor->source_bytes; at += part) {
        unsigned char *place;
        /* An element more: gather writes one ahead of what it keeps. */
        LODE_TRY(take(sink, kept + element, &place));
        gather(place, bytes + at, element, keep, plan->channels);
        sink->used -= element;
        LODE_TRY(put_zeros(sink, (plan->width - plan->widths[layer]) * (int64_t)element));
    }
    return LODE_OK;
}

/* The compensated matrix [d, kept] of the variant, rounded to the source's type. */
static lode_status_t put_down(sink_t *sink, const lode_export_plan_t *plan, int64_t layer,
                              int64_t hidden, lode_dtype_t dtype, lode_store_t *compensate) {
    char name[NAME_BYTES];
    const int64_t kept = plan->widths[layer];
    const int64_t element = (int64_t)lode_dtype_size(dtype);
    int64_t step = kept > 0 ? BLOCK_BYTES / 4 / kept : hidden;
    step = step < 1 ? 1 : step;
    snprintf(name, sizeof name, "/down/%s/%lld", plan->variant->name, (long long)layer);
    for (int64_t row = 0; row < hidden; row += step) {
        const int64_t rows = hidden - row < step ? hidden - row : step;
        const int64_t offset[] = {row, 0}, count[] = {rows, kept};
        LODE_TRY(lode_store_read(compensate, name, offset, count, LODE_TYPE_F32, sink->values));
        for (int64_t i = 0; i < rows; i++) {
            unsigned char *place;
            LODE_TRY(take(sink, (size_t)(kept * element), &place));
            LODE_TRY(lode_writer_round(place, dtype, sink->values + i * kept, kept));
            LODE_TRY(put_zeros(sink, (plan->width - kept) * element));
        }
    }
    return LODE_OK;
}

/* The same stored [kept, d]: a line is a column of compensate.h5's. */
static lode_status_t put_down_transposed(sink_t *sink, const lode_export_plan_t *plan,
                                         int64_t layer, int64_t hidden, lode_dtype_t dtype,
                                         lode_store_t *compensate) {
    char name[NAME_BYTES];
    const int64_t kept = plan->widths[layer];
    const int64_t line = hidden * (int64_t)lode_dtype_size(dtype);
    int64_t step = BLOCK_BYTES / 4 / hidden;
    step = step < 1 ? 1 : step;
    snprintf(name, sizeof name, "/down/%s/%lld", plan->variant->name, (long long)layer);
    for (int64_t column = 0; column < kept; column += step) {
        const int64_t columns = kept - column < step ? kept - column : step;
        const int64_t offset[] = {0, column}, count[] = {hidden, columns};
        LODE_TRY(lode_store_read(compensate, name, offset, count, LODE_TYPE_F32, sink->values));
        for (int64_t j = 0; j < columns; j++) {
            unsigned char *place;
            for (int64_t i = 0; i < hidden; i++)
                sink->line[i] = sink->values[i * columns + j];
            LODE_TRY(take(sink, (size_t)line, &place));
            LODE_TRY(lode_writer_round(place, dtype, sink->line, hidden));
        }
    }
    return put_zeros(sink, (plan->width - kept) * line);
}

/* The variant's output bias, on top of the checkpoint's where that has one. */
static lode_status_t sum_biases(double *bias, double *present, const lode_export_plan_t *plan,
                                const lode_export_tensor_t *tensor, int64_t hidden, lode_run_t *run,
                                lode_store_t *compensate) {
    char name[NAME_BYTES];
    const int64_t offset[] = {tensor->owner, 0}, count[] = {1, hidden};
    const void *bytes;
    snprintf(name, sizeof name, "/bias/%s", plan->variant->name);
    LODE_TRY(lode_store_read(compensate, name, offset, count, LODE_TYPE_F64, bias));
    if (tensor->source < 0)
        return LODE_OK;
    LODE_TRY(lode_checkpoint_tensor_bytes(run->checkpoint, tensor->source, &bytes));
    const lode_tensor_t row = lode_tensor_matrix(bytes, tensor->dtype, 1, hidden);
    const lode_status_t status = lode_weights_row(present, &row, 0, "the bias");
    lode_checkpoint_release_tensor(run->checkpoint, tensor->source);
    for (int64_t i = 0; i < hidden && status == LODE_OK; i++)
        bias[i] += present[i];
    return status;
}

static lode_status_t put_bias(sink_t *sink, const lode_export_plan_t *plan,
                              const lode_export_tensor_t *tensor, lode_run_t *run,
                              lode_store_t *compensate) {
    const int64_t hidden = run->architecture.hidden;
    const lode_dtype_t dtype = tensor->dtype;
    double *bias;
    unsigned char *place;
    LODE_TRY(LODE_NEW(&bias, 2 * hidden, "output bias"));
    lode_status_t status = sum_biases(bias, bias + hidden, plan, tensor, hidden, run, compensate);
    if (status == LODE_OK)
        status = take(sink, (size_t)hidden * lode_dtype_size(dtype), &place);
    if (status == LODE_OK)
        status = lode_writer_round_f64(place, dtype, bias, hidden);
    free(bias);
    return status;
}

static lode_status_t put_tensor(sink_t *sink, const lode_export_plan_t *plan, lode_run_t *run,
                                lode_store_t *compensate) {
    const lode_export_tensor_t *tensor = &plan->tensors[sink->index];
    const int64_t hidden = run->architecture.hidden;
    const void *bytes;
    if (tensor->kind == LODE_EXPORT_ZEROS)
        return put_zeros(sink, plan->list[sink->index].bytes);
    if (tensor->kind == LODE_EXPORT_BIAS)
        return put_bias(sink, plan, tensor, run, compensate);
    if (tensor->kind == LODE_EXPORT_DOWN)
        return (tensor->transposed ? put_down_transposed : put_down)(
            sink, plan, tensor->owner, hidden, tensor->dtype, compensate);
    LODE_TRY(lode_checkpoint_tensor_bytes(run->checkpoint, tensor->source, &bytes));
    lode_status_t status;
    if (tensor->kind == LODE_EXPORT_LINES)
        status = put_lines(sink, plan, tensor, bytes);
    else if (tensor->kind == LODE_EXPORT_ELEMENTS)
        status = put_elements(sink, plan, tensor, bytes);
    else
        status = put_copy(sink, bytes, tensor->source_bytes);
    lode_checkpoint_release_tensor(run->checkpoint, tensor->source);
    return status;
}

/* Whether this rank writes a tensor: the one that computes with it does, in the first replica;
 * tensors that nobody computes with go with the embedding. */
static bool is_mine(const lode_run_t *run, int64_t owner) {
    const lode_layout_t *layout = &run->layout;
    if (!lode_run_owns_layers(run))
        return false;
    if (owner >= 0)
        return owner >= layout->first_layer && owner < layout->layer_end;
    return owner == LODE_OWNER_FINAL_NORM || owner == LODE_OWNER_HEAD ? layout->head
                                                                      : layout->embedding;
}

static lode_status_t put_all(sink_t *sink, const lode_export_plan_t *plan, lode_run_t *run,
                             lode_store_t *compensate) {
    const lode_comm_t alone = lode_comm_alone(); /* ranks stop at tensors of their own */
    int64_t mine = 0;
    lode_progress_t progress;
    for (int64_t i = 0; i < plan->count; i++)
        mine += is_mine(run, plan->tensors[i].owner) && !lode_writer_done(sink->writer, i);
    lode_progress_start(&progress, "export", "tensor", mine);
    for (int64_t i = 0; i < plan->count; i++) {
        if (!is_mine(run, plan->tensors[i].owner) || lode_writer_done(sink->writer, i))
            continue;
        LODE_TRY(lode_comm_stop(&alone, 0));
        sink->index = i;
        sink->offset = 0;
        lode_status_t status = put_tensor(sink, plan, run, compensate);
        if (status == LODE_OK)
            status = flush(sink);
        if (status == LODE_OK)
            status = lode_writer_mark(sink->writer, i);
        if (status != LODE_OK)
            return lode_fail_context(status, "export of %s, tensor \"%.200s\"",
                                     plan->entry->variant, plan->list[i].name);
        lode_progress_add(&progress, 1, 0);
    }
    lode_progress_end(&progress);
    return LODE_OK;
}

lode_status_t lode_export_tensors(lode_writer_t *writer, const lode_export_plan_t *plan,
                                  lode_run_t *run, lode_store_t *compensate) {
    /* The widest row that must lie in the block at once, and one element more. */
    const int64_t widest =
        plan->channels > run->architecture.hidden ? plan->channels : run->architecture.hidden;
    const int64_t row = 4 * (widest + 1);
    sink_t sink = {.writer = writer, .room = (size_t)(row > BLOCK_BYTES ? row : BLOCK_BYTES)};
    if (!lode_run_owns_layers(run))
        return LODE_OK;
    lode_status_t status = LODE_NEW_RAW(&sink.block, (int64_t)sink.room, "block to write");
    if (status == LODE_OK && plan->compensated)
        status = LODE_NEW_RAW(&sink.values, (int64_t)(sink.room / sizeof *sink.values),
                              "compensated weights");
    if (status == LODE_OK && plan->compensated)
        status = LODE_NEW_RAW(&sink.line, run->architecture.hidden, "compensated weights");
    if (status == LODE_OK)
        status = put_all(&sink, plan, run, compensate);
    free(sink.block);
    free(sink.values);
    free(sink.line);
    return status;
}
