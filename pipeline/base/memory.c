#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"

enum { LODE_ALIGNMENT = 64 };

lode_status_t lode_alloc_raw(void *out, int64_t count, size_t size, const char *what) {
    void *memory = NULL;
    memcpy(out, &memory, sizeof memory);
    if (count == 0 || size == 0)
        return LODE_OK;
    size_t bytes;
    if (count < 0 || __builtin_mul_overflow((size_t)count, size, &bytes) ||
        bytes > SIZE_MAX - LODE_ALIGNMENT)
        return lode_fail(LODE_ERR_MEMORY, "%s: %lld elements of %zu bytes cannot be allocated",
                         what, (long long)count, size);
    bytes = (bytes + LODE_ALIGNMENT - 1) / LODE_ALIGNMENT * LODE_ALIGNMENT;
    if (!lode_fault(LODE_FAULT_ALLOCATION))
        memory = aligned_alloc(LODE_ALIGNMENT, bytes);
    if (!memory)
        return lode_fail(LODE_ERR_MEMORY,
                         "%s: no memory for %.1f MB; use more ranks, a smaller micro_batch or a "
                         "smaller memory budget",
                         what, (double)bytes / 1e6);
    memcpy(out, &memory, sizeof memory);
    return LODE_OK;
}

lode_status_t lode_alloc(void *out, int64_t count, size_t size, const char *what) {
    LODE_TRY(lode_alloc_raw(out, count, size, what));
    void *memory;
    memcpy(&memory, out, sizeof memory);
    if (memory)
        memset(memory, 0, (size_t)count * size);
    return LODE_OK;
}

lode_status_t lode_resize(void *array, int64_t count, size_t size, const char *what) {
    void *old, *resized = NULL;
    size_t bytes;
    memcpy(&old, array, sizeof old);
    if (count <= 0 || __builtin_mul_overflow((size_t)count, size, &bytes))
        return lode_fail(LODE_ERR_MEMORY, "%s: %lld elements of %zu bytes cannot be allocated",
                         what, (long long)count, size);
    if (!lode_fault(LODE_FAULT_ALLOCATION))
        resized = realloc(old, bytes);
    if (!resized)
        return lode_fail(LODE_ERR_MEMORY, "%s: no memory for %.1f MB", what, (double)bytes / 1e6);
    memcpy(array, &resized, sizeof resized);
    return LODE_OK;
}

lode_status_t lode_strdup(char **out, const char *text) {
    size_t bytes = strlen(text) + 1;
    LODE_TRY(lode_alloc_raw(out, (int64_t)bytes, 1, "string"));
    memcpy(*out, text, bytes);
    return LODE_OK;
}

static lode_status_t buffer_reserve(lode_buffer_t *buffer, size_t extra) {
    size_t needed;
    if (__builtin_add_overflow(buffer->length, extra, &needed) || needed == SIZE_MAX)
        return lode_fail(LODE_ERR_MEMORY, "text of more than %zu bytes", SIZE_MAX);
    needed += 1;
    if (needed <= buffer->capacity)
        return LODE_OK;
    size_t capacity = buffer->capacity ? buffer->capacity : 256;
    while (capacity < needed)
        capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    LODE_TRY(lode_resize(&buffer->data, (int64_t)capacity, 1, "text"));
    buffer->capacity = capacity;
    return LODE_OK;
}

lode_status_t lode_buffer_append(lode_buffer_t *buffer, const void *bytes, size_t length) {
    LODE_TRY(buffer_reserve(buffer, length));
    if (length)
        memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
    return LODE_OK;
}

lode_status_t lode_buffer_printf(lode_buffer_t *buffer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0)
        return lode_fail(LODE_ERR_INTERNAL, "text format \"%s\" cannot be printed", format);
    LODE_TRY(buffer_reserve(buffer, (size_t)length));
    va_start(arguments, format);
    vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    buffer->length += (size_t)length;
    return LODE_OK;
}

void lode_buffer_free(lode_buffer_t *buffer) {
    free(buffer->data);
    *buffer = (lode_buffer_t){0};
}

/* --- what the process occupies -------------------------------------------------------------- */

static int64_t peak, peak_marked;

int64_t lode_memory_private(void) {
    long long size, resident, shared;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    const int fields = fscanf(file, "%lld %lld %lld", &size, &resident, &shared);
    fclose(file);
    /* Shared are pages of files and of shared segments; the rest is RssAnon of /proc/self/status.
     */
    return fields == 3 ? (int64_t)(resident - shared) * sysconf(_SC_PAGESIZE) : 0;
}

void lode_memory_sample(void) {
    const int64_t now = lode_memory_private();
    peak = now > peak ? now : peak;
    peak_marked = now > peak_marked ? now : peak_marked;
}

int64_t lode_memory_peak(void) {
    return peak;
}

void lode_memory_mark(void) {
    peak_marked = 0;
    lode_memory_sample();
}

int64_t lode_memory_peak_marked(void) {
    return peak_marked;
}
