#include "kernels/rope.h"

void lode_rope_table(int64_t positions, int64_t head_dim, double theta, lode_real_t *cosines,
                     lode_real_t *sines) {
    const int64_t half = head_dim / 2;
    for (int64_t i = 0; i < half; i++) {
        const double frequency = pow(theta, -2.0 * (double)i / (double)head_dim);
        for (int64_t p = 0; p < positions; p++) {
            cosines[p * half + i] = (lode_real_t)cos((double)p * frequency);
            sines[p * half + i] = (lode_real_t)sin((double)p * frequency);
        }
    }
}

void lode_rope_apply(int64_t tokens, int64_t heads, int64_t head_dim, const lode_real_t *cosines,
                     const lode_real_t *sines, bool inverse, lode_real_t *x) {
    const int64_t half = head_dim / 2;
    const lode_real_t direction = inverse ? -1 : 1;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++) {
        const lode_real_t *c = cosines + t * half, *s = sines + t * half;
        for (int64_t h = 0; h < heads; h++) {
            lode_real_t *low = x + (t * heads + h) * head_dim, *high = low + half;
            for (int64_t i = 0; i < half; i++) {
                const lode_real_t a = low[i], b = high[i], turn = direction * s[i];
                low[i] = a * c[i] - b * turn;
                high[i] = b * c[i] + a * turn;
            }
        }
    }
}
