/* Corpora compressed with gzip: what they hold, and every way in which they can be damaged. */
#include "testing/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "testing/compare.h"
#include "testing/temporary.h"
#include "text/corpus.h"
#include "text/gzip.h"

/* Appends a gzip member. */
static void pack(lode_buffer_t *out, const char *text, size_t length) {
    z_stream stream = {0};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY),
                     Z_OK);
    const size_t most = deflateBound(&stream, length) + 64;
    unsigned char *packed = malloc(most);
    assert_non_null(packed);
    stream.next_in = (Bytef *)(uintptr_t)text;
    stream.avail_in = (uInt)length;
    stream.next_out = packed;
    stream.avail_out = (uInt)most;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    LODE_ASSERT_OK(lode_buffer_append(out, packed, most - stream.avail_out));
    deflateEnd(&stream);
    free(packed);
}

static void assert_content(const lode_buffer_t *packed, const char *want, size_t length) {
    char *data;
    size_t got;
    LODE_ASSERT_OK(lode_gzip_read(&data, &got, packed->data, packed->length, "text.gz"));
    assert_int_equal(got, length);
    assert_memory_equal(data, want, length);
    assert_int_equal(data[length], '\0');
    free(data);
}

static void assert_refused(const lode_buffer_t *packed, size_t length, const char *message) {
    char *data;
    size_t got;
    LODE_ASSERT_FAILS(lode_gzip_read(&data, &got, packed->data, length, "my/text.gz"),
                      LODE_ERR_FORMAT, message);
    assert_non_null(strstr(lode_error_message(), "my/text.gz"));
    assert_null(data);
}

static void test_members(void **state) {
    (void)state;
    static const char zeros[600] = {0};
    lode_buffer_t packed = {0};
    pack(&packed, "one\n", 4);
    assert_content(&packed, "one\n", 4);
    pack(&packed, "", 0);
    pack(&packed, "two\n", 4);
    assert_content(&packed, "one\ntwo\n", 8);
    LODE_ASSERT_OK(lode_buffer_append(&packed, zeros, sizeof zeros)); /* as tapes are padded */
    assert_content(&packed, "one\ntwo\n", 8);
    lode_buffer_free(&packed);
}

/* More than the first output, and exactly as much as fits into it. */
static void test_lengths(void **state) {
    (void)state;
    static const size_t lengths[] = {0, 1, 65535, 65536, 65537, 131072, 1000003};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        lode_buffer_t packed = {0};
        char *text = malloc(lengths[i] + 1);
        assert_non_null(text);
        for (size_t at = 0; at < lengths[i]; at++)
            text[at] = (char)('a' + at * at % 26);
        pack(&packed, text, lengths[i]);
        assert_content(&packed, text, lengths[i]);
        lode_buffer_free(&packed);
        free(text);
    }
}

static void test_damage(void **state) {
    (void)state;
    const char text[] = "some text, some more text and some more of it";
    lode_buffer_t packed = {0};
    pack(&packed, text, strlen(text));
    for (size_t length = 0; length < packed.length; length++)
        assert_refused(&packed, length, "cut off");
    assert_refused(&(lode_buffer_t){.data = (char *)(uintptr_t) "plain text"}, 10, "no gzip file");
    for (size_t at = packed.length - 8; at < packed.length; at++) { /* checksum and length */
        packed.data[at] ^= 1;
        assert_refused(&packed, packed.length, "damaged");
        packed.data[at] ^= 1;
    }
    const size_t whole = packed.length;
    LODE_ASSERT_OK(lode_buffer_append(&packed, "\0\0x", 3));
    assert_refused(&packed, packed.length, "behind the end");
    packed.length = whole;
    pack(&packed, "more", 4);
    for (size_t length = whole + 2; length < packed.length; length++)
        assert_refused(&packed, length, "cut off");
    lode_buffer_free(&packed);
}

static void test_memory(void **state) {
    (void)state;
    static char zeros[200000];
    lode_buffer_t packed = {0};
    pack(&packed, zeros, sizeof zeros);
    for (int call = 1; call <= 3; call++) { /* 64, 128 and 256 KiB */
        char fault[64];
        snprintf(fault, sizeof fault, "allocation:call=%d", call);
        LODE_ASSERT_OK(lode_fault_arm(fault, 0));
        char *data;
        size_t length;
        LODE_ASSERT_FAILS(lode_gzip_read(&data, &length, packed.data, packed.length, "text.gz"),
                          LODE_ERR_MEMORY, "a decompressed corpus");
        assert_null(data);
        LODE_ASSERT_OK(lode_fault_arm(NULL, 0));
    }
    lode_buffer_free(&packed);
}

static char *write_file(const char *name, const char *content, size_t length) {
    char *path;
    LODE_ASSERT_OK(lode_path_join(&path, lode_test_temporary(), name));
    LODE_ASSERT_OK(lode_file_write_atomic(path, content, length));
    return path;
}

/* A corpus is the same however its file is named and whether it is compressed. */
static void test_corpus(void **state) {
    (void)state;
    const char text[] = "first line\n\nsecond line é\n";
    lode_buffer_t packed = {0};
    pack(&packed, text, strlen(text));
    char *paths[] = {write_file("text.txt", text, strlen(text)),
                     write_file("text.txt.gz", packed.data, packed.length),
                     write_file("text", packed.data, packed.length)};
    for (int i = 0; i < 3; i++) {
        lode_corpus_t *corpus;
        const char *row;
        size_t length;
        LODE_ASSERT_OK(
            lode_corpus_read(&corpus, paths[i], LODE_CORPUS_LINES, LODE_CORPUS_ROWS, NULL));
        assert_int_equal(lode_corpus_count(corpus), 2);
        lode_corpus_text(corpus, 1, &row, &length);
        assert_int_equal(length, strlen("second line é"));
        assert_memory_equal(row, "second line é", length);
        lode_corpus_destroy(&corpus);
        free(paths[i]);
    }
    lode_buffer_free(&packed);
}

static void test_corpus_refused(void **state) {
    (void)state;
    const char text[] = "no gzip at all\n";
    lode_buffer_t packed = {0};
    pack(&packed, text, strlen(text));
    const struct {
        char *path;
        const char *message;
    } cases[] = {{write_file("plain.gz", text, strlen(text)), "no gzip file"},
                 {write_file("empty.gz", text, 0), "cut off"},
                 {write_file("cut.gz", packed.data, packed.length - 3), "cut off"},
                 {write_file("cut", packed.data, 12), "cut off"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lode_corpus_t *corpus;
        LODE_ASSERT_FAILS(
            lode_corpus_read(&corpus, cases[i].path, LODE_CORPUS_TEXT, LODE_CORPUS_ROWS, NULL),
            LODE_ERR_FORMAT, cases[i].message);
        assert_non_null(strstr(lode_error_message(), cases[i].path));
        assert_null(corpus);
        free(cases[i].path);
    }
    lode_buffer_free(&packed);
}

/* The beginning of a file, whatever it is made of. */
static void test_head(void **state) {
    (void)state;
    lode_buffer_t packed = {0};
    char *path, *head;
    size_t length;
    LODE_ASSERT_OK(lode_path_join(&path, lode_test_temporary(), "head"));
    pack(&packed, "one\ntwo\n", 8);
    for (int compressed = 0; compressed < 2; compressed++) {
        const char *bytes = compressed ? packed.data : "one\ntwo\n";
        LODE_ASSERT_OK(lode_file_write_atomic(path, bytes, compressed ? packed.length : 8));
        for (int most = 1; most < 12; most++) {
            LODE_ASSERT_OK(lode_gzip_head(&head, &length, path, most));
            assert_int_equal(length, most < 8 ? most : 8);
            assert_memory_equal(head, "one\ntwo\n", length);
            free(head);
        }
    }
    packed.data[packed.length / 2] ^= 0x55;
    LODE_ASSERT_OK(lode_file_write_atomic(path, packed.data, packed.length));
    LODE_ASSERT_FAILS(lode_gzip_head(&head, &length, path, 100), LODE_ERR_FORMAT, "damaged");
    assert_null(head);
    LODE_ASSERT_FAILS(lode_gzip_head(&head, &length, "/nowhere/head", 100), LODE_ERR_INPUT,
                      "/nowhere/head");
    free(path);
    lode_buffer_free(&packed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members), cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_damage),  cmocka_unit_test(test_memory),
        cmocka_unit_test(test_corpus),  cmocka_unit_test(test_corpus_refused),
        cmocka_unit_test(test_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
