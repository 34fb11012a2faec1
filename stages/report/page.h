/* report/page: report.html. Local. */
#ifndef LODE_REPORT_PAGE_H
#define LODE_REPORT_PAGE_H

#include "base/error.h"
#include "base/memory.h"
#include "report/plot.h"
#include "report/report.h"
#include "report/result.h"

/* Appends text with everything escaped that HTML would interpret, in text and in attributes. */
LODE_MUST_USE lode_status_t lode_page_text(lode_buffer_t *page, const char *text);

/* Sections that stand before those of the cases, since they are of several; HTML, may be empty. */
typedef struct lode_page_across {
    lode_buffer_t training;   /* report/training.h */
    lode_buffer_t trajectory; /* report/trajectory.h */
    lode_buffer_t entropy;    /* report/entropy.h */
} lode_page_across_t;

/* Appends the whole page. `cases` are loaded, measured and drawn. */
LODE_MUST_USE lode_status_t lode_page_write(lode_buffer_t *page, const lode_report_t *report,
                                            const lode_report_case_t *cases, int64_t count,
                                            const lode_page_across_t *across,
                                            const lode_plot_t *plot);

#endif
