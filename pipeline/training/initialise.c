#include "training/initialise.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

enum { BLOCK = 1 << 12 }; /* elements that are made at once, even */

/* ln x of a normal x > 0, without branches or calls: x = 2^k·z, z in [√½, √2), and
 * ln z = 2·artanh((z − 1)/(z + 1)), whose series is broken off below 1e-16 of it. */
static inline double logarithm(double x) {
    const uint64_t root = 0x3fe6a09e667f3bcd; /* √½ */
    uint64_t bits;
    double z, k;
    memcpy(&bits, &x, sizeof bits);
    bits += 0x3ff0000000000000 - root;
    const uint64_t fraction = (bits & 0x000fffffffffffff) + root;
    const uint64_t exponent = bits >> 52 | 0x4330000000000000; /* k + 1023 above 2⁵² */
    memcpy(&z, &fraction, sizeof z);
    memcpy(&k, &exponent, sizeof k);
    const double s = (z - 1) / (z + 1), q = s * s;
    double p = 1.0 / 19;
    p = p * q + 1.0 / 17;
    p = p * q + 1.0 / 15;
    p = p * q + 1.0 / 13;
    p = p * q + 1.0 / 11;
    p = p * q + 1.0 / 9;
    p = p * q + 1.0 / 7;
    p = p * q + 1.0 / 5;
    p = p * q + 1.0 / 3;
    return (k - (0x1p52 + 1023)) * 0.69314718055994530942 + (2 * s + 2 * s * (q * p));
}

/* Sine and cosine of x in [−π/4, π/4], Taylor's series to 1e-16. */
static inline double sine(double x) {
    const double q = x * x;
    double p = 1.0 / 355687428096000;
    p = 1.0 / 1307674368000 - p * q;
    p = 1.0 / 6227020800 - p * q;
    p = 1.0 / 39916800 - p * q;
    p = 1.0 / 362880 - p * q;
    p = 1.0 / 5040 - p * q;
    p = 1.0 / 120 - p * q;
    p = 1.0 / 6 - p * q;
    return x - x * q * p;
}

static inline double cosine(double x) {
    const double q = x * x;
    double p = 1.0 / 20922789888000;
    p = 1.0 / 87178291200 - p * q;
    p = 1.0 / 479001600 - p * q;
    p = 1.0 / 3628800 - p * q;
    p = 1.0 / 40320 - p * q;
    p = 1.0 / 720 - p * q;
    p = 1.0 / 24 - p * q;
    p = 0.5 - p * q;
    return 1 - p * q;
}

/* A pair of numbers from 64 uniform bits. */
static inline void make_pair(uint64_t bits, double deviation, float *even, float *odd) {
    const double half_turn = 3.14159265358979323846;
    const double uniform = ((double)(int64_t)(bits >> 32) * 2 + 1) * 0x1p-33; /* in (0, 1) */
    const double radius = deviation * sqrt(-2 * logarithm(uniform));
    /* Two bits choose the quarter, thirty the angle in it. */
    const int64_t quarter = (int64_t)(bits >> 30 & 3);
    const double angle = ((double)(int64_t)(bits & 0x3fffffff) * 0x1p-30 - 0.5) * (half_turn / 2);
    const double s = sine(angle), c = cosine(angle);
    const double across = quarter & 1 ? s : c, up = quarter & 1 ? c : s;
    const double x = quarter == 1 || quarter == 2 ? -across : across;
    const double y = quarter >= 2 ? -up : up;
    *even = (float)(radius * x);
    *odd = (float)(radius * y);
}

void lode_normal_fill(float *out, int64_t count, uint64_t key, double deviation) {
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < count; first += BLOCK) {
        const int64_t left = count - first, length = left < BLOCK ? left : BLOCK;
        uint64_t bits[BLOCK / 2];
        float pairs[BLOCK];
        for (int64_t i = 0; i < (length + 1) / 2; i++)
            bits[i] = lode_random_bits(key, (uint64_t)(first / 2 + i));
        for (int64_t i = 0; i < (length + 1) / 2; i++)
            make_pair(bits[i], deviation, &pairs[2 * i], &pairs[2 * i + 1]);
        memcpy(out + first, pairs, (size_t)length * sizeof *out);
    }
}
