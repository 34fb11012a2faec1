/* base/file: paths and whole files. Everything here is Local. */
#ifndef LODE_BASE_FILE_H
#define LODE_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Expands a leading ~ or ~/ and every $VAR or ${VAR}; *out is the caller's. A variable that is not
 * set is LODE_ERR_CONFIG, naming it. */
LODE_MUST_USE lode_status_t lode_path_expand(char **out, const char *path);

/* directory + "/" + name; *out is the caller's. */
LODE_MUST_USE lode_status_t lode_path_join(char **out, const char *directory, const char *name);

/* Whole file with a NUL after its last byte; *data is the caller's, *size excludes the NUL.
 * Errors: LODE_ERR_INPUT (missing, unreadable, a directory), LODE_ERR_IO, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_file_read(char **data, size_t *size, const char *path);

/* Writes bytes under `path`.partial, syncs, renames to `path`: never half a file under the name. */
LODE_MUST_USE lode_status_t lode_file_write_atomic(const char *path, const void *data, size_t size);

/* A read-only private mapping of a whole regular file. */
typedef struct lode_mapping {
    const unsigned char *data; /* NULL where size is 0 */
    size_t size;               /* bytes */
} lode_mapping_t;
LODE_MUST_USE lode_status_t lode_file_map(lode_mapping_t *mapping, const char *path);
void lode_file_unmap(lode_mapping_t *mapping); /* leaves {0} */

bool lode_file_exists(const char *path);

/* mkdir -p. Errors: LODE_ERR_IO naming the component that failed. */
LODE_MUST_USE lode_status_t lode_directory_create(const char *path);

#endif
