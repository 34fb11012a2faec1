#include "report/figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"
#include "score/order.h"

/* Sizes in pixels; the page scales them. */
enum { WIDTH = 760, HEIGHT = 400 };

lode_status_t lode_figure_add(lode_plot_t *plot, const lode_buffer_t *script, const char *title,
                              const char *caption, lode_buffer_t *page) {
    bool drawn = false;
    LODE_TRY(lode_buffer_printf(page, "<figure><div class=\"card\">\n"));
    LODE_TRY(lode_plot_draw(plot, script, title, page, &drawn));
    if (!drawn) {
        LODE_TRY(lode_buffer_printf(page, "<p class=\"absent\">No figure: "));
        LODE_TRY(lode_page_text(page, plot->reason));
        LODE_TRY(lode_buffer_printf(page, ".</p>\n"));
    }
    LODE_TRY(lode_buffer_printf(page, "</div><figcaption><b>"));
    LODE_TRY(lode_page_text(page, title));
    LODE_TRY(lode_buffer_printf(page, ".</b> "));
    LODE_TRY(lode_page_text(page, caption));
    return lode_buffer_printf(page, "</figcaption></figure>\n");
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

/* --- sorted loss proxy ------------------------------------------------------------------ */

/* Loss-proxy shares of one layer, largest first, at about 90 ranks evenly spaced in their log. */
static lode_status_t add_sorted_curve(lode_buffer_t *script, const double *values, int64_t m,
                                      double *low, double *high) {
    int32_t *order;
    LODE_TRY(LODE_NEW_RAW(&order, m, "order of channels"));
    lode_status_t status = lode_order_ascending(order, values, m, "loss_proxy");
    double total = 0;
    for (int64_t j = 0; status == LODE_OK && j < m; j++)
        total += values[j];
    double growth = pow((double)m, 1.0 / 90);
    for (int64_t rank = 1; status == LODE_OK && total > 0 && rank <= m;) {
        double share = values[order[m - rank]] / total;
        if (share > 0) { /* nothing else has a place on a logarithmic axis */
            status = lode_buffer_printf(script, "%lld %.5g\n", (long long)rank, share);
            *low = fmin(*low, share);
            *high = fmax(*high, share);
        }
        int64_t next = (int64_t)ceil((double)rank * growth);
        rank = next > rank ? next : rank + 1;
    }
    free(order);
    return status;
}

static lode_status_t curves_script(lode_buffer_t *script, const lode_report_case_t *item,
                                   const lode_report_channels_t *channels) {
    int64_t layers = channels->layers, m = channels->channels;
    double low = INFINITY, high = 0;
    LODE_TRY(lode_plot_begin(script, WIDTH, HEIGHT));
    for (int64_t layer = 0; layer < layers; layer++) {
        LODE_TRY(lode_buffer_printf(script, "$layer%lld << EOD\n", (long long)layer));
        LODE_TRY(add_sorted_curve(script, channels->loss_proxy + layer * m, m, &low, &high));
        /* A layer without any loss proxy still needs a block that gnuplot can read. */
        LODE_TRY(lode_buffer_printf(script, "NaN NaN\nEOD\n"));
    }
    if (high <= 0)
        low = high = 1;
    low = fmax(low, high * 1e-9); /* channels that never fire would squeeze the rest */
    LODE_TRY(lode_buffer_printf(script,
                                "set logscale xy\nset xrange [0.9:%lld]\nset yrange [%g:%g]\n"
                                "set xlabel 'channel rank by loss proxy'\n"
                                "set ylabel 'share of the layer’s loss proxy'\n"
                                "set palette defined (0 '#2c1e6b', 0.35 '#0072B2', 0.7 '#009E73', "
                                "1 '#E69F00')\nset cbrange [0:%lld]\nset cblabel 'layer'\n"
                                "set colorbox user origin 0.905,0.2 size 0.018,0.68\n"
                                "set rmargin 13\nunset key\n%s",
                                (long long)m, low / 1.3, high * 1.3,
                                (long long)(layers > 1 ? layers - 1 : 1),
                                layers <= 12 ? "set cbtics 1\n" : ""));
    LODE_TRY(lode_plot_log_tics(script, 'x', 1, (double)m));
    LODE_TRY(lode_plot_log_tics(script, 'y', low / 1.3, high * 1.3));
    LODE_TRY(lode_buffer_printf(script,
                                "set arrow from first %lld.5, graph 0 to first %lld.5, graph 1 "
                                "nohead lc rgb '#8a8f98' dt 2\n"
                                "set label 'core' at first %lld.5, graph 0.96 right offset -0.6,0 "
                                "textcolor rgb '#6b7078'\nplot ",
                                (long long)item->layers[0].core_size,
                                (long long)item->layers[0].core_size,
                                (long long)item->layers[0].core_size));
    for (int64_t layer = 0; layer < layers; layer++)
        LODE_TRY(lode_buffer_printf(script,
                                    "%s$layer%lld using 1:2:(%lld) with lines lw 1.4 lc "
                                    "palette",
                                    layer ? ", " : "", (long long)layer, (long long)layer));
    return lode_buffer_printf(script, "\n");
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
        for (int axis = 0; axis < 2; axis++) {
            const lode_range_t *range = axis ? &y[panel] : &x[panel];
            double decades = log10(range->high / range->low) + 0.4;
            double step = fmax(1, ceil(decades / (axis ? 6 : 4)));
            LODE_TRY(lode_buffer_printf(script, "set %ctics 1e%g\nset format %c '10^{%%T}'\n",
                                        axis ? 'y' : 'x', step, axis ? 'y' : 'x'));
        }
        LODE_TRY(lode_buffer_printf(script,
                                    "plot $rest%d with points pt 7 ps 0.22 lc rgb '#99565f6b', "
                                    "$core%d with points pt 7 ps 0.42 lc rgb '#D55E00'\n",
                                    panel, panel));
    }
    return lode_buffer_printf(script, "unset multiplot\n");
}

/* --- connectivity ----------------------------------------------------------------------- */

enum { BINS = 48, CLASSES = 3 };

/* Shares of each class's channels, over all layers, in equal bins from 0 to the maximum. */
static lode_status_t bin_connectivity(const lode_report_channels_t *channels,
                                      double share[CLASSES][BINS], double *maximum) {
    int64_t m = channels->channels, members[CLASSES] = {0};
    uint8_t *class;
    LODE_TRY(LODE_NEW_RAW(&class, m, "classes of channels"));
    *maximum = 0;
    for (int64_t i = 0; i < channels->layers * m; i++)
        if (channels->connectivity[i] > *maximum && isfinite(channels->connectivity[i]))
            *maximum = channels->connectivity[i];
    for (int64_t layer = 0; layer < channels->layers; layer++) {
        const int32_t *core = channels->core + layer * channels->core_extent;
        const int32_t *halo = channels->halo + layer * channels->halo_extent;
        memset(class, 2, (size_t)m);
        for (int64_t i = 0; i < channels->halo_extent && halo[i] >= 0; i++)
            class[halo[i]] = 1;
        for (int64_t i = 0; i < channels->core_extent && core[i] >= 0; i++)
            class[core[i]] = 0;
        for (int64_t j = 0; j < m; j++) {
            double value = channels->connectivity[layer * m + j];
            if (!(value >= 0) || !(*maximum > 0))
                continue;
            int bin = (int)(value / *maximum * BINS);
            share[class[j]][bin < BINS ? bin : BINS - 1]++;
            members[class[j]]++;
        }
    }
    free(class);
    for (int c = 0; c < CLASSES; c++)
        for (int bin = 0; bin < BINS; bin++)
            share[c][bin] = members[c] ? 100 * share[c][bin] / (double)members[c] : 0;
    return LODE_OK;
}

static lode_status_t connectivity_script(lode_buffer_t *script,
                                         const lode_report_channels_t *channels) {
    static const char *const names[CLASSES] = {"core", "halo", "rest"};
    static const char *const colours[CLASSES] = {"#D55E00", "#0072B2", "#8a8f98"};
    double share[CLASSES][BINS] = {{0}}, maximum;
    LODE_TRY(bin_connectivity(channels, share, &maximum));
    if (!(maximum > 0))
        maximum = 1;
    LODE_TRY(lode_plot_begin(script, WIDTH, 300));
    for (int c = 0; c < CLASSES; c++) {
        LODE_TRY(lode_buffer_printf(script, "$%s << EOD\n", names[c]));
        for (int bin = 0; bin < BINS; bin++)
            LODE_TRY(lode_buffer_printf(script, "%.5g %.5g\n", (bin + 0.5) * maximum / BINS,
                                        share[c][bin]));
        LODE_TRY(lode_buffer_printf(script, "EOD\n"));
    }
    LODE_TRY(
        lode_buffer_printf(script,
                           "set xrange [0:%g]\nset yrange [0:*]\nset key top left Left reverse\n"
                           "set style fill transparent solid 0.16 noborder\nset boxwidth %g\n"
                           "set xlabel 'connectivity to the core’s write support'\n"
                           "set ylabel '%% of the class’s channels'\nplot ",
                           maximum, maximum / BINS));
    for (int c = CLASSES - 1; c >= 0; c--)
        LODE_TRY(lode_buffer_printf(script,
                                    "$%s with boxes lc rgb '%s' notitle, $%s with histeps lw "
                                    "1.6 lc rgb '%s' title '%s'%s",
                                    names[c], colours[c], names[c], colours[c], names[c],
                                    c ? ", " : "\n"));
    return LODE_OK;
}

/* --- all of them ------------------------------------------------------------------------ */

lode_status_t lode_figures_supernodes(lode_plot_t *plot, lode_report_case_t *item,
                                      const lode_report_channels_t *channels) {
    lode_buffer_t script = {0}, *page = &item->supernodes;
    lode_status_t status;
    LODE_GUARD(status, core_mass_script(&script, item), done);
    LODE_GUARD(status,
               lode_figure_add(plot, &script, "Core mass by layer",
                               "Share of a layer’s loss proxy that its core, the channels of "
                               "largest loss proxy, carries. Bars are 95 % intervals over the "
                               "calibration sequences, drawn again with replacement.",
                               page),
               done);
    lode_buffer_free(&script);
    LODE_GUARD(status, curves_script(&script, item, channels), done);
    LODE_GUARD(status,
               lode_figure_add(plot, &script, "Sorted loss proxy",
                               "Each line is a layer, coloured by depth; its channels in order of "
                               "loss proxy, as shares of the layer’s sum. Left of the dashed line "
                               "is the core.",
                               page),
               done);
    lode_buffer_free(&script);
    LODE_GUARD(status, scatter_script(&script, item, channels), done);
    LODE_GUARD(status,
               lode_figure_add(plot, &script, "Loss proxy against activation power",
                               "First, middle and last layer; the core in orange. ρ is Spearman’s "
                               "rank correlation over all channels; of large layers an even "
                               "sample of 500 channels is drawn.",
                               page),
               done);
    lode_buffer_free(&script);
    LODE_GUARD(status, connectivity_script(&script, channels), done);
    status = lode_figure_add(plot, &script, "Connectivity of core, halo and rest",
                             "Share of a channel’s write weights that falls on the dimensions the "
                             "core writes to most; all layers together.",
                             page);
done:
    lode_buffer_free(&script);
    return status;
}
