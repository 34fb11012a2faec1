/* kernels/glu: the gated unit of the feed-forward block, SwiGLU (Shazeer 2020).
 * Everything here is Local. */
#ifndef LODE_KERNELS_GLU_H
#define LODE_KERNELS_GLU_H

#include "kernels/real.h"

/* u = silu(gate) ⊙ up, silu(z) = z·σ(z). All [count]; u may be neither gate nor up. */
void lode_swiglu_forward(int64_t count, const lode_real_t *gate, const lode_real_t *up,
                         lode_real_t *u);

/* dgate = du ⊙ up ⊙ σ(gate)(1 + gate(1 − σ(gate))), dup = du ⊙ silu(gate).
 * All [count]; dgate may be gate and dup may be up. */
void lode_swiglu_backward(int64_t count, const lode_real_t *du, const lode_real_t *gate,
                          const lode_real_t *up, lode_real_t *dgate, lode_real_t *dup);

#endif
