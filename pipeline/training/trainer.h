/* training/trainer: steps of training a model that is split over ranks.
 *
 * A step takes `batch` sequences of `length` tokens, of which each token but the last predicts the
 * next. Its loss is the mean cross-entropy over all these targets, in nats, plus λ times the mean
 * over the channels of the chosen layers of the entropy H_j of their outgoing weights
 * (score/entropy). The sequences form micro-batches of at most `micro_batch` tokens, at least one
 * sequence each, and the micro-batches `groups` equal groups (training/reduce). The gradients' norm
 * is clipped, and AdamW updates the weights (training/optimizer).
 *
 * Weights, moments, losses and norms have the same bits for any number of ranks, replicas and
 * interruptions, as long as length, batch, micro_batch, groups and threads are the same: a step
 * depends on nothing but its number, its sequences, the weights and the moments before it. Each
 * replica of a stage holds the moments of a shard of the rank's flat parameters alone.
 *
 * Ranks that idle take part in every call, with parameters of no elements.
 */
#ifndef LODE_TRAINING_TRAINER_H
#define LODE_TRAINING_TRAINER_H

#include "base/entropy_form.h"
#include "comm/context.h"
#include "training/parameters.h"
#include "training/schedule.h"

typedef struct lode_trainer_setting {
    int64_t length, batch; /* tokens of a sequence, at least 2; sequences of a step */
    int64_t micro_batch;   /* tokens */
    int64_t groups;        /* a power of two that divides the micro-batches of a step */
    lode_rate_t rate;      /* with the number of steps */
    double beta_1, beta_2, epsilon;
    double clip;                             /* of the gradients' norm, 0: none */
    double decay[LODE_PARAMETER_VECTOR + 1]; /* of weights, by kind */
    double entropy_weight;                   /* λ, 0: none */
    lode_entropy_form_t entropy_form;
    lode_entropy_schedule_t entropy_schedule;
    const int64_t *entropy_layers; /* [entropy_layer_count] ascending; copied by create */
    int64_t entropy_layer_count;   /* 0: all layers */
    int threads;
    int64_t memory;      /* private bytes of this rank: weights, gradients, moments, activations */
    const char *scratch; /* folder for a file of activations, NULL: none is made; borrowed */
} lode_trainer_setting_t;

/* Micro-batches of a step. Local. */
int64_t lode_trainer_micro_batches(const lode_trainer_setting_t *setting);

/* Lays ranks out for training: lode_layout_create() with a power of two of at most
 * setting->groups replicas: `replicas` of them where that is not 0, else the most with which every
 * rank can do with setting->memory, since replicas wait for each other once a step, and the stages
 * of a pipeline for every micro-batch. Where memory suffices for no number, the fewest that leave
 * no rank without a part of the model. Errors: LODE_ERR_CONFIG where `replicas` is no power of two,
 * above the groups or above the ranks; LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_trainer_layout(lode_layout_t *layout,
                                                const lode_architecture_t *architecture,
                                                const lode_trainer_setting_t *setting, int size,
                                                int rank, int64_t replicas);

/* Private bytes of a rank beside the activations: parameters, gradients, moments, stack, buffers.
 * Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_trainer_memory(const lode_architecture_t *architecture,
                                                const lode_layout_t *layout,
                                                const lode_trainer_setting_t *setting,
                                                int64_t *bytes);

typedef struct lode_trainer lode_trainer_t;

/* A trainer of these parameters, moments 0. comm, layout and parameters stay the caller's and must
 * outlive it; layout is lode_trainer_layout's. *trainer is for lode_trainer_destroy, NULL on
 * failure. Errors, the same on all ranks: LODE_ERR_CONFIG where the groups do not divide the
 * micro-batches or the layers do not exist, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_trainer_create(lode_trainer_t **trainer, const lode_comm_t *comm,
                                                const lode_layout_t *layout,
                                                lode_parameters_t *parameters,
                                                const lode_trainer_setting_t *setting);

/* NULL is fine. Collective. */
void lode_trainer_destroy(lode_trainer_t **trainer);

/* This rank's part of the moments, to be saved, or filled in before the first step of a training
 * that goes on: elements [begin, end) of the flat arrays of its parameters. The head's copy of a
 * tied embedding, which is not counted, has moments too, with the same values as the embedding's.
 * Where several replicas have a tensor, each element is of one of them. */
typedef struct lode_trainer_moments {
    int64_t begin, end;    /* equal where there are none */
    float *first, *second; /* [end − begin] */
} lode_trainer_moments_t;

/* Local. */
lode_trainer_moments_t lode_trainer_moments(lode_trainer_t *trainer);

/* What a step did, the same on all ranks. */
typedef struct lode_trainer_result {
    double loss;          /* cross-entropy before the update, nats a target */
    double gradient_norm; /* of the whole loss, before clipping */
    double learning_rate;
    double entropy_weight; /* λ of the step */
    double entropy;        /* mean H_j of the chosen layers before the update; NaN where the
                            * setting's weight is 0 */
} lode_trainer_result_t;

/* Step `step`, from 1 on, of ids [batch · length], the same on all ranks. A step is a unit: it does
 * not stop on request. Errors, the same on all ranks, after which the weights are as they were
 * unless it is the last: LODE_ERR_MEMORY, LODE_ERR_IO, LODE_ERR_FORMAT (an id outside the
 * vocabulary), LODE_ERR_NUMERIC where activations, loss or gradient stop being finite,
 * LODE_ERR_COMM. Collective. */
LODE_MUST_USE lode_status_t lode_trainer_step(lode_trainer_t *trainer, int64_t step,
                                              const int32_t *ids, lode_trainer_result_t *result);

/* The mean loss of ids [sequences · setting.length], nats a target, and the standard error of that
 * mean, from the targets' own losses as if these were independent (those of one text are not, so it
 * is rather larger); the same on all ranks. sequences ≥ 1. Does not stop on
 * request. Errors: as a step's. Collective. */
LODE_MUST_USE lode_status_t lode_trainer_evaluate(lode_trainer_t *trainer, const int32_t *ids,
                                                  int64_t sequences, double *loss,
                                                  double *standard_error);

/* mean [L] out, the same on all ranks: mean H_j, in the setting's form, of every layer of the model
 * as it is now. Collective. */
LODE_MUST_USE lode_status_t lode_trainer_entropy(lode_trainer_t *trainer, double *mean);

#endif
