#include "tokenize/tokenize.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "tokenize/superweight.h"
#include "tokenize/tasks.h"
#include "tokenize/work.h"

/* What becomes datasets; filled on rank 0. */
typedef struct output {
    lode_ids_t calibration;
    lode_tokenized_t *perplexity; /* [evaluate.perplexity_count] */
    lode_task_ids_t *tasks;       /* [evaluate.task_count] */
    lode_ids_t probe;
    lode_superweight_ids_t superweight;
    lode_training_ids_t training;
} output_t;

static void free_output(output_t *output, const lode_config_t *config) {
    lode_ids_free(&output->calibration);
    for (int64_t i = 0; output->perplexity && i < config->evaluate.perplexity_count; i++)
        lode_tokenized_free(&output->perplexity[i]);
    free(output->perplexity);
    for (int64_t i = 0; output->tasks && i < config->evaluate.task_count; i++)
        lode_task_ids_free(&output->tasks[i]);
    free(output->tasks);
    lode_ids_free(&output->probe);
    lode_superweight_ids_free(&output->superweight);
    lode_ids_free(&output->training.train);
    lode_ids_free(&output->training.validation);
}

/* --- encoding ------------------------------------------------------------------------------- */

/* Every rank needs the tokenizer; one reads the file. Collective. */
static lode_status_t load_tokenizer(lode_tokenizer_t **tokenizer, const lode_run_t *run) {
    const char *path = run->tokenizer;
    char *json = NULL;
    size_t size = 0;
    *tokenizer = NULL;
    lode_status_t status = run->comm->rank == 0 ? lode_file_read(&json, &size, path) : LODE_OK;
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK)
        status = lode_comm_share(run->comm, &json, &size, 0, LODE_OK);
    if (status == LODE_OK)
        status = lode_comm_agree(run->comm, lode_tokenizer_parse(tokenizer, json, size, path));
    free(json);
    if (status != LODE_OK) {
        lode_tokenizer_destroy(tokenizer);
        return status;
    }
    if (run->comm->rank == 0 && lode_tokenizer_vocab_size(*tokenizer) > run->architecture.vocab)
        lode_log_warning(
            "%s has %lld tokens, the model %lld; ids beyond the model's will be refused", path,
            (long long)lode_tokenizer_vocab_size(*tokenizer), (long long)run->architecture.vocab);
    return LODE_OK;
}

/* Every id must have its row of the embedding. */
static lode_status_t check_id(int32_t id, const lode_run_t *run) {
    if (id >= 0 && id < run->architecture.vocab)
        return LODE_OK;
    return lode_fail(LODE_ERR_FORMAT,
                     "%s: gives token id %d, but the model's vocabulary has %lld; the tokenizer "
                     "belongs to another model",
                     run->tokenizer, (int)id, (long long)run->architecture.vocab);
}

static lode_status_t check_ids(const lode_ids_t *ids, const lode_run_t *run) {
    for (int64_t i = 0; i < ids->count; i++)
        LODE_TRY(check_id(ids->id[i], run));
    return LODE_OK;
}

static lode_status_t encode_training(output_t *output, const lode_run_t *run,
                                     const lode_crew_t *crew) {
    LODE_TRY(lode_tokenize_training(&output->training, run, crew));
    LODE_TRY(check_ids(&output->training.train, run));
    return check_ids(&output->training.validation, run);
}

/* What the stages that need weights work on. */
static lode_status_t encode_measured(output_t *output, const lode_run_t *run,
                                     const lode_crew_t *crew) {
    const lode_config_t *config = run->config;
    const lode_config_evaluate_t *evaluate = &config->evaluate;
    LODE_TRY(lode_tokenize_calibration(&output->calibration, run, crew));
    LODE_TRY(check_ids(&output->calibration, run));
    for (int64_t i = 0; i < evaluate->perplexity_count; i++) {
        lode_tokenized_t *text = &output->perplexity[i];
        LODE_TRY(lode_tokenize_perplexity(text, run, &evaluate->perplexity[i], crew));
        LODE_TRY(check_ids(&text->ids, run));
        LODE_TRY(check_id(text->prefix >= 0 ? text->prefix : 0, run));
    }
    for (int64_t i = 0; i < evaluate->task_count; i++) {
        LODE_TRY(lode_tokenize_task(&output->tasks[i], run, &evaluate->tasks[i], crew));
        LODE_TRY(check_ids(&output->tasks[i].ids, run));
    }
    if (lode_tokenize_has_probe(config))
        LODE_TRY(lode_tokenize_probe(&output->probe, &config->probe, crew));
    LODE_TRY(check_ids(&output->probe, run));
    if (!lode_tokenize_has_superweight(config))
        return LODE_OK;
    LODE_TRY(lode_tokenize_superweight(&output->superweight, run, crew));
    LODE_TRY(check_ids(&output->superweight.prompts, run));
    LODE_TRY(check_ids(&output->superweight.texts, run));
    return check_ids(&output->superweight.words, run);
}

/* On rank 0, the others serving. */
static lode_status_t encode_all(output_t *output, const lode_run_t *run, const lode_crew_t *crew) {
    if (lode_config_is_trained(run->config, run->model))
        LODE_TRY(encode_training(output, run, crew));
    return run->checkpoint ? encode_measured(output, run, crew) : LODE_OK;
}

/* Collective. */
static lode_status_t make_output(output_t *output, const lode_run_t *run) {
    lode_tokenizer_t *tokenizer;
    lode_status_t status =
        LODE_NEW(&output->perplexity, run->config->evaluate.perplexity_count, "ids");
    if (status == LODE_OK)
        status = LODE_NEW(&output->tasks, run->config->evaluate.task_count, "ids");
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK)
        status = load_tokenizer(&tokenizer, run);
    if (status != LODE_OK)
        return status;
    const lode_crew_t crew = {.comm = run->comm, .tokenizer = tokenizer};
    if (run->comm->rank == 0) {
        status = encode_all(output, run, &crew);
        lode_crew_dismiss(&crew);
    } else {
        lode_crew_serve(&crew);
    }
    lode_tokenizer_destroy(&tokenizer);
    return lode_comm_agree(run->comm, status);
}

/* --- writing -------------------------------------------------------------------------------- */

lode_status_t lode_tokenize_put(lode_store_t *store, const lode_run_t *run, const char *name,
                                lode_type_t type, int64_t count, const void *data) {
    LODE_TRY(lode_comm_broadcast(run->comm, &count, sizeof count, 0));
    return lode_store_put(store, name, type, 1, &count, data);
}

/* <group>/ids and <group>/offsets. */
static lode_status_t put_ids(lode_store_t *store, const lode_run_t *run, const char *group,
                             const lode_ids_t *ids) {
    char name[512];
    snprintf(name, sizeof name, "%s/ids", group);
    LODE_TRY(lode_tokenize_put(store, run, name, LODE_TYPE_I32, ids->count, ids->id));
    snprintf(name, sizeof name, "%s/offsets", group);
    return lode_tokenize_put(store, run, name, LODE_TYPE_I64, ids->sequences + 1, ids->offset);
}

/* What a perplexity's group says of its ids. Rank 0's values count. */
static lode_status_t put_text(lode_store_t *store, const lode_run_t *run, const char *name,
                              const lode_tokenized_t *text) {
    char group[512];
    snprintf(group, sizeof group, "/perplexity/%s", name);
    LODE_TRY(put_ids(store, run, group, &text->ids));
    LODE_TRY(lode_store_attribute_i64(store, group, "bos", text->bos));
    LODE_TRY(lode_store_attribute_i64(store, group, "prefix", text->prefix));
    LODE_TRY(lode_store_attribute_i64(store, group, "words", text->words));
    return lode_store_attribute_i64(store, group, "bytes", text->bytes);
}

static lode_status_t put_superweight(lode_store_t *store, const lode_run_t *run,
                                     const lode_superweight_ids_t *ids) {
    LODE_TRY(put_ids(store, run, "/superweight", &ids->prompts));
    if (!lode_tokenize_has_stopwords(run->config))
        return LODE_OK;
    LODE_TRY(put_ids(store, run, "/superweight/texts", &ids->texts));
    LODE_TRY(put_ids(store, run, "/superweight/stopwords", &ids->words));
    return lode_tokenize_put(store, run, "/superweight/stopwords/words", LODE_TYPE_U8,
                             (int64_t)ids->list.length, ids->list.data);
}

static lode_status_t put_training(lode_store_t *store, const lode_run_t *run,
                                  const lode_training_ids_t *ids) {
    const int64_t length = run->config->train.length;
    LODE_TRY(lode_tokenize_put(store, run, "/train/ids", LODE_TYPE_I32, ids->train.count,
                               ids->train.id));
    LODE_TRY(lode_tokenize_put(store, run, "/validation/ids", LODE_TYPE_I32, ids->validation.count,
                               ids->validation.id));
    LODE_TRY(lode_store_attribute_i64(store, "/", "train_length", length));
    LODE_TRY(lode_store_attribute_i64(store, "/", "train_sequences", ids->train.count / length));
    return lode_store_attribute_i64(store, "/", "validation_sequences",
                                    ids->validation.count / length);
}

static lode_status_t write_measured(lode_store_t *store, const lode_run_t *run,
                                    const output_t *output) {
    const lode_config_evaluate_t *evaluate = &run->config->evaluate;
    LODE_TRY(put_ids(store, run, "/calibration", &output->calibration));
    for (int64_t i = 0; i < evaluate->perplexity_count; i++)
        LODE_TRY(put_text(store, run, evaluate->perplexity[i].name, &output->perplexity[i]));
    for (int64_t i = 0; i < evaluate->task_count; i++)
        LODE_TRY(lode_tokenize_put_task(store, run, evaluate->tasks[i].name, &output->tasks[i]));
    if (lode_tokenize_has_probe(run->config))
        LODE_TRY(put_ids(store, run, "/probe", &output->probe));
    return lode_tokenize_has_superweight(run->config)
               ? put_superweight(store, run, &output->superweight)
               : LODE_OK;
}

static lode_status_t write_output(lode_store_t *store, const lode_run_t *run,
                                  const output_t *output) {
    if (lode_config_is_trained(run->config, run->model))
        LODE_TRY(put_training(store, run, &output->training));
    return run->checkpoint ? write_measured(store, run, output) : LODE_OK;
}

/* --- the stage ------------------------------------------------------------------------------ */

lode_status_t lode_stage_tokenize(lode_run_t *run) {
    output_t output = {0};
    lode_store_t *store = NULL;
    lode_status_t status = make_output(&output, run);
    if (status == LODE_OK)
        status = lode_run_create(&store, run, LODE_STAGE_TOKENIZE);
    if (status == LODE_OK) {
        status = write_output(store, run, &output);
        status = lode_run_finish(&store, run, LODE_STAGE_TOKENIZE, status);
    }
    if (status == LODE_OK && run->checkpoint)
        lode_log_info("tokenize: %lld calibration sequences, %lld tokens",
                      (long long)output.calibration.sequences, (long long)output.calibration.count);
    if (status == LODE_OK && lode_config_is_trained(run->config, run->model))
        lode_log_info("tokenize: %lld tokens to train on, %lld to validate on",
                      (long long)output.training.train.count,
                      (long long)output.training.validation.count);
    free_output(&output, run->config);
    return status;
}
