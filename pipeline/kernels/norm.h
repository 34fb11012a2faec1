/* kernels/norm: RMSNorm (Zhang & Sennrich 2019) and LayerNorm (Ba et al. 2016) of rows. Everything
 * here is Local. */
#ifndef LODE_KERNELS_NORM_H
#define LODE_KERNELS_NORM_H

#include "kernels/real.h"
#include "model/architecture.h"

typedef struct lode_norm {
    lode_norm_kind_t kind;
    int64_t width; /* of a row, also where nothing is normalised */
    double eps;
    bool offset;               /* w_i is 1 + weight_i, not weight_i */
    const lode_real_t *weight; /* [width], NULL: w is 1; not owned */
    const lode_real_t *bias;   /* b [width], NULL: 0; not owned */
} lode_norm_t;

/* y_ti = (x_ti − c_t) · r_t · w_i + b_i with r_t = 1 / √(mean_i (x_ti − c_t)² + eps), where c_t is
 * 0 in RMSNorm and mean_i x_ti in LayerNorm; y = x without a norm. Means in double. x, y [rows,
 * width] (y may be x); inverse [rows] receives r, or NULL; without a norm it is left as it is. */
void lode_norm_forward(const lode_norm_t *norm, int64_t rows, const lode_real_t *x, lode_real_t *y,
                       lode_real_t *inverse);

/* The gradient with respect to x, into dx or added to it where `accumulate`:
 * dx_ti = r_t·(g_ti − a_t − n_ti · mean_j(g_tj n_tj)) with g = w ⊙ dy, n = (x − c)·r, and a_t = 0
 * in RMSNorm, mean_j g_tj in LayerNorm. dy, x, dx [rows, width] (dx may be dy or x unless
 * `accumulate`); inverse [rows] as the forward left it. */
void lode_norm_backward(const lode_norm_t *norm, int64_t rows, const lode_real_t *dy,
                        const lode_real_t *x, const lode_real_t *inverse, bool accumulate,
                        lode_real_t *dx);

/* The gradients with respect to weight and bias, added to dweight and dbias [width], each NULL
 * where it is not wanted: dw_i += Σ_t dy_ti n_ti and db_i += Σ_t dy_ti, summed over the rows in
 * double, the same bits with any number of threads; nothing without a norm. centres [rows] is room,
 * not read in RMSNorm; the rest as above. */
void lode_norm_gradient(const lode_norm_t *norm, int64_t rows, const lode_real_t *dy,
                        const lode_real_t *x, const lode_real_t *inverse, lode_real_t *dweight,
                        lode_real_t *dbias, lode_real_t *centres);

#endif
