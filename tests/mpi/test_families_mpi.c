/* What is computed of a small checkpoint of every model family, against transformers in float64
 * (tests/golden/families.py): logits, losses, u and its gradient, with the layers on one rank or on
 * several. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "comm/context.h"
#include "kernels/linear.h"
#include "model/checkpoint.h"
#include "testing/check.h"
#include "testing/data.h"
#include "testing/temporary.h"
#include "testing/hdf5_read.h"
#include "transformer/pass.h"

/* Largest error that is accepted, relative to the largest value of the array. */
static const double tolerance = 2e-5;

static lode_comm_t world;

/* --- references ------------------------------------------------------------------------------ */

typedef struct reference {
    lode_h5_array_t ids, offsets, nll, greedy, rows, logits, u, du;
} reference_t;

static reference_t reference_read(const char *folder) {
    char path[512];
    reference_t reference;
    snprintf(path, sizeof path, "%s/reference.h5", folder);
    const hid_t file = lode_h5_open(path);
    LODE_REQUIRE(file >= 0);
    LODE_REQUIRE(lode_h5_read(&reference.ids, file, "/ids", LODE_H5_I32) &&
                 lode_h5_read(&reference.offsets, file, "/offsets", LODE_H5_I64) &&
                 lode_h5_read(&reference.nll, file, "/nll", LODE_H5_F64) &&
                 lode_h5_read(&reference.greedy, file, "/greedy", LODE_H5_U8) &&
                 lode_h5_read(&reference.rows, file, "/rows", LODE_H5_I64) &&
                 lode_h5_read(&reference.logits, file, "/logits", LODE_H5_F64) &&
                 lode_h5_read(&reference.u, file, "/u", LODE_H5_F64) &&
                 lode_h5_read(&reference.du, file, "/du", LODE_H5_F64));
    H5Fclose(file);
    return reference;
}

static void reference_free(reference_t *reference) {
    lode_h5_array_t *arrays[] = {&reference->ids,    &reference->offsets, &reference->nll,
                                 &reference->greedy, &reference->rows,    &reference->logits,
                                 &reference->u,      &reference->du};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        lode_h5_free(arrays[i]);
}

/* The sequences with all their next tokens as targets, weighted to a mean in each sequence. */
typedef struct text {
    lode_text_t text;
    int32_t *target;
    double *weight;
} text_t;

static text_t text_of(const reference_t *reference) {
    const int64_t tokens = reference->ids.count;
    text_t text = {.text = {.sequences = reference->offsets.count - 1,
                            .offsets = reference->offsets.i64,
                            .ids = reference->ids.i32}};
    LODE_REQUIRE(LODE_NEW(&text.target, tokens, "targets") == LODE_OK);
    LODE_REQUIRE(LODE_NEW(&text.weight, tokens, "weights") == LODE_OK);
    for (int64_t s = 0; s < text.text.sequences; s++) {
        const int64_t first = text.text.offsets[s], end = text.text.offsets[s + 1];
        for (int64_t t = first; t < end; t++) {
            text.target[t] = t + 1 < end ? reference->ids.i32[t + 1] : -1;
            text.weight[t] = t + 1 < end ? 1.0 / (double)(end - first - 1) : 0;
        }
    }
    text.text.target = text.target;
    text.text.weight = text.weight;
    return text;
}

/* --- what observers see ---------------------------------------------------------------------- */

typedef enum kind { LOGITS, LOSSES, CHANNELS, CHANNELS_AGAIN, GRADIENTS, KINDS } kind_t;

typedef struct comparison {
    const reference_t *reference;
    double worst[KINDS]; /* relative to the largest value of the reference */
    int64_t seen[KINDS]; /* rows */
    int64_t wrong_greedy;
} comparison_t;

static double largest(const double *x, int64_t count) {
    double most = 0;
    for (int64_t i = 0; i < count; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

/* Errors of got[rows, width] against want; the scale is the reference's largest value. */
static void compare(comparison_t *comparison, kind_t kind, const lode_real_t *got,
                    const double *want, int64_t rows, int64_t width, double scale) {
    LODE_CHECK(scale > 0);
    for (int64_t i = 0; i < rows * width; i++) {
        const double error = fabs((double)got[i] - want[i]) / scale;
        if (!(error <= comparison->worst[kind])) /* NaN too */
            comparison->worst[kind] = isfinite(error) ? error : INFINITY;
    }
    comparison->seen[kind] += rows;
}

static void compare_layer(comparison_t *comparison, kind_t kind, const lode_batch_t *batch,
                          int64_t layer, const lode_real_t *got, const lode_h5_array_t *want) {
    const int64_t tokens = want->extent[1], m = want->extent[2];
    const double *of_layer = want->f64 + layer * tokens * m;
    compare(comparison, kind, got, of_layer + batch->first_token * m, batch->tokens, m,
            largest(of_layer, tokens * m));
}

static lode_status_t on_forward(void *context, const lode_batch_t *batch, int64_t layer,
                                const lode_real_t *h, const lode_real_t *u) {
    comparison_t *comparison = context;
    (void)h;
    compare_layer(comparison, CHANNELS, batch, layer, u, &comparison->reference->u);
    return LODE_OK;
}

static lode_status_t on_backward(void *context, const lode_batch_t *batch, int64_t layer,
                                 const lode_real_t *u, const lode_real_t *g) {
    comparison_t *comparison = context;
    compare_layer(comparison, CHANNELS_AGAIN, batch, layer, u, &comparison->reference->u);
    compare_layer(comparison, GRADIENTS, batch, layer, g, &comparison->reference->du);
    return LODE_OK;
}

static lode_status_t on_logits(void *context, int64_t first_token, int64_t rows,
                               const lode_real_t *logits) {
    comparison_t *comparison = context;
    const lode_h5_array_t *kept = &comparison->reference->rows;
    const lode_h5_array_t *want = &comparison->reference->logits;
    const int64_t vocab = want->extent[1];
    for (int64_t i = 0; i < kept->count; i++)
        if (kept->i64[i] >= first_token && kept->i64[i] < first_token + rows)
            compare(comparison, LOGITS, logits + (kept->i64[i] - first_token) * vocab,
                    want->f64 + i * vocab, 1, vocab, largest(want->f64, want->count));
    return LODE_OK;
}

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    comparison_t *comparison = context;
    const reference_t *reference = comparison->reference;
    const int64_t *offsets = reference->offsets.i64;
    const double scale = largest(reference->nll.f64, reference->nll.count);
    (void)variant;
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        const int64_t sequence = batch->first_sequence + s; /* so many targets are missing before */
        for (int64_t t = offsets[sequence]; t + 1 < offsets[sequence + 1]; t++) {
            const int64_t at = t - batch->first_token, target = t - sequence;
            const lode_real_t got = (lode_real_t)nll[at];
            compare(comparison, LOSSES, &got, reference->nll.f64 + target, 1, 1, scale);
            comparison->wrong_greedy += greedy[at] != reference->greedy.u8[target];
        }
    }
    return LODE_OK;
}

/* --- running --------------------------------------------------------------------------------- */

/* One pass with the sequences in one micro-batch or in two, and activations kept or computed
 * again. */
static void run(lode_checkpoint_t *checkpoint, comparison_t *comparison, const text_t *text,
                int64_t micro_batch, bool keep) {
    const lode_architecture_t *architecture = lode_checkpoint_architecture(checkpoint);
    lode_layout_t layout;
    lode_batches_t batches;
    lode_stack_t *stack = NULL;
    lode_pass_memory_t memory;
    static const char *scratch;
    if (!scratch)
        scratch = lode_test_temporary();
    LODE_REQUIRE(lode_layout_create(&layout, architecture, 24, world.size, world.rank, 0) ==
                 LODE_OK);
    LODE_REQUIRE(lode_batches_create(&batches, &text->text, micro_batch) == LODE_OK);
    if (layout.replica >= 0)
        LODE_REQUIRE(lode_stack_create(&stack, checkpoint, &layout, batches.max_tokens,
                                       batches.longest, 1) == LODE_OK);
    lode_pass_t pass = {.stage = "families",
                        .comm = &world,
                        .layout = &layout,
                        .stack = stack,
                        .batches = &batches,
                        .variants = 1,
                        .backward = true,
                        .head_batches = batches.count,
                        .scratch = scratch,
                        .observer = {.context = comparison,
                                     .ffn_forward = on_forward,
                                     .ffn_backward = on_backward,
                                     .logits = on_logits,
                                     .losses = on_losses}};
    const lode_pass_size_t size = lode_pass_size(&pass);
    LODE_REQUIRE(lode_pass_memory(&size, &memory) == LODE_OK);
    pass.budget = keep ? memory.all : memory.least;
    LODE_CHECK(lode_pass_run(&pass) == LODE_OK);
    lode_stack_destroy(&stack);
    lode_batches_destroy(&batches);
}

/* Gathers what all ranks saw, checks it and shows it. */
static void check_case(const char *name, comparison_t *comparison, int64_t layers, int64_t passes) {
    const int64_t tokens = comparison->reference->ids.count;
    const int64_t rows = comparison->reference->rows.count;
    const int64_t owed[KINDS] = {[LOGITS] = rows,
                                 [LOSSES] = comparison->reference->nll.count,
                                 [CHANNELS] = layers * tokens,
                                 [CHANNELS_AGAIN] = layers * tokens,
                                 [GRADIENTS] = layers * tokens};
    MPI_Allreduce(MPI_IN_PLACE, comparison->worst, KINDS, MPI_DOUBLE, MPI_MAX, world.comm);
    MPI_Allreduce(MPI_IN_PLACE, comparison->seen, KINDS, MPI_INT64_T, MPI_SUM, world.comm);
    MPI_Allreduce(MPI_IN_PLACE, &comparison->wrong_greedy, 1, MPI_INT64_T, MPI_SUM, world.comm);
    if (world.rank == 0)
        printf("%-16s logits %.1e, losses %.1e, u %.1e, du %.1e\n", name, comparison->worst[LOGITS],
               comparison->worst[LOSSES], comparison->worst[CHANNELS],
               comparison->worst[GRADIENTS]);
    for (int kind = 0; kind < KINDS; kind++) {
        LODE_CHECK(comparison->worst[kind] <= tolerance);
        LODE_CHECK(comparison->seen[kind] == passes * owed[kind]);
    }
    LODE_CHECK(comparison->wrong_greedy == 0);
}

static void test_case(const char *name) {
    char folder[400];
    lode_checkpoint_t *checkpoint;
    snprintf(folder, sizeof folder, LODE_TEST_FAMILIES "/%s", name);
    const lode_status_t status = lode_checkpoint_open(&checkpoint, folder);
    if (status != LODE_OK)
        fprintf(stderr, "%s\n", lode_error_message());
    LODE_REQUIRE(status == LODE_OK);
    reference_t reference = reference_read(folder);
    text_t text = text_of(&reference);
    comparison_t comparison = {.reference = &reference};
    run(checkpoint, &comparison, &text, reference.ids.count, true);
    run(checkpoint, &comparison, &text, reference.ids.count, false);
    run(checkpoint, &comparison, &text, 1, true);
    check_case(name, &comparison, lode_checkpoint_architecture(checkpoint)->layers, 3);
    free(text.target);
    free(text.weight);
    reference_free(&reference);
    lode_checkpoint_close(&checkpoint);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    world = lode_comm_describe(MPI_COMM_WORLD);
    lode_set_threads(1);
    LODE_CHECK(lode_test_families(test_case) >= LODE_TEST_FAMILIES_LEAST);
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
