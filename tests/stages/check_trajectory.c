/* check_trajectory: trajectory.csv against the stage files it is of.
 *
 *     check_trajectory FOLDER SEED LAST MODEL ...
 *
 * FOLDER is <results>/<name>, SEED the experiment's, LAST the checkpoint that overlaps are with,
 * MODEL … all checkpoints. Every figure that follows from stage files is computed here once more,
 * by plain loops and without Lodestone's scores, and must be in the table, layer by layer and as
 * median with its range; so is every bootstrap interval of the first checkpoint's last layer, of
 * the same draws. Prints a line for every model; the exit status is 0 where all pass, 1 where any
 * fails, 2 for a wrong command line.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "testing/hdf5_read.h"

enum { FAILED = 1, USAGE = 2, PATH = 512, FIELDS = 9, MOST_LAYERS = 64 };

typedef struct row {
    char *field[FIELDS]; /* series, model, step, layer, figure, value, low, high, point */
} row_t;

typedef struct table {
    char *text;
    row_t *rows;
    int64_t count;
} table_t;

/* Datasets of a checkpoint. */
typedef struct model {
    const char *name;
    lode_h5_array_t proxy, power, largest, core, mass, interval;
} model_t;

typedef struct check {
    table_t table;
    int64_t layers, channels;
    int compared, failed;
} check_t;

/* --- the table ------------------------------------------------------------------------------- */

static bool read_table(table_t *table, const char *path) {
    FILE *file = fopen(path, "r");
    const size_t room = 16000000;
    if (!file || !(table->text = calloc(room, 1)) ||
        !(table->rows = calloc(200000, sizeof *table->rows)))
        return false;
    const size_t length = fread(table->text, 1, room - 1, file);
    fclose(file);
    char *cursor = table->text, *end = table->text + length;
    while (cursor < end && table->count < 200000) {
        row_t *row = &table->rows[table->count++];
        for (int f = 0; f < FIELDS; f++) {
            row->field[f] = cursor;
            cursor += strcspn(cursor, f + 1 < FIELDS ? "," : "\n");
            if (*cursor)
                *cursor++ = '\0';
        }
    }
    return table->count > 1 && strcmp(table->rows[0].field[5], "value") == 0;
}

static const row_t *find(const table_t *table, const char *model, const char *layer,
                         const char *figure) {
    const row_t *found = NULL;
    for (int64_t i = 1; i < table->count; i++) {
        const row_t *row = &table->rows[i];
        if (strcmp(row->field[1], model) == 0 && strcmp(row->field[3], layer) == 0 &&
            strcmp(row->field[4], figure) == 0) {
            if (found)
                return NULL; /* twice */
            found = row;
        }
    }
    return found;
}

static bool near(const char *got, double want) {
    char *end;
    const double value = strtod(got, &end);
    return end != got && fabs(value - want) <= 1e-12 + 1e-11 * fabs(want);
}

/* Compares one row; low and high are NaN where the table must have none, infinite where it may. */
static void compare(check_t *check, const model_t *model, const char *layer, const char *figure,
                    double value, double low, double high) {
    const row_t *row = find(&check->table, model->name, layer, figure);
    const double bounds[] = {low, high};
    bool same = row && near(row->field[5], value);
    for (int i = 0; same && i < 2; i++)
        same = isnan(bounds[i])   ? row->field[6 + i][0] == '\0'
               : isinf(bounds[i]) ? true
                                  : near(row->field[6 + i], bounds[i]);
    check->compared++;
    if (same)
        return;
    check->failed++;
    printf("FAIL  %s, layer %s: %s is %s, %.17g was expected\n", model->name, layer, figure,
           row ? row->field[5] : "not there once", value);
}

/* A figure of all layers, and its median with the range. */
static void compare_layers(check_t *check, const model_t *model, const char *figure,
                           const double *values, const double *low, const double *high) {
    double sorted[MOST_LAYERS];
    const int64_t layers = check->layers;
    for (int64_t l = 0; l < layers; l++) {
        char layer[24];
        int64_t place = l;
        snprintf(layer, sizeof layer, "%lld", (long long)l);
        compare(check, model, layer, figure, values[l], low ? low[l] : NAN, high ? high[l] : NAN);
        for (; place > 0 && sorted[place - 1] > values[l]; place--)
            sorted[place] = sorted[place - 1];
        sorted[place] = values[l];
    }
    compare(check, model, "median", figure, (sorted[(layers - 1) / 2] + sorted[layers / 2]) / 2,
            sorted[0], sorted[layers - 1]);
}

/* --- figures ------------------------------------------------------------------------------------
 */

/* Whether channel a comes before b: larger, or equal and of lower index. */
static bool before(const double *values, int64_t a, int64_t b) {
    return values[a] > values[b] || (values[a] == values[b] && a < b);
}

static int64_t rank_of(const double *values, int64_t count, int64_t channel) {
    int64_t rank = 0;
    for (int64_t j = 0; j < count; j++)
        rank += j != channel && before(values, j, channel);
    return rank;
}

static double mass_of(const double *values, int64_t count, int64_t largest) {
    double total = 0, sum = 0;
    for (int64_t j = 0; j < count; j++) {
        total += values[j];
        if (rank_of(values, count, j) < largest)
            sum += values[j];
    }
    return sum / total;
}

/* Spearman's, by average ranks. */
static double spearman(const double *a, const double *b, int64_t count) {
    double sums[5] = {0};
    for (int64_t j = 0; j < count; j++) {
        double ranks[2] = {0, 0};
        for (int64_t i = 0; i < count; i++) {
            ranks[0] += a[i] < a[j] ? 1 : a[i] == a[j] ? 0.5 : 0;
            ranks[1] += b[i] < b[j] ? 1 : b[i] == b[j] ? 0.5 : 0;
        }
        const double x = ranks[0] - 0.5 * (double)count, y = ranks[1] - 0.5 * (double)count;
        sums[0] += x * x;
        sums[1] += y * y;
        sums[2] += x * y;
    }
    return sums[2] / sqrt(sums[0] * sums[1]);
}

static double median_of(const double *values, int64_t count) {
    double middle[2] = {0, 0};
    for (int64_t j = 0; j < count; j++) {
        const int64_t rank = rank_of(values, count, j);
        if (rank == (count - 1) / 2)
            middle[0] = values[j];
        if (rank == count / 2)
            middle[1] = values[j];
    }
    return 0.5 * (middle[0] + middle[1]);
}

static void check_concentration(check_t *check, const model_t *model) {
    static const struct {
        const char *figure;
        double fraction;
    } fixed[] = {{"core_mass@0.005", 0.005},
                 {"core_mass@0.01", 0.01},
                 {"core_mass@0.02", 0.02},
                 {"core_mass@0.05", 0.05}};
    const int64_t m = check->channels;
    double values[MOST_LAYERS], low[MOST_LAYERS], high[MOST_LAYERS], any[MOST_LAYERS];
    for (int64_t l = 0; l < check->layers; l++) {
        any[l] = INFINITY;
        low[l] = model->interval.f64[2 * l];
        high[l] = model->interval.f64[2 * l + 1];
    }
    compare_layers(check, model, "core_mass", model->mass.f64, low, high);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        const int64_t size = (int64_t)floor(fixed[i].fraction * (double)m);
        for (int64_t l = 0; l < check->layers; l++)
            values[l] = mass_of(model->proxy.f64 + l * m, m, size > 1 ? size : 1);
        compare_layers(check, model, fixed[i].figure, values, any, any);
    }
}

static void check_overlap(check_t *check, const model_t *model, const model_t *last) {
    const int64_t m = check->channels, k = model->core.extent[1];
    double overlap[MOST_LAYERS], chance[MOST_LAYERS], correlation[MOST_LAYERS];
    double any[MOST_LAYERS];
    for (int64_t l = 0; l < check->layers; l++) {
        int64_t shared = 0;
        for (int64_t i = 0; i < k * k; i++)
            shared += model->core.i32[l * k + i / k] == last->core.i32[l * k + i % k];
        overlap[l] = (double)shared / (double)k;
        chance[l] = (double)k / (double)m;
        correlation[l] = spearman(model->proxy.f64 + l * m, last->proxy.f64 + l * m, m);
        any[l] = INFINITY;
    }
    compare_layers(check, model, "core_overlap", overlap, any, any);
    compare_layers(check, model, "core_overlap_chance", chance, NULL, NULL);
    compare_layers(check, model, "proxy_correlation", correlation, any, any);
    /* The interval is one: of shares, and of a checkpoint with itself without width. */
    for (int64_t l = 0; l < check->layers; l++) {
        char layer[24];
        snprintf(layer, sizeof layer, "%lld", (long long)l);
        const row_t *row = find(&check->table, model->name, layer, "core_overlap");
        const double low = row ? strtod(row->field[6], NULL) : NAN,
                     high = row ? strtod(row->field[7], NULL) : NAN;
        const bool sound = row && row->field[6][0] && 0 <= low && low <= high && high <= 1 &&
                           (model != last || low == 1);
        check->compared++;
        check->failed += !sound;
        if (!sound)
            printf("FAIL  %s, layer %s: the interval of core_overlap is %g to %g\n", model->name,
                   layer, low, high);
    }
}

static void check_activations(check_t *check, const model_t *model) {
    const int64_t m = check->channels, k = model->core.extent[1];
    double ratio[MOST_LAYERS], outliers[MOST_LAYERS], mass[MOST_LAYERS];
    for (int64_t l = 0; l < check->layers; l++) {
        const double *largest = model->largest.f64 + l * m;
        const double median = median_of(largest, m);
        double top = 0, count = 0;
        for (int64_t j = 0; j < m; j++) {
            top = largest[j] > top ? largest[j] : top;
            count += largest[j] > 6 * median;
        }
        ratio[l] = top / median;
        outliers[l] = count / (double)m;
        mass[l] = mass_of(model->power.f64 + l * m, m, k);
    }
    compare_layers(check, model, "activation_ratio", ratio, NULL, NULL);
    compare_layers(check, model, "activation_outliers", outliers, NULL, NULL);
    compare_layers(check, model, "activation_core_mass", mass, NULL, NULL);
}

/* Spikes of all prompts, and how many weights were found. */
static void check_superweights(check_t *check, const model_t *model, const char *folder) {
    char path[PATH], prompt[LODE_H5_NAME];
    double spike[MOST_LAYERS] = {0}, all = 0;
    lode_h5_array_t weights = {0};
    snprintf(path, sizeof path, "%s/%s/superweight.h5", folder, model->name);
    hid_t file = lode_h5_open(path);
    for (int64_t p = 0; p < lode_h5_members(file, "/traces/0"); p++) {
        lode_h5_array_t output = {0}, scale = {0};
        lode_h5_member(file, "/traces/0", p, prompt);
        snprintf(path, sizeof path, "/traces/0/%s/output_max", prompt);
        bool read = lode_h5_read(&output, file, path, LODE_H5_F64);
        snprintf(path, sizeof path, "/traces/0/%s/output_scale", prompt);
        read = read && lode_h5_read(&scale, file, path, LODE_H5_F64);
        for (int64_t l = 0; read && l < check->layers; l++) {
            const double value = fabs(output.f64[l]) / scale.f64[l];
            spike[l] = value > spike[l] ? value : spike[l];
            all = value > all ? value : all;
        }
        check->failed += !read;
        lode_h5_free(&output);
        lode_h5_free(&scale);
    }
    for (int64_t l = 0; l < check->layers; l++) {
        char layer[24];
        snprintf(layer, sizeof layer, "%lld", (long long)l);
        compare(check, model, layer, "superweight_ratio", spike[l], NAN, NAN);
    }
    compare(check, model, "all", "superweight_ratio", all, NAN, NAN);
    lode_h5_read(&weights, file, "/weights/layer", LODE_H5_I32);
    compare(check, model, "all", "superweights", (double)weights.count, NAN, NAN);
    lode_h5_free(&weights);
    if (file >= 0)
        H5Fclose(file);
}

static void check_perplexity(check_t *check, const model_t *model, const char *folder) {
    char path[PATH];
    double value = NAN, error = NAN;
    snprintf(path, sizeof path, "%s/%s/evaluate.h5", folder, model->name);
    hid_t file = lode_h5_open(path);
    const bool read = lode_h5_number(file, "/perplexity/books/dense", "value", &value) &&
                      lode_h5_number(file, "/perplexity/books/dense", "stderr", &error);
    const double width = 1.959963984540054 * error / value;
    if (read)
        compare(check, model, "all", "perplexity/books/gptq/256", value, value * exp(-width),
                value * exp(width));
    check->failed += !read;
    if (file >= 0)
        H5Fclose(file);
}

/* --- models -------------------------------------------------------------------------------------
 */

static bool read_one(lode_h5_array_t *array, const char *folder, const char *name,
                     const char *stage, const char *dataset, lode_h5_type_t type) {
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s/%s.h5", folder, name, stage);
    hid_t file = lode_h5_open(path);
    const bool read = lode_h5_read(array, file, dataset, type);
    if (file >= 0)
        H5Fclose(file);
    return read;
}

static bool read_model(model_t *model, const char *folder, const char *name) {
    *model = (model_t){.name = name};
    const struct {
        lode_h5_array_t *array;
        const char *stage, *dataset;
        lode_h5_type_t type;
    } parts[] = {{&model->proxy, "accumulate", "/loss_proxy", LODE_H5_F64},
                 {&model->power, "accumulate", "/activation_power", LODE_H5_F64},
                 {&model->largest, "calibrate", "/activation_max", LODE_H5_F64},
                 {&model->core, "classify", "/core", LODE_H5_I32},
                 {&model->mass, "classify", "/core_mass", LODE_H5_F64},
                 {&model->interval, "classify", "/core_mass_interval", LODE_H5_F64}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!read_one(parts[i].array, folder, name, parts[i].stage, parts[i].dataset,
                      parts[i].type)) {
            printf("FAIL  %s/%s/%s.h5: no %s\n", folder, name, parts[i].stage, parts[i].dataset);
            return false;
        }
    return true;
}

static void free_model(model_t *model) {
    lode_h5_array_t *arrays[] = {&model->proxy, &model->power, &model->largest,
                                 &model->core,  &model->mass,  &model->interval};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        lode_h5_free(arrays[i]);
}

/* --- intervals ------------------------------------------------------------------------------- */

enum { DRAWS = 200, DRAWN = 6 };

static int compare_doubles(const void *left, const void *right) {
    const double *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

/* What is drawn of a layer of two checkpoints, into row `d` of figures [DRAWN][DRAWS]. */
static void measure_draw(const double *values, const double *lasts, int64_t m, int64_t k, int d,
                         double figures[DRAWN][DRAWS]) {
    static const double fractions[] = {0.005, 0.01, 0.02, 0.05};
    int64_t shared = 0;
    for (int64_t j = 0; j < m; j++)
        shared += rank_of(values, m, j) < k && rank_of(lasts, m, j) < k;
    figures[0][d] = (double)shared / (double)k;
    figures[1][d] = spearman(values, lasts, m);
    for (int i = 0; i < 4; i++) {
        const int64_t size = (int64_t)floor(fractions[i] * (double)m);
        figures[2 + i][d] = mass_of(values, m, size > 1 ? size : 1);
    }
}

/* The percentile interval of 95 %, linear between draws. */
static double percentile(double *figures, double fraction) {
    qsort(figures, DRAWS, sizeof *figures, compare_doubles);
    const double place = fraction * (DRAWS - 1);
    const int below = (int)place;
    return figures[below] + (place - below) * (figures[below + 1] - figures[below]);
}

/* The last layer's intervals, from draws made here. */
static void check_intervals(check_t *check, const model_t *model, const model_t *last,
                            const char *folder, int64_t seed) {
    static const char *const names[DRAWN] = {"core_overlap",    "proxy_correlation",
                                             "core_mass@0.005", "core_mass@0.01",
                                             "core_mass@0.02",  "core_mass@0.05"};
    static const char dataset[] = "/sequences/loss_proxy";
    static double figures[DRAWN][DRAWS];
    const int64_t layer = check->layers - 1, m = check->channels, k = model->core.extent[1];
    lode_h5_array_t own = {0}, other = {0};
    double *values = calloc(2 * (size_t)m, sizeof *values);
    char number[24];
    if (!values || !read_one(&own, folder, model->name, "accumulate", dataset, LODE_H5_F64) ||
        !read_one(&other, folder, last->name, "accumulate", dataset, LODE_H5_F64)) {
        check->failed++;
        return;
    }
    for (int d = 0; d < DRAWS; d++) {
        const uint64_t key = lode_random_key(seed, "trajectory", layer, d);
        const int64_t sequences = own.extent[0];
        memset(values, 0, 2 * (size_t)m * sizeof *values);
        for (int64_t i = 0; i < sequences; i++) {
            const int64_t s = lode_random_below(key, (uint64_t)i, sequences);
            for (int64_t j = 0; j < m; j++) {
                values[j] += own.f64[(s * check->layers + layer) * m + j];
                values[m + j] += other.f64[(s * check->layers + layer) * m + j];
            }
        }
        measure_draw(values, values + m, m, k, d, figures);
    }
    snprintf(number, sizeof number, "%lld", (long long)layer);
    for (int i = 0; i < DRAWN; i++) {
        const row_t *row = find(&check->table, model->name, number, names[i]);
        compare(check, model, number, names[i], row ? strtod(row->field[5], NULL) : NAN,
                percentile(figures[i], 0.025), percentile(figures[i], 0.975));
    }
    free(values);
    lode_h5_free(&own);
    lode_h5_free(&other);
}

int main(int argc, char **argv) {
    check_t check = {0};
    model_t last, model;
    char path[PATH];
    if (argc < 5) {
        fprintf(stderr, "usage: check_trajectory FOLDER SEED LAST MODEL ...\n");
        return USAGE;
    }
    snprintf(path, sizeof path, "%s/trajectory.csv", argv[1]);
    if (!read_table(&check.table, path) || !read_model(&last, argv[1], argv[3])) {
        printf("FAIL  %s or its last checkpoint cannot be read\n", path);
        return FAILED;
    }
    check.layers = last.proxy.extent[0];
    check.channels = last.proxy.extent[1];
    for (int i = 4; i < argc && check.layers <= MOST_LAYERS; i++) {
        const int compared = check.compared, failed = check.failed;
        const bool is_last = strcmp(argv[i], argv[3]) == 0;
        if (!is_last && !read_model(&model, argv[1], argv[i]))
            return FAILED;
        const model_t *each = is_last ? &last : &model;
        check_concentration(&check, each);
        check_overlap(&check, each, &last);
        if (i == 4)
            check_intervals(&check, each, &last, argv[1], strtoll(argv[2], NULL, 10));
        check_activations(&check, each);
        check_superweights(&check, each, argv[1]);
        check_perplexity(&check, each, argv[1]);
        if (check.failed == failed)
            printf("ok    %s: %d figures\n", argv[i], check.compared - compared);
        if (!is_last)
            free_model(&model);
    }
    free_model(&last);
    free(check.table.rows);
    free(check.table.text);
    return check.failed > 0 || check.compared == 0 ? FAILED : 0;
}
