/* Scores and masks. */
#include "golden/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is(const char *method, const char *other) {
    return strcmp(method, other) == 0;
}

static double tolerance_of(const char *method) {
    return is(method, "magnitude") || is(method, "entropy") ? LODE_CHECK_WEIGHTS
                                                            : LODE_CHECK_STATISTIC;
}

/* [L,m] of the channels whose score follows from a class that differs inside its margin: P for
 * scar-prot and scar-conn, and for these all of a layer with another core. The caller's. */
static uint8_t *excused_scores(const lode_check_t *check, const char *method) {
    const int64_t count = check->layers * check->channels;
    uint8_t *excused = calloc((size_t)count, 1);
    if (excused && (is(method, "scar-prot") || is(method, "scar-conn")))
        for (int64_t i = 0; i < count; i++)
            excused[i] = check->layer_differs[i / check->channels] || check->protection_differs[i];
    return excused;
}

static void compare_scores(lode_check_t *check, const char *method) {
    char got[2 * LODE_H5_NAME], want[2 * LODE_H5_NAME];
    snprintf(got, sizeof got, "/scores/%s", method);
    snprintf(want, sizeof want, "scores/%s", method);
    uint8_t *excused = excused_scores(check, method);
    lode_check_rows(check, got, want, tolerance_of(method), excused);
    free(excused);
}

/* Whether the results should have, or do have, `path`, which belongs to `method`. */
static bool expected(const lode_check_t *check, const char *method, const char *path) {
    if (check->compensated)
        return lode_h5_exists(check->file, path);
    return strncmp(method, "sparsegpt-channel", strlen("sparsegpt-channel")) != 0;
}

/* --- masks ---------------------------------------------------------------------------------- */

/* A variant of the reference, taken apart. */
typedef struct variant {
    char method[LODE_H5_NAME], core[LODE_H5_NAME], sparsity[LODE_H5_NAME];
    char name[4 * LODE_H5_NAME]; /* <method>@<sparsity>[~<core>] */
} variant_t;

static bool protects(const variant_t *variant, const char *core) {
    const bool own = strncmp(variant->method, "scar-", strlen("scar-")) == 0;
    return is(variant->core, core) || (own && is(core, "lp") && is(variant->core, ""));
}

/* Marks the channels that the reference protects under this variant, [L,m]. */
static bool mark_protected(const lode_check_t *check, const variant_t *variant, uint8_t *excluded) {
    const int64_t m = check->channels;
    lode_h5_array_t core;
    memset(excluded, 0, (size_t)(check->layers * m));
    if (protects(variant, "activation")) /* the reference keeps no list of these */
        return false;
    if (!protects(variant, "lp"))
        return true;
    if (!lode_h5_read(&core, check->golden, "classify/core", LODE_H5_I32))
        return false;
    for (int64_t i = 0; i < core.count; i++)
        if (core.i32[i] >= 0 && core.i32[i] < m)
            excluded[i / core.extent[1] * m + core.i32[i]] = 1;
    lode_h5_free(&core);
    return true;
}

/* Work arrays of one mask comparison, [L,m] each. */
typedef struct mask_work {
    lode_h5_array_t got, want, scores;
    uint8_t *excluded, *excused;
} mask_work_t;

static void compare_layers(lode_check_t *check, const char *path, const variant_t *variant,
                           mask_work_t *work) {
    const int64_t m = check->channels;
    const bool built_on_core = is(variant->method, "scar-prot") || is(variant->method, "scar-conn");
    int64_t swapped = 0, layers = 0;
    double worst = 0;
    for (int64_t l = 0; l < check->layers; l++) {
        if (built_on_core && check->layer_differs[l])
            continue;
        for (int64_t j = 0; j < m && protects(variant, "lp"); j++)
            work->excused[l * m + j] |= check->core_differs[l * m + j];
        const lode_margin_scores_t decided = {.scores = work->scores.f64 + l * m,
                                              .m = m,
                                              .excluded = work->excluded + l * m,
                                              .excused = work->excused + l * m,
                                              .tolerance = tolerance_of(variant->method)};
        const lode_margin_t result =
            lode_margin_mask(path, work->got.u8 + l * m, m, work->want.u8 + l * m, &decided);
        if (!result.equal) {
            lode_check_fail(check, path, "layer %" PRId64 ": %s", l, result.text);
            return;
        }
        swapped += result.swapped;
        worst = fmax(worst, result.worst);
        layers++;
    }
    lode_check_pass(check, path, "%" PRId64 " swapped, widest margin used %.2e, %" PRId64 " layers",
                    swapped, worst, layers);
}

static void compare_mask(lode_check_t *check, const variant_t *variant, const char *want_path) {
    char path[5 * LODE_H5_NAME], scores[2 * LODE_H5_NAME];
    const int64_t extents[] = {check->layers, check->channels, -1};
    mask_work_t work = {0};
    snprintf(path, sizeof path, "/keep/%s", variant->name);
    snprintf(scores, sizeof scores, "scores/%s", variant->method);
    work.excused = excused_scores(check, variant->method);
    work.excluded = calloc((size_t)(check->layers * check->channels), 1);
    if (!work.excused || !work.excluded)
        lode_check_fail(check, path, "out of memory");
    else if (!lode_h5_read(&work.want, check->golden, want_path, LODE_H5_U8) ||
             !lode_h5_read(&work.scores, check->golden, scores, LODE_H5_F64) ||
             work.want.count != check->layers * check->channels ||
             work.scores.count != work.want.count)
        lode_check_fail(check, path, "the reference has no %s, or not [L,m]", scores);
    else if (!mark_protected(check, variant, work.excluded))
        lode_check_skip(check, path, "the reference does not say what is protected");
    else if (lode_check_got(check, &work.got, path, LODE_H5_U8, extents))
        compare_layers(check, path, variant, &work);
    lode_h5_free(&work.got);
    lode_h5_free(&work.want);
    lode_h5_free(&work.scores);
    free(work.excluded);
    free(work.excused);
}

/* Every sparsity under keep/<group>, the group being <method> or <method>~<core>. */
static void compare_masks(lode_check_t *check, const char *group) {
    char path[2 * LODE_H5_NAME], want_path[4 * LODE_H5_NAME], got_path[5 * LODE_H5_NAME];
    variant_t variant = {0};
    const size_t method = strcspn(group, "~");
    snprintf(variant.method, sizeof variant.method, "%.*s", (int)method, group);
    snprintf(variant.core, sizeof variant.core, "%s", group + method + (group[method] == '~'));
    snprintf(path, sizeof path, "keep/%s", group);
    for (int64_t i = 0; i < lode_h5_members(check->golden, path); i++) {
        if (!lode_h5_member(check->golden, path, i, variant.sparsity))
            continue;
        snprintf(variant.name, sizeof variant.name, "%s@%s%s", variant.method, variant.sparsity,
                 group + method);
        snprintf(want_path, sizeof want_path, "%s/%s", path, variant.sparsity);
        snprintf(got_path, sizeof got_path, "/keep/%s", variant.name);
        if (expected(check, variant.method, got_path))
            compare_mask(check, &variant, want_path);
    }
}

void lode_check_pruning(lode_check_t *check) {
    char name[LODE_H5_NAME], path[2 * LODE_H5_NAME];
    int64_t scores = 0;
    if (!lode_check_open(check, "prune"))
        return;
    for (int64_t i = 0; i < lode_h5_members(check->golden, "scores"); i++)
        if (lode_h5_member(check->golden, "scores", i, name)) {
            snprintf(path, sizeof path, "/scores/%s", name);
            if (!expected(check, name, path))
                continue;
            compare_scores(check, name);
            scores++;
        }
    if (scores == 0)
        lode_check_fail(check, "/scores", "the results have none that the reference has");
    for (int64_t i = 0; i < lode_h5_members(check->golden, "keep"); i++)
        if (lode_h5_member(check->golden, "keep", i, name)) {
            snprintf(path, sizeof path, "/scores/%.*s", (int)strcspn(name, "~"), name);
            if (expected(check, name, path))
                compare_masks(check, name);
        }
    lode_check_close(check);
}
