#include <math.h>
#include <stdlib.h>

#include "common/moment.h"
#include "linalg/packed.h"
#include "plan/internal.h"
#include "plan/show.h"

/* Ranks that are tried for the fewest: as many as there are layers, and some more. */
static int most_ranks(const lode_forecast_t *forecast) {
    const int64_t parts = forecast->model.architecture.layers + 1;
    return (int)(2 * parts > 64 ? 2 * parts : 64);
}

/* --- notes ----------------------------------------------------------------------------------- */

/* A stage that cannot run on these ranks: which, on which rank, by how much. */
static lode_status_t note_refusals(lode_plan_advice_t *advice, const lode_forecast_t *forecast) {
    for (int stage = 0; stage < LODE_STAGE_COUNT; stage++) {
        int64_t most = 0;
        int rank = 0;
        char needs[LODE_PLAN_TEXT], allows[LODE_PLAN_TEXT];
        for (int s = 0; s < forecast->stages; s++) {
            const lode_forecast_memory_t *memory = &forecast->rank[s].memory[stage];
            if (lode_forecast_setting(memory, memory->least) > most) {
                most = lode_forecast_setting(memory, memory->least);
                rank = s;
            }
        }
        if (!lode_forecast_budgeted((lode_stage_t)stage) || most <= forecast->config->memory)
            continue;
        LODE_TRY(lode_buffer_printf(
            &advice->notes,
            "%s will refuse to run: it needs %s on rank %d, and memory is %s; raise memory, lower "
            "micro_batch or use more ranks\n",
            lode_plan_stage_name(forecast, (lode_stage_t)stage), lode_plan_bytes(needs, most), rank,
            lode_plan_limit(allows, forecast->config->memory)));
    }
    return LODE_OK;
}

/* Activations that are computed twice, and inputs that go to disk. */
static lode_status_t note_budget(lode_plan_advice_t *advice, const lode_forecast_t *forecast) {
    if (forecast->scratch)
        return LODE_OK;
    int64_t layers = 0, kept = 0, all = 0;
    char text[LODE_PLAN_TEXT];
    for (int s = 0; s < forecast->stages; s++) {
        const lode_forecast_rank_t *rank = &forecast->rank[s];
        const lode_forecast_memory_t *memory = &rank->memory[LODE_STAGE_CALIBRATE];
        layers += rank->layout.layer_end - rank->layout.first_layer;
        kept += rank->kept;
        if (memory->all - memory->process > all)
            all = memory->all - memory->process;
    }
    if (kept < layers)
        LODE_TRY(lode_buffer_printf(
            &advice->notes,
            "activations of %lld of %lld layers are kept for the backward pass, the others are "
            "computed again; memory = %.0fM would keep all\n",
            (long long)kept, (long long)layers, ceil((double)all / 0x1p20)));
    if (forecast->spilled[LODE_STAGE_CALIBRATE] > 0)
        LODE_TRY(
            lode_buffer_printf(&advice->notes,
                               "layers' inputs go to a scratch file of %s in the results "
                               "folder; more memory, or more ranks, make it smaller\n",
                               lode_plan_bytes(text, forecast->spilled[LODE_STAGE_CALIBRATE])));
    return LODE_OK;
}

/* Operations for a token of the busiest stage, which sets the pace. */
static double pace(const lode_forecast_t *forecast) {
    const lode_architecture_t *a = &forecast->model.architecture;
    double most = 0;
    for (int s = 0; s < forecast->stages; s++) {
        const lode_layout_t *layout = &forecast->rank[s].layout;
        double own = layout->head ? (double)lode_architecture_head_flops(a) : 0;
        for (int64_t l = layout->first_layer; l < layout->layer_end; l++)
            own += (double)lode_architecture_layer_flops(a, l,
                                                         forecast->config->calibration.max_length);
        most = own > most ? own : most;
    }
    return most / forecast->replicas;
}

/* Layers are not divided: some numbers of ranks are no faster than fewer. */
static lode_status_t note_pace(lode_plan_advice_t *advice, const lode_forecast_t *forecast) {
    lode_forecast_t trial = *forecast; /* what is not laid out anew stays borrowed */
    lode_status_t status = LODE_OK;
    const double own = pace(forecast);
    int fewer = forecast->ranks;
    trial.rank = NULL;
    while (fewer > 1 && status == LODE_OK) {
        status = lode_forecast_layout(&trial, fewer - 1);
        if (status != LODE_OK || pace(&trial) > own * 1.001)
            break;
        fewer--;
    }
    lode_forecast_layout_free(&trial);
    if (status != LODE_OK || fewer == forecast->ranks)
        return status;
    return lode_buffer_printf(&advice->notes,
                              "%d ranks are as fast: the busiest of them has no more layers than "
                              "the busiest of %d\n",
                              fewer, forecast->ranks);
}

static lode_status_t note_weights(lode_plan_advice_t *advice, const lode_forecast_t *forecast) {
    char weights[LODE_PLAN_TEXT], room[LODE_PLAN_TEXT], took[LODE_PLAN_TEXT];
    const lode_forecast_node_t *node = &advice->node;
    const int64_t left = advice->node_memory - node->private_bytes;
    if (advice->node_memory == 0 || node->weights <= left)
        return LODE_OK;
    if (left <= 0)
        return lode_buffer_printf(&advice->notes,
                                  "the ranks of a node take %s private and the node has %s; put "
                                  "fewer ranks on a node or lower memory\n",
                                  lode_plan_bytes(weights, node->private_bytes),
                                  lode_plan_limit(room, advice->node_memory));
    const double again = (double)(node->weights - left) * 2 *
                         (double)forecast->texts.calibration.batches.count /
                         forecast->machine->disk;
    return lode_buffer_printf(
        &advice->notes,
        "a node maps %s of weights and has %s left for them, so every micro-batch reads what does "
        "not fit from disk again: some %s more in calibrate and accumulate at %.1f GB/s; use more "
        "nodes\n",
        lode_plan_bytes(weights, node->weights), lode_plan_bytes(room, left),
        lode_plan_seconds(took, again), forecast->machine->disk / 1e9);
}

static lode_status_t note_matrices(lode_plan_advice_t *advice, const lode_forecast_t *forecast) {
    const int64_t m = forecast->model.architecture.intermediate;
    char packed[LODE_PLAN_TEXT], share[LODE_PLAN_TEXT];
    const lode_config_prune_t *prune = &forecast->config->prune;
    bool sequential = false;
    for (int64_t i = 0; i < prune->compensation_count; i++)
        sequential |= prune->compensation[i] == LODE_COMPENSATION_SEQUENTIAL;
    if (forecast->stage[LODE_STAGE_MOMENTS].wanted)
        LODE_TRY(lode_buffer_printf(
            &advice->notes,
            "second moments are %lld × %lld a layer: %s packed in moments.h5, %s a rank while one "
            "is computed\n",
            (long long)m, (long long)m,
            lode_plan_bytes(packed, forecast->stage[LODE_STAGE_MOMENTS].file),
            lode_plan_bytes(share, lode_moment_memory(forecast->ranks, m * m, m * m, m))));
    if (sequential && forecast->stage[LODE_STAGE_COMPENSATE].wanted)
        LODE_TRY(lode_buffer_printf(
            &advice->notes,
            "sequential compensation computes the layers one after the other, with a second moment "
            "for every layer and variant: %.0f %% of all time\n",
            100 * forecast->stage[LODE_STAGE_COMPENSATE].seconds / fmax(forecast->seconds, 1e-9)));
    return LODE_OK;
}

static const char *how_known(lode_known_t known) {
    return known == LODE_KNOWN_EXACTLY ? "as tokenised"
           : known == LODE_KNOWN_BOUND ? "at most"
                                       : "by the size of the text";
}

/* How often training sees its text, and what it takes within memory. */
static lode_status_t note_training(lode_plan_advice_t *advice, const lode_forecast_t *forecast) {
    const lode_config_train_t *train = &forecast->config->train;
    const int64_t blocks = forecast->texts.train_blocks;
    int64_t used = 0, all = 0;
    if (!forecast->stage[LODE_STAGE_TRAIN].wanted)
        return LODE_OK;
    for (int s = 0; s < forecast->stages; s++) {
        const lode_forecast_memory_t *memory = &forecast->rank[s].memory[LODE_STAGE_TRAIN];
        if (lode_forecast_setting(memory, memory->used) > used)
            used = lode_forecast_setting(memory, memory->used);
        if (lode_forecast_setting(memory, memory->all) > all)
            all = lode_forecast_setting(memory, memory->all);
    }
    LODE_TRY(lode_buffer_printf(
        &advice->notes, "training: %lld blocks of %lld tokens (%s), seen %.2f times\n",
        (long long)blocks, (long long)train->length, how_known(forecast->texts.train_known),
        (double)(train->steps * train->batch) / (double)blocks));
    return used >= all ? LODE_OK
                       : lode_buffer_printf(&advice->notes,
                                            "training computes some activations twice; memory = "
                                            "%.0fM would keep all\n",
                                            ceil((double)all / 0x1p20));
}

static lode_status_t note_texts(lode_plan_advice_t *advice, const lode_forecast_t *forecast) {
    const lode_forecast_texts_t *texts = &forecast->texts;
    if (forecast->scratch)
        return LODE_OK;
    bool exact = texts->calibration.known == LODE_KNOWN_EXACTLY;
    LODE_TRY(lode_buffer_printf(&advice->notes, "tokens: calibration %lld (%s)",
                                (long long)texts->calibration.tokens,
                                how_known(texts->calibration.known)));
    for (int64_t i = 0; i < texts->count; i++) {
        const lode_forecast_text_t *text = &texts->evaluation[i];
        exact = exact && text->known == LODE_KNOWN_EXACTLY;
        LODE_TRY(lode_buffer_printf(&advice->notes, ", %s %lld (%s)", text->name,
                                    (long long)text->tokens, how_known(text->known)));
    }
    return lode_buffer_printf(&advice->notes, "%s\n",
                              exact ? "" : "; lode run --stages tokenize counts them");
}

static lode_status_t note_idle(lode_plan_advice_t *advice, const lode_forecast_t *forecast) {
    const lode_config_t *config = forecast->config;
    const bool grouped = forecast->scratch && forecast->replicas == config->train.groups &&
                         config->train.groups < lode_config_train_batches(config);
    if (forecast->idle == 0)
        return LODE_OK;
    return lode_buffer_printf(&advice->notes, "%d of %d ranks idle%s\n", forecast->idle,
                              forecast->ranks,
                              grouped ? "; a higher train.groups allows more replicas" : "");
}

static const char *plural(double count) {
    return count == 1 ? "" : "s";
}

/* Where the speed is from, and what it is worth. */
static lode_status_t note_speed(lode_plan_advice_t *advice, const lode_machine_t *machine) {
    if (machine->measured)
        return lode_buffer_printf(
            &advice->notes,
            "speed: %.1f GFLOP/s of SGEMM, %lld thread%s, measured now on this machine; lode bench "
            "on the machine of the run, and --machine, tell more\n",
            machine->sgemm / 1e9, (long long)machine->threads, plural((double)machine->threads));
    LODE_TRY(lode_buffer_printf(&advice->notes, "speed: %s, %.1f GFLOP/s forward\n",
                                machine->source, machine->forward / 1e9));
    if (machine->timed == (double)machine->threads)
        return LODE_OK;
    return lode_buffer_printf(
        &advice->notes,
        "%s was measured with %g thread%s and threads is %lld here; times take speed to be in "
        "proportion, and may be far off, the more so where cores were busy: lode bench --threads "
        "%lld tells more\n",
        machine->source, machine->timed, plural(machine->timed), (long long)machine->threads,
        (long long)machine->threads);
}

static lode_status_t note_assumptions(lode_plan_advice_t *advice, const lode_forecast_t *forecast) {
    if (forecast->variants > 0 && forecast->stage[LODE_STAGE_EVALUATE].wanted)
        LODE_TRY(lode_buffer_printf(
            &advice->notes,
            "evaluation: the time of %lld variants, %lld of them quantized, is that of their "
            "sparsities and of quantizing weights as they are read; layers below the first that a "
            "variant changes are shared, and results of earlier runs are taken, which is not "
            "counted here\n",
            (long long)forecast->variants, (long long)forecast->quantized));
    if (forecast->model.guessed)
        LODE_TRY(lode_buffer_printf(&advice->notes,
                                    "config.json does not say what type the weights are; F32 is "
                                    "assumed\n"));
    LODE_TRY(note_idle(advice, forecast));
    LODE_TRY(note_training(advice, forecast));
    LODE_TRY(note_texts(advice, forecast));
    return note_speed(advice, forecast->machine);
}

lode_status_t lode_plan_advise(lode_plan_advice_t *advice, const lode_forecast_t *forecast,
                               int64_t node_memory, int ranks_per_node) {
    *advice = (lode_plan_advice_t){
        .most = most_ranks(forecast), .node_memory = node_memory, .ranks_per_node = ranks_per_node};
    if (node_memory > 0)
        advice->node = lode_forecast_node(forecast, ranks_per_node);
    LODE_TRY(lode_forecast_fewest(&advice->fewest, forecast, 0, 1, advice->most));
    if (node_memory > 0 && advice->fewest > 0)
        LODE_TRY(lode_forecast_fewest(&advice->fewest_nodes, forecast, node_memory, ranks_per_node,
                                      advice->most));
    LODE_TRY(note_refusals(advice, forecast));
    LODE_TRY(note_budget(advice, forecast));
    LODE_TRY(note_pace(advice, forecast));
    LODE_TRY(note_weights(advice, forecast));
    LODE_TRY(note_matrices(advice, forecast));
    return note_assumptions(advice, forecast);
}

void lode_plan_advice_free(lode_plan_advice_t *advice) {
    lode_buffer_free(&advice->notes);
}
