/* stages/common/ids: digests of the ids that tokenize has written.
 *
 * Each is of the ids that one stage works on and of nothing else in the file, so that another text
 * of one stage leaves the results of the others complete. It stands for the texts in the stage's
 * fingerprint (common/fingerprint); digests of the texts themselves are in common/inputs.
 */
#ifndef LODE_STAGES_COMMON_IDS_H
#define LODE_STAGES_COMMON_IDS_H

#include "common/run.h"

/* Digest of the ids that a stage works on, of the file that tokenize has left. Errors:
 * LODE_ERR_INPUT (no such file), LODE_ERR_FORMAT, LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_ids_digest(char digest[LODE_DIGEST_TEXT], lode_run_t *run,
                                            lode_stage_t stage);

#endif
