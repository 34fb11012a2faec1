/* kernels/codec against tests/golden/quantize.py, bit for bit: what is fitted, the integers, and
 * the values that are read, for matrices stored either way, with and without spare places; products
 * against the matrix written out; and what cannot be fitted. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/codec.h"
#include "kernels/linear.h"
#include "testing/compare.h"
#include "testing/hdf5_read.h"

#define GOLDEN "tests/golden/quantize.h5"
enum { CASES_LEAST = 150, SPARE = 3, PATH = 512 };

/* --- reading the file ------------------------------------------------------------------------- */

static lode_h5_array_t read_array(hid_t file, const char *group, const char *name,
                                  lode_h5_type_t type) {
    char path[2 * PATH];
    lode_h5_array_t array = {0};
    snprintf(path, sizeof path, "%s/%s", group, name);
    if (lode_h5_exists(file, path) && !lode_h5_read(&array, file, path, type))
        fail_msg("%s cannot be read", path);
    return array;
}

static double number(hid_t file, const char *group, const char *name) {
    double value;
    if (!lode_h5_number(file, group, name, &value))
        fail_msg("%s lacks %s", group, name);
    return value;
}

static void text(hid_t file, const char *group, const char *name, char out[LODE_H5_NAME]) {
    if (!lode_h5_text(file, group, name, out))
        fail_msg("%s lacks %s", group, name);
}

static lode_dtype_t dtype_named(const char *name) {
    for (int dtype = LODE_DTYPE_F32; dtype <= LODE_DTYPE_BF16; dtype++)
        if (strcmp(name, lode_dtype_name((lode_dtype_t)dtype)) == 0)
            return (lode_dtype_t)dtype;
    fail_msg("dtype %s", name);
    return LODE_DTYPE_F32;
}

/* --- a case ----------------------------------------------------------------------------------- */

/* A matrix and its codec, with what they must give. */
typedef struct golden {
    char name[PATH];
    lode_weight_t weight; /* row-major and dense */
    lode_codec_t codec;
    double clip;
    lode_held_t *held;
    lode_h5_array_t bytes, rows, cols, row_bits, col_bits, keep_row, keep_col, smooth;
    lode_h5_array_t scale, minimum, integers, values;
} golden_t;

static void read_matrix(hid_t file, golden_t *g) {
    char matrix[LODE_H5_NAME], group[PATH], dtype[LODE_H5_NAME];
    text(file, g->name, "matrix", matrix);
    snprintf(group, sizeof group, "matrices/%s", matrix);
    text(file, group, "dtype", dtype);
    lode_h5_array_t shape = read_array(file, group, "shape", LODE_H5_I64);
    g->bytes = read_array(file, group, "bytes", LODE_H5_U8);
    g->rows = read_array(file, g->name, "rows", LODE_H5_I32);
    g->cols = read_array(file, g->name, "cols", LODE_H5_I32);
    const lode_tensor_t tensor =
        lode_tensor_matrix(g->bytes.u8, dtype_named(dtype), shape.i64[0], shape.i64[1]);
    g->weight = lode_weight_of(&tensor);
    g->weight.row_index = g->rows.i32;
    g->weight.col_index = g->cols.i32;
    g->weight.out = g->rows.i32 ? g->rows.count : g->weight.rows;
    g->weight.in = g->cols.i32 ? g->cols.count : g->weight.cols;
    g->weight.codec = &g->codec;
    lode_h5_free(&shape);
}

static void read_held(hid_t file, golden_t *g) {
    lode_h5_array_t row = read_array(file, g->name, "held_row", LODE_H5_I32);
    lode_h5_array_t col = read_array(file, g->name, "held_col", LODE_H5_I32);
    lode_h5_array_t value = read_array(file, g->name, "held_value", LODE_H5_F32);
    g->held = calloc((size_t)row.count + 1, sizeof *g->held);
    for (int64_t h = 0; h < row.count; h++)
        g->held[h] = (lode_held_t){row.i32[h], col.i32[h], value.f32[h]};
    g->codec.held = g->held;
    g->codec.held_count = row.count;
    lode_h5_free(&row);
    lode_h5_free(&col);
    lode_h5_free(&value);
}

static lode_granularity_t granularity_of(hid_t file, const char *group) {
    static const char *const names[] = {"tensor", "channel", "group", "block"};
    char kind[LODE_H5_NAME];
    lode_granularity_t granularity = {.size = (int64_t)number(file, group, "size")};
    text(file, group, "kind", kind);
    for (int i = 0; i < 4; i++)
        if (strcmp(kind, names[i]) == 0)
            granularity.kind = (lode_granularity_kind_t)i;
    return granularity;
}

static void golden_open(golden_t *g, hid_t file, int64_t index) {
    char member[LODE_H5_NAME], dtype[LODE_H5_NAME];
    assert_true(lode_h5_member(file, "cases", index, member));
    *g = (golden_t){.clip = 0};
    snprintf(g->name, sizeof g->name, "cases/%s", member);
    read_matrix(file, g);
    read_held(file, g);
    text(file, g->name, "dtype", dtype);
    g->clip = number(file, g->name, "clip");
    g->row_bits = read_array(file, g->name, "row_bits", LODE_H5_U8);
    g->col_bits = read_array(file, g->name, "col_bits", LODE_H5_U8);
    g->keep_row = read_array(file, g->name, "keep_row", LODE_H5_U8);
    g->keep_col = read_array(file, g->name, "keep_col", LODE_H5_U8);
    g->smooth = read_array(file, g->name, "smooth", LODE_H5_F32);
    g->scale = read_array(file, g->name, "scale", LODE_H5_F32);
    g->minimum = read_array(file, g->name, "minimum", LODE_H5_F32);
    g->integers = read_array(file, g->name, "integers", LODE_H5_U8);
    g->values = read_array(file, g->name, "values", LODE_H5_F32);
    g->codec.bits = (int)number(file, g->name, "bits");
    g->codec.granularity = granularity_of(file, g->name);
    g->codec.row_bits = g->row_bits.u8;
    g->codec.col_bits = g->col_bits.u8;
    g->codec.keep_row = g->keep_row.u8;
    g->codec.keep_col = g->keep_col.u8;
    g->codec.smooth = g->smooth.f32;
    g->codec.dtype = dtype_named(dtype);
    assert_int_equal(g->values.count, g->weight.out * g->weight.in);
    assert_int_equal(g->scale.count, lode_codec_blocks(&g->codec, g->weight.out, g->weight.in));
}

static void golden_close(golden_t *g) {
    lode_h5_array_t *arrays[] = {&g->bytes,    &g->rows,     &g->cols,     &g->row_bits,
                                 &g->col_bits, &g->keep_row, &g->keep_col, &g->smooth,
                                 &g->scale,    &g->minimum,  &g->integers, &g->values};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        lode_h5_free(arrays[i]);
    free(g->held);
}

/* The same matrix stored in another way, in bytes that the caller frees: transposed or not, with
 * spare places between lines, and not aligned. */
static unsigned char *store(lode_weight_t *weight, const golden_t *g, bool transposed) {
    const size_t size = lode_dtype_size(g->weight.dtype);
    const int64_t lines = transposed ? g->weight.cols : g->weight.rows;
    *weight = g->weight;
    weight->transposed = transposed;
    weight->pitch = (transposed ? g->weight.rows : g->weight.cols) + SPARE;
    unsigned char *bytes = malloc((size_t)(lines * weight->pitch) * size + 1);
    memset(bytes, 0x5a, (size_t)(lines * weight->pitch) * size + 1);
    for (int64_t i = 0; i < weight->rows; i++)
        for (int64_t j = 0; j < weight->cols; j++)
            memcpy(bytes + 1 +
                       (size_t)(transposed ? j * weight->pitch + i : i * weight->pitch + j) * size,
                   g->bytes.u8 + (size_t)(i * weight->cols + j) * size, size);
    weight->data = bytes + 1;
    return bytes;
}

static void check_bits(const char *name, const char *what, const void *got, const void *want,
                       int64_t count, size_t size) {
    for (int64_t i = 0; i < count; i++) {
        const char *g = (const char *)got + (size_t)i * size;
        const char *w = (const char *)want + (size_t)i * size;
        if (memcmp(g, w, size) == 0)
            continue;
        float a = 0, b = 0;
        memcpy(&a, g, size);
        memcpy(&b, w, size);
        fail_msg("%s: %s %lld is %.9g and should be %.9g", name, what, (long long)i, (double)a,
                 (double)b);
    }
}

/* --- checks ------------------------------------------------------------------------------------
 */

static void check_fit(golden_t *g, const lode_weight_t *weight) {
    const int64_t blocks = g->scale.count;
    float *scale = calloc((size_t)blocks + 1, sizeof *scale);
    float *minimum = calloc((size_t)blocks + 1, sizeof *minimum);
    LODE_ASSERT_OK(lode_codec_fit(&g->codec, weight, g->clip, scale, minimum));
    check_bits(g->name, "scale", scale, g->scale.f32, blocks, sizeof *scale);
    check_bits(g->name, "minimum", minimum, g->minimum.f32, blocks, sizeof *minimum);
    free(scale);
    free(minimum);
}

/* The whole, and parts that begin and end anywhere. */
static void check_read(const golden_t *g, const lode_weight_t *weight) {
    const int64_t out = weight->out, in = weight->in;
    float *got = calloc((size_t)(out * in), sizeof *got);
    uint8_t *q = calloc((size_t)(out * in), 1);
    for (int part = 0; part < 4; part++) {
        const int64_t row = part & 1 ? out / 3 : 0,
                      rows = part & 2 ? (out - row + 1) / 2 : out - row;
        const int64_t col = part & 1 ? in / 4 : 0, cols = part & 2 ? (in - col + 1) / 2 : in - col;
        lode_codec_read(weight, row, rows, col, cols, got);
        for (int64_t i = 0; i < rows; i++)
            check_bits(g->name, "value", got + i * cols, g->values.f32 + (row + i) * in + col, cols,
                       sizeof *got);
        if (!g->integers.u8)
            continue;
        lode_codec_integers(weight, row, rows, col, cols, q);
        for (int64_t i = 0; i < rows; i++)
            check_bits(g->name, "integer", q + i * cols, g->integers.u8 + (row + i) * in + col,
                       cols, 1);
    }
    free(got);
    free(q);
}

/* Products with unit vectors give the matrix back, forwards and backwards. */
static void check_products(const golden_t *g, const lode_weight_t *weight) {
    const int64_t out = weight->out, in = weight->in, most = out > in ? out : in;
    float *unit = calloc((size_t)(most * most), sizeof *unit);
    float *y = calloc((size_t)(most * most), sizeof *y);
    float *workspace = malloc((size_t)lode_linear_workspace(weight) * sizeof *workspace);
    for (int64_t i = 0; i < in; i++)
        unit[i * in + i] = 1;
    lode_linear_forward(weight, in, unit, false, y, workspace);
    for (int64_t i = 0; i < out * in; i++)
        if (y[i % in * out + i / in] != g->values.f32[i])
            fail_msg("%s: element %lld is lost in a product", g->name, (long long)i);
    memset(unit, 0, (size_t)(most * most) * sizeof *unit);
    for (int64_t i = 0; i < out; i++)
        unit[i * out + i] = 1;
    lode_linear_backward(weight, out, unit, false, y, workspace);
    for (int64_t i = 0; i < out * in; i++)
        if (y[i] != g->values.f32[i])
            fail_msg("%s: element %lld is lost in a product's backward", g->name, (long long)i);
    free(unit);
    free(y);
    free(workspace);
}

static void test_golden(void **state) {
    (void)state;
    hid_t file = lode_h5_open(GOLDEN);
    assert_true(file >= 0);
    const int64_t cases = lode_h5_members(file, "cases");
    assert_true(cases >= CASES_LEAST);
    for (int64_t c = 0; c < cases; c++) {
        golden_t g;
        golden_open(&g, file, c);
        g.codec.scale = g.scale.f32;
        g.codec.minimum = g.minimum.f32;
        for (int way = 0; way < 4; way++) {
            lode_weight_t weight;
            unsigned char *bytes = store(&weight, &g, way & 1);
            lode_set_threads(1 + 2 * (way / 2));
            check_fit(&g, &weight);
            check_read(&g, &weight);
            check_products(&g, &weight);
            free(bytes);
        }
        golden_close(&g);
    }
    lode_set_threads(1);
    H5Fclose(file);
}

/* Blocks of a product are smaller than this matrix: it is coded as when it is read at once. */
static void test_large(void **state) {
    (void)state;
    enum { OUT = 2100, IN = 2100, TOKENS = 3 };
    static const lode_granularity_t kinds[] = {{LODE_GRANULARITY_TENSOR, 0},
                                               {LODE_GRANULARITY_CHANNEL, 0},
                                               {LODE_GRANULARITY_GROUP, 128},
                                               {LODE_GRANULARITY_BLOCK, 100}};
    static const lode_held_t held[] = {{0, 2099, 3}, {700, 5, -4}, {2099, 2099, 2}};
    uint16_t *bytes = malloc((size_t)OUT * IN * sizeof *bytes);
    float *plain = malloc((size_t)OUT * IN * sizeof *plain);
    float *parameters = malloc((size_t)2 * OUT * IN * sizeof *parameters);
    float x[TOKENS * IN], y[TOKENS * OUT], want[TOKENS * OUT];
    for (int64_t i = 0; i < (int64_t)OUT * IN; i++)
        bytes[i] = (uint16_t)(0x3c00 + (i * 7919) % 0x300 + (i % 3 == 0 ? 0x8000 : 0));
    for (int i = 0; i < TOKENS * IN; i++)
        x[i] = (float)(i * 31 % 17 - 8);
    for (int way = 0; way < 8; way++) {
        lode_tensor_t tensor = lode_tensor_matrix(bytes, LODE_DTYPE_BF16, OUT, IN);
        tensor.transposed = way & 1;
        lode_weight_t weight = lode_weight_of(&tensor);
        lode_codec_t codec = {.bits = 4,
                              .granularity = kinds[way / 2],
                              .held = held,
                              .held_count = 3,
                              .dtype = LODE_DTYPE_BF16};
        const int64_t blocks = lode_codec_blocks(&codec, OUT, IN);
        LODE_ASSERT_OK(lode_codec_fit(&codec, &weight, 3, parameters, parameters + blocks));
        codec.scale = parameters;
        codec.minimum = parameters + blocks;
        weight.codec = &codec;
        lode_codec_read(&weight, 0, OUT, 0, IN, plain);
        assert_true(plain[IN - 1] == 3 && plain[700 * IN + 5] == -4);
        const lode_tensor_t dense = lode_tensor_matrix(plain, LODE_DTYPE_F32, OUT, IN);
        const lode_weight_t materialised = lode_weight_of(&dense);
        float *workspace = malloc((size_t)lode_linear_workspace(&weight) * sizeof *workspace);
        for (int backward = 0; backward < 2; backward++) {
            (backward ? lode_linear_backward : lode_linear_forward)(&weight, TOKENS, x, false, y,
                                                                    workspace);
            (backward ? lode_linear_backward : lode_linear_forward)(&materialised, TOKENS, x, false,
                                                                    want, NULL);
            for (int i = 0; i < TOKENS * OUT; i++)
                if (fabsf(y[i] - want[i]) > 1e-4F * (1 + fabsf(want[i])))
                    fail_msg("way %d: %g is not %g", way, (double)y[i], (double)want[i]);
        }
        free(workspace);
    }
    free(bytes);
    free(plain);
    free(parameters);
}

/* --- what cannot be fitted ----------------------------------------------------------------------
 */

static void test_rejected(void **state) {
    (void)state;
    enum { OUT = 70, IN = 600 };
    static float w[OUT * IN], parameters[2 * OUT * IN];
    static uint8_t bits[IN];
    memset(bits, 4, sizeof bits);
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    static const lode_granularity_t kinds[] = {{LODE_GRANULARITY_TENSOR, 0},
                                               {LODE_GRANULARITY_CHANNEL, 0},
                                               {LODE_GRANULARITY_GROUP, 64},
                                               {LODE_GRANULARITY_BLOCK, 32}};
    for (int64_t i = 0; i < (int64_t)OUT * IN; i++)
        w[i] = (float)(i % 91) - 45;
    for (int way = 0; way < 18; way++) {
        const lode_tensor_t tensor = lode_tensor_matrix(w, LODE_DTYPE_F32, OUT, IN);
        const lode_weight_t weight = lode_weight_of(&tensor);
        lode_codec_t codec = {.bits = 4, .dtype = LODE_DTYPE_F32};
        if (way / 3 < 4)
            codec.granularity = kinds[way / 3];
        codec.row_bits = way / 3 == 4 ? bits : NULL;
        codec.col_bits = way / 3 == 5 ? bits : NULL;
        const float first = w[41 * IN + 577], second = w[66 * IN + 2];
        w[41 * IN + 577] = bad[way % 3];
        w[66 * IN + 2] = bad[way % 3];
        LODE_ASSERT_FAILS(lode_codec_fit(&codec, &weight, way % 2 ? 3 : INFINITY, parameters,
                                         parameters + OUT * IN),
                          LODE_ERR_NUMERIC, "row 41, column 577");
        w[41 * IN + 577] = first;
        w[66 * IN + 2] = second;
        w[5 * IN] = 3e38F;
        w[5 * IN + 1] = -3e38F;
        w[6 * IN] = -3e38F;
        LODE_ASSERT_FAILS(
            lode_codec_fit(&codec, &weight, INFINITY, parameters, parameters + OUT * IN),
            LODE_ERR_NUMERIC, "span more than float32");
        w[5 * IN] = w[5 * IN + 1] = w[6 * IN] = 0;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_large),
                                       cmocka_unit_test(test_rejected)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
