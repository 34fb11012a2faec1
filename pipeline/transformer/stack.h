/* transformer/stack: the part of a model that one rank owns, ready to be computed with.
 *
 * Weights stay mapped in the checkpoint. Private are only the rotary tables, the work space, and
 * the vectors (norm weights and biases) that cannot be read as they lie, those of another type than
 * F32; all others follow whatever becomes of the checkpoint's bytes. Everything here is Local.
 */
#ifndef LODE_TRANSFORMER_STACK_H
#define LODE_TRANSFORMER_STACK_H

#include "kernels/codec.h"
#include "kernels/layer.h"
#include "model/checkpoint.h"
#include "transformer/layout.h"

typedef struct lode_stack {
    const lode_architecture_t *architecture; /* the checkpoint's */
    int64_t d, vocab;
    int64_t first_layer, count; /* layers first_layer … first_layer + count − 1 of the model */
    lode_layer_t *layer;        /* [count] as they are computed */
    lode_layer_t *whole;        /* [count] as the checkpoint has them */
    bool embedding, head;       /* whether the following are set */
    lode_tensor_t embedding_table; /* [vocab, d] */
    lode_real_t embedding_scale;   /* its factor */
    lode_tensor_t positions;       /* learned, [positions, d]; data NULL without */
    lode_weight_t head_weight;     /* [vocab, d] */
    lode_norm_t final_norm;        /* before the head */
    double logit_cap;              /* soft cap of the logits, 0 for none */
    lode_real_t *private_memory;   /* rotary tables, and room for all norm weights and biases */
    int64_t private_count;         /* reals */
    lode_real_t *workspace;        /* for the kernels */
    int64_t workspace_count;       /* reals */
} lode_stack_t;

/* What layer `index` is like, without its weights: those that it has are not NULL, have their
 * shapes and `dtype`, and are not to be read. For sizes. */
void lode_stack_outline(lode_layer_t *layer, const lode_architecture_t *architecture, int64_t index,
                        lode_dtype_t dtype);

/* Private bytes of the stack that lode_stack_create makes of a checkpoint whose matrices are all of
 * `dtype` and aligned to it, with room for every edit. 0 where the layout's rank idles. */
int64_t lode_stack_memory(const lode_architecture_t *architecture, const lode_layout_t *layout,
                          lode_dtype_t dtype, int64_t max_tokens, int64_t longest, int threads);

/* The same of one that exists; 0 for NULL. */
int64_t lode_stack_bytes(const lode_stack_t *stack);

/* Maps the weights that `layout` gives this rank and allocates the work space for micro-batches of
 * up to `max_tokens` tokens with sequences of up to `longest`, on `threads` threads.
 * *stack is the caller's; the checkpoint stays open until after lode_stack_destroy. Errors:
 * LODE_ERR_MEMORY and what reading the checkpoint can give. */
LODE_MUST_USE lode_status_t lode_stack_create(lode_stack_t **stack, lode_checkpoint_t *checkpoint,
                                              const lode_layout_t *layout, int64_t max_tokens,
                                              int64_t longest, int threads);
void lode_stack_destroy(lode_stack_t **stack);

/* What a variant of the model changes in a layer. The feed-forward block's output u·Wdownᵀ + b + c,
 * which the post-norm takes where the model has one, has the kept channels alone, another Wdown, an
 * addition c; the checkpoint's own bias b stays. All matrices may be quantized and single weights
 * changed, the inputs of the linear layers quantized, and super activations put back. {0} changes
 * nothing. */
typedef struct lode_layer_edit {
    const int32_t *channels; /* [count] kept, ascending; NULL: all m of them */
    int64_t count;           /* may be 0; not read where channels is NULL */
    lode_tensor_t down; /* [d, count], instead of the checkpoint's columns of the kept channels;
                           data NULL: those */
    const lode_real_t *bias;                      /* c [d]; NULL: none */
    const lode_codec_t *codec[LODE_MATRICES];     /* of the matrices as used; NULL: as stored */
    const lode_input_codec_t *input[LODE_INPUTS]; /* NULL: as they are; forward passes only */
    const lode_held_t *restore; /* [restore_count] of Wdown as used; forward passes only */
    int64_t restore_count;
} lode_layer_edit_t;

/* Makes a layer as the checkpoint has it, or an outline of one, what `edit` says. */
void lode_layer_edit(lode_layer_t *layer, const lode_layer_edit_t *edit);

/* Computes the stack's layer `index` as `edit` says from now on, at its smaller size and not
 * masked; NULL restores the checkpoint's. The arrays that the edit points at are not owned and must
 * stay while it is in use. */
void lode_stack_edit(lode_stack_t *stack, int64_t index, const lode_layer_edit_t *edit);

/* Where the gradients of a stack's weights are added; places that are NULL are not wanted, or not
 * of this rank. Nothing is owned. The embedding and the head of a tied model may be one array,
 * where one rank has both; bits that do not depend on the layout take two, which are added at the
 * end. */
typedef struct lode_stack_gradient {
    lode_layer_gradient_t *layer;               /* [count] */
    lode_gradient_t embedding, positions, head; /* of the tables as they are stored */
    lode_real_t *final_norm, *final_norm_bias;  /* [d] */
} lode_stack_gradient_t;

/* Adds the gradients of the embedding and of the learned positions, as far as they are wanted,
 * given that with respect to x of lode_stack_embed: dx [tokens, d]; order [2·tokens] is room. */
void lode_stack_embed_gradient(const lode_stack_t *stack, const lode_stack_gradient_t *gradient,
                               const lode_sequences_t *sequences, const int32_t *ids,
                               const lode_real_t *dx, int32_t *order);

/* x[t] = scale · embedding[ids[t]], plus the position's row where positions are learned; ids
 * [tokens], x [tokens, d] out, tokens those of the sequences. Errors: LODE_ERR_FORMAT for an id
 * outside the vocabulary, LODE_ERR_CONFIG for a sequence longer than the learned positions. */
LODE_MUST_USE lode_status_t lode_stack_embed(const lode_stack_t *stack,
                                             const lode_sequences_t *sequences, const int32_t *ids,
                                             lode_real_t *x);

#endif
