#include "transformer/plan.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/memory.h"
#include "comm/partition.h"

/* --- replicas -------------------------------------------------------------------------------- */

/* Divides the variants of one micro-batch among `parts` replicas. */
static lode_status_t divide_variants(lode_plan_share_t *share, int64_t variants,
                                     const int64_t *start, int64_t layers, int64_t parts,
                                     int64_t part) {
    if (parts > variants)
        parts = variants;
    if (part >= parts)
        return LODE_OK;
    double *cost = NULL;
    int64_t *first = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW(&cost, variants, "costs of variants"), done);
    LODE_GUARD(status, LODE_NEW(&first, parts + 1, "shares of variants"), done);
    for (int64_t v = 0; v < variants;
         v++) /* the head counts as a layer, equal variants as nothing */
        cost[v] = start && start[v] == layers ? 0 : (double)(layers + 1 - (start ? start[v] : 0));
    LODE_GUARD(status, lode_partition_contiguous(cost, variants, (int)parts, first), done);
    share->part_first = first[part];
    share->part_end = first[part + 1];
done:
    free(cost);
    free(first);
    return status;
}

lode_status_t lode_plan_divide(lode_plan_share_t *share, int64_t batches, int64_t variants,
                               const int64_t *start, int64_t layers, int replicas, int replica) {
    *share = (lode_plan_share_t){.whole = batches / replicas, .part_batch = -1};
    const int64_t left = batches % replicas;
    for (int64_t i = 0; i < left; i++) {
        const int64_t first = i * replicas / left, end = (i + 1) * replicas / left;
        if (replica < first || replica >= end)
            continue;
        LODE_TRY(
            divide_variants(share, variants, start, layers, end - first, (int64_t)replica - first));
        if (share->part_end > share->part_first)
            share->part_batch = share->whole * replicas + i;
    }
    return LODE_OK;
}

/* --- what is shared -------------------------------------------------------------------------- */

typedef struct builder {
    lode_plan_t *plan;
    int stages;
    const int64_t *layer_end, *slots;
    int64_t *live; /* [stages, end] states that a stage holds while a variant is computed */
} builder_t;

static int stage_of(const builder_t *builder, int64_t layer) {
    int stage = 0;
    while (layer >= builder->layer_end[stage])
        stage++;
    return stage;
}

static lode_plan_state_t *find(const lode_plan_t *plan, int64_t variant, int64_t layer) {
    for (int64_t i = 0; i < plan->state_count; i++)
        if (plan->states[i].variant == variant && plan->states[i].layer == layer)
            return &plan->states[i];
    return NULL;
}

/* Has the states of `parent` before `layer` kept until `variant` has used them, if there is room.
 */
static bool keep(builder_t *builder, int64_t parent, int64_t layer, int64_t variant) {
    lode_plan_t *plan = builder->plan;
    const int stage = stage_of(builder, layer);
    if (builder->slots[stage] == 0)
        return false;
    int64_t *live = builder->live + stage * plan->end;
    lode_plan_state_t *state = find(plan, parent, layer);
    const int64_t from = state ? state->last + 1 : parent;
    for (int64_t v = from; v <= variant; v++)
        if (live[v] >= builder->slots[stage])
            return false;
    for (int64_t v = from; v <= variant; v++)
        live[v]++;
    if (!state) {
        state = &plan->states[plan->state_count++];
        *state = (lode_plan_state_t){.variant = parent, .layer = layer};
    }
    state->last = variant;
    return true;
}

/* Finds what variant v may start from. */
static void place(builder_t *builder, int64_t v, const int64_t *parent, const int64_t *start) {
    lode_plan_t *plan = builder->plan;
    plan->parent[v] = -1;
    plan->start[v] = 0;
    if (!parent || parent[v] < 0)
        return;
    int64_t p = parent[v], s = start[v];
    while (p >= 0 && p < plan->first) { /* v equals p's parent as far as p does */
        s = s < start[p] ? s : start[p];
        p = parent[p];
    }
    for (; p >= 0 && s > 0; s--) {
        while (plan->start[p] >= s) /* below its own start a variant is its parent */
            p = plan->parent[p];
        if (s < plan->layers && !keep(builder, p, s, v))
            continue;
        plan->parent[v] = p;
        plan->start[v] = s;
        return;
    }
}

static int compare_states(const void *left, const void *right) {
    const lode_plan_state_t *a = left, *b = right;
    if (a->variant != b->variant)
        return a->variant < b->variant ? -1 : 1;
    return a->layer < b->layer ? -1 : a->layer > b->layer;
}

/* Gives each state, in the order in which they come to be, the lowest slot that is free. What a
 * variant was kept for is released after it, so `busy` is the last variant that needs the slot. */
static void assign_slots(builder_t *builder, int64_t *busy) {
    lode_plan_t *plan = builder->plan;
    for (int stage = 0; stage < builder->stages; stage++) {
        const int64_t end = builder->layer_end[stage];
        const int64_t first = stage > 0 ? builder->layer_end[stage - 1] : 0;
        for (int64_t i = 0; i < plan->state_count; i++)
            busy[i] = -1;
        for (int64_t i = 0; i < plan->state_count; i++) {
            lode_plan_state_t *state = &plan->states[i];
            if (state->layer < first || state->layer >= end)
                continue;
            state->slot = 0;
            while (busy[state->slot] >= state->variant)
                state->slot++;
            busy[state->slot] = state->last;
        }
    }
}

lode_status_t lode_plan_create(lode_plan_t *plan, int64_t first, int64_t end, const int64_t *parent,
                               const int64_t *start, int64_t layers, int stages,
                               const int64_t *layer_end, const int64_t *slots) {
    *plan = (lode_plan_t){.first = first, .end = end, .layers = layers};
    builder_t builder = {.plan = plan, .stages = stages, .layer_end = layer_end, .slots = slots};
    int64_t *busy = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW(&plan->parent, end, "plan"), done);
    LODE_GUARD(status, LODE_NEW(&plan->start, end, "plan"), done);
    if (parent) {
        LODE_GUARD(status, LODE_NEW(&plan->states, end, "plan"), done);
        LODE_GUARD(status, LODE_NEW(&builder.live, stages * end, "plan"), done);
        LODE_GUARD(status, LODE_NEW(&busy, end, "plan"), done);
    }
    for (int64_t v = first; v < end; v++)
        place(&builder, v, parent, start);
    if (plan->state_count > 0) {
        qsort(plan->states, (size_t)plan->state_count, sizeof *plan->states, compare_states);
        assign_slots(&builder, busy);
    }
done:
    free(builder.live);
    free(busy);
    if (status != LODE_OK)
        lode_plan_destroy(plan);
    return status;
}

void lode_plan_destroy(lode_plan_t *plan) {
    free(plan->parent);
    free(plan->start);
    free(plan->states);
    *plan = (lode_plan_t){0};
}

/* --- looking things up ----------------------------------------------------------------------- */

int64_t lode_plan_slots(const lode_plan_t *plan, int64_t first_layer, int64_t layer_end) {
    int64_t slots = 0;
    for (int64_t i = 0; i < plan->state_count; i++) {
        const lode_plan_state_t *state = &plan->states[i];
        if (state->layer >= first_layer && state->layer < layer_end && state->slot >= slots)
            slots = state->slot + 1;
    }
    return slots;
}

int64_t lode_plan_slot(const lode_plan_t *plan, int64_t variant, int64_t layer) {
    const lode_plan_state_t wanted = {.variant = variant, .layer = layer};
    const lode_plan_state_t *found = plan->state_count == 0
                                         ? NULL
                                         : bsearch(&wanted, plan->states, (size_t)plan->state_count,
                                                   sizeof *plan->states, compare_states);
    return found ? found->slot : -1;
}

int64_t lode_plan_count_below(const lode_plan_t *plan, int64_t layer) {
    int64_t count = 0;
    for (int64_t v = plan->first; v < plan->end; v++)
        count += plan->start[v] < layer;
    return count;
}
