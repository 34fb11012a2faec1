/* stages/tokenize/ids: a growing array of token ids cut into sequences. Everything here is Local.
 */
#ifndef LODE_STAGES_TOKENIZE_IDS_H
#define LODE_STAGES_TOKENIZE_IDS_H

#include <stdint.h>

#include "base/error.h"

/* Initialise with {0}. Sequence s is id[offset[s] … offset[s + 1]). */
typedef struct lode_ids {
    int32_t *id; /* [count] */
    int64_t count, room;
    int64_t *offset; /* [sequences + 1]; NULL as long as there is no sequence */
    int64_t sequences, offset_room;
} lode_ids_t;

/* Appends id [count]; count may be 0. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_ids_append(lode_ids_t *ids, const int32_t *id, int64_t count);

/* Ends a sequence, possibly an empty one, at the ids appended so far. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_ids_cut(lode_ids_t *ids);

/* Puts `token` before every sequence, in place. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_ids_put_before(lode_ids_t *ids, int32_t token);

/* Releases the arrays and leaves {0}. */
void lode_ids_free(lode_ids_t *ids);

#endif
