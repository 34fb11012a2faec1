#include "transformer/simulate.h"

#include <stdlib.h>

#include "base/memory.h"
#include "transformer/channel.h"
#include "transformer/schedule.h"

/* A sender is at most two buffers on either side ahead of what was taken. */
enum { AHEAD = 2 * LODE_CHANNEL_DEPTH, RING = 2 * AHEAD };

/* One direction between neighbours. Times of message n are at n % RING. */
typedef struct link {
    int64_t sent, arrived, taken; /* messages so far */
    double sent_at[RING], arrived_at[RING], taken_at[RING];
} link_t;

typedef struct clockwork {
    const lode_simulation_t *simulation;
    int64_t items;        /* micro-batches of all variants */
    link_t *up, *down;    /* [stages]: up[s] from s to s + 1, down[s] from s + 1 to s */
    int64_t *step;        /* [stages] operations done */
    double *clock, *busy; /* [stages] */
} clockwork_t;

static double later(double a, double b) {
    return a > b ? a : b;
}

/* Moves messages whose receive was posted: the first two at once, message n as n − 2 was taken. */
static void move_messages(link_t *link, double seconds) {
    for (; link->arrived < link->sent; link->arrived++) {
        const int64_t n = link->arrived, before = n - LODE_CHANNEL_DEPTH;
        if (before >= link->taken)
            return;
        double start = link->sent_at[n % RING];
        if (before >= 0)
            start = later(start, link->taken_at[before % RING]);
        if (n > 0)
            start = later(start, link->arrived_at[(n - 1) % RING]);
        link->arrived_at[n % RING] = start + seconds;
    }
}

static void send(link_t *link, double now, double seconds) {
    link->sent_at[link->sent++ % RING] = now;
    move_messages(link, seconds);
}

static void take(link_t *link, double now, double seconds) {
    link->taken_at[link->taken++ % RING] = now;
    move_messages(link, seconds);
}

/* Whether the time is known at which the next message can be taken, or put into a buffer; *ready
 * becomes no earlier than that. */
static bool can_take(const link_t *link, double *ready) {
    if (link->arrived <= link->taken)
        return false;
    *ready = later(*ready, link->arrived_at[link->taken % RING]);
    return true;
}

static bool can_send(const link_t *link, double *ready) {
    const int64_t before = link->sent - LODE_CHANNEL_DEPTH;
    if (before >= link->arrived)
        return false;
    if (before >= 0)
        *ready = later(*ready, link->arrived_at[before % RING]);
    return true;
}

/* A forward waits for its buffer before it begins, as in transformer/pass. */
static bool run_forward(clockwork_t *work, int stage, int64_t variant) {
    const lode_simulation_t *simulation = work->simulation;
    const int first = simulation->first_stage ? simulation->first_stage[variant] : 0;
    if (stage < first)
        return true;
    link_t *in = stage > first ? &work->up[stage - 1] : NULL;
    link_t *out = stage + 1 < simulation->stages ? &work->up[stage] : NULL;
    const double seconds = simulation->forward[variant * simulation->stages + stage];
    double begin = work->clock[stage];
    if ((in && !can_take(in, &begin)) || (out && !can_send(out, &begin)))
        return false;
    work->clock[stage] = begin + seconds;
    work->busy[stage] += seconds;
    if (in)
        take(in, begin, simulation->message);
    if (out)
        send(out, work->clock[stage], simulation->message);
    return true;
}

/* A backward waits for its buffer when it has something to put into it. */
static bool run_backward(clockwork_t *work, int stage) {
    const lode_simulation_t *simulation = work->simulation;
    link_t *in = stage + 1 < simulation->stages ? &work->down[stage] : NULL;
    link_t *out = stage > 0 ? &work->down[stage - 1] : NULL;
    const double seconds = simulation->backward[stage];
    double begin = work->clock[stage], unused = 0;
    if ((in && !can_take(in, &begin)) || (out && !can_send(out, &unused)))
        return false;
    double end = begin + seconds;
    if (out && !can_send(out, &end))
        return false;
    work->clock[stage] = end;
    work->busy[stage] += seconds;
    if (in)
        take(in, begin, simulation->message);
    if (out)
        send(out, end, simulation->message);
    return true;
}

/* Runs the stage's next operation where all that it waits for is known. */
static bool advance(clockwork_t *work, int stage) {
    const lode_simulation_t *simulation = work->simulation;
    const bool backward = simulation->backward != NULL;
    if (work->step[stage] == work->items * (backward ? 2 : 1))
        return false;
    const lode_operation_t operation = lode_schedule_operation(
        simulation->stages, stage, work->items, backward, work->step[stage]);
    const bool moved = operation.backward
                           ? run_backward(work, stage)
                           : run_forward(work, stage, operation.item % simulation->variants);
    work->step[stage] += moved;
    return moved;
}

static void run(clockwork_t *work) {
    const int stages = work->simulation->stages;
    for (bool moved = true; moved;) {
        moved = false;
        for (int stage = 0; stage < stages; stage++)
            while (advance(work, stage))
                moved = true;
    }
    const int64_t steps = work->items * (work->simulation->backward ? 2 : 1);
    for (int stage = 0; stage < stages; stage++)
        LODE_ASSERT(work->step[stage] == steps); /* else the schedule hangs */
}

lode_status_t lode_simulate(lode_simulated_t *out, double *busy,
                            const lode_simulation_t *simulation) {
    const int stages = simulation->stages;
    clockwork_t work = {.simulation = simulation,
                        .items = simulation->batches * simulation->variants};
    lode_status_t status;
    LODE_ASSERT(stages >= 1 && simulation->variants >= 1);
    LODE_ASSERT(!simulation->backward || simulation->variants == 1);
    *out = (lode_simulated_t){0};
    LODE_GUARD(status, LODE_NEW(&work.up, 2 * stages, "simulated pipeline"), done);
    LODE_GUARD(status, LODE_NEW(&work.step, stages, "simulated pipeline"), done);
    LODE_GUARD(status, LODE_NEW(&work.clock, 2 * stages, "simulated pipeline"), done);
    work.down = work.up + stages;
    work.busy = work.clock + stages;
    run(&work);
    double sum = 0;
    for (int stage = 0; stage < stages; stage++) {
        out->makespan = later(out->makespan, work.clock[stage]);
        out->busy = later(out->busy, work.busy[stage]);
        sum += work.busy[stage];
        if (busy)
            busy[stage] = work.busy[stage];
    }
    if (out->makespan > 0)
        out->bubble = later(0, 1 - sum / (stages * out->makespan));
done:
    free(work.up);
    free(work.step);
    free(work.clock);
    return status;
}

double lode_simulate_ideal(int stages, int64_t batches, double each) {
    return batches > 0 ? (double)(batches + stages - 1) * each : 0;
}
