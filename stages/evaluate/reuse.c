#include "evaluate/reuse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "common/version.h"

lode_status_t lode_reuse_digest(char digest[LODE_DIGEST_TEXT], const lode_run_t *run,
                                const lode_text_t *text, const char *edits) {
    const int64_t sequences = text->sequences;
    const int64_t tokens = text->offsets[sequences];
    const int64_t numbers[] = {LODE_RESULTS_REVISION, run->config->threads,
                               run->config->micro_batch, sequences, tokens};
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_hash_add(hash, numbers, sizeof numbers);
    lode_hash_add_text(hash, run->model_digest);
    lode_hash_add(hash, text->offsets, (size_t)(sequences + 1) * sizeof(int64_t));
    lode_hash_add(hash, text->ids, (size_t)tokens * sizeof(int32_t));
    lode_hash_add(hash, text->target, (size_t)tokens * sizeof(int32_t));
    lode_hash_add_text(hash, edits);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

typedef struct search {
    lode_store_t *store; /* that is being written */
    const lode_reuse_kind_t *kind;
    lode_reuse_item_t *items;
    int64_t count, missing;
} search_t;

enum { PATH_BYTES = 1024 };

/* Path of what lies beside the dataset at `path`. */
static void beside_path(const search_t *search, const char *path, char beside[PATH_BYTES]) {
    snprintf(beside, PATH_BYTES, "%s%s", search->kind->beside, path + strlen(search->kind->group));
}

static lode_reuse_item_t *wanted(const search_t *search, const char *digest) {
    for (int64_t i = 0; i < search->count; i++)
        if (!search->items[i].found && !search->items[i].done &&
            strcmp(search->items[i].digest, digest) == 0)
            return &search->items[i];
    return NULL;
}

/* A dataset's elements; NULL where it is not of the shape wanted or cannot be read. */
static void *read_elements(const search_t *search, lode_store_t *earlier, const char *path,
                           lode_type_t type) {
    const lode_reuse_kind_t *kind = search->kind;
    int64_t shape[LODE_STORE_MAX_AXES];
    void *data = NULL;
    int axes;
    bool fits = lode_store_shape(earlier, path, &axes, shape) == LODE_OK && axes == kind->axes;
    for (int axis = 0; fits && axis < axes; axis++)
        fits = shape[axis] == kind->shape[axis];
    if (!fits || lode_store_read_all(earlier, path, type, &data, NULL) != LODE_OK)
        return NULL;
    return data;
}

static lode_status_t write_elements(const search_t *search, const char *path, const double *values,
                                    const uint8_t *flags) {
    const int64_t offset[2] = {0};
    char beside[PATH_BYTES];
    LODE_TRY(lode_store_write(search->store, path, offset, search->kind->shape, values));
    if (!flags)
        return LODE_OK;
    beside_path(search, path, beside);
    return lode_store_write(search->store, beside, offset, search->kind->shape, flags);
}

/* Takes one dataset over, and what lies beside it, for every variant that has these results. Only
 * writing can fail. */
static lode_status_t take_dataset(search_t *search, lode_store_t *earlier, const char *path) {
    char *digest = NULL, beside[PATH_BYTES];
    double *values = NULL;
    uint8_t *flags = NULL;
    lode_reuse_item_t *item = NULL;
    lode_status_t status = LODE_OK;
    if (lode_store_has_attribute(earlier, path, "digest") &&
        lode_store_get_attribute_text(earlier, path, "digest", &digest) == LODE_OK)
        item = wanted(search, digest);
    if (item)
        values = read_elements(search, earlier, path, LODE_TYPE_F64);
    if (values && search->kind->beside) {
        beside_path(search, path, beside);
        flags = read_elements(search, earlier, beside, LODE_TYPE_U8);
    }
    if (values && (flags || !search->kind->beside))
        for (; item && status == LODE_OK; item = wanted(search, digest)) {
            status = write_elements(search, item->path, values, flags);
            item->found = true;
            search->missing--;
        }
    free(digest);
    free(values);
    free(flags);
    return status;
}

/* Calls take_dataset for every <group>/<name>/<variant> of a file. */
static lode_status_t search_file(search_t *search, lode_store_t *earlier) {
    char **names = NULL;
    int64_t count = 0;
    lode_status_t status = LODE_OK;
    if (lode_store_list(earlier, search->kind->group, &names, &count) != LODE_OK)
        return LODE_OK;
    for (int64_t i = 0; i < count && status == LODE_OK; i++) {
        char group[512], **variants = NULL;
        int64_t variant_count = 0;
        snprintf(group, sizeof group, "%s/%s", search->kind->group, names[i]);
        if (lode_store_list(earlier, group, &variants, &variant_count) != LODE_OK)
            continue;
        for (int64_t v = 0; v < variant_count && search->missing > 0 && status == LODE_OK; v++) {
            char path[PATH_BYTES];
            snprintf(path, sizeof path, "%s/%s", group, variants[v]);
            status = take_dataset(search, earlier, path);
        }
        lode_store_list_free(&variants, variant_count);
    }
    lode_store_list_free(&names, count);
    return status;
}

static lode_status_t search_files(search_t *search, const lode_run_t *run) {
    const lode_comm_t alone = lode_comm_describe(MPI_COMM_SELF);
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < run->earlier_count && search->missing > 0 && status == LODE_OK; i++) {
        lode_store_t *earlier;
        if (!lode_file_exists(run->earlier[i]) ||
            lode_store_open(&earlier, &alone, run->earlier[i]) != LODE_OK)
            continue;
        status = search_file(search, earlier);
        lode_store_close(&earlier);
    }
    return status;
}

lode_status_t lode_reuse_take(lode_store_t *store, const lode_run_t *run,
                              const lode_reuse_kind_t *kind, lode_reuse_item_t *items,
                              int64_t count) {
    search_t search = {.store = store, .kind = kind, .items = items, .count = count};
    lode_status_t status = LODE_OK;
    int32_t *found = NULL;
    for (int64_t i = 0; i < count; i++) {
        items[i].found = false;
        search.missing += !items[i].done;
    }
    if (run->comm->rank == 0)
        status = search_files(&search, run);
    if (status == LODE_OK)
        status = LODE_NEW(&found, count, "results");
    status = lode_comm_agree(run->comm, status);
    for (int64_t i = 0; i < count && status == LODE_OK; i++)
        found[i] = items[i].found;
    if (status == LODE_OK)
        status = lode_comm_broadcast(run->comm, found, (size_t)count * sizeof *found, 0);
    for (int64_t i = 0; i < count && status == LODE_OK; i++)
        items[i].found = found[i];
    free(found);
    return status;
}
