/* What is left of supernodes and super weights in folders that somebody has compressed. */
#include "report/retention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/cells.h"
#include "report/chart.h"
#include "report/figures.h"
#include "report/page.h"

enum { MOST_FOLDERS = 16, MOST_TEXTS = 8, LISTED = 4 }; /* lines of a figure; columns; a glance */

/* Colours and shapes of folders; the second round of colours has other shapes. */
static const struct {
    const char *colour;
    int point;
} looks[MOST_FOLDERS] = {
    {LODE_COLOUR_BLUE, 7},      {LODE_COLOUR_VERMILION, 5}, {LODE_COLOUR_GREEN, 9},
    {LODE_COLOUR_ORANGE, 13},   {LODE_COLOUR_PURPLE, 11},   {LODE_COLOUR_SKY, 7},
    {LODE_COLOUR_BLACK, 5},     {LODE_COLOUR_GREY, 9},      {LODE_COLOUR_BLUE, 4},
    {LODE_COLOUR_VERMILION, 6}, {LODE_COLOUR_GREEN, 8},     {LODE_COLOUR_ORANGE, 12},
    {LODE_COLOUR_PURPLE, 10},   {LODE_COLOUR_SKY, 4},       {LODE_COLOUR_BLACK, 6},
    {LODE_COLOUR_GREY, 8},
};

typedef struct view {
    lode_plot_t *plot;
    lode_report_case_t *item;
    lode_buffer_t *page;
    lode_retention_t *retention;
    const lode_retention_figure_t *texts[MOST_TEXTS]; /* each as one folder has it */
    int text_count;
} view_t;

/* Every figure that any folder has, once. */
static void collect_texts(view_t *view) {
    for (int64_t f = 0; f < view->retention->count; f++) {
        const lode_retention_folder_t *folder = &view->retention->folders[f];
        for (int64_t i = 0; i < folder->figure_count; i++) {
            const lode_retention_figure_t *figure = &folder->figures[i];
            bool fresh = view->text_count < MOST_TEXTS;
            for (int t = 0; fresh && t < view->text_count; t++)
                fresh = strcmp(view->texts[t]->metric, figure->metric) != 0 ||
                        strcmp(view->texts[t]->dataset, figure->dataset) != 0 ||
                        strcmp(view->texts[t]->protocol, figure->protocol) != 0 ||
                        view->texts[t]->length != figure->length;
            if (fresh)
                view->texts[view->text_count++] = figure;
        }
    }
}

static bool is_loss(const lode_retention_figure_t *figure) {
    return strcmp(figure->metric, "perplexity") == 0;
}

/* "Perplexity on books, gptq at 256"; without `axis` without the protocol. */
static lode_status_t append_title(lode_buffer_t *text, const lode_retention_figure_t *figure,
                                  bool axis) {
    const char *metric = is_loss(figure)                      ? "Perplexity"
                         : strcmp(figure->metric, "acc") == 0 ? "Accuracy"
                                                              : "Normalised accuracy";
    LODE_TRY(lode_buffer_printf(text, "%s on %s", metric, figure->dataset));
    return axis && is_loss(figure) ? lode_buffer_printf(text, ", %s at %lld", figure->protocol,
                                                        (long long)figure->length)
                                   : LODE_OK;
}

/* The core's mass in a folder as a share of the original's; NaN where not known. */
static double mass_left(const view_t *view, const lode_retention_folder_t *folder) {
    const double before = view->retention->original.mean[LODE_RETENTION_MASS];
    return before > 0 ? folder->mean[LODE_RETENTION_MASS] / before : NAN;
}

/* --- table -------------------------------------------------------------------------------- */

/* Whether any folder says anything of super weights. */
static bool has_weights(const view_t *view) {
    bool any = false;
    for (int64_t f = 0; f < view->retention->count; f++)
        any |= view->retention->folders[f].weight_count >= 0;
    return any;
}

static lode_status_t write_head(const view_t *view) {
    static const char *const weights[] = {"#super weights left", "#found again", "#new ones found"};
    static const char *const heads[] = {"#core’s share of the LP",
                                        "#of the original’s",
                                        "#core again in core",
                                        "#ρ of the LPs",
                                        "#core channels zeroed",
                                        "#changed",
                                        "#removed",
                                        "#weight error: core",
                                        "#halo",
                                        "#rest",
                                        "#attention",
                                        "channels known by"};
    LODE_TRY(lode_cells_open(view->page));
    LODE_TRY(lode_cells_head(view->page, "folder"));
    for (int t = 0; t < view->text_count; t++) {
        lode_buffer_t head = {0};
        lode_status_t status = lode_buffer_printf(&head, "#");
        if (status == LODE_OK)
            status = append_title(&head, view->texts[t], true);
        if (status == LODE_OK)
            status = lode_cells_head(view->page, head.data);
        lode_buffer_free(&head);
        LODE_TRY(status);
    }
    for (size_t i = 0; has_weights(view) && i < sizeof weights / sizeof weights[0]; i++)
        LODE_TRY(lode_cells_head(view->page, weights[i]));
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        LODE_TRY(lode_cells_head(view->page, heads[i]));
    return lode_cells_body(view->page);
}

static lode_status_t write_figure(const view_t *view, const lode_retention_folder_t *folder,
                                  const lode_retention_figure_t *like) {
    const lode_retention_figure_t *own = lode_retention_find(folder, like);
    const lode_retention_figure_t *before = lode_retention_find(&view->retention->original, like);
    if (own && !is_loss(own))
        return lode_cells_number(view->page, 100 * own->value, 1, " %");
    if (!own || own == before || !before || !(before->value > 0) || !isfinite(own->value))
        return lode_cells_digits(view->page, own ? own->value : NAN, 5);
    return lode_buffer_printf(view->page,
                              "<td class=\"n\">%.5g <span class=\"point\">%.3f×</span></td>",
                              own->value, own->value / before->value);
}

static lode_status_t write_weights(const view_t *view, const lode_retention_folder_t *folder) {
    const lode_retention_weights_t weights = lode_retention_weights(folder, -1);
    const bool searched = lode_retention_searched(folder);
    if (folder->weight_count < 0)
        LODE_TRY(lode_cells_digits(view->page, NAN, 3));
    else if (weights.all == 0)
        LODE_TRY(lode_buffer_printf(view->page, "<td class=\"n\">none to lose</td>"));
    else
        LODE_TRY(lode_buffer_printf(view->page, "<td class=\"n\">%lld of %lld</td>",
                                    (long long)weights.surviving, (long long)weights.all));
    LODE_TRY(lode_cells_number(
        view->page, searched && weights.all > 0 ? (double)weights.detected : NAN, 0, ""));
    return lode_cells_number(view->page, searched ? (double)weights.fresh : NAN, 0, "");
}

static lode_status_t write_row(const view_t *view, const lode_retention_folder_t *folder,
                               bool original) {
    static const lode_retention_measure_t shares[] = {
        LODE_RETENTION_ZEROED,         LODE_RETENTION_CHANGED,    LODE_RETENTION_REMOVED,
        LODE_RETENTION_ERROR_CORE,     LODE_RETENTION_ERROR_HALO, LODE_RETENTION_ERROR_REST,
        LODE_RETENTION_ERROR_ATTENTION};
    const double *mean = folder->mean;
    LODE_TRY(lode_cells_row(view->page, folder->name, false));
    for (int t = 0; t < view->text_count; t++)
        LODE_TRY(write_figure(view, folder, view->texts[t]));
    if (has_weights(view))
        LODE_TRY(write_weights(view, folder));
    LODE_TRY(lode_cells_number(view->page, 100 * mean[LODE_RETENTION_MASS], 1, " %"));
    LODE_TRY(
        lode_cells_number(view->page, original ? NAN : 100 * mass_left(view, folder), 1, " %"));
    LODE_TRY(lode_cells_number(view->page, 100 * mean[LODE_RETENTION_OVERLAP], 1, " %"));
    LODE_TRY(lode_cells_number(view->page, mean[LODE_RETENTION_CORRELATION], 3, ""));
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++)
        LODE_TRY(lode_cells_number(view->page, 100 * mean[shares[i]], 1, " %"));
    LODE_TRY(lode_cells_text(view->page, folder->known[0] ? folder->known : "–"));
    return lode_cells_row_end(view->page);
}

static lode_status_t write_table(const view_t *view) {
    LODE_TRY(lode_buffer_printf(
        view->page,
        "<p class=\"method\">Each folder beside the original, over all layers. Channels are those "
        "of the original’s core: zeroed where the gate row, the up row or the down column is 0, "
        "changed where any weight is another (zeroed ones too), removed where the matrices lack "
        "them. A weight error is ‖Ŵ − W‖ / ‖W‖ over the "
        "gate rows, up rows and down columns of a set. The loss proxy (LP) is measured again in "
        "each folder.%s</p>\n",
        has_weights(view) ? " A super weight is left where a folder has it with its sign and at "
                            "least half of its magnitude; it is found again where the search for "
                            "super weights, run in the folder with the same prompts and settings, "
                            "finds it there, too; new ones are what that finds besides."
                          : ""));
    LODE_TRY(write_head(view));
    LODE_TRY(write_row(view, &view->retention->original, true));
    for (int64_t f = 0; f < view->retention->count; f++)
        LODE_TRY(write_row(view, &view->retention->folders[f], false));
    return lode_cells_end(view->page);
}

/* --- figures against retention --------------------------------------------------------- */

enum { AXES = 3 };

/* What a folder retains, by axis, in per cent. */
static double retained(const view_t *view, const lode_retention_folder_t *folder, int axis) {
    return 100 * (axis == 0   ? mass_left(view, folder)
                  : axis == 1 ? folder->mean[LODE_RETENTION_OVERLAP]
                              : folder->mean[LODE_RETENTION_ERROR_CORE]);
}

static lode_status_t draw_against(const view_t *view, const lode_retention_figure_t *text,
                                  const lode_chart_panel_t *panels, int count) {
    const lode_chart_t chart = {
        .panels = panels, .count = count, .columns = count, .panel_height = 240, .key_right = true};
    char caption[400];
    lode_buffer_t title = {0};
    snprintf(caption, sizeof caption, "%lld %s. Each point is a folder, the line the original.%s",
             (long long)text->count, is_loss(text) ? "targets" : "items",
             view->retention->count > MOST_FOLDERS ? " Folders beyond the sixteenth are in the "
                                                     "table alone."
                                                   : "");
    lode_status_t status = append_title(&title, text, true);
    if (status == LODE_OK)
        status = lode_buffer_printf(&title, " against retention");
    if (status == LODE_OK)
        status = lode_figure_chart(view->plot, &chart, title.data, caption, view->page);
    lode_buffer_free(&title);
    return status;
}

static lode_status_t draw_text(const view_t *view, const lode_retention_figure_t *text) {
    static const char *const labels[AXES] = {"core’s LP share left, %", "core again in core, %",
                                             "weight error of the core, %"};
    const double unit = is_loss(text) ? 1 : 100;
    const lode_retention_t *retention = view->retention;
    const lode_retention_figure_t *before = lode_retention_find(&retention->original, text);
    const int64_t shown = retention->count < MOST_FOLDERS ? retention->count : MOST_FOLDERS;
    lode_chart_series_t series[AXES][MOST_FOLDERS];
    lode_chart_panel_t panels[AXES];
    double *x, *y;
    int count = 0;
    LODE_TRY(lode_shelf_new(&view->retention->shelf, &x, AXES * MOST_FOLDERS));
    LODE_TRY(lode_shelf_new(&view->retention->shelf, &y, MOST_FOLDERS));
    for (int axis = 0; axis < AXES; axis++) {
        bool any = false;
        for (int64_t f = 0; f < shown; f++) {
            const lode_retention_figure_t *own = lode_retention_find(&retention->folders[f], text);
            double *place = &x[axis * MOST_FOLDERS + f];
            *place = retained(view, &retention->folders[f], axis);
            y[f] = own ? unit * own->value : NAN;
            any |= isfinite(*place) && isfinite(y[f]);
            series[count][f] = (lode_chart_series_t){.name = retention->folders[f].name,
                                                     .colour = looks[f].colour,
                                                     .point = looks[f].point,
                                                     .size = 0.9,
                                                     .mark = LODE_MARK_POINTS,
                                                     .count = 1,
                                                     .x = place,
                                                     .y = &y[f]};
        }
        if (!any)
            continue;
        panels[count] = (lode_chart_panel_t){.x_label = labels[axis],
                                             .y_label = count > 0       ? NULL
                                                        : is_loss(text) ? "perplexity"
                                                                        : "accuracy, %",
                                             .log_y = is_loss(text),
                                             .whole_x = true,
                                             .level = before ? unit * before->value : 0,
                                             .level_name = before && count == 0 ? "original" : NULL,
                                             .series = series[count],
                                             .count = shown};
        count++;
    }
    return count > 0 ? draw_against(view, text, panels, count) : LODE_OK;
}

/* --- by layer ----------------------------------------------------------------------------- */

/* What is drawn of a layer: a measure, or the sum of two. */
typedef struct part {
    lode_retention_measure_t measure, other; /* LODE_RETENTION_MEASURES for none */
    const char *title;
} part_t;

static lode_status_t percent(const view_t *view, const lode_retention_folder_t *folder,
                             const part_t *part, double **out) {
    const int64_t layers = view->retention->layers;
    const double *values = folder->measure[part->measure];
    const double *more =
        part->other < LODE_RETENTION_MEASURES ? folder->measure[part->other] : NULL;
    *out = NULL;
    if (!values)
        return LODE_OK;
    LODE_TRY(lode_shelf_new(&view->retention->shelf, out, layers));
    for (int64_t l = 0; l < layers; l++)
        (*out)[l] = 100 * (values[l] + (more ? more[l] : 0));
    return LODE_OK;
}

/* Whether there is anything to see: a panel of nothing but zeros has no scale. */
static bool is_flat(const lode_chart_series_t *series, int64_t count) {
    for (int64_t s = 0; s < count; s++)
        for (int64_t i = 0; i < series[s].count; i++)
            if (isfinite(series[s].y[i]) && series[s].y[i] != 0)
                return false;
    return true;
}

/* A panel of one measure: a line for each folder, the original's in grey where it has one. */
static lode_status_t add_panel(const view_t *view, const part_t *part, lode_chart_series_t *series,
                               lode_chart_panel_t *panel, int *count) {
    const lode_retention_t *retention = view->retention;
    double *values;
    int64_t lines = 0;
    LODE_TRY(percent(view, &retention->original, part, &values));
    if (values)
        series[lines++] = (lode_chart_series_t){.name = "original",
                                                .colour = LODE_COLOUR_BLACK,
                                                .dash = 2,
                                                .mark = LODE_MARK_LINE,
                                                .count = retention->layers,
                                                .y = values};
    const int64_t without = lines;
    for (int64_t f = 0; f < retention->count && f < MOST_FOLDERS; f++) {
        LODE_TRY(percent(view, &retention->folders[f], part, &values));
        if (!values)
            continue;
        series[lines++] = (lode_chart_series_t){.name = retention->folders[f].name,
                                                .colour = looks[f].colour,
                                                .point = looks[f].point,
                                                .size = 0.5,
                                                .mark = LODE_MARK_BOTH,
                                                .count = retention->layers,
                                                .y = values};
    }
    if (lines == without || is_flat(series, lines))
        return LODE_OK;
    *panel = (lode_chart_panel_t){.title = part->title,
                                  .x_label = "layer",
                                  .whole_x = true,
                                  .from_zero = true,
                                  .series = series,
                                  .count = lines};
    ++*count;
    return LODE_OK;
}

static lode_status_t draw_layers(const view_t *view) {
    static const part_t parts[] = {
        {LODE_RETENTION_MASS, LODE_RETENTION_MEASURES, "the core’s share of the LP, %"},
        {LODE_RETENTION_OVERLAP, LODE_RETENTION_MEASURES, "core again in core, %"},
        {LODE_RETENTION_ERROR_CORE, LODE_RETENTION_MEASURES, "weight error of the core, %"},
        {LODE_RETENTION_ZEROED, LODE_RETENTION_REMOVED, "core zeroed or removed, %"}};
    lode_chart_series_t series[4][MOST_FOLDERS + 1];
    lode_chart_panel_t panels[4];
    int count = 0;
    for (int i = 0; i < 4; i++)
        LODE_TRY(add_panel(view, &parts[i], series[count], &panels[count], &count));
    if (count == 0 || view->retention->layers < 1)
        return LODE_OK;
    const lode_chart_t chart = {.panels = panels,
                                .count = count,
                                .columns = lode_chart_columns(view->retention->layers),
                                .panel_height = 180,
                                .key_right = true};
    return lode_figure_chart(view->plot, &chart, "Retention by layer",
                             "Of the original’s core in every layer, in each folder; where there "
                             "is a broken line, it is the original.",
                             view->page);
}

/* --- all of it ---------------------------------------------------------------------------- */

static lode_status_t write_glance(const view_t *view) {
    lode_buffer_t *glance = &view->item->glances[LODE_GLANCE_RETENTION];
    const lode_retention_t *retention = view->retention;
    for (int64_t f = 0; f < retention->count && f < LISTED; f++) {
        const double left = 100 * mass_left(view, &retention->folders[f]);
        LODE_TRY(lode_buffer_printf(glance, f ? ", " : ""));
        LODE_TRY(lode_page_text(glance, retention->folders[f].name));
        LODE_TRY(isfinite(left) ? lode_buffer_printf(glance, " %.0f %%", left)
                                : lode_buffer_printf(glance, " –"));
    }
    if (retention->count > LISTED)
        return lode_buffer_printf(glance, " and %lld more", (long long)(retention->count - LISTED));
    return LODE_OK;
}

static lode_status_t show(view_t *view, lode_store_t *store) {
    LODE_TRY(lode_retention_read(view->retention, store, view->item));
    if (view->retention->count == 0)
        return LODE_OK;
    collect_texts(view);
    LODE_TRY(write_table(view));
    for (int t = 0; t < view->text_count; t++)
        LODE_TRY(draw_text(view, view->texts[t]));
    LODE_TRY(draw_layers(view));
    LODE_TRY(write_glance(view));
    return lode_retention_rows(view->item, view->retention);
}

lode_status_t lode_figures_retention(lode_plot_t *plot, lode_report_case_t *item) {
    lode_retention_t retention = {0};
    view_t view = {.plot = plot,
                   .item = item,
                   .page = &item->topics[LODE_TOPIC_RETENTION],
                   .retention = &retention};
    lode_store_t *store;
    LODE_TRY(lode_report_open(&store, item, "audit"));
    if (!store)
        return LODE_OK;
    const lode_status_t status = show(&view, store);
    lode_retention_free(&retention);
    lode_store_close(&store);
    return lode_fail_context(status, "%s/audit.h5", item->folder);
}
