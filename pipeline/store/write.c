#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "store/seal.h"

/* Rank 0 makes the empty file itself: errno says more than MPI-IO does about a folder that is
 * missing or unwritable, and what an interrupted run left must not show through as contents. */
static lode_status_t prepare_partial(lode_store_t *store, const char *name) {
    if (unlink(name) != 0 && errno != ENOENT)
        return lode_fail(LODE_ERR_IO, "%s: the file of an interrupted run cannot be deleted: %s",
                         name, strerror(errno));
    store->descriptor =
        lode_fault(LODE_FAULT_OPEN) ? -1 : open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (store->descriptor < 0)
        return lode_fail(LODE_ERR_IO,
                         "%s: cannot be created: %s; choose another results folder or make this "
                         "one writable",
                         name, strerror(errno));
    return LODE_OK;
}

static lode_status_t create_file(lode_store_t *store, const char *name) {
    hid_t access = lode_store_access(&store->comm);
    /* Written data must be the system's at once: this process may be killed. */
    if (access >= 0 && H5Pset_sieve_buf_size(access, 0) >= 0)
        store->file = H5Fcreate(name, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    lode_status_t status = LODE_OK;
    /* Every rank must have called H5Fcreate; what it made is closed by the caller. */
    if (store->file < 0 || lode_fault(LODE_FAULT_OPEN)) /* before HDF5's reason is cleared */
        status = lode_fail(LODE_ERR_IO, "%s: cannot be created: %s; check the disk", name,
                           lode_store_reason());
    if (access >= 0)
        H5Pclose(access);
    return status;
}

lode_status_t lode_store_create_file(lode_store_t *store, const char *name) {
    lode_status_t status = LODE_OK;
    if (store->comm.rank == 0)
        status = prepare_partial(store, name);
    LODE_TRY(lode_comm_agree(&store->comm, status));
    return lode_comm_agree(&store->comm, create_file(store, name));
}

void lode_store_drop(lode_store_t **store, bool keep) {
    char message[LODE_MESSAGE_MAX];
    snprintf(message, sizeof message, "%s", lode_error_message());
    const bool created = (*store)->descriptor >= 0 || (*store)->journal; /* by rank 0 */
    lode_status_t status = lode_store_shut(*store);
    lode_journal_close(*store, false, keep || !created);
    lode_store_free(store);
    if (status != LODE_OK) /* why it was abandoned matters, how closing went does not */
        (void)lode_fail(status, "%s", message);
}

lode_status_t lode_store_create(lode_store_t **out, const lode_comm_t *comm, const char *path) {
    lode_store_t *store = NULL;
    *out = NULL;
    lode_status_t status = lode_comm_agree(comm, lode_store_new(&store, comm, path, true));
    if (status == LODE_OK) {
        if (comm->rank == 0)
            lode_store_discard(path);
        status = lode_store_create_file(store, store->partial);
    }
    if (status == LODE_OK)
        *out = store;
    else if (store) /* not every rank may have got one */
        lode_store_drop(&store, false);
    return status;
}

lode_status_t lode_store_stick(lode_store_t *store, lode_status_t status) {
    if (status != LODE_OK && store->status == LODE_OK) {
        store->status = status;
        snprintf(store->message, sizeof store->message, "%s", lode_error_message());
    }
    return status;
}

lode_status_t lode_store_sticky(const lode_store_t *store) {
    return store->status == LODE_OK ? LODE_OK : lode_fail(store->status, "%s", store->message);
}

/* Names are paths of non-empty components; "." is HDF5's word for the group itself. */
static lode_status_t check_name(lode_store_t *store, const char *name) {
    const char *component = lode_store_relative(name);
    for (;;) {
        size_t length = strcspn(component, "/");
        if (length == 0 || (length == 1 && component[0] == '.'))
            return lode_fail(LODE_ERR_INTERNAL, "%s: \"%s\" cannot name a dataset", store->path,
                             name);
        if (component[length] == '\0')
            return LODE_OK;
        component += length + 1;
    }
}

static lode_status_t check_dataset(lode_store_t *store, const char *name, lode_type_t type,
                                   int axes, const int64_t *shape) {
    LODE_TRY(check_name(store, name));
    int64_t bytes = (int64_t)lode_type_size(type);
    bool good = axes >= 1 && axes <= LODE_STORE_MAX_AXES;
    for (int axis = 0; good && axis < axes; axis++)
        good = shape[axis] >= 0 && !__builtin_mul_overflow(bytes, shape[axis], &bytes);
    if (!good)
        return lode_fail(LODE_ERR_INTERNAL, "%s: dataset \"%s\" has impossible extents",
                         store->path, name);
    if (lode_store_has(store, name))
        return lode_fail(LODE_ERR_INTERNAL, "%s: dataset \"%s\" is created twice", store->path,
                         name);
    return LODE_OK;
}

/* What "missing" is, in each type. */
static const void *missing_value(lode_type_t type) {
    static const double f64 = NAN;
    static const float f32 = NAN;
    static const int32_t i32 = -1;
    static const int64_t i64 = -1;
    static const uint8_t u8 = 0;
    switch (type) {
    case LODE_TYPE_F64:
        return &f64;
    case LODE_TYPE_F32:
        return &f32;
    case LODE_TYPE_I32:
        return &i32;
    case LODE_TYPE_I64:
        return &i64;
    case LODE_TYPE_U8:
        break;
    }
    return &u8;
}

/* Creation properties: reproducible bytes (no times) and space from the start. HDF5 must not fill,
 * because one rank would do it for all: see lode_store_fill_share(). */
static hid_t creation_properties(lode_type_t type, bool fill) {
    hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    bool failed = properties < 0 || H5Pset_layout(properties, H5D_CONTIGUOUS) < 0 ||
                  H5Pset_alloc_time(properties, H5D_ALLOC_TIME_EARLY) < 0 ||
                  H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER) < 0 ||
                  H5Pset_obj_track_times(properties, false) < 0;
    if (!failed && fill)
        failed =
            H5Pset_fill_value(properties, lode_store_memory_type(type), missing_value(type)) < 0;
    if (failed && properties >= 0) {
        H5Pclose(properties);
        properties = H5I_INVALID_HID;
    }
    return properties;
}

static hid_t create_dataset(lode_store_t *store, const char *name, lode_type_t type, int axes,
                            const int64_t *shape, bool fill) {
    hsize_t extents[LODE_STORE_MAX_AXES];
    for (int axis = 0; axis < axes; axis++)
        extents[axis] = (hsize_t)shape[axis];
    hid_t dataset = H5I_INVALID_HID;
    hid_t properties = creation_properties(type, fill);
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    hid_t space = H5Screate_simple(axes, extents, NULL);
    if (properties >= 0 && links >= 0 && space >= 0 &&
        H5Pset_create_intermediate_group(links, 1) >= 0 &&
        H5Pset_char_encoding(links, H5T_CSET_UTF8) >= 0)
        dataset = H5Dcreate2(store->file, lode_store_relative(name), lode_store_file_type(type),
                             space, links, properties, H5P_DEFAULT);
    if (space >= 0)
        H5Sclose(space);
    if (links >= 0)
        H5Pclose(links);
    if (properties >= 0)
        H5Pclose(properties);
    return dataset;
}

/* Makes the file at least `end` bytes long, with blocks behind them where the file system can;
 * otherwise without. Leaves errno. */
static bool extend(int descriptor, off_t start, off_t end) {
    while (lode_fault(LODE_FAULT_WRITE) || fallocate(descriptor, 0, start, end - start) != 0) {
        if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
            return false;
        if (errno == EINTR)
            continue;
        struct stat info;
        return fstat(descriptor, &info) == 0 &&
               (info.st_size >= end || ftruncate(descriptor, end) == 0);
    }
    return true;
}

int64_t lode_store_start(const lode_store_entry_t *entry) {
    const haddr_t start = H5Dget_offset(entry->dataset);
    H5Eclear2(H5E_DEFAULT);
    return start == HADDR_UNDEF ? 0 : (int64_t)start;
}

int64_t lode_store_bytes(const lode_store_entry_t *entry) {
    int64_t bytes = (int64_t)lode_type_size(entry->type);
    for (int axis = 0; axis < entry->axes; axis++)
        bytes *= entry->shape[axis];
    return bytes;
}

lode_status_t lode_store_claim(lode_store_t *store, const char *what, int64_t start,
                               int64_t bytes) {
    const int64_t metadata = 1 << 18; /* of the datasets and attributes since the last one */
    if (store->descriptor < 0 || extend(store->descriptor, start, start + bytes + metadata))
        return LODE_OK;
    return lode_fail(LODE_ERR_IO,
                     "%s: no space for dataset \"%s\" (%.1f MB): %s; free some space or choose "
                     "another results folder",
                     store->partial, what, (double)bytes / 1e6, strerror(errno));
}

/* Claims the space of a dataset that comes next, and some for metadata. A disk that fills up later
 * would fail one rank in the middle of a collective; this fails before the work, and before HDF5
 * knows of the dataset. As the file is then never shorter than HDF5 thinks, closing it has nothing
 * to extend and cannot fail for want of space either. */
static lode_status_t reserve(lode_store_t *store, const char *name, lode_type_t type, int axes,
                             const int64_t *shape) {
    int64_t bytes = (int64_t)lode_type_size(type), end = 0;
    for (int axis = 0; axis < axes; axis++)
        bytes *= shape[axis];
    if (store->entry_count > 0) {
        /* HDF5 does not tell where a parallel file ends; datasets lie in order of creation. */
        const lode_store_entry_t *last = &store->entries[store->entry_count - 1];
        end = lode_store_start(last) + lode_store_bytes(last);
    }
    return lode_store_claim(store, name, end, bytes);
}

/* Of the outermost axis. */
lode_status_t lode_store_fill_share(lode_store_t *store, const lode_store_entry_t *entry) {
    int64_t offset[LODE_STORE_MAX_AXES] = {0}, count[LODE_STORE_MAX_AXES], row = 1;
    for (int axis = 0; axis < entry->axes; axis++) {
        count[axis] = axis == 0 ? 1 : entry->shape[axis];
        row *= count[axis];
    }
    size_t size = lode_type_size(entry->type);
    int64_t rows = entry->shape[0], begin = rows * store->comm.rank / store->comm.size,
            end = rows * (store->comm.rank + 1) / store->comm.size;
    if (row == 0 || begin == end)
        return LODE_OK;
    char *values;
    LODE_TRY(lode_alloc_raw(&values, row, size, entry->name));
    for (int64_t i = 0; i < row; i++)
        memcpy(values + (size_t)i * size, missing_value(entry->type), size);
    lode_status_t status = LODE_OK;
    for (int64_t i = begin; status == LODE_OK && i < end; i++) {
        offset[0] = i;
        status = lode_store_transfer(store, entry, offset, count, entry->type, NULL, values);
    }
    free(values);
    return status;
}

lode_status_t lode_store_dataset(lode_store_t *store, const char *name, lode_type_t type, int axes,
                                 const int64_t *shape, bool fill) {
    const lode_comm_t *comm = &store->comm;
    lode_store_entry_t *entry = NULL;
    if (store->tallied) {
        lode_store_tally_dataset(store, type, axes, shape);
        return LODE_OK;
    }
    lode_status_t status = check_dataset(store, name, type, axes, shape);
    if (status == LODE_OK && !lode_journal_waits(store))
        status = reserve(store, name, type, axes, shape);
    LODE_TRY(lode_store_stick(store, lode_comm_agree(comm, status)));
    hid_t dataset = create_dataset(store, name, type, axes, shape, fill);
    if (dataset < 0 || lode_fault(LODE_FAULT_WRITE))
        status = lode_fail(LODE_ERR_IO, "%s: dataset \"%s\" cannot be created: %s", store->partial,
                           name, lode_store_reason());
    else
        status = lode_store_remember(store, name, dataset, &entry);
    LODE_TRY(lode_store_stick(store, lode_comm_agree(comm, status)));
    entry->fill = fill;
    if (!fill || type == LODE_TYPE_U8 || lode_journal_waits(store)) /* a new file reads as zeros */
        return LODE_OK;
    /* The fill must be on disk before another rank writes over it. */
    status = lode_store_stick(store, lode_store_fill_share(store, entry));
    return lode_store_synchronise(store);
}

static lode_status_t write_slab(lode_store_t *store, const char *name, const int64_t *offset,
                                const int64_t *count, const void *data) {
    lode_store_entry_t *entry;
    LODE_TRY(lode_store_sticky(store));
    LODE_TRY(lode_store_find(store, name, false, &entry));
    for (int axis = 0; axis < entry->axes; axis++)
        if (offset[axis] < 0 || count[axis] < 0 || count[axis] > entry->shape[axis] ||
            offset[axis] > entry->shape[axis] - count[axis])
            return lode_fail(
                LODE_ERR_INTERNAL, "%s: writing [%lld, %lld) of axis %d of \"%s\", which has %lld",
                store->path, (long long)offset[axis], (long long)(offset[axis] + count[axis]), axis,
                name, (long long)entry->shape[axis]);
    return lode_store_transfer(store, entry, offset, count, entry->type, NULL, data);
}

lode_status_t lode_store_write(lode_store_t *store, const char *name, const int64_t *offset,
                               const int64_t *count, const void *data) {
    return store->tallied ? LODE_OK
                          : lode_store_stick(store, write_slab(store, name, offset, count, data));
}

/* Everything written so far on its way to the disk. Collective. */
static lode_status_t flush(lode_store_t *store) {
    LODE_TRY(lode_comm_agree(&store->comm, lode_store_sticky(store)));
    lode_status_t status = LODE_OK;
    if (H5Fflush(store->file, H5F_SCOPE_GLOBAL) < 0 || lode_fault(LODE_FAULT_WRITE))
        status = lode_fail(LODE_ERR_IO, "%s: flushing failed: %s; check the disk's space and quota",
                           store->partial, lode_store_reason());
    return lode_store_stick(store, lode_comm_agree(&store->comm, status));
}

lode_status_t lode_store_put(lode_store_t *store, const char *name, lode_type_t type, int axes,
                             const int64_t *shape, const void *data) {
    const int64_t origin[LODE_STORE_MAX_AXES] = {0};
    LODE_TRY(lode_store_dataset(store, name, type, axes, shape, false));
    if (store->comm.rank == 0 && lode_store_write(store, name, origin, shape, data) != LODE_OK)
        lode_log_warning("%s could not be written", name);
    return LODE_OK;
}

lode_status_t lode_store_synchronise(lode_store_t *store) {
    /* Flushing is MPI-IO's sync; the agreement inside orders it before any later read. */
    return flush(store);
}

/* Cuts what was claimed and not needed, so that equal contents make files of equal length. */
static lode_status_t trim(const lode_store_t *store, int64_t *bytes) {
    haddr_t end;
    struct stat info;
    if (H5Fget_eoa(store->file, &end) < 0 || stat(store->path, &info) != 0)
        return lode_fail(LODE_ERR_IO, "%s: its length cannot be told: %s", store->path,
                         lode_store_reason());
    if ((haddr_t)info.st_size > end &&
        (lode_fault(LODE_FAULT_WRITE) || truncate(store->path, (off_t)end) != 0))
        return lode_fail(LODE_ERR_IO, "%s: cannot be cut to its length: %s", store->path,
                         strerror(errno));
    *bytes = (int64_t)end;
    return LODE_OK;
}

/* What a closed file consists of, for its seal. */
typedef struct contents {
    lode_seal_extent_t *extents; /* [count], names are the written store's */
    int64_t count, bytes;
} contents_t;

static void add_extent(contents_t *contents, const lode_store_entry_t *entry, const char *name) {
    const haddr_t start = H5Dget_offset(entry->dataset);
    const hsize_t bytes = H5Dget_storage_size(entry->dataset);
    if (start != HADDR_UNDEF && bytes > 0)
        contents->extents[contents->count++] =
            (lode_seal_extent_t){.name = name, .first = (int64_t)start, .bytes = (int64_t)bytes};
}

/* Rank 0 opens the closed file anew, as a reader would, compares it with what was created, and
 * tells its contents. */
static lode_status_t verify(const lode_store_t *written, contents_t *contents) {
    lode_comm_t alone = {.comm = MPI_COMM_SELF, .rank = 0, .size = 1};
    lode_store_t *store;
    LODE_TRY(LODE_NEW(&contents->extents, written->entry_count, "table of datasets"));
    LODE_TRY(lode_store_open_unsealed(&store, &alone, written->partial));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && i < written->entry_count; i++) {
        const lode_store_entry_t *wanted = &written->entries[i];
        lode_store_entry_t *found;
        status = lode_store_find(store, wanted->name, true, &found);
        if (status == LODE_OK && (found->type != wanted->type || found->axes != wanted->axes ||
                                  memcmp(found->shape, wanted->shape, sizeof found->shape) != 0))
            status = lode_fail(LODE_ERR_IO,
                               "%s: dataset \"%s\" came back from disk with another shape; check "
                               "the file system",
                               written->partial, wanted->name);
        if (status == LODE_OK)
            add_extent(contents, found, wanted->name);
    }
    if (status == LODE_OK)
        status = trim(store, &contents->bytes);
    lode_store_close(&store);
    return status;
}

/* Syncs a file or folder through a descriptor of its own. */
static lode_status_t sync_path(const char *path, bool folder) {
    int descriptor = lode_fault(LODE_FAULT_OPEN)
                         ? -1
                         : open(path, (folder ? O_RDONLY | O_DIRECTORY : O_RDWR) | O_CLOEXEC);
    bool failed = descriptor < 0 || lode_fault(LODE_FAULT_WRITE) || fsync(descriptor) != 0;
    int error = errno;
    if (descriptor >= 0)
        close(descriptor);
    /* Some file systems cannot sync a folder; they order renames themselves. */
    if (failed && !(folder && (error == EINVAL || error == EACCES)))
        return lode_fail(LODE_ERR_IO, "%s: cannot be synced to disk: %s", path, strerror(error));
    return LODE_OK;
}

static lode_status_t publish(const char *partial, const char *path) {
    LODE_TRY(sync_path(partial, false));
    if (lode_fault(LODE_FAULT_WRITE) || rename(partial, path) != 0)
        return lode_fail(LODE_ERR_IO, "%s: cannot be renamed to its final name: %s", partial,
                         strerror(errno));
    char *folder;
    LODE_TRY(lode_strdup(&folder, path));
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    lode_status_t status = sync_path(slash ? folder : ".", true);
    free(folder);
    return status;
}

lode_status_t lode_store_commit(lode_store_t **store) {
    lode_store_t *old = *store;
    const lode_comm_t *comm = &old->comm;
    lode_status_t status = flush(old);
    char message[LODE_MESSAGE_MAX];
    snprintf(message, sizeof message, "%s", lode_error_message());
    lode_status_t shut = lode_store_shut(old);
    if (status != LODE_OK) /* closing may fail then too, for the same reason */
        shut = lode_fail(status, "%s", message);
    status = lode_comm_agree(comm, shut);
    contents_t contents = {0};
    if (status == LODE_OK && comm->rank == 0)
        status = verify(old, &contents);
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        status =
            lode_seal_write(comm, old->partial, contents.bytes, contents.extents, contents.count);
    free(contents.extents);
    if (comm->rank == 0 && status == LODE_OK)
        status = publish(old->partial, old->path);
    status = lode_comm_agree(comm, status);
    lode_journal_close(old, status == LODE_OK, status != LODE_OK && lode_journal_suspend(old));
    lode_store_free(store);
    return status;
}

static void end(lode_store_t **store, bool keep) {
    const lode_comm_t comm = (*store)->comm;
    lode_store_drop(store, keep);
    if (comm.size > 1)
        MPI_Barrier(comm.comm); /* the file is gone for whoever returns */
}

void lode_store_abandon(lode_store_t **store) {
    if (*store)
        end(store, lode_journal_suspend(*store));
}

void lode_store_remove(lode_store_t **store) {
    if (*store)
        end(store, false);
}
