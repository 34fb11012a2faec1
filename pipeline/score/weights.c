#include "score/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Rows of a transposed view in a panel: a cache line of the widest elements. */
enum { TRANSPOSED_ROWS = 16 };

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

/* `count` consecutive elements, each to the place `stride` after the one before. */
static void widen_f32(double *out, const unsigned char *bytes, int64_t count, int64_t stride) {
    for (int64_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, bytes + 4 * i, sizeof value);
        out[i * stride] = (double)value;
    }
}

static void widen_f16(double *out, const unsigned char *bytes, int64_t count, int64_t stride) {
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        out[i * stride] = double_of_half(half);
    }
}

static void widen_bf16(double *out, const unsigned char *bytes, int64_t count, int64_t stride) {
    for (int64_t i = 0; i < count; i++) {
        uint16_t upper; /* the upper half of a float */
        memcpy(&upper, bytes + 2 * i, sizeof upper);
        out[i * stride] = (double)float_of_bits((uint32_t)upper << 16);
    }
}

/* Elements [first, first + count) of a stored line. */
static void widen(double *out, const lode_tensor_t *tensor, int64_t line, int64_t first,
                  int64_t count, int64_t stride) {
    const unsigned char *bytes = tensor->data;
    bytes += (size_t)(line * tensor->pitch + first) * lode_dtype_size(tensor->dtype);
    switch (tensor->dtype) {
    case LODE_DTYPE_F32:
        widen_f32(out, bytes, count, stride);
        break;
    case LODE_DTYPE_F16:
        widen_f16(out, bytes, count, stride);
        break;
    case LODE_DTYPE_BF16:
        widen_bf16(out, bytes, count, stride);
        break;
    }
}

void lode_weights_block(double *out, const lode_tensor_t *tensor, int64_t row, int64_t rows,
                        int64_t column, int64_t columns) {
    if (tensor->transposed)
        for (int64_t j = 0; j < columns; j++)
            widen(out + j, tensor, column + j, row, rows, columns);
    else
        for (int64_t i = 0; i < rows; i++)
            widen(out + i * columns, tensor, row + i, column, columns, 1);
}

lode_status_t lode_weights_panel(double *out, const lode_tensor_t *tensor, int64_t first,
                                 int64_t rows, const char *what) {
    const int64_t columns = tensor->shape[1];
    LODE_ASSERT(0 <= first && first + rows <= tensor->shape[0]);
    lode_weights_block(out, tensor, first, rows, 0, columns);
    for (int64_t i = 0; i < rows * columns; i++)
        if (!isfinite(out[i]))
            return lode_fail(LODE_ERR_NUMERIC,
                             "%s[%lld, %lld] is %g; the checkpoint is damaged or was not trained "
                             "to the end",
                             what, (long long)(first + i / columns), (long long)(i % columns),
                             out[i]);
    return LODE_OK;
}

lode_status_t lode_weights_row(double *out, const lode_tensor_t *tensor, int64_t row,
                               const char *what) {
    return lode_weights_panel(out, tensor, row, 1, what);
}

lode_status_t lode_weights_open(lode_weights_reader_t *reader, const lode_tensor_t *tensor,
                                int64_t rows, int64_t columns, const char *what) {
    *reader = (lode_weights_reader_t){.tensor = tensor, .what = what};
    LODE_TRY(lode_weights_check(tensor, rows, columns, what));
    reader->height = tensor->transposed && rows > TRANSPOSED_ROWS ? TRANSPOSED_ROWS
                     : tensor->transposed                         ? rows
                                                                  : 1;
    return LODE_NEW_RAW(&reader->panel, reader->height * columns, what);
}

lode_status_t lode_weights_at(lode_weights_reader_t *reader, int64_t row, const double **out) {
    const int64_t rows = reader->tensor->shape[0], columns = reader->tensor->shape[1];
    if (row < reader->first || row >= reader->first + reader->filled) {
        const int64_t left = rows - row;
        reader->filled = 0;
        LODE_TRY(lode_weights_panel(reader->panel, reader->tensor, row,
                                    left < reader->height ? left : reader->height, reader->what));
        reader->first = row;
        reader->filled = left < reader->height ? left : reader->height;
    }
    *out = reader->panel + (row - reader->first) * columns;
    return LODE_OK;
}

void lode_weights_close(lode_weights_reader_t *reader) {
    free(reader->panel);
    *reader = (lode_weights_reader_t){0};
}

lode_status_t lode_weights_finite(const lode_tensor_t *tensor, const char *what) {
    const int64_t rows = tensor->shape[0];
    lode_weights_reader_t reader;
    lode_status_t status = lode_weights_open(&reader, tensor, rows, tensor->shape[1], what);
    for (int64_t i = 0; i < rows && status == LODE_OK; i++) {
        const double *row;
        status = lode_weights_at(&reader, i, &row);
    }
    lode_weights_close(&reader);
    return status;
}

lode_status_t lode_weights_row_norms(double *norms, const lode_tensor_t *tensor, const char *what) {
    const int64_t rows = tensor->shape[0], columns = tensor->shape[1];
    lode_weights_reader_t reader;
    lode_status_t status = lode_weights_open(&reader, tensor, rows, columns, what);
    for (int64_t i = 0; i < rows && status == LODE_OK; i++) {
        const double *row;
        LODE_GUARD(status, lode_weights_at(&reader, i, &row), done);
        double squares = 0;
        for (int64_t j = 0; j < columns; j++)
            squares += row[j] * row[j];
        norms[i] = sqrt(squares);
    }
done:
    lode_weights_close(&reader);
    return status;
}

lode_status_t lode_weights_column_norms(double *norms, const lode_tensor_t *tensor,
                                        const char *what) {
    const int64_t rows = tensor->shape[0], columns = tensor->shape[1];
    lode_weights_reader_t reader;
    lode_status_t status = lode_weights_open(&reader, tensor, rows, columns, what);
    if (status == LODE_OK)
        memset(norms, 0, (size_t)columns * sizeof *norms);
    for (int64_t i = 0; i < rows && status == LODE_OK; i++) {
        const double *row;
        LODE_GUARD(status, lode_weights_at(&reader, i, &row), done);
        for (int64_t j = 0; j < columns; j++)
            norms[j] += row[j] * row[j];
    }
    for (int64_t j = 0; j < columns && status == LODE_OK; j++)
        norms[j] = sqrt(norms[j]);
done:
    lode_weights_close(&reader);
    return status;
}
