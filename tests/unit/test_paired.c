/* score/paired: blocks, Student's t against tables, Holm, and the coverage of the intervals by
 * simulation: on correlated tokens they must hold what they promise, where the usual standard error
 * of a mean does not. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"
#include "score/paired.h"
#include "testing/compare.h"

static void test_student(void **state) {
    (void)state;
    const struct {
        int64_t freedom;
        double level, want;
    } quantiles[] = {
        {1, 0.95, 12.706204736174694},   {2, 0.95, 4.302652729749462},
        {7, 0.95, 2.364624251592784},    {21, 0.95, 2.0796138447276795},
        {31, 0.95, 2.039513446396408},   {31, 0.99, 2.744041919294269},
        {140, 0.95, 1.9770537196570985},
    };
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        double got = lode_student_quantile(quantiles[i].level, quantiles[i].freedom);
        LODE_ASSERT_CLOSE(lode_compare_f64("quantile", &got, 1, &quantiles[i].want, 1, 0, 1e-9));
        got = lode_student_p(-got, quantiles[i].freedom);
        LODE_ASSERT_CLOSE(
            lode_compare_f64("p", &got, 1, (double[]){1 - quantiles[i].level}, 1, 1e-12, 0));
    }
    const double p[] = {lode_student_p(0.3, 1), lode_student_p(2.5, 8), lode_student_p(4.2, 31),
                        lode_student_p(1.1, 30)};
    const double want[] = {0.8144528418445154, 0.03694203771362412, 0.0002089014490099755,
                           0.2800809180876398};
    LODE_ASSERT_CLOSE(lode_compare_f64("p", p, 4, want, 4, 1e-14, 0));
    assert_true(lode_student_p(0, 5) == 1 && lode_student_p(0, 6) == 1);
    assert_true(lode_student_p(1e300, 31) >= 0 && lode_student_p(1e300, 31) < 1e-15);
}

static void test_blocks(void **state) {
    (void)state;
    assert_int_equal(lode_paired_blocks(0), 0);
    assert_int_equal(lode_paired_blocks(511), 0);
    assert_int_equal(lode_paired_blocks(512), 8);
    assert_int_equal(lode_paired_blocks(1300), 20);
    assert_int_equal(lode_paired_blocks(64 * 32), 32);
    assert_int_equal(lode_paired_blocks(INT64_C(1) << 60), 32);
    /* 11 tokens in 4 blocks: 2, 3, 3, 3. */
    double means[4], nll[11];
    for (int t = 0; t < 11; t++)
        nll[t] = t;
    lode_paired_block_means(means, 4, nll, 11);
    LODE_ASSERT_CLOSE(lode_compare_f64("means", means, 4, (double[]){0.5, 3, 6, 9}, 4, 1e-15, 0));
}

static void test_comparison(void **state) {
    (void)state;
    /* 9 targets in 4 blocks of 2, 2, 2, 3: d = 1, 2, 4, 5 weighs as 1·2 + 2·2 + 4·2 + 5·3. */
    const double a[] = {2, 4, 7, 9}, b[] = {1, 2, 3, 4};
    lode_paired_t got;
    lode_paired_compare(&got, a, b, 4, 9, 0.95);
    const double error = sqrt(10.0 / 3 / 4), reach = 3.182446305284263 * error;
    const double want[] = {29.0 / 9, error, 29.0 / 9 - reach, 29.0 / 9 + reach};
    LODE_ASSERT_CLOSE(lode_compare_f64(
        "comparison", (double[]){got.difference, got.standard_error, got.low, got.high}, 4, want, 4,
        0, 1e-9));
    assert_true(fabs(got.p - lode_student_p(want[0] / error, 3)) < 1e-12 && got.p < 0.05);
    /* The other way round is the mirror image. */
    lode_paired_t mirrored;
    lode_paired_compare(&mirrored, b, a, 4, 9, 0.95);
    assert_true(mirrored.difference == -got.difference && mirrored.low == -got.high &&
                mirrored.p == got.p);
    lode_paired_compare(&got, a, a, 4, 9, 0.95);
    assert_true(got.difference == 0 && got.low == 0 && got.high == 0 && got.p == 1);
    lode_paired_compare(&got, (double[]){1, 1}, (double[]){0, 0}, 2, 4, 0.95);
    assert_true(got.difference == 1 && got.low == 1 && got.p == 0);
    /* What cannot be known is not claimed. */
    lode_paired_compare(&got, (double[]){1, INFINITY}, (double[]){0, 0}, 2, 4, 0.95);
    assert_true(isnan(got.difference) && isnan(got.low) && isnan(got.p));
    lode_paired_compare(&got, (double[]){1}, (double[]){0}, 1, 4, 0.95);
    assert_true(got.difference == 1 && isnan(got.low) && isnan(got.p));
}

static void test_holm(void **state) {
    (void)state;
    double adjusted[5];
    const double p[] = {0.01, 0.04, NAN, 0.03, 0.005};
    LODE_ASSERT_OK(lode_paired_holm(adjusted, p, 5));
    const double want[] = {0.03, 0.06, 0.06, 0.02};
    LODE_ASSERT_CLOSE(
        lode_compare_f64("adjusted", (double[]){adjusted[0], adjusted[1], adjusted[3], adjusted[4]},
                         4, want, 4, 1e-15, 0));
    assert_true(isnan(adjusted[2]));
    LODE_ASSERT_OK(lode_paired_holm(adjusted, (double[]){0.9, 0.8}, 2));
    assert_true(adjusted[0] == 1 && adjusted[1] == 1);
}

/* --- coverage --------------------------------------------------------------------------- */

/* One draw of the standard normal distribution by Box and Muller. */
static double normal(uint64_t key, uint64_t i) {
    const double u = 1 - lode_random_uniform(key, 2 * i), v = lode_random_uniform(key, 2 * i + 1);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* Losses of two variants whose difference has mean `shift`, correlation `rho` from token to token,
 * and a spread that changes tenfold along the text. */
static void simulate(double *a, double *b, int64_t targets, double rho, double shift,
                     int64_t trial) {
    const uint64_t key = lode_random_key(7, "paired losses", trial, 0);
    double noise = normal(key, (uint64_t)targets) / sqrt(1 - rho * rho);
    for (int64_t t = 0; t < targets; t++) {
        noise = rho * noise + normal(key, (uint64_t)t);
        const double spread = t % 1024 < 512 ? 0.2 : 2;
        b[t] = 3 + 2 * lode_random_uniform(key, (uint64_t)(4 * targets + t));
        a[t] = b[t] + shift + 0.1 * spread * noise;
    }
}

typedef struct coverage {
    double blocks, tokens; /* shares of trials whose interval holds the true difference */
    double found;          /* shares of trials that find a difference */
} coverage_t;

static coverage_t cover(int64_t targets, double rho, double shift, int trials) {
    coverage_t coverage = {0};
    double *a, *b, a_means[LODE_PAIRED_BLOCKS], b_means[LODE_PAIRED_BLOCKS];
    LODE_ASSERT_OK(LODE_NEW(&a, targets, "losses"));
    LODE_ASSERT_OK(LODE_NEW(&b, targets, "losses"));
    const int64_t blocks = lode_paired_blocks(targets);
    for (int trial = 0; trial < trials; trial++) {
        lode_paired_t result;
        simulate(a, b, targets, rho, shift, trial);
        lode_paired_block_means(a_means, blocks, a, targets);
        lode_paired_block_means(b_means, blocks, b, targets);
        lode_paired_compare(&result, a_means, b_means, blocks, targets, 0.95);
        coverage.blocks += result.low <= shift && shift <= result.high;
        coverage.found += result.p < 0.05;
        double squares = 0;
        for (int64_t t = 0; t < targets; t++)
            squares += pow(a[t] - b[t] - result.difference, 2);
        const double error = sqrt(squares / (double)(targets - 1) / (double)targets);
        coverage.tokens += fabs(result.difference - shift) <= 1.96 * error;
    }
    free(a);
    free(b);
    return (coverage_t){coverage.blocks / trials, coverage.tokens / trials,
                        coverage.found / trials};
}

/* Of 1000 trials, 95 % give 0.95 ± 0.007. */
static void test_coverage(void **state) {
    (void)state;
    coverage_t got = cover(8192, 0, 0, 1000);
    assert_true(got.blocks > 0.925 && got.blocks < 0.975);
    assert_true(fabs(got.found - (1 - got.blocks)) < 1e-12);
    /* Correlation over ten tokens and more: tokens taken one by one promise far too much. */
    got = cover(8192, 0.9, 0, 1000);
    assert_true(got.blocks > 0.92 && got.blocks < 0.975);
    assert_true(got.tokens < 0.6);
    /* The shortest text and blocks of 64. */
    got = cover(512, 0.7, 0, 1000);
    assert_true(got.blocks > 0.915 && got.blocks < 0.98);
    /* A difference that is there is found, and its size is covered. */
    got = cover(8192, 0.7, 0.03, 200);
    assert_true(got.found > 0.9 && got.blocks > 0.9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_student),    cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_comparison), cmocka_unit_test(test_holm),
        cmocka_unit_test(test_coverage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
