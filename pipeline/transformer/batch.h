/* transformer/batch: micro-batches, the unit that streams through the ranks.
 *
 * A micro-batch is a run of whole sequences, packed without padding until the next one would exceed
 * the given number of tokens (a longer sequence has a micro-batch of its own). Their composition
 * depends on the sequences and that number alone. Everything here is Local.
 */
#ifndef LODE_TRANSFORMER_BATCH_H
#define LODE_TRANSFORMER_BATCH_H

#include "base/error.h"
#include "kernels/layer.h"

/* Token sequences with what is to be predicted at each position. */
typedef struct lode_text {
    int64_t sequences;
    const int64_t *offsets; /* [sequences + 1], offsets[0] = 0 */
    const int32_t *ids;     /* [tokens], tokens = offsets[sequences] */
    const int32_t *target;  /* [tokens] next token, −1 where none is scored */
    const double *weight;   /* [tokens] weight of its loss in the gradient; NULL without backward */
} lode_text_t;

typedef struct lode_batch {
    int64_t first_sequence;
    lode_sequences_t sequences; /* offsets relative to first_token */
    int64_t first_token, tokens;
} lode_batch_t;

typedef struct lode_batches {
    const lode_text_t *text; /* not owned, outlives this */
    int64_t count;
    lode_batch_t *batch; /* [count] */
    int64_t max_tokens;  /* of a micro-batch */
    int64_t longest;     /* sequence */
    int64_t *offsets;    /* storage of the batches' offsets */
} lode_batches_t;

/* Errors: LODE_ERR_MEMORY. On failure *batches is {0}. */
LODE_MUST_USE lode_status_t lode_batches_create(lode_batches_t *batches, const lode_text_t *text,
                                                int64_t tokens_per_batch);
void lode_batches_destroy(lode_batches_t *batches); /* leaves {0} */

#endif
