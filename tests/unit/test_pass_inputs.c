/* What a pass shows of the inputs of linear layers: each once, in order, and a failure ends it. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <mpi.h>

#include "testing/compare.h"
#include "testing/temporary.h"
#include "transformer/pass.h"

#define FOLDER "tests/golden/families/olmo2"
enum { TOKENS = 21, LONGEST = 16, SEQUENCES = 3 };

static const int64_t offsets[] = {0, 1, 17, TOKENS};
static lode_comm_t self;

typedef struct shown {
    int64_t inputs, layers, fail_at;
} shown_t;

static lode_status_t on_pass_input(void *context, const lode_batch_t *batch, int64_t layer,
                                   lode_input_t which, const lode_real_t *x) {
    shown_t *shown = context;
    assert_int_equal((int64_t)which, shown->inputs % LODE_INPUTS);
    assert_true(batch->tokens > 0 && isfinite(x[0]));
    assert_int_equal(layer, shown->inputs / LODE_INPUTS % shown->layers);
    if (++shown->inputs == shown->fail_at)
        return lode_fail(LODE_ERR_INPUT, "enough");
    return LODE_OK;
}

/* Once each, though with so little memory the backward computes activations again. */
static void test_pass(void **state) {
    (void)state;
    static int32_t ids[TOKENS], target[TOKENS];
    static double weight[TOKENS];
    const lode_text_t text = {SEQUENCES, offsets, ids, target, weight};
    lode_checkpoint_t *checkpoint;
    lode_layout_t layout;
    lode_stack_t *stack;
    lode_batches_t batches;
    lode_pass_memory_t memory;
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, FOLDER));
    LODE_ASSERT_OK(
        lode_layout_create(&layout, lode_checkpoint_architecture(checkpoint), LONGEST, 1, 0, 0));
    LODE_ASSERT_OK(lode_stack_create(&stack, checkpoint, &layout, TOKENS, LONGEST, 1));
    for (int t = 0; t < TOKENS; t++) {
        ids[t] = target[t] = t;
        weight[t] = 1;
    }
    LODE_ASSERT_OK(lode_batches_create(&batches, &text, LONGEST));
    for (int64_t fail_at = 0; fail_at < 7; fail_at += 6) {
        shown_t shown = {.layers = stack->count, .fail_at = fail_at};
        lode_pass_t pass = {.stage = "test",
                            .comm = &self,
                            .layout = &layout,
                            .stack = stack,
                            .batches = &batches,
                            .variants = 1,
                            .backward = true,
                            .head_batches = batches.count,
                            .scratch = lode_test_temporary(),
                            .observer = {.context = &shown, .input = on_pass_input}};
        const lode_pass_size_t size = lode_pass_size(&pass);
        LODE_ASSERT_OK(lode_pass_memory(&size, &memory));
        pass.budget = memory.least;
        if (fail_at == 0) {
            LODE_ASSERT_OK(lode_pass_run(&pass));
            assert_int_equal(shown.inputs, LODE_INPUTS * stack->count * batches.count);
        } else {
            LODE_ASSERT_FAILS(lode_pass_run(&pass), LODE_ERR_INPUT, "enough");
            assert_int_equal(shown.inputs, fail_at);
        }
    }
    lode_batches_destroy(&batches);
    lode_stack_destroy(&stack);
    lode_checkpoint_close(&checkpoint);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pass)};
    MPI_Init(&argc, &argv);
    self = lode_comm_describe(MPI_COMM_SELF);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
