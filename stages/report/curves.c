/* Metrics against sparsity. With many variants, one figure compares the methods, each plain, and
 * one figure for each option (core, allocation, compensation) shows, method by method, what that
 * option alone changes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/figures.h"
#include "report/shelf.h"

/* Colour-blind-safe colours (Okabe and Ito's, and some greys and browns), by the method's place in
 * the list of methods; shapes tell apart what print makes grey. */
static const struct {
    const char *colour;
    int point;
} looks[] = {
    {"#0072B2", 7},  {"#D55E00", 5},  {"#009E73", 9},  {"#56B4E9", 6},
    {"#E69F00", 13}, {"#CC79A7", 4},  {"#000000", 11}, {"#8C6510", 8},
    {"#7A7F87", 12}, {"#B3B7BD", 10}, {"#5E3C99", 15}, {"#A6761D", 14},
};
enum { LOOKS = sizeof looks / sizeof looks[0], MOST_SERIES = 24, MOST_PANELS = 16 };

typedef enum factor { CORE, ALLOCATION, COMPENSATION, FACTORS } factor_t;

/* Figures of one metric of one dataset under one protocol. */
typedef struct group {
    const lode_report_figure_t *figures;
    int64_t count;
    const char *base[FACTORS]; /* the plain level of each factor */
    bool logarithmic;
    lode_shelf_t shelf;
} group_t;

/* The level of a factor that a variant has. The method's own core is a level by itself, whatever it
 * is. */
static const char *level_of(const lode_report_variant_t *variant, factor_t factor) {
    switch (factor) {
    case CORE:
        return strchr(variant->options, '~') ? variant->core : "default";
    case ALLOCATION:
        return variant->allocation;
    default:
        return variant->compensation;
    }
}

static bool is_drawn(const lode_report_figure_t *figure) {
    return figure->variant.kind == LODE_KIND_PRUNED && figure->variant.sparsity > 0 &&
           isfinite(figure->value) && (figure->value > 0 || !lode_report_is_loss(figure));
}

static bool is_base(const group_t *group, const lode_report_variant_t *variant, factor_t factor) {
    return strcmp(level_of(variant, factor), group->base[factor]) == 0;
}

/* Whether a variant belongs to the figure of a factor: plain in the others. FACTORS: in all. */
static bool is_of(const group_t *group, const lode_report_figure_t *figure, factor_t factor) {
    bool belongs = is_drawn(figure);
    for (factor_t other = CORE; belongs && other < FACTORS; other++)
        belongs = other == factor || is_base(group, &figure->variant, other);
    return belongs;
}

/* The usual level of a factor where any variant has it, else that of the first variant. */
static void set_base(group_t *group) {
    static const char *const usual[FACTORS] = {"default", "uniform", "none"};
    for (factor_t factor = CORE; factor < FACTORS; factor++) {
        const char *first = NULL;
        group->base[factor] = usual[factor];
        bool any = false;
        for (int64_t i = 0; i < group->count; i++) {
            if (!is_drawn(&group->figures[i]))
                continue;
            const char *level = level_of(&group->figures[i].variant, factor);
            first = first ? first : level;
            any |= strcmp(level, usual[factor]) == 0;
        }
        if (!any && first)
            group->base[factor] = first;
    }
}

/* The unpruned model's figure, NULL where it was not evaluated. */
static const lode_report_figure_t *dense_of(const group_t *group) {
    for (int64_t i = 0; i < group->count; i++)
        if (strcmp(group->figures[i].variant.method, "dense") == 0 &&
            isfinite(group->figures[i].value))
            return &group->figures[i];
    return NULL;
}

/* --- series ----------------------------------------------------------------------------- */

/* Whether two figures lie on one line of the figure of `factor`. */
static bool same_line(const lode_report_figure_t *a, const lode_report_figure_t *b,
                      factor_t factor) {
    return strcmp(a->variant.method, b->variant.method) == 0 &&
           (factor == FACTORS ||
            strcmp(level_of(&a->variant, factor), level_of(&b->variant, factor)) == 0);
}

static bool begins_line(const group_t *group, int64_t index, factor_t factor) {
    if (!is_of(group, &group->figures[index], factor))
        return false;
    for (int64_t i = 0; i < index; i++)
        if (is_of(group, &group->figures[i], factor) &&
            same_line(&group->figures[i], &group->figures[index], factor))
            return false;
    return true;
}

/* What figures are drawn in: perplexities as they are, accuracies in per cent. */
static double unit_of(const group_t *group) {
    return group->logarithmic ? 1 : 100;
}

/* Error bars of a perplexity are symmetric in its log, those of an accuracy in itself. */
static void error_bar(const lode_report_figure_t *figure, bool logarithmic, double *low,
                      double *high) {
    double error = figure->standard_error > 0 ? fmin(figure->standard_error, 3 * figure->value) : 0;
    *low = logarithmic ? figure->value * exp(-error / figure->value) : figure->value - error;
    *high = logarithmic ? figure->value * exp(error / figure->value) : figure->value + error;
}

/* The line that begins at `index`. */
static lode_status_t add_line(group_t *group, int64_t index, factor_t factor,
                              lode_chart_series_t *series) {
    double *columns[4];
    int64_t count = 0;
    for (int i = 0; i < 4; i++)
        LODE_TRY(lode_shelf_new(&group->shelf, &columns[i], group->count));
    for (int64_t i = index; i < group->count; i++) {
        const lode_report_figure_t *figure = &group->figures[i];
        if (!is_of(group, figure, factor) || !same_line(figure, &group->figures[index], factor))
            continue;
        columns[0][count] = 100 * figure->variant.sparsity;
        columns[1][count] = figure->value;
        error_bar(figure, group->logarithmic, &columns[2][count], &columns[3][count]);
        for (int axis = 1; axis < 4; axis++)
            columns[axis][count] *= unit_of(group);
        count++;
    }
    series->mark = LODE_MARK_BOTH;
    series->x = columns[0];
    series->y = columns[1];
    series->low = columns[2];
    series->high = columns[3];
    series->count = count;
    return LODE_OK;
}

/* Beginnings of lines in the order of methods, so that legends agree between figures: the one after
 * `previous`, which is −1 at first; −1 after the last. */
static int64_t next_line(const group_t *group, int64_t previous, factor_t factor) {
    int64_t best = -1;
    for (int64_t i = 0; i < group->count; i++) {
        if (!begins_line(group, i, factor))
            continue;
        const int order = group->figures[i].variant.order;
        const int old = previous < 0 ? -1 : group->figures[previous].variant.order;
        if (previous >= 0 && (order < old || (order == old && i <= previous)))
            continue;
        if (best < 0 || order < group->figures[best].variant.order)
            best = i;
    }
    return best;
}

/* --- figures ---------------------------------------------------------------------------- */

static lode_chart_panel_t panel_of(const group_t *group, const lode_chart_series_t *series,
                                   int64_t count) {
    const lode_report_figure_t *dense = dense_of(group);
    return (lode_chart_panel_t){.x_label = "channels removed, %",
                                .y_label = !group->logarithmic           ? "accuracy, %"
                                           : group->figures[0].words > 0 ? "word perplexity"
                                                                         : "perplexity",
                                .log_y = group->logarithmic,
                                .level = dense ? unit_of(group) * dense->value : 0,
                                .level_name = dense ? "dense" : NULL,
                                .floor = unit_of(group) * group->figures[0].chance,
                                .floor_name = isfinite(group->figures[0].chance) ? "chance" : NULL,
                                .series = series,
                                .count = count};
}

static lode_status_t add_figure(lode_plot_t *plot, const group_t *group, const lode_chart_t *chart,
                                const char *what, const char *note, lode_buffer_t *page) {
    const lode_report_figure_t *any = &group->figures[0];
    lode_buffer_t title = {0}, caption = {0};
    lode_status_t status;
    LODE_GUARD(
        status,
        lode_buffer_printf(&title, "%s on %s%s", lode_report_metric_title(any), any->dataset, what),
        done);
    if (any->protocol[0])
        LODE_GUARD(status,
                   lode_buffer_printf(&caption,
                                      "Protocol %s at length %lld, %lld windows, %lld "
                                      "targets. ",
                                      any->protocol, (long long)any->length,
                                      (long long)any->windows, (long long)any->count),
                   done);
    else
        LODE_GUARD(status, lode_buffer_printf(&caption, "%lld items. ", (long long)any->count),
                   done);
    LODE_GUARD(status, lode_buffer_printf(&caption, "%sBars are one standard error.", note), done);
    status = lode_figure_chart(plot, chart, title.data, caption.data, page);
done:
    lode_buffer_free(&title);
    lode_buffer_free(&caption);
    return status;
}

/* The methods, all options at their usual level. */
static lode_status_t draw_methods(lode_plot_t *plot, group_t *group, lode_buffer_t *page) {
    lode_chart_series_t series[MOST_SERIES];
    int count = 0;
    int64_t combined = 0;
    for (int64_t i = next_line(group, -1, FACTORS); i >= 0 && count < MOST_SERIES;
         i = next_line(group, i, FACTORS)) {
        const lode_report_variant_t *variant = &group->figures[i].variant;
        const int look =
            variant->order >= 1 && variant->order <= LOOKS ? variant->order - 1 : count % LOOKS;
        series[count] = (lode_chart_series_t){.name = variant->method,
                                              .colour = looks[look].colour,
                                              .point = looks[look].point,
                                              .size = 0.7};
        LODE_TRY(add_line(group, i, FACTORS, &series[count++]));
    }
    if (count == 0)
        return LODE_OK;
    for (int64_t i = 0; i < group->count; i++) {
        int options = 0;
        for (factor_t factor = CORE; factor < FACTORS; factor++)
            options += !is_base(group, &group->figures[i].variant, factor);
        combined += is_drawn(&group->figures[i]) && options > 1;
    }
    char note[256] = "";
    if (combined > 0)
        snprintf(note, sizeof note,
                 "Each method with its usual options; the figures below vary "
                 "one option, and %lld variants that combine several are in "
                 "the tables. ",
                 (long long)combined);
    const lode_chart_panel_t panel = panel_of(group, series, count);
    const lode_chart_t chart = {
        .panels = &panel, .count = 1, .columns = 1, .panel_height = 340, .key_right = true};
    return add_figure(plot, group, &chart, "", note, page);
}

/* A level's name in legends, and its look. */
static lode_chart_series_t level_look(const lode_report_variant_t *variant, factor_t factor) {
    static const struct {
        factor_t factor;
        const char *level, *name, *colour;
        int point;
    } levels[] = {
        {CORE, "none", "no core", LODE_COLOUR_BLACK, 7},
        {CORE, "lp", "LP core", LODE_COLOUR_BLUE, 5},
        {CORE, "activation", "activation core", LODE_COLOUR_VERMILION, 9},
        {CORE, "random", "random core", LODE_COLOUR_GREY, 13},
        {ALLOCATION, "uniform", "uniform", LODE_COLOUR_BLACK, 7},
        {ALLOCATION, "global", "global", LODE_COLOUR_VERMILION, 5},
        {COMPENSATION, "none", "no compensation", LODE_COLOUR_BLACK, 7},
        {COMPENSATION, "bias", "bias", LODE_COLOUR_ORANGE, 13},
        {COMPENSATION, "least-squares", "least squares", LODE_COLOUR_BLUE, 5},
        {COMPENSATION, "sequential", "sequential least squares", LODE_COLOUR_VERMILION, 9},
    };
    const char *level = factor == CORE ? variant->core : level_of(variant, factor);
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
        if (levels[i].factor == factor && strcmp(levels[i].level, level) == 0)
            return (lode_chart_series_t){.name = levels[i].name,
                                         .colour = levels[i].colour,
                                         .point = levels[i].point,
                                         .size = 0.55};
    return (lode_chart_series_t){.name = level, .colour = LODE_COLOUR_GREEN, .size = 0.55};
}

/* All panels of a figure have one range, so that methods compare. */
static void share_range(const group_t *group, lode_chart_panel_t *panels, int count) {
    double low = panels[0].level > 0 ? panels[0].level : INFINITY,
           high = panels[0].level > 0 ? panels[0].level : -INFINITY;
    if (panels[0].floor_name) {
        low = fmin(low, panels[0].floor);
        high = fmax(high, panels[0].floor);
    }
    for (int p = 0; p < count; p++)
        for (int64_t s = 0; s < panels[p].count; s++)
            for (int64_t i = 0; i < panels[p].series[s].count; i++) {
                low = fmin(low, panels[p].series[s].low[i]);
                high = fmax(high, panels[p].series[s].high[i]);
            }
    for (int p = 0; p < count; p++) {
        panels[p].y_low = group->logarithmic ? low / 1.06 : low - 0.02;
        panels[p].y_high = group->logarithmic ? high * 1.06 : high + 0.02;
    }
}

/* One panel for each method that has several levels of a factor. */
static lode_status_t draw_factor(lode_plot_t *plot, group_t *group, factor_t factor,
                                 lode_buffer_t *page) {
    static const char *const what[FACTORS] = {": what is protected", ": allocation over layers",
                                              ": before and after compensation"};
    static const char *const notes[FACTORS] = {
        "Each panel is a ranking, its lines the core that is never removed. ",
        "Uniform removes the same share of every layer, global ranks all layers together. ",
        "Black is the variant as pruned. "};
    enum { LEVELS = 6 };
    lode_chart_series_t series[MOST_PANELS][LEVELS];
    lode_chart_panel_t panels[MOST_PANELS];
    int count = 0;
    for (int64_t i = next_line(group, -1, factor), next; i >= 0 && count < MOST_PANELS; i = next) {
        const char *method = group->figures[i].variant.method;
        int lines = 0;
        for (next = i; next >= 0 && strcmp(group->figures[next].variant.method, method) == 0;
             next = next_line(group, next, factor)) {
            if (lines == LEVELS)
                continue;
            series[count][lines] = level_look(&group->figures[next].variant, factor);
            LODE_TRY(add_line(group, next, factor, &series[count][lines++]));
        }
        if (lines < 2)
            continue;
        panels[count] = panel_of(group, series[count], lines);
        panels[count].title = method;
        count++;
    }
    if (count == 0)
        return LODE_OK;
    const int columns = count < 3 ? count : count == 4 ? 2 : 3;
    share_range(group, panels, count);
    for (int p = 0; p < count; p++) {
        panels[p].y_label = p % columns == 0 ? panels[p].y_label : NULL;
        panels[p].x_label = p + columns >= count ? panels[p].x_label : NULL;
        panels[p].level_name = p == 0 ? panels[p].level_name : NULL;
    }
    const lode_chart_t chart = {
        .panels = panels, .count = count, .columns = columns, .panel_height = 150};
    return add_figure(plot, group, &chart, what[factor], notes[factor], page);
}

lode_status_t lode_figures_curves(lode_plot_t *plot, lode_report_case_t *item) {
    lode_buffer_t *page = &item->topics[LODE_TOPIC_PRUNING];
    lode_status_t status = LODE_OK;
    for (int64_t begin = 0, end; status == LODE_OK && begin < item->figure_count; begin = end) {
        const lode_report_figure_t *first = &item->figures[begin];
        end = lode_report_axis_end(item, begin);
        if (lode_report_is_derived(first) || first->repeats)
            continue;
        group_t group = {
            .figures = first, .count = end - begin, .logarithmic = lode_report_is_loss(first)};
        set_base(&group);
        status = draw_methods(plot, &group, page);
        for (factor_t factor = CORE; status == LODE_OK && factor < FACTORS; factor++)
            status = draw_factor(plot, &group, factor, page);
        lode_shelf_free(&group.shelf);
    }
    return status;
}
