/* score/resample: bootstrap draws and their percentile intervals.
 *
 * A draw takes as many items as there are, with replacement; what one yields is a figure. The
 * interval is that of the percentiles, linear between sorted draws, without a correction for bias:
 * of a figure that redrawing raises or lowers (concentration is raised, since a redrawn sample is
 * the more uneven one) the interval may lie beside the figure itself. Everything here is Local.
 */
#ifndef LODE_SCORE_RESAMPLE_H
#define LODE_SCORE_RESAMPLE_H

#include <stdint.h>

#include "base/error.h"

/* How often each item is in one draw: item lode_random_below(key, i, count) for i < count.
 *   times [count] out, adding up to count; count ≥ 1
 *   key   names the stream, one for each draw */
void lode_resample_times(double *times, int64_t count, uint64_t key);

/* The two percentiles (1 ∓ level)/2 of the draws' figures. Those that are NaN, of draws in which
 * the figure is not defined, are left out; NaN where nothing is left.
 *   interval [2] out, low and high
 *   figures  [draws] in; changed: sorted, in part
 *   level    in (0, 1), as 0.95 */
void lode_resample_interval(double interval[2], double *figures, int64_t draws, double level);

#endif
