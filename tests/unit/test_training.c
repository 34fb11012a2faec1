/* The pure parts of training: AdamW, rates, the order of blocks, sums over groups and replicas,
 * normal numbers, and the flat arrays of parameters. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "testing/compare.h"
#include "training/initialise.h"
#include "training/optimizer.h"
#include "training/order.h"
#include "training/reduce.h"
#include "training/schedule.h"
#include "training/views.h"

/* --- optimizer -------------------------------------------------------------------------------- */

/* Ten steps of four weights whose gradients are sin(t·(i + 1))·10⁻ⁱ, at rates of t·1e-3; what is
 * wanted was computed in float64, from the published formulas. */
static void test_adamw(void **state) {
    static const double want_weights[] = {0.48512828033854266, -1.2462593037079026,
                                          1.9884625231964883, 0.0024867379256860974};
    static const double want_first[] = {0.07403764470184818, 0.004713670515811077,
                                        -0.0005132723487353656, 1.6463390314284157e-05};
    static const double want_second[] = {0.19578035310415579, 0.0022120222645926405,
                                         2.1832863898588053e-05, 2.2061006572937789e-07};
    float weights[] = {0.5f, -1.25f, 2, 0}, first[4] = {0}, second[4] = {0}, gradient[4];
    (void)state;
    for (int t = 1; t <= 10; t++) {
        const lode_adamw_t adamw = lode_adamw(1e-3 * t, 0.9, 0.95, 1e-8, 0.5, t);
        for (int i = 0; i < 4; i++) /* twice that, halved by the clipping */
            gradient[i] = (float)(2 * sin(t * (i + 1)) * pow(10, -i));
        lode_adamw_update(&adamw, 0.1, 4, gradient, weights, first, second);
    }
    LODE_ASSERT_CLOSE(lode_compare_f32("weights", weights, 4, want_weights, 4, 1e-8, 1e-6));
    LODE_ASSERT_CLOSE(lode_compare_f32("first", first, 4, want_first, 4, 1e-9, 1e-6));
    LODE_ASSERT_CLOSE(lode_compare_f32("second", second, 4, want_second, 4, 1e-12, 1e-6));
}

/* An element does not depend on what is updated with it. */
static void test_adamw_ranges(void **state) {
    enum { COUNT = 101 };
    float arrays[2][4][COUNT];
    const lode_adamw_t adamw = lode_adamw(1e-3, 0.4, 0.95, 1e-8, 1, 7);
    (void)state;
    for (int a = 0; a < 4; a++)
        lode_normal_fill(arrays[0][a], COUNT, 5 + (uint64_t)a, 1);
    for (int i = 0; i < COUNT; i++)
        arrays[0][3][i] = fabsf(arrays[0][3][i]);
    memcpy(arrays[1], arrays[0], sizeof arrays[0]);
    lode_adamw_update(&adamw, 0.1, COUNT, arrays[0][0], arrays[0][1], arrays[0][2], arrays[0][3]);
    for (int first = 0, count = 1; first < COUNT; first += count, count = count % 7 + 1) {
        const int length = COUNT - first < count ? COUNT - first : count;
        lode_adamw_update(&adamw, 0.1, length, arrays[1][0] + first, arrays[1][1] + first,
                          arrays[1][2] + first, arrays[1][3] + first);
    }
    assert_memory_equal(arrays[0], arrays[1], sizeof arrays[0]);
}

static void test_clip(void **state) {
    (void)state;
    assert_true(lode_clip_factor(3, 0) == 1);
    assert_true(lode_clip_factor(0.5, 1) == 1);
    assert_true(lode_clip_factor(4, 1) == 1 / (4 + 1e-6));
}

/* --- schedules -------------------------------------------------------------------------------- */

static void test_rates(void **state) {
    lode_rate_t rate = {.steps = 110, .warmup = 10, .most = 2, .final = 0.1};
    (void)state;
    assert_true(lode_rate_at(&rate, 1) == 0.2 && lode_rate_at(&rate, 10) == 2);
    assert_true(fabs(lode_rate_at(&rate, 60) - 2 * 0.55) < 1e-15);
    assert_true(fabs(lode_rate_at(&rate, 35) - 2 * (0.1 + 0.9 * (1 + sqrt(0.5)) / 2)) < 1e-15);
    assert_true(fabs(lode_rate_at(&rate, 110) - 0.2) < 1e-15);
    rate.decay = LODE_DECAY_LINEAR;
    assert_true(fabs(lode_rate_at(&rate, 35) - 2 * (0.1 + 0.9 * 0.75)) < 1e-15);
    assert_true(fabs(lode_rate_at(&rate, 110) - 0.2) < 1e-15);
    rate.decay = LODE_DECAY_CONSTANT;
    assert_true(lode_rate_at(&rate, 9) == 1.8 && lode_rate_at(&rate, 110) == 2);
    rate = (lode_rate_t){.steps = 4, .most = 1, .final = 0};
    assert_true(fabs(lode_rate_at(&rate, 2) - 0.5) < 1e-15 && lode_rate_at(&rate, 4) < 1e-15);
    rate.warmup = 4;
    assert_true(lode_rate_at(&rate, 4) == 1);
}

static void test_entropy_weights(void **state) {
    (void)state;
    assert_true(lode_entropy_weight_at(3, LODE_SCHEDULE_CONSTANT, 8, 1) == 3);
    assert_true(lode_entropy_weight_at(3, LODE_SCHEDULE_LINEAR, 8, 2) == 0.75);
    assert_true(lode_entropy_weight_at(3, LODE_SCHEDULE_LINEAR, 8, 8) == 3);
    assert_true(fabs(lode_entropy_weight_at(3, LODE_SCHEDULE_COSINE, 8, 4) - 1.5) < 1e-15);
    assert_true(fabs(lode_entropy_weight_at(3, LODE_SCHEDULE_COSINE, 8, 8)) < 1e-15);
}

/* --- order ------------------------------------------------------------------------------------ */

static void test_order(void **state) {
    enum { BLOCKS = 37, STEPS = 30 };
    int64_t row[4 * STEPS], other[6], again[4];
    lode_order_t order;
    (void)state;
    LODE_ASSERT_OK(lode_order_create(&order, 7, BLOCKS));
    for (int step = 1; step <= STEPS; step++)
        lode_order_take(&order, step, 4, row + 4 * (step - 1));
    for (int epoch = 0; (epoch + 1) * BLOCKS <= 4 * STEPS; epoch++) {
        int seen[BLOCKS] = {0};
        for (int i = 0; i < BLOCKS; i++)
            seen[row[epoch * BLOCKS + i]]++;
        for (int i = 0; i < BLOCKS; i++)
            assert_int_equal(seen[i], 1);
    }
    assert_memory_not_equal(row, row + BLOCKS, BLOCKS * sizeof *row);
    for (int step = 1; step <= 20; step++) { /* of another batch */
        lode_order_take(&order, step, 6, other);
        assert_memory_equal(other, row + 6 * (step - 1), sizeof other);
    }
    lode_order_take(&order, 9, 4, again); /* out of order */
    assert_memory_equal(again, row + 32, sizeof again);
    lode_order_free(&order);
    LODE_ASSERT_OK(lode_order_create(&order, 8, BLOCKS));
    lode_order_take(&order, 1, 4, again);
    assert_memory_not_equal(again, row, sizeof again);
    lode_order_free(&order);
}

/* --- sums ------------------------------------------------------------------------------------- */

enum { GROUPS = 8, ELEMENTS = 40000 };

static float *random_groups(void) {
    float *groups;
    LODE_ASSERT_OK(LODE_NEW(&groups, GROUPS * ELEMENTS, "groups"));
    for (int g = 0; g < GROUPS; g++)
        lode_normal_fill(groups + g * ELEMENTS, ELEMENTS, (uint64_t)g, g % 2 ? 1e-3 : 1);
    return groups;
}

/* The sum of a replica's groups [first, end) into out [ELEMENTS]. */
static void sum_groups(float *out, const float *groups, int first, int end) {
    lode_group_sum_t sum;
    LODE_ASSERT_OK(lode_group_sum_create(&sum, end - first, ELEMENTS));
    for (int step = 0; step < 2; step++) { /* the first is forgotten */
        lode_group_sum_start(&sum);
        for (int g = first; g < end; g++)
            lode_reduce_add(sum.buffer[lode_group_sum_next(&sum)],
                            groups + (step ? g : first) * ELEMENTS, ELEMENTS);
        memcpy(out, sum.buffer[lode_group_sum_end(&sum)], ELEMENTS * sizeof *out);
    }
    lode_group_sum_free(&sum);
}

static void test_sums(void **state) {
    float *groups = random_groups(), *want, *parts, *own;
    (void)state;
    LODE_ASSERT_OK(LODE_NEW(&want, ELEMENTS, "sum"));
    LODE_ASSERT_OK(LODE_NEW(&own, ELEMENTS, "sum"));
    LODE_ASSERT_OK(LODE_NEW(&parts, GROUPS * ELEMENTS, "sums"));
    for (int i = 0; i < ELEMENTS; i++) {
        const float *g = groups + i;
        want[i] = ((g[0] + g[ELEMENTS]) + (g[2 * ELEMENTS] + g[3 * ELEMENTS])) +
                  ((g[4 * ELEMENTS] + g[5 * ELEMENTS]) + (g[6 * ELEMENTS] + g[7 * ELEMENTS]));
    }
    for (int replicas = 1; replicas <= GROUPS; replicas *= 2)
        for (int place = 0; place < replicas; place++) {
            const int each = GROUPS / replicas;
            for (int r = 0; r < replicas; r++) {
                float *to = r == place ? own : parts + (r - (r > place)) * ELEMENTS;
                sum_groups(to, groups, r * each, (r + 1) * each);
            }
            lode_tree_sum(own, place, parts, ELEMENTS, replicas, ELEMENTS);
            assert_memory_equal(own, want, ELEMENTS * sizeof *own);
        }
    free(groups);
    free(want);
    free(own);
    free(parts);
}

/* --- normal numbers --------------------------------------------------------------------------- */

static void test_normal(void **state) {
    enum { COUNT = 200001 };
    double sum[5] = {0};
    int64_t beyond = 0;
    float *x, few[3];
    (void)state;
    LODE_ASSERT_OK(LODE_NEW(&x, COUNT, "numbers"));
    lode_normal_fill(x, COUNT, lode_random_key(1, "numbers", 0, 0), 2);
    lode_normal_fill(few, 3, lode_random_key(1, "numbers", 0, 0), 2);
    assert_memory_equal(x, few, sizeof few);
    for (int64_t i = 0; i < COUNT; i++) {
        const double z = (double)x[i] / 2;
        for (int power = 1; power <= 4; power++)
            sum[power] += pow(z, power) / COUNT;
        sum[0] += i % 2 ? z * (double)x[i - 1] / 2 / COUNT : 0; /* within pairs */
        beyond += fabs(z) > 1.959963985;
    }
    /* Five standard errors of 1/√N, √2/√N, √15/√N, √96/√N. */
    const double error = 5 / sqrt(COUNT);
    assert_true(fabs(sum[1]) < error && fabs(sum[2] - 1) < sqrt(2) * error);
    assert_true(fabs(sum[3]) < sqrt(15) * error && fabs(sum[4] - 3) < sqrt(96) * error);
    assert_true(fabs(sum[0]) < error);
    assert_true(fabs((double)beyond / COUNT - 0.05) < error * sqrt(0.05));
    free(x);
}

/* The pair that Box and Muller make of a draw, from the library's functions. */
static void test_normal_formula(void **state) {
    float x[64];
    (void)state;
    lode_normal_fill(x, 64, 99, 1);
    for (int k = 0; k < 32; k++) {
        const uint64_t bits = lode_random_bits(99, (uint64_t)k);
        const double radius = sqrt(-2 * log(((double)(bits >> 32) + 0.5) * 0x1p-32));
        const double turn = (double)(bits & 0xffffffff) * 0x1p-32 - 0.125;
        assert_true(fabs((double)x[2 * k] - radius * cos(2 * M_PI * turn)) < 1e-6);
        assert_true(fabs((double)x[2 * k + 1] - radius * sin(2 * M_PI * turn)) < 1e-6);
    }
}

/* --- parameters ------------------------------------------------------------------------------- */

static lode_layout_t whole_of(const lode_architecture_t *architecture) {
    lode_layout_t layout;
    LODE_ASSERT_OK(lode_layout_create(&layout, architecture, 8, 1, 0, 1));
    return layout;
}

/* Weights of a checkpoint, by tensor and through the views that are computed with. */
static void check_family(const char *name, bool fused) {
    char folder[200];
    lode_checkpoint_t *checkpoint;
    lode_parameters_t *parameters;
    lode_stack_gradient_t view;
    lode_layer_weights_t want, got;
    float *gradient;
    snprintf(folder, sizeof folder, "tests/golden/families/%s", name);
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
    const lode_architecture_t *architecture = lode_checkpoint_architecture(checkpoint);
    const lode_layout_t layout = whole_of(architecture);
    LODE_ASSERT_OK(lode_parameters_create(&parameters, architecture, &layout));
    LODE_ASSERT_OK(lode_parameters_load(parameters, checkpoint));
    LODE_ASSERT_OK(LODE_NEW(&gradient, parameters->gradients, "gradient"));
    LODE_ASSERT_OK(lode_gradient_view_create(&view, parameters, gradient));
    int64_t counted = 0;
    for (int64_t i = 0; i < parameters->count; i++)
        counted += parameters->list[i].elements;
    assert_int_equal(counted, lode_architecture_parameters(architecture));
    assert_int_equal(parameters->gradients > parameters->elements, architecture->tied);
    LODE_ASSERT_OK(lode_checkpoint_layer(checkpoint, 1, &want));
    LODE_ASSERT_OK(lode_checkpoint_layer(parameters->checkpoint, 1, &got));
    const lode_tensor_t *k = &got.k, *k_want = &want.k;
    assert_int_equal(k->transposed, k_want->transposed);
    for (int64_t i = 0; i < k->shape[0]; i++)
        for (int64_t j = 0; j < k->shape[1]; j++) {
            const int64_t at = k->transposed ? j * k->pitch + i : i * k->pitch + j;
            const int64_t at_want = k->transposed ? j * k_want->pitch + i : i * k_want->pitch + j;
            float value;
            lode_convert(&value,
                         (const char *)k_want->data +
                             (size_t)at_want * lode_dtype_size(k_want->dtype),
                         k_want->dtype, 1);
            assert_true(((const float *)k->data)[at] == value);
        }
    /* K's gradient lies in the array as K among the weights. */
    const lode_gradient_t *place = &view.layer[1].matrix[LODE_MATRIX_K];
    assert_ptr_equal(place->data, gradient + ((const float *)k->data - parameters->weights));
    assert_true(place->pitch == k->pitch && place->transposed == k->transposed);
    int64_t keys = 0; /* tensors that begin with K */
    for (int64_t i = 0; i < parameters->count; i++)
        keys += parameters->list[i].role == LODE_ROLE_K;
    assert_int_equal(keys, fused ? 0 : architecture->layers);
    lode_gradient_view_free(&view);
    free(gradient);
    lode_parameters_destroy(&parameters);
    lode_checkpoint_close(&checkpoint);
}

static void test_parameters(void **state) {
    (void)state;
    check_family("llama", false);
    check_family("phi3", true);
    check_family("gpt2", true);
    check_family("gemma2", false);
}

static const lode_architecture_t small = {.model_type = LODE_MODEL_GEMMA2,
                                          .layers = 3,
                                          .hidden = 96,
                                          .intermediate = 160,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .head_dim = 24,
                                          .vocab = 700,
                                          .max_positions = 64,
                                          .norm_offset = true,
                                          .tied = true};

static double deviation_of(const float *x, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum / (double)count);
}

/* Any layout gives a tensor the same numbers, of the right size. */
static void test_initialise(void **state) {
    const lode_layout_t whole = whole_of(&small);
    lode_parameters_t *all, *part;
    (void)state;
    LODE_ASSERT_OK(lode_parameters_create(&all, &small, &whole));
    lode_parameters_initialise(all, 4, 0.02, true);
    for (int64_t i = 0; i < all->count; i++) {
        const lode_parameter_t *p = &all->list[i];
        const double deviation = deviation_of(all->weights + p->offset, p->elements);
        const double want = p->kind == LODE_PARAMETER_VECTOR                      ? 0
                            : p->role == LODE_ROLE_O || p->role == LODE_ROLE_DOWN ? 0.02 / sqrt(6)
                                                                                  : 0.02;
        assert_true(fabs(deviation - want) <= 0.05 * want);
        assert_int_equal(p->offset % 16, 0);
    }
    for (int rank = 0; rank < 4; rank++) {
        lode_layout_t layout;
        LODE_ASSERT_OK(lode_layout_create(&layout, &small, 8, 4, rank, 1));
        LODE_ASSERT_OK(lode_parameters_create(&part, &small, &layout));
        int64_t elements, gradients;
        LODE_ASSERT_OK(lode_parameters_size(&small, &layout, &elements, &gradients));
        assert_true(elements == part->elements && gradients == part->gradients);
        lode_parameters_initialise(part, 4, 0.02, true);
        for (int64_t i = 0; i < part->count; i++) {
            const lode_parameter_t *p = &part->list[i], *twin = all->list;
            while (twin->index != p->index)
                twin++;
            assert_memory_equal(part->weights + p->offset, all->weights + twin->offset,
                                (size_t)p->elements * sizeof(float));
            assert_int_equal(p->counted, !(rank == 3 && p->role == LODE_ROLE_EMBEDDING));
        }
        assert_int_equal(part->tied >= 0, rank == 0 || rank == 3);
        lode_parameters_destroy(&part);
    }
    lode_parameters_destroy(&all);
}

static void test_memory_checkpoint(void **state) {
    lode_layout_t last;
    lode_parameters_t *parameters;
    lode_layer_weights_t weights;
    lode_tensor_t tensor;
    lode_checkpoint_t *checkpoint;
    const float value = 0;
    const lode_memory_tensor_t unknown = {.name = "model.layers.7.mlp.up.weight", .data = &value};
    (void)state;
    LODE_ASSERT_OK(lode_layout_create(&last, &small, 8, 4, 3, 1));
    LODE_ASSERT_OK(lode_parameters_create(&parameters, &small, &last));
    LODE_ASSERT_FAILS(lode_checkpoint_layer(parameters->checkpoint, 0, &weights), LODE_ERR_INTERNAL,
                      "not in memory");
    LODE_ASSERT_OK(lode_checkpoint_head(parameters->checkpoint, &tensor));
    assert_ptr_equal(tensor.data, parameters->weights + parameters->list[parameters->tied].offset);
    LODE_ASSERT_OK(lode_checkpoint_final_norm_bias(parameters->checkpoint, &tensor));
    assert_null(tensor.data); /* the family has none */
    lode_checkpoint_release_layer(parameters->checkpoint, 2);
    assert_int_equal(lode_checkpoint_tensor_count(parameters->checkpoint), 0);
    assert_int_equal(lode_checkpoint_bytes_mapped(parameters->checkpoint), 0);
    lode_parameters_destroy(&parameters);
    LODE_ASSERT_FAILS(lode_checkpoint_of_memory(&checkpoint, &small, &unknown, 1),
                      LODE_ERR_INTERNAL, "model.layers.7");
    assert_null(checkpoint);
}

/* Blocks cover every tensor once, and shards every block. */
static void test_blocks(void **state) {
    lode_architecture_t large = small;
    lode_parameters_t *parameters;
    lode_blocks_t blocks;
    (void)state;
    large.vocab = 3000; /* 288,000 elements, five blocks */
    const lode_layout_t whole = whole_of(&large);
    LODE_ASSERT_OK(lode_parameters_create(&parameters, &large, &whole));
    for (int replicas = 1; replicas <= 64; replicas *= 4) {
        int64_t next = 0;
        LODE_ASSERT_OK(lode_blocks_create(&blocks, parameters, replicas));
        assert_int_equal(blocks.total, blocks.count);
        for (int64_t b = 0; b < blocks.count; b++) {
            const lode_block_t *block = &blocks.list[b];
            assert_int_equal(block->number, b);
            assert_true(block->offset >= next && block->offset < next + 16);
            assert_true(block->count > 0 && block->count <= LODE_BLOCK_ELEMENTS);
            next = block->offset + block->count;
        }
        assert_true(next <= parameters->elements && parameters->elements < next + 16);
        assert_int_equal(blocks.begin[0], 0);
        assert_int_equal(blocks.begin[replicas], parameters->elements);
        assert_int_equal(blocks.first[replicas], blocks.count);
        for (int r = 0; r < replicas; r++) {
            assert_true(blocks.begin[r] <= blocks.begin[r + 1]);
            assert_true(blocks.begin[r + 1] - blocks.begin[r] <=
                        parameters->elements / replicas + 2 * LODE_BLOCK_ELEMENTS);
        }
        lode_blocks_free(&blocks);
    }
    lode_parameters_destroy(&parameters);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_adamw_ranges),
        cmocka_unit_test(test_clip),
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_entropy_weights),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_normal),
        cmocka_unit_test(test_normal_formula),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_initialise),
        cmocka_unit_test(test_memory_checkpoint),
        cmocka_unit_test(test_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
