/* training/optimizer: AdamW (Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019) as
 * torch.optim.AdamW computes it in float32: the same operations in the same order. An element's new
 * values depend on nothing but its own old ones, so that no division of the work changes a bit.
 * Everything here is Local.
 */
#ifndef LODE_TRAINING_OPTIMIZER_H
#define LODE_TRAINING_OPTIMIZER_H

#include <stdint.h>

/* What one step needs of rates and corrections, in the precision they are used in. */
typedef struct lode_adamw {
    float clip;            /* the gradient is multiplied by it first */
    float rest_1;          /* 1 − β₁ */
    float beta_2, rest_2;  /* β₂, 1 − β₂ */
    float step_size;       /* learning rate / (1 − β₁^step) */
    float root_correction; /* √(1 − β₂^step) */
    float epsilon;
    double learning_rate;
} lode_adamw_t;

/* step: from 1 on. */
lode_adamw_t lode_adamw(double learning_rate, double beta_1, double beta_2, double epsilon,
                        double clip, int64_t step);

/* Updates weights, first and second moments [count] in place. `decay` is the weights': they are
 * first multiplied by 1 − learning rate · decay. On the calling thread alone. */
void lode_adamw_update(const lode_adamw_t *adamw, double decay, int64_t count,
                       const float *gradient, float *weights, float *first, float *second);

/* What gradients of this norm are multiplied by so that it is at most `clip`, as
 * torch.nn.utils.clip_grad_norm_ has it: clip / (norm + 1e-6), at most 1; 1 where `clip` is 0. */
double lode_clip_factor(double norm, double clip);

#endif
