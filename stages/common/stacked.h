/* stages/common/stacked: a pass over weights that are mapped for it alone. */
#ifndef LODE_STAGES_COMMON_STACKED_H
#define LODE_STAGES_COMMON_STACKED_H

#include "common/run.h"
#include "transformer/pass.h"

/* Runs a pass over the layers that this rank has of run->checkpoint, within the experiment's
 * memory. pass    in, but for comm, layout, stack and budget, which are set here other   in,
 * private bytes of this rank that the caller holds, the text's arrays included Errors: those of
 * lode_stack_create and lode_pass_run. Collective. */
LODE_MUST_USE lode_status_t lode_stacked_pass(const lode_run_t *run, lode_pass_t pass,
                                              int64_t other);

#endif
