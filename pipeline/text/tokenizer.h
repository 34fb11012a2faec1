/* text/tokenizer: text to token ids, as the tokenizer.json beside a checkpoint says, with exactly
 * the ids of the `tokenizers` library.
 *
 * A text goes through added tokens, normalizer, pre-tokenizer, model and post-processor:
 *
 *   added_tokens     all of it (text/added)
 *   normalizer       Prepend, Replace, NFC, NFD, NFKC, NFKD, Sequence (text/normalize)
 *   pre_tokenizer    Split, ByteLevel, Metaspace, Digits, Sequence (text/pretokenize)
 *   model            BPE with byte fallback, fused unknowns, ignore_merges (text/bpe)
 *   post_processor   TemplateProcessing of one text, ByteLevel, Sequence
 *
 * That is Llama 1 to 3, Mistral, Qwen, GPT-2, OLMo 1 and 2 and their like. "truncation", "padding"
 * and "decoder" are not looked at: a text is always encoded in full. Every other type is refused by
 * name when the file is read, and no text is encoded by guess.
 *
 * Character classes and normal forms are those of the Unicode versions of PCRE2 and utf8proc; ids
 * can differ from the library's for code points that these versions do not have yet.
 *
 * Everything here is Local. A lode_tokenizer_t is never written after it is parsed: threads may
 * share it.
 */
#ifndef LODE_TEXT_TOKENIZER_H
#define LODE_TEXT_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct lode_tokenizer lode_tokenizer_t;

/* Reads the text of a tokenizer.json.
 *   out    the tokenizer, the caller's to destroy; NULL on failure
 *   json   [size], any bytes
 *   name   the file, for messages
 * Errors: LODE_ERR_FORMAT (not JSON, a missing part, wrong types, ids or merges that contradict
 * each other), LODE_ERR_UNSUPPORTED (a type or option that is not implemented), LODE_ERR_MEMORY;
 * every message names the file and the part of it. */
LODE_MUST_USE lode_status_t lode_tokenizer_parse(lode_tokenizer_t **out, const char *json,
                                                 size_t size, const char *name);

/* The same of a file; `path` has been expanded. Errors: those above, and lode_file_read's. */
LODE_MUST_USE lode_status_t lode_tokenizer_load(lode_tokenizer_t **out, const char *path);

/* *tokenizer may be NULL and becomes NULL. */
void lode_tokenizer_destroy(lode_tokenizer_t **tokenizer);

/* Encodes a text. Safe from several threads at once.
 *   text          [length], UTF-8; the text of a special token in it becomes that token
 *   add_special   put the post-processor's special tokens (mostly BOS) around the text's
 *   ids, count    the ids, the caller's to free; NULL where there are none
 * Time is O(length · log(longest piece)). Errors: LODE_ERR_FORMAT (not UTF-8; an unknown character
 * and no token for it), LODE_ERR_UNSUPPORTED (an expression of the tokenizer that does not come to
 * an end on this text, a piece of 1 GB), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_tokenizer_encode(const lode_tokenizer_t *tokenizer,
                                                  const char *text, size_t length, bool add_special,
                                                  int32_t **ids, int64_t *count);

/* A part of a text that is encoded apart from the rest. */
typedef struct lode_text_part {
    const char *text; /* its first byte */
    size_t length;    /* bytes of the part */
    size_t visible;   /* bytes that may be looked at, ≥ length: the part and what follows it */
    bool first;       /* the text starts here */
    bool last;        /* the text ends behind what is visible */
} lode_text_part_t;

/* Looks for a place where a text may be cut into parts, and for how much of what follows must be
 * visible in the part before it.
 *   text      [length], valid UTF-8
 *   from      offset of the first place that will do
 *   cut       out, in (0, length); not set where there is none
 *   visible   out, offset in (cut, length] up to which the part before must see
 * False where the tokenizer cannot be shown to allow parts (a step that looks behind, a Replace of
 * more than one character …), or where no such place is near: within 64 KiB. Places are tried out
 * on the text just before them; only lode_encoder_encode of all of the part before makes certain
 * that a cut holds. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_tokenizer_find_cut(const lode_tokenizer_t *tokenizer, bool *found,
                                                    const char *text, size_t length, size_t from,
                                                    size_t *cut, size_t *visible);

/* The memory of one thread that encodes many texts: words that come again are mostly remembered,
 * and nothing is allocated for a text like those before. */
typedef struct lode_encoder lode_encoder_t;

/* The encoder keeps the tokenizer by reference. `expected` is about how many bytes it will encode
 * in all; it only sizes the memory. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_encoder_create(lode_encoder_t **encoder,
                                                const lode_tokenizer_t *tokenizer, size_t expected);
void lode_encoder_destroy(lode_encoder_t **encoder);

/* Encodes a part whose ends are the text's or places that lode_tokenizer_find_cut gave: `before`
 * tokens only with the first, `behind` tokens only with the last.
 *   ids      out: the encoder's, until it is used again
 *   joined   out: whether the ids of this part followed by those of the next are proved to be what
 *            the text gives where it is not cut there. Where it is true of all parts of a text, the
 *            ids of the parts are the ids of the text.
 * Otherwise as lode_tokenizer_encode. */
LODE_MUST_USE lode_status_t lode_encoder_encode(lode_encoder_t *encoder,
                                                const lode_text_part_t *part, bool add_special,
                                                const int32_t **ids, int64_t *count, bool *joined);

/* Largest id + 1, added tokens included. The model's vocabulary may be larger (padding). */
int32_t lode_tokenizer_vocab_size(const lode_tokenizer_t *tokenizer);

/* Whether the post-processor puts a special token in front of a text. */
bool lode_tokenizer_adds_bos(const lode_tokenizer_t *tokenizer);

/* The same, and *id is that token's id, −1 where there is none. */
bool lode_tokenizer_bos(const lode_tokenizer_t *tokenizer, int32_t *id);

/* The text of a token as the file has it (byte-level tokens in GPT-2's alphabet), terminated, the
 * tokenizer's; for messages.
 * Errors: LODE_ERR_INPUT where no token has the id; *text is then "". */
LODE_MUST_USE lode_status_t lode_tokenizer_token(const lode_tokenizer_t *tokenizer, int32_t id,
                                                 const char **text);

#endif
