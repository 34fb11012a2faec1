/* model/tensor: element types of checkpoints and views of their bytes. */
#ifndef LODE_MODEL_TENSOR_H
#define LODE_MODEL_TENSOR_H

#include <stddef.h>
#include <stdint.h>

/* Element types a checkpoint may hold; the order is not stored anywhere. */
typedef enum lode_dtype {
    LODE_DTYPE_F32,
    LODE_DTYPE_F16,
    LODE_DTYPE_BF16,
} lode_dtype_t;

/* Bytes of one element. */
static inline size_t lode_dtype_size(lode_dtype_t dtype) {
    return dtype == LODE_DTYPE_F32 ? 4 : 2;
}

/* "F32", "F16", "BF16", as safetensors spells them. */
static inline const char *lode_dtype_name(lode_dtype_t dtype) {
    return dtype == LODE_DTYPE_F32 ? "F32" : dtype == LODE_DTYPE_F16 ? "F16" : "BF16";
}

enum { LODE_TENSOR_MAX_RANK = 4 };

/* A dense row-major tensor somewhere in a mapped checkpoint. `data` need not be aligned to its
 * element (safetensors promises nothing); whoever owns the mapping owns the bytes. */
typedef struct lode_tensor {
    const void *data; /* NULL where the tensor is absent */
    lode_dtype_t dtype;
    int rank;
    int64_t shape[LODE_TENSOR_MAX_RANK];
} lode_tensor_t;

#endif
