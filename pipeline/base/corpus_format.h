/* base/corpus_format: how a corpus file is cut into texts; the spellings are in config/choices.h.
 */
#ifndef LODE_BASE_CORPUS_FORMAT_H
#define LODE_BASE_CORPUS_FORMAT_H

typedef enum {
    LODE_CORPUS_LINES,
    LODE_CORPUS_TEXT,
    LODE_CORPUS_WIKITEXT,
    LODE_CORPUS_JSONL,
} lode_corpus_format_t;

#endif
