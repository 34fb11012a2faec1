#include "train/course.h"

#include "common/version.h"

static void add_text(lode_hash_t *hash, const lode_train_text_t *text, int64_t length) {
    lode_hash_add(hash, &length, sizeof length);
    lode_hash_add(hash, &text->sequences, sizeof text->sequences);
    if (text->sequences > 0)
        lode_hash_add(hash, text->ids, (size_t)(text->sequences * length) * sizeof *text->ids);
}

static lode_status_t hash_weights(char digest[LODE_DIGEST_TEXT], const lode_run_t *run,
                                  const lode_train_text_t *text) {
    const int32_t revision = LODE_RESULTS_REVISION;
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_hash_add(hash, &revision, sizeof revision);
    lode_hash_add_text(hash, run->model_digest);
    if (lode_stage_wanted_of(run->config, run->model, LODE_STAGE_TOKENIZER))
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_TOKENIZER]);
    add_text(hash, text, run->config->train.length);
    const lode_status_t status = lode_config_weights_hash(run->config, hash);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return status;
}

static lode_status_t hash_validation(char digest[LODE_DIGEST_TEXT], const lode_run_t *run,
                                     const lode_train_text_t *validation) {
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    add_text(hash, validation, run->config->train.length);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

lode_status_t lode_train_course_find(lode_train_course_t *course, const lode_run_t *run,
                                     const lode_train_text_t *text,
                                     const lode_train_text_t *validation) {
    lode_status_t status = LODE_OK;
    *course = (lode_train_course_t){0};
    if (run->comm->rank == 0)
        status = hash_weights(course->weights, run, text);
    if (run->comm->rank == 0 && status == LODE_OK)
        status = hash_validation(course->validation, run, validation);
    LODE_TRY(lode_comm_agree(run->comm, status));
    return lode_comm_broadcast(run->comm, course, sizeof *course, 0);
}
