#include "kernels/norm.h"

enum { LANES = 16 }; /* partial sums: a fixed order that vectorises without reassociation */

static double sum_lanes(const double lanes[LANES]) {
    double sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += lanes[i];
    return sum;
}

static double sum_squares(const lode_real_t *x, int64_t count) {
    double lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++)
            lanes[j] += (double)x[i + j] * (double)x[i + j];
    for (; i < count; i++)
        lanes[0] += (double)x[i] * (double)x[i];
    return sum_lanes(lanes);
}

/* Σ a·b·c */
static double sum_products(const lode_real_t *a, const lode_real_t *b, const lode_real_t *c,
                           int64_t count) {
    double lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++)
            lanes[j] += (double)a[i + j] * (double)b[i + j] * (double)c[i + j];
    for (; i < count; i++)
        lanes[0] += (double)a[i] * (double)b[i] * (double)c[i];
    return sum_lanes(lanes);
}

void lode_rmsnorm_forward(int64_t tokens, int64_t d, double eps, const lode_real_t *x,
                          const lode_real_t *w, lode_real_t *y, lode_real_t *inverse) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++) {
        const lode_real_t *row = x + t * d;
        const lode_real_t r = (lode_real_t)(1.0 / sqrt(sum_squares(row, d) / (double)d + eps));
        for (int64_t i = 0; i < d; i++)
            y[t * d + i] = row[i] * r * w[i];
        if (inverse)
            inverse[t] = r;
    }
}

void lode_rmsnorm_backward(int64_t tokens, int64_t d, const lode_real_t *dy, const lode_real_t *x,
                           const lode_real_t *w, const lode_real_t *inverse, lode_real_t *dx) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++) {
        const lode_real_t *dy_row = dy + t * d, *x_row = x + t * d;
        const double r = (double)inverse[t];
        const double mean = sum_products(dy_row, x_row, w, d) / (double)d;
        const lode_real_t scale = (lode_real_t)r, pull = (lode_real_t)(r * r * r * mean);
        for (int64_t i = 0; i < d; i++)
            dx[t * d + i] += scale * (w[i] * dy_row[i]) - pull * x_row[i];
    }
}
