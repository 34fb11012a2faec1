/* testing/results: stage files made by hand, and what the report makes of them. All of it fails the
 * running cmocka test where something is wrong.
 */
#ifndef LODE_TESTING_RESULTS_H
#define LODE_TESTING_RESULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "report/report.h"
#include "store/store.h"

/* Begins <folder>/<stage>.h5, making the folder; lode_test_stage_finish() adds a provenance with
 * the text of an experiment and commits it. */
lode_store_t *lode_test_stage_create(const char *folder, const char *stage);
void lode_test_stage_finish(lode_store_t *store, const char *experiment);

/* Writes a whole dataset; that of integers has two axes. */
void lode_test_put_f64(lode_store_t *store, const char *name, int axes, const int64_t *shape,
                       const double *values);
void lode_test_put_i32(lode_store_t *store, const char *name, const int64_t *shape,
                       const int32_t *values);

/* A report of every model at every point, of no series, each with a joint plan's budget; at most
 * LODE_TEST_CASES in all. Its entries are replaced by the next call. */
enum { LODE_TEST_CASES = 16 };
lode_report_t lode_test_report(const char *folder, const char *name, const char *const *points,
                               int64_t point_count, const char *const *models, int64_t model_count,
                               int64_t budget);

/* The text of <folder>/<name>, the caller's. */
char *lode_test_result(const char *folder, const char *name);
int64_t lode_test_lines(const char *text);

/* Takes a line of CSV apart: fields unquoted in place; returns the start of the next line. */
enum { LODE_TEST_FIELDS = 32 };
char *lode_test_row(char *line, char *fields[LODE_TEST_FIELDS], int *count);

/* How often `part` occurs. */
int lode_test_count(const char *text, const char *part);

/* Every element is closed by its own tag, in order. */
void lode_test_balanced(const char *html);
/* The same, and nothing refers to the outside. */
void lode_test_page(const char *html);

#endif
