#include "kernels/block.h"

/* Queries and keys as the attention reads them. */
typedef struct turned {
    lode_real_t *q, *k;                 /* [T, H·hd], [T, KV·hd] */
    lode_real_t *inverse_q, *inverse_k; /* of their norms */
} turned_t;

static turned_t turned_in(const lode_layer_t *layer, int64_t tokens, const lode_activations_t *act,
                          const lode_scratch_t *scratch) {
    if (!lode_keeps_unturned(layer))
        return (turned_t){.q = act->q, .k = act->k};
    return (turned_t){.q = scratch->turned,
                      .k = scratch->turned + tokens * lode_query_width(layer),
                      .inverse_q = scratch->inverse,
                      .inverse_k = scratch->inverse + tokens * lode_query_norms(layer)};
}

static void rotate(const lode_layer_t *layer, const lode_sequences_t *sequences, bool inverse,
                   lode_real_t *q, lode_real_t *k, lode_real_t *workspace) {
    const lode_attention_shape_t *shape = &layer->attention;
    for (int64_t s = 0; s < sequences->count; s++) {
        const int64_t first = sequences->offsets[s], tokens = sequences->offsets[s + 1] - first;
        lode_rope_turn(&layer->rope, tokens, shape->heads, shape->kv_heads, shape->head_dim,
                       inverse, q + first * lode_query_width(layer),
                       k + first * lode_key_width(layer), workspace);
    }
}

/* Normalises and turns the activations' queries and keys, in place where nobody needs them as they
 * were. */
static void turn(const lode_layer_t *layer, const lode_sequences_t *sequences,
                 const lode_activations_t *act, const turned_t *turned, lode_real_t *workspace) {
    const int64_t tokens = sequences->offsets[sequences->count];
    lode_norm_forward(&layer->q_norm, tokens * lode_query_norms(layer), act->q, turned->q,
                      turned->inverse_q);
    lode_norm_forward(&layer->k_norm, tokens * lode_key_norms(layer), act->k, turned->k,
                      turned->inverse_k);
    rotate(layer, sequences, false, turned->q, turned->k, workspace);
}

static void clip(int64_t count, double limit, lode_real_t *x) {
    const lode_real_t most = (lode_real_t)limit;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++)
        x[i] = x[i] > most ? most : x[i] < -most ? -most : x[i]; /* NaN stays NaN */
}

/* dx = 0 where x was clipped. */
static void clip_backward(int64_t count, double limit, const lode_real_t *x, lode_real_t *dx) {
    const lode_real_t most = (lode_real_t)limit;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++)
        dx[i] = x[i] < most && x[i] > -most ? dx[i] : 0;
}

static void project(const lode_layer_t *layer, const lode_sequences_t *sequences,
                    lode_activations_t *act, const lode_scratch_t *scratch) {
    const int64_t tokens = sequences->offsets[sequences->count];
    const bool norm = layer->attention_norm.kind != LODE_NORM_NONE;
    const lode_real_t *h = norm ? scratch->a : act->x;
    if (norm)
        lode_norm_forward(&layer->attention_norm, tokens, act->x, scratch->a,
                          act->inverse_attention);
    h = lode_block_input(layer, LODE_INPUT_ATTENTION, sequences, layer->d, h, scratch->tap,
                         scratch->b);
    lode_linear_forward(&layer->q, tokens, h, false, act->q, scratch->rest);
    lode_linear_forward(&layer->k, tokens, h, false, act->k, scratch->rest);
    lode_linear_forward(&layer->v, tokens, h, false, act->v, scratch->rest);
    if (layer->clip > 0) {
        clip(tokens * lode_query_width(layer), layer->clip, act->q);
        clip(tokens * lode_key_width(layer), layer->clip, act->k);
        clip(tokens * lode_key_width(layer), layer->clip, act->v);
    }
}

static void attend(const lode_layer_t *layer, const lode_sequences_t *sequences,
                   const turned_t *turned, lode_activations_t *act, lode_real_t *workspace) {
    const int64_t qw = lode_query_width(layer), kw = lode_key_width(layer);
    for (int64_t s = 0; s < sequences->count; s++) {
        const int64_t first = sequences->offsets[s], tokens = sequences->offsets[s + 1] - first;
        lode_attention_forward(&layer->attention, tokens, turned->q + first * qw,
                               turned->k + first * kw, act->v + first * kw, act->o + first * qw,
                               act->softmax + 2 * first * layer->attention.heads, workspace);
    }
}

void lode_attention_block_forward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                                  lode_activations_t *act, const lode_scratch_t *scratch) {
    const int64_t tokens = sequences->offsets[sequences->count], count = tokens * layer->d;
    const turned_t turned = turned_in(layer, tokens, act, scratch);
    project(layer, sequences, act, scratch);
    turn(layer, sequences, act, &turned, scratch->rest);
    attend(layer, sequences, &turned, act, scratch->rest);
    const lode_real_t *input =
        lode_block_input(layer, LODE_INPUT_OUTPUT, sequences, lode_query_width(layer), act->o,
                         scratch->tap, scratch->b);
    if (layer->attention_post_norm.kind == LODE_NORM_NONE) {
        memcpy(act->x_mid, act->x, (size_t)count * sizeof *act->x);
        lode_linear_forward(&layer->o, tokens, input, true, act->x_mid, scratch->rest);
        return;
    }
    lode_linear_forward(&layer->o, tokens, input, false, act->attention_out, scratch->rest);
    lode_norm_forward(&layer->attention_post_norm, tokens, act->attention_out, act->x_mid,
                      act->inverse_attention_post);
    lode_add(count, act->x, act->x_mid);
}

/* --- backward ------------------------------------------------------------------------------- */

/* Gradients with respect to what the projections gave, before clip, norm and turn. */
typedef struct gradients {
    lode_real_t *q, *k, *v; /* [T, H·hd], [T, KV·hd] twice */
} gradients_t;

static void attend_backward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                            const turned_t *turned, const lode_activations_t *act,
                            const lode_real_t *d_o, const gradients_t *d, lode_real_t *workspace) {
    const int64_t qw = lode_query_width(layer), kw = lode_key_width(layer);
    for (int64_t s = 0; s < sequences->count; s++) {
        const int64_t first = sequences->offsets[s], tokens = sequences->offsets[s + 1] - first;
        lode_attention_backward(&layer->attention, tokens, turned->q + first * qw,
                                turned->k + first * kw, act->v + first * kw, act->o + first * qw,
                                act->softmax + 2 * first * layer->attention.heads, d_o + first * qw,
                                d->q + first * qw, d->k + first * kw, d->v + first * kw, workspace);
    }
}

/* Of the norms' weights; `centres` is room. */
static void turn_gradient(const lode_layer_t *layer, int64_t tokens, const turned_t *turned,
                          const lode_activations_t *act, const gradients_t *d,
                          const lode_layer_gradient_t *gradient, lode_real_t *centres) {
    lode_norm_gradient(&layer->q_norm, tokens * lode_query_norms(layer), d->q, act->q,
                       turned->inverse_q, gradient->q_norm, NULL, centres);
    lode_norm_gradient(&layer->k_norm, tokens * lode_key_norms(layer), d->k, act->k,
                       turned->inverse_k, gradient->k_norm, NULL, centres);
}

/* From turned queries and keys back to what the projections gave. */
static void turn_backward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                          const turned_t *turned, const lode_activations_t *act,
                          const gradients_t *d, const lode_scratch_t *scratch,
                          const lode_layer_gradient_t *gradient) {
    const int64_t tokens = sequences->offsets[sequences->count];
    const int64_t qw = lode_query_width(layer), kw = lode_key_width(layer);
    rotate(layer, sequences, true, d->q, d->k, scratch->rest);
    if (gradient)
        turn_gradient(layer, tokens, turned, act, d, gradient, scratch->a);
    if (layer->q_norm.kind != LODE_NORM_NONE)
        lode_norm_backward(&layer->q_norm, tokens * lode_query_norms(layer), d->q, act->q,
                           turned->inverse_q, false, d->q);
    if (layer->k_norm.kind != LODE_NORM_NONE)
        lode_norm_backward(&layer->k_norm, tokens * lode_key_norms(layer), d->k, act->k,
                           turned->inverse_k, false, d->k);
    if (layer->clip > 0) {
        clip_backward(tokens * qw, layer->clip, act->q, d->q);
        clip_backward(tokens * kw, layer->clip, act->k, d->k);
        clip_backward(tokens * kw, layer->clip, act->v, d->v);
    }
}

/* Of the projections, from h₁, which is computed again in scratch->a. */
static void project_gradient(const lode_layer_t *layer, int64_t tokens,
                             const lode_activations_t *act, const gradients_t *d,
                             const lode_scratch_t *scratch, const lode_layer_gradient_t *gradient) {
    const int64_t qw = lode_query_width(layer), kw = lode_key_width(layer);
    const lode_gradient_t *matrix = gradient->matrix;
    const bool norm = layer->attention_norm.kind != LODE_NORM_NONE;
    const lode_real_t *h = norm ? scratch->a : act->x;
    if (norm)
        lode_norm_forward(&layer->attention_norm, tokens, act->x, scratch->a, NULL);
    lode_linear_gradient(&matrix[LODE_MATRIX_Q], qw, layer->d, tokens, h, d->q);
    lode_linear_gradient(&matrix[LODE_MATRIX_K], kw, layer->d, tokens, h, d->k);
    lode_linear_gradient(&matrix[LODE_MATRIX_V], kw, layer->d, tokens, h, d->v);
}

/* Down to the gradients with respect to q, k and v, which are put in scratch->b. */
static gradients_t backward_to_projections(const lode_layer_t *layer,
                                           const lode_sequences_t *sequences,
                                           const lode_activations_t *act, const lode_real_t *dy,
                                           const lode_scratch_t *scratch,
                                           const lode_layer_gradient_t *gradient) {
    const int64_t tokens = sequences->offsets[sequences->count];
    const int64_t qw = lode_query_width(layer), kw = lode_key_width(layer);
    const turned_t turned = turned_in(layer, tokens, act, scratch);
    const lode_real_t *d_out = dy;
    if (layer->attention_post_norm.kind != LODE_NORM_NONE) {
        if (gradient)
            lode_norm_gradient(&layer->attention_post_norm, tokens, dy, act->attention_out,
                               act->inverse_attention_post, gradient->attention_post_norm, NULL,
                               scratch->a);
        lode_norm_backward(&layer->attention_post_norm, tokens, dy, act->attention_out,
                           act->inverse_attention_post, false, scratch->b);
        d_out = scratch->b;
    }
    if (gradient)
        lode_linear_gradient(&gradient->matrix[LODE_MATRIX_O], layer->d, qw, tokens, act->o, d_out);
    lode_linear_backward(&layer->o, tokens, d_out, false, scratch->a, scratch->rest);
    const gradients_t d = {
        .q = scratch->b, .k = scratch->b + tokens * qw, .v = scratch->b + tokens * (qw + kw)};
    if (lode_keeps_unturned(layer))
        turn(layer, sequences, act, &turned, scratch->rest);
    attend_backward(layer, sequences, &turned, act, scratch->a, &d, scratch->rest);
    turn_backward(layer, sequences, &turned, act, &d, scratch, gradient);
    return d;
}

void lode_attention_block_backward(const lode_layer_t *layer, const lode_sequences_t *sequences,
                                   const lode_activations_t *act, lode_real_t *dy,
                                   const lode_scratch_t *scratch,
                                   const lode_layer_gradient_t *gradient) {
    const int64_t tokens = sequences->offsets[sequences->count];
    const gradients_t d = backward_to_projections(layer, sequences, act, dy, scratch, gradient);
    if (gradient)
        project_gradient(layer, tokens, act, &d, scratch, gradient);
    lode_linear_backward(&layer->q, tokens, d.q, false, scratch->a, scratch->rest);
    lode_linear_backward(&layer->k, tokens, d.k, true, scratch->a, scratch->rest);
    lode_linear_backward(&layer->v, tokens, d.v, true, scratch->a, scratch->rest);
    if (gradient)
        lode_norm_gradient(&layer->attention_norm, tokens, scratch->a, act->x,
                           act->inverse_attention, gradient->attention_norm,
                           gradient->attention_norm_bias, scratch->b);
    lode_norm_backward(&layer->attention_norm, tokens, scratch->a, act->x, act->inverse_attention,
                       true, dy);
}
