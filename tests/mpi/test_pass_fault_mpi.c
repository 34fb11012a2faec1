/* Faults in the middle of a pass: rank k fails at its n-th observer call, or lacks the memory, and
 * every rank must return the same status and the same message, in time, with nothing left on the
 * wire: the pass after it is as good as the one before. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/linear.h"
#include "testing/check.h"
#include "testing/checkpoint.h"
#include "transformer/pass.h"

enum { SEQUENCES = 9, LENGTH = 7, TOKENS = SEQUENCES * LENGTH, VARIANTS = 3 };

static lode_comm_t world;
static char folder[64];

static const lode_architecture_t architecture = {.layers = 3,
                                                 .hidden = 16,
                                                 .intermediate = 24,
                                                 .heads = 2,
                                                 .kv_heads = 1,
                                                 .head_dim = 8,
                                                 .vocab = 40,
                                                 .max_positions = 32,
                                                 .norm_eps = 1e-5,
                                                 .rotary.theta = 10000,
                                                 .bos = 1,
                                                 .eos = 2};

/* --- the pass ------------------------------------------------------------------------------- */

typedef struct setting {
    lode_layout_t layout;
    lode_stack_t *stack;
    lode_text_t text;
    lode_batches_t batches;
    int64_t offsets[SEQUENCES + 1];
    int32_t ids[TOKENS], target[TOKENS];
    double weight[TOKENS];
} setting_t;

/* Counts the calls on this rank and fails at one of them. */
typedef struct fault {
    int64_t fail_at; /* 1 is the first call; 0 never */
    int64_t calls;
    double sum; /* of the losses seen */
} fault_t;

static lode_status_t call(fault_t *fault, const char *what) {
    if (++fault->calls != fault->fail_at)
        return LODE_OK;
    return lode_fail(LODE_ERR_IO, "rank %d fails at call %lld (%s)", world.rank,
                     (long long)fault->calls, what);
}

static lode_status_t on_variant(void *context, int64_t variant, int64_t start,
                                lode_stack_t *stack) {
    (void)start;
    (void)variant;
    (void)stack;
    return call(context, "variant");
}

static lode_status_t on_ffn(void *context, const lode_batch_t *batch, int64_t layer,
                            const lode_real_t *h, const lode_real_t *u) {
    (void)batch;
    (void)layer;
    (void)h;
    (void)u;
    return call(context, "feed-forward block");
}

static lode_status_t on_logits(void *context, int64_t first, int64_t rows,
                               const lode_real_t *logits) {
    (void)first;
    (void)rows;
    (void)logits;
    return call(context, "logits");
}

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    (void)greedy;
    fault_t *fault = context;
    (void)variant;
    for (int64_t t = 0; t < batch->tokens; t++)
        fault->sum += nll[t];
    return call(fault, "losses");
}

static lode_status_t run_pass(setting_t *setting, fault_t *fault, bool backward, int64_t budget) {
    const lode_pass_t pass = {.stage = "fault",
                              .comm = &world,
                              .layout = &setting->layout,
                              .stack = setting->stack,
                              .batches = &setting->batches,
                              .variants = backward ? 1 : VARIANTS,
                              .backward = backward,
                              .head_batches = setting->batches.count,
                              .budget = budget,
                              .observer = {.context = fault,
                                           .variant = on_variant,
                                           .ffn_forward = on_ffn,
                                           .ffn_backward = backward ? on_ffn : NULL,
                                           .logits = on_logits,
                                           .losses = on_losses}};
    return lode_pass_run(&pass);
}

static const int64_t AMPLE = INT64_C(1) << 30;

/* --- checks --------------------------------------------------------------------------------- */

/* A pass without faults: its calls on this rank, and the sum of its losses, which no pass that
 * failed before may change. */
static int64_t count_calls(setting_t *setting, bool backward, double *sum) {
    fault_t fault = {0};
    LODE_CHECK(run_pass(setting, &fault, backward, AMPLE) == LODE_OK);
    *sum = fault.sum;
    return fault.calls;
}

/* Rank `victim`, or every rank where it is −1, fails at its `fail_at`-th call. */
static void test_fault(setting_t *setting, bool backward, int victim, int64_t fail_at) {
    char expected[128];
    fault_t fault = {.fail_at = victim < 0 || victim == world.rank ? fail_at : 0};
    const lode_status_t status = run_pass(setting, &fault, backward, AMPLE);
    int rank = victim; /* of several that fail, some may keep the others from beginning */
    if (victim < 0)
        LODE_CHECK(sscanf(lode_error_message(), "rank %d", &rank) == 1);
    snprintf(expected, sizeof expected, "rank %d fails at call %lld (", rank, (long long)fail_at);
    LODE_CHECK(status == LODE_ERR_IO);
    LODE_CHECK(strncmp(lode_error_message(), expected, strlen(expected)) == 0);
    LODE_CHECK(lode_check_same(status));
    if (victim == world.rank)
        LODE_CHECK(fault.calls == fail_at); /* the observer that failed is left alone */
    if (victim < 0)
        LODE_CHECK(fault.calls <= fail_at);
}

static void test_all_faults(setting_t *setting, bool backward) {
    double before, after;
    const int64_t mine = count_calls(setting, backward, &before);
    for (int victim = 0; victim < world.size; victim++) {
        int64_t calls = mine;
        MPI_Bcast(&calls, 1, MPI_INT64_T, victim, world.comm);
        const int64_t when[] = {1, 2, calls / 3, calls / 2, calls - 1, calls};
        for (size_t i = 0; i < sizeof when / sizeof *when; i++)
            if (when[i] >= 1 && when[i] <= calls)
                test_fault(setting, backward, victim, when[i]);
    }
    int64_t fewest = mine;
    MPI_Allreduce(MPI_IN_PLACE, &fewest, 1, MPI_INT64_T, MPI_MIN, world.comm);
    if (fewest >= 1)
        test_fault(setting, backward, -1, 1);
    LODE_CHECK(count_calls(setting, backward, &after) == mine);
    LODE_CHECK(memcmp(&before, &after, sizeof before) == 0);
}

/* One rank has no memory for its activations. */
static void test_memory(setting_t *setting, bool backward) {
    for (int victim = 0; victim < world.size; victim++) {
        int works = setting->stack != NULL;
        MPI_Bcast(&works, 1, MPI_INT, victim, world.comm);
        fault_t fault = {0};
        const lode_status_t status =
            run_pass(setting, &fault, backward, victim == world.rank ? 1 : AMPLE);
        LODE_CHECK(status == (works ? LODE_ERR_MEMORY : LODE_OK));
        LODE_CHECK(!works || lode_check_same(status));
        LODE_CHECK(!works || fault.calls == 0);
    }
}

/* --- setting -------------------------------------------------------------------------------- */

static void make_text(setting_t *setting) {
    for (int64_t t = 0; t < TOKENS; t++) {
        const bool last = t % LENGTH == LENGTH - 1;
        setting->ids[t] = (int32_t)((t * 7 + t / LENGTH) % architecture.vocab);
        setting->target[t] = last ? -1 : (int32_t)(((t + 1) * 7 + t / LENGTH) % architecture.vocab);
        setting->weight[t] = last ? 0 : 1.0 / (LENGTH - 1);
    }
    for (int64_t s = 0; s <= SEQUENCES; s++)
        setting->offsets[s] = s * LENGTH;
    setting->text = (lode_text_t){.sequences = SEQUENCES,
                                  .offsets = setting->offsets,
                                  .ids = setting->ids,
                                  .target = setting->target,
                                  .weight = setting->weight};
}

static void test_layout(int64_t replicas) {
    setting_t setting = {0};
    lode_checkpoint_t *checkpoint;
    make_text(&setting);
    LODE_REQUIRE(lode_checkpoint_open(&checkpoint, folder) == LODE_OK);
    LODE_REQUIRE(lode_layout_create(&setting.layout, &architecture, LENGTH, world.size, world.rank,
                                    replicas) == LODE_OK);
    /* One or two sequences to a micro-batch. */
    LODE_REQUIRE(lode_batches_create(&setting.batches, &setting.text, 2 * LENGTH) == LODE_OK);
    if (setting.layout.replica >= 0)
        LODE_REQUIRE(lode_stack_create(&setting.stack, checkpoint, &setting.layout,
                                       setting.batches.max_tokens, setting.batches.longest,
                                       1) == LODE_OK);
    for (int backward = 0; backward < 2; backward++) {
        test_all_faults(&setting, backward);
        test_memory(&setting, backward);
    }
    lode_stack_destroy(&setting.stack);
    lode_batches_destroy(&setting.batches);
    lode_checkpoint_close(&checkpoint);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    lode_set_threads(1);
    world = lode_comm_describe(MPI_COMM_WORLD);
    snprintf(folder, sizeof folder, "/tmp/lode-fault-XXXXXX");
    int made = 1;
    if (world.rank == 0)
        made = mkdtemp(folder) != NULL &&
               lode_test_write_checkpoint(folder, &architecture, LODE_DTYPE_F32, 1, 3) == LODE_OK;
    MPI_Bcast(&made, 1, MPI_INT, 0, world.comm);
    MPI_Bcast(folder, (int)sizeof folder, MPI_BYTE, 0, world.comm);
    LODE_REQUIRE(made);
    /* One pipeline, with idle ranks where there are more than parts; as many as fit; and, where
     * there are ranks for it, two whose lengths leave one over. */
    test_layout(1);
    if (world.size > 1)
        test_layout(world.size);
    if (world.size > 3)
        test_layout(2);
    const int result = lode_check_result();
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (world.rank == 0 && system(command) != 0)
        fprintf(stderr, "%s could not be removed\n", folder);
    MPI_Finalize();
    return result;
}
