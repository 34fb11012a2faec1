/* score/probe: what the causal checks draw, and the figures they give. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "score/mask.h"
#include "score/probe.h"
#include "testing/compare.h"

enum { CHANNELS = 100, CORE = 12 };

static const lode_probe_stream_t stream = {.seed = 42, .layer = 3, .draw = 1};

static void assert_near(double got, double want) {
    LODE_ASSERT_CLOSE(lode_compare_f64("figure", &got, 1, &want, 1, 1e-15, 1e-13));
}

/* Channels by a rule that no draw follows. */
static void fill_core(int32_t *core) {
    for (int32_t i = 0; i < CORE; i++)
        core[i] = (i * 7 + 5) % CHANNELS;
}

/* Loss proxies in no order, all different. */
static void fill_loss_proxy(double *loss_proxy) {
    for (int64_t j = 0; j < CHANNELS; j++)
        loss_proxy[j] = (double)((j * 37 + 11) % CHANNELS);
}

static void test_core_removed(void **state) {
    (void)state;
    assert_int_equal(lode_probe_core_removed(0.0, 143), 0);
    assert_int_equal(lode_probe_core_removed(0.05, 143), 7); /* of 7.15 */
    assert_int_equal(lode_probe_core_removed(0.1, 30), 3);
    assert_int_equal(lode_probe_core_removed(0.29, 100), 28); /* of 28.999… */
    assert_int_equal(lode_probe_core_removed(0.3, 2), 0);
    assert_int_equal(lode_probe_core_removed(1.0, 5), 5);
}

static int64_t count_removed(const uint8_t *keep, const int32_t *core, int64_t *of_core) {
    int64_t removed = 0;
    *of_core = 0;
    for (int64_t j = 0; j < CHANNELS; j++) {
        assert_true(keep[j] <= 1);
        removed += !keep[j];
    }
    for (int64_t i = 0; i < CORE; i++)
        *of_core += !keep[core[i]];
    return removed;
}

static void test_random_mask(void **state) {
    (void)state;
    int32_t core[CORE];
    uint8_t keep[CORE + 1][CHANNELS], other[CHANNELS];
    int64_t of_core;
    fill_core(core);
    for (int64_t gone = 0; gone <= CORE; gone++) {
        LODE_ASSERT_OK(lode_probe_random_mask(keep[gone], CHANNELS, core, CORE, gone, 50, stream));
        assert_int_equal(count_removed(keep[gone], core, &of_core), 50);
        assert_int_equal(of_core, gone);
    }
    /* Nested: what of the core is gone stays gone, and the others come back one at a time. */
    for (int64_t gone = 1; gone <= CORE; gone++) {
        int64_t more = 0, fewer = 0;
        for (int64_t j = 0; j < CHANNELS; j++) {
            more += keep[gone - 1][j] && !keep[gone][j];
            fewer += !keep[gone - 1][j] && keep[gone][j];
        }
        assert_int_equal(more, 1);
        assert_int_equal(fewer, 1);
    }
    for (int64_t axis = 0; axis < 3; axis++) {
        lode_probe_stream_t next = stream;
        *(axis == 0 ? &next.seed : axis == 1 ? &next.layer : &next.draw) += 1;
        LODE_ASSERT_OK(lode_probe_random_mask(other, CHANNELS, core, CORE, 0, 50, next));
        assert_memory_not_equal(other, keep[0], CHANNELS);
    }
    LODE_ASSERT_OK(lode_probe_random_mask(other, CHANNELS, core, CORE, 0, 50, stream));
    assert_memory_equal(other, keep[0], CHANNELS);
    LODE_ASSERT_FAILS(lode_probe_random_mask(other, CHANNELS, core, CORE, 0, 89, stream),
                      LODE_ERR_CONFIG, "probe.sparsity");
    LODE_ASSERT_FAILS(lode_probe_random_mask(other, CHANNELS, core, CORE, 3, 2, stream),
                      LODE_ERR_CONFIG, "probe.rates");
}

/* Every channel is removed about as often as any other of its kind. */
static void test_random_mask_is_fair(void **state) {
    (void)state;
    enum { DRAWS = 2000 };
    int32_t core[CORE];
    uint8_t keep[CHANNELS], in_core[CHANNELS] = {0};
    int64_t times[CHANNELS] = {0};
    fill_core(core);
    for (int64_t i = 0; i < CORE; i++)
        in_core[core[i]] = 1;
    for (int64_t draw = 0; draw < DRAWS; draw++) {
        const lode_probe_stream_t next = {.seed = 7, .layer = 0, .draw = draw};
        LODE_ASSERT_OK(lode_probe_random_mask(keep, CHANNELS, core, CORE, 3, 50, next));
        for (int64_t j = 0; j < CHANNELS; j++)
            times[j] += !keep[j];
    }
    for (int64_t j = 0; j < CHANNELS; j++) {
        const double p = in_core[j] ? 3.0 / CORE : 47.0 / (CHANNELS - CORE);
        assert_true(fabs((double)times[j] - p * DRAWS) < 5 * sqrt(p * (1 - p) * DRAWS));
    }
}

static void test_random_set(void **state) {
    (void)state;
    uint8_t excluded[CHANNELS] = {0}, is_protected[CHANNELS];
    int32_t set[CORE], all[CHANNELS];
    for (int64_t j = 0; j < CHANNELS; j += 3)
        excluded[j] = 1;
    LODE_ASSERT_OK(lode_probe_random_set(set, CORE, CHANNELS, excluded, "test", stream));
    for (int64_t i = 0; i < CORE; i++) {
        assert_true(set[i] >= 0 && set[i] < CHANNELS && set[i] % 3 != 0);
        assert_true(i == 0 || set[i] > set[i - 1]);
    }
    LODE_ASSERT_OK(lode_probe_random_set(all, 66, CHANNELS, excluded, "test", stream));
    assert_int_equal(all[65], 98);
    LODE_ASSERT_FAILS(lode_probe_random_set(all, 67, CHANNELS, excluded, "test", stream),
                      LODE_ERR_CONFIG, "classify.core_fraction");
    /* The first random core is the pruning stage's. */
    const lode_probe_stream_t first = {.seed = 42, .layer = 3, .draw = 0};
    LODE_ASSERT_OK(lode_probe_random_set(set, CORE, CHANNELS, NULL, "random core", first));
    LODE_ASSERT_OK(
        lode_mask_protect(is_protected, CHANNELS, LODE_CORE_RANDOM, CORE, NULL, NULL, 42, 3));
    int64_t protected_count = 0;
    for (int64_t j = 0; j < CHANNELS; j++)
        protected_count += is_protected[j];
    for (int64_t i = 0; i < CORE; i++)
        assert_int_equal(is_protected[set[i]], 1);
    assert_int_equal(protected_count, CORE);
}

/* All of a sample is distinct, in its bin, and every bin gives as many, to within one. */
static void check_sample(const double *loss_proxy, int64_t channels, int64_t count, int64_t bins) {
    int32_t sample[CHANNELS], bin[CHANNELS];
    int64_t in_bin[CHANNELS + 20] = {0};
    uint8_t seen[CHANNELS] = {0};
    LODE_ASSERT_OK(
        lode_probe_binned_sample(sample, bin, count, loss_proxy, channels, bins, stream));
    for (int64_t i = 0; i < count; i++) {
        int64_t rank = 0; /* channels before it in ascending order */
        for (int64_t j = 0; j < channels; j++)
            rank += loss_proxy[j] < loss_proxy[sample[i]] ||
                    (loss_proxy[j] == loss_proxy[sample[i]] && j < sample[i]);
        assert_false(seen[sample[i]]++);
        assert_true(bin[i] * channels / bins <= rank && rank < (bin[i] + 1) * channels / bins);
        assert_true(i == 0 || bin[i] > bin[i - 1] ||
                    (bin[i] == bin[i - 1] && sample[i] > sample[i - 1]));
        in_bin[bin[i]]++;
    }
    for (int64_t b = 0; b < bins; b++)
        assert_in_range(in_bin[b], count / bins, (count + bins - 1) / bins);
}

static void test_binned_sample(void **state) {
    (void)state;
    double loss_proxy[CHANNELS];
    int32_t sample[2], bin[2];
    fill_loss_proxy(loss_proxy);
    check_sample(loss_proxy, CHANNELS, 24, 8);
    check_sample(loss_proxy, 43, 24, 8); /* bins of 5 and 6 channels give 3 each */
    check_sample(loss_proxy, CHANNELS, CHANNELS, 8);
    check_sample(loss_proxy, CHANNELS, 0, 8);
    check_sample(loss_proxy, CHANNELS, 17, 1);
    for (int64_t channels = 1; channels < 14; channels++)
        for (int64_t count = 0; count <= channels; count++)
            for (int64_t bins = 1; bins < 18; bins++)
                check_sample(loss_proxy, channels, count, bins);
    for (int64_t j = 0; j < 40; j++)
        loss_proxy[2 * j] = 0; /* ties, and a logarithm that is not finite */
    check_sample(loss_proxy, CHANNELS, 24, 8);
    loss_proxy[5] = NAN;
    LODE_ASSERT_FAILS(lode_probe_binned_sample(sample, bin, 2, loss_proxy, CHANNELS, 8, stream),
                      LODE_ERR_NUMERIC, "loss proxy");
}

/* Every channel is drawn about as often as any other of its bin. */
static void test_binned_sample_is_fair(void **state) {
    (void)state;
    enum { DRAWS = 2000, COUNT = 20, BINS = 4 };
    double loss_proxy[CHANNELS];
    int32_t sample[COUNT], bin[COUNT];
    int64_t times[CHANNELS] = {0};
    fill_loss_proxy(loss_proxy);
    for (int64_t layer = 0; layer < DRAWS; layer++) {
        const lode_probe_stream_t next = {.seed = 7, .layer = layer, .draw = 0};
        LODE_ASSERT_OK(
            lode_probe_binned_sample(sample, bin, COUNT, loss_proxy, CHANNELS, BINS, next));
        for (int64_t i = 0; i < COUNT; i++)
            times[sample[i]]++;
    }
    const double p = (double)COUNT / CHANNELS;
    for (int64_t j = 0; j < CHANNELS; j++)
        assert_true(fabs((double)times[j] - p * DRAWS) < 5 * sqrt(p * (1 - p) * DRAWS));
}

/* Decile of a channel among those outside the core. */
static int64_t decile_of(const double *loss_proxy, const uint8_t *role, int32_t channel) {
    int64_t rank = 0, total = 0, decile = 0;
    for (int64_t j = 0; j < CHANNELS; j++) {
        total += role[j] != LODE_PROBE_CORE;
        rank += role[j] != LODE_PROBE_CORE && loss_proxy[j] < loss_proxy[channel];
    }
    while ((decile + 1) * total / 10 <= rank)
        decile++;
    return decile;
}

static void test_matched_set(void **state) {
    (void)state;
    double loss_proxy[CHANNELS];
    uint8_t role[CHANNELS] = {0}, seen[CHANNELS] = {0};
    int32_t core[CORE], set[CORE], matched[CHANNELS], other[CHANNELS];
    int64_t wanted[10] = {0}, got[10] = {0};
    fill_loss_proxy(loss_proxy);
    fill_core(core);
    for (int64_t i = 0; i < CORE; i++) {
        role[core[i]] = LODE_PROBE_CORE;
        set[i] = core[i] + 1;
        role[set[i]] = LODE_PROBE_HALO;
    }
    role[0] = LODE_PROBE_HALO; /* in the halo, but not to be matched */
    LODE_ASSERT_OK(lode_probe_matched_set(matched, set, CORE, role, loss_proxy, CHANNELS, stream));
    for (int64_t i = 0; i < CORE; i++) {
        assert_int_equal(role[matched[i]], LODE_PROBE_OTHER);
        assert_false(seen[matched[i]]++);
        assert_true(i == 0 || matched[i] > matched[i - 1]);
        wanted[decile_of(loss_proxy, role, set[i])]++;
        got[decile_of(loss_proxy, role, matched[i])]++;
    }
    assert_memory_equal(got, wanted, sizeof got);
    lode_probe_stream_t next = stream;
    next.draw++;
    LODE_ASSERT_OK(lode_probe_matched_set(other, set, CORE, role, loss_proxy, CHANNELS, next));
    assert_memory_not_equal(other, matched, CORE * sizeof *other);
}

/* A halo that is the whole upper end: the nearest deciles give what it lacks. */
static void test_matched_set_spills(void **state) {
    (void)state;
    double loss_proxy[CHANNELS];
    uint8_t role[CHANNELS] = {0};
    int32_t set[30], matched[CHANNELS];
    for (int32_t j = 0; j < CHANNELS; j++)
        loss_proxy[j] = j;
    for (int32_t i = 0; i < 15; i++) {
        set[i] = 85 + i;
        role[set[i]] = LODE_PROBE_HALO;
    }
    LODE_ASSERT_OK(lode_probe_matched_set(matched, set, 15, role, loss_proxy, CHANNELS, stream));
    /* The decile of 80 … 89 has five for its own five; the last has none, and takes all of
     * 70 … 79. */
    for (int64_t i = 0; i < 15; i++)
        assert_int_equal(matched[i], 70 + i);
    /* Fewer channels than deciles. */
    const uint8_t few[] = {LODE_PROBE_OTHER, LODE_PROBE_CORE, LODE_PROBE_HALO, LODE_PROBE_OTHER};
    const int32_t one[] = {2};
    LODE_ASSERT_OK(lode_probe_matched_set(matched, one, 1, few, loss_proxy, 4, stream));
    assert_int_equal(matched[0], 0); /* three deciles below; 3 is as far above */
    LODE_ASSERT_OK(lode_probe_matched_set(matched, one, 0, few, loss_proxy, 2, stream));
    for (int32_t j = 0; j < CHANNELS; j++)
        role[j] = j < 51 ? LODE_PROBE_HALO : j < 80 ? LODE_PROBE_OTHER : LODE_PROBE_CORE;
    for (int32_t i = 0; i < 30; i++)
        set[i] = i;
    LODE_ASSERT_FAILS(lode_probe_matched_set(matched, set, 30, role, loss_proxy, CHANNELS, stream),
                      LODE_ERR_CONFIG, "classify.halo_fraction");
    LODE_ASSERT_OK(lode_probe_matched_set(matched, set, 29, role, loss_proxy, CHANNELS, stream));
    for (int32_t i = 0; i < 29; i++)
        assert_int_equal(matched[i], 51 + i);
}

static void test_figures(void **state) {
    (void)state;
    const double tokens[] = {1, 2, 4, 3, 6}; /* two sequences, of 3 and of 2 targets */
    const int64_t targets[] = {3, 2}, equal[] = {4, 4, 4};
    double mean[2], variance[2], perplexity, error;
    lode_probe_moments(&mean[0], &variance[0], tokens, 3);
    lode_probe_moments(&mean[1], &variance[1], tokens + 3, 2);
    assert_near(mean[0], 7.0 / 3);
    assert_near(variance[0], 14.0 / 9);
    assert_near(variance[1], 2.25);
    /* Mean 16/5, Σ(x − mean)² = 14.8. */
    lode_probe_figures(&perplexity, &error, mean, variance, targets, 2);
    assert_near(perplexity, exp(3.2));
    assert_near(error, exp(3.2) * sqrt(14.8 / 4 / 5));
    const int64_t single[] = {1};
    const double zero[] = {0};
    lode_probe_figures(&perplexity, &error, mean, zero, single, 1);
    assert_near(perplexity, exp(7.0 / 3));
    assert_true(isnan(error));
    /* Equal sequences: the plain mean of means, to the last bit. */
    const double means[] = {0.1, 0.7, 1.3}, none[] = {0, 0, 0};
    lode_probe_figures(&perplexity, &error, means, none, equal, 3);
    assert_true(perplexity == exp((0.1 + 0.7 + 1.3) / 3));
}

static void test_difference(void **state) {
    (void)state;
    const double dense[] = {1, 2, 3, 5}, nll[] = {1.5, 2.25, 2.75, 6};
    const int64_t targets[] = {10, 20, 30, 40}, equal[] = {7, 7, 7, 7};
    double delta, error;
    /* (10·0.5 + 20·0.25 − 30·0.25 + 40)/100; the rests are 0.75, −3.5, −20.25 and 23. */
    lode_probe_difference(&delta, &error, nll, dense, targets, 4);
    assert_near(delta, 0.425);
    assert_near(error,
                sqrt(4.0 / 3 * (0.75 * 0.75 + 3.5 * 3.5 + 20.25 * 20.25 + 23.0 * 23.0)) / 100);
    /* Equal sequences: the usual standard error of a mean. */
    lode_probe_difference(&delta, &error, nll, dense, equal, 4);
    assert_near(delta, 0.375);
    const double rest[] = {0.125, -0.125, -0.625, 0.625};
    double squares = 0;
    for (int i = 0; i < 4; i++)
        squares += rest[i] * rest[i];
    assert_near(error, sqrt(squares / 3 / 4));
    lode_probe_difference(&delta, &error, nll, dense, targets, 1);
    assert_near(delta, 0.5);
    assert_true(isnan(error));
}

static void test_spearman(void **state) {
    (void)state;
    enum { COUNT = 60 };
    double a[COUNT], b[COUNT], flat[COUNT], rho, interval[2], again[2];
    for (int64_t i = 0; i < COUNT; i++) {
        a[i] = (double)i;
        b[i] = (double)i + 25 * lode_random_uniform(9, (uint64_t)i);
        flat[i] = 1;
    }
    LODE_ASSERT_OK(lode_probe_spearman(&rho, interval, a, a, COUNT, 200, 0.95, stream));
    assert_near(rho, 1);
    assert_near(interval[0], 1);
    assert_near(interval[1], 1);
    LODE_ASSERT_OK(lode_probe_spearman(&rho, interval, a, b, COUNT, 400, 0.95, stream));
    assert_true(rho > 0.7 && rho < 1 && interval[0] < rho && rho < interval[1]);
    assert_true(interval[0] > rho - 0.15 && interval[1] < 1);
    LODE_ASSERT_OK(lode_probe_spearman(&rho, again, a, b, COUNT, 400, 0.95, stream));
    assert_memory_equal(interval, again, sizeof interval);
    LODE_ASSERT_OK(lode_probe_spearman(&rho, interval, a, flat, COUNT, 20, 0.95, stream));
    assert_true(isnan(rho) && isnan(interval[0]) && isnan(interval[1]));
    LODE_ASSERT_OK(lode_probe_spearman(&rho, interval, a, b, 1, 20, 0.95, stream));
    assert_true(isnan(rho) && isnan(interval[0]));
    b[3] = INFINITY;
    LODE_ASSERT_FAILS(lode_probe_spearman(&rho, interval, a, b, COUNT, 20, 0.95, stream),
                      LODE_ERR_NUMERIC, "ablated channels");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_core_removed),
        cmocka_unit_test(test_random_mask),
        cmocka_unit_test(test_random_mask_is_fair),
        cmocka_unit_test(test_random_set),
        cmocka_unit_test(test_binned_sample),
        cmocka_unit_test(test_binned_sample_is_fair),
        cmocka_unit_test(test_matched_set),
        cmocka_unit_test(test_matched_set_spills),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_difference),
        cmocka_unit_test(test_spearman),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
