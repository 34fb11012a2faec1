#include "common/stacked.h"

lode_status_t lode_stacked_pass(const lode_run_t *run, lode_pass_t pass, int64_t other) {
    lode_stack_t *stack = NULL;
    lode_status_t status = LODE_OK;
    if (run->layout.replica >= 0)
        status = lode_stack_create(&stack, run->checkpoint, &run->layout, pass.batches->max_tokens,
                                   pass.batches->longest, (int)run->config->threads);
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK) {
        pass.comm = run->comm;
        pass.layout = &run->layout;
        pass.stack = stack;
        pass.budget = lode_run_budget(run, stack, other);
        status = lode_pass_run(&pass);
    }
    lode_stack_destroy(&stack);
    return status;
}
