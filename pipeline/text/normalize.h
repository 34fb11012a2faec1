/* text/normalize: the normalizers of tokenizer.json: Prepend, Replace, NFC, NFD, NFKC, NFKD and
 * sequences of them. Everything here is Local; a lode_normalizer_t is never written after it is
 * parsed. */
#ifndef LODE_TEXT_NORMALIZE_H
#define LODE_TEXT_NORMALIZE_H

#include <jansson.h>

#include "base/error.h"
#include "base/memory.h"

typedef struct lode_normalizer lode_normalizer_t;

/* Reads the "normalizer" of a tokenizer.json; null or NULL is the one that changes nothing.
 *   out    the caller's to destroy; NULL on failure
 *   name   the file, for messages
 * Errors: LODE_ERR_UNSUPPORTED (another type, named), LODE_ERR_FORMAT, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_normalizer_parse(lode_normalizer_t **out, const json_t *json,
                                                  const char *name);
void lode_normalizer_destroy(lode_normalizer_t **normalizer);

/* Whether a text may be normalized in parts: cut between two ASCII characters of which the second
 * is followed by a third or by nothing, and each part but the first marked as `continued`, it gives
 * the same as in one. So it is where every step looks at single characters, or is a Unicode form,
 * in which no ASCII character combines with one before it. */
bool lode_normalizer_divisible(const lode_normalizer_t *normalizer);

/* Normalizes `text`, valid UTF-8, in place; `spare` is scratch memory, its content lost.
 *   continued   the text goes on from one normalized before, so that nothing is prepended
 * Errors: LODE_ERR_UNSUPPORTED (a pattern that does not come to an end, or replacements that make
 * more than 64 times the text), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_normalizer_apply(const lode_normalizer_t *normalizer,
                                                  lode_buffer_t *text, lode_buffer_t *spare,
                                                  bool continued);

#endif
