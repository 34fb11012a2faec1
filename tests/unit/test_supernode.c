/* score/order, score/concentration and score/supernode: ties, edges, textbook values. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "score/concentration.h"
#include "score/order.h"
#include "score/supernode.h"
#include "testing/compare.h"

#define CHECK_I32(got, want)                                                                       \
    LODE_ASSERT_CLOSE(lode_compare_i32(#got, got, (int64_t)(sizeof(want) / sizeof *(want)), want,  \
                                       (int64_t)(sizeof(want) / sizeof *(want))))

static void assert_near(double got, double want) {
    LODE_ASSERT_CLOSE(lode_compare_f64("figure", &got, 1, &want, 1, 1e-14, 1e-13));
}

static void test_top_and_ties(void **state) {
    (void)state;
    const double values[] = {1, 3, -0.0, 3, 0.0, -2, 3};
    int32_t top[7];
    LODE_ASSERT_OK(lode_order_top(top, 7, values, 7, "values"));
    CHECK_I32(top, ((const int32_t[]){1, 3, 6, 0, 2, 4, 5}));
    LODE_ASSERT_OK(lode_order_ascending(top, values, 7, "values"));
    CHECK_I32(top, ((const int32_t[]){5, 2, 4, 0, 1, 3, 6}));
    const double same[] = {2, 2, 2};
    LODE_ASSERT_OK(lode_order_top(top, 2, same, 3, "same"));
    CHECK_I32(top, ((const int32_t[]){0, 1}));
    LODE_ASSERT_OK(lode_order_top(top, 0, values, 0, "nothing"));
}

/* Whether `order` has every index once and its values as `descending` wants them, ties by index. */
static void assert_ordered(const int32_t *order, const double *values, int64_t count,
                           bool descending) {
    bool *seen = calloc((size_t)count, sizeof *seen);
    assert_non_null(seen);
    for (int64_t i = 0; i < count; i++) {
        assert_in_range(order[i], 0, count - 1);
        assert_false(seen[order[i]]);
        seen[order[i]] = true;
        if (i == 0)
            continue;
        const double before = values[order[i - 1]], here = values[order[i]];
        assert_true(descending ? before >= here : before <= here);
        assert_true(before != here || order[i - 1] < order[i]);
    }
    free(seen);
}

/* Doubles of all signs and sizes, subnormal ones too, some of them equal. */
static void test_any_doubles(void **state) {
    (void)state;
    enum { N = 5000 };
    static double values[N];
    static int32_t order[N];
    for (uint64_t i = 0; i < N; i++) {
        uint64_t bits = lode_random_bits(8, i % 7 == 0 ? i / 2 : i);
        if (i % 3 == 0)
            bits &= 0x800fffffffffffff; /* subnormal */
        memcpy(&values[i], &bits, sizeof bits);
        if (!isfinite(values[i]))
            values[i] = i % 2 ? 0.0 : -0.0;
    }
    LODE_ASSERT_OK(lode_order_top(order, N, values, N, "doubles"));
    assert_ordered(order, values, N, true);
    LODE_ASSERT_OK(lode_order_ascending(order, values, N, "doubles"));
    assert_ordered(order, values, N, false);
    for (int64_t i = 0; i < N; i++)
        values[i] = 1 + (double)(i % 5) * 0x1p-52; /* one byte differs, the others are shared */
    LODE_ASSERT_OK(lode_order_top(order, N, values, N, "doubles"));
    assert_ordered(order, values, N, true);
}

static void test_ranks(void **state) {
    (void)state;
    const double values[] = {10, 20, 10, 5, 20, 20};
    double ranks[6];
    const double want[] = {2.5, 5, 2.5, 1, 5, 5};
    LODE_ASSERT_OK(lode_order_ranks(ranks, values, 6, "values"));
    LODE_ASSERT_CLOSE(lode_compare_f64("ranks", ranks, 6, want, 6, 0, 0));
}

static void test_non_finite(void **state) {
    (void)state;
    const double bad[] = {1, NAN, 2}, infinite[] = {1, 2, -INFINITY};
    int32_t top[3];
    double x, ranks[3];
    LODE_ASSERT_FAILS(lode_order_top(top, 1, bad, 3, "speed"), LODE_ERR_NUMERIC,
                      "speed of channel 1");
    LODE_ASSERT_FAILS(lode_order_ascending(top, infinite, 3, "speed"), LODE_ERR_NUMERIC,
                      "speed of channel 2");
    LODE_ASSERT_FAILS(lode_order_ranks(ranks, bad, 3, "speed"), LODE_ERR_NUMERIC, "speed");
    LODE_ASSERT_FAILS(lode_supernode_select(top, 1, bad, 3), LODE_ERR_NUMERIC, "loss proxy");
    LODE_ASSERT_FAILS(lode_supernode_mass(&x, top, 0, bad, 3), LODE_ERR_NUMERIC, "loss proxy");
    LODE_ASSERT_FAILS(lode_concentration_gini(&x, bad, 3, "LP"), LODE_ERR_NUMERIC, "LP");
    LODE_ASSERT_FAILS(lode_concentration_effective(&x, infinite, 3, "LP"), LODE_ERR_NUMERIC, "LP");
    LODE_ASSERT_FAILS(lode_concentration_spearman(&x, infinite, bad, 3, "pair"), LODE_ERR_NUMERIC,
                      "pair");
    const double negative[] = {1, -1e-9, 2}, huge[] = {1e308, 1e308, 1e308};
    LODE_ASSERT_FAILS(lode_supernode_select(top, 1, negative, 3), LODE_ERR_NUMERIC, "negative");
    LODE_ASSERT_FAILS(lode_concentration_gini(&x, negative, 3, "LP"), LODE_ERR_NUMERIC, "negative");
    LODE_ASSERT_FAILS(lode_concentration_effective(&x, huge, 3, "LP"), LODE_ERR_NUMERIC,
                      "overflow");
    LODE_ASSERT_FAILS(lode_supernode_mass(&x, top, 0, huge, 3), LODE_ERR_NUMERIC, "overflow");
}

static void test_core(void **state) {
    (void)state;
    /* The floor is of the double product: 0.29·100 is 28.999…, 0.1·170 is exactly 17. */
    assert_int_equal(lode_supernode_size(0.29, 100), 28);
    assert_int_equal(lode_supernode_size(0.1, 170), 17);
    assert_int_equal(lode_supernode_size(0.01, 14336), 143);
    assert_int_equal(lode_supernode_size(0.01, 50), 1);
    assert_int_equal(lode_supernode_size(0.5, 1), 1);
    const double proxy[] = {0.5, 4, 0.5, 4, 1};
    int32_t core[3];
    double mass;
    LODE_ASSERT_OK(lode_supernode_select(core, 3, proxy, 5));
    CHECK_I32(core, ((const int32_t[]){1, 3, 4}));
    LODE_ASSERT_OK(lode_supernode_mass(&mass, core, 3, proxy, 5));
    assert_near(mass, 0.9);
    LODE_ASSERT_OK(lode_supernode_select(core, 1, proxy, 1));
    LODE_ASSERT_OK(lode_supernode_mass(&mass, core, 1, proxy, 1));
    assert_near(mass, 1);
    const double nothing[] = {0, 0};
    LODE_ASSERT_OK(lode_supernode_select(core, 1, nothing, 2));
    assert_int_equal(core[0], 0);
    LODE_ASSERT_OK(lode_supernode_mass(&mass, core, 1, nothing, 2));
    assert_true(isnan(mass));
}

static void test_concentration(void **state) {
    (void)state;
    double x;
    const double equal[] = {3, 3, 3, 3}, one[] = {0, 7, 0, 0}, mixed[] = {4, 1, 3, 2};
    LODE_ASSERT_OK(lode_concentration_gini(&x, equal, 4, "LP"));
    assert_near(x, 0);
    LODE_ASSERT_OK(lode_concentration_gini(&x, one, 4, "LP"));
    assert_near(x, 0.75);
    LODE_ASSERT_OK(lode_concentration_gini(&x, mixed, 4, "LP"));
    assert_near(x, 0.25);
    LODE_ASSERT_OK(lode_concentration_effective(&x, equal, 4, "LP"));
    assert_near(x, 4);
    LODE_ASSERT_OK(lode_concentration_effective(&x, one, 4, "LP"));
    assert_near(x, 1);
    LODE_ASSERT_OK(lode_concentration_effective(&x, mixed, 4, "LP"));
    assert_near(x, 3.5961154666243225); /* exp(0.4 ln 2.5 + 0.3 ln 10/3 + 0.2 ln 5 + 0.1 ln 10) */
    const double zeros[] = {0, 0};
    LODE_ASSERT_OK(lode_concentration_gini(&x, zeros, 2, "LP"));
    assert_true(isnan(x));
    LODE_ASSERT_OK(lode_concentration_effective(&x, zeros, 2, "LP"));
    assert_true(isnan(x));
}

static void test_spearman(void **state) {
    (void)state;
    double x;
    const double a[] = {1, 2, 3, 4, 5}, up[] = {0.1, 1, 10, 100, 1000}, down[] = {5, 4, 3, 2, 1};
    LODE_ASSERT_OK(lode_concentration_spearman(&x, a, up, 5, "pair"));
    assert_near(x, 1);
    LODE_ASSERT_OK(lode_concentration_spearman(&x, a, down, 5, "pair"));
    assert_near(x, -1);
    const double tied[] = {2, 1, 2, 2, 7}; /* ranks 3 1 3 3 5 against 1 … 5 */
    LODE_ASSERT_OK(lode_concentration_spearman(&x, a, tied, 5, "pair"));
    assert_near(x, 6 / sqrt(80));
    const double constant[] = {2, 2, 2, 2, 2};
    LODE_ASSERT_OK(lode_concentration_spearman(&x, a, constant, 5, "pair"));
    assert_true(isnan(x));
    LODE_ASSERT_OK(lode_concentration_spearman(&x, a, up, 1, "pair"));
    assert_true(isnan(x));
}

static void test_jaccard(void **state) {
    (void)state;
    double x;
    const int32_t a[] = {4, 0, 2}, b[] = {2, 3, 4, 1}, outside[] = {5}, twice[] = {1, 1};
    LODE_ASSERT_OK(lode_concentration_jaccard(&x, a, 3, b, 4, 5));
    assert_near(x, 0.4);
    LODE_ASSERT_OK(lode_concentration_jaccard(&x, a, 3, a, 3, 5));
    assert_near(x, 1);
    LODE_ASSERT_OK(lode_concentration_jaccard(&x, a, 1, b, 2, 5));
    assert_near(x, 0);
    LODE_ASSERT_OK(lode_concentration_jaccard(&x, a, 0, b, 0, 5));
    assert_near(x, 1);
    LODE_ASSERT_FAILS(lode_concentration_jaccard(&x, a, 3, outside, 1, 5), LODE_ERR_INTERNAL, "5");
    LODE_ASSERT_FAILS(lode_concentration_jaccard(&x, twice, 2, a, 3, 5), LODE_ERR_INTERNAL,
                      "twice");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_top_and_ties), cmocka_unit_test(test_any_doubles),
        cmocka_unit_test(test_ranks),        cmocka_unit_test(test_non_finite),
        cmocka_unit_test(test_core),         cmocka_unit_test(test_concentration),
        cmocka_unit_test(test_spearman),     cmocka_unit_test(test_jaccard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
