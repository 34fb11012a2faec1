/* kernels/block: the two halves of a decoder layer, for kernels/layer alone. Everything here is
 * Local. */
#ifndef LODE_KERNELS_BLOCK_H
#define LODE_KERNELS_BLOCK_H

#include "kernels/layer.h"

/* A layer's workspace for T tokens. */
typedef struct lode_scratch {
    /* [T, wide] each: h and u in the forward; u and du, then gradients of the attention's parts, in
     * the backward. */
    lode_real_t *a, *b;
    /* Where the activations hold queries and keys that are not turned yet: turned ones
     * [T, (H + KV)·hd], and the inverses of their norms. */
    lode_real_t *turned, *inverse;
    lode_real_t *rest;     /* for linear, attention and rope */
    const lode_tap_t *tap; /* NULL: nobody looks */
} lode_scratch_t;

/* Shows an input x [T, width] of linear layers and returns it as they read it: x itself, or coded
 * in `coded` [T, width], which lies apart. */
const lode_real_t *lode_block_input(const lode_layer_t *layer, lode_input_t which,
                                    const lode_sequences_t *sequences, int64_t width,
                                    const lode_real_t *x, const lode_tap_t *tap,
                                    lode_real_t *coded);

static inline int64_t lode_query_width(const lode_layer_t *layer) {
    return layer->attention.heads * layer->attention.head_dim;
}

static inline int64_t lode_key_width(const lode_layer_t *layer) {
    return layer->attention.kv_heads * layer->attention.head_dim;
}

/* Whether the backward needs queries and keys as they were before they were turned. */
static inline bool lode_keeps_unturned(const lode_layer_t *layer) {
    return layer->clip > 0 || layer->q_norm.kind != LODE_NORM_NONE ||
           layer->k_norm.kind != LODE_NORM_NONE;
}

/* Rows that the norms of queries and of keys have for each token. */
static inline int64_t lode_query_norms(const lode_layer_t *layer) {
    return lode_query_width(layer) / layer->q_norm.width;
}

static inline int64_t lode_key_norms(const lode_layer_t *layer) {
    return lode_key_width(layer) / layer->k_norm.width;
}

/* y += x, the residual; both [count], apart. */
static inline void lode_add(int64_t count, const lode_real_t *restrict x, lode_real_t *restrict y) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++)
        y[i] += x[i];
}

/* From x to x'. */
void lode_attention_block_forward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                                  lode_activations_t *activations, const lode_scratch_t *scratch);

/* Turns the gradient with respect to x' [T, d] into that with respect to x in place. Here and
 * below, `gradient` is where those of the weights are added, or NULL. */
void lode_attention_block_backward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                                   const lode_activations_t *activations, lode_real_t *dy,
                                   const lode_scratch_t *scratch,
                                   const lode_layer_gradient_t *gradient);

/* From x' to y [T, d], or to the activations alone where y is NULL. With y, h₂ is then in *h and u
 * in scratch->b. */
void lode_ffn_block_forward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                            lode_activations_t *activations, lode_real_t *y,
                            const lode_scratch_t *scratch, const lode_real_t **h);

/* x' + n(u·Wdownᵀ + b + c); see lode_layer_finish. Of the scratch, a and rest are written; y may be
 * in a where the input of Wdown is not coded. */
void lode_ffn_block_finish(const lode_layer_t *layer, const lode_sequences_t *sequences,
                           lode_activations_t *activations, const lode_real_t *u, lode_real_t *y,
                           const lode_scratch_t *scratch);

/* u into scratch->a and du into scratch->b, from dy [tokens, d]; the activations' ffn_out, where
 * there is one, is overwritten by its gradient. */
void lode_ffn_block_channels(const lode_layer_t *layer, int64_t tokens,
                             const lode_activations_t *activations, const lode_real_t *dy,
                             const lode_scratch_t *scratch, const lode_layer_gradient_t *gradient);

/* Adds to dy the gradient that reaches x' through h₂, from du in scratch->b; the activations' gate
 * and up are overwritten by their gradients. */
void lode_ffn_block_backward(const lode_layer_t *layer, int64_t tokens,
                             lode_activations_t *activations, lode_real_t *dy,
                             const lode_scratch_t *scratch, const lode_layer_gradient_t *gradient);

#endif
