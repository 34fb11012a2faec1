/* report/table: the tables of report.html. Local. */
#ifndef LODE_REPORT_TABLE_H
#define LODE_REPORT_TABLE_H

#include "report/result.h"

/* A figure's value, or one of its kind, as people write it: a perplexity to four digits, of a byte
 * to five, an accuracy in percent; a dash where it is not finite. */
enum { LODE_TABLE_NUMBER = 48 };
void lode_table_value(char text[LODE_TABLE_NUMBER], const lode_report_figure_t *figure,
                      double value);

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
