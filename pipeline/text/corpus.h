/* text/corpus: the texts of a corpus file, in the order of the file.
 *
 * A corpus file is UTF-8, perhaps compressed with gzip, in one of four formats, and is looked at in
 * one of three ways. The format says what a row is:
 *
 *   lines     a line without its LF; lines of nothing but white space are no rows
 *   text      the whole file without the newlines at its end; one row
 *   wikitext  a line with its LF, as the hub's wikitext data sets have it; a line of nothing but
 *             white space is a blank row, and becomes the empty string
 *   jsonl     the string under `field` of the JSON object on each line; blank lines are no rows,
 *             an empty string is a blank row
 *
 * The view says what becomes of the rows:
 *
 *   rows      every row that is not blank is one text: calibration, and the documents of `lm-eval`
 *   joined    one text: all rows, blank ones as empty strings, with "\n\n" between neighbours. The
 *             text of the perplexity protocol `gptq`, and of `lm-eval` over wikitext
 *   dense     one text: the rows that are not blank, with "\n\n" between: protocol `nodelens`
 *
 * The protocol `llama.cpp` wants the raw file, which is the format `text` whatever the file holds.
 * On WikiText-2's wiki.test.raw the joined view of `wikitext` is, byte for byte, the text on which
 * GPTQ's evaluation and its successors report.
 *
 * Everything here is Local.
 */
#ifndef LODE_TEXT_CORPUS_H
#define LODE_TEXT_CORPUS_H

#include <stddef.h>
#include <stdint.h>

#include "base/corpus_format.h"
#include "base/error.h"

typedef enum lode_corpus_view {
    LODE_CORPUS_ROWS,
    LODE_CORPUS_JOINED,
    LODE_CORPUS_DENSE
} lode_corpus_view_t;

typedef struct lode_corpus lode_corpus_t;

/* Takes the texts out of a file's bytes. Pure: the bytes are copied, not kept.
 *   out     the corpus, the caller's to destroy; NULL on failure
 *   bytes   [size], any content
 *   field   the key of a `jsonl` object, NULL for "text"; not used by the other formats
 *   name    the file, for messages
 * Errors: LODE_ERR_FORMAT (not UTF-8, with the offset; a line of `jsonl` that is no object or has
 * no string under `field`, with its number), LODE_ERR_INPUT (no text that is not blank). */
LODE_MUST_USE lode_status_t lode_corpus_parse(lode_corpus_t **out, const char *bytes, size_t size,
                                              lode_corpus_format_t format, lode_corpus_view_t view,
                                              const char *field, const char *name);

/* The same of a file, which may be compressed with gzip; `path` has been expanded. Errors: those
 * above, and lode_gzip_file's. */
LODE_MUST_USE lode_status_t lode_corpus_read(lode_corpus_t **out, const char *path,
                                             lode_corpus_format_t format, lode_corpus_view_t view,
                                             const char *field);

/* Frees a corpus and the texts in it; *corpus may be NULL and becomes NULL. */
void lode_corpus_destroy(lode_corpus_t **corpus);

/* How many texts there are, at least 1. */
int64_t lode_corpus_count(const lode_corpus_t *corpus);

/* Text `i` of lode_corpus_count: `length` bytes of valid UTF-8, the corpus's, not terminated, and
 * possibly with NUL characters in them. */
void lode_corpus_text(const lode_corpus_t *corpus, int64_t i, const char **text, size_t *length);

#endif
