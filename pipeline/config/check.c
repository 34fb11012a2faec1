/* What several keys, or keys and a model, must agree on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/decode.h"

/* --- keys together ---------------------------------------------------------------------- */

bool lode_config_measures(const lode_config_t *config) {
    return *config->calibration.corpus || *config->calibration.merged;
}

/* Whether models are trained from scratch, and nothing else is asked for but what has a default. */
static bool is_training_alone(const lode_config_t *config) {
    const lode_config_evaluate_t *evaluate = &config->evaluate;
    return config->train.steps > 0 && config->train.from == LODE_TRAIN_SCRATCH &&
           evaluate->perplexity_count == 0 && evaluate->task_count == 0 &&
           config->classify.spectra_count == 0 && config->superweight.prompt_count == 0 &&
           config->quantize.method_count == 0 && config->probe.check_count == 0 &&
           config->export_count == 0 && config->audit.folder_count == 0;
}

static lode_status_t check_calibration(const lode_config_t *config) {
    if (lode_config_measures(config) || is_training_alone(config))
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: calibration.corpus: required key is missing; text that channel "
                     "statistics are taken over (or give calibration.merged)",
                     lode_config_where(config, "calibration.corpus"));
}

static lode_status_t check_perplexities(const lode_config_t *config) {
    for (int64_t i = 0; i < config->evaluate.perplexity_count; i++) {
        const lode_config_perplexity_t *perplexity = &config->evaluate.perplexity[i];
        if (perplexity->protocol != LODE_PROTOCOL_LLAMA_CPP || perplexity->length >= 3)
            continue;
        char key[64];
        snprintf(key, sizeof key, "evaluate.perplexity.[%lld].length", (long long)i);
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: %s: %lld leaves protocol llama.cpp no target; it must be at least 3",
                         lode_config_where(config, key), key, (long long)perplexity->length);
    }
    return LODE_OK;
}

/* The protection of quantized variants that needs super weights, NULL for none. */
static const char *protecting(const lode_config_quantize_t *quantize) {
    for (int64_t i = 0; quantize->method_count > 0 && i < quantize->protection_count; i++)
        if (lode_protects_super_weight(quantize->protection[i]))
            return lode_protection_name(quantize->protection[i]);
    return NULL;
}

static const char *holding(const lode_config_quantize_t *quantize) {
    for (int64_t i = 0; quantize->method_count > 0 && i < quantize->activation_count; i++)
        if (lode_activations_quantized_held(quantize->activations[i]))
            return lode_activations_quantized_name(quantize->activations[i]);
    return NULL;
}

bool lode_config_quantizes_superweights(const lode_config_t *config) {
    return protecting(&config->quantize) || holding(&config->quantize);
}

bool lode_config_needs_superweights(const lode_config_t *config) {
    return config->superweight.experiment_count > 0 || lode_config_quantizes_superweights(config);
}

/* Whatever needs super weights needs prompts that show them. */
static lode_status_t check_prompts(const lode_config_t *config) {
    const lode_config_superweight_t *superweight = &config->superweight;
    const char *key = NULL, *value = NULL;
    if (superweight->prompt_count > 0)
        return LODE_OK;
    if (protecting(&config->quantize)) {
        key = "quantize.protection";
        value = protecting(&config->quantize);
    } else if (holding(&config->quantize)) {
        key = "quantize.activations";
        value = holding(&config->quantize);
    } else if (superweight->experiment_count > 0) {
        key = "superweight.experiments";
        value = lode_experiment_name(superweight->experiments[0]);
    } else if (*superweight->stopwords) {
        key = "superweight.stopwords";
        value = superweight->stopwords;
    } else if (*superweight->known) {
        key = "superweight.known";
        value = superweight->known;
    }
    if (!key)
        return LODE_OK;
    return lode_fail(
        LODE_ERR_CONFIG,
        "%s: %s: \"%s\" needs super weights, and superweight.prompts is empty, so none "
        "are looked for; give it a text, like superweight.prompts = [ \"Apple Inc. is "
        "a\" ]",
        lode_config_where(config, key), key, value);
}

static lode_status_t check_stopwords(const lode_config_t *config) {
    const lode_config_superweight_t *superweight = &config->superweight;
    if (*superweight->stopwords && !*superweight->corpus)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: superweight.stopwords: their probabilities need texts; set "
                         "superweight.corpus",
                         lode_config_where(config, "superweight.stopwords"));
    if (*superweight->corpus && !*superweight->stopwords)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: superweight.corpus: is for the probabilities of stopwords, and there "
                         "are none; set superweight.stopwords, or leave it out",
                         lode_config_where(config, "superweight.corpus"));
    return LODE_OK;
}

static bool has_model(const lode_config_t *config, const char *name) {
    for (int64_t i = 0; i < config->model_count; i++)
        if (strcmp(config->models[i].name, name) == 0)
            return true;
    return lode_training_names(config, name);
}

static lode_status_t fail_model(const lode_config_t *config, int64_t folder) {
    const char *name = config->audit.folders[folder].model, **names;
    char key[64];
    LODE_TRY(LODE_NEW(&names, config->model_count, "models"));
    for (int64_t i = 0; i < config->model_count; i++)
        names[i] = config->models[i].name;
    const char *near = lode_config_nearest(name, names, config->model_count);
    snprintf(key, sizeof key, "audit.folders.[%lld].model", (long long)folder);
    lode_status_t status;
    if (near)
        status =
            lode_fail(LODE_ERR_CONFIG, "%s: %s: there is no model \"%s\"; did you mean \"%s\"?",
                      lode_config_where(config, key), key, name, near);
    else
        status = lode_fail(LODE_ERR_CONFIG,
                           "%s: %s: there is no model \"%s\"; the first of models is \"%s\"",
                           lode_config_where(config, key), key, name, names[0]);
    free(names);
    return status;
}

static lode_status_t check_folders(const lode_config_t *config) {
    for (int64_t i = 0; i < config->audit.folder_count; i++) {
        const char *model = config->audit.folders[i].model;
        if (*model && !has_model(config, model))
            return fail_model(config, i);
    }
    return LODE_OK;
}

lode_status_t lode_decode_check(const lode_config_t *config) {
    LODE_TRY(lode_training_check(config));
    LODE_TRY(check_calibration(config));
    LODE_TRY(check_perplexities(config));
    LODE_TRY(check_prompts(config));
    LODE_TRY(check_stopwords(config));
    return check_folders(config);
}

/* --- what depends on a model ------------------------------------------------------------ */

static lode_status_t check_positions(const lode_config_t *config, const char *key, int64_t length,
                                     int64_t max_positions, const char *model_name) {
    if (length <= max_positions)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: %s: %lld is above the %lld positions of model %s "
                     "(max_position_embeddings); set it to %lld or less",
                     lode_config_where(config, key), key, (long long)length,
                     (long long)max_positions, model_name, (long long)max_positions);
}

lode_status_t lode_config_check_model(const lode_config_t *config, int64_t max_positions,
                                      int64_t hidden, const char *model_name) {
    if (!lode_config_measures(config))
        return LODE_OK;
    LODE_TRY(check_positions(config, "calibration.max_length", config->calibration.max_length,
                             max_positions, model_name));
    if (*config->superweight.corpus)
        LODE_TRY(check_positions(config, "superweight.max_length", config->superweight.max_length,
                                 max_positions, model_name));
    if (config->probe.check_count > 0)
        LODE_TRY(check_positions(config, "probe.max_length", config->probe.max_length,
                                 max_positions, model_name));
    for (int64_t i = 0; i < config->evaluate.perplexity_count; i++) {
        char key[64];
        snprintf(key, sizeof key, "evaluate.perplexity.[%lld].length", (long long)i);
        LODE_TRY(check_positions(config, key, config->evaluate.perplexity[i].length, max_positions,
                                 model_name));
    }
    if (config->classify.write_support < hidden)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: classify.write_support: %lld is not below the hidden size %lld of model "
                     "%s, so every channel would be fully connected; set it to %lld or less",
                     lode_config_where(config, "classify.write_support"),
                     (long long)config->classify.write_support, (long long)hidden, model_name,
                     (long long)hidden - 1);
}

static lode_status_t fail_bos(const lode_config_t *config, const char *key,
                              const char *model_name) {
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: %s: \"always\" needs a bos_token_id, and config.json of model %s has "
                     "none; set it to \"auto\" or \"never\"",
                     lode_config_where(config, key), key, model_name);
}

lode_status_t lode_config_check_bos(const lode_config_t *config, int32_t bos,
                                    const char *model_name) {
    const lode_config_evaluate_t *evaluate = &config->evaluate;
    char key[64];
    if (bos >= 0)
        return LODE_OK;
    if (config->superweight.prompt_count > 0 && config->superweight.bos == LODE_BOS_ALWAYS)
        return fail_bos(config, "superweight.bos", model_name);
    for (int64_t i = 0; i < evaluate->perplexity_count; i++) {
        snprintf(key, sizeof key, "evaluate.perplexity.[%lld].bos", (long long)i);
        if (evaluate->perplexity[i].bos == LODE_BOS_ALWAYS)
            return fail_bos(config, key, model_name);
    }
    for (int64_t i = 0; i < evaluate->task_count; i++) {
        snprintf(key, sizeof key, "evaluate.tasks.[%lld].bos", (long long)i);
        if (evaluate->tasks[i].bos == LODE_BOS_ALWAYS)
            return fail_bos(config, key, model_name);
    }
    return LODE_OK;
}
