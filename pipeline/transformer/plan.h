/* transformer/plan: who computes which variants of which micro-batches, and from which layer.
 *
 * Every micro-batch passes through all variants of the model before the next one does. Variant v
 * may equal variant parent[v] < v in all layers below start[v]: then it is computed from that layer
 * on, from the parent's hidden states, which the rank that owns the layer has kept; where start[v]
 * is the number of layers, its losses are the parent's. A rank whose layers all lie below start[v]
 * has nothing to do for v, so it neither receives nor sends anything. Pure functions; everything
 * here is Local.
 */
#ifndef LODE_TRANSFORMER_PLAN_H
#define LODE_TRANSFORMER_PLAN_H

#include <stdint.h>

#include "base/error.h"

/* The share of one replica: all variants of the micro-batches replica, replica + replicas, …,
 * `whole` of them; then the variants [part_first, part_end) of micro-batch part_batch, where that
 * is not −1. The micro-batches that are left over when all replicas have equally many are divided
 * variant by variant. */
typedef struct lode_plan_share {
    int64_t whole;
    int64_t part_batch, part_first, part_end;
} lode_plan_share_t;

/* The share of `replica` in `batches` ≥ 0 micro-batches of `variants` ≥ 1 variants of `layers`
 * layers. start [variants], NULL: all 0. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_plan_divide(lode_plan_share_t *share, int64_t batches,
                                             int64_t variants, const int64_t *start, int64_t layers,
                                             int replicas, int replica);

/* Hidden states that a rank keeps: those of `variant` before `layer`. */
typedef struct lode_plan_state {
    int64_t variant, layer;
    int64_t last; /* the variant that uses them last */
    int64_t slot; /* of the rank that owns the layer, from 0 */
} lode_plan_state_t;

/* How the variants [first, end) of one micro-batch are computed by one pipeline. */
typedef struct lode_plan {
    int64_t first, end, layers;
    /* [end], entries below `first` unset: as given where the parent is among them and some rank can
     * keep its hidden states; else those of an ancestor, or of the same variant before an earlier
     * layer; else −1 and 0. A parent computes the layer below start[v] itself. */
    int64_t *parent, *start;
    lode_plan_state_t *states; /* [state_count], ascending by variant, then layer */
    int64_t state_count;
} lode_plan_t;

/* parent, start [end]: as above, of the whole model; both NULL: nothing in common.
 * stages, layer_end [stages]: stage s owns layers layer_end[s − 1] … layer_end[s] − 1.
 * slots [stages]: hidden states of a micro-batch that each can keep at once.
 * *plan is for lode_plan_destroy, {0} on failure. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_plan_create(lode_plan_t *plan, int64_t first, int64_t end,
                                             const int64_t *parent, const int64_t *start,
                                             int64_t layers, int stages, const int64_t *layer_end,
                                             const int64_t *slots);
void lode_plan_destroy(lode_plan_t *plan);

/* Slots that the states before layers [first_layer, layer_end) take. */
int64_t lode_plan_slots(const lode_plan_t *plan, int64_t first_layer, int64_t layer_end);

/* The slot of the states of `variant` before `layer`, −1 where they are not kept. */
int64_t lode_plan_slot(const lode_plan_t *plan, int64_t variant, int64_t layer);

/* Variants that start below `layer`: so many messages go down to the rank that begins with it. */
int64_t lode_plan_count_below(const lode_plan_t *plan, int64_t layer);

#endif
