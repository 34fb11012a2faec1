/* score/spike: scales, ties, and which weight is called super, over layers that are computed from
 * small matrices. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "score/spike.h"
#include "testing/compare.h"

enum { TOKENS = 6, CHANNELS = 40, WIDTH = 30, LAYERS = 4 };

static const lode_spike_limits_t relative = {.relative = true, .ratio = 30, .product = 0.3};
static const lode_spike_limits_t absolute = {.absolute = 50, .product = 0.3};

/* One layer: u [TOKENS, CHANNELS] and w [WIDTH, CHANNELS]. */
typedef struct layer {
    float u[TOKENS][CHANNELS], w[WIDTH][CHANNELS];
} layer_t;

static void fill(float *values, int64_t count, float size, uint64_t key) {
    for (int64_t i = 0; i < count; i++)
        values[i] = size * (float)(2 * lode_random_uniform(key, (uint64_t)i) - 1);
}

static void fill_layers(layer_t *layers, int count) {
    for (int l = 0; l < count; l++) {
        fill(&layers[l].u[0][0], (int64_t)TOKENS * CHANNELS, 1, lode_random_key(1, "u", l, 0));
        fill(&layers[l].w[0][0], (int64_t)WIDTH * CHANNELS, 0.05F, lode_random_key(1, "w", l, 0));
    }
}

/* What the stage makes of a layer. */
static lode_spike_layer_t look(const layer_t *layer) {
    float y[TOKENS][WIDTH];
    lode_spike_layer_t seen = {0};
    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < WIDTH; i++) {
            double sum = 0;
            for (int k = 0; k < CHANNELS; k++)
                sum += (double)layer->u[t][k] * (double)layer->w[i][k];
            y[t][i] = (float)sum;
        }
    seen.input = lode_spike_of(&layer->u[0][0], TOKENS, CHANNELS);
    seen.output = lode_spike_of(&y[0][0], TOKENS, WIDTH);
    LODE_ASSERT_OK(
        lode_spike_scale(&seen.input_scale, &layer->u[0][0], TOKENS, CHANNELS, seen.output.token));
    LODE_ASSERT_OK(
        lode_spike_scale(&seen.output_scale, &y[0][0], TOKENS, WIDTH, seen.output.token));
    const float *u = layer->u[seen.output.token], *w = layer->w[seen.output.index];
    seen.channel = (int32_t)lode_spike_channel(u, w, CHANNELS);
    seen.activation = (double)u[seen.channel];
    seen.weight = (double)w[seen.channel];
    return seen;
}

/* Looks, takes a weight out, and looks again, as the stage does; returns how many were found.
 * found [8][3]: layer, row, channel. */
static int search(layer_t *layers, int count, const lode_spike_limits_t *rule,
                  int32_t found[8][3]) {
    for (int n = 0; n < 8; n++) {
        lode_spike_layer_t seen[LAYERS];
        lode_spike_place_t place;
        for (int l = 0; l < count; l++)
            seen[l] = look(&layers[l]);
        if (!lode_spike_choose(&place, seen, 1, count, rule))
            return n;
        found[n][0] = (int32_t)place.layer;
        found[n][1] = seen[place.layer].output.index;
        found[n][2] = seen[place.layer].channel;
        layers[place.layer].w[found[n][1]][found[n][2]] = 0;
    }
    return 8;
}

static void assert_found(const int32_t found[3], int32_t layer, int32_t row, int32_t channel) {
    assert_int_equal(found[0], layer);
    assert_int_equal(found[1], row);
    assert_int_equal(found[2], channel);
}

static void test_spike_of(void **state) {
    (void)state;
    const float values[] = {1, -3, 2, 3, -3, NAN};
    const lode_spike_t spike = lode_spike_of(values, 2, 3);
    assert_float_equal(spike.value, -3, 0);
    assert_int_equal(spike.token, 0);
    assert_int_equal(spike.index, 1);
    const lode_spike_t second = lode_spike_of(values + 2, 2, 2); /* 2 3 / −3 NaN */
    assert_int_equal(second.token, 0);
    assert_int_equal(second.index, 1);
    assert_float_equal(lode_spike_of(values, 0, 3).value, 0, 0);
}

static int by_magnitude(const void *a, const void *b) {
    const double x = fabs((double)*(const float *)a), y = fabs((double)*(const float *)b);
    return (x > y) - (x < y);
}

/* Against sorting, with many equal values and both signs. */
static void test_scale(void **state) {
    (void)state;
    const int64_t counts[] = {1, 2, 3, 99, 100, 1000};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        float values[1000], sorted[1000];
        const int64_t count = counts[c];
        int64_t zeros = 0;
        fill(values, count, 1, lode_random_key(2, "scale", (int64_t)c, 0));
        for (int64_t i = 2; i < count; i += 3)
            values[i] = i % 2 ? -0.875F : i % 4 ? 0 : 0.875F;
        for (int64_t i = 0; i < count; i++)
            zeros += values[i] == 0;
        if (count > 4)
            values[4] = 1e30F;
        memcpy(sorted, values, sizeof values);
        qsort(sorted, (size_t)count, sizeof *sorted, by_magnitude);
        double scale;
        LODE_ASSERT_OK(lode_spike_scale(&scale, values, 1, count, 0));
        assert_float_equal(scale, fabsf(sorted[zeros + (count - zeros) / 2]), 0);
    }
    const float rows[] = {1, 2, 3, 4, 20, 30, 0, 2, 2};
    double scale;
    LODE_ASSERT_OK(lode_spike_scale(&scale, rows, 3, 3, 0));
    assert_float_equal(scale, 3, 0); /* the layer's: 1 2 2 2 3 4 20 30 */
    LODE_ASSERT_OK(lode_spike_scale(&scale, rows, 3, 3, 1));
    assert_float_equal(scale, 20, 0);
    LODE_ASSERT_OK(lode_spike_scale(&scale, NULL, 4, 0, 1));
    assert_float_equal(scale, 0, 0);
    assert_true(isinf(lode_spike_ratio(1, 0)));
    assert_float_equal(lode_spike_ratio(0, 0), 0, 0);
}

static void test_nothing(void **state) {
    (void)state;
    layer_t layers[LAYERS];
    int32_t found[8][3];
    fill_layers(layers, LAYERS);
    assert_int_equal(search(layers, LAYERS, &relative, found), 0);
    assert_int_equal(search(layers, LAYERS, &absolute, found), 0);
    layers[1].u[2][3] = 5000; /* an input spike alone, spread over all rows */
    for (int i = 0; i < WIDTH; i++)
        layers[1].w[i][3] = 0.001F;
    assert_int_equal(search(layers, LAYERS, &relative, found), 0);
}

/* One weight; its sign does not matter. */
static void test_single(void **state) {
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        layer_t layers[LAYERS];
        int32_t found[8][3];
        fill_layers(layers, LAYERS);
        layers[2].u[4][7] = 900;
        layers[2].w[11][7] = (float)sign * 2;
        assert_int_equal(search(layers, LAYERS, &relative, found), 1);
        assert_found(found[0], 2, 11, 7);
        layers[2].w[11][7] = (float)sign * 2;
        assert_int_equal(search(layers, LAYERS, &absolute, found), 1);
        assert_found(found[0], 2, 11, 7);
    }
}

/* Two channels that feed one row, and one channel that feeds three rows. */
static void test_several_of_a_layer(void **state) {
    (void)state;
    layer_t layers[LAYERS];
    int32_t found[8][3];
    fill_layers(layers, LAYERS);
    layers[1].u[3][5] = 700;
    layers[1].u[3][9] = 690;
    layers[1].w[8][5] = layers[1].w[8][9] = 2;
    assert_int_equal(search(layers, LAYERS, &relative, found), 2);
    assert_found(found[0], 1, 8, 5);
    assert_found(found[1], 1, 8, 9);
    fill_layers(layers, LAYERS);
    layers[1].u[3][5] = 2000;
    layers[1].w[8][5] = 2;
    layers[1].w[20][5] = -3;
    layers[1].w[2][5] = 2.5F;
    assert_int_equal(search(layers, LAYERS, &relative, found), 3);
    assert_found(found[0], 1, 20, 5);
    assert_found(found[1], 1, 2, 5);
    assert_found(found[2], 1, 8, 5);
}

static void test_two_layers(void **state) {
    (void)state;
    layer_t layers[LAYERS];
    int32_t found[8][3];
    fill_layers(layers, LAYERS);
    layers[3].u[0][1] = 4000; /* the larger one, and later */
    layers[3].w[6][1] = 4;
    layers[0].u[5][2] = 600;
    layers[0].w[9][2] = 2;
    assert_int_equal(search(layers, LAYERS, &relative, found), 2);
    assert_found(found[0], 0, 9, 2);
    assert_found(found[1], 3, 6, 1);
}

/* Each condition by itself, and a layer that fails one is passed over. */
static void test_conditions(void **state) {
    (void)state;
    const lode_spike_layer_t sound = {.input = {.value = 500, .token = 2, .index = 7},
                                      .output = {.value = -1000, .token = 2, .index = 3},
                                      .input_scale = 1,
                                      .output_scale = 2,
                                      .channel = 7,
                                      .activation = 500,
                                      .weight = -1.9};
    lode_spike_layer_t layers[2] = {sound, sound};
    lode_spike_place_t place;
    assert_true(lode_spike_is_super(&sound, &relative));
    assert_true(lode_spike_is_super(&sound, &absolute));
    layers[0].output_scale = 40; /* 25 times its scale */
    assert_false(lode_spike_is_super(&layers[0], &relative));
    assert_true(lode_spike_choose(&place, layers, 1, 2, &relative));
    assert_int_equal(place.layer, 1);
    layers[0] = sound;
    layers[0].input.token = 1;
    assert_false(lode_spike_is_super(&layers[0], &relative));
    layers[0] = sound;
    layers[0].input_scale = 17;
    assert_false(lode_spike_is_super(&layers[0], &relative));
    assert_true(lode_spike_is_super(&layers[0], &absolute));
    layers[0] = sound;
    layers[0].weight = -0.5; /* a quarter of the spike */
    assert_false(lode_spike_is_super(&layers[0], &relative));
    layers[0].weight = 1.9; /* against it */
    assert_false(lode_spike_is_super(&layers[0], &relative));
    layers[0] = (lode_spike_layer_t){.channel = -1};
    assert_false(lode_spike_is_super(&layers[0], &relative));
    layers[0] = sound;
    layers[0].activation = layers[0].input.value = 40;
    layers[0].weight = -20;
    assert_false(lode_spike_is_super(&layers[0], &absolute));
}

/* Two prompts: the earliest layer of either, then the first prompt. */
static void test_prompts(void **state) {
    (void)state;
    const lode_spike_layer_t sound = {.input = {500, 2, 7},
                                      .output = {1000, 2, 3},
                                      .input_scale = 1,
                                      .output_scale = 1,
                                      .channel = 7,
                                      .activation = 500,
                                      .weight = 2};
    lode_spike_layer_t layers[2][3];
    lode_spike_place_t place = {0};
    for (int i = 0; i < 6; i++)
        layers[i / 3][i % 3] = (lode_spike_layer_t){.channel = -1};
    assert_false(lode_spike_choose(&place, layers[0], 2, 3, &relative));
    layers[0][2] = layers[1][1] = sound;
    assert_true(lode_spike_choose(&place, layers[0], 2, 3, &relative));
    assert_int_equal(place.layer, 1);
    assert_int_equal(place.prompt, 1);
    layers[0][1] = sound;
    assert_true(lode_spike_choose(&place, layers[0], 2, 3, &relative));
    assert_int_equal(place.prompt, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spike_of),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_several_of_a_layer),
        cmocka_unit_test(test_two_layers),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
