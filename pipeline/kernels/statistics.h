/* kernels/statistics: sums over the tokens of a sequence, per channel, in double.
 *
 * Tokens are added in ascending order whatever the thread count. The sums are those of section 1 of
 * Supernodes and Halos (arXiv:2604.23475) before division. Everything here is Local.
 */
#ifndef LODE_KERNELS_STATISTICS_H
#define LODE_KERNELS_STATISTICS_H

#include "kernels/real.h"

/* sum_j = Σ_t x_tj, power_j = Σ_t x_tj², most_j = max_t |x_tj|; x [tokens, width], power [width]
 * out, sum and most [width] out or NULL. */
void lode_statistics_forward(int64_t tokens, int64_t width, const lode_real_t *x, double *sum,
                             double *power, double *most);

/* With q = u ⊙ g: loss_proxy_j = ½ Σ_t q_tj², taylor_j = Σ_t |q_tj|, curvature_j = Σ_t g_tj²,
 * power_j = Σ_t u_tj². u, g [tokens, width]; all results [width] out. */
void lode_statistics_backward(int64_t tokens, int64_t width, const lode_real_t *u,
                              const lode_real_t *g, double *loss_proxy, double *power,
                              double *taylor, double *curvature);

#endif
