/* superweight/work: what the stage's own files share. */
#ifndef LODE_STAGES_SUPERWEIGHT_WORK_H
#define LODE_STAGES_SUPERWEIGHT_WORK_H

#include "common/run.h"
#include "score/outlier.h"
#include "superweight/search.h"
#include "superweight/superweight.h"

/* What a super weight's channel is to the loss, and whether the weight is published. */
typedef struct lode_superweight_relation {
    int32_t loss_proxy_rank;
    double loss_proxy_share;
    uint8_t core, halo, known;
} lode_superweight_relation_t;

/* Weights, on rank 0; ordered by their places. */
typedef struct lode_superweight_others {
    lode_outlier_t *item; /* [count] */
    int64_t count;
} lode_superweight_others_t;

/* The model as it is, without its super weights, without them but with their products put back. */
enum { LODE_SUPERWEIGHT_BEFORE, LODE_SUPERWEIGHT_AFTER, LODE_SUPERWEIGHT_RESTORED };
enum { LODE_SUPERWEIGHT_MODELS = LODE_SUPERWEIGHT_RESTORED + 1 };

typedef struct lode_superweight_stopwords {
    bool wanted;
    char *list; /* one on a line */
    int64_t words;
    int64_t *offset; /* [words + 1] into token */
    int32_t *token;
    int32_t *all; /* [all_count] the tokens of all words, each once, ascending */
    int64_t all_count;
    lode_superweight_text_t texts;
    double *mean[LODE_SUPERWEIGHT_MODELS]; /* [words + 1], the last that of all tokens */
} lode_superweight_stopwords_t;

/* Published coordinates of this model, on rank 0. */
typedef struct lode_superweight_known {
    bool listed; /* whether there are any */
    char *source;
    int32_t *layer, *row, *channel; /* [count] */
    uint8_t *found;
    int64_t count;
} lode_superweight_known_t;

typedef struct lode_superweight_work {
    lode_run_t *run;
    int64_t L, d, m;
    lode_store_t *tokenize, *accumulate, *classify; /* open for reading */
    lode_store_t *store;
    lode_superweight_text_t prompts;
    lode_superweight_list_t list;
    lode_superweight_relation_t *relation; /* [list.count], on rank 0 alone */
    lode_superweight_others_t tensor, global;
    lode_superweight_stopwords_t stopwords;
    lode_superweight_known_t known;
} lode_superweight_work_t;

/* --- others.c -------------------------------------------------------------------------------- */

/* The other weights that experiments take, where they ask for them. Collective. */
LODE_MUST_USE lode_status_t lode_superweight_others_find(lode_superweight_work_t *work);

/* --- stopwords.c ----------------------------------------------------------------------------- */

/* Reads the words, their tokens and the texts. Local. */
LODE_MUST_USE lode_status_t lode_superweight_stopwords_read(lode_superweight_work_t *work);

/* Measures their probabilities. Collective. */
LODE_MUST_USE lode_status_t lode_superweight_stopwords_measure(lode_superweight_work_t *work);
void lode_superweight_stopwords_free(lode_superweight_stopwords_t *stopwords);

/* --- relate.c -------------------------------------------------------------------------------- */

/* Says of each super weight what its channel is to the loss, and which of them are published, with
 * what is published besides. On rank 0. Errors: LODE_ERR_FORMAT, LODE_ERR_INPUT (known). Local. */
LODE_MUST_USE lode_status_t lode_superweight_relate(lode_superweight_work_t *work);
void lode_superweight_known_free(lode_superweight_known_t *known);

/* --- write.c --------------------------------------------------------------------------------- */

/* Creates all datasets and writes them from rank 0; of a store that only counts, what they take.
 * Collective. */
LODE_MUST_USE lode_status_t lode_superweight_write(lode_superweight_work_t *work);

#endif
