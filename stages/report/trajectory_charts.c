/* Figures of layers against the step of training. */
#include "report/trajectory_view.h"

#include <math.h>
#include <stdio.h>

#include "report/figures.h"

enum { BARS = 12, MOST_PANELS = 8 }; /* layers whose intervals are drawn; panels of a figure */

/* --- series of charts ------------------------------------------------------------------------- */

/* Intervals of `places` series lie side by side, a little apart on the logarithmic axis. */
static double aside(const lode_trajectory_view_t *view, int64_t place, int64_t places) {
    const double apart = fmin(0.011, 0.09 / (double)places) * log(view->high / view->low);
    return exp(apart * ((double)place - 0.5 * (double)(places - 1)));
}

/* A figure of one layer; `unit` is what it is multiplied by. */
static lode_status_t add_layer(const lode_trajectory_view_t *view, lode_chart_series_t *series,
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
static lode_status_t add_median(const lode_trajectory_view_t *view, lode_chart_series_t *series,
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

/* Whether there is something to draw: a figure that is 0 everywhere the table says. */
static bool is_drawn(const lode_trajectory_view_t *view, lode_trajectory_figure_t figure) {
    bool all_zero;
    return lode_trajectory_known(view, figure, &all_zero) && !all_zero;
}

/* Room for a panel's series: all layers and their median. */
static lode_status_t new_series(const lode_trajectory_view_t *view, lode_chart_series_t **series,
                                int64_t count) {
    double *room;
    const int64_t doubles =
        (int64_t)((sizeof **series * (size_t)count + sizeof *room - 1) / sizeof *room);
    LODE_TRY(lode_shelf_new(&view->trajectory->shelf, &room, doubles));
    *series = (lode_chart_series_t *)(void *)room;
    return LODE_OK;
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
static lode_status_t layer_panel(const lode_trajectory_view_t *view, lode_chart_panel_t *panel,
                                 const shown_t *shown) {
    lode_trajectory_t *trajectory = view->trajectory;
    lode_chart_series_t *series;
    double summary[3];
    LODE_TRY(new_series(view, &series, trajectory->layers + 1));
    *panel = lode_trajectory_panel(view, shown->title, shown->label);
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
static lode_status_t draw_layers(const lode_trajectory_view_t *view, const shown_t *shown,
                                 int count, const char *title, const char *caption) {
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
static lode_status_t fixed_panel(const lode_trajectory_view_t *view, lode_chart_panel_t *panel) {
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
    *panel =
        lode_trajectory_panel(view, "core mass at fixed ρ, median and range", "share of LP, %");
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

static lode_status_t draw_concentration(const lode_trajectory_view_t *view) {
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

/* The intervals that are made for the series, for a caption. */
static void say_intervals(const lode_trajectory_t *trajectory, const char *pairing, char *text,
                          size_t room) {
    if (trajectory->draws > 0)
        snprintf(text, room,
                 "Bars are 95 %% bootstrap intervals of %lld draws of the calibration sequences%s.",
                 (long long)trajectory->draws, pairing);
    else
        snprintf(text, room,
                 "No intervals: their bootstrap needs the sums of two calibration sequences or "
                 "more, and at this size may take too long.");
}

static lode_status_t draw_fixed(const lode_trajectory_view_t *view) {
    static const shown_t shown[] = {
        {LODE_TRAJECTORY_MASS_HALF, "core mass at ρ = 0.5 %", "share of LP, %", 100, false, true,
         false},
        {LODE_TRAJECTORY_MASS_ONE, "core mass at ρ = 1 %", NULL, 100, false, true, false},
        {LODE_TRAJECTORY_MASS_TWO, "core mass at ρ = 2 %", "share of LP, %", 100, false, true,
         false},
        {LODE_TRAJECTORY_MASS_FIVE, "core mass at ρ = 5 %", NULL, 100, false, true, false}};
    char caption[400], intervals[200];
    say_intervals(view->trajectory, "", intervals, sizeof intervals);
    snprintf(caption, sizeof caption,
             "What the channels of largest loss proxy have of it, by layer, as many at each "
             "checkpoint. %s",
             intervals);
    return draw_layers(view, shown, 4, "Core mass at fixed ρ", caption);
}

static lode_status_t draw_core(const lode_trajectory_view_t *view) {
    static const shown_t shown[] = {{LODE_TRAJECTORY_OVERLAP, "share of the last core in the core",
                                     "%", 100, false, true, true},
                                    {LODE_TRAJECTORY_CORRELATION,
                                     "Spearman’s ρ of LP with the last LP", NULL, 1, false, false,
                                     false}};
    const lode_trajectory_t *trajectory = view->trajectory;
    char caption[640], intervals[200];
    say_intervals(trajectory, ", the same ones for both checkpoints", intervals, sizeof intervals);
    snprintf(caption, sizeof caption,
             "Against the core and the loss proxy of %.96s, step %lld: how much of that core each "
             "checkpoint has as its core already (chance: as many channels at random), and the "
             "rank correlation of the loss proxy over all channels. %s",
             trajectory->checkpoints[trajectory->last].item->model,
             (long long)trajectory->checkpoints[trajectory->last].item->step, intervals);
    return draw_layers(view, shown, 2, "When the core is found", caption);
}

static lode_status_t draw_activations(const lode_trajectory_view_t *view) {
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

static lode_status_t draw_spikes(const lode_trajectory_view_t *view) {
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
static lode_status_t draw_entropy(const lode_trajectory_view_t *view) {
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

lode_status_t lode_trajectory_charts(const lode_trajectory_view_t *view) {
    LODE_TRY(draw_concentration(view));
    LODE_TRY(draw_fixed(view));
    LODE_TRY(draw_core(view));
    LODE_TRY(draw_activations(view));
    LODE_TRY(draw_spikes(view));
    return draw_entropy(view);
}
