#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/figures.h"

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
    LODE_TRY(lode_plot_begin(script, 860, 300));
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

lode_status_t lode_figures_connectivity(lode_plot_t *plot, lode_report_case_t *item,
                                        const lode_report_channels_t *channels) {
    lode_buffer_t script = {0};
    lode_status_t status = connectivity_script(&script, channels);
    if (status == LODE_OK)
        status = lode_figure_add(plot, &script, "Connectivity of core, halo and rest",
                                 "Share of a channel’s write weights that falls on the dimensions "
                                 "the core writes to most; all layers together.",
                                 &item->topics[LODE_TOPIC_HALO]);
    lode_buffer_free(&script);
    return status;
}
