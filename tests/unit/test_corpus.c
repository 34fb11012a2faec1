/* Corpus formats and views on texts written out here, and WikiText-2 where the data folder is. */
#include "testing/cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "testing/compare.h"
#include "testing/data.h"
#include "text/corpus.h"
#include "text/utf8.h"

/* Fails unless the corpus has exactly these texts; the list ends with NULL. */
static void assert_texts(const char *bytes, size_t size, lode_corpus_format_t format,
                         lode_corpus_view_t view, const char *const *want) {
    lode_corpus_t *corpus;
    LODE_ASSERT_OK(lode_corpus_parse(&corpus, bytes, size, format, view, NULL, "test"));
    int64_t count = 0;
    for (; want[count]; count++) {
        const char *text;
        size_t length;
        assert_true(count < lode_corpus_count(corpus));
        lode_corpus_text(corpus, count, &text, &length);
        assert_int_equal(length, strlen(want[count]));
        assert_memory_equal(text, want[count], length);
    }
    assert_int_equal(count, lode_corpus_count(corpus));
    lode_corpus_destroy(&corpus);
    assert_null(corpus);
}

static const char LINES[] = "one\n \n  two \r\n\n\xE3\x80\x80\n\nthree";

static void test_lines(void **state) {
    (void)state;
    const char *rows[] = {"one", "  two \r", "three", NULL};
    const char *joined[] = {"one\n\n  two \r\n\nthree", NULL};
    assert_texts(LINES, strlen(LINES), LODE_CORPUS_LINES, LODE_CORPUS_ROWS, rows);
    assert_texts(LINES, strlen(LINES), LODE_CORPUS_LINES, LODE_CORPUS_JOINED, joined);
    assert_texts(LINES, strlen(LINES), LODE_CORPUS_LINES, LODE_CORPUS_DENSE, joined);
    const char *last[] = {"a", "b", NULL};
    assert_texts("a\nb\n", 4, LODE_CORPUS_LINES, LODE_CORPUS_ROWS, last);
}

static void test_text(void **state) {
    (void)state;
    const char *whole[] = {"\n a\n\nb ", NULL};
    for (lode_corpus_view_t view = LODE_CORPUS_ROWS; view <= LODE_CORPUS_DENSE; view++) {
        assert_texts("\n a\n\nb \n\r\n\n", 11, LODE_CORPUS_TEXT, view, whole);
        assert_texts("\n a\n\nb ", 7, LODE_CORPUS_TEXT, view, whole);
    }
}

static void test_wikitext(void **state) {
    (void)state;
    static const char bytes[] = " \n = A = \n \n text \n\nend";
    const char *rows[] = {" = A = \n", " text \n", "end", NULL};
    const char *joined[] = {"\n\n = A = \n\n\n\n\n text \n\n\n\n\nend", NULL};
    const char *dense[] = {" = A = \n\n\n text \n\n\nend", NULL};
    assert_texts(bytes, strlen(bytes), LODE_CORPUS_WIKITEXT, LODE_CORPUS_ROWS, rows);
    assert_texts(bytes, strlen(bytes), LODE_CORPUS_WIKITEXT, LODE_CORPUS_JOINED, joined);
    assert_texts(bytes, strlen(bytes), LODE_CORPUS_WIKITEXT, LODE_CORPUS_DENSE, dense);
}

static void test_jsonl(void **state) {
    (void)state;
    static const char bytes[] = "{\"text\": \"a\\nb\", \"id\": 1}\n\n{\"text\":\"\"}\r\n"
                                "{\"n\": [1], \"text\": \"\\u00e9\\ud83d\\ude00\"}";
    const char *rows[] = {"a\nb", "\xC3\xA9\xF0\x9F\x98\x80", NULL};
    const char *joined[] = {"a\nb\n\n\n\n\xC3\xA9\xF0\x9F\x98\x80", NULL};
    assert_texts(bytes, strlen(bytes), LODE_CORPUS_JSONL, LODE_CORPUS_ROWS, rows);
    assert_texts(bytes, strlen(bytes), LODE_CORPUS_JSONL, LODE_CORPUS_JOINED, joined);
    lode_corpus_t *corpus;
    const char *text;
    size_t length;
    LODE_ASSERT_OK(lode_corpus_parse(&corpus, "{\"body\": \"x\\u0000y\"}", 20, LODE_CORPUS_JSONL,
                                     LODE_CORPUS_ROWS, "body", "test"));
    lode_corpus_text(corpus, 0, &text, &length);
    assert_int_equal(length, 3);
    assert_memory_equal(text, "x\0y", 3);
    lode_corpus_destroy(&corpus);
}

static void assert_refused(const char *bytes, size_t size, lode_corpus_format_t format,
                           lode_status_t status, const char *part) {
    for (lode_corpus_view_t view = LODE_CORPUS_ROWS; view <= LODE_CORPUS_DENSE; view++) {
        lode_corpus_t *corpus;
        LODE_ASSERT_FAILS(lode_corpus_parse(&corpus, bytes, size, format, view, NULL, "my.file"),
                          status, part);
        assert_null(corpus);
        assert_non_null(strstr(lode_error_message(), "my.file"));
    }
}

static void test_refused(void **state) {
    (void)state;
    for (lode_corpus_format_t format = LODE_CORPUS_LINES; format <= LODE_CORPUS_JSONL; format++) {
        assert_refused("", 0, format, LODE_ERR_INPUT, "no text");
        assert_refused("\n \n\t\n", 5, format, LODE_ERR_INPUT, "no text");
        assert_refused("{}\n\xFF", 4, format, LODE_ERR_FORMAT, "0xFF at offset 3");
    }
    const lode_corpus_format_t jsonl = LODE_CORPUS_JSONL;
    assert_refused("{\"text\":\"\"}\n", 12, jsonl, LODE_ERR_INPUT, "no text");
    assert_refused("{\"text\":\"a\"}\n\n{\"t\":\"a\"}\n", 25, jsonl, LODE_ERR_FORMAT, "line 3");
    assert_refused("{\"text\":\"a\"}\n[\"a\"]\n", 19, jsonl, LODE_ERR_FORMAT, "line 2");
    assert_refused("{\"text\":1}\n", 11, jsonl, LODE_ERR_FORMAT, "\"text\"");
    assert_refused("{\"text\":\"\\ud800\"}\n", 18, jsonl, LODE_ERR_FORMAT, "line 1");
    assert_refused("{\"text\":\"a\"\n", 12, jsonl, LODE_ERR_FORMAT, "line 1");
    lode_corpus_t *corpus;
    LODE_ASSERT_FAILS(
        lode_corpus_read(&corpus, "tests/no-such.txt", LODE_CORPUS_TEXT, LODE_CORPUS_ROWS, NULL),
        LODE_ERR_INPUT, "tests/no-such.txt");
    assert_null(corpus);
}

static void test_utf8(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "\x80",         "\xC0\x80",         "\xC1\xBF",         "\xC3",         "\xC3\x28",
        "\xE0\x9F\xBF", "\xED\xA0\x80",     "\xED\xBF\xBF",     "\xE2\x82",     "\xF0\x8F\xBF\xBF",
        "\xF5\x80\x80", "\xF4\x90\x80\x80", "\xF8\x88\x80\x80", "\xF0\x9F\x98", "\xE2\x28\xA1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char bytes[32] = "0123456789abc"; /* past the eight bytes that are looked at at once */
        strcpy(bytes + 13, wrong[i]);
        LODE_ASSERT_FAILS(lode_utf8_check(bytes, strlen(bytes), "here"), LODE_ERR_FORMAT,
                          "offset 13");
    }
    static const uint32_t edges[] = {0,      0x7F,   0x80,   0x7FF,   0x800,
                                     0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        char bytes[4];
        uint32_t back = 1;
        int length = lode_utf8_encode(edges[i], bytes);
        assert_int_equal(lode_utf8_decode(bytes, (size_t)length, &back), length);
        assert_int_equal(back, edges[i]);
        assert_int_equal(lode_utf8_length(bytes[0]), length);
        LODE_ASSERT_OK(lode_utf8_check(bytes, (size_t)length, "here"));
    }
    assert_int_equal(lode_utf8_count("a\xC3\xA9\xF0\x9F\x98\x80", 7), 3);
    assert_true(lode_utf8_is_blank("", 0));
    assert_true(lode_utf8_is_blank(" \x1C\xC2\xA0\xE2\x80\x89", 7));
    assert_false(lode_utf8_is_blank(" \xE2\x80\x8B", 4)); /* zero width is not white space */
}

/* The text that GPTQ's evaluation scores. */
static void test_wikitext2(void **state) {
    (void)state;
    if (!lode_test_data("corpora/wiki.test.raw"))
        skip();
    lode_corpus_t *corpus;
    const char *text;
    char *want;
    size_t length, size;
    LODE_ASSERT_OK(lode_corpus_read(&corpus, lode_test_data("corpora/wiki.test.raw"),
                                    LODE_CORPUS_WIKITEXT, LODE_CORPUS_JOINED, NULL));
    LODE_ASSERT_OK(
        lode_file_read(&want, &size, lode_test_data("corpora/wikitext2-test-joined.txt")));
    assert_int_equal(lode_corpus_count(corpus), 1);
    lode_corpus_text(corpus, 0, &text, &length);
    assert_int_equal(length, size);
    assert_true(memcmp(text, want, size) == 0);
    free(want);
    lode_corpus_destroy(&corpus);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),     cmocka_unit_test(test_text),
        cmocka_unit_test(test_wikitext),  cmocka_unit_test(test_jsonl),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_wikitext2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
