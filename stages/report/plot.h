/* report/plot: figures drawn by gnuplot, a child process, as SVG to stand inside a page. Local. */
#ifndef LODE_REPORT_PLOT_H
#define LODE_REPORT_PLOT_H

#include <stdbool.h>

#include "base/error.h"
#include "base/memory.h"

/* What all figures of a page share; initialise with {0}. */
typedef struct lode_plot {
    bool missing;     /* gnuplot could not be started; no further figure is tried */
    int figures;      /* drawn so far: gives each its own identifiers */
    char reason[256]; /* why the last figure could not be drawn */
} lode_plot_t;

/* Starts a script for a figure of so many pixels. */
LODE_MUST_USE lode_status_t lode_plot_begin(lode_buffer_t *script, int width, int height);

/* Appends text as one single-quoted gnuplot string, without what gnuplot would interpret. */
LODE_MUST_USE lode_status_t lode_plot_text(lode_buffer_t *script, const char *text);

/* Appends tics "set <axis>tics (…)" for a logarithmic axis from low to high, both > 0: at most
 * about eight, at round numbers. */
LODE_MUST_USE lode_status_t lode_plot_log_tics(lode_buffer_t *script, char axis, double low,
                                               double high);

/* Tics at powers of ten alone, some `most` of them, of the logarithmic axis of low … high. gnuplot
 * sets those of a few decades by itself, with small ones between them; where they are many decades
 * apart, it would count the small ones out one by one, for hours. */
LODE_MUST_USE lode_status_t lode_plot_power_tics(lode_buffer_t *script, char axis, double low,
                                                 double high, int most);

/* Runs the script and appends the figure, an <svg> element titled `title` that needs nothing
 * outside itself. Where gnuplot is missing or fails, appends nothing, sets *drawn to false and
 * plot->reason, and warns the first time. Errors: LODE_ERR_IO, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_plot_draw(lode_plot_t *plot, const lode_buffer_t *script,
                                           const char *title, lode_buffer_t *svg, bool *drawn);

#endif
