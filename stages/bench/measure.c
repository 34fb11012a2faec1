#include "bench/measure.h"

#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "kernels/statistics.h"
#include "training/optimizer.h"
#include "training/reduce.h"

enum { CONVERT_LINES = 64, MIN_ROUNDS = 3, MAX_ROUNDS = 15 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* --- what is executed ----------------------------------------------------------------------- */

static void run_layers(lode_sample_t *s, bool keep) {
    const int64_t panel = s->tokens * s->architecture->hidden;
    for (int64_t l = 0; l < s->layers; l++) {
        lode_activations_t *act = keep ? &s->activations[l] : &s->shared;
        const lode_real_t *h, *u;
        act->x = s->x + l * panel;
        lode_layer_forward(&s->layer[l], &s->sequences, act, s->x + (l + 1) * panel, s->workspace,
                           &h, &u);
    }
}

static void run_back(lode_sample_t *s, bool keep, const lode_layer_gradient_t *gradient) {
    const int64_t panel = s->tokens * s->architecture->hidden;
    memcpy(s->dy, s->x + s->layers * panel, (size_t)panel * sizeof *s->dy);
    for (int64_t l = s->layers - 1; l >= 0; l--) {
        lode_activations_t *act = keep ? &s->activations[l] : &s->shared;
        const lode_real_t *u, *g;
        act->x = s->x + l * panel;
        if (!keep)
            lode_layer_forward(&s->layer[l], &s->sequences, act, NULL, s->workspace, NULL, NULL);
        lode_layer_backward_ffn(&s->layer[l], &s->sequences, act, s->dy, s->workspace, gradient, &u,
                                &g);
        lode_layer_backward_rest(&s->layer[l], &s->sequences, act, s->dy, s->workspace, gradient);
    }
}

static void run_narrow(lode_sample_t *s, bool backward) {
    lode_activations_t *act = &s->narrow_activations;
    const lode_real_t *h, *u;
    if (!backward) {
        lode_layer_forward(&s->narrow, &s->sequences, act, s->narrow_y, s->workspace, &h, &u);
        return;
    }
    lode_layer_backward_ffn(&s->narrow, &s->sequences, act, s->narrow_y, s->workspace, NULL, &h,
                            &u);
    lode_layer_backward_rest(&s->narrow, &s->sequences, act, s->narrow_y, s->workspace, NULL);
}

/* Rows that the i-th norm of lode_sample_norms has; 0 where it is not applied. */
static int64_t norm_rows(const lode_sample_t *s, const lode_norm_t *norm, int i) {
    const lode_layer_t *layer = &s->layer[0];
    const int64_t width = i < 4 ? layer->d : i == 4 ? layer->q.out : layer->k.out;
    return norm->kind == LODE_NORM_NONE ? 0 : s->tokens * width / norm->width;
}

static void run_norms(lode_sample_t *s, bool backward) {
    lode_norm_t *norms[LODE_SAMPLE_NORMS];
    lode_sample_norms(&s->layer[0], norms);
    for (int i = 0; i < LODE_SAMPLE_NORMS; i++) {
        const int64_t rows = norm_rows(s, norms[i], i);
        if (rows > 0 && !backward)
            lode_norm_forward(norms[i], rows, s->wide[0], s->wide[1], s->inverse);
        else if (rows > 0)
            lode_norm_backward(norms[i], rows, s->wide[2], s->wide[0], s->inverse, false,
                               s->wide[3]);
    }
}

static void run_rope(lode_sample_t *s) {
    const lode_layer_t *layer = &s->layer[0];
    const lode_attention_shape_t *shape = &layer->attention;
    for (int inverse = 0; inverse < 2; inverse++)
        for (int64_t i = 0; i < s->sequences.count; i++) {
            const int64_t first = s->sequences.offsets[i];
            lode_rope_turn(&layer->rope, s->sequences.offsets[i + 1] - first, shape->heads,
                           shape->kv_heads, shape->head_dim, inverse,
                           s->wide[0] + first * layer->q.out, s->wide[1] + first * layer->k.out,
                           s->workspace);
        }
}

static void run_activation(lode_sample_t *s, bool backward) {
    const lode_layer_t *layer = &s->layer[0];
    const int64_t count = s->tokens * layer->m;
    const lode_real_t *gate = layer->gate.data ? s->wide[0] : NULL;
    if (backward)
        lode_activation_backward(layer->activation, count, s->wide[2], gate, s->wide[1], s->wide[3],
                                 s->wide[4]);
    else
        lode_activation_forward(layer->activation, count, gate, s->wide[1], s->wide[3]);
}

static void run_statistics(lode_sample_t *s) {
    const int64_t m = s->layer[0].m;
    for (int64_t i = 0; i < s->sequences.count; i++) {
        const int64_t first = s->sequences.offsets[i];
        lode_statistics_backward(s->sequences.offsets[i + 1] - first, m, s->wide[0] + first * m,
                                 s->wide[1] + first * m, s->sums, s->sums + m, s->sums + 2 * m,
                                 s->sums + 3 * m);
    }
}

static void run_conversion(lode_sample_t *s) {
    for (int i = 0; i < LODE_SAMPLE_SHAPES; i++) {
        const lode_weight_t *weight = s->shape[i].weight;
        const int64_t elements = weight->rows * weight->cols;
        const int64_t line = (elements + CONVERT_LINES - 1) / CONVERT_LINES;
        for (int number = 0; number < s->shape[i].count; number++) {
#pragma omp parallel for schedule(static)
            for (int64_t first = 0; first < elements; first += line)
                lode_convert(s->dense + first,
                             (const char *)weight->data +
                                 (size_t)first * lode_dtype_size(weight->dtype),
                             weight->dtype, elements - first < line ? elements - first : line);
        }
    }
}

static void run_head(lode_sample_t *s, bool backward) {
    lode_norm_forward(&s->final_norm, s->head_rows, s->x, s->wide[0], s->inverse);
    lode_loss_run(&(lode_head_loss_t){.head = &s->head,
                                      .cap = s->architecture->logit_cap,
                                      .rows = s->head_rows,
                                      .h = s->wide[0],
                                      .target = s->target,
                                      .weight = s->sums + s->tokens,
                                      .nll = s->sums,
                                      .dh = backward ? s->wide[0] : NULL,
                                      .workspace = s->workspace});
    if (backward)
        lode_norm_backward(&s->final_norm, s->head_rows, s->wide[0], s->x, s->inverse, false,
                           s->wide[1]);
}

static void run_linear(lode_sample_t *s, const lode_item_t *item) {
    lode_weight_t weight = *item->shape->weight;
    if (item->kind == LODE_ITEM_SGEMM) { /* read in place, so that nothing but BLAS is called */
        const lode_tensor_t dense =
            lode_tensor_matrix(s->dense, LODE_DTYPE_F32, weight.out, weight.in);
        weight = lode_weight_of(&dense);
    }
    if (item->kind == LODE_ITEM_LINEAR_BACKWARD)
        lode_linear_backward(&weight, s->tokens, s->wide[0], false, s->wide[3], s->workspace);
    else
        lode_linear_forward(&weight, s->tokens, s->wide[0], false, s->wide[3], s->workspace);
}

static void run_linear_gradient(lode_sample_t *s, const lode_item_t *item) {
    const lode_weight_t *weight = item->shape->weight;
    const lode_gradient_t gradient = {.data = s->gradient.matrix[LODE_MATRIX_DOWN].data,
                                      .pitch = weight->pitch,
                                      .transposed = weight->transposed};
    lode_linear_gradient(&gradient, weight->out, weight->in, s->tokens, s->wide[0], s->wide[3]);
}

static void run_optimizer(lode_sample_t *s) {
    const lode_adamw_t adamw = lode_adamw(1e-3, 0.9, 0.95, 1e-8, 1, 1);
    const int64_t count = s->moved_count;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < count; first += LODE_BLOCK_ELEMENTS) {
        const int64_t left = count - first;
        lode_adamw_update(&adamw, 0.1, left < LODE_BLOCK_ELEMENTS ? left : LODE_BLOCK_ELEMENTS,
                          s->moved[0] + first, s->moved[1] + first, s->moved[2] + first,
                          s->moved[3] + first);
    }
}

static void run_item(lode_sample_t *s, const lode_item_t *item) {
    switch (item->kind) {
    case LODE_ITEM_LINEAR_GRADIENT:
        run_linear_gradient(s, item);
        break;
    case LODE_ITEM_TRAINING:
        run_layers(s, true);
        run_back(s, true, &s->gradient);
        break;
    case LODE_ITEM_OPTIMIZER:
        run_optimizer(s);
        break;
    case LODE_ITEM_SGEMM:
    case LODE_ITEM_LINEAR:
    case LODE_ITEM_LINEAR_BACKWARD:
        run_linear(s, item);
        break;
    case LODE_ITEM_FORWARD:
        run_layers(s, true);
        break;
    case LODE_ITEM_BACKWARD:
        run_back(s, true, NULL);
        break;
    case LODE_ITEM_RECOMPUTED:
        run_layers(s, false);
        run_back(s, false, NULL);
        break;
    case LODE_ITEM_ATTENTION:
    case LODE_ITEM_ATTENTION_BACKWARD:
        run_narrow(s, item->kind == LODE_ITEM_ATTENTION_BACKWARD);
        break;
    case LODE_ITEM_NORMS:
    case LODE_ITEM_NORMS_BACKWARD:
        run_norms(s, item->kind == LODE_ITEM_NORMS_BACKWARD);
        break;
    case LODE_ITEM_ROPE:
        run_rope(s);
        break;
    case LODE_ITEM_ACTIVATION:
    case LODE_ITEM_ACTIVATION_BACKWARD:
        run_activation(s, item->kind == LODE_ITEM_ACTIVATION_BACKWARD);
        break;
    case LODE_ITEM_STATISTICS:
        run_statistics(s);
        break;
    case LODE_ITEM_CONVERSION:
        run_conversion(s);
        break;
    case LODE_ITEM_HEAD:
    case LODE_ITEM_HEAD_BACKWARD:
        run_head(s, item->kind == LODE_ITEM_HEAD_BACKWARD);
        break;
    case LODE_ITEM_KINDS:
        break;
    }
}

/* --- the list ------------------------------------------------------------------------------- */

static double weight_elements(const lode_sample_t *s) {
    double elements = 0;
    for (int i = 0; i < LODE_SAMPLE_SHAPES; i++)
        elements += (double)(s->shape[i].count * s->shape[i].weight->out * s->shape[i].weight->in);
    return elements;
}

static double norm_elements(const lode_sample_t *s) {
    lode_norm_t *norms[LODE_SAMPLE_NORMS];
    double elements = 0;
    lode_sample_norms(&s->layer[0], norms);
    for (int i = 0; i < LODE_SAMPLE_NORMS; i++)
        elements += (double)(norm_rows(s, norms[i], i) * norms[i]->width);
    return elements;
}

static void add(lode_item_t *items, int64_t *count, lode_item_t item) {
    if (item.flops > 0 || item.bytes > 0)
        items[(*count)++] = item;
}

/* Products of a layer forward and back; attention's backward has five for the forward's two. */
static void list_passes(lode_item_t *items, int64_t *count, const lode_sample_t *s) {
    const double tokens = (double)s->tokens, layers = (double)s->layers;
    const double linear = 2 * tokens * weight_elements(s);
    const double scores = 4 * s->pairs * (double)s->layer[0].q.out;
    const lode_weight_t *down = &s->layer[0].down;
    /* What is computed again stops at the channels, unless a post-norm wants the output. */
    const double again =
        s->architecture->ffn_post_norm ? 0 : 2 * tokens * (double)(down->in * down->out);
    const lode_item_t passes[] = {
        {LODE_ITEM_FORWARD, .name = "forward", .flops = layers * (linear + scores)},
        {LODE_ITEM_BACKWARD, .name = "backward", .flops = layers * (linear + 2.5 * scores)},
        {LODE_ITEM_RECOMPUTED, .name = "recomputed",
         .flops = layers * (3 * linear - again + 4.5 * scores)},
        {LODE_ITEM_TRAINING, .name = "training", .flops = layers * (3 * linear + 3.5 * scores)},
        {LODE_ITEM_ATTENTION, .name = "attention forward", .flops = scores},
        {LODE_ITEM_ATTENTION_BACKWARD, .name = "attention backward", .flops = 2.5 * scores},
    };
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        lode_item_t item = passes[i];
        item.tokens = tokens;
        add(items, count, item);
    }
}

static void list_rest(lode_item_t *items, int64_t *count, const lode_sample_t *s) {
    const double real = sizeof(lode_real_t), tokens = (double)s->tokens;
    const double channels = tokens * (double)s->layer[0].m, gated = s->layer[0].gate.data ? 1 : 0;
    const double turned =
        s->layer[0].rope.rotary ? tokens * (double)(s->layer[0].q.out + s->layer[0].k.out) : 0;
    const double stored = (double)lode_dtype_size(s->dtype);
    const double converted = s->dtype == LODE_DTYPE_F32 ? 0 : weight_elements(s);
    const double head = 2 * (double)s->head_rows * (double)(s->head.in * s->head.out);
    const lode_item_t rest[] = {
        {LODE_ITEM_NORMS, .name = "norms forward", .bytes = 2 * real * norm_elements(s)},
        {LODE_ITEM_NORMS_BACKWARD, .name = "norms backward", .bytes = 3 * real * norm_elements(s)},
        {LODE_ITEM_ROPE, .name = "positions", .bytes = 4 * real * turned},
        {LODE_ITEM_ACTIVATION, .name = "activation forward",
         .bytes = (2 + gated) * real * channels},
        {LODE_ITEM_ACTIVATION_BACKWARD, .name = "activation backward",
         .bytes = (3 + 2 * gated) * real * channels},
        {LODE_ITEM_STATISTICS, .name = "channel sums", .bytes = 2 * real * channels},
        {LODE_ITEM_CONVERSION, .name = "weight conversion", .bytes = (real + stored) * converted},
    };
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        lode_item_t item = rest[i];
        item.tokens = tokens;
        add(items, count, item);
    }
    add(items, count,
        (lode_item_t){LODE_ITEM_HEAD, .name = "head and loss", .tokens = (double)s->head_rows,
                      .flops = head});
    add(items, count,
        (lode_item_t){LODE_ITEM_HEAD_BACKWARD, .name = "head, loss, gradient",
                      .tokens = (double)s->head_rows, .flops = 2 * head});
    /* Four arrays are read, three of them written. */
    add(items, count,
        (lode_item_t){LODE_ITEM_OPTIMIZER, .name = "optimizer", .tokens = (double)s->moved_count,
                      .bytes = 7 * sizeof(float) * (double)s->moved_count});
}

lode_status_t lode_measure_list(lode_item_t **items, int64_t *count, const lode_sample_t *sample) {
    static const lode_item_kind_t kinds[] = {LODE_ITEM_SGEMM, LODE_ITEM_LINEAR,
                                             LODE_ITEM_LINEAR_BACKWARD, LODE_ITEM_LINEAR_GRADIENT};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    *count = 0;
    LODE_TRY(LODE_NEW(items, KINDS * LODE_SAMPLE_SHAPES + LODE_ITEM_KINDS, "list of measurements"));
    for (int i = 0; i < LODE_SAMPLE_SHAPES; i++) {
        const lode_weight_t *weight = sample->shape[i].weight;
        const double elements = (double)(weight->out * weight->in);
        for (int k = 0; k < KINDS; k++)
            add(*items, count,
                (lode_item_t){.kind = kinds[k],
                              .shape = &sample->shape[i],
                              .name = sample->shape[i].name,
                              .tokens = (double)sample->tokens,
                              .flops = 2 * (double)sample->tokens * elements});
    }
    list_passes(*items, count, sample);
    list_rest(*items, count, sample);
    return LODE_OK;
}

const lode_item_t *lode_measure_find(const lode_item_t *items, int64_t count, lode_item_kind_t kind,
                                     const lode_sample_shape_t *shape) {
    for (int64_t i = 0; i < count; i++)
        if (items[i].kind == kind && (!shape || items[i].shape == shape))
            return &items[i];
    return NULL;
}

/* --- timing --------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* One round, which all ranks begin together; times [count] lie `stride` apart. */
static double run_round(const lode_comm_t *comm, const lode_item_t *items, int64_t count,
                        lode_sample_t *sample, double *times, int stride) {
    if (comm->size > 1)
        MPI_Barrier(comm->comm);
    const double start = now();
    for (int64_t i = 0; i < count; i++) {
        const double begin = now();
        run_item(sample, &items[i]);
        times[i * stride] = now() - begin;
    }
    return now() - start;
}

/* As many rounds of `seconds` as take no longer than `enough`, an odd number, the same on all
 * ranks. */
static int rounds_for(const lode_comm_t *comm, double seconds, double enough) {
    double slowest = seconds;
    if (comm->size > 1)
        MPI_Allreduce(&seconds, &slowest, 1, MPI_DOUBLE, MPI_MAX, comm->comm);
    int rounds = MIN_ROUNDS;
    while (rounds < MAX_ROUNDS && (rounds + 2) * slowest < enough)
        rounds += 2;
    return rounds;
}

lode_status_t lode_measure_run(const lode_comm_t *comm, lode_item_t *items, int64_t count,
                               lode_sample_t *sample, double enough, int *rounds) {
    double *times = NULL; /* [count, MAX_ROUNDS] */
    const lode_status_t status =
        lode_comm_agree(comm, LODE_NEW(&times, count * MAX_ROUNDS, "measurements"));
    if (status != LODE_OK) {
        free(times);
        return status;
    }
    *rounds = rounds_for(comm, run_round(comm, items, count, sample, times, MAX_ROUNDS), enough);
    for (int round = 1; round < *rounds; round++)
        run_round(comm, items, count, sample, times + round, MAX_ROUNDS);
    for (int64_t i = 0; i < count; i++) {
        double *own = times + i * MAX_ROUNDS;
        qsort(own, (size_t)*rounds, sizeof *own, by_value);
        const double median = own[*rounds / 2];
        items[i].slowest = items[i].mean = median;
        if (comm->size > 1) {
            MPI_Allreduce(&median, &items[i].slowest, 1, MPI_DOUBLE, MPI_MAX, comm->comm);
            MPI_Allreduce(&median, &items[i].mean, 1, MPI_DOUBLE, MPI_SUM, comm->comm);
            items[i].mean /= comm->size;
        }
    }
    free(times);
    return LODE_OK;
}
