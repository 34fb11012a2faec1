/* score/outlier: the weights of largest magnitude, of matrices that pass by once.
 *
 * Of the weights offered the `most` largest magnitudes are kept; equal ones by the lower layer,
 * matrix, row, column. Zeros are never kept, nor NaN. Memory does not grow with the matrices.
 * Everything here is Local.
 */
#ifndef LODE_SCORE_OUTLIER_H
#define LODE_SCORE_OUTLIER_H

#include <stdint.h>

#include "base/error.h"

/* One weight of a model. */
typedef struct lode_outlier {
    int32_t layer, matrix, row, col;
    float value;
} lode_outlier_t;

/* Initialise with lode_outliers_create(). */
typedef struct lode_outliers {
    lode_outlier_t *item; /* [count], a heap with the least at item[0] */
    int64_t count, most;
} lode_outliers_t;

/* most ≥ 0. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_outliers_create(lode_outliers_t *outliers, int64_t most);
void lode_outliers_free(lode_outliers_t *outliers); /* leaves {0} */

/* The magnitude that a weight must exceed, or reach where it comes before all that are kept, to be
 * kept; 0 where there is room, infinite where there can be none. For callers that look at very many
 * weights. */
float lode_outliers_least(const lode_outliers_t *outliers);

/* Keeps the weight if it is one of the largest so far. */
void lode_outliers_offer(lode_outliers_t *outliers, const lode_outlier_t *weight);

/* Orders weights [count] by layer, matrix, row, column. */
void lode_outliers_sort(lode_outlier_t *weights, int64_t count);

#endif
