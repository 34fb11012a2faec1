/* score/mask: protection, ties, both allocations, names. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "score/mask.h"
#include "testing/compare.h"

static void assert_mask(const uint8_t *mask, const char *want) {
    for (size_t i = 0; i < strlen(want); i++)
        if (mask[i] != want[i] - '0')
            fail_msg("mask[%zu] is %d, expected %c of %s", i, mask[i], want[i], want);
}

static void test_removed(void **state) {
    (void)state;
    assert_int_equal(lode_mask_removed(0.5, 5), 2);
    assert_int_equal(lode_mask_removed(0.29, 100), 28); /* floor of the double product */
    assert_int_equal(lode_mask_removed(0.7, 10), 7);
    assert_int_equal(lode_mask_removed(0.5, 1), 0);
}

static void test_cores(void **state) {
    (void)state;
    assert_int_equal(lode_mask_core(LODE_METHOD_SCAR_LP, LODE_CORE_DEFAULT), LODE_CORE_LP);
    assert_int_equal(lode_mask_core(LODE_METHOD_SCAR_PROT, LODE_CORE_DEFAULT), LODE_CORE_LP);
    assert_int_equal(lode_mask_core(LODE_METHOD_SCAR_CONN, LODE_CORE_DEFAULT), LODE_CORE_LP);
    for (int method = LODE_METHOD_LP; method < LODE_METHOD_COUNT; method++)
        assert_int_equal(lode_mask_core(method, LODE_CORE_DEFAULT), LODE_CORE_NONE);
    assert_int_equal(lode_mask_core(LODE_METHOD_SCAR_LP, LODE_CORE_NONE), LODE_CORE_NONE);
    const double proxy[] = {1, 5, 5, 0, 5}, power[] = {9, 0, 0, 9, 1};
    uint8_t got[5], again[5];
    LODE_ASSERT_OK(lode_mask_protect(got, 5, LODE_CORE_LP, 2, proxy, NULL, 1, 0));
    assert_mask(got, "01100");
    LODE_ASSERT_OK(lode_mask_protect(got, 5, LODE_CORE_ACTIVATION, 3, NULL, power, 1, 0));
    assert_mask(got, "10011");
    LODE_ASSERT_OK(lode_mask_protect(got, 5, LODE_CORE_NONE, 2, NULL, NULL, 1, 0));
    assert_mask(got, "00000");
    int seen[5] = {0}, differ = 0;
    for (int64_t layer = 0; layer < 200; layer++) {
        LODE_ASSERT_OK(lode_mask_protect(got, 5, LODE_CORE_RANDOM, 2, NULL, NULL, 1, layer));
        LODE_ASSERT_OK(lode_mask_protect(again, 5, LODE_CORE_RANDOM, 2, NULL, NULL, 1, layer));
        assert_memory_equal(got, again, 5);
        LODE_ASSERT_OK(lode_mask_protect(again, 5, LODE_CORE_RANDOM, 2, NULL, NULL, 2, layer));
        differ += memcmp(got, again, 5) != 0;
        int size = 0;
        for (int j = 0; j < 5; j++) {
            size += got[j];
            seen[j] += got[j];
        }
        assert_int_equal(size, 2);
    }
    assert_true(differ > 100);
    for (int j = 0; j < 5; j++) /* 80 expected, standard deviation 7 */
        assert_in_range(seen[j], 45, 115);
    const double bad[] = {1, NAN};
    LODE_ASSERT_FAILS(lode_mask_protect(got, 2, LODE_CORE_ACTIVATION, 1, NULL, bad, 1, 0),
                      LODE_ERR_NUMERIC, "activation power");
}

static void test_uniform(void **state) {
    (void)state;
    uint8_t keep[6];
    const double score[] = {3, 1, 2, 1, 2, 1};
    LODE_ASSERT_OK(lode_mask_uniform(keep, score, NULL, 6, 0.5, 0));
    assert_mask(keep, "101010");
    LODE_ASSERT_OK(lode_mask_uniform(keep, score, NULL, 6, 0.34, 0)); /* ties: lower index first */
    assert_mask(keep, "101011");
    LODE_ASSERT_OK(lode_mask_uniform(keep, score, (const uint8_t[]){0, 1, 0, 1, 0, 0}, 6, 0.5, 0));
    assert_mask(keep, "110100");
    LODE_ASSERT_OK(lode_mask_uniform(keep, score, NULL, 6, 0, 0));
    assert_mask(keep, "111111");
    LODE_ASSERT_OK(lode_mask_uniform(keep, score, NULL, 1, 0.9, 0));
    assert_mask(keep, "1");
    const double equal[] = {-4, -4, -4, -4};
    LODE_ASSERT_OK(lode_mask_uniform(keep, equal, NULL, 4, 0.5, 0));
    assert_mask(keep, "0011");
}

static void test_uniform_errors(void **state) {
    (void)state;
    uint8_t keep[4];
    const double score[] = {1, 2, 3, 4}, bad[] = {1, 2, NAN, 4};
    const uint8_t most[] = {1, 1, 1, 0};
    LODE_ASSERT_OK(lode_mask_uniform(keep, score, most, 4, 0.25, 7));
    assert_mask(keep, "1110");
    LODE_ASSERT_FAILS(lode_mask_uniform(keep, score, most, 4, 0.5, 7), LODE_ERR_CONFIG,
                      "removes 2 of the 4 channels of layer 7, but only 1 are not protected");
    LODE_ASSERT_FAILS(lode_mask_uniform(keep, bad, NULL, 4, 0.5, 7), LODE_ERR_NUMERIC,
                      "layer 7: score of channel 2");
    LODE_ASSERT_FAILS(lode_mask_uniform(keep, score, NULL, 4, 1.0, 7), LODE_ERR_CONFIG,
                      "prune.sparsity is 1");
    LODE_ASSERT_FAILS(lode_mask_uniform(keep, score, NULL, 4, NAN, 7), LODE_ERR_CONFIG,
                      "prune.sparsity");
}

static void test_normalise(void **state) {
    (void)state;
    double normal[4];
    const double score[] = {1, 3, 0, 4}, want[] = {0.5, 1.5, 0, 2};
    LODE_ASSERT_OK(lode_mask_normalise(normal, score, 4));
    LODE_ASSERT_CLOSE(lode_compare_f64("mean", normal, 4, want, 4, 0, 1e-15));
    const double entropy[] = {-3, -1, -4, 0}; /* the same, 4 lower */
    LODE_ASSERT_OK(lode_mask_normalise(normal, entropy, 4));
    LODE_ASSERT_CLOSE(lode_compare_f64("entropy", normal, 4, want, 4, 0, 1e-15));
    const double zeros[4] = {0};
    LODE_ASSERT_OK(lode_mask_normalise(normal, zeros, 4));
    LODE_ASSERT_CLOSE(lode_compare_f64("zeros", normal, 4, zeros, 4, 0, 0));
    const double huge[] = {1e308, 1e308, 1e308, 0};
    LODE_ASSERT_FAILS(lode_mask_normalise(normal, huge, 4), LODE_ERR_NUMERIC, "overflow");
}

static void test_global(void **state) {
    (void)state;
    uint8_t keep[10];
    /* Means 4 and 40: shares 0.25 0.25 0.25 0.25 4 against 0.5 0.75 1 1.25 1.5. */
    const double score[] = {1, 1, 1, 1, 16, 20, 30, 40, 50, 60};
    LODE_ASSERT_OK(lode_mask_global(keep, score, NULL, 2, 5, 0.5, 0.1));
    assert_mask(keep, "0000111111");
    LODE_ASSERT_OK(lode_mask_global(keep, score, NULL, 2, 5, 0.2, 0.1)); /* ties */
    assert_mask(keep, "0011111111");
    LODE_ASSERT_OK(lode_mask_global(keep, score, NULL, 2, 5, 0.5, 0.4)); /* two stay in each */
    assert_mask(keep, "0001101111");
    const uint8_t core[] = {1, 0, 0, 0, 0, 0, 1, 0, 0, 0};
    LODE_ASSERT_OK(lode_mask_global(keep, score, core, 2, 5, 0.6, 0.1));
    assert_mask(keep, "1000101001");
    /* A protected channel counts towards the floor: layer 0 keeps only the protected one. */
    const uint8_t one[] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    const double flat[] = {1, 1, 1, 1, 1, 10, 10, 10, 10, 10};
    LODE_ASSERT_OK(lode_mask_global(keep, flat, one, 2, 5, 0.4, 0.0));
    assert_mask(keep, "1000011111");
    /* Scale of a layer does not matter, nor does a shift of negative scores. */
    double moved[10];
    for (int i = 0; i < 10; i++)
        moved[i] = i < 5 ? 1e-9 * score[i] : 1e6 * score[i];
    LODE_ASSERT_OK(lode_mask_global(keep, moved, NULL, 2, 5, 0.5, 0.4));
    assert_mask(keep, "0001101111");
}

static void test_global_errors(void **state) {
    (void)state;
    uint8_t keep[4];
    const double score[] = {1, 2, 3, 4}, bad[] = {1, 2, INFINITY, 4};
    const uint8_t all[] = {1, 1, 1, 1};
    LODE_ASSERT_FAILS(lode_mask_global(keep, score, all, 2, 2, 0.5, 0.1), LODE_ERR_CONFIG,
                      "only 0 may go");
    LODE_ASSERT_FAILS(lode_mask_global(keep, score, NULL, 1, 4, 0.8, 0.5), LODE_ERR_CONFIG,
                      "removes 3 channels, but only 2 may go");
    LODE_ASSERT_FAILS(lode_mask_global(keep, bad, NULL, 2, 2, 0.5, 0.1), LODE_ERR_NUMERIC,
                      "layer 1: score of channel 0");
    LODE_ASSERT_FAILS(lode_mask_global(keep, score, NULL, 2, 2, -0.5, 0.1), LODE_ERR_CONFIG,
                      "prune.sparsity");
}

static void assert_name(const char *want, lode_method_t method, double sparsity, lode_core_t core,
                        lode_allocation_t allocation) {
    lode_buffer_t name = {0};
    LODE_ASSERT_OK(
        lode_variant_name(&name, method, sparsity, core, allocation, LODE_COMPENSATION_NONE));
    assert_string_equal(name.data, want);
    lode_buffer_free(&name);
}

static void test_names(void **state) {
    (void)state;
    assert_name("scar-prot@0.5", LODE_METHOD_SCAR_PROT, 0.5, LODE_CORE_DEFAULT,
                LODE_ALLOCATION_UNIFORM);
    assert_name("magnitude@0.5~lp", LODE_METHOD_MAGNITUDE, 0.5, LODE_CORE_LP,
                LODE_ALLOCATION_UNIFORM);
    assert_name("lp@0.25+global", LODE_METHOD_LP, 0.25, LODE_CORE_DEFAULT, LODE_ALLOCATION_GLOBAL);
    assert_name("random@0.1~none+global", LODE_METHOD_RANDOM, 0.1, LODE_CORE_NONE,
                LODE_ALLOCATION_GLOBAL);
    assert_name("wanda-channel@0.3333333333333333", LODE_METHOD_WANDA_CHANNEL, 1.0 / 3,
                LODE_CORE_DEFAULT, LODE_ALLOCATION_UNIFORM);
    assert_name("entropy@0.30000000000000004", LODE_METHOD_ENTROPY, 0.1 + 0.2, LODE_CORE_DEFAULT,
                LODE_ALLOCATION_UNIFORM);
    assert_name("taylor@1e-05", LODE_METHOD_TAYLOR, 1e-5, LODE_CORE_DEFAULT,
                LODE_ALLOCATION_UNIFORM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_removed),       cmocka_unit_test(test_cores),
        cmocka_unit_test(test_uniform),       cmocka_unit_test(test_uniform_errors),
        cmocka_unit_test(test_normalise),     cmocka_unit_test(test_global),
        cmocka_unit_test(test_global_errors), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
