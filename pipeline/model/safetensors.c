#include "model/safetensors_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/memory.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "mapped elements are little-endian");

/* --- handles -------------------------------------------------------------------------------- */

static lode_status_t create(lode_safetensors_t **out, const char *path) {
    *out = NULL;
    lode_safetensors_t *file;
    LODE_TRY(LODE_NEW(&file, 1, "safetensors handle"));
    file->descriptor = -1;
    lode_status_t status = lode_strdup(&file->path, path);
    if (status != LODE_OK) {
        free(file);
        return status;
    }
    *out = file;
    return LODE_OK;
}

lode_status_t lode_safetensors_parse(lode_safetensors_t **out, const void *bytes, size_t size,
                                     int64_t file_size, const char *name) {
    lode_safetensors_t *file;
    int64_t length = 0;
    LODE_TRY(create(&file, name));
    *out = NULL;
    file->size = file_size;
    lode_status_t status;
    LODE_GUARD(status, lode_safetensors_header_length(&length, bytes, size, file_size, name),
               failed);
    if ((uint64_t)length > size - LODE_SAFETENSORS_LENGTH) {
        status = lode_fail(LODE_ERR_FORMAT, "%s: the header ends beyond the bytes given", name);
        goto failed;
    }
    LODE_GUARD(
        status,
        lode_safetensors_read_header(file, (const char *)bytes + LODE_SAFETENSORS_LENGTH, length),
        failed);
    *out = file;
    return LODE_OK;
failed:
    lode_safetensors_close(&file);
    return status;
}

/* Opens a regular file; O_NONBLOCK so that a pipe under the name is refused, not waited for. */
static lode_status_t open_file(lode_safetensors_t *file) {
    file->descriptor =
        lode_fault(LODE_FAULT_OPEN) ? -1 : open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file->descriptor < 0)
        return lode_fail(LODE_ERR_INPUT, "%s: cannot be read: %s", file->path, strerror(errno));
    struct stat info;
    if (fstat(file->descriptor, &info) != 0)
        return lode_fail(LODE_ERR_IO, "%s: %s", file->path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return lode_fail(LODE_ERR_INPUT, "%s: is not a regular file", file->path);
    file->size = (int64_t)info.st_size;
    return LODE_OK;
}

/* Reads up to `size` bytes from `offset`; *got is less only at the end of the file. */
static lode_status_t read_at(const lode_safetensors_t *file, void *bytes, size_t size,
                             int64_t offset, size_t *got) {
    *got = 0;
    while (*got < size) {
        ssize_t n = lode_fault(LODE_FAULT_READ)
                        ? -1
                        : pread(file->descriptor, (char *)bytes + *got, size - *got,
                                (off_t)(offset + (int64_t)*got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return lode_fail(LODE_ERR_IO, "%s: read failed: %s", file->path, strerror(errno));
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return LODE_OK;
}

static lode_status_t load_header(lode_safetensors_t *file) {
    unsigned char prefix[LODE_SAFETENSORS_LENGTH];
    size_t got;
    int64_t length = 0;
    LODE_TRY(open_file(file));
    LODE_TRY(read_at(file, prefix, sizeof prefix, 0, &got));
    LODE_TRY(lode_safetensors_header_length(&length, prefix, got, file->size, file->path));
    char *json;
    LODE_TRY(LODE_NEW_RAW(&json, length, "safetensors header"));
    lode_status_t status = read_at(file, json, (size_t)length, LODE_SAFETENSORS_LENGTH, &got);
    if (status == LODE_OK && got != (size_t)length)
        status = lode_fail(LODE_ERR_IO, "%s: shrank while it was being read", file->path);
    if (status == LODE_OK)
        status = lode_safetensors_read_header(file, json, length);
    free(json);
    return status;
}

lode_status_t lode_safetensors_open(lode_safetensors_t **out, const char *path) {
    *out = NULL;
    lode_safetensors_t *file;
    LODE_TRY(create(&file, path));
    lode_status_t status = load_header(file);
    if (status != LODE_OK)
        lode_safetensors_close(&file);
    *out = file;
    return status;
}

void lode_safetensors_close(lode_safetensors_t **file) {
    lode_safetensors_t *closing = *file;
    *file = NULL;
    if (!closing)
        return;
    for (int64_t i = 0; i < closing->count; i++)
        lode_safetensors_unmap(closing, i);
    if (closing->descriptor >= 0)
        close(closing->descriptor);
    json_decref(closing->header);
    free(closing->entries);
    free(closing->windows);
    free(closing->path);
    free(closing);
}

const char *lode_safetensors_path(const lode_safetensors_t *file) {
    return file->path;
}

int64_t lode_safetensors_count(const lode_safetensors_t *file) {
    return file->count;
}

const lode_safetensors_entry_t *lode_safetensors_entry(const lode_safetensors_t *file,
                                                       int64_t index) {
    LODE_ASSERT(index >= 0 && index < file->count);
    return &file->entries[index];
}

int64_t lode_safetensors_find(const lode_safetensors_t *file, const char *name) {
    int64_t low = 0, high = file->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int order = strcmp(name, file->entries[middle].name);
        if (order == 0)
            return middle;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

/* --- mapping -------------------------------------------------------------------------------- */

/* Maps the pages that hold the bytes of `entry`, which are at least one. */
static lode_status_t map_window(const lode_safetensors_t *file,
                                const lode_safetensors_entry_t *entry,
                                lode_safetensors_window_t *window) {
    struct stat info;
    if (fstat(file->descriptor, &info) != 0)
        return lode_fail(LODE_ERR_IO, "%s: %s", file->path, strerror(errno));
    /* Touching pages beyond the end of a file kills the process. */
    if ((int64_t)info.st_size != file->size)
        return lode_fail(LODE_ERR_IO,
                         "%s: had %" PRId64 " bytes when it was opened and has %" PRId64
                         " now; do not change a checkpoint while it is in use",
                         file->path, file->size, (int64_t)info.st_size);
    int64_t start = entry->begin - entry->begin % sysconf(_SC_PAGESIZE);
    size_t bytes = (size_t)(entry->end - start);
    void *memory = lode_fault(LODE_FAULT_READ)
                       ? MAP_FAILED
                       : mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file->descriptor, (off_t)start);
    if (memory == MAP_FAILED)
        return lode_fail(LODE_ERR_IO, "%s: tensor \"%.200s\" cannot be mapped: %s", file->path,
                         entry->name, strerror(errno));
    *window = (lode_safetensors_window_t){.start = memory, .bytes = bytes};
    return LODE_OK;
}

lode_status_t lode_safetensors_map_bytes(lode_safetensors_t *file, int64_t index,
                                         const void **bytes) {
    static const char nothing[1]; /* where tensors without elements lie */
    LODE_ASSERT(index >= 0 && index < file->count);
    *bytes = NULL;
    lode_safetensors_entry_t *entry = &file->entries[index];
    lode_safetensors_window_t *window = &file->windows[index];
    if (file->descriptor < 0)
        return lode_fail(LODE_ERR_INTERNAL, "%s: is a header without a file", file->path);
    int64_t size = entry->end - entry->begin;
    if (size > 0 && !window->start) {
        LODE_TRY(map_window(file, entry, window));
        file->bytes_mapped += size;
        if (!entry->mapped_ever)
            file->bytes_mapped_ever += size;
    }
    entry->mapped_ever = true;
    *bytes = nothing;
    if (size > 0)
        *bytes = (const char *)window->start + (window->bytes - (size_t)size);
    return LODE_OK;
}

lode_status_t lode_safetensors_map(lode_safetensors_t *file, int64_t index, lode_tensor_t *out) {
    LODE_ASSERT(index >= 0 && index < file->count);
    *out = (lode_tensor_t){0};
    const lode_safetensors_entry_t *entry = &file->entries[index];
    if (!entry->readable)
        return lode_fail(
            LODE_ERR_SHAPE,
            "%s: tensor \"%.200s\" has dtype %s and rank %d; only F32, F16 and BF16 of "
            "rank %d at most can be read",
            file->path, entry->name, entry->dtype, entry->rank, LODE_TENSOR_MAX_RANK);
    const void *bytes;
    LODE_TRY(lode_safetensors_map_bytes(file, index, &bytes));
    out->data = bytes;
    out->dtype = entry->element;
    out->rank = entry->rank;
    memcpy(out->shape, entry->shape, sizeof out->shape);
    out->pitch = out->rank == 2 ? out->shape[1] : 0;
    return LODE_OK;
}

void lode_safetensors_unmap(lode_safetensors_t *file, int64_t index) {
    LODE_ASSERT(index >= 0 && index < file->count);
    lode_safetensors_window_t *window = &file->windows[index];
    if (!window->start)
        return;
    munmap(window->start, window->bytes);
    *window = (lode_safetensors_window_t){0};
    file->bytes_mapped -= file->entries[index].end - file->entries[index].begin;
}

int64_t lode_safetensors_bytes_mapped(const lode_safetensors_t *file) {
    return file->bytes_mapped;
}

int64_t lode_safetensors_bytes_mapped_ever(const lode_safetensors_t *file) {
    return file->bytes_mapped_ever;
}
