/* Pruning × bits × protection under one byte budget: perplexity against what a packed folder of
 * each variant takes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/cells.h"
#include "report/figures.h"
#include "report/groups.h"
#include "report/page.h"
#include "report/shelf.h"
#include "report/table.h"

enum { KINDS = 4 };

static const struct {
    const char *name, *colour;
    int point;
} kinds[KINDS] = {
    {"dense", LODE_COLOUR_BLACK, 11},
    {"pruned", LODE_COLOUR_BLUE, 7},
    {"quantized", LODE_COLOUR_VERMILION, 5},
    {"pruned and quantized", LODE_COLOUR_GREEN, 9},
};

static int kind_of(const lode_report_variant_t *variant) {
    switch (variant->kind) {
    case LODE_KIND_DENSE:
        return 0;
    case LODE_KIND_PRUNED:
        return 1;
    case LODE_KIND_QUANTIZED:
        return variant->base[0] ? 3 : 2;
    default:
        return -1;
    }
}

/* The variants of one perplexity whose size is known, the smallest first, of equal sizes the best
 * first. */
typedef struct plan {
    const lode_report_group_t *group;
    int64_t budget;
    const lode_report_figure_t **members; /* [count] */
    bool *front;                          /* [count] no other is as small and as good */
    int64_t count;
    int64_t best; /* of those within the budget, −1 where none is or there is no budget */
} plan_t;

static int compare_members(const void *left, const void *right) {
    const lode_report_figure_t *a = *(const lode_report_figure_t *const *)left;
    const lode_report_figure_t *b = *(const lode_report_figure_t *const *)right;
    if (a->variant.bytes != b->variant.bytes)
        return a->variant.bytes < b->variant.bytes ? -1 : 1;
    if (a->value != b->value)
        return a->value < b->value ? -1 : 1;
    return (a > b) - (a < b); /* both are of one array, in a fixed order */
}

/* Fills a plan that is zero but for its group and budget. */
static lode_status_t make_plan(plan_t *plan) {
    const lode_report_group_t *group = plan->group;
    plan->best = -1;
    LODE_TRY(LODE_NEW(&plan->members, group->count, "joint plan"));
    LODE_TRY(LODE_NEW(&plan->front, group->count, "joint plan"));
    for (int64_t i = 0; i < group->count; i++) {
        const lode_report_figure_t *figure = &group->figures[i];
        if (kind_of(&figure->variant) >= 0 && figure->variant.bytes > 0 &&
            isfinite(figure->value) && figure->value > 0)
            plan->members[plan->count++] = figure;
    }
    if (plan->count > 0)
        qsort(plan->members, (size_t)plan->count, sizeof *plan->members, compare_members);
    double least = INFINITY;
    for (int64_t i = 0; i < plan->count; i++) {
        plan->front[i] = plan->members[i]->value < least;
        least = fmin(least, plan->members[i]->value);
        if (plan->front[i] && plan->members[i]->variant.bytes <= plan->budget)
            plan->best = i;
    }
    return LODE_OK;
}

static void free_plan(plan_t *plan) {
    free(plan->members);
    free(plan->front);
}

/* --- figure ------------------------------------------------------------------------------- */

/* Members of one kind, or with KINDS those of the front, in megabytes. */
static lode_status_t series_of(lode_shelf_t *shelf, const plan_t *plan, int kind,
                               lode_chart_series_t *series) {
    double *x, *y;
    int64_t count = 0;
    LODE_TRY(lode_shelf_new(shelf, &x, plan->count));
    LODE_TRY(lode_shelf_new(shelf, &y, plan->count));
    for (int64_t i = 0; i < plan->count; i++) {
        if (kind < KINDS ? kind_of(&plan->members[i]->variant) != kind : !plan->front[i])
            continue;
        x[count] = 1e-6 * (double)plan->members[i]->variant.bytes;
        y[count++] = plan->members[i]->value;
    }
    *series = (lode_chart_series_t){.name = "smallest for its perplexity",
                                    .colour = LODE_COLOUR_GREY,
                                    .mark = LODE_MARK_LINE,
                                    .count = count,
                                    .x = x,
                                    .y = y};
    if (kind == KINDS)
        return LODE_OK;
    series->name = count > 0 ? kinds[kind].name : NULL;
    series->colour = kinds[kind].colour;
    series->mark = LODE_MARK_POINTS;
    series->point = kinds[kind].point;
    series->size = 0.7;
    return LODE_OK;
}

static lode_status_t draw(lode_plot_t *plot, lode_shelf_t *shelf, const plan_t *plan,
                          lode_buffer_t *page) {
    lode_chart_series_t series[KINDS + 1];
    char bytes[LODE_CELLS_BYTES], caption[480];
    lode_buffer_t title = {0};
    LODE_TRY(series_of(shelf, plan, KINDS, &series[0]));
    for (int kind = 0; kind < KINDS; kind++)
        LODE_TRY(series_of(shelf, plan, kind, &series[1 + kind]));
    double low = 1e-6 * (double)plan->members[0]->variant.bytes;
    double high = 1e-6 * (double)plan->members[plan->count - 1]->variant.bytes;
    if (plan->budget > 0) {
        low = fmin(low, 1e-6 * (double)plan->budget);
        high = fmax(high, 1e-6 * (double)plan->budget);
    }
    const lode_chart_panel_t panel = {.x_label = "bytes of the model, MB",
                                      .y_label = "perplexity",
                                      .log_x = true,
                                      .log_y = true,
                                      .x_low = low / 1.05,
                                      .x_high = high * 1.05,
                                      .divider = 1e-6 * (double)plan->budget,
                                      .series = series,
                                      .count = KINDS + 1};
    const lode_chart_t chart = {.panels = &panel, .count = 1, .columns = 1, .panel_height = 300};
    lode_cells_bytes(bytes, (double)plan->budget);
    snprintf(
        caption, sizeof caption,
        "The dense model and every pruned or quantized variant whose size is known; experiments "
        "with super weights are left out. The line joins those that none of their size or "
        "smaller betters.%s%s%s",
        plan->budget > 0 ? " The upright line is the budget, " : "", plan->budget > 0 ? bytes : "",
        plan->budget > 0 ? "." : "");
    lode_status_t status = lode_report_group_title(&title, plan->group, true);
    if (status == LODE_OK)
        status = lode_buffer_printf(&title, " against bytes");
    if (status == LODE_OK)
        status = lode_figure_chart(plot, &chart, title.data, caption, page);
    lode_buffer_free(&title);
    return status;
}

/* --- table -------------------------------------------------------------------------------- */

static lode_status_t write_verdict(lode_buffer_t *page, const plan_t *plan) {
    char budget[LODE_CELLS_BYTES], bytes[LODE_CELLS_BYTES];
    if (plan->budget <= 0)
        return LODE_OK;
    lode_cells_bytes(budget, (double)plan->budget);
    if (plan->best < 0) {
        lode_cells_bytes(bytes, (double)plan->members[0]->variant.bytes);
        LODE_TRY(lode_buffer_printf(page,
                                    "<p class=\"method\"><b>No variant fits %s.</b> The "
                                    "smallest takes %s: ",
                                    budget, bytes));
        LODE_TRY(lode_page_text(page, plan->members[0]->variant.name));
        return lode_buffer_printf(page, ".</p>\n");
    }
    const lode_report_figure_t *best = plan->members[plan->best];
    char value[LODE_TABLE_NUMBER];
    lode_cells_bytes(bytes, (double)best->variant.bytes);
    lode_table_value(value, best, best->value);
    LODE_TRY(lode_buffer_printf(page, "<p class=\"method\"><b>Best within %s: ", budget));
    LODE_TRY(lode_page_text(page, best->variant.name));
    return lode_buffer_printf(page, "</b>, perplexity %s in %s.</p>\n", value, bytes);
}

/* Row i; `previous` is the one above it, −1 for none. */
static lode_status_t write_row(lode_buffer_t *page, const plan_t *plan, int64_t i,
                               int64_t previous) {
    const lode_report_figure_t *figure = plan->members[i], *dense = plan->group->dense;
    const double bytes = (double)figure->variant.bytes;
    char size[LODE_CELLS_BYTES];
    lode_cells_bytes(size, bytes);
    /* A line where the budget lies. */
    const bool apart = previous >= 0 && figure->variant.bytes > plan->budget &&
                       plan->members[previous]->variant.bytes <= plan->budget;
    LODE_TRY(lode_cells_row(page, figure->variant.name, apart));
    LODE_TRY(lode_cells_text(page, kinds[kind_of(&figure->variant)].name));
    LODE_TRY(lode_buffer_printf(page, "<td class=\"n\">%s</td>", size));
    LODE_TRY(lode_cells_number(
        page, dense && dense->variant.bytes > 0 ? 100 * bytes / (double)dense->variant.bytes : NAN,
        1, " %"));
    LODE_TRY(lode_cells_figure(page, figure, dense));
    if (plan->budget > 0)
        LODE_TRY(lode_cells_text(page, i == plan->best                         ? "best within"
                                       : figure->variant.bytes <= plan->budget ? "within"
                                                                               : "over"));
    return lode_cells_row_end(page);
}

static lode_status_t write_table(lode_buffer_t *page, const plan_t *plan) {
    static const char *const heads[] = {"variant",     "",      "#bytes", "#of dense",
                                        "#perplexity", "budget"};
    int64_t front = 0, previous = -1;
    for (int64_t i = 0; i < plan->count; i++)
        front += plan->front[i];
    LODE_TRY(lode_buffer_printf(page,
                                "<p class=\"method\">%lld of %lld variants are not bettered by any "
                                "of their size or smaller:</p>\n",
                                (long long)front, (long long)plan->count));
    LODE_TRY(lode_cells_begin(page, heads, plan->budget > 0 ? 6 : 5));
    for (int64_t i = 0; i < plan->count; i++) {
        if (!plan->front[i])
            continue;
        LODE_TRY(write_row(page, plan, i, previous));
        previous = i;
    }
    return lode_cells_end(page);
}

/* The best within the budget, else the smallest of all. */
static lode_status_t write_glance(lode_buffer_t *glance, const plan_t *plan) {
    const lode_report_figure_t *shown = plan->members[plan->best < 0 ? 0 : plan->best];
    char value[LODE_TABLE_NUMBER], bytes[LODE_CELLS_BYTES];
    lode_table_value(value, shown, shown->value);
    lode_cells_bytes(bytes, (double)shown->variant.bytes);
    LODE_TRY(lode_buffer_printf(glance, "%s%s ", glance->length > 0 ? "<br>" : "", value));
    LODE_TRY(lode_buffer_printf(glance, "<span class=\"point\">%s, ", bytes));
    LODE_TRY(lode_page_text(glance, shown->variant.name));
    return lode_buffer_printf(glance, "</span>");
}

static lode_status_t show(lode_plot_t *plot, lode_report_case_t *item,
                          const lode_report_group_t *group) {
    plan_t plan = {.group = group, .budget = item->budget};
    lode_shelf_t shelf = {0};
    lode_buffer_t *page = &item->topics[LODE_TOPIC_JOINT];
    lode_status_t status = make_plan(&plan);
    if (status != LODE_OK || plan.count < 2)
        goto done;
    LODE_GUARD(status, draw(plot, &shelf, &plan, page), done);
    LODE_GUARD(status, write_verdict(page, &plan), done);
    LODE_GUARD(status, write_table(page, &plan), done);
    status = write_glance(&item->glances[LODE_GLANCE_JOINT], &plan);
done:
    lode_shelf_free(&shelf);
    free_plan(&plan);
    return status;
}

lode_status_t lode_figures_joint(lode_plot_t *plot, lode_report_case_t *item) {
    lode_report_group_t *groups;
    int64_t count;
    lode_status_t status = lode_report_groups(&groups, &count, item);
    for (int64_t i = 0; status == LODE_OK && i < count; i++)
        if (lode_report_group_is_text(&groups[i]))
            status = show(plot, item, &groups[i]);
    free(groups);
    return status;
}
