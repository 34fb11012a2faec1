/* score/order: the ranking of channels, with the one rule for ties.
 *
 * Values are ordered by size; equal values by index. −0 and 0 are equal. NaN and infinities have no
 * place in an order: every function here refuses them with LODE_ERR_NUMERIC, naming `what` and the
 * index. Everything here is Local.
 */
#ifndef LODE_SCORE_ORDER_H
#define LODE_SCORE_ORDER_H

#include <stdint.h>

#include "base/error.h"

/* Refuses an array with a NaN or an infinity.
 *   values [count] in;  what  names the array in the message */
LODE_MUST_USE lode_status_t lode_order_check(const double *values, int64_t count, const char *what);

/* The `top_count` largest values, largest first, the lower index first among equal ones.
 *   top    [top_count] out, indices into values; 0 ≤ top_count ≤ count
 *   values [count] in */
LODE_MUST_USE lode_status_t lode_order_top(int32_t *top, int64_t top_count, const double *values,
                                           int64_t count, const char *what);

/* All indices, smallest value first, the lower index first among equal ones.
 *   order [count] out;  values [count] in */
LODE_MUST_USE lode_status_t lode_order_ascending(int32_t *order, const double *values,
                                                 int64_t count, const char *what);

/* Ranks 1 … count ascending; equal values share the mean of the ranks they take up.
 *   ranks [count] out;  values [count] in */
LODE_MUST_USE lode_status_t lode_order_ranks(double *ranks, const double *values, int64_t count,
                                             const char *what);

/* The same from an order that is known already.
 *   ranks [count] out;  descending [count] in, as lode_order_top() gives all of them;
 *   values [count] in */
void lode_order_ranks_of(double *ranks, const int32_t *descending, const double *values,
                         int64_t count);

#endif
