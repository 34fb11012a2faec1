#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/prefix.h"
#include "text/utf8.h"
#include "tokenize/work.h"

void lode_tokenized_free(lode_tokenized_t *text) {
    lode_ids_free(&text->ids);
    *text = (lode_tokenized_t){0};
}

/* --- the corpus ----------------------------------------------------------------------------- */

static lode_corpus_view_t view_of(const lode_config_perplexity_t *entry) {
    switch (entry->protocol) {
    case LODE_PROTOCOL_NODELENS:
        return LODE_CORPUS_DENSE;
    case LODE_PROTOCOL_LM_EVAL: /* rows of wikitext are parts of one document */
        return entry->format == LODE_CORPUS_WIKITEXT ? LODE_CORPUS_JOINED : LODE_CORPUS_ROWS;
    default:
        return LODE_CORPUS_JOINED;
    }
}

static lode_status_t read_corpus(lode_corpus_t **corpus, const lode_config_perplexity_t *entry) {
    /* llama.cpp reads the file as it is, whatever its lines mean to others. */
    const bool raw =
        entry->protocol == LODE_PROTOCOL_LLAMA_CPP && entry->format != LODE_CORPUS_JSONL;
    return lode_corpus_read(corpus, entry->corpus, raw ? LODE_CORPUS_TEXT : entry->format,
                            view_of(entry), entry->field);
}

/* len(re.split(r"\s+", text)): white space at an end parts an empty word from the text. */
static int64_t count_words(const char *text, size_t length) {
    int64_t words = 1;
    bool inside = false;
    for (size_t at = 0, step; at < length; at += step) {
        step = lode_utf8_length(text[at]);
        const bool space = lode_utf8_is_blank(text + at, step);
        words += space && !inside;
        inside = space;
    }
    return words;
}

/* --- ids ------------------------------------------------------------------------------------ */

/* lm_eval leaves the tokenizer's special tokens out where a text brings the prefix itself. */
static bool begins_with(const lode_span_t *text, const char *token) {
    const size_t length = strlen(token);
    return length > 0 && text->length >= length && memcmp(text->text, token, length) == 0;
}

/* Encodes the documents, runs of them with and without the tokenizer's special tokens. */
static lode_status_t encode(lode_ids_t *ids, const lode_crew_t *crew, const lode_span_t *texts,
                            int64_t count, bool special, const char *prefix) {
    for (int64_t first = 0, end; first < count; first = end) {
        const bool without = begins_with(&texts[first], prefix);
        for (end = first + 1; end < count && begins_with(&texts[end], prefix) == without; end++)
            ;
        int64_t failed = -1;
        const lode_status_t status =
            lode_crew_encode(crew, ids, texts + first, end - first, special && !without, &failed);
        if (status != LODE_OK && failed >= 0 && count > 1)
            return lode_fail_context(status, "text %lld", (long long)(first + failed) + 1);
        LODE_TRY(status);
    }
    return LODE_OK;
}

static lode_status_t encode_corpus(lode_tokenized_t *text, const lode_config_perplexity_t *entry,
                                   const lode_corpus_t *corpus, const lode_crew_t *crew) {
    const int64_t count = lode_corpus_count(corpus);
    const bool automatic = entry->bos == LODE_BOS_AUTO;
    const char *prefix = "";
    lode_span_t *texts;
    LODE_TRY(LODE_NEW(&texts, count, "documents"));
    for (int64_t i = 0; i < count; i++) {
        lode_corpus_text(corpus, i, &texts[i].text, &texts[i].length);
        text->words += count_words(texts[i].text, texts[i].length);
        text->bytes += (int64_t)texts[i].length;
    }
    lode_status_t status = LODE_OK;
    if (text->prefix >= 0)
        status = lode_tokenizer_token(crew->tokenizer, text->prefix, &prefix);
    if (status == LODE_OK)
        status = encode(&text->ids, crew, texts, count, automatic, prefix);
    if (status == LODE_OK && entry->bos == LODE_BOS_ALWAYS)
        status = lode_ids_put_before(&text->ids, text->bos);
    free(texts);
    return status;
}

/* --- the text of a perplexity --------------------------------------------------------------- */

static lode_status_t check_length(const lode_tokenized_t *text,
                                  const lode_config_perplexity_t *entry) {
    const bool whole =
        entry->protocol == LODE_PROTOCOL_GPTQ || entry->protocol == LODE_PROTOCOL_LLAMA_CPP;
    const int64_t least = whole ? entry->length : entry->protocol == LODE_PROTOCOL_NODELENS ? 2 : 1;
    if (text->ids.count >= least)
        return LODE_OK;
    return lode_fail(LODE_ERR_INPUT,
                     "%s: has %lld tokens, fewer than one window of evaluate.perplexity "
                     "\"%s\" (%s%lld); use a longer corpus%s",
                     entry->corpus, (long long)text->ids.count, entry->name,
                     whole ? "length = " : "at least ", (long long)least,
                     whole ? " or shorter windows" : "");
}

lode_status_t lode_tokenize_prefix(int32_t *prefix, const lode_config_perplexity_t *entry,
                                   const char *folder, const lode_architecture_t *architecture,
                                   const lode_tokenizer_t *tokenizer) {
    *prefix = -1;
    if (entry->protocol != LODE_PROTOCOL_LM_EVAL)
        return LODE_OK;
    LODE_TRY(lode_prefix_token(prefix, folder, tokenizer, architecture));
    if (*prefix >= 0)
        return LODE_OK;
    return lode_fail(LODE_ERR_INPUT,
                     "%s: neither tokenizer_config.json nor config.json names a BOS or EOS token, "
                     "and evaluate.perplexity \"%s\" predicts the first token of a text from one "
                     "(protocol lm-eval); give config.json a bos_token_id",
                     folder, entry->name);
}

lode_status_t lode_tokenize_perplexity(lode_tokenized_t *text, const lode_run_t *run,
                                       const lode_config_perplexity_t *entry,
                                       const lode_crew_t *crew) {
    lode_corpus_t *corpus;
    *text = (lode_tokenized_t){.bos = -1, .prefix = -1};
    if (entry->bos == LODE_BOS_ALWAYS)
        text->bos = run->architecture.bos;
    else if (entry->bos == LODE_BOS_AUTO)
        lode_tokenizer_bos(crew->tokenizer, &text->bos);
    LODE_TRY(lode_tokenize_prefix(&text->prefix, entry, run->model->path, &run->architecture,
                                  crew->tokenizer));
    LODE_TRY(read_corpus(&corpus, entry));
    const lode_status_t status = encode_corpus(text, entry, corpus, crew);
    lode_corpus_destroy(&corpus);
    if (status != LODE_OK)
        return lode_fail_context(status, "%s", entry->corpus);
    return check_length(text, entry);
}
