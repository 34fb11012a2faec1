/* score/entropy: closed forms, torch's autograd, finite differences, storage and threads. */
#include "testing/cmocka_all.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "score/entropy.h"
#include "testing/compare.h"
#include "testing/hdf5_read.h"

static const lode_entropy_form_t forms[] = {LODE_ENTROPY_ABSOLUTE, LODE_ENTROPY_SQUARE,
                                            LODE_ENTROPY_SOFTMAX};
static const char *const names[] = {"absolute", "square", "softmax"};
enum { FORMS = 3 };

/* More rows than a panel, more columns than a tile, neither a multiple. */
enum { D = 45, M = 301 };

/* Uneven weights of both signs, some zero, the others large enough for differences in float64. */
static void fill(float *weights, int64_t count) {
    const uint64_t key = lode_random_key(5, "entropy", 0, 0);
    for (int64_t i = 0; i < count; i++) {
        const double u = lode_random_uniform(key, (uint64_t)i) * 2 - 1;
        weights[i] = i % 17 == 3 ? 0 : (float)(u * fabs(u) + (u < 0 ? -0.05 : 0.05));
    }
}

/* --- by hand ---------------------------------------------------------------------------------- */

static void test_closed_forms(void **state) {
    (void)state;
    enum { ROWS = 8, COLUMNS = 6 };
    /* alike, one alone, zeros, 1 to 3, alike but for a zero, alike but tiny */
    float w[ROWS][COLUMNS] = {{0}};
    for (int i = 0; i < ROWS; i++) {
        w[i][0] = i % 2 ? 0.3f : -0.3f;
        w[i][4] = i == 5 ? 0 : 2;
        w[i][5] = 1e-44f;
    }
    w[6][1] = -7;
    w[0][3] = -1;
    w[1][3] = 3;
    const double d = log(ROWS), e1 = exp(1), e2 = exp(2), e3 = exp(3), e7 = exp(7);
    const double z1 = e7 + 7, z3 = e1 + e3 + 6, z4 = 7 * e2 + 1;
    const double want[FORMS][COLUMNS] = {
        {d, 0, d, 0.25 * log(4) + 0.75 * log(4.0 / 3), log(7), d},
        {d, 0, d, 0.1 * log(10) + 0.9 * log(10.0 / 9), log(7), d},
        {d, log(z1) - 7 * e7 / z1, d, log(z3) - (e1 + 3 * e3) / z3, log(z4) - 7 * 2 * e2 / z4, d}};
    for (int f = 0; f < FORMS; f++) {
        double h[COLUMNS], workspace[2 * COLUMNS];
        float gradient[ROWS * COLUMNS] = {0};
        lode_entropy_columns(w[0], ROWS, COLUMNS, COLUMNS, false, forms[f], h, workspace);
        LODE_ASSERT_CLOSE(lode_compare_f64(names[f], h, COLUMNS, want[f], COLUMNS, 1e-14, 1e-14));
        assert_true(h[1] >= 0);
        lode_entropy_gradient(w[0], ROWS, COLUMNS, COLUMNS, false, forms[f], h, workspace, 1,
                              gradient);
        for (int i = 0; i < ROWS; i++) {
            /* flat where all are alike, where there is one alone, and where there is none */
            assert_true(fabsf(gradient[i * COLUMNS]) < 1e-14f);
            assert_true(gradient[i * COLUMNS + 2] == 0);
            if (forms[f] != LODE_ENTROPY_SOFTMAX)
                assert_true(fabsf(gradient[i * COLUMNS + 1]) < 1e-14f);
        }
        assert_true(gradient[5 * COLUMNS + 4] == 0); /* at the zero */
        /* 1 and 3 are drawn together by a larger 1 and by a smaller 3 */
        if (forms[f] != LODE_ENTROPY_SOFTMAX)
            assert_true(gradient[3] < 0 && gradient[COLUMNS + 3] < 0);
    }
}

/* --- torch ------------------------------------------------------------------------------------ */

/* Each column against its own steepest derivative, and what float64 leaves of one that is a
 * difference: near the mean of ln p they pass through 0. */
static void assert_gradient(int form, const float *got, const double *want, const double *most,
                            int64_t d, int64_t m) {
    for (int64_t j = 0; j < m; j++) {
        double column[64], steepest = 0;
        float mine[64];
        for (int64_t i = 0; i < d; i++) {
            column[i] = want[i * m + j];
            mine[i] = got[i * m + j];
            steepest = fmax(steepest, fabs(column[i]));
        }
        const double left = 1e-15 * (forms[form] == LODE_ENTROPY_SOFTMAX ? 1 : 1 / most[j]);
        const lode_comparison_t comparison = lode_compare_f32(
            names[form], mine, d, column, d, 1e-13 * steepest + left + (double)FLT_TRUE_MIN, 6e-8);
        if (!comparison.equal)
            fail_msg("column %lld: %s", (long long)j, comparison.text);
    }
}

static void test_torch(void **state) {
    (void)state;
    const hid_t file = lode_h5_open("tests/golden/entropy.h5");
    lode_h5_array_t weights, want, slope;
    assert_true(file >= 0 && lode_h5_read(&weights, file, "/weights", LODE_H5_F32));
    const int64_t d = weights.extent[0], m = weights.extent[1];
    double *h = calloc((size_t)(3 * m), sizeof *h);
    float *gradient = calloc((size_t)(d * m), sizeof *gradient);
    assert_non_null(h);
    assert_non_null(gradient);
    for (int f = 0; f < FORMS; f++) {
        char path[64];
        snprintf(path, sizeof path, "/entropy/%s", names[f]);
        assert_true(lode_h5_read(&want, file, path, LODE_H5_F64));
        snprintf(path, sizeof path, "/gradient/%s", names[f]);
        assert_true(lode_h5_read(&slope, file, path, LODE_H5_F64));
        lode_entropy_columns(weights.f32, d, m, m, false, forms[f], h, h + m);
        LODE_ASSERT_CLOSE(lode_compare_f64(names[f], h, m, want.f64, m, 1e-14, 1e-12));
        memset(gradient, 0, (size_t)(d * m) * sizeof *gradient);
        lode_entropy_gradient(weights.f32, d, m, m, false, forms[f], h, h + m, 1, gradient);
        assert_gradient(f, gradient, slope.f64, h + m, d, m);
        lode_h5_free(&want);
        lode_h5_free(&slope);
    }
    free(h);
    free(gradient);
    lode_h5_free(&weights);
    H5Fclose(file);
}

/* --- finite differences ----------------------------------------------------------------------- */

/* H of a column as the formula has it. */
static double entropy_of(const double *w, int64_t d, lode_entropy_form_t form) {
    double f[D], sum = 0, h = 0;
    for (int64_t i = 0; i < d; i++) {
        f[i] = form == LODE_ENTROPY_ABSOLUTE ? fabs(w[i])
               : form == LODE_ENTROPY_SQUARE ? w[i] * w[i]
                                             : exp(fabs(w[i]));
        sum += f[i];
    }
    for (int64_t i = 0; i < d; i++)
        h -= f[i] > 0 ? f[i] / sum * log(f[i] / sum) : 0;
    return h;
}

static double difference(double *w, int64_t i, double step, lode_entropy_form_t form) {
    const double middle = w[i];
    w[i] = middle + step;
    const double above = entropy_of(w, D, form);
    w[i] = middle - step;
    const double below = entropy_of(w, D, form);
    w[i] = middle;
    return (above - below) / (2 * step);
}

/* Central differences at three steps, each half of the one before, extrapolated to none. */
static double derivative(double *w, int64_t i, lode_entropy_form_t form) {
    const double step = fabs(w[i]) / 64;
    const double a = difference(w, i, step, form), b = difference(w, i, step / 2, form),
                 c = difference(w, i, step / 4, form);
    const double ab = (4 * b - a) / 3, bc = (4 * c - b) / 3;
    return (16 * bc - ab) / 15;
}

static void test_differences(void **state) {
    (void)state;
    enum { CHECKED = 5 }; /* columns */
    const double scale = -0.75;
    float w[D * CHECKED], gradient[D * CHECKED];
    fill(w, D * CHECKED);
    for (int f = 0; f < FORMS; f++) {
        double h[CHECKED], workspace[2 * CHECKED], want[D * CHECKED];
        for (int i = 0; i < D * CHECKED; i++)
            gradient[i] = 0.25f * (float)(i % 4); /* it is added to */
        lode_entropy_columns(w, D, CHECKED, CHECKED, false, forms[f], h, workspace);
        lode_entropy_gradient(w, D, CHECKED, CHECKED, false, forms[f], h, workspace, scale,
                              gradient);
        for (int64_t j = 0; j < CHECKED; j++) {
            double column[D];
            for (int64_t i = 0; i < D; i++)
                column[i] = (double)w[i * CHECKED + j];
            for (int64_t i = 0; i < D; i++)
                want[i * CHECKED + j] =
                    0.25 * (double)((i * CHECKED + j) % 4) +
                    (w[i * CHECKED + j] == 0 ? 0 : scale * derivative(column, i, forms[f]));
        }
        LODE_ASSERT_CLOSE(
            lode_compare_f32(names[f], gradient, D * CHECKED, want, D * CHECKED, 1e-8, 6e-8));
    }
}

/* --- storage, threads ------------------------------------------------------------------------- */

typedef struct stored {
    float weights[(D + 3) * (M + 3)], gradient[(D + 3) * (M + 3)];
    double h[M], workspace[2 * M];
} stored_t;

/* The same weights in one storage, their entropies and gradient. */
static void compute(stored_t *out, const float *weights, int64_t pitch, bool transposed,
                    lode_entropy_form_t form) {
    for (int64_t i = 0; i < (int64_t)(sizeof out->weights / sizeof *out->weights); i++) {
        out->weights[i] = NAN; /* between the lines */
        out->gradient[i] = 8;
    }
    for (int64_t i = 0; i < D; i++)
        for (int64_t j = 0; j < M; j++)
            out->weights[transposed ? j * pitch + i : i * pitch + j] = weights[i * M + j];
    lode_entropy_columns(out->weights, D, M, pitch, transposed, form, out->h, out->workspace);
    lode_entropy_gradient(out->weights, D, M, pitch, transposed, form, out->h, out->workspace, 0.5,
                          out->gradient);
}

static void assert_same(const stored_t *got, const stored_t *want, int64_t pitch, bool transposed) {
    int64_t touched = 0;
    assert_memory_equal(got->h, want->h, sizeof got->h);
    assert_memory_equal(got->workspace, want->workspace, sizeof got->workspace);
    for (int64_t i = 0; i < D; i++)
        for (int64_t j = 0; j < M; j++)
            assert_true(got->gradient[transposed ? j * pitch + i : i * pitch + j] ==
                        want->gradient[i * M + j]);
    for (int64_t i = 0; i < (int64_t)(sizeof got->weights / sizeof *got->weights); i++)
        touched += isnan(got->weights[i]) && got->gradient[i] != 8;
    assert_int_equal(touched, 0);
}

static void test_storage_and_threads(void **state) {
    (void)state;
    stored_t *want = malloc(sizeof *want), *got = malloc(sizeof *got);
    float *weights = malloc(sizeof(float) * D * M);
    assert_true(want && got && weights);
    fill(weights, D * M);
    const int threads = omp_get_max_threads();
    for (int f = 0; f < FORMS; f++) {
        omp_set_num_threads(1);
        compute(want, weights, M, false, forms[f]);
        compute(got, weights, M + 3, false, forms[f]);
        assert_same(got, want, M + 3, false);
        for (int count = 1; count <= 5; count += 2) {
            omp_set_num_threads(count);
            compute(got, weights, M, false, forms[f]);
            assert_same(got, want, M, false);
            compute(got, weights, D, true, forms[f]);
            assert_same(got, want, D, true);
            compute(got, weights, D + 3, true, forms[f]);
            assert_same(got, want, D + 3, true);
        }
    }
    omp_set_num_threads(threads);
    free(want);
    free(got);
    free(weights);
}

/* --- what is broken --------------------------------------------------------------------------- */

static void test_not_finite(void **state) {
    (void)state;
    const float broken[2][3] = {{1, 1, -INFINITY}, {1, NAN, 1}};
    for (int f = 0; f < FORMS; f++) {
        double h[3], workspace[6];
        lode_entropy_columns(broken[0], 2, 3, 3, false, forms[f], h, workspace);
        assert_true(h[0] > 0 && isnan(h[1]) && isnan(h[2]));
        const lode_tensor_t down = lode_tensor_matrix(broken, LODE_DTYPE_F32, 2, 3);
        LODE_ASSERT_FAILS(lode_entropy_tensor(h, &down, forms[f], "down_proj"), LODE_ERR_NUMERIC,
                          "down_proj[0, 2] is -inf");
    }
}

/* A derivative that float cannot hold. */
static void test_steepest(void **state) {
    (void)state;
    const float tiny[2] = {1e-44f, 3e-44f};
    double h, workspace[2];
    float gradient[2] = {0};
    lode_entropy_columns(tiny, 2, 1, 1, false, LODE_ENTROPY_ABSOLUTE, &h, workspace);
    lode_entropy_gradient(tiny, 2, 1, 1, false, LODE_ENTROPY_ABSOLUTE, &h, workspace, 1, gradient);
    assert_true(gradient[0] == 1e38f && gradient[1] == -1e38f);
}

/* Other element types are widened exactly. */
static void test_tensor(void **state) {
    (void)state;
    const uint16_t brains[4] = {0x3f80, 0xc000, 0x4040, 0x0000}; /* 1, −2, 3, 0 */
    const float floats[4] = {1, -2, 3, 0};
    const lode_tensor_t narrow = lode_tensor_matrix(brains, LODE_DTYPE_BF16, 2, 2);
    for (int f = 0; f < FORMS; f++) {
        double h[2], want[2], workspace[4];
        LODE_ASSERT_OK(lode_entropy_tensor(h, &narrow, forms[f], "down_proj"));
        lode_entropy_columns(floats, 2, 2, 2, false, forms[f], want, workspace);
        assert_memory_equal(h, want, sizeof h);
    }
    lode_tensor_t absent = {0};
    double h;
    LODE_ASSERT_FAILS(lode_entropy_tensor(&h, &absent, LODE_ENTROPY_SQUARE, "down_proj"),
                      LODE_ERR_SHAPE, "down_proj: the tensor is absent");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_forms), cmocka_unit_test(test_torch),
        cmocka_unit_test(test_differences),  cmocka_unit_test(test_storage_and_threads),
        cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_steepest),
        cmocka_unit_test(test_tensor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
