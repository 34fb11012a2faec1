#include "transformer/pass_internal.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/stop.h"

enum { TAG_FORWARD = 101, TAG_BACKWARD = 102 };

/* --- setting up ----------------------------------------------------------------------------- */

/* Micro-batches of a replica, the shared one included. */
static int64_t share_items(const lode_plan_share_t *share) {
    return share->whole + (share->part_batch >= 0);
}

/* What is kept within the budget. */
static lode_status_t choose_kept(lode_pass_engine_t *engine) {
    const lode_pass_t *pass = engine->pass;
    lode_pass_size_t size = lode_pass_size(pass);
    lode_arena_shape_t shape;
    if (!pass->stack)
        return LODE_OK;
    size.batches = engine->todo_count;
    LODE_TRY(lode_arena_shape(&shape, &size));
    const lode_pass_memory_t memory = lode_arena_memory(&shape);
    if (lode_arena_choose(&engine->arena, &shape, pass->budget, pass->scratch != NULL))
        return LODE_OK;
    return lode_fail(LODE_ERR_MEMORY,
                     "%s needs %.0f MB for activations and %.0f MB of the memory budget are left; "
                     "raise memory, lower micro_batch or use more ranks",
                     pass->stage, (double)(pass->scratch ? memory.least : memory.inputs) / 1e6,
                     (double)(pass->budget > 0 ? pass->budget : 0) / 1e6);
}

/* Makes the plans of this replica, all ranks of which must know what each of them can keep. `local`
 * is this rank's status so far. Collective over pass->comm, not agreed. */
static lode_status_t make_plans(lode_pass_engine_t *engine, lode_status_t local) {
    const lode_pass_t *pass = engine->pass;
    const lode_layout_t *layout = pass->layout;
    const int64_t own[] = {engine->arena.slots, layout->layer_end};
    int64_t *all = NULL, *layer_end = NULL;
    const lode_status_t room = LODE_NEW(&all, 2 * pass->comm->size, "plan");
    if (local == LODE_OK)
        local = room;
    local = lode_comm_agree(pass->comm, local);
    if (local == LODE_OK)
        MPI_Allgather(own, 2, MPI_INT64_T, all, 2, MPI_INT64_T, pass->comm->comm);
    if (local != LODE_OK || !pass->stack)
        goto done;
    LODE_GUARD(local, LODE_NEW(&layer_end, 2 * layout->stages, "plan"), done);
    int64_t *slots = layer_end + layout->stages;
    for (int64_t s = 0; s < layout->stages; s++) {
        const int64_t *entry = all + 2 * (layout->replica * layout->stages + s);
        slots[s] = entry[0];
        layer_end[s] = entry[1];
    }
    LODE_GUARD(local,
               lode_plan_divide(&engine->share, engine->todo_count, pass->variants, pass->start,
                                pass->layout->layers, layout->replicas, layout->replica),
               done);
    LODE_GUARD(local,
               lode_plan_create(&engine->whole, 0, pass->variants, pass->parent, pass->start,
                                pass->layout->layers, layout->stages, layer_end, slots),
               done);
    local = lode_plan_create(&engine->part, engine->share.part_first, engine->share.part_end,
                             pass->parent, pass->start, pass->layout->layers, layout->stages,
                             layer_end, slots);
done:
    free(all);
    free(layer_end);
    return local;
}

static lode_status_t engine_open(lode_pass_engine_t *engine) {
    const lode_pass_t *pass = engine->pass;
    LODE_TRY(make_plans(engine, choose_kept(engine)));
    if (!pass->stack)
        return LODE_OK;
    const int64_t panel = pass->batches->max_tokens * pass->stack->d;
    const int64_t first_layer = pass->layout->first_layer;
    const MPI_Comm comm = pass->comm->comm;
    const int previous = pass->layout->previous, next = pass->layout->next;
    const int back_previous = pass->backward ? previous : -1,
              back_next = pass->backward ? next : -1;
    engine->messages = engine->share.whole * lode_plan_count_below(&engine->whole, first_layer) +
                       lode_plan_count_below(&engine->part, first_layer);
    LODE_TRY(lode_channel_open(&engine->forward_in, comm, previous, TAG_FORWARD, panel));
    LODE_TRY(lode_channel_open(&engine->forward_out, comm, next, TAG_FORWARD, panel));
    LODE_TRY(lode_channel_open(&engine->backward_in, comm, back_next, TAG_BACKWARD, panel));
    LODE_TRY(lode_channel_open(&engine->backward_out, comm, back_previous, TAG_BACKWARD, panel));
    return lode_arena_open(&engine->arena, pass->stack, pass->scratch, pass->room);
}

static void engine_close(lode_pass_engine_t *engine) {
    lode_channel_close(&engine->forward_in);
    lode_channel_close(&engine->forward_out);
    lode_channel_close(&engine->backward_in);
    lode_channel_close(&engine->backward_out);
    lode_plan_destroy(&engine->whole);
    lode_plan_destroy(&engine->part);
    lode_arena_close(&engine->arena);
    free(engine->todo);
}

/* --- what becomes of a micro-batch ------------------------------------------------------------ */

static void note(lode_pass_engine_t *engine, lode_status_t status) {
    if (status == LODE_OK)
        return;
    if (engine->status == LODE_OK)
        engine->status = status;
    engine->sound = false;
    lode_notice_ask(&engine->notice);
}

/* Whether there is something to compute of a micro-batch. */
static bool is_live(const lode_pass_engine_t *engine, int64_t item) {
    return engine->sound && item < engine->end;
}

static lode_mark_t mark_of(const lode_pass_engine_t *engine, int64_t item) {
    if (!engine->sound)
        return LODE_MARK_FAILED;
    return item < engine->end ? LODE_MARK_SOUND : LODE_MARK_SKIPPED;
}

/* Takes note of what the neighbour made of a micro-batch. */
static void heed(lode_pass_engine_t *engine, int64_t item, lode_mark_t mark) {
    if (mark == LODE_MARK_FAILED)
        engine->sound = false;
    if (mark == LODE_MARK_SKIPPED && item < engine->end)
        engine->end = item;
}

/* On a feeder, before a micro-batch: whether it is begun. One takes as long to pass through all
 * stages as they take between them. */
static void consider(lode_pass_engine_t *engine, int64_t item) {
    const double now = lode_time(), seconds = now - engine->begun;
    if (item > 0 && seconds > engine->unit)
        engine->unit = seconds;
    engine->begun = now;
    const bool asked = lode_notice_asked(&engine->notice);
    const bool late =
        !engine->pass->unstopped && lode_stop_before(engine->unit * engine->pass->layout->stages);
    if (item < engine->end && (asked || late))
        engine->end = item;
}

/* The replica's micro-batch number `item`; the variant is still to be set. */
static lode_pass_work_t work_of(const lode_pass_engine_t *engine, int64_t item) {
    const lode_pass_t *pass = engine->pass;
    const lode_plan_share_t *share = &engine->share;
    const bool whole = item < share->whole;
    const int64_t batch = /* of those to do */
        whole ? item * pass->layout->replicas + pass->layout->replica : share->part_batch;
    return (lode_pass_work_t){.item = item,
                              .batch = &pass->batches->batch[engine->todo[batch]],
                              .plan = whole ? &engine->whole : &engine->part};
}

void lode_pass_progress(lode_pass_engine_t *engine) {
    lode_channel_progress(&engine->forward_in);
    lode_channel_progress(&engine->forward_out);
    lode_channel_progress(&engine->backward_in);
    lode_channel_progress(&engine->backward_out);
}

/* --- forward -------------------------------------------------------------------------------- */

static lode_status_t prepare_variant(lode_pass_engine_t *engine, const lode_pass_work_t *work) {
    const lode_observer_t *observer = &engine->pass->observer;
    if (work->variant == engine->variant)
        return LODE_OK;
    engine->variant = work->variant;
    if (!observer->variant)
        return LODE_OK;
    return observer->variant(observer->context, work->variant, work->plan->start[work->variant],
                             engine->pass->stack);
}

/* Brings the hidden states of the micro-batch into `x`. */
static void forward_input(lode_pass_engine_t *engine, const lode_pass_work_t *work,
                          lode_real_t *x) {
    const lode_pass_t *pass = engine->pass;
    const lode_batch_t *batch = work->batch;
    if (pass->stack->embedding) {
        const int32_t *ids = pass->batches->text->ids + batch->first_token;
        if (is_live(engine, work->item))
            note(engine, lode_stack_embed(pass->stack, &batch->sequences, ids, x));
        return;
    }
    lode_real_t *received;
    heed(engine, work->item,
         lode_channel_receive(&engine->forward_in, engine->received, &received));
    if (is_live(engine, work->item))
        note(engine, lode_comm_received(pass->comm, "hidden states"));
    if (is_live(engine, work->item))
        memcpy(x, received, (size_t)(batch->tokens * pass->stack->d) * sizeof *x);
    lode_channel_post(&engine->forward_in, ++engine->received, engine->messages);
}

/* What this rank has to do with a variant of a micro-batch. */
static void forward_work(lode_pass_engine_t *engine, const lode_pass_work_t *work) {
    const lode_pass_t *pass = engine->pass;
    const lode_layout_t *layout = pass->layout;
    const lode_stack_t *stack = pass->stack;
    const lode_plan_t *plan = work->plan;
    const int64_t start = plan->start[work->variant], parent = plan->parent[work->variant];
    if (start >= layout->layer_end) /* of the head's rank: the losses are the parent's */
        return;
    if (is_live(engine, work->item))
        note(engine, prepare_variant(engine, work));
    lode_real_t *output = layout->next >= 0
                              ? lode_channel_buffer(&engine->forward_out, engine->sent)
                              : engine->arena.final;
    int64_t layer = 0;
    lode_real_t *x;
    if (parent >= 0 && start >= layout->first_layer) {
        layer = start - layout->first_layer;
        x = lode_pass_state(engine, work, parent, layer);
    } else {
        x = stack->count > 0 ? lode_pass_input(engine, work, 0) : output;
        forward_input(engine, work, x);
    }
    const bool live = is_live(engine, work->item);
    if (live)
        note(engine, lode_pass_forward(engine, work, layer, x, output));
    if (layout->next >= 0)
        lode_channel_send(&engine->forward_out, engine->sent++,
                          live ? work->batch->tokens * stack->d : 0, mark_of(engine, work->item));
    else if (is_live(engine, work->item) && work->batch - pass->batches->batch < pass->head_batches)
        note(engine, lode_pass_head(engine, work));
}

/* --- backward ------------------------------------------------------------------------------- */

static void backward_item(lode_pass_engine_t *engine, int64_t item) {
    const lode_pass_t *pass = engine->pass;
    const lode_batch_t *batch = work_of(engine, item).batch;
    const int64_t count = batch->tokens * pass->stack->d;
    lode_real_t *dy = engine->arena.gradient;
    if (pass->layout->next >= 0) {
        lode_real_t *received;
        heed(engine, item, lode_channel_receive(&engine->backward_in, item, &received));
        if (is_live(engine, item))
            note(engine, lode_comm_received(pass->comm, "gradients"));
        if (is_live(engine, item))
            memcpy(dy, received, (size_t)count * sizeof *dy);
        lode_channel_post(&engine->backward_in, item + 1, share_items(&engine->share));
    }
    const bool live = is_live(engine, item);
    if (live)
        note(engine, lode_pass_backward(engine, item, batch, dy));
    if (pass->layout->previous >= 0) {
        lode_real_t *out = lode_channel_buffer(&engine->backward_out, item);
        if (live)
            memcpy(out, dy, (size_t)count * sizeof *dy);
        lode_channel_send(&engine->backward_out, item, live ? count : 0, mark_of(engine, item));
    }
}

/* --- the pass ------------------------------------------------------------------------------- */

/* What a variant costs, in layers; the head counts as one. Without variants, micro-batches count.
 */
static int64_t cost_of(const lode_pass_t *pass, const lode_plan_t *plan, int64_t variant) {
    if (pass->variants == 1)
        return 1;
    return plan->start[variant] == plan->layers ? 0 : plan->layers + 1 - plan->start[variant];
}

/* Adds to the progress, where the other replicas are taken to be as far. */
static void show_progress(lode_pass_engine_t *engine, const lode_pass_work_t *work) {
    const int64_t replicas = engine->pass->layout->replicas;
    lode_notice_look(&engine->notice);
    if (engine->pass->quiet || !is_live(engine, work->item))
        return;
    const int64_t left = engine->progress.units - engine->progress.units_done;
    const int64_t units = replicas * cost_of(engine->pass, work->plan, work->variant);
    lode_progress_add(&engine->progress, units < left ? units : left,
                      work->batch->tokens * replicas);
}

static void start_progress(lode_pass_engine_t *engine) {
    const lode_pass_t *pass = engine->pass;
    int64_t units = 0;
    if (pass->quiet)
        return;
    for (int64_t v = 0; v < pass->variants; v++)
        units += cost_of(pass, &engine->whole, v);
    lode_progress_start(&engine->progress, pass->stage,
                        pass->variants == 1 ? "micro-batch" : "layer",
                        units * pass->batches->count);
    lode_progress_resume(&engine->progress, units * (pass->batches->count - engine->todo_count));
}

static void run_forward(lode_pass_engine_t *engine) {
    for (int64_t item = 0; item < share_items(&engine->share); item++) {
        lode_pass_work_t work = work_of(engine, item);
        if (engine->pass->layout->stage == 0)
            consider(engine, item);
        for (work.variant = work.plan->first; work.variant < work.plan->end; work.variant++) {
            forward_work(engine, &work);
            show_progress(engine, &work);
        }
    }
}

static void run_both_ways(lode_pass_engine_t *engine) {
    const lode_pass_t *pass = engine->pass;
    const int64_t items = share_items(&engine->share);
    for (int64_t step = 0; step < 2 * items; step++) {
        const lode_operation_t operation =
            lode_schedule_operation(pass->layout->stages, pass->layout->stage, items, true, step);
        const lode_pass_work_t work = work_of(engine, operation.item);
        if (operation.backward) {
            backward_item(engine, operation.item);
            show_progress(engine, &work);
        } else {
            if (pass->layout->stage == 0)
                consider(engine, operation.item);
            forward_work(engine, &work);
        }
    }
}

static void run_all(lode_pass_engine_t *engine) {
    lode_channel_post(&engine->forward_in, 0, engine->messages);
    lode_channel_post(&engine->backward_in, 0, share_items(&engine->share));
    start_progress(engine);
    if (engine->pass->backward)
        run_both_ways(engine);
    else
        run_forward(engine);
    if (!engine->pass->quiet && is_live(engine, share_items(&engine->share) - 1))
        lode_progress_end(&engine->progress);
}

/* Lists what there is to do. Local. */
static lode_status_t list_todo(lode_pass_engine_t *engine) {
    const lode_pass_t *pass = engine->pass;
    LODE_TRY(LODE_NEW(&engine->todo, pass->batches->count, "micro-batches"));
    for (int64_t b = 0; b < pass->batches->count; b++)
        if (!pass->done || !pass->done[b])
            engine->todo[engine->todo_count++] = b;
    return LODE_OK;
}

/* The pass's end, once it has run on all ranks. An error goes before a stop. Collective. */
static lode_status_t conclude(const lode_pass_engine_t *engine) {
    const lode_comm_t *comm = engine->pass->comm;
    LODE_TRY(lode_comm_agree(comm, engine->status));
    int left = engine->pass->stack && engine->end < share_items(&engine->share);
    if (comm->size > 1)
        MPI_Allreduce(MPI_IN_PLACE, &left, 1, MPI_INT, MPI_MAX, comm->comm);
    if (!left)
        return LODE_OK;
    /* Whoever was asked says why. */
    const lode_status_t status = lode_comm_stop(comm, engine->unit * engine->pass->layout->stages);
    return status != LODE_OK ? status
                             : lode_fail(LODE_STOPPED,
                                         "%s: stopped; what is done is kept; run the "
                                         "same command again to go on",
                                         engine->pass->stage);
}

static lode_status_t run(lode_pass_engine_t *engine) {
    const lode_pass_t *pass = engine->pass;
    LODE_TRY(lode_notice_open(&engine->notice, pass->comm, pass->layout));
    engine->notice.deaf = pass->unstopped;
    if (pass->stack)
        run_all(engine);
    lode_notice_close(&engine->notice);
    return conclude(engine);
}

lode_status_t lode_pass_run(const lode_pass_t *pass) {
    LODE_ASSERT(!pass->backward || (pass->variants == 1 && !pass->compact));
    lode_pass_engine_t engine = {.pass = pass,
                                 .sound = true,
                                 .variant = -1,
                                 .gradient_item = -1,
                                 .end = INT64_MAX,
                                 .forward_in.peer = -1,
                                 .forward_out.peer = -1,
                                 .backward_in.peer = -1,
                                 .backward_out.peer = -1};
    for (int i = 0; i < LODE_CHANNEL_DEPTH; i++)
        engine.forward_in.request[i] = engine.forward_out.request[i] =
            engine.backward_in.request[i] = engine.backward_out.request[i] = MPI_REQUEST_NULL;
    lode_status_t status = lode_comm_agree(pass->comm, list_todo(&engine));
    if (status == LODE_OK && engine.todo_count > 0)
        status = lode_comm_agree(pass->comm, engine_open(&engine));
    if (status == LODE_OK && engine.todo_count > 0)
        status = run(&engine);
    engine_close(&engine);
    return status;
}
