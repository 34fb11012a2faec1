#include "kernels/activation.h"

/* Elements taken together: they stay in the first-level cache from one loop to the next. */
enum { CHUNK = 1024 };

/* value = act(x), and slope = act'(x) where it is not NULL; all [count]. */
static void silu(int64_t count, const lode_real_t *restrict x, lode_real_t *restrict value,
                 lode_real_t *restrict slope) {
    for (int64_t i = 0; i < count; i++) {
        const lode_real_t sigmoid = lode_sigmoid(x[i]);
        value[i] = x[i] * sigmoid;
        if (slope)
            slope[i] = sigmoid * (1 + x[i] * (1 - sigmoid));
    }
}

/* √(2/π) and the cubic term of the tanh form of GELU (Hendrycks & Gimpel 2016), which is written
 * as x/2·(1 + tanh(z)) = x·σ(2z): that cancels nowhere. */
static void gelu_tanh(int64_t count, const lode_real_t *restrict x, lode_real_t *restrict value,
                      lode_real_t *restrict slope) {
    const lode_real_t twice = (lode_real_t)(2 * 0.79788456080286536), cubic = (lode_real_t)0.044715;
    for (int64_t i = 0; i < count; i++) {
        const lode_real_t square = x[i] * x[i];
        const lode_real_t sigmoid = lode_sigmoid(twice * (x[i] + cubic * square * x[i]));
        value[i] = x[i] * sigmoid;
        if (slope)
            slope[i] = sigmoid + value[i] * (1 - sigmoid) * (twice * (1 + 3 * cubic * square));
    }
}

/* x·Φ(x), where Φ'(x) = exp(−x²/2)/√(2π). */
static void gelu(int64_t count, const lode_real_t *restrict x, lode_real_t *restrict value,
                 lode_real_t *restrict slope) {
    const lode_real_t density = (lode_real_t)0.39894228040143268;
    for (int64_t i = 0; i < count; i++) {
        const lode_real_t normal = lode_normal(x[i]);
        value[i] = x[i] * normal;
        if (slope)
            slope[i] =
                normal + x[i] * density * lode_exp_nonpositive((lode_real_t)-0.5 * x[i] * x[i]);
    }
}

static void relu(int64_t count, const lode_real_t *restrict x, lode_real_t *restrict value,
                 lode_real_t *restrict slope) {
    for (int64_t i = 0; i < count; i++) {
        value[i] = x[i] < 0 ? 0 : x[i];
        if (slope)
            slope[i] = x[i] > 0 ? 1 : 0;
    }
}

static void activate(lode_activation_t activation, int64_t count, const lode_real_t *x,
                     lode_real_t *value, lode_real_t *slope) {
    static void (*const functions[LODE_ACTIVATIONS])(int64_t, const lode_real_t *, lode_real_t *,
                                                     lode_real_t *) = {
        [LODE_ACTIVATION_SILU] = silu,
        [LODE_ACTIVATION_GELU_TANH] = gelu_tanh,
        [LODE_ACTIVATION_GELU] = gelu,
        [LODE_ACTIVATION_RELU] = relu,
    };
    functions[activation](count, x, value, slope);
}

void lode_activation_forward(lode_activation_t activation, int64_t count, const lode_real_t *gate,
                             const lode_real_t *up, lode_real_t *u) {
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < count; first += CHUNK) {
        const int64_t end = first + CHUNK < count ? first + CHUNK : count;
        activate(activation, end - first, (gate ? gate : up) + first, u + first, NULL);
        for (int64_t i = first; gate && i < end; i++)
            u[i] *= up[i];
    }
}

void lode_activation_backward(lode_activation_t activation, int64_t count, const lode_real_t *du,
                              const lode_real_t *gate, const lode_real_t *up, lode_real_t *dgate,
                              lode_real_t *dup) {
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < count; first += CHUNK) {
        const int64_t end = first + CHUNK < count ? first + CHUNK : count;
        lode_real_t value[CHUNK], slope[CHUNK];
        activate(activation, end - first, (gate ? gate : up) + first, value, slope);
        for (int64_t i = first; !gate && i < end; i++)
            dup[i] = du[i] * slope[i - first];
        for (int64_t i = first; gate && i < end; i++) {
            const lode_real_t d = du[i];
            dgate[i] = d * up[i] * slope[i - first];
            dup[i] = d * value[i - first];
        }
    }
}
