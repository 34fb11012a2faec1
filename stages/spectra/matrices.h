/* stages/spectra/matrices: the matrices whose spectra are taken, one layer at a time, spread over
 * ranks.
 *
 * The matrices of q and of write vectors are products XᵀX of X [rows, m], whose rows are tokens or
 * hidden dimensions. Where these are fewer than channels, X is smaller than its product, and so is
 * X·Xᵀ, which has the same spectrum: such a factor is supplied in place of the matrix. */
#ifndef LODE_STAGES_SPECTRA_MATRICES_H
#define LODE_STAGES_SPECTRA_MATRICES_H

#include "common/run.h"
#include "linalg/matrix.h"

/* The correlations of q of `layer`, from the open accumulate.h5.
 *   matrix [m, m] out, whole;  tokens of lode_spectra_tokens_of_q()
 * Errors: LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_spectra_of_q(lode_matrix_t *matrix, lode_store_t *accumulate,
                                              int64_t tokens, int64_t layer);

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

/* Tokens of q in the open accumulate.h5. Errors: LODE_ERR_SHAPE, LODE_ERR_IO. Local. */
LODE_MUST_USE lode_status_t lode_spectra_tokens_of_q(lode_store_t *accumulate, int64_t layers,
                                                     int64_t m, int64_t *tokens);

/* X with XᵀX the correlations of q of `layer`.
 *   factor [tokens, m] out
 * Errors: LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_spectra_factor_of_q(lode_matrix_t *factor,
                                                     lode_store_t *accumulate, int64_t layer);

/* down_proj of `layer`, whose columns are the write vectors.
 *   factor [d, m] out
 * Errors: those of lode_spectra_of_write(). Collective. */
LODE_MUST_USE lode_status_t lode_spectra_factor_of_write(lode_matrix_t *factor,
                                                         const lode_run_t *run, int64_t layer);

#endif
