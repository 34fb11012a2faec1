/* check_protocol: perplexities against the float64 reference.
 *
 *     check_protocol REFERENCE.json MODEL EVALUATE.h5
 *
 * Every number that the reference has of a perplexity must be an attribute of its dataset: integers
 * equal, figures within 1e-6 relative, several times what float32 activations cost; above e their
 * logs within 1e-6 relative, since an exponential multiplies what its exponent lacks. The dataset
 * must hold as many losses as it has targets, and the reference must have every perplexity of the
 * file. Prints a line for each perplexity. Exit status: 0 passed, 1 failed, 2 wrong command line.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testing/hdf5_read.h"

static const double relative = 1e-6;

/* Compares all attributes of one perplexity; `worst` collects the largest relative difference. */
static bool compare_figures(hid_t file, const char *path, json_t *want, double *worst) {
    const char *name;
    json_t *value;
    bool passed = true;
    json_object_foreach(want, name, value) {
        double got = NAN;
        const double expected = json_number_value(value);
        const double difference =
            lode_h5_number(file, path, name, &got) ? fabs(got / expected - 1) : INFINITY;
        const double scale = fmax(1, log(json_number_value(json_object_get(want, "value"))));
        const bool equal =
            json_is_integer(value) ? got == expected : difference <= relative * scale;
        if (!equal)
            printf("FAIL  %s: %s is %.17g, must be %.17g\n", path, name, got, expected);
        if (!json_is_integer(value) && difference / scale > *worst)
            *worst = difference / scale;
        passed = passed && equal;
    }
    return passed;
}

static bool check_losses(hid_t file, const char *path, json_t *want) {
    lode_h5_array_t losses;
    const int64_t targets = json_integer_value(json_object_get(want, "targets"));
    if (!lode_h5_read(&losses, file, path, LODE_H5_F64)) {
        printf("FAIL  %s: missing\n", path);
        return false;
    }
    const bool equal = losses.count == targets;
    if (!equal)
        printf("FAIL  %s: holds %lld losses of %lld targets\n", path, (long long)losses.count,
               (long long)targets);
    lode_h5_free(&losses);
    return equal;
}

static int check(json_t *reference, hid_t file) {
    const char *name;
    json_t *want;
    int64_t passed = 0;
    double worst = 0;
    json_object_foreach(reference, name, want) {
        char path[LODE_H5_NAME + 32];
        double largest = 0;
        snprintf(path, sizeof path, "/perplexity/%s/dense", name);
        if (!check_losses(file, path, want) || !compare_figures(file, path, want, &largest))
            continue;
        printf("ok    %s: within %.1e\n", name, largest);
        worst = fmax(worst, largest);
        passed++;
    }
    const int64_t entries = (int64_t)json_object_size(reference);
    const int64_t members = lode_h5_members(file, "/perplexity");
    if (members != entries)
        printf("FAIL  the file has %lld perplexities, the reference %lld\n", (long long)members,
               (long long)entries);
    printf("check_protocol: %lld of %lld passed, within %.1e\n", (long long)passed,
           (long long)entries, worst);
    return entries > 0 && passed == entries && members == entries ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: check_protocol REFERENCE.json MODEL EVALUATE.h5\n");
        return 2;
    }
    json_t *all = json_load_file(argv[1], 0, NULL);
    json_t *reference = json_object_get(all, argv[2]);
    const hid_t file = lode_h5_open(argv[3]);
    int status = EXIT_FAILURE;
    if (!reference || file < 0)
        fprintf(stderr, "check_protocol: %s has no \"%s\", or %s cannot be read\n", argv[1],
                argv[2], argv[3]);
    else
        status = check(reference, file);
    if (file >= 0)
        H5Fclose(file);
    json_decref(all);
    return status;
}
