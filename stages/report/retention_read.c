#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/retention.h"

static const char *const measures[LODE_RETENTION_MEASURES] = {
    [LODE_RETENTION_ZEROED] = "core_zeroed",
    [LODE_RETENTION_CHANGED] = "core_changed",
    [LODE_RETENTION_REMOVED] = "core_removed",
    [LODE_RETENTION_ERROR_CORE] = "weight_error_core",
    [LODE_RETENTION_ERROR_HALO] = "weight_error_halo",
    [LODE_RETENTION_ERROR_REST] = "weight_error_rest",
    [LODE_RETENTION_ERROR_ATTENTION] = "weight_error_attention",
    [LODE_RETENTION_ZERO_CORE] = "zero_core",
    [LODE_RETENTION_ZERO_HALO] = "zero_halo",
    [LODE_RETENTION_ZERO_REST] = "zero_rest",
    [LODE_RETENTION_ZERO_ATTENTION] = "zero_attention",
    [LODE_RETENTION_MASS] = "core_mass",
    [LODE_RETENTION_OVERLAP] = "core_overlap",
    [LODE_RETENTION_CORRELATION] = "proxy_correlation",
};

/* --- figures -------------------------------------------------------------------------------- */

/* Appends a figure that has only its names. */
static lode_status_t add_figure(lode_retention_folder_t *folder, const char *metric,
                                const char *dataset, const char *protocol,
                                lode_retention_figure_t **out) {
    LODE_TRY(lode_resize(&folder->figures, folder->figure_count + 1, sizeof *folder->figures,
                         "figures of folders"));
    *out = &folder->figures[folder->figure_count++];
    **out = (lode_retention_figure_t){.metric = metric, .value = NAN, .standard_error = NAN};
    LODE_TRY(lode_strdup(&(*out)->dataset, dataset));
    return lode_strdup(&(*out)->protocol, protocol);
}

static lode_status_t read_perplexity(lode_store_t *store, const char *path, const char *dataset,
                                     lode_retention_folder_t *folder) {
    lode_retention_figure_t *figure;
    char *protocol;
    LODE_TRY(lode_store_get_attribute_text(store, path, "protocol", &protocol));
    lode_status_t status = add_figure(folder, "perplexity", dataset, protocol, &figure);
    free(protocol);
    LODE_TRY(status);
    LODE_TRY(lode_store_get_attribute_f64(store, path, "value", &figure->value));
    LODE_TRY(lode_store_get_attribute_f64(store, path, "stderr", &figure->standard_error));
    LODE_TRY(lode_store_get_attribute_i64(store, path, "length", &figure->length));
    return lode_store_get_attribute_i64(store, path, "targets", &figure->count);
}

static lode_status_t read_task(lode_store_t *store, const char *path, const char *dataset,
                               lode_retention_folder_t *folder) {
    static const char *const metrics[] = {"acc", "acc_norm"};
    /* With one request an item, acc_norm says what acc says. */
    const int count = lode_store_has_attribute(store, path, "perplexity") ? 1 : 2;
    for (int i = 0; i < count; i++) {
        lode_retention_figure_t *figure;
        char error[32];
        snprintf(error, sizeof error, "%s_stderr", metrics[i]);
        LODE_TRY(add_figure(folder, metrics[i], dataset, "", &figure));
        LODE_TRY(lode_store_get_attribute_f64(store, path, metrics[i], &figure->value));
        LODE_TRY(lode_store_get_attribute_f64(store, path, error, &figure->standard_error));
        LODE_TRY(lode_store_get_attribute_i64(store, path, "items", &figure->count));
    }
    return LODE_OK;
}

/* All figures of one kind: below "perplexity" or "tasks". */
static lode_status_t read_figures(lode_store_t *store, const char *group, bool tasks,
                                  lode_retention_folder_t *folder) {
    const char *kind = tasks ? "tasks" : "perplexity";
    lode_buffer_t path = {0};
    char **names = NULL;
    int64_t count = 0;
    lode_status_t status = lode_buffer_printf(&path, "%s/%s", group, kind);
    if (status == LODE_OK)
        status = lode_store_list(store, path.data, &names, &count);
    for (int64_t i = 0; status == LODE_OK && i < count; i++) {
        path.length = 0;
        status = lode_buffer_printf(&path, "%s/%s/%s", group, kind, names[i]);
        if (status == LODE_OK)
            status = (tasks ? read_task : read_perplexity)(store, path.data, names[i], folder);
    }
    lode_store_list_free(&names, count);
    lode_buffer_free(&path);
    return status;
}

/* The dense model's figures that the file does not have. */
static lode_status_t add_dense(lode_retention_folder_t *original, const lode_report_case_t *item) {
    for (int64_t i = 0; i < item->figure_count; i++) {
        const lode_report_figure_t *figure = &item->figures[i];
        const lode_retention_figure_t like = {.metric = figure->metric,
                                              .dataset = figure->dataset,
                                              .protocol = figure->protocol,
                                              .length = figure->length};
        lode_retention_figure_t *own;
        if (figure->variant.kind != LODE_KIND_DENSE || lode_report_is_derived(figure) ||
            lode_retention_find(original, &like))
            continue;
        LODE_TRY(add_figure(original, figure->metric, figure->dataset, figure->protocol, &own));
        own->length = figure->length;
        own->count = figure->count;
        own->value = figure->value;
        own->standard_error = figure->standard_error;
    }
    return LODE_OK;
}

/* --- measures ------------------------------------------------------------------------------- */

/* Layers without a number, such as shares of an empty halo, do not count. */
static double mean_of(const double *values, int64_t count) {
    double sum = 0;
    int64_t numbers = 0;
    for (int64_t i = 0; values && i < count; i++)
        if (isfinite(values[i])) {
            sum += values[i];
            numbers++;
        }
    return numbers > 0 ? sum / (double)numbers : NAN;
}

static lode_status_t read_measures(lode_retention_t *retention, lode_store_t *store,
                                   const char *group, lode_retention_folder_t *folder) {
    lode_buffer_t path = {0};
    lode_status_t status = LODE_OK;
    for (int i = 0; status == LODE_OK && i < LODE_RETENTION_MEASURES; i++) {
        path.length = 0;
        status = lode_buffer_printf(&path, "%s/%s", group, measures[i]);
        if (status == LODE_OK)
            status = lode_shelf_f64(&retention->shelf, store, path.data, 1, &retention->layers,
                                    &folder->measure[i]);
        folder->mean[i] = mean_of(folder->measure[i], retention->layers);
    }
    lode_buffer_free(&path);
    return status;
}

static lode_status_t read_weights(lode_retention_t *retention, lode_store_t *store,
                                  const char *group, lode_retention_folder_t *folder) {
    const struct {
        const char *name;
        int64_t *count;
        int32_t **into;
    } parts[] = {{"superweights/layer", &folder->weight_count, &folder->weight_layer},
                 {"superweights/survives", &folder->weight_count, &folder->survives},
                 {"superweights/detected", &folder->weight_count, &folder->detected},
                 {"detected/layer", &folder->search_count, &folder->found_layer},
                 {"detected/original", &folder->search_count, &folder->found_original}};
    lode_buffer_t path = {0};
    lode_status_t status = LODE_OK;
    folder->weight_count = folder->search_count = -1;
    for (size_t i = 0; status == LODE_OK && i < sizeof parts / sizeof *parts; i++) {
        path.length = 0;
        status = lode_buffer_printf(&path, "%s/%s", group, parts[i].name);
        if (status == LODE_OK)
            status = lode_shelf_i32(&retention->shelf, store, path.data, 1, parts[i].count,
                                    parts[i].into);
    }
    lode_buffer_free(&path);
    if (folder->weight_count > 0 && !(folder->weight_layer && folder->survives))
        folder->weight_count = -1;
    return status;
}

/* An attribute, "" where there is none. */
static lode_status_t read_text(lode_store_t *store, const char *group, const char *name,
                               char **text) {
    if (lode_store_has_attribute(store, group, name))
        return lode_store_get_attribute_text(store, group, name, text);
    return lode_strdup(text, "");
}

static lode_status_t read_folder(lode_retention_t *retention, lode_store_t *store,
                                 const char *group, const char *name,
                                 lode_retention_folder_t *folder) {
    LODE_TRY(lode_strdup(&folder->name, name));
    LODE_TRY(read_text(store, group, "path", &folder->path));
    LODE_TRY(read_text(store, group, "known", &folder->known));
    LODE_TRY(read_measures(retention, store, group, folder));
    LODE_TRY(read_figures(store, group, false, folder));
    LODE_TRY(read_figures(store, group, true, folder));
    return read_weights(retention, store, group, folder);
}

lode_status_t lode_retention_read(lode_retention_t *retention, lode_store_t *store,
                                  const lode_report_case_t *item) {
    char **names;
    int64_t count;
    *retention = (lode_retention_t){.layers = -1};
    LODE_TRY(lode_store_list(store, "/folders", &names, &count));
    lode_status_t status = LODE_NEW(&retention->folders, count, "audited folders");
    if (status == LODE_OK)
        status = read_folder(retention, store, "/original", "original", &retention->original);
    if (status == LODE_OK)
        status = add_dense(&retention->original, item);
    for (int64_t i = 0; status == LODE_OK && i < count; i++) {
        lode_buffer_t group = {0};
        retention->count = i + 1;
        status = lode_buffer_printf(&group, "/folders/%s", names[i]);
        if (status == LODE_OK)
            status = read_folder(retention, store, group.data, names[i], &retention->folders[i]);
        lode_buffer_free(&group);
    }
    lode_store_list_free(&names, count);
    return status;
}

static void free_folder(lode_retention_folder_t *folder) {
    for (int64_t i = 0; i < folder->figure_count; i++) {
        free(folder->figures[i].dataset);
        free(folder->figures[i].protocol);
    }
    free(folder->figures);
    free(folder->name);
    free(folder->path);
    free(folder->known);
}

void lode_retention_free(lode_retention_t *retention) {
    for (int64_t i = 0; i < retention->count; i++)
        free_folder(&retention->folders[i]);
    free_folder(&retention->original);
    free(retention->folders);
    lode_shelf_free(&retention->shelf);
    *retention = (lode_retention_t){0};
}

/* --- looking up ----------------------------------------------------------------------------- */

const lode_retention_figure_t *lode_retention_find(const lode_retention_folder_t *folder,
                                                   const lode_retention_figure_t *like) {
    for (int64_t i = 0; i < folder->figure_count; i++) {
        const lode_retention_figure_t *own = &folder->figures[i];
        if (strcmp(own->metric, like->metric) == 0 && strcmp(own->dataset, like->dataset) == 0 &&
            strcmp(own->protocol, like->protocol) == 0 && own->length == like->length)
            return own;
    }
    return NULL;
}

bool lode_retention_searched(const lode_retention_folder_t *folder) {
    return folder->weight_count >= 0 && (folder->detected || folder->weight_count == 0) &&
           folder->found_layer && folder->found_original;
}

lode_retention_weights_t lode_retention_weights(const lode_retention_folder_t *folder,
                                                int64_t layer) {
    const bool searched = lode_retention_searched(folder);
    lode_retention_weights_t weights = {0};
    for (int64_t i = 0; i < folder->weight_count; i++)
        if (layer < 0 || folder->weight_layer[i] == layer) {
            weights.all++;
            weights.surviving += folder->survives[i] != 0;
            weights.detected += searched && folder->detected[i] != 0;
        }
    for (int64_t i = 0; searched && i < folder->search_count; i++)
        weights.fresh += folder->found_layer[i] >= 0 && folder->found_original[i] < 0 &&
                         (layer < 0 || folder->found_layer[i] == layer);
    return weights;
}

/* --- audit.csv ------------------------------------------------------------------------------ */

static lode_status_t write_number(lode_buffer_t *out, double value) {
    return isfinite(value) ? lode_buffer_printf(out, ",%.17g", value)
                           : lode_buffer_append(out, ",", 1);
}

static lode_status_t write_field(lode_buffer_t *out, const char *text) {
    LODE_TRY(lode_buffer_append(out, ",", 1));
    return lode_report_csv_field(out, text);
}

/* What a row says of the folder's model: figure may be NULL. */
static lode_status_t write_figure(lode_buffer_t *out, const lode_retention_folder_t *original,
                                  const lode_retention_figure_t *figure) {
    const lode_retention_figure_t *before = figure ? lode_retention_find(original, figure) : NULL;
    LODE_TRY(write_field(out, figure ? figure->metric : ""));
    LODE_TRY(write_field(out, figure ? figure->dataset : ""));
    LODE_TRY(write_field(out, figure ? figure->protocol : ""));
    LODE_TRY(write_number(out, figure ? figure->value : NAN));
    LODE_TRY(write_number(out, figure ? figure->standard_error : NAN));
    LODE_TRY(write_number(out, figure ? (double)figure->count : NAN));
    return write_number(out, before ? before->value : NAN);
}

/* One row: of a layer, or with −1 of all; figure may be NULL. */
static lode_status_t write_row(lode_report_case_t *item, const lode_retention_t *retention,
                               const lode_retention_folder_t *folder, int64_t layer,
                               const lode_retention_figure_t *figure) {
    lode_buffer_t *out = &item->audit;
    const lode_retention_folder_t *original = &retention->original;
    LODE_TRY(lode_report_csv_field(out, item->model));
    LODE_TRY(write_field(out, folder->name));
    LODE_TRY(layer < 0 ? lode_buffer_printf(out, ",all")
                       : lode_buffer_printf(out, ",%lld", (long long)layer));
    for (int i = 0; i < LODE_RETENTION_MEASURES; i++) {
        const double *own = folder->measure[i], *mass = original->measure[i];
        LODE_TRY(write_number(out, layer < 0 ? folder->mean[i] : own ? own[layer] : NAN));
        if (i == LODE_RETENTION_MASS)
            LODE_TRY(write_number(out, layer < 0 ? original->mean[i] : mass ? mass[layer] : NAN));
    }
    const lode_retention_weights_t weights = lode_retention_weights(folder, layer);
    LODE_TRY(folder->weight_count < 0
                 ? lode_buffer_printf(out, ",,")
                 : lode_buffer_printf(out, ",%lld,%lld", (long long)weights.all,
                                      (long long)weights.surviving));
    LODE_TRY(write_figure(out, original, figure));
    LODE_TRY(write_field(out, item->point));
    LODE_TRY(write_field(out, folder->path));
    return lode_retention_searched(folder)
               ? lode_buffer_printf(out, ",%lld,%lld\n", (long long)weights.detected,
                                    (long long)weights.fresh)
               : lode_buffer_printf(out, ",,\n");
}

lode_status_t lode_retention_rows(lode_report_case_t *item, const lode_retention_t *retention) {
    for (int64_t f = 0; f < retention->count; f++) {
        const lode_retention_folder_t *folder = &retention->folders[f];
        for (int64_t layer = 0; layer < retention->layers; layer++)
            LODE_TRY(write_row(item, retention, folder, layer, NULL));
        for (int64_t i = 0; i < folder->figure_count; i++)
            LODE_TRY(write_row(item, retention, folder, -1, &folder->figures[i]));
        if (folder->figure_count == 0)
            LODE_TRY(write_row(item, retention, folder, -1, NULL));
    }
    return LODE_OK;
}

lode_status_t lode_retention_csv(const lode_report_case_t *cases, int64_t count,
                                 lode_buffer_t *out) {
    LODE_TRY(lode_buffer_printf(
        out, "model,folder,layer,core_zeroed,core_changed,core_removed,weight_error_core,"
             "weight_error_halo,weight_error_rest,weight_error_attention,zero_core,zero_halo,"
             "zero_rest,zero_attention,core_mass,core_mass_original,core_overlap,"
             "proxy_correlation,superweights,superweights_surviving,metric,dataset,protocol,value,"
             "stderr,count,value_original,point,path,superweights_detected,superweights_new\n"));
    for (int64_t i = 0; i < count; i++)
        if (cases[i].audit.length > 0)
            LODE_TRY(lode_buffer_append(out, cases[i].audit.data, cases[i].audit.length));
    return LODE_OK;
}
