#include "evaluate/evaluate.h"

#include "evaluate/perplexity.h"
#include "evaluate/tasks.h"

static lode_status_t evaluate_all(lode_evaluate_work_t *work) {
    lode_run_t *run = work->run;
    LODE_TRY(lode_run_open(&work->tokenize, run, LODE_STAGE_TOKENIZE));
    LODE_TRY(lode_comm_agree(
        run->comm, lode_variants_list(&work->variants, &work->variant_count, run->config)));
    LODE_TRY(lode_edits_open(&work->edits, run, work->variants, work->variant_count));
    LODE_TRY(lode_edit_digests_create(&work->digests, run, 1 + work->variant_count,
                                      lode_evaluate_edit, work));
    LODE_TRY(lode_run_create(&work->store, run, LODE_STAGE_EVALUATE));
    LODE_TRY(lode_evaluate_perplexities(work));
    return lode_evaluate_tasks(work);
}

lode_status_t lode_stage_evaluate(lode_run_t *run) {
    lode_evaluate_work_t work = {.run = run};
    lode_status_t status = evaluate_all(&work);
    status = lode_run_finish(&work.store, run, LODE_STAGE_EVALUATE, status);
    lode_edit_digests_free(&work.digests);
    lode_edits_close(&work.edits);
    lode_variants_free(&work.variants, work.variant_count);
    lode_store_close(&work.tokenize);
    return status;
}
