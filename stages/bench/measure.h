/* stages/bench/measure: what is timed on a sample, and the timing. */
#ifndef LODE_STAGES_BENCH_MEASURE_H
#define LODE_STAGES_BENCH_MEASURE_H

#include "bench/sample.h"
#include "comm/context.h"

typedef enum lode_item_kind {
    LODE_ITEM_SGEMM,           /* BLAS alone at the shape of a linear layer */
    LODE_ITEM_LINEAR,          /* that layer forward, weights as they are stored */
    LODE_ITEM_LINEAR_BACKWARD, /* the gradient of its input */
    LODE_ITEM_LINEAR_GRADIENT, /* the gradient of its weights */
    LODE_ITEM_FORWARD,         /* the sample's layers, one after the other */
    LODE_ITEM_BACKWARD,        /* the same back, from the activations that the forward kept */
    LODE_ITEM_RECOMPUTED,      /* forward and back, activations computed again */
    LODE_ITEM_TRAINING,        /* forward and back with the gradients of weights */
    LODE_ITEM_ATTENTION,       /* scores, softmax and values, and hardly anything else */
    LODE_ITEM_ATTENTION_BACKWARD,
    LODE_ITEM_NORMS, /* of a layer */
    LODE_ITEM_NORMS_BACKWARD,
    LODE_ITEM_ROPE, /* queries and keys, forward and back */
    LODE_ITEM_ACTIVATION,
    LODE_ITEM_ACTIVATION_BACKWARD,
    LODE_ITEM_STATISTICS,    /* the channel sums of accumulate */
    LODE_ITEM_CONVERSION,    /* of a layer's matrices to float, which the linear layers include */
    LODE_ITEM_HEAD,          /* final norm, head and loss */
    LODE_ITEM_HEAD_BACKWARD, /* the same with the gradient */
    LODE_ITEM_OPTIMIZER,     /* AdamW; its tokens are parameters */
    LODE_ITEM_KINDS
} lode_item_kind_t;

/* One thing that is timed. */
typedef struct lode_item {
    lode_item_kind_t kind;
    const lode_sample_shape_t *shape; /* of the first four */
    const char *name;
    double tokens;        /* computed by one call */
    double flops;         /* of one call, 0 where bytes are what counts */
    double bytes;         /* read and written by one call, each operand once */
    double slowest, mean; /* seconds of a call, over ranks; each rank's is the median */
} lode_item_t;

/* Lists what can be timed on the sample; *items is the caller's. Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_measure_list(lode_item_t **items, int64_t *count,
                                              const lode_sample_t *sample);

/* Times all items in turn, several times over, and sets slowest and mean. Ranks begin each round
 * together. enough: seconds; rounds: out, how often: 3 times at least, more often, up to 15 times,
 * where that takes no longer than `enough`. Errors: LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_measure_run(const lode_comm_t *comm, lode_item_t *items,
                                             int64_t count, lode_sample_t *sample, double enough,
                                             int *rounds);

/* The item of a kind; NULL where the sample has none. `shape` NULL: any. Local. */
const lode_item_t *lode_measure_find(const lode_item_t *items, int64_t count, lode_item_kind_t kind,
                                     const lode_sample_shape_t *shape);

#endif
