/* kernels/norm: RMSNorm (Zhang & Sennrich 2019, as Llama applies it). Everything here is Local. */
#ifndef LODE_KERNELS_NORM_H
#define LODE_KERNELS_NORM_H

#include "kernels/real.h"

/* y_ti = x_ti · r_t · w_i with r_t = 1 / √(mean_i x_ti² + eps); the mean in double.
 * x, y [tokens, d] (y may be x), w [d], inverse [tokens] receives r, or NULL. */
void lode_rmsnorm_forward(int64_t tokens, int64_t d, double eps, const lode_real_t *x,
                          const lode_real_t *w, lode_real_t *y, lode_real_t *inverse);

/* Adds the gradient with respect to x to dx:
 * dx_ti += r_t·(w_i dy_ti − x_ti · r_t² · mean_j(w_j dy_tj x_tj)).
 * dy, x, dx [tokens, d], w [d], inverse [tokens] as the forward left it. */
void lode_rmsnorm_backward(int64_t tokens, int64_t d, const lode_real_t *dy, const lode_real_t *x,
                           const lode_real_t *w, const lode_real_t *inverse, lode_real_t *dx);

#endif
