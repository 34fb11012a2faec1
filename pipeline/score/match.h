/* score/match: which channels of a model the channels of a smaller version of it are.
 *
 * Whoever removes channels need not say which. A kept channel still reads what it read, so its gate
 * and up rows, one after the other as a vector, point where those of the original's channel point.
 * Pairs are made greedily: of all pairs whose channels are both free the one of the largest cosine
 * similarity comes next, among equals that of the version's lower index, then of the original's.
 * (That is the only stable matching of these preferences, and is found by proposals, since all
 * pairs of a layer at once may be too many.) Everything here is Local.
 */
#ifndef LODE_SCORE_MATCH_H
#define LODE_SCORE_MATCH_H

#include <stdint.h>

#include "base/error.h"
#include "model/tensor.h"

/* What the channels of a layer read with: gate and up [channels, d]; gate.data NULL: there is none.
 */
typedef struct lode_match_rows {
    const lode_tensor_t *gate, *up;
} lode_match_rows_t;

/* Matches the channels of `version` with those of `original`, which has at least as many.
 *   match      [version's channels] out, the original's channel, each at most once; −1 for one
 *              whose rows are all zero, which no direction tells from others
 *   similarity [version's channels] out, in [−1, 1]; NaN where there is no match. Products are
 *              BLAS's in float32: digits beyond the sixth mean nothing
 * Errors: LODE_ERR_NUMERIC where a weight is not finite, LODE_ERR_SHAPE, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_match_channels(int32_t *match, double *similarity,
                                                lode_match_rows_t original,
                                                lode_match_rows_t version);

/* Private bytes that takes for so many channels and hidden size d. */
int64_t lode_match_memory(int64_t original, int64_t version, int64_t hidden);

#endif
