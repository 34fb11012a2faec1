/* stages/common/protocol: how a text becomes windows, which positions are scored, and what the
 * figure is (section 7 of the specification: figures of different protocols never compare).
 *
 * N is the number of tokens of a text, L the length, and "before" the token that stands in front of
 * the text, by the key bos: what the tokenizer puts there, config.json's BOS, or nothing.
 *
 *   gptq       ⌊N/L⌋ disjoint windows, all L − 1 targets of each (Frantar et al. 2023); the value
 *              is the exponential of the mean of the windows' means
 *   llama.cpp  ⌊N/L⌋ disjoint windows, the first token of each replaced by the one before the text
 *              where there is one, positions L/2 … L − 2 scored (tools/perplexity of llama.cpp)
 *   nodelens   disjoint windows of L, the last one shorter if at least two tokens are left for it,
 *              all targets of each (NodeLens)
 *   lm-eval    log-likelihoods of whole documents (EleutherAI's lm_eval, loglikelihood_rolling with
 *              disjoint windows): every token of a document is a target once, those of the first
 *              window after a prefix token, of the others after one token of context; the last
 *              window reaches as far back as fills L. The prefix is the tokenizer's BOS, EOS where
 *              it has none, whatever stands before the text, which is predicted from it too. The
 *              value is exp(−Σ log p / words), words being what \s+ parts in the texts that are
 *              scored; lm_eval's own task wikitext scores detokenised pages with the words of the
 *              pages as they were, which needs another corpus and other words
 *
 * But for gptq and lm-eval, the value is the exponential of the mean over targets.
 *
 * A standard error is that of the mean loss of a token, s/√targets, carried through to the figure;
 * token losses count as independent, as in llama.cpp, although neighbours are not. lm_eval instead
 * resamples documents, and has none where there is one document.
 *
 * Pure functions; everything here is Local.
 */
#ifndef LODE_STAGES_COMMON_PROTOCOL_H
#define LODE_STAGES_COMMON_PROTOCOL_H

#include "config/choices.h"
#include "transformer/batch.h"

/* The tokens of a perplexity's text. */
typedef struct lode_documents {
    const int32_t *ids;     /* with what stands before each document, but without the prefix */
    const int64_t *offsets; /* [count + 1] */
    int64_t count;          /* 1 but for lm-eval */
    int32_t bos;            /* token id before each document, −1 for none */
    int32_t prefix;         /* that lm-eval predicts a document's first token from, else −1 */
    int64_t words, bytes;   /* of all documents: 1 + stretches of white space of each; UTF-8 */
} lode_documents_t;

typedef struct lode_windows {
    lode_text_t text; /* the windows as sequences, with their targets */
    int64_t windows, targets;
    int64_t *first_target; /* [windows + 1] number of each window's first target, in text order */
    int64_t *offsets;
    int32_t *ids, *target;
    lode_protocol_t protocol;
    int64_t words, bytes;
} lode_windows_t;

/* Cuts documents into windows of `length` ≥ 2 tokens; copies what it needs. *windows is for
 * lode_windows_free, {0} on failure. Errors: LODE_ERR_MEMORY, LODE_ERR_CONFIG where the protocol
 * scores nothing at this length. */
LODE_MUST_USE lode_status_t lode_windows_create(lode_windows_t *windows, lode_protocol_t protocol,
                                                int64_t length, const lode_documents_t *documents);
void lode_windows_free(lode_windows_t *windows);

/* A figure and its standard error, NaN for a single target. */
typedef struct lode_estimate {
    double value, standard_error;
} lode_estimate_t;

typedef struct lode_perplexity {
    lode_estimate_t value;                          /* what the protocol reports */
    lode_estimate_t token;                          /* exp of the mean over tokens */
    lode_estimate_t byte_perplexity, bits_per_byte; /* of lm-eval, else 0 */
} lode_perplexity_t;

/* The figures of the losses nll [windows->targets] in nats, in text order; sums in that order. */
lode_perplexity_t lode_windows_value(const lode_windows_t *windows, const double *nll);

#endif
