/* stages/tokenizer: a tokenizer of one's own. */
#ifndef LODE_STAGES_TOKENIZER_H
#define LODE_STAGES_TOKENIZER_H

#include "common/run.h"

/* Collective. */
LODE_MUST_USE lode_status_t lode_stage_tokenizer(lode_run_t *run);

#endif
