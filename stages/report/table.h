/* report/table: the tables of report.html. Local. */
#ifndef LODE_REPORT_TABLE_H
#define LODE_REPORT_TABLE_H

#include "report/result.h"

/* One row for each case: perplexities of the unpruned model, core mass, best variants; a table for
 * each protocol and length. */
LODE_MUST_USE lode_status_t lode_table_overview(lode_buffer_t *page,
                                                const lode_report_case_t *cases, int64_t count);

/* The same of one case, as large figures. */
LODE_MUST_USE lode_status_t lode_table_headline(lode_buffer_t *page,
                                                const lode_report_case_t *item);

/* One row for each layer. */
LODE_MUST_USE lode_status_t lode_table_layers(lode_buffer_t *page, const lode_report_case_t *item);

/* One row for each figure, with its ratio to the unpruned model's; a table for each protocol and
 * length. */
LODE_MUST_USE lode_status_t lode_table_figures(lode_buffer_t *page, const lode_report_case_t *item);

#endif
