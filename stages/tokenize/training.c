#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "tokenize/work.h"

/* A text that sequences of training are cut from. */
typedef struct source {
    const char *key; /* "train" or "train.validation", for messages */
    const char *corpus, *field;
    lode_corpus_format_t format;
    int64_t most; /* sequences, INT64_MAX for all */
} source_t;

/* The token that goes before every text beside what the tokenizer puts there, −1 for none: a model
 * from scratch has the BOS of its config.json. */
static int32_t bos_before(const lode_run_t *run, const lode_crew_t *crew) {
    const bool scratch = lode_config_is_scratch(run->config, run->model);
    return scratch && !lode_tokenizer_adds_bos(crew->tokenizer) ? run->architecture.bos : -1;
}

/* Appends the ids of all texts, or of as many as give `most` ids. */
static lode_status_t encode(lode_ids_t *ids, const lode_crew_t *crew, const lode_corpus_t *corpus,
                            int32_t bos, int64_t most) {
    const int64_t total = lode_corpus_count(corpus);
    lode_status_t status = LODE_OK;
    if (most == INT64_MAX) {
        LODE_TRY(lode_tokenize_texts(ids, crew, corpus, NULL, 0, total));
        return bos >= 0 ? lode_ids_put_before(ids, bos) : LODE_OK;
    }
    for (int64_t next = 0; next < total && ids->count < most && status == LODE_OK;) {
        lode_ids_t part = {0};
        const int64_t count = lode_tokenize_texts_for(corpus, next, most - ids->count);
        status = lode_tokenize_texts(&part, crew, corpus, NULL, next, count);
        if (status == LODE_OK && bos >= 0)
            status = lode_ids_put_before(&part, bos);
        if (status == LODE_OK)
            status = lode_ids_append(ids, part.id, part.count);
        lode_ids_free(&part);
        next += count;
    }
    return status;
}

/* The texts one after the other, cut into sequences, the tail dropped. */
static lode_status_t make_blocks(lode_ids_t *ids, const lode_run_t *run, const lode_crew_t *crew,
                                 const source_t *source) {
    const int64_t length = run->config->train.length;
    const bool all = source->most == INT64_MAX;
    lode_corpus_t *corpus;
    LODE_TRY(
        lode_corpus_read(&corpus, source->corpus, source->format, LODE_CORPUS_ROWS, source->field));
    lode_status_t status =
        encode(ids, crew, corpus, bos_before(run, crew), all ? INT64_MAX : source->most * length);
    lode_corpus_destroy(&corpus);
    if (status != LODE_OK)
        return lode_fail_context(status, "%s", source->corpus);
    int64_t sequences = ids->count / length;
    if (sequences > source->most)
        sequences = source->most;
    if (sequences == 0)
        return lode_fail(LODE_ERR_INPUT,
                         "%s: has %lld tokens, fewer than a sequence of train.length = %lld; use a "
                         "longer text for %s.corpus",
                         source->corpus, (long long)ids->count, (long long)length, source->key);
    if (!all && sequences < source->most)
        lode_log_warning("%s gives %lld sequences, %s.sequences = %lld", source->corpus,
                         (long long)sequences, source->key, (long long)source->most);
    ids->count = sequences * length;
    return LODE_OK;
}

lode_status_t lode_tokenize_training(lode_training_ids_t *ids, const lode_run_t *run,
                                     const lode_crew_t *crew) {
    const lode_config_train_t *train = &run->config->train;
    const lode_config_validation_t *validation = &train->validation;
    const source_t texts = {.key = "train",
                            .corpus = train->corpus,
                            .field = train->field,
                            .format = train->format,
                            .most = INT64_MAX};
    const source_t held_out = {.key = "train.validation",
                               .corpus = validation->corpus,
                               .field = validation->field,
                               .format = validation->format,
                               .most = validation->sequences};
    LODE_TRY(make_blocks(&ids->train, run, crew, &texts));
    return *validation->corpus ? make_blocks(&ids->validation, run, crew, &held_out) : LODE_OK;
}
