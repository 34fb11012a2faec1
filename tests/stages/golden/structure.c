/* Structure of the loss proxy and controls of the halo, against tests/golden/structure.py. */
#include "golden/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Marks the layers whose core, write support or halo differs from the reference's, as it may inside
 * the margin: what is random is drawn from what they leave, so nothing there compares. */
static bool mark_layers(lode_check_t *check, bool *differs) {
    static const char *const names[] = {"core", "write_support", "halo"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lode_h5_array_t want, got;
        if (!lode_h5_read(&want, check->structure, names[i], LODE_H5_I32))
            return false;
        const int64_t extents[] = {check->layers, want.extent[1], -1};
        const bool readable = lode_check_got(check, &got, names[i], LODE_H5_I32, extents);
        for (int64_t j = 0; readable && j < want.count; j++)
            differs[j / want.extent[1]] |= got.i32[j] != want.i32[j];
        lode_h5_free(&want);
        if (!readable)
            return false;
        lode_h5_free(&got);
    }
    return true;
}

/* Whether this reference figure depends on the layer before, too. */
static bool of_two_layers(const char *path) {
    return strcmp(path, "controls/read_connectivity") == 0;
}

typedef struct tolerance {
    double absolute, relative;
} tolerance_t;

static bool ends_with(const char *text, const char *end) {
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* What float32 statistics may change: nothing in figures of weights alone; the rank correlations
 * and overlaps by what a near tie is worth, the redundancies as those of the halo. */
static tolerance_t tolerance_of(const char *path) {
    if (strstr(path, "write_dimensions") || of_two_layers(path))
        return (tolerance_t){0, LODE_CHECK_WEIGHTS};
    if (ends_with(path, "_nodelens")) /* means of multiples of 2⁻²⁵, most of them of 0 */
        return (tolerance_t){LODE_CHECK_NODELENS, LODE_CHECK_REDUNDANCY};
    if (strncmp(path, "controls/", 9) == 0)
        return (tolerance_t){LODE_CHECK_REDUNDANCY_FLOOR, LODE_CHECK_REDUNDANCY};
    if (strstr(path, "core_mass") || strstr(path, "gini") || strstr(path, "effective_number"))
        return (tolerance_t){0, LODE_CHECK_STATISTIC};
    if (ends_with(path, "_interval") || strcmp(path, "core_stability") == 0)
        return (tolerance_t){LODE_CHECK_INTERVAL, 0};
    return (tolerance_t){LODE_CHECK_STATISTIC, 0};
}

/* One row of floats. NaN stands where nothing is defined, which must be so in both. */
static bool same_row(lode_check_t *check, const char *path, const double *got, const double *want,
                     int64_t columns, double *worst) {
    const tolerance_t allowed = tolerance_of(path);
    for (int64_t i = 0; i < columns; i++) {
        if (isnan(got[i]) && isnan(want[i]))
            continue;
        const lode_comparison_t one =
            lode_compare_f64(path, got + i, 1, want + i, 1, allowed.absolute, allowed.relative);
        *worst = fmax(*worst, one.worst);
        if (!one.equal) {
            lode_check_fail(check, path, "column %" PRId64 ": %s", i, one.text);
            return false;
        }
    }
    return true;
}

static void compare_floats(lode_check_t *check, const char *path, const bool *differs) {
    lode_h5_array_t want, got;
    if (!lode_h5_read(&want, check->structure, path, LODE_H5_F64)) {
        lode_check_fail(check, path, "the reference cannot be read");
        return;
    }
    const int64_t columns = want.axes == 1 ? 1 : want.extent[1];
    const int64_t extents[] = {check->layers, want.axes == 1 ? -1 : columns, -1};
    double worst = 0;
    if (lode_check_got(check, &got, path, LODE_H5_F64, extents)) {
        bool same = true;
        for (int64_t l = 0; same && l < check->layers; l++)
            if (!differs[l] && !(of_two_layers(path) && l > 0 && differs[l - 1]))
                same = same_row(check, path, got.f64 + l * columns, want.f64 + l * columns, columns,
                                &worst);
        if (same)
            lode_check_pass(check, path, "worst error %.2e of what is allowed", worst);
        lode_h5_free(&got);
    }
    lode_h5_free(&want);
}

static void compare_lists(lode_check_t *check, const char *path, const bool *differs) {
    lode_h5_array_t want, got;
    if (!lode_h5_read(&want, check->structure, path, LODE_H5_I32)) {
        lode_check_fail(check, path, "the reference cannot be read");
        return;
    }
    const int64_t extents[] = {check->layers, want.extent[1], -1};
    if (lode_check_got(check, &got, path, LODE_H5_I32, extents)) {
        int64_t bad = 0;
        for (int64_t i = 0; i < want.count; i++)
            bad += !differs[i / want.extent[1]] && got.i32[i] != want.i32[i];
        if (bad)
            lode_check_fail(check, path, "%" PRId64 " of %" PRId64 " channels differ", bad,
                            want.count);
        else
            lode_check_pass(check, path, "%" PRId64 " channels", want.count);
        lode_h5_free(&got);
    }
    lode_h5_free(&want);
}

static void compare_group(lode_check_t *check, const char *group, const bool *differs) {
    static const char *const lists[] = {"random", "random_core", "random_halo"};
    const int64_t count = lode_h5_members(check->structure, group);
    for (int64_t i = 0; i < count; i++) {
        char name[LODE_H5_NAME], path[2 * LODE_H5_NAME];
        bool list = false;
        if (!lode_h5_member(check->structure, group, i, name))
            continue;
        for (size_t n = 0; n < sizeof lists / sizeof *lists; n++)
            list |= strcmp(name, lists[n]) == 0;
        snprintf(path, sizeof path, "%s/%s", group, name);
        if (list)
            compare_lists(check, path, differs);
        else
            compare_floats(check, path, differs);
    }
    if (count == 0)
        lode_check_fail(check, group, "the reference has no such group");
}

void lode_check_structure(lode_check_t *check) {
    if (check->structure < 0 || !lode_check_open(check, "classify"))
        return;
    bool *differs = calloc((size_t)check->layers, sizeof *differs);
    int64_t left_out = 0;
    if (differs && mark_layers(check, differs)) {
        compare_group(check, "structure", differs);
        compare_group(check, "controls", differs);
        compare_floats(check, "core_stability", differs);
        compare_floats(check, "core_stability_interval", differs);
        for (int64_t l = 0; l < check->layers; l++)
            left_out += differs[l];
        if (left_out == check->layers)
            lode_check_fail(check, "structure", "core or halo differs in every layer");
        else if (left_out > 0)
            lode_check_skip(check, "structure", "%" PRId64 " layers with another core or halo",
                            left_out);
    } else {
        lode_check_fail(check, "structure", "core and halo cannot be compared");
    }
    free(differs);
    lode_check_close(check);
}
