#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "audit/audit.h"
#include "common/variants.h"
#include "plan/internal.h"
#include "quantize/quantize.h"
#include "superweight/superweight.h"

/* A weight's share of the machine's vector rate, in elements: to fit its block, to clip it before
 * that, to look at it. Measured. */
static const double FITTED = 1.25, CLIPPED = 2.5, LOOKED_AT = 0.5;
/* The most super weights of any published model (arXiv:2411.07191, table 2). */
enum { PUBLISHED_MOST = 6 };

/* Seconds to do something with each weight of the rank that has most layers, where this share of
 * channels is kept. */
static double look(const lode_forecast_t *forecast, double kept, double share) {
    return share * lode_forecast_most_layers(forecast) *
           lode_forecast_matrices(&forecast->model.architecture, kept) / forecast->machine->vector;
}

/* --- what they take -------------------------------------------------------------------------- */

lode_status_t lode_forecast_superweight(lode_stage_size_t *size, lode_forecast_t *forecast) {
    const lode_forecast_texts_t *texts = &forecast->texts;
    const int64_t prompts = texts->prompts.batches.max_tokens,
                  stopwords = texts->stopwords.batches.max_tokens;
    return lode_superweight_size(size, &forecast->run, texts->prompts.sequences,
                                 prompts > stopwords ? prompts : stopwords, texts->words,
                                 texts->stopwords.sequences);
}

lode_status_t lode_forecast_quantize(lode_stage_size_t *size, lode_forecast_t *forecast,
                                     const lode_layout_t *layout) {
    return lode_quantize_size(size, &forecast->run, &forecast->texts.calibration.text,
                              layout->layer_end - layout->first_layer);
}

lode_status_t lode_forecast_audit(lode_stage_size_t *size, lode_forecast_t *forecast) {
    lode_evaluate_extents_t extents;
    LODE_TRY(lode_forecast_extents_create(&extents, forecast));
    const lode_status_t status =
        lode_audit_size(size, &forecast->run, &extents, forecast->texts.calibration.sequences);
    lode_forecast_extents_free(&extents);
    return status;
}

/* --- superweight ----------------------------------------------------------------------------- */

static const lode_forecast_version_t whole[] = {{.kept = 1}, {.kept = 1}, {.kept = 1}};

/* A search of one model, by that stage. A pass over a prompt is little more than one reading of all
 * weights, rank after rank. */
static lode_status_t find_superweights(lode_forecast_t *forecast, lode_stage_t stage) {
    const int64_t limit = forecast->config->superweight.limit;
    const int64_t found = limit < PUBLISHED_MOST ? limit : PUBLISHED_MOST;
    const lode_architecture_t *a = &forecast->model.architecture;
    for (int64_t i = 0; i <= found; i++)
        LODE_TRY(lode_forecast_forward(forecast, stage, &forecast->texts.prompts, whole, 1));
    forecast->stage[stage].seconds += (double)(1 + found) * (double)a->layers *
                                      lode_forecast_matrices(a, 1) / forecast->machine->vector;
    return LODE_OK;
}

static lode_status_t superweight(lode_forecast_t *forecast) {
    const lode_config_superweight_t *config = &forecast->config->superweight;
    lode_forecast_stage_t *stage = &forecast->stage[LODE_STAGE_SUPERWEIGHT];
    LODE_TRY(find_superweights(forecast, LODE_STAGE_SUPERWEIGHT));
    for (int64_t i = 0; i < config->experiment_count; i++)
        if (config->experiments[i] == LODE_EXPERIMENT_OTHERS_TENSOR ||
            config->experiments[i] == LODE_EXPERIMENT_OTHERS_GLOBAL)
            stage->seconds += look(forecast, 1, LOOKED_AT);
    return lode_forecast_forward(forecast, LODE_STAGE_SUPERWEIGHT, &forecast->texts.stopwords,
                                 whole, 3); /* as it is, without them, with their products */
}

/* --- quantize -------------------------------------------------------------------------------- */

/* Forward passes over the first calibration sequences that look for the best clip: each candidate
 * multiplies all inputs once. */
static lode_status_t search(lode_forecast_t *forecast, const lode_forecast_version_t *version) {
    const lode_config_quantize_t *config = &forecast->config->quantize;
    const lode_forecast_text_t *calibration = &forecast->texts.calibration;
    const int64_t sequences =
        config->sequences < calibration->sequences ? config->sequences : calibration->sequences;
    lode_forecast_text_t text = {0};
    lode_status_t status =
        lode_forecast_even(&text, sequences, calibration->longest, forecast->config->micro_batch);
    for (int64_t i = 0; i <= config->z_count && status == LODE_OK; i++)
        status = lode_forecast_forward(forecast, LODE_STAGE_QUANTIZE, &text, version, 1);
    lode_forecast_text_free(&text);
    return status;
}

static lode_status_t quantize(lode_forecast_t *forecast) {
    lode_forecast_stage_t *stage = &forecast->stage[LODE_STAGE_QUANTIZE];
    lode_forecast_version_t *versions;
    lode_variant_t *variants;
    int64_t count, variant_count;
    LODE_TRY(lode_forecast_versions(&versions, &count, forecast));
    lode_status_t status = lode_variants_list(&variants, &variant_count, forecast->config);
    for (int64_t v = 0; v < variant_count && status == LODE_OK; v++) {
        const bool clipped = variants[v].clip == LODE_CLIP_SEARCHED;
        if (!variants[v].quantized)
            continue;
        stage->seconds += look(forecast, versions[1 + v].kept, clipped ? CLIPPED : FITTED);
        if (clipped)
            status = search(forecast, &versions[1 + v]);
    }
    if (status == LODE_OK)
        lode_variants_free(&variants, variant_count);
    free(versions);
    return status;
}

/* --- audit ----------------------------------------------------------------------------------- */

/* Every folder is read and hashed, compared, searched, calibrated and evaluated; the original is
 * evaluated already. */
static lode_status_t audit(lode_forecast_t *forecast) {
    const lode_config_t *config = forecast->config;
    lode_forecast_stage_t *stage = &forecast->stage[LODE_STAGE_AUDIT];
    int64_t folders = 0;
    for (int64_t i = 0; i < config->audit.folder_count; i++) {
        const char *model = config->audit.folders[i].model;
        folders += !*model || strcmp(model, forecast->entry->name) == 0;
    }
    stage->seconds += (double)folders *
                      ((double)forecast->model.bytes / forecast->stages / forecast->machine->disk +
                       look(forecast, 1, 2 * LOOKED_AT));
    if (config->audit.loss_proxy)
        LODE_TRY(lode_forecast_statistics(forecast, LODE_STAGE_AUDIT, folders));
    for (int64_t f = 0; f < folders; f++) {
        if (forecast->stage[LODE_STAGE_SUPERWEIGHT].wanted)
            LODE_TRY(find_superweights(forecast, LODE_STAGE_AUDIT));
        for (int64_t i = 0; i < forecast->texts.count; i++)
            LODE_TRY(lode_forecast_forward(forecast, LODE_STAGE_AUDIT,
                                           &forecast->texts.evaluation[i], whole, 1));
    }
    return LODE_OK;
}

lode_status_t lode_forecast_weight_stages(lode_forecast_t *forecast) {
    if (forecast->stage[LODE_STAGE_SUPERWEIGHT].wanted)
        LODE_TRY(superweight(forecast));
    if (forecast->stage[LODE_STAGE_QUANTIZE].wanted)
        LODE_TRY(quantize(forecast));
    if (forecast->stage[LODE_STAGE_AUDIT].wanted)
        LODE_TRY(audit(forecast));
    return LODE_OK;
}
