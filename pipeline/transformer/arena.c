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

/* Buffers that take turns as inputs: without backward two of them, with it as well where some layer
 * does not hold its own. */
static int64_t turn_count(const lode_arena_shape_t *shape, int64_t held) {
    return shape->backward && held == shape->layers ? 0 : min2(shape->layers, 2);
}

/* kept ≤ held ≤ layers, both 0 without backward. */
static int64_t storage_reals(const lode_arena_shape_t *shape, int64_t held, int64_t kept,
                             int64_t slots) {
    int64_t panels = shape->in_flight * held + turn_count(shape, held) + slots;
    int64_t reals = shape->in_flight * kept * shape->layer_reals;
    if (kept < shape->layers)
        reals += shape->layer_reals;
    if (shape->head) {
        panels += 2;
        reals += shape->tokens;
    }
    if (shape->backward)
        panels++;
    return reals + panels * shape->panel;
}

static int64_t bytes_of(const lode_arena_shape_t *shape, int64_t held, int64_t kept,
                        int64_t slots) {
    if (shape->in_flight == 0)
        return 0;
    return storage_reals(shape, held, kept, slots) * (int64_t)sizeof(lode_real_t) +
           shape->neighbours * (shape->backward ? 2 : 1) * lode_channel_memory(shape->panel) +
           shape->in_flight * shape->layers * (int64_t)sizeof(lode_activations_t) +
           shape->tokens * (int64_t)(3 * sizeof(double) + 2 * sizeof(int32_t) + 2);
}

lode_pass_memory_t lode_arena_memory(const lode_arena_shape_t *shape) {
    const int64_t layers = shape->backward ? shape->layers : 0;
    lode_pass_memory_t memory = {.inputs = bytes_of(shape, layers, 0, 0),
                                 .all = bytes_of(shape, layers, layers, shape->states)};
    memory.least = min2(bytes_of(shape, 0, 0, 0), memory.inputs);
    return memory;
}

bool lode_arena_choose(lode_arena_t *arena, const lode_arena_shape_t *shape, int64_t budget,
                       bool spill) {
    const lode_pass_memory_t memory = lode_arena_memory(shape);
    const int64_t layers = shape->layers, real = (int64_t)sizeof(lode_real_t);
    const int64_t input = shape->in_flight * shape->panel * real;
    const int64_t activations = shape->in_flight * shape->layer_reals * real;
    *arena = (lode_arena_t){.shape = *shape};
    if (!shape->backward) {
        if (shape->states > 0 && budget > memory.least)
            arena->slots = min2((budget - memory.least) / (shape->panel * real), shape->states);
        return budget >= memory.least;
    }
    if (budget >= memory.all) {
        arena->held = arena->kept = layers;
    } else if (budget >= memory.inputs) {
        arena->held = layers;
        if (layers > 0)
            arena->kept = min2((budget - memory.inputs) / activations, layers - 1);
    } else if (spill && budget >= memory.least) {
        arena->held = min2((budget - memory.least) / input, layers - 1);
    } else {
        return false;
    }
    return true;
}

int64_t lode_arena_bytes(const lode_arena_t *arena) {
    return bytes_of(&arena->shape, arena->held, arena->kept, arena->slots);
}

int64_t lode_arena_scratch(const lode_arena_t *arena) {
    const lode_arena_shape_t *shape = &arena->shape;
    if (!shape->backward)
        return 0;
    return shape->in_flight * (shape->layers - arena->held) * shape->panel *
           (int64_t)sizeof(lode_real_t);
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
    for (int64_t i = 0; i < turn_count(shape, arena->held); i++)
        arena->turns[i] = take(&next, shape->panel);
    arena->states = take(&next, arena->slots * shape->panel);
    for (int64_t slot = 0; slot < shape->in_flight; slot++) {
        for (int64_t l = 0; l < arena->held; l++) {
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

static lode_status_t find_storage(lode_arena_t *arena, lode_pass_room_t *room) {
    const int64_t reals = storage_reals(&arena->shape, arena->held, arena->kept, arena->slots);
    arena->borrowed = room != NULL;
    if (!room)
        return LODE_NEW_RAW(&arena->storage, reals, "activations");
    if (room->count < reals) {
        free(room->reals);
        room->count = 0;
        LODE_TRY(LODE_NEW_RAW(&room->reals, reals, "activations"));
        room->count = reals;
    }
    arena->storage = room->reals;
    return LODE_OK;
}

lode_status_t lode_arena_open(lode_arena_t *arena, const lode_stack_t *stack, const char *scratch,
                              lode_pass_room_t *room) {
    const lode_arena_shape_t *shape = &arena->shape;
    const int64_t tokens = shape->tokens;
    if (lode_arena_scratch(arena) > 0)
        LODE_TRY(lode_spill_open(&arena->spill, scratch, lode_arena_scratch(arena)));
    LODE_TRY(LODE_NEW(&arena->activations, shape->in_flight * shape->layers, "activations"));
    LODE_TRY(find_storage(arena, room));
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
    lode_memory_sample();
    lode_spill_close(&arena->spill);
    free(arena->activations);
    if (!arena->borrowed)
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

/* Whether the layer's input goes to the scratch file. */
static bool spills(const lode_arena_t *arena, int64_t layer) {
    return arena->shape.backward && layer >= arena->held;
}

lode_real_t *lode_arena_input(lode_arena_t *arena, int64_t item, int64_t layer) {
    return !arena->shape.backward || spills(arena, layer) ? arena->turns[layer % 2]
                                                          : own(arena, item, layer)->x;
}

bool lode_arena_keeps(const lode_arena_t *arena, int64_t layer) {
    return layer < arena->kept;
}

lode_activations_t *lode_arena_work(lode_arena_t *arena, int64_t item, int64_t layer) {
    lode_memory_sample(); /* once a layer */
    return lode_arena_keeps(arena, layer) ? own(arena, item, layer) : &arena->shared;
}

/* Where the input of a layer begins in the scratch file. */
static int64_t place_of(const lode_arena_t *arena, int64_t item, int64_t layer) {
    const lode_arena_shape_t *shape = &arena->shape;
    const int64_t spilled = shape->layers - arena->held;
    return (item % shape->in_flight * spilled + layer - arena->held) * shape->panel *
           (int64_t)sizeof(lode_real_t);
}

lode_status_t lode_arena_put(lode_arena_t *arena, int64_t item, int64_t layer, int64_t count) {
    if (!spills(arena, layer))
        return LODE_OK;
    return lode_spill_write(&arena->spill, place_of(arena, item, layer), arena->turns[layer % 2],
                            count * (int64_t)sizeof(lode_real_t));
}

lode_status_t lode_arena_get(lode_arena_t *arena, int64_t item, int64_t layer, int64_t count,
                             lode_real_t **x) {
    const int64_t bytes = count * (int64_t)sizeof(lode_real_t);
    if (!spills(arena, layer)) {
        *x = own(arena, item, layer)->x;
        return LODE_OK;
    }
    *x = arena->turns[layer % 2];
    LODE_TRY(lode_spill_read(&arena->spill, place_of(arena, item, layer), *x, bytes));
    if (layer > 0 && spills(arena, layer - 1)) /* comes next, while this one is computed with */
        lode_spill_ahead(&arena->spill, place_of(arena, item, layer - 1), bytes);
    return LODE_OK;
}
