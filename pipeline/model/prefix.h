/* model/prefix: the token that a text without context is predicted from.
 *
 * It is the tokenizer's BOS, or its EOS where it has no BOS, as lm_eval takes it
 * (HFLM.prefix_token_id): from "bos_token" and "eos_token" of tokenizer_config.json where the
 * folder has one, else what the tokenizer puts before every text, else bos_token_id and
 * eos_token_id of config.json. Everything here is Local.
 */
#ifndef LODE_MODEL_PREFIX_H
#define LODE_MODEL_PREFIX_H

#include <stdint.h>

#include "base/error.h"
#include "model/architecture.h"
#include "text/tokenizer.h"

/* Path of tokenizer_config.json in a model's folder, the caller's; NULL where there is none.
 * Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_prefix_file(char **path, const char *folder);

/* Finds the token.
 *   id            out, −1 where the model has neither BOS nor EOS
 *   folder        in, of the checkpoint
 *   tokenizer     in, of that folder
 *   architecture  in, of that folder
 * Errors: LODE_ERR_FORMAT (tokenizer_config.json is no JSON object, or its token is none of the
 * tokenizer's), LODE_ERR_IO, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_prefix_token(int32_t *id, const char *folder,
                                              const lode_tokenizer_t *tokenizer,
                                              const lode_architecture_t *architecture);

#endif
