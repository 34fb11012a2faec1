/* The stage train on ids made up here: what all ranks train together has the bytes of what one of
 * them trains alone, in the curves and in the folders, with replicas and without, from random
 * weights and from a checkpoint; and the same after faults, of which every rank must return the
 * same error. The whole pipeline around it is tests/stages/train.sh. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "common/folder.h"
#include "kernels/linear.h"
#include "store/digest.h"
#include "testing/check.h"
#include "testing/checkpoint.h"
#include "testing/run.h"
#include "testing/temporary.h"
#include "train/train.h"
#include "training/trainer.h"

enum { LENGTH = 12, BLOCKS = 20, VALIDATION = 5, STEPS = 6 };

static lode_comm_t world;
static char folder[LODE_TEST_PATH]; /* of the whole test; the same on all ranks */

static const lode_architecture_t plain = {.model_type = LODE_MODEL_LLAMA,
                                          .activation = LODE_ACTIVATION_SILU,
                                          .layers = 3,
                                          .hidden = 8,
                                          .intermediate = 20,
                                          .heads = 2,
                                          .kv_heads = 1,
                                          .head_dim = 4,
                                          .vocab = 31,
                                          .max_positions = 64,
                                          .norm_eps = 1e-5,
                                          .rotary.theta = 10000,
                                          .bos = 1,
                                          .eos = 2};

/* --- inputs --------------------------------------------------------------------------------- */

static void write_model(const char *name, bool tied) {
    char path[LODE_TEST_PATH];
    lode_architecture_t architecture = plain;
    architecture.tied = tied;
    lode_test_path(path, "%s/%s", folder, name);
    if (world.rank == 0) {
        LODE_REQUIRE(lode_directory_create(path) == LODE_OK);
        LODE_REQUIRE(lode_test_write_checkpoint(path, &architecture, LODE_DTYPE_F32, 1, 5) ==
                     LODE_OK);
        LODE_REQUIRE(lode_test_write_text(path, "tokenizer.json", "{}") == LODE_OK);
        LODE_REQUIRE(lode_test_write_text(path, "README.md", "a model") == LODE_OK);
    }
    MPI_Barrier(world.comm);
}

/* Opens the run of a model in the results folder `results`, on the ranks of `comm`; everything is
 * for lode_test_run_close. */
static void open_run(lode_run_t *run, const lode_comm_t *comm, const char *model,
                     const char *results, int replicas, const char *more) {
    char text[4096], source[LODE_TEST_PATH], path[LODE_TEST_PATH];
    lode_test_path(source, "%s/%s", folder, model);
    const int length =
        snprintf(text, sizeof text,
                 "name = \"t\"; models = ({ name = \"%s\"; path = \"%s\"; }); micro_batch = 24;\n"
                 "replicas = %d; calibration = { corpus = \"c\"; };\n"
                 "train = { steps = %d; corpus = \"c\"; length = %d; batch = 8; groups = 4;\n"
                 "          learning_rate = 1e-2; warmup = 2; save = 2;\n"
                 "          validation = { corpus = \"v\"; every = 3; };\n%s };\n",
                 model, source, replicas, STEPS, LENGTH, more);
    LODE_REQUIRE(length < (int)sizeof text);
    lode_test_path(path, "%s/%s", folder, results);
    lode_test_run_open(run, comm, text, source, path);
}

static void put_ids(lode_store_t *store, const lode_comm_t *comm, const char *name,
                    int64_t sequences, uint64_t key) {
    const int64_t count = sequences * LENGTH, offset = 0;
    int32_t ids[BLOCKS * LENGTH];
    for (int64_t i = 0; i < count; i++)
        ids[i] = (int32_t)lode_random_below(key, (uint64_t)(i / 2), plain.vocab);
    LODE_REQUIRE(lode_store_dataset(store, name, LODE_TYPE_I32, 1, &count, false) == LODE_OK);
    if (comm->rank == 0)
        LODE_REQUIRE(lode_store_write(store, name, &offset, &count, ids) == LODE_OK);
}

/* What tokenize would leave. */
static void write_ids(lode_run_t *run) {
    lode_store_t *store;
    LODE_REQUIRE(lode_run_create(&store, run, LODE_STAGE_TOKENIZE) == LODE_OK);
    put_ids(store, run->comm, "/train/ids", BLOCKS, lode_random_key(1, "ids", 0, 0));
    put_ids(store, run->comm, "/validation/ids", VALIDATION, lode_random_key(2, "ids", 0, 0));
    LODE_REQUIRE(lode_run_finish(&store, run, LODE_STAGE_TOKENIZE, LODE_OK) == LODE_OK);
}

/* --- results -------------------------------------------------------------------------------- */

static bool same_file(const char *a, const char *b) {
    char *one = NULL, *two = NULL;
    size_t size, other;
    const bool same = lode_file_read(&one, &size, a) == LODE_OK &&
                      lode_file_read(&two, &other, b) == LODE_OK && size == other &&
                      memcmp(one, two, size) == 0;
    free(one);
    free(two);
    return same;
}

static void check_alike(const char *want, const char *got) {
    static const char *const steps[] = {"step-000001", "step-000006"};
    static const char *const files[] = {"config.json", "model.safetensors", "lodestone.json",
                                        "tokenizer.json", "README.md"};
    char a[LODE_TEST_PATH], b[LODE_TEST_PATH], one[LODE_DIGEST_TEXT], two[LODE_DIGEST_TEXT];
    lode_test_path(a, "%s/%s/train.h5", folder, want);
    lode_test_path(b, "%s/%s/train.h5", folder, got);
    LODE_CHECK(lode_store_digest(a, one, NULL) == LODE_OK);
    LODE_CHECK(lode_store_digest(b, two, NULL) == LODE_OK);
    LODE_CHECK(strcmp(one, two) == 0);
    for (int s = 0; s < 2; s++)
        for (int f = 0; f < 5; f++) {
            lode_test_path(a, "%s/%s/%s/%s", folder, want, steps[s], files[f]);
            lode_test_path(b, "%s/%s/%s/%s", folder, got, steps[s], files[f]);
            LODE_CHECK(same_file(a, b));
        }
    lode_test_path(b, "%s/%s/train-state.h5", folder, got);
    LODE_CHECK(!lode_file_exists(b));
    lode_test_path(b, "%s/%s/step-000001.partial", folder, got);
    LODE_CHECK(!lode_file_exists(b));
}

/* The curves of a training are what they say. */
static void check_curves(const char *results, bool entropy) {
    const lode_comm_t alone = lode_comm_describe(MPI_COMM_SELF);
    char path[LODE_TEST_PATH];
    lode_store_t *store;
    double *loss, *validation, *rate, *mean;
    int64_t count, *step;
    lode_test_path(path, "%s/%s/train.h5", folder, results);
    LODE_REQUIRE(lode_store_open(&store, &alone, path) == LODE_OK);
    LODE_REQUIRE(lode_store_read_all(store, "/loss", LODE_TYPE_F64, &loss, &count) == LODE_OK);
    LODE_CHECK(count == STEPS);
    for (int64_t i = 0; i < count; i++)
        LODE_CHECK(loss[i] > 1 && loss[i] < 6);
    LODE_REQUIRE(lode_store_read_all(store, "/learning_rate", LODE_TYPE_F64, &rate, &count) ==
                 LODE_OK);
    LODE_CHECK(fabs(rate[0] - 0.5e-2) < 1e-15 && fabs(rate[1] - 1e-2) < 1e-15);
    LODE_REQUIRE(lode_store_read_all(store, "/validation/step", LODE_TYPE_I64, &step, &count) ==
                 LODE_OK);
    LODE_CHECK(count == 3 && step[0] == 0 && step[1] == 3 && step[2] == STEPS);
    LODE_REQUIRE(lode_store_read_all(store, "/validation/loss", LODE_TYPE_F64, &validation,
                                     &count) == LODE_OK);
    LODE_CHECK(fabs(validation[0] - log(plain.vocab)) < 1);
    LODE_REQUIRE(lode_store_read_all(store, "/entropy", LODE_TYPE_F64, &mean, &count) == LODE_OK);
    for (int64_t i = 0; i < count; i++)
        LODE_CHECK(entropy ? mean[i] > 0 && mean[i] < log(plain.hidden) : isnan(mean[i]));
    LODE_CHECK(!entropy || mean[STEPS - 1] < mean[0]);
    int64_t targets = 0;
    LODE_CHECK(lode_store_get_attribute_i64(store, "/", "targets", &targets) == LODE_OK);
    LODE_CHECK(targets == 8 * (LENGTH - 1));
    free(loss);
    free(rate);
    free(mean);
    free(validation);
    free(step);
    lode_store_close(&store);
}

/* What is planned for is what was written. */
static void check_size(lode_run_t *run) {
    const char *names[] = {"train.h5", "step-000001/model.safetensors",
                           "step-000006/model.safetensors"};
    lode_stage_size_t size;
    lode_layout_t layout;
    int64_t folders, bytes[3];
    for (int i = 0; i < 3; i++) {
        struct stat info;
        char path[LODE_TEST_PATH];
        lode_test_path(path, "%s/%s", run->folder, names[i]);
        LODE_REQUIRE(stat(path, &info) == 0);
        bytes[i] = info.st_size;
    }
    LODE_REQUIRE(lode_train_layout(&layout, run, BLOCKS, 1, 0) == LODE_OK);
    LODE_REQUIRE(lode_train_size(&size, &folders, run, &layout, BLOCKS) == LODE_OK);
    LODE_CHECK(llabs((long long)(size.file - bytes[0])) < 30000);
    LODE_CHECK(folders < bytes[1] + bytes[2] && folders > (bytes[1] + bytes[2]) / 2);
    LODE_CHECK(size.memory > 0 && size.scratch > 0);
}

/* --- cases ---------------------------------------------------------------------------------- */

/* Trains on one rank, then on all, and compares. */
static void check_case(const char *model, const char *name, const char *more) {
    const lode_comm_t alone = lode_comm_describe(MPI_COMM_SELF);
    char want[LODE_TEST_PATH], got[LODE_TEST_PATH];
    lode_run_t run;
    lode_test_path(want, "%s-one", name);
    if (world.rank == 0) {
        open_run(&run, &alone, model, want, 0, more);
        write_ids(&run);
        LODE_CHECK(!lode_train_present(&run));
        LODE_CHECK(lode_stage_train(&run) == LODE_OK);
        LODE_CHECK(lode_train_present(&run));
        check_size(&run);
        lode_test_run_close(&run);
        check_curves(want, strstr(more, "entropy") != NULL);
    }
    MPI_Barrier(world.comm);
    for (int replicas = 1; replicas <= 4 && replicas <= world.size; replicas *= 2) {
        lode_test_path(got, "%s-%d", name, replicas);
        open_run(&run, &world, model, got, replicas, more);
        write_ids(&run);
        LODE_CHECK(lode_stage_train(&run) == LODE_OK);
        lode_test_run_close(&run);
        if (world.rank == 0)
            check_alike(want, got);
        MPI_Barrier(world.comm);
    }
}

/* Trains with a fault, then without; whether there was one. */
static bool check_fault(const char *model, const char *want, const char *more, const char *fault) {
    lode_run_t run;
    open_run(&run, &world, model, "fault", 0, more);
    write_ids(&run);
    LODE_REQUIRE(lode_fault_arm(fault, world.rank) == LODE_OK);
    int status = (int)lode_stage_train(&run), least, most;
    LODE_REQUIRE(lode_fault_arm(NULL, world.rank) == LODE_OK);
    MPI_Allreduce(&status, &least, 1, MPI_INT, MPI_MIN, world.comm);
    MPI_Allreduce(&status, &most, 1, MPI_INT, MPI_MAX, world.comm);
    LODE_CHECK(least == most); /* LODE_OK is the least */
    if (most != LODE_OK)
        LODE_CHECK(lode_stage_train(&run) == LODE_OK);
    if (world.rank == 0) {
        check_alike(want, "fault");
        char command[LODE_TEST_PATH + 16];
        snprintf(command, sizeof command, "rm -r '%s'", run.folder);
        LODE_REQUIRE(system(command) == 0);
    }
    lode_test_run_close(&run);
    MPI_Barrier(world.comm);
    return most != LODE_OK;
}

/* Faults of every kind on one rank, early and late. */
static void check_faults(const char *model, const char *want, const char *more, int rank) {
    static const char *const kinds[] = {"allocation", "open", "read", "write", "receive"};
    for (int k = 0; k < 5; k++) {
        int failed = 0;
        for (int call = 2; call <= 128; call *= 8) {
            char fault[64];
            snprintf(fault, sizeof fault, "%s:rank=%d:call=%d", kinds[k], rank, call);
            failed += check_fault(model, want, more, fault);
        }
        LODE_CHECK(failed > 0 || k == 4); /* one rank alone receives nothing */
    }
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    world = lode_comm_describe(MPI_COMM_WORLD);
    lode_set_threads(1);
    lode_test_temporary_shared(folder, sizeof folder, &world);
    write_model("plain", false);
    write_model("tied", true);
    static const char scratch[] = "from = \"scratch\"; checkpoints = [ 1 ];";
    check_case("plain", "scratch", scratch);
    check_case("tied", "tied", scratch);
    check_case("tied", "entropy",
               "dtype = \"f32\"; checkpoints = [ 1 ]; "
               "entropy = { weight = 0.5; layers = [ 1, 2 ]; };");
    if (world.size <= 3)
        check_faults("tied", "tied-one", scratch, world.size == 2 ? 0 : world.size - 1);
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
