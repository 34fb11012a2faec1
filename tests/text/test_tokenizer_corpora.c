/* Whole corpora against the ids of the `tokenizers` library: golden/tokenizer_digests.json, which
 * golden/tokenizer_corpora.py writes and explains. The small tokenizers always; those of the data
 * folder where it is. */
#include "testing/cmocka_all.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "testing/compare.h"
#include "testing/data.h"
#include "testing/random_text.h"
#include "text/tokenizer.h"

enum { BOOKS = 5000000, RANDOM = 20000, FEW = 4000, LINE = 4096 };

/* --- corpora -------------------------------------------------------------------------------- */

/* Texts one behind the other. */
typedef struct corpus {
    lode_buffer_t bytes, ends; /* ends: size_t each */
} corpus_t;

static int64_t corpus_count(const corpus_t *corpus) {
    return (int64_t)(corpus->ends.length / sizeof(size_t));
}

static void end_text(corpus_t *corpus) {
    LODE_ASSERT_OK(
        lode_buffer_append(&corpus->ends, &corpus->bytes.length, sizeof corpus->bytes.length));
}

static void add_text(corpus_t *corpus, const char *text, size_t length) {
    LODE_ASSERT_OK(lode_buffer_append(&corpus->bytes, text, length));
    end_text(corpus);
}

/* What lies between separators, where it is not empty. */
static void add_pieces(corpus_t *corpus, const char *text, size_t length, const char *separator) {
    const size_t step = strlen(separator);
    while (length > 0) {
        const char *found = memmem(text, length, separator, step);
        const size_t piece = found ? (size_t)(found - text) : length;
        if (piece > 0)
            add_text(corpus, text, piece);
        text += piece + (found ? step : 0);
        length -= piece + (found ? step : 0);
    }
}

static void add_file(corpus_t *corpus, const char *relative, const char *separator) {
    char *bytes;
    size_t size;
    const char *path = lode_test_data(relative);
    assert_non_null(path);
    LODE_ASSERT_OK(lode_file_read(&bytes, &size, path));
    if (separator)
        add_pieces(corpus, bytes, size, separator);
    else
        add_text(corpus, bytes, size);
    free(bytes);
}

static void add_books(corpus_t *corpus, const char *separator) {
    char command[LINE];
    const char *path = lode_test_data("corpora/books-24MB.txt.gz");
    assert_non_null(path);
    snprintf(command, sizeof command, "gzip -dc '%s' 2>/dev/null", path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    char *bytes = malloc(BOOKS + 1);
    assert_int_equal(fread(bytes, 1, BOOKS + 1, pipe), BOOKS + 1);
    pclose(pipe);
    size_t size = BOOKS;
    while (((unsigned char)bytes[size] & 0xC0) == 0x80)
        size--;
    if (separator)
        add_pieces(corpus, bytes, size, separator);
    else
        add_text(corpus, bytes, size);
    free(bytes);
}

static void add_string(corpus_t *corpus, const json_t *string) {
    assert_true(json_is_string(string));
    add_text(corpus, json_string_value(string), json_string_length(string));
}

/* "text" of each line, or an item's context and continuations. */
static void add_jsonl(corpus_t *corpus, const char *relative, bool requests) {
    corpus_t lines = {0};
    add_file(&lines, relative, "\n");
    const size_t *ends = (const size_t *)(const void *)lines.ends.data;
    for (int64_t i = 0; i < corpus_count(&lines); i++) {
        const size_t start = i ? ends[i - 1] : 0;
        json_t *object = json_loadb(lines.bytes.data + start, ends[i] - start, 0, NULL);
        const json_t *list = json_object_get(object, "requests");
        if (requests)
            add_string(corpus, json_array_get(json_array_get(list, 0), 0));
        else
            add_string(corpus, json_object_get(object, "text"));
        for (size_t r = 0; requests && r < json_array_size(list); r++)
            add_string(corpus, json_array_get(json_array_get(list, r), 1));
        json_decref(object);
    }
    lode_buffer_free(&lines.bytes);
    lode_buffer_free(&lines.ends);
}

static void add_random(corpus_t *corpus, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        LODE_ASSERT_OK(lode_test_random_text(&corpus->bytes, i));
        end_text(corpus);
    }
}

static void add_long(corpus_t *corpus) {
    for (int kind = 0; kind < LODE_TEST_LONG_TEXTS; kind++) {
        lode_buffer_t text = {0};
        LODE_ASSERT_OK(lode_test_long_text(&text, kind, kind == 2 ? 1 << 18 : 1 << 20));
        add_text(corpus, text.data, text.length);
        lode_buffer_free(&text);
    }
}

static void make_corpus(corpus_t *corpus, const char *name) {
    *corpus = (corpus_t){0};
    if (strcmp(name, "wiki") == 0)
        add_file(corpus, "corpora/wiki.test.raw", NULL);
    else if (strcmp(name, "wiki-lines") == 0)
        add_file(corpus, "corpora/wiki.test.raw", "\n");
    else if (strcmp(name, "c4") == 0)
        add_jsonl(corpus, "corpora/c4-sample.jsonl", false);
    else if (strcmp(name, "books") == 0)
        add_books(corpus, NULL);
    else if (strcmp(name, "books-paragraphs") == 0)
        add_books(corpus, "\n\n");
    else if (strcmp(name, "hellaswag") == 0)
        add_jsonl(corpus, "tasks/hellaswag.jsonl", true);
    else if (strcmp(name, "random") == 0)
        add_random(corpus, RANDOM);
    else if (strcmp(name, "random-4000") == 0)
        add_random(corpus, FEW);
    else if (strcmp(name, "long") == 0)
        add_long(corpus);
    else
        fail_msg("there is no corpus \"%s\"", name);
}

/* Corpora are made once. */
typedef struct shelf {
    char name[32];
    corpus_t corpus;
} shelf_t;

static shelf_t shelf[16];
static int shelved;

static const corpus_t *get_corpus(const char *name) {
    for (int i = 0; i < shelved; i++)
        if (strcmp(shelf[i].name, name) == 0)
            return &shelf[i].corpus;
    assert_true(shelved < 16 && strlen(name) < sizeof shelf->name);
    make_corpus(&shelf[shelved].corpus, name);
    snprintf(shelf[shelved].name, sizeof shelf->name, "%s", name);
    return &shelf[shelved++].corpus;
}

static int free_corpora(void **state) {
    (void)state;
    for (int i = 0; i < shelved; i++) {
        lode_buffer_free(&shelf[i].corpus.bytes);
        lode_buffer_free(&shelf[i].corpus.ends);
    }
    return 0;
}

/* --- digests -------------------------------------------------------------------------------- */

static void encode_corpus(lode_buffer_t *out, int64_t *total, const lode_tokenizer_t *tokenizer,
                          const corpus_t *corpus, bool add_special) {
    const int32_t end = -1;
    const size_t *ends = (const size_t *)(const void *)corpus->ends.data;
    lode_encoder_t *encoder;
    *total = 0;
    LODE_ASSERT_OK(lode_encoder_create(&encoder, tokenizer, corpus->bytes.length));
    for (int64_t i = 0; i < corpus_count(corpus); i++) {
        const size_t start = i ? ends[i - 1] : 0, length = ends[i] - start;
        const lode_text_part_t text = {.text = corpus->bytes.data + start,
                                       .length = length,
                                       .visible = length,
                                       .first = true,
                                       .last = true};
        const int32_t *ids;
        int64_t count;
        bool joined;
        LODE_ASSERT_OK(lode_encoder_encode(encoder, &text, add_special, &ids, &count, &joined));
        LODE_ASSERT_OK(lode_buffer_append(out, ids, (size_t)count * sizeof *ids));
        LODE_ASSERT_OK(lode_buffer_append(out, &end, sizeof end));
        *total += count;
    }
    lode_encoder_destroy(&encoder);
}

static void check_digest(const char *label, const lode_tokenizer_t *tokenizer,
                         const corpus_t *corpus, bool add_special, const json_t *want) {
    lode_buffer_t ids = {0};
    int64_t count;
    char digest[LODE_SHA256_TEXT];
    if (corpus_count(corpus) != json_integer_value(json_object_get(want, "texts")) ||
        (json_int_t)corpus->bytes.length != json_integer_value(json_object_get(want, "bytes")))
        fail_msg("%s: the corpus is another one: %lld texts of %zu bytes", label,
                 (long long)corpus_count(corpus), corpus->bytes.length);
    encode_corpus(&ids, &count, tokenizer, corpus, add_special);
    LODE_ASSERT_OK(lode_sha256_text(digest, ids.data, ids.length));
    lode_buffer_free(&ids);
    if (strcmp(digest, json_string_value(json_object_get(want, "sha256"))) != 0)
        fail_msg("%s: %lld ids, of which some are not the library's %lld; "
                 "tests/golden/tokenizer_corpora.py compare shows which",
                 label, (long long)count,
                 (long long)json_integer_value(json_object_get(want, "ids")));
}

/* All digests of one tokenizer. */
static void check_tokenizer(const char *name, const char *path, json_t *digests) {
    static const char special[] = " with special tokens";
    const char *key;
    json_t *want;
    lode_tokenizer_t *tokenizer;
    LODE_ASSERT_OK(lode_tokenizer_load(&tokenizer, path));
    assert_true(json_object_size(digests) >= 2);
    json_object_foreach(digests, key, want) {
        char label[256], corpus[256];
        const char *with = strstr(key, special);
        snprintf(label, sizeof label, "%s: %s", name, key);
        snprintf(corpus, sizeof corpus, "%.*s", with ? (int)(with - key) : (int)strlen(key), key);
        check_digest(label, tokenizer, get_corpus(corpus), with != NULL, want);
    }
    lode_tokenizer_destroy(&tokenizer);
}

static json_t *load_digests(void) {
    json_t *file = json_load_file("tests/golden/tokenizer_digests.json", 0, NULL);
    assert_non_null(file);
    return file;
}

/* The path of a tokenizer that lies in a folder of the data folder, NULL where it does not. */
static const char *find_tokenizer(const char *name) {
    char relative[256];
    snprintf(relative, sizeof relative, "tokenizers/%s/tokenizer.json", name);
    const char *path = lode_test_data(relative);
    if (path)
        return path;
    snprintf(relative, sizeof relative, "models/%s/tokenizer.json", name);
    return lode_test_data(relative);
}

static void test_small(void **state) {
    (void)state;
    json_t *file = load_digests(), *digests;
    const char *name;
    int checked = 0;
    json_object_foreach(json_object_get(file, "digests"), name, digests) {
        char path[256];
        snprintf(path, sizeof path, "tests/golden/tokenizers/%s.json", name);
        if (access(path, R_OK) != 0)
            continue;
        check_tokenizer(name, path, digests);
        checked++;
    }
    json_decref(file);
    assert_true(checked >= 14);
}

static void test_published(void **state) {
    (void)state;
    if (!lode_test_data("corpora/wiki.test.raw"))
        skip();
    json_t *file = load_digests(), *digests;
    const char *name;
    int checked = 0;
    json_object_foreach(json_object_get(file, "digests"), name, digests) {
        const char *path = find_tokenizer(name);
        if (!path)
            continue;
        check_tokenizer(name, path, digests);
        checked++;
    }
    json_decref(file);
    assert_true(checked > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_published),
    };
    return cmocka_run_group_tests(tests, NULL, free_corpora);
}
