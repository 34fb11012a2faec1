/* model/safetensors_internal: what the format's own files share.
 *
 * safetensors_header.c reads the header and proves that it describes the file, safetensors.c has
 * the files and maps their tensors.
 */
#ifndef LODE_MODEL_SAFETENSORS_INTERNAL_H
#define LODE_MODEL_SAFETENSORS_INTERNAL_H

#include <jansson.h>

#include "model/safetensors.h"

enum { LODE_SAFETENSORS_LENGTH = 8 }; /* bytes of the field before the header */

/* The pages that a tensor is mapped by. */
typedef struct lode_safetensors_window {
    void *start; /* NULL where the tensor is not mapped */
    size_t bytes;
} lode_safetensors_window_t;

struct lode_safetensors {
    char *path;
    int descriptor; /* −1 where only a header was parsed */
    int64_t size;   /* bytes of the file */
    json_t *header; /* owns the names and dtypes of the entries */
    int64_t count;
    lode_safetensors_entry_t *entries;  /* [count], by name */
    lode_safetensors_window_t *windows; /* [count] */
    int64_t bytes_mapped, bytes_mapped_ever;
};

/* Decodes the length field and holds it against the file's size; `prefix` has `available` bytes.
 * Errors: LODE_ERR_FORMAT. Local. */
LODE_MUST_USE lode_status_t lode_safetensors_header_length(int64_t *length,
                                                           const unsigned char *prefix,
                                                           size_t available, int64_t file_size,
                                                           const char *path);

/* Fills the handle, whose path and size are known, from the JSON text of the header, `length`
 * bytes. Errors: LODE_ERR_FORMAT, LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_safetensors_read_header(lode_safetensors_t *file, const char *json,
                                                         int64_t length);

#endif
