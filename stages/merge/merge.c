#include "merge/merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/fingerprint.h"
#include "common/statistics.h"
#include "merge/part.h"
#include "store/lock.h"

enum { BLOCK_ELEMENTS = 1 << 20, NAME_BYTES = 128 };

/* What is merged, and the whole that it becomes. */
typedef struct merge {
    const lode_comm_t *comm;
    lode_merge_part_t *parts; /* [count] */
    int64_t count;
    lode_run_t run;            /* of the whole; its layout divides the layers among all ranks */
    int64_t sequences, tokens; /* of the whole */
    int64_t *first;            /* [count + 1] each part's first sequence in the whole */
    int64_t *offsets;          /* [sequences + 1] */
    lode_store_t *store;       /* being written */
    void *block;               /* [BLOCK_ELEMENTS] doubles */
} merge_t;

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* --- pieces of datasets --------------------------------------------------------------------- */

/* Copies rows [from, from + rows) of the first axis of a dataset [·, middle, width] to rows from
 * `to` on, of the middle axis the part [begin, end). In pieces of the block. Local. */
static lode_status_t copy_rows(merge_t *merge, lode_store_t *source, const char *name,
                               lode_type_t type, int64_t from, int64_t to, int64_t rows,
                               int64_t begin, int64_t end, int64_t width) {
    if (begin == end || width == 0)
        return LODE_OK;
    const int64_t columns = min2(width, BLOCK_ELEMENTS), step = BLOCK_ELEMENTS / columns;
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
static lode_status_t list_statistics(statistics_t *list, const merge_t *merge, int file) {
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
static lode_status_t copy_statistic(merge_t *merge, const lode_statistic_t *statistic, int file) {
    const lode_layout_t *layout = &merge->run.layout;
    char path[NAME_BYTES];
    snprintf(path, sizeof path, "/sequences/%s", statistic->name);
    for (int64_t p = 0; p < merge->count; p++)
        LODE_TRY(copy_rows(merge, merge->parts[p].store[file], path, LODE_TYPE_F64, 0,
                           merge->first[p], merge->parts[p].sequences, layout->first_layer,
                           layout->layer_end, statistic->width));
    return LODE_OK;
}

static lode_status_t copy_losses(merge_t *merge, int file) {
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
static lode_status_t merge_statistics(merge_t *merge, int file) {
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
static int64_t part_of(const merge_t *merge, int64_t s) {
    int64_t p = 0;
    while (s >= merge->first[p + 1])
        p++;
    return p;
}

/* Logits of the first keep_logits sequences; sequences are dealt out to the ranks. Collective. */
static lode_status_t merge_logits(merge_t *merge, int file) {
    const int64_t keep =
        min2(merge->parts[0].config[file]->calibration.keep_logits, merge->sequences);
    int64_t shape[LODE_STORE_MAX_AXES];
    int axes;
    if (keep == 0)
        return LODE_OK;
    LODE_TRY(lode_comm_agree(
        merge->comm, lode_store_shape(merge->parts[0].store[file], "/logits", &axes, shape)));
    const int64_t whole[] = {merge->offsets[keep], shape[1]};
    const int64_t rows = shape[1] < BLOCK_ELEMENTS ? BLOCK_ELEMENTS / shape[1] : 1;
    LODE_TRY(lode_store_dataset(merge->store, "/logits", LODE_TYPE_F32, 2, whole, false));
    lode_status_t status = shape[1] > 2 * BLOCK_ELEMENTS
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
static lode_status_t read_kept(const merge_t *merge, int file, int64_t sequences, int64_t *kept,
                               int64_t *from) {
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
static lode_status_t merge_q(merge_t *merge, int file) {
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
static lode_status_t weigh(merge_t *merge, int file, const char *name, const int64_t *offset,
                           const int64_t *count) {
    double *sum = merge->block, *value = sum + BLOCK_ELEMENTS;
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
static lode_status_t weigh_dataset(merge_t *merge, int file, const char *name, lode_type_t type,
                                   int64_t n) {
    for (int64_t l = merge->run.layout.first_layer; l < merge->run.layout.layer_end; l++)
        for (int64_t i = 0; i < n; i += BLOCK_ELEMENTS) {
            const int64_t offset[] = {l, i}, count[] = {1, min2(BLOCK_ELEMENTS, n - i)};
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
static lode_status_t merge_moments(merge_t *merge, int file) {
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
static lode_status_t write_ids(merge_t *merge) {
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

static lode_status_t fill_tokenize(merge_t *merge) {
    const int64_t ends = merge->sequences + 1;
    LODE_TRY(lode_store_dataset(merge->store, "/calibration/ids", LODE_TYPE_I32, 1, &merge->tokens,
                                false));
    LODE_TRY(
        lode_store_dataset(merge->store, "/calibration/offsets", LODE_TYPE_I64, 1, &ends, false));
    return lode_comm_agree(merge->comm, write_ids(merge));
}

static lode_status_t fill_file(merge_t *merge, int file) {
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

/* Collective. */
static lode_status_t merge_file(merge_t *merge, int file) {
    const lode_stage_t stage = lode_merge_stages[file];
    /* tokenize.h5 has no settings; those of the first statistics stand in its provenance. */
    merge->run.config = merge->parts[0].config[file == 0 ? 1 : file];
    if (stage != LODE_STAGE_TOKENIZE)
        LODE_TRY(lode_fingerprint_stage(&merge->run, NULL, stage));
    LODE_TRY(lode_run_create(&merge->store, &merge->run, stage));
    lode_status_t status = fill_file(merge, file);
    return lode_run_finish(&merge->store, &merge->run, stage, status);
}

/* --- the whole ------------------------------------------------------------------------------ */

/* A digest of the sequences, which is all that tokenize.h5 holds. */
static lode_status_t digest_ids(const merge_t *merge, char digest[LODE_DIGEST_TEXT]) {
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_hash_add_text(hash, "merged");
    lode_hash_add(hash, merge->offsets, (size_t)(merge->sequences + 1) * sizeof *merge->offsets);
    for (int64_t p = 0; p < merge->count; p++)
        lode_hash_add(hash, merge->parts[p].ids,
                      (size_t)merge->parts[p].tokens * sizeof *merge->parts[p].ids);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

/* Layers and channels, and the ranks' shares of them. */
static lode_status_t divide(merge_t *merge) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    lode_run_t *run = &merge->run;
    LODE_TRY(lode_store_shape(merge->parts[0].store[2], "/sequences/loss_proxy", &axes, shape));
    if (axes != 3)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: accumulate.h5: /sequences/loss_proxy must have three "
                         "axes",
                         merge->parts[0].folder);
    run->architecture.layers = shape[1];
    run->architecture.intermediate = shape[2];
    run->layout = (lode_layout_t){.replicas = 1, .stages = merge->comm->size};
    run->layout.first_layer = shape[1] * merge->comm->rank / merge->comm->size;
    run->layout.layer_end = shape[1] * (merge->comm->rank + 1) / merge->comm->size;
    return LODE_OK;
}

static lode_status_t join_sequences(merge_t *merge) {
    LODE_TRY(LODE_NEW(&merge->first, merge->count + 1, "sequences"));
    for (int64_t p = 0; p < merge->count; p++)
        merge->first[p + 1] = merge->first[p] + merge->parts[p].sequences;
    merge->sequences = merge->first[merge->count];
    LODE_TRY(LODE_NEW(&merge->offsets, merge->sequences + 1, "sequences"));
    for (int64_t p = 0; p < merge->count; p++) {
        for (int64_t s = 0; s <= merge->parts[p].sequences; s++)
            merge->offsets[merge->first[p] + s] = merge->tokens + merge->parts[p].offsets[s];
        merge->tokens += merge->parts[p].tokens;
    }
    return LODE_OK;
}

static lode_status_t prepare(merge_t *merge, const char *output) {
    lode_run_t *run = &merge->run;
    for (int64_t p = 1; p < merge->count; p++)
        LODE_TRY(lode_merge_part_compare(&merge->parts[0], &merge->parts[p]));
    LODE_TRY(join_sequences(merge));
    LODE_TRY(divide(merge));
    LODE_TRY(lode_alloc_raw(&merge->block, 2 * BLOCK_ELEMENTS, sizeof(double), "block to merge"));
    run->comm = merge->comm;
    run->point = "";
    memcpy(run->model_digest, merge->parts[0].model_digest, sizeof run->model_digest);
    LODE_TRY(lode_strdup(&run->folder, output));
    LODE_TRY(lode_buffer_printf(&run->inputs, "%s\n", merge->parts[0].model_line));
    for (int64_t p = 0; p < merge->count; p++) {
        char *digest;
        LODE_TRY(lode_store_get_attribute_text(merge->parts[p].store[2], "/provenance",
                                               "fingerprint", &digest));
        lode_status_t status = lode_buffer_printf(&run->inputs, "%s  %s/accumulate.h5\n", digest,
                                                  merge->parts[p].folder);
        free(digest);
        LODE_TRY(status);
    }
    return digest_ids(merge, run->fingerprint[LODE_STAGE_TOKENIZE]);
}

/* Creates and locks the folder, and removes a moments.h5 that would be of other sequences. By one
 * rank. */
static lode_status_t claim(const merge_t *merge, const char *output, int *lock) {
    char *path, *moments;
    LODE_TRY(lode_directory_create(output));
    LODE_TRY(lode_path_join(&path, output, ".lock"));
    lode_status_t status = lode_store_lock(lock, path, output);
    free(path);
    if (status == LODE_OK && !merge->parts[0].store[3]) {
        LODE_TRY(lode_path_join(&moments, output, "moments.h5"));
        unlink(moments);
        free(moments);
    }
    return status;
}

static lode_status_t merge_all(merge_t *merge, const char *const *folders, bool moments,
                               const char *output) {
    int lock = -1;
    for (int64_t p = 0; p < merge->count; p++)
        LODE_TRY(lode_merge_part_open(&merge->parts[p], merge->comm, folders[p], moments));
    LODE_TRY(lode_comm_agree(merge->comm, prepare(merge, output)));
    lode_status_t status = lode_comm_agree(
        merge->comm, merge->comm->rank == 0 ? claim(merge, output, &lock) : LODE_OK);
    for (int f = 0; f < LODE_MERGE_FILES && status == LODE_OK; f++)
        if (merge->parts[0].store[f])
            status = merge_file(merge, f);
    lode_store_unlock(&lock);
    if (status == LODE_OK)
        lode_log_info("merge: %lld results, %lld sequences, %lld tokens in %s",
                      (long long)merge->count, (long long)merge->sequences,
                      (long long)merge->tokens, output);
    return status;
}

/* Refuses to write into the results of a run, which go on where merged ones end. */
static lode_status_t check_output(const char *output) {
    char *path;
    LODE_TRY(lode_path_join(&path, output, "classify.h5"));
    const bool is_run = lode_file_exists(path);
    free(path);
    if (!is_run)
        return LODE_OK;
    return lode_fail(LODE_ERR_USAGE,
                     "lode merge: --output %s holds the results of a run; name a folder of its own",
                     output);
}

/* Refuses a folder that is named twice, also as the one to write. */
static lode_status_t check_folders(const char *const *folders, int64_t count, const char *output) {
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < count && status == LODE_OK; i++) {
        char *one = realpath(folders[i], NULL);
        for (int64_t j = i + 1; j <= count && status == LODE_OK; j++) {
            const char *name = j < count ? folders[j] : output;
            char *two = realpath(name, NULL);
            if (one && two && strcmp(one, two) == 0)
                status = lode_fail(LODE_ERR_USAGE,
                                   "lode merge: %s and %s are the same folder; name each once, and "
                                   "another for --output",
                                   folders[i], name);
            free(two);
        }
        free(one);
    }
    return status;
}

/* Whether every folder has a moments.h5. */
static bool all_have_moments(const char *const *folders, int64_t count) {
    bool all = true;
    for (int64_t i = 0; i < count && all; i++) {
        char *path;
        all = lode_path_join(&path, folders[i], "moments.h5") == LODE_OK;
        if (all) {
            all = lode_file_exists(path);
            free(path);
        }
    }
    return all;
}

lode_status_t lode_merge(const lode_comm_t *comm, const char *const *parts, int64_t count,
                         const char *output) {
    merge_t merge = {.comm = comm, .count = count};
    int moments = 0;
    lode_status_t status = LODE_OK;
    if (comm->rank == 0) {
        status = check_folders(parts, count, output);
        if (status == LODE_OK)
            status = check_output(output);
        moments = all_have_moments(parts, count);
    }
    if (status == LODE_OK)
        status = LODE_NEW(&merge.parts, count, "results to merge");
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        status = lode_comm_broadcast(comm, &moments, sizeof moments, 0);
    if (status == LODE_OK)
        status = merge_all(&merge, parts, moments != 0, output);
    for (int64_t p = 0; merge.parts && p < count; p++)
        lode_merge_part_close(&merge.parts[p]);
    lode_buffer_free(&merge.run.inputs);
    free(merge.run.folder);
    free(merge.parts);
    free(merge.first);
    free(merge.offsets);
    free(merge.block);
    return status;
}
