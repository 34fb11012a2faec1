/* stages/common/fingerprint: what a stage's file must carry to be complete and unchanged.
 *
 * A stage's fingerprint is of all that its result depends on: the digests of what it reads
 * (common/inputs, common/ids), the experiment's keys that it heeds, the fingerprints of the stages
 * before, and the results revision.
 */
#ifndef LODE_STAGES_COMMON_FINGERPRINT_H
#define LODE_STAGES_COMMON_FINGERPRINT_H

#include "common/inputs.h"

/* Fills run->fingerprint[stage] once lode_inputs_prepare() has filled the digests and those of the
 * stages before are set. After tokenize its file must exist, since what counts is its ids, and
 * before audit the folders that it reads. `inputs` remembers the digests of these folders; NULL
 * where neither they, nor a tokenizer and the texts are asked about. Collective. */
LODE_MUST_USE lode_status_t lode_fingerprint_stage(lode_run_t *run, lode_inputs_t *inputs,
                                                   lode_stage_t stage);

#endif
