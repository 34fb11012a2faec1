/* kernels/loss: next-token cross-entropy over a vocabulary, a chunk of rows at a time.
 *
 * Only [chunk, vocab] logits exist at once; the chunk is a function of the vocabulary alone, so
 * that results depend on nothing but the operands. Everything here is Local.
 */
#ifndef LODE_KERNELS_LOSS_H
#define LODE_KERNELS_LOSS_H

#include "kernels/linear.h"

/* Rows of logits held at once for this vocabulary. */
int64_t lode_loss_chunk(int64_t vocab);

/* Reals of `workspace` that lode_loss_run needs. */
int64_t lode_loss_workspace(const lode_weight_t *head);

/* Called with the logits [rows, vocab] of rows [first, first + rows). */
typedef void (*lode_logits_callback_t)(void *context, int64_t first, int64_t rows,
                                       const lode_real_t *logits);

/* For each row r: nll_r = log Σ_j exp(z_rj) − z_r,target(r), z = h·headᵀ, in nats; 0 where
 * target(r) is negative. Sums in double. head [vocab, d]; h [rows, d]; target [rows] in [−1,
 * vocab); nll [rows] out. Where dh is not NULL, dh [rows, d] receives Σ_r' weight_r' ∂nll_r'/∂h:
 * weight [rows], 0 for rows without target. `callback` may be NULL. */
void lode_loss_run(const lode_weight_t *head, int64_t rows, const lode_real_t *h,
                   const int32_t *target, const double *weight, double *nll, lode_real_t *dh,
                   lode_logits_callback_t callback, void *context, lode_real_t *workspace);

#endif
