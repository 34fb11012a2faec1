/* text/added: the added tokens of tokenizer.json, which are found in a text before the model sees
 * it. Those with "normalized": false are looked for in the text as it came, the others, themselves
 * normalized, in what the normalizer made of the stretches between. The leftmost token counts, of
 * several at one place the longest. A "single_word" token needs a non-word character or an end on
 * both sides; "lstrip" and "rstrip" take in the white space beside the token.
 *
 * Everything here is Local; a lode_added_t is never written after it is parsed. */
#ifndef LODE_TEXT_ADDED_H
#define LODE_TEXT_ADDED_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "text/bpe.h"
#include "text/normalize.h"

typedef struct lode_added lode_added_t;

/* Reads the "added_tokens" of a tokenizer.json (NULL or null: none). The ids must be those that the
 * `tokenizers` library gives: the vocabulary's, or the next ones behind it. Of a token that is
 * there more than once the flags of the last entry count. out          the caller's to destroy;
 * NULL on failure name         the file, for messages Errors: LODE_ERR_FORMAT (wrong types, ids
 * that disagree or repeat), LODE_ERR_UNSUPPORTED (a token of more than 4,096 bytes),
 * LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_added_parse(lode_added_t **out, const json_t *json,
                                             const lode_bpe_t *bpe,
                                             const lode_normalizer_t *normalizer, const char *name);
void lode_added_destroy(lode_added_t **added);

/* The content of an added token, terminated, its own; NULL where no added token has the id. */
const char *lode_added_token(const lode_added_t *added, int32_t id);

/* Largest id + 1, 0 without added tokens. */
int32_t lode_added_size(const lode_added_t *added);

/* Which tokens are looked for. */
typedef enum lode_added_set { LODE_ADDED_RAW, LODE_ADDED_NORMALIZED } lode_added_set_t;

/* Whether a text may be walked in parts at a place: no token of the set reaches across it, or looks
 * across it, when `left` is the last byte before and `right` the first behind it, not both of them
 * white space. A token may end or start there. */
bool lode_added_divides(const lode_added_t *added, lode_added_set_t set, unsigned char left,
                        unsigned char right);

/* A walk over a text from left to right: initialise with {.added = …, .set = …}. */
typedef struct lode_added_walk {
    const lode_added_t *added;
    lode_added_set_t set;
    size_t start, end; /* the stretch that was found: text, or a token */
    int32_t id;        /* the token's, −1 for text */
    /* its own: */
    size_t done, search;
    bool pending;
    size_t pending_start, pending_end;
    int32_t pending_id;
} lode_added_walk_t;

/* Moves on to the next stretch of text[0 … length), none of them empty; false at the end. The text
 * may move between calls. */
bool lode_added_walk_next(lode_added_walk_t *walk, const char *text, size_t length);

#endif
