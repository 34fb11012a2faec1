/* stages/spectra: the spectra of whole layers.
 *
 * For each matrix that classify.spectra names and each layer, the eigenvalues of
 *   q      the correlations of q = u ⊙ dL/du between channels, over the tokens that accumulate.h5
 *          keeps (/redundancy/q);
 *   u      the correlations of u, from moments.h5 and the means in calibrate.h5;
 *   write  the Gram matrix of the write vectors, the columns of down_proj;
 * m × m each, spread over all ranks (q and write as factors where there are fewer tokens or hidden
 * dimensions than channels), and the effective rank exp(H(λ/Σλ)) of the whole matrix and of
 * its parts on the core, on the halo and on the rest. A channel that never varies has no
 * correlations and counts for nothing.
 *
 * Reads classify.h5 and what the matrices above name; writes spectra.h5: /<matrix>/eigenvalues
 * f64 [L, m], descending, and /<matrix>/effective_rank_{all,core,halo,rest} f64 [L], NaN where
 * there are no such channels or none that varies; /<matrix> has the attribute `kind`.
 */
#ifndef LODE_STAGES_SPECTRA_H
#define LODE_STAGES_SPECTRA_H

#include "common/run.h"
#include "common/size.h"

/* What the stage takes on `ranks` ranks, with q of `tokens` tokens kept. Local. */
LODE_MUST_USE lode_status_t lode_spectra_size(lode_stage_size_t *size, lode_run_t *run, int ranks,
                                              int64_t tokens);

/* Errors: LODE_ERR_MEMORY where a rank's share of the matrices exceeds the memory budget,
 * LODE_ERR_NUMERIC, LODE_ERR_IO, LODE_ERR_INPUT. Collective. */
LODE_MUST_USE lode_status_t lode_stage_spectra(lode_run_t *run);

#endif
