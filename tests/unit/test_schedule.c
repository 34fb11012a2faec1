/* The order of forwards and backwards; test_simulate has the times. */
#include "testing/cmocka_all.h"

#include "transformer/schedule.h"

enum { MAX_STAGES = 9, MAX_ITEMS = 20 };

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Every item goes forward once, and backward once after that. */
static void every_item(void **state) {
    (void)state;
    for (int stages = 1; stages <= MAX_STAGES; stages++)
        for (int stage = 0; stage < stages; stage++)
            for (int64_t items = 0; items <= MAX_ITEMS; items++)
                for (int backward = 0; backward < 2; backward++) {
                    int done[2][MAX_ITEMS] = {{0}};
                    for (int64_t step = 0; step < items * (1 + backward); step++) {
                        const lode_operation_t operation =
                            lode_schedule_operation(stages, stage, items, backward, step);
                        assert_in_range(operation.item, 0, items - 1);
                        assert_true(backward || !operation.backward);
                        assert_int_equal(done[operation.backward][operation.item]++, 0);
                        assert_int_equal(done[0][operation.item], 1);
                    }
                    for (int64_t item = 0; item < items; item++)
                        assert_int_equal(done[backward][item], 1);
                }
}

/* Activations: no more than the stages that follow need, at least one, and reached. */
static void in_flight(void **state) {
    (void)state;
    for (int stages = 1; stages <= MAX_STAGES; stages++)
        for (int64_t items = 0; items <= MAX_ITEMS; items++)
            for (int stage = 0; stage < stages; stage++) {
                const int64_t most = lode_schedule_in_flight(stages, stage, items, true);
                assert_true(most >= 1 && most <= stages - stage);
                assert_int_equal(lode_schedule_in_flight(stages, stage, items, false), 1);
                int64_t now = 0, reached = 0;
                for (int64_t step = 0; step < 2 * items; step++) {
                    now +=
                        lode_schedule_operation(stages, stage, items, true, step).backward ? -1 : 1;
                    reached = later(reached, now);
                }
                if (items > 0)
                    assert_int_equal(reached, most);
            }
}

/* Slots are reused by item modulo the number in flight: the item that had the slot is done. */
static void items_in_order(void **state) {
    (void)state;
    for (int stages = 1; stages <= MAX_STAGES; stages++)
        for (int stage = 0; stage < stages; stage++) {
            int64_t next[2] = {0, 0};
            for (int64_t step = 0; step < 2 * MAX_ITEMS; step++) {
                const lode_operation_t operation =
                    lode_schedule_operation(stages, stage, MAX_ITEMS, true, step);
                assert_int_equal(operation.item, next[operation.backward]);
                next[operation.backward]++;
            }
            for (int64_t step = 0; step < MAX_ITEMS; step++)
                assert_int_equal(
                    lode_schedule_operation(stages, stage, MAX_ITEMS, false, step).item, step);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item),
        cmocka_unit_test(in_flight),
        cmocka_unit_test(items_in_order),
    };
    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
