/* score/bits: how many bits each FFN channel gets under a budget, weighted by loss proxy.
 *
 * Let a channel's contribution u_j·v_j be off by a relative error r, independent of the token. To
 * second order, with the curvature by the empirical Fisher information as everywhere in LP, the
 * loss changes by ½·E_t[(g_tj·u_tj·r)²] = ½·E_t[q_tj²]·r² = LP_j·r²; the first-order term g·u·r
 * vanishes on average where rounding has no preferred sign. The contribution is a product of what
 * the gate row, the up row and the down column give, whose rounding errors are independent, so that
 * r² is ε_j(b), the sum of ‖Ŵ − W‖²/‖W‖² over the three, each quantized at b bits by its own scale.
 * (Behind the activation, and for one token, a row's error is not exactly relative: this is the
 * mean over directions of the input.) So what is minimised is Σ_j LP_j·ε_j(b_j), b_j ∈ {2, …, 8,
 * 16} with ε_j(16) = 0, under Σ_j b_j ≤ average·channels: every channel of a model has as many
 * weights.
 *
 * The minimum is approached by marginal gains: all channels start at 2 bits; again and again the
 * step along the lower convex hull of some channel's (bits, LP·ε) is taken that gains most per bit,
 * the lower channel first among equal gains, and of one channel the shorter step. A step that the
 * rest of the budget has no room for is shortened to the best one that it has room for, or left
 * out. Everything here is Local.
 */
#ifndef LODE_SCORE_BITS_H
#define LODE_SCORE_BITS_H

#include <stdint.h>

#include "base/error.h"

/* What there is to choose from: level 0 … 6 is 2 … 8 bits, level 7 is 16, as stored. */
enum {
    LODE_BITS_LEAST = 2,
    LODE_BITS_MOST = 8, /* of what is rounded */
    LODE_BITS_STORED = 16,
    LODE_BITS_CODED_LEVELS = 7,
    LODE_BITS_LEVELS = 8,
};

/* Bits of a level, and the level of that many bits. */
int lode_bits_of_level(int level);
int lode_bits_level(int bits);

/* Distributes average·count bits over `count` channels.
 *   bits          [count] out, u8
 *   excess        out, may be NULL: the sum found is above the least that any distribution with the
 *                 same protected channels has by at most this much, less than one step gains; 0
 *                 where the budget came out even
 *   loss_proxy    [count] in, ≥ 0
 *   error         [count, LODE_BITS_CODED_LEVELS] in, ε at 2 … 8 bits, ≥ 0
 *   is_protected  [count] in, u8, or NULL for none: these get 16 bits before all others, the
 *                 largest loss proxy first and the lower index first among equals, as far as the
 *                 budget goes
 *   average       in [LODE_BITS_LEAST, LODE_BITS_STORED]
 *
 * Errors: LODE_ERR_NUMERIC (NaN, infinite or negative loss proxy or error), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_bits_allocate(uint8_t *bits, double *excess,
                                               const double *loss_proxy, const double *error,
                                               const uint8_t *is_protected, int64_t count,
                                               int64_t average);

/* Σ loss_proxy·ε of a distribution, in the order of the channels. */
double lode_bits_value(const uint8_t *bits, const double *loss_proxy, const double *error,
                       int64_t count);

/* Private bytes that lode_bits_allocate takes for so many channels. */
int64_t lode_bits_memory(int64_t count);

#endif
