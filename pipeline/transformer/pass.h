/* transformer/pass: streams micro-batches through the layers of a model that is split over ranks.
 *
 * Each micro-batch passes through all variants of the model, and what they have in common is
 * computed once (transformer/plan). All ranks of a pipeline compute at once; hidden states and
 * their gradients travel between neighbours while the next micro-batch is being computed. What a
 * kernel is called with depends on the micro-batch alone, so every number is bit-identical for any
 * layout, memory or interruption.
 *
 * A rank that fails goes on taking part, sending marked messages instead of results, so that
 * nobody waits for it; all ranks leave together with its error. A pass that is to stop
 * (base/stop.h) begins no further micro-batches, ends those that are under way, and leaves with
 * LODE_STOPPED; so does, with its error, one on a rank of which something failed.
 */
#ifndef LODE_TRANSFORMER_PASS_H
#define LODE_TRANSFORMER_PASS_H

#include "comm/context.h"
#include "transformer/batch.h"
#include "transformer/plan.h"
#include "transformer/schedule.h"
#include "transformer/stack.h"

/* What the caller wants to see, called on the rank that has it; any may be NULL. A failure stops
 * the pass on all ranks. Arrays are valid during the call only. */
typedef struct lode_observer {
    void *context;
    /* Before a variant is computed on this rank after another one, so once a micro-batch where
     * there are several: to edit the stack's layers. Those below layer `start` of the model are not
     * computed and may be left as they are. */
    lode_status_t (*variant)(void *context, int64_t variant, int64_t start, lode_stack_t *stack);
    /* After a layer's forward: FFN input h [tokens, d] and u [tokens, m]. Called once a micro-batch
     * and layer, not when activations are computed again. */
    lode_status_t (*ffn_forward)(void *context, const lode_batch_t *batch, int64_t layer,
                                 const lode_real_t *h, const lode_real_t *u);
    /* During a layer's forward: an input x [tokens, width] of its linear layers, before any input
     * codec. Called for each of the four in their order, once a micro-batch and layer, not when
     * activations are computed again. A failure stops the pass after the layer. */
    lode_status_t (*input)(void *context, const lode_batch_t *batch, int64_t layer,
                           lode_input_t which, const lode_real_t *x);
    /* During a layer's backward: u and g = dL/du [tokens, m]. */
    lode_status_t (*ffn_backward)(void *context, const lode_batch_t *batch, int64_t layer,
                                  const lode_real_t *u, const lode_real_t *g);
    /* Where the gradients of a micro-batch's weights are added, which then are computed, right down
     * to the embedding; NULL: of this micro-batch none are wanted. Called once a micro-batch on
     * each rank, before the first of its gradients is added there; micro-batches come in the order
     * of the rank's share. Only with backward; the layers are then those of the checkpoint. */
    const lode_stack_gradient_t *(*gradient)(void *context, const lode_batch_t *batch);
    /* Logits [rows, vocab] of tokens first_token … of the text, uncompacted passes only. */
    lode_status_t (*logits)(void *context, int64_t first_token, int64_t rows,
                            const lode_real_t *logits);
    /* Negative log-likelihoods [tokens] of a micro-batch in nats, and whether the target has the
     * largest logit, the first among equals (1 or 0) [tokens]; both 0 where there is no target.
     * Once for each variant. */
    lode_status_t (*losses)(void *context, int64_t variant, const lode_batch_t *batch,
                            const double *nll, const uint8_t *greedy);
} lode_observer_t;

/* Memory for activations that a caller keeps from one of its passes to the next, so that it need
 * not be found again; {0} at first, grows to what the largest pass takes. `reals` is for free(). */
typedef struct lode_pass_room {
    lode_real_t *reals;
    int64_t count;
} lode_pass_room_t;

typedef struct lode_pass {
    const char *stage; /* for progress lines */
    const lode_comm_t *comm;
    const lode_layout_t *layout;
    lode_stack_t *stack; /* NULL on a rank that idles */
    const lode_batches_t *batches;
    int64_t variants; /* the batches pass once for each; 1 with backward */
    /* Variant v equals variant parent[v] < v in all layers below start[v], entirely where that is
     * the number of layers; −1 and 0 for no parent. [variants], the same on all ranks; both NULL:
     * nothing in common. */
    const int64_t *parent, *start;
    bool backward;        /* down to u of the first layer, or to the embedding: see the observer */
    bool quiet;           /* no progress is shown */
    bool unstopped;       /* a part of a larger unit of work: goes on where a stop is asked for */
    bool compact;         /* the head sees only positions with a target; not with backward */
    int64_t head_batches; /* the head runs for the first so many micro-batches of a variant */
    int64_t budget;       /* private bytes this pass may use for activations */
    const char *blame;    /* what is said where numbers are not finite, NULL: the checkpoint is */
    lode_pass_room_t *room; /* for most of them; NULL: the pass finds its own */
    /* Micro-batches that are left out where this is 1, [batches]; the same on all ranks. NULL:
     * none. What the others give does not depend on it. */
    const uint8_t *done;
    const char *scratch; /* folder for a scratch file, which has no name; NULL: none is made */
    lode_observer_t observer;
} lode_pass_t;

/* What the memory of a pass depends on; none of it needs weights. */
typedef struct lode_pass_size {
    const lode_architecture_t *architecture;
    const lode_layout_t *layout;   /* of the rank in question */
    int64_t tokens;                /* of the largest micro-batch */
    int64_t batches;               /* micro-batches, of all replicas */
    int64_t variants;              /* as in lode_pass_t, with the following */
    const int64_t *parent, *start; /* may be NULL */
    bool backward;
} lode_pass_size_t;

/* Private bytes of a rank, 0 where it idles. */
typedef struct lode_pass_memory {
    int64_t least;  /* without this it cannot run */
    int64_t inputs; /* without this the backward needs a scratch file, for inputs of layers */
    int64_t all;    /* with this it computes nothing twice, neither activations nor what variants
                       have in common */
} lode_pass_memory_t;

/* Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_pass_memory(const lode_pass_size_t *size,
                                             lode_pass_memory_t *memory);

/* What a rank of a pass makes of its budget. */
typedef struct lode_pass_choice {
    bool fits;       /* false: the budget is below the least, which the rest is then of */
    int64_t kept;    /* layers whose activations are kept for the backward */
    int64_t memory;  /* private bytes */
    int64_t scratch; /* bytes of the scratch file */
} lode_pass_choice_t;

/* Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_pass_choose(const lode_pass_size_t *size, int64_t budget,
                                             lode_pass_choice_t *choice);

/* Bytes of the scratch file that a pass makes on the rank within `budget` private bytes; 0 where it
 * needs none, or cannot run. Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_pass_scratch(const lode_pass_size_t *size, int64_t budget,
                                              int64_t *bytes);

/* The size of a pass on this rank, whose stack exists unless it idles. Local. */
lode_pass_size_t lode_pass_size(const lode_pass_t *pass);

/* Runs the pass. What variants have in common is computed once as far as the hidden states that
 * this takes fit the budgets of the ranks that would keep them. Errors, the same on every rank:
 * LODE_ERR_MEMORY where the budget is below lode_pass_memory's least (inputs without a scratch
 * folder), LODE_ERR_IO where the scratch file's folder lacks room, LODE_ERR_NUMERIC where hidden
 * states stop being finite, LODE_STOPPED where a stop was asked for on any rank and micro-batches
 * are left, and whatever the observer returns. Collective over pass->comm, idle
 * ranks included. */
LODE_MUST_USE lode_status_t lode_pass_run(const lode_pass_t *pass);

#endif
