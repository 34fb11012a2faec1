/* How a series' figures are shown: charts against the step of training, a table, trajectory.csv. */
#include "report/trajectory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/cells.h"
#include "report/chart.h"
#include "report/figures.h"
#include "report/groups.h"
#include "report/page.h"
#include "report/table.h"

enum { BARS = 12, MOST_TEXTS = 6, MOST_PANELS = 8 }; /* layers whose intervals are drawn; texts */

/* What the charts of a series share. */
typedef struct view {
    lode_plot_t *plot;
    lode_buffer_t *page;
    lode_trajectory_t *trajectory;
    double *steps; /* [step_count], the checkpoints' first */
    int64_t step_count;
    double *x;        /* [count] where the checkpoints lie */
    double low, high; /* of the axis */
    bool zero;        /* there is a step 0 */
} view_t;

/* --- trajectory.csv ------------------------------------------------------------------------- */

static lode_status_t write_bound(lode_buffer_t *out, double bound) {
    return isfinite(bound) ? lode_buffer_printf(out, ",%.17g", bound)
                           : lode_buffer_append(out, ",", 1);
}

/* One row; `layer` is a number or a word. Nothing where the value is not known. */
static lode_status_t write_row(lode_buffer_t *out, const lode_trajectory_t *trajectory,
                               const lode_report_case_t *item, const char *layer,
                               const char *figure, double value, double low, double high) {
    if (!isfinite(value))
        return LODE_OK;
    LODE_TRY(lode_report_csv_field(out, trajectory->series));
    LODE_TRY(lode_buffer_append(out, ",", 1));
    LODE_TRY(lode_report_csv_field(out, item->model));
    LODE_TRY(lode_buffer_printf(out, ",%lld,%s,", (long long)item->step, layer));
    LODE_TRY(lode_report_csv_field(out, figure));
    LODE_TRY(lode_buffer_printf(out, ",%.17g", value));
    LODE_TRY(write_bound(out, low));
    LODE_TRY(write_bound(out, high));
    LODE_TRY(lode_buffer_append(out, ",", 1));
    LODE_TRY(lode_report_csv_field(out, item->point));
    return lode_buffer_append(out, "\n", 1);
}

static bool has_median(lode_trajectory_figure_t figure) {
    static const bool has[] = {
#define FIGURE_MEDIAN(figure, name, median) median,
        LODE_TRAJECTORY_LIST(FIGURE_MEDIAN)
#undef FIGURE_MEDIAN
    };
    return has[figure];
}

static lode_status_t write_figure(lode_buffer_t *out, const lode_trajectory_t *trajectory,
                                  int64_t index, lode_trajectory_figure_t figure) {
    const lode_trajectory_checkpoint_t *checkpoint = &trajectory->checkpoints[index];
    const double *value = checkpoint->value[figure], *low = checkpoint->low[figure],
                 *high = checkpoint->high[figure];
    const char *name = lode_trajectory_name(figure);
    double summary[3];
    char layer[24];
    for (int64_t l = 0; value && l < trajectory->layers; l++) {
        snprintf(layer, sizeof layer, "%lld", (long long)l);
        LODE_TRY(write_row(out, trajectory, checkpoint->item, layer, name, value[l],
                           low ? low[l] : NAN, high ? high[l] : NAN));
    }
    lode_trajectory_median(summary, trajectory, index, figure);
    if (has_median(figure))
        return write_row(out, trajectory, checkpoint->item, "median", name, summary[0], summary[1],
                         summary[2]);
    return write_row(out, trajectory, checkpoint->item, "all", name,
                     lode_trajectory_whole(trajectory, index, figure), NAN, NAN);
}

/* The figures of evaluate.h5 of the unchanged model: "perplexity/books/gptq/256", "acc/arc". */
static lode_status_t write_evaluated(lode_buffer_t *out, const lode_trajectory_t *trajectory,
                                     const lode_report_case_t *item) {
    lode_buffer_t name = {0};
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && i < item->figure_count; i++) {
        const lode_report_figure_t *figure = &item->figures[i];
        double low, high;
        if (figure->variant.kind != LODE_KIND_DENSE || figure->repeats)
            continue;
        name.length = 0;
        status = lode_buffer_printf(&name, "%s/%s", figure->metric, figure->dataset);
        if (status == LODE_OK && figure->protocol[0])
            status =
                lode_buffer_printf(&name, "/%s/%lld", figure->protocol, (long long)figure->length);
        lode_trajectory_interval(&low, &high, figure);
        if (status == LODE_OK)
            status = write_row(out, trajectory, item, "all", name.data, figure->value, low, high);
    }
    lode_buffer_free(&name);
    return status;
}

lode_status_t lode_trajectory_rows(lode_buffer_t *out, const lode_trajectory_t *trajectory) {
    for (int64_t i = 0; i < trajectory->count; i++) {
        const lode_trajectory_checkpoint_t *checkpoint = &trajectory->checkpoints[i];
        double low, high;
        for (lode_trajectory_figure_t f = 0; f < LODE_TRAJECTORY_FIGURES; f++)
            LODE_TRY(write_figure(out, trajectory, i, f));
        LODE_TRY(write_evaluated(out, trajectory, checkpoint->item));
        lode_trajectory_band(&low, &high, checkpoint->validation, checkpoint->validation_error);
        LODE_TRY(write_row(out, trajectory, checkpoint->item, "all", "validation_loss",
                           checkpoint->validation, low, high));
    }
    return LODE_OK;
}

/* --- series of charts ------------------------------------------------------------------------- */

/* Where a step lies on the axis. */
static double place_of(const view_t *view, double step) {
    return step > 0 ? step : lode_chart_step_place(view->steps, view->step_count);
}

/* Intervals of `places` series lie side by side, a little apart on the logarithmic axis. */
static double aside(const view_t *view, int64_t place, int64_t places) {
    const double apart = fmin(0.011, 0.09 / (double)places) * log(view->high / view->low);
    return exp(apart * ((double)place - 0.5 * (double)(places - 1)));
}

/* A figure of one layer; `unit` is what it is multiplied by. */
static lode_status_t add_layer(const view_t *view, lode_chart_series_t *series,
                               lode_trajectory_figure_t figure, int64_t layer, double unit) {
    lode_trajectory_t *trajectory = view->trajectory;
    const int64_t count = trajectory->count;
    double *columns[4];
    bool bounds = false;
    for (int i = 0; i < 4; i++)
        LODE_TRY(lode_shelf_new(&trajectory->shelf, &columns[i], count));
    for (int64_t i = 0; i < count; i++) {
        const lode_trajectory_checkpoint_t *checkpoint = &trajectory->checkpoints[i];
        double *const parts[] = {checkpoint->value[figure], checkpoint->low[figure],
                                 checkpoint->high[figure]};
        columns[0][i] = view->x[i] * aside(view, layer, trajectory->layers);
        for (int part = 0; part < 3; part++)
            columns[1 + part][i] = parts[part] ? unit * parts[part][layer] : NAN;
        bounds |= checkpoint->low[figure] != NULL;
    }
    const bool bars = bounds && trajectory->layers <= BARS;
    *series = (lode_chart_series_t){.depth = (double)layer,
                                    .mark = LODE_MARK_BOTH,
                                    .size = 0.4,
                                    .width = 1,
                                    .count = count,
                                    .x = columns[0],
                                    .y = columns[1],
                                    .low = bars ? columns[2] : NULL,
                                    .high = bars ? columns[3] : NULL};
    return LODE_OK;
}

/* The median over layers, with their range where `range`, moved aside as one of `places`. */
static lode_status_t add_median(const view_t *view, lode_chart_series_t *series,
                                lode_trajectory_figure_t figure, double unit, bool range, int place,
                                int places) {
    lode_trajectory_t *trajectory = view->trajectory;
    double *columns[4], summary[3];
    for (int i = 0; i < 4; i++)
        LODE_TRY(lode_shelf_new(&trajectory->shelf, &columns[i], trajectory->count));
    for (int64_t i = 0; i < trajectory->count; i++) {
        lode_trajectory_median(summary, trajectory, i, figure);
        columns[0][i] = view->x[i] * aside(view, place, places);
        for (int part = 0; part < 3; part++)
            columns[1 + part][i] = unit * summary[part];
    }
    series->mark = LODE_MARK_BOTH;
    series->count = trajectory->count;
    series->x = columns[0];
    series->y = columns[1];
    series->low = range ? columns[2] : NULL;
    series->high = range ? columns[3] : NULL;
    return LODE_OK;
}

/* Whether any checkpoint has the figure in any layer, and there one that is not 0. */
static bool is_known(const view_t *view, lode_trajectory_figure_t figure, bool *all_zero) {
    double summary[3];
    bool known = false;
    *all_zero = true;
    for (int64_t i = 0; i < view->trajectory->count; i++) {
        lode_trajectory_median(summary, view->trajectory, i, figure);
        known |= isfinite(summary[0]);
        *all_zero &= !isfinite(summary[0]) || (summary[1] == 0 && summary[2] == 0);
    }
    return known;
}

/* Whether there is something to draw: a figure that is 0 everywhere the table says. */
static bool is_drawn(const view_t *view, lode_trajectory_figure_t figure) {
    bool all_zero;
    return is_known(view, figure, &all_zero) && !all_zero;
}

/* Room for a panel's series: all layers and their median. */
static lode_status_t new_series(const view_t *view, lode_chart_series_t **series, int64_t count) {
    double *room;
    const int64_t doubles =
        (int64_t)((sizeof **series * (size_t)count + sizeof *room - 1) / sizeof *room);
    LODE_TRY(lode_shelf_new(&view->trajectory->shelf, &room, doubles));
    *series = (lode_chart_series_t *)(void *)room;
    return LODE_OK;
}

static lode_chart_panel_t step_panel(const view_t *view, const char *title, const char *label) {
    return (lode_chart_panel_t){.title = title,
                                .x_label = "step of training",
                                .y_label = label,
                                .log_x = true,
                                .steps = view->steps,
                                .step_count = view->step_count,
                                .x_low = view->low,
                                .x_high = view->high};
}

/* What a panel by layer shows. */
typedef struct shown {
    lode_trajectory_figure_t figure;
    const char *title, *label;
    double unit;
    bool log_y, from_zero;
    bool chance; /* that of core overlap, or of equally many channels */
} shown_t;

/* A line for each layer and, black, the median. */
static lode_status_t layer_panel(const view_t *view, lode_chart_panel_t *panel,
                                 const shown_t *shown) {
    lode_trajectory_t *trajectory = view->trajectory;
    lode_chart_series_t *series;
    double summary[3];
    LODE_TRY(new_series(view, &series, trajectory->layers + 1));
    *panel = step_panel(view, shown->title, shown->label);
    for (int64_t l = 0; l < trajectory->layers; l++)
        LODE_TRY(add_layer(view, &series[l], shown->figure, l, shown->unit));
    series[trajectory->layers] =
        (lode_chart_series_t){.name = "median over layers", .colour = LODE_COLOUR_BLACK};
    LODE_TRY(
        add_median(view, &series[trajectory->layers], shown->figure, shown->unit, false, 0, 1));
    series[trajectory->layers].mark = LODE_MARK_LINE;
    series[trajectory->layers].width = 2.6;
    panel->log_y = shown->log_y;
    panel->from_zero = shown->from_zero;
    panel->series = series;
    panel->count = trajectory->layers + 1;
    if (shown->chance) {
        lode_trajectory_median(summary, trajectory, trajectory->last, LODE_TRAJECTORY_CHANCE);
        panel->floor = shown->unit * summary[0];
        panel->floor_name = "chance";
    }
    return LODE_OK;
}

/* One figure with a panel for each of `shown` that is known; nothing where none is. */
static lode_status_t draw_layers(const view_t *view, const shown_t *shown, int count,
                                 const char *title, const char *caption) {
    lode_chart_panel_t panels[MOST_PANELS];
    int drawn = 0;
    for (int i = 0; i < count; i++)
        if (is_drawn(view, shown[i].figure))
            LODE_TRY(layer_panel(view, &panels[drawn++], &shown[i]));
    if (drawn == 0)
        return LODE_OK;
    const lode_chart_t chart = {.panels = panels,
                                .count = drawn,
                                .columns = drawn > 1 ? 2 : 1,
                                .panel_height = 230,
                                .layers = view->trajectory->layers};
    return lode_figure_chart(view->plot, &chart, title, caption, view->page);
}

/* --- concentration ---------------------------------------------------------------------------- */

/* Core masses at several ρ, medians over layers with their range. */
static lode_status_t fixed_panel(const view_t *view, lode_chart_panel_t *panel) {
    static const struct {
        lode_trajectory_figure_t figure;
        const char *name, *colour;
        int point;
    } parts[] = {{LODE_TRAJECTORY_MASS_FIVE, "ρ = 5 %", LODE_COLOUR_ORANGE, 13},
                 {LODE_TRAJECTORY_MASS_TWO, "2 %", LODE_COLOUR_GREEN, 9},
                 {LODE_TRAJECTORY_MASS_ONE, "1 %", LODE_COLOUR_VERMILION, 5},
                 {LODE_TRAJECTORY_MASS_HALF, "0.5 %", LODE_COLOUR_BLUE, 7}};
    lode_chart_series_t *series;
    LODE_TRY(new_series(view, &series, 4));
    *panel = step_panel(view, "core mass at fixed ρ, median and range", "share of LP, %");
    for (int i = 0; i < 4; i++) {
        series[i] = (lode_chart_series_t){.name = parts[i].name,
                                          .colour = parts[i].colour,
                                          .point = parts[i].point,
                                          .size = 0.55};
        LODE_TRY(add_median(view, &series[i], parts[i].figure, 100, true, i, 4));
        series[i].mark = LODE_MARK_BOTH;
    }
    panel->from_zero = true;
    panel->series = series;
    panel->count = 4;
    return LODE_OK;
}

static lode_status_t draw_concentration(const view_t *view) {
    static const shown_t shown[] = {
        {LODE_TRAJECTORY_MASS, "core mass by layer", "share of LP, %", 100, false, true, false},
        {LODE_TRAJECTORY_GINI, "Gini coefficient of LP", NULL, 1, false, false, false},
        {LODE_TRAJECTORY_EFFECTIVE, "effective number of channels", NULL, 1, true, false, false}};
    lode_chart_panel_t panels[4];
    int count = 0;
    for (int i = 0; i < 3; i++) {
        if (is_drawn(view, shown[i].figure))
            LODE_TRY(layer_panel(view, &panels[count++], &shown[i]));
        if (i == 0 && is_drawn(view, LODE_TRAJECTORY_MASS_ONE))
            LODE_TRY(fixed_panel(view, &panels[count++]));
    }
    if (count == 0)
        return LODE_OK;
    const lode_chart_t chart = {.panels = panels,
                                .count = count,
                                .columns = 2,
                                .panel_height = 230,
                                .layers = view->trajectory->layers};
    return lode_figure_chart(
        view->plot, &chart, "Concentration of the loss proxy over training",
        "The core’s share of its layer’s loss proxy, at the experiment’s ρ with 95 % bootstrap "
        "intervals over the calibration sequences, and at four fixed ρ as the median over layers "
        "with the least and the largest layer; the Gini coefficient over a layer’s channels, and "
        "their effective number, exp of the entropy of the shares.",
        view->page);
}

static lode_status_t draw_core(const view_t *view) {
    static const shown_t shown[] = {{LODE_TRAJECTORY_OVERLAP, "share of the last core in the core",
                                     "%", 100, false, true, true},
                                    {LODE_TRAJECTORY_CORRELATION,
                                     "Spearman’s ρ of LP with the last LP", NULL, 1, false, false,
                                     false}};
    const lode_trajectory_t *trajectory = view->trajectory;
    char caption[640], intervals[200];
    if (trajectory->draws > 0)
        snprintf(intervals, sizeof intervals,
                 "Bars are 95 %% bootstrap intervals of %lld draws of the calibration sequences, "
                 "the same ones for both checkpoints.",
                 (long long)trajectory->draws);
    else
        snprintf(intervals, sizeof intervals,
                 "No intervals: their bootstrap would take too long at this size.");
    snprintf(caption, sizeof caption,
             "Against the core and the loss proxy of %.96s, step %lld: how much of that core each "
             "checkpoint has as its core already (chance: as many channels at random), and the "
             "rank correlation of the loss proxy over all channels. %s",
             trajectory->checkpoints[trajectory->last].item->model,
             (long long)trajectory->checkpoints[trajectory->last].item->step, intervals);
    return draw_layers(view, shown, 2, "When the core is found", caption);
}

static lode_status_t draw_activations(const view_t *view) {
    static const shown_t shown[] = {
        {LODE_TRAJECTORY_ACTIVATION_RATIO, "largest |u| ÷ that of the median channel", NULL, 1,
         true, false, false},
        {LODE_TRAJECTORY_ACTIVATION_OUTLIERS, "activation outliers", "channels, %", 100, false,
         true, false},
        {LODE_TRAJECTORY_ACTIVATION_KURTOSIS, "kurtosis of √E[u²] over channels", NULL, 1, true,
         false, false},
        {LODE_TRAJECTORY_ACTIVATION_OVERLAP, "share of the core in the activation core", "%", 100,
         false, true, true}};
    char caption[512];
    snprintf(caption, sizeof caption,
             "Activations u before the down projection. An activation outlier is a channel whose "
             "largest |u| is more than %g times that of its layer’s median channel; the activation "
             "core are as many channels as the core has, those of largest E[u²]. Its share of the "
             "core says whether activations find the channels that the loss depends on.",
             LODE_TRAJECTORY_OUTLIER);
    return draw_layers(view, shown, 4, "Activation outliers over training", caption);
}

static lode_status_t draw_spikes(const view_t *view) {
    static const shown_t shown[] = {
        {LODE_TRAJECTORY_SPIKE, "largest |Y| of the down projection ÷ its scale", NULL, 1, true,
         false, false},
        {LODE_TRAJECTORY_SUPER_WEIGHTS, "super weights found", NULL, 1, false, true, false}};
    return draw_layers(view, shown, 2, "Super weights over training",
                       "The largest output of each layer’s down projection over all prompts, as a "
                       "multiple of its scale, the median of magnitudes; and the weights that make "
                       "a spike of it, which are zeroed one by one when they are found.");
}

/* Mean and the 5 % and 95 % quantiles over channels, by layer. */
static lode_status_t draw_entropy(const view_t *view) {
    lode_trajectory_t *trajectory = view->trajectory;
    if (!is_drawn(view, LODE_TRAJECTORY_ENTROPY))
        return LODE_OK;
    for (int64_t i = 0; i < trajectory->count; i++) {
        lode_trajectory_checkpoint_t *checkpoint = &trajectory->checkpoints[i];
        checkpoint->low[LODE_TRAJECTORY_ENTROPY] = checkpoint->value[LODE_TRAJECTORY_ENTROPY_LOW];
        checkpoint->high[LODE_TRAJECTORY_ENTROPY] = checkpoint->value[LODE_TRAJECTORY_ENTROPY_HIGH];
    }
    static const shown_t shown = {
        LODE_TRAJECTORY_ENTROPY, "mean write entropy", "nats", 1, false, false, false};
    const lode_status_t status =
        draw_layers(view, &shown, 1, "Write entropy over training",
                    "Entropy of the magnitudes of a channel’s outgoing weights, H = −Σ p ln p with "
                    "p = |w| ÷ Σ|w| over its column of the down projection: the mean over a "
                    "layer’s channels. Bars reach from the 5 % to the 95 % quantile of channels.");
    for (int64_t i = 0; i < trajectory->count; i++)
        trajectory->checkpoints[i].low[LODE_TRAJECTORY_ENTROPY] =
            trajectory->checkpoints[i].high[LODE_TRAJECTORY_ENTROPY] = NULL;
    return status;
}

/* --- losses ----------------------------------------------------------------------------------- */

/* The figure of the unchanged model like another one, NULL where there is none. */
static const lode_report_figure_t *dense_like(const lode_report_case_t *item,
                                              const lode_report_figure_t *like) {
    for (int64_t i = 0; i < item->figure_count; i++)
        if (item->figures[i].variant.kind == LODE_KIND_DENSE &&
            lode_report_same_axis(&item->figures[i], like))
            return &item->figures[i];
    return NULL;
}

/* The figures that charts and tables show: those of the last checkpoint that was evaluated. */
static int texts_of(const lode_trajectory_t *trajectory,
                    const lode_report_figure_t *texts[MOST_TEXTS]) {
    int count = 0;
    for (int64_t c = trajectory->count - 1; c >= 0 && count == 0; c--) {
        const lode_report_case_t *item = trajectory->checkpoints[c].item;
        for (int64_t i = 0; i < item->figure_count && count < MOST_TEXTS; i++) {
            const lode_report_figure_t *figure = &item->figures[i];
            if (figure->variant.kind == LODE_KIND_DENSE && !lode_report_is_derived(figure) &&
                !figure->repeats && strcmp(figure->metric, "acc_norm") != 0)
                texts[count++] = figure;
        }
    }
    return count;
}

static lode_status_t validation_panel(const view_t *view, lode_chart_panel_t *panel,
                                      lode_chart_series_t *series) {
    lode_trajectory_t *trajectory = view->trajectory;
    const int64_t count = trajectory->validations;
    double *columns[3];
    for (int i = 0; i < 3; i++)
        LODE_TRY(lode_shelf_new(&trajectory->shelf, &columns[i], count));
    for (int64_t i = 0; i < count; i++) {
        columns[0][i] = place_of(view, (double)trajectory->step[i]);
        lode_trajectory_band(&columns[1][i], &columns[2][i], trajectory->loss[i],
                             trajectory->error[i]);
    }
    *panel = step_panel(view, "validation loss", "nats a token");
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

static lode_status_t text_panel(const view_t *view, lode_chart_panel_t *panel,
                                lode_chart_series_t *series, const lode_report_figure_t *text,
                                lode_buffer_t *title) {
    lode_trajectory_t *trajectory = view->trajectory;
    double *columns[3];
    const bool loss = lode_report_is_loss(text);
    for (int i = 0; i < 3; i++)
        LODE_TRY(lode_shelf_new(&trajectory->shelf, &columns[i], trajectory->count));
    for (int64_t i = 0; i < trajectory->count; i++) {
        const lode_report_figure_t *figure = dense_like(trajectory->checkpoints[i].item, text);
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
    *panel = step_panel(view, title->data, loss ? NULL : "%");
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

static lode_status_t draw_losses(const view_t *view) {
    const lode_report_figure_t *texts[MOST_TEXTS];
    lode_chart_panel_t panels[MOST_TEXTS + 1];
    lode_chart_series_t series[MOST_TEXTS + 1];
    lode_buffer_t titles[MOST_TEXTS] = {{0}};
    const int text_count = texts_of(view->trajectory, texts);
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
    for (int i = 0; i < MOST_TEXTS; i++)
        lode_buffer_free(&titles[i]);
    return status;
}

/* --- the table ---------------------------------------------------------------------------------
 */

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

static lode_status_t write_summary(const view_t *view, int64_t index, int column) {
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

static lode_status_t write_heads(const view_t *view, const lode_report_figure_t *const *texts,
                                 int text_count, const bool *known, bool spikes) {
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

static lode_status_t write_checkpoint(const view_t *view, int64_t index,
                                      const lode_report_figure_t *const *texts, int text_count,
                                      const bool *known, bool spikes) {
    const lode_trajectory_t *trajectory = view->trajectory;
    const lode_trajectory_checkpoint_t *checkpoint = &trajectory->checkpoints[index];
    LODE_TRY(lode_cells_row(view->page, checkpoint->item->model, false));
    LODE_TRY(lode_cells_count(view->page, checkpoint->item->step));
    if (trajectory->validations > 0)
        LODE_TRY(lode_cells_number(view->page, checkpoint->validation, 4, ""));
    for (int i = 0; i < text_count; i++)
        LODE_TRY(lode_cells_figure(view->page, dense_like(checkpoint->item, texts[i]), NULL));
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

static lode_status_t write_table(const view_t *view) {
    const lode_report_figure_t *texts[MOST_TEXTS];
    bool known[COLUMNS];
    const int text_count = texts_of(view->trajectory, texts);
    bool zero;
    const bool spikes = is_known(view, LODE_TRAJECTORY_SPIKE, &zero);
    double summary[3] = {NAN, NAN, NAN};
    for (int i = 0; i < COLUMNS; i++)
        known[i] = is_known(view, columns[i].figure, &zero);
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

/* --- all of it ---------------------------------------------------------------------------------
 */

/* The steps that tics are at, and that say where step 0 lies: those of checkpoints, and of
 * validations only what reaches farther to the left. */
static lode_status_t list_steps(view_t *view) {
    const lode_trajectory_t *trajectory = view->trajectory;
    double least = INFINITY, first = INFINITY;
    LODE_TRY(lode_shelf_new(&view->trajectory->shelf, &view->steps, trajectory->count + 2));
    for (int64_t i = 0; i < trajectory->count; i++) {
        const double step = (double)trajectory->checkpoints[i].item->step;
        view->steps[view->step_count++] = step;
        view->zero |= step == 0;
        least = step > 0 ? fmin(least, step) : least;
    }
    bool early = false;
    for (int64_t i = 0; i < trajectory->validations; i++) {
        const double step = (double)trajectory->step[i];
        early |= step == 0;
        first = step > 0 ? fmin(first, step) : first;
    }
    if (early && !view->zero)
        view->steps[view->step_count++] = 0;
    if (first < least)
        view->steps[view->step_count++] = first;
    view->zero |= early;
    return LODE_OK;
}

/* The axis that all charts share. */
static lode_status_t make_axis(view_t *view) {
    lode_trajectory_t *trajectory = view->trajectory;
    LODE_TRY(list_steps(view));
    LODE_TRY(lode_shelf_new(&trajectory->shelf, &view->x, trajectory->count));
    view->low = INFINITY;
    for (int64_t i = 0; i < view->step_count; i++) {
        const double place = place_of(view, view->steps[i]);
        view->low = fmin(view->low, place);
        view->high = fmax(view->high, place);
        if (i < trajectory->count)
            view->x[i] = place;
    }
    for (int64_t i = 0; i < trajectory->validations; i++)
        view->high = fmax(view->high, (double)trajectory->step[i]);
    const double room = fmax(1.1, pow(view->high / view->low, 0.07));
    view->low /= room;
    view->high *= room;
    return LODE_OK;
}

lode_status_t lode_trajectory_page(lode_plot_t *plot, lode_buffer_t *page,
                                   lode_trajectory_t *trajectory) {
    view_t view = {.plot = plot, .page = page, .trajectory = trajectory};
    LODE_TRY(make_axis(&view));
    LODE_TRY(write_table(&view));
    LODE_TRY(draw_losses(&view));
    if (trajectory->last < 0)
        return LODE_OK;
    LODE_TRY(draw_concentration(&view));
    LODE_TRY(draw_core(&view));
    LODE_TRY(draw_activations(&view));
    LODE_TRY(draw_spikes(&view));
    return draw_entropy(&view);
}

static lode_status_t add_series(lode_plot_t *plot, lode_buffer_t *page, lode_buffer_t *table,
                                lode_trajectory_t *trajectory) {
    LODE_TRY(lode_trajectory_rows(table, trajectory));
    LODE_TRY(lode_buffer_printf(page, "<h3>"));
    LODE_TRY(lode_page_text(page, trajectory->series));
    if (trajectory->point[0]) {
        LODE_TRY(lode_buffer_printf(page, " <span class=\"point\">"));
        LODE_TRY(lode_page_text(page, trajectory->point));
        LODE_TRY(lode_buffer_printf(page, "</span>"));
    }
    LODE_TRY(lode_buffer_printf(page, "</h3>\n"));
    return lode_trajectory_page(plot, page, trajectory);
}

lode_status_t lode_trajectory_all(lode_plot_t *plot, lode_buffer_t *page, lode_buffer_t *table,
                                  const lode_report_case_t *cases, int64_t count, int64_t seed) {
    bool any = false;
    for (int64_t i = 0; i < count; i++) {
        lode_trajectory_t trajectory;
        if (!lode_trajectory_begins(cases, count, i))
            continue;
        if (!any) {
            LODE_TRY(lode_buffer_printf(table, "series,model,step,layer,figure,value,low,high,"
                                               "point\n"));
            LODE_TRY(
                lode_buffer_printf(page, "<section id=\"trajectory\">\n<h2>Trajectory</h2>\n"));
        }
        any = true;
        lode_status_t status = lode_trajectory_read(&trajectory, cases, count, i, seed);
        if (status == LODE_OK)
            status = add_series(plot, page, table, &trajectory);
        lode_trajectory_free(&trajectory);
        LODE_TRY(status);
    }
    return any ? lode_buffer_printf(page, "</section>\n") : LODE_OK;
}
