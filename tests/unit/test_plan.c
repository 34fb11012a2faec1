/* What variants have in common, computed once: on random trees of variants, stages and memory,
 * every rank finds the hidden states that it is to start from, in a slot that nobody has used
 * since. */
#include "testing/cmocka_all.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "testing/compare.h"
#include "transformer/plan.h"

enum { MOST_VARIANTS = 24, MOST_LAYERS = 9, MOST_STAGES = 4, MOST_SLOTS = 5 };

static uint64_t key;
static uint64_t drawn;

static int64_t below(int64_t bound) {
    return (int64_t)lode_random_below(key, drawn++, (uint64_t)bound);
}

typedef struct tree {
    int64_t variants, layers;
    int64_t parent[MOST_VARIANTS], start[MOST_VARIANTS];
} tree_t;

static tree_t random_tree(void) {
    tree_t tree = {.variants = 1 + below(MOST_VARIANTS), .layers = 1 + below(MOST_LAYERS)};
    for (int64_t v = 0; v < tree.variants; v++) {
        tree.parent[v] = below(4) == 0 ? -1 : below(v + 1) - 1;
        tree.start[v] = tree.parent[v] < 0 ? 0 : below(tree.layers + 1);
    }
    return tree;
}

/* The variant after which an edit is named: equal names, equal layers. */
static int64_t name_of(const tree_t *tree, int64_t variant, int64_t layer) {
    while (layer < tree->start[variant])
        variant = tree->parent[variant];
    return variant;
}

static bool agree_below(const tree_t *tree, int64_t a, int64_t b, int64_t layer) {
    for (int64_t l = 0; l < layer; l++)
        if (name_of(tree, a, l) != name_of(tree, b, l))
            return false;
    return true;
}

/* Goes through the variants as one rank does. */
static void simulate(const tree_t *tree, const lode_plan_t *plan, int64_t first_layer,
                     int64_t layer_end, int64_t slots) {
    int64_t holds[MOST_VARIANTS][2]; /* variant and layer of the states in each slot */
    memset(holds, -1, sizeof holds);
    assert_true(lode_plan_slots(plan, first_layer, layer_end) <= slots);
    for (int64_t v = plan->first; v < plan->end; v++) {
        const int64_t p = plan->parent[v], s = plan->start[v];
        assert_true(p < 0 ? s == 0 : p >= plan->first && p < v && s > plan->start[p]);
        if (p >= 0)
            assert_true(agree_below(tree, v, p, s));
        for (int64_t l = first_layer > s ? first_layer : s; l < layer_end; l++) {
            if (l == s && p >= 0) { /* reads its parent's states */
                const int64_t slot = lode_plan_slot(plan, p, l);
                assert_in_range(slot, 0, slots - 1);
                assert_true(holds[slot][0] == p && holds[slot][1] == l);
            }
            const int64_t own = l > s || p < 0 ? lode_plan_slot(plan, v, l) : -1;
            if (own < 0)
                continue;
            assert_in_range(own, 0, slots - 1);
            if (p >= 0 && s >= first_layer && s < layer_end)
                assert_true(own != lode_plan_slot(plan, p, s)); /* which is being read */
            holds[own][0] = v;
            holds[own][1] = l;
        }
    }
}

/* Layers that are computed. */
static int64_t cost(const lode_plan_t *plan) {
    int64_t layers = 0;
    for (int64_t v = plan->first; v < plan->end; v++)
        layers += plan->layers - plan->start[v];
    return layers;
}

/* The fewest: a variant's layers from the first that no earlier variant agrees with as far. */
static int64_t least_cost(const tree_t *tree, int64_t first, int64_t end) {
    int64_t layers = 0;
    for (int64_t v = first; v < end; v++) {
        int64_t longest = 0, p = v, s = tree->layers;
        while (p >= 0) { /* ancestors alone are known to agree */
            s = s < tree->start[p] ? s : tree->start[p];
            p = tree->parent[p];
            if (p >= first && s > longest)
                longest = s;
        }
        layers += tree->layers - longest;
    }
    return layers;
}

static void random_plans(void **state) {
    (void)state;
    key = lode_random_key(11, "plans", 0, 0);
    int64_t demoted = 0;
    for (int round = 0; round < 3000; round++) {
        const tree_t tree = random_tree();
        const int stages = 1 + (int)below(tree.layers < MOST_STAGES ? tree.layers : MOST_STAGES);
        int64_t layer_end[MOST_STAGES], slots[MOST_STAGES], plenty[MOST_STAGES];
        for (int s = 0; s < stages; s++) {
            layer_end[s] = (s + 1) * tree.layers / stages;
            slots[s] = below(MOST_SLOTS + 1);
            plenty[s] = INT64_MAX;
        }
        const int64_t first = below(tree.variants), end = first + 1 + below(tree.variants - first);
        lode_plan_t plan, ample;
        LODE_ASSERT_OK(lode_plan_create(&plan, first, end, tree.parent, tree.start, tree.layers,
                                        stages, layer_end, slots));
        LODE_ASSERT_OK(lode_plan_create(&ample, first, end, tree.parent, tree.start, tree.layers,
                                        stages, layer_end, plenty));
        for (int s = 0; s < stages; s++) {
            const int64_t begin = s > 0 ? layer_end[s - 1] : 0;
            simulate(&tree, &plan, begin, layer_end[s], slots[s]);
            simulate(&tree, &ample, begin, layer_end[s], MOST_VARIANTS);
        }
        assert_int_equal(cost(&ample), least_cost(&tree, first, end));
        assert_true(cost(&plan) >= cost(&ample));
        demoted += cost(&plan) > cost(&ample);
        int64_t messages = 0;
        for (int64_t v = first; v < end; v++)
            messages += plan.start[v] < layer_end[0];
        assert_int_equal(lode_plan_count_below(&plan, layer_end[0]), messages);
        lode_plan_destroy(&plan);
        lode_plan_destroy(&ample);
    }
    assert_in_range(demoted, 200, 3000); /* memory was short often enough to tell */
}

/* Where the states before the layer asked for cannot be kept, those before an earlier one are used:
 * here the second stage has no memory. */
static void earlier_layer(void **state) {
    (void)state;
    const int64_t parent[] = {-1, 0, 0, 0}, start[] = {0, 5, 2, 6};
    const int64_t layer_end[] = {3, 6}, slots[] = {1, 0};
    lode_plan_t plan;
    LODE_ASSERT_OK(lode_plan_create(&plan, 0, 4, parent, start, 6, 2, layer_end, slots));
    assert_int_equal(plan.start[1], 2); /* the last layer before which the first stage keeps */
    assert_int_equal(plan.start[2], 2);
    assert_int_equal(plan.start[3], 6); /* equal variants need no memory */
    assert_int_equal(plan.state_count, 1);
    lode_plan_destroy(&plan);
    LODE_ASSERT_OK(lode_plan_create(&plan, 0, 4, NULL, NULL, 6, 2, layer_end, slots));
    for (int64_t v = 0; v < 4; v++)
        assert_true(plan.parent[v] == -1 && plan.start[v] == 0);
    assert_int_equal(lode_plan_slot(&plan, 0, 2), -1);
    lode_plan_destroy(&plan);
}

/* Every variant of every micro-batch is computed by one replica, and none has much more to do. */
static void replicas(void **state) {
    (void)state;
    enum { BATCHES = 9, VARIANTS = 7, REPLICAS = 12 };
    const int64_t start[VARIANTS] = {0, 0, 4, 2, 0, 3, 0};
    for (int64_t batches = 0; batches <= BATCHES; batches++)
        for (int64_t variants = 1; variants <= VARIANTS; variants++)
            for (int count = 1; count <= REPLICAS; count++) {
                int seen[BATCHES][VARIANTS] = {{0}};
                int64_t most = 0;
                for (int r = 0; r < count; r++) {
                    lode_plan_share_t share;
                    LODE_ASSERT_OK(lode_plan_divide(&share, batches, variants, start, 4, count, r));
                    for (int64_t i = 0; i < share.whole; i++)
                        for (int64_t v = 0; v < variants; v++)
                            seen[i * count + r][v]++;
                    assert_true((share.part_batch >= 0) == (share.part_end > share.part_first));
                    for (int64_t v = share.part_first; v < share.part_end; v++)
                        seen[share.part_batch][v]++;
                    const int64_t work = share.whole * variants + share.part_end - share.part_first;
                    most = work > most ? work : most;
                }
                for (int64_t b = 0; b < batches; b++)
                    for (int64_t v = 0; v < variants; v++)
                        assert_int_equal(seen[b][v], 1);
                assert_true(most <= (batches + count - 1) / count * variants);
                if (batches == 1 && count >= variants)
                    assert_true(most <= 2); /* the equal variant goes with another */
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_plans),
        cmocka_unit_test(earlier_layer),
        cmocka_unit_test(replicas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
