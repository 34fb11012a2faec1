#include "score/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

lode_status_t lode_weights_check(const lode_tensor_t *tensor, int64_t rows, int64_t columns,
                                 const char *what) {
    if (!tensor->data)
        return lode_fail(LODE_ERR_SHAPE, "%s: the tensor is absent", what);
    if (tensor->rank != 2)
        return lode_fail(LODE_ERR_SHAPE, "%s has %d dimensions, 2 were expected", what,
                         tensor->rank);
    if (tensor->shape[0] != rows || tensor->shape[1] != columns)
        return lode_fail(LODE_ERR_SHAPE, "%s is [%lld, %lld], [%lld, %lld] was expected", what,
                         (long long)tensor->shape[0], (long long)tensor->shape[1], (long long)rows,
                         (long long)columns);
    return LODE_OK;
}

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE binary16: 1 sign, 5 exponent, 10 fraction bits. */
static double double_of_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31;
    uint32_t fraction = half & 0x3ff;
    if (exponent == 0) /* zero or subnormal: a multiple of 2⁻²⁴ */
        return (sign ? -0x1p-24 : 0x1p-24) * (double)fraction;
    exponent = exponent == 31 ? 255 : exponent - 15 + 127;
    return (double)float_of_bits(sign | exponent << 23 | fraction << 13);
}

static void widen_f32(double *out, const unsigned char *bytes, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, bytes + 4 * i, sizeof value);
        out[i] = (double)value;
    }
}

static void widen_f16(double *out, const unsigned char *bytes, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        out[i] = double_of_half(half);
    }
}

static void widen_bf16(double *out, const unsigned char *bytes, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint16_t upper; /* the upper half of a float */
        memcpy(&upper, bytes + 2 * i, sizeof upper);
        out[i] = (double)float_of_bits((uint32_t)upper << 16);
    }
}

lode_status_t lode_weights_row(double *out, const lode_tensor_t *tensor, int64_t row,
                               const char *what) {
    int64_t columns = tensor->shape[1];
    LODE_ASSERT(0 <= row && row < tensor->shape[0]);
    const unsigned char *bytes = tensor->data;
    bytes += (size_t)(row * columns) * lode_dtype_size(tensor->dtype);
    switch (tensor->dtype) {
    case LODE_DTYPE_F32:
        widen_f32(out, bytes, columns);
        break;
    case LODE_DTYPE_F16:
        widen_f16(out, bytes, columns);
        break;
    case LODE_DTYPE_BF16:
        widen_bf16(out, bytes, columns);
        break;
    }
    for (int64_t i = 0; i < columns; i++)
        if (!isfinite(out[i]))
            return lode_fail(LODE_ERR_NUMERIC,
                             "%s[%lld, %lld] is %g; the checkpoint is damaged or was not trained "
                             "to the end",
                             what, (long long)row, (long long)i, out[i]);
    return LODE_OK;
}

lode_status_t lode_weights_row_norms(double *norms, const lode_tensor_t *tensor, const char *what) {
    const int64_t rows = tensor->shape[0], columns = tensor->shape[1];
    double *row;
    LODE_TRY(lode_weights_check(tensor, rows, columns, what));
    LODE_TRY(LODE_NEW_RAW(&row, columns, what));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < rows && status == LODE_OK; i++) {
        status = lode_weights_row(row, tensor, i, what);
        double squares = 0;
        for (int64_t j = 0; status == LODE_OK && j < columns; j++)
            squares += row[j] * row[j];
        norms[i] = sqrt(squares);
    }
    free(row);
    return status;
}

lode_status_t lode_weights_column_norms(double *norms, const lode_tensor_t *tensor,
                                        const char *what) {
    const int64_t rows = tensor->shape[0], columns = tensor->shape[1];
    double *row;
    LODE_TRY(lode_weights_check(tensor, rows, columns, what));
    LODE_TRY(LODE_NEW_RAW(&row, columns, what));
    memset(norms, 0, (size_t)columns * sizeof *norms);
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < rows && status == LODE_OK; i++) {
        status = lode_weights_row(row, tensor, i, what);
        for (int64_t j = 0; status == LODE_OK && j < columns; j++)
            norms[j] += row[j] * row[j];
    }
    for (int64_t j = 0; j < columns; j++)
        norms[j] = sqrt(norms[j]);
    free(row);
    return status;
}
