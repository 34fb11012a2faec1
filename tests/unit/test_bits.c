/* score/bits: against every possible distribution, and its rules one by one. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "score/bits.h"

enum { CHANNELS = 5, CODED = LODE_BITS_CODED_LEVELS };

/* Errors that fall with every bit, by what lies evenly on a scale of logarithms or does not. */
static void draw(uint64_t key, double *loss_proxy, double *error, bool convex) {
    uint64_t counter = 0;
    for (int j = 0; j < CHANNELS; j++) {
        loss_proxy[j] = exp(4 * lode_random_uniform(key, counter++));
        double e = 1;
        for (int level = 0; level < CODED; level++) {
            error[j * CODED + level] = e;
            e *= convex ? 0.25 : lode_random_uniform(key, counter++);
        }
    }
}

/* The least sum of all distributions within the budget, by trying each. */
static double least(const double *loss_proxy, const double *error, int64_t count, int64_t budget,
                    const uint8_t *fixed) {
    uint8_t bits[CHANNELS] = {0};
    int level[CHANNELS] = {0};
    double best = INFINITY;
    for (;;) {
        int64_t sum = 0;
        bool allowed = true;
        for (int64_t j = 0; j < count; j++) {
            bits[j] = (uint8_t)lode_bits_of_level(level[j]);
            sum += bits[j];
            allowed = allowed && (!fixed || fixed[j] == 0 || bits[j] == fixed[j]);
        }
        if (allowed && sum <= budget)
            best = fmin(best, lode_bits_value(bits, loss_proxy, error, count));
        int64_t j = 0;
        while (j < count && ++level[j] == LODE_BITS_LEVELS)
            level[j++] = 0;
        if (j == count)
            return best;
    }
}

static int64_t sum_of(const uint8_t *bits, int64_t count) {
    int64_t sum = 0;
    for (int64_t j = 0; j < count; j++)
        sum += bits[j];
    return sum;
}

static void compare_with_all(bool convex) {
    int even = 0, uneven = 0;
    for (int trial = 0; trial < 40; trial++) {
        double loss_proxy[CHANNELS], error[CHANNELS * CODED], excess;
        uint8_t bits[CHANNELS];
        const int64_t average = 2 + trial % 9, budget = average * CHANNELS;
        draw(lode_random_key(3, "bits", trial, convex), loss_proxy, error, convex);
        assert_int_equal(
            lode_bits_allocate(bits, &excess, loss_proxy, error, NULL, CHANNELS, average), LODE_OK);
        const double got = lode_bits_value(bits, loss_proxy, error, CHANNELS);
        const double want = least(loss_proxy, error, CHANNELS, budget, NULL);
        assert_true(sum_of(bits, CHANNELS) <= budget);
        assert_true(got <= want + excess + 1e-12 * want);
        if (excess == 0) {
            assert_true(fabs(got - want) <= 1e-12 * want);
            even++;
        } else {
            uneven++;
        }
    }
    assert_true(even > 0 && uneven > 0);
}

static void test_against_all_distributions(void **state) {
    (void)state;
    compare_with_all(true);
    compare_with_all(false);
}

static void test_levels(void **state) {
    (void)state;
    for (int level = 0; level < LODE_BITS_LEVELS; level++)
        assert_int_equal(lode_bits_level(lode_bits_of_level(level)), level);
    assert_int_equal(lode_bits_of_level(0), 2);
    assert_int_equal(lode_bits_of_level(6), 8);
    assert_int_equal(lode_bits_of_level(7), 16);
}

/* Error 4^−level of channels alike. */
static void fill_alike(double *loss_proxy, double *error, int64_t count) {
    for (int64_t j = 0; j < count; j++) {
        loss_proxy[j] = 1;
        for (int level = 0; level < CODED; level++)
            error[j * CODED + level] = ldexp(1, -2 * level);
    }
}

/* Bits that are left over when all have equally many go to the first channels. */
static void test_ties(void **state) {
    (void)state;
    double loss_proxy[CHANNELS], error[CHANNELS * CODED];
    uint8_t bits[CHANNELS];
    static const uint8_t equal[CHANNELS] = {4, 4, 4, 4, 4}, want[CHANNELS] = {5, 5, 4, 4, 2};
    fill_alike(loss_proxy, error, CHANNELS);
    assert_int_equal(lode_bits_allocate(bits, NULL, loss_proxy, error, NULL, CHANNELS, 4), LODE_OK);
    assert_memory_equal(bits, equal, CHANNELS);
    loss_proxy[4] = 0; /* gives up its two bits */
    assert_int_equal(lode_bits_allocate(bits, NULL, loss_proxy, error, NULL, CHANNELS, 4), LODE_OK);
    assert_memory_equal(bits, want, CHANNELS);
}

/* A step over 8 bits that does not fit is replaced by none; what is left goes to others. */
static void test_last_steps(void **state) {
    (void)state;
    double loss_proxy[3], error[3 * CODED];
    uint8_t bits[3];
    fill_alike(loss_proxy, error, 3);
    for (int level = 0; level < CODED; level++)
        error[level] = 1; /* the first channel gains by 16 bits alone: 14 more, but 12 are there */
    loss_proxy[0] = 1e6;
    double excess;
    assert_int_equal(lode_bits_allocate(bits, &excess, loss_proxy, error, NULL, 3, 6), LODE_OK);
    assert_int_equal(bits[0], 2);
    assert_int_equal(bits[1], 8);
    assert_int_equal(bits[2], 8);
    assert_true(excess >= 1e6 * 12 / 14 * (1 - 1e-12));
    assert_int_equal(lode_bits_allocate(bits, &excess, loss_proxy, error, NULL, 3, 7), LODE_OK);
    assert_int_equal(bits[0], 16);
    assert_int_equal(bits[1] + bits[2], 5);
    assert_int_equal(bits[1], 3);
}

/* An error that rises with a bit is stepped over, and bits that gain nothing are not spent. */
static void test_hull(void **state) {
    (void)state;
    const double loss_proxy[1] = {2};
    const double error[CODED] = {1, 1.5, 0.25, 0.25, 0.25, 0.25, 0.25};
    uint8_t bits[1];
    assert_int_equal(lode_bits_allocate(bits, NULL, loss_proxy, error, NULL, 1, 3), LODE_OK);
    assert_int_equal(bits[0], 2);
    assert_int_equal(lode_bits_allocate(bits, NULL, loss_proxy, error, NULL, 1, 15), LODE_OK);
    assert_int_equal(bits[0], 4);
    assert_int_equal(lode_bits_allocate(bits, NULL, loss_proxy, error, NULL, 1, 16), LODE_OK);
    assert_int_equal(bits[0], 16);
}

static void test_protection(void **state) {
    (void)state;
    double loss_proxy[CHANNELS], error[CHANNELS * CODED], excess;
    uint8_t bits[CHANNELS], fixed[CHANNELS];
    const uint8_t is_protected[CHANNELS] = {0, 1, 0, 1, 1};
    fill_alike(loss_proxy, error, CHANNELS);
    loss_proxy[3] = 1e-9; /* little is lost with it, but it is protected */
    loss_proxy[4] = 0;
    /* 15 bits over 2 each: one protected channel's 14, the first of most loss proxy. */
    assert_int_equal(
        lode_bits_allocate(bits, &excess, loss_proxy, error, is_protected, CHANNELS, 5), LODE_OK);
    assert_int_equal(bits[1], 16);
    assert_int_equal(bits[3], 2);
    assert_int_equal(sum_of(bits, CHANNELS), 25);
    /* 30: two of them. */
    assert_int_equal(
        lode_bits_allocate(bits, &excess, loss_proxy, error, is_protected, CHANNELS, 8), LODE_OK);
    assert_int_equal(bits[1], 16);
    assert_int_equal(bits[3], 16);
    assert_int_equal(bits[4], 2);
    for (int j = 0; j < CHANNELS; j++)
        fixed[j] = j == 1 || j == 3 ? 16 : 0;
    assert_true(lode_bits_value(bits, loss_proxy, error, CHANNELS) <=
                least(loss_proxy, error, CHANNELS, 40, fixed) + excess + 1e-12);
    /* None has room at 2 bits on average. */
    assert_int_equal(lode_bits_allocate(bits, NULL, loss_proxy, error, is_protected, CHANNELS, 2),
                     LODE_OK);
    assert_int_equal(sum_of(bits, CHANNELS), 2 * CHANNELS);
}

static void test_errors(void **state) {
    (void)state;
    double loss_proxy[CHANNELS], error[CHANNELS * CODED];
    uint8_t bits[CHANNELS];
    fill_alike(loss_proxy, error, CHANNELS);
    loss_proxy[2] = NAN;
    assert_int_equal(lode_bits_allocate(bits, NULL, loss_proxy, error, NULL, CHANNELS, 4),
                     LODE_ERR_NUMERIC);
    assert_non_null(strstr(lode_error_message(), "loss proxy of channel 2"));
    loss_proxy[2] = -1;
    assert_int_equal(lode_bits_allocate(bits, NULL, loss_proxy, error, NULL, CHANNELS, 4),
                     LODE_ERR_NUMERIC);
    loss_proxy[2] = 1;
    error[3 * CODED + 1] = INFINITY;
    assert_int_equal(lode_bits_allocate(bits, NULL, loss_proxy, error, NULL, CHANNELS, 4),
                     LODE_ERR_NUMERIC);
    assert_non_null(strstr(lode_error_message(), "error of channel 3"));
    assert_int_equal(lode_bits_allocate(bits, NULL, NULL, NULL, NULL, 0, 4), LODE_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels), cmocka_unit_test(test_against_all_distributions),
        cmocka_unit_test(test_ties),   cmocka_unit_test(test_last_steps),
        cmocka_unit_test(test_hull),   cmocka_unit_test(test_protection),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
