/* report/entropy: the entropies of channels' write weights of several models or settings, beside
 * each other. Local. */
#ifndef LODE_REPORT_ENTROPY_H
#define LODE_REPORT_ENTROPY_H

#include "report/plot.h"
#include "report/result.h"

/* Appends the section: a chart, and tables with a row for each case, of entropies by classify.h5
 * and of every figure of the dense model and of the variants that entropy, random and magnitude
 * prune. Nothing where no two cases differ in their entropies. Errors: as the figures
 * (report/figures.h).
 */
LODE_MUST_USE lode_status_t lode_entropy_page(lode_plot_t *plot, lode_buffer_t *page,
                                              const lode_report_case_t *cases, int64_t count);

#endif
