/* The loss without a step. */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "training/trainer_state.h"

typedef struct evaluation {
    lode_trainer_text_t text;
    lode_batches_t batches;
    double *sums; /* [sequences, 2] Σ of a sequence's losses, and of their squares */
    int count;    /* of these */
} evaluation_t;

static lode_status_t sum_losses(void *context, int64_t variant, const lode_batch_t *batch,
                                const double *nll, const uint8_t *greedy) {
    evaluation_t *evaluation = context;
    (void)variant;
    (void)greedy;
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        double *sums = evaluation->sums + 2 * (batch->first_sequence + s);
        for (int64_t t = batch->sequences.offsets[s]; t < batch->sequences.offsets[s + 1]; t++) {
            sums[0] += nll[t];
            sums[1] += nll[t] * nll[t];
        }
    }
    return LODE_OK;
}

static lode_status_t prepare(evaluation_t *evaluation, const lode_trainer_t *trainer,
                             const int32_t *ids, int64_t sequences) {
    const lode_trainer_setting_t *setting = &trainer->setting;
    LODE_TRY(lode_narrow(&evaluation->count, 2 * sequences, "sequences to validate on"));
    LODE_TRY(lode_trainer_text_create(&evaluation->text, sequences, setting->length, false));
    lode_trainer_text_copy(&evaluation->text, 0, ids, sequences, setting->length);
    LODE_TRY(LODE_NEW(&evaluation->sums, 2 * sequences, "losses"));
    return lode_batches_create(&evaluation->batches, &evaluation->text.text,
                               min2(setting->micro_batch, trainer->batches.max_tokens));
}

static lode_status_t run_forward(evaluation_t *evaluation, lode_trainer_t *trainer) {
    return lode_pass_run(&(lode_pass_t){.stage = "train",
                                        .comm = trainer->comm,
                                        .layout = trainer->layout,
                                        .stack = trainer->stack,
                                        .batches = &evaluation->batches,
                                        .variants = 1,
                                        .quiet = true,
                                        .unstopped = true,
                                        .compact = true,
                                        .head_batches = evaluation->batches.count,
                                        .budget = trainer->activations,
                                        .blame = lode_trainer_blame,
                                        .room = &trainer->room,
                                        .observer = {.context = evaluation, .losses = sum_losses}});
}

lode_status_t lode_trainer_evaluate(lode_trainer_t *trainer, const int32_t *ids, int64_t sequences,
                                    double *loss, double *standard_error) {
    evaluation_t evaluation = {0};
    lode_status_t status =
        lode_comm_agree(trainer->comm, prepare(&evaluation, trainer, ids, sequences));
    if (status == LODE_OK)
        status = run_forward(&evaluation, trainer);
    if (status == LODE_OK) {
        const double targets = (double)(sequences * (trainer->setting.length - 1));
        double sum = 0, squares = 0;
        MPI_Allreduce(MPI_IN_PLACE, evaluation.sums, evaluation.count, MPI_DOUBLE, MPI_SUM,
                      trainer->comm->comm);
        for (int64_t s = 0; s < sequences; s++) {
            sum += evaluation.sums[2 * s];
            squares += evaluation.sums[2 * s + 1];
        }
        const double mean = sum / targets, variance = squares / targets - mean * mean;
        *loss = mean;
        *standard_error = targets > 1 ? sqrt(fmax(variance, 0) / (targets - 1)) : 0;
    }
    lode_batches_destroy(&evaluation.batches);
    lode_trainer_text_free(&evaluation.text);
    free(evaluation.sums);
    return status;
}
