#include "transformer/pass_internal.h"

#include "kernels/loss.h"
#include "kernels/norm.h"

/* --- both directions ------------------------------------------------------------------------ */

/* Where the gradients of a micro-batch's weights are added, NULL for nowhere. */
static const lode_stack_gradient_t *gradient_of(lode_pass_engine_t *engine, int64_t item,
                                                const lode_batch_t *batch) {
    const lode_observer_t *observer = &engine->pass->observer;
    if (!observer->gradient)
        return NULL;
    if (engine->gradient_item != item) {
        engine->gradient_item = item;
        engine->gradient = observer->gradient(observer->context, batch);
    }
    return engine->gradient;
}

static lode_status_t check_finite(const lode_pass_t *pass, const lode_real_t *x, int64_t count,
                                  int64_t layer, int64_t sequence) {
    /* 0·x is 0, or NaN where x is NaN or infinite. */
    lode_real_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++)
        sum += 0 * x[i];
    if (sum == 0)
        return LODE_OK;
    return lode_fail(LODE_ERR_NUMERIC,
                     "layer %lld gives NaN or infinity on the micro-batch that begins with "
                     "sequence %lld; %s",
                     (long long)layer, (long long)sequence,
                     pass->blame ? pass->blame : "the checkpoint holds such weights, or overflows");
}

/* --- forward -------------------------------------------------------------------------------- */

lode_real_t *lode_pass_state(const lode_pass_engine_t *engine, const lode_pass_work_t *work,
                             int64_t variant, int64_t layer) {
    const int64_t slot =
        lode_plan_slot(work->plan, variant, engine->pass->stack->first_layer + layer);
    return slot < 0 ? NULL : lode_arena_state(&engine->arena, slot);
}

lode_real_t *lode_pass_input(lode_pass_engine_t *engine, const lode_pass_work_t *work,
                             int64_t layer) {
    lode_real_t *state = lode_pass_state(engine, work, work->variant, layer);
    return state ? state : lode_arena_input(&engine->arena, work->item, layer);
}

typedef struct input_view {
    const lode_observer_t *observer;
    const lode_batch_t *batch;
    int64_t layer;
    lode_status_t status;
} input_view_t;

static void pass_input(void *context, lode_input_t which, const lode_real_t *x) {
    input_view_t *view = context;
    if (view->status == LODE_OK)
        view->status =
            view->observer->input(view->observer->context, view->batch, view->layer, which, x);
}

lode_status_t lode_pass_forward(lode_pass_engine_t *engine, const lode_pass_work_t *work,
                                int64_t layer, lode_real_t *x, lode_real_t *last_output) {
    const lode_pass_t *pass = engine->pass;
    const lode_batch_t *batch = work->batch;
    lode_stack_t *stack = pass->stack;
    for (int64_t l = layer; l < stack->count; l++) {
        lode_activations_t *act = lode_arena_work(&engine->arena, work->item, l);
        lode_real_t *y = l + 1 < stack->count ? lode_pass_input(engine, work, l + 1) : last_output;
        const lode_real_t *h, *u;
        input_view_t view = {
            .observer = &pass->observer, .batch = batch, .layer = stack->first_layer + l};
        const lode_tap_t tap = {.context = &view, .input = pass_input};
        act->x = x;
        lode_layer_forward_tapped(&stack->layer[l], &batch->sequences, act, y, stack->workspace,
                                  pass->observer.input ? &tap : NULL, &h, &u);
        LODE_TRY(view.status);
        LODE_TRY(check_finite(pass, y, batch->tokens * stack->d, stack->first_layer + l,
                              batch->first_sequence));
        if (pass->observer.ffn_forward)
            LODE_TRY(pass->observer.ffn_forward(pass->observer.context, batch,
                                                stack->first_layer + l, h, u));
        if (pass->backward)
            LODE_TRY(lode_arena_put(&engine->arena, work->item, l, batch->tokens * stack->d));
        lode_pass_progress(engine);
        x = y;
    }
    return LODE_OK;
}

typedef struct logits_view {
    const lode_pass_t *pass;
    const lode_batch_t *batch;
    lode_status_t status;
} logits_view_t;

static void pass_logits(void *context, int64_t first, int64_t rows, const lode_real_t *logits) {
    logits_view_t *view = context;
    if (view->status == LODE_OK)
        view->status = view->pass->observer.logits(view->pass->observer.context,
                                                   view->batch->first_token + first, rows, logits);
}

/* Chooses the rows that the head sees, gathers them to the front of arena->final where they are
 * not all, and returns how many there are. */
static int64_t head_rows(lode_pass_engine_t *engine, const lode_batch_t *batch) {
    const lode_pass_t *pass = engine->pass;
    lode_arena_t *arena = &engine->arena;
    const lode_text_t *text = pass->batches->text;
    const int64_t d = pass->stack->d;
    int64_t rows = 0;
    for (int64_t t = 0; t < batch->tokens; t++) {
        const int32_t target = text->target[batch->first_token + t];
        if (pass->compact && target < 0)
            continue;
        if (rows != t)
            memcpy(arena->final + rows * d, arena->final + t * d, (size_t)d * sizeof(lode_real_t));
        arena->row[rows] = (int32_t)t;
        arena->target[rows] = target;
        arena->weight[rows] = text->weight ? text->weight[batch->first_token + t] : 0;
        rows++;
    }
    return rows;
}

/* Hands the losses on, as those of the variants that equal this one too. */
static lode_status_t show_losses(lode_pass_engine_t *engine, const lode_pass_work_t *work) {
    const lode_observer_t *observer = &engine->pass->observer;
    const lode_plan_t *plan = work->plan;
    const lode_arena_t *arena = &engine->arena;
    if (!observer->losses)
        return LODE_OK;
    for (int64_t v = work->variant; v < plan->end; v++)
        if (v == work->variant ||
            (plan->parent[v] == work->variant && plan->start[v] == plan->layers))
            LODE_TRY(
                observer->losses(observer->context, v, work->batch, arena->nll, arena->greedy));
    return LODE_OK;
}

lode_status_t lode_pass_head(lode_pass_engine_t *engine, const lode_pass_work_t *work) {
    const lode_pass_t *pass = engine->pass;
    lode_arena_t *arena = &engine->arena;
    const lode_batch_t *batch = work->batch;
    const lode_stack_t *stack = pass->stack;
    const int64_t rows = head_rows(engine, batch);
    logits_view_t view = {.pass = pass, .batch = batch};
    const lode_stack_gradient_t *gradient =
        pass->backward ? gradient_of(engine, work->item, batch) : NULL;
    lode_norm_forward(&stack->final_norm, rows, arena->final, arena->normed, arena->inverse);
    lode_loss_run(&(lode_head_loss_t){.head = &stack->head_weight,
                                      .cap = stack->logit_cap,
                                      .rows = rows,
                                      .h = arena->normed,
                                      .target = arena->target,
                                      .weight = arena->weight,
                                      .nll = arena->row_nll,
                                      .greedy = arena->row_greedy,
                                      .dh = pass->backward ? arena->normed : NULL,
                                      .gradient = gradient ? &gradient->head : NULL,
                                      .callback = pass->observer.logits ? pass_logits : NULL,
                                      .context = &view,
                                      .workspace = stack->workspace});
    LODE_TRY(view.status);
    memset(arena->nll, 0, (size_t)batch->tokens * sizeof *arena->nll);
    memset(arena->greedy, 0, (size_t)batch->tokens);
    for (int64_t r = 0; r < rows; r++) {
        if (!isfinite(arena->row_nll[r]))
            return lode_fail(LODE_ERR_NUMERIC,
                             "the loss is not finite on the micro-batch that begins with sequence "
                             "%lld; %s",
                             (long long)batch->first_sequence,
                             pass->blame
                                 ? pass->blame
                                 : "the checkpoint's head holds NaN or infinity, or overflows");
        arena->nll[arena->row[r]] = arena->row_nll[r];
        arena->greedy[arena->row[r]] = arena->row_greedy[r];
    }
    if (gradient)
        lode_norm_gradient(&stack->final_norm, rows, arena->normed, arena->final, arena->inverse,
                           gradient->final_norm, gradient->final_norm_bias, arena->gradient);
    if (pass->backward)
        lode_norm_backward(&stack->final_norm, rows, arena->normed, arena->final, arena->inverse,
                           false, arena->gradient);
    return show_losses(engine, work);
}

/* --- backward ------------------------------------------------------------------------------- */

lode_status_t lode_pass_backward(lode_pass_engine_t *engine, int64_t item,
                                 const lode_batch_t *batch, lode_real_t *dy) {
    const lode_pass_t *pass = engine->pass;
    lode_stack_t *stack = pass->stack;
    const lode_stack_gradient_t *gradient = gradient_of(engine, item, batch);
    for (int64_t l = stack->count - 1; l >= 0; l--) {
        const lode_layer_t *layer = &stack->layer[l];
        lode_activations_t *act = lode_arena_work(&engine->arena, item, l);
        LODE_TRY(lode_arena_get(&engine->arena, item, l, batch->tokens * stack->d, &act->x));
        if (!lode_arena_keeps(&engine->arena, l))
            lode_layer_forward(layer, &batch->sequences, act, NULL, stack->workspace, NULL, NULL);
        const lode_real_t *u, *g;
        const lode_layer_gradient_t *weights = gradient ? &gradient->layer[l] : NULL;
        lode_layer_backward_ffn(layer, &batch->sequences, act, dy, stack->workspace, weights, &u,
                                &g);
        if (pass->observer.ffn_backward)
            LODE_TRY(pass->observer.ffn_backward(pass->observer.context, batch,
                                                 stack->first_layer + l, u, g));
        if (stack->first_layer + l > 0 || weights)
            lode_layer_backward_rest(layer, &batch->sequences, act, dy, stack->workspace, weights);
        lode_pass_progress(engine);
    }
    if (gradient && stack->embedding) /* the head is done with its rows */
        lode_stack_embed_gradient(stack, gradient, &batch->sequences,
                                  pass->batches->text->ids + batch->first_token, dy,
                                  engine->arena.row);
    return LODE_OK;
}
