/* How much private memory the process has: anonymous pages count once they are touched, mapped
 * files do not, and the highest of what was seen stays. */
#include "testing/cmocka_all.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/file.h"
#include "base/memory.h"
#include "testing/compare.h"
#include "testing/temporary.h"

enum { SIZE = 64 << 20, SLACK = 4 << 20 };

static void *map_private(void) {
    void *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

static void assert_near(int64_t bytes, int64_t want) {
    assert_true(bytes > want - SLACK && bytes < want + SLACK);
}

static void test_private(void **state) {
    (void)state;
    const int64_t before = lode_memory_private();
    if (before == 0)
        skip(); /* the system does not tell */
    char *memory = map_private();
    assert_near(lode_memory_private(), before);
    memset(memory, 1, SIZE);
    assert_near(lode_memory_private(), before + SIZE);
    munmap(memory, SIZE);
    assert_near(lode_memory_private(), before);
}

static void test_files(void **state) {
    (void)state;
    lode_mapping_t mapping;
    char path[4096], *bytes = map_private();
    snprintf(path, sizeof path, "%s/mapped", lode_test_temporary());
    memset(bytes, 1, SIZE);
    LODE_ASSERT_OK(lode_file_write_atomic(path, bytes, SIZE));
    munmap(bytes, SIZE);
    const int64_t before = lode_memory_private();
    LODE_ASSERT_OK(lode_file_map(&mapping, path));
    int64_t sum = 0;
    for (size_t i = 0; i < mapping.size; i += 512)
        sum += mapping.data[i];
    assert_int_equal(sum, SIZE / 512);
    assert_near(lode_memory_private(), before);
    lode_file_unmap(&mapping);
}

static void test_peak(void **state) {
    (void)state;
    lode_memory_mark();
    const int64_t before = lode_memory_peak_marked();
    if (before == 0)
        skip();
    assert_true(lode_memory_peak() >= before);
    char *memory = map_private();
    memset(memory, 1, SIZE);
    lode_memory_sample();
    munmap(memory, SIZE);
    lode_memory_sample();
    assert_near(lode_memory_peak_marked(), before + SIZE);
    assert_true(lode_memory_peak() >= lode_memory_peak_marked());
    const int64_t peak = lode_memory_peak();
    lode_memory_mark();
    assert_near(lode_memory_peak_marked(), before);
    assert_int_equal(lode_memory_peak(), peak);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_private), cmocka_unit_test(test_files),
                                       cmocka_unit_test(test_peak)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
