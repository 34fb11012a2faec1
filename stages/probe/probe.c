#include "probe/probe.h"

#include <stdio.h>
#include <string.h>

#include "probe/work.h"

bool lode_probe_wants(const lode_config_t *config, lode_probe_check_t check) {
    for (int64_t i = 0; i < config->probe.check_count; i++)
        if (config->probe.checks[i] == check)
            return true;
    return false;
}

lode_status_t lode_probe_perplexity(const lode_config_perplexity_t **entry,
                                    const lode_config_t *config) {
    const lode_config_evaluate_t *evaluate = &config->evaluate;
    const lode_config_probe_t *probe = &config->probe;
    *entry = NULL;
    if (!lode_probe_wants(config, LODE_PROBE_DOSE_RESPONSE) &&
        !lode_probe_wants(config, LODE_PROBE_RANDOM_CORES) &&
        !lode_probe_wants(config, LODE_PROBE_SCORE_CORE))
        return LODE_OK;
    if (evaluate->perplexity_count == 0)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: probe.checks: dose-response, random-cores and score-core measure a "
                         "perplexity, and evaluate.perplexity has none; add one",
                         lode_config_where(config, "probe.checks"));
    if (*probe->perplexity == '\0')
        *entry = &evaluate->perplexity[0];
    for (int64_t i = 0; i < evaluate->perplexity_count && !*entry; i++)
        if (strcmp(evaluate->perplexity[i].name, probe->perplexity) == 0)
            *entry = &evaluate->perplexity[i];
    if (*entry)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "%s: probe.perplexity: evaluate.perplexity has no entry \"%s\"; the first is "
                     "\"%s\"",
                     lode_config_where(config, "probe.perplexity"), probe->perplexity,
                     evaluate->perplexity[0].name);
}

lode_status_t lode_probe_put(lode_probe_work_t *work, const char *group, const char *name,
                             lode_type_t type, int axes, const int64_t *shape, const void *data) {
    char path[LODE_PROBE_PATH];
    snprintf(path, sizeof path, "%s/%s", group, name);
    return lode_store_put(work->store, path, type, axes, shape, data);
}

static lode_status_t probe_all(lode_probe_work_t *work) {
    lode_run_t *run = work->run;
    LODE_TRY(lode_run_open(&work->tokenize, run, LODE_STAGE_TOKENIZE));
    LODE_TRY(lode_run_open(&work->calibrate, run, LODE_STAGE_CALIBRATE));
    LODE_TRY(lode_run_open(&work->accumulate, run, LODE_STAGE_ACCUMULATE));
    LODE_TRY(lode_run_open(&work->classify, run, LODE_STAGE_CLASSIFY));
    LODE_TRY(lode_comm_agree(run->comm, lode_probe_candidates_draw(work)));
    LODE_TRY(lode_probe_texts_read(work));
    LODE_TRY(lode_run_create(&work->store, run, LODE_STAGE_PROBE));
    LODE_TRY(lode_probe_candidates_write(work));
    LODE_TRY(lode_probe_measure_begin(work));
    for (int i = 0; i < LODE_PROBE_TEXTS; i++)
        if (work->text[i].variants > 0)
            LODE_TRY(lode_probe_measure(work, i));
    return LODE_OK;
}

lode_status_t lode_stage_probe(lode_run_t *run) {
    lode_probe_work_t work = {.run = run};
    lode_status_t status = probe_all(&work);
    status = lode_run_finish(&work.store, run, LODE_STAGE_PROBE, status);
    lode_run_end_scratch(&work.scratch, status);
    lode_probe_candidates_free(&work);
    lode_probe_texts_free(&work);
    lode_store_close(&work.classify);
    lode_store_close(&work.accumulate);
    lode_store_close(&work.calibrate);
    lode_store_close(&work.tokenize);
    return status;
}
