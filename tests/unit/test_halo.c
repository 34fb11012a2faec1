/* score/weights, score/halo and score/redundancy: dtypes, edges, redundancy against numpy and naive
 * loops. */
#include "testing/cmocka_all.h"

#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "score/halo.h"
#include "score/redundancy.h"
#include "score/weights.h"
#include "testing/compare.h"

static void test_rows_of_every_dtype(void **state) {
    (void)state;
    /* One byte in front: nothing is aligned. */
    unsigned char bytes[1 + 16];
    double row[4];
    const float single[] = {1.5f, -2, 1e-45f, 3e38f};
    const double want32[] = {1.5, -2, (double)1e-45f, (double)3e38f};
    memcpy(bytes + 1, single, sizeof single);
    lode_tensor_t tensor = lode_tensor_matrix(bytes + 1, LODE_DTYPE_F32, 2, 2);
    LODE_ASSERT_OK(lode_weights_row(row, &tensor, 0, "w"));
    LODE_ASSERT_OK(lode_weights_row(row + 2, &tensor, 1, "w"));
    LODE_ASSERT_CLOSE(lode_compare_f64("F32", row, 4, want32, 4, 0, 0));

    const uint16_t half[] = {0x3c01, 0xc000, 0x8001, 0x7bff}; /* the third is subnormal */
    const double want16[] = {1 + 0x1p-10, -2, -0x1p-24, 65504};
    memcpy(bytes + 1, half, sizeof half);
    tensor = lode_tensor_matrix(bytes + 1, LODE_DTYPE_F16, 1, 4);
    LODE_ASSERT_OK(lode_weights_row(row, &tensor, 0, "w"));
    LODE_ASSERT_CLOSE(lode_compare_f64("F16", row, 4, want16, 4, 0, 0));
    const uint16_t least[] = {0x0400, 0x83ff, 0x0000, 0x3555};
    const double want_least[] = {0x1p-14, -0x3ffp-24, 0, 0x555p-12};
    memcpy(bytes + 1, least, sizeof least);
    LODE_ASSERT_OK(lode_weights_row(row, &tensor, 0, "w"));
    LODE_ASSERT_CLOSE(lode_compare_f64("F16", row, 4, want_least, 4, 0, 0));

    const uint16_t brain[] = {0x3f80, 0xc000, 0x0001, 0x3f81};
    const double want_brain[] = {1, -2, 0x1p-133, 1 + 0x1p-7};
    memcpy(bytes + 1, brain, sizeof brain);
    tensor = lode_tensor_matrix(bytes + 1, LODE_DTYPE_BF16, 1, 4);
    LODE_ASSERT_OK(lode_weights_row(row, &tensor, 0, "w"));
    LODE_ASSERT_CLOSE(lode_compare_f64("BF16", row, 4, want_brain, 4, 0, 0));
}

/* A transposed view inside longer lines, taller than a panel, read in any order. */
static void test_transposed_views(void **state) {
    (void)state;
    enum { ROWS = 37, COLUMNS = 5, PITCH = 41 };
    float stored[COLUMNS * PITCH], dense[ROWS * COLUMNS];
    for (int j = 0; j < COLUMNS; j++)
        for (int i = 0; i < PITCH; i++)
            stored[j * PITCH + i] = (float)(100 * i + j);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++)
            dense[i * COLUMNS + j] = (float)(100 * (i + 2) + j);
    const lode_tensor_t view = {.data = stored + 2,
                                .dtype = LODE_DTYPE_F32,
                                .rank = 2,
                                .shape = {ROWS, COLUMNS},
                                .pitch = PITCH,
                                .transposed = true};
    const lode_tensor_t plain = lode_tensor_matrix(dense, LODE_DTYPE_F32, ROWS, COLUMNS);
    const int64_t order[] = {0, 1, 16, 15, 36, 35, 20, 3};
    lode_weights_reader_t reader;
    LODE_ASSERT_OK(lode_weights_open(&reader, &view, ROWS, COLUMNS, "w"));
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        const double *row;
        LODE_ASSERT_OK(lode_weights_at(&reader, order[i], &row));
        for (int j = 0; j < COLUMNS; j++)
            assert_true(row[j] == (double)(100 * (order[i] + 2) + j));
    }
    lode_weights_close(&reader);
    LODE_ASSERT_FAILS(lode_weights_open(&reader, &view, COLUMNS, ROWS, "w"), LODE_ERR_SHAPE,
                      "w is [37, 5], [5, 37]");
    lode_weights_close(&reader);
    double got[ROWS], want[ROWS];
    LODE_ASSERT_OK(lode_weights_row_norms(got, &view, "w"));
    LODE_ASSERT_OK(lode_weights_row_norms(want, &plain, "w"));
    assert_memory_equal(got, want, sizeof got);
    LODE_ASSERT_OK(lode_weights_column_norms(got, &view, "w"));
    LODE_ASSERT_OK(lode_weights_column_norms(want, &plain, "w"));
    assert_memory_equal(got, want, COLUMNS * sizeof *got);
    stored[3 * PITCH + 2 + 20] = NAN;
    LODE_ASSERT_FAILS(lode_weights_row_norms(got, &view, "w"), LODE_ERR_NUMERIC, "w[20, 3]");
}

static void test_bad_weights(void **state) {
    (void)state;
    double row[2];
    const uint16_t half[] = {0x3c00, 0x7c00}, brain[] = {0x7fc0, 0x3f80};
    const float single[] = {1, 2, NAN, 4};
    lode_tensor_t tensor = lode_tensor_matrix(half, LODE_DTYPE_F16, 1, 2);
    LODE_ASSERT_FAILS(lode_weights_row(row, &tensor, 0, "up_proj"), LODE_ERR_NUMERIC,
                      "up_proj[0, 1] is inf");
    tensor = lode_tensor_matrix(brain, LODE_DTYPE_BF16, 1, 2);
    LODE_ASSERT_FAILS(lode_weights_row(row, &tensor, 0, "up_proj"), LODE_ERR_NUMERIC,
                      "up_proj[0, 0] is");
    tensor = lode_tensor_matrix(single, LODE_DTYPE_F32, 2, 2);
    LODE_ASSERT_FAILS(lode_weights_row(row, &tensor, 1, "up_proj"), LODE_ERR_NUMERIC,
                      "up_proj[1, 0] is");
    const int32_t zero = 0;
    int32_t support;
    LODE_ASSERT_FAILS(lode_halo_support(&support, 1, &tensor, &zero, 1), LODE_ERR_NUMERIC,
                      "down_proj[1, 0]");
    LODE_ASSERT_FAILS(lode_halo_connectivity(row, &tensor, &zero, 1), LODE_ERR_NUMERIC,
                      "down_proj[1, 0]");
    LODE_ASSERT_FAILS(lode_weights_check(&tensor, 2, 3, "up_proj"), LODE_ERR_SHAPE,
                      "up_proj is [2, 2], [2, 3]");
    tensor.rank = 1;
    LODE_ASSERT_FAILS(lode_weights_check(&tensor, 2, 2, "up_proj"), LODE_ERR_SHAPE, "dimensions");
    tensor.data = NULL;
    LODE_ASSERT_FAILS(lode_weights_check(&tensor, 2, 2, "up_proj"), LODE_ERR_SHAPE, "absent");
}

static const float down_data[] = {                 /* [hidden 4, channels 5] */
                                  1, -2, 0, 0, 1,  /**/
                                  3, 0,  0, 1, 1,  /**/
                                  0, 3,  0, 1, -1, /**/
                                  0, 0,  0, 2, 1};

static void test_support_and_connectivity(void **state) {
    (void)state;
    lode_tensor_t down = lode_tensor_matrix(down_data, LODE_DTYPE_F32, 4, 5);
    const int32_t core[] = {0, 1}; /* writes 3, 3, 3, 0: the tie takes the lower rows */
    int32_t support[3];
    LODE_ASSERT_OK(lode_halo_support(support, 2, &down, core, 2));
    const int32_t want_support[] = {0, 1};
    LODE_ASSERT_CLOSE(lode_compare_i32("support", support, 2, want_support, 2));
    double connectivity[5];
    LODE_ASSERT_OK(lode_halo_connectivity(connectivity, &down, support, 2));
    const double want[] = {1, 0.4, 0, 0.25, 0.5}; /* the third column is zero */
    LODE_ASSERT_CLOSE(lode_compare_f64("connectivity", connectivity, 5, want, 5, 0, 1e-15));
    LODE_ASSERT_FAILS(lode_halo_support(support, 4, &down, core, 2), LODE_ERR_CONFIG,
                      "classify.write_support is 4");
    LODE_ASSERT_FAILS(lode_halo_support(support, 0, &down, core, 2), LODE_ERR_CONFIG,
                      "classify.write_support is 0");
}

static void test_selection(void **state) {
    (void)state;
    assert_int_equal(lode_halo_size(0.10, 14336, 143), 1419);
    assert_int_equal(lode_halo_size(0.10, 180, 10), 17); /* floor of the double product */
    assert_int_equal(lode_halo_size(0.29, 105, 5), 28);
    assert_int_equal(lode_halo_size(0.10, 5, 1), 1);
    assert_int_equal(lode_halo_size(1.0, 5, 1), 4);
    assert_int_equal(lode_halo_size(0.10, 3, 3), 0);
    const double connectivity[] = {0.5, 0.9, 0.5, 0.1, 0.9, 1};
    const int32_t core[] = {5, 1}, want[] = {4, 0, 2, 3};
    int32_t halo[4];
    LODE_ASSERT_OK(lode_halo_select(halo, 4, connectivity, 6, core, 2));
    LODE_ASSERT_CLOSE(lode_compare_i32("halo", halo, 4, want, 4));
    LODE_ASSERT_OK(lode_halo_select(halo, 2, connectivity, 6, core, 2));
    LODE_ASSERT_CLOSE(lode_compare_i32("halo", halo, 2, want, 2));
    const double bad[] = {1, NAN};
    LODE_ASSERT_FAILS(lode_halo_select(halo, 1, bad, 2, core, 0), LODE_ERR_NUMERIC,
                      "connectivity of channel 1");
}

static void test_protection(void **state) {
    (void)state;
    const int32_t halo[] = {4, 0, 2};
    const double redundancy[] = {0.3, 0.1,
                                 0.3}; /* ranks 1/2, 0, 1: the tie keeps the halo's order */
    double protection[6];
    LODE_ASSERT_OK(lode_halo_protection(protection, 6, halo, redundancy, 3, 0.2, 8));
    const double want[] = {1, 1, 0.2, 1, 0.2 + 0.8 * (1 - 0x1p-8), 1};
    LODE_ASSERT_CLOSE(lode_compare_f64("protection", protection, 6, want, 6, 0, 1e-15));
    const double all_one[] = {1, 1, 1, 1, 1, 1};
    LODE_ASSERT_OK(lode_halo_protection(protection, 6, halo, redundancy, 1, 0.2, 8));
    LODE_ASSERT_CLOSE(lode_compare_f64("one halo channel", protection, 6, all_one, 6, 0, 0));
    LODE_ASSERT_OK(lode_halo_protection(protection, 6, halo, redundancy, 0, 0.2, 8));
    LODE_ASSERT_CLOSE(lode_compare_f64("no halo", protection, 6, all_one, 6, 0, 0));
    const double bad[] = {NAN, 1};
    LODE_ASSERT_FAILS(lode_halo_protection(protection, 6, halo, bad, 1, 0.2, 8), LODE_ERR_NUMERIC,
                      "redundancy");
    LODE_ASSERT_FAILS(lode_halo_protection(protection, 6, halo, bad, 2, 0.2, 8), LODE_ERR_NUMERIC,
                      "redundancy");
}

static void read_dataset(hid_t file, const char *name, hid_t type, void *out) {
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    assert_true(dataset >= 0);
    assert_true(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0);
    H5Dclose(dataset);
}

static void test_redundancy_against_numpy(void **state) {
    (void)state;
    enum { TOKENS = 96, LAYERS = 2, M = 24, K = 4, H = 9 };
    float q[TOKENS * LAYERS * M];
    int32_t core[K], halo[H];
    double want[H], got[H];
    hid_t file = H5Fopen("tests/golden/redundancy.h5", H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    read_dataset(file, "q", H5T_NATIVE_FLOAT, q);
    read_dataset(file, "core", H5T_NATIVE_INT32, core);
    read_dataset(file, "halo", H5T_NATIVE_INT32, halo);
    for (int positive = 0; positive < 2; positive++)
        for (int64_t top_k = 1; top_k <= 5; top_k += 2) { /* 5 is more than the core has */
            char name[64];
            snprintf(name, sizeof name, "redundancy/%s/%d", positive ? "positive" : "both",
                     (int)top_k);
            read_dataset(file, name, H5T_NATIVE_DOUBLE, want);
            lode_redundancy_t options = {.top_k = top_k, .positive_only = positive};
            LODE_ASSERT_OK(lode_redundancy_to_core(got, (lode_q_t){q + M, TOKENS, LAYERS * M, M},
                                                   core, K, halo, H, options));
            LODE_ASSERT_CLOSE(lode_compare_f64(name, got, H, want, H, 1e-14, 1e-11));
        }
    H5Fclose(file);
}

static double naive_correlation(const float *q, int64_t tokens, int64_t m, int64_t a, int64_t b) {
    double ma = 0, mb = 0, aa = 0, bb = 0, ab = 0;
    for (int64_t t = 0; t < tokens; t++) {
        ma += (double)q[t * m + a] / (double)tokens;
        mb += (double)q[t * m + b] / (double)tokens;
    }
    for (int64_t t = 0; t < tokens; t++) {
        double x = (double)q[t * m + a] - ma, y = (double)q[t * m + b] - mb;
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    return ab / sqrt(aa * bb);
}

/* More halo channels than one block holds, and top_k = 1, so that a maximum is all it takes. */
static void test_redundancy_against_loops(void **state) {
    (void)state;
    enum { TOKENS = 37, M = 320, K = 7, H = 300 };
    static float q[TOKENS * M];
    int32_t core[K], halo[H];
    double want[H], got[H];
    for (int64_t i = 0; i < TOKENS * M; i++)
        q[i] = (float)(1e-9 * (lode_random_uniform(5, (uint64_t)i) +
                               lode_random_uniform(6, (uint64_t)(i / M))));
    for (int32_t s = 0; s < K; s++)
        core[s] = 2 * s + 1;
    for (int32_t j = 0; j < H; j++)
        halo[j] = M - 1 - j;
    for (int j = 0; j < H; j++) {
        double largest = 0;
        for (int s = 0; s < K; s++)
            largest = fmax(largest, naive_correlation(q, TOKENS, M, halo[j], core[s]));
        want[j] = -0.5 * log(1 - largest * largest);
    }
    lode_redundancy_t options = {.top_k = 1, .positive_only = true};
    LODE_ASSERT_OK(
        lode_redundancy_to_core(got, (lode_q_t){q, TOKENS, M, M}, core, K, halo, H, options));
    LODE_ASSERT_CLOSE(lode_compare_f64("redundancy", got, H, want, H, 1e-13, 1e-10));
}

static void test_redundancy_edges(void **state) {
    (void)state;
    float q[] = {1, 2, 3, NAN, 4, 5}; /* [tokens 2, channels 3] */
    const int32_t core[] = {1}, halo[] = {2, 0};
    double got[2];
    lode_redundancy_t options = {.top_k = 5, .positive_only = true};
    LODE_ASSERT_FAILS(
        lode_redundancy_to_core(got, (lode_q_t){q, 2, 3, 3}, core, 1, halo, 2, options),
        LODE_ERR_NUMERIC, "q of channel 0 at token 1");
    LODE_ASSERT_OK(lode_redundancy_to_core(got, (lode_q_t){q, 2, 3, 3}, core, 1, halo, 1, options));
    const double clamped = -0.5 * log(1 - 0.9999 * 0.9999), zero = 0;
    LODE_ASSERT_CLOSE(lode_compare_f64("two tokens", got, 1, &clamped, 1, 0, 1e-11));
    LODE_ASSERT_OK(lode_redundancy_to_core(got, (lode_q_t){q, 1, 3, 3}, core, 1, halo, 1, options));
    LODE_ASSERT_CLOSE(lode_compare_f64("one token", got, 1, &zero, 1, 0, 0));
    LODE_ASSERT_OK(lode_redundancy_to_core(got, (lode_q_t){q, 1, 3, 3}, core, 1, halo, 0, options));
}

/* The reference program's form: its constant, and what single precision makes of small r². */
static void test_nodelens_form(void **state) {
    (void)state;
    const float q[] = {1, -1, 1, /**/ -1, 1, 1, /**/ 1, -1, -1, /**/ -1, 1, -1}; /* [4, 3] */
    const int32_t core[] = {0}, others[] = {1, 2};
    double got[2];
    float scaled[12];
    lode_redundancy_t options = {
        .top_k = 1, .positive_only = false, .correlation = LODE_CORRELATION_NODELENS};
    /* r = −1e-4/√(1e-8 + 1e-8) where every variance is 1e-4. */
    for (int i = 0; i < 12; i++)
        scaled[i] = 1e-2f * q[i];
    LODE_ASSERT_OK(
        lode_redundancy_to_core(got, (lode_q_t){scaled, 4, 3, 3}, core, 1, others, 2, options));
    const double half[] = {-0.5 * log(0.5), 0};
    LODE_ASSERT_CLOSE(lode_compare_f64("equal parts", got, 2, half, 2, 0, 1e-6));
    options.positive_only = true;
    LODE_ASSERT_OK(
        lode_redundancy_to_core(got, (lode_q_t){scaled, 4, 3, 3}, core, 1, others, 1, options));
    const double zero = 0;
    LODE_ASSERT_CLOSE(lode_compare_f64("negative", got, 1, &zero, 1, 0, 0));
    options.positive_only = false;
    /* Variances of 1e-10: r = −1e-6, and 1 − r² is 1 in single precision; Pearson's stays −1. */
    for (int i = 0; i < 12; i++)
        scaled[i] = 1e-5f * q[i];
    LODE_ASSERT_OK(
        lode_redundancy_to_core(got, (lode_q_t){scaled, 4, 3, 3}, core, 1, others, 1, options));
    LODE_ASSERT_CLOSE(lode_compare_f64("swamped", got, 1, &zero, 1, 0, 0));
    assert_false(signbit(got[0]));
    options.correlation = LODE_CORRELATION_SCALE_FREE;
    LODE_ASSERT_OK(
        lode_redundancy_to_core(got, (lode_q_t){scaled, 4, 3, 3}, core, 1, others, 1, options));
    const double clamped = -0.5 * log(1 - 0.9999 * 0.9999);
    LODE_ASSERT_CLOSE(lode_compare_f64("scale-free", got, 1, &clamped, 1, 0, 1e-11));
}

/* Pairs are what one channel is to a core of one, whatever the blocks, and 0 with itself. */
static void test_pairs(void **state) {
    (void)state;
    enum { TOKENS = 23, M = 160, A = 150, B = 20 };
    static float q[TOKENS * M];
    static double pairs[A * B], one[A];
    int32_t a[A], b[B];
    for (int64_t i = 0; i < TOKENS * M; i++)
        q[i] = (float)lode_random_uniform(5, (uint64_t)i) +
               (float)lode_random_uniform(6, (uint64_t)(i / M));
    for (int32_t i = 0; i < A; i++)
        a[i] = M - 1 - i;
    for (int32_t i = 0; i < B; i++)
        b[i] = 7 * i;
    const lode_q_t view = {q, TOKENS, M, M};
    const lode_redundancy_t options = {.top_k = 1, .positive_only = false};
    LODE_ASSERT_OK(lode_redundancy_pairs(pairs, view, a, A, b, B, options));
    for (int64_t j = 0; j < B; j++) {
        LODE_ASSERT_OK(lode_redundancy_to_core(one, view, &b[j], 1, a, A, options));
        for (int64_t i = 0; i < A; i++)
            if (a[i] == b[j])
                assert_true(pairs[i * B + j] == 0);
            else
                LODE_ASSERT_CLOSE(
                    lode_compare_f64("pair", &pairs[i * B + j], 1, &one[i], 1, 1e-13, 1e-10));
    }
    LODE_ASSERT_OK(lode_redundancy_pairs(pairs, view, a, 0, b, B, options));
    LODE_ASSERT_OK(lode_redundancy_pairs(pairs, view, a, A, b, 0, options));
}

static void test_read_connectivity(void **state) {
    (void)state;
    const float gate[] = {1, -2, 0, /**/ 0, 0, 0, /**/ 1, 1, 2}; /* [channels 3, hidden 3] */
    const float up[] = {0, 1, 4, /**/ 0, 0, 0, /**/ -4, 0, 0};
    const lode_tensor_t g = lode_tensor_matrix(gate, LODE_DTYPE_F32, 3, 3);
    lode_tensor_t u = lode_tensor_matrix(up, LODE_DTYPE_F32, 3, 3);
    const int32_t support[] = {1, 2};
    const double want[] = {7.0 / 8, 0, 3.0 / 8};
    double got[3];
    LODE_ASSERT_OK(lode_halo_read_connectivity(got, &g, &u, support, 2));
    LODE_ASSERT_CLOSE(lode_compare_f64("read connectivity", got, 3, want, 3, 0, 1e-15));
    const lode_tensor_t no_gate = {0};
    const double want_up[] = {1, 0, 0};
    LODE_ASSERT_OK(lode_halo_read_connectivity(got, &no_gate, &u, support, 2));
    LODE_ASSERT_CLOSE(lode_compare_f64("without a gate", got, 3, want_up, 3, 0, 1e-15));
    u.shape[0] = 2;
    LODE_ASSERT_FAILS(lode_halo_read_connectivity(got, &g, &u, support, 2), LODE_ERR_SHAPE,
                      "gate_proj is [3, 3], [2, 3]");
}

static void test_norms(void **state) {
    (void)state;
    const float values[] = {3, 0, -4, /**/ 0, 0, 12}; /* [2, 3] */
    const lode_tensor_t tensor = lode_tensor_matrix(values, LODE_DTYPE_F32, 2, 3);
    const double rows[] = {5, 12}, columns[] = {3, 0, sqrt(160)};
    double got[3];
    LODE_ASSERT_OK(lode_weights_row_norms(got, &tensor, "w"));
    LODE_ASSERT_CLOSE(lode_compare_f64("rows", got, 2, rows, 2, 0, 1e-15));
    LODE_ASSERT_OK(lode_weights_column_norms(got, &tensor, "w"));
    LODE_ASSERT_CLOSE(lode_compare_f64("columns", got, 3, columns, 3, 0, 1e-15));
    const float bad[] = {1, INFINITY};
    const lode_tensor_t broken = lode_tensor_matrix(bad, LODE_DTYPE_F32, 1, 2);
    LODE_ASSERT_FAILS(lode_weights_row_norms(got, &broken, "w"), LODE_ERR_NUMERIC, "w[0, 1]");
    LODE_ASSERT_FAILS(lode_weights_column_norms(got, &broken, "w"), LODE_ERR_NUMERIC, "w[0, 1]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_of_every_dtype),
        cmocka_unit_test(test_transposed_views),
        cmocka_unit_test(test_bad_weights),
        cmocka_unit_test(test_support_and_connectivity),
        cmocka_unit_test(test_selection),
        cmocka_unit_test(test_protection),
        cmocka_unit_test(test_redundancy_against_numpy),
        cmocka_unit_test(test_redundancy_against_loops),
        cmocka_unit_test(test_redundancy_edges),
        cmocka_unit_test(test_nodelens_form),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_read_connectivity),
        cmocka_unit_test(test_norms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
