#include "report/cells.h"

#include <math.h>
#include <stdio.h>

#include "report/page.h"
#include "report/table.h"

lode_status_t lode_cells_open(lode_buffer_t *page) {
    return lode_buffer_printf(page, "<div class=\"wide\" tabindex=\"0\"><table class=\"small\">\n"
                                    "<thead><tr>");
}

lode_status_t lode_cells_head(lode_buffer_t *page, const char *head) {
    const bool number = head[0] == '#';
    LODE_TRY(lode_buffer_printf(page, "<th%s>", number ? " class=\"n\"" : ""));
    LODE_TRY(lode_page_text(page, head + number));
    return lode_buffer_printf(page, "</th>");
}

lode_status_t lode_cells_body(lode_buffer_t *page) {
    return lode_buffer_printf(page, "</tr></thead>\n<tbody>\n");
}

lode_status_t lode_cells_begin(lode_buffer_t *page, const char *const *heads, int64_t count) {
    LODE_TRY(lode_cells_open(page));
    for (int64_t i = 0; i < count; i++)
        LODE_TRY(lode_cells_head(page, heads[i]));
    return lode_cells_body(page);
}

lode_status_t lode_cells_end(lode_buffer_t *page) {
    return lode_buffer_printf(page, "</tbody></table></div>\n");
}

lode_status_t lode_cells_row(lode_buffer_t *page, const char *name, bool apart) {
    LODE_TRY(lode_buffer_printf(page, "<tr%s><th scope=\"row\">", apart ? " class=\"break\"" : ""));
    LODE_TRY(lode_page_text(page, name));
    return lode_buffer_printf(page, "</th>");
}

lode_status_t lode_cells_row_end(lode_buffer_t *page) {
    return lode_buffer_printf(page, "</tr>\n");
}

lode_status_t lode_cells_text(lode_buffer_t *page, const char *text) {
    LODE_TRY(lode_buffer_printf(page, "<td>"));
    LODE_TRY(lode_page_text(page, text));
    return lode_buffer_printf(page, "</td>");
}

lode_status_t lode_cells_count(lode_buffer_t *page, int64_t value) {
    return lode_buffer_printf(page, "<td class=\"n\">%lld</td>", (long long)value);
}

lode_status_t lode_cells_number(lode_buffer_t *page, double value, int places, const char *unit) {
    if (!isfinite(value))
        return lode_buffer_printf(page, "<td class=\"n\">–</td>");
    return lode_buffer_printf(page, "<td class=\"n\">%.*f%s</td>", places, value, unit);
}

lode_status_t lode_cells_digits(lode_buffer_t *page, double value, int digits) {
    if (!isfinite(value))
        return lode_buffer_printf(page, "<td class=\"n\">–</td>");
    return lode_buffer_printf(page, "<td class=\"n\">%.*g</td>", digits, value);
}

lode_status_t lode_cells_figure(lode_buffer_t *page, const lode_report_figure_t *figure,
                                const lode_report_figure_t *dense) {
    char value[LODE_TABLE_NUMBER];
    if (!figure)
        return lode_buffer_printf(page, "<td class=\"n\">–</td>");
    lode_table_value(value, figure, figure->value);
    if (!dense || figure == dense || !(dense->value > 0) || !isfinite(figure->value))
        return lode_buffer_printf(page, "<td class=\"n\">%s</td>", value);
    return lode_buffer_printf(page, "<td class=\"n\">%s <span class=\"point\">%.*f×</span></td>",
                              value, figure->value / dense->value >= 100 ? 0 : 3,
                              figure->value / dense->value);
}

void lode_cells_bytes(char text[LODE_CELLS_BYTES], double bytes) {
    if (bytes >= 0)
        lode_size_text(text, bytes);
    else
        snprintf(text, LODE_CELLS_BYTES, "–");
}
