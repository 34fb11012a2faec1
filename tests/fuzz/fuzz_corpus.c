/* Fuzz target: whatever bytes a corpus has, in every format and view, it is refused or its texts
 * lie within what was read, and tell their own lengths. */
#include <stdlib.h>
#include <string.h>

#include "text/corpus.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition)
        abort();
}

static void check(const lode_corpus_t *corpus, lode_corpus_view_t view) {
    const int64_t count = lode_corpus_count(corpus);
    require(count >= 1 && (view == LODE_CORPUS_ROWS || count == 1));
    for (int64_t i = 0; i < count; i++) {
        const char *text;
        size_t length;
        lode_corpus_text(corpus, i, &text, &length);
        require(lode_utf8_check(text, length, "text") == LODE_OK);
        require(length > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const lode_corpus_format_t formats[] = {LODE_CORPUS_LINES, LODE_CORPUS_TEXT,
                                                   LODE_CORPUS_WIKITEXT, LODE_CORPUS_JSONL};
    static const lode_corpus_view_t views[] = {LODE_CORPUS_ROWS, LODE_CORPUS_JOINED,
                                               LODE_CORPUS_DENSE};
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        for (size_t v = 0; v < sizeof views / sizeof *views; v++) {
            lode_corpus_t *corpus;
            if (lode_corpus_parse(&corpus, (const char *)data, size, formats[f], views[v], NULL,
                                  "fuzz") != LODE_OK) {
                require(corpus == NULL && lode_error_message()[0] != '\0');
                continue;
            }
            check(corpus, views[v]);
            lode_corpus_destroy(&corpus);
        }
    }
    return 0;
}
