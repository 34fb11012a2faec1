/* The margin rules of the golden comparison: what they accept, and that they can fail. */
#include "testing/cmocka_all.h"
#include "testing/margin.h"

#include <math.h>

/* Channels 1 and 4 are 5e-5 apart, everything else at least 1 %. Order: 3 1 4 0 5 2. */
static const double scores[6] = {5.0, 8.0, 1.0, 9.0, 7.9996, 3.0};
static const lode_margin_scores_t plain = {.scores = scores, .m = 6, .tolerance = 1e-4};

static lode_margin_t list(const int32_t *got, int64_t count, const int32_t *want) {
    return lode_margin_list("list", got, count, want, count, &plain);
}

static lode_margin_t mask(const uint8_t *got, const uint8_t *want) {
    return lode_margin_mask("mask", got, 6, want, &plain);
}

static void list_accepts_equal_and_swaps_inside_the_margin(void **state) {
    (void)state;
    const int32_t want[3] = {3, 1, 4}, order[3] = {3, 4, 1};
    assert_true(list(want, 3, want).equal);
    assert_int_equal(list(want, 3, want).swapped, 0);
    lode_margin_t result = list(order, 3, want);
    assert_true(result.equal);
    assert_int_equal(result.swapped, 2);
    assert_true(result.worst > 4e-5 && result.worst < 6e-5);
    const int32_t short_want[2] = {3, 1}, member[2] = {3, 4};
    assert_true(list(member, 2, short_want).equal);
    assert_int_equal(list(member, 2, short_want).swapped, 1);
}

static void list_rejects_swaps_outside_the_margin(void **state) {
    (void)state;
    const int32_t want[3] = {3, 1, 4}, order[3] = {1, 3, 4}, member[3] = {3, 1, 0};
    assert_false(list(order, 3, want).equal);
    assert_false(list(member, 3, want).equal);
    assert_true(list(member, 3, want).worst > 0.1);
    const lode_margin_scores_t tight = {.scores = scores, .m = 6, .tolerance = 4e-5};
    const int32_t close[3] = {3, 4, 1};
    assert_false(lode_margin_list("list", close, 3, want, 3, &tight).equal);
}

/* Neighbours are all inside the margin, but the best channel is not near the boundary. */
static void list_rejects_a_drop_hidden_in_a_chain(void **state) {
    (void)state;
    const double chain[4] = {1.0, 0.99993, 0.99986, 0.99979};
    const lode_margin_scores_t decided = {.scores = chain, .m = 4, .tolerance = 1e-4};
    const int32_t want[3] = {0, 1, 2}, shifted[3] = {1, 2, 3}, last[3] = {0, 1, 3};
    assert_false(lode_margin_list("chain", shifted, 3, want, 3, &decided).equal);
    assert_true(lode_margin_list("chain", last, 3, want, 3, &decided).equal);
}

static void list_rejects_malformed(void **state) {
    (void)state;
    const int32_t want[3] = {3, 1, 4}, twice[3] = {3, 1, 1}, negative[3] = {3, 1, -1},
                  beyond[3] = {3, 1, 6};
    assert_false(list(twice, 3, want).equal);
    assert_false(list(negative, 3, want).equal);
    assert_false(list(beyond, 3, want).equal);
    assert_false(lode_margin_list("list", want, 2, want, 3, &plain).equal);
    assert_false(lode_margin_list("list", want, 3, want, 2, &plain).equal);
    const double specials[3] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        double bad[6] = {5.0, 8.0, specials[i], 9.0, 7.9996, 3.0};
        const lode_margin_scores_t decided = {.scores = bad, .m = 6, .tolerance = INFINITY};
        assert_false(lode_margin_list("list", want, 3, want, 3, &decided).equal);
        const uint8_t keep[6] = {1, 1, 0, 1, 1, 1};
        assert_false(lode_margin_mask("mask", keep, 6, keep, &decided).equal);
    }
}

static void list_knows_who_cannot_be_selected(void **state) {
    (void)state;
    const uint8_t excluded[6] = {0, 1, 0, 0, 0, 0};
    const lode_margin_scores_t decided = {
        .scores = scores, .m = 6, .excluded = excluded, .tolerance = 1e-4};
    /* 1 is 5e-5 from 4, but excluded: nothing that may come in is near */
    const int32_t want[2] = {3, 4}, got[2] = {3, 1}, other[2] = {3, 0};
    assert_false(lode_margin_list("list", got, 2, want, 2, &decided).equal);
    assert_false(lode_margin_list("list", other, 2, want, 2, &decided).equal);
    assert_true(lode_margin_list("list", want, 2, want, 2, &decided).equal);
}

static void mask_accepts_a_swap_inside_the_margin_only(void **state) {
    (void)state;
    /* the four smallest are 2 5 0 4 */
    const uint8_t want[6] = {0, 1, 0, 1, 0, 0}, close[6] = {0, 0, 0, 1, 1, 0},
                  far[6] = {1, 0, 0, 1, 0, 0}, best[6] = {0, 1, 0, 0, 1, 0};
    assert_true(mask(want, want).equal);
    lode_margin_t result = mask(close, want);
    assert_true(result.equal);
    assert_int_equal(result.swapped, 2);
    assert_false(mask(far, want).equal);
    assert_false(mask(best, want).equal);
}

static void mask_rejects_malformed(void **state) {
    (void)state;
    const uint8_t want[6] = {0, 1, 0, 1, 0, 0}, more[6] = {0, 1, 0, 1, 1, 0},
                  fewer[6] = {0, 0, 0, 1, 0, 0}, two[6] = {0, 2, 0, 0, 0, 0};
    assert_false(mask(more, want).equal);
    assert_false(mask(fewer, want).equal);
    assert_false(mask(two, want).equal);
    assert_false(lode_margin_mask("mask", want, 5, want, &plain).equal);
}

static void mask_keeps_protected_channels(void **state) {
    (void)state;
    const uint8_t excluded[6] = {0, 0, 0, 0, 1, 0};
    const lode_margin_scores_t decided = {
        .scores = scores, .m = 6, .excluded = excluded, .tolerance = 1e-4};
    const uint8_t want[6] = {0, 0, 0, 1, 1, 0}, got[6] = {0, 1, 0, 1, 0, 0};
    assert_true(lode_margin_mask("mask", want, 6, want, &decided).equal);
    assert_false(lode_margin_mask("mask", got, 6, want, &decided).equal);
}

/* A channel whose score is known to differ may go anywhere; one place of the order follows it. */
static void mask_lets_an_excused_channel_move_the_boundary_by_one(void **state) {
    (void)state;
    const uint8_t excused[6] = {0, 0, 1, 0, 0, 0};
    const lode_margin_scores_t decided = {
        .scores = scores, .m = 6, .excused = excused, .tolerance = 1e-4};
    /* 2 removed, then 5 in its place (the next), then 0 (two places away) */
    const uint8_t want[6] = {1, 1, 0, 1, 1, 1}, next[6] = {1, 1, 1, 1, 1, 0},
                  further[6] = {0, 1, 1, 1, 1, 1};
    assert_true(lode_margin_mask("mask", next, 6, want, &decided).equal);
    assert_false(lode_margin_mask("mask", further, 6, want, &decided).equal);
    assert_false(mask(next, want).equal);
}

static void scores_near_zero_are_measured_on_the_largest(void **state) {
    (void)state;
    const double tiny[4] = {1.0, 1e-12, 2e-12, 0.5};
    const lode_margin_scores_t decided = {.scores = tiny, .m = 4, .tolerance = 1e-4};
    const uint8_t want[4] = {1, 0, 1, 1}, got[4] = {1, 1, 0, 1};
    assert_true(lode_margin_mask("mask", got, 4, want, &decided).equal);
    const double small[4] = {1.0, 1e-9, 2e-9, 0.5};
    const lode_margin_scores_t larger = {.scores = small, .m = 4, .tolerance = 1e-4};
    assert_false(lode_margin_mask("mask", got, 4, want, &larger).equal);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_accepts_equal_and_swaps_inside_the_margin),
        cmocka_unit_test(list_rejects_swaps_outside_the_margin),
        cmocka_unit_test(list_rejects_a_drop_hidden_in_a_chain),
        cmocka_unit_test(list_rejects_malformed),
        cmocka_unit_test(list_knows_who_cannot_be_selected),
        cmocka_unit_test(mask_accepts_a_swap_inside_the_margin_only),
        cmocka_unit_test(mask_rejects_malformed),
        cmocka_unit_test(mask_keeps_protected_channels),
        cmocka_unit_test(mask_lets_an_excused_channel_move_the_boundary_by_one),
        cmocka_unit_test(scores_near_zero_are_measured_on_the_largest),
    };
    return cmocka_run_group_tests_name("check_rules", tests, NULL, NULL);
}
