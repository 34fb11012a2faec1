#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/memory.h"

size_t lode_type_size(lode_type_t type) {
    static const size_t sizes[] = {8, 4, 4, 8, 1};
    return sizes[type];
}

const char *lode_type_name(lode_type_t type) {
    static const char *const names[] = {"f64", "f32", "i32", "i64", "u8"};
    return names[type];
}

hid_t lode_store_file_type(lode_type_t type) {
    switch (type) {
    case LODE_TYPE_F64:
        return H5T_IEEE_F64LE;
    case LODE_TYPE_F32:
        return H5T_IEEE_F32LE;
    case LODE_TYPE_I32:
        return H5T_STD_I32LE;
    case LODE_TYPE_I64:
        return H5T_STD_I64LE;
    case LODE_TYPE_U8:
        return H5T_STD_U8LE;
    }
    return H5I_INVALID_HID;
}

hid_t lode_store_memory_type(lode_type_t type) {
    switch (type) {
    case LODE_TYPE_F64:
        return H5T_NATIVE_DOUBLE;
    case LODE_TYPE_F32:
        return H5T_NATIVE_FLOAT;
    case LODE_TYPE_I32:
        return H5T_NATIVE_INT32;
    case LODE_TYPE_I64:
        return H5T_NATIVE_INT64;
    case LODE_TYPE_U8:
        return H5T_NATIVE_UINT8;
    }
    return H5I_INVALID_HID;
}

bool lode_store_classify(hid_t type, lode_type_t *out) {
    H5T_class_t class = H5Tget_class(type);
    size_t size = H5Tget_size(type);
    if (class == H5T_FLOAT && (size == 8 || size == 4)) {
        *out = size == 8 ? LODE_TYPE_F64 : LODE_TYPE_F32;
        return true;
    }
    if (class != H5T_INTEGER)
        return false;
    bool is_signed = H5Tget_sign(type) == H5T_SGN_2;
    if (is_signed && (size == 4 || size == 8)) {
        *out = size == 4 ? LODE_TYPE_I32 : LODE_TYPE_I64;
        return true;
    }
    *out = LODE_TYPE_U8;
    return !is_signed && size == 1;
}

void lode_store_quiet(void) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* Error stacks are walked from the inside out: the first entry knows most. */
static herr_t keep_first(unsigned number, const H5E_error2_t *error, void *context) {
    if (number == 0 && error->desc)
        snprintf(context, 256, "%s", error->desc);
    return 0;
}

const char *lode_store_reason(void) {
    static char reason[256];
    snprintf(reason, sizeof reason, "unknown HDF5 error");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, reason);
    H5Eclear2(H5E_DEFAULT);
    return reason;
}

hid_t lode_store_access(const lode_comm_t *comm) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    bool failed = access < 0 || H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) < 0;
    /* One writer per file is ensured by our own lock and by the rename; HDF5's locks would only
     * make files unreadable on file systems that have none. */
#if H5_VERSION_GE(1, 10, 7)
    failed = failed || H5Pset_file_locking(access, false, true) < 0;
#endif
    /* Mapped arrays can then be read as they lie. */
    failed = failed || H5Pset_alignment(access, 1, 8) < 0;
    /* Metadata in few places near the start, apart from the bulk of the data. */
    failed = failed || H5Pset_meta_block_size(access, 65536) < 0;
    if (!failed && comm->size > 1)
        failed = H5Pset_fapl_mpio(access, comm->comm, MPI_INFO_NULL) < 0;
    if (failed && access >= 0) {
        H5Pclose(access);
        access = H5I_INVALID_HID;
    }
    return access;
}

lode_status_t lode_store_new(lode_store_t **out, const lode_comm_t *comm, const char *path,
                             bool writing) {
    *out = NULL;
    lode_store_quiet();
    lode_store_t *store;
    LODE_TRY(LODE_NEW(&store, 1, "store"));
    store->comm = *comm;
    store->file = H5I_INVALID_HID;
    store->descriptor = -1;
    size_t bytes = strlen(path) + sizeof ".partial";
    lode_status_t status = lode_strdup(&store->path, path);
    if (status == LODE_OK && writing)
        status = LODE_NEW_RAW(&store->partial, (int64_t)bytes, "path");
    if (status != LODE_OK) {
        free(store->path);
        free(store);
        return status;
    }
    if (writing)
        snprintf(store->partial, bytes, "%s.partial", path);
    *out = store;
    return LODE_OK;
}

/* HDF5 failed to close a file. */
static bool stranded = false;

bool lode_store_stranded(void) {
    return stranded;
}

lode_status_t lode_store_shut(lode_store_t *store) {
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < store->entry_count; i++)
        H5Dclose(store->entries[i].dataset);
    const bool open = store->file >= 0, written = store->partial != NULL;
    const bool failed = open && H5Fclose(store->file) < 0;
    stranded |= failed;
    if (failed || (open && written && lode_fault(LODE_FAULT_WRITE)))
        status = lode_fail(LODE_ERR_IO, "%s: closing failed: %s; check the disk's space and quota",
                           store->partial ? store->partial : store->path, lode_store_reason());
    store->file = H5I_INVALID_HID;
    lode_file_unmap(&store->mapping);
    if (store->descriptor >= 0)
        close(store->descriptor);
    store->descriptor = -1;
    return status;
}

void lode_store_free(lode_store_t **store) {
    lode_store_t *old = *store;
    for (int64_t i = 0; i < old->entry_count; i++)
        free(old->entries[i].name);
    free(old->entries);
    free(old->index);
    free(old->partial);
    free(old->path);
    free(old);
    *store = NULL;
}

lode_status_t lode_store_names_add(lode_store_names_t *list, const char *name) {
    if (list->count == list->capacity) {
        int64_t capacity = list->capacity ? 2 * list->capacity : 16;
        char **names;
        LODE_TRY(LODE_NEW(&names, capacity, "list of names"));
        if (list->count > 0)
            memcpy(names, list->names, (size_t)list->count * sizeof *names);
        free(list->names);
        list->names = names;
        list->capacity = capacity;
    }
    LODE_TRY(lode_strdup(&list->names[list->count], name));
    list->count++;
    return LODE_OK;
}

static int compare_names(const void *left, const void *right) {
    return strcmp(*(char *const *)left, *(char *const *)right);
}

void lode_store_names_sort(lode_store_names_t *list) {
    if (list->count > 0)
        qsort(list->names, (size_t)list->count, sizeof *list->names, compare_names);
}

const char *lode_store_relative(const char *name) {
    while (*name == '/')
        name++;
    return *name ? name : ".";
}

/* Reads type and shape of an open dataset, and checks that the file holds its bytes: a file that
 * was cut, or forged, must fail here and not in the middle of a read. */
static lode_status_t describe(lode_store_t *store, lode_store_entry_t *entry) {
    hid_t type = H5Dget_type(entry->dataset), space = H5Dget_space(entry->dataset);
    hsize_t extents[H5S_MAX_RANK] = {0};
    bool known = lode_store_classify(type, &entry->type);
    int axes = H5Sget_simple_extent_type(space) == H5S_SIMPLE
                   ? H5Sget_simple_extent_dims(space, extents, NULL)
                   : -1;
    haddr_t start = H5Dget_offset(entry->dataset);
    hsize_t stored = H5Dget_storage_size(entry->dataset), end = 0, file_size = 0;
    H5Tclose(type);
    H5Sclose(space);
    if (!known || axes < 1 || axes > LODE_STORE_MAX_AXES)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: dataset \"%s\" is of a type or shape that Lodestone does not write",
                         store->path, entry->name);
    int64_t bytes = (int64_t)lode_type_size(entry->type), row = bytes;
    bool whole = true;
    entry->axes = axes;
    for (int axis = 0; axis < axes; axis++) {
        entry->shape[axis] = (int64_t)extents[axis];
        whole = whole && entry->shape[axis] >= 0 &&
                !__builtin_mul_overflow(bytes, entry->shape[axis], &bytes);
        /* Of a dataset without elements too, some extents must have a product. */
        if (entry->shape[axis] > 0)
            whole = whole && !__builtin_mul_overflow(row, entry->shape[axis], &row);
    }
    if (whole && bytes > 0 && !store->partial && start != HADDR_UNDEF)
        whole = H5Fget_filesize(store->file, &file_size) >= 0 && stored >= (hsize_t)bytes &&
                !__builtin_add_overflow(start, stored, &end) && end <= file_size;
    else if (whole && !store->partial) /* what another tool has packed; zlib's best is 1 : 1032 */
        whole = stored >= (hsize_t)bytes / 1032 && (stored > 0 || bytes == 0);
    if (!whole)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: dataset \"%s\" is cut short; delete the file and run its stage again",
                         store->path, entry->name);
    return LODE_OK;
}

/* Where the index has the entry of that name, or room for it: it is never more than half full.
 * FNV-1a (Fowler, Noll, Vo). */
static int64_t *find_slot(const lode_store_t *store, const char *relative) {
    const int64_t slots = 2 * store->entry_capacity; /* a power of two */
    uint64_t hash = 14695981039346656037u;
    for (const char *c = relative; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    int64_t slot = (int64_t)(hash & (uint64_t)(slots - 1));
    while (store->index[slot] > 0 &&
           strcmp(store->entries[store->index[slot] - 1].name, relative) != 0)
        slot = (slot + 1) & (slots - 1);
    return &store->index[slot];
}

/* Makes room for another entry. */
static lode_status_t grow(lode_store_t *store) {
    const int64_t capacity = store->entry_capacity ? 2 * store->entry_capacity : 16;
    lode_store_entry_t *entries;
    int64_t *index;
    if (store->entry_count < store->entry_capacity)
        return LODE_OK;
    LODE_TRY(LODE_NEW(&entries, capacity, "table of datasets"));
    const lode_status_t status = LODE_NEW(&index, 2 * capacity, "table of datasets");
    if (status != LODE_OK) {
        free(entries);
        return status;
    }
    if (store->entry_count > 0)
        memcpy(entries, store->entries, (size_t)store->entry_count * sizeof *entries);
    free(store->entries);
    free(store->index);
    store->entries = entries;
    store->index = index;
    store->entry_capacity = capacity;
    for (int64_t i = 0; i < store->entry_count; i++)
        *find_slot(store, entries[i].name) = i + 1;
    return LODE_OK;
}

lode_status_t lode_store_remember(lode_store_t *store, const char *name, hid_t dataset,
                                  lode_store_entry_t **entry) {
    lode_status_t status = grow(store);
    lode_store_entry_t fresh = {.dataset = dataset};
    if (status == LODE_OK)
        status = lode_strdup(&fresh.name, lode_store_relative(name));
    if (status == LODE_OK)
        status = describe(store, &fresh);
    if (status != LODE_OK) {
        free(fresh.name);
        H5Dclose(dataset);
        return status;
    }
    *find_slot(store, fresh.name) = store->entry_count + 1;
    store->entries[store->entry_count] = fresh;
    *entry = &store->entries[store->entry_count++];
    return LODE_OK;
}

void lode_store_forget(lode_store_t *store) {
    lode_store_entry_t *last = &store->entries[store->entry_count - 1];
    *find_slot(store, last->name) = 0; /* nothing was put behind it since */
    H5Dclose(last->dataset);
    free(last->name);
    store->entry_count--;
}

lode_status_t lode_store_find(lode_store_t *store, const char *name, bool open,
                              lode_store_entry_t **entry) {
    *entry = NULL;
    const char *relative = lode_store_relative(name);
    const int64_t place = store->entry_count > 0 ? *find_slot(store, relative) : 0;
    if (place > 0) {
        *entry = &store->entries[place - 1];
        return LODE_OK;
    }
    if (open && lode_store_has(store, name)) {
        hid_t dataset = H5Dopen2(store->file, relative, H5P_DEFAULT);
        if (dataset >= 0)
            return lode_store_remember(store, name, dataset, entry);
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" cannot be opened as a dataset: %s",
                         store->path, relative, lode_store_reason());
    }
    return lode_fail(LODE_ERR_INPUT,
                     "%s: there is no dataset \"%s\"; another version wrote the file, or other "
                     "settings: run its stage again (--force)",
                     store->path, relative);
}

/* One piece of a transfer, small enough for an int count of bytes. */
static lode_status_t transfer_piece(const lode_store_t *store, const lode_store_entry_t *entry,
                                    const int64_t *offset, const int64_t *count, lode_type_t type,
                                    void *into, const void *from) {
    hsize_t start[LODE_STORE_MAX_AXES], extent[LODE_STORE_MAX_AXES];
    for (int axis = 0; axis < entry->axes; axis++) {
        start[axis] = (hsize_t)offset[axis];
        extent[axis] = (hsize_t)count[axis];
    }
    hid_t file_space = H5Dget_space(entry->dataset);
    hid_t memory_space = H5Screate_simple(entry->axes, extent, NULL);
    hid_t memory_type = lode_store_memory_type(type);
    herr_t failed = -1;
    if (!lode_fault(into ? LODE_FAULT_READ : LODE_FAULT_WRITE) && file_space >= 0 &&
        memory_space >= 0 &&
        H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start, NULL, extent, NULL) >= 0)
        failed =
            into ? H5Dread(entry->dataset, memory_type, memory_space, file_space, H5P_DEFAULT, into)
                 : H5Dwrite(entry->dataset, memory_type, memory_space, file_space, H5P_DEFAULT,
                            from);
    lode_status_t status = LODE_OK;
    if (failed < 0)
        status = lode_fail(LODE_ERR_IO, "%s: dataset \"%s\" cannot be %s: %s; check the disk%s",
                           store->partial ? store->partial : store->path, entry->name,
                           into ? "read" : "written", lode_store_reason(),
                           into ? "" : "'s space, quota and limits");
    if (memory_space >= 0)
        H5Sclose(memory_space);
    if (file_space >= 0)
        H5Sclose(file_space);
    return status;
}

lode_status_t lode_store_transfer(lode_store_t *store, const lode_store_entry_t *entry,
                                  const int64_t *offset, const int64_t *count, lode_type_t type,
                                  void *into, const void *from) {
    const int64_t limit = 1 << 28; /* bytes */
    int64_t elements = 1;
    int first = -1; /* the outermost axis that can be cut: both halves stay dense in memory */
    for (int axis = 0; axis < entry->axes; axis++) {
        elements *= count[axis];
        if (first < 0 && count[axis] > 1)
            first = axis;
    }
    if (elements == 0)
        return LODE_OK;
    int64_t size = (int64_t)lode_type_size(type);
    if (first < 0 || elements <= limit / size)
        return transfer_piece(store, entry, offset, count, type, into, from);
    int64_t half_count[LODE_STORE_MAX_AXES], half_offset[LODE_STORE_MAX_AXES];
    memcpy(half_count, count, (size_t)entry->axes * sizeof *count);
    memcpy(half_offset, offset, (size_t)entry->axes * sizeof *offset);
    half_count[first] = count[first] / 2;
    LODE_TRY(lode_store_transfer(store, entry, offset, half_count, type, into, from));
    int64_t bytes = elements / count[first] * half_count[first] * size;
    half_offset[first] += half_count[first];
    half_count[first] = count[first] - half_count[first];
    return lode_store_transfer(store, entry, half_offset, half_count, type,
                               into ? (char *)into + bytes : NULL,
                               from ? (const char *)from + bytes : NULL);
}
