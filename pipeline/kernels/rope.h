/* kernels/rope: rotary position embedding (Su et al. 2021) in the half-split pairing of the Hugging
 * Face Llama: dimension i turns with dimension i + head_dim/2. Everything here is Local. */
#ifndef LODE_KERNELS_ROPE_H
#define LODE_KERNELS_ROPE_H

#include <stdbool.h>

#include "kernels/real.h"

/* Fills cosines and sines [positions, head_dim/2] of the angles position · theta^(−2i/head_dim),
 * computed in double. head_dim is even. */
void lode_rope_table(int64_t positions, int64_t head_dim, double theta, lode_real_t *cosines,
                     lode_real_t *sines);

/* Turns x [tokens, heads, head_dim] in place; token t is at position t (one sequence). `inverse`
 * turns back, which is also the gradient: the rotation is orthogonal. */
void lode_rope_apply(int64_t tokens, int64_t heads, int64_t head_dim, const lode_real_t *cosines,
                     const lode_real_t *sines, bool inverse, lode_real_t *x);

#endif
