#include "common/fingerprint.h"

#include <stdlib.h>

#include "audit/version.h"
#include "base/file.h"
#include "common/ids.h"
#include "common/variants.h"
#include "common/version.h"
#include "model/companion.h"

static lode_status_t hash_companions(char digest[LODE_DIGEST_TEXT], const char *folder) {
    char **names;
    int64_t count;
    lode_hash_t *hash;
    LODE_TRY(lode_companion_list(&names, &count, folder));
    lode_status_t status = lode_hash_create(&hash);
    for (int64_t i = 0; i < count && status == LODE_OK; i++) {
        char *path;
        lode_mapping_t mapping = {0};
        status = lode_path_join(&path, folder, names[i]);
        if (status != LODE_OK)
            break;
        status = lode_file_map(&mapping, path);
        lode_hash_add_text(hash, names[i]);
        lode_hash_add(hash, &mapping.size, sizeof mapping.size);
        lode_hash_add(hash, mapping.data, mapping.size);
        lode_file_unmap(&mapping);
        free(path);
    }
    if (hash)
        lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    lode_companion_free(&names, count);
    return status;
}

/* Digest of the files beside the weights, which an export copies, by rank 0. */
static lode_status_t companions_digest(lode_run_t *run) {
    lode_status_t status = LODE_OK;
    if (run->comm->rank == 0)
        status = hash_companions(run->companion_digest, run->model->path);
    LODE_TRY(lode_comm_agree(run->comm, status));
    return lode_comm_broadcast(run->comm, run->companion_digest, LODE_DIGEST_TEXT, 0);
}

/* Digest of the published coordinates that super weights are compared with, by rank 0. */
static lode_status_t add_known(lode_hash_t *hash, const lode_run_t *run) {
    const char *path = run->config->superweight.known;
    char digest[LODE_DIGEST_TEXT] = "";
    lode_status_t status = LODE_OK;
    if (run->comm->rank == 0 && *path) {
        lode_mapping_t mapping;
        status = lode_file_map(&mapping, path);
        if (status == LODE_OK) {
            status = lode_hash_bytes(digest, mapping.data, mapping.size);
            lode_file_unmap(&mapping);
        }
    }
    LODE_TRY(lode_comm_agree(run->comm, status));
    LODE_TRY(lode_comm_broadcast(run->comm, digest, LODE_DIGEST_TEXT, 0));
    lode_hash_add_text(hash, digest);
    return LODE_OK;
}

/* What all variants are made from, and the names of those that no key of the stage decides. */
static lode_status_t add_variants(lode_hash_t *hash, const lode_run_t *run) {
    static const lode_stage_t sources[] = {LODE_STAGE_COMPENSATE, LODE_STAGE_SUPERWEIGHT,
                                           LODE_STAGE_QUANTIZE};
    lode_variant_t *variants;
    int64_t count;
    lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_PRUNE]);
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        if (lode_stage_wanted(run->config, sources[i]))
            lode_hash_add_text(hash, run->fingerprint[sources[i]]);
    LODE_TRY(lode_comm_agree(run->comm, lode_variants_list(&variants, &count, run->config)));
    for (int64_t v = 0; v < count; v++)
        if (!variants[v].pruned)
            lode_hash_add_text(hash, variants[v].name);
    lode_variants_free(&variants, count);
    return LODE_OK;
}

/* What the original is compared by, and the folders' contents. */
static lode_status_t add_audit(lode_hash_t *hash, lode_run_t *run, lode_inputs_t *inputs) {
    char calibration[LODE_DIGEST_TEXT], evaluation[LODE_DIGEST_TEXT];
    LODE_TRY(lode_ids_digest(calibration, run, LODE_STAGE_AUDIT));
    LODE_TRY(lode_ids_digest(evaluation, run, LODE_STAGE_EVALUATE));
    lode_hash_add_text(hash, run->model_digest);
    lode_hash_add_text(hash, calibration);
    lode_hash_add_text(hash, evaluation);
    lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_CLASSIFY]);
    if (lode_stage_wanted(run->config, LODE_STAGE_SUPERWEIGHT))
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_SUPERWEIGHT]);
    return lode_audit_hash(hash, run, inputs);
}

/* What a tokenizer is made from: the corpus, and the special tokens that config.json numbers. */
static lode_status_t add_tokenizer(lode_hash_t *hash, lode_run_t *run, lode_inputs_t *inputs) {
    char corpus[LODE_DIGEST_TEXT];
    LODE_TRY(lode_inputs_file(corpus, inputs, run->comm, run->config->train.corpus));
    lode_hash_add_text(hash, corpus);
    lode_hash_add(hash, &run->architecture.bos, sizeof run->architecture.bos);
    lode_hash_add(hash, &run->architecture.eos, sizeof run->architecture.eos);
    return LODE_OK;
}

/* What the ids come of: the texts, and the tokenizer, which must be there where it is made. */
static lode_status_t add_texts(lode_hash_t *hash, lode_run_t *run, lode_inputs_t *inputs) {
    const lode_config_t *config = run->config;
    const bool trained = lode_config_is_trained(config, run->model);
    if (lode_stage_wanted_of(config, run->model, LODE_STAGE_TOKENIZER)) {
        char tokenizer[LODE_DIGEST_TEXT];
        lode_store_t *store;
        LODE_TRY(lode_run_open(&store, run, LODE_STAGE_TOKENIZER));
        lode_store_close(&store);
        LODE_TRY(lode_inputs_file(tokenizer, inputs, run->comm, run->tokenizer));
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_TOKENIZER]);
        lode_hash_add_text(hash, tokenizer);
    }
    lode_hash_add_text(hash, run->text_digest);
    lode_hash_add(hash, &run->architecture.bos, sizeof run->architecture.bos);
    lode_hash_add(hash, &run->architecture.eos, sizeof run->architecture.eos);
    if (trained) /* which texts there are */
        lode_hash_add_text(hash, lode_train_from_name(config->train.from));
    return LODE_OK;
}

/* What training begins with, and its ids. The files beside the weights are copied as they are when
 * a folder is written: a changed README must not have a model trained again. */
static lode_status_t add_train(lode_hash_t *hash, lode_run_t *run) {
    char ids[LODE_DIGEST_TEXT];
    LODE_TRY(lode_ids_digest(ids, run, LODE_STAGE_TRAIN));
    lode_hash_add_text(hash, run->model_digest);
    lode_hash_add_text(hash, ids);
    if (lode_stage_wanted_of(run->config, run->model, LODE_STAGE_TOKENIZER))
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_TOKENIZER]);
    return LODE_OK;
}

/* What goes into a stage's fingerprint beside its keys. */
static lode_status_t add_dependencies(lode_hash_t *hash, lode_run_t *run, lode_inputs_t *inputs,
                                      lode_stage_t stage) {
    char ids[LODE_DIGEST_TEXT];
    const bool moments = lode_stage_wanted(run->config, LODE_STAGE_MOMENTS);
    const bool compensate = lode_stage_wanted(run->config, LODE_STAGE_COMPENSATE);
    const bool superweight = lode_stage_wanted(run->config, LODE_STAGE_SUPERWEIGHT);
    switch (stage) {
    case LODE_STAGE_TOKENIZER:
        LODE_TRY(add_tokenizer(hash, run, inputs));
        break;
    case LODE_STAGE_TOKENIZE:
        LODE_TRY(add_texts(hash, run, inputs));
        break;
    case LODE_STAGE_TRAIN:
        LODE_TRY(add_train(hash, run));
        break;
    case LODE_STAGE_CALIBRATE:
    case LODE_STAGE_ACCUMULATE:
    case LODE_STAGE_MOMENTS:
        LODE_TRY(lode_ids_digest(ids, run, stage));
        lode_hash_add_text(hash, run->model_digest);
        lode_hash_add_text(hash, ids);
        break;
    case LODE_STAGE_CLASSIFY:
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_ACCUMULATE]);
        break;
    case LODE_STAGE_SUPERWEIGHT: /* the fingerprint of classify has the model's digest */
        LODE_TRY(lode_ids_digest(ids, run, stage));
        LODE_TRY(add_known(hash, run));
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_CLASSIFY]);
        lode_hash_add_text(hash, ids);
        break;
    case LODE_STAGE_SPECTRA:
    case LODE_STAGE_PRUNE:
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_CALIBRATE]);
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_CLASSIFY]);
        if (moments)
            lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_MOMENTS]);
        break;
    case LODE_STAGE_COMPENSATE:
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_PRUNE]);
        break;
    case LODE_STAGE_QUANTIZE: /* that of prune has those of classify and accumulate */
        LODE_TRY(lode_ids_digest(ids, run, stage));
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_PRUNE]);
        if (compensate)
            lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_COMPENSATE]);
        if (superweight)
            lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_SUPERWEIGHT]);
        lode_hash_add_text(hash, ids);
        break;
    case LODE_STAGE_EVALUATE:
        LODE_TRY(lode_ids_digest(ids, run, stage));
        LODE_TRY(add_variants(hash, run));
        lode_hash_add_text(hash, ids);
        break;
    case LODE_STAGE_PROBE:
        LODE_TRY(lode_ids_digest(ids, run, stage));
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_CALIBRATE]);
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_CLASSIFY]);
        lode_hash_add_text(hash, ids);
        break;
    case LODE_STAGE_EXPORT:
        LODE_TRY(companions_digest(run));
        lode_hash_add_text(hash, run->companion_digest);
        lode_hash_add_text(hash, run->model_digest);
        lode_hash_add_text(hash, run->model->name); /* folders are named after both */
        lode_hash_add_text(hash, run->point);
        LODE_TRY(add_variants(hash, run));
        break;
    case LODE_STAGE_AUDIT:
        LODE_TRY(add_audit(hash, run, inputs));
        break;
    case LODE_STAGE_COUNT:
        break;
    }
    return LODE_OK;
}

lode_status_t lode_fingerprint_stage(lode_run_t *run, lode_inputs_t *inputs, lode_stage_t stage) {
    const int32_t revision = LODE_RESULTS_REVISION;
    lode_hash_t *hash;
    lode_status_t status = lode_comm_agree(run->comm, lode_hash_create(&hash));
    if (status == LODE_OK) {
        lode_hash_add(hash, &revision, sizeof revision);
        status = add_dependencies(hash, run, inputs, stage);
    }
    if (status == LODE_OK)
        status = lode_config_stage_hash(run->config, lode_stage_name(stage), hash);
    if (status == LODE_OK)
        lode_hash_text(hash, run->fingerprint[stage]);
    lode_hash_destroy(&hash);
    return lode_comm_agree(run->comm, status);
}
