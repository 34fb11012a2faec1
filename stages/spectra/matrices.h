/* stages/spectra/matrices: the matrices whose spectra are taken, one layer at a time, spread over
 * ranks. */
#ifndef LODE_STAGES_SPECTRA_MATRICES_H
#define LODE_STAGES_SPECTRA_MATRICES_H

#include "common/run.h"
#include "linalg/matrix.h"

/* The correlations of q of `layer`, from the open accumulate.h5.
 *   matrix [m, m] out, whole
 * Errors: LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_spectra_of_q(lode_matrix_t *matrix, lode_store_t *accumulate,
                                              int64_t layer);

/* The correlations of u of `layer`, from the open moments.h5 and calibrate.h5.
 *   matrix [m, m] out, whole
 * Errors: as above. Collective. */
LODE_MUST_USE lode_status_t lode_spectra_of_u(lode_matrix_t *matrix, lode_store_t *moments,
                                              lode_store_t *calibrate, int64_t layer);

/* The Gram matrix of the write vectors of `layer`, whose weights only the rank that owns the layer
 * reads.
 *   matrix [m, m] out, whole
 * Errors: LODE_ERR_NUMERIC (a weight is not finite), LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_spectra_of_write(lode_matrix_t *matrix, const lode_run_t *run,
                                                  int64_t layer);

#endif
