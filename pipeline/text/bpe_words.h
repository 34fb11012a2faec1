/* text/bpe_words: the distinct words of a corpus and how often each stands in it, which is all that
 * training a BPE vocabulary looks at.
 *
 * A text is normalized by the tokenizer that is being trained, and then cut between every two
 * characters but
 *
 *     a letter, or a mark on one, and the letter or mark behind it
 *     a punctuation mark or symbol and the one behind it
 *     the space mark "▁" and the letter, mark, punctuation mark or symbol behind it
 *
 * so that digits, white space and control characters stand alone, and no word reaches across a
 * space. Whether there is a cut depends on the two characters alone. So no merge that is learned
 * from such words can join what a cut divides, in whatever text; and a tokenizer with these merges
 * needs no pre-tokenizer: the ids of a text are those of its words.
 *
 * Everything here is Local.
 */
#ifndef LODE_TEXT_BPE_WORDS_H
#define LODE_TEXT_BPE_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "text/corpus.h"
#include "text/normalize.h"

typedef struct lode_bpe_words lode_bpe_words_t;

/* Whether a normalized text is cut between two neighbouring characters. Pure. */
bool lode_bpe_words_divides(uint32_t left, uint32_t right);

/* Counts the words of a corpus.
 *   words        the caller's to destroy; NULL on failure
 *   corpus       its texts; a text is read line by line, which its words do not show
 *   normalizer   must treat each character by itself, but for what it puts in front of a text
 *   sample       bytes of text at most, 0 for all: where there are more, lines are taken in a
 *                random order, each with its LF, until the next one does not fit
 *   seed         of that order; the lines of a corpus depend on it and on `sample` alone
 *   name         the corpus, for messages
 * Errors: LODE_ERR_INPUT (the first line drawn is longer than the sample), LODE_ERR_MEMORY, those
 * of lode_normalizer_apply. */
LODE_MUST_USE lode_status_t lode_bpe_words_read(lode_bpe_words_t **words,
                                                const lode_corpus_t *corpus,
                                                const lode_normalizer_t *normalizer, int64_t sample,
                                                int64_t seed, const char *name);
void lode_bpe_words_destroy(lode_bpe_words_t **words);

/* Distinct words, and bytes and lines of the corpus that were read. */
int64_t lode_bpe_words_count(const lode_bpe_words_t *words);
int64_t lode_bpe_words_bytes(const lode_bpe_words_t *words);
int64_t lode_bpe_words_lines(const lode_bpe_words_t *words);

/* Characters of the distinct words of a text as it is, up to where it is not UTF-8, and one for
 * each; 0 where memory is short. */
int64_t lode_bpe_words_distinct(const char *text, size_t length);

/* Word `i`, in the order in which they come first: *length bytes of UTF-8, at least one, the
 * words', not terminated. Returns how often it stands in the texts. */
int64_t lode_bpe_words_word(const lode_bpe_words_t *words, int64_t i, const char **text,
                            size_t *length);

#endif
