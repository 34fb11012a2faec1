/* report/chart: charts of one or several panels, as scripts for gnuplot.
 *
 * A chart is described by plain structures that borrow everything; lode_chart_script() turns them
 * into a script for report/plot. Values that are not finite, or not positive on a logarithmic axis,
 * have no place and are left out. Everything here is Local.
 */
#ifndef LODE_REPORT_CHART_H
#define LODE_REPORT_CHART_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"

/* Okabe and Ito's colours, which colour-blind readers can tell apart. */
#define LODE_COLOUR_BLUE "#0072B2"
#define LODE_COLOUR_VERMILION "#D55E00"
#define LODE_COLOUR_GREEN "#009E73"
#define LODE_COLOUR_SKY "#56B4E9"
#define LODE_COLOUR_ORANGE "#E69F00"
#define LODE_COLOUR_PURPLE "#CC79A7"
#define LODE_COLOUR_BLACK "#000000"
#define LODE_COLOUR_GREY "#8a8f98"

typedef enum lode_chart_mark {
    LODE_MARK_LINE,
    LODE_MARK_POINTS,
    LODE_MARK_BOTH,
    LODE_MARK_BARS,
    LODE_MARK_BOX, /* median y, box box_low to box_high, whiskers low to high */
} lode_chart_mark_t;

typedef struct lode_chart_series {
    const char *name;   /* in the legend, once for all series of one name; NULL for none */
    const char *colour; /* "#rrggbb"; NULL where depth says it */
    double depth;       /* place on the colour scale of the chart's layers; where colour is NULL */
    lode_chart_mark_t mark;
    int point, dash; /* gnuplot's; 0 for a filled circle, a solid line */
    double size;     /* of points or width of boxes; 0 for the usual */
    double width;    /* of lines; 0 for the usual */
    int64_t count;
    const double *x;                  /* [count]; NULL for 0, 1, … */
    const double *y;                  /* [count] */
    const double *low, *high;         /* [count] interval around y; NULL for none */
    const double *box_low, *box_high; /* [count], LODE_MARK_BOX alone */
    double shift;                     /* added to every x, so that intervals lie side by side */
} lode_chart_series_t;

typedef struct lode_chart_panel {
    const char *title, *x_label, *y_label; /* NULL for none */
    bool log_x, log_y;
    bool from_zero;           /* the y axis begins at 0 at the latest */
    bool whole_x;             /* tics at whole numbers: layers */
    const char *const *names; /* [name_count] of x = 0, 1, …; NULL where x is a number */
    int64_t name_count;
    const double *steps; /* [step_count] of training, where x is logarithmic and of such: tics are
                          * there, as far as there is room; NULL for others */
    int64_t step_count;
    double x_low, x_high; /* both 0: from the values */
    double y_low, y_high;
    double level; /* dashed line across, drawn where it is not 0 or has a name */
    const char *level_name;
    double floor; /* dotted line across, drawn where it has a name: what chance gives */
    const char *floor_name;
    double divider; /* dashed upright line; 0 for none */
    const lode_chart_series_t *series;
    int64_t count;
} lode_chart_panel_t;

typedef struct lode_chart {
    const lode_chart_panel_t *panels;
    int64_t count;
    int columns;      /* panels side by side */
    int panel_height; /* pixels, without title and axis; 0 for the usual */
    int64_t layers;   /* > 0: a colour scale for series by depth */
    bool key_right;   /* the legend to the right, not above */
} lode_chart_t;

/* A logarithmic axis has no place for step 0. It gets one of its own, left of the least other step
 * and parted from it by a dashed line, with a tic that says 0. Returns that place for the steps of
 * a panel [count], in any order, each ≥ 0; 1 where there is no other step. */
double lode_chart_step_place(const double *steps, int64_t count);

/* Appends the script of a chart; `script` is empty before. */
LODE_MUST_USE lode_status_t lode_chart_script(lode_buffer_t *script, const lode_chart_t *chart);

/* Panels of several series by layer that fit side by side: 2, or 1 where there are many layers. */
int lode_chart_columns(int64_t layers);

#endif
