/* stages/synthesize/tokens: a tokenizer for a model that came without one. Everything here is
 * Local. */
#ifndef LODE_STAGES_SYNTHESIZE_TOKENS_H
#define LODE_STAGES_SYNTHESIZE_TOKENS_H

#include "base/error.h"
#include "model/architecture.h"

/* The text of a tokenizer.json whose tokens are the 256 bytes, beside BOS and EOS under the ids
 * that the architecture has for them; texts begin with BOS where there is one. *out is the
 * caller's, NULL where the vocabulary has no room for that many. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_tokens_by_byte(char **out,
                                                const lode_architecture_t *architecture);

#endif
