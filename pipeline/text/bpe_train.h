/* text/bpe_train: trains a byte-fallback BPE tokenizer in the form of Llama's.
 *
 * Its tokens are, in the order of their ids: <unk>, <s>, </s>; the 256 bytes <0x00> … <0xFF>; the
 * alphabet, by code point; the merged tokens, in the order of the merges. A space is written "▁",
 * one is put in front of a text, and <s> before that. A character outside the alphabet is encoded
 * as its bytes. There is no pre-tokenizer, because no merge could join what one would divide (see
 * text/bpe_words).
 *
 * Alphabet. The characters of the text by falling count, equal ones by code point, until they make
 * up `coverage` of all its characters, `alphabet` of them at most; "▁" always is one, and control
 * characters, such as the newline, never are. What is left out parts words like a cut.
 *
 * Merges. Starting from words spelt in the alphabet, the pair of tokens that stands next to each
 * other most often becomes one token, wherever it stands, from left to right, until the vocabulary
 * is full. The count of a pair is the number of places where it stands, overlapping ones ("aaa")
 * included; of equal counts the pair of the lower left id goes first, then that of the lower right
 * id. Those are the rules of the BpeTrainer of the `tokenizers` library, and the merges are its
 * (Sennrich, Haddow, Birch: Neural Machine Translation of Rare Words with Subword Units, 2016).
 *
 * A pair knows the places where it stands, a token where it begins and ends, and a heap orders the
 * pairs by counts of which only that on top is kept right. So a merge takes time in proportion to
 * the places it changes, however long the words are: n characters of distinct words take
 * O(n log n), and 20 to 30 n bytes of memory where a pair counts from two places on.
 *
 * Everything here is Local, runs in one thread, and depends on its arguments alone.
 */
#ifndef LODE_TEXT_BPE_TRAIN_H
#define LODE_TEXT_BPE_TRAIN_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "text/corpus.h"

/* Tokens that are there whatever the text: three special ones and the bytes. */
enum { LODE_BPE_RESERVED = 3 + 256 };

typedef struct lode_bpe_setting {
    int64_t vocabulary; /* tokens, above LODE_BPE_RESERVED */
    double coverage;    /* share of the text's characters that are in the alphabet, (0, 1] */
    int64_t alphabet;   /* characters of the alphabet at most, "▁" included; 0: any number */
    int64_t least;      /* a pair that stands in fewer places is not merged, ≥ 1 */
    int64_t sample;     /* bytes of text at most, 0: all; see lode_bpe_words_read */
    int64_t seed;       /* of the sample */
} lode_bpe_setting_t;

/* What experiments train with: a coverage of 0.9995, an alphabet of at most half of what the
 * vocabulary has room for, pairs that stand in two places. Local. */
lode_bpe_setting_t lode_bpe_setting(int64_t vocabulary, int64_t sample, int64_t seed);

typedef struct lode_bpe_trained lode_bpe_trained_t;

/* Trains a tokenizer.
 *   trained   the caller's to destroy; NULL on failure
 *   corpus    its texts; not kept
 *   name      the corpus, for messages
 * Errors: LODE_ERR_CONFIG (a vocabulary that has no room for bytes and alphabet, or of 2²² tokens
 * or more), LODE_ERR_INPUT (a text with too few pairs for the vocabulary), LODE_ERR_UNSUPPORTED
 * (2³¹ characters of distinct words), LODE_ERR_MEMORY, those of lode_bpe_words_read. */
LODE_MUST_USE lode_status_t lode_bpe_train(lode_bpe_trained_t **trained,
                                           const lode_corpus_t *corpus, lode_bpe_setting_t setting,
                                           const char *name);
void lode_bpe_trained_destroy(lode_bpe_trained_t **trained);

/* About how many bytes of memory training takes beside the corpus, by the distinct words of the
 * beginning of a text that has `bytes` bytes: how many more of them its second half has than its
 * first tells how they go on to grow, from hardly where text is ordinary to with the text where it
 * has no spaces. Local.
 *   head, length   the beginning; nothing that is not UTF-8 is counted */
int64_t lode_bpe_train_memory(const char *head, size_t length, int64_t bytes, int64_t vocabulary);

/* Tokens, = setting.vocabulary; merges; characters of the alphabet, which are the tokens from
 * LODE_BPE_RESERVED on; bytes and lines of the corpus that were read, and distinct words in them.
 */
typedef struct lode_bpe_size {
    int64_t tokens, merges, alphabet;
    int64_t bytes, lines, words;
} lode_bpe_size_t;
lode_bpe_size_t lode_bpe_trained_size(const lode_bpe_trained_t *trained);

/* The text of a token as the vocabulary has it, terminated, the trained tokenizer's. */
const char *lode_bpe_trained_token(const lode_bpe_trained_t *trained, int64_t id);

/* A merge, whose token has the id tokens − merges + i: the ids it joins, and how often they stood
 * next to each other. */
typedef struct lode_bpe_merge {
    int32_t left, right;
    int64_t count;
} lode_bpe_merge_t;
lode_bpe_merge_t lode_bpe_trained_merge(const lode_bpe_trained_t *trained, int64_t i);

/* Appends the text of a tokenizer.json that text/tokenizer, and the `tokenizers` library, read.
 * Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_bpe_trained_write(const lode_bpe_trained_t *trained,
                                                   lode_buffer_t *json);

#endif
