/* score/structure: how the loss proxy of a layer is spread over its channels, what it goes along
 * with, and how firm all that is when the calibration sequences are drawn again.
 *
 * Source: Supernodes and Halos (arXiv:2604.23475), section on supernodes. LP, the loss proxy of
 * channel j, is ½·mean_t q_tj²; the core is the core_size channels of largest LP, the activation
 * core the equally many of largest activation power mean_t u_tj². One layer at a time; everything
 * here is Local.
 *
 * | figure               | meaning                                                              |
 * |----------------------|----------------------------------------------------------------------|
 * | core_mass            | Σ_core LP / Σ LP                                                     |
 * | gini                 | Gini coefficient of LP                                               |
 * | effective_number     | exp(H(p)), p = LP/Σ LP, H = −Σ p ln p: channels, were they equal     |
 * | spearman_activation  | Spearman's correlation of log LP with log activation power           |
 * | spearman_down_norm   | … with the log L2 norm of the channel's down column                  |
 * | spearman_up_norm     | … of its up row                                                      |
 * | spearman_gate_norm   | … of its gate row; NaN in a block without a gate                     |
 * | jaccard_activation   | Jaccard index of core and activation core                            |
 * | overlap_activation   | share of the core that is in the activation core                     |
 *
 * Ranks do not change under a logarithm, so none is taken, and a channel whose LP, power or norm is
 * 0 needs no exception: it ranks below all others, equal with those that are 0 too. A figure that
 * is not defined (all LP 0, a constant array) is NaN.
 */
#ifndef LODE_SCORE_STRUCTURE_H
#define LODE_SCORE_STRUCTURE_H

#include <stdint.h>

#include "base/error.h"

#define LODE_STRUCTURE_LIST(X)                                                                     \
    X(CORE_MASS, "core_mass")                                                                      \
    X(GINI, "gini")                                                                                \
    X(EFFECTIVE_NUMBER, "effective_number")                                                        \
    X(SPEARMAN_ACTIVATION, "spearman_activation")                                                  \
    X(SPEARMAN_DOWN_NORM, "spearman_down_norm")                                                    \
    X(SPEARMAN_UP_NORM, "spearman_up_norm")                                                        \
    X(SPEARMAN_GATE_NORM, "spearman_gate_norm")                                                    \
    X(JACCARD_ACTIVATION, "jaccard_activation")                                                    \
    X(OVERLAP_ACTIVATION, "overlap_activation")

enum {
#define LODE_STRUCTURE_ENUM(figure, name) LODE_STRUCTURE_##figure,
    LODE_STRUCTURE_LIST(LODE_STRUCTURE_ENUM)
#undef LODE_STRUCTURE_ENUM
        LODE_STRUCTURE_COUNT,
};

/* "core_mass" …; figure in [0, LODE_STRUCTURE_COUNT). Static. */
const char *lode_structure_name(int figure);

/* One layer; all arrays belong to the caller. */
typedef struct lode_structure_inputs {
    int64_t channels, core_size;       /* 1 ≤ core_size ≤ channels */
    const double *loss_proxy;          /* [channels] over all sequences, ≥ 0, in any unit */
    const double *activation_power;    /* [channels] likewise */
    const double *down_norm, *up_norm; /* [channels] */
    const double *gate_norm;           /* [channels], NULL in a block without a gate */
    /* For the bootstrap: sums of each sequence, undivided, row s at s·stride. */
    int64_t sequences, stride; /* sequences ≥ 1; stride ≥ channels (L·m of [S,L,m]) */
    const double *loss_proxy_sums, *activation_power_sums;
    int64_t draws;       /* ≥ 1 */
    double level;        /* of the intervals, in (0, 1), as 0.95 */
    int64_t seed, layer; /* name the stream */
} lode_structure_inputs_t;

typedef struct lode_structure {
    double figure[LODE_STRUCTURE_COUNT];      /* of all sequences */
    double interval[LODE_STRUCTURE_COUNT][2]; /* of the draws, low and high */
    double stability; /* mean Jaccard index of a draw's core with the core */
    double stability_interval[2];
} lode_structure_t;

/* All figures, and their bootstrap over sequences (score/resample.h): each draw takes `sequences`
 * of them with replacement, adds up their sums in their order, and measures anew. What a sequence
 * is divided by has no part in it, since no figure depends on a common factor of LP or power.
 * Depends on the arguments alone, not on ranks. Draws in which every LP is 0 have no core and are
 * left out; where all are, intervals and stability are NaN.
 *   structure out
 * Errors: LODE_ERR_NUMERIC (NaN, infinite or negative input, a sum that overflows),
 * LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_structure_measure(lode_structure_t *structure,
                                                   const lode_structure_inputs_t *inputs);

#endif
