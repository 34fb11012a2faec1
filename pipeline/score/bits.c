#include "score/bits.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/memory.h"

int lode_bits_of_level(int level) {
    return level < LODE_BITS_CODED_LEVELS ? LODE_BITS_LEAST + level : LODE_BITS_STORED;
}

int lode_bits_level(int bits) {
    return bits > LODE_BITS_MOST ? LODE_BITS_CODED_LEVELS : bits - LODE_BITS_LEAST;
}

/* ε of a channel at a level. */
static double error_at(const double *error, int64_t channel, int level) {
    return level < LODE_BITS_CODED_LEVELS ? error[channel * LODE_BITS_CODED_LEVELS + level] : 0;
}

double lode_bits_value(const uint8_t *bits, const double *loss_proxy, const double *error,
                       int64_t count) {
    double sum = 0;
    for (int64_t j = 0; j < count; j++)
        sum += loss_proxy[j] * error_at(error, j, lode_bits_level(bits[j]));
    return sum;
}

/* A channel's next step. */
typedef struct step {
    double gain; /* per bit */
    int64_t channel;
    int32_t level; /* that it leads to */
} step_t;

/* What the distribution works on; `step` is a heap, the step to take next first. */
typedef struct work {
    const double *loss_proxy, *error;
    uint8_t *bits;
    int64_t left; /* bits of the budget */
    step_t *step; /* [count] */
    int64_t count;
} work_t;

static bool goes_before(const step_t *a, const step_t *b) {
    return a->gain != b->gain ? a->gain > b->gain : a->channel < b->channel;
}

static void swap(step_t *a, step_t *b) {
    const step_t kept = *a;
    *a = *b;
    *b = kept;
}

static void sink(work_t *work, int64_t i) {
    for (;;) {
        int64_t first = i;
        for (int64_t child = 2 * i + 1; child <= 2 * i + 2 && child < work->count; child++)
            if (goes_before(&work->step[child], &work->step[first]))
                first = child;
        if (first == i)
            return;
        swap(&work->step[i], &work->step[first]);
        i = first;
    }
}

/* The edge of the channel's lower convex hull that begins where the channel stands, among levels
 * that `room` bits suffice for; false where none gains anything. */
static bool next_step(const work_t *work, int64_t channel, int64_t room, step_t *step) {
    const int from = lode_bits_level(work->bits[channel]);
    *step = (step_t){.gain = 0, .channel = channel};
    for (int to = from + 1; to < LODE_BITS_LEVELS; to++) {
        const int more = lode_bits_of_level(to) - lode_bits_of_level(from);
        const double gained =
            error_at(work->error, channel, from) - error_at(work->error, channel, to);
        const double gain = work->loss_proxy[channel] * gained / more;
        if (more <= room && gain > step->gain) {
            step->gain = gain;
            step->level = to;
        }
    }
    return step->gain > 0;
}

/* Takes steps until the budget is used up or nothing gains any more. */
static double take_steps(work_t *work) {
    double excess = 0;
    bool tight =
        false; /* whether a step has not fitted: from then on only what fits is looked at */
    while (work->count > 0) {
        step_t *step = &work->step[0];
        const int64_t channel = step->channel;
        const int bits = lode_bits_of_level(step->level), more = bits - work->bits[channel];
        if (more <= work->left) {
            work->bits[channel] = (uint8_t)bits;
            work->left -= more;
        } else if (!tight) {
            /* Until here, each bit went where it gained most; the rest cannot gain more. */
            excess = step->gain * (double)work->left;
            tight = true;
        }
        if (!next_step(work, channel, tight ? work->left : INT64_MAX, step))
            *step = work->step[--work->count];
        sink(work, 0);
    }
    return excess;
}

/* What orders protected channels. */
static int compare_importance(const void *left, const void *right) {
    return goes_before(left, right) ? -1 : 1;
}

/* 16 bits for protected channels. */
static void protect(work_t *work, const uint8_t *is_protected, int64_t channels) {
    const int more = LODE_BITS_STORED - LODE_BITS_LEAST;
    int64_t count = 0;
    for (int64_t j = 0; j < channels; j++)
        if (is_protected[j])
            work->step[count++] = (step_t){.gain = work->loss_proxy[j], .channel = j};
    qsort(work->step, (size_t)count, sizeof *work->step, compare_importance);
    for (int64_t i = 0; i < count && work->left >= more; i++) {
        work->bits[work->step[i].channel] = LODE_BITS_STORED;
        work->left -= more;
    }
}

static lode_status_t check(const double *values, int64_t count, int64_t each, const char *what) {
    for (int64_t i = 0; i < count * each; i++)
        if (!isfinite(values[i]) || values[i] < 0)
            return lode_fail(LODE_ERR_NUMERIC,
                             "%s of channel %lld is %g, so bits cannot be distributed by it", what,
                             (long long)(i / each), values[i]);
    return LODE_OK;
}

lode_status_t lode_bits_allocate(uint8_t *bits, double *excess, const double *loss_proxy,
                                 const double *error, const uint8_t *is_protected, int64_t count,
                                 int64_t average) {
    LODE_ASSERT(LODE_BITS_LEAST <= average && average <= LODE_BITS_STORED);
    LODE_TRY(check(loss_proxy, count, 1, "the loss proxy"));
    LODE_TRY(check(error, count, LODE_BITS_CODED_LEVELS, "the error"));
    work_t work = {.loss_proxy = loss_proxy,
                   .error = error,
                   .bits = bits,
                   .left = (average - LODE_BITS_LEAST) * count};
    LODE_TRY(LODE_NEW_RAW(&work.step, count, "distribution of bits"));
    for (int64_t j = 0; j < count; j++)
        bits[j] = LODE_BITS_LEAST;
    if (is_protected)
        protect(&work, is_protected, count);
    for (int64_t j = 0; j < count; j++)
        work.count += next_step(&work, j, INT64_MAX, &work.step[work.count]);
    for (int64_t i = work.count / 2; i >= 0 && work.count > 0; i--)
        sink(&work, i);
    const double found = take_steps(&work);
    if (excess)
        *excess = found;
    free(work.step);
    return LODE_OK;
}

int64_t lode_bits_memory(int64_t count) {
    return count * (int64_t)sizeof(step_t);
}
