/* kernels/activation: the units of the feed-forward block, gated (SwiGLU and its kin, Shazeer 2020)
 * or not. Everything here is Local. */
#ifndef LODE_KERNELS_ACTIVATION_H
#define LODE_KERNELS_ACTIVATION_H

#include "kernels/real.h"
#include "model/architecture.h"

/* u = act(gate) ⊙ up, or act(up) where gate is NULL. All [count]; u may be neither. */
void lode_activation_forward(lode_activation_t activation, int64_t count, const lode_real_t *gate,
                             const lode_real_t *up, lode_real_t *u);

/* dgate = du ⊙ up ⊙ act'(gate), dup = du ⊙ act(gate); or dup = du ⊙ act'(up) where gate is NULL,
 * and dgate is not used. All [count]; dgate may be gate and dup may be up. */
void lode_activation_backward(lode_activation_t activation, int64_t count, const lode_real_t *du,
                              const lode_real_t *gate, const lode_real_t *up, lode_real_t *dgate,
                              lode_real_t *dup);

#endif
