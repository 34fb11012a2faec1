/* Going on from what an interrupted run left, on one rank: whatever was interrupted, cut short or
 * scribbled over, nothing is an error, no unit counts that was not done, and the file ends the
 * same.
 */
#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "store/digest.h"
#include "store/journal.h"
#include "testing/cmocka_all.h"
#include "testing/compare.h"
#include "testing/temporary.h"

enum { UNITS = 6, WIDTH = 5, EXTRA = 3 };

static const char ours[] = "0123456789abcdef0123456789abcdef";
static const char theirs[] = "0123456789abcdef0123456789abcdee";
static const lode_part_t parts[] = {{"rows", UNITS}, {"extra", EXTRA}};

static lode_comm_t self;
static char path[256], partial[272], journal[272], skeleton[280];

static int64_t shape[] = {UNITS, WIDTH};

/* Creates the datasets of a stage, and resumes. */
static lode_store_t *begin(const char *fingerprint, bool afresh) {
    lode_store_t *store;
    const int64_t extra = EXTRA;
    LODE_ASSERT_OK(lode_store_create_resumable(&store, &self, path, fingerprint, afresh));
    LODE_ASSERT_OK(lode_store_dataset(store, "group/rows", LODE_TYPE_F64, 2, shape, false));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, "/", "tokens", 12));
    LODE_ASSERT_OK(lode_store_dataset(store, "extra", LODE_TYPE_I32, 1, &extra, true));
    LODE_ASSERT_OK(lode_store_resume(store, parts, 2));
    return store;
}

static void write_row(lode_store_t *store, int64_t unit, double sign) {
    const int64_t offset[] = {unit, 0}, count[] = {1, WIDTH};
    double row[WIDTH];
    for (int64_t j = 0; j < WIDTH; j++)
        row[j] = sign / (double)(1 + unit * WIDTH + j);
    LODE_ASSERT_OK(lode_store_write(store, "group/rows", offset, count, row));
}

/* Does the rows from `first` on that are not done, `most` at most. */
static void work(lode_store_t *store, int64_t most) {
    for (int64_t u = 0; u < UNITS && most > 0; u++) {
        if (lode_store_done(store, 0, u, 1))
            continue;
        write_row(store, u, 1);
        LODE_ASSERT_OK(lode_store_mark(store, 0, u, 1));
        most--;
    }
}

/* Ends the stage; `digest` is that of the file. One element of "extra" stays missing. */
static void finish(lode_store_t *store, char digest[LODE_DIGEST_TEXT]) {
    const int64_t width = WIDTH;
    for (int64_t u = 0; u + 1 < EXTRA; u++) {
        const int64_t one = 1;
        const int32_t value = (int32_t)(7 * u);
        LODE_ASSERT_OK(lode_store_write(store, "extra", &u, &one, &value));
        LODE_ASSERT_OK(lode_store_mark_all(store, 1, u, u > 0, LODE_OK));
    }
    LODE_ASSERT_OK(lode_store_dataset(store, "later", LODE_TYPE_F64, 1, &width, false));
    LODE_ASSERT_OK(lode_store_commit(&store));
    assert_false(lode_file_exists(partial));
    assert_false(lode_file_exists(journal));
    assert_false(lode_file_exists(skeleton));
    LODE_ASSERT_OK(lode_store_digest(path, digest, NULL));
    unlink(path);
}

static void expected(char digest[LODE_DIGEST_TEXT]) {
    lode_store_t *store = begin(ours, true);
    work(store, UNITS);
    finish(store, digest);
}

/* A file's bytes, to be put back as a killed run would have left them. */
typedef struct copy {
    char *data;
    size_t size;
} copy_t;

static copy_t keep(const char *name) {
    copy_t copy;
    LODE_ASSERT_OK(lode_file_read(&copy.data, &copy.size, name));
    return copy;
}

static void put_back(const char *name, const void *data, size_t size) {
    const int descriptor = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, data, size), size);
    close(descriptor);
}

/* Runs until `units` rows are marked, and leaves the files as they lie at that moment. */
static void interrupt(int64_t units, copy_t *file, copy_t *marks) {
    lode_store_t *store = begin(ours, true);
    work(store, units);
    *file = keep(partial);
    *marks = keep(journal);
    lode_store_abandon(&store);
    lode_store_discard(path);
}

static void test_every_unit(void **state) {
    (void)state;
    char want[LODE_DIGEST_TEXT], got[LODE_DIGEST_TEXT];
    expected(want);
    for (int64_t units = 0; units <= UNITS; units++) {
        lode_store_t *store = begin(ours, false);
        work(store, units);
        lode_store_abandon(&store);
        assert_int_equal(lode_file_exists(journal), units > 0);
        assert_int_equal(lode_file_exists(partial), units > 0);
        for (int again = 0; again < 2; again++) { /* interrupted at once, then not */
            store = begin(ours, false);
            assert_int_equal(lode_store_done_count(store, 0), units);
            assert_int_equal(lode_store_done_count(store, 1), 0);
            for (int64_t u = 0; u < UNITS; u++)
                assert_int_equal(lode_store_done(store, 0, u, 1), u < units);
            if (again == 0)
                lode_store_abandon(&store);
        }
        work(store, UNITS);
        finish(store, got);
        assert_string_equal(got, want);
    }
}

static void test_killed(void **state) {
    (void)state;
    char want[LODE_DIGEST_TEXT], got[LODE_DIGEST_TEXT];
    expected(want);
    for (int64_t units = 1; units <= UNITS; units++) {
        copy_t file, marks;
        interrupt(units, &file, &marks);
        /* HDF5's own bytes at the start, and what came after the datasets, are rubbish. */
        memset(file.data, 0x5a, 512);
        put_back(partial, file.data, file.size);
        const int descriptor = open(partial, O_WRONLY | O_APPEND);
        memset(file.data, 0x5a, file.size);
        assert_int_equal(write(descriptor, file.data, file.size), file.size);
        close(descriptor);
        put_back(journal, marks.data, marks.size);
        put_back(skeleton, "rubbish", 7);
        lode_store_t *store = begin(ours, false);
        assert_int_equal(lode_store_done_count(store, 0), units);
        copy_t again = keep(partial), marks_again = keep(journal);
        lode_store_abandon(&store);
        put_back(partial, again.data, again.size); /* killed once more, at once */
        put_back(journal, marks_again.data, marks_again.size);
        store = begin(ours, false);
        assert_int_equal(lode_store_done_count(store, 0), units);
        work(store, UNITS);
        finish(store, got);
        assert_string_equal(got, want);
        free(file.data);
        free(marks.data);
        free(again.data);
        free(marks_again.data);
    }
}

/* Whether the partial file holds what a unit that counts as done must hold. */
static void check_rows(lode_store_t *store) {
    LODE_ASSERT_OK(lode_store_synchronise(store));
    for (int64_t u = 0; u < UNITS; u++) {
        const int64_t offset[] = {u, 0}, count[] = {1, WIDTH};
        double row[WIDTH];
        if (!lode_store_done(store, 0, u, 1))
            continue;
        LODE_ASSERT_OK(lode_store_read(store, "group/rows", offset, count, LODE_TYPE_F64, row));
        for (int64_t j = 0; j < WIDTH; j++)
            assert_true(row[j] == 1 / (double)(1 + u * WIDTH + j));
    }
}

static void test_cut_journals(void **state) {
    (void)state;
    copy_t file, marks;
    int64_t before = 0;
    interrupt(4, &file, &marks);
    const size_t text = marks.size - UNITS - EXTRA;
    for (size_t size = 0; size <= marks.size; size += size < text && text - size > 7 ? 7 : 1) {
        put_back(partial, file.data, file.size);
        put_back(journal, marks.data, size);
        lode_store_t *store = begin(ours, false);
        const int64_t done = lode_store_done_count(store, 0);
        assert_true(done >= before && done <= 4);
        before = done;
        check_rows(store);
        lode_store_abandon(&store);
        lode_store_discard(path);
    }
    assert_int_equal(before, 4);
    free(file.data);
    free(marks.data);
}

static void test_cut_files(void **state) {
    (void)state;
    char want[LODE_DIGEST_TEXT], got[LODE_DIGEST_TEXT];
    copy_t file, marks;
    expected(want);
    interrupt(4, &file, &marks);
    int taken = 0;
    for (size_t part = 0; part <= 16; part++) {
        put_back(partial, file.data, file.size * part / 16);
        put_back(journal, marks.data, marks.size);
        lode_store_t *store = begin(ours, false);
        taken += lode_store_done_count(store, 0) > 0;
        check_rows(store);
        work(store, UNITS);
        finish(store, got);
        assert_string_equal(got, want);
    }
    assert_true(taken >= 1 && taken < 16);
    unlink(partial);
    put_back(journal, marks.data, marks.size); /* alone */
    lode_store_t *store = begin(ours, false);
    assert_int_equal(lode_store_done_count(store, 0), 0);
    lode_store_abandon(&store);
    free(file.data);
    free(marks.data);
}

static void test_others(void **state) {
    (void)state;
    char want[LODE_DIGEST_TEXT], got[LODE_DIGEST_TEXT];
    expected(want);
    for (int kind = 0; kind < 4; kind++) {
        lode_store_t *store = begin(kind == 0 ? theirs : ours, true);
        work(store, 3);
        lode_store_abandon(&store);
        assert_true(lode_file_exists(journal));
        if (kind == 1)
            shape[1]--;
        if (kind == 3) { /* a finished file's second name */
            char second[300];
            snprintf(second, sizeof second, "%s.second", path);
            assert_int_equal(link(partial, second), 0);
        }
        store = begin(ours, kind == 2);
        assert_int_equal(lode_store_done_count(store, 0), 0);
        if (kind == 1) {
            lode_store_abandon(&store);
            shape[1]++;
            assert_false(lode_file_exists(journal));
            continue;
        }
        work(store, UNITS);
        finish(store, got);
        assert_string_equal(got, want);
    }
}

/* Marks of data that were only handed to the system count on the same machine, until it restarts.
 */
static void test_restart(void **state) {
    (void)state;
    copy_t file, marks;
    interrupt(4, &file, &marks);
    char *units = marks.data + marks.size - UNITS - EXTRA;
    assert_memory_equal(units, "wwww\0", 5);
    units[1] = 's';
    units[2] = 1; /* no mark */
    for (int restarted = 0; restarted < 2; restarted++) {
        if (restarted)
            units[-64] ^= 1;
        put_back(partial, file.data, file.size);
        put_back(journal, marks.data, marks.size);
        lode_store_t *store = begin(ours, false);
        assert_int_equal(lode_store_done(store, 0, 0, 1), !restarted);
        assert_true(lode_store_done(store, 0, 1, 1));
        assert_false(lode_store_done(store, 0, 2, 1));
        assert_int_equal(lode_store_done(store, 0, 3, 1), !restarted);
        lode_store_abandon(&store);
        copy_t after = keep(journal); /* what counted once counts for good */
        assert_memory_equal(after.data + after.size - UNITS - EXTRA,
                            restarted ? "\0s\0\0\0" : "ss\0s\0", 5);
        free(after.data);
        lode_store_discard(path);
    }
    free(file.data);
    free(marks.data);
}

/* A plain store takes nothing over and leaves nothing. */
static void test_plain(void **state) {
    (void)state;
    lode_store_t *store = begin(ours, true);
    work(store, 2);
    lode_store_abandon(&store);
    assert_true(lode_file_exists(journal));
    LODE_ASSERT_OK(lode_store_create(&store, &self, path));
    assert_false(lode_file_exists(journal));
    assert_false(lode_store_done(store, 0, 0, 1));
    LODE_ASSERT_OK(lode_store_mark(store, 0, 0, 1));
    LODE_ASSERT_OK(lode_store_mark_all(store, 0, 0, true, LODE_OK));
    lode_store_abandon(&store);
    assert_false(lode_file_exists(partial));
}

/* A run that fails between creating and resuming keeps what was there. */
static void test_failed_beginning(void **state) {
    (void)state;
    lode_store_t *store = begin(ours, true);
    work(store, 2);
    lode_store_abandon(&store);
    LODE_ASSERT_OK(lode_store_create_resumable(&store, &self, path, ours, false));
    LODE_ASSERT_OK(lode_store_dataset(store, "group/rows", LODE_TYPE_F64, 2, shape, false));
    lode_store_abandon(&store);
    assert_false(lode_file_exists(skeleton));
    store = begin(ours, false);
    assert_int_equal(lode_store_done_count(store, 0), 2);
    lode_store_abandon(&store);
    lode_store_discard(path);
}

int main(void) {
    MPI_Init(NULL, NULL);
    self = lode_comm_describe(MPI_COMM_SELF);
    snprintf(path, sizeof path, "%s/stage.h5", lode_test_temporary());
    snprintf(partial, sizeof partial, "%s.partial", path);
    snprintf(journal, sizeof journal, "%s.journal", path);
    snprintf(skeleton, sizeof skeleton, "%s.new", partial);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_unit),   cmocka_unit_test(test_killed),
        cmocka_unit_test(test_cut_journals), cmocka_unit_test(test_cut_files),
        cmocka_unit_test(test_others),       cmocka_unit_test(test_restart),
        cmocka_unit_test(test_plain),        cmocka_unit_test(test_failed_beginning),
    };
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failures;
}
