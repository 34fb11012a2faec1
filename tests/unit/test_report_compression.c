/* The report of super weights, quantized variants, joint plans and audited folders, over stage
 * files made here by the names of datasets that the stages document. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "common/variants.h"
#include "config/config.h"
#include "report/report.h"
#include "report/result.h"
#include "testing/cmocka_all.h"
#include "testing/compare.h"
#include "testing/results.h"
#include "testing/temporary.h"

enum { LAYERS = 3, MATRICES = 7, WIDTHS = 8 };

/* --- stage files -------------------------------------------------------------------------- */

static void put_line(lode_store_t *store, const char *name, int64_t count, const int32_t *values) {
    LODE_ASSERT_OK(lode_store_dataset(store, name, LODE_TYPE_I32, 1, &count, false));
    LODE_ASSERT_OK(lode_store_write(store, name, &(int64_t){0}, &count, values));
}

static void put_bytes(lode_store_t *store, const char *name, int64_t count, const uint8_t *values) {
    LODE_ASSERT_OK(lode_store_dataset(store, name, LODE_TYPE_U8, 1, &count, false));
    LODE_ASSERT_OK(lode_store_write(store, name, &(int64_t){0}, &count, values));
}

/* A perplexity of one target, as evaluate.h5 and audit.h5 have it. */
static void put_perplexity(lode_store_t *store, const char *path, double value, int64_t length) {
    const int64_t targets = 1;
    lode_test_put_f64(store, path, 1, &targets, (double[]){log(value)});
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "value", value));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "stderr", 0.01 * value));
    LODE_ASSERT_OK(lode_store_attribute_text(store, path, "protocol", "gptq"));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "length", length));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "windows", 4));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "targets", 1000));
}

typedef struct row {
    const char *variant;
    double perplexity;
    int64_t bytes; /* −1: quantize.h5 does not say */
} row_t;

static void make_evaluate(const char *folder, const row_t *rows, int64_t count) {
    lode_store_t *store = lode_test_stage_create(folder, "evaluate");
    for (int64_t i = 0; i < count; i++) {
        char path[256];
        snprintf(path, sizeof path, "/perplexity/books/%s", rows[i].variant);
        put_perplexity(store, path, rows[i].perplexity, 256);
    }
    lode_test_stage_finish(store, "");
}

static void make_quantize(const char *folder, const row_t *rows, int64_t count) {
    const int64_t layers = LAYERS;
    int64_t bytes[LAYERS] = {0};
    lode_store_t *store = lode_test_stage_create(folder, "quantize");
    for (int64_t i = 0; i < count; i++) {
        char path[256];
        if (rows[i].bytes < 0)
            continue;
        snprintf(path, sizeof path, "/sizes/%s", rows[i].variant);
        LODE_ASSERT_OK(lode_store_dataset(store, path, LODE_TYPE_I64, 1, &layers, false));
        LODE_ASSERT_OK(lode_store_write(store, path, &(int64_t){0}, &layers, bytes));
        LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "bytes", rows[i].bytes));
        if (strncmp(rows[i].variant, "lp4", 3) != 0)
            continue;
        snprintf(path, sizeof path, "/variants/%s/bits", rows[i].variant);
        const int64_t shape[] = {LAYERS, WIDTHS};
        const int64_t bits[LAYERS * WIDTHS] = {10, 20, 30, 20, 10, 5, 4, 1, /* of 100 */
                                               50, 0,  0,  0,  0,  0, 0, 50};
        LODE_ASSERT_OK(lode_store_dataset(store, path, LODE_TYPE_I64, 2, shape, false));
        LODE_ASSERT_OK(lode_store_write(store, path, (int64_t[]){0, 0}, shape, bits));
        snprintf(path, sizeof path, "/variants/%s", rows[i].variant);
        LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "bits_per_weight", 4.25));
    }
    lode_test_stage_finish(store, "");
}

static void put_trace(lode_store_t *store, int iteration, int prompt, double input, double output) {
    const int64_t layers = LAYERS;
    const double parts[4][LAYERS] = {{1, -input, 2}, {1, output, -3}, {1, 2, 1}, {1, 4, 1}};
    static const char *const names[] = {"input_max", "output_max", "input_scale", "output_scale"};
    for (int i = 0; i < 4; i++) {
        char path[96];
        snprintf(path, sizeof path, "/traces/%d/%d/%s", iteration, prompt, names[i]);
        lode_test_put_f64(store, path, 1, &layers, parts[i]);
    }
}

/* superweight.h5 with `count` of two weights found. */
static void make_superweight(const char *folder, int64_t count) {
    static const struct {
        const char *name;
        int32_t values[2];
    } integers[] = {{"layer", {1, 1}},           {"row", {7, 9}},       {"channel", {70, 35}},
                    {"prompt", {0, 0}},          {"iteration", {0, 1}}, {"token", {0, 0}},
                    {"loss_proxy_rank", {0, 41}}};
    static const struct {
        const char *name;
        double values[2];
    } floats[] = {{"value", {-1.5, 0.75}},
                  {"input", {200, 100}},
                  {"output", {-310, 80}},
                  {"product", {-300, 75}},
                  {"ratio_input", {400, 90}},
                  {"ratio_output", {77, 20}},
                  {"loss_proxy_share", {0.125, 0.001}}};
    char path[96];
    lode_store_t *store = lode_test_stage_create(folder, "superweight");
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        snprintf(path, sizeof path, "/weights/%s", integers[i].name);
        put_line(store, path, count, integers[i].values);
    }
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        snprintf(path, sizeof path, "/weights/%s", floats[i].name);
        lode_test_put_f64(store, path, 1, &count, floats[i].values);
    }
    put_bytes(store, "/weights/core", count, (uint8_t[]){1, 0});
    put_bytes(store, "/weights/halo", count, (uint8_t[]){0, 1});
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/weights", "limit_reached", 0));
    for (int iteration = 0; iteration <= count; iteration++)
        for (int prompt = 0; prompt < 2; prompt++)
            put_trace(store, iteration, prompt, 200.0 / (1 + iteration), 300.0 / (1 + iteration));
    if (count > 0) {
        put_line(store, "/known/layer", 2, (int32_t[]){1, 2});
        put_line(store, "/known/row", 2, (int32_t[]){7, 8});
        put_line(store, "/known/channel", 2, (int32_t[]){70, 80});
        put_bytes(store, "/known/found", 2, (uint8_t[]){1, 0});
        LODE_ASSERT_OK(lode_store_attribute_text(store, "/known", "source", "Table 2 <of> it"));
        LODE_ASSERT_OK(lode_store_attribute_i64(store, "/known", "others", 1));
        const int64_t words = 3;
        put_line(store, "/stopwords/tokens", words, (int32_t[]){2, 2, 1});
        lode_test_put_f64(store, "/stopwords/before", 1, &words, (double[]){0.01, 0.04, 0.02});
        lode_test_put_f64(store, "/stopwords/after", 1, &words, (double[]){0.02, 0.12, 0.01});
        lode_test_put_f64(store, "/stopwords/restored", 1, &words, (double[]){0.01, 0.05, 0.02});
        LODE_ASSERT_OK(lode_store_attribute_text(store, "/stopwords", "words", "the\n<and>\nof"));
        LODE_ASSERT_OK(lode_store_attribute_i64(store, "/stopwords", "texts", 500));
        LODE_ASSERT_OK(lode_store_attribute_i64(store, "/stopwords", "positions", 6543));
        LODE_ASSERT_OK(lode_store_attribute_f64(store, "/stopwords", "before_all", 0.07));
        LODE_ASSERT_OK(lode_store_attribute_f64(store, "/stopwords", "after_all", 0.15));
        LODE_ASSERT_OK(lode_store_attribute_f64(store, "/stopwords", "restored_all", 0.08));
    }
    lode_test_stage_finish(store, "");
}

static void put_accuracy(lode_store_t *store, const char *group, double accuracy) {
    const int64_t shape[] = {1, 2};
    char path[128];
    snprintf(path, sizeof path, "%s/tasks/arc", group);
    lode_test_put_f64(store, path, 2, shape, (double[]){-1, -2});
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "acc", accuracy));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "acc_stderr", 0.02));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "perplexity", 50));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "items", 500));
}

/* What a search of a folder has found: one of the original's two super weights, and two new ones.
 */
static void put_search(lode_store_t *store, const char *group) {
    char path[128];
    snprintf(path, sizeof path, "%s/superweights/detected", group);
    put_bytes(store, path, 2, (uint8_t[]){0, 1});
    snprintf(path, sizeof path, "%s/detected/layer", group);
    put_line(store, path, 4, (int32_t[]){0, 1, 1, -1});
    snprintf(path, sizeof path, "%s/detected/original", group);
    put_line(store, path, 4, (int32_t[]){-1, 1, -1, -1});
}

/* A folder of audit.h5 whose core keeps `mass` of the loss proxy, with or without figures of its
 * super weight. */
static void put_folder(lode_store_t *store, const char *group, double perplexity, double mass,
                       int survives) {
    static const char *const names[] = {
        "core_zeroed",       "core_changed",      "core_removed",
        "weight_error_core", "weight_error_halo", "weight_error_rest",
        "zero_core",         "zero_halo",         "zero_rest"};
    const int64_t layers = LAYERS;
    char path[128];
    snprintf(path, sizeof path, "%s/core_mass", group);
    lode_test_put_f64(store, path, 1, &layers, (double[]){mass, mass + 0.1, mass - 0.1});
    snprintf(path, sizeof path, "%s/perplexity/books", group);
    put_perplexity(store, path, perplexity, 256);
    if (survives < 0)
        return;
    for (int i = 0; i < 9; i++) {
        snprintf(path, sizeof path, "%s/%s", group, names[i]);
        lode_test_put_f64(store, path, 1, &layers,
                          (double[]){0.1 * i, 0.1 * i, i == 4 ? NAN : 0.1 * i + 0.03});
    }
    snprintf(path, sizeof path, "%s/core_overlap", group);
    lode_test_put_f64(store, path, 1, &layers, (double[]){1, 0.5, 0.75});
    snprintf(path, sizeof path, "%s/proxy_correlation", group);
    lode_test_put_f64(store, path, 1, &layers, (double[]){0.25, 0.5, 0.75});
    put_accuracy(store, group, 0.5);
    LODE_ASSERT_OK(lode_store_attribute_text(store, group, "known", "similarity"));
    snprintf(path, sizeof path, "%s/superweights/layer", group);
    put_line(store, path, 2, (int32_t[]){1, 1});
    snprintf(path, sizeof path, "%s/superweights/survives", group);
    put_bytes(store, path, 2, (uint8_t[]){1, (uint8_t)survives});
    if (survives)
        put_search(store, group);
    LODE_ASSERT_OK(lode_store_attribute_text(store, group, "path", "models/a,b"));
}

static void make_audit(const char *folder) {
    lode_store_t *store = lode_test_stage_create(folder, "audit");
    put_folder(store, "/original", 10, 0.5, -1);
    put_folder(store, "/folders/int8", 10.1, 0.5, 1);
    put_folder(store, "/folders/wanda<50>", 20, 0.25, 0);
    lode_test_stage_finish(store, "");
}

static char *build(const char *folder, const char *const *models, int64_t count, int64_t budget) {
    static const char *const points[] = {""};
    const lode_report_t report =
        lode_test_report(folder, "made-up", points, 1, models, count, budget);
    LODE_ASSERT_OK(lode_report_build(&report));
    char *html = lode_test_result(folder, "report.html");
    lode_test_page(html);
    assert_null(strstr(html, "gnuplot failed"));
    return html;
}

static const char *model_folder(const char *folder, const char *model) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, model);
    return path;
}

static const char *const one_model[] = {"m"};

static void want(const char *html, const char *text) {
    if (!strstr(html, text))
        fail_msg("the page lacks \"%s\"", text);
}

/* --- names -------------------------------------------------------------------------------- */

static void test_names(void **state) {
    (void)state;
    const struct {
        const char *name, *method, *core, *compensation, *quantization, *scheme, *protection, *base;
        double sparsity, factor;
        int bits;
        lode_report_kind_t kind;
    } cases[] = {
        {"int4-block-128-clip:super-weight", "int4-block-128-clip", "none", "none",
         "int4-block-128-clip", "int-block-128-clip", "super-weight", "", 0, NAN, 4,
         LODE_KIND_QUANTIZED},
        {"int8-channel-a8-token-held", "int8-channel-a8-token-held", "none", "none",
         "int8-channel-a8-token-held", "int-channel-a8-token-held", "none", "", 0, NAN, 8,
         LODE_KIND_QUANTIZED},
        {"lp4-channel", "lp4-channel", "none", "none", "lp4-channel", "lp-channel", "none", "", 0,
         NAN, 4, LODE_KIND_QUANTIZED},
        {"int3-tensor-clip-a8-tensor-smooth:supernode", "int3-tensor-clip-a8-tensor-smooth", "none",
         "none", "int3-tensor-clip-a8-tensor-smooth", "int-tensor-clip-a8-tensor-smooth",
         "supernode", "", 0, NAN, 3, LODE_KIND_QUANTIZED},
        {"scar-prot@0.5~none+bias:int4-group-128:both", "scar-prot", "none", "bias",
         "int4-group-128", "int-group-128", "both", "scar-prot@0.5~none+bias", 0.5, NAN, 4,
         LODE_KIND_QUANTIZED},
        {"lp@0.25:int2-channel", "lp", "none", "none", "int2-channel", "int-channel", "none",
         "lp@0.25", 0.25, NAN, 2, LODE_KIND_QUANTIZED},
        {"super-weight:prune", "super-weight:prune", "none", "none", "none", "", "none", "", 0, NAN,
         0, LODE_KIND_EXPERIMENT},
        {"super-weight:others-global", "super-weight:others-global", "none", "none", "none", "",
         "none", "", 0, NAN, 0, LODE_KIND_EXPERIMENT},
        {"super-weight:scale-1.5", "super-weight:scale", "none", "none", "none", "", "none", "", 0,
         1.5, 0, LODE_KIND_EXPERIMENT},
        {"scar-prot@0.5", "scar-prot", "lp", "none", "none", "", "none", "", 0.5, NAN, 0,
         LODE_KIND_PRUNED},
        {"dense", "dense", "none", "none", "none", "", "none", "", 0, NAN, 0, LODE_KIND_DENSE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lode_report_variant_t variant;
        LODE_ASSERT_OK(lode_report_variant_parse(&variant, cases[i].name));
        assert_string_equal(variant.name, cases[i].name);
        assert_string_equal(variant.method, cases[i].method);
        assert_string_equal(variant.core, cases[i].core);
        assert_string_equal(variant.compensation, cases[i].compensation);
        assert_string_equal(variant.quantization, cases[i].quantization);
        assert_string_equal(variant.scheme, cases[i].scheme);
        assert_string_equal(variant.protection, cases[i].protection);
        assert_string_equal(variant.base, cases[i].base);
        assert_true(variant.sparsity == cases[i].sparsity);
        assert_true(isnan(cases[i].factor) ? isnan(variant.factor)
                                           : variant.factor == cases[i].factor);
        assert_int_equal(variant.bits, cases[i].bits);
        assert_int_equal(variant.kind, cases[i].kind);
        assert_int_equal(variant.bytes, -1);
        free(variant.name);
    }
}

/* Every name that the program gives to a variant is understood. */
static void test_given_names(void **state) {
    (void)state;
    static const char text[] =
        "name = \"x\"; models = ( { name = \"m\"; path = \"/m\"; } );"
        "calibration = { corpus = \"/c\"; };"
        "prune = { methods = [ \"scar-prot\", \"random\" ]; sparsity = ( 0.5, 0.125 );"
        "  cores = [ \"default\", \"none\" ]; allocation = [ \"uniform\", \"global\" ];"
        "  compensation = [ \"none\", \"least-squares\" ]; };"
        "superweight = { prompts = [ \"a\" ]; experiments = [ \"prune\", \"restore\", \"scale\","
        "  \"others-tensor\", \"others-global\" ]; };"
        "quantize = { methods = [ \"rtn\", \"lp\" ]; bits = ( 2, 8 ); clip = [ \"none\","
        "  \"searched\" ]; granularity = [ \"tensor\", \"channel\", \"group-64\", \"block-128\" ];"
        "  protection = [ \"none\", \"super-weight\", \"supernode\", \"both\" ];"
        "  activations = [ \"none\", \"token-held\", \"tensor-smooth\" ]; pruned = true; };";
    lode_config_t *config;
    lode_variant_t *given;
    int64_t count;
    LODE_ASSERT_OK(lode_config_load_text(&config, text, "test", NULL, 0));
    LODE_ASSERT_OK(lode_variants_list(&given, &count, config));
    assert_true(count > 5000);
    for (int64_t i = 0; i < count; i++) {
        const lode_variant_t *want = &given[i];
        lode_report_variant_t got;
        LODE_ASSERT_OK(lode_report_variant_parse(&got, want->name));
        const lode_report_kind_t kind = want->pruned       ? LODE_KIND_PRUNED
                                        : want->experiment ? LODE_KIND_EXPERIMENT
                                                           : LODE_KIND_QUANTIZED;
        if (got.kind != kind || got.sparsity != lode_variants_sparsity(given, i) ||
            got.bits != want->bits ||
            strcmp(got.protection, lode_protection_name(want->protection)) != 0 ||
            strcmp(got.base, want->base >= 0 ? given[want->base].name : "") != 0 ||
            (want->factor != 0 && got.factor != want->factor))
            fail_msg("%s is misunderstood", want->name);
        free(got.name);
    }
    lode_variants_free(&given, count);
    lode_config_destroy(&config);
}

/* What is in no known form is all method. */
static void test_unknown_names(void **state) {
    (void)state;
    static const char *const names[] = {"int4",
                                        "int-channel",
                                        "int4-",
                                        "int4-group",
                                        "int4-group-",
                                        "int4-channels",
                                        "int4-channel-clap",
                                        "int4-channel-a8-row",
                                        "int4-channel:all",
                                        "int4-channel:both:both",
                                        "int4-channel:",
                                        ":int4-channel",
                                        "lp@0.5:both",
                                        "lp@x:int4-channel",
                                        "lp@0.5:int4-channel:both:x",
                                        "super-weight:",
                                        "super-weight:scale",
                                        "super-weight:scale-x",
                                        "super-weight:scale-1x",
                                        "super-weight:eat",
                                        "a:b:c:d:e"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        lode_report_variant_t variant;
        LODE_ASSERT_OK(lode_report_variant_parse(&variant, names[i]));
        if (variant.kind != LODE_KIND_OTHER || strcmp(variant.method, names[i]) != 0 ||
            !isnan(variant.sparsity) || variant.bits != 0)
            fail_msg("\"%s\" is taken for something", names[i]);
        free(variant.name);
    }
}

static void test_families(void **state) {
    (void)state;
    static const struct {
        const char *name, *family;
    } cases[] = {{"lp@0.5", "50 % removed"},
                 {"int4-channel", "4 bits"},
                 {"lp@0.25:int3-tensor:both", "25 % removed, 3 bits"},
                 {"super-weight:prune", "super weights changed"}};
    for (int i = 0; i < 4; i++) {
        char text[LODE_REPORT_FAMILY];
        lode_report_variant_t variant, other;
        LODE_ASSERT_OK(lode_report_variant_parse(&variant, cases[i].name));
        lode_report_family(text, &variant);
        assert_string_equal(text, cases[i].family);
        for (int j = 0; j < 4; j++) {
            LODE_ASSERT_OK(lode_report_variant_parse(&other, cases[j].name));
            assert_true(lode_report_same_family(&variant, &other) == (i == j));
            free(other.name);
        }
        free(variant.name);
    }
}

/* --- super weights ------------------------------------------------------------------------ */

static const row_t experiments[] = {
    {"dense", 10, -1},
    {"super-weight:prune", 40, -1},
    {"super-weight:restore", 25, -1},
    {"super-weight:scale-0.5", 15, -1},
    {"super-weight:scale-2", 12, -1},
    {"super-weight:others-tensor", 10.5, -1},
};
enum { EXPERIMENTS = sizeof experiments / sizeof experiments[0] };

static void test_super_weights(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *model = model_folder(folder, "m");
    make_superweight(model, 2);
    make_evaluate(model, experiments, EXPERIMENTS);
    char *html = build(folder, one_model, 1, 0);
    want(html, "id=\"case-1-super-weights\"");
    want(html, "<th scope=\"row\">1 [7, 70]</th><td class=\"n\">-1.5</td>"
               "<td class=\"n\">400</td><td class=\"n\">77</td><td class=\"n\">96.8 %</td>"
               "<td class=\"n\">0</td><td class=\"n\">1</td><td class=\"n\">1</td>"
               "<td class=\"n\">12.50 %</td><td>supernode</td></tr>");
    want(html, "<td class=\"n\">42</td><td class=\"n\">0.10 %</td><td>halo</td>");
    want(html, "1 of 2 channels are supernodes.");
    want(html, "1 of 2 published coordinates found, 1 found that are not published. Published: "
               "Table 2 &lt;of&gt; it");
    want(html, "<th scope=\"row\">2 [8, 80]</th><td>not found</td>");
    want(html, "<b>Spikes by layer.</b>");
    want(html, "<td>super weights set to 0</td><td class=\"n\">40.00 <span class=\"point\">"
               "4.000×</span></td>");
    want(html, "<td>super weights times 0.5</td><td class=\"n\">15.00");
    want(html, "<b>Perplexity on books, gptq at 256 as super weights are scaled.</b>");
    /* Most probable first; all together above. */
    want(html, "<th scope=\"row\">&lt;and&gt;</th><td class=\"n\">4.000 %</td>"
               "<td class=\"n\">12.000 %</td><td class=\"n\">3.00×</td>"
               "<td class=\"n\">5.000 %</td>");
    assert_true(strstr(html, "all together") < strstr(html, "&lt;and&gt;</th>"));
    want(html, "over 6543 positions of 500 texts");
    /* Experiments are not what pruning curves or the best variants are about. */
    assert_null(strstr(html, "case-1-pruning"));
    assert_null(strstr(html, "Best at"));
    free(html);
    char *table = lode_test_result(folder, "summary.csv");
    assert_int_equal(lode_test_lines(table), 1 + EXPERIMENTS);
    assert_non_null(strstr(table, "m,super-weight:scale-0.5,super-weight:scale,0,uniform,none,"
                                  "perplexity,books,gptq,15,"));
    free(table);
}

static void test_none_found(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *model = model_folder(folder, "m");
    make_superweight(model, 0);
    char *html = build(folder, one_model, 1, 0);
    want(html, "<b>None found</b>");
    /* 200 ÷ 2 and 300 ÷ 4 in layer 1. */
    want(html, "The largest input is 100 times its scale (layer 1), the largest output 75 times "
               "(layer 1).");
    want(html, "<b>Spikes by layer.</b>");
    assert_null(strstr(html, "as trained"));
    assert_null(strstr(html, "published"));
    assert_null(strstr(html, "stopword"));
    free(html);
}

/* --- quantization and the joint plan ------------------------------------------------------ */

static const row_t compressed[] = {
    {"dense", 10, 10000000},
    {"lp@0.25", 12, 8000000},
    {"lp@0.5", 20, 6000000}, /* bettered by int4-channel:both */
    {"int8-channel", 10.1, 5500000},
    {"int4-channel", 13, 3000000},
    {"int4-channel:both", 11, 3200000},
    {"int4-group-64", 11.5, 3300000}, /* bettered */
    {"lp4-channel", 10.9, 3400000},
    {"int2-channel", 900, 1500000},
    {"lp@0.5:int4-channel:both", 22, 2000000},
    {"super-weight:prune", 40, -1},
};
enum { COMPRESSED = sizeof compressed / sizeof compressed[0] };

static void test_quantization(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *model = model_folder(folder, "m");
    make_evaluate(model, compressed, COMPRESSED);
    make_quantize(model, compressed, COMPRESSED);
    char *html = build(folder, one_model, 1, 3000000);
    want(html, "<b>Perplexity on books against bits of the weights.</b>");
    want(html, "<th scope=\"row\">int4-channel:both</th><td class=\"n\">–</td>"
               "<td class=\"n\">3.20 MB</td><td class=\"n\">32.0 %</td><td class=\"n\">11.00 "
               "<span class=\"point\">1.100×</span></td></tr>");
    want(html, "<th scope=\"row\">lp4-channel</th><td class=\"n\">4.25</td>");
    want(html, "Bits of channels, lp4-channel");
    want(html, "2 bits, 0: 10</title>");
    want(html, "16 bits, 1: 50</title>");
    want(html, "Best at 4 bits");
    want(html, "lp4-channel on books, gptq at 256");
    assert_null(strstr(html, "Best at 50 % removed, 4 bits"));
    /* The curves of pruning do not take the quantized for pruned: one has its own method. */
    assert_int_equal(lode_test_count(html, "<b>Perplexity on books.</b>"), 1);
    free(html);
    char *table = lode_test_result(folder, "summary.csv");
    assert_non_null(strstr(table, "m,lp@0.5:int4-channel:both,lp,0.5,uniform,none,perplexity,books,"
                                  "gptq,22,0.22"));
    assert_non_null(strstr(table, ",1000,none,,int4-channel,both,2000000\n"));
    assert_non_null(strstr(table, ",1000,none,,none,none,\n")); /* no size known */
    free(table);
}

/* A pruned model that is quantized is no point of the curves of pruning, nor a best variant. */
static void test_quantized_pruned_alone(void **state) {
    (void)state;
    static const row_t rows[] = {{"dense", 10, -1}, {"lp@0.5:int4-channel:both", 22, -1}};
    const char *folder = lode_test_temporary();
    make_evaluate(model_folder(folder, "m"), rows, 2);
    char *html = build(folder, one_model, 1, 0);
    assert_null(strstr(html, "case-1-pruning"));
    assert_null(strstr(html, "case-1-quantization"));
    assert_null(strstr(html, "case-1-joint-plan")); /* no sizes */
    assert_null(strstr(html, "Best at"));
    want(html, "<td>lp@0.5:int4-channel:both</td>");
    free(html);
}

static void test_joint_plan(void **state) {
    (void)state;
    static const char *const front[] = {"int2-channel", "lp@0.5:int4-channel:both",
                                        "int4-channel", "int4-channel:both",
                                        "lp4-channel",  "int8-channel",
                                        "dense"};
    const char *folder = lode_test_temporary(), *model = model_folder(folder, "m");
    make_evaluate(model, compressed, COMPRESSED);
    make_quantize(model, compressed, COMPRESSED);
    char *html = build(folder, one_model, 1, 3100000);
    want(html, "<b>Perplexity on books, gptq at 256 against bytes.</b>");
    want(html, "experiments with super weights are left out");
    want(html, "a line what is left as stored");
    want(html, "<b>Best within 3.10 MB: int4-channel</b>, perplexity 13.00 in 3.00 MB.");
    const char *cursor = strstr(html, "7 of 10 variants are not bettered");
    assert_non_null(cursor);
    for (int i = 0; i < 7; i++) {
        char mark[96];
        snprintf(mark, sizeof mark, "<th scope=\"row\">%s</th>", front[i]);
        cursor = strstr(cursor, mark);
        if (!cursor)
            fail_msg("%s is not on the front, or not in its place", front[i]);
    }
    want(html, "<tr class=\"break\"><th scope=\"row\">int4-channel:both</th><td>quantized</td>");
    free(html);
    html = build(folder, one_model, 1, 1000);
    want(html, "<b>No variant fits 1.00 kB.</b> The smallest takes 1.50 MB: int2-channel.");
    free(html);
    html = build(folder, one_model, 1, 0);
    assert_null(strstr(html, "Best within"));
    want(html, "7 of 10 variants are not bettered");
    free(html);
}

/* --- retention ---------------------------------------------------------------------------- */

static const char *const columns[] = {"model",
                                      "folder",
                                      "layer",
                                      "core_zeroed",
                                      "core_changed",
                                      "core_removed",
                                      "weight_error_core",
                                      "weight_error_halo",
                                      "weight_error_rest",
                                      "weight_error_attention",
                                      "zero_core",
                                      "zero_halo",
                                      "zero_rest",
                                      "zero_attention",
                                      "core_mass",
                                      "core_mass_original",
                                      "core_overlap",
                                      "proxy_correlation",
                                      "superweights",
                                      "superweights_surviving",
                                      "metric",
                                      "dataset",
                                      "protocol",
                                      "value",
                                      "stderr",
                                      "count",
                                      "value_original",
                                      "point",
                                      "path",
                                      "superweights_detected",
                                      "superweights_new"};
enum { COLUMNS = sizeof columns / sizeof columns[0] };

static const char *field(char **fields, const char *column) {
    for (int i = 0; i < COLUMNS; i++)
        if (strcmp(columns[i], column) == 0)
            return fields[i];
    fail_msg("no column \"%s\"", column);
    return "";
}

static void near(char **fields, const char *column, double value) {
    const char *text = field(fields, column);
    if (!*text || fabs(strtod(text, NULL) - value) > 1e-12)
        fail_msg("%s is \"%s\", not %g", column, text, value);
}

/* The rows of a folder: its layers, its perplexity, its accuracy. */
static void check_audit_row(char **fields, int layer, bool second) {
    const bool all = layer >= LAYERS;
    char number[16];
    snprintf(number, sizeof number, "%d", layer);
    assert_string_equal(fields[2], all ? "all" : number);
    /* A halo without weights has no error, and does not count in the mean. */
    if (layer == LAYERS - 1)
        assert_string_equal(field(fields, "weight_error_halo"), "");
    else
        near(fields, "weight_error_halo", 0.4);
    assert_string_equal(field(fields, "zero_attention"), "");
    near(fields, "superweights", all || layer == 1 ? 2 : 0);
    near(fields, "superweights_surviving", !all && layer != 1 ? 0 : second ? 1 : 2);
    if (second) { /* which was not searched */
        assert_string_equal(field(fields, "superweights_detected"), "");
        assert_string_equal(field(fields, "superweights_new"), "");
    } else {
        near(fields, "superweights_detected", all || layer == 1 ? 1 : 0);
        near(fields, "superweights_new", all ? 2 : layer < 2 ? 1 : 0);
    }
    assert_string_equal(field(fields, "path"), "models/a,b");
    assert_string_equal(field(fields, "dataset"), !all ? "" : layer == LAYERS ? "books" : "arc");
    assert_string_equal(field(fields, "metric"), !all              ? ""
                                                 : layer == LAYERS ? "perplexity"
                                                                   : "acc");
    if (!all) {
        assert_string_equal(field(fields, "value"), "");
        return;
    }
    near(fields, "core_zeroed", 0.01);
    near(fields, "core_mass", second ? 0.25 : 0.5);
    near(fields, "core_mass_original", 0.5);
    near(fields, "core_overlap", 0.75);
    near(fields, "proxy_correlation", 0.5);
    near(fields, "value", layer > LAYERS ? 0.5 : second ? 20 : 10.1);
    near(fields, "count", layer > LAYERS ? 500 : 1000);
    if (layer == LAYERS)
        near(fields, "value_original", 10);
}

static void test_retention(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *model = model_folder(folder, "m");
    make_audit(model);
    char *html = build(folder, one_model, 1, 0);
    want(html, "<th scope=\"row\">wanda&lt;50&gt;</th><td class=\"n\">20 <span class=\"point\">"
               "2.000×</span></td><td class=\"n\">50.0 %</td><td class=\"n\">1 of 2</td>"
               "<td class=\"n\">–</td><td class=\"n\">–</td>"
               "<td class=\"n\">25.0 %</td><td class=\"n\">50.0 %</td><td class=\"n\">75.0 %</td>"
               "<td class=\"n\">0.500</td><td class=\"n\">1.0 %</td><td class=\"n\">11.0 %</td>"
               "<td class=\"n\">21.0 %</td><td class=\"n\">31.0 %</td><td class=\"n\">40.0 %</td>"
               "<td class=\"n\">51.0 %</td><td class=\"n\">–</td><td>similarity</td></tr>");
    want(html, "<th scope=\"row\">original</th><td class=\"n\">10</td><td class=\"n\">–</td>");
    want(html, "<td class=\"n\">2 of 2</td><td class=\"n\">1</td><td class=\"n\">2</td>");
    want(html, "<b>Accuracy on arc against retention.</b>");
    want(html, "<b>Perplexity on books, gptq at 256 against retention.</b>");
    want(html, "<b>Retention by layer.</b>");
    free(html);
    char *fields[LODE_TEST_FIELDS], *table = lode_test_result(folder, "audit.csv");
    assert_int_equal(lode_test_lines(table), 1 + 2 * (LAYERS + 2));
    int count;
    char *line = lode_test_row(table, fields, &count);
    assert_int_equal(count, COLUMNS);
    for (int i = 0; i < COLUMNS; i++)
        assert_string_equal(fields[i], columns[i]);
    for (int second = 0; second < 2; second++)
        for (int layer = 0; layer < LAYERS + 2; layer++) {
            line = lode_test_row(line, fields, &count);
            assert_int_equal(count, COLUMNS);
            assert_string_equal(fields[1], second ? "wanda<50>" : "int8");
            check_audit_row(fields, layer, second);
        }
    free(table);
}

/* --- several models, and nothing ---------------------------------------------------------- */

static void test_overview(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *const models[] = {"one", "two", "three"};
    make_superweight(model_folder(folder, "one"), 2);
    make_evaluate(model_folder(folder, "one"), compressed, COMPRESSED);
    make_quantize(model_folder(folder, "one"), compressed, COMPRESSED);
    make_superweight(model_folder(folder, "two"), 0);
    make_audit(model_folder(folder, "two"));
    char *html = build(folder, models, 3, 3100000);
    want(html, "best variant at each sparsity and number of bits");
    want(html, "<a href=\"#case-1\">one</a></th><td>–</td><td>1 [7, 70], 1 [9, 35]</td><td>13.00 "
               "<span class=\"point\">3.00 MB, int4-channel</span></td><td>–</td></tr>");
    want(html, "<a href=\"#case-2\">two</a></th><td>–</td><td>none found; largest spike 75×</td>"
               "<td>–</td><td>int8 100 %, wanda&lt;50&gt; 50 %</td></tr>");
    free(html);
}

/* Without these stages there is nothing of them on the page, nor an audit.csv. */
static void test_nothing_there(void **state) {
    (void)state;
    static const row_t rows[] = {{"dense", 10, -1}, {"lp@0.5", 20, -1}};
    static const char *const absent[] = {"uper weight", "uantiz",      "Joint plan", "etention",
                                         "bits",        "superweight", "audit",      "group"};
    const char *folder = lode_test_temporary(), *const models[] = {"m", "n"};
    char *path;
    make_evaluate(model_folder(folder, "m"), rows, 2);
    char *html = build(folder, models, 2, 5);
    const char *body = strstr(html, "<main>");
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        if (strstr(body, absent[i]))
            fail_msg("the page says \"%s\"", absent[i]);
    free(html);
    LODE_ASSERT_OK(lode_path_join(&path, folder, "audit.csv"));
    assert_false(lode_file_exists(path));
    free(path);
}

/* A file that lacks most of what it could have; and one that cannot be understood. */
static void test_partial_files(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *model = model_folder(folder, "m");
    lode_store_t *store = lode_test_stage_create(model, "superweight");
    put_line(store, "/weights/layer", 1, (int32_t[]){0});
    put_line(store, "/weights/row", 1, (int32_t[]){1});
    put_line(store, "/weights/channel", 1, (int32_t[]){2});
    lode_test_stage_finish(store, "");
    store = lode_test_stage_create(model, "audit");
    const int64_t layers = LAYERS;
    lode_test_put_f64(store, "/folders/only/core_zeroed", 1, &layers, (double[]){0, 0, 1});
    lode_test_stage_finish(store, "");
    char *html = build(folder, one_model, 1, 0);
    want(html, "<th scope=\"row\">0 [1, 2]</th><td class=\"n\">–</td>");
    want(html, "<th scope=\"row\">only</th><td class=\"n\">–</td>");
    want(html, "<td class=\"n\">–</td><td class=\"n\">33.3 %</td>");
    free(html);
    const char *const points[] = {""};
    const lode_report_t again = lode_test_report(folder, "made-up", points, 1, one_model, 1, 0);
    store = lode_test_stage_create(model, "audit");
    lode_test_put_f64(store, "/folders/a/core_zeroed", 1, &layers, (double[]){0, 0, 1});
    lode_test_put_f64(store, "/folders/b/core_zeroed", 1, &(int64_t){2}, (double[]){0, 0});
    lode_test_stage_finish(store, "");
    LODE_ASSERT_FAILS(lode_report_build(&again), LODE_ERR_SHAPE, "audit.h5");
    store = lode_test_stage_create(model, "audit");
    lode_test_stage_finish(store, "");
    store = lode_test_stage_create(model, "superweight");
    put_line(store, "/weights/layer", 1, (int32_t[]){0});
    lode_test_stage_finish(store, "");
    LODE_ASSERT_FAILS(lode_report_build(&again), LODE_ERR_FORMAT, "superweight.h5");
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_given_names),   cmocka_unit_test(test_names),
        cmocka_unit_test(test_unknown_names), cmocka_unit_test(test_families),
        cmocka_unit_test(test_super_weights), cmocka_unit_test(test_none_found),
        cmocka_unit_test(test_quantization),  cmocka_unit_test(test_quantized_pruned_alone),
        cmocka_unit_test(test_joint_plan),    cmocka_unit_test(test_retention),
        cmocka_unit_test(test_overview),      cmocka_unit_test(test_nothing_there),
        cmocka_unit_test(test_partial_files),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
