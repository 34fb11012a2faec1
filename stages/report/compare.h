/* report/compare: which variants differ by more than chance, from their losses on the same tokens
 * (score/paired.h). Local.
 *
 * Compared are the variants of one family on one dataset (one sparsity and one number of bits, or
 * the experiments with super weights), each with each, and each with the unpruned model; of more
 * than LODE_COMPARE_MOST variants the best. Answers to tasks are compared item by item in the same
 * way (score/answer.h). The p values of all pairs of a family are adjusted together by Holm's
 * method, those against the unpruned model too. A verdict then says
 *   better, worse            beyond chance among all the comparisons made (adjusted p < 0.05)
 *   likely better or worse   by the interval of this comparison alone, which excludes 0
 *   undecided                the interval includes 0
 *   equal                    the same losses throughout
 *   unknown                  too few targets for an interval
 * each of the first variant of a pair; in comparisons.csv with its letter, "a better", "b better".
 */
#ifndef LODE_REPORT_COMPARE_H
#define LODE_REPORT_COMPARE_H

#include "report/result.h"
#include "score/paired.h"

enum { LODE_COMPARE_MOST = 40 };

typedef enum lode_verdict {
    LODE_VERDICT_BETTER,
    LODE_VERDICT_LIKELY_BETTER,
    LODE_VERDICT_EQUAL,
    LODE_VERDICT_UNDECIDED,
    LODE_VERDICT_LIKELY_WORSE,
    LODE_VERDICT_WORSE,
    LODE_VERDICT_UNKNOWN,
} lode_verdict_t;

/* One pair. */
typedef struct lode_comparison_pair {
    lode_paired_t paired; /* loss, or accuracy, of the first minus that of the second */
    double adjusted;      /* p */
    lode_verdict_t verdict;
} lode_comparison_pair_t;

/* The variants of one family on one dataset, the best first. */
typedef struct lode_comparison_family {
    bool accuracy;                        /* of a task, not a perplexity */
    const lode_report_figure_t **members; /* [count] */
    int64_t count, left_out;              /* left_out: beyond LODE_COMPARE_MOST */
    const lode_report_figure_t *dense;    /* NULL where it was not evaluated */
    int64_t blocks, targets;              /* both the items of a task */
    double per_unit;               /* targets per unit of the perplexity: 1, or those of a word */
    lode_comparison_pair_t *pairs; /* [count, count], i against j; the diagonal is not used */
    lode_comparison_pair_t *to_dense; /* [count]; NULL without dense */
} lode_comparison_family_t;

/* Compares everything of a case: fills item->comparisons with the rows of comparisons.csv, and the
 * topic COMPARISONS. */
LODE_MUST_USE lode_status_t lode_compare_case(lode_report_case_t *item);

/* What the verdict means of the first of a pair: "better" …; static. */
const char *lode_verdict_text(lode_verdict_t verdict);

/* comparisons.csv of all cases. */
LODE_MUST_USE lode_status_t lode_compare_csv(const lode_report_case_t *cases, int64_t count,
                                             lode_buffer_t *out);

/* Appends a family's rows to item->comparisons, and its part of the page. */
LODE_MUST_USE lode_status_t lode_compare_rows(lode_report_case_t *item,
                                              const lode_comparison_family_t *family);
LODE_MUST_USE lode_status_t lode_compare_page(lode_report_case_t *item,
                                              const lode_comparison_family_t *family, bool open);

/* Opens the part of the page about a family: which of its variants is `best` ("lowest"), and how
 * many others it beats. */
LODE_MUST_USE lode_status_t lode_compare_summary(lode_buffer_t *page,
                                                 const lode_comparison_family_t *family, bool open,
                                                 const char *best);

/* The same as lode_compare_page for a family of accuracies. */
LODE_MUST_USE lode_status_t lode_compare_page_tasks(lode_report_case_t *item,
                                                    const lode_comparison_family_t *family,
                                                    bool open);

/* Whether items are right, of all `count` figures of one task and metric: *right [count, items],
 * the caller's, 1 or 0. Errors: LODE_ERR_SHAPE where variants have different items. */
LODE_MUST_USE lode_status_t lode_compare_read_tasks(double **right, int64_t *items,
                                                    lode_store_t *store,
                                                    const lode_report_figure_t *figures,
                                                    int64_t count);

#endif
