#include "base/log.h"
#include "tokenize/work.h"

bool lode_tokenize_has_probe(const lode_config_t *config) {
    return *config->probe.corpus != '\0';
}

lode_status_t lode_tokenize_probe(lode_ids_t *ids, const lode_config_probe_t *probe,
                                  const lode_crew_t *crew) {
    lode_corpus_t *corpus;
    LODE_TRY(
        lode_corpus_read(&corpus, probe->corpus, probe->format, LODE_CORPUS_ROWS, probe->field));
    lode_status_t status =
        lode_tokenize_first(ids, crew, corpus, probe->sequences, probe->max_length);
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
