/* score/channel: every method by hand on a 3-channel layer, edges, refused inputs. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "score/channel.h"
#include "testing/compare.h"

enum { M = 3, D = 2 };

static const float gate[M * D] = {3, 4, 0, -1, 1, 0};
static const float up[M * D] = {-6, 8, 2, 0, 0, 1};
static const float down[D * M] = {5, 1, 0, 12, -1, 3};
static const double loss_proxy[M] = {1, 2, 4}, power[M] = {7, 8, 9}, taylor[M] = {3, 2, 1};
static const double connectivity[M] = {0, 0.5, 1}, protection[M] = {1, 0.2, 0.6};
static const double input_power[D] = {4, 9}, u_power[M] = {1, 16, 25};
static const double activation_mean[M] = {1, 2, -1};
static const double inverse_input[D] = {0.5, 0.25}, inverse_u[M] = {2, 0.5, 3};

static lode_tensor_t matrix(const float *data, int64_t rows, int64_t columns) {
    return lode_tensor_matrix(data, LODE_DTYPE_F32, rows, columns);
}

static lode_score_inputs_t all_inputs(void) {
    return (lode_score_inputs_t){.m = M,
                                 .d = D,
                                 .loss_proxy = loss_proxy,
                                 .activation_power = power,
                                 .taylor = taylor,
                                 .connectivity = connectivity,
                                 .protection = protection,
                                 .input_power_mean = input_power,
                                 .u_power_mean = u_power,
                                 .activation_mean = activation_mean,
                                 .inverse_input = inverse_input,
                                 .inverse_u = inverse_u,
                                 .gate = matrix(gate, M, D),
                                 .up = matrix(up, M, D),
                                 .down = matrix(down, D, M),
                                 .seed = 42,
                                 .layer = 1};
}

/* Hands over nothing but what the method says that it needs. */
static lode_score_inputs_t needed_inputs(lode_method_t method) {
    lode_score_inputs_t in = all_inputs();
    unsigned needs = lode_score_needs(method);
    if (!(needs & LODE_NEEDS_LOSS_PROXY))
        in.loss_proxy = NULL;
    if (!(needs & LODE_NEEDS_ACTIVATION_POWER))
        in.activation_power = NULL;
    if (!(needs & LODE_NEEDS_TAYLOR))
        in.taylor = NULL;
    if (!(needs & LODE_NEEDS_CONNECTIVITY))
        in.connectivity = NULL;
    if (!(needs & LODE_NEEDS_PROTECTION))
        in.protection = NULL;
    if (!(needs & LODE_NEEDS_INPUT_POWER))
        in.input_power_mean = in.u_power_mean = NULL;
    if (!(needs & LODE_NEEDS_ACTIVATION_MEAN))
        in.activation_mean = NULL;
    if (!(needs & LODE_NEEDS_INVERSE_MOMENTS))
        in.inverse_input = in.inverse_u = NULL;
    if (!(needs & LODE_NEEDS_GATE_UP))
        in.gate.data = in.up.data = NULL;
    if (!(needs & LODE_NEEDS_DOWN))
        in.down.data = NULL;
    return in;
}

static void assert_score(lode_method_t method, double a, double b, double c) {
    lode_score_inputs_t in = needed_inputs(method);
    double got[M];
    const double want[M] = {a, b, c};
    LODE_ASSERT_OK(lode_score_channels(got, method, &in));
    LODE_ASSERT_CLOSE(lode_compare_f64(lode_method_name(method), got, M, want, M, 1e-16, 1e-15));
}

static void test_methods(void **state) {
    (void)state;
    assert_score(LODE_METHOD_SCAR_LP, 1, 2, 4);
    assert_score(LODE_METHOD_LP, 1, 2, 4);
    assert_score(LODE_METHOD_SCAR_PROT, 1, 0.4, 2.4);
    assert_score(LODE_METHOD_SCAR_CONN, 1, 1.2, 2.4);
    assert_score(LODE_METHOD_ACTIVATION, 7, 8, 9);
    assert_score(LODE_METHOD_TAYLOR, 3, 2, 1);
    assert_score(LODE_METHOD_MAGNITUDE, 5 + 10 + 13, 1 + 2 + sqrt(2), 1 + 1 + 3);
    /* inputs weigh 2 and 3, u weighs 1, 4 and 5 */
    assert_score(LODE_METHOD_WANDA_CHANNEL, 18 + 36 + 17, 3 + 4 + 8, 2 + 3 + 15);
    /* gate and up squared over 0.5 and 0.25, down squared over 2, 0.5 and 3 */
    assert_score(LODE_METHOD_SPARSEGPT_CHANNEL, 82 + 328 + 84.5, 4 + 8 + 4, 2 + 4 + 3);
    /* variances 6, 4 and 8, down squared 169, 2 and 9 */
    assert_score(LODE_METHOD_FLAP, 6 * 169, 4 * 2, 8 * 9);
    double p = 5.0 / 17;
    double h = -p * log(p) - (1 - p) * log(1 - p);
    assert_score(LODE_METHOD_ENTROPY, -h, -log(2), 0);
    assert_score(LODE_METHOD_ENTROPY_REVERSED, h, log(2), 0);
    /* columns (5, 12), (1, −1), (0, 3): shares 25/169, 1/2, 0; and 1/(1 + e⁷), 1/2, 1/(1 + e³) */
    p = 25.0 / 169;
    assert_score(LODE_METHOD_ENTROPY_SQUARE, p * log(p) + (1 - p) * log(1 - p), -log(2), 0);
    p = 1 / (1 + exp(7));
    const double q = 1 / (1 + exp(3));
    assert_score(LODE_METHOD_ENTROPY_SOFTMAX, p * log(p) + (1 - p) * log1p(-p), -log(2),
                 q * log(q) + (1 - q) * log1p(-q));
    assert_score(LODE_METHOD_MAGNITUDE_REVERSED, -28, -(3 + sqrt(2)), -5);
}

/* Weights stored transposed, and inside longer lines, give the same bits. */
static void test_views(void **state) {
    (void)state;
    static const lode_method_t methods[] = {
        LODE_METHOD_MAGNITUDE, LODE_METHOD_WANDA_CHANNEL, LODE_METHOD_SPARSEGPT_CHANNEL,
        LODE_METHOD_FLAP,      LODE_METHOD_ENTROPY,       LODE_METHOD_ENTROPY_SOFTMAX};
    float both[D][2 * M], wide[D * (M + 2)]; /* [in, gate and up]; down in longer lines */
    for (int j = 0; j < M; j++)
        for (int i = 0; i < D; i++) {
            both[i][j] = gate[j * D + i];
            both[i][M + j] = up[j * D + i];
            wide[i * (M + 2) + j] = down[i * M + j];
        }
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        lode_score_inputs_t in = needed_inputs(methods[i]);
        double want[M], got[M];
        LODE_ASSERT_OK(lode_score_channels(want, methods[i], &in));
        if (in.gate.data) {
            in.gate.data = both[0];
            in.up.data = &both[0][M];
            in.gate.transposed = in.up.transposed = true;
            in.gate.pitch = in.up.pitch = 2 * M;
        }
        in.down.data = wide;
        in.down.pitch = M + 2;
        LODE_ASSERT_OK(lode_score_channels(got, methods[i], &in));
        assert_memory_equal(got, want, sizeof got);
    }
}

/* u = act(h·Wupᵀ): the sums go over what there is. */
static void test_without_gate(void **state) {
    (void)state;
    static const struct {
        lode_method_t method;
        double want[M];
    } cases[] = {
        {LODE_METHOD_MAGNITUDE, {10 + 13, 2 + 1.4142135623730951, 1 + 3}},
        {LODE_METHOD_WANDA_CHANNEL, {36 + 17, 4 + 8, 3 + 15}},
        {LODE_METHOD_SPARSEGPT_CHANNEL, {328 + 84.5, 8 + 4, 4 + 3}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lode_score_inputs_t in = needed_inputs(cases[i].method);
        double got[M];
        in.gate = (lode_tensor_t){0};
        LODE_ASSERT_OK(lode_score_channels(got, cases[i].method, &in));
        LODE_ASSERT_CLOSE(lode_compare_f64(lode_method_name(cases[i].method), got, M, cases[i].want,
                                           M, 0, 1e-15));
        in.up.data = NULL;
        LODE_ASSERT_FAILS(lode_score_channels(got, cases[i].method, &in), LODE_ERR_SHAPE,
                          "up_proj: the tensor is absent");
    }
}

static void test_random(void **state) {
    (void)state;
    lode_score_inputs_t in = needed_inputs(LODE_METHOD_RANDOM);
    double a[M], b[M];
    LODE_ASSERT_OK(lode_score_channels(a, LODE_METHOD_RANDOM, &in));
    LODE_ASSERT_OK(lode_score_channels(b, LODE_METHOD_RANDOM, &in));
    assert_memory_equal(a, b, sizeof a);
    const double pinned[M] = {0.7961971032985521, 0.6048980195842104, 0.6777017226590498};
    LODE_ASSERT_CLOSE(lode_compare_f64("random", a, M, pinned, M, 0, 0));
    in.layer = 2;
    LODE_ASSERT_OK(lode_score_channels(b, LODE_METHOD_RANDOM, &in));
    assert_true(a[0] != b[0] && a[1] != b[1] && a[2] != b[2]);
    in.layer = 1;
    in.seed = 43;
    LODE_ASSERT_OK(lode_score_channels(b, LODE_METHOD_RANDOM, &in));
    assert_true(a[0] != b[0] && a[1] != b[1] && a[2] != b[2]);
}

static void test_dead_columns(void **state) {
    (void)state;
    const float dead[D * M] = {1, 0, 1, 1, 0, 0};
    lode_score_inputs_t in = all_inputs();
    in.down = matrix(dead, D, M);
    double got[M];
    const double want[M] = {-log(2), -log(2), 0};
    LODE_ASSERT_OK(lode_score_channels(got, LODE_METHOD_ENTROPY, &in));
    LODE_ASSERT_CLOSE(lode_compare_f64("entropy", got, M, want, M, 0, 1e-15));
}

static void test_refused(void **state) {
    (void)state;
    double got[M];
    for (int method = 0; method < LODE_METHOD_COUNT; method++) {
        lode_score_inputs_t in = {.m = M, .d = D};
        unsigned needs = lode_score_needs(method);
        /* Statistics are looked at before weights. */
        bool statistics = needs & ~(unsigned)(LODE_NEEDS_DOWN | LODE_NEEDS_GATE_UP);
        if (needs)
            LODE_ASSERT_FAILS(lode_score_channels(got, method, &in),
                              statistics ? LODE_ERR_INTERNAL : LODE_ERR_SHAPE, "");
    }
    lode_score_inputs_t in = all_inputs();
    in.gate = matrix(gate, D, M);
    LODE_ASSERT_FAILS(lode_score_channels(got, LODE_METHOD_MAGNITUDE, &in), LODE_ERR_SHAPE,
                      "gate_proj is [2, 3], [3, 2]");
    in = all_inputs();
    const double bad[M] = {1, NAN, 1}, negative[M] = {1, -1, 1}, huge[M] = {1, 1e308, 1};
    const double three[M] = {3, 3, 3};
    in.taylor = bad;
    LODE_ASSERT_FAILS(lode_score_channels(got, LODE_METHOD_TAYLOR, &in), LODE_ERR_NUMERIC,
                      "Taylor statistic of channel 1");
    in.u_power_mean = negative;
    LODE_ASSERT_FAILS(lode_score_channels(got, LODE_METHOD_WANDA_CHANNEL, &in), LODE_ERR_NUMERIC,
                      "negative");
    in.activation_mean = bad;
    LODE_ASSERT_FAILS(lode_score_channels(got, LODE_METHOD_FLAP, &in), LODE_ERR_NUMERIC,
                      "activation mean of channel 1");
    in.inverse_u = negative;
    LODE_ASSERT_FAILS(lode_score_channels(got, LODE_METHOD_SPARSEGPT_CHANNEL, &in),
                      LODE_ERR_NUMERIC, "inverse second moment of u has -1 on its diagonal at 1");
    in.loss_proxy = huge;
    in.protection = three;
    LODE_ASSERT_FAILS(lode_score_channels(got, LODE_METHOD_SCAR_PROT, &in), LODE_ERR_NUMERIC,
                      "scar-prot of channel 1 is inf");
    const float broken[D * M] = {1, 1, 1, 1, 1, INFINITY};
    in.down = matrix(broken, D, M);
    LODE_ASSERT_FAILS(lode_score_channels(got, LODE_METHOD_ENTROPY, &in), LODE_ERR_NUMERIC,
                      "down_proj[1, 2] is inf");
}

/* A channel that never varies: rounding may put the square of its mean above its power. */
static void test_constant_channel(void **state) {
    (void)state;
    const double least = 0x1p-1022, same[M] = {3, 3, 3}, squares[M] = {9, 9 - 1e-14, 9 + 1e-14};
    lode_score_inputs_t in = needed_inputs(LODE_METHOD_FLAP);
    in.activation_mean = same;
    in.activation_power = squares;
    double got[M];
    LODE_ASSERT_OK(lode_score_channels(got, LODE_METHOD_FLAP, &in));
    assert_true(got[0] == 0 && got[1] == 0 && got[2] > least);
}

/* One channel, one dimension. */
static void test_single(void **state) {
    (void)state;
    const float w = -2;
    double got;
    const double zero = 0, six = 6;
    lode_score_inputs_t in = {
        .m = 1, .d = 1, .gate = matrix(&w, 1, 1), .up = matrix(&w, 1, 1), .down = matrix(&w, 1, 1)};
    LODE_ASSERT_OK(lode_score_channels(&got, LODE_METHOD_ENTROPY, &in));
    LODE_ASSERT_CLOSE(lode_compare_f64("entropy", &got, 1, &zero, 1, 0, 0));
    LODE_ASSERT_OK(lode_score_channels(&got, LODE_METHOD_MAGNITUDE, &in));
    LODE_ASSERT_CLOSE(lode_compare_f64("magnitude", &got, 1, &six, 1, 0, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),      cmocka_unit_test(test_random),
        cmocka_unit_test(test_views),        cmocka_unit_test(test_without_gate),
        cmocka_unit_test(test_dead_columns), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_single),       cmocka_unit_test(test_constant_channel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
