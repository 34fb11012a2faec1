#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "report/cells.h"
#include "report/chart.h"
#include "report/entropy.h"
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
    lode_chart_quantiles(summary->quantiles, values, count);
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

static lode_status_t begin_row(lode_buffer_t *page, const lode_report_case_t *item) {
    LODE_TRY(lode_cells_row(page, item->model, false));
    return lode_cells_text(page, item->point[0] ? item->point : "–");
}

static lode_status_t write_entropies(lode_buffer_t *page, const lode_report_case_t *cases,
                                     const summary_t *summaries, int64_t count) {
    static const char *const heads[] = {"model", "setting", "#mean",
                                        "#5 %",  "#25 %",   "#median",
                                        "#75 %", "#95 %",   "#below the first row’s 10 %"};
    LODE_TRY(lode_buffer_printf(page, "<p class=\"method axis\"><b>Entropy, nats</b>, of the write "
                                      "weights over the channels of all layers; last, the share of "
                                      "channels below the 10 %% quantile of the first row of the "
                                      "same shape</p>\n"));
    LODE_TRY(lode_cells_begin(page, heads, sizeof heads / sizeof heads[0]));
    for (int64_t i = 0; i < count; i++) {
        if (!summaries[i].known)
            continue;
        LODE_TRY(begin_row(page, &cases[i]));
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
    for (int64_t i = 0; i < losses->count; i++) {
        const lode_report_figure_t *dense = find(losses, i, "dense");
        if (!losses->summaries[i].known)
            continue;
        LODE_TRY(begin_row(page, &losses->cases[i]));
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
    int64_t first = 0, group_count, most = 0;
    while (!summaries[first].known)
        first++;
    losses_t losses = {.cases = cases, .summaries = summaries, .count = count};
    for (int64_t i = 0; i < count; i++)
        most += cases[i].figure_count;
    LODE_TRY(LODE_NEW(&losses.variants, most + 1, "variants"));
    lode_status_t status = lode_report_groups(&groups, &group_count, &cases[first]);
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

lode_status_t lode_entropy_compare(lode_buffer_t *page, const lode_report_case_t *cases,
                                   int64_t count) {
    summary_t *summaries;
    LODE_TRY(LODE_NEW(&summaries, count, "entropies"));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && i < count; i++)
        status = read_case(summaries, cases, i);
    if (status == LODE_OK && any_difference(summaries, count)) {
        status =
            lode_buffer_printf(page, "<section id=\"write-entropy\">\n<h2>Write entropy</h2>\n");
        if (status == LODE_OK)
            status = write_entropies(page, cases, summaries, count);
        if (status == LODE_OK)
            status = write_losses(page, cases, summaries, count);
        if (status == LODE_OK)
            status = lode_buffer_printf(page, "</section>\n");
    }
    free(summaries);
    return status;
}
