#include "kernels/layer.h"

#include "kernels/block.h"

static int64_t max2(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static bool has(const lode_norm_t *norm) {
    return norm->kind != LODE_NORM_NONE;
}

int64_t lode_activations_per_token(const lode_layer_t *layer) {
    const int64_t ffn = layer->gate.data ? 2 : 1;
    const int64_t post = has(&layer->attention_post_norm) + has(&layer->ffn_post_norm);
    return 2 * lode_query_width(layer) + 2 * lode_key_width(layer) + layer->d + ffn * layer->m + 2 +
           2 * layer->attention.heads + post * (layer->d + 1);
}

static lode_real_t *take(lode_real_t **next, int64_t reals) {
    lode_real_t *taken = *next;
    *next += reals;
    return taken;
}

void lode_activations_place(lode_activations_t *activations, const lode_layer_t *layer,
                            int64_t tokens, lode_real_t *memory) {
    const int64_t qw = tokens * lode_query_width(layer), kw = tokens * lode_key_width(layer);
    const int64_t d = tokens * layer->d, m = tokens * layer->m;
    lode_real_t *next = memory;
    activations->q = take(&next, qw);
    activations->o = take(&next, qw);
    activations->k = take(&next, kw);
    activations->v = take(&next, kw);
    activations->softmax = take(&next, 2 * tokens * layer->attention.heads);
    activations->x_mid = take(&next, d);
    activations->gate = layer->gate.data ? take(&next, m) : NULL;
    activations->up = take(&next, m);
    activations->inverse_attention = take(&next, tokens);
    activations->inverse_ffn = take(&next, tokens);
    activations->attention_out = activations->ffn_out = NULL;
    activations->inverse_attention_post = activations->inverse_ffn_post = NULL;
    if (has(&layer->attention_post_norm)) {
        activations->attention_out = take(&next, d);
        activations->inverse_attention_post = take(&next, tokens);
    }
    if (has(&layer->ffn_post_norm)) {
        activations->ffn_out = take(&next, d);
        activations->inverse_ffn_post = take(&next, tokens);
    }
}

/* --- workspace ------------------------------------------------------------------------------- */

static int64_t panel_width(const lode_layer_t *layer) {
    const int64_t wide = max2(layer->m, layer->d);
    return max2(wide, lode_query_width(layer) + 2 * lode_key_width(layer));
}

static int64_t turned_width(const lode_layer_t *layer) {
    return lode_keeps_unturned(layer) ? lode_query_width(layer) + lode_key_width(layer) : 0;
}

static int64_t inverse_width(const lode_layer_t *layer) {
    return lode_keeps_unturned(layer) ? lode_query_norms(layer) + lode_key_norms(layer) : 0;
}

static lode_scratch_t scratch_in(const lode_layer_t *layer, int64_t tokens,
                                 lode_real_t *workspace) {
    lode_scratch_t scratch;
    scratch.a = take(&workspace, tokens * panel_width(layer));
    scratch.b = take(&workspace, tokens * panel_width(layer));
    scratch.turned = take(&workspace, tokens * turned_width(layer));
    scratch.inverse = take(&workspace, tokens * inverse_width(layer));
    scratch.rest = workspace;
    return scratch;
}

int64_t lode_layer_workspace(const lode_layer_t *layer, int64_t tokens, int64_t longest,
                             int threads) {
    const lode_weight_t *weights[] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                                      &layer->gate, &layer->up, &layer->down};
    int64_t rest = lode_attention_workspace(&layer->attention, longest, threads);
    rest = max2(rest, lode_rope_workspace(&layer->rope, longest));
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (weights[i]->data)
            rest = max2(rest, lode_linear_workspace(weights[i]));
    const int64_t width = 2 * panel_width(layer) + turned_width(layer) + inverse_width(layer);
    return tokens * width + rest;
}

/* --- both ways ------------------------------------------------------------------------------- */

void lode_layer_forward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                        lode_activations_t *activations, lode_real_t *y, lode_real_t *workspace,
                        const lode_real_t **h, const lode_real_t **u) {
    const int64_t tokens = sequences->offsets[sequences->count];
    const lode_scratch_t scratch = scratch_in(layer, tokens, workspace);
    const lode_real_t *ffn_input;
    lode_attention_block_forward(layer, sequences, activations, &scratch);
    lode_ffn_block_forward(layer, tokens, activations, y, &scratch, &ffn_input);
    if (y && h)
        *h = ffn_input;
    if (y && u)
        *u = scratch.b;
}

void lode_layer_channels(const lode_layer_t *layer, int64_t tokens,
                         const lode_activations_t *activations, lode_real_t *u) {
    lode_activation_forward(layer->activation, tokens * layer->m, activations->gate,
                            activations->up, u);
}

void lode_layer_finish(const lode_layer_t *layer, int64_t tokens, lode_activations_t *activations,
                       const lode_real_t *u, lode_real_t *y, lode_real_t *workspace) {
    lode_ffn_block_finish(layer, tokens, activations, u, y, workspace);
}

void lode_layer_backward_ffn(const lode_layer_t *layer, const lode_sequences_t *sequences,
                             const lode_activations_t *activations, const lode_real_t *dy,
                             lode_real_t *workspace, const lode_real_t **u,
                             const lode_real_t **du) {
    const int64_t tokens = sequences->offsets[sequences->count];
    const lode_scratch_t scratch = scratch_in(layer, tokens, workspace);
    lode_ffn_block_channels(layer, tokens, activations, dy, &scratch);
    *u = scratch.a;
    *du = scratch.b;
}

void lode_layer_backward_rest(const lode_layer_t *layer, const lode_sequences_t *sequences,
                              lode_activations_t *activations, lode_real_t *dy,
                              lode_real_t *workspace) {
    const int64_t tokens = sequences->offsets[sequences->count];
    const lode_scratch_t scratch = scratch_in(layer, tokens, workspace);
    if (layer->m > 0)
        lode_ffn_block_backward(layer, tokens, activations, dy, &scratch);
    lode_attention_block_backward(layer, sequences, activations, dy, &scratch);
}
