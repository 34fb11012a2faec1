#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "report/cells.h"
#include "report/chart.h"
#include "report/entropy.h"
#include "report/figures.h"
#include "report/groups.h"
#include "report/page.h"
#include "report/shelf.h"

/* The share of channels that is counted is of those below this quantile of the first case. */
static const double REFERENCE = 0.10;

/* Entropies of one case, over the channels of all layers. */
typedef struct summary {
    bool known;
    int64_t layers, channels; /* channels: of a layer */
    double mean, quantiles[5], threshold;
    double below; /* share of the channels below the threshold of the first case of this shape */
    bool repeats; /* an earlier case of the same model says the same, at another setting */
    int64_t repeated; /* how many cases repeat this one */
} summary_t;

static int compare_doubles(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double share_below(const double *values, int64_t count, double threshold) {
    int64_t below = 0;
    for (int64_t i = 0; i < count; i++)
        below += values[i] < threshold;
    return (double)below / (double)count;
}

/* The summary of sorted values; `earlier` [index] are those of the cases before. */
static void summarise(summary_t *summary, double *values, const summary_t *earlier, int64_t index) {
    const int64_t count = summary->layers * summary->channels;
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += values[i];
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    summary->known = true;
    summary->mean = sum / (double)count;
    summary->threshold = values[(int64_t)(REFERENCE * (double)(count - 1))];
    lode_report_quantiles(summary->quantiles, values, count);
    double threshold = summary->threshold;
    for (int64_t i = index - 1; i >= 0; i--)
        if (earlier[i].known && earlier[i].layers == summary->layers &&
            earlier[i].channels == summary->channels)
            threshold = earlier[i].threshold;
    summary->below = share_below(values, count, threshold);
}

static lode_status_t read_case(summary_t *summaries, const lode_report_case_t *cases,
                               int64_t index) {
    summary_t *summary = &summaries[index];
    int64_t shape[] = {-1, -1};
    double *values;
    lode_shelf_t shelf = {0};
    lode_store_t *store;
    LODE_TRY(lode_report_open(&store, &cases[index], "classify"));
    lode_status_t status = lode_shelf_f64(&shelf, store, "/entropy", 2, shape, &values);
    if (status == LODE_OK && values && shape[0] * shape[1] > 0) {
        summary->layers = shape[0];
        summary->channels = shape[1];
        summarise(summary, values, summaries, index);
    }
    lode_store_close(&store);
    lode_shelf_free(&shelf);
    return lode_fail_context(status, "%s/classify.h5", cases[index].folder);
}

/* Whether two cases of one model say the same: what a sweep of training leaves of the model that it
 * begins with. */
static bool is_alike(const lode_report_case_t *a, const lode_report_case_t *b,
                     const summary_t *of_a, const summary_t *of_b) {
    if (!of_a->known || !of_b->known || strcmp(a->model, b->model) != 0 ||
        of_a->mean != of_b->mean || a->figure_count != b->figure_count)
        return false;
    for (int64_t i = 0; i < a->figure_count; i++)
        if (a->figures[i].value != b->figures[i].value ||
            strcmp(a->figures[i].variant.name, b->figures[i].variant.name) != 0)
            return false;
    return true;
}

static void find_repeats(summary_t *summaries, const lode_report_case_t *cases, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < i && !summaries[i].repeats; j++)
            if (!summaries[j].repeats &&
                is_alike(&cases[i], &cases[j], &summaries[i], &summaries[j])) {
                summaries[i].repeats = true;
                summaries[j].repeated++;
            }
}

static bool has_row(const summary_t *summary) {
    return summary->known && !summary->repeats;
}

/* The first case with entropies; there is one. */
static int64_t first_known(const summary_t *summaries) {
    int64_t first = 0;
    while (!summaries[first].known)
        first++;
    return first;
}

/* Whether any two cases differ: what is only classified or pruned otherwise does not. */
static bool any_difference(const summary_t *summaries, int64_t count) {
    const summary_t *first = NULL;
    for (int64_t i = 0; i < count; i++) {
        if (!summaries[i].known)
            continue;
        if (!first)
            first = &summaries[i];
        else if (summaries[i].mean != first->mean)
            return true;
    }
    return false;
}

/* Rows are numbered, as in the chart. */
static lode_status_t begin_row(lode_buffer_t *page, const lode_report_case_t *item,
                               const summary_t *summary, int64_t row) {
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)row);
    LODE_TRY(lode_cells_row(page, number, false));
    LODE_TRY(lode_cells_text(page, item->model));
    if (summary->repeated == 0)
        return lode_cells_text(page, item->point[0] ? item->point : "–");
    LODE_TRY(lode_buffer_printf(page, "<td>"));
    LODE_TRY(lode_page_text(page, item->point));
    return lode_buffer_printf(page, " and %lld more</td>", (long long)summary->repeated);
}

static lode_status_t write_entropies(lode_buffer_t *page, const lode_report_case_t *cases,
                                     const summary_t *summaries, int64_t count) {
    static const char *const heads[] = {
        "",      "model",   "setting", "#mean", "#5 %",
        "#25 %", "#median", "#75 %",   "#95 %", "#below the first row’s 10 %"};
    LODE_TRY(lode_buffer_printf(page, "<p class=\"method axis\"><b>Entropy, nats</b>, of the write "
                                      "weights over the channels of all layers; last, the share of "
                                      "channels below the 10 %% quantile of the first row of the "
                                      "same shape</p>\n"));
    LODE_TRY(lode_cells_begin(page, heads, sizeof heads / sizeof heads[0]));
    for (int64_t i = 0, row = 0; i < count; i++) {
        if (!has_row(&summaries[i]))
            continue;
        LODE_TRY(begin_row(page, &cases[i], &summaries[i], ++row));
        LODE_TRY(lode_cells_number(page, summaries[i].mean, 4, ""));
        for (int q = 0; q < 5; q++)
            LODE_TRY(lode_cells_number(page, summaries[i].quantiles[q], 4, ""));
        LODE_TRY(lode_cells_number(page, 100 * summaries[i].below, 1, " %"));
        LODE_TRY(lode_cells_row_end(page));
    }
    return lode_cells_end(page);
}

/* --- what pruning costs ----------------------------------------------------------------------- */

/* The dense model, and what the methods that look at weights alone prune, or none. */
static bool is_shown(const lode_report_variant_t *variant) {
    static const char *const methods[] = {"dense",           "entropy",           "entropy-square",
                                          "entropy-softmax", "entropy-reversed",  "random",
                                          "magnitude",       "magnitude-reversed"};
    if (variant->bits > 0 || variant->options[0])
        return false;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(variant->method, methods[i]) == 0)
            return true;
    return false;
}

/* A row's figures on one axis, and the variants that any row has, each once. */
typedef struct losses {
    const lode_report_case_t *cases;
    const summary_t *summaries;
    int64_t count;
    const lode_report_figure_t *axis;
    const lode_report_variant_t **variants; /* of the first case that has it */
    int64_t variant_count;
} losses_t;

static const lode_report_figure_t *find(const losses_t *losses, int64_t index,
                                        const char *variant) {
    const lode_report_case_t *item = &losses->cases[index];
    for (int64_t i = 0; i < item->figure_count; i++)
        if (lode_report_same_axis(&item->figures[i], losses->axis) &&
            strcmp(item->figures[i].variant.name, variant) == 0)
            return &item->figures[i];
    return NULL;
}

static void add_variants(losses_t *losses, const lode_report_case_t *item) {
    for (int64_t i = 0; i < item->figure_count; i++) {
        const lode_report_figure_t *figure = &item->figures[i];
        bool fresh = lode_report_same_axis(figure, losses->axis) && is_shown(&figure->variant);
        for (int64_t j = 0; fresh && j < losses->variant_count; j++)
            fresh = strcmp(losses->variants[j]->name, figure->variant.name) != 0;
        if (fresh)
            losses->variants[losses->variant_count++] = &figure->variant;
    }
}

static lode_status_t write_title(lode_buffer_t *page, const lode_report_figure_t *axis) {
    const lode_report_group_t group = {.figures = axis, .count = 1};
    lode_buffer_t title = {0};
    lode_status_t status = lode_buffer_printf(page, "<p class=\"method axis\"><b>");
    if (status == LODE_OK)
        status = lode_report_group_title(&title, &group, true);
    if (status == LODE_OK)
        status = lode_page_text(page, title.data);
    lode_buffer_free(&title);
    LODE_TRY(status);
    return lode_buffer_printf(page, "</b>; after a pruned variant its ratio to the dense model of "
                                    "the row</p>\n");
}

static lode_status_t write_axis(lode_buffer_t *page, const losses_t *losses) {
    LODE_TRY(write_title(page, losses->axis));
    LODE_TRY(lode_cells_open(page));
    LODE_TRY(lode_cells_head(page, ""));
    LODE_TRY(lode_cells_head(page, "model"));
    LODE_TRY(lode_cells_head(page, "setting"));
    LODE_TRY(lode_cells_head(page, "#mean entropy"));
    for (int64_t v = 0; v < losses->variant_count; v++) {
        lode_buffer_t head = {0};
        lode_status_t status = lode_buffer_printf(&head, "#%s", losses->variants[v]->name);
        if (status == LODE_OK)
            status = lode_cells_head(page, head.data);
        lode_buffer_free(&head);
        LODE_TRY(status);
    }
    LODE_TRY(lode_cells_body(page));
    for (int64_t i = 0, row = 0; i < losses->count; i++) {
        const lode_report_figure_t *dense = find(losses, i, "dense");
        if (!has_row(&losses->summaries[i]))
            continue;
        LODE_TRY(begin_row(page, &losses->cases[i], &losses->summaries[i], ++row));
        LODE_TRY(lode_cells_number(page, losses->summaries[i].mean, 4, ""));
        for (int64_t v = 0; v < losses->variant_count; v++)
            LODE_TRY(lode_cells_figure(page, find(losses, i, losses->variants[v]->name), dense));
        LODE_TRY(lode_cells_row_end(page));
    }
    return lode_cells_end(page);
}

/* A table for each axis of the first case with entropies. */
static lode_status_t write_losses(lode_buffer_t *page, const lode_report_case_t *cases,
                                  const summary_t *summaries, int64_t count) {
    lode_report_group_t *groups;
    int64_t group_count, most = 0;
    losses_t losses = {.cases = cases, .summaries = summaries, .count = count};
    for (int64_t i = 0; i < count; i++)
        most += cases[i].figure_count;
    LODE_TRY(LODE_NEW(&losses.variants, most + 1, "variants"));
    lode_status_t status =
        lode_report_groups(&groups, &group_count, &cases[first_known(summaries)]);
    for (int64_t g = 0; status == LODE_OK && g < group_count; g++) {
        losses.axis = &groups[g].figures[0];
        losses.variant_count = 0;
        for (int64_t i = 0; i < count; i++)
            add_variants(&losses, &cases[i]);
        if (losses.variant_count > 0)
            status = write_axis(page, &losses);
    }
    free(groups);
    free(losses.variants);
    return status;
}

/* --- the chart -------------------------------------------------------------------------------- */

static const struct {
    const char *method, *colour;
    int point;
} looks[] = {{"dense", LODE_COLOUR_BLACK, 7},
             {"entropy", LODE_COLOUR_BLUE, 7},
             {"entropy-reversed", LODE_COLOUR_SKY, 6},
             {"entropy-square", LODE_COLOUR_GREEN, 9},
             {"entropy-softmax", LODE_COLOUR_PURPLE, 13},
             {"random", LODE_COLOUR_GREY, 5},
             {"magnitude", LODE_COLOUR_VERMILION, 7},
             {"magnitude-reversed", LODE_COLOUR_ORANGE, 6}};
enum { LOOKS = sizeof looks / sizeof looks[0], MOST_PANELS = 4 };

typedef struct drawing {
    lode_shelf_t shelf;
    losses_t losses;
    int64_t *shown, rows; /* [rows] cases that have a row in the tables */
    double *row;          /* [rows] its number, from 1 on */
    lode_chart_series_t boxes, series[MOST_PANELS][LOOKS];
    lode_chart_panel_t panels[MOST_PANELS];
    char titles[MOST_PANELS][160];
    int64_t count; /* panels */
} drawing_t;

static lode_status_t add_boxes(drawing_t *drawing) {
    const losses_t *losses = &drawing->losses;
    double *part[5];
    for (int i = 0; i < 5; i++) {
        LODE_TRY(lode_shelf_new(&drawing->shelf, &part[i], drawing->rows));
        for (int64_t r = 0; r < drawing->rows; r++)
            part[i][r] = losses->summaries[drawing->shown[r]].quantiles[i];
    }
    drawing->boxes = (lode_chart_series_t){.colour = LODE_COLOUR_BLUE,
                                           .mark = LODE_MARK_BOX,
                                           .size = 0.4,
                                           .count = drawing->rows,
                                           .x = drawing->row,
                                           .low = part[0],
                                           .box_low = part[1],
                                           .y = part[2],
                                           .box_high = part[3],
                                           .high = part[4]};
    drawing->panels[drawing->count++] =
        (lode_chart_panel_t){.title = "entropy of write weights, nats",
                             .x_label = "row of the tables",
                             .whole_x = true,
                             .series = &drawing->boxes,
                             .count = 1};
    return LODE_OK;
}

/* A case's value of a method at a sparsity, the dense model's at any; NaN where there is none. */
static double value_of(const losses_t *losses, int64_t index, const char *method, double sparsity) {
    const lode_report_case_t *item = &losses->cases[index];
    for (int64_t i = 0; i < item->figure_count; i++) {
        const lode_report_figure_t *figure = &item->figures[i];
        const bool dense = strcmp(method, "dense") == 0;
        if (lode_report_same_axis(figure, losses->axis) && is_shown(&figure->variant) &&
            strcmp(figure->variant.method, method) == 0 &&
            (dense || figure->variant.sparsity == sparsity))
            return figure->value;
    }
    return NAN;
}

static lode_status_t add_sparsity(drawing_t *drawing, double sparsity) {
    const losses_t *losses = &drawing->losses;
    const int64_t panel = drawing->count++;
    char *title = drawing->titles[panel];
    snprintf(title, sizeof drawing->titles[panel], "perplexity on %.64s, %g %% removed",
             losses->axis->dataset, 100 * sparsity);
    int count = 0;
    for (int look = 0; look < LOOKS; look++) {
        double *y;
        bool any = false;
        LODE_TRY(lode_shelf_new(&drawing->shelf, &y, drawing->rows));
        for (int64_t r = 0; r < drawing->rows; r++) {
            y[r] = value_of(losses, drawing->shown[r], looks[look].method, sparsity);
            any |= isfinite(y[r]);
        }
        if (any)
            drawing->series[panel][count++] = (lode_chart_series_t){.name = looks[look].method,
                                                                    .colour = looks[look].colour,
                                                                    .mark = LODE_MARK_BOTH,
                                                                    .point = looks[look].point,
                                                                    .size = 0.6,
                                                                    .count = drawing->rows,
                                                                    .x = drawing->row,
                                                                    .y = y};
    }
    drawing->panels[panel] = (lode_chart_panel_t){.title = title,
                                                  .x_label = "row of the tables",
                                                  .whole_x = true,
                                                  .log_y = true,
                                                  .series = drawing->series[panel],
                                                  .count = count};
    return LODE_OK;
}

/* The sparsities of the first text, in the order of figures. */
static lode_status_t add_sparsities(drawing_t *drawing, const lode_report_case_t *item) {
    double last = 0;
    for (int64_t i = 0; i < item->figure_count && drawing->count < MOST_PANELS; i++) {
        const lode_report_figure_t *figure = &item->figures[i];
        if (!drawing->losses.axis && figure->protocol[0] && !lode_report_is_derived(figure))
            drawing->losses.axis = figure;
        if (!drawing->losses.axis || !lode_report_same_axis(figure, drawing->losses.axis) ||
            !is_shown(&figure->variant) || !(figure->variant.sparsity > last))
            continue;
        last = figure->variant.sparsity;
        LODE_TRY(add_sparsity(drawing, last));
    }
    return LODE_OK;
}

static lode_status_t number_rows(drawing_t *drawing) {
    const losses_t *losses = &drawing->losses;
    LODE_TRY(LODE_NEW(&drawing->shown, losses->count, "rows of entropies"));
    LODE_TRY(lode_shelf_new(&drawing->shelf, &drawing->row, losses->count));
    for (int64_t i = 0; i < losses->count; i++)
        if (has_row(&losses->summaries[i])) {
            drawing->shown[drawing->rows] = i;
            drawing->row[drawing->rows] = (double)drawing->rows + 1;
            drawing->rows++;
        }
    return LODE_OK;
}

static lode_status_t draw(lode_plot_t *plot, lode_buffer_t *page, const lode_report_case_t *cases,
                          const summary_t *summaries, int64_t count) {
    drawing_t *drawing;
    LODE_TRY(LODE_NEW(&drawing, 1, "chart of entropies"));
    drawing->losses = (losses_t){.cases = cases, .summaries = summaries, .count = count};
    lode_status_t status = number_rows(drawing);
    if (status == LODE_OK)
        status = add_boxes(drawing);
    if (status == LODE_OK)
        status = add_sparsities(drawing, &cases[first_known(summaries)]);
    const lode_chart_t chart = {
        .panels = drawing->panels, .count = drawing->count, .columns = drawing->count > 1 ? 2 : 1};
    if (status == LODE_OK)
        status = lode_figure_chart(
            plot, &chart, "Entropy and what pruning costs",
            "Boxes: over the channels of all layers, median, quartiles, and 5 and 95 %. Lines: the "
            "unpruned model, and what is left of it without the channels that each method removes.",
            page);
    lode_shelf_free(&drawing->shelf);
    free(drawing->shown);
    free(drawing);
    return status;
}

static lode_status_t write_section(lode_plot_t *plot, lode_buffer_t *page,
                                   const lode_report_case_t *cases, const summary_t *summaries,
                                   int64_t count) {
    LODE_TRY(lode_buffer_printf(page, "<section id=\"write-entropy\">\n<h2>Write entropy</h2>\n"));
    LODE_TRY(draw(plot, page, cases, summaries, count));
    LODE_TRY(write_entropies(page, cases, summaries, count));
    LODE_TRY(write_losses(page, cases, summaries, count));
    return lode_buffer_printf(page, "</section>\n");
}

lode_status_t lode_entropy_page(lode_plot_t *plot, lode_buffer_t *page,
                                const lode_report_case_t *cases, int64_t count) {
    summary_t *summaries;
    LODE_TRY(LODE_NEW(&summaries, count, "entropies"));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && i < count; i++)
        status = read_case(summaries, cases, i);
    find_repeats(summaries, cases, count);
    if (status == LODE_OK && any_difference(summaries, count))
        status = write_section(plot, page, cases, summaries, count);
    free(summaries);
    return status;
}
