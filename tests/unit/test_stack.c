/* Where a stack's weights lie: what can be read as it lies in the checkpoint is, and the rest is
 * converted. */
#include "testing/cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "testing/compare.h"
#include "transformer/stack.h"

#define FAMILIES "tests/golden/families"

/* Vectors read in place and converted ones. */
typedef struct places {
    int64_t own, converted;
} places_t;

static void check_vector(places_t *places, const lode_stack_t *stack, const lode_tensor_t *tensor,
                         const lode_real_t *vector) {
    lode_real_t values[128];
    if (!tensor->data) {
        assert_null(vector);
        return;
    }
    const bool readable =
        tensor->dtype == LODE_DTYPE_F32 && (uintptr_t)tensor->data % sizeof(lode_real_t) == 0;
    if (readable) {
        assert_ptr_equal(vector, tensor->data);
        places->own++;
    } else {
        assert_true(vector >= stack->private_memory &&
                    vector + tensor->shape[0] <= stack->private_memory + stack->private_count);
        places->converted++;
    }
    assert_in_range(tensor->shape[0], 1, 128);
    lode_convert(values, tensor->data, tensor->dtype, tensor->shape[0]);
    assert_memory_equal(values, vector, (size_t)tensor->shape[0] * sizeof *values);
}

static places_t check_layer(const lode_stack_t *stack, const lode_layer_t *layer,
                            const lode_layer_weights_t *w) {
    places_t places = {0};
    const bool offset = stack->architecture->norm_offset;
    check_vector(&places, stack, &w->attention_norm, layer->attention_norm.weight);
    check_vector(&places, stack, &w->attention_norm_bias, layer->attention_norm.bias);
    check_vector(&places, stack, &w->attention_post_norm, layer->attention_post_norm.weight);
    check_vector(&places, stack, &w->ffn_norm, layer->ffn_norm.weight);
    check_vector(&places, stack, &w->ffn_norm_bias, layer->ffn_norm.bias);
    check_vector(&places, stack, &w->ffn_post_norm, layer->ffn_post_norm.weight);
    check_vector(&places, stack, &w->q_norm, layer->q_norm.weight);
    check_vector(&places, stack, &w->k_norm, layer->k_norm.weight);
    check_vector(&places, stack, &w->q_bias, layer->q.bias);
    check_vector(&places, stack, &w->o_bias, layer->o.bias);
    check_vector(&places, stack, &w->up_bias, layer->up.bias);
    check_vector(&places, stack, &w->down_bias, layer->down.bias);
    assert_true(layer->ffn_norm.offset == offset && layer->attention_norm.offset == offset);
    assert_false(layer->q_norm.offset || layer->k_norm.offset);
    return places;
}

static places_t check_family(const char *name) {
    char folder[200];
    lode_checkpoint_t *checkpoint;
    lode_layer_weights_t weights;
    lode_layout_t layout;
    lode_stack_t *stack;
    snprintf(folder, sizeof folder, FAMILIES "/%s", name);
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
    LODE_ASSERT_OK(
        lode_layout_create(&layout, lode_checkpoint_architecture(checkpoint), 8, 1, 0, 1));
    LODE_ASSERT_OK(lode_stack_create(&stack, checkpoint, &layout, 8, 8, 1));
    LODE_ASSERT_OK(lode_checkpoint_layer(checkpoint, 1, &weights));
    const places_t places = check_layer(stack, &stack->layer[1], &weights);
    lode_stack_destroy(&stack);
    lode_checkpoint_close(&checkpoint);
    return places;
}

static void vectors(void **state) {
    (void)state;
    static const char *const floats[] = {"llama-bias", "gpt2", "gemma2", "olmo2", "qwen3"};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        const places_t places = check_family(floats[i]);
        assert_true(places.own >= 4 && places.converted == 0);
    }
    const places_t halves = check_family("mistral");
    assert_true(halves.own == 0 && halves.converted == 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(vectors)};
    return cmocka_run_group_tests_name("stack", tests, NULL, NULL);
}
