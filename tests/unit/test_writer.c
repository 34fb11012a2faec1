/* The writer of safetensors files: what it writes is read back with the project's reader, which has
 * tests of its own, and headers also byte by byte. */
#include "model/writer.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/companion.h"
#include "model/safetensors.h"
#include "testing/checkpoint.h"
#include "testing/cmocka_all.h"
#include "testing/temporary.h"

enum { TENSORS = 8 };

static const lode_writer_tensor_t tensors[TENSORS] = {
    {"half", "F16", 2, {3, 5}, 30},   {"wide", "F32", 1, {7}, 28},
    {"odd \"\\ é", "U8", 1, {3}, 3},  {"brain", "BF16", 3, {2, 3, 4}, 48},
    {"widest", "I64", 2, {2, 2}, 32}, {"scalar", "F32", 0, {0}, 4},
    {"empty", "F32", 2, {0, 4}, 0},   {"truth", "BOOL", 1, {5}, 5},
};

static unsigned char byte_of(int64_t tensor, int64_t at) {
    return (unsigned char)(tensor * 31 + at * 7 + 1);
}

/* Writes all tensors in pieces of `piece` bytes, the last ones first. */
static void write_all(lode_writer_t *writer, int64_t piece) {
    for (int64_t i = TENSORS - 1; i >= 0; i--)
        for (int64_t at = 0; at < tensors[i].bytes; at += piece) {
            unsigned char bytes[64];
            const int64_t size = tensors[i].bytes - at < piece ? tensors[i].bytes - at : piece;
            for (int64_t k = 0; k < size; k++)
                bytes[k] = byte_of(i, at + k);
            assert_int_equal(lode_writer_write(writer, i, at, bytes, (size_t)size), LODE_OK);
        }
}

static lode_safetensors_t *open_file(const char *folder, const char *name) {
    char *path;
    lode_safetensors_t *file;
    assert_int_equal(lode_path_join(&path, folder, name), LODE_OK);
    if (lode_safetensors_open(&file, path) != LODE_OK)
        fail_msg("%s", lode_error_message());
    free(path);
    return file;
}

/* Checks tensor `i` of the list in the file that must hold it. */
static void check_tensor(lode_safetensors_t *file, int64_t i) {
    const int64_t found = lode_safetensors_find(file, tensors[i].name);
    assert_true(found >= 0);
    const lode_safetensors_entry_t *entry = lode_safetensors_entry(file, found);
    const void *bytes;
    assert_string_equal(entry->dtype, tensors[i].dtype);
    assert_int_equal(entry->rank, tensors[i].rank);
    for (int axis = 0; axis < entry->rank; axis++)
        assert_int_equal(entry->shape[axis], tensors[i].shape[axis]);
    assert_int_equal(entry->end - entry->begin, tensors[i].bytes);
    const int64_t width = strcmp(entry->dtype, "I64") == 0    ? 8
                          : strcmp(entry->dtype, "F32") == 0  ? 4
                          : strchr(entry->dtype, '6') != NULL ? 2
                                                              : 1;
    assert_int_equal(entry->begin % width, 0);
    assert_int_equal(lode_safetensors_map_bytes(file, found, &bytes), LODE_OK);
    for (int64_t k = 0; k < tensors[i].bytes; k++)
        assert_int_equal(((const unsigned char *)bytes)[k], byte_of(i, k));
}

static void one_file(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    lode_writer_t *writer;
    assert_int_equal(lode_writer_create(&writer, folder, tensors, TENSORS, 1 << 20), LODE_OK);
    assert_int_equal(lode_writer_file_count(writer), 1);
    assert_string_equal(lode_writer_file_name(writer, 0), "model.safetensors");
    assert_int_equal(lode_writer_lay_out(writer), LODE_OK);
    write_all(writer, 64);
    assert_int_equal(lode_writer_sync(writer), LODE_OK);
    lode_writer_destroy(&writer);
    assert_null(writer);
    lode_safetensors_t *file = open_file(folder, "model.safetensors");
    assert_int_equal(lode_safetensors_count(file), TENSORS);
    for (int64_t i = 0; i < TENSORS; i++)
        check_tensor(file, i);
    lode_safetensors_close(&file);
}

/* A second set of files beside the first, and an index of one shard; each goes on by itself. */
static void two_sets(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    const lode_writer_set_t sets[] = {{.stem = "model", .shard_bytes = 1 << 20, .indexed = true},
                                      {.stem = "beside", .shard_bytes = 60}};
    static const char *const names[2][5] = {
        {"model.safetensors", "model.safetensors.index.json"},
        {"beside-00001-of-00003.safetensors", "beside-00002-of-00003.safetensors",
         "beside-00003-of-00003.safetensors", "beside.safetensors.index.json"}};
    lode_writer_t *writers[2];
    char *path, *index;
    size_t size;
    for (int s = 0; s < 2; s++) {
        assert_int_equal(
            lode_writer_create_set(&writers[s], folder, &sets[s], tensors, s ? TENSORS : 2),
            LODE_OK);
        for (int64_t i = 0; i < lode_writer_file_count(writers[s]); i++)
            assert_string_equal(lode_writer_file_name(writers[s], i), names[s][i]);
        assert_int_equal(lode_writer_file_count(writers[s]), s ? 4 : 2);
        assert_int_equal(lode_writer_lay_out(writers[s]), LODE_OK);
        assert_int_equal(lode_writer_begin_marks(writers[s]), LODE_OK);
    }
    write_all(writers[1], 64);
    assert_int_equal(lode_writer_sync(writers[1]), LODE_OK);
    assert_int_equal(lode_writer_end_marks(writers[1]), LODE_OK);
    assert_true(lode_writer_interrupted(writers[0]));
    assert_false(lode_writer_interrupted(writers[1]));
    assert_int_equal(lode_path_join(&path, folder, names[0][1]), LODE_OK);
    assert_int_equal(lode_file_read(&index, &size, path), LODE_OK);
    assert_non_null(strstr(index, "\"half\": \"model.safetensors\""));
    free(index);
    free(path);
    lode_writer_destroy(&writers[0]);
    lode_writer_destroy(&writers[1]);
    lode_safetensors_t *file = open_file(folder, names[1][0]);
    check_tensor(file, 0);
    lode_safetensors_close(&file);
}

/* The header as its bytes: order by width, then by the list; padded to a multiple of 8. */
static void header_bytes(void **state) {
    (void)state;
    static const char json[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"wide\":{\"dtype\":\"F32\",\"shape\":[7],\"data_offsets\":[0,28]},"
        "\"half\":{\"dtype\":\"F16\",\"shape\":[3,5],\"data_offsets\":[28,58]}}";
    const char *folder = lode_test_temporary();
    lode_writer_t *writer;
    char *path, *bytes;
    size_t size;
    assert_int_equal(lode_writer_create(&writer, folder, tensors, 2, 1 << 20), LODE_OK);
    assert_int_equal(lode_writer_lay_out(writer), LODE_OK);
    lode_writer_destroy(&writer);
    assert_int_equal(lode_path_join(&path, folder, "model.safetensors"), LODE_OK);
    assert_int_equal(lode_file_read(&bytes, &size, path), LODE_OK);
    const size_t padded = (strlen(json) + 7) / 8 * 8;
    assert_int_equal(size, 8 + padded + 58);
    assert_int_equal((unsigned char)bytes[0] + 256 * (unsigned char)bytes[1], padded);
    assert_memory_equal(bytes + 8, json, strlen(json));
    for (size_t i = strlen(json); i < padded; i++)
        assert_int_equal(bytes[8 + i], ' ');
    free(bytes);
    free(path);
}

static void many_shards(void **state) {
    (void)state;
    /* 60 bytes a shard: half + wide | odd + brain | widest + scalar + empty + truth */
    static const int64_t shard_of[TENSORS] = {0, 0, 1, 1, 2, 2, 2, 2};
    const char *folder = lode_test_temporary();
    lode_writer_t *writer, *other;
    assert_int_equal(lode_writer_create(&writer, folder, tensors, TENSORS, 60), LODE_OK);
    assert_int_equal(lode_writer_create(&other, folder, tensors, TENSORS, 60), LODE_OK);
    assert_int_equal(lode_writer_file_count(writer), 4);
    assert_string_equal(lode_writer_file_name(writer, 1), "model-00002-of-00003.safetensors");
    assert_string_equal(lode_writer_file_name(writer, 3), "model.safetensors.index.json");
    assert_int_equal(lode_writer_lay_out(writer), LODE_OK);
    write_all(other, 5); /* laid out by one, written by another */
    assert_int_equal(lode_writer_sync(other), LODE_OK);
    lode_safetensors_t *files[3];
    for (int f = 0; f < 3; f++)
        files[f] = open_file(folder, lode_writer_file_name(writer, f));
    for (int64_t i = 0; i < TENSORS; i++)
        check_tensor(files[shard_of[i]], i);
    char *path;
    assert_int_equal(lode_path_join(&path, folder, "model.safetensors.index.json"), LODE_OK);
    json_t *index = json_load_file(path, 0, NULL);
    assert_non_null(index);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")), 150);
    json_t *map = json_object_get(index, "weight_map");
    assert_int_equal(json_object_size(map), TENSORS);
    for (int64_t i = 0; i < TENSORS; i++)
        assert_string_equal(json_string_value(json_object_get(map, tensors[i].name)),
                            lode_writer_file_name(writer, shard_of[i]));
    json_decref(index);
    free(path);
    for (int f = 0; f < 3; f++)
        lode_safetensors_close(&files[f]);
    lode_writer_destroy(&writer);
    lode_writer_destroy(&other);
}

/* A tensor beyond the limit has a shard to itself; one of exactly the limit closes none. */
static void shard_limits(void **state) {
    (void)state;
    static const lode_writer_tensor_t list[] = {{"a", "U8", 1, {10}, 10},
                                                {"b", "U8", 1, {25}, 25},
                                                {"c", "U8", 1, {10}, 10},
                                                {"d", "U8", 1, {10}, 10},
                                                {"e", "U8", 1, {1}, 1}};
    lode_writer_t *writer;
    assert_int_equal(lode_writer_create(&writer, "nowhere", list, 5, 20), LODE_OK);
    assert_int_equal(lode_writer_file_count(writer), 5); /* a | b | c d | e, and the index */
    assert_int_equal(lode_writer_lay_out(writer), LODE_ERR_IO);
    assert_non_null(strstr(lode_error_message(), "nowhere/model-00001-of-00004.safetensors"));
    assert_int_equal(lode_writer_write(writer, 0, 0, "x", 1), LODE_ERR_IO);
    lode_writer_destroy(&writer);
}

/* What one writer has marked and put on disk another need not write; files that are not as they
 * were laid out are nothing to go on with. */
static void marks(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    lode_writer_t *first, *second, *other;
    char *path;
    assert_int_equal(lode_writer_create(&first, folder, tensors, TENSORS, 60), LODE_OK);
    assert_false(lode_writer_interrupted(first));
    assert_int_equal(lode_writer_lay_out(first), LODE_OK);
    assert_false(lode_writer_interrupted(first));
    assert_int_equal(lode_writer_begin_marks(first), LODE_OK);
    assert_int_equal(lode_writer_open_marks(first), LODE_OK);
    assert_int_equal(lode_writer_mark(first, 1), LODE_OK);
    assert_int_equal(lode_writer_mark(first, 6), LODE_OK);
    assert_false(lode_writer_done(first, 1)); /* not on disk yet */
    assert_int_equal(lode_writer_sync(first), LODE_OK);
    assert_int_equal(lode_writer_mark(first, 2), LODE_OK);
    lode_writer_destroy(&first); /* as if it were killed */
    assert_int_equal(lode_writer_create(&second, folder, tensors, TENSORS, 60), LODE_OK);
    assert_true(lode_writer_interrupted(second));
    assert_int_equal(lode_writer_open_marks(second), LODE_OK);
    for (int64_t i = 0; i < TENSORS; i++)
        assert_int_equal(lode_writer_done(second, i), i == 1 || i == 6);
    assert_int_equal(lode_writer_create(&other, folder, tensors, TENSORS - 1, 60), LODE_OK);
    assert_false(lode_writer_interrupted(other));
    lode_writer_destroy(&other);
    assert_int_equal(lode_path_join(&path, folder, lode_writer_file_name(second, 1)), LODE_OK);
    assert_int_equal(truncate(path, 50), 0);
    assert_false(lode_writer_interrupted(second));
    free(path);
    assert_int_equal(lode_writer_lay_out(second), LODE_OK);
    assert_true(lode_writer_interrupted(second));
    assert_int_equal(lode_writer_end_marks(second), LODE_OK);
    assert_false(lode_writer_interrupted(second));
    lode_writer_destroy(&second);
}

/* --- rounding ------------------------------------------------------------------------------- */

/* The value of a short float with `mantissa` bits and exponent bias `bias`. */
static double value_of(uint16_t bits, int mantissa, int bias) {
    const int exponent = (bits & 0x7fff) >> mantissa;
    const int fraction = bits & ((1 << mantissa) - 1);
    const double magnitude = exponent == 0
                                 ? ldexp(fraction, 1 - bias - mantissa)
                                 : ldexp((1 << mantissa) + fraction, exponent - bias - mantissa);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static uint16_t round_one(lode_dtype_t dtype, double value) {
    uint16_t bits;
    if (lode_writer_round_f64(&bits, dtype, &value, 1) != LODE_OK)
        fail_msg("%g: %s", value, lode_error_message());
    return bits;
}

/* For every finite short float: itself, the middle to the next one, and just beside the middle, by
 * less than a float could tell. */
static void check_rounding(lode_dtype_t dtype, int mantissa, int bias) {
    const int last = ((1 << (15 - mantissa)) - 1) << mantissa; /* infinity */
    for (int bits = 0; bits < last - 1; bits++) {
        const double low = value_of((uint16_t)bits, mantissa, bias);
        const double high = value_of((uint16_t)(bits + 1), mantissa, bias);
        const double middle = low + (high - low) / 2;
        const uint16_t even = (uint16_t)(bits + (bits & 1));
        assert_int_equal(round_one(dtype, low), bits);
        assert_int_equal(round_one(dtype, middle), even);
        assert_int_equal(round_one(dtype, -middle), even | 0x8000);
        assert_int_equal(round_one(dtype, nextafter(middle, 0)), bits);
        assert_int_equal(round_one(dtype, nextafter(middle, INFINITY)), bits + 1);
        const float single = (float)middle;
        uint16_t from_float;
        assert_true((double)single == middle);
        assert_int_equal(lode_writer_round(&from_float, dtype, &single, 1), LODE_OK);
        assert_int_equal(from_float, even);
    }
    const double most = value_of((uint16_t)(last - 1), mantissa, bias);
    const double beyond = most * (1 + ldexp(1, -mantissa - 2)), far = 1e300;
    uint16_t out;
    assert_int_equal(lode_writer_round_f64(&out, dtype, &far, 1), LODE_ERR_NUMERIC);
    assert_int_equal(round_one(dtype, most), last - 1);
    assert_int_equal(round_one(dtype, beyond), last - 1);
    assert_int_equal(round_one(dtype, INFINITY), last);
    assert_true((round_one(dtype, NAN) & 0x7fff) > last);
}

static void rounding(void **state) {
    (void)state;
    check_rounding(LODE_DTYPE_F16, 10, 15);
    check_rounding(LODE_DTYPE_BF16, 7, 127);
    const float huge = 65520; /* halfway from the largest float16 to the next power of two */
    uint16_t out;
    assert_int_equal(lode_writer_round(&out, LODE_DTYPE_F16, &huge, 1), LODE_ERR_NUMERIC);
    assert_non_null(strstr(lode_error_message(), "65520 is beyond the range of F16"));
    const double third = 1.0 / 3;
    float single;
    assert_int_equal(lode_writer_round_f64(&single, LODE_DTYPE_F32, &third, 1), LODE_OK);
    assert_true(single == 1.0f / 3);
    assert_int_equal(lode_writer_round(&single, LODE_DTYPE_F32, &huge, 1), LODE_OK);
    assert_true(single == huge);
}

/* --- companions ----------------------------------------------------------------------------- */

static void companions(void **state) {
    (void)state;
    static const char *const wanted[] = {"LICENSE", "generation_config.json", "tokenizer.json",
                                         "tokenizer.model"};
    static const char *const others[] = {".gitattributes",
                                         "config.json",
                                         "lodestone.json",
                                         "model-00001-of-00002.safetensors",
                                         "model.safetensors.index.json",
                                         "pytorch_model.bin",
                                         "pytorch_model.bin.index.json",
                                         "consolidated.00.pth",
                                         "model.gguf"};
    const char *folder = lode_test_temporary(), *target = lode_test_temporary();
    char **names, *path, *text;
    int64_t count;
    size_t size;
    for (int i = 3; i >= 0; i--)
        assert_int_equal(lode_test_write_text(folder, wanted[i], i == 2 ? "" : wanted[i]), LODE_OK);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(lode_test_write_text(folder, others[i], "x"), LODE_OK);
    assert_int_equal(lode_path_join(&path, folder, "original"), LODE_OK);
    assert_int_equal(lode_directory_create(path), LODE_OK);
    free(path);
    assert_int_equal(lode_companion_list(&names, &count, folder), LODE_OK);
    assert_int_equal(count, 4);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(names[i], wanted[i]);
        assert_int_equal(lode_companion_copy(folder, target, names[i]), LODE_OK);
        assert_int_equal(lode_path_join(&path, target, names[i]), LODE_OK);
        assert_int_equal(lode_file_read(&text, &size, path), LODE_OK);
        assert_string_equal(text, i == 2 ? "" : wanted[i]);
        free(text);
        free(path);
    }
    lode_companion_free(&names, count);
    assert_null(names);
    assert_int_equal(lode_companion_list(&names, &count, "nowhere"), LODE_ERR_INPUT);
    assert_non_null(strstr(lode_error_message(), "nowhere"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_file),    cmocka_unit_test(header_bytes),
        cmocka_unit_test(many_shards), cmocka_unit_test(shard_limits),
        cmocka_unit_test(marks),       cmocka_unit_test(rounding),
        cmocka_unit_test(companions),  cmocka_unit_test(two_sets),
    };
    return cmocka_run_group_tests_name("writer", tests, NULL, NULL);
}
