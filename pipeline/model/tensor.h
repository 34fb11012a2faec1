/* model/tensor: element types of checkpoints and views of their bytes. */
#ifndef LODE_MODEL_TENSOR_H
#define LODE_MODEL_TENSOR_H

#include <stdbool.h>
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

/* A tensor somewhere in a mapped checkpoint, or a part of one. `data` need not be aligned to its
 * element (safetensors promises nothing); whoever owns the mapping owns the bytes.
 *
 * A matrix is a view: its lines may be further apart than they are long, where it is a part of a
 * fused one, and it may be stored transposed. Vectors are dense. */
typedef struct lode_tensor {
    const void *data; /* its first element; NULL where the tensor is absent */
    lode_dtype_t dtype;
    int rank; /* 1 or 2 in weights */
    int64_t shape[LODE_TENSOR_MAX_RANK];
    int64_t pitch;   /* matrices: elements from one stored line to the next */
    bool transposed; /* matrices: element [i, j] lies at j·pitch + i, otherwise at i·pitch + j */
} lode_tensor_t;

/* The dense row-major matrix [rows, columns] at `data`. */
static inline lode_tensor_t lode_tensor_matrix(const void *data, lode_dtype_t dtype, int64_t rows,
                                               int64_t columns) {
    return (lode_tensor_t){
        .data = data, .dtype = dtype, .rank = 2, .shape = {rows, columns}, .pitch = columns};
}

/* The vector [count] at `data`. */
static inline lode_tensor_t lode_tensor_vector(const void *data, lode_dtype_t dtype,
                                               int64_t count) {
    return (lode_tensor_t){.data = data, .dtype = dtype, .rank = 1, .shape = {count}};
}

#endif
