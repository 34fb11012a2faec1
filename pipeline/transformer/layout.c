#include "transformer/layout.h"

#include <stdlib.h>

#include "base/memory.h"
#include "comm/partition.h"

/* Fills the shape of the layout and, in *first (the caller's), where each stage's parts begin; the
 * parts are the layers and, last, the head. */
static lode_status_t divide(lode_layout_t *layout, int64_t **first,
                            const lode_architecture_t *architecture, int64_t length, int size,
                            int64_t replicas) {
    const int64_t parts = architecture->layers + 1;
    if (replicas > size)
        return lode_fail(LODE_ERR_CONFIG,
                         "replicas = %lld needs as many ranks, this run has %d; lower it, or leave "
                         "it out to have it chosen",
                         (long long)replicas, size);
    if (replicas == 0)
        replicas = (size + parts - 1) / parts;
    const int64_t stages = size / replicas < parts ? size / replicas : parts;
    layout->replicas = (int)replicas;
    layout->stages = (int)stages;
    double *cost;
    LODE_TRY(LODE_NEW(&cost, parts, "layer costs"));
    for (int64_t i = 0; i < architecture->layers; i++)
        cost[i] = (double)lode_architecture_layer_flops(architecture, i, length);
    cost[parts - 1] = (double)lode_architecture_head_flops(architecture);
    lode_status_t status = LODE_NEW(first, stages + 1, "layer ranges");
    if (status == LODE_OK)
        status = lode_partition_contiguous(cost, parts, (int)stages, *first);
    free(cost);
    return status;
}

lode_status_t lode_layout_create(lode_layout_t *layout, const lode_architecture_t *architecture,
                                 int64_t length, int size, int rank, int64_t replicas) {
    *layout = (lode_layout_t){
        .replica = -1, .stage = -1, .previous = -1, .next = -1, .layers = architecture->layers};
    int64_t *first = NULL;
    lode_status_t status = divide(layout, &first, architecture, length, size, replicas);
    if (status == LODE_OK && rank < layout->replicas * layout->stages) {
        const int stage = rank % layout->stages;
        layout->replica = rank / layout->stages;
        layout->stage = stage;
        layout->previous = stage > 0 ? rank - 1 : -1;
        layout->next = stage + 1 < layout->stages ? rank + 1 : -1;
        layout->embedding = stage == 0;
        layout->head = stage + 1 == layout->stages;
        layout->first_layer = first[stage];
        layout->layer_end = layout->head ? architecture->layers : first[stage + 1];
    }
    free(first);
    return status;
}
