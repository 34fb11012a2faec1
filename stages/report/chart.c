#include "report/chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/plot.h"

/* Pixels. The page scales figures to its width. */
enum { WIDTH = 860, LEFT = 84, RIGHT = 14, TOP = 30, BOTTOM = 54, HEIGHT = 210 };
enum { COLOUR_BAR = 74, LETTER = 7, KEY_ROW = 20, KEY_SIGN = 30, KEY_GAP = 22 };
enum { MOST_TICS = 10, TIC_ROOM = 26 };

typedef struct range {
    double low, high;
} range_t;

/* --- values ----------------------------------------------------------------------------- */

static bool has_place(double value, bool logarithmic) {
    return isfinite(value) && (!logarithmic || value > 0);
}

static void widen(range_t *range, double value, bool logarithmic) {
    if (has_place(value, logarithmic)) {
        range->low = fmin(range->low, value);
        range->high = fmax(range->high, value);
    }
}

static double x_of(const lode_chart_series_t *series, int64_t i) {
    return (series->x ? series->x[i] : (double)i) + series->shift;
}

/* Room around what there is; something drawable where there is nothing. */
static range_t padded(range_t range, bool logarithmic, double share) {
    if (!(range.low <= range.high))
        return logarithmic ? (range_t){0.1, 10} : (range_t){0, 1};
    if (logarithmic) {
        const double factor = fmax(1.05, pow(range.high / range.low, share));
        return (range_t){range.low / factor, range.high * factor};
    }
    const double spread = range.high - range.low;
    const double room = spread > 0 ? share * spread : fmax(0.05 * fabs(range.high), 1e-12);
    return (range_t){range.low - room, range.high + room};
}

static range_t x_range(const lode_chart_panel_t *panel) {
    if (panel->x_low != panel->x_high)
        return (range_t){panel->x_low, panel->x_high};
    if (panel->names)
        return (range_t){-0.6, (double)panel->name_count - 0.4};
    range_t range = {INFINITY, -INFINITY};
    for (int64_t s = 0; s < panel->count; s++)
        for (int64_t i = 0; i < panel->series[s].count; i++)
            widen(&range, x_of(&panel->series[s], i), panel->log_x);
    if (panel->whole_x && range.low <= range.high)
        return (range_t){floor(range.low + 0.5) - 0.6, floor(range.high + 0.5) + 0.6};
    return padded(range, panel->log_x, 0.03);
}

static range_t y_range(const lode_chart_panel_t *panel) {
    if (panel->y_low != panel->y_high)
        return (range_t){panel->y_low, panel->y_high};
    range_t range = {INFINITY, -INFINITY};
    for (int64_t s = 0; s < panel->count; s++) {
        const lode_chart_series_t *series = &panel->series[s];
        for (int64_t i = 0; i < series->count; i++) {
            const double *parts[] = {series->y, series->low, series->high};
            for (int part = 0; part < 3; part++)
                if (parts[part])
                    widen(&range, parts[part][i], panel->log_y);
        }
    }
    if (panel->level != 0 || panel->level_name)
        widen(&range, panel->level, panel->log_y);
    if (panel->floor_name)
        widen(&range, panel->floor, panel->log_y);
    const bool floored = panel->from_zero && !panel->log_y && range.low >= 0;
    range = padded(range, panel->log_y, 0.06);
    if (floored)
        range.low = 0;
    return range;
}

int lode_chart_columns(int64_t layers) {
    return layers > 12 ? 1 : 2;
}

static int compare_doubles(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

void lode_chart_quantiles(double out[5], double *values, int64_t count) {
    static const double shares[] = {0.05, 0.25, 0.5, 0.75, 0.95};
    int64_t finite = 0;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(values[i])) {
            const double value = values[i];
            values[i] = values[finite];
            values[finite++] = value;
        }
    if (finite > 0)
        qsort(values, (size_t)finite, sizeof *values, compare_doubles);
    for (int q = 0; q < 5; q++) {
        const double place = shares[q] * (double)(finite - 1);
        const int64_t below = (int64_t)place;
        out[q] = finite == 0 ? NAN : values[below];
        if (below + 1 < finite)
            out[q] += (place - (double)below) * (values[below + 1] - values[below]);
    }
}

/* --- data ------------------------------------------------------------------------------- */

static lode_status_t write_number(lode_buffer_t *script, double value, bool logarithmic) {
    return has_place(value, logarithmic) ? lode_buffer_printf(script, " %.6g", value)
                                         : lode_buffer_printf(script, " NaN");
}

static lode_status_t write_data(lode_buffer_t *script, const lode_chart_panel_t *panel,
                                int64_t number) {
    for (int64_t s = 0; s < panel->count; s++) {
        const lode_chart_series_t *series = &panel->series[s];
        LODE_TRY(
            lode_buffer_printf(script, "$p%lld_%lld << EOD\n", (long long)number, (long long)s));
        for (int64_t i = 0; i < series->count; i++) {
            const double *parts[] = {series->y, series->low, series->high, series->box_low,
                                     series->box_high};
            LODE_TRY(write_number(script, x_of(series, i), panel->log_x));
            for (int part = 0; part < 5; part++)
                if (parts[part])
                    LODE_TRY(write_number(script, parts[part][i], panel->log_y));
            LODE_TRY(lode_buffer_printf(script, "\n"));
        }
        /* A series without values still needs a row that gnuplot can read. */
        LODE_TRY(lode_buffer_printf(script, "NaN NaN NaN NaN NaN NaN\nEOD\n"));
    }
    return LODE_OK;
}

/* --- series ----------------------------------------------------------------------------- */

static lode_status_t write_colour(lode_buffer_t *script, const lode_chart_series_t *series) {
    if (series->colour)
        return lode_buffer_printf(script, " lc rgb '%s'", series->colour);
    return lode_buffer_printf(script, " lc palette cb %.6g", series->depth);
}

/* "with …". */
static lode_status_t write_look(lode_buffer_t *script, const lode_chart_series_t *series) {
    const int point = series->point ? series->point : 7, dash = series->dash ? series->dash : 1;
    const double size = series->size > 0 ? series->size : 0.6;
    switch (series->mark) {
    case LODE_MARK_LINE:
        LODE_TRY(lode_buffer_printf(script, " with lines lw %g dt %d",
                                    series->width > 0 ? series->width : 1.5, dash));
        break;
    case LODE_MARK_POINTS:
        LODE_TRY(lode_buffer_printf(script, " with points pt %d ps %g", point, size));
        break;
    case LODE_MARK_BOTH:
        LODE_TRY(lode_buffer_printf(script, " with linespoints lw %g dt %d pt %d ps %g",
                                    series->width > 0 ? series->width : 1.4, dash, point, size));
        break;
    case LODE_MARK_BARS:
    case LODE_MARK_BOX:
        LODE_TRY(lode_buffer_printf(script, " with boxes"));
        break;
    }
    return write_colour(script, series);
}

static lode_status_t write_box(lode_buffer_t *script, const lode_chart_series_t *series,
                               const char *block) {
    const double width = series->size > 0 ? series->size : 0.5;
    LODE_TRY(
        lode_buffer_printf(script, "%s using 1:5:3:4:6:(%g) with candlesticks lw 1", block, width));
    LODE_TRY(write_colour(script, series));
    LODE_TRY(lode_buffer_printf(script,
                                " fs transparent solid 0.35 notitle whiskerbars 0.4, "
                                "%s using ($1-%g):2:(%g):(0) with vectors nohead lw 2",
                                block, width / 2, width));
    LODE_TRY(write_colour(script, series));
    return lode_buffer_printf(script, " notitle");
}

static lode_status_t write_series(lode_buffer_t *script, const lode_chart_series_t *series,
                                  int64_t panel, int64_t number) {
    char block[48];
    snprintf(block, sizeof block, "$p%lld_%lld", (long long)panel, (long long)number);
    if (number > 0)
        LODE_TRY(lode_buffer_printf(script, ", "));
    if (series->mark == LODE_MARK_BOX)
        return write_box(script, series, block);
    const bool below = series->mark != LODE_MARK_BARS; /* else bars would hide their intervals */
    for (int part = 0; part < 2; part++) {
        if ((part == 0) == below) {
            if (!series->low)
                continue;
            LODE_TRY(lode_buffer_printf(script,
                                        "%s%s using 1:3:(0):($4-$3) with vectors nohead lw 1.1",
                                        part ? ", " : "", block));
            LODE_TRY(below ? write_colour(script, series)
                           : lode_buffer_printf(script, " lc rgb '#1B3A57'"));
        } else {
            LODE_TRY(lode_buffer_printf(script, "%s%s using 1:2", part && series->low ? ", " : "",
                                        block));
            LODE_TRY(write_look(script, series));
        }
        LODE_TRY(lode_buffer_printf(script, " notitle"));
    }
    return LODE_OK;
}

/* --- legend ----------------------------------------------------------------------------- */

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
    return KEY_SIGN + LETTER * letters(entry->name) + KEY_GAP;
}

/* What the legend takes away at the top or at the right, in pixels. */
typedef struct legend {
    int top, right;
} legend_t;

static legend_t legend_of(const lode_chart_t *chart) {
    legend_t legend = {0};
    const lode_chart_series_t *entry;
    int used = 0;
    for (int64_t i = 0; (entry = legend_entry(chart, i)) != NULL; i++) {
        const int wide = entry_width(entry);
        if (chart->key_right) {
            legend.right = wide > legend.right ? wide : legend.right;
            continue;
        }
        if (i == 0 || used + wide > WIDTH - LEFT) {
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
    const double across = 1.0 / WIDTH, up = 1 - (double)y / height;
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

static lode_status_t write_legend(lode_buffer_t *script, const lode_chart_t *chart,
                                  const legend_t *legend, int height) {
    const lode_chart_series_t *entry;
    int x = chart->key_right ? WIDTH - legend->right + 10 : LEFT;
    int y = chart->key_right ? TOP + KEY_ROW / 2 : KEY_ROW / 2 + 4;
    for (int64_t i = 0; (entry = legend_entry(chart, i)) != NULL; i++) {
        const int wide = entry_width(entry);
        if (!chart->key_right && x > LEFT && x + wide > WIDTH) {
            x = LEFT;
            y += KEY_ROW;
        }
        LODE_TRY(write_entry(script, entry, x, y, height));
        x += chart->key_right ? 0 : wide;
        y += chart->key_right ? KEY_ROW : 0;
    }
    return LODE_OK;
}

/* --- panels ----------------------------------------------------------------------------- */

typedef struct frame {
    int width, height; /* of the chart */
    double left, right, top,
        bottom; /* of a panel's axes, as shares of the chart from its lower left */
    int panel_width;
} frame_t;

static frame_t frame_of(const lode_chart_t *chart, const legend_t *legend, int64_t number) {
    const int columns = chart->columns > 0 ? chart->columns : 1;
    const int rows = (int)((chart->count + columns - 1) / columns);
    const int tall = (chart->panel_height > 0 ? chart->panel_height : HEIGHT) + TOP + BOTTOM;
    const int usable = WIDTH - legend->right - (chart->layers > 0 ? COLOUR_BAR : 0);
    const int wide = usable / columns;
    const int column = (int)(number % columns), row = (int)(number / columns);
    frame_t frame = {
        .width = WIDTH, .height = rows * tall + legend->top, .panel_width = wide - LEFT - RIGHT};
    frame.left = (double)(column * wide + LEFT) / WIDTH;
    frame.right = (double)((column + 1) * wide - RIGHT) / WIDTH;
    frame.top = 1 - (double)(legend->top + row * tall + TOP) / frame.height;
    frame.bottom = 1 - (double)(legend->top + (row + 1) * tall - BOTTOM) / frame.height;
    return frame;
}

static lode_status_t write_label(lode_buffer_t *script, const char *what, const char *text) {
    LODE_TRY(lode_buffer_printf(script, "set %s ", what));
    LODE_TRY(lode_plot_text(script, text ? text : ""));
    return lode_buffer_printf(script, " noenhanced\n");
}

static lode_status_t write_names(lode_buffer_t *script, const lode_chart_panel_t *panel,
                                 int width) {
    int longest = 0;
    for (int64_t i = 0; i < panel->name_count; i++) {
        const int length = (int)strlen(panel->names[i]);
        longest = length > longest ? length : longest;
    }
    const bool slanted = (longest * LETTER - 4) * panel->name_count > width;
    LODE_TRY(lode_buffer_printf(script, "set xtics %snoenhanced (",
                                slanted ? "rotate by -20 " : "norotate "));
    for (int64_t i = 0; i < panel->name_count; i++) {
        LODE_TRY(lode_buffer_printf(script, "%s", i ? ", " : ""));
        LODE_TRY(lode_plot_text(script, panel->names[i]));
        LODE_TRY(lode_buffer_printf(script, " %lld", (long long)i));
    }
    return lode_buffer_printf(script, ")\n");
}

/* A step of 1, 2 or 5 times a power of ten that leaves each tic room. */
static double tic_step(double span, int width) {
    static const double mantissas[] = {1, 2, 5};
    const double least = span * TIC_ROOM / (width > 0 ? width : 1);
    double decade = 1, step = 1;
    for (int i = 0; step < least && decade < 1e15; i++) {
        decade *= i > 0 && i % 3 == 0 ? 10 : 1;
        step = mantissas[i % 3] * decade;
    }
    return step;
}

/* Tics where the values are, where those are few and have room; *written says whether. */
static lode_status_t write_value_tics(lode_buffer_t *script, const lode_chart_panel_t *panel,
                                      int width, bool *written) {
    double values[MOST_TICS];
    int count = 0;
    *written = false;
    for (int64_t s = 0; s < panel->count; s++)
        for (int64_t i = 0; i < panel->series[s].count; i++) {
            const double x = x_of(&panel->series[s], i);
            int place = 0;
            while (place < count && values[place] < x)
                place++;
            if (!isfinite(x) || (place < count && values[place] == x))
                continue;
            if (count == MOST_TICS)
                return LODE_OK;
            memmove(values + place + 1, values + place, (size_t)(count - place) * sizeof *values);
            values[place] = x;
            count++;
        }
    const range_t range = x_range(panel);
    for (int i = 1; i < count; i++)
        if ((values[i] - values[i - 1]) / (range.high - range.low) * width < TIC_ROOM)
            return LODE_OK;
    LODE_TRY(lode_buffer_printf(script, "set xtics ("));
    for (int i = 0; i < count; i++)
        LODE_TRY(lode_buffer_printf(script, "%s%.6g", i ? ", " : "", values[i]));
    *written = count > 0;
    return lode_buffer_printf(script, ")\n");
}

/* --- steps of training ------------------------------------------------------------------ */

enum { STEP_LETTER = 8, STEP_GAP = 8 };

/* The least and largest step above 0. */
static range_t step_range(const double *steps, int64_t count) {
    range_t range = {INFINITY, -INFINITY};
    for (int64_t i = 0; i < count; i++)
        widen(&range, steps[i], true);
    return range;
}

/* How far left of the least step that of 0 lies, as a factor. */
static double step_gap(const range_t *range) {
    return fmax(1.6, pow(range->high / range->low, 0.14));
}

double lode_chart_step_place(const double *steps, int64_t count) {
    const range_t range = step_range(steps, count);
    return range.low <= range.high ? range.low / step_gap(&range) : 1;
}

/* Where the line is that parts step 0 from the others, 0 where it is not among them or alone. */
static double step_divider(const lode_chart_panel_t *panel) {
    const range_t range = step_range(panel->steps, panel->step_count);
    bool zero = false;
    for (int64_t i = 0; i < panel->step_count; i++)
        zero |= panel->steps[i] == 0;
    return zero && range.low <= range.high ? range.low / sqrt(step_gap(&range)) : 0;
}

/* The least step above `previous`, infinite where there is none. */
static double next_step(const lode_chart_panel_t *panel, double previous) {
    double next = INFINITY;
    for (int64_t i = 0; i < panel->step_count; i++)
        if (panel->steps[i] > previous)
            next = fmin(next, panel->steps[i]);
    return next;
}

static void step_text(char text[24], double step) {
    if (step >= 10000 && fmod(step, 1000) == 0)
        snprintf(text, 24, "%.0fk", step / 1000);
    else
        snprintf(text, 24, "%.0f", step);
}

/* The last step has its tic, then, from the left, every one that has room. */
static lode_status_t write_step_tics(lode_buffer_t *script, const lode_chart_panel_t *panel,
                                     int width) {
    const range_t x = x_range(panel), steps = step_range(panel->steps, panel->step_count);
    const double unit = width / log(x.high / x.low);
    double free_from = -INFINITY, free_to = INFINITY;
    char text[24];
    LODE_TRY(lode_buffer_printf(script, "set xtics ("));
    for (double step = steps.high, next = -1; isfinite(step); step = next) {
        const double place =
            step > 0 ? step : lode_chart_step_place(panel->steps, panel->step_count);
        step_text(text, step);
        const double at = unit * log(place / x.low),
                     half = 0.5 * STEP_LETTER * (double)strlen(text);
        const bool last = next == -1;
        if (last || (at - half >= free_from && at + half <= free_to)) {
            LODE_TRY(lode_buffer_printf(script, "%s'%s' %.9g", last ? "" : ", ", text, place));
            if (last)
                free_to = at - half - STEP_GAP;
            else
                free_from = at + half + STEP_GAP;
        }
        next = next_step(panel, last ? -1 : step);
    }
    return lode_buffer_printf(script, ")\n");
}

static lode_status_t write_x_axis(lode_buffer_t *script, const lode_chart_panel_t *panel,
                                  int width) {
    const range_t x = x_range(panel);
    LODE_TRY(lode_buffer_printf(script, "%s\nset xrange [%.9g:%.9g]\n",
                                panel->log_x ? "set logscale x" : "unset logscale x", x.low,
                                x.high));
    LODE_TRY(write_label(script, "xlabel", panel->x_label));
    if (panel->names)
        return write_names(script, panel, width);
    LODE_TRY(lode_buffer_printf(script, "set xtics norotate enhanced autofreq\n"));
    if (panel->log_x && panel->steps)
        return write_step_tics(script, panel, width);
    if (panel->log_x)
        return lode_plot_log_tics(script, 'x', x.low, x.high);
    if (panel->whole_x)
        return lode_buffer_printf(script, "set xtics %g\n", tic_step(x.high - x.low, width));
    bool written;
    LODE_TRY(write_value_tics(script, panel, width, &written));
    return LODE_OK;
}

static lode_status_t write_y_axis(lode_buffer_t *script, const lode_chart_panel_t *panel) {
    const range_t y = y_range(panel);
    LODE_TRY(lode_buffer_printf(script, "%s\nset yrange [%.9g:%.9g]\nset ytics autofreq\n",
                                panel->log_y ? "set logscale y" : "unset logscale y", y.low,
                                y.high));
    return panel->log_y ? lode_plot_log_tics(script, 'y', y.low, y.high) : LODE_OK;
}

/* The label of the y axis, at the same distance whatever the tics say; gnuplot's own moves off the
 * figure where they are long. */
static lode_status_t write_y_label(lode_buffer_t *script, const lode_chart_panel_t *panel,
                                   const frame_t *frame) {
    if (!panel->y_label)
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(script, "set label "));
    LODE_TRY(lode_plot_text(script, panel->y_label));
    return lode_buffer_printf(script,
                              " at screen %.5f,%.5f center rotate by 90 noenhanced textcolor rgb "
                              "'#3c4149'\n",
                              frame->left - (LEFT - 14.0) / WIDTH,
                              0.5 * (frame->top + frame->bottom));
}

/* A line across at `level`, with its name above its right end where it has one. */
static lode_status_t write_level(lode_buffer_t *script, double level, const char *name, int dash) {
    if (!isfinite(level))
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(script,
                                "set arrow from graph 0, first %.9g to graph 1, first %.9g "
                                "nohead front lc rgb '#3c4149' lw 1.1 dt %d\n",
                                level, level, dash));
    if (!name)
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(script, "set label "));
    LODE_TRY(lode_plot_text(script, name));
    return lode_buffer_printf(script,
                              " at graph 0.995, first %.9g right offset 0,0.5 noenhanced "
                              "font ',11' textcolor rgb '#3c4149'\n",
                              level);
}

static lode_status_t write_lines(lode_buffer_t *script, const lode_chart_panel_t *panel) {
    if (panel->level != 0 || panel->level_name)
        LODE_TRY(write_level(script, panel->level, panel->level_name, 2));
    if (panel->floor_name)
        LODE_TRY(write_level(script, panel->floor, panel->floor_name, 3));
    const double divider = panel->steps ? step_divider(panel) : panel->divider;
    if (divider != 0)
        LODE_TRY(lode_buffer_printf(script,
                                    "set arrow from first %.9g, graph 0 to first %.9g, graph 1 "
                                    "nohead lc rgb '#8a8f98' lw 1.1 dt 2\n",
                                    divider, divider));
    return LODE_OK;
}

/* The colours of depth, as a scale at the right edge. */
static lode_status_t write_scale(lode_buffer_t *script, const lode_chart_t *chart) {
    return lode_buffer_printf(
        script,
        "set palette defined (0 '#2c1e6b', 0.35 '#0072B2', 0.7 '#009E73', 1 '#E69F00')\n"
        "set cbrange [0:%lld]\nset cblabel 'layer'\n"
        "set colorbox user origin %.4f,0.24 size 0.018,0.6\n%s",
        (long long)(chart->layers > 1 ? chart->layers - 1 : 1), 1 - (COLOUR_BAR - 4.0) / WIDTH,
        chart->layers <= 12 ? "set cbtics 1\n" : "");
}

static lode_status_t write_panel(lode_buffer_t *script, const lode_chart_t *chart,
                                 const legend_t *legend, int64_t number) {
    const lode_chart_panel_t *panel = &chart->panels[number];
    const frame_t frame = frame_of(chart, legend, number);
    LODE_TRY(lode_buffer_printf(script,
                                "set lmargin at screen %.5f\nset rmargin at screen %.5f\n"
                                "set tmargin at screen %.5f\nset bmargin at screen %.5f\n",
                                frame.left, frame.right, frame.top, frame.bottom));
    LODE_TRY(write_label(script, "title", panel->title));
    LODE_TRY(write_x_axis(script, panel, frame.panel_width));
    LODE_TRY(write_y_axis(script, panel));
    LODE_TRY(lode_buffer_printf(script, "unset arrow\nunset label\n"));
    LODE_TRY(write_y_label(script, panel, &frame));
    LODE_TRY(write_lines(script, panel));
    if (number == 0)
        LODE_TRY(write_legend(script, chart, legend, frame.height));
    LODE_TRY(number == 0 && chart->layers > 0 ? write_scale(script, chart)
                                              : lode_buffer_printf(script, "unset colorbox\n"));
    LODE_TRY(lode_buffer_printf(script, "plot "));
    for (int64_t s = 0; s < panel->count; s++)
        LODE_TRY(write_series(script, &panel->series[s], number, s));
    if (panel->count == 0)
        LODE_TRY(lode_buffer_printf(script, "NaN notitle"));
    return lode_buffer_printf(script, "\n");
}

lode_status_t lode_chart_script(lode_buffer_t *script, const lode_chart_t *chart) {
    const legend_t legend = legend_of(chart);
    const frame_t frame = frame_of(chart, &legend, 0);
    LODE_TRY(lode_plot_begin(script, frame.width, frame.height));
    for (int64_t p = 0; p < chart->count; p++)
        LODE_TRY(write_data(script, &chart->panels[p], p));
    LODE_TRY(lode_buffer_printf(script, "set style fill solid 1 noborder\nset boxwidth 0.66\n"));
    LODE_TRY(lode_buffer_printf(script, "set title offset 0,-0.7\nset xlabel offset 0,0.5\n"
                                        "unset key\nset multiplot\n"));
    for (int64_t p = 0; p < chart->count; p++)
        LODE_TRY(write_panel(script, chart, &legend, p));
    return lode_buffer_printf(script, "unset multiplot\n");
}
