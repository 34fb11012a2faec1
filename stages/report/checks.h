/* report/checks: what the figures of the causal checks share. Local. */
#ifndef LODE_REPORT_CHECKS_H
#define LODE_REPORT_CHECKS_H

#include "report/chart.h"
#include "report/plot.h"
#include "report/result.h"
#include "report/shelf.h"

enum { LODE_CHECK_INTEGERS = 4 };

/* probe.h5 of a case. */
typedef struct lode_checks {
    lode_plot_t *plot;
    lode_report_case_t *item;
    lode_store_t *store;
    lode_shelf_t shelf; /* of the check in hand */
} lode_checks_t;

/* What a check was measured on. */
typedef struct lode_check_text {
    char source[96], protocol[96];
    int64_t length, sequences, targets;
    double perplexity; /* of the unchanged model */
} lode_check_text_t;

/* One check: `count` candidates. The arrays are the shelf's. */
typedef struct lode_check {
    lode_checks_t *checks;
    const char *group;
    bool exists; /* and has all its datasets */
    int64_t count;
    lode_check_text_t text;
    double sparsity;             /* NaN where the check prunes nothing */
    int64_t core_size, set_size; /* 0 where the group does not say */
    double *perplexity, *perplexity_error, *delta, *delta_error; /* [count] */
    int32_t *integer[LODE_CHECK_INTEGERS];                       /* [count] each, as asked for */
} lode_check_t;

/* Reads the check of a group ("/ablation") with the integer datasets named, a list that NULL ends;
 * check->exists is false where the file has not got it. */
LODE_MUST_USE lode_status_t lode_check_open(lode_check_t *check, lode_checks_t *checks,
                                            const char *group, const char *const *integers);

/* A dataset f64 [count] of the check; *values is the shelf's, NULL where there is none. */
LODE_MUST_USE lode_status_t lode_check_floats(const lode_check_t *check, const char *name,
                                              double **values);

/* The integer that stands for a name in a dataset of the check: its place in the attribute
 * <dataset>_names, which the group or the dataset has; −1 where it is not there, a code that no
 * candidate of a name has. */
LODE_MUST_USE lode_status_t lode_check_code(const lode_check_t *check, const char *dataset,
                                            const char *name, int32_t *code);

/* Sets x, y, low, high and count of a series to the chosen candidates, in their order: the
 * perplexity or the ΔNLL with one standard error either way.
 *   x [count] in, place on the x axis;  chosen [count] in */
LODE_MUST_USE lode_status_t lode_check_points(const lode_check_t *check, bool perplexity,
                                              const double *x, const bool *chosen,
                                              lode_chart_series_t *series);

/* Sets x, y and count to the means of the chosen candidates of equal x, ascending: geometric means
 * of perplexities, arithmetic ones of ΔNLL. */
LODE_MUST_USE lode_status_t lode_check_means(const lode_check_t *check, bool perplexity,
                                             const double *x, const bool *chosen,
                                             lode_chart_series_t *series);

/* Appends a sentence that says what the check was measured on. */
LODE_MUST_USE lode_status_t lode_check_text(const lode_check_t *check, lode_buffer_t *caption);

/* Draws a chart of a check; the caption ends with what it was measured on. */
LODE_MUST_USE lode_status_t lode_check_draw(const lode_check_t *check, const lode_chart_t *chart,
                                            const char *title, const char *caption);

/* The figures of each check; nothing where the file has not got it. */
LODE_MUST_USE lode_status_t lode_checks_dose(lode_checks_t *checks);
LODE_MUST_USE lode_status_t lode_checks_cores(lode_checks_t *checks);
LODE_MUST_USE lode_status_t lode_checks_score_core(lode_checks_t *checks);
LODE_MUST_USE lode_status_t lode_checks_ablation(lode_checks_t *checks);
LODE_MUST_USE lode_status_t lode_checks_halo_ablation(lode_checks_t *checks);
LODE_MUST_USE lode_status_t lode_checks_replacement(lode_checks_t *checks);

#endif
