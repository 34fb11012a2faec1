#include "bench/sample.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "kernels/rope.h"
#include "synthesize/weights.h"
#include "transformer/stack.h"

enum { NARROW = 16, ROLES_OF_WEIGHTS = 7 };
/* Elements that the optimizer is timed with: its arrays are to be larger than caches. */
enum { MOVED = 1 << 23 };

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Memory that goes with the sample. */
static lode_status_t own(lode_sample_t *sample, void *out, int64_t count, size_t size,
                         const char *what) {
    void *memory;
    LODE_ASSERT(sample->owned_count < sample->owned_room);
    LODE_TRY(lode_alloc(&memory, count, size, what));
    sample->owned[sample->owned_count++] = memory;
    memcpy(out, &memory, sizeof memory);
    return LODE_OK;
}

static lode_status_t own_reals(lode_sample_t *sample, lode_real_t **out, int64_t count,
                               const char *what) {
    return own(sample, out, count, sizeof **out, what);
}

/* Values of the order of one, none of them zero. */
static void fill(lode_real_t *x, int64_t count) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++)
        x[i] = (lode_real_t)((i * 7919) % 2001 - 1000) / 700 + (lode_real_t)1e-4;
}

/* Stored as the family stores the role, but that parts of fused tensors lie apart. */
static lode_status_t fill_weight(lode_sample_t *sample, lode_weight_t *weight, lode_role_t role,
                                 int64_t number) {
    char name[64];
    void *data;
    if (!weight->data)
        return LODE_OK;
    const int64_t elements = weight->rows * weight->cols;
    snprintf(name, sizeof name, "bench %d of %lld", (int)role, (long long)number);
    LODE_TRY(own(sample, &data, elements, lode_dtype_size(sample->dtype), "weights"));
    const lode_random_weights_t random = lode_random_weights(sample->architecture, role, 1, name);
    lode_random_weights_fill(&random, sample->dtype, 0, elements, data);
    weight->data = data;
    weight->transposed = lode_family(sample->architecture->model_type)->tensors[role].transposed;
    weight->pitch = weight->transposed ? weight->rows : weight->cols;
    return LODE_OK;
}

void lode_sample_norms(lode_layer_t *layer, lode_norm_t *norms[LODE_SAMPLE_NORMS]) {
    lode_norm_t *all[LODE_SAMPLE_NORMS] = {&layer->attention_norm, &layer->attention_post_norm,
                                           &layer->ffn_norm,       &layer->ffn_post_norm,
                                           &layer->q_norm,         &layer->k_norm};
    memcpy(norms, all, sizeof all);
}

static lode_status_t fill_layer(lode_sample_t *sample, int64_t index, const lode_real_t *ones,
                                const lode_real_t *zeros) {
    lode_layer_t *layer = &sample->layer[index];
    lode_stack_outline(layer, sample->architecture, index, sample->dtype);
    const struct {
        lode_weight_t *weight;
        lode_role_t role, bias;
    } weights[] = {
        {&layer->q, LODE_ROLE_Q, LODE_ROLE_Q_BIAS},
        {&layer->k, LODE_ROLE_K, LODE_ROLE_K_BIAS},
        {&layer->v, LODE_ROLE_V, LODE_ROLE_V_BIAS},
        {&layer->o, LODE_ROLE_O, LODE_ROLE_O_BIAS},
        {&layer->up, LODE_ROLE_UP, LODE_ROLE_UP_BIAS},
        {&layer->gate, LODE_ROLE_GATE, LODE_ROLE_GATE_BIAS},
        {&layer->down, LODE_ROLE_DOWN, LODE_ROLE_DOWN_BIAS},
    };
    for (int i = 0; i < ROLES_OF_WEIGHTS; i++) {
        LODE_TRY(fill_weight(sample, weights[i].weight, weights[i].role, index));
        if (lode_family_has(sample->architecture, weights[i].bias))
            weights[i].weight->bias = zeros;
    }
    lode_norm_t *norms[LODE_SAMPLE_NORMS];
    lode_sample_norms(layer, norms);
    for (int i = 0; i < LODE_SAMPLE_NORMS; i++) {
        norms[i]->weight = ones;
        norms[i]->bias = norms[i]->kind == LODE_NORM_LAYER ? zeros : NULL;
    }
    return LODE_OK;
}

static void list_shapes(lode_sample_t *sample) {
    const lode_layer_t *layer = &sample->layer[0];
    const bool gated = layer->gate.data != NULL;
    const lode_sample_shape_t shapes[] = {{"q", &layer->q, 1},
                                          {"k and v", &layer->k, 2},
                                          {"o", &layer->o, 1},
                                          {gated ? "gate and up" : "up", &layer->up, 1 + gated},
                                          {"down", &layer->down, 1}};
    memcpy(sample->shape, shapes, sizeof shapes);
}

/* A layer of the same heads whose hidden states are NARROW wide, without channels, norms and
 * positions: nearly all of its time is attention's. */
static lode_status_t make_narrow(lode_sample_t *sample) {
    const lode_layer_t *layer = &sample->layer[0];
    const int64_t qw = layer->q.out, kw = layer->k.out;
    lode_real_t *matrix;
    LODE_TRY(own_reals(sample, &matrix, NARROW * most(qw, kw), "weights"));
    fill(matrix, NARROW * most(qw, kw));
    lode_layer_t *narrow = &sample->narrow;
    *narrow =
        (lode_layer_t){.d = NARROW, .attention = layer->attention, .activation = layer->activation};
    lode_norm_t *norms[LODE_SAMPLE_NORMS];
    lode_sample_norms(narrow, norms);
    for (int i = 0; i < LODE_SAMPLE_NORMS; i++)
        norms[i]->width = NARROW;
    narrow->q_norm.width = qw;
    narrow->k_norm.width = kw;
    const lode_dtype_t f32 = LODE_DTYPE_F32;
    lode_tensor_t q = lode_tensor_matrix(matrix, f32, qw, NARROW);
    lode_tensor_t k = lode_tensor_matrix(matrix, f32, kw, NARROW);
    lode_tensor_t o = lode_tensor_matrix(matrix, f32, NARROW, qw);
    lode_tensor_t none = lode_tensor_matrix(matrix, f32, 0, NARROW);
    lode_tensor_t down = lode_tensor_matrix(matrix, f32, NARROW, 0);
    narrow->q = lode_weight_of(&q);
    narrow->k = narrow->v = lode_weight_of(&k);
    narrow->o = lode_weight_of(&o);
    narrow->gate = narrow->up = lode_weight_of(&none);
    narrow->down = lode_weight_of(&down);
    return LODE_OK;
}

static lode_status_t make_sequences(lode_sample_t *sample) {
    const int64_t count = (sample->tokens + sample->length - 1) / sample->length;
    const int64_t window = lode_architecture_window(sample->architecture, 0);
    int64_t *offsets;
    LODE_TRY(own(sample, &offsets, count + 1, sizeof *offsets, "sequences"));
    for (int64_t s = 0; s <= count; s++)
        offsets[s] = s < count ? s * sample->length : sample->tokens;
    sample->sequences = (lode_sequences_t){.count = count, .offsets = offsets};
    for (int64_t s = 0; s < count; s++)
        for (int64_t t = 0; t < offsets[s + 1] - offsets[s]; t++)
            sample->pairs += (double)(window > 0 && t >= window ? window : t + 1);
    return LODE_OK;
}

static lode_status_t make_head(lode_sample_t *sample, const lode_real_t *ones) {
    const lode_architecture_t *a = sample->architecture;
    const lode_tensor_t tensor = lode_tensor_matrix(ones, sample->dtype, a->vocab, a->hidden);
    sample->head = lode_weight_of(&tensor);
    LODE_TRY(fill_weight(sample, &sample->head, LODE_ROLE_EMBEDDING, 0));
    sample->final_norm =
        (lode_norm_t){.kind = a->norm, .width = a->hidden, .eps = a->norm_eps, .weight = ones};
    LODE_TRY(own(sample, &sample->target, sample->tokens, sizeof *sample->target, "targets"));
    for (int64_t t = 0; t < sample->tokens; t++)
        sample->target[t] = (int32_t)(t * 7919 % a->vocab);
    const int64_t enough = 4 * lode_loss_chunk(a->vocab);
    sample->head_rows = sample->tokens < enough ? sample->tokens : enough;
    return LODE_OK;
}

static lode_status_t make_activations(lode_sample_t *sample) {
    const int64_t tokens = sample->tokens, d = sample->architecture->hidden;
    const int64_t each = tokens * lode_activations_per_token(&sample->layer[0]);
    const int64_t narrow = tokens * lode_activations_per_token(&sample->narrow);
    lode_real_t *memory;
    LODE_TRY(own(sample, &sample->activations, sample->layers, sizeof *sample->activations,
                 "activations"));
    LODE_TRY(own_reals(sample, &memory, (sample->layers + 1) * each + narrow, "activations"));
    LODE_TRY(own_reals(sample, &sample->x, (sample->layers + 2) * tokens * d, "hidden states"));
    sample->dy = sample->x + (sample->layers + 1) * tokens * d;
    LODE_TRY(own_reals(sample, &sample->narrow_x, 2 * tokens * NARROW, "hidden states"));
    sample->narrow_y = sample->narrow_x + tokens * NARROW;
    fill(sample->x, tokens * d);
    fill(sample->narrow_x, tokens * NARROW);
    for (int64_t l = 0; l < sample->layers; l++) {
        lode_activations_place(&sample->activations[l], &sample->layer[l], tokens,
                               memory + l * each);
        sample->activations[l].x = sample->x + l * tokens * d;
    }
    lode_activations_place(&sample->shared, &sample->layer[0], tokens,
                           memory + sample->layers * each);
    lode_activations_place(&sample->narrow_activations, &sample->narrow, tokens,
                           memory + (sample->layers + 1) * each);
    sample->narrow_activations.x = sample->narrow_x;
    return LODE_OK;
}

/* Where training puts gradients, laid out as the weights of the layers, which are alike. */
static lode_status_t make_gradient(lode_sample_t *sample, int64_t matrix, int64_t widest) {
    lode_layer_t *layer = &sample->layer[0];
    lode_layer_gradient_t *gradient = &sample->gradient;
    lode_real_t *data, *vector;
    LODE_TRY(own_reals(sample, &data, matrix, "gradients"));
    LODE_TRY(own_reals(sample, &vector, widest, "gradients"));
    for (int which = 0; which < LODE_MATRICES; which++) {
        const lode_weight_t *weight = lode_layer_matrix(layer, (lode_layer_matrix_t)which);
        if (weight->data)
            gradient->matrix[which] = (lode_gradient_t){.data = data,
                                                        .pitch = weight->pitch,
                                                        .transposed = weight->transposed,
                                                        .bias = weight->bias ? vector : NULL};
    }
    const struct {
        const lode_norm_t *norm;
        lode_real_t **weight, **bias;
    } norms[] = {
        {&layer->attention_norm, &gradient->attention_norm, &gradient->attention_norm_bias},
        {&layer->attention_post_norm, &gradient->attention_post_norm, NULL},
        {&layer->ffn_norm, &gradient->ffn_norm, &gradient->ffn_norm_bias},
        {&layer->ffn_post_norm, &gradient->ffn_post_norm, NULL},
        {&layer->q_norm, &gradient->q_norm, NULL},
        {&layer->k_norm, &gradient->k_norm, NULL},
    };
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
        *norms[i].weight = norms[i].norm->weight ? vector : NULL;
        if (norms[i].bias)
            *norms[i].bias = norms[i].norm->bias ? vector : NULL;
    }
    sample->moved_count = MOVED;
    for (int i = 0; i < LODE_SAMPLE_MOVED; i++) {
        LODE_TRY(own(sample, &sample->moved[i], MOVED, sizeof **sample->moved, "parameters"));
        for (int64_t e = 0; e < MOVED; e++)
            sample->moved[i][e] = (float)(e % 1000 + 1) / 1000;
    }
    return LODE_OK;
}

static lode_status_t make_operands(lode_sample_t *sample) {
    const lode_architecture_t *a = sample->architecture;
    const int64_t query = a->heads * a->head_dim;
    const int64_t widest = most(a->intermediate, most(a->hidden, query));
    const int64_t longest = sample->tokens < sample->length ? sample->tokens : sample->length;
    int64_t matrix = 0, work;
    for (int s = 0; s < LODE_SAMPLE_SHAPES; s++)
        matrix = most(matrix, sample->shape[s].weight->out * sample->shape[s].weight->in);
    for (int i = 0; i < LODE_SAMPLE_WIDE; i++) {
        LODE_TRY(own_reals(sample, &sample->wide[i], sample->tokens * widest, "operands"));
        fill(sample->wide[i], sample->tokens * widest);
    }
    LODE_TRY(own_reals(sample, &sample->dense, matrix, "matrix"));
    fill(sample->dense, matrix);
    LODE_TRY(make_gradient(sample, matrix, widest));
    LODE_TRY(own_reals(sample, &sample->inverse, sample->tokens * a->heads, "norms"));
    LODE_TRY(own(sample, &sample->sums, 4 * most(a->intermediate, sample->tokens),
                 sizeof *sample->sums, "sums"));
    work = most(lode_layer_workspace(&sample->layer[0], sample->tokens, longest, sample->threads),
                lode_layer_workspace(&sample->narrow, sample->tokens, longest, sample->threads));
    work = most(work, lode_loss_workspace(&sample->head));
    return own_reals(sample, &sample->workspace, work, "work space");
}

lode_status_t lode_sample_create(lode_sample_t *out, const lode_outline_t *outline, int64_t tokens,
                                 int64_t length, int64_t layers, int threads) {
    const lode_architecture_t *a = &outline->architecture;
    const int64_t widest = most(a->hidden, most(a->intermediate, a->heads * a->head_dim));
    lode_real_t *ones, *zeros, *tables;
    *out = (lode_sample_t){.architecture = a,
                           .dtype = outline->dtype,
                           .tokens = tokens,
                           .length = length,
                           .layers = layers,
                           .threads = threads,
                           .owned_room = 40 + ROLES_OF_WEIGHTS * layers};
    LODE_TRY(LODE_NEW(&out->owned, out->owned_room, "weights"));
    LODE_TRY(own_reals(out, &ones, widest, "vectors"));
    LODE_TRY(own_reals(out, &zeros, widest, "vectors"));
    for (int64_t i = 0; i < widest; i++)
        ones[i] = 1;
    LODE_TRY(own_reals(out, &tables, lode_rope_memory(&a->rotary, length), "positions"));
    const lode_rope_t rope = lode_rope_create(&a->rotary, length, tables);
    LODE_TRY(own(out, &out->layer, layers, sizeof *out->layer, "layers"));
    for (int64_t l = 0; l < layers; l++) {
        LODE_TRY(fill_layer(out, l, ones, zeros));
        out->layer[l].rope = rope;
    }
    list_shapes(out);
    LODE_TRY(make_narrow(out));
    LODE_TRY(make_sequences(out));
    LODE_TRY(make_head(out, ones));
    LODE_TRY(make_activations(out));
    return make_operands(out);
}

void lode_sample_free(lode_sample_t *sample) {
    for (int64_t i = 0; i < sample->owned_count; i++)
        free(sample->owned[i]);
    free(sample->owned);
    *sample = (lode_sample_t){0};
}
