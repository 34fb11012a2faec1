#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/figures.h"
#include "report/shelf.h"

/* What classify.h5 says of every layer; NULL where it does not. */
typedef struct figure {
    const char *dataset, *name; /* name: in legends and tables */
    double *value, *low, *high; /* [layers] */
} figure_t;

enum {
    CORE_MASS,
    GINI,
    EFFECTIVE,
    STABILITY,
    ACTIVATION,
    DOWN,
    UP,
    GATE,
    JACCARD,
    OVERLAP,
    FIGURES,
};

typedef struct structure {
    lode_shelf_t shelf;
    int64_t layers;
    figure_t figure[FIGURES];
} structure_t;

/* A figure may be NaN in every layer: of the gate row, say, in a model without gates. */
static bool any_number(const double *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!isnan(values[i]))
            return true;
    return false;
}

static lode_status_t read_figure(structure_t *structure, lode_store_t *store, figure_t *figure) {
    char interval[96];
    double *bounds;
    int64_t layers = structure->layers, shape[2] = {layers, 2};
    LODE_TRY(lode_shelf_f64(&structure->shelf, store, figure->dataset, 1, &layers, &figure->value));
    snprintf(interval, sizeof interval, "%s_interval", figure->dataset);
    LODE_TRY(lode_shelf_f64(&structure->shelf, store, interval, 2, shape, &bounds));
    if (figure->value && !any_number(figure->value, layers))
        figure->value = NULL;
    if (!bounds || !figure->value)
        return LODE_OK;
    LODE_TRY(lode_shelf_new(&structure->shelf, &figure->low, layers));
    LODE_TRY(lode_shelf_new(&structure->shelf, &figure->high, layers));
    for (int64_t l = 0; l < layers; l++) {
        figure->low[l] = bounds[2 * l];
        figure->high[l] = bounds[2 * l + 1];
    }
    return LODE_OK;
}

static lode_status_t read_structure(structure_t *structure, lode_store_t *store) {
    static const struct {
        const char *dataset, *name;
    } names[FIGURES] = {
        [CORE_MASS] = {"/structure/core_mass", "core mass"},
        [GINI] = {"/structure/gini", "Gini of LP"},
        [EFFECTIVE] = {"/structure/effective_number", "effective number of LP"},
        [STABILITY] = {"/core_stability", "core stability"},
        [ACTIVATION] = {"/structure/spearman_activation", "ρ with activation power"},
        [DOWN] = {"/structure/spearman_down_norm", "ρ with norm of down column"},
        [UP] = {"/structure/spearman_up_norm", "ρ with norm of up row"},
        [GATE] = {"/structure/spearman_gate_norm", "ρ with norm of gate row"},
        [JACCARD] = {"/structure/jaccard_activation", "Jaccard with activation core"},
        [OVERLAP] = {"/structure/overlap_activation", "share in activation core"},
    };
    for (int i = 0; i < FIGURES; i++) {
        structure->figure[i] = (figure_t){.dataset = names[i].dataset, .name = names[i].name};
        LODE_TRY(read_figure(structure, store, &structure->figure[i]));
    }
    return LODE_OK;
}

/* A series by layer; `place` of `places` moves it aside, so that intervals do not cover each other.
 */
static lode_chart_series_t by_layer(const structure_t *structure, int which, const char *name,
                                    const char *colour, int place, int places) {
    const figure_t *figure = &structure->figure[which];
    return (lode_chart_series_t){.name = name,
                                 .colour = colour,
                                 .mark = LODE_MARK_BOTH,
                                 .point = (const int[]){7, 5, 9, 13}[place % 4],
                                 .size = 0.5,
                                 .count = figure->value ? structure->layers : 0,
                                 .y = figure->value,
                                 .low = figure->low,
                                 .high = figure->high,
                                 .shift = (place - 0.5 * (places - 1)) * 0.12};
}

/* Captions end with what was measured on, and how the intervals are made. */
static lode_status_t add_chart(lode_plot_t *plot, lode_report_case_t *item,
                               const lode_chart_t *chart, const char *title, const char *text) {
    char extent[LODE_REPORT_EXTENT];
    lode_buffer_t caption = {0};
    lode_report_extent(extent, item);
    lode_status_t status = lode_buffer_printf(
        &caption, "%s%s Bars are 95 %% bootstrap intervals over the sequences.", text, extent);
    if (status == LODE_OK)
        status = lode_figure_chart(plot, chart, title, caption.data,
                                   &item->topics[LODE_TOPIC_SUPERNODES]);
    lode_buffer_free(&caption);
    return status;
}

static lode_status_t draw_concentration(lode_plot_t *plot, lode_report_case_t *item,
                                        const structure_t *structure) {
    static const struct {
        int which;
        const char *title, *colour;
    } parts[] = {{GINI, "Gini coefficient of LP", LODE_COLOUR_BLUE},
                 {EFFECTIVE, "effective number of channels", LODE_COLOUR_GREEN},
                 {STABILITY, "core stability (Jaccard)", LODE_COLOUR_VERMILION}};
    lode_chart_series_t series[3];
    lode_chart_panel_t panels[3];
    int count = 0;
    for (int i = 0; i < 3; i++) {
        if (!structure->figure[parts[i].which].value)
            continue;
        series[count] = by_layer(structure, parts[i].which, NULL, parts[i].colour, 0, 1);
        panels[count] = (lode_chart_panel_t){.title = parts[i].title,
                                             .x_label = "layer",
                                             .whole_x = true,
                                             .from_zero = parts[i].which != GINI,
                                             .series = &series[count],
                                             .count = 1};
        count++;
    }
    if (count == 0)
        return LODE_OK;
    const lode_chart_t chart = {.panels = panels, .count = count, .columns = count};
    return add_chart(plot, item, &chart, "Concentration and stability by depth",
                     "Gini coefficient of the loss proxy over a layer’s channels; its effective "
                     "number, exp of the entropy of the shares; and the mean Jaccard index of the "
                     "core with the cores of redrawn calibration sequences (1: always the same "
                     "channels).");
}

static lode_status_t draw_correlations(lode_plot_t *plot, lode_report_case_t *item,
                                       const structure_t *structure) {
    if (!structure->figure[ACTIVATION].value)
        return LODE_OK;
    const int places = structure->figure[GATE].value ? 4 : 3;
    const lode_chart_series_t spearman[] = {
        by_layer(structure, ACTIVATION, "activation power", LODE_COLOUR_BLUE, 0, places),
        by_layer(structure, DOWN, "norm of down column", LODE_COLOUR_VERMILION, 1, places),
        by_layer(structure, UP, "norm of up row", LODE_COLOUR_GREEN, 2, places),
        by_layer(structure, GATE, "norm of gate row", LODE_COLOUR_PURPLE, 3, places)};
    const lode_chart_series_t overlap[] = {
        by_layer(structure, OVERLAP, "share of the core in the activation core", LODE_COLOUR_ORANGE,
                 0, 2),
        by_layer(structure, JACCARD, "Jaccard index of the two cores", LODE_COLOUR_SKY, 1, 2)};
    const lode_chart_panel_t panels[] = {{.title = "Spearman’s ρ of LP with …",
                                          .x_label = "layer",
                                          .whole_x = true,
                                          .level_name = "",
                                          .series = spearman,
                                          .count = places},
                                         {.title = "LP core and activation core",
                                          .x_label = "layer",
                                          .whole_x = true,
                                          .from_zero = true,
                                          .series = overlap,
                                          .count = 2}};
    const lode_chart_t chart = {
        .panels = panels, .count = 2, .columns = lode_chart_columns(structure->layers)};
    return add_chart(plot, item, &chart, "What the loss proxy goes along with",
                     "First: rank correlation over a layer’s channels of the loss proxy with the "
                     "activation power and with the L2 norms of the channel’s weights. Second: how "
                     "much of the core is also among the equally many channels of largest "
                     "activation power.");
}

/* Every figure of every layer at a glance; shades are within a row. */
static lode_status_t draw_map(lode_report_case_t *item, structure_t *structure) {
    const char *rows[FIGURES], **columns;
    double *values, *shades;
    int count = 0;
    const int64_t layers = structure->layers;
    char(*numbers)[24];
    LODE_TRY(lode_shelf_new(&structure->shelf, &values, FIGURES * layers));
    LODE_TRY(lode_shelf_new(&structure->shelf, &shades, FIGURES * layers));
    for (int i = 0; i < FIGURES; i++) {
        const double *value = structure->figure[i].value;
        double low = INFINITY, high = -INFINITY;
        if (!value)
            continue;
        /* The effective number as a share of the channels fits beside figures in [−1, 1]. */
        const double unit = i == EFFECTIVE ? 1.0 / (double)item->channel_count : 1;
        for (int64_t l = 0; l < layers; l++) {
            values[count * layers + l] = unit * value[l];
            low = fmin(low, unit * value[l]);
            high = fmax(high, unit * value[l]);
        }
        for (int64_t l = 0; l < layers; l++)
            shades[count * layers + l] =
                high > low ? 0.05 + 0.85 * (unit * value[l] - low) / (high - low) : 0.3;
        rows[count++] = i == EFFECTIVE ? "effective number ÷ channels" : structure->figure[i].name;
    }
    if (count < 3 || layers < 2)
        return LODE_OK;
    LODE_TRY(LODE_NEW(&columns, layers, "names of layers"));
    lode_status_t status = LODE_NEW(&numbers, layers, "names of layers");
    for (int64_t l = 0; status == LODE_OK && l < layers; l++) {
        snprintf(numbers[l], sizeof numbers[l], "%lld", (long long)l);
        columns[l] = numbers[l];
    }
    const lode_heatmap_t map = {.title = "All layers at a glance",
                                .rows = count,
                                .columns = layers,
                                .row_names = rows,
                                .column_names = columns,
                                .values = values,
                                .shades = shades,
                                .decimals = 2,
                                .scale = 1};
    if (status == LODE_OK)
        status = lode_figure_heatmap(&map,
                                     "Columns are layers. Each row has its own shades, from its "
                                     "least value, light, to its largest, dark.",
                                     &item->topics[LODE_TOPIC_SUPERNODES]);
    free(numbers);
    free(columns);
    return status;
}

lode_status_t lode_figures_structure(lode_plot_t *plot, lode_report_case_t *item) {
    structure_t structure = {.layers = item->layer_count};
    lode_store_t *store;
    LODE_TRY(lode_report_open(&store, item, "classify"));
    if (!store)
        return LODE_OK;
    lode_status_t status =
        lode_fail_context(read_structure(&structure, store), "%s/classify.h5", item->folder);
    if (status == LODE_OK)
        status = draw_concentration(plot, item, &structure);
    if (status == LODE_OK)
        status = draw_correlations(plot, item, &structure);
    if (status == LODE_OK)
        status = draw_map(item, &structure);
    lode_store_close(&store);
    lode_shelf_free(&structure.shelf);
    return status;
}
