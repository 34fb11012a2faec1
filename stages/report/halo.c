#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/figures.h"
#include "report/shelf.h"

/* What classify.h5 says of the halo and what it is compared with. */
typedef struct halo {
    lode_shelf_t shelf;
    lode_store_t *store;
    lode_report_case_t *item;
    const lode_report_channels_t *channels;
    lode_plot_t *plot;
    int64_t layers;
} halo_t;

/* --- means by layer --------------------------------------------------------------------- */

/* A mean redundancy by layer with its interval; count 0 where it is not there. */
static lode_status_t read_mean(halo_t *halo, const char *dataset, const char *name,
                               const char *colour, int place, int places,
                               lode_chart_series_t *series) {
    char path[96];
    double *mean, *bounds, *low = NULL, *high = NULL;
    int64_t layers = halo->layers, shape[2] = {layers, 2};
    snprintf(path, sizeof path, "/controls/%s", dataset);
    LODE_TRY(lode_shelf_f64(&halo->shelf, halo->store, path, 1, &layers, &mean));
    snprintf(path, sizeof path, "/controls/%s_interval", dataset);
    LODE_TRY(lode_shelf_f64(&halo->shelf, halo->store, path, 2, shape, &bounds));
    if (mean && bounds) {
        LODE_TRY(lode_shelf_new(&halo->shelf, &low, layers));
        LODE_TRY(lode_shelf_new(&halo->shelf, &high, layers));
        for (int64_t l = 0; l < layers; l++) {
            low[l] = bounds[2 * l];
            high[l] = bounds[2 * l + 1];
        }
    }
    *series = (lode_chart_series_t){.name = name,
                                    .colour = colour,
                                    .mark = LODE_MARK_BOTH,
                                    .point = (const int[]){7, 5, 9, 13}[place % 4],
                                    .size = 0.5,
                                    .count = mean ? layers : 0,
                                    .y = mean,
                                    .low = low,
                                    .high = high,
                                    .shift = (place - 0.5 * (places - 1)) * 0.12};
    return LODE_OK;
}

static lode_status_t draw_means(halo_t *halo) {
    static const struct {
        const char *dataset, *name, *colour;
    } groups[] = {
        {"halo_to_core", "halo to core", LODE_COLOUR_BLUE},
        {"random_to_core", "random channels to core", LODE_COLOUR_GREY},
        {"halo_to_random_core", "halo to random core", LODE_COLOUR_ORANGE},
        {"random_halo_to_random_core", "random core’s halo to it", LODE_COLOUR_PURPLE},
        {"halo_halo", "halo–halo pairs", LODE_COLOUR_SKY},
        {"halo_non", "halo–non-halo pairs", LODE_COLOUR_GREEN},
        {"non_non", "non–non pairs", LODE_COLOUR_BLACK},
    };
    lode_chart_series_t series[7];
    for (int i = 0; i < 7; i++)
        LODE_TRY(read_mean(halo, groups[i].dataset, groups[i].name, groups[i].colour,
                           i < 4 ? i : i - 4, i < 4 ? 4 : 3, &series[i]));
    if (series[0].count == 0)
        return LODE_OK;
    const lode_chart_panel_t panels[] = {{.title = "to a core (mean of the top pairs)",
                                          .x_label = "layer",
                                          .y_label = "redundancy, nats",
                                          .whole_x = true,
                                          .from_zero = true,
                                          .series = series,
                                          .count = 4},
                                         {.title = "between channels (mean of all pairs)",
                                          .x_label = "layer",
                                          .whole_x = true,
                                          .from_zero = true,
                                          .series = series + 4,
                                          .count = 3}};
    const lode_chart_t chart = {
        .panels = panels, .count = 2, .columns = lode_chart_columns(halo->layers)};
    char caption[640];
    snprintf(caption, sizeof caption,
             "Redundancy −½ ln(1 − r²) of the correlations r of q = u·∂L/∂u over %lld calibration "
             "tokens. First: a channel’s redundancy to the core, averaged over the halo and over "
             "random channels outside core and halo; to a random core of equal size; and of the "
             "halo that the same rule finds for the random core. Second: over all pairs of halo "
             "and of random channels. Bars are 95 %% bootstrap intervals over the channels of a "
             "group.",
             (long long)halo->item->redundancy_tokens);
    return lode_figure_chart(halo->plot, &chart, "Halo redundancy against controls", caption,
                             &halo->item->topics[LODE_TOPIC_HALO]);
}

/* --- distributions by layer ------------------------------------------------------------- */

/* A box for each layer from rows of values [layers, extent]; `keep` (may be NULL) [layers, extent]
 * says which belong to class `class`. */
static lode_status_t boxes_of(halo_t *halo, const double *values, int64_t extent,
                              const uint8_t *keep, int class, const char *name, const char *colour,
                              double shift, lode_chart_series_t *series) {
    double *parts[5], *row;
    for (int i = 0; i < 5; i++)
        LODE_TRY(lode_shelf_new(&halo->shelf, &parts[i], halo->layers));
    LODE_TRY(lode_shelf_new(&halo->shelf, &row, extent));
    for (int64_t l = 0; l < halo->layers; l++) {
        double quantiles[5];
        int64_t count = 0;
        for (int64_t j = 0; j < extent; j++)
            if (!keep || keep[l * extent + j] == class)
                row[count++] = values[l * extent + j];
        lode_report_quantiles(quantiles, row, count);
        for (int i = 0; i < 5; i++)
            parts[i][l] = quantiles[i];
    }
    *series = (lode_chart_series_t){.name = name,
                                    .colour = colour,
                                    .mark = LODE_MARK_BOX,
                                    .size = 0.26,
                                    .count = halo->layers,
                                    .low = parts[0],
                                    .box_low = parts[1],
                                    .y = parts[2],
                                    .box_high = parts[3],
                                    .high = parts[4],
                                    .shift = shift};
    return LODE_OK;
}

typedef struct redundancies {
    double *halo, *scale_free, *nodelens, *random; /* [layers, extent]; NULL where not stored */
    int64_t halo_extent, random_extent;
    bool random_is_nodelens; /* in which form that of the random channels is */
} redundancies_t;

static lode_status_t read_redundancies(halo_t *halo, redundancies_t *out) {
    *out = (redundancies_t){0};
    int64_t shape[2] = {halo->layers, -1}, random[2] = {halo->layers, -1};
    LODE_TRY(
        lode_shelf_f64(&halo->shelf, halo->store, "/redundancy_to_core", 2, shape, &out->halo));
    LODE_TRY(lode_shelf_f64(&halo->shelf, halo->store, "/controls/redundancy_to_core_scale_free", 2,
                            shape, &out->scale_free));
    LODE_TRY(lode_shelf_f64(&halo->shelf, halo->store, "/controls/redundancy_to_core_nodelens", 2,
                            shape, &out->nodelens));
    LODE_TRY(lode_shelf_f64(&halo->shelf, halo->store, "/controls/random_redundancy_to_core", 2,
                            random, &out->random));
    out->halo_extent = shape[1];
    out->random_extent = random[1];
    if (!out->scale_free)
        out->scale_free = out->halo;
    out->random_is_nodelens = out->nodelens && out->halo && shape[1] > 0 &&
                              memcmp(out->halo, out->nodelens,
                                     (size_t)(halo->layers * shape[1]) * sizeof *out->halo) == 0;
    return LODE_OK;
}

static lode_status_t draw_boxes(halo_t *halo) {
    redundancies_t red;
    LODE_TRY(read_redundancies(halo, &red));
    if (!red.halo || red.halo_extent < 1 || (!red.random && !red.nodelens))
        return LODE_OK;
    lode_chart_series_t series[2][2];
    lode_chart_panel_t panels[2];
    int count = 0;
    for (int form = 0; form < 2; form++) {
        const double *values = form ? red.nodelens : red.scale_free;
        if (!values)
            continue;
        LODE_TRY(boxes_of(halo, values, red.halo_extent, NULL, 0, "halo", LODE_COLOUR_BLUE, -0.16,
                          &series[count][0]));
        const bool beside =
            red.random && red.random_extent > 0 && red.random_is_nodelens == (form == 1);
        if (beside)
            LODE_TRY(boxes_of(halo, red.random, red.random_extent, NULL, 0, "random channels",
                              LODE_COLOUR_VERMILION, 0.16, &series[count][1]));
        panels[count] =
            (lode_chart_panel_t){.title = form ? "with NodeLens’s constant in the denominator"
                                          : red.nodelens ? "scale-free correlation"
                                                         : NULL,
                                 .x_label = "layer",
                                 .y_label = "redundancy to core, nats",
                                 .whole_x = true,
                                 .from_zero = true,
                                 .series = series[count],
                                 .count = beside ? 2 : 1};
        count++;
    }
    const lode_chart_t chart = {.panels = panels, .count = count, .columns = 1};
    char caption[512];
    snprintf(caption, sizeof caption,
             "Of each layer’s halo channels and of random ones outside core and halo: median, "
             "quartiles, and 5 and 95 %% of the channels. Correlations over %lld calibration "
             "tokens.%s",
             (long long)halo->item->redundancy_tokens,
             red.nodelens ? " Below, the same with 10⁻⁸ added under the root of the product of "
                            "variances, as the reference program does."
                          : "");
    return lode_figure_chart(halo->plot, &chart, "Redundancy to the core, channel by channel",
                             caption, &halo->item->topics[LODE_TOPIC_HALO]);
}

/* --- where channels write and read ------------------------------------------------------ */

static lode_status_t written_panel(halo_t *halo, lode_chart_series_t series[2],
                                   lode_chart_panel_t *panel) {
    double *core, *sets;
    int64_t layers = halo->layers, shape[2] = {layers, -1};
    LODE_TRY(lode_shelf_f64(&halo->shelf, halo->store, "/controls/write_dimensions_core", 1,
                            &layers, &core));
    LODE_TRY(lode_shelf_f64(&halo->shelf, halo->store, "/controls/write_dimensions_random", 2,
                            shape, &sets));
    panel->count = 0;
    if (!core || !sets || shape[1] < 1)
        return LODE_OK;
    LODE_TRY(boxes_of(halo, sets, shape[1], NULL, 0, "random sets of equal size", LODE_COLOUR_GREY,
                      0, &series[0]));
    series[1] = (lode_chart_series_t){.name = "core",
                                      .colour = LODE_COLOUR_VERMILION,
                                      .mark = LODE_MARK_BOTH,
                                      .count = layers,
                                      .y = core};
    *panel = (lode_chart_panel_t){.title = "effective number of dimensions written",
                                  .x_label = "layer",
                                  .whole_x = true,
                                  .series = series,
                                  .count = 2};
    return LODE_OK;
}

static lode_status_t read_panel(halo_t *halo, lode_chart_series_t series[3],
                                lode_chart_panel_t *panel) {
    static const char *const names[] = {"core", "halo", "rest"};
    static const char *const colours[] = {LODE_COLOUR_VERMILION, LODE_COLOUR_BLUE,
                                          LODE_COLOUR_GREY};
    double *values;
    uint8_t *class;
    int64_t shape[2] = {halo->layers, halo->channels->channels};
    LODE_TRY(lode_shelf_f64(&halo->shelf, halo->store, "/controls/read_connectivity", 2, shape,
                            &values));
    panel->count = 0;
    if (!values)
        return LODE_OK;
    LODE_TRY(LODE_NEW_RAW(&class, shape[0] * shape[1], "classes of channels"));
    lode_report_classes(halo->channels, class);
    lode_status_t status = LODE_OK;
    for (int c = 0; status == LODE_OK && c < 3; c++)
        status = boxes_of(halo, values, shape[1], class, c, names[c], colours[c], 0.27 * (c - 1),
                          &series[c]);
    free(class);
    *panel = (lode_chart_panel_t){.title = "share read where the core before writes",
                                  .x_label = "layer",
                                  .whole_x = true,
                                  .series = series,
                                  .count = 3};
    return status;
}

static lode_status_t draw_dimensions(halo_t *halo) {
    lode_chart_series_t written[2], read[3];
    lode_chart_panel_t panels[2];
    int count = 0;
    LODE_TRY(written_panel(halo, written, &panels[count]));
    count += panels[count].count > 0;
    const bool has_written = count > 0;
    LODE_TRY(read_panel(halo, read, &panels[count]));
    const bool has_read = panels[count].count > 0;
    count += has_read;
    if (count == 0)
        return LODE_OK;
    const lode_chart_t chart = {.panels = panels, .count = count, .columns = count};
    char caption[512];
    snprintf(caption, sizeof caption, "%s%sBoxes show median, quartiles, and 5 and 95 %%.",
             has_written ? "Dimensions of the residual stream that a set of channels writes: exp "
                           "of the entropy of its summed absolute write weights, of the core and "
                           "of random sets of as many channels. "
                         : "",
             has_read ? "The read halo: share of a channel’s input weights (L1) on the "
                        "dimensions that the core of the layer before writes to most. "
                      : "");
    return lode_figure_chart(halo->plot, &chart, "Where channels write and read", caption,
                             &halo->item->topics[LODE_TOPIC_HALO]);
}

lode_status_t lode_figures_halo(lode_plot_t *plot, lode_report_case_t *item,
                                const lode_report_channels_t *channels) {
    halo_t halo = {.item = item, .channels = channels, .plot = plot, .layers = item->layer_count};
    LODE_TRY(lode_report_open(&halo.store, item, "classify"));
    if (!halo.store)
        return LODE_OK;
    lode_status_t status = draw_means(&halo);
    if (status == LODE_OK)
        status = draw_boxes(&halo);
    if (status == LODE_OK)
        status = draw_dimensions(&halo);
    lode_store_close(&halo.store);
    lode_shelf_free(&halo.shelf);
    return lode_fail_context(status, "%s/classify.h5", item->folder);
}
