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
        /* Of a small core the rate asked for may not be to be had. */
        rate[i] = check->core_size > 0
                      ? 100 * (double)check->integer[0][i] / (double)check->core_size
                      : 100 * rate[i];
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
             "of its %lld supernodes: any difference along the axis is the core’s. Bars are one "
             "standard error over targets.",
             100 * check->sparsity, (long long)check->core_size);
    return lode_check_draw(check, &chart, "Dose response: perplexity against the core removed",
                           caption);
}

lode_status_t lode_checks_dose(lode_checks_t *checks) {
    static const char *const integers[] = {"core_removed", NULL};
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

/* Places on the x axis: 0 the LP core, 1 none, 2 random ones, side by side where `apart`. */
static void place_cores(double *x, const lode_check_t *check, const int32_t codes[3], bool apart) {
    int64_t draws = 0, draw = 0;
    for (int64_t i = 0; i < check->count; i++)
        draws += check->integer[0][i] == codes[2];
    for (int64_t i = 0; i < check->count; i++) {
        const int32_t code = check->integer[0][i];
        x[i] = code == codes[0] ? 0 : code == codes[1] ? 1 : 2;
        if (apart && code == codes[2] && draws > 1)
            x[i] += 0.5 * ((double)draw++ / (double)(draws - 1) - 0.5);
    }
}

static lode_status_t draw_cores(const lode_check_t *check, double *x, bool *chosen) {
    static const char *const names[] = {"LP core", "no core", "random cores"};
    static const char *const spelled[] = {"lp", "none", "random"};
    static const char *const colours[] = {LODE_COLOUR_VERMILION, LODE_COLOUR_GREY,
                                          LODE_COLOUR_BLUE};
    lode_chart_series_t series[4];
    int32_t codes[3];
    for (int core = 0; core < 3; core++)
        LODE_TRY(lode_check_code(check, "core", spelled[core], &codes[core]));
    place_cores(x, check, codes, true);
    for (int core = 0; core < 3; core++) {
        choose(chosen, check, 0, codes[core]);
        series[core] =
            (lode_chart_series_t){.colour = colours[core], .mark = LODE_MARK_POINTS, .size = 0.8};
        LODE_TRY(lode_check_points(check, true, x, chosen, &series[core]));
    }
    place_cores(x, check, codes, false);
    series[3] = (lode_chart_series_t){
        .colour = LODE_COLOUR_BLACK, .mark = LODE_MARK_POINTS, .point = 2, .size = 1.1};
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
             "layer protected: the LP core, none, or %lld random ones (cross: their geometric "
             "mean). Bars are one standard error over targets.",
             100 * check->sparsity, (long long)check->core_size, (long long)series[2].count);
    return lode_check_draw(check, &chart, "Random cores", caption);
}

lode_status_t lode_checks_cores(lode_checks_t *checks) {
    static const char *const integers[] = {"core", NULL};
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
                                           const char *score_name, const char *core_name) {
    int32_t score, core;
    LODE_TRY(lode_check_code(check, "score", score_name, &score));
    LODE_TRY(lode_check_code(check, "core", core_name, &core));
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
    static const char *const scores_spelled[] = {"lp", "activation"};
    static const char *const cores_spelled[] = {"lp", "activation", "none"};
    lode_check_t check;
    lode_buffer_t *page = &checks->item->topics[LODE_TOPIC_CHECKS], caption = {0};
    LODE_TRY(lode_check_open(&check, checks, "/score_core", integers));
    if (!check.exists)
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(
        page, "<figure><div class=\"wide\" tabindex=\"0\"><table>\n<thead><tr><th>ranked by</th>"
              "<th class=\"n\">LP core protected</th><th class=\"n\">activation core</th>"
              "<th class=\"n\">no core</th></tr></thead>\n<tbody>\n"));
    for (int score = 0; score < 2; score++) {
        LODE_TRY(lode_buffer_printf(page, "<tr><th scope=\"row\">%s</th>", scores[score]));
        for (int core = 0; core < 3; core++)
            LODE_TRY(
                write_score_core_cell(page, &check, scores_spelled[score], cores_spelled[core]));
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
