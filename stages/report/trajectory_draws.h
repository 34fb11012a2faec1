/* report/trajectory_draws: bootstrap intervals of a series' figures. Internal to report/trajectory.
 * Local.
 */
#ifndef LODE_REPORT_TRAJECTORY_DRAWS_H
#define LODE_REPORT_TRAJECTORY_DRAWS_H

#include "report/trajectory.h"

/* The fixed ρ, of LODE_TRAJECTORY_MASS_HALF and the figures behind it. */
enum { LODE_TRAJECTORY_FRACTIONS = 4 };
extern const double lode_trajectory_fractions[LODE_TRAJECTORY_FRACTIONS];

/* What the draws of a checkpoint are of. */
typedef struct lode_trajectory_source {
    lode_trajectory_checkpoint_t *checkpoint;
    const double *sums; /* [sequences, layers, channels] of the loss proxy; NULL where not known */
    int64_t sequences, core_size;
} lode_trajectory_source_t;

/* Sets low and high of core_overlap, proxy_correlation and the core masses at fixed ρ for the
 * checkpoints whose sums are known, those of the first two where they are for as many sequences as
 * the last checkpoint's; and trajectory->draws, which is 0 where they would take too long.
 *   sources [trajectory->count] in
 * Errors: LODE_ERR_NUMERIC, naming the checkpoint's folder; LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_trajectory_intervals(lode_trajectory_t *trajectory,
                                                      const lode_trajectory_source_t *sources,
                                                      int64_t seed);

#endif
