/* stages/common/evaluation: losses of many variants of one model over one text.
 *
 * A variant is the model with some layers edited (transformer/stack.h). Every
 * micro-batch passes through all variants before the next one does, and what variants have in
 * common is computed once: one that equals another in all layers below `start` goes on from the
 * other's hidden states there. Neither that, nor the layout, nor the memory changes a bit.
 */
#ifndef LODE_STAGES_COMMON_EVALUATION_H
#define LODE_STAGES_COMMON_EVALUATION_H

#include "common/protocol.h"
#include "common/run.h"

/* Describes the edit of the model's layer `layer` in variant `variant` in *edit, which is {0} on
 * entry: nothing edited. It is asked about layers that this rank owns, and again for every
 * micro-batch. What *edit points at must stay until the next question about the same layer, or the
 * end of the call that asks. Local. */
typedef lode_status_t (*lode_edit_callback_t)(void *context, int64_t variant, int64_t layer,
                                              lode_layer_edit_t *edit);

/* --- what variants have in common ------------------------------------------------------------ */

/* Digests of the contents of all edits (common/edit_hash). The same on all ranks. */
typedef struct lode_edit_digests {
    int64_t variants, layers;
    char (*layer)[LODE_DIGEST_TEXT];   /* [variants, layers] */
    char (*variant)[LODE_DIGEST_TEXT]; /* [variants] of all layers of each */
} lode_edit_digests_t;

/* Asks `edit` about all variants and layers. *digests is for lode_edit_digests_free, {0} on
 * failure. Errors: LODE_ERR_MEMORY and the callback's. Collective. */
LODE_MUST_USE lode_status_t lode_edit_digests_create(lode_edit_digests_t *digests,
                                                     const lode_run_t *run, int64_t variants,
                                                     lode_edit_callback_t edit, void *context);
void lode_edit_digests_free(lode_edit_digests_t *digests);

/* For `count` variants, selected [count] in the digests' numbers: parent [count] out is the place
 * in `selected`, before its own, of the first variant that agrees with it in the most layers from
 * the first on, and start [count] out the number of these layers; −1 and 0 where no earlier one
 * agrees in any. Equal variants have start = layers. Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_edit_digests_share(const lode_edit_digests_t *digests,
                                                    const int64_t *selected, int64_t count,
                                                    int64_t *parent, int64_t *start);

/* --- running --------------------------------------------------------------------------------- */

typedef struct lode_evaluation {
    const char *stage;       /* for progress lines and messages */
    const lode_text_t *text; /* sequences with their targets; no weights */
    int64_t variants;
    /* Variant v equals variant parent[v] < v in all layers below start[v], entirely where that is
     * the number of layers; −1 and 0 for no parent. [variants], the same on all ranks. Both NULL
     * have them found: edits are then compared first, which a few large variants are worth. */
    const int64_t *parent, *start;
    int64_t other; /* private bytes of this rank that the caller holds, out of the budget */
    void *context;
    lode_edit_callback_t edit; /* NULL: nothing is edited */
    /* Negative log-likelihoods [tokens] of a micro-batch in nats, and whether the target has the
     * largest logit, the first among equals (1 or 0) [tokens]; both 0 where there is no target.
     * Called once for each variant and micro-batch, on the one rank that has them. Local. */
    lode_status_t (*losses)(void *context, int64_t variant, const lode_batch_t *batch,
                            const double *nll, const uint8_t *greedy);
    /* Whether an interrupted run has the losses of all variants of a micro-batch, which is then
     * left out. Must be the same on all ranks. NULL: of none. Local. */
    bool (*done)(void *context, const lode_batch_t *batch);
} lode_evaluation_t;

/* Cuts the text into the experiment's micro-batches and runs all variants over them.
 * Errors, the same on all ranks: LODE_ERR_NUMERIC, LODE_ERR_MEMORY, and the callbacks'.
 * Collective. */
LODE_MUST_USE lode_status_t lode_evaluation_run(const lode_run_t *run,
                                                const lode_evaluation_t *evaluation);

/* --- texts of perplexities ------------------------------------------------------------------- */

/* The windows of a perplexity, from the open tokenize file; for lode_windows_free. *bos out:
 * the token before the text, −1 for none. Errors: LODE_ERR_MEMORY,
 * LODE_ERR_CONFIG (lode_windows_create), those of reading. Local. */
LODE_MUST_USE lode_status_t lode_evaluation_windows(lode_windows_t *windows, int32_t *bos,
                                                    lode_store_t *tokenize,
                                                    const lode_config_perplexity_t *entry);

#endif
