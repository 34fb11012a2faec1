/* Fingerprints of inputs: a file is hashed again whenever its bytes may have changed, and only
 * then. */
#include "testing/cmocka_all.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "common/inputs.h"
#include "testing/compare.h"
#include "testing/temporary.h"

static const char *folder;
static char file[512];

static void write_bytes(const char *text) {
    FILE *stream = fopen(file, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(text, 1, strlen(text), stream), strlen(text));
    assert_int_equal(fclose(stream), 0);
}

/* The file's digest as a run of its own finds it. */
static void take(char digest[LODE_DIGEST_TEXT]) {
    const lode_comm_t alone = lode_comm_alone();
    lode_inputs_t *inputs = NULL;
    LODE_ASSERT_OK(lode_inputs_open(&inputs, folder));
    LODE_ASSERT_OK(lode_inputs_file(digest, inputs, &alone, file));
    lode_inputs_close(&inputs, &alone);
}

/* A copy that keeps times (cp -p, rsync -t, tar) over a file of the same size is another file. */
static void test_times_kept(void **state) {
    (void)state;
    char first[LODE_DIGEST_TEXT], second[LODE_DIGEST_TEXT], third[LODE_DIGEST_TEXT];
    struct stat info;
    write_bytes("one text");
    take(first);
    assert_int_equal(stat(file, &info), 0);
    write_bytes("two text");
    const struct timespec times[] = {info.st_atim, info.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
    take(second);
    assert_string_not_equal(first, second);
    write_bytes("one text");
    take(third);
    assert_string_equal(first, third);
}

/* What is remembered is taken: here a digest that no bytes have. */
static void test_remembered(void **state) {
    (void)state;
    char first[LODE_DIGEST_TEXT], second[LODE_DIGEST_TEXT], path[512], *text;
    size_t size;
    write_bytes("some text");
    take(first);
    snprintf(path, sizeof path, "%s/.fingerprints.json", folder);
    LODE_ASSERT_OK(lode_file_read(&text, &size, path));
    char *at = strstr(text, first);
    assert_non_null(at);
    memset(at, '0', LODE_DIGEST_TEXT - 1);
    LODE_ASSERT_OK(lode_file_write_atomic(path, text, size));
    free(text);
    take(second);
    assert_string_equal(second, "00000000000000000000000000000000");
}

int main(void) {
    folder = lode_test_temporary();
    snprintf(file, sizeof file, "%s/input", folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times_kept),
        cmocka_unit_test(test_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
