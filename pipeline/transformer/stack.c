#include "transformer/stack.h"

#include <stdlib.h>

#include "base/memory.h"
#include "kernels/loss.h"
#include "kernels/rope.h"

/* Converts a norm weight [d] into the next free private memory. */
static lode_real_t *take_vector(lode_real_t **next, const lode_tensor_t *tensor, int64_t d) {
    lode_real_t *vector = *next;
    lode_convert(vector, tensor->data, tensor->dtype, d);
    *next += d;
    return vector;
}

static void layer_set(lode_layer_t *layer, const lode_architecture_t *architecture,
                      const lode_layer_weights_t *weights, lode_real_t **next) {
    layer->d = architecture->hidden;
    layer->m = architecture->intermediate;
    layer->eps = architecture->norm_eps;
    layer->attention = (lode_attention_shape_t){.heads = architecture->heads,
                                                .kv_heads = architecture->kv_heads,
                                                .head_dim = architecture->head_dim};
    layer->attention_norm = take_vector(next, &weights->attention_norm, layer->d);
    layer->ffn_norm = take_vector(next, &weights->ffn_norm, layer->d);
    layer->q = lode_weight_of(&weights->q);
    layer->k = lode_weight_of(&weights->k);
    layer->v = lode_weight_of(&weights->v);
    layer->o = lode_weight_of(&weights->o);
    layer->gate = lode_weight_of(&weights->gate);
    layer->up = lode_weight_of(&weights->up);
    layer->down = lode_weight_of(&weights->down);
}

static int64_t workspace_needed(const lode_stack_t *stack, int64_t max_tokens, int64_t longest,
                                int threads) {
    int64_t most = stack->head ? lode_loss_workspace(&stack->head_weight) : 0;
    for (int64_t i = 0; i < stack->count; i++) {
        /* An edited layer converts even weights that are otherwise read in place, so room is made
         * for a selection of everything, the largest there can be. A replaced down projection has
         * the shape of a selection, whether it can be read in place or not. */
        lode_layer_t sliced = stack->layer[i];
        static const int32_t any[1];
        sliced.gate.row_index = sliced.up.row_index = sliced.down.col_index = any;
        int64_t needed = lode_layer_workspace(&sliced, max_tokens, longest, threads);
        most = needed > most ? needed : most;
    }
    return most;
}

static lode_status_t stack_fill(lode_stack_t *stack, lode_checkpoint_t *checkpoint,
                                int64_t longest) {
    const lode_architecture_t *architecture = lode_checkpoint_architecture(checkpoint);
    const int64_t d = stack->d, half = architecture->head_dim / 2;
    LODE_TRY(LODE_NEW(&stack->layer, stack->count, "layers"));
    LODE_TRY(LODE_NEW(&stack->whole, stack->count, "layers"));
    stack->private_count = (2 * stack->count + 1) * d + 2 * longest * half;
    LODE_TRY(LODE_NEW_RAW(&stack->private_memory, stack->private_count,
                          "norm weights and rotary tables"));
    lode_real_t *cosines = stack->private_memory, *sines = cosines + longest * half;
    lode_real_t *next = sines + longest * half;
    lode_rope_table(longest, architecture->head_dim, architecture->rotary.theta, cosines, sines);
    for (int64_t i = 0; i < stack->count; i++) {
        lode_layer_weights_t weights;
        LODE_TRY(lode_checkpoint_layer(checkpoint, stack->first_layer + i, &weights));
        layer_set(&stack->layer[i], architecture, &weights, &next);
        stack->layer[i].cosines = cosines;
        stack->layer[i].sines = sines;
        stack->whole[i] = stack->layer[i];
    }
    if (stack->embedding)
        LODE_TRY(lode_checkpoint_embedding(checkpoint, &stack->embedding_table));
    if (stack->head) {
        lode_tensor_t head, norm;
        LODE_TRY(lode_checkpoint_head(checkpoint, &head));
        LODE_TRY(lode_checkpoint_final_norm(checkpoint, &norm));
        stack->head_weight = lode_weight_of(&head);
        stack->final_norm = take_vector(&next, &norm, d);
    }
    return LODE_OK;
}

lode_status_t lode_stack_create(lode_stack_t **out, lode_checkpoint_t *checkpoint,
                                const lode_layout_t *layout, int64_t max_tokens, int64_t longest,
                                int threads) {
    const lode_architecture_t *architecture = lode_checkpoint_architecture(checkpoint);
    LODE_TRY(LODE_NEW(out, 1, "layers"));
    lode_stack_t *stack = *out;
    stack->d = architecture->hidden;
    stack->vocab = architecture->vocab;
    stack->eps = architecture->norm_eps;
    stack->first_layer = layout->first_layer;
    stack->count = layout->layer_end - layout->first_layer;
    stack->embedding = layout->embedding;
    stack->head = layout->head;
    lode_status_t status = stack_fill(stack, checkpoint, longest);
    if (status == LODE_OK) {
        stack->workspace_count = workspace_needed(stack, max_tokens, longest, threads);
        status = LODE_NEW_RAW(&stack->workspace, stack->workspace_count, "work space");
    }
    if (status != LODE_OK)
        lode_stack_destroy(out);
    return status;
}

void lode_stack_destroy(lode_stack_t **stack) {
    if (!*stack)
        return;
    free((*stack)->layer);
    free((*stack)->whole);
    free((*stack)->private_memory);
    free((*stack)->workspace);
    free(*stack);
    *stack = NULL;
}

void lode_stack_edit(lode_stack_t *stack, int64_t index, const lode_ffn_edit_t *edit) {
    LODE_ASSERT(index >= 0 && index < stack->count);
    lode_layer_t *layer = &stack->layer[index];
    *layer = stack->whole[index];
    if (!edit)
        return;
    if (edit->channels) {
        layer->m = edit->count;
        layer->gate.row_index = layer->up.row_index = layer->down.col_index = edit->channels;
        layer->gate.out = layer->up.out = layer->down.in = edit->count;
    }
    if (edit->down.data) {
        layer->down = lode_weight_of(&edit->down);
        LODE_ASSERT(layer->down.out == layer->d && layer->down.in == layer->m);
    }
    layer->bias = edit->bias;
}

lode_status_t lode_stack_embed(const lode_stack_t *stack, int64_t tokens, const int32_t *ids,
                               lode_real_t *x) {
    const lode_tensor_t *table = &stack->embedding_table;
    const size_t row = (size_t)stack->d * lode_dtype_size(table->dtype);
    for (int64_t t = 0; t < tokens; t++) {
        if (ids[t] < 0 || ids[t] >= stack->vocab)
            return lode_fail(LODE_ERR_FORMAT,
                             "token id %d is outside the model's vocabulary of %lld; the folder's "
                             "tokenizer.json belongs to another model",
                             (int)ids[t], (long long)stack->vocab);
        lode_convert(x + t * stack->d, (const char *)table->data + (size_t)ids[t] * row,
                     table->dtype, stack->d);
    }
    return LODE_OK;
}
