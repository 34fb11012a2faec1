/* score/entropy: how evenly every channel writes, and where that pulls its weights.
 *
 * Channel j writes through column j of Wdown [d, m]. Its weights w_i, made shares p_i that add up
 * to one, have the entropy H = −Σ_i p_i ln p_i, from 0 (one weight alone) to ln d (all alike); 0·ln
 * 0 is 0. With a_i = |w_i| and s_i = sign(w_i):
 *
 * | form     | p_i                   | dH/dw_i                          |
 * |----------|-----------------------|----------------------------------|
 * | absolute | a_i / Σ_k a_k         | −s_i · (ln p_i + H) / Σ_k a_k    |
 * | square   | w_i² / Σ_k w_k²       | −2·w_i · (ln p_i + H) / Σ_k w_k² |
 * | softmax  | exp a_i / Σ_k exp a_k | −s_i · p_i · (ln p_i + H)        |
 *
 * Derivation. Let p_i = f_i / F, F = Σ_k f_k, with f_k a function of w_k alone and f' its
 * derivative. Then ∂p_k/∂w_i = f'_i·(δ_ki − p_k)/F, and as the shares' changes add up to nothing,
 *   ∂H/∂w_i = −Σ_k (ln p_k + 1)·∂p_k/∂w_i
 *           = −f'_i/F · (ln p_i − Σ_k p_k ln p_k) = −f'_i/F · (ln p_i + H),
 * where f' is s_i, 2·w_i and s_i·exp a_i.
 *
 * At w_i = 0, where |w| has no derivative or ln p_i no value, it is taken as 0. A column of zeros
 * has no shares in the first two forms: its entropy is taken as ln d, that of a uniform writer, and
 * its derivatives as 0.
 *
 * f is taken of a_i / max a (in softmax of a_i − max a), which leaves p as it is: every logarithm
 * is then of a number at most 1, no term of H cancels another, and neither large nor small weights
 * overflow. Sums are in double, in the order of the rows, whatever the threads and the storage;
 * exponentials and logarithms are good to a few ulp of double. Threads share out channels.
 *
 * The loss of The Role of Outgoing Connection Heterogeneity in Feedforward Layers of LLMs (EMNLP
 * 2025 main.1143) lowers such an entropy; the normalisations are our reading. Everything here is
 * Local.
 */
#ifndef LODE_SCORE_ENTROPY_H
#define LODE_SCORE_ENTROPY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/entropy_form.h"
#include "base/error.h"
#include "model/tensor.h"

/* H of every column of Wdown.
 *   weights   element [i, j] at i·pitch + j, or where `transposed` at j·pitch + i
 *   h         [m] out, nats; NaN where a weight of the column is not finite
 *   workspace [2·m] out: scale and sum of every column, for lode_entropy_gradient() */
void lode_entropy_columns(const float *weights, int64_t d, int64_t m, int64_t pitch,
                          bool transposed, lode_entropy_form_t form, double *h, double *workspace);

/* Adds scale · dH_j/dw_ij.
 *   weights … form  as above
 *   h, workspace    as lode_entropy_columns() left them for the same weights and form
 *   gradient        laid out as the weights (same pitch, transposed or not), in and out; what is
 *                   added is rounded once, with the sum, and kept finite where float cannot hold it
 *                   (columns without a weight above 1e-38 are steeper than that) */
void lode_entropy_gradient(const float *weights, int64_t d, int64_t m, int64_t pitch,
                           bool transposed, lode_entropy_form_t form, const double *h,
                           const double *workspace, double scale, float *gradient);

/* H of every column of a checkpoint's Wdown, of any storage.
 *   h    [m] out;  down [d, m];  what  names the tensor in messages
 * Errors: LODE_ERR_SHAPE (absent, no matrix), LODE_ERR_NUMERIC where an element is not finite,
 * LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_entropy_tensor(double *h, const lode_tensor_t *down,
                                                lode_entropy_form_t form, const char *what);

#endif
