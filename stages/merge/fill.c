#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "common/statistics.h"
#include "merge/work.h"

enum { NAME_BYTES = 128 };

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* --- pieces of datasets --------------------------------------------------------------------- */

/* Copies rows [from, from + rows) of the first axis of a dataset [·, middle, width] to rows from
 * `to` on, of the middle axis the part [begin, end). In pieces of the block. Local. */
static lode_status_t copy_rows(lode_merge_t *merge, lode_store_t *source, const char *name,
                               lode_type_t type, int64_t from, int64_t to, int64_t rows,
                               int64_t begin, int64_t end, int64_t width) {
    if (begin == end || width == 0)
        return LODE_OK;
    const int64_t columns = min2(width, LODE_MERGE_BLOCK), step = LODE_MERGE_BLOCK / columns;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t k = begin; k < end; k += step)
            for (int64_t j = 0; j < width; j += columns) {
                const int64_t count[] = {1, min2(step, end - k), min2(columns, width - j)};
                const int64_t there[] = {from + row, k, j}, here[] = {to + row, k, j};
                LODE_TRY(lode_store_read(source, name, there, count, type, merge->block));
                LODE_TRY(lode_store_write(merge->store, name, here, count, merge->block));
            }
    return LODE_OK;
}

/* How a total comes from its values by sequence; false for a name that is not known. */
static bool describe(lode_statistic_t *statistic, const char *name, int64_t tokens) {
    static const struct {
        const char *name;
        lode_reduction_t reduction;
        bool mean; /* over tokens */
    } known[] = {
        {"activation_power", LODE_REDUCE_SUM, true}, {"activation_mean", LODE_REDUCE_SUM, true},
        {"activation_max", LODE_REDUCE_MAX, false},  {"input_power", LODE_REDUCE_SUM, false},
        {"loss_proxy", LODE_REDUCE_SUM, true},       {"taylor", LODE_REDUCE_SUM, true},
        {"curvature", LODE_REDUCE_SUM, true},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            *statistic = (lode_statistic_t){.name = known[i].name,
                                            .reduction = known[i].reduction,
                                            .divisor = known[i].mean ? (double)tokens : 1};
            return true;
        }
    return false;
}

/* --- statistics by sequence ----------------------------------------------------------------- */

typedef struct statistics {
    lode_statistic_t *statistic; /* [count] */
    int64_t count;
    bool loss; /* there is /sequences/loss [S] besides */
} statistics_t;

/* The statistics in file `file` of the parts. Local. */
static lode_status_t list_statistics(statistics_t *list, const lode_merge_t *merge, int file) {
    lode_store_t *store = merge->parts[0].store[file];
    char **names;
    int64_t count, shape[LODE_STORE_MAX_AXES] = {0};
    int axes = 0;
    LODE_TRY(lode_store_list(store, "/sequences", &names, &count));
    lode_status_t status = LODE_NEW(&list->statistic, count, "statistics");
    for (int64_t i = 0; i < count && status == LODE_OK; i++) {
        char path[NAME_BYTES];
        snprintf(path, sizeof path, "/sequences/%s", names[i]);
        if (strcmp(names[i], "loss") == 0) {
            list->loss = true;
            continue;
        }
        lode_statistic_t *statistic = &list->statistic[list->count];
        if (!describe(statistic, names[i], merge->tokens))
            status = lode_fail(LODE_ERR_UNSUPPORTED,
                               "%s: %s.h5 has the statistic \"%.64s\", which this version cannot "
                               "merge",
                               merge->parts[0].folder, lode_stage_name(lode_merge_stages[file]),
                               names[i]);
        if (status == LODE_OK)
            status = lode_store_shape(store, path, &axes, shape);
        if (status == LODE_OK && (axes != 3 || shape[1] != merge->run.architecture.layers))
            status = lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" has another shape than it must have",
                               merge->parts[0].folder, path);
        statistic->width = shape[2];
        list->count++;
    }
    lode_store_list_free(&names, count);
    return status;
}

/* Copies all parts' values of one statistic, this rank's layers. Local. */
static lode_status_t copy_statistic(lode_merge_t *merge, const lode_statistic_t *statistic,
                                    int file) {
    const lode_layout_t *layout = &merge->run.layout;
    char path[NAME_BYTES];
    snprintf(path, sizeof path, "/sequences/%s", statistic->name);
    for (int64_t p = 0; p < merge->count; p++)
        LODE_TRY(copy_rows(merge, merge->parts[p].store[file], path, LODE_TYPE_F64, 0,
                           merge->first[p], merge->parts[p].sequences, layout->first_layer,
                           layout->layer_end, statistic->width));
    return LODE_OK;
}

static lode_status_t copy_losses(lode_merge_t *merge, int file) {
    for (int64_t p = 0; p < merge->count && merge->comm->rank == 0; p++) {
        const int64_t count = merge->parts[p].sequences;
        double *losses = NULL;
        int64_t stored;
        LODE_TRY(lode_store_read_all(merge->parts[p].store[file], "/sequences/loss", LODE_TYPE_F64,
                                     &losses, &stored));
        lode_status_t status =
            stored == count
                ? lode_store_write(merge->store, "/sequences/loss", &merge->first[p], &count,
                                   losses)
                : lode_fail(LODE_ERR_FORMAT, "%s: accumulate.h5 has %lld losses for %lld sequences",
                            merge->parts[p].folder, (long long)stored, (long long)count);
        free(losses);
        LODE_TRY(status);
    }
    return LODE_OK;
}

/* Datasets, values and totals of one file. Collective. */
static lode_status_t merge_statistics(lode_merge_t *merge, int file) {
    statistics_t list = {0};
    const int64_t sequences = merge->sequences;
    lode_status_t status = lode_comm_agree(merge->comm, list_statistics(&list, merge, file));
    for (int64_t i = 0; i < list.count && status == LODE_OK; i++)
        status = lode_statistic_create(merge->store, &merge->run, &list.statistic[i], sequences);
    if (status == LODE_OK && list.loss)
        status = lode_store_dataset(merge->store, "/sequences/loss", LODE_TYPE_F64, 1, &sequences,
                                    false);
    lode_status_t local = status;
    for (int64_t i = 0; i < list.count && local == LODE_OK; i++)
        local = copy_statistic(merge, &list.statistic[i], file);
    if (local == LODE_OK && list.loss)
        local = copy_losses(merge, file);
    if (status == LODE_OK)
        status = lode_comm_agree(merge->comm, local);
    if (status == LODE_OK)
        status = lode_store_synchronise(merge->store);
    local = status;
    for (int64_t i = 0; i < list.count && local == LODE_OK; i++)
        local = lode_statistic_reduce(merge->store, &merge->run, &list.statistic[i], sequences);
    free(list.statistic);
    return lode_comm_agree(merge->comm, local);
}

/* --- what is kept of the first sequences ---------------------------------------------------- */

/* The part that sequence `s` of the whole is in. */
static int64_t part_of(const lode_merge_t *merge, int64_t s) {
    int64_t p = 0;
    while (s >= merge->first[p + 1])
        p++;
    return p;
}

/* Logits of the first keep_logits sequences; sequences are dealt out to the ranks. Collective. */
static lode_status_t merge_logits(lode_merge_t *merge, int file) {
    const int64_t keep =
        min2(merge->parts[0].config[file]->calibration.keep_logits, merge->sequences);
    int64_t shape[LODE_STORE_MAX_AXES];
    int axes;
    if (keep == 0)
        return LODE_OK;
    LODE_TRY(lode_comm_agree(
        merge->comm, lode_store_shape(merge->parts[0].store[file], "/logits", &axes, shape)));
    const int64_t whole[] = {merge->offsets[keep], shape[1]};
    const int64_t rows = shape[1] < LODE_MERGE_BLOCK ? LODE_MERGE_BLOCK / shape[1] : 1;
    LODE_TRY(lode_store_dataset(merge->store, "/logits", LODE_TYPE_F32, 2, whole, false));
    lode_status_t status = shape[1] > 2 * LODE_MERGE_BLOCK
                               ? lode_fail(LODE_ERR_UNSUPPORTED, "%s: a vocabulary of %lld tokens",
                                           merge->parts[0].folder, (long long)shape[1])
                               : LODE_OK;
    for (int64_t s = merge->comm->rank; s < keep && status == LODE_OK; s += merge->comm->size) {
        const lode_merge_part_t *part = &merge->parts[part_of(merge, s)];
        const int64_t local = part->offsets[s - merge->first[part_of(merge, s)]];
        const int64_t tokens = merge->offsets[s + 1] - merge->offsets[s];
        for (int64_t t = 0; t < tokens && status == LODE_OK; t += rows) {
            const int64_t from[] = {local + t, 0}, to[] = {merge->offsets[s] + t, 0};
            const int64_t count[] = {min2(rows, tokens - t), shape[1]};
            status = lode_store_read(part->store[file], "/logits", from, count, LODE_TYPE_F32,
                                     merge->block);
            if (status == LODE_OK)
                status = lode_store_write(merge->store, "/logits", to, count, merge->block);
        }
    }
    return lode_comm_agree(merge->comm, status);
}

/* Reads the parts' offsets of q into those of the whole, kept [sequences + 1], and where each
 * sequence's q lies in its part, from [sequences]. Local. */
static lode_status_t read_kept(const lode_merge_t *merge, int file, int64_t sequences,
                               int64_t *kept, int64_t *from) {
    for (int64_t s = 0; s < sequences; s++) {
        const int64_t p = part_of(merge, s), local = s - merge->first[p], two = 2;
        int64_t pair[2];
        LODE_TRY(lode_store_read(merge->parts[p].store[file], "/redundancy/offsets", &local, &two,
                                 LODE_TYPE_I64, pair));
        from[s] = pair[0];
        kept[s + 1] = kept[s] + (pair[1] - pair[0]);
    }
    return LODE_OK;
}

/* q of the first sequences, as many as redundancy uses; this rank's layers. Collective. */
static lode_status_t merge_q(lode_merge_t *merge, int file) {
    const lode_layout_t *layout = &merge->run.layout;
    const int64_t L = merge->run.architecture.layers, m = merge->run.architecture.intermediate;
    const int64_t sequences =
        min2(merge->parts[0].config[file]->classify.redundancy.sequences, merge->sequences);
    const int64_t ends = sequences + 1, start = 0;
    int64_t *kept;
    lode_status_t status = lode_comm_agree(merge->comm, LODE_NEW(&kept, 2 * ends, "offsets"));
    if (status != LODE_OK) {
        free(kept);
        return status;
    }
    int64_t *from = kept + ends;
    status = lode_comm_agree(merge->comm, read_kept(merge, file, sequences, kept, from));
    const int64_t shape[] = {kept[sequences], L, m};
    if (status == LODE_OK)
        status = lode_store_dataset(merge->store, "/redundancy/q", LODE_TYPE_F32, 3, shape, false);
    if (status == LODE_OK)
        status =
            lode_store_dataset(merge->store, "/redundancy/offsets", LODE_TYPE_I64, 1, &ends, false);
    lode_status_t local = status;
    if (local == LODE_OK && merge->comm->rank == 0)
        local = lode_store_write(merge->store, "/redundancy/offsets", &start, &ends, kept);
    for (int64_t s = 0; s < sequences && local == LODE_OK; s++)
        local = copy_rows(merge, merge->parts[part_of(merge, s)].store[file], "/redundancy/q",
                          LODE_TYPE_F32, from[s], kept[s], kept[s + 1] - kept[s],
                          layout->first_layer, layout->layer_end, m);
    free(kept);
    return lode_comm_agree(merge->comm, local);
}

/* --- second moments ------------------------------------------------------------------------- */

/* Σ tokens·value / Σ tokens of `count` elements of one row; in the block, as doubles. */
static lode_status_t weigh(lode_merge_t *merge, int file, const char *name, const int64_t *offset,
                           const int64_t *count) {
    double *sum = merge->block, *value = sum + LODE_MERGE_BLOCK;
    memset(sum, 0, (size_t)count[1] * sizeof *sum);
    for (int64_t p = 0; p < merge->count; p++) {
        const double weight = (double)merge->parts[p].tokens / (double)merge->tokens;
        LODE_TRY(lode_store_read(merge->parts[p].store[file], name, offset, count, LODE_TYPE_F64,
                                 value));
        for (int64_t i = 0; i < count[1]; i++)
            sum[i] += weight * value[i];
    }
    return LODE_OK;
}

/* One dataset [L, n] of float64 or float32, this rank's layers. Local. */
static lode_status_t weigh_dataset(lode_merge_t *merge, int file, const char *name,
                                   lode_type_t type, int64_t n) {
    for (int64_t l = merge->run.layout.first_layer; l < merge->run.layout.layer_end; l++)
        for (int64_t i = 0; i < n; i += LODE_MERGE_BLOCK) {
            const int64_t offset[] = {l, i}, count[] = {1, min2(LODE_MERGE_BLOCK, n - i)};
            LODE_TRY(weigh(merge, file, name, offset, count));
            const double *sum = merge->block;
            float *narrow = merge->block; /* behind the value being read */
            for (int64_t j = 0; j < count[1] && type == LODE_TYPE_F32; j++) {
                const float single = (float)sum[j];
                memcpy(&narrow[j], &single, sizeof single);
            }
            LODE_TRY(lode_store_write(merge->store, name, offset, count, merge->block));
        }
    return LODE_OK;
}

/* Collective. */
static lode_status_t merge_moments(lode_merge_t *merge, int file) {
    static const char *const names[] = {"/second_moment", "/input_second_moment"};
    for (int i = 0; i < 2; i++) {
        int axes = 0;
        int64_t shape[LODE_STORE_MAX_AXES] = {0};
        lode_type_t type = LODE_TYPE_F64;
        lode_store_t *source = merge->parts[0].store[file];
        lode_status_t status = lode_store_shape(source, names[i], &axes, shape);
        if (status == LODE_OK)
            status = lode_store_type(source, names[i], &type);
        if (status == LODE_OK && (axes != 2 || shape[0] != merge->run.architecture.layers))
            status = lode_fail(LODE_ERR_FORMAT,
                               "%s: moments.h5: \"%s\" has another shape than it "
                               "must have",
                               merge->parts[0].folder, names[i]);
        LODE_TRY(lode_comm_agree(merge->comm, status));
        LODE_TRY(lode_store_dataset(merge->store, names[i], type, 2, shape, false));
        LODE_TRY(
            lode_comm_agree(merge->comm, weigh_dataset(merge, file, names[i], type, shape[1])));
    }
    return LODE_OK;
}

/* --- files ---------------------------------------------------------------------------------- */

/* By rank 0: the ids of all parts, one part after the other. */
static lode_status_t write_ids(lode_merge_t *merge) {
    const int64_t start = 0, ends = merge->sequences + 1;
    int64_t token = 0;
    if (merge->comm->rank != 0)
        return LODE_OK;
    for (int64_t p = 0; p < merge->count; p++) {
        LODE_TRY(lode_store_write(merge->store, "/calibration/ids", &token, &merge->parts[p].tokens,
                                  merge->parts[p].ids));
        token += merge->parts[p].tokens;
    }
    return lode_store_write(merge->store, "/calibration/offsets", &start, &ends, merge->offsets);
}

static lode_status_t fill_tokenize(lode_merge_t *merge) {
    const int64_t ends = merge->sequences + 1;
    LODE_TRY(lode_store_dataset(merge->store, "/calibration/ids", LODE_TYPE_I32, 1, &merge->tokens,
                                false));
    LODE_TRY(
        lode_store_dataset(merge->store, "/calibration/offsets", LODE_TYPE_I64, 1, &ends, false));
    return lode_comm_agree(merge->comm, write_ids(merge));
}

lode_status_t lode_merge_fill(lode_merge_t *merge, int file) {
    const lode_stage_t stage = lode_merge_stages[file];
    if (stage == LODE_STAGE_TOKENIZE)
        return fill_tokenize(merge);
    if (stage == LODE_STAGE_MOMENTS)
        LODE_TRY(merge_moments(merge, file));
    else
        LODE_TRY(merge_statistics(merge, file));
    if (stage == LODE_STAGE_CALIBRATE)
        LODE_TRY(merge_logits(merge, file));
    if (stage == LODE_STAGE_ACCUMULATE)
        LODE_TRY(merge_q(merge, file));
    LODE_TRY(lode_store_attribute_i64(merge->store, "/", "tokens", merge->tokens));
    return lode_store_attribute_i64(merge->store, "/", "sequences", merge->sequences);
}
