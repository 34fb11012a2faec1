#include "transformer/pass.h"

#include "transformer/arena.h"

lode_pass_size_t lode_pass_size(const lode_pass_t *pass) {
    return (lode_pass_size_t){.architecture = pass->stack ? pass->stack->architecture : NULL,
                              .layout = pass->layout,
                              .tokens = pass->batches->max_tokens,
                              .batches = pass->batches->count,
                              .variants = pass->variants,
                              .parent = pass->parent,
                              .start = pass->start,
                              .backward = pass->backward};
}

lode_status_t lode_pass_memory(const lode_pass_size_t *size, lode_pass_memory_t *memory) {
    lode_arena_shape_t shape;
    LODE_TRY(lode_arena_shape(&shape, size));
    *memory = lode_arena_memory(&shape);
    return LODE_OK;
}

lode_status_t lode_pass_scratch(const lode_pass_size_t *size, int64_t budget, int64_t *bytes) {
    lode_arena_shape_t shape;
    lode_arena_t arena;
    *bytes = 0;
    LODE_TRY(lode_arena_shape(&shape, size));
    if (lode_arena_choose(&arena, &shape, budget, true))
        *bytes = lode_arena_scratch(&arena);
    return LODE_OK;
}

lode_status_t lode_pass_choose(const lode_pass_size_t *size, int64_t budget,
                               lode_pass_choice_t *choice) {
    lode_arena_shape_t shape;
    lode_arena_t arena;
    LODE_TRY(lode_arena_shape(&shape, size));
    const bool fits = lode_arena_choose(&arena, &shape, budget, true);
    if (!fits) /* never below what this is */
        (void)lode_arena_choose(&arena, &shape, lode_arena_memory(&shape).least, true);
    *choice = (lode_pass_choice_t){.fits = fits,
                                   .kept = arena.kept,
                                   .memory = lode_arena_bytes(&arena),
                                   .scratch = lode_arena_scratch(&arena)};
    return LODE_OK;
}
