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
 * restart at each. The backward gives the gradients of activations, and of weights where asked for.
 * Everything here is Local.
 */
#ifndef LODE_KERNELS_LAYER_H
#define LODE_KERNELS_LAYER_H

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/codec.h"
#include "kernels/input.h"
#include "kernels/linear.h"
#include "kernels/norm.h"
#include "kernels/rope.h"
#include "kernels/sequences.h"
#include "model/family.h"

/* The matrices of a layer. */
typedef enum lode_layer_matrix {
    LODE_MATRIX_Q,
    LODE_MATRIX_K,
    LODE_MATRIX_V,
    LODE_MATRIX_O,
    LODE_MATRIX_GATE,
    LODE_MATRIX_UP,
    LODE_MATRIX_DOWN,
    LODE_MATRICES,
} lode_layer_matrix_t;

/* "q", "k", "v", "o", "gate", "up", "down". Static. */
const char *lode_matrix_name(lode_layer_matrix_t which);

/* What a matrix is to the checkpoint, and which input it reads. */
lode_role_t lode_matrix_role(lode_layer_matrix_t which);
lode_input_t lode_matrix_input(lode_layer_matrix_t which);

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
    /* The following are of the forward alone, and not owned. */
    const lode_input_codec_t *input[LODE_INPUTS]; /* NULL: as they are */
    /* Super activations that are put back, [restore_count] ascending (row, col): in each sequence,
     * at the token t where |Y_ti + u_tk·value| is largest (the first among equals), Y_ti gets
     * u_tk·value added, with i = row and k = col of Wdown as used. It is the output as it was with
     * the weight. Those of one row add up, and choose one token. Y = u·Wdownᵀ + b, u before any
     * input codec. */
    const lode_held_t *restore;
    int64_t restore_count;
} lode_layer_t;

/* The place of a matrix in a layer; its data is NULL where the layer has none. */
lode_weight_t *lode_layer_matrix(lode_layer_t *layer, lode_layer_matrix_t which);

/* Sees the inputs of linear layers, [tokens, width] before any input codec, valid during the call
 * only. */
typedef struct lode_tap {
    void *context;
    void (*input)(void *context, lode_input_t which, const lode_real_t *x);
} lode_tap_t;

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

/* Where the gradients of a layer's weights are added; those whose place is NULL are not wanted. Of
 * a norm with an offset it is the gradient of the stored weight as well. Nothing is owned. */
typedef struct lode_layer_gradient {
    lode_gradient_t matrix[LODE_MATRICES];
    lode_real_t *attention_norm, *attention_norm_bias, *attention_post_norm; /* [d] */
    lode_real_t *ffn_norm, *ffn_norm_bias, *ffn_post_norm;                   /* [d] */
    lode_real_t *q_norm, *k_norm; /* of the norms' widths */
} lode_layer_gradient_t;

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

/* The same; `tap`, if not NULL, sees the inputs. */
void lode_layer_forward_tapped(const lode_layer_t *layer, const lode_sequences_t *sequences,
                               lode_activations_t *activations, lode_real_t *y,
                               lode_real_t *workspace, const lode_tap_t *tap, const lode_real_t **h,
                               const lode_real_t **u);

/* u [tokens, m] out, from the activations' gate and up. */
void lode_layer_channels(const lode_layer_t *layer, int64_t tokens,
                         const lode_activations_t *activations, lode_real_t *u);

/* The end of the forward: y [T, d] = x' + n(u·Wdownᵀ + b + c) from the activations' x_mid and from
 * u [T, m]; the activations of the post-norm are set where there is one. Neither u nor y lies in
 * the workspace, and y is not x_mid. */
void lode_layer_finish(const lode_layer_t *layer, const lode_sequences_t *sequences,
                       lode_activations_t *activations, const lode_real_t *u, lode_real_t *y,
                       lode_real_t *workspace);

/* First half of the backward, of a layer without input codecs and restores: from dy [T, d], u and
 * du = dL/du, both [T, m] in the workspace, which must reach the second half as they are. The
 * activations' ffn_out is overwritten. With `gradient`, those of Wdown and the last post-norm are
 * added; NULL: no weight's is wanted. A layer with weight gradients has all its channels and no
 * codecs. */
void lode_layer_backward_ffn(const lode_layer_t *layer, const lode_sequences_t *sequences,
                             const lode_activations_t *activations, const lode_real_t *dy,
                             lode_real_t *workspace, const lode_layer_gradient_t *gradient,
                             const lode_real_t **u, const lode_real_t **du);

/* Second half: turns dy into dx in place, and adds all other weights' gradients. Without those it
 * is not needed for a model's first layer, below which no statistic asks for gradients. */
void lode_layer_backward_rest(const lode_layer_t *layer, const lode_sequences_t *sequences,
                              lode_activations_t *activations, lode_real_t *dy,
                              lode_real_t *workspace, const lode_layer_gradient_t *gradient);

#endif
