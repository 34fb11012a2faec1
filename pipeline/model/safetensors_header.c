#include "model/safetensors_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/json_text.h"

static const uint64_t header_limit = 100000000; /* the format's own limit */

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

/* --- the length ----------------------------------------------------------------------------- */

lode_status_t lode_safetensors_header_length(int64_t *length, const unsigned char *prefix,
                                             size_t available, int64_t file_size,
                                             const char *path) {
    static const char pointer[] = "version ";
    if (available < LODE_SAFETENSORS_LENGTH || file_size < LODE_SAFETENSORS_LENGTH)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: has %" PRId64
                         " bytes, too few for a safetensors file; fetch it again",
                         path, file_size);
    if (memcmp(prefix, pointer, LODE_SAFETENSORS_LENGTH) == 0)
        return lode_fail(
            LODE_ERR_FORMAT,
            "%s: is text, perhaps a Git LFS pointer, and not a safetensors file; fetch "
            "the file itself (git lfs pull)",
            path);
    uint64_t value = 0;
    for (int i = LODE_SAFETENSORS_LENGTH - 1; i >= 0; i--)
        value = value << 8 | prefix[i];
    if (value > header_limit)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: the length field asks for a header of %" PRIu64
                         " bytes, more than the format's limit of %" PRIu64
                         "; this is no safetensors file, or a damaged one",
                         path, value, header_limit);
    if ((int64_t)value > file_size - LODE_SAFETENSORS_LENGTH)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: the header needs %" PRIu64 " bytes after its length, %" PRId64
                         " are there; the file is truncated, fetch it again",
                         path, value, file_size - LODE_SAFETENSORS_LENGTH);
    *length = (int64_t)value;
    return LODE_OK;
}

/* --- entries -------------------------------------------------------------------------------- */

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

/* --- the header ----------------------------------------------------------------------------- */

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

lode_status_t lode_safetensors_read_header(lode_safetensors_t *file, const char *json,
                                           int64_t length) {
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
    int64_t base = LODE_SAFETENSORS_LENGTH + length;
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
