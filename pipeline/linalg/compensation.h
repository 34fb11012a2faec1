/* linalg/compensation: new down projections for pruned feed-forward blocks, by least squares.
 *
 * Of the channels of a layer K are kept and R removed. With C = E[u uᵀ] over the calibration
 * tokens,
 *
 *   Wdown'[:,K] = Wdown[:,K] + Wdown[:,R]·C[R,K]·(C[K,K] + λI)⁻¹,  λ = ridge × mean diagonal of
 * C[K,K]
 *
 * minimises E‖Wdown·u − Wdown'·u_K‖² + λ‖Wdown' − Wdown[:,K]‖²: the ridge pulls towards the weights
 * that are there, not towards zero, so that a large one leaves plain pruning.
 */
#ifndef LODE_LINALG_COMPENSATION_H
#define LODE_LINALG_COMPENSATION_H

#include <stdint.h>

#include "base/error.h"
#include "linalg/cholesky.h"
#include "linalg/matrix.h"

/* Computes Wdown'[:,K].
 *   out     [d, kept] out, kept = number of channels with keep = 1, possibly 0
 *   moment  [m, m] in, C, both triangles
 *   down    [d, m] in, Wdown; all three matrices on one grid and of one block
 *   keep    [m] in, u8, 1 = kept, the same on all ranks
 *   ridge   relative, ≥ 0
 *   used    out, the λ that it came to; 0 where nothing was removed or nothing is kept, for then
 *           there is nothing to solve
 * Errors: LODE_ERR_NUMERIC naming `what` (C is not finite or cannot be factored), LODE_ERR_MEMORY.
 * Collective. */
LODE_MUST_USE lode_status_t lode_compensation_solve(lode_matrix_t *out, const lode_matrix_t *moment,
                                                    const lode_matrix_t *down, const uint8_t *keep,
                                                    double ridge, lode_ridge_t *used,
                                                    const char *what);

/* Elements of all matrices that exist at once during a solve with m channels and hidden size d,
 * moment, down and out included, for plans. Local. */
int64_t lode_compensation_elements(int64_t m, int64_t d);

#endif
