/* Models that are trained, what comes of them, and series of models. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/decode.h"

enum { KEY_MAX = 64, NAME_MOST = 128 };

/* --- steps ------------------------------------------------------------------------------ */

int64_t lode_config_checkpoint_total(const lode_config_t *config) {
    const lode_config_train_t *train = &config->train;
    const int64_t count = train->checkpoint_count;
    if (train->steps == 0)
        return 0;
    return count + (count == 0 || train->checkpoints[count - 1] != train->steps);
}

int64_t lode_config_checkpoint_at(const lode_config_t *config, int64_t index) {
    const lode_config_train_t *train = &config->train;
    return index < train->checkpoint_count ? train->checkpoints[index] : train->steps;
}

lode_status_t lode_config_step_name(lode_buffer_t *text, int64_t step) {
    return lode_buffer_printf(text, "step-%06lld", (long long)step);
}

int64_t lode_config_train_rows(const lode_config_t *config) {
    const int64_t fit = config->micro_batch / config->train.length;
    const int64_t most = fit > 1 ? fit : 1;
    return most < config->train.batch ? most : config->train.batch;
}

int64_t lode_config_train_batches(const lode_config_t *config) {
    const int64_t rows = lode_config_train_rows(config);
    return (config->train.batch + rows - 1) / rows;
}

/* --- models ----------------------------------------------------------------------------- */

int64_t lode_config_model_total(const lode_config_t *config) {
    return config->model_count + config->trained_count;
}

const lode_config_model_t *lode_config_model_at(const lode_config_t *config, int64_t index) {
    return index < config->model_count ? &config->models[index]
                                       : &config->trained[index - config->model_count];
}

/* Position of the model among those of the experiment, −1 where it is none of them. */
static int64_t base_index(const lode_config_t *config, const lode_config_model_t *model) {
    for (int64_t i = 0; i < config->model_count; i++)
        if (&config->models[i] == model || strcmp(config->models[i].name, model->name) == 0)
            return i;
    return -1;
}

bool lode_config_is_trained(const lode_config_t *config, const lode_config_model_t *model) {
    return config->train.steps > 0 && base_index(config, model) >= 0;
}

bool lode_config_is_scratch(const lode_config_t *config, const lode_config_model_t *model) {
    return config->train.from == LODE_TRAIN_SCRATCH && lode_config_is_trained(config, model);
}

const lode_config_model_t *lode_config_trained_from(const lode_config_t *config,
                                                    const lode_config_model_t *model) {
    const int64_t steps = lode_config_checkpoint_total(config);
    for (int64_t i = 0; i < config->trained_count; i++)
        if (strcmp(config->trained[i].name, model->name) == 0)
            return &config->models[i / steps];
    return NULL;
}

bool lode_config_selects(const lode_config_t *config, const char *only,
                         const lode_config_model_t *model) {
    const lode_config_model_t *base = lode_config_trained_from(config, model);
    return !only || strcmp(only, model->name) == 0 ||
           (*model->series && strcmp(only, model->series) == 0) ||
           (base && strcmp(only, base->name) == 0);
}

/* Appends "<model>-step-000043". */
static lode_status_t trained_name(lode_buffer_t *text, const lode_config_model_t *base,
                                  int64_t step) {
    LODE_TRY(lode_buffer_printf(text, "%s-", base->name));
    return lode_config_step_name(text, step);
}

bool lode_training_names(const lode_config_t *config, const char *name) {
    const int64_t steps = lode_config_checkpoint_total(config);
    for (int64_t i = 0; i < steps * config->model_count; i++) {
        char other[NAME_MOST + 32];
        snprintf(other, sizeof other, "%s-step-%06lld", config->models[i / steps].name,
                 (long long)lode_config_checkpoint_at(config, i % steps));
        if (strcmp(other, name) == 0)
            return true;
    }
    return false;
}

static lode_status_t make_trained(lode_config_model_t *model, const lode_config_t *config,
                                  const lode_config_model_t *base, const char *label,
                                  int64_t step) {
    lode_buffer_t name = {0}, path = {0};
    model->step = step;
    lode_status_t status = trained_name(&name, base, step);
    if (status == LODE_OK)
        status = lode_buffer_printf(&path, "%s/%s%s%s/%s/", config->results, config->name,
                                    *label ? "/" : "", label, base->name);
    if (status == LODE_OK)
        status = lode_config_step_name(&path, step);
    model->name = name.data;
    model->path = path.data;
    if (status == LODE_OK)
        status = lode_strdup(&model->steps, "");
    if (status == LODE_OK)
        status = lode_strdup(&model->series, base->name);
    return status;
}

/* A model that is trained from its checkpoint is the first of its series. */
static lode_status_t begin_series(lode_config_model_t *base) {
    char *series;
    LODE_TRY(lode_strdup(&series, base->name));
    free(base->series);
    base->series = series;
    base->step = 0;
    return LODE_OK;
}

lode_status_t lode_training_expand(lode_config_t *config, const char *label) {
    const int64_t steps = lode_config_checkpoint_total(config);
    if (steps == 0 || !lode_config_measures(config))
        return LODE_OK;
    LODE_TRY(LODE_NEW(&config->trained, config->model_count * steps, "models to be trained"));
    for (int64_t m = 0; m < config->model_count; m++) {
        if (config->train.from == LODE_TRAIN_CHECKPOINT)
            LODE_TRY(begin_series(&config->models[m]));
        for (int64_t s = 0; s < steps; s++)
            LODE_TRY(make_trained(&config->trained[config->trained_count++], config,
                                  &config->models[m], label, lode_config_checkpoint_at(config, s)));
    }
    return LODE_OK;
}

void lode_training_free(lode_config_t *config) {
    for (int64_t i = 0; i < config->trained_count; i++) {
        free(config->trained[i].name);
        free(config->trained[i].path);
        free(config->trained[i].steps);
        free(config->trained[i].series);
    }
    free(config->trained);
    config->trained = NULL;
    config->trained_count = 0;
}

/* --- checks of models ------------------------------------------------------------------- */

/* Puts "models.[2].step" and where it was written into `key` and returns the place. */
static const char *model_key(char key[KEY_MAX], const lode_config_t *config, int64_t index,
                             const char *local) {
    char name[KEY_MAX];
    snprintf(key, KEY_MAX, "models.[%lld].%s", (long long)index, local);
    const char *where = lode_config_where(config, key);
    if (where != config->places->origin)
        return where;
    snprintf(name, sizeof name, "models.[%lld].name", (long long)index); /* is always written */
    return lode_config_where(config, name);
}

static lode_status_t check_path(const lode_config_t *config, int64_t index) {
    const lode_config_model_t *model = &config->models[index];
    char key[KEY_MAX];
    if (!*model->path && !*model->steps)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: %s: required key is missing; Hugging Face folder (or give steps, the "
                         "folder above those of a series)",
                         model_key(key, config, index, "path"), key);
    if (!*model->steps)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: %s: stands for a series of models, so it goes with name alone; leave out "
                     "path, series and step, or give path instead",
                     model_key(key, config, index, "steps"), key);
}

static lode_status_t check_series(const lode_config_t *config, int64_t index) {
    const lode_config_model_t *model = &config->models[index];
    char key[KEY_MAX];
    if (model->step >= 0 && !*model->series)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: %s: is a step of a series; name it with the key series",
                         model_key(key, config, index, "step"), key);
    if (model->step < 0 && *model->series)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: %s: \"%s\" needs the step that the model is of; give it with the key "
                         "step",
                         model_key(key, config, index, "series"), key, model->series);
    for (int64_t i = 0; i < index && *model->series; i++)
        if (strcmp(config->models[i].series, model->series) == 0 &&
            config->models[i].step == model->step)
            return lode_fail(LODE_ERR_CONFIG,
                             "%s: %s: %lld of series \"%s\" is used twice; each model of a series "
                             "needs its own",
                             model_key(key, config, index, "step"), key, (long long)model->step,
                             model->series);
    return LODE_OK;
}

/* A model that is trained begins a series of its own. */
static lode_status_t check_base(const lode_config_t *config, int64_t index) {
    const lode_config_model_t *model = &config->models[index];
    char key[KEY_MAX];
    const bool own = config->train.from == LODE_TRAIN_CHECKPOINT && model->step == 0 &&
                     strcmp(model->series, model->name) == 0;
    if (*model->series && !own)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: %s: \"%s\" would be trained, and then is step 0 of a series of its "
                         "own; leave series and step out, or set train.steps = 0",
                         model_key(key, config, index, "series"), key, model->name);
    if (strlen(model->name) > NAME_MOST - strlen("-step-1000000000"))
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: %s: leaves no room for the steps that its checkpoints are named "
                         "after; shorten it",
                         model_key(key, config, index, "name"), key);
    if (!lode_training_names(config, model->name))
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: %s: \"%s\" is the name of a checkpoint of another model; rename it",
                     model_key(key, config, index, "name"), key, model->name);
}

/* --- checks of training ----------------------------------------------------------------- */

static lode_status_t check_needed(const lode_config_t *config) {
    const lode_config_train_t *train = &config->train;
    if (train->steps > 0 && !*train->corpus)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: train.corpus: required key is missing; text to train on, as "
                         "train.steps is above 0",
                         lode_config_where(config, "train.steps"));
    if (train->tokenizer.vocabulary == 0)
        return LODE_OK;
    const char *where = lode_config_where(config, "train.tokenizer.vocabulary");
    if (train->steps == 0)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: train.tokenizer.vocabulary: a tokenizer is made for models that are "
                         "trained, and train.steps is 0; set it, or leave the tokenizer out",
                         where);
    if (train->from == LODE_TRAIN_CHECKPOINT)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: train.tokenizer.vocabulary: a model that is trained on from its "
                         "checkpoint keeps its tokenizer; leave it out, or set train.from = "
                         "\"scratch\"",
                         where);
    if (train->tokenizer.vocabulary >= 260)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: train.tokenizer.vocabulary: %lld has no room for the 256 bytes, the "
                     "special tokens and any others; set it to 260 or more",
                     where, (long long)train->tokenizer.vocabulary);
}

static lode_status_t check_checkpoints(const lode_config_t *config) {
    const lode_config_train_t *train = &config->train;
    const char *where = lode_config_where(config, "train.checkpoints");
    if (train->steps == 0 || train->checkpoint_count == 0)
        return LODE_OK;
    const int64_t last = train->checkpoints[train->checkpoint_count - 1];
    if (last > train->steps)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: train.checkpoints: %lld is beyond the last step, train.steps = %lld; "
                         "leave it out, or train longer",
                         where, (long long)last, (long long)train->steps);
    if (train->from == LODE_TRAIN_CHECKPOINT && train->checkpoints[0] == 0)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: train.checkpoints: 0 is the model that training starts from, which "
                         "is analysed anyway; leave it out",
                         where);
    return LODE_OK;
}

static lode_status_t check_groups(const lode_config_t *config) {
    const int64_t groups = config->train.groups, rows = lode_config_train_rows(config);
    const int64_t batches = lode_config_train_batches(config);
    const int64_t most = batches & -batches; /* largest power of two that divides them */
    if ((groups & (groups - 1)) == 0 && batches % groups == 0)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: train.groups: %lld is no power of two that divides the %lld "
                     "micro-batches of a step (%lld sequences, %lld in a micro-batch); set it to "
                     "%lld or to a smaller power of two, or change train.batch or micro_batch",
                     lode_config_where(config, "train.groups"), (long long)groups,
                     (long long)batches, (long long)config->train.batch, (long long)rows,
                     (long long)most);
}

static lode_status_t check_validation(const lode_config_t *config) {
    const lode_config_validation_t *validation = &config->train.validation;
    if (validation->every == 0 || *validation->corpus)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: train.validation.every: there is no text to measure on; set "
                     "train.validation.corpus",
                     lode_config_where(config, "train.validation.every"));
}

static lode_status_t check_train(const lode_config_t *config) {
    const lode_config_train_t *train = &config->train;
    LODE_TRY(check_needed(config));
    LODE_TRY(check_checkpoints(config));
    LODE_TRY(check_validation(config));
    if (train->steps == 0)
        return LODE_OK;
    LODE_TRY(check_groups(config));
    if (train->warmup <= train->steps)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: train.warmup: %lld is beyond the last step, train.steps = %lld; set it "
                     "to %lld or less",
                     lode_config_where(config, "train.warmup"), (long long)train->warmup,
                     (long long)train->steps, (long long)train->steps);
}

lode_status_t lode_training_check(const lode_config_t *config) {
    for (int64_t i = 0; i < config->model_count; i++) {
        LODE_TRY(check_path(config, i));
        LODE_TRY(check_series(config, i));
    }
    LODE_TRY(check_train(config));
    for (int64_t i = 0; config->train.steps > 0 && i < config->model_count; i++)
        LODE_TRY(check_base(config, i));
    return LODE_OK;
}

/* --- what depends on a model ------------------------------------------------------------ */

lode_status_t lode_config_check_training(const lode_config_t *config, int64_t max_positions,
                                         int64_t layers, int64_t vocab, const char *model_name) {
    const lode_config_train_t *train = &config->train;
    if (train->steps == 0)
        return LODE_OK;
    if (train->length > max_positions)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: train.length: %lld is above the %lld positions of model %s "
                         "(max_position_embeddings); set it to %lld or less",
                         lode_config_where(config, "train.length"), (long long)train->length,
                         (long long)max_positions, model_name, (long long)max_positions);
    for (int64_t i = 0; i < train->entropy.layer_count; i++)
        if (train->entropy.layers[i] >= layers)
            return lode_fail(LODE_ERR_CONFIG,
                             "%s: train.entropy.layers: there is no layer %lld; model %s has "
                             "layers 0 to %lld",
                             lode_config_where(config, "train.entropy.layers"),
                             (long long)train->entropy.layers[i], model_name,
                             (long long)layers - 1);
    if (train->tokenizer.vocabulary <= vocab)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: train.tokenizer.vocabulary: %lld is above the vocab_size %lld of model "
                     "%s; lower it, or raise vocab_size in config.json",
                     lode_config_where(config, "train.tokenizer.vocabulary"),
                     (long long)train->tokenizer.vocabulary, (long long)vocab, model_name);
}
