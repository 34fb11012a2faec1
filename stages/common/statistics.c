#include "common/statistics.h"

#include <stdio.h>
#include <stdlib.h>

#include "accumulate/accumulate.h"
#include "base/memory.h"
#include "calibrate/calibrate.h"
#include "common/spool.h"
#include "common/stacked.h"
#include "moments/moments.h"

enum { PATH_BYTES = 512 };

static void sequences_name(char path[PATH_BYTES], const lode_statistic_t *statistic) {
    snprintf(path, PATH_BYTES, "/sequences/%s", statistic->name);
}

lode_status_t lode_statistic_create(lode_store_t *store, const lode_run_t *run,
                                    const lode_statistic_t *statistic, int64_t sequences) {
    const int64_t shape[] = {sequences, run->architecture.layers, statistic->width};
    char path[PATH_BYTES];
    sequences_name(path, statistic);
    LODE_TRY(lode_store_dataset(store, path, LODE_TYPE_F64, 3, shape, false));
    return lode_store_dataset(store, statistic->name, LODE_TYPE_F64, 2, shape + 1, false);
}

lode_status_t lode_statistic_write(lode_store_t *store, const lode_statistic_t *statistic,
                                   int64_t sequence, int64_t layer, const double *values) {
    const int64_t offset[] = {sequence, layer, 0}, count[] = {1, 1, statistic->width};
    char path[PATH_BYTES];
    sequences_name(path, statistic);
    return lode_store_write(store, path, offset, count, values);
}

int64_t lode_statistic_units(const lode_run_t *run, int64_t sequences) {
    return sequences * (run->architecture.layers + 1);
}

lode_status_t lode_statistic_mark(lode_store_t *store, int part, int64_t sequences,
                                  const lode_batch_t *batch, int64_t layer) {
    return lode_store_mark(store, part, layer * sequences + batch->first_sequence,
                           batch->sequences.count);
}

bool lode_statistic_done(const lode_store_t *store, int part, int64_t sequences,
                         const lode_batch_t *batch, int64_t layers) {
    for (int64_t l = 0; l < layers; l++)
        if (!lode_store_done(store, part, l * sequences + batch->first_sequence,
                             batch->sequences.count))
            return false;
    return true;
}

static lode_status_t reduce_layer(lode_store_t *store, const lode_statistic_t *statistic,
                                  int64_t sequences, int64_t layer, double *row, double *total) {
    const int64_t width = statistic->width;
    char path[PATH_BYTES];
    sequences_name(path, statistic);
    for (int64_t j = 0; j < width; j++)
        total[j] = 0;
    for (int64_t s = 0; s < sequences; s++) {
        const int64_t offset[] = {s, layer, 0}, count[] = {1, 1, width};
        LODE_TRY(lode_store_read(store, path, offset, count, LODE_TYPE_F64, row));
        for (int64_t j = 0; j < width; j++)
            if (statistic->reduction == LODE_REDUCE_SUM)
                total[j] += row[j];
            else
                total[j] = row[j] > total[j] ? row[j] : total[j];
    }
    for (int64_t j = 0; j < width; j++)
        total[j] /= statistic->divisor;
    const int64_t offset[] = {layer, 0}, count[] = {1, width};
    return lode_store_write(store, statistic->name, offset, count, total);
}

lode_status_t lode_statistic_reduce(lode_store_t *store, const lode_run_t *run,
                                    const lode_statistic_t *statistic, int64_t sequences) {
    if (!lode_run_owns_layers(run))
        return LODE_OK;
    double *row;
    LODE_TRY(LODE_NEW(&row, 2 * statistic->width, "sums over sequences"));
    lode_status_t status = LODE_OK;
    for (int64_t l = run->layout.first_layer; l < run->layout.layer_end && status == LODE_OK; l++)
        status = reduce_layer(store, statistic, sequences, l, row, row + statistic->width);
    free(row);
    return status;
}

/* --- a pass over sequences ------------------------------------------------------------------ */

/* Runs the micro-batches that are not `done`. Collective. */
static lode_status_t run_batches(const lode_run_t *run, const lode_statistics_pass_t *statistics,
                                 const uint8_t *done) {
    const lode_batches_t *batches = statistics->batches;
    const int64_t tokens = batches->text->offsets[batches->text->sequences];
    const lode_pass_t pass = {.stage = statistics->stage,
                              .batches = batches,
                              .variants = 1,
                              .backward = statistics->backward,
                              .head_batches = statistics->head_batches,
                              .done = done,
                              .scratch = run->folder,
                              .observer = statistics->observer};
    const int64_t text = tokens * (int64_t)(2 * sizeof(int32_t) + sizeof(double));
    return lode_stacked_pass(run, pass, statistics->other + text);
}

lode_status_t lode_statistics_pass(const lode_run_t *run, const lode_statistics_pass_t *pass) {
    const lode_batches_t *batches = pass->batches;
    uint8_t *done;
    int64_t count = 0;
    lode_status_t status =
        lode_comm_agree(run->comm, LODE_NEW(&done, batches->count, "micro-batches"));
    for (int64_t b = 0; b < batches->count && status == LODE_OK; b++)
        count += done[b] = pass->done(pass->context, &batches->batch[b]);
    if (status == LODE_OK)
        lode_run_say_resumed(pass->stage, count, batches->count, "micro-batches");
    if (status == LODE_OK && count < batches->count)
        status = run_batches(run, pass, done);
    free(done);
    return status;
}

/* --- the pass of calibrate, accumulate and moments ------------------------------------------- */

/* The stages' observers behind the one that the pass calls; NULL where not wanted. */
typedef struct observers {
    lode_calibrate_t *calibrate;
    lode_accumulate_t *accumulate;
    lode_moments_t *moments;
    bool padded; /* the pass is over padded sequences, and for calibrate alone */
} observers_t;

static lode_status_t on_ffn_forward(void *context, const lode_batch_t *batch, int64_t layer,
                                    const lode_real_t *h, const lode_real_t *u) {
    const observers_t *observers = context;
    if (observers->padded)
        return lode_calibrate_padded(observers->calibrate, batch, layer, h, u);
    if (observers->calibrate)
        LODE_TRY(lode_calibrate_ffn(observers->calibrate, batch, layer, h, u));
    return observers->moments ? lode_moments_ffn(observers->moments, batch, layer, h, u) : LODE_OK;
}

static lode_status_t on_ffn_backward(void *context, const lode_batch_t *batch, int64_t layer,
                                     const lode_real_t *u, const lode_real_t *g) {
    return lode_accumulate_ffn(((observers_t *)context)->accumulate, batch, layer, u, g);
}

static lode_status_t on_logits(void *context, int64_t first_token, int64_t rows,
                               const lode_real_t *logits) {
    return lode_calibrate_logits(((observers_t *)context)->calibrate, first_token, rows, logits);
}

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    const observers_t *observers = context;
    (void)greedy;
    (void)variant;
    if (observers->accumulate)
        LODE_TRY(lode_accumulate_losses(observers->accumulate, batch, nll));
    /* Logits of a micro-batch come before its losses. */
    return observers->calibrate ? lode_calibrate_head(observers->calibrate, batch) : LODE_OK;
}

/* Whether an interrupted run has done all that this pass is to do with a micro-batch. */
static bool is_done(void *context, const lode_batch_t *batch) {
    const observers_t *observers = context;
    if (observers->padded)
        return lode_calibrate_padded_done(observers->calibrate, batch);
    return (!observers->calibrate || lode_calibrate_done(observers->calibrate, batch)) &&
           (!observers->accumulate || lode_accumulate_done(observers->accumulate, batch)) &&
           (!observers->moments || lode_moments_done(observers->moments, batch));
}

/* Micro-batches for which the head must run: all for gradients, else those with kept logits. */
static int64_t head_batches(const lode_batches_t *batches, const observers_t *observers,
                            int64_t keep_logits) {
    if (observers->accumulate)
        return batches->count;
    int64_t count = 0;
    while (observers->calibrate && !observers->padded && count < batches->count &&
           batches->batch[count].first_sequence < keep_logits)
        count++;
    return count;
}

/* What progress lines call the pass. */
static const char *pass_name(const observers_t *observers) {
    if (observers->padded)
        return "calibrate, padded";
    static const char *const names[] = {
        [LODE_STATISTICS_CALIBRATE] = "calibrate",
        [LODE_STATISTICS_ACCUMULATE] = "accumulate",
        [LODE_STATISTICS_CALIBRATE | LODE_STATISTICS_ACCUMULATE] = "calibrate and accumulate",
        [LODE_STATISTICS_MOMENTS] = "moments",
        [LODE_STATISTICS_CALIBRATE | LODE_STATISTICS_MOMENTS] = "calibrate and moments",
        [LODE_STATISTICS_ACCUMULATE | LODE_STATISTICS_MOMENTS] = "accumulate and moments",
        [LODE_STATISTICS_CALIBRATE | LODE_STATISTICS_ACCUMULATE | LODE_STATISTICS_MOMENTS] =
            "calibrate, accumulate and moments"};
    return names[(observers->calibrate ? LODE_STATISTICS_CALIBRATE : 0) |
                 (observers->accumulate ? LODE_STATISTICS_ACCUMULATE : 0) |
                 (observers->moments ? LODE_STATISTICS_MOMENTS : 0)];
}

/* The pass over the stages' sequences. Collective. */
static lode_status_t run_pass(lode_run_t *run, const lode_batches_t *batches,
                              observers_t *observers) {
    const bool backward = observers->accumulate != NULL;
    const bool forward = observers->calibrate || observers->moments;
    const int64_t keep_logits = run->config->calibration.keep_logits;
    const bool logits = observers->calibrate && !observers->padded && keep_logits > 0;
    const lode_statistics_pass_t pass = {
        .stage = pass_name(observers),
        .batches = batches,
        .backward = backward,
        .head_batches = head_batches(batches, observers, keep_logits),
        .other = observers->moments ? lode_spool_memory(batches->max_tokens) : 0,
        .observer = {.context = observers,
                     .ffn_forward = forward ? on_ffn_forward : NULL,
                     .ffn_backward = backward ? on_ffn_backward : NULL,
                     .logits = logits ? on_logits : NULL,
                     .losses = backward || logits ? on_losses : NULL},
        .done = is_done,
        .context = observers};
    return lode_statistics_pass(run, &pass);
}

lode_status_t lode_statistics_check_padding(const lode_config_t *config, const char *model,
                                            int32_t eos) {
    if (config->calibration.padding != LODE_PADDING_EOS || eos >= 0)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: calibration.padding: \"eos\", but the config.json of model %s names no "
                     "eos_token_id; set it to \"none\"",
                     lode_config_where(config, "calibration.padding"), model);
}

/* Fills every sequence up with EOS to max_length. The arrays are those of *padded, for
 * lode_sequences_free. Local. */
static lode_status_t pad(lode_sequences_read_t *padded, const lode_run_t *run,
                         const lode_text_t *text) {
    const int64_t length = run->config->calibration.max_length;
    const int32_t eos = run->architecture.eos;
    LODE_TRY(lode_statistics_check_padding(run->config, run->model->name, eos));
    LODE_TRY(LODE_NEW(&padded->offsets, text->sequences + 1, "padded sequences"));
    LODE_TRY(LODE_NEW(&padded->ids, text->sequences * length, "padded sequences"));
    LODE_TRY(LODE_NEW(&padded->target, text->sequences * length, "padded sequences"));
    for (int64_t s = 0; s < text->sequences; s++) {
        const int64_t tokens = text->offsets[s + 1] - text->offsets[s];
        padded->offsets[s + 1] = (s + 1) * length;
        for (int64_t t = 0; t < length; t++) {
            padded->ids[s * length + t] = t < tokens ? text->ids[text->offsets[s] + t] : eos;
            padded->target[s * length + t] = -1;
        }
    }
    padded->text = (lode_text_t){.sequences = text->sequences,
                                 .offsets = padded->offsets,
                                 .ids = padded->ids,
                                 .target = padded->target};
    return LODE_OK;
}

/* The pass for calibration.padding. Collective. */
static lode_status_t run_padded(lode_run_t *run, const lode_text_t *text,
                                lode_calibrate_t *calibrate) {
    lode_sequences_read_t padded = {0};
    lode_batches_t batches = {0};
    observers_t observers = {.calibrate = calibrate, .padded = true};
    lode_status_t status = pad(&padded, run, text);
    if (status == LODE_OK)
        status = lode_batches_create(&batches, &padded.text, run->config->micro_batch);
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK)
        status = run_pass(run, &batches, &observers);
    lode_batches_destroy(&batches);
    lode_sequences_free(&padded);
    return status;
}

lode_status_t lode_statistics_run(lode_run_t *run, unsigned stages) {
    lode_sequences_read_t read;
    lode_batches_t batches = {0};
    observers_t observers = {0};
    LODE_TRY(lode_run_calibration(&read, run));
    lode_status_t status = lode_comm_agree(
        run->comm, lode_batches_create(&batches, &read.text, run->config->micro_batch));
    if (status == LODE_OK && stages & LODE_STATISTICS_CALIBRATE)
        status = lode_calibrate_begin(&observers.calibrate, run, &read.text);
    if (status == LODE_OK && stages & LODE_STATISTICS_ACCUMULATE)
        status = lode_accumulate_begin(&observers.accumulate, run, &read.text);
    if (status == LODE_OK && stages & LODE_STATISTICS_MOMENTS)
        status = lode_moments_begin(&observers.moments, run, &batches);
    if (status == LODE_OK)
        status = run_pass(run, &batches, &observers);
    if (status == LODE_OK && observers.calibrate &&
        run->config->calibration.padding == LODE_PADDING_EOS)
        status = run_padded(run, &read.text, observers.calibrate);
    if (observers.calibrate)
        status = lode_calibrate_end(&observers.calibrate, status);
    if (observers.accumulate)
        status = lode_accumulate_end(&observers.accumulate, status);
    if (observers.moments)
        status = lode_moments_end(&observers.moments, status);
    lode_batches_destroy(&batches);
    lode_sequences_free(&read);
    return status;
}
