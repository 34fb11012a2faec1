/* text/vocab: token texts and their ids, both ways. Everything here is Local. */
#ifndef LODE_TEXT_VOCAB_H
#define LODE_TEXT_VOCAB_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct lode_vocab lode_vocab_t;

/* Reads a JSON object of token → id, as in a BPE model.
 *   out     the vocabulary, the caller's to destroy; NULL on failure
 *   where   file and part, for messages
 * Errors: LODE_ERR_FORMAT (not an object, empty, an id that is no integer, negative, 2²² or more,
 * or given to two tokens), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_vocab_parse(lode_vocab_t **out, const json_t *object,
                                             const char *where);
void lode_vocab_destroy(lode_vocab_t **vocab);

/* The id of a token of `length` bytes, −1 if it is not in the vocabulary. */
int32_t lode_vocab_find(const lode_vocab_t *vocab, const char *token, size_t length);

/* The text of a token, the vocabulary's, terminated; NULL where no token has that id. *length (may
 * be NULL) is its bytes. */
const char *lode_vocab_token(const lode_vocab_t *vocab, int32_t id, size_t *length);

/* Largest id + 1. */
int32_t lode_vocab_size(const lode_vocab_t *vocab);

/* Number of tokens, which differs from the size where ids are left out. */
int32_t lode_vocab_count(const lode_vocab_t *vocab);

/* Bytes of the longest token. */
size_t lode_vocab_longest(const lode_vocab_t *vocab);

#endif
