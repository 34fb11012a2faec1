/* base/random: fixed vectors, uniformity, independence of streams, samples. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

/* SplitMix64 started at 0 and at 1234567, as its published vectors have it. */
static void test_published_vectors(void **state) {
    (void)state;
    assert_true(lode_random_bits(0, 0) == 0xe220a8397b1dcdafu);
    assert_true(lode_random_bits(0, 1) == 0x6e789e6aa1b965f4u);
    assert_true(lode_random_bits(0, 2) == 0x06c45d188009454fu);
    assert_true(lode_random_bits(1234567, 0) == 6457827717110365317u);
    assert_true(lode_random_bits(1234567, 1) == 3203168211198807973u);
    assert_true(lode_random_bits(1234567, 4) == 16408922859458223821u);
}

static void test_keys_differ(void **state) {
    (void)state;
    uint64_t keys[] = {lode_random_key(42, "random score", 0, 0),
                       lode_random_key(42, "random score", 0, 1),
                       lode_random_key(42, "random score", 1, 0),
                       lode_random_key(43, "random score", 0, 0),
                       lode_random_key(-42, "random score", 0, 0),
                       lode_random_key(42, "random scor", 0, 0),
                       lode_random_key(42, "", 0, 0),
                       lode_random_key(0, "", 0, 0)};
    int count = (int)(sizeof keys / sizeof *keys);
    for (int i = 0; i < count; i++)
        for (int k = 0; k < i; k++)
            assert_true(keys[i] != keys[k]);
    /* Pinned: results of earlier runs must stay reproducible. */
    assert_true(keys[0] == 0xd39adb72dc490158u);
}

/* χ² of 64 bins with 63 degrees of freedom: 30 … 110 holds but for 1 in 10⁴. */
static void test_uniform_bins(void **state) {
    (void)state;
    enum { BINS = 64, DRAWS = 64000 };
    for (int64_t stream = 0; stream < 4; stream++) {
        uint64_t key = lode_random_key(7, "bins", stream, 0);
        double counts[BINS] = {0}, chi = 0, mean = 0;
        for (int i = 0; i < DRAWS; i++) {
            double x = lode_random_uniform(key, (uint64_t)i);
            assert_true(x >= 0 && x < 1);
            counts[(int)(x * BINS)]++;
            mean += x / DRAWS;
        }
        for (int b = 0; b < BINS; b++)
            chi += (counts[b] - DRAWS / BINS) * (counts[b] - DRAWS / BINS) / (DRAWS / BINS);
        assert_true(chi > 30 && chi < 110);
        assert_true(fabs(mean - 0.5) < 0.006); /* 5 standard errors */
    }
}

static void test_streams_uncorrelated(void **state) {
    (void)state;
    enum { DRAWS = 20000 };
    uint64_t a = lode_random_key(7, "layer", 0, 0), b = lode_random_key(7, "layer", 1, 0);
    double sum = 0;
    for (uint64_t i = 0; i < DRAWS; i++)
        sum += (lode_random_uniform(a, i) - 0.5) * (lode_random_uniform(b, i) - 0.5);
    assert_true(fabs(12 * sum / DRAWS) < 5 / sqrt(DRAWS));
}

static void test_below(void **state) {
    (void)state;
    double counts[7] = {0};
    for (uint64_t i = 0; i < 70000; i++) {
        int64_t x = lode_random_below(99, i, 7);
        assert_true(0 <= x && x < 7);
        counts[x]++;
    }
    for (int i = 0; i < 7; i++)
        assert_true(fabs(counts[i] - 10000) < 5 * 93);
    assert_int_equal(lode_random_below(99, 0, 1), 0);
    assert_true(lode_random_below(99, 3, INT64_MAX) > INT32_MAX);
}

static void test_sample(void **state) {
    (void)state;
    int64_t sample[50];
    double counts[20] = {0};
    for (uint64_t key = 0; key < 20000; key++) {
        lode_random_sample(key * 977, sample, 5, 20);
        for (int i = 0; i < 5; i++) {
            assert_true(sample[i] >= 0 && sample[i] < 20);
            assert_true(i == 0 || sample[i] > sample[i - 1]);
            counts[sample[i]]++;
        }
    }
    for (int i = 0; i < 20; i++) /* 5000 expected, standard deviation 61 */
        assert_true(fabs(counts[i] - 5000) < 5 * 61);
    lode_random_sample(1, sample, 50, 50);
    for (int i = 0; i < 50; i++)
        assert_int_equal(sample[i], i);
    lode_random_sample(1, sample, 0, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_vectors),
        cmocka_unit_test(test_keys_differ),
        cmocka_unit_test(test_uniform_bins),
        cmocka_unit_test(test_streams_uncorrelated),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
