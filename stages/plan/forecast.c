#include "plan/forecast.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "plan/internal.h"
#include "probe/probe.h"
#include "train/train.h"
#include "common/variants.h"

/* --- the layout ------------------------------------------------------------------------------ */

/* That of the stages that run on weights; where there are none, that of training. */
static lode_status_t lay_out(lode_layout_t *layout, const lode_forecast_t *forecast, int ranks,
                             int rank) {
    const lode_config_t *config = forecast->config;
    const lode_architecture_t *architecture = &forecast->model.architecture;
    if (forecast->scratch)
        return lode_train_layout(layout, &forecast->run, forecast->texts.train_blocks, ranks, rank);
    return lode_layout_create(layout, architecture, config->calibration.max_length, ranks, rank,
                              config->replicas);
}

lode_status_t lode_forecast_layout(lode_forecast_t *forecast, int ranks) {
    lode_layout_t first;
    lode_forecast_layout_free(forecast);
    LODE_TRY(lay_out(&first, forecast, ranks, 0));
    forecast->ranks = ranks;
    forecast->replicas = first.replicas;
    forecast->stages = first.stages;
    forecast->idle = ranks - first.replicas * first.stages;
    LODE_TRY(LODE_NEW(&forecast->rank, first.stages, "ranks"));
    for (int s = 0; s < first.stages; s++) {
        LODE_TRY(lay_out(&forecast->rank[s].layout, forecast, ranks, s));
        if (!forecast->scratch)
            forecast->rank[s].weights =
                lode_forecast_weights(&forecast->model, &forecast->rank[s].layout);
    }
    forecast->run.layout = first;
    return LODE_OK;
}

void lode_forecast_layout_free(lode_forecast_t *forecast) {
    free(forecast->rank);
    forecast->rank = NULL;
}

/* --- helpers of its parts -------------------------------------------------------------------- */

lode_status_t lode_forecast_extents_create(lode_evaluate_extents_t *extents,
                                           const lode_forecast_t *forecast) {
    const lode_forecast_texts_t *texts = &forecast->texts;
    const int64_t perplexities = forecast->config->evaluate.perplexity_count;
    int64_t *numbers;
    *extents = (lode_evaluate_extents_t){0};
    LODE_TRY(LODE_NEW(&numbers, 1 + 3 * texts->count, "data sets"));
    for (int64_t i = 0; i < texts->count; i++) {
        numbers[i] = texts->evaluation[i].targets;
        numbers[texts->count + i] = texts->evaluation[i].items;
        numbers[2 * texts->count + i] = texts->evaluation[i].width;
    }
    extents->targets = numbers;
    extents->items = numbers + texts->count + perplexities;
    extents->width = numbers + 2 * texts->count + perplexities;
    extents->storage = numbers;
    return LODE_OK;
}

void lode_forecast_extents_free(lode_evaluate_extents_t *extents) {
    free(extents->storage);
    *extents = (lode_evaluate_extents_t){0};
}

lode_status_t lode_forecast_probe(lode_probe_size_t *size, lode_forecast_t *forecast,
                                  const lode_layout_t *layout) {
    const lode_config_perplexity_t *entry = NULL;
    LODE_TRY(lode_probe_perplexity(&entry, forecast->config));
    lode_run_t run = forecast->run;
    run.layout = *layout;
    int64_t windows = 0, length = 0;
    if (entry) {
        const lode_forecast_text_t *text =
            &forecast->texts.evaluation[entry - forecast->config->evaluate.perplexity];
        windows = text->sequences;
        length = text->longest;
    }
    return lode_probe_measure_size(size, &run, windows, length);
}

/* --- making it ------------------------------------------------------------------------------- */

const char *lode_forecast_source(const lode_config_t *config, const lode_config_model_t *entry) {
    const lode_config_model_t *base = lode_config_trained_from(config, entry);
    return base ? base->path : entry->path;
}

static lode_status_t run_folder(char **folder, const lode_config_t *config,
                                const lode_config_model_t *entry, const char *point) {
    lode_buffer_t text = {0};
    const lode_status_t status =
        lode_buffer_printf(&text, "%s/%s%s%s/%s", config->results, config->name, *point ? "/" : "",
                           point, entry->name);
    *folder = text.data;
    return status;
}

static lode_status_t count_variants(lode_forecast_t *forecast) {
    lode_variant_t *variants;
    LODE_TRY(lode_variants_list(&variants, &forecast->variants, forecast->config));
    for (int64_t v = 0; v < forecast->variants; v++) {
        forecast->pruned += variants[v].pruned;
        forecast->quantized += variants[v].quantized;
    }
    lode_variants_free(&variants, forecast->variants);
    return LODE_OK;
}

lode_status_t lode_forecast_make(lode_forecast_t *forecast, const lode_config_t *config,
                                 const lode_config_model_t *entry, const char *point,
                                 const lode_machine_t *machine, int ranks, bool standard) {
    static lode_comm_t alone; /* borrowed by every forecast's run */
    *forecast = (lode_forecast_t){.config = config,
                                  .entry = entry,
                                  .machine = machine,
                                  .scratch = lode_config_is_scratch(config, entry),
                                  .copies = 1};
    LODE_TRY(lode_forecast_model(&forecast->model, lode_forecast_source(config, entry)));
    if (lode_config_trained_from(config, entry))
        lode_forecast_retype(&forecast->model, config->train.dtype == LODE_TRAIN_F32
                                                   ? LODE_DTYPE_F32
                                                   : LODE_DTYPE_BF16);
    const lode_architecture_t *architecture = &forecast->model.architecture;
    LODE_TRY(lode_config_check_model(config, architecture->max_positions, architecture->hidden,
                                     entry->name));
    if (lode_config_is_trained(config, entry))
        LODE_TRY(lode_config_check_training(config, architecture->max_positions,
                                            architecture->layers, architecture->vocab,
                                            entry->name));
    alone = lode_comm_alone();
    forecast->run = (lode_run_t){.comm = &alone,
                                 .config = config,
                                 .model = entry,
                                 .point = point,
                                 .architecture = *architecture};
    LODE_TRY(run_folder(&forecast->run.folder, config, entry, point));
    for (int s = 0; s < LODE_STAGE_COUNT; s++)
        forecast->stage[s].wanted = lode_stage_wanted_of(config, entry, (lode_stage_t)s);
    LODE_TRY(count_variants(forecast));
    LODE_TRY(lode_forecast_texts(&forecast->texts, &forecast->run, standard));
    LODE_TRY(lode_forecast_layout(forecast, ranks));
    LODE_TRY(lode_forecast_memory(forecast));
    LODE_TRY(lode_forecast_disk(forecast));
    return lode_forecast_time(forecast);
}

void lode_forecast_free(lode_forecast_t *forecast) {
    lode_forecast_layout_free(forecast);
    lode_forecast_texts_free(&forecast->texts);
    free(forecast->run.folder);
    *forecast = (lode_forecast_t){0};
}
