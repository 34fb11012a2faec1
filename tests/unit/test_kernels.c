/* The float kernels against their formulas, written out here in double; and the same bits from one
 * thread and from two. (Their gradients are checked in double by test_gradients.) */
#include "testing/cmocka_all.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/layer.h"
#include "kernels/linear.h"
#include "kernels/loss.h"
#include "kernels/norm.h"
#include "kernels/rope.h"
#include "kernels/statistics.h"
#include "testing/compare.h"

/* --- helpers -------------------------------------------------------------------------------- */

static uint64_t random_state = 7;

static double random_unit(void) { /* uniform in [−1, 1) */
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(random_state >> 11) / 4503599627370496.0 - 1.0;
}

/* Everything a test allocates, released at its end. */
static void *owned[128];
static int owned_count = 0;

static void *own(int64_t count, size_t size) {
    assert_in_range(owned_count, 0, 127);
    void *memory = calloc((size_t)count + 1, size);
    assert_non_null(memory);
    owned[owned_count++] = memory;
    return memory;
}

static int release(void **state) {
    (void)state;
    while (owned_count > 0)
        free(owned[--owned_count]);
    return 0;
}

static float *floats(int64_t count) {
    return own(count, sizeof(float));
}

static double *doubles(int64_t count) {
    return own(count, sizeof(double));
}

static float *random_floats(int64_t count, double scale) {
    float *array = floats(count);
    for (int64_t i = 0; i < count; i++)
        array[i] = (float)(scale * random_unit());
    return array;
}

/* `spare`: elements between the end of a stored line and the next one. */
static lode_weight_t random_view(int64_t rows, int64_t cols, bool transposed, int64_t spare) {
    const int64_t lines = transposed ? cols : rows, pitch = (transposed ? rows : cols) + spare;
    const float *data = random_floats(lines * pitch, sqrt(3.0 / (double)cols));
    lode_tensor_t tensor = lode_tensor_matrix(data, LODE_DTYPE_F32, rows, cols);
    tensor.pitch = pitch;
    tensor.transposed = transposed;
    return lode_weight_of(&tensor);
}

static lode_weight_t random_weight(int64_t rows, int64_t cols) {
    const lode_tensor_t tensor = lode_tensor_matrix(
        random_floats(rows * cols, sqrt(3.0 / (double)cols)), LODE_DTYPE_F32, rows, cols);
    return lode_weight_of(&tensor);
}

static double weight_at(const lode_weight_t *weight, int64_t row, int64_t col) {
    const int64_t pitch = weight->pitch;
    const int64_t at = weight->transposed ? col * pitch + row : row * pitch + col;
    return (double)((const float *)weight->data)[at];
}

/* `relative` to each value, and to the largest of all for those that cancel. */
static void close_to(const char *name, const float *got, const double *want, int64_t count,
                     double relative) {
    double largest = 0.01; /* of operands around 1, where all results cancel */
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(want[i]));
    LODE_ASSERT_CLOSE(
        lode_compare_f32(name, got, count, want, count, relative * largest, relative));
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* --- exponential and sigmoid ---------------------------------------------------------------- */

static void exponential(void **state) {
    (void)state;
    double worst = 0;
    /* Every 509th float from −87.3 to −0, and those at the ends. */
    for (uint32_t bits = bits_of(-0.0f); bits <= bits_of(-87.3f); bits += 509) {
        const float x = float_of(bits);
        const double want = exp((double)x);
        worst = fmax(worst, fabs((double)lode_exp_nonpositive_f32(x) - want) / want);
    }
    if (!(worst <= 3e-7))
        fail_msg("relative error %g", worst);
    assert_true(lode_exp_nonpositive_f32(0.0f) == 1.0f);
    assert_true(lode_exp_nonpositive_f32(-0.0f) == 1.0f);
    assert_true(lode_exp_nonpositive_f32(-87.3f) > 0.0f);
    const float tiny[] = {nextafterf(-87.3f, -INFINITY), -100.0f, -1e30f, -FLT_MAX, -INFINITY};
    for (size_t i = 0; i < sizeof tiny / sizeof *tiny; i++)
        assert_true(lode_exp_nonpositive_f32(tiny[i]) == 0.0f);
    assert_true(isnan(lode_exp_nonpositive_f32(NAN)));
    assert_true(isnan(lode_exp_nonpositive_f32(-NAN)));
}

static double worst_error(float (*got)(float), double (*want)(double), double from, double to) {
    double worst = 0;
    for (double x = from; x <= to; x += 0.000713) {
        const double right = want((double)(float)x);
        worst = fmax(worst, fabs((double)got((float)x) - right) / fabs(right));
    }
    return worst;
}

static double normal_of(double x) {
    return 0.5 * erfc(-x / sqrt(2));
}

static void hyperbolic_tangent(void **state) {
    (void)state;
    assert_true(worst_error(lode_tanh_f32, tanh, -20, 20) <= 2.5e-7);
    assert_true(worst_error(lode_tanh_f32, tanh, 1e-9, 1e-8) <= 2.5e-7);
    assert_true(lode_tanh_f32(0.0f) == 0.0f && lode_tanh_f32(1e-38f) == 1e-38f);
    assert_true(lode_tanh_f32(INFINITY) == 1.0f && lode_tanh_f32(-1e30f) == -1.0f);
    assert_true(isnan(lode_tanh_f32(NAN)));
}

static void normal_distribution(void **state) {
    (void)state;
    assert_true(worst_error(lode_normal_f32, normal_of, -4, 10) <= 2e-6);
    assert_true(worst_error(lode_normal_f32, normal_of, -12, -4) <= 2e-5);
    assert_true(lode_normal_f32(0.0f) == 0.5f && lode_normal_f32(INFINITY) == 1.0f);
    assert_true(lode_normal_f32(-INFINITY) == 0.0f && isnan(lode_normal_f32(NAN)));
}

static void sigmoid(void **state) {
    (void)state;
    for (double x = -80; x <= 80; x += 0.00391) {
        const float rounded = (float)x;
        const double want = 1.0 / (1.0 + exp(-(double)rounded));
        const float got = lode_sigmoid(rounded);
        LODE_ASSERT_CLOSE(lode_compare_f32("sigmoid", &got, 1, &want, 1, 0, 6e-7));
    }
    assert_true(lode_sigmoid(0.0f) == 0.5f);
    assert_true(lode_sigmoid(200.0f) == 1.0f && lode_sigmoid(INFINITY) == 1.0f);
    assert_true(lode_sigmoid(-200.0f) == 0.0f && lode_sigmoid(-INFINITY) == 0.0f);
    assert_true(isnan(lode_sigmoid(NAN)));
}

/* --- conversion ----------------------------------------------------------------------------- */

/* The value of a binary format by its definition: (−1)^s · 2^(e − bias) · 1.f, or 2^(1 − bias) ·
 * 0.f where e = 0. */
static double decoded(uint32_t bits, int mantissa_bits, int exponent_bits) {
    const int mantissa = (int)(bits & ((1u << mantissa_bits) - 1));
    const int largest = (1 << exponent_bits) - 1, bias = largest / 2;
    const int exponent = (int)(bits >> mantissa_bits) & largest;
    const double sign = bits >> (mantissa_bits + exponent_bits) ? -1 : 1;
    if (exponent == largest)
        return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

static void check_all_halves(lode_dtype_t dtype, int mantissa_bits, int exponent_bits) {
    enum { ALL = 1 << 16 };
    unsigned char *bytes = own(2 * ALL + 1, 1);
    float *got = floats(ALL);
    for (uint32_t i = 0; i < ALL; i++) {
        const uint16_t half = (uint16_t)i;
        memcpy(bytes + 1 + 2 * i, &half, sizeof half); /* unaligned, as safetensors may be */
    }
    lode_convert(got, bytes + 1, dtype, ALL);
    for (uint32_t i = 0; i < ALL; i++) {
        const double want = decoded(i, mantissa_bits, exponent_bits);
        if (isnan(want) ? !isnan(got[i])
                        : (double)got[i] != want || !signbit(got[i]) != !signbit(want))
            fail_msg("%s 0x%04x is %.17g, converted %.17g", lode_dtype_name(dtype), (unsigned)i,
                     want, (double)got[i]);
    }
    /* one at a time, where the compiler's vector loop has no part */
    for (uint32_t i = 0; i < ALL; i += 97) {
        float one;
        lode_convert(&one, bytes + 1 + 2 * i, dtype, 1);
        assert_true(bits_of(one) == bits_of(got[i]) || (isnan(one) && isnan(got[i])));
    }
}

static void conversion(void **state) {
    (void)state;
    check_all_halves(LODE_DTYPE_F16, 10, 5);
    check_all_halves(LODE_DTYPE_BF16, 7, 8);
    const float values[] = {0.0f, -0.0f, 1.5f, FLT_MIN / 8, -FLT_MAX, INFINITY, NAN};
    unsigned char bytes[sizeof values + 1];
    float got[7];
    memcpy(bytes + 1, values, sizeof values);
    lode_convert(got, bytes + 1, LODE_DTYPE_F32, 7);
    assert_memory_equal(got, values, sizeof values);
}

/* --- linear --------------------------------------------------------------------------------- */

static void naive_linear(const lode_weight_t *weight, int64_t tokens, const double *x, double *y) {
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < weight->out; i++) {
            double sum = 0;
            for (int64_t j = 0; j < weight->in; j++)
                sum += x[t * weight->in + j] * weight_at(weight, i, j);
            y[t * weight->out + i] = sum + (weight->bias ? (double)weight->bias[i] : 0);
        }
}

static double *widened(const float *x, int64_t count) {
    double *wide = doubles(count);
    for (int64_t i = 0; i < count; i++)
        wide[i] = (double)x[i];
    return wide;
}

/* Float matrices, which BLAS reads where they lie, however they are stored. */
static void check_linear(bool transposed, int64_t spare) {
    const int64_t tokens = 37, out = 150, in = 91;
    lode_weight_t weight = random_view(out, in, transposed, spare);
    assert_int_equal(lode_linear_workspace(&weight), 0);
    weight.bias = spare > 0 ? random_floats(out, 1) : NULL;
    const float *x = random_floats(tokens * in, 1), *dy = random_floats(tokens * out, 1);
    float *y = floats(tokens * out), *dx = floats(tokens * in);
    float *workspace = floats(lode_linear_workspace(&weight));
    double *want = doubles(tokens * out), *want_dx = doubles(tokens * in);
    naive_linear(&weight, tokens, widened(x, tokens * in), want);
    lode_linear_forward(&weight, tokens, x, false, y, workspace);
    close_to("y", y, want, tokens * out, 2e-6);
    lode_linear_forward(&weight, tokens, x, true, y, workspace);
    for (int64_t i = 0; i < tokens * out; i++)
        want[i] *= 2;
    close_to("y accumulated", y, want, tokens * out, 2e-6);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < out; i++)
            for (int64_t j = 0; j < in; j++)
                want_dx[t * in + j] += (double)dy[t * out + i] * weight_at(&weight, i, j);
    lode_linear_backward(&weight, tokens, dy, false, dx, workspace);
    close_to("dx", dx, want_dx, tokens * in, 2e-6);
    release(NULL);
}

static void linear(void **state) {
    (void)state;
    check_linear(false, 0);
    check_linear(true, 0);
    check_linear(false, 11);
    check_linear(true, 6);
}

/* Half-precision weights that need conversion give the very bits of the same values in float. */
static void linear_of_converted_weights(void **state) {
    (void)state;
    const int64_t tokens = 5, out = 70, in = 130;
    uint16_t *halves = own(out * in, sizeof *halves);
    for (int64_t i = 0; i < out * in; i++)
        halves[i] = (uint16_t)(bits_of((float)random_unit()) >> 16);
    float *values = floats(out * in);
    lode_convert(values, halves, LODE_DTYPE_BF16, out * in);
    const lode_tensor_t half = lode_tensor_matrix(halves, LODE_DTYPE_BF16, out, in);
    const lode_tensor_t full = lode_tensor_matrix(values, LODE_DTYPE_F32, out, in);
    const lode_weight_t a = lode_weight_of(&half), b = lode_weight_of(&full);
    float *workspace = floats(lode_linear_workspace(&a) + lode_linear_workspace(&b));
    const float *x = random_floats(tokens * in, 1);
    float *y = floats(tokens * out), *want = floats(tokens * out);
    lode_linear_forward(&a, tokens, x, false, y, workspace);
    lode_linear_forward(&b, tokens, x, false, want, workspace);
    for (int64_t i = 0; i < tokens * out; i++)
        assert_true(fabsf(y[i] - want[i]) <= 1e-5f);
}

/* More rows and columns than a block converts, either way. Small whole numbers: all sums are exact.
 */
static void linear_of_blocks(void **state) {
    (void)state;
    enum { LONG = 7000, SHORT = 1300, TOKENS = 2 };
    uint16_t *half = own((int64_t)LONG * SHORT, sizeof *half);
    float *number = floats((int64_t)LONG * SHORT), *x = floats(TOKENS * LONG);
    for (int64_t i = 0; i < (int64_t)LONG * SHORT; i++) {
        number[i] = (float)(i * 131 % 1009 % 7 - 3);
        uint32_t bits;
        memcpy(&bits, &number[i], sizeof bits);
        half[i] = (uint16_t)(bits >> 16);
    }
    for (int64_t i = 0; i < TOKENS * LONG; i++)
        x[i] = (float)(i % 11 - 5);
    for (int transposed = 0; transposed < 2; transposed++) {
        const lode_weight_t weight = {.data = half,
                                      .dtype = LODE_DTYPE_BF16,
                                      .rows = transposed ? SHORT : LONG,
                                      .cols = transposed ? LONG : SHORT,
                                      .pitch = SHORT,
                                      .transposed = transposed,
                                      .out = transposed ? SHORT : LONG,
                                      .in = transposed ? LONG : SHORT};
        lode_weight_t plain = weight;
        plain.data = number;
        plain.dtype = LODE_DTYPE_F32;
        float *workspace = floats(lode_linear_workspace(&weight));
        float *got = floats(TOKENS * LONG), *want = floats(TOKENS * LONG);
        for (int add = 0; add < 2; add++) {
            lode_linear_forward(&weight, TOKENS, x, add, got, workspace);
            lode_linear_forward(&plain, TOKENS, x, add, want, NULL);
            assert_memory_equal(got, want, (size_t)(TOKENS * weight.out) * sizeof *got);
        }
        for (int add = 0; add < 2; add++) {
            lode_linear_backward(&weight, TOKENS, x, add, got, workspace);
            lode_linear_backward(&plain, TOKENS, x, add, want, NULL);
            assert_memory_equal(got, want, (size_t)(TOKENS * weight.in) * sizeof *got);
        }
    }
}

/* The work space of a whole matrix is enough for every selection of it, also where a narrower one
 * is converted in larger blocks. */
static void linear_workspace(void **state) {
    (void)state;
    enum { ROWS = 2560, COLS = 6912, FEWER = 6553 };
    int32_t *col_index = own(COLS, sizeof *col_index);
    for (int32_t j = 0; j < COLS; j++)
        col_index[j] = j;
    lode_weight_t weight = {.data = own((int64_t)ROWS * COLS, sizeof(uint16_t)),
                            .dtype = LODE_DTYPE_BF16,
                            .rows = ROWS,
                            .cols = COLS,
                            .pitch = COLS,
                            .out = ROWS,
                            .in = COLS};
    const int64_t reals = lode_linear_workspace(&weight);
    float *workspace = floats(reals + 1000000), *x = floats(COLS), *y = floats(ROWS);
    for (int64_t i = reals; i < reals + 1000000; i++)
        workspace[i] = 7;
    weight.col_index = col_index;
    weight.in = FEWER;
    lode_linear_forward(&weight, 1, x, false, y, workspace);
    for (int64_t i = reals; i < reals + 1000000; i++)
        assert_true(workspace[i] == 7);
}

/* --- attention ------------------------------------------------------------------------------ */

/* p [tokens, tokens] of one query head. */
static void naive_probabilities(const lode_attention_shape_t *shape, int64_t tokens, int64_t head,
                                const double *q, const double *k, double *p) {
    const int64_t dim = shape->head_dim, kv = head / (shape->heads / shape->kv_heads);
    for (int64_t t = 0; t < tokens; t++) {
        double sum = 0;
        for (int64_t s = 0; s < tokens; s++) {
            double score = 0;
            for (int64_t i = 0; i < dim; i++)
                score += shape->scale * q[(t * shape->heads + head) * dim + i] *
                         k[(s * shape->kv_heads + kv) * dim + i];
            if (shape->cap > 0)
                score = shape->cap * tanh(score / shape->cap);
            const bool seen = s <= t && (shape->window == 0 || t - s < shape->window);
            p[t * tokens + s] = seen ? exp(score) : 0;
            sum += p[t * tokens + s];
        }
        for (int64_t s = 0; s < tokens; s++)
            p[t * tokens + s] /= sum;
    }
}

static void naive_attention(const lode_attention_shape_t *shape, int64_t tokens, const double *q,
                            const double *k, const double *v, double *o) {
    const int64_t dim = shape->head_dim;
    double *p = malloc((size_t)(tokens * tokens) * sizeof *p);
    for (int64_t h = 0; h < shape->heads; h++) {
        const int64_t kv = h / (shape->heads / shape->kv_heads);
        naive_probabilities(shape, tokens, h, q, k, p);
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t i = 0; i < dim; i++) {
                double sum = 0;
                for (int64_t s = 0; s <= t; s++)
                    sum += p[t * tokens + s] * v[(s * shape->kv_heads + kv) * dim + i];
                o[(t * shape->heads + h) * dim + i] = sum;
            }
    }
    free(p);
}

static void naive_attention_backward(const lode_attention_shape_t *shape, int64_t tokens,
                                     const double *q, const double *k, const double *v,
                                     const double *d_o, double *dq, double *dk, double *dv) {
    const int64_t dim = shape->head_dim, H = shape->heads, G = shape->kv_heads;
    double *p = malloc((size_t)(tokens * tokens) * sizeof *p);
    for (int64_t h = 0; h < H; h++) {
        const int64_t g = h / (H / G);
        naive_probabilities(shape, tokens, h, q, k, p);
        for (int64_t t = 0; t < tokens; t++) {
            double mean = 0;
            for (int64_t s = 0; s <= t; s++)
                for (int64_t i = 0; i < dim; i++)
                    mean +=
                        p[t * tokens + s] * d_o[(t * H + h) * dim + i] * v[(s * G + g) * dim + i];
            for (int64_t s = 0; s <= t; s++) {
                double dp = 0;
                for (int64_t i = 0; i < dim; i++)
                    dp += d_o[(t * H + h) * dim + i] * v[(s * G + g) * dim + i];
                double score = 0;
                for (int64_t i = 0; i < dim; i++)
                    score += shape->scale * q[(t * H + h) * dim + i] * k[(s * G + g) * dim + i];
                const double bent = shape->cap > 0 ? tanh(score / shape->cap) : 0;
                const double ds =
                    p[t * tokens + s] * (dp - mean) * shape->scale * (1 - bent * bent);
                for (int64_t i = 0; i < dim; i++) {
                    dq[(t * H + h) * dim + i] += ds * k[(s * G + g) * dim + i];
                    dk[(s * G + g) * dim + i] += ds * q[(t * H + h) * dim + i];
                    dv[(s * G + g) * dim + i] += p[t * tokens + s] * d_o[(t * H + h) * dim + i];
                }
            }
        }
    }
    free(p);
}

static void check_attention(lode_attention_shape_t shape, int64_t tokens, int threads) {
    lode_set_threads(threads);
    const int64_t wide = tokens * shape.heads * shape.head_dim;
    const int64_t narrow = tokens * shape.kv_heads * shape.head_dim;
    const float *q = random_floats(wide, 2), *k = random_floats(narrow, 2);
    const float *v = random_floats(narrow, 1), *d_o = random_floats(wide, 1);
    float *o = floats(wide), *dq = floats(wide), *dk = floats(narrow), *dv = floats(narrow);
    float *workspace = floats(lode_attention_workspace(&shape, tokens, threads)),
          *softmax = floats(2 * tokens * shape.heads);
    const double *wide_q = widened(q, wide), *wide_k = widened(k, narrow);
    const double *wide_v = widened(v, narrow);
    double *want_o = doubles(wide), *want_dq = doubles(wide), *want_dk = doubles(narrow);
    double *want_dv = doubles(narrow);
    naive_attention(&shape, tokens, wide_q, wide_k, wide_v, want_o);
    naive_attention_backward(&shape, tokens, wide_q, wide_k, wide_v, widened(d_o, wide), want_dq,
                             want_dk, want_dv);
    lode_attention_forward(&shape, tokens, q, k, v, o, softmax, workspace);
    close_to("o", o, want_o, wide, 3e-6);
    lode_attention_backward(&shape, tokens, q, k, v, o, softmax, d_o, dq, dk, dv, workspace);
    close_to("dq", dq, want_dq, wide, 2e-5);
    close_to("dk", dk, want_dk, narrow, 2e-5);
    close_to("dv", dv, want_dv, narrow, 2e-5);
    release(NULL);
}

static void attention(void **state) {
    (void)state;
    check_attention((lode_attention_shape_t){1, 1, 2, .scale = 0.7}, 1, 1);
    check_attention((lode_attention_shape_t){6, 2, 8, .scale = 0.35}, 50, 1);
    check_attention((lode_attention_shape_t){4, 1, 16, .scale = 0.25, .cap = 1.5}, 130,
                    1); /* blocks */
    check_attention((lode_attention_shape_t){2, 2, 6, .scale = 0.4}, 300, 1);
    check_attention((lode_attention_shape_t){2, 2, 6, .scale = 0.4, .window = 20}, 600, 1);
    check_attention((lode_attention_shape_t){4, 2, 6, .scale = 0.4, .cap = 1, .window = 150}, 300,
                    1);
    /* Several spans of keys, and one of a single key; windows over some of them. */
    check_attention((lode_attention_shape_t){1, 1, 4, .scale = 2}, 1153, 1);
    check_attention((lode_attention_shape_t){6, 1, 4, .scale = 2}, 900, 1);
    check_attention((lode_attention_shape_t){1, 1, 4, .scale = 2, .cap = 3, .window = 500}, 1000,
                    1);
    check_attention((lode_attention_shape_t){4, 1, 4, .scale = 2, .window = 500}, 900, 1);
    /* More threads than key/value heads, and more than blocks. */
    check_attention((lode_attention_shape_t){4, 2, 4, .scale = 1}, 600, 3);
    check_attention((lode_attention_shape_t){2, 1, 4, .scale = 1, .cap = 2}, 500, 4);
    lode_set_threads(1);
}

/* What a thread needs does not grow with the length. */
static void attention_workspace(void **state) {
    (void)state;
    const lode_attention_shape_t shape = {32, 8, 128, .scale = 1, .cap = 50};
    const int64_t reals = lode_attention_workspace(&shape, 4096, 1);
    assert_int_equal(lode_attention_workspace(&shape, 131072, 1), reals);
    assert_int_equal(lode_attention_workspace(&shape, 131072, 8), 8 * reals);
    assert_true(reals * (int64_t)sizeof(float) < 4 << 20);
}

/* Tokens out of the window are not looked at, whatever they hold. */
static void attention_window(void **state) {
    (void)state;
    enum { TOKENS = 700, WINDOW = 30, DIM = 8, COUNT = TOKENS * DIM };
    const lode_attention_shape_t shape = {1, 1, DIM, .scale = 0.3, .window = WINDOW};
    const float *q = random_floats(COUNT, 1);
    float *k = random_floats(COUNT, 1), *v = random_floats(COUNT, 1), *o = floats(COUNT);
    float *d_o = floats(COUNT), *dq = floats(COUNT), *dk = floats(COUNT), *dv = floats(COUNT);
    float *workspace = floats(lode_attention_workspace(&shape, TOKENS, 1)),
          *softmax = floats(2 * TOKENS);
    /* The last block of queries begins at 384, and the first key that it sees is 355. */
    for (int64_t i = 0; i < (384 - WINDOW + 1) * DIM; i++)
        k[i] = v[i] = NAN;
    for (int64_t i = 384 * DIM; i < COUNT; i++)
        d_o[i] = (float)random_unit();
    lode_attention_forward(&shape, TOKENS, q, k, v, o, softmax, workspace);
    for (int64_t i = 384 * DIM; i < COUNT; i++)
        assert_true(isfinite(o[i]));
    memset(o, 0, 384 * DIM * sizeof *o);
    lode_attention_backward(&shape, TOKENS, q, k, v, o, softmax, d_o, dq, dk, dv, workspace);
    for (int64_t i = 384 * DIM; i < COUNT; i++)
        assert_true(isfinite(dq[i]) && isfinite(dk[i]) && isfinite(dv[i]));
    assert_true(dk[600 * DIM] != 0);
}

/* --- loss ----------------------------------------------------------------------------------- */

enum { LOSS_ROWS = 70, LOSS_DIM = 6 };

/* One vocabulary whose logits are held a few rows at a time, for all rows; loss and gradient of a
 * row from the definition. */
typedef struct loss_case {
    lode_weight_t head;
    const float *h;
    const int32_t *target;
    const double *weight;
} loss_case_t;

static double naive_row_loss(const loss_case_t *c, int64_t row, double *dh) {
    const int64_t vocab = c->head.out;
    double *p = malloc((size_t)vocab * sizeof *p), sum = 0;
    for (int64_t j = 0; j < vocab; j++) {
        p[j] = 0;
        for (int64_t i = 0; i < LOSS_DIM; i++)
            p[j] += (double)c->h[row * LOSS_DIM + i] * weight_at(&c->head, j, i);
        sum += exp(p[j]);
    }
    const double nll = log(sum) - p[c->target[row]];
    for (int64_t j = 0; j < vocab; j++)
        for (int64_t i = 0; i < LOSS_DIM; i++)
            dh[i] += c->weight[row] * (exp(p[j]) / sum - (j == c->target[row])) *
                     weight_at(&c->head, j, i);
    free(p);
    return nll;
}

typedef struct logits_seen {
    int64_t next, calls;
    float *logits; /* [LOSS_ROWS, 3] the first of each row */
    int64_t vocab;
} logits_seen_t;

static void on_logits(void *context, int64_t first, int64_t rows, const lode_real_t *logits) {
    logits_seen_t *seen = context;
    assert_int_equal(first, seen->next);
    for (int64_t r = 0; r < rows; r++)
        memcpy(seen->logits + (first + r) * 3, logits + r * seen->vocab, 3 * sizeof *logits);
    seen->next += rows;
    seen->calls++;
}

static void check_loss(int64_t vocab, int64_t least_chunks) {
    loss_case_t c = {.head = random_weight(vocab, LOSS_DIM)};
    int32_t *target = own(LOSS_ROWS, sizeof *target);
    double *weight = doubles(LOSS_ROWS), nll[LOSS_ROWS], again[LOSS_ROWS];
    double want_nll[LOSS_ROWS] = {0}, *want_dh = doubles(LOSS_ROWS * LOSS_DIM);
    double *want_logits = doubles(3 * LOSS_ROWS);
    c.h = random_floats(LOSS_ROWS * LOSS_DIM, 2);
    for (int64_t r = 0; r < LOSS_ROWS; r++) {
        target[r] = r % 5 == 2 ? -1 : (int32_t)(r * 7919 % vocab);
        weight[r] = target[r] < 0 ? 0 : random_unit();
    }
    c.target = target;
    c.weight = weight;
    for (int64_t r = 0; r < LOSS_ROWS; r++) {
        if (target[r] >= 0)
            want_nll[r] = naive_row_loss(&c, r, want_dh + r * LOSS_DIM);
        for (int64_t j = 0; j < 3; j++)
            for (int64_t i = 0; i < LOSS_DIM; i++)
                want_logits[r * 3 + j] += (double)c.h[r * LOSS_DIM + i] * weight_at(&c.head, j, i);
    }
    float *dh = floats(LOSS_ROWS * LOSS_DIM), *workspace = floats(lode_loss_workspace(&c.head));
    logits_seen_t seen = {.logits = floats(3 * LOSS_ROWS), .vocab = vocab};
    lode_head_loss_t run = {.head = &c.head,
                            .rows = LOSS_ROWS,
                            .h = c.h,
                            .target = target,
                            .weight = weight,
                            .nll = nll,
                            .dh = dh,
                            .callback = on_logits,
                            .context = &seen,
                            .workspace = workspace};
    lode_loss_run(&run);
    assert_int_equal(seen.next, LOSS_ROWS);
    assert_true(seen.calls >= least_chunks);
    LODE_ASSERT_CLOSE(lode_compare_f64("nll", nll, LOSS_ROWS, want_nll, LOSS_ROWS, 2e-6, 1e-6));
    close_to("dh", dh, want_dh, LOSS_ROWS * LOSS_DIM, 1e-5);
    close_to("logits", seen.logits, want_logits, 3 * LOSS_ROWS, 1e-6);
    /* without a gradient the losses are the same to the bit; rows without a target cost nothing */
    run.weight = NULL;
    run.nll = again;
    run.dh = NULL;
    run.callback = NULL;
    lode_loss_run(&run);
    assert_memory_equal(nll, again, sizeof nll);
    assert_true(nll[2] == 0 && dh[2 * LOSS_DIM] == 0);
    release(NULL);
}

/* An identity as head, so that the logits are h itself: equal ones before and after the target. */
static void greedy(void **state) {
    (void)state;
    enum { VOCAB = 7, ROWS = 6 };
    static const float logits[ROWS][VOCAB] = {{0, 1, 5, 2, 5, 5, 1}, {0, 1, 5, 2, 5, 5, 1},
                                              {0, 1, 5, 2, 5, 5, 1}, {9, 1, 5, 2, 5, 5, 9},
                                              {9, 1, 5, 2, 5, 5, 9}, {-3, -3, -3, -3, -3, -3, -2}};
    const int32_t target[ROWS] = {2, 4, 3, 0, 6, -1};
    static const uint8_t want[ROWS] = {1, 0, 0, 1, 0, 0};
    static float identity[VOCAB][VOCAB];
    for (int i = 0; i < VOCAB; i++)
        identity[i][i] = 1;
    const lode_tensor_t tensor = lode_tensor_matrix(identity, LODE_DTYPE_F32, VOCAB, VOCAB);
    const lode_weight_t head = lode_weight_of(&tensor);
    for (int cap = 0; cap < 2; cap++) {
        double nll[ROWS];
        uint8_t got[ROWS];
        memset(got, 7, sizeof got);
        lode_loss_run(&(lode_head_loss_t){.head = &head,
                                          .cap = 30 * cap,
                                          .rows = ROWS,
                                          .h = logits[0],
                                          .target = target,
                                          .nll = nll,
                                          .greedy = got,
                                          .workspace = floats(lode_loss_workspace(&head))});
        assert_memory_equal(got, want, sizeof want);
    }
    release(NULL);
}

static void loss(void **state) {
    (void)state;
    assert_true(lode_loss_chunk(6000000) == 32 && lode_loss_chunk(1) >= lode_loss_chunk(128256));
    check_loss(11, 1);
    check_loss(2048, 1);
    check_loss(1000000, 2);
}

/* --- a layer -------------------------------------------------------------------------------- */

enum { D = 24, M = 56, HEADS = 6, GROUPS = 2, DIM = 4, TOKENS = 40 };

static const lode_rotary_t layer_rotary = {
    .kind = LODE_ROTARY_DEFAULT, .dims = DIM, .theta = 10000, .attention_factor = 1};

static lode_layer_t random_layer(void) {
    float *norms = floats(2 * D);
    for (int i = 0; i < 2 * D; i++)
        norms[i] = (float)(1 + 0.2 * random_unit());
    return (lode_layer_t){
        .d = D,
        .m = M,
        .attention = {HEADS, GROUPS, DIM, .scale = 0.5},
        .attention_norm = {.kind = LODE_NORM_RMS, .width = D, .eps = 1e-5, .weight = norms},
        .attention_post_norm = {.width = D},
        .ffn_norm = {.kind = LODE_NORM_RMS, .width = D, .eps = 1e-5, .weight = norms + D},
        .ffn_post_norm = {.width = D},
        .q_norm = {.width = DIM},
        .k_norm = {.width = DIM},
        .q = random_weight(HEADS * DIM, D),
        .k = random_weight(GROUPS * DIM, D),
        .v = random_weight(GROUPS * DIM, D),
        .o = random_weight(D, HEADS * DIM),
        .gate = random_weight(M, D),
        .up = random_weight(M, D),
        .down = random_weight(D, M),
        .rope = lode_rope_create(&layer_rotary, TOKENS,
                                 floats(lode_rope_memory(&layer_rotary, TOKENS)))};
}

static void naive_norm(int64_t tokens, const double *x, const float *w, double *y) {
    for (int64_t t = 0; t < tokens; t++) {
        double squares = 0;
        for (int64_t i = 0; i < D; i++)
            squares += x[t * D + i] * x[t * D + i];
        for (int64_t i = 0; i < D; i++)
            y[t * D + i] = x[t * D + i] / sqrt(squares / D + 1e-5) * (double)w[i];
    }
}

static void naive_rope(int64_t tokens, int64_t heads, double *x) {
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t i = 0; i < DIM / 2; i++) {
                const double angle = (double)t * pow(10000, -2.0 * (double)i / DIM);
                double *low = x + (t * heads + h) * DIM + i, *high = low + DIM / 2;
                const double a = *low, b = *high;
                *low = a * cos(angle) - b * sin(angle);
                *high = b * cos(angle) + a * sin(angle);
            }
}

/* One sequence: y [tokens, D] and u [tokens, M] from x. `extra` [tokens, M] is added to u before
 * the down projection, to move it. */
static void naive_layer(const lode_layer_t *layer, int64_t tokens, const double *x,
                        const double *extra, double *y, double *u) {
    double h[TOKENS * D], q[TOKENS * HEADS * DIM], k[TOKENS * GROUPS * DIM];
    double v[TOKENS * GROUPS * DIM], o[TOKENS * HEADS * DIM], mid[TOKENS * D];
    double gate[TOKENS * M], moved[TOKENS * M];
    naive_norm(tokens, x, layer->attention_norm.weight, h);
    naive_linear(&layer->q, tokens, h, q);
    naive_linear(&layer->k, tokens, h, k);
    naive_linear(&layer->v, tokens, h, v);
    naive_rope(tokens, HEADS, q);
    naive_rope(tokens, GROUPS, k);
    naive_attention(&layer->attention, tokens, q, k, v, o);
    naive_linear(&layer->o, tokens, o, mid);
    for (int64_t i = 0; i < tokens * D; i++)
        mid[i] += x[i];
    naive_norm(tokens, mid, layer->ffn_norm.weight, h);
    naive_linear(&layer->gate, tokens, h, gate);
    naive_linear(&layer->up, tokens, h, u);
    for (int64_t i = 0; i < tokens * M; i++) {
        u[i] *= gate[i] / (1 + exp(-gate[i]));
        moved[i] = u[i] + extra[i];
    }
    naive_linear(&layer->down, tokens, moved, y);
    for (int64_t i = 0; i < tokens * D; i++)
        y[i] += mid[i];
}

/* Σ dy·(y(+) − y(−)) / 2ε along a direction of x and one of u: what the gradients must say. */
static double slope(const lode_layer_t *layer, int64_t tokens, const double *x, const double *dy,
                    const double *along_x, const double *along_u) {
    const double step = 1e-5;
    double moved[TOKENS * D], extra[TOKENS * M], y[2][TOKENS * D], u[TOKENS * M], sum = 0;
    for (int side = 0; side < 2; side++) {
        const double e = side ? -step : step;
        for (int64_t i = 0; i < tokens * D; i++)
            moved[i] = x[i] + e * along_x[i];
        for (int64_t i = 0; i < tokens * M; i++)
            extra[i] = e * along_u[i];
        naive_layer(layer, tokens, moved, extra, y[side], u);
    }
    for (int64_t i = 0; i < tokens * D; i++)
        sum += dy[i] * (y[0][i] - y[1][i]) / (2 * step);
    return sum;
}

static double norm_of(const double *x, int64_t count) {
    double squares = 0;
    for (int64_t i = 0; i < count; i++)
        squares += x[i] * x[i];
    return sqrt(squares);
}

static void check_slopes(const lode_layer_t *layer, const double *x, const float *dy,
                         const double *dx, const double *du) {
    const double *wide_dy = widened(dy, TOKENS * D);
    const double nothing[TOKENS * M] = {0};
    for (int draw = 0; draw < 3; draw++) {
        double along_x[TOKENS * D], along_u[TOKENS * M], got_x = 0, got_u = 0;
        for (int64_t i = 0; i < TOKENS * D; i++)
            got_x += dx[i] * (along_x[i] = random_unit());
        for (int64_t i = 0; i < TOKENS * M; i++)
            got_u += du[i] * (along_u[i] = random_unit());
        const double want_x = slope(layer, TOKENS, x, wide_dy, along_x, nothing);
        const double want_u = slope(layer, TOKENS, x, wide_dy, nothing, along_u);
        LODE_ASSERT_CLOSE(lode_compare_f64("slope along x", &got_x, 1, &want_x, 1,
                                           1e-5 * norm_of(dx, TOKENS * D), 1e-5));
        LODE_ASSERT_CLOSE(lode_compare_f64("slope along u", &got_u, 1, &want_u, 1,
                                           1e-5 * norm_of(du, TOKENS * M), 1e-5));
    }
}

static void layer(void **state) {
    (void)state;
    const lode_layer_t l = random_layer();
    const int64_t offsets[] = {0, TOKENS};
    const lode_sequences_t sequences = {1, offsets};
    float *memory = floats(TOKENS * lode_activations_per_token(&l));
    float *workspace = floats(lode_layer_workspace(&l, TOKENS, TOKENS, 1));
    float *y = floats(TOKENS * D), *dy = random_floats(TOKENS * D, 1), *dx = floats(TOKENS * D);
    lode_activations_t act = {.x = random_floats(TOKENS * D, 1)};
    lode_activations_place(&act, &l, TOKENS, memory);
    double want_y[TOKENS * D], want_u[TOKENS * M], nothing[TOKENS * M] = {0};
    const double *x = widened(act.x, TOKENS * D);
    naive_layer(&l, TOKENS, x, nothing, want_y, want_u);
    const float *h, *u, *du;
    lode_layer_forward(&l, &sequences, &act, y, workspace, &h, &u);
    close_to("y", y, want_y, TOKENS * D, 3e-6);
    close_to("u", u, want_u, TOKENS * M, 5e-6);
    memcpy(dx, dy, (size_t)(TOKENS * D) * sizeof *dx);
    lode_layer_backward_ffn(&l, &sequences, &act, dx, workspace, NULL, &u, &du);
    close_to("u, computed again", u, want_u, TOKENS * M, 5e-6);
    const double *wide_du = widened(du, TOKENS * M);
    lode_layer_backward_rest(&l, &sequences, &act, dx, workspace, NULL);
    check_slopes(&l, x, dy, widened(dx, TOKENS * D), wide_du);
}

/* --- statistics ----------------------------------------------------------------------------- */

static void statistics(void **state) {
    (void)state;
    const int64_t tokens = 23, widths[] = {1, 5, 511, 512, 513, 1100};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        const int64_t width = widths[w];
        const float *u = random_floats(tokens * width, 2), *g = random_floats(tokens * width, 1);
        double *got[4], *want[4], *power = doubles(width), *most = doubles(width);
        double *want_most = doubles(width), *sum = doubles(width), *want_sum = doubles(width);
        for (int i = 0; i < 4; i++) {
            got[i] = doubles(width);
            want[i] = doubles(width);
        }
        for (int64_t j = 0; j < width; j++) {
            for (int64_t t = 0; t < tokens; t++) {
                const double a = (double)u[t * width + j], b = (double)g[t * width + j];
                want[0][j] += (a * b) * (a * b);
                want[1][j] += a * a;
                want[2][j] += fabs(a * b);
                want[3][j] += b * b;
                want_sum[j] += a;
                want_most[j] = fmax(want_most[j], fabs(a));
            }
            want[0][j] *= 0.5;
        }
        lode_statistics_backward(tokens, width, u, g, got[0], got[1], got[2], got[3]);
        for (int i = 0; i < 4; i++) /* the same products and order: the same bits */
            assert_memory_equal(got[i], want[i], (size_t)width * sizeof(double));
        lode_statistics_forward(tokens, width, u, sum, power, most);
        assert_memory_equal(sum, want_sum, (size_t)width * sizeof(double));
        assert_memory_equal(power, want[1], (size_t)width * sizeof(double));
        assert_memory_equal(most, want_most, (size_t)width * sizeof(double));
        memset(power, -1, (size_t)width * sizeof(double));
        lode_statistics_forward(tokens, width, u, NULL, power, NULL);
        assert_memory_equal(power, want[1], (size_t)width * sizeof(double));
        release(NULL);
    }
}

/* --- threads -------------------------------------------------------------------------------- */

enum { T_TOKENS = 90, T_D = 96, T_HEADS = 6, T_GROUPS = 2, T_DIM = 16, T_WIDTH = 1100 };

/* Runs every elementwise kernel on the same input and returns all results one after the other. */
static double *everything(int threads, int64_t *count) {
    const lode_attention_shape_t shape = {T_HEADS, T_GROUPS, T_DIM, .scale = 0.25, .cap = 2};
    const lode_rotary_t rotary = {
        .kind = LODE_ROTARY_DEFAULT, .dims = T_DIM, .theta = 10000, .attention_factor = 1};
    enum { WIDE = T_TOKENS * T_D, NARROW = T_TOKENS * T_GROUPS * T_DIM };
    enum { BROAD = T_TOKENS * T_WIDTH };
    random_state = 99;
    lode_set_threads(threads);
    const float *x = random_floats(WIDE, 1), *w = random_floats(T_D, 1);
    const float *k = random_floats(NARROW, 1), *v = random_floats(NARROW, 1);
    const float *d_o = random_floats(WIDE, 1), *u = random_floats(BROAD, 1);
    const float *g = random_floats(BROAD, 1);
    float *inverse = floats(T_TOKENS), *ignored = floats(NARROW);
    const lode_norm_t layer_norm = {.kind = LODE_NORM_LAYER, .width = T_D, .weight = w, .bias = w};
    const lode_rope_t rope =
        lode_rope_create(&rotary, T_TOKENS, floats(lode_rope_memory(&rotary, T_TOKENS)));
    float *workspace = floats(lode_attention_workspace(&shape, T_TOKENS, 2)),
          *softmax = floats(2 * T_TOKENS * T_HEADS);
    float *out = floats(5 * WIDE + 2 * NARROW + 3 * BROAD), *next = out;
    float *norm = next, *d_norm = next += WIDE, *turned = next += WIDE, *o = next += WIDE;
    float *dq = next += WIDE, *dk = next += WIDE, *dv = next += NARROW, *glu = next += NARROW;
    float *d_gate = next += BROAD, *d_up = next += BROAD;
    lode_norm_forward(&layer_norm, T_TOKENS, x, norm, inverse);
    lode_norm_backward(&layer_norm, T_TOKENS, d_o, x, inverse, false, d_norm);
    memcpy(turned, x, WIDE * sizeof *turned);
    lode_rope_turn(&rope, T_TOKENS, T_HEADS, T_GROUPS, T_DIM, false, turned, ignored, NULL);
    lode_attention_forward(&shape, T_TOKENS, turned, k, v, o, softmax, workspace);
    lode_attention_backward(&shape, T_TOKENS, turned, k, v, o, softmax, d_o, dq, dk, dv, workspace);
    lode_activation_forward(LODE_ACTIVATION_SILU, BROAD, u, g, glu);
    lode_activation_backward(LODE_ACTIVATION_SILU, BROAD, u, u, g, d_gate, d_up);
    double *sums = doubles(7 * T_WIDTH);
    lode_statistics_forward(T_TOKENS, T_WIDTH, u, sums + 6 * T_WIDTH, sums, sums + T_WIDTH);
    lode_statistics_backward(T_TOKENS, T_WIDTH, u, g, sums + 2 * T_WIDTH, sums + 3 * T_WIDTH,
                             sums + 4 * T_WIDTH, sums + 5 * T_WIDTH);
    *count = 5 * WIDE + 2 * NARROW + 3 * BROAD + 7 * T_WIDTH;
    double *all = doubles(*count);
    for (int64_t i = 0; i < *count - 7 * T_WIDTH; i++)
        all[i] = (double)out[i];
    memcpy(all + *count - 7 * T_WIDTH, sums, 7 * T_WIDTH * sizeof *sums);
    return all;
}

/* The kernels' own loops keep their threads while BLAS is told to use one. */
static void serial_blas(void **state) {
    (void)state;
    lode_set_threads(3);
    lode_blas_serial_begin();
    assert_int_equal(omp_get_max_threads(), 3);
    lode_blas_serial_end();
    assert_int_equal(omp_get_max_threads(), 3);
    lode_set_threads(1);
}

static void threads(void **state) {
    (void)state;
    int64_t count, again;
    const double *one = everything(1, &count), *two = everything(2, &again);
    lode_set_threads(1);
    assert_int_equal(count, again);
    assert_memory_equal(one, two, (size_t)count * sizeof *one);
    int64_t zeros = 0;
    for (int64_t i = 0; i < count; i++)
        zeros += one[i] == 0;
    assert_true(zeros < count / 100); /* results, not room that nobody wrote to */
}

/* All gradients of weights of the same input, one after the other; [count] out. */
static float *all_gradients(int threads, int64_t *count) {
    enum { ROWS = 500, OUT = 200, IN = 136, WORDS = 60 }; /* large enough for BLAS's threads */
    random_state = 98;
    lode_set_threads(threads);
    const float *x = random_floats(ROWS * IN, 1), *dy = random_floats(ROWS * OUT, 1);
    const float *inverse = random_floats(ROWS, 1);
    int32_t *ids = own(ROWS, sizeof *ids), *order = own(2 * ROWS, sizeof *order);
    for (int32_t t = 0; t < ROWS; t++)
        ids[t] = t % 3 == 0 ? 5 : t * 7 % WORDS;
    const int64_t offsets[] = {0, 200, ROWS};
    const lode_sequences_t sequences = {2, offsets};
    const lode_norm_t norms[] = {{.kind = LODE_NORM_LAYER, .width = IN},
                                 {.kind = LODE_NORM_RMS, .width = IN / 2}};
    *count = 2 * OUT * IN + OUT + 2 * IN + IN / 2 + (WORDS + ROWS) * IN;
    float *all = random_floats(*count, 1), *next = all;
    const lode_gradient_t plain = {.data = next, .pitch = IN, .bias = next + 2 * OUT * IN};
    const lode_gradient_t turned = {.data = next + OUT * IN, .pitch = OUT, .transposed = true};
    lode_linear_gradient(&plain, OUT, IN, ROWS, x, dy);
    lode_linear_gradient(&turned, OUT, IN, ROWS, x, dy);
    next += 2 * OUT * IN + OUT;
    lode_norm_gradient(&norms[0], ROWS, x, dy, inverse, next, next + IN, floats(ROWS));
    next += 2 * IN;
    lode_norm_gradient(&norms[1], ROWS, x, dy, inverse, next, NULL, NULL);
    next += IN / 2;
    lode_embedding_gradient(&(lode_gradient_t){.data = next, .pitch = IN}, IN, ROWS, ids, 0.3, x,
                            order);
    next += WORDS * IN;
    lode_positions_gradient(&(lode_gradient_t){.data = next, .pitch = IN}, IN, &sequences, x);
    return all;
}

static void threads_of_gradients(void **state) {
    (void)state;
    int64_t count;
    const float *one = all_gradients(1, &count);
    for (int threads = 2; threads <= 4; threads++)
        assert_memory_equal(one, all_gradients(threads, &count), (size_t)count * sizeof *one);
    lode_set_threads(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(exponential, release),
        cmocka_unit_test_teardown(sigmoid, release),
        cmocka_unit_test_teardown(hyperbolic_tangent, release),
        cmocka_unit_test_teardown(normal_distribution, release),
        cmocka_unit_test_teardown(conversion, release),
        cmocka_unit_test_teardown(linear, release),
        cmocka_unit_test_teardown(linear_of_converted_weights, release),
        cmocka_unit_test_teardown(linear_of_blocks, release),
        cmocka_unit_test_teardown(linear_workspace, release),
        cmocka_unit_test_teardown(attention, release),
        cmocka_unit_test_teardown(attention_workspace, release),
        cmocka_unit_test_teardown(attention_window, release),
        cmocka_unit_test_teardown(loss, release),
        cmocka_unit_test_teardown(greedy, release),
        cmocka_unit_test_teardown(layer, release),
        cmocka_unit_test_teardown(statistics, release),
        cmocka_unit_test_teardown(serial_blas, release),
        cmocka_unit_test_teardown(threads, release),
        cmocka_unit_test_teardown(threads_of_gradients, release),
    };
    lode_set_threads(1);
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
