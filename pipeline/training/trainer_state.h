/* training/trainer_state: what a trainer is, for the files of training/trainer alone. Local where
 * nothing else is said.
 */
#ifndef LODE_TRAINING_TRAINER_STATE_H
#define LODE_TRAINING_TRAINER_STATE_H

#include "training/reduce.h"
#include "training/trainer.h"
#include "transformer/pass.h"

/* The part of a tied embedding whose gradient a rank owns, at either end or both. */
typedef struct lode_tied_share {
    int64_t begin, end; /* elements of the tensor */
    int64_t embedding, head;
} lode_tied_share_t;

/* Sequences of one length, and the arrays of their text. */
typedef struct lode_trainer_text {
    lode_text_t text;
    int64_t *offsets;
    int32_t *ids, *target;
    double *weight; /* NULL: the text has none */
} lode_trainer_text_t;

/* What is said of numbers that stop being finite in a pass. */
extern const char lode_trainer_blame[];

struct lode_trainer {
    const lode_comm_t *comm;
    const lode_layout_t *layout;
    lode_parameters_t *parameters;
    lode_trainer_setting_t setting;
    uint8_t *chosen;      /* [L] layers whose entropy is in the loss */
    int64_t chosen_count; /* of them */
    MPI_Comm stage_comm;  /* of the replicas of this stage; MPI_COMM_NULL where the rank idles */
    lode_comm_t stage;    /* the same */
    lode_blocks_t blocks;
    lode_group_sum_t sum;
    lode_stack_gradient_t *views;   /* [sum.buffers] */
    lode_stack_t *stack;            /* NULL where the rank idles */
    float *first, *second;          /* moments of the shard */
    float *buffer;                  /* of lode_reduce_buffer */
    lode_tied_share_t *tied;        /* [size], NULL where nothing is tied */
    int64_t *tied_begin;            /* [replicas + 1] of the replicas of this stage */
    int64_t micro_batches, targets; /* of a step */
    lode_trainer_text_t text;       /* of a step, in the order in which replicas take it */
    lode_batches_t batches;         /* of it */
    int64_t activations;            /* private bytes that are left for them */
    lode_pass_room_t room;          /* where they are */
    int64_t begun; /* micro-batches whose gradients this rank has begun to add up */
    /* One array, of which each rank fills in its own, and which is then added up: */
    double *totals; /* [total_count] of doubles */
    int64_t total_count;
    double *losses;  /* [micro_batches] Σ of targets' losses, in the canonical order */
    double *entropy; /* [L] mean of a layer's channels */
    double *squares; /* [blocks.total] of the gradient */
    /* Of one layer: */
    float *pull;       /* [d · m] gradient of the entropy, NULL where it is not in the loss */
    double *h;         /* [m] */
    double *workspace; /* [2 · m] of score/entropy */
};

static inline int64_t max2(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static inline int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Sequences of a micro-batch, but for a last one of fewer. */
int64_t lode_trainer_rows(const lode_trainer_setting_t *setting);

/* Bytes of everything but weights, stack and activations.
 *   gradients, shard, buffer  elements: of a buffer of gradients, of the rank's own moments, of the
 *                             exchange
 *   buffers                   of gradients */
int64_t lode_trainer_own_bytes(const lode_architecture_t *architecture,
                               const lode_trainer_setting_t *setting, int64_t gradients,
                               int64_t shard, int64_t buffers, int64_t buffer);

/* Makes a text of `sequences` sequences of `length` tokens, whose ids are to be filled in; where
 * `weighted`, every target weighs the same in the loss and all of them 1. *out is for
 * lode_trainer_text_free, on failure too. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_trainer_text_create(lode_trainer_text_t *out, int64_t sequences,
                                                     int64_t length, bool weighted);

/* All zero is fine. */
void lode_trainer_text_free(lode_trainer_text_t *text);

/* Fills in the sequences that begin at `first_token`: ids from [sequences · length], each token's
 * target being the next, the last one's none. */
void lode_trainer_text_copy(lode_trainer_text_t *text, int64_t first_token, const int32_t *from,
                            int64_t sequences, int64_t length);

/* Puts mean entropies of layers whose first weight is in the own shard into trainer->entropy, of
 * all layers or of the chosen ones; with a gradient also adds `scale` times that of their channels'
 * entropies, within the own shard. A replica that has a part of a matrix has all of its weights. */
LODE_MUST_USE lode_status_t lode_trainer_entropies(lode_trainer_t *trainer, bool all, double scale,
                                                   float *gradient);

#endif
