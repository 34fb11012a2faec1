/* testing/checkpoint: small random checkpoints, written by the tests that read them.
 *
 * A tensor's values depend on the seed, its name and its shape alone: matrices are uniform with
 * variance 1 / columns, norm weights uniform around 1 with deviation 0.1; both are rounded to the
 * dtype (to nearest, ties to even).
 */
#ifndef LODE_TESTING_CHECKPOINT_H
#define LODE_TESTING_CHECKPOINT_H

#include <stdint.h>

#include "base/error.h"
#include "model/architecture.h"
#include "model/tensor.h"

/* A tensor to write. */
typedef struct lode_test_tensor {
    char name[96];
    const char *dtype; /* F32, F16 and BF16 get values, others get zero bytes: I64, I32, I8, U8 */
    int rank;          /* 1 or 2 */
    int64_t shape[2];
} lode_test_tensor_t;

/* Writes a Llama checkpoint into the existing folder: config.json, and model.safetensors where
 * `shards` is 1, else an index and that many shards. Tied architectures get no lm_head.weight.
 * There is no tokenizer.json. Errors: LODE_ERR_IO, LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_test_write_checkpoint(const char *folder,
                                                       const lode_architecture_t *architecture,
                                                       lode_dtype_t dtype, int shards,
                                                       uint64_t seed);

/* The parts of the above, for tests that want a checkpoint with something wrong. */

/* Writes config.json. Local. */
LODE_MUST_USE lode_status_t lode_test_write_config(const char *folder,
                                                   const lode_architecture_t *architecture);

/* Lists the tensors of a Llama checkpoint in the order of the model; *tensors is the caller's, with
 * room for four more. Local. */
LODE_MUST_USE lode_status_t lode_test_list_tensors(lode_test_tensor_t **tensors, int64_t *count,
                                                   const lode_architecture_t *architecture,
                                                   lode_dtype_t dtype);

/* Writes tensors[count] as the safetensors file `folder`/`name`. Local. */
LODE_MUST_USE lode_status_t lode_test_write_safetensors(const char *folder, const char *name,
                                                        const lode_test_tensor_t *tensors,
                                                        int64_t count, uint64_t seed);

/* Writes `text` as the file `folder`/`name`. Local. */
LODE_MUST_USE lode_status_t lode_test_write_text(const char *folder, const char *name,
                                                 const char *text);

#endif
