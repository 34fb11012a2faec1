#include "kernels/statistics.h"

/* Channels taken together: their sums stay in the first-level cache while the tokens pass. */
enum { BLOCK = 512 };

/* sum_j = Σ_t x_tj of the channels [first, end). */
static void add_up(int64_t tokens, int64_t width, int64_t first, int64_t end, const lode_real_t *x,
                   double *sum) {
    for (int64_t j = first; j < end; j++)
        sum[j] = 0;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t j = first; j < end; j++)
            sum[j] += (double)x[t * width + j];
}

void lode_statistics_forward(int64_t tokens, int64_t width, const lode_real_t *x, double *sum,
                             double *power, double *most) {
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < width; first += BLOCK) {
        const int64_t end = first + BLOCK < width ? first + BLOCK : width;
        for (int64_t j = first; j < end; j++)
            power[j] = 0;
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t j = first; j < end; j++)
                power[j] += (double)x[t * width + j] * (double)x[t * width + j];
        if (sum)
            add_up(tokens, width, first, end, x, sum);
        if (!most)
            continue;
        for (int64_t j = first; j < end; j++)
            most[j] = 0;
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t j = first; j < end; j++) {
                const double size = fabs((double)x[t * width + j]);
                most[j] = size > most[j] ? size : most[j];
            }
    }
}

void lode_statistics_backward(int64_t tokens, int64_t width, const lode_real_t *u,
                              const lode_real_t *g, double *loss_proxy, double *power,
                              double *taylor, double *curvature) {
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < width; first += BLOCK) {
        const int64_t end = first + BLOCK < width ? first + BLOCK : width;
        for (int64_t j = first; j < end; j++)
            loss_proxy[j] = power[j] = taylor[j] = curvature[j] = 0;
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t j = first; j < end; j++) {
                const double value = (double)u[t * width + j], slope = (double)g[t * width + j];
                const double q = value * slope;
                loss_proxy[j] += q * q;
                taylor[j] += fabs(q);
                curvature[j] += slope * slope;
                power[j] += value * value;
            }
        for (int64_t j = first; j < end; j++)
            loss_proxy[j] *= 0.5;
    }
}
