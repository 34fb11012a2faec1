#include "kernels/block.h"

static void add_bias(const lode_layer_t *layer, int64_t tokens, lode_real_t *y) {
    const int64_t d = layer->d;
    if (!layer->bias)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < d; i++)
            y[t * d + i] += layer->bias[i];
}

void lode_ffn_block_finish(const lode_layer_t *layer, int64_t tokens, lode_activations_t *act,
                           const lode_real_t *u, lode_real_t *y, lode_real_t *workspace) {
    const int64_t count = tokens * layer->d;
    if (layer->ffn_post_norm.kind == LODE_NORM_NONE) {
        memcpy(y, act->x_mid, (size_t)count * sizeof *y);
        lode_linear_forward(&layer->down, tokens, u, true, y, workspace);
        add_bias(layer, tokens, y);
        return;
    }
    lode_linear_forward(&layer->down, tokens, u, false, act->ffn_out, workspace);
    add_bias(layer, tokens, act->ffn_out);
    lode_norm_forward(&layer->ffn_post_norm, tokens, act->ffn_out, y, act->inverse_ffn_post);
    lode_add(count, act->x_mid, y);
}

void lode_ffn_block_forward(const lode_layer_t *layer, int64_t tokens, lode_activations_t *act,
                            lode_real_t *y, const lode_scratch_t *scratch, const lode_real_t **h) {
    const bool norm = layer->ffn_norm.kind != LODE_NORM_NONE;
    *h = norm ? scratch->a : act->x_mid;
    if (norm)
        lode_norm_forward(&layer->ffn_norm, tokens, act->x_mid, scratch->a, act->inverse_ffn);
    if (layer->gate.data)
        lode_linear_forward(&layer->gate, tokens, *h, false, act->gate, scratch->rest);
    lode_linear_forward(&layer->up, tokens, *h, false, act->up, scratch->rest);
    if (!y && layer->ffn_post_norm.kind == LODE_NORM_NONE)
        return;
    lode_layer_channels(layer, tokens, act, scratch->b);
    /* Without y, what the post-norm's backward needs is computed again, and y goes nowhere. */
    lode_ffn_block_finish(layer, tokens, act, scratch->b, y ? y : scratch->a, scratch->rest);
}

void lode_ffn_block_channels(const lode_layer_t *layer, int64_t tokens,
                             const lode_activations_t *act, const lode_real_t *dy,
                             const lode_scratch_t *scratch) {
    if (layer->ffn_post_norm.kind != LODE_NORM_NONE) {
        lode_norm_backward(&layer->ffn_post_norm, tokens, dy, act->ffn_out, act->inverse_ffn_post,
                           false, scratch->a);
        dy = scratch->a;
    }
    lode_linear_backward(&layer->down, tokens, dy, false, scratch->b, scratch->rest);
    lode_layer_channels(layer, tokens, act, scratch->a);
}

void lode_ffn_block_backward(const lode_layer_t *layer, int64_t tokens, lode_activations_t *act,
                             lode_real_t *dy, const lode_scratch_t *scratch) {
    const bool gated = layer->gate.data != NULL;
    lode_activation_backward(layer->activation, tokens * layer->m, scratch->b, act->gate, act->up,
                             act->gate, act->up);
    if (gated)
        lode_linear_backward(&layer->gate, tokens, act->gate, false, scratch->a, scratch->rest);
    lode_linear_backward(&layer->up, tokens, act->up, gated, scratch->a, scratch->rest);
    lode_norm_backward(&layer->ffn_norm, tokens, scratch->a, act->x_mid, act->inverse_ffn, true,
                       dy);
}
