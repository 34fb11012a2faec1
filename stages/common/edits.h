/* stages/common/edits: variants of a model as edits of its layers.
 *
 * Kept channels come from prune.h5, and what compensates for the others from compensate.h5: new
 * down projections, used where they lie in the file, or a bias. Super weights and the other
 * outliers of experiments come from superweight.h5, scales and minima of quantized matrices from
 * quantize.h5, used where they lie, and protected channels from classify.h5.
 *
 * A quantized variant of a pruned one has its channels, down projections and biases. Protected and
 * held channels are those of the model as it is then; what has been pruned away needs no
 * protection. A protected super weight stays what it is in the matrix that is quantized, the stored
 * value or the compensated one. Held channels of 8-bit inputs are those that super activations
 * stand in: in the input of down, the channel of each super weight of the layer; in those of
 * attention and feed-forward block, the row of each super weight of an earlier layer. Where only
 * feed-forward blocks are quantized (quantize.tensors), so are only their inputs.
 */
#ifndef LODE_STAGES_COMMON_EDITS_H
#define LODE_STAGES_COMMON_EDITS_H

#include "common/run.h"
#include "common/variants.h"

typedef struct lode_edits lode_edits_t;

/* Reads what concerns this rank's layers. Files are opened only where a variant needs them.
 * variants [count] stay the caller's, and must stay; the base of each is a place among them. *edits
 * is for lode_edits_close. Errors: LODE_ERR_INPUT (an earlier stage's file is missing or of other
 * settings), LODE_ERR_SHAPE (it does not fit the masks or the model), LODE_ERR_FORMAT (it names
 * weights that the model does not have), LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_edits_open(lode_edits_t **edits, const lode_run_t *run,
                                            const lode_variant_t *variants, int64_t count);
void lode_edits_close(lode_edits_t **edits); /* Collective. */

/* The edit of one of this rank's layers in variants[variant]; valid until the next question about
 * the same layer. Local. */
lode_layer_edit_t lode_edits_of(lode_edits_t *edits, int64_t variant, int64_t layer);

/* The most private bytes that the edits of variants [count] take while they are read, with `layers`
 * layers of m channels and hidden size d on the rank; of super weights and outliers it takes as
 * many as models are known to have, which are some thousand. Local. */
int64_t lode_edits_plan(const lode_variant_t *variants, int64_t count, int64_t layers, int64_t m,
                        int64_t d);

/* Private bytes that the edits take. Local. */
int64_t lode_edits_memory(const lode_edits_t *edits);

#endif
