/* What becomes of the model when its super weights are changed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/cells.h"
#include "report/chart.h"
#include "report/figures.h"
#include "report/groups.h"
#include "report/superweights.h"

static const char *const prune = "super-weight:prune";

static bool is_experiment(const lode_report_variant_t *variant, const void *context) {
    (void)context;
    return variant->kind == LODE_KIND_EXPERIMENT;
}

/* What an experiment does, in words. */
static void describe(char text[96], const lode_report_variant_t *variant) {
    static const struct {
        const char *method, *text;
    } texts[] = {
        {"super-weight:prune", "super weights set to 0"},
        {"super-weight:restore", "set to 0, super activations restored"},
        {"super-weight:others-tensor", "the largest others of each matrix set to 0 instead"},
        {"super-weight:others-global", "the largest others of the model set to 0 instead"},
    };
    snprintf(text, 96, "super weights times %g", variant->factor);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (strcmp(variant->method, texts[i].method) == 0)
            snprintf(text, 96, "%s", texts[i].text);
}

static lode_status_t write_table(lode_buffer_t *page, const lode_report_group_t *groups,
                                 int64_t count, const lode_report_variant_t *const *variants,
                                 int64_t variant_count) {
    LODE_TRY(lode_cells_open(page));
    LODE_TRY(lode_cells_head(page, "variant"));
    LODE_TRY(lode_cells_head(page, "what is done"));
    LODE_TRY(lode_report_group_heads(page, groups, count));
    LODE_TRY(lode_cells_body(page));
    LODE_TRY(lode_cells_row(page, "dense", false));
    LODE_TRY(lode_cells_text(page, "nothing"));
    LODE_TRY(lode_report_group_cells(page, groups, count, "dense"));
    LODE_TRY(lode_cells_row_end(page));
    for (int64_t i = 0; i < variant_count; i++) {
        char text[96];
        describe(text, variants[i]);
        LODE_TRY(lode_cells_row(page, variants[i]->name, false));
        LODE_TRY(lode_cells_text(page, text));
        LODE_TRY(lode_report_group_cells(page, groups, count, variants[i]->name));
        LODE_TRY(lode_cells_row_end(page));
    }
    return lode_cells_end(page);
}

/* --- factors ------------------------------------------------------------------------------ */

static void add_point(double *const columns[4], int64_t *count, double factor,
                      const lode_report_figure_t *figure, bool loss) {
    const double unit = loss ? 1 : 100, value = figure->value;
    const double error = figure->standard_error > 0 ? figure->standard_error : 0;
    int64_t place = *count; /* in ascending order of factors */
    if (!isfinite(value))
        return;
    for (; place > 0 && columns[0][place - 1] > factor; place--)
        for (int i = 0; i < 4; i++)
            columns[i][place] = columns[i][place - 1];
    columns[0][place] = factor;
    columns[1][place] = unit * value;
    /* Error bars of a perplexity are symmetric in its log. */
    columns[2][place] = unit * (loss ? value * exp(-error / value) : value - error);
    columns[3][place] = unit * (loss ? value * exp(error / value) : value + error);
    ++*count;
}

/* Factors against one figure; 1 is the model as it is, and 0, where no variant has it, the one
 * without super weights. */
static lode_status_t draw_factors(lode_super_weights_t *source, const lode_report_group_t *group) {
    double *columns[4];
    int64_t count = 0, scaled = 0;
    bool zero = false;
    const bool loss = lode_report_is_loss(&group->figures[0]);
    for (int i = 0; i < 4; i++)
        LODE_TRY(lode_shelf_new(&source->shelf, &columns[i], group->count + 2));
    for (int64_t i = 0; i < group->count; i++) {
        const lode_report_variant_t *variant = &group->figures[i].variant;
        if (variant->kind != LODE_KIND_EXPERIMENT || !isfinite(variant->factor))
            continue;
        scaled++;
        zero |= variant->factor == 0;
        add_point(columns, &count, variant->factor, &group->figures[i], loss);
    }
    const lode_report_figure_t *none = lode_report_group_find(group, prune);
    if (scaled < 2)
        return LODE_OK;
    if (group->dense)
        add_point(columns, &count, 1, group->dense, loss);
    if (none && !zero)
        add_point(columns, &count, 0, none, loss);
    const lode_chart_series_t series = {.colour = LODE_COLOUR_BLUE,
                                        .mark = LODE_MARK_BOTH,
                                        .count = count,
                                        .x = columns[0],
                                        .y = columns[1],
                                        .low = columns[2],
                                        .high = columns[3]};
    const lode_chart_panel_t panel = {.x_label = "factor of the super weights",
                                      .y_label = loss ? "perplexity" : "accuracy, %",
                                      .log_y = loss,
                                      .level =
                                          group->dense ? (loss ? 1 : 100) * group->dense->value : 0,
                                      .level_name = group->dense ? "dense" : NULL,
                                      .series = &series,
                                      .count = 1};
    const lode_chart_t chart = {.panels = &panel, .count = 1, .columns = 1};
    lode_buffer_t title = {0};
    lode_status_t status = lode_report_group_title(&title, group, true);
    if (status == LODE_OK)
        status = lode_buffer_printf(&title, " as super weights are scaled");
    if (status == LODE_OK)
        status = lode_figure_chart(source->plot, &chart, title.data,
                                   "All super weights found are multiplied by the factor. Bars are "
                                   "one standard error.",
                                   source->page);
    lode_buffer_free(&title);
    return status;
}

lode_status_t lode_super_weights_effects(lode_super_weights_t *source) {
    lode_report_group_t *groups = NULL;
    const lode_report_variant_t **variants = NULL;
    int64_t count = 0, variant_count = 0;
    lode_status_t status;
    LODE_GUARD(status, lode_report_groups(&groups, &count, source->item), done);
    LODE_GUARD(
        status,
        lode_report_group_variants(&variants, &variant_count, source->item, is_experiment, NULL),
        done);
    if (variant_count == 0)
        goto done;
    LODE_GUARD(status, write_table(source->page, groups, count, variants, variant_count), done);
    for (int64_t i = 0; status == LODE_OK && i < count; i++)
        status = draw_factors(source, &groups[i]);
done:
    free(variants);
    free(groups);
    return status;
}
