/* check_audit: an audit's results against the float64 reference, and against those of other stages.
 *
 *     check_audit REFERENCE.h5 FOLDER
 *
 * FOLDER is <results>/<name>/<model> of the run that audit.sh makes; tests/golden/README.md says
 * how the reference is made. Prints a line for every comparison; the exit status is 0 where all
 * pass, 1 where any fails, 2 for a wrong command line.
 *
 * What counts weights must be equal; sums of weights agree to 1e-12 relative, the loss proxy, which
 * is computed in float32, to 2e-4 with 1e-9 of a layer's largest, and what is made of it and
 * perplexities to 1e-5. A folder with the original's own weights has the original's own bits.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testing/compare.h"
#include "testing/hdf5_read.h"

enum { FAILED = 1, USAGE = 2, PATH = 256 };

typedef struct check {
    hid_t want, audit, accumulate, classify, evaluate, superweight;
    int passed, failed;
} check_t;

static void report(check_t *check, bool passed, const char *what, const char *text) {
    printf("%-5s %s%s%s\n", passed ? "ok" : "FAIL", what, *text ? ": " : "", text);
    *(passed ? &check->passed : &check->failed) += 1;
}

static lode_h5_array_t read_array(check_t *check, hid_t file, const char *path,
                                  lode_h5_type_t type) {
    lode_h5_array_t array = {0};
    if (!lode_h5_read(&array, file, path, type))
        report(check, false, path, "cannot be read");
    return array;
}

/* Whether two arrays of float64 have the same bits. */
static void compare_bits(check_t *check, hid_t file, const char *path, hid_t other,
                         const char *other_path) {
    lode_h5_array_t a = read_array(check, file, path, LODE_H5_F64);
    lode_h5_array_t b = read_array(check, other, other_path, LODE_H5_F64);
    report(check,
           a.count > 0 && a.count == b.count &&
               memcmp(a.f64, b.f64, (size_t)a.count * sizeof *a.f64) == 0,
           path, "bits");
    lode_h5_free(&a);
    lode_h5_free(&b);
}

/* --- the reference --------------------------------------------------------------------------- */

static void compare_figure(check_t *check, const char *version, const char *name, double absolute,
                           double relative) {
    char got_path[PATH], want_path[PATH];
    snprintf(got_path, sizeof got_path, "/folders/%s/%s", version, name);
    snprintf(want_path, sizeof want_path, "/%s/%s", version, name);
    lode_h5_array_t got = read_array(check, check->audit, got_path, LODE_H5_F64);
    lode_h5_array_t want = read_array(check, check->want, want_path, LODE_H5_F64);
    const lode_comparison_t result =
        lode_compare_f64(got_path, got.f64, got.count, want.f64, want.count, absolute, relative);
    report(check, result.equal && want.count > 0, got_path, result.equal ? "" : result.text);
    lode_h5_free(&got);
    lode_h5_free(&want);
}

/* The loss proxy: NaN in the same places, and near elsewhere. */
static void compare_proxy(check_t *check, const char *version) {
    char got_path[PATH], want_path[PATH], text[128] = "";
    snprintf(got_path, sizeof got_path, "/folders/%s/loss_proxy", version);
    snprintf(want_path, sizeof want_path, "/%s/loss_proxy", version);
    lode_h5_array_t got = read_array(check, check->audit, got_path, LODE_H5_F64);
    lode_h5_array_t want = read_array(check, check->want, want_path, LODE_H5_F64);
    bool passed = want.count > 0 && got.count == want.count;
    for (int64_t row = 0; passed && row < want.count; row += want.extent[1]) {
        double largest = 0;
        for (int64_t j = row; j < row + want.extent[1]; j++)
            if (want.f64[j] > largest)
                largest = want.f64[j];
        for (int64_t j = row; j < row + want.extent[1] && passed; j++) {
            passed = isnan(want.f64[j])
                         ? isnan(got.f64[j])
                         : fabs(got.f64[j] - want.f64[j]) <= 2e-4 * want.f64[j] + 1e-9 * largest;
            if (!passed)
                snprintf(text, sizeof text, "[%lld] is %.9g, %.9g was expected", (long long)j,
                         got.f64[j], want.f64[j]);
        }
    }
    report(check, passed, got_path, text);
    lode_h5_free(&got);
    lode_h5_free(&want);
}

static void compare_perplexity(check_t *check, const char *version) {
    char path[PATH], want_path[PATH];
    double value = NAN;
    snprintf(path, sizeof path, "/folders/%s/perplexity/evaluation", version);
    snprintf(want_path, sizeof want_path, "/%s/perplexity", version);
    lode_h5_array_t want = read_array(check, check->want, want_path, LODE_H5_F64);
    report(check,
           want.count == 1 && lode_h5_number(check->audit, path, "value", &value) &&
               fabs(value / want.f64[0] - 1) <= 1e-5,
           path, "");
    lode_h5_free(&want);
}

static void compare_version(check_t *check, const char *version) {
    static const char *const counts[] = {"core_removed",  "core_zeroed", "core_changed",
                                         "zero_core",     "zero_halo",   "zero_rest",
                                         "zero_attention"};
    static const char *const errors[] = {"weight_error_core", "weight_error_halo",
                                         "weight_error_rest", "weight_error_attention"};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        compare_figure(check, version, counts[i], 1e-15, 1e-15);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        compare_figure(check, version, errors[i], 0, 1e-12);
    compare_proxy(check, version);
    compare_figure(check, version, "core_mass", 0, 1e-5);
    compare_figure(check, version, "core_overlap", 1e-15, 0);
    compare_figure(check, version, "proxy_correlation", 1e-4, 0);
    compare_perplexity(check, version);
}

/* The reference is of the same core, halo and mask, or its figures are of something else. */
static void compare_sets(check_t *check, const char *name, hid_t file, const char *path) {
    lode_h5_array_t want = read_array(check, check->want, name, LODE_H5_I32);
    lode_h5_array_t got = read_array(check, file, path, LODE_H5_I32);
    const lode_comparison_t result =
        lode_compare_i32(path, got.i32, got.count, want.i32, want.count);
    report(check, result.equal && want.count > 0, path, result.equal ? "" : result.text);
    lode_h5_free(&want);
    lode_h5_free(&got);
}

/* --- the original's own weights, and matched channels ------------------------------------------
 */

static void check_same(check_t *check) {
    static const char *const zero[] = {
        "core_removed",      "core_zeroed",       "core_changed",          "weight_error_core",
        "weight_error_halo", "weight_error_rest", "weight_error_attention"};
    char path[PATH];
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++) {
        snprintf(path, sizeof path, "/folders/self/%s", zero[i]);
        lode_h5_array_t got = read_array(check, check->audit, path, LODE_H5_F64);
        bool passed = got.count > 0;
        for (int64_t l = 0; l < got.count; l++)
            passed &= got.f64[l] == 0;
        report(check, passed, path, "zero");
        lode_h5_free(&got);
    }
    compare_bits(check, check->audit, "/folders/self/loss_proxy", check->accumulate, "/loss_proxy");
    compare_bits(check, check->audit, "/folders/self/core_mass", check->classify, "/core_mass");
    compare_bits(check, check->audit, "/folders/self/perplexity/evaluation", check->evaluate,
                 "/perplexity/evaluation/dense");
    compare_bits(check, check->audit, "/folders/self/tasks/last-words", check->evaluate,
                 "/tasks/last-words/dense");
    compare_bits(check, check->audit, "/original/perplexity/evaluation", check->evaluate,
                 "/perplexity/evaluation/dense");
    compare_bits(check, check->audit, "/original/core_mass", check->classify, "/core_mass");
}

/* A sliced folder without its note is audited as the one with it. */
static void check_matched(check_t *check) {
    static const char *const figures[] = {
        "core_removed", "weight_error_halo", "weight_error_rest", "zero_rest",
        "loss_proxy",   "core_mass",         "proxy_correlation", "perplexity/evaluation"};
    char text[LODE_H5_NAME] = "", path[PATH], other[PATH];
    compare_sets(check, "kept", check->audit, "/folders/bare/kept");
    compare_sets(check, "kept", check->audit, "/folders/sliced/kept");
    report(check,
           lode_h5_text(check->audit, "/folders/bare", "known", text) &&
               strcmp(text, "similarity") == 0 &&
               lode_h5_text(check->audit, "/folders/sliced", "known", text) &&
               strcmp(text, "lodestone.json") == 0,
           "how channels are known", "");
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        snprintf(path, sizeof path, "/folders/bare/%s", figures[i]);
        snprintf(other, sizeof other, "/folders/sliced/%s", figures[i]);
        compare_bits(check, check->audit, path, check->audit, other);
    }
    lode_h5_array_t least =
        read_array(check, check->audit, "/folders/bare/similarity", LODE_H5_F64);
    bool alike = least.count > 0;
    for (int64_t l = 0; l < least.count; l++)
        alike &= least.f64[l] > 1 - 1e-5 && least.f64[l] <= 1;
    report(check, alike, "/folders/bare/similarity", "");
    lode_h5_free(&least);
}

/* --- super weights ---------------------------------------------------------------------------- */

/* What superweight.h5 or a version's group says: the columns of their tables. */
typedef struct table {
    lode_h5_array_t layer, row, channel, value;
} table_t;

static table_t read_table(check_t *check, hid_t file, const char *group) {
    static const char *const names[] = {"layer", "row", "channel", "value"};
    lode_h5_array_t column[4];
    for (int i = 0; i < 4; i++) {
        char path[PATH];
        snprintf(path, sizeof path, "%s/%s", group, names[i]);
        column[i] = read_array(check, file, path, i == 3 ? LODE_H5_F64 : LODE_H5_I32);
    }
    return (table_t){column[0], column[1], column[2], column[3]};
}

static void table_free(table_t *table) {
    lode_h5_free(&table->layer);
    lode_h5_free(&table->row);
    lode_h5_free(&table->channel);
    lode_h5_free(&table->value);
}

/* What is left of a super weight: nothing where its channel is gone, and of two of them what
 * audit.changes leaves. */
static double factor_of(const char *version, const lode_h5_array_t *kept, int32_t layer,
                        int32_t row, int32_t channel) {
    if (strcmp(version, "altered") == 0 && layer == 0 && channel == 75)
        return row == 126 ? -1 : row == 181 ? 0.5 : 1;
    if (strcmp(version, "sliced") != 0)
        return 1;
    const int64_t n = kept->extent[1];
    for (int64_t i = 0; i < n; i++)
        if (kept->i32[layer * n + i] == channel)
            return 1;
    return 0;
}

/* Counts those of each factor: 1, 0.5, 0, −1. */
static void check_version(check_t *check, const char *version, const table_t *found,
                          const lode_h5_array_t *kept, int64_t counts[4]) {
    char path[PATH];
    snprintf(path, sizeof path, "/folders/%s/superweights", version);
    table_t got = read_table(check, check->audit, path);
    snprintf(path, sizeof path, "/folders/%s/superweights/original", version);
    lode_h5_array_t original = read_array(check, check->audit, path, LODE_H5_F64);
    snprintf(path, sizeof path, "/folders/%s/superweights/survives", version);
    lode_h5_array_t survives = read_array(check, check->audit, path, LODE_H5_U8);
    const int64_t n = found->layer.count;
    bool passed = n > 0 && got.layer.count == n && got.row.count == n && got.channel.count == n &&
                  got.value.count == n && original.count == n && survives.count == n;
    for (int64_t i = 0; i < n && passed; i++) {
        const int32_t layer = found->layer.i32[i], row = found->row.i32[i];
        const double factor = factor_of(version, kept, layer, row, found->channel.i32[i]);
        passed = got.layer.i32[i] == layer && got.row.i32[i] == row &&
                 got.channel.i32[i] == found->channel.i32[i] &&
                 original.f64[i] == found->value.f64[i] &&
                 got.value.f64[i] == factor * found->value.f64[i] && survives.u8[i] == (factor > 0);
        counts[factor == 1 ? 0 : factor > 0 ? 1 : factor == 0 ? 2 : 3]++;
    }
    report(check, passed, path, "");
    lode_h5_free(&survives);
    lode_h5_free(&original);
    table_free(&got);
}

/* What the search of a version has found follows from its table: the original's are where they are,
 * each once; and of the original's own folder it is what superweight.h5 has. */
static void check_search(check_t *check, const char *version, const table_t *found) {
    static const char *const numbers[] = {"input", "output", "ratio_input", "ratio_output"};
    char path[PATH];
    const int64_t n = found->layer.count;
    const bool self = strcmp(version, "self") == 0;
    snprintf(path, sizeof path, "/folders/%s/detected", version);
    table_t got = read_table(check, check->audit, path);
    snprintf(path, sizeof path, "/folders/%s/detected/original", version);
    lode_h5_array_t original = read_array(check, check->audit, path, LODE_H5_I32);
    snprintf(path, sizeof path, "/folders/%s/superweights/detected", version);
    lode_h5_array_t again = read_array(check, check->audit, path, LODE_H5_U8);
    int64_t count = 0, back = 0, told = 0;
    bool passed = n > 0 && again.count == n && original.count == got.layer.count;
    while (passed && count < original.count && got.layer.i32[count] >= 0)
        count++;
    for (int64_t i = 0; i < count; i++) {
        const int32_t at = original.i32[i];
        back += at >= 0;
        for (int64_t w = 0; w < n; w++)
            passed &= (w == at) == (got.layer.i32[i] == found->layer.i32[w] &&
                                    got.row.i32[i] == found->row.i32[w] &&
                                    got.channel.i32[i] == found->channel.i32[w]);
        passed &= !self || (at == i && got.value.f64[i] == found->value.f64[i]);
    }
    for (int64_t w = 0; passed && w < n; w++)
        told += again.u8[w];
    passed &= count > 0 && told == back && (!self || back == n);
    for (int i = 0; i < 4 && self && passed; i++) {
        snprintf(path, sizeof path, "/folders/%s/detected/%s", version, numbers[i]);
        lode_h5_array_t own = read_array(check, check->audit, path, LODE_H5_F64);
        snprintf(path, sizeof path, "/weights/%s", numbers[i]);
        lode_h5_array_t want = read_array(check, check->superweight, path, LODE_H5_F64);
        passed = want.count == n && own.count >= n &&
                 memcmp(own.f64, want.f64, (size_t)n * sizeof(double)) == 0;
        lode_h5_free(&own);
        lode_h5_free(&want);
    }
    snprintf(path, sizeof path, "%s: %lld super weights found, %lld of them of the original's %lld",
             version, (long long)count, (long long)back, (long long)n);
    report(check, passed, path, "");
    lode_h5_free(&again);
    lode_h5_free(&original);
    table_free(&got);
}

static void check_superweights(check_t *check) {
    static const char *const versions[] = {"self", "altered", "sliced"};
    int64_t counts[4] = {0};
    table_t found = read_table(check, check->superweight, "/weights");
    lode_h5_array_t kept = read_array(check, check->want, "kept", LODE_H5_I32);
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        check_version(check, versions[i], &found, &kept, counts);
        check_search(check, versions[i], &found);
    }
    report(check, counts[0] > 0 && counts[1] == 1 && counts[2] > 0 && counts[3] == 1,
           "super weights that are as they were, halved, removed, turned", "");
    lode_h5_free(&kept);
    table_free(&found);
}

static hid_t open_stage(const char *folder, const char *stage) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.h5", folder, stage);
    return lode_h5_open(path);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: check_audit REFERENCE.h5 FOLDER\n");
        return USAGE;
    }
    check_t check = {.want = lode_h5_open(argv[1]),
                     .audit = open_stage(argv[2], "audit"),
                     .accumulate = open_stage(argv[2], "accumulate"),
                     .classify = open_stage(argv[2], "classify"),
                     .evaluate = open_stage(argv[2], "evaluate"),
                     .superweight = open_stage(argv[2], "superweight")};
    const hid_t files[] = {check.want,     check.audit,    check.accumulate,
                           check.classify, check.evaluate, check.superweight};
    bool open = true;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        open &= files[i] >= 0;
    report(&check, open, "results and reference", "");
    if (open) {
        compare_sets(&check, "core", check.classify, "/core");
        compare_sets(&check, "halo", check.classify, "/halo");
        compare_version(&check, "altered");
        compare_version(&check, "sliced");
        check_same(&check);
        check_matched(&check);
        check_superweights(&check);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (files[i] >= 0)
            H5Fclose(files[i]);
    printf("check_audit: %d passed, %d failed\n", check.passed, check.failed);
    return check.failed == 0 && check.passed > 0 ? EXIT_SUCCESS : FAILED;
}
