/* How fast a decoder layer is computed, in shapes of published models and of the embedded one,
 * against SGEMM on the same products in the same run.
 *
 *   layer_speed [--tokens N] [--sequence N] [--rounds N] [--threads N,N...] [--dtypes NAME,NAME...]
 *               [--clock wall|cpu] [--kernels 1] [--head 1] [--train 1] [SHAPE...]
 *
 * A micro-batch of N tokens (2048) in sequences of N (2048, or what the model has) goes through one
 * layer with random weights, for each dtype of weights (BF16; GPT-2's are F32) and number of
 * threads (1,2). A line gives SGEMM's rate and the shares of it that are reached by the forward, by
 * forward and backward with the activations kept, and by the same with activations computed again.
 * Flops are those that the layer executes, without masked scores. SGEMM and the layer take turns; a
 * share is the median of those of the rounds (3). The clock is the wall's, for a machine that does
 * nothing else; "cpu" is the time that the process computes, for one thread on a busy machine.
 *
 * --kernels adds a line a kernel: seconds, GFLOP/s or GB/s, and what it is of the forward or the
 * backward. --head adds the head with its loss, the forward alone and with the gradient, against
 * SGEMM on the head's product. --train adds the forward and the backward with the gradients of all
 * weights, once of all flops that are executed and once of 6 flops for each weight and token alone,
 * the attention's left out; and SGEMM's own rate on the gradients' products.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "kernels/layer.h"
#include "kernels/loss.h"
#include "kernels/statistics.h"
#include "testing/timing.h"

typedef struct shape {
    const char *name;
    int64_t d, m, heads, kv_heads, head_dim, window, longest, vocab;
    lode_activation_t activation;
    lode_norm_kind_t norm;
    lode_qk_norm_t qk_norm;
    bool plain; /* no gate, biases, no rotary positions, weights float32 and stored [in, out] */
    bool before, after; /* norms before and after the blocks */
    double cap, clip;
} shape_t;

static const shape_t shapes[] = {
    {"llama3-8b", 4096, 14336, 32, 8, 128, 0, 8192, 128256, LODE_ACTIVATION_SILU, LODE_NORM_RMS,
     LODE_QK_NORM_NONE, .before = true},
    {"tinyllama", 2048, 5632, 32, 4, 64, 0, 2048, 32000, LODE_ACTIVATION_SILU, LODE_NORM_RMS,
     LODE_QK_NORM_NONE, .before = true},
    {"gemma2-2b", 2304, 9216, 8, 4, 256, 0, 8192, 256000, LODE_ACTIVATION_GELU_TANH, LODE_NORM_RMS,
     LODE_QK_NORM_NONE, .before = true, .after = true, .cap = 50},
    {"gpt2", 768, 3072, 12, 12, 64, 0, 1024, 50257, LODE_ACTIVATION_GELU_TANH, LODE_NORM_LAYER,
     LODE_QK_NORM_NONE, .plain = true, .before = true},
    {"phi3-mini", 3072, 8192, 32, 32, 96, 2047, 4096, 32064, LODE_ACTIVATION_SILU, LODE_NORM_RMS,
     LODE_QK_NORM_NONE, .before = true},
    {"olmo2-7b", 4096, 11008, 32, 32, 128, 0, 4096, 100352, LODE_ACTIVATION_SILU, LODE_NORM_RMS,
     LODE_QK_NORM_WHOLE, .after = true},
    {"olmo-1b", 2048, 8192, 16, 16, 128, 0, 2048, 50304, LODE_ACTIVATION_SILU, LODE_NORM_LAYER,
     LODE_QK_NORM_NONE, .before = true, .clip = 8},
    {"quickstart", 192, 576, 6, 2, 32, 0, 256, 2048, LODE_ACTIVATION_SILU, LODE_NORM_RMS,
     LODE_QK_NORM_NONE, .before = true},
    {"qwen3-0.6b", 1024, 3072, 16, 8, 128, 0, 8192, 151936, LODE_ACTIVATION_SILU, LODE_NORM_RMS,
     LODE_QK_NORM_HEAD, .before = true},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, WEIGHTS = 7, MANY = 32 };

typedef struct options {
    int64_t tokens, sequence;
    int rounds, threads[MANY], thread_counts;
    lode_dtype_t dtypes[MANY];
    int dtype_count;
    bool kernels, head, train;
} options_t;

/* Everything that is allocated for a shape. */
typedef struct bench {
    const shape_t *shape;
    lode_dtype_t dtype;
    lode_layer_t layer;
    lode_weight_t head;
    lode_rotary_t rotary;
    lode_sequences_t sequences;
    lode_activations_t activations;
    int64_t tokens;
    void *matrices;
    int64_t *offsets;
    lode_real_t *vectors, *positions, *x, *y, *dy, *kept, *workspace, *operand;
    lode_real_t *gradients; /* of all weights; NULL: none are wanted */
    lode_layer_gradient_t gradient;
    int32_t *target;
    double *sums;
} bench_t;

/* --- set-up ----------------------------------------------------------------------------------- */

static void weights_of(bench_t *bench, lode_weight_t *weights[WEIGHTS]) {
    lode_layer_t *layer = &bench->layer;
    lode_weight_t *all[] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                            &layer->gate, &layer->up, &layer->down};
    memcpy(weights, all, sizeof all);
}

static int64_t elements_of(const shape_t *shape) {
    return 2 * shape->d * (shape->heads + shape->kv_heads) * shape->head_dim +
           3 * shape->d * shape->m;
}

/* Elements of all matrices, the head's with it where it is wanted. */
static int64_t all_elements(const shape_t *shape, bool head) {
    return elements_of(shape) + (head ? shape->d * shape->vocab : 0);
}

/* The next matrix of the memory, of any values around 0.02. */
static lode_weight_t take_matrix(unsigned char **next, const shape_t *shape, lode_dtype_t dtype,
                                 int64_t out, int64_t in, const lode_real_t *bias) {
    lode_tensor_t tensor = lode_tensor_matrix(*next, dtype, out, in);
    tensor.transposed = shape->plain;
    if (shape->plain)
        tensor.pitch = out;
    *next += (size_t)(out * in) * lode_dtype_size(dtype);
    lode_weight_t weight = lode_weight_of(&tensor);
    weight.bias = shape->plain ? bias : NULL;
    return weight;
}

/* Values of either sign from 2⁻⁶ to 2⁻⁵. */
static void fill_matrices(lode_dtype_t dtype, void *memory, int64_t count) {
    uint16_t *halves = memory;
    float *floats = memory;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t mixed = (uint32_t)i * 2654435761u, sign = mixed >> 9 & 0x8000u;
        if (dtype == LODE_DTYPE_F32)
            floats[i] = (sign ? -0x1p-6f : 0x1p-6f) * (1 + (float)(mixed >> 25) / 128);
        else if (dtype == LODE_DTYPE_F16)
            halves[i] = (uint16_t)(0x2400u | (mixed >> 22) | sign);
        else
            halves[i] = (uint16_t)(0x3c80u | (mixed >> 25) | sign);
    }
}

static lode_norm_t norm_of(const shape_t *shape, bool applied, int64_t width,
                           const lode_real_t *vector) {
    return (lode_norm_t){.kind = applied ? shape->norm : LODE_NORM_NONE,
                         .width = width,
                         .eps = 1e-6,
                         .weight = vector,
                         .bias = shape->plain ? vector : NULL};
}

static void set_layer(bench_t *bench) {
    const shape_t *s = bench->shape;
    const int64_t qw = s->heads * s->head_dim, kw = s->kv_heads * s->head_dim;
    const lode_real_t *v = bench->vectors;
    unsigned char *next = bench->matrices;
    lode_layer_t *layer = &bench->layer;
    *layer = (lode_layer_t){.d = s->d, .m = s->m, .clip = s->clip, .activation = s->activation};
    layer->attention = (lode_attention_shape_t){.heads = s->heads,
                                                .kv_heads = s->kv_heads,
                                                .head_dim = s->head_dim,
                                                .scale = 1 / sqrt((double)s->head_dim),
                                                .cap = s->cap,
                                                .window = s->window};
    layer->attention_norm = layer->ffn_norm = norm_of(s, s->before, s->d, v);
    layer->attention_post_norm = layer->ffn_post_norm = norm_of(s, s->after, s->d, v);
    const bool head = s->qk_norm == LODE_QK_NORM_HEAD, any = s->qk_norm != LODE_QK_NORM_NONE;
    layer->q_norm = norm_of(s, any, head ? s->head_dim : qw, v);
    layer->k_norm = norm_of(s, any, head ? s->head_dim : kw, v);
    layer->q = take_matrix(&next, s, bench->dtype, qw, s->d, v);
    layer->k = take_matrix(&next, s, bench->dtype, kw, s->d, v);
    layer->v = take_matrix(&next, s, bench->dtype, kw, s->d, v);
    layer->o = take_matrix(&next, s, bench->dtype, s->d, qw, v);
    if (!s->plain)
        layer->gate = take_matrix(&next, s, bench->dtype, s->m, s->d, v);
    layer->up = take_matrix(&next, s, bench->dtype, s->m, s->d, v);
    layer->down = take_matrix(&next, s, bench->dtype, s->d, s->m, v);
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static lode_status_t bench_sequences(bench_t *bench, const options_t *options, int64_t *length) {
    const int64_t tokens = options->tokens, longest = bench->shape->longest;
    *length = options->sequence < longest ? options->sequence : longest;
    *length = *length < tokens ? *length : tokens;
    const int64_t count = (tokens + *length - 1) / *length;
    LODE_TRY(LODE_NEW(&bench->offsets, count + 1, "sequences"));
    for (int64_t s = 0; s <= count; s++)
        bench->offsets[s] = s * *length < tokens ? s * *length : tokens;
    bench->sequences = (lode_sequences_t){.count = count, .offsets = bench->offsets};
    bench->rotary =
        (lode_rotary_t){.kind = bench->shape->plain ? LODE_ROTARY_NONE : LODE_ROTARY_DEFAULT,
                        .dims = bench->shape->head_dim,
                        .theta = 10000,
                        .attention_factor = 1};
    LODE_TRY(LODE_NEW(&bench->positions, lode_rope_memory(&bench->rotary, *length), "positions"));
    return LODE_OK;
}

/* Weights, and room for a float matrix of SGEMM's with its operands. */
static lode_status_t bench_weights(bench_t *bench, const options_t *options, int64_t wide) {
    const shape_t *shape = bench->shape;
    const int64_t elements = all_elements(shape, options->head);
    unsigned char *matrices;
    LODE_TRY(LODE_NEW_RAW(&matrices, elements * (int64_t)lode_dtype_size(bench->dtype), "weights"));
    bench->matrices = matrices;
    fill_matrices(bench->dtype, matrices, elements);
    LODE_TRY(LODE_NEW(&bench->vectors, wide, "vectors"));
    for (int64_t i = 0; i < wide; i++)
        bench->vectors[i] = (lode_real_t)(i % 7) / 8 + (lode_real_t)0.5;
    set_layer(bench);
    unsigned char *head = matrices + (size_t)elements_of(shape) * lode_dtype_size(bench->dtype);
    if (options->head)
        bench->head = take_matrix(&head, shape, bench->dtype, shape->vocab, shape->d, NULL);
    LODE_TRY(LODE_NEW(&bench->operand, wide * (2 * bench->tokens + shape->d), "operands"));
    LODE_TRY(LODE_NEW(&bench->target, bench->tokens, "targets"));
    LODE_TRY(LODE_NEW(&bench->sums, 4 * shape->m + 2 * bench->tokens, "sums"));
    return LODE_OK;
}

/* Room for the gradients of all weights. */
static lode_status_t bench_gradients(bench_t *bench, int64_t wide) {
    enum { VECTORS = 8 };
    lode_weight_t *weights[WEIGHTS];
    lode_layer_gradient_t *gradient = &bench->gradient;
    const int64_t vectors = (VECTORS + WEIGHTS) * wide;
    LODE_TRY(LODE_NEW(&bench->gradients, elements_of(bench->shape) + vectors, "gradients"));
    weights_of(bench, weights);
    lode_real_t *next = bench->gradients + vectors, *vector = bench->gradients;
    for (int i = 0; i < WEIGHTS; i++) {
        gradient->matrix[i] = (lode_gradient_t){.data = next,
                                                .pitch = weights[i]->pitch,
                                                .transposed = weights[i]->transposed,
                                                .bias = weights[i]->bias ? vector : NULL};
        next += weights[i]->out * weights[i]->in;
        vector += wide;
    }
    lode_real_t **places[VECTORS] = {&gradient->attention_norm,
                                     &gradient->attention_norm_bias,
                                     &gradient->attention_post_norm,
                                     &gradient->ffn_norm,
                                     &gradient->ffn_norm_bias,
                                     &gradient->ffn_post_norm,
                                     &gradient->q_norm,
                                     &gradient->k_norm};
    for (int i = 0; i < VECTORS; i++, vector += wide)
        *places[i] = vector;
    return LODE_OK;
}

static lode_status_t bench_create(bench_t *bench, const shape_t *shape, lode_dtype_t dtype,
                                  const options_t *options) {
    const int64_t tokens = options->tokens;
    const int64_t wide = most(shape->m, most(shape->d, shape->heads * shape->head_dim));
    int64_t length;
    *bench = (bench_t){.shape = shape, .dtype = dtype, .tokens = tokens};
    LODE_TRY(bench_sequences(bench, options, &length));
    LODE_TRY(bench_weights(bench, options, wide));
    if (options->train)
        LODE_TRY(bench_gradients(bench, wide));
    bench->layer.rope = lode_rope_create(&bench->rotary, length, bench->positions);
    LODE_TRY(LODE_NEW(&bench->x, 3 * tokens * shape->d, "hidden states"));
    bench->y = bench->x + tokens * shape->d;
    bench->dy = bench->y + tokens * shape->d;
    LODE_TRY(LODE_NEW(&bench->kept, tokens * lode_activations_per_token(&bench->layer), "layer"));
    lode_activations_place(&bench->activations, &bench->layer, tokens, bench->kept);
    bench->activations.x = bench->x;
    int most_threads = 1;
    for (int i = 0; i < options->thread_counts; i++)
        most_threads = options->threads[i] > most_threads ? options->threads[i] : most_threads;
    int64_t room = lode_layer_workspace(&bench->layer, tokens, length, most_threads);
    if (options->head)
        room = most(room, lode_loss_workspace(&bench->head));
    LODE_TRY(LODE_NEW(&bench->workspace, room, "work space"));
    for (int64_t i = 0; i < tokens * shape->d; i++)
        bench->x[i] = (lode_real_t)((i * 7919) % 2001 - 1000) / 500;
    for (int64_t i = 0; i < wide * (2 * tokens + shape->d); i++)
        bench->operand[i] = (lode_real_t)((i * 7919) % 2001 - 1000) / 50000;
    return LODE_OK;
}

static void bench_destroy(bench_t *bench) {
    free(bench->offsets);
    free(bench->matrices);
    free(bench->vectors);
    free(bench->positions);
    free(bench->x);
    free(bench->kept);
    free(bench->workspace);
    free(bench->operand);
    free(bench->gradients);
    free(bench->target);
    free(bench->sums);
}

/* --- work that is timed ----------------------------------------------------------------------- */

/* The product of x [tokens, in] with a matrix that needs no conversion, or of dy [tokens, out]. */
static void one_product(bench_t *bench, int64_t out, int64_t in, bool backward) {
    const lode_real_t *matrix = bench->operand, *x = bench->kept;
    const int tokens = (int)bench->tokens;
    if (backward)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, tokens, (int)in, (int)out, 1, x,
                    (int)out, matrix, (int)in, 0, bench->workspace, (int)in);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, tokens, (int)out, (int)in, 1, x,
                    (int)in, matrix, (int)in, 0, bench->workspace, (int)out);
}

static void products(bench_t *bench, bool backward) {
    lode_weight_t *weights[WEIGHTS];
    weights_of(bench, weights);
    for (int i = 0; i < WEIGHTS; i++)
        if (weights[i]->data)
            one_product(bench, weights[i]->out, weights[i]->in, backward);
}

static void sgemm_forward(bench_t *bench) {
    products(bench, false);
}

/* The products of the weights' gradients. */
static void sgemm_gradient(bench_t *bench) {
    lode_weight_t *weights[WEIGHTS];
    weights_of(bench, weights);
    for (int i = 0; i < WEIGHTS; i++)
        if (weights[i]->data)
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)weights[i]->out,
                        (int)weights[i]->in, (int)bench->tokens, 1, bench->kept,
                        (int)weights[i]->out, bench->operand, (int)weights[i]->in, 1,
                        bench->gradients, (int)weights[i]->in);
}

static void sgemm_backward(bench_t *bench) {
    products(bench, true);
}

static void layer_forward(bench_t *bench) {
    lode_layer_forward(&bench->layer, &bench->sequences, &bench->activations, bench->y,
                       bench->workspace, NULL, NULL);
}

static void layer_again(bench_t *bench) {
    lode_layer_forward(&bench->layer, &bench->sequences, &bench->activations, NULL,
                       bench->workspace, NULL, NULL);
}

static void backward(bench_t *bench, const lode_layer_gradient_t *gradient) {
    const lode_real_t *u, *du;
    lode_layer_backward_ffn(&bench->layer, &bench->sequences, &bench->activations, bench->dy,
                            bench->workspace, gradient, &u, &du);
    lode_layer_backward_rest(&bench->layer, &bench->sequences, &bench->activations, bench->dy,
                             bench->workspace, gradient);
}

static void layer_backward(bench_t *bench) {
    backward(bench, NULL);
}

static void layer_train(bench_t *bench) {
    backward(bench, &bench->gradient);
}

static double time_of(bench_t *bench, void (*work)(bench_t *)) {
    const double begin = lode_test_seconds();
    work(bench);
    return lode_test_seconds() - begin;
}

/* --- the layer -------------------------------------------------------------------------------- */

/* Flops of the weight products one way, and of the scores one way: pairs of a token and one that it
 * sees, in two products. */
static double product_flops(bench_t *bench) {
    lode_weight_t *weights[WEIGHTS];
    weights_of(bench, weights);
    double flops = 0;
    for (int i = 0; i < WEIGHTS; i++)
        flops += 2.0 * (double)bench->tokens * (double)(weights[i]->out * weights[i]->in);
    return flops;
}

static double score_flops(const bench_t *bench) {
    const int64_t window = bench->layer.attention.window;
    double pairs = 0;
    for (int64_t s = 0; s < bench->sequences.count; s++)
        for (int64_t t = 0; t < bench->offsets[s + 1] - bench->offsets[s]; t++)
            pairs += (double)(window > 0 && t >= window ? window : t + 1);
    return 4 * pairs * (double)bench->layer.q.out;
}

/* Flops of computing the activations again: all but the last product. */
static double again_flops(bench_t *bench) {
    const bool whole = bench->shape->after;
    return product_flops(bench) + score_flops(bench) -
           (whole ? 0
                  : 2.0 * (double)(bench->tokens * bench->layer.down.out * bench->layer.down.in));
}

/* Rounds of: SGEMM, forward, forward again, backward. */
static void time_layer(bench_t *bench, const options_t *options, int threads) {
    enum { RATE, RATE_BACKWARD, FORWARD, BOTH, AGAIN, SPEED, COLUMNS };
    double columns[COLUMNS][MANY];
    const double products_one = product_flops(bench), scores = score_flops(bench);
    const double flops_forward = products_one + scores;
    /* the attention's backward has five products for the forward's two */
    const double flops_both = 2 * products_one + 3.5 * scores, flops_again = again_flops(bench);
    for (int r = 0; r < options->rounds; r++) {
        const double gemm = time_of(bench, sgemm_forward), forward = time_of(bench, layer_forward);
        memcpy(bench->dy, bench->y, (size_t)(bench->tokens * bench->shape->d) * sizeof *bench->dy);
        const double backward = time_of(bench, layer_backward);
        const double gemm_backward = time_of(bench, sgemm_backward);
        const double again = time_of(bench, layer_again), rate = products_one / gemm;
        columns[RATE][r] = rate / 1e9;
        columns[RATE_BACKWARD][r] = products_one / gemm_backward / 1e9;
        columns[FORWARD][r] = 100 * flops_forward / forward / rate;
        columns[BOTH][r] = 100 * flops_both / (forward + backward) / rate;
        columns[AGAIN][r] = 100 * (flops_both + flops_again) / (forward + again + backward) / rate;
        columns[SPEED][r] = (double)bench->tokens / (forward + backward);
    }
    printf("%-10s %-4s %7d", bench->shape->name, lode_dtype_name(bench->dtype), threads);
    for (int c = 0; c < COLUMNS; c++)
        printf(" %9.1f", lode_test_median(columns[c], options->rounds));
    printf("\n");
    fflush(stdout);
}

/* Rounds of: SGEMM, forward, backward with the weights' gradients. */
static void time_training(bench_t *bench, const options_t *options) {
    double own[MANY], executed[MANY], weights[MANY];
    const double products_one = product_flops(bench), scores = score_flops(bench);
    for (int r = 0; r < options->rounds; r++) {
        const double gemm = time_of(bench, sgemm_forward), forward = time_of(bench, layer_forward);
        memcpy(bench->dy, bench->y, (size_t)(bench->tokens * bench->shape->d) * sizeof *bench->dy);
        const double time = forward + time_of(bench, layer_train), rate = products_one / gemm;
        own[r] = 100 * products_one / time_of(bench, sgemm_gradient) / rate;
        executed[r] = 100 * (3 * products_one + 3.5 * scores) / time / rate;
        weights[r] = 100 * 3 * products_one / time / rate;
    }
    printf("    training: SGEMM of the gradients %.1f %%, all flops %.1f %%, 6 flops a weight and "
           "token %.1f %%\n",
           lode_test_median(own, options->rounds), lode_test_median(executed, options->rounds),
           lode_test_median(weights, options->rounds));
    fflush(stdout);
}

/* --- its kernels ------------------------------------------------------------------------------ */

static void linear(bench_t *bench, bool backward) {
    lode_weight_t *weights[WEIGHTS];
    weights_of(bench, weights);
    lode_real_t *wide = bench->operand, *rest = bench->workspace;
    for (int i = 0; i < WEIGHTS; i++) {
        if (!weights[i]->data)
            continue;
        if (backward)
            lode_linear_backward(weights[i], bench->tokens, bench->kept, false, wide, rest);
        else
            lode_linear_forward(weights[i], bench->tokens, bench->kept, false, wide, rest);
    }
}

static void linear_forward(bench_t *bench) {
    linear(bench, false);
}

static void linear_backward(bench_t *bench) {
    linear(bench, true);
}

static void attention(bench_t *bench, bool backward) {
    const lode_attention_shape_t *shape = &bench->layer.attention;
    const lode_activations_t *act = &bench->activations;
    const int64_t qw = bench->layer.q.out, kw = bench->layer.k.out;
    lode_real_t *dq = bench->operand, *dk = dq + bench->tokens * qw, *dv = dk + bench->tokens * kw;
    for (int64_t s = 0; s < bench->sequences.count; s++) {
        const int64_t first = bench->offsets[s], tokens = bench->offsets[s + 1] - first;
        const int64_t q = first * qw, k = first * kw;
        if (backward)
            lode_attention_backward(shape, tokens, act->q + q, act->k + k, act->v + k, act->o + q,
                                    act->softmax + 2 * first * shape->heads, act->o + q, dq + q,
                                    dk + k, dv + k, bench->workspace);
        else
            lode_attention_forward(shape, tokens, act->q + q, act->k + k, act->v + k, dq + q,
                                   act->softmax + 2 * first * shape->heads, bench->workspace);
    }
}

static void attention_forward(bench_t *bench) {
    attention(bench, false);
}

static void attention_backward(bench_t *bench) {
    attention(bench, true);
}

static void norms_forward(bench_t *bench) {
    const lode_activations_t *act = &bench->activations;
    lode_norm_forward(&bench->layer.attention_norm, bench->tokens, bench->x, bench->operand,
                      act->inverse_attention);
    lode_norm_forward(&bench->layer.ffn_norm, bench->tokens, act->x_mid, bench->operand,
                      act->inverse_ffn);
}

static void norms_backward(bench_t *bench) {
    const lode_activations_t *act = &bench->activations;
    lode_norm_backward(&bench->layer.attention_norm, bench->tokens, bench->y, bench->x,
                       act->inverse_attention, true, bench->operand);
    lode_norm_backward(&bench->layer.ffn_norm, bench->tokens, bench->y, act->x_mid,
                       act->inverse_ffn, true, bench->operand);
}

static void rotary(bench_t *bench) {
    const lode_attention_shape_t *shape = &bench->layer.attention;
    for (int64_t s = 0; s < bench->sequences.count; s++) {
        const int64_t first = bench->offsets[s], tokens = bench->offsets[s + 1] - first;
        lode_rope_turn(&bench->layer.rope, tokens, shape->heads, shape->kv_heads, shape->head_dim,
                       false, bench->operand + first * bench->layer.q.out,
                       bench->operand + first * bench->layer.k.out, bench->workspace);
    }
}

static void units_forward(bench_t *bench) {
    lode_layer_channels(&bench->layer, bench->tokens, &bench->activations, bench->operand);
}

static void units_backward(bench_t *bench) {
    const lode_activations_t *act = &bench->activations;
    lode_real_t *d = bench->operand;
    lode_activation_backward(bench->layer.activation, bench->tokens * bench->layer.m, act->up,
                             act->gate, act->up, d, bench->workspace);
}

/* What LP and its kin take, a sequence at a time. */
static void statistics(bench_t *bench) {
    const int64_t m = bench->layer.m;
    const lode_activations_t *act = &bench->activations;
    const lode_real_t *u = act->up, *g = act->gate ? act->gate : act->up;
    double *sums = bench->sums;
    for (int64_t s = 0; s < bench->sequences.count; s++) {
        const int64_t first = bench->offsets[s], tokens = bench->offsets[s + 1] - first;
        lode_statistics_backward(tokens, m, u + first * m, g + first * m, sums, sums + m,
                                 sums + 2 * m, sums + 3 * m);
    }
}

typedef struct kernel {
    const char *name;
    void (*run)(bench_t *);
    bool backward;
    double flops; /* 0: its bytes are told */
    double bytes; /* read and written, each array once */
} kernel_t;

static void time_kernels(bench_t *bench, const options_t *options) {
    const double products_one = product_flops(bench), scores = score_flops(bench);
    const double real = sizeof(lode_real_t) * (double)bench->tokens;
    const double d = real * (double)bench->layer.d, m = real * (double)bench->layer.m;
    const double turned = real * (double)(bench->layer.q.out + bench->layer.k.out);
    const int gate = bench->layer.gate.data ? 1 : 0;
    const kernel_t kernels[] = {
        {"forward", layer_forward, false, products_one + scores, 0},
        {"  products", linear_forward, false, products_one, 0},
        {"  attention", attention_forward, false, scores, 0},
        {"  norms", norms_forward, false, 0, 4 * d},
        {"  rotary", rotary, false, 0, 2 * turned},
        {"  units", units_forward, false, 0, (2 + gate) * m},
        {"backward", layer_backward, true, products_one + 2.5 * scores, 0},
        {"  products", linear_backward, true, products_one, 0},
        {"  attention", attention_backward, true, 2.5 * scores, 0},
        {"  norms", norms_backward, true, 0, 8 * d},
        {"  rotary", rotary, true, 0, 2 * turned},
        {"  units again", units_forward, true, 0, (2 + gate) * m},
        {"  units", units_backward, true, 0, (3 + 2 * gate) * m},
        {"statistics", statistics, true, 0, 2 * m},
    };
    double whole[2] = {0};
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
        double times[MANY];
        for (int r = 0; r < options->rounds; r++) {
            if (kernels[k].run == layer_backward) /* which spoils the activations */
                layer_forward(bench);
            times[r] = time_of(bench, kernels[k].run);
        }
        const double time = lode_test_median(times, options->rounds);
        if (kernels[k].run == layer_backward)
            layer_forward(bench);
        if (kernels[k].name[0] != ' ' && kernels[k].run != statistics)
            whole[kernels[k].backward] = time;
        printf("    %-14s %9.4f s %8.1f %s %6.1f %%\n", kernels[k].name, time,
               (kernels[k].flops > 0 ? kernels[k].flops : kernels[k].bytes) / time / 1e9,
               kernels[k].flops > 0 ? "GFLOP/s" : "GB/s   ",
               100 * time / whole[kernels[k].backward]);
    }
    fflush(stdout);
}

/* --- the head --------------------------------------------------------------------------------- */

static void sgemm_head(bench_t *bench) {
    for (int64_t done = 0; done < bench->head.out; done += bench->shape->m) {
        const int64_t left = bench->head.out - done;
        one_product(bench, left < bench->shape->m ? left : bench->shape->m, bench->shape->d, false);
    }
}

static void head(bench_t *bench, bool gradient) {
    double *nll = bench->sums, *weight = nll + bench->tokens;
    for (int64_t t = 0; t < bench->tokens; t++) {
        bench->target[t] = (int32_t)(t * 7919 % bench->head.out);
        weight[t] = 1 / (double)bench->tokens;
    }
    lode_loss_run(&(lode_head_loss_t){.head = &bench->head,
                                      .rows = bench->tokens,
                                      .h = bench->x,
                                      .target = bench->target,
                                      .weight = weight,
                                      .nll = nll,
                                      .dh = gradient ? bench->operand : NULL,
                                      .workspace = bench->workspace});
}

static void head_forward(bench_t *bench) {
    head(bench, false);
}

static void head_both(bench_t *bench) {
    head(bench, true);
}

static void time_head(bench_t *bench, const options_t *options) {
    const double flops = 2.0 * (double)(bench->tokens * bench->head.out) * (double)bench->head.in;
    double rate[MANY], forward[MANY], both[MANY];
    for (int r = 0; r < options->rounds; r++) {
        const double gemm = time_of(bench, sgemm_head);
        rate[r] = flops / gemm / 1e9;
        forward[r] = 100 * gemm / time_of(bench, head_forward);
        both[r] = 200 * gemm / time_of(bench, head_both);
    }
    printf("    head and loss of %lld words: SGEMM %.1f GFLOP/s, forward %.1f %%, both %.1f %%\n",
           (long long)bench->head.out, lode_test_median(rate, options->rounds),
           lode_test_median(forward, options->rounds), lode_test_median(both, options->rounds));
    fflush(stdout);
}

/* --- the table -------------------------------------------------------------------------------- */

static lode_status_t run_shape(const shape_t *shape, lode_dtype_t dtype, const options_t *options) {
    bench_t bench;
    const lode_status_t status = bench_create(&bench, shape, dtype, options);
    for (int i = 0; status == LODE_OK && i < options->thread_counts; i++) {
        lode_set_threads(options->threads[i]);
        layer_forward(&bench); /* touches every page, and starts the threads */
        time_layer(&bench, options, options->threads[i]);
        if (options->train)
            time_training(&bench, options);
        if (options->kernels)
            time_kernels(&bench, options);
        if (options->head)
            time_head(&bench, options);
    }
    bench_destroy(&bench);
    return status;
}

static bool read_list(options_t *options, const char *name, char *value) {
    int count = 0;
    for (char *word = strtok(value, ","); word; word = strtok(NULL, ",")) {
        if (count == MANY)
            return false;
        if (strcmp(name, "--threads") == 0) {
            options->threads[count] = atoi(word);
            if (options->threads[count++] < 1)
                return false;
            continue;
        }
        int dtype = LODE_DTYPE_F32;
        while (dtype <= LODE_DTYPE_BF16 && strcmp(word, lode_dtype_name((lode_dtype_t)dtype)) != 0)
            dtype++;
        if (dtype > LODE_DTYPE_BF16)
            return false;
        options->dtypes[count++] = (lode_dtype_t)dtype;
    }
    *(strcmp(name, "--threads") == 0 ? &options->thread_counts : &options->dtype_count) = count;
    return count > 0;
}

static bool read_option(options_t *options, const char *name, char *value) {
    const int number = atoi(value);
    if (strcmp(name, "--threads") == 0 || strcmp(name, "--dtypes") == 0)
        return read_list(options, name, value);
    if (strcmp(name, "--clock") == 0)
        return lode_test_clock(value);
    if (strcmp(name, "--tokens") == 0)
        options->tokens = number;
    else if (strcmp(name, "--sequence") == 0)
        options->sequence = number;
    else if (strcmp(name, "--rounds") == 0)
        options->rounds = number < MANY ? number : MANY;
    else if (strcmp(name, "--kernels") == 0)
        options->kernels = number != 0;
    else if (strcmp(name, "--head") == 0)
        options->head = number != 0;
    else if (strcmp(name, "--train") == 0)
        options->train = number != 0;
    else
        return false;
    return options->tokens > 0 && options->sequence > 0 && options->rounds > 0;
}

int main(int argc, char **argv) {
    options_t options = {.tokens = 2048,
                         .sequence = 2048,
                         .rounds = 3,
                         .threads = {1, 2},
                         .thread_counts = 2,
                         .dtypes = {LODE_DTYPE_BF16},
                         .dtype_count = 1};
    int first = 1;
    while (first + 1 < argc && read_option(&options, argv[first], argv[first + 1]))
        first += 2;
    if (first < argc && strncmp(argv[first], "--", 2) == 0) {
        fprintf(stderr, "layer_speed: cannot use %s; see the head of its source\n", argv[first]);
        return 2;
    }
    printf("%-10s %-4s %7s %9s %9s %9s %9s %9s %9s\n", "shape", "type", "threads", "GFLOP/s",
           "transposed", "forward %", "both %", "again %", "tokens/s");
    for (int i = 0; i < SHAPES; i++) {
        bool wanted = first == argc;
        for (int a = first; a < argc; a++)
            wanted |= strcmp(argv[a], shapes[i].name) == 0;
        for (int j = 0; wanted && j < (shapes[i].plain ? 1 : options.dtype_count); j++)
            if (run_shape(&shapes[i], shapes[i].plain ? LODE_DTYPE_F32 : options.dtypes[j],
                          &options) != LODE_OK) {
                fprintf(stderr, "%s\n", lode_error_message());
                return 1;
            }
    }
    return 0;
}
