#include "kernels/norm.h"

#include "kernels/lanes.h"

/* w_i; loops over it are unswitched. */
static inline lode_real_t at(const lode_norm_t *norm, int64_t i) {
    return !norm->weight ? 1 : norm->offset ? 1 + norm->weight[i] : norm->weight[i];
}

static double sum_squares(const lode_real_t *x, int64_t count, double centre) {
    double lanes[LODE_LANES] = {0};
    int64_t i = 0;
    for (; i + LODE_LANES <= count; i += LODE_LANES)
        for (int j = 0; j < LODE_LANES; j++)
            lanes[j] += ((double)x[i + j] - centre) * ((double)x[i + j] - centre);
    for (; i < count; i++)
        lanes[0] += ((double)x[i] - centre) * ((double)x[i] - centre);
    return lode_lanes_sum(lanes);
}

/* Σ dy·(x − centre)·w */
static double sum_products(const lode_norm_t *norm, const lode_real_t *dy, const lode_real_t *x,
                           double centre) {
    const int64_t count = norm->width;
    double lanes[LODE_LANES] = {0};
    int64_t i = 0;
    for (; i + LODE_LANES <= count; i += LODE_LANES)
        for (int j = 0; j < LODE_LANES; j++)
            lanes[j] += (double)dy[i + j] * ((double)x[i + j] - centre) * (double)at(norm, i + j);
    for (; i < count; i++)
        lanes[0] += (double)dy[i] * ((double)x[i] - centre) * (double)at(norm, i);
    return lode_lanes_sum(lanes);
}

/* Σ dy·w */
static double sum_weighted(const lode_norm_t *norm, const lode_real_t *dy) {
    const int64_t count = norm->width;
    double lanes[LODE_LANES] = {0};
    int64_t i = 0;
    for (; i + LODE_LANES <= count; i += LODE_LANES)
        for (int j = 0; j < LODE_LANES; j++)
            lanes[j] += (double)dy[i + j] * (double)at(norm, i + j);
    for (; i < count; i++)
        lanes[0] += (double)dy[i] * (double)at(norm, i);
    return lode_lanes_sum(lanes);
}

static void rms_forward(const lode_norm_t *norm, const lode_real_t *x, lode_real_t *y,
                        lode_real_t r) {
    for (int64_t i = 0; i < norm->width; i++)
        y[i] = x[i] * r * at(norm, i);
    for (int64_t i = 0; norm->bias && i < norm->width; i++)
        y[i] += norm->bias[i];
}

static void layer_forward(const lode_norm_t *norm, const lode_real_t *x, lode_real_t *y, double r,
                          double centre) {
    for (int64_t i = 0; i < norm->width; i++)
        y[i] = (lode_real_t)(((double)x[i] - centre) * r) * at(norm, i);
    for (int64_t i = 0; norm->bias && i < norm->width; i++)
        y[i] += norm->bias[i];
}

void lode_norm_forward(const lode_norm_t *norm, int64_t rows, const lode_real_t *x, lode_real_t *y,
                       lode_real_t *inverse) {
    const int64_t d = norm->width;
    if (norm->kind == LODE_NORM_NONE) {
        if (y != x)
            memcpy(y, x, (size_t)(rows * d) * sizeof *y);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < rows; t++) {
        const lode_real_t *row = x + t * d;
        const bool centred = norm->kind == LODE_NORM_LAYER;
        const double centre = centred ? lode_lanes_total(row, d) / (double)d : 0;
        const double r = 1.0 / sqrt(sum_squares(row, d, centre) / (double)d + norm->eps);
        if (centred)
            layer_forward(norm, row, y + t * d, r, centre);
        else
            rms_forward(norm, row, y + t * d, (lode_real_t)r);
        if (inverse)
            inverse[t] = (lode_real_t)r;
    }
}

static void row_backward(const lode_norm_t *norm, const lode_real_t *dy, const lode_real_t *x,
                         double r, bool accumulate, lode_real_t *dx) {
    const int64_t d = norm->width;
    const bool centred = norm->kind == LODE_NORM_LAYER;
    const double centre = centred ? lode_lanes_total(x, d) / (double)d : 0;
    const double mean = sum_products(norm, dy, x, centre) / (double)d;
    const lode_real_t scale = (lode_real_t)r, pull = (lode_real_t)(r * r * r * mean);
    const lode_real_t shift = centred ? (lode_real_t)(r * sum_weighted(norm, dy) / (double)d) : 0;
    for (int64_t i = 0; i < d; i++) {
        const lode_real_t from_centre = (lode_real_t)((double)x[i] - centre);
        const lode_real_t gradient = scale * (at(norm, i) * dy[i]) - pull * from_centre - shift;
        dx[i] = accumulate ? dx[i] + gradient : gradient;
    }
}

void lode_norm_backward(const lode_norm_t *norm, int64_t rows, const lode_real_t *dy,
                        const lode_real_t *x, const lode_real_t *inverse, bool accumulate,
                        lode_real_t *dx) {
    const int64_t d = norm->width;
    if (norm->kind == LODE_NORM_NONE) {
        for (int64_t i = 0; i < rows * d; i++)
            dx[i] = accumulate ? dx[i] + dy[i] : dy[i];
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < rows; t++)
        row_backward(norm, dy + t * d, x + t * d, (double)inverse[t], accumulate, dx + t * d);
}

/* Columns whose sums over the rows one thread holds at once. */
enum { COLUMNS = 32 };

/* Of columns [first, first + count); centres NULL: 0. */
static void columns_gradient(const lode_norm_t *norm, int64_t rows, const lode_real_t *dy,
                             const lode_real_t *x, const lode_real_t *inverse,
                             const lode_real_t *centres, int64_t first, int64_t count, double *dw,
                             double *db) {
    for (int64_t t = 0; t < rows; t++) {
        const lode_real_t *dy_row = dy + t * norm->width + first;
        const lode_real_t *x_row = x + t * norm->width + first;
        const double r = (double)inverse[t], centre = centres ? (double)centres[t] : 0;
        for (int64_t i = 0; i < count; i++) {
            dw[i] += (double)dy_row[i] * (((double)x_row[i] - centre) * r);
            db[i] += (double)dy_row[i];
        }
    }
}

void lode_norm_gradient(const lode_norm_t *norm, int64_t rows, const lode_real_t *dy,
                        const lode_real_t *x, const lode_real_t *inverse, lode_real_t *dweight,
                        lode_real_t *dbias, lode_real_t *centres) {
    const int64_t d = norm->width;
    const bool centred = norm->kind == LODE_NORM_LAYER;
    if (norm->kind == LODE_NORM_NONE || (!dweight && !dbias))
        return;
    if (centred) {
#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < rows; t++)
            centres[t] = (lode_real_t)(lode_lanes_total(x + t * d, d) / (double)d);
    }
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < d; first += COLUMNS) {
        const int64_t count = d - first < COLUMNS ? d - first : COLUMNS;
        double dw[COLUMNS] = {0}, db[COLUMNS] = {0};
        columns_gradient(norm, rows, dy, x, inverse, centred ? centres : NULL, first, count, dw,
                         db);
        for (int64_t i = 0; dweight && i < count; i++)
            dweight[first + i] = (lode_real_t)((double)dweight[first + i] + dw[i]);
        for (int64_t i = 0; dbias && i < count; i++)
            dbias[first + i] = (lode_real_t)((double)dbias[first + i] + db[i]);
    }
}
