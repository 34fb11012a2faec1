#include "model/safetensors.h"

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
#include "model/json_text.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "mapped elements are little-endian");

enum { LENGTH_BYTES = 8 };
static const uint64_t header_limit = 100000000; /* the format's own limit */

typedef struct window {
    void *start; /* NULL where the tensor is not mapped */
    size_t bytes;
} window_t;

struct lode_safetensors {
    char *path;
    int descriptor; /* −1 where only a header was parsed */
    int64_t size;   /* bytes of the file */
    json_t *header; /* owns the names and dtypes of the entries */
    int64_t count;
    lode_safetensors_entry_t *entries; /* [count], by name */
    window_t *windows;                 /* [count] */
    int64_t bytes_mapped, bytes_mapped_ever;
};

typedef struct dtype {
    const char *name;
    int bits;
    bool readable;
    lode_dtype_t element;
} dtype_t;

static const dtype_t dtypes[] = {
    {"F32", 32, true, LODE_DTYPE_F32},   {"F16", 16, true, LODE_DTYPE_F16},
    {"BF16", 16, true, LODE_DTYPE_BF16}, {.name = "F64", .bits = 64},
    {.name = "F8_E4M3", .bits = 8},      {.name = "F8_E5M2", .bits = 8},
    {.name = "F8_E8M0", .bits = 8},      {.name = "F6_E2M3", .bits = 6},
    {.name = "F6_E3M2", .bits = 6},      {.name = "F4", .bits = 4},
    {.name = "I64", .bits = 64},         {.name = "I32", .bits = 32},
    {.name = "I16", .bits = 16},         {.name = "I8", .bits = 8},
    {.name = "U64", .bits = 64},         {.name = "U32", .bits = 32},
    {.name = "U16", .bits = 16},         {.name = "U8", .bits = 8},
    {.name = "BOOL", .bits = 8},         {.name = "C64", .bits = 64},
};

static const dtype_t *find_dtype(const char *name) {
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return &dtypes[i];
    return NULL;
}

/* --- the header ----------------------------------------------------------------------------- */

/* Decodes the length field and holds it against the file's size; `prefix` has `available` bytes. */
static lode_status_t header_length(int64_t *length, const unsigned char *prefix, size_t available,
                                   int64_t file_size, const char *path) {
    static const char pointer[] = "version ";
    if (available < LENGTH_BYTES || file_size < LENGTH_BYTES)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: has %" PRId64
                         " bytes, too few for a safetensors file; fetch it again",
                         path, file_size);
    if (memcmp(prefix, pointer, LENGTH_BYTES) == 0)
        return lode_fail(
            LODE_ERR_FORMAT,
            "%s: is text, perhaps a Git LFS pointer, and not a safetensors file; fetch "
            "the file itself (git lfs pull)",
            path);
    uint64_t value = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        value = value << 8 | prefix[i];
    if (value > header_limit)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: the length field asks for a header of %" PRIu64
                         " bytes, more than the format's limit of %" PRIu64
                         "; this is no safetensors file, or a damaged one",
                         path, value, header_limit);
    if ((int64_t)value > file_size - LENGTH_BYTES)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: the header needs %" PRIu64 " bytes after its length, %" PRId64
                         " are there; the file is truncated, fetch it again",
                         path, value, file_size - LENGTH_BYTES);
    *length = (int64_t)value;
    return LODE_OK;
}

/* "__metadata__" is a map of strings to strings. */
static lode_status_t check_metadata(json_t *metadata, const char *path) {
    const char *key;
    json_t *value;
    bool sound = json_is_object(metadata);
    json_object_foreach(metadata, key, value) {
        sound = sound && json_is_string(value);
    }
    if (!sound)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"__metadata__\" must map strings to strings", path);
    return LODE_OK;
}

/* Reads "shape": rank, leading extents, and the product of all extents. */
static lode_status_t read_shape(lode_safetensors_entry_t *entry, int64_t *elements, json_t *shape,
                                const char *path) {
    if (!json_is_array(shape) || json_array_size(shape) > INT32_MAX)
        return lode_fail(LODE_ERR_FORMAT, "%s: tensor \"%.200s\": \"shape\" must be an array", path,
                         entry->name);
    entry->rank = (int)json_array_size(shape);
    *elements = 1;
    size_t i;
    json_t *item;
    json_array_foreach(shape, i, item) {
        int64_t extent = json_is_integer(item) ? json_integer_value(item) : -1;
        if (extent < 0)
            return lode_fail(LODE_ERR_FORMAT,
                             "%s: tensor \"%.200s\": extent %zu of its shape is not a whole number "
                             "≥ 0",
                             path, entry->name, i);
        if (__builtin_mul_overflow(*elements, extent, elements))
            return lode_fail(LODE_ERR_FORMAT,
                             "%s: tensor \"%.200s\": its shape has more elements than fit 63 bits",
                             path, entry->name);
        if (i < LODE_TENSOR_MAX_RANK)
            entry->shape[i] = extent;
    }
    return LODE_OK;
}

/* Reads "dtype", and the bytes that `elements` of it take. */
static lode_status_t read_dtype(lode_safetensors_entry_t *entry, int64_t *bytes, int64_t elements,
                                json_t *dtype, const char *path) {
    const dtype_t *known = json_is_string(dtype) ? find_dtype(json_string_value(dtype)) : NULL;
    if (!known)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: tensor \"%.200s\": \"dtype\" is missing or not one that safetensors "
                         "knows (F32, F16, BF16 …)",
                         path, entry->name);
    entry->dtype = known->name;
    entry->element = known->element;
    entry->readable = known->readable && entry->rank <= LODE_TENSOR_MAX_RANK;
    int64_t bits;
    if (__builtin_mul_overflow(elements, (int64_t)known->bits, &bits) || bits % 8 != 0)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: tensor \"%.200s\": %" PRId64 " elements of %s are not a sound number "
                         "of bytes",
                         path, entry->name, elements, known->name);
    *bytes = bits / 8;
    return LODE_OK;
}

/* Reads "data_offsets" into places in the file whose data start at `base`. */
static lode_status_t read_offsets(lode_safetensors_entry_t *entry, int64_t bytes, json_t *offsets,
                                  int64_t base, const char *path) {
    json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: tensor \"%.200s\": \"data_offsets\" must be two whole numbers", path,
                         entry->name);
    int64_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || end > INT64_MAX - base)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: tensor \"%.200s\": data_offsets [%" PRId64 ", %" PRId64
                         "] are no range of bytes",
                         path, entry->name, begin, end);
    if (end - begin != bytes)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: tensor \"%.200s\": data_offsets [%" PRId64 ", %" PRId64
                         "] span %" PRId64 " bytes, its shape and dtype %s need %" PRId64,
                         path, entry->name, begin, end, end - begin, entry->dtype, bytes);
    entry->begin = base + begin;
    entry->end = base + end;
    return LODE_OK;
}

static lode_status_t read_entry(lode_safetensors_entry_t *entry, const char *name, json_t *value,
                                int64_t base, const char *path) {
    if (lode_json_text_has_control(name))
        return lode_fail(LODE_ERR_FORMAT, "%s: a tensor's name has control characters", path);
    entry->name = name;
    if (!json_is_object(value))
        return lode_fail(LODE_ERR_FORMAT, "%s: tensor \"%.200s\": must be a JSON object", path,
                         name);
    int64_t elements = 0, bytes = 0;
    LODE_TRY(read_shape(entry, &elements, json_object_get(value, "shape"), path));
    LODE_TRY(read_dtype(entry, &bytes, elements, json_object_get(value, "dtype"), path));
    return read_offsets(entry, bytes, json_object_get(value, "data_offsets"), base, path);
}

static int by_name(const void *a, const void *b) {
    const lode_safetensors_entry_t *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int by_place(const void *a, const void *b) {
    const lode_safetensors_entry_t *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return by_name(a, b);
}

/* Proves that the tensors, in the order of their places, tile the file from `base` to its end. */
static lode_status_t check_tiling(const lode_safetensors_t *file, int64_t base) {
    int64_t needed = base;
    for (int64_t i = 0; i < file->count; i++)
        if (file->entries[i].end > needed)
            needed = file->entries[i].end;
    if (needed > file->size)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: its tensors need a file of %" PRId64 " bytes, %" PRId64
                         " are there; the file is truncated, fetch it again",
                         file->path, needed, file->size);
    int64_t cursor = base;
    for (int64_t i = 0; i < file->count; i++) {
        const lode_safetensors_entry_t *entry = &file->entries[i];
        if (entry->begin != cursor)
            return lode_fail(LODE_ERR_FORMAT,
                             "%s: tensor \"%.200s\" begins at byte %" PRId64
                             " of the data, the one before it ends at %" PRId64
                             ": %s, which the format forbids",
                             file->path, entry->name, entry->begin - base, cursor - base,
                             entry->begin < cursor ? "they overlap" : "there is a hole");
        cursor = entry->end;
    }
    if (cursor != file->size)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: has %" PRId64
                         " bytes after its last tensor, which the format forbids",
                         file->path, file->size - cursor);
    return LODE_OK;
}

/* Fills the handle from the JSON text of the header. */
static lode_status_t read_header(lode_safetensors_t *file, const char *json, int64_t length) {
    if (length == 0 || json[0] != '{')
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: the header does not begin with '{'; this is no safetensors file",
                         file->path);
    lode_status_t status =
        lode_json_text_object(&file->header, json, (size_t)length, "safetensors header");
    if (status != LODE_OK)
        return lode_fail_context(status, "%s", file->path);
    json_t *metadata = json_object_get(file->header, "__metadata__");
    if (metadata)
        LODE_TRY(check_metadata(metadata, file->path));
    int64_t count = (int64_t)json_object_size(file->header) - (metadata != NULL);
    LODE_TRY(LODE_NEW(&file->entries, count, "safetensors entries"));
    LODE_TRY(LODE_NEW(&file->windows, count, "safetensors windows"));
    int64_t base = LENGTH_BYTES + length;
    const char *name;
    json_t *value;
    json_object_foreach(file->header, name, value) {
        if (value == metadata)
            continue;
        LODE_TRY(read_entry(&file->entries[file->count], name, value, base, file->path));
        file->count++;
    }
    if (file->count > 0)
        qsort(file->entries, (size_t)file->count, sizeof file->entries[0], by_place);
    LODE_TRY(check_tiling(file, base));
    if (file->count > 0)
        qsort(file->entries, (size_t)file->count, sizeof file->entries[0], by_name);
    return LODE_OK;
}

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
    LODE_GUARD(status, header_length(&length, bytes, size, file_size, name), failed);
    if ((uint64_t)length > size - LENGTH_BYTES) {
        status = lode_fail(LODE_ERR_FORMAT, "%s: the header ends beyond the bytes given", name);
        goto failed;
    }
    LODE_GUARD(status, read_header(file, (const char *)bytes + LENGTH_BYTES, length), failed);
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
    unsigned char prefix[LENGTH_BYTES];
    size_t got;
    int64_t length = 0;
    LODE_TRY(open_file(file));
    LODE_TRY(read_at(file, prefix, sizeof prefix, 0, &got));
    LODE_TRY(header_length(&length, prefix, got, file->size, file->path));
    char *json;
    LODE_TRY(LODE_NEW_RAW(&json, length, "safetensors header"));
    lode_status_t status = read_at(file, json, (size_t)length, LENGTH_BYTES, &got);
    if (status == LODE_OK && got != (size_t)length)
        status = lode_fail(LODE_ERR_IO, "%s: shrank while it was being read", file->path);
    if (status == LODE_OK)
        status = read_header(file, json, length);
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
                                const lode_safetensors_entry_t *entry, window_t *window) {
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
    *window = (window_t){.start = memory, .bytes = bytes};
    return LODE_OK;
}

lode_status_t lode_safetensors_map_bytes(lode_safetensors_t *file, int64_t index,
                                         const void **bytes) {
    static const char nothing[1]; /* where tensors without elements lie */
    LODE_ASSERT(index >= 0 && index < file->count);
    *bytes = NULL;
    lode_safetensors_entry_t *entry = &file->entries[index];
    window_t *window = &file->windows[index];
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
    window_t *window = &file->windows[index];
    if (!window->start)
        return;
    munmap(window->start, window->bytes);
    *window = (window_t){0};
    file->bytes_mapped -= file->entries[index].end - file->entries[index].begin;
}

int64_t lode_safetensors_bytes_mapped(const lode_safetensors_t *file) {
    return file->bytes_mapped;
}

int64_t lode_safetensors_bytes_mapped_ever(const lode_safetensors_t *file) {
    return file->bytes_mapped_ever;
}
