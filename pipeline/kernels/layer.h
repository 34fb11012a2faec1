/* kernels/layer: one decoder layer, forward and backward.
 *
 *   h₁ = n(x);  q, k, v = clip(h₁Wqᵀ + b), clip(h₁Wkᵀ + b), clip(h₁Wvᵀ + b)
 *   x' = x + n(attention(turn(n(q)), turn(n(k)), v)·Woᵀ + b)
 *   h₂ = n(x'); u = act(h₂Wgateᵀ + b) ⊙ (h₂Wupᵀ + b), or act(h₂Wupᵀ + b) without a gate
 *   y  = x' + n(u·Wdownᵀ + b + c)
 *
 * Each n is a norm of its own or nothing, each b a bias or nothing, and so are the clip and c: the
 * struct describes a layer of any model, and only what a layer has is computed and kept.
 *
 * A micro-batch is several sequences one after the other, without padding; attention and positions
 * restart at each. The backward gives gradients of activations only. Everything here is Local.
 */
#ifndef LODE_KERNELS_LAYER_H
#define LODE_KERNELS_LAYER_H

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/linear.h"
#include "kernels/norm.h"
#include "kernels/rope.h"

typedef struct lode_layer {
    int64_t d; /* hidden size */
    int64_t m; /* channels of the feed-forward block as used (after slicing), may be 0 */
    lode_attention_shape_t attention;
    lode_norm_t attention_norm, attention_post_norm, ffn_norm, ffn_post_norm; /* of width d */
    lode_norm_t q_norm, k_norm;   /* of width H·hd and KV·hd, or hd for each head alone */
    double clip;                  /* of q, k and v, 0 for none */
    lode_rope_t rope;             /* the turn */
    lode_weight_t q, k, v, o;     /* [H·hd, d], [KV·hd, d] twice, [d, H·hd] */
    lode_activation_t activation; /* act */
    lode_weight_t gate, up, down; /* [m, d], [m, d], [d, m]; gate.data NULL: there is none */
    const lode_real_t *bias;      /* c [d], NULL for none; not owned */
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
    lode_real_t *q, *k, *v;   /* [T, H·hd], [T, KV·hd] twice; q and k turned, except where the
                                 layer clips or normalises them: then just clipped */
    lode_real_t *o;           /* [T, H·hd] */
    lode_real_t *softmax;     /* [T, H, 2], see lode_attention_forward */
    lode_real_t *x_mid;       /* x' [T, d] */
    lode_real_t *inverse_ffn; /* [T] */
    lode_real_t *gate, *up;   /* [T, m], before the activation; gate NULL without a gate */
    /* Where the layer has post-norms, else NULL: their inputs [T, d] and inverses [T]. */
    lode_real_t *attention_out, *inverse_attention_post, *ffn_out, *inverse_ffn_post;
} lode_activations_t;

/* Reals per token of everything in lode_activations_t but x. */
int64_t lode_activations_per_token(const lode_layer_t *layer);

/* Lays the arrays for `tokens` tokens out in `memory` (tokens · per_token reals); x is the caller's
 * to set. */
void lode_activations_place(lode_activations_t *activations, const lode_layer_t *layer,
                            int64_t tokens, lode_real_t *memory);

/* Reals of `workspace` for micro-batches of up to `tokens` tokens with sequences of up to
 * `longest`, on `threads` threads; enough for all functions below. */
int64_t lode_layer_workspace(const lode_layer_t *layer, int64_t tokens, int64_t longest,
                             int threads);

/* y [T, d] from activations->x; y may not overlap any activation. On return *h (if not NULL) points
 * at h₂ [T, d], in the workspace or the activations, and *u at u [T, m], in the workspace, for
 * statistics. y NULL only computes activations again: u and y are then left out. */
void lode_layer_forward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                        lode_activations_t *activations, lode_real_t *y, lode_real_t *workspace,
                        const lode_real_t **h, const lode_real_t **u);

/* u [tokens, m] out, from the activations' gate and up. */
void lode_layer_channels(const lode_layer_t *layer, int64_t tokens,
                         const lode_activations_t *activations, lode_real_t *u);

/* The end of the forward: y [tokens, d] = x' + n(u·Wdownᵀ + b + c) from the activations' x_mid and
 * from u [tokens, m]; the activations of the post-norm are set where there is one. Neither u nor y
 * lies in the workspace, and y is not x_mid. */
void lode_layer_finish(const lode_layer_t *layer, int64_t tokens, lode_activations_t *activations,
                       const lode_real_t *u, lode_real_t *y, lode_real_t *workspace);

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
