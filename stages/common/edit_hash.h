/* stages/common/edit_hash: the contents of an edit, for digests. Everything here is Local. */
#ifndef LODE_STAGES_COMMON_EDIT_HASH_H
#define LODE_STAGES_COMMON_EDIT_HASH_H

#include "base/hash.h"
#include "transformer/stack.h"

/* Adds everything that `edit` says about layer `index` of the model: two edits that add the same
 * compute the same. */
void lode_edit_hash(lode_hash_t *hash, const lode_layer_edit_t *edit,
                    const lode_architecture_t *architecture, int64_t index);

#endif
