/* report/heatmap: matrices as coloured cells, an <svg> element that is written here and needs no
 * other program. Local. */
#ifndef LODE_REPORT_HEATMAP_H
#define LODE_REPORT_HEATMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"

typedef struct lode_heatmap {
    const char *title; /* what a screen reader and a tooltip say */
    int64_t rows, columns;
    const char *const *row_names;    /* [rows] */
    const char *const *column_names; /* [columns] */
    bool upright;                    /* column names are long and stand upright */
    const double *values;            /* [rows, columns], written into the cells; NaN stays blank */
    const double *shades; /* [rows, columns], 0 light to 1 dark, or −1 blue to 1 orange where
                           * diverging */
    bool diverging;
    const bool *marks; /* [rows, columns] cells in bold; NULL for none */
    int decimals;      /* of the values */
    double scale;      /* values are written times this */
} lode_heatmap_t;

/* Appends the <svg>. */
LODE_MUST_USE lode_status_t lode_heatmap_svg(lode_buffer_t *page, const lode_heatmap_t *map);

#endif
