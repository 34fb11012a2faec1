/* Edits of whole layers of every model family (tests/golden/families.py): codecs of all matrices
 * against a layer whose matrices are written out, forwards and backwards; coded inputs against the
 * products computed by hand from what the layer shows; and super activations put back against the
 * definition. */
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
#include "transformer/stack.h"

enum { TOKENS = 21, LONGEST = 16, SEQUENCES = 3, WIDE = 256 };

static const int64_t offsets[] = {0, 1, 17, TOKENS}; /* one of them a single token */
static const lode_sequences_t sequences = {SEQUENCES, offsets};

/* --- a layer of a family ---------------------------------------------------------------------- */

/* The last layer as it is edited: its input, and what it makes of it. */
typedef struct family {
    const char *name;
    lode_checkpoint_t *checkpoint;
    lode_layout_t layout;
    lode_stack_t *stack;
    lode_layer_t *layer;
    int64_t d, m, reals; /* of memory */
    lode_activations_t act;
    lode_real_t *x, *y, *memory;
    const lode_real_t *h, *u;
    lode_real_t *seen[LODE_INPUTS]; /* [TOKENS, WIDE] */
} family_t;

static void family_open(family_t *f, const char *name) {
    char folder[400];
    *f = (family_t){.name = name};
    snprintf(folder, sizeof folder, LODE_TEST_FAMILIES "/%s", name);
    LODE_ASSERT_OK(lode_checkpoint_open(&f->checkpoint, folder));
    const lode_architecture_t *architecture = lode_checkpoint_architecture(f->checkpoint);
    f->d = architecture->hidden;
    f->m = architecture->intermediate;
    assert_true(f->d <= WIDE && f->m <= WIDE);
    LODE_ASSERT_OK(lode_layout_create(&f->layout, architecture, LONGEST, 1, 0, 0));
    LODE_ASSERT_OK(lode_stack_create(&f->stack, f->checkpoint, &f->layout, TOKENS, LONGEST, 1));
    f->layer = &f->stack->layer[f->stack->count - 1];
    f->reals = TOKENS * lode_activations_per_token(f->layer);
    LODE_ASSERT_OK(LODE_NEW(&f->memory, f->reals, "test"));
    LODE_ASSERT_OK(LODE_NEW(&f->x, 2 * TOKENS * f->d, "test"));
    f->y = f->x + TOKENS * f->d;
    for (int i = 0; i < LODE_INPUTS; i++)
        LODE_ASSERT_OK(LODE_NEW(&f->seen[i], TOKENS * WIDE, "test"));
    for (int64_t i = 0; i < TOKENS * f->d; i++)
        f->x[i] =
            (lode_real_t)(2 * lode_random_uniform(lode_random_key(5, "x", 0, 0), (uint64_t)i) - 1);
}

static void family_close(family_t *f) {
    lode_stack_destroy(&f->stack);
    lode_checkpoint_close(&f->checkpoint);
    for (int i = 0; i < LODE_INPUTS; i++)
        free(f->seen[i]);
    free(f->x);
    free(f->memory);
}

static int64_t input_width(const family_t *f, lode_input_t which) {
    return which == LODE_INPUT_OUTPUT ? f->layer->o.in
           : which == LODE_INPUT_DOWN ? f->layer->m
                                      : f->d;
}

static void on_input(void *context, lode_input_t which, const lode_real_t *x) {
    const family_t *f = context;
    memcpy(f->seen[which], x, (size_t)(TOKENS * input_width(f, which)) * sizeof *x);
}

/* Runs the last layer as `edit` says, or as `layer` is where there is none. */
static void run_layer(family_t *f, const lode_layer_edit_t *edit) {
    const lode_tap_t tap = {f, on_input};
    if (edit)
        lode_stack_edit(f->stack, f->stack->count - 1, edit);
    lode_activations_place(&f->act, f->layer, TOKENS, f->memory);
    f->act.x = f->x;
    lode_layer_forward_tapped(f->layer, &sequences, &f->act, f->y, f->stack->workspace, &tap, &f->h,
                              &f->u);
}

static void assert_equal(const family_t *f, const char *what, const lode_real_t *got,
                         const lode_real_t *want, int64_t count, double tolerance) {
    char name[160];
    double *wide;
    LODE_ASSERT_OK(LODE_NEW(&wide, count, "test"));
    for (int64_t i = 0; i < count; i++)
        wide[i] = (double)want[i];
    snprintf(name, sizeof name, "%s, %s", f->name, what);
    LODE_ASSERT_CLOSE(lode_compare_f32(name, got, count, wide, count, tolerance, tolerance));
    free(wide);
}

static lode_real_t *copy_of(const lode_real_t *x, int64_t count) {
    lode_real_t *copy = malloc((size_t)count * sizeof *copy);
    memcpy(copy, x, (size_t)count * sizeof *copy);
    return copy;
}

/* --- codecs ----------------------------------------------------------------------------------- */

/* Codecs of all matrices of the last layer with `edit`, and the matrices written out. */
typedef struct coded {
    lode_codec_t codec[LODE_MATRICES];
    lode_held_t held[LODE_MATRICES];
    float *parameters[LODE_MATRICES], *plain[LODE_MATRICES];
    float smooth[WIDE];
} coded_t;

static void code_all(coded_t *c, const family_t *f, lode_layer_edit_t *edit) {
    static const lode_granularity_t kinds[] = {{LODE_GRANULARITY_CHANNEL, 0},
                                               {LODE_GRANULARITY_GROUP, 10},
                                               {LODE_GRANULARITY_BLOCK, 9},
                                               {LODE_GRANULARITY_TENSOR, 0}};
    lode_layer_t layer = f->stack->whole[f->stack->count - 1];
    lode_layer_edit(&layer, edit);
    *c = (coded_t){.smooth = {0}};
    for (int i = 0; i < WIDE; i++)
        c->smooth[i] = 0.5F + (float)(i * 7 % 11) / 8;
    for (int i = 0; i < LODE_MATRICES; i++) {
        lode_weight_t *weight = lode_layer_matrix(&layer, (lode_layer_matrix_t)i);
        if (!weight->data)
            continue;
        c->held[i] = (lode_held_t){.row = 3, .col = (int32_t)weight->in - 1, .value = 1.25F};
        c->codec[i] = (lode_codec_t){.bits = 3 + i % 4,
                                     .granularity = kinds[i % 4],
                                     .held = &c->held[i],
                                     .held_count = weight->in > 0,
                                     .smooth = i % 3 ? NULL : c->smooth,
                                     .dtype = weight->dtype};
        const int64_t blocks = lode_codec_blocks(&c->codec[i], weight->out, weight->in);
        LODE_ASSERT_OK(LODE_NEW(&c->parameters[i], 2 * blocks + 1, "test"));
        LODE_ASSERT_OK(
            lode_codec_fit(&c->codec[i], weight, 3, c->parameters[i], c->parameters[i] + blocks));
        c->codec[i].scale = c->parameters[i];
        c->codec[i].minimum = c->parameters[i] + blocks;
        weight->codec = &c->codec[i];
        LODE_ASSERT_OK(LODE_NEW(&c->plain[i], weight->out * weight->in + 1, "test"));
        lode_codec_read(weight, 0, weight->out, 0, weight->in, c->plain[i]);
        edit->codec[i] = &c->codec[i];
    }
}

static void free_coded(coded_t *c) {
    for (int i = 0; i < LODE_MATRICES; i++) {
        free(c->parameters[i]);
        free(c->plain[i]);
    }
}

/* Puts the matrices that are written out in the place of those with codecs. */
static void materialise(lode_layer_t *layer, const coded_t *c, lode_real_t *up_bias,
                        lode_real_t *gate_bias) {
    for (int i = 0; i < LODE_MATRICES; i++) {
        lode_weight_t *weight = lode_layer_matrix(layer, (lode_layer_matrix_t)i);
        if (!weight->data)
            continue;
        const lode_tensor_t tensor =
            lode_tensor_matrix(c->plain[i], LODE_DTYPE_F32, weight->out, weight->in);
        lode_weight_t plain = lode_weight_of(&tensor);
        lode_real_t *bias = i == LODE_MATRIX_UP ? up_bias : gate_bias;
        plain.bias = weight->bias;
        if (weight->bias && weight->row_index) { /* those of the rows that are left */
            for (int64_t r = 0; r < weight->out; r++)
                bias[r] = weight->bias[weight->row_index[r]];
            plain.bias = bias;
        }
        *weight = plain;
    }
}

/* Gradients with respect to the layer's input, from those of ones. */
static lode_real_t *gradient_of(family_t *f) {
    lode_real_t *dy = malloc((size_t)(TOKENS * f->d) * sizeof *dy);
    const lode_real_t *u, *du;
    for (int64_t i = 0; i < TOKENS * f->d; i++)
        dy[i] = (lode_real_t)(i % 5) - 2;
    lode_layer_backward_ffn(f->layer, &sequences, &f->act, dy, f->stack->workspace, NULL, &u, &du);
    lode_layer_backward_rest(f->layer, &sequences, &f->act, dy, f->stack->workspace, NULL);
    return dy;
}

static void check_codecs(family_t *f, lode_layer_edit_t edit) {
    lode_real_t up_bias[WIDE], gate_bias[WIDE];
    coded_t c;
    code_all(&c, f, &edit);
    run_layer(f, &edit);
    lode_real_t *y = copy_of(f->y, TOKENS * f->d), *dx = gradient_of(f);
    materialise(f->layer, &c, up_bias, gate_bias);
    run_layer(f, NULL);
    assert_equal(f, "y of codecs", y, f->y, TOKENS * f->d, 1e-5);
    lode_real_t *want = gradient_of(f);
    assert_equal(f, "gradient of codecs", dx, want, TOKENS * f->d, 1e-4);
    run_layer(f, &(lode_layer_edit_t){0});
    double difference = 0;
    for (int64_t i = 0; i < TOKENS * f->d; i++)
        difference += fabs((double)(f->y[i] - y[i]));
    assert_true(difference > 1e-2);
    free(y);
    free(dx);
    free(want);
    free_coded(&c);
}

/* --- inputs ----------------------------------------------------------------------------------- */

/* What the matrix makes of an input that the layer showed, coded. */
static void product_of(const family_t *f, lode_layer_matrix_t which,
                       const lode_input_codec_t *codec, lode_real_t *out) {
    const lode_weight_t *weight = lode_layer_matrix(f->layer, which);
    const lode_input_t input = lode_matrix_input(which);
    const int64_t width = input_width(f, input);
    lode_real_t *coded = malloc((size_t)(TOKENS * width) * sizeof *coded);
    lode_real_t *workspace = malloc((size_t)lode_linear_workspace(weight) * sizeof *workspace + 1);
    lode_input_code(codec, &sequences, width, f->seen[input], coded);
    lode_linear_forward(weight, TOKENS, coded, false, out, workspace);
    free(coded);
    free(workspace);
}

static void check_inputs(family_t *f) {
    static const int32_t held[] = {2, 5};
    static lode_real_t got[TOKENS * WIDE], y[TOKENS * WIDE];
    const lode_input_codec_t token = {.bits = 4}, tensor = {.bits = 5, .tensor = true};
    const lode_input_codec_t kept = {.bits = 4, .held = held, .held_count = 2};
    lode_real_t *x = copy_of(f->x, TOKENS * f->d);
    run_layer(f, &(lode_layer_edit_t){.input = {&token, &kept, &tensor, &kept}});
    assert_memory_equal(x, f->x, (size_t)(TOKENS * f->d) * sizeof *x);
    if (f->layer->clip == 0) {
        product_of(f, LODE_MATRIX_V, &token, got);
        assert_equal(f, "v", f->act.v, got, TOKENS * f->layer->v.out, 1e-6);
    }
    product_of(f, LODE_MATRIX_UP, &tensor, got);
    assert_equal(f, "up", f->act.up, got, TOKENS * f->m, 1e-6);
    if (f->layer->gate.data) {
        product_of(f, LODE_MATRIX_GATE, &tensor, got);
        assert_equal(f, "gate", f->act.gate, got, TOKENS * f->m, 1e-6);
    }
    assert_memory_equal(f->u, f->seen[LODE_INPUT_DOWN], (size_t)(TOKENS * f->m) * sizeof *f->u);
    assert_memory_equal(f->h, f->seen[LODE_INPUT_FFN], (size_t)(TOKENS * f->d) * sizeof *f->h);
    product_of(f, LODE_MATRIX_O, &kept, got);
    for (int64_t i = 0; i < TOKENS * f->d; i++)
        y[i] = f->x[i] + got[i];
    if (f->layer->attention_post_norm.kind == LODE_NORM_NONE)
        assert_equal(f, "x'", f->act.x_mid, y, TOKENS * f->d, 1e-5);
    else
        assert_equal(f, "o's output", f->act.attention_out, got, TOKENS * f->d, 1e-5);
    product_of(f, LODE_MATRIX_DOWN, &kept, got);
    for (int64_t i = 0; i < TOKENS * f->d; i++)
        y[i] = f->act.x_mid[i] + got[i];
    if (f->layer->ffn_post_norm.kind == LODE_NORM_NONE)
        assert_equal(f, "y", f->y, y, TOKENS * f->d, 1e-5);
    else
        assert_equal(f, "down's output", f->act.ffn_out, got, TOKENS * f->d, 1e-5);
    free(x);
}

/* --- super activations ------------------------------------------------------------------------ */

/* Y by hand, then what is put back: rows 2 (one weight) and 5 (two that add up). */
static void check_restores(family_t *f) {
    static const lode_held_t restore[] = {{2, 7, 9}, {5, 1, -4}, {5, 3, 6}};
    static lode_real_t want[TOKENS * WIDE];
    const lode_input_codec_t none = {0};
    lode_real_t bias[WIDE];
    int changed = 0;
    for (int i = 0; i < WIDE; i++)
        bias[i] = (lode_real_t)i / 50;
    run_layer(f, &(lode_layer_edit_t){.restore = restore, .restore_count = 3, .bias = bias});
    product_of(f, LODE_MATRIX_DOWN, &none, want);
    for (int64_t s = 0; s < SEQUENCES; s++)
        for (int first = 0; first < 3; first += 1 + first) { /* 0, then 1 and 2 */
            const int64_t row = restore[first].row;
            int64_t best = -1;
            double most = -1, added = 0;
            for (int64_t t = offsets[s]; t < offsets[s + 1]; t++) {
                double more = 0;
                for (int r = first; r < (first ? 3 : 1); r++)
                    more += (double)f->u[t * f->m + restore[r].col] * (double)restore[r].value;
                const double magnitude = fabs((double)want[t * f->d + row] + more);
                if (magnitude > most) {
                    most = magnitude;
                    best = t;
                    added = more;
                }
            }
            want[best * f->d + row] += (lode_real_t)added;
            changed += fabs(added) > 1e-3;
        }
    assert_true(changed >= 3);
    for (int64_t i = 0; i < TOKENS * f->d; i++)
        want[i] += bias[i % f->d];
    if (f->layer->ffn_post_norm.kind != LODE_NORM_NONE) {
        assert_equal(f, "Y", f->act.ffn_out, want, TOKENS * f->d, 1e-5);
        return;
    }
    for (int64_t i = 0; i < TOKENS * f->d; i++)
        want[i] += f->act.x_mid[i];
    assert_equal(f, "y with super activations", f->y, want, TOKENS * f->d, 1e-5);
}

static void check_family(const char *name) {
    static const int32_t channels[] = {0, 3, 4, 5, 11, 17, 18, 22, 35};
    family_t f;
    family_open(&f, name);
    check_codecs(&f, (lode_layer_edit_t){0});
    check_codecs(&f, (lode_layer_edit_t){.channels = channels, .count = 9});
    check_inputs(&f);
    check_restores(&f);
    family_close(&f);
}

static void test_families(void **state) {
    (void)state;
    assert_true(lode_test_families(check_family) >= LODE_TEST_FAMILIES_LEAST);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families)};
    MPI_Init(&argc, &argv);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
