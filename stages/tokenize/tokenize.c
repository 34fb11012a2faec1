#include "tokenize/tokenize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

/* A growing array of ids cut into sequences. */
typedef struct ids {
    int32_t *id; /* [count] */
    int64_t count, room;
    int64_t *offset; /* [sequences + 1] */
    int64_t sequences, offset_room;
} ids_t;

static void ids_free(ids_t *ids) {
    free(ids->id);
    free(ids->offset);
    *ids = (ids_t){0};
}

static lode_status_t grow(void *array, int64_t *room, int64_t needed, size_t size) {
    if (needed <= *room)
        return LODE_OK;
    int64_t wanted = *room < 1024 ? 1024 : *room;
    while (wanted < needed)
        wanted *= 2;
    void *old, *grown;
    memcpy(&old, array, sizeof old);
    grown = realloc(old, (size_t)wanted * size);
    if (!grown)
        return lode_fail(LODE_ERR_MEMORY, "no memory for %lld token ids", (long long)wanted);
    memcpy(array, &grown, sizeof grown);
    *room = wanted;
    return LODE_OK;
}

static lode_status_t ids_append(ids_t *ids, const int32_t *id, int64_t count) {
    LODE_TRY(grow(&ids->id, &ids->room, ids->count + count, sizeof *ids->id));
    if (count > 0)
        memcpy(ids->id + ids->count, id, (size_t)count * sizeof *id);
    ids->count += count;
    return LODE_OK;
}

/* Ends a sequence at the ids appended so far. */
static lode_status_t ids_cut(ids_t *ids) {
    LODE_TRY(grow(&ids->offset, &ids->offset_room, ids->sequences + 2, sizeof *ids->offset));
    if (ids->sequences == 0)
        ids->offset[0] = 0;
    ids->offset[++ids->sequences] = ids->count;
    return LODE_OK;
}

/* --- calibration ---------------------------------------------------------------------------- */

/* Appends text `i` with its special tokens, cut to max_length; a sequence needs two tokens to have
 * a loss, shorter ones are skipped. */
static lode_status_t add_text(ids_t *ids, const lode_tokenizer_t *tokenizer,
                              const lode_corpus_t *corpus, int64_t i, int64_t max_length) {
    const char *text;
    size_t length;
    int32_t *id;
    int64_t count;
    lode_corpus_text(corpus, i, &text, &length);
    lode_status_t status = lode_tokenizer_encode(tokenizer, text, length, true, &id, &count);
    if (status != LODE_OK)
        return lode_fail_context(status, "text %lld", (long long)i + 1);
    if (count >= 2) {
        status = ids_append(ids, id, count < max_length ? count : max_length);
        if (status == LODE_OK)
            status = ids_cut(ids);
    }
    free(id);
    return status;
}

/* One sequence a text: the first ones, or a seeded draw in the order of the corpus. A draw that is
 * too short is not replaced by another. */
static lode_status_t separate(ids_t *ids, const lode_config_t *config,
                              const lode_tokenizer_t *tokenizer, const lode_corpus_t *corpus) {
    const lode_config_calibration_t *calibration = &config->calibration;
    const int64_t total = lode_corpus_count(corpus);
    if (calibration->select == LODE_SELECT_FIRST) {
        for (int64_t i = 0; i < total && ids->sequences < calibration->sequences; i++)
            LODE_TRY(add_text(ids, tokenizer, corpus, i, calibration->max_length));
        return LODE_OK;
    }
    const int64_t count = calibration->sequences < total ? calibration->sequences : total;
    int64_t *sample;
    LODE_TRY(LODE_NEW(&sample, count, "calibration draw"));
    lode_random_sample(lode_random_key(config->seed, "calibration draw", 0, 0), sample, count,
                       total);
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < count && status == LODE_OK; i++)
        status = add_text(ids, tokenizer, corpus, sample[i], calibration->max_length);
    free(sample);
    return status;
}

/* All texts with their special tokens one after the other, cut into max_length, the tail dropped;
 * of these the first ones, or a seeded draw. */
static lode_status_t packed(ids_t *ids, const lode_config_t *config,
                            const lode_tokenizer_t *tokenizer, const lode_corpus_t *corpus) {
    const lode_config_calibration_t *calibration = &config->calibration;
    const int64_t length = calibration->max_length;
    const bool first = calibration->select == LODE_SELECT_FIRST;
    ids_t stream = {0};
    int64_t *sample = NULL;
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < lode_corpus_count(corpus); i++) {
        if (first && stream.count >= calibration->sequences * length)
            break; /* the rest would be dropped */
        LODE_GUARD(status, add_text(&stream, tokenizer, corpus, i, INT64_MAX), done);
    }
    const int64_t total = stream.count / length;
    const int64_t count = calibration->sequences < total ? calibration->sequences : total;
    LODE_GUARD(status, LODE_NEW(&sample, count, "calibration draw"), done);
    if (first)
        for (int64_t i = 0; i < count; i++)
            sample[i] = i;
    else
        lode_random_sample(lode_random_key(config->seed, "calibration draw", 0, 0), sample, count,
                           total);
    for (int64_t i = 0; i < count; i++) {
        LODE_GUARD(status, ids_append(ids, stream.id + sample[i] * length, length), done);
        LODE_GUARD(status, ids_cut(ids), done);
    }
done:
    free(sample);
    ids_free(&stream);
    return status;
}

static lode_status_t tokenize_calibration(ids_t *ids, const lode_config_t *config,
                                          const lode_tokenizer_t *tokenizer) {
    const lode_config_calibration_t *calibration = &config->calibration;
    lode_corpus_t *corpus;
    LODE_TRY(lode_corpus_read(&corpus, calibration->corpus, calibration->format, LODE_CORPUS_ROWS,
                              calibration->field));
    lode_status_t status = calibration->packing == LODE_PACKING_PACKED
                               ? packed(ids, config, tokenizer, corpus)
                               : separate(ids, config, tokenizer, corpus);
    lode_corpus_destroy(&corpus);
    if (status != LODE_OK)
        return lode_fail_context(status, "%s", calibration->corpus);
    if (ids->sequences == 0)
        status = lode_fail(
            LODE_ERR_INPUT,
            "%s: gives no calibration sequence of at least %lld tokens; use a longer "
            "corpus%s",
            calibration->corpus,
            (long long)(calibration->packing == LODE_PACKING_PACKED ? calibration->max_length : 2),
            calibration->packing == LODE_PACKING_PACKED ? " or packing = \"none\"" : "");
    if (status == LODE_OK && ids->sequences < calibration->sequences)
        lode_log_warning("%s gives %lld calibration sequences, %lld were asked for",
                         calibration->corpus, (long long)ids->sequences,
                         (long long)calibration->sequences);
    return status;
}

/* The sequences that lode merge joined. */
static lode_status_t read_merged(ids_t *ids, const lode_run_t *run) {
    const lode_comm_t alone = lode_comm_describe(MPI_COMM_SELF);
    const int64_t positions = run->architecture.max_positions;
    char *path = NULL;
    lode_store_t *store = NULL;
    int64_t offsets = 0;
    lode_status_t status;
    LODE_GUARD(status,
               lode_run_merged_path(&path, run->config, run->model->name, LODE_STAGE_TOKENIZE),
               done);
    LODE_GUARD(status, lode_store_open(&store, &alone, path), done);
    LODE_GUARD(status,
               lode_store_read_all(store, "/calibration/ids", LODE_TYPE_I32, &ids->id, &ids->count),
               done);
    LODE_GUARD(
        status,
        lode_store_read_all(store, "/calibration/offsets", LODE_TYPE_I64, &ids->offset, &offsets),
        done);
    ids->sequences = offsets - 1;
    bool sound =
        ids->sequences > 0 && ids->offset[0] == 0 && ids->offset[offsets - 1] == ids->count;
    for (int64_t s = 0; sound && s < ids->sequences; s++)
        sound = ids->offset[s + 1] - ids->offset[s] >= 2;
    if (!sound)
        status = lode_fail(LODE_ERR_FORMAT,
                           "%s: its calibration sequences make no sense; merge "
                           "the results again",
                           path);
    for (int64_t s = 0; s < ids->sequences && status == LODE_OK; s++)
        if (ids->offset[s + 1] - ids->offset[s] > positions)
            status = lode_fail(LODE_ERR_INPUT,
                               "%s: sequence %lld has %lld tokens, model %s has %lld positions; "
                               "the results merged are another model's",
                               path, (long long)s, (long long)(ids->offset[s + 1] - ids->offset[s]),
                               run->model->name, (long long)positions);
    for (int64_t i = 0; i < ids->count && status == LODE_OK; i++)
        if (ids->id[i] < 0 || ids->id[i] >= run->architecture.vocab)
            status = lode_fail(LODE_ERR_INPUT,
                               "%s: has token id %d, model %s has a vocabulary of %lld; the "
                               "results merged are another model's",
                               path, (int)ids->id[i], run->model->name,
                               (long long)run->architecture.vocab);
done:
    lode_store_close(&store);
    free(path);
    return status;
}

/* --- perplexity ----------------------------------------------------------------------------- */

/* The whole text of the entry, tokenised once. */
static lode_status_t tokenize_perplexity(ids_t *ids, const lode_config_perplexity_t *entry,
                                         const lode_tokenizer_t *tokenizer) {
    /* llama.cpp reads the file as it is, whatever its lines mean to others. */
    const bool raw =
        entry->protocol == LODE_PROTOCOL_LLAMA_CPP && entry->format != LODE_CORPUS_JSONL;
    lode_corpus_t *corpus;
    LODE_TRY(lode_corpus_read(&corpus, entry->corpus, raw ? LODE_CORPUS_TEXT : entry->format,
                              LODE_CORPUS_JOINED, entry->field));
    const char *text;
    size_t length;
    lode_corpus_text(corpus, 0, &text, &length);
    int32_t *id = NULL;
    int64_t count = 0;
    lode_status_t status = lode_tokenizer_encode(tokenizer, text, length, true, &id, &count);
    if (status != LODE_OK)
        status = lode_fail_context(status, "%s", entry->corpus);
    if (status == LODE_OK && count < entry->length)
        status = lode_fail(LODE_ERR_INPUT,
                           "%s: has %lld tokens, fewer than one window of evaluate.perplexity "
                           "\"%s\" (length = %lld); use a longer corpus or shorter windows",
                           entry->corpus, (long long)count, entry->name, (long long)entry->length);
    if (status == LODE_OK)
        status = ids_append(ids, id, count);
    free(id);
    lode_corpus_destroy(&corpus);
    return status;
}

/* --- probe ----------------------------------------------------------------------------------- */

/* Whether the causal checks have texts of their own. */
static bool has_probe(const lode_config_t *config) {
    return *config->probe.corpus != '\0';
}

/* One sequence a text, the first ones. */
static lode_status_t tokenize_probe(ids_t *ids, const lode_config_probe_t *probe,
                                    const lode_tokenizer_t *tokenizer) {
    lode_corpus_t *corpus;
    LODE_TRY(
        lode_corpus_read(&corpus, probe->corpus, probe->format, LODE_CORPUS_ROWS, probe->field));
    lode_status_t status = LODE_OK;
    const int64_t total = lode_corpus_count(corpus);
    for (int64_t i = 0; i < total && ids->sequences < probe->sequences && status == LODE_OK; i++)
        status = add_text(ids, tokenizer, corpus, i, probe->max_length);
    lode_corpus_destroy(&corpus);
    if (status != LODE_OK)
        return lode_fail_context(status, "%s", probe->corpus);
    if (ids->sequences == 0)
        return lode_fail(
            LODE_ERR_INPUT,
            "%s: gives no text of at least 2 tokens for probe.corpus; use a longer one",
            probe->corpus);
    if (ids->sequences < probe->sequences)
        lode_log_warning("%s gives %lld texts to probe with, %lld were asked for", probe->corpus,
                         (long long)ids->sequences, (long long)probe->sequences);
    return LODE_OK;
}

/* --- the stage ------------------------------------------------------------------------------ */

/* Sets of ids: the calibration, perplexity entry i as 1 + i, then the probe's where it has some. */
static int64_t set_count(const lode_config_t *config) {
    return 1 + config->evaluate.perplexity_count + has_probe(config);
}

/* Done by one rank. */
static lode_status_t tokenize_all(ids_t *ids, const lode_run_t *run) {
    const lode_config_t *config = run->config;
    const char *path;
    lode_tokenizer_t *tokenizer;
    LODE_TRY(lode_checkpoint_tokenizer(run->checkpoint, &path));
    LODE_TRY(lode_tokenizer_load(&tokenizer, path));
    lode_status_t status = LODE_OK;
    if (lode_tokenizer_vocab_size(tokenizer) > run->architecture.vocab)
        lode_log_warning(
            "%s has %lld tokens, the model %lld; ids beyond the model's will be refused", path,
            (long long)lode_tokenizer_vocab_size(tokenizer), (long long)run->architecture.vocab);
    LODE_GUARD(status,
               *config->calibration.merged ? read_merged(&ids[0], run)
                                           : tokenize_calibration(&ids[0], config, tokenizer),
               done);
    for (int64_t i = 0; i < config->evaluate.perplexity_count; i++)
        LODE_GUARD(status,
                   tokenize_perplexity(&ids[1 + i], &config->evaluate.perplexity[i], tokenizer),
                   done);
    if (has_probe(config))
        LODE_GUARD(status, tokenize_probe(&ids[set_count(config) - 1], &config->probe, tokenizer),
                   done);
    for (int64_t set = 0; set < set_count(config); set++)
        for (int64_t i = 0; i < ids[set].count; i++)
            if (ids[set].id[i] < 0 || ids[set].id[i] >= run->architecture.vocab)
                LODE_GUARD(status,
                           lode_fail(LODE_ERR_FORMAT,
                                     "%s: gives token id %d, but the model's vocabulary has %lld; "
                                     "the tokenizer belongs to another model",
                                     path, (int)ids[set].id[i], (long long)run->architecture.vocab),
                           done);
done:
    lode_tokenizer_destroy(&tokenizer);
    return status;
}

/* Creates a one-dimensional dataset of rank 0's length and lets rank 0 fill it. A failed write
 * sticks to the store and fails its commit, so that rank 0 does not leave the others waiting. */
static lode_status_t put(lode_store_t *store, const lode_run_t *run, const char *name,
                         lode_type_t type, int64_t count, const void *data) {
    const int64_t offset = 0;
    LODE_TRY(lode_comm_broadcast(run->comm, &count, sizeof count, 0));
    LODE_TRY(lode_store_dataset(store, name, type, 1, &count, false));
    if (run->comm->rank == 0 && lode_store_write(store, name, &offset, &count, data) != LODE_OK)
        lode_log_warning("%s could not be written", name);
    return LODE_OK;
}

static lode_status_t write_all(lode_store_t *store, const lode_run_t *run, const ids_t *ids) {
    const lode_config_evaluate_t *evaluate = &run->config->evaluate;
    lode_status_t status =
        put(store, run, "/calibration/ids", LODE_TYPE_I32, ids[0].count, ids[0].id);
    if (status == LODE_OK)
        status = put(store, run, "/calibration/offsets", LODE_TYPE_I64, ids[0].sequences + 1,
                     ids[0].offset);
    for (int64_t i = 0; i < evaluate->perplexity_count && status == LODE_OK; i++) {
        char name[512];
        snprintf(name, sizeof name, "/perplexity/%s/ids", evaluate->perplexity[i].name);
        status = put(store, run, name, LODE_TYPE_I32, ids[1 + i].count, ids[1 + i].id);
    }
    if (status != LODE_OK || !has_probe(run->config))
        return status;
    const ids_t *probe = &ids[set_count(run->config) - 1];
    LODE_TRY(put(store, run, "/probe/ids", LODE_TYPE_I32, probe->count, probe->id));
    return put(store, run, "/probe/offsets", LODE_TYPE_I64, probe->sequences + 1, probe->offset);
}

lode_status_t lode_stage_tokenize(lode_run_t *run) {
    const int64_t sets = set_count(run->config);
    ids_t *ids;
    lode_store_t *store = NULL;
    lode_status_t status = LODE_NEW(&ids, sets, "token ids");
    if (status == LODE_OK && run->comm->rank == 0)
        status = tokenize_all(ids, run);
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK)
        status = lode_run_create(&store, run, LODE_STAGE_TOKENIZE);
    if (status == LODE_OK) {
        status = write_all(store, run, ids);
        status = lode_run_finish(&store, run, LODE_STAGE_TOKENIZE, status);
    }
    if (status == LODE_OK)
        lode_log_info("tokenize: %lld calibration sequences, %lld tokens",
                      (long long)ids[0].sequences, (long long)ids[0].count);
    for (int64_t i = 0; ids && i < sets; i++)
        ids_free(&ids[i]);
    free(ids);
    return status;
}
