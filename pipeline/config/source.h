/* config/source: the text of an experiment before libconfig sees it.
 *
 * libconfig 1.5 resolves every @include against one folder, drops the upper half of integers above
 * 32 bits, takes an unclosed comment for the end of the file, and loses memory at a string in the
 * wrong place. So the text is scanned first: includes are put in place, relative to their own file
 * or else to the working directory, wide integers are marked, and what libconfig must not see is an
 * error here. Internal to config/; everything here is Local.
 */
#ifndef LODE_CONFIG_SOURCE_H
#define LODE_CONFIG_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"

enum {
    LODE_SOURCE_MAX_BYTES = 1 << 18, /* of the text with its includes */
    LODE_SOURCE_MAX_FILE = 1 << 24,  /* bytes of one file, comments included */
    LODE_SOURCE_MAX_FILES = 64,
    LODE_SOURCE_MAX_INCLUDES = 10, /* @include within @include */
    LODE_SOURCE_MAX_DEPTH = 32,    /* brackets within brackets */
};

typedef struct lode_source_line {
    int64_t file; /* index into files */
    int64_t line; /* from 1 */
} lode_source_line_t;

/* Initialise with {0}. */
typedef struct lode_source {
    lode_buffer_t text;
    lode_source_line_t *lines; /* [line_count] where each line of text comes from */
    int64_t line_count, line_capacity;
    char *files[LODE_SOURCE_MAX_FILES]; /* as messages name them */
    int64_t file_count;
} lode_source_t;

/* Reads a file and what it includes. Errors: LODE_ERR_CONFIG with file and line; those of
 * lode_file_read. */
LODE_MUST_USE lode_status_t lode_source_read(lode_source_t *source, const char *path);

/* Takes text in memory, [size] bytes, named `origin` in messages; @include is an error. */
LODE_MUST_USE lode_status_t lode_source_take(lode_source_t *source, const char *text, size_t size,
                                             const char *origin);

/* File and line of line `line` (from 1) of the text; the last one for lines beyond the end. The
 * name lives as long as the source. */
const char *lode_source_place(const lode_source_t *source, int64_t line, int64_t *file_line);

void lode_source_free(lode_source_t *source); /* leaves {0} */

#endif
