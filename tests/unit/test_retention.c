/* score/retention and score/match: figures by hand, other types and layouts of the same values, and
 * matches against the definition. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "score/match.h"
#include "score/retention.h"
#include "testing/compare.h"

static lode_tensor_t matrix(const float *data, int64_t rows, int64_t columns) {
    return lode_tensor_matrix(data, LODE_DTYPE_F32, rows, columns);
}

/* The same matrix from its transpose. */
static lode_tensor_t turned(float *room, const float *data, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows * columns; i++)
        room[i % columns * rows + i / columns] = data[i];
    lode_tensor_t tensor = lode_tensor_matrix(room, LODE_DTYPE_F32, rows, columns);
    tensor.pitch = rows;
    tensor.transposed = true;
    return tensor;
}

enum { M = 4, D = 2 };

static const float gate[M * D] = {1, 2, 3, 4, 5, 6, 7, 8};
static const float up[M * D] = {1, 0, 2, 0, 3, 1, 4, 1};
static const float down[D * M] = {1, 2, 3, 4, 0, 1, 1, 0};

/* Channel 0 as it was, 1 with a weight of its up row changed and one zeroed, 2 without a gate row,
 * 3 without a write vector, of which one element was zero before. */
static void test_changed_channels(void **state) {
    (void)state;
    const float gate_now[] = {1, 2, 3, 4, 0, 0, 7, 8};
    const float up_now[] = {1, 0, 2.5f, 0, 3, 1, 4, 1}, down_now[] = {1, 2, 3, 0, 0, 0, 1, 0};
    float room[6][M * D];
    for (int transposed = 0; transposed < 2; transposed++) {
        const lode_tensor_t before[] = {
            transposed ? turned(room[0], gate, M, D) : matrix(gate, M, D),
            transposed ? turned(room[1], up, M, D) : matrix(up, M, D),
            transposed ? turned(room[2], down, D, M) : matrix(down, D, M)};
        const lode_tensor_t after[] = {
            transposed ? turned(room[3], gate_now, M, D) : matrix(gate_now, M, D),
            transposed ? turned(room[4], up_now, M, D) : matrix(up_now, M, D),
            transposed ? turned(room[5], down_now, D, M) : matrix(down_now, D, M)};
        lode_retention_channel_t channel[M];
        LODE_ASSERT_OK(lode_retention_block(
            channel, (lode_retention_block_t){&before[0], &before[1], &before[2]},
            (lode_retention_block_t){&after[0], &after[1], &after[2]}, NULL));
        static const lode_retention_channel_t want[M] = {
            {.weight = 7, .error = 0, .zeros = 2, .changed = 0},
            {.weight = 34, .error = 1.25, .zeros = 2, .changed = 2},
            {.weight = 81, .error = 61, .zeros = 2, .changed = 2, .zeroed = true},
            {.weight = 146, .error = 16, .zeros = 2, .changed = 1, .zeroed = true}};
        for (int j = 0; j < M; j++) {
            assert_true(channel[j].weight == want[j].weight);
            assert_true(channel[j].error == want[j].error);
            assert_int_equal(channel[j].zeros, want[j].zeros);
            assert_int_equal(channel[j].changed, want[j].changed);
            assert_int_equal(channel[j].zeroed, want[j].zeroed);
            assert_false(channel[j].removed);
        }
    }
}

/* Channels 3 and 1 alone, in this order, of a model without a gate and in another type. */
static void test_removed_channels(void **state) {
    (void)state;
    const uint16_t up_half[] = {0x4400, 0x3c00, 0x4000, 0};   /* 4, 1, 2, 0 */
    const uint16_t down_half[] = {0x4400, 0x4000, 0, 0x3c00}; /* 4, 2, 0, 1 */
    const int32_t place[M] = {-1, 1, -1, 0};
    const lode_tensor_t none = {0}, before[] = {matrix(up, M, D), matrix(down, D, M)};
    const lode_tensor_t after[] = {lode_tensor_matrix(up_half, LODE_DTYPE_F16, 2, D),
                                   lode_tensor_matrix(down_half, LODE_DTYPE_F16, D, 2)};
    lode_retention_channel_t channel[M];
    LODE_ASSERT_OK(
        lode_retention_block(channel, (lode_retention_block_t){&none, &before[0], &before[1]},
                             (lode_retention_block_t){&none, &after[0], &after[1]}, place));
    for (int j = 0; j < M; j++) {
        const bool removed = place[j] < 0;
        assert_int_equal(channel[j].removed, removed);
        assert_false(channel[j].zeroed);
        assert_true(channel[j].error == (removed ? channel[j].weight : 0));
        assert_int_equal(channel[j].changed > 0, removed);
    }
    assert_int_equal(channel[0].zeros, 4);
    assert_int_equal(channel[1].zeros, 1);
    lode_retention_share_t share = {0};
    assert_true(isnan(lode_retention_error(&share)) && isnan(lode_retention_zeros(&share)));
    lode_retention_add_channel(&share, &channel[0], 2 * D); /* 1 0 | 1 0 */
    lode_retention_add_channel(&share, &channel[1], 2 * D); /* 2 0 | 2 1 */
    assert_true(lode_retention_error(&share) == sqrt(2.0 / 11.0));
    assert_true(lode_retention_zeros(&share) == 5.0 / 8.0);
}

static void test_whole_matrices(void **state) {
    (void)state;
    float now[M * D], room[M * D];
    memcpy(now, gate, sizeof now);
    now[3] = 0;
    now[6] += 2;
    const lode_tensor_t before = matrix(gate, M, D), after = turned(room, now, M, D);
    const lode_tensor_t other = matrix(now, D, M);
    lode_retention_share_t share = {0};
    LODE_ASSERT_OK(lode_retention_add_matrix(&share, &before, &after, "q_proj"));
    assert_true(share.weight == 204 && share.error == 20);
    assert_int_equal(share.zeros, 1);
    assert_int_equal(share.elements, M * D);
    LODE_ASSERT_FAILS(lode_retention_add_matrix(&share, &before, &other, "q_proj"), LODE_ERR_SHAPE,
                      "q_proj is [2, 4]");
    now[0] = NAN;
    const lode_tensor_t broken = matrix(now, M, D);
    LODE_ASSERT_FAILS(lode_retention_add_matrix(&share, &before, &broken, "q_proj"),
                      LODE_ERR_NUMERIC, "q_proj[0, 0]");
}

/* --- matching -------------------------------------------------------------------------------- */

enum { CHANNELS = 37, KEPT = 23, WIDTH = 9 };

typedef struct layer {
    float gate[CHANNELS * WIDTH], up[CHANNELS * WIDTH];
    lode_tensor_t gate_tensor, up_tensor;
} layer_t;

static uint64_t counter; /* of random numbers that are drawn */

static float draw(void) {
    return (float)lode_random_uniform(7, counter++);
}

static void fill(float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        values[i] = draw() - 0.5f;
}

static lode_match_rows_t rows_of(layer_t *layer, int64_t channels, bool gated) {
    layer->gate_tensor = gated ? matrix(layer->gate, channels, WIDTH) : (lode_tensor_t){0};
    layer->up_tensor = matrix(layer->up, channels, WIDTH);
    return (lode_match_rows_t){&layer->gate_tensor, &layer->up_tensor};
}

/* Cosine similarity of channel i of a and j of b. */
static double similarity_of(const layer_t *a, int64_t i, const layer_t *b, int64_t j, bool gated) {
    double product = 0, left = 0, right = 0;
    for (int64_t k = 0; k < 2 * WIDTH; k++) {
        if (k < WIDTH && !gated)
            continue;
        const double x = (k < WIDTH ? a->gate : a->up)[i * WIDTH + k % WIDTH];
        const double y = (k < WIDTH ? b->gate : b->up)[j * WIDTH + k % WIDTH];
        product += x * y;
        left += x * x;
        right += y * y;
    }
    return product / sqrt(left * right);
}

/* The definition: the best pair of free channels, again and again. */
static void match_greedily(int32_t *match, const layer_t *original, const layer_t *version,
                           bool gated) {
    bool taken[CHANNELS] = {false};
    for (int64_t i = 0; i < KEPT; i++)
        match[i] = -1;
    for (int64_t pair = 0; pair < KEPT; pair++) {
        double best = -2;
        int64_t left = -1, right = -1;
        for (int64_t i = 0; i < KEPT; i++)
            for (int64_t j = 0; j < CHANNELS && match[i] < 0; j++) {
                const double s = similarity_of(version, i, original, j, gated);
                if (!taken[j] && s > best) {
                    best = s;
                    left = i;
                    right = j;
                }
            }
        match[left] = (int32_t)right;
        taken[right] = true;
    }
}

/* Channels that have nothing to do with the original's: everybody wants the same ones. */
static void test_match_is_greedy(void **state) {
    (void)state;
    static layer_t original, version;
    for (int gated = 0; gated < 2; gated++)
        for (int round = 0; round < 20; round++) {
            int32_t got[KEPT], want[KEPT];
            double similarity[KEPT];
            fill(original.gate, CHANNELS * WIDTH);
            fill(original.up, CHANNELS * WIDTH);
            fill(version.gate, KEPT * WIDTH);
            fill(version.up, KEPT * WIDTH);
            match_greedily(want, &original, &version, gated);
            LODE_ASSERT_OK(lode_match_channels(got, similarity, rows_of(&original, CHANNELS, gated),
                                               rows_of(&version, KEPT, gated)));
            for (int i = 0; i < KEPT; i++) {
                assert_int_equal(got[i], want[i]);
                assert_true(fabs(similarity[i] -
                                 similarity_of(&version, i, &original, want[i], gated)) < 1e-6);
            }
        }
}

/* Kept channels in their order, rounded a little, the last one empty; two of the original's are the
 * same, and the lower one of the version's gets the lower one of these. */
static void test_match_finds_kept(void **state) {
    (void)state;
    static layer_t original, version;
    int32_t got[KEPT];
    double similarity[KEPT];
    fill(original.gate, CHANNELS * WIDTH);
    fill(original.up, CHANNELS * WIDTH);
    memcpy(original.gate + 5 * WIDTH, original.gate + 3 * WIDTH, WIDTH * sizeof(float));
    memcpy(original.up + 5 * WIDTH, original.up + 3 * WIDTH, WIDTH * sizeof(float));
    for (int64_t i = 0; i < KEPT - 1; i++)
        for (int64_t k = 0; k < WIDTH; k++) {
            const bool copied = i + 2 == 3 || i + 2 == 5;
            const float factor = copied ? 1 : 1 + 0.05f * draw();
            version.gate[i * WIDTH + k] = factor * original.gate[(i + 2) * WIDTH + k];
            version.up[i * WIDTH + k] = factor * original.up[(i + 2) * WIDTH + k];
        }
    LODE_ASSERT_OK(lode_match_channels(got, similarity, rows_of(&original, CHANNELS, true),
                                       rows_of(&version, KEPT, true)));
    for (int i = 0; i < KEPT - 1; i++) {
        assert_int_equal(got[i], i + 2);
        assert_true(similarity[i] > 0.99 && similarity[i] <= 1);
    }
    assert_int_equal(got[KEPT - 1], -1);
    assert_true(isnan(similarity[KEPT - 1]));
    assert_true(lode_match_memory(CHANNELS, KEPT, WIDTH) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changed_channels), cmocka_unit_test(test_removed_channels),
        cmocka_unit_test(test_whole_matrices), cmocka_unit_test(test_match_is_greedy),
        cmocka_unit_test(test_match_finds_kept)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
