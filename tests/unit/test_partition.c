/* Dividing layers among ranks: partitions against every possible cut, layouts against what a model
 * needs to be computed once. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "comm/partition.h"
#include "testing/compare.h"
#include "transformer/layout.h"

enum { MAX_ITEMS = 10, MAX_RANKS = 20, MAX_LAYERS = 9 };

/* --- partitions ----------------------------------------------------------------------------- */

static double run_cost(const double *cost, int64_t first, int64_t end) {
    double sum = 0;
    for (int64_t i = first; i < end; i++)
        sum += cost[i];
    return sum;
}

static double dearest_run(const double *cost, int parts, const int64_t *first) {
    double dearest = 0;
    for (int p = 0; p < parts; p++)
        dearest = fmax(dearest, run_cost(cost, first[p], first[p + 1]));
    return dearest;
}

/* The cheapest dearest run of all cuts of `count` items into `parts` non-empty runs. */
static double best_of_all(const double *cost, int64_t count, int parts) {
    if (parts == 1)
        return run_cost(cost, 0, count);
    double best = INFINITY;
    for (int64_t last = parts - 1; last < count; last++)
        best = fmin(best, fmax(best_of_all(cost, last, parts - 1), run_cost(cost, last, count)));
    return best;
}

/* The rule that makes the result unique: the shortest last run that a best cut can have, and the
 * items before it divided by the same rule. */
static void expected_cut(const double *cost, int64_t count, int parts, int64_t *first) {
    first[parts] = count;
    if (parts == 1) {
        first[0] = 0;
        return;
    }
    const double best = best_of_all(cost, count, parts);
    int64_t last = count - 1;
    while (fmax(best_of_all(cost, last, parts - 1), run_cost(cost, last, count)) > best)
        last--;
    expected_cut(cost, last, parts - 1, first);
}

static void check_cut(const double *cost, int64_t count, int parts, bool exact) {
    int64_t first[MAX_ITEMS + 1], want[MAX_ITEMS + 1];
    memset(first, -1, sizeof first);
    LODE_ASSERT_OK(lode_partition_contiguous(cost, count, parts, first));
    assert_int_equal(first[0], 0);
    assert_int_equal(first[parts], count);
    for (int p = 0; p < parts; p++)
        assert_true(first[p] < first[p + 1]);
    const double best = best_of_all(cost, count, parts);
    if (!exact) { /* sums in another order */
        assert_true(dearest_run(cost, parts, first) <= best * (1 + 1e-14));
        return;
    }
    assert_true(dearest_run(cost, parts, first) == best);
    expected_cut(cost, count, parts, want);
    assert_memory_equal(first, want, (size_t)(parts + 1) * sizeof *first);
}

static void partition_random(void **state) {
    (void)state;
    uint64_t counter = 0;
    const uint64_t key = lode_random_key(1, "partition", 0, 0);
    /* Small whole costs are exact in any order and full of ties and zeros. */
    const int64_t bounds[] = {1, 2, 3, 7, 1000};
    for (size_t kind = 0; kind <= sizeof bounds / sizeof *bounds; kind++)
        for (int64_t count = 1; count <= MAX_ITEMS; count++)
            for (int parts = 1; parts <= count; parts++)
                for (int draw = 0; draw < 3; draw++) {
                    const bool whole = kind < sizeof bounds / sizeof *bounds;
                    double cost[MAX_ITEMS];
                    for (int64_t i = 0; i < count; i++)
                        cost[i] = whole ? (double)lode_random_below(key, counter++, bounds[kind])
                                        : lode_random_uniform(key, counter++);
                    check_cut(cost, count, parts, whole);
                }
}

static void partition_by_hand(void **state) {
    (void)state;
    const struct {
        double cost[6];
        int64_t count;
        int parts;
        int64_t first[7];
    } cases[] = {
        {{5}, 1, 1, {0, 1}},
        {{1, 1, 1, 1}, 4, 2, {0, 2, 4}},
        {{1, 1, 1, 1, 1}, 5, 2, {0, 3, 5}}, /* 3 + 2, not 2 + 3 */
        {{0, 0, 0, 0}, 4, 3, {0, 2, 3, 4}},
        {{1, 1, 1, 1, 9}, 5, 2, {0, 4, 5}},
        {{1, 1, 1, 1, 9}, 5, 3, {0, 2, 4, 5}}, /* what precedes the dearest run is balanced too */
        {{9, 1, 1, 1, 1, 1}, 6, 3, {0, 1, 5, 6}},
        {{3, 0, 0, 3, 0, 3}, 6, 3, {0, 3, 5, 6}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t first[7];
        LODE_ASSERT_OK(
            lode_partition_contiguous(cases[i].cost, cases[i].count, cases[i].parts, first));
        assert_memory_equal(first, cases[i].first, (size_t)(cases[i].parts + 1) * sizeof *first);
    }
}

/* --- layouts -------------------------------------------------------------------------------- */

static lode_architecture_t architecture_of(int64_t layers, int64_t vocab) {
    return (lode_architecture_t){.layers = layers,
                                 .hidden = 16,
                                 .intermediate = 40,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_dim = 4,
                                 .vocab = vocab,
                                 .max_positions = 64,
                                 .norm_eps = 1e-5,
                                 .rotary.theta = 1e4};
}

/* The ranks of one replica, in order: they cover the model once, and know their neighbours. */
static void check_pipeline(const lode_layout_t *layouts, int replica, int stages, int64_t layers) {
    int64_t next_layer = 0;
    for (int stage = 0; stage < stages; stage++) {
        const int rank = replica * stages + stage;
        const lode_layout_t *l = &layouts[rank];
        assert_int_equal(l->replica, replica);
        assert_int_equal(l->stage, stage);
        assert_int_equal(l->previous, stage == 0 ? -1 : rank - 1);
        assert_int_equal(l->next, stage == stages - 1 ? -1 : rank + 1);
        assert_int_equal(l->embedding, stage == 0);
        assert_int_equal(l->head, stage == stages - 1);
        assert_int_equal(l->first_layer, next_layer);
        assert_true(l->layer_end >= l->first_layer);
        assert_true(l->layer_end > l->first_layer || l->head); /* nobody holds nothing */
        next_layer = l->layer_end;
    }
    assert_int_equal(next_layer, layers);
}

static void check_balance(const lode_layout_t *layouts, const lode_architecture_t *architecture,
                          int64_t length) {
    const int64_t layers = architecture->layers;
    const double each = (double)lode_architecture_layer_flops(architecture, 0, length);
    const double head = (double)lode_architecture_head_flops(architecture);
    double cost[MAX_LAYERS + 1], dearest = 0;
    for (int64_t i = 0; i < layers; i++)
        cost[i] = each;
    cost[layers] = head;
    for (int rank = 0; rank < layouts[0].stages; rank++) {
        const lode_layout_t *l = &layouts[rank];
        const double own = each * (double)(l->layer_end - l->first_layer) + (l->head ? head : 0);
        dearest = fmax(dearest, own);
    }
    assert_true(dearest == best_of_all(cost, layers + 1, layouts[0].stages));
}

static void check_layouts(const lode_architecture_t *architecture, int size, int64_t replicas) {
    const int64_t length = 48;
    lode_layout_t layouts[MAX_RANKS];
    for (int rank = 0; rank < size; rank++) {
        LODE_ASSERT_OK(
            lode_layout_create(&layouts[rank], architecture, length, size, rank, replicas));
        assert_int_equal(layouts[rank].replicas, layouts[0].replicas);
        assert_int_equal(layouts[rank].stages, layouts[0].stages);
    }
    const int pipelines = layouts[0].replicas, stages = layouts[0].stages;
    const int64_t parts = architecture->layers + 1;
    assert_true(stages >= 1 && stages <= parts);
    if (replicas > 0)
        assert_int_equal(pipelines, replicas);
    else /* the fewest that use every rank but for a remainder */
        assert_int_equal(pipelines, (size + parts - 1) / parts);
    const int idle = size - pipelines * stages;
    assert_true(idle >= 0);
    if (stages < parts || replicas == 0)
        assert_true(idle < pipelines);
    for (int replica = 0; replica < pipelines; replica++)
        check_pipeline(layouts, replica, stages, architecture->layers);
    for (int rank = pipelines * stages; rank < size; rank++) {
        const lode_layout_t *l = &layouts[rank];
        assert_true(l->replica == -1 && l->stage == -1 && l->previous == -1 && l->next == -1);
        assert_true(l->first_layer == l->layer_end && !l->embedding && !l->head);
    }
    check_balance(layouts, architecture, length);
}

static void layouts(void **state) {
    (void)state;
    const int64_t vocabularies[] = {2, 130, 5000}; /* a head that costs nothing, a layer, ten */
    for (size_t v = 0; v < sizeof vocabularies / sizeof *vocabularies; v++)
        for (int64_t layers = 1; layers <= MAX_LAYERS; layers++) {
            const lode_architecture_t architecture = architecture_of(layers, vocabularies[v]);
            for (int size = 1; size <= MAX_RANKS; size++)
                for (int64_t replicas = 0; replicas <= 2 && replicas <= size; replicas++)
                    check_layouts(&architecture, size, replicas);
        }
}

static void too_many_replicas(void **state) {
    (void)state;
    const lode_architecture_t architecture = architecture_of(3, 100);
    lode_layout_t layout;
    for (int size = 1; size < 4; size++)
        LODE_ASSERT_FAILS(lode_layout_create(&layout, &architecture, 48, size, 0, size + 1),
                          LODE_ERR_CONFIG, "replicas");
    LODE_ASSERT_FAILS(lode_layout_create(&layout, &architecture, 48, 4, 0, INT64_MAX),
                      LODE_ERR_CONFIG, "replicas");
    LODE_ASSERT_OK(lode_layout_create(&layout, &architecture, 48, 4, 3, 4));
    assert_int_equal(layout.replicas, 4);
    assert_int_equal(layout.stages, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partition_random),
        cmocka_unit_test(partition_by_hand),
        cmocka_unit_test(layouts),
        cmocka_unit_test(too_many_replicas),
    };
    return cmocka_run_group_tests_name("partition", tests, NULL, NULL);
}
