#include "golden/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 3, 0))) static void print_line(const char *verdict, const char *name,
                                                             const char *format, va_list values) {
    printf("%-4s  %-44s  ", verdict, name);
    vprintf(format, values);
    printf("\n");
}

void lode_check_pass(lode_check_t *check, const char *name, const char *format, ...) {
    va_list values;
    va_start(values, format);
    print_line("ok", name, format, values);
    va_end(values);
    check->passed++;
}

void lode_check_fail(lode_check_t *check, const char *name, const char *format, ...) {
    va_list values;
    va_start(values, format);
    print_line("FAIL", name, format, values);
    va_end(values);
    check->failed++;
}

void lode_check_skip(lode_check_t *check, const char *name, const char *format, ...) {
    va_list values;
    va_start(values, format);
    print_line("skip", name, format, values);
    va_end(values);
    check->skipped++;
}

void lode_check_comparison(lode_check_t *check, const char *name, lode_comparison_t result) {
    if (result.equal)
        lode_check_pass(check, name, "worst error %.2e of what is allowed", result.worst);
    else
        lode_check_fail(check, name, "%s; %" PRId64 " beyond the tolerance, worst %.3g times",
                        result.text, result.bad, result.worst);
}

bool lode_check_open(lode_check_t *check, const char *stage) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.h5", check->folder, stage);
    check->file = lode_h5_open(path);
    if (check->file < 0)
        lode_check_fail(check, path, "cannot be read");
    return check->file >= 0;
}

void lode_check_close(lode_check_t *check) {
    H5Fclose(check->file);
    check->file = -1;
}

bool lode_check_got(lode_check_t *check, lode_h5_array_t *got, const char *path,
                    lode_h5_type_t type, const int64_t *extents) {
    if (!lode_h5_read(got, check->file, path, type)) {
        lode_check_fail(check, path, "the results have no such dataset");
        return false;
    }
    int axes = 0;
    while (extents[axes] >= 0 && axes < got->axes && extents[axes] == got->extent[axes])
        axes++;
    if (extents[axes] < 0 && axes == got->axes)
        return true;
    lode_check_fail(check, path, "wrong shape: axis %d of %d is %" PRId64 ", expected %" PRId64,
                    axes, got->axes, axes < got->axes ? got->extent[axes] : -1, extents[axes]);
    lode_h5_free(got);
    return false;
}

void lode_check_number(lode_check_t *check, const char *path, const char *attribute, double want) {
    char name[3 * LODE_H5_NAME];
    double got = NAN;
    snprintf(name, sizeof name, "%s.%s", path, attribute);
    if (!lode_h5_number(check->file, path, attribute, &got))
        lode_check_fail(check, name, "the results have no such attribute");
    else if (got != want)
        lode_check_fail(check, name, "is %.17g, expected %.17g", got, want);
    else
        lode_check_pass(check, name, "%.17g", got);
}

/* The elements of one kind, significant or not, of both arrays; returns how many. */
static int64_t select_elements(double *got, double *want, const lode_h5_array_t *got_all,
                               const lode_h5_array_t *want_all, const uint8_t *excused,
                               const double *largest, bool significant) {
    const int64_t columns = want_all->extent[1];
    int64_t count = 0;
    for (int64_t i = 0; i < want_all->count; i++) {
        const double floor = LODE_CHECK_SIGNIFICANT * largest[i / columns];
        const bool excuse = excused && excused[i] && isfinite(got_all->f64[i]);
        if (excuse || (fabs(want_all->f64[i]) > floor) != significant)
            continue;
        /* small elements of different rows, each in units of its row's largest */
        const double unit = significant || floor == 0 ? 1 : largest[i / columns];
        got[count] = got_all->f64[i] / unit;
        want[count++] = want_all->f64[i] / unit;
    }
    return count;
}

static void compare_rows(lode_check_t *check, const char *name, const lode_h5_array_t *got,
                         const lode_h5_array_t *want, double relative, const uint8_t *excused) {
    const size_t room = (size_t)want->count + 1;
    double *a = calloc(room, sizeof *a), *b = calloc(room, sizeof *b);
    double *largest = calloc((size_t)want->extent[0] + 1, sizeof *largest);
    if (a && b && largest) {
        for (int64_t i = 0; i < want->count; i++) {
            double *row = &largest[i / want->extent[1]];
            *row = fmax(*row, fabs(want->f64[i]));
        }
        const int64_t count = select_elements(a, b, got, want, excused, largest, true);
        lode_comparison_t result = lode_compare_f64(name, a, count, b, count, 0, relative);
        const int64_t rest = select_elements(a, b, got, want, excused, largest, false);
        lode_comparison_t small =
            lode_compare_f64(name, a, rest, b, rest, LODE_CHECK_SIGNIFICANT, 0);
        if (result.equal && !small.equal)
            result = small;
        if (result.equal)
            lode_check_pass(check, name,
                            "worst relative error %.2e of %" PRId64 " (%" PRId64 " insignificant)",
                            result.worst * relative, count, rest);
        else
            lode_check_comparison(check, name, result);
    } else {
        lode_check_fail(check, name, "out of memory");
    }
    free(a);
    free(b);
    free(largest);
}

void lode_check_rows(lode_check_t *check, const char *got_path, const char *want_path,
                     double relative, const uint8_t *excused) {
    lode_h5_array_t got, want;
    if (!lode_h5_read(&want, check->golden, want_path, LODE_H5_F64))
        return;
    const int64_t extents[] = {want.extent[0], want.axes == 1 ? -1 : want.extent[1], -1};
    if (lode_check_got(check, &got, got_path, LODE_H5_F64, extents)) {
        compare_rows(check, got_path, &got, &want, relative, excused);
        lode_h5_free(&got);
    }
    lode_h5_free(&want);
}

void lode_check_mask_path(char path[2 * LODE_H5_NAME], const char *variant) {
    const size_t method = strcspn(variant, "@");
    const char *sparsity = variant + method + (variant[method] == '@');
    const size_t digits = strcspn(sparsity, "~+"); /* a compensation changes no mask */
    const size_t core = strcspn(sparsity + digits, "+");
    snprintf(path, 2 * LODE_H5_NAME, "keep/%.*s%.*s/%.*s", (int)method, variant, (int)core,
             sparsity + digits, (int)digits, sparsity);
}
