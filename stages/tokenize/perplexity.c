#include "tokenize/work.h"

lode_status_t lode_tokenize_perplexity(lode_ids_t *ids, const lode_config_perplexity_t *entry,
                                       const lode_crew_t *crew) {
    /* llama.cpp reads the file as it is, whatever its lines mean to others. */
    const bool raw =
        entry->protocol == LODE_PROTOCOL_LLAMA_CPP && entry->format != LODE_CORPUS_JSONL;
    lode_corpus_t *corpus;
    lode_span_t whole;
    LODE_TRY(lode_corpus_read(&corpus, entry->corpus, raw ? LODE_CORPUS_TEXT : entry->format,
                              LODE_CORPUS_JOINED, entry->field));
    lode_corpus_text(corpus, 0, &whole.text, &whole.length);
    lode_status_t status = lode_crew_encode(crew, ids, &whole, 1, true, NULL);
    lode_corpus_destroy(&corpus);
    if (status != LODE_OK)
        return lode_fail_context(status, "%s", entry->corpus);
    if (ids->count < entry->length)
        return lode_fail(LODE_ERR_INPUT,
                         "%s: has %lld tokens, fewer than one window of evaluate.perplexity "
                         "\"%s\" (length = %lld); use a longer corpus or shorter windows",
                         entry->corpus, (long long)ids->count, entry->name,
                         (long long)entry->length);
    return LODE_OK;
}
