/* What answers come to, on tables written out here; figures of lm_eval are in the test
 * stages.tasks. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "score/answer.h"
#include "testing/compare.h"

static const double none = NAN;

static void test_choices(void **state) {
    (void)state;
    enum { ITEMS = 5, WIDTH = 3 };
    const double log_likelihood[ITEMS * WIDTH] = {
        -3, -2, -4,   /* 1; per character 2 */
        -2, -2, -5,   /* a tie: the first */
        -1, -2, none, /* two requests */
        -8, -4, -3,   /* per character a tie of 0 and 1 */
        -9, -8, -7.5, /* the last has no characters */
    };
    const int32_t characters[ITEMS * WIDTH] = {1, 1, 4, 2, 2, 5, 1, 4, -1, 4, 2, 1, 9, 9, 0};
    const int32_t gold[ITEMS] = {2, 0, 1, 0, 2};
    const uint8_t greedy[ITEMS * WIDTH] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const lode_answers_t answers = {.items = ITEMS,
                                    .width = WIDTH,
                                    .log_likelihood = log_likelihood,
                                    .greedy = greedy,
                                    .gold = gold,
                                    .characters = characters};
    const double plain[ITEMS] = {0, 1, 0, 0, 1}, normalised[ITEMS] = {1, 1, 1, 1, 0};
    double right[ITEMS];
    lode_answers_right(&answers, false, right);
    LODE_ASSERT_CLOSE(lode_compare_f64("acc", right, ITEMS, plain, ITEMS, 0, 0));
    lode_answers_right(&answers, true, right);
    LODE_ASSERT_CLOSE(lode_compare_f64("acc_norm", right, ITEMS, normalised, ITEMS, 0, 0));
    assert_int_equal(lode_answers_requests(&answers, 2), 2);
    assert_false(lode_answers_single(&answers));
    assert_true(fabs(lode_answers_chance(&answers) - (4.0 / 3 + 0.5) / 5) < 1e-15);
    double mean, error;
    lode_answers_mean(plain, ITEMS, &mean, &error);
    assert_true(fabs(mean - 0.4) < 1e-15);
    assert_true(fabs(error - sqrt(1.2 / 4) / sqrt(5)) < 1e-15);
    lode_answers_mean(plain, 1, &mean, &error);
    assert_true(mean == 0 && isnan(error));
}

static void test_last_words(void **state) {
    (void)state;
    enum { ITEMS = 3 };
    const double log_likelihood[ITEMS] = {-1, -2, -6};
    const int32_t characters[ITEMS] = {4, 4, 4}, gold[ITEMS] = {0, 0, 0};
    const uint8_t greedy[ITEMS] = {0, 1, 0};
    const lode_answers_t answers = {.items = ITEMS,
                                    .width = 1,
                                    .log_likelihood = log_likelihood,
                                    .greedy = greedy,
                                    .gold = gold,
                                    .characters = characters};
    double right[ITEMS], value, error;
    for (int normalised = 0; normalised < 2; normalised++) {
        lode_answers_right(&answers, normalised != 0, right);
        LODE_ASSERT_CLOSE(lode_compare_f64("acc", right, ITEMS, (double[]){0, 1, 0}, ITEMS, 0, 0));
    }
    assert_true(lode_answers_single(&answers));
    assert_true(isnan(lode_answers_chance(&answers)));
    lode_answers_perplexity(&answers, &value, &error);
    assert_true(fabs(value - exp(3)) < 1e-12);
    assert_true(fabs(error - exp(3) * sqrt(14.0 / 2 / 3)) < 1e-12);
}

static void test_mcnemar(void **state) {
    (void)state;
    /* Σ over the tail of binomial(n, 1/2), by hand. */
    static const struct {
        int64_t a, b;
        double p;
    } cases[] = {{0, 0, 1},
                 {1, 0, 1},
                 {0, 2, 0.5},
                 {5, 1, 14.0 / 64},
                 {10, 0, 2.0 / 1024},
                 {3, 3, 1},
                 {2, 6, 2 * (1 + 8 + 28) / 256.0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_true(fabs(lode_answers_mcnemar(cases[i].a, cases[i].b) - cases[i].p) < 1e-13);
    /* Far out the normal approximation holds: z = (600 − 400 − 1)/√1000, p = 3.1e-10. */
    const double p = lode_answers_mcnemar(400, 600);
    assert_true(p > 2.5e-10 && p < 3.5e-10);
    assert_true(lode_answers_mcnemar(0, 20000) == 0);
}

static void test_compare(void **state) {
    (void)state;
    enum { ITEMS = 8 };
    const double a[ITEMS] = {1, 1, 1, 1, 0, 1, 0, 1}, b[ITEMS] = {1, 0, 0, 0, 0, 1, 1, 0};
    lode_paired_t result, mirrored;
    lode_answers_compare(&result, a, b, ITEMS, 2);
    lode_answers_compare(&mirrored, b, a, ITEMS, 2);
    double sum = 0, squares = 0;
    for (int i = 0; i < ITEMS; i++)
        sum += a[i] - b[i];
    for (int i = 0; i < ITEMS; i++)
        squares += (a[i] - b[i] - sum / ITEMS) * (a[i] - b[i] - sum / ITEMS);
    const double error = sqrt(squares / (ITEMS - 1) / ITEMS);
    assert_true(fabs(result.difference - 3.0 / 8) < 1e-15);
    assert_true(fabs(result.standard_error - error) < 1e-15);
    assert_true(fabs(result.low - (3.0 / 8 - 2 * error)) < 1e-15);
    assert_true(fabs(result.high - (3.0 / 8 + 2 * error)) < 1e-15);
    assert_true(fabs(result.p - 2 * (1 + 5) / 32.0) < 1e-14);
    assert_true(mirrored.difference == -result.difference && mirrored.p == result.p);
    lode_answers_compare(&result, a, a, ITEMS, 2);
    assert_true(result.difference == 0 && result.standard_error == 0 && result.p == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_mcnemar),
        cmocka_unit_test(test_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
