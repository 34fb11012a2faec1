#include "lode/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/audit.h"
#include "base/file.h"
#include "base/memory.h"
#include "common/outline.h"
#include "common/run.h"
#include "common/statistics.h"
#include "export/export.h"
#include "model/checkpoint.h"
#include "model/describe.h"
#include "probe/probe.h"
#include "score/mask.h"
#include "score/supernode.h"
#include "superweight/superweight.h"
#include "text/corpus.h"
#include "text/task.h"
#include "text/tokenizer.h"
#include "tokenize/work.h"

static void print_model(const char *name, const lode_architecture_t *architecture) {
    char description[LODE_DESCRIPTION_BYTES];
    lode_architecture_describe(description, architecture);
    printf("model %s: %s, %lld layers, hidden %lld, %lld channels, vocabulary %lld, %.3g M "
           "parameters\n",
           name, description, (long long)architecture->layers, (long long)architecture->hidden,
           (long long)architecture->intermediate, (long long)architecture->vocab,
           (double)lode_architecture_parameters(architecture) / 1e6);
}

static lode_status_t check_corpus(const char *path, lode_corpus_format_t format, const char *field,
                                  bool verbose) {
    lode_corpus_t *corpus;
    LODE_TRY(lode_corpus_read(&corpus, path, format, LODE_CORPUS_ROWS, field));
    if (verbose)
        printf("corpus %s: %lld texts\n", path, (long long)lode_corpus_count(corpus));
    lode_corpus_destroy(&corpus);
    return LODE_OK;
}

/* What the stage tokenize will read of a task: all of it where examples are drawn. */
static lode_status_t check_task(const lode_config_task_t *entry, bool verbose) {
    lode_task_t *task;
    lode_buffer_t examples = {0};
    LODE_TRY(lode_task_read(&task, entry->path, entry->shots > 0 ? 0 : entry->limit));
    const lode_status_t status = lode_task_examples(&examples, task, 0, entry->shots, 0);
    if (status == LODE_OK && verbose)
        printf("task %s: %lld items, up to %lld requests each\n", entry->path,
               (long long)lode_task_items(task), (long long)lode_task_widest(task));
    lode_buffer_free(&examples);
    lode_task_destroy(&task);
    return status;
}

/* What is known of a model before anything is computed. */
typedef struct subject {
    const lode_config_model_t *model;
    lode_architecture_t architecture;
    lode_tokenizer_t *tokenizer; /* NULL where it is yet to be made */
} subject_t;

typedef struct shape {
    int64_t layers, channels;
} shape_t;

/* A model from scratch has no weights. */
static lode_status_t open_scratch(subject_t *subject, const lode_config_t *config) {
    lode_outline_t outline;
    char *path = NULL;
    LODE_TRY(lode_outline_open(&outline, subject->model->path));
    subject->architecture = outline.architecture;
    lode_outline_close(&outline);
    if (lode_stage_wanted_of(config, subject->model, LODE_STAGE_TOKENIZER))
        return LODE_OK;
    LODE_TRY(lode_path_join(&path, subject->model->path, "tokenizer.json"));
    lode_status_t status = LODE_OK;
    if (!lode_file_exists(path))
        status = lode_fail(LODE_ERR_INPUT,
                           "%s: missing; put a tokenizer beside config.json, or set "
                           "train.tokenizer.vocabulary to make one",
                           path);
    if (status == LODE_OK)
        status = lode_tokenizer_load(&subject->tokenizer, path);
    const int64_t tokens = status == LODE_OK ? lode_tokenizer_vocab_size(subject->tokenizer) : 0;
    if (tokens > subject->architecture.vocab)
        status = lode_fail(LODE_ERR_INPUT,
                           "%s: has %lld tokens, more than the vocab_size %lld of model %s; use "
                           "another tokenizer, or raise vocab_size in config.json",
                           path, (long long)tokens, (long long)subject->architecture.vocab,
                           subject->model->name);
    free(path);
    return status;
}

static lode_status_t open_weights(subject_t *subject) {
    lode_checkpoint_t *checkpoint;
    const char *path;
    LODE_TRY(lode_checkpoint_open(&checkpoint, subject->model->path));
    subject->architecture = *lode_checkpoint_architecture(checkpoint);
    lode_status_t status = lode_checkpoint_tokenizer(checkpoint, &path);
    if (status == LODE_OK)
        status = lode_tokenizer_load(&subject->tokenizer, path);
    lode_checkpoint_close(&checkpoint);
    return status;
}

/* How many channels of a layer may go at most. */
static int64_t removable(const lode_config_t *config, int64_t channels, bool is_protected,
                         lode_allocation_t allocation) {
    int64_t kept = is_protected ? lode_supernode_size(config->classify.core_fraction, channels) : 0;
    int64_t least = (int64_t)(config->prune.floor * (double)channels);
    if (least < 1)
        least = 1;
    if (allocation == LODE_ALLOCATION_GLOBAL && kept < least)
        kept = least;
    return channels - kept;
}

/* That no mask has to remove what is protected, which would otherwise show after all passes. */
static lode_status_t check_sparsity(const lode_config_t *config, int64_t channels,
                                    const char *name) {
    const lode_config_prune_t *prune = &config->prune;
    double highest = 0;
    bool is_protected = false;
    for (int64_t i = 0; i < prune->sparsity_count; i++)
        highest = prune->sparsity[i] > highest ? prune->sparsity[i] : highest;
    for (int64_t i = 0; i < prune->method_count; i++)
        for (int64_t j = 0; j < prune->core_count; j++)
            is_protected = is_protected ||
                           lode_mask_core(prune->methods[i], prune->cores[j]) != LODE_CORE_NONE;
    const int64_t removed = lode_mask_removed(highest, channels);
    for (int64_t i = 0; prune->method_count > 0 && i < prune->allocation_count; i++) {
        const int64_t most = removable(config, channels, is_protected, prune->allocation[i]);
        const bool uniform = prune->allocation[i] == LODE_ALLOCATION_UNIFORM;
        if (removed > most)
            return lode_fail(LODE_ERR_CONFIG,
                             "%s: prune.sparsity %g removes %lld of the %lld channels of a layer "
                             "of model %s, but only %lld may go%s; lower prune.sparsity%s or "
                             "classify.core_fraction",
                             lode_config_where(config, "prune.sparsity"), highest,
                             (long long)removed, (long long)channels, name, (long long)most,
                             uniform ? "" : " with global allocation",
                             uniform ? "" : ", prune.floor");
    }
    return LODE_OK;
}

static lode_status_t check_subject(const subject_t *subject, const lode_config_t *config) {
    const lode_architecture_t *a = &subject->architecture;
    const char *name = subject->model->name;
    if (lode_config_is_trained(config, subject->model))
        LODE_TRY(lode_config_check_training(config, a->max_positions, a->layers, a->vocab, name));
    LODE_TRY(lode_config_check_model(config, a->max_positions, a->hidden, name));
    LODE_TRY(lode_config_check_bos(config, a->bos, name));
    LODE_TRY(check_sparsity(config, a->intermediate, name));
    for (int64_t i = 0; subject->tokenizer && i < config->evaluate.perplexity_count; i++) {
        int32_t prefix;
        LODE_TRY(lode_tokenize_prefix(&prefix, &config->evaluate.perplexity[i],
                                      subject->model->path, a, subject->tokenizer));
    }
    return lode_statistics_check_padding(config, name, a->eos);
}

/* Folders of the versions of a model, and of those that are checkpoints of it. */
static lode_status_t check_versions(const subject_t *subject, const lode_config_t *config,
                                    const char *point, const char *only) {
    for (int64_t i = 0; i < lode_config_model_total(config); i++) {
        const lode_config_model_t *model = lode_config_model_at(config, i);
        const bool same =
            model == subject->model || lode_config_trained_from(config, model) == subject->model;
        if (same && lode_config_selects(config, only, model) &&
            !lode_config_is_scratch(config, model))
            LODE_TRY(lode_audit_check(config, point, model->name, &subject->architecture));
    }
    return LODE_OK;
}

/* The report compares the channels of all models of a series; one that another training makes from
 * a model is of its shape. shapes [models]: in, of those before this one, 0 where they are not
 * looked at; out, its own. */
static lode_status_t check_series(shape_t *shapes, const lode_config_t *config,
                                  const subject_t *subject) {
    const int64_t index = subject->model - config->models;
    const lode_architecture_t *a = &subject->architecture;
    shapes[index] = (shape_t){.layers = a->layers, .channels = a->intermediate};
    for (int64_t i = 0; i < index && *subject->model->series; i++) {
        const shape_t *other = &shapes[i];
        if (other->layers == 0 || strcmp(config->models[i].series, subject->model->series) != 0)
            continue;
        if (other->layers != a->layers || other->channels != a->intermediate)
            return lode_fail(LODE_ERR_SHAPE,
                             "series \"%s\": model \"%s\" has %lld layers of %lld channels, "
                             "\"%s\" %lld of %lld; give models of another shape another series",
                             subject->model->series, subject->model->name, (long long)a->layers,
                             (long long)a->intermediate, config->models[i].name,
                             (long long)other->layers, (long long)other->channels);
    }
    return LODE_OK;
}

/* A folder among those of a series that is no model was found by its name. */
static lode_status_t check_step(const lode_config_model_t *model) {
    const char *last = strrchr(model->path, '/');
    const size_t series = strlen(model->series);
    char *path;
    lode_status_t status = LODE_OK;
    if (series == 0 || !last || strncmp(model->name, model->series, series) != 0 ||
        model->name[series] != '-' || strcmp(model->name + series + 1, last + 1) != 0)
        return LODE_OK;
    LODE_TRY(lode_path_join(&path, model->path, "config.json"));
    if (!lode_file_exists(path))
        status = lode_fail(LODE_ERR_INPUT,
                           "%s: missing; the number in the folder's name has it taken for step "
                           "%lld of series \"%s\": complete it, or move it out of the folder of "
                           "steps",
                           path, (long long)model->step, model->series);
    free(path);
    return status;
}

static lode_status_t check_model(shape_t *shapes, const lode_config_t *config, const char *point,
                                 const lode_config_model_t *model, const char *only, bool verbose) {
    subject_t subject = {.model = model};
    LODE_TRY(check_step(model));
    lode_status_t status = lode_config_is_scratch(config, model) ? open_scratch(&subject, config)
                                                                 : open_weights(&subject);
    if (status == LODE_OK)
        status = check_subject(&subject, config);
    if (status == LODE_OK)
        status = check_series(shapes, config, &subject);
    if (status == LODE_OK)
        status = check_versions(&subject, config, point, only);
    if (status == LODE_OK && verbose)
        print_model(model->name, &subject.architecture);
    lode_tokenizer_destroy(&subject.tokenizer);
    return status;
}

/* Whether a model or a checkpoint of it is asked for. */
static bool is_needed(const lode_config_t *config, const char *only,
                      const lode_config_model_t *base) {
    if (lode_config_selects(config, only, base))
        return true;
    for (int64_t i = 0; i < config->trained_count; i++)
        if (lode_config_trained_from(config, &config->trained[i]) == base &&
            lode_config_selects(config, only, &config->trained[i]))
            return true;
    return false;
}

static lode_status_t check_training(const lode_config_t *config, bool verbose) {
    const lode_config_train_t *train = &config->train;
    const lode_config_validation_t *validation = &train->validation;
    if (train->steps == 0)
        return LODE_OK;
    LODE_TRY(lode_fail_context(check_corpus(train->corpus, train->format, train->field, verbose),
                               "%s: train.corpus", lode_config_where(config, "train.corpus")));
    if (!*validation->corpus)
        return LODE_OK;
    return lode_fail_context(
        check_corpus(validation->corpus, validation->format, validation->field, verbose),
        "%s: train.validation.corpus", lode_config_where(config, "train.validation.corpus"));
}

/* The calibration's text, or what lode merge made of others, where there is any. */
static lode_status_t check_calibration(const lode_config_t *config, const char *model,
                                       bool verbose) {
    const lode_config_calibration_t *calibration = &config->calibration;
    if (!lode_config_measures(config))
        return LODE_OK;
    if (!*calibration->merged)
        return check_corpus(calibration->corpus, calibration->format, calibration->field, verbose);
    for (int64_t i = 0; i < lode_config_model_total(config); i++) {
        const lode_config_model_t *entry = lode_config_model_at(config, i);
        const char *name = entry->name;
        char *path, fingerprint[LODE_DIGEST_TEXT];
        lode_status_t status = LODE_OK;
        if (!lode_config_selects(config, model, entry) || lode_config_is_scratch(config, entry))
            continue;
        LODE_TRY(lode_run_merged_path(&path, config, name, LODE_STAGE_TOKENIZE));
        lode_store_fingerprint(path, fingerprint);
        if (!*fingerprint)
            status = lode_fail(LODE_ERR_INPUT,
                               "%s: %s: missing, or no file of results; write it with lode merge "
                               "… --output %s/%s",
                               lode_config_where(config, "calibration.merged"), path,
                               calibration->merged, name);
        else if (verbose)
            printf("merged statistics %s/%s\n", calibration->merged, name);
        free(path);
        LODE_TRY(status);
    }
    return LODE_OK;
}

/* Stopwords with their texts, and what the coordinates found are compared with. */
static lode_status_t check_superweight(const lode_config_t *config, bool verbose) {
    const lode_config_superweight_t *superweight = &config->superweight;
    if (*superweight->stopwords) {
        LODE_TRY(lode_fail_context(
            check_corpus(superweight->stopwords, LODE_CORPUS_LINES, NULL, verbose),
            "%s: superweight.stopwords", lode_config_where(config, "superweight.stopwords")));
        LODE_TRY(lode_fail_context(
            check_corpus(superweight->corpus, superweight->format, superweight->field, verbose),
            "%s: superweight.corpus", lode_config_where(config, "superweight.corpus")));
    }
    return lode_superweight_known_check(config);
}

static lode_status_t check_models(const lode_config_t *config, const char *point, const char *only,
                                  bool verbose) {
    shape_t *shapes;
    int64_t checked = 0;
    LODE_TRY(LODE_NEW(&shapes, config->model_count, "shapes of models"));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < config->model_count && status == LODE_OK; i++) {
        if (!is_needed(config, only, &config->models[i]))
            continue;
        status = check_model(shapes, config, point, &config->models[i], only, verbose);
        checked++;
    }
    free(shapes);
    LODE_TRY(status);
    if (checked > 0)
        return LODE_OK;
    return lode_fail(LODE_ERR_USAGE,
                     "--model %s: the experiment has no model of that name; the first is \"%s\"",
                     only, config->models[0].name);
}

lode_status_t lode_check_inputs(const lode_config_t *config, const char *point, const char *model,
                                bool verbose) {
    const lode_config_perplexity_t *probed;
    LODE_TRY(lode_export_check(config, point, model));
    LODE_TRY(lode_probe_perplexity(&probed, config));
    LODE_TRY(check_models(config, point, model, verbose));
    LODE_TRY(check_training(config, verbose));
    LODE_TRY(check_calibration(config, model, verbose));
    if (*config->probe.corpus)
        LODE_TRY(
            check_corpus(config->probe.corpus, config->probe.format, config->probe.field, verbose));
    LODE_TRY(check_superweight(config, verbose));
    for (int64_t i = 0; i < config->evaluate.perplexity_count; i++) {
        const lode_config_perplexity_t *entry = &config->evaluate.perplexity[i];
        LODE_TRY(check_corpus(entry->corpus, entry->format, entry->field, verbose));
    }
    for (int64_t i = 0; i < config->evaluate.task_count; i++)
        LODE_TRY(check_task(&config->evaluate.tasks[i], verbose));
    return LODE_OK;
}
