/* The report's charts, maps and comparisons over stage files made here, by the names of datasets
 * that the stages document: every figure is there where its data are, and says what they say. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "report/chart.h"
#include "report/heatmap.h"
#include "report/plot.h"
#include "report/report.h"
#include "report/result.h"
#include "score/paired.h"
#include "testing/cmocka_all.h"
#include "testing/compare.h"
#include "testing/results.h"
#include "testing/temporary.h"

enum { TARGETS = 2048 };

/* The extents of a made-up model. */
typedef struct extents {
    int64_t layers, channels, core, halo;
} extents_t;

static const extents_t small = {4, 60, 3, 6};

static double draw(int64_t i, int64_t stream) {
    return lode_random_uniform(lode_random_key(3, "made-up", stream, 0), (uint64_t)i);
}

/* A dataset of random values in [low, high). */
static void put_random(lode_store_t *store, const char *name, int axes, const int64_t *shape,
                       double low, double high) {
    int64_t count = 1;
    double *values;
    for (int i = 0; i < axes; i++)
        count *= shape[i];
    LODE_ASSERT_OK(LODE_NEW(&values, count, name));
    for (int64_t i = 0; i < count; i++)
        values[i] = low + (high - low) * draw(i, count);
    lode_test_put_f64(store, name, axes, shape, values);
    free(values);
}

/* The same with an interval around it in <name>_interval. */
static void put_with_interval(lode_store_t *store, const char *name, int64_t layers, double low,
                              double high) {
    char interval[128];
    double *bounds;
    put_random(store, name, 1, &layers, low, high);
    LODE_ASSERT_OK(LODE_NEW(&bounds, 2 * layers, name));
    for (int64_t l = 0; l < layers; l++) {
        bounds[2 * l] = low;
        bounds[2 * l + 1] = high;
    }
    snprintf(interval, sizeof interval, "%s_interval", name);
    lode_test_put_f64(store, interval, 2, (int64_t[]){layers, 2}, bounds);
    free(bounds);
}

static void put_line(lode_store_t *store, const char *name, int64_t count, const int32_t *values) {
    LODE_ASSERT_OK(lode_store_dataset(store, name, LODE_TYPE_I32, 1, &count, false));
    LODE_ASSERT_OK(lode_store_write(store, name, &(int64_t){0}, &count, values));
}

/* --- stage files ------------------------------------------------------------------------ */

static void put_indices(lode_store_t *store, const char *name, int64_t layers, int64_t count,
                        int32_t first) {
    int32_t *rows;
    LODE_ASSERT_OK(LODE_NEW(&rows, layers * count, name));
    for (int64_t i = 0; i < layers * count; i++)
        rows[i] = first + (int32_t)(i % count);
    lode_test_put_i32(store, name, (int64_t[]){layers, count}, rows);
    free(rows);
}

static void make_statistics(const char *folder, const extents_t *e, bool details) {
    static const char *const structure[] = {"core_mass",          "gini",
                                            "effective_number",   "spearman_activation",
                                            "spearman_down_norm", "spearman_up_norm",
                                            "spearman_gate_norm", "jaccard_activation",
                                            "overlap_activation"};
    static const char *const controls[] = {"halo_to_core",
                                           "random_to_core",
                                           "halo_to_random_core",
                                           "random_halo_to_random_core",
                                           "halo_halo",
                                           "non_non",
                                           "halo_non"};
    const int64_t shape[] = {e->layers, e->channels}, halo[] = {e->layers, e->halo};
    char name[96];
    lode_store_t *store = lode_test_stage_create(folder, "accumulate");
    put_random(store, "loss_proxy", 2, shape, 1e-9, 1e-6);
    put_random(store, "activation_power", 2, shape, 0.1, 2);
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/", "tokens", 7094));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/", "sequences", 64));
    lode_test_stage_finish(store, "");
    store = lode_test_stage_create(folder, "classify");
    put_random(store, "connectivity", 2, shape, 0, 0.3);
    put_random(store, "core_mass", 1, shape, 0.2, 0.7);
    put_indices(store, "core", e->layers, e->core, 0);
    put_indices(store, "halo", e->layers, e->halo, (int32_t)e->core);
    put_random(store, "redundancy_to_core", 2, halo, 0, 0.2);
    for (size_t i = 0; details && i < sizeof structure / sizeof structure[0]; i++) {
        snprintf(name, sizeof name, "/structure/%s", structure[i]);
        put_with_interval(store, name, e->layers, 0.2, 0.9);
    }
    for (size_t i = 0; details && i < sizeof controls / sizeof controls[0]; i++) {
        snprintf(name, sizeof name, "/controls/%s", controls[i]);
        put_with_interval(store, name, e->layers, 0.01, 0.1);
    }
    if (details) {
        put_with_interval(store, "core_stability", e->layers, 0.5, 1);
        put_random(store, "/controls/random_redundancy_to_core", 2, shape, 0, 0.1);
        put_random(store, "/controls/redundancy_to_core_scale_free", 2, halo, 0, 0.2);
        put_random(store, "/controls/redundancy_to_core_nodelens", 2, halo, 0, 1e-8);
        put_random(store, "/controls/write_dimensions_core", 1, shape, 30, 40);
        put_random(store, "/controls/write_dimensions_random", 2, (int64_t[]){e->layers, 50}, 35,
                   45);
        put_random(store, "/controls/read_connectivity", 2, shape, 0, 0.4);
    }
    lode_test_stage_finish(store, "");
}

static void make_spectra(const char *folder, const extents_t *e) {
    static const char *const matrices[] = {"q", "u", "write"};
    static const char *const parts[] = {"all", "core", "halo", "rest"};
    char name[96];
    double *values;
    LODE_ASSERT_OK(LODE_NEW(&values, e->layers * e->channels, "eigenvalues"));
    for (int64_t i = 0; i < e->layers * e->channels; i++)
        values[i] = i % e->channels < e->channels - 3 ? 10.0 / (double)(1 + i % e->channels) : 0;
    lode_store_t *store = lode_test_stage_create(folder, "spectra");
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "/%s/eigenvalues", matrices[i]);
        lode_test_put_f64(store, name, 2, (int64_t[]){e->layers, e->channels}, values);
        for (int part = 0; part < 4; part++) {
            snprintf(name, sizeof name, "/%s/effective_rank_%s", matrices[i], parts[part]);
            put_random(store, name, 1, &e->layers, 2, 40);
        }
    }
    lode_test_stage_finish(store, "");
    free(values);
}

/* What every check has; the perplexity of candidate i is 40 + i. */
static void put_check(lode_store_t *store, const char *group, const char *text, int64_t count) {
    char name[96];
    double perplexity[64], error[64];
    assert_true(count <= 64);
    for (int64_t i = 0; i < count; i++) {
        perplexity[i] = 40 + (double)i;
        error[i] = 0.5;
    }
    snprintf(name, sizeof name, "%s/perplexity", group);
    lode_test_put_f64(store, name, 1, &count, perplexity);
    snprintf(name, sizeof name, "%s/perplexity_stderr", group);
    lode_test_put_f64(store, name, 1, &count, error);
    snprintf(name, sizeof name, "%s/delta_nll", group);
    put_random(store, name, 1, &count, -0.01, 0.1);
    snprintf(name, sizeof name, "%s/delta_nll_stderr", group);
    put_random(store, name, 1, &count, 0.001, 0.002);
    LODE_ASSERT_OK(lode_store_attribute_text(store, group, "texts", text));
}

static void put_text(lode_store_t *store, const char *path, const char *source,
                     const char *protocol) {
    char name[96];
    const int64_t sequences = 16;
    snprintf(name, sizeof name, "%s/dense_nll", path);
    put_random(store, name, 1, &sequences, 3, 4);
    LODE_ASSERT_OK(lode_store_attribute_text(store, path, "source", source));
    LODE_ASSERT_OK(lode_store_attribute_text(store, path, "protocol", protocol));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "length", 256));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "sequences", sequences));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "targets", 4080));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "perplexity", 32));
}

static void put_pruning_checks(lode_store_t *store) {
    const char *const groups[] = {"/dose_response", "/random_cores", "/score_core"};
    put_check(store, groups[0], "perplexity", 6);
    lode_test_put_f64(store, "/dose_response/rate", 1, &(int64_t){6},
                      (double[]){0, 0, 0.1, 0.1, 0.3, 0.3});
    put_line(store, "/dose_response/draw", 6, (int32_t[]){0, 1, 0, 1, 0, 1});
    put_line(store, "/dose_response/core_removed", 6, (int32_t[]){0, 0, 1, 1, 3, 3});
    put_check(store, groups[1], "perplexity", 4);
    put_line(store, "/random_cores/core", 4, (int32_t[]){0, 2, 3, 3});
    put_line(store, "/random_cores/draw", 4, (int32_t[]){-1, -1, 0, 1});
    put_check(store, groups[2], "perplexity", 6);
    put_line(store, "/score_core/score", 6, (int32_t[]){0, 0, 0, 1, 1, 1});
    put_line(store, "/score_core/core", 6, (int32_t[]){0, 1, 2, 0, 1, 2});
    for (int i = 0; i < 3; i++) {
        LODE_ASSERT_OK(lode_store_attribute_f64(store, groups[i], "sparsity", 0.5));
        LODE_ASSERT_OK(lode_store_attribute_i64(store, groups[i], "core_size", 10));
        LODE_ASSERT_OK(
            lode_store_attribute_text(store, groups[i], "core_names", "lp,activation,none,random"));
    }
    LODE_ASSERT_OK(lode_store_attribute_text(store, groups[2], "score_names", "lp,activation"));
}

static void put_channel_checks(lode_store_t *store) {
    const int64_t probed = 2;
    static const char *const statistics[] = {"loss_proxy", "activation_power",
                                             "absolute_loss_proxy", "absolute_activation_power"};
    int32_t layer[40], channel[40], kind[40], replacement[40];
    for (int i = 0; i < 40; i++) {
        layer[i] = 2 * (i % 2);
        channel[i] = i;
    }
    put_check(store, "/ablation", "ablation", 40);
    put_line(store, "/ablation/layer", 40, layer);
    put_line(store, "/ablation/channel", 40, channel);
    put_random(store, "/ablation/loss_proxy", 1, &(int64_t){40}, 1e-9, 1e-6);
    put_line(store, "/ablation/spearman/layer", probed, (int32_t[]){0, 2});
    for (int i = 0; i < 4; i++) {
        char name[96];
        snprintf(name, sizeof name, "/ablation/spearman/%s", statistics[i]);
        put_with_interval(store, name, probed, 0.25, 0.5);
    }
    for (int i = 0; i < 40; i++)
        kind[i] = (i / 2) % 5;
    put_check(store, "/halo_ablation", "halo", 20);
    put_line(store, "/halo_ablation/layer", 20, layer);
    put_line(store, "/halo_ablation/kind", 20, kind);
    LODE_ASSERT_OK(lode_store_attribute_text(store, "/halo_ablation", "kind_names",
                                             "halo,matched,core,core+halo,core+matched"));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/halo_ablation", "count", 3));
    for (int i = 0; i < 40; i++) {
        layer[i] = i % 3 - 1;
        kind[i] = (i / 3) % 3;
        replacement[i] = (i / 9) % 2;
    }
    put_check(store, "/mean_replacement", "ablation", 36);
    put_line(store, "/mean_replacement/layer", 36, layer);
    put_line(store, "/mean_replacement/kind", 36, kind);
    put_line(store, "/mean_replacement/replacement", 36, replacement);
    LODE_ASSERT_OK(lode_store_attribute_text(store, "/mean_replacement", "kind_names",
                                             "lp,activation,random"));
    LODE_ASSERT_OK(
        lode_store_attribute_text(store, "/mean_replacement", "replacement_names", "zero,mean"));
}

static void make_probe(const char *folder) {
    lode_store_t *store = lode_test_stage_create(folder, "probe");
    put_text(store, "/texts/perplexity", "books", "gptq");
    put_text(store, "/texts/ablation", "calibration", "texts");
    put_text(store, "/texts/halo", "corpus", "texts");
    put_pruning_checks(store);
    put_channel_checks(store);
    lode_test_stage_finish(store, "");
}

/* Losses of a variant on `targets` targets: those of the text, plus `shift`, plus noise of its own
 * of the given size. */
static void put_losses(lode_store_t *store, const char *dataset, const char *variant,
                       int64_t targets, double shift, double noise, int64_t stream) {
    lode_buffer_t path = {0};
    double *nll, sum = 0;
    LODE_ASSERT_OK(LODE_NEW(&nll, targets, "losses"));
    for (int64_t t = 0; t < targets; t++) {
        nll[t] = 6 * draw(t, 1) + shift + noise * (draw(t, 100 + stream) - 0.5);
        sum += nll[t];
    }
    LODE_ASSERT_OK(lode_buffer_printf(&path, "/perplexity/%s/%s", dataset, variant));
    lode_test_put_f64(store, path.data, 1, &targets, nll);
    const double value = exp(sum / (double)targets);
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path.data, "value", value));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path.data, "stderr", 0.02 * value));
    LODE_ASSERT_OK(lode_store_attribute_text(store, path.data, "protocol", "gptq"));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path.data, "length", 256));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path.data, "windows", targets / 255));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path.data, "targets", targets));
    lode_buffer_free(&path);
    free(nll);
}

static void put_mask(lode_store_t *store, const char *variant, const extents_t *e, int64_t first,
                     int64_t end) {
    char name[128];
    uint8_t *keep;
    const int64_t shape[] = {e->layers, e->channels};
    LODE_ASSERT_OK(LODE_NEW(&keep, e->layers * e->channels, "mask"));
    for (int64_t i = 0; i < e->layers * e->channels; i++)
        keep[i] = i % e->channels >= first && i % e->channels < end;
    snprintf(name, sizeof name, "/keep/%s", variant);
    LODE_ASSERT_OK(lode_store_dataset(store, name, LODE_TYPE_U8, 2, shape, false));
    LODE_ASSERT_OK(lode_store_write(store, name, (int64_t[]){0, 0}, shape, keep));
    free(keep);
}

static char *build(const char *folder, const char *name) {
    static const char *const points[] = {""}, *const models[] = {"m"};
    const lode_report_t report = lode_test_report(folder, "made-up", points, 1, models, 1, 0);
    LODE_ASSERT_OK(lode_report_build(&report));
    return lode_test_result(folder, name);
}

static const char *model_folder(const char *folder) {
    static char path[512];
    snprintf(path, sizeof path, "%s/m", folder);
    return path;
}

/* --- summaries -------------------------------------------------------------------------- */

static void test_quantiles(void **state) {
    (void)state;
    double values[] = {NAN, 4, 1, INFINITY, 3, 2, 5}, got[5];
    lode_report_quantiles(got, values, 7);
    LODE_ASSERT_CLOSE(
        lode_compare_f64("quantiles", got, 5, (double[]){1.2, 2, 3, 4, 4.8}, 5, 1e-12, 0));
    lode_report_quantiles(got, values, 0);
    assert_true(isnan(got[0]) && isnan(got[2]) && isnan(got[4]));
    lode_report_quantiles(got, (double[]){7}, 1);
    assert_true(got[0] == 7 && got[4] == 7);
}

/* --- charts and maps -------------------------------------------------------------------- */

/* Values without a place are left out, names cannot break out, a name has one legend entry. */
static void test_chart(void **state) {
    (void)state;
    const double y[] = {-1, 0, 10, NAN}, low[] = {1, 1, 5, 1}, high[] = {2, 2, 20, 2};
    const lode_chart_series_t series[] = {
        {.name = "it's `here`", .colour = "#000000", .count = 4, .y = y, .low = low, .high = high},
        {.name = "it's `here`", .colour = "#000000", .count = 0}};
    const lode_chart_panel_t panel = {.title = "a\nb", .log_y = true, .series = series, .count = 2};
    const lode_chart_t chart = {.panels = &panel, .count = 1, .columns = 1};
    lode_buffer_t script = {0};
    LODE_ASSERT_OK(lode_chart_script(&script, &chart));
    assert_int_equal(lode_test_count(script.data, "'it?s ?here?'"), 1);
    assert_null(strchr(script.data, '`'));
    assert_non_null(strstr(script.data, "'a?b'"));
    assert_non_null(strstr(script.data, " 0 NaN 1 2\n 1 NaN 1 2\n 2 10 5 20\n 3 NaN 1 2\n"));
    lode_buffer_free(&script);
    /* Nothing to draw is no error either. */
    const lode_chart_t bare = {.panels = &(lode_chart_panel_t){0}, .count = 1};
    LODE_ASSERT_OK(lode_chart_script(&script, &bare));
    lode_buffer_free(&script);
}

static void test_heatmap(void **state) {
    (void)state;
    const char *const rows[] = {"<r>", "a name that is longer than any map has room for"};
    const char *const columns[] = {"x", "y"};
    const double values[] = {-0.0001, 0.5, NAN, 2}, shades[] = {0, 0.2, 0.5, 9};
    const bool marks[] = {false, true, false, false};
    const lode_heatmap_t map = {.title = "t & u",
                                .rows = 2,
                                .columns = 2,
                                .row_names = rows,
                                .column_names = columns,
                                .values = values,
                                .shades = shades,
                                .marks = marks,
                                .decimals = 2,
                                .scale = 1};
    lode_buffer_t page = {0};
    LODE_ASSERT_OK(lode_heatmap_svg(&page, &map));
    lode_test_balanced(page.data);
    assert_int_equal(lode_test_count(page.data, "<rect"), 3);
    assert_int_equal(lode_test_count(page.data, "font-weight=\"700\""), 1);
    assert_non_null(strstr(page.data, ">0.00<"));
    assert_null(strstr(page.data, "-0.00"));
    assert_non_null(strstr(page.data, "&lt;r&gt;, y: 0.50"));
    assert_non_null(strstr(page.data, "…</text>"));
    assert_non_null(strstr(page.data, "t &amp; u"));
    lode_buffer_free(&page);
}

/* --- figures ---------------------------------------------------------------------------- */

static const char *const titles[] = {
    "Sorted loss proxy and its concentration",
    "Concentration and stability by depth",
    "What the loss proxy goes along with",
    "All layers at a glance",
    "Halo redundancy against controls",
    "Redundancy to the core, channel by channel",
    "Where channels write and read",
    "Spectrum of the correlations of q",
    "Spectrum of the correlations of u",
    "Spectrum of the write vectors",
    "Dose response: perplexity against the core removed",
    "Random cores",
    "Score against core",
    "Ablation of single channels",
    "How well a channel’s statistics foretell its ablation",
    "Conditional ablation of the halo",
    "Mean replacement",
    "Overlap of what methods rank highest",
    "Overlap of what is kept",
    "Perplexity on books: what is protected",
    "Perplexity on books: before and after compensation",
    "Pairwise ΔNLL",
};
enum { TITLES = sizeof titles / sizeof titles[0] };

static int64_t count_titles(const char *html) {
    int64_t found = 0;
    char mark[160];
    for (int i = 0; i < TITLES; i++) {
        snprintf(mark, sizeof mark, "<b>%s.</b>", titles[i]);
        found += strstr(html, mark) != NULL;
    }
    return found;
}

static void make_pruning(const char *folder, const extents_t *e) {
    static const char *const variants[] = {"lp@0.5", "lp@0.5~lp", "lp@0.5+bias", "lp@0.25",
                                           "magnitude@0.5"};
    lode_store_t *store = lode_test_stage_create(folder, "prune");
    const int64_t shape[] = {e->layers, e->channels};
    put_random(store, "/scores/lp", 2, shape, 0, 1);
    put_random(store, "/scores/magnitude", 2, shape, 0, 1);
    put_mask(store, "lp@0.5", e, 0, 30);
    put_mask(store, "lp@0.5~lp", e, 10, 40); /* shares 20 of 40 with the first */
    put_mask(store, "lp@0.5+bias", e, 0, 30);
    put_mask(store, "lp@0.25", e, 0, 45);
    put_mask(store, "magnitude@0.5", e, 15, 45);
    lode_test_stage_finish(store, "");
    store = lode_test_stage_create(folder, "evaluate");
    put_losses(store, "books", "dense", TARGETS, 0, 0, 0);
    for (int i = 0; i < 5; i++)
        put_losses(store, "books", variants[i], TARGETS, 0.1 * (i + 1), 0.5, i);
    lode_test_stage_finish(store, "");
}

static void test_every_figure(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *model = model_folder(folder);
    make_statistics(model, &small, true);
    make_spectra(model, &small);
    make_probe(model);
    make_pruning(model, &small);
    char *html = build(folder, "report.html");
    lode_test_page(html);
    for (int i = 0; i < TITLES; i++) {
        char mark[160];
        snprintf(mark, sizeof mark, "<b>%s.</b>", titles[i]);
        if (!strstr(html, mark))
            fail_msg("no figure \"%s\"", titles[i]);
    }
    assert_null(strstr(html, "gnuplot failed"));
    /* What was measured, and on how much. */
    assert_non_null(strstr(html, "Calibration: 7094 tokens in 64 sequences."));
    assert_non_null(strstr(html, "Measured on books: protocol gptq at length 256, 16 windows, 4080 "
                                 "targets."));
    assert_non_null(strstr(html, "Measured on 4080 targets of 16 texts (calibration) of at most "
                                 "256 tokens, every next token scored."));
    /* Activation ranking without a core is the sixth candidate; dense has 32. */
    assert_non_null(strstr(html, "45 ± 0.5 <span class=\"point\">1.41×</span></td></tr>"));
    assert_non_null(strstr(html, "lp@0.5~lp, lp@0.5: 0.50</title>"));
    assert_non_null(strstr(html, "Independent choices would come to 0.33"));
    assert_null(strstr(html, "lp@0.5+bias, lp@0.5: 1.00<")); /* the same mask */
    free(html);
}

/* Only what there are data for; each is left out by itself. */
static void test_partial_files(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *model = model_folder(folder);
    make_statistics(model, &small, false);
    lode_store_t *store = lode_test_stage_create(model, "probe");
    put_text(store, "/texts/perplexity", "books", "gptq");
    put_check(store, "/dose_response", "perplexity", 2); /* neither rates nor cores removed */
    lode_test_stage_finish(store, "");
    store = lode_test_stage_create(model, "spectra");
    put_random(store, "/q/eigenvalues", 2, (int64_t[]){4, 60}, -1, 0); /* none positive */
    lode_test_stage_finish(store, "");
    char *html = build(folder, "report.html");
    lode_test_page(html);
    assert_int_equal(count_titles(html), 2); /* sorted loss proxy, and the one spectrum */
    assert_null(strstr(html, "gnuplot failed"));
    free(html);
}

static void test_wrong_shapes(void **state) {
    (void)state;
    static const char *const points[] = {""}, *const models[] = {"m"};
    const char *folder = lode_test_temporary(), *model = model_folder(folder);
    const lode_report_t report = lode_test_report(folder, "made-up", points, 1, models, 1, 0);
    make_statistics(model, &small, false);
    lode_store_t *store = lode_test_stage_create(model, "spectra");
    put_random(store, "/q/eigenvalues", 2, (int64_t[]){4, 60}, 0, 1);
    put_random(store, "/q/effective_rank_all", 1, (int64_t[]){5}, 0, 1);
    lode_test_stage_finish(store, "");
    LODE_ASSERT_FAILS(lode_report_build(&report), LODE_ERR_SHAPE, "/q/effective_rank_all");
    store = lode_test_stage_create(model, "spectra");
    lode_test_stage_finish(store, "");
    store = lode_test_stage_create(model, "evaluate");
    put_losses(store, "books", "lp@0.5", TARGETS, 0, 0, 0);
    put_losses(store, "books", "taylor@0.5", TARGETS - 1, 0, 0, 0);
    lode_test_stage_finish(store, "");
    LODE_ASSERT_FAILS(lode_report_build(&report), LODE_ERR_SHAPE, "taylor@0.5");
}

/* --- comparisons ------------------------------------------------------------------------ */

typedef struct pair {
    double values[3]; /* delta_nll, low, high */
    double ratio;
    const char *verdict;
} pair_t;

/* The row of a pair in comparisons.csv, taken apart in place. */
static pair_t find_pair(char *table, const char *a, const char *b) {
    char *fields[LODE_TEST_FIELDS], *line = strchr(table, '\n') + 1;
    char *copy = strdup(line);
    pair_t pair = {.verdict = NULL};
    static char verdict[64];
    int count;
    for (line = copy; *line && !pair.verdict;) {
        line = lode_test_row(line, fields, &count);
        assert_int_equal(count, 19);
        if (strcmp(fields[3], a) != 0 || strcmp(fields[4], b) != 0)
            continue;
        for (int i = 0; i < 3; i++)
            pair.values[i] = strtod(fields[5 + i], NULL);
        pair.ratio = strtod(fields[8], NULL);
        snprintf(verdict, sizeof verdict, "%s", fields[9]);
        pair.verdict = verdict;
    }
    free(copy);
    if (!pair.verdict)
        fail_msg("no comparison of %s with %s", a, b);
    return pair;
}

static void test_comparisons(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *model = model_folder(folder);
    lode_store_t *store = lode_test_stage_create(model, "evaluate");
    put_losses(store, "books", "dense", TARGETS, 0, 0, 0);
    put_losses(store, "books", "lp@0.5", TARGETS, 0.3, 0.5, 1);
    put_losses(store, "books", "scar-lp@0.5", TARGETS, 0.3, 0.5, 1); /* the same losses */
    put_losses(store, "books", "taylor@0.5", TARGETS, 0.3001, 0.5, 2);
    put_losses(store, "books", "magnitude@0.5", TARGETS, 0.5, 0.5, 3);
    put_losses(store, "books", "lp@0.25", TARGETS, 0.1, 0.5, 4);
    put_losses(store, "short", "lp@0.25", 200, 0.1, 0.5, 4);
    put_losses(store, "short", "taylor@0.25", 200, 0.1, 0.5, 5);
    lode_test_stage_finish(store, "");
    char *table = build(folder, "comparisons.csv");
    /* Six pairs and four against dense at one half, one against dense at one quarter; the other
     * text is too short. */
    assert_int_equal(lode_test_lines(table), 1 + 6 + 4 + 1);
    pair_t pair = find_pair(table, "lp@0.5", "magnitude@0.5");
    assert_string_equal(pair.verdict, "a better");
    assert_true(fabs(pair.values[0] + 0.2) < 0.05 && pair.values[2] < 0);
    assert_true(fabs(pair.ratio - exp(pair.values[0])) < 1e-12);
    /* From the losses themselves. */
    double *a, *b, a_means[32], b_means[32];
    LODE_ASSERT_OK(LODE_NEW(&a, TARGETS, "losses"));
    LODE_ASSERT_OK(LODE_NEW(&b, TARGETS, "losses"));
    for (int64_t t = 0; t < TARGETS; t++) {
        a[t] = 6 * draw(t, 1) + 0.3 + 0.5 * (draw(t, 101) - 0.5);
        b[t] = 6 * draw(t, 1) + 0.5 + 0.5 * (draw(t, 103) - 0.5);
    }
    lode_paired_block_means(a_means, 32, a, TARGETS);
    lode_paired_block_means(b_means, 32, b, TARGETS);
    lode_paired_t paired;
    lode_paired_compare(&paired, a_means, b_means, 32, TARGETS, 0.95);
    LODE_ASSERT_CLOSE(lode_compare_f64(
        "row", pair.values, 3, (double[]){paired.difference, paired.low, paired.high}, 3, 0, 0));
    free(a);
    free(b);
    pair = find_pair(table, "scar-lp@0.5", "lp@0.5");
    assert_string_equal(pair.verdict, "equal");
    assert_string_equal(find_pair(table, "magnitude@0.5", "dense").verdict, "b better");
    const bool first = strstr(table, "taylor@0.5,lp@0.5") != NULL;
    pair =
        first ? find_pair(table, "taylor@0.5", "lp@0.5") : find_pair(table, "lp@0.5", "taylor@0.5");
    assert_string_equal(pair.verdict, "undecided");
    /* The page says the same, seen from the other side: magnitude is last, against the best. */
    char row[96];
    pair = find_pair(table, first ? "taylor@0.5" : "scar-lp@0.5", "magnitude@0.5");
    snprintf(row, sizeof row, "%+.4f <span class=\"point\">[%+.4f, %+.4f]", -pair.values[0],
             -pair.values[2], -pair.values[1]);
    free(table);
    char *html = lode_test_result(folder, "report.html");
    lode_test_page(html);
    assert_non_null(strstr(html, "32 consecutive blocks of about 64 targets"));
    assert_non_null(strstr(html, "50 % removed: "));
    assert_non_null(strstr(html, row));
    assert_non_null(strstr(html, first ? "taylor@0.5 is lowest" : "scar-lp@0.5 is lowest"));
    free(html);
}

/* --- size ------------------------------------------------------------------------------- */

/* Four sparsities of 45 variants, 32 layers: nothing grows out of hand. */
static void test_many_variants(void **state) {
    (void)state;
    static const char *const methods[] = {"scar-lp", "scar-prot",     "scar-conn",
                                          "lp",      "magnitude",     "activation",
                                          "taylor",  "wanda-channel", "entropy"};
    static const char *const options[] = {"", "~activation", "+global", "+bias",
                                          "~activation+global"};
    const extents_t large = {32, 400, 4, 40};
    const char *folder = lode_test_temporary(), *model = model_folder(folder);
    const double start = lode_time();
    make_statistics(model, &large, true);
    make_spectra(model, &large);
    lode_store_t *masks = lode_test_stage_create(model, "prune");
    lode_store_t *store = lode_test_stage_create(model, "evaluate");
    put_losses(store, "books", "dense", TARGETS, 0, 0, 0);
    for (int i = 0; i < 180; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s@%g%s", methods[i % 9], 0.2 * (1 + i / 45),
                 options[i / 9 % 5]);
        put_losses(store, "books", name, TARGETS, 0.3 * (1 + (double)(i / 45)) + 0.01 * (i % 45),
                   0.5, i);
        put_mask(masks, name, &large, i % 45, i % 45 + 200);
    }
    lode_test_stage_finish(masks, "");
    lode_test_stage_finish(store, "");
    char *table = build(folder, "comparisons.csv"), *html = lode_test_result(folder, "report.html");
    lode_test_page(html);
    /* The 40 best of each sparsity: all their pairs, and each with dense. */
    assert_int_equal(lode_test_lines(table), 1 + 4 * (40 * 39 / 2 + 40));
    assert_true(strlen(html) < 3000000);
    assert_non_null(strstr(html, "Compared are the 40 of lowest."));
    assert_true(lode_time() - start < 60);
    free(table);
    free(html);
}

/* Tics that are many decades apart are listed: gnuplot would not come to an end with them. */
static void test_power_tics(void **state) {
    (void)state;
    lode_buffer_t script = {0};
    LODE_ASSERT_OK(lode_plot_power_tics(&script, 'x', 2e-3, 5e4, 4));
    assert_string_equal(script.data, "set xtics 1e2\nset format x '10^{%T}'\n");
    lode_buffer_free(&script);
    LODE_ASSERT_OK(lode_plot_power_tics(&script, 'y', 3e-81, 2e-2, 6));
    assert_string_equal(script.data, "set ytics ('10^{-70}' 1e-70, '10^{-56}' 1e-56, "
                                     "'10^{-42}' 1e-42, '10^{-28}' 1e-28, '10^{-14}' 1e-14)\n");
    lode_buffer_free(&script);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles),     cmocka_unit_test(test_chart),
        cmocka_unit_test(test_heatmap),       cmocka_unit_test(test_every_figure),
        cmocka_unit_test(test_partial_files), cmocka_unit_test(test_wrong_shapes),
        cmocka_unit_test(test_power_tics),    cmocka_unit_test(test_comparisons),
        cmocka_unit_test(test_many_variants),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
