#include "merge/merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/fingerprint.h"
#include "merge/work.h"
#include "store/lock.h"

/* A digest of the sequences, which is all that tokenize.h5 holds. */
static lode_status_t digest_ids(const lode_merge_t *merge, char digest[LODE_DIGEST_TEXT]) {
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
static lode_status_t divide(lode_merge_t *merge) {
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

static lode_status_t join_sequences(lode_merge_t *merge) {
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

static lode_status_t prepare(lode_merge_t *merge, const char *output) {
    lode_run_t *run = &merge->run;
    for (int64_t p = 1; p < merge->count; p++)
        LODE_TRY(lode_merge_part_compare(&merge->parts[0], &merge->parts[p]));
    LODE_TRY(join_sequences(merge));
    LODE_TRY(divide(merge));
    LODE_TRY(lode_alloc_raw(&merge->block, 2 * LODE_MERGE_BLOCK, sizeof(double), "block to merge"));
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
static lode_status_t claim(const lode_merge_t *merge, const char *output, int *lock) {
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

/* Collective. */
static lode_status_t merge_file(lode_merge_t *merge, int file) {
    const lode_stage_t stage = lode_merge_stages[file];
    /* tokenize.h5 has no settings; those of the first statistics stand in its provenance. */
    merge->run.config = merge->parts[0].config[file == 0 ? 1 : file];
    if (stage != LODE_STAGE_TOKENIZE)
        LODE_TRY(lode_fingerprint_stage(&merge->run, NULL, stage));
    LODE_TRY(lode_run_create(&merge->store, &merge->run, stage));
    lode_status_t status = lode_merge_fill(merge, file);
    return lode_run_finish(&merge->store, &merge->run, stage, status);
}

static lode_status_t merge_all(lode_merge_t *merge, const char *const *folders, bool moments,
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
    lode_merge_t merge = {.comm = comm, .count = count};
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
