#include "train/record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { NAME_BYTES = 48 };

static const char *const curve_names[LODE_TRAIN_CURVES] = {
    [LODE_TRAIN_LOSS] = "/loss",
    [LODE_TRAIN_GRADIENT_NORM] = "/gradient_norm",
    [LODE_TRAIN_LEARNING_RATE] = "/learning_rate",
    [LODE_TRAIN_ENTROPY_WEIGHT] = "/entropy_weight",
    [LODE_TRAIN_ENTROPY] = "/entropy",
};

/* --- when what is due ------------------------------------------------------------------------ */

/* Before the first step, every so many steps, and after the last one. */
static lode_status_t list_validations(lode_train_record_t *record,
                                      const lode_config_train_t *train) {
    const int64_t every = train->validation.every;
    if (!*train->validation.corpus)
        return LODE_OK;
    const int64_t between = every > 0 ? (train->steps - 1) / every : 0;
    LODE_TRY(LODE_NEW(&record->validation_step, between + 2, "validations"));
    for (int64_t i = 0; i <= between; i++)
        record->validation_step[i] = i * every;
    record->validation_step[between + 1] = train->steps;
    record->validations = between + 2;
    return LODE_OK;
}

static lode_status_t list_checkpoints(lode_train_record_t *record, const lode_config_t *config) {
    record->checkpoints = lode_config_checkpoint_total(config);
    LODE_TRY(LODE_NEW(&record->checkpoint_step, record->checkpoints, "checkpoints"));
    for (int64_t i = 0; i < record->checkpoints; i++)
        record->checkpoint_step[i] = lode_config_checkpoint_at(config, i);
    return LODE_NEW(&record->digest, record->checkpoints, "checkpoints");
}

/* Index of the first of them that is not below `step`; they ascend. */
static int64_t lower_bound(const int64_t *steps, int64_t count, int64_t step) {
    int64_t first = 0, end = count;
    while (first < end) {
        const int64_t middle = first + (end - first) / 2;
        if (steps[middle] < step)
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

static int64_t find_step(const int64_t *steps, int64_t count, int64_t step) {
    const int64_t first = lower_bound(steps, count, step);
    return first < count && steps[first] == step ? first : -1;
}

int64_t lode_train_record_validation(const lode_train_record_t *record, int64_t step) {
    return find_step(record->validation_step, record->validations, step);
}

int64_t lode_train_record_checkpoint(const lode_train_record_t *record, int64_t step) {
    return find_step(record->checkpoint_step, record->checkpoints, step);
}

/* --- what is missing ------------------------------------------------------------------------- */

bool lode_train_record_trained(const lode_train_record_t *record, int64_t step) {
    return !isnan(record->curve[LODE_TRAIN_LOSS][step - 1]);
}

int64_t lode_train_record_missing(const lode_train_record_t *record, int64_t step) {
    int64_t missing = step + 1;
    while (missing <= record->steps && lode_train_record_trained(record, missing))
        missing++;
    const int64_t v = lower_bound(record->validation_step, record->validations, step + 1);
    for (int64_t i = v; i < record->validations && record->validation_step[i] < missing; i++)
        if (isnan(record->loss[i]))
            missing = record->validation_step[i];
    const int64_t c = lower_bound(record->checkpoint_step, record->checkpoints, step + 1);
    for (int64_t i = c; i < record->checkpoints && record->checkpoint_step[i] < missing; i++)
        if (!*record->digest[i])
            missing = record->checkpoint_step[i];
    return missing <= record->steps ? missing : -1;
}

/* --- the record ------------------------------------------------------------------------------ */

static lode_status_t create_missing(double **values, int64_t count) {
    LODE_TRY(LODE_NEW(values, count, "curves"));
    for (int64_t i = 0; i < count; i++)
        (*values)[i] = NAN;
    return LODE_OK;
}

lode_status_t lode_train_record_create(lode_train_record_t *record, const lode_config_t *config,
                                       int64_t layers) {
    const lode_config_train_t *train = &config->train;
    *record = (lode_train_record_t){.steps = train->steps, .layers = layers};
    for (int i = 0; i < LODE_TRAIN_CURVES; i++)
        LODE_TRY(create_missing(&record->curve[i], train->steps));
    LODE_TRY(list_validations(record, train));
    LODE_TRY(create_missing(&record->loss, record->validations));
    LODE_TRY(create_missing(&record->error, record->validations));
    LODE_TRY(create_missing(&record->entropy, record->validations * layers));
    return list_checkpoints(record, config);
}

void lode_train_record_free(lode_train_record_t *record) {
    for (int i = 0; i < LODE_TRAIN_CURVES; i++)
        free(record->curve[i]);
    free(record->validation_step);
    free(record->loss);
    free(record->error);
    free(record->entropy);
    free(record->checkpoint_step);
    free(record->digest);
    *record = (lode_train_record_t){0};
}

/* --- in files -------------------------------------------------------------------------------- */

/* A dataset, and where its elements are in the record. */
typedef struct item {
    const char *name;
    lode_type_t type;
    int axes;
    int64_t shape[2];
    void *data;
} item_t;

enum { ITEMS = LODE_TRAIN_CURVES + 5 };

static void list_items(item_t items[ITEMS], const lode_train_record_t *record) {
    const int64_t n = record->validations;
    for (int i = 0; i < LODE_TRAIN_CURVES; i++)
        items[i] = (item_t){curve_names[i], LODE_TYPE_F64, 1, {record->steps}, record->curve[i]};
    const item_t rest[] = {
        {"/validation/step", LODE_TYPE_I64, 1, {n}, record->validation_step},
        {"/validation/loss", LODE_TYPE_F64, 1, {n}, record->loss},
        {"/validation/stderr", LODE_TYPE_F64, 1, {n}, record->error},
        {"/validation/entropy", LODE_TYPE_F64, 2, {n, record->layers}, record->entropy},
        {"/checkpoints/step", LODE_TYPE_I64, 1, {record->checkpoints}, record->checkpoint_step},
    };
    memcpy(items + LODE_TRAIN_CURVES, rest, sizeof rest);
}

lode_status_t lode_train_record_datasets(lode_store_t *store, const lode_train_record_t *record) {
    item_t items[ITEMS];
    list_items(items, record);
    for (int i = 0; i < ITEMS; i++)
        LODE_TRY(lode_store_dataset(store, items[i].name, items[i].type, items[i].axes,
                                    items[i].shape, false));
    return LODE_OK;
}

void lode_train_record_write(lode_store_t *store, const lode_train_record_t *record) {
    const int64_t offset[2] = {0, 0};
    item_t items[ITEMS];
    list_items(items, record);
    for (int i = 0; i < ITEMS; i++)
        if (lode_store_write(store, items[i].name, offset, items[i].shape, items[i].data) !=
            LODE_OK)
            return;
}

static void digest_name(char name[NAME_BYTES], int64_t step) {
    snprintf(name, NAME_BYTES, "digest-%06lld", (long long)step);
}

lode_status_t lode_train_record_digests(lode_store_t *store, const lode_train_record_t *record) {
    char name[NAME_BYTES];
    for (int64_t i = 0; i < record->checkpoints; i++) {
        digest_name(name, record->checkpoint_step[i]);
        if (*record->digest[i])
            LODE_TRY(lode_store_attribute_text(store, "/checkpoints", name, record->digest[i]));
    }
    return LODE_OK;
}

lode_status_t lode_train_record_digest(char digest[LODE_DIGEST_TEXT], lode_store_t *store,
                                       int64_t step) {
    char name[NAME_BYTES], *text;
    digest_name(name, step);
    *digest = '\0';
    if (!lode_store_has_attribute(store, "/checkpoints", name))
        return LODE_OK;
    LODE_TRY(lode_store_get_attribute_text(store, "/checkpoints", name, &text));
    snprintf(digest, LODE_DIGEST_TEXT, "%s", text);
    free(text);
    return LODE_OK;
}

/* --- taking over ----------------------------------------------------------------------------- */

/* Reads a whole dataset, which must have `want` elements. *values is the caller's, also on failure.
 */
static lode_status_t read_values(void *values, lode_store_t *store, const char *name,
                                 lode_type_t type, int64_t want) {
    int64_t count;
    LODE_TRY(lode_store_read_all(store, name, type, values, &count));
    return count == want ? LODE_OK
                         : lode_fail(LODE_ERR_FORMAT, "\"%s\" has %lld values instead of %lld",
                                     name, (long long)count, (long long)want);
}

static lode_status_t take_curves(lode_train_record_t *record, lode_store_t *store) {
    double *curve[LODE_TRAIN_CURVES] = {0};
    int64_t steps;
    lode_status_t status = lode_store_read_all(store, curve_names[LODE_TRAIN_LOSS], LODE_TYPE_F64,
                                               &curve[LODE_TRAIN_LOSS], &steps);
    for (int c = LODE_TRAIN_LOSS + 1; c < LODE_TRAIN_CURVES && status == LODE_OK; c++)
        status = read_values(&curve[c], store, curve_names[c], LODE_TYPE_F64, steps);
    for (int64_t s = 0; status == LODE_OK && s < steps && s < record->steps; s++)
        for (int c = 0; c < LODE_TRAIN_CURVES && !isnan(curve[LODE_TRAIN_LOSS][s]); c++)
            record->curve[c][s] = curve[c][s];
    for (int c = 0; c < LODE_TRAIN_CURVES; c++)
        free(curve[c]);
    return status;
}

static lode_status_t take_validations(lode_train_record_t *record, lode_store_t *store) {
    const int64_t layers = record->layers;
    int64_t *step = NULL, count;
    double *loss = NULL, *error = NULL, *entropy = NULL;
    lode_status_t status =
        lode_store_read_all(store, "/validation/step", LODE_TYPE_I64, &step, &count);
    if (status == LODE_OK)
        status = read_values(&loss, store, "/validation/loss", LODE_TYPE_F64, count);
    if (status == LODE_OK)
        status = read_values(&error, store, "/validation/stderr", LODE_TYPE_F64, count);
    if (status == LODE_OK)
        status = read_values(&entropy, store, "/validation/entropy", LODE_TYPE_F64, count * layers);
    for (int64_t i = 0; status == LODE_OK && i < count; i++) {
        const int64_t to = lode_train_record_validation(record, step[i]);
        if (to < 0 || isnan(loss[i]))
            continue;
        record->loss[to] = loss[i];
        record->error[to] = error[i];
        memcpy(record->entropy + to * layers, entropy + i * layers,
               (size_t)layers * sizeof *entropy);
    }
    free(step);
    free(loss);
    free(error);
    free(entropy);
    return status;
}

lode_status_t lode_train_record_take(lode_train_record_t *record, lode_store_t *store,
                                     bool validated) {
    LODE_TRY(take_curves(record, store));
    return validated ? take_validations(record, store) : LODE_OK;
}

lode_status_t lode_train_record_share(lode_train_record_t *record, const lode_comm_t *comm) {
    const size_t n = (size_t)record->validations * sizeof(double);
    for (int c = 0; c < LODE_TRAIN_CURVES; c++)
        LODE_TRY(
            lode_comm_broadcast(comm, record->curve[c], (size_t)record->steps * sizeof(double), 0));
    LODE_TRY(lode_comm_broadcast(comm, record->loss, n, 0));
    LODE_TRY(lode_comm_broadcast(comm, record->error, n, 0));
    LODE_TRY(lode_comm_broadcast(comm, record->entropy, n * (size_t)record->layers, 0));
    return lode_comm_broadcast(comm, record->digest, (size_t)record->checkpoints * LODE_DIGEST_TEXT,
                               0);
}
