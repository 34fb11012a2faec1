/* model/writer: safetensors files of a Hugging Face folder, its weights or what lies beside them,
 * written by many ranks at once.
 *
 * Which tensor goes where follows from the list of tensors alone: in the order of the list, a
 * tensor opens a new shard where the one before would grow beyond the limit; within a shard the
 * wider elements come first, so that every tensor is aligned to its elements. The files are
 * therefore the same bytes whoever writes them. One shard is model.safetensors; several are
 * model-00001-of-00003.safetensors … with model.safetensors.index.json.
 *
 * One rank lays the files out; then any rank writes any piece of any tensor. What an interrupted
 * run has written need not be written again: <first shard>.partial, a file of marks, has a byte for
 * each tensor, which is set once all of the tensor is on disk. Whoever goes on may be any number of
 * ranks. Everything here is Local.
 */
#ifndef LODE_MODEL_WRITER_H
#define LODE_MODEL_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/tensor.h"

#define LODE_WRITER_SHARD_BYTES (INT64_C(4) << 30) /* of tensors, the usual limit */

typedef struct lode_writer lode_writer_t;

/* A tensor to be written. */
typedef struct lode_writer_tensor {
    const char *name;  /* borrowed; copied by create */
    const char *dtype; /* as safetensors spells it; a static string */
    int rank;
    int64_t shape[LODE_TENSOR_MAX_RANK];
    int64_t bytes; /* what shape and dtype take */
} lode_writer_tensor_t;

/* How the files of one writer are called and cut. A folder may hold several sets. */
typedef struct lode_writer_set {
    const char *stem;    /* instead of "model" in all names; borrowed during create */
    int64_t shard_bytes; /* of tensors in a shard; a longer tensor has a shard to itself */
    bool indexed;        /* an index of one shard too: loaders that take all safetensors files of a
                          * folder then know which are the weights */
} lode_writer_set_t;

/* Plans the files of tensors[count] in `folder`, which need not exist yet. *writer is the caller's,
 * for lode_writer_destroy, NULL on failure. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_writer_create_set(lode_writer_t **writer, const char *folder,
                                                   const lode_writer_set_t *set,
                                                   const lode_writer_tensor_t *tensors,
                                                   int64_t count);

/* The same of a model's weights, in shards of up to `shard_bytes`. */
LODE_MUST_USE lode_status_t lode_writer_create(lode_writer_t **writer, const char *folder,
                                               const lode_writer_tensor_t *tensors, int64_t count,
                                               int64_t shard_bytes);

/* Closes what is open, without a care for what was written. NULL is fine. */
void lode_writer_destroy(lode_writer_t **writer);

/* Names in the folder of the files to be written, the index last where there is one; `file` must be
 * in [0, count). The strings are the writer's. */
int64_t lode_writer_file_count(const lode_writer_t *writer);
const char *lode_writer_file_name(const lode_writer_t *writer, int64_t file);

/* Creates the files in the existing folder, in place of any of their names: headers, the index, and
 * the space of all tensors, so that a full disk is found here. For one rank, before anybody writes.
 * Errors: LODE_ERR_IO, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_writer_lay_out(lode_writer_t *writer);

/* Writes data[size], bytes [offset, offset + size) of tensor `index` of the list.
 * Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_writer_write(lode_writer_t *writer, int64_t index, int64_t offset,
                                              const void *data, size_t size);

/* Syncs and closes what this rank wrote, and records what it has marked. Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_writer_sync(lode_writer_t *writer);

/* --- going on with what an interrupted run left ---------------------------------------------- */

/* Leaves, in a folder that is now complete but for the tensors' bytes, marks that say that none is
 * written. For the rank that laid it out, after it has. Errors: LODE_ERR_IO, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_writer_begin_marks(lode_writer_t *writer);

/* Whether the folder has marks, and all weight files with these headers and extents. */
bool lode_writer_interrupted(const lode_writer_t *writer);

/* Reads the marks, new ones or an interrupted run's. For every rank that writes, before any does.
 * Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_writer_open_marks(lode_writer_t *writer);

/* Whether tensor `index` was on disk when the marks were read, or since by this rank's doing. */
bool lode_writer_done(const lode_writer_t *writer, int64_t index);

/* Marks tensor `index`, all of which this rank has written. About once a second what is marked is
 * put on disk and recorded; lode_writer_sync() does so too. Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_writer_mark(lode_writer_t *writer, int64_t index);

/* Deletes the marks, all tensors being written. For one rank. Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_writer_end_marks(const lode_writer_t *writer);

/* Rounds values[count] to `dtype`, to nearest, ties to even, into out[count] elements of that type.
 * A finite value that becomes infinite is LODE_ERR_NUMERIC. */
LODE_MUST_USE lode_status_t lode_writer_round(void *out, lode_dtype_t dtype, const float *values,
                                              int64_t count);
LODE_MUST_USE lode_status_t lode_writer_round_f64(void *out, lode_dtype_t dtype,
                                                  const double *values, int64_t count);

#endif
