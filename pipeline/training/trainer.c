#include "training/trainer.h"

#include <math.h>
#include <string.h>

#include "training/optimizer.h"
#include "training/trainer_state.h"

enum { TAG_TIED = 121 };

static const double largest_gradient = 1e19; /* norm, after clipping: √FLT_MAX is 1.8e19 */

/* --- gradients -------------------------------------------------------------------------------- */

/* The canonical number of the micro-batch at a place of a step's list: replica r takes those at
 * r, r + R, r + 2R …, which are its consecutive ones. */
static int64_t canonical_of(const lode_trainer_t *trainer, int64_t place) {
    const int64_t replicas = trainer->layout->replicas;
    return place % replicas * (trainer->micro_batches / replicas) + place / replicas;
}

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
    const int64_t length = trainer->setting.length, rows = lode_trainer_rows(&trainer->setting);
    for (int64_t place = 0; place < trainer->micro_batches; place++) {
        const lode_batch_t *batch = &trainer->batches.batch[place];
        const int64_t first = canonical_of(trainer, place) * rows;
        lode_trainer_text_copy(&trainer->text, batch->first_token, ids + first * length,
                               batch->sequences.count, length);
    }
}

const char lode_trainer_blame[] = "the weights have grown too large, or were so from the start; "
                                  "lower train.learning_rate, or raise train.warmup";

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
        .blame = lode_trainer_blame,
        .room = &trainer->room,
        .scratch = trainer->setting.scratch,
        .observer = {.context = trainer, .gradient = next_gradient, .losses = add_losses}});
}

/* Adds the two ends' gradients of the own part of a tied embedding. The parts of both ends lie in
 * the order of the ranks, so that of all exchanges that are left the first can always be made. */
static void exchange_tied(lode_trainer_t *trainer, float *gradient) {
    const lode_parameters_t *parameters = trainer->parameters;
    const int64_t piece = lode_reduce_buffer(trainer->layout->replicas);
    const lode_tied_share_t *own = &trainer->tied[trainer->comm->rank];
    float *tied = gradient + parameters->list[parameters->tied].offset;
    if (own->embedding && own->head) {
        lode_reduce_add(tied + own->begin, gradient + parameters->elements + own->begin,
                        own->end - own->begin);
        return;
    }
    for (int r = 0; r < trainer->comm->size; r++) {
        const lode_tied_share_t *other = &trainer->tied[r];
        const bool opposite = own->embedding ? other->head != 0 : other->embedding != 0;
        const int64_t end = min2(own->end, other->end);
        for (int64_t at = max2(own->begin, other->begin); opposite && at < end; at += piece) {
            const int64_t count = min2(end - at, piece);
            MPI_Sendrecv(tied + at, (int)count, MPI_FLOAT, r, TAG_TIED, trainer->buffer, (int)count,
                         MPI_FLOAT, r, TAG_TIED, trainer->comm->comm, MPI_STATUS_IGNORE);
            lode_reduce_add(tied + at, trainer->buffer, count);
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
            status = lode_trainer_entropies(trainer, false, scale, gradient);
        take_squares(trainer, gradient);
        if (status == LODE_OK)
            status = lode_comm_received(trainer->comm, "gradients of weights");
    }
    LODE_TRY(lode_comm_agree(trainer->comm, status));
    add_totals(trainer);
    conclude(trainer, result);
    /* Beyond that, squares of elements have no place in the second moment, and steps would be 0. */
    if (!(result->gradient_norm * lode_clip_factor(result->gradient_norm, setting->clip) <=
          largest_gradient))
        return lode_fail(
            LODE_ERR_NUMERIC,
            "step %lld: the norm of the gradient is %.3g; lower train.learning_rate%s, "
            "or raise train.warmup",
            (long long)step, result->gradient_norm,
            result->entropy_weight > 0 ? " or train.entropy.weight" : "");
    if (works)
        update(trainer, step, result, gradient);
    return LODE_OK;
}
