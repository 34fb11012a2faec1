/* score/mask: from scores to what is kept. A mask is u8, 1 = kept, 0 = removed.
 *
 * The lowest scores go first, the lower index first among equals, a protected channel never.
 * Everything here is Local.
 */
#ifndef LODE_SCORE_MASK_H
#define LODE_SCORE_MASK_H

#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "config/choices.h"

/* Channels removed of a layer: ⌊sparsity·channels⌋, floor of the double product. */
int64_t lode_mask_removed(double sparsity, int64_t channels);

/* The core that `core` means for `method`: DEFAULT becomes LP for the scar methods and NONE for the
 * others, everything else stays. */
lode_core_t lode_mask_core(lode_method_t method, lode_core_t core);

/* Marks the protected channels of one layer.
 *   is_protected [channels] out, u8, 1 = never removed
 *   core         LP, ACTIVATION, RANDOM or NONE (resolved with lode_mask_core)
 *   core_size    as lode_supernode_size gives it
 *   loss_proxy, activation_power  [channels] in; read for LP and for ACTIVATION only: the top
 *                core_size, the lower index first among equals
 *   seed, layer  name the stream of RANDOM, a uniform draw of core_size channels
 * Errors: LODE_ERR_NUMERIC, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_mask_protect(uint8_t *is_protected, int64_t channels,
                                              lode_core_t core, int64_t core_size,
                                              const double *loss_proxy,
                                              const double *activation_power, int64_t seed,
                                              int64_t layer);

/* Uniform allocation: removes the lowest ⌊sparsity·channels⌋ of one layer.
 *   keep         [channels] out, u8
 *   score        [channels] in
 *   is_protected [channels] in, u8, or NULL for none
 *   layer        for messages
 * Errors: LODE_ERR_CONFIG, naming the remedy, where fewer channels are unprotected than must go;
 * LODE_ERR_NUMERIC (NaN or infinite score), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_mask_uniform(uint8_t *keep, const double *score,
                                              const uint8_t *is_protected, int64_t channels,
                                              double sparsity, int64_t layer);

/* Scores of one layer made comparable with those of others: (s − b)/mean(s − b), b = min(0, least
 * score). Scores that are never negative, all but −H and reversed magnitudes, are thus divided by
 * their layer's mean: what counts is a channel's share of its own layer, so a layer that a few
 * channels carry gives up more of the rest. (A z-score does the opposite: the spread of such a
 * layer puts all the rest close to its mean. Ranks within layers would merely give uniform
 * allocation again.) Those others have no zero of their own, so the layer's least score takes that
 * place. The order within a layer is kept. A layer whose scores are all 0 stays 0, and goes first:
 * nothing is lost with it.
 *   normal [channels] out, ≥ 0, of mean 1 unless all are 0;  score [channels] in */
LODE_MUST_USE lode_status_t lode_mask_normalise(double *normal, const double *score,
                                                int64_t channels);

/* Global allocation: one ascending ranking of lode_mask_normalise'd scores over all layers removes
 * exactly layers·⌊sparsity·channels⌋ channels, never a protected one, and never more of a layer
 * than leaves it max(1, ⌊floor_fraction·channels⌋). Equal scores: lower layer, then lower index
 * first.
 *   keep         [layers, channels] out, u8
 *   score        [layers, channels] in
 *   is_protected [layers, channels] in, u8, or NULL for none
 *   floor_fraction  in [0, 1), prune.floor
 * Errors: as lode_mask_uniform; LODE_ERR_CONFIG too where the floors leave too few to remove. */
LODE_MUST_USE lode_status_t lode_mask_global(uint8_t *keep, const double *score,
                                             const uint8_t *is_protected, int64_t layers,
                                             int64_t channels, double sparsity,
                                             double floor_fraction);

/* Appends a variant's name: <method>@<sparsity> with sparsity as the shortest %g that reads back
 * exactly, then ~<core> where core is not DEFAULT, +<allocation> where not uniform,
 * +<compensation> where not none: "scar-prot@0.5", "magnitude@0.5~lp". */
LODE_MUST_USE lode_status_t lode_variant_name(lode_buffer_t *name, lode_method_t method,
                                              double sparsity, lode_core_t core,
                                              lode_allocation_t allocation,
                                              lode_compensation_t compensation);

#endif
