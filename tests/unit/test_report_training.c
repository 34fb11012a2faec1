/* The report on training and on trajectories, over stage files made here: what trajectory.csv says
 * against sums taken by hand, and that charts and tables are there where their data are. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "report/chart.h"
#include "report/training.h"
#include "testing/cmocka_all.h"
#include "testing/compare.h"
#include "testing/results.h"
#include "testing/temporary.h"

enum { LAYERS = 3, CHANNELS = 40, CORE = 2, SEQUENCES = 5, STEPS = 1300, VALIDATIONS = 4 };

static double draw(int64_t i, int64_t stream) {
    return lode_random_uniform(lode_random_key(5, "made-up", stream, 0), (uint64_t)i);
}

static const char *join(const char *folder, const char *name) {
    static char path[4][512];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

/* --- stage files ------------------------------------------------------------------------ */

/* A loss proxy whose two largest channels of layer l are `first` + l and `second` + l. */
static void fill_proxy(double *proxy, int64_t stream, int first, int second) {
    for (int64_t i = 0; i < (int64_t)LAYERS * CHANNELS; i++) {
        const int64_t l = i / CHANNELS, j = i % CHANNELS;
        proxy[i] = draw(i, stream) + (j == first + l ? 50 : j == second + l ? 25 : 0);
    }
}

static void put_interval(lode_store_t *store, const char *name, double middle) {
    char interval[96];
    double values[LAYERS], bounds[2 * LAYERS];
    for (int l = 0; l < LAYERS; l++) {
        values[l] = middle + 0.01 * l;
        bounds[2 * l] = values[l] - 0.125;
        bounds[2 * l + 1] = values[l] + 0.25;
    }
    lode_test_put_f64(store, name, 1, (int64_t[]){LAYERS}, values);
    snprintf(interval, sizeof interval, "%s_interval", name);
    lode_test_put_f64(store, interval, 2, (int64_t[]){LAYERS, 2}, bounds);
}

static void put_accumulate(const char *folder, const double *proxy, int64_t stream) {
    const int64_t shape[] = {LAYERS, CHANNELS}, sums_shape[] = {SEQUENCES, LAYERS, CHANNELS};
    double power[LAYERS * CHANNELS], *sums;
    for (int64_t i = 0; i < (int64_t)LAYERS * CHANNELS; i++)
        power[i] = 0.5 + draw(i, stream + 1);
    LODE_ASSERT_OK(LODE_NEW(&sums, (int64_t)SEQUENCES * LAYERS * CHANNELS, "sums"));
    for (int64_t s = 0; s < SEQUENCES; s++)
        for (int64_t i = 0; i < (int64_t)LAYERS * CHANNELS; i++)
            sums[s * LAYERS * CHANNELS + i] = proxy[i] * (0.5 + draw(s, stream + 2));
    lode_store_t *store = lode_test_stage_create(folder, "accumulate");
    lode_test_put_f64(store, "loss_proxy", 2, shape, proxy);
    lode_test_put_f64(store, "activation_power", 2, shape, power);
    lode_test_put_f64(store, "/sequences/loss_proxy", 3, sums_shape, sums);
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/", "tokens", 700));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/", "sequences", SEQUENCES));
    lode_test_stage_finish(store, "");
    for (int64_t i = 0; i < (int64_t)LAYERS * CHANNELS; i++)
        power[i] = i % CHANNELS == 7 ? 81 : i % 2 ? 8 : 10; /* the largest |u|; median 10 */
    store = lode_test_stage_create(folder, "calibrate");
    lode_test_put_f64(store, "activation_max", 2, shape, power);
    lode_test_stage_finish(store, "");
    free(sums);
}

static void put_classify(const char *folder, int first, int second, bool entropy) {
    const int64_t shape[] = {LAYERS, CHANNELS};
    double values[LAYERS * CHANNELS];
    int32_t core[LAYERS * CORE], halo[LAYERS];
    for (int l = 0; l < LAYERS; l++) {
        core[2 * l] = first + l;
        core[2 * l + 1] = second + l;
        halo[l] = 39;
    }
    lode_store_t *store = lode_test_stage_create(folder, "classify");
    for (int64_t i = 0; i < (int64_t)LAYERS * CHANNELS; i++)
        values[i] = 2 + (double)(i % CHANNELS);
    lode_test_put_f64(store, "connectivity", 2, shape, values);
    if (entropy)
        lode_test_put_f64(store, "entropy", 2, shape, values);
    put_interval(store, "core_mass", 0.5);
    put_interval(store, "/structure/gini", 0.7);
    put_interval(store, "/structure/effective_number", 12);
    put_interval(store, "/structure/overlap_activation", 0.3);
    lode_test_put_i32(store, "core", (int64_t[]){LAYERS, CORE}, core);
    lode_test_put_i32(store, "halo", (int64_t[]){LAYERS, 1}, halo);
    lode_test_stage_finish(store, "");
}

static void put_line(lode_store_t *store, const char *name, int64_t count, const int32_t *values) {
    LODE_ASSERT_OK(lode_store_dataset(store, name, LODE_TYPE_I32, 1, &count, false));
    if (count > 0)
        LODE_ASSERT_OK(lode_store_write(store, name, &(int64_t){0}, &count, values));
}

static void put_superweights(const char *folder) {
    const int64_t layers = LAYERS;
    lode_store_t *store = lode_test_stage_create(folder, "superweight");
    put_line(store, "/weights/layer", 3, (int32_t[]){1, 1, 2});
    put_line(store, "/weights/row", 3, (int32_t[]){4, 5, 6});
    put_line(store, "/weights/channel", 3, (int32_t[]){4, 5, 6});
    lode_test_put_f64(store, "/traces/0/0/output_max", 1, &layers, (double[]){-6, 400, 3});
    lode_test_put_f64(store, "/traces/0/0/output_scale", 1, &layers, (double[]){2, 1, 1});
    lode_test_put_f64(store, "/traces/0/1/output_max", 1, &layers, (double[]){8, 1, 5});
    lode_test_put_f64(store, "/traces/0/1/output_scale", 1, &layers, (double[]){2, 1, 0});
    lode_test_stage_finish(store, "");
}

static void put_evaluate(const char *folder, double value) {
    static const char path[] = "/perplexity/books/dense";
    const int64_t targets = 300;
    double losses[300];
    for (int i = 0; i < 300; i++)
        losses[i] = log(value);
    lode_store_t *store = lode_test_stage_create(folder, "evaluate");
    lode_test_put_f64(store, path, 1, &targets, losses);
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "value", value));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "stderr", 0.1 * value));
    LODE_ASSERT_OK(lode_store_attribute_text(store, path, "protocol", "gptq"));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "length", 256));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "windows", 2));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "targets", targets));
    lode_test_stage_finish(store, "");
}

static void put_steps(lode_store_t *store, const char *name, int64_t count, const int64_t *values) {
    LODE_ASSERT_OK(lode_store_dataset(store, name, LODE_TYPE_I64, 1, &count, false));
    LODE_ASSERT_OK(lode_store_write(store, name, &(int64_t){0}, &count, values));
}

/* A loss that falls from 7 by 0.001 a step; the largest gradient norm, 9, is at step 42. */
static void put_train(const char *folder, double weight) {
    const int64_t steps = STEPS, validations = VALIDATIONS;
    double curve[STEPS], losses[] = {7.5, 6.25, 5.5, 5.75}, errors[] = {0.25, 0.125, 0.125, 0.125};
    double entropy[VALIDATIONS * LAYERS];
    lode_store_t *store = lode_test_stage_create(folder, "train");
    for (int i = 0; i < STEPS; i++)
        curve[i] = 7 - 0.001 * i;
    lode_test_put_f64(store, "loss", 1, &steps, curve);
    for (int i = 0; i < STEPS; i++)
        curve[i] = i == 41 ? 9 : 1 + draw(i, 70);
    lode_test_put_f64(store, "gradient_norm", 1, &steps, curve);
    for (int i = 0; i < STEPS; i++)
        curve[i] = 1e-3;
    lode_test_put_f64(store, "learning_rate", 1, &steps, curve);
    for (int i = 0; i < STEPS; i++)
        curve[i] = weight;
    lode_test_put_f64(store, "entropy_weight", 1, &steps, curve);
    for (int i = 0; i < STEPS; i++)
        curve[i] = weight > 0 ? 5 : NAN;
    lode_test_put_f64(store, "entropy", 1, &steps, curve);
    for (int i = 0; i < VALIDATIONS * LAYERS; i++)
        entropy[i] = 5 - 0.1 * (i / LAYERS);
    put_steps(store, "/validation/step", validations, (int64_t[]){0, 100, 650, STEPS});
    lode_test_put_f64(store, "/validation/loss", 1, &validations, losses);
    lode_test_put_f64(store, "/validation/stderr", 1, &validations, errors);
    lode_test_put_f64(store, "/validation/entropy", 2, (int64_t[]){VALIDATIONS, LAYERS}, entropy);
    put_steps(store, "/checkpoints/step", 1, &steps);
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/", "steps", STEPS));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/", "batch", 8));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/", "length", 64));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/", "parameters", 123456));
    lode_test_stage_finish(store, "");
}

static void put_checkpoint(const char *folder, int64_t stream, int first, int second,
                           bool everything) {
    double proxy[LAYERS * CHANNELS];
    fill_proxy(proxy, stream, first, second);
    put_accumulate(folder, proxy, stream);
    put_classify(folder, first, second, everything);
    put_evaluate(folder, 100.0 / (double)stream);
    if (everything)
        put_superweights(folder);
}

/* --- what came of it ---------------------------------------------------------------------- */

typedef struct row {
    double value, low, high;
} row_t;

/* The row of a figure, which must be there once. */
static row_t find(const char *table, const char *model, const char *layer, const char *figure) {
    char *copy = strdup(table), *fields[LODE_TEST_FIELDS], *line = strchr(copy, '\n') + 1;
    int count, found = 0;
    row_t row = {NAN, NAN, NAN};
    while (*line) {
        line = lode_test_row(line, fields, &count);
        assert_int_equal(count, 9);
        if (strcmp(fields[1], model) != 0 || strcmp(fields[3], layer) != 0 ||
            strcmp(fields[4], figure) != 0)
            continue;
        assert_string_equal(fields[0], "run");
        row.value = strtod(fields[5], NULL);
        row.low = *fields[6] ? strtod(fields[6], NULL) : NAN;
        row.high = *fields[7] ? strtod(fields[7], NULL) : NAN;
        found++;
    }
    free(copy);
    if (found != 1)
        fail_msg("%d rows of %s of %s, layer %s", found, figure, model, layer);
    return row;
}

static void assert_near(double got, double want) {
    LODE_ASSERT_CLOSE(lode_compare_f64("figure", &got, 1, &want, 1, 0, 1e-12));
}

static const lode_report_entry_t series[] = {
    {.point = "", .model = "c10", .series = "run", .step = 10},
    {.point = "", .model = "c1300", .series = "run", .step = STEPS},
    {.point = "", .model = "c0", .series = "run", .step = 0},
    {.point = "", .model = "other", .series = "", .step = -1}};

static void build(const char *folder, const lode_report_entry_t *entries, int64_t count) {
    const lode_report_t report = {
        .folder = folder, .name = "made-up", .seed = 3, .entries = entries, .count = count};
    LODE_ASSERT_OK(lode_report_build(&report));
}

static void check_layers(const char *table) {
    double proxy[LAYERS * CHANNELS], sum = 0;
    row_t row = find(table, "c10", "1", "core_mass");
    assert_near(row.value, 0.51);
    assert_near(row.low, 0.51 - 0.125);
    assert_near(row.high, 0.51 + 0.25);
    row = find(table, "c10", "median", "core_mass"); /* 0.5, 0.51, 0.52 */
    assert_near(row.value, 0.51);
    assert_near(row.low, 0.5);
    assert_near(row.high, 0.52);
    fill_proxy(proxy, 2, 3, 20);
    for (int j = 0; j < CHANNELS; j++)
        sum += proxy[CHANNELS + j];
    row = find(table, "c10", "1", "core_mass@0.05");
    assert_near(row.value, (proxy[CHANNELS + 4] + proxy[CHANNELS + 21]) / sum);
    /* Sequences that differ by a factor alone leave nothing to the draws. */
    assert_near(row.low, row.value);
    assert_near(row.high, row.value);
    row = find(table, "c10", "1", "proxy_correlation");
    assert_true(fabs(row.value) < 0.9);
    assert_near(row.low, row.value);
    assert_near(row.high, row.value);
    assert_near(find(table, "c10", "1", "core_mass@0.01").value, proxy[CHANNELS + 4] / sum);
    /* c0 shares neither channel with c1300, c10 one of the two. */
    assert_near(find(table, "c10", "2", "core_overlap").value, 0.5);
    assert_true(find(table, "c0", "2", "core_overlap").value == 0);
    row = find(table, "c1300", "0", "core_overlap");
    assert_true(row.value == 1 && row.low == 1 && row.high == 1);
    assert_near(find(table, "c0", "0", "core_overlap_chance").value, 2.0 / CHANNELS);
    assert_near(find(table, "c1300", "0", "proxy_correlation").value, 1);
    assert_near(find(table, "c0", "0", "activation_ratio").value, 8.1);
    assert_near(find(table, "c0", "0", "activation_outliers").value, 1.0 / CHANNELS);
    /* 2 … 41: mean 21.5; 5 % lies between the second and the third. */
    assert_near(find(table, "c1300", "0", "entropy_mean").value, 21.5);
    assert_near(find(table, "c1300", "0", "entropy_p05").value, 2 + 0.05 * 39);
    assert_near(find(table, "c1300", "0", "entropy_p95").value, 2 + 0.95 * 39);
    assert_true(!strstr(table, "c10,10,0,entropy"));
}

static void test_trajectory(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    put_checkpoint(join(folder, "c0"), 1, 12, 13, false);
    put_checkpoint(join(folder, "c10"), 2, 3, 20, false);
    put_checkpoint(join(folder, "c1300"), 4, 20, 30, true);
    put_checkpoint(join(folder, "other"), 5, 1, 2, true);
    build(folder, series, 4);
    char *table = lode_test_result(folder, "trajectory.csv"),
         *html = lode_test_result(folder, "report.html");
    assert_true(strncmp(table, "series,model,step,layer,figure,value,low,high,point\n", 52) == 0);
    assert_true(!strstr(table, "other"));
    check_layers(table);
    assert_true(find(table, "c1300", "1", "superweights").value == 2);
    assert_true(find(table, "c1300", "all", "superweights").value == 3);
    assert_near(find(table, "c1300", "0", "superweight_ratio").value, 4);
    assert_near(find(table, "c1300", "all", "superweight_ratio").value, 400);
    row_t row = find(table, "c10", "all", "perplexity/books/gptq/256");
    assert_near(row.value, 50);
    assert_near(row.low, 50 * exp(-0.1959963984540054));
    assert_near(row.high, 50 * exp(0.1959963984540054));
    lode_test_page(html);
    assert_null(strstr(html, "gnuplot failed"));
    static const char *const titles[] = {"Loss and tasks over training",
                                         "Concentration of the loss proxy over training",
                                         "Core mass at fixed ρ",
                                         "When the core is found",
                                         "Activation outliers over training",
                                         "Super weights over training",
                                         "Write entropy over training"};
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        if (!strstr(html, titles[i]))
            fail_msg("no figure \"%s\"", titles[i]);
    assert_non_null(strstr(html, "Step 0, which a logarithmic axis has no place for"));
    assert_non_null(strstr(html, "of c1300, step 1300"));
    free(table);
    free(html);
    /* Without a series the page and the folder are as before it. */
    build(folder, series + 3, 1);
    assert_false(lode_file_exists(join(folder, "trajectory.csv")));
    html = lode_test_result(folder, "report.html");
    assert_null(strstr(html, "id=\"trajectory\""));
    free(html);
}

/* A series of which only some checkpoints are done, and one of two shapes. */
static void test_unfinished(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    put_checkpoint(join(folder, "c10"), 2, 3, 20, false);
    build(folder, series, 3);
    char *table = lode_test_result(folder, "trajectory.csv");
    assert_true(find(table, "c10", "0", "core_overlap").value == 1);
    assert_true(!strstr(table, "c0,") && !strstr(table, "c1300"));
    free(table);
    lode_store_t *store = lode_test_stage_create(join(folder, "c0"), "accumulate");
    const double values[] = {1, 2, 3, 4};
    const int64_t shape[] = {2, 2}, one[] = {2, 1};
    lode_test_put_f64(store, "loss_proxy", 2, shape, values);
    lode_test_put_f64(store, "activation_power", 2, shape, values);
    lode_test_stage_finish(store, "");
    store = lode_test_stage_create(join(folder, "c0"), "classify");
    lode_test_put_f64(store, "connectivity", 2, shape, values);
    lode_test_put_f64(store, "core_mass", 1, shape, values);
    lode_test_put_i32(store, "core", one, (int32_t[]){0, 1});
    lode_test_put_i32(store, "halo", one, (int32_t[]){1, 0});
    lode_test_stage_finish(store, "");
    const lode_report_t report = {.folder = folder, .name = "x", .entries = series, .count = 3};
    LODE_ASSERT_FAILS(lode_report_build(&report), LODE_ERR_SHAPE, "series \"run\": model \"c10\"");
}

/* --- training ------------------------------------------------------------------------------ */

static void test_means(void **state) {
    (void)state;
    const double values[] = {1, 3, NAN, 5, NAN, NAN, 8};
    double means[4];
    assert_int_equal(lode_training_means(means, values, 7, 2), 4);
    assert_true(means[0] == 2 && means[1] == 5 && isnan(means[2]) && means[3] == 8);
    assert_int_equal(lode_training_means(means, values, 2, 1), 2);
    assert_true(means[0] == 1 && means[1] == 3);
    double many[50];
    for (int i = 0; i < 50; i++)
        many[i] = i;
    assert_true(lode_training_final(many, 50) == 48.5); /* of two */
    assert_true(lode_training_final(many, 19) == 18);
    assert_true(lode_training_final(many, 1) == 0);
}

/* Two runs, of which one has the entropy in its loss, and the checkpoints of one of them. */
static void test_training(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    const lode_report_entry_t entries[] = {
        {.point = "", .model = "run", .series = "", .step = -1, .scratch = true},
        {.point = "", .model = "entropy", .series = "", .step = -1, .scratch = true},
        {.point = "", .model = "c10", .series = "run", .step = 10},
        {.point = "", .model = "c1300", .series = "run", .step = STEPS}};
    put_train(join(folder, "run"), 0);
    put_train(join(folder, "entropy"), 0.5);
    put_checkpoint(join(folder, "c10"), 2, 3, 20, false);
    put_checkpoint(join(folder, "c1300"), 4, 20, 30, true);
    build(folder, entries, 4);
    char *html = lode_test_result(folder, "report.html"),
         *table = lode_test_result(folder, "trajectory.csv");
    lode_test_page(html);
    assert_null(strstr(html, "gnuplot failed"));
    /* The two checkpoints lack stages; models that are only trained do not. */
    assert_int_equal(lode_test_count(html, "Not there yet: "), 2);
    assert_non_null(strstr(html, "<th class=\"n\">parameters</th>"));
    assert_non_null(strstr(html, "<td class=\"n\">665600</td>")); /* tokens: 1300·8·64 */
    assert_non_null(strstr(html, "<td class=\"n\">123456</td>"));
    assert_non_null(strstr(html, "7.5000 <span class=\"point\">± 0.2500"));
    assert_non_null(strstr(html, "5.5000 <span class=\"point\">± 0.1250"));
    assert_non_null(strstr(html, "<td class=\"n\">650</td>"));
    assert_non_null(strstr(html, "<td class=\"n\">5.7330</td>")); /* 7 − 0.001·(1235 … 1299) */
    assert_non_null(strstr(html, "9 <span class=\"point\">at 42</span>"));
    assert_non_null(strstr(html, "means over blocks of up to 5 consecutive steps"));
    assert_non_null(strstr(html, "weight λ of the entropy"));
    row_t row = find(table, "c1300", "all", "validation_loss");
    assert_near(row.value, 5.75);
    assert_near(row.low, 5.75 - 1.959963984540054 * 0.125);
    assert_true(!strstr(table, "c10,10,all,validation_loss"));
    assert_true(strlen(html) < 2500000);
    free(html);
    free(table);
}

/* --- the axis of steps ---------------------------------------------------------------------- */

static char *script_of(const double *steps, int64_t count, const double *x) {
    lode_buffer_t script = {0};
    const lode_chart_series_t line = {.colour = LODE_COLOUR_BLUE, .count = count, .x = x, .y = x};
    const lode_chart_panel_t panel = {
        .log_x = true, .steps = steps, .step_count = count, .series = &line, .count = 1};
    const lode_chart_t chart = {.panels = &panel, .count = 1, .columns = 2};
    LODE_ASSERT_OK(lode_chart_script(&script, &chart));
    return script.data;
}

static void test_steps(void **state) {
    (void)state;
    const double steps[] = {100, 0, 20000, 110, 1000};
    double x[5];
    const double place = lode_chart_step_place(steps, 5);
    assert_true(0 < place && place < 100 / 1.5);
    for (int i = 0; i < 5; i++)
        x[i] = steps[i] > 0 ? steps[i] : place;
    char *script = script_of(steps, 5, x);
    const char *tics = strstr(script, "set xtics ('20k' 20000, '0' ");
    assert_non_null(tics);
    assert_non_null(strstr(tics, "'100' 100, '1000' 1000)")); /* no room for 110 */
    assert_non_null(strstr(script, "graph 0 to first"));      /* the line between */
    free(script);
    script = script_of(steps + 2, 3, steps + 2);
    assert_non_null(strstr(script, "set xtics ('20k' 20000, '110' 110, '1000' 1000)"));
    assert_null(strstr(script, "graph 0 to first"));
    free(script);
    assert_true(lode_chart_step_place(&(double){0}, 1) == 1);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_means),      cmocka_unit_test(test_steps),
        cmocka_unit_test(test_trajectory), cmocka_unit_test(test_unfinished),
        cmocka_unit_test(test_training),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
