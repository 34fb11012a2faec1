#include "report/figures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"
#include "report/shelf.h"
#include "score/order.h"

/* Sizes in pixels; the page scales them. */
enum { WIDTH = 860 };

static lode_status_t begin_figure(lode_buffer_t *page) {
    return lode_buffer_printf(page, "<figure><div class=\"card\">\n");
}

static lode_status_t end_figure(lode_buffer_t *page, const char *title, const char *caption) {
    LODE_TRY(lode_buffer_printf(page, "</div><figcaption><b>"));
    LODE_TRY(lode_page_text(page, title));
    LODE_TRY(lode_buffer_printf(page, ".</b> "));
    LODE_TRY(lode_page_text(page, caption));
    return lode_buffer_printf(page, "</figcaption></figure>\n");
}

lode_status_t lode_figure_add(lode_plot_t *plot, const lode_buffer_t *script, const char *title,
                              const char *caption, lode_buffer_t *page) {
    bool drawn = false;
    LODE_TRY(begin_figure(page));
    LODE_TRY(lode_plot_draw(plot, script, title, page, &drawn));
    if (!drawn) {
        LODE_TRY(lode_buffer_printf(page, "<p class=\"absent\">No figure: "));
        LODE_TRY(lode_page_text(page, plot->reason));
        LODE_TRY(lode_buffer_printf(page, ".</p>\n"));
    }
    return end_figure(page, title, caption);
}

lode_status_t lode_figure_chart(lode_plot_t *plot, const lode_chart_t *chart, const char *title,
                                const char *caption, lode_buffer_t *page) {
    lode_buffer_t script = {0};
    lode_status_t status = lode_chart_script(&script, chart);
    if (status == LODE_OK)
        status = lode_figure_add(plot, &script, title, caption, page);
    lode_buffer_free(&script);
    return status;
}

lode_status_t lode_figure_heatmap(const lode_heatmap_t *map, const char *caption,
                                  lode_buffer_t *page) {
    LODE_TRY(begin_figure(page));
    LODE_TRY(lode_heatmap_svg(page, map));
    return end_figure(page, map->title, caption);
}

/* --- core mass per layer ---------------------------------------------------------------- */

static lode_status_t core_mass_script(lode_buffer_t *script, const lode_report_case_t *item) {
    int64_t layers = item->layer_count;
    double *sorted;
    LODE_TRY(LODE_NEW(&sorted, layers, "core masses"));
    for (int64_t layer = 0; layer < layers; layer++)
        sorted[layer] = 100 * item->layers[layer].core_mass;
    double median = lode_report_median(sorted, layers), low = sorted[0], high = sorted[layers - 1];
    free(sorted);
    double tallest = high; /* bar or error bar */
    for (int64_t layer = 0; layer < layers; layer++)
        tallest = fmax(tallest, 100 * item->layers[layer].core_mass_high); /* fmax skips NaN */
    double top = fmin(100, 1.15 * tallest);
    LODE_TRY(lode_plot_begin(script, WIDTH, 300));
    LODE_TRY(lode_buffer_printf(script, "$mass << EOD\n"));
    for (int64_t layer = 0; layer < layers; layer++)
        LODE_TRY(lode_buffer_printf(
            script, "%lld %.6g %.6g %.6g\n", (long long)layer, 100 * item->layers[layer].core_mass,
            100 * item->layers[layer].core_mass_low, 100 * item->layers[layer].core_mass_high));
    LODE_TRY(lode_buffer_printf(script,
                                "EOD\nset rmargin 14\nset grid noxtics\nset xrange [-0.7:%g]\n"
                                "set yrange [0:%g]\nset xtics %d\nset boxwidth 0.66\n"
                                "set style fill solid 1.0 noborder\nset xlabel 'layer'\n"
                                "set ylabel 'core mass, %%'\nunset key\n",
                                (double)layers - 0.3, top,
                                layers <= 16   ? 1
                                : layers <= 48 ? 4
                                               : 8));
    /* Labels keep a line's height between them. */
    double space = 0.075 * top;
    const struct {
        const char *name;
        double value, label;
    } lines[] = {{"min", low, fmin(low, median - space)},
                 {"median", median, median},
                 {"max", high, fmax(high, median + space)}};
    for (int i = 0; i < 3; i++)
        LODE_TRY(lode_buffer_printf(script,
                                    "set arrow from graph 0, first %.6g to graph 1, first %.6g "
                                    "nohead front lc rgb '#D55E00' lw %g dt %d\n"
                                    "set label '%s %.1f %%' at graph 1.01, first %.6g "
                                    "textcolor rgb '#D55E00' font ',12'\n",
                                    lines[i].value, lines[i].value, i == 1 ? 1.4 : 0.8,
                                    i == 1 ? 1 : 2, lines[i].name, lines[i].value, lines[i].label));
    LODE_TRY(lode_buffer_printf(script, "plot $mass using 1:2 with boxes lc rgb '#56B4E9'"));
    if (layers > 0 && isfinite(item->layers[0].core_mass_low))
        LODE_TRY(lode_buffer_printf(
            script, ", $mass using 1:3:(0):($4-$3) with vectors nohead lc rgb '#1B3A57' lw 1.4"));
    return lode_buffer_printf(script, "\n");
}

/* --- concentration curves ----------------------------------------------------------------- */

enum { CURVE = 90 }; /* points of a curve, about */

/* Loss-proxy shares of one layer, largest first, and their running sum, at ranks that are evenly
 * spaced in their log. */
static lode_status_t add_concentration(lode_shelf_t *shelf, const double *values, int64_t m,
                                       int64_t layer, lode_chart_series_t *sorted,
                                       lode_chart_series_t *cumulative) {
    int32_t *order;
    double *parts[4], total = 0, sum = 0; /* parts: rank, share, channels in %, running sum in % */
    for (int i = 0; i < 4; i++)
        LODE_TRY(lode_shelf_new(shelf, &parts[i], 2 * CURVE + 2));
    LODE_TRY(LODE_NEW_RAW(&order, m, "order of channels"));
    lode_status_t status = lode_order_ascending(order, values, m, "loss_proxy");
    for (int64_t j = 0; status == LODE_OK && j < m; j++)
        total += values[j];
    const double growth = pow((double)m, 1.0 / CURVE);
    int64_t count = 0;
    for (int64_t rank = 1, shown = 1; status == LODE_OK && total > 0 && rank <= m; rank++) {
        const double share = values[order[m - rank]] / total;
        sum += share;
        if (rank != shown && rank != m)
            continue;
        parts[0][count] = (double)rank;
        parts[1][count] = share > 1e-9 ? share : NAN; /* what never fires would squeeze the rest */
        parts[2][count] = 100 * (double)rank / (double)m;
        parts[3][count++] = 100 * sum;
        const int64_t next = (int64_t)ceil((double)rank * growth);
        shown = next > rank ? next : rank + 1;
    }
    free(order);
    *sorted = (lode_chart_series_t){.depth = (double)layer,
                                    .mark = LODE_MARK_LINE,
                                    .count = count,
                                    .x = parts[0],
                                    .y = parts[1]};
    *cumulative = *sorted;
    cumulative->x = parts[2];
    cumulative->y = parts[3];
    return status;
}

static lode_status_t draw_concentration(lode_plot_t *plot, lode_report_case_t *item,
                                        const lode_report_channels_t *channels) {
    const int64_t layers = channels->layers, m = channels->channels;
    const double core = (double)item->layers[0].core_size;
    lode_shelf_t shelf = {0};
    lode_chart_series_t *series;
    LODE_TRY(LODE_NEW(&series, 2 * layers, "concentration curves"));
    lode_status_t status = LODE_OK;
    for (int64_t l = 0; status == LODE_OK && l < layers; l++)
        status = add_concentration(&shelf, channels->loss_proxy + l * m, m, l, &series[l],
                                   &series[layers + l]);
    const lode_chart_panel_t panels[] = {{.title = "share of each channel",
                                          .x_label = "channel rank by loss proxy",
                                          .y_label = "share of the layer’s loss proxy",
                                          .log_x = true,
                                          .log_y = true,
                                          .divider = core + 0.5,
                                          .series = series,
                                          .count = layers},
                                         {.title = "concentration",
                                          .x_label = "channels of largest loss proxy, %",
                                          .y_label = "% of the layer’s loss proxy",
                                          .log_x = true,
                                          .y_low = 0,
                                          .y_high = 100,
                                          .divider = 100 * core / (double)m,
                                          .series = series + layers,
                                          .count = layers}};
    const lode_chart_t chart = {
        .panels = panels, .count = 2, .columns = 2, .panel_height = 260, .layers = layers};
    char caption[512], extent[LODE_REPORT_EXTENT];
    lode_report_extent(extent, item);
    snprintf(caption, sizeof caption,
             "Each line is a layer, coloured by depth. Left: its channels in order of loss proxy, "
             "as shares of the layer’s sum, down to 10⁻⁹. Right: what so many channels of largest "
             "loss proxy carry together. Left of the dashed line is the core.%s",
             extent);
    if (status == LODE_OK)
        status = lode_figure_chart(plot, &chart, "Sorted loss proxy and its concentration", caption,
                                   &item->topics[LODE_TOPIC_SUPERNODES]);
    free(series);
    lode_shelf_free(&shelf);
    return status;
}

/* --- loss proxy against activation power ------------------------------------------------ */

typedef struct lode_range {
    double low, high;
} lode_range_t;

static void widen(lode_range_t *range, double value) {
    range->low = fmin(range->low, value);
    range->high = fmax(range->high, value);
}

/* One layer's points as two blocks: at most 500 channels outside the core, and at most 100 of it.
 */
static lode_status_t add_scatter(lode_buffer_t *script, const lode_report_channels_t *channels,
                                 int64_t layer, int panel, lode_range_t *x, lode_range_t *y) {
    int64_t m = channels->channels;
    const double *loss_proxy = channels->loss_proxy + layer * m;
    const double *power = channels->activation_power + layer * m;
    const int32_t *core = channels->core + layer * channels->core_extent;
    int64_t core_size = lode_report_row_length(core, channels->core_extent);
    uint8_t *in_core;
    LODE_TRY(LODE_NEW(&in_core, m, "core"));
    for (int64_t i = 0; i < core_size; i++)
        in_core[core[i]] = 1;
    lode_status_t status = LODE_OK;
    for (int part = 0; status == LODE_OK && part < 2; part++) {
        int64_t members = part ? core_size : m - core_size, seen = 0;
        int64_t stride = part ? (members + 99) / 100 : (members + 499) / 500;
        status = lode_buffer_printf(script, "$%s%d << EOD\n", part ? "core" : "rest", panel);
        for (int64_t j = 0; status == LODE_OK && j < m; j++) {
            if (in_core[j] != part || seen++ % stride != 0 || !(power[j] > 0 && loss_proxy[j] > 0))
                continue;
            status = lode_buffer_printf(script, "%.4g %.4g\n", power[j], loss_proxy[j]);
            widen(x, power[j]);
            widen(y, loss_proxy[j]);
        }
        if (status == LODE_OK)
            status = lode_buffer_printf(script, "NaN NaN\nEOD\n");
    }
    free(in_core);
    return status;
}

static lode_status_t scatter_script(lode_buffer_t *script, const lode_report_case_t *item,
                                    const lode_report_channels_t *channels) {
    int64_t layers = channels->layers, chosen[3] = {0, layers / 2, layers - 1};
    int panels = layers >= 3 ? 3 : (int)layers;
    if (layers == 2)
        chosen[1] = 1;
    lode_range_t x[3], y[3];
    LODE_TRY(lode_plot_begin(script, WIDTH, 300));
    for (int panel = 0; panel < panels; panel++) {
        x[panel] = y[panel] = (lode_range_t){INFINITY, 0};
        LODE_TRY(add_scatter(script, channels, chosen[panel], panel, &x[panel], &y[panel]));
        if (!(x[panel].high > 0))
            x[panel] = y[panel] = (lode_range_t){1, 1};
    }
    LODE_TRY(lode_buffer_printf(script,
                                "set multiplot layout 1,%d\nset logscale xy\nunset key\n"
                                "set xlabel 'activation power'\nset tmargin 2.2\n",
                                panels));
    for (int panel = 0; panel < panels; panel++) {
        LODE_TRY(lode_buffer_printf(script,
                                    "set title 'layer %lld   ρ = %.2f'\nset ylabel '%s'\n"
                                    "set xrange [%g:%g]\nset yrange [%g:%g]\n",
                                    (long long)chosen[panel], item->layers[chosen[panel]].spearman,
                                    panel == 0 ? "loss proxy" : "", x[panel].low / 1.6,
                                    x[panel].high * 1.6, y[panel].low / 1.6, y[panel].high * 1.6));
        LODE_TRY(lode_plot_power_tics(script, 'x', x[panel].low, x[panel].high, 4));
        LODE_TRY(lode_plot_power_tics(script, 'y', y[panel].low, y[panel].high, 6));
        LODE_TRY(lode_buffer_printf(script,
                                    "plot $rest%d with points pt 7 ps 0.22 lc rgb '#99565f6b', "
                                    "$core%d with points pt 7 ps 0.42 lc rgb '#D55E00'\n",
                                    panel, panel));
    }
    return lode_buffer_printf(script, "unset multiplot\n");
}

/* --- all of them ------------------------------------------------------------------------ */

lode_status_t lode_figures_supernodes(lode_plot_t *plot, lode_report_case_t *item,
                                      const lode_report_channels_t *channels) {
    lode_buffer_t script = {0}, *page = &item->topics[LODE_TOPIC_SUPERNODES];
    char caption[512], extent[LODE_REPORT_EXTENT];
    lode_status_t status;
    lode_report_extent(extent, item);
    LODE_GUARD(status, core_mass_script(&script, item), done);
    snprintf(caption, sizeof caption,
             "Share of a layer’s loss proxy that its core, the channels of largest loss proxy, "
             "carries.%s%s",
             extent,
             channels->core_mass_interval ? " Bars are 95 % bootstrap intervals over the sequences."
                                          : "");
    LODE_GUARD(status, lode_figure_add(plot, &script, "Core mass by layer", caption, page), done);
    lode_buffer_free(&script);
    LODE_GUARD(status, draw_concentration(plot, item, channels), done);
    LODE_GUARD(status, scatter_script(&script, item, channels), done);
    snprintf(caption, sizeof caption,
             "First, middle and last layer; the core in orange. ρ is Spearman’s rank correlation "
             "over all channels; of large layers an even sample of 500 channels is drawn.%s",
             extent);
    status = lode_figure_add(plot, &script, "Loss proxy against activation power", caption, page);
done:
    lode_buffer_free(&script);
    return status;
}
