/* stages/synthesize/weights: random weights that a model computes with as with its own: hidden
 * states and logits stay of the order of one.
 *
 * A tensor's elements depend on the seed, its name, its kind and their places alone, never on the
 * type they are rounded to, on threads or on how a tensor is cut into pieces. They are uniform:
 * matrices with mean 0 and variance 1 / columns, factors of norms around 1 (or 0 where the model
 * adds 1 itself), and biases around 0, both with a deviation of 0.1. Everything here is Local.
 */
#ifndef LODE_STAGES_SYNTHESIZE_WEIGHTS_H
#define LODE_STAGES_SYNTHESIZE_WEIGHTS_H

#include "model/family.h"
#include "model/tensor.h"

/* One tensor: element i is centre + scale · (a uniform number in (−1, 1)). */
typedef struct lode_random_weights {
    uint64_t key;
    float centre, scale;
} lode_random_weights_t;

/* name: in, the tensor's, which the stream is named after. */
lode_random_weights_t lode_random_weights(const lode_architecture_t *architecture, lode_role_t role,
                                          int64_t seed, const char *name);

/* out [count] elements of `dtype`: those of the tensor from `first` on, a multiple of 4. On as many
 * threads as OpenMP has. */
void lode_random_weights_fill(const lode_random_weights_t *weights, lode_dtype_t dtype,
                              int64_t first, int64_t count, void *out);

#endif
