/* report/figures: the figures of a case, appended to its HTML. Local. */
#ifndef LODE_REPORT_FIGURES_H
#define LODE_REPORT_FIGURES_H

#include "report/plot.h"
#include "report/result.h"

/* Core mass, LP curves, LP against activation power, connectivity: into item->supernodes. Needs
 * item->layers. */
LODE_MUST_USE lode_status_t lode_figures_supernodes(lode_plot_t *plot, lode_report_case_t *item,
                                                    const lode_report_channels_t *channels);

/* Every metric of every dataset against sparsity, never two datasets in one figure: into
 * item->curves. */
LODE_MUST_USE lode_status_t lode_figures_curves(lode_plot_t *plot, lode_report_case_t *item);

/* Draws a script and wraps it as a figure with caption; where it cannot be drawn, says why. */
LODE_MUST_USE lode_status_t lode_figure_add(lode_plot_t *plot, const lode_buffer_t *script,
                                            const char *title, const char *caption,
                                            lode_buffer_t *page);

#endif
