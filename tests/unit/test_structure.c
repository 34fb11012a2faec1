/* score/structure and score/resample: against numpy's figures, by hand, and at the edges. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "score/resample.h"
#include "score/structure.h"
#include "testing/compare.h"
#include "testing/hdf5_read.h"

static void assert_near(double got, double want) {
    LODE_ASSERT_CLOSE(lode_compare_f64("figure", &got, 1, &want, 1, 1e-14, 1e-13));
}

static lode_h5_array_t read_array(hid_t file, const char *path, lode_h5_type_t type) {
    lode_h5_array_t array;
    if (!lode_h5_read(&array, file, path, type))
        fail_msg("%s cannot be read", path);
    return array;
}

static void check_figure(hid_t file, const char *name, const char *suffix, const double *got,
                         int64_t count) {
    char path[128];
    snprintf(path, sizeof path, "structure/%s%s", name, suffix);
    lode_h5_array_t want = read_array(file, path, LODE_H5_F64);
    LODE_ASSERT_CLOSE(lode_compare_f64(path, got, count, want.f64, want.count, 1e-12, 1e-12));
    lode_h5_free(&want);
}

/* Column norms of the fixture's float32 weights, rows [rows, columns]. */
static void norms_of(double *norms, const lode_h5_array_t *rows, bool of_columns) {
    const int64_t columns = rows->extent[1];
    const int64_t count = of_columns ? columns : rows->extent[0];
    memset(norms, 0, (size_t)count * sizeof *norms);
    for (int64_t i = 0; i < rows->count; i++)
        norms[of_columns ? i % columns : i / columns] += rows->f64[i] * rows->f64[i];
    for (int64_t j = 0; j < count; j++)
        norms[j] = sqrt(norms[j]);
}

/* The layer of tests/golden/structure.py: ties, channels without loss proxy, power or weights. */
static void test_against_numpy(void **state) {
    (void)state;
    enum { M = 40, S = 6 };
    hid_t file = lode_h5_open("tests/golden/structure.h5");
    assert_true(file >= 0);
    lode_h5_array_t proxy = read_array(file, "input/proxy_sums", LODE_H5_F64);
    lode_h5_array_t power = read_array(file, "input/power_sums", LODE_H5_F64);
    lode_h5_array_t weights[] = {read_array(file, "input/down", LODE_H5_F64),
                                 read_array(file, "input/up", LODE_H5_F64),
                                 read_array(file, "input/gate", LODE_H5_F64)};
    double norms[3][M], total[2][M] = {{0}};
    for (int i = 0; i < 3; i++)
        norms_of(norms[i], &weights[i], i == 0);
    for (int64_t i = 0; i < (int64_t)S * M; i++) {
        total[0][i % M] += proxy.f64[i];
        total[1][i % M] += power.f64[i];
    }
    const lode_structure_inputs_t inputs = {.channels = M,
                                            .core_size = 5,
                                            .loss_proxy = total[0],
                                            .activation_power = total[1],
                                            .down_norm = norms[0],
                                            .up_norm = norms[1],
                                            .gate_norm = norms[2],
                                            .sequences = S,
                                            .stride = M,
                                            .loss_proxy_sums = proxy.f64,
                                            .activation_power_sums = power.f64,
                                            .draws = 40,
                                            .level = 0.95,
                                            .seed = 7,
                                            .layer = 2};
    lode_structure_t got;
    LODE_ASSERT_OK(lode_structure_measure(&got, &inputs));
    for (int i = 0; i < LODE_STRUCTURE_COUNT; i++) {
        check_figure(file, lode_structure_name(i), "", &got.figure[i], 1);
        check_figure(file, lode_structure_name(i), "_interval", got.interval[i], 2);
    }
    /* Without a gate one figure goes, and nothing else changes. */
    lode_structure_inputs_t without = inputs;
    lode_structure_t rest;
    without.gate_norm = NULL;
    LODE_ASSERT_OK(lode_structure_measure(&rest, &without));
    for (int i = 0; i < LODE_STRUCTURE_COUNT; i++)
        if (i == LODE_STRUCTURE_SPEARMAN_GATE_NORM)
            assert_true(isnan(rest.figure[i]) && isnan(rest.interval[i][0]));
        else
            assert_memory_equal(&rest.figure[i], &got.figure[i], sizeof rest.figure[i]);
    lode_h5_array_t stability = read_array(file, "core_stability", LODE_H5_F64);
    lode_h5_array_t bounds = read_array(file, "core_stability_interval", LODE_H5_F64);
    assert_near(got.stability, stability.f64[0]);
    LODE_ASSERT_CLOSE(
        lode_compare_f64("stability", got.stability_interval, 2, bounds.f64, 2, 1e-12, 1e-12));
    lode_h5_array_t *arrays[] = {&proxy,      &power,     &weights[0], &weights[1],
                                 &weights[2], &stability, &bounds};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        lode_h5_free(arrays[i]);
    H5Fclose(file);
}

/* A layer whose only statistic of interest is the loss proxy. */
static lode_structure_inputs_t proxy_alone(const double *total, const double *sums,
                                           int64_t channels, int64_t sequences, int64_t stride) {
    static const double ones[64] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    return (lode_structure_inputs_t){.channels = channels,
                                     .core_size = 1,
                                     .loss_proxy = total,
                                     .activation_power = ones,
                                     .down_norm = ones,
                                     .up_norm = ones,
                                     .gate_norm = ones,
                                     .sequences = sequences,
                                     .stride = stride,
                                     .loss_proxy_sums = sums,
                                     .activation_power_sums = ones,
                                     .draws = 400,
                                     .level = 0.95,
                                     .seed = 42,
                                     .layer = 3};
}

static void test_bootstrap(void **state) {
    (void)state;
    /* Two sequences, a stride beyond the channels: draws hold the first, the second or both. */
    const double sums[] = {9, 1, 0, 0, -7, 0, 2, 8, 0, -7}, total[] = {9, 3, 8, 0};
    lode_structure_inputs_t inputs = proxy_alone(total, sums, 4, 2, 5);
    lode_structure_t full, again, other;
    LODE_ASSERT_OK(lode_structure_measure(&full, &inputs));
    assert_near(full.figure[LODE_STRUCTURE_CORE_MASS], 9.0 / 20); /* channel 0 */
    assert_near(full.interval[LODE_STRUCTURE_CORE_MASS][0], 9.0 / 20);
    assert_near(full.interval[LODE_STRUCTURE_CORE_MASS][1], 0.9);
    assert_near(full.stability_interval[0], 0);
    assert_near(full.stability_interval[1], 1);
    /* The core changes in a quarter of the draws; 4 standard errors of 400 draws are 0.087. */
    assert_true(fabs(full.stability - 0.75) < 0.087);
    /* A constant power has no ranks to correlate, and its core is channel 0 by index. */
    assert_true(isnan(full.figure[LODE_STRUCTURE_SPEARMAN_ACTIVATION]));
    assert_true(isnan(full.interval[LODE_STRUCTURE_SPEARMAN_ACTIVATION][0]));
    assert_near(full.figure[LODE_STRUCTURE_OVERLAP_ACTIVATION], 1);
    LODE_ASSERT_OK(lode_structure_measure(&again, &inputs));
    assert_memory_equal(&full, &again, sizeof full);
    inputs.layer = 4;
    LODE_ASSERT_OK(lode_structure_measure(&other, &inputs));
    assert_true(other.stability != full.stability);
    /* One sequence: nothing to vary. */
    inputs = proxy_alone(sums, sums, 4, 1, 5);
    LODE_ASSERT_OK(lode_structure_measure(&other, &inputs));
    assert_near(other.interval[LODE_STRUCTURE_CORE_MASS][0], 0.9);
    assert_near(other.interval[LODE_STRUCTURE_CORE_MASS][1], 0.9);
    assert_near(other.stability, 1);
}

static int compare_ascending(const void *left, const void *right) {
    const double *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

/* The same draws again, by hand: a core of one, 21 draws, percentiles that fall on draws. */
static void test_bootstrap_by_hand(void **state) {
    (void)state;
    enum { S = 5, M = 3, DRAWS = 21 };
    const double sums[S * M] = {1, 2, 3, 5, 1, 1, 2, 7, 1, 1, 1, 4, 3, 3, 2}, all[] = {12, 14, 11};
    double mass[DRAWS], stability = 0;
    for (int64_t draw = 0; draw < DRAWS; draw++) {
        uint64_t key = lode_random_key(42, "bootstrap", 3, draw);
        double total[M] = {0};
        for (uint64_t i = 0; i < S; i++) {
            int64_t s = lode_random_below(key, i, S);
            for (int j = 0; j < M; j++)
                total[j] += sums[s * M + j];
        }
        int best = 0;
        for (int j = 1; j < M; j++)
            best = total[j] > total[best] ? j : best;
        mass[draw] = total[best] / (total[0] + total[1] + total[2]);
        stability += best == 1;
    }
    qsort(mass, DRAWS, sizeof *mass, compare_ascending);
    lode_structure_inputs_t inputs = proxy_alone(all, sums, M, S, M);
    lode_structure_t got;
    inputs.draws = DRAWS;
    inputs.level = 0.8;
    LODE_ASSERT_OK(lode_structure_measure(&got, &inputs));
    assert_near(got.figure[LODE_STRUCTURE_CORE_MASS], 14.0 / 37);
    assert_near(got.interval[LODE_STRUCTURE_CORE_MASS][0], mass[2]);
    assert_near(got.interval[LODE_STRUCTURE_CORE_MASS][1], mass[18]);
    assert_near(got.stability, stability / DRAWS);
    inputs.level = 0.85;
    LODE_ASSERT_OK(lode_structure_measure(&got, &inputs));
    assert_near(got.interval[LODE_STRUCTURE_CORE_MASS][0], 0.5 * (mass[1] + mass[2]));
}

static void test_edges(void **state) {
    (void)state;
    const double zeros[] = {0, 0, 0, 0}, bad[] = {1, 2, 3, NAN}, negative[] = {1, 2, -3, 4};
    lode_structure_inputs_t inputs = proxy_alone(zeros, zeros, 2, 2, 2);
    lode_structure_t got;
    LODE_ASSERT_OK(lode_structure_measure(&got, &inputs));
    assert_true(isnan(got.stability) && isnan(got.stability_interval[0]));
    for (int i = 0; i < LODE_STRUCTURE_COUNT; i++)
        assert_true(isnan(got.interval[i][0]) && isnan(got.interval[i][1]));
    assert_true(isnan(got.figure[LODE_STRUCTURE_CORE_MASS]));
    inputs.loss_proxy_sums = bad;
    LODE_ASSERT_FAILS(lode_structure_measure(&got, &inputs), LODE_ERR_NUMERIC,
                      "loss proxy of channel 1");
    inputs.loss_proxy_sums = zeros;
    inputs.activation_power_sums = negative;
    LODE_ASSERT_FAILS(lode_structure_measure(&got, &inputs), LODE_ERR_NUMERIC,
                      "activation power of channel 0 is -3");
    inputs.activation_power_sums = zeros;
    inputs.up_norm = bad + 2;
    LODE_ASSERT_FAILS(lode_structure_measure(&got, &inputs), LODE_ERR_NUMERIC,
                      "norm of the up row of channel 1");
    inputs.up_norm = zeros;
    inputs.loss_proxy = negative + 1;
    LODE_ASSERT_FAILS(lode_structure_measure(&got, &inputs), LODE_ERR_NUMERIC,
                      "loss proxy of channel 1 is -3");
}

static void test_resample(void **state) {
    (void)state;
    double times[50], interval[2], figures[] = {4, NAN, 1, 3, 2, NAN, 5};
    double sum = 0, at_most = 0;
    lode_resample_times(times, 50, 77);
    for (int i = 0; i < 50; i++) {
        sum += times[i];
        at_most = fmax(at_most, times[i]);
    }
    assert_near(sum, 50);
    assert_true(at_most > 1);
    lode_resample_interval(interval, figures, 7, 0.5); /* of 1 2 3 4 5 */
    assert_near(interval[0], 2);
    assert_near(interval[1], 4);
    double none[] = {NAN, NAN};
    lode_resample_interval(interval, none, 2, 0.5);
    assert_true(isnan(interval[0]) && isnan(interval[1]));
    double one[] = {7};
    lode_resample_interval(interval, one, 1, 0.95);
    assert_near(interval[0], 7);
    assert_near(interval[1], 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_numpy),     cmocka_unit_test(test_bootstrap),
        cmocka_unit_test(test_bootstrap_by_hand), cmocka_unit_test(test_edges),
        cmocka_unit_test(test_resample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
