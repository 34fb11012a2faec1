#include <string.h>

#include "accumulate/accumulate.h"
#include "calibrate/calibrate.h"
#include "classify/classify.h"
#include "common/spool.h"
#include "compensate/compensate.h"
#include "evaluate/size.h"
#include "kernels/real.h"
#include "model/writer.h"
#include "moments/moments.h"
#include "plan/forecast.h"
#include "plan/internal.h"
#include "probe/size.h"
#include "prune/prune.h"
#include "quantize/quantize.h"
#include "spectra/spectra.h"
#include "superweight/search.h"
#include "transformer/pass.h"

/* What a process takes that does nothing yet, and a thread of BLAS with the buffers it packs into:
 * measured with Open MPI 4.1, HDF5 1.10 and OpenBLAS 0.3.20. */
enum { PROCESS_BYTES = 6600000, RANKS_BYTES = 400000, THREAD_BYTES = 3000000 };
/* What HDF5 keeps of each of the many small datasets of quantize.h5 after the stage that writes
 * them, which counts its own. */
enum { DATASET_BYTES = 14000 };
/* What ScaLAPACK and the heap keep once matrices were spread over ranks. */
enum { MATRIX_BYTES = 8000000 };
/* The tokenizer's tables, by tokens of the vocabulary: every run reads them, to check its inputs.
 */
enum { TOKEN_BYTES = 300 };

static int64_t max2(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Scales and minima of all matrices of all quantized variants. */
static int64_t dataset_bytes(const lode_forecast_t *forecast) {
    const lode_architecture_t *a = &forecast->model.architecture;
    const bool ffn = forecast->config->quantize.tensors == LODE_QUANTIZED_FFN;
    const int64_t matrices = (ffn ? 0 : LODE_MATRIX_GATE) + (a->gated ? 3 : 2);
    return 2 * forecast->quantized * a->layers * matrices * DATASET_BYTES;
}

int64_t lode_forecast_process(const lode_forecast_t *forecast, lode_stage_t stage) {
    const lode_forecast_stage_t *of = forecast->stage;
    const bool matrices = of[LODE_STAGE_MOMENTS].wanted || of[LODE_STAGE_SPECTRA].wanted ||
                          of[LODE_STAGE_COMPENSATE].wanted;
    return PROCESS_BYTES + (matrices && stage > LODE_STAGE_CALIBRATE ? MATRIX_BYTES : 0) +
           (stage > LODE_STAGE_QUANTIZE ? dataset_bytes(forecast) : 0) +
           (forecast->ranks > 1 ? RANKS_BYTES : 0) + forecast->config->threads * THREAD_BYTES;
}

/* A stage that holds `bytes`, whatever the budget. */
static void hold(const lode_forecast_t *forecast, lode_forecast_rank_t *rank, lode_stage_t stage,
                 int64_t bytes) {
    lode_forecast_memory_t *memory = &rank->memory[stage];
    const int64_t process = lode_forecast_process(forecast, stage), all = process + bytes;
    if (all > memory->used)
        *memory =
            (lode_forecast_memory_t){.least = all, .all = all, .used = all, .process = process};
}

/* --- passes ---------------------------------------------------------------------------------- */

/* A pass over `text` beside `other` bytes of the stage's own, which count in the budget where
 * `counted` of them do. What the head would need is asked for in any case, but a pass that ends
 * before it never touches that memory. */
typedef struct pass {
    lode_stage_t stage;
    const lode_forecast_text_t *text;
    int64_t variants, other, counted;
    bool backward, headless;
} pass_t;

static int64_t stack_memory(const lode_forecast_t *forecast, const lode_forecast_rank_t *rank,
                            const lode_batches_t *batches, bool head) {
    lode_layout_t layout = rank->layout;
    layout.head = layout.head && head;
    return lode_stack_memory(&forecast->model.architecture, &layout, forecast->model.dtype,
                             batches->max_tokens, batches->longest, (int)forecast->config->threads);
}

static lode_status_t run_pass(const lode_forecast_t *forecast, lode_forecast_rank_t *rank,
                              const pass_t *pass, int64_t *scratch) {
    lode_forecast_memory_t *memory = &rank->memory[pass->stage];
    const lode_config_t *config = forecast->config;
    const lode_batches_t *batches = &pass->text->batches;
    const lode_pass_size_t size = {.architecture = &forecast->model.architecture,
                                   .layout = &rank->layout,
                                   .tokens = batches->max_tokens,
                                   .batches = batches->count,
                                   .variants = pass->variants,
                                   .backward = pass->backward};
    lode_pass_memory_t needs;
    lode_pass_choice_t choice;
    const int64_t stack = stack_memory(forecast, rank, batches, true);
    const int64_t untouched = stack - stack_memory(forecast, rank, batches, !pass->headless);
    LODE_TRY(lode_pass_memory(&size, &needs));
    LODE_TRY(lode_pass_choose(&size, config->memory - pass->counted - stack, &choice));
    const int64_t process = lode_forecast_process(forecast, pass->stage);
    const int64_t beside = process + pass->other + stack;
    const lode_forecast_memory_t found = {.least = beside + needs.least,
                                          .all = beside + needs.all,
                                          .used = beside + choice.memory - untouched,
                                          .process = process + pass->other - pass->counted};
    if (pass->stage == LODE_STAGE_CALIBRATE)
        rank->kept = choice.kept;
    *scratch = max2(*scratch, choice.scratch);
    if (found.used > memory->used)
        *memory = found;
    return LODE_OK;
}

/* A pass forward and backward over the calibration sequences beside `other` bytes. */
static lode_status_t backward_pass(lode_forecast_t *forecast, lode_forecast_rank_t *rank,
                                   lode_stage_t stage, int64_t other, int64_t *scratch) {
    const lode_forecast_text_t *text = &forecast->texts.calibration;
    int64_t counted = text->tokens * (int64_t)(2 * sizeof(int32_t) + sizeof(double));
    if (stage == LODE_STAGE_CALIBRATE && forecast->stage[LODE_STAGE_MOMENTS].wanted)
        counted += lode_spool_memory(text->batches.max_tokens);
    const pass_t pass = {.stage = stage,
                         .text = text,
                         .variants = 1,
                         .counted = counted,
                         .other = counted + other,
                         .backward = true};
    return run_pass(forecast, rank, &pass, scratch);
}

/* A forward pass over a text beside `other` bytes and its ids, all of which count. */
static pass_t forward(lode_stage_t stage, const lode_forecast_text_t *text, int64_t variants,
                      int64_t other) {
    const int64_t held = other + text->tokens * (int64_t)(2 * sizeof(int32_t));
    return (pass_t){
        .stage = stage, .text = text, .variants = variants, .counted = held, .other = held};
}

static lode_status_t forward_pass(const lode_forecast_t *forecast, lode_forecast_rank_t *rank,
                                  lode_stage_t stage, const lode_forecast_text_t *text,
                                  int64_t variants, int64_t other, int64_t *scratch) {
    const pass_t pass = forward(stage, text, variants, other);
    return run_pass(forecast, rank, &pass, scratch);
}

static lode_status_t statistics(lode_forecast_t *forecast, lode_forecast_rank_t *rank,
                                int64_t *scratch) {
    lode_stage_size_t calibrate, accumulate;
    const lode_text_t *text = &forecast->texts.calibration.text;
    LODE_TRY(lode_calibrate_size(&calibrate, &forecast->run, text));
    LODE_TRY(lode_accumulate_size(&accumulate, &forecast->run, text));
    return backward_pass(forecast, rank, LODE_STAGE_CALIBRATE, calibrate.memory + accumulate.memory,
                         scratch);
}

static lode_status_t superweight(lode_forecast_t *forecast, lode_forecast_rank_t *rank,
                                 int64_t *scratch) {
    const lode_forecast_texts_t *texts = &forecast->texts;
    lode_stage_size_t size;
    LODE_TRY(lode_forecast_superweight(&size, forecast));
    pass_t search = forward(LODE_STAGE_SUPERWEIGHT, &texts->prompts, 1, size.memory);
    search.headless = true;
    LODE_TRY(run_pass(forecast, rank, &search, scratch));
    if (texts->stopwords.sequences == 0)
        return LODE_OK;
    return forward_pass(forecast, rank, LODE_STAGE_SUPERWEIGHT, &texts->stopwords, 1, size.memory,
                        scratch);
}

static lode_status_t quantize(lode_forecast_t *forecast, lode_forecast_rank_t *rank,
                              int64_t *scratch) {
    const lode_forecast_text_t *calibration = &forecast->texts.calibration;
    int64_t sequences, models, passes;
    lode_stage_size_t size;
    LODE_TRY(lode_forecast_quantize(&size, forecast, &rank->layout));
    LODE_TRY(lode_quantize_pass(forecast->config, &sequences, &models, &passes));
    if (sequences == 0) {
        hold(forecast, rank, LODE_STAGE_QUANTIZE, size.memory);
        return LODE_OK;
    }
    lode_forecast_text_t text = {0};
    lode_status_t status =
        lode_forecast_first(&text, calibration, sequences, forecast->config->micro_batch);
    pass_t search = forward(LODE_STAGE_QUANTIZE, &text, models,
                            size.memory + calibration->tokens * (int64_t)sizeof(double));
    search.headless = true;
    if (status == LODE_OK)
        status = run_pass(forecast, rank, &search, scratch);
    lode_forecast_text_free(&text);
    return status;
}

static lode_status_t audit(lode_forecast_t *forecast, lode_forecast_rank_t *rank,
                           int64_t *scratch) {
    lode_stage_size_t size;
    LODE_TRY(lode_forecast_audit(&size, forecast));
    hold(forecast, rank, LODE_STAGE_AUDIT, size.memory);
    if (forecast->stage[LODE_STAGE_SUPERWEIGHT].wanted) {
        const lode_forecast_text_t *prompts = &forecast->texts.prompts;
        pass_t search =
            forward(LODE_STAGE_AUDIT, prompts, 1,
                    size.memory + lode_superweight_search_memory(&forecast->run, prompts->sequences,
                                                                 prompts->batches.max_tokens));
        search.headless = true;
        LODE_TRY(run_pass(forecast, rank, &search, scratch));
    }
    if (forecast->config->audit.loss_proxy)
        LODE_TRY(backward_pass(forecast, rank, LODE_STAGE_AUDIT, size.memory, scratch));
    for (int64_t i = 0; i < forecast->texts.count; i++)
        LODE_TRY(forward_pass(forecast, rank, LODE_STAGE_AUDIT, &forecast->texts.evaluation[i], 1,
                              size.memory, scratch));
    return LODE_OK;
}

static lode_status_t evaluate(lode_forecast_t *forecast, lode_forecast_rank_t *rank,
                              int64_t *scratch) {
    lode_stage_size_t size;
    lode_evaluate_extents_t extents;
    LODE_TRY(lode_forecast_extents_create(&extents, forecast));
    const lode_status_t status = lode_evaluate_size(
        &size, &forecast->run, &extents, rank->layout.layer_end - rank->layout.first_layer);
    lode_forecast_extents_free(&extents);
    LODE_TRY(status);
    for (int64_t i = 0; i < forecast->texts.count; i++) {
        const lode_forecast_text_t *text = &forecast->texts.evaluation[i];
        const int64_t answers = 2 * (1 + forecast->variants) * text->sequences;
        const int64_t task = text->items > 0 ? answers * (int64_t)sizeof(double) : 0;
        LODE_TRY(forward_pass(forecast, rank, LODE_STAGE_EVALUATE, text, 1 + forecast->variants,
                              size.memory + task, scratch));
    }
    return LODE_OK;
}

/* The text of the checks that has most: as good as any other for memory. */
static lode_status_t probe(lode_forecast_t *forecast, lode_forecast_rank_t *rank,
                           int64_t *scratch) {
    lode_probe_size_t size;
    LODE_TRY(lode_forecast_probe(&size, forecast, &rank->layout));
    for (int i = 0; i < LODE_PROBE_SIZE_TEXTS; i++) {
        lode_forecast_text_t text = {0};
        if (size.variants[i] == 0)
            continue;
        lode_status_t status = lode_forecast_even(&text, size.sequences[i], size.length[i],
                                                  forecast->config->micro_batch);
        const pass_t pass = {.stage = LODE_STAGE_PROBE,
                             .text = &text,
                             .variants = size.variants[i],
                             .counted = size.size.memory,
                             .other = size.size.memory};
        if (status == LODE_OK)
            status = run_pass(forecast, rank, &pass, scratch);
        lode_forecast_text_free(&text);
        LODE_TRY(status);
    }
    return LODE_OK;
}

/* --- stages without a pass ------------------------------------------------------------------- */

static lode_status_t matrices(lode_forecast_t *forecast, lode_forecast_rank_t *rank) {
    lode_run_t *run = &forecast->run;
    const lode_forecast_text_t *text = &forecast->texts.calibration;
    const lode_architecture_t *architecture = &forecast->model.architecture;
    lode_stage_size_t size;
    if (forecast->stage[LODE_STAGE_MOMENTS].wanted) {
        LODE_TRY(lode_moments_size(&size, run, forecast->ranks, &text->batches));
        hold(forecast, rank, LODE_STAGE_MOMENTS, size.memory);
    }
    if (forecast->stage[LODE_STAGE_SPECTRA].wanted) {
        LODE_TRY(lode_spectra_size(&size, run, forecast->ranks, forecast->texts.kept_tokens));
        hold(forecast, rank, LODE_STAGE_SPECTRA, size.memory);
    }
    LODE_TRY(lode_prune_size(&size, run, forecast->ranks));
    hold(forecast, rank, LODE_STAGE_PRUNE, size.memory);
    if (!forecast->stage[LODE_STAGE_COMPENSATE].wanted)
        return LODE_OK;
    LODE_TRY(
        lode_compensate_size(&size, run, forecast->ranks, text->tokens, text->batches.max_tokens));
    if (size.scratch > 0) { /* sequential: layers are computed, one at a time */
        lode_layer_t layer;
        lode_layout_t layers = rank->layout;
        layers.head = false;
        lode_stack_outline(&layer, architecture, 0, forecast->model.dtype);
        size.memory += lode_stack_memory(architecture, &layers, forecast->model.dtype,
                                         text->batches.max_tokens, text->batches.longest,
                                         (int)forecast->config->threads);
        size.memory += text->batches.max_tokens * lode_activations_per_token(&layer) *
                       (int64_t)sizeof(lode_real_t);
    }
    hold(forecast, rank, LODE_STAGE_COMPENSATE, size.memory);
    return LODE_OK;
}

static void set_peak(lode_forecast_rank_t *rank) {
    rank->peak = (lode_forecast_memory_t){0};
    for (int s = 0; s < LODE_STAGE_COUNT; s++) {
        const lode_forecast_memory_t *memory = &rank->memory[s];
        rank->peak.least = max2(rank->peak.least, memory->least);
        rank->peak.all = max2(rank->peak.all, memory->all);
        rank->peak.used = max2(rank->peak.used, memory->used);
        rank->peak.process = max2(rank->peak.process, memory->process);
    }
}

/* The text that is trained on, read whole by the rank that cuts it. */
static int64_t text_bytes(const lode_forecast_t *forecast) {
    return forecast->texts.train_bytes;
}

static lode_status_t rank_memory(lode_forecast_t *forecast, lode_forecast_rank_t *rank,
                                 int64_t scratch[LODE_STAGE_COUNT]) {
    lode_stage_size_t size;
    const int64_t ids = lode_forecast_ids(&forecast->texts) * (int64_t)sizeof(int32_t);
    for (int s = 0; s < LODE_STAGE_COUNT; s++)
        rank->memory[s] = (lode_forecast_memory_t){0};
    for (int s = 0; s < LODE_STAGE_COUNT; s++)
        if (forecast->stage[s].wanted && s != LODE_STAGE_ACCUMULATE)
            hold(forecast, rank, (lode_stage_t)s, forecast->model.architecture.vocab * TOKEN_BYTES);
    /* Ids twice: as they come, and as they are collected. */
    hold(forecast, rank, LODE_STAGE_TOKENIZE,
         forecast->model.architecture.vocab * TOKEN_BYTES + 2 * ids + text_bytes(forecast) +
             forecast->texts.train_blocks * forecast->config->train.length *
                 (int64_t)sizeof(int32_t));
    if (forecast->stage[LODE_STAGE_TOKENIZER].wanted)
        /* Beside the text there is the file that it comes of, and when that is gone the training.
         */
        hold(forecast, rank, LODE_STAGE_TOKENIZER,
             text_bytes(forecast) + max2(text_bytes(forecast), forecast->texts.tokenizer_bytes));
    if (forecast->scratch)
        return LODE_OK;
    LODE_TRY(statistics(forecast, rank, &scratch[LODE_STAGE_CALIBRATE]));
    LODE_TRY(lode_classify_size(&size, &forecast->run, forecast->texts.calibration.sequences,
                                forecast->texts.kept_tokens));
    hold(forecast, rank, LODE_STAGE_CLASSIFY, size.memory);
    if (forecast->stage[LODE_STAGE_SUPERWEIGHT].wanted)
        LODE_TRY(superweight(forecast, rank, &scratch[LODE_STAGE_SUPERWEIGHT]));
    LODE_TRY(matrices(forecast, rank));
    if (forecast->stage[LODE_STAGE_QUANTIZE].wanted)
        LODE_TRY(quantize(forecast, rank, &scratch[LODE_STAGE_QUANTIZE]));
    LODE_TRY(evaluate(forecast, rank, &scratch[LODE_STAGE_EVALUATE]));
    if (forecast->stage[LODE_STAGE_AUDIT].wanted)
        LODE_TRY(audit(forecast, rank, &scratch[LODE_STAGE_AUDIT]));
    if (forecast->stage[LODE_STAGE_PROBE].wanted)
        LODE_TRY(probe(forecast, rank, &scratch[LODE_STAGE_PROBE]));
    if (forecast->stage[LODE_STAGE_EXPORT].wanted)
        hold(forecast, rank, LODE_STAGE_EXPORT, INT64_C(3) << 22);
    return LODE_OK;
}

lode_status_t lode_forecast_memory(lode_forecast_t *forecast) {
    memset(forecast->spilled, 0, sizeof forecast->spilled);
    for (int s = 0; s < forecast->stages; s++) {
        int64_t own[LODE_STAGE_COUNT] = {0};
        LODE_TRY(rank_memory(forecast, &forecast->rank[s], own));
        for (int stage = 0; stage < LODE_STAGE_COUNT; stage++)
            forecast->spilled[stage] += own[stage] * forecast->replicas;
    }
    if (forecast->stage[LODE_STAGE_TRAIN].wanted)
        LODE_TRY(lode_forecast_train_memory(forecast));
    for (int s = 0; s < forecast->stages; s++)
        set_peak(&forecast->rank[s]);
    return LODE_OK;
}

/* --- nodes, and how many ranks --------------------------------------------------------------- */

int64_t lode_forecast_setting(const lode_forecast_memory_t *memory, int64_t bytes) {
    return bytes - memory->process + memory->idle;
}

bool lode_forecast_fits(const lode_forecast_t *forecast) {
    for (int s = 0; s < forecast->stages; s++)
        for (int stage = 0; stage < LODE_STAGE_COUNT; stage++) {
            const lode_forecast_memory_t *memory = &forecast->rank[s].memory[stage];
            if (lode_forecast_budgeted((lode_stage_t)stage) &&
                lode_forecast_setting(memory, memory->least) > forecast->config->memory)
                return false;
        }
    return true;
}

bool lode_forecast_budgeted(lode_stage_t stage) {
    return stage != LODE_STAGE_TOKENIZER && stage != LODE_STAGE_TOKENIZE &&
           stage != LODE_STAGE_CLASSIFY && stage != LODE_STAGE_EXPORT;
}

lode_forecast_node_t lode_forecast_node(const lode_forecast_t *forecast, int per_node) {
    lode_forecast_node_t most = {0};
    const int working = forecast->replicas * forecast->stages;
    for (int first = 0; first < working; first += per_node) {
        lode_forecast_node_t node = {0};
        for (int r = first; r < first + per_node && r < working; r++) {
            const lode_forecast_rank_t *rank = &forecast->rank[r % forecast->stages];
            node.private_bytes += rank->peak.used;
            /* Replicas on a node share the pages of their weights. */
            if (r < first + forecast->stages)
                node.weights += rank->weights;
        }
        if (node.private_bytes + node.weights > most.private_bytes + most.weights)
            most = node;
    }
    return most;
}

lode_status_t lode_forecast_fewest(int *ranks, const lode_forecast_t *forecast, int64_t node_memory,
                                   int per_node, int most) {
    lode_forecast_t trial = *forecast; /* what is not laid out anew stays borrowed */
    lode_status_t status = LODE_OK;
    trial.rank = NULL;
    *ranks = 0;
    for (int count = 1; count <= most && *ranks == 0 && status == LODE_OK; count++) {
        status = lode_forecast_layout(&trial, count);
        if (status == LODE_OK)
            status = lode_forecast_memory(&trial);
        if (status != LODE_OK || !lode_forecast_fits(&trial))
            continue;
        const lode_forecast_node_t node = lode_forecast_node(&trial, per_node > 0 ? per_node : 1);
        if (node_memory == 0 || node.private_bytes + node.weights <= node_memory)
            *ranks = count;
    }
    lode_forecast_layout_free(&trial);
    return status;
}
