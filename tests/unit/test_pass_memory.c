/* The private memory that sizes predict, without weights, against what is allocated: stacks of
 * every family (tests/golden/families.py) for several rank counts, and passes as they run. */
#include "testing/cmocka_all.h"

#include <malloc.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "testing/compare.h"
#include "testing/data.h"
#include "testing/temporary.h"
#include "transformer/pass.h"

enum { TOKENS = 24, LONGEST = 16, SEQUENCES = 4, VARIANTS = 3 };

static const int64_t offsets[] = {0, 1, 17, TOKENS, TOKENS + 9};
static lode_comm_t self;
static const char *scratch;

/* --- counting ------------------------------------------------------------------------------- */

/* Bytes that malloc has handed out. */
static int64_t in_use(void) {
    const struct mallinfo2 info = mallinfo2();
    return (int64_t)(info.uordblks + info.hblkhd);
}

/* Whether the allocator can be asked; that of sanitizers and of valgrind cannot. */
static bool can_count(void) {
    const int64_t before = in_use();
    char *some;
    LODE_ASSERT_OK(LODE_NEW(&some, 1 << 20, "test"));
    const bool counted = in_use() - before >= 1 << 20;
    free(some);
    return counted;
}

/* --- stacks --------------------------------------------------------------------------------- */

static void check_stack(lode_checkpoint_t *checkpoint, int size, int rank, int threads) {
    const lode_architecture_t *architecture = lode_checkpoint_architecture(checkpoint);
    lode_layer_weights_t weights;
    lode_layout_t layout;
    lode_stack_t *stack;
    LODE_ASSERT_OK(lode_checkpoint_layer(checkpoint, 0, &weights));
    LODE_ASSERT_OK(lode_layout_create(&layout, architecture, LONGEST, size, rank, 0));
    const int64_t want =
        lode_stack_memory(architecture, &layout, weights.up.dtype, TOKENS, LONGEST, threads);
    if (layout.replica < 0) {
        assert_int_equal(want, 0);
        return;
    }
    const int64_t before = in_use();
    LODE_ASSERT_OK(lode_stack_create(&stack, checkpoint, &layout, TOKENS, LONGEST, threads));
    const int64_t allocated = in_use() - before;
    assert_int_equal(lode_stack_bytes(stack), want);
    if (can_count() && (allocated < want - 4096 || allocated > want + 8192))
        fail_msg("rank %d of %d: %lld bytes are allocated and %lld predicted", rank, size,
                 (long long)allocated, (long long)want);
    lode_stack_destroy(&stack);
}

/* --- passes --------------------------------------------------------------------------------- */

static int64_t most;

static lode_status_t on_layer(void *context, const lode_batch_t *batch, int64_t layer,
                              const lode_real_t *h, const lode_real_t *u) {
    (void)context, (void)batch, (void)layer, (void)h, (void)u;
    const int64_t now = in_use();
    most = now > most ? now : most;
    return LODE_OK;
}

static lode_text_t make_text(const lode_architecture_t *architecture) {
    static int32_t ids[TOKENS + 9], target[TOKENS + 9];
    static double weight[TOKENS + 9];
    for (int t = 0; t < TOKENS + 9; t++) {
        ids[t] = (int32_t)(7 * t % (int)architecture->vocab);
        target[t] = t % 3 ? ids[t] : -1;
        weight[t] = target[t] < 0 ? 0 : 0.25;
    }
    return (lode_text_t){SEQUENCES, offsets, ids, target, weight};
}

typedef enum mode { LEAST, INPUTS, ALL, MODES } budget_mode_t;

/* Runs a pass with a budget that just suffices for a mode. */
static void check_pass(lode_checkpoint_t *checkpoint, bool backward, budget_mode_t mode) {
    static const char *const names[MODES] = {"least", "inputs", "all"};
    static const int64_t parent[VARIANTS] = {-1, 0, 0}, start[VARIANTS] = {0, 1, 1};
    const lode_text_t text = make_text(lode_checkpoint_architecture(checkpoint));
    lode_batches_t batches;
    lode_layout_t layout;
    lode_stack_t *stack;
    lode_pass_memory_t memory;
    LODE_ASSERT_OK(
        lode_layout_create(&layout, lode_checkpoint_architecture(checkpoint), LONGEST, 1, 0, 0));
    LODE_ASSERT_OK(lode_batches_create(&batches, &text, TOKENS));
    LODE_ASSERT_OK(
        lode_stack_create(&stack, checkpoint, &layout, batches.max_tokens, batches.longest, 1));
    lode_pass_t pass = {.stage = "test",
                        .comm = &self,
                        .layout = &layout,
                        .stack = stack,
                        .batches = &batches,
                        .variants = backward ? 1 : VARIANTS,
                        .parent = backward ? NULL : parent,
                        .start = backward ? NULL : start,
                        .backward = backward,
                        .head_batches = batches.count,
                        .scratch = scratch,
                        .observer = {.ffn_forward = on_layer}};
    const lode_pass_size_t size = lode_pass_size(&pass);
    LODE_ASSERT_OK(lode_pass_memory(&size, &memory));
    pass.budget = mode == LEAST ? memory.least : mode == INPUTS ? memory.inputs : memory.all;
    LODE_ASSERT_OK(lode_pass_run(&pass)); /* MPI keeps what its first messages make it set up */
    const int64_t before = most = in_use(), want = pass.budget;
    LODE_ASSERT_OK(lode_pass_run(&pass));
    assert_true(in_use() - before < 4096); /* nothing stays */
    const int64_t allocated = most - before;
    if (can_count() && (allocated < want || allocated > want + 16384))
        fail_msg("%s, %s: %lld bytes are allocated and %lld predicted",
                 backward ? "backward" : "forward", names[mode], (long long)allocated,
                 (long long)want);
    assert_true(memory.least < memory.all || stack->count == 0);
    lode_stack_destroy(&stack);
    lode_batches_destroy(&batches);
}

static void check_family(const char *name) {
    lode_checkpoint_t *checkpoint;
    char folder[400];
    snprintf(folder, sizeof folder, LODE_TEST_FAMILIES "/%s", name);
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
    for (int size = 1; size <= 4; size++)
        for (int rank = 0; rank < size; rank++)
            check_stack(checkpoint, size, rank, size);
    for (int mode = LEAST; mode < MODES; mode++) {
        check_pass(checkpoint, false, (budget_mode_t)mode);
        check_pass(checkpoint, true, (budget_mode_t)mode);
    }
    lode_checkpoint_close(&checkpoint);
}

static void test_families(void **state) {
    (void)state;
    assert_true(lode_test_families(check_family) >= LODE_TEST_FAMILIES_LEAST);
}

/* --- models that are not there --------------------------------------------------------------- */

/* Llama-3.1-8B and -70B, with any number of layers. */
static lode_architecture_t large(bool larger, int64_t layers) {
    return (lode_architecture_t){
        .model_type = LODE_MODEL_LLAMA,
        .gated = true,
        .layers = layers,
        .hidden = larger ? 8192 : 4096,
        .intermediate = larger ? 28672 : 14336,
        .heads = larger ? 64 : 32,
        .kv_heads = 8,
        .head_dim = 128,
        .vocab = 128256,
        .max_positions = 131072,
        .norm = LODE_NORM_RMS,
        .attention_norm = true,
        .ffn_norm = true,
        .attention_scale = 0.09,
        .rotary = {.kind = LODE_ROTARY_DEFAULT, .theta = 5e5, .dims = 128}};
}

static lode_pass_memory_t memory_of(const lode_architecture_t *architecture, int ranks,
                                    int64_t tokens, int64_t batches, int64_t *file) {
    lode_layout_t layout;
    lode_pass_memory_t memory;
    LODE_ASSERT_OK(lode_layout_create(&layout, architecture, tokens, ranks, 0, 0));
    const lode_pass_size_t size = {.architecture = architecture,
                                   .layout = &layout,
                                   .tokens = tokens,
                                   .batches = batches,
                                   .variants = 1,
                                   .backward = true};
    LODE_ASSERT_OK(lode_pass_memory(&size, &memory));
    LODE_ASSERT_OK(lode_pass_scratch(&size, memory.least, file));
    return memory;
}

static void test_layers(void **state) {
    (void)state;
    for (int larger = 0; larger < 2; larger++) {
        const lode_architecture_t few = large(larger, 20), many = large(larger, 80);
        const int64_t input = 2048 * few.hidden * (int64_t)sizeof(lode_real_t);
        int64_t few_scratch, many_scratch;
        const lode_pass_memory_t a = memory_of(&few, 1, 2048, 4, &few_scratch);
        const lode_pass_memory_t b = memory_of(&many, 1, 2048, 4, &many_scratch);
        assert_true(b.least - a.least < 1 << 16); /* it is not the layers that it depends on */
        assert_int_equal(few_scratch, 20 * input);
        assert_int_equal(many_scratch, 80 * input);
        assert_true(b.inputs - b.least > 70 * input && b.all > b.inputs);
        /* As many micro-batches are in flight as ranks follow. */
        const lode_pass_memory_t c = memory_of(&many, 4, 2048, 9, &many_scratch);
        assert_true(c.least - b.least < 8 * input && many_scratch > 70 * input);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families),
                                       cmocka_unit_test(test_layers)};
    MPI_Init(&argc, &argv);
    scratch = lode_test_temporary();
    self = lode_comm_describe(MPI_COMM_SELF);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
