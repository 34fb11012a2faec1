#include "report/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"

enum { NUMBER = LODE_TABLE_NUMBER };

/* Decimals that give a perplexity four significant digits. */
static int decimals(double value) {
    return value >= 1000 ? 0 : value >= 100 ? 1 : 2;
}

/* The figure of losses that headlines and overviews show; tasks have their accuracies for that. */
static bool is_perplexity(const lode_report_figure_t *figure) {
    return figure->protocol[0] && lode_report_is_loss(figure) && !lode_report_is_derived(figure);
}

static bool is_accuracy(const lode_report_figure_t *figure) {
    return strcmp(figure->metric, "acc") == 0;
}

void lode_table_value(char text[NUMBER], const lode_report_figure_t *figure, double value) {
    if (!isfinite(value))
        snprintf(text, NUMBER, "–");
    else if (!lode_report_is_loss(figure))
        snprintf(text, NUMBER, "%.1f %%", 100 * value);
    else if (lode_report_is_derived(figure))
        snprintf(text, NUMBER, "%.4f", value);
    else if (fabs(figure->value) >= 1e6)
        snprintf(text, NUMBER, "%.3g", value);
    else
        snprintf(text, NUMBER, "%.*f", decimals(figure->value), value);
}

/* So many decimals and a unit; a dash where there is no value. */
static void format_plain(char text[NUMBER], double value, int places, const char *unit) {
    if (isfinite(value))
        snprintf(text, NUMBER, "%.*f%s", places, value, unit);
    else
        snprintf(text, NUMBER, "–");
}

/* --- looking figures up ----------------------------------------------------------------- */

static bool is_dense(const lode_report_figure_t *figure) {
    return strcmp(figure->variant.method, "dense") == 0;
}

static const lode_report_figure_t *dense_of(const lode_report_case_t *item,
                                            const lode_report_figure_t *figure) {
    for (int64_t i = 0; i < item->figure_count; i++)
        if (lode_report_same_axis(&item->figures[i], figure) && is_dense(&item->figures[i]))
            return &item->figures[i];
    return NULL;
}

/* Whether no variant of the same dataset, metric and family does better. */
static bool is_best(const lode_report_case_t *item, const lode_report_figure_t *figure) {
    if (!isfinite(figure->value) || is_dense(figure) ||
        figure->variant.kind == LODE_KIND_EXPERIMENT)
        return false;
    for (int64_t i = 0; i < item->figure_count; i++) {
        const lode_report_figure_t *other = &item->figures[i];
        if (!lode_report_same_axis(other, figure) ||
            !lode_report_same_family(&other->variant, &figure->variant))
            continue;
        if (lode_report_is_loss(figure) ? other->value < figure->value
                                        : other->value > figure->value)
            return false;
    }
    return true;
}

/* Whether the figure is the first, in the order of methods, of the best of its family. Pruned
 * models that are quantized are left to the joint plan, because their families are many. */
static bool leads(const lode_report_case_t *item, int64_t index) {
    const lode_report_figure_t *figure = &item->figures[index];
    if (!is_best(item, figure) || figure->variant.base[0])
        return false;
    for (int64_t i = 0; i < index; i++) {
        const lode_report_figure_t *other = &item->figures[i];
        if (lode_report_same_axis(other, figure) &&
            lode_report_same_family(&other->variant, &figure->variant) &&
            other->value == figure->value)
            return false;
    }
    return true;
}

/* Of what there is a best variant each. */
static const char *families(const lode_report_case_t *cases, int64_t count) {
    for (int64_t c = 0; c < count; c++)
        for (int64_t i = 0; i < cases[c].figure_count; i++)
            if (cases[c].figures[i].variant.bits > 0)
                return "sparsity and number of bits";
    return "sparsity";
}

/* --- tasks ------------------------------------------------------------------------------ */

/* Accuracy on one task: figures [begin, end) of a case. */
static lode_status_t write_task_row(lode_buffer_t *page, const lode_report_case_t *item,
                                    int64_t begin, int64_t end) {
    const lode_report_figure_t *any = &item->figures[begin], *dense = dense_of(item, any);
    const char *separator = "";
    char value[NUMBER], error[NUMBER], chance[NUMBER];
    lode_table_value(value, any, dense ? dense->value : NAN);
    lode_table_value(error, any, dense ? dense->standard_error : NAN);
    lode_table_value(chance, any, any->chance);
    LODE_TRY(lode_buffer_printf(page, "<tr><th scope=\"row\">"));
    LODE_TRY(lode_page_text(page, item->model));
    LODE_TRY(lode_buffer_printf(page, "</th><td>"));
    LODE_TRY(lode_page_text(page, item->point[0] ? item->point : "–"));
    LODE_TRY(lode_buffer_printf(page, "</td><td>"));
    LODE_TRY(lode_page_text(page, any->dataset));
    LODE_TRY(lode_buffer_printf(page,
                                "</td><td class=\"n\">%lld</td><td class=\"n\">%s</td>"
                                "<td class=\"n\">%s ± %s</td><td>",
                                (long long)any->count, chance, value, error));
    for (int64_t i = begin; i < end; i++) {
        if (!leads(item, i))
            continue;
        lode_table_value(value, any, item->figures[i].value);
        LODE_TRY(lode_buffer_printf(page, "%s%s <span class=\"point\">", separator, value));
        LODE_TRY(lode_page_text(page, item->figures[i].variant.name));
        LODE_TRY(lode_buffer_printf(page, "</span>"));
        separator = "<br>";
    }
    return lode_buffer_printf(page, "</td></tr>\n");
}

/* Accuracies of the unpruned models and of the best variants, where there are tasks. */
static lode_status_t write_tasks(lode_buffer_t *page, const lode_report_case_t *cases,
                                 int64_t count) {
    bool any = false;
    for (int64_t c = 0; c < count; c++)
        for (int64_t begin = 0, end; begin < cases[c].figure_count; begin = end) {
            const lode_report_figure_t *figures = cases[c].figures;
            end = lode_report_axis_end(&cases[c], begin);
            if (!is_accuracy(&figures[begin]))
                continue;
            if (!any)
                LODE_TRY(lode_buffer_printf(
                    page,
                    "<p class=\"method axis\"><b>Tasks</b></p>\n<div class=\"wide\" "
                    "tabindex=\"0\"><table>\n<thead><tr><th>model</th><th>setting</th>"
                    "<th>task</th><th class=\"n\">items</th><th class=\"n\">chance</th>"
                    "<th class=\"n\">dense accuracy</th><th>best variant at each %s"
                    "</th></tr></thead>\n<tbody>\n",
                    families(cases, count)));
            any = true;
            LODE_TRY(write_task_row(page, &cases[c], begin, end));
        }
    return any ? lode_buffer_printf(page, "</tbody></table></div>\n") : LODE_OK;
}

/* --- headline --------------------------------------------------------------------------- */

/* One large figure: a label, a value with something smaller behind it, a line below. */
static lode_status_t write_headline(lode_buffer_t *page, const char *label, const char *value,
                                    const char *aside, const char *below) {
    LODE_TRY(lode_buffer_printf(page, "<div><dt>"));
    LODE_TRY(lode_page_text(page, label));
    LODE_TRY(lode_buffer_printf(page, "</dt><dd>"));
    LODE_TRY(lode_page_text(page, value));
    LODE_TRY(lode_buffer_printf(page, " <small>"));
    LODE_TRY(lode_page_text(page, aside));
    LODE_TRY(lode_buffer_printf(page, "</small></dd><dd class=\"more\">"));
    LODE_TRY(lode_page_text(page, below));
    return lode_buffer_printf(page, "</dd></div>\n");
}

/* "gptq at 256": what perplexities must share to compare. */
static lode_status_t append_axis(lode_buffer_t *text, const lode_report_figure_t *figure) {
    if (!figure->protocol[0])
        return lode_buffer_printf(text, "task");
    return lode_buffer_printf(text, "%s at %lld", figure->protocol, (long long)figure->length);
}

static lode_status_t write_dense(lode_buffer_t *page, const lode_report_figure_t *figure) {
    char value[NUMBER], error[NUMBER + 8] = "", number[NUMBER];
    lode_table_value(value, figure, figure->value);
    if (isfinite(figure->standard_error)) {
        lode_table_value(number, figure, figure->standard_error);
        snprintf(error, sizeof error, "± %s", number);
    }
    lode_buffer_t below = {0}, label = {0};
    lode_status_t status = lode_buffer_printf(&below, "%s, ", figure->dataset);
    if (status == LODE_OK)
        status = append_axis(&below, figure);
    if (status == LODE_OK)
        status = lode_buffer_printf(&label, "%s of the unpruned model",
                                    lode_report_metric_title(figure));
    if (status == LODE_OK)
        status = write_headline(page, label.data, value, error, below.data);
    lode_buffer_free(&below);
    lode_buffer_free(&label);
    return status;
}

/* Median and range of the core mass over layers, in percent. */
static lode_status_t core_mass_range(const lode_report_case_t *item, double out[3]) {
    double *mass;
    LODE_TRY(LODE_NEW(&mass, item->layer_count, "core masses"));
    for (int64_t layer = 0; layer < item->layer_count; layer++)
        mass[layer] = 100 * item->layers[layer].core_mass;
    out[0] = lode_report_median(mass, item->layer_count);
    out[1] = mass[0];
    out[2] = mass[item->layer_count - 1];
    free(mass);
    return LODE_OK;
}

static lode_status_t write_core_mass(lode_buffer_t *page, const lode_report_case_t *item) {
    double range[3];
    char value[NUMBER], below[160];
    LODE_TRY(core_mass_range(item, range));
    format_plain(value, range[0], 1, " %");
    snprintf(below, sizeof below, "median of %lld layers, %.1f–%.1f %%; core of %lld of %lld",
             (long long)item->layer_count, range[1], range[2], (long long)item->layers[0].core_size,
             (long long)item->channel_count);
    return write_headline(page, "Core mass", value, "", below);
}

static lode_status_t write_best(lode_buffer_t *page, const lode_report_case_t *item,
                                const lode_report_figure_t *figure) {
    const lode_report_variant_t *variant = &figure->variant;
    char label[96], family[LODE_REPORT_FAMILY], value[NUMBER], ratio[NUMBER + 16] = "";
    lode_report_family(family, variant);
    snprintf(label, sizeof label, "Best at %s", family);
    lode_table_value(value, figure, figure->value);
    const lode_report_figure_t *dense = dense_of(item, figure);
    if (dense && dense->value > 0)
        snprintf(ratio, sizeof ratio, "%.2f× dense", figure->value / dense->value);
    lode_buffer_t below = {0};
    const bool shielded = strcmp(variant->protection, "none") != 0;
    lode_status_t status = lode_buffer_printf(&below, "%s%s%s%s on %s, ", variant->method,
                                              variant->options, shielded ? ":" : "",
                                              shielded ? variant->protection : "", figure->dataset);
    if (status == LODE_OK)
        status = append_axis(&below, figure);
    if (status == LODE_OK)
        status = write_headline(page, label, value, ratio, below.data);
    lode_buffer_free(&below);
    return status;
}

lode_status_t lode_table_headline(lode_buffer_t *page, const lode_report_case_t *item) {
    if (item->layer_count == 0 && item->figure_count == 0)
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(page, "<dl class=\"headline\">\n"));
    for (int64_t i = 0; i < item->figure_count; i++)
        if (is_perplexity(&item->figures[i]) && is_dense(&item->figures[i]))
            LODE_TRY(write_dense(page, &item->figures[i]));
    if (item->layer_count > 0)
        LODE_TRY(write_core_mass(page, item));
    for (int64_t i = 0; i < item->figure_count; i++)
        if (is_perplexity(&item->figures[i]) && leads(item, i))
            LODE_TRY(write_best(page, item, &item->figures[i]));
    LODE_TRY(lode_buffer_printf(page, "</dl>\n"));
    return write_tasks(page, item, 1);
}

/* --- axes ------------------------------------------------------------------------------- */

/* The protocols and lengths that figures were taken by, each once, as one figure of each. */
typedef struct axes {
    const lode_report_figure_t **axis;
    int64_t count, capacity;
} axes_t;

static bool is_on(const lode_report_figure_t *axis, const lode_report_figure_t *figure) {
    return strcmp(axis->protocol, figure->protocol) == 0 && axis->length == figure->length;
}

static lode_status_t add_axis(axes_t *axes, const lode_report_figure_t *figure) {
    for (int64_t i = 0; i < axes->count; i++)
        if (is_on(axes->axis[i], figure))
            return LODE_OK;
    if (axes->count == axes->capacity) {
        const lode_report_figure_t **larger;
        const int64_t capacity = axes->capacity ? 2 * axes->capacity : 8;
        LODE_TRY(LODE_NEW(&larger, capacity, "protocols"));
        if (axes->count > 0)
            memcpy(larger, axes->axis, (size_t)axes->count * sizeof *larger);
        free(axes->axis);
        axes->axis = larger;
        axes->capacity = capacity;
    }
    axes->axis[axes->count++] = figure;
    return LODE_OK;
}

/* The axes of a case's figures, or of its perplexities alone. */
static lode_status_t collect_axes(axes_t *axes, const lode_report_case_t *item, bool perplexities) {
    for (int64_t i = 0; i < item->figure_count; i++)
        if (!perplexities || is_perplexity(&item->figures[i]))
            LODE_TRY(add_axis(axes, &item->figures[i]));
    return LODE_OK;
}

/* Why there are several tables. */
static lode_status_t write_why(lode_buffer_t *page, const axes_t *axes) {
    if (axes->count < 2)
        return LODE_OK;
    return lode_buffer_printf(page, "<p class=\"method\">Each protocol and each length has a table "
                                    "of its own: perplexities of different ones are different "
                                    "quantities and do not compare.</p>\n");
}

/* What a table is of, above it. */
static lode_status_t write_axis(lode_buffer_t *page, const lode_report_figure_t *axis) {
    if (!axis->protocol[0])
        return lode_buffer_printf(page, "<p class=\"method axis\"><b>Tasks</b></p>\n");
    LODE_TRY(lode_buffer_printf(page, "<p class=\"method axis\">Protocol <b>"));
    LODE_TRY(lode_page_text(page, axis->protocol));
    return lode_buffer_printf(page, "</b> at length <b>%lld</b></p>\n", (long long)axis->length);
}

/* --- overview --------------------------------------------------------------------------- */

/* Perplexities of the unpruned model, or of the best variants. */
static lode_status_t write_overview_cell(lode_buffer_t *page, const lode_report_case_t *item,
                                         const lode_report_figure_t *axis, bool best) {
    const char *separator = "";
    char value[NUMBER];
    for (int64_t i = 0; axis && i < item->figure_count; i++) {
        const lode_report_figure_t *figure = &item->figures[i];
        if (!is_on(axis, figure) || !is_perplexity(figure) ||
            !(best ? leads(item, i) : is_dense(figure)))
            continue;
        lode_table_value(value, figure, figure->value);
        LODE_TRY(lode_buffer_printf(page, "%s%s ", separator, value));
        LODE_TRY(lode_buffer_printf(page, "<span class=\"point\">"));
        LODE_TRY(lode_page_text(page, best ? figure->variant.name : figure->dataset));
        LODE_TRY(lode_buffer_printf(page, "</span>"));
        separator = "<br>";
    }
    return LODE_OK;
}

static lode_status_t write_overview_row(lode_buffer_t *page, const lode_report_case_t *item,
                                        int64_t number, const lode_report_figure_t *axis) {
    char value[NUMBER];
    LODE_TRY(lode_buffer_printf(page, "<tr><th scope=\"row\"><a href=\"#case-%lld\">",
                                (long long)number));
    LODE_TRY(lode_page_text(page, item->model));
    LODE_TRY(lode_buffer_printf(page, "</a></th><td>"));
    LODE_TRY(lode_page_text(page, item->point[0] ? item->point : "–"));
    double range[3] = {NAN, NAN, NAN};
    if (item->layer_count > 0)
        LODE_TRY(core_mass_range(item, range));
    format_plain(value, range[0], 1, " %");
    LODE_TRY(lode_buffer_printf(page, "</td><td class=\"n\">%s</td><td>", value));
    LODE_TRY(write_overview_cell(page, item, axis, false));
    LODE_TRY(lode_buffer_printf(page, "</td><td>"));
    LODE_TRY(write_overview_cell(page, item, axis, true));
    return lode_buffer_printf(page, "</td></tr>\n");
}

/* Whether a case has a row in the table of an axis: where it has a perplexity there, and in the
 * first one also where it has none at all. */
static bool has_row(const lode_report_case_t *item, const axes_t *axes, int64_t axis) {
    bool any = false;
    for (int64_t i = 0; i < item->figure_count; i++) {
        if (!is_perplexity(&item->figures[i]))
            continue;
        any = true;
        if (is_on(axes->axis[axis], &item->figures[i]))
            return true;
    }
    return axis == 0 && !any;
}

static lode_status_t write_overview(lode_buffer_t *page, const lode_report_case_t *cases,
                                    int64_t count, const axes_t *axes) {
    LODE_TRY(write_why(page, axes));
    for (int64_t axis = 0; axis == 0 || axis < axes->count; axis++) {
        if (axes->count > 1)
            LODE_TRY(write_axis(page, axes->axis[axis]));
        LODE_TRY(lode_buffer_printf(
            page,
            "<div class=\"wide\" tabindex=\"0\">"
            "<table>\n<thead><tr><th>model</th><th>setting</th><th class=\"n\">core mass, "
            "median</th><th>dense perplexity</th><th>best variant at each %s</th></tr>"
            "</thead>\n<tbody>\n",
            families(cases, count)));
        for (int64_t i = 0; i < count; i++)
            if (axes->count < 2 || has_row(&cases[i], axes, axis))
                LODE_TRY(write_overview_row(page, &cases[i], i + 1,
                                            axes->count > 0 ? axes->axis[axis] : NULL));
        LODE_TRY(lode_buffer_printf(page, "</tbody></table></div>\n"));
    }
    return LODE_OK;
}

/* What topics say in a few words, where any does. */
static lode_status_t write_glances(lode_buffer_t *page, const lode_report_case_t *cases,
                                   int64_t count) {
    static const char *const titles[LODE_GLANCES] = {
        "super weights", "best within the budget, else the smallest of the joint plan",
        "audited folders: share of the core’s mass that is left"};
    bool shown[LODE_GLANCES] = {false}, any = false;
    for (int64_t c = 0; c < count; c++)
        for (int glance = 0; glance < LODE_GLANCES; glance++) {
            shown[glance] |= cases[c].glances[glance].length > 0;
            any |= shown[glance];
        }
    if (!any)
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(page, "<p class=\"method axis\"><b>Compression</b></p>\n"
                                      "<div class=\"wide\" tabindex=\"0\"><table>\n<thead><tr>"
                                      "<th>model</th><th>setting</th>"));
    for (int glance = 0; glance < LODE_GLANCES; glance++)
        if (shown[glance])
            LODE_TRY(lode_buffer_printf(page, "<th>%s</th>", titles[glance]));
    LODE_TRY(lode_buffer_printf(page, "</tr></thead>\n<tbody>\n"));
    for (int64_t c = 0; c < count; c++) {
        LODE_TRY(lode_buffer_printf(page, "<tr><th scope=\"row\"><a href=\"#case-%lld\">",
                                    (long long)c + 1));
        LODE_TRY(lode_page_text(page, cases[c].model));
        LODE_TRY(lode_buffer_printf(page, "</a></th><td>"));
        LODE_TRY(lode_page_text(page, cases[c].point[0] ? cases[c].point : "–"));
        LODE_TRY(lode_buffer_printf(page, "</td>"));
        for (int glance = 0; glance < LODE_GLANCES; glance++)
            if (shown[glance])
                LODE_TRY(lode_buffer_printf(
                    page, "<td>%s</td>",
                    cases[c].glances[glance].length > 0 ? cases[c].glances[glance].data : "–"));
        LODE_TRY(lode_buffer_printf(page, "</tr>\n"));
    }
    return lode_buffer_printf(page, "</tbody></table></div>\n");
}

lode_status_t lode_table_overview(lode_buffer_t *page, const lode_report_case_t *cases,
                                  int64_t count) {
    axes_t axes = {0};
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && i < count; i++)
        status = collect_axes(&axes, &cases[i], true);
    if (status == LODE_OK)
        status = lode_buffer_printf(page, "<section id=\"overview\">\n<h2>Overview</h2>\n");
    if (status == LODE_OK)
        status = write_overview(page, cases, count, &axes);
    if (status == LODE_OK)
        status = write_tasks(page, cases, count);
    if (status == LODE_OK)
        status = write_glances(page, cases, count);
    if (status == LODE_OK)
        status = lode_buffer_printf(page, "</section>\n");
    free(axes.axis);
    return status;
}

/* --- layers ----------------------------------------------------------------------------- */

lode_status_t lode_table_layers(lode_buffer_t *page, const lode_report_case_t *item) {
    LODE_TRY(lode_buffer_printf(
        page, "<div class=\"wide\" tabindex=\"0\"><table>\n<thead><tr>"
              "<th class=\"n\">layer</th><th class=\"n\">core channels</th><th class=\"n\">core "
              "mass</th><th class=\"n\">effective number</th><th class=\"n\">Gini</th>"
              "<th class=\"n\">Spearman LP–power</th><th class=\"n\">Jaccard of top sets</th></tr>"
              "</thead>\n<tbody>\n"));
    for (int64_t i = 0; i < item->layer_count; i++) {
        const lode_report_layer_t *layer = &item->layers[i];
        char cells[5][NUMBER];
        format_plain(cells[0], 100 * layer->core_mass, 1, " %");
        format_plain(cells[1], layer->effective, 1, "");
        format_plain(cells[2], layer->gini, 3, "");
        format_plain(cells[3], layer->spearman, 3, "");
        format_plain(cells[4], 100 * layer->jaccard, 1, " %");
        LODE_TRY(lode_buffer_printf(page,
                                    "<tr><th scope=\"row\" class=\"n\">%lld</th>"
                                    "<td class=\"n\">%lld</td>",
                                    (long long)i, (long long)layer->core_size));
        for (int cell = 0; cell < 5; cell++)
            LODE_TRY(lode_buffer_printf(page, "<td class=\"n\">%s</td>", cells[cell]));
        LODE_TRY(lode_buffer_printf(page, "</tr>\n"));
    }
    return lode_buffer_printf(page, "</tbody></table></div>\n");
}

/* --- all figures ------------------------------------------------------------------------ */

static lode_status_t write_figure_row(lode_buffer_t *page, const lode_report_case_t *item,
                                      const lode_report_figure_t *figure,
                                      const lode_report_figure_t *before) {
    const lode_report_figure_t *dense = dense_of(item, figure);
    const bool breaks = before && (!lode_report_same_axis(before, figure) ||
                                   !lode_report_same_family(&before->variant, &figure->variant));
    char value[NUMBER], error[NUMBER], ratio[NUMBER], windows[NUMBER] = "–";
    lode_table_value(value, figure, figure->value);
    lode_table_value(error, figure, figure->standard_error);
    format_plain(ratio, dense && dense->value > 0 ? figure->value / dense->value : NAN, 3, "");
    if (figure->windows > 0)
        snprintf(windows, sizeof windows, "%lld", (long long)figure->windows);
    LODE_TRY(lode_buffer_printf(page, "<tr%s><td>", breaks ? " class=\"break\"" : ""));
    LODE_TRY(lode_page_text(page, figure->dataset));
    LODE_TRY(lode_buffer_printf(page, "</td><td>%s</td><td>", figure->metric));
    LODE_TRY(lode_page_text(page, figure->variant.name));
    return lode_buffer_printf(page,
                              "</td><td class=\"n%s\">%s</td><td class=\"n\">%s</td>"
                              "<td class=\"n\">%s</td><td class=\"n\">%s</td>"
                              "<td class=\"n\">%lld</td></tr>\n",
                              is_best(item, figure) ? " best" : "", value, error, ratio, windows,
                              (long long)figure->count);
}

/* The figures of one protocol and length. */
static lode_status_t write_figures(lode_buffer_t *page, const lode_report_case_t *item,
                                   const lode_report_figure_t *axis) {
    const lode_report_figure_t *before = NULL;
    LODE_TRY(write_axis(page, axis));
    LODE_TRY(lode_buffer_printf(
        page, "<div class=\"wide\" tabindex=\"0\"><table "
              "class=\"small\">\n<thead><tr>"
              "<th>dataset</th><th>metric</th><th>variant</th><th class=\"n\">value</th>"
              "<th class=\"n\">± std. error</th><th class=\"n\">÷ dense</th>"
              "<th class=\"n\">windows</th><th class=\"n\">count</th>"
              "</tr></thead>\n<tbody>\n"));
    for (int64_t i = 0; i < item->figure_count; i++) {
        if (!is_on(axis, &item->figures[i]) || item->figures[i].repeats)
            continue;
        LODE_TRY(write_figure_row(page, item, &item->figures[i], before));
        before = &item->figures[i];
    }
    return lode_buffer_printf(page, "</tbody></table></div>\n");
}

lode_status_t lode_table_figures(lode_buffer_t *page, const lode_report_case_t *item) {
    axes_t axes = {0};
    lode_status_t status = collect_axes(&axes, item, false);
    if (status == LODE_OK)
        status = write_why(page, &axes);
    for (int64_t i = 0; status == LODE_OK && i < axes.count; i++)
        status = write_figures(page, item, axes.axis[i]);
    free(axes.axis);
    return status;
}
