/* What a series' stage files say, layer by layer; trajectory.h says which figures those are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/trajectory_draws.h"
#include "score/concentration.h"
#include "score/trajectory.h"

#define STANDARD_ERRORS 1.959963984540054 /* of the middle 95 % of a normal distribution */

/* A checkpoint's files while they are read, and what others are held against. */
typedef struct reader {
    lode_trajectory_t *trajectory;
    lode_trajectory_checkpoint_t *checkpoint;
    lode_store_t *accumulate, *classify, *calibrate, *superweight;
    double *loss_proxy, *power, *largest; /* [layers, channels] */
    int32_t *core;                        /* [layers, core_extent] */
    int64_t core_extent, sequences;
    const double *sums; /* [sequences, layers, channels], mapped; NULL where there is none */
} reader_t;

const char *lode_trajectory_name(lode_trajectory_figure_t figure) {
    static const char *const names[] = {
#define FIGURE_NAME(figure, name, median) name,
        LODE_TRAJECTORY_LIST(FIGURE_NAME)
#undef FIGURE_NAME
    };
    return names[figure];
}

/* --- which checkpoints --------------------------------------------------------------------- */

static bool is_of(const lode_report_case_t *item, const lode_report_case_t *like) {
    return item->series && item->series[0] && item->step >= 0 && like->series &&
           strcmp(item->series, like->series) == 0 && strcmp(item->point, like->point) == 0;
}

bool lode_trajectory_begins(const lode_report_case_t *cases, int64_t count, int64_t index) {
    if (index >= count || !is_of(&cases[index], &cases[index]))
        return false;
    for (int64_t i = 0; i < index; i++)
        if (is_of(&cases[i], &cases[index]))
            return false;
    return true;
}

static int compare_steps(const void *left, const void *right) {
    const lode_trajectory_checkpoint_t *a = left, *b = right;
    return (a->item->step > b->item->step) - (a->item->step < b->item->step);
}

/* Every figure has its place; those that are not known have none. */
static lode_status_t collect(lode_trajectory_t *trajectory, const lode_report_case_t *cases,
                             int64_t count, int64_t first) {
    LODE_TRY(LODE_NEW(&trajectory->checkpoints, count, "checkpoints of a series"));
    for (int64_t i = first; i < count; i++)
        if (is_of(&cases[i], &cases[first]))
            trajectory->checkpoints[trajectory->count++] = (lode_trajectory_checkpoint_t){
                .item = &cases[i], .validation = NAN, .validation_error = NAN};
    qsort(trajectory->checkpoints, (size_t)trajectory->count, sizeof *trajectory->checkpoints,
          compare_steps);
    for (int64_t i = 0; i < trajectory->count; i++) {
        const lode_report_case_t *item = trajectory->checkpoints[i].item;
        if (item->layer_count == 0)
            continue;
        if (trajectory->layers > 0 && (item->layer_count != trajectory->layers ||
                                       item->channel_count != trajectory->channels))
            return lode_fail(LODE_ERR_SHAPE,
                             "series \"%s\": model \"%s\" has %lld layers of %lld channels, those "
                             "before it %lld of %lld; give models of another shape another series",
                             trajectory->series, item->model, (long long)item->layer_count,
                             (long long)item->channel_count, (long long)trajectory->layers,
                             (long long)trajectory->channels);
        trajectory->layers = item->layer_count;
        trajectory->channels = item->channel_count;
        trajectory->last = i;
    }
    return LODE_OK;
}

/* --- reading ------------------------------------------------------------------------------- */

static lode_status_t figure_place(reader_t *reader, lode_trajectory_figure_t figure) {
    return lode_shelf_new(&reader->trajectory->shelf, &reader->checkpoint->value[figure],
                          reader->trajectory->layers);
}

/* A dataset [layers] of classify.h5, with its interval where that has one. */
static lode_status_t read_classified(reader_t *reader, lode_trajectory_figure_t figure,
                                     const char *dataset) {
    char name[96];
    double *bounds;
    int64_t layers = reader->trajectory->layers, shape[2] = {layers, 2};
    lode_shelf_t *shelf = &reader->trajectory->shelf;
    LODE_TRY(lode_shelf_f64(shelf, reader->classify, dataset, 1, &layers,
                            &reader->checkpoint->value[figure]));
    snprintf(name, sizeof name, "%s_interval", dataset);
    LODE_TRY(lode_shelf_f64(shelf, reader->classify, name, 2, shape, &bounds));
    if (!bounds || !reader->checkpoint->value[figure])
        return LODE_OK;
    LODE_TRY(lode_shelf_new(shelf, &reader->checkpoint->low[figure], layers));
    LODE_TRY(lode_shelf_new(shelf, &reader->checkpoint->high[figure], layers));
    for (int64_t l = 0; l < layers; l++) {
        reader->checkpoint->low[figure][l] = bounds[2 * l];
        reader->checkpoint->high[figure][l] = bounds[2 * l + 1];
    }
    return LODE_OK;
}

static lode_status_t read_entropy(reader_t *reader) {
    const int64_t layers = reader->trajectory->layers, m = reader->trajectory->channels;
    int64_t shape[2] = {layers, m};
    double *entropy, quantiles[5];
    LODE_TRY(lode_shelf_f64(&reader->trajectory->shelf, reader->classify, "/entropy", 2, shape,
                            &entropy));
    if (!entropy)
        return LODE_OK;
    LODE_TRY(figure_place(reader, LODE_TRAJECTORY_ENTROPY));
    LODE_TRY(figure_place(reader, LODE_TRAJECTORY_ENTROPY_LOW));
    LODE_TRY(figure_place(reader, LODE_TRAJECTORY_ENTROPY_HIGH));
    double *const *value = reader->checkpoint->value;
    for (int64_t l = 0; l < layers; l++) {
        double sum = 0;
        for (int64_t j = 0; j < m; j++)
            sum += entropy[l * m + j];
        lode_report_quantiles(quantiles, entropy + l * m, m);
        value[LODE_TRAJECTORY_ENTROPY][l] = sum / (double)m;
        value[LODE_TRAJECTORY_ENTROPY_LOW][l] = quantiles[0];
        value[LODE_TRAJECTORY_ENTROPY_HIGH][l] = quantiles[4];
    }
    return LODE_OK;
}

/* Weights found in each layer, and the largest spike of its output in any prompt, as it stands. */
static lode_status_t read_superweights(reader_t *reader) {
    lode_trajectory_t *trajectory = reader->trajectory;
    int64_t layers = trajectory->layers, found = -1, count = 0;
    int32_t *layer;
    char **prompts = NULL, name[128];
    if (!reader->superweight)
        return LODE_OK;
    LODE_TRY(figure_place(reader, LODE_TRAJECTORY_SUPER_WEIGHTS));
    LODE_TRY(figure_place(reader, LODE_TRAJECTORY_SPIKE));
    double *weights = reader->checkpoint->value[LODE_TRAJECTORY_SUPER_WEIGHTS];
    double *spike = reader->checkpoint->value[LODE_TRAJECTORY_SPIKE];
    for (int64_t l = 0; l < layers; l++)
        spike[l] = NAN;
    LODE_TRY(lode_shelf_i32(&trajectory->shelf, reader->superweight, "/weights/layer", 1, &found,
                            &layer));
    for (int64_t i = 0; layer && i < found; i++)
        if (0 <= layer[i] && layer[i] < layers)
            weights[layer[i]]++;
    LODE_TRY(lode_store_list(reader->superweight, "/traces/0", &prompts, &count));
    lode_status_t status = LODE_OK;
    for (int64_t p = 0; status == LODE_OK && p < count; p++) {
        double *output, *scale = NULL;
        snprintf(name, sizeof name, "/traces/0/%s/output_max", prompts[p]);
        status = lode_shelf_f64(&trajectory->shelf, reader->superweight, name, 1, &layers, &output);
        snprintf(name, sizeof name, "/traces/0/%s/output_scale", prompts[p]);
        if (status == LODE_OK)
            status =
                lode_shelf_f64(&trajectory->shelf, reader->superweight, name, 1, &layers, &scale);
        for (int64_t l = 0; status == LODE_OK && output && scale && l < layers; l++)
            if (scale[l] > 0)
                spike[l] = fmax(spike[l], fabs(output[l]) / scale[l]); /* fmax skips NaN */
    }
    lode_store_list_free(&prompts, count);
    return status;
}

/* Whether what a checkpoint is measured by is there. */
static bool is_measured(const reader_t *reader) {
    return reader->loss_proxy && reader->power && reader->core;
}

static lode_status_t read_files(reader_t *reader) {
    const lode_report_case_t *item = reader->checkpoint->item;
    lode_shelf_t *shelf = &reader->trajectory->shelf;
    const int64_t layers = reader->trajectory->layers, m = reader->trajectory->channels;
    int64_t matrix[2] = {layers, m}, cores[2] = {layers, -1}, sums[3] = {-1, layers, m};
    int64_t elements;
    int axes;
    LODE_TRY(lode_report_open(&reader->accumulate, item, "accumulate"));
    LODE_TRY(lode_report_open(&reader->classify, item, "classify"));
    LODE_TRY(lode_report_open(&reader->calibrate, item, "calibrate"));
    LODE_TRY(lode_report_open(&reader->superweight, item, "superweight"));
    LODE_TRY(
        lode_shelf_f64(shelf, reader->accumulate, "/loss_proxy", 2, matrix, &reader->loss_proxy));
    LODE_TRY(
        lode_shelf_f64(shelf, reader->accumulate, "/activation_power", 2, matrix, &reader->power));
    LODE_TRY(
        lode_shelf_f64(shelf, reader->calibrate, "/activation_max", 2, matrix, &reader->largest));
    LODE_TRY(lode_shelf_i32(shelf, reader->classify, "/core", 2, cores, &reader->core));
    reader->core_extent = cores[1];
    if (!reader->accumulate || !lode_store_has(reader->accumulate, "/sequences/loss_proxy"))
        return LODE_OK;
    LODE_TRY(lode_store_shape(reader->accumulate, "/sequences/loss_proxy", &axes, sums));
    if (axes != 3 || sums[1] != layers || sums[2] != m)
        return lode_fail(LODE_ERR_SHAPE,
                         "dataset \"/sequences/loss_proxy\" does not have the shape of the other "
                         "results; run its stage again (--force)");
    reader->sequences = sums[0];
    return lode_store_map(reader->accumulate, "/sequences/loss_proxy", LODE_TYPE_F64,
                          (const void **)&reader->sums, &elements);
}

/* --- figures of one checkpoint --------------------------------------------------------------- */

static lode_status_t measure_masses(reader_t *reader) {
    const double *fractions = lode_trajectory_fractions;
    enum { COUNT = LODE_TRAJECTORY_FRACTIONS };
    const int64_t m = reader->trajectory->channels;
    double masses[COUNT], *const *value = reader->checkpoint->value;
    for (int i = 0; i < COUNT; i++)
        LODE_TRY(figure_place(reader, LODE_TRAJECTORY_MASS_HALF + i));
    LODE_TRY(figure_place(reader, LODE_TRAJECTORY_ACTIVATION_MASS));
    for (int64_t l = 0; l < reader->trajectory->layers; l++) {
        LODE_TRY(lode_trajectory_masses(masses, fractions, COUNT, reader->loss_proxy + l * m, m,
                                        "loss proxy"));
        for (int i = 0; i < COUNT; i++)
            value[LODE_TRAJECTORY_MASS_HALF + i][l] = masses[i];
        /* As many channels as the core has: the half keeps the floor from falling below. */
        const int64_t k =
            lode_report_row_length(reader->core + l * reader->core_extent, reader->core_extent);
        const double fraction = fmin(1, ((double)k + 0.5) / (double)m);
        LODE_TRY(lode_trajectory_masses(&value[LODE_TRAJECTORY_ACTIVATION_MASS][l], &fraction, 1,
                                        reader->power + l * m, m, "activation power"));
    }
    return LODE_OK;
}

static lode_status_t measure_reach(reader_t *reader) {
    const int64_t m = reader->trajectory->channels;
    double *const *value = reader->checkpoint->value;
    LODE_TRY(figure_place(reader, LODE_TRAJECTORY_ACTIVATION_KURTOSIS));
    if (reader->largest) {
        LODE_TRY(figure_place(reader, LODE_TRAJECTORY_ACTIVATION_RATIO));
        LODE_TRY(figure_place(reader, LODE_TRAJECTORY_ACTIVATION_OUTLIERS));
    }
    for (int64_t l = 0; l < reader->trajectory->layers; l++) {
        lode_trajectory_reach_t reach;
        LODE_TRY(lode_trajectory_reach(&reach, reader->largest ? reader->largest + l * m : NULL,
                                       reader->power + l * m, m, LODE_TRAJECTORY_OUTLIER));
        value[LODE_TRAJECTORY_ACTIVATION_KURTOSIS][l] = reach.kurtosis;
        if (!reader->largest)
            continue;
        value[LODE_TRAJECTORY_ACTIVATION_RATIO][l] = reach.ratio;
        value[LODE_TRAJECTORY_ACTIVATION_OUTLIERS][l] = reach.outliers;
    }
    return LODE_OK;
}

/* One layer's core and loss proxy beside the last ones. */
static lode_status_t compare_layer(const reader_t *reader, const reader_t *last, int64_t l) {
    const int64_t m = reader->trajectory->channels, k = reader->core_extent, n = last->core_extent;
    const int32_t *core = reader->core + l * k;
    double *const *value = reader->checkpoint->value;
    LODE_TRY(lode_trajectory_overlaps(&value[LODE_TRAJECTORY_OVERLAP][l], 1, core, k,
                                      last->core + l * n, n, m));
    value[LODE_TRAJECTORY_CHANCE][l] = (double)lode_report_row_length(core, k) / (double)m;
    return lode_concentration_spearman(&value[LODE_TRAJECTORY_CORRELATION][l],
                                       reader->loss_proxy + l * m, last->loss_proxy + l * m, m,
                                       "loss proxy of two checkpoints");
}

static lode_status_t compare_with_last(reader_t *reader, const reader_t *last) {
    if (!is_measured(reader) || !is_measured(last))
        return LODE_OK;
    for (int i = LODE_TRAJECTORY_OVERLAP; i <= LODE_TRAJECTORY_CORRELATION; i++)
        LODE_TRY(figure_place(reader, i));
    for (int64_t l = 0; l < reader->trajectory->layers; l++)
        LODE_TRY(compare_layer(reader, last, l));
    return LODE_OK;
}

/* Leaves open what sums are mapped from. */
static lode_status_t read_checkpoint(reader_t *reader) {
    LODE_TRY(read_files(reader));
    LODE_TRY(read_classified(reader, LODE_TRAJECTORY_MASS, "/core_mass"));
    LODE_TRY(read_classified(reader, LODE_TRAJECTORY_GINI, "/structure/gini"));
    LODE_TRY(read_classified(reader, LODE_TRAJECTORY_EFFECTIVE, "/structure/effective_number"));
    LODE_TRY(read_classified(reader, LODE_TRAJECTORY_ACTIVATION_OVERLAP,
                             "/structure/overlap_activation"));
    LODE_TRY(read_entropy(reader));
    LODE_TRY(read_superweights(reader));
    if (!is_measured(reader))
        return LODE_OK;
    LODE_TRY(measure_masses(reader));
    return measure_reach(reader);
}

static lode_status_t read_and_close(reader_t *reader) {
    const lode_status_t status = read_checkpoint(reader);
    lode_store_close(&reader->classify);
    lode_store_close(&reader->calibrate);
    lode_store_close(&reader->superweight);
    return lode_fail_context(status, "%s", reader->checkpoint->item->folder);
}

/* --- the series ------------------------------------------------------------------------------ */

static lode_status_t read_validation(lode_trajectory_t *trajectory, const lode_report_case_t *cases,
                                     int64_t count) {
    const lode_report_case_t *base = NULL;
    lode_store_t *store;
    int64_t extent = -1;
    for (int64_t i = 0; i < count && !base; i++)
        if (strcmp(cases[i].model, trajectory->series) == 0 &&
            strcmp(cases[i].point, trajectory->point) == 0)
            base = &cases[i];
    if (!base)
        return LODE_OK;
    LODE_TRY(lode_report_open(&store, base, "train"));
    lode_status_t status = lode_shelf_i64(&trajectory->shelf, store, "/validation/step", 1, &extent,
                                          &trajectory->step);
    if (status == LODE_OK)
        status = lode_shelf_f64(&trajectory->shelf, store, "/validation/loss", 1, &extent,
                                &trajectory->loss);
    if (status == LODE_OK)
        status = lode_shelf_f64(&trajectory->shelf, store, "/validation/stderr", 1, &extent,
                                &trajectory->error);
    lode_store_close(&store);
    trajectory->validations =
        trajectory->step && trajectory->loss && trajectory->error ? extent : 0;
    return lode_fail_context(status, "%s/train.h5", base->folder);
}

/* The validation loss of each checkpoint at whose step there was one. */
static void assign_validation(lode_trajectory_t *trajectory) {
    for (int64_t i = 0; i < trajectory->count; i++)
        for (int64_t v = 0; v < trajectory->validations; v++)
            if (trajectory->step[v] == trajectory->checkpoints[i].item->step) {
                trajectory->checkpoints[i].validation = trajectory->loss[v];
                trajectory->checkpoints[i].validation_error = trajectory->error[v];
            }
}

/* readers [count]: {0}; what they open is the caller's to close. */
static lode_status_t read_all(lode_trajectory_t *trajectory, reader_t *readers) {
    for (int64_t i = 0; i < trajectory->count; i++) {
        readers[i] =
            (reader_t){.trajectory = trajectory, .checkpoint = &trajectory->checkpoints[i]};
        if (readers[i].checkpoint->item->layer_count > 0)
            LODE_TRY(read_and_close(&readers[i]));
    }
    for (int64_t i = 0; i < trajectory->count; i++)
        LODE_TRY(lode_fail_context(compare_with_last(&readers[i], &readers[trajectory->last]), "%s",
                                   readers[i].checkpoint->item->folder));
    return LODE_OK;
}

static lode_status_t set_intervals(lode_trajectory_t *trajectory, const reader_t *readers,
                                   int64_t seed) {
    lode_trajectory_source_t *sources;
    LODE_TRY(LODE_NEW(&sources, trajectory->count, "checkpoints of a series"));
    for (int64_t i = 0; i < trajectory->count; i++)
        sources[i] =
            (lode_trajectory_source_t){.checkpoint = &trajectory->checkpoints[i],
                                       .sums = is_measured(&readers[i]) ? readers[i].sums : NULL,
                                       .sequences = readers[i].sequences,
                                       .core_size = readers[i].core_extent};
    const lode_status_t status = lode_trajectory_intervals(trajectory, sources, seed);
    free(sources);
    return status;
}

static lode_status_t read_layers(lode_trajectory_t *trajectory, int64_t seed) {
    reader_t *readers;
    LODE_TRY(lode_shelf_new(&trajectory->shelf, &trajectory->scratch, trajectory->layers));
    LODE_TRY(LODE_NEW(&readers, trajectory->count, "checkpoints of a series"));
    lode_status_t status = read_all(trajectory, readers);
    if (status == LODE_OK)
        status = set_intervals(trajectory, readers, seed);
    for (int64_t i = 0; i < trajectory->count; i++)
        lode_store_close(&readers[i].accumulate);
    free(readers);
    return status;
}

lode_status_t lode_trajectory_read(lode_trajectory_t *trajectory, const lode_report_case_t *cases,
                                   int64_t count, int64_t first, int64_t seed) {
    *trajectory =
        (lode_trajectory_t){.series = cases[first].series, .point = cases[first].point, .last = -1};
    LODE_TRY(collect(trajectory, cases, count, first));
    LODE_TRY(read_validation(trajectory, cases, count));
    assign_validation(trajectory);
    return trajectory->last >= 0 ? read_layers(trajectory, seed) : LODE_OK;
}

void lode_trajectory_free(lode_trajectory_t *trajectory) {
    free(trajectory->checkpoints);
    lode_shelf_free(&trajectory->shelf);
    *trajectory = (lode_trajectory_t){0};
}

/* --- over layers ------------------------------------------------------------------------------ */

void lode_trajectory_median(double summary[3], const lode_trajectory_t *trajectory,
                            int64_t checkpoint, lode_trajectory_figure_t figure) {
    const double *value = trajectory->checkpoints[checkpoint].value[figure];
    double *known = trajectory->scratch;
    int64_t count = 0;
    for (int64_t l = 0; value && l < trajectory->layers; l++)
        if (isfinite(value[l]))
            known[count++] = value[l];
    summary[0] = count > 0 ? lode_report_median(known, count) : NAN; /* sorts them */
    summary[1] = count > 0 ? known[0] : NAN;
    summary[2] = count > 0 ? known[count - 1] : NAN;
}

double lode_trajectory_whole(const lode_trajectory_t *trajectory, int64_t checkpoint,
                             lode_trajectory_figure_t figure) {
    const double *value = trajectory->checkpoints[checkpoint].value[figure];
    double sum = 0, largest = NAN;
    for (int64_t l = 0; value && l < trajectory->layers; l++) {
        sum += value[l];
        largest = fmax(largest, value[l]);
    }
    return !value ? NAN : figure == LODE_TRAJECTORY_SUPER_WEIGHTS ? sum : largest;
}

void lode_trajectory_band(double *low, double *high, double value, double standard_error) {
    *low = value - STANDARD_ERRORS * standard_error;
    *high = value + STANDARD_ERRORS * standard_error;
}

void lode_trajectory_interval(double *low, double *high, const lode_report_figure_t *figure) {
    lode_trajectory_band(low, high, figure->value, figure->standard_error);
    if (lode_report_is_loss(figure)) { /* symmetric in the logarithm */
        *low = figure->value * exp((*low - figure->value) / figure->value);
        *high = figure->value * exp((*high - figure->value) / figure->value);
    }
}
