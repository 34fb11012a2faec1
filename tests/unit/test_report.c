/* The report over stage files made here: every figure has its row, the page stands alone, names can
 * do no harm. With a folder as argument, only writes the report of the golden values there. */
#include <jansson.h>
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "report/report.h"
#include "report/result.h"
#include "store/store.h"
#include "testing/cmocka_all.h"
#include "testing/compare.h"
#include "testing/data.h"
#include "testing/results.h"
#include "testing/temporary.h"

static lode_comm_t self;
static const char header[] = "model,variant,method,sparsity,allocation,compensation,metric,dataset,"
                             "protocol,value,stderr,count,core,point,quantization,"
                             "protection,bytes\n";

static char *format_path(const char *folder, const char *rest) {
    char *path;
    LODE_ASSERT_OK(lode_path_join(&path, folder, rest));
    return path;
}

/* --- making stage files ----------------------------------------------------------------- */

static void put_perplexity(lode_store_t *store, const char *dataset, const char *variant,
                           const char *protocol, double value) {
    lode_buffer_t path = {0};
    const int64_t targets = 3;
    LODE_ASSERT_OK(lode_buffer_printf(&path, "/perplexity/%s/%s", dataset, variant));
    lode_test_put_f64(store, path.data, 1, &targets, (double[]){1, 2, 3});
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path.data, "value", value));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path.data, "stderr", 0.0131 * value));
    LODE_ASSERT_OK(lode_store_attribute_text(store, path.data, "protocol", protocol));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path.data, "length", 256));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path.data, "windows", 36));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path.data, "targets", 9180));
    lode_buffer_free(&path);
}

static void put_task(lode_store_t *store, const char *dataset, const char *variant, double acc) {
    lode_buffer_t path = {0};
    const int64_t shape[2] = {1, 4};
    LODE_ASSERT_OK(lode_buffer_printf(&path, "/tasks/%s/%s", dataset, variant));
    lode_test_put_f64(store, path.data, 2, shape, (double[]){-1, -2, -3, -4});
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path.data, "acc", acc));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path.data, "acc_stderr", 0.02));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path.data, "acc_norm", acc + 0.01));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path.data, "acc_norm_stderr", 0.02));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path.data, "items", 500));
    lode_buffer_free(&path);
}

enum { LAYERS = 4, CHANNELS = 60, CORE = 3, HALO = 6 };

/* Statistics of a small made-up model: heavy-tailed loss proxy, ragged core and halo. */
static void make_statistics(const char *folder) {
    const int64_t shape[2] = {LAYERS, CHANNELS}, layers = LAYERS;
    double loss_proxy[LAYERS * CHANNELS], power[LAYERS * CHANNELS], conn[LAYERS * CHANNELS];
    double mass[LAYERS];
    int32_t core[LAYERS * CORE], halo[LAYERS * HALO];
    for (int i = 0; i < LAYERS * CHANNELS; i++) {
        int j = i % CHANNELS;
        loss_proxy[i] = exp(-0.2 * j) * (1 + i / CHANNELS);
        power[i] = (j % 7) + 0.5;
        conn[i] = 0.1 + 0.3 * ((j * 37) % CHANNELS) / CHANNELS;
    }
    for (int layer = 0; layer < LAYERS; layer++) {
        mass[layer] = 0.3 + 0.05 * layer;
        for (int i = 0; i < CORE; i++)
            core[layer * CORE + i] = layer == 1 && i == CORE - 1 ? -1 : i;
        for (int i = 0; i < HALO; i++)
            halo[layer * HALO + i] = CORE + i;
    }
    lode_store_t *store = lode_test_stage_create(folder, "accumulate");
    lode_test_put_f64(store, "loss_proxy", 2, shape, loss_proxy);
    lode_test_put_f64(store, "activation_power", 2, shape, power);
    lode_test_stage_finish(store, "");
    store = lode_test_stage_create(folder, "classify");
    lode_test_put_f64(store, "connectivity", 2, shape, conn);
    lode_test_put_f64(store, "core_mass", 1, &layers, mass);
    lode_test_put_i32(store, "core", (int64_t[]){LAYERS, CORE}, core);
    lode_test_put_i32(store, "halo", (int64_t[]){LAYERS, HALO}, halo);
    lode_test_stage_finish(store, "");
}

static const char *const no_point[] = {""};

/* --- the golden values as stage files --------------------------------------------------- */

static void copy_golden(lode_store_t *from, const char *name, lode_store_t *to, const char *as,
                        bool indices) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES], count;
    LODE_ASSERT_OK(lode_store_shape(from, name, &axes, shape));
    if (!indices) {
        double *values;
        LODE_ASSERT_OK(lode_store_read_all(from, name, LODE_TYPE_F64, &values, &count));
        lode_test_put_f64(to, as, axes, shape, values);
        free(values);
        return;
    }
    int64_t *wide;
    int32_t *values;
    LODE_ASSERT_OK(lode_store_read_all(from, name, LODE_TYPE_I64, &wide, &count));
    LODE_ASSERT_OK(LODE_NEW(&values, count, name));
    for (int64_t i = 0; i < count; i++)
        values[i] = (int32_t)wide[i];
    lode_test_put_i32(to, as, shape, values);
    free(values);
    free(wide);
}

static void make_golden_statistics(const char *folder, const char *golden, const char *text) {
    lode_store_t *from, *to;
    LODE_ASSERT_OK(lode_store_open(&from, &self, golden));
    to = lode_test_stage_create(folder, "accumulate");
    copy_golden(from, "loss_mean/loss_proxy", to, "loss_proxy", false);
    copy_golden(from, "loss_mean/activation_power", to, "activation_power", false);
    lode_test_stage_finish(to, text);
    to = lode_test_stage_create(folder, "classify");
    copy_golden(from, "classify/connectivity", to, "connectivity", false);
    copy_golden(from, "classify/core_mass", to, "core_mass", false);
    copy_golden(from, "classify/core", to, "core", true);
    copy_golden(from, "classify/halo", to, "halo", true);
    lode_test_stage_finish(to, text);
    lode_test_stage_finish(lode_test_stage_create(folder, "tokenize"), text);
    lode_test_stage_finish(lode_test_stage_create(folder, "calibrate"), text);
    lode_test_stage_finish(lode_test_stage_create(folder, "prune"), text);
    lode_store_close(&from);
}

/* Writes evaluate.h5 with the golden perplexities; returns their number. */
static int make_golden_figures(const char *folder, const json_t *golden, const char *text) {
    lode_store_t *store = lode_test_stage_create(folder, "evaluate");
    const char *variant;
    json_t *value;
    int count = 2;
    put_perplexity(store, "books-eval", "dense", "gptq",
                   json_number_value(json_object_get(golden, "ppl_gptq_dense")));
    put_perplexity(store, "books-eval-llama", "dense", "llama.cpp",
                   json_number_value(json_object_get(golden, "ppl_llamacpp_dense")));
    json_object_foreach(json_object_get(golden, "ppl_pruned"), variant, value) {
        put_perplexity(store, "books-eval", variant, "gptq", json_number_value(value));
        count++;
    }
    json_object_foreach(json_object_get(golden, "ppl_least_squares"), variant, value) {
        char name[64];
        if (!strchr(variant, '@'))
            continue;
        snprintf(name, sizeof name, "%s+least-squares", variant);
        put_perplexity(store, "books-eval", name, "gptq", json_number_value(value));
        count++;
    }
    lode_test_stage_finish(store, text);
    return count;
}

/* The report of the golden values of books3m; returns the number of its figures. */
static int golden_report(const char *folder) {
    static const char text[] = "name = \"golden\";\nmodels = ( { name = \"books3m\"; } );\n";
    const char *models[] = {"books3m"};
    char *model = format_path(folder, "books3m");
    json_t *golden = json_load_file(lode_test_data("golden/books3m.json"), 0, NULL);
    assert_non_null(golden);
    make_golden_statistics(model, lode_test_data("golden/books3m.h5"), text);
    int figures = make_golden_figures(model, golden, text);
    json_decref(golden);
    free(model);
    lode_report_t report = lode_test_report(folder, "golden", no_point, 1, models, 1, 0);
    LODE_ASSERT_OK(lode_report_build(&report));
    return figures;
}

static void test_golden(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    if (!lode_test_data("golden/books3m.json") || !lode_test_data("golden/books3m.h5"))
        skip();
    int figures = golden_report(folder);
    char *table = lode_test_result(folder, "summary.csv"),
         *html = lode_test_result(folder, "report.html");
    assert_int_equal(lode_test_lines(table), 1 + figures);
    assert_memory_equal(table, header, strlen(header));
    lode_test_page(html);
    assert_non_null(strstr(html, ">30.90 <small>± 0.40<"));
    assert_non_null(strstr(html, "27.8 %"));
    assert_non_null(strstr(html, "Best at 50 % removed"));
    assert_non_null(strstr(html, "wanda-channel+least-squares on books-eval"));
    char *fields[LODE_TEST_FIELDS], *line = table + strlen(header);
    int count, found = 0;
    while (*line) {
        line = lode_test_row(line, fields, &count);
        assert_int_equal(count, 17);
        if (strcmp(fields[1], "magnitude@0.5~lp") != 0)
            continue;
        found++;
        assert_string_equal(fields[0], "books3m");
        assert_string_equal(fields[2], "magnitude");
        assert_true(strtod(fields[3], NULL) == 0.5);
        assert_string_equal(fields[4], "uniform");
        assert_string_equal(fields[5], "none");
        assert_string_equal(fields[6], "perplexity");
        assert_string_equal(fields[7], "books-eval");
        assert_string_equal(fields[8], "gptq");
        assert_true(strtod(fields[9], NULL) == 82.59091786567448);
        assert_string_equal(fields[11], "9180");
        assert_string_equal(fields[12], "lp");
        assert_string_equal(fields[13], "");
    }
    assert_int_equal(found, 1);
    free(table);
    free(html);
}

/* --- everything else -------------------------------------------------------------------- */

static void test_variants(void **state) {
    (void)state;
    const struct {
        const char *name, *method, *core, *allocation, *compensation;
        double sparsity;
    } cases[] = {
        {"dense", "dense", "none", "uniform", "none", 0},
        {"scar-prot@0.5", "scar-prot", "lp", "uniform", "none", 0.5},
        {"magnitude@0.5", "magnitude", "none", "uniform", "none", 0.5},
        {"scar-lp@0.125~none", "scar-lp", "none", "uniform", "none", 0.125},
        {"lp@1e-05~activation+global+least-squares", "lp", "activation", "global", "least-squares",
         1e-5},
        {"random@0.3+bias", "random", "none", "uniform", "bias", 0.3},
        {"random@0.3~", "random@0.3~", "none", "uniform", "none", NAN},
        {"@0.5", "@0.5", "none", "uniform", "none", NAN},
        {"lp@x", "lp@x", "lp", "uniform", "none", NAN},
        {"core-removed", "core-removed", "none", "uniform", "none", NAN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lode_report_variant_t variant;
        LODE_ASSERT_OK(lode_report_variant_parse(&variant, cases[i].name));
        assert_string_equal(variant.name, cases[i].name);
        assert_string_equal(variant.method, cases[i].method);
        if (isnan(cases[i].sparsity)) {
            assert_true(isnan(variant.sparsity));
        } else {
            assert_true(variant.sparsity == cases[i].sparsity);
            assert_string_equal(variant.core, cases[i].core);
            assert_string_equal(variant.allocation, cases[i].allocation);
            assert_string_equal(variant.compensation, cases[i].compensation);
        }
        free(variant.name);
    }
}

/* A sweep over two keys and two models, one of which has not run everywhere. */
static void test_sweep(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    const char *points[] = {"a=1,b=2", "a=1,b=3"}, *models[] = {"one", "two"};
    char *first = format_path(folder, "a=1,b=2/one"), *second = format_path(folder, "a=1,b=3/two");
    make_statistics(first);
    lode_store_t *store = lode_test_stage_create(first, "evaluate");
    put_perplexity(store, "text", "dense", "gptq", 10);
    put_perplexity(store, "text", "lp@0.5", "gptq", 20);
    put_task(store, "arc", "dense", 0.5);
    put_task(store, "arc", "lp@0.5", 0.4);
    lode_test_stage_finish(store, "a");
    store = lode_test_stage_create(second, "evaluate");
    put_perplexity(store, "text", "dense", "gptq", 11);
    lode_test_stage_finish(store, "b");
    lode_report_t report = lode_test_report(folder, "sweep", points, 2, models, 2, 0);
    LODE_ASSERT_OK(lode_report_build(&report));
    char *table = lode_test_result(folder, "summary.csv"),
         *html = lode_test_result(folder, "report.html");
    const char *metrics[] = {"perplexity", "perplexity", "acc",       "acc",
                             "acc_norm",   "acc_norm",   "perplexity"};
    const double values[] = {10, 20, 0.5, 0.4, 0.5 + 0.01, 0.4 + 0.01, 11};
    char *fields[LODE_TEST_FIELDS], *line = table + strlen(header);
    for (int row = 0, count; row < 7; row++) {
        assert_true(*line != '\0');
        line = lode_test_row(line, fields, &count);
        assert_int_equal(count, 17);
        assert_string_equal(fields[0], row < 6 ? "one" : "two");
        assert_string_equal(fields[6], metrics[row]);
        assert_true(strtod(fields[9], NULL) == values[row]);
        assert_string_equal(fields[13], row < 6 ? "a=1,b=2" : "a=1,b=3");
    }
    assert_true(*line == '\0');
    lode_test_page(html);
    assert_non_null(strstr(html, "<h2>Overview</h2>"));
    assert_int_equal(lode_test_count(html, "<section id=\"case-"), 4);
    assert_non_null(strstr(html, "Not there yet: tokenize.h5, calibrate.h5, accumulate.h5"));
    assert_non_null(strstr(html, "2.00× dense"));
    free(table);
    free(html);
    free(first);
    free(second);
}

static void test_identifiers_are_unique(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *models[] = {"m"};
    char *model = format_path(folder, "m");
    make_statistics(model);
    lode_report_t report = lode_test_report(folder, "x", no_point, 1, models, 1, 0);
    LODE_ASSERT_OK(lode_report_build(&report));
    char *html = lode_test_result(folder, "report.html");
    lode_test_page(html);
    if (!strstr(html, "No figure: ")) {
        assert_int_equal(lode_test_count(html, "<svg"), 4);
        for (int i = 1; i <= 4; i++) {
            char mark[32];
            snprintf(mark, sizeof mark, "id=\"f%d-", i);
            assert_true(lode_test_count(html, mark) > 0);
        }
        assert_null(strstr(html, "id=\"gnuplot"));
    }
    free(html);
    free(model);
}

/* Names that mean something to HTML, CSV or gnuplot are only ever shown. */
static void test_hostile_names(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    const char *models[] = {"<script>alert('m')</script>"};
    /* As a folder name it must not hold a slash. */
    models[0] = "<script>alert(1)<&\"'>";
    const char *dataset = "d<img src=x>\n`touch gotcha`'; system 'touch gotcha'; \"&,";
    char *model = format_path(folder, models[0]);
    lode_store_t *store = lode_test_stage_create(model, "evaluate");
    put_perplexity(store, dataset, "dense", "<script>p", 10);
    put_perplexity(store, dataset, "lp<script>`touch gotcha`'@0.5", "<script>p", 20);
    put_perplexity(store, dataset, "lp@0.5~<script>\\n", "<script>p", NAN);
    put_perplexity(store, dataset, "lp@0.25", "<script>p", -1e300);
    lode_test_stage_finish(store, "</pre><script>alert(2)</script>");
    lode_report_t report =
        lode_test_report(folder, "<script>x</script>", no_point, 1, models, 1, 0);
    LODE_ASSERT_OK(lode_report_build(&report));
    char *table = lode_test_result(folder, "summary.csv"),
         *html = lode_test_result(folder, "report.html");
    lode_test_balanced(html);
    assert_null(strstr(html, "<script"));
    assert_null(strstr(html, "<img"));
    assert_non_null(strstr(html, "&lt;script&gt;alert(1)&lt;&amp;&quot;&#39;&gt;"));
    assert_non_null(strstr(html, "&lt;/pre&gt;&lt;script&gt;"));
    assert_false(lode_file_exists("gotcha"));
    char *fields[LODE_TEST_FIELDS], *line = table + strlen(header);
    int rows = 0, count;
    for (; *line; rows++) {
        line = lode_test_row(line, fields, &count);
        assert_int_equal(count, 17);
        assert_string_equal(fields[0], models[0]);
        assert_string_equal(fields[7], dataset);
    }
    assert_int_equal(rows, 4);
    free(table);
    free(html);
    free(model);
}

static void test_without_gnuplot(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *models[] = {"m"};
    char *model = format_path(folder, "m");
    make_statistics(model);
    char *path = strdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1);
    lode_report_t report = lode_test_report(folder, "x", no_point, 1, models, 1, 0);
    lode_status_t status = lode_report_build(&report);
    setenv("PATH", path, 1);
    free(path);
    assert_int_equal(status, LODE_OK);
    char *html = lode_test_result(folder, "report.html");
    lode_test_page(html);
    assert_non_null(strstr(html, "gnuplot could not be started"));
    assert_int_equal(lode_test_count(html, "No figure: gnuplot is not installed"), 4);
    assert_non_null(strstr(html, "<h3>Layers</h3>"));
    free(html);
    free(model);
}

static void test_nothing_there(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *models[] = {"m"};
    lode_report_t report = lode_test_report(folder, "x", no_point, 1, models, 1, 0);
    LODE_ASSERT_OK(lode_report_build(&report));
    char *table = lode_test_result(folder, "summary.csv"),
         *html = lode_test_result(folder, "report.html");
    assert_string_equal(table, header);
    lode_test_page(html);
    assert_non_null(strstr(html, "evaluate.h5"));
    free(table);
    free(html);
}

/* Rows of a core that are longer than there are channels. */
static void put_wide_core(const char *model) {
    enum { WIDE = CHANNELS + 1 };
    const int64_t shape[] = {LAYERS, CHANNELS}, layers = LAYERS;
    static const double zeros[LAYERS * CHANNELS];
    static const int32_t core[LAYERS * WIDE];
    lode_store_t *store = lode_test_stage_create(model, "classify");
    lode_test_put_f64(store, "connectivity", 2, shape, zeros);
    lode_test_put_f64(store, "core_mass", 1, &layers, zeros);
    lode_test_put_i32(store, "core", (int64_t[]){LAYERS, WIDE}, core);
    lode_test_put_i32(store, "halo", (int64_t[]){LAYERS, HALO}, core);
    lode_test_stage_finish(store, "");
}

/* A file that cannot be understood is named, and the report of before stays. */
static void test_broken_files(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *models[] = {"m"};
    char *model = format_path(folder, "m"), *evaluate = format_path(folder, "m/evaluate.h5");
    make_statistics(model);
    lode_report_t report = lode_test_report(folder, "x", no_point, 1, models, 1, 0);
    LODE_ASSERT_OK(lode_report_build(&report));
    char *before = lode_test_result(folder, "report.html");
    LODE_ASSERT_OK(lode_file_write_atomic(evaluate, "rubbish", 7));
    LODE_ASSERT_FAILS(lode_report_build(&report), LODE_ERR_FORMAT, "m/evaluate.h5");
    unlink(evaluate);
    lode_store_t *store = lode_test_stage_create(model, "evaluate");
    const int64_t one = 1;
    lode_test_put_f64(store, "perplexity/text/dense", 1, &one, (double[]){1});
    lode_test_stage_finish(store, "");
    LODE_ASSERT_FAILS(lode_report_build(&report), LODE_ERR_INPUT, "\"value\"");
    unlink(evaluate);
    store = lode_test_stage_create(model, "classify");
    lode_test_put_f64(store, "connectivity", 2, (int64_t[]){LAYERS, 2}, (double[2 * LAYERS]){0});
    lode_test_stage_finish(store, "");
    LODE_ASSERT_FAILS(lode_report_build(&report), LODE_ERR_SHAPE, "connectivity");
    put_wide_core(model);
    LODE_ASSERT_FAILS(lode_report_build(&report), LODE_ERR_SHAPE, "\"core\" has room for 61 of 60");
    char *after = lode_test_result(folder, "report.html");
    assert_string_equal(before, after);
    free(before);
    free(after);
    free(evaluate);
    free(model);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    self = lode_comm_describe(MPI_COMM_SELF);
    int failed;
    if (argc > 1) {
        golden_report(argv[1]);
        failed = 0;
    } else {
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_variants),      cmocka_unit_test(test_golden),
            cmocka_unit_test(test_sweep),         cmocka_unit_test(test_identifiers_are_unique),
            cmocka_unit_test(test_hostile_names), cmocka_unit_test(test_without_gnuplot),
            cmocka_unit_test(test_nothing_there), cmocka_unit_test(test_broken_files),
        };
        failed = cmocka_run_group_tests(tests, NULL, NULL);
    }
    MPI_Finalize();
    return failed;
}
