#include "transformer/pass.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "kernels/loss.h"
#include "kernels/norm.h"
#include "transformer/channel.h"

enum { TAG_FORWARD = 101, TAG_BACKWARD = 102 };

/* One rank's state during a pass. Items are pairs of variant and micro-batch; replica r takes every
 * replicas-th of them, and numbers its own from 0. */
typedef struct engine {
    const lode_pass_t *pass;
    lode_status_t status; /* this rank's own error */
    bool sound;           /* neither that nor a marked message so far */
    int64_t items;        /* of this replica */
    int64_t variant;      /* the stack is prepared for, −1 at first */
    int64_t in_flight;    /* micro-batches whose activations exist at once */
    int64_t kept;         /* the first so many layers keep their activations; the rest recompute */

    lode_channel_t forward_in, forward_out, backward_in, backward_out;
    lode_activations_t *activations; /* [in_flight, layers]; x always set, the rest where kept */
    lode_activations_t shared;       /* of the layer in hand, where not kept */
    lode_real_t *arena;              /* storage of all of these */
    lode_real_t *final;              /* [T, d] input of the final norm, on the head's rank */
    lode_real_t *normed;             /* [T, d] its output, then the gradient of that */
    lode_real_t *gradient;           /* [T, d] dL/d(output of the last layer owned) */
    lode_real_t *inverse;            /* [T] of the final norm */
    double *nll, *row_nll, *weight;  /* [T] */
    int32_t *row, *target;           /* [T] tokens that the head sees, and their targets */
    lode_progress_t progress;
} engine_t;

/* --- sizes ---------------------------------------------------------------------------------- */

static int64_t layers_of(const lode_pass_t *pass) {
    return pass->stack ? pass->stack->count : 0;
}

static int64_t items_of(const lode_pass_t *pass) {
    const lode_layout_t *layout = pass->layout;
    if (layout->replica < 0)
        return 0;
    const int64_t all = pass->variants * pass->batches->count;
    return (all - layout->replica + layout->replicas - 1) / layout->replicas;
}

static int64_t in_flight_of(const lode_pass_t *pass) {
    return lode_schedule_in_flight(pass->layout->stages, pass->layout->stage, items_of(pass),
                                   pass->backward);
}

/* Reals of one layer's activations beside its input, at full width. */
static int64_t layer_reals(const lode_pass_t *pass) {
    if (layers_of(pass) == 0)
        return 0;
    return pass->batches->max_tokens * lode_activations_per_token(&pass->stack->layer[0]);
}

/* Hidden-state buffers: one input a layer and micro-batch in flight with backward; two that take
 * turns without. */
static int64_t input_count(const lode_pass_t *pass) {
    const int64_t layers = layers_of(pass);
    return pass->backward ? in_flight_of(pass) * layers : layers < 2 ? layers : 2;
}

static int64_t arena_reals(const lode_pass_t *pass, int64_t kept) {
    const int64_t panel = pass->batches->max_tokens * pass->stack->d;
    int64_t reals = input_count(pass) * panel;
    reals += in_flight_of(pass) * kept * layer_reals(pass);
    if (kept < layers_of(pass))
        reals += layer_reals(pass);
    if (pass->layout->head)
        reals += 2 * panel + pass->batches->max_tokens;
    if (pass->backward)
        reals += panel;
    return reals;
}

/* Everything but activations that are kept. */
static int64_t least_bytes(const lode_pass_t *pass) {
    if (!pass->stack)
        return 0;
    const int64_t tokens = pass->batches->max_tokens, panel = tokens * pass->stack->d;
    const int64_t channels = (pass->layout->previous >= 0) + (pass->layout->next >= 0);
    return arena_reals(pass, 0) * (int64_t)sizeof(lode_real_t) +
           channels * (pass->backward ? 2 : 1) * lode_channel_memory(panel) +
           tokens * (int64_t)(3 * sizeof(double) + 2 * sizeof(int32_t));
}

static int64_t kept_layer_bytes(const lode_pass_t *pass) {
    return in_flight_of(pass) * layer_reals(pass) * (int64_t)sizeof(lode_real_t);
}

void lode_pass_memory(const lode_pass_t *pass, int64_t *least, int64_t *all) {
    *least = least_bytes(pass);
    *all = *least + (pass->backward ? layers_of(pass) * kept_layer_bytes(pass) : 0);
}

/* --- setting up ----------------------------------------------------------------------------- */

static lode_real_t *take(lode_real_t **next, int64_t reals) {
    lode_real_t *taken = *next;
    *next += reals;
    return taken;
}

static void place_arena(engine_t *engine) {
    const lode_pass_t *pass = engine->pass;
    const lode_stack_t *stack = pass->stack;
    const int64_t tokens = pass->batches->max_tokens, panel = tokens * stack->d;
    lode_real_t *next = engine->arena, *turns[2] = {NULL, NULL};
    if (!pass->backward)
        for (int64_t i = 0; i < input_count(pass); i++)
            turns[i] = take(&next, panel);
    for (int64_t slot = 0; slot < engine->in_flight; slot++) {
        for (int64_t l = 0; l < stack->count; l++) {
            lode_activations_t *act = &engine->activations[slot * stack->count + l];
            if (l < engine->kept)
                lode_activations_place(act, &stack->layer[l], tokens,
                                       take(&next, layer_reals(pass)));
            act->x = pass->backward ? take(&next, panel) : turns[l % 2];
        }
    }
    if (engine->kept < stack->count)
        lode_activations_place(&engine->shared, &stack->layer[0], tokens,
                               take(&next, layer_reals(pass)));
    if (pass->layout->head) {
        engine->final = take(&next, panel);
        engine->normed = take(&next, panel);
        engine->inverse = take(&next, tokens);
    }
    if (pass->backward)
        engine->gradient = take(&next, panel);
}

/* How many layers keep their activations within the budget. */
static lode_status_t choose_kept(engine_t *engine) {
    const lode_pass_t *pass = engine->pass;
    const int64_t least = least_bytes(pass), layers = layers_of(pass);
    if (pass->budget < least)
        return lode_fail(LODE_ERR_MEMORY,
                         "%s needs %.0f MB for activations and %.0f MB of the memory budget are "
                         "left; raise memory, lower micro_batch or use more ranks",
                         pass->stage, (double)least / 1e6,
                         (double)(pass->budget > 0 ? pass->budget : 0) / 1e6);
    engine->kept = 0;
    if (pass->backward && layers > 0) {
        const int64_t affordable = (pass->budget - least) / kept_layer_bytes(pass);
        engine->kept = affordable < layers ? affordable : layers;
    }
    return LODE_OK;
}

static lode_status_t engine_open(engine_t *engine) {
    const lode_pass_t *pass = engine->pass;
    if (!pass->stack)
        return LODE_OK;
    const int64_t tokens = pass->batches->max_tokens, panel = tokens * pass->stack->d;
    const MPI_Comm comm = pass->comm->comm;
    const int previous = pass->layout->previous, next = pass->layout->next;
    const int back_previous = pass->backward ? previous : -1,
              back_next = pass->backward ? next : -1;
    LODE_TRY(choose_kept(engine));
    LODE_TRY(lode_channel_open(&engine->forward_in, comm, previous, TAG_FORWARD, panel));
    LODE_TRY(lode_channel_open(&engine->forward_out, comm, next, TAG_FORWARD, panel));
    LODE_TRY(lode_channel_open(&engine->backward_in, comm, back_next, TAG_BACKWARD, panel));
    LODE_TRY(lode_channel_open(&engine->backward_out, comm, back_previous, TAG_BACKWARD, panel));
    LODE_TRY(LODE_NEW(&engine->activations, engine->in_flight * pass->stack->count, "activations"));
    LODE_TRY(LODE_NEW_RAW(&engine->arena, arena_reals(pass, engine->kept), "activations"));
    place_arena(engine);
    LODE_TRY(LODE_NEW(&engine->nll, 3 * tokens, "losses"));
    engine->row_nll = engine->nll + tokens;
    engine->weight = engine->row_nll + tokens;
    LODE_TRY(LODE_NEW(&engine->row, 2 * tokens, "targets"));
    engine->target = engine->row + tokens;
    return LODE_OK;
}

static void engine_close(engine_t *engine) {
    lode_channel_close(&engine->forward_in);
    lode_channel_close(&engine->forward_out);
    lode_channel_close(&engine->backward_in);
    lode_channel_close(&engine->backward_out);
    free(engine->activations);
    free(engine->arena);
    free(engine->nll);
    free(engine->row);
}

/* --- helpers of both directions ------------------------------------------------------------- */

static void note(engine_t *engine, lode_status_t status) {
    if (status == LODE_OK)
        return;
    if (engine->status == LODE_OK)
        engine->status = status;
    engine->sound = false;
}

static const lode_batch_t *batch_of(const engine_t *engine, int64_t item, int64_t *variant) {
    const lode_pass_t *pass = engine->pass;
    const int64_t global = item * pass->layout->replicas + pass->layout->replica;
    *variant = global / pass->batches->count;
    return &pass->batches->batch[global % pass->batches->count];
}

static lode_activations_t *activations_of(engine_t *engine, int64_t item, int64_t layer) {
    return &engine->activations[item % engine->in_flight * engine->pass->stack->count + layer];
}

/* Activations to compute a layer with: its own where kept, else the shared ones with its input. */
static lode_activations_t *working_activations(engine_t *engine, int64_t item, int64_t layer) {
    lode_activations_t *own = activations_of(engine, item, layer);
    if (layer < engine->kept)
        return own;
    engine->shared.x = own->x;
    return &engine->shared;
}

static void progress_messages(engine_t *engine) {
    lode_channel_progress(&engine->forward_in);
    lode_channel_progress(&engine->forward_out);
    lode_channel_progress(&engine->backward_in);
    lode_channel_progress(&engine->backward_out);
}

static lode_status_t check_finite(const lode_real_t *x, int64_t count, int64_t layer,
                                  int64_t sequence) {
    /* 0·x is 0, or NaN where x is NaN or infinite. */
    lode_real_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++)
        sum += 0 * x[i];
    if (sum == 0)
        return LODE_OK;
    return lode_fail(LODE_ERR_NUMERIC,
                     "layer %lld gives NaN or infinity on the micro-batch that begins with "
                     "sequence %lld; the checkpoint holds such weights, or overflows",
                     (long long)layer, (long long)sequence);
}

/* --- forward -------------------------------------------------------------------------------- */

static lode_status_t forward_layers(engine_t *engine, int64_t item, const lode_batch_t *batch,
                                    lode_real_t *last_output) {
    const lode_pass_t *pass = engine->pass;
    lode_stack_t *stack = pass->stack;
    for (int64_t l = 0; l < stack->count; l++) {
        lode_activations_t *act = working_activations(engine, item, l);
        lode_real_t *y =
            l + 1 < stack->count ? activations_of(engine, item, l + 1)->x : last_output;
        const lode_real_t *h, *u;
        lode_layer_forward(&stack->layer[l], &batch->sequences, act, y, stack->workspace, &h, &u);
        LODE_TRY(check_finite(y, batch->tokens * stack->d, stack->first_layer + l,
                              batch->first_sequence));
        if (pass->observer.ffn_forward)
            LODE_TRY(pass->observer.ffn_forward(pass->observer.context, batch,
                                                stack->first_layer + l, h, u));
        progress_messages(engine);
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

/* Chooses the rows that the head sees, gathers them to the front of engine->final where they are
 * not all, and returns how many there are. */
static int64_t head_rows(engine_t *engine, const lode_batch_t *batch) {
    const lode_pass_t *pass = engine->pass;
    const lode_text_t *text = pass->batches->text;
    const int64_t d = pass->stack->d;
    int64_t rows = 0;
    for (int64_t t = 0; t < batch->tokens; t++) {
        const int32_t target = text->target[batch->first_token + t];
        if (pass->compact && target < 0)
            continue;
        if (rows != t)
            memcpy(engine->final + rows * d, engine->final + t * d,
                   (size_t)d * sizeof(lode_real_t));
        engine->row[rows] = (int32_t)t;
        engine->target[rows] = target;
        engine->weight[rows] = text->weight ? text->weight[batch->first_token + t] : 0;
        rows++;
    }
    return rows;
}

/* Final norm, head and loss of one micro-batch; leaves the gradient of the loss with respect to
 * engine->final in engine->gradient. */
static lode_status_t run_head(engine_t *engine, const lode_batch_t *batch, int64_t variant) {
    const lode_pass_t *pass = engine->pass;
    const lode_stack_t *stack = pass->stack;
    const int64_t d = stack->d, rows = head_rows(engine, batch);
    logits_view_t view = {.pass = pass, .batch = batch};
    lode_rmsnorm_forward(rows, d, stack->eps, engine->final, stack->final_norm, engine->normed,
                         engine->inverse);
    lode_loss_run(&stack->head_weight, rows, engine->normed, engine->target, engine->weight,
                  engine->row_nll, pass->backward ? engine->normed : NULL,
                  pass->observer.logits ? pass_logits : NULL, &view, stack->workspace);
    LODE_TRY(view.status);
    memset(engine->nll, 0, (size_t)batch->tokens * sizeof *engine->nll);
    for (int64_t r = 0; r < rows; r++) {
        if (!isfinite(engine->row_nll[r]))
            return lode_fail(LODE_ERR_NUMERIC,
                             "the loss is not finite on the micro-batch that begins with sequence "
                             "%lld; the checkpoint's head holds NaN or infinity, or overflows",
                             (long long)batch->first_sequence);
        engine->nll[engine->row[r]] = engine->row_nll[r];
    }
    if (pass->backward) {
        memset(engine->gradient, 0, (size_t)(batch->tokens * d) * sizeof(lode_real_t));
        lode_rmsnorm_backward(rows, d, engine->normed, engine->final, stack->final_norm,
                              engine->inverse, engine->gradient);
    }
    if (pass->observer.losses)
        return pass->observer.losses(pass->observer.context, variant, batch, engine->nll);
    return LODE_OK;
}

static lode_status_t prepare_variant(engine_t *engine, int64_t variant) {
    if (variant == engine->variant)
        return LODE_OK;
    engine->variant = variant;
    const lode_observer_t *observer = &engine->pass->observer;
    return observer->variant ? observer->variant(observer->context, variant, engine->pass->stack)
                             : LODE_OK;
}

/* Brings the hidden states of the micro-batch into `x`. */
static void forward_input(engine_t *engine, int64_t item, const lode_batch_t *batch,
                          lode_real_t *x) {
    const lode_pass_t *pass = engine->pass;
    if (pass->stack->embedding) {
        const int32_t *ids = pass->batches->text->ids + batch->first_token;
        if (engine->sound)
            note(engine, lode_stack_embed(pass->stack, batch->tokens, ids, x));
        return;
    }
    lode_real_t *received;
    if (!lode_channel_receive(&engine->forward_in, item, &received))
        engine->sound = false;
    if (engine->sound)
        memcpy(x, received, (size_t)(batch->tokens * pass->stack->d) * sizeof *x);
    lode_channel_post(&engine->forward_in, item + 1, engine->items);
}

static void forward_item(engine_t *engine, int64_t item) {
    const lode_pass_t *pass = engine->pass;
    const lode_stack_t *stack = pass->stack;
    int64_t variant;
    const lode_batch_t *batch = batch_of(engine, item, &variant);
    lode_real_t *output =
        pass->layout->next >= 0 ? lode_channel_buffer(&engine->forward_out, item) : engine->final;
    if (engine->sound)
        note(engine, prepare_variant(engine, variant));
    forward_input(engine, item, batch,
                  stack->count > 0 ? activations_of(engine, item, 0)->x : output);
    if (engine->sound)
        note(engine, forward_layers(engine, item, batch, output));
    if (pass->layout->next >= 0)
        lode_channel_send(&engine->forward_out, item, batch->tokens * stack->d, engine->sound);
    else if (engine->sound && batch - pass->batches->batch < pass->head_batches)
        note(engine, run_head(engine, batch, variant));
}

/* --- backward ------------------------------------------------------------------------------- */

/* Runs the gradient `dy` down through this rank's layers, in place. */
static lode_status_t backward_layers(engine_t *engine, int64_t item, const lode_batch_t *batch,
                                     lode_real_t *dy) {
    const lode_pass_t *pass = engine->pass;
    lode_stack_t *stack = pass->stack;
    for (int64_t l = stack->count - 1; l >= 0; l--) {
        const lode_layer_t *layer = &stack->layer[l];
        lode_activations_t *act = working_activations(engine, item, l);
        if (l >= engine->kept)
            lode_layer_forward(layer, &batch->sequences, act, NULL, stack->workspace, NULL, NULL);
        const lode_real_t *u, *g;
        lode_layer_backward_ffn(layer, &batch->sequences, act, dy, stack->workspace, &u, &g);
        if (pass->observer.ffn_backward)
            LODE_TRY(pass->observer.ffn_backward(pass->observer.context, batch,
                                                 stack->first_layer + l, u, g));
        if (stack->first_layer + l > 0)
            lode_layer_backward_rest(layer, &batch->sequences, act, dy, stack->workspace);
        progress_messages(engine);
    }
    return LODE_OK;
}

static void backward_item(engine_t *engine, int64_t item) {
    const lode_pass_t *pass = engine->pass;
    int64_t variant;
    const lode_batch_t *batch = batch_of(engine, item, &variant);
    const int64_t count = batch->tokens * pass->stack->d;
    lode_real_t *dy = engine->gradient;
    if (pass->layout->next >= 0) {
        lode_real_t *received;
        if (!lode_channel_receive(&engine->backward_in, item, &received))
            engine->sound = false;
        if (engine->sound)
            memcpy(dy, received, (size_t)count * sizeof *dy);
        lode_channel_post(&engine->backward_in, item + 1, engine->items);
    }
    if (engine->sound)
        note(engine, backward_layers(engine, item, batch, dy));
    if (pass->layout->previous >= 0) {
        lode_real_t *out = lode_channel_buffer(&engine->backward_out, item);
        memcpy(out, dy, (size_t)count * sizeof *dy);
        lode_channel_send(&engine->backward_out, item, count, engine->sound);
    }
}

/* --- the pass ------------------------------------------------------------------------------- */

static void show_progress(engine_t *engine, int64_t item) {
    const lode_pass_t *pass = engine->pass;
    int64_t variant;
    const lode_batch_t *batch = batch_of(engine, item, &variant);
    /* The other replicas are taken to be as far. */
    const int64_t all = pass->variants * pass->batches->count, replicas = pass->layout->replicas;
    const int64_t left = all - engine->progress.units_done;
    const int64_t units = replicas < left ? replicas : left;
    lode_progress_add(&engine->progress, units, batch->tokens * units);
}

static void run_items(engine_t *engine) {
    const lode_pass_t *pass = engine->pass;
    const int64_t steps = engine->items * (pass->backward ? 2 : 1);
    lode_channel_post(&engine->forward_in, 0, engine->items);
    lode_channel_post(&engine->backward_in, 0, engine->items);
    lode_progress_start(&engine->progress, pass->stage, "micro-batch",
                        pass->variants * pass->batches->count);
    for (int64_t step = 0; step < steps; step++) {
        const lode_operation_t operation = lode_schedule_operation(
            pass->layout->stages, pass->layout->stage, engine->items, pass->backward, step);
        if (operation.backward)
            backward_item(engine, operation.item);
        else
            forward_item(engine, operation.item);
        if (operation.backward == pass->backward)
            show_progress(engine, operation.item);
    }
    if (engine->sound)
        lode_progress_end(&engine->progress);
}

lode_status_t lode_pass_run(const lode_pass_t *pass) {
    LODE_ASSERT(!pass->backward || (pass->variants == 1 && !pass->compact));
    engine_t engine = {.pass = pass,
                       .sound = true,
                       .variant = -1,
                       .items = items_of(pass),
                       .forward_in.peer = -1,
                       .forward_out.peer = -1,
                       .backward_in.peer = -1,
                       .backward_out.peer = -1};
    for (int i = 0; i < LODE_CHANNEL_DEPTH; i++)
        engine.forward_in.request[i] = engine.forward_out.request[i] =
            engine.backward_in.request[i] = engine.backward_out.request[i] = MPI_REQUEST_NULL;
    engine.in_flight = pass->stack ? in_flight_of(pass) : 0;
    lode_status_t status = lode_comm_agree(pass->comm, engine_open(&engine));
    if (status == LODE_OK) {
        if (pass->stack)
            run_items(&engine);
        status = lode_comm_agree(pass->comm, engine.status);
    }
    engine_close(&engine);
    return status;
}
