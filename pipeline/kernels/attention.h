/* kernels/attention: causal grouped-query attention of one sequence, blockwise.
 *
 * Queries are taken in blocks, and the keys that a block sees in spans (Dao et al. 2022), so that
 * the scores held at any time are a small panel whatever the length; the backward computes them
 * again instead of keeping them. Query head h reads key/value head h / (heads / kv_heads). With a
 * window, a token sees itself and the window − 1 tokens before it, and keys that no query of a
 * block sees cost nothing. Results depend on the number of threads only where it exceeds kv_heads.
 * Everything here is Local.
 */
#ifndef LODE_KERNELS_ATTENTION_H
#define LODE_KERNELS_ATTENTION_H

#include "kernels/real.h"

typedef struct lode_attention_shape {
    int64_t heads, kv_heads; /* heads is a multiple of kv_heads */
    int64_t head_dim;
    double scale;   /* of scores, 1/√head_dim in most models */
    double cap;     /* c > 0: scores s become c·tanh(s/c); 0: they do not */
    int64_t window; /* tokens that one sees, itself included; 0: all before it */
} lode_attention_shape_t;

/* Reals of `workspace` that so many threads need for sequences of up to `tokens` tokens. */
int64_t lode_attention_workspace(const lode_attention_shape_t *shape, int64_t tokens, int threads);

/* o = softmax(cap(scale·q·kᵀ), causal)·v per head, after rotary embedding of q and k.
 * q, o [tokens, heads, head_dim]; k, v [tokens, kv_heads, head_dim]; softmax [tokens, heads, 2]
 * receives each row's largest score and 1 / Σ exp(score − largest) for the backward. */
void lode_attention_forward(const lode_attention_shape_t *shape, int64_t tokens,
                            const lode_real_t *q, const lode_real_t *k, const lode_real_t *v,
                            lode_real_t *o, lode_real_t *softmax, lode_real_t *workspace);

/* Gradients with respect to q, k and v, given that with respect to o; o and softmax are the
 * forward's results. Shapes as above; dq, dk, dv are overwritten. */
void lode_attention_backward(const lode_attention_shape_t *shape, int64_t tokens,
                             const lode_real_t *q, const lode_real_t *k, const lode_real_t *v,
                             const lode_real_t *o, const lode_real_t *softmax,
                             const lode_real_t *d_o, lode_real_t *dq, lode_real_t *dk,
                             lode_real_t *dv, lode_real_t *workspace);

#endif
