/* text/gzip: corpora that are compressed with gzip (RFC 1952). Everything here is Local. */
#ifndef LODE_TEXT_GZIP_H
#define LODE_TEXT_GZIP_H

#include <stddef.h>

#include "base/error.h"

/* Whether a file is to be decompressed: its content begins as gzip's does, or its name ends in
 * ".gz". */
bool lode_gzip_is(const char *bytes, size_t size, const char *path);

/* Decompresses all members of a file, one behind the other.
 *   data, length   out: the content with a NUL behind it, the caller's to free; NULL on failure
 *   bytes          [size], any content
 *   path           the file, for messages
 * Errors: LODE_ERR_FORMAT (no gzip, cut off, damaged, or followed by something else but zeros,
 * which some archives are padded with), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_gzip_read(char **data, size_t *length, const char *bytes,
                                           size_t size, const char *path);

/* lode_file_read(), and decompressed where it is to be. Errors: both functions'. */
LODE_MUST_USE lode_status_t lode_gzip_file(char **data, size_t *length, const char *path);

/* The beginning of a file, `most` bytes of it, above 0, or fewer where it has no more, decompressed
 * where it begins as gzip's do; the rest is not read.
 *   data, length   out: the bytes, the caller's to free; NULL on failure
 * Errors: LODE_ERR_INPUT (missing or unreadable), LODE_ERR_FORMAT (damaged), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_gzip_head(char **data, size_t *length, const char *path, int most);

/* "1.3.1": zlib's. Static storage. */
const char *lode_gzip_version(void);

#endif
