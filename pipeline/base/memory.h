/* base/memory: checked allocation, and how much memory the process has. Memory is released with
 * free(). */
#ifndef LODE_BASE_MEMORY_H
#define LODE_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Allocates count × size bytes, zeroed, aligned to 64 bytes (a cache line, any vector width).
 * *out is NULL when count or size is 0 and on failure. `what` names the array in the message.
 * Errors: LODE_ERR_MEMORY, also where the product overflows or is negative. Local. */
LODE_MUST_USE lode_status_t lode_alloc(void *out, int64_t count, size_t size, const char *what);

/* Same, contents undefined: for large buffers that are written before they are read. */
LODE_MUST_USE lode_status_t lode_alloc_raw(void *out, int64_t count, size_t size, const char *what);

/* LODE_NEW(&array, n, "what"): element size taken from the pointer. */
#define LODE_NEW(out, count, what) lode_alloc((out), (count), sizeof **(out), (what))
#define LODE_NEW_RAW(out, count, what) lode_alloc_raw((out), (count), sizeof **(out), (what))

/* Makes an array, or none yet (NULL), `count` elements of `size` bytes long, count > 0; what it
 * held stays as far as there is room, the rest is undefined. `array` is the address of the pointer,
 * which on failure is as it was. For arrays that grow; not aligned to more than malloc's. Local. */
LODE_MUST_USE lode_status_t lode_resize(void *array, int64_t count, size_t size, const char *what);

/* Copy of a NUL-terminated string, owned by the caller. */
LODE_MUST_USE lode_status_t lode_strdup(char **out, const char *text);

/* Growing text; initialise with {0}. `data` is NUL-terminated once anything was appended. */
typedef struct lode_buffer {
    char *data;
    size_t length;   /* bytes without the NUL */
    size_t capacity; /* bytes */
} lode_buffer_t;

LODE_MUST_USE lode_status_t lode_buffer_append(lode_buffer_t *buffer, const void *bytes,
                                               size_t length);
LODE_MUST_USE lode_status_t lode_buffer_printf(lode_buffer_t *buffer, const char *format, ...)
    LODE_PRINTF(2, 3);
void lode_buffer_free(lode_buffer_t *buffer); /* leaves {0} */

/* Bytes of private memory that the process occupies now: anonymous pages, so neither mapped files
 * nor segments shared with other processes; 0 where the system does not tell. Local. */
int64_t lode_memory_private(void);

/* Looks how much that is now, to be called where much is held; and the most that was seen, in the
 * program and since lode_memory_mark() was called last. Not for several threads at once. Local. */
void lode_memory_sample(void);
int64_t lode_memory_peak(void);
void lode_memory_mark(void);
int64_t lode_memory_peak_marked(void);

#endif
