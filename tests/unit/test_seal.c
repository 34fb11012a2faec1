/* Checksums of result files: no byte of a file can change, nor its end be cut, without an error
 * that names the file, and the dataset where one is hit; HDF5 never sees a structure that has
 * changed. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "store/digest.h"
#include "store/seal.h"
#include "store/store.h"
#include "testing/cmocka_all.h"
#include "testing/temporary.h"

static const char *folder;
static char path[512], copy[512];
static char *bytes;
static size_t size;
static lode_comm_t alone;

enum { ROWS = 40, COLUMNS = 30 };

/* Two datasets, an empty one, attributes and, where wanted, a provenance. */
static void write_file(const char *name, bool provenance) {
    static const lode_provenance_t origin = {.experiment = "name = \"x\";",
                                             .fingerprint = "0123456789abcdef0123456789abcdef"};
    const int64_t shape[] = {ROWS, COLUMNS}, none[] = {0}, zero[] = {0, 0};
    double values[ROWS * COLUMNS];
    uint8_t keep[ROWS * COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        values[i] = i / 7.0;
        keep[i] = i % 3 == 0;
    }
    lode_store_t *store;
    assert_int_equal(lode_store_create(&store, &alone, name), LODE_OK);
    assert_int_equal(lode_store_dataset(store, "/loss", LODE_TYPE_F64, 2, shape, true), LODE_OK);
    assert_int_equal(lode_store_dataset(store, "/keep/a@0.5", LODE_TYPE_U8, 2, shape, false),
                     LODE_OK);
    assert_int_equal(lode_store_dataset(store, "/none", LODE_TYPE_I32, 1, none, false), LODE_OK);
    assert_int_equal(lode_store_write(store, "/loss", zero, shape, values), LODE_OK);
    assert_int_equal(lode_store_write(store, "/keep/a@0.5", zero, shape, keep), LODE_OK);
    assert_int_equal(lode_store_attribute_i64(store, "/", "tokens", 17), LODE_OK);
    assert_int_equal(lode_store_attribute_text(store, "/loss", "unit", "nats"), LODE_OK);
    if (provenance)
        assert_int_equal(lode_store_provenance(store, &origin), LODE_OK);
    assert_int_equal(lode_store_commit(&store), LODE_OK);
}

static void write_copy(const char *data, size_t length) {
    FILE *file = fopen(copy, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state) {
    (void)state;
    folder = lode_test_temporary();
    alone = lode_comm_describe(MPI_COMM_SELF);
    snprintf(path, sizeof path, "%s/sealed.h5", folder);
    snprintf(copy, sizeof copy, "%s/copy.h5", folder);
    write_file(path, true);
    assert_int_equal(lode_file_read(&bytes, &size, path), LODE_OK);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(bytes);
    return 0;
}

/* Reads the copy whole, dataset by dataset. */
static lode_status_t read_copy(void) {
    lode_store_t *store;
    double *loss = NULL;
    uint8_t *keep = NULL;
    LODE_TRY(lode_store_open(&store, &alone, copy));
    lode_status_t status = lode_store_read_all(store, "/loss", LODE_TYPE_F64, &loss, NULL);
    if (status == LODE_OK)
        status = lode_store_read_all(store, "/keep/a@0.5", LODE_TYPE_U8, &keep, NULL);
    free(loss);
    free(keep);
    lode_store_close(&store);
    return status;
}

/* Where a dataset's elements begin, by the seal's own lines, which anybody can read. */
static size_t data_begin(const char *name, size_t *length) {
    char line[64];
    snprintf(line, sizeof line, " %s\n", name);
    const char *seal = NULL;
    for (size_t i = size - 2000; i + strlen(line) < size && !seal; i++)
        if (memcmp(bytes + i, line, strlen(line)) == 0)
            seal = bytes + i;
    assert_non_null(seal);
    while (seal[-1] != '\n')
        seal--;
    unsigned long first, count;
    assert_int_equal(sscanf(seal + 33, "%lu %lu", &first, &count), 2);
    *length = count;
    return first;
}

static void test_sound(void **state) {
    (void)state;
    size_t length;
    char want[LODE_DIGEST_TEXT], got[LODE_DIGEST_TEXT];
    write_copy(bytes, size);
    assert_int_equal(read_copy(), LODE_OK);
    assert_int_equal(lode_seal_check_data(&alone, copy), LODE_OK);
    data_begin("loss", &length);
    assert_int_equal(length, ROWS * COLUMNS * 8);
    /* The digest is of the contents: without provenance, and so without the mark, it is the same.
     */
    write_file(copy, false);
    assert_int_equal(lode_store_digest(path, want, NULL), LODE_OK);
    assert_int_equal(lode_store_digest(copy, got, NULL), LODE_OK);
    assert_string_equal(got, want);
}

/* A dataset of more than one segment has the same digest with a seal, which knows it, and without,
 * where the elements are read. Rows of the outermost axis end inside segments. */
static void test_digest_without_seal(void **state) {
    (void)state;
    enum { LINES = 5, WIDTH = 14 * (1 << 20) + 3 };
    const int64_t shape[] = {LINES, WIDTH}, zero[] = {0, 0}, one[] = {1, WIDTH};
    _Static_assert((int64_t)LINES * WIDTH > LODE_SEAL_SEGMENT, "two segments");
    char want[LODE_DIGEST_TEXT], got[LODE_DIGEST_TEXT], footer[65] = "";
    long length;
    uint8_t *row;
    lode_store_t *store;
    assert_int_equal(LODE_NEW(&row, WIDTH, "row"), LODE_OK);
    assert_int_equal(lode_store_create(&store, &alone, copy), LODE_OK);
    assert_int_equal(lode_store_dataset(store, "/large", LODE_TYPE_U8, 2, shape, false), LODE_OK);
    for (int64_t i = 0; i < LINES; i++) {
        const int64_t at[] = {i, 0};
        for (int64_t k = 0; k < WIDTH; k++)
            row[k] = (uint8_t)(k * 7 + i);
        assert_int_equal(lode_store_write(store, "/large", i ? at : zero, one, row), LODE_OK);
    }
    free(row);
    assert_int_equal(lode_store_commit(&store), LODE_OK);
    assert_int_equal(lode_store_digest(copy, want, NULL), LODE_OK);
    FILE *file = fopen(copy, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, -64, SEEK_END), 0);
    assert_int_equal(fread(footer, 1, 64, file), 64);
    const long end = ftell(file);
    fclose(file);
    assert_int_equal(sscanf(footer, "seal %*s %ld", &length), 1);
    assert_int_equal(truncate(copy, end - 64 - length), 0);
    bool sealed = true;
    assert_int_equal(lode_seal_check_structure(copy, &sealed), LODE_OK);
    assert_false(sealed);
    assert_int_equal(lode_store_digest(copy, got, NULL), LODE_OK);
    assert_string_equal(got, want);
    /* And it is of the elements: of a byte behind the first segment, too. */
    file = fopen(copy, "rb+");
    assert_non_null(file);
    assert_int_equal(fseek(file, 69 * (1 << 20), SEEK_SET), 0);
    assert_int_not_equal(fputc(1, file), EOF);
    assert_int_not_equal(fputc(0, file), EOF);
    fclose(file);
    assert_int_equal(lode_store_digest(copy, got, NULL), LODE_OK);
    assert_string_not_equal(got, want);
}

/* Every byte of the structures and of the seal, and some of the data. */
static void test_flips(void **state) {
    (void)state;
    const uint64_t key = lode_random_key(3, "flips", 0, 0);
    char *spoilt, digest[LODE_DIGEST_TEXT];
    size_t lengths[2];
    const size_t begins[] = {data_begin("loss", &lengths[0]),
                             data_begin("keep/a@0.5", &lengths[1])};
    assert_int_equal(lode_alloc_raw(&spoilt, (int64_t)size, 1, "copy"), LODE_OK);
    memcpy(spoilt, bytes, size);
    for (size_t i = 0; i < size; i += 1 + (size_t)lode_random_below(key, i, 160)) {
        spoilt[i] ^= (char)(1 << lode_random_below(key, i + size, 8));
        write_copy(spoilt, size);
        spoilt[i] = bytes[i];
        assert_int_equal(read_copy(), LODE_ERR_FORMAT);
        assert_non_null(strstr(lode_error_message(), copy));
        for (int d = 0; d < 2; d++)
            if (i >= begins[d] && i < begins[d] + lengths[d])
                assert_non_null(strstr(lode_error_message(),
                                       d == 0 ? "data of \"loss\"" : "data of \"keep/a@0.5\""));
        assert_int_equal(lode_store_digest(copy, digest, NULL), LODE_ERR_FORMAT);
    }
    free(spoilt);
}

/* Cut or grown anywhere. */
static void test_cuts(void **state) {
    (void)state;
    const uint64_t key = lode_random_key(4, "cuts", 0, 0);
    for (size_t length = 0; length < size;
         length += 1 + (size_t)lode_random_below(key, length, 240)) {
        write_copy(bytes, length);
        assert_int_equal(read_copy(), LODE_ERR_FORMAT);
        assert_non_null(strstr(lode_error_message(), copy));
    }
    char *longer;
    assert_int_equal(lode_alloc(&longer, (int64_t)size + 100, 1, "copy"), LODE_OK);
    memcpy(longer, bytes, size);
    write_copy(longer, size + 100);
    assert_int_equal(read_copy(), LODE_ERR_FORMAT);
    free(longer);
}

/* Files of versions that wrote no seal. */
static void test_unsealed(void **state) {
    (void)state;
    write_file(copy, false);
    char *data;
    size_t length;
    assert_int_equal(lode_file_read(&data, &length, copy), LODE_OK);
    long lines = 0;
    assert_int_equal(sscanf(data + length - 64, "seal %*s %ld lodestone", &lines), 1);
    write_copy(data, length - 64 - (size_t)lines);
    assert_int_equal(read_copy(), LODE_OK);
    assert_int_equal(lode_seal_check_data(&alone, copy), LODE_OK);
    free(data);
}

/* Seals that only look like one. */
static void test_forged(void **state) {
    (void)state;
    static const char *const ends[] = {
        "seal 00000000000000000000000000000000 000000000000001 lodestone\n",
        "seal 00000000000000000000000000000000 999999999999999 lodestone\n",
        "seal 00000000000000000000000000000000 -00000000000001 lodestone\n",
        "seal 99aa06d3014798d86001c324468d497f 000000000000000 lodestone\n"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char *spoilt;
        assert_int_equal(lode_alloc_raw(&spoilt, (int64_t)size, 1, "copy"), LODE_OK);
        memcpy(spoilt, bytes, size);
        memcpy(spoilt + size - 64, ends[i], 64);
        write_copy(spoilt, size);
        assert_int_equal(read_copy(), LODE_ERR_FORMAT);
        free(spoilt);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound),    cmocka_unit_test(test_digest_without_seal),
        cmocka_unit_test(test_flips),    cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_unsealed), cmocka_unit_test(test_forged)};
    MPI_Init(&argc, &argv);
    const int failed = cmocka_run_group_tests(tests, setup, teardown);
    MPI_Finalize();
    return failed;
}
