/* report/trajectory_view: what the table and the charts of a series share. Internal to
 * report/trajectory. Local.
 */
#ifndef LODE_REPORT_TRAJECTORY_VIEW_H
#define LODE_REPORT_TRAJECTORY_VIEW_H

#include "report/chart.h"
#include "report/trajectory.h"

enum { LODE_TRAJECTORY_TEXTS = 6 }; /* perplexities and accuracies shown at most */

/* A series and where it is drawn: all its charts have one axis of steps. */
typedef struct lode_trajectory_view {
    lode_plot_t *plot;
    lode_buffer_t *page;
    lode_trajectory_t *trajectory;
    double *steps; /* [step_count], the checkpoints' first */
    int64_t step_count;
    double *x;        /* [count] where the checkpoints lie */
    double low, high; /* of the axis */
    bool zero;        /* there is a step 0 */
} lode_trajectory_view_t;

/* Where a step lies on the axis. */
double lode_trajectory_place(const lode_trajectory_view_t *view, double step);

/* A panel with that axis and no series; title and label are borrowed. */
lode_chart_panel_t lode_trajectory_panel(const lode_trajectory_view_t *view, const char *title,
                                         const char *label);

/* Whether any checkpoint has the figure in any layer.
 *   all_zero  out: whether it is 0 wherever it is known */
bool lode_trajectory_known(const lode_trajectory_view_t *view, lode_trajectory_figure_t figure,
                           bool *all_zero);

/* The perplexities and accuracies that charts and table show, which are those of the last
 * checkpoint that was evaluated; returns how many. texts: out, the checkpoint's. */
int lode_trajectory_texts(const lode_trajectory_t *trajectory,
                          const lode_report_figure_t *texts[LODE_TRAJECTORY_TEXTS]);

/* The figure of the unchanged model like another one, NULL where there is none. */
const lode_report_figure_t *lode_trajectory_dense(const lode_report_case_t *item,
                                                  const lode_report_figure_t *like);

/* Appends the table: a row for each checkpoint, and what its columns are. */
LODE_MUST_USE lode_status_t lode_trajectory_table(const lode_trajectory_view_t *view);

/* Appends the charts of validation loss, perplexities and accuracies; nothing where none is known.
 */
LODE_MUST_USE lode_status_t lode_trajectory_losses(const lode_trajectory_view_t *view);

/* Appends the charts of the layers' figures, those that are known. The series has a checkpoint that
 * others are compared with (`last`). */
LODE_MUST_USE lode_status_t lode_trajectory_charts(const lode_trajectory_view_t *view);

#endif
