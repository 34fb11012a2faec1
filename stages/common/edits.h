/* stages/common/edits: pruned variants as edits of feed-forward blocks.
 *
 * Kept channels come from prune.h5, and what compensates for the others from compensate.h5: new
 * down projections, used where they lie in the file, or a bias.
 */
#ifndef LODE_STAGES_COMMON_EDITS_H
#define LODE_STAGES_COMMON_EDITS_H

#include "common/run.h"
#include "common/variants.h"

typedef struct lode_edits lode_edits_t;

/* Reads what concerns this rank's layers; compensate.h5 is opened only where a variant is
 * compensated. variants [count] stay the caller's, and must stay. *edits is for lode_edits_close.
 * Errors: LODE_ERR_INPUT (an earlier stage's file is missing or of other settings), LODE_ERR_SHAPE
 * (it does not fit the masks), LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_edits_open(lode_edits_t **edits, const lode_run_t *run,
                                            const lode_variant_t *variants, int64_t count);
void lode_edits_close(lode_edits_t **edits); /* Collective. */

/* The edit of one of this rank's layers in variants[variant]; valid until the next question about
 * the same layer. Local. */
lode_layer_edit_t lode_edits_of(lode_edits_t *edits, int64_t variant, int64_t layer);

/* The most private bytes that the edits of variants [count] take while they are read, with `layers`
 * layers of m channels and hidden size d on the rank. Local. */
int64_t lode_edits_plan(const lode_variant_t *variants, int64_t count, int64_t layers, int64_t m,
                        int64_t d);

/* Private bytes that the edits take. Local. */
int64_t lode_edits_memory(const lode_edits_t *edits);

#endif
