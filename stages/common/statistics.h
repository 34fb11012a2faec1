/* stages/common/statistics: sums per sequence, layer and channel, and what becomes of them.
 *
 * Ranks write /sequences/<name> [S, L, width] while micro-batches pass, each its own layers and its
 * own sequences. Sums over sequences are taken from there in the order of the sequences, so that no
 * number of ranks or replicas changes them.
 */
#ifndef LODE_STAGES_COMMON_STATISTICS_H
#define LODE_STAGES_COMMON_STATISTICS_H

#include "common/run.h"
#include "transformer/pass.h"

typedef enum lode_reduction {
    LODE_REDUCE_SUM,
    LODE_REDUCE_MAX,
} lode_reduction_t;

/* One statistic of width `width`: where the sequences' values lie, where the result goes
 * ("/loss_proxy" [L, width]), and the divisor (1, or tokens). */
typedef struct lode_statistic {
    const char *name; /* "loss_proxy"; may have parts, "folder/loss_proxy" */
    int64_t width;
    lode_reduction_t reduction;
    double divisor;
} lode_statistic_t;

/* Creates /sequences/<name> f64 [sequences, L, width] and /<name> f64 [L, width]. Collective. */
LODE_MUST_USE lode_status_t lode_statistic_create(lode_store_t *store, const lode_run_t *run,
                                                  const lode_statistic_t *statistic,
                                                  int64_t sequences);

/* Writes one sequence's values [width] of one layer. Local. */
LODE_MUST_USE lode_status_t lode_statistic_write(lode_store_t *store,
                                                 const lode_statistic_t *statistic,
                                                 int64_t sequence, int64_t layer,
                                                 const double *values);

/* Units of a part for micro-batches: a sequence and a layer are a unit, and a sequence and the
 * head, which counts as the layer after the last. So each rank marks what it alone has written. */
int64_t lode_statistic_units(const lode_run_t *run, int64_t sequences);

/* Marks the sequences of a micro-batch, out of `sequences`, for a layer, or for the head as layer
 * L. Local. */
LODE_MUST_USE lode_status_t lode_statistic_mark(lode_store_t *store, int part, int64_t sequences,
                                                const lode_batch_t *batch, int64_t layer);

/* Whether the micro-batch was done before, for the first `layers` layers; L + 1 of them include the
 * head. Local. */
bool lode_statistic_done(const lode_store_t *store, int part, int64_t sequences,
                         const lode_batch_t *batch, int64_t layers);

/* Reduces over sequences into /<name>; after lode_store_synchronise(). Local: this rank does its
 * own layers, if it is of the first replica. */
LODE_MUST_USE lode_status_t lode_statistic_reduce(lode_store_t *store, const lode_run_t *run,
                                                  const lode_statistic_t *statistic,
                                                  int64_t sequences);

/* A pass over sequences, all of its model's layers as they are. */
typedef struct lode_statistics_pass {
    const char *stage; /* for progress lines and messages */
    const lode_batches_t *batches;
    bool backward;        /* down to u of the first layer */
    int64_t head_batches; /* the head runs for the first so many micro-batches; all for gradients */
    int64_t other; /* private bytes that the caller holds, beside the text, out of the budget */
    lode_observer_t observer;
    /* Whether an interrupted run has what a micro-batch gives, which is then left out. Must be the
     * same on all ranks. Local. */
    bool (*done)(void *context, const lode_batch_t *batch);
    void *context; /* of done */
} lode_statistics_pass_t;

/* Runs it over the micro-batches that are not done, on the run's checkpoint. Errors: those of
 * lode_stack_create and lode_pass_run. Collective. */
LODE_MUST_USE lode_status_t lode_statistics_pass(const lode_run_t *run,
                                                 const lode_statistics_pass_t *pass);

/* What one forward pass over the calibration sequences is made for. */
enum {
    LODE_STATISTICS_CALIBRATE = 1,
    LODE_STATISTICS_ACCUMULATE = 2, /* with a backward pass */
    LODE_STATISTICS_MOMENTS = 4,
};

/* Runs one pass for the stages whose bits are set in `stages` (at least one), and writes their
 * files: calibrate.h5, accumulate.h5, moments.h5. Collective. */
LODE_MUST_USE lode_status_t lode_statistics_run(lode_run_t *run, unsigned stages);

/* Refuses, with LODE_ERR_CONFIG, padding with EOS for a model whose `eos` is negative, which has
 * none. Local. */
LODE_MUST_USE lode_status_t lode_statistics_check_padding(const lode_config_t *config,
                                                          const char *model, int32_t eos);

#endif
