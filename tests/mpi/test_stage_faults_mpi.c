/* Whole stages under faults: rank k fails at its n-th allocation, open, read, write or receive, and
 * every rank must return the same error, in time; nothing half-done may lie under a final name, no
 * file stay open; and the next run must complete what the undisturbed one did, bit for bit.
 *
 *     test_mpi_stage_faults [INJECTIONS [SEED [KIND [STAGE]]]]
 *
 * An injection is one fault in one stage. Of every stage and kind the first calls are taken, then
 * seeded ones, as many as make up about INJECTIONS (default: few, for a quick run); KIND and STAGE
 * restrict them to one.
 */
#include <dirent.h>
#include <hdf5.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "common/run.h"
#include "kernels/linear.h"
#include "lode/driver.h"
#include "store/digest.h"
#include "testing/check.h"
#include "testing/checkpoint.h"

enum {
    REPORT = LODE_STAGE_COUNT, /* what follows the stages */
    PARTS,
    SECONDS = 200 /* more than any run takes: then a rank hangs */
};

static const lode_architecture_t architecture = {.layers = 3,
                                                 .hidden = 16,
                                                 .intermediate = 24,
                                                 .heads = 2,
                                                 .kv_heads = 1,
                                                 .head_dim = 8,
                                                 .vocab = 288,
                                                 .max_positions = 32,
                                                 .norm_eps = 1e-5,
                                                 .rotary.theta = 10000,
                                                 .bos = 0,
                                                 .eos = 1};

static const char experiment[] =
    "name = \"faults\"; results = \"$LODE_FAULTS/results\"; micro_batch = 32;\n"
    "models = ( { name = \"m\"; path = \"$LODE_FAULTS/model\"; } );\n"
    "calibration = { corpus = \"$LODE_FAULTS/text\"; sequences = 5; max_length = 16;\n"
    "                keep_logits = 1; };\n"
    "classify = { core_fraction = 0.1; halo_fraction = 0.2; write_support = 4;\n"
    "             redundancy = { sequences = 3; max_length = 16; };\n"
    "             controls = { channels = 4; draws = 2; };\n"
    "             spectra = [ \"q\", \"u\", \"write\" ]; };\n"
    "superweight = { prompts = [ \"by noon\", \"I ran\" ]; ratio = 1.5; product = 0.05; limit = "
    "2;\n"
    "                experiments = [ \"prune\", \"others-tensor\", \"others-global\" ];\n"
    "                others_fraction = 0.01; others_count = 9; known = \"$LODE_FAULTS/known\";\n"
    "                stopwords = \"$LODE_FAULTS/words\"; corpus = \"$LODE_FAULTS/text\";\n"
    "                sequences = 2; max_length = 16; };\n"
    "prune = { methods = [ \"scar-prot\", \"flap\" ]; sparsity = ( 0.5 );\n"
    "          compensation = [ \"none\", \"bias\", \"least-squares\", \"sequential\" ]; };\n"
    "evaluate = { perplexity = ( { name = \"p\"; corpus = \"$LODE_FAULTS/text\"; length = 16; } "
    ");\n"
    "             tasks = ( { name = \"t\"; path = \"$LODE_FAULTS/tasks\"; } ); };\n"
    "probe = { checks = [ \"dose-response\", \"ablation\" ]; draws = 1; rates = ( 0.5 );\n"
    "          sequences = 2; max_length = 16; channels = 2; bins = 1; halo_sequences = 1;\n"
    "          halo_max_length = 8; };\n"
    "export = ( { variant = \"scar-prot@0.5\"; path = \"$LODE_FAULTS/export\"; },\n"
    "           { variant = \"scar-prot@0.5+sequential\"; path = \"$LODE_FAULTS/export2\"; } );\n"
    "audit = { folders = ( { name = \"same\"; path = \"$LODE_FAULTS/model\"; },\n"
    "                      { name = \"cut\"; path = \"$LODE_FAULTS/export\"; } ); };\n";

static const char text[] = "It was from the younger Mr. Holroyd, in his own hand\n"
                           "The letter came upon a Saturday, by the noon mail\n"
                           "and I ran with it the whole length of the quay\n"
                           "and read it standing at the window\n"
                           "Mr. Garland slit the cover with a graver\n";

static const char tasks[] =
    "{\"id\": \"0\", \"requests\": [[\"I ran\", \" with\"], [\"I ran\", \" off\"]], \"gold\": 0}\n"
    "{\"id\": \"1\", \"requests\": [[\"by the\", \" noon\"], [\"by the\", \" mail\"]], \"gold\": "
    "1}\n";

static const char words[] = "a\nthe\n";
static const char known[] = "{\"models\": [{\"name\": \"m\", \"weights\": [{\"layer\": 0, "
                            "\"row\": 1, \"channel\": 2}]}]}\n";

static lode_comm_t world;
static char folder[256], model_folder[300];
static lode_config_t *config;
static const char *doing = "starting";

/* What the parts of an undisturbed run left, on rank 0. */
static char wanted[PARTS][LODE_DIGEST_TEXT];

/* --- what lies there ------------------------------------------------------------------------ */

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The digest of all files of a folder, "" where there is none. */
static void digest_folder(char digest[LODE_DIGEST_TEXT], const char *name) {
    char path[512], *names[64];
    int count = 0;
    lode_hash_t *hash;
    digest[0] = '\0';
    snprintf(path, sizeof path, "%s/%s", folder, name);
    DIR *directory = opendir(path);
    if (!directory)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL && count < 64;)
        if (entry->d_name[0] != '.')
            names[count++] = strdup(entry->d_name);
    closedir(directory);
    qsort(names, (size_t)count, sizeof *names, by_text);
    LODE_REQUIRE(lode_hash_create(&hash) == LODE_OK);
    for (int i = 0; i < count; i++) {
        char *data;
        size_t size;
        snprintf(path, sizeof path, "%s/%s/%s", folder, name, names[i]);
        LODE_REQUIRE(lode_file_read(&data, &size, path) == LODE_OK);
        lode_hash_add_text(hash, names[i]);
        lode_hash_add(hash, data, size);
        free(data);
        free(names[i]);
    }
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
}

/* The path of a part's file under its final name. */
static void final_path(char path[512], int part) {
    if (part == REPORT)
        snprintf(path, 512, "%s/results/faults/summary.csv", folder);
    else
        snprintf(path, 512, "%s/%s.h5", model_folder, lode_stage_name((lode_stage_t)part));
}

/* What a part has left, "" where nothing. A file that is there and cannot be read fails the test.
 */
static void digest_part(char digest[LODE_DIGEST_TEXT], int part) {
    char path[512];
    digest[0] = '\0';
    final_path(path, part);
    if (!lode_file_exists(path))
        return;
    if (part == REPORT) {
        char *data;
        size_t size;
        LODE_CHECK(lode_file_read(&data, &size, path) == LODE_OK);
        snprintf(digest, LODE_DIGEST_TEXT, "%zu bytes", size);
        free(data);
        return;
    }
    LODE_CHECK(lode_store_digest(path, digest, NULL) == LODE_OK);
    if (part == LODE_STAGE_EXPORT) {
        char folders[2][LODE_DIGEST_TEXT];
        digest_folder(folders[0], "export");
        digest_folder(folders[1], "export2");
        snprintf(digest, LODE_DIGEST_TEXT, "%.15s %.15s", folders[0], folders[1]);
    }
}

static int open_files(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory))
        count++;
    if (directory)
        closedir(directory);
    return count;
}

/* Removes what the part has left under its final name; partial files stay for the next run. */
static void remove_part(int part) {
    char path[512], command[1200];
    final_path(path, part);
    if (world.rank == 0) {
        unlink(path);
        if (part == LODE_STAGE_EXPORT) {
            snprintf(command, sizeof command, "rm -rf '%s/export' '%s/export2'", folder, folder);
            LODE_CHECK(system(command) == 0);
        }
    }
    MPI_Barrier(world.comm);
}

/* --- runs ----------------------------------------------------------------------------------- */

static lode_status_t run_part(int part) {
    const lode_request_t request = {.stages = part == REPORT ? 0 : 1u << part,
                                    .report = part == REPORT};
    return lode_driver_run(&world, config, &request);
}

static const char *part_name(int part) {
    return part == REPORT ? "report" : lode_stage_name((lode_stage_t)part);
}

static bool is_wanted(int part) {
    return part == REPORT || lode_stage_wanted(config, (lode_stage_t)part);
}

/* Runs everything undisturbed and keeps its digests. */
static void run_reference(void) {
    for (int part = 0; part < PARTS; part++) {
        if (!is_wanted(part))
            continue;
        LODE_REQUIRE(run_part(part) == LODE_OK);
        if (world.rank == 0) {
            digest_part(wanted[part], part);
            LODE_REQUIRE(wanted[part][0]);
        }
    }
}

static int64_t injected, tolerated;

/* One fault in one part, and the run after it. */
static void inject(int part, lode_fault_kind_t kind, int victim, int64_t call, bool lasting) {
    static const char *const names[] = {"allocation", "open", "read", "write", "receive"};
    char fault[64], found[LODE_DIGEST_TEXT];
    static char what[160];
    snprintf(fault, sizeof fault, "%s:rank=%d:%s=%lld", names[kind], victim,
             lasting ? "from" : "call", (long long)call);
    snprintf(what, sizeof what, "%s, LODE_FAULT=%s", part_name(part), fault);
    doing = what;
    alarm(SECONDS);
    remove_part(part);
    const int before = lode_check_failures, files = open_files();
    LODE_REQUIRE(lode_fault_arm(fault, world.rank) == LODE_OK);
    const lode_status_t status = run_part(part);
    LODE_CHECK(lode_check_same(status));
    int64_t calls = lode_fault_calls(kind);
    LODE_REQUIRE(lode_fault_arm(NULL, world.rank) == LODE_OK);
    MPI_Bcast(&calls, 1, MPI_INT64_T, victim, world.comm);
    LODE_CHECK(open_files() == files);
    LODE_CHECK(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) == 0);
    if (world.rank == 0) {
        digest_part(found, part);
        LODE_CHECK(!found[0] || part == LODE_STAGE_EXPORT || strcmp(found, wanted[part]) == 0);
    }
    MPI_Barrier(world.comm);
    LODE_CHECK(run_part(part) == LODE_OK);
    if (world.rank == 0) {
        digest_part(found, part);
        LODE_CHECK(strcmp(found, wanted[part]) == 0);
    }
    injected += calls >= call;
    if (calls >= call && status == LODE_OK) {
        tolerated++;
        if (world.rank == 0 && getenv("LODE_FAULTS_VERBOSE"))
            printf("tolerated: %s\n", what);
    }
    if (calls >= call && status != LODE_OK && world.rank == 0 && getenv("LODE_FAULTS_VERBOSE"))
        printf("%s: %d %s\n", what, (int)status, lode_error_message());
    if (lode_check_failures > before)
        fprintf(stderr, "  rank %d, in: %s\n", world.rank, what);
    alarm(0);
}

/* Calls of a kind on a rank in an undisturbed run of a part. */
static void count_calls(int part, int64_t *calls) {
    remove_part(part);
    LODE_REQUIRE(lode_fault_arm("count", world.rank) == LODE_OK);
    LODE_REQUIRE(run_part(part) == LODE_OK);
    int64_t own[LODE_FAULT_KILL];
    for (int kind = 0; kind < LODE_FAULT_KILL; kind++)
        own[kind] = lode_fault_calls((lode_fault_kind_t)kind);
    LODE_REQUIRE(lode_fault_arm(NULL, world.rank) == LODE_OK);
    MPI_Allgather(own, LODE_FAULT_KILL, MPI_INT64_T, calls, LODE_FAULT_KILL, MPI_INT64_T,
                  world.comm);
}

/* The faults of one part: `budget` calls in all, spread evenly over kinds and ranks. */
static void inject_part(int part, int64_t budget, int64_t seed, const char *only) {
    static const char *const names[] = {"allocation", "open", "read", "write", "receive"};
    int64_t *calls = malloc((size_t)world.size * LODE_FAULT_KILL * sizeof *calls);
    LODE_REQUIRE(calls);
    count_calls(part, calls);
    for (int victim = 0; victim < world.size; victim++)
        for (int kind = 0; kind < LODE_FAULT_KILL; kind++) {
            const int64_t total = calls[victim * LODE_FAULT_KILL + kind];
            const uint64_t key = lode_random_key(seed, names[kind], part, victim);
            int64_t some = budget / (world.size * (*only ? 1 : LODE_FAULT_KILL));
            if (some == 0) /* a seeded share of them gets one */
                some = lode_random_below(key, 1u << 20, 97) <
                       97 * budget / (world.size * LODE_FAULT_KILL);
            if (*only && strcmp(only, names[kind]) != 0)
                continue;
            if (world.rank == 0 && getenv("LODE_FAULTS_VERBOSE"))
                printf("%s: %s: %lld calls on rank %d\n", part_name(part), names[kind],
                       (long long)total, victim);
            if (total <= some)
                for (int64_t call = 1; call <= total; call++)
                    inject(part, (lode_fault_kind_t)kind, victim, call, false);
            else
                for (int64_t i = 0; i < some; i++)
                    inject(part, (lode_fault_kind_t)kind, victim,
                           1 + lode_random_below(key, (uint64_t)i, total),
                           lode_random_uniform(key, (uint64_t)(1000000 + i)) < 0.3);
        }
    free(calls);
}

/* --- damage --------------------------------------------------------------------------------- */

/* Flips a bit of a finished file, on rank 0. */
static void flip(const char *path, uint64_t key, uint64_t draw) {
    FILE *file = fopen(path, "r+b");
    LODE_REQUIRE(file && fseek(file, 0, SEEK_END) == 0);
    const long at = lode_random_below(key, draw, ftell(file));
    LODE_REQUIRE(fseek(file, at, SEEK_SET) == 0);
    const int byte = fgetc(file);
    LODE_REQUIRE(fseek(file, at, SEEK_SET) == 0 && fputc(byte ^ 16, file) != EOF);
    LODE_REQUIRE(fclose(file) == 0);
}

/* A file that has changed is an error of whatever reads it, and computed anew once it is gone. */
static void damage(int part, int reader, uint64_t draw, int64_t seed) {
    char path[512], found[LODE_DIGEST_TEXT];
    final_path(path, part);
    remove_part(reader);
    if (world.rank == 0)
        flip(path, lode_random_key(seed, "damage", part, 0), draw);
    MPI_Barrier(world.comm);
    const lode_status_t status = run_part(reader);
    LODE_CHECK(lode_check_same(status));
    /* The report reads some of a file only. */
    LODE_CHECK(status == LODE_ERR_FORMAT || (status == LODE_OK && reader == REPORT));
    LODE_CHECK(status == LODE_OK || strstr(lode_error_message(), path));
    remove_part(part);
    LODE_CHECK(run_part(part) == LODE_OK);
    LODE_CHECK(run_part(reader) == LODE_OK);
    if (world.rank == 0) {
        digest_part(found, part);
        LODE_CHECK(strcmp(found, wanted[part]) == 0);
        digest_part(found, reader);
        LODE_CHECK(strcmp(found, wanted[reader]) == 0);
    }
}

static void test_damage(int64_t each, int64_t seed) {
    static const int readers[][2] = {{LODE_STAGE_TOKENIZE, LODE_STAGE_CALIBRATE},
                                     {LODE_STAGE_CALIBRATE, LODE_STAGE_PRUNE},
                                     {LODE_STAGE_ACCUMULATE, LODE_STAGE_CLASSIFY},
                                     {LODE_STAGE_MOMENTS, LODE_STAGE_COMPENSATE},
                                     {LODE_STAGE_CLASSIFY, LODE_STAGE_PRUNE},
                                     {LODE_STAGE_PRUNE, LODE_STAGE_EVALUATE},
                                     {LODE_STAGE_COMPENSATE, LODE_STAGE_EXPORT},
                                     {LODE_STAGE_SPECTRA, REPORT},
                                     {LODE_STAGE_EVALUATE, REPORT}};
    for (int64_t i = 0; i < each; i++)
        for (size_t r = 0; r < sizeof readers / sizeof *readers; r++)
            damage(readers[r][0], readers[r][1], (uint64_t)i, seed);
}

/* --- setting -------------------------------------------------------------------------------- */

/* A rank that waits for ever is the failure that this test is about. */
static void on_alarm(int signal) {
    (void)signal;
    static const char message[] = "a rank hangs in: ";
    if (write(2, message, sizeof message - 1) > 0 && write(2, doing, strlen(doing)) > 0 &&
        write(2, "\n", 1) > 0)
        _exit(1);
    _exit(1);
}

static void make_inputs(void) {
    char path[300], *tokenizer;
    size_t size;
    snprintf(path, sizeof path, "%s/model", folder);
    LODE_REQUIRE(lode_directory_create(path) == LODE_OK);
    LODE_REQUIRE(lode_test_write_checkpoint(path, &architecture, LODE_DTYPE_F32, 2, 3) == LODE_OK);
    LODE_REQUIRE(lode_file_read(&tokenizer, &size, "tests/golden/families/tokenizer.json") ==
                 LODE_OK);
    LODE_REQUIRE(lode_test_write_text(path, "tokenizer.json", tokenizer) == LODE_OK);
    LODE_REQUIRE(lode_test_write_text(folder, "experiment.cfg", experiment) == LODE_OK);
    LODE_REQUIRE(lode_test_write_text(folder, "text", text) == LODE_OK);
    LODE_REQUIRE(lode_test_write_text(folder, "tasks", tasks) == LODE_OK);
    LODE_REQUIRE(lode_test_write_text(folder, "words", words) == LODE_OK);
    LODE_REQUIRE(lode_test_write_text(folder, "known", known) == LODE_OK);
    free(tokenizer);
}

static void set_up(void) {
    /* In memory where that can be had: no disk is tested here, and syncing one takes long. */
    const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/lode-faults-XXXXXX", root);
    if (world.rank == 0) {
        LODE_REQUIRE(mkdtemp(folder) != NULL);
        make_inputs();
    }
    MPI_Bcast(folder, (int)sizeof folder, MPI_BYTE, 0, world.comm);
    snprintf(model_folder, sizeof model_folder, "%s/results/faults/m", folder);
    setenv("LODE_FAULTS", folder, 1);
    char path[300], replicas[32];
    snprintf(path, sizeof path, "%s/experiment.cfg", folder);
    snprintf(replicas, sizeof replicas, "replicas=%d", world.size == 2 ? 1 : 0);
    const char *overrides[] = {replicas};
    LODE_REQUIRE(lode_config_load(&config, path, overrides, 1) == LODE_OK);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    lode_comm_guard(MPI_COMM_WORLD);
    world = lode_comm_describe(MPI_COMM_WORLD);
    lode_set_threads(1);
    signal(SIGALRM, on_alarm);
    const int64_t injections = argc > 1 ? atoll(argv[1]) : 26;
    const int64_t seed = argc > 2 ? atoll(argv[2]) : 1;
    const char *kind = argc > 3 ? argv[3] : "", *stage = argc > 4 ? argv[4] : "";
    set_up();
    run_reference();
    for (int part = 0; part < PARTS; part++)
        if (is_wanted(part) && (!*stage || strcmp(stage, part_name(part)) == 0))
            inject_part(part, injections / (*stage ? 1 : PARTS), seed, kind);
    if (!*stage && !*kind)
        test_damage(1 + injections / 100, seed);
    if (world.rank == 0)
        printf("%lld faults in %d ranks, %lld of them did no harm\n", (long long)injected,
               world.size, (long long)tolerated);
    lode_config_destroy(&config);
    const int result = lode_check_result();
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (world.rank == 0 && system(command) != 0)
        fprintf(stderr, "%s could not be removed\n", folder);
    MPI_Finalize();
    return result;
}
