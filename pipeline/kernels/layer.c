#include "kernels/layer.h"

#include "base/error.h"
#include "kernels/block.h"

static int64_t max2(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static bool has(const lode_norm_t *norm) {
    return norm->kind != LODE_NORM_NONE;
}

/* --- matrices -------------------------------------------------------------------------------- */

typedef struct matrix {
    const char *name;
    lode_role_t role;
    lode_input_t input;
} matrix_t;

static const matrix_t matrices[LODE_MATRICES] = {
    [LODE_MATRIX_Q] = {"q", LODE_ROLE_Q, LODE_INPUT_ATTENTION},
    [LODE_MATRIX_K] = {"k", LODE_ROLE_K, LODE_INPUT_ATTENTION},
    [LODE_MATRIX_V] = {"v", LODE_ROLE_V, LODE_INPUT_ATTENTION},
    [LODE_MATRIX_O] = {"o", LODE_ROLE_O, LODE_INPUT_OUTPUT},
    [LODE_MATRIX_GATE] = {"gate", LODE_ROLE_GATE, LODE_INPUT_FFN},
    [LODE_MATRIX_UP] = {"up", LODE_ROLE_UP, LODE_INPUT_FFN},
    [LODE_MATRIX_DOWN] = {"down", LODE_ROLE_DOWN, LODE_INPUT_DOWN}};

const char *lode_matrix_name(lode_layer_matrix_t which) {
    return matrices[which].name;
}

lode_role_t lode_matrix_role(lode_layer_matrix_t which) {
    return matrices[which].role;
}

lode_input_t lode_matrix_input(lode_layer_matrix_t which) {
    return matrices[which].input;
}

lode_weight_t *lode_layer_matrix(lode_layer_t *layer, lode_layer_matrix_t which) {
    lode_weight_t *const places[LODE_MATRICES] = {
        [LODE_MATRIX_Q] = &layer->q,       [LODE_MATRIX_K] = &layer->k,
        [LODE_MATRIX_V] = &layer->v,       [LODE_MATRIX_O] = &layer->o,
        [LODE_MATRIX_GATE] = &layer->gate, [LODE_MATRIX_UP] = &layer->up,
        [LODE_MATRIX_DOWN] = &layer->down};
    return places[which];
}

/* --- activations ----------------------------------------------------------------------------- */

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
    scratch.tap = NULL;
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

const lode_real_t *lode_block_input(const lode_layer_t *layer, lode_input_t which,
                                    const lode_sequences_t *sequences, int64_t width,
                                    const lode_real_t *x, const lode_tap_t *tap,
                                    lode_real_t *coded) {
    if (tap)
        tap->input(tap->context, which, x);
    if (!layer->input[which])
        return x;
    lode_input_code(layer->input[which], sequences, width, x, coded);
    return coded;
}

void lode_layer_forward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                        lode_activations_t *activations, lode_real_t *y, lode_real_t *workspace,
                        const lode_real_t **h, const lode_real_t **u) {
    lode_layer_forward_tapped(layer, sequences, activations, y, workspace, NULL, h, u);
}

void lode_layer_forward_tapped(const lode_layer_t *layer, const lode_sequences_t *sequences,
                               lode_activations_t *activations, lode_real_t *y,
                               lode_real_t *workspace, const lode_tap_t *tap, const lode_real_t **h,
                               const lode_real_t **u) {
    const int64_t tokens = sequences->offsets[sequences->count];
    lode_scratch_t scratch = scratch_in(layer, tokens, workspace);
    const lode_real_t *ffn_input;
    scratch.tap = tap;
    lode_attention_block_forward(layer, sequences, activations, &scratch);
    lode_ffn_block_forward(layer, sequences, activations, y, &scratch, &ffn_input);
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

void lode_layer_finish(const lode_layer_t *layer, const lode_sequences_t *sequences,
                       lode_activations_t *activations, const lode_real_t *u, lode_real_t *y,
                       lode_real_t *workspace) {
    const lode_scratch_t scratch =
        scratch_in(layer, sequences->offsets[sequences->count], workspace);
    lode_ffn_block_finish(layer, sequences, activations, u, y, &scratch);
}

/* What has no derivative here. */
static bool forward_only(const lode_layer_t *layer) {
    bool coded = layer->restore_count > 0;
    for (int i = 0; i < LODE_INPUTS; i++)
        coded |= layer->input[i] != NULL;
    return coded;
}

/* Whether the gradients of the weights as used are those of the stored ones. */
static bool is_whole(const lode_layer_t *layer) {
    lode_layer_t copy = *layer;
    for (int i = 0; i < LODE_MATRICES; i++) {
        const lode_weight_t *weight = lode_layer_matrix(&copy, (lode_layer_matrix_t)i);
        if (weight->row_index || weight->col_index || weight->codec)
            return false;
    }
    return true;
}

void lode_layer_backward_ffn(const lode_layer_t *layer, const lode_sequences_t *sequences,
                             const lode_activations_t *activations, const lode_real_t *dy,
                             lode_real_t *workspace, const lode_layer_gradient_t *gradient,
                             const lode_real_t **u, const lode_real_t **du) {
    const int64_t tokens = sequences->offsets[sequences->count];
    const lode_scratch_t scratch = scratch_in(layer, tokens, workspace);
    LODE_ASSERT(!forward_only(layer));
    LODE_ASSERT(!gradient || is_whole(layer));
    lode_ffn_block_channels(layer, tokens, activations, dy, &scratch, gradient);
    *u = scratch.a;
    *du = scratch.b;
}

void lode_layer_backward_rest(const lode_layer_t *layer, const lode_sequences_t *sequences,
                              lode_activations_t *activations, lode_real_t *dy,
                              lode_real_t *workspace, const lode_layer_gradient_t *gradient) {
    const int64_t tokens = sequences->offsets[sequences->count];
    const lode_scratch_t scratch = scratch_in(layer, tokens, workspace);
    if (layer->m > 0)
        lode_ffn_block_backward(layer, tokens, activations, dy, &scratch, gradient);
    lode_attention_block_backward(layer, sequences, activations, dy, &scratch, gradient);
}
