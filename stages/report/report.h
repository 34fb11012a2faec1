/* stages/report: what an experiment found, for people (report.html) and for scripts (summary.csv,
 * comparisons.csv, audit.csv, trajectory.csv).
 *
 * Reads the stage files of every model at every point of the sweep, as far as they exist, and
 * writes the files into the experiment's folder, each atomically, under the lock summary.lock.
 * summary.csv has a row for each figure (report/result.h), audit.csv, which is there where any
 * model has an audit.h5, rows for each folder (report/retention.h), trajectory.csv, which is there
 * where any model has a series, rows for each figure of each checkpoint (report/trajectory.h).
 * comparisons.csv has a row for each pair of variants compared (report/compare.h): model, dataset,
 * protocol, variant_a, variant_b, delta_nll (mean loss of a minus that of b, nats a target), low,
 * high (95 % interval), perplexity_ratio (exp of delta_nll), verdict, point, sparsity, stderr, p,
 * p_adjusted, blocks, targets. report.html is one self-contained page; its figures are drawn by
 * gnuplot, without which it has tables only and says so. Everything here is Local: one rank calls
 * it.
 */
#ifndef LODE_STAGES_REPORT_H
#define LODE_STAGES_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* One model at one point of the sweep. Strings are the caller's. */
typedef struct lode_report_entry {
    const char *point; /* label, "" without a sweep */
    const char *model;
    const char *series; /* that the model is a checkpoint of, "" or NULL for none */
    int64_t step;       /* of the series, −1 for none */
    bool scratch;       /* trained from nothing: no stage but those that train runs on it */
    int64_t budget;     /* bytes of the joint plan, 0 for none */
} lode_report_entry_t;

typedef struct lode_report {
    const char *folder;                 /* <results>/<name>, must exist */
    const char *name;                   /* of the experiment */
    int64_t seed;                       /* likewise: of what the report draws at random */
    const lode_report_entry_t *entries; /* [count] points in order, models in order at each */
    int64_t count;
} lode_report_t;

/* Builds the files anew from <folder>/[<point>/]<model>/<stage>.h5; all strings
 * stay the caller's. A missing stage file is noted in the page; a missing gnuplot is a warning.
 * Errors: LODE_ERR_FORMAT or LODE_ERR_SHAPE naming a stage file that cannot be understood,
 * LODE_ERR_BUSY where another process holds the lock for a minute, LODE_ERR_IO, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_report_build(const lode_report_t *report);

#endif
