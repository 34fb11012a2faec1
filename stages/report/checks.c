/* The causal checks of probe.h5; stages/probe/probe.h says what its datasets are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/checks.h"
#include "report/figures.h"
#include "report/page.h"

/* --- reading ---------------------------------------------------------------------------- */

static lode_status_t get_i64(const lode_checks_t *checks, const char *object, const char *name,
                             int64_t *value) {
    *value = 0;
    if (lode_store_has_attribute(checks->store, object, name))
        return lode_store_get_attribute_i64(checks->store, object, name, value);
    return LODE_OK;
}

static lode_status_t get_f64(const lode_checks_t *checks, const char *object, const char *name,
                             double *value) {
    *value = NAN;
    if (lode_store_has_attribute(checks->store, object, name))
        return lode_store_get_attribute_f64(checks->store, object, name, value);
    return LODE_OK;
}

/* The text that a check's group names. */
static lode_status_t read_text(lode_checks_t *checks, const char *group, lode_check_text_t *text) {
    char *name = NULL, path[160];
    *text = (lode_check_text_t){.perplexity = NAN};
    if (!lode_store_has_attribute(checks->store, group, "texts"))
        return LODE_OK;
    LODE_TRY(lode_store_get_attribute_text(checks->store, group, "texts", &name));
    snprintf(path, sizeof path, "/texts/%s", name);
    free(name);
    LODE_TRY(get_i64(checks, path, "length", &text->length));
    LODE_TRY(get_i64(checks, path, "sequences", &text->sequences));
    LODE_TRY(get_i64(checks, path, "targets", &text->targets));
    LODE_TRY(get_f64(checks, path, "perplexity", &text->perplexity));
    const struct {
        const char *name;
        char *into;
    } parts[] = {{"source", text->source}, {"protocol", text->protocol}};
    for (int i = 0; i < 2; i++) {
        char *value = NULL;
        if (lode_store_has_attribute(checks->store, path, parts[i].name))
            LODE_TRY(lode_store_get_attribute_text(checks->store, path, parts[i].name, &value));
        snprintf(parts[i].into, sizeof text->source, "%s", value ? value : "");
        free(value);
    }
    return LODE_OK;
}

lode_status_t lode_check_open(lode_check_t *check, lode_checks_t *checks, const char *group,
                              const char *const *integers) {
    *check = (lode_check_t){.checks = checks, .group = group, .count = -1};
    if (!lode_store_has(checks->store, group))
        return LODE_OK;
    LODE_TRY(read_text(checks, group, &check->text));
    LODE_TRY(get_f64(checks, group, "sparsity", &check->sparsity));
    LODE_TRY(get_i64(checks, group, "core_size", &check->core_size));
    LODE_TRY(get_i64(checks, group, "count", &check->set_size));
    const struct {
        const char *name;
        double **into;
    } figures[] = {{"perplexity", &check->perplexity},
                   {"perplexity_stderr", &check->perplexity_error},
                   {"delta_nll", &check->delta},
                   {"delta_nll_stderr", &check->delta_error}};
    char path[160];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", group, figures[i].name);
        LODE_TRY(
            lode_shelf_f64(&checks->shelf, checks->store, path, 1, &check->count, figures[i].into));
    }
    bool whole = check->perplexity && check->perplexity_error && check->delta &&
                 check->delta_error && check->count > 0;
    for (int i = 0; whole && integers[i]; i++) {
        LODE_ASSERT(i < LODE_CHECK_INTEGERS);
        snprintf(path, sizeof path, "%s/%s", group, integers[i]);
        LODE_TRY(lode_shelf_i32(&checks->shelf, checks->store, path, 1, &check->count,
                                &check->integer[i]));
        whole = check->integer[i] != NULL;
    }
    check->exists = whole;
    return LODE_OK;
}

lode_status_t lode_check_floats(const lode_check_t *check, const char *name, double **values) {
    char path[160];
    int64_t count = check->count;
    snprintf(path, sizeof path, "%s/%s", check->group, name);
    return lode_shelf_f64(&check->checks->shelf, check->checks->store, path, 1, &count, values);
}

lode_status_t lode_check_code(const lode_check_t *check, const char *dataset, const char *name,
                              int32_t *code) {
    char attribute[96], path[160], *names = NULL;
    lode_store_t *store = check->checks->store;
    const char *object = check->group;
    *code = -1;
    snprintf(attribute, sizeof attribute, "%s_names", dataset);
    snprintf(path, sizeof path, "%s/%s", check->group, dataset);
    if (!lode_store_has_attribute(store, object, attribute))
        object = path;
    if (!lode_store_has_attribute(store, object, attribute))
        return LODE_OK;
    LODE_TRY(lode_store_get_attribute_text(store, object, attribute, &names));
    const char *part = names;
    for (int32_t i = 0; *code < 0 && *part; i++) {
        const size_t length = strcspn(part, ",");
        if (length == strlen(name) && strncmp(part, name, length) == 0)
            *code = i;
        part += length + (part[length] == ',');
    }
    free(names);
    return LODE_OK;
}

/* --- putting figures together ----------------------------------------------------------- */

lode_status_t lode_check_points(const lode_check_t *check, bool perplexity, const double *x,
                                const bool *chosen, lode_chart_series_t *series) {
    double *columns[4]; /* x, y, low, high */
    int64_t count = 0;
    for (int i = 0; i < 4; i++)
        LODE_TRY(lode_shelf_new(&check->checks->shelf, &columns[i], check->count));
    for (int64_t i = 0; i < check->count; i++) {
        if (!chosen[i])
            continue;
        const double y = perplexity ? check->perplexity[i] : check->delta[i];
        const double error = perplexity ? check->perplexity_error[i] : check->delta_error[i];
        columns[0][count] = x[i];
        columns[1][count] = y;
        /* Error bars of a perplexity are symmetric in its log. */
        columns[2][count] = perplexity ? y * exp(-error / y) : y - error;
        columns[3][count++] = perplexity ? y * exp(error / y) : y + error;
    }
    series->x = columns[0];
    series->y = columns[1];
    series->low = columns[2];
    series->high = columns[3];
    series->count = count;
    return LODE_OK;
}

lode_status_t lode_check_means(const lode_check_t *check, bool perplexity, const double *x,
                               const bool *chosen, lode_chart_series_t *series) {
    double *places, *means;
    int64_t count = 0;
    LODE_TRY(lode_shelf_new(&check->checks->shelf, &places, check->count));
    LODE_TRY(lode_shelf_new(&check->checks->shelf, &means, check->count));
    for (int64_t i = 0; i < check->count; i++) {
        bool first = chosen[i];
        for (int64_t before = 0; first && before < i; before++)
            first = !chosen[before] || x[before] != x[i];
        if (!first)
            continue;
        double sum = 0;
        int64_t members = 0;
        for (int64_t other = i; other < check->count; other++)
            if (chosen[other] && x[other] == x[i]) {
                sum += perplexity ? log(check->perplexity[other]) : check->delta[other];
                members++;
            }
        int64_t place = count++; /* in ascending order of x */
        for (; place > 0 && places[place - 1] > x[i]; place--) {
            places[place] = places[place - 1];
            means[place] = means[place - 1];
        }
        places[place] = x[i];
        means[place] = perplexity ? exp(sum / (double)members) : sum / (double)members;
    }
    series->x = places;
    series->y = means;
    series->count = count;
    return LODE_OK;
}

lode_status_t lode_check_text(const lode_check_t *check, lode_buffer_t *caption) {
    const lode_check_text_t *text = &check->text;
    if (text->targets == 0)
        return LODE_OK;
    if (strcmp(text->protocol, "texts") == 0)
        return lode_buffer_printf(caption,
                                  " Measured on %lld targets of %lld texts (%s) of at most %lld "
                                  "tokens, every next token scored.",
                                  (long long)text->targets, (long long)text->sequences,
                                  text->source, (long long)text->length);
    return lode_buffer_printf(caption,
                              " Measured on %s: protocol %s at length %lld, %lld windows, %lld "
                              "targets.%s",
                              text->source, text->protocol, (long long)text->length,
                              (long long)text->sequences, (long long)text->targets,
                              strcmp(text->protocol, "lm-eval") == 0 ? " Perplexities are by word."
                                                                     : "");
}

lode_status_t lode_check_draw(const lode_check_t *check, const lode_chart_t *chart,
                              const char *title, const char *caption) {
    lode_buffer_t text = {0};
    lode_status_t status = lode_buffer_printf(&text, "%s", caption);
    if (status == LODE_OK)
        status = lode_check_text(check, &text);
    if (status == LODE_OK)
        status = lode_figure_chart(check->checks->plot, chart, title, text.data,
                                   &check->checks->item->topics[LODE_TOPIC_CHECKS]);
    lode_buffer_free(&text);
    return status;
}

/* --- all of them ------------------------------------------------------------------------ */

lode_status_t lode_figures_checks(lode_plot_t *plot, lode_report_case_t *item) {
    static lode_status_t (*const draw[])(lode_checks_t *) = {
        lode_checks_dose,     lode_checks_cores,         lode_checks_score_core,
        lode_checks_ablation, lode_checks_halo_ablation, lode_checks_replacement};
    lode_checks_t checks = {.plot = plot, .item = item};
    LODE_TRY(lode_report_open(&checks.store, item, "probe"));
    if (!checks.store)
        return LODE_OK;
    lode_status_t status = LODE_OK;
    for (size_t i = 0; status == LODE_OK && i < sizeof draw / sizeof draw[0]; i++) {
        status = draw[i](&checks);
        lode_shelf_free(&checks.shelf);
    }
    lode_store_close(&checks.store);
    lode_shelf_free(&checks.shelf);
    return lode_fail_context(status, "%s/probe.h5", item->folder);
}
