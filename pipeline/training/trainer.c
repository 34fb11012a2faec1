#include "training/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "score/entropy.h"
#include "training/optimizer.h"
#include "training/reduce.h"
#include "training/views.h"
#include "transformer/pass.h"

enum { TAG_TIED = 121 };

/* The part of a tied embedding whose gradient a rank owns, at either end or both. */
typedef struct tied_share {
    int64_t begin, end; /* elements of the tensor */
    int64_t embedding, head;
} tied_share_t;
enum { TIED_WORDS = sizeof(tied_share_t) / sizeof(int64_t) };

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
    tied_share_t *tied;             /* [size], NULL where nothing is tied */
    int64_t *tied_begin;            /* [replicas + 1] of the replicas of this stage */
    int64_t micro_batches, targets; /* of a step */
    lode_text_t text;               /* of a step, in the order in which replicas take it */
    int64_t *offsets;
    int32_t *ids, *target;
    double *weight;
    lode_batches_t batches;
    int64_t begun; /* micro-batches whose gradients this rank has begun to add up */
    /* One array, of which each rank fills in its own, and which is then added up: */
    double *totals; /* [total_count] of doubles */
    int64_t total_count;
    double *losses;  /* [micro_batches] Σ of targets' losses, in the canonical order */
    double *entropy; /* [L] mean of a layer's channels */
    double *squares; /* [blocks.total] of the gradient */
    /* Of one layer: */
    float *pull;           /* [d · m] gradient of the entropy, NULL where it is not in the loss */
    double *h;             /* [m] */
    double *scale;         /* [2 · m] work space */
    int64_t activations;   /* private bytes that are left for them */
    lode_pass_room_t room; /* where they are */
};

/* --- sizes ------------------------------------------------------------------------------------ */

static int64_t max2(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Sequences of a micro-batch. */
static int64_t rows_of(const lode_trainer_setting_t *setting) {
    return max2(setting->micro_batch / setting->length, 1);
}

int64_t lode_trainer_micro_batches(const lode_trainer_setting_t *setting) {
    const int64_t rows = rows_of(setting);
    return (setting->batch + rows - 1) / rows;
}

static int64_t power_of_two_below(int64_t limit) {
    int64_t power = 1;
    while (2 * power <= limit)
        power *= 2;
    return power;
}

lode_status_t lode_trainer_layout(lode_layout_t *layout, const lode_architecture_t *architecture,
                                  int64_t length, int size, int rank, int64_t replicas,
                                  int64_t groups) {
    const int64_t parts = architecture->layers + 1;
    if (replicas > 0 && ((replicas & (replicas - 1)) != 0 || replicas > groups))
        return lode_fail(LODE_ERR_CONFIG,
                         "replicas = %lld: training takes a power of two, at most train.groups = "
                         "%lld, so that its numbers do not depend on the ranks; lower it, raise "
                         "train.groups, or leave it out to have it chosen",
                         (long long)replicas, (long long)groups);
    if (replicas == 0) {
        replicas = 1;
        while (replicas * parts < size)
            replicas *= 2;
        replicas = min2(replicas, min2(power_of_two_below(size), groups));
    }
    return lode_layout_create(layout, architecture, length, size, rank, replicas);
}

/* Bytes of everything but weights, stack and activations. */
static int64_t own_bytes(const lode_architecture_t *architecture,
                         const lode_trainer_setting_t *setting, int64_t gradients, int64_t shard,
                         int64_t buffers, int64_t buffer) {
    const int64_t d = architecture->hidden, m = architecture->intermediate;
    const int64_t tokens = setting->batch * setting->length;
    const bool pull = setting->entropy_weight > 0 && gradients > 0;
    return (int64_t)sizeof(float) *
               (buffers * gradients + 2 * shard + buffer + (pull ? d * m : 0)) +
           (int64_t)sizeof(double) * (tokens + 3 * m) + 2 * (int64_t)sizeof(int32_t) * tokens;
}

lode_status_t lode_trainer_memory(const lode_architecture_t *architecture,
                                  const lode_layout_t *layout,
                                  const lode_trainer_setting_t *setting, int64_t *bytes) {
    const int64_t replicas = layout->replicas, rows = min2(rows_of(setting), setting->batch);
    int64_t elements, gradients;
    LODE_TRY(lode_parameters_size(architecture, layout, &elements, &gradients));
    const int64_t shard = min2(
        (elements + replicas - 1) / replicas + (replicas > 1 ? LODE_BLOCK_ELEMENTS : 0), elements);
    *bytes = (int64_t)sizeof(float) * elements +
             own_bytes(architecture, setting, gradients, shard,
                       lode_group_sum_buffers(setting->groups / replicas),
                       elements > 0 ? lode_reduce_buffer((int)replicas) : 0) +
             lode_stack_memory(architecture, layout, LODE_DTYPE_F32, rows * setting->length,
                               setting->length, setting->threads);
    return LODE_OK;
}

/* --- creating --------------------------------------------------------------------------------- */

static lode_status_t check(const lode_trainer_t *trainer) {
    const lode_trainer_setting_t *setting = &trainer->setting;
    const int64_t groups = setting->groups, layers = trainer->layout->layers;
    if (groups < 1 || (groups & (groups - 1)) != 0 || trainer->micro_batches % groups != 0)
        return lode_fail(LODE_ERR_CONFIG,
                         "train.groups = %lld must be a power of two that divides the %lld "
                         "micro-batches of a step; lower it, or change train.batch or micro_batch",
                         (long long)groups, (long long)trainer->micro_batches);
    for (int64_t i = 0; i < setting->entropy_layer_count; i++)
        if (setting->entropy_layers[i] < 0 || setting->entropy_layers[i] >= layers)
            return lode_fail(LODE_ERR_CONFIG,
                             "train.entropy.layers has %lld, and the model has layers 0 to %lld",
                             (long long)setting->entropy_layers[i], (long long)(layers - 1));
    LODE_ASSERT(setting->length >= 2 && setting->batch >= 1);
    LODE_ASSERT(groups % trainer->layout->replicas == 0);
    return LODE_OK;
}

static lode_status_t choose_layers(lode_trainer_t *trainer) {
    const lode_trainer_setting_t *setting = &trainer->setting;
    const int64_t layers = trainer->layout->layers;
    LODE_TRY(LODE_NEW(&trainer->chosen, layers, "layers"));
    for (int64_t l = 0; l < layers && setting->entropy_layer_count == 0; l++)
        trainer->chosen[l] = 1;
    for (int64_t i = 0; i < setting->entropy_layer_count; i++)
        trainer->chosen[setting->entropy_layers[i]] = 1;
    for (int64_t l = 0; l < layers; l++)
        trainer->chosen_count += trainer->chosen[l];
    trainer->setting.entropy_layers = NULL;
    return LODE_OK;
}

/* The canonical number of the micro-batch at a place of a step's list: replica r takes those at
 * r, r + R, r + 2R …, which are its consecutive ones. */
static int64_t canonical_of(const lode_trainer_t *trainer, int64_t place) {
    const int64_t replicas = trainer->layout->replicas;
    return place % replicas * (trainer->micro_batches / replicas) + place / replicas;
}

/* A text of `sequences` sequences; its offsets, targets and weights. */
static lode_status_t make_text(lode_text_t *text, int64_t sequences, int64_t length,
                               int64_t **offsets, int32_t **ids, int32_t **target,
                               double **weight) {
    LODE_TRY(LODE_NEW(offsets, sequences + 1, "text"));
    LODE_TRY(LODE_NEW(ids, sequences * length, "text"));
    LODE_TRY(LODE_NEW(target, sequences * length, "text"));
    if (weight)
        LODE_TRY(LODE_NEW(weight, sequences * length, "text"));
    for (int64_t s = 0; s <= sequences; s++)
        (*offsets)[s] = s * length;
    for (int64_t t = 0; weight && t < sequences * length; t++)
        (*weight)[t] = (t + 1) % length == 0 ? 0 : 1 / (double)(sequences * (length - 1));
    *text = (lode_text_t){.sequences = sequences,
                          .offsets = *offsets,
                          .ids = *ids,
                          .target = *target,
                          .weight = weight ? *weight : NULL};
    return LODE_OK;
}

/* Copies sequences, each token's target being the next. */
static void copy_sequences(int32_t *ids, int32_t *target, const int32_t *from, int64_t sequences,
                           int64_t length) {
    memcpy(ids, from, (size_t)(sequences * length) * sizeof *ids);
    for (int64_t s = 0; s < sequences; s++) {
        memcpy(target + s * length, from + s * length + 1, (size_t)(length - 1) * sizeof *target);
        target[(s + 1) * length - 1] = -1;
    }
}

static lode_status_t make_views(lode_trainer_t *trainer) {
    LODE_TRY(lode_group_sum_create(&trainer->sum,
                                   trainer->setting.groups / trainer->layout->replicas,
                                   trainer->parameters->gradients));
    LODE_TRY(LODE_NEW(&trainer->views, trainer->sum.buffers, "gradients"));
    for (int i = 0; i < trainer->sum.buffers; i++)
        LODE_TRY(lode_gradient_view_create(&trainer->views[i], trainer->parameters,
                                           trainer->sum.buffer[i]));
    return LODE_OK;
}

static int64_t shard_elements(const lode_trainer_t *trainer) {
    const lode_trainer_moments_t moments =
        lode_trainer_moments((lode_trainer_t *)(uintptr_t)trainer);
    return moments.end - moments.begin;
}

static lode_status_t make_totals(lode_trainer_t *trainer) {
    const int64_t layers = trainer->layout->layers;
    trainer->total_count = trainer->micro_batches + layers + trainer->blocks.total;
    LODE_TRY(LODE_NEW(&trainer->totals, trainer->total_count, "sums"));
    trainer->losses = trainer->totals;
    trainer->entropy = trainer->losses + trainer->micro_batches;
    trainer->squares = trainer->entropy + layers;
    return LODE_OK;
}

/* What a rank that computes needs beside. */
static lode_status_t make_compute(lode_trainer_t *trainer) {
    const lode_trainer_setting_t *setting = &trainer->setting;
    const lode_parameters_t *parameters = trainer->parameters;
    const lode_architecture_t *architecture = parameters->architecture;
    const int64_t m = architecture->intermediate, shard = shard_elements(trainer);
    const int64_t buffer = lode_reduce_buffer(trainer->layout->replicas);
    LODE_TRY(make_views(trainer));
    LODE_TRY(LODE_NEW(&trainer->first, shard, "moments"));
    LODE_TRY(LODE_NEW(&trainer->second, shard, "moments"));
    LODE_TRY(LODE_NEW_RAW(&trainer->buffer, buffer, "exchange of gradients"));
    LODE_TRY(LODE_NEW(&trainer->h, m, "entropies"));
    LODE_TRY(LODE_NEW(&trainer->scale, 2 * m, "entropies"));
    if (setting->entropy_weight > 0)
        LODE_TRY(LODE_NEW_RAW(&trainer->pull, architecture->hidden * m, "gradient of entropies"));
    LODE_TRY(lode_stack_create(&trainer->stack, parameters->checkpoint, trainer->layout,
                               trainer->batches.max_tokens, setting->length, setting->threads));
    trainer->activations = setting->memory - lode_stack_bytes(trainer->stack) -
                           parameters->elements * (int64_t)sizeof(float) -
                           own_bytes(architecture, setting, parameters->gradients, shard,
                                     trainer->sum.buffers, buffer);
    return LODE_OK;
}

/* Everything that this rank can make alone. */
static lode_status_t make(lode_trainer_t *trainer) {
    const lode_trainer_setting_t *setting = &trainer->setting;
    LODE_TRY(choose_layers(trainer));
    LODE_TRY(lode_blocks_create(&trainer->blocks, trainer->parameters, trainer->layout->replicas));
    LODE_TRY(make_totals(trainer));
    LODE_TRY(make_text(&trainer->text, setting->batch, setting->length, &trainer->offsets,
                       &trainer->ids, &trainer->target, &trainer->weight));
    LODE_TRY(lode_batches_create(&trainer->batches, &trainer->text, setting->micro_batch));
    if (trainer->parameters->architecture->tied) {
        LODE_TRY(LODE_NEW(&trainer->tied, trainer->comm->size, "shares of the embedding"));
        LODE_TRY(LODE_NEW(&trainer->tied_begin, trainer->layout->replicas + 1,
                          "shares of the embedding"));
    }
    return trainer->layout->replica >= 0 ? make_compute(trainer) : LODE_OK;
}

/* Tells all ranks which part of a tied embedding is whose. Collective. */
static void share_tied(lode_trainer_t *trainer) {
    const lode_parameters_t *parameters = trainer->parameters;
    const int replicas = trainer->layout->replicas;
    tied_share_t own = {.embedding = parameters->embedding, .head = parameters->head};
    if (!trainer->tied)
        return;
    if (parameters->tied >= 0) {
        const lode_parameter_t *tied = &parameters->list[parameters->tied];
        for (int r = 0; r <= replicas; r++)
            trainer->tied_begin[r] =
                min2(max2(trainer->blocks.begin[r] - tied->offset, 0), tied->elements);
        own.begin = trainer->tied_begin[trainer->layout->replica];
        own.end = trainer->tied_begin[trainer->layout->replica + 1];
    }
    MPI_Allgather(&own, TIED_WORDS, MPI_INT64_T, trainer->tied, TIED_WORDS, MPI_INT64_T,
                  trainer->comm->comm);
}

lode_status_t lode_trainer_create(lode_trainer_t **out, const lode_comm_t *comm,
                                  const lode_layout_t *layout, lode_parameters_t *parameters,
                                  const lode_trainer_setting_t *setting) {
    lode_status_t status = LODE_NEW(out, 1, "trainer");
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK) {
        lode_trainer_t *trainer = *out;
        trainer->comm = comm;
        trainer->layout = layout;
        trainer->parameters = parameters;
        trainer->setting = *setting;
        trainer->micro_batches = lode_trainer_micro_batches(setting);
        trainer->targets = setting->batch * (setting->length - 1);
        trainer->stage_comm = MPI_COMM_NULL;
        status = check(trainer);
        if (status == LODE_OK)
            status = make(trainer);
        status = lode_comm_agree(comm, status);
        if (status == LODE_OK) {
            MPI_Comm_split(comm->comm, layout->replica < 0 ? MPI_UNDEFINED : layout->stage,
                           layout->replica, &trainer->stage_comm);
            if (layout->replica >= 0)
                trainer->stage = lode_comm_describe(trainer->stage_comm);
            share_tied(trainer);
            return LODE_OK;
        }
    }
    lode_trainer_destroy(out);
    return status;
}

void lode_trainer_destroy(lode_trainer_t **trainer) {
    lode_trainer_t *going = *trainer;
    *trainer = NULL;
    if (!going)
        return;
    if (going->stage_comm != MPI_COMM_NULL)
        MPI_Comm_free(&going->stage_comm);
    lode_stack_destroy(&going->stack);
    for (int i = 0; going->views && i < going->sum.buffers; i++)
        lode_gradient_view_free(&going->views[i]);
    free(going->views);
    lode_group_sum_free(&going->sum);
    lode_blocks_free(&going->blocks);
    lode_batches_destroy(&going->batches);
    free(going->chosen);
    free(going->first);
    free(going->second);
    free(going->buffer);
    free(going->tied);
    free(going->tied_begin);
    free(going->offsets);
    free(going->ids);
    free(going->target);
    free(going->weight);
    free(going->totals);
    free(going->room.reals);
    free(going->pull);
    free(going->h);
    free(going->scale);
    free(going);
}

lode_trainer_moments_t lode_trainer_moments(lode_trainer_t *trainer) {
    const int replica = trainer->layout->replica;
    if (replica < 0)
        return (lode_trainer_moments_t){0};
    return (lode_trainer_moments_t){.begin = trainer->blocks.begin[replica],
                                    .end = trainer->blocks.begin[replica + 1],
                                    .first = trainer->first,
                                    .second = trainer->second};
}

/* --- gradients -------------------------------------------------------------------------------- */

static const lode_stack_gradient_t *next_gradient(void *context, const lode_batch_t *batch) {
    lode_trainer_t *trainer = context;
    (void)batch; /* they come in their order */
    if (trainer->begun++ % (trainer->micro_batches / trainer->setting.groups) == 0)
        lode_group_sum_next(&trainer->sum);
    return &trainer->views[trainer->sum.current];
}

static lode_status_t add_losses(void *context, int64_t variant, const lode_batch_t *batch,
                                const double *nll, const uint8_t *greedy) {
    lode_trainer_t *trainer = context;
    double *loss = &trainer->losses[canonical_of(trainer, batch - trainer->batches.batch)];
    (void)variant;
    (void)greedy;
    for (int64_t t = 0; t < batch->tokens; t++)
        *loss += nll[t];
    return LODE_OK;
}

/* Puts a step's sequences where replicas look for theirs. */
static void arrange(lode_trainer_t *trainer, const int32_t *ids) {
    const int64_t length = trainer->setting.length, rows = rows_of(&trainer->setting);
    for (int64_t place = 0; place < trainer->micro_batches; place++) {
        const lode_batch_t *batch = &trainer->batches.batch[place];
        const int64_t first = canonical_of(trainer, place) * rows;
        copy_sequences(trainer->ids + batch->first_token, trainer->target + batch->first_token,
                       ids + first * length, batch->sequences.count, length);
    }
}

static lode_status_t run_pass(lode_trainer_t *trainer) {
    lode_group_sum_start(&trainer->sum);
    trainer->begun = 0;
    return lode_pass_run(&(lode_pass_t){
        .stage = "train",
        .comm = trainer->comm,
        .layout = trainer->layout,
        .stack = trainer->stack,
        .batches = &trainer->batches,
        .variants = 1,
        .backward = true,
        .quiet = true,
        .unstopped = true,
        .head_batches = trainer->micro_batches,
        .budget = trainer->activations,
        .room = &trainer->room,
        .scratch = trainer->setting.scratch,
        .observer = {.context = trainer, .gradient = next_gradient, .losses = add_losses}});
}

/* Adds the two ends' gradients of the own part of a tied embedding. The parts of both ends lie in
 * the order of the ranks, so that of all exchanges that are left the first can always be made. */
static void exchange_tied(lode_trainer_t *trainer, float *gradient) {
    const lode_parameters_t *parameters = trainer->parameters;
    const int64_t piece = lode_reduce_buffer(trainer->layout->replicas);
    const tied_share_t *own = &trainer->tied[trainer->comm->rank];
    float *tied = gradient + parameters->list[parameters->tied].offset;
    if (own->embedding && own->head) {
        lode_add(tied + own->begin, gradient + parameters->elements + own->begin,
                 own->end - own->begin);
        return;
    }
    for (int r = 0; r < trainer->comm->size; r++) {
        const tied_share_t *other = &trainer->tied[r];
        const bool opposite = own->embedding ? other->head != 0 : other->embedding != 0;
        const int64_t end = min2(own->end, other->end);
        for (int64_t at = max2(own->begin, other->begin); opposite && at < end; at += piece) {
            const int64_t count = min2(end - at, piece);
            MPI_Sendrecv(tied + at, (int)count, MPI_FLOAT, r, TAG_TIED, trainer->buffer, (int)count,
                         MPI_FLOAT, r, TAG_TIED, trainer->comm->comm, MPI_STATUS_IGNORE);
            lode_add(tied + at, trainer->buffer, count);
        }
    }
}

/* Adds up the gradients of all groups and both ends in this rank's shard. */
static float *reduce(lode_trainer_t *trainer) {
    float *gradient = trainer->sum.buffer[lode_group_sum_end(&trainer->sum)];
    const lode_parameters_t *parameters = trainer->parameters;
    lode_reduce_shards(&trainer->stage, trainer->blocks.begin, gradient, trainer->buffer);
    if (parameters->gradients > parameters->elements)
        lode_reduce_shards(&trainer->stage, trainer->tied_begin, gradient + parameters->elements,
                           trainer->buffer);
    if (parameters->tied >= 0)
        exchange_tied(trainer, gradient);
    return gradient;
}

/* --- entropy ---------------------------------------------------------------------------------- */

/* Mean entropy of a layer, whose H_j stay in trainer->h. */
static double layer_entropy(lode_trainer_t *trainer, const lode_tensor_t *down) {
    double sum = 0;
    lode_entropy_columns(down->data, down->shape[0], down->shape[1], down->pitch, down->transposed,
                         trainer->setting.entropy_form, trainer->h, trainer->scale);
    for (int64_t j = 0; j < down->shape[1]; j++)
        sum += trainer->h[j];
    return sum / (double)down->shape[1];
}

/* Adds `scale` times the gradient of the entropies in trainer->h, within the own shard. */
static void pull_layer(lode_trainer_t *trainer, const lode_parameter_t *parameter,
                       const lode_tensor_t *down, double scale, float *gradient) {
    const lode_trainer_moments_t own = lode_trainer_moments(trainer);
    const int64_t first = max2(own.begin, parameter->offset);
    const int64_t end = min2(own.end, parameter->offset + parameter->elements);
    memset(trainer->pull, 0, (size_t)parameter->elements * sizeof *trainer->pull);
    lode_entropy_gradient(down->data, down->shape[0], down->shape[1], down->pitch, down->transposed,
                          trainer->setting.entropy_form, trainer->h, trainer->scale, scale,
                          trainer->pull);
    lode_add(gradient + first, trainer->pull + (first - parameter->offset), end - first);
}

/* Mean entropies of layers whose first weight is in the own shard, all of them or the chosen ones;
 * with a gradient also its part. A replica that has a part of a matrix has all of its weights. */
static lode_status_t take_entropies(lode_trainer_t *trainer, bool all, double scale,
                                    float *gradient) {
    const lode_trainer_moments_t own = lode_trainer_moments(trainer);
    const lode_parameters_t *parameters = trainer->parameters;
    for (int64_t p = 0; p < parameters->count; p++) {
        const lode_parameter_t *parameter = &parameters->list[p];
        const bool leads = parameter->offset >= own.begin && parameter->offset < own.end;
        const bool shares =
            parameter->offset < own.end && parameter->offset + parameter->elements > own.begin;
        const bool pulls = shares && gradient && scale != 0;
        lode_layer_weights_t weights;
        if (parameter->role != LODE_ROLE_DOWN || !(all || trainer->chosen[parameter->layer]) ||
            !(leads || pulls))
            continue;
        LODE_TRY(lode_checkpoint_layer(parameters->checkpoint, parameter->layer, &weights));
        const double mean = layer_entropy(trainer, &weights.down);
        if (leads)
            trainer->entropy[parameter->layer] = mean;
        if (pulls)
            pull_layer(trainer, parameter, &weights.down, scale, gradient);
    }
    return LODE_OK;
}

lode_status_t lode_trainer_entropy(lode_trainer_t *trainer, double *mean) {
    const int64_t layers = trainer->layout->layers;
    memset(trainer->entropy, 0, (size_t)layers * sizeof *mean);
    LODE_TRY(lode_comm_agree(trainer->comm, take_entropies(trainer, true, 0, NULL)));
    MPI_Allreduce(trainer->entropy, mean, (int)layers, MPI_DOUBLE, MPI_SUM, trainer->comm->comm);
    return LODE_OK;
}

/* --- a step ----------------------------------------------------------------------------------- */

/* Σ x² of the blocks of the own shard that count. */
static void take_squares(lode_trainer_t *trainer, const float *gradient) {
    const int replica = trainer->layout->replica;
    const lode_blocks_t *blocks = &trainer->blocks;
#pragma omp parallel for schedule(dynamic)
    for (int64_t b = blocks->first[replica]; b < blocks->first[replica + 1]; b++) {
        const lode_block_t *block = &blocks->list[b];
        if (block->number >= 0)
            trainer->squares[block->number] =
                lode_block_square(gradient + block->offset, block->count);
    }
}

/* Gives all ranks all sums, of which each has put in its own: x + 0 is x. */
static void add_totals(lode_trainer_t *trainer) {
    const int64_t most = 1 << 28;
    for (int64_t done = 0; done < trainer->total_count; done += most)
        MPI_Allreduce(MPI_IN_PLACE, trainer->totals + done,
                      (int)min2(trainer->total_count - done, most), MPI_DOUBLE, MPI_SUM,
                      trainer->comm->comm);
}

/* Reads the sums in the order of the model. */
static void conclude(const lode_trainer_t *trainer, lode_trainer_result_t *result) {
    double loss = 0, squares = 0, entropy = 0;
    for (int64_t i = 0; i < trainer->micro_batches; i++)
        loss += trainer->losses[i];
    for (int64_t i = 0; i < trainer->blocks.total; i++)
        squares += trainer->squares[i];
    for (int64_t l = 0; l < trainer->layout->layers; l++)
        entropy += trainer->entropy[l];
    result->loss = loss / (double)trainer->targets;
    result->gradient_norm = sqrt(squares);
    result->entropy =
        trainer->setting.entropy_weight > 0 ? entropy / (double)trainer->chosen_count : NAN;
}

static void update(lode_trainer_t *trainer, int64_t step, const lode_trainer_result_t *result,
                   const float *gradient) {
    const lode_trainer_setting_t *setting = &trainer->setting;
    const lode_blocks_t *blocks = &trainer->blocks;
    const lode_parameters_t *parameters = trainer->parameters;
    const lode_trainer_moments_t own = lode_trainer_moments(trainer);
    const int replica = trainer->layout->replica;
    const lode_adamw_t adamw =
        lode_adamw(result->learning_rate, setting->beta_1, setting->beta_2, setting->epsilon,
                   lode_clip_factor(result->gradient_norm, setting->clip), step);
#pragma omp parallel for schedule(dynamic)
    for (int64_t b = blocks->first[replica]; b < blocks->first[replica + 1]; b++) {
        const lode_block_t *block = &blocks->list[b];
        const double decay = setting->decay[parameters->list[block->parameter].kind];
        lode_adamw_update(&adamw, decay, block->count, gradient + block->offset,
                          parameters->weights + block->offset,
                          own.first + (block->offset - own.begin),
                          own.second + (block->offset - own.begin));
    }
    lode_gather_shards(&trainer->stage, blocks->begin, parameters->weights);
}

lode_status_t lode_trainer_step(lode_trainer_t *trainer, int64_t step, const int32_t *ids,
                                lode_trainer_result_t *result) {
    const lode_trainer_setting_t *setting = &trainer->setting;
    const bool works = trainer->layout->replica >= 0;
    float *gradient = NULL;
    lode_status_t status = LODE_OK;
    *result = (lode_trainer_result_t){
        .learning_rate = lode_rate_at(&setting->rate, step),
        .entropy_weight = lode_entropy_weight_at(setting->entropy_weight, setting->entropy_schedule,
                                                 setting->rate.steps, step)};
    memset(trainer->totals, 0, (size_t)trainer->total_count * sizeof *trainer->totals);
    arrange(trainer, ids);
    status = run_pass(trainer);
    if (status != LODE_OK)
        return lode_fail_context(status, "step %lld", (long long)step);
    if (works) {
        const double scale =
            result->entropy_weight /
            (double)(trainer->chosen_count * trainer->parameters->architecture->intermediate);
        gradient = reduce(trainer);
        if (setting->entropy_weight > 0)
            status = take_entropies(trainer, false, scale, gradient);
        take_squares(trainer, gradient);
        if (status == LODE_OK)
            status = lode_comm_received(trainer->comm, "gradients of weights");
    }
    LODE_TRY(lode_comm_agree(trainer->comm, status));
    add_totals(trainer);
    conclude(trainer, result);
    if (!isfinite(result->gradient_norm))
        return lode_fail(LODE_ERR_NUMERIC,
                         "step %lld: the gradient is not finite; lower train.learning_rate, or "
                         "raise train.warmup",
                         (long long)step);
    if (works)
        update(trainer, step, result, gradient);
    return LODE_OK;
}

/* --- evaluation ------------------------------------------------------------------------------- */

typedef struct evaluation {
    lode_text_t text;
    lode_batches_t batches;
    int64_t *offsets;
    int32_t *ids, *target;
    double *sums; /* [sequences, 2] Σ of a sequence's losses, and of their squares */
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
    LODE_TRY(make_text(&evaluation->text, sequences, setting->length, &evaluation->offsets,
                       &evaluation->ids, &evaluation->target, NULL));
    copy_sequences(evaluation->ids, evaluation->target, ids, sequences, setting->length);
    LODE_TRY(LODE_NEW(&evaluation->sums, 2 * sequences, "losses"));
    return lode_batches_create(&evaluation->batches, &evaluation->text,
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
        MPI_Allreduce(MPI_IN_PLACE, evaluation.sums, (int)(2 * sequences), MPI_DOUBLE, MPI_SUM,
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
    free(evaluation.offsets);
    free(evaluation.ids);
    free(evaluation.target);
    free(evaluation.sums);
    return status;
}
