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

enum { S = 5, CHANNELS = 30, STRIDE = 37, K = 4, DRAWS = 20, FRACTIONS = 2 };
static const double one_and_six[FRACTIONS] = {0.01, 0.2}; /* channels */

typedef struct made {
    int32_t cores[DRAWS * K];
    double ranks[DRAWS * CHANNELS], masses[FRACTIONS * DRAWS];
} made_t;

static lode_trajectory_draws_t into(made_t *made) {
    return (lode_trajectory_draws_t){.count = DRAWS,
                                     .core_size = K,
                                     .fractions = one_and_six,
                                     .fraction_count = FRACTIONS,
                                     .cores = made->cores,
                                     .ranks = made->ranks,
                                     .masses = made->masses};
}

/* One draw's core, ranks and masses against its values, picked one by one. */
static void check_draw(const made_t *made, int d, const double values[CHANNELS]) {
    double left[CHANNELS], sum = 0, taken = 0;
    memcpy(left, values, sizeof left);
    for (int j = 0; j < CHANNELS; j++) {
        double rank = 0.5;
        for (int i = 0; i < CHANNELS; i++)
            rank += values[i] < values[j] ? 1 : values[i] == values[j] ? 0.5 : 0;
        assert_true(made->ranks[d * CHANNELS + j] == rank);
        sum += values[j];
    }
    for (int k = 0; k < 6; k++) {
        int best = 0;
        for (int j = 1; j < CHANNELS; j++)
            if (left[j] > left[best])
                best = j;
        if (k < K)
            assert_int_equal(made->cores[d * K + k], best);
        taken += left[best];
        left[best] = -1;
        if (k == 0)
            assert_true(made->masses[d] == taken / sum);
    }
    assert_true(fabs(made->masses[DRAWS + d] - taken / sum) < 1e-14);
}

static void test_draws(void **state) {
    (void)state;
    static made_t made, again;
    double sums[S * STRIDE], times[S], total[CHANNELS];
    int different = 0;
    for (int i = 0; i < S * STRIDE; i++)
        sums[i] = uniform(1, i) < 0.3 ? 0 : uniform(2, i) * uniform(2, i);
    const lode_trajectory_sums_t in = {
        .channels = CHANNELS, .sequences = S, .stride = STRIDE, .sums = sums};
    const lode_trajectory_draws_t first = into(&made), second = into(&again);
    LODE_ASSERT_OK(lode_trajectory_draw(&first, &in, 9, 2));
    for (int d = 0; d < DRAWS; d++) {
        lode_resample_times(times, S, lode_random_key(9, "trajectory", 2, d));
        for (int j = 0; j < CHANNELS; j++) {
            total[j] = 0;
            for (int s = 0; s < S; s++)
                total[j] += times[s] * sums[s * STRIDE + j];
        }
        check_draw(&made, d, total);
        different += memcmp(made.cores, made.cores + d * K, sizeof *made.cores * K) != 0;
    }
    assert_true(different > 0);
    LODE_ASSERT_OK(lode_trajectory_draw(&second, &in, 9, 2));
    assert_memory_equal(&made, &again, sizeof made);
    LODE_ASSERT_OK(lode_trajectory_draw(&second, &in, 9, 3));
    assert_memory_not_equal(made.cores, again.cores, sizeof made.cores);
    sums[7] = NAN;
    LODE_ASSERT_FAILS(lode_trajectory_draw(&second, &in, 9, 2), LODE_ERR_NUMERIC, "loss proxy");
}

/* Of two sequences a draw takes one twice, or both once; what that gives is known by hand. A draw
 * that takes only the sequence without any loss has no core and no mass, and no correlation. */
static void test_two_sequences(void **state) {
    (void)state;
    enum { COUNT = 40 };
    const double sums[] = {0, 0, 0, 1, 3, 2}, lasts[] = {6, 0, 0, 0, 3, 1}, half = 0.7;
    const lode_trajectory_sums_t in = {.channels = 3, .sequences = 2, .stride = 3, .sums = sums};
    const lode_trajectory_sums_t last = {.channels = 3, .sequences = 2, .stride = 3, .sums = lasts};
    int32_t cores[2][2 * COUNT];
    double ranks[2][3 * COUNT], masses[2][COUNT], shares[COUNT], rhos[COUNT], times[2];
    int seen[3] = {0};
    for (int i = 0; i < 2; i++) {
        const lode_trajectory_draws_t draws = {.count = COUNT,
                                               .core_size = 2,
                                               .fractions = &half,
                                               .fraction_count = 1,
                                               .cores = cores[i],
                                               .ranks = ranks[i],
                                               .masses = masses[i]};
        LODE_ASSERT_OK(lode_trajectory_draw(&draws, i ? &last : &in, 1, 0));
    }
    LODE_ASSERT_OK(lode_trajectory_overlaps(shares, COUNT, cores[0], 2, cores[1], 2, 3));
    lode_trajectory_correlations(rhos, COUNT, ranks[0], ranks[1], 3);
    for (int d = 0; d < COUNT; d++) {
        lode_resample_times(times, 2, lode_random_key(1, "trajectory", 0, d));
        seen[(int)times[1]]++;
        if (times[1] == 0) { /* 0 0 0 beside 12 0 0 */
            assert_true(cores[0][2 * d] == -1 && cores[0][2 * d + 1] == -1);
            assert_true(isnan(shares[d]) && isnan(masses[0][d]) && isnan(rhos[d]));
            assert_true(masses[1][d] == 1);
            continue;
        }
        assert_true(cores[0][2 * d] == 1 && cores[0][2 * d + 1] == 2);
        assert_true(fabs(masses[0][d] - 5.0 / 6) < 1e-15);
        /* 1 3 2 beside 6 3 1: ranks 1 3 2 and 3 2 1; or twice that beside 0 6 2: the same order */
        assert_true(shares[d] == (times[1] == 1 ? 0.5 : 1));
        assert_true(fabs(rhos[d] - (times[1] == 1 ? -0.5 : 1)) < 1e-15);
        assert_true(fabs(masses[1][d] - (times[1] == 1 ? 0.9 : 1)) < 1e-15);
    }
    assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
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
        cmocka_unit_test(test_draws),    cmocka_unit_test(test_two_sequences),
        cmocka_unit_test(test_overlaps), cmocka_unit_test(test_masses),
        cmocka_unit_test(test_reach),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
