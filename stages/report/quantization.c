/* Quantized variants of the dense model: perplexity and accuracy against bits, a table of all, and
 * quantize.h5's mixed precision. Pruned models that are quantized are report/joint's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/cells.h"
#include "report/figures.h"
#include "report/groups.h"
#include "report/shelf.h"

enum { PROTECTIONS = 4, MOST_PANELS = 12, MOST_MIXED = 6, WIDTHS = 8 };

static const struct {
    const char *protection, *name, *colour;
    int point;
} looks[PROTECTIONS] = {
    {"none", "no protection", LODE_COLOUR_BLACK, 7},
    {"super-weight", "super weights kept", LODE_COLOUR_VERMILION, 9},
    {"supernode", "supernodes kept", LODE_COLOUR_BLUE, 5},
    {"both", "both kept", LODE_COLOUR_GREEN, 13},
};

static bool is_plain(const lode_report_variant_t *variant, const void *context) {
    (void)context;
    return variant->kind == LODE_KIND_QUANTIZED && !variant->base[0];
}

static bool is_drawn(const lode_report_figure_t *figure) {
    return is_plain(&figure->variant, NULL) && isfinite(figure->value) &&
           (figure->value > 0 || !lode_report_is_loss(figure));
}

/* --- against bits ------------------------------------------------------------------------- */

/* The figures of a group with one scheme and protection, by bits; count 0 where there are none. */
static lode_status_t line_of(lode_shelf_t *shelf, const lode_report_group_t *group,
                             const char *scheme, int look, lode_chart_series_t *series) {
    const bool loss = lode_report_is_loss(&group->figures[0]);
    double *columns[4];
    *series = (lode_chart_series_t){.name = looks[look].name,
                                    .colour = looks[look].colour,
                                    .point = looks[look].point,
                                    .size = 0.6,
                                    .mark = LODE_MARK_BOTH};
    for (int i = 0; i < 4; i++)
        LODE_TRY(lode_shelf_new(shelf, &columns[i], group->count));
    for (int64_t i = group->count - 1; i >= 0; i--) { /* figures have the most bits first */
        const lode_report_figure_t *figure = &group->figures[i];
        const double unit = loss ? 1 : 100, value = figure->value;
        const double error =
            figure->standard_error > 0 ? fmin(figure->standard_error, 3 * value) : 0;
        if (!is_drawn(figure) || strcmp(figure->variant.scheme, scheme) != 0 ||
            strcmp(figure->variant.protection, looks[look].protection) != 0)
            continue;
        columns[0][series->count] = figure->variant.bits;
        columns[1][series->count] = unit * value;
        columns[2][series->count] = unit * (loss ? value * exp(-error / value) : value - error);
        columns[3][series->count] = unit * (loss ? value * exp(error / value) : value + error);
        series->count++;
    }
    series->x = columns[0];
    series->y = columns[1];
    series->low = columns[2];
    series->high = columns[3];
    return LODE_OK;
}

/* The schemes of a group in the order of figures, at most MOST_PANELS. */
static int schemes_of(const lode_report_group_t *group, const char *schemes[MOST_PANELS],
                      int64_t *left_out) {
    int count = 0;
    *left_out = 0;
    for (int64_t i = 0; i < group->count; i++) {
        const char *scheme = group->figures[i].variant.scheme;
        bool fresh = is_drawn(&group->figures[i]);
        for (int s = 0; fresh && s < count; s++)
            fresh = strcmp(schemes[s], scheme) != 0;
        if (fresh && count < MOST_PANELS)
            schemes[count++] = scheme;
        else if (fresh)
            ++*left_out;
    }
    return count;
}

/* All panels of a figure have one range, so that schemes compare. */
static void share_range(const lode_report_group_t *group, lode_chart_panel_t *panels, int count) {
    const bool loss = panels[0].log_y;
    double low = INFINITY, high = -INFINITY, first = INFINITY, last = -INFINITY;
    if (group->dense && isfinite(panels[0].level))
        low = high = panels[0].level;
    for (int p = 0; p < count; p++)
        for (int64_t s = 0; s < panels[p].count; s++)
            for (int64_t i = 0; i < panels[p].series[s].count; i++) {
                low = fmin(low, panels[p].series[s].low[i]);
                high = fmax(high, panels[p].series[s].high[i]);
                first = fmin(first, panels[p].series[s].x[i]);
                last = fmax(last, panels[p].series[s].x[i]);
            }
    for (int p = 0; p < count; p++) {
        panels[p].x_low = first - 0.4;
        panels[p].x_high = last + 0.4;
        panels[p].y_low = loss ? low / 1.06 : low - 2;
        panels[p].y_high = loss ? high * 1.06 : high + 2;
    }
}

static lode_status_t add_chart(lode_plot_t *plot, const lode_report_group_t *group,
                               const lode_chart_t *chart, int64_t left_out, lode_buffer_t *page) {
    const lode_report_figure_t *any = &group->figures[0];
    lode_buffer_t title = {0}, caption = {0};
    lode_status_t status;
    LODE_GUARD(status, lode_report_group_title(&title, group, false), done);
    LODE_GUARD(status, lode_buffer_printf(&title, " against bits of the weights"), done);
    if (any->protocol[0])
        LODE_GUARD(status,
                   lode_buffer_printf(&caption, "Protocol %s at length %lld, %lld targets. ",
                                      any->protocol, (long long)any->length, (long long)any->count),
                   done);
    LODE_GUARD(status,
               lode_buffer_printf(&caption,
                                  "Each panel is a quantizer with its granularity, a line what is "
                                  "left as stored. Bars are one standard error."),
               done);
    if (left_out > 0)
        LODE_GUARD(
            status,
            lode_buffer_printf(&caption, " The table has %lld variants more.", (long long)left_out),
            done);
    status = lode_figure_chart(plot, chart, title.data, caption.data, page);
done:
    lode_buffer_free(&title);
    lode_buffer_free(&caption);
    return status;
}

static lode_status_t draw_group(lode_plot_t *plot, lode_shelf_t *shelf,
                                const lode_report_group_t *group, lode_buffer_t *page) {
    const char *schemes[MOST_PANELS];
    int64_t left_out;
    const int count = schemes_of(group, schemes, &left_out);
    const bool loss = lode_report_is_loss(&group->figures[0]);
    lode_chart_series_t series[MOST_PANELS][PROTECTIONS];
    lode_chart_panel_t panels[MOST_PANELS];
    if (count == 0)
        return LODE_OK;
    const int columns = count < 3 ? count : count == 4 ? 2 : 3;
    for (int p = 0; p < count; p++) {
        int lines = 0;
        for (int look = 0; look < PROTECTIONS; look++) {
            LODE_TRY(line_of(shelf, group, schemes[p], look, &series[p][lines]));
            lines += series[p][lines].count > 0;
        }
        panels[p] =
            (lode_chart_panel_t){.title = schemes[p],
                                 .x_label = p + columns >= count ? "bits" : NULL,
                                 .y_label = p % columns > 0 ? NULL
                                            : loss          ? "perplexity"
                                                            : "accuracy, %",
                                 .log_y = loss,
                                 .level = group->dense ? (loss ? 1 : 100) * group->dense->value : 0,
                                 .level_name = group->dense && p == 0 ? "dense" : NULL,
                                 .series = series[p],
                                 .count = lines};
    }
    share_range(group, panels, count);
    const lode_chart_t chart = {
        .panels = panels, .count = count, .columns = columns, .panel_height = count > 1 ? 160 : 0};
    return add_chart(plot, group, &chart, left_out, page);
}

/* --- table -------------------------------------------------------------------------------- */

static lode_status_t write_row(lode_buffer_t *page, const lode_report_variant_t *variant,
                               const lode_report_group_t *groups, int64_t count,
                               int64_t dense_bytes, bool apart) {
    char bytes[LODE_CELLS_BYTES];
    const double size = variant->bytes >= 0 ? (double)variant->bytes : NAN;
    lode_cells_bytes(bytes, size);
    LODE_TRY(lode_cells_row(page, variant->name, apart));
    LODE_TRY(lode_cells_number(page, variant->bits_per_weight, 2, ""));
    LODE_TRY(lode_buffer_printf(page, "<td class=\"n\">%s</td>", bytes));
    LODE_TRY(
        lode_cells_number(page, dense_bytes > 0 ? 100 * size / (double)dense_bytes : NAN, 1, " %"));
    LODE_TRY(lode_report_group_cells(page, groups, count, variant->name));
    return lode_cells_row_end(page);
}

static lode_status_t write_table(lode_buffer_t *page, const lode_report_group_t *groups,
                                 int64_t count, const lode_report_variant_t *const *variants,
                                 int64_t variant_count) {
    static const char *const heads[] = {"variant", "#bits a weight", "#bytes", "#of dense"};
    const lode_report_variant_t *dense = NULL;
    for (int64_t g = 0; !dense && g < count; g++)
        dense = groups[g].dense ? &groups[g].dense->variant : NULL;
    const int64_t dense_bytes = dense ? dense->bytes : -1;
    LODE_TRY(lode_buffer_printf(
        page, "<p class=\"method\">Weights are rounded as a packed folder would hold them, and the "
              "model is computed with what they stand for. Bits a weight count scales and all that "
              "is kept, over the quantized matrices; bytes are those of the whole model.</p>\n"));
    LODE_TRY(lode_cells_open(page));
    for (int i = 0; i < 4; i++)
        LODE_TRY(lode_cells_head(page, heads[i]));
    LODE_TRY(lode_report_group_heads(page, groups, count));
    LODE_TRY(lode_cells_body(page));
    if (dense)
        LODE_TRY(write_row(page, dense, groups, count, dense_bytes, false));
    for (int64_t i = 0; i < variant_count; i++)
        LODE_TRY(write_row(page, variants[i], groups, count, dense_bytes,
                           i == 0 || variants[i]->bits != variants[i - 1]->bits));
    return lode_cells_end(page);
}

/* --- mixed precision ---------------------------------------------------------------------- */

/* How many channels of each layer have each width: shares of the layer as a map. */
static lode_status_t draw_widths(lode_report_case_t *item, const char *variant,
                                 const int64_t *counts, int64_t layers) {
    static const char *const rows[WIDTHS] = {"2 bits", "3 bits", "4 bits", "5 bits",
                                             "6 bits", "7 bits", "8 bits", "16 bits"};
    double *values;
    const char **columns = NULL;
    char(*numbers)[24] = NULL, title[160];
    LODE_TRY(LODE_NEW(&values, 2 * WIDTHS * layers, "shares of bits"));
    double *shades = values + WIDTHS * layers;
    lode_status_t status = LODE_NEW(&columns, layers, "names of layers");
    if (status == LODE_OK)
        status = LODE_NEW(&numbers, layers, "names of layers");
    for (int64_t l = 0; status == LODE_OK && l < layers; l++) {
        double total = 0;
        for (int w = 0; w < WIDTHS; w++)
            total += (double)counts[l * WIDTHS + w];
        for (int w = 0; w < WIDTHS; w++) {
            const double channels = (double)counts[l * WIDTHS + w];
            const double share = channels > 0 ? channels / total : NAN; /* a blank for none */
            values[w * layers + l] = share;
            shades[w * layers + l] = isfinite(share) ? sqrt(share) : 0;
        }
        snprintf(numbers[l], sizeof numbers[l], "%lld", (long long)l);
        columns[l] = numbers[l];
    }
    snprintf(title, sizeof title, "Bits of channels, %.100s", variant);
    const lode_heatmap_t map = {.title = title,
                                .rows = WIDTHS,
                                .columns = layers,
                                .row_names = rows,
                                .column_names = columns,
                                .values = values,
                                .shades = shades,
                                .decimals = 0,
                                .scale = 100};
    if (status == LODE_OK)
        status = lode_figure_heatmap(&map,
                                     "Percent of a layer’s FFN channels that mixed precision gives "
                                     "so many bits; columns are layers.",
                                     &item->topics[LODE_TOPIC_QUANTIZATION]);
    free(numbers);
    free(columns);
    free(values);
    return status;
}

static lode_status_t draw_mixed(lode_report_case_t *item, lode_store_t *store,
                                const char *variant) {
    lode_buffer_t path = {0};
    int axes = 0;
    int64_t shape[LODE_STORE_MAX_AXES] = {0}, *counts = NULL;
    lode_status_t status = lode_buffer_printf(&path, "/variants/%s/bits", variant);
    if (status != LODE_OK || !lode_store_has(store, path.data))
        goto done;
    LODE_GUARD(status, lode_store_shape(store, path.data, &axes, shape), done);
    if (axes != 2 || shape[1] != WIDTHS)
        status = lode_fail(LODE_ERR_SHAPE,
                           "dataset \"%s\" does not have the shape of the other results; run the "
                           "stage again (--force)",
                           path.data);
    if (status == LODE_OK)
        status = lode_store_read_all(store, path.data, LODE_TYPE_I64, &counts, NULL);
    if (status == LODE_OK && shape[0] > 0)
        status = draw_widths(item, variant, counts, shape[0]);
done:
    free(counts);
    lode_buffer_free(&path);
    return status;
}

static lode_status_t draw_all_mixed(lode_report_case_t *item,
                                    const lode_report_variant_t *const *variants, int64_t count) {
    lode_store_t *store;
    int drawn = 0;
    LODE_TRY(lode_report_open(&store, item, "quantize"));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && store && i < count && drawn < MOST_MIXED; i++)
        if (strncmp(variants[i]->scheme, "lp", 2) == 0) {
            status = draw_mixed(item, store, variants[i]->name);
            drawn++;
        }
    lode_store_close(&store);
    return lode_fail_context(status, "%s/quantize.h5", item->folder);
}

lode_status_t lode_figures_quantization(lode_plot_t *plot, lode_report_case_t *item) {
    lode_report_group_t *groups = NULL;
    const lode_report_variant_t **variants = NULL;
    int64_t count = 0, variant_count = 0;
    lode_buffer_t *page = &item->topics[LODE_TOPIC_QUANTIZATION];
    lode_shelf_t shelf = {0};
    lode_status_t status;
    LODE_GUARD(status, lode_report_groups(&groups, &count, item), done);
    LODE_GUARD(status, lode_report_group_variants(&variants, &variant_count, item, is_plain, NULL),
               done);
    if (variant_count == 0)
        goto done;
    for (int64_t i = 0; i < count; i++)
        LODE_GUARD(status, draw_group(plot, &shelf, &groups[i], page), done);
    LODE_GUARD(status, write_table(page, groups, count, variants, variant_count), done);
    status = draw_all_mixed(item, variants, variant_count);
done:
    lode_shelf_free(&shelf);
    free(variants);
    free(groups);
    return status;
}
