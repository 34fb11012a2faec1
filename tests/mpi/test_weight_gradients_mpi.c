/* Gradients of all weights through a pass. Those of a small checkpoint of every model family
 * against torch's autograd in float64 (tests/golden/family_gradients.py), and of these and a deeper
 * model the same bits from any number of ranks, with activations kept, computed again and spilled.
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "comm/context.h"
#include "kernels/linear.h"
#include "model/checkpoint.h"
#include "testing/check.h"
#include "testing/checkpoint.h"
#include "testing/data.h"
#include "testing/hdf5_read.h"
#include "testing/temporary.h"
#include "transformer/pass.h"

#define WANTED "tests/golden/family_gradients.h5"

enum { FIGURES = 4, MICRO_BATCH = 24 };

/* Largest error that is accepted of a figure, relative to the gradient's norm. */
static const double tolerance = 2e-5;

static lode_comm_t world;
static char folder[512]; /* of the test, on rank 0's machine, which is everybody's */

/* --- gradients ------------------------------------------------------------------------------- */

/* Of all tensors of a checkpoint, one after the other as they are stored, then of a tied model's
 * head; those of other ranks' weights are 0 until they are gathered. */
typedef struct gradients {
    int64_t tensors, elements; /* elements with the head's */
    int64_t *offset;           /* [tensors + 1] */
    float *values;             /* [elements] */
    lode_stack_gradient_t places;
    int64_t calls, next_token; /* of the hook */
    bool wanted;               /* false: the hook says that they are not */
} gradients_t;

static float **vector_place(lode_layer_gradient_t *layer, lode_role_t role) {
    switch (role) {
    case LODE_ROLE_ATTENTION_NORM:
        return &layer->attention_norm;
    case LODE_ROLE_ATTENTION_NORM_BIAS:
        return &layer->attention_norm_bias;
    case LODE_ROLE_ATTENTION_POST_NORM:
        return &layer->attention_post_norm;
    case LODE_ROLE_FFN_NORM:
        return &layer->ffn_norm;
    case LODE_ROLE_FFN_NORM_BIAS:
        return &layer->ffn_norm_bias;
    case LODE_ROLE_FFN_POST_NORM:
        return &layer->ffn_post_norm;
    case LODE_ROLE_Q_NORM:
        return &layer->q_norm;
    case LODE_ROLE_K_NORM:
        return &layer->k_norm;
    case LODE_ROLE_Q_BIAS:
        return &layer->matrix[LODE_MATRIX_Q].bias;
    case LODE_ROLE_K_BIAS:
        return &layer->matrix[LODE_MATRIX_K].bias;
    case LODE_ROLE_V_BIAS:
        return &layer->matrix[LODE_MATRIX_V].bias;
    case LODE_ROLE_O_BIAS:
        return &layer->matrix[LODE_MATRIX_O].bias;
    case LODE_ROLE_GATE_BIAS:
        return &layer->matrix[LODE_MATRIX_GATE].bias;
    case LODE_ROLE_UP_BIAS:
        return &layer->matrix[LODE_MATRIX_UP].bias;
    case LODE_ROLE_DOWN_BIAS:
        return &layer->matrix[LODE_MATRIX_DOWN].bias;
    default:
        return NULL;
    }
}

/* A part of a tensor of a layer, or a whole one of the model, at `values`. */
static void place(gradients_t *g, const lode_layout_t *layout, const lode_tensor_info_t *info,
                  const lode_tensor_part_t *part, float *values) {
    float *first =
        values + part->begin * (info->rank == 2 && !info->transposed ? info->shape[1] : 1);
    const lode_gradient_t matrix = {
        .data = first, .pitch = info->shape[1], .transposed = info->transposed};
    if (info->owner >= 0) {
        if (info->owner < layout->first_layer || info->owner >= layout->layer_end)
            return;
        lode_layer_gradient_t *layer = &g->places.layer[info->owner - layout->first_layer];
        float **vector = vector_place(layer, part->role);
        for (int i = 0; i < LODE_MATRICES; i++)
            if (lode_matrix_role((lode_layer_matrix_t)i) == part->role) {
                float *bias = layer->matrix[i].bias;
                layer->matrix[i] = matrix;
                layer->matrix[i].bias = bias;
            }
        if (vector)
            *vector = first;
    } else if (layout->embedding && part->role == LODE_ROLE_EMBEDDING) {
        g->places.embedding = matrix;
    } else if (layout->embedding && part->role == LODE_ROLE_POSITIONS) {
        g->places.positions = matrix;
    } else if (layout->head && part->role == LODE_ROLE_FINAL_NORM) {
        g->places.final_norm = first;
    } else if (layout->head && part->role == LODE_ROLE_FINAL_NORM_BIAS) {
        g->places.final_norm_bias = first;
    } else if (layout->head && part->role == LODE_ROLE_HEAD) {
        g->places.head = matrix;
    }
}

static gradients_t gradients_create(const lode_checkpoint_t *checkpoint,
                                    const lode_layout_t *layout) {
    const lode_architecture_t *architecture = lode_checkpoint_architecture(checkpoint);
    const int64_t table = architecture->vocab * architecture->hidden;
    gradients_t g = {.tensors = lode_checkpoint_tensor_count(checkpoint), .wanted = true};
    LODE_REQUIRE(LODE_NEW(&g.offset, g.tensors + 1, "offsets") == LODE_OK);
    for (int64_t i = 0; i < g.tensors; i++) {
        const lode_tensor_info_t info = lode_checkpoint_tensor_info(checkpoint, i);
        g.offset[i + 1] = g.offset[i] + info.shape[0] * (info.rank == 2 ? info.shape[1] : 1);
    }
    g.elements = g.offset[g.tensors] + (architecture->tied ? table : 0);
    LODE_REQUIRE(LODE_NEW(&g.values, g.elements, "gradients") == LODE_OK);
    if (layout->replica < 0)
        return g;
    LODE_REQUIRE(LODE_NEW(&g.places.layer, layout->layer_end - layout->first_layer, "places") ==
                 LODE_OK);
    for (int64_t i = 0; i < g.tensors; i++) {
        const lode_tensor_info_t info = lode_checkpoint_tensor_info(checkpoint, i);
        for (int p = 0; p < info.part_count; p++)
            place(&g, layout, &info, &info.parts[p], g.values + g.offset[i]);
    }
    if (architecture->tied && layout->head)
        g.places.head = (lode_gradient_t){.data = g.values + g.offset[g.tensors],
                                          .pitch = architecture->hidden};
    return g;
}

static void gradients_free(gradients_t *g) {
    free(g->offset);
    free(g->values);
    free(g->places.layer);
}

static const lode_stack_gradient_t *on_gradient(void *context, const lode_batch_t *batch) {
    gradients_t *g = context;
    LODE_CHECK(batch->first_token == g->next_token); /* one replica: all of them, in their order */
    g->next_token += batch->tokens;
    g->calls++;
    return g->wanted ? &g->places : NULL;
}

/* --- passes ---------------------------------------------------------------------------------- */

typedef enum budget { BUDGET_ALL, BUDGET_INPUTS, BUDGET_LEAST, BUDGETS } budget_t;

/* One pass through one pipeline; all ranks get all gradients. */
static gradients_t run(const lode_comm_t *comm, lode_checkpoint_t *checkpoint,
                       const lode_text_t *text, int64_t micro_batch, budget_t budget, bool wanted) {
    lode_layout_t layout;
    lode_batches_t batches;
    lode_stack_t *stack = NULL;
    lode_pass_memory_t memory;
    LODE_REQUIRE(lode_layout_create(&layout, lode_checkpoint_architecture(checkpoint), 24,
                                    comm->size, comm->rank, 1) == LODE_OK);
    LODE_REQUIRE(lode_batches_create(&batches, text, micro_batch) == LODE_OK);
    gradients_t g = gradients_create(checkpoint, &layout);
    g.wanted = wanted;
    if (layout.replica >= 0)
        LODE_REQUIRE(lode_stack_create(&stack, checkpoint, &layout, batches.max_tokens,
                                       batches.longest, 1) == LODE_OK);
    lode_pass_t pass = {.stage = "gradients",
                        .comm = comm,
                        .layout = &layout,
                        .stack = stack,
                        .batches = &batches,
                        .variants = 1,
                        .backward = true,
                        .quiet = true,
                        .head_batches = batches.count,
                        .scratch = folder,
                        .observer = {.context = &g, .gradient = on_gradient}};
    const lode_pass_size_t size = lode_pass_size(&pass);
    LODE_REQUIRE(lode_pass_memory(&size, &memory) == LODE_OK);
    pass.budget = budget == BUDGET_ALL      ? memory.all
                  : budget == BUDGET_INPUTS ? memory.inputs
                                            : memory.least;
    LODE_REQUIRE(lode_pass_run(&pass) == LODE_OK);
    LODE_CHECK(g.calls == (stack && (stack->count > 0 || layout.head) ? batches.count : g.calls));
    LODE_CHECK(stack || g.calls == 0);
    /* Only one rank has anything but zeros at each place. */
    MPI_Allreduce(MPI_IN_PLACE, g.values, (int)g.elements, MPI_FLOAT, MPI_SUM, comm->comm);
    lode_stack_destroy(&stack);
    lode_batches_destroy(&batches);
    return g;
}

static void check_equal(const gradients_t *got, const gradients_t *want) {
    int64_t wrong = 0, nothing = 0;
    LODE_REQUIRE(got->elements == want->elements);
    for (int64_t i = 0; i < got->elements; i++) {
        wrong += !(got->values[i] == want->values[i]);
        nothing += got->values[i] == 0;
    }
    LODE_CHECK(wrong == 0);
    LODE_CHECK(nothing < got->elements); /* rows of tokens that do not occur have none */
}

/* The same bits in every way; returns those of one rank alone. */
static gradients_t check_bits(const char *path, const lode_text_t *text, int64_t micro_batch) {
    const lode_comm_t self = lode_comm_describe(MPI_COMM_SELF);
    lode_checkpoint_t *checkpoint;
    LODE_REQUIRE(lode_checkpoint_open(&checkpoint, path) == LODE_OK);
    gradients_t alone = run(&self, checkpoint, text, micro_batch, BUDGET_ALL, true);
    for (int budget = 0; budget < BUDGETS; budget++) {
        gradients_t got = run(&world, checkpoint, text, micro_batch, (budget_t)budget, true);
        check_equal(&got, &alone);
        gradients_free(&got);
    }
    gradients_t none = run(&world, checkpoint, text, micro_batch, BUDGET_ALL, false);
    for (int64_t i = 0; i < none.elements; i++)
        LODE_CHECK(none.values[i] == 0);
    gradients_free(&none);
    lode_checkpoint_close(&checkpoint);
    return alone;
}

/* --- families -------------------------------------------------------------------------------- */

/* Element i of what a gradient is multiplied by; see vector() in family_gradients.py. */
static double factor(uint64_t i, uint64_t seed) {
    uint64_t mixed = ((i + 1) * 2654435761u + seed * 40503u) % (UINT64_C(1) << 32);
    mixed ^= mixed >> 15;
    mixed = mixed * 2246822519u % (UINT64_C(1) << 32);
    mixed ^= mixed >> 13;
    return (double)mixed / 2147483648.0 - 1;
}

/* Largest error of a tensor's figures relative to its norm. */
static double error_of(const float *values, int64_t count, const double want[FIGURES]) {
    double figures[FIGURES] = {0}, worst = 0;
    for (int64_t i = 0; i < count; i++) {
        const double value = (double)values[i];
        figures[0] += value * value;
        figures[1] += value;
        figures[2] += value * factor((uint64_t)i, 1);
        figures[3] += value * factor((uint64_t)i, 2);
    }
    figures[0] = sqrt(figures[0]);
    for (int f = 0; f < FIGURES; f++) {
        const double error = fabs(figures[f] - want[f]) / want[0];
        worst = error <= worst ? worst : isfinite(error) ? error : INFINITY; /* NaN too */
    }
    return worst;
}

/* Of all tensors; the head's gradient of a tied model is a part of the embedding's. */
static double compare(gradients_t *g, const lode_checkpoint_t *checkpoint,
                      const lode_h5_array_t *want) {
    double worst = 0;
    LODE_REQUIRE(want->axes == 2 && want->extent[0] == g->tensors && want->extent[1] == FIGURES);
    for (int64_t i = 0; i < g->tensors; i++) {
        const int64_t count = g->offset[i + 1] - g->offset[i];
        if (lode_checkpoint_tensor_info(checkpoint, i).parts[0].role == LODE_ROLE_EMBEDDING)
            for (int64_t j = 0; j < g->elements - g->offset[g->tensors]; j++)
                g->values[g->offset[i] + j] += g->values[g->offset[g->tensors] + j];
        worst = fmax(worst, error_of(g->values + g->offset[i], count, want->f64 + i * FIGURES));
    }
    return worst;
}

/* The sequences with all their next tokens as targets, weighted to a mean in each sequence. */
static lode_text_t text_of(const lode_h5_array_t *ids, const lode_h5_array_t *offsets) {
    int32_t *target;
    double *weight;
    LODE_REQUIRE(LODE_NEW(&target, ids->count, "targets") == LODE_OK);
    LODE_REQUIRE(LODE_NEW(&weight, ids->count, "weights") == LODE_OK);
    for (int64_t s = 0; s + 1 < offsets->count; s++)
        for (int64_t t = offsets->i64[s], end = offsets->i64[s + 1]; t < end; t++) {
            target[t] = t + 1 < end ? ids->i32[t + 1] : -1;
            weight[t] = t + 1 < end ? 1.0 / (double)(end - offsets->i64[s] - 1) : 0;
        }
    return (lode_text_t){.sequences = offsets->count - 1,
                         .offsets = offsets->i64,
                         .ids = ids->i32,
                         .target = target,
                         .weight = weight};
}

static void text_free(const lode_text_t *text) {
    void *target, *weight;
    memcpy(&target, &text->target, sizeof target);
    memcpy(&weight, &text->weight, sizeof weight);
    free(target);
    free(weight);
}

static void test_family(const char *name) {
    char path[400], reference[500];
    lode_h5_array_t ids, offsets, want;
    snprintf(path, sizeof path, LODE_TEST_FAMILIES "/%s", name);
    snprintf(reference, sizeof reference, "%s/reference.h5", path);
    hid_t file = lode_h5_open(reference);
    LODE_REQUIRE(file >= 0 && lode_h5_read(&ids, file, "/ids", LODE_H5_I32) &&
                 lode_h5_read(&offsets, file, "/offsets", LODE_H5_I64));
    H5Fclose(file);
    file = lode_h5_open(WANTED);
    LODE_REQUIRE(file >= 0 && lode_h5_read(&want, file, name, LODE_H5_F64));
    H5Fclose(file);
    const lode_text_t text = text_of(&ids, &offsets);
    lode_checkpoint_t *checkpoint;
    LODE_REQUIRE(lode_checkpoint_open(&checkpoint, path) == LODE_OK);
    gradients_t together = check_bits(path, &text, ids.count), apart = check_bits(path, &text, 1);
    const double worst[] = {compare(&together, checkpoint, &want),
                            compare(&apart, checkpoint, &want)};
    if (world.rank == 0)
        printf("%-16s in one micro-batch %.1e, in two %.1e\n", name, worst[0], worst[1]);
    LODE_CHECK(worst[0] <= tolerance && worst[1] <= tolerance);
    gradients_free(&together);
    gradients_free(&apart);
    lode_checkpoint_close(&checkpoint);
    text_free(&text);
    lode_h5_free(&ids);
    lode_h5_free(&offsets);
    lode_h5_free(&want);
}

/* --- a deeper model, and more micro-batches --------------------------------------------------- */

enum { LAYERS = 5, VOCAB = 113, SEQUENCES = 14, LONGEST = 19 };

static lode_text_t random_text(int64_t offsets[SEQUENCES + 1], int32_t *ids, int32_t *target,
                               double *weight) {
    const uint64_t key = lode_random_key(3, "text", 0, 0);
    offsets[0] = 0;
    for (int64_t s = 0; s < SEQUENCES; s++)
        offsets[s + 1] = offsets[s] + 2 + lode_random_below(key, (uint64_t)s, LONGEST - 1);
    for (int64_t t = 0; t < offsets[SEQUENCES]; t++)
        ids[t] = t % 5 == 0 ? 0 : (int32_t)lode_random_below(key, (uint64_t)(1000 + t), VOCAB);
    for (int64_t s = 0; s < SEQUENCES; s++)
        for (int64_t t = offsets[s]; t < offsets[s + 1]; t++) {
            const bool scored = t + 1 < offsets[s + 1] && t % 3 != 1;
            target[t] = scored ? ids[t + 1] : -1;
            weight[t] = scored ? 1.0 / (double)(t + 3) : 0;
        }
    return (lode_text_t){SEQUENCES, offsets, ids, target, weight};
}

static void test_deep(const char *name, bool tied, lode_dtype_t dtype) {
    const lode_architecture_t architecture = {.layers = LAYERS,
                                              .hidden = 32,
                                              .intermediate = 88,
                                              .heads = 4,
                                              .kv_heads = 2,
                                              .head_dim = 8,
                                              .vocab = VOCAB,
                                              .max_positions = 64,
                                              .norm_eps = 1e-5,
                                              .rotary.theta = 1e4,
                                              .tied = tied,
                                              .bos = 1,
                                              .eos = 2};
    int64_t offsets[SEQUENCES + 1];
    int32_t ids[SEQUENCES * LONGEST], target[SEQUENCES * LONGEST];
    double weight[SEQUENCES * LONGEST];
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (world.rank == 0) {
        LODE_REQUIRE(lode_directory_create(path) == LODE_OK);
        LODE_REQUIRE(lode_test_write_checkpoint(path, &architecture, dtype, 1, 5) == LODE_OK);
    }
    MPI_Barrier(world.comm);
    const lode_text_t text = random_text(offsets, ids, target, weight);
    gradients_t alone = check_bits(path, &text, MICRO_BATCH);
    gradients_free(&alone);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    world = lode_comm_describe(MPI_COMM_WORLD);
    lode_log_enable(false);
    lode_set_threads(1);
    lode_test_temporary_shared(folder, sizeof folder, &world);
    LODE_CHECK(lode_test_families(test_family) >= LODE_TEST_FAMILIES_LEAST);
    test_deep("float", false, LODE_DTYPE_F32);
    test_deep("tied", true, LODE_DTYPE_BF16);
    MPI_Barrier(world.comm);
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
