#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "plan/internal.h"
#include "train/train.h"
#include "train/work.h"
#include "training/trainer.h"
#include "transformer/pass.h"
#include "transformer/simulate.h"

/* Bytes a second between replicas, and seconds of a message. */
static const double EXCHANGE_RATE = 3e9, EXCHANGE_SECONDS = 2e-5;
/* Bytes of AdamW a parameter: four arrays read, three of them written. */
enum { OPTIMIZER_BYTES = 28 };

static int64_t max2(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static lode_status_t lay_out(lode_layout_t *layout, const lode_forecast_t *forecast, int rank) {
    return lode_train_layout(layout, &forecast->run, forecast->texts.train_blocks, forecast->ranks,
                             rank);
}

/* What the stage allows for the pieces of a folder that it writes. */
enum { FOLDER_BYTES = 1 << 23 };

/* Of that, what tensors smaller than a piece leave untouched. */
static int64_t untouched(const lode_architecture_t *a) {
    const int64_t lines = max2(a->vocab, 2 * a->intermediate);
    return max2(0, FOLDER_BYTES - lines * a->hidden * (int64_t)sizeof(float));
}

/* --- memory ----------------------------------------------------------------------------------- */

lode_status_t lode_forecast_train(lode_stage_size_t *size, int64_t *folders,
                                  lode_forecast_t *forecast, const lode_layout_t *layout) {
    return lode_train_size(size, folders, &forecast->run, layout, forecast->texts.train_blocks);
}

/* The memory of the rank of `layout`, and what its pass keeps in a scratch file. */
static lode_status_t rank_memory(lode_forecast_memory_t *memory, int64_t *spilled,
                                 lode_forecast_t *forecast, const lode_layout_t *layout) {
    const lode_config_t *config = forecast->config;
    const int64_t rows = lode_config_train_rows(config);
    const lode_pass_size_t size = {.architecture = &forecast->model.architecture,
                                   .layout = layout,
                                   .tokens = rows * config->train.length,
                                   .batches = lode_config_train_batches(config),
                                   .variants = 1,
                                   .backward = true};
    const int64_t process = lode_forecast_process(forecast, LODE_STAGE_TRAIN);
    lode_stage_size_t stage;
    lode_pass_memory_t needs;
    lode_pass_choice_t choice;
    const int64_t idle = untouched(&forecast->model.architecture);
    int64_t folders;
    LODE_TRY(lode_forecast_train(&stage, &folders, forecast, layout));
    const int64_t beside = process + stage.memory - idle;
    LODE_TRY(lode_pass_memory(&size, &needs));
    LODE_TRY(lode_pass_choose(&size, config->memory - stage.memory, &choice));
    *memory = (lode_forecast_memory_t){.least = beside + needs.least,
                                       .all = beside + needs.all,
                                       .used = beside + choice.memory,
                                       .process = process,
                                       .idle = idle};
    *spilled = choice.scratch;
    return LODE_OK;
}

/* Training lays its ranks out in its own way, so a row of ranks shows the most of any of them. */
lode_status_t lode_forecast_train_memory(lode_forecast_t *forecast) {
    lode_layout_t first;
    LODE_TRY(lay_out(&first, forecast, 0));
    const int working = first.stages * first.replicas;
    for (int s = 0; s < first.stages; s++) {
        lode_forecast_memory_t memory;
        lode_layout_t layout;
        int64_t spilled;
        LODE_TRY(lay_out(&layout, forecast, s));
        LODE_TRY(rank_memory(&memory, &spilled, forecast, &layout));
        forecast->spilled[LODE_STAGE_TRAIN] += spilled * first.replicas;
        for (int r = s; r < working; r += first.stages) {
            lode_forecast_memory_t *of =
                &forecast->rank[r % forecast->stages].memory[LODE_STAGE_TRAIN];
            *of = memory.used > of->used ? memory : *of;
        }
    }
    return LODE_OK;
}

/* --- time ------------------------------------------------------------------------------------- */

/* Operations a token of a layer's products and of its scores, forward. */
typedef struct operations {
    double matrices, scores;
} operations_t;

static operations_t operations_of(const lode_forecast_t *forecast, int64_t layer) {
    const lode_architecture_t *a = &forecast->model.architecture;
    const double matrices = 2 * lode_forecast_matrices(a, 1);
    const int64_t context = (forecast->config->train.length + 1) / 2;
    return (operations_t){.matrices = matrices,
                          .scores =
                              (double)lode_architecture_layer_flops(a, layer, context) - matrices};
}

/* Seconds a token of the rank of `layout`, forward and back. */
static void token_seconds(double *forward, double *backward, const lode_forecast_t *forecast,
                          const lode_layout_t *layout) {
    const lode_machine_t *machine = forecast->machine;
    const double head = (double)lode_architecture_head_flops(&forecast->model.architecture);
    *forward = *backward = 0;
    for (int64_t l = layout->first_layer; l < layout->layer_end; l++) {
        const operations_t o = operations_of(forecast, l);
        const double there = (o.matrices + o.scores) / machine->forward;
        *forward += there;
        *backward += fmax(there, (3 * o.matrices + 3.5 * o.scores) / machine->training - there);
    }
    if (layout->head)
        *forward += 3 * head / machine->head_backward;
}

/* The gradients of a rank's parameters and their update, and what replicas exchange for it. */
static lode_status_t update_seconds(double *seconds, const lode_forecast_t *forecast,
                                    const lode_layout_t *layout) {
    const double replicas = (double)layout->replicas;
    int64_t elements, gradients;
    LODE_TRY(lode_parameters_size(&forecast->model.architecture, layout, &elements, &gradients));
    const double bytes = (double)sizeof(float) * (double)elements;
    *seconds = OPTIMIZER_BYTES * (double)elements / replicas / forecast->machine->optimizer +
               2 * bytes * (replicas - 1) / replicas / EXCHANGE_RATE +
               bytes / forecast->machine->optimizer; /* the norm */
    return LODE_OK;
}

/* Seconds of a step, and of a validation of as many sequences, over the stages of a replica. */
static lode_status_t step_seconds(double *step, double *forward_only, double *bubble,
                                  const lode_forecast_t *forecast, const lode_layout_t *first) {
    const lode_config_t *config = forecast->config;
    const double tokens = (double)(lode_config_train_rows(config) * config->train.length);
    double *times, most = 0;
    lode_simulated_t both, alone;
    LODE_TRY(LODE_NEW(&times, 2 * first->stages, "times"));
    double *backward = times + first->stages;
    lode_status_t status = LODE_OK;
    for (int s = 0; s < first->stages && status == LODE_OK; s++) {
        lode_layout_t layout;
        double update = 0;
        status = lay_out(&layout, forecast, s);
        if (status != LODE_OK)
            break;
        token_seconds(&times[s], &backward[s], forecast, &layout);
        times[s] *= tokens;
        backward[s] *= tokens;
        status = update_seconds(&update, forecast, &layout);
        most = fmax(most, update);
    }
    lode_simulation_t simulation = {
        .stages = first->stages,
        .batches = (lode_config_train_batches(config) + first->replicas - 1) / first->replicas,
        .variants = 1,
        .forward = times,
        .backward = backward,
        .message = EXCHANGE_SECONDS + tokens * (double)forecast->model.architecture.hidden *
                                          (double)sizeof(float) / EXCHANGE_RATE};
    if (status == LODE_OK)
        status = lode_simulate(&both, NULL, &simulation);
    simulation.backward = NULL;
    if (status == LODE_OK)
        status = lode_simulate(&alone, NULL, &simulation);
    free(times);
    LODE_TRY(status);
    *step = both.makespan + most;
    *forward_only = alone.makespan;
    *bubble = both.bubble;
    return LODE_OK;
}

lode_status_t lode_forecast_train_time(lode_forecast_t *forecast) {
    const lode_config_train_t *train = &forecast->config->train;
    lode_forecast_stage_t *stage = &forecast->stage[LODE_STAGE_TRAIN];
    const double steps = (double)train->steps;
    const int64_t every = train->validation.every;
    const double validations = forecast->texts.validation_blocks > 0
                                   ? 2 + (every > 0 ? floor((steps - 1) / (double)every) : 0)
                                   : 0;
    double step, forward;
    lode_layout_t first;
    LODE_TRY(lay_out(&first, forecast, 0));
    LODE_TRY(step_seconds(&step, &forward, &stage->bubble, forecast, &first));
    const double saves = floor(steps / (double)max2(1, train->save));
    /* Two states are on disk, one of them in place of scratch where it is kept; what passes spill
     * is added to that elsewhere. */
    const double states = train->keep_state ? 1 : 2;
    const double written = saves * (double)stage->scratch / states + (double)forecast->checkpoints;
    stage->tokens = train->steps * train->batch * train->length;
    stage->seconds =
        steps * step +
        validations * forward * (double)forecast->texts.validation_blocks / (double)train->batch +
        written / forecast->machine->disk;
    return LODE_OK;
}
