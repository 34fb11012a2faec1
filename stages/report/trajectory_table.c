/* The table of a series: a row for each checkpoint. */
#include "report/trajectory_view.h"

#include <math.h>

#include "report/cells.h"
#include "report/groups.h"

/* Medians over layers that the table has a column for, where any checkpoint has the figure. */
static const struct {
    lode_trajectory_figure_t figure;
    const char *head;
    double unit;
    int places;
    bool range;
} columns[] = {
    {LODE_TRAJECTORY_MASS, "#core mass, %", 100, 1, true},
    {LODE_TRAJECTORY_GINI, "#Gini", 1, 3, false},
    {LODE_TRAJECTORY_EFFECTIVE, "#effective", 1, 1, false},
    {LODE_TRAJECTORY_OVERLAP, "#of last core, %", 100, 0, true},
    {LODE_TRAJECTORY_CORRELATION, "#ρ with last LP", 1, 3, false},
    {LODE_TRAJECTORY_ACTIVATION_OVERLAP, "#in activation core, %", 100, 0, false},
    {LODE_TRAJECTORY_ACTIVATION_RATIO, "#largest |u| ÷ median", 1, 1, true},
    {LODE_TRAJECTORY_ENTROPY, "#entropy", 1, 3, false},
};
enum { COLUMNS = sizeof columns / sizeof columns[0] };

static lode_status_t write_summary(const lode_trajectory_view_t *view, int64_t index, int column) {
    double summary[3];
    const double unit = columns[column].unit;
    const int places = columns[column].places;
    lode_trajectory_median(summary, view->trajectory, index, columns[column].figure);
    if (!isfinite(summary[0]) || !columns[column].range)
        return lode_cells_number(view->page, unit * summary[0], places, "");
    return lode_buffer_printf(
        view->page, "<td class=\"n\">%.*f <span class=\"point\">%.*f–%.*f</span></td>", places,
        unit * summary[0], places, unit * summary[1], places, unit * summary[2]);
}

static lode_status_t write_heads(const lode_trajectory_view_t *view,
                                 const lode_report_figure_t *const *texts, int text_count,
                                 const bool *known, bool spikes) {
    lode_buffer_t head = {0};
    lode_status_t status = LODE_OK;
    LODE_TRY(lode_cells_open(view->page));
    LODE_TRY(lode_cells_head(view->page, "model"));
    LODE_TRY(lode_cells_head(view->page, "#step"));
    if (view->trajectory->validations > 0)
        LODE_TRY(lode_cells_head(view->page, "#validation loss"));
    for (int i = 0; status == LODE_OK && i < text_count; i++) {
        head.length = 0;
        status = lode_buffer_printf(&head, "#%s, %s",
                                    lode_report_is_loss(texts[i]) ? "perplexity" : "accuracy",
                                    texts[i]->dataset);
        if (status == LODE_OK)
            status = lode_cells_head(view->page, head.data);
    }
    lode_buffer_free(&head);
    LODE_TRY(status);
    for (int i = 0; i < COLUMNS; i++)
        if (known[i])
            LODE_TRY(lode_cells_head(view->page, columns[i].head));
    if (spikes) {
        LODE_TRY(lode_cells_head(view->page, "#super weights"));
        LODE_TRY(lode_cells_head(view->page, "#largest |Y| ÷ scale"));
    }
    return lode_cells_body(view->page);
}

static lode_status_t write_checkpoint(const lode_trajectory_view_t *view, int64_t index,
                                      const lode_report_figure_t *const *texts, int text_count,
                                      const bool *known, bool spikes) {
    const lode_trajectory_t *trajectory = view->trajectory;
    const lode_trajectory_checkpoint_t *checkpoint = &trajectory->checkpoints[index];
    LODE_TRY(lode_cells_row(view->page, checkpoint->item->model, false));
    LODE_TRY(lode_cells_count(view->page, checkpoint->item->step));
    if (trajectory->validations > 0)
        LODE_TRY(lode_cells_number(view->page, checkpoint->validation, 4, ""));
    for (int i = 0; i < text_count; i++)
        LODE_TRY(
            lode_cells_figure(view->page, lode_trajectory_dense(checkpoint->item, texts[i]), NULL));
    for (int i = 0; i < COLUMNS; i++)
        if (known[i])
            LODE_TRY(write_summary(view, index, i));
    if (spikes) {
        const double found =
            lode_trajectory_whole(trajectory, index, LODE_TRAJECTORY_SUPER_WEIGHTS);
        LODE_TRY(lode_cells_number(view->page, found, 0, ""));
        LODE_TRY(lode_cells_number(
            view->page, lode_trajectory_whole(trajectory, index, LODE_TRAJECTORY_SPIKE), 1, ""));
    }
    return lode_cells_row_end(view->page);
}

lode_status_t lode_trajectory_table(const lode_trajectory_view_t *view) {
    const lode_report_figure_t *texts[LODE_TRAJECTORY_TEXTS];
    bool known[COLUMNS];
    const int text_count = lode_trajectory_texts(view->trajectory, texts);
    bool zero;
    const bool spikes = lode_trajectory_known(view, LODE_TRAJECTORY_SPIKE, &zero);
    double summary[3] = {NAN, NAN, NAN};
    for (int i = 0; i < COLUMNS; i++)
        known[i] = lode_trajectory_known(view, columns[i].figure, &zero);
    LODE_TRY(write_heads(view, texts, text_count, known, spikes));
    for (int64_t i = 0; i < view->trajectory->count; i++)
        LODE_TRY(write_checkpoint(view, i, texts, text_count, known, spikes));
    LODE_TRY(lode_cells_end(view->page));
    if (view->trajectory->last >= 0)
        lode_trajectory_median(summary, view->trajectory, view->trajectory->last,
                               LODE_TRAJECTORY_CHANCE);
    LODE_TRY(lode_buffer_printf(view->page, "<p class=\"method\">Medians over layers, behind them "
                                            "the least and the largest layer: the core’s share of "
                                            "the loss proxy (LP); its Gini coefficient and "
                                            "effective number of channels; how much of the last "
                                            "checkpoint’s core is core, and the rank correlation "
                                            "with its LP; how much of the core is in the "
                                            "activation core."));
    if (isfinite(summary[0]))
        LODE_TRY(lode_buffer_printf(view->page,
                                    " Chance would give a core %.2g %% of another’s channels.",
                                    100 * summary[0]));
    return lode_buffer_printf(
        view->page, " All figures of all layers are in trajectory.csv.%s</p>\n",
        view->zero ? " Step 0, which a logarithmic axis has no place for, is drawn "
                     "at its left, before the dashed line."
                   : "");
}
