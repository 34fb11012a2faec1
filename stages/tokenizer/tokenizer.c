#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"
#include "text/bpe_train.h"
#include "text/tokenizer.h"

enum { BOS = 1, EOS = 2 }; /* of every tokenizer that is trained */

static const char digest_name[] = "digest";

/* What is said of the tokenizer; the same on all ranks. */
typedef struct outcome {
    lode_bpe_size_t size;
    int64_t texts;
    char digest[LODE_DIGEST_TEXT]; /* of tokenizer.json */
} outcome_t;

/* The numbers that config.json has for the model must be those of the tokenizer. */
static lode_status_t check_model(const lode_run_t *run) {
    const lode_architecture_t *model = &run->architecture;
    const int64_t vocabulary = run->config->train.tokenizer.vocabulary;
    if (vocabulary > model->vocab)
        return lode_fail(LODE_ERR_CONFIG,
                         "train.tokenizer.vocabulary = %lld is above the vocab_size %lld of "
                         "%s/config.json; lower the one or raise the other",
                         (long long)vocabulary, (long long)model->vocab, run->model->path);
    if ((model->bos < 0 || model->bos == BOS) && (model->eos < 0 || model->eos == EOS))
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s/config.json: a tokenizer that is trained begins texts with token %d, and "
                     "%d ends them; set bos_token_id and eos_token_id to these (they are %d and "
                     "%d)",
                     run->model->path, BOS, EOS, (int)model->bos, (int)model->eos);
}

/* Writes tokenizer.json, and only what the stages that follow can read. */
static lode_status_t write_tokenizer(char digest[LODE_DIGEST_TEXT],
                                     const lode_bpe_trained_t *trained, const char *path) {
    lode_buffer_t json = {0};
    lode_tokenizer_t *tokenizer = NULL;
    lode_status_t status = lode_bpe_trained_write(trained, &json);
    if (status == LODE_OK)
        status = lode_tokenizer_parse(&tokenizer, json.data, json.length, path);
    lode_tokenizer_destroy(&tokenizer);
    if (status == LODE_OK)
        status = lode_hash_bytes(digest, json.data, json.length);
    if (status == LODE_OK)
        status = lode_file_write_atomic(path, json.data, json.length);
    lode_buffer_free(&json);
    return status;
}

/* By rank 0. */
static lode_status_t train(lode_bpe_trained_t **trained, outcome_t *outcome,
                           const lode_run_t *run) {
    const lode_config_train_t *config = &run->config->train;
    lode_corpus_t *corpus;
    LODE_TRY(check_model(run));
    LODE_TRY(
        lode_corpus_read(&corpus, config->corpus, config->format, LODE_CORPUS_ROWS, config->field));
    const lode_bpe_setting_t setting =
        lode_bpe_setting(config->tokenizer.vocabulary, config->tokenizer.sample, run->config->seed);
    lode_status_t status = lode_bpe_train(trained, corpus, setting, config->corpus);
    outcome->texts = lode_corpus_count(corpus);
    lode_corpus_destroy(&corpus);
    if (status == LODE_OK) {
        outcome->size = lode_bpe_trained_size(*trained);
        status = write_tokenizer(outcome->digest, *trained, run->tokenizer);
    }
    return status;
}

/* Rank 0 has the merges. Collective. */
static lode_status_t write_counts(lode_store_t *store, const lode_run_t *run,
                                  const lode_bpe_trained_t *trained, int64_t merges) {
    const int64_t offset = 0;
    int64_t *counts = NULL;
    LODE_TRY(lode_store_dataset(store, "/merges/count", LODE_TYPE_I64, 1, &merges, false));
    if (run->comm->rank != 0 || merges == 0)
        return LODE_OK;
    LODE_TRY(LODE_NEW_RAW(&counts, merges, "counts of merges"));
    for (int64_t i = 0; i < merges; i++)
        counts[i] = lode_bpe_trained_merge(trained, i).count;
    const lode_status_t status = lode_store_write(store, "/merges/count", &offset, &merges, counts);
    free(counts);
    return status;
}

/* Collective. */
static lode_status_t write_store(lode_store_t *store, const lode_run_t *run,
                                 const lode_bpe_trained_t *trained, const outcome_t *outcome) {
    const lode_bpe_size_t *size = &outcome->size;
    const struct {
        const char *name;
        int64_t value;
    } attributes[] = {{"vocabulary", size->tokens}, {"alphabet", size->alphabet},
                      {"merges", size->merges},     {"texts", outcome->texts},
                      {"lines", size->lines},       {"bytes", size->bytes},
                      {"words", size->words}};
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        LODE_TRY(lode_store_attribute_i64(store, "/", attributes[i].name, attributes[i].value));
    LODE_TRY(lode_store_attribute_text(store, "/", digest_name, outcome->digest));
    return lode_comm_agree(run->comm, write_counts(store, run, trained, size->merges));
}

lode_status_t lode_stage_tokenizer(lode_run_t *run) {
    lode_bpe_trained_t *trained = NULL;
    lode_store_t *store = NULL;
    outcome_t outcome = {0};
    const double start = lode_time();
    lode_status_t status = lode_run_create(&store, run, LODE_STAGE_TOKENIZER);
    if (status == LODE_OK) {
        status = lode_comm_agree(run->comm,
                                 run->comm->rank == 0 ? train(&trained, &outcome, run) : LODE_OK);
        if (status == LODE_OK)
            status = lode_comm_broadcast(run->comm, &outcome, sizeof outcome, 0);
        if (status == LODE_OK)
            status = write_store(store, run, trained, &outcome);
        status = lode_run_finish(&store, run, LODE_STAGE_TOKENIZER, status);
    }
    if (status == LODE_OK)
        lode_log_info("tokenizer: %lld tokens of %lld bytes of text, %.1f s",
                      (long long)outcome.size.tokens, (long long)outcome.size.bytes,
                      lode_time() - start);
    lode_bpe_trained_destroy(&trained);
    return status;
}

/* The digest that the stage's file has; "" where it has none. */
static void find_digest(char digest[LODE_DIGEST_TEXT], const lode_run_t *run) {
    const lode_comm_t alone = lode_comm_alone();
    lode_store_t *store = NULL;
    char *path = NULL, *text = NULL;
    *digest = '\0';
    if (lode_run_path(&path, run, LODE_STAGE_TOKENIZER) == LODE_OK &&
        lode_store_open(&store, &alone, path) == LODE_OK &&
        lode_store_has_attribute(store, "/", digest_name) &&
        lode_store_get_attribute_text(store, "/", digest_name, &text) == LODE_OK)
        snprintf(digest, LODE_DIGEST_TEXT, "%s", text);
    lode_store_close(&store);
    free(text);
    free(path);
}

bool lode_tokenizer_present(const lode_run_t *run) {
    char wanted[LODE_DIGEST_TEXT], found[LODE_DIGEST_TEXT] = "";
    lode_mapping_t mapping;
    if (!lode_file_exists(run->tokenizer))
        return false;
    find_digest(wanted, run);
    if (lode_file_map(&mapping, run->tokenizer) == LODE_OK) {
        if (lode_hash_bytes(found, mapping.data, mapping.size) != LODE_OK)
            *found = '\0';
        lode_file_unmap(&mapping);
    }
    if (*found && strcmp(found, wanted) == 0)
        return true;
    lode_log_warning("tokenizer: %s is not as it was written; it is made again (one of your own "
                     "goes into the folder of the model, without train.tokenizer)",
                     run->tokenizer);
    return false;
}
