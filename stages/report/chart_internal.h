/* report/chart_internal: what the chart's own files share.
 *
 * chart.c draws series in their panels, chart_axes.c finds their ranges and writes axes with their
 * tics, chart_legend.c writes the legend. Everything here is Local.
 */
#ifndef LODE_REPORT_CHART_INTERNAL_H
#define LODE_REPORT_CHART_INTERNAL_H

#include "report/chart.h"

/* Pixels: of a chart, left of and above the axes of a panel, and of a letter. The page scales
 * figures to its width. */
enum { LODE_CHART_WIDTH = 860, LODE_CHART_LEFT = 84, LODE_CHART_TOP = 30, LODE_CHART_LETTER = 7 };

/* --- chart_axes.c ---------------------------------------------------------------------------- */

/* Whether a value has a place on an axis. */
bool lode_chart_has_place(double value, bool logarithmic);

/* Where value i of a series is. */
double lode_chart_x(const lode_chart_series_t *series, int64_t i);

/* Where the line is that parts step 0 from the others, 0 where it is not among them or alone. */
double lode_chart_step_divider(const lode_chart_panel_t *panel);

/* "set <what> '<text>'"; NULL clears it. */
LODE_MUST_USE lode_status_t lode_chart_write_label(lode_buffer_t *script, const char *what,
                                                   const char *text);

/* Range, label and tics of the x axis of a panel that is so many pixels wide; range and tics of the
 * y axis. */
LODE_MUST_USE lode_status_t lode_chart_write_x_axis(lode_buffer_t *script,
                                                    const lode_chart_panel_t *panel, int width);
LODE_MUST_USE lode_status_t lode_chart_write_y_axis(lode_buffer_t *script,
                                                    const lode_chart_panel_t *panel);

/* --- chart_legend.c -------------------------------------------------------------------------- */

/* What the legend takes away at the top or at the right, in pixels. */
typedef struct lode_chart_legend {
    int top, right;
} lode_chart_legend_t;

lode_chart_legend_t lode_chart_legend_of(const lode_chart_t *chart);

/* Writes it for a chart that is so many pixels high. */
LODE_MUST_USE lode_status_t lode_chart_write_legend(lode_buffer_t *script,
                                                    const lode_chart_t *chart,
                                                    const lode_chart_legend_t *legend, int height);

#endif
