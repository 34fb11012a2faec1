/* text/bpe: byte-pair encoding of pieces of text, exactly as the `tokenizers` library's BPE model.
 *
 * A piece starts as one symbol a character (or, for byte-level vocabularies, one a byte), and the
 * adjacent pair of the lowest merge rank, the leftmost of equals, is merged until no pair has a
 * rank. A character that is not in the vocabulary becomes its bytes' tokens <0x00> … <0xFF> where
 * `byte_fallback` is set and all of them exist, else the unknown token, of which neighbours are one
 * where `fuse_unk` is set, else nothing.
 *
 * Short pieces are merged by scanning, long ones by a heap over a linked list: n symbols take
 * O(n log n). Where no merge can cross from a non-space to the space mark "▁", a piece is cut there
 * first, which changes nothing but the time; words that come again are mostly remembered.
 *
 * Everything here is Local; a lode_bpe_t is never written after it is parsed, so threads may share
 * it, each with its own encoder.
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

/* The ids of one text in the making, the words of it and of those before, and the scratch memory of
 * one thread. */
typedef struct lode_bpe_encoder lode_bpe_encoder_t;

/* `expected` is about how many bytes will be encoded, of all texts; it only sizes the memory. The
 * encoder keeps `bpe` by reference. */
LODE_MUST_USE lode_status_t lode_bpe_encoder_create(lode_bpe_encoder_t **encoder,
                                                    const lode_bpe_t *bpe, size_t expected);
void lode_bpe_encoder_destroy(lode_bpe_encoder_t **encoder);

/* Appends the ids of the piece text[start … start + length), valid UTF-8.
 * Errors: LODE_ERR_FORMAT (an unknown character, and the unknown token is not in the vocabulary),
 * LODE_ERR_UNSUPPORTED (a piece of 2 GB or more), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_bpe_encode(lode_bpe_encoder_t *encoder, const char *text,
                                            size_t start, size_t length);

/* The model of an encoder. */
const lode_bpe_t *lode_bpe_of(const lode_bpe_encoder_t *encoder);

/* Whether text[start … start + length), valid UTF-8, may be encoded in two pieces cut at offset
 * `at` of it: no merge can cross there. */
bool lode_bpe_divides(const lode_bpe_t *bpe, const char *text, size_t start, size_t length,
                      size_t at);

/* Appends one id. */
LODE_MUST_USE lode_status_t lode_bpe_append(lode_bpe_encoder_t *encoder, int32_t id);

/* The ids appended since the last lode_bpe_clear: the encoder's, until it is used again. */
const int32_t *lode_bpe_ids(const lode_bpe_encoder_t *encoder, int64_t *count);

/* Begins another text. */
void lode_bpe_clear(lode_bpe_encoder_t *encoder);

#endif
