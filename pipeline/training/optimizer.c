#include "training/optimizer.h"

#include <math.h>

lode_adamw_t lode_adamw(double learning_rate, double beta_1, double beta_2, double epsilon,
                        double clip, int64_t step) {
    const double correction_1 = 1 - pow(beta_1, (double)step);
    const double correction_2 = 1 - pow(beta_2, (double)step);
    return (lode_adamw_t){.clip = (float)clip,
                          .rest_1 = (float)(1 - beta_1),
                          .beta_2 = (float)beta_2,
                          .rest_2 = (float)(1 - beta_2),
                          .step_size = (float)(learning_rate / correction_1),
                          .root_correction = (float)sqrt(correction_2),
                          .epsilon = (float)epsilon,
                          .learning_rate = learning_rate};
}

void lode_adamw_update(const lode_adamw_t *adamw, double decay, int64_t count,
                       const float *restrict gradient, float *restrict weights,
                       float *restrict first, float *restrict second) {
    const lode_adamw_t a = *adamw;
    const float keep = (float)(1 - a.learning_rate * decay);
    const float rest = 1 - a.rest_1;
    for (int64_t i = 0; i < count; i++) {
        const float g = gradient[i] * a.clip, m = first[i];
        /* torch's lerp, which is exact at both ends */
        const float moved = a.rest_1 < 0.5f ? m + a.rest_1 * (g - m) : g - (g - m) * rest;
        const float v = second[i] * a.beta_2 + (a.rest_2 * g) * g;
        const float root = sqrtf(v) / a.root_correction + a.epsilon;
        first[i] = moved;
        second[i] = v;
        weights[i] = weights[i] * keep - (a.step_size * moved) / root;
    }
}

double lode_clip_factor(double norm, double clip) {
    if (clip == 0)
        return 1;
    const double factor = clip / (norm + 1e-6);
    return factor < 1 ? factor : 1;
}
