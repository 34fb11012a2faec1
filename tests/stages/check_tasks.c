/* check_tasks: the answers of tasks against those of lm_eval.
 *
 *     check_tasks REFERENCE.h5 EVALUATE.h5
 *
 * tests/golden/README.md says how the reference is made. Prints a line for every comparison; the
 * exit status is 0 where all pass, 1 where any fails, 2 for a wrong command line.
 *
 * For the unpruned model every log-likelihood must be within 1e-3, and the largest of each item
 * that of the same request, with and without division by the characters; what is greedy, the tokens
 * of continuations and gold must be equal, and so must accuracies and their standard errors to
 * 1e-12.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testing/compare.h"
#include "testing/hdf5_read.h"

enum { FAILED = 1, USAGE = 2, PATH = 2 * LODE_H5_NAME };
static const double LIKELIHOOD_ABSOLUTE = 1e-3, FIGURE_ABSOLUTE = 1e-12, PERPLEXITY_RELATIVE = 1e-5;

typedef struct check {
    hid_t want, got;
    const char *task;
    int passed, failed;
} check_t;

static void report(check_t *check, bool passed, const char *what, const char *text) {
    printf("%-5s %s: %s%s%s\n", passed ? "ok" : "FAIL", check->task, what, *text ? ": " : "", text);
    *(passed ? &check->passed : &check->failed) += 1;
}

/* Reads a dataset of the reference, and its counterpart at `path`. */
static bool read_pair(check_t *check, const char *part, const char *path, lode_h5_type_t type,
                      lode_h5_array_t *want, lode_h5_array_t *got) {
    char reference[PATH];
    snprintf(reference, sizeof reference, "%s/%s", check->task, part);
    *want = *got = (lode_h5_array_t){0};
    if (lode_h5_read(want, check->want, reference, type) &&
        lode_h5_read(got, check->got, path, type) && want->axes == got->axes &&
        memcmp(want->extent, got->extent, sizeof want->extent) == 0)
        return true;
    report(check, false, part, "is missing, or of another shape");
    lode_h5_free(want);
    lode_h5_free(got);
    return false;
}

static void check_integers(check_t *check, const char *part, const char *path) {
    lode_h5_array_t want, got;
    if (!read_pair(check, part, path, LODE_H5_I32, &want, &got))
        return;
    const lode_comparison_t result =
        lode_compare_i32(part, got.i32, got.count, want.i32, want.count);
    report(check, result.equal, part, result.equal ? "" : result.text);
    lode_h5_free(&want);
    lode_h5_free(&got);
}

/* The first request of the largest value; divisors NULL for none. */
static int64_t largest(const double *values, const int32_t *divisors, int64_t width) {
    int64_t best = 0;
    double most = 0;
    for (int64_t r = 0; r < width && !isnan(values[r]); r++) {
        const double value = divisors ? values[r] / divisors[r] : values[r];
        if (r == 0 || value > most) {
            best = r;
            most = value;
        }
    }
    return best;
}

static void check_choices(check_t *check, const lode_h5_array_t *want, const lode_h5_array_t *got) {
    char path[PATH], text[128];
    lode_h5_array_t characters;
    int64_t other = 0;
    const int64_t items = want->extent[0], width = want->extent[1];
    snprintf(path, sizeof path, "task_items/%s/characters", check->task);
    if (!lode_h5_read(&characters, check->got, path, LODE_H5_I32) ||
        characters.count != want->count) {
        report(check, false, "characters", "is missing, or of another shape");
        return;
    }
    for (int64_t i = 0; i < items; i++) {
        const double *a = want->f64 + i * width, *b = got->f64 + i * width;
        const int32_t *divisors = characters.i32 + i * width;
        other += largest(a, NULL, width) != largest(b, NULL, width);
        other += largest(a, divisors, width) != largest(b, divisors, width);
    }
    lode_h5_free(&characters);
    snprintf(text, sizeof text, "%lld of %lld differ", (long long)other, (long long)(2 * items));
    report(check, other == 0, "choices", text);
}

static void check_likelihoods(check_t *check) {
    char path[PATH], text[128];
    lode_h5_array_t want, got;
    double worst = 0;
    int64_t bad = 0;
    snprintf(path, sizeof path, "tasks/%s/dense", check->task);
    if (!read_pair(check, "log_likelihood", path, LODE_H5_F64, &want, &got))
        return;
    for (int64_t i = 0; i < want.count; i++) {
        const double error = fabs(want.f64[i] - got.f64[i]);
        if (isnan(want.f64[i]) != isnan(got.f64[i]) || error > LIKELIHOOD_ABSOLUTE)
            bad++;
        if (error > worst)
            worst = error;
    }
    snprintf(text, sizeof text, "%lld of %lld differ, worst by %.2g", (long long)bad,
             (long long)want.count, worst);
    report(check, bad == 0 && want.count > 0, "log-likelihoods", text);
    check_choices(check, &want, &got);
    lode_h5_free(&want);
    lode_h5_free(&got);
}

/* A figure of lm_eval against the attribute of the same name. */
static void check_figure(check_t *check, const char *name, double absolute, double relative) {
    char path[PATH];
    double want, got;
    snprintf(path, sizeof path, "tasks/%s/dense", check->task);
    if (!lode_h5_number(check->want, check->task, name, &want))
        return; /* lm_eval has no such figure of this kind of task */
    if (!lode_h5_number(check->got, path, name, &got)) {
        report(check, false, name, "is missing");
        return;
    }
    const lode_comparison_t result = lode_compare_f64(name, &got, 1, &want, 1, absolute, relative);
    report(check, result.equal, name, result.equal ? "" : result.text);
}

static void check_figures(check_t *check) {
    char kind[LODE_H5_NAME] = "";
    lode_h5_text(check->want, check->task, "kind", kind);
    check_figure(check, "acc", FIGURE_ABSOLUTE, 0);
    check_figure(check, "acc_stderr", FIGURE_ABSOLUTE, 0);
    check_figure(check, "perplexity", 0, PERPLEXITY_RELATIVE);
    if (strcmp(kind, "choice") != 0)
        return; /* where contexts are what is chosen, lm_eval divides by their characters */
    check_figure(check, "acc_norm", FIGURE_ABSOLUTE, 0);
    check_figure(check, "acc_norm_stderr", FIGURE_ABSOLUTE, 0);
}

static void check_task(check_t *check) {
    char path[PATH];
    snprintf(path, sizeof path, "task_items/%s/gold", check->task);
    check_integers(check, "gold", path);
    snprintf(path, sizeof path, "task_items/%s/tokens", check->task);
    check_integers(check, "tokens", path);
    snprintf(path, sizeof path, "task_greedy/%s/dense", check->task);
    check_integers(check, "greedy", path);
    check_likelihoods(check);
    check_figures(check);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: check_tasks REFERENCE.h5 EVALUATE.h5\n");
        return USAGE;
    }
    check_t check = {.want = lode_h5_open(argv[1]), .got = lode_h5_open(argv[2]), .task = ""};
    if (check.want < 0 || check.got < 0) {
        fprintf(stderr, "%s: cannot be read\n", argv[check.want < 0 ? 1 : 2]);
        return FAILED;
    }
    for (int64_t i = 0; i < lode_h5_members(check.want, "/"); i++) {
        char name[LODE_H5_NAME];
        if (!lode_h5_member(check.want, "/", i, name))
            continue;
        check.task = name;
        check_task(&check);
    }
    H5Fclose(check.want);
    H5Fclose(check.got);
    printf("%d passed, %d failed\n", check.passed, check.failed);
    return check.failed > 0 || check.passed == 0 ? FAILED : 0;
}
