/* layer_speed: one decoder layer of published widths, forward and backward, on one thread, beside
 * SGEMM of the same products.
 *
 *   layer_speed [--tokens N] [--sequence N] [--rounds N] [SHAPE...]
 *
 * A micro-batch of N tokens (2048) in sequences of N (2048, or what the model has). Prints a line a
 * shape: seconds of CPU time of the forward, of forward and backward, of SGEMM on the forward's
 * weight products with operands that are float already, and of attention forward and backward; then
 * which share of SGEMM's rate the layer reaches, where masked scores do not count as work. The best
 * of all rounds (3) each.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/memory.h"
#include "kernels/layer.h"

typedef struct shape {
    const char *name;
    int64_t d, m, heads, kv_heads, head_dim, window, longest;
    lode_activation_t activation;
    lode_norm_kind_t norm;
    lode_qk_norm_t qk_norm;
    bool plain; /* no gate, biases, no rotary positions, weights float32 and stored [in, out] */
    bool before, after; /* norms before and after the blocks */
    double cap, clip;
} shape_t;

static const shape_t shapes[] = {
    {"tinyllama", 2048, 5632, 32, 4, 64, 0, 2048, LODE_ACTIVATION_SILU, LODE_NORM_RMS,
     LODE_QK_NORM_NONE, .before = true},
    {"gemma2-2b", 2304, 9216, 8, 4, 256, 0, 8192, LODE_ACTIVATION_GELU_TANH, LODE_NORM_RMS,
     LODE_QK_NORM_NONE, .before = true, .after = true, .cap = 50},
    {"gpt2", 768, 3072, 12, 12, 64, 0, 1024, LODE_ACTIVATION_GELU_TANH, LODE_NORM_LAYER,
     LODE_QK_NORM_NONE, .plain = true, .before = true},
    {"phi3-mini", 3072, 8192, 32, 32, 96, 2047, 4096, LODE_ACTIVATION_SILU, LODE_NORM_RMS,
     LODE_QK_NORM_NONE, .before = true},
    {"olmo2-7b", 4096, 11008, 32, 32, 128, 0, 4096, LODE_ACTIVATION_SILU, LODE_NORM_RMS,
     LODE_QK_NORM_WHOLE, .after = true},
    {"olmo-1b", 2048, 8192, 16, 16, 128, 0, 2048, LODE_ACTIVATION_SILU, LODE_NORM_LAYER,
     LODE_QK_NORM_NONE, .before = true, .clip = 8},
    {"qwen3-0.6b", 1024, 3072, 16, 8, 128, 0, 8192, LODE_ACTIVATION_SILU, LODE_NORM_RMS,
     LODE_QK_NORM_HEAD, .before = true},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, WEIGHTS = 7 };

typedef struct options {
    int64_t tokens, sequence;
    int rounds;
} options_t;

/* Everything that is allocated for a shape. */
typedef struct bench {
    const shape_t *shape;
    lode_layer_t layer;
    lode_rotary_t rotary;
    lode_sequences_t sequences;
    lode_activations_t activations;
    int64_t tokens;
    void *matrices;
    int64_t *offsets;
    lode_real_t *vectors, *positions, *x, *y, *dy, *kept, *workspace, *operand;
} bench_t;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

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

/* The next matrix of the memory, of any values around 0.02. */
static lode_weight_t take_matrix(unsigned char **next, const shape_t *shape, int64_t out,
                                 int64_t in, const lode_real_t *bias) {
    const lode_dtype_t dtype = shape->plain ? LODE_DTYPE_F32 : LODE_DTYPE_BF16;
    lode_tensor_t tensor = lode_tensor_matrix(*next, dtype, out, in);
    tensor.transposed = shape->plain;
    if (shape->plain)
        tensor.pitch = out;
    *next += (size_t)(out * in) * lode_dtype_size(dtype);
    lode_weight_t weight = lode_weight_of(&tensor);
    weight.bias = shape->plain ? bias : NULL;
    return weight;
}

static void fill_matrices(const shape_t *shape, void *memory, int64_t count) {
    uint16_t *halves = memory;
    float *floats = memory;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t mixed = (uint32_t)i * 2654435761u;
        if (shape->plain)
            floats[i] = ((float)(mixed >> 8) / (1 << 24) - 0.5f) * 0.06f;
        else /* 2⁻⁶ to 2⁻⁵, of either sign */
            halves[i] = (uint16_t)(0x3c80u | (mixed >> 25) | (mixed >> 9 & 0x8000u));
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
    layer->q = take_matrix(&next, s, qw, s->d, v);
    layer->k = take_matrix(&next, s, kw, s->d, v);
    layer->v = take_matrix(&next, s, kw, s->d, v);
    layer->o = take_matrix(&next, s, s->d, qw, v);
    if (!s->plain)
        layer->gate = take_matrix(&next, s, s->m, s->d, v);
    layer->up = take_matrix(&next, s, s->m, s->d, v);
    layer->down = take_matrix(&next, s, s->d, s->m, v);
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static lode_status_t bench_create(bench_t *bench, const shape_t *shape, const options_t *options) {
    const int64_t wanted = options->sequence < shape->longest ? options->sequence : shape->longest;
    const int64_t tokens = options->tokens, length = wanted < tokens ? wanted : tokens;
    const int64_t count = (tokens + length - 1) / length, elements = elements_of(shape);
    const int64_t wide = most(shape->m, most(shape->d, shape->heads * shape->head_dim));
    *bench = (bench_t){.shape = shape, .tokens = tokens};
    LODE_TRY(LODE_NEW(&bench->offsets, count + 1, "sequences"));
    for (int64_t s = 0; s <= count; s++)
        bench->offsets[s] = s * length < tokens ? s * length : tokens;
    bench->sequences = (lode_sequences_t){.count = count, .offsets = bench->offsets};
    LODE_TRY(LODE_NEW((float **)&bench->matrices, elements, "weights"));
    fill_matrices(shape, bench->matrices, elements);
    LODE_TRY(LODE_NEW(&bench->vectors, wide, "vectors"));
    for (int64_t i = 0; i < wide; i++)
        bench->vectors[i] = (lode_real_t)(i % 7) / 8 + (lode_real_t)0.5;
    set_layer(bench);
    bench->rotary = (lode_rotary_t){.kind = shape->plain ? LODE_ROTARY_NONE : LODE_ROTARY_DEFAULT,
                                    .dims = shape->head_dim,
                                    .theta = 10000,
                                    .attention_factor = 1};
    LODE_TRY(LODE_NEW(&bench->positions, lode_rope_memory(&bench->rotary, length), "positions"));
    bench->layer.rope = lode_rope_create(&bench->rotary, length, bench->positions);
    LODE_TRY(LODE_NEW(&bench->x, 3 * tokens * shape->d, "hidden states"));
    bench->y = bench->x + tokens * shape->d;
    bench->dy = bench->y + tokens * shape->d;
    LODE_TRY(LODE_NEW(&bench->kept, tokens * lode_activations_per_token(&bench->layer), "layer"));
    lode_activations_place(&bench->activations, &bench->layer, tokens, bench->kept);
    bench->activations.x = bench->x;
    LODE_TRY(LODE_NEW(&bench->workspace, lode_layer_workspace(&bench->layer, tokens, length, 1),
                      "work space"));
    LODE_TRY(LODE_NEW(&bench->operand, wide * (2 * tokens + shape->d), "operands"));
    for (int64_t i = 0; i < tokens * shape->d; i++)
        bench->x[i] = (lode_real_t)((i * 7919) % 2001 - 1000) / 500;
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
}

/* --- measuring -------------------------------------------------------------------------------- */

typedef struct times {
    double forward, backward, gemm, attend, attend_backward;
} times_t;

static void keep_best(double *best, double now) {
    *best = *best == 0 || now < *best ? now : *best;
}

/* The products of the forward, with operands that need no conversion. */
static double time_gemm(bench_t *bench) {
    lode_weight_t *weights[WEIGHTS];
    weights_of(bench, weights);
    const double begin = seconds();
    for (int i = 0; i < WEIGHTS; i++) {
        const lode_weight_t *weight = weights[i];
        if (!weight->data)
            continue;
        const int out = (int)weight->out, in = (int)weight->in, tokens = (int)bench->tokens;
        const lode_real_t *matrix = bench->operand, *x = matrix + weight->out * weight->in;
        lode_real_t *y = bench->workspace;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, tokens, out, in, 1, x, in, matrix, in,
                    0, y, out);
    }
    return seconds() - begin;
}

static void measure(bench_t *bench, times_t *times) {
    const lode_layer_t *layer = &bench->layer;
    lode_activations_t *act = &bench->activations;
    const int64_t *offsets = bench->offsets;
    const lode_real_t *u, *du;
    double begin = seconds();
    lode_layer_forward(layer, &bench->sequences, act, bench->y, bench->workspace, NULL, NULL);
    keep_best(&times->forward, seconds() - begin);
    memcpy(bench->dy, bench->y, (size_t)(bench->tokens * layer->d) * sizeof *bench->dy);
    begin = seconds();
    lode_layer_backward_ffn(layer, &bench->sequences, act, bench->dy, bench->workspace, &u, &du);
    lode_layer_backward_rest(layer, &bench->sequences, act, bench->dy, bench->workspace);
    keep_best(&times->backward, seconds() - begin);
    keep_best(&times->gemm, time_gemm(bench));
    const int64_t qw = layer->q.out, kw = layer->k.out;
    lode_real_t *dq = bench->operand, *dk = dq + bench->tokens * qw, *dv = dk + bench->tokens * kw;
    begin = seconds();
    for (int64_t s = 0; s < bench->sequences.count; s++)
        lode_attention_forward(&layer->attention, offsets[s + 1] - offsets[s],
                               act->q + offsets[s] * qw, act->k + offsets[s] * kw,
                               act->v + offsets[s] * kw, dq + offsets[s] * qw, bench->workspace);
    keep_best(&times->attend, seconds() - begin);
    begin = seconds();
    for (int64_t s = 0; s < bench->sequences.count; s++)
        lode_attention_backward(&layer->attention, offsets[s + 1] - offsets[s],
                                act->q + offsets[s] * qw, act->k + offsets[s] * kw,
                                act->v + offsets[s] * kw, act->o + offsets[s] * qw,
                                act->o + offsets[s] * qw, dq + offsets[s] * qw,
                                dk + offsets[s] * kw, dv + offsets[s] * kw, bench->workspace);
    keep_best(&times->attend_backward, seconds() - begin);
}

/* Pairs of a token and one that it sees. */
static double seen(const bench_t *bench) {
    const int64_t window = bench->layer.attention.window;
    double pairs = 0;
    for (int64_t s = 0; s < bench->sequences.count; s++)
        for (int64_t t = 0; t < bench->offsets[s + 1] - bench->offsets[s]; t++)
            pairs += (double)(window > 0 && t >= window ? window : t + 1);
    return pairs;
}

static void print_line(bench_t *bench, const times_t *t) {
    lode_weight_t *weights[WEIGHTS];
    weights_of(bench, weights);
    double products = 0;
    for (int i = 0; i < WEIGHTS; i++)
        products += 2.0 * (double)bench->tokens * (double)(weights[i]->out * weights[i]->in);
    const double scores = 4 * seen(bench) * (double)bench->layer.q.out, rate = products / t->gemm;
    const double both = 2 * products + 3.5 * scores; /* the backward has five products for two */
    printf("%-12s %8.3f %8.3f %8.3f %8.3f %8.3f %8.1f %7.1f%% %7.1f%%\n", bench->shape->name,
           t->forward, t->forward + t->backward, t->gemm, t->attend, t->attend_backward, rate / 1e9,
           100 * (products + scores) / rate / t->forward,
           100 * both / rate / (t->forward + t->backward));
    fflush(stdout);
}

static lode_status_t run_shape(const shape_t *shape, const options_t *options) {
    bench_t bench;
    times_t times = {0};
    const lode_status_t status = bench_create(&bench, shape, options);
    for (int round = 0; status == LODE_OK && round < options->rounds; round++)
        measure(&bench, &times);
    if (status == LODE_OK)
        print_line(&bench, &times);
    bench_destroy(&bench);
    return status;
}

int main(int argc, char **argv) {
    options_t options = {.tokens = 2048, .sequence = 2048, .rounds = 3};
    int first = 1;
    for (; first + 1 < argc && strncmp(argv[first], "--", 2) == 0; first += 2) {
        const int value = atoi(argv[first + 1]);
        if (strcmp(argv[first], "--tokens") == 0)
            options.tokens = value;
        else if (strcmp(argv[first], "--sequence") == 0)
            options.sequence = value;
        else if (strcmp(argv[first], "--rounds") == 0)
            options.rounds = value;
        else
            break;
    }
    if (first < argc && strncmp(argv[first], "--", 2) == 0) {
        fprintf(stderr, "usage: layer_speed [--tokens N] [--sequence N] [--rounds N] [SHAPE...]\n");
        return 2;
    }
    lode_set_threads(1);
    printf("%-12s %8s %8s %8s %8s %8s %8s %8s %8s\n", "shape", "forward", "both", "sgemm", "attend",
           "attend'", "GFLOP/s", "forward", "both");
    for (int i = 0; i < SHAPES; i++) {
        bool wanted = first == argc;
        for (int a = first; a < argc; a++)
            wanted |= strcmp(argv[a], shapes[i].name) == 0;
        if (wanted && run_shape(&shapes[i], &options) != LODE_OK) {
            fprintf(stderr, "%s\n", lode_error_message());
            return 1;
        }
    }
    return 0;
}
