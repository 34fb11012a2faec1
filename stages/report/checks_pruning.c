/* The checks that prune: dose response, random cores, score against core. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "report/checks.h"
#include "report/page.h"

/* Which candidates have the integer `which` equal to `value`. */
static void choose(bool *chosen, const lode_check_t *check, int which, int32_t value) {
    for (int64_t i = 0; i < check->count; i++)
        chosen[i] = check->integer[which][i] == value;
}

/* --- dose response ---------------------------------------------------------------------- */

static lode_status_t draw_dose(const lode_check_t *check, double *rate, bool *chosen) {
    for (int64_t i = 0; i < check->count; i++) {
        rate[i] *= 100;
        chosen[i] = true;
    }
    lode_chart_series_t series[2] = {{.name = "one random mask",
                                      .colour = LODE_COLOUR_BLUE,
                                      .mark = LODE_MARK_POINTS,
                                      .size = 0.6},
                                     {.name = "geometric mean of the draws",
                                      .colour = LODE_COLOUR_VERMILION,
                                      .mark = LODE_MARK_LINE}};
    LODE_TRY(lode_check_points(check, true, rate, chosen, &series[0]));
    LODE_TRY(lode_check_means(check, true, rate, chosen, &series[1]));
    const lode_chart_panel_t panel = {.x_label = "core channels removed, %",
                                      .y_label = "perplexity",
                                      .log_y = true,
                                      .level = check->text.perplexity,
                                      .level_name = "dense",
                                      .series = series,
                                      .count = 2};
    const lode_chart_t chart = {.panels = &panel, .count = 1, .columns = 1, .panel_height = 260};
    char caption[512];
    snprintf(caption, sizeof caption,
             "Random masks that remove %g %% of each layer’s channels, and exactly the given share "
             "of its core of %lld: any difference along the axis is the core’s. Bars are one "
             "standard error over targets.",
             100 * check->sparsity, (long long)check->core_size);
    return lode_check_draw(check, &chart, "Dose response: perplexity against the core removed",
                           caption);
}

lode_status_t lode_checks_dose(lode_checks_t *checks) {
    static const char *const integers[] = {"draw", NULL};
    lode_check_t check;
    double *rate;
    bool *chosen;
    LODE_TRY(lode_check_open(&check, checks, "/dose_response", integers));
    if (!check.exists)
        return LODE_OK;
    LODE_TRY(lode_check_floats(&check, "rate", &rate));
    if (!rate)
        return LODE_OK;
    LODE_TRY(LODE_NEW(&chosen, check.count, "candidates"));
    lode_status_t status = draw_dose(&check, rate, chosen);
    free(chosen);
    return status;
}

/* --- random cores ----------------------------------------------------------------------- */

static lode_status_t draw_cores(const lode_check_t *check, double *x, bool *chosen) {
    static const char *const names[] = {"LP core", "no core", "random cores"};
    static const char *const colours[] = {LODE_COLOUR_VERMILION, LODE_COLOUR_GREY,
                                          LODE_COLOUR_BLUE};
    lode_chart_series_t series[4];
    int32_t draws = 0;
    for (int64_t i = 0; i < check->count; i++)
        draws += check->integer[0][i] == 2;
    for (int64_t i = 0, draw = 0; i < check->count; i++) {
        /* Draws lie side by side. */
        x[i] = check->integer[0][i];
        if (check->integer[0][i] == 2 && draws > 1)
            x[i] += 0.5 * ((double)draw++ / (draws - 1) - 0.5);
    }
    for (int core = 0; core < 3; core++) {
        choose(chosen, check, 0, core);
        series[core] =
            (lode_chart_series_t){.colour = colours[core], .mark = LODE_MARK_POINTS, .size = 0.8};
        LODE_TRY(lode_check_points(check, true, x, chosen, &series[core]));
    }
    for (int64_t i = 0; i < check->count; i++)
        x[i] = check->integer[0][i];
    series[3] = (lode_chart_series_t){
        .colour = LODE_COLOUR_BLUE, .mark = LODE_MARK_POINTS, .point = 2, .size = 1.1};
    LODE_TRY(lode_check_means(check, true, x, chosen, &series[3]));
    const lode_chart_panel_t panel = {.names = names,
                                      .name_count = 3,
                                      .x_label = "protected",
                                      .y_label = "perplexity",
                                      .log_y = true,
                                      .level = check->text.perplexity,
                                      .level_name = "dense",
                                      .series = series,
                                      .count = 4};
    const lode_chart_t chart = {.panels = &panel, .count = 1, .columns = 1};
    char caption[512];
    snprintf(caption, sizeof caption,
             "Channels ranked by loss proxy, %g %% removed, with a core of %lld channels of each "
             "layer protected: the LP core, none, or %d random ones (cross: their geometric mean). "
             "Bars are one standard error over targets.",
             100 * check->sparsity, (long long)check->core_size, draws);
    return lode_check_draw(check, &chart, "Random cores", caption);
}

lode_status_t lode_checks_cores(lode_checks_t *checks) {
    static const char *const integers[] = {"core", "draw", NULL};
    lode_check_t check;
    double *x;
    bool *chosen;
    LODE_TRY(lode_check_open(&check, checks, "/random_cores", integers));
    if (!check.exists)
        return LODE_OK;
    LODE_TRY(lode_shelf_new(&checks->shelf, &x, check.count));
    LODE_TRY(LODE_NEW(&chosen, check.count, "candidates"));
    lode_status_t status = draw_cores(&check, x, chosen);
    free(chosen);
    return status;
}

/* --- score against core ----------------------------------------------------------------- */

static lode_status_t write_score_core_cell(lode_buffer_t *page, const lode_check_t *check,
                                           int32_t score, int32_t core) {
    for (int64_t i = 0; i < check->count; i++)
        if (check->integer[0][i] == score && check->integer[1][i] == core)
            return lode_buffer_printf(page,
                                      "<td class=\"n\">%.4g ± %.2g <span class=\"point\">%.2f×"
                                      "</span></td>",
                                      check->perplexity[i], check->perplexity_error[i],
                                      check->perplexity[i] / check->text.perplexity);
    return lode_buffer_printf(page, "<td class=\"n\">–</td>");
}

lode_status_t lode_checks_score_core(lode_checks_t *checks) {
    static const char *const integers[] = {"score", "core", NULL};
    static const char *const scores[] = {"loss proxy", "activation power"};
    lode_check_t check;
    lode_buffer_t *page = &checks->item->topics[LODE_TOPIC_CHECKS], caption = {0};
    LODE_TRY(lode_check_open(&check, checks, "/score_core", integers));
    if (!check.exists)
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(
        page, "<figure><div class=\"wide\" tabindex=\"0\"><table>\n<thead><tr><th>ranked by</th>"
              "<th class=\"n\">LP core protected</th><th class=\"n\">activation core</th>"
              "<th class=\"n\">no core</th></tr></thead>\n<tbody>\n"));
    for (int32_t score = 0; score < 2; score++) {
        LODE_TRY(lode_buffer_printf(page, "<tr><th scope=\"row\">%s</th>", scores[score]));
        for (int32_t core = 0; core < 3; core++)
            LODE_TRY(write_score_core_cell(page, &check, score, core));
        LODE_TRY(lode_buffer_printf(page, "</tr>\n"));
    }
    LODE_TRY(lode_buffer_printf(page, "</tbody></table></div><figcaption><b>Score against core."
                                      "</b> "));
    lode_status_t status = lode_buffer_printf(
        &caption,
        "Perplexity ± standard error over targets, and its ratio to the dense model’s %.4g, with "
        "%g %% of each layer’s channels removed: what ranks the channels and which core of %lld "
        "is protected are separate questions.",
        check.text.perplexity, 100 * check.sparsity, (long long)check.core_size);
    if (status == LODE_OK)
        status = lode_check_text(&check, &caption);
    if (status == LODE_OK)
        status = lode_page_text(page, caption.data);
    lode_buffer_free(&caption);
    LODE_TRY(status);
    return lode_buffer_printf(page, "</figcaption></figure>\n");
}
