/* The comparator itself must not be able to let a wrong array through. */
#include "testing/cmocka_all.h"
#include "testing/compare.h"

#include <math.h>

static const double reference[4] = {1.0, -2.0, 3.0, 4.0};

static void accepts_equal_and_close(void **state) {
    (void)state;
    double close[4] = {1.0 + 1e-7, -2.0, 3.0 - 1e-7, 4.0};
    assert_true(lode_compare_f64("a", reference, 4, reference, 4, 0, 0).equal);
    assert_true(lode_compare_f64("a", close, 4, reference, 4, 0, 1e-6).equal);
    lode_comparison_t result = lode_compare_f64("a", close, 4, reference, 4, 0, 1e-8);
    assert_false(result.equal);
    assert_int_equal(result.first_bad, 0);
    assert_int_equal(result.bad, 2);
}

static void rejects_non_finite_on_either_side(void **state) {
    (void)state;
    const double specials[3] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        double bad[4] = {1.0, specials[i], 3.0, 4.0};
        assert_false(lode_compare_f64("a", bad, 4, reference, 4, 1e300, 1e300).equal);
        assert_false(lode_compare_f64("a", reference, 4, bad, 4, 1e300, 1e300).equal);
        assert_false(lode_compare_f64("a", bad, 4, bad, 4, INFINITY, 0).equal);
        float bad_single[4] = {1.0f, (float)specials[i], 3.0f, 4.0f};
        assert_false(lode_compare_f32("a", bad_single, 4, reference, 4, 1e30, 1e30).equal);
    }
}

static void rejects_swapped_and_truncated(void **state) {
    (void)state;
    const double swapped[4] = {-2.0, 1.0, 3.0, 4.0};
    assert_false(lode_compare_f64("a", swapped, 4, reference, 4, 0, 1e-3).equal);
    assert_false(lode_compare_f64("a", reference, 3, reference, 4, 0, 1e-3).equal);
    assert_false(lode_compare_f64("a", reference, 4, reference, 3, 0, 1e-3).equal);
    const int32_t one[2] = {1, 2}, two[2] = {2, 1};
    assert_true(lode_compare_i32("i", one, 2, one, 2).equal);
    assert_false(lode_compare_i32("i", one, 2, two, 2).equal);
    assert_false(lode_compare_i32("i", one, 1, one, 2).equal);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_equal_and_close),
        cmocka_unit_test(rejects_non_finite_on_either_side),
        cmocka_unit_test(rejects_swapped_and_truncated),
    };
    return cmocka_run_group_tests_name("compare", tests, NULL, NULL);
}
