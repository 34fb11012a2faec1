#include "kernels/layer.h"

#include "kernels/glu.h"
#include "kernels/norm.h"
#include "kernels/rope.h"

static int64_t max2(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t query_width(const lode_layer_t *layer) {
    return layer->attention.heads * layer->attention.head_dim;
}

static int64_t key_width(const lode_layer_t *layer) {
    return layer->attention.kv_heads * layer->attention.head_dim;
}

int64_t lode_activations_per_token(const lode_layer_t *layer) {
    return 2 * query_width(layer) + 2 * key_width(layer) + layer->d + 2 * layer->m + 2;
}

void lode_activations_place(lode_activations_t *activations, const lode_layer_t *layer,
                            int64_t tokens, lode_real_t *memory) {
    const int64_t qw = query_width(layer), kw = key_width(layer);
    lode_real_t *next = memory;
    activations->q = next;
    activations->o = next += tokens * qw;
    activations->k = next += tokens * qw;
    activations->v = next += tokens * kw;
    activations->x_mid = next += tokens * kw;
    activations->gate = next += tokens * layer->d;
    activations->up = next += tokens * layer->m;
    activations->inverse_attention = next += tokens * layer->m;
    activations->inverse_ffn = next + tokens;
}

/* The workspace: two [T, wide] panels, then what linear and attention need. The panels hold h₂ and
 * u in the forward; u and du, then gradients of the attention's parts, in the backward. */
typedef struct scratch {
    lode_real_t *a, *b; /* [T, wide] */
    lode_real_t *rest;
} scratch_t;

static int64_t panel_width(const lode_layer_t *layer) {
    int64_t wide = max2(layer->m, layer->d);
    return max2(wide, query_width(layer) + 2 * key_width(layer));
}

static scratch_t scratch_in(const lode_layer_t *layer, int64_t tokens, lode_real_t *workspace) {
    const int64_t panel = tokens * panel_width(layer);
    return (scratch_t){.a = workspace, .b = workspace + panel, .rest = workspace + 2 * panel};
}

int64_t lode_layer_workspace(const lode_layer_t *layer, int64_t tokens, int64_t longest,
                             int threads) {
    const lode_weight_t *weights[] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                                      &layer->gate, &layer->up, &layer->down};
    int64_t rest = threads * lode_attention_workspace(&layer->attention, longest);
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        rest = max2(rest, lode_linear_workspace(weights[i]));
    return 2 * tokens * panel_width(layer) + rest;
}

static void rotate(const lode_layer_t *layer, const lode_sequences_t *sequences, bool inverse,
                   lode_real_t *q, lode_real_t *k) {
    const lode_attention_shape_t *shape = &layer->attention;
    for (int64_t s = 0; s < sequences->count; s++) {
        const int64_t first = sequences->offsets[s], tokens = sequences->offsets[s + 1] - first;
        lode_rope_apply(tokens, shape->heads, shape->head_dim, layer->cosines, layer->sines,
                        inverse, q + first * query_width(layer));
        lode_rope_apply(tokens, shape->kv_heads, shape->head_dim, layer->cosines, layer->sines,
                        inverse, k + first * key_width(layer));
    }
}

static void attend(const lode_layer_t *layer, const lode_sequences_t *sequences,
                   lode_activations_t *act, lode_real_t *workspace) {
    const int64_t qw = query_width(layer), kw = key_width(layer);
    for (int64_t s = 0; s < sequences->count; s++) {
        const int64_t first = sequences->offsets[s], tokens = sequences->offsets[s + 1] - first;
        lode_attention_forward(&layer->attention, tokens, act->q + first * qw, act->k + first * kw,
                               act->v + first * kw, act->o + first * qw, workspace);
    }
}

static void add_bias(const lode_layer_t *layer, int64_t tokens, lode_real_t *y) {
    const int64_t d = layer->d;
    if (!layer->bias)
        return;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < d; i++)
            y[t * d + i] += layer->bias[i];
}

void lode_layer_forward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                        lode_activations_t *act, lode_real_t *y, lode_real_t *workspace,
                        const lode_real_t **h, const lode_real_t **u) {
    const int64_t tokens = sequences->offsets[sequences->count], d = layer->d;
    const scratch_t scratch = scratch_in(layer, tokens, workspace);
    lode_rmsnorm_forward(tokens, d, layer->eps, act->x, layer->attention_norm, scratch.a,
                         act->inverse_attention);
    lode_linear_forward(&layer->q, tokens, scratch.a, false, act->q, scratch.rest);
    lode_linear_forward(&layer->k, tokens, scratch.a, false, act->k, scratch.rest);
    lode_linear_forward(&layer->v, tokens, scratch.a, false, act->v, scratch.rest);
    rotate(layer, sequences, false, act->q, act->k);
    attend(layer, sequences, act, scratch.rest);
    memcpy(act->x_mid, act->x, (size_t)(tokens * d) * sizeof *act->x);
    lode_linear_forward(&layer->o, tokens, act->o, true, act->x_mid, scratch.rest);

    lode_rmsnorm_forward(tokens, d, layer->eps, act->x_mid, layer->ffn_norm, scratch.a,
                         act->inverse_ffn);
    lode_linear_forward(&layer->gate, tokens, scratch.a, false, act->gate, scratch.rest);
    lode_linear_forward(&layer->up, tokens, scratch.a, false, act->up, scratch.rest);
    if (!y)
        return;
    lode_swiglu_forward(tokens * layer->m, act->gate, act->up, scratch.b);
    memcpy(y, act->x_mid, (size_t)(tokens * d) * sizeof *y);
    lode_linear_forward(&layer->down, tokens, scratch.b, true, y, scratch.rest);
    add_bias(layer, tokens, y);
    if (h)
        *h = scratch.a;
    if (u)
        *u = scratch.b;
}

void lode_layer_backward_ffn(const lode_layer_t *layer, const lode_sequences_t *sequences,
                             const lode_activations_t *act, const lode_real_t *dy,
                             lode_real_t *workspace, const lode_real_t **u,
                             const lode_real_t **du) {
    const int64_t tokens = sequences->offsets[sequences->count];
    const scratch_t scratch = scratch_in(layer, tokens, workspace);
    lode_swiglu_forward(tokens * layer->m, act->gate, act->up, scratch.a);
    lode_linear_backward(&layer->down, tokens, dy, false, scratch.b, scratch.rest);
    *u = scratch.a;
    *du = scratch.b;
}

/* dy += the gradient that reaches x' through h₂; gate and up are overwritten by their gradients. */
static void ffn_input_gradient(const lode_layer_t *layer, int64_t tokens, lode_activations_t *act,
                               lode_real_t *dy, const scratch_t *scratch) {
    lode_swiglu_backward(tokens * layer->m, scratch->b, act->gate, act->up, act->gate, act->up);
    lode_linear_backward(&layer->gate, tokens, act->gate, false, scratch->a, scratch->rest);
    lode_linear_backward(&layer->up, tokens, act->up, true, scratch->a, scratch->rest);
    lode_rmsnorm_backward(tokens, layer->d, scratch->a, act->x_mid, layer->ffn_norm,
                          act->inverse_ffn, dy);
}

void lode_layer_backward_rest(const lode_layer_t *layer, const lode_sequences_t *sequences,
                              lode_activations_t *act, lode_real_t *dy, lode_real_t *workspace) {
    const int64_t tokens = sequences->offsets[sequences->count], d = layer->d;
    const int64_t qw = query_width(layer), kw = key_width(layer);
    const scratch_t scratch = scratch_in(layer, tokens, workspace);
    if (layer->m > 0)
        ffn_input_gradient(layer, tokens, act, dy, &scratch);

    lode_real_t *d_o = scratch.a;
    lode_real_t *dq = scratch.b, *dk = dq + tokens * qw, *dv = dk + tokens * kw;
    lode_linear_backward(&layer->o, tokens, dy, false, d_o, scratch.rest);
    for (int64_t s = 0; s < sequences->count; s++) {
        const int64_t first = sequences->offsets[s], count = sequences->offsets[s + 1] - first;
        lode_attention_backward(&layer->attention, count, act->q + first * qw, act->k + first * kw,
                                act->v + first * kw, act->o + first * qw, d_o + first * qw,
                                dq + first * qw, dk + first * kw, dv + first * kw, scratch.rest);
    }
    rotate(layer, sequences, true, dq, dk);
    lode_real_t *dh = scratch.a;
    lode_linear_backward(&layer->q, tokens, dq, false, dh, scratch.rest);
    lode_linear_backward(&layer->k, tokens, dk, true, dh, scratch.rest);
    lode_linear_backward(&layer->v, tokens, dv, true, dh, scratch.rest);
    lode_rmsnorm_backward(tokens, d, dh, act->x, layer->attention_norm, act->inverse_attention, dy);
}
