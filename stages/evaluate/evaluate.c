#include "evaluate/evaluate.h"

#include <stdlib.h>

#include "base/memory.h"
#include "evaluate/perplexity.h"
#include "evaluate/tasks.h"

/* Creates all datasets, so that an interrupted run's can be taken over. Collective. */
static lode_status_t create_datasets(lode_evaluate_work_t *work) {
    const lode_run_t *run = work->run;
    const lode_config_evaluate_t *evaluate = &run->config->evaluate;
    const int64_t sets = evaluate->perplexity_count + evaluate->task_count;
    lode_status_t status = LODE_NEW(&work->parts, sets, "data sets");
    if (status == LODE_OK)
        status = LODE_NEW(&work->scratch_parts, evaluate->task_count, "tasks");
    LODE_TRY(lode_comm_agree(run->comm, status));
    for (int64_t i = 0; i < evaluate->perplexity_count; i++)
        LODE_TRY(lode_evaluate_perplexity_create(work, i));
    for (int64_t i = 0; i < evaluate->task_count; i++)
        LODE_TRY(lode_evaluate_task_create(work, i));
    LODE_TRY(lode_store_resume(work->store, work->parts, sets));
    return evaluate->task_count == 0
               ? LODE_OK
               : lode_store_resume(work->scratch, work->scratch_parts, evaluate->task_count);
}

static lode_status_t evaluate_all(lode_evaluate_work_t *work) {
    lode_run_t *run = work->run;
    const lode_config_evaluate_t *evaluate = &run->config->evaluate;
    LODE_TRY(lode_run_open(&work->tokenize, run, LODE_STAGE_TOKENIZE));
    LODE_TRY(lode_comm_agree(
        run->comm, lode_variants_list(&work->variants, &work->variant_count, run->config)));
    LODE_TRY(lode_edits_open(&work->edits, run, work->variants, work->variant_count));
    LODE_TRY(lode_edit_digests_create(&work->digests, run, 1 + work->variant_count,
                                      lode_evaluate_edit, work));
    LODE_TRY(lode_run_create_resumable(&work->store, run, LODE_STAGE_EVALUATE));
    if (evaluate->task_count > 0)
        LODE_TRY(lode_run_create_scratch(&work->scratch, run, LODE_STAGE_EVALUATE));
    LODE_TRY(create_datasets(work));
    for (int64_t i = 0; i < evaluate->perplexity_count; i++)
        LODE_TRY(lode_evaluate_perplexity(work, i));
    for (int64_t i = 0; i < evaluate->task_count; i++)
        LODE_TRY(lode_evaluate_task(work, i));
    return LODE_OK;
}

lode_status_t lode_stage_evaluate(lode_run_t *run) {
    lode_evaluate_work_t work = {.run = run, .stage = "evaluate", .dense = "dense", .group = ""};
    lode_status_t status = evaluate_all(&work);
    status = lode_run_finish(&work.store, run, LODE_STAGE_EVALUATE, status);
    lode_run_end_scratch(&work.scratch, status);
    lode_edit_digests_free(&work.digests);
    lode_edits_close(&work.edits);
    lode_variants_free(&work.variants, work.variant_count);
    lode_store_close(&work.tokenize);
    free(work.parts);
    free(work.scratch_parts);
    return status;
}
