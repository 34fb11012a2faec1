/* stages/tokenize/work: the parts of the stage. All of them run on rank 0 while the other ranks
 * serve (tokenize/crew.h), and append to `ids`, which the caller frees whatever they return. */
#ifndef LODE_STAGES_TOKENIZE_WORK_H
#define LODE_STAGES_TOKENIZE_WORK_H

#include "common/run.h"
#include "text/corpus.h"
#include "tokenize/crew.h"
#include "tokenize/ids.h"

/* The calibration sequences as the experiment selects, cuts and packs them, or those that
 * lode merge joined. Errors: LODE_ERR_INPUT (no corpus, nothing usable in it), LODE_ERR_FORMAT. */
LODE_MUST_USE lode_status_t lode_tokenize_calibration(lode_ids_t *ids, const lode_run_t *run,
                                                      const lode_crew_t *crew);

/* The text of a perplexity (common/protocol): a sequence for each document. */
typedef struct lode_tokenized {
    lode_ids_t ids;       /* with the token before each document, without the prefix */
    int32_t bos;          /* the token before each document, −1 for none */
    int32_t prefix;       /* of lm-eval, else −1 */
    int64_t words, bytes; /* of all documents */
} lode_tokenized_t;
void lode_tokenized_free(lode_tokenized_t *text); /* leaves {0}. Local. */

/* Tokenises the text of a perplexity entry as its protocol and its key bos want; `text` is {0}
 * before, and for lode_tokenized_free whatever is returned. Errors: LODE_ERR_INPUT (no corpus, one
 * shorter than a window, no prefix token), LODE_ERR_FORMAT. */
LODE_MUST_USE lode_status_t lode_tokenize_perplexity(lode_tokenized_t *text, const lode_run_t *run,
                                                     const lode_config_perplexity_t *entry,
                                                     const lode_crew_t *crew);

/* The token that the first token of a text is predicted from (model/prefix), of an entry of the
 * protocol lm-eval; −1 for other protocols. folder: of the model. Errors: LODE_ERR_INPUT where the
 * model has neither BOS nor EOS, those of lode_prefix_token. Local. */
LODE_MUST_USE lode_status_t lode_tokenize_prefix(int32_t *prefix,
                                                 const lode_config_perplexity_t *entry,
                                                 const char *folder,
                                                 const lode_architecture_t *architecture,
                                                 const lode_tokenizer_t *tokenizer);

/* What a model is trained on: sequences of train.length ids, one after the other. */
typedef struct lode_training_ids {
    lode_ids_t train, validation; /* what they know of texts is not to be used */
} lode_training_ids_t;

/* All texts of train.corpus with what the tokenizer puts before them, or else, from scratch, the
 * BOS of config.json, one after the other and cut, the tail dropped; and the first of
 * train.validation.corpus likewise. `ids` is {0} before. Errors: LODE_ERR_INPUT (no corpus, one
 * shorter than a sequence), LODE_ERR_FORMAT. */
LODE_MUST_USE lode_status_t lode_tokenize_training(lode_training_ids_t *ids, const lode_run_t *run,
                                                   const lode_crew_t *crew);

/* Whether the causal checks have texts of their own. Local. */
bool lode_tokenize_has_probe(const lode_config_t *config);

/* Those texts. Errors: LODE_ERR_INPUT, LODE_ERR_FORMAT. */
LODE_MUST_USE lode_status_t lode_tokenize_probe(lode_ids_t *ids, const lode_config_probe_t *probe,
                                                const lode_crew_t *crew);

/* Appends one sequence a text of the corpus, with its special tokens and cut to `max_length`, until
 * ids->sequences is `sequences` or the texts are all used; texts under two tokens have no loss and
 * are skipped. */
LODE_MUST_USE lode_status_t lode_tokenize_first(lode_ids_t *ids, const lode_crew_t *crew,
                                                const lode_corpus_t *corpus, int64_t sequences,
                                                int64_t max_length);

/* Encodes the texts of `corpus` that `chosen` [count] lists, or, where it is NULL, those from
 * `first` on: one sequence each, with special tokens, of any length. A failure names the text. */
LODE_MUST_USE lode_status_t lode_tokenize_texts(lode_ids_t *ids, const lode_crew_t *crew,
                                                const lode_corpus_t *corpus, const int64_t *chosen,
                                                int64_t first, int64_t count);

/* How many texts from `next` on may give `missing` tokens: a token is mostly three bytes or more,
 * so that this is rarely asked twice and rarely encodes much that is not needed. Local. */
int64_t lode_tokenize_texts_for(const lode_corpus_t *corpus, int64_t next, int64_t missing);

/* Creates a one-dimensional dataset of rank 0's length and lets rank 0 fill it. A failed write
 * sticks to the store and fails its commit, so that rank 0 does not leave the others waiting.
 * Collective. */
LODE_MUST_USE lode_status_t lode_tokenize_put(lode_store_t *store, const lode_run_t *run,
                                              const char *name, lode_type_t type, int64_t count,
                                              const void *data);

#endif
