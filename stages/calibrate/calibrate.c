#include "calibrate/calibrate.h"

#include <stdlib.h>

#include "base/memory.h"
#include "common/statistics.h"
#include "kernels/statistics.h"

enum { SEQUENCES, PADDED_SEQUENCES, PARTS }; /* of the journal */

enum { MEAN, POWER, MAX, INPUT, PADDED_U, PADDED_INPUT, STATISTICS };

struct lode_calibrate {
    lode_run_t *run;
    lode_store_t *store;
    const lode_text_t *text;
    lode_statistic_t statistic[STATISTICS];
    int statistics;             /* the first so many are taken */
    int64_t logit_tokens;       /* of the sequences whose logits are kept */
    double *sum, *power, *most; /* [wider of m and d] each, one allocation at sum */
};

static lode_status_t create_datasets(lode_calibrate_t *calibrate) {
    const lode_architecture_t *architecture = &calibrate->run->architecture;
    const lode_text_t *text = calibrate->text;
    const int64_t keep = calibrate->run->config->calibration.keep_logits;
    const int64_t tokens = text->offsets[text->sequences];
    calibrate->statistic[MEAN] = (lode_statistic_t){"activation_mean", architecture->intermediate,
                                                    LODE_REDUCE_SUM, (double)tokens};
    calibrate->statistic[POWER] = (lode_statistic_t){"activation_power", architecture->intermediate,
                                                     LODE_REDUCE_SUM, (double)tokens};
    calibrate->statistic[MAX] =
        (lode_statistic_t){"activation_max", architecture->intermediate, LODE_REDUCE_MAX, 1};
    calibrate->statistic[INPUT] =
        (lode_statistic_t){"input_power", architecture->hidden, LODE_REDUCE_SUM, 1};
    calibrate->statistic[PADDED_U] =
        (lode_statistic_t){"padded/u_power", architecture->intermediate, LODE_REDUCE_SUM, 1};
    calibrate->statistic[PADDED_INPUT] =
        (lode_statistic_t){"padded/input_power", architecture->hidden, LODE_REDUCE_SUM, 1};
    const bool padded = calibrate->run->config->calibration.padding == LODE_PADDING_EOS;
    calibrate->statistics = padded ? STATISTICS : PADDED_U;
    for (int i = 0; i < calibrate->statistics; i++)
        LODE_TRY(lode_statistic_create(calibrate->store, calibrate->run, &calibrate->statistic[i],
                                       text->sequences));
    calibrate->logit_tokens = text->offsets[keep < text->sequences ? keep : text->sequences];
    if (calibrate->logit_tokens > 0) {
        const int64_t shape[] = {calibrate->logit_tokens, architecture->vocab};
        LODE_TRY(lode_store_dataset(calibrate->store, "/logits", LODE_TYPE_F32, 2, shape, false));
    }
    LODE_TRY(lode_store_attribute_i64(calibrate->store, "/", "tokens", tokens));
    return lode_store_attribute_i64(calibrate->store, "/", "sequences", text->sequences);
}

static lode_status_t resume(const lode_calibrate_t *calibrate) {
    const int64_t units = lode_statistic_units(calibrate->run, calibrate->text->sequences);
    const bool padded = calibrate->statistics > PADDED_U;
    const lode_part_t parts[PARTS] = {
        [SEQUENCES] = {"sequences", units},
        [PADDED_SEQUENCES] = {"padded-sequences", padded ? units : 0},
    };
    return lode_store_resume(calibrate->store, parts, PARTS);
}

/* Local. */
static void release(lode_calibrate_t **calibrate) {
    if (!*calibrate)
        return;
    free((*calibrate)->sum);
    free(*calibrate);
    *calibrate = NULL;
}

lode_status_t lode_calibrate_begin(lode_calibrate_t **out, lode_run_t *run,
                                   const lode_text_t *text) {
    const lode_architecture_t *architecture = &run->architecture;
    const int64_t width = architecture->intermediate > architecture->hidden
                              ? architecture->intermediate
                              : architecture->hidden;
    lode_status_t status = LODE_NEW(out, 1, "calibrate");
    if (status == LODE_OK) {
        **out = (lode_calibrate_t){.run = run, .text = text};
        status = LODE_NEW(&(*out)->sum, 3 * width, "statistics");
        (*out)->power = (*out)->sum + width;
        (*out)->most = (*out)->power + width;
    }
    status = lode_comm_agree(run->comm, status);
    if (status != LODE_OK) {
        release(out);
        return status;
    }
    status = lode_run_create_resumable(&(*out)->store, run, LODE_STAGE_CALIBRATE);
    if (status == LODE_OK)
        status = create_datasets(*out);
    if (status == LODE_OK)
        status = resume(*out);
    if (status != LODE_OK)
        status = lode_calibrate_end(out, status);
    return status;
}

lode_status_t lode_calibrate_ffn(lode_calibrate_t *calibrate, const lode_batch_t *batch,
                                 int64_t layer, const lode_real_t *h, const lode_real_t *u) {
    const int64_t m = calibrate->run->architecture.intermediate;
    const int64_t d = calibrate->run->architecture.hidden;
    lode_store_t *store = calibrate->store;
    const lode_statistic_t *statistic = calibrate->statistic;
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        const int64_t first = batch->sequences.offsets[s];
        const int64_t tokens = batch->sequences.offsets[s + 1] - first;
        const int64_t sequence = batch->first_sequence + s;
        lode_statistics_forward(tokens, m, u + first * m, calibrate->sum, calibrate->power,
                                calibrate->most);
        LODE_TRY(lode_statistic_write(store, &statistic[MEAN], sequence, layer, calibrate->sum));
        LODE_TRY(lode_statistic_write(store, &statistic[POWER], sequence, layer, calibrate->power));
        LODE_TRY(lode_statistic_write(store, &statistic[MAX], sequence, layer, calibrate->most));
        lode_statistics_forward(tokens, d, h + first * d, NULL, calibrate->power, NULL);
        LODE_TRY(lode_statistic_write(store, &statistic[INPUT], sequence, layer, calibrate->power));
    }
    return lode_statistic_mark(store, SEQUENCES, calibrate->text->sequences, batch, layer);
}

lode_status_t lode_calibrate_padded(lode_calibrate_t *calibrate, const lode_batch_t *batch,
                                    int64_t layer, const lode_real_t *h, const lode_real_t *u) {
    const lode_statistic_t *statistic = calibrate->statistic;
    const int64_t m = calibrate->run->architecture.intermediate;
    const int64_t d = calibrate->run->architecture.hidden;
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        const int64_t first = batch->sequences.offsets[s];
        const int64_t tokens = batch->sequences.offsets[s + 1] - first;
        const int64_t sequence = batch->first_sequence + s;
        lode_statistics_forward(tokens, m, u + first * m, NULL, calibrate->power, NULL);
        LODE_TRY(lode_statistic_write(calibrate->store, &statistic[PADDED_U], sequence, layer,
                                      calibrate->power));
        lode_statistics_forward(tokens, d, h + first * d, NULL, calibrate->power, NULL);
        LODE_TRY(lode_statistic_write(calibrate->store, &statistic[PADDED_INPUT], sequence, layer,
                                      calibrate->power));
    }
    return lode_statistic_mark(calibrate->store, PADDED_SEQUENCES, calibrate->text->sequences,
                               batch, layer);
}

lode_status_t lode_calibrate_head(lode_calibrate_t *calibrate, const lode_batch_t *batch) {
    return lode_statistic_mark(calibrate->store, SEQUENCES, calibrate->text->sequences, batch,
                               calibrate->run->architecture.layers);
}

bool lode_calibrate_done(const lode_calibrate_t *calibrate, const lode_batch_t *batch) {
    const bool logits = batch->first_token < calibrate->logit_tokens;
    return lode_statistic_done(calibrate->store, SEQUENCES, calibrate->text->sequences, batch,
                               calibrate->run->architecture.layers + logits);
}

bool lode_calibrate_padded_done(const lode_calibrate_t *calibrate, const lode_batch_t *batch) {
    return lode_statistic_done(calibrate->store, PADDED_SEQUENCES, calibrate->text->sequences,
                               batch, calibrate->run->architecture.layers);
}

lode_status_t lode_calibrate_logits(lode_calibrate_t *calibrate, int64_t first_token, int64_t rows,
                                    const lode_real_t *logits) {
    const int64_t left = calibrate->logit_tokens - first_token;
    if (left <= 0)
        return LODE_OK;
    const int64_t offset[] = {first_token, 0};
    const int64_t count[] = {rows < left ? rows : left, calibrate->run->architecture.vocab};
    return lode_store_write(calibrate->store, "/logits", offset, count, logits);
}

lode_status_t lode_calibrate_end(lode_calibrate_t **out, lode_status_t status) {
    lode_calibrate_t *calibrate = *out;
    if (status == LODE_OK)
        status = lode_store_synchronise(calibrate->store);
    lode_status_t local = status;
    for (int i = 0; i < calibrate->statistics && local == LODE_OK; i++)
        local = lode_statistic_reduce(calibrate->store, calibrate->run, &calibrate->statistic[i],
                                      calibrate->text->sequences);
    status = lode_run_finish(&calibrate->store, calibrate->run, LODE_STAGE_CALIBRATE, local);
    release(out);
    return status;
}

lode_status_t lode_calibrate_size(lode_stage_size_t *size, lode_run_t *run,
                                  const lode_text_t *text) {
    const lode_architecture_t *architecture = &run->architecture;
    const int64_t m = architecture->intermediate, d = architecture->hidden;
    lode_calibrate_t calibrate = {.run = run, .text = text};
    *size = (lode_stage_size_t){.memory = 3 * (m > d ? m : d) * (int64_t)sizeof(double)};
    LODE_TRY(lode_store_tally_create(&calibrate.store));
    const lode_status_t status = create_datasets(&calibrate);
    size->file = lode_store_tally_end(&calibrate.store);
    return status;
}

lode_status_t lode_stage_calibrate(lode_run_t *run) {
    return lode_statistics_run(run, LODE_STATISTICS_CALIBRATE);
}
