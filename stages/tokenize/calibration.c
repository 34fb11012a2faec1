#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "tokenize/work.h"

lode_status_t lode_tokenize_texts(lode_ids_t *ids, const lode_crew_t *crew,
                                  const lode_corpus_t *corpus, const int64_t *chosen, int64_t first,
                                  int64_t count) {
    lode_span_t *texts;
    int64_t failed;
    LODE_TRY(LODE_NEW(&texts, count, "texts to encode"));
    for (int64_t i = 0; i < count; i++)
        lode_corpus_text(corpus, chosen ? chosen[i] : first + i, &texts[i].text, &texts[i].length);
    lode_status_t status = lode_crew_encode(crew, ids, texts, count, true, &failed);
    free(texts);
    if (status == LODE_OK || failed < 0)
        return status;
    return lode_fail_context(status, "text %lld",
                             (long long)(chosen ? chosen[failed] : first + failed) + 1);
}

/* Appends the sequences of `whole` that have a loss, cut to max_length. */
static lode_status_t keep(lode_ids_t *ids, const lode_ids_t *whole, int64_t max_length) {
    for (int64_t s = 0; s < whole->sequences; s++) {
        const int64_t count = whole->offset[s + 1] - whole->offset[s];
        if (count < 2)
            continue;
        LODE_TRY(lode_ids_append(ids, whole->id + whole->offset[s],
                                 count < max_length ? count : max_length));
        LODE_TRY(lode_ids_cut(ids));
    }
    return LODE_OK;
}

lode_status_t lode_tokenize_first(lode_ids_t *ids, const lode_crew_t *crew,
                                  const lode_corpus_t *corpus, int64_t sequences,
                                  int64_t max_length) {
    const int64_t total = lode_corpus_count(corpus);
    lode_status_t status = LODE_OK;
    for (int64_t next = 0; next < total && ids->sequences < sequences && status == LODE_OK;) {
        lode_ids_t whole = {0};
        const int64_t wanted = sequences - ids->sequences;
        const int64_t count = wanted < total - next ? wanted : total - next;
        status = lode_tokenize_texts(&whole, crew, corpus, NULL, next, count);
        if (status == LODE_OK)
            status = keep(ids, &whole, max_length);
        lode_ids_free(&whole);
        next += count;
    }
    return status;
}

/* One sequence a text, of a seeded draw in the order of the corpus. A draw that is too short is not
 * replaced by another. */
static lode_status_t drawn(lode_ids_t *ids, const lode_config_t *config, const lode_crew_t *crew,
                           const lode_corpus_t *corpus) {
    const lode_config_calibration_t *calibration = &config->calibration;
    const int64_t total = lode_corpus_count(corpus);
    const int64_t count = calibration->sequences < total ? calibration->sequences : total;
    int64_t *sample;
    lode_ids_t whole = {0};
    LODE_TRY(LODE_NEW(&sample, count, "calibration draw"));
    lode_random_sample(lode_random_key(config->seed, "calibration draw", 0, 0), sample, count,
                       total);
    lode_status_t status = lode_tokenize_texts(&whole, crew, corpus, sample, 0, count);
    if (status == LODE_OK)
        status = keep(ids, &whole, calibration->max_length);
    lode_ids_free(&whole);
    free(sample);
    return status;
}

int64_t lode_tokenize_texts_for(const lode_corpus_t *corpus, int64_t next, int64_t missing) {
    const int64_t total = lode_corpus_count(corpus);
    int64_t bytes = 0, end = next;
    for (; end < total && bytes / 4 < missing; end++) {
        const char *text;
        size_t length;
        lode_corpus_text(corpus, end, &text, &length);
        bytes += (int64_t)length;
    }
    return end - next;
}

/* All texts with their special tokens one after the other; no more than needed where only the first
 * `most` tokens count. */
static lode_status_t make_stream(lode_ids_t *stream, const lode_crew_t *crew,
                                 const lode_corpus_t *corpus, int64_t most) {
    const int64_t total = lode_corpus_count(corpus);
    lode_status_t status = LODE_OK;
    for (int64_t next = 0; next < total && stream->count < most && status == LODE_OK;) {
        lode_ids_t whole = {0};
        const int64_t count =
            most == INT64_MAX ? total : lode_tokenize_texts_for(corpus, next, most - stream->count);
        status = lode_tokenize_texts(&whole, crew, corpus, NULL, next, count);
        for (int64_t s = 0; s < whole.sequences && status == LODE_OK; s++) {
            const int64_t length = whole.offset[s + 1] - whole.offset[s];
            if (length >= 2)
                status = lode_ids_append(stream, whole.id + whole.offset[s], length);
        }
        lode_ids_free(&whole);
        next += count;
    }
    return status;
}

/* The stream cut into max_length, the tail dropped; of these the first ones, or a seeded draw. */
static lode_status_t packed(lode_ids_t *ids, const lode_config_t *config, const lode_crew_t *crew,
                            const lode_corpus_t *corpus) {
    const lode_config_calibration_t *calibration = &config->calibration;
    const int64_t length = calibration->max_length;
    const bool first = calibration->select == LODE_SELECT_FIRST;
    lode_ids_t stream = {0};
    int64_t *sample = NULL;
    lode_status_t status;
    LODE_GUARD(
        status,
        make_stream(&stream, crew, corpus, first ? calibration->sequences * length : INT64_MAX),
        done);
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
        LODE_GUARD(status, lode_ids_append(ids, stream.id + sample[i] * length, length), done);
        LODE_GUARD(status, lode_ids_cut(ids), done);
    }
done:
    free(sample);
    lode_ids_free(&stream);
    return status;
}

static lode_status_t select_texts(lode_ids_t *ids, const lode_config_t *config,
                                  const lode_crew_t *crew) {
    const lode_config_calibration_t *calibration = &config->calibration;
    const bool pack = calibration->packing == LODE_PACKING_PACKED;
    lode_corpus_t *corpus;
    LODE_TRY(lode_corpus_read(&corpus, calibration->corpus, calibration->format, LODE_CORPUS_ROWS,
                              calibration->field));
    lode_status_t status;
    if (pack)
        status = packed(ids, config, crew, corpus);
    else if (calibration->select == LODE_SELECT_FIRST)
        status =
            lode_tokenize_first(ids, crew, corpus, calibration->sequences, calibration->max_length);
    else
        status = drawn(ids, config, crew, corpus);
    lode_corpus_destroy(&corpus);
    if (status != LODE_OK)
        return lode_fail_context(status, "%s", calibration->corpus);
    if (ids->sequences == 0)
        return lode_fail(LODE_ERR_INPUT,
                         "%s: gives no calibration sequence of at least %lld tokens; use a longer "
                         "corpus%s",
                         calibration->corpus, (long long)(pack ? calibration->max_length : 2),
                         pack ? " or packing = \"none\"" : "");
    if (ids->sequences < calibration->sequences)
        lode_log_warning("%s gives %lld calibration sequences, %lld were asked for",
                         calibration->corpus, (long long)ids->sequences,
                         (long long)calibration->sequences);
    return LODE_OK;
}

/* --- merged statistics ---------------------------------------------------------------------- */

static lode_status_t check_merged(const lode_ids_t *ids, int64_t offsets, const lode_run_t *run,
                                  const char *path) {
    const int64_t positions = run->architecture.max_positions;
    bool sound =
        ids->sequences > 0 && ids->offset[0] == 0 && ids->offset[offsets - 1] == ids->count;
    for (int64_t s = 0; sound && s < ids->sequences; s++)
        sound = ids->offset[s + 1] - ids->offset[s] >= 2;
    if (!sound)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: its calibration sequences make no sense; merge the results again",
                         path);
    for (int64_t s = 0; s < ids->sequences; s++)
        if (ids->offset[s + 1] - ids->offset[s] > positions)
            return lode_fail(LODE_ERR_INPUT,
                             "%s: sequence %lld has %lld tokens, model %s has %lld positions; "
                             "the results merged are another model's",
                             path, (long long)s, (long long)(ids->offset[s + 1] - ids->offset[s]),
                             run->model->name, (long long)positions);
    for (int64_t i = 0; i < ids->count; i++)
        if (ids->id[i] < 0 || ids->id[i] >= run->architecture.vocab)
            return lode_fail(LODE_ERR_INPUT,
                             "%s: has token id %d, model %s has a vocabulary of %lld; the "
                             "results merged are another model's",
                             path, (int)ids->id[i], run->model->name,
                             (long long)run->architecture.vocab);
    return LODE_OK;
}

/* The sequences that lode merge joined. */
static lode_status_t read_merged(lode_ids_t *ids, const lode_run_t *run) {
    const lode_comm_t alone = lode_comm_describe(MPI_COMM_SELF);
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
    status = check_merged(ids, offsets, run, path);
done:
    lode_store_close(&store);
    free(path);
    return status;
}

lode_status_t lode_tokenize_calibration(lode_ids_t *ids, const lode_run_t *run,
                                        const lode_crew_t *crew) {
    return *run->config->calibration.merged ? read_merged(ids, run)
                                            : select_texts(ids, run->config, crew);
}
