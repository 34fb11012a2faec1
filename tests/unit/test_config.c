/* Experiment files: every class of error with its message, defaults, overrides, includes, round
 * trip, sweeps, and which keys decide which stage, driven by the table of keys. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "config/config.h"
#include "config/fields.h"
#include "config/schema.h"
#include "config/series.h"
#include "testing/compare.h"

/* Three lines that are all an experiment needs. */
#define HEAD "name = \"e\";\nmodels = ( { name = \"a\"; path = \"m\"; } );\n"
#define BASE HEAD "calibration = { corpus = \"c\"; };\n"
#define PERPLEXITY "evaluate = { perplexity = ( { name = \"p\"; corpus = \"t\"; } ); };\n"
/* Training with room for every bound of its keys. */
#define TRAIN(keys)                                                                                \
    "train = { steps = 1073741824; from = \"scratch\"; corpus = \"b\"; length = 2048;\n"           \
    "  validation = { corpus = \"v\"; };\n " keys " };\n"
#define EVALUATE                                                                                   \
    "evaluate = { perplexity = ( { name = \"p\"; corpus = \"t\"; } );\n"                           \
    "  tasks = ( { name = \"q\"; path = \"j\"; } ); };\n"

static char folder[] = "/tmp/lode_test_config_XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

/* Writes a file of the test's folder; its path is overwritten by the next call but three. */
static const char *write_file(const char *name, const char *text, size_t size) {
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    LODE_ASSERT_OK(lode_file_write_atomic(path, text, size));
    return path;
}

static lode_config_t *parse(const char *text) {
    lode_config_t *config;
    LODE_ASSERT_OK(lode_config_parse(&config, text, strlen(text), "exp.cfg"));
    return config;
}

static lode_config_t *load(const char *text, const char *const *overrides, int64_t count) {
    lode_config_t *config;
    const char *path = write_file("exp.cfg", text, strlen(text));
    LODE_ASSERT_OK(lode_config_load(&config, path, overrides, count));
    return config;
}

static char *text_of(const lode_config_t *config) {
    lode_buffer_t text = {0};
    LODE_ASSERT_OK(lode_config_text(config, &text));
    return text.data;
}

static void assert_refused(const char *text, lode_status_t status, const char *message) {
    lode_config_t *config = NULL;
    lode_status_t got = lode_config_parse(&config, text, strlen(text), "exp.cfg");
    if (got != status || strstr(lode_error_message(), message) != lode_error_message())
        fail_msg("%s\nstatus %d, message \"%s\"\nwanted  %d and         \"%s\"", text, (int)got,
                 got == LODE_OK ? "" : lode_error_message(), (int)status, message);
    assert_null(config);
}

static void test_defaults(void **state) {
    (void)state;
    lode_config_t *c = parse(BASE PERPLEXITY);
    assert_string_equal(c->name, "e");
    assert_string_equal(c->results, "results");
    assert_int_equal(c->seed, 42);
    assert_int_equal(c->threads, 1);
    assert_int_equal(c->memory, INT64_C(8) << 30);
    assert_int_equal(c->micro_batch, 2048);
    assert_int_equal(c->replicas, 0);
    assert_int_equal(c->model_count, 1);
    assert_string_equal(c->models[0].name, "a");
    assert_string_equal(c->models[0].path, "m");
    assert_string_equal(c->calibration.corpus, "c");
    assert_int_equal(c->calibration.format, LODE_CORPUS_LINES);
    assert_string_equal(c->calibration.field, "text");
    assert_int_equal(c->calibration.select, LODE_SELECT_FIRST);
    assert_int_equal(c->calibration.sequences, 64);
    assert_int_equal(c->calibration.max_length, 512);
    assert_int_equal(c->calibration.packing, LODE_PACKING_NONE);
    assert_int_equal(c->calibration.loss, LODE_LOSS_MEAN);
    assert_int_equal(c->calibration.keep_logits, 0);
    assert_true(c->classify.core_fraction == 0.01);
    assert_true(c->classify.halo_fraction == 0.1);
    assert_int_equal(c->classify.write_support, 0);
    assert_int_equal(c->classify.redundancy.sequences, 8);
    assert_int_equal(c->classify.redundancy.max_length, 256);
    assert_int_equal(c->classify.redundancy.top_k, 5);
    assert_true(c->classify.redundancy.positive_only);
    assert_true(c->classify.protection.floor == 0.2);
    assert_true(c->classify.protection.power == 8.0);
    const lode_method_t methods[] = {LODE_METHOD_SCAR_PROT, LODE_METHOD_LP,
                                     LODE_METHOD_WANDA_CHANNEL, LODE_METHOD_MAGNITUDE};
    assert_int_equal(c->prune.method_count, 4);
    assert_memory_equal(c->prune.methods, methods, sizeof methods);
    assert_int_equal(c->prune.core_count, 1);
    assert_int_equal(c->prune.cores[0], LODE_CORE_DEFAULT);
    assert_int_equal(c->prune.sparsity_count, 1);
    assert_true(c->prune.sparsity[0] == 0.5);
    assert_int_equal(c->prune.allocation_count, 1);
    assert_int_equal(c->prune.allocation[0], LODE_ALLOCATION_UNIFORM);
    assert_int_equal(c->prune.compensation_count, 1);
    assert_int_equal(c->prune.compensation[0], LODE_COMPENSATION_NONE);
    assert_true(c->prune.ridge == 1e-3);
    assert_int_equal(c->evaluate.perplexity_count, 1);
    assert_string_equal(c->evaluate.perplexity[0].name, "p");
    assert_int_equal(c->evaluate.perplexity[0].format, LODE_CORPUS_TEXT);
    assert_int_equal(c->evaluate.perplexity[0].protocol, LODE_PROTOCOL_GPTQ);
    assert_int_equal(c->evaluate.perplexity[0].bos, LODE_BOS_AUTO);
    assert_int_equal(c->evaluate.perplexity[0].length, 2048);
    assert_int_equal(c->sweep_count, 0);
    lode_config_destroy(&c);
    assert_null(c);
}

static void test_defaults_of_training(void **state) {
    (void)state;
    lode_config_t *c = parse(BASE);
    const lode_config_train_t *t = &c->train;
    assert_int_equal(t->steps, 0);
    assert_int_equal(t->from, LODE_TRAIN_CHECKPOINT);
    assert_string_equal(t->corpus, "");
    assert_int_equal(t->format, LODE_CORPUS_TEXT);
    assert_string_equal(t->field, "text");
    assert_true(t->length == 256 && t->batch == 16 && t->groups == 1 && t->warmup == 0);
    assert_true(t->learning_rate == 1e-3 && t->final == 0.1 && t->clip == 1);
    assert_int_equal(t->decay, LODE_DECAY_COSINE);
    assert_true(t->beta1 == 0.9 && t->beta2 == 0.95 && t->epsilon == 1e-8);
    assert_true(t->weight_decay.matrices == 0.1 && t->weight_decay.embeddings == 0.1);
    assert_true(t->weight_decay.vectors == 0);
    assert_true(t->init.deviation == 0.02 && t->init.depth);
    assert_int_equal(t->checkpoint_count, 0);
    assert_int_equal(t->dtype, LODE_TRAIN_BF16);
    assert_int_equal(t->save, 100);
    assert_string_equal(t->validation.corpus, "");
    assert_true(t->validation.sequences == 64 && t->validation.every == 0);
    assert_true(t->tokenizer.vocabulary == 0 && t->tokenizer.sample == 0);
    assert_true(t->entropy.weight == 0 && t->entropy.layer_count == 0);
    assert_int_equal(t->entropy.form, LODE_ENTROPY_ABSOLUTE);
    assert_int_equal(t->entropy.schedule, LODE_SCHEDULE_CONSTANT);
    assert_string_equal(c->models[0].series, "");
    assert_int_equal(c->models[0].step, -1);
    assert_int_equal(lode_config_checkpoint_total(c), 0);
    assert_false(lode_config_is_trained(c, &c->models[0]));
    lode_config_destroy(&c);
}

static void test_defaults_of_quantization(void **state) {
    (void)state;
    lode_config_t *c = parse(BASE);
    const lode_config_superweight_t *superweight = &c->superweight;
    const lode_config_quantize_t *quantize = &c->quantize;
    assert_int_equal(superweight->prompt_count, 0);
    assert_int_equal(superweight->rule, LODE_SPIKE_RELATIVE);
    assert_true(superweight->absolute == 50 && superweight->product == 0.3);
    assert_int_equal(superweight->experiment_count, 0);
    assert_int_equal(superweight->scale_count, 7);
    assert_true(superweight->scales[0] == 0 && superweight->scales[6] == 3);
    assert_true(superweight->others_fraction == 1e-6);
    assert_int_equal(superweight->others_count, 7000);
    assert_string_equal(superweight->stopwords, "");
    assert_int_equal(quantize->method_count, 0);
    assert_int_equal(quantize->bit_count, 1);
    assert_int_equal(quantize->bits[0], 4);
    assert_int_equal(quantize->granularity_count, 1);
    assert_int_equal(quantize->granularity[0].kind, LODE_GRANULARITY_CHANNEL);
    assert_int_equal(quantize->clip[0], LODE_CLIP_NONE);
    assert_int_equal(quantize->z_count, 11);
    assert_int_equal(quantize->protection[0], LODE_PROTECT_NONE);
    assert_int_equal(quantize->activations[0], LODE_INPUTS_NONE);
    assert_true(quantize->smooth == 0.5);
    assert_int_equal(quantize->sequences, 16);
    assert_int_equal(quantize->tensors, LODE_QUANTIZED_ALL);
    assert_false(quantize->pruned);
    assert_int_equal(quantize->budget, 0);
    assert_int_equal(c->audit.folder_count, 0);
    assert_true(c->audit.loss_proxy);
    assert_false(lode_config_needs_superweights(c));
    lode_config_destroy(&c);
}

/* An experiment that sets every key, in the spellings that libconfig allows. */
static const char full[] =
    "name = \"stories\";   seed = 5000000000;   results = \"out\";  threads: 2, memory = "
    "\"1.5GiB\"\n"
    "micro_batch = 0x100; replicas = 3L; # comment\n"
    "models  = ( { name = \"s\"; path = \"a b\"; }, { name = \"t\"; path = \"c\\\"\\\\d\\x01\"; } "
    ");\n"
    "train = { steps = 9; from = \"scratch\"; corpus = \"tc\"; format = \"lines\"; field = "
    "\"tf\";\n"
    "   length = 64; batch = 24; groups = 2; learning_rate = 2e-3; warmup = 3; decay = "
    "\"linear\";\n"
    "   final = 0; beta1 = 0.8; beta2 = 0.99; epsilon = 1e-6; clip = 0; weight_decay = {\n"
    "   matrices = 0.2; embeddings = 0; vectors = 1; }; init = { deviation = 0.1; depth = false; "
    "};\n"
    "   checkpoints = [ 7, 0, 2 ]; dtype = \"f32\"; save = 5; validation = { corpus = \"vc\";\n"
    "   format = \"jsonl\"; field = \"vf\"; sequences = 3; every = 2; }; tokenizer = {\n"
    "   vocabulary = 512; sample = \"1M\"; }; entropy = { weight = 0.5; form = \"softmax\";\n"
    "   schedule = \"cosine\"; layers = ( 1, 0 ); }; };\n"
    "/* more\n"
    "   */ calibration = { corpus = \"tiny\" \"stories\"; format = \"jsonl\"; field = \"body\";\n"
    "   select = \"random\"; sequences = 32; max_length = 128; packing = \"packed\"; padding = "
    "\"eos\";\n"
    "   loss = \"sum\"; keep_logits = 2; second_moment = \"float32\"; merged = \"mm\"; }; // c\n"
    "classify = { core_fraction = 0.05; halo_fraction = 1; write_support = 16;\n"
    "   redundancy = { sequences = 4; max_length = 64; top_k = 3; positive_only = false;\n"
    "     correlation = \"nodelens\"; };\n"
    "   controls = { channels = 7; draws = 9; nodelens = true; read_halo = true; };\n"
    "   spectra = [ \"write\", \"q\" ];\n"
    "   protection = { floor = 0; power = .5; }; };\n"
    "prune = { methods = ( \"scar-lp\", \"scar-prot\", \"scar-conn\", \"lp\", \"wanda-channel\",\n"
    "     \"magnitude\", \"activation\", \"taylor\", \"entropy\", \"random\",\n"
    "     \"sparsegpt-channel\", \"flap\", \"entropy-square\", \"entropy-softmax\",\n"
    "     \"entropy-reversed\", \"magnitude-reversed\" );\n"
    "   cores = [ \"default\", \"lp\", \"activation\", \"random\", \"none\" ];\n"
    "   sparsity = ( 0.25, 0.33333333333333331, 1e-1 ); allocation = [ \"uniform\", \"global\" ];\n"
    "   compensation = [ \"none\", \"sequential\" ]; ridge = 1e-300; floor = 0; };\n"
    "evaluate = { perplexity = ( { name = \"w\"; corpus = \"x\"; format = \"wikitext\";\n"
    "     field = \"f\"; protocol = \"llama.cpp\"; length = 256; } );\n"
    "   tasks = ( { name = \"arc\"; path = \"a.jsonl\"; limit = 7; shots = 5; bos = \"never\";\n"
    "     pruned = false; } ); };\n"
    "superweight = { prompts = [ \"Apple Inc.\", \"b\" ]; bos = \"never\"; rule = \"absolute\";\n"
    "   ratio = 20; absolute = 9.5; product = 1; limit = 3; experiments = [ \"scale\", \"prune\" "
    "];\n"
    "   scales = ( 0, 1.5 ); others_fraction = 0; others_least = 1; others_count = 5;\n"
    "   stopwords = \"sw\"; corpus = \"sc\"; format = \"jsonl\"; field = \"sf\"; sequences = 4;\n"
    "   max_length = 9; known = \"k.json\"; };\n"
    "quantize = { methods = [ \"rtn\", \"lp\" ]; bits = ( 8, 3 );\n"
    "   granularity = [ \"tensor\", \"channel\", \"group-128\", \"block-4096\" ];\n"
    "   clip = [ \"searched\" ]; z = ( 3, 2.5 ); protection = [ \"both\", \"none\" ];\n"
    "   activations = [ \"token-held\", \"tensor-smooth\" ]; smooth = 1; sequences = 2;\n"
    "   tensors = \"ffn\"; pruned = true; budget = \"20M\"; };\n"
    "audit = { folders = ( { name = \"x\"; path = \"y\"; model = \"t\"; },\n"
    "     { name = \"z\"; path = \"y\"; } ); loss_proxy = false; };\n"
    "probe = { checks = [ \"ablation\", \"random-cores\" ]; perplexity = \"w\"; corpus = \"pc\";\n"
    "   format = \"jsonl\"; field = \"pf\"; sequences = 3; max_length = 100; sparsity = 0.25;\n"
    "   rates = ( 0, 0.5, 1 ); draws = 2; random_cores = 4; layer_step = 1; channels = 16;\n"
    "   bins = 4; halo_sequences = 2; halo_max_length = 50; };\n"
    "export = ( { variant = \"lp@0.25+sequential\"; path = \"e\"; layout = \"padded\"; } );\n"
    "sweep = ( { key = \"classify.core_fraction\"; values = ( 0.005, 0.01 ); },\n"
    "          { key = \"memory\"; values = [ \"1G\" ]; } );\n";

static void check_every_key_of_training(const lode_config_train_t *t) {
    assert_int_equal(t->steps, 9);
    assert_int_equal(t->from, LODE_TRAIN_SCRATCH);
    assert_string_equal(t->corpus, "tc");
    assert_int_equal(t->format, LODE_CORPUS_LINES);
    assert_string_equal(t->field, "tf");
    assert_true(t->length == 64 && t->batch == 24 && t->groups == 2 && t->warmup == 3);
    assert_true(t->learning_rate == 2e-3 && t->final == 0 && t->clip == 0);
    assert_int_equal(t->decay, LODE_DECAY_LINEAR);
    assert_true(t->beta1 == 0.8 && t->beta2 == 0.99 && t->epsilon == 1e-6);
    assert_true(t->weight_decay.matrices == 0.2 && t->weight_decay.embeddings == 0);
    assert_true(t->weight_decay.vectors == 1);
    assert_true(t->init.deviation == 0.1 && !t->init.depth);
    assert_int_equal(t->checkpoint_count, 3);
    assert_true(t->checkpoints[0] == 0 && t->checkpoints[1] == 2 && t->checkpoints[2] == 7);
    assert_int_equal(t->dtype, LODE_TRAIN_F32);
    assert_int_equal(t->save, 5);
    assert_string_equal(t->validation.corpus, "vc");
    assert_int_equal(t->validation.format, LODE_CORPUS_JSONL);
    assert_string_equal(t->validation.field, "vf");
    assert_true(t->validation.sequences == 3 && t->validation.every == 2);
    assert_true(t->tokenizer.vocabulary == 512 && t->tokenizer.sample == 1 << 20);
    assert_true(t->entropy.weight == 0.5);
    assert_int_equal(t->entropy.form, LODE_ENTROPY_SOFTMAX);
    assert_int_equal(t->entropy.schedule, LODE_SCHEDULE_COSINE);
    assert_int_equal(t->entropy.layer_count, 2);
    assert_true(t->entropy.layers[0] == 1 && t->entropy.layers[1] == 0);
}

static void test_every_key(void **state) {
    (void)state;
    lode_config_t *c = parse(full);
    check_every_key_of_training(&c->train);
    assert_int_equal(c->seed, 5000000000);
    assert_int_equal(c->threads, 2);
    assert_int_equal(c->memory, 3 * (INT64_C(1) << 29));
    assert_int_equal(c->micro_batch, 256);
    assert_int_equal(c->replicas, 3);
    assert_string_equal(c->models[1].path, "c\"\\d\x01");
    assert_string_equal(c->calibration.corpus, "tinystories");
    assert_int_equal(c->calibration.format, LODE_CORPUS_JSONL);
    assert_int_equal(c->calibration.select, LODE_SELECT_RANDOM);
    assert_int_equal(c->calibration.packing, LODE_PACKING_PACKED);
    assert_int_equal(c->calibration.padding, LODE_PADDING_EOS);
    assert_int_equal(c->calibration.loss, LODE_LOSS_SUM);
    assert_true(c->classify.halo_fraction == 1.0);
    assert_false(c->classify.redundancy.positive_only);
    assert_true(c->classify.protection.power == 0.5);
    assert_int_equal(c->prune.method_count, LODE_METHOD_COUNT);
    for (int i = 0; i < LODE_METHOD_COUNT; i++)
        assert_int_equal(c->prune.methods[i], i);
    assert_int_equal(c->calibration.second_moment, LODE_SECOND_MOMENT_FLOAT32);
    assert_string_equal(c->calibration.merged, "mm");
    assert_int_equal(c->classify.redundancy.correlation, LODE_CORRELATION_NODELENS);
    assert_int_equal(c->classify.controls.channels, 7);
    assert_true(c->classify.controls.nodelens && c->classify.controls.read_halo);
    assert_int_equal(c->classify.spectra_count, 2);
    assert_int_equal(c->classify.spectra[0], LODE_SPECTRUM_WRITE);
    assert_int_equal(c->prune.compensation[1], LODE_COMPENSATION_SEQUENTIAL);
    assert_true(c->prune.floor == 0);
    assert_int_equal(c->probe.checks[0], LODE_PROBE_ABLATION);
    assert_int_equal(c->probe.rate_count, 3);
    assert_true(c->probe.rates[1] == 0.5);
    assert_int_equal(c->probe.halo_max_length, 50);
    assert_int_equal(c->export_count, 1);
    assert_string_equal(c->exports[0].variant, "lp@0.25+sequential");
    assert_int_equal(c->exports[0].layout, LODE_EXPORT_PADDED);
    assert_int_equal(c->prune.core_count, 5);
    assert_int_equal(c->prune.cores[4], LODE_CORE_NONE);
    assert_true(c->prune.sparsity[1] == 1.0 / 3.0);
    assert_int_equal(c->prune.allocation[1], LODE_ALLOCATION_GLOBAL);
    assert_true(c->prune.ridge == 1e-300);
    assert_int_equal(c->evaluate.perplexity[0].format, LODE_CORPUS_WIKITEXT);
    assert_int_equal(c->evaluate.perplexity[0].protocol, LODE_PROTOCOL_LLAMA_CPP);
    assert_int_equal(c->evaluate.task_count, 1);
    assert_string_equal(c->evaluate.tasks[0].path, "a.jsonl");
    assert_int_equal(c->evaluate.tasks[0].limit, 7);
    assert_int_equal(c->evaluate.tasks[0].shots, 5);
    assert_int_equal(c->evaluate.tasks[0].bos, LODE_BOS_NEVER);
    assert_false(c->evaluate.tasks[0].pruned);
    assert_int_equal(c->sweep_count, 2);
    assert_string_equal(c->sweep[0].values[1], "0.01");
    lode_config_destroy(&c);
}

static void test_every_key_of_quantization(void **state) {
    (void)state;
    static const lode_granularity_t granularity[] = {{LODE_GRANULARITY_TENSOR, 0},
                                                     {LODE_GRANULARITY_CHANNEL, 0},
                                                     {LODE_GRANULARITY_GROUP, 128},
                                                     {LODE_GRANULARITY_BLOCK, 4096}};
    lode_config_t *c = parse(full);
    assert_int_equal(c->superweight.prompt_count, 2);
    assert_string_equal(c->superweight.prompts[1], "b");
    assert_int_equal(c->superweight.rule, LODE_SPIKE_ABSOLUTE);
    assert_int_equal(c->superweight.experiments[0], LODE_EXPERIMENT_SCALE);
    assert_true(c->superweight.scales[1] == 1.5);
    assert_int_equal(c->superweight.others_least, 1);
    assert_string_equal(c->superweight.stopwords, "sw");
    assert_string_equal(c->superweight.known, "k.json");
    assert_int_equal(c->quantize.methods[1], LODE_QUANTIZER_LP);
    assert_int_equal(c->quantize.bits[0], 8);
    assert_int_equal(c->quantize.bits[1], 3);
    assert_int_equal(c->quantize.granularity_count, 4);
    for (int i = 0; i < 4; i++)
        assert_true(lode_granularity_equal(c->quantize.granularity[i], granularity[i]));
    assert_int_equal(c->quantize.clip[0], LODE_CLIP_SEARCHED);
    assert_int_equal(c->quantize.protection[0], LODE_PROTECT_BOTH);
    assert_int_equal(c->quantize.activations[1], LODE_INPUTS_TENSOR_SMOOTH);
    assert_int_equal(c->quantize.tensors, LODE_QUANTIZED_FFN);
    assert_true(c->quantize.pruned);
    assert_int_equal(c->quantize.budget, 20 << 20);
    assert_string_equal(c->audit.folders[0].model, "t");
    assert_string_equal(c->audit.folders[1].model, "");
    assert_false(c->audit.loss_proxy);
    assert_true(lode_config_needs_superweights(c) && lode_config_quantizes_superweights(c));
    lode_config_destroy(&c);
}

/* The experiment of the documentation, with room for its evaluation. */
static const char documented[] =
    "name    = \"stories\";   seed = 42;   results = \"results\";   threads = 1;   memory = "
    "\"8G\"; // x\n"
    "models  = ( { name = \"stories260k\"; path = \"models/stories260k\"; } );\n"
    "calibration = { corpus = \"calibration.txt\"; format = \"lines\"; select = \"first\"; // x | "
    "y\n"
    "                sequences = 64; max_length = 256; packing = \"none\";\n"
    "                loss = \"mean\"; keep_logits = 0; };\n"
    "classify = { core_fraction = 0.01; halo_fraction = 0.10; write_support = 16; // ≥ d\n"
    "             redundancy = { sequences = 8; max_length = 256; top_k = 5; positive_only = true; "
    "};\n"
    "             protection = { floor = 0.2; power = 8.0; }; };\n"
    "prune    = { methods = [ \"scar-lp\", \"scar-prot\", \"scar-conn\", \"lp\", "
    "\"wanda-channel\",\n"
    "             \"magnitude\", \"activation\", \"taylor\", \"entropy\", \"random\" ];\n"
    "             cores = [ \"default\" ];\n"
    "             sparsity = ( 0.25, 0.5 ); allocation = [ \"uniform\" ];\n"
    "             compensation = [ \"none\" ]; ridge = 1e-3; };\n"
    "sweep    = ( { key = \"classify.core_fraction\"; values = ( 0.005, 0.01, 0.02 ); } );\n"
    "evaluate = { perplexity = ( { name = \"tinystories\"; corpus = \"eval.txt\"; format = "
    "\"text\";\n"
    "             protocol = \"gptq\"; length = 256; } );\n";

static void test_documented_sample(void **state) {
    (void)state;
    char text[4096];
    snprintf(text, sizeof text, "%s};", documented);
    lode_config_t *config = parse(text);
    assert_int_equal(config->prune.method_count, 10);
    assert_int_equal(config->sweep[0].value_count, 3);
    lode_config_destroy(&config);
    snprintf(text, sizeof text,
             "%s tasks = ( { name = \"arc_easy\"; path = \"a\"; limit = 0; shots = 0; } ); };",
             documented);
    config = parse(text);
    assert_int_equal(config->evaluate.task_count, 1);
    assert_string_equal(config->evaluate.tasks[0].name, "arc_easy");
    assert_int_equal(config->evaluate.tasks[0].bos, LODE_BOS_AUTO);
    assert_true(config->evaluate.tasks[0].pruned);
    lode_config_destroy(&config);
}

static void test_round_trip(void **state) {
    (void)state;
    const char *const texts[] = {full, BASE, BASE PERPLEXITY,
                                 BASE "prune = { methods = [ ]; };\nseed = 9223372036854775807;"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        lode_config_t *first = parse(texts[i]);
        char *text = text_of(first);
        lode_config_t *second = parse(text);
        char *again = text_of(second);
        assert_string_equal(text, again);
        assert_int_equal(first->seed, second->seed);
        assert_memory_equal(&first->classify, &second->classify,
                            offsetof(lode_config_classify_t, spectra));
        assert_int_equal(first->classify.spectra_count, second->classify.spectra_count);
        assert_memory_equal(first->prune.sparsity, second->prune.sparsity,
                            (size_t)first->prune.sparsity_count * sizeof(double));
        assert_memory_equal(&first->prune.ridge, &second->prune.ridge, sizeof(double));
        assert_string_equal(first->models[first->model_count - 1].path,
                            second->models[second->model_count - 1].path);
        free(text);
        free(again);
        lode_config_destroy(&first);
        lode_config_destroy(&second);
    }
}

/* Every key of the table stands in the text. */
static void test_text_is_explicit(void **state) {
    (void)state;
    lode_config_t *config = parse(full);
    char *text = text_of(config);
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    for (int64_t i = 0; i < count; i++) {
        char line[128];
        const char *dot = strrchr(keys[i].path, '.');
        snprintf(line, sizeof line, "%s = ", dot ? dot + 1 : keys[i].path);
        assert_non_null(strstr(text, line));
    }
    assert_non_null(strstr(text, "seed = 5000000000L;"));
    assert_non_null(strstr(text, "    halo_fraction = 1.0;"));
    assert_non_null(strstr(text, "        floor = 0.0;"));
    free(text);
    lode_config_destroy(&config);
}

static void test_unknown_keys(void **state) {
    (void)state;
    assert_refused(HEAD "calibration = { corpus = \"c\";\n sequnces = 3; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: calibration.sequnces: unknown key; did you mean \"sequences\"?");
    assert_refused(BASE "sede = 1;", LODE_ERR_CONFIG,
                   "exp.cfg:4: sede: unknown key; did you mean \"seed\"?");
    assert_refused(BASE "clasify = { core_fraction = 0.1; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: clasify: unknown key; did you mean \"classify\"?");
    assert_refused(BASE "sequences = 1;", LODE_ERR_CONFIG,
                   "exp.cfg:4: sequences: unknown key; did you mean \"calibration.sequences\"?");
    assert_refused(BASE "classify = { protection = { xylophone = 1; }; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: classify.protection.xylophone: unknown key; the keys here are "
                   "floor, power");
    assert_refused("name = \"e\";\nmodels = ( { name = \"a\"; path = \"m\";\n  pth = \"m\"; } );",
                   LODE_ERR_CONFIG,
                   "exp.cfg:3: models.[0].pth: unknown key; did you mean \"path\"?");
}

static void test_wrong_types(void **state) {
    (void)state;
    assert_refused(BASE "seed = \"7\";", LODE_ERR_CONFIG,
                   "exp.cfg:4: seed: must be an integer, not \"7\"");
    assert_refused(BASE "seed = 1.5;", LODE_ERR_CONFIG,
                   "exp.cfg:4: seed: must be an integer, not 1.5");
    assert_refused(BASE "classify = { core_fraction = true; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: classify.core_fraction: must be a number, not true");
    assert_refused(BASE "classify = {\n redundancy = { positive_only = 1; }; };", LODE_ERR_CONFIG,
                   "exp.cfg:5: classify.redundancy.positive_only: must be true or false, not 1");
    assert_refused(BASE "results = 3;", LODE_ERR_CONFIG,
                   "exp.cfg:4: results: must be a string in double quotes, not 3");
    assert_refused(BASE "results = \"\";", LODE_ERR_CONFIG, "exp.cfg:4: results: is empty");
    assert_refused(BASE "memory = \"8X\";", LODE_ERR_CONFIG,
                   "exp.cfg:4: memory: must be a size like \"8G\" or \"512M\", or an integer of "
                   "bytes, not \"8X\"");
    assert_refused(BASE "memory = 1.5;", LODE_ERR_CONFIG, "exp.cfg:4: memory: must be a size");
    assert_refused(BASE "prune = { methods = \"lp\"; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: prune.methods: must be a list ( ), not \"lp\"");
    assert_refused(BASE "prune = { methods = [ 1, 2 ]; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: prune.methods: must be a string in double quotes, not 1");
    assert_refused(BASE "classify = 3;", LODE_ERR_CONFIG,
                   "exp.cfg:4: classify: must be a group { key = value; }");
    assert_refused("name = \"e\"; models = ( \"a\" );", LODE_ERR_CONFIG,
                   "exp.cfg:1: models.[0]: must be a group { key = value; }");
    assert_refused("name = \"e\"; models = { name = \"a\"; };", LODE_ERR_CONFIG,
                   "exp.cfg:1: models: must be a list ( ), not a group");
}

static void test_ranges(void **state) {
    (void)state;
    assert_refused(BASE "classify = { core_fraction = 1; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: classify.core_fraction: 1 is out of range; it must be above 0 and "
                   "below 1");
    assert_refused(BASE "classify = { halo_fraction = 0.0; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: classify.halo_fraction: 0.0 is out of range; it must be above 0 and "
                   "at most 1");
    assert_refused(BASE "threads = 0;", LODE_ERR_CONFIG,
                   "exp.cfg:4: threads: 0 is out of range; it must be at least 1 and at most 4096");
    assert_refused(BASE "seed = -1;", LODE_ERR_CONFIG,
                   "exp.cfg:4: seed: -1 is out of range; it must be at least 0");
    assert_refused(BASE "memory = 8;", LODE_ERR_CONFIG,
                   "exp.cfg:4: memory: 8 is out of range; it must be at least 1048576");
    assert_refused(BASE "prune = { sparsity = ( 0.5, 1.0 ); };", LODE_ERR_CONFIG,
                   "exp.cfg:4: prune.sparsity: 1.0 is out of range");
    assert_refused(HEAD "calibration = { corpus = \"c\"; sequences = 0; };", LODE_ERR_CONFIG,
                   "exp.cfg:3: calibration.sequences: 0 is out of range; it must be at least 1");
    assert_refused(HEAD "calibration = { corpus = \"c\"; max_length = 1; };", LODE_ERR_CONFIG,
                   "exp.cfg:3: calibration.max_length: 1 is out of range; it must be at least 2");
    assert_refused(BASE "prune = { ridge = 1e999; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: ridge: the number is too large");
    assert_refused(BASE "evaluate = { perplexity = ( { name = \"p\"; corpus = \"t\";\n"
                        "  protocol = \"llama.cpp\"; length = 2; } ); };",
                   LODE_ERR_CONFIG,
                   "exp.cfg:5: evaluate.perplexity.[0].length: 2 leaves protocol llama.cpp no");
}

/* The path of a key, in the first group of its list where it is in one. */
static void first_element(char *path, size_t size, const lode_key_t *key) {
    const char *brackets = strstr(key->path, "[]");
    int head = brackets ? (int)(brackets - key->path) : (int)strlen(key->path);
    snprintf(path, size, "%.*s%s%s", head, key->path, brackets ? "[0]" : "",
             brackets ? brackets + 2 : "");
}

/* Every number of the table is refused just outside its range and accepted at its closed ends. */
static void test_ranges_of_the_table(void **state) {
    (void)state;
    int64_t count, tried = 0;
    const lode_key_t *keys = lode_schema(&count);
    static const char text[] = BASE EVALUATE TRAIN("batch = 1048576;");
    const char *path = write_file("exp.cfg", text, strlen(text));
    for (int64_t i = 0; i < count; i++) {
        const lode_key_t *key = &keys[i];
        bool integer = key->type == LODE_KEY_INTEGER || key->type == LODE_KEY_BYTES;
        if (!integer && key->type != LODE_KEY_REAL)
            continue;
        for (int high = 0; high < 2; high++) {
            double bound = high ? key->high : key->low;
            bool open = high ? key->high_open : key->low_open;
            if (isinf(bound))
                continue;
            double outside =
                integer ? bound + (high ? 1 : -1) : nextafter(bound, high ? INFINITY : -INFINITY);
            char name[64];
            first_element(name, sizeof name, key);
            for (int inside = 0; inside < 2; inside++) {
                char argument[128];
                snprintf(argument, sizeof argument, "%s=%.17g", name, inside ? bound : outside);
                const char *overrides[] = {argument};
                lode_config_t *config = NULL;
                lode_status_t status = lode_config_load(&config, path, overrides, 1);
                lode_status_t wanted = inside && !open ? LODE_OK : LODE_ERR_CONFIG;
                if (status != wanted)
                    fail_msg("%s: status %d", argument, (int)status);
                if (status != LODE_OK)
                    assert_non_null(strstr(lode_error_message(), "out of range; it must be"));
                lode_config_destroy(&config);
                tried++;
            }
        }
    }
    assert_true(tried > 60);
}

static void test_choices(void **state) {
    (void)state;
    assert_refused(BASE "prune = { methods = [ \"scar-pro\" ]; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: prune.methods: \"scar-pro\" is not a choice; did you mean "
                   "\"scar-prot\"?");
    assert_refused(BASE "prune = { methods = [ \"pl\" ]; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: prune.methods: \"pl\" is not a choice; did you mean \"lp\"?");
    assert_refused(BASE "prune = { allocation = [ \"x\" ]; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: prune.allocation: \"x\" is not a choice; choose from uniform, "
                   "global");
    assert_refused(BASE "prune = { compensation = [ \"least-square\" ]; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: prune.compensation: \"least-square\" is not a choice; did you mean "
                   "\"least-squares\"?");
    assert_refused(BASE "evaluate = { perplexity = ( { name = \"p\"; corpus = \"t\";\n"
                        "  protocol = \"ppl\"; } ); };",
                   LODE_ERR_CONFIG,
                   "exp.cfg:5: evaluate.perplexity.[0].protocol: \"ppl\" is not a choice; choose "
                   "from gptq, llama.cpp, lm-eval, nodelens");
    assert_refused(BASE "evaluate = { perplexity = ( { name = \"p\"; corpus = \"t\";\n"
                        "  bos = \"yes\"; } ); };",
                   LODE_ERR_CONFIG,
                   "exp.cfg:5: evaluate.perplexity.[0].bos: \"yes\" is not a choice; choose from "
                   "auto, always, never");
    assert_refused(BASE "evaluate = { tasks = ( { name = \"a\"; path = \"b\";\n"
                        "  limit = -1; } ); };",
                   LODE_ERR_CONFIG, "exp.cfg:5: evaluate.tasks.[0].limit: -1");
    assert_refused(BASE "evaluate = { tasks = ( { name = \"a\"; path = \"b\";\n"
                        "  shots = -1; } ); };",
                   LODE_ERR_CONFIG, "exp.cfg:5: evaluate.tasks.[0].shots: -1");
    assert_refused(BASE "evaluate = { tasks = ( { name = \"a\"; path = \"b\";\n"
                        "  bos = \"yes\"; } ); };",
                   LODE_ERR_CONFIG, "exp.cfg:5: evaluate.tasks.[0].bos: \"yes\" is not a choice");
    assert_refused(BASE "evaluate = { tasks = ( { name = \"a\"; } ); };", LODE_ERR_CONFIG,
                   "exp.cfg:4: evaluate.tasks.[0].path: required key is missing");
    assert_refused(BASE "evaluate = { tasks = ( { name = \"a\"; path = \"b\"; },\n"
                        "  { name = \"a\"; path = \"c\"; } ); };",
                   LODE_ERR_CONFIG,
                   "exp.cfg:5: evaluate.tasks.[1].name: \"a\" is used twice; each needs its own");
    assert_string_equal(lode_bos_name(LODE_BOS_NEVER), "never");
    assert_string_equal(lode_method_name(LODE_METHOD_WANDA_CHANNEL), "wanda-channel");
    assert_string_equal(lode_core_name(LODE_CORE_NONE), "none");
    assert_string_equal(lode_protocol_name(LODE_PROTOCOL_LLAMA_CPP), "llama.cpp");
    assert_string_equal(lode_corpus_format_name(LODE_CORPUS_WIKITEXT), "wikitext");
    assert_string_equal(lode_allocation_name(LODE_ALLOCATION_GLOBAL), "global");
    assert_string_equal(lode_compensation_name(LODE_COMPENSATION_NONE), "none");
    assert_string_equal(lode_select_name(LODE_SELECT_RANDOM), "random");
    assert_string_equal(lode_packing_name(LODE_PACKING_PACKED), "packed");
    assert_string_equal(lode_loss_name(LODE_LOSS_SUM), "sum");
}

static void test_granularities(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "Tensor",
                                      "tensors",
                                      "group",
                                      "group-",
                                      "group-1",
                                      "group-01",
                                      "group- 8",
                                      "group--8",
                                      "group-+8",
                                      "group-8x",
                                      "block-1",
                                      "block-4097",
                                      "block-0",
                                      "channel-8",
                                      "group-1048577",
                                      "block-99999999999999999999"};
    static const char *const good[] = {"tensor",        "channel", "group-2",
                                       "group-1048576", "block-2", "block-4096"};
    lode_granularity_t parsed = {LODE_GRANULARITY_GROUP, 7};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(lode_granularity_parse(&parsed, bad[i]));
        assert_true(parsed.kind == LODE_GRANULARITY_GROUP && parsed.size == 7);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char name[LODE_GRANULARITY_NAME];
        assert_true(lode_granularity_parse(&parsed, good[i]));
        lode_granularity_name(name, parsed);
        assert_string_equal(name, good[i]);
    }
#define GRANULARITY(list) BASE "quantize = {\n granularity = " list "; };\n"
    assert_refused(GRANULARITY("[ \"channel\", \"grup-64\" ]"), LODE_ERR_CONFIG,
                   "exp.cfg:5: quantize.granularity: \"grup-64\" is no granularity; did you mean "
                   "\"group-64\"?");
    assert_refused(GRANULARITY("[ \"group128\" ]"), LODE_ERR_CONFIG,
                   "exp.cfg:5: quantize.granularity: \"group128\" is no granularity; did you mean "
                   "\"group-128\"?");
    assert_refused(
        GRANULARITY("[ \"chanel\" ]"), LODE_ERR_CONFIG,
        "exp.cfg:5: quantize.granularity: \"chanel\" is no granularity; did you mean \"channel\"?");
    assert_refused(GRANULARITY("[ \"row-wise\" ]"), LODE_ERR_CONFIG,
                   "exp.cfg:5: quantize.granularity: \"row-wise\" is no granularity; write tensor, "
                   "channel, group-N with N from 2 to "
                   "1048576, or block-N with N from 2 to 4096");
    assert_refused(
        GRANULARITY("[ \"block-8000\" ]"), LODE_ERR_CONFIG,
        "exp.cfg:5: quantize.granularity: \"block-8000\" is no granularity; write tensor");
    assert_refused(GRANULARITY("( 128 )"), LODE_ERR_CONFIG,
                   "exp.cfg:5: quantize.granularity: must be a string in double quotes, not 128");
    assert_refused(GRANULARITY("[ \"group-8\", \"group-8\" ]"), LODE_ERR_CONFIG,
                   "exp.cfg:5: quantize.granularity: \"group-8\" is listed twice");
    assert_refused(GRANULARITY("[ ]"), LODE_ERR_CONFIG,
                   "exp.cfg:5: quantize.granularity: is empty");
    assert_refused(
        BASE "quantize = { bits = ( 4, 9 ); };", LODE_ERR_CONFIG,
        "exp.cfg:4: quantize.bits: 9 is out of range; it must be at least 2 and at most 8");
    assert_refused(BASE "quantize = { bits = ( 4, 4 ); };", LODE_ERR_CONFIG,
                   "exp.cfg:4: quantize.bits: 4 is listed twice");
    assert_refused(BASE "quantize = { bits = ( 2.5 ); };", LODE_ERR_CONFIG,
                   "exp.cfg:4: quantize.bits: must be an integer, not 2.5");
    assert_refused(BASE "superweight = { prompts = [ \"\" ]; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: superweight.prompts: is empty");
}

/* What needs super weights needs prompts; stopwords need texts; audits need models. */
static void test_keys_together(void **state) {
    (void)state;
#define QUANTIZE(keys) BASE "quantize = { methods = [ \"rtn\" ];\n " keys "; };\n"
    assert_refused(QUANTIZE("protection = [ \"none\", \"super-weight\" ]"), LODE_ERR_CONFIG,
                   "exp.cfg:5: quantize.protection: \"super-weight\" needs super weights, and "
                   "superweight.prompts is empty, so none are looked for; give it a text");
    assert_refused(QUANTIZE("protection = [ \"both\" ]"), LODE_ERR_CONFIG,
                   "exp.cfg:5: quantize.protection: \"both\" needs super weights");
    assert_refused(QUANTIZE("activations = [ \"tensor-held\" ]"), LODE_ERR_CONFIG,
                   "exp.cfg:5: quantize.activations: \"tensor-held\" needs super weights");
    assert_refused(BASE "superweight = {\n experiments = [ \"prune\" ]; };", LODE_ERR_CONFIG,
                   "exp.cfg:5: superweight.experiments: \"prune\" needs super weights");
    assert_refused(BASE "superweight = {\n known = \"k\"; };", LODE_ERR_CONFIG,
                   "exp.cfg:5: superweight.known: \"k\" needs super weights");
    assert_refused(BASE "superweight = {\n stopwords = \"k\"; };", LODE_ERR_CONFIG,
                   "exp.cfg:5: superweight.stopwords: \"k\" needs super weights");
    assert_refused(BASE "superweight = { prompts = [ \"p\" ];\n stopwords = \"k\"; };",
                   LODE_ERR_CONFIG,
                   "exp.cfg:5: superweight.stopwords: their probabilities need texts; set "
                   "superweight.corpus");
    assert_refused(BASE "superweight = { prompts = [ \"p\" ];\n corpus = \"k\"; };",
                   LODE_ERR_CONFIG, "exp.cfg:5: superweight.corpus: is for the probabilities of");
    assert_refused(
        BASE "audit = { folders = ( { name = \"f\"; path = \"y\";\n model = \"b\"; } ); };",
        LODE_ERR_CONFIG,
        "exp.cfg:5: audit.folders.[0].model: there is no model \"b\"; did you mean \"a\"?");
    assert_refused(BASE
                   "audit = { folders = ( { name = \"f\"; path = \"y\";\n model = \"other\"; } "
                   "); };",
                   LODE_ERR_CONFIG,
                   "exp.cfg:5: audit.folders.[0].model: there is no model \"other\"; the first of "
                   "models is \"a\"");
    assert_refused(BASE "audit = { folders = ( { name = \"f\"; path = \"y\"; },\n { name = \"f\"; "
                        "path = \"z\"; } ); };",
                   LODE_ERR_CONFIG, "exp.cfg:5: audit.folders.[1].name: \"f\" is used twice");
    static const char *const sound[] = {
        QUANTIZE("protection = [ \"supernode\" ]; activations = [ \"token\", \"token-smooth\" ]"),
        BASE "quantize = { protection = [ \"both\" ]; };", /* nothing is quantized */
        QUANTIZE("protection = [ \"both\" ]") "superweight = { prompts = [ \"p\" ]; };"};
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++) {
        lode_config_t *config = parse(sound[i]);
        assert_int_equal(lode_config_needs_superweights(config), i == 2);
        lode_config_destroy(&config);
    }
}

#define TRAINED(keys) BASE "train = { steps = 10; corpus = \"b\";\n " keys "};\n"

/* What training refuses that no key alone is wrong about. */
static void test_wrong_training(void **state) {
    (void)state;
    assert_refused(BASE "train = {\n steps = 10; };", LODE_ERR_CONFIG,
                   "exp.cfg:5: train.corpus: required key is missing; text to train on, as "
                   "train.steps is above 0");
    assert_refused(
        TRAINED("batch = 24; groups = 2;"), LODE_ERR_CONFIG,
        "exp.cfg:5: train.groups: 2 is no power of two that divides the 3 micro-batches "
        "of a step (24 sequences, 8 in a micro-batch); set it to 1 or to a smaller power "
        "of two, or change train.batch or micro_batch");
    assert_refused(TRAINED("batch = 48; groups = 3;"), LODE_ERR_CONFIG,
                   "exp.cfg:5: train.groups: 3 is no power of two that divides the 6 micro-batches "
                   "of a step (48 sequences, 8 in a micro-batch); set it to 2 or");
    assert_refused(TRAINED("length = 4096; batch = 2; groups = 4;"), LODE_ERR_CONFIG,
                   "exp.cfg:5: train.groups: 4 is no power of two that divides the 2 micro-batches "
                   "of a step (2 sequences, 1 in a micro-batch); set it to 2");
    assert_refused(TRAINED("checkpoints = [ 11 ];"), LODE_ERR_CONFIG,
                   "exp.cfg:5: train.checkpoints: 11 is beyond the last step, train.steps = 10");
    assert_refused(TRAINED("checkpoints = [ 0, 3 ];"), LODE_ERR_CONFIG,
                   "exp.cfg:5: train.checkpoints: 0 is the model that training starts from");
    assert_refused(TRAINED("checkpoints = [ 3, 3 ];"), LODE_ERR_CONFIG,
                   "exp.cfg:5: train.checkpoints: 3 is listed twice");
    assert_refused(TRAINED("warmup = 11;"), LODE_ERR_CONFIG,
                   "exp.cfg:5: train.warmup: 11 is beyond the last step, train.steps = 10; set it "
                   "to 10 or less");
    assert_refused(TRAINED("validation = { every = 2; };"), LODE_ERR_CONFIG,
                   "exp.cfg:5: train.validation.every: there is no text to measure on; set "
                   "train.validation.corpus");
    assert_refused(TRAINED("tokenizer = { vocabulary = 300; };"), LODE_ERR_CONFIG,
                   "exp.cfg:5: train.tokenizer.vocabulary: a model that is trained on from its "
                   "checkpoint keeps its tokenizer");
    assert_refused(TRAINED("from = \"scratch\"; tokenizer = { vocabulary = 259; };"),
                   LODE_ERR_CONFIG,
                   "exp.cfg:5: train.tokenizer.vocabulary: 259 has no room for the 256 bytes");
    assert_refused(BASE "train = {\n tokenizer = { vocabulary = 300; }; };", LODE_ERR_CONFIG,
                   "exp.cfg:5: train.tokenizer.vocabulary: a tokenizer is made for models that are "
                   "trained, and train.steps is 0");
    assert_refused(TRAINED("entropy = { layers = ( 1, 1 ); };"), LODE_ERR_CONFIG,
                   "exp.cfg:5: train.entropy.layers: 1 is listed twice");
    static const char *const sound[] = {
        TRAINED("batch = 32; groups = 4; warmup = 10; checkpoints = [ 10 ];"),
        TRAINED("from = \"scratch\"; checkpoints = [ 0 ]; tokenizer = { vocabulary = 260; };"),
        BASE "train = { checkpoints = [ 7 ]; warmup = 9; groups = 3; };"}; /* nothing is trained */
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++) {
        lode_config_t *config = parse(sound[i]);
        lode_config_destroy(&config);
    }
}

#define SWEEP(key, values) BASE "sweep = (\n{ key = \"" key "\";\n values = " values "; } );"
#define SERIES(elements) "name = \"e\";\nmodels = (\n" elements " );\n"

static void test_wrong_series(void **state) {
    (void)state;
    const char text[] = "calibration = { corpus = \"c\"; };\n";
    assert_refused(SERIES("{ name = \"a\"; path = \"m\";\n steps = \"s\"; }"), LODE_ERR_CONFIG,
                   "exp.cfg:4: models.[0].steps: stands for a series of models, so it goes with "
                   "name alone; leave out path, series and step, or give path instead");
    assert_refused(SERIES("{ name = \"a\";\n steps = \"s\"; step = 3; }"), LODE_ERR_CONFIG,
                   "exp.cfg:4: models.[0].steps: stands for a series of models");
    assert_refused(
        SERIES("{ name = \"a\"; path = \"m\";\n step = 3; }"), LODE_ERR_CONFIG,
        "exp.cfg:4: models.[0].step: is a step of a series; name it with the key series");
    assert_refused(SERIES("{ name = \"a\"; path = \"m\";\n series = \"s\"; }"), LODE_ERR_CONFIG,
                   "exp.cfg:4: models.[0].series: \"s\" needs the step that the model is of");
    assert_refused(SERIES("{ name = \"a\"; path = \"m\"; series = \"s\"; step = 3; },\n"
                          "{ name = \"b\"; path = \"m\"; series = \"s\"; step = 3; }"),
                   LODE_ERR_CONFIG, "exp.cfg:4: models.[1].step: 3 of series \"s\" is used twice");
    assert_refused(SERIES("{ name = \"a\"; path = \"m\";\n series = \"s/t\"; step = 3; }"),
                   LODE_ERR_CONFIG, "exp.cfg:4: models.[0].series: must be a name of letters");
    assert_refused(SERIES("{ name = \"a\"; path = \"m\"; step = -2; }"), LODE_ERR_CONFIG,
                   "exp.cfg:3: models.[0].step: -2 is out of range; it must be at least -1");
    assert_refused(SERIES("{ name = \"a\";\n steps = \"/no/such\"; }"), LODE_ERR_CONFIG,
                   "exp.cfg:4: models.[0].steps: /no/such: cannot be listed: No such file or");
    assert_refused(
        SERIES(
            "{ name = \"a\"; path = \"m\";\n series = \"s\"; step = 3; }") "calibration = { corpus "
                                                                           "= \"c\"; }; train = { "
                                                                           "steps = 2; corpus = "
                                                                           "\"b\"; };",
        LODE_ERR_CONFIG,
        "exp.cfg:4: models.[0].series: \"a\" would be trained, and then is step 0 of a "
        "series of its own; leave series and step out, or set train.steps = 0");
    assert_refused(
        SERIES("{ name = \"a\"; path = \"m\"; },\n"
               "{ name = \"a-step-000002\"; path = \"m\"; }") "calibration = { corpus = \"c\"; }; "
                                                              "train = { steps = 2; corpus = "
                                                              "\"b\"; };",
        LODE_ERR_CONFIG,
        "exp.cfg:4: models.[1].name: \"a-step-000002\" is the name of a checkpoint of "
        "another model; rename it");
    lode_buffer_t own = {0};
    LODE_ASSERT_OK(lode_buffer_printf(&own, "%s%s train = { steps = 2; corpus = \"b\"; };",
                                      SERIES("{ name = \"a\"; path = \"m\"; series = \"a\"; "
                                             "step = 0; }"),
                                      text));
    lode_config_t *config = parse(own.data); /* as provenance has it */
    lode_config_destroy(&config);
    lode_buffer_free(&own);
}

static void test_step_names(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t step; /* −1 none */
    } cases[] = {{"step-000043", 43},
                 {"stage1-step150-tokens1B", 150},
                 {"step=7", 7},
                 {"Step_12", 12},
                 {"revision5", 5},
                 {"10b-300", 300},
                 {"1", 1},
                 {"steps-2-of-9", 9},
                 {"steps3step4", 4},
                 {"step", -1},
                 {"main", -1},
                 {"step-1234567890123456789", -1},
                 {"step--3", 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t step = -1;
        assert_int_equal(lode_series_step(&step, cases[i].name), cases[i].step >= 0);
        if (step != cases[i].step)
            fail_msg("%s: %lld", cases[i].name, (long long)step);
    }
}

static void make_step(const char *name) {
    char path[160];
    snprintf(path, sizeof path, "%s/series/%s", folder, name);
    LODE_ASSERT_OK(lode_directory_create(path));
}

/* A folder of steps becomes models, ascending, and what was written is what is read again. */
static void test_series(void **state) {
    (void)state;
    static const char *const names[] = {"stage1-step150-x", "step-20", "main",
                                        "step-3.partial",   ".step-4", "step-1000"};
    char steps[160], first[200];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        make_step(names[i]);
    snprintf(steps, sizeof steps, "models.[1]={ name = \"run\"; steps = \"%s/series\"; }", folder);
    const char *overrides[] = {steps};
    const char text[] =
        SERIES("{ name = \"a\"; path = \"m\"; }, { name = \"x\"; }, { name = \"b\"; path = "
               "\"n\"; series = \"run\"; step = 0; }") "calibration = { corpus = \"c\"; };\n";
    write_file("series/step-77", "a file", 6);
    lode_config_t *c = load(text, overrides, 1);
    static const int64_t order[] = {-1, 20, 150, 1000, 0};
    static const char *const called[] = {"a", "run-step-20", "run-stage1-step150-x",
                                         "run-step-1000", "b"};
    assert_int_equal(c->model_count, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(c->models[i].name, called[i]);
        assert_int_equal(c->models[i].step, order[i]);
        assert_string_equal(c->models[i].series, i == 0 ? "" : "run");
        assert_string_equal(c->models[i].steps, "");
    }
    snprintf(first, sizeof first, "%s/series/step-20", folder);
    assert_string_equal(c->models[1].path, first);
    assert_string_equal(lode_config_where(c, "models.[1].path"),
                        lode_config_where(c, "models.[3].name"));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(lode_config_selects(c, "run", &c->models[i]), i > 0);
        assert_int_equal(lode_config_selects(c, "run-step-20", &c->models[i]), i == 1);
        assert_int_equal(lode_config_selects(c, "", &c->models[i]), false);
    }
    char *once = text_of(c);
    lode_config_t *again = parse(once);
    char *twice = text_of(again);
    assert_string_equal(once, twice);
    free(once);
    free(twice);
    lode_config_destroy(&again);
    lode_config_destroy(&c);
    make_step("step_20");
    const char *path = write_file("exp.cfg", text, strlen(text));
    LODE_ASSERT_FAILS(lode_config_load(&c, path, overrides, 1), LODE_ERR_CONFIG,
                      "step-20 and step_20 are both of step 20; list the folders as models");
    make_step("../empty/main");
    snprintf(steps, sizeof steps, "models.[1]={ name = \"run\"; steps = \"%s/empty\"; }", folder);
    LODE_ASSERT_FAILS(lode_config_load(&c, path, overrides, 1), LODE_ERR_CONFIG,
                      "/empty: has no folder with a step in its name");
    assert_non_null(strstr(lode_error_message(), "models.[1].steps: "));
}

/* A swept key may not name a model by a number that a series shifts. */
static void test_swept_series(void **state) {
    (void)state;
    lode_config_t *c = NULL;
    char steps[160];
    make_step("../other/step-1");
    snprintf(steps, sizeof steps, "models.[0]={ name = \"run\"; steps = \"%s/other\"; }", folder);
    const char *overrides[] = {steps};
    const char *path = write_file("exp.cfg", SWEEP("models.[0].name", "( \"x\" )"),
                                  strlen(SWEEP("models.[0].name", "( \"x\" )")));
    LODE_ASSERT_FAILS(lode_config_load(&c, path, overrides, 1), LODE_ERR_CONFIG,
                      "sweep: models.[0].name: cannot be swept beside a folder of steps");
    assert_refused(SWEEP("models.[0].steps", "( \"x\" )"), LODE_ERR_CONFIG,
                   "exp.cfg:5: sweep: models.[0].steps: cannot be swept beside a folder of steps");
    path = write_file("exp.cfg", SWEEP("seed", "( 1, 2 )"), strlen(SWEEP("seed", "( 1, 2 )")));
    LODE_ASSERT_OK(lode_config_load(&c, path, overrides, 1));
    lode_config_destroy(&c);
}

/* What comes of training, at every point of a sweep. */
static void test_trained(void **state) {
    (void)state;
    lode_config_t *c = parse("name = \"e\"; results = \"r\";\n"
                             "models = ( { name = \"a\"; path = \"m\"; }, { name = \"b\"; path = "
                             "\"n\"; } );\n"
                             "calibration = { corpus = \"c\"; };\n"
                             "train = { steps = 10; corpus = \"b\"; checkpoints = [ 7, 2 ]; };\n"
                             "audit = { folders = ( { name = \"f\"; path = \"y\"; model = "
                             "\"b-step-000002\"; } ); };\n"
                             "sweep = ( { key = \"train.steps\"; values = ( 7, 1234567 ); } );");
    lode_config_point_t *points;
    int64_t count;
    assert_int_equal(lode_config_model_total(c), 2);
    LODE_ASSERT_OK(lode_config_expand(c, &points, &count));
    assert_int_equal(count, 2);
    const lode_config_t *p = points[0].config;
    assert_int_equal(lode_config_checkpoint_total(p), 2);
    assert_int_equal(lode_config_model_total(p), 6);
    assert_ptr_equal(lode_config_model_at(p, 1), &p->models[1]);
    const lode_config_model_t *last = lode_config_model_at(p, 5);
    assert_string_equal(last->name, "b-step-000007");
    assert_string_equal(last->path, "r/e/train.steps=7/b/step-000007");
    assert_string_equal(last->series, "b");
    assert_int_equal(last->step, 7);
    assert_ptr_equal(lode_config_trained_from(p, last), &p->models[1]);
    assert_null(lode_config_trained_from(p, &p->models[1]));
    assert_string_equal(p->models[0].series, "a");
    assert_int_equal(p->models[0].step, 0);
    assert_true(lode_config_is_trained(p, &p->models[0]));
    assert_false(lode_config_is_trained(p, last));
    assert_false(lode_config_is_scratch(p, &p->models[0]));
    assert_true(lode_config_selects(p, NULL, last) && lode_config_selects(p, "b", last));
    assert_true(lode_config_selects(p, "b-step-000007", last));
    assert_false(lode_config_selects(p, "a", last));
    assert_false(lode_config_selects(p, "b-step-000007", &p->models[1]));
    p = points[1].config;
    assert_int_equal(lode_config_checkpoint_total(p), 3);
    assert_int_equal(lode_config_checkpoint_at(p, 1), 7);
    assert_string_equal(lode_config_model_at(p, 4)->name, "a-step-1234567");
    lode_config_points_destroy(&points, count);
    lode_config_destroy(&c);
    c = parse(TRAINED("from = \"scratch\";"));
    LODE_ASSERT_OK(lode_config_expand(c, &points, &count));
    assert_true(lode_config_is_scratch(points[0].config, &points[0].config->models[0]));
    assert_false(lode_config_is_scratch(points[0].config, &points[0].config->trained[0]));
    assert_string_equal(points[0].config->models[0].series, "");
    assert_string_equal(points[0].config->trained[0].path, "results/e/a/step-000010");
    lode_config_points_destroy(&points, count);
    lode_config_destroy(&c);
}

static void test_micro_batches(void **state) {
    (void)state;
    static const struct {
        const char *keys;
        int64_t rows, batches;
    } cases[] = {{"batch = 16; length = 256;", 8, 2},
                 {"batch = 17; length = 256;", 8, 3},
                 {"batch = 3; length = 256;", 3, 1},
                 {"batch = 3; length = 4096;", 1, 3},
                 {"batch = 16; length = 1500;", 1, 16}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s train = { steps = 10; corpus = \"b\"; %s };", BASE,
                 cases[i].keys);
        lode_config_t *c = parse(text);
        assert_int_equal(lode_config_train_rows(c), cases[i].rows);
        assert_int_equal(lode_config_train_batches(c), cases[i].batches);
        lode_config_destroy(&c);
    }
}

/* A training from scratch needs no other text, unless something else is asked for. */
static void test_training_alone(void **state) {
#define ALONE(from) HEAD "train = { steps = 4; corpus = \"b\"; from = \"" from "\"; };\n"
    static const char *const more[] = {
        "evaluate = { perplexity = ( { name = \"p\"; corpus = \"t\"; } ); };",
        "evaluate = { tasks = ( { name = \"p\"; path = \"t\"; } ); };",
        "superweight = { prompts = [ \"a\" ]; };",
        "export = ( { variant = \"dense\"; path = \"x\"; } );",
        "classify = { spectra = [ \"q\" ]; };",
        "quantize = { methods = [ \"rtn\" ]; };",
        "audit = { folders = ( { name = \"f\"; path = \"y\"; } ); };"};
    lode_config_point_t *points;
    int64_t count;
    (void)state;
    lode_config_t *c = parse(ALONE("scratch"));
    LODE_ASSERT_OK(lode_config_check_model(c, 8, 4, "a"));
    LODE_ASSERT_OK(lode_config_expand(c, &points, &count));
    assert_int_equal(count, 1);
    assert_false(lode_config_measures(points[0].config));
    assert_int_equal(lode_config_checkpoint_total(points[0].config), 1);
    assert_int_equal(lode_config_model_total(points[0].config), 1); /* none to be measured */
    lode_config_points_destroy(&points, count);
    lode_config_destroy(&c);
    assert_refused(ALONE("checkpoint"), LODE_ERR_CONFIG,
                   "exp.cfg: calibration.corpus: required key is missing");
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s%s\n", ALONE("scratch"), more[i]);
        assert_refused(text, LODE_ERR_CONFIG,
                       "exp.cfg: calibration.corpus: required key is missing");
    }
#undef ALONE
}

static void test_missing_and_names(void **state) {
    (void)state;
    assert_refused("", LODE_ERR_CONFIG, "exp.cfg: name: required key is missing");
    assert_refused("name = \"e\";", LODE_ERR_CONFIG, "exp.cfg: models: required key is missing");
    assert_refused(HEAD, LODE_ERR_CONFIG, "exp.cfg: calibration.corpus: required key is missing");
    assert_refused("name = \"e\";\nmodels = (\n { name = \"a\"; } );", LODE_ERR_CONFIG,
                   "exp.cfg:3: models.[0].path: required key is missing; Hugging Face folder");
    assert_refused("name = \"e\"; models = ( );", LODE_ERR_CONFIG,
                   "exp.cfg:1: models: is empty; it must hold at least one value");
    assert_refused(BASE "prune = { sparsity = [ ]; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: prune.sparsity: is empty");
    const char *const bad[] = {"", ".", "..", "a/b", "a b", "\xC3\xA9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256];
        snprintf(text, sizeof text, "name = \"%s\";", bad[i]);
        assert_refused(text, LODE_ERR_CONFIG, "exp.cfg:1: name: must be a name of letters");
    }
    assert_refused("name = \"e\";\nmodels = ( { name = \"a\"; path = \"m\"; },\n"
                   "  { path = \"n\";\n    name = \"a\"; } );",
                   LODE_ERR_CONFIG,
                   "exp.cfg:4: models.[1].name: \"a\" is used twice; each needs its own");
    assert_refused(BASE "evaluate = { perplexity = ( { name = \"p\"; corpus = \"t\"; },\n"
                        " { name = \"p\"; corpus = \"u\"; } ); };",
                   LODE_ERR_CONFIG, "exp.cfg:5: evaluate.perplexity.[1].name: \"p\" is used twice");
    assert_refused(BASE "prune = { methods = [ \"lp\", \"random\", \"lp\" ]; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: prune.methods: \"lp\" is listed twice");
    assert_refused(BASE "prune = { sparsity = [ 0.5, 0.50000001 ]; };", LODE_ERR_CONFIG,
                   "exp.cfg:4: prune.sparsity: 0.50000001 is listed twice");
}

static void test_syntax(void **state) {
    (void)state;
    assert_refused("name = \"e\";\nseed = ;\n", LODE_ERR_CONFIG, "exp.cfg:2: syntax error; every");
    assert_refused("seed = 1;\nname = \"e\";\nseed = 2;", LODE_ERR_CONFIG,
                   "exp.cfg:3: a key of this group is set twice");
    assert_refused("prune = {\n sparsity = [ 0.5, 1 ]; };", LODE_ERR_CONFIG,
                   "exp.cfg:2: an array [ ] holds values of one type");
    assert_refused("name = \"e\nf\n", LODE_ERR_CONFIG,
                   "exp.cfg:1: the string that starts here is never closed");
    assert_refused("name = \"e\";\n/* x\n\n", LODE_ERR_CONFIG,
                   "exp.cfg:2: the comment that starts here is never closed");
    assert_refused("\nseed = 1 \"e\"", LODE_ERR_CONFIG, "exp.cfg:2: a string cannot stand here");
    assert_refused("\"e\"", LODE_ERR_CONFIG, "exp.cfg:1: a string cannot stand here");
    assert_refused("seed = 1, \"e\"", LODE_ERR_CONFIG, "exp.cfg:1: a string cannot stand here");
    assert_refused("seed = 9223372036854775808;", LODE_ERR_CONFIG,
                   "exp.cfg:1: the integer does not fit 64 bits");
    assert_refused("seed = 0x8000000000000000;", LODE_ERR_CONFIG,
                   "exp.cfg:1: the integer does not fit 64 bits");
    assert_refused("name = \"e\";\n@include \"x\"\n", LODE_ERR_CONFIG,
                   "exp.cfg:2: @include works in files only");
    assert_refused("name = {", LODE_ERR_CONFIG, "exp.cfg:1: syntax error");
    assert_refused("name = \x01", LODE_ERR_CONFIG, "exp.cfg:1: control byte");
    lode_config_t *config;
    LODE_ASSERT_FAILS(lode_config_parse(&config, "a\0b", 3, "exp.cfg"), LODE_ERR_CONFIG,
                      "exp.cfg:1: NUL byte");
    LODE_ASSERT_FAILS(lode_config_parse(&config, "a=\"\0\"", 5, "exp.cfg"), LODE_ERR_CONFIG,
                      "exp.cfg:1: the string holds a NUL byte");
}

/* libconfig alone keeps only 32 bits of an integer without its suffix. */
static void test_wide_integers(void **state) {
    (void)state;
    const struct {
        const char *text;
        int64_t value;
    } cases[] = {{"2147483647", 2147483647},
                 {"2147483648", 2147483648},
                 {"5000000000L", 5000000000},
                 {"0x7fffffff", 2147483647},
                 {"0xFFFFFFFF", 4294967295},
                 {"0x1FFFFFFFFFLL", 137438953471},
                 {"+010", 10},
                 {"9223372036854775807", INT64_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s seed = %s;", BASE, cases[i].text);
        lode_config_t *config = parse(text);
        assert_int_equal(config->seed, cases[i].value);
        lode_config_destroy(&config);
    }
    lode_config_t *config = parse(BASE "prune = { ridge = .99999999999; sparsity = ( .3, 3e-1"
                                       "2 ); };");
    assert_true(config->prune.ridge == .99999999999);
    assert_true(config->prune.sparsity[1] == 3e-12);
    lode_config_destroy(&config);
}

static void test_memory(void **state) {
    (void)state;
    const struct {
        const char *text;
        int64_t bytes;
    } cases[] = {{"\"8G\"", INT64_C(8) << 30},     {"\"512M\"", INT64_C(512) << 20},
                 {"\"1.5GiB\"", INT64_C(3) << 29}, {"\"2 TB\"", INT64_C(2) << 40},
                 {"\"4096K\"", INT64_C(4) << 20},  {"\"8589934592\"", INT64_C(8) << 30},
                 {"8589934592", INT64_C(8) << 30}, {"3000000000B", 0}};
    for (size_t i = 0; cases[i].bytes; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s memory = %s;", BASE, cases[i].text);
        lode_config_t *config = parse(text);
        assert_int_equal(config->memory, cases[i].bytes);
        lode_config_destroy(&config);
    }
    const char *const bad[] = {"G",     "8GG", "-8G",   "8 G x", "1.2.3G",
                               "0x10G", "inf", "1e99G", "",      "0G"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s memory = \"%s\";", BASE, bad[i]);
        assert_refused(text, LODE_ERR_CONFIG, "exp.cfg:4: memory: must be a size like");
    }
}

static void test_overrides(void **state) {
    (void)state;
    const char *const overrides[] = {"models.[0].path=/data/m 1",
                                     "evaluate.perplexity.[0].length=128",
                                     "classify.redundancy.top_k=2",
                                     "name=2024",
                                     "memory=4G",
                                     "prune.methods=lp",
                                     "prune.sparsity=(0.25, 0.75)",
                                     "prune.sparsity.[1]=0.7",
                                     "classify.core_fraction = 0.02",
                                     "calibration.select=\"random\"",
                                     "classify.redundancy.positive_only=false",
                                     "calibration.corpus=http://x#y",
                                     "calibration.corpus=last"};
    const char text[] = BASE PERPLEXITY;
    lode_config_t *config = load(text, overrides, 8);
    assert_string_equal(config->models[0].path, "/data/m 1");
    assert_int_equal(config->evaluate.perplexity[0].length, 128);
    assert_int_equal(config->classify.redundancy.top_k, 2);
    assert_string_equal(config->name, "2024");
    assert_int_equal(config->memory, INT64_C(4) << 30);
    assert_int_equal(config->prune.method_count, 1);
    assert_int_equal(config->prune.methods[0], LODE_METHOD_LP);
    assert_int_equal(config->prune.sparsity_count, 2);
    assert_true(config->prune.sparsity[1] == 0.7);
    assert_string_equal(lode_config_where(config, "name"), "--set name=2024");
    lode_config_destroy(&config);
    config = load(text, &overrides[9], 3);
    assert_int_equal(config->calibration.select, LODE_SELECT_RANDOM);
    assert_false(config->classify.redundancy.positive_only);
    assert_string_equal(config->calibration.corpus, "http://x#y");
    lode_config_destroy(&config);
    config = load(text, &overrides[11], 2);
    assert_string_equal(config->calibration.corpus, "last");
    lode_config_destroy(&config);
}

static void test_wrong_overrides(void **state) {
    (void)state;
    const struct {
        const char *argument;
        lode_status_t status;
        const char *message;
    } cases[] = {
        {"calibration.sequnces=3", LODE_ERR_CONFIG,
         "--set calibration.sequnces=3: calibration.sequnces: unknown key; did you mean "
         "\"sequences\"?"},
        {"classify.core_fraction=2", LODE_ERR_CONFIG,
         "--set classify.core_fraction=2: classify.core_fraction: 2 is out of range"},
        {"classify.core_fraction=0.1; seed = 3", LODE_ERR_CONFIG,
         "--set classify.core_fraction=0.1; seed = 3: classify.core_fraction: must be a number, "
         "not \"0.1; seed = 3\""},
        {"seed=x", LODE_ERR_CONFIG, "--set seed=x: seed: must be an integer, not \"x\""},
        {"seed=", LODE_ERR_CONFIG, "--set seed=: seed: must be an integer, not \"\""},
        {"models.[1].path=x", LODE_ERR_CONFIG,
         "--set models.[1].path=x: models.[1]: there is no such element; the list has 1"},
        {"models.[99999999999999999999].path=x", LODE_ERR_CONFIG,
         "--set models.[99999999999999999999].path=x: models.[99999999999999999999]: there is no "
         "such element"},
        {"name.x=3", LODE_ERR_CONFIG,
         "--set name.x=3: name.x: what it would be set in is not a group"},
        {"classify..x=3", LODE_ERR_CONFIG, "--set classify..x=3: classify.: the path has an empty"},
        {"seed", LODE_ERR_USAGE, "--set seed: must read key.path=value"},
        {"=3", LODE_ERR_USAGE, "--set =3: must read key.path=value"},
        {"seed=\n@include \"x\"", LODE_ERR_CONFIG, "--set seed=\n@include"},
    };
    const char *path = write_file("exp.cfg", BASE, strlen(BASE));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lode_config_t *config = NULL;
        const char *overrides[] = {cases[i].argument};
        LODE_ASSERT_FAILS(lode_config_load(&config, path, overrides, 1), cases[i].status,
                          cases[i].message);
        assert_ptr_equal(strstr(lode_error_message(), cases[i].message), lode_error_message());
        assert_null(config);
    }
}

static void test_includes(void **state) {
    (void)state;
    char path[128], outer[512];
    snprintf(path, sizeof path, "%s/sub/deep", folder);
    LODE_ASSERT_OK(lode_directory_create(path));
    /* every include is relative to the file it stands in */
    write_file("sub/deep/c.cfg", "corpus = \"c\";", 13);
    write_file("sub/b.cfg", "calibration = {\n  @include \"deep/c.cfg\" sequences = 7;\n};", 57);
    const char text[] = "@include \"sub/b.cfg\"\n" HEAD "seed = 3;\n";
    lode_config_t *config = load(text, NULL, 0);
    assert_string_equal(config->calibration.corpus, "c");
    assert_int_equal(config->calibration.sequences, 7);
    snprintf(path, sizeof path, "%s/sub/deep/c.cfg:1", folder);
    assert_string_equal(lode_config_where(config, "calibration.corpus"), path);
    snprintf(path, sizeof path, "%s/sub/b.cfg:2", folder);
    assert_string_equal(lode_config_where(config, "calibration.sequences"), path);
    snprintf(path, sizeof path, "%s/exp.cfg:4", folder);
    assert_string_equal(lode_config_where(config, "seed"), path);
    snprintf(path, sizeof path, "%s/exp.cfg", folder);
    assert_string_equal(lode_config_where(config, "threads"), path);
    lode_config_destroy(&config);

    /* an error names the included file */
    write_file("sub/b.cfg", "calibration = { corpus = \"c\";\n  sequences = 0; };", 49);
    const char *file = write_file("exp.cfg", text, strlen(text));
    snprintf(outer, sizeof outer, "%s/sub/b.cfg:2: calibration.sequences: 0 is out of", folder);
    LODE_ASSERT_FAILS(lode_config_load(&config, file, NULL, 0), LODE_ERR_CONFIG, outer);
    assert_ptr_equal(strstr(lode_error_message(), outer), lode_error_message());
    write_file("sub/b.cfg", "seed = 1;\nname = ;\n", 19);
    snprintf(outer, sizeof outer, "%s/sub/b.cfg:2: syntax error", folder);
    LODE_ASSERT_FAILS(lode_config_load(&config, file, NULL, 0), LODE_ERR_CONFIG, outer);

    file = write_file("self.cfg", "seed = 1;\n@include \"self.cfg\"\n", 30);
    snprintf(outer, sizeof outer, "%s/self.cfg:2: @include is nested more than 10 deep", folder);
    LODE_ASSERT_FAILS(lode_config_load(&config, file, NULL, 0), LODE_ERR_CONFIG, outer);
    file = write_file("gone.cfg", "\n @include \"none.cfg\"\n", 22);
    snprintf(outer, sizeof outer, "%s/gone.cfg:2: @include: %s/none.cfg: cannot be read", folder,
             folder);
    LODE_ASSERT_FAILS(lode_config_load(&config, file, NULL, 0), LODE_ERR_INPUT, outer);
    file = write_file("bad.cfg", "@include none.cfg\n", 18);
    LODE_ASSERT_FAILS(lode_config_load(&config, file, NULL, 0), LODE_ERR_CONFIG,
                      "bad.cfg:1: an include reads @include \"file\"");
    file = write_file("unset.cfg", "@include \"$LODE_TEST_UNSET/x\"\n", 30);
    LODE_ASSERT_FAILS(lode_config_load(&config, file, NULL, 0), LODE_ERR_CONFIG,
                      "unset.cfg:1: @include: path");
    /* what is not beside its file is looked for from the working directory, as other paths are */
    char *working = getcwd(NULL, 0);
    assert_non_null(working);
    assert_int_equal(chdir(folder), 0);
    write_file("shared.cfg", "threads = 3;", 12);
    const char from[] = "@include \"shared.cfg\"\n" BASE;
    write_file("sub/from.cfg", from, strlen(from));
    LODE_ASSERT_OK(lode_config_load(&config, "sub/from.cfg", NULL, 0));
    assert_int_equal(config->threads, 3);
    assert_string_equal(lode_config_where(config, "threads"), "shared.cfg:1");
    lode_config_destroy(&config);
    write_file("sub/shared.cfg", "threads = 4;", 12);
    LODE_ASSERT_OK(lode_config_load(&config, "sub/from.cfg", NULL, 0));
    assert_int_equal(config->threads, 4); /* its own folder comes first */
    lode_config_destroy(&config);
    assert_int_equal(chdir(working), 0);
    free(working);

    /* no include in a comment or a string */
    config = load(BASE "/*\n@include \"x\"\n*/\nresults = \"\n@include \\\"\";\n", NULL, 0);
    assert_string_equal(config->results, "\n@include \"");
    lode_config_destroy(&config);
}

static void test_paths(void **state) {
    (void)state;
    const char text[] =
        "name = \"e\";\nmodels = ( { name = \"a\"; path = \"$LODE_TEST_PLACE/m\"; } );\n"
        "calibration = { corpus = \"~/c\"; };\nresults = \"${LODE_TEST_PLACE}r\";\n"
        "sweep = ( { key = \"models.[0].path\"; values = ( \"$LODE_TEST_PLACE/x\", \"y\" ); } );";
    setenv("LODE_TEST_PLACE", "/p $Q", 1);
    setenv("HOME", "/h", 1);
    lode_config_t *config = load(text, NULL, 0);
    assert_string_equal(config->models[0].path, "/p $Q/m");
    assert_string_equal(config->calibration.corpus, "/h/c");
    assert_string_equal(config->results, "/p $Qr");
    assert_string_equal(config->sweep[0].values[0], "\"/p $Q/x\"");
    /* resolved paths are not expanded again */
    char *resolved = text_of(config);
    lode_config_t *again = parse(resolved);
    assert_string_equal(again->models[0].path, "/p $Q/m");
    assert_string_equal(again->sweep[0].values[0], "\"/p $Q/x\"");
    free(resolved);
    lode_config_destroy(&again);
    lode_config_destroy(&config);
    unsetenv("LODE_TEST_PLACE");
    const char *path = write_file("exp.cfg", text, strlen(text));
    LODE_ASSERT_FAILS(lode_config_load(&config, path, NULL, 0), LODE_ERR_CONFIG,
                      "exp.cfg:4: results: path \"${LODE_TEST_PLACE}r\": the environment variable");
}

static void test_sweep(void **state) {
    (void)state;
    lode_config_t *config =
        parse(BASE "sweep = (\n"
                   "{ key = \"classify.core_fraction\"; values = ( 0.005, 0.1 ); },\n"
                   "{ key = \"prune.methods\"; values = ( \"lp\", ( \"lp\", \"random\" ) ); },\n"
                   "{ key = \"calibration.corpus\"; values = ( \"a/b\", \"a_b\", \"a.b\" ); } );");
    lode_config_point_t *points;
    int64_t count;
    LODE_ASSERT_OK(lode_config_expand(config, &points, &count));
    assert_int_equal(count, 12);
    for (int64_t i = 0; i < count; i++) {
        const lode_config_t *point = points[i].config;
        assert_int_equal(point->sweep_count, 0);
        assert_true(point->classify.core_fraction == (i < 6 ? 0.005 : 0.1));
        assert_int_equal(point->prune.method_count, i / 3 % 2 + 1);
        assert_string_equal(point->calibration.corpus, i % 3 == 0   ? "a/b"
                                                       : i % 3 == 1 ? "a_b"
                                                                    : "a.b");
        assert_int_equal(strspn(points[i].label, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvw"
                                                 "xyz0123456789._=,-"),
                         strlen(points[i].label));
        for (int64_t j = 0; j < i; j++)
            assert_string_not_equal(points[i].label, points[j].label);
        assert_string_equal(lode_config_where(point, "calibration.corpus"), "exp.cfg:7: sweep");
        assert_string_equal(lode_config_where(point, "models.[0].path"), "exp.cfg:2");
        assert_string_equal(lode_config_where(point, "seed"), "exp.cfg");
    }
    assert_string_equal(points[1].label,
                        "classify.core_fraction=0.005,prune.methods=lp,calibration.corpus=a_b");
    assert_string_equal(points[0].label,
                        "classify.core_fraction=0.005,prune.methods=lp,calibration.corpus=b");
    lode_config_points_destroy(&points, count);
    assert_null(points);
    lode_config_destroy(&config);

    /* two paths of one last part */
    config =
        parse(BASE "sweep = ( { key = \"calibration.corpus\"; values = ( \"a/b\", \"c/b\" ); } );");
    LODE_ASSERT_OK(lode_config_expand(config, &points, &count));
    const char altered[] = "calibration.corpus=a_b-";
    assert_memory_equal(points[0].label, altered, strlen(altered));
    lode_config_points_destroy(&points, count);
    lode_config_destroy(&config);

    /* numbers as one writes them */
    config = parse(
        BASE "sweep = ( { key = \"train.entropy.weight\"; values = ( 10, 250.0, 1e-5 ); } );");
    LODE_ASSERT_OK(lode_config_expand(config, &points, &count));
    assert_int_equal(count, 3);
    assert_string_equal(points[0].label, "train.entropy.weight=10.0");
    assert_string_equal(points[1].label, "train.entropy.weight=250.0");
    assert_string_equal(points[2].label, "train.entropy.weight=1e-05");
    lode_config_points_destroy(&points, count);
    lode_config_destroy(&config);
    config = parse(BASE "sweep = ( { key = \"memory\"; values = ( \"1G\", \"4G\" ); } );");
    LODE_ASSERT_OK(lode_config_expand(config, &points, &count));
    assert_string_equal(points[0].label, "memory=1073741824");
    assert_string_equal(points[1].label, "memory=4294967296");
    lode_config_points_destroy(&points, count);
    lode_config_destroy(&config);

    config = parse(BASE);
    LODE_ASSERT_OK(lode_config_expand(config, &points, &count));
    assert_int_equal(count, 1);
    assert_string_equal(points[0].label, "");
    char *text = text_of(config), *same = text_of(points[0].config);
    assert_string_equal(text, same);
    free(text);
    free(same);
    lode_config_points_destroy(&points, count);
    lode_config_destroy(&config);
}

static void test_wrong_sweeps(void **state) {
    (void)state;
    assert_refused(SWEEP("clasify.core_fraction", "( 1 )"), LODE_ERR_CONFIG,
                   "exp.cfg:5: sweep: clasify.core_fraction: unknown key; did you mean");
    assert_refused(SWEEP("classify.core_fracton", "( 1 )"), LODE_ERR_CONFIG,
                   "exp.cfg:5: sweep: classify.core_fracton: unknown key; did you mean "
                   "\"core_fraction\"?");
    assert_refused(SWEEP("classify.core_fraction", "( 0.5, 2 )"), LODE_ERR_CONFIG,
                   "exp.cfg:6: sweep: classify.core_fraction: 2 is out of range");
    assert_refused(SWEEP("classify.halo_fraction", "( 1, 1.0 )"), LODE_ERR_CONFIG,
                   "exp.cfg:6: sweep: classify.halo_fraction: 1.0 is listed twice");
    assert_refused(SWEEP("seed", "( )"), LODE_ERR_CONFIG, "exp.cfg:6: sweep.[0].values: is empty");
    assert_refused(SWEEP("classify", "( { floor = 1; } )"), LODE_ERR_CONFIG,
                   "exp.cfg:5: sweep: classify: cannot be swept; sweep its single keys");
    assert_refused(SWEEP("models", "( 1 )"), LODE_ERR_CONFIG,
                   "exp.cfg:5: sweep: models: cannot be swept");
    assert_refused(SWEEP("sweep.[0].key", "( \"seed\" )"), LODE_ERR_CONFIG,
                   "exp.cfg:5: sweep: sweep.[0].key: cannot be swept");
    assert_refused(SWEEP("models.[1].path", "( \"x\" )"), LODE_ERR_CONFIG,
                   "exp.cfg:6: sweep: models.[1]: there is no such element");
    assert_refused(SWEEP("models.[].path", "( \"x\" )"), LODE_ERR_CONFIG,
                   "exp.cfg:6: sweep: models.[]: there is no such element");
    assert_refused(BASE "sweep = ( { key = \"seed\"; values = ( 1 ); },\n"
                        " { key = \"seed\"; values = ( 2 ); } );",
                   LODE_ERR_CONFIG, "exp.cfg:5: sweep.[1].key: \"seed\" is used twice");
    lode_buffer_t text = {0};
    LODE_ASSERT_OK(lode_buffer_printf(&text, "%s sweep = (", BASE));
    for (int key = 0; key < 2; key++) {
        LODE_ASSERT_OK(lode_buffer_printf(&text, "%s{ key = \"%s\"; values = ( 1", key ? "," : "",
                                          key ? "threads" : "seed"));
        for (int i = 2; i <= 65; i++)
            LODE_ASSERT_OK(lode_buffer_printf(&text, ", %d", i));
        LODE_ASSERT_OK(lode_buffer_printf(&text, " ); }"));
    }
    LODE_ASSERT_OK(lode_buffer_printf(&text, ");"));
    assert_refused(text.data, LODE_ERR_CONFIG, "exp.cfg:4: sweep: the sweep has more than 4096");
    lode_buffer_free(&text);
}

/* Another value of the same type, in range, for --set; NULL where the type has none. */
static const char *other_value(const lode_key_t *key, const lode_config_t *config) {
    static char text[128];
    lode_buffer_t now = {0};
    char path[64];
    first_element(path, sizeof path, key);
    LODE_ASSERT_OK(lode_field_path_text(config, path, &now));
    const char *value = NULL;
    switch (key->type) {
    case LODE_KEY_INTEGER:
        value = strcmp(now.data, "3") == 0 ? "4" : "3";
        if (strcmp(key->path, "train.groups") == 0)
            value = "2";
        else if (strcmp(key->path, "train.tokenizer.vocabulary") == 0)
            value = "300";
        break;
    case LODE_KEY_REAL:
        value = key->low > 0.123 ? "7.25" : "0.123";
        break;
    case LODE_KEY_GRANULARITY:
        value = "tensor";
        break;
    case LODE_KEY_BOOLEAN:
        value = strcmp(now.data, "true") == 0 ? "false" : "true";
        break;
    case LODE_KEY_BYTES:
        value = "16M";
        break;
    case LODE_KEY_CHOICE:
        for (const lode_choice_t *choice = key->choices; choice->name && !value; choice++)
            if (!strstr(now.data, choice->name))
                value = choice->name;
        break;
    case LODE_KEY_TEXT:
    case LODE_KEY_NAME:
    case LODE_KEY_PATH:
        value = strcmp(key->path, "audit.folders.[].model") == 0 ? "a" : "other";
        break;
    default:
        break;
    }
    lode_buffer_free(&now);
    if (value)
        snprintf(text, sizeof text, "%s=%s", path, value);
    return value ? text : NULL;
}

static const char *const stages[] = {"tokenizer",  "tokenize", "train",      "calibrate",
                                     "accumulate", "moments",  "classify",   "superweight",
                                     "spectra",    "prune",    "compensate", "quantize",
                                     "evaluate",   "probe",    "export",     "audit"};
enum { STAGES = sizeof stages / sizeof *stages };

static void stage_digest(const lode_config_t *config, const char *stage,
                         char digest[LODE_DIGEST_TEXT]) {
    lode_hash_t *hash;
    LODE_ASSERT_OK(lode_hash_create(&hash));
    LODE_ASSERT_OK(lode_config_stage_hash(config, stage, hash));
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
}

/* Changing a key changes the hashes of its stages and no others. */
static void check_sensitivity(const lode_config_t *before, const lode_config_t *after,
                              const char *key, unsigned mask) {
    for (unsigned i = 0; i < STAGES; i++) {
        char old_digest[LODE_DIGEST_TEXT], new_digest[LODE_DIGEST_TEXT];
        stage_digest(before, stages[i], old_digest);
        stage_digest(after, stages[i], new_digest);
        bool changed = strcmp(old_digest, new_digest) != 0;
        if (changed != ((mask >> i & 1) != 0))
            fail_msg("%s %s the hash of %s", key, changed ? "changes" : "does not change",
                     stages[i]);
    }
}

static void test_stage_hashes(void **state) {
    (void)state;
    const char text[] =
        BASE EVALUATE "export = ( { variant = \"dense\"; path = \"x\"; } );\n"
                      "superweight = { prompts = [ \"p\" ]; stopwords = \"s\"; corpus = \"t\"; };\n"
                      "audit = { folders = ( { name = \"f\"; path = \"y\"; } ); };\n" TRAIN("");
    lode_config_t *config = load(text, NULL, 0), *changed;
    int64_t count, tried = 0;
    const lode_key_t *keys = lode_schema(&count);
    for (int64_t i = 0; i < count; i++) {
        bool field = keys[i].type != LODE_KEY_GROUPS;
        bool series = strncmp(keys[i].path, "models.[].s", 11) == 0; /* steps, series, step */
        if (!field || series || strncmp(keys[i].path, "sweep.", 6) == 0)
            continue;
        const char *argument = other_value(&keys[i], config);
        assert_non_null(argument);
        changed = load(text, &argument, 1);
        check_sensitivity(config, changed, keys[i].path, keys[i].stages);
        lode_config_destroy(&changed);
        tried++;
    }
    assert_int_equal(tried, count - 11); /* less 6 without a field, the sweep's 2, 3 of series */
    const char *second[] = {"evaluate.perplexity=( { name = \"p\"; corpus = \"t\"; }, { name = "
                            "\"q\"; corpus = \"t\"; } )",
                            "evaluate.perplexity.[1].length=3"};
    lode_config_t *two = load(text, second, 1);
    changed = load(text, second, 2);
    check_sensitivity(two, changed, second[1], LODE_DECIDES_EVALUATE | LODE_DECIDES_AUDIT);
    lode_config_destroy(&changed);
    lode_config_destroy(&two);
    const char *more[] = {
        "evaluate.perplexity=( { name = \"p\"; corpus = \"t\"; }, "
        "{ name = \"q\"; corpus = \"t\"; } )",
        "models=( { name = \"b\"; path = \"n\"; series = \"s\"; step = 3; }, { name = \"c\"; "
        "path = \"m\"; } )",
        "train.steps=0"};
    changed = load(text, &more[0], 1);
    check_sensitivity(config, changed, more[0],
                      LODE_DECIDES_TOKENIZE | LODE_DECIDES_EVALUATE | LODE_DECIDES_AUDIT);
    lode_config_destroy(&changed);
    changed = load(text, &more[1], 2);
    check_sensitivity(config, changed, more[1], LODE_DECIDES_TRAIN); /* for its steps */
    lode_config_destroy(&changed);
    /* the words of the table that others rely on */
    for (unsigned i = 0; i < STAGES; i++)
        assert_int_equal(lode_schema_stage(stages[i]), 1u << i);
    assert_int_equal(lode_schema_find("threads")->stages,
                     LODE_DECIDES_TRAIN | LODE_DECIDES_CALIBRATE | LODE_DECIDES_ACCUMULATE |
                         LODE_DECIDES_MOMENTS | LODE_DECIDES_SUPERWEIGHT | LODE_DECIDES_COMPENSATE |
                         LODE_DECIDES_QUANTIZE | LODE_DECIDES_EVALUATE | LODE_DECIDES_PROBE |
                         LODE_DECIDES_AUDIT);
    assert_int_equal(lode_schema_find("calibration.sequences")->stages, LODE_DECIDES_TOKENIZE);
    assert_int_equal(lode_schema_find("calibration.loss")->stages, LODE_DECIDES_ACCUMULATE);
    assert_int_equal(lode_schema_find("calibration.keep_logits")->stages, LODE_DECIDES_CALIBRATE);
    assert_int_equal(lode_schema_find("classify.core_fraction")->stages,
                     LODE_DECIDES_CLASSIFY | LODE_DECIDES_PRUNE);
    assert_int_equal(lode_schema_find("classify.redundancy.sequences")->stages,
                     LODE_DECIDES_ACCUMULATE | LODE_DECIDES_CLASSIFY);
    assert_int_equal(lode_schema_find("prune.methods")->stages, LODE_DECIDES_PRUNE);
    assert_int_equal(lode_schema_find("quantize.bits")->stages, LODE_DECIDES_QUANTIZE);
    assert_int_equal(lode_schema_find("quantize.budget")->stages, 0);
    assert_int_equal(lode_schema_find("superweight.ratio")->stages, LODE_DECIDES_SUPERWEIGHT);
    assert_int_equal(lode_schema_find("superweight.prompts")->stages, LODE_DECIDES_TOKENIZE);
    assert_int_equal(lode_schema_find("train.format")->stages,
                     LODE_DECIDES_TOKENIZER | LODE_DECIDES_TOKENIZE);
    assert_int_equal(lode_schema_find("train.length")->stages,
                     LODE_DECIDES_TOKENIZE | LODE_DECIDES_TRAIN);
    assert_int_equal(lode_schema_find("train.corpus")->stages, 0);
    assert_int_equal(lode_schema_find("train.save")->stages, 0);
    assert_int_equal(lode_schema_find("train.keep_state")->stages, 0);
    assert_int_equal(lode_schema_find("train.groups")->stages, LODE_DECIDES_TRAIN);
    assert_int_equal(lode_schema_find("train.entropy.layers")->stages, LODE_DECIDES_TRAIN);
    assert_int_equal(lode_schema_find("train.tokenizer.vocabulary")->stages,
                     LODE_DECIDES_TOKENIZER);
    assert_int_equal(lode_schema_find("memory")->stages, 0);
    assert_int_equal(lode_schema_find("calibration.corpus")->stages, 0);
    LODE_ASSERT_FAILS(lode_config_stage_hash(config, "report", NULL), LODE_ERR_USAGE,
                      "\"report\" is not a stage; the stages are tokenizer, tokenize, train, "
                      "calibrate, accumulate, moments, classify, superweight, spectra, prune, "
                      "compensate, quantize, "
                      "evaluate, probe, export and audit");
    lode_config_destroy(&config);
}

/* Whether two trainings have the same weights after the same number of steps. */
static bool same_weights(const char *one, const char *other) {
    const char *text[] = {one, other};
    char digest[2][LODE_DIGEST_TEXT];
    for (int i = 0; i < 2; i++) {
        lode_config_t *config = load(text[i], NULL, 0);
        lode_hash_t *hash;
        LODE_ASSERT_OK(lode_hash_create(&hash));
        LODE_ASSERT_OK(lode_config_weights_hash(config, hash));
        lode_hash_text(hash, digest[i]);
        lode_hash_destroy(&hash);
        lode_config_destroy(&config);
    }
    return strcmp(digest[0], digest[1]) == 0;
}

static void test_weights_hash(void **state) {
    (void)state;
#define STEPS(steps, keys) BASE "train = { steps = " steps "; corpus = \"b\";\n " keys "};\n"
#define CONSTANT "decay = \"constant\"; "
#define ENTROPY(weight, schedule) "entropy = { weight = " weight "; schedule = \"" schedule "\"; };"
    const char base[] = STEPS("10", CONSTANT);
    assert_true(
        same_weights(base, STEPS("10", CONSTANT "checkpoints = [ 3 ]; dtype = \"f32\"; save "
                                                "= 3; keep_state = true;")));
    assert_true(same_weights(base, STEPS("10", CONSTANT "validation = { corpus = \"v\"; every = 3; "
                                                        "sequences = 7; };")));
    assert_false(same_weights(base, STEPS("10", CONSTANT "batch = 17;")));
    assert_false(same_weights(base, STEPS("10", CONSTANT "warmup = 3;")));
    assert_false(same_weights(base, STEPS("10", CONSTANT "from = \"scratch\";")));
    assert_false(same_weights(base, "seed = 43; " STEPS("10", CONSTANT)));
    assert_false(same_weights(base, "micro_batch = 43; " STEPS("10", CONSTANT)));
    assert_false(same_weights(base, "threads = 2; " STEPS("10", CONSTANT)));
    assert_true(same_weights(base, "memory = \"7M\"; replicas = 2; " STEPS("10", CONSTANT)));
    /* the number of steps, where anything depends on it */
    assert_true(same_weights(base, STEPS("20", CONSTANT)));
    assert_false(same_weights(STEPS("10", ""), STEPS("20", "")));
    assert_false(
        same_weights(STEPS("10", "decay = \"linear\";"), STEPS("20", "decay = \"linear\";")));
    assert_false(same_weights(STEPS("10", CONSTANT ENTROPY("1.0", "linear")),
                              STEPS("20", CONSTANT ENTROPY("1.0", "linear"))));
    assert_true(same_weights(STEPS("10", CONSTANT ENTROPY("0.0", "linear")),
                             STEPS("20", CONSTANT ENTROPY("0.0", "linear"))));
    assert_true(same_weights(STEPS("10", CONSTANT ENTROPY("1.0", "constant")),
                             STEPS("20", CONSTANT ENTROPY("1.0", "constant"))));
}

static void test_check_model(void **state) {
    (void)state;
    lode_config_t *config =
        parse(HEAD "calibration = { corpus = \"c\";\n max_length = 300; };\n"
                   "classify = { write_support = 64; };\n"
                   "evaluate = { perplexity = ( { name = \"p\"; corpus = \"t\"; length = 128; },\n"
                   " { name = \"q\"; corpus = \"t\";\n length = 400; } ); };");
    LODE_ASSERT_OK(lode_config_check_model(config, 400, 65, "s"));
    LODE_ASSERT_FAILS(lode_config_check_model(config, 299, 65, "s"), LODE_ERR_CONFIG,
                      "exp.cfg:4: calibration.max_length: 300 is above the 299 positions of model "
                      "s (max_position_embeddings); set it to 299 or less");
    LODE_ASSERT_FAILS(lode_config_check_model(config, 399, 65, "s"), LODE_ERR_CONFIG,
                      "exp.cfg:8: evaluate.perplexity.[1].length: 400 is above the 399 positions");
    LODE_ASSERT_FAILS(lode_config_check_model(config, 400, 64, "s"), LODE_ERR_CONFIG,
                      "exp.cfg:5: classify.write_support: 64 is not below the hidden size 64 of");
    lode_config_destroy(&config);
    config = parse(BASE);
    LODE_ASSERT_FAILS(lode_config_check_model(config, 511, 64, "s"), LODE_ERR_CONFIG,
                      "exp.cfg: calibration.max_length: 512 is above");
    lode_config_destroy(&config);
    config = parse(BASE "superweight = { prompts = [ \"p\" ]; stopwords = \"s\"; corpus = \"c\";\n"
                        " max_length = 513; };");
    LODE_ASSERT_FAILS(lode_config_check_model(config, 512, 64, "s"), LODE_ERR_CONFIG,
                      "exp.cfg:5: superweight.max_length: 513 is above the 512 positions");
    lode_config_destroy(&config);
}

static void test_check_training(void **state) {
    (void)state;
    lode_config_t *config =
        parse(BASE "train = { steps = 1; corpus = \"b\"; from = \"scratch\";\n length = 300;\n"
                   " entropy = { layers = ( 0, 3 ); };\n tokenizer = { vocabulary = 400; }; };");
    LODE_ASSERT_OK(lode_config_check_training(config, 300, 4, 400, "s"));
    LODE_ASSERT_FAILS(lode_config_check_training(config, 299, 4, 400, "s"), LODE_ERR_CONFIG,
                      "exp.cfg:5: train.length: 300 is above the 299 positions of model s");
    LODE_ASSERT_FAILS(lode_config_check_training(config, 300, 3, 400, "s"), LODE_ERR_CONFIG,
                      "exp.cfg:6: train.entropy.layers: there is no layer 3; model s has layers 0 "
                      "to 2");
    LODE_ASSERT_FAILS(lode_config_check_training(config, 300, 4, 399, "s"), LODE_ERR_CONFIG,
                      "exp.cfg:7: train.tokenizer.vocabulary: 400 is above the vocab_size 399 of "
                      "model s; lower it, or raise vocab_size in config.json");
    lode_config_destroy(&config);
    config = parse(BASE "train = { length = 300; };"); /* nothing is trained */
    LODE_ASSERT_OK(lode_config_check_training(config, 2, 1, 1, "s"));
    lode_config_destroy(&config);
}

static void test_check_bos(void **state) {
    (void)state;
    lode_config_t *config = parse(
        BASE "evaluate = { perplexity = ( { name = \"p\"; corpus = \"t\"; bos = \"never\"; },\n"
             " { name = \"q\"; corpus = \"t\";\n bos = \"always\"; } ); };");
    LODE_ASSERT_OK(lode_config_check_bos(config, 0, "s"));
    LODE_ASSERT_FAILS(
        lode_config_check_bos(config, -1, "s"), LODE_ERR_CONFIG,
        "exp.cfg:6: evaluate.perplexity.[1].bos: \"always\" needs a bos_token_id, and "
        "config.json of model s has none; set it to \"auto\" or \"never\"");
    lode_config_destroy(&config);
    config = parse(BASE "evaluate = { tasks = ( { name = \"p\"; path = \"t\";\n"
                        " bos = \"always\"; } ); };");
    LODE_ASSERT_FAILS(lode_config_check_bos(config, -1, "s"), LODE_ERR_CONFIG,
                      "exp.cfg:5: evaluate.tasks.[0].bos");
    lode_config_destroy(&config);
    config = parse(BASE "superweight = { prompts = [ \"p\" ];\n bos = \"always\"; };");
    LODE_ASSERT_FAILS(lode_config_check_bos(config, -1, "s"), LODE_ERR_CONFIG,
                      "exp.cfg:5: superweight.bos: \"always\" needs");
    lode_config_destroy(&config);
    config = parse(BASE);
    LODE_ASSERT_OK(lode_config_check_bos(config, -1, "s"));
    lode_config_destroy(&config);
}

static void test_hostile_files(void **state) {
    (void)state;
    lode_config_t *config;
    LODE_ASSERT_FAILS(lode_config_load(&config, folder, NULL, 0), LODE_ERR_INPUT, folder);
    LODE_ASSERT_FAILS(lode_config_load(&config, "/nonexistent/exp.cfg", NULL, 0), LODE_ERR_INPUT,
                      "/nonexistent/exp.cfg: cannot be read");
    const char *path = write_file("empty.cfg", "", 0);
    LODE_ASSERT_FAILS(lode_config_load(&config, path, NULL, 0), LODE_ERR_CONFIG,
                      "empty.cfg: name: required key is missing");
    path = write_file("binary.cfg",
                      "\x7f"
                      "ELF\x02\x01\x01\x00\x00\xff\xfe",
                      11);
    LODE_ASSERT_FAILS(lode_config_load(&config, path, NULL, 0), LODE_ERR_CONFIG, "binary.cfg:1: ");
    assert_null(config);

    enum { BIG = 400000 };
    char *big = malloc(BIG);
    assert_non_null(big);
    memcpy(big, "a=", 2);
    memset(big + 2, '(', BIG - 2);
    LODE_ASSERT_FAILS(lode_config_parse(&config, big, BIG, "big"), LODE_ERR_CONFIG,
                      "big:1: brackets are nested more than 32 deep");
    memset(big, 'x', BIG);
    LODE_ASSERT_FAILS(lode_config_parse(&config, big, BIG, "big"), LODE_ERR_CONFIG,
                      "big:1: the experiment is over 256 KiB");
    big[200000] = '=';
    big[200001] = '1';
    LODE_ASSERT_FAILS(lode_config_parse(&config, big, 200002, "big"), LODE_ERR_CONFIG,
                      "big:1: xxxxxxxx");
    memset(big, '\n', BIG);
    memcpy(big, "@x", 2);
    LODE_ASSERT_FAILS(lode_config_parse(&config, big, 1000, "big"), LODE_ERR_CONFIG,
                      "big:1: syntax error");
    memset(big, '7', BIG);
    LODE_ASSERT_FAILS(lode_config_parse(&config, big, BIG, "big"), LODE_ERR_CONFIG,
                      "big:1: a number of more than 61 characters");
    free(big);
    lode_buffer_t text = {0};
    LODE_ASSERT_OK(lode_buffer_printf(&text, "%s prune = { sparsity = ( 0.1", BASE));
    for (int i = 0; i < 1000; i++)
        LODE_ASSERT_OK(lode_buffer_printf(&text, ",0.%05d", i + 20000));
    LODE_ASSERT_OK(lode_buffer_printf(&text, "); };"));
    assert_refused(text.data, LODE_ERR_CONFIG, "exp.cfg:4: prune.sparsity: holds 1001 values");
    lode_buffer_free(&text);
}

/* Any prefix of a good experiment is an error or an experiment, never a crash or a leak. */
static void test_truncation(void **state) {
    (void)state;
    int64_t parsed = 0;
    for (size_t size = 0; size < sizeof full; size += 3) {
        lode_config_t *config = NULL;
        if (lode_config_parse(&config, full, size, "cut") == LODE_OK)
            parsed++;
        else
            assert_null(config);
        lode_config_destroy(&config);
    }
    assert_true(parsed > 0 && parsed < 400);
}

static void test_describe(void **state) {
    (void)state;
    lode_buffer_t text = {0};
    LODE_ASSERT_OK(lode_config_describe(&text));
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    for (int64_t i = 0; i < count; i++) {
        char row[128];
        snprintf(row, sizeof row, "\n| `%s` | ", keys[i].path);
        assert_non_null(strstr(text.data, row));
    }
    assert_non_null(strstr(text.data, "| `classify.core_fraction` | number | `0.01` | above 0 and "
                                      "below 1 | channels of a layer"));
    assert_non_null(strstr(text.data, "| `name` | name | required |  | "));
    assert_non_null(strstr(text.data,
                           "| `quantize.granularity` | list of strings | `[ \"channel\" ]` "
                           "| tensor, channel, group-N (N at least 2), block-N (N from "
                           "2 to 4096) | "));
    assert_non_null(strstr(text.data, "| `quantize.bits` | list of integers | `( 4 )` | at least 2 "
                                      "and at most 8 | "));
    assert_non_null(strstr(text.data, "| `prune.allocation` | list of choices | `[ \"uniform\" ]` "
                                      "| uniform, global | "));
    lode_buffer_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_defaults_of_training),
        cmocka_unit_test(test_defaults_of_quantization),
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_every_key_of_quantization),
        cmocka_unit_test(test_documented_sample),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_text_is_explicit),
        cmocka_unit_test(test_unknown_keys),
        cmocka_unit_test(test_wrong_types),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_ranges_of_the_table),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_granularities),
        cmocka_unit_test(test_keys_together),
        cmocka_unit_test(test_wrong_training),
        cmocka_unit_test(test_wrong_series),
        cmocka_unit_test(test_training_alone),
        cmocka_unit_test(test_step_names),
        cmocka_unit_test(test_series),
        cmocka_unit_test(test_swept_series),
        cmocka_unit_test(test_trained),
        cmocka_unit_test(test_micro_batches),
        cmocka_unit_test(test_missing_and_names),
        cmocka_unit_test(test_syntax),
        cmocka_unit_test(test_wide_integers),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_wrong_overrides),
        cmocka_unit_test(test_includes),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_wrong_sweeps),
        cmocka_unit_test(test_stage_hashes),
        cmocka_unit_test(test_weights_hash),
        cmocka_unit_test(test_check_model),
        cmocka_unit_test(test_check_training),
        cmocka_unit_test(test_check_bos),
        cmocka_unit_test(test_hostile_files),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_describe),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
