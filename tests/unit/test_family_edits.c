/* Edited feed-forward blocks of every model family (tests/golden/families.py) against their
 * formula, y = x' + n(u·Wdownᵀ + b + c) with the kept channels alone, written out in double from
 * what the unedited layer computes; then whole models, whose backward must go through edits as
 * well. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "testing/compare.h"
#include "testing/data.h"
#include "transformer/pass.h"

enum { TOKENS = 21, LONGEST = 16, SEQUENCES = 3 };

static const int64_t offsets[] = {0, 1, 17, TOKENS}; /* one of them a single token */
static lode_comm_t self;

/* --- a layer of a family -------------------------------------------------------------------- */

typedef struct family {
    lode_checkpoint_t *checkpoint;
    lode_layout_t layout;
    lode_stack_t *stack;
    int64_t d, m;
    /* Of the last layer unedited: its input, x' and u; and what it gives with an edit. */
    lode_real_t *x, *x_mid, *u, *y, *memory;
} family_t;

static family_t family_open(const char *name) {
    char folder[400];
    family_t f = {0};
    snprintf(folder, sizeof folder, LODE_TEST_FAMILIES "/%s", name);
    LODE_ASSERT_OK(lode_checkpoint_open(&f.checkpoint, folder));
    const lode_architecture_t *architecture = lode_checkpoint_architecture(f.checkpoint);
    f.d = architecture->hidden;
    f.m = architecture->intermediate;
    LODE_ASSERT_OK(lode_layout_create(&f.layout, architecture, LONGEST, 1, 0, 0));
    LODE_ASSERT_OK(lode_stack_create(&f.stack, f.checkpoint, &f.layout, TOKENS, LONGEST, 1));
    LODE_ASSERT_OK(LODE_NEW(&f.x, TOKENS * (3 * f.d + f.m), "test"));
    f.x_mid = f.x + TOKENS * f.d;
    f.y = f.x_mid + TOKENS * f.d;
    f.u = f.y + TOKENS * f.d;
    LODE_ASSERT_OK(
        LODE_NEW(&f.memory, TOKENS * lode_activations_per_token(&f.stack->whole[0]), "test"));
    for (int64_t i = 0; i < TOKENS * f.d; i++)
        f.x[i] =
            (lode_real_t)(2 * lode_random_uniform(lode_random_key(5, "x", 0, 0), (uint64_t)i) - 1);
    return f;
}

static void family_close(family_t *f) {
    lode_stack_destroy(&f->stack);
    lode_checkpoint_close(&f->checkpoint);
    free(f->x);
    free(f->memory);
}

/* Runs the last layer as it is edited; u goes to `u`, which may be NULL. */
static void run_layer(family_t *f, lode_real_t *u_out) {
    const lode_layer_t *layer = &f->stack->layer[f->stack->count - 1];
    const lode_sequences_t sequences = {SEQUENCES, offsets};
    lode_activations_t act;
    const lode_real_t *u;
    lode_activations_place(&act, layer, TOKENS, f->memory);
    act.x = f->x;
    lode_layer_forward(layer, &sequences, &act, f->y, f->stack->workspace, NULL, &u);
    if (!u_out)
        return;
    memcpy(f->x_mid, act.x_mid, (size_t)(TOKENS * f->d) * sizeof *act.x_mid);
    memcpy(u_out, u, (size_t)(TOKENS * f->m) * sizeof *u);
}

/* --- the formula ------------------------------------------------------------------------------ */

/* Element [row, col] of the checkpoint's down projection, in whatever order it is stored. */
static double stored_down(const lode_weight_t *down, int64_t row, int64_t col) {
    const int64_t at = down->transposed ? col * down->pitch + row : row * down->pitch + col;
    lode_real_t value;
    lode_convert(&value, (const char *)down->data + (size_t)at * lode_dtype_size(down->dtype),
                 down->dtype, 1);
    return (double)value;
}

/* row [width] = n(row), for the norms that post-norms can be: RMSNorm with a weight. */
static void naive_norm(const lode_norm_t *norm, double *row) {
    double square = 0;
    if (norm->kind == LODE_NORM_NONE)
        return;
    assert_int_equal(norm->kind, LODE_NORM_RMS);
    for (int64_t i = 0; i < norm->width; i++)
        square += row[i] * row[i] / (double)norm->width;
    for (int64_t i = 0; i < norm->width; i++)
        row[i] *= ((double)norm->weight[i] + (norm->offset ? 1 : 0)) / sqrt(square + norm->eps);
}

static void naive_output(const family_t *f, const lode_layer_edit_t *edit, int64_t token,
                         double *y) {
    const lode_layer_t *whole = &f->stack->whole[f->stack->count - 1];
    const int64_t count = edit->channels ? edit->count : f->m;
    for (int64_t i = 0; i < f->d; i++) {
        y[i] = whole->down.bias ? (double)whole->down.bias[i] : 0;
        y[i] += edit->bias ? (double)edit->bias[i] : 0;
        for (int64_t k = 0; k < count; k++) {
            const int64_t j = edit->channels ? edit->channels[k] : k;
            const double w = edit->down.data
                                 ? (double)((const float *)edit->down.data)[i * count + k]
                                 : stored_down(&whole->down, i, j);
            y[i] += (double)f->u[token * f->m + j] * w;
        }
    }
    naive_norm(&whole->ffn_post_norm, y);
    for (int64_t i = 0; i < f->d; i++)
        y[i] += (double)f->x_mid[token * f->d + i];
}

static void check_edit(family_t *f, const char *name, const lode_layer_edit_t *edit) {
    double *want;
    LODE_ASSERT_OK(LODE_NEW(&want, TOKENS * f->d, "test"));
    lode_stack_edit(f->stack, f->stack->count - 1, NULL);
    run_layer(f, f->u);
    lode_stack_edit(f->stack, f->stack->count - 1, edit);
    run_layer(f, NULL);
    for (int64_t t = 0; t < TOKENS; t++)
        naive_output(f, edit, t, want + t * f->d);
    LODE_ASSERT_CLOSE(lode_compare_f32(name, f->y, TOKENS * f->d, want, TOKENS * f->d, 2e-5, 2e-5));
    free(want);
}

/* --- tests ---------------------------------------------------------------------------------- */

static void check_edits(const char *name) {
    enum { KEPT = 9, WIDE = 64 };
    static const int32_t channels[KEPT] = {0, 3, 4, 5, 11, 17, 18, 22, 35};
    static float down[WIDE * WIDE];
    static lode_real_t bias[WIDE];
    family_t f = family_open(name);
    assert_true(f.d <= WIDE && f.m <= WIDE && channels[KEPT - 1] < f.m);
    for (int i = 0; i < WIDE * WIDE; i++)
        down[i] = (float)(i * 7 % 23 - 11) / 30;
    for (int i = 0; i < WIDE; i++)
        bias[i] = (lode_real_t)(i * 5 % 13 - 6) / 8;
    const lode_tensor_t narrow = lode_tensor_matrix(down, LODE_DTYPE_F32, f.d, KEPT);
    const lode_tensor_t full = lode_tensor_matrix(down, LODE_DTYPE_F32, f.d, f.m);
    check_edit(&f, name, &(lode_layer_edit_t){0});
    check_edit(&f, name, &(lode_layer_edit_t){.bias = bias});
    check_edit(&f, name, &(lode_layer_edit_t){.down = full, .bias = bias});
    check_edit(&f, name, &(lode_layer_edit_t){.channels = channels, .count = KEPT});
    check_edit(&f, name, &(lode_layer_edit_t){.channels = channels, .count = KEPT, .bias = bias});
    check_edit(&f, name, &(lode_layer_edit_t){.channels = channels, .count = KEPT, .down = narrow});
    check_edit(&f, name, &(lode_layer_edit_t){.channels = channels, .count = 0, .bias = bias});
    family_close(&f);
}

typedef struct counts {
    int64_t rows; /* of gradients */
    double gradient, loss;
} counts_t;

static lode_status_t on_variant(void *context, int64_t variant, int64_t start,
                                lode_stack_t *stack) {
    static const int32_t channels[] = {1, 2, 30};
    (void)context;
    (void)variant;
    (void)start;
    for (int64_t l = 0; l < stack->count; l++) /* the first layer keeps no channel at all */
        lode_stack_edit(stack, l, &(lode_layer_edit_t){.channels = channels, .count = l ? 3 : 0});
    return LODE_OK;
}

static lode_status_t on_backward(void *context, const lode_batch_t *batch, int64_t layer,
                                 const lode_real_t *u, const lode_real_t *g) {
    counts_t *counts = context;
    (void)u;
    for (int64_t i = 0; layer > 0 && i < 3 * batch->tokens; i++)
        counts->gradient += fabs((double)g[i]);
    counts->rows += batch->tokens;
    return LODE_OK;
}

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    (void)variant;
    (void)greedy;
    for (int64_t t = 0; t < batch->tokens; t++)
        ((counts_t *)context)->loss += nll[t];
    return LODE_OK;
}

/* A whole pass, forward and backward, over layers with few or no channels. */
static void check_pass(const char *name) {
    static int32_t ids[TOKENS], targets[TOKENS];
    static double weight[TOKENS];
    for (int32_t t = 0; t < TOKENS; t++) {
        ids[t] = t * 7 % 90;
        targets[t] = (t + 1) * 7 % 90;
        weight[t] = 1;
    }
    const lode_text_t text = {SEQUENCES, offsets, ids, targets, weight};
    family_t f = family_open(name);
    lode_batches_t batches;
    counts_t counts = {0};
    LODE_ASSERT_OK(lode_batches_create(&batches, &text, TOKENS));
    const lode_pass_t pass = {.stage = "test",
                              .comm = &self,
                              .layout = &f.layout,
                              .stack = f.stack,
                              .batches = &batches,
                              .variants = 1,
                              .backward = true,
                              .head_batches = 1,
                              .budget = 1 << 24,
                              .observer = {.context = &counts,
                                           .variant = on_variant,
                                           .ffn_backward = on_backward,
                                           .losses = on_losses}};
    LODE_ASSERT_OK(lode_pass_run(&pass));
    assert_int_equal(counts.rows, f.layout.layers * TOKENS);
    assert_true(isfinite(counts.gradient) && counts.gradient > 1e-3);
    assert_true(isfinite(counts.loss) && counts.loss > TOKENS);
    lode_batches_destroy(&batches);
    family_close(&f);
}

static void check_family(const char *name) {
    check_edits(name);
    check_pass(name);
}

static void families(void **state) {
    (void)state;
    assert_true(lode_test_families(check_family) >= LODE_TEST_FAMILIES_LEAST);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(families)};
    MPI_Init(NULL, NULL);
    self = lode_comm_describe(MPI_COMM_SELF);
    lode_set_threads(1);
    const int failed = cmocka_run_group_tests_name("edits of every family", tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
