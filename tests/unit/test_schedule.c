/* The order of forwards and backwards, driven by a simulated clock. */
#include "testing/cmocka_all.h"

#include <stdlib.h>

#include "transformer/channel.h"
#include "transformer/schedule.h"

enum { MAX_STAGES = 9, MAX_ITEMS = 20 };
static const int64_t never = INT64_MAX;

/* Durations are whole, so that times are exact. */
typedef struct costs {
    int64_t forward, backward, latency;
    bool bounded; /* messages wait in LODE_CHANNEL_DEPTH buffers on either side, else in endless
                     ones */
} costs_t;

typedef struct simulation {
    int stages;
    int64_t items;
    bool backward;
    costs_t costs;
    int64_t step[MAX_STAGES], clock[MAX_STAGES], in_flight[MAX_STAGES];
    /* when an operation began and ended, `never` before it did: [backward][stage][item] */
    int64_t begin[2][MAX_STAGES][MAX_ITEMS], end[2][MAX_STAGES][MAX_ITEMS];
} simulation_t;

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* The earliest time at which what the operation waits for is there, `never` if unknown so far. */
static int64_t ready_at(const simulation_t *s, int stage, lode_operation_t operation) {
    const int source = operation.backward ? stage + 1 : stage - 1;
    const int target = operation.backward ? stage - 1 : stage + 1;
    int64_t ready = 0;
    if (source >= 0 && source < s->stages) {
        const int64_t sent = s->end[operation.backward][source][operation.item];
        if (sent == never)
            return never;
        ready = sent + s->costs.latency;
    }
    if (operation.backward) {
        const int64_t own = s->end[0][stage][operation.item];
        if (own == never)
            return never;
        ready = later(ready, own);
    }
    /* A buffer is free for message n once message n − depth has left it, which the receiver takes
     * when it has released message n − 2·depth. It releases a message as it begins to work on it.
     */
    const int64_t released = operation.item - 2 * LODE_CHANNEL_DEPTH;
    if (s->costs.bounded && target >= 0 && target < s->stages && released >= 0) {
        const int64_t taken = s->begin[operation.backward][target][released];
        if (taken == never)
            return never;
        ready = later(ready, taken);
    }
    return ready;
}

/* Runs the stage's next operation if it can be timed already. */
static bool advance(simulation_t *s, int stage) {
    const int64_t steps = s->items * (s->backward ? 2 : 1);
    if (s->step[stage] == steps)
        return false;
    const lode_operation_t operation =
        lode_schedule_operation(s->stages, stage, s->items, s->backward, s->step[stage]);
    assert_in_range(operation.item, 0, s->items - 1);
    assert_true(s->backward || !operation.backward);
    assert_true(s->end[operation.backward][stage][operation.item] == never); /* once */
    if (operation.backward)
        assert_true(s->end[0][stage][operation.item] != never); /* after its forward */
    const int64_t ready = ready_at(s, stage, operation);
    if (ready == never)
        return false;
    const int64_t begin = later(ready, s->clock[stage]);
    s->begin[operation.backward][stage][operation.item] = begin;
    s->clock[stage] = begin + (operation.backward ? s->costs.backward : s->costs.forward);
    s->end[operation.backward][stage][operation.item] = s->clock[stage];
    if (s->backward) {
        s->in_flight[stage] += operation.backward ? -1 : 1;
        assert_true(s->in_flight[stage] <=
                    lode_schedule_in_flight(s->stages, stage, s->items, true));
    }
    s->step[stage]++;
    return true;
}

/* Runs everything and returns when the last stage was done. */
static int64_t simulate(simulation_t *s) {
    for (int b = 0; b < 2; b++)
        for (int stage = 0; stage < MAX_STAGES; stage++)
            for (int item = 0; item < MAX_ITEMS; item++)
                s->begin[b][stage][item] = s->end[b][stage][item] = never;
    for (bool moved = true; moved;) {
        moved = false;
        for (int stage = 0; stage < s->stages; stage++)
            while (advance(s, stage))
                moved = true;
    }
    int64_t last = 0;
    for (int stage = 0; stage < s->stages; stage++) {
        assert_int_equal(s->step[stage], s->items * (s->backward ? 2 : 1)); /* no deadlock */
        for (int64_t item = 0; item < s->items; item++) {
            assert_true(s->end[0][stage][item] != never);
            assert_true(s->backward == (s->end[1][stage][item] != never));
        }
        last = later(last, s->clock[stage]);
    }
    return last;
}

static void every_shape(void **state) {
    (void)state;
    const costs_t costs[] = {{1, 1, 0, false}, {3, 5, 0, false}, {5, 3, 0, false},
                             {3, 5, 0, true},  {7, 2, 0, true},  {3, 6, 1, false},
                             {3, 6, 1, true},  {2, 3, 10, true}};
    for (size_t c = 0; c < sizeof costs / sizeof *costs; c++)
        for (int stages = 1; stages <= MAX_STAGES; stages++)
            for (int64_t items = 0; items <= MAX_ITEMS; items++)
                for (int backward = 0; backward < 2; backward++) {
                    simulation_t s = {
                        .stages = stages, .items = items, .backward = backward, .costs = costs[c]};
                    const int64_t total = simulate(&s);
                    const int64_t each = costs[c].forward + (backward ? costs[c].backward : 0);
                    const int64_t ideal = items == 0 ? 0 : (items + stages - 1) * each;
                    if (costs[c].latency == 0)
                        assert_int_equal(total, ideal); /* efficiency M/(M + P − 1) */
                    else
                        assert_true(total >= ideal);
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
        cmocka_unit_test(every_shape),
        cmocka_unit_test(in_flight),
        cmocka_unit_test(items_in_order),
    };
    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
