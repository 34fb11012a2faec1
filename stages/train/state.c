#include "train/state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/version.h"
#include "train/slab.h"
#include "train/train.h"

enum { NAME_BYTES = LODE_INVENTORY_NAME_BYTES + 16 };

/* The three arrays of a state. */
typedef enum array { WEIGHTS, FIRST, SECOND, ARRAYS } array_t;
static const char *const groups[ARRAYS] = {"/weights", "/first", "/second"};

static void tensor_name(char name[NAME_BYTES], array_t array, const lode_inventory_t *inventory,
                        int64_t index) {
    snprintf(name, NAME_BYTES, "%s/%s", groups[array], inventory->list[index].name);
}

lode_status_t lode_train_state_path(char **path, const char *folder, lode_train_slot_t slot) {
    return lode_path_join(path, folder,
                          slot == LODE_TRAIN_LATEST ? "train-state.h5" : "train-state-earlier.h5");
}

lode_status_t lode_train_state_check(const char *folder) {
    for (int slot = 0; slot < LODE_TRAIN_SLOTS; slot++) {
        struct stat info;
        char *path;
        lode_status_t status = LODE_OK;
        LODE_TRY(lode_train_state_path(&path, folder, (lode_train_slot_t)slot));
        if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
            status = lode_fail(LODE_ERR_IO,
                               "%s: is %s, where training keeps its state; move it elsewhere", path,
                               S_ISDIR(info.st_mode) ? "a folder" : "no regular file");
        free(path);
        LODE_TRY(status);
    }
    return LODE_OK;
}

void lode_train_state_remove(const char *folder, lode_train_slot_t slot) {
    char *path;
    if (lode_train_state_path(&path, folder, slot) != LODE_OK)
        return;
    unlink(path);
    lode_store_discard(path);
    free(path);
}

/* --- this rank's elements ------------------------------------------------------------------- */

/* Reads or writes one stretch of a tensor. */
typedef lode_status_t (*transfer_t)(lode_store_t *store, const char *name, const int64_t *offset,
                                    const int64_t *count, float *data);

static lode_status_t write_slab(lode_store_t *store, const char *name, const int64_t *offset,
                                const int64_t *count, float *data) {
    return lode_store_write(store, name, offset, count, data);
}

static lode_status_t read_slab(lode_store_t *store, const char *name, const int64_t *offset,
                               const int64_t *count, float *data) {
    return lode_store_read(store, name, offset, count, LODE_TYPE_F32, data);
}

/* Elements [first, end) of a parameter, `data` being its first one's place. */
static lode_status_t transfer(transfer_t move, lode_store_t *store, const char *name,
                              const lode_parameter_t *parameter, int64_t first, int64_t end,
                              float *data) {
    const bool matrix = parameter->rank == 2;
    const int64_t columns = matrix ? parameter->shape[1] : parameter->elements;
    lode_train_slab_t slabs[LODE_TRAIN_SLABS];
    const int count = lode_train_slabs(slabs, columns, first, end);
    for (int i = 0; i < count; i++) {
        const int skip = matrix ? 0 : 1; /* a vector has no rows */
        float *place = data + slabs[i].offset[0] * columns + slabs[i].offset[1];
        LODE_TRY(move(store, name, slabs[i].offset + skip, slabs[i].count + skip, place));
    }
    return LODE_OK;
}

/* The part of elements [begin, end) of the flat range that a parameter has, counted from its own
 * first element. */
static void intersect(int64_t *first, int64_t *last, const lode_parameter_t *parameter,
                      int64_t begin, int64_t end) {
    const int64_t from = begin - parameter->offset, to = end - parameter->offset;
    *first = from < 0 ? 0 : from;
    *last = to > parameter->elements ? parameter->elements : to;
}

/* Moves one of the arrays of all parameters, or of those that count, in elements [begin, end) of
 * the flat range; flat[i] is element origin + i of it. */
static lode_status_t move_array(transfer_t move, lode_store_t *store,
                                const lode_train_share_t *share, array_t array, int64_t begin,
                                int64_t end, int64_t origin, float *flat) {
    for (int64_t p = 0; p < share->parameters->count; p++) {
        const lode_parameter_t *parameter = &share->parameters->list[p];
        char name[NAME_BYTES];
        int64_t first, last;
        intersect(&first, &last, parameter, begin, end);
        if (first >= last || (move == write_slab && !parameter->counted))
            continue;
        tensor_name(name, array, &share->parameters->inventory, parameter->index);
        LODE_TRY(transfer(move, store, name, parameter, first, last,
                          flat + (parameter->offset - origin)));
    }
    return LODE_OK;
}

/* The weights of the share that is this rank's to write, or all that it computes with; and the
 * moments. */
static lode_status_t move_all(transfer_t move, lode_store_t *store,
                              const lode_train_share_t *share) {
    const bool all = move == read_slab;
    const int64_t begin = all ? 0 : share->moments.begin;
    const int64_t end = all ? share->parameters->elements : share->moments.end;
    LODE_TRY(move_array(move, store, share, WEIGHTS, begin, end, 0, share->parameters->weights));
    LODE_TRY(move_array(move, store, share, FIRST, share->moments.begin, share->moments.end,
                        share->moments.begin, share->moments.first));
    return move_array(move, store, share, SECOND, share->moments.begin, share->moments.end,
                      share->moments.begin, share->moments.second);
}

/* --- saving --------------------------------------------------------------------------------- */

/* What cannot be gone on from must not take the place of what can. */
static lode_status_t check_finite(const lode_train_share_t *share) {
    const lode_parameters_t *parameters = share->parameters;
    for (int64_t p = 0; p < parameters->count; p++) {
        const lode_parameter_t *parameter = &parameters->list[p];
        int64_t first, last;
        intersect(&first, &last, parameter, share->moments.begin, share->moments.end);
        for (int64_t i = first; i < last; i++)
            if (!isfinite(parameters->weights[parameter->offset + i]))
                return lode_fail(LODE_ERR_NUMERIC, "tensor \"%s\": a weight is not finite",
                                 share->parameters->inventory.list[parameter->index].name);
    }
    return LODE_OK;
}

static lode_status_t create_datasets(lode_store_t *store, const lode_inventory_t *inventory,
                                     const lode_train_record_t *record) {
    for (int array = 0; array < ARRAYS; array++)
        for (int64_t i = 0; i < inventory->count; i++) {
            const lode_writer_tensor_t *tensor = &inventory->list[i];
            char name[NAME_BYTES];
            tensor_name(name, (array_t)array, inventory, i);
            LODE_TRY(
                lode_store_dataset(store, name, LODE_TYPE_F32, tensor->rank, tensor->shape, false));
        }
    return lode_train_record_datasets(store, record);
}

static lode_status_t write_state(lode_store_t *store, const lode_run_t *run,
                                 const lode_train_course_t *course, const lode_train_share_t *share,
                                 const lode_train_record_t *record, int64_t step) {
    const lode_provenance_t provenance = {.stage = "train-state",
                                          .fingerprint = course->weights,
                                          .version = lode_version(),
                                          .commit = lode_commit(),
                                          .ranks = run->comm->size,
                                          .threads = run->config->threads};
    LODE_TRY(create_datasets(store, &share->parameters->inventory, record));
    LODE_TRY(lode_store_attribute_i64(store, "/", "step", step));
    LODE_TRY(lode_store_attribute_text(store, "/", "validation", course->validation));
    LODE_TRY(lode_store_provenance(store, &provenance));
    if (run->comm->rank == 0)
        lode_train_record_write(store, record);
    return lode_comm_agree(run->comm, move_all(write_slab, store, share));
}

lode_status_t lode_train_state_save(const lode_run_t *run, lode_train_slot_t slot,
                                    const lode_train_course_t *course,
                                    const lode_train_share_t *share,
                                    const lode_train_record_t *record, int64_t step) {
    char *path = NULL;
    lode_store_t *store = NULL;
    lode_status_t status = check_finite(share);
    if (status == LODE_OK)
        status = lode_train_state_path(&path, run->folder, slot);
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK)
        status = lode_store_create(&store, run->comm, path);
    if (status == LODE_OK) {
        status = write_state(store, run, course, share, record, step);
        if (status == LODE_OK)
            status = lode_store_commit(&store);
        else
            lode_store_abandon(&store);
    }
    free(path);
    return status;
}

lode_status_t lode_train_state_bytes(int64_t *bytes, const lode_inventory_t *inventory,
                                     const lode_train_record_t *record) {
    lode_store_t *store;
    LODE_TRY(lode_store_tally_create(&store));
    const lode_status_t status = create_datasets(store, inventory, record);
    *bytes = lode_store_tally_end(&store);
    return status;
}

/* --- loading -------------------------------------------------------------------------------- */

/* Whether there is a state of this course; says so where there is another, or none that can be
 * read. */
static bool is_usable(const lode_run_t *run, const lode_train_course_t *course, const char *path) {
    char found[LODE_DIGEST_TEXT];
    if (run->force || !lode_file_exists(path))
        return false;
    lode_store_fingerprint(path, found);
    if (strcmp(found, course->weights) == 0)
        return true;
    if (*found)
        lode_log_warning("train: %s is of other settings or inputs, and cannot be gone on from; "
                         "the next state takes its place",
                         path);
    else
        lode_log_warning("train: %s is no state that can be read, and cannot be gone on from; the "
                         "next one takes its place",
                         path);
    return false;
}

static lode_status_t take_record(lode_store_t *store, const lode_train_course_t *course,
                                 lode_train_record_t *record, int64_t *step) {
    char *validation;
    int64_t done;
    LODE_TRY(lode_store_get_attribute_i64(store, "/", "step", &done));
    if (done < 1)
        return lode_fail(LODE_ERR_FORMAT, "it is of step %lld", (long long)done);
    LODE_TRY(lode_store_get_attribute_text(store, "/", "validation", &validation));
    const bool validated = strcmp(validation, course->validation) == 0;
    free(validation);
    LODE_TRY(lode_train_record_take(record, store, validated));
    *step = done;
    return LODE_OK;
}

lode_status_t lode_train_state_find(const lode_run_t *run, lode_train_slot_t slot,
                                    const lode_train_course_t *course, lode_train_record_t *record,
                                    int64_t *step) {
    const lode_comm_t alone = lode_comm_alone();
    char *path;
    lode_store_t *store = NULL;
    *step = -1;
    LODE_TRY(lode_train_state_path(&path, run->folder, slot));
    lode_status_t status =
        is_usable(run, course, path) ? lode_store_open(&store, &alone, path) : LODE_OK;
    if (store)
        status = lode_fail_context(take_record(store, course, record, step),
                                   "%s: damaged; delete the file", path);
    lode_store_close(&store);
    free(path);
    return status;
}

static lode_status_t read_state(lode_store_t *store, const lode_comm_t *comm, const char *path,
                                const lode_train_share_t *share, int64_t step) {
    int64_t found;
    LODE_TRY(lode_store_verify(store));
    lode_status_t status = lode_store_get_attribute_i64(store, "/", "step", &found);
    if (status == LODE_OK && found != step)
        status = lode_fail(LODE_ERR_FORMAT, "%s: is of step %lld, of %lld a moment ago", path,
                           (long long)found, (long long)step);
    if (status == LODE_OK)
        status = move_all(read_slab, store, share);
    return lode_comm_agree(comm, status);
}

lode_status_t lode_train_state_load(const lode_run_t *run, lode_train_slot_t slot,
                                    const lode_train_share_t *share, int64_t step) {
    char *path = NULL;
    lode_store_t *store = NULL;
    lode_status_t status =
        lode_comm_agree(run->comm, lode_train_state_path(&path, run->folder, slot));
    if (status == LODE_OK)
        status = lode_store_open(&store, run->comm, path);
    if (store)
        status = read_state(store, run->comm, path, share, step);
    lode_store_close(&store);
    free(path);
    return status;
}
