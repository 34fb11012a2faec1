#include "store/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "store/seal.h"

lode_status_t lode_store_open_file(lode_store_t *store, const char *path) {
    hid_t access = lode_store_access(&store->comm);
    if (access >= 0)
        store->file = H5Fopen(path, H5F_ACC_RDONLY, access);
    lode_status_t status = LODE_OK;
    /* Every rank must have called H5Fopen; the file is closed by the caller. */
    if (store->file < 0 ||
        lode_fault(LODE_FAULT_OPEN)) /* before another call clears HDF5's reason */
        status = lode_fail(LODE_ERR_FORMAT,
                           "%s: is not a complete HDF5 file (%s); delete it and run its stage "
                           "again",
                           path, lode_store_reason());
    if (access >= 0)
        H5Pclose(access);
    return status;
}

lode_status_t lode_store_open_unsealed(lode_store_t **out, const lode_comm_t *comm,
                                       const char *path) {
    lode_store_t *store = NULL;
    *out = NULL;
    lode_status_t status = lode_store_new(&store, comm, path, false);
    if (status == LODE_OK && access(path, R_OK) != 0)
        status = lode_fail(LODE_ERR_INPUT, "%s: cannot be read: %s; run its stage first", path,
                           strerror(errno));
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        status = lode_comm_agree(comm, lode_store_open_file(store, path));
    if (status == LODE_OK)
        *out = store;
    else
        lode_store_close(&store);
    return status;
}

/* The seal of a file, on rank 0, before HDF5 reads it. */
static lode_status_t check_structure(const lode_comm_t *comm, const char *path, bool *sealed) {
    *sealed = true;
    if (comm->rank != 0)
        return LODE_OK;
    if (access(path, R_OK) != 0)
        return lode_fail(LODE_ERR_INPUT, "%s: cannot be read: %s; run its stage first", path,
                         strerror(errno));
    return lode_seal_check_structure(path, sealed);
}

lode_status_t lode_store_open(lode_store_t **out, const lode_comm_t *comm, const char *path) {
    bool sealed;
    *out = NULL;
    LODE_TRY(lode_comm_agree(comm, check_structure(comm, path, &sealed)));
    LODE_TRY(lode_store_open_unsealed(out, comm, path));
    /* Files of earlier versions have no seal; one that says it has but has not was cut. */
    lode_status_t status = LODE_OK;
    if (!sealed && lode_store_has_attribute(*out, "/provenance", "sealed"))
        status = lode_seal_broken(path, "its end");
    status = lode_comm_agree(comm, status);
    if (status != LODE_OK)
        lode_store_close(out);
    return status;
}

lode_status_t lode_store_verify(lode_store_t *store) {
    LODE_TRY(lode_seal_check_data(&store->comm, store->path));
    store->sound = true;
    return LODE_OK;
}

void lode_store_trust(lode_store_t *store) {
    store->sound = true;
}

/* Finds a dataset whose elements are about to be read. Where one rank reads alone and nobody has
 * verified the file, this dataset is now. */
static lode_status_t find_sound(lode_store_t *store, const char *name, lode_store_entry_t **entry) {
    LODE_TRY(lode_store_find(store, name, true, entry));
    if (store->partial || store->sound || (*entry)->sound || store->comm.size > 1)
        return LODE_OK;
    LODE_TRY(lode_seal_check_dataset(store->path, (*entry)->name));
    (*entry)->sound = true;
    return LODE_OK;
}

void lode_store_close(lode_store_t **store) {
    if (!*store)
        return;
    char message[LODE_MESSAGE_MAX];
    snprintf(message, sizeof message, "%s", lode_error_message());
    lode_status_t status = lode_store_shut(*store);
    lode_store_free(store);
    if (status != LODE_OK) /* nothing was written, so nothing can be lost */
        (void)lode_fail(status, "%s", message);
}

bool lode_store_has(lode_store_t *store, const char *name) {
    const char *relative = lode_store_relative(name);
    if (strcmp(relative, ".") == 0)
        return true;
    /* HDF5 answers for the last component only, and fails where one above it is missing. */
    const size_t length = strlen(relative);
    char prefix[4096]; /* nothing is allocated: a lack of memory must not pass for a lack of data */
    bool found = length < sizeof prefix;
    if (found)
        memcpy(prefix, relative, length + 1);
    for (size_t i = 1; found && i <= length; i++) {
        if (relative[i] != '/' && relative[i] != '\0')
            continue;
        prefix[i] = '\0';
        found = H5Lexists(store->file, prefix, H5P_DEFAULT) > 0 &&
                H5Oexists_by_name(store->file, prefix, H5P_DEFAULT) > 0;
        prefix[i] = relative[i];
    }
    H5Eclear2(H5E_DEFAULT);
    return found;
}

lode_status_t lode_store_shape(lode_store_t *store, const char *name, int *axes, int64_t *shape) {
    lode_store_entry_t *entry;
    LODE_TRY(lode_store_find(store, name, true, &entry));
    *axes = entry->axes;
    memcpy(shape, entry->shape, (size_t)entry->axes * sizeof *shape);
    return LODE_OK;
}

lode_status_t lode_store_type(lode_store_t *store, const char *name, lode_type_t *type) {
    lode_store_entry_t *entry;
    LODE_TRY(lode_store_find(store, name, true, &entry));
    *type = entry->type;
    return LODE_OK;
}

/* Whether elements of `stored` survive being read as `wanted`. */
static bool widens(lode_type_t stored, lode_type_t wanted) {
    bool stored_float = stored == LODE_TYPE_F64 || stored == LODE_TYPE_F32;
    bool wanted_float = wanted == LODE_TYPE_F64 || wanted == LODE_TYPE_F32;
    return stored_float == wanted_float && lode_type_size(stored) <= lode_type_size(wanted);
}

static lode_status_t check_read(const lode_store_t *store, const lode_store_entry_t *entry,
                                lode_type_t type) {
    if (widens(entry->type, type))
        return LODE_OK;
    return lode_fail(LODE_ERR_SHAPE, "%s: dataset \"%s\" holds %s, %s was expected", store->path,
                     entry->name, lode_type_name(entry->type), lode_type_name(type));
}

lode_status_t lode_store_read(lode_store_t *store, const char *name, const int64_t *offset,
                              const int64_t *count, lode_type_t type, void *out) {
    lode_store_entry_t *entry;
    LODE_TRY(find_sound(store, name, &entry));
    LODE_TRY(check_read(store, entry, type));
    for (int axis = 0; axis < entry->axes; axis++)
        if (offset[axis] < 0 || count[axis] < 0 || count[axis] > entry->shape[axis] ||
            offset[axis] > entry->shape[axis] - count[axis])
            return lode_fail(LODE_ERR_SHAPE,
                             "%s: dataset \"%s\" has %lld entries on axis %d, [%lld, %lld) was "
                             "expected",
                             store->path, entry->name, (long long)entry->shape[axis], axis,
                             (long long)offset[axis], (long long)(offset[axis] + count[axis]));
    return lode_store_transfer(store, entry, offset, count, type, out, NULL);
}

lode_status_t lode_store_read_all(lode_store_t *store, const char *name, lode_type_t type,
                                  void *out, int64_t *elements) {
    void *values = NULL;
    memcpy(out, &values, sizeof values);
    lode_store_entry_t *entry;
    LODE_TRY(find_sound(store, name, &entry));
    LODE_TRY(check_read(store, entry, type));
    int64_t offset[LODE_STORE_MAX_AXES] = {0}, total = 1;
    for (int axis = 0; axis < entry->axes; axis++)
        total *= entry->shape[axis];
    LODE_TRY(lode_alloc_raw(&values, total, lode_type_size(type), entry->name));
    lode_status_t status =
        lode_store_transfer(store, entry, offset, entry->shape, type, values, NULL);
    if (status != LODE_OK) {
        free(values);
        return status;
    }
    memcpy(out, &values, sizeof values);
    if (elements)
        *elements = total;
    return LODE_OK;
}

/* Where the dataset's bytes begin in the file, HADDR_UNDEF where they are not in one piece or not
 * of this machine's kind. */
static haddr_t bytes_start(const lode_store_entry_t *entry) {
    hid_t type = H5Dget_type(entry->dataset);
    const bool plain = type >= 0 && H5Tequal(type, lode_store_memory_type(entry->type)) > 0;
    if (type >= 0)
        H5Tclose(type);
    haddr_t start = plain ? H5Dget_offset(entry->dataset) : HADDR_UNDEF;
    H5Eclear2(H5E_DEFAULT);
    return start;
}

/* Where an open dataset lies in the mapped file. */
static lode_status_t map_entry(const lode_store_t *store, const lode_store_entry_t *entry,
                               lode_type_t type, const void **data, int64_t *elements) {
    if (entry->type != type)
        return lode_fail(LODE_ERR_SHAPE, "%s: dataset \"%s\" holds %s, %s was expected",
                         store->path, entry->name, lode_type_name(entry->type),
                         lode_type_name(type));
    int64_t total = 1;
    for (int axis = 0; axis < entry->axes; axis++)
        total *= entry->shape[axis];
    *data = store->mapping.data;
    if (elements)
        *elements = total;
    if (total == 0) /* there may be no bytes anywhere */
        return LODE_OK;
    const haddr_t start = bytes_start(entry);
    const size_t size = lode_type_size(type);
    /* The file was long enough when the dataset was opened; it may have been replaced since. */
    if (start == HADDR_UNDEF || start % size != 0 || start > store->mapping.size ||
        (size_t)total > (store->mapping.size - start) / size)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: dataset \"%s\" is not laid out as Lodestone writes it; delete the "
                         "file and run its stage again",
                         store->path, entry->name);
    *data = store->mapping.data + start;
    return LODE_OK;
}

lode_status_t lode_store_map(lode_store_t *store, const char *name, lode_type_t type,
                             const void **data, int64_t *elements) {
    const int64_t before = store->entry_count;
    lode_store_entry_t *entry;
    LODE_ASSERT(!store->partial);
    if (!store->mapping.data)
        LODE_TRY(lode_file_map(&store->mapping, store->path));
    LODE_TRY(find_sound(store, name, &entry));
    const lode_status_t status = map_entry(store, entry, type, data, elements);
    /* What is mapped is rarely asked about again, and HDF5 keeps some 18 kB of an open dataset. */
    if (store->entry_count > before)
        lode_store_forget(store);
    return status;
}

static herr_t take_link(hid_t group, const char *name, const H5L_info_t *info, void *context) {
    (void)group;
    (void)info;
    lode_store_names_t *list = context;
    list->status = lode_store_names_add(list, name);
    return list->status != LODE_OK;
}

lode_status_t lode_store_list(lode_store_t *store, const char *group, char ***names,
                              int64_t *count) {
    *names = NULL;
    *count = 0;
    if (!lode_store_has(store, group))
        return LODE_OK;
    lode_store_names_t list = {0};
    hid_t handle = H5Gopen2(store->file, lode_store_relative(group), H5P_DEFAULT);
    herr_t failed =
        handle < 0 ? -1 : H5Literate(handle, H5_INDEX_NAME, H5_ITER_INC, NULL, take_link, &list);
    if (handle >= 0)
        H5Gclose(handle);
    if (failed < 0 && list.status == LODE_OK)
        list.status = lode_fail(LODE_ERR_FORMAT, "%s: group \"%s\" cannot be listed: %s",
                                store->path, group, lode_store_reason());
    if (list.status != LODE_OK) {
        lode_store_list_free(&list.names, list.count);
        return list.status;
    }
    lode_store_names_sort(&list);
    *names = list.names;
    *count = list.count;
    return LODE_OK;
}

void lode_store_list_free(char ***names, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        free((*names)[i]);
    free(*names);
    *names = NULL;
}

void lode_store_fingerprint(const char *path, char fingerprint[LODE_DIGEST_TEXT]) {
    fingerprint[0] = '\0';
    if (access(path, R_OK) != 0)
        return;
    char message[LODE_MESSAGE_MAX];
    snprintf(message, sizeof message, "%s", lode_error_message());
    lode_comm_t alone = {.comm = MPI_COMM_SELF, .rank = 0, .size = 1};
    lode_store_t *store = NULL;
    char *text = NULL;
    lode_status_t status = lode_store_open(&store, &alone, path);
    if (status == LODE_OK)
        status = lode_store_get_attribute_text(store, "/provenance", "fingerprint", &text);
    if (status == LODE_OK && strlen(text) < LODE_DIGEST_TEXT)
        snprintf(fingerprint, LODE_DIGEST_TEXT, "%s", text);
    free(text);
    lode_store_close(&store);
    if (status != LODE_OK) {
        lode_log_warning("%s; it counts as missing", lode_error_message());
        (void)lode_fail(status, "%s", message);
    }
}
