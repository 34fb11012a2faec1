/* report/cells: tables of the page, cell by cell. Local. */
#ifndef LODE_REPORT_CELLS_H
#define LODE_REPORT_CELLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/size.h"
#include "report/result.h"

/* Begins a table. heads: in, [count]; '#' before a heading makes its column one of numbers. */
LODE_MUST_USE lode_status_t lode_cells_begin(lode_buffer_t *page, const char *const *heads,
                                             int64_t count);

/* Begins and ends the row of headings where they are not a fixed list. */
LODE_MUST_USE lode_status_t lode_cells_open(lode_buffer_t *page);
LODE_MUST_USE lode_status_t lode_cells_head(lode_buffer_t *page, const char *head);
LODE_MUST_USE lode_status_t lode_cells_body(lode_buffer_t *page);

LODE_MUST_USE lode_status_t lode_cells_end(lode_buffer_t *page);

/* Begins a row with its name; `apart` draws a line above it. */
LODE_MUST_USE lode_status_t lode_cells_row(lode_buffer_t *page, const char *name, bool apart);
LODE_MUST_USE lode_status_t lode_cells_row_end(lode_buffer_t *page);

/* A cell of text, and one of a whole number. */
LODE_MUST_USE lode_status_t lode_cells_text(lode_buffer_t *page, const char *text);
LODE_MUST_USE lode_status_t lode_cells_count(lode_buffer_t *page, int64_t value);

/* A cell of a number with so many decimals, or significant digits, and a unit ("", " %"); a dash
 * where it is not finite. */
LODE_MUST_USE lode_status_t lode_cells_number(lode_buffer_t *page, double value, int places,
                                              const char *unit);
LODE_MUST_USE lode_status_t lode_cells_digits(lode_buffer_t *page, double value, int digits);

/* A cell of a figure's value with its ratio to `dense`, either NULL where there is none. */
LODE_MUST_USE lode_status_t lode_cells_figure(lode_buffer_t *page,
                                              const lode_report_figure_t *figure,
                                              const lode_report_figure_t *dense);

/* "12.34 MB"; a dash where bytes is negative. */
enum { LODE_CELLS_BYTES = LODE_SIZE_TEXT };
void lode_cells_bytes(char text[LODE_CELLS_BYTES], double bytes);

#endif
