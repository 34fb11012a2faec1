/* stages/tokenize/prefix: the token that the first token of a text is predicted from.
 *
 * It is the one that lm_eval takes (prefix_token_id of its HFLM): the tokenizer's BOS, or its EOS
 * where it has no BOS. Which tokens these are is said by "bos_token" and "eos_token" of
 * tokenizer_config.json, a text or an object with a "content", null for none; of what that file
 * does not say, or where there is no such file, by config.json's bos_token_id and eos_token_id.
 */
#ifndef LODE_STAGES_TOKENIZE_PREFIX_H
#define LODE_STAGES_TOKENIZE_PREFIX_H

#include "common/run.h"
#include "text/tokenizer.h"

/* Sets *prefix to its id. Errors: LODE_ERR_INPUT where the model has neither BOS nor EOS,
 * LODE_ERR_FORMAT (tokenizer_config.json is no JSON object, or names a token that tokenizer.json
 * has not), LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_tokenize_prefix(int32_t *prefix, const lode_run_t *run,
                                                 const lode_tokenizer_t *tokenizer);

#endif
