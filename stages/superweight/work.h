/* superweight/work: what the stage's own files share. */
#ifndef LODE_STAGES_SUPERWEIGHT_WORK_H
#define LODE_STAGES_SUPERWEIGHT_WORK_H

#include "common/run.h"
#include "kernels/codec.h"
#include "score/outlier.h"
#include "score/spike.h"
#include "superweight/superweight.h"
#include "transformer/pass.h"

/* One super weight. */
typedef struct lode_superweight {
    int32_t layer, row, channel;
    float value;               /* Wdown[row, channel] */
    int32_t iteration, prompt; /* where it was seen */
    lode_spike_layer_t seen;
    int32_t loss_proxy_rank; /* of the channel; this and what follows on rank 0 alone */
    double loss_proxy_share;
    uint8_t core, halo, known;
} lode_superweight_t;

/* Sequences of tokenize.h5 without targets. */
typedef struct lode_superweight_text {
    lode_text_t text;
    int64_t *offsets;
    int32_t *ids, *target;
} lode_superweight_text_t;

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
    lode_superweight_t *found; /* [count], in the order of finding; the same on all ranks */
    int64_t count;
    bool limit_reached;
    lode_spike_layer_t *trace; /* [count + 1, prompts, L]; the same on all ranks */
    lode_superweight_others_t tensor, global;
    lode_superweight_stopwords_t stopwords;
    lode_superweight_known_t known;
} lode_superweight_work_t;

/* --- text.c ---------------------------------------------------------------------------------- */

/* Reads <group>/ids and <group>/offsets. *text is for lode_superweight_text_free. Local. */
LODE_MUST_USE lode_status_t lode_superweight_text_read(lode_superweight_text_t *text,
                                                       lode_store_t *tokenize, const char *group);
void lode_superweight_text_free(lode_superweight_text_t *text);

/* --- search.c -------------------------------------------------------------------------------- */

/* What a stack without super weights points at. Initialise with {0}. */
typedef struct lode_superweight_edits {
    lode_held_t *held;    /* [found] by layer, then place */
    lode_held_t *restore; /* the same */
    lode_codec_t *codec;  /* [layers of the stack] */
} lode_superweight_edits_t;

/* Makes the stack the model with all super weights found set to 0; `restored` puts their products
 * back. What was there before is replaced; `edits` must stay as long as the stack is used, and be
 * released then. A NULL stack is left alone. Local. */
LODE_MUST_USE lode_status_t lode_superweight_edit(const lode_superweight_work_t *work,
                                                  lode_stack_t *stack, bool restored,
                                                  lode_superweight_edits_t *edits);
void lode_superweight_edits_free(lode_superweight_edits_t *edits); /* leaves {0} */

/* One pass of a text through the stack; `head`: up to the logits. other: private bytes that the
 * caller holds. Collective. */
LODE_MUST_USE lode_status_t lode_superweight_pass(const lode_superweight_work_t *work,
                                                  lode_stack_t *stack,
                                                  const lode_batches_t *batches, bool head,
                                                  int64_t other, const lode_observer_t *observer);

/* Finds the super weights, with their traces. Collective. */
LODE_MUST_USE lode_status_t lode_superweight_search(lode_superweight_work_t *work);

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
