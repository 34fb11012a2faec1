/* check_probe: the causal checks' results against the float64 reference.
 *
 *     check_probe REFERENCE.h5 FOLDER
 *
 * FOLDER is <results>/<name>/<model> of a run of tests/stages/probe.cfg; tests/golden/README.md
 * says how the reference is made. Prints a line for every comparison; the exit status is 0 where
 * all pass, 1 where any fails, 2 for a wrong command line.
 *
 * What was drawn must be what was drawn for the reference, except that channels are drawn by their
 * rank in loss proxy, which the last bits of float32 can change: a candidate of other channels is
 * not compared, and a tenth of a check may be such. Then changes in loss are compared within
 * 5e-6 + 1e-4 of them, perplexities within 1e-5.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testing/compare.h"
#include "testing/hdf5_read.h"

enum { FAILED = 1, USAGE = 2 };
static const double DELTA_ABSOLUTE = 5e-6, DELTA_RELATIVE = 1e-4, PERPLEXITY_RELATIVE = 1e-5,
                    CORRELATION_ABSOLUTE = 0.01, MOST_DIFFERING = 0.1;

typedef struct check {
    hid_t want, got;
    int passed, failed;
} check_t;

static void report(check_t *check, bool passed, const char *what, const char *text) {
    printf("%-5s %s%s%s\n", passed ? "ok" : "FAIL", what, *text ? ": " : "", text);
    *(passed ? &check->passed : &check->failed) += 1;
}

/* Reads a dataset of both files; a failure where one lacks it or their extents differ. */
static bool read_both(check_t *check, const char *path, lode_h5_type_t type, lode_h5_array_t *want,
                      lode_h5_array_t *got) {
    *want = *got = (lode_h5_array_t){0};
    if (lode_h5_read(want, check->want, path, type) && lode_h5_read(got, check->got, path, type) &&
        want->axes == got->axes && memcmp(want->extent, got->extent, sizeof want->extent) == 0)
        return true;
    report(check, false, path, "is missing, or of another shape");
    lode_h5_free(want);
    lode_h5_free(got);
    return false;
}

/* Marks the candidates whose rows of `path` [n, …] differ. */
static void mark_rows(check_t *check, const char *path, uint8_t *differs, int64_t n) {
    lode_h5_array_t want, got;
    if (!lode_h5_exists(check->want, path) || !read_both(check, path, LODE_H5_I32, &want, &got))
        return;
    const int64_t width = want.extent[0] == n ? want.count / n : 0;
    for (int64_t c = 0; c < n && width > 0; c++)
        if (memcmp(want.i32 + c * width, got.i32 + c * width, (size_t)width * sizeof *want.i32) !=
            0)
            differs[c] = 1;
    if (width == 0)
        report(check, false, path, "has not one row for each candidate");
    lode_h5_free(&want);
    lode_h5_free(&got);
}

/* Marks candidates of sets [sets, L, k] that differ in a layer that the candidate changes. */
static void mark_sets(check_t *check, uint8_t *differs, int64_t n) {
    lode_h5_array_t want, got, set, layer, unused;
    if (!read_both(check, "mean_replacement/sets", LODE_H5_I32, &want, &got))
        return;
    const int64_t layers = want.extent[1], k = want.extent[2];
    if (read_both(check, "mean_replacement/set", LODE_H5_I32, &unused, &set)) {
        lode_h5_free(&unused);
        if (read_both(check, "mean_replacement/layer", LODE_H5_I32, &unused, &layer)) {
            lode_h5_free(&unused);
            for (int64_t c = 0; c < n; c++)
                for (int64_t l = 0; l < layers; l++) {
                    const int64_t row = (set.i32[c] * layers + l) * k;
                    if ((layer.i32[c] < 0 || layer.i32[c] == l) &&
                        memcmp(want.i32 + row, got.i32 + row, (size_t)k * sizeof *want.i32) != 0)
                        differs[c] = 1;
                }
            lode_h5_free(&layer);
        }
        lode_h5_free(&set);
    }
    lode_h5_free(&want);
    lode_h5_free(&got);
}

/* Compares a figure [n] of the candidates whose channels are the reference's. */
static void compare_figure(check_t *check, const char *path, const uint8_t *differs,
                           double absolute, double relative) {
    lode_h5_array_t want, got;
    if (!read_both(check, path, LODE_H5_F64, &want, &got))
        return;
    int64_t kept = 0;
    for (int64_t c = 0; c < want.count; c++)
        if (!differs[c]) {
            want.f64[kept] = want.f64[c];
            got.f64[kept++] = got.f64[c];
        }
    const lode_comparison_t result =
        lode_compare_f64(path, got.f64, kept, want.f64, kept, absolute, relative);
    char text[320];
    snprintf(text, sizeof text, "%lld candidates, %.2g of what is allowed%s%s", (long long)kept,
             result.worst, result.equal ? "" : "; ", result.equal ? "" : result.text);
    report(check, result.equal && kept > 0, path, text);
    lode_h5_free(&want);
    lode_h5_free(&got);
}

/* What the candidates are, apart from channels, must be equal. */
static void compare_columns(check_t *check, const char *group) {
    static const char *const columns[] = {"layer", "kind",        "draw",         "score", "core",
                                          "set",   "replacement", "core_removed", "bin"};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        char path[LODE_H5_NAME];
        lode_h5_array_t want, got;
        snprintf(path, sizeof path, "%s/%s", group, columns[i]);
        if (!lode_h5_exists(check->want, path) || !read_both(check, path, LODE_H5_I32, &want, &got))
            continue;
        const lode_comparison_t result =
            lode_compare_i32(path, got.i32, got.count, want.i32, want.count);
        report(check, result.equal, path, result.equal ? "" : result.text);
        lode_h5_free(&want);
        lode_h5_free(&got);
    }
}

static void compare_correlations(check_t *check, const uint8_t *differs, int64_t n) {
    static const char *const names[] = {"ablation/spearman/loss_proxy",
                                        "ablation/spearman/activation_power"};
    for (int i = 0; i < 2; i++) {
        lode_h5_array_t want, got;
        if (!read_both(check, names[i], LODE_H5_F64, &want, &got))
            continue;
        const int64_t layers = want.count, each = n / layers;
        int64_t kept = 0;
        for (int64_t p = 0; p < layers; p++) {
            if (memchr(differs + p * each, 1, (size_t)each))
                continue;
            want.f64[kept] = want.f64[p];
            got.f64[kept++] = got.f64[p];
        }
        const lode_comparison_t result =
            lode_compare_f64(names[i], got.f64, kept, want.f64, kept, CORRELATION_ABSOLUTE, 0);
        report(check, result.equal, names[i], result.equal ? "" : result.text);
        lode_h5_free(&want);
        lode_h5_free(&got);
    }
}

static void check_group(check_t *check, const char *group) {
    static const char *const drawn[] = {"keep", "channel", "channels"};
    char path[LODE_H5_NAME], text[80];
    lode_h5_array_t want, got;
    snprintf(path, sizeof path, "%s/delta_nll", group);
    if (!read_both(check, path, LODE_H5_F64, &want, &got))
        return;
    const int64_t n = want.count;
    lode_h5_free(&want);
    lode_h5_free(&got);
    uint8_t *differs = calloc((size_t)n + 1, 1);
    int64_t differing = 0;
    if (!differs)
        abort();
    for (size_t i = 0; i < sizeof drawn / sizeof *drawn; i++) {
        snprintf(path, sizeof path, "%s/%s", group, drawn[i]);
        mark_rows(check, path, differs, n);
    }
    if (strcmp(group, "mean_replacement") == 0)
        mark_sets(check, differs, n);
    for (int64_t c = 0; c < n; c++)
        differing += differs[c];
    snprintf(text, sizeof text, "%lld of %lld candidates of other channels", (long long)differing,
             (long long)n);
    report(check, (double)differing <= MOST_DIFFERING * (double)n, group, text);
    compare_columns(check, group);
    snprintf(path, sizeof path, "%s/delta_nll", group);
    compare_figure(check, path, differs, DELTA_ABSOLUTE, DELTA_RELATIVE);
    snprintf(path, sizeof path, "%s/perplexity", group);
    compare_figure(check, path, differs, 0, PERPLEXITY_RELATIVE);
    if (strcmp(group, "ablation") == 0)
        compare_correlations(check, differs, n);
    free(differs);
}

/* Two candidates of score_core are variants of the pruning stage: the same to the last bit. */
static void compare_evaluated(check_t *check, const char *folder) {
    static const struct {
        const char *variant;
        int64_t candidate;
    } same[] = {{"lp@0.5~activation", 1}, {"activation@0.5~activation", 4}};
    char path[4096];
    lode_h5_array_t perplexity;
    snprintf(path, sizeof path, "%s/evaluate.h5", folder);
    const hid_t evaluate = lode_h5_open(path);
    if (evaluate < 0 ||
        !lode_h5_read(&perplexity, check->got, "score_core/perplexity", LODE_H5_F64)) {
        report(check, false, path, "cannot be read");
    } else {
        for (int i = 0; i < 2; i++) {
            double value = 0;
            snprintf(path, sizeof path, "perplexity/windows/%s", same[i].variant);
            const bool found = lode_h5_number(evaluate, path, "value", &value);
            report(check, found && value == perplexity.f64[same[i].candidate], path,
                   "the same in score_core");
        }
        lode_h5_free(&perplexity);
    }
    if (evaluate >= 0)
        H5Fclose(evaluate);
}

int main(int argc, char **argv) {
    static const char *const groups[] = {"dose_response", "random_cores",  "score_core",
                                         "ablation",      "halo_ablation", "mean_replacement"};
    char path[4096];
    if (argc != 3) {
        fprintf(stderr, "usage: check_probe REFERENCE.h5 FOLDER\n");
        return USAGE;
    }
    snprintf(path, sizeof path, "%s/probe.h5", argv[2]);
    check_t check = {.want = lode_h5_open(argv[1]), .got = lode_h5_open(path)};
    if (check.want < 0 || check.got < 0) {
        fprintf(stderr, "check_probe: %s or %s cannot be read\n", argv[1], path);
        return FAILED;
    }
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        check_group(&check, groups[i]);
    compare_evaluated(&check, argv[2]);
    H5Fclose(check.want);
    H5Fclose(check.got);
    printf("check_probe: %d passed, %d failed\n", check.passed, check.failed);
    return check.failed == 0 ? EXIT_SUCCESS : FAILED;
}
