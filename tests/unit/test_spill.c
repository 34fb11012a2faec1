/* Scratch files: what was written is read back, nothing has a name, and where they cannot be made
 * or used one message says so. */
#include "testing/cmocka_all.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/memory.h"
#include "testing/compare.h"
#include "testing/temporary.h"
#include "transformer/spill.h"

enum { PIECE = 100003, PIECES = 7 };

static int64_t files_in(const char *folder) {
    int64_t count = 0;
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    for (const struct dirent *entry; (entry = readdir(directory));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(directory);
    return count;
}

static void fill(char *piece, int number) {
    for (int i = 0; i < PIECE; i++)
        piece[i] = (char)(i * 7 + number * 31);
}

static void test_round_trip(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    static char want[PIECE], got[PIECE];
    lode_spill_t spill;
    LODE_ASSERT_OK(lode_spill_open(&spill, folder, (int64_t)PIECE * PIECES));
    assert_int_equal(files_in(folder), 0);
    for (int p = PIECES - 1; p >= 0; p--) {
        fill(want, p);
        LODE_ASSERT_OK(lode_spill_write(&spill, (int64_t)p * PIECE, want, PIECE));
    }
    for (int p = 0; p < PIECES; p++) {
        fill(want, p);
        lode_spill_ahead(&spill, (int64_t)p * PIECE, PIECE);
        LODE_ASSERT_OK(lode_spill_read(&spill, (int64_t)p * PIECE, got, PIECE));
        assert_memory_equal(got, want, PIECE);
    }
    lode_spill_close(&spill);
    lode_spill_close(&spill); /* closed already */
    assert_int_equal(files_in(folder), 0);
}

static void assert_message(const char *part) {
    if (!strstr(lode_error_message(), part))
        fail_msg("\"%s\" does not say \"%s\"", lode_error_message(), part);
}

static void test_errors(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    char missing[4096], byte = 1;
    lode_spill_t spill;
    snprintf(missing, sizeof missing, "%s/missing", folder);
    assert_int_equal(lode_spill_open(&spill, missing, 10), LODE_ERR_IO);
    assert_message(missing);
    lode_spill_close(&spill);

    LODE_ASSERT_OK(lode_fault_arm("write", 0)); /* as on a full disk */
    assert_int_equal(lode_spill_open(&spill, folder, 10), LODE_ERR_IO);
    assert_message("No space left");
    assert_message("raise memory");
    lode_spill_close(&spill);

    LODE_ASSERT_OK(lode_fault_arm("write:call=2,read:call=1", 0));
    LODE_ASSERT_OK(lode_spill_open(&spill, folder, 10));
    assert_int_equal(lode_spill_write(&spill, 0, &byte, 1), LODE_ERR_IO);
    assert_message(folder);
    LODE_ASSERT_OK(lode_spill_write(&spill, 0, &byte, 1));
    assert_int_equal(lode_spill_read(&spill, 0, &byte, 1), LODE_ERR_IO);
    assert_message(folder);
    LODE_ASSERT_OK(lode_fault_arm(NULL, 0));
    assert_int_equal(lode_spill_read(&spill, 20, &byte, 1), LODE_ERR_IO); /* beyond its end */
    lode_spill_close(&spill);
    assert_int_equal(files_in(folder), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),
                                       cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
