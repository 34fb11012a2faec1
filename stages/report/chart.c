#include "report/chart_internal.h"

#include <math.h>
#include <stdio.h>

#include "report/plot.h"

enum { RIGHT = 14, BOTTOM = 54, HEIGHT = 210, COLOUR_BAR = 74 }; /* pixels */

int lode_chart_columns(int64_t layers) {
    return layers > 12 ? 1 : 2;
}

/* --- data ------------------------------------------------------------------------------- */

static lode_status_t write_number(lode_buffer_t *script, double value, bool logarithmic) {
    return lode_chart_has_place(value, logarithmic) ? lode_buffer_printf(script, " %.6g", value)
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
            LODE_TRY(write_number(script, lode_chart_x(series, i), panel->log_x));
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

/* --- panels ----------------------------------------------------------------------------- */

typedef struct frame {
    int width, height; /* of the chart */
    double left, right, top,
        bottom; /* of a panel's axes, as shares of the chart from its lower left */
    int panel_width;
} frame_t;

static frame_t frame_of(const lode_chart_t *chart, const lode_chart_legend_t *legend,
                        int64_t number) {
    const int columns = chart->columns > 0 ? chart->columns : 1;
    const int rows = (int)((chart->count + columns - 1) / columns);
    const int tall =
        (chart->panel_height > 0 ? chart->panel_height : HEIGHT) + LODE_CHART_TOP + BOTTOM;
    const int usable = LODE_CHART_WIDTH - legend->right - (chart->layers > 0 ? COLOUR_BAR : 0);
    const int wide = usable / columns;
    const int column = (int)(number % columns), row = (int)(number / columns);
    frame_t frame = {.width = LODE_CHART_WIDTH,
                     .height = rows * tall + legend->top,
                     .panel_width = wide - LODE_CHART_LEFT - RIGHT};
    frame.left = (double)(column * wide + LODE_CHART_LEFT) / LODE_CHART_WIDTH;
    frame.right = (double)((column + 1) * wide - RIGHT) / LODE_CHART_WIDTH;
    frame.top = 1 - (double)(legend->top + row * tall + LODE_CHART_TOP) / frame.height;
    frame.bottom = 1 - (double)(legend->top + (row + 1) * tall - BOTTOM) / frame.height;
    return frame;
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
                              frame->left - (LODE_CHART_LEFT - 14.0) / LODE_CHART_WIDTH,
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
    const double divider = panel->steps ? lode_chart_step_divider(panel) : panel->divider;
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
        (long long)(chart->layers > 1 ? chart->layers - 1 : 1),
        1 - (COLOUR_BAR - 4.0) / LODE_CHART_WIDTH, chart->layers <= 12 ? "set cbtics 1\n" : "");
}

static lode_status_t write_panel(lode_buffer_t *script, const lode_chart_t *chart,
                                 const lode_chart_legend_t *legend, int64_t number) {
    const lode_chart_panel_t *panel = &chart->panels[number];
    const frame_t frame = frame_of(chart, legend, number);
    LODE_TRY(lode_buffer_printf(script,
                                "set lmargin at screen %.5f\nset rmargin at screen %.5f\n"
                                "set tmargin at screen %.5f\nset bmargin at screen %.5f\n",
                                frame.left, frame.right, frame.top, frame.bottom));
    LODE_TRY(lode_chart_write_label(script, "title", panel->title));
    LODE_TRY(lode_chart_write_x_axis(script, panel, frame.panel_width));
    LODE_TRY(lode_chart_write_y_axis(script, panel));
    LODE_TRY(lode_buffer_printf(script, "unset arrow\nunset label\n"));
    LODE_TRY(write_y_label(script, panel, &frame));
    LODE_TRY(write_lines(script, panel));
    if (number == 0)
        LODE_TRY(lode_chart_write_legend(script, chart, legend, frame.height));
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
    const lode_chart_legend_t legend = lode_chart_legend_of(chart);
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
