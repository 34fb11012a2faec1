#include "training/initialise.h"

#include <math.h>
#include <string.h>

#include "base/random.h"
#include "kernels/elementary.h"

enum { BLOCK = 1 << 12 }; /* elements that are made at once, even */

/* Sine and cosine of x in [−π/4, π/4], Taylor's series to 1e-16, without branches or calls. */
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
    const double radius = deviation * sqrt(-2 * lode_log_positive(uniform));
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
