/* report/entropy: the entropies of channels' write weights of several models or settings, beside
 * each other. Local. */
#ifndef LODE_REPORT_ENTROPY_H
#define LODE_REPORT_ENTROPY_H

#include "report/result.h"

/* Appends tables with a row for each case: entropies by classify.h5, and every perplexity of the
 * dense model and of the variants that entropy, random and magnitude prune. Nothing where fewer
 * than two cases differ in their entropies. Errors: as the figures (report/figures.h). */
LODE_MUST_USE lode_status_t lode_entropy_compare(lode_buffer_t *page,
                                                 const lode_report_case_t *cases, int64_t count);

#endif
