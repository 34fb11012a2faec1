#include <string.h>

#include "accumulate/accumulate.h"
#include "calibrate/calibrate.h"
#include "classify/classify.h"
#include "compensate/compensate.h"
#include "moments/moments.h"
#include "common/variants.h"
#include "plan/internal.h"
#include "prune/prune.h"
#include "score/mask.h"
#include "spectra/spectra.h"
#include "train/train.h"

/* What lies beside the weights of a quantized folder whose layers have m channels: a scale and a
 * minimum a block, and codes where they are asked for. */
static int64_t beside_bytes(const lode_forecast_t *forecast, const lode_variant_t *variant,
                            const lode_config_export_t *entry, int64_t m) {
    lode_architecture_t a = forecast->model.architecture;
    const lode_family_t *family = lode_family(a.model_type);
    const lode_codec_t codec = {.bits = variant->bits, .granularity = variant->granularity};
    int64_t bytes = 0;
    a.intermediate = m;
    for (int which = 0; which < LODE_MATRICES; which++) {
        const lode_role_t role = lode_matrix_role((lode_layer_matrix_t)which);
        const int64_t out = lode_family_extent(&a, family->tensors[role].shape[0]),
                      in = lode_family_extent(&a, family->tensors[role].shape[1]);
        const bool ffn = which >= LODE_MATRIX_GATE;
        if (!lode_family_has(&a, role) ||
            (!ffn && forecast->config->quantize.tensors == LODE_QUANTIZED_FFN))
            continue;
        bytes += 8 * lode_codec_blocks(&codec, out, in) + (entry->codes ? out * in : 0);
    }
    return a.layers * bytes;
}

/* The folder of an entry: what its variant keeps of the weights, and what lies beside. */
static lode_status_t folder_bytes(int64_t *bytes, const lode_forecast_t *forecast,
                                  const lode_config_export_t *entry) {
    const lode_architecture_t *a = &forecast->model.architecture;
    const int64_t m = a->intermediate;
    const double channel = (double)(a->layers * (a->gated ? 3 : 2) * a->hidden) *
                           (double)lode_dtype_size(forecast->model.dtype);
    lode_variant_t *variants;
    int64_t count;
    *bytes = forecast->model.bytes;
    LODE_TRY(lode_variants_list(&variants, &count, forecast->config));
    for (int64_t v = 0; v < count; v++) {
        if (strcmp(variants[v].name, entry->variant) != 0)
            continue;
        const int64_t removed = lode_mask_removed(lode_variants_sparsity(variants, v), m);
        if (entry->layout != LODE_EXPORT_PADDED)
            *bytes -= (int64_t)((double)removed * channel);
        if (variants[v].quantized)
            *bytes += beside_bytes(forecast, &variants[v], entry, m - removed);
    }
    lode_variants_free(&variants, count);
    return LODE_OK;
}

static lode_status_t export_bytes(lode_forecast_t *forecast) {
    const lode_config_t *config = forecast->config;
    forecast->exports = 0;
    for (int64_t i = 0; i < config->export_count; i++) {
        int64_t bytes;
        LODE_TRY(folder_bytes(&bytes, forecast, &config->exports[i]));
        forecast->exports += bytes;
    }
    return LODE_OK;
}

/* Prompts, and texts and words of stopword probabilities: ids and offsets. */
static lode_status_t count_superweight(lode_store_t *store, const lode_forecast_texts_t *texts) {
    const lode_forecast_text_t *of[] = {&texts->prompts, &texts->stopwords};
    const int64_t words = 8 * texts->words; /* tokens, offsets, and the words themselves */
    for (int i = 0; i < 2; i++) {
        const int64_t offsets = of[i]->sequences + 1;
        if (of[i]->sequences == 0)
            continue;
        LODE_TRY(lode_store_dataset(store, "ids", LODE_TYPE_I32, 1, &of[i]->tokens, false));
        LODE_TRY(lode_store_dataset(store, "offsets", LODE_TYPE_I64, 1, &offsets, false));
    }
    return words > 0 ? lode_store_dataset(store, "words", LODE_TYPE_I32, 1, &words, false)
                     : LODE_OK;
}

/* tokenize.h5 and export.h5, whose datasets have no more to them than their extents. */
static lode_status_t count_ids(lode_forecast_t *forecast, int64_t *bytes) {
    const lode_forecast_texts_t *texts = &forecast->texts;
    const int64_t calibration[] = {texts->calibration.ids, texts->calibration.sequences + 1};
    const int64_t length = forecast->config->train.length;
    const int64_t training[] = {texts->train_blocks * length, texts->validation_blocks * length};
    lode_store_t *store;
    LODE_TRY(lode_store_tally_create(&store));
    lode_status_t status =
        lode_store_dataset(store, "ids", LODE_TYPE_I32, 1, &calibration[0], false);
    if (status == LODE_OK)
        status = lode_store_dataset(store, "offsets", LODE_TYPE_I64, 1, &calibration[1], false);
    for (int i = 0; i < 2 && status == LODE_OK; i++)
        if (training[i] > 0)
            status = lode_store_dataset(store, i == 0 ? "train" : "validation", LODE_TYPE_I32, 1,
                                        &training[i], false);
    if (status == LODE_OK && texts->probe_ids > 0)
        status = lode_store_dataset(store, "probe", LODE_TYPE_I32, 1, &texts->probe_ids, false);
    if (status == LODE_OK)
        status = count_superweight(store, texts);
    for (int64_t i = 0; i < texts->count && status == LODE_OK; i++) {
        const lode_forecast_text_t *text = &texts->evaluation[i];
        /* Of a task also offsets, context, first, gold and characters. */
        const int64_t requests = text->items > 0 ? text->sequences : 0;
        const int64_t items[] = {text->ids, 4 * requests + 3 * text->items + 8};
        status = lode_store_dataset(store, "ids", LODE_TYPE_I32, 1, &items[0], false);
        if (status == LODE_OK)
            status = lode_store_dataset(store, "rest", LODE_TYPE_I32, 1, &items[1], false);
    }
    *bytes = lode_store_tally_end(&store);
    return status;
}

/* tokenizer.h5: a count for each merge, of which there are fewer than tokens. */
static lode_status_t count_merges(const lode_forecast_t *forecast, int64_t *bytes) {
    lode_store_t *store;
    LODE_TRY(lode_store_tally_create(&store));
    const lode_status_t status = lode_store_dataset(
        store, "count", LODE_TYPE_I64, 1, &forecast->config->train.tokenizer.vocabulary, false);
    *bytes = lode_store_tally_end(&store);
    return status;
}

static lode_status_t count_widths(const lode_forecast_t *forecast, int64_t *bytes) {
    const int64_t layers = forecast->model.architecture.layers;
    lode_store_t *store;
    LODE_TRY(lode_store_tally_create(&store));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < forecast->config->export_count && status == LODE_OK; i++)
        status = lode_store_dataset(store, "widths", LODE_TYPE_I64, 1, &layers, false);
    *bytes = lode_store_tally_end(&store);
    return status;
}

/* --- one stage after the other --------------------------------------------------------------- */

static lode_status_t size_of(lode_stage_size_t *size, lode_forecast_t *forecast,
                             lode_stage_t stage) {
    const lode_forecast_text_t *text = &forecast->texts.calibration;
    lode_run_t *run = &forecast->run;
    const int ranks = forecast->ranks;
    lode_probe_size_t probe = {0};
    lode_evaluate_extents_t extents;
    lode_layout_t layout;
    lode_status_t status = LODE_OK;
    *size = (lode_stage_size_t){0};
    switch (stage) {
    case LODE_STAGE_TOKENIZE:
        return count_ids(forecast, &size->file);
    case LODE_STAGE_CALIBRATE:
        return lode_calibrate_size(size, run, &text->text);
    case LODE_STAGE_ACCUMULATE:
        return lode_accumulate_size(size, run, &text->text);
    case LODE_STAGE_MOMENTS:
        return lode_moments_size(size, run, ranks, &text->batches);
    case LODE_STAGE_CLASSIFY:
        return lode_classify_size(size, run, text->sequences, forecast->texts.kept_tokens);
    case LODE_STAGE_SPECTRA:
        return lode_spectra_size(size, run, ranks, forecast->texts.kept_tokens);
    case LODE_STAGE_PRUNE:
        return lode_prune_size(size, run, ranks);
    case LODE_STAGE_COMPENSATE:
        return lode_compensate_size(size, run, ranks, text->tokens, text->batches.max_tokens);
    case LODE_STAGE_EVALUATE:
        LODE_TRY(lode_forecast_extents_create(&extents, forecast));
        status = lode_evaluate_size(size, run, &extents, 0);
        lode_forecast_extents_free(&extents);
        return status;
    case LODE_STAGE_PROBE:
        status = lode_forecast_probe(&probe, forecast, &forecast->rank[0].layout);
        *size = probe.size;
        return status;
    case LODE_STAGE_EXPORT:
        return count_widths(forecast, &size->file);
    case LODE_STAGE_SUPERWEIGHT:
        return lode_forecast_superweight(size, forecast);
    case LODE_STAGE_QUANTIZE:
        return lode_forecast_quantize(size, forecast, &forecast->rank[0].layout);
    case LODE_STAGE_AUDIT:
        return lode_forecast_audit(size, forecast);
    case LODE_STAGE_TOKENIZER:
        return count_merges(forecast, &size->file);
    case LODE_STAGE_TRAIN:
        LODE_TRY(lode_train_layout(&layout, run, forecast->texts.train_blocks, ranks, 0));
        return lode_forecast_train(size, &forecast->checkpoints, forecast, &layout);
    case LODE_STAGE_COUNT:
        break;
    }
    return LODE_OK;
}

lode_status_t lode_forecast_disk(lode_forecast_t *forecast) {
    forecast->disk = forecast->temporary = forecast->checkpoints = 0;
    for (int s = 0; s < LODE_STAGE_COUNT; s++) {
        lode_forecast_stage_t *stage = &forecast->stage[s];
        lode_stage_size_t size;
        if (!stage->wanted)
            continue;
        LODE_TRY(size_of(&size, forecast, (lode_stage_t)s));
        stage->file = size.file;
        stage->scratch = size.scratch;
        stage->scratch += forecast->spilled[s];
        forecast->disk += stage->file;
        if (stage->scratch > forecast->temporary)
            forecast->temporary = stage->scratch;
    }
    /* One pass makes the statistics and what moments starts from. */
    const int64_t both =
        forecast->stage[LODE_STAGE_CALIBRATE].scratch + forecast->stage[LODE_STAGE_MOMENTS].scratch;
    if (both > forecast->temporary)
        forecast->temporary = both;
    forecast->exports = 0;
    return forecast->scratch ? LODE_OK : export_bytes(forecast);
}
