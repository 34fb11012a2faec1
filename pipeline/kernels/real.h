/* kernels/real: the floating type of activations.
 *
 * The kernels are written once in lode_real_t and compiled twice: in float for the pipeline, and in
 * double (LODE_REAL_DOUBLE) for the tests, which check every backward against finite differences.
 * Reductions are in double in both.
 */
#ifndef LODE_KERNELS_REAL_H
#define LODE_KERNELS_REAL_H

#include <cblas.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef LODE_REAL_DOUBLE
typedef double lode_real_t;
#define lode_cblas_gemm cblas_dgemm
#else
typedef float lode_real_t;
#define lode_cblas_gemm cblas_sgemm
#endif

/* exp(x) for x ≤ 0 (softmax and sigmoid need no more), without branches or library calls so that
 * loops over it vectorise. Relative error
 * below 2 ulp of float; below −87.3 the result is 0; NaN stays NaN. */
static inline float lode_exp_nonpositive_f32(float x) {
    const float clamped = x < -87.3f ? -87.3f : x;
    /* x = n·ln2 + r with |r| ≤ ln2/2. Adding 1.5·2²³ leaves n, as an integer, in the low bits. */
    const float shift = 12582912.0f;
    const float shifted = clamped * 1.44269504f + shift;
    const float n = shifted - shift;
    const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
    /* Taylor's series to r⁷: the first term left out is below 6e-9. */
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = (p * r) * r + r + 1.0f;
    uint32_t bits, origin;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&origin, &shift, sizeof origin);
    bits = (bits - origin + 127u) << 23; /* 2ⁿ */
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < -87.3f ? 0.0f : p * scale;
}

static inline lode_real_t lode_exp_nonpositive(lode_real_t x) {
#ifdef LODE_REAL_DOUBLE
    return exp(x);
#else
    return lode_exp_nonpositive_f32(x);
#endif
}

/* tanh(x), likewise without branches. Relative error below 4 ulp of float; NaN stays NaN. */
static inline float lode_tanh_f32(float x) {
    /* Near 0 a least-maximum fit of (tanh(x)/x − 1)/x² in x², since 1 − e would cancel there. */
    const float square = x * x;
    float p = -5.5286334827542305e-3f;
    p = p * square + 2.0483316853642464e-2f;
    p = p * square - 5.369296669960022e-2f;
    p = p * square + 1.333089917898178e-1f;
    p = p * square - 3.333326280117035e-1f;
    const float e = lode_exp_nonpositive_f32(x < 0 ? 2 * x : -2 * x);
    const float far = (1 - e) / (1 + e);
    return square < 0.4225f ? x + x * (square * p) : x < 0 ? -far : far;
}

static inline lode_real_t lode_tanh(lode_real_t x) {
#ifdef LODE_REAL_DOUBLE
    return tanh(x);
#else
    return lode_tanh_f32(x);
#endif
}

/* 1 / (1 + exp(−x)), without overflow. */
static inline lode_real_t lode_sigmoid(lode_real_t x) {
    const lode_real_t e = lode_exp_nonpositive(x < 0 ? x : -x);
    return (x < 0 ? e : (lode_real_t)1) / ((lode_real_t)1 + e);
}

/* Φ(x) = erfc(−x/√2)/2, the normal distribution function, likewise without branches. Relative error
 * below 2e-6 for x > −4, and growing with x² below that; NaN stays NaN. */
static inline float lode_normal_f32(float x) {
    const float z = (x < 0 ? -x : x) * 0.70710678f;
    const float t = 1 / (1 + 0.4f * z);
    /* A least-maximum fit of exp(z²)·erfc(z)/t in t. */
    float p = -2.9175767675042152e-2f;
    p = p * t + 1.4023448526859283e-1f;
    p = p * t - 2.3503337800502777e-1f;
    p = p * t + 1.3691233098506927e-1f;
    p = p * t - 4.6365682035684586e-2f;
    p = p * t + 8.363892883062363e-2f;
    p = p * t + 1.1910174041986465e-1f;
    p = p * t + 1.7171964049339294e-1f;
    p = p * t + 2.0761613547801971e-1f;
    p = p * t + 2.2567570209503174e-1f;
    p = p * t + 2.2567583620548248e-1f;
    const float tail = 0.5f * p * t * lode_exp_nonpositive_f32(-z * z);
    return x < 0 ? tail : 1 - tail;
}

static inline lode_real_t lode_normal(lode_real_t x) {
#ifdef LODE_REAL_DOUBLE
    return 0.5 * erfc(-x * 0.70710678118654752440);
#else
    return lode_normal_f32(x);
#endif
}

#endif
