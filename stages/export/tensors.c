#include "export/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "export/work.h"
#include "score/weights.h"

enum { NAME_BYTES = 512 };

/* --- one tensor of weights ------------------------------------------------------------------- */

/* Kept elements of a vector [parts, channels], and in each part zeros for the rest of `width`. */
static lode_status_t put_vector(lode_export_work_t *work, const lode_export_tensor_t *tensor,
                                const unsigned char *bytes) {
    const lode_export_plan_t *plan = work->plan;
    const uint8_t *keep = plan->keep + tensor->owner * plan->channels;
    const int64_t size = tensor->source_bytes / (tensor->parts * plan->channels);
    for (int64_t part = 0; part < tensor->parts; part++) {
        for (int64_t j = 0; j < plan->channels; j++)
            if (keep[j])
                LODE_TRY(lode_export_sink_copy(&work->sink,
                                               bytes + (part * plan->channels + j) * size, size));
        LODE_TRY(lode_export_sink_zeros(&work->sink,
                                        (plan->width - plan->widths[tensor->owner]) * size));
    }
    return LODE_OK;
}

/* The variant's output bias, on top of the checkpoint's where that has one. */
static lode_status_t sum_biases(double *bias, double *present, lode_export_work_t *work,
                                const lode_export_tensor_t *tensor, int64_t hidden) {
    char name[NAME_BYTES];
    const int64_t offset[] = {tensor->owner, 0}, count[] = {1, hidden};
    lode_checkpoint_t *checkpoint = work->run->checkpoint;
    const void *bytes;
    snprintf(name, sizeof name, "/bias/%s", work->plan->pruned->name);
    LODE_TRY(lode_store_read(work->inputs->compensate, name, offset, count, LODE_TYPE_F64, bias));
    if (tensor->source < 0)
        return LODE_OK;
    LODE_TRY(lode_checkpoint_tensor_bytes(checkpoint, tensor->source, &bytes));
    const lode_tensor_t row = lode_tensor_matrix(bytes, tensor->dtype, 1, hidden);
    const lode_status_t status = lode_weights_row(present, &row, 0, "the bias");
    lode_checkpoint_release_tensor(checkpoint, tensor->source);
    for (int64_t i = 0; i < hidden && status == LODE_OK; i++)
        bias[i] += present[i];
    return status;
}

static lode_status_t put_bias(lode_export_work_t *work, const lode_export_tensor_t *tensor) {
    const int64_t hidden = work->run->architecture.hidden;
    const lode_dtype_t dtype = tensor->dtype;
    double *bias;
    unsigned char *place;
    LODE_TRY(LODE_NEW(&bias, 2 * hidden, "output bias"));
    lode_status_t status = sum_biases(bias, bias + hidden, work, tensor, hidden);
    if (status == LODE_OK)
        status =
            lode_export_sink_take(&work->sink, hidden * (int64_t)lode_dtype_size(dtype), &place);
    if (status == LODE_OK)
        status = lode_writer_round_f64(place, dtype, bias, hidden);
    free(bias);
    return status;
}

static lode_status_t put_weights(lode_export_work_t *work, int64_t index) {
    const lode_export_tensor_t *tensor = &work->plan->tensors[index];
    lode_checkpoint_t *checkpoint = work->run->checkpoint;
    const void *bytes;
    switch (tensor->kind) {
    case LODE_EXPORT_ZEROS:
        return lode_export_sink_zeros(&work->sink,
                                      work->plan->list[LODE_EXPORT_WEIGHTS][index].bytes);
    case LODE_EXPORT_BIAS:
        return put_bias(work, tensor);
    case LODE_EXPORT_MATRIX:
        return lode_export_put_matrix(work, tensor);
    case LODE_EXPORT_COPY:
    case LODE_EXPORT_VECTOR:
        break;
    }
    LODE_TRY(lode_checkpoint_tensor_bytes(checkpoint, tensor->source, &bytes));
    const lode_status_t status =
        tensor->kind == LODE_EXPORT_VECTOR
            ? put_vector(work, tensor, bytes)
            : lode_export_sink_copy(&work->sink, bytes, tensor->source_bytes);
    lode_checkpoint_release_tensor(checkpoint, tensor->source);
    return status;
}

/* --- all that are this rank's ---------------------------------------------------------------- */

/* Whether this rank writes a tensor: the one that computes with it does, in the first replica;
 * what
 * nobody computes with goes with the embedding. */
static bool is_mine(const lode_run_t *run, int64_t owner) {
    const lode_layout_t *layout = &run->layout;
    if (!lode_run_owns_layers(run))
        return false;
    if (owner >= 0)
        return owner >= layout->first_layer && owner < layout->layer_end;
    return owner == LODE_OWNER_FINAL_NORM || owner == LODE_OWNER_HEAD ? layout->head
                                                                      : layout->embedding;
}

/* The owner of a tensor of a set. */
static int64_t owner_of(const lode_export_plan_t *plan, int set, int64_t index) {
    return set == LODE_EXPORT_WEIGHTS ? plan->tensors[index].owner : plan->beside[index].layer;
}

static bool is_to_do(const lode_export_work_t *work, lode_writer_t *writer, int set,
                     int64_t index) {
    return is_mine(work->run, owner_of(work->plan, set, index)) && !lode_writer_done(writer, index);
}

static lode_status_t put_tensor(lode_export_work_t *work, lode_writer_t *writer, int set,
                                int64_t index) {
    lode_export_sink_begin(&work->sink, writer, index);
    lode_status_t status = set == LODE_EXPORT_WEIGHTS
                               ? put_weights(work, index)
                               : lode_export_put_parameter(work, &work->plan->beside[index]);
    if (status == LODE_OK)
        status = lode_export_sink_flush(&work->sink);
    if (status == LODE_OK)
        status = lode_writer_mark(writer, index);
    if (status == LODE_OK)
        return LODE_OK;
    return lode_fail_context(status, "export of %s, tensor \"%.200s\"", work->plan->entry->variant,
                             work->plan->list[set][index].name);
}

static lode_status_t put_all(lode_export_work_t *work,
                             lode_writer_t *const writers[LODE_EXPORT_SETS]) {
    const lode_comm_t alone = lode_comm_alone(); /* ranks stop at tensors of their own */
    int64_t mine = 0;
    lode_progress_t progress;
    for (int set = 0; set < LODE_EXPORT_SETS; set++)
        for (int64_t i = 0; i < work->plan->count[set]; i++)
            mine += is_to_do(work, writers[set], set, i);
    lode_progress_start(&progress, "export", "tensor", mine);
    for (int set = 0; set < LODE_EXPORT_SETS; set++)
        for (int64_t i = 0; i < work->plan->count[set]; i++) {
            if (!is_to_do(work, writers[set], set, i))
                continue;
            LODE_TRY(lode_comm_stop(&alone, 0));
            LODE_TRY(put_tensor(work, writers[set], set, i));
            lode_progress_add(&progress, 1, 0);
        }
    lode_progress_end(&progress);
    return LODE_OK;
}

/* Elements of the longest line of any matrix, fused ones too. */
static int64_t longest_line(const lode_architecture_t *a) {
    const int64_t heads = (a->heads + 2 * a->kv_heads) * a->head_dim;
    const int64_t ffn = 2 * a->intermediate;
    const int64_t most = heads > ffn ? heads : ffn;
    return most > a->hidden ? most : a->hidden;
}

lode_status_t lode_export_tensors(lode_writer_t *const writers[LODE_EXPORT_SETS],
                                  const lode_export_plan_t *plan, lode_run_t *run,
                                  const lode_export_inputs_t *inputs) {
    const int64_t line = longest_line(&run->architecture);
    const int64_t block = LODE_EXPORT_BLOCK_BYTES / (int64_t)sizeof(float);
    lode_export_work_t work = {
        .plan = plan, .run = run, .inputs = inputs, .room = line > block ? line : block};
    if (!lode_run_owns_layers(run))
        return LODE_OK;
    lode_status_t status = lode_export_sink_create(&work.sink, line * (int64_t)sizeof(float));
    if (status == LODE_OK && plan->variant)
        status = LODE_NEW_RAW(&work.values, work.room, "weights to write");
    if (status == LODE_OK && plan->variant)
        status = LODE_NEW_RAW(&work.line, line, "weights to write");
    if (status == LODE_OK)
        status = put_all(&work, writers);
    lode_export_sink_free(&work.sink);
    free(work.values);
    free(work.line);
    return status;
}
