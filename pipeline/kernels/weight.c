#include "kernels/weight.h"

#include "base/error.h"

lode_weight_t lode_weight_of(const lode_tensor_t *tensor) {
    LODE_ASSERT(tensor->rank == 2);
    return (lode_weight_t){.data = tensor->data,
                           .dtype = tensor->dtype,
                           .rows = tensor->shape[0],
                           .cols = tensor->shape[1],
                           .pitch = tensor->pitch,
                           .transposed = tensor->transposed,
                           .out = tensor->shape[0],
                           .in = tensor->shape[1]};
}

static float half_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13;
    float value;
    memcpy(&value, &magnitude, sizeof value);
    value *= 0x1p112f; /* rebases the exponent; exact for subnormals too */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits |= sign;
    /* infinities and NaNs keep an all-ones exponent */
    bits |= magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float bfloat_to_float(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void lode_convert(lode_real_t *out, const void *data, lode_dtype_t dtype, int64_t count) {
    const unsigned char *bytes = data;
    switch (dtype) {
    case LODE_DTYPE_F32:
        for (int64_t i = 0; i < count; i++) {
            float value;
            memcpy(&value, bytes + 4 * i, sizeof value);
            out[i] = (lode_real_t)value;
        }
        break;
    case LODE_DTYPE_F16:
        for (int64_t i = 0; i < count; i++) {
            uint16_t half;
            memcpy(&half, bytes + 2 * i, sizeof half);
            out[i] = (lode_real_t)half_to_float(half);
        }
        break;
    case LODE_DTYPE_BF16:
        for (int64_t i = 0; i < count; i++) {
            uint16_t half;
            memcpy(&half, bytes + 2 * i, sizeof half);
            out[i] = (lode_real_t)bfloat_to_float(half);
        }
        break;
    }
}

/* One element, for scattered places. */
static lode_real_t element(const unsigned char *bytes, lode_dtype_t dtype, int64_t index) {
    lode_real_t value;
    lode_convert(&value, bytes + (size_t)index * lode_dtype_size(dtype), dtype, 1);
    return value;
}

/* target[j] = element index[j] of a line. */
static void gather(lode_real_t *target, const unsigned char *line, lode_dtype_t dtype,
                   const int32_t *index, int64_t count) {
    switch (dtype) { /* a constant dtype lets each loop specialise */
    case LODE_DTYPE_F32:
        for (int64_t j = 0; j < count; j++)
            target[j] = element(line, LODE_DTYPE_F32, index[j]);
        break;
    case LODE_DTYPE_F16:
        for (int64_t j = 0; j < count; j++)
            target[j] = element(line, LODE_DTYPE_F16, index[j]);
        break;
    case LODE_DTYPE_BF16:
        for (int64_t j = 0; j < count; j++)
            target[j] = element(line, LODE_DTYPE_BF16, index[j]);
        break;
    }
}

void lode_weight_line(const lode_weight_t *weight, int64_t line, int64_t place, int64_t places,
                      lode_real_t *out) {
    const size_t size = lode_dtype_size(weight->dtype);
    const int32_t *line_index = weight->transposed ? weight->col_index : weight->row_index;
    const int32_t *place_index = weight->transposed ? weight->row_index : weight->col_index;
    const int64_t stored = line_index ? line_index[line] : line;
    const unsigned char *source =
        (const unsigned char *)weight->data + (size_t)(stored * weight->pitch) * size;
    if (place_index)
        gather(out, source, weight->dtype, place_index + place, places);
    else
        lode_convert(out, source + (size_t)place * size, weight->dtype, places);
}

void lode_weight_row(const lode_weight_t *weight, int64_t row, int64_t col, int64_t cols,
                     lode_real_t *out) {
    if (!weight->transposed) {
        lode_weight_line(weight, row, col, cols, out);
        return;
    }
    for (int64_t j = 0; j < cols; j++)
        lode_weight_line(weight, col + j, row, 1, out + j);
}
