/* Every backward kernel against central finite differences, in double precision (this program
 * links the kernels compiled with LODE_REAL_DOUBLE). The functional is Σ cᵢ·outputᵢ with random c,
 * so that its gradient with respect to any input is one call of the backward with c. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/embedding.h"
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

/* --- norms ---------------------------------------------------------------------------------- */

typedef struct norm_case {
    lode_norm_t norm;
    int64_t rows;
    double *x, *y, *c, *inverse;
} norm_case_t;

static double norm_functional(void *context) {
    norm_case_t *n = context;
    lode_norm_forward(&n->norm, n->rows, n->x, n->y, n->inverse);
    return dot(n->y, n->c, n->rows * n->norm.width);
}

/* One row from the definition. */
static void check_norm_row(const norm_case_t *n, int64_t row) {
    const int64_t d = n->norm.width;
    const double *x = n->x + row * d;
    double mean = 0, square = 0;
    for (int64_t i = 0; i < d; i++)
        mean += n->norm.kind == LODE_NORM_LAYER ? x[i] / (double)d : 0;
    for (int64_t i = 0; i < d; i++)
        square += (x[i] - mean) * (x[i] - mean) / (double)d;
    for (int64_t i = 0; i < d; i++) {
        const double plain = (x[i] - mean) / sqrt(square + n->norm.eps);
        const double want = plain * (n->norm.weight ? n->norm.weight[i] + n->norm.offset : 1) +
                            (n->norm.bias ? n->norm.bias[i] : 0);
        LODE_ASSERT_CLOSE(
            lode_compare_f64("norm y", &n->y[row * d + i], 1, &want, 1, 1e-13, 1e-13));
    }
}

/* The gradients of weight and bias, on top of what is there; NULL where they are not wanted. */
static void check_norm_weights(norm_case_t *n, double *w, double *b) {
    const int64_t d = n->norm.width;
    double *dw = zeros(d), *db = zeros(d), *again = zeros(d), *centres = zeros(n->rows);
    norm_functional(n);
    lode_norm_gradient(&n->norm, n->rows, n->c, n->x, n->inverse, dw, db, centres);
    check_gradient("norm dw", norm_functional, n, w, dw, d);
    if (n->norm.bias)
        check_gradient("norm db", norm_functional, n, b, db, d);
    lode_norm_gradient(&n->norm, n->rows, n->c, n->x, n->inverse, again, NULL, centres);
    lode_norm_gradient(&n->norm, n->rows, n->c, n->x, n->inverse, NULL, db, centres);
    assert_memory_equal(again, dw, (size_t)d * sizeof *dw);
    lode_norm_gradient(&n->norm, n->rows, n->c, n->x, n->inverse, again, NULL, centres);
    for (int64_t i = 0; i < d; i++)
        assert_true(again[i] == 2 * dw[i]);
    double *arrays[] = {dw, db, again, centres};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void check_norm(lode_norm_kind_t kind, bool weight, bool bias, bool offset) {
    norm_case_t n = {.norm = {.kind = kind, .width = 37, .eps = 1e-2, .offset = offset}, .rows = 3};
    const int64_t count = n.rows * n.norm.width;
    double *w = random_array(n.norm.width, 1), *b = random_array(n.norm.width, 1);
    n.norm.weight = weight ? w : NULL;
    n.norm.bias = bias ? b : NULL;
    n.x = random_array(count, 2);
    n.c = random_array(count, 1);
    n.y = zeros(count);
    n.inverse = zeros(n.rows);
    for (int64_t i = 0; i < count; i++)
        n.x[i] += 0.7; /* a mean that matters */
    double *dx = zeros(count), *sum = random_array(count, 1), *start = zeros(count);
    norm_functional(&n);
    check_norm_row(&n, 1);
    lode_norm_backward(&n.norm, n.rows, n.c, n.x, n.inverse, false, dx);
    check_gradient("norm dx", norm_functional, &n, n.x, dx, count);
    if (weight)
        check_norm_weights(&n, w, b);
    norm_functional(&n); /* inverses of x as it is */
    memcpy(start, sum, (size_t)count * sizeof *sum);
    lode_norm_backward(&n.norm, n.rows, n.c, n.x, n.inverse, true, sum);
    for (int64_t i = 0; i < count; i++)
        start[i] += dx[i];
    LODE_ASSERT_CLOSE(lode_compare_f64("norm dx added", sum, count, start, count, 1e-14, 0));
    lode_norm_backward(&n.norm, n.rows, n.c, n.x, n.inverse, false, n.c); /* in place */
    assert_memory_equal(n.c, dx, (size_t)count * sizeof *dx);
    double *arrays[] = {w, b, n.x, n.c, n.y, n.inverse, dx, sum, start};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void norms(void **state) {
    (void)state;
    for (int parts = 0; parts < 4; parts++) {
        check_norm(LODE_NORM_RMS, parts & 1, parts & 2, false);
        check_norm(LODE_NORM_LAYER, parts & 1, parts & 2, false);
    }
    check_norm(LODE_NORM_RMS, true, true, true);
    check_norm(LODE_NORM_LAYER, true, false, true);
    /* nothing, in place and not */
    const lode_norm_t none = {.width = 5};
    double x[5] = {1, 2, 3, 4, 5}, y[5] = {0};
    lode_norm_forward(&none, 1, x, y, NULL);
    lode_norm_forward(&none, 1, x, x, NULL);
    assert_memory_equal(x, y, sizeof x);
    lode_norm_backward(&none, 1, x, x, NULL, true, y);
    assert_true(y[0] == 2 && y[4] == 10);
    lode_norm_gradient(&none, 1, x, x, NULL, y, y, NULL);
    assert_true(y[0] == 2 && y[4] == 10);
}

/* --- rope ----------------------------------------------------------------------------------- */

typedef struct rope_case {
    lode_rope_t rope;
    int64_t tokens;
    double *x, *y, *c, *workspace; /* [queries, then keys] */
} rope_case_t;

enum { ROPE_TOKENS = 5, ROPE_HEADS = 3, ROPE_KEYS = 1, ROPE_DIM = 8 };
enum { ROPE_QUERY = ROPE_TOKENS * ROPE_HEADS * ROPE_DIM };
enum { ROPE_COUNT = ROPE_TOKENS * (ROPE_HEADS + ROPE_KEYS) * ROPE_DIM };

static void rope_turn(const rope_case_t *r, int64_t tokens, bool inverse, double *x) {
    lode_rope_turn(&r->rope, tokens, ROPE_HEADS, ROPE_KEYS, ROPE_DIM, inverse, x, x + ROPE_QUERY,
                   r->workspace);
}

static double rope_functional(void *context) {
    rope_case_t *r = context;
    memcpy(r->y, r->x, ROPE_COUNT * sizeof *r->y);
    rope_turn(r, r->tokens, false, r->y);
    return dot(r->y, r->c, ROPE_COUNT);
}

/* Every pair of a turned token against the frequencies for a sequence of `tokens`. */
static void check_turn(const rope_case_t *r, int64_t tokens) {
    const lode_rotary_t *rotary = r->rope.rotary;
    double frequency[LODE_ROTARY_MAX_FREQUENCIES], factor;
    lode_rotary_frequencies(rotary, tokens, frequency, &factor);
    memcpy(r->y, r->x, ROPE_COUNT * sizeof *r->y);
    rope_turn(r, tokens, false, r->y);
    const int64_t t = tokens - 1, half = rotary->dims / 2;
    for (int64_t i = 0; i < ROPE_DIM; i++) {
        const double *x = r->x + t * ROPE_HEADS * ROPE_DIM;
        const double angle = (double)t * frequency[i % half];
        const double partner = i < half ? -x[i + half] : x[i - (i < 2 * half ? half : 0)];
        const double want =
            i < 2 * half ? factor * (x[i] * cos(angle) + partner * sin(angle)) : x[i];
        LODE_ASSERT_CLOSE(
            lode_compare_f64("rope", &r->y[t * ROPE_HEADS * ROPE_DIM + i], 1, &want, 1, 1e-13, 0));
    }
}

static void check_rope(const lode_rotary_t *rotary) {
    double *memory = zeros(lode_rope_memory(rotary, ROPE_TOKENS)), *dx = zeros(ROPE_COUNT);
    rope_case_t r = {.rope = lode_rope_create(rotary, ROPE_TOKENS, memory),
                     .x = random_array(ROPE_COUNT, 1),
                     .c = random_array(ROPE_COUNT, 1),
                     .y = zeros(ROPE_COUNT)};
    r.workspace = zeros(lode_rope_workspace(&r.rope, ROPE_TOKENS));
    for (r.tokens = 1; r.tokens <= ROPE_TOKENS; r.tokens++)
        check_turn(&r, r.tokens);
    r.tokens = ROPE_TOKENS;
    memcpy(dx, r.c, ROPE_COUNT * sizeof *dx);
    rope_turn(&r, ROPE_TOKENS, true, dx);
    check_gradient("rope dx", rope_functional, &r, r.x, dx, ROPE_COUNT);
    double *arrays[] = {memory, dx, r.x, r.c, r.y, r.workspace};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void rope(void **state) {
    (void)state;
    lode_rotary_t rotary = {
        .kind = LODE_ROTARY_DEFAULT, .dims = ROPE_DIM, .theta = 10000, .attention_factor = 1};
    check_rope(&rotary);
    rotary.dims = 6; /* the rest of the head stays as it is */
    rotary.attention_factor = 1.3;
    check_rope(&rotary);
    /* two sets of frequencies, and one for each length beyond the original one */
    rotary.kind = LODE_ROTARY_LONGROPE;
    rotary.original_positions = 3;
    for (int i = 0; i < 3; i++) {
        rotary.short_factor[i] = 1 + 0.1 * i;
        rotary.long_factor[i] = 2 + 0.5 * i;
    }
    check_rope(&rotary);
    rotary.kind = LODE_ROTARY_DYNAMIC;
    rotary.factor = 2;
    check_rope(&rotary);
    /* a model without */
    const lode_rope_t none = lode_rope_create(&(lode_rotary_t){0}, ROPE_TOKENS, NULL);
    double x[ROPE_DIM] = {1}, want[ROPE_DIM] = {1};
    assert_true(lode_rope_memory(&(lode_rotary_t){0}, ROPE_TOKENS) == 0);
    lode_rope_turn(&none, 1, 1, 1, ROPE_DIM, false, x, x, NULL);
    assert_memory_equal(x, want, sizeof x);
}

/* --- attention ------------------------------------------------------------------------------ */

typedef struct attention_case {
    lode_attention_shape_t shape;
    int64_t tokens;
    double *q, *k, *v, *o, *softmax, *c, *workspace;
} attention_case_t;

static double attention_functional(void *context) {
    attention_case_t *a = context;
    lode_attention_forward(&a->shape, a->tokens, a->q, a->k, a->v, a->o, a->softmax, a->workspace);
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
                double score = a->shape.scale * dot(q, k, dim);
                if (a->shape.cap > 0)
                    score = a->shape.cap * tanh(score / a->shape.cap);
                p[s] = a->shape.window > 0 && t - s >= a->shape.window ? 0 : exp(score);
                sum += p[s];
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

static void check_shape(lode_attention_shape_t shape, int64_t tokens) {
    attention_case_t a = {.shape = shape, .tokens = tokens};
    const int64_t nq = tokens * shape.heads * shape.head_dim;
    const int64_t nk = tokens * shape.kv_heads * shape.head_dim;
    a.q = random_array(nq, 2);
    a.k = random_array(nk, 2);
    a.v = random_array(nk, 1);
    a.c = random_array(nq, 1);
    a.o = zeros(nq);
    a.workspace = zeros(lode_attention_workspace(&a.shape, tokens, 1));
    a.softmax = zeros(2 * tokens * shape.heads);
    double *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk), *want = zeros(nq);
    attention_functional(&a);
    attention_naive(&a, want);
    LODE_ASSERT_CLOSE(lode_compare_f64("attention o", a.o, nq, want, nq, 1e-12, 1e-12));
    lode_attention_backward(&a.shape, tokens, a.q, a.k, a.v, a.o, a.softmax, a.c, dq, dk, dv,
                            a.workspace);
    check_gradient("attention dq", attention_functional, &a, a.q, dq, nq);
    check_gradient("attention dk", attention_functional, &a, a.k, dk, nk);
    check_gradient("attention dv", attention_functional, &a, a.v, dv, nk);
    double *arrays[] = {a.q, a.k, a.v, a.o, a.softmax, a.c, a.workspace, dq, dk, dv, want};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void check_attention(int64_t heads, int64_t kv_heads, int64_t dim, int64_t tokens) {
    lode_attention_shape_t shape = {heads, kv_heads, dim, .scale = 0.9 / sqrt((double)dim)};
    const int64_t windows[] = {0, 2, tokens / 2 + 1, tokens, tokens + 5};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++)
        for (int capped = 0; capped < 2; capped++) {
            shape.cap = capped ? 0.8 : 0; /* which bends most scores */
            shape.window = windows[i];
            if (tokens < 100 || (int)i == 2 * capped) /* the rest takes long */
                check_shape(shape, tokens);
        }
}

/* A window of one token gives every token its own value. */
static void attention_to_oneself(void **state) {
    (void)state;
    enum { TOKENS = 40, DIM = 3, COUNT = TOKENS * DIM };
    const lode_attention_shape_t shape = {1, 1, DIM, .scale = 1, .window = 1};
    double *q = random_array(COUNT, 2), *v = random_array(COUNT, 1), *o = zeros(COUNT);
    double *dq = zeros(COUNT), *dk = zeros(COUNT), *dv = zeros(COUNT), *nothing = zeros(COUNT);
    double *workspace = zeros(lode_attention_workspace(&shape, TOKENS, 1)),
           *softmax = zeros(2 * TOKENS);
    lode_attention_forward(&shape, TOKENS, q, q, v, o, softmax, workspace);
    assert_memory_equal(o, v, COUNT * sizeof *o);
    lode_attention_backward(&shape, TOKENS, q, q, v, o, softmax, q, dq, dk, dv, workspace);
    assert_memory_equal(dv, q, COUNT * sizeof *dv);
    LODE_ASSERT_CLOSE(lode_compare_f64("dq", dq, COUNT, nothing, COUNT, 1e-14, 0));
    LODE_ASSERT_CLOSE(lode_compare_f64("dk", dk, COUNT, nothing, COUNT, 1e-14, 0));
    double *arrays[] = {q, v, o, dq, dk, dv, nothing, workspace, softmax};
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

/* --- activations ---------------------------------------------------------------------------- */

typedef struct activation_case {
    lode_activation_t activation;
    int64_t count;
    double *gate, *up, *u, *c; /* gate NULL: none */
} activation_case_t;

static double activation_functional(void *context) {
    activation_case_t *a = context;
    lode_activation_forward(a->activation, a->count, a->gate, a->up, a->u);
    return dot(a->u, a->c, a->count);
}

static double activation_naive(lode_activation_t activation, double x) {
    switch (activation) {
    case LODE_ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case LODE_ACTIVATION_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case LODE_ACTIVATION_GELU:
        return x / 2 * (1 + erf(x / sqrt(2)));
    default:
        return x > 0 ? x : 0;
    }
}

static void check_activation(lode_activation_t activation, bool gated) {
    const int64_t count = 2100; /* several chunks, the last one ragged */
    activation_case_t a = {.activation = activation, .count = count, .u = zeros(count)};
    double *gate = random_array(count, 4), *dgate = zeros(count), *dup = zeros(count);
    a.gate = gated ? gate : NULL;
    a.up = random_array(count, 4);
    a.c = random_array(count, 1);
    activation_functional(&a);
    for (int64_t i = 0; i < count; i++) {
        const double want = gated ? activation_naive(activation, gate[i]) * a.up[i]
                                  : activation_naive(activation, a.up[i]);
        LODE_ASSERT_CLOSE(lode_compare_f64("activation", &a.u[i], 1, &want, 1, 1e-13, 1e-12));
    }
    lode_activation_backward(activation, count, a.c, a.gate, a.up, dgate, dup);
    if (gated)
        check_gradient("dgate", activation_functional, &a, gate, dgate, count);
    check_gradient("dup", activation_functional, &a, a.up, dup, count);
    lode_activation_backward(activation, count, a.c, a.gate, a.up, gate, a.up); /* in place */
    assert_memory_equal(a.up, dup, (size_t)count * sizeof *dup);
    assert_true(!gated || memcmp(gate, dgate, (size_t)count * sizeof *dgate) == 0);
    double *arrays[] = {gate, a.up, a.c, a.u, dgate, dup};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void activations(void **state) {
    (void)state;
    for (int i = 0; i < LODE_ACTIVATIONS; i++) {
        check_activation((lode_activation_t)i, true);
        check_activation((lode_activation_t)i, false);
    }
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

/* `transposed`: stored as [cols, rows]. `spare`: elements between the end of a stored line and the
 * next one. */
static void check_linear_view(lode_dtype_t dtype, int64_t rows, int64_t cols, bool select_rows,
                              bool select_cols, bool transposed, int64_t spare) {
    const int64_t lines = transposed ? cols : rows, pitch = (transposed ? rows : cols) + spare;
    double *plain = zeros(lines * pitch);
    void *data = random_weight(dtype, lines * pitch, plain);
    lode_tensor_t tensor = lode_tensor_matrix(data, dtype, rows, cols);
    tensor.pitch = pitch;
    tensor.transposed = transposed;
    lode_weight_t weight = lode_weight_of(&tensor);
    double *bias = random_array(rows, 1);
    weight.bias = spare > 0 ? bias : NULL;
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
                const int64_t row = select_rows ? row_index[i] : i;
                const int64_t col = select_cols ? col_index[j] : j;
                const double w = plain[transposed ? col * pitch + row : row * pitch + col];
                want_y[t * out + i] += 2 * w * x[t * in + j]; /* twice: plain, then accumulated */
                want_dx[t * in + j] += 2 * w * dy[t * out + i];
            }
    for (int64_t i = 0; weight.bias && i < tokens * out; i++)
        want_y[i] += 2 * bias[select_rows ? row_index[i % out] : i % out];
    lode_linear_forward(&weight, tokens, x, false, y, workspace);
    lode_linear_forward(&weight, tokens, x, true, y, workspace);
    lode_linear_backward(&weight, tokens, dy, false, dx, workspace);
    lode_linear_backward(&weight, tokens, dy, true, dx, workspace);
    LODE_ASSERT_CLOSE(
        lode_compare_f64("linear y", y, tokens * out, want_y, tokens * out, 1e-10, 1e-11));
    LODE_ASSERT_CLOSE(
        lode_compare_f64("linear dx", dx, tokens * in, want_dx, tokens * in, 1e-10, 1e-11));
    void *arrays[] = {plain, data,   row_index, col_index, x,         dy,
                      y,     want_y, dx,        want_dx,   workspace, bias};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void check_linear(lode_dtype_t dtype, int64_t rows, int64_t cols, bool select_rows,
                         bool select_cols) {
    check_linear_view(dtype, rows, cols, select_rows, select_cols, false, 0);
    check_linear_view(dtype, rows, cols, select_rows, select_cols, true, 0);
    check_linear_view(dtype, rows, cols, select_rows, select_cols, false, 7);
    check_linear_view(dtype, rows, cols, select_rows, select_cols, true, 5);
}

static void linear(void **state) {
    (void)state;
    const lode_dtype_t dtypes[] = {LODE_DTYPE_F32, LODE_DTYPE_F16, LODE_DTYPE_BF16};
    for (int i = 0; i < 3; i++) {
        for (int selection = 0; selection < 4; selection++)
            check_linear(dtypes[i], 13, 29, selection & 1, selection & 2);
        /* several blocks both ways */
        check_linear_view(dtypes[i], 150, 9000, true, true, i == 1, 0);
        check_linear_view(dtypes[i], 9000, 150, true, false, i > 0, 3);
    }
}

/* --- weights -------------------------------------------------------------------------------- */

/* dyᵀ·x on top of what is there, in every layout, of fewer tokens than are taken at once and more.
 */
static void check_linear_gradient(int64_t tokens, bool transposed, int64_t spare, bool bias) {
    enum { OUT = 37, IN = 21 };
    const int64_t lines = transposed ? IN : OUT, pitch = (transposed ? OUT : IN) + spare;
    double *x = random_array(tokens * IN, 1), *dy = random_array(tokens * OUT, 1);
    double *got = random_array(lines * pitch, 1), *want = zeros(lines * pitch);
    double *db = random_array(OUT, 1), *want_db = zeros(OUT);
    memcpy(want, got, (size_t)(lines * pitch) * sizeof *got);
    memcpy(want_db, db, OUT * sizeof *db);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < OUT; i++) {
            want_db[i] += bias ? dy[t * OUT + i] : 0;
            for (int64_t j = 0; j < IN; j++)
                want[transposed ? j * pitch + i : i * pitch + j] += dy[t * OUT + i] * x[t * IN + j];
        }
    const lode_gradient_t gradient = {
        .data = got, .pitch = pitch, .transposed = transposed, .bias = bias ? db : NULL};
    lode_linear_gradient(&gradient, OUT, IN, tokens, x, dy);
    LODE_ASSERT_CLOSE(
        lode_compare_f64("dW", got, lines * pitch, want, lines * pitch, 1e-12, 1e-12));
    LODE_ASSERT_CLOSE(lode_compare_f64("db", db, OUT, want_db, OUT, 1e-12, 1e-12));
    /* Nothing is wanted. */
    lode_linear_gradient(&(lode_gradient_t){.data = NULL}, OUT, IN, tokens, x, dy);
    double *arrays[] = {x, dy, got, want, db, want_db};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void linear_gradient(void **state) {
    (void)state;
    const int64_t counts[] = {0, 1, 256, 257, 700};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (int layout = 0; layout < 8; layout++)
            check_linear_gradient(counts[i], layout & 1, layout & 2 ? 5 : 0, layout & 4);
}

/* Rows of tables, some of them looked up often, some never. */
static void tables(void **state) {
    (void)state;
    enum { VOCAB = 23, D = 70, TOKENS = 57, PITCH = 73, POSITIONS = 30 };
    const int64_t offsets[] = {0, 1, 30, 57};
    const lode_sequences_t sequences = {3, offsets};
    double *dx = random_array(TOKENS * D, 1), *got = random_array(VOCAB * PITCH, 1);
    double *rows = random_array(POSITIONS * PITCH, 1);
    double *want = zeros(VOCAB * PITCH), *want_rows = zeros(POSITIONS * PITCH);
    int32_t ids[TOKENS], order[2 * TOKENS];
    memcpy(want, got, VOCAB * PITCH * sizeof *got);
    memcpy(want_rows, rows, POSITIONS * PITCH * sizeof *rows);
    for (int64_t s = 0; s < 3; s++)
        for (int64_t t = offsets[s]; t < offsets[s + 1]; t++) {
            ids[t] = (int32_t)(t % 4 == 0 ? 9 : t * t * 7 % VOCAB);
            for (int64_t i = 0; i < D; i++) {
                want[ids[t] * PITCH + i] += 1.5 * dx[t * D + i];
                want_rows[(t - offsets[s]) * PITCH + i] += dx[t * D + i];
            }
        }
    const lode_gradient_t table = {.data = got, .pitch = PITCH},
                          positions = {.data = rows, .pitch = PITCH};
    for (int64_t tokens = 0; tokens < 5; tokens++) /* no more is read than there is */
        lode_embedding_gradient(&table, 0, tokens, ids, 1.5, dx, order);
    lode_embedding_gradient(&table, D, TOKENS, ids, 1.5, dx, order);
    lode_positions_gradient(&positions, D, &sequences, dx);
    LODE_ASSERT_CLOSE(
        lode_compare_f64("embedding", got, VOCAB * PITCH, want, VOCAB * PITCH, 1e-12, 1e-12));
    LODE_ASSERT_CLOSE(lode_compare_f64("positions", rows, POSITIONS * PITCH, want_rows,
                                       POSITIONS * PITCH, 1e-12, 1e-12));
    double *arrays[] = {dx, got, rows, want, want_rows};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

/* --- loss ----------------------------------------------------------------------------------- */

static double loss_functional(void *context) {
    const lode_head_loss_t *l = context;
    lode_loss_run(l);
    return dot(l->nll, l->weight, l->rows);
}

/* The head's gradient, which goes on top of what is there, with the gradient of h in h's place. */
static void check_head(const lode_head_loss_t *loss, float *head, bool transposed) {
    const int64_t vocab = loss->head->out, d = loss->head->in, pitch = (transposed ? vocab : d) + 3;
    const int64_t count = (transposed ? d : vocab) * pitch;
    double *h = zeros(loss->rows * d), *got = random_array(count, 1), *start = zeros(count);
    const lode_gradient_t gradient = {.data = got, .pitch = pitch, .transposed = transposed};
    lode_head_loss_t l = *loss;
    memcpy(h, loss->h, (size_t)(loss->rows * d) * sizeof *h);
    memcpy(start, got, (size_t)count * sizeof *got);
    l.h = l.dh = h;
    l.gradient = &gradient;
    lode_loss_run(&l);
    assert_memory_equal(h, loss->dh, (size_t)(loss->rows * d) * sizeof *h);
    l = *loss;
    l.dh = NULL;
    for (int64_t i = 0; i < vocab * d; i += 5) {
        const int64_t at = transposed ? i % d * pitch + i / d : i / d * pitch + i % d;
        const float saved = head[i], step = 0x1p-14f; /* sums of eighths and this are exact */
        head[i] = saved + step;
        const double up = loss_functional(&l);
        head[i] = saved - step;
        const double numeric = (up - loss_functional(&l)) / (2 * (double)step);
        const double added = got[at] - start[at];
        head[i] = saved;
        LODE_ASSERT_CLOSE(lode_compare_f64("head", &added, 1, &numeric, 1, 1e-6, 1e-6));
    }
    double *arrays[] = {h, got, start};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void check_loss(double cap) {
    enum { VOCAB = 31, D = 10, ROWS = 1030 }; /* three chunks */
    double *plain = zeros(VOCAB * D);
    void *data = random_weight(LODE_DTYPE_F32, VOCAB * D, plain);
    const lode_tensor_t tensor = lode_tensor_matrix(data, LODE_DTYPE_F32, VOCAB, D);
    const lode_weight_t head = lode_weight_of(&tensor);
    double *h = random_array(ROWS * D, 1), *weight = random_array(ROWS, 1), *nll = zeros(ROWS);
    double *workspace = zeros(lode_loss_workspace(&head)), *dh = zeros(ROWS * D);
    int32_t *target = calloc(ROWS, sizeof *target);
    for (int64_t r = 0; r < ROWS; r++) {
        target[r] = r % 7 == 3 ? -1 : (int32_t)(r * 11 % VOCAB);
        if (target[r] < 0)
            weight[r] = 0;
    }
    lode_head_loss_t l = {.head = &head,
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
    check_head(&l, data, cap > 0);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms),
        cmocka_unit_test(rope),
        cmocka_unit_test(attention),
        cmocka_unit_test(attention_to_oneself),
        cmocka_unit_test(linear),
        cmocka_unit_test(activations),
        cmocka_unit_test(linear_gradient),
        cmocka_unit_test(tables),
        cmocka_unit_test(loss),
    };
    lode_set_threads(1);
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
