/* kernels/embedding: gradients of tables whose rows are looked up. Rows are summed over the tokens
 * in double, in their order, so that the bits do not depend on the threads. Everything here is
 * Local. */
#ifndef LODE_KERNELS_EMBEDDING_H
#define LODE_KERNELS_EMBEDDING_H

#include "kernels/linear.h"
#include "kernels/sequences.h"

/* dE_i += scale · Σ dx_t over the tokens with ids_t = i: of the table in x_t = scale · E_ids_t.
 * gradient of [vocab, d], not transposed; ids [tokens] within the vocabulary, dx [tokens, d],
 * order [2·tokens] room. */
void lode_embedding_gradient(const lode_gradient_t *gradient, int64_t d, int64_t tokens,
                             const int32_t *ids, double scale, const lode_real_t *dx,
                             int32_t *order);

/* dP_p += Σ dx_t over the tokens at position p of their sequence. gradient of [positions, d], not
 * transposed, positions at least the longest sequence's; dx [tokens, d]. */
void lode_positions_gradient(const lode_gradient_t *gradient, int64_t d,
                             const lode_sequences_t *sequences, const lode_real_t *dx);

#endif
