#include "report/chart_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/plot.h"

enum { MOST_TICS = 10, TIC_ROOM = 26 };

typedef struct range {
    double low, high;
} range_t;

/* --- ranges ----------------------------------------------------------------------------- */

bool lode_chart_has_place(double value, bool logarithmic) {
    return isfinite(value) && (!logarithmic || value > 0);
}

static void widen(range_t *range, double value, bool logarithmic) {
    if (lode_chart_has_place(value, logarithmic)) {
        range->low = fmin(range->low, value);
        range->high = fmax(range->high, value);
    }
}

double lode_chart_x(const lode_chart_series_t *series, int64_t i) {
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
            widen(&range, lode_chart_x(&panel->series[s], i), panel->log_x);
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

/* --- tics ------------------------------------------------------------------------------- */

static lode_status_t write_names(lode_buffer_t *script, const lode_chart_panel_t *panel,
                                 int width) {
    int longest = 0;
    for (int64_t i = 0; i < panel->name_count; i++) {
        const int length = (int)strlen(panel->names[i]);
        longest = length > longest ? length : longest;
    }
    const bool slanted = (longest * LODE_CHART_LETTER - 4) * panel->name_count > width;
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
            const double x = lode_chart_x(&panel->series[s], i);
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

double lode_chart_step_divider(const lode_chart_panel_t *panel) {
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

/* --- axes ------------------------------------------------------------------------------- */

lode_status_t lode_chart_write_label(lode_buffer_t *script, const char *what, const char *text) {
    LODE_TRY(lode_buffer_printf(script, "set %s ", what));
    LODE_TRY(lode_plot_text(script, text ? text : ""));
    return lode_buffer_printf(script, " noenhanced\n");
}

lode_status_t lode_chart_write_x_axis(lode_buffer_t *script, const lode_chart_panel_t *panel,
                                      int width) {
    const range_t x = x_range(panel);
    LODE_TRY(lode_buffer_printf(script, "%s\nset xrange [%.9g:%.9g]\n",
                                panel->log_x ? "set logscale x" : "unset logscale x", x.low,
                                x.high));
    LODE_TRY(lode_chart_write_label(script, "xlabel", panel->x_label));
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

lode_status_t lode_chart_write_y_axis(lode_buffer_t *script, const lode_chart_panel_t *panel) {
    const range_t y = y_range(panel);
    LODE_TRY(lode_buffer_printf(script, "%s\nset yrange [%.9g:%.9g]\nset ytics autofreq\n",
                                panel->log_y ? "set logscale y" : "unset logscale y", y.low,
                                y.high));
    return panel->log_y ? lode_plot_log_tics(script, 'y', y.low, y.high) : LODE_OK;
}
