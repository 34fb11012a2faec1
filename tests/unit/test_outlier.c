/* score/outlier: against sorting all weights, with many ties. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "score/outlier.h"
#include "testing/compare.h"

enum { WEIGHTS = 500 };

static void fill(lode_outlier_t *weights) {
    const uint64_t key = lode_random_key(3, "weights", 0, 0);
    for (int i = 0; i < WEIGHTS; i++) /* few values of either sign, some of them 0 */
        weights[i] = (lode_outlier_t){.layer = i / 100,
                                      .matrix = i / 20 % 5,
                                      .row = i / 4 % 5,
                                      .col = i % 4,
                                      .value = (float)lode_random_below(key, (uint64_t)i, 41) - 20};
}

static int by_size(const void *a, const void *b) {
    const lode_outlier_t *x = *(lode_outlier_t *const *)a, *y = *(lode_outlier_t *const *)b;
    if (fabsf(x->value) != fabsf(y->value))
        return fabsf(x->value) > fabsf(y->value) ? -1 : 1;
    return x < y ? -1 : 1; /* they are in the order of their places */
}

/* Offered forwards, backwards and mixed. */
static void test_largest(void **state) {
    (void)state;
    lode_outlier_t weights[WEIGHTS], *sorted[WEIGHTS];
    fill(weights);
    for (int i = 0; i < WEIGHTS; i++)
        sorted[i] = &weights[i];
    qsort(sorted, WEIGHTS, sizeof *sorted, by_size);
    const int64_t sizes[] = {0, 1, 7, 100, 480};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int step = 1; step <= 499; step += 166) {
            lode_outliers_t kept;
            LODE_ASSERT_OK(lode_outliers_create(&kept, sizes[s]));
            for (int i = 0; i < WEIGHTS; i++)
                lode_outliers_offer(&kept, &weights[i * step % WEIGHTS]);
            lode_outliers_sort(kept.item, kept.count);
            lode_outlier_t want[WEIGHTS];
            int64_t count = 0;
            for (; count < sizes[s] && sorted[count]->value != 0; count++)
                want[count] = *sorted[count];
            lode_outliers_sort(want, count);
            assert_int_equal(kept.count, count);
            if (count > 0)
                assert_memory_equal(kept.item, want, (size_t)count * sizeof *want);
            lode_outliers_free(&kept);
        }
}

static void test_least(void **state) {
    (void)state;
    lode_outliers_t kept;
    LODE_ASSERT_OK(lode_outliers_create(&kept, 2));
    assert_float_equal(lode_outliers_least(&kept), 0, 0);
    lode_outliers_offer(&kept, &(lode_outlier_t){.value = NAN});
    lode_outliers_offer(&kept, &(lode_outlier_t){.value = -3});
    lode_outliers_offer(&kept, &(lode_outlier_t){.value = 5});
    assert_int_equal(kept.count, 2);
    assert_float_equal(lode_outliers_least(&kept), 3, 0);
    lode_outliers_free(&kept);
    LODE_ASSERT_OK(lode_outliers_create(&kept, 0));
    assert_true(isinf(lode_outliers_least(&kept)));
    lode_outliers_offer(&kept, &(lode_outlier_t){.value = 5});
    assert_int_equal(kept.count, 0);
    lode_outliers_free(&kept);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_largest),
                                       cmocka_unit_test(test_least)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
