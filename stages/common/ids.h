/* stages/common/ids: digests of what tokenize has written.
 *
 * They are of the ids that a stage works on and of nothing else in the file, so that another text
 * of one stage leaves the results of the others complete.
 */
#ifndef LODE_STAGES_COMMON_IDS_H
#define LODE_STAGES_COMMON_IDS_H

#include "common/run.h"

/* Digest of the ids that a stage works on, of the file that tokenize has left. Errors:
 * LODE_ERR_INPUT (no such file), LODE_ERR_FORMAT, LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_ids_digest(char digest[LODE_DIGEST_TEXT], lode_run_t *run,
                                            lode_stage_t stage);

#endif
