#include "common/run.h"

#include <gnu/libc-version.h>
#include <hdf5.h>
#include <jansson.h>
#include <libconfig.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/version.h"
#include "kernels/linear.h"
#include "text/gzip.h"
#include "train/train.h"

static const char *const stage_names[] = {
#define LODE_STAGE_NAME(stage, name) name,
    LODE_STAGE_LIST(LODE_STAGE_NAME)
#undef LODE_STAGE_NAME
};

const char *lode_stage_name(lode_stage_t stage) {
    return stage_names[stage];
}

static bool wants_moments(const lode_config_t *config) {
    const lode_config_prune_t *prune = &config->prune;
    if (config->calibration.second_moment != LODE_SECOND_MOMENT_AUTO)
        return true;
    for (int64_t i = 0; i < config->classify.spectra_count; i++)
        if (config->classify.spectra[i] == LODE_SPECTRUM_U)
            return true;
    for (int64_t i = 0; i < prune->method_count; i++)
        if (prune->methods[i] == LODE_METHOD_SPARSEGPT_CHANNEL)
            return true;
    for (int64_t i = 0; prune->method_count > 0 && i < prune->compensation_count; i++)
        if (prune->compensation[i] == LODE_COMPENSATION_LEAST_SQUARES)
            return true;
    return false;
}

static bool wants_compensation(const lode_config_prune_t *prune) {
    for (int64_t i = 0; prune->method_count > 0 && i < prune->compensation_count; i++)
        if (prune->compensation[i] != LODE_COMPENSATION_NONE)
            return true;
    return false;
}

bool lode_stage_wanted(const lode_config_t *config, lode_stage_t stage) {
    switch (stage) {
    case LODE_STAGE_TOKENIZER:
        return config->train.tokenizer.vocabulary > 0;
    case LODE_STAGE_TRAIN:
        return config->train.steps > 0;
    case LODE_STAGE_MOMENTS:
        return wants_moments(config);
    case LODE_STAGE_SUPERWEIGHT:
        return config->superweight.prompt_count > 0;
    case LODE_STAGE_SPECTRA:
        return config->classify.spectra_count > 0;
    case LODE_STAGE_COMPENSATE:
        return wants_compensation(&config->prune);
    case LODE_STAGE_QUANTIZE:
        return config->quantize.method_count > 0;
    case LODE_STAGE_PROBE:
        return config->probe.check_count > 0;
    case LODE_STAGE_EXPORT:
        return config->export_count > 0;
    case LODE_STAGE_AUDIT:
        return config->audit.folder_count > 0;
    default:
        return true;
    }
}

bool lode_stage_wanted_of(const lode_config_t *config, const lode_config_model_t *model,
                          lode_stage_t stage) {
    if (stage == LODE_STAGE_TOKENIZER || stage == LODE_STAGE_TRAIN)
        return lode_stage_wanted(config, stage) && lode_config_is_trained(config, model);
    if (stage != LODE_STAGE_TOKENIZE && lode_config_is_scratch(config, model))
        return false;
    return lode_stage_wanted(config, stage);
}

lode_status_t lode_run_view(lode_run_t *view, const lode_run_t *run,
                            lode_checkpoint_t *checkpoint) {
    const lode_config_t *config = run->config;
    *view = *run;
    view->checkpoint = checkpoint;
    view->architecture = *lode_checkpoint_architecture(checkpoint);
    LODE_TRY(lode_config_check_model(config, view->architecture.max_positions,
                                     view->architecture.hidden, run->model->name));
    return lode_layout_create(&view->layout, &view->architecture, config->calibration.max_length,
                              run->comm->size, run->comm->rank, config->replicas);
}

bool lode_run_owns_layers(const lode_run_t *run) {
    return run->layout.replica == 0;
}

lode_status_t lode_run_path(char **path, const lode_run_t *run, lode_stage_t stage) {
    char name[32];
    snprintf(name, sizeof name, "%s.h5", lode_stage_name(stage));
    return lode_path_join(path, run->folder, name);
}

lode_status_t lode_run_merged_path(char **path, const lode_config_t *config, const char *model,
                                   lode_stage_t stage) {
    lode_buffer_t text = {0};
    lode_status_t status = lode_buffer_printf(&text, "%s/%s/%s.h5", config->calibration.merged,
                                              model, lode_stage_name(stage));
    *path = text.data;
    return status;
}

/* Whether the file at `path` is of this run's inputs and settings: what another experiment of the
 * same name left must not be built upon. By rank 0. */
static lode_status_t check_fingerprint(const lode_run_t *run, lode_stage_t stage,
                                       const char *path) {
    char found[LODE_DIGEST_TEXT];
    if (run->comm->rank != 0)
        return LODE_OK;
    lode_store_fingerprint(path, found);
    if (strcmp(found, run->fingerprint[stage]) == 0)
        return LODE_OK;
    return lode_fail(LODE_ERR_INPUT,
                     "%s: was computed from other inputs or settings, or by another version; run "
                     "the stage %s again",
                     path, lode_stage_name(stage));
}

/* A file is read as a whole once, by the first stage that reads any of it. */
static bool is_sound(const lode_run_t *run, lode_stage_t stage) {
    return run->sound && (*run->sound >> stage & 1);
}

static void note_sound(const lode_run_t *run, lode_stage_t stage) {
    if (run->sound)
        *run->sound |= 1u << stage;
}

lode_status_t lode_run_open(lode_store_t **store, const lode_run_t *run, lode_stage_t stage) {
    *store = NULL;
    char *path;
    lode_status_t status = lode_run_path(&path, run, stage);
    if (status == LODE_OK && !lode_file_exists(path))
        status = lode_fail(LODE_ERR_INPUT, "%s: missing; run the stage %s first", path,
                           lode_stage_name(stage));
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK)
        status = lode_store_open(store, run->comm, path);
    if (status == LODE_OK) {
        status = lode_comm_agree(run->comm, check_fingerprint(run, stage, path));
        if (status == LODE_OK && is_sound(run, stage))
            lode_store_trust(*store);
        else if (status == LODE_OK)
            status = lode_store_verify(*store);
        if (status == LODE_OK)
            note_sound(run, stage);
        else
            lode_store_close(store);
    }
    free(path);
    return status;
}

static void time_text(char text[32]) {
    const time_t now = time(NULL);
    struct tm parts;
    gmtime_r(&now, &parts);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

static lode_status_t create(lode_store_t **store, lode_run_t *run, lode_stage_t stage,
                            bool resumable) {
    *store = NULL;
    char *path;
    time_text(run->start);
    malloc_trim(0); /* small blocks that the stage before has freed would count against this one */
    lode_memory_mark();
    lode_status_t status = lode_comm_agree(run->comm, lode_run_path(&path, run, stage));
    if (status == LODE_OK)
        status = resumable ? lode_store_create_resumable(store, run->comm, path,
                                                         run->fingerprint[stage], run->force)
                           : lode_store_create(store, run->comm, path);
    free(path);
    return status;
}

lode_status_t lode_run_create(lode_store_t **store, lode_run_t *run, lode_stage_t stage) {
    return create(store, run, stage, false);
}

lode_status_t lode_run_create_resumable(lode_store_t **store, lode_run_t *run, lode_stage_t stage) {
    return create(store, run, stage, true);
}

lode_status_t lode_run_create_scratch(lode_store_t **store, const lode_run_t *run,
                                      lode_stage_t stage) {
    *store = NULL;
    lode_buffer_t path = {0};
    LODE_TRY(lode_comm_agree(run->comm, lode_buffer_printf(&path, "%s/%s-scratch.h5", run->folder,
                                                           lode_stage_name(stage))));
    const lode_status_t status = lode_store_create_resumable(store, run->comm, path.data,
                                                             run->fingerprint[stage], run->force);
    lode_buffer_free(&path);
    return status;
}

void lode_run_end_scratch(lode_store_t **store, lode_status_t stage) {
    if (stage == LODE_OK)
        lode_store_remove(store);
    else
        lode_store_abandon(store);
}

void lode_run_say_resumed(const char *stage, int64_t done, int64_t all, const char *units) {
    if (done > 0)
        lode_log_info("%s: going on from an interrupted run, %lld of %lld %s are done", stage,
                      (long long)done, (long long)all, units);
}

void lode_run_tidy(const lode_run_t *run, lode_stage_t stage) {
    static const char *const endings[] = {".h5", "-scratch.h5"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        lode_buffer_t path = {0};
        if (lode_buffer_printf(&path, "%s/%s%s", run->folder, lode_stage_name(stage), endings[i]) ==
            LODE_OK)
            lode_store_discard(path.data);
        lode_buffer_free(&path);
    }
    if (stage == LODE_STAGE_TRAIN)
        lode_train_tidy(run->folder, run->config->train.keep_state);
}

static lode_status_t libraries_text(lode_buffer_t *text) {
    unsigned major, minor, patch;
    char mpi[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    H5get_libversion(&major, &minor, &patch);
    MPI_Get_library_version(mpi, &length);
    mpi[strcspn(mpi, ",\n")] = '\0';
    LODE_TRY(lode_buffer_printf(text, "HDF5 %u.%u.%u\nMPI %s\njansson %s\nlibconfig %d.%d.%d\n",
                                major, minor, patch, mpi, JANSSON_VERSION, LIBCONFIG_VER_MAJOR,
                                LIBCONFIG_VER_MINOR, LIBCONFIG_VER_REVISION));
    LODE_TRY(lode_buffer_printf(text, "zlib %s\nglibc %s\n", lode_gzip_version(),
                                gnu_get_libc_version()));
    return lode_buffer_printf(text, "CBLAS %s\n", lode_blas_description());
}

static lode_status_t write_provenance(lode_store_t *store, lode_run_t *run, lode_stage_t stage) {
    lode_buffer_t experiment = {0}, libraries = {0};
    char digest[LODE_SHA256_TEXT] = "", end[32], host[256] = "";
    int64_t peak = lode_memory_peak_marked();
    gethostname(host, sizeof host - 1);
    time_text(end);
    MPI_Allreduce(MPI_IN_PLACE, &peak, 1, MPI_INT64_T, MPI_MAX, run->comm->comm);
    lode_status_t status = lode_config_text(run->config, &experiment);
    if (status == LODE_OK)
        status = lode_sha256_text(digest, experiment.data, experiment.length);
    if (status == LODE_OK)
        status = libraries_text(&libraries);
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK) {
        const lode_provenance_t provenance = {.experiment = experiment.data,
                                              .experiment_sha256 = digest,
                                              .stage = lode_stage_name(stage),
                                              .fingerprint = run->fingerprint[stage],
                                              .inputs = run->inputs.data,
                                              .version = lode_version(),
                                              .commit = lode_commit(),
                                              .libraries = libraries.data,
                                              .ranks = run->comm->size,
                                              .threads = run->config->threads,
                                              .host = host,
                                              .start = run->start,
                                              .end = end,
                                              .peak_private_bytes = peak};
        status = lode_store_provenance(store, &provenance);
    }
    lode_buffer_free(&experiment);
    lode_buffer_free(&libraries);
    return status;
}

lode_status_t lode_run_finish(lode_store_t **store, lode_run_t *run, lode_stage_t stage,
                              lode_status_t local) {
    lode_status_t status = lode_comm_agree(run->comm, local);
    if (status == LODE_OK && *store)
        status = write_provenance(*store, run, stage);
    if (status != LODE_OK) {
        lode_store_abandon(store);
        return status;
    }
    LODE_TRY(lode_store_commit(store));
    note_sound(run, stage);
    return LODE_OK;
}

/* Targets and gradient weights of sequences in which every next token counts. */
static void fill_targets(lode_sequences_read_t *read, lode_loss_t loss) {
    for (int64_t s = 0; s < read->text.sequences; s++) {
        const int64_t first = read->offsets[s], end = read->offsets[s + 1];
        const double weight = loss == LODE_LOSS_SUM ? 1.0 : 1.0 / (double)(end - first - 1);
        for (int64_t t = first; t + 1 < end; t++) {
            read->target[t] = read->ids[t + 1];
            read->weight[t] = weight;
        }
        read->target[end - 1] = -1;
        read->weight[end - 1] = 0;
    }
}

static lode_status_t read_calibration(lode_sequences_read_t *read, lode_store_t *store,
                                      lode_loss_t loss) {
    int64_t tokens, offsets;
    LODE_TRY(lode_store_read_all(store, "/calibration/ids", LODE_TYPE_I32, &read->ids, &tokens));
    LODE_TRY(lode_store_read_all(store, "/calibration/offsets", LODE_TYPE_I64, &read->offsets,
                                 &offsets));
    LODE_TRY(LODE_NEW(&read->target, tokens, "targets"));
    LODE_TRY(LODE_NEW(&read->weight, tokens, "targets"));
    read->text = (lode_text_t){.sequences = offsets - 1,
                               .offsets = read->offsets,
                               .ids = read->ids,
                               .target = read->target,
                               .weight = read->weight};
    fill_targets(read, loss);
    return LODE_OK;
}

lode_status_t lode_run_calibration(lode_sequences_read_t *read, lode_run_t *run) {
    *read = (lode_sequences_read_t){0};
    lode_store_t *store;
    LODE_TRY(lode_run_open(&store, run, LODE_STAGE_TOKENIZE));
    lode_status_t status =
        lode_comm_agree(run->comm, read_calibration(read, store, run->config->calibration.loss));
    lode_store_close(&store);
    if (status != LODE_OK)
        lode_sequences_free(read);
    return status;
}

void lode_sequences_free(lode_sequences_read_t *read) {
    free(read->offsets);
    free(read->ids);
    free(read->target);
    free(read->weight);
    *read = (lode_sequences_read_t){0};
}

int64_t lode_run_budget(const lode_run_t *run, const lode_stack_t *stack, int64_t other) {
    return run->config->memory - other - lode_stack_bytes(stack);
}
