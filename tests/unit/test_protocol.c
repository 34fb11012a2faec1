/* Windows, targets and figures of the perplexity protocols, by cases computed by hand. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "common/protocol.h"
#include "testing/compare.h"

enum { BOS = 1 };

static void check_windows(const lode_windows_t *windows, int64_t count, int64_t length,
                          const int32_t *ids, const int32_t *target) {
    assert_int_equal(windows->windows, count);
    assert_int_equal(windows->text.sequences, count);
    assert_ptr_equal(windows->text.ids, windows->ids);
    assert_ptr_equal(windows->text.target, windows->target);
    assert_ptr_equal(windows->text.offsets, windows->offsets);
    assert_null(windows->text.weight);
    for (int64_t w = 0; w <= count; w++)
        assert_int_equal(windows->offsets[w], w * length);
    LODE_ASSERT_CLOSE(lode_compare_i32("ids", windows->ids, count * length, ids, count * length));
    LODE_ASSERT_CLOSE(
        lode_compare_i32("target", windows->target, count * length, target, count * length));
}

static void gptq_windows(void **state) {
    (void)state;
    const int32_t ids[] = {BOS, 11, 12, 13, 14, 15, 16, 17, 18, 19}; /* a tail of two */
    const int32_t target[] = {11, 12, 13, -1, 15, 16, 17, -1};
    lode_windows_t windows;
    LODE_ASSERT_OK(lode_windows_create(&windows, LODE_PROTOCOL_GPTQ, 4, ids, 10, BOS));
    check_windows(&windows, 2, 4, ids, target);
    assert_int_equal(windows.per_window, 3);
    assert_int_equal(windows.first_scored, 0);
    lode_windows_free(&windows);
    assert_true(!windows.ids && !windows.offsets);
    /* no tail, and the shortest window there is */
    const int32_t pairs[] = {11, -1, 13, -1, 15, -1, 17, -1, 19, -1};
    LODE_ASSERT_OK(lode_windows_create(&windows, LODE_PROTOCOL_GPTQ, 2, ids, 10, -1));
    check_windows(&windows, 5, 2, ids, pairs);
    lode_windows_free(&windows);
}

static void llama_cpp_windows(void **state) {
    (void)state;
    const int32_t ids[] = {BOS, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26};
    /* The first token of each window becomes BOS; the second half is scored, its last token
     * excepted, which has its target in the next window. */
    const int32_t with_bos[] = {BOS, 11, 12, 13, 14, 15, BOS, 17, 18, 19, 20, 21};
    const int32_t target[] = {-1, -1, -1, 14, 15, -1, -1, -1, -1, 20, 21, -1};
    lode_windows_t windows;
    LODE_ASSERT_OK(lode_windows_create(&windows, LODE_PROTOCOL_LLAMA_CPP, 6, ids, 17, BOS));
    check_windows(&windows, 2, 6, with_bos, target);
    assert_int_equal(windows.first_scored, 3);
    assert_int_equal(windows.per_window, 2); /* positions n/2 … n − 2 */
    lode_windows_free(&windows);
    LODE_ASSERT_OK(lode_windows_create(&windows, LODE_PROTOCOL_LLAMA_CPP, 6, ids, 17, -1));
    check_windows(&windows, 2, 6, ids, target);
    lode_windows_free(&windows);
    /* An odd length: half of it rounded down. */
    const int32_t odd[] = {-1, -1, 13, 14, -1, -1, -1, 18, 19, -1, -1, -1, 23, 24, -1};
    LODE_ASSERT_OK(lode_windows_create(&windows, LODE_PROTOCOL_LLAMA_CPP, 5, ids, 17, -1));
    check_windows(&windows, 3, 5, ids, odd);
    lode_windows_free(&windows);
    /* A window of two has no scored position. */
    LODE_ASSERT_FAILS(lode_windows_create(&windows, LODE_PROTOCOL_LLAMA_CPP, 2, ids, 17, BOS),
                      LODE_ERR_CONFIG, "llama.cpp");
}

/* A target is a token of the text even where its own window shows BOS in its place: no target is
 * the first token of a window. */
static void bos_is_no_target(void **state) {
    (void)state;
    int32_t ids[64];
    for (int i = 0; i < 64; i++)
        ids[i] = 100 + i;
    for (int64_t length = 3; length <= 16; length++) {
        lode_windows_t windows;
        LODE_ASSERT_OK(
            lode_windows_create(&windows, LODE_PROTOCOL_LLAMA_CPP, length, ids, 64, BOS));
        int64_t scored = 0;
        for (int64_t t = 0; t < windows.windows * length; t++)
            if (windows.target[t] >= 0) {
                assert_int_equal(windows.target[t], ids[t + 1]);
                assert_true((t + 1) % length != 0);
                scored++;
            }
        assert_int_equal(scored, windows.windows * windows.per_window);
        lode_windows_free(&windows);
    }
}

static void values(void **state) {
    (void)state;
    /* Windows' means 2 and 4; all losses 1, 2, 3, 3, 4, 5: mean 3, Σ(x − 3)² = 10. */
    const double nll[] = {1, 2, 3, 3, 4, 5};
    const double value = exp(3.0);
    /* llama.cpp: √((mean of squares − mean²) / (count − 1)) · value, i.e. √(10/6/5)·e³ */
    const double want_error = value * sqrt((64.0 / 6 - 9.0) / 5);
    const lode_protocol_t protocols[] = {LODE_PROTOCOL_GPTQ, LODE_PROTOCOL_LLAMA_CPP};
    for (int p = 0; p < 2; p++) {
        double got, error;
        lode_windows_value(protocols[p], nll, 2, 3, &got, &error);
        LODE_ASSERT_CLOSE(lode_compare_f64("value", &got, 1, &value, 1, 0, 1e-15));
        LODE_ASSERT_CLOSE(lode_compare_f64("stderr", &error, 1, &want_error, 1, 0, 1e-14));
    }
    /* one window more, of another mean */
    const double three[] = {1, 2, 3, 3, 4, 5, 9, 9, 9};
    const double want = exp((2.0 + 4.0 + 9.0) / 3);
    double got, error;
    lode_windows_value(LODE_PROTOCOL_GPTQ, three, 3, 3, &got, &error);
    LODE_ASSERT_CLOSE(lode_compare_f64("value", &got, 1, &want, 1, 0, 1e-15));
    /* equal losses have no spread; a single one has none that could be estimated */
    const double equal[] = {0.5, 0.5, 0.5};
    lode_windows_value(LODE_PROTOCOL_LLAMA_CPP, equal, 1, 3, &got, &error);
    assert_true(got == exp(0.5) && error == 0);
    lode_windows_value(LODE_PROTOCOL_GPTQ, equal, 1, 1, &got, &error);
    assert_true(got == exp(0.5) && isnan(error));
}

/* Large losses with a small spread: the deviations must not drown in the squares. */
static void error_without_cancellation(void **state) {
    (void)state;
    double nll[1000];
    for (int i = 0; i < 1000; i++)
        nll[i] = 16 + (i % 2 ? 0x1p-26 : -0x1p-26);
    double got, error;
    lode_windows_value(LODE_PROTOCOL_LLAMA_CPP, nll, 10, 100, &got, &error);
    const double want = exp(16.0) * 0x1p-26 / sqrt(999.0);
    LODE_ASSERT_CLOSE(lode_compare_f64("stderr", &error, 1, &want, 1, 0, 1e-12));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gptq_windows),
        cmocka_unit_test(llama_cpp_windows),
        cmocka_unit_test(bos_is_no_target),
        cmocka_unit_test(values),
        cmocka_unit_test(error_without_cancellation),
    };
    return cmocka_run_group_tests_name("protocol", tests, NULL, NULL);
}
