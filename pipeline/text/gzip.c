#include "text/gzip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"

enum {
    GZIP_ALONE = 16 + MAX_WBITS, /* windowBits of inflateInit2: gzip, and nothing else */
    MAGIC_BYTES = 2,
    LEAST = 1 << 16 /* bytes of the first output */
};

static const char MAGIC[] = "\x1F\x8B";

static bool starts(const char *bytes, size_t size) {
    return size >= MAGIC_BYTES && memcmp(bytes, MAGIC, MAGIC_BYTES) == 0;
}

bool lode_gzip_is(const char *bytes, size_t size, const char *path) {
    const size_t length = strlen(path);
    return starts(bytes, size) || (length >= 3 && strcmp(path + length - 3, ".gz") == 0);
}

const char *lode_gzip_version(void) {
    return zlibVersion();
}

typedef struct output {
    char *data;
    size_t length, capacity;
} output_t;

static lode_status_t make_room(output_t *output) {
    if (output->length < output->capacity)
        return LODE_OK;
    const size_t capacity = output->capacity ? 2 * output->capacity : LEAST;
    if (capacity > SIZE_MAX / 4)
        return lode_fail(LODE_ERR_MEMORY, "no memory for a decompressed corpus");
    LODE_TRY(lode_resize(&output->data, (int64_t)capacity, 1, "a decompressed corpus"));
    output->capacity = capacity;
    return LODE_OK;
}

static lode_status_t fail(int code, const z_stream *stream, const char *path) {
    if (code == Z_MEM_ERROR)
        return lode_fail(LODE_ERR_MEMORY, "%s: no memory to decompress it", path);
    if (code == Z_BUF_ERROR || code == Z_OK)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: the gzip file is cut off; fetch or compress it again", path);
    return lode_fail(LODE_ERR_FORMAT,
                     "%s: is damaged, or no gzip file (%s); fetch or compress it again", path,
                     stream->msg ? stream->msg : "no reason given");
}

/* Decompresses a member, from the stream's place in the input on. */
static lode_status_t inflate_member(output_t *output, z_stream *stream, const unsigned char *end,
                                    const char *path) {
    const size_t most = 1u << 30; /* zlib counts in unsigned int */
    for (;;) {
        LODE_TRY(make_room(output));
        const size_t input = (size_t)(end - stream->next_in);
        const size_t room = output->capacity - output->length;
        stream->avail_in = (uInt)(input < most ? input : most);
        stream->avail_out = (uInt)(room < most ? room : most);
        stream->next_out = (Bytef *)output->data + output->length;
        const int code = inflate(stream, Z_NO_FLUSH);
        output->length = (size_t)(stream->next_out - (Bytef *)output->data);
        if (code == Z_STREAM_END)
            return LODE_OK;
        if (code != Z_OK || (stream->next_in == end && stream->avail_out > 0))
            return fail(code, stream, path);
    }
}

static bool only_zeros(const unsigned char *at, const unsigned char *end) {
    while (at < end && *at == 0)
        at++;
    return at == end;
}

static lode_status_t inflate_all(output_t *output, z_stream *stream, const unsigned char *end,
                                 const char *path) {
    do {
        LODE_TRY(inflate_member(output, stream, end, path));
        if (inflateReset(stream) != Z_OK)
            return lode_fail(LODE_ERR_INTERNAL, "%s: zlib cannot go on", path);
    } while (starts((const char *)stream->next_in, (size_t)(end - stream->next_in)));
    if (!only_zeros(stream->next_in, end))
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: has something behind the end of its gzip data; compress it again",
                         path);
    return LODE_OK;
}

lode_status_t lode_gzip_read(char **data, size_t *length, const char *bytes, size_t size,
                             const char *path) {
    *data = NULL;
    *length = 0;
    output_t output = {0};
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)bytes};
    const int code = inflateInit2(&stream, GZIP_ALONE);
    if (code != Z_OK)
        return fail(code, &stream, path);
    const unsigned char *end = (const unsigned char *)bytes + size;
    lode_status_t status = inflate_all(&output, &stream, end, path);
    inflateEnd(&stream);
    if (status == LODE_OK)
        status = make_room(&output);
    if (status != LODE_OK) {
        free(output.data);
        return status;
    }
    output.data[output.length] = '\0';
    *data = output.data;
    *length = output.length;
    return LODE_OK;
}

lode_status_t lode_gzip_file(char **data, size_t *length, const char *path) {
    char *bytes = NULL;
    size_t size = 0;
    *data = NULL;
    *length = 0;
    LODE_TRY(lode_file_read(&bytes, &size, path));
    if (!lode_gzip_is(bytes, size, path)) {
        *data = bytes;
        *length = size;
        return LODE_OK;
    }
    const lode_status_t status = lode_gzip_read(data, length, bytes, size, path);
    free(bytes);
    return status;
}

lode_status_t lode_gzip_head(char **data, size_t *length, const char *path, int most) {
    *length = 0;
    LODE_TRY(LODE_NEW_RAW(data, most, "the beginning of a text"));
    gzFile file = gzopen(path, "rb"); /* which reads other files as they are */
    const int got = file ? gzread(file, *data, (unsigned)most) : 0;
    if (file)
        gzclose(file);
    if (file && got >= 0) {
        *length = (size_t)got;
        return LODE_OK;
    }
    free(*data);
    *data = NULL;
    if (!file)
        return lode_fail(LODE_ERR_INPUT, "%s: cannot be read", path);
    return lode_fail(LODE_ERR_FORMAT, "%s: is damaged; fetch or compress it again", path);
}
