/* text/bpe: byte-pair encoding of pieces of text, exactly as the `tokenizers` library's BPE model.
 *
 * A piece starts as one symbol a character (or, for byte-level vocabularies, one a byte), and the
 * adjacent pair of the lowest merge rank, the leftmost of equals, is merged until no pair has a
 * rank. A character that is not in the vocabulary becomes its bytes' tokens <0x00> … <0xFF> where
 * `byte_fallback` is set and all of them exist, else the unknown token, of which neighbours are one
 * where `fuse_unk` is set, else nothing.
 *
 * Everything here is Local; a lode_bpe_t is never written after it is parsed, so threads may share
 * it, each with its own encoder (text/bpe_encode).
 */
#ifndef LODE_TEXT_BPE_H
#define LODE_TEXT_BPE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct lode_bpe lode_bpe_t;

/* Reads the "model" object of a tokenizer.json.
 *   out          the model, the caller's to destroy; NULL on failure
 *   byte_level   pieces are raw bytes, and the vocabulary is written in GPT-2's byte alphabet
 *   name         the file, for messages
 * Errors: LODE_ERR_UNSUPPORTED (another model than BPE, dropout, a subword prefix or suffix),
 * LODE_ERR_FORMAT (missing parts, wrong types, bad ids, merges of tokens that do not exist),
 * LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_bpe_parse(lode_bpe_t **out, const json_t *model, bool byte_level,
                                           const char *name);
void lode_bpe_destroy(lode_bpe_t **bpe);

/* The id of a token by its text in the vocabulary, −1 if there is none. */
int32_t lode_bpe_find(const lode_bpe_t *bpe, const char *token, size_t length);

/* The text of a token as the vocabulary has it, terminated, the model's; NULL where there is none.
 */
const char *lode_bpe_token(const lode_bpe_t *bpe, int32_t id);

/* Largest id + 1, and number of tokens. */
int32_t lode_bpe_size(const lode_bpe_t *bpe);
int32_t lode_bpe_count(const lode_bpe_t *bpe);

/* Whether text[start … start + length), valid UTF-8, may be encoded in two pieces cut at offset
 * `at` of it: no merge can cross there. */
bool lode_bpe_divides(const lode_bpe_t *bpe, const char *text, size_t start, size_t length,
                      size_t at);

#endif
