/* text/pretokenize: the pre-tokenizers of tokenizer.json, which cut a text into the pieces that are
 * encoded by themselves: Split, ByteLevel, Metaspace, Digits and sequences of them. Everything here
 * is Local; a lode_pretokenizer_t is never written after it is parsed. */
#ifndef LODE_TEXT_PRETOKENIZE_H
#define LODE_TEXT_PRETOKENIZE_H

#include <jansson.h>

#include "base/error.h"
#include "base/memory.h"
#include "text/bpe_encode.h"

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

/* Whether a stretch may be encoded in parts at all: no step looks behind, and what is put in front
 * of a piece depends on nothing that a part does not see. */
bool lode_pretokenizer_divisible(const lode_pretokenizer_t *pretokenizer);

/* A stretch of the text, or the part of one that is to be encoded with enough of what follows to
 * know where its pieces end. Parts are cut between ASCII characters. */
typedef struct lode_stretch {
    size_t start, length; /* bytes of the buffer, what follows the part included */
    size_t own;           /* bytes to be encoded; `length` but for parts that others follow */
    bool first;           /* at the very start of the whole text (Metaspace asks) */
    bool continued;       /* an earlier part is before it */
    bool open;            /* own < length, and the stretch goes on behind what is here */
} lode_stretch_t;

/* Cuts a stretch into pieces and encodes them in order.
 *   text      what has been encoded so far stays where it is; rewritten pieces are appended to it
 *   stretch   in text->data
 *   encoder   takes the ids
 *   joined    set to false where the pieces of this part and those of the next, encoded by itself,
 *             are not known to be the pieces of the whole; never set to true. That they are follows
 *             from a piece ending where the part does: every step goes on from there in the same
 *             way wherever it came from.
 * Errors: those of lode_bpe_encode and of lode_regex_walk_next. */
LODE_MUST_USE lode_status_t lode_pretokenizer_run(const lode_pretokenizer_t *pretokenizer,
                                                  lode_buffer_t *text, lode_stretch_t stretch,
                                                  lode_bpe_encoder_t *encoder, bool *joined);

#endif
