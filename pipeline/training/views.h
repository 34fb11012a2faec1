/* training/views: flat arrays of gradients as the transformer adds to them. Everything here is
 * Local.
 */
#ifndef LODE_TRAINING_VIEWS_H
#define LODE_TRAINING_VIEWS_H

#include "training/parameters.h"
#include "transformer/stack.h"

/* The places in gradient [parameters->gradients] of what belongs to each weight of the rank's
 * stack; fused and transposed tensors are seen in parts. *view is for lode_gradient_view_free, {0}
 * on failure; the array stays the caller's. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_gradient_view_create(lode_stack_gradient_t *view,
                                                      const lode_parameters_t *parameters,
                                                      lode_real_t *gradient);
void lode_gradient_view_free(lode_stack_gradient_t *view);

#endif
