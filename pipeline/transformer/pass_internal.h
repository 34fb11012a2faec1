/* transformer/pass_internal: what the pass's own files share.
 *
 * pass.c decides what is computed when, and sends and receives; pass_layers.c computes what a rank
 * has to do with one micro-batch; pass_size.c tells what a pass will take. Everything here is
 * Local.
 */
#ifndef LODE_TRANSFORMER_PASS_INTERNAL_H
#define LODE_TRANSFORMER_PASS_INTERNAL_H

#include "base/log.h"
#include "transformer/arena.h"
#include "transformer/channel.h"
#include "transformer/notice.h"
#include "transformer/pass.h"

/* One rank's state during a pass. A replica's micro-batches are numbered from 0, in the order of
 * its share. */
typedef struct lode_pass_engine {
    const lode_pass_t *pass;
    lode_status_t status;    /* this rank's own error */
    bool sound;              /* neither that nor a marked message so far */
    lode_plan_share_t share; /* of this replica */
    lode_plan_t whole, part; /* for its whole micro-batches, and for the one that it shares */
    int64_t *todo;           /* [todo_count] micro-batches that are not done */
    int64_t todo_count;
    int64_t end;        /* first of the replica's micro-batches that is not begun any more */
    double begun, unit; /* when the last one was, and the most seconds between two */
    lode_notice_t notice;
    int64_t variant; /* the stack is prepared for, −1 at first */
    lode_arena_t arena;
    lode_channel_t forward_in, forward_out, backward_in, backward_out;
    int64_t received, sent, messages; /* forward, so far; to be received in all */
    lode_progress_t progress;
    const lode_stack_gradient_t *gradient; /* of micro-batch gradient_item, NULL: not wanted */
    int64_t gradient_item;                 /* −1 at first */
} lode_pass_engine_t;

/* A variant of a micro-batch. */
typedef struct lode_pass_work {
    int64_t item; /* the micro-batch, in the replica's numbers */
    const lode_batch_t *batch;
    const lode_plan_t *plan;
    int64_t variant;
} lode_pass_work_t;

/* --- pass.c ----------------------------------------------------------------------------------- */

/* Lets messages that are under way go on. */
void lode_pass_progress(lode_pass_engine_t *engine);

/* --- pass_layers.c ---------------------------------------------------------------------------- */

/* Hidden states that this rank keeps: those of `variant` before its layer `layer`; NULL where it
 * does not. */
lode_real_t *lode_pass_state(const lode_pass_engine_t *engine, const lode_pass_work_t *work,
                             int64_t variant, int64_t layer);

/* Where the input of the stack's layer `layer` is put when it is computed. */
lode_real_t *lode_pass_input(lode_pass_engine_t *engine, const lode_pass_work_t *work,
                             int64_t layer);

/* Layers from the stack's `layer` on, whose input is `x`; the last one's output goes to
 * `last_output`. Errors: LODE_ERR_NUMERIC, LODE_ERR_IO, the observer's. */
LODE_MUST_USE lode_status_t lode_pass_forward(lode_pass_engine_t *engine,
                                              const lode_pass_work_t *work, int64_t layer,
                                              lode_real_t *x, lode_real_t *last_output);

/* Final norm, head and loss of one micro-batch; leaves the gradient of the loss with respect to
 * arena.final in arena.gradient. Errors: LODE_ERR_NUMERIC, the observer's. */
LODE_MUST_USE lode_status_t lode_pass_head(lode_pass_engine_t *engine,
                                           const lode_pass_work_t *work);

/* Runs the gradient `dy` down through this rank's layers, in place, and through the embedding where
 * weights' gradients are wanted. Errors: LODE_ERR_IO, the observer's. */
LODE_MUST_USE lode_status_t lode_pass_backward(lode_pass_engine_t *engine, int64_t item,
                                               const lode_batch_t *batch, lode_real_t *dy);

#endif
