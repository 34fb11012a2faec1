#include "report/result.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "comm/context.h"
#include "store/store.h"
#include "store/digest.h"

/* Every experiment has the stages `always`; the others run where it asks for what they do. */
static const struct {
    const char *name;
    bool always;
} stages[LODE_REPORT_STAGES] = {
    {"tokenizer", false}, {"tokenize", true}, {"train", false},      {"calibrate", true},
    {"accumulate", true}, {"moments", false}, {"classify", true},    {"superweight", false},
    {"spectra", false},   {"prune", true},    {"compensate", false}, {"quantize", false},
    {"evaluate", true},   {"probe", false},   {"export", false},     {"audit", false},
};

lode_status_t lode_report_open(lode_store_t **store, const lode_report_case_t *item,
                               const char *stage) {
    *store = NULL;
    lode_comm_t alone = {.comm = MPI_COMM_SELF, .rank = 0, .size = 1};
    lode_buffer_t path = {0};
    lode_status_t status = lode_buffer_printf(&path, "%s/%s.h5", item->folder, stage);
    if (status == LODE_OK && lode_file_exists(path.data))
        status = lode_store_open(store, &alone, path.data);
    lode_buffer_free(&path);
    return status;
}

/* --- provenance ------------------------------------------------------------------------- */

/* A text of the provenance, "" where the file has none. */
static lode_status_t read_text(lode_store_t *store, const char *name, char **out) {
    if (lode_store_has_attribute(store, "/provenance", name))
        return lode_store_get_attribute_text(store, "/provenance", name, out);
    return lode_strdup(out, "");
}

static lode_status_t read_origin(lode_store_t *store, lode_report_origin_t *origin) {
    const struct {
        const char *name;
        char **text;
    } texts[] = {
        {"experiment", &origin->experiment},
        {"experiment_sha256", &origin->experiment_sha256},
        {"fingerprint", &origin->fingerprint},
        {"inputs", &origin->inputs},
        {"version", &origin->version},
        {"commit", &origin->commit},
        {"libraries", &origin->libraries},
        {"host", &origin->host},
        {"start", &origin->start},
        {"end", &origin->end},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        LODE_TRY(read_text(store, texts[i].name, texts[i].text));
    if (lode_store_has_attribute(store, "/provenance", "ranks"))
        LODE_TRY(lode_store_get_attribute_i64(store, "/provenance", "ranks", &origin->ranks));
    if (lode_store_has_attribute(store, "/provenance", "threads"))
        LODE_TRY(lode_store_get_attribute_i64(store, "/provenance", "threads", &origin->threads));
    return LODE_OK;
}

/* --- figures ---------------------------------------------------------------------------- */

static void free_figure(lode_report_figure_t *figure) {
    free(figure->dataset);
    free(figure->protocol);
    free(figure->variant.name);
}

/* Appends an empty figure of one variant of one dataset. */
static lode_status_t add_figure(lode_report_case_t *item, int64_t *capacity, const char *metric,
                                const char *dataset, const char *variant,
                                lode_report_figure_t **out) {
    if (item->figure_count == *capacity) {
        int64_t larger = *capacity ? 2 * *capacity : 64;
        lode_report_figure_t *figures;
        LODE_TRY(LODE_NEW(&figures, larger, "figures"));
        if (item->figure_count > 0)
            memcpy(figures, item->figures, (size_t)item->figure_count * sizeof *figures);
        free(item->figures);
        item->figures = figures;
        *capacity = larger;
    }
    lode_report_figure_t *figure = &item->figures[item->figure_count++];
    *figure = (lode_report_figure_t){
        .metric = metric, .value = NAN, .standard_error = NAN, .chance = NAN};
    LODE_TRY(lode_strdup(&figure->dataset, dataset));
    LODE_TRY(lode_report_variant_parse(&figure->variant, variant));
    *out = figure;
    return LODE_OK;
}

/* One figure of a perplexity's losses, by the attributes `value` and `error`. */
static lode_status_t read_perplexity(lode_store_t *store, const char *path, const char *value,
                                     const char *error, lode_report_figure_t *figure) {
    LODE_TRY(lode_store_get_attribute_f64(store, path, value, &figure->value));
    LODE_TRY(lode_store_get_attribute_f64(store, path, error, &figure->standard_error));
    LODE_TRY(lode_store_get_attribute_text(store, path, "protocol", &figure->protocol));
    LODE_TRY(lode_store_get_attribute_i64(store, path, "length", &figure->length));
    LODE_TRY(lode_store_get_attribute_i64(store, path, "windows", &figure->windows));
    if (lode_store_has_attribute(store, path, "words"))
        LODE_TRY(lode_store_get_attribute_i64(store, path, "words", &figure->words));
    return lode_store_get_attribute_i64(store, path, "targets", &figure->count);
}

/* One figure of a task, if the task has it; the metric is the attribute's name, for the value of a
 * language-modelling task "perplexity". */
static lode_status_t read_task(lode_store_t *store, const char *path,
                               lode_report_figure_t *figure) {
    char error_name[64];
    snprintf(error_name, sizeof error_name, "%s_stderr", figure->metric);
    LODE_TRY(lode_store_get_attribute_f64(store, path, figure->metric, &figure->value));
    if (lode_store_has_attribute(store, path, error_name))
        LODE_TRY(lode_store_get_attribute_f64(store, path, error_name, &figure->standard_error));
    LODE_TRY(lode_store_get_attribute_i64(store, path, "items", &figure->count));
    if (!lode_report_is_loss(figure) && lode_store_has_attribute(store, path, "chance"))
        LODE_TRY(lode_store_get_attribute_f64(store, path, "chance", &figure->chance));
    figure->repeats = strcmp(figure->metric, "acc_norm") == 0 &&
                      lode_store_has_attribute(store, path, "perplexity");
    return lode_strdup(&figure->protocol, "");
}

/* All figures of one variant of a dataset in /perplexity or /tasks. */
static lode_status_t read_variant(lode_store_t *store, lode_report_case_t *item, int64_t *capacity,
                                  const char *path, bool task, const char *dataset,
                                  const char *variant) {
    static const char *const metrics[] = {"acc", "acc_norm", "perplexity"};
    static const char *const units[] = {"byte_perplexity", "bits_per_byte"};
    lode_report_figure_t *figure;
    if (!task) {
        LODE_TRY(add_figure(item, capacity, "perplexity", dataset, variant, &figure));
        figure->per_token = true;
        LODE_TRY(read_perplexity(store, path, "value", "stderr", figure));
    }
    for (size_t i = 0; !task && i < sizeof units / sizeof *units; i++) {
        char error[64];
        if (!lode_store_has_attribute(store, path, units[i]))
            continue;
        snprintf(error, sizeof error, "%s_stderr", units[i]);
        LODE_TRY(add_figure(item, capacity, units[i], dataset, variant, &figure));
        LODE_TRY(read_perplexity(store, path, units[i], error, figure));
    }
    for (size_t i = 0; task && i < sizeof metrics / sizeof metrics[0]; i++) {
        if (!lode_store_has_attribute(store, path, metrics[i]))
            continue;
        LODE_TRY(add_figure(item, capacity, metrics[i], dataset, variant, &figure));
        LODE_TRY(read_task(store, path, figure));
    }
    return LODE_OK;
}

static lode_status_t read_dataset(lode_store_t *store, lode_report_case_t *item, int64_t *capacity,
                                  bool task, const char *dataset) {
    lode_buffer_t group = {0};
    char **variants = NULL;
    int64_t count = 0;
    lode_status_t status =
        lode_buffer_printf(&group, "%s/%s", task ? "/tasks" : "/perplexity", dataset);
    if (status == LODE_OK)
        status = lode_store_list(store, group.data, &variants, &count);
    for (int64_t i = 0; status == LODE_OK && i < count; i++) {
        lode_buffer_t path = {0};
        status = lode_buffer_printf(&path, "%s/%s", group.data, variants[i]);
        if (status == LODE_OK)
            status = read_variant(store, item, capacity, path.data, task, dataset, variants[i]);
        lode_buffer_free(&path);
    }
    lode_store_list_free(&variants, count);
    lode_buffer_free(&group);
    return status;
}

bool lode_report_same_axis(const lode_report_figure_t *a, const lode_report_figure_t *b) {
    return strcmp(a->metric, b->metric) == 0 && strcmp(a->dataset, b->dataset) == 0 &&
           strcmp(a->protocol, b->protocol) == 0 && a->length == b->length;
}

int64_t lode_report_axis_end(const lode_report_case_t *item, int64_t begin) {
    int64_t end = begin + 1;
    while (end < item->figure_count &&
           lode_report_same_axis(&item->figures[end], &item->figures[begin]))
        end++;
    return end;
}

bool lode_report_is_derived(const lode_report_figure_t *figure) {
    return strcmp(figure->metric, "byte_perplexity") == 0 ||
           strcmp(figure->metric, "bits_per_byte") == 0;
}

bool lode_report_is_loss(const lode_report_figure_t *figure) {
    return strcmp(figure->metric, "perplexity") == 0 || lode_report_is_derived(figure);
}

const char *lode_report_metric_title(const lode_report_figure_t *figure) {
    static const char *const titles[][2] = {{"byte_perplexity", "Byte perplexity"},
                                            {"bits_per_byte", "Bits per byte"},
                                            {"acc", "Accuracy"},
                                            {"acc_norm", "Normalised accuracy"}};
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        if (strcmp(figure->metric, titles[i][0]) == 0)
            return titles[i][1];
    if (!figure->protocol[0])
        return "Perplexity of continuations";
    return figure->words > 0 ? "Word perplexity" : "Perplexity";
}

static int compare_figures(const void *left, const void *right) {
    const lode_report_figure_t *a = left, *b = right;
    const bool a_task = !a->protocol[0], b_task = !b->protocol[0];
    if (a_task != b_task)
        return a_task ? 1 : -1;
    int order = strcmp(a->dataset, b->dataset);
    if (order == 0)
        order = lode_report_is_derived(a) - lode_report_is_derived(b);
    if (order == 0)
        order = strcmp(a->metric, b->metric);
    if (order == 0)
        order = strcmp(a->protocol, b->protocol);
    if (order == 0)
        order = (a->length > b->length) - (a->length < b->length);
    /* NaN is the sparsity of a name nobody knows: last. */
    if (order == 0 && isnan(a->variant.sparsity) != isnan(b->variant.sparsity))
        order = isnan(a->variant.sparsity) ? 1 : -1;
    if (order == 0 && a->variant.sparsity != b->variant.sparsity && !isnan(a->variant.sparsity))
        order = a->variant.sparsity < b->variant.sparsity ? -1 : 1;
    if (order == 0 && a->variant.bits != b->variant.bits) /* as stored first, then ever fewer */
        order = a->variant.bits == 0 || (b->variant.bits > 0 && a->variant.bits > b->variant.bits)
                    ? -1
                    : 1;
    if (order == 0)
        order = strcmp(a->variant.scheme, b->variant.scheme);
    if (order == 0)
        order = (a->variant.order > b->variant.order) - (a->variant.order < b->variant.order);
    return order ? order : strcmp(a->variant.name, b->variant.name);
}

static lode_status_t read_figures(lode_store_t *store, lode_report_case_t *item) {
    int64_t capacity = 0;
    for (int task = 0; task < 2; task++) {
        char **datasets;
        int64_t count;
        LODE_TRY(lode_store_list(store, task ? "/tasks" : "/perplexity", &datasets, &count));
        lode_status_t status = LODE_OK;
        for (int64_t i = 0; status == LODE_OK && i < count; i++)
            status = read_dataset(store, item, &capacity, task, datasets[i]);
        lode_store_list_free(&datasets, count);
        LODE_TRY(status);
    }
    if (item->figure_count > 0)
        qsort(item->figures, (size_t)item->figure_count, sizeof *item->figures, compare_figures);
    return LODE_OK;
}

/* How much text the statistics are of. */
static lode_status_t read_extent(lode_store_t *store, lode_report_case_t *item) {
    if (lode_store_has_attribute(store, "/", "tokens"))
        LODE_TRY(lode_store_get_attribute_i64(store, "/", "tokens", &item->tokens));
    if (lode_store_has_attribute(store, "/", "sequences"))
        LODE_TRY(lode_store_get_attribute_i64(store, "/", "sequences", &item->sequences));
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    if (!lode_store_has(store, "/redundancy/q"))
        return LODE_OK;
    LODE_TRY(lode_store_shape(store, "/redundancy/q", &axes, shape));
    item->redundancy_tokens = shape[0];
    return LODE_OK;
}

/* What variants take, by quantize.h5. */
static lode_status_t read_sizes(lode_report_case_t *item) {
    lode_store_t *store;
    lode_buffer_t path = {0};
    LODE_TRY(lode_report_open(&store, item, "quantize"));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && store && i < item->figure_count; i++) {
        lode_report_variant_t *variant = &item->figures[i].variant;
        path.length = 0;
        LODE_GUARD(status, lode_buffer_printf(&path, "/sizes/%s", variant->name), done);
        if (lode_store_has_attribute(store, path.data, "bytes"))
            LODE_GUARD(status,
                       lode_store_get_attribute_i64(store, path.data, "bytes", &variant->bytes),
                       done);
        path.length = 0;
        LODE_GUARD(status, lode_buffer_printf(&path, "/variants/%s", variant->name), done);
        if (lode_store_has_attribute(store, path.data, "bits_per_weight"))
            status = lode_store_get_attribute_f64(store, path.data, "bits_per_weight",
                                                  &variant->bits_per_weight);
    }
done:
    lode_buffer_free(&path);
    lode_store_close(&store);
    return lode_fail_context(status, "%s/quantize.h5", item->folder);
}

void lode_report_extent(char text[LODE_REPORT_EXTENT], const lode_report_case_t *item) {
    text[0] = '\0';
    if (item->sequences > 0)
        snprintf(text, LODE_REPORT_EXTENT, " Calibration: %lld tokens in %lld sequences.",
                 (long long)item->tokens, (long long)item->sequences);
}

lode_status_t lode_report_case_load(lode_report_case_t *item) {
    for (int stage = 0; stage < LODE_REPORT_STAGES; stage++) {
        lode_store_t *store;
        lode_report_origin_t *origin = &item->origins[stage];
        origin->stage = stages[stage].name;
        origin->always = stages[stage].always && !item->scratch;
        LODE_TRY(lode_report_open(&store, item, origin->stage));
        if (!store)
            continue;
        origin->exists = true;
        lode_status_t status = read_origin(store, origin);
        if (status == LODE_OK)
            status = lode_store_digest_sealed(store, origin->digest, NULL);
        if (status == LODE_OK && strcmp(origin->stage, "accumulate") == 0)
            status = read_extent(store, item);
        if (status == LODE_OK && strcmp(origin->stage, "evaluate") == 0)
            status = read_figures(store, item);
        lode_store_close(&store);
        LODE_TRY(status);
    }
    return read_sizes(item);
}

void lode_report_case_free(lode_report_case_t *item) {
    for (int64_t i = 0; i < item->figure_count; i++)
        free_figure(&item->figures[i]);
    for (int stage = 0; stage < LODE_REPORT_STAGES; stage++) {
        lode_report_origin_t *origin = &item->origins[stage];
        char *texts[] = {origin->experiment,  origin->experiment_sha256,
                         origin->fingerprint, origin->inputs,
                         origin->version,     origin->commit,
                         origin->libraries,   origin->host,
                         origin->start,       origin->end};
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
            free(texts[i]);
    }
    free(item->figures);
    free(item->layers);
    free(item->folder);
    for (int topic = 0; topic < LODE_TOPIC_COUNT; topic++)
        lode_buffer_free(&item->topics[topic]);
    for (int glance = 0; glance < LODE_GLANCES; glance++)
        lode_buffer_free(&item->glances[glance]);
    lode_buffer_free(&item->comparisons);
    lode_buffer_free(&item->audit);
    *item = (lode_report_case_t){0};
}

/* --- channels --------------------------------------------------------------------------- */

/* Reads a matrix whose first extent must be the number of layers; *columns is its second, which
 * must be as given where that is not negative. */
static lode_status_t read_matrix(lode_store_t *store, const char *stage, const char *name,
                                 lode_type_t type, int64_t layers, int64_t *columns, void *out) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    LODE_TRY(lode_store_shape(store, name, &axes, shape));
    if (axes != 2 || shape[0] != layers || (*columns >= 0 && shape[1] != *columns))
        return lode_fail(LODE_ERR_SHAPE,
                         "%s.h5: dataset \"%s\" does not have the shape of the file's other "
                         "datasets; run the stage again (--force)",
                         stage, name);
    *columns = shape[1];
    return lode_store_read_all(store, name, type, out, NULL);
}

/* Rows of channels, of which no row can have more than there are. */
static lode_status_t check_indices(const int32_t *rows, int64_t layers, int64_t extent,
                                   int64_t channels, const char *name) {
    if (extent > channels)
        return lode_fail(LODE_ERR_SHAPE,
                         "classify.h5: dataset \"%s\" has room for %lld of %lld channels; run the "
                         "stage again (--force)",
                         name, (long long)extent, (long long)channels);
    for (int64_t i = 0; i < layers * extent; i++)
        if (rows[i] < -1 || rows[i] >= channels)
            return lode_fail(LODE_ERR_FORMAT,
                             "classify.h5: dataset \"%s\" names channel %d of %lld; run the stage "
                             "again (--force)",
                             name, rows[i], (long long)channels);
    return LODE_OK;
}

static lode_status_t read_channels(lode_report_channels_t *channels, lode_store_t *classify,
                                   lode_store_t *accumulate) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    LODE_TRY(lode_store_shape(accumulate, "loss_proxy", &axes, shape));
    if (axes != 2)
        return lode_fail(LODE_ERR_SHAPE, "accumulate.h5: dataset \"loss_proxy\" is not a matrix");
    int64_t layers = shape[0], m = shape[1];
    channels->channels = m;
    channels->core_extent = channels->halo_extent = -1;
    LODE_TRY(read_matrix(accumulate, "accumulate", "loss_proxy", LODE_TYPE_F64, layers, &m,
                         &channels->loss_proxy));
    LODE_TRY(read_matrix(accumulate, "accumulate", "activation_power", LODE_TYPE_F64, layers, &m,
                         &channels->activation_power));
    LODE_TRY(read_matrix(classify, "classify", "connectivity", LODE_TYPE_F64, layers, &m,
                         &channels->connectivity));
    LODE_TRY(read_matrix(classify, "classify", "core", LODE_TYPE_I32, layers,
                         &channels->core_extent, &channels->core));
    LODE_TRY(read_matrix(classify, "classify", "halo", LODE_TYPE_I32, layers,
                         &channels->halo_extent, &channels->halo));
    int64_t masses = 0;
    LODE_TRY(
        lode_store_read_all(classify, "core_mass", LODE_TYPE_F64, &channels->core_mass, &masses));
    if (masses != layers)
        return lode_fail(LODE_ERR_SHAPE,
                         "classify.h5: dataset \"core_mass\" has %lld layers of %lld",
                         (long long)masses, (long long)layers);
    if (lode_store_has(classify, "core_mass_interval")) {
        int64_t bounds = 2;
        LODE_TRY(read_matrix(classify, "classify", "core_mass_interval", LODE_TYPE_F64, layers,
                             &bounds, &channels->core_mass_interval));
    }
    LODE_TRY(check_indices(channels->core, layers, channels->core_extent, m, "core"));
    LODE_TRY(check_indices(channels->halo, layers, channels->halo_extent, m, "halo"));
    channels->layers = m > 0 ? layers : 0;
    return LODE_OK;
}

lode_status_t lode_report_channels_load(lode_report_channels_t *channels,
                                        const lode_report_case_t *item) {
    *channels = (lode_report_channels_t){0};
    lode_store_t *classify = NULL, *accumulate = NULL;
    lode_status_t status = lode_report_open(&classify, item, "classify");
    if (status == LODE_OK)
        status = lode_report_open(&accumulate, item, "accumulate");
    if (status == LODE_OK && classify && accumulate)
        status =
            lode_fail_context(read_channels(channels, classify, accumulate), "%s", item->folder);
    lode_store_close(&accumulate);
    lode_store_close(&classify);
    if (status != LODE_OK)
        lode_report_channels_free(channels);
    return status;
}

void lode_report_channels_free(lode_report_channels_t *channels) {
    free(channels->loss_proxy);
    free(channels->activation_power);
    free(channels->connectivity);
    free(channels->core_mass);
    free(channels->core_mass_interval);
    free(channels->core);
    free(channels->halo);
    *channels = (lode_report_channels_t){0};
}
