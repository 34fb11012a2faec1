#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "linalg/grid.h"
#include "plan/internal.h"
#include "common/variants.h"
#include "score/halo.h"
#include "score/mask.h"
#include "score/supernode.h"
#include "transformer/simulate.h"

/* Messages between neighbours: seconds, and bytes a second, over a common network. */
static const double MESSAGE_SECONDS = 2e-5, MESSAGE_RATE = 3e9;
/* Attention's backward computes scores again and has three products beside: ten operations for
 * four of the forward's. */
static const double ATTENTION_BACKWARD = 2.5;
/* Ids a second and rank. */
static const double TOKENIZE_RATE = 4e5;
/* Bytes of text a second from which one rank makes a tokenizer. */
static const double TOKENIZER_RATE = 1e7;
/* To quantize a weight when it is read, in elements of the machine's vector rate; measured. */
static const double CODED = 0.4;

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* --- layers ---------------------------------------------------------------------------------- */

/* Operations for one token of a layer with `kept` of its channels. */
typedef struct operations {
    double matrices, attention, down;
} operations_t;

static operations_t operations_of(const lode_architecture_t *a, int64_t layer, double context,
                                  double kept) {
    const double projections =
        4.0 * (double)(a->heads + a->kv_heads) * (double)(a->head_dim * a->hidden);
    const double down = 2.0 * kept * (double)(a->intermediate * a->hidden);
    const double whole = 2.0 * (a->gated ? 3 : 2) * (double)(a->intermediate * a->hidden);
    const double all =
        (double)lode_architecture_layer_flops(a, layer, (int64_t)fmax(1, round(context)));
    return (operations_t){.matrices = projections + (a->gated ? 3 : 2) * down,
                          .attention = all - projections - whole,
                          .down = down};
}

double lode_forecast_matrices(const lode_architecture_t *a, double kept) {
    const double projections = 2.0 * (double)(a->heads + a->kv_heads) * (double)a->head_dim;
    const double channels = (a->gated ? 3.0 : 2.0) * kept * (double)a->intermediate;
    return (projections + channels) * (double)a->hidden;
}

static double forward_seconds(const lode_machine_t *machine, operations_t o) {
    return (o.matrices + o.attention) / machine->forward;
}

/* Backward of a layer for one token, its forward again before where activations were not kept. */
static double backward_seconds(const lode_machine_t *machine, operations_t o, bool kept,
                               bool first) {
    double seconds = kept ? 0 : (o.matrices + o.attention - o.down) / machine->forward;
    /* Nothing asks for gradients below the first layer's channels. */
    const double operations = first ? o.down : o.matrices + ATTENTION_BACKWARD * o.attention;
    return seconds + operations / machine->backward;
}

static double head_seconds(const lode_forecast_t *forecast, bool backward) {
    const double operations = (double)lode_architecture_head_flops(&forecast->model.architecture);
    return backward ? 2 * operations / forecast->machine->head_backward
                    : operations / forecast->machine->head;
}

static double message_seconds(const lode_forecast_t *forecast, double tokens) {
    return MESSAGE_SECONDS + tokens * (double)forecast->model.architecture.hidden *
                                 (double)sizeof(float) / MESSAGE_RATE;
}

/* --- passes ---------------------------------------------------------------------------------- */

static lode_status_t simulate(lode_forecast_t *forecast, lode_forecast_stage_t *stage,
                              int64_t batches, int64_t variants, const double *forward,
                              const double *backward, double tokens) {
    /* Replicas share the micro-batches; the one with most ends last. */
    const int64_t own = (batches + forecast->replicas - 1) / forecast->replicas;
    const lode_simulation_t simulation = {.stages = forecast->stages,
                                          .batches = own,
                                          .variants = variants,
                                          .forward = forward,
                                          .backward = backward,
                                          .message = message_seconds(forecast, tokens)};
    lode_simulated_t simulated;
    LODE_TRY(lode_simulate(&simulated, NULL, &simulation));
    const double before = stage->seconds;
    stage->seconds += simulated.makespan;
    if (stage->seconds > 0) /* of several passes, by their time */
        stage->bubble =
            (stage->bubble * before + simulated.bubble * simulated.makespan) / stage->seconds;
    return LODE_OK;
}

/* The statistics of one layer: sums over tokens in float64, and what is written of them. */
static double statistics_seconds(const lode_forecast_t *forecast, double tokens) {
    const double m = (double)forecast->model.architecture.intermediate;
    return tokens * 2 * m / forecast->machine->vector;
}

lode_status_t lode_forecast_statistics(lode_forecast_t *forecast, lode_stage_t which,
                                       int64_t times) {
    const lode_forecast_text_t *text = &forecast->texts.calibration;
    const lode_architecture_t *a = &forecast->model.architecture;
    lode_forecast_stage_t *stage = &forecast->stage[which];
    const int64_t batches = text->batches.count;
    const double tokens = batches > 0 ? (double)text->tokens / (double)batches : 0;
    double *forward;
    LODE_TRY(LODE_NEW(&forward, 2 * forecast->stages, "times"));
    double *backward = forward + forecast->stages;
    for (int s = 0; s < forecast->stages; s++) {
        const lode_forecast_rank_t *rank = &forecast->rank[s];
        for (int64_t l = rank->layout.first_layer; l < rank->layout.layer_end; l++) {
            const operations_t o = operations_of(a, l, text->context, 1);
            const bool kept = l - rank->layout.first_layer < rank->kept;
            forward[s] += tokens * forward_seconds(forecast->machine, o);
            backward[s] += tokens * backward_seconds(forecast->machine, o, kept, l == 0) +
                           statistics_seconds(forecast, tokens);
        }
        if (rank->layout.head)
            forward[s] += tokens * head_seconds(forecast, true);
    }
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < times && status == LODE_OK; i++) {
        stage->tokens += text->tokens;
        status = simulate(forecast, stage, batches, 1, forward, backward, tokens);
    }
    if (status == LODE_OK && which == LODE_STAGE_CALIBRATE &&
        forecast->config->calibration.padding == LODE_PADDING_EOS) {
        const double padded = (double)(text->sequences * forecast->config->calibration.max_length) /
                              fmax(1, (double)text->tokens);
        for (int s = 0; s < forecast->stages; s++)
            forward[s] *= padded;
        status = simulate(forecast, stage, batches, 1, forward, NULL, tokens);
    }
    free(forward);
    return status;
}

lode_status_t lode_forecast_forward(lode_forecast_t *forecast, lode_stage_t which,
                                    const lode_forecast_text_t *text,
                                    const lode_forecast_version_t *versions, int64_t count) {
    const lode_architecture_t *a = &forecast->model.architecture;
    const lode_machine_t *machine = forecast->machine;
    const int64_t batches = text->batches.count;
    const double tokens = batches > 0 ? (double)text->tokens / (double)batches : 0;
    const double scored = text->tokens > 0 ? (double)text->targets / (double)text->tokens : 0;
    double *forward;
    if (count == 0 || batches == 0)
        return LODE_OK;
    LODE_TRY(LODE_NEW(&forward, count * forecast->stages, "times"));
    for (int64_t v = 0; v < count; v++)
        for (int s = 0; s < forecast->stages; s++) {
            const lode_layout_t *layout = &forecast->rank[s].layout;
            double *out = &forward[v * forecast->stages + s];
            const double coded =
                versions[v].coded
                    ? CODED * lode_forecast_matrices(a, versions[v].kept) / machine->vector
                    : 0;
            for (int64_t l = layout->first_layer; l < layout->layer_end; l++)
                *out += coded + tokens * forward_seconds(machine, operations_of(a, l, text->context,
                                                                                versions[v].kept));
            if (layout->head)
                *out += tokens * fmin(1, scored) * head_seconds(forecast, false);
        }
    forecast->stage[which].tokens += count * text->tokens;
    const lode_status_t status =
        simulate(forecast, &forecast->stage[which], batches, count, forward, NULL, tokens);
    free(forward);
    return status;
}

lode_status_t lode_forecast_versions(lode_forecast_version_t **versions, int64_t *count,
                                     const lode_forecast_t *forecast) {
    const int64_t m = forecast->model.architecture.intermediate;
    lode_variant_t *variants;
    int64_t variant_count;
    *versions = NULL;
    LODE_TRY(lode_variants_list(&variants, &variant_count, forecast->config));
    *count = 1 + variant_count;
    const lode_status_t status = LODE_NEW(versions, *count, "variants");
    for (int64_t v = 0; v < *count && status == LODE_OK; v++) {
        const double sparsity = v == 0 ? 0 : lode_variants_sparsity(variants, v - 1);
        (*versions)[v] = (lode_forecast_version_t){
            .kept = 1 - (double)lode_mask_removed(sparsity, m) / (double)m,
            .coded = v > 0 && variants[v - 1].quantized};
    }
    lode_variants_free(&variants, variant_count);
    return status;
}

static lode_status_t evaluate(lode_forecast_t *forecast) {
    const lode_config_evaluate_t *config = &forecast->config->evaluate;
    lode_forecast_version_t *versions;
    int64_t count;
    LODE_TRY(lode_forecast_versions(&versions, &count, forecast));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < forecast->texts.count && status == LODE_OK; i++) {
        const bool all = i < config->perplexity_count
                             ? config->perplexity[i].pruned
                             : config->tasks[i - config->perplexity_count].pruned;
        status = lode_forecast_forward(forecast, LODE_STAGE_EVALUATE,
                                       &forecast->texts.evaluation[i], versions, all ? count : 1);
    }
    free(versions);
    return status;
}

static lode_status_t probe(lode_forecast_t *forecast) {
    lode_probe_size_t size;
    LODE_TRY(lode_forecast_probe(&size, forecast, &forecast->rank[0].layout));
    for (int i = 0; i < LODE_PROBE_SIZE_TEXTS; i++) {
        lode_forecast_text_t text = {0};
        /* As many whole passes as the layers that are computed make up. */
        const double layers = (double)forecast->model.architecture.layers;
        const int64_t passes = (int64_t)ceil(size.layers[i] / layers);
        lode_forecast_version_t *versions = NULL;
        if (size.variants[i] == 0)
            continue;
        lode_status_t status = lode_forecast_even(&text, size.sequences[i], size.length[i],
                                                  forecast->config->micro_batch);
        text.targets = text.tokens;
        if (status == LODE_OK)
            status = LODE_NEW(&versions, passes, "variants");
        for (int64_t p = 0; p < passes && status == LODE_OK; p++)
            versions[p].kept = i == 0 && p > 0 ? 1 - forecast->config->probe.sparsity : 1;
        if (status == LODE_OK)
            status = lode_forecast_forward(forecast, LODE_STAGE_PROBE, &text, versions, passes);
        free(versions);
        lode_forecast_text_free(&text);
        LODE_TRY(status);
    }
    return LODE_OK;
}

/* --- work that is done once a layer, by the ranks of the first replica ------------------------ */

double lode_forecast_most_layers(const lode_forecast_t *forecast) {
    int64_t most = 0;
    for (int s = 0; s < forecast->stages; s++) {
        const lode_layout_t *layout = &forecast->rank[s].layout;
        if (layout->layer_end - layout->first_layer > most)
            most = layout->layer_end - layout->first_layer;
    }
    return (double)most;
}

/* Bootstraps over sequences and channels, redundancies of core, halo and random channels. */
static double classify_seconds(const lode_forecast_t *forecast) {
    const lode_config_classify_t *classify = &forecast->config->classify;
    const lode_architecture_t *a = &forecast->model.architecture;
    const lode_machine_t *machine = forecast->machine;
    const int64_t core = lode_supernode_size(classify->core_fraction, a->intermediate);
    const double m = (double)a->intermediate, d = (double)a->hidden, k = (double)core;
    const double h = (double)lode_halo_size(classify->halo_fraction, a->intermediate, core);
    const double n = (double)min2(classify->controls.channels, a->intermediate);
    const double tokens = (double)forecast->texts.kept_tokens;
    const double draws = (double)classify->controls.draws;
    const double sequences = (double)forecast->texts.calibration.sequences;
    /* One thread works: a draw sums, sorts and ranks; weights are read for norms and supports. */
    const double vector = machine->vector / (double)machine->threads;
    double elements = draws * m * (sequences / 8 + 32) + 12 * m * d + 4 * tokens * (h + n);
    double products = 2 * tokens * (2 * h + n) * k;
    if (classify->controls.channels > 0) {
        elements += draws * (h * h + n * n + h * n) / 2 + draws * k * d / 2;
        products += 2 * tokens * (h * h + n * n + h * n);
        elements += 8 * (h * h + n * n + h * n);
    }
    return lode_forecast_most_layers(forecast) * (elements / vector + products / machine->dgemm);
}

static double prune_seconds(const lode_forecast_t *forecast) {
    const lode_architecture_t *a = &forecast->model.architecture;
    const double vector = forecast->machine->vector / (double)forecast->machine->threads;
    const double weights = (a->gated ? 3.0 : 2.0) * (double)(a->intermediate * a->hidden);
    const double masks = 40.0 * (double)(a->intermediate * forecast->pruned);
    const double methods = (double)forecast->config->prune.method_count;
    return lode_forecast_most_layers(forecast) * (0.5 * methods * weights + masks) / vector;
}

/* --- matrices spread over all ranks ----------------------------------------------------------- */

/* Factorisations and eigenvalues reach a fraction of what products do. */
static const double FACTOR_SHARE = 0.5, EIGENVALUE_SHARE = 0.12;

static double all_ranks(const lode_forecast_t *forecast) {
    int rows, columns;
    lode_grid_choose(forecast->ranks, &rows, &columns);
    return (double)(rows * columns) * forecast->machine->dgemm;
}

static double gram_operations(const lode_forecast_t *forecast) {
    const double m = (double)forecast->model.architecture.intermediate;
    return m * m * (double)forecast->texts.calibration.tokens; /* half of the square */
}

static double moments_seconds(const lode_forecast_t *forecast) {
    const lode_architecture_t *a = &forecast->model.architecture;
    const double d = (double)a->hidden, layers = (double)a->layers;
    const double tokens = (double)forecast->texts.calibration.tokens;
    const double bytes = 2.0 * (double)forecast->stage[LODE_STAGE_MOMENTS].scratch +
                         (double)forecast->stage[LODE_STAGE_MOMENTS].file;
    return layers * (gram_operations(forecast) + d * d * tokens) / all_ranks(forecast) +
           bytes / forecast->machine->disk / 4;
}

static double spectra_seconds(const lode_forecast_t *forecast) {
    const lode_config_classify_t *classify = &forecast->config->classify;
    const lode_architecture_t *a = &forecast->model.architecture;
    const double m = (double)a->intermediate;
    double operations = 0;
    for (int64_t i = 0; i < classify->spectra_count; i++) {
        double n = m; /* the smaller side of the factor, where that is less */
        if (classify->spectra[i] == LODE_SPECTRUM_Q)
            n = fmin(m, (double)forecast->texts.kept_tokens);
        else if (classify->spectra[i] == LODE_SPECTRUM_WRITE)
            n = fmin(m, (double)a->hidden);
        /* All channels, and nearly all again as those that are neither core nor halo. */
        operations += 2 * (4.0 / 3.0 * n * n * n / EIGENVALUE_SHARE + 2 * n * n * m);
    }
    return (double)a->layers * operations / all_ranks(forecast);
}

static double inverse_seconds(const lode_forecast_t *forecast) {
    const lode_architecture_t *a = &forecast->model.architecture;
    const double m = (double)a->intermediate, d = (double)a->hidden;
    bool wanted = false;
    for (int64_t i = 0; i < forecast->config->prune.method_count; i++)
        wanted |= forecast->config->prune.methods[i] == LODE_METHOD_SPARSEGPT_CHANNEL;
    return wanted
               ? (double)a->layers * (m * m * m + d * d * d) / (FACTOR_SHARE * all_ranks(forecast))
               : 0;
}

/* Sequential compensation computes each layer of each variant too, and its second moment. */
static lode_status_t compensate_seconds(const lode_forecast_t *forecast, double *seconds) {
    const lode_architecture_t *a = &forecast->model.architecture;
    const double m = (double)a->intermediate, d = (double)a->hidden;
    const double tokens = (double)forecast->texts.calibration.tokens;
    const operations_t o = operations_of(a, 0, forecast->texts.calibration.context, 1);
    double factors = 0, products = 0, sequential = 0;
    lode_variant_t *variants;
    int64_t count;
    *seconds = 0;
    LODE_TRY(lode_variants_pruned(&variants, &count, forecast->config));
    for (int64_t v = 0; v < count; v++) {
        const double k = m - (double)lode_mask_removed(variants[v].sparsity, a->intermediate);
        const bool again = variants[v].compensation == LODE_COMPENSATION_SEQUENTIAL;
        if (!again && variants[v].compensation != LODE_COMPENSATION_LEAST_SQUARES)
            continue;
        factors += k * k * k / 3;
        products += 2 * k * k * d + 2 * k * (m - k) * d + (again ? gram_operations(forecast) : 0);
        sequential += again ? 1 : 0;
    }
    lode_variants_free(&variants, count);
    const double layers = (double)a->layers;
    *seconds = layers * (factors / FACTOR_SHARE + products) / all_ranks(forecast);
    /* A wavefront: as many layers at once as there are variants, spread over the stages. */
    const double working = fmax(1, fmin(sequential, (double)forecast->stages));
    *seconds += sequential * layers * tokens * forward_seconds(forecast->machine, o) / working /
                (double)forecast->replicas;
    return LODE_OK;
}

/* Ranks hash what they own at the same time. */
static double reading_seconds(const lode_forecast_t *forecast) {
    int64_t most = 0;
    for (int s = 0; s < forecast->stages; s++)
        if (forecast->rank[s].weights > most)
            most = forecast->rank[s].weights;
    return (double)most / forecast->machine->disk;
}

/* --- all stages ------------------------------------------------------------------------------ */

/* The stages that run on weights. */
static lode_status_t measuring_time(lode_forecast_t *forecast) {
    lode_forecast_stage_t *stage = forecast->stage;
    LODE_TRY(lode_forecast_statistics(forecast, LODE_STAGE_CALIBRATE, 1));
    if (stage[LODE_STAGE_MOMENTS].wanted)
        stage[LODE_STAGE_MOMENTS].seconds = moments_seconds(forecast);
    stage[LODE_STAGE_CLASSIFY].seconds = classify_seconds(forecast);
    if (stage[LODE_STAGE_SPECTRA].wanted)
        stage[LODE_STAGE_SPECTRA].seconds = spectra_seconds(forecast);
    stage[LODE_STAGE_PRUNE].seconds = prune_seconds(forecast) + inverse_seconds(forecast);
    if (stage[LODE_STAGE_COMPENSATE].wanted)
        LODE_TRY(compensate_seconds(forecast, &stage[LODE_STAGE_COMPENSATE].seconds));
    LODE_TRY(lode_forecast_weight_stages(forecast));
    LODE_TRY(evaluate(forecast));
    if (stage[LODE_STAGE_PROBE].wanted)
        LODE_TRY(probe(forecast));
    if (stage[LODE_STAGE_EXPORT].wanted)
        stage[LODE_STAGE_EXPORT].seconds =
            (double)forecast->exports / forecast->machine->disk / forecast->stages;
    return LODE_OK;
}

lode_status_t lode_forecast_time(lode_forecast_t *forecast) {
    lode_forecast_stage_t *stage = forecast->stage;
    for (int s = 0; s < LODE_STAGE_COUNT; s++) {
        stage[s].seconds = stage[s].bubble = 0;
        stage[s].tokens = 0;
    }
    const int64_t blocks = forecast->texts.train_blocks + forecast->texts.validation_blocks;
    const double ids = (double)lode_forecast_ids(&forecast->texts) +
                       (double)(blocks * forecast->config->train.length);
    stage[LODE_STAGE_TOKENIZE].seconds = ids / TOKENIZE_RATE / forecast->ranks;
    if (stage[LODE_STAGE_TOKENIZER].wanted)
        stage[LODE_STAGE_TOKENIZER].seconds = (double)forecast->texts.train_bytes / TOKENIZER_RATE;
    if (stage[LODE_STAGE_TRAIN].wanted)
        LODE_TRY(lode_forecast_train_time(forecast));
    if (!forecast->scratch)
        LODE_TRY(measuring_time(forecast));
    forecast->reading = reading_seconds(forecast);
    forecast->seconds = forecast->reading;
    for (int s = 0; s < LODE_STAGE_COUNT; s++)
        forecast->seconds += stage[s].seconds;
    return LODE_OK;
}
