#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/figures.h"
#include "report/page.h"

/* Colour-blind-safe colours (Okabe and Ito's, and two greys), by the method's place in the list of
 * methods; shapes and dashes tell apart what print makes grey. */
static const struct {
    const char *colour;
    int point;
} looks[] = {
    {"#0072B2", 7}, {"#D55E00", 5},  {"#009E73", 9}, {"#56B4E9", 6},  {"#E69F00", 13},
    {"#CC79A7", 4}, {"#000000", 11}, {"#8C6510", 8}, {"#7A7F87", 12}, {"#B3B7BD", 10},
};
enum { LOOKS = sizeof looks / sizeof looks[0], MAX_SERIES = 10 };

/* Figures [begin, end) of one metric of one dataset; they are sorted that way. */
typedef struct lode_curve_group {
    const lode_report_figure_t *figures;
    int64_t count;
    const char *options; /* draws the variants of these options, and beside them those of the same
                          * methods without any; NULL draws all */
} lode_curve_group_t;

static bool has_place(const lode_report_figure_t *figure) {
    return figure->variant.sparsity > 0 && isfinite(figure->value) && figure->value > 0;
}

static bool is_drawn(const lode_curve_group_t *group, const lode_report_figure_t *figure) {
    if (!has_place(figure))
        return false;
    if (!group->options || strcmp(group->options, figure->variant.options) == 0)
        return true;
    if (figure->variant.options[0] != '\0')
        return false;
    for (int64_t i = 0; i < group->count; i++) {
        const lode_report_figure_t *other = &group->figures[i];
        if (has_place(other) && strcmp(other->variant.options, group->options) == 0 &&
            strcmp(other->variant.method, figure->variant.method) == 0)
            return true;
    }
    return false;
}

static bool same_series(const lode_report_variant_t *a, const lode_report_variant_t *b) {
    return strcmp(a->method, b->method) == 0 && strcmp(a->options, b->options) == 0;
}

/* Whether no earlier figure of the group belongs to the same series. */
static bool begins_series(const lode_curve_group_t *group, int64_t index) {
    if (!is_drawn(group, &group->figures[index]))
        return false;
    for (int64_t i = 0; i < index; i++)
        if (is_drawn(group, &group->figures[i]) &&
            same_series(&group->figures[i].variant, &group->figures[index].variant))
            return false;
    return true;
}

/* The unpruned model's figure, NULL where it was not evaluated. */
static const lode_report_figure_t *dense_of(const lode_curve_group_t *group) {
    for (int64_t i = 0; i < group->count; i++)
        if (strcmp(group->figures[i].variant.method, "dense") == 0 &&
            isfinite(group->figures[i].value))
            return &group->figures[i];
    return NULL;
}

/* Error bars of a perplexity are symmetric in its log, those of an accuracy in itself. */
static void error_bar(const lode_report_figure_t *figure, bool logarithmic, double *low,
                      double *high) {
    double error = figure->standard_error > 0 ? fmin(figure->standard_error, 3 * figure->value) : 0;
    *low = logarithmic ? figure->value * exp(-error / figure->value) : figure->value - error;
    *high = logarithmic ? figure->value * exp(error / figure->value) : figure->value + error;
}

static lode_status_t add_series(lode_buffer_t *script, const lode_curve_group_t *group,
                                int64_t index, bool logarithmic, double *low, double *high) {
    LODE_TRY(lode_buffer_printf(script, "$series%lld << EOD\n", (long long)index));
    for (int64_t i = index; i < group->count; i++) {
        const lode_report_figure_t *figure = &group->figures[i];
        if (!is_drawn(group, figure) ||
            !same_series(&figure->variant, &group->figures[index].variant))
            continue;
        double bottom, top;
        error_bar(figure, logarithmic, &bottom, &top);
        LODE_TRY(lode_buffer_printf(script, "%.6g %.8g %.8g %.8g\n", 100 * figure->variant.sparsity,
                                    figure->value, bottom, top));
        *low = fmin(*low, bottom);
        *high = fmax(*high, top);
    }
    return lode_buffer_printf(script, "EOD\n");
}

/* Series in order of method, so that legends agree between figures. */
static int64_t next_series(const lode_curve_group_t *group, int64_t previous) {
    int64_t best = -1;
    for (int64_t i = 0; i < group->count; i++) {
        if (!begins_series(group, i))
            continue;
        const lode_report_variant_t *variant = &group->figures[i].variant;
        const lode_report_variant_t *old = previous < 0 ? NULL : &group->figures[previous].variant;
        if (old && (variant->order < old->order || (variant->order == old->order && i <= previous)))
            continue;
        if (best < 0 || variant->order < group->figures[best].variant.order)
            best = i;
    }
    return best;
}

/* Dashes tell options apart: 1, solid, for none, then one each in order of appearance. */
static int dash_of(const lode_curve_group_t *group, const char *options) {
    int dash = 1;
    if (options[0] == '\0')
        return dash;
    for (int64_t i = 0; i < group->count; i++) {
        const char *other = group->figures[i].variant.options;
        bool first = other[0] != '\0';
        for (int64_t before = 0; first && before < i; before++)
            first = strcmp(group->figures[before].variant.options, other) != 0;
        dash += first;
        if (strcmp(other, options) == 0)
            break;
    }
    return 1 + (dash - 1) % 5;
}

static lode_status_t plot_series(lode_buffer_t *script, const lode_curve_group_t *group,
                                 int64_t index, int number) {
    const lode_report_variant_t *variant = &group->figures[index].variant;
    int look = variant->order >= 1 && variant->order <= LOOKS ? variant->order - 1 : number % LOOKS;
    char title[2 * LODE_REPORT_NAME];
    snprintf(title, sizeof title, "%s%s", variant->method, variant->options);
    LODE_TRY(lode_buffer_printf(script,
                                "%s$series%lld using 1:2:3:4 with yerrorlines lw 1.5 lc rgb '%s' "
                                "pt %d ps 0.75 dt %d title ",
                                number ? ", " : "", (long long)index, looks[look].colour,
                                looks[look].point, dash_of(group, variant->options)));
    return lode_plot_text(script, title);
}

/* Tics at the sparsities there are, as long as they have room. */
static lode_status_t set_sparsity_tics(lode_buffer_t *script, const lode_curve_group_t *group) {
    int distinct = 0;
    double previous = 0;
    lode_buffer_t tics = {0};
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && i < group->count; i++) {
        double sparsity = 100 * group->figures[i].variant.sparsity;
        if (!has_place(&group->figures[i]) || sparsity == previous)
            continue;
        status = lode_buffer_printf(&tics, "%s%.6g", distinct++ ? ", " : "", sparsity);
        previous = sparsity;
    }
    if (status == LODE_OK && distinct <= 10)
        status = lode_buffer_printf(script, "set xtics (%s)\n", tics.data ? tics.data : "");
    lode_buffer_free(&tics);
    return status;
}

static lode_status_t set_axes(lode_buffer_t *script, const lode_curve_group_t *group, double low,
                              double high) {
    const lode_report_figure_t *any = &group->figures[0];
    bool logarithmic = strcmp(any->metric, "perplexity") == 0;
    double from = 100, to = 0;
    for (int64_t i = 0; i < group->count; i++)
        if (has_place(&group->figures[i])) {
            from = fmin(from, 100 * group->figures[i].variant.sparsity);
            to = fmax(to, 100 * group->figures[i].variant.sparsity);
        }
    double margin = fmax(2, 0.06 * (to - from));
    LODE_TRY(set_sparsity_tics(script, group));
    LODE_TRY(lode_buffer_printf(script,
                                "set xrange [%g:%g]\nset xlabel 'channels removed, %%'\n"
                                "set ylabel '%s'\nset key outside right top vertical maxcols 1\n"
                                "set bars 0.6\n",
                                from - margin, to + margin,
                                logarithmic ? "perplexity" : "accuracy"));
    if (!logarithmic) {
        double space = fmax(0.02, 0.06 * (high - low));
        return lode_buffer_printf(script, "set yrange [%g:%g]\n", low - space, high + space);
    }
    LODE_TRY(lode_buffer_printf(script, "set logscale y\nset yrange [%g:%g]\n", low / 1.06,
                                high * 1.06));
    return lode_plot_log_tics(script, 'y', low / 1.06, high * 1.06);
}

static lode_status_t curve_script(lode_buffer_t *script, const lode_curve_group_t *group) {
    bool logarithmic = strcmp(group->figures[0].metric, "perplexity") == 0;
    const lode_report_figure_t *dense = dense_of(group);
    double low = dense ? dense->value : INFINITY, high = dense ? dense->value : -INFINITY;
    int series = 1;
    for (int64_t i = 0; i < group->count; i++)
        series += begins_series(group, i);
    LODE_TRY(lode_plot_begin(script, 860, series <= 12 ? 420 : 420 + 24 * (series - 12)));
    for (int64_t i = 0; i < group->count; i++)
        if (begins_series(group, i))
            LODE_TRY(add_series(script, group, i, logarithmic, &low, &high));
    LODE_TRY(set_axes(script, group, low, high));
    LODE_TRY(lode_buffer_printf(script, "plot "));
    int number = 0;
    for (int64_t i = next_series(group, -1); i >= 0; i = next_series(group, i))
        LODE_TRY(plot_series(script, group, i, number++));
    if (dense)
        LODE_TRY(lode_buffer_printf(script,
                                    ", %.8g with lines lc rgb '#3c4149' lw 1.2 dt 2 title "
                                    "'dense'",
                                    dense->value));
    return lode_buffer_printf(script, "\n");
}

static lode_status_t add_curve(lode_plot_t *plot, const lode_curve_group_t *group,
                               lode_buffer_t *page) {
    const lode_report_figure_t *any = &group->figures[0];
    bool perplexity = strcmp(any->metric, "perplexity") == 0;
    lode_buffer_t script = {0}, title = {0}, caption = {0};
    lode_status_t status;
    LODE_GUARD(status, curve_script(&script, group), done);
    LODE_GUARD(status,
               lode_buffer_printf(&title, "%s on %s%s%s",
                                  perplexity                             ? "Perplexity"
                                  : strcmp(any->metric, "acc_norm") == 0 ? "Normalised accuracy"
                                                                         : "Accuracy",
                                  any->dataset, group->options && *group->options ? ", " : "",
                                  group->options ? group->options : ""),
               done);
    if (any->protocol[0])
        LODE_GUARD(status,
                   lode_buffer_printf(&caption,
                                      "Protocol %s at length %lld, %lld windows, %lld "
                                      "targets. ",
                                      any->protocol, (long long)any->length,
                                      (long long)any->windows, (long long)any->count),
                   done);
    LODE_GUARD(status, lode_buffer_printf(&caption, "Bars are one standard error."), done);
    status = lode_figure_add(plot, &script, title.data, caption.data, page);
done:
    lode_buffer_free(&script);
    lode_buffer_free(&title);
    lode_buffer_free(&caption);
    return status;
}

/* One figure where it stays readable, else one for each set of options. */
static lode_status_t add_curves(lode_plot_t *plot, lode_curve_group_t *group, lode_buffer_t *page) {
    int series = 0;
    for (int64_t i = 0; i < group->count; i++)
        series += begins_series(group, i);
    if (series == 0)
        return LODE_OK;
    if (series <= MAX_SERIES)
        return add_curve(plot, group, page);
    for (int64_t i = 0; i < group->count; i++) {
        const lode_report_figure_t *figure = &group->figures[i];
        bool first = has_place(figure);
        for (int64_t before = 0; first && before < i; before++)
            first = !has_place(&group->figures[before]) ||
                    strcmp(group->figures[before].variant.options, figure->variant.options) != 0;
        group->options = figure->variant.options;
        if (first)
            LODE_TRY(add_curve(plot, group, page));
    }
    return LODE_OK;
}

lode_status_t lode_figures_curves(lode_plot_t *plot, lode_report_case_t *item) {
    for (int64_t begin = 0, end; begin < item->figure_count; begin = end) {
        const lode_report_figure_t *first = &item->figures[begin];
        for (end = begin + 1; end < item->figure_count; end++)
            if (strcmp(item->figures[end].dataset, first->dataset) != 0 ||
                strcmp(item->figures[end].metric, first->metric) != 0)
                break;
        lode_curve_group_t group = {.figures = first, .count = end - begin};
        LODE_TRY(add_curves(plot, &group, &item->curves));
    }
    return LODE_OK;
}
