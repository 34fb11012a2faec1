#include "transformer/arena.h"

#include <stdlib.h>

#include "base/memory.h"
#include "transformer/channel.h"

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* --- sizes ---------------------------------------------------------------------------------- */

/* Hidden states that the rank would keep at once if memory were no object. */
static lode_status_t wanted_states(int64_t *states, const lode_pass_size_t *size) {
    *states = 0;
    if (!size->parent || size->batches == 0)
        return LODE_OK;
    const int64_t layers = size->layout->layers;
    const int64_t layer_end[] = {size->layout->first_layer, size->layout->layer_end, layers};
    const int64_t plenty[] = {INT64_MAX, INT64_MAX, INT64_MAX};
    lode_plan_t plan;
    LODE_TRY(lode_plan_create(&plan, 0, size->variants, size->parent, size->start, layers, 3,
                              layer_end, plenty));
    *states = lode_plan_slots(&plan, layer_end[0], layer_end[1]);
    lode_plan_destroy(&plan);
    return LODE_OK;
}

lode_status_t lode_arena_shape(lode_arena_shape_t *shape, const lode_pass_size_t *size) {
    const lode_layout_t *layout = size->layout;
    *shape = (lode_arena_shape_t){0};
    if (layout->replica < 0)
        return LODE_OK;
    lode_layer_t layer;
    lode_stack_outline(&layer, size->architecture, 0, LODE_DTYPE_F32);
    /* The replica that has most; the others are at most one behind. */
    const int64_t items = (size->batches + layout->replicas - 1) / layout->replicas;
    shape->layers = layout->layer_end - layout->first_layer;
    shape->tokens = size->tokens;
    shape->d = layer.d;
    shape->panel = size->tokens * layer.d;
    shape->layer_reals = shape->layers > 0 ? size->tokens * lode_activations_per_token(&layer) : 0;
    shape->in_flight =
        lode_schedule_in_flight(layout->stages, layout->stage, items, size->backward);
    shape->neighbours = (layout->previous >= 0) + (layout->next >= 0);
    shape->backward = size->backward;
    shape->head = layout->head;
    return wanted_states(&shape->states, size);
}

/* Hidden-state buffers: one input a layer and micro-batch in flight with backward; two that take
 * turns without. */
static int64_t input_count(const lode_arena_shape_t *shape) {
    return shape->backward ? shape->in_flight * shape->layers : min2(shape->layers, 2);
}

static int64_t storage_reals(const lode_arena_shape_t *shape, int64_t kept, int64_t slots) {
    int64_t reals = (input_count(shape) + slots) * shape->panel;
    reals += shape->in_flight * kept * shape->layer_reals;
    if (kept < shape->layers)
        reals += shape->layer_reals;
    if (shape->head)
        reals += 2 * shape->panel + shape->tokens;
    if (shape->backward)
        reals += shape->panel;
    return reals;
}

/* Everything but what is kept to save computing it again. */
static int64_t least_bytes(const lode_arena_shape_t *shape) {
    if (shape->in_flight == 0)
        return 0;
    return storage_reals(shape, 0, 0) * (int64_t)sizeof(lode_real_t) +
           shape->neighbours * (shape->backward ? 2 : 1) * lode_channel_memory(shape->panel) +
           shape->tokens * (int64_t)(3 * sizeof(double) + 2 * sizeof(int32_t) + 2);
}

static int64_t kept_layer_bytes(const lode_arena_shape_t *shape) {
    return shape->in_flight * shape->layer_reals * (int64_t)sizeof(lode_real_t);
}

static int64_t state_bytes(const lode_arena_shape_t *shape) {
    return shape->panel * (int64_t)sizeof(lode_real_t);
}

lode_pass_memory_t lode_arena_memory(const lode_arena_shape_t *shape) {
    lode_pass_memory_t memory = {.least = least_bytes(shape)};
    memory.all = memory.least + shape->states * state_bytes(shape);
    if (shape->backward)
        memory.all += shape->layers * kept_layer_bytes(shape);
    return memory;
}

lode_status_t lode_arena_choose(lode_arena_t *arena, const lode_arena_shape_t *shape,
                                int64_t budget, const char *stage) {
    *arena = (lode_arena_t){.shape = *shape};
    const int64_t least = least_bytes(shape), spare = budget - least;
    if (spare < 0)
        return lode_fail(LODE_ERR_MEMORY,
                         "%s needs %.0f MB for activations and %.0f MB of the memory budget are "
                         "left; raise memory, lower micro_batch or use more ranks",
                         stage, (double)least / 1e6, (double)(budget > 0 ? budget : 0) / 1e6);
    if (shape->backward && shape->layers > 0)
        arena->kept = min2(spare / kept_layer_bytes(shape), shape->layers);
    if (shape->states > 0)
        arena->slots = min2(spare / state_bytes(shape), shape->states);
    return LODE_OK;
}

/* --- storage -------------------------------------------------------------------------------- */

static lode_real_t *take(lode_real_t **next, int64_t reals) {
    lode_real_t *taken = *next;
    *next += reals;
    return taken;
}

static void place(lode_arena_t *arena, const lode_stack_t *stack) {
    const lode_arena_shape_t *shape = &arena->shape;
    lode_real_t *next = arena->storage;
    if (!shape->backward) {
        for (int64_t i = 0; i < input_count(shape); i++)
            arena->turns[i] = take(&next, shape->panel);
        arena->states = take(&next, arena->slots * shape->panel);
    }
    for (int64_t slot = 0; shape->backward && slot < shape->in_flight; slot++) {
        for (int64_t l = 0; l < shape->layers; l++) {
            lode_activations_t *act = &arena->activations[slot * shape->layers + l];
            if (l < arena->kept)
                lode_activations_place(act, &stack->whole[l], shape->tokens,
                                       take(&next, shape->layer_reals));
            act->x = take(&next, shape->panel);
        }
    }
    if (arena->kept < shape->layers)
        lode_activations_place(&arena->shared, &stack->whole[0], shape->tokens,
                               take(&next, shape->layer_reals));
    if (shape->head) {
        arena->final = take(&next, shape->panel);
        arena->normed = take(&next, shape->panel);
        arena->inverse = take(&next, shape->tokens);
    }
    if (shape->backward)
        arena->gradient = take(&next, shape->panel);
}

lode_status_t lode_arena_open(lode_arena_t *arena, const lode_stack_t *stack) {
    const lode_arena_shape_t *shape = &arena->shape;
    const int64_t tokens = shape->tokens;
    LODE_TRY(LODE_NEW(&arena->activations, shape->in_flight * shape->layers, "activations"));
    LODE_TRY(LODE_NEW_RAW(&arena->storage, storage_reals(shape, arena->kept, arena->slots),
                          "activations"));
    place(arena, stack);
    LODE_TRY(LODE_NEW(&arena->nll, 3 * tokens, "losses"));
    arena->row_nll = arena->nll + tokens;
    arena->weight = arena->row_nll + tokens;
    LODE_TRY(LODE_NEW(&arena->row, 2 * tokens, "targets"));
    arena->target = arena->row + tokens;
    LODE_TRY(LODE_NEW(&arena->greedy, 2 * tokens, "losses"));
    arena->row_greedy = arena->greedy + tokens;
    return LODE_OK;
}

void lode_arena_close(lode_arena_t *arena) {
    free(arena->activations);
    free(arena->storage);
    free(arena->nll);
    free(arena->row);
    free(arena->greedy);
    *arena = (lode_arena_t){0};
}

/* --- use ------------------------------------------------------------------------------------ */

static lode_activations_t *own(lode_arena_t *arena, int64_t item, int64_t layer) {
    return &arena->activations[item % arena->shape.in_flight * arena->shape.layers + layer];
}

lode_real_t *lode_arena_state(const lode_arena_t *arena, int64_t slot) {
    return arena->states + slot * arena->shape.panel;
}

lode_real_t *lode_arena_input(lode_arena_t *arena, int64_t item, int64_t layer) {
    return arena->shape.backward ? own(arena, item, layer)->x : arena->turns[layer % 2];
}

bool lode_arena_keeps(const lode_arena_t *arena, int64_t layer) {
    return layer < arena->kept;
}

lode_activations_t *lode_arena_work(lode_arena_t *arena, int64_t item, int64_t layer) {
    return lode_arena_keeps(arena, layer) ? own(arena, item, layer) : &arena->shared;
}

lode_status_t lode_arena_put(lode_arena_t *arena, int64_t item, int64_t layer, int64_t count) {
    (void)arena, (void)item, (void)layer, (void)count;
    return LODE_OK;
}

lode_status_t lode_arena_get(lode_arena_t *arena, int64_t item, int64_t layer, int64_t count,
                             lode_real_t **x) {
    (void)count;
    *x = own(arena, item, layer)->x;
    return LODE_OK;
}
