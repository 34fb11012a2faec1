/* Losses and accuracies of a series, against the step of training. */
#include "report/trajectory_view.h"

#include <math.h>
#include <string.h>

#include "report/figures.h"
#include "report/groups.h"

const lode_report_figure_t *lode_trajectory_dense(const lode_report_case_t *item,
                                                  const lode_report_figure_t *like) {
    for (int64_t i = 0; i < item->figure_count; i++)
        if (item->figures[i].variant.kind == LODE_KIND_DENSE &&
            lode_report_same_axis(&item->figures[i], like))
            return &item->figures[i];
    return NULL;
}

int lode_trajectory_texts(const lode_trajectory_t *trajectory,
                          const lode_report_figure_t *texts[LODE_TRAJECTORY_TEXTS]) {
    int count = 0;
    for (int64_t c = trajectory->count - 1; c >= 0 && count == 0; c--) {
        const lode_report_case_t *item = trajectory->checkpoints[c].item;
        for (int64_t i = 0; i < item->figure_count && count < LODE_TRAJECTORY_TEXTS; i++) {
            const lode_report_figure_t *figure = &item->figures[i];
            if (figure->variant.kind == LODE_KIND_DENSE && !lode_report_is_derived(figure) &&
                !figure->repeats && strcmp(figure->metric, "acc_norm") != 0)
                texts[count++] = figure;
        }
    }
    return count;
}

static lode_status_t validation_panel(const lode_trajectory_view_t *view, lode_chart_panel_t *panel,
                                      lode_chart_series_t *series) {
    lode_trajectory_t *trajectory = view->trajectory;
    const int64_t count = trajectory->validations;
    double *columns[3];
    for (int i = 0; i < 3; i++)
        LODE_TRY(lode_shelf_new(&trajectory->shelf, &columns[i], count));
    for (int64_t i = 0; i < count; i++) {
        columns[0][i] = lode_trajectory_place(view, (double)trajectory->step[i]);
        lode_trajectory_band(&columns[1][i], &columns[2][i], trajectory->loss[i],
                             trajectory->error[i]);
    }
    *panel = lode_trajectory_panel(view, "validation loss", "nats a token");
    *series = (lode_chart_series_t){.colour = LODE_COLOUR_VERMILION,
                                    .mark = LODE_MARK_BOTH,
                                    .size = 0.45,
                                    .count = count,
                                    .x = columns[0],
                                    .y = trajectory->loss,
                                    .low = columns[1],
                                    .high = columns[2]};
    panel->series = series;
    panel->count = 1;
    return LODE_OK;
}

static lode_status_t text_panel(const lode_trajectory_view_t *view, lode_chart_panel_t *panel,
                                lode_chart_series_t *series, const lode_report_figure_t *text,
                                lode_buffer_t *title) {
    lode_trajectory_t *trajectory = view->trajectory;
    double *columns[3];
    const bool loss = lode_report_is_loss(text);
    for (int i = 0; i < 3; i++)
        LODE_TRY(lode_shelf_new(&trajectory->shelf, &columns[i], trajectory->count));
    for (int64_t i = 0; i < trajectory->count; i++) {
        const lode_report_figure_t *figure =
            lode_trajectory_dense(trajectory->checkpoints[i].item, text);
        columns[0][i] = columns[1][i] = columns[2][i] = NAN;
        if (!figure)
            continue;
        columns[0][i] = figure->value;
        lode_trajectory_interval(&columns[1][i], &columns[2][i], figure);
        for (int part = 0; part < 3; part++)
            columns[part][i] *= loss ? 1 : 100;
    }
    LODE_TRY(lode_buffer_printf(title, "%s on %s", lode_report_metric_title(text), text->dataset));
    if (text->protocol[0])
        LODE_TRY(
            lode_buffer_printf(title, ", %s at %lld", text->protocol, (long long)text->length));
    *panel = lode_trajectory_panel(view, title->data, loss ? NULL : "%");
    panel->log_y = loss;
    panel->floor = 100 * text->chance;
    panel->floor_name = isfinite(text->chance) ? "chance" : NULL;
    *series = (lode_chart_series_t){.colour = LODE_COLOUR_BLUE,
                                    .mark = LODE_MARK_BOTH,
                                    .size = 0.45,
                                    .count = trajectory->count,
                                    .x = view->x,
                                    .y = columns[0],
                                    .low = columns[1],
                                    .high = columns[2]};
    panel->series = series;
    panel->count = 1;
    return LODE_OK;
}

lode_status_t lode_trajectory_losses(const lode_trajectory_view_t *view) {
    const lode_report_figure_t *texts[LODE_TRAJECTORY_TEXTS];
    lode_chart_panel_t panels[LODE_TRAJECTORY_TEXTS + 1];
    lode_chart_series_t series[LODE_TRAJECTORY_TEXTS + 1];
    lode_buffer_t titles[LODE_TRAJECTORY_TEXTS] = {{0}};
    const int text_count = lode_trajectory_texts(view->trajectory, texts);
    int count = 0;
    lode_status_t status = LODE_OK;
    if (view->trajectory->validations > 0) {
        LODE_GUARD(status, validation_panel(view, &panels[0], &series[0]), done);
        count = 1;
    }
    for (int i = 0; i < text_count; i++, count++)
        LODE_GUARD(status, text_panel(view, &panels[count], &series[count], texts[i], &titles[i]),
                   done);
    const lode_chart_t chart = {
        .panels = panels, .count = count, .columns = count > 1 ? 2 : 1, .panel_height = 210};
    if (count > 0)
        status = lode_figure_chart(view->plot, &chart, "Loss and tasks over training",
                                   "The unchanged model at each checkpoint, and the validation "
                                   "loss while it was trained where that is known. Bars are 1.96 "
                                   "standard errors either way.",
                                   view->page);
done:
    for (int i = 0; i < LODE_TRAJECTORY_TEXTS; i++)
        lode_buffer_free(&titles[i]);
    return status;
}
