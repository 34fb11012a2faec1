#include "tokenize/superweight.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/log.h"
#include "base/memory.h"
#include "text/utf8.h"

enum { FORMS = 4, FORM_BYTES = 8 }; /* bytes that a form may be longer than its word */

bool lode_tokenize_has_superweight(const lode_config_t *config) {
    return config->superweight.prompt_count > 0;
}

bool lode_tokenize_has_stopwords(const lode_config_t *config) {
    return lode_tokenize_has_superweight(config) && *config->superweight.stopwords != '\0';
}

void lode_superweight_ids_free(lode_superweight_ids_t *ids) {
    lode_ids_free(&ids->prompts);
    lode_ids_free(&ids->texts);
    lode_ids_free(&ids->words);
    lode_buffer_free(&ids->list);
}

/* --- prompts and texts ---------------------------------------------------------------------- */

/* One sequence for each text, BOS as superweight.bos says. */
static lode_status_t encode(lode_ids_t *ids, const lode_run_t *run, const lode_crew_t *crew,
                            const lode_span_t *texts, int64_t count, int64_t *failed) {
    const lode_bos_t bos = run->config->superweight.bos;
    if (bos != LODE_BOS_ALWAYS)
        return lode_crew_encode(crew, ids, texts, count, bos == LODE_BOS_AUTO, failed);
    lode_ids_t bare = {0};
    lode_status_t status = lode_crew_encode(crew, &bare, texts, count, false, failed);
    for (int64_t s = 0; s < bare.sequences && status == LODE_OK; s++) {
        status = lode_ids_append(ids, &run->architecture.bos, 1);
        if (status == LODE_OK)
            status =
                lode_ids_append(ids, bare.id + bare.offset[s], bare.offset[s + 1] - bare.offset[s]);
        if (status == LODE_OK)
            status = lode_ids_cut(ids);
    }
    lode_ids_free(&bare);
    return status;
}

static lode_status_t check_prompt(const lode_run_t *run, int64_t prompt, int64_t tokens) {
    const int64_t positions = run->architecture.max_positions;
    if (tokens == 0)
        return lode_fail(LODE_ERR_INPUT,
                         "%s: superweight.prompts: prompt %lld has no token for model %s; give it "
                         "some text",
                         lode_config_where(run->config, "superweight.prompts"),
                         (long long)prompt + 1, run->model->name);
    if (tokens > positions)
        return lode_fail(LODE_ERR_INPUT,
                         "%s: superweight.prompts: prompt %lld has %lld tokens, model %s has %lld "
                         "positions; a sentence will do",
                         lode_config_where(run->config, "superweight.prompts"),
                         (long long)prompt + 1, (long long)tokens, run->model->name,
                         (long long)positions);
    return LODE_OK;
}

static lode_status_t encode_prompts(lode_ids_t *ids, const lode_run_t *run,
                                    const lode_crew_t *crew) {
    const lode_config_superweight_t *config = &run->config->superweight;
    lode_span_t *texts;
    int64_t failed = -1;
    LODE_TRY(LODE_NEW(&texts, config->prompt_count, "prompts"));
    for (int64_t p = 0; p < config->prompt_count; p++)
        texts[p] = (lode_span_t){.text = config->prompts[p], .length = strlen(config->prompts[p])};
    lode_status_t status = encode(ids, run, crew, texts, config->prompt_count, &failed);
    free(texts);
    if (status != LODE_OK && failed >= 0)
        return lode_fail_context(status, "superweight.prompts: prompt %lld", (long long)failed + 1);
    for (int64_t p = 0; p < ids->sequences && status == LODE_OK; p++)
        status = check_prompt(run, p, ids->offset[p + 1] - ids->offset[p]);
    return status;
}

/* The first texts, cut, without those of no token. */
static lode_status_t keep_texts(lode_ids_t *ids, const lode_ids_t *whole, int64_t sequences,
                                int64_t max_length) {
    for (int64_t s = 0; s < whole->sequences && ids->sequences < sequences; s++) {
        const int64_t count = whole->offset[s + 1] - whole->offset[s];
        if (count == 0)
            continue;
        LODE_TRY(lode_ids_append(ids, whole->id + whole->offset[s],
                                 count < max_length ? count : max_length));
        LODE_TRY(lode_ids_cut(ids));
    }
    return LODE_OK;
}

static lode_status_t encode_texts(lode_ids_t *ids, const lode_run_t *run, const lode_crew_t *crew,
                                  const lode_corpus_t *corpus) {
    const lode_config_superweight_t *config = &run->config->superweight;
    const int64_t total = lode_corpus_count(corpus);
    const int64_t count = config->sequences < total ? config->sequences : total;
    lode_span_t *texts;
    lode_ids_t whole = {0};
    int64_t failed = -1;
    LODE_TRY(LODE_NEW(&texts, count, "texts"));
    for (int64_t i = 0; i < count; i++)
        lode_corpus_text(corpus, i, &texts[i].text, &texts[i].length);
    lode_status_t status = encode(&whole, run, crew, texts, count, &failed);
    free(texts);
    if (status == LODE_OK)
        status = keep_texts(ids, &whole, count, config->max_length);
    else if (failed >= 0)
        status = lode_fail_context(status, "text %lld", (long long)failed + 1);
    lode_ids_free(&whole);
    return status;
}

static lode_status_t read_texts(lode_ids_t *ids, const lode_run_t *run, const lode_crew_t *crew) {
    const lode_config_superweight_t *config = &run->config->superweight;
    lode_corpus_t *corpus;
    LODE_TRY(
        lode_corpus_read(&corpus, config->corpus, config->format, LODE_CORPUS_ROWS, config->field));
    lode_status_t status = encode_texts(ids, run, crew, corpus);
    lode_corpus_destroy(&corpus);
    if (status != LODE_OK)
        return lode_fail_context(status, "%s", config->corpus);
    if (ids->sequences == 0)
        return lode_fail(LODE_ERR_INPUT,
                         "%s: gives no text with a token for superweight.corpus; use a longer one",
                         config->corpus);
    if (ids->sequences < config->sequences)
        lode_log_warning("%s gives %lld texts for stopword probabilities, %lld were asked for",
                         config->corpus, (long long)ids->sequences, (long long)config->sequences);
    return LODE_OK;
}

/* --- stopwords ------------------------------------------------------------------------------ */

/* Cuts the white space at both ends off. */
static lode_span_t trim(lode_span_t word) {
    while (word.length > 0 && lode_utf8_is_blank(word.text, lode_utf8_length(*word.text))) {
        const size_t step = lode_utf8_length(*word.text);
        word.text += step;
        word.length -= step;
    }
    while (word.length > 0) {
        size_t last = word.length - 1;
        while (((unsigned char)word.text[last] & 0xC0) == 0x80)
            last--;
        if (!lode_utf8_is_blank(word.text + last, word.length - last))
            break;
        word.length = last;
    }
    return word;
}

/* Whether the word is on a line of the list. */
static bool is_listed(const lode_buffer_t *list, lode_span_t word) {
    for (size_t at = 0; at < list->length;) {
        const size_t length = strcspn(list->data + at, "\n");
        if (length == word.length && memcmp(list->data + at, word.text, length) == 0)
            return true;
        at += length + 1;
    }
    return false;
}

/* Writes a form of the word: bit 0, capitalised; bit 1, after a space. */
static size_t write_form(char *form, lode_span_t word, int which) {
    uint32_t first;
    size_t length = 0;
    const int step = lode_utf8_decode(word.text, word.length, &first);
    if (which & 2)
        form[length++] = ' ';
    if (which & 1)
        first = (uint32_t)utf8proc_toupper((utf8proc_int32_t)first);
    length += (size_t)lode_utf8_encode(first, form + length);
    memcpy(form + length, word.text + step, word.length - (size_t)step);
    return length + word.length - (size_t)step;
}

/* Puts an id into its place among ids [*count], unless it is there. */
static void insert(int32_t *ids, int *count, int32_t id) {
    int at = 0;
    while (at < *count && ids[at] < id)
        at++;
    if (at < *count && ids[at] == id)
        return;
    memmove(ids + at + 1, ids + at, (size_t)(*count - at) * sizeof *ids);
    ids[at] = id;
    ++*count;
}

/* Appends the tokens that are a form of the word. */
static lode_status_t add_tokens(lode_ids_t *words, const lode_tokenizer_t *tokenizer,
                                lode_span_t word) {
    int32_t ids[FORMS];
    int found = 0;
    char *form;
    LODE_TRY(LODE_NEW(&form, (int64_t)word.length + FORM_BYTES, "a stopword"));
    lode_status_t status = LODE_OK;
    for (int which = 0; which < FORMS && status == LODE_OK; which++) {
        int32_t *encoded = NULL;
        int64_t count = 0;
        status = lode_tokenizer_encode(tokenizer, form, write_form(form, word, which), false,
                                       &encoded, &count);
        if (status == LODE_OK && count == 1)
            insert(ids, &found, encoded[0]);
        else if (status == LODE_ERR_FORMAT) /* a character that the model does not know */
            status = LODE_OK;
        free(encoded);
    }
    free(form);
    LODE_TRY(status);
    LODE_TRY(lode_ids_append(words, ids, found));
    return lode_ids_cut(words);
}

static lode_status_t add_words(lode_superweight_ids_t *ids, const lode_tokenizer_t *tokenizer,
                               const lode_corpus_t *corpus, lode_buffer_t *missing) {
    for (int64_t i = 0; i < lode_corpus_count(corpus); i++) {
        lode_span_t word;
        lode_corpus_text(corpus, i, &word.text, &word.length);
        word = trim(word);
        if (is_listed(&ids->list, word))
            continue;
        LODE_TRY(lode_buffer_append(&ids->list, word.text, word.length));
        LODE_TRY(lode_buffer_append(&ids->list, "\n", 1));
        LODE_TRY(add_tokens(&ids->words, tokenizer, word));
        const int64_t *offset = ids->words.offset + ids->words.sequences;
        if (offset[0] == offset[-1])
            LODE_TRY(lode_buffer_printf(missing, " %.*s", (int)word.length, word.text));
    }
    return LODE_OK;
}

static lode_status_t read_words(lode_superweight_ids_t *ids, const lode_run_t *run,
                                const lode_crew_t *crew) {
    const char *path = run->config->superweight.stopwords;
    lode_corpus_t *corpus;
    lode_buffer_t missing = {0};
    int64_t without = 0;
    LODE_TRY(lode_corpus_read(&corpus, path, LODE_CORPUS_LINES, LODE_CORPUS_ROWS, NULL));
    lode_status_t status = add_words(ids, crew->tokenizer, corpus, &missing);
    lode_corpus_destroy(&corpus);
    for (int64_t w = 0; w < ids->words.sequences; w++)
        without += ids->words.offset[w] == ids->words.offset[w + 1];
    if (status == LODE_OK && without == ids->words.sequences)
        status = lode_fail(LODE_ERR_INPUT,
                           "%s: model %s has a token of its own for none of these stopwords; use "
                           "shorter words or leave superweight.stopwords out",
                           path, run->model->name);
    else if (status == LODE_OK && without > 0)
        lode_log_info("tokenize: model %s has no token of its own for %lld of %lld stopwords:%s",
                      run->model->name, (long long)without, (long long)ids->words.sequences,
                      missing.data);
    lode_buffer_free(&missing);
    return status;
}

/* --- all of it ------------------------------------------------------------------------------ */

lode_status_t lode_tokenize_superweight(lode_superweight_ids_t *ids, const lode_run_t *run,
                                        const lode_crew_t *crew) {
    LODE_TRY(encode_prompts(&ids->prompts, run, crew));
    if (!lode_tokenize_has_stopwords(run->config))
        return LODE_OK;
    LODE_TRY(read_texts(&ids->texts, run, crew));
    return read_words(ids, run, crew);
}
