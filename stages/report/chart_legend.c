#include "report/chart_internal.h"

#include <string.h>

#include "report/plot.h"

enum { KEY_ROW = 20, KEY_SIGN = 30, KEY_GAP = 22 };

/* The series of a chart that have a name no earlier one has, in order: number `index` of them, NULL
 * past the last. */
static const lode_chart_series_t *legend_entry(const lode_chart_t *chart, int64_t index) {
    const char *seen[64];
    int64_t count = 0;
    for (int64_t p = 0; p < chart->count; p++)
        for (int64_t s = 0; s < chart->panels[p].count; s++) {
            const lode_chart_series_t *series = &chart->panels[p].series[s];
            bool fresh = series->name != NULL && count < 64;
            for (int64_t i = 0; fresh && i < count; i++)
                fresh = strcmp(seen[i], series->name) != 0;
            if (!fresh)
                continue;
            if (count == index)
                return series;
            seen[count++] = series->name;
        }
    return NULL;
}

/* Letters as readers count them, not bytes. */
static int letters(const char *text) {
    int count = 0;
    for (; *text; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

static int entry_width(const lode_chart_series_t *entry) {
    return KEY_SIGN + LODE_CHART_LETTER * letters(entry->name) + KEY_GAP;
}

lode_chart_legend_t lode_chart_legend_of(const lode_chart_t *chart) {
    lode_chart_legend_t legend = {0};
    const lode_chart_series_t *entry;
    int used = 0;
    for (int64_t i = 0; (entry = legend_entry(chart, i)) != NULL; i++) {
        const int wide = entry_width(entry);
        if (chart->key_right) {
            legend.right = wide > legend.right ? wide : legend.right;
            continue;
        }
        if (i == 0 || used + wide > LODE_CHART_WIDTH - LODE_CHART_LEFT) {
            legend.top += KEY_ROW;
            used = 0;
        }
        used += wide;
    }
    legend.top += legend.top > 0 ? KEY_ROW / 2 : 0;
    return legend;
}

/* One entry at pixels x, y from the upper left. gnuplot's own legend is bound to one panel and to
 * columns of equal width, so it is put together from labels. */
static lode_status_t write_entry(lode_buffer_t *script, const lode_chart_series_t *entry, int x,
                                 int y, int height) {
    const double across = 1.0 / LODE_CHART_WIDTH, up = 1 - (double)y / height;
    const bool line = entry->mark == LODE_MARK_LINE || entry->mark == LODE_MARK_BOTH;
    const bool area = entry->mark == LODE_MARK_BARS || entry->mark == LODE_MARK_BOX;
    const char *colour = entry->colour ? entry->colour : "#3c4149";
    if (line)
        LODE_TRY(lode_buffer_printf(script,
                                    "set arrow from screen %.5f,%.5f to screen %.5f,%.5f nohead "
                                    "lc rgb '%s' lw 1.6 dt %d\n",
                                    x * across, up, (x + KEY_SIGN - 8) * across, up, colour,
                                    entry->dash ? entry->dash : 1));
    if (entry->mark != LODE_MARK_LINE)
        LODE_TRY(lode_buffer_printf(script,
                                    "set label '' at screen %.5f,%.5f point pt %d ps %g lc rgb "
                                    "'%s'\n",
                                    (x + 0.5 * (KEY_SIGN - 8)) * across, up,
                                    area           ? 5
                                    : entry->point ? entry->point
                                                   : 7,
                                    area ? 1 : 0.7, colour));
    LODE_TRY(lode_buffer_printf(script, "set label "));
    LODE_TRY(lode_plot_text(script, entry->name));
    return lode_buffer_printf(script,
                              " at screen %.5f,%.5f left noenhanced textcolor rgb '#3c4149'\n",
                              (x + KEY_SIGN) * across, up);
}

lode_status_t lode_chart_write_legend(lode_buffer_t *script, const lode_chart_t *chart,
                                      const lode_chart_legend_t *legend, int height) {
    const lode_chart_series_t *entry;
    int x = chart->key_right ? LODE_CHART_WIDTH - legend->right + 10 : LODE_CHART_LEFT;
    int y = chart->key_right ? LODE_CHART_TOP + KEY_ROW / 2 : KEY_ROW / 2 + 4;
    for (int64_t i = 0; (entry = legend_entry(chart, i)) != NULL; i++) {
        const int wide = entry_width(entry);
        if (!chart->key_right && x > LODE_CHART_LEFT && x + wide > LODE_CHART_WIDTH) {
            x = LODE_CHART_LEFT;
            y += KEY_ROW;
        }
        LODE_TRY(write_entry(script, entry, x, y, height));
        x += chart->key_right ? 0 : wide;
        y += chart->key_right ? KEY_ROW : 0;
    }
    return LODE_OK;
}
