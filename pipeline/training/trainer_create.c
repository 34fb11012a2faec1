/* Making a trainer and freeing it. */
#include <stdlib.h>

#include "base/memory.h"
#include "training/trainer_state.h"
#include "training/views.h"

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
    const lode_trainer_moments_t own = lode_trainer_moments(trainer);
    const int64_t m = architecture->intermediate, shard = own.end - own.begin;
    const int64_t buffer = lode_reduce_buffer(trainer->layout->replicas);
    LODE_TRY(make_views(trainer));
    LODE_TRY(LODE_NEW(&trainer->first, shard, "moments"));
    LODE_TRY(LODE_NEW(&trainer->second, shard, "moments"));
    LODE_TRY(LODE_NEW_RAW(&trainer->buffer, buffer, "exchange of gradients"));
    LODE_TRY(LODE_NEW(&trainer->h, m, "entropies"));
    LODE_TRY(LODE_NEW(&trainer->workspace, 2 * m, "entropies"));
    if (setting->entropy_weight > 0)
        LODE_TRY(LODE_NEW_RAW(&trainer->pull, architecture->hidden * m, "gradient of entropies"));
    LODE_TRY(lode_stack_create(&trainer->stack, parameters->checkpoint, trainer->layout,
                               trainer->batches.max_tokens, setting->length, setting->threads));
    trainer->activations = setting->memory - lode_stack_bytes(trainer->stack) -
                           parameters->elements * (int64_t)sizeof(float) -
                           lode_trainer_own_bytes(architecture, setting, parameters->gradients,
                                                  shard, trainer->sum.buffers, buffer);
    return LODE_OK;
}

/* Everything that this rank can make alone. */
static lode_status_t make(lode_trainer_t *trainer) {
    const lode_trainer_setting_t *setting = &trainer->setting;
    LODE_TRY(choose_layers(trainer));
    LODE_TRY(lode_blocks_create(&trainer->blocks, trainer->parameters, trainer->layout->replicas));
    LODE_TRY(make_totals(trainer));
    LODE_TRY(lode_trainer_text_create(&trainer->text, setting->batch, setting->length, true));
    LODE_TRY(lode_batches_create(&trainer->batches, &trainer->text.text, setting->micro_batch));
    if (trainer->parameters->architecture->tied) {
        LODE_TRY(LODE_NEW(&trainer->tied, trainer->comm->size, "shares of the embedding"));
        LODE_TRY(LODE_NEW(&trainer->tied_begin, trainer->layout->replicas + 1,
                          "shares of the embedding"));
    }
    return trainer->layout->replica >= 0 ? make_compute(trainer) : LODE_OK;
}

enum { TIED_WORDS = sizeof(lode_tied_share_t) / sizeof(int64_t) };

/* Tells all ranks which part of a tied embedding is whose. Collective. */
static void share_tied(lode_trainer_t *trainer) {
    const lode_parameters_t *parameters = trainer->parameters;
    const int replicas = trainer->layout->replicas;
    lode_tied_share_t own = {.embedding = parameters->embedding, .head = parameters->head};
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

/* Ends what all ranks take part in when they create a trainer. Collective. */
static void connect_ranks(lode_trainer_t *trainer) {
    const lode_layout_t *layout = trainer->layout;
    MPI_Comm_split(trainer->comm->comm, layout->replica < 0 ? MPI_UNDEFINED : layout->stage,
                   layout->replica, &trainer->stage_comm);
    if (layout->replica >= 0)
        trainer->stage = lode_comm_describe(trainer->stage_comm);
    share_tied(trainer);
}

lode_status_t lode_trainer_create(lode_trainer_t **out, const lode_comm_t *comm,
                                  const lode_layout_t *layout, lode_parameters_t *parameters,
                                  const lode_trainer_setting_t *setting) {
    lode_status_t status = LODE_NEW(out, 1, "trainer");
    if (status == LODE_OK) {
        **out = (lode_trainer_t){.comm = comm,
                                 .layout = layout,
                                 .parameters = parameters,
                                 .setting = *setting,
                                 .micro_batches = lode_trainer_micro_batches(setting),
                                 .targets = setting->batch * (setting->length - 1),
                                 .stage_comm = MPI_COMM_NULL};
        status = check(*out);
        if (status == LODE_OK)
            status = make(*out);
    }
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        connect_ranks(*out);
    else
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
    lode_trainer_text_free(&going->text);
    free(going->totals);
    free(going->room.reals);
    free(going->pull);
    free(going->h);
    free(going->workspace);
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
