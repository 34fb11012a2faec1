#include "text/corpus.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/gzip.h"
#include "text/utf8.h"

struct lode_corpus {
    lode_buffer_t bytes; /* the texts, one behind the other */
    size_t *ends;        /* [capacity], text i ends at bytes.data + ends[i] */
    int64_t count, capacity;
    lode_corpus_view_t view;
    bool any_row;  /* a row has been added */
    bool any_text; /* and one that is not blank */
};

static lode_status_t add_end(lode_corpus_t *corpus) {
    if (corpus->count == corpus->capacity) {
        int64_t capacity = corpus->capacity ? 2 * corpus->capacity : 64;
        size_t *ends = NULL;
        LODE_TRY(LODE_NEW_RAW(&ends, capacity, "corpus texts"));
        if (corpus->count)
            memcpy(ends, corpus->ends, (size_t)corpus->count * sizeof *ends);
        free(corpus->ends);
        corpus->ends = ends;
        corpus->capacity = capacity;
    }
    corpus->ends[corpus->count++] = corpus->bytes.length;
    return LODE_OK;
}

/* Adds the next row of the file, as the view wants it. */
static lode_status_t add_row(lode_corpus_t *corpus, const char *row, size_t length) {
    bool blank = lode_utf8_is_blank(row, length);
    if (blank && corpus->view != LODE_CORPUS_JOINED)
        return LODE_OK;
    if (corpus->view != LODE_CORPUS_ROWS && corpus->any_row)
        LODE_TRY(lode_buffer_append(&corpus->bytes, "\n\n", 2));
    corpus->any_row = true;
    corpus->any_text |= !blank;
    LODE_TRY(lode_buffer_append(&corpus->bytes, row, length));
    return corpus->view == LODE_CORPUS_ROWS ? add_end(corpus) : LODE_OK;
}

static lode_status_t add_json(lode_corpus_t *corpus, const char *line, size_t length,
                              const char *field, const char *name, int64_t number) {
    json_error_t problem;
    json_t *object = json_loadb(line, length, JSON_ALLOW_NUL, &problem);
    lode_status_t status;
    const json_t *value = object ? json_object_get(object, field) : NULL;
    if (!object)
        status = lode_fail(LODE_ERR_FORMAT, "%s: line %lld is not a JSON object: %s (column %d)",
                           name, (long long)number, problem.text, problem.column);
    else if (!json_is_object(object))
        status = lode_fail(LODE_ERR_FORMAT, "%s: line %lld is not a JSON object", name,
                           (long long)number);
    else if (!json_is_string(value))
        status = lode_fail(LODE_ERR_FORMAT,
                           "%s: line %lld has no string under \"%s\"; name the key that holds the "
                           "text",
                           name, (long long)number, field);
    else
        status = add_row(corpus, json_string_value(value), json_string_length(value));
    json_decref(object);
    return status;
}

static lode_status_t add_line(lode_corpus_t *corpus, const char *line, size_t length,
                              lode_corpus_format_t format, const char *field, const char *name,
                              int64_t number) {
    bool has_newline = length > 0 && line[length - 1] == '\n';
    bool blank = lode_utf8_is_blank(line, length);
    if (format == LODE_CORPUS_WIKITEXT)
        return add_row(corpus, line, blank ? 0 : length);
    if (blank)
        return LODE_OK;
    length -= has_newline;
    if (format == LODE_CORPUS_JSONL)
        return add_json(corpus, line, length, field, name, number);
    return add_row(corpus, line, length);
}

static lode_status_t add_file(lode_corpus_t *corpus, const char *bytes, size_t size,
                              lode_corpus_format_t format, const char *field, const char *name) {
    LODE_TRY(lode_utf8_check(bytes, size, name));
    if (format == LODE_CORPUS_TEXT) {
        while (size > 0 && bytes[size - 1] == '\n')
            size -= size > 1 && bytes[size - 2] == '\r' ? 2 : 1;
        return add_row(corpus, bytes, size);
    }
    int64_t number = 0;
    if (format == LODE_CORPUS_JSONL)
        LODE_TRY(lode_utf8_check_start(bytes, size, name));
    for (size_t start = 0; start < size;) {
        const char *newline = memchr(bytes + start, '\n', size - start);
        size_t end = newline ? (size_t)(newline - bytes) + 1 : size;
        LODE_TRY(add_line(corpus, bytes + start, end - start, format, field, name, ++number));
        start = end;
    }
    return LODE_OK;
}

lode_status_t lode_corpus_parse(lode_corpus_t **out, const char *bytes, size_t size,
                                lode_corpus_format_t format, lode_corpus_view_t view,
                                const char *field, const char *name) {
    *out = NULL;
    lode_corpus_t *corpus = NULL;
    LODE_TRY(LODE_NEW(&corpus, 1, "corpus"));
    corpus->view = view;
    lode_status_t status = add_file(corpus, bytes, size, format, field ? field : "text", name);
    if (status == LODE_OK && !corpus->any_text)
        status = lode_fail(LODE_ERR_INPUT,
                           "%s: there is no text in it; name a corpus that has some", name);
    if (status == LODE_OK && view != LODE_CORPUS_ROWS)
        status = add_end(corpus);
    if (status != LODE_OK)
        lode_corpus_destroy(&corpus);
    *out = corpus;
    return status;
}

lode_status_t lode_corpus_read(lode_corpus_t **out, const char *path, lode_corpus_format_t format,
                               lode_corpus_view_t view, const char *field) {
    *out = NULL;
    char *bytes = NULL;
    size_t size = 0;
    LODE_TRY(lode_gzip_file(&bytes, &size, path));
    lode_status_t status = lode_corpus_parse(out, bytes, size, format, view, field, path);
    free(bytes);
    return status;
}

void lode_corpus_destroy(lode_corpus_t **corpus) {
    if (!*corpus)
        return;
    lode_buffer_free(&(*corpus)->bytes);
    free((*corpus)->ends);
    free(*corpus);
    *corpus = NULL;
}

int64_t lode_corpus_count(const lode_corpus_t *corpus) {
    return corpus->count;
}

void lode_corpus_text(const lode_corpus_t *corpus, int64_t i, const char **text, size_t *length) {
    LODE_ASSERT(i >= 0 && i < corpus->count);
    size_t start = i ? corpus->ends[i - 1] : 0;
    *text = corpus->bytes.data + start;
    *length = corpus->ends[i] - start;
}
