/* kernels/layer: one Llama decoder layer, forward and backward.
 *
 *   h₁ = rmsnorm(x);  q, k, v = rope(h₁Wqᵀ), rope(h₁Wkᵀ), h₁Wvᵀ;  x' = x + attention(q,k,v)·Woᵀ
 *   h₂ = rmsnorm(x'); u = silu(h₂Wgateᵀ) ⊙ (h₂Wupᵀ);              y = x' + u·Wdownᵀ + b
 *
 * A micro-batch is several sequences one after the other, without padding; attention and positions
 * restart at each. The backward gives gradients of activations only. Everything here is Local.
 */
#ifndef LODE_KERNELS_LAYER_H
#define LODE_KERNELS_LAYER_H

#include "kernels/attention.h"
#include "kernels/linear.h"

typedef struct lode_layer {
    int64_t d; /* hidden size */
    int64_t m; /* channels of the feed-forward block as used (after slicing), may be 0 */
    double eps;
    lode_attention_shape_t attention;
    const lode_real_t *attention_norm, *ffn_norm; /* [d] */
    lode_weight_t q, k, v, o;                     /* [H·hd, d], [KV·hd, d] twice, [d, H·hd] */
    lode_weight_t gate, up, down;                 /* [m, d], [m, d], [d, m] */
    const lode_real_t *bias;                      /* b [d], NULL for none; not owned */
    const lode_real_t *cosines, *sines;           /* [longest sequence, hd/2] */
} lode_layer_t;

/* Where the sequences of a micro-batch begin: sequence s is tokens [offsets[s], offsets[s+1]). */
typedef struct lode_sequences {
    int64_t count;
    const int64_t *offsets; /* [count + 1], offsets[0] = 0 */
} lode_sequences_t;

/* What the backward of one layer needs from its forward on T tokens. The forward fills all but x,
 * which is its input. One allocation holds them all: see lode_activations_place. */
typedef struct lode_activations {
    lode_real_t *x;                 /* [T, d] */
    lode_real_t *inverse_attention; /* [T] */
    lode_real_t *q, *k, *v;         /* [T, H·hd], [T, KV·hd] twice; q and k rotated */
    lode_real_t *o;                 /* [T, H·hd] */
    lode_real_t *x_mid;             /* [T, d] */
    lode_real_t *inverse_ffn;       /* [T] */
    lode_real_t *gate, *up;         /* [T, m], before the gated unit */
} lode_activations_t;

/* Reals per token of everything in lode_activations_t but x. */
int64_t lode_activations_per_token(const lode_layer_t *layer);

/* Lays the arrays for `tokens` tokens out in `memory` (tokens · per_token reals); x is the caller's
 * to set. */
void lode_activations_place(lode_activations_t *activations, const lode_layer_t *layer,
                            int64_t tokens, lode_real_t *memory);

/* Reals of `workspace` for micro-batches of up to `tokens` tokens with sequences of up to
 * `longest`, on `threads` threads; enough for both functions below. */
int64_t lode_layer_workspace(const lode_layer_t *layer, int64_t tokens, int64_t longest,
                             int threads);

/* y [T, d] from activations->x; y may not overlap any activation. On return *h (if not NULL) points
 * at h₂ [T, d] and *u at u [T, m], both in the workspace, for statistics. y NULL only computes
 * activations again: u and y are then left out. */
void lode_layer_forward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                        lode_activations_t *activations, lode_real_t *y, lode_real_t *workspace,
                        const lode_real_t **h, const lode_real_t **u);

/* First half of the backward: from dy [T, d], u and du = dL/du, both [T, m] in the workspace, which
 * must reach the second half as they are. */
void lode_layer_backward_ffn(const lode_layer_t *layer, const lode_sequences_t *sequences,
                             const lode_activations_t *activations, const lode_real_t *dy,
                             lode_real_t *workspace, const lode_real_t **u, const lode_real_t **du);

/* Second half: turns dy into dx in place. It is not needed for a model's first layer, below which
 * no statistic asks for gradients. */
void lode_layer_backward_rest(const lode_layer_t *layer, const lode_sequences_t *sequences,
                              lode_activations_t *activations, lode_real_t *dy,
                              lode_real_t *workspace);

#endif
