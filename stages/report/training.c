#include "report/training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/cells.h"
#include "report/chart.h"
#include "report/figures.h"
#include "report/page.h"
#include "report/shelf.h"

/* Blocks of a curve at most; single steps that are drawn; runs of a chart; panels. */
enum { BLOCKS = 300, POINTS = 500, RUNS = 8, PANELS = 6, LABEL = 192 };

/* train.h5 of one case; arrays are the shelf's, NULL where the file has not got them. */
typedef struct run {
    const lode_report_case_t *item;
    const char *digest, *tokens; /* of train.h5 and of tokenize.h5 */
    char label[LABEL];
    int64_t steps, batch, length, parameters;
    double *loss, *gradient_norm, *learning_rate, *entropy_weight, *entropy; /* [steps] */
    int64_t validations, layers;
    int64_t *validation_step;
    double *validation_loss, *validation_error; /* [validations] */
    double *validation_entropy;                 /* [validations, layers] */
    bool drawn;
} run_t;

typedef struct training {
    lode_plot_t *plot;
    lode_buffer_t *page;
    run_t *runs;
    int64_t count;
    bool models, points; /* whether runs differ in them */
    lode_shelf_t shelf;
} training_t;

int64_t lode_training_means(double *means, const double *values, int64_t count, int64_t block) {
    int64_t blocks = 0;
    for (int64_t begin = 0; begin < count; begin += block) {
        double sum = 0;
        int64_t known = 0;
        for (int64_t i = begin; i < begin + block && i < count; i++)
            if (isfinite(values[i])) {
                sum += values[i];
                known++;
            }
        means[blocks++] = known > 0 ? sum / (double)known : NAN;
    }
    return blocks;
}

double lode_training_final(const double *values, int64_t count) {
    const int64_t last = count >= 20 ? count / 20 : 1;
    double sum = 0;
    for (int64_t i = count - last; i < count; i++)
        sum += values[i];
    return sum / (double)last;
}

/* --- reading ------------------------------------------------------------------------------- */

static const char *digest_of(const lode_report_case_t *item, const char *stage) {
    for (int i = 0; i < LODE_REPORT_STAGES; i++)
        if (strcmp(item->origins[i].stage, stage) == 0)
            return item->origins[i].digest;
    return "";
}

static lode_status_t read_attribute(lode_store_t *store, const char *name, int64_t *value) {
    return lode_store_has_attribute(store, "/", name)
               ? lode_store_get_attribute_i64(store, "/", name, value)
               : LODE_OK;
}

static lode_status_t read_run(training_t *training, run_t *run, lode_store_t *store) {
    const struct {
        const char *name;
        double **into;
    } curves[] = {{"/loss", &run->loss},
                  {"/gradient_norm", &run->gradient_norm},
                  {"/learning_rate", &run->learning_rate},
                  {"/entropy_weight", &run->entropy_weight},
                  {"/entropy", &run->entropy}};
    lode_shelf_t *shelf = &training->shelf;
    int64_t entropy[2];
    run->steps = run->validations = -1;
    for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++)
        LODE_TRY(lode_shelf_f64(shelf, store, curves[i].name, 1, &run->steps, curves[i].into));
    LODE_TRY(lode_shelf_i64(shelf, store, "/validation/step", 1, &run->validations,
                            &run->validation_step));
    LODE_TRY(lode_shelf_f64(shelf, store, "/validation/loss", 1, &run->validations,
                            &run->validation_loss));
    LODE_TRY(lode_shelf_f64(shelf, store, "/validation/stderr", 1, &run->validations,
                            &run->validation_error));
    entropy[0] = run->validations;
    entropy[1] = -1;
    LODE_TRY(
        lode_shelf_f64(shelf, store, "/validation/entropy", 2, entropy, &run->validation_entropy));
    run->layers = run->validation_entropy ? entropy[1] : 0;
    if (!run->loss || run->steps < 0)
        run->steps = 0;
    if (!run->validation_step || run->validations < 0)
        run->validations = 0;
    LODE_TRY(read_attribute(store, "batch", &run->batch));
    LODE_TRY(read_attribute(store, "length", &run->length));
    return read_attribute(store, "parameters", &run->parameters);
}

static lode_status_t read_runs(training_t *training, const lode_report_case_t *cases,
                               int64_t count) {
    LODE_TRY(LODE_NEW(&training->runs, count, "training runs"));
    for (int64_t i = 0; i < count; i++) {
        lode_store_t *store;
        LODE_TRY(lode_report_open(&store, &cases[i], "train"));
        if (!store)
            continue;
        run_t *run = &training->runs[training->count++];
        run->item = &cases[i];
        run->digest = digest_of(&cases[i], "train");
        run->tokens = digest_of(&cases[i], "tokenize");
        const lode_status_t status = read_run(training, run, store);
        lode_store_close(&store);
        LODE_TRY(lode_fail_context(status, "%s/train.h5", cases[i].folder));
    }
    for (int64_t i = 1; i < training->count; i++) {
        const lode_report_case_t *a = training->runs[0].item, *b = training->runs[i].item;
        training->models |= strcmp(a->model, b->model) != 0;
        training->points |= strcmp(a->point, b->point) != 0;
    }
    return LODE_OK;
}

/* What tells a run from the others. */
static void label_runs(training_t *training) {
    for (int64_t i = 0; i < training->count; i++) {
        run_t *run = &training->runs[i];
        const bool both = training->models && training->points;
        snprintf(run->label, sizeof run->label, "%s%s%s",
                 training->models || !training->points ? run->item->model : "", both ? ", " : "",
                 training->points ? run->item->point : "");
    }
}

/* --- curves -------------------------------------------------------------------------------- */

static int64_t block_of(int64_t steps) {
    return steps > BLOCKS ? (steps + BLOCKS - 1) / BLOCKS : 1;
}

/* Block means of a curve over steps 1 … n; nothing drawn where there is no curve. */
static lode_status_t add_curve(training_t *training, const run_t *run, const double *values,
                               lode_chart_series_t *series) {
    const int64_t block = block_of(run->steps);
    double *x, *y;
    series->mark = LODE_MARK_LINE;
    if (!values || run->steps == 0)
        return LODE_OK;
    LODE_TRY(lode_shelf_new(&training->shelf, &x, BLOCKS));
    LODE_TRY(lode_shelf_new(&training->shelf, &y, BLOCKS));
    series->count = lode_training_means(y, values, run->steps, block);
    for (int64_t b = 0; b < series->count; b++) {
        const int64_t end = (b + 1) * block < run->steps ? (b + 1) * block : run->steps;
        x[b] = 0.5 * (double)(b * block + 1 + end);
    }
    series->x = x;
    series->y = y;
    return LODE_OK;
}

/* Single steps, evenly thinned, behind the curve. */
static lode_status_t add_points(training_t *training, const run_t *run, const double *values,
                                lode_chart_series_t *series) {
    const int64_t every = run->steps > POINTS ? (run->steps + POINTS - 1) / POINTS : 1;
    double *x, *y;
    *series = (lode_chart_series_t){.colour = "#c9d6df", .mark = LODE_MARK_POINTS, .size = 0.22};
    if (!values || block_of(run->steps) == 1)
        return LODE_OK;
    LODE_TRY(lode_shelf_new(&training->shelf, &x, POINTS));
    LODE_TRY(lode_shelf_new(&training->shelf, &y, POINTS));
    for (int64_t i = 0; i < run->steps; i += every) {
        x[series->count] = (double)(i + 1);
        y[series->count++] = values[i];
    }
    series->x = x;
    series->y = y;
    return LODE_OK;
}

/* What was measured at validations; `entropy` is the mean over layers. */
static lode_status_t add_validations(training_t *training, const run_t *run, bool entropy,
                                     lode_chart_series_t *series) {
    double *columns[4];
    series->mark = LODE_MARK_BOTH;
    if (run->validations == 0 || !(entropy ? run->validation_entropy : run->validation_loss))
        return LODE_OK;
    for (int i = 0; i < 4; i++)
        LODE_TRY(lode_shelf_new(&training->shelf, &columns[i], run->validations));
    for (int64_t v = 0; v < run->validations; v++) {
        const double error = run->validation_error && !entropy ? run->validation_error[v] : NAN;
        columns[0][v] = (double)run->validation_step[v];
        columns[1][v] = entropy ? 0 : run->validation_loss[v];
        for (int64_t l = 0; entropy && l < run->layers; l++)
            columns[1][v] += run->validation_entropy[v * run->layers + l] / (double)run->layers;
        columns[2][v] = columns[1][v] - error;
        columns[3][v] = columns[1][v] + error;
    }
    series->count = run->validations;
    series->x = columns[0];
    series->y = columns[1];
    series->low = entropy ? NULL : columns[2];
    series->high = entropy ? NULL : columns[3];
    return LODE_OK;
}

/* --- charts -------------------------------------------------------------------------------- */

typedef enum what { LOSS, VALIDATION, NORM, RATE, ENTROPY, WEIGHT } what_t;

static lode_status_t add_series(training_t *training, const run_t *run, what_t what,
                                lode_chart_series_t *series) {
    switch (what) {
    case LOSS:
        return add_curve(training, run, run->loss, series);
    case VALIDATION:
        return add_validations(training, run, false, series);
    case NORM:
        return add_curve(training, run, run->gradient_norm, series);
    case RATE:
        return add_curve(training, run, run->learning_rate, series);
    case ENTROPY:
        return add_validations(training, run, true, series);
    default:
        return add_curve(training, run, run->entropy_weight, series);
    }
}

/* Whether any of the runs has something to show there. */
static bool has(run_t *const *runs, int64_t count, what_t what) {
    for (int64_t i = 0; i < count; i++) {
        const run_t *run = runs[i];
        if (what == VALIDATION ? run->validations > 0 && run->validation_loss
            : what == ENTROPY  ? run->validations > 0 && run->validation_entropy
            : what == NORM     ? run->gradient_norm != NULL
            : what == RATE     ? run->learning_rate != NULL
                               : what == LOSS)
            return true;
        for (int64_t s = 0; what == WEIGHT && run->entropy_weight && s < run->steps; s++)
            if (run->entropy_weight[s] > 0)
                return true;
    }
    return false;
}

static lode_status_t make_panel(training_t *training, run_t *const *runs, int64_t count,
                                what_t what, lode_chart_series_t *series,
                                lode_chart_panel_t *panel) {
    static const struct {
        const char *title, *label;
        bool log_y, from_zero;
    } looks[] = {[LOSS] = {"training loss", "nats a token", false, false},
                 [VALIDATION] = {"validation loss", "nats a token", false, false},
                 [NORM] = {"gradient norm before clipping", NULL, true, false},
                 [RATE] = {"learning rate", NULL, false, true},
                 [ENTROPY] = {"mean write entropy H", "nats", false, false},
                 [WEIGHT] = {"weight λ of the entropy", NULL, false, true}};
    static const struct {
        const char *colour;
        int point, dash;
    } lines[RUNS] = {{LODE_COLOUR_BLUE, 7, 1},    {LODE_COLOUR_VERMILION, 5, 1},
                     {LODE_COLOUR_GREEN, 9, 1},   {LODE_COLOUR_PURPLE, 13, 1},
                     {LODE_COLOUR_ORANGE, 11, 1}, {LODE_COLOUR_SKY, 7, 2},
                     {LODE_COLOUR_BLACK, 5, 2},   {LODE_COLOUR_GREY, 9, 2}};
    int64_t drawn = 0;
    if (count == 1 && (what == LOSS || what == NORM))
        LODE_TRY(add_points(training, runs[0],
                            what == LOSS ? runs[0]->loss : runs[0]->gradient_norm,
                            &series[drawn++]));
    for (int64_t i = 0; i < count; i++) {
        series[drawn] = (lode_chart_series_t){.name = count > 1 ? runs[i]->label : NULL,
                                              .colour = lines[i].colour,
                                              .point = lines[i].point,
                                              .dash = lines[i].dash,
                                              .size = 0.45};
        LODE_TRY(add_series(training, runs[i], what, &series[drawn++]));
    }
    *panel = (lode_chart_panel_t){.title = looks[what].title,
                                  .x_label = "step",
                                  .y_label = looks[what].label,
                                  .log_y = looks[what].log_y,
                                  .from_zero = looks[what].from_zero,
                                  .series = series,
                                  .count = drawn};
    return LODE_OK;
}

/* "Curves are means over 7 steps, …": the same block for all runs, or that it differs. */
static lode_status_t write_caption(lode_buffer_t *caption, run_t *const *runs, int64_t count) {
    int64_t most = 1;
    for (int64_t i = 0; i < count; i++)
        most = block_of(runs[i]->steps) > most ? block_of(runs[i]->steps) : most;
    LODE_TRY(lode_buffer_printf(caption,
                                "The loss of a step is the mean cross-entropy over its targets "
                                "before its update, without the entropy’s part. "));
    if (most > 1)
        LODE_TRY(lode_buffer_printf(caption,
                                    "Curves by step are means over blocks of %s%lld "
                                    "consecutive steps%s. ",
                                    count > 1 ? "up to " : "", (long long)most,
                                    count > 1 ? ""
                                              : "; grey dots are single steps, thinned "
                                                "evenly"));
    return lode_buffer_printf(caption, "Bars of the validation loss are one standard error; every "
                                       "step’s figures are in train.h5.");
}

static lode_status_t draw_runs(training_t *training, run_t *const *runs, int64_t count) {
    lode_chart_series_t series[PANELS][RUNS + 1];
    lode_chart_panel_t panels[PANELS];
    int64_t drawn = 0;
    for (what_t what = LOSS; what <= WEIGHT; what++) {
        if (!has(runs, count, what))
            continue;
        LODE_TRY(make_panel(training, runs, count, what, series[drawn], &panels[drawn]));
        drawn++;
    }
    const lode_chart_t chart = {
        .panels = panels, .count = drawn, .columns = 2, .panel_height = 210};
    char title[LABEL + 32];
    lode_buffer_t caption = {0};
    snprintf(title, sizeof title, "Training%s%s", count == 1 ? " of " : "",
             count == 1 ? runs[0]->label : "");
    lode_status_t status = write_caption(&caption, runs, count);
    if (status == LODE_OK)
        status = lode_figure_chart(training->plot, &chart, title, caption.data, training->page);
    lode_buffer_free(&caption);
    return status;
}

/* Runs on the same tokens share charts, as many as one has room for. */
static lode_status_t draw_groups(training_t *training) {
    for (int64_t first = 0; first < training->count; first++) {
        run_t *runs[RUNS];
        int64_t count = 0;
        for (int64_t i = first; i < training->count && count < RUNS; i++) {
            run_t *run = &training->runs[i];
            if (run->drawn || strcmp(run->tokens, training->runs[first].tokens) != 0)
                continue;
            run->drawn = true;
            runs[count++] = run;
        }
        if (count > 0 && !(count == 1 && runs[0]->steps == 0))
            LODE_TRY(draw_runs(training, runs, count));
    }
    return LODE_OK;
}

/* --- the table ------------------------------------------------------------------------------ */

/* "3.4812 ± 0.0121", or a dash. */
static lode_status_t write_loss(lode_buffer_t *page, const run_t *run, int64_t index) {
    if (index < 0 || !run->validation_loss || !isfinite(run->validation_loss[index]))
        return lode_buffer_printf(page, "<td class=\"n\">–</td>");
    LODE_TRY(lode_buffer_printf(page, "<td class=\"n\">%.4f", run->validation_loss[index]));
    if (run->validation_error && isfinite(run->validation_error[index]))
        LODE_TRY(lode_buffer_printf(page, " <span class=\"point\">± %.4f</span>",
                                    run->validation_error[index]));
    return lode_buffer_printf(page, "</td>");
}

/* The validation of least loss, and the step of the largest gradient norm; −1 for none. */
static int64_t extreme(const double *values, int64_t count, bool largest) {
    int64_t best = -1;
    for (int64_t i = 0; values && i < count; i++)
        if (isfinite(values[i]) &&
            (best < 0 || (largest ? values[i] > values[best] : values[i] < values[best])))
            best = i;
    return best;
}

static lode_status_t write_run(lode_buffer_t *page, const training_t *training, const run_t *run) {
    const int64_t best = extreme(run->validation_loss, run->validations, false);
    const int64_t norm = extreme(run->gradient_norm, run->steps, true);
    LODE_TRY(lode_cells_row(page, run->item->model, false));
    if (training->points)
        LODE_TRY(lode_cells_text(page, run->item->point));
    LODE_TRY(lode_cells_count(page, run->steps));
    LODE_TRY(lode_cells_count(page, run->steps * run->batch * run->length));
    LODE_TRY(lode_cells_count(page, run->parameters));
    LODE_TRY(write_loss(page, run, run->validations > 0 ? 0 : -1));
    LODE_TRY(write_loss(page, run, run->validations - 1));
    LODE_TRY(write_loss(page, run, best));
    LODE_TRY(lode_buffer_printf(page, "<td class=\"n\">"));
    LODE_TRY(best >= 0 ? lode_buffer_printf(page, "%lld", (long long)run->validation_step[best])
                       : lode_buffer_printf(page, "–"));
    LODE_TRY(lode_buffer_printf(page, "</td>"));
    LODE_TRY(lode_cells_number(
        page, run->steps > 0 ? lode_training_final(run->loss, run->steps) : NAN, 4, ""));
    if (norm >= 0)
        LODE_TRY(lode_buffer_printf(page,
                                    "<td class=\"n\">%.4g <span class=\"point\">at %lld</span>"
                                    "</td>",
                                    run->gradient_norm[norm], (long long)norm + 1));
    else
        LODE_TRY(lode_cells_digits(page, NAN, 4));
    LODE_TRY(lode_buffer_printf(page, "<td class=\"mono\">"));
    LODE_TRY(lode_page_text(page, run->digest));
    LODE_TRY(lode_buffer_printf(page, "</td>"));
    return lode_cells_row_end(page);
}

static lode_status_t write_table(lode_buffer_t *page, const training_t *training) {
    static const char *const heads[] = {"#steps",
                                        "#tokens",
                                        "#parameters",
                                        "#first validation loss",
                                        "#last",
                                        "#best",
                                        "#at step",
                                        "#final training loss",
                                        "#largest gradient norm",
                                        "digest of train.h5"};
    LODE_TRY(lode_cells_open(page));
    LODE_TRY(lode_cells_head(page, "model"));
    if (training->points)
        LODE_TRY(lode_cells_head(page, "setting"));
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        LODE_TRY(lode_cells_head(page, heads[i]));
    LODE_TRY(lode_cells_body(page));
    for (int64_t i = 0; i < training->count; i++)
        LODE_TRY(write_run(page, training, &training->runs[i]));
    LODE_TRY(lode_cells_end(page));
    return lode_buffer_printf(page,
                              "<p class=\"method\">Losses are in nats a token, validation losses "
                              "with their standard errors; the final training loss is the mean of "
                              "the last 5 %% of steps, the gradient norm that before clipping."
                              "</p>\n");
}

lode_status_t lode_training_page(lode_plot_t *plot, lode_buffer_t *page,
                                 const lode_report_case_t *cases, int64_t count) {
    training_t training = {.plot = plot, .page = page};
    lode_status_t status = read_runs(&training, cases, count);
    if (status == LODE_OK && training.count > 0) {
        label_runs(&training);
        LODE_GUARD(status,
                   lode_buffer_printf(page, "<section id=\"training\">\n<h2>Training</h2>\n"),
                   done);
        LODE_GUARD(status, write_table(page, &training), done);
        LODE_GUARD(status, draw_groups(&training), done);
        status = lode_buffer_printf(page, "</section>\n");
    }
done:
    free(training.runs);
    lode_shelf_free(&training.shelf);
    return status;
}
