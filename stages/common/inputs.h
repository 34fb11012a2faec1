/* stages/common/inputs: digests of what a run reads from outside: models and texts.
 *
 * A digest is of contents alone. Files that have kept their size and their times of modification
 * and change since they were last hashed are not read again: <results>/<name>/.fingerprints.json
 * remembers their digests, like git's index. Weights are hashed by the ranks that own them, tensor
 * by tensor. Of what tokenize makes from the texts the digests are in common/ids; what a stage's
 * result depends on, of these and all else, is its fingerprint (common/fingerprint).
 */
#ifndef LODE_STAGES_COMMON_INPUTS_H
#define LODE_STAGES_COMMON_INPUTS_H

#include "common/run.h"

typedef struct lode_inputs lode_inputs_t;

/* Loads what is remembered in `folder`; something unreadable there counts as nothing. Rank 0's
 * memory alone is used. Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_inputs_open(lode_inputs_t **inputs, const char *folder);

/* Writes what is remembered back, on rank 0, and releases it. A failure to write only costs time
 * later: it is a warning. Local. */
void lode_inputs_close(lode_inputs_t **inputs, const lode_comm_t *comm);

/* Digest of a file's bytes, hashed by rank 0. Errors: LODE_ERR_INPUT. Collective. */
LODE_MUST_USE lode_status_t lode_inputs_file(char digest[LODE_DIGEST_TEXT], lode_inputs_t *inputs,
                                             const lode_comm_t *comm, const char *path);

/* Digest of a model: its config.json and every tensor it computes with. Collective. */
LODE_MUST_USE lode_status_t lode_inputs_model(char digest[LODE_DIGEST_TEXT], lode_inputs_t *inputs,
                                              const lode_run_t *run);

/* Fills run->model_digest, run->text_digest and run->inputs. Collective. */
LODE_MUST_USE lode_status_t lode_inputs_prepare(lode_run_t *run, lode_inputs_t *inputs);

#endif
