/* transformer/arena: where a pass keeps hidden states and activations; for transformer/pass alone.
 *
 * With backward, the input of each layer is needed again for every micro-batch in flight, and so
 * are the layer's activations, which can be computed again from it. As the budget shrinks, first
 * layers lose their activations, then their inputs go to a scratch file, until what is held no
 * longer depends on the number of layers. Everything here is Local.
 */
#ifndef LODE_TRANSFORMER_ARENA_H
#define LODE_TRANSFORMER_ARENA_H

#include "transformer/pass.h"
#include "transformer/spill.h"

/* What there is to hold. All 0 on a rank that idles. */
typedef struct lode_arena_shape {
    int64_t layers;      /* of this rank */
    int64_t tokens;      /* of the largest micro-batch */
    int64_t d, panel;    /* reals of a token's hidden state and of a micro-batch's, tokens · d */
    int64_t layer_reals; /* of a layer's activations beside its input */
    int64_t in_flight;   /* micro-batches whose activations exist at once; 1 without backward */
    int64_t states;      /* hidden states for other variants, if memory were no object */
    int neighbours;      /* in the pipeline */
    bool backward, head;
} lode_arena_shape_t;

typedef struct lode_arena {
    lode_arena_shape_t shape;
    int64_t held;  /* the first so many layers hold their inputs; those of the rest are spilled */
    int64_t kept;  /* as many of them keep their activations; the rest compute them again */
    int64_t slots; /* hidden states kept for other variants at once */
    lode_activations_t *activations; /* [in_flight, layers]; x where held, the rest where kept */
    lode_activations_t shared;       /* of the layer in hand, where not kept */
    lode_real_t *storage;            /* of these and the following */
    bool borrowed;                   /* the storage is a caller's room */
    lode_real_t *turns[2];           /* [T, d] layers' inputs that are not held, in turn */
    lode_real_t *states;             /* [slots, T, d] */
    lode_spill_t spill;              /* [in_flight, layers − held, T, d] */
    /* On the head's rank: */
    lode_real_t *final;             /* [T, d] input of the final norm */
    lode_real_t *normed;            /* [T, d] its output, then the gradient of that */
    lode_real_t *inverse;           /* [T] of the final norm */
    lode_real_t *gradient;          /* [T, d] dL/d(output of the last layer owned), any rank */
    double *nll, *row_nll, *weight; /* [T] */
    uint8_t *greedy, *row_greedy;   /* [T] */
    /* [T] tokens that the head sees, and their targets; on any rank, room of 2·T from `row` on. */
    int32_t *row, *target;
} lode_arena_t;

/* Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_arena_shape(lode_arena_shape_t *shape,
                                             const lode_pass_size_t *size);

/* Private bytes of a pass of this shape, channels included. */
lode_pass_memory_t lode_arena_memory(const lode_arena_shape_t *shape);

/* Decides what is kept within `budget` bytes, with a scratch file or without; allocates nothing.
 * Returns whether the budget suffices: without a scratch file it must reach `inputs`. */
bool lode_arena_choose(lode_arena_t *arena, const lode_arena_shape_t *shape, int64_t budget,
                       bool spill);

/* Private bytes of a choice. */
int64_t lode_arena_bytes(const lode_arena_t *arena);

/* Bytes of the scratch file that a choice asks for, 0 for none. */
int64_t lode_arena_scratch(const lode_arena_t *arena);

/* Allocates what was chosen, in `room` where that is not NULL, and claims the space of a scratch
 * file in the folder `scratch` where there is one. Errors: LODE_ERR_MEMORY, LODE_ERR_IO; the arena
 * may then only be closed. */
LODE_MUST_USE lode_status_t lode_arena_open(lode_arena_t *arena, const lode_stack_t *stack,
                                            const char *scratch, lode_pass_room_t *room);
void lode_arena_close(lode_arena_t *arena);

/* Hidden states kept in slot `slot` [T, d]. */
lode_real_t *lode_arena_state(const lode_arena_t *arena, int64_t slot);

/* Where the input [T, d] of the rank's layer `layer` is computed for micro-batch number `item`. */
lode_real_t *lode_arena_input(lode_arena_t *arena, int64_t item, int64_t layer);

/* Activations to compute that layer with: its own where kept, else shared ones; x is to be set. */
lode_activations_t *lode_arena_work(lode_arena_t *arena, int64_t item, int64_t layer);

/* Whether these are the layer's own, which need not be computed again. */
bool lode_arena_keeps(const lode_arena_t *arena, int64_t layer);

/* The layer's forward has run, its input has `count` reals. With backward, before the place of the
 * input is used again. Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_arena_put(lode_arena_t *arena, int64_t item, int64_t layer,
                                           int64_t count);

/* Gives the same input [T, d] back for the layer's backward, in *x, valid until that of the next
 * one. Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_arena_get(lode_arena_t *arena, int64_t item, int64_t layer,
                                           int64_t count, lode_real_t **x);

#endif
