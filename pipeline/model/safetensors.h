/* model/safetensors: one safetensors file, its header proved sound before anything else is used.
 *
 * Format (huggingface/safetensors, README "Format"): a little-endian u64 N, N bytes of JSON
 * {"name": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, "__metadata__": {..}},
 * then the data; offsets count from the first byte after the header, the tensors cover the data
 * without holes or overlaps, and elements are little-endian and row-major.
 *
 * The header is read, not mapped; a tensor is mapped alone, by the pages it lies on. One thread at
 * a time may use a handle. Everything here is Local.
 */
#ifndef LODE_MODEL_SAFETENSORS_H
#define LODE_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/tensor.h"

typedef struct lode_safetensors lode_safetensors_t;

/* One tensor of a header. The strings belong to the file's handle. */
typedef struct lode_safetensors_entry {
    const char *name;                    /* UTF-8 without control characters */
    const char *dtype;                   /* as the header spells it */
    bool readable;                       /* F32, F16 or BF16, and rank ≤ LODE_TENSOR_MAX_RANK */
    lode_dtype_t element;                /* meaningful where readable */
    int rank;                            /* extents; may exceed LODE_TENSOR_MAX_RANK */
    int64_t shape[LODE_TENSOR_MAX_RANK]; /* the leading extents, 0 beyond rank */
    int64_t begin, end;                  /* bytes from the start of the file */
    bool mapped_ever;
} lode_safetensors_entry_t;

/* Opens `path` and validates its header. The handle goes to lode_safetensors_close(); *out is NULL
 * on failure. Errors: LODE_ERR_INPUT (missing, not a regular file), LODE_ERR_IO, LODE_ERR_FORMAT
 * (anything wrong with the header, or a file shorter or longer than its header says),
 * LODE_ERR_MEMORY; the message names the file and, where one is to blame, the tensor. */
LODE_MUST_USE lode_status_t lode_safetensors_open(lode_safetensors_t **out, const char *path);

/* The same validation for bytes in memory: `bytes` holds the first `size` bytes of a file of
 * `file_size` bytes, the whole header at least; `name` stands for the file in messages. Nothing of
 * `bytes` is kept. The handle can be asked for its entries but maps nothing (LODE_ERR_INTERNAL). */
LODE_MUST_USE lode_status_t lode_safetensors_parse(lode_safetensors_t **out, const void *bytes,
                                                   size_t size, int64_t file_size,
                                                   const char *name);

/* Unmaps everything and closes the file. NULL is allowed. */
void lode_safetensors_close(lode_safetensors_t **file);

/* The path or name it was opened under. */
const char *lode_safetensors_path(const lode_safetensors_t *file);

/* Tensors in the file, in the bytewise order of their names; `index` must be in [0, count). */
int64_t lode_safetensors_count(const lode_safetensors_t *file);
const lode_safetensors_entry_t *lode_safetensors_entry(const lode_safetensors_t *file,
                                                       int64_t index);

/* Index of the tensor `name`, −1 if there is none. */
int64_t lode_safetensors_find(const lode_safetensors_t *file, const char *name);

/* Maps tensor `index` read-only, by its own pages (once; later calls give the same bytes), and
 * describes it in *out, which is zeroed on failure. The bytes belong to the handle and are valid
 * until the tensor is unmapped or the file closed. Errors: LODE_ERR_SHAPE (a dtype or rank that is
 * not readable), LODE_ERR_IO (also where the file changed its size since it was opened). */
LODE_MUST_USE lode_status_t lode_safetensors_map(lode_safetensors_t *file, int64_t index,
                                                 lode_tensor_t *out);

/* The same for the bare bytes of a tensor of any dtype and rank, entry->end − entry->begin of them.
 * Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_safetensors_map_bytes(lode_safetensors_t *file, int64_t index,
                                                       const void **bytes);

/* Unmaps tensor `index`, if it is mapped. */
void lode_safetensors_unmap(lode_safetensors_t *file, int64_t index);

/* Bytes of the tensors mapped now, and of those ever mapped, each counted once. */
int64_t lode_safetensors_bytes_mapped(const lode_safetensors_t *file);
int64_t lode_safetensors_bytes_mapped_ever(const lode_safetensors_t *file);

#endif
