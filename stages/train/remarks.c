#include "train/remarks.h"

#include <math.h>

/* --- the layout ----------------------------------------------------------------------------- */

/* Ranks that work where so many replicas share them. */
static int64_t used(const lode_run_t *run, int64_t size, int64_t replicas) {
    const int64_t parts = run->architecture.layers + 1, each = size / replicas;
    return replicas * (each < parts ? each : parts);
}

/* The fewest replicas, of those that training can have, that would use more ranks; 0: none. */
static int64_t better_replicas(const lode_run_t *run, const lode_layout_t *layout, int64_t size) {
    for (int64_t replicas = 2 * layout->replicas; replicas <= size; replicas *= 2)
        if (used(run, size, replicas) > layout->replicas * layout->stages)
            return replicas;
    return 0;
}

/* What to change for so many replicas, more than there are. */
static lode_status_t remark_replicas(lode_buffer_t *text, const lode_run_t *run, int64_t replicas) {
    const lode_config_t *config = run->config;
    const int64_t batches = lode_config_train_batches(config);
    const bool grouped = replicas <= config->train.groups;
    if (grouped && config->replicas == 0)
        return lode_buffer_printf(text, "memory for %lld replicas would have more of them work",
                                  (long long)replicas);
    if (config->replicas > 0)
        LODE_TRY(lode_buffer_printf(text, "replicas = %lld%s", (long long)replicas,
                                    grouped ? "" : " and "));
    if (!grouped)
        LODE_TRY(lode_buffer_printf(text, "train.groups = %lld", (long long)replicas));
    LODE_TRY(lode_buffer_printf(text, " would have more of them work"));
    if (grouped || batches % replicas == 0)
        return LODE_OK;
    return lode_buffer_printf(text,
                              ", and takes a multiple of %lld micro-batches a step, where "
                              "train.batch and micro_batch make %lld",
                              (long long)replicas, (long long)batches);
}

static const char *plural(int64_t count) {
    return count == 1 ? "" : "s";
}

lode_status_t lode_train_remark_layout(lode_buffer_t *text, const lode_run_t *run,
                                       const lode_layout_t *layout, int size) {
    const int64_t working = (int64_t)layout->replicas * layout->stages, idle = size - working;
    const int64_t better = better_replicas(run, layout, size);
    LODE_TRY(lode_buffer_printf(text, "%lld layers over %d rank%s",
                                (long long)run->architecture.layers, layout->stages,
                                plural(layout->stages)));
    if (layout->replicas > 1)
        LODE_TRY(lode_buffer_printf(text, ", in %d replicas that share the sequences",
                                    layout->replicas));
    if (idle == 0)
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(text, "; %lld rank%s idle%s; ", (long long)idle, plural(idle),
                                idle == 1 ? "s" : ""));
    if (better > 0)
        return remark_replicas(text, run, better);
    return lode_buffer_printf(text, "%lld rank%s would do", (long long)working, plural(working));
}

/* --- the outcome ---------------------------------------------------------------------------- */

static const char remedy[] = "; lower train.learning_rate, or raise train.warmup";

/* last: of the training itself, towards its end. */
static lode_status_t remark_validation(lode_buffer_t *text, const lode_train_record_t *record,
                                       double last) {
    const double first = record->curve[LODE_TRAIN_LOSS][0];
    const double before = record->loss[0], after = record->loss[record->validations - 1];
    if (!(after > before))
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(text,
                                "the validation loss was %.4f before the first step, and is %.4f "
                                "after the last one",
                                before, after));
    if (!(last < first))
        return lode_buffer_printf(text, "%s", remedy);
    return lode_buffer_printf(text,
                              ", while the training loss fell from %.4f to %.4f; take fewer "
                              "train.steps or more text, or lower train.learning_rate",
                              first, last);
}

/* Steps at the end whose mean is taken: a tenth, but of a short training some more. */
static int64_t tail_of(int64_t steps) {
    const int64_t few = steps / 2 < 5 ? (steps + 1) / 2 : 5;
    return steps / 10 > few ? steps / 10 : few;
}

lode_status_t lode_train_remark_rise(lode_buffer_t *text, const lode_train_record_t *record) {
    const double *loss = record->curve[LODE_TRAIN_LOSS];
    const int64_t count = tail_of(record->steps);
    const double *tail = loss + record->steps - count;
    double mean = 0, square = 0;
    for (int64_t i = 0; i < count; i++)
        mean += tail[i] / (double)count;
    for (int64_t i = 0; i < count; i++)
        square += (tail[i] - mean) * (tail[i] - mean) / (double)count;
    if (record->validations > 0)
        return remark_validation(text, record, mean);
    if (!(mean > loss[0] + 2 * sqrt(square)))
        return LODE_OK;
    return lode_buffer_printf(text,
                              "the loss was %.4f at the first step, and is %.4f in the mean of the "
                              "last %lld%s",
                              loss[0], mean, (long long)count, remedy);
}
