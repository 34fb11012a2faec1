#include "model/writer.h"

#include <math.h>
#include <string.h>

/* The upper half of a float, which is a bfloat16, rounded; a NaN stays one. */
static uint16_t to_bfloat(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value))
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* A float16: 10 bits of mantissa, smallest normal number 2⁻¹⁴, unit of the subnormals 2⁻²⁴. */
static uint16_t to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x47800000) /* 2¹⁶ */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* 2⁻¹⁴: adding ½ rounds to multiples of half its last place */
        float unit;
        memcpy(&unit, &magnitude, sizeof unit);
        return (uint16_t)(sign | (uint16_t)lrintf(unit * 0x1p24f));
    }
    const uint32_t rebased = magnitude - (UINT32_C(112) << 23); /* exponent bias 127 to 15 */
    return (uint16_t)(sign | (rebased + 0xfff + (rebased >> 13 & 1)) >> 13);
}

/* The float next to `value` whose last bit is odd unless it is exact: rounding that to a shorter
 * type gives what rounding `value` itself gives. */
static float to_odd(double value) {
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    if ((double)single == value || isnan(value) || isinf(single) || (bits & 1))
        return single;
    bits += fabs((double)single) < fabs(value) ? 1 : -1u;
    memcpy(&single, &bits, sizeof single);
    return single;
}

/* Stores one value, given as a float that rounds as the value itself does; whether it became
 * infinite. */
static bool store(unsigned char *out, lode_dtype_t dtype, float value) {
    if (dtype == LODE_DTYPE_F32) {
        memcpy(out, &value, sizeof value);
        return isinf(value);
    }
    const bool brain = dtype == LODE_DTYPE_BF16;
    const uint16_t half = brain ? to_bfloat(value) : to_half(value);
    memcpy(out, &half, sizeof half);
    return (half & 0x7fff) == (brain ? 0x7f80 : 0x7c00);
}

static lode_status_t fail_range(lode_dtype_t dtype, double value) {
    return lode_fail(LODE_ERR_NUMERIC, "%g is beyond the range of %s", value,
                     lode_dtype_name(dtype));
}

lode_status_t lode_writer_round(void *out, lode_dtype_t dtype, const float *values, int64_t count) {
    unsigned char *bytes = out;
    const size_t size = lode_dtype_size(dtype);
    for (int64_t i = 0; i < count; i++)
        if (store(bytes + (size_t)i * size, dtype, values[i]) && !isinf(values[i]))
            return fail_range(dtype, (double)values[i]);
    return LODE_OK;
}

lode_status_t lode_writer_round_f64(void *out, lode_dtype_t dtype, const double *values,
                                    int64_t count) {
    unsigned char *bytes = out;
    const size_t size = lode_dtype_size(dtype);
    for (int64_t i = 0; i < count; i++) {
        const float single = dtype == LODE_DTYPE_F32 ? (float)values[i] : to_odd(values[i]);
        if (store(bytes + (size_t)i * size, dtype, single) && !isinf(values[i]))
            return fail_range(dtype, values[i]);
    }
    return LODE_OK;
}
