#include "report/heatmap.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/page.h"

/* Pixels; the page scales figures to its width. */
enum { WIDTH = 860, LETTER = 7, LONGEST_NAME = 34, CELL_HEIGHT = 24, WIDEST_CELL = 64 };

typedef struct layout {
    int left, top, cell; /* pixels: names of rows, names of columns, width of a cell */
    bool numbers;        /* whether the cells have room for their values */
} layout_t;

static int longest(const char *const *names, int64_t count) {
    size_t most = 0;
    for (int64_t i = 0; i < count; i++)
        most = strlen(names[i]) > most ? strlen(names[i]) : most;
    return (int)(most < LONGEST_NAME ? most : LONGEST_NAME);
}

static layout_t layout_of(const lode_heatmap_t *map) {
    layout_t layout = {.left = LETTER * longest(map->row_names, map->rows) + 16};
    layout.top =
        map->upright ? LETTER * longest(map->column_names, map->columns) + 14 : CELL_HEIGHT;
    layout.cell = (WIDTH - layout.left - 8) / (int)(map->columns > 0 ? map->columns : 1);
    layout.cell = layout.cell > WIDEST_CELL ? WIDEST_CELL : layout.cell < 3 ? 3 : layout.cell;
    layout.numbers = layout.cell >= 30;
    return layout;
}

/* A colour between two, share 0 … 1. */
static void blend(int out[3], const int from[3], const int to[3], double share) {
    for (int i = 0; i < 3; i++)
        out[i] = (int)lround(from[i] + share * (to[i] - from[i]));
}

/* White to blue to navy; where diverging, blue through white to vermilion. */
static void colour_of(int out[3], double shade, bool diverging) {
    static const int white[3] = {250, 251, 252}, sky[3] = {120, 179, 219}, navy[3] = {12, 62, 110},
                     blue[3] = {0, 114, 178}, vermilion[3] = {213, 94, 0};
    shade = fmax(diverging ? -1 : 0, fmin(1, shade));
    if (diverging)
        blend(out, white, shade < 0 ? blue : vermilion, fabs(shade));
    else if (shade < 0.5)
        blend(out, white, sky, 2 * shade);
    else
        blend(out, sky, navy, 2 * shade - 1);
}

/* Text up to LONGEST_NAME bytes, cut between code points. */
static lode_status_t write_name(lode_buffer_t *page, const char *name) {
    char shown[LONGEST_NAME + 8];
    size_t length = strlen(name);
    if (length > LONGEST_NAME) {
        length = LONGEST_NAME - 1;
        while (length > 0 && ((unsigned char)name[length] & 0xc0) == 0x80)
            length--;
        snprintf(shown, sizeof shown, "%.*s…", (int)length, name);
        name = shown;
    }
    return lode_page_text(page, name);
}

static lode_status_t write_names(lode_buffer_t *page, const lode_heatmap_t *map,
                                 const layout_t *layout) {
    for (int64_t r = 0; r < map->rows; r++) {
        LODE_TRY(lode_buffer_printf(page, "<text x=\"%d\" y=\"%lld\" text-anchor=\"end\">",
                                    layout->left - 8,
                                    (long long)(layout->top + r * CELL_HEIGHT + 16)));
        LODE_TRY(write_name(page, map->row_names[r]));
        LODE_TRY(lode_buffer_printf(page, "</text>\n"));
    }
    /* Where cells are narrow, not every column has room for its name. */
    const int64_t step = map->upright ? (layout->cell >= 14 ? 1 : 14 / layout->cell + 1)
                                      : (layout->cell >= 22 ? 1 : 22 / layout->cell + 1);
    for (int64_t c = 0; c < map->columns; c += step) {
        const double x = layout->left + ((double)c + 0.5) * layout->cell;
        if (map->upright)
            LODE_TRY(lode_buffer_printf(page, "<text transform=\"translate(%g,%d) rotate(-90)\">",
                                        x + 4, layout->top - 6));
        else
            LODE_TRY(lode_buffer_printf(page, "<text x=\"%g\" y=\"%d\" text-anchor=\"middle\">", x,
                                        layout->top - 7));
        LODE_TRY(write_name(page, map->column_names[c]));
        LODE_TRY(lode_buffer_printf(page, "</text>\n"));
    }
    return LODE_OK;
}

static lode_status_t write_cell(lode_buffer_t *page, const lode_heatmap_t *map,
                                const layout_t *layout, int64_t row, int64_t column) {
    const int64_t i = row * map->columns + column;
    if (!isfinite(map->values[i]))
        return LODE_OK;
    int colour[3];
    char number[32];
    colour_of(colour, isfinite(map->shades[i]) ? map->shades[i] : 0, map->diverging);
    /* Half a unit of the last decimal is where rounding would leave "-0.00". */
    const double value = map->scale * map->values[i];
    const bool vanishes = fabs(value) < 0.5 * pow(10, -map->decimals);
    snprintf(number, sizeof number, "%.*f", map->decimals, vanishes ? 0 : value);
    const int64_t x = layout->left + column * layout->cell, y = layout->top + row * CELL_HEIGHT;
    LODE_TRY(lode_buffer_printf(page,
                                "<rect x=\"%lld\" y=\"%lld\" width=\"%d\" height=\"%d\" "
                                "fill=\"#%02x%02x%02x\">",
                                (long long)x, (long long)y, layout->cell - (layout->cell > 8),
                                CELL_HEIGHT - 1, colour[0], colour[1], colour[2]));
    LODE_TRY(lode_buffer_printf(page, "<title>"));
    LODE_TRY(lode_page_text(page, map->row_names[row]));
    LODE_TRY(lode_buffer_printf(page, ", "));
    LODE_TRY(lode_page_text(page, map->column_names[column]));
    LODE_TRY(lode_buffer_printf(page, ": %s</title></rect>\n", number));
    if (!layout->numbers)
        return LODE_OK;
    const double light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2];
    return lode_buffer_printf(page,
                              "<text x=\"%g\" y=\"%lld\" text-anchor=\"middle\" font-size=\"11\" "
                              "%sfill=\"%s\" pointer-events=\"none\">%s</text>\n",
                              (double)x + 0.5 * layout->cell, (long long)y + 16,
                              map->marks && map->marks[i] ? "font-weight=\"700\" " : "",
                              light < 140 ? "#ffffff" : "#1d2127", number);
}

lode_status_t lode_heatmap_svg(lode_buffer_t *page, const lode_heatmap_t *map) {
    const layout_t layout = layout_of(map);
    const int64_t height = layout.top + map->rows * CELL_HEIGHT + 6;
    LODE_TRY(lode_buffer_printf(page,
                                "<svg class=\"map\" viewBox=\"0 0 %d %lld\" role=\"img\" "
                                "font-size=\"12\" fill=\"#3c4149\">\n<title>",
                                WIDTH, (long long)height));
    LODE_TRY(lode_page_text(page, map->title));
    LODE_TRY(lode_buffer_printf(page, "</title>\n"));
    LODE_TRY(write_names(page, map, &layout));
    for (int64_t r = 0; r < map->rows; r++)
        for (int64_t c = 0; c < map->columns; c++)
            LODE_TRY(write_cell(page, map, &layout, r, c));
    return lode_buffer_printf(page, "</svg>\n");
}
