/* Files that break the format in one way each, and the sound ones beside them. */
#include "testing/cmocka_all.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/safetensors.h"
#include "testing/compare.h"
#include "testing/temporary.h"

/* "F32" tensor of one dimension in the header's JSON. */
#define ENTRY(name, extent, begin, end)                                                            \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":[" #extent "],\"data_offsets\":[" #begin "," #end   \
    "]}"

/* Appends the length field, `json` and `data_bytes` bytes that count up. */
static void build(lode_buffer_t *file, const char *json, int64_t data_bytes) {
    uint64_t length = strlen(json);
    for (int i = 0; i < 8; i++) {
        char byte = (char)(length >> (8 * i) & 0xff);
        LODE_ASSERT_OK(lode_buffer_append(file, &byte, 1));
    }
    LODE_ASSERT_OK(lode_buffer_append(file, json, length));
    for (int64_t i = 0; i < data_bytes; i++) {
        char byte = (char)(i & 0xff);
        LODE_ASSERT_OK(lode_buffer_append(file, &byte, 1));
    }
}

static const char *write_bytes(const void *bytes, size_t size) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/a.safetensors", lode_test_temporary());
    LODE_ASSERT_OK(lode_file_write_atomic(path, bytes, size));
    return path;
}

static const char *write_case(const char *json, int64_t data_bytes) {
    lode_buffer_t file = {0};
    build(&file, json, data_bytes);
    const char *path = write_bytes(file.data, file.length);
    lode_buffer_free(&file);
    return path;
}

/* The file must be refused with LODE_ERR_FORMAT, its path and `part`, on disk and in memory. */
static void refuse_bytes(const void *bytes, size_t size, const char *part) {
    lode_safetensors_t *file = (lode_safetensors_t *)&size; /* must be overwritten */
    const char *path = write_bytes(bytes, size);
    LODE_ASSERT_FAILS(lode_safetensors_open(&file, path), LODE_ERR_FORMAT, part);
    assert_null(file);
    assert_non_null(strstr(lode_error_message(), path));
    file = (lode_safetensors_t *)&size;
    LODE_ASSERT_FAILS(lode_safetensors_parse(&file, bytes, size, (int64_t)size, "memory"),
                      LODE_ERR_FORMAT, part);
    assert_null(file);
}

static void refuse(const char *json, int64_t data_bytes, const char *part) {
    lode_buffer_t file = {0};
    build(&file, json, data_bytes);
    refuse_bytes(file.data, file.length, part);
    lode_buffer_free(&file);
}

/* --- sound files ---------------------------------------------------------------------------- */

static const char sound[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"z\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,6]},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[5,500],\"data_offsets\":[6,5006]},"
    "\"c\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[5006,5022]},"
    "\"d\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[5022,5026]},"
    "\"e\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[5026,5026]},"
    "\"f\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[5026,5034]}}    ";
enum { SOUND_BYTES = 5034 };

static void reads_a_sound_header(void **state) {
    (void)state;
    lode_safetensors_t *file;
    const char *path = write_case(sound, SOUND_BYTES);
    LODE_ASSERT_OK(lode_safetensors_open(&file, path));
    assert_string_equal(lode_safetensors_path(file), path);
    assert_int_equal(lode_safetensors_count(file), 6);
    const char *names = "bcdefz";
    for (int64_t i = 0; i < 6; i++) {
        char name[2] = {names[i], '\0'};
        assert_string_equal(lode_safetensors_entry(file, i)->name, name);
        assert_int_equal(lode_safetensors_find(file, name), i);
    }
    assert_int_equal(lode_safetensors_find(file, "a"), -1);
    assert_int_equal(lode_safetensors_find(file, "zz"), -1);
    assert_int_equal(lode_safetensors_find(file, "__metadata__"), -1);
    const lode_safetensors_entry_t *entry = lode_safetensors_entry(file, 0);
    assert_int_equal(entry->rank, 2);
    assert_int_equal(entry->shape[0], 5);
    assert_int_equal(entry->shape[1], 500);
    assert_int_equal(entry->element, LODE_DTYPE_BF16);
    assert_true(entry->readable);
    assert_int_equal(entry->begin, 8 + (int64_t)strlen(sound) + 6);
    assert_int_equal(entry->end - entry->begin, 5000);
    assert_false(lode_safetensors_entry(file, 1)->readable);
    assert_string_equal(lode_safetensors_entry(file, 1)->dtype, "I64");
    assert_false(lode_safetensors_entry(file, 4)->readable);
    assert_int_equal(lode_safetensors_entry(file, 4)->rank, 5);
    lode_safetensors_close(&file);
    assert_null(file);
    lode_safetensors_close(&file);
}

static void maps_single_tensors(void **state) {
    (void)state;
    lode_safetensors_t *file;
    lode_tensor_t tensor, again;
    LODE_ASSERT_OK(lode_safetensors_open(&file, write_case(sound, SOUND_BYTES)));
    assert_int_equal(lode_safetensors_bytes_mapped(file), 0);
    LODE_ASSERT_OK(lode_safetensors_map(file, 0, &tensor));
    assert_int_equal(tensor.dtype, LODE_DTYPE_BF16);
    assert_int_equal(tensor.rank, 2);
    assert_int_equal(tensor.shape[1], 500);
    for (int64_t i = 0; i < 5000; i++)
        assert_int_equal(((const unsigned char *)tensor.data)[i], (i + 6) & 0xff);
    LODE_ASSERT_OK(lode_safetensors_map(file, 0, &again));
    assert_ptr_equal(again.data, tensor.data);
    LODE_ASSERT_OK(lode_safetensors_map(file, 5, &tensor));
    assert_int_equal(((const unsigned char *)tensor.data)[5], 5);
    assert_int_equal(lode_safetensors_bytes_mapped(file), 5006);
    lode_safetensors_unmap(file, 0);
    lode_safetensors_unmap(file, 0);
    assert_int_equal(lode_safetensors_bytes_mapped(file), 6);
    LODE_ASSERT_OK(lode_safetensors_map(file, 0, &tensor));
    assert_int_equal(((const unsigned char *)tensor.data)[4999], (4999 + 6) & 0xff);
    assert_int_equal(lode_safetensors_bytes_mapped(file), 5006);
    assert_int_equal(lode_safetensors_bytes_mapped_ever(file), 5006);
    assert_true(lode_safetensors_entry(file, 0)->mapped_ever);
    assert_false(lode_safetensors_entry(file, 2)->mapped_ever);
    LODE_ASSERT_OK(lode_safetensors_map(file, 3, &tensor)); /* no elements, yet not absent */
    assert_non_null(tensor.data);
    assert_int_equal(lode_safetensors_bytes_mapped_ever(file), 5006);
    LODE_ASSERT_OK(lode_safetensors_map(file, 2, &tensor));
    assert_int_equal(tensor.rank, 0);
    LODE_ASSERT_FAILS(lode_safetensors_map(file, 1, &tensor), LODE_ERR_SHAPE,
                      "\"c\" has dtype I64");
    assert_null(tensor.data);
    LODE_ASSERT_FAILS(lode_safetensors_map(file, 4, &tensor), LODE_ERR_SHAPE, "rank 5");
    lode_safetensors_close(&file);
}

/* One page holds a tensor's neighbours, but pages beyond its own stay out of the address space. */
static void maps_no_more_than_the_tensors_pages(void **state) {
    (void)state;
    long page = sysconf(_SC_PAGESIZE);
    char json[256];
    snprintf(json, sizeof json,
             "{\"a\":{\"dtype\":\"F32\",\"shape\":[%ld],\"data_offsets\":[0,%ld]},"
             "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%ld,%ld]}}",
             16 * page, 64 * page, 64 * page, 64 * page + 4);
    lode_safetensors_t *file;
    lode_tensor_t tensor;
    const char *path = write_case(json, 64 * page + 4);
    LODE_ASSERT_OK(lode_safetensors_open(&file, path));
    LODE_ASSERT_OK(lode_safetensors_map(file, 1, &tensor));
    int64_t mapped = 0;
    char line[1024];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long first, end;
        if (strstr(line, path) && sscanf(line, "%lx-%lx", &first, &end) == 2)
            mapped += (int64_t)(end - first);
    }
    if (maps)
        fclose(maps);
    assert_int_equal(mapped, maps ? page : 0);
    assert_int_equal(lode_safetensors_bytes_mapped_ever(file), 4);
    lode_safetensors_close(&file);
}

static void refuses_a_file_that_changes_under_it(void **state) {
    (void)state;
    lode_safetensors_t *file;
    lode_tensor_t tensor;
    const char *path = write_case(sound, SOUND_BYTES);
    LODE_ASSERT_OK(lode_safetensors_open(&file, path));
    assert_int_equal(truncate(path, 100), 0);
    LODE_ASSERT_FAILS(lode_safetensors_map(file, 0, &tensor), LODE_ERR_IO, "and has 100 now");
    lode_safetensors_close(&file);
}

static void parses_from_memory_without_a_file(void **state) {
    (void)state;
    lode_buffer_t bytes = {0};
    lode_safetensors_t *file;
    lode_tensor_t tensor;
    build(&bytes, sound, 0);
    int64_t size = (int64_t)bytes.length + SOUND_BYTES;
    LODE_ASSERT_OK(lode_safetensors_parse(&file, bytes.data, bytes.length, size, "memory"));
    assert_int_equal(lode_safetensors_count(file), 6);
    LODE_ASSERT_FAILS(lode_safetensors_map(file, 0, &tensor), LODE_ERR_INTERNAL, "memory");
    lode_safetensors_close(&file);
    LODE_ASSERT_FAILS(lode_safetensors_parse(&file, bytes.data, bytes.length - 1, size, "memory"),
                      LODE_ERR_FORMAT, "beyond the bytes given");
    lode_buffer_free(&bytes);
}

static void accepts_an_empty_file(void **state) {
    (void)state;
    lode_safetensors_t *file;
    LODE_ASSERT_OK(lode_safetensors_open(&file, write_case("{}", 0)));
    assert_int_equal(lode_safetensors_count(file), 0);
    assert_int_equal(lode_safetensors_find(file, "a"), -1);
    lode_safetensors_close(&file);
}

/* --- broken files --------------------------------------------------------------------------- */

static void refuses_what_is_no_file(void **state) {
    (void)state;
    lode_safetensors_t *file;
    char path[1024];
    const char *folder = lode_test_temporary();
    LODE_ASSERT_FAILS(lode_safetensors_open(&file, folder), LODE_ERR_INPUT, "not a regular file");
    snprintf(path, sizeof path, "%s/none", folder);
    LODE_ASSERT_FAILS(lode_safetensors_open(&file, path), LODE_ERR_INPUT, path);
    snprintf(path, sizeof path, "%s/pipe", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    LODE_ASSERT_FAILS(lode_safetensors_open(&file, path), LODE_ERR_INPUT, "not a regular file");
    assert_null(file);
}

static void refuses_wrong_lengths(void **state) {
    (void)state;
    refuse_bytes("", 0, "0 bytes, too few");
    refuse_bytes("\x02\0\0\0\0\0\0", 7, "7 bytes, too few");
    refuse_bytes("\x03\0\0\0\0\0\0\0{}", 10, "needs 3 bytes after its length, 2 are there");
    refuse_bytes("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "18446744073709551615 bytes, more than");
    refuse_bytes("\0\0\0\0\0\0\0\x80{}", 10, "9223372036854775808 bytes, more than");
    refuse_bytes("\x01\xe1\xf5\x05\0\0\0\0{}", 10, "100000001 bytes, more than");
    refuse_bytes("\0\xe1\xf5\x05\0\0\0\0{}", 10, "needs 100000000 bytes after its length");
    refuse_bytes("version https://git-lfs.github.com/spec/v1\n", 43, "git lfs pull");
}

static void refuses_what_is_no_header(void **state) {
    (void)state;
    refuse("", 0, "does not begin with '{'");
    refuse(" {}", 0, "does not begin with '{'");
    refuse("[]", 0, "does not begin with '{'");
    refuse("{", 0, "safetensors header: line 1");
    refuse("{}x", 0, "safetensors header: line 1");
    refuse("{\"a\\u0000\":{}}", 0, "safetensors header: line 1");
    refuse("{\"\xff\":{}}", 0, "safetensors header: line 1");
    refuse("{\"a\x1b[2J\":{}}", 0, "safetensors header: line 1");
    assert_null(strchr(lode_error_message(), '\x1b'));
    refuse("{\"a\\u001b[2J\":{}}", 0, "control characters");
    refuse("{" ENTRY("a", 1, 0, 4) "," ENTRY("a", 1, 4, 8) "}", 8, "duplicate");
    refuse("{\"__metadata__\":{\"n\":1}}", 0, "\"__metadata__\" must map strings");
    refuse("{\"__metadata__\":[]}", 0, "\"__metadata__\" must map strings");
    refuse("{\"a\":[]}", 0, "tensor \"a\": must be a JSON object");
}

static void refuses_deep_nesting(void **state) {
    (void)state;
    enum { DEPTH = 100000 };
    char *json = malloc(DEPTH + 6);
    assert_non_null(json);
    memcpy(json, "{\"a\":", 5);
    memset(json + 5, '[', DEPTH);
    json[DEPTH + 5] = '\0';
    refuse(json, 0, "depth");
    free(json);
}

#define SHAPED(dtype, shape, offsets)                                                              \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void refuses_wrong_entries(void **state) {
    (void)state;
    refuse("{\"a\":{}}", 0, "\"shape\" must be an array");
    refuse(SHAPED("\"F32\"", "4", "[0,16]"), 16, "\"shape\" must be an array");
    refuse(SHAPED("\"F32\"", "[2,-1]", "[0,0]"), 0, "extent 1 of its shape");
    refuse(SHAPED("\"F32\"", "[2.0]", "[0,8]"), 8, "extent 0 of its shape");
    refuse(SHAPED("\"F32\"", "[\"2\"]", "[0,8]"), 8, "extent 0 of its shape");
    refuse(SHAPED("\"F32\"", "[9223372036854775808]", "[0,8]"), 8, "too big integer");
    refuse(SHAPED("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0, "more elements than fit");
    refuse(SHAPED("\"F32\"", "[4294967296,2147483647]", "[0,0]"), 0, "sound number of bytes");
    refuse(SHAPED("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, "sound number of bytes");
    refuse(SHAPED("\"F4\"", "[3]", "[0,1]"), 1, "sound number of bytes");
    refuse(SHAPED("\"X32\"", "[1]", "[0,4]"), 4, "\"dtype\" is missing or not one");
    refuse(SHAPED("32", "[1]", "[0,4]"), 4, "\"dtype\" is missing or not one");
    refuse(SHAPED("\"F32\"", "[1]", "[0]"), 4, "\"data_offsets\" must be two");
    refuse(SHAPED("\"F32\"", "[1]", "[0,4,8]"), 4, "\"data_offsets\" must be two");
    refuse(SHAPED("\"F32\"", "[1]", "{}"), 4, "\"data_offsets\" must be two");
    refuse(SHAPED("\"F32\"", "[1]", "[0,4.0]"), 4, "\"data_offsets\" must be two");
    refuse(SHAPED("\"F32\"", "[1]", "[-4,0]"), 4, "[-4, 0] are no range");
    refuse(SHAPED("\"F32\"", "[1]", "[4,0]"), 4, "[4, 0] are no range");
    refuse(SHAPED("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]"), 4, "no range");
    refuse(SHAPED("\"F32\"", "[2]", "[0,4]"), 4, "span 4 bytes, its shape and dtype F32 need 8");
    refuse(SHAPED("\"BF16\"", "[2]", "[0,8]"), 8, "span 8 bytes, its shape and dtype BF16 need 4");
}

static void refuses_wrong_tilings(void **state) {
    (void)state;
    refuse("{" ENTRY("a", 2, 0, 8) "," ENTRY("b", 2, 4, 12) "}", 12, "they overlap");
    refuse("{" ENTRY("a", 2, 0, 8) "," ENTRY("b", 2, 0, 8) "}", 8, "they overlap");
    refuse("{" ENTRY("a", 2, 0, 8) "," ENTRY("b", 1, 2, 6) "}", 8, "they overlap");
    refuse("{" ENTRY("b", 2, 12, 20) "," ENTRY("a", 2, 0, 8) "}", 20, "\"b\" begins at byte 12");
    refuse("{" ENTRY("b", 2, 12, 20) "," ENTRY("a", 2, 0, 8) "}", 20, "there is a hole");
    refuse("{" ENTRY("a", 1, 4, 8) "}", 8, "there is a hole");
    refuse("{" ENTRY("a", 2, 0, 8) "}", 9, "has 1 bytes after its last tensor");
    refuse("{}", 3, "has 3 bytes after its last tensor");
}

static void names_the_bytes_a_truncated_file_lacks(void **state) {
    (void)state;
    static const char json[] = "{" ENTRY("a", 2, 0, 8) "," ENTRY("b", 2, 8, 16) "}";
    char part[128];
    int64_t header = 8 + (int64_t)strlen(json);
    snprintf(part, sizeof part, "need a file of %" PRId64 " bytes, %" PRId64 " are there",
             header + 16, header + 15);
    refuse(json, 15, part);
    refuse(json, 0, "the file is truncated");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_sound_header),
        cmocka_unit_test(maps_single_tensors),
        cmocka_unit_test(maps_no_more_than_the_tensors_pages),
        cmocka_unit_test(refuses_a_file_that_changes_under_it),
        cmocka_unit_test(parses_from_memory_without_a_file),
        cmocka_unit_test(accepts_an_empty_file),
        cmocka_unit_test(refuses_what_is_no_file),
        cmocka_unit_test(refuses_wrong_lengths),
        cmocka_unit_test(refuses_what_is_no_header),
        cmocka_unit_test(refuses_deep_nesting),
        cmocka_unit_test(refuses_wrong_entries),
        cmocka_unit_test(refuses_wrong_tilings),
        cmocka_unit_test(names_the_bytes_a_truncated_file_lacks),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
