/* Compares quantize.h5 with what tests/golden/quantize_stage.py finds.
 *
 *     check_quantize REFERENCE.h5 <results>/<name>/<model>/quantize.h5
 *
 * Exit status: 0 equal, 1 different or unreadable. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "testing/hdf5_read.h"

enum { PATH = 512 };

typedef struct check {
    hid_t want, got;
    int compared, failed;
} check_t;

static void fail(check_t *check, const char *path, const char *what) {
    printf("FAIL  %s: %s\n", path, what);
    check->failed++;
}

/* Numbers are the same where both are NaN, or as near as the tolerance asks for. */
static bool agree(double got, double want, double tolerance) {
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got);
    return got == want || fabs(got - want) <= tolerance * fabs(want);
}

/* `want` against `got`, or that row of it. */
static void compare(check_t *check, const char *path, const lode_h5_array_t *want,
                    const lode_h5_array_t *got, double tolerance, int64_t row) {
    const int64_t first = row < 0 ? 0 : row * want->count;
    char text[128];
    if (row < 0 ? got->count != want->count
                : got->count != got->extent[0] * want->count || row >= got->extent[0]) {
        fail(check, path, "of another shape");
        return;
    }
    for (int64_t i = 0; i < want->count; i++) {
        if (agree(got->f64[first + i], want->f64[i], tolerance))
            continue;
        snprintf(text, sizeof text, "[%lld] is %.9g, not %.9g", (long long)i, got->f64[first + i],
                 want->f64[i]);
        fail(check, path, text);
        return;
    }
    check->compared++;
}

static void check_dataset(check_t *check, const char *path) {
    double tolerance = 0, row = 0;
    lode_h5_array_t want, got;
    if (!lode_h5_number(check->want, path, "tolerance", &tolerance) ||
        !lode_h5_number(check->want, path, "row", &row) ||
        !lode_h5_read(&want, check->want, path, LODE_H5_F64)) {
        fail(check, path, "the reference cannot be read");
        return;
    }
    if (lode_h5_read(&got, check->got, path, LODE_H5_F64)) {
        compare(check, path, &want, &got, tolerance, (int64_t)row);
        lode_h5_free(&got);
    } else {
        fail(check, path, "is missing");
    }
    lode_h5_free(&want);
}

/* All datasets of the reference under `path`. */
static void check_group(check_t *check, const char *path) {
    const int64_t members = lode_h5_members(check->want, path);
    for (int64_t i = 0; i < members; i++) {
        char name[LODE_H5_NAME], child[PATH];
        double tolerance;
        if (!lode_h5_member(check->want, path, i, name))
            continue;
        snprintf(child, sizeof child, "%s/%s", strcmp(path, "/") == 0 ? "" : path, name);
        if (lode_h5_number(check->want, child, "tolerance", &tolerance))
            check_dataset(check, child);
        else
            check_group(check, child);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: check_quantize REFERENCE.h5 quantize.h5\n");
        return 1;
    }
    check_t check = {.want = lode_h5_open(argv[1]), .got = lode_h5_open(argv[2])};
    if (check.want < 0 || check.got < 0) {
        fprintf(stderr, "check_quantize: %s cannot be read\n", argv[check.want < 0 ? 1 : 2]);
        return 1;
    }
    check_group(&check, "/");
    H5Fclose(check.want);
    H5Fclose(check.got);
    printf("%s  %d datasets as NumPy has them, %d not\n", check.failed ? "FAIL" : "ok  ",
           check.compared, check.failed);
    return check.failed > 0 || check.compared == 0;
}
