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

/* One computation over `rows` rows. */
typedef struct lode_head_loss {
    const lode_weight_t *head; /* [vocab, d] */
    double cap;                /* soft cap of the logits, 0 for none */
    int64_t rows;
    const lode_real_t *h;  /* [rows, d] in */
    const int32_t *target; /* [rows] in, in [−1, vocab); −1 for none */
    const double *weight;  /* [rows] in, 0 where there is no target; not read without dh */
    double *nll;           /* [rows] out, nats */
    uint8_t *greedy;       /* [rows] out, or NULL */
    lode_real_t *dh;       /* [rows, d] out, or NULL; may be h */
    const lode_gradient_t *gradient; /* of the head, added to; NULL: not wanted; only with dh */
    lode_logits_callback_t callback; /* or NULL */
    void *context;                   /* for the callback */
    lode_real_t *workspace;          /* lode_loss_workspace */
} lode_head_loss_t;

/* For each row r: nll_r = log Σ_j exp(z_rj) − z_r,target(r), where z = h·headᵀ, or cap ·
 * tanh(h·headᵀ / cap); 0 without target. greedy_r is 1 where the target's logit is the largest of
 * the row, the first among equals, else 0. dh receives Σ_r' weight_r' ∂nll_r'/∂h, and the
 * gradient Σ_r' weight_r' ∂nll_r'/∂head on top of what it holds. Sums in double. */
void lode_loss_run(const lode_head_loss_t *loss);

#endif
