/* text/bpe_model: what is inside a lode_bpe_t, for text/bpe, which reads it, and text/bpe_encode.
 * Everything here is Local. */
#ifndef LODE_TEXT_BPE_MODEL_H
#define LODE_TEXT_BPE_MODEL_H

#include "text/bpe.h"
#include "text/bpe_merge.h"
#include "text/vocab.h"

enum { LODE_BPE_DIRECT = 0x800 }; /* code points whose ids are looked up by themselves */

/* One of the 256 symbols of GPT-2's byte alphabet, in UTF-8. */
typedef struct lode_bpe_byte {
    char text[2];
    int length;
    int32_t id; /* −1 if not in the vocabulary */
} lode_bpe_byte_t;

struct lode_bpe {
    lode_vocab_t *vocab;
    lode_lookup_t merges; /* as text/bpe_merge looks them up */
    bool byte_level, byte_fallback, fuse_unknown, ignore_merges;
    bool cut_at_mark;                /* no merge crosses from a non-space to "▁" */
    bool has_unknown;                /* an unknown token is named … */
    int32_t unknown;                 /* … and its id, −1 if it is not in the vocabulary */
    int32_t fallback[256];           /* ids of <0x00> … <0xFF>, −1 if missing */
    lode_bpe_byte_t symbols[256];    /* byte-level only */
    int32_t direct[LODE_BPE_DIRECT]; /* ids of characters, −1 if not in the vocabulary */
};

/* "▁", which stands for a space. */
enum { LODE_BPE_MARK_BYTES = 3 };
static const char LODE_BPE_MARK[] = "\xE2\x96\x81";

/* Whether a text of `length` bytes ends with the mark. */
bool lode_bpe_ends_with_mark(const char *text, size_t length);

#endif
