/* superweight/search: the super weights of a model, found from passes of prompts alone.
 *
 * What is called one is in score/spike.h. Any model can be searched that a run describes, another
 * version of the experiment's own (lode_run_view) too: with the settings of superweight, and with
 * the prompts as they were tokenized for the experiment's model. Nothing here depends on the number
 * of ranks.
 */
#ifndef LODE_STAGES_SUPERWEIGHT_SEARCH_H
#define LODE_STAGES_SUPERWEIGHT_SEARCH_H

#include "common/run.h"
#include "kernels/codec.h"
#include "score/spike.h"
#include "transformer/pass.h"

/* One super weight. */
typedef struct lode_superweight {
    int32_t layer, row, channel;
    float value;               /* Wdown[row, channel] */
    int32_t iteration, prompt; /* where it was seen */
    lode_spike_layer_t seen;
} lode_superweight_t;

/* What a search finds; the same on all ranks. Initialise with {0}. */
typedef struct lode_superweight_list {
    lode_superweight_t *found; /* [count], in the order of finding */
    int64_t count;
    bool limit_reached;        /* there may be more */
    lode_spike_layer_t *trace; /* [count + 1, prompts, L] */
} lode_superweight_list_t;

/* Sequences of tokenize.h5 without targets. */
typedef struct lode_superweight_text {
    lode_text_t text;
    int64_t *offsets;
    int32_t *ids, *target;
} lode_superweight_text_t;

/* Reads <group>/ids and <group>/offsets; "/superweight" has the prompts. *text is for
 * lode_superweight_text_free. Local. */
LODE_MUST_USE lode_status_t lode_superweight_text_read(lode_superweight_text_t *text,
                                                       lode_store_t *tokenize, const char *group);
void lode_superweight_text_free(lode_superweight_text_t *text);

/* Finds the super weights of the run's checkpoint, with their traces: all prompts pass through the
 * model, the earliest super weight of any of them is set to 0, and they pass again, until there is
 * none or superweight.limit are found.
 *   list     {0}; for lode_superweight_list_free, also on failure
 *   stage    begins lines of the log
 *   prompts  borrowed
 * Errors: LODE_ERR_NUMERIC where hidden states are not finite, LODE_ERR_MEMORY, LODE_STOPPED.
 * Collective. */
LODE_MUST_USE lode_status_t lode_superweight_search(lode_superweight_list_t *list, lode_run_t *run,
                                                    const char *stage, const lode_text_t *prompts);
void lode_superweight_list_free(lode_superweight_list_t *list); /* leaves {0} */

/* Private bytes of a search beside the stack and the pass, as if superweight.limit were found, for
 * so many prompts with `longest` tokens in the longest micro-batch. Local. */
int64_t lode_superweight_search_memory(const lode_run_t *run, int64_t prompts, int64_t longest);

/* What a stack without super weights points at. Initialise with {0}. */
typedef struct lode_superweight_edits {
    lode_held_t *held;    /* [found] by layer, then place */
    lode_held_t *restore; /* the same */
    lode_codec_t *codec;  /* [layers of the stack] */
} lode_superweight_edits_t;

/* Makes the stack the model with all super weights found set to 0; `restored` puts their products
 * back. What was there before is replaced; `edits` must stay as long as the stack is used, and be
 * released then. A NULL stack is left alone. Local. */
LODE_MUST_USE lode_status_t lode_superweight_edit(const lode_superweight_list_t *list,
                                                  lode_stack_t *stack, bool restored,
                                                  lode_superweight_edits_t *edits);
void lode_superweight_edits_free(lode_superweight_edits_t *edits); /* leaves {0} */

#endif
