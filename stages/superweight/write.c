#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "superweight/work.h"

enum { PATH = 128 };

/* A dataset that is one member of an array of structs. */
typedef struct column {
    const char *name;
    lode_type_t type;
    size_t offset;
} column_t;

/* Of what is written, what is a struct of its own. */
typedef struct weight_row {
    int32_t layer, row, channel, iteration, prompt, token, loss_proxy_rank;
    double value, input, output, product, ratio_input, ratio_output, loss_proxy_share;
    uint8_t core, halo, known;
} weight_row_t;

typedef struct trace_row {
    lode_spike_layer_t seen;
    double share;
} trace_row_t;

typedef struct other_row {
    lode_outlier_t weight;
    double value;
} other_row_t;

/* One column of rank 0's `rows` [count] of `stride` bytes; NULL writes nothing. */
static lode_status_t write_column(lode_superweight_work_t *work, const char *path,
                                  const column_t *column, const void *rows, size_t stride,
                                  int64_t count) {
    const size_t size = lode_type_size(column->type);
    const int64_t offset = 0;
    char *dense;
    if (work->run->comm->rank != 0 || !rows || count == 0)
        return LODE_OK;
    LODE_TRY(lode_alloc(&dense, count, size, "a dataset"));
    for (int64_t i = 0; i < count; i++)
        memcpy(dense + (size_t)i * size, (const char *)rows + (size_t)i * stride + column->offset,
               size);
    const lode_status_t status = lode_store_write(work->store, path, &offset, &count, dense);
    free(dense);
    return status;
}

/* Creates datasets <group>/<column> [count] and writes them. Collective. */
static lode_status_t put_columns(lode_superweight_work_t *work, const char *group,
                                 const column_t *columns, size_t column_count, const void *rows,
                                 size_t stride, int64_t count) {
    lode_status_t local = LODE_OK;
    for (size_t c = 0; c < column_count; c++) {
        char path[2 * PATH];
        snprintf(path, sizeof path, "%s/%s", group, columns[c].name);
        LODE_TRY(lode_store_dataset(work->store, path, columns[c].type, 1, &count, false));
        if (local == LODE_OK)
            local = write_column(work, path, &columns[c], rows, stride, count);
    }
    return lode_comm_agree(work->run->comm, local);
}

/* The same of one array. */
static lode_status_t put_array(lode_superweight_work_t *work, const char *group, const char *name,
                               lode_type_t type, const void *values, int64_t count) {
    const column_t column = {name, type, 0};
    return put_columns(work, group, &column, 1, values, lode_type_size(type), count);
}

/* --- /weights -------------------------------------------------------------------------------- */

static weight_row_t weight_row(const lode_superweight_t *found,
                               const lode_superweight_relation_t *relation) {
    const lode_spike_layer_t *seen = &found->seen;
    return (weight_row_t){.layer = found->layer,
                          .row = found->row,
                          .channel = found->channel,
                          .iteration = found->iteration,
                          .prompt = found->prompt,
                          .token = seen->output.token,
                          .loss_proxy_rank = relation->loss_proxy_rank,
                          .value = (double)found->value,
                          .input = seen->activation,
                          .output = seen->output.value,
                          .product = seen->activation * seen->weight,
                          .ratio_input = lode_spike_ratio(seen->activation, seen->input_scale),
                          .ratio_output = lode_spike_ratio(seen->output.value, seen->output_scale),
                          .loss_proxy_share = relation->loss_proxy_share,
                          .core = relation->core,
                          .halo = relation->halo,
                          .known = relation->known};
}

static lode_status_t put_weights(lode_superweight_work_t *work) {
    static const column_t columns[] = {
        {"layer", LODE_TYPE_I32, offsetof(weight_row_t, layer)},
        {"row", LODE_TYPE_I32, offsetof(weight_row_t, row)},
        {"channel", LODE_TYPE_I32, offsetof(weight_row_t, channel)},
        {"value", LODE_TYPE_F64, offsetof(weight_row_t, value)},
        {"iteration", LODE_TYPE_I32, offsetof(weight_row_t, iteration)},
        {"prompt", LODE_TYPE_I32, offsetof(weight_row_t, prompt)},
        {"token", LODE_TYPE_I32, offsetof(weight_row_t, token)},
        {"input", LODE_TYPE_F64, offsetof(weight_row_t, input)},
        {"output", LODE_TYPE_F64, offsetof(weight_row_t, output)},
        {"product", LODE_TYPE_F64, offsetof(weight_row_t, product)},
        {"ratio_input", LODE_TYPE_F64, offsetof(weight_row_t, ratio_input)},
        {"ratio_output", LODE_TYPE_F64, offsetof(weight_row_t, ratio_output)},
        {"loss_proxy_rank", LODE_TYPE_I32, offsetof(weight_row_t, loss_proxy_rank)},
        {"loss_proxy_share", LODE_TYPE_F64, offsetof(weight_row_t, loss_proxy_share)},
        {"core", LODE_TYPE_U8, offsetof(weight_row_t, core)},
        {"halo", LODE_TYPE_U8, offsetof(weight_row_t, halo)},
        {"known", LODE_TYPE_U8, offsetof(weight_row_t, known)},
    };
    const lode_superweight_list_t *list = &work->list;
    weight_row_t *rows = NULL;
    lode_status_t status =
        lode_comm_agree(work->run->comm, LODE_NEW(&rows, list->count, "super weights"));
    for (int64_t i = 0; i < list->count && work->relation && status == LODE_OK; i++)
        rows[i] = weight_row(&list->found[i], &work->relation[i]);
    if (status == LODE_OK)
        status = put_columns(work, "/weights", columns, sizeof columns / sizeof *columns, rows,
                             sizeof *rows, list->count);
    free(rows);
    return status == LODE_OK ? lode_store_attribute_i64(work->store, "/weights", "limit_reached",
                                                        list->limit_reached)
                             : status;
}

/* --- /traces and /prompts -------------------------------------------------------------------- */

static lode_status_t put_trace(lode_superweight_work_t *work, int64_t iteration, int64_t prompt,
                               trace_row_t *rows) {
    static const column_t columns[] = {
        {"input_max", LODE_TYPE_F64, offsetof(trace_row_t, seen.input.value)},
        {"input_token", LODE_TYPE_I32, offsetof(trace_row_t, seen.input.token)},
        {"input_channel", LODE_TYPE_I32, offsetof(trace_row_t, seen.input.index)},
        {"output_max", LODE_TYPE_F64, offsetof(trace_row_t, seen.output.value)},
        {"output_token", LODE_TYPE_I32, offsetof(trace_row_t, seen.output.token)},
        {"output_channel", LODE_TYPE_I32, offsetof(trace_row_t, seen.output.index)},
        {"input_scale", LODE_TYPE_F64, offsetof(trace_row_t, seen.input_scale)},
        {"output_scale", LODE_TYPE_F64, offsetof(trace_row_t, seen.output_scale)},
        {"product_channel", LODE_TYPE_I32, offsetof(trace_row_t, seen.channel)},
        {"product_share", LODE_TYPE_F64, offsetof(trace_row_t, share)},
    };
    char group[PATH];
    const int64_t prompts = work->prompts.text.sequences;
    const lode_spike_layer_t *seen =
        work->list.trace ? work->list.trace + (iteration * prompts + prompt) * work->L : NULL;
    for (int64_t l = 0; l < work->L && seen; l++)
        rows[l] = (trace_row_t){.seen = seen[l], .share = lode_spike_share(&seen[l])};
    snprintf(group, sizeof group, "/traces/%lld/%lld", (long long)iteration, (long long)prompt);
    return put_columns(work, group, columns, sizeof columns / sizeof *columns, rows, sizeof *rows,
                       work->L);
}

static lode_status_t put_traces(lode_superweight_work_t *work) {
    trace_row_t *rows = NULL;
    lode_status_t status =
        lode_comm_agree(work->run->comm, LODE_NEW(&rows, work->L, "activation traces"));
    for (int64_t i = 0; i <= work->list.count && status == LODE_OK; i++)
        for (int64_t p = 0; p < work->prompts.text.sequences && status == LODE_OK; p++)
            status = put_trace(work, i, p, rows);
    free(rows);
    return status;
}

/* The prompts, one on a line. */
static lode_status_t list_prompts(lode_buffer_t *list, const lode_config_superweight_t *config) {
    for (int64_t p = 0; p < config->prompt_count; p++) {
        for (const char *c = config->prompts[p]; *c; c++)
            if (*c == '\n' || *c == '\\')
                LODE_TRY(lode_buffer_append(list, *c == '\n' ? "\\n" : "\\\\", 2));
            else
                LODE_TRY(lode_buffer_append(list, c, 1));
        LODE_TRY(lode_buffer_append(list, "\n", 1));
    }
    return LODE_OK;
}

static lode_status_t put_prompts(lode_superweight_work_t *work) {
    const int64_t prompts = work->prompts.text.sequences;
    lode_buffer_t list = {0};
    int64_t *tokens = NULL;
    lode_status_t status = LODE_NEW(&tokens, prompts, "prompts");
    if (status == LODE_OK)
        status = list_prompts(&list, &work->run->config->superweight);
    status = lode_comm_agree(work->run->comm, status);
    for (int64_t p = 0; p < prompts && work->prompts.offsets && status == LODE_OK; p++)
        tokens[p] = work->prompts.offsets[p + 1] - work->prompts.offsets[p];
    if (status == LODE_OK)
        status = put_array(work, "/prompts", "tokens", LODE_TYPE_I64, tokens, prompts);
    if (status == LODE_OK)
        status = lode_store_attribute_text(work->store, "/prompts", "texts", list.data);
    if (status == LODE_OK)
        status = lode_store_attribute_i64(work->store, "/prompts", "count", prompts);
    lode_buffer_free(&list);
    free(tokens);
    return status;
}

/* --- /others --------------------------------------------------------------------------------- */

/* Rank 0's list; the others only know that there is one. Collective. */
static lode_status_t put_others(lode_superweight_work_t *work, const char *group,
                                const lode_superweight_others_t *others) {
    static const column_t columns[] = {
        {"layer", LODE_TYPE_I32, offsetof(other_row_t, weight.layer)},
        {"matrix", LODE_TYPE_I32, offsetof(other_row_t, weight.matrix)},
        {"row", LODE_TYPE_I32, offsetof(other_row_t, weight.row)},
        {"col", LODE_TYPE_I32, offsetof(other_row_t, weight.col)},
        {"value", LODE_TYPE_F64, offsetof(other_row_t, value)},
    };
    int64_t count = others->count;
    other_row_t *rows = NULL;
    LODE_TRY(lode_comm_broadcast(work->run->comm, &count, sizeof count, 0));
    lode_status_t status = LODE_OK;
    if (others->item)
        status = LODE_NEW(&rows, count, "largest weights");
    status = lode_comm_agree(work->run->comm, status);
    for (int64_t i = 0; i < count && rows && status == LODE_OK; i++)
        rows[i] = (other_row_t){.weight = others->item[i], .value = (double)others->item[i].value};
    if (status == LODE_OK)
        status = put_columns(work, group, columns, sizeof columns / sizeof *columns, rows,
                             sizeof *rows, count);
    free(rows);
    return status;
}

/* --- /stopwords and /known ------------------------------------------------------------------- */

static lode_status_t put_stopwords(lode_superweight_work_t *work) {
    static const char group[] = "/stopwords";
    static const char *const names[LODE_SUPERWEIGHT_MODELS] = {"before", "after", "restored"};
    const lode_superweight_stopwords_t *stopwords = &work->stopwords;
    const lode_text_t *text = &stopwords->texts.text;
    const int64_t words = stopwords->words;
    int64_t missing = 0;
    int32_t *tokens = NULL;
    if (!stopwords->wanted)
        return LODE_OK;
    lode_status_t status = lode_comm_agree(work->run->comm, LODE_NEW(&tokens, words, "stopwords"));
    for (int64_t w = 0; w < words && stopwords->offset && status == LODE_OK; w++) {
        tokens[w] = (int32_t)(stopwords->offset[w + 1] - stopwords->offset[w]);
        missing += tokens[w] == 0;
    }
    if (status == LODE_OK)
        status = put_array(work, group, "tokens", LODE_TYPE_I32, tokens, words);
    free(tokens);
    LODE_TRY(status);
    for (int i = 0; i < LODE_SUPERWEIGHT_MODELS; i++) {
        char all[PATH];
        const double *mean = stopwords->mean[i];
        snprintf(all, sizeof all, "%s_all", names[i]);
        LODE_TRY(put_array(work, group, names[i], LODE_TYPE_F64, mean, words));
        LODE_TRY(lode_store_attribute_f64(work->store, group, all, mean ? mean[words] : 0));
    }
    LODE_TRY(lode_store_attribute_text(work->store, group, "words", stopwords->list));
    LODE_TRY(lode_store_attribute_i64(work->store, group, "missing", missing));
    LODE_TRY(lode_store_attribute_i64(work->store, group, "texts", text->sequences));
    return lode_store_attribute_i64(work->store, group, "positions",
                                    text->offsets ? text->offsets[text->sequences] : 0);
}

/* Rank 0 has the list. */
static lode_status_t put_known(lode_superweight_work_t *work) {
    static const char group[] = "/known";
    const lode_superweight_known_t *known = &work->known;
    int64_t counts[] = {known->listed ? known->count : -1, 0, work->list.count};
    for (int64_t k = 0; k < known->count; k++)
        counts[1] += known->found[k];
    for (int64_t i = 0; i < work->list.count && work->relation; i++)
        counts[2] -= work->relation[i].known;
    LODE_TRY(lode_comm_broadcast(work->run->comm, counts, sizeof counts, 0));
    const int64_t count = counts[0];
    if (count < 0)
        return LODE_OK;
    LODE_TRY(put_array(work, group, "layer", LODE_TYPE_I32, known->layer, count));
    LODE_TRY(put_array(work, group, "row", LODE_TYPE_I32, known->row, count));
    LODE_TRY(put_array(work, group, "channel", LODE_TYPE_I32, known->channel, count));
    LODE_TRY(put_array(work, group, "found", LODE_TYPE_U8, known->found, count));
    LODE_TRY(lode_store_attribute_text(work->store, group, "source", known->source));
    LODE_TRY(lode_store_attribute_i64(work->store, group, "found", counts[1]));
    LODE_TRY(lode_store_attribute_i64(work->store, group, "missed", count - counts[1]));
    return lode_store_attribute_i64(work->store, group, "others", counts[2]);
}

lode_status_t lode_superweight_write(lode_superweight_work_t *work) {
    LODE_TRY(put_weights(work));
    LODE_TRY(put_prompts(work));
    LODE_TRY(put_traces(work));
    LODE_TRY(put_others(work, "/others/tensor", &work->tensor));
    LODE_TRY(put_others(work, "/others/global", &work->global));
    LODE_TRY(put_stopwords(work));
    return put_known(work);
}
