#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "report/figures.h"
#include "report/shelf.h"
#include "score/concentration.h"

static const char *const class_names[LODE_CLASSES] = {"core", "halo", "rest"};
static const char *const class_colours[LODE_CLASSES] = {LODE_COLOUR_VERMILION, LODE_COLOUR_BLUE,
                                                        LODE_COLOUR_GREY};

/* Everything by layer, [layers] each. */
typedef struct entropy {
    lode_shelf_t shelf;
    int64_t layers, channels;
    double *values;  /* [layers, channels] */
    double uniform;  /* ln d, NaN where the file does not say */
    double *part[5]; /* quantiles of lode_report_quantiles() */
    double *mean[LODE_CLASSES], *spearman;
} entropy_t;

static lode_status_t measure_layer(entropy_t *entropy, const lode_report_channels_t *channels,
                                   const uint8_t *class, int64_t layer, double *sorted) {
    const int64_t m = entropy->channels;
    const double *row = entropy->values + layer * m;
    double quantiles[5], sum[LODE_CLASSES] = {0};
    int64_t members[LODE_CLASSES] = {0};
    for (int64_t j = 0; j < m; j++) {
        sum[class[layer * m + j]] += row[j];
        members[class[layer * m + j]]++;
        sorted[j] = row[j];
    }
    lode_report_quantiles(quantiles, sorted, m);
    for (int i = 0; i < 5; i++)
        entropy->part[i][layer] = quantiles[i];
    for (int c = 0; c < LODE_CLASSES; c++)
        entropy->mean[c][layer] = members[c] ? sum[c] / (double)members[c] : NAN;
    return lode_concentration_spearman(&entropy->spearman[layer], row,
                                       channels->loss_proxy + layer * m, m,
                                       "entropy and loss_proxy");
}

static lode_status_t measure(entropy_t *entropy, const lode_report_channels_t *channels) {
    const int64_t layers = entropy->layers;
    double *sorted;
    uint8_t *class;
    for (int i = 0; i < 5; i++)
        LODE_TRY(lode_shelf_new(&entropy->shelf, &entropy->part[i], layers));
    for (int c = 0; c < LODE_CLASSES; c++)
        LODE_TRY(lode_shelf_new(&entropy->shelf, &entropy->mean[c], layers));
    LODE_TRY(lode_shelf_new(&entropy->shelf, &entropy->spearman, layers));
    LODE_TRY(lode_shelf_new(&entropy->shelf, &sorted, entropy->channels));
    LODE_TRY(LODE_NEW_RAW(&class, layers * entropy->channels, "classes of channels"));
    lode_report_classes(channels, class);
    lode_status_t status = LODE_OK;
    for (int64_t l = 0; status == LODE_OK && l < layers; l++)
        status = measure_layer(entropy, channels, class, l, sorted);
    free(class);
    return status;
}

static lode_status_t draw_quantiles(lode_plot_t *plot, lode_report_case_t *item,
                                    const entropy_t *entropy) {
    const lode_chart_series_t boxes = {.colour = LODE_COLOUR_BLUE,
                                       .mark = LODE_MARK_BOX,
                                       .size = 0.4,
                                       .count = entropy->layers,
                                       .low = entropy->part[0],
                                       .box_low = entropy->part[1],
                                       .y = entropy->part[2],
                                       .box_high = entropy->part[3],
                                       .high = entropy->part[4]};
    const lode_chart_panel_t panel = {.x_label = "layer",
                                      .y_label = "entropy, nats",
                                      .whole_x = true,
                                      .level = isnan(entropy->uniform) ? 0 : entropy->uniform,
                                      .level_name =
                                          isnan(entropy->uniform) ? NULL : "uniform, ln d",
                                      .series = &boxes,
                                      .count = 1};
    const lode_chart_t chart = {.panels = &panel, .count = 1, .columns = 1};
    return lode_figure_chart(
        plot, &chart, "Entropy of write weights by depth",
        "H = −Σ p ln p over the dimensions that a channel writes to, p the share of each in the "
        "absolute weights of its column of Wdown. Of each layer’s channels: median, quartiles, and "
        "5 and 95 %. A channel at the dashed line writes to all dimensions alike.",
        &item->topics[LODE_TOPIC_ENTROPY]);
}

static lode_status_t draw_relations(lode_plot_t *plot, lode_report_case_t *item,
                                    const entropy_t *entropy) {
    lode_chart_series_t means[LODE_CLASSES];
    for (int c = 0; c < LODE_CLASSES; c++)
        means[c] = (lode_chart_series_t){.name = class_names[c],
                                         .colour = class_colours[c],
                                         .mark = LODE_MARK_BOTH,
                                         .point = (const int[]){7, 5, 9}[c],
                                         .size = 0.5,
                                         .count = entropy->layers,
                                         .y = entropy->mean[c]};
    const lode_chart_series_t spearman = {.colour = LODE_COLOUR_GREEN,
                                          .mark = LODE_MARK_BOTH,
                                          .size = 0.5,
                                          .count = entropy->layers,
                                          .y = entropy->spearman};
    const lode_chart_panel_t panels[] = {{.title = "mean entropy, nats",
                                          .x_label = "layer",
                                          .whole_x = true,
                                          .series = means,
                                          .count = LODE_CLASSES},
                                         {.title = "Spearman’s ρ of entropy with LP",
                                          .x_label = "layer",
                                          .whole_x = true,
                                          .level_name = "",
                                          .series = &spearman,
                                          .count = 1}};
    const lode_chart_t chart = {
        .panels = panels, .count = 2, .columns = lode_chart_columns(entropy->layers)};
    char extent[LODE_REPORT_EXTENT];
    lode_buffer_t caption = {0};
    lode_report_extent(extent, item);
    lode_status_t status = lode_buffer_printf(
        &caption,
        "First: the mean over the core, the halo and the other channels of a layer. Second: rank "
        "correlation over a layer’s channels of the entropy with the loss proxy; below 0, channels "
        "that the loss leans on write to fewer dimensions.%s",
        extent);
    if (status == LODE_OK)
        status = lode_figure_chart(plot, &chart, "Entropy of write weights and the loss proxy",
                                   caption.data, &item->topics[LODE_TOPIC_ENTROPY]);
    lode_buffer_free(&caption);
    return status;
}

lode_status_t lode_figures_entropy(lode_plot_t *plot, lode_report_case_t *item,
                                   const lode_report_channels_t *channels) {
    entropy_t entropy = {.layers = channels->layers, .channels = channels->channels};
    int64_t shape[] = {channels->layers, channels->channels};
    lode_store_t *store;
    LODE_TRY(lode_report_open(&store, item, "classify"));
    if (!store)
        return LODE_OK;
    lode_status_t status =
        lode_shelf_f64(&entropy.shelf, store, "/entropy", 2, shape, &entropy.values);
    entropy.uniform = NAN;
    if (status == LODE_OK && entropy.values &&
        lode_store_has_attribute(store, "/entropy", "uniform"))
        status = lode_store_get_attribute_f64(store, "/entropy", "uniform", &entropy.uniform);
    if (status == LODE_OK && entropy.values)
        status = measure(&entropy, channels);
    if (status == LODE_OK && entropy.values)
        status = draw_quantiles(plot, item, &entropy);
    if (status == LODE_OK && entropy.values)
        status = draw_relations(plot, item, &entropy);
    lode_store_close(&store);
    lode_shelf_free(&entropy.shelf);
    return lode_fail_context(status, "%s/classify.h5", item->folder);
}
