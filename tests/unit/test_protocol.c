/* Windows, targets and figures of the perplexity protocols, by cases computed by hand. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "common/protocol.h"
#include "testing/compare.h"

enum { BOS = 1 };

/* One document, or several ending at ends [count]. */
static lode_documents_t documents(const int32_t *ids, int64_t *offsets, const int64_t *ends,
                                  int64_t count, int32_t bos) {
    offsets[0] = 0;
    for (int64_t d = 0; d < count; d++)
        offsets[d + 1] = ends[d];
    return (lode_documents_t){
        .ids = ids, .offsets = offsets, .count = count, .bos = bos, .prefix = -1};
}

static lode_status_t cut(lode_windows_t *windows, lode_protocol_t protocol, int64_t length,
                         const int32_t *ids, int64_t count, int32_t bos) {
    int64_t offsets[2];
    const lode_documents_t text = documents(ids, offsets, &count, 1, bos);
    return lode_windows_create(windows, protocol, length, &text);
}

/* Windows of lengths [count], and their contents. */
static void check_ragged(const lode_windows_t *windows, const int64_t *lengths, int64_t count,
                         const int32_t *ids, const int32_t *target) {
    int64_t tokens = 0, targets = 0;
    assert_int_equal(windows->windows, count);
    assert_int_equal(windows->text.sequences, count);
    assert_ptr_equal(windows->text.ids, windows->ids);
    assert_ptr_equal(windows->text.target, windows->target);
    assert_ptr_equal(windows->text.offsets, windows->offsets);
    assert_null(windows->text.weight);
    for (int64_t w = 0; w < count; w++) {
        assert_int_equal(windows->offsets[w], tokens);
        assert_int_equal(windows->first_target[w], targets);
        for (int64_t p = 0; p < lengths[w]; p++)
            targets += target[tokens + p] >= 0;
        tokens += lengths[w];
    }
    assert_int_equal(windows->offsets[count], tokens);
    assert_int_equal(windows->first_target[count], targets);
    assert_int_equal(windows->targets, targets);
    LODE_ASSERT_CLOSE(lode_compare_i32("ids", windows->ids, tokens, ids, tokens));
    LODE_ASSERT_CLOSE(lode_compare_i32("target", windows->target, tokens, target, tokens));
}

static void check_windows(const lode_windows_t *windows, int64_t count, int64_t length,
                          const int32_t *ids, const int32_t *target) {
    int64_t lengths[16];
    assert_true(count <= 16);
    for (int64_t w = 0; w < count; w++)
        lengths[w] = length;
    check_ragged(windows, lengths, count, ids, target);
}

static void gptq_windows(void **state) {
    (void)state;
    const int32_t ids[] = {BOS, 11, 12, 13, 14, 15, 16, 17, 18, 19}; /* a tail of two */
    const int32_t target[] = {11, 12, 13, -1, 15, 16, 17, -1};
    lode_windows_t windows;
    LODE_ASSERT_OK(cut(&windows, LODE_PROTOCOL_GPTQ, 4, ids, 10, BOS));
    check_windows(&windows, 2, 4, ids, target);
    lode_windows_free(&windows);
    assert_true(!windows.ids && !windows.offsets);
    /* no tail, and the shortest window there is */
    const int32_t pairs[] = {11, -1, 13, -1, 15, -1, 17, -1, 19, -1};
    LODE_ASSERT_OK(cut(&windows, LODE_PROTOCOL_GPTQ, 2, ids, 10, -1));
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
    LODE_ASSERT_OK(cut(&windows, LODE_PROTOCOL_LLAMA_CPP, 6, ids, 17, BOS));
    check_windows(&windows, 2, 6, with_bos, target);
    lode_windows_free(&windows);
    LODE_ASSERT_OK(cut(&windows, LODE_PROTOCOL_LLAMA_CPP, 6, ids, 17, -1));
    check_windows(&windows, 2, 6, ids, target);
    lode_windows_free(&windows);
    /* An odd length: half of it rounded down. */
    const int32_t odd[] = {-1, -1, 13, 14, -1, -1, -1, 18, 19, -1, -1, -1, 23, 24, -1};
    LODE_ASSERT_OK(cut(&windows, LODE_PROTOCOL_LLAMA_CPP, 5, ids, 17, -1));
    check_windows(&windows, 3, 5, ids, odd);
    lode_windows_free(&windows);
    /* A window of two has no scored position. */
    LODE_ASSERT_FAILS(cut(&windows, LODE_PROTOCOL_LLAMA_CPP, 2, ids, 17, BOS), LODE_ERR_CONFIG,
                      "llama.cpp");
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
        LODE_ASSERT_OK(cut(&windows, LODE_PROTOCOL_LLAMA_CPP, length, ids, 64, BOS));
        int64_t scored = 0;
        for (int64_t t = 0; t < windows.windows * length; t++)
            if (windows.target[t] >= 0) {
                assert_int_equal(windows.target[t], ids[t + 1]);
                assert_true((t + 1) % length != 0);
                scored++;
            }
        assert_int_equal(scored, windows.windows * (length - 1 - length / 2));
        assert_int_equal(scored, windows.targets);
        lode_windows_free(&windows);
    }
}

/* The tail is a window of its own where it has a target. */
static void nodelens_windows(void **state) {
    (void)state;
    const int32_t ids[] = {BOS, 11, 12, 13, 14, 15, 16, 17, 18, 19};
    lode_windows_t windows;
    const int64_t lengths[] = {4, 4, 2};
    const int32_t target[] = {11, 12, 13, -1, 15, 16, 17, -1, 19, -1};
    LODE_ASSERT_OK(cut(&windows, LODE_PROTOCOL_NODELENS, 4, ids, 10, BOS));
    check_ragged(&windows, lengths, 3, ids, target);
    lode_windows_free(&windows);
    LODE_ASSERT_OK(cut(&windows, LODE_PROTOCOL_NODELENS, 4, ids, 9, BOS));
    check_ragged(&windows, lengths, 2, ids, target);
    lode_windows_free(&windows);
    const int64_t whole = 10;
    const int32_t all[] = {11, 12, 13, 14, 15, 16, 17, 18, 19, -1};
    LODE_ASSERT_OK(cut(&windows, LODE_PROTOCOL_NODELENS, 4096, ids, 10, BOS));
    check_ragged(&windows, &whole, 1, ids, all);
    lode_windows_free(&windows);
}

/* What lm_eval.utils.get_rolling_token_windows and make_disjoint_window give for tokens 0 … 9 with
 * max_seq_len 4 and context_len 1, and for documents of 4, 3, 0 and 5 tokens. */
static void rolling_windows(void **state) {
    (void)state;
    enum { PREFIX = 77 };
    const int32_t ids[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    int64_t offsets[5];
    const int64_t ten = 10, ends[] = {4, 7, 7, 12};
    lode_documents_t text = documents(ids, offsets, &ten, 1, -1);
    text.prefix = PREFIX;
    lode_windows_t windows;
    LODE_ASSERT_OK(lode_windows_create(&windows, LODE_PROTOCOL_LM_EVAL, 4, &text));
    const int32_t rolled[] = {PREFIX, 0, 1, 2, 3, 4, 5, 6, 5, 6, 7, 8};
    const int32_t target[] = {0, 1, 2, 3, 4, 5, 6, 7, -1, -1, 8, 9};
    check_windows(&windows, 3, 4, rolled, target);
    lode_windows_free(&windows);
    text = documents(ids, offsets, ends, 4, -1);
    text.prefix = PREFIX;
    LODE_ASSERT_OK(lode_windows_create(&windows, LODE_PROTOCOL_LM_EVAL, 4, &text));
    const int64_t lengths[] = {4, 3, 4, 4};
    const int32_t several[] = {PREFIX, 0, 1, 2, PREFIX, 4, 5, PREFIX, 7, 8, 9, 7, 8, 9, 10};
    const int32_t scored[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, -1, -1, -1, 11};
    check_ragged(&windows, lengths, 4, several, scored);
    lode_windows_free(&windows);
}

/* Every token of every document is a target exactly once, whatever the length. */
static void rolling_covers(void **state) {
    (void)state;
    int32_t ids[60];
    int64_t offsets[4];
    const int64_t ends[] = {1, 23, 60};
    for (int i = 0; i < 60; i++)
        ids[i] = i;
    for (int64_t length = 2; length <= 64; length++) {
        lode_documents_t text = documents(ids, offsets, ends, 3, -1);
        text.prefix = 99;
        lode_windows_t windows;
        LODE_ASSERT_OK(lode_windows_create(&windows, LODE_PROTOCOL_LM_EVAL, length, &text));
        assert_int_equal(windows.targets, 60);
        int64_t next = 0;
        for (int64_t w = 0; w < windows.windows; w++) {
            assert_true(windows.offsets[w + 1] - windows.offsets[w] <= length);
            for (int64_t t = windows.offsets[w]; t < windows.offsets[w + 1]; t++) {
                if (windows.target[t] < 0)
                    continue;
                const bool first = next == 0 || next == 1 || next == 23;
                assert_int_equal(windows.ids[t], first ? 99 : next - 1);
                assert_int_equal(windows.target[t], next++);
            }
        }
        lode_windows_free(&windows);
    }
}

/* `windows` windows of `per_window` targets. */
static lode_windows_t equal_windows(lode_protocol_t protocol, int64_t *first, int64_t windows,
                                    int64_t per_window) {
    for (int64_t w = 0; w <= windows; w++)
        first[w] = w * per_window;
    return (lode_windows_t){.protocol = protocol,
                            .windows = windows,
                            .targets = windows * per_window,
                            .first_target = first};
}

static lode_estimate_t value_of(lode_protocol_t protocol, const double *nll, int64_t windows,
                                int64_t per_window) {
    int64_t first[16];
    assert_true(windows < 16);
    const lode_windows_t cut_windows = equal_windows(protocol, first, windows, per_window);
    return lode_windows_value(&cut_windows, nll).value;
}

static void values(void **state) {
    (void)state;
    /* Windows' means 2 and 4; all losses 1, 2, 3, 3, 4, 5: mean 3, Σ(x − 3)² = 10. */
    const double nll[] = {1, 2, 3, 3, 4, 5};
    const double value = exp(3.0);
    /* llama.cpp: √((mean of squares − mean²) / (count − 1)) · value, i.e. √(10/6/5)·e³ */
    const double want_error = value * sqrt((64.0 / 6 - 9.0) / 5);
    const lode_protocol_t protocols[] = {LODE_PROTOCOL_GPTQ, LODE_PROTOCOL_LLAMA_CPP,
                                         LODE_PROTOCOL_NODELENS};
    for (int p = 0; p < 3; p++) {
        const lode_estimate_t got = value_of(protocols[p], nll, 2, 3);
        LODE_ASSERT_CLOSE(lode_compare_f64("value", &got.value, 1, &value, 1, 0, 1e-15));
        LODE_ASSERT_CLOSE(
            lode_compare_f64("stderr", &got.standard_error, 1, &want_error, 1, 0, 1e-14));
    }
    /* one window more, of another mean */
    const double three[] = {1, 2, 3, 3, 4, 5, 9, 9, 9};
    const double want = exp((2.0 + 4.0 + 9.0) / 3);
    lode_estimate_t got = value_of(LODE_PROTOCOL_GPTQ, three, 3, 3);
    LODE_ASSERT_CLOSE(lode_compare_f64("value", &got.value, 1, &want, 1, 0, 1e-15));
    /* equal losses have no spread; a single one has none that could be estimated */
    const double equal[] = {0.5, 0.5, 0.5};
    got = value_of(LODE_PROTOCOL_LLAMA_CPP, equal, 1, 3);
    assert_true(got.value == exp(0.5) && got.standard_error == 0);
    got = value_of(LODE_PROTOCOL_GPTQ, equal, 1, 1);
    assert_true(got.value == exp(0.5) && isnan(got.standard_error));
}

/* A short window counts by its tokens. */
static void token_weighted(void **state) {
    (void)state;
    const double nll[] = {1, 2, 3, 8}, want = exp(14.0 / 4);
    int64_t first[] = {0, 3, 4};
    const lode_windows_t ragged = {
        .protocol = LODE_PROTOCOL_NODELENS, .windows = 2, .targets = 4, .first_target = first};
    const lode_perplexity_t got = lode_windows_value(&ragged, nll);
    LODE_ASSERT_CLOSE(lode_compare_f64("value", &got.value.value, 1, &want, 1, 0, 1e-15));
}

/* Losses 1, 2, 3, 8 of two words and ten bytes: Σ = 14, s² = 29/3 and √(s²/4) that of the mean. */
static void per_word_and_byte(void **state) {
    (void)state;
    const double nll[] = {1, 2, 3, 8}, error = sqrt(29.0 / 3 / 4);
    int64_t first[] = {0, 3, 4};
    const lode_windows_t rolled = {.protocol = LODE_PROTOCOL_LM_EVAL,
                                   .windows = 2,
                                   .targets = 4,
                                   .first_target = first,
                                   .words = 2,
                                   .bytes = 10};
    const lode_perplexity_t got = lode_windows_value(&rolled, nll);
    const double found[] = {got.value.value,           got.value.standard_error,
                            got.token.value,           got.token.standard_error,
                            got.byte_perplexity.value, got.byte_perplexity.standard_error,
                            got.bits_per_byte.value,   got.bits_per_byte.standard_error};
    const double want[] = {
        exp(7.0), exp(7.0) * 2 * error,   exp(3.5),       exp(3.5) * error,
        exp(1.4), exp(1.4) * 0.4 * error, 1.4 / log(2.0), 0.4 * error / log(2.0)};
    LODE_ASSERT_CLOSE(lode_compare_f64("figures", found, 8, want, 8, 0, 1e-14));
}

/* Large losses with a small spread: the deviations must not drown in the squares. */
static void error_without_cancellation(void **state) {
    (void)state;
    double nll[1000];
    for (int i = 0; i < 1000; i++)
        nll[i] = 16 + (i % 2 ? 0x1p-26 : -0x1p-26);
    const lode_estimate_t got = value_of(LODE_PROTOCOL_LLAMA_CPP, nll, 10, 100);
    const double want = exp(16.0) * 0x1p-26 / sqrt(999.0);
    LODE_ASSERT_CLOSE(lode_compare_f64("stderr", &got.standard_error, 1, &want, 1, 0, 1e-12));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gptq_windows),
        cmocka_unit_test(llama_cpp_windows),
        cmocka_unit_test(bos_is_no_target),
        cmocka_unit_test(nodelens_windows),
        cmocka_unit_test(rolling_windows),
        cmocka_unit_test(rolling_covers),
        cmocka_unit_test(values),
        cmocka_unit_test(token_weighted),
        cmocka_unit_test(per_word_and_byte),
        cmocka_unit_test(error_without_cancellation),
    };
    return cmocka_run_group_tests_name("protocol", tests, NULL, NULL);
}
