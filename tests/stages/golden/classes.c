/* Core, halo, connectivity, redundancy, protection, entropy. */
#include "golden/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Both sides of one selection, [L,k] of channels. */
typedef struct pair {
    lode_h5_array_t got, want;
} pair_t;

static bool read_pair(lode_check_t *check, pair_t *pair, const char *name, lode_h5_type_t type) {
    char path[LODE_H5_NAME];
    *pair = (pair_t){0};
    snprintf(path, sizeof path, "/classify/%s", name);
    if (!lode_h5_read(&pair->want, check->golden, path, type))
        return false;
    snprintf(path, sizeof path, "/%s", name);
    const int64_t columns = pair->want.axes == 1 ? -1 : pair->want.extent[1];
    const int64_t extents[] = {pair->want.extent[0], columns, -1};
    return lode_check_got(check, &pair->got, path, type, extents);
}

static void free_pair(pair_t *pair) {
    lode_h5_free(&pair->got);
    lode_h5_free(&pair->want);
}

static bool listed(const int32_t *list, int64_t count, int64_t channel) {
    for (int64_t i = 0; i < count; i++)
        if (list[i] == channel)
            return true;
    return false;
}

/* Adds up the layers of one selection into one line. */
static void add_layer(lode_margin_t *total, lode_margin_t layer) {
    if (total->equal && !layer.equal)
        memcpy(total->text, layer.text, sizeof total->text);
    total->equal &= layer.equal;
    total->swapped += layer.swapped;
    total->worst = fmax(total->worst, layer.worst);
}

static void report_margin(lode_check_t *check, const char *name, lode_margin_t total) {
    if (!total.equal)
        lode_check_fail(check, name, "%s", total.text);
    else
        lode_check_pass(check, name, "%" PRId64 " swapped, widest margin used %.2e", total.swapped,
                        total.worst);
}

static void compare_core(lode_check_t *check, const pair_t *core, const lode_h5_array_t *proxy) {
    const int64_t m = check->channels, k = core->want.extent[1];
    lode_margin_t total = {.equal = true};
    for (int64_t l = 0; l < check->layers; l++) {
        const lode_margin_scores_t decided = {
            .scores = proxy->f64 + l * m, .m = m, .tolerance = LODE_CHECK_STATISTIC};
        const int32_t *got = core->got.i32 + l * k, *want = core->want.i32 + l * k;
        char name[LODE_H5_NAME];
        snprintf(name, sizeof name, "/core layer %" PRId64, l);
        add_layer(&total, lode_margin_list(name, got, k, want, k, &decided));
        for (int64_t j = 0; j < m; j++) {
            const bool differs = listed(got, k, j) != listed(want, k, j);
            check->core_differs[l * m + j] = differs;
            check->layer_differs[l] |= differs;
        }
    }
    report_margin(check, "/core", total);
}

static void compare_halo(lode_check_t *check, const pair_t *halo, const pair_t *core,
                         const lode_h5_array_t *connectivity) {
    const int64_t m = check->channels, h = halo->want.extent[1], k = core->want.extent[1];
    lode_margin_t total = {.equal = true};
    uint8_t *excluded = calloc((size_t)m, 1);
    for (int64_t l = 0; excluded && l < check->layers; l++) {
        if (check->layer_differs[l])
            continue;
        for (int64_t j = 0; j < m; j++)
            excluded[j] = listed(core->want.i32 + l * k, k, j);
        const lode_margin_scores_t decided = {.scores = connectivity->f64 + l * m,
                                              .m = m,
                                              .excluded = excluded,
                                              .tolerance = LODE_CHECK_STATISTIC};
        char name[LODE_H5_NAME];
        snprintf(name, sizeof name, "/halo layer %" PRId64, l);
        add_layer(&total, lode_margin_list(name, halo->got.i32 + l * h, h, halo->want.i32 + l * h,
                                           h, &decided));
    }
    if (excluded)
        report_margin(check, "/halo", total);
    else
        lode_check_fail(check, "/halo", "out of memory");
    free(excluded);
}

/* --- redundancy and what ranks by it ---------------------------------------------------------- */

/* One layer's halo of one side: channels in list order with their redundancies. */
typedef struct ranked {
    const int32_t *halo;
    const double *redundancy;
    int64_t count;
} ranked_t;

/* Place of list position i in ascending redundancy, equal ones in the order of the list. */
static int64_t rank_of(const ranked_t *side, int64_t i) {
    int64_t before = 0;
    for (int64_t n = 0; n < side->count; n++)
        before += side->redundancy[n] < side->redundancy[i] ||
                  (side->redundancy[n] == side->redundancy[i] && n < i);
    return before;
}

static int64_t position_of(const ranked_t *side, int64_t channel) {
    for (int64_t i = 0; i < side->count; i++)
        if (side->halo[i] == channel)
            return i;
    return -1;
}

static int64_t position_of_rank(const ranked_t *side, int64_t rank) {
    for (int64_t i = 0; i < side->count; i++)
        if (rank_of(side, i) == rank)
            return i;
    return -1;
}

/* The redundancies of the channels in both halos, channel by channel. */
static lode_comparison_t compare_redundancy(const ranked_t *got, const ranked_t *want) {
    double a[1], b[1];
    lode_comparison_t worst = {.equal = true, .first_bad = -1};
    for (int64_t i = 0; i < want->count; i++) {
        const int64_t other = position_of(got, want->halo[i]);
        if (other < 0)
            continue; /* swapped out of the halo inside its margin */
        a[0] = got->redundancy[other];
        b[0] = want->redundancy[i];
        const lode_comparison_t one = lode_compare_f64(
            "/redundancy_to_core", a, 1, b, 1, LODE_CHECK_REDUNDANCY_FLOOR, LODE_CHECK_REDUNDANCY);
        const double largest = fmax(worst.worst, one.worst);
        if (worst.equal)
            worst = one;
        worst.worst = largest;
    }
    return worst;
}

/* Whether the reference's redundancies let `position` of its halo take the place `rank`. */
static bool rank_excused(const ranked_t *want, int64_t position, int64_t rank) {
    const double own = want->redundancy[position];
    const double there = want->redundancy[position_of_rank(want, rank)];
    return fabs(own - there) <=
           2 * (LODE_CHECK_REDUNDANCY_FLOOR + LODE_CHECK_REDUNDANCY * fmax(own, there));
}

/* Compares P of one layer, marks where ranks differ; false at the first that nothing excuses. */
static bool compare_protection(lode_check_t *check, int64_t layer, const ranked_t *got,
                               const ranked_t *want, const double *p, const double *p_want) {
    const int64_t m = check->channels;
    for (int64_t j = 0; j < m; j++) {
        const int64_t mine = position_of(got, j), theirs = position_of(want, j);
        bool differs = (mine < 0) != (theirs < 0), allowed = isfinite(p[j]);
        if (mine >= 0 && theirs >= 0 && rank_of(got, mine) != rank_of(want, theirs)) {
            differs = true;
            allowed &= rank_excused(want, theirs, rank_of(got, mine));
        }
        check->protection_differs[layer * m + j] = differs;
        if (!allowed || (!differs && !(fabs(p[j] - p_want[j]) <= LODE_CHECK_WEIGHTS))) {
            lode_check_fail(check, "/protection",
                            "layer %" PRId64 ", channel %" PRId64 ": %.9g, expected %.9g", layer, j,
                            p[j], p_want[j]);
            return false;
        }
    }
    return true;
}

static void compare_ranks(lode_check_t *check, const pair_t *halo, const pair_t *redundancy,
                          const pair_t *protection) {
    const int64_t h = halo->want.extent[1], m = check->channels;
    lode_comparison_t worst = {.equal = true, .first_bad = -1};
    bool equal = true;
    int64_t moved = 0;
    for (int64_t l = 0; l < check->layers; l++) {
        if (check->layer_differs[l])
            continue;
        const ranked_t got = {halo->got.i32 + l * h, redundancy->got.f64 + l * h, h};
        const ranked_t want = {halo->want.i32 + l * h, redundancy->want.f64 + l * h, h};
        const lode_comparison_t one = compare_redundancy(&got, &want);
        const double largest = fmax(worst.worst, one.worst);
        if (worst.equal)
            worst = one;
        worst.worst = largest;
        equal = equal && compare_protection(check, l, &got, &want, protection->got.f64 + l * m,
                                            protection->want.f64 + l * m);
        for (int64_t j = 0; j < m; j++)
            moved += check->protection_differs[l * m + j];
    }
    lode_check_comparison(check, "/redundancy_to_core", worst);
    if (equal)
        lode_check_pass(check, "/protection", "%" PRId64 " ranks moved inside the margin", moved);
}

/* The reference has entropies as the scores of the method, with the sign turned. */
static void compare_entropy(lode_check_t *check) {
    const int64_t extents[] = {check->layers, check->channels, -1};
    lode_h5_array_t got = {0}, want;
    if (!lode_h5_read(&want, check->golden, "scores/entropy", LODE_H5_F64))
        return;
    for (int64_t i = 0; i < want.count; i++)
        want.f64[i] = -want.f64[i];
    if (lode_check_got(check, &got, "/entropy", LODE_H5_F64, extents))
        lode_check_comparison(check, "/entropy",
                              lode_compare_f64("/entropy", got.f64, got.count, want.f64, want.count,
                                               0, LODE_CHECK_WEIGHTS));
    lode_h5_free(&got);
    lode_h5_free(&want);
}

/* Elements of layers whose core differs, which nothing can be held against. */
static uint8_t *excuse_layers(const lode_check_t *check) {
    uint8_t *excused = calloc((size_t)(check->layers * check->channels), 1);
    for (int64_t i = 0; excused && i < check->layers * check->channels; i++)
        excused[i] = check->layer_differs[i / check->channels];
    return excused;
}

void lode_check_classes(lode_check_t *check) {
    pair_t core, halo = {0}, redundancy = {0}, protection = {0};
    lode_h5_array_t proxy = {0}, connectivity = {0};
    char path[LODE_H5_NAME];
    if (!lode_check_open(check, "classify"))
        return;
    compare_entropy(check);
    snprintf(path, sizeof path, "loss_%s/loss_proxy", check->loss);
    if (read_pair(check, &core, "core", LODE_H5_I32) &&
        lode_h5_read(&proxy, check->golden, path, LODE_H5_F64)) {
        compare_core(check, &core, &proxy);
        uint8_t *excused = excuse_layers(check);
        lode_check_rows(check, "/connectivity", "classify/connectivity", LODE_CHECK_STATISTIC,
                        excused);
        free(excused);
        lode_check_rows(check, "/core_mass", "classify/core_mass", LODE_CHECK_STATISTIC, NULL);
        if (read_pair(check, &halo, "halo", LODE_H5_I32) &&
            lode_h5_read(&connectivity, check->golden, "classify/connectivity", LODE_H5_F64)) {
            compare_halo(check, &halo, &core, &connectivity);
            if (read_pair(check, &redundancy, "redundancy_to_core", LODE_H5_F64) &&
                read_pair(check, &protection, "protection", LODE_H5_F64))
                compare_ranks(check, &halo, &redundancy, &protection);
        }
    }
    free_pair(&core);
    free_pair(&halo);
    free_pair(&redundancy);
    free_pair(&protection);
    lode_h5_free(&proxy);
    lode_h5_free(&connectivity);
    lode_check_close(check);
}
