/* Micro-batches: which sequences stream together. */
#include "testing/cmocka_all.h"

#include <string.h>

#include "base/random.h"
#include "testing/compare.h"
#include "transformer/batch.h"

enum { MAX_SEQUENCES = 40 };

static lode_text_t text_of(const int64_t *lengths, int64_t count, int64_t *offsets) {
    offsets[0] = 0;
    for (int64_t s = 0; s < count; s++)
        offsets[s + 1] = offsets[s] + lengths[s];
    return (lode_text_t){.sequences = count, .offsets = offsets};
}

static void by_hand(void **state) {
    (void)state;
    /* 100 is longer than a micro-batch; 4 + 6 fill one exactly; 7 + 3 + 1 would be one too many. */
    const int64_t lengths[] = {3, 3, 5, 100, 4, 6, 7, 3, 1, 10, 2};
    const int64_t first[] = {0, 2, 3, 4, 6, 8, 9, 10}, tokens[] = {6, 5, 100, 10, 10, 1, 10, 2};
    const int64_t counts[] = {2, 1, 1, 2, 2, 1, 1, 1};
    int64_t offsets[12];
    const lode_text_t text = text_of(lengths, 11, offsets);
    lode_batches_t batches;
    LODE_ASSERT_OK(lode_batches_create(&batches, &text, 10));
    assert_int_equal(batches.count, 8);
    assert_ptr_equal(batches.text, &text);
    assert_int_equal(batches.max_tokens, 100);
    assert_int_equal(batches.longest, 100);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(batches.batch[i].first_sequence, first[i]);
        assert_int_equal(batches.batch[i].sequences.count, counts[i]);
        assert_int_equal(batches.batch[i].tokens, tokens[i]);
        assert_int_equal(batches.batch[i].first_token, offsets[first[i]]);
    }
    const int64_t want[] = {0, 4, 10};
    assert_memory_equal(batches.batch[3].sequences.offsets, want, sizeof want);
    lode_batches_destroy(&batches);
    assert_true(batches.count == 0 && !batches.batch && !batches.offsets);
}

/* The rule itself, on one text. */
static void check_rule(const lode_batches_t *batches, const lode_text_t *text, int64_t limit) {
    int64_t next = 0, max_tokens = 0, longest = 0;
    for (int64_t i = 0; i < batches->count; i++) {
        const lode_batch_t *b = &batches->batch[i];
        const int64_t end = next + b->sequences.count;
        assert_int_equal(b->first_sequence, next);
        assert_int_equal(b->first_token, text->offsets[next]);
        assert_int_equal(b->tokens, text->offsets[end] - text->offsets[next]);
        assert_true(b->sequences.count >= 1);
        assert_true(b->tokens <= limit || b->sequences.count == 1);
        if (end < text->sequences) /* greedy: the next one would not have fitted */
            assert_true(text->offsets[end + 1] - text->offsets[next] > limit);
        for (int64_t s = next; s <= end; s++)
            assert_int_equal(b->sequences.offsets[s - next],
                             text->offsets[s] - text->offsets[next]);
        for (int64_t s = next; s < end; s++)
            longest = text->offsets[s + 1] - text->offsets[s] > longest
                          ? text->offsets[s + 1] - text->offsets[s]
                          : longest;
        max_tokens = b->tokens > max_tokens ? b->tokens : max_tokens;
        next = end;
    }
    assert_int_equal(next, text->sequences);
    assert_int_equal(batches->max_tokens, max_tokens);
    assert_int_equal(batches->longest, longest);
}

static void at_random(void **state) {
    (void)state;
    const uint64_t key = lode_random_key(2, "micro-batches", 0, 0);
    uint64_t counter = 0;
    for (int64_t count = 0; count <= MAX_SEQUENCES; count++)
        for (int64_t limit = 1; limit < 80; limit += 3) {
            int64_t lengths[MAX_SEQUENCES + 1], offsets[MAX_SEQUENCES + 1];
            for (int64_t s = 0; s < count; s++)
                lengths[s] = 2 + lode_random_below(key, counter++, 30);
            const lode_text_t text = text_of(lengths, count, offsets);
            lode_batches_t batches;
            LODE_ASSERT_OK(lode_batches_create(&batches, &text, limit));
            check_rule(&batches, &text, limit);
            lode_batches_destroy(&batches);
        }
}

/* Ids, targets and weights have no say, and neither has what follows a micro-batch. */
static void nothing_else_counts(void **state) {
    (void)state;
    const int64_t lengths[] = {5, 2, 9, 3, 3, 8, 4, 2};
    int64_t offsets[9];
    int32_t ids[36] = {7}, target[36] = {1};
    double weight[36] = {0.5};
    lode_text_t bare = text_of(lengths, 8, offsets), dressed = bare, shorter = bare;
    dressed.ids = ids;
    dressed.target = target;
    dressed.weight = weight;
    shorter.sequences = 6;
    lode_batches_t a, b, c;
    LODE_ASSERT_OK(lode_batches_create(&a, &bare, 12));
    LODE_ASSERT_OK(lode_batches_create(&b, &dressed, 12));
    LODE_ASSERT_OK(lode_batches_create(&c, &shorter, 12));
    assert_int_equal(a.count, b.count);
    assert_true(c.count > 1 && c.count <= a.count);
    for (int64_t i = 0; i < a.count; i++) {
        assert_int_equal(a.batch[i].first_sequence, b.batch[i].first_sequence);
        assert_int_equal(a.batch[i].tokens, b.batch[i].tokens);
        if (i + 1 < c.count)
            assert_int_equal(a.batch[i].tokens, c.batch[i].tokens);
    }
    lode_batches_destroy(&a);
    lode_batches_destroy(&b);
    lode_batches_destroy(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(at_random),
        cmocka_unit_test(nothing_else_counts),
    };
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
