#include "superweight/superweight.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "superweight/work.h"
#include "tokenize/superweight.h"

static lode_superweight_work_t work_of(lode_run_t *run) {
    return (lode_superweight_work_t){.run = run,
                                     .L = run->architecture.layers,
                                     .d = run->architecture.hidden,
                                     .m = run->architecture.intermediate};
}

/* Collective. */
static lode_status_t open_inputs(lode_superweight_work_t *work) {
    LODE_TRY(lode_run_open(&work->tokenize, work->run, LODE_STAGE_TOKENIZE));
    LODE_TRY(lode_run_open(&work->accumulate, work->run, LODE_STAGE_ACCUMULATE));
    LODE_TRY(lode_run_open(&work->classify, work->run, LODE_STAGE_CLASSIFY));
    lode_status_t status =
        lode_superweight_text_read(&work->prompts, work->tokenize, "/superweight");
    if (status == LODE_OK)
        status = lode_superweight_stopwords_read(work);
    return lode_comm_agree(work->run->comm, status);
}

static void work_free(lode_superweight_work_t *work) {
    lode_store_close(&work->classify);
    lode_store_close(&work->accumulate);
    lode_store_close(&work->tokenize);
    lode_superweight_text_free(&work->prompts);
    lode_superweight_stopwords_free(&work->stopwords);
    lode_superweight_known_free(&work->known);
    lode_superweight_list_free(&work->list);
    free(work->relation);
    free(work->tensor.item);
    free(work->global.item);
}

static void say(const lode_superweight_work_t *work) {
    const lode_config_superweight_t *config = &work->run->config->superweight;
    lode_log_info("superweight: %lld found in %s over %lld prompts", (long long)work->list.count,
                  work->run->model->name, (long long)config->prompt_count);
}

/* Collective. */
static lode_status_t compute(lode_superweight_work_t *work) {
    LODE_TRY(open_inputs(work));
    LODE_TRY(lode_superweight_search(&work->list, work->run, "superweight", &work->prompts.text));
    say(work);
    lode_status_t status = LODE_OK;
    if (work->run->comm->rank == 0)
        status = lode_superweight_relate(work);
    LODE_TRY(lode_comm_agree(work->run->comm, status));
    LODE_TRY(lode_superweight_others_find(work));
    return lode_superweight_stopwords_measure(work);
}

lode_status_t lode_stage_superweight(lode_run_t *run) {
    lode_superweight_work_t work = work_of(run);
    lode_status_t status = compute(&work);
    if (status == LODE_OK)
        status = lode_run_create(&work.store, run, LODE_STAGE_SUPERWEIGHT);
    if (status == LODE_OK) {
        status = lode_superweight_write(&work);
        status = lode_run_finish(&work.store, run, LODE_STAGE_SUPERWEIGHT, status);
    }
    work_free(&work);
    return status;
}

/* --- for plans ------------------------------------------------------------------------------- */

static bool wants(const lode_config_superweight_t *config, lode_experiment_t what) {
    for (int64_t e = 0; e < config->experiment_count; e++)
        if (config->experiments[e] == what)
            return true;
    return false;
}

/* Weights that the rule for each matrix takes of a layer. */
static int64_t tensor_share(const lode_architecture_t *a, const lode_config_superweight_t *config) {
    const int64_t query = a->heads * a->head_dim, key = a->kv_heads * a->head_dim;
    const int64_t matrices[] = {query * a->hidden,
                                key * a->hidden,
                                key * a->hidden,
                                query * a->hidden,
                                a->gated ? a->intermediate * a->hidden : 0,
                                a->intermediate * a->hidden,
                                a->intermediate * a->hidden};
    int64_t sum = 0;
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        const int64_t share = (int64_t)floor(config->others_fraction * (double)matrices[i]);
        const int64_t wanted = share > config->others_least ? share : config->others_least;
        sum += wanted < matrices[i] ? wanted : matrices[i];
    }
    return wants(config, LODE_EXPERIMENT_OTHERS_TENSOR) ? sum : 0;
}

static lode_status_t count_file(lode_superweight_work_t *work, int64_t *bytes) {
    LODE_TRY(lode_store_tally_create(&work->store));
    const lode_status_t status = lode_superweight_write(work);
    *bytes = lode_store_tally_end(&work->store);
    return status;
}

lode_status_t lode_superweight_size(lode_stage_size_t *size, lode_run_t *run, int64_t prompts,
                                    int64_t longest, int64_t words, int64_t texts) {
    const lode_config_superweight_t *config = &run->config->superweight;
    const lode_architecture_t *a = &run->architecture;
    lode_superweight_work_t work = work_of(run);
    work.prompts.text.sequences = prompts;
    work.list.count = config->limit;
    work.stopwords.wanted = words > 0;
    work.stopwords.words = words;
    work.stopwords.texts.text.sequences = texts;
    work.tensor.count = a->layers * tensor_share(a, config);
    work.global.count = wants(config, LODE_EXPERIMENT_OTHERS_GLOBAL) ? config->others_count : 0;
    /* Of the ranks' largest weights rank 0 holds all at once, and those that are written besides.
     */
    const int64_t others = (2 * work.tensor.count + (1 + run->comm->size) * work.global.count) *
                           (int64_t)(sizeof(lode_outlier_t) + sizeof(double));
    const int64_t outputs = longest * a->hidden * (int64_t)sizeof(lode_real_t);
    const int64_t probabilities = (texts + longest) * (words + 1) * (int64_t)sizeof(double);
    const int64_t search = lode_superweight_search_memory(run, prompts, longest);
    *size = (lode_stage_size_t){.memory = search + others +
                                          (probabilities > outputs ? probabilities - outputs : 0)};
    return count_file(&work, &size->file);
}
