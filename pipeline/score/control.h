/* score/control: what core and halo are compared with: random channels and sets, and the means of
 * groups with their bootstrap intervals.
 *
 * Source: Supernodes and Halos (arXiv:2604.23475), controls of the halo. What is random depends on
 * seed and layer alone (base/random.h), not on ranks. One layer at a time; everything here is
 * Local.
 *
 * Intervals are over the channels of a group (score/resample.h): they say how much a mean owes to
 * the channels that happen to be in it, not how much to the sequences. Draw i of a group takes its
 * channels by stream i of the group's `purpose`, so that means over one group, drawn under one
 * purpose, can be compared draw by draw.
 */
#ifndef LODE_SCORE_CONTROL_H
#define LODE_SCORE_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/tensor.h"

/* A uniform sample of the channels that are in neither list, without repetition.
 *   sample  [count] out, ascending; filled where at least `count` channels are left, else untouched
 *   enough  out: whether there were that many
 *   core [core_size], halo [halo_size] in, disjoint
 *   key     names the stream */
LODE_MUST_USE lode_status_t lode_control_sample(int32_t *sample, bool *enough, int64_t count,
                                                int64_t channels, const int32_t *core,
                                                int64_t core_size, const int32_t *halo,
                                                int64_t halo_size, uint64_t key);

/* The bootstrap of a layer. */
typedef struct lode_control {
    int64_t draws; /* ≥ 1 */
    double level;  /* of the intervals, in (0, 1), as 0.95 */
    int64_t seed, layer;
} lode_control_t;

/* A mean and its percentile interval. */
typedef struct lode_control_mean {
    double mean;        /* NaN of nothing */
    double interval[2]; /* low and high; NaN of nothing */
} lode_control_mean_t;

/* Mean over a group's channels.
 *   mean out;  values [count] in;  purpose  of the group's draws, as "bootstrap halo" */
LODE_MUST_USE lode_status_t lode_control_channels(lode_control_mean_t *mean, const double *values,
                                                  int64_t count, const char *purpose,
                                                  lode_control_t control);

/* Mean over the pairs of different channels within a group. A draw that has a channel twice has
 * its pairs twice, but no pair of the channel with itself; draws of one channel alone have no mean.
 *   mean  out
 *   pairs [count, count] in, symmetric, 0 on the diagonal (as lode_redundancy_pairs() has it) */
LODE_MUST_USE lode_status_t lode_control_within(lode_control_mean_t *mean, const double *pairs,
                                                int64_t count, const char *purpose,
                                                lode_control_t control);

/* Mean over the pairs of two groups that share no channel; both are drawn, each by its purpose.
 *   mean  out
 *   pairs [rows, columns] in */
LODE_MUST_USE lode_status_t lode_control_between(lode_control_mean_t *mean, const double *pairs,
                                                 int64_t rows, int64_t columns,
                                                 const char *row_purpose,
                                                 const char *column_purpose,
                                                 lode_control_t control);

/* Effective number of dimensions that a set of channels writes: exp(H(a/Σa)), a as
 * lode_halo_written() gives it. NaN where the set writes nothing.
 *   dimensions out, in [1, hidden];  down in, [hidden, channels];  set [count] in */
LODE_MUST_USE lode_status_t lode_control_dimensions(double *dimensions, const lode_tensor_t *down,
                                                    const int32_t *set, int64_t count);

/* The same of random sets of `count` channels, drawn from all channels of the layer: their
 * distribution is that of the figure where being in the set means nothing.
 *   dimensions [control.draws] out;  down in;  count  in 1 … channels
 * Set i is the sample of stream i of "control set" (lode_random_sample). */
LODE_MUST_USE lode_status_t lode_control_random_dimensions(double *dimensions,
                                                           const lode_tensor_t *down, int64_t count,
                                                           lode_control_t control);

#endif
