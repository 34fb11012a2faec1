/* check_golden: one model's results against the float64 reference.
 *
 *     check_golden REFERENCE.h5 REFERENCE.json FOLDER [--loss mean|sum] [--perplexity NAME]
 *                  [--structure STRUCTURE.h5] [--compensated] [--ranks FOLDER]
 *
 * FOLDER is <results>/<name>/<model>. With --compensated, every compensated variant of the
 * reference must be there, and of the others only what the results have is compared; without, what
 * needs distributed matrices is left out. --ranks names the folder of the same run on other ranks.
 * Prints a line for every comparison; the exit status is 0 where all pass, 1 where any fails, 2 for
 * a wrong command line, 77 where there is no reference. What each comparison allows, and why, is in
 * golden/check.h; how the reference was made is in tests/golden/README.md.
 */
#include "golden/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAILED = 1, USAGE = 2, SKIPPED = 77 };

static int usage(void) {
    fprintf(stderr, "usage: check_golden REFERENCE.h5 REFERENCE.json FOLDER [--loss mean|sum] "
                    "[--perplexity NAME] [--structure STRUCTURE.h5] [--compensated] "
                    "[--ranks FOLDER]\n");
    return USAGE;
}

static bool parse_options(lode_check_t *check, int argc, char **argv) {
    for (int i = 4; i < argc; i += 2) {
        if (strcmp(argv[i], "--compensated") == 0) {
            check->compensated = true;
            i--;
            continue;
        }
        if (i + 1 >= argc)
            return false;
        if (strcmp(argv[i], "--ranks") == 0)
            check->ranks = argv[i + 1];
        else if (strcmp(argv[i], "--perplexity") == 0)
            check->only = argv[i + 1];
        else if (strcmp(argv[i], "--loss") == 0 &&
                 (strcmp(argv[i + 1], "mean") == 0 || strcmp(argv[i + 1], "sum") == 0))
            check->loss = argv[i + 1];
        else if (strcmp(argv[i], "--structure") == 0 && check->structure < 0 &&
                 (check->structure = lode_h5_open(argv[i + 1])) >= 0)
            continue;
        else
            return false;
    }
    return true;
}

/* Opens the reference and takes its shape. */
static bool open_reference(lode_check_t *check, const char *arrays, const char *figures) {
    lode_h5_array_t proxy;
    json_error_t error;
    check->golden = lode_h5_open(arrays);
    check->figures = json_load_file(figures, 0, &error);
    if (check->golden < 0 || !check->figures ||
        !lode_h5_read(&proxy, check->golden, "loss_mean/loss_proxy", LODE_H5_F64)) {
        fprintf(stderr, "check_golden: %s or %s cannot be read as a reference\n", arrays, figures);
        return false;
    }
    check->layers = proxy.extent[0];
    check->channels = proxy.extent[1];
    lode_h5_free(&proxy);
    const json_t *parameters = json_object_get(check->figures, "parameters");
    const char *loss = json_string_value(json_object_get(parameters, "loss"));
    check->classes = strcmp(check->loss, loss ? loss : "mean") == 0;
    const size_t count = (size_t)(check->layers * check->channels);
    check->core_differs = calloc(count + 1, 1);
    check->layer_differs = calloc((size_t)check->layers + 1, 1);
    check->protection_differs = calloc(count + 1, 1);
    return check->core_differs && check->layer_differs && check->protection_differs;
}

static void release(lode_check_t *check) {
    if (check->golden >= 0)
        H5Fclose(check->golden);
    if (check->structure >= 0)
        H5Fclose(check->structure);
    json_decref(check->figures);
    free(check->core_differs);
    free(check->layer_differs);
    free(check->protection_differs);
}

int main(int argc, char **argv) {
    lode_check_t check = {.golden = -1, .structure = -1, .loss = "mean", .file = -1};
    if (argc < 4 || !parse_options(&check, argc, argv)) {
        release(&check);
        return usage();
    }
    if (access(argv[1], R_OK) != 0 || access(argv[2], R_OK) != 0) {
        printf("skipped: there is no reference %s with %s\n", argv[1], argv[2]);
        release(&check);
        return SKIPPED;
    }
    check.folder = argv[3];
    if (open_reference(&check, argv[1], argv[2])) {
        lode_check_tokens(&check);
        lode_check_statistics(&check);
        if (check.classes) {
            lode_check_classes(&check);
            lode_check_structure(&check);
            lode_check_pruning(&check);
        }
        lode_check_perplexities(&check);
        if (check.ranks)
            lode_check_ranks(&check);
    } else {
        check.failed++;
    }
    release(&check);
    printf("check_golden: %d passed, %d failed, %d not comparable\n", check.passed, check.failed,
           check.skipped);
    return check.failed == 0 && check.passed > 0 ? EXIT_SUCCESS : FAILED;
}
