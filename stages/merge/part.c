#include "merge/part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "common/fingerprint.h"

const lode_stage_t lode_merge_stages[LODE_MERGE_FILES] = {
    LODE_STAGE_TOKENIZE, LODE_STAGE_CALIBRATE, LODE_STAGE_ACCUMULATE, LODE_STAGE_MOMENTS};

static lode_status_t file_path(char **path, const char *folder, int file) {
    char name[32];
    snprintf(name, sizeof name, "%s.h5", lode_stage_name(lode_merge_stages[file]));
    return lode_path_join(path, folder, name);
}

static lode_status_t open_file(lode_merge_part_t *part, const lode_comm_t *comm, int file) {
    char *path;
    lode_status_t status = lode_comm_agree(comm, file_path(&path, part->folder, file));
    if (status == LODE_OK) {
        status = lode_store_open(&part->store[file], comm, path);
        if (status == LODE_OK)
            status = lode_store_verify(part->store[file]);
        if (status == LODE_ERR_INPUT)
            status = lode_fail_context(status, "%s is no folder of a model's finished statistics",
                                       part->folder);
        free(path);
    }
    return status;
}

/* --- what a file says of itself ------------------------------------------------------------- */

/* The experiment in the provenance of a file of statistics. */
static lode_status_t read_experiment(lode_merge_part_t *part, int file) {
    char *text = NULL, *path = NULL;
    lode_status_t status;
    LODE_GUARD(status,
               lode_store_get_attribute_text(part->store[file], "/provenance", "experiment", &text),
               done);
    LODE_GUARD(status, file_path(&path, part->folder, file), done);
    status = lode_config_parse(&part->config[file], text, strlen(text), path);
    if (status != LODE_OK)
        status = lode_fail_context(status, "%s: the experiment in its provenance", path);
done:
    free(text);
    free(path);
    return status;
}

/* The model in the provenance of a file, the first of its inputs; all files must name the same. */
static lode_status_t read_model(lode_merge_part_t *part, int file) {
    char *inputs;
    LODE_TRY(lode_store_get_attribute_text(part->store[file], "/provenance", "inputs", &inputs));
    inputs[strcspn(inputs, "\n")] = '\0';
    lode_status_t status = LODE_OK;
    if (strcspn(inputs, " ") != LODE_DIGEST_TEXT - 1)
        status = lode_fail(LODE_ERR_FORMAT, "%s: %s.h5 does not say which model it is of",
                           part->folder, lode_stage_name(lode_merge_stages[file]));
    else if (!part->model_line)
        memcpy(part->model_digest, inputs, LODE_DIGEST_TEXT - 1);
    else if (strncmp(part->model_digest, inputs, LODE_DIGEST_TEXT - 1) != 0)
        status = lode_fail(LODE_ERR_INPUT,
                           "%s: %s.h5 is of another model than the files before it; run its "
                           "experiment again",
                           part->folder, lode_stage_name(lode_merge_stages[file]));
    if (status == LODE_OK && !part->model_line) {
        part->model_line = inputs;
        return LODE_OK;
    }
    free(inputs);
    return status;
}

static lode_status_t read_sequences(lode_merge_part_t *part) {
    int64_t offsets;
    lode_store_t *tokenize = part->store[0];
    LODE_TRY(lode_store_read_all(tokenize, "/calibration/ids", LODE_TYPE_I32, &part->ids,
                                 &part->tokens));
    LODE_TRY(lode_store_read_all(tokenize, "/calibration/offsets", LODE_TYPE_I64, &part->offsets,
                                 &offsets));
    part->sequences = offsets - 1;
    bool sound = offsets > 1 && part->offsets[0] == 0 && part->offsets[offsets - 1] == part->tokens;
    for (int64_t s = 0; sound && s < part->sequences; s++)
        sound = part->offsets[s + 1] > part->offsets[s];
    if (!sound)
        return lode_fail(LODE_ERR_FORMAT, "%s: the sequences in tokenize.h5 make no sense",
                         part->folder);
    return LODE_OK;
}

static lode_status_t read_all(lode_merge_part_t *part) {
    LODE_TRY(read_sequences(part));
    for (int f = 1; f < LODE_MERGE_FILES; f++) {
        if (!part->store[f])
            continue;
        LODE_TRY(read_experiment(part, f));
        LODE_TRY(read_model(part, f));
    }
    return LODE_OK;
}

/* --- whether the files belong together ------------------------------------------------------ */

/* Proves that a file of statistics has the fingerprint that the folder's sequences, the model and
 * its own settings give. */
static lode_status_t check_file(const lode_merge_part_t *part, lode_run_t *run, int file) {
    const lode_stage_t stage = lode_merge_stages[file];
    char *found = NULL;
    run->config = part->config[file];
    LODE_TRY(lode_fingerprint_stage(run, NULL, stage));
    lode_status_t status =
        lode_store_get_attribute_text(part->store[file], "/provenance", "fingerprint", &found);
    if (status == LODE_OK && strcmp(found, run->fingerprint[stage]) != 0)
        status = lode_fail(LODE_ERR_INPUT,
                           "%s: %s.h5 is not of the sequences in tokenize.h5, or of another "
                           "version; run its experiment again",
                           part->folder, lode_stage_name(stage));
    free(found);
    return lode_comm_agree(run->comm, status);
}

static lode_status_t check_files(const lode_merge_part_t *part, const lode_comm_t *comm) {
    lode_run_t run = {.comm = comm, .point = ""};
    char *found = NULL;
    memcpy(run.model_digest, part->model_digest, sizeof run.model_digest);
    lode_status_t status = lode_strdup(&run.folder, part->folder);
    if (status == LODE_OK)
        status =
            lode_store_get_attribute_text(part->store[0], "/provenance", "fingerprint", &found);
    if (status == LODE_OK)
        snprintf(run.fingerprint[LODE_STAGE_TOKENIZE], LODE_DIGEST_TEXT, "%s", found);
    free(found);
    status = lode_comm_agree(comm, status);
    for (int f = 1; f < LODE_MERGE_FILES && status == LODE_OK; f++)
        if (part->store[f])
            status = check_file(part, &run, f);
    free(run.folder);
    return status;
}

lode_status_t lode_merge_part_open(lode_merge_part_t *part, const lode_comm_t *comm,
                                   const char *folder, bool moments) {
    *part = (lode_merge_part_t){.folder = folder};
    for (int f = 0; f < LODE_MERGE_FILES; f++)
        if (moments || lode_merge_stages[f] != LODE_STAGE_MOMENTS)
            LODE_TRY(open_file(part, comm, f));
    LODE_TRY(lode_comm_agree(comm, read_all(part)));
    return check_files(part, comm);
}

void lode_merge_part_close(lode_merge_part_t *part) {
    for (int f = 0; f < LODE_MERGE_FILES; f++) {
        lode_store_close(&part->store[f]);
        lode_config_destroy(&part->config[f]);
    }
    free(part->model_line);
    free(part->offsets);
    free(part->ids);
    *part = (lode_merge_part_t){0};
}

lode_status_t lode_merge_part_compare(const lode_merge_part_t *first,
                                      const lode_merge_part_t *other) {
    if (strcmp(first->model_digest, other->model_digest) != 0)
        return lode_fail(LODE_ERR_INPUT,
                         "%s and %s are of different models, of the digests and paths \"%s\" and "
                         "\"%s\"; merge results of one",
                         first->folder, other->folder, first->model_line, other->model_line);
    for (int f = 1; f < LODE_MERGE_FILES; f++) {
        lode_buffer_t difference = {0};
        if (!first->store[f])
            continue;
        const char *stage = lode_stage_name(lode_merge_stages[f]);
        lode_status_t status =
            lode_config_stage_difference(first->config[f], other->config[f], stage, &difference);
        if (status == LODE_OK && difference.length > 0)
            status = lode_fail(LODE_ERR_INPUT,
                               "%s and %s differ in what decides %s.h5: %s; merge results of the "
                               "same settings",
                               first->folder, other->folder, stage, difference.data);
        lode_buffer_free(&difference);
        LODE_TRY(status);
    }
    return LODE_OK;
}
