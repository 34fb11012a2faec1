/* lode plan: forecasts of the published shapes, without weights; what a user can get wrong. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "testing/cmocka_all.h"

#include "base/file.h"
#include "base/memory.h"
#include "plan/forecast.h"
#include "plan/plan.h"
#include "plan/show.h"
#include "testing/checkpoint.h"
#include "testing/compare.h"
#include "testing/data.h"
#include "testing/temporary.h"

static const lode_machine_t machine = {.threads = 1,
                                       .sgemm = 1e11,
                                       .forward = 9e10,
                                       .backward = 8e10,
                                       .head = 9e10,
                                       .head_backward = 9e10,
                                       .dgemm = 5e10,
                                       .vector = 4e8,
                                       .disk = 1e9};

static const char experiment[] =
    "name = \"t\"; results = \"%s\"; memory = \"%s\";\n"
    "models = ( { name = \"m\"; path = \"%s\"; } );\n"
    "calibration = { corpus = \"none.txt\"; sequences = 16; max_length = 512; };\n"
    "prune = { methods = [ \"lp\", \"magnitude\" ]; sparsity = ( 0.3, 0.5 ); };\n"
    "evaluate = { perplexity = ( { name = \"w\"; corpus = \"none.txt\"; length = 512; } ); };\n";

static lode_config_t *load(const char *memory, const char *path) {
    lode_config_t *config;
    lode_buffer_t text = {0};
    LODE_ASSERT_OK(lode_buffer_printf(&text, experiment, lode_test_temporary(), memory, path));
    LODE_ASSERT_OK(lode_config_load_text(&config, text.data, "test", NULL, 0));
    lode_buffer_free(&text);
    return config;
}

/* --- every published shape -------------------------------------------------------------------- */

/* Layers are all owned once, weights are the model's (an untied embedding is nobody's twice), and
 * what is least is no more than what is used, nor that more than all. */
static void check_sums(const lode_forecast_t *forecast) {
    const lode_forecast_model_t *model = &forecast->model;
    int64_t layers = 0, weights = 0;
    for (int s = 0; s < forecast->stages; s++) {
        const lode_forecast_rank_t *rank = &forecast->rank[s];
        assert_int_equal(rank->layout.first_layer, layers);
        layers = rank->layout.layer_end;
        weights += rank->weights;
        for (int stage = 0; stage < LODE_STAGE_COUNT; stage++) {
            const lode_forecast_memory_t *memory = &rank->memory[stage];
            assert_true(memory->least <= memory->used && memory->used <= memory->all);
            assert_true(memory->process <= memory->least);
            assert_true(rank->peak.used >= memory->used);
        }
        assert_true(rank->kept >= 0 &&
                    rank->kept <= rank->layout.layer_end - rank->layout.first_layer);
    }
    assert_int_equal(layers, model->architecture.layers);
    const int64_t twice = forecast->stages > 1 ? model->tied_bytes : 0;
    assert_in_range(weights - twice, model->bytes - 4096, model->bytes + 4096);
    assert_true(forecast->replicas * forecast->stages + forecast->idle == forecast->ranks);
    assert_true(forecast->seconds > 0 && forecast->disk > 0);
}

static void check_model(const char *path) {
    lode_config_t *config = load("64G", path);
    const int counts[] = {1, 2, 3, 8, 17, 200};
    double seconds = 0;
    int64_t disk = 0;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        lode_forecast_t forecast;
        LODE_ASSERT_OK(lode_forecast_make(&forecast, config, &config->models[0], "", &machine,
                                          counts[i], true));
        check_sums(&forecast);
        /* Results do not depend on ranks; time does not grow with them. */
        assert_true(i == 0 || forecast.disk == disk);
        assert_true(i == 0 || forecast.stage[LODE_STAGE_EVALUATE].seconds <= seconds * 1.02);
        disk = forecast.disk;
        seconds = forecast.stage[LODE_STAGE_EVALUATE].seconds;
        lode_forecast_free(&forecast);
    }
    lode_config_destroy(&config);
}

static void test_published_shapes(void **state) {
    (void)state;
    if (!lode_test_data("configs"))
        skip();
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", lode_test_data("configs"));
    DIR *listing = opendir(folder);
    assert_non_null(listing);
    int models = 0;
    for (struct dirent *entry; (entry = readdir(listing));) {
        char path[8192];
        if (!strstr(entry->d_name, ".json"))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        check_model(path);
        models++;
    }
    closedir(listing);
    assert_true(models > 10);
}

/* --- memory ----------------------------------------------------------------------------------- */

/* What a plan says fits, fits; one rank less does not. */
static void test_fewest_ranks(void **state) {
    (void)state;
    if (!lode_test_data("configs/llama3_1_8b.json"))
        skip();
    lode_config_t *config = load("4G", lode_test_data("configs/llama3_1_8b.json"));
    lode_forecast_t forecast;
    int fewest, nodes;
    LODE_ASSERT_OK(
        lode_forecast_make(&forecast, config, &config->models[0], "", &machine, 1, true));
    LODE_ASSERT_OK(lode_forecast_fewest(&fewest, &forecast, 0, 1, 64));
    assert_int_equal(fewest, 1); /* inputs of layers go to a scratch file */
    /* Nodes that hold a quarter of the weights, and little besides. */
    const int64_t node = forecast.model.bytes / 4 + (INT64_C(6) << 30);
    LODE_ASSERT_OK(lode_forecast_fewest(&nodes, &forecast, node, 1, 64));
    assert_in_range(nodes, 2, 16);
    for (int ranks = nodes - 1; ranks <= nodes; ranks++) {
        LODE_ASSERT_OK(lode_forecast_layout(&forecast, ranks));
        LODE_ASSERT_OK(lode_forecast_memory(&forecast));
        const lode_forecast_node_t found = lode_forecast_node(&forecast, 1);
        assert_true((found.private_bytes + found.weights <= node) == (ranks == nodes));
    }
    lode_forecast_free(&forecast);
    lode_config_destroy(&config);
}

/* Less memory: activations are given up, then inputs go to disk, then the stage refuses. */
static void test_budgets(void **state) {
    (void)state;
    if (!lode_test_data("configs/tinyllama_1b_chat_v1.0.json"))
        skip();
    const char *const budgets[] = {"64G", "1G", "600M", "100M"};
    int64_t used[4], kept[4], scratch[4];
    bool fits[4];
    for (int i = 0; i < 4; i++) {
        lode_config_t *config =
            load(budgets[i], lode_test_data("configs/tinyllama_1b_chat_v1.0.json"));
        lode_forecast_t forecast;
        LODE_ASSERT_OK(
            lode_forecast_make(&forecast, config, &config->models[0], "", &machine, 1, true));
        used[i] = forecast.rank[0].memory[LODE_STAGE_CALIBRATE].used;
        kept[i] = forecast.rank[0].kept;
        scratch[i] = forecast.stage[LODE_STAGE_CALIBRATE].scratch;
        fits[i] = lode_forecast_fits(&forecast);
        lode_forecast_free(&forecast);
        lode_config_destroy(&config);
    }
    assert_int_equal(kept[0], 22);
    assert_int_equal(scratch[0], 0);
    assert_true(kept[1] < kept[0] && used[1] < used[0] && used[1] < 1100000000);
    assert_true(kept[2] == 0 && scratch[2] > 0 && used[2] <= used[1]);
    assert_true(fits[0] && fits[1] && fits[2] && !fits[3]);
}

static const lode_architecture_t small = {.model_type = LODE_MODEL_LLAMA,
                                          .gated = true,
                                          .layers = 3,
                                          .hidden = 64,
                                          .intermediate = 96,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .head_dim = 16,
                                          .vocab = 100,
                                          .max_positions = 128,
                                          .norm_eps = 1e-5,
                                          .rotary = {.kind = LODE_ROTARY_DEFAULT, .theta = 10000},
                                          .bos = 1,
                                          .eos = 2};

/* Training: no rank takes more than keeps everything, nor less than the least; a text is as long as
 * what is in it, whatever the name of its file says of compression. */
static void test_training(void **state) {
    (void)state;
    static const char line[] = "a line of text that is longer than it is when compressed\n";
    enum { LINES = 2000 };
    const char *const overrides[] = {"calibration.max_length=64",
                                     "evaluate.perplexity.[0].length=64"};
    const char *folder = lode_test_temporary();
    lode_buffer_t text = {0};
    lode_forecast_t forecast;
    lode_config_t *config;
    char path[512];
    snprintf(path, sizeof path, "%s/text.dat", folder);
    gzFile file = gzopen(path, "wb");
    for (int i = 0; i < LINES; i++)
        assert_int_equal(gzwrite(file, line, sizeof line - 1), sizeof line - 1);
    assert_int_equal(gzclose(file), Z_OK);
    LODE_ASSERT_OK(lode_test_write_config(folder, &small));
    LODE_ASSERT_OK(lode_buffer_printf(&text, experiment, folder, "8G", folder));
    LODE_ASSERT_OK(lode_buffer_printf(
        &text, "train = { steps = 5; from = \"scratch\"; corpus = \"%s\"; length = 64; };\n",
        path));
    LODE_ASSERT_OK(lode_config_load_text(&config, text.data, "test", overrides, 2));
    LODE_ASSERT_OK(
        lode_forecast_make(&forecast, config, &config->models[0], "", &machine, 1, false));
    const lode_forecast_memory_t *memory = &forecast.rank[0].memory[LODE_STAGE_TRAIN];
    assert_true(forecast.stage[LODE_STAGE_TRAIN].wanted);
    assert_true(memory->process < memory->least && memory->least <= memory->used);
    assert_int_equal(memory->used, memory->all);
    assert_int_equal(forecast.texts.train_bytes, LINES * (sizeof line - 1));
    lode_forecast_free(&forecast);
    lode_config_destroy(&config);
    lode_buffer_free(&text);
}

/* --- what is printed, and what is refused ----------------------------------------------------- */

static lode_status_t print(lode_plan_request_t request) {
    fflush(stdout);
    FILE *kept = stdout;
    stdout = fopen("/dev/null", "w");
    assert_non_null(stdout);
    const lode_status_t status = lode_plan_print(&request);
    fclose(stdout);
    stdout = kept;
    return status;
}

static void test_texts(void **state) {
    (void)state;
    char text[LODE_PLAN_TEXT];
    assert_string_equal(lode_plan_bytes(text, 0), "-");
    assert_string_equal(lode_plan_bytes(text, 12345), "12 kB");
    assert_string_equal(lode_plan_bytes(text, 1210000000), "1.21 GB");
    assert_string_equal(lode_plan_limit(text, INT64_C(8) << 30), "8G");
    assert_string_equal(lode_plan_seconds(text, 0.5), "0.50 s");
    assert_string_equal(lode_plan_seconds(text, 200), "3 min 20 s");
    assert_string_equal(lode_plan_seconds(text, 7500), "2 h 05 min");
}

static void test_errors(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    char json[512], bench[512];
    const char *const unknown[] = {"calibration.sequnces=3"};
    snprintf(json, sizeof json, "%s/config.json", folder);
    snprintf(bench, sizeof bench, "%s/bench.json", folder);
    LODE_ASSERT_FAILS(print((lode_plan_request_t){.path = json, .ranks = 1}), LODE_ERR_INPUT, json);
    LODE_ASSERT_FAILS(print((lode_plan_request_t){.path = "missing.cfg", .ranks = 1}),
                      LODE_ERR_INPUT, "missing.cfg");
    LODE_ASSERT_OK(lode_test_write_text(folder, "config.json", "{\"model_type\": \"llama\"}"));
    LODE_ASSERT_FAILS(print((lode_plan_request_t){.path = folder, .ranks = 1}), LODE_ERR_FORMAT,
                      "num_hidden_layers");
    LODE_ASSERT_OK(lode_test_write_config(folder, &small));
    LODE_ASSERT_OK(print((lode_plan_request_t){.path = folder, .ranks = 2, .json = true}));
    LODE_ASSERT_OK(print((lode_plan_request_t){
        .path = folder, .ranks = 2, .node_memory = "1G", .ranks_per_node = 2}));
    LODE_ASSERT_FAILS(print((lode_plan_request_t){
                          .path = folder, .ranks = 1, .overrides = unknown, .override_count = 1}),
                      LODE_ERR_CONFIG, "sequences");
    LODE_ASSERT_FAILS(print((lode_plan_request_t){.path = folder, .ranks = 1, .node_memory = "1G"}),
                      LODE_ERR_USAGE, "--ranks-per-node");
    LODE_ASSERT_FAILS(print((lode_plan_request_t){
                          .path = folder, .ranks = 1, .node_memory = "1X", .ranks_per_node = 1}),
                      LODE_ERR_USAGE, "1X");
    LODE_ASSERT_FAILS(print((lode_plan_request_t){.path = folder, .ranks = 1, .model = "other"}),
                      LODE_ERR_USAGE, "other");
    LODE_ASSERT_OK(lode_test_write_text(folder, "bench.json", "{\"threads\": 1}"));
    LODE_ASSERT_FAILS(print((lode_plan_request_t){.path = folder, .ranks = 1, .machine = bench}),
                      LODE_ERR_FORMAT, "sgemm_gflops");
    LODE_ASSERT_OK(lode_test_write_text(
        folder, "bench.json",
        "{\"threads\": 2, \"sgemm_gflops\": 100, \"forward_gflops\": 90, \"backward_gflops\": 80,"
        " \"head_gflops\": 70, \"head_backward_gflops\": 60}"));
    LODE_ASSERT_OK(print((lode_plan_request_t){.path = folder, .ranks = 1, .machine = bench}));
    lode_machine_t read;
    LODE_ASSERT_OK(lode_machine_read(&read, bench, 1));
    assert_true(read.sgemm == 50e9 && read.forward == 45e9 && read.head_backward == 30e9);
    assert_true(read.threads == 1 && read.timed == 2);
}

/* Speeds of other threads are said to be so, and only those. */
static void test_other_threads(void **state) {
    static const char said[] =
        "bench.json was measured with 2 threads and threads is 1 here; times take speed to be in "
        "proportion, and may be far off, the more so where cores were busy: lode bench --threads 1 "
        "tells more\n";
    const char *folder = lode_test_temporary();
    lode_architecture_t longer = small;
    char path[4096];
    (void)state;
    longer.max_positions = 512;
    LODE_ASSERT_OK(lode_test_write_config(folder, &longer));
    snprintf(path, sizeof path, "%s/config.json", folder);
    lode_config_t *config = load("1G", path);
    for (int timed = 1; timed <= 2; timed++) {
        lode_machine_t bench = machine;
        lode_forecast_t forecast;
        lode_plan_advice_t advice;
        bench.timed = timed;
        snprintf(bench.source, sizeof bench.source, "bench.json");
        LODE_ASSERT_OK(
            lode_forecast_make(&forecast, config, &config->models[0], "", &bench, 1, true));
        LODE_ASSERT_OK(lode_plan_advise(&advice, &forecast, 0, 0));
        assert_int_equal(strstr(advice.notes.data, said) != NULL, timed == 2);
        assert_int_equal(strstr(advice.notes.data, "was measured with") != NULL, timed == 2);
        lode_plan_advice_free(&advice);
        lode_forecast_free(&forecast);
    }
    lode_config_destroy(&config);
}

/* A sweep: stages whose keys do not differ run once. */
static void test_sweep(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    const char *const overrides[] = {
        "sweep=({key=\"classify.core_fraction\"; values=(0.1, 0.2, 0.3);})"};
    LODE_ASSERT_OK(lode_test_write_config(folder, &small));
    LODE_ASSERT_OK(print((lode_plan_request_t){
        .path = folder, .ranks = 5, .overrides = overrides, .override_count = 1}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_shapes), cmocka_unit_test(test_fewest_ranks),
        cmocka_unit_test(test_budgets),          cmocka_unit_test(test_texts),
        cmocka_unit_test(test_errors),           cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_training),         cmocka_unit_test(test_other_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
