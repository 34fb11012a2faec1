#include "common/ids.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "probe/probe.h"

/* Adds the integers of a long list, a piece at a time: those of training take gigabytes. */
static lode_status_t hash_list(lode_hash_t *hash, lode_store_t *store, const char *name,
                               int64_t count) {
    const int64_t piece = 1 << 20;
    int64_t *values;
    LODE_TRY(LODE_NEW_RAW(&values, piece, "integers"));
    lode_status_t status = LODE_OK;
    for (int64_t first = 0; first < count && status == LODE_OK; first += piece) {
        const int64_t length = count - first < piece ? count - first : piece;
        status = lode_store_read(store, name, &first, &length, LODE_TYPE_I64, values);
        if (status == LODE_OK)
            lode_hash_add(hash, values, (size_t)length * sizeof *values);
    }
    free(values);
    return status;
}

/* Adds a dataset of integers, where there is one. */
static lode_status_t hash_dataset(lode_hash_t *hash, lode_store_t *store, const char *name) {
    int64_t *values = NULL, count, shape[LODE_STORE_MAX_AXES];
    int axes;
    if (!lode_store_has(store, name))
        return LODE_OK;
    LODE_TRY(lode_store_shape(store, name, &axes, shape));
    if (axes == 1) {
        lode_hash_add_text(hash, name);
        lode_hash_add(hash, &shape[0], sizeof shape[0]);
        return hash_list(hash, store, name, shape[0]);
    }
    LODE_TRY(lode_store_read_all(store, name, LODE_TYPE_I64, &values, &count));
    lode_hash_add_text(hash, name);
    lode_hash_add(hash, &count, sizeof count);
    lode_hash_add(hash, values, (size_t)count * sizeof *values);
    free(values);
    return LODE_OK;
}

static lode_status_t hash_perplexity(lode_hash_t *hash, lode_store_t *store,
                                     const lode_config_perplexity_t *entry) {
    static const char *const attributes[] = {"bos", "prefix", "words", "bytes"};
    char group[512], name[520];
    snprintf(group, sizeof group, "/perplexity/%s", entry->name);
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
        int64_t value = 0;
        LODE_TRY(lode_store_get_attribute_i64(store, group, attributes[i], &value));
        lode_hash_add(hash, &value, sizeof value);
    }
    snprintf(name, sizeof name, "%s/ids", group);
    LODE_TRY(hash_dataset(hash, store, name));
    snprintf(name, sizeof name, "%s/offsets", group);
    return hash_dataset(hash, store, name);
}

static lode_status_t hash_task(lode_hash_t *hash, lode_store_t *store,
                               const lode_config_task_t *entry) {
    static const char *const parts[] = {"ids", "offsets", "context", "first", "gold", "characters"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char name[512];
        snprintf(name, sizeof name, "/tasks/%s/%s", entry->name, parts[i]);
        LODE_TRY(hash_dataset(hash, store, name));
    }
    return LODE_OK;
}

/* The texts of the causal checks: their own, and of the perplexities only the one that they use. */
static lode_status_t hash_probe(lode_hash_t *hash, lode_store_t *store,
                                const lode_config_t *config) {
    const lode_config_perplexity_t *entry;
    LODE_TRY(hash_dataset(hash, store, "/probe/ids"));
    LODE_TRY(hash_dataset(hash, store, "/probe/offsets"));
    LODE_TRY(lode_probe_perplexity(&entry, config));
    if (!entry)
        return LODE_OK;
    lode_hash_add_text(hash, lode_protocol_name(entry->protocol));
    lode_hash_add(hash, &entry->length, sizeof entry->length);
    return hash_perplexity(hash, store, entry);
}

/* All datasets of integers in a group and those below it. */
static lode_status_t hash_group(lode_hash_t *hash, lode_store_t *store, const char *group) {
    char **names;
    int64_t count;
    LODE_TRY(lode_store_list(store, group, &names, &count));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < count && status == LODE_OK; i++) {
        lode_buffer_t path = {0};
        lode_type_t type;
        status = lode_buffer_printf(&path, "%s/%s", group, names[i]);
        if (status == LODE_OK)
            status = lode_store_type(store, path.data, &type) == LODE_OK
                         ? hash_dataset(hash, store, path.data)
                         : hash_group(hash, store, path.data);
        lode_buffer_free(&path);
    }
    lode_store_list_free(&names, count);
    return status;
}

/* What training reads. */
static lode_status_t hash_training(lode_hash_t *hash, lode_store_t *store) {
    static const char *const extents[] = {"train_length", "train_sequences",
                                          "validation_sequences"};
    LODE_TRY(hash_dataset(hash, store, "/train/ids"));
    LODE_TRY(hash_dataset(hash, store, "/validation/ids"));
    for (size_t i = 0; i < sizeof extents / sizeof *extents; i++) {
        int64_t value;
        LODE_TRY(lode_store_get_attribute_i64(store, "/", extents[i], &value));
        lode_hash_add(hash, &value, sizeof value);
    }
    return LODE_OK;
}

/* Digest of the ids that a stage works on, by rank 0. The statistics depend on the calibration's
 * alone, so that another evaluation text leaves them complete. */
static lode_status_t hash_ids(char digest[LODE_DIGEST_TEXT], lode_store_t *store,
                              const lode_run_t *run, lode_stage_t stage) {
    const lode_config_evaluate_t *evaluate = &run->config->evaluate;
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_status_t status = LODE_OK;
    const bool calibration = stage != LODE_STAGE_EVALUATE && stage != LODE_STAGE_SUPERWEIGHT &&
                             stage != LODE_STAGE_TRAIN;
    if (stage == LODE_STAGE_TRAIN)
        status = hash_training(hash, store);
    if (stage == LODE_STAGE_PROBE)
        status = hash_probe(hash, store, run->config);
    if (stage == LODE_STAGE_SUPERWEIGHT)
        status = hash_group(hash, store, "/superweight");
    if (calibration && status == LODE_OK) {
        status = hash_dataset(hash, store, "/calibration/ids");
        if (status == LODE_OK)
            status = hash_dataset(hash, store, "/calibration/offsets");
    }
    for (int64_t i = 0; stage == LODE_STAGE_EVALUATE && i < evaluate->perplexity_count; i++)
        if (status == LODE_OK)
            status = hash_perplexity(hash, store, &evaluate->perplexity[i]);
    for (int64_t i = 0; stage == LODE_STAGE_EVALUATE && i < evaluate->task_count; i++)
        if (status == LODE_OK)
            status = hash_task(hash, store, &evaluate->tasks[i]);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return status;
}

lode_status_t lode_ids_digest(char digest[LODE_DIGEST_TEXT], lode_run_t *run, lode_stage_t stage) {
    lode_store_t *store;
    LODE_TRY(lode_run_open(&store, run, LODE_STAGE_TOKENIZE));
    lode_status_t status = LODE_OK;
    if (run->comm->rank == 0)
        status = hash_ids(digest, store, run, stage);
    lode_store_close(&store);
    LODE_TRY(lode_comm_agree(run->comm, status));
    return lode_comm_broadcast(run->comm, digest, LODE_DIGEST_TEXT, 0);
}
