#include "transformer/stack.h"

#include <stdlib.h>

#include "base/memory.h"
#include "kernels/embedding.h"
#include "kernels/loss.h"
#include "kernels/rope.h"

static int64_t max2(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t stack_bytes(int64_t layers, int64_t reals) {
    return (int64_t)sizeof(lode_stack_t) + 2 * layers * (int64_t)sizeof(lode_layer_t) +
           reals * (int64_t)sizeof(lode_real_t);
}

int64_t lode_stack_bytes(const lode_stack_t *stack) {
    return stack ? stack_bytes(stack->count, stack->private_count + stack->workspace_count) : 0;
}

/* A vector as it lies where reals can be read there, else converted into the next free private
 * memory; NULL where the model has none, and in an outline, where `next` is NULL. */
static const lode_real_t *take_vector(lode_real_t **next, const lode_tensor_t *tensor) {
    if (!tensor->data || !next)
        return NULL;
    if (sizeof(lode_real_t) == sizeof(float) && tensor->dtype == LODE_DTYPE_F32 &&
        (uintptr_t)tensor->data % sizeof(float) == 0)
        return (const lode_real_t *)tensor->data;
    lode_real_t *vector = *next;
    lode_convert(vector, tensor->data, tensor->dtype, tensor->shape[0]);
    *next += tensor->shape[0];
    return vector;
}

/* A norm of hidden states. */
static lode_norm_t norm_of(const lode_architecture_t *architecture, bool applied,
                           const lode_tensor_t *weight, const lode_tensor_t *bias,
                           lode_real_t **next) {
    return (lode_norm_t){.kind = applied ? architecture->norm : LODE_NORM_NONE,
                         .width = architecture->hidden,
                         .eps = architecture->norm_eps,
                         .offset = architecture->norm_offset,
                         .weight = applied ? take_vector(next, weight) : NULL,
                         .bias = applied ? take_vector(next, bias) : NULL};
}

/* A norm of queries or keys, `heads` of them a token. */
static lode_norm_t head_norm_of(const lode_architecture_t *architecture, int64_t heads,
                                const lode_tensor_t *weight, lode_real_t **next) {
    const lode_qk_norm_t kind = architecture->qk_norm;
    const int64_t width = architecture->head_dim * (kind == LODE_QK_NORM_HEAD ? 1 : heads);
    return (lode_norm_t){.kind = kind == LODE_QK_NORM_NONE ? LODE_NORM_NONE : LODE_NORM_RMS,
                         .width = width,
                         .eps = architecture->norm_eps,
                         .weight = take_vector(next, weight)};
}

static lode_weight_t weight_of(const lode_tensor_t *matrix, const lode_tensor_t *bias,
                               lode_real_t **next) {
    lode_weight_t weight = lode_weight_of(matrix);
    weight.bias = take_vector(next, bias);
    return weight;
}

static void layer_set(lode_layer_t *layer, const lode_architecture_t *architecture, int64_t index,
                      const lode_layer_weights_t *w, lode_real_t **next) {
    const lode_tensor_t none = {0};
    *layer = (lode_layer_t){.d = architecture->hidden,
                            .m = architecture->intermediate,
                            .attention = {.heads = architecture->heads,
                                          .kv_heads = architecture->kv_heads,
                                          .head_dim = architecture->head_dim,
                                          .scale = architecture->attention_scale,
                                          .cap = architecture->attention_cap,
                                          .window = lode_architecture_window(architecture, index)},
                            .clip = architecture->clip_qkv,
                            .activation = architecture->activation};
    layer->attention_norm = norm_of(architecture, architecture->attention_norm, &w->attention_norm,
                                    &w->attention_norm_bias, next);
    layer->attention_post_norm = norm_of(architecture, architecture->attention_post_norm,
                                         &w->attention_post_norm, &none, next);
    layer->ffn_norm =
        norm_of(architecture, architecture->ffn_norm, &w->ffn_norm, &w->ffn_norm_bias, next);
    layer->ffn_post_norm =
        norm_of(architecture, architecture->ffn_post_norm, &w->ffn_post_norm, &none, next);
    layer->q_norm = head_norm_of(architecture, architecture->heads, &w->q_norm, next);
    layer->k_norm = head_norm_of(architecture, architecture->kv_heads, &w->k_norm, next);
    layer->q = weight_of(&w->q, &w->q_bias, next);
    layer->k = weight_of(&w->k, &w->k_bias, next);
    layer->v = weight_of(&w->v, &w->v_bias, next);
    layer->o = weight_of(&w->o, &w->o_bias, next);
    if (architecture->gated)
        layer->gate = weight_of(&w->gate, &w->gate_bias, next);
    layer->up = weight_of(&w->up, &w->up_bias, next);
    layer->down = weight_of(&w->down, &w->down_bias, next);
}

/* Whether the family stores a role as a vector, which is converted; matrices are not. */
static bool is_vector(const lode_architecture_t *architecture, lode_role_t role) {
    return lode_family(architecture->model_type)->tensors[role].shape[1] == LODE_EXTENT_NONE;
}

/* A tensor of a role that stands for the real one in sizes. */
static lode_tensor_t outline_of(const lode_architecture_t *architecture, lode_role_t role,
                                lode_dtype_t dtype) {
    static const float something[1];
    const lode_extent_t *shape = lode_family(architecture->model_type)->tensors[role].shape;
    if (!lode_family_has(architecture, role))
        return (lode_tensor_t){0};
    const int64_t columns = lode_family_extent(architecture, shape[1]);
    return (lode_tensor_t){.data = something,
                           .dtype = dtype,
                           .rank = is_vector(architecture, role) ? 1 : 2,
                           .shape = {lode_family_extent(architecture, shape[0]), columns},
                           .pitch = columns};
}

void lode_stack_outline(lode_layer_t *layer, const lode_architecture_t *architecture, int64_t index,
                        lode_dtype_t dtype) {
    lode_layer_weights_t weights;
    for (int role = 0; role < LODE_LAYER_ROLES; role++)
        *lode_layer_weights_role(&weights, (lode_role_t)role) =
            outline_of(architecture, (lode_role_t)role, dtype);
    layer_set(layer, architecture, index, &weights, NULL);
}

/* Reals that one layer's computation takes, edited or not. */
static int64_t layer_workspace(const lode_layer_t *layer, int64_t max_tokens, int64_t longest,
                               int threads) {
    /* An edited layer converts even weights that are otherwise read in place, so room is made for
     * codecs on everything, the largest there can be. A replaced down projection has the shape of a
     * selection, whether it can be read in place or not. */
    lode_layer_t coded = *layer;
    static const lode_codec_t any;
    for (int i = 0; i < LODE_MATRICES; i++)
        lode_layer_matrix(&coded, (lode_layer_matrix_t)i)->codec = &any;
    return lode_layer_workspace(&coded, max_tokens, longest, threads);
}

static int64_t workspace_needed(const lode_stack_t *stack, int64_t max_tokens, int64_t longest,
                                int threads) {
    int64_t most = stack->head ? lode_loss_workspace(&stack->head_weight) : 0;
    if (stack->positions.data)
        most = max2(most, stack->d); /* a row of them */
    for (int64_t i = 0; i < stack->count; i++)
        most = max2(most, layer_workspace(&stack->layer[i], max_tokens, longest, threads));
    return most;
}

int64_t lode_stack_memory(const lode_architecture_t *architecture, const lode_layout_t *layout,
                          lode_dtype_t dtype, int64_t max_tokens, int64_t longest, int threads) {
    const int64_t count = layout->layer_end - layout->first_layer;
    if (layout->replica < 0)
        return 0;
    const lode_rope_t rope = lode_rope_outline(&architecture->rotary, longest);
    int64_t reals = lode_rope_memory(&architecture->rotary, longest), work = 0;
    for (int role = 0; role < LODE_LAYER_ROLES; role++)
        if (is_vector(architecture, (lode_role_t)role))
            reals += count * lode_family_elements(architecture, (lode_role_t)role);
    if (layout->head) {
        const lode_role_t role =
            lode_family_has(architecture, LODE_ROLE_HEAD) ? LODE_ROLE_HEAD : LODE_ROLE_EMBEDDING;
        const lode_tensor_t head = outline_of(architecture, role, dtype);
        const lode_weight_t weight = lode_weight_of(&head);
        work = lode_loss_workspace(&weight);
        reals += lode_family_elements(architecture, LODE_ROLE_FINAL_NORM) +
                 lode_family_elements(architecture, LODE_ROLE_FINAL_NORM_BIAS);
    }
    if (layout->embedding && architecture->learned_positions)
        work = max2(work, architecture->hidden);
    for (int64_t i = 0; i < count; i++) {
        lode_layer_t layer;
        lode_stack_outline(&layer, architecture, layout->first_layer + i, dtype);
        layer.rope = rope;
        work = max2(work, layer_workspace(&layer, max_tokens, longest, threads));
    }
    return stack_bytes(count, reals + work);
}

/* Vectors are converted, matrices are not. */
static int64_t vector_reals(const lode_tensor_t *tensor) {
    return tensor->data && tensor->rank == 1 ? tensor->shape[0] : 0;
}

/* What the stack maps beside its layers. */
typedef struct ends {
    lode_tensor_t head, norm, norm_bias;
} ends_t;

/* Maps everything and says how many reals of it are converted; *weights [count]. */
static lode_status_t map_weights(lode_stack_t *stack, lode_checkpoint_t *checkpoint,
                                 lode_layer_weights_t *weights, ends_t *ends, int64_t *reals) {
    *reals = 0;
    for (int64_t i = 0; i < stack->count; i++) {
        LODE_TRY(lode_checkpoint_layer(checkpoint, stack->first_layer + i, &weights[i]));
        for (int role = 0; role < LODE_LAYER_ROLES; role++)
            *reals += vector_reals(lode_layer_weights_role(&weights[i], (lode_role_t)role));
    }
    if (stack->embedding) {
        LODE_TRY(lode_checkpoint_embedding(checkpoint, &stack->embedding_table));
        LODE_TRY(lode_checkpoint_positions(checkpoint, &stack->positions));
    }
    if (stack->head) {
        LODE_TRY(lode_checkpoint_head(checkpoint, &ends->head));
        LODE_TRY(lode_checkpoint_final_norm(checkpoint, &ends->norm));
        LODE_TRY(lode_checkpoint_final_norm_bias(checkpoint, &ends->norm_bias));
        *reals += vector_reals(&ends->norm) + vector_reals(&ends->norm_bias);
    }
    return LODE_OK;
}

static lode_status_t stack_fill(lode_stack_t *stack, lode_checkpoint_t *checkpoint,
                                lode_layer_weights_t *weights, int64_t longest) {
    const lode_architecture_t *architecture = lode_checkpoint_architecture(checkpoint);
    const int64_t tables = lode_rope_memory(&architecture->rotary, longest);
    ends_t ends = {0};
    LODE_TRY(map_weights(stack, checkpoint, weights, &ends, &stack->private_count));
    stack->private_count += tables;
    LODE_TRY(LODE_NEW_RAW(&stack->private_memory, stack->private_count,
                          "norm weights, biases and rotary tables"));
    lode_real_t *next = stack->private_memory + tables;
    const lode_rope_t rope =
        lode_rope_create(&architecture->rotary, longest, stack->private_memory);
    for (int64_t i = 0; i < stack->count; i++) {
        layer_set(&stack->layer[i], architecture, stack->first_layer + i, &weights[i], &next);
        stack->layer[i].rope = rope;
        stack->whole[i] = stack->layer[i];
    }
    if (stack->head) {
        stack->head_weight = lode_weight_of(&ends.head);
        stack->final_norm = norm_of(architecture, true, &ends.norm, &ends.norm_bias, &next);
    }
    return LODE_OK;
}

lode_status_t lode_stack_create(lode_stack_t **out, lode_checkpoint_t *checkpoint,
                                const lode_layout_t *layout, int64_t max_tokens, int64_t longest,
                                int threads) {
    const lode_architecture_t *architecture = lode_checkpoint_architecture(checkpoint);
    LODE_TRY(LODE_NEW(out, 1, "layers"));
    lode_stack_t *stack = *out;
    stack->architecture = architecture;
    stack->d = architecture->hidden;
    stack->vocab = architecture->vocab;
    stack->logit_cap = architecture->logit_cap;
    stack->embedding_scale = (lode_real_t)architecture->embedding_scale;
    stack->first_layer = layout->first_layer;
    stack->count = layout->layer_end - layout->first_layer;
    stack->embedding = layout->embedding;
    stack->head = layout->head;
    lode_layer_weights_t *weights = NULL;
    lode_status_t status = LODE_NEW(&stack->layer, stack->count, "layers");
    if (status == LODE_OK)
        status = LODE_NEW(&stack->whole, stack->count, "layers");
    if (status == LODE_OK)
        status = LODE_NEW(&weights, stack->count, "layers");
    if (status == LODE_OK)
        status = stack_fill(stack, checkpoint, weights, longest);
    free(weights);
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

void lode_layer_edit(lode_layer_t *layer, const lode_layer_edit_t *edit) {
    if (edit->channels) {
        layer->m = edit->count;
        layer->gate.row_index = layer->up.row_index = layer->down.col_index = edit->channels;
        layer->gate.out = layer->up.out = layer->down.in = edit->count;
    }
    if (edit->down.data) {
        const lode_real_t *bias = layer->down.bias;
        layer->down = lode_weight_of(&edit->down);
        layer->down.bias = bias;
        LODE_ASSERT(layer->down.out == layer->d && layer->down.in == layer->m);
    }
    layer->bias = edit->bias;
    /* Codecs that change nothing give the bits that there are without. */
    for (int i = 0; i < LODE_MATRICES; i++)
        if (edit->codec[i] && lode_codec_changes(edit->codec[i]))
            lode_layer_matrix(layer, (lode_layer_matrix_t)i)->codec = edit->codec[i];
    for (int i = 0; i < LODE_INPUTS; i++)
        if (edit->input[i] && lode_input_changes(edit->input[i]))
            layer->input[i] = edit->input[i];
    layer->restore = edit->restore;
    layer->restore_count = edit->restore_count;
}

void lode_stack_edit(lode_stack_t *stack, int64_t index, const lode_layer_edit_t *edit) {
    LODE_ASSERT(index >= 0 && index < stack->count);
    stack->layer[index] = stack->whole[index];
    if (edit)
        lode_layer_edit(&stack->layer[index], edit);
}

/* x [d] = the row `row` of the table. */
static void read_row(const lode_tensor_t *table, int64_t row, lode_real_t *x) {
    const size_t bytes = (size_t)table->pitch * lode_dtype_size(table->dtype);
    lode_convert(x, (const char *)table->data + (size_t)row * bytes, table->dtype, table->shape[1]);
}

/* Adds the learned position of each token of a sequence; `row` [d] is room for one. */
static void add_positions(const lode_stack_t *stack, int64_t tokens, lode_real_t *x,
                          lode_real_t *row) {
    for (int64_t t = 0; t < tokens; t++) {
        read_row(&stack->positions, t, row);
        for (int64_t i = 0; i < stack->d; i++)
            x[t * stack->d + i] += row[i];
    }
}

lode_status_t lode_stack_embed(const lode_stack_t *stack, const lode_sequences_t *sequences,
                               const int32_t *ids, lode_real_t *x) {
    const int64_t d = stack->d, tokens = sequences->offsets[sequences->count];
    for (int64_t t = 0; t < tokens; t++) {
        if (ids[t] < 0 || ids[t] >= stack->vocab)
            return lode_fail(LODE_ERR_FORMAT,
                             "token id %d is outside the model's vocabulary of %lld; the folder's "
                             "tokenizer.json belongs to another model",
                             (int)ids[t], (long long)stack->vocab);
        read_row(&stack->embedding_table, ids[t], x + t * d);
        for (int64_t i = 0; stack->embedding_scale != 1 && i < d; i++)
            x[t * d + i] *= stack->embedding_scale;
    }
    for (int64_t s = 0; stack->positions.data && s < sequences->count; s++) {
        const int64_t first = sequences->offsets[s], length = sequences->offsets[s + 1] - first;
        if (length > stack->positions.shape[0])
            return lode_fail(LODE_ERR_CONFIG,
                             "a sequence of %lld tokens is longer than the model's %lld learned "
                             "positions; lower the length",
                             (long long)length, (long long)stack->positions.shape[0]);
        add_positions(stack, length, x + first * d, stack->workspace);
    }
    return LODE_OK;
}

void lode_stack_embed_gradient(const lode_stack_t *stack, const lode_stack_gradient_t *gradient,
                               const lode_sequences_t *sequences, const int32_t *ids,
                               const lode_real_t *dx, int32_t *order) {
    const int64_t tokens = sequences->offsets[sequences->count];
    if (gradient->embedding.data)
        lode_embedding_gradient(&gradient->embedding, stack->d, tokens, ids,
                                (double)stack->embedding_scale, dx, order);
    if (gradient->positions.data)
        lode_positions_gradient(&gradient->positions, stack->d, sequences, dx);
}
