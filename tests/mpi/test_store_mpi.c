/* The store on several ranks: what a file says does not depend on who wrote which part of it, and
 * one rank's failure is everybody's. */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/file.h"
#include "store/digest.h"
#include "store/journal.h"
#include "store/store.h"
#include "testing/check.h"
#include "testing/temporary.h"

static lode_comm_t world;
static char folder[256];

static const char *in_folder(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

enum { A = 7, B = 6, C = 11 };
static double element(int64_t a, int64_t b, int64_t c) {
    return 1.0 / (1.0 + (double)((a * B + b) * C + c));
}

typedef enum { BY_OUTER, BY_MIDDLE, BY_INNER, BY_ELEMENT } partition_t;

static bool is_mine(partition_t partition, const lode_comm_t *comm, int64_t a, int64_t b,
                    int64_t c) {
    int64_t unit = partition == BY_OUTER    ? a
                   : partition == BY_MIDDLE ? b
                   : partition == BY_INNER  ? c
                                            : (a * B + b) * C + c;
    return unit % comm->size == comm->rank;
}

/* Writes this rank's elements, slab by slab: a run along the inner axis at a time. */
static void write_elements(lode_store_t *store, const lode_comm_t *comm, partition_t partition) {
    for (int64_t a = 0; a < A; a++)
        for (int64_t b = 0; b < B; b++)
            for (int64_t c = 0, end; c < C; c = end) {
                double run[C];
                for (end = c; end < C && is_mine(partition, comm, a, b, end); end++)
                    run[end - c] = element(a, b, end);
                int64_t offset[3] = {a, b, c}, count[3] = {1, 1, end - c};
                if (end > c)
                    LODE_CHECK(lode_store_write(store, "group/values", offset, count, run) ==
                               LODE_OK);
                else
                    end++;
            }
}

static void write_file(const lode_comm_t *comm, const char *path, partition_t partition) {
    lode_store_t *store;
    const int64_t shape[3] = {A, B, C}, ids = 100, zero = 0, half = 50;
    int32_t words[50];
    for (int i = 0; i < 50; i++)
        words[i] = i * i;
    LODE_REQUIRE(lode_store_create(&store, comm, path) == LODE_OK);
    LODE_CHECK(lode_store_dataset(store, "ids", LODE_TYPE_I32, 1, &ids, true) == LODE_OK);
    LODE_CHECK(lode_store_dataset(store, "group/values", LODE_TYPE_F64, 3, shape, true) == LODE_OK);
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "many/set-%d", i);
        LODE_CHECK(lode_store_dataset(store, name, LODE_TYPE_U8, 3, shape, false) == LODE_OK);
        LODE_CHECK(lode_store_attribute_f64(store, name, "value", i) == LODE_OK);
    }
    /* Every rank passes its own value; rank 0's counts. */
    char text[32];
    snprintf(text, sizeof text, "from %d", comm->rank);
    LODE_CHECK(lode_store_attribute_text(store, "group", "text", text) == LODE_OK);
    LODE_CHECK(lode_store_attribute_i64(store, "/", "rank", comm->rank) == LODE_OK);
    lode_provenance_t provenance = {.experiment = text, .ranks = comm->size, .host = text};
    LODE_CHECK(lode_store_provenance(store, &provenance) == LODE_OK);
    write_elements(store, comm, partition);
    if (comm->rank == comm->size - 1) /* the other half stays −1 */
        LODE_CHECK(lode_store_write(store, "ids", &zero, &half, words) == LODE_OK);
    LODE_CHECK(lode_store_synchronise(store) == LODE_OK);
    /* Everybody sees everything before the commit. */
    double got = 0;
    int64_t last[3] = {A - 1, B - 1, C - 1}, one[3] = {1, 1, 1};
    int32_t word = 0, missing = 0;
    LODE_CHECK(lode_store_read(store, "group/values", last, one, LODE_TYPE_F64, &got) == LODE_OK);
    LODE_CHECK(got == element(A - 1, B - 1, C - 1));
    LODE_CHECK(lode_store_read(store, "ids", &(int64_t){49}, one, LODE_TYPE_I32, &word) == LODE_OK);
    LODE_CHECK(lode_store_read(store, "ids", &half, one, LODE_TYPE_I32, &missing) == LODE_OK);
    LODE_CHECK(word == 49 * 49 && missing == -1);
    LODE_REQUIRE(lode_store_commit(&store) == LODE_OK);
}

static void test_partitions(void) {
    lode_comm_t alone = lode_comm_describe(MPI_COMM_SELF);
    char want[LODE_DIGEST_TEXT] = "", got[LODE_DIGEST_TEXT] = "";
    if (world.rank == 0) {
        write_file(&alone, in_folder("alone.h5"), BY_OUTER);
        LODE_CHECK(lode_store_digest(in_folder("alone.h5"), want, NULL) == LODE_OK);
    }
    LODE_CHECK(lode_comm_broadcast(&world, want, sizeof want, 0) == LODE_OK);
    for (partition_t partition = BY_OUTER; partition <= BY_ELEMENT; partition++) {
        write_file(&world, in_folder("together.h5"), partition);
        LODE_CHECK(lode_store_digest(in_folder("together.h5"), got, NULL) == LODE_OK);
        LODE_CHECK(strcmp(got, want) == 0);
        MPI_Barrier(world.comm); /* before the file is replaced */
    }
    /* The digest itself, so that it cannot change unnoticed either. */
    LODE_CHECK(strcmp(want, "d726e4fb464de9aaab462d6aa641ba58") == 0);
}

static void test_collective_read(void) {
    lode_store_t *store;
    LODE_REQUIRE(lode_store_open(&store, &world, in_folder("together.h5")) == LODE_OK);
    double *values = NULL;
    int64_t count = 0;
    char *text = NULL;
    LODE_CHECK(lode_store_read_all(store, "group/values", LODE_TYPE_F64, &values, &count) ==
               LODE_OK);
    LODE_CHECK(count == A * B * C);
    for (int64_t i = 0; i < count; i++)
        LODE_CHECK(values[i] == element(0, 0, i));
    LODE_CHECK(lode_store_get_attribute_text(store, "group", "text", &text) == LODE_OK);
    LODE_CHECK(text && strcmp(text, "from 0") == 0);
    free(text);
    free(values);
    lode_store_close(&store);
    LODE_CHECK(lode_store_open(&store, &world, in_folder("absent.h5")) == LODE_ERR_INPUT);
    LODE_CHECK(store == NULL);
}

/* Rank `victim` may suddenly write no file beyond 1 MiB, and its part of the data lies there. */
static void test_failed_write(int victim) {
    lode_store_t *store;
    const int64_t shape[2] = {world.size + 1, 1 << 18};
    LODE_REQUIRE(lode_store_create(&store, &world, in_folder("failed.h5")) == LODE_OK);
    LODE_CHECK(lode_store_dataset(store, "rows", LODE_TYPE_F64, 2, shape, true) == LODE_OK);
    double *row = calloc((size_t)shape[1], sizeof *row);
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = 1 << 20;
    if (world.rank == victim)
        setrlimit(RLIMIT_FSIZE, &limit);
    int64_t offset[2] = {world.rank + 1, 0}, count[2] = {1, shape[1]};
    lode_status_t status = lode_store_write(store, "rows", offset, count, row);
    LODE_CHECK((status == LODE_ERR_IO) == (world.rank == victim));
    status = lode_store_commit(&store);
    LODE_CHECK(status == LODE_ERR_IO);
    LODE_CHECK(lode_check_same(status));
    LODE_CHECK(strstr(lode_error_message(), "failed.h5") != NULL);
    LODE_CHECK(strstr(lode_error_message(), "\"rows\"") != NULL);
    LODE_CHECK(store == NULL);
    LODE_CHECK(!lode_file_exists(in_folder("failed.h5")));
    LODE_CHECK(!lode_file_exists(in_folder("failed.h5.partial")));
    setrlimit(RLIMIT_FSIZE, &old);
    free(row);
    MPI_Barrier(world.comm);
}

/* A rank that cannot allocate the space for a dataset, or whose folder is not there. */
static void test_failed_creation(void) {
    lode_store_t *store;
    lode_status_t status = lode_store_create(&store, &world, in_folder("no/folder.h5"));
    LODE_CHECK(status == LODE_ERR_IO);
    LODE_CHECK(lode_check_same(status));
    LODE_REQUIRE(lode_store_create(&store, &world, in_folder("large.h5")) == LODE_OK);
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = 1 << 20;
    if (world.rank == 0)
        setrlimit(RLIMIT_FSIZE, &limit);
    const int64_t large = 1 << 20;
    status = lode_store_dataset(store, "large", LODE_TYPE_F64, 1, &large, true);
    LODE_CHECK(status == LODE_ERR_IO);
    LODE_CHECK(lode_check_same(status));
    LODE_CHECK(strstr(lode_error_message(), "no space for dataset \"large\"") != NULL);
    lode_store_abandon(&store);
    LODE_CHECK(strstr(lode_error_message(), "no space for dataset \"large\"") != NULL);
    LODE_CHECK(!lode_file_exists(in_folder("large.h5.partial")));
    setrlimit(RLIMIT_FSIZE, &old);
    MPI_Barrier(world.comm);
}

/* --- going on on other ranks ------------------------------------------------------------------ */

enum { UNITS = 12, SHARED = 2 };

/* Creates the datasets of a stage, and resumes. */
static lode_store_t *begin_units(const lode_comm_t *comm) {
    static const lode_part_t parts[] = {{"own", UNITS}, {"shared", SHARED}};
    const int64_t own[] = {UNITS, C}, shared[] = {SHARED, 8};
    lode_store_t *store;
    LODE_REQUIRE(lode_store_create_resumable(&store, comm, in_folder("units.h5"), "f", false) ==
                 LODE_OK);
    LODE_REQUIRE(lode_store_dataset(store, "own", LODE_TYPE_F64, 2, own, true) == LODE_OK);
    LODE_REQUIRE(lode_store_dataset(store, "shared", LODE_TYPE_I32, 2, shared, true) == LODE_OK);
    LODE_REQUIRE(lode_store_resume(store, parts, 2) == LODE_OK);
    return store;
}

/* Does units before `end` that are not done, in turn, and shared unit `shared` together. */
static void do_units(lode_store_t *store, const lode_comm_t *comm, int64_t end, int64_t shared) {
    for (int64_t u = 0; u < end; u++) {
        double row[C];
        const int64_t offset[] = {u, 0}, count[] = {1, C};
        if (lode_store_done(store, 0, u, 1) || u % comm->size != comm->rank)
            continue;
        for (int64_t c = 0; c < C; c++)
            row[c] = element(u % A, u % B, c);
        LODE_CHECK(lode_store_write(store, "own", offset, count, row) == LODE_OK);
        LODE_CHECK(lode_store_mark(store, 0, u, 1) == LODE_OK);
    }
    for (int32_t i = comm->rank; i < 8; i += comm->size) {
        const int64_t offset[] = {shared, i}, count[] = {1, 1};
        LODE_CHECK(lode_store_write(store, "shared", offset, count, &i) == LODE_OK);
    }
    LODE_CHECK(lode_store_mark_all(store, 1, shared, shared > 0, LODE_OK) == LODE_OK);
}

/* Interrupted on all ranks, then on each smaller number, a unit further each time, and ended on
 * one: what was done is known to all ranks, and the file is that of one rank alone. */
static void test_resumption(void) {
    char digest[2][LODE_DIGEST_TEXT];
    for (int whole = 0; whole < 2; whole++) {
        int64_t end = 4;
        for (int ranks = whole ? 1 : world.size; ranks >= 1; ranks--) {
            MPI_Comm handle;
            MPI_Comm_split(world.comm, world.rank < ranks ? 0 : MPI_UNDEFINED, world.rank, &handle);
            if (handle != MPI_COMM_NULL) {
                const lode_comm_t comm = lode_comm_describe(handle);
                lode_store_t *store = begin_units(&comm);
                const bool first = whole || ranks == world.size;
                LODE_CHECK(lode_store_done_count(store, 0) == (first ? 0 : end - 1));
                LODE_CHECK(lode_store_done(store, 1, 0, 1) == !first);
                LODE_CHECK(lode_store_mark_all(store, 1, 0, false,
                                               comm.rank + 1 < comm.size || comm.size == 1
                                                   ? LODE_OK
                                                   : lode_fail(LODE_ERR_IO, "one failed")) ==
                           (comm.size == 1 ? LODE_OK : LODE_ERR_IO));
                do_units(store, &comm, ranks == 1 ? UNITS : end, 0);
                if (ranks == 1) {
                    do_units(store, &comm, UNITS, 1);
                    LODE_CHECK(lode_store_commit(&store) == LODE_OK);
                } else {
                    lode_store_abandon(&store);
                }
                MPI_Comm_free(&handle);
            }
            end++;
            MPI_Barrier(world.comm);
        }
        if (world.rank == 0)
            LODE_CHECK(lode_store_digest(in_folder("units.h5"), digest[whole], NULL) == LODE_OK);
        LODE_CHECK(!lode_file_exists(in_folder("units.h5.journal")));
        MPI_Barrier(world.comm);
    }
    LODE_CHECK(world.rank != 0 || strcmp(digest[0], digest[1]) == 0);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    signal(SIGXFSZ, SIG_IGN);
    world = lode_comm_describe(MPI_COMM_WORLD);
    lode_test_temporary_shared(folder, sizeof folder, &world);
    test_partitions();
    test_collective_read();
    test_failed_write(0);
    test_failed_write(world.size - 1);
    test_failed_creation();
    test_resumption();
    int result = lode_check_result();
    MPI_Finalize();
    return result;
}
