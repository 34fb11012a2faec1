#include "kernels/glu.h"

void lode_swiglu_forward(int64_t count, const lode_real_t *gate, const lode_real_t *up,
                         lode_real_t *restrict u) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++)
        u[i] = gate[i] * lode_sigmoid(gate[i]) * up[i];
}

void lode_swiglu_backward(int64_t count, const lode_real_t *du, const lode_real_t *gate,
                          const lode_real_t *up, lode_real_t *dgate, lode_real_t *dup) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) {
        const lode_real_t g = gate[i], d = du[i], sigmoid = lode_sigmoid(g), value = up[i];
        dgate[i] = d * value * sigmoid * (1 + g * (1 - sigmoid));
        dup[i] = d * g * sigmoid;
    }
}
