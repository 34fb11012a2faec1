/* stages/tokenize/superweight: prompts, texts and stopwords of the stage superweight. */
#ifndef LODE_STAGES_TOKENIZE_SUPERWEIGHT_H
#define LODE_STAGES_TOKENIZE_SUPERWEIGHT_H

#include "tokenize/work.h"

/* Initialise with {0}. */
typedef struct lode_superweight_ids {
    lode_ids_t prompts; /* a sequence for each */
    lode_ids_t texts;   /* those of the stopword probabilities */
    lode_ids_t words;   /* for each stopword the ids of its tokens, ascending; perhaps none */
    lode_buffer_t list; /* the stopwords, one on a line */
} lode_superweight_ids_t;

/* Whether the experiment wants any of it, and stopword probabilities. Local. */
bool lode_tokenize_has_superweight(const lode_config_t *config);
bool lode_tokenize_has_stopwords(const lode_config_t *config);

/* Encodes the prompts and, where they are asked for, the first superweight.sequences texts of
 * superweight.corpus, cut at superweight.max_length, with BOS as superweight.bos says. A stopword
 * is a line of superweight.stopwords without the white space around it, the first of equal ones;
 * its tokens are those that alone are the word as it stands, with its first letter capitalised, or
 * either of them after a space. Words without a token are told in a message. On rank 0 while the
 * others serve. `ids` is for lode_superweight_ids_free whatever is returned. Errors: LODE_ERR_INPUT
 * (a prompt without tokens or longer than the model's positions, no text, no word),
 * LODE_ERR_FORMAT. */
LODE_MUST_USE lode_status_t lode_tokenize_superweight(lode_superweight_ids_t *ids,
                                                      const lode_run_t *run,
                                                      const lode_crew_t *crew);
void lode_superweight_ids_free(lode_superweight_ids_t *ids); /* leaves {0}. Local. */

#endif
