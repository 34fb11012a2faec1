/* kernels/input against tests/golden/quantize.py, bit for bit; and what is not finite. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/input.h"
#include "kernels/linear.h"
#include "testing/compare.h"
#include "testing/hdf5_read.h"

enum { CASES_LEAST = 24, PATH = 512 };

static lode_h5_array_t read_array(hid_t file, const char *path, lode_h5_type_t type) {
    lode_h5_array_t array = {0};
    if (lode_h5_exists(file, path) && !lode_h5_read(&array, file, path, type))
        fail_msg("%s cannot be read", path);
    return array;
}

static void check_case(hid_t file, const char *name, const lode_sequences_t *sequences,
                       const lode_h5_array_t *x) {
    char group[PATH], path[2 * PATH];
    double bits, tensor;
    snprintf(group, sizeof group, "inputs/cases/%s", name);
    assert_true(lode_h5_number(file, group, "bits", &bits));
    assert_true(lode_h5_number(file, group, "tensor", &tensor));
    snprintf(path, sizeof path, "%s/held", group);
    lode_h5_array_t held = read_array(file, path, LODE_H5_I32);
    snprintf(path, sizeof path, "%s/smooth", group);
    lode_h5_array_t smooth = read_array(file, path, LODE_H5_F32);
    snprintf(path, sizeof path, "%s/values", group);
    lode_h5_array_t want = read_array(file, path, LODE_H5_F32);
    const lode_input_codec_t codec = {.bits = (int)bits,
                                      .tensor = tensor != 0,
                                      .held = held.i32,
                                      .held_count = held.count,
                                      .smooth = smooth.f32};
    float *got = malloc((size_t)x->count * sizeof *got);
    for (int threads = 1; threads <= 3; threads += 2) {
        memset(got, 0x5a, (size_t)x->count * sizeof *got);
        lode_set_threads(threads);
        lode_input_code(&codec, sequences, x->extent[1], x->f32, got);
        for (int64_t i = 0; i < x->count; i++)
            if (memcmp(&got[i], &want.f32[i], sizeof *got) != 0)
                fail_msg("%s: element %lld is %.9g and should be %.9g", name, (long long)i,
                         (double)got[i], (double)want.f32[i]);
    }
    lode_set_threads(1);
    free(got);
    lode_h5_free(&held);
    lode_h5_free(&smooth);
    lode_h5_free(&want);
}

static void test_golden(void **state) {
    (void)state;
    hid_t file = lode_h5_open("tests/golden/quantize.h5");
    assert_true(file >= 0);
    lode_h5_array_t x = read_array(file, "inputs/x", LODE_H5_F32);
    lode_h5_array_t offsets = read_array(file, "inputs/offsets", LODE_H5_I64);
    const lode_sequences_t sequences = {.count = offsets.count - 1, .offsets = offsets.i64};
    const int64_t cases = lode_h5_members(file, "inputs/cases");
    assert_true(cases >= CASES_LEAST);
    for (int64_t c = 0; c < cases; c++) {
        char name[LODE_H5_NAME];
        assert_true(lode_h5_member(file, "inputs/cases", c, name));
        check_case(file, name, &sequences, &x);
    }
    lode_h5_free(&x);
    lode_h5_free(&offsets);
    H5Fclose(file);
}

/* A pass finds what is not finite in a layer's output: it must not disappear before. */
static void test_not_finite(void **state) {
    (void)state;
    enum { T = 3, W = 21 };
    static const int64_t offsets[] = {0, T};
    static const int32_t held[] = {4};
    const lode_sequences_t sequences = {1, offsets};
    for (int way = 0; way < 8; way++) {
        float x[T * W], out[T * W];
        for (int i = 0; i < T * W; i++)
            x[i] = (float)(i % 7) - 3;
        x[W + 4] = way & 1 ? NAN : INFINITY;
        const lode_input_codec_t codec = {
            .bits = 8, .tensor = way & 2, .held = held, .held_count = way & 4 ? 1 : 0};
        lode_input_code(&codec, &sequences, W, x, out);
        assert_false(isfinite(out[W + 4]));
        assert_true(way & 2 || isfinite(out[0]));
    }
}

/* Nothing but a division where nothing is rounded. */
static void test_smooth_alone(void **state) {
    (void)state;
    static const int64_t offsets[] = {0, 2};
    static const float smooth[] = {0.5F, 4}, x[] = {1, 2, -3, 5};
    float out[4];
    const lode_sequences_t sequences = {1, offsets};
    const lode_input_codec_t codec = {.smooth = smooth}, none = {0};
    lode_input_code(&codec, &sequences, 2, x, out);
    assert_true(out[0] == 2 && out[1] == 0.5F && out[2] == -6 && out[3] == 1.25F);
    assert_true(lode_input_changes(&codec) && !lode_input_changes(&none));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden),
                                       cmocka_unit_test(test_not_finite),
                                       cmocka_unit_test(test_smooth_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
