/* score/trajectory: by hand, against plain loops, and at the edges. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "base/random.h"
#include "score/resample.h"
#include "score/trajectory.h"
#include "testing/compare.h"

static double uniform(int64_t stream, int64_t i) {
    return lode_random_uniform(lode_random_key(11, "made-up", stream, 0), (uint64_t)i);
}

/* Each draw's core against sums taken here and picked one by one. */
static void test_cores_of_draws(void **state) {
    (void)state;
    enum { S = 5, M = 30, STRIDE = 37, K = 4, DRAWS = 20 };
    double sums[S * STRIDE], times[S], total[M];
    int32_t cores[DRAWS * K], again[DRAWS * K];
    int different = 0;
    for (int i = 0; i < S * STRIDE; i++)
        sums[i] = uniform(1, i) < 0.3 ? 0 : uniform(2, i) * uniform(2, i);
    const lode_trajectory_sums_t in = {
        .channels = M, .sequences = S, .stride = STRIDE, .sums = sums};
    LODE_ASSERT_OK(lode_trajectory_cores(cores, DRAWS, &in, K, 9, 2));
    for (int d = 0; d < DRAWS; d++) {
        lode_resample_times(times, S, lode_random_key(9, "trajectory", 2, d));
        for (int j = 0; j < M; j++) {
            total[j] = 0;
            for (int s = 0; s < S; s++)
                total[j] += times[s] * sums[s * STRIDE + j];
        }
        for (int k = 0; k < K; k++) {
            int best = 0;
            for (int j = 1; j < M; j++)
                if (total[j] > total[best])
                    best = j;
            assert_int_equal(cores[d * K + k], best);
            total[best] = -1;
        }
        different += memcmp(cores, cores + d * K, sizeof *cores * K) != 0;
    }
    assert_true(different > 0);
    LODE_ASSERT_OK(lode_trajectory_cores(again, DRAWS, &in, K, 9, 2));
    assert_memory_equal(cores, again, sizeof cores);
    LODE_ASSERT_OK(lode_trajectory_cores(again, DRAWS, &in, K, 9, 3));
    assert_memory_not_equal(cores, again, sizeof cores);
    sums[7] = NAN;
    LODE_ASSERT_FAILS(lode_trajectory_cores(again, DRAWS, &in, K, 9, 2), LODE_ERR_NUMERIC,
                      "loss proxy");
}

/* A draw that takes only sequences without any loss has no core. */
static void test_empty_draws(void **state) {
    (void)state;
    enum { DRAWS = 40 };
    const double sums[] = {0, 0, 0, 1, 3, 2};
    const lode_trajectory_sums_t in = {.channels = 3, .sequences = 2, .stride = 3, .sums = sums};
    int32_t cores[2 * DRAWS];
    double shares[DRAWS];
    int64_t empty = 0;
    LODE_ASSERT_OK(lode_trajectory_cores(cores, DRAWS, &in, 2, 1, 0));
    LODE_ASSERT_OK(lode_trajectory_overlaps(shares, DRAWS, cores, 2, cores, 2, 3));
    for (int d = 0; d < DRAWS; d++) {
        if (cores[2 * d] < 0) {
            assert_int_equal(cores[2 * d + 1], -1);
            assert_true(isnan(shares[d]));
            empty++;
        } else {
            assert_int_equal(cores[2 * d], 1);
            assert_int_equal(cores[2 * d + 1], 2);
            assert_true(shares[d] == 1);
        }
    }
    assert_true(empty > 0 && empty < DRAWS);
}

static void test_overlaps(void **state) {
    (void)state;
    const int32_t cores[] = {0, 3, 5, 1, 2, 4, 7, 6, -1, -1, -1, -1};
    const int32_t lasts[] = {3, 9, 8, 9, 7, -1, 4, 5};
    double shares[4];
    LODE_ASSERT_OK(lode_trajectory_overlaps(shares, 4, cores, 3, lasts, 2, 10));
    assert_true(shares[0] == 0.5);
    assert_true(shares[1] == 0);
    assert_true(shares[2] == 1); /* of the one there is */
    assert_true(isnan(shares[3]));
}

static void test_masses(void **state) {
    (void)state;
    enum { M = 200 };
    static const double fractions[] = {0.001, 0.01, 0.05, 1};
    double values[M], masses[4], want[4], sum = 0;
    for (int j = 0; j < M; j++)
        sum += values[(j * 37) % M] = 1.0 + j; /* the largest are 200, 199, … */
    want[0] = 200 / sum;
    want[1] = (200 + 199) / sum;
    want[2] = (200 + 191) * 5 / sum;
    want[3] = 1;
    LODE_ASSERT_OK(lode_trajectory_masses(masses, fractions, 4, values, M, "values"));
    LODE_ASSERT_CLOSE(lode_compare_f64("masses", masses, 4, want, 4, 0, 1e-14));
    memset(values, 0, sizeof values);
    LODE_ASSERT_OK(lode_trajectory_masses(masses, fractions, 4, values, M, "values"));
    assert_true(isnan(masses[0]) && isnan(masses[3]));
    values[3] = INFINITY;
    LODE_ASSERT_FAILS(lode_trajectory_masses(masses, fractions, 4, values, M, "values"),
                      LODE_ERR_NUMERIC, "values");
}

static void test_reach(void **state) {
    (void)state;
    /* Medians 2.5 and, after one more, 3; √power is 1, 2, 3, 4. */
    const double largest[] = {2, 3, 1, 20, 15}, power[] = {1, 4, 9, 16, 16};
    lode_trajectory_reach_t reach;
    LODE_ASSERT_OK(lode_trajectory_reach(&reach, largest, power, 4, 6));
    assert_true(reach.ratio == 8 && reach.outliers == 0.25);
    /* Deviations −1.5, −0.5, 0.5, 1.5: (2·5.0625 + 2·0.0625)/4 over (1.25)². */
    assert_true(fabs(reach.kurtosis - 2.5625 / 1.5625) < 1e-14);
    LODE_ASSERT_OK(lode_trajectory_reach(&reach, largest, power, 5, 5));
    assert_true(fabs(reach.ratio - 20.0 / 3) < 1e-15);
    assert_true(reach.outliers == 0.2); /* 15 is 5 times 3, not over it */
    LODE_ASSERT_OK(lode_trajectory_reach(&reach, NULL, power, 5, 5));
    assert_true(isnan(reach.ratio) && isnan(reach.outliers) && !isnan(reach.kurtosis));
    const double equal[] = {4, 4, 4}, none[] = {0, 0, 7};
    LODE_ASSERT_OK(lode_trajectory_reach(&reach, none, equal, 3, 5));
    assert_true(isnan(reach.kurtosis) && isnan(reach.ratio));
    const double broken[] = {1, NAN, 2};
    LODE_ASSERT_FAILS(lode_trajectory_reach(&reach, none, broken, 3, 5), LODE_ERR_NUMERIC,
                      "activation power");
    LODE_ASSERT_FAILS(lode_trajectory_reach(&reach, broken, equal, 3, 5), LODE_ERR_NUMERIC,
                      "largest activation");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cores_of_draws), cmocka_unit_test(test_empty_draws),
        cmocka_unit_test(test_overlaps),       cmocka_unit_test(test_masses),
        cmocka_unit_test(test_reach),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
