/* The checks of channels in an otherwise whole model: ablation of one, of halos, mean replacement.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "report/checks.h"

enum { MAX_PANELS = 12, PANEL_TITLE = 64 };

/* --- single channels -------------------------------------------------------------------- */

/* Spearman's correlations of every probed layer. */
typedef struct spearman {
    int64_t count;
    int32_t *layer;
    double *x;                           /* layer as a number */
    double *value[4], *low[4], *high[4]; /* as in the names below */
} spearman_t;

static lode_status_t read_spearman(lode_checks_t *checks, spearman_t *out) {
    static const char *const names[] = {"loss_proxy", "activation_power", "absolute_loss_proxy",
                                        "absolute_activation_power"};
    *out = (spearman_t){.count = -1};
    LODE_TRY(lode_shelf_i32(&checks->shelf, checks->store, "/ablation/spearman/layer", 1,
                            &out->count, &out->layer));
    if (!out->layer)
        return LODE_OK;
    LODE_TRY(lode_shelf_new(&checks->shelf, &out->x, out->count));
    for (int64_t i = 0; i < out->count; i++)
        out->x[i] = out->layer[i];
    for (int n = 0; n < 4; n++) {
        char path[96];
        double *bounds;
        int64_t shape[2] = {out->count, 2};
        snprintf(path, sizeof path, "/ablation/spearman/%s", names[n]);
        LODE_TRY(
            lode_shelf_f64(&checks->shelf, checks->store, path, 1, &out->count, &out->value[n]));
        snprintf(path, sizeof path, "/ablation/spearman/%s_interval", names[n]);
        LODE_TRY(lode_shelf_f64(&checks->shelf, checks->store, path, 2, shape, &bounds));
        if (!bounds)
            continue;
        LODE_TRY(lode_shelf_new(&checks->shelf, &out->low[n], out->count));
        LODE_TRY(lode_shelf_new(&checks->shelf, &out->high[n], out->count));
        for (int64_t i = 0; i < out->count; i++) {
            out->low[n][i] = bounds[2 * i];
            out->high[n][i] = bounds[2 * i + 1];
        }
    }
    return LODE_OK;
}

/* One layer's channels: |ΔNLL| against LP, by the sign of ΔNLL. */
static lode_status_t ablation_panel(const lode_check_t *check, const spearman_t *spearman,
                                    const double *loss_proxy, int32_t layer,
                                    char title[PANEL_TITLE], lode_chart_series_t series[2],
                                    lode_chart_panel_t *panel) {
    static const char *const names[] = {"loss rises", "loss falls"};
    static const char *const colours[] = {LODE_COLOUR_BLUE, LODE_COLOUR_ORANGE};
    for (int sign = 0; sign < 2; sign++) {
        double *x, *y;
        int64_t count = 0;
        LODE_TRY(lode_shelf_new(&check->checks->shelf, &x, check->count));
        LODE_TRY(lode_shelf_new(&check->checks->shelf, &y, check->count));
        for (int64_t i = 0; i < check->count; i++)
            if (check->integer[0][i] == layer && (check->delta[i] < 0) == (sign == 1)) {
                x[count] = loss_proxy[i];
                y[count++] = fabs(check->delta[i]);
            }
        series[sign] = (lode_chart_series_t){.name = names[sign],
                                             .colour = colours[sign],
                                             .mark = LODE_MARK_POINTS,
                                             .point = sign ? 6 : 7,
                                             .size = 0.42,
                                             .count = count,
                                             .x = x,
                                             .y = y};
    }
    int length = snprintf(title, PANEL_TITLE, "layer %d", layer);
    for (int64_t i = 0; i < spearman->count; i++)
        if (spearman->layer && spearman->layer[i] == layer && spearman->value[0]) {
            length += snprintf(title + length, (size_t)(PANEL_TITLE - length), "   ρ %.2f",
                               spearman->value[0][i]);
            if (spearman->low[0])
                snprintf(title + length, (size_t)(PANEL_TITLE - length), " [%.2f, %.2f]",
                         spearman->low[0][i], spearman->high[0][i]);
        }
    *panel = (lode_chart_panel_t){
        .title = title, .log_x = true, .log_y = true, .series = series, .count = 2};
    return LODE_OK;
}

/* The probed layers, up to MAX_PANELS evenly over them; returns their number. */
static int panel_layers(const lode_check_t *check, int32_t layers[MAX_PANELS], int64_t *all) {
    int32_t highest = 0;
    for (int64_t i = 0; i < check->count; i++)
        highest = check->integer[0][i] > highest ? check->integer[0][i] : highest;
    for (int pass = 0; pass < 2; pass++) {
        int64_t seen = 0;
        int count = 0;
        for (int32_t layer = 0; layer <= highest; layer++) {
            bool probed = false;
            for (int64_t i = 0; !probed && i < check->count; i++)
                probed = check->integer[0][i] == layer;
            if (!probed)
                continue;
            const int64_t wanted =
                pass == 0 || *all <= MAX_PANELS ? count : count * (*all - 1) / (MAX_PANELS - 1);
            if (pass == 1 && seen == wanted && count < MAX_PANELS)
                layers[count++] = layer;
            seen++;
        }
        *all = seen;
        if (pass == 1)
            return count;
    }
    return 0;
}

static lode_status_t draw_scatter(const lode_check_t *check, const spearman_t *spearman,
                                  const double *loss_proxy) {
    int32_t layers[MAX_PANELS];
    char titles[MAX_PANELS][PANEL_TITLE];
    lode_chart_series_t series[MAX_PANELS][2];
    lode_chart_panel_t panels[MAX_PANELS];
    int64_t all = 0;
    const int count = panel_layers(check, layers, &all);
    const int columns = count < 3 ? count : 3;
    for (int i = 0; i < count; i++) {
        LODE_TRY(ablation_panel(check, spearman, loss_proxy, layers[i], titles[i], series[i],
                                &panels[i]));
        panels[i].x_label = i + columns >= count ? "loss proxy" : NULL;
        panels[i].y_label = i % columns == 0 ? "|ΔNLL|, nats" : NULL;
    }
    const lode_chart_t chart = {
        .panels = panels, .count = count, .columns = columns, .panel_height = 170};
    char caption[640];
    snprintf(caption, sizeof caption,
             "What the loss does when a single channel is set to 0, against the channel’s loss "
             "proxy; %lld channels of %lld layers, drawn evenly over quantiles of the loss proxy. "
             "ρ is Spearman’s correlation of the signed ΔNLL with the loss proxy over all sampled "
             "channels of the layer, with its 95 %% bootstrap interval over channels. Channels "
             "whose loss proxy or ΔNLL is 0 count in ρ but have no place on these axes.",
             (long long)check->count, (long long)all);
    return lode_check_draw(check, &chart, "Ablation of single channels", caption);
}

static lode_status_t draw_spearman(const lode_check_t *check, const spearman_t *spearman) {
    static const struct {
        const char *name, *colour;
        int dash, point;
    } looks[] = {{"ΔNLL with loss proxy", LODE_COLOUR_BLUE, 1, 7},
                 {"ΔNLL with activation power", LODE_COLOUR_VERMILION, 1, 5},
                 {"|ΔNLL| with loss proxy", LODE_COLOUR_SKY, 2, 6},
                 {"|ΔNLL| with activation power", LODE_COLOUR_ORANGE, 2, 4}};
    lode_chart_series_t series[4];
    if (!spearman->layer || spearman->count < 1)
        return LODE_OK;
    for (int n = 0; n < 4; n++)
        series[n] = (lode_chart_series_t){.name = looks[n].name,
                                          .colour = looks[n].colour,
                                          .mark = LODE_MARK_BOTH,
                                          .dash = looks[n].dash,
                                          .point = looks[n].point,
                                          .size = 0.6,
                                          .count = spearman->value[n] ? spearman->count : 0,
                                          .x = spearman->x,
                                          .y = spearman->value[n],
                                          .low = spearman->low[n],
                                          .high = spearman->high[n],
                                          .shift = 0.1 * (n - 1.5)};
    const lode_chart_panel_t panel = {.x_label = "layer",
                                      .y_label = "Spearman’s ρ",
                                      .whole_x = true,
                                      .level_name = "",
                                      .series = series,
                                      .count = 4};
    const lode_chart_t chart = {.panels = &panel, .count = 1, .columns = 1};
    return lode_check_draw(check, &chart, "How well a channel’s statistics foretell its ablation",
                           "Rank correlation, over the sampled channels of a layer, of the change "
                           "in loss with the loss proxy and with the activation power; dashed, of "
                           "its absolute value. Bars are 95 % bootstrap intervals over channels.");
}

lode_status_t lode_checks_ablation(lode_checks_t *checks) {
    static const char *const integers[] = {"layer", "channel", NULL};
    lode_check_t check;
    spearman_t spearman;
    double *loss_proxy;
    LODE_TRY(lode_check_open(&check, checks, "/ablation", integers));
    if (!check.exists)
        return LODE_OK;
    LODE_TRY(lode_check_floats(&check, "loss_proxy", &loss_proxy));
    LODE_TRY(read_spearman(checks, &spearman));
    if (loss_proxy)
        LODE_TRY(draw_scatter(&check, &spearman, loss_proxy));
    return draw_spearman(&check, &spearman);
}

/* --- halos ------------------------------------------------------------------------------ */

/* The series of one kind by layer: points with their standard errors, and where there are several
 * draws, whose standard errors say nothing of each other, their mean alone as a line. */
static lode_status_t kind_series(const lode_check_t *check, const double *x, const bool *chosen,
                                 lode_chart_series_t *series) {
    lode_chart_series_t points = *series;
    LODE_TRY(lode_check_points(check, false, x, chosen, &points));
    LODE_TRY(lode_check_means(check, false, x, chosen, series));
    if (points.count == series->count) {
        series->low = points.low;
        series->high = points.high;
        series->x = points.x;
        series->y = points.y;
    }
    return LODE_OK;
}

static lode_status_t draw_halos(const lode_check_t *check, double *x, bool *chosen) {
    static const struct {
        const char *spelled, *name, *colour;
        int panel, point;
    } kinds[] = {{"halo", "halo", LODE_COLOUR_BLUE, 0, 7},
                 {"matched", "matched non-halo", LODE_COLOUR_GREY, 0, 5},
                 {"core", "core", LODE_COLOUR_BLACK, 1, 13},
                 {"core+halo", "core + halo", LODE_COLOUR_VERMILION, 1, 7},
                 {"core+matched", "core + matched non-halo", LODE_COLOUR_ORANGE, 1, 5}};
    lode_chart_series_t series[2][3];
    int64_t counts[2] = {0, 0};
    for (int kind = 0; kind < 5; kind++) {
        int32_t code;
        LODE_TRY(lode_check_code(check, "kind", kinds[kind].spelled, &code));
        const int p = kinds[kind].panel;
        lode_chart_series_t *into = &series[p][counts[p]];
        for (int64_t i = 0; i < check->count; i++) {
            x[i] = check->integer[0][i];
            chosen[i] = check->integer[1][i] == code;
        }
        *into = (lode_chart_series_t){.name = kinds[kind].name,
                                      .colour = kinds[kind].colour,
                                      .mark = LODE_MARK_BOTH,
                                      .point = kinds[kind].point,
                                      .shift = 0.12 * ((double)counts[p] - 1)};
        LODE_TRY(kind_series(check, x, chosen, into));
        counts[p] += into->count > 0;
    }
    const lode_chart_panel_t panels[] = {{.title = "core in place",
                                          .x_label = "layer",
                                          .y_label = "ΔNLL, nats",
                                          .whole_x = true,
                                          .level_name = "",
                                          .series = series[0],
                                          .count = counts[0]},
                                         {.title = "core removed",
                                          .x_label = "layer",
                                          .whole_x = true,
                                          .level_name = "",
                                          .series = series[1],
                                          .count = counts[1]}};
    const lode_chart_t chart = {.panels = panels, .count = 2, .columns = 2};
    char caption[512];
    snprintf(caption, sizeof caption,
             "Change in loss when %lld halo channels of one layer are set to 0, or as many "
             "non-halo channels matched to them in decile of the loss proxy; with the core of %lld "
             "in place, and without it. Bars are one standard error over texts, paired; of several "
             "matched sets the mean is shown, without one.",
             (long long)check->set_size, (long long)check->core_size);
    return lode_check_draw(check, &chart, "Conditional ablation of the halo", caption);
}

lode_status_t lode_checks_halo_ablation(lode_checks_t *checks) {
    static const char *const integers[] = {"layer", "kind", NULL};
    lode_check_t check;
    double *x;
    bool *chosen;
    LODE_TRY(lode_check_open(&check, checks, "/halo_ablation", integers));
    if (!check.exists)
        return LODE_OK;
    LODE_TRY(lode_shelf_new(&checks->shelf, &x, check.count));
    LODE_TRY(LODE_NEW(&chosen, check.count, "candidates"));
    lode_status_t status = draw_halos(&check, x, chosen);
    free(chosen);
    return status;
}

/* --- mean replacement ------------------------------------------------------------------- */

enum { LAYER, KIND, REPLACEMENT };

/* Candidates of a kind and a replacement, in single layers or in all at once. */
static void choose(bool *chosen, double *x, const lode_check_t *check, const int32_t codes[2],
                   bool all_layers) {
    for (int64_t i = 0; i < check->count; i++) {
        chosen[i] = (check->integer[LAYER][i] < 0) == all_layers &&
                    check->integer[KIND][i] == codes[0] &&
                    check->integer[REPLACEMENT][i] == codes[1];
        x[i] = check->integer[LAYER][i];
    }
}

static lode_status_t draw_replacement(const lode_check_t *check, double *x, bool *chosen) {
    static const char *const kinds[] = {"LP core", "activation core", "random sets"};
    static const char *const kinds_spelled[] = {"lp", "activation", "random"};
    static const char *const replacements_spelled[] = {"zero", "mean"};
    static const char *const names[3][2] = {{"LP core to 0", "LP core to its mean"},
                                            {"activation core to 0", "activation core to mean"},
                                            {"random sets to 0", "random sets to mean"}};
    static const char *const colours[] = {LODE_COLOUR_VERMILION, LODE_COLOUR_BLUE,
                                          LODE_COLOUR_GREY};
    static const int points[2][3] = {{7, 5, 9}, {6, 4, 8}};
    lode_chart_series_t series[2][6];
    for (int i = 0; i < 6; i++) {
        const int kind = i / 2, replacement = i % 2;
        const lode_chart_series_t look = {.name = names[kind][replacement],
                                          .colour = colours[kind],
                                          .point = points[replacement][kind],
                                          .dash = 1 + replacement};
        series[0][i] = series[1][i] = look;
        series[0][i].mark = LODE_MARK_BOTH;
        series[1][i].mark = LODE_MARK_POINTS;
        series[1][i].size = 0.8;
        series[0][i].shift = 0.08 * (i - 2.5);
        series[1][i].shift = 0.24 * (replacement - 0.5);
        int32_t codes[2];
        LODE_TRY(lode_check_code(check, "kind", kinds_spelled[kind], &codes[0]));
        LODE_TRY(
            lode_check_code(check, "replacement", replacements_spelled[replacement], &codes[1]));
        choose(chosen, x, check, codes, false);
        LODE_TRY(kind_series(check, x, chosen, &series[0][i]));
        choose(chosen, x, check, codes, true);
        for (int64_t candidate = 0; candidate < check->count; candidate++)
            x[candidate] = kind;
        LODE_TRY(lode_check_points(check, false, x, chosen, &series[1][i]));
    }
    const lode_chart_panel_t panels[] = {{.title = "one layer at a time",
                                          .x_label = "layer",
                                          .y_label = "ΔNLL, nats",
                                          .whole_x = true,
                                          .level_name = "",
                                          .series = series[0],
                                          .count = 6},
                                         {.title = "all layers at once",
                                          .names = kinds,
                                          .name_count = 3,
                                          .level_name = "",
                                          .series = series[1],
                                          .count = 6}};
    const lode_chart_t chart = {.panels = panels, .count = 2, .columns = 2};
    return lode_check_draw(check, &chart, "Mean replacement",
                           "Change in loss when a set of channels is replaced by 0 (filled), or by "
                           "each channel’s mean over the calibration (open): if the mean does as "
                           "little harm, the channels act as constants. Random sets have the "
                           "core’s size; on the left their mean is shown, on the right each. Bars "
                           "are one standard error over texts, paired.");
}

lode_status_t lode_checks_replacement(lode_checks_t *checks) {
    static const char *const integers[] = {"layer", "kind", "replacement", NULL};
    lode_check_t check;
    double *x;
    bool *chosen;
    LODE_TRY(lode_check_open(&check, checks, "/mean_replacement", integers));
    if (!check.exists)
        return LODE_OK;
    LODE_TRY(lode_shelf_new(&checks->shelf, &x, check.count));
    LODE_TRY(LODE_NEW(&chosen, check.count, "candidates"));
    lode_status_t status = draw_replacement(&check, x, chosen);
    free(chosen);
    return status;
}
