/* score/control: against numpy's figures, by hand, and at the edges. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "score/control.h"
#include "score/halo.h"
#include "score/redundancy.h"
#include "testing/compare.h"
#include "testing/hdf5_read.h"

enum { M = 40, D = 12, K = 5, H = 6, N = 9, SUPPORT = 4 };

/* The layer of tests/golden/structure.py. */
typedef struct fixture {
    hid_t file;
    lode_h5_array_t q, down, core, halo, random;
    lode_q_t view;
    lode_tensor_t tensor;
    lode_redundancy_t options;
    lode_control_t control;
} fixture_t;

static lode_h5_array_t read_array(hid_t file, const char *path, lode_h5_type_t type) {
    lode_h5_array_t array;
    if (!lode_h5_read(&array, file, path, type))
        fail_msg("%s cannot be read", path);
    return array;
}

static int open_fixture(void **state) {
    static fixture_t f;
    f.file = lode_h5_open("tests/golden/structure.h5");
    if (f.file < 0)
        return 1;
    f.q = read_array(f.file, "input/q", LODE_H5_F32);
    f.down = read_array(f.file, "input/down", LODE_H5_F32);
    f.core = read_array(f.file, "core", LODE_H5_I32);
    f.halo = read_array(f.file, "halo", LODE_H5_I32);
    f.random = read_array(f.file, "controls/random", LODE_H5_I32);
    f.view = (lode_q_t){f.q.f32, f.q.extent[0], M, M};
    f.tensor = lode_tensor_matrix(f.down.f32, LODE_DTYPE_F32, D, M);
    f.options = (lode_redundancy_t){.top_k = 3, .positive_only = true};
    f.control = (lode_control_t){.draws = 40, .level = 0.95, .seed = 7, .layer = 2};
    *state = &f;
    return 0;
}

static int close_fixture(void **state) {
    fixture_t *f = *state;
    lode_h5_free(&f->q);
    lode_h5_free(&f->down);
    lode_h5_free(&f->core);
    lode_h5_free(&f->halo);
    lode_h5_free(&f->random);
    H5Fclose(f->file);
    return 0;
}

static void check(const fixture_t *f, const char *path, const double *got, int64_t count) {
    lode_h5_array_t want = read_array(f->file, path, LODE_H5_F64);
    LODE_ASSERT_CLOSE(lode_compare_f64(path, got, count, want.f64, want.count, 1e-13, 1e-9));
    lode_h5_free(&want);
}

static void check_mean(const fixture_t *f, const char *name, const lode_control_mean_t *mean) {
    char path[128];
    snprintf(path, sizeof path, "controls/%s", name);
    check(f, path, &mean->mean, 1);
    snprintf(path, sizeof path, "controls/%s_interval", name);
    check(f, path, mean->interval, 2);
}

static void test_sample(void **state) {
    const fixture_t *f = *state;
    int32_t sample[N], other[K], rest[M - K - H];
    bool enough;
    LODE_ASSERT_OK(lode_control_sample(sample, &enough, N, M, f->core.i32, K, f->halo.i32, H,
                                       lode_random_key(7, "control channels", 2, 0)));
    assert_true(enough);
    LODE_ASSERT_CLOSE(lode_compare_i32("random", sample, N, f->random.i32, f->random.count));
    lode_h5_array_t want = read_array(f->file, "controls/random_core", LODE_H5_I32);
    LODE_ASSERT_OK(lode_control_sample(other, &enough, K, M, f->core.i32, K, f->halo.i32, H,
                                       lode_random_key(7, "control core", 2, 0)));
    LODE_ASSERT_CLOSE(lode_compare_i32("random core", other, K, want.i32, want.count));
    lode_h5_free(&want);
    /* All that are left, each once, none of core or halo. */
    LODE_ASSERT_OK(
        lode_control_sample(rest, &enough, M - K - H, M, f->core.i32, K, f->halo.i32, H, 1));
    assert_true(enough);
    for (int i = 0; i < M - K - H; i++) {
        assert_true(i == 0 || rest[i] > rest[i - 1]);
        for (int s = 0; s < K; s++)
            assert_true(rest[i] != f->core.i32[s]);
        for (int s = 0; s < H; s++)
            assert_true(rest[i] != f->halo.i32[s]);
    }
    LODE_ASSERT_OK(
        lode_control_sample(NULL, &enough, M - K - H + 1, M, f->core.i32, K, f->halo.i32, H, 1));
    assert_false(enough);
    LODE_ASSERT_OK(lode_control_sample(NULL, &enough, 0, M, f->core.i32, K, f->halo.i32, H, 1));
    assert_true(enough);
}

static void test_means_against_numpy(void **state) {
    const fixture_t *f = *state;
    static const char halo[] = "bootstrap halo", random[] = "bootstrap random channels";
    double to_core[N], pairs[N * N];
    lode_control_mean_t mean;
    LODE_ASSERT_OK(
        lode_redundancy_to_core(to_core, f->view, f->core.i32, K, f->halo.i32, H, f->options));
    LODE_ASSERT_OK(lode_control_channels(&mean, to_core, H, halo, f->control));
    check_mean(f, "halo_to_core", &mean);
    LODE_ASSERT_OK(
        lode_redundancy_to_core(to_core, f->view, f->core.i32, K, f->random.i32, N, f->options));
    check(f, "controls/random_redundancy_to_core", to_core, N);
    LODE_ASSERT_OK(lode_control_channels(&mean, to_core, N, random, f->control));
    check_mean(f, "random_to_core", &mean);
    LODE_ASSERT_OK(
        lode_redundancy_pairs(pairs, f->view, f->halo.i32, H, f->halo.i32, H, f->options));
    check(f, "pairs/halo_halo", pairs, H * H);
    LODE_ASSERT_OK(lode_control_within(&mean, pairs, H, halo, f->control));
    check_mean(f, "halo_halo", &mean);
    LODE_ASSERT_OK(
        lode_redundancy_pairs(pairs, f->view, f->random.i32, N, f->random.i32, N, f->options));
    LODE_ASSERT_OK(lode_control_within(&mean, pairs, N, random, f->control));
    check_mean(f, "non_non", &mean);
    LODE_ASSERT_OK(
        lode_redundancy_pairs(pairs, f->view, f->halo.i32, H, f->random.i32, N, f->options));
    check(f, "pairs/halo_random", pairs, H * N);
    LODE_ASSERT_OK(lode_control_between(&mean, pairs, H, N, halo, random, f->control));
    check_mean(f, "halo_non", &mean);
    lode_redundancy_t nodelens = f->options;
    nodelens.correlation = LODE_CORRELATION_NODELENS;
    LODE_ASSERT_OK(lode_redundancy_pairs(pairs, f->view, f->core.i32, K, f->halo.i32, H, nodelens));
    lode_h5_array_t want = read_array(f->file, "pairs/core_halo_nodelens", LODE_H5_F64);
    LODE_ASSERT_CLOSE(lode_compare_f64("nodelens", pairs, (int64_t)K * H, want.f64, want.count,
                                       6e-8, 0)); /* a unit of 1 − r² in float, halved, and more */
    lode_h5_free(&want);
}

static void test_random_core_against_numpy(void **state) {
    const fixture_t *f = *state;
    int32_t support[SUPPORT], around[H];
    double connectivity[M], redundancy[H];
    lode_control_mean_t mean;
    lode_h5_array_t core = read_array(f->file, "controls/random_core", LODE_H5_I32);
    lode_h5_array_t want = read_array(f->file, "controls/random_halo", LODE_H5_I32);
    LODE_ASSERT_OK(lode_halo_support(support, SUPPORT, &f->tensor, core.i32, K));
    LODE_ASSERT_OK(lode_halo_connectivity(connectivity, &f->tensor, support, SUPPORT));
    LODE_ASSERT_OK(lode_halo_select(around, H, connectivity, M, core.i32, K));
    LODE_ASSERT_CLOSE(lode_compare_i32("random halo", around, H, want.i32, want.count));
    LODE_ASSERT_OK(
        lode_redundancy_to_core(redundancy, f->view, core.i32, K, around, H, f->options));
    LODE_ASSERT_OK(
        lode_control_channels(&mean, redundancy, H, "bootstrap random halo", f->control));
    check_mean(f, "random_halo_to_random_core", &mean);
    LODE_ASSERT_OK(
        lode_redundancy_to_core(redundancy, f->view, core.i32, K, f->halo.i32, H, f->options));
    LODE_ASSERT_OK(lode_control_channels(&mean, redundancy, H, "bootstrap halo", f->control));
    check_mean(f, "halo_to_random_core", &mean);
    lode_h5_free(&core);
    lode_h5_free(&want);
}

static void test_weights_against_numpy(void **state) {
    const fixture_t *f = *state;
    double dimensions, random[300], again[300], connectivity[M];
    LODE_ASSERT_OK(lode_control_dimensions(&dimensions, &f->tensor, f->core.i32, K));
    check(f, "controls/write_dimensions_core", &dimensions, 1);
    LODE_ASSERT_OK(lode_control_random_dimensions(random, &f->tensor, K, f->control));
    check(f, "controls/write_dimensions_random", random, 40);
    /* More sets than are taken at once: the first are the same. */
    lode_control_t more = f->control;
    more.draws = 300;
    LODE_ASSERT_OK(lode_control_random_dimensions(again, &f->tensor, K, more));
    LODE_ASSERT_CLOSE(lode_compare_f64("first sets", again, 40, random, 40, 0, 0));
    int64_t chosen[K];
    int32_t set[K];
    lode_random_sample(lode_random_key(7, "control set", 2, 299), chosen, K, M);
    for (int i = 0; i < K; i++)
        set[i] = (int32_t)chosen[i];
    LODE_ASSERT_OK(lode_control_dimensions(&dimensions, &f->tensor, set, K));
    LODE_ASSERT_CLOSE(lode_compare_f64("last set", &again[299], 1, &dimensions, 1, 0, 1e-13));
    lode_h5_array_t gate = read_array(f->file, "input/gate", LODE_H5_F32);
    lode_h5_array_t up = read_array(f->file, "input/up", LODE_H5_F32);
    lode_h5_array_t support = read_array(f->file, "write_support", LODE_H5_I32);
    const lode_tensor_t g = lode_tensor_matrix(gate.f32, LODE_DTYPE_F32, M, D);
    const lode_tensor_t u = lode_tensor_matrix(up.f32, LODE_DTYPE_F32, M, D);
    LODE_ASSERT_OK(lode_halo_read_connectivity(connectivity, &g, &u, support.i32, support.count));
    check(f, "read_connectivity", connectivity, M);
    lode_h5_free(&gate);
    lode_h5_free(&up);
    lode_h5_free(&support);
}

/* Three channels: draws are few enough to count by hand. */
static void test_pairs_by_hand(void **state) {
    (void)state;
    const double pairs[] = {0, 1, 2, 1, 0, 4, 2, 4, 0};
    const lode_control_t one = {.draws = 1, .level = 0.5, .seed = 3, .layer = 1};
    lode_control_mean_t mean;
    LODE_ASSERT_OK(lode_control_within(&mean, pairs, 3, "draw", one));
    double sum = 0, count = 0;
    for (uint64_t a = 0; a < 3; a++)
        for (uint64_t b = 0; b < 3; b++) {
            const uint64_t key = lode_random_key(3, "draw", 1, 0);
            const int64_t i = lode_random_below(key, a, 3), j = lode_random_below(key, b, 3);
            sum += pairs[3 * i + j];
            count += i != j;
        }
    const double want[] = {7.0 / 3, sum / count, sum / count};
    const double got[] = {mean.mean, mean.interval[0], mean.interval[1]};
    LODE_ASSERT_CLOSE(lode_compare_f64("within", got, 3, want, 3, 0, 1e-14));
}

static void test_edges(void **state) {
    const fixture_t *f = *state;
    const double value = 3, pair[] = {0, 5, 5, 0};
    lode_control_mean_t mean;
    LODE_ASSERT_OK(lode_control_channels(&mean, NULL, 0, "draw", f->control));
    assert_true(isnan(mean.mean) && isnan(mean.interval[0]) && isnan(mean.interval[1]));
    LODE_ASSERT_OK(lode_control_channels(&mean, &value, 1, "draw", f->control));
    assert_true(mean.mean == 3 && mean.interval[0] == 3 && mean.interval[1] == 3);
    LODE_ASSERT_OK(lode_control_within(&mean, &value, 1, "draw", f->control));
    assert_true(isnan(mean.mean) && isnan(mean.interval[0]));
    /* Half of the draws have one of two channels alone, and so no pair; the others have this one.
     */
    LODE_ASSERT_OK(lode_control_within(&mean, pair, 2, "draw", f->control));
    assert_true(mean.mean == 5 && mean.interval[0] == 5 && mean.interval[1] == 5);
    LODE_ASSERT_OK(lode_control_between(&mean, NULL, 2, 0, "draw", "other", f->control));
    assert_true(isnan(mean.mean) && isnan(mean.interval[1]));
    float zeros[D * M] = {0};
    const lode_tensor_t nothing = lode_tensor_matrix(zeros, LODE_DTYPE_F32, D, M);
    double dimensions = 0;
    LODE_ASSERT_OK(lode_control_dimensions(&dimensions, &nothing, f->core.i32, K));
    assert_true(isnan(dimensions));
    zeros[7] = NAN;
    double random[40];
    LODE_ASSERT_FAILS(lode_control_random_dimensions(random, &nothing, K, f->control),
                      LODE_ERR_NUMERIC, "down_proj[0, 7]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample),
        cmocka_unit_test(test_means_against_numpy),
        cmocka_unit_test(test_random_core_against_numpy),
        cmocka_unit_test(test_weights_against_numpy),
        cmocka_unit_test(test_pairs_by_hand),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
