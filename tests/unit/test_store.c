/* One rank's view of the store: round trips, what is refused, what stays on disk. */
#include <math.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "store/digest.h"
#include "store/lock.h"
#include "store/store.h"
#include "testing/cmocka_all.h"
#include "testing/compare.h"
#include "testing/temporary.h"

static const char *folder;
static lode_comm_t self;

static const char *in_folder(const char *name) {
    static char paths[4][256];
    static int next = 0;
    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[0], "%s/%s", folder, name);
    return paths[next];
}

/* A small file with every type, groups and attributes. `twist` changes one element. */
static void write_sample(const char *path, int twist, const char *host) {
    lode_store_t *store;
    const int64_t shape[2] = {3, 4}, zero[2] = {0, 0}, ids = 5, empty[2] = {0, 7};
    double values[12];
    for (int i = 0; i < 12; i++)
        values[i] = 0.1 * i;
    values[7] += twist;
    const int64_t words[5] = {INT64_MIN, -1, 0, 1, INT64_MAX};
    LODE_ASSERT_OK(lode_store_create(&store, &self, path));
    LODE_ASSERT_OK(lode_store_dataset(store, "/zeta/b", LODE_TYPE_F64, 2, shape, false));
    LODE_ASSERT_OK(lode_store_dataset(store, "alpha", LODE_TYPE_I64, 1, &ids, false));
    LODE_ASSERT_OK(lode_store_dataset(store, "zeta/a@0.5~x+y", LODE_TYPE_U8, 2, shape, true));
    LODE_ASSERT_OK(lode_store_dataset(store, "none", LODE_TYPE_F32, 2, empty, true));
    LODE_ASSERT_OK(lode_store_write(store, "zeta/b", zero, shape, values));
    LODE_ASSERT_OK(lode_store_write(store, "/alpha", zero, &ids, words));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, "/zeta/b", "value", 1.0 / 3));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/", "tokens", 17));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/", "tokens", 8146));
    LODE_ASSERT_OK(lode_store_attribute_text(store, "zeta", "protocol", "gptq «é»"));
    lode_provenance_t provenance = {.experiment = "name = \"x\";\n",
                                    .fingerprint = "0123456789abcdef0123456789abcdef",
                                    .host = host,
                                    .ranks = 1,
                                    .threads = 2};
    LODE_ASSERT_OK(lode_store_provenance(store, &provenance));
    assert_false(lode_file_exists(path));
    LODE_ASSERT_OK(lode_store_commit(&store));
    assert_null(store);
}

static void test_round_trip(void **state) {
    (void)state;
    const char *path = in_folder("round.h5");
    write_sample(path, 0, "here");
    assert_true(lode_file_exists(path));
    assert_false(lode_file_exists(in_folder("round.h5.partial")));
    lode_store_t *store;
    LODE_ASSERT_OK(lode_store_open(&store, &self, path));
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES], count;
    lode_type_t type;
    LODE_ASSERT_OK(lode_store_shape(store, "zeta/b", &axes, shape));
    assert_int_equal(axes, 2);
    assert_true(shape[0] == 3 && shape[1] == 4);
    LODE_ASSERT_OK(lode_store_type(store, "/zeta/a@0.5~x+y", &type));
    assert_int_equal(type, LODE_TYPE_U8);
    double *values, part[2], third;
    LODE_ASSERT_OK(lode_store_read_all(store, "/zeta/b", LODE_TYPE_F64, &values, &count));
    assert_int_equal(count, 12);
    for (int i = 0; i < 12; i++)
        assert_true(values[i] == 0.1 * i);
    free(values);
    LODE_ASSERT_OK(lode_store_read(store, "zeta/b", (int64_t[]){1, 2}, (int64_t[]){2, 1},
                                   LODE_TYPE_F64, part));
    assert_true(part[0] == 0.1 * 6 && part[1] == 0.1 * 10);
    int64_t *words, tokens;
    LODE_ASSERT_OK(lode_store_read_all(store, "alpha", LODE_TYPE_I64, &words, &count));
    assert_true(count == 5 && words[0] == INT64_MIN && words[4] == INT64_MAX);
    free(words);
    LODE_ASSERT_OK(lode_store_read_all(store, "zeta/a@0.5~x+y", LODE_TYPE_I64, &words, NULL));
    assert_int_equal(words[11], 0); /* u8 as i64 */
    free(words);
    float *none;
    LODE_ASSERT_OK(lode_store_read_all(store, "none", LODE_TYPE_F32, &none, &count));
    assert_null(none);
    assert_int_equal(count, 0);
    char *protocol;
    LODE_ASSERT_OK(lode_store_get_attribute_f64(store, "zeta/b", "value", &third));
    assert_true(third == 1.0 / 3);
    LODE_ASSERT_OK(lode_store_get_attribute_i64(store, "/", "tokens", &tokens));
    assert_int_equal(tokens, 8146);
    LODE_ASSERT_OK(lode_store_get_attribute_text(store, "/zeta", "protocol", &protocol));
    assert_string_equal(protocol, "gptq «é»");
    free(protocol);
    char **names;
    LODE_ASSERT_OK(lode_store_list(store, "/", &names, &count));
    assert_int_equal(count, 4);
    assert_string_equal(names[0], "alpha");
    assert_string_equal(names[1], "none");
    assert_string_equal(names[2], "provenance");
    assert_string_equal(names[3], "zeta");
    lode_store_list_free(&names, count);
    LODE_ASSERT_OK(lode_store_list(store, "/nowhere/else", &names, &count));
    assert_int_equal(count, 0);
    assert_true(lode_store_has(store, "zeta/b") && lode_store_has(store, "/zeta"));
    assert_false(lode_store_has(store, "zeta/c") || lode_store_has(store, "zeta/b/c/d"));
    lode_store_close(&store);
}

/* Mapped datasets hold what is read, whatever lies before them in the file. */
static void test_map(void **state) {
    (void)state;
    const char *path = in_folder("map.h5");
    lode_store_t *store;
    const int64_t odd = 7, shape[2] = {5, 3}, zero[2] = {0, 0}, empty[2] = {4, 0};
    float written[15];
    for (int i = 0; i < 15; i++)
        written[i] = (float)(i - 4) / 3;
    LODE_ASSERT_OK(lode_store_create(&store, &self, path));
    LODE_ASSERT_OK(lode_store_dataset(store, "odd", LODE_TYPE_U8, 1, &odd, true));
    LODE_ASSERT_OK(lode_store_dataset(store, "down/a@0.5/0", LODE_TYPE_F32, 2, shape, false));
    LODE_ASSERT_OK(lode_store_dataset(store, "one", LODE_TYPE_U8, 1, &odd, true));
    LODE_ASSERT_OK(lode_store_dataset(store, "wide", LODE_TYPE_F64, 2, shape, true));
    LODE_ASSERT_OK(lode_store_dataset(store, "none", LODE_TYPE_F32, 2, empty, false));
    LODE_ASSERT_OK(lode_store_write(store, "down/a@0.5/0", zero, shape, written));
    LODE_ASSERT_OK(lode_store_commit(&store));

    LODE_ASSERT_OK(lode_store_open(&store, &self, path));
    const void *data, *again;
    int64_t elements;
    LODE_ASSERT_OK(lode_store_map(store, "/down/a@0.5/0", LODE_TYPE_F32, &data, &elements));
    assert_int_equal(elements, 15);
    assert_memory_equal(data, written, sizeof written);
    assert_int_equal((uintptr_t)data % sizeof(float), 0);
    LODE_ASSERT_OK(lode_store_map(store, "down/a@0.5/0", LODE_TYPE_F32, &again, NULL));
    assert_ptr_equal(again, data);
    LODE_ASSERT_OK(lode_store_map(store, "wide", LODE_TYPE_F64, &data, &elements));
    assert_int_equal((uintptr_t)data % sizeof(double), 0);
    for (int i = 0; i < 15; i++)
        assert_true(isnan(((const double *)data)[i]));
    LODE_ASSERT_OK(lode_store_map(store, "none", LODE_TYPE_F32, &data, &elements));
    assert_int_equal(elements, 0);
    assert_non_null(data);
    assert_int_equal(lode_store_map(store, "wide", LODE_TYPE_F32, &data, NULL), LODE_ERR_SHAPE);
    assert_non_null(strstr(lode_error_message(), "holds f64, f32 was expected"));
    assert_int_equal(lode_store_map(store, "down/b", LODE_TYPE_F32, &data, NULL), LODE_ERR_INPUT);
    lode_store_close(&store);
}

static void test_fill_and_read_back(void **state) {
    (void)state;
    const int64_t shape[3] = {4, 2, 3}, n = 4;
    const char *names[] = {"f64", "f32", "i32", "i64"};
    const lode_type_t types[] = {LODE_TYPE_F64, LODE_TYPE_F32, LODE_TYPE_I32, LODE_TYPE_I64};
    lode_store_t *store;
    LODE_ASSERT_OK(lode_store_create(&store, &self, in_folder("fill.h5")));
    for (int i = 0; i < n; i++)
        LODE_ASSERT_OK(lode_store_dataset(store, names[i], types[i], 3, shape, true));
    LODE_ASSERT_OK(lode_store_dataset(store, "plain", LODE_TYPE_F64, 3, shape, false));
    LODE_ASSERT_OK(lode_store_write(store, "f32", (int64_t[]){3, 1, 1}, (int64_t[]){1, 1, 2},
                                    (float[]){7.5f, 8.5f}));
    LODE_ASSERT_OK(lode_store_synchronise(store));
    double values[24], plain[24];
    int64_t words[24];
    const int64_t zero[3] = {0};
    LODE_ASSERT_OK(lode_store_read(store, "f32", zero, shape, LODE_TYPE_F64, values));
    LODE_ASSERT_OK(lode_store_read(store, "i32", zero, shape, LODE_TYPE_I64, words));
    LODE_ASSERT_OK(lode_store_read(store, "plain", zero, shape, LODE_TYPE_F64, plain));
    for (int i = 0; i < 24; i++) {
        assert_true(i == 22 ? values[i] == 7.5 : i == 23 ? values[i] == 8.5 : isnan(values[i]));
        assert_int_equal(words[i], -1);
        assert_true(plain[i] == 0);
    }
    lode_store_abandon(&store);
    assert_null(store);
    assert_false(lode_file_exists(in_folder("fill.h5")));
    assert_false(lode_file_exists(in_folder("fill.h5.partial")));
}

static void test_digest(void **state) {
    (void)state;
    char first[LODE_DIGEST_TEXT], second[LODE_DIGEST_TEXT], third[LODE_DIGEST_TEXT];
    lode_buffer_t listing = {0};
    write_sample(in_folder("a.h5"), 0, "here");
    write_sample(in_folder("b.h5"), 0, "there");
    write_sample(in_folder("c.h5"), 1, "here");
    LODE_ASSERT_OK(lode_store_digest(in_folder("a.h5"), first, &listing));
    LODE_ASSERT_OK(lode_store_digest(in_folder("b.h5"), second, NULL));
    LODE_ASSERT_OK(lode_store_digest(in_folder("c.h5"), third, NULL));
    assert_string_equal(first, second); /* provenance does not count */
    assert_string_not_equal(first, third);
    assert_non_null(strstr(listing.data, "  f64[3,4]  /zeta/b\n"));
    assert_non_null(strstr(listing.data, "  group  /\n"));
    assert_null(strstr(listing.data, "provenance"));
    lode_buffer_free(&listing);
    char fingerprint[LODE_DIGEST_TEXT];
    lode_store_fingerprint(in_folder("a.h5"), fingerprint);
    assert_string_equal(fingerprint, "0123456789abcdef0123456789abcdef");
}

static void test_attribute_changes_digest(void **state) {
    (void)state;
    char digests[2][LODE_DIGEST_TEXT];
    const int64_t one = 1;
    for (int i = 0; i < 2; i++) {
        lode_store_t *store;
        LODE_ASSERT_OK(lode_store_create(&store, &self, in_folder("attribute.h5")));
        LODE_ASSERT_OK(lode_store_dataset(store, "x", LODE_TYPE_F64, 1, &one, true));
        LODE_ASSERT_OK(lode_store_attribute_f64(store, "x", "value", 1.0 + i));
        LODE_ASSERT_OK(lode_store_commit(&store));
        LODE_ASSERT_OK(lode_store_digest(in_folder("attribute.h5"), digests[i], NULL));
    }
    assert_string_not_equal(digests[0], digests[1]);
}

static void test_refusals(void **state) {
    (void)state;
    lode_store_t *store = NULL;
    LODE_ASSERT_FAILS(lode_store_open(&store, &self, in_folder("missing.h5")), LODE_ERR_INPUT,
                      "missing.h5");
    assert_null(store);
    LODE_ASSERT_FAILS(lode_store_create(&store, &self, in_folder("no/such/folder.h5")), LODE_ERR_IO,
                      "No such file or directory");
    assert_null(store);
    write_sample(in_folder("r.h5"), 0, "");
    LODE_ASSERT_OK(lode_store_open(&store, &self, in_folder("r.h5")));
    double value = 5, *values;
    int64_t word = 5;
    LODE_ASSERT_FAILS(lode_store_read_all(store, "beta", LODE_TYPE_F64, &values, NULL),
                      LODE_ERR_INPUT, "no dataset \"beta\"");
    LODE_ASSERT_FAILS(lode_store_read_all(store, "zeta", LODE_TYPE_F64, &values, NULL),
                      LODE_ERR_FORMAT, "\"zeta\"");
    LODE_ASSERT_FAILS(lode_store_read_all(store, "alpha", LODE_TYPE_F64, &values, NULL),
                      LODE_ERR_SHAPE, "holds i64, f64 was expected");
    assert_null(values);
    LODE_ASSERT_FAILS(lode_store_read(store, "zeta/b", (int64_t[]){2, 0}, (int64_t[]){2, 4},
                                      LODE_TYPE_F64, &value),
                      LODE_ERR_SHAPE, "axis 0");
    LODE_ASSERT_FAILS(lode_store_get_attribute_f64(store, "zeta/b", "stderr", &value),
                      LODE_ERR_INPUT, "no attribute \"stderr\"");
    LODE_ASSERT_FAILS(lode_store_get_attribute_f64(store, "/", "tokens", &value), LODE_ERR_FORMAT,
                      "not one float");
    LODE_ASSERT_FAILS(lode_store_get_attribute_i64(store, "/beta", "x", &word), LODE_ERR_INPUT,
                      "/beta");
    assert_true(value == 5 && word == 5);
    lode_store_close(&store);
    const int64_t shape[2] = {2, 2};
    LODE_ASSERT_OK(lode_store_create(&store, &self, in_folder("r2.h5")));
    LODE_ASSERT_OK(lode_store_dataset(store, "x", LODE_TYPE_F64, 2, shape, false));
    LODE_ASSERT_FAILS(lode_store_write(store, "x", (int64_t[]){1, 1}, shape, &value),
                      LODE_ERR_INTERNAL, "axis 0");
    /* A failed write, unnoticed by its caller, fails the commit. */
    LODE_ASSERT_FAILS(lode_store_commit(&store), LODE_ERR_INTERNAL, "axis 0");
    assert_false(lode_file_exists(in_folder("r2.h5")));
    assert_false(lode_file_exists(in_folder("r2.h5.partial")));
    const char *names[] = {"", "/", "a//b", "./a", "a/."};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        LODE_ASSERT_OK(lode_store_create(&store, &self, in_folder("r3.h5")));
        LODE_ASSERT_FAILS(lode_store_dataset(store, names[i], LODE_TYPE_F64, 2, shape, false),
                          LODE_ERR_INTERNAL, "cannot name a dataset");
        lode_store_abandon(&store);
    }
}

/* Opens a possibly damaged file as the program would, and reads all there is. */
static void read_everything(const char *path) {
    char digest[LODE_DIGEST_TEXT], fingerprint[LODE_DIGEST_TEXT];
    lode_store_fingerprint(path, fingerprint);
    lode_status_t status = lode_store_digest(path, digest, NULL);
    if (status != LODE_OK)
        assert_non_null(strstr(lode_error_message(), path));
}

static void test_damaged_files(void **state) {
    (void)state;
    char *bytes, fingerprint[LODE_DIGEST_TEXT];
    size_t size;
    write_sample(in_folder("whole.h5"), 0, "");
    LODE_ASSERT_OK(lode_file_read(&bytes, &size, in_folder("whole.h5")));
    for (size_t i = 1; i <= 8; i++) {
        LODE_ASSERT_OK(lode_file_write_atomic(in_folder("cut.h5"), bytes, size * i / 9));
        read_everything(in_folder("cut.h5"));
        lode_store_fingerprint(in_folder("cut.h5"), fingerprint);
        assert_string_equal(fingerprint, "");
    }
    LODE_ASSERT_OK(lode_file_write_atomic(in_folder("text.h5"), "not HDF5\n", 9));
    lode_store_t *store;
    LODE_ASSERT_FAILS(lode_store_open(&store, &self, in_folder("text.h5")), LODE_ERR_FORMAT,
                      "not a complete HDF5 file");
    LODE_ASSERT_OK(lode_file_write_atomic(in_folder("empty.h5"), "", 0));
    LODE_ASSERT_FAILS(lode_store_open(&store, &self, in_folder("empty.h5")), LODE_ERR_FORMAT,
                      "not a complete HDF5 file");
    free(bytes);
}

static void test_old_file_survives_failure(void **state) {
    (void)state;
    char before[LODE_DIGEST_TEXT], after[LODE_DIGEST_TEXT];
    write_sample(in_folder("old.h5"), 0, "");
    LODE_ASSERT_OK(lode_store_digest(in_folder("old.h5"), before, NULL));
    /* What an interrupted run left is in the way, and must not show through. */
    LODE_ASSERT_OK(lode_file_write_atomic(in_folder("old.h5.partial"), "rubbish", 7));
    lode_store_t *store;
    const int64_t shape[1] = {2}, far[1] = {5};
    LODE_ASSERT_OK(lode_store_create(&store, &self, in_folder("old.h5")));
    LODE_ASSERT_OK(lode_store_dataset(store, "x", LODE_TYPE_U8, 1, shape, false));
    assert_int_equal(lode_store_write(store, "x", far, shape, "ab"), LODE_ERR_INTERNAL);
    assert_int_equal(lode_store_commit(&store), LODE_ERR_INTERNAL);
    LODE_ASSERT_OK(lode_store_digest(in_folder("old.h5"), after, NULL));
    assert_string_equal(before, after);
}

/* A limit on file sizes stands in for a full disk: reserving the space fails, by name. */
static void test_no_space(void **state) {
    (void)state;
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = 1 << 20;
    lode_store_t *store;
    const int64_t shape[2] = {1024, 1024}, small[2] = {16, 16};
    LODE_ASSERT_OK(lode_store_create(&store, &self, in_folder("full.h5")));
    setrlimit(RLIMIT_FSIZE, &limit);
    lode_status_t first = lode_store_dataset(store, "small", LODE_TYPE_F64, 2, small, true);
    lode_status_t status = lode_store_dataset(store, "large", LODE_TYPE_F64, 2, shape, true);
    char message[LODE_MESSAGE_MAX];
    snprintf(message, sizeof message, "%s", lode_error_message());
    lode_status_t commit = lode_store_commit(&store);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(first, LODE_OK);
    assert_int_equal(status, LODE_ERR_IO);
    assert_int_equal(commit, LODE_ERR_IO);
    assert_non_null(strstr(message, "full.h5.partial"));
    assert_non_null(strstr(message, "\"large\""));
    assert_string_equal(message, lode_error_message());
    assert_false(lode_file_exists(in_folder("full.h5")));
    assert_false(lode_file_exists(in_folder("full.h5.partial")));
}

/* Space that was claimed for more than came is given back. */
static void test_length(void **state) {
    (void)state;
    lode_store_t *store;
    struct stat info;
    const int64_t some = 100, none = 0;
    LODE_ASSERT_OK(lode_store_create(&store, &self, in_folder("length.h5")));
    LODE_ASSERT_OK(lode_store_dataset(store, "some", LODE_TYPE_F64, 1, &some, true));
    LODE_ASSERT_OK(lode_store_dataset(store, "none", LODE_TYPE_F64, 1, &none, true));
    LODE_ASSERT_OK(lode_store_commit(&store));
    assert_int_equal(stat(in_folder("length.h5"), &info), 0);
    assert_in_range(info.st_size, 800, 100000);
}

static void test_lock(void **state) {
    (void)state;
    int mine, other;
    const char *path = in_folder(".lock");
    LODE_ASSERT_OK(lode_store_lock(&mine, path, "model stories"));
    LODE_ASSERT_FAILS(lode_store_lock(&other, path, "model stories"), LODE_ERR_BUSY,
                      "model stories is in use by process ");
    LODE_ASSERT_FAILS(lode_store_lock_wait(&other, path, "the summary", 0.05), LODE_ERR_BUSY,
                      "the summary");
    assert_int_equal(other, -1);
    lode_store_unlock(&mine);
    assert_int_equal(mine, -1);
    LODE_ASSERT_OK(lode_store_lock(&other, path, "model stories"));
    lode_store_unlock(&other);
    lode_store_unlock(&other);
    LODE_ASSERT_FAILS(lode_store_lock(&other, in_folder("no/.lock"), "x"), LODE_ERR_IO, "no/.lock");
}

/* The bytes of a file do not depend on when it was made. */
static void test_reproducible_bytes(void **state) {
    (void)state;
    char *first, *second;
    size_t first_size, second_size;
    write_sample(in_folder("one.h5"), 0, "same");
    sleep(1);
    write_sample(in_folder("two.h5"), 0, "same");
    LODE_ASSERT_OK(lode_file_read(&first, &first_size, in_folder("one.h5")));
    LODE_ASSERT_OK(lode_file_read(&second, &second_size, in_folder("two.h5")));
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first, second, first_size);
    free(first);
    free(second);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    signal(SIGXFSZ, SIG_IGN);
    self = lode_comm_describe(MPI_COMM_SELF);
    folder = lode_test_temporary();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_fill_and_read_back),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_attribute_changes_digest),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_old_file_survives_failure),
        cmocka_unit_test(test_no_space),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_reproducible_bytes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
