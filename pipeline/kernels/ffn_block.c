#include "base/error.h"
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

/* Σ u_tk·value of restore[0 … count). */
static double restored(const lode_held_t *restore, int64_t count, const lode_real_t *u) {
    double sum = 0;
    for (int64_t r = 0; r < count; r++)
        sum += (double)u[restore[r].col] * (double)restore[r].value;
    return sum;
}

/* Puts back, in one sequence, what restore[0 … count) of one row say: y [tokens, d] is Y, to which
 * `base` [tokens, d] has been added, or NULL. */
static void restore_row(const lode_layer_t *layer, const lode_held_t *restore, int64_t count,
                        int64_t tokens, const lode_real_t *u, const lode_real_t *base,
                        lode_real_t *y) {
    const int64_t d = layer->d, m = layer->m, row = restore->row;
    double most = -1, added = 0;
    int64_t token = -1;
    for (int64_t t = 0; t < tokens; t++) {
        const double more = restored(restore, count, u + t * m);
        const double before = (double)y[t * d + row] - (base ? (double)base[t * d + row] : 0);
        const double magnitude = fabs(before + more);
        if (magnitude > most) {
            most = magnitude;
            added = more;
            token = t;
        }
    }
    if (token >= 0)
        y[token * d + row] = (lode_real_t)((double)y[token * d + row] + added);
}

static void restore_all(const lode_layer_t *layer, const lode_sequences_t *sequences,
                        const lode_real_t *u, const lode_real_t *base, lode_real_t *y) {
    const lode_held_t *restore = layer->restore;
    for (int64_t first = 0, end; first < layer->restore_count; first = end) {
        for (end = first + 1; end < layer->restore_count; end++)
            if (restore[end].row != restore[first].row)
                break;
        for (int64_t s = 0; s < sequences->count; s++) {
            const int64_t begin = sequences->offsets[s];
            restore_row(layer, restore + first, end - first, sequences->offsets[s + 1] - begin,
                        u + begin * layer->m, base ? base + begin * layer->d : NULL,
                        y + begin * layer->d);
        }
    }
}

void lode_ffn_block_finish(const lode_layer_t *layer, const lode_sequences_t *sequences,
                           lode_activations_t *act, const lode_real_t *u, lode_real_t *y,
                           const lode_scratch_t *scratch) {
    const int64_t tokens = sequences->offsets[sequences->count], count = tokens * layer->d;
    const lode_real_t *input =
        lode_block_input(layer, LODE_INPUT_DOWN, sequences, layer->m, u, scratch->tap, scratch->a);
    if (layer->ffn_post_norm.kind == LODE_NORM_NONE) {
        memcpy(y, act->x_mid, (size_t)count * sizeof *y);
        lode_linear_forward(&layer->down, tokens, input, true, y, scratch->rest);
        restore_all(layer, sequences, u, act->x_mid, y);
        add_bias(layer, tokens, y);
        return;
    }
    lode_linear_forward(&layer->down, tokens, input, false, act->ffn_out, scratch->rest);
    restore_all(layer, sequences, u, NULL, act->ffn_out);
    add_bias(layer, tokens, act->ffn_out);
    lode_norm_forward(&layer->ffn_post_norm, tokens, act->ffn_out, y, act->inverse_ffn_post);
    lode_add(count, act->x_mid, y);
}

void lode_ffn_block_forward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                            lode_activations_t *act, lode_real_t *y, const lode_scratch_t *scratch,
                            const lode_real_t **h) {
    const int64_t tokens = sequences->offsets[sequences->count];
    const bool norm = layer->ffn_norm.kind != LODE_NORM_NONE;
    *h = norm ? scratch->a : act->x_mid;
    if (norm)
        lode_norm_forward(&layer->ffn_norm, tokens, act->x_mid, scratch->a, act->inverse_ffn);
    const lode_real_t *input =
        lode_block_input(layer, LODE_INPUT_FFN, sequences, layer->d, *h, scratch->tap, scratch->b);
    if (layer->gate.data)
        lode_linear_forward(&layer->gate, tokens, input, false, act->gate, scratch->rest);
    lode_linear_forward(&layer->up, tokens, input, false, act->up, scratch->rest);
    if (!y && layer->ffn_post_norm.kind == LODE_NORM_NONE)
        return;
    lode_layer_channels(layer, tokens, act, scratch->b);
    /* Without y, what the post-norm's backward needs is computed again, and y goes nowhere. */
    LODE_ASSERT(y || !layer->input[LODE_INPUT_DOWN]);
    lode_ffn_block_finish(layer, sequences, act, scratch->b, y ? y : scratch->a, scratch);
    if (norm && layer->input[LODE_INPUT_DOWN]) /* u, coded, lies there now */
        lode_norm_forward(&layer->ffn_norm, tokens, act->x_mid, scratch->a, act->inverse_ffn);
}

void lode_ffn_block_channels(const lode_layer_t *layer, int64_t tokens,
                             const lode_activations_t *act, const lode_real_t *dy,
                             const lode_scratch_t *scratch, const lode_layer_gradient_t *gradient) {
    if (layer->ffn_post_norm.kind != LODE_NORM_NONE) {
        if (gradient)
            lode_norm_gradient(&layer->ffn_post_norm, tokens, dy, act->ffn_out,
                               act->inverse_ffn_post, gradient->ffn_post_norm, NULL, scratch->a);
        /* In place: what follows needs both panels of the scratch. */
        lode_norm_backward(&layer->ffn_post_norm, tokens, dy, act->ffn_out, act->inverse_ffn_post,
                           false, act->ffn_out);
        dy = act->ffn_out;
    }
    lode_linear_backward(&layer->down, tokens, dy, false, scratch->b, scratch->rest);
    lode_layer_channels(layer, tokens, act, scratch->a);
    if (gradient)
        lode_linear_gradient(&gradient->matrix[LODE_MATRIX_DOWN], layer->d, layer->m, tokens,
                             scratch->a, dy);
}

/* Of what reads h₂, which is computed again in scratch->a, from the gradients in the activations'
 * gate and up. */
static void read_gradient(const lode_layer_t *layer, int64_t tokens, const lode_activations_t *act,
                          const lode_scratch_t *scratch, const lode_layer_gradient_t *gradient) {
    const bool norm = layer->ffn_norm.kind != LODE_NORM_NONE;
    const lode_real_t *h = norm ? scratch->a : act->x_mid;
    if (norm)
        lode_norm_forward(&layer->ffn_norm, tokens, act->x_mid, scratch->a, NULL);
    if (layer->gate.data)
        lode_linear_gradient(&gradient->matrix[LODE_MATRIX_GATE], layer->m, layer->d, tokens, h,
                             act->gate);
    lode_linear_gradient(&gradient->matrix[LODE_MATRIX_UP], layer->m, layer->d, tokens, h, act->up);
}

void lode_ffn_block_backward(const lode_layer_t *layer, int64_t tokens, lode_activations_t *act,
                             lode_real_t *dy, const lode_scratch_t *scratch,
                             const lode_layer_gradient_t *gradient) {
    const bool gated = layer->gate.data != NULL;
    lode_activation_backward(layer->activation, tokens * layer->m, scratch->b, act->gate, act->up,
                             act->gate, act->up);
    if (gradient)
        read_gradient(layer, tokens, act, scratch, gradient);
    if (gated)
        lode_linear_backward(&layer->gate, tokens, act->gate, false, scratch->a, scratch->rest);
    lode_linear_backward(&layer->up, tokens, act->up, gated, scratch->a, scratch->rest);
    if (gradient)
        lode_norm_gradient(&layer->ffn_norm, tokens, scratch->a, act->x_mid, act->inverse_ffn,
                           gradient->ffn_norm, gradient->ffn_norm_bias, scratch->b);
    lode_norm_backward(&layer->ffn_norm, tokens, scratch->a, act->x_mid, act->inverse_ffn, true,
                       dy);
}
