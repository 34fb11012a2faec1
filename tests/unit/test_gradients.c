/* Every backward kernel against central finite differences, in double precision (this program
 * links the kernels compiled with LODE_REAL_DOUBLE). The functional is Σ cᵢ·outputᵢ with random c,
 * so that its gradient with respect to any input is one call of the backward with c. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/attention.h"
#include "kernels/glu.h"
#include "kernels/layer.h"
#include "kernels/linear.h"
#include "kernels/loss.h"
#include "kernels/norm.h"
#include "kernels/rope.h"
#include "testing/compare.h"

static uint64_t random_state = 1;

static double random_unit(void) { /* uniform in [−1, 1) */
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(random_state >> 11) / 4503599627370496.0 - 1.0;
}

static double *random_array(int64_t count, double scale) {
    double *array = malloc((size_t)count * sizeof *array);
    for (int64_t i = 0; i < count; i++)
        array[i] = scale * random_unit();
    return array;
}

static double *zeros(int64_t count) {
    return calloc((size_t)count + 1, sizeof(double));
}

static double dot(const double *a, const double *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* d(functional)/d(x[i]) by central differences, at up to 60 elements spread over x, against
 * gradient[i]. */
typedef double (*functional_t)(void *context);

static void check_gradient(const char *name, functional_t functional, void *context, double *x,
                           const double *gradient, int64_t count) {
    double scale = 0;
    for (int64_t i = 0; i < count; i++)
        scale = fmax(scale, fabs(gradient[i]));
    assert_true(scale > 1e-8); /* a gradient of zeros would check nothing */
    const int64_t step = count / 60 + 1;
    for (int64_t i = 0; i < count; i += step) {
        const double saved = x[i], h = 1e-5;
        x[i] = saved + h;
        const double up = functional(context);
        x[i] = saved - h;
        const double down = functional(context);
        x[i] = saved;
        const double numeric = (up - down) / (2 * h);
        LODE_ASSERT_CLOSE(
            lode_compare_f64(name, &gradient[i], 1, &numeric, 1, 2e-7 * scale + 1e-9, 1e-6));
    }
}

/* --- rmsnorm -------------------------------------------------------------------------------- */

typedef struct norm_case {
    int64_t tokens, d;
    double *x, *w, *y, *c, *inverse;
} norm_case_t;

static double norm_functional(void *context) {
    norm_case_t *n = context;
    lode_rmsnorm_forward(n->tokens, n->d, 1e-5, n->x, n->w, n->y, n->inverse);
    return dot(n->y, n->c, n->tokens * n->d);
}

static void rmsnorm(void **state) {
    (void)state;
    norm_case_t n = {.tokens = 3, .d = 37};
    const int64_t count = n.tokens * n.d;
    n.x = random_array(count, 2);
    n.w = random_array(n.d, 1);
    n.c = random_array(count, 1);
    n.y = zeros(count);
    n.inverse = zeros(n.tokens);
    double *dx = zeros(count);
    norm_functional(&n);
    lode_rmsnorm_backward(n.tokens, n.d, n.c, n.x, n.w, n.inverse, dx);
    check_gradient("rmsnorm dx", norm_functional, &n, n.x, dx, count);
    free(n.x);
    free(n.w);
    free(n.c);
    free(n.y);
    free(n.inverse);
    free(dx);
}

/* --- rope ----------------------------------------------------------------------------------- */

typedef struct rope_case {
    double *x, *y, *c, *cosines, *sines;
} rope_case_t;

enum { ROPE_TOKENS = 5, ROPE_HEADS = 3, ROPE_DIM = 8 };
enum { ROPE_COUNT = ROPE_TOKENS * ROPE_HEADS * ROPE_DIM };

static double rope_functional(void *context) {
    rope_case_t *r = context;
    memcpy(r->y, r->x, ROPE_COUNT * sizeof *r->y);
    lode_rope_apply(ROPE_TOKENS, ROPE_HEADS, ROPE_DIM, r->cosines, r->sines, false, r->y);
    return dot(r->y, r->c, ROPE_COUNT);
}

static void rope(void **state) {
    (void)state;
    rope_case_t r = {.x = random_array(ROPE_COUNT, 1),
                     .c = random_array(ROPE_COUNT, 1),
                     .y = zeros(ROPE_COUNT),
                     .cosines = zeros(ROPE_TOKENS * ROPE_DIM),
                     .sines = zeros(ROPE_TOKENS * ROPE_DIM)};
    lode_rope_table(ROPE_TOKENS, ROPE_DIM, 10000, r.cosines, r.sines);
    double *dx = zeros(ROPE_COUNT);
    memcpy(dx, r.c, ROPE_COUNT * sizeof *dx);
    lode_rope_apply(ROPE_TOKENS, ROPE_HEADS, ROPE_DIM, r.cosines, r.sines, true, dx);
    check_gradient("rope dx", rope_functional, &r, r.x, dx, ROPE_COUNT);
    /* position 0 is not turned, position 1 turns the first pair by one radian */
    lode_rope_apply(ROPE_TOKENS, ROPE_HEADS, ROPE_DIM, r.cosines, r.sines, false,
                    memcpy(r.y, r.x, ROPE_COUNT * sizeof *r.y));
    assert_true(memcmp(r.y, r.x, ROPE_HEADS * ROPE_DIM * sizeof *r.y) == 0);
    const double *x = r.x + ROPE_HEADS * ROPE_DIM, *y = r.y + ROPE_HEADS * ROPE_DIM;
    const double want = x[0] * cos(1.0) - x[ROPE_DIM / 2] * sin(1.0);
    LODE_ASSERT_CLOSE(lode_compare_f64("rope", y, 1, &want, 1, 1e-14, 0));
    free(r.x);
    free(r.y);
    free(r.c);
    free(r.cosines);
    free(r.sines);
    free(dx);
}

/* --- attention ------------------------------------------------------------------------------ */

typedef struct attention_case {
    lode_attention_shape_t shape;
    int64_t tokens;
    double *q, *k, *v, *o, *c, *workspace;
} attention_case_t;

static double attention_functional(void *context) {
    attention_case_t *a = context;
    lode_attention_forward(&a->shape, a->tokens, a->q, a->k, a->v, a->o, a->workspace);
    return dot(a->o, a->c, a->tokens * a->shape.heads * a->shape.head_dim);
}

/* Straight from the definition, one query at a time. */
static void attention_naive(const attention_case_t *a, double *o) {
    const int64_t dim = a->shape.head_dim, group = a->shape.heads / a->shape.kv_heads;
    double *p = zeros(a->tokens);
    for (int64_t t = 0; t < a->tokens; t++) {
        for (int64_t h = 0; h < a->shape.heads; h++) {
            const double *q = a->q + (t * a->shape.heads + h) * dim;
            double sum = 0;
            for (int64_t s = 0; s <= t; s++) {
                const double *k = a->k + (s * a->shape.kv_heads + h / group) * dim;
                sum += p[s] = exp(dot(q, k, dim) / sqrt((double)dim));
            }
            for (int64_t i = 0; i < dim; i++) {
                double value = 0;
                for (int64_t s = 0; s <= t; s++)
                    value += p[s] / sum * a->v[(s * a->shape.kv_heads + h / group) * dim + i];
                o[(t * a->shape.heads + h) * dim + i] = value;
            }
        }
    }
    free(p);
}

static void check_attention(int64_t heads, int64_t kv_heads, int64_t dim, int64_t tokens) {
    attention_case_t a = {.shape = {heads, kv_heads, dim}, .tokens = tokens};
    const int64_t nq = tokens * heads * dim, nk = tokens * kv_heads * dim;
    a.q = random_array(nq, 2);
    a.k = random_array(nk, 2);
    a.v = random_array(nk, 1);
    a.c = random_array(nq, 1);
    a.o = zeros(nq);
    a.workspace = zeros(lode_attention_workspace(&a.shape, tokens));
    double *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk), *want = zeros(nq);
    attention_functional(&a);
    attention_naive(&a, want);
    LODE_ASSERT_CLOSE(lode_compare_f64("attention o", a.o, nq, want, nq, 1e-12, 1e-12));
    lode_attention_backward(&a.shape, tokens, a.q, a.k, a.v, a.o, a.c, dq, dk, dv, a.workspace);
    check_gradient("attention dq", attention_functional, &a, a.q, dq, nq);
    check_gradient("attention dk", attention_functional, &a, a.k, dk, nk);
    check_gradient("attention dv", attention_functional, &a, a.v, dv, nk);
    double *arrays[] = {a.q, a.k, a.v, a.o, a.c, a.workspace, dq, dk, dv, want};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void attention(void **state) {
    (void)state;
    check_attention(4, 2, 6, 7);    /* one block */
    check_attention(1, 1, 2, 2);    /* as small as it gets */
    check_attention(8, 2, 4, 150);  /* several blocks of 64 query tokens, ragged end */
    check_attention(32, 1, 4, 40);  /* group larger than a block's rows allow: 16-token blocks */
    check_attention(2, 2, 10, 300); /* blocks of 256 */
}

/* --- swiglu --------------------------------------------------------------------------------- */

typedef struct glu_case {
    int64_t count;
    double *gate, *up, *u, *c;
} glu_case_t;

static double glu_functional(void *context) {
    glu_case_t *g = context;
    lode_swiglu_forward(g->count, g->gate, g->up, g->u);
    return dot(g->u, g->c, g->count);
}

static void swiglu(void **state) {
    (void)state;
    glu_case_t g = {.count = 59};
    g.gate = random_array(g.count, 6);
    g.up = random_array(g.count, 2);
    g.c = random_array(g.count, 1);
    g.u = zeros(g.count);
    double *dgate = zeros(g.count), *dup = zeros(g.count);
    lode_swiglu_backward(g.count, g.c, g.gate, g.up, dgate, dup);
    check_gradient("swiglu dgate", glu_functional, &g, g.gate, dgate, g.count);
    check_gradient("swiglu dup", glu_functional, &g, g.up, dup, g.count);
    double *arrays[] = {g.gate, g.up, g.c, g.u, dgate, dup};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

/* --- linear, with every dtype and selection ------------------------------------------------- */

static uint16_t to_bfloat(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

/* A random matrix of the dtype, of values every dtype holds exactly: k/8, |k| ≤ 16. */
static void *random_weight(lode_dtype_t dtype, int64_t count, double *plain) {
    unsigned char *bytes = malloc((size_t)count * 4 + 1);
    for (int64_t i = 0; i < count; i++) {
        const int k = (int)(random_unit() * 16.99);
        const float value = (float)k / 8;
        plain[i] = (double)value;
        uint16_t half = to_bfloat(value);
        if (dtype == LODE_DTYPE_F16) { /* from float: rebase exponent 127 to 15, cut mantissa */
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            half = (uint16_t)(bits >> 16 & 0x8000u);
            if (k != 0)
                half |= (uint16_t)((((bits >> 23 & 0xffu) - 112u) << 10) | (bits >> 13 & 0x3ffu));
        }
        if (dtype == LODE_DTYPE_F32)
            memcpy(bytes + 4 * i, &value, 4);
        else
            memcpy(bytes + 2 * i, &half, 2);
    }
    return bytes;
}

static void check_linear(lode_dtype_t dtype, int64_t rows, int64_t cols, bool select_rows,
                         bool select_cols) {
    double *plain = zeros(rows * cols);
    void *data = random_weight(dtype, rows * cols, plain);
    lode_tensor_t tensor = {.data = data, .dtype = dtype, .rank = 2, .shape = {rows, cols}};
    lode_weight_t weight = lode_weight_of(&tensor);
    int32_t *row_index = calloc((size_t)rows, sizeof *row_index);
    int32_t *col_index = calloc((size_t)cols, sizeof *col_index);
    if (select_rows) {
        weight.row_index = row_index;
        weight.out = 0;
        for (int32_t i = 0; i < rows; i += 1 + i % 3)
            row_index[weight.out++] = i;
    }
    if (select_cols) {
        weight.col_index = col_index;
        weight.in = 0;
        for (int32_t i = 1; i < cols; i += 1 + i % 2)
            col_index[weight.in++] = i;
    }
    const int64_t tokens = 3, in = weight.in, out = weight.out;
    double *x = random_array(tokens * in, 1), *dy = random_array(tokens * out, 1);
    double *y = zeros(tokens * out), *want_y = zeros(tokens * out);
    double *dx = zeros(tokens * in), *want_dx = zeros(tokens * in);
    double *workspace = zeros(lode_linear_workspace(&weight));
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < out; i++)
            for (int64_t j = 0; j < in; j++) {
                const double w = plain[(select_rows ? row_index[i] : i) * cols +
                                       (select_cols ? col_index[j] : j)];
                want_y[t * out + i] += 2 * w * x[t * in + j]; /* twice: plain, then accumulated */
                want_dx[t * in + j] += 2 * w * dy[t * out + i];
            }
    lode_linear_forward(&weight, tokens, x, false, y, workspace);
    lode_linear_forward(&weight, tokens, x, true, y, workspace);
    lode_linear_backward(&weight, tokens, dy, false, dx, workspace);
    lode_linear_backward(&weight, tokens, dy, true, dx, workspace);
    LODE_ASSERT_CLOSE(
        lode_compare_f64("linear y", y, tokens * out, want_y, tokens * out, 1e-10, 1e-11));
    LODE_ASSERT_CLOSE(
        lode_compare_f64("linear dx", dx, tokens * in, want_dx, tokens * in, 1e-10, 1e-11));
    void *arrays[] = {plain, data, row_index, col_index, x, dy, y, want_y, dx, want_dx, workspace};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void linear(void **state) {
    (void)state;
    const lode_dtype_t dtypes[] = {LODE_DTYPE_F32, LODE_DTYPE_F16, LODE_DTYPE_BF16};
    for (int i = 0; i < 3; i++) {
        for (int selection = 0; selection < 4; selection++)
            check_linear(dtypes[i], 13, 29, selection & 1, selection & 2);
        check_linear(dtypes[i], 150, 9000, true, true); /* several blocks both ways */
        check_linear(dtypes[i], 9000, 150, true, false);
    }
}

/* --- loss ----------------------------------------------------------------------------------- */

static double loss_functional(void *context) {
    const lode_loss_t *l = context;
    lode_loss_run(l);
    return dot(l->nll, l->weight, l->rows);
}

static void check_loss(double cap) {
    enum { VOCAB = 31, D = 10, ROWS = 1030 }; /* three chunks */
    double *plain = zeros(VOCAB * D);
    void *data = random_weight(LODE_DTYPE_F32, VOCAB * D, plain);
    lode_tensor_t tensor = {.data = data, .rank = 2, .shape = {VOCAB, D}};
    const lode_weight_t head = lode_weight_of(&tensor);
    double *h = random_array(ROWS * D, 1), *weight = random_array(ROWS, 1), *nll = zeros(ROWS);
    double *workspace = zeros(lode_loss_workspace(&head)), *dh = zeros(ROWS * D);
    int32_t *target = calloc(ROWS, sizeof *target);
    for (int64_t r = 0; r < ROWS; r++) {
        target[r] = r % 7 == 3 ? -1 : (int32_t)(r * 11 % VOCAB);
        if (target[r] < 0)
            weight[r] = 0;
    }
    lode_loss_t l = {.head = &head,
                     .cap = cap,
                     .rows = ROWS,
                     .h = h,
                     .target = target,
                     .weight = weight,
                     .nll = nll,
                     .dh = dh,
                     .workspace = workspace};
    lode_loss_run(&l);
    /* one row from the definition */
    double sum = 0, at_target = 0;
    for (int64_t j = 0; j < VOCAB; j++) {
        const double plain_logit = dot(h + D, plain + j * D, D);
        const double z = cap > 0 ? cap * tanh(plain_logit / cap) : plain_logit;
        sum += exp(z);
        at_target = j == target[1] ? z : at_target;
    }
    const double want = log(sum) - at_target;
    LODE_ASSERT_CLOSE(lode_compare_f64("nll", &nll[1], 1, &want, 1, 1e-12, 1e-12));
    assert_true(nll[3] == 0);
    l.dh = NULL;
    check_gradient("loss dh", loss_functional, &l, h, dh, ROWS * D);
    void *arrays[] = {plain, data, h, weight, nll, workspace, target, dh};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void loss(void **state) {
    (void)state;
    check_loss(0);
    check_loss(1.5); /* most logits are well inside the cap, some near it */
}

/* --- a whole layer -------------------------------------------------------------------------- */

typedef struct layer_case {
    lode_layer_t layer;
    lode_sequences_t sequences;
    lode_activations_t act;
    int64_t tokens;
    double *x, *y, *c, *workspace, *probe; /* probe [T, m]: an addition to u, to get dL/du */
    void *owned[64];
    int count;
} layer_case_t;

static void *own(layer_case_t *l, void *memory) {
    l->owned[l->count++] = memory;
    return memory;
}

static lode_weight_t layer_weight(layer_case_t *l, int64_t rows, int64_t cols) {
    double *plain = own(l, zeros(rows * cols));
    float *data = own(l, malloc((size_t)(rows * cols) * sizeof *data));
    for (int64_t i = 0; i < rows * cols; i++)
        data[i] = (float)(plain[i] = random_unit() * 0.5);
    lode_tensor_t tensor = {.data = data, .rank = 2, .shape = {rows, cols}};
    return lode_weight_of(&tensor);
}

static void layer_setup(layer_case_t *l, int64_t d, int64_t m, const int64_t *offsets,
                        int64_t count) {
    const lode_attention_shape_t shape = {4, 2, 6};
    const int64_t qw = shape.heads * shape.head_dim, kw = shape.kv_heads * shape.head_dim;
    *l = (layer_case_t){.sequences = {count, offsets}, .tokens = offsets[count]};
    l->layer = (lode_layer_t){.d = d, .m = m, .eps = 1e-5, .attention = shape};
    l->layer.attention_norm = own(l, random_array(d, 1));
    l->layer.ffn_norm = own(l, random_array(d, 1));
    l->layer.q = layer_weight(l, qw, d);
    l->layer.k = layer_weight(l, kw, d);
    l->layer.v = layer_weight(l, kw, d);
    l->layer.o = layer_weight(l, d, qw);
    l->layer.gate = layer_weight(l, m, d);
    l->layer.up = layer_weight(l, m, d);
    l->layer.down = layer_weight(l, d, m);
    double *cosines = own(l, zeros(l->tokens * 3)), *sines = own(l, zeros(l->tokens * 3));
    lode_rope_table(l->tokens, shape.head_dim, 100, cosines, sines);
    l->layer.cosines = cosines;
    l->layer.sines = sines;
    l->x = own(l, random_array(l->tokens * d, 1));
    l->y = own(l, zeros(l->tokens * d));
    l->c = own(l, random_array(l->tokens * d, 1));
    l->workspace = own(l, zeros(lode_layer_workspace(&l->layer, l->tokens, l->tokens, 1)));
    l->act.x = l->x;
    lode_activations_place(&l->act, &l->layer, l->tokens,
                           own(l, zeros(l->tokens * lode_activations_per_token(&l->layer))));
    l->probe = own(l, zeros(l->tokens * m));
}

static double layer_functional(void *context) {
    layer_case_t *l = context;
    lode_layer_forward(&l->layer, &l->sequences, &l->act, l->y, l->workspace, NULL, NULL);
    double value = dot(l->y, l->c, l->tokens * l->layer.d);
    /* a perturbation of u reaches y through the down projection alone */
    double *extra = zeros(l->tokens * l->layer.d);
    lode_linear_forward(&l->layer.down, l->tokens, l->probe, false, extra, l->workspace);
    value += dot(extra, l->c, l->tokens * l->layer.d);
    free(extra);
    return value;
}

static void layer(void **state) {
    (void)state;
    const int64_t offsets[] = {0, 5, 6, 14}, d = 12, m = 20;
    layer_case_t l;
    layer_setup(&l, d, m, offsets, 3);
    layer_functional(&l);
    double *dx = own(&l, zeros(l.tokens * d)), *du_copy = own(&l, zeros(l.tokens * m));
    memcpy(dx, l.c, (size_t)(l.tokens * d) * sizeof *dx);
    const double *u, *du;
    lode_layer_backward_ffn(&l.layer, &l.sequences, &l.act, dx, l.workspace, &u, &du);
    memcpy(du_copy, du, (size_t)(l.tokens * m) * sizeof *du);
    lode_layer_backward_rest(&l.layer, &l.sequences, &l.act, dx, l.workspace);
    check_gradient("layer du", layer_functional, &l, l.probe, du_copy, l.tokens * m);
    check_gradient("layer dx", layer_functional, &l, l.x, dx, l.tokens * d);
    for (int i = 0; i < l.count; i++)
        free(l.owned[i]);
}

/* A sequence must not see its neighbours in the micro-batch, and a layer without channels is
 * attention alone. */
static void layer_sequences_and_empty_ffn(void **state) {
    (void)state;
    const int64_t together[] = {0, 5, 14}, alone[] = {0, 9}, d = 12;
    layer_case_t l;
    layer_setup(&l, d, 0, together, 2);
    layer_functional(&l);
    double *first = zeros(9 * d);
    memcpy(first, l.y + 5 * d, (size_t)(9 * d) * sizeof *first);
    memmove(l.x, l.x + 5 * d, (size_t)(9 * d) * sizeof *l.x);
    l.sequences = (lode_sequences_t){1, alone};
    lode_layer_forward(&l.layer, &l.sequences, &l.act, l.y, l.workspace, NULL, NULL);
    LODE_ASSERT_CLOSE(lode_compare_f64("alone", l.y, 9 * d, first, 9 * d, 1e-13, 1e-12));
    l.tokens = 9;
    double *dx = zeros(9 * d);
    memcpy(dx, l.c, (size_t)(9 * d) * sizeof *dx);
    lode_layer_backward_rest(&l.layer, &l.sequences, &l.act, dx, l.workspace);
    check_gradient("attention-only dx", layer_functional, &l, l.x, dx, 9 * d);
    free(first);
    free(dx);
    for (int i = 0; i < l.count; i++)
        free(l.owned[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rmsnorm),   cmocka_unit_test(rope),
        cmocka_unit_test(attention), cmocka_unit_test(swiglu),
        cmocka_unit_test(linear),    cmocka_unit_test(loss),
        cmocka_unit_test(layer),     cmocka_unit_test(layer_sequences_and_empty_ffn),
    };
    lode_set_threads(1);
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
