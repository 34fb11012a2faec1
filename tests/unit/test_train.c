/* The parts of the stage train that need no other rank: stretches of matrices as rectangles, what
 * is due when, and the state: that whoever reads it gets his own elements. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/size.h"
#include "testing/compare.h"
#include "testing/temporary.h"
#include "train/checkpoint.h"
#include "train/record.h"
#include "train/remarks.h"
#include "train/slab.h"
#include "train/state.h"
#include "train/train.h"

/* --- rectangles ----------------------------------------------------------------------------- */

static void test_slabs(void **state) {
    enum { ROWS = 5, COLUMNS = 4, ALL = ROWS * COLUMNS };
    lode_train_slab_t slabs[LODE_TRAIN_SLABS];
    (void)state;
    for (int64_t first = 0; first <= ALL; first++)
        for (int64_t end = first; end <= ALL; end++) {
            const int count = lode_train_slabs(slabs, COLUMNS, first, end);
            int64_t next = first;
            assert_in_range(count, first < end ? 1 : 0, LODE_TRAIN_SLABS);
            for (int i = 0; i < count; i++) {
                const lode_train_slab_t *s = &slabs[i];
                assert_true(s->count[0] > 0 && s->count[1] > 0);
                assert_true(s->offset[1] + s->count[1] <= COLUMNS);
                assert_true(s->count[0] == 1 || s->count[1] == COLUMNS); /* one stretch */
                assert_int_equal(s->offset[0] * COLUMNS + s->offset[1], next);
                next += s->count[0] * s->count[1];
            }
            assert_int_equal(next, end);
        }
}

/* --- what is due ---------------------------------------------------------------------------- */

/* general: keys beside those of the training. */
static lode_config_t *parse_experiment(const char *train, const char *general) {
    char text[1024];
    snprintf(text, sizeof text,
             "name = \"x\"; models = ( { name = \"m\"; path = \"m\"; } );\n"
             "calibration = { corpus = \"c.txt\"; };\n"
             "train = { corpus = \"c.txt\"; %s };\n%s\n",
             train, general);
    lode_config_t *config;
    LODE_ASSERT_OK(lode_config_parse(&config, text, strlen(text), "exp.cfg"));
    return config;
}

static lode_config_t *parse_config(const char *train) {
    return parse_experiment(train, "");
}

static void assert_due(const char *train, int64_t validations, const int64_t *validation,
                       int64_t checkpoints, const int64_t *checkpoint) {
    lode_config_t *config = parse_config(train);
    lode_train_record_t record;
    LODE_ASSERT_OK(lode_train_record_create(&record, config, 3));
    assert_int_equal(record.validations, validations);
    for (int64_t i = 0; i < validations; i++) {
        assert_int_equal(record.validation_step[i], validation[i]);
        assert_int_equal(lode_train_record_validation(&record, validation[i]), i);
    }
    assert_int_equal(record.checkpoints, checkpoints);
    for (int64_t i = 0; i < checkpoints; i++)
        assert_int_equal(lode_train_record_checkpoint(&record, checkpoint[i]), i);
    assert_int_equal(lode_train_record_validation(&record, 7), -1);
    assert_int_equal(lode_train_record_checkpoint(&record, 7), -1);
    lode_train_record_free(&record);
    lode_config_destroy(&config);
}

static void test_due(void **state) {
    (void)state;
    assert_due("steps = 10;", 0, NULL, 1, (const int64_t[]){10});
    assert_due("steps = 10; from = \"scratch\"; checkpoints = [ 0, 3, 10 ]; validation = { corpus "
               "= \"v.txt\"; };",
               2, (const int64_t[]){0, 10}, 3, (const int64_t[]){0, 3, 10});
    assert_due("steps = 10; validation = { corpus = \"v.txt\"; every = 5; };", 3,
               (const int64_t[]){0, 5, 10}, 1, (const int64_t[]){10});
    assert_due("steps = 10; validation = { corpus = \"v.txt\"; every = 4; };", 4,
               (const int64_t[]){0, 4, 8, 10}, 1, (const int64_t[]){10});
    assert_due("steps = 10; validation = { corpus = \"v.txt\"; every = 40; };", 2,
               (const int64_t[]){0, 10}, 1, (const int64_t[]){10});
}

/* --- what is known -------------------------------------------------------------------------- */

static void know(lode_train_record_t *record, int64_t steps) {
    for (int64_t s = 0; s < steps; s++)
        for (int c = 0; c < LODE_TRAIN_CURVES; c++)
            record->curve[c][s] = c == LODE_TRAIN_ENTROPY ? NAN : 10 * c + (double)s;
}

/* What is missing of a training is found wherever it is. */
static void test_missing(void **state) {
    lode_config_t *config =
        parse_config("steps = 10; from = \"scratch\"; checkpoints = [ 0, 3, 6 ]; "
                     "validation = { corpus = \"v.txt\"; every = 5; };");
    lode_train_record_t record;
    (void)state;
    LODE_ASSERT_OK(lode_train_record_create(&record, config, 3));
    assert_int_equal(lode_train_record_missing(&record, 0), 1);
    assert_int_equal(lode_train_record_missing(&record, 4), 5);
    know(&record, 10);
    assert_int_equal(lode_train_record_missing(&record, 0), 3); /* what is due at 0 is before */
    snprintf(record.digest[1], LODE_DIGEST_TEXT, "%032d", 1);
    assert_int_equal(lode_train_record_missing(&record, 0), 5);
    record.loss[1] = 1;
    assert_int_equal(lode_train_record_missing(&record, 0), 6);
    assert_int_equal(lode_train_record_missing(&record, 6), 10);
    snprintf(record.digest[2], LODE_DIGEST_TEXT, "%032d", 1);
    snprintf(record.digest[3], LODE_DIGEST_TEXT, "%032d", 1);
    assert_int_equal(lode_train_record_missing(&record, 0), 10);
    record.loss[2] = 1;
    assert_int_equal(lode_train_record_missing(&record, 0), -1);
    record.curve[LODE_TRAIN_LOSS][7] = NAN;
    assert_int_equal(lode_train_record_missing(&record, 0), 8);
    assert_false(lode_train_record_trained(&record, 8));
    assert_true(lode_train_record_trained(&record, 7));
    lode_train_record_free(&record);
    lode_config_destroy(&config);
}

/* Another experiment takes what it shares with the one that a file is of: shorter or longer, with
 * other validations. */
static void check_taken(const char *train, bool validated, int64_t curve, double at_5) {
    const lode_comm_t alone = lode_comm_alone();
    char path[1024];
    lode_config_t *config =
        parse_config("steps = 10; validation = { corpus = \"v\"; every = 5; };");
    lode_train_record_t record;
    lode_store_t *store;
    snprintf(path, sizeof path, "%s/record.h5", lode_test_temporary());
    LODE_ASSERT_OK(lode_train_record_create(&record, config, 3));
    know(&record, 8);
    record.loss[1] = 5.5;
    record.error[1] = 0.5;
    record.entropy[4] = 4.5;
    LODE_ASSERT_OK(lode_store_create(&store, &alone, path));
    LODE_ASSERT_OK(lode_train_record_datasets(store, &record));
    lode_train_record_write(store, &record);
    LODE_ASSERT_OK(lode_store_commit(&store));
    lode_train_record_free(&record);
    lode_config_destroy(&config);

    config = parse_config(train);
    LODE_ASSERT_OK(lode_train_record_create(&record, config, 3));
    LODE_ASSERT_OK(lode_store_open(&store, &alone, path));
    LODE_ASSERT_OK(lode_train_record_take(&record, store, validated));
    lode_store_close(&store);
    for (int64_t s = 0; s < record.steps; s++) {
        assert_int_equal(isnan(record.curve[1][s]) ? 0 : 1, s < curve);
        assert_true(s >= curve || record.curve[1][s] == 10 + (double)s);
    }
    const int64_t five = lode_train_record_validation(&record, 5);
    for (int64_t i = 0; i < record.validations; i++)
        assert_true(i == five && at_5 > 0 ? record.loss[i] == at_5 && record.error[i] == 0.5 &&
                                                record.entropy[3 * i + 1] == 4.5
                                          : isnan(record.loss[i]));
    lode_train_record_free(&record);
    lode_config_destroy(&config);
    assert_int_equal(unlink(path), 0);
}

static void test_taken(void **state) {
    (void)state;
    check_taken("steps = 10; validation = { corpus = \"v\"; every = 5; };", true, 8, 5.5);
    check_taken("steps = 10; validation = { corpus = \"v\"; every = 5; };", false, 8, 0);
    check_taken("steps = 20; validation = { corpus = \"v\"; every = 1; };", true, 8, 5.5);
    check_taken("steps = 5; validation = { corpus = \"v\"; };", true, 5, 5.5);
    check_taken("steps = 6; validation = { corpus = \"v\"; every = 4; };", true, 6, 0);
    check_taken("steps = 3;", true, 3, 0);
}

/* --- the state ------------------------------------------------------------------------------ */

static const char model[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 16, \"intermediate_size\": 24, "
    "\"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"vocab_size\": 50, \"max_position_embeddings\": 32, \"rms_norm_eps\": 1e-05, "
    "\"hidden_act\": \"silu\", \"tie_word_embeddings\": %s}";

/* One rank's part of a training, with numbers that tell where they belong. */
typedef struct part {
    lode_layout_t layout;
    lode_train_share_t share;
    lode_train_record_t record;
} part_t;

static float value(int array, int64_t tensor, int64_t element) {
    return (float)(1 + array + 3 * (element + 5000 * tensor));
}

static void create_part(part_t *part, const lode_architecture_t *architecture,
                        const lode_config_t *config, int size, int rank, int replicas) {
    lode_train_share_t *share = &part->share;
    LODE_ASSERT_OK(lode_layout_create(&part->layout, architecture, 32, size, rank, replicas));
    LODE_ASSERT_OK(lode_parameters_create(&share->parameters, architecture, &part->layout));
    LODE_ASSERT_OK(lode_train_record_create(&part->record, config, architecture->layers));
    /* Shards that begin and end anywhere. */
    const int64_t all = share->parameters->elements;
    const int replica = part->layout.replica < 0 ? 0 : part->layout.replica;
    share->moments.begin = all * replica / replicas;
    share->moments.end = all * (replica + 1) / replicas;
    const int64_t mine = share->moments.end - share->moments.begin;
    LODE_ASSERT_OK(LODE_NEW(&share->moments.first, mine, "moments"));
    LODE_ASSERT_OK(LODE_NEW(&share->moments.second, mine, "moments"));
}

static void free_part(part_t *part) {
    lode_parameters_destroy(&part->share.parameters);
    lode_train_record_free(&part->record);
    free(part->share.moments.first);
    free(part->share.moments.second);
}

static void fill_part(part_t *part) {
    const lode_parameters_t *parameters = part->share.parameters;
    const lode_trainer_moments_t *moments = &part->share.moments;
    for (int64_t p = 0; p < parameters->count; p++) {
        const lode_parameter_t *parameter = &parameters->list[p];
        for (int64_t i = 0; i < parameter->elements; i++) {
            const int64_t flat = parameter->offset + i;
            parameters->weights[flat] = value(0, parameter->index, i);
            moments->first[flat - moments->begin] = value(1, parameter->index, i);
            moments->second[flat - moments->begin] = value(2, parameter->index, i);
        }
    }
    for (int c = 0; c < LODE_TRAIN_CURVES; c++)
        for (int64_t s = 0; s < 6; s++)
            part->record.curve[c][s] = 100 * c + (double)s;
    part->record.loss[0] = 7.5;
    part->record.entropy[2] = 1.25;
}

static void assert_part(const part_t *part) {
    const lode_parameters_t *parameters = part->share.parameters;
    const lode_trainer_moments_t *moments = &part->share.moments;
    for (int64_t p = 0; p < parameters->count; p++) {
        const lode_parameter_t *parameter = &parameters->list[p];
        for (int64_t i = 0; i < parameter->elements; i++) {
            const int64_t flat = parameter->offset + i;
            assert_true(parameters->weights[flat] == value(0, parameter->index, i));
            if (flat < moments->begin || flat >= moments->end)
                continue;
            assert_true(moments->first[flat - moments->begin] == value(1, parameter->index, i));
            assert_true(moments->second[flat - moments->begin] == value(2, parameter->index, i));
        }
    }
    assert_true(part->record.curve[2][5] == 205 && isnan(part->record.curve[2][6]));
    assert_true(part->record.loss[0] == 7.5 && isnan(part->record.loss[1]));
    assert_true(part->record.entropy[2] == 1.25);
}

/* The plan of a state's file is what it takes, but for some attributes. */
static void check_bytes(const part_t *part, const char *folder) {
    struct stat info;
    char *path;
    int64_t bytes;
    LODE_ASSERT_OK(lode_train_state_path(&path, folder, LODE_TRAIN_LATEST));
    assert_int_equal(stat(path, &info), 0);
    free(path);
    LODE_ASSERT_OK(
        lode_train_state_bytes(&bytes, &part->share.parameters->inventory, &part->record));
    assert_true(bytes > info.st_size - 20000 && bytes < info.st_size + 80000); /* of blocks */
    assert_true(bytes > 12 * part->share.parameters->elements);
}

static void check_states(const char *tied) {
    const lode_comm_t alone = lode_comm_alone();
    lode_config_t *config = parse_config("steps = 10; checkpoints = [ 3 ]; "
                                         "validation = { corpus = \"v.txt\"; };");
    char *folder = NULL, text[1024];
    lode_architecture_t architecture;
    part_t whole, part;
    lode_train_course_t course;
    int64_t step;
    LODE_ASSERT_OK(lode_strdup(&folder, lode_test_temporary()));
    lode_run_t run = {.comm = &alone, .config = config, .folder = folder};
    snprintf(course.weights, LODE_DIGEST_TEXT, "%032d", 1);
    snprintf(course.validation, LODE_DIGEST_TEXT, "%032d", 2);
    snprintf(text, sizeof text, model, tied);
    LODE_ASSERT_OK(lode_architecture_parse(&architecture, text, strlen(text), "config.json"));

    create_part(&whole, &architecture, config, 1, 0, 1);
    LODE_ASSERT_OK(lode_train_state_find(&run, LODE_TRAIN_LATEST, &course, &whole.record, &step));
    assert_int_equal(step, -1); /* there is none */
    fill_part(&whole);
    LODE_ASSERT_OK(
        lode_train_state_save(&run, LODE_TRAIN_LATEST, &course, &whole.share, &whole.record, 6));
    LODE_ASSERT_OK(
        lode_train_state_save(&run, LODE_TRAIN_EARLIER, &course, &whole.share, &whole.record, 2));
    check_bytes(&whole, folder);

    for (int size = 1; size <= 5; size++)
        for (int replicas = 1; replicas <= 2 && replicas <= size; replicas++)
            for (int rank = 0; rank < size; rank++) {
                create_part(&part, &architecture, config, size, rank, replicas);
                LODE_ASSERT_OK(
                    lode_train_state_find(&run, LODE_TRAIN_LATEST, &course, &part.record, &step));
                assert_int_equal(step, 6);
                LODE_ASSERT_OK(lode_train_state_load(&run, LODE_TRAIN_LATEST, &part.share, 6));
                assert_part(&part);
                free_part(&part);
            }
    LODE_ASSERT_OK(lode_train_state_find(&run, LODE_TRAIN_EARLIER, &course, &whole.record, &step));
    assert_int_equal(step, 2);
    LODE_ASSERT_FAILS(lode_train_state_load(&run, LODE_TRAIN_EARLIER, &whole.share, 6),
                      LODE_ERR_FORMAT, "is of step 2");

    /* Weights that are no numbers do not take the place of some that are. */
    whole.share.parameters->weights[whole.share.parameters->list[2].offset] = NAN;
    assert_int_equal(
        lode_train_state_save(&run, LODE_TRAIN_LATEST, &course, &whole.share, &whole.record, 7),
        LODE_ERR_NUMERIC);
    LODE_ASSERT_OK(lode_train_state_find(&run, LODE_TRAIN_LATEST, &course, &whole.record, &step));
    assert_int_equal(step, 6);

    /* Validations of another text are not taken, and nothing of other weights, or with --force. */
    create_part(&part, &architecture, config, 1, 0, 1);
    course.validation[0] = '5';
    LODE_ASSERT_OK(lode_train_state_find(&run, LODE_TRAIN_LATEST, &course, &part.record, &step));
    assert_int_equal(step, 6);
    assert_true(isnan(part.record.loss[0]) && part.record.curve[2][5] == 205);
    free_part(&part);
    run.force = true;
    LODE_ASSERT_OK(lode_train_state_find(&run, LODE_TRAIN_LATEST, &course, &whole.record, &step));
    assert_int_equal(step, -1);
    run.force = false;
    course.weights[0] = '5';
    LODE_ASSERT_OK(lode_train_state_find(&run, LODE_TRAIN_LATEST, &course, &whole.record, &step));
    assert_int_equal(step, -1);
    lode_train_tidy(folder, true);
    course.weights[0] = '0';
    LODE_ASSERT_OK(lode_train_state_find(&run, LODE_TRAIN_LATEST, &course, &whole.record, &step));
    assert_int_equal(step, 6);
    lode_train_tidy(folder, false);
    assert_int_equal(rmdir(folder), 0); /* nothing is left */
    assert_int_equal(lode_directory_create(folder), LODE_OK);
    free_part(&whole);
    free(folder);
    lode_config_destroy(&config);
}

static void test_state(void **state) {
    (void)state;
    check_states("false");
}

static void test_state_tied(void **state) {
    (void)state;
    check_states("true");
}

/* A folder where a state goes is refused before there is anything to lose. */
static void test_state_place(void **state) {
    static const char *const names[] = {"train-state.h5", "train-state-earlier.h5"};
    const char *folder = lode_test_temporary();
    (void)state;
    LODE_ASSERT_OK(lode_train_state_check(folder));
    for (int i = 0; i < 2; i++) {
        char *path;
        LODE_ASSERT_OK(lode_path_join(&path, folder, names[i]));
        LODE_ASSERT_OK(lode_file_write_atomic(path, "a", 1)); /* finding it says what it is */
        LODE_ASSERT_OK(lode_train_state_check(folder));
        assert_int_equal(unlink(path), 0);
        LODE_ASSERT_OK(lode_directory_create(path));
        LODE_ASSERT_FAILS(lode_train_state_check(folder), LODE_ERR_IO,
                          "is a folder, where training keeps its state; move it elsewhere");
        assert_int_equal(rmdir(path), 0);
        free(path);
    }
}

/* --- folders -------------------------------------------------------------------------------- */

static void write_bytes(const char *folder, const char *name, const char *data, size_t size) {
    char *path;
    LODE_ASSERT_OK(lode_path_join(&path, folder, name));
    LODE_ASSERT_OK(lode_file_write_atomic(path, data, size));
    free(path);
}

static void remove_file(const char *folder, const char *name) {
    char *path;
    LODE_ASSERT_OK(lode_path_join(&path, folder, name));
    assert_int_equal(unlink(path), 0);
    free(path);
}

static int64_t folder_bytes(const lode_run_t *run, const lode_inventory_t *inventory) {
    lode_train_folders_t folders;
    int64_t bytes;
    LODE_ASSERT_OK(lode_train_folders_create(&folders, run, NULL, inventory, "", LODE_DTYPE_BF16));
    LODE_ASSERT_OK(lode_train_folder_bytes(&bytes, &folders));
    lode_train_folders_free(&folders);
    return bytes;
}

/* What lies beside the weights counts as it is, and not the tokenizer whose place another takes. */
static void test_folder_bytes(void **state) {
    enum { LARGE = 9 << 20, SMALL = 5 << 20, SLACK = 1 << 16 };
    const char *folder = lode_test_temporary();
    char json[1024], *source = NULL, *result = NULL, *large;
    lode_inventory_t inventory;
    (void)state;
    LODE_ASSERT_OK(lode_path_join(&source, folder, "source"));
    LODE_ASSERT_OK(lode_path_join(&result, folder, "result"));
    LODE_ASSERT_OK(lode_directory_create(source));
    LODE_ASSERT_OK(lode_directory_create(result));
    LODE_ASSERT_OK(LODE_NEW(&large, LARGE, "a file"));
    snprintf(json, sizeof json, model, "true");
    write_bytes(source, "config.json", json, strlen(json));
    write_bytes(source, "tokenizer.json", large, LARGE);
    write_bytes(source, "model.safetensors", large, LARGE); /* not copied */
    write_bytes(result, "tokenizer.json", large, SMALL);

    lode_config_t *plain = parse_config("steps = 2; from = \"scratch\";");
    lode_config_t *own =
        parse_config("steps = 2; from = \"scratch\"; tokenizer = { vocabulary = 300; };");
    lode_config_model_t entry = {.path = source};
    lode_run_t run = {.config = plain, .model = &entry, .folder = result};
    LODE_ASSERT_OK(lode_architecture_parse(&run.architecture, json, strlen(json), "config.json"));
    LODE_ASSERT_OK(lode_inventory_create(&inventory, &run.architecture, LODE_DTYPE_BF16));
    const int64_t kept = folder_bytes(&run, &inventory) - inventory.bytes;
    assert_true(kept > LARGE && kept < LARGE + SLACK);
    run.config = own;
    const int64_t made = folder_bytes(&run, &inventory) - inventory.bytes;
    assert_true(made > SMALL && made < SMALL + SLACK);

    lode_inventory_free(&inventory);
    lode_config_destroy(&plain);
    lode_config_destroy(&own);
    remove_file(source, "config.json");
    remove_file(source, "tokenizer.json");
    remove_file(source, "model.safetensors");
    remove_file(result, "tokenizer.json");
    assert_int_equal(rmdir(source) + rmdir(result), 0);
    free(source);
    free(result);
    free(large);
}

static void test_size_text(void **state) {
    char text[LODE_SIZE_TEXT];
    (void)state;
    assert_string_equal(lode_size_text(text, 0), "0 B");
    assert_string_equal(lode_size_text(text, 999), "999 B");
    assert_string_equal(lode_size_text(text, 3145728), "3.15 MB");
    assert_string_equal(lode_size_text(text, 123456789012.0), "123.5 GB");
    assert_string_equal(lode_size_text(text, 5e15), "5000.0 TB");
}

/* --- what is said --------------------------------------------------------------------------- */

/* Of a training of eight micro-batches a step; three layers and the head are four parts of a
 * pipeline. replicas: 0, those that it chooses itself; else as if it had chosen so many. */
static void assert_layout(int groups, const char *general, int size, int replicas,
                          const char *want) {
    char json[1024], keys[128];
    snprintf(keys, sizeof keys, "steps = 2; length = 16; batch = 8; groups = %d;", groups);
    lode_config_t *config = parse_experiment(keys, general);
    lode_run_t run = {.config = config};
    lode_buffer_t text = {0};
    lode_layout_t layout;
    snprintf(json, sizeof json, model, "true");
    LODE_ASSERT_OK(lode_architecture_parse(&run.architecture, json, strlen(json), "config.json"));
    if (replicas > 0)
        LODE_ASSERT_OK(lode_layout_create(&layout, &run.architecture, 16, size, 0, replicas));
    else
        LODE_ASSERT_OK(lode_train_layout(&layout, &run, 100, size, 0));
    LODE_ASSERT_OK(lode_train_remark_layout(&text, &run, &layout, size));
    assert_string_equal(text.data, want);
    lode_buffer_free(&text);
    lode_config_destroy(&config);
}

static void test_layout(void **state) {
    static const char shares[] = "micro_batch = 16;";
    (void)state;
    assert_layout(1, shares, 1, 0, "3 layers over 1 rank");
    assert_layout(1, shares, 4, 0, "3 layers over 4 ranks");
    assert_layout(8, shares, 8, 0, "3 layers over 1 rank, in 8 replicas that share the sequences");
    assert_layout(4, shares, 8, 0, "3 layers over 2 ranks, in 4 replicas that share the sequences");
    assert_layout(1, shares, 8, 0,
                  "3 layers over 4 ranks; 4 ranks idle; train.groups = 2 would have more of them "
                  "work");
    assert_layout(8, shares, 64, 0,
                  "3 layers over 4 ranks, in 8 replicas that share the sequences; 32 ranks idle; "
                  "train.groups = 16 would have more of them work, and takes a multiple of 16 "
                  "micro-batches a step, where train.batch and micro_batch make 8");
    assert_layout(8, shares, 5, 0,
                  "3 layers over 1 rank, in 4 replicas that share the sequences; 1 rank idles; 4 "
                  "ranks would do");
    assert_layout(4, shares, 6, 1,
                  "3 layers over 4 ranks; 2 ranks idle; memory for 2 replicas would have more of "
                  "them work");
    assert_layout(4, "micro_batch = 16; replicas = 1;", 8, 0,
                  "3 layers over 4 ranks; 4 ranks idle; replicas = 2 would have more of them work");
    assert_layout(1, "micro_batch = 16; replicas = 1;", 8, 0,
                  "3 layers over 4 ranks; 4 ranks idle; replicas = 2 and train.groups = 2 would "
                  "have more of them work");
}

/* A training whose losses begin at 7.6 and end as given. */
static void assert_rise(const char *keys, double end, double noise, double before, double after,
                        const char *want) {
    lode_config_t *config = parse_config(keys);
    lode_train_record_t record;
    lode_buffer_t text = {0};
    LODE_ASSERT_OK(lode_train_record_create(&record, config, 3));
    for (int64_t s = 0; s < record.steps; s++)
        record.curve[LODE_TRAIN_LOSS][s] = s == 0 ? 7.6 : end + (s % 2 ? noise : -noise);
    for (int64_t i = 0; i < record.validations; i++)
        record.loss[i] = i == 0 ? before : i + 1 < record.validations ? 1e3 : after;
    LODE_ASSERT_OK(lode_train_remark_rise(&text, &record));
    assert_string_equal(text.data ? text.data : "", want);
    lode_buffer_free(&text);
    lode_train_record_free(&record);
    lode_config_destroy(&config);
}

static void test_rise(void **state) {
    static const char validated[] = "steps = 100; validation = { corpus = \"v\"; every = 50; };";
    (void)state;
    assert_rise(
        "steps = 100;", 127, 20, 0, 0,
        "the loss was 7.6000 at the first step, and is 127.0000 in the mean of the last 10; "
        "lower train.learning_rate, or raise train.warmup");
    assert_rise("steps = 30;", 127, 0, 0, 0,
                "the loss was 7.6000 at the first step, and is 127.0000 in the mean of the last 5; "
                "lower train.learning_rate, or raise train.warmup");
    assert_rise("steps = 100;", 7.5, 0, 0, 0, "");
    assert_rise("steps = 100;", 7.7, 0.2, 0, 0, ""); /* sequences differ as much */
    assert_rise("steps = 1;", 7.7, 0, 0, 0, "");
    assert_rise(validated, 5, 0, 7.5, 5.5, "");
    assert_rise(validated, 127, 0, 7.5, 130,
                "the validation loss was 7.5000 before the first step, and is 130.0000 after the "
                "last one; lower train.learning_rate, or raise train.warmup");
    assert_rise(
        validated, 2, 0, 7.5, 7.75,
        "the validation loss was 7.5000 before the first step, and is 7.7500 after the last "
        "one, while the training loss fell from 7.6000 to 2.0000; take fewer train.steps "
        "or more text, or lower train.learning_rate");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slabs),       cmocka_unit_test(test_due),
        cmocka_unit_test(test_missing),     cmocka_unit_test(test_taken),
        cmocka_unit_test(test_state),       cmocka_unit_test(test_state_tied),
        cmocka_unit_test(test_state_place), cmocka_unit_test(test_layout),
        cmocka_unit_test(test_rise),        cmocka_unit_test(test_folder_bytes),
        cmocka_unit_test(test_size_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
