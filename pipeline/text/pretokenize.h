/* text/pretokenize: the pre-tokenizers of tokenizer.json, which cut a text into the pieces that are
 * encoded by themselves: Split, ByteLevel, Metaspace, Digits and sequences of them. Everything here
 * is Local; a lode_pretokenizer_t is never written after it is parsed. */
#ifndef LODE_TEXT_PRETOKENIZE_H
#define LODE_TEXT_PRETOKENIZE_H

#include <jansson.h>

#include "base/error.h"
#include "base/memory.h"
#include "text/bpe.h"

typedef struct lode_pretokenizer lode_pretokenizer_t;

/* Reads the "pre_tokenizer" of a tokenizer.json; null or NULL is the one that does not cut.
 *   out    the caller's to destroy; NULL on failure
 *   name   the file, for messages
 * Errors: LODE_ERR_UNSUPPORTED (another type, named; ByteLevel that is not the last step),
 * LODE_ERR_FORMAT, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_pretokenizer_parse(lode_pretokenizer_t **out, const json_t *json,
                                                    const char *name);
void lode_pretokenizer_destroy(lode_pretokenizer_t **pretokenizer);

/* Whether pieces are to be encoded byte by byte. */
bool lode_pretokenizer_byte_level(const lode_pretokenizer_t *pretokenizer);

/* Cuts text->data[start … start + length) and encodes the pieces in order.
 *   text      what has been encoded so far stays where it is; rewritten pieces are appended to it
 *   first     whether this is the very start of the whole text (Metaspace asks)
 *   encoder   takes the ids
 * Errors: those of lode_bpe_encode and of lode_regex_walk_next. */
LODE_MUST_USE lode_status_t lode_pretokenizer_run(const lode_pretokenizer_t *pretokenizer,
                                                  lode_buffer_t *text, size_t start, size_t length,
                                                  bool first, lode_bpe_encoder_t *encoder);

#endif
