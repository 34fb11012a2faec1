/* training/parameters: the tensors of a model that one rank trains, as one flat array.
 *
 * A rank has the tensors of its layers, the embedding's rank also those of the embedding, the
 * head's rank also the final norm and the head; replicas of a stage have the same. They lie one
 * after the other in the order of the model's inventory, in their stored shapes (fused and
 * transposed ones as the family stores them), each from a multiple of 16 elements on; the elements
 * between them are zero and stay so. Gradients and moments are arrays of the same shape.
 *
 * A tied embedding is a tensor of both ends. Where these are different ranks, the head's has a copy
 * of its own, which is not counted. Where they are one rank, there is one array of weights; but
 * gradients have room for the head's share apart, after all tensors, since sums must have the same
 * bits wherever the head lies. Everything here is Local.
 */
#ifndef LODE_TRAINING_PARAMETERS_H
#define LODE_TRAINING_PARAMETERS_H

#include "model/checkpoint.h"
#include "model/inventory.h"
#include "transformer/layout.h"

/* What decides the decay of a tensor's weights. */
typedef enum lode_parameter_kind {
    LODE_PARAMETER_MATRIX,    /* of the layers */
    LODE_PARAMETER_EMBEDDING, /* embedding, learned positions, head */
    LODE_PARAMETER_VECTOR,    /* norms and biases */
} lode_parameter_kind_t;

typedef struct lode_parameter {
    const char *name; /* with the family's prefix; the inventory's */
    lode_role_t role; /* of its first part */
    int64_t layer;    /* −1: of none */
    int rank;         /* extents */
    int64_t shape[2]; /* as stored; shape[1] is 0 in vectors */
    int64_t elements; /* product of the extents */
    int64_t offset;   /* in the flat arrays */
    int64_t index;    /* in the model's inventory */
    lode_parameter_kind_t kind;
    bool counted; /* false: the head's copy of a tied embedding */
} lode_parameter_t;

typedef struct lode_parameters {
    const lode_architecture_t *architecture; /* a copy of the caller's */
    lode_inventory_t inventory;              /* of the whole model, F32 */
    int64_t first_layer, layers;             /* that the rank has */
    bool embedding, head;                    /* whether it has them */
    int64_t count;
    lode_parameter_t *list; /* [count] ascending by offset and by index */
    int64_t elements;       /* of weights and moments, padding included; 0 where the rank idles */
    int64_t gradients;      /* of gradients: `elements`, and the head's share where it is apart */
    int64_t tied;           /* a tied embedding's place in the list, −1: none on this rank */
    float *weights;         /* [elements] flat, the masters */
    lode_checkpoint_t *checkpoint; /* whose tensors these are, for lode_stack_create; it changes
                                    * with them */
} lode_parameters_t;

/* Lists the tensors of the layout's rank, all weights 0. *out is for lode_parameters_destroy, NULL
 * on failure. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_parameters_create(lode_parameters_t **out,
                                                   const lode_architecture_t *architecture,
                                                   const lode_layout_t *layout);
void lode_parameters_destroy(lode_parameters_t **parameters);

/* `elements` and `gradients` of the above, without making them. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_parameters_size(const lode_architecture_t *architecture,
                                                 const lode_layout_t *layout, int64_t *elements,
                                                 int64_t *gradients);

/* The weights from a checkpoint of the same architecture, in any dtype, read tensor by tensor.
 * Errors: what reading a checkpoint can give; the weights are then undefined. */
LODE_MUST_USE lode_status_t lode_parameters_load(lode_parameters_t *parameters,
                                                 lode_checkpoint_t *checkpoint);

/* Random weights that depend on the seed, a tensor's name and an element's place in it alone:
 * matrices, embedding, positions and head normal with this deviation, where `depth` is true o and
 * down with it over √(2L) (GPT-2's rule); factors of norms 1, or 0 where the model adds 1; biases
 * 0. */
void lode_parameters_initialise(lode_parameters_t *parameters, int64_t seed, double deviation,
                                bool depth);

#endif
