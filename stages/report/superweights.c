/* superweight.h5: which weights were found, and the spikes of every layer before and after; the
 * stage's header says what its datasets are. */
#include "report/superweights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/cells.h"
#include "report/chart.h"
#include "report/figures.h"
#include "report/page.h"

enum { MOST_PROMPTS = 6, LISTED = 3 }; /* curves of a panel; weights named in the overview */

/* The weights found, one entry each. */
typedef struct weights {
    int64_t count; /* −1 where the file does not say */
    int32_t *layer, *row, *channel, *iteration, *token, *rank;
    int32_t *core, *halo;
    double *value, *product, *output, *ratio_input, *ratio_output, *share;
} weights_t;

static lode_status_t read_weights(lode_super_weights_t *source, weights_t *weights) {
    const struct {
        const char *name;
        int32_t **into;
    } integers[] = {{"layer", &weights->layer},     {"row", &weights->row},
                    {"channel", &weights->channel}, {"iteration", &weights->iteration},
                    {"token", &weights->token},     {"loss_proxy_rank", &weights->rank},
                    {"core", &weights->core},       {"halo", &weights->halo}};
    const struct {
        const char *name;
        double **into;
    } floats[] = {{"value", &weights->value},
                  {"product", &weights->product},
                  {"output", &weights->output},
                  {"ratio_input", &weights->ratio_input},
                  {"ratio_output", &weights->ratio_output},
                  {"loss_proxy_share", &weights->share}};
    char path[96];
    weights->count = -1;
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        snprintf(path, sizeof path, "/weights/%s", integers[i].name);
        LODE_TRY(lode_shelf_i32(&source->shelf, source->store, path, 1, &weights->count,
                                integers[i].into));
    }
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        snprintf(path, sizeof path, "/weights/%s", floats[i].name);
        LODE_TRY(lode_shelf_f64(&source->shelf, source->store, path, 1, &weights->count,
                                floats[i].into));
    }
    if (weights->count > 0 && !(weights->layer && weights->row && weights->channel))
        return lode_fail(LODE_ERR_FORMAT, "/weights lacks layers, rows or channels; run the stage "
                                          "again (--force)");
    return LODE_OK;
}

/* --- traces ------------------------------------------------------------------------------- */

/* The spikes of one prompt before anything was zeroed, or after everything was; [layers]. */
typedef struct trace {
    double *input, *output, *input_scale, *output_scale;
} trace_t;

static lode_status_t read_trace(lode_super_weights_t *source, const char *iteration,
                                const char *prompt, int64_t *layers, trace_t *trace) {
    const struct {
        const char *name;
        double **into;
        bool magnitude;
    } parts[] = {{"input_max", &trace->input, true},
                 {"output_max", &trace->output, true},
                 {"input_scale", &trace->input_scale, false},
                 {"output_scale", &trace->output_scale, false}};
    lode_buffer_t path = {0};
    lode_status_t status = LODE_OK;
    for (int i = 0; status == LODE_OK && i < 4; i++) {
        path.length = 0;
        status = lode_buffer_printf(&path, "/traces/%s/%s/%s", iteration, prompt, parts[i].name);
        if (status == LODE_OK)
            status =
                lode_shelf_f64(&source->shelf, source->store, path.data, 1, layers, parts[i].into);
        for (int64_t l = 0; status == LODE_OK && *parts[i].into && l < *layers; l++)
            if (parts[i].magnitude)
                (*parts[i].into)[l] = fabs((*parts[i].into)[l]);
    }
    lode_buffer_free(&path);
    return status;
}

/* Every prompt before and after, as far as there is room. */
typedef struct traces {
    int64_t layers, count;
    trace_t before[MOST_PROMPTS], after[MOST_PROMPTS];
    bool changed; /* there is an after */
} traces_t;

/* The number of the last iteration, −1 where there is none. */
static lode_status_t last_iteration(lode_store_t *store, long *last) {
    char **names;
    int64_t count;
    *last = -1;
    LODE_TRY(lode_store_list(store, "/traces", &names, &count));
    for (int64_t i = 0; i < count; i++) {
        char *end;
        const long number = strtol(names[i], &end, 10);
        if (*end == '\0' && number > *last)
            *last = number;
    }
    lode_store_list_free(&names, count);
    return LODE_OK;
}

static lode_status_t read_traces(lode_super_weights_t *source, traces_t *traces) {
    char **prompts, final[32];
    int64_t count;
    long last;
    *traces = (traces_t){.layers = -1};
    LODE_TRY(last_iteration(source->store, &last));
    LODE_TRY(lode_store_list(source->store, "/traces/0", &prompts, &count));
    snprintf(final, sizeof final, "%ld", last);
    traces->changed = last > 0;
    traces->count = count < MOST_PROMPTS ? count : MOST_PROMPTS;
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && i < traces->count; i++) {
        status = read_trace(source, "0", prompts[i], &traces->layers, &traces->before[i]);
        if (status == LODE_OK && traces->changed)
            status = read_trace(source, final, prompts[i], &traces->layers, &traces->after[i]);
    }
    lode_store_list_free(&prompts, count);
    return status;
}

static lode_chart_series_t curve(const traces_t *traces, const double *values, bool after) {
    return (lode_chart_series_t){.name = !traces->changed ? NULL
                                         : after          ? "all found set to 0"
                                                          : "as trained",
                                 .colour = after ? LODE_COLOUR_BLUE : LODE_COLOUR_VERMILION,
                                 .mark = LODE_MARK_BOTH,
                                 .point = after ? 5 : 7,
                                 .size = 0.45,
                                 .count = values ? traces->layers : 0,
                                 .y = values};
}

static lode_status_t draw_traces(lode_super_weights_t *source, const traces_t *traces) {
    lode_chart_series_t series[2][2 * MOST_PROMPTS];
    int64_t count = 0;
    if (traces->count == 0 || traces->layers < 1)
        return LODE_OK;
    for (int64_t i = 0; i < traces->count; i++) {
        series[0][count] = curve(traces, traces->before[i].input, false);
        series[1][count++] = curve(traces, traces->before[i].output, false);
        if (!traces->changed)
            continue;
        series[0][count] = curve(traces, traces->after[i].input, true);
        series[1][count++] = curve(traces, traces->after[i].output, true);
    }
    const lode_chart_panel_t panels[] = {{.title = "largest |u|, the input of the down projection",
                                          .x_label = "layer",
                                          .log_y = true,
                                          .whole_x = true,
                                          .series = series[0],
                                          .count = count},
                                         {.title = "largest |Y|, its output",
                                          .x_label = "layer",
                                          .log_y = true,
                                          .whole_x = true,
                                          .series = series[1],
                                          .count = count}};
    const lode_chart_t chart = {
        .panels = panels, .count = 2, .columns = lode_chart_columns(traces->layers)};
    char caption[320];
    snprintf(caption, sizeof caption,
             "The largest magnitude of every layer in a forward pass of %s, one line for each%s.",
             traces->count == 1 ? "the prompt" : "the prompts",
             traces->changed ? ", before and after all weights found are set to 0" : "");
    return lode_figure_chart(source->plot, &chart, "Spikes by layer", caption, source->page);
}

/* --- what was found ----------------------------------------------------------------------- */

/* The largest spike of a kind over layers and prompts as a multiple of its scale. */
static double largest_ratio(const traces_t *traces, bool output, int64_t *layer) {
    double largest = NAN;
    for (int64_t i = 0; i < traces->count; i++) {
        const trace_t *trace = &traces->before[i];
        const double *value = output ? trace->output : trace->input;
        const double *scale = output ? trace->output_scale : trace->input_scale;
        for (int64_t l = 0; value && scale && l < traces->layers; l++)
            if (scale[l] > 0 && !(value[l] / scale[l] <= largest)) {
                largest = value[l] / scale[l];
                *layer = l;
            }
    }
    return largest;
}

static lode_status_t write_none(lode_super_weights_t *source, const traces_t *traces) {
    int64_t input_layer = 0, output_layer = 0;
    const double input = largest_ratio(traces, false, &input_layer);
    const double output = largest_ratio(traces, true, &output_layer);
    LODE_TRY(lode_buffer_printf(source->page, "<p class=\"method\"><b>None found</b>: no single "
                                              "weight of a down projection turns a spike of its "
                                              "input into one of its output."));
    if (isfinite(input) && isfinite(output))
        LODE_TRY(lode_buffer_printf(source->page,
                                    " The largest input is %.4g times its scale (layer %lld), the "
                                    "largest output %.4g times (layer %lld).",
                                    input, (long long)input_layer, output,
                                    (long long)output_layer));
    LODE_TRY(lode_buffer_printf(source->page, "</p>\n"));
    return lode_buffer_printf(&source->item->glances[LODE_GLANCE_SUPER_WEIGHTS],
                              isfinite(output) ? "none found; largest spike %.4g×" : "none found",
                              output);
}

static lode_status_t write_glance(lode_buffer_t *glance, const weights_t *weights) {
    for (int64_t i = 0; i < weights->count && i < LISTED; i++)
        LODE_TRY(lode_buffer_printf(glance, "%s%d [%d, %d]", i ? ", " : "", weights->layer[i],
                                    weights->row[i], weights->channel[i]));
    return weights->count > LISTED
               ? lode_buffer_printf(glance, " and %lld more", (long long)(weights->count - LISTED))
               : LODE_OK;
}

static double at(const double *values, int64_t i) {
    return values ? values[i] : NAN;
}

static lode_status_t write_weight(lode_buffer_t *page, const weights_t *weights, int64_t i) {
    char place[64];
    snprintf(place, sizeof place, "%d [%d, %d]", weights->layer[i], weights->row[i],
             weights->channel[i]);
    LODE_TRY(lode_cells_row(page, place, false));
    LODE_TRY(lode_cells_digits(page, at(weights->value, i), 5));
    LODE_TRY(lode_cells_digits(page, at(weights->ratio_input, i), 4));
    LODE_TRY(lode_cells_digits(page, at(weights->ratio_output, i), 4));
    LODE_TRY(
        lode_cells_number(page, 100 * at(weights->product, i) / at(weights->output, i), 1, " %"));
    LODE_TRY(lode_cells_digits(page, weights->token ? weights->token[i] : NAN, 6));
    LODE_TRY(lode_cells_digits(page, weights->iteration ? weights->iteration[i] + 1 : NAN, 6));
    const bool ranked = weights->rank && weights->rank[i] >= 0;
    LODE_TRY(lode_cells_digits(page, ranked ? weights->rank[i] + 1 : NAN, 9));
    LODE_TRY(lode_cells_number(page, 100 * at(weights->share, i), 2, " %"));
    LODE_TRY(lode_cells_text(page, weights->core && weights->core[i]   ? "supernode"
                                   : weights->halo && weights->halo[i] ? "halo"
                                   : ranked                            ? "neither"
                                                                       : "–"));
    return lode_cells_row_end(page);
}

static lode_status_t write_weights(lode_super_weights_t *source, const weights_t *weights) {
    static const char *const heads[] = {
        "layer [row, channel]", "#weight",    "#input ÷ scale", "#output ÷ scale",
        "#product ÷ output",    "#token",     "#pass",          "#LP rank of the channel",
        "#share of the LP",     "the channel"};
    int64_t supernodes = 0, limited = 0;
    if (lode_store_has_attribute(source->store, "/weights", "limit_reached"))
        LODE_TRY(
            lode_store_get_attribute_i64(source->store, "/weights", "limit_reached", &limited));
    for (int64_t i = 0; i < weights->count; i++)
        supernodes += weights->core && weights->core[i];
    LODE_TRY(lode_buffer_printf(
        source->page,
        "<p class=\"method\">%lld found%s; coordinates are those of the "
        "down projection, [out, in]. The product of input spike and weight "
        "makes that share of the output spike. %lld of %lld channels are "
        "supernodes.%s</p>\n",
        (long long)weights->count, weights->count > 1 ? ", each with those before it set to 0" : "",
        (long long)supernodes, (long long)weights->count,
        limited ? " There may be more: superweight.limit was reached." : ""));
    LODE_TRY(lode_cells_begin(source->page, heads, sizeof heads / sizeof heads[0]));
    for (int64_t i = 0; i < weights->count; i++)
        LODE_TRY(write_weight(source->page, weights, i));
    LODE_TRY(lode_cells_end(source->page));
    return write_glance(&source->item->glances[LODE_GLANCE_SUPER_WEIGHTS], weights);
}

static lode_status_t show(lode_super_weights_t *source) {
    weights_t weights = {0};
    traces_t traces;
    LODE_TRY(read_weights(source, &weights));
    LODE_TRY(read_traces(source, &traces));
    if (weights.count == 0)
        LODE_TRY(write_none(source, &traces));
    else if (weights.count > 0)
        LODE_TRY(write_weights(source, &weights));
    LODE_TRY(lode_super_weights_known(source));
    LODE_TRY(draw_traces(source, &traces));
    LODE_TRY(lode_super_weights_effects(source));
    return lode_super_weights_stopwords(source);
}

lode_status_t lode_figures_super_weights(lode_plot_t *plot, lode_report_case_t *item) {
    lode_super_weights_t source = {
        .plot = plot, .item = item, .page = &item->topics[LODE_TOPIC_SUPER_WEIGHTS]};
    LODE_TRY(lode_report_open(&source.store, item, "superweight"));
    if (!source.store)
        return LODE_OK;
    const lode_status_t status = show(&source);
    lode_shelf_free(&source.shelf);
    lode_store_close(&source.store);
    return lode_fail_context(status, "%s/superweight.h5", item->folder);
}
