/* kernels/elementary: logarithm and exponential in double, without branches or calls so that loops
 * over them vectorise. Good to a few ulp, and the same bits in every loop. Local.
 */
#ifndef LODE_KERNELS_ELEMENTARY_H
#define LODE_KERNELS_ELEMENTARY_H

#include <stdint.h>
#include <string.h>

static inline double lode_double_of(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ln x of a normal x > 0. x = 2^k·z with z in [√½, √2), and ln z = 2·artanh s, s = (z − 1)/(z + 1),
 * |s| < 0.1716: the first term of its series that is left out is below 1e-18 of the whole. */
static inline double lode_log_positive(double x) {
    const uint64_t root = 0x3fe6a09e667f3bcd; /* √½ */
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits += 0x3ff0000000000000 - root;
    const double z = lode_double_of((bits & 0x000fffffffffffff) + root);
    /* k + 1023, put into the low bits of 2⁵² */
    const double k = lode_double_of(bits >> 52 | 0x4330000000000000) - (0x1p52 + 1023);
    const double s = (z - 1) / (z + 1), q = s * s;
    double p = 1.0 / 21;
    p = p * q + 1.0 / 19;
    p = p * q + 1.0 / 17;
    p = p * q + 1.0 / 15;
    p = p * q + 1.0 / 13;
    p = p * q + 1.0 / 11;
    p = p * q + 1.0 / 9;
    p = p * q + 1.0 / 7;
    p = p * q + 1.0 / 5;
    p = p * q + 1.0 / 3;
    /* ln 2 in two parts, the first short enough for k times it to be exact */
    return k * 0x1.62e42fee00000p-1 + (2 * s + (2 * s * (q * p) + k * 0x1.a39ef35793c76p-33));
}

/* exp x for x ≤ 0; 0 below −700; NaN stays NaN. x = n·ln 2 + r with |r| ≤ ln 2 / 2. */
static inline double lode_exp_nonpositive_f64(double x) {
    const double clamped = x < -700 ? -700 : x;
    const double shift = 0x1.8p52; /* leaves n, as an integer, in the low bits */
    const double shifted = clamped * 0x1.71547652b82fep0 + shift;
    const double n = shifted - shift;
    const double r = (clamped - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 6227020800;
    p = p * r + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = (p * r) * r + r + 1;
    uint64_t bits, origin;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&origin, &shift, sizeof origin);
    return x < -700 ? 0 : p * lode_double_of((bits - origin + 1023) << 52);
}

#endif
