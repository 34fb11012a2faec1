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

/* Adds the fingerprint of a stage before; and that of one which need not be wanted. */
static void add_stage(lode_hash_t *hash, const lode_run_t *run, lode_stage_t stage) {
    lode_hash_add_text(hash, run->fingerprint[stage]);
}

static void add_wanted(lode_hash_t *hash, const lode_run_t *run, lode_stage_t stage) {
    if (lode_stage_wanted(run->config, stage))
        add_stage(hash, run, stage);
}

/* Adds the ids that a stage works on. */
static lode_status_t add_ids(lode_hash_t *hash, lode_run_t *run, lode_stage_t stage) {
    char digest[LODE_DIGEST_TEXT];
    LODE_TRY(lode_ids_digest(digest, run, stage));
    lode_hash_add_text(hash, digest);
    return LODE_OK;
}

/* What all variants are made from, and the names of those that no key of the stage decides. */
static lode_status_t add_variants(lode_hash_t *hash, const lode_run_t *run) {
    lode_variant_t *variants;
    int64_t count;
    add_stage(hash, run, LODE_STAGE_PRUNE);
    add_wanted(hash, run, LODE_STAGE_COMPENSATE);
    add_wanted(hash, run, LODE_STAGE_SUPERWEIGHT);
    add_wanted(hash, run, LODE_STAGE_QUANTIZE);
    LODE_TRY(lode_comm_agree(run->comm, lode_variants_list(&variants, &count, run->config)));
    for (int64_t v = 0; v < count; v++)
        if (!variants[v].pruned)
            lode_hash_add_text(hash, variants[v].name);
    lode_variants_free(&variants, count);
    return LODE_OK;
}

/* What the original is compared by, and the folders' contents. */
static lode_status_t add_audit(lode_hash_t *hash, lode_run_t *run, lode_inputs_t *inputs) {
    lode_hash_add_text(hash, run->model_digest);
    LODE_TRY(add_ids(hash, run, LODE_STAGE_AUDIT));
    LODE_TRY(add_ids(hash, run, LODE_STAGE_EVALUATE));
    add_stage(hash, run, LODE_STAGE_CLASSIFY);
    add_wanted(hash, run, LODE_STAGE_SUPERWEIGHT);
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
        add_stage(hash, run, LODE_STAGE_TOKENIZER);
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
    lode_hash_add_text(hash, run->model_digest);
    LODE_TRY(add_ids(hash, run, LODE_STAGE_TRAIN));
    if (lode_stage_wanted_of(run->config, run->model, LODE_STAGE_TOKENIZER))
        add_stage(hash, run, LODE_STAGE_TOKENIZER);
    return LODE_OK;
}

/* What an export copies, and what it names its folders after. */
static lode_status_t add_export(lode_hash_t *hash, lode_run_t *run) {
    LODE_TRY(companions_digest(run));
    lode_hash_add_text(hash, run->companion_digest);
    lode_hash_add_text(hash, run->model_digest);
    lode_hash_add_text(hash, run->model->name);
    lode_hash_add_text(hash, run->point);
    return add_variants(hash, run);
}

/* What goes into a stage's fingerprint beside its keys. */
static lode_status_t add_dependencies(lode_hash_t *hash, lode_run_t *run, lode_inputs_t *inputs,
                                      lode_stage_t stage) {
    switch (stage) {
    case LODE_STAGE_TOKENIZER:
        return add_tokenizer(hash, run, inputs);
    case LODE_STAGE_TOKENIZE:
        return add_texts(hash, run, inputs);
    case LODE_STAGE_TRAIN:
        return add_train(hash, run);
    case LODE_STAGE_CALIBRATE:
    case LODE_STAGE_ACCUMULATE:
    case LODE_STAGE_MOMENTS:
        lode_hash_add_text(hash, run->model_digest);
        return add_ids(hash, run, stage);
    case LODE_STAGE_CLASSIFY:
        add_stage(hash, run, LODE_STAGE_ACCUMULATE);
        return LODE_OK;
    case LODE_STAGE_SUPERWEIGHT: /* the fingerprint of classify has the model's digest */
        LODE_TRY(add_known(hash, run));
        add_stage(hash, run, LODE_STAGE_CLASSIFY);
        return add_ids(hash, run, stage);
    case LODE_STAGE_SPECTRA:
    case LODE_STAGE_PRUNE:
        add_stage(hash, run, LODE_STAGE_CALIBRATE);
        add_stage(hash, run, LODE_STAGE_CLASSIFY);
        add_wanted(hash, run, LODE_STAGE_MOMENTS);
        return LODE_OK;
    case LODE_STAGE_COMPENSATE:
        add_stage(hash, run, LODE_STAGE_PRUNE);
        return LODE_OK;
    case LODE_STAGE_QUANTIZE: /* that of prune has those of classify and accumulate */
        add_stage(hash, run, LODE_STAGE_PRUNE);
        add_wanted(hash, run, LODE_STAGE_COMPENSATE);
        add_wanted(hash, run, LODE_STAGE_SUPERWEIGHT);
        return add_ids(hash, run, stage);
    case LODE_STAGE_EVALUATE:
        LODE_TRY(add_variants(hash, run));
        return add_ids(hash, run, stage);
    case LODE_STAGE_PROBE:
        add_stage(hash, run, LODE_STAGE_CALIBRATE);
        add_stage(hash, run, LODE_STAGE_CLASSIFY);
        return add_ids(hash, run, stage);
    case LODE_STAGE_EXPORT:
        return add_export(hash, run);
    case LODE_STAGE_AUDIT:
        return add_audit(hash, run, inputs);
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
