#include "model/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

enum { LENGTH_BYTES = 8, NAME_BYTES = 128 };

/* What is known of a tensor; in the file of marks it is SYNCED or nothing. */
enum { WRITTEN = 'w', SYNCED = 's' };

static const double SYNC_SECONDS = 1; /* between syncs */

/* A tensor and its place. */
typedef struct item {
    lode_writer_tensor_t tensor; /* with a name of its own */
    int64_t index;               /* in the list */
    int width;                   /* bits of an element */
    int64_t shard, begin;        /* begin: bytes from the first tensor of the shard */
} item_t;

typedef struct shard {
    char *name, *path;
    char *header; /* the length field and the JSON text */
    int64_t header_bytes, tensor_bytes;
    int descriptor; /* −1 where not open */
} shard_t;

struct lode_writer {
    char *folder;
    int64_t count;
    item_t *items;   /* [count], as they lie in the shards */
    int64_t *places; /* [count], from the index in the list to that in items */
    int64_t shard_count;
    shard_t *shards; /* [shard_count] */
    char *index;     /* text of the index, NULL where there is none */
    char index_name[NAME_BYTES];
    char *marks;   /* path of the file of marks, a byte a tensor in the order of the list */
    int marked;    /* its descriptor, −1 where not open */
    char *state;   /* [count], of the same */
    double synced; /* when that was last on disk */
};

/* --- the plan ------------------------------------------------------------------------------- */

/* Bits of an element: the number in the name of its type, 8 where there is none (BOOL). */
static int dtype_width(const char *dtype) {
    const char *digits = dtype + strcspn(dtype, "0123456789");
    return *digits ? (int)strtol(digits, NULL, 10) : 8;
}

static int by_place(const void *a, const void *b) {
    const item_t *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    if (x->width != y->width)
        return x->width > y->width ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static lode_status_t copy_items(lode_writer_t *writer, const lode_writer_tensor_t *tensors) {
    for (int64_t i = 0; i < writer->count; i++) {
        char *name;
        LODE_TRY(lode_strdup(&name, tensors[i].name));
        writer->items[i] =
            (item_t){.tensor = tensors[i], .index = i, .width = dtype_width(tensors[i].dtype)};
        writer->items[i].tensor.name = name;
    }
    return LODE_OK;
}

/* Deals the items out to shards and puts them in their final order. */
static void place_items(lode_writer_t *writer, int64_t shard_bytes) {
    int64_t shard = 0, filled = 0;
    for (int64_t i = 0; i < writer->count; i++) {
        const int64_t bytes = writer->items[i].tensor.bytes;
        if (filled > 0 && bytes > shard_bytes - filled) {
            shard++;
            filled = 0;
        }
        writer->items[i].shard = shard;
        filled += bytes;
    }
    writer->shard_count = shard + 1;
    if (writer->count > 0)
        qsort(writer->items, (size_t)writer->count, sizeof *writer->items, by_place);
    int64_t end = 0;
    for (int64_t i = 0; i < writer->count; i++) {
        item_t *item = &writer->items[i];
        if (i > 0 && item->shard != writer->items[i - 1].shard)
            end = 0;
        item->begin = end;
        end += item->tensor.bytes;
        writer->places[item->index] = i;
    }
}

static lode_status_t no_memory(void) {
    return lode_fail(LODE_ERR_MEMORY, "no memory for the header of a safetensors file");
}

/* One tensor's entry of a header. */
static json_t *describe(const item_t *item) {
    json_t *shape = json_array();
    for (int i = 0; i < item->tensor.rank; i++)
        json_array_append_new(shape, json_integer(item->tensor.shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", item->tensor.dtype, "shape", shape,
                     "data_offsets", (json_int_t)item->begin,
                     (json_int_t)(item->begin + item->tensor.bytes));
}

/* The JSON text padded with spaces, so that the tensors begin at a multiple of 8. */
static lode_status_t frame_header(shard_t *shard, const char *json) {
    const size_t length = strlen(json), padded = (length + 7) / 8 * 8;
    LODE_TRY(LODE_NEW(&shard->header, (int64_t)(LENGTH_BYTES + padded), "safetensors header"));
    for (int i = 0; i < LENGTH_BYTES; i++)
        shard->header[i] = (char)(unsigned char)((uint64_t)padded >> (8 * i));
    memcpy(shard->header + LENGTH_BYTES, json, length);
    memset(shard->header + LENGTH_BYTES + length, ' ', padded - length);
    shard->header_bytes = (int64_t)(LENGTH_BYTES + padded);
    return LODE_OK;
}

/* Header of a shard, whose items are items[first, end). */
static lode_status_t make_header(lode_writer_t *writer, int64_t index, int64_t first, int64_t end) {
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    bool failed = !root;
    for (int64_t i = first; i < end && !failed; i++) {
        failed = json_object_set_new(root, writer->items[i].tensor.name,
                                     describe(&writer->items[i])) != 0;
        writer->shards[index].tensor_bytes += writer->items[i].tensor.bytes;
    }
    char *text = failed ? NULL : json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (!text)
        return no_memory();
    lode_status_t status = frame_header(&writer->shards[index], text);
    free(text);
    return status;
}

static lode_status_t make_shards(lode_writer_t *writer, const char *stem) {
    int64_t first = 0;
    LODE_TRY(LODE_NEW(&writer->shards, writer->shard_count, "shards"));
    for (int64_t s = 0; s < writer->shard_count; s++)
        writer->shards[s].descriptor = -1;
    for (int64_t s = 0; s < writer->shard_count; s++) {
        shard_t *shard = &writer->shards[s];
        char name[NAME_BYTES];
        if (writer->shard_count == 1)
            snprintf(name, sizeof name, "%s.safetensors", stem);
        else
            snprintf(name, sizeof name, "%s-%05" PRId64 "-of-%05" PRId64 ".safetensors", stem,
                     s + 1, writer->shard_count);
        LODE_TRY(lode_strdup(&shard->name, name));
        LODE_TRY(lode_path_join(&shard->path, writer->folder, name));
        int64_t end = first;
        while (end < writer->count && writer->items[end].shard == s)
            end++;
        LODE_TRY(make_header(writer, s, first, end));
        first = end;
    }
    return LODE_OK;
}

/* A name that belongs to an unfinished file of the folder. */
static lode_status_t name_marks(lode_writer_t *writer) {
    lode_buffer_t path = {0};
    lode_status_t status = lode_buffer_printf(&path, "%s.partial", writer->shards[0].path);
    writer->marks = path.data;
    return status;
}

static lode_status_t make_index(lode_writer_t *writer) {
    json_int_t total = 0;
    json_t *map = json_object();
    bool failed = !map;
    for (int64_t i = 0; i < writer->count && !failed; i++) {
        const item_t *item = &writer->items[writer->places[i]];
        total += item->tensor.bytes;
        failed = json_object_set_new(map, item->tensor.name,
                                     json_string(writer->shards[item->shard].name)) != 0;
    }
    json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", total, "weight_map", map);
    writer->index = failed || !root ? NULL : json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    return writer->index ? LODE_OK : no_memory();
}

lode_status_t lode_writer_create_set(lode_writer_t **out, const char *folder,
                                     const lode_writer_set_t *set,
                                     const lode_writer_tensor_t *tensors, int64_t count) {
    *out = NULL;
    lode_writer_t *writer;
    lode_status_t status;
    LODE_TRY(LODE_NEW(&writer, 1, "writer"));
    writer->count = count;
    writer->marked = -1;
    LODE_GUARD(status, lode_strdup(&writer->folder, folder), failed);
    LODE_GUARD(status, LODE_NEW(&writer->items, count, "tensors to write"), failed);
    LODE_GUARD(status, LODE_NEW(&writer->places, count, "tensors to write"), failed);
    LODE_GUARD(status, LODE_NEW(&writer->state, count, "tensors to write"), failed);
    LODE_GUARD(status, copy_items(writer, tensors), failed);
    place_items(writer, set->shard_bytes);
    LODE_GUARD(status, make_shards(writer, set->stem), failed);
    LODE_GUARD(status, name_marks(writer), failed);
    snprintf(writer->index_name, NAME_BYTES, "%s.safetensors.index.json", set->stem);
    if (writer->shard_count > 1 || set->indexed)
        LODE_GUARD(status, make_index(writer), failed);
    *out = writer;
    return LODE_OK;
failed:
    lode_writer_destroy(&writer);
    return status;
}

lode_status_t lode_writer_create(lode_writer_t **writer, const char *folder,
                                 const lode_writer_tensor_t *tensors, int64_t count,
                                 int64_t shard_bytes) {
    const lode_writer_set_t weights = {.stem = "model", .shard_bytes = shard_bytes};
    return lode_writer_create_set(writer, folder, &weights, tensors, count);
}

void lode_writer_destroy(lode_writer_t **out) {
    lode_writer_t *writer = *out;
    *out = NULL;
    if (!writer)
        return;
    for (int64_t s = 0; writer->shards && s < writer->shard_count; s++) {
        shard_t *shard = &writer->shards[s];
        if (shard->descriptor >= 0)
            close(shard->descriptor);
        free(shard->name);
        free(shard->path);
        free(shard->header);
    }
    for (int64_t i = 0; writer->items && i < writer->count; i++)
        free((char *)(uintptr_t)writer->items[i].tensor.name);
    free(writer->shards);
    free(writer->items);
    free(writer->places);
    if (writer->marked >= 0)
        close(writer->marked);
    free(writer->marks);
    free(writer->state);
    free(writer->index);
    free(writer->folder);
    free(writer);
}

int64_t lode_writer_file_count(const lode_writer_t *writer) {
    return writer->shard_count + (writer->index != NULL);
}

const char *lode_writer_file_name(const lode_writer_t *writer, int64_t file) {
    LODE_ASSERT(file >= 0 && file < lode_writer_file_count(writer));
    return file < writer->shard_count ? writer->shards[file].name : writer->index_name;
}

/* --- files ---------------------------------------------------------------------------------- */

static lode_status_t fail_write(const char *path, int error) {
    return lode_fail(LODE_ERR_IO, "%s: cannot be written: %s; check the disk's space and quota",
                     path, strerror(error));
}

static lode_status_t open_shard(shard_t *shard, int flags) {
    shard->descriptor =
        lode_fault(LODE_FAULT_OPEN) ? -1 : open(shard->path, O_WRONLY | O_CLOEXEC | flags, 0666);
    return shard->descriptor < 0 ? fail_write(shard->path, errno) : LODE_OK;
}

static lode_status_t write_at(int descriptor, const char *path, const void *data, size_t size,
                              int64_t at) {
    size_t done = 0;
    while (done < size) {
        ssize_t put = lode_fault(LODE_FAULT_WRITE)
                          ? -1
                          : pwrite(descriptor, (const char *)data + done, size - done,
                                   (off_t)(at + (int64_t)done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return fail_write(path, put < 0 ? errno : ENOSPC);
        done += (size_t)put;
    }
    return LODE_OK;
}

/* Takes the shard's whole space; where the file system cannot, its extent at least. */
static lode_status_t reserve(const shard_t *shard) {
    const off_t bytes = (off_t)(shard->header_bytes + shard->tensor_bytes);
    if (!lode_fault(LODE_FAULT_WRITE) && fallocate(shard->descriptor, 0, 0, bytes) == 0)
        return LODE_OK;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
        return fail_write(shard->path, errno);
    return ftruncate(shard->descriptor, bytes) == 0 ? LODE_OK : fail_write(shard->path, errno);
}

static lode_status_t write_index(const lode_writer_t *writer) {
    char *path;
    LODE_TRY(lode_path_join(&path, writer->folder, writer->index_name));
    lode_status_t status = lode_file_write_atomic(path, writer->index, strlen(writer->index));
    free(path);
    return status;
}

static lode_status_t sync_shards(const lode_writer_t *writer) {
    for (int64_t s = 0; s < writer->shard_count; s++) {
        const shard_t *shard = &writer->shards[s];
        if (shard->descriptor >= 0 &&
            (lode_fault(LODE_FAULT_WRITE) || fsync(shard->descriptor) != 0))
            return fail_write(shard->path, errno);
    }
    return LODE_OK;
}

lode_status_t lode_writer_lay_out(lode_writer_t *writer) {
    for (int64_t s = 0; s < writer->shard_count; s++) {
        shard_t *shard = &writer->shards[s];
        LODE_TRY(open_shard(shard, O_CREAT | O_TRUNC));
        LODE_TRY(reserve(shard));
        LODE_TRY(write_at(shard->descriptor, shard->path, shard->header,
                          (size_t)shard->header_bytes, 0));
    }
    return writer->index ? write_index(writer) : LODE_OK;
}

lode_status_t lode_writer_write(lode_writer_t *writer, int64_t index, int64_t offset,
                                const void *data, size_t size) {
    LODE_ASSERT(index >= 0 && index < writer->count);
    const item_t *item = &writer->items[writer->places[index]];
    LODE_ASSERT(offset >= 0 && (int64_t)size <= item->tensor.bytes - offset);
    shard_t *shard = &writer->shards[item->shard];
    if (shard->descriptor < 0)
        LODE_TRY(open_shard(shard, 0));
    return write_at(shard->descriptor, shard->path, data, size,
                    shard->header_bytes + item->begin + offset);
}

/* --- marks ---------------------------------------------------------------------------------- */

lode_status_t lode_writer_begin_marks(lode_writer_t *writer) {
    LODE_TRY(sync_shards(writer));
    memset(writer->state, 0, (size_t)writer->count);
    return lode_file_write_atomic(writer->marks, writer->state, (size_t)writer->count);
}

/* Whether the shard's file is as long as it must be and has the same header. */
static bool is_laid_out(const shard_t *shard) {
    const size_t bytes = (size_t)shard->header_bytes;
    struct stat info;
    char *found = malloc(bytes);
    const int descriptor = open(shard->path, O_RDONLY | O_CLOEXEC);
    const bool same = found && descriptor >= 0 && fstat(descriptor, &info) == 0 &&
                      S_ISREG(info.st_mode) &&
                      info.st_size == shard->header_bytes + shard->tensor_bytes &&
                      pread(descriptor, found, bytes, 0) == (ssize_t)bytes &&
                      memcmp(found, shard->header, bytes) == 0;
    if (descriptor >= 0)
        close(descriptor);
    free(found);
    return same;
}

bool lode_writer_interrupted(const lode_writer_t *writer) {
    struct stat info;
    bool whole = stat(writer->marks, &info) == 0 && info.st_size == writer->count;
    for (int64_t s = 0; s < writer->shard_count && whole; s++)
        whole = is_laid_out(&writer->shards[s]);
    return whole;
}

lode_status_t lode_writer_open_marks(lode_writer_t *writer) {
    const size_t count = (size_t)writer->count;
    writer->marked = lode_fault(LODE_FAULT_OPEN) ? -1 : open(writer->marks, O_RDWR | O_CLOEXEC);
    if (writer->marked < 0 || lode_fault(LODE_FAULT_READ) ||
        pread(writer->marked, writer->state, count, 0) != (ssize_t)count)
        return lode_fail(LODE_ERR_IO, "%s: cannot be read: %s; check the disk", writer->marks,
                         strerror(errno));
    writer->synced = lode_time();
    return LODE_OK;
}

bool lode_writer_done(const lode_writer_t *writer, int64_t index) {
    LODE_ASSERT(index >= 0 && index < writer->count);
    return writer->state[index] == SYNCED;
}

/* Puts tensors on disk and then their marks into the file; those that are lost with a machine only
 * cost their tensors' time. */
static lode_status_t settle(lode_writer_t *writer) {
    LODE_TRY(sync_shards(writer));
    for (int64_t i = 0; i < writer->count; i++)
        if (writer->state[i] == WRITTEN) {
            LODE_TRY(write_at(writer->marked, writer->marks, &(char){SYNCED}, 1, i));
            writer->state[i] = SYNCED;
        }
    writer->synced = lode_time();
    return LODE_OK;
}

lode_status_t lode_writer_mark(lode_writer_t *writer, int64_t index) {
    LODE_ASSERT(index >= 0 && index < writer->count && writer->marked >= 0);
    writer->state[index] = WRITTEN;
    return lode_time() - writer->synced < SYNC_SECONDS ? LODE_OK : settle(writer);
}

lode_status_t lode_writer_sync(lode_writer_t *writer) {
    lode_status_t status = settle(writer);
    for (int64_t s = 0; s < writer->shard_count; s++) {
        shard_t *shard = &writer->shards[s];
        if (shard->descriptor >= 0 && close(shard->descriptor) != 0 && status == LODE_OK)
            status = fail_write(shard->path, errno);
        shard->descriptor = -1;
    }
    return status;
}

lode_status_t lode_writer_end_marks(const lode_writer_t *writer) {
    return unlink(writer->marks) == 0 || errno == ENOENT ? LODE_OK
                                                         : fail_write(writer->marks, errno);
}
