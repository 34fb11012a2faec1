/* The stage spectra over stage files made here, on a layer of several blocks: eigenvalues and
 * effective ranks against matrices and LAPACK on one rank, and what it says of inputs that do not
 * fit. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "kernels/linear.h"
#include "linalg/packed.h"
#include "linalg/spectrum.h"
#include "score/weights.h"
#include "spectra/spectra.h"
#include "testing/check.h"
#include "testing/checkpoint.h"
#include "testing/compare.h"
#include "testing/hdf5_read.h"
#include "testing/temporary.h"

void dsyev_(const char *vectors, const char *triangle, const int *n, double *a, const int *lda,
            double *w, double *work, const int *size, int *info);

/* More rows of down_proj than a Gram matrix takes at once, fewer tokens than channels. */
enum { L = 2, D = 270, M = 150, TOKENS = 70, CORE = 5, HALO = 20, DEAD = 9, CONSTANT = 30 };

static lode_comm_t world;
static char folder[256];
static const lode_architecture_t architecture = {.layers = L,
                                                 .hidden = D,
                                                 .intermediate = M,
                                                 .heads = 2,
                                                 .kv_heads = 1,
                                                 .head_dim = 20,
                                                 .vocab = 40,
                                                 .max_positions = 64,
                                                 .norm_eps = 1e-5,
                                                 .rotary.theta = 10000,
                                                 .bos = 1,
                                                 .eos = 2};

static const char experiment[] =
    "name = \"t\"; models = ( { name = \"m\"; path = \"m\"; } );\n"
    "calibration = { corpus = \"c\"; format = \"lines\"; max_length = 16; };\n"
    "classify = { write_support = 4; spectra = [ \"write\", \"u\", \"q\" ]; };\n"
    "prune = { methods = [ \"lp\" ]; };\n";

static lode_config_t *config;

/* --- what the stage reads -------------------------------------------------------------------- */

/* q or u of a token: the value of a float, with one channel that is 0 and one that never varies. */
static float value(int which, int64_t token, int64_t layer, int64_t channel) {
    const uint64_t key = lode_random_key(which, "spectra test", token, layer);
    if (channel == DEAD)
        return 0;
    if (channel == CONSTANT)
        return 0.3f;
    return (float)(1e-4 * (lode_random_uniform(key, (uint64_t)channel) - 0.2) *
                   (channel % 3 == 0 ? lode_random_uniform(key, M) : 1));
}

/* Channels of core and halo, in no order and apart from each other. */
static int32_t core_channel(int64_t layer, int64_t i) {
    return (int32_t)((77 * i + 3 + layer) % M);
}

static int32_t halo_channel(int64_t layer, int64_t i) {
    return (int32_t)((50 - 2 * i + 100 * layer) % M);
}

static void write_q(lode_store_t *store) {
    const int64_t shape[] = {TOKENS, L, M}, one[] = {1, 1, M};
    LODE_REQUIRE(lode_store_dataset(store, "/redundancy/q", LODE_TYPE_F32, 3, shape, false) ==
                 LODE_OK);
    for (int64_t t = world.rank; t < TOKENS; t += world.size)
        for (int64_t l = 0; l < L; l++) {
            float row[M];
            const int64_t offset[] = {t, l, 0};
            for (int64_t j = 0; j < M; j++)
                row[j] = value(1, t, l, j);
            LODE_CHECK(lode_store_write(store, "/redundancy/q", offset, one, row) == LODE_OK);
        }
}

static void write_classes(lode_store_t *store) {
    const int64_t core[] = {L, CORE}, halo[] = {L, HALO}, zero[] = {0, 0};
    int32_t cores[L * CORE], halos[L * HALO];
    for (int64_t l = 0; l < L; l++) {
        for (int64_t i = 0; i < CORE; i++)
            cores[l * CORE + i] = core_channel(l, i);
        for (int64_t i = 0; i < HALO; i++)
            halos[l * HALO + i] = halo_channel(l, i);
    }
    LODE_REQUIRE(lode_store_dataset(store, "/core", LODE_TYPE_I32, 2, core, true) == LODE_OK);
    LODE_REQUIRE(lode_store_dataset(store, "/halo", LODE_TYPE_I32, 2, halo, true) == LODE_OK);
    if (world.rank == 0) {
        LODE_CHECK(lode_store_write(store, "/core", zero, core, cores) == LODE_OK);
        LODE_CHECK(lode_store_write(store, "/halo", zero, halo, halos) == LODE_OK);
    }
}

static double mean_of_u(int64_t layer, int64_t channel) {
    double sum = 0;
    for (int64_t t = 0; t < TOKENS; t++)
        sum += (double)value(2, t, layer, channel);
    return sum / TOKENS;
}

static void write_means(lode_store_t *store) {
    const int64_t shape[] = {L, M}, one[] = {1, M};
    LODE_REQUIRE(lode_store_dataset(store, "/activation_mean", LODE_TYPE_F64, 2, shape, false) ==
                 LODE_OK);
    for (int64_t l = world.rank; l < L; l += world.size) {
        double row[M];
        const int64_t offset[] = {l, 0};
        for (int64_t j = 0; j < M; j++)
            row[j] = mean_of_u(l, j);
        LODE_CHECK(lode_store_write(store, "/activation_mean", offset, one, row) == LODE_OK);
    }
}

static void write_moments(lode_store_t *store) {
    const int64_t shape[] = {L, lode_packed_extent(M)}, one[] = {1, lode_packed_extent(M)};
    LODE_REQUIRE(lode_store_dataset(store, "/second_moment", LODE_TYPE_F64, 2, shape, false) ==
                 LODE_OK);
    for (int64_t l = world.rank; l < L; l += world.size) {
        double *packed, *at;
        const int64_t offset[] = {l, 0};
        float u[TOKENS][M];
        LODE_REQUIRE(LODE_NEW(&packed, one[1], "test") == LODE_OK);
        for (int64_t t = 0; t < TOKENS; t++)
            for (int64_t j = 0; j < M; j++)
                u[t][j] = value(2, t, l, j);
        at = packed;
        for (int64_t i = 0; i < M; i++)
            for (int64_t j = 0; j <= i; j++, at++) {
                for (int64_t t = 0; t < TOKENS; t++)
                    *at += (double)u[t][i] * (double)u[t][j];
                *at /= TOKENS;
            }
        LODE_CHECK(lode_store_write(store, "/second_moment", offset, one, packed) == LODE_OK);
        free(packed);
    }
}

static void write_stage(lode_run_t *run, lode_stage_t stage, void (*write)(lode_store_t *store)) {
    lode_store_t *store;
    LODE_REQUIRE(lode_run_create(&store, run, stage) == LODE_OK);
    write(store);
    LODE_REQUIRE(lode_run_finish(&store, run, stage, LODE_OK) == LODE_OK);
}

static lode_run_t make_run(void) {
    lode_run_t run = {.comm = &world,
                      .config = config,
                      .model = &config->models[0],
                      .folder = folder,
                      .architecture = architecture};
    for (int s = 0; s < LODE_STAGE_COUNT; s++)
        snprintf(run.fingerprint[s], sizeof run.fingerprint[s], "%032d", s);
    LODE_REQUIRE(lode_checkpoint_open(&run.checkpoint, folder) == LODE_OK);
    LODE_REQUIRE(lode_layout_create(&run.layout, &architecture, 16, world.size, world.rank, 0) ==
                 LODE_OK);
    return run;
}

/* --- what it should write -------------------------------------------------------------------- */

/* Rank 0's own matrices, [M, M]. */
static void make_write_gram(double *matrix, int64_t layer) {
    lode_checkpoint_t *checkpoint;
    lode_layer_weights_t weights;
    double row[M];
    LODE_REQUIRE(lode_checkpoint_open(&checkpoint, folder) == LODE_OK);
    LODE_REQUIRE(lode_checkpoint_layer(checkpoint, layer, &weights) == LODE_OK);
    for (int64_t d = 0; d < D; d++) {
        LODE_REQUIRE(lode_weights_row(row, &weights.down, d, "down") == LODE_OK);
        for (int64_t i = 0; i < M; i++)
            for (int64_t j = 0; j < M; j++)
                matrix[i * M + j] += row[i] * row[j];
    }
    lode_checkpoint_close(&checkpoint);
}

static void make_correlation(double *matrix, int which, int64_t layer) {
    double(*centred)[M], norm[M] = {0};
    LODE_REQUIRE(LODE_NEW(&centred, TOKENS, "test") == LODE_OK);
    for (int64_t j = 0; j < M; j++) {
        double sum = 0;
        for (int64_t t = 0; t < TOKENS; t++)
            sum += (double)value(which, t, layer, j);
        for (int64_t t = 0; t < TOKENS; t++) {
            centred[t][j] = (double)value(which, t, layer, j) - sum / TOKENS;
            norm[j] += centred[t][j] * centred[t][j];
        }
    }
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < M; j++) {
            for (int64_t t = 0; t < TOKENS; t++)
                matrix[i * M + j] += centred[t][i] * centred[t][j];
            const bool still = i == DEAD || i == CONSTANT || j == DEAD || j == CONSTANT;
            matrix[i * M + j] = still ? 0 : matrix[i * M + j] / sqrt(norm[i] * norm[j]);
        }
    free(centred);
}

/* Eigenvalues, descending, of the matrix on some channels, and their effective rank. */
static double rank_of(const double *matrix, const int32_t *channels, int64_t count,
                      double *values) {
    double *a, *work, rank;
    const int n = (int)count, size = 40 * M;
    int info;
    LODE_REQUIRE(LODE_NEW(&a, count * count, "test") == LODE_OK);
    LODE_REQUIRE(LODE_NEW(&work, size, "test") == LODE_OK);
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < count; j++)
            a[i * count + j] = matrix[channels[i] * M + channels[j]];
    dsyev_("N", "L", &n, a, &n, values, work, &size, &info);
    LODE_REQUIRE(info == 0);
    for (int64_t i = 0; i < count / 2; i++) {
        const double low = values[i];
        values[i] = values[count - 1 - i];
        values[count - 1 - i] = low;
    }
    double sum = 0, entropy = 0;
    for (int64_t i = 0; i < count; i++)
        sum += fmax(values[i], 0);
    for (int64_t i = 0; i < count; i++)
        if (values[i] > 0)
            entropy -= values[i] / sum * log(values[i] / sum);
    rank = exp(entropy);
    free(a);
    free(work);
    return rank;
}

static void check_close(const char *name, const double *got, const double *want, int64_t count,
                        double absolute, double relative) {
    const lode_comparison_t comparison =
        lode_compare_f64(name, got, count, want, count, absolute, relative);
    LODE_CHECK(comparison.equal);
    if (!comparison.equal)
        fprintf(stderr, "%s\n", comparison.text);
}

static void check_rank(hid_t file, const char *spectrum, const char *part, int64_t layer,
                       double want) {
    char name[96];
    lode_h5_array_t ranks;
    snprintf(name, sizeof name, "/%s/effective_rank_%s", spectrum, part);
    LODE_REQUIRE(lode_h5_read(&ranks, file, name, LODE_H5_F64) && ranks.count == L);
    check_close(name, &ranks.f64[layer], &want, 1, 0, 1e-9);
    lode_h5_free(&ranks);
}

static void check_layer(hid_t file, const char *spectrum, const double *matrix, int64_t layer) {
    int32_t all[M], core[M], halo[M], rest[M];
    int64_t core_count = 0, halo_count = 0, rest_count = 0;
    double values[M], unused[M];
    char name[96];
    lode_h5_array_t eigenvalues;
    for (int32_t j = 0; j < M; j++) {
        bool in_core = false, in_halo = false;
        for (int64_t i = 0; i < CORE; i++)
            in_core = in_core || core_channel(layer, i) == j;
        for (int64_t i = 0; i < HALO; i++)
            in_halo = in_halo || halo_channel(layer, i) == j;
        all[j] = j;
        if (in_core)
            core[core_count++] = j;
        else if (in_halo)
            halo[halo_count++] = j;
        else
            rest[rest_count++] = j;
    }
    LODE_REQUIRE(core_count == CORE && halo_count == HALO);
    check_rank(file, spectrum, "all", layer, rank_of(matrix, all, M, values));
    check_rank(file, spectrum, "core", layer, rank_of(matrix, core, core_count, unused));
    check_rank(file, spectrum, "halo", layer, rank_of(matrix, halo, halo_count, unused));
    check_rank(file, spectrum, "rest", layer, rank_of(matrix, rest, rest_count, unused));
    snprintf(name, sizeof name, "/%s/eigenvalues", spectrum);
    LODE_REQUIRE(lode_h5_read(&eigenvalues, file, name, LODE_H5_F64));
    LODE_REQUIRE(eigenvalues.extent[0] == L && eigenvalues.extent[1] == M);
    check_close(name, eigenvalues.f64 + layer * M, values, M, 1e-10 * values[0], 0);
    lode_h5_free(&eigenvalues);
}

static void check_file(void) {
    char path[512], kind[LODE_H5_NAME];
    snprintf(path, sizeof path, "%s/spectra.h5", folder);
    const hid_t file = lode_h5_open(path);
    LODE_REQUIRE(file >= 0);
    for (int64_t l = 0; l < L; l++)
        for (int which = 0; which < 3; which++) {
            static const char *const names[] = {"write", "q", "u"};
            double *matrix;
            LODE_REQUIRE(LODE_NEW(&matrix, M * M, "test") == LODE_OK);
            if (which == 0)
                make_write_gram(matrix, l);
            else
                make_correlation(matrix, which, l);
            check_layer(file, names[which], matrix, l);
            free(matrix);
        }
    LODE_CHECK(lode_h5_text(file, "/write", "kind", kind) && strcmp(kind, "gram") == 0);
    LODE_CHECK(lode_h5_text(file, "/q", "kind", kind) && strcmp(kind, "correlation") == 0);
    H5Fclose(file);
}

/* --- faults ---------------------------------------------------------------------------------- */

static bool fails(lode_status_t status, lode_status_t expected, const char *part) {
    int same[2] = {(int)status, -(int)status}, all[2];
    MPI_Allreduce(same, all, 2, MPI_INT, MPI_MAX, world.comm);
    return all[0] == -all[1] && status == expected && strstr(lode_error_message(), part);
}

static void write_damaged(lode_store_t *store) {
    write_q(store);
    LODE_REQUIRE(lode_store_synchronise(store) == LODE_OK);
    const int64_t offset[] = {40, 1, 140}, one[] = {1, 1, 1};
    const float nan = NAN;
    if (world.rank == world.size - 1)
        LODE_CHECK(lode_store_write(store, "/redundancy/q", offset, one, &nan) == LODE_OK);
}

static void test_faults(lode_run_t *run) {
    const int64_t memory = config->memory;
    config->memory = 1 << 18;
    LODE_CHECK(fails(lode_stage_spectra(run), LODE_ERR_MEMORY, "take more ranks or raise memory"));
    config->memory = memory;
    write_stage(run, LODE_STAGE_ACCUMULATE, write_damaged);
    LODE_CHECK(fails(lode_stage_spectra(run), LODE_ERR_NUMERIC, "spectra, layer 1: matrix of q"));
    write_stage(run, LODE_STAGE_MOMENTS, write_means);
    run->force = true; /* what was done with the sound moments is kept otherwise */
    LODE_CHECK(fails(lode_stage_spectra(run), LODE_ERR_INPUT, "second_moment"));
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    world = lode_comm_describe(MPI_COMM_WORLD);
    lode_test_temporary_shared(folder, sizeof folder, &world);
    if (world.rank == 0)
        LODE_REQUIRE(lode_test_write_checkpoint(folder, &architecture, LODE_DTYPE_BF16, 1, 5) ==
                     LODE_OK);
    MPI_Barrier(world.comm);
    lode_set_threads(1);
    LODE_REQUIRE(lode_config_parse(&config, experiment, strlen(experiment), "exp.cfg") == LODE_OK);
    lode_run_t run = make_run();
    write_stage(&run, LODE_STAGE_CALIBRATE, write_means);
    write_stage(&run, LODE_STAGE_ACCUMULATE, write_q);
    write_stage(&run, LODE_STAGE_MOMENTS, write_moments);
    write_stage(&run, LODE_STAGE_CLASSIFY, write_classes);
    LODE_CHECK(lode_stage_spectra(&run) == LODE_OK);
    if (world.rank == 0)
        check_file();
    MPI_Barrier(world.comm);
    test_faults(&run);
    lode_checkpoint_close(&run.checkpoint);
    lode_config_destroy(&config);
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
