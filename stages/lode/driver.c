#include "lode/driver.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "accumulate/accumulate.h"
#include "audit/audit.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "calibrate/calibrate.h"
#include "classify/classify.h"
#include "common/fingerprint.h"
#include "common/statistics.h"
#include "compensate/compensate.h"
#include "evaluate/evaluate.h"
#include "export/export.h"
#include "kernels/linear.h"
#include "lode/check.h"
#include "lode/finished.h"
#include "lode/model.h"
#include "moments/moments.h"
#include "probe/probe.h"
#include "prune/prune.h"
#include "quantize/quantize.h"
#include "report/report.h"
#include "spectra/spectra.h"
#include "superweight/superweight.h"
#include "store/digest.h"
#include "store/lock.h"
#include "tokenize/tokenize.h"
#include "tokenizer/tokenizer.h"
#include "train/train.h"

typedef struct driver {
    const lode_comm_t *comm;
    const lode_config_t *config;
    const lode_request_t *request;
    char *folder; /* <results>/<name> */
    const lode_config_point_t *points;
    int64_t point_count;
    lode_inputs_t *inputs;
    lode_finished_t finished; /* rank 0's list is the one that counts */
} driver_t;

typedef lode_status_t (*stage_function_t)(lode_run_t *run);

static const stage_function_t stage_functions[LODE_STAGE_COUNT] = {
    [LODE_STAGE_TOKENIZER] = lode_stage_tokenizer,
    [LODE_STAGE_TOKENIZE] = lode_stage_tokenize,
    [LODE_STAGE_TRAIN] = lode_stage_train,
    [LODE_STAGE_CALIBRATE] = lode_stage_calibrate,
    [LODE_STAGE_ACCUMULATE] = lode_stage_accumulate,
    [LODE_STAGE_MOMENTS] = lode_stage_moments,
    [LODE_STAGE_CLASSIFY] = lode_stage_classify,
    [LODE_STAGE_SUPERWEIGHT] = lode_stage_superweight,
    [LODE_STAGE_SPECTRA] = lode_stage_spectra,
    [LODE_STAGE_PRUNE] = lode_stage_prune,
    [LODE_STAGE_COMPENSATE] = lode_stage_compensate,
    [LODE_STAGE_QUANTIZE] = lode_stage_quantize,
    [LODE_STAGE_EVALUATE] = lode_stage_evaluate,
    [LODE_STAGE_PROBE] = lode_stage_probe,
    [LODE_STAGE_EXPORT] = lode_stage_export,
    [LODE_STAGE_AUDIT] = lode_stage_audit,
};

/* --- finished stages ------------------------------------------------------------------------ */

typedef enum verdict { RUN, COMPLETE, SHARED } verdict_t;

/* Whether the stage must run, decided by rank 0 for all. */
static lode_status_t judge(driver_t *driver, const lode_run_t *run, lode_stage_t stage,
                           verdict_t *verdict) {
    int decision = RUN;
    lode_status_t status = LODE_OK;
    if (driver->comm->rank == 0) {
        char *path, found[LODE_DIGEST_TEXT];
        status = lode_run_path(&path, run, stage);
        if (status == LODE_OK) {
            lode_store_fingerprint(path, found);
            if (strcmp(found, run->fingerprint[stage]) == 0)
                decision = COMPLETE;
            else if (lode_finished_share(&driver->finished, run, stage, path))
                decision = SHARED;
            if (decision != RUN && !lode_finished_whole(run, stage))
                decision = RUN;
            if (driver->request->force && decision == COMPLETE)
                decision = RUN;
            if (decision != RUN)
                lode_run_tidy(run, stage);
            free(path);
        }
    }
    LODE_TRY(lode_comm_agree(driver->comm, status));
    LODE_TRY(lode_comm_broadcast(driver->comm, &decision, sizeof decision, 0));
    *verdict = (verdict_t)decision;
    return LODE_OK;
}

static lode_status_t register_stage(driver_t *driver, const lode_run_t *run, lode_stage_t stage) {
    char *path = NULL;
    lode_status_t status = lode_run_path(&path, run, stage);
    if (status == LODE_OK)
        status = lode_finished_note(&driver->finished, run->fingerprint[stage], path);
    free(path);
    return lode_comm_agree(driver->comm, status);
}

static const lode_stage_t statistics[] = {LODE_STAGE_CALIBRATE, LODE_STAGE_ACCUMULATE,
                                          LODE_STAGE_MOMENTS};

/* Makes what lode merge wrote for the model known, like stages that were finished before. By rank 0
 * alone. */
static lode_status_t note_merged(driver_t *driver, const lode_config_t *config, const char *model) {
    if (!*config->calibration.merged || driver->comm->rank != 0)
        return LODE_OK;
    for (size_t i = 0; i < sizeof statistics / sizeof *statistics; i++) {
        char *path, fingerprint[LODE_DIGEST_TEXT];
        LODE_TRY(lode_run_merged_path(&path, config, model, statistics[i]));
        lode_store_fingerprint(path, fingerprint);
        lode_status_t status =
            *fingerprint ? lode_finished_note(&driver->finished, fingerprint, path) : LODE_OK;
        free(path);
        LODE_TRY(status);
    }
    return LODE_OK;
}

/* Says that merged statistics could not be taken over. */
static void warn_of_merged(const driver_t *driver, const lode_config_t *config,
                           lode_stage_t stage) {
    if (!*config->calibration.merged || driver->request->force)
        return;
    for (size_t i = 0; i < sizeof statistics / sizeof *statistics; i++)
        if (statistics[i] == stage)
            lode_log_warning(
                "%s: %s has no such statistics for this model and these settings; they "
                "are computed from its sequences",
                lode_stage_name(stage), config->calibration.merged);
}

/* --- one model at one point ----------------------------------------------------------------- */

/* Decides about a stage and says so. A stage that was not asked for must be complete only where a
 * later one reads it, which finds out by itself. */
static lode_status_t decide(driver_t *driver, lode_run_t *run, lode_stage_t stage, bool *needed) {
    *needed = false;
    LODE_TRY(lode_fingerprint_stage(run, driver->inputs, stage));
    if (!(driver->request->stages >> stage & 1))
        return LODE_OK;
    verdict_t verdict;
    LODE_TRY(judge(driver, run, stage, &verdict));
    if (verdict == RUN) {
        *needed = true;
        warn_of_merged(driver, run->config, stage);
        return LODE_OK;
    }
    if (verdict == COMPLETE)
        lode_log_info("%s: complete, nothing to do", lode_stage_name(stage));
    return register_stage(driver, run, stage);
}

/* Calibrate, accumulate and moments share one forward pass where several must run. */
static lode_status_t run_statistics(driver_t *driver, lode_run_t *run) {
    static const struct {
        lode_stage_t stage;
        unsigned bit;
    } shared[] = {{LODE_STAGE_CALIBRATE, LODE_STATISTICS_CALIBRATE},
                  {LODE_STAGE_ACCUMULATE, LODE_STATISTICS_ACCUMULATE},
                  {LODE_STAGE_MOMENTS, LODE_STATISTICS_MOMENTS}};
    enum { SHARED_COUNT = sizeof shared / sizeof *shared };
    unsigned stages = 0;
    for (int i = 0; i < SHARED_COUNT; i++) {
        bool needed = false;
        if (lode_stage_wanted_of(run->config, run->model, shared[i].stage))
            LODE_TRY(decide(driver, run, shared[i].stage, &needed));
        stages |= needed ? shared[i].bit : 0;
    }
    if (stages) {
        LODE_TRY(lode_comm_stop(driver->comm, 0));
        LODE_TRY(lode_statistics_run(run, stages));
    }
    for (int i = 0; i < SHARED_COUNT; i++)
        if (stages & shared[i].bit)
            LODE_TRY(register_stage(driver, run, shared[i].stage));
    return LODE_OK;
}

static bool wants_from(const driver_t *driver, int stage) {
    return driver->request->stages >> stage != 0;
}

static lode_status_t run_stages(driver_t *driver, lode_run_t *run) {
    LODE_TRY(lode_inputs_prepare(run, driver->inputs));
    for (int i = 0; i < LODE_STAGE_COUNT && wants_from(driver, i); i++) {
        const lode_stage_t stage = (lode_stage_t)i;
        if (!lode_stage_wanted_of(run->config, run->model, stage))
            continue;
        if (!stage_functions[stage]) {
            lode_log_warning("%s: this version has no such stage; it is left out",
                             lode_stage_name(stage));
            continue;
        }
        if (stage == LODE_STAGE_CALIBRATE) {
            LODE_TRY(run_statistics(driver, run));
            i = LODE_STAGE_MOMENTS;
            continue;
        }
        bool needed;
        LODE_TRY(decide(driver, run, stage, &needed));
        if (!needed)
            continue;
        LODE_TRY(lode_comm_stop(driver->comm, 0));
        LODE_TRY(stage_functions[stage](run));
        LODE_TRY(register_stage(driver, run, stage));
    }
    return LODE_OK;
}

static lode_status_t open_run(lode_run_t *run, driver_t *driver, const lode_config_t *config,
                              const lode_config_model_t *model, const char *point) {
    *run = (lode_run_t){.comm = driver->comm,
                        .config = config,
                        .model = model,
                        .point = point,
                        .force = driver->request->force};
    LODE_TRY(lode_model_open(run, driver->folder));
    if (driver->comm->rank != 0)
        return LODE_OK;
    LODE_TRY(note_merged(driver, config, model->name));
    return lode_directory_create(run->folder);
}

/* The digest of one finished stage, as a line for the digest of all. Files of other settings, which
 * nobody asked to renew, do not count. */
static lode_status_t say_digest(lode_buffer_t *lines, const lode_run_t *run, lode_stage_t stage,
                                const char *where) {
    char *path, found[LODE_DIGEST_TEXT], digest[LODE_DIGEST_TEXT];
    const lode_comm_t alone = lode_comm_alone();
    lode_store_t *store = NULL;
    LODE_TRY(lode_run_path(&path, run, stage));
    lode_store_fingerprint(path, found);
    const bool counts = *found && strcmp(found, run->fingerprint[stage]) == 0;
    lode_status_t status = counts ? lode_store_open(&store, &alone, path) : LODE_OK;
    if (store)
        status = lode_store_digest_sealed(store, digest, NULL);
    lode_store_close(&store);
    free(path);
    if (status != LODE_OK || !counts)
        return status;
    lode_log_info("digest of %s/%s.h5: %s", where, lode_stage_name(stage), digest);
    return lode_buffer_printf(lines, "%s  %s.h5\n", digest, lode_stage_name(stage));
}

/* Says what the results are, in digits that another run can be compared by. */
static lode_status_t say_digests(const lode_run_t *run) {
    char where[4096], digest[LODE_DIGEST_TEXT];
    lode_buffer_t lines = {0};
    lode_status_t status = LODE_OK;
    snprintf(where, sizeof where, "%s%s%s", run->point, *run->point ? "/" : "", run->model->name);
    for (int s = 0; s < LODE_STAGE_COUNT && status == LODE_OK; s++)
        status = say_digest(&lines, run, (lode_stage_t)s, where);
    if (status == LODE_OK)
        status = lode_store_digest_lines(digest, &lines);
    if (status == LODE_OK)
        lode_log_info("digest of %s: %s", where, digest);
    lode_buffer_free(&lines);
    return status;
}

/* --- checkpoints of training ---------------------------------------------------------------- */

/* Whether the training of the run's model, with the settings of this experiment, is complete.
 * Decided by rank 0 for all. */
static lode_status_t is_finished(driver_t *driver, lode_run_t *run, bool *finished) {
    int whole = 0;
    lode_status_t status = LODE_OK;
    if (driver->comm->rank == 0) {
        char *path, found[LODE_DIGEST_TEXT];
        status = lode_run_path(&path, run, LODE_STAGE_TRAIN);
        if (status == LODE_OK) {
            lode_store_fingerprint(path, found);
            whole = strcmp(found, run->fingerprint[LODE_STAGE_TRAIN]) == 0 &&
                    lode_finished_whole(run, LODE_STAGE_TRAIN);
            free(path);
        }
    }
    LODE_TRY(lode_comm_agree(driver->comm, status));
    LODE_TRY(lode_comm_broadcast(driver->comm, &whole, sizeof whole, 0));
    *finished = whole;
    return LODE_OK;
}

/* Whether anything beyond the texts is asked for, which needs weights. */
static bool wants_weights(const driver_t *driver) {
    return wants_from(driver, LODE_STAGE_TRAIN + 1);
}

/* Fingerprints of a model up to that of its training, from the files that there are. */
static lode_status_t know_training(driver_t *driver, lode_run_t *run) {
    LODE_TRY(lode_inputs_prepare(run, driver->inputs));
    for (int s = 0; s <= LODE_STAGE_TRAIN; s++)
        if (lode_stage_wanted_of(run->config, run->model, (lode_stage_t)s))
            LODE_TRY(lode_fingerprint_stage(run, driver->inputs, (lode_stage_t)s));
    return LODE_OK;
}

/* Finds out whether the checkpoints of a model are those of this experiment, which is an error
 * where they are needed: the weights of other settings must not pass for theirs. */
static lode_status_t find_checkpoints(driver_t *driver, const lode_config_t *config,
                                      const lode_config_model_t *base, const char *point,
                                      bool *ready) {
    lode_run_t run;
    *ready = false;
    lode_status_t status =
        lode_comm_agree(driver->comm, open_run(&run, driver, config, base, point));
    if (status == LODE_OK)
        status = know_training(driver, &run);
    if (status == LODE_OK)
        status = is_finished(driver, &run, ready);
    else if (!wants_weights(driver) && status == LODE_ERR_INPUT)
        status = LODE_OK; /* no ids yet */
    if (status == LODE_OK && !*ready && wants_weights(driver))
        status = lode_fail(LODE_ERR_INPUT,
                           "%s/train.h5: missing, of other inputs or settings, or without the "
                           "folders that it lists; run the stage train first",
                           run.folder);
    lode_model_close(&run);
    return status;
}

static lode_status_t run_model(driver_t *driver, const lode_config_t *config,
                               const lode_config_model_t *model, const char *point) {
    lode_run_t run;
    int lock = -1;
    lode_status_t status = open_run(&run, driver, config, model, point);
    if (status == LODE_OK)
        status = lode_model_list_earlier(&run, driver->folder, driver->points, driver->point_count);
    if (status == LODE_OK && driver->comm->rank == 0) {
        char *path;
        status = lode_path_join(&path, run.folder, ".lock");
        if (status == LODE_OK) {
            status = lode_store_lock(&lock, path, run.folder);
            free(path);
        }
    }
    status = lode_comm_agree(driver->comm, status);
    if (status == LODE_OK) {
        lode_model_describe(&run, wants_weights(driver) && !lode_config_is_scratch(config, model));
        status = run_stages(driver, &run);
        if (status == LODE_OK)
            status = lode_comm_agree(driver->comm,
                                     driver->comm->rank == 0 ? say_digests(&run) : LODE_OK);
        if (status != LODE_OK && status != LODE_STOPPED)
            status =
                lode_fail_context(status, "model %s%s%s", model->name, *point ? ", " : "", point);
    }
    lode_store_unlock(&lock);
    lode_model_close(&run);
    return status;
}

/* --- the experiment ------------------------------------------------------------------------- */

static void warn_of_affinity(const lode_config_t *config) {
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) != 0)
        return;
    const int cores = CPU_COUNT(&mask);
    if (cores < config->threads)
        lode_log_warning("threads = %lld, but this process may use %d %s; start mpirun with "
                         "--bind-to none or --map-by slot:PE=%lld",
                         (long long)config->threads, cores, cores == 1 ? "core" : "cores",
                         (long long)config->threads);
}

/* Unless the run is to stop. */
static lode_status_t run_model_now(driver_t *driver, const lode_config_t *config,
                                   const lode_config_model_t *model, const char *point) {
    LODE_TRY(lode_comm_stop(driver->comm, 0));
    return run_model(driver, config, model, point);
}

/* The models that training has made of another. */
static lode_status_t run_checkpoints(driver_t *driver, const lode_config_t *config,
                                     const lode_config_model_t *base, const char *point) {
    const unsigned before = 1u << LODE_STAGE_TOKENIZER | 1u << LODE_STAGE_TRAIN;
    bool looked = false, ready = false;
    if (!(driver->request->stages & ~before))
        return LODE_OK;
    if (!lode_config_measures(config) && wants_weights(driver) &&
        lode_config_selects(config, driver->request->model, base))
        lode_log_info("the checkpoints of %s are trained and no more, as there is no "
                      "calibration.corpus",
                      base->name);
    for (int64_t i = 0; i < config->trained_count; i++) {
        const lode_config_model_t *model = &config->trained[i];
        if (lode_config_trained_from(config, model) != base ||
            !lode_config_selects(config, driver->request->model, model))
            continue;
        if (!looked)
            LODE_TRY(find_checkpoints(driver, config, base, point, &ready));
        looked = true;
        if (ready)
            LODE_TRY(run_model_now(driver, config, model, point));
        else
            lode_log_info("model %s is not trained yet; it is left out", model->name);
    }
    return LODE_OK;
}

static lode_status_t run_points(driver_t *driver, const lode_config_point_t *points,
                                int64_t count) {
    lode_status_t status = LODE_OK;
    driver->points = points;
    driver->point_count = count;
    for (int64_t p = 0; p < count && status == LODE_OK && driver->comm->rank == 0; p++)
        status =
            lode_check_inputs(points[p].config, points[p].label, driver->request->model, false);
    LODE_TRY(lode_comm_agree(driver->comm, status));
    for (int64_t p = 0; p < count; p++) {
        const lode_config_t *config = points[p].config;
        lode_set_threads((int)config->threads);
        warn_of_affinity(config);
        for (int64_t m = 0; m < config->model_count; m++)
            if (lode_config_selects(config, driver->request->model, &config->models[m]))
                LODE_TRY(run_model_now(driver, config, &config->models[m], points[p].label));
        for (int64_t m = 0; m < config->model_count; m++)
            LODE_TRY(run_checkpoints(driver, config, &config->models[m], points[p].label));
    }
    return LODE_OK;
}

/* Says what memory the run took, which the budget is meant to bound. Collective. */
static void report_memory(const lode_comm_t *comm, const lode_config_t *config) {
    /* What no budget counts. Measured with Open MPI 4.1, HDF5 1.10 and OpenBLAS 0.3.20: 6 MB of MPI
     * and HDF5 with an open file, and for the panels that BLAS packs 0.8 to 1.5 MB a thread of
     * sgemm and 8 MB of dgemm, which may be more on other processors. As lode plan has them: 8 MB
     * of ScaLAPACK and the heap after matrices were spread over ranks, and 300 bytes a token of the
     * tokenizer, 77 MB for the largest vocabularies. */
    const double base = 96e6 + 8e6 * (double)config->threads;
    const double budget = (double)config->memory;
    struct {
        double bytes;
        int rank;
    } peak = {(double)lode_memory_peak(), comm->rank};
    MPI_Allreduce(MPI_IN_PLACE, &peak, 1, MPI_DOUBLE_INT, MPI_MAXLOC, comm->comm);
    if (peak.bytes <= 0) /* the system does not tell */
        return;
    lode_log_info("peak private memory %.2f GB (rank %d), budget %.2f GB", peak.bytes / 1e9,
                  peak.rank, budget / 1e9);
    if (peak.bytes > budget + base)
        lode_log_warning("rank %d took %.2f GB more private memory than memory = %.2f GB allows; "
                         "leave that much room where memory is limited from outside",
                         peak.rank, (peak.bytes - budget) / 1e9, budget / 1e9);
}

lode_status_t lode_driver_run(const lode_comm_t *comm, const lode_config_t *config,
                              const lode_request_t *request) {
    driver_t driver = {.comm = comm, .config = config, .request = request};
    lode_config_point_t *points = NULL;
    int64_t count = 0;
    lode_status_t status = lode_path_join(&driver.folder, config->results, config->name);
    if (status == LODE_OK)
        status = lode_config_expand(config, &points, &count);
    if (status == LODE_OK && comm->rank == 0)
        status = lode_directory_create(driver.folder);
    if (status == LODE_OK)
        status = lode_inputs_open(&driver.inputs, driver.folder);
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        status = run_points(&driver, points, count);
    /* What failed is all that a failed run should end with, unless it failed for want of memory. */
    if (status == LODE_OK || status == LODE_STOPPED || status == LODE_ERR_MEMORY)
        report_memory(comm, config);
    lode_inputs_close(&driver.inputs, comm);
    lode_config_points_destroy(&points, count);
    lode_finished_free(&driver.finished);
    free(driver.folder);
    if (status == LODE_OK && request->report)
        status = lode_driver_report(comm, config);
    return status;
}

/* --- the report ----------------------------------------------------------------------------- */

static lode_status_t build_report(const lode_config_t *config, const lode_config_point_t *points,
                                  int64_t count, const char *folder) {
    lode_report_entry_t *entries;
    int64_t room = 0, total = 0;
    for (int64_t p = 0; p < count; p++)
        room += lode_config_model_total(points[p].config);
    LODE_TRY(LODE_NEW(&entries, room, "report"));
    for (int64_t p = 0; p < count; p++) {
        const lode_config_t *at = points[p].config;
        for (int64_t m = 0; m < lode_config_model_total(at); m++) {
            const lode_config_model_t *model = lode_config_model_at(at, m);
            entries[total++] = (lode_report_entry_t){.point = points[p].label,
                                                     .model = model->name,
                                                     .series = model->series,
                                                     .step = model->step,
                                                     .scratch = lode_config_is_scratch(at, model),
                                                     .budget = at->quantize.budget};
        }
    }
    const lode_report_t report = {.folder = folder,
                                  .name = config->name,
                                  .seed = config->seed,
                                  .entries = entries,
                                  .count = total};
    const lode_status_t status = lode_report_build(&report);
    free(entries);
    LODE_TRY(status);
    lode_log_info("report: %s/report.html", folder);
    return LODE_OK;
}

lode_status_t lode_driver_report(const lode_comm_t *comm, const lode_config_t *config) {
    lode_status_t status = LODE_OK;
    if (comm->rank == 0) {
        lode_config_point_t *points = NULL;
        int64_t count = 0;
        char *folder = NULL;
        status = lode_config_expand(config, &points, &count);
        if (status == LODE_OK)
            status = lode_path_join(&folder, config->results, config->name);
        if (status == LODE_OK && !lode_file_exists(folder))
            status = lode_fail(LODE_ERR_INPUT, "%s: missing; run the experiment first", folder);
        if (status == LODE_OK)
            status = build_report(config, points, count, folder);
        lode_config_points_destroy(&points, count);
        free(folder);
    }
    return lode_comm_agree(comm, status);
}
