/* text/bpe_encode: the ids of pieces of text under a BPE model.
 *
 * Short pieces are merged by scanning, long ones by a heap over a linked list: n symbols take
 * O(n log n). Where no merge can cross from a non-space to the space mark "▁", a piece is cut there
 * first, which changes nothing but the time; words that come again are mostly remembered.
 *
 * Everything here is Local. */
#ifndef LODE_TEXT_BPE_ENCODE_H
#define LODE_TEXT_BPE_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "text/bpe.h"

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

/* Appends one id. */
LODE_MUST_USE lode_status_t lode_bpe_append(lode_bpe_encoder_t *encoder, int32_t id);

/* The ids appended since the last lode_bpe_clear: the encoder's, until it is used again. */
const int32_t *lode_bpe_ids(const lode_bpe_encoder_t *encoder, int64_t *count);

/* Begins another text. */
void lode_bpe_clear(lode_bpe_encoder_t *encoder);

#endif
