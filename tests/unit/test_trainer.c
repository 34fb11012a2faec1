/* A trainer on one rank: its loss falls, another that gets its weights and moments goes on to the
 * same bits, also with so little memory that activations are computed twice, and a step that fails
 * leaves it as it was. Many ranks are tests/mpi/test_trainer_mpi.c; this one is for valgrind. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "kernels/linear.h"
#include "testing/compare.h"
#include "training/trainer.h"

enum { LENGTH = 7, BATCH = 5, STEPS = 4, HALF = 2, LAYERS = 2, VOCAB = 40 };

static lode_comm_t self;
static int32_t ids[BATCH * LENGTH];

static const lode_architecture_t architecture = {
    .model_type = LODE_MODEL_LLAMA,
    .gated = true,
    .layers = LAYERS,
    .hidden = 16,
    .intermediate = 24,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 4,
    .vocab = VOCAB,
    .max_positions = 16,
    .norm = LODE_NORM_RMS,
    .norm_eps = 1e-5,
    .attention_norm = true,
    .ffn_norm = true,
    .attention_scale = 0.5,
    .embedding_scale = 1,
    .rotary = {.kind = LODE_ROTARY_DEFAULT, .dims = 4, .theta = 1e4},
    .tied = true,
    .bos = 1,
    .eos = 2};

/* Three micro-batches of two sequences, the last one of one. */
static const lode_trainer_setting_t setting = {
    .length = LENGTH,
    .batch = BATCH,
    .micro_batch = 2 * LENGTH,
    .groups = 1,
    .rate = {.steps = STEPS, .warmup = 1, .most = 1e-2, .final = 0.1},
    .beta_1 = 0.9,
    .beta_2 = 0.95,
    .epsilon = 1e-8,
    .clip = 1,
    .decay = {0.1, 0.05, 0},
    .entropy_weight = 0.5,
    .entropy_form = LODE_ENTROPY_SQUARE,
    .entropy_schedule = LODE_SCHEDULE_LINEAR,
    .threads = 1,
    .memory = INT64_C(1) << 26};

typedef struct trained {
    lode_layout_t layout;
    lode_parameters_t *parameters;
    lode_trainer_t *trainer;
    lode_trainer_result_t result[STEPS];
} trained_t;

static void open_trained(trained_t *trained, const lode_trainer_setting_t *with) {
    *trained = (trained_t){0};
    LODE_ASSERT_OK(lode_trainer_layout(&trained->layout, &architecture, with, 1, 0, 0));
    LODE_ASSERT_OK(lode_parameters_create(&trained->parameters, &architecture, &trained->layout));
    lode_parameters_initialise(trained->parameters, 3, 0.05, true);
    LODE_ASSERT_OK(
        lode_trainer_create(&trained->trainer, &self, &trained->layout, trained->parameters, with));
}

static void close_trained(trained_t *trained) {
    lode_trainer_destroy(&trained->trainer);
    lode_parameters_destroy(&trained->parameters);
}

static void take_steps(trained_t *trained, int64_t first, int64_t last) {
    for (int64_t step = first; step <= last; step++)
        LODE_ASSERT_OK(lode_trainer_step(trained->trainer, step, ids, &trained->result[step - 1]));
}

/* Weights and moments of another, as they would come from a file. */
static void copy_state(trained_t *to, const trained_t *from) {
    const lode_trainer_moments_t a = lode_trainer_moments(from->trainer);
    const lode_trainer_moments_t b = lode_trainer_moments(to->trainer);
    const size_t bytes = (size_t)(a.end - a.begin) * sizeof(float);
    assert_true(a.begin == b.begin && a.end == b.end);
    assert_true(a.begin == 0 && a.end == from->parameters->elements);
    memcpy(to->parameters->weights, from->parameters->weights, bytes);
    memcpy(b.first, a.first, bytes);
    memcpy(b.second, a.second, bytes);
}

static void assert_same(const trained_t *one, const trained_t *other) {
    const lode_trainer_moments_t a = lode_trainer_moments(one->trainer);
    const lode_trainer_moments_t b = lode_trainer_moments(other->trainer);
    const size_t bytes = (size_t)one->parameters->elements * sizeof(float);
    assert_memory_equal(one->parameters->weights, other->parameters->weights, bytes);
    assert_memory_equal(a.first, b.first, bytes);
    assert_memory_equal(a.second, b.second, bytes);
}

static void test_steps(void **state) {
    trained_t whole, half;
    double loss[2], error[2], entropy[2][LAYERS];
    (void)state;
    open_trained(&whole, &setting);
    open_trained(&half, &setting);
    take_steps(&whole, 1, HALF);
    copy_state(&half, &whole);
    take_steps(&whole, HALF + 1, STEPS);
    take_steps(&half, HALF + 1, STEPS);
    assert_same(&whole, &half);
    assert_memory_equal(whole.result + HALF, half.result + HALF, sizeof *half.result * HALF);
    assert_true(fabs(whole.result[0].loss - log(VOCAB)) < 0.5);
    assert_true(whole.result[STEPS - 1].loss < whole.result[0].loss - 0.1);
    for (int s = 0; s < STEPS; s++) {
        assert_true(whole.result[s].gradient_norm > 0);
        assert_true(whole.result[s].entropy > 0 && whole.result[s].entropy < log(16));
    }
    LODE_ASSERT_OK(lode_trainer_evaluate(whole.trainer, ids, BATCH, &loss[0], &error[0]));
    LODE_ASSERT_OK(lode_trainer_evaluate(half.trainer, ids, BATCH, &loss[1], &error[1]));
    assert_true(loss[0] == loss[1] && error[0] == error[1] && error[0] > 0);
    assert_true(loss[0] < whole.result[STEPS - 1].loss);
    LODE_ASSERT_OK(lode_trainer_entropy(whole.trainer, entropy[0]));
    LODE_ASSERT_OK(lode_trainer_entropy(half.trainer, entropy[1]));
    assert_memory_equal(entropy[0], entropy[1], sizeof entropy[0]);
    close_trained(&whole);
    close_trained(&half);
}

/* The bits do not depend on what is kept of the forward pass. */
static void test_little_memory(void **state) {
    lode_trainer_setting_t little = setting;
    trained_t one, other;
    int64_t bytes;
    (void)state;
    open_trained(&one, &setting);
    take_steps(&one, 1, STEPS);
    LODE_ASSERT_OK(lode_trainer_memory(&architecture, &one.layout, &setting, &bytes));
    little.memory = bytes + 40000;
    open_trained(&other, &little);
    take_steps(&other, 1, STEPS);
    assert_same(&one, &other);
    close_trained(&one);
    close_trained(&other);
}

/* Whatever memory is missing, a step that fails can be taken again. */
static void test_faults(void **state) {
    trained_t one, other;
    int failed = 0;
    (void)state;
    open_trained(&one, &setting);
    open_trained(&other, &setting);
    take_steps(&one, 1, 1);
    for (int call = 1; call < 100; call++) {
        char fault[64];
        snprintf(fault, sizeof fault, "allocation:call=%d", call);
        LODE_ASSERT_OK(lode_fault_arm(fault, 0));
        const lode_status_t status = lode_trainer_step(other.trainer, 1, ids, &other.result[0]);
        LODE_ASSERT_OK(lode_fault_arm(NULL, 0));
        if (status == LODE_OK)
            break;
        assert_int_equal(status, LODE_ERR_MEMORY);
        failed++;
    }
    assert_true(failed > 3 && failed < 99);
    assert_same(&one, &other);
    close_trained(&one);
    close_trained(&other);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    self = lode_comm_describe(MPI_COMM_SELF);
    lode_log_enable(false);
    lode_set_threads(1);
    const uint64_t key = lode_random_key(4, "ids", 0, 0);
    for (int64_t t = 0; t < BATCH * LENGTH; t++)
        ids[t] = (int32_t)lode_random_below(key, (uint64_t)t, VOCAB / 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_little_memory),
        cmocka_unit_test(test_faults),
    };
    const int result = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return result;
}
