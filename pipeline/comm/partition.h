/* comm/partition: dividing a row of items among parts. Pure functions; everything is Local. */
#ifndef LODE_COMM_PARTITION_H
#define LODE_COMM_PARTITION_H

#include <stdint.h>

#include "base/error.h"

/* Cuts `count` items in order into `parts` contiguous, non-empty runs so that the dearest run is as
 * cheap as it can be: part p gets items [first[p], first[p+1]).
 * cost [count], ≥ 0; 1 ≤ parts ≤ count; first [parts + 1] out. Among equally good cuts the one
 * whose last run is shortest; the items before it are divided by the same rule, so the result is
 * unique. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_partition_contiguous(const double *cost, int64_t count, int parts,
                                                      int64_t *first);

#endif
