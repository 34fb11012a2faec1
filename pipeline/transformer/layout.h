/* transformer/layout: which layers a rank owns.
 *
 * Ranks form `replicas` pipelines of `stages` ranks each; rank = replica · stages + stage. A stage
 * owns a contiguous run of layers, the first also the embedding, the last also the final norm and
 * the output head. Replicas own the same layers and share the micro-batches. Ranks that are left
 * over idle. Nothing but speed depends on any of this. Everything here is Local.
 */
#ifndef LODE_TRANSFORMER_LAYOUT_H
#define LODE_TRANSFORMER_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/architecture.h"

typedef struct lode_layout {
    int replicas, stages;
    int replica, stage;             /* this rank's, −1 where it idles */
    int previous, next;             /* neighbouring ranks in the pipeline, −1 at its ends */
    int64_t layers;                 /* of the model */
    int64_t first_layer, layer_end; /* [first_layer, layer_end), possibly empty */
    bool embedding, head;           /* owned by this rank */
} lode_layout_t;

/* Lays `size` ranks out for a model and describes `rank`'s part.
 * replicas: 0 chooses the fewest that leave no pipeline longer than the model has parts (layers and
 * head); otherwise that many. Costs are multiply-adds per token, attention over `length` tokens
 * included. Errors: LODE_ERR_CONFIG where there are more replicas than ranks; LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_layout_create(lode_layout_t *layout,
                                               const lode_architecture_t *architecture,
                                               int64_t length, int size, int rank,
                                               int64_t replicas);

#endif
