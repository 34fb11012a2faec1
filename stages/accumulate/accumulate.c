#include "accumulate/accumulate.h"

#include <stdlib.h>

#include "base/memory.h"
#include "common/statistics.h"
#include "kernels/statistics.h"

/* Elements of q that are written at a time; any model's channels are fewer. */
enum { Q_ELEMENTS = 1 << 20 };

enum { LOSS_PROXY, POWER, TAYLOR, CURVATURE, STATISTICS };

struct lode_accumulate {
    lode_run_t *run;
    lode_store_t *store;
    const lode_text_t *text;
    lode_statistic_t statistic[STATISTICS];
    double *sums;           /* [STATISTICS, m] */
    int64_t kept_sequences; /* whose q is kept */
    int64_t *kept_offsets;  /* [kept_sequences + 1] tokens of /redundancy/q */
    int64_t q_rows;
    float *q; /* [q_rows, m] */
};

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static lode_status_t allocate(lode_accumulate_t *accumulate) {
    const lode_config_redundancy_t *redundancy = &accumulate->run->config->classify.redundancy;
    const lode_text_t *text = accumulate->text;
    const int64_t m = accumulate->run->architecture.intermediate;
    LODE_TRY(LODE_NEW(&accumulate->sums, STATISTICS * m, "statistics"));
    accumulate->kept_sequences = min2(redundancy->sequences, text->sequences);
    LODE_TRY(LODE_NEW(&accumulate->kept_offsets, accumulate->kept_sequences + 1, "offsets"));
    for (int64_t s = 0; s < accumulate->kept_sequences; s++) {
        const int64_t kept = min2(text->offsets[s + 1] - text->offsets[s], redundancy->max_length);
        accumulate->kept_offsets[s + 1] = accumulate->kept_offsets[s] + kept;
    }
    accumulate->q_rows = m < Q_ELEMENTS ? Q_ELEMENTS / m : 1;
    return LODE_NEW_RAW(&accumulate->q, accumulate->q_rows * m, "q");
}

static lode_status_t create_datasets(lode_accumulate_t *accumulate) {
    const lode_architecture_t *architecture = &accumulate->run->architecture;
    const lode_text_t *text = accumulate->text;
    lode_store_t *store = accumulate->store;
    const int64_t m = architecture->intermediate, tokens = text->offsets[text->sequences];
    const char *names[] = {"loss_proxy", "activation_power", "taylor", "curvature"};
    for (int i = 0; i < STATISTICS; i++) {
        accumulate->statistic[i] = (lode_statistic_t){names[i], m, LODE_REDUCE_SUM, (double)tokens};
        LODE_TRY(lode_statistic_create(store, accumulate->run, &accumulate->statistic[i],
                                       text->sequences));
    }
    const int64_t q_shape[] = {accumulate->kept_offsets[accumulate->kept_sequences],
                               architecture->layers, m};
    const int64_t offsets_shape[] = {accumulate->kept_sequences + 1};
    LODE_TRY(
        lode_store_dataset(store, "/sequences/loss", LODE_TYPE_F64, 1, &text->sequences, false));
    LODE_TRY(lode_store_dataset(store, "/redundancy/q", LODE_TYPE_F32, 3, q_shape, false));
    LODE_TRY(
        lode_store_dataset(store, "/redundancy/offsets", LODE_TYPE_I64, 1, offsets_shape, false));
    LODE_TRY(lode_store_attribute_i64(store, "/", "tokens", tokens));
    return lode_store_attribute_i64(store, "/", "sequences", text->sequences);
}

/* Local. */
static void release(lode_accumulate_t **accumulate) {
    if (!*accumulate)
        return;
    free((*accumulate)->sums);
    free((*accumulate)->kept_offsets);
    free((*accumulate)->q);
    free(*accumulate);
    *accumulate = NULL;
}

lode_status_t lode_accumulate_begin(lode_accumulate_t **out, lode_run_t *run,
                                    const lode_text_t *text) {
    lode_status_t status = LODE_NEW(out, 1, "accumulate");
    if (status == LODE_OK) {
        **out = (lode_accumulate_t){.run = run, .text = text};
        status = allocate(*out);
    }
    status = lode_comm_agree(run->comm, status);
    if (status != LODE_OK) {
        release(out);
        return status;
    }
    status = lode_run_create_resumable(&(*out)->store, run, LODE_STAGE_ACCUMULATE);
    if (status == LODE_OK)
        status = create_datasets(*out);
    if (status == LODE_OK)
        status = lode_store_resume(
            (*out)->store, &(lode_part_t){"sequences", lode_statistic_units(run, text->sequences)},
            1);
    if (status != LODE_OK)
        status = lode_accumulate_end(out, status);
    return status;
}

/* Keeps q of the sequence's first tokens, for redundancy. */
static lode_status_t keep_q(lode_accumulate_t *accumulate, int64_t sequence, int64_t layer,
                            const lode_real_t *u, const lode_real_t *g) {
    const int64_t m = accumulate->run->architecture.intermediate;
    const int64_t first = accumulate->kept_offsets[sequence];
    const int64_t tokens = accumulate->kept_offsets[sequence + 1] - first;
    for (int64_t t = 0; t < tokens; t += accumulate->q_rows) {
        const int64_t rows = min2(accumulate->q_rows, tokens - t);
        const int64_t offset[] = {first + t, layer, 0}, count[] = {rows, 1, m};
        for (int64_t i = 0; i < rows * m; i++)
            accumulate->q[i] = (float)(u[t * m + i] * g[t * m + i]);
        LODE_TRY(
            lode_store_write(accumulate->store, "/redundancy/q", offset, count, accumulate->q));
    }
    return LODE_OK;
}

lode_status_t lode_accumulate_ffn(lode_accumulate_t *accumulate, const lode_batch_t *batch,
                                  int64_t layer, const lode_real_t *u, const lode_real_t *g) {
    const int64_t m = accumulate->run->architecture.intermediate;
    double *sums = accumulate->sums;
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        const int64_t first = batch->sequences.offsets[s];
        const int64_t tokens = batch->sequences.offsets[s + 1] - first;
        const int64_t sequence = batch->first_sequence + s;
        lode_statistics_backward(tokens, m, u + first * m, g + first * m, sums + LOSS_PROXY * m,
                                 sums + POWER * m, sums + TAYLOR * m, sums + CURVATURE * m);
        for (int i = 0; i < STATISTICS; i++)
            LODE_TRY(lode_statistic_write(accumulate->store, &accumulate->statistic[i], sequence,
                                          layer, sums + i * m));
        if (sequence < accumulate->kept_sequences)
            LODE_TRY(keep_q(accumulate, sequence, layer, u + first * m, g + first * m));
    }
    return lode_statistic_mark(accumulate->store, 0, accumulate->text->sequences, batch, layer);
}

lode_status_t lode_accumulate_losses(lode_accumulate_t *accumulate, const lode_batch_t *batch,
                                     const double *nll) {
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        const int64_t first = batch->sequences.offsets[s], end = batch->sequences.offsets[s + 1];
        double sum = 0;
        for (int64_t t = first; t < end; t++)
            sum += nll[t];
        const double mean = sum / (double)(end - first - 1);
        const int64_t offset = batch->first_sequence + s, count = 1;
        LODE_TRY(lode_store_write(accumulate->store, "/sequences/loss", &offset, &count, &mean));
    }
    return lode_statistic_mark(accumulate->store, 0, accumulate->text->sequences, batch,
                               accumulate->run->architecture.layers);
}

bool lode_accumulate_done(const lode_accumulate_t *accumulate, const lode_batch_t *batch) {
    return lode_statistic_done(accumulate->store, 0, accumulate->text->sequences, batch,
                               accumulate->run->architecture.layers + 1);
}

/* The rank-local part of the end: reductions, and what one rank writes for all. */
static lode_status_t sum_up(lode_accumulate_t *accumulate) {
    for (int i = 0; i < STATISTICS; i++)
        LODE_TRY(lode_statistic_reduce(accumulate->store, accumulate->run,
                                       &accumulate->statistic[i], accumulate->text->sequences));
    if (accumulate->run->comm->rank != 0)
        return LODE_OK;
    const int64_t offset = 0, count = accumulate->kept_sequences + 1;
    return lode_store_write(accumulate->store, "/redundancy/offsets", &offset, &count,
                            accumulate->kept_offsets);
}

lode_status_t lode_accumulate_end(lode_accumulate_t **out, lode_status_t status) {
    lode_accumulate_t *accumulate = *out;
    if (status == LODE_OK)
        status = lode_store_synchronise(accumulate->store);
    if (status == LODE_OK)
        status = sum_up(accumulate);
    status = lode_run_finish(&accumulate->store, accumulate->run, LODE_STAGE_ACCUMULATE, status);
    release(out);
    return status;
}

lode_status_t lode_stage_accumulate(lode_run_t *run) {
    return lode_statistics_run(run, LODE_STATISTICS_ACCUMULATE);
}
