/* One run against the same run on another number of ranks, where results come from ScaLAPACK and so
 * are not the same to the last bit. */
#include "golden/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A stage file of both runs. */
typedef struct pair {
    lode_check_t *check;
    hid_t other;
} pair_t;

static bool open_pair(pair_t *pair, lode_check_t *check, const char *stage) {
    char path[4096];
    pair->check = check;
    if (!lode_check_open(check, stage))
        return false;
    snprintf(path, sizeof path, "%s/%s.h5", check->ranks, stage);
    pair->other = lode_h5_open(path);
    if (pair->other >= 0)
        return true;
    lode_check_fail(check, path, "cannot be read");
    lode_check_close(check);
    return false;
}

static void close_pair(pair_t *pair) {
    H5Fclose(pair->other);
    lode_check_close(pair->check);
}

/* Equal within `relative` of the largest element. */
static void compare(const pair_t *pair, const char *path, double relative) {
    lode_h5_array_t got, want;
    char name[3 * LODE_H5_NAME];
    double most = 0;
    snprintf(name, sizeof name, "%s (other ranks)", path);
    const bool got_read = lode_h5_read(&got, pair->check->file, path, LODE_H5_F64);
    const bool want_read = lode_h5_read(&want, pair->other, path, LODE_H5_F64);
    for (int64_t i = 0; want_read && i < want.count; i++)
        most = fmax(most, fabs(want.f64[i]));
    if (got_read && want_read)
        lode_check_comparison(
            pair->check, name,
            lode_compare_f64(name, got.f64, got.count, want.f64, want.count, relative * most, 0));
    else
        lode_check_fail(pair->check, name, "absent");
    lode_h5_free(&got);
    lode_h5_free(&want);
}

static void compare_masks(const pair_t *pair) {
    char name[LODE_H5_NAME], path[2 * LODE_H5_NAME];
    const int64_t members = lode_h5_members(pair->other, "/keep");
    if (members == 0)
        lode_check_fail(pair->check, "/keep (other ranks)", "absent");
    for (int64_t i = 0; i < members; i++)
        if (lode_h5_member(pair->other, "/keep", i, name)) {
            snprintf(path, sizeof path, "/keep/%s", name);
            compare(pair, path, 0);
        }
}

static void compare_scores(const pair_t *pair) {
    static const char *const names[] = {"/moments/inverse_input", "/moments/inverse_u",
                                        "/scores/sparsegpt-channel"};
    if (!lode_h5_exists(pair->other, names[0]))
        return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        compare(pair, names[i], LODE_CHECK_RANKS);
}

/* λ and the down projections of every variant. */
static void compare_solves(const pair_t *pair) {
    char name[LODE_H5_NAME], path[2 * LODE_H5_NAME], layer_path[4 * LODE_H5_NAME];
    char layer[LODE_H5_NAME];
    const int64_t members = lode_h5_members(pair->other, "/ridge");
    if (members == 0)
        lode_check_fail(pair->check, "/ridge (other ranks)", "absent");
    for (int64_t i = 0; i < members; i++) {
        if (!lode_h5_member(pair->other, "/ridge", i, name))
            continue;
        /* What is below a layer of a sequential variant was rounded to float32. */
        snprintf(path, sizeof path, "/ridge/%s", name);
        compare(pair, path,
                strstr(name, "+sequential") ? LODE_CHECK_RANKS_SINGLE : LODE_CHECK_RANKS);
        snprintf(path, sizeof path, "/down/%s", name);
        for (int64_t l = 0; l < lode_h5_members(pair->other, path); l++)
            if (lode_h5_member(pair->other, path, l, layer)) {
                snprintf(layer_path, sizeof layer_path, "%s/%s", path, layer);
                compare(pair, layer_path, LODE_CHECK_RANKS_SINGLE);
            }
    }
}

static void compare_perplexity(const pair_t *pair, const char *path) {
    char name[5 * LODE_H5_NAME];
    double got = NAN, want = NAN;
    snprintf(name, sizeof name, "%s (other ranks)", path);
    if (lode_h5_number(pair->check->file, path, "value", &got) &&
        lode_h5_number(pair->other, path, "value", &want))
        lode_check_comparison(
            pair->check, name,
            lode_compare_f64(name, &got, 1, &want, 1, 0, LODE_CHECK_RANKS_SINGLE));
    else
        lode_check_fail(pair->check, name, "absent");
}

static void compare_perplexities(const pair_t *pair) {
    char entry[LODE_H5_NAME], group[2 * LODE_H5_NAME], name[LODE_H5_NAME];
    char path[4 * LODE_H5_NAME];
    for (int64_t i = 0; i < lode_h5_members(pair->other, "/perplexity"); i++) {
        if (!lode_h5_member(pair->other, "/perplexity", i, entry))
            continue;
        snprintf(group, sizeof group, "/perplexity/%s", entry);
        for (int64_t j = 0; j < lode_h5_members(pair->other, group); j++)
            if (lode_h5_member(pair->other, group, j, name)) {
                snprintf(path, sizeof path, "%s/%s", group, name);
                compare_perplexity(pair, path);
            }
    }
}

void lode_check_ranks(lode_check_t *check) {
    pair_t pair;
    if (open_pair(&pair, check, "prune")) {
        compare_masks(&pair);
        compare_scores(&pair);
        close_pair(&pair);
    }
    if (open_pair(&pair, check, "compensate")) {
        compare_solves(&pair);
        close_pair(&pair);
    }
    if (open_pair(&pair, check, "evaluate")) {
        compare_perplexities(&pair);
        close_pair(&pair);
    }
}
