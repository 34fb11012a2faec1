#include "text/bpe_words.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/lookup.h"
#include "text/utf8.h"

typedef struct word {
    size_t start, length; /* bytes of the texts */
    int64_t count;
} word_t;

struct lode_bpe_words {
    lode_buffer_t texts; /* every word once, one behind the other */
    word_t *list;        /* [capacity] */
    int64_t count, capacity;
    lode_lookup_t table; /* places in the list, by hashes of the words */
    int64_t bytes, lines;
};

/* --- where a text is cut -------------------------------------------------------------------- */

typedef enum class { CLASS_ALONE, CLASS_LETTER, CLASS_SYMBOL, CLASS_SPACE } class_t;

static const uint32_t SPACE_MARK = 0x2581; /* ▁ */

static class_t classify(uint32_t character) {
    if (character == SPACE_MARK)
        return CLASS_SPACE;
    switch (utf8proc_category((utf8proc_int32_t)character)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return CLASS_LETTER;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return CLASS_SYMBOL;
    default: /* numbers, separators, control characters, what is not assigned */
        return CLASS_ALONE;
    }
}

static bool divides(class_t left, class_t right) {
    if (right != CLASS_LETTER && right != CLASS_SYMBOL)
        return true;
    return left != right && left != CLASS_SPACE;
}

bool lode_bpe_words_divides(uint32_t left, uint32_t right) {
    return divides(classify(left), classify(right));
}

/* --- the words ------------------------------------------------------------------------------ */

static lode_status_t add_word(lode_bpe_words_t *words, uint64_t hash, const char *text,
                              size_t length) {
    if (words->count == words->capacity) {
        const int64_t capacity = words->capacity ? 2 * words->capacity : 4096;
        LODE_TRY(lode_resize(&words->list, capacity, sizeof *words->list, "words"));
        words->capacity = capacity;
    }
    words->list[words->count] =
        (word_t){.start = words->texts.length, .length = length, .count = 1};
    LODE_TRY(lode_buffer_append(&words->texts, text, length));
    return lode_lookup_add(&words->table, hash, words->count++, "words");
}

static lode_status_t count_word(lode_bpe_words_t *words, const char *text, size_t length) {
    const uint64_t hash = XXH3_64bits(text, length);
    uint64_t at = lode_lookup_home(&words->table, hash);
    for (int64_t i; (i = lode_lookup_next(&words->table, hash, &at)) >= 0;) {
        word_t *word = &words->list[i];
        if (word->length == length && memcmp(words->texts.data + word->start, text, length) == 0) {
            word->count++;
            return LODE_OK;
        }
    }
    return add_word(words, hash, text, length);
}

/* Counts the words of a normalized text. */
static lode_status_t count_words(lode_bpe_words_t *words, const char *text, size_t length) {
    size_t start = 0;
    class_t before = CLASS_ALONE;
    for (size_t at = 0; at < length;) {
        uint32_t character;
        const int bytes = lode_utf8_decode(text + at, length - at, &character);
        LODE_ASSERT(bytes > 0);
        const class_t class = classify(character);
        if (at > start && divides(before, class)) {
            LODE_TRY(count_word(words, text + start, at - start));
            start = at;
        }
        before = class;
        at += (size_t)bytes;
    }
    return length > start ? count_word(words, text + start, length - start) : LODE_OK;
}

/* --- the lines of a corpus ------------------------------------------------------------------ */

typedef struct line {
    const char *text;
    size_t length;  /* with its LF */
    bool continued; /* an earlier line of the same text is before it */
    uint64_t draw;
    int64_t number;
} line_t;

/* A walk over the lines of all texts: initialise with {.corpus = …}. */
typedef struct walk {
    const lode_corpus_t *corpus;
    int64_t text;
    size_t offset;
    int64_t lines;
} walk_t;

static bool next_line(walk_t *walk, line_t *line) {
    const char *text;
    size_t length;
    for (;; walk->text++, walk->offset = 0) {
        if (walk->text == lode_corpus_count(walk->corpus))
            return false;
        lode_corpus_text(walk->corpus, walk->text, &text, &length);
        if (walk->offset < length)
            break;
    }
    const char *start = text + walk->offset, *end = memchr(start, '\n', length - walk->offset);
    *line = (line_t){.text = start,
                     .length = end ? (size_t)(end - start) + 1 : length - walk->offset,
                     .continued = walk->offset > 0,
                     .number = walk->lines++};
    walk->offset += line->length;
    return true;
}

static int by_draw(const void *a, const void *b) {
    const line_t *x = a, *y = b;
    if (x->draw != y->draw)
        return x->draw < y->draw ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

/* All lines [count], with their draws and in the order of these. */
static lode_status_t draw_lines(line_t **lines, int64_t count, const lode_corpus_t *corpus,
                                int64_t seed) {
    const uint64_t key = lode_random_key(seed, "tokenizer sample", 0, 0);
    walk_t walk = {.corpus = corpus};
    LODE_TRY(LODE_NEW_RAW(lines, count, "lines"));
    for (int64_t i = 0; i < count && next_line(&walk, &(*lines)[i]); i++)
        (*lines)[i].draw = lode_random_bits(key, (uint64_t)i);
    qsort(*lines, (size_t)count, sizeof **lines, by_draw);
    return LODE_OK;
}

/* Texts in the making. */
typedef struct reader {
    lode_bpe_words_t *words;
    const lode_normalizer_t *normalizer;
    lode_buffer_t text, spare;
} reader_t;

static lode_status_t read_line(reader_t *reader, const line_t *line) {
    reader->text.length = 0;
    LODE_TRY(lode_buffer_append(&reader->text, line->text, line->length));
    LODE_TRY(
        lode_normalizer_apply(reader->normalizer, &reader->text, &reader->spare, line->continued));
    reader->words->lines++;
    reader->words->bytes += (int64_t)line->length;
    return count_words(reader->words, reader->text.data, reader->text.length);
}

static lode_status_t read_all(reader_t *reader, const lode_corpus_t *corpus) {
    walk_t walk = {.corpus = corpus};
    line_t line;
    while (next_line(&walk, &line))
        LODE_TRY(read_line(reader, &line));
    return LODE_OK;
}

static lode_status_t read_drawn(reader_t *reader, const line_t *lines, int64_t count,
                                int64_t sample, const char *name) {
    int64_t left = sample;
    for (int64_t i = 0; i < count && (int64_t)lines[i].length <= left; i++) {
        left -= (int64_t)lines[i].length;
        LODE_TRY(read_line(reader, &lines[i]));
    }
    if (reader->words->lines > 0)
        return LODE_OK;
    return lode_fail(LODE_ERR_INPUT,
                     "%s: a sample of %lld bytes has no room for the first line drawn, which has "
                     "%zu; raise train.tokenizer.sample, or set it to 0 for the whole text",
                     name, (long long)sample, lines[0].length);
}

static lode_status_t read_corpus(reader_t *reader, const lode_corpus_t *corpus, int64_t sample,
                                 int64_t seed, const char *name) {
    walk_t walk = {.corpus = corpus};
    line_t line, *lines = NULL;
    int64_t bytes = 0;
    while (next_line(&walk, &line))
        bytes += (int64_t)line.length;
    if (sample == 0 || bytes <= sample)
        return read_all(reader, corpus);
    LODE_TRY(draw_lines(&lines, walk.lines, corpus, seed));
    const lode_status_t status = read_drawn(reader, lines, walk.lines, sample, name);
    free(lines);
    return status;
}

lode_status_t lode_bpe_words_read(lode_bpe_words_t **words, const lode_corpus_t *corpus,
                                  const lode_normalizer_t *normalizer, int64_t sample, int64_t seed,
                                  const char *name) {
    *words = NULL;
    reader_t reader = {.normalizer = normalizer};
    LODE_TRY(LODE_NEW(&reader.words, 1, "words"));
    lode_status_t status = lode_lookup_reserve(&reader.words->table, 0, "words");
    if (status == LODE_OK)
        status = read_corpus(&reader, corpus, sample, seed, name);
    lode_memory_sample();
    lode_buffer_free(&reader.text);
    lode_buffer_free(&reader.spare);
    if (status != LODE_OK)
        lode_bpe_words_destroy(&reader.words);
    *words = reader.words;
    return status;
}

void lode_bpe_words_destroy(lode_bpe_words_t **words) {
    if (!*words)
        return;
    lode_buffer_free(&(*words)->texts);
    free((*words)->list);
    lode_lookup_free(&(*words)->table);
    free(*words);
    *words = NULL;
}

int64_t lode_bpe_words_count(const lode_bpe_words_t *words) {
    return words->count;
}

int64_t lode_bpe_words_bytes(const lode_bpe_words_t *words) {
    return words->bytes;
}

int64_t lode_bpe_words_lines(const lode_bpe_words_t *words) {
    return words->lines;
}

/* Counts the words of a text up to where it is not UTF-8. */
static lode_status_t count_raw(lode_bpe_words_t *words, const char *text, size_t length) {
    size_t valid = 0;
    uint32_t character;
    for (int bytes = 1; valid < length && bytes > 0; valid += (size_t)bytes)
        bytes = lode_utf8_decode(text + valid, length - valid, &character);
    LODE_TRY(lode_lookup_reserve(&words->table, 0, "words"));
    return count_words(words, text, valid);
}

int64_t lode_bpe_words_distinct(const char *text, size_t length) {
    lode_bpe_words_t *words = NULL;
    int64_t distinct = 0;
    if (LODE_NEW(&words, 1, "words") == LODE_OK && count_raw(words, text, length) == LODE_OK)
        distinct = lode_utf8_count(words->texts.data, words->texts.length) + words->count;
    lode_bpe_words_destroy(&words);
    return distinct;
}

int64_t lode_bpe_words_word(const lode_bpe_words_t *words, int64_t i, const char **text,
                            size_t *length) {
    LODE_ASSERT(i >= 0 && i < words->count);
    const word_t *word = &words->list[i];
    *text = words->texts.data + word->start;
    *length = word->length;
    return word->count;
}
