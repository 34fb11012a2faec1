/* base/lookup: against an array that is searched from its beginning. */
#include "testing/cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/lookup.h"
#include "testing/compare.h"

/* Keys that a multiplication spreads badly or well: small, with the same low half, and random. */
static uint64_t key_of(int64_t i) {
    switch (i % 3) {
    case 0:
        return (uint64_t)i;
    case 1:
        return (uint64_t)i << 32 | 5;
    default:
        return (uint64_t)i * UINT64_C(0xD1342543DE82EF95) + 1;
    }
}

static void test_many(void **state) {
    (void)state;
    enum { ENTRIES = 20000 };
    lode_lookup_t table = {0};
    LODE_ASSERT_OK(lode_lookup_reserve(&table, 0, "test"));
    assert_int_equal(lode_lookup_find(&table, 0), -1);
    for (int64_t i = 0; i < ENTRIES; i++) {
        assert_int_equal(lode_lookup_find(&table, key_of(i)), -1);
        LODE_ASSERT_OK(lode_lookup_add(&table, key_of(i), i, "test"));
        assert_true(2 * (uint64_t)table.count <= table.mask + 1);
    }
    for (int64_t i = 0; i < ENTRIES; i++)
        assert_int_equal(lode_lookup_find(&table, key_of(i)), i);
    for (int64_t i = ENTRIES; i < 2 * ENTRIES; i++)
        assert_int_equal(lode_lookup_find(&table, key_of(i)), -1);
    for (int64_t i = 0; i < ENTRIES; i += 7)
        LODE_ASSERT_OK(lode_lookup_set(&table, key_of(i), 3 * i, "test"));
    assert_int_equal(table.count, ENTRIES);
    for (int64_t i = 0; i < ENTRIES; i++)
        assert_int_equal(lode_lookup_find(&table, key_of(i)), i % 7 == 0 ? 3 * i : i);
    LODE_ASSERT_OK(lode_lookup_set(&table, key_of(ENTRIES), 1, "test"));
    assert_int_equal(table.count, ENTRIES + 1);
    lode_lookup_free(&table);
    assert_null(table.slots);
}

/* A walk meets every entry of its key once, and no other. */
static void test_same_key(void **state) {
    (void)state;
    enum { EACH = 300 };
    lode_lookup_t table = {0};
    LODE_ASSERT_OK(lode_lookup_reserve(&table, 0, "test"));
    for (int64_t i = 0; i < EACH; i++)
        for (uint64_t key = 0; key < 4; key++)
            LODE_ASSERT_OK(lode_lookup_add(&table, key, 4 * i + (int64_t)key, "test"));
    for (uint64_t key = 0; key < 5; key++) {
        bool seen[4 * EACH] = {false};
        uint64_t at = lode_lookup_home(&table, key);
        int64_t count = 0;
        for (int64_t value; (value = lode_lookup_next(&table, key, &at)) >= 0; count++) {
            assert_int_equal(value % 4, key);
            assert_false(seen[value]);
            seen[value] = true;
        }
        assert_int_equal(count, key < 4 ? EACH : 0);
        assert_int_equal(lode_lookup_next(&table, key, &at), -1);
    }
    lode_lookup_free(&table);
}

/* What was reserved is not asked for again; a table that cannot grow is as it was. */
static void test_memory(void **state) {
    (void)state;
    lode_lookup_t table = {0};
    LODE_ASSERT_OK(lode_lookup_reserve(&table, 16, "test"));
    LODE_ASSERT_OK(lode_fault_arm("allocation:call=1", 0));
    for (int64_t i = 0; i < 16; i++)
        LODE_ASSERT_OK(lode_lookup_add(&table, key_of(i), i, "test"));
    LODE_ASSERT_FAILS(lode_lookup_add(&table, key_of(16), 16, "test"), LODE_ERR_MEMORY, "test");
    LODE_ASSERT_OK(lode_fault_arm(NULL, 0));
    assert_int_equal(table.count, 16);
    for (int64_t i = 0; i < 16; i++)
        assert_int_equal(lode_lookup_find(&table, key_of(i)), i);
    assert_int_equal(lode_lookup_find(&table, key_of(16)), -1);
    LODE_ASSERT_OK(lode_lookup_add(&table, key_of(16), 16, "test"));
    assert_int_equal(lode_lookup_find(&table, key_of(16)), 16);
    lode_lookup_free(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_same_key),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
