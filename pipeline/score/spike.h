/* score/spike: which single weight of a down projection is a super weight.
 *
 * Source: The Super Weight in Large Language Models (arXiv:2411.07191). With Y = u·Wdownᵀ, a super
 * weight Wdown[i, k] turns one spike of a layer's input, u_tk, into one of its output, Y_ti: nearly
 * all of that is the product u_tk·Wdown[i, k]. One forward pass of one prompt shows it, layer by
 * layer, and the earliest layer counts: what later layers do with the activation, up to taking it
 * back, follows from it. The weight is set to 0 and the pass is repeated until nothing is found.
 *
 * A layer's output spike is (t, i) = argmax |Y|. It makes a super weight of channel k, the one of
 * largest |u_tk·Wdown[i, k]|, where
 *
 *   1. Y_ti is a spike of the layer's output,
 *   2. the largest |u| of the layer is at the same token t,
 *   3. u_tk is a spike of the layer's input, and
 *   4. u_tk·Wdown[i, k] / Y_ti is at least `product`, of the same sign.
 *
 * A value is a spike where it exceeds `ratio` times its scale, or, by the rule of the
 * authors' program, an absolute value of 50, which depends on the model and also fires where late
 * layers take the activation back; conditions 2 to 4 and the order of layers keep those out.
 *
 * The scale that a value is held against is a median of magnitudes, those that are not 0: of all
 * values of the layer, or of those of the value's own token where that is larger. A median does not
 * move with the spikes. That of the token matters because u_tk times the whole column of Wdown
 * makes all of Y_t large: against the layer alone every weight of the column would look super once
 * the one that stands out is 0. Zeros say nothing of size, and would be the median of many a layer
 * with ReLU.
 *
 * Ties go to the lower token, then to the lower index. Everything here is Local.
 */
#ifndef LODE_SCORE_SPIKE_H
#define LODE_SCORE_SPIKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* The value of largest magnitude of an array [tokens, width]; all 0 where there is none. */
typedef struct lode_spike {
    double value; /* with its sign */
    int32_t token, index;
} lode_spike_t;

/* What one layer shows of one prompt. */
typedef struct lode_spike_layer {
    lode_spike_t input, output;       /* of u [T, m] and of Y [T, d] */
    double input_scale, output_scale; /* of u_tk and of Y_ti */
    int32_t channel;                  /* k of the output spike's largest product, −1: m is 0 */
    double activation, weight;        /* u_tk and Wdown[i, k] */
} lode_spike_layer_t;

typedef struct lode_spike_limits {
    bool relative;   /* else by `absolute` */
    double ratio;    /* > 0; of the scale */
    double absolute; /* > 0; of the value */
    double product;  /* in (0, 1] */
} lode_spike_limits_t;

/* Where a super weight was found. */
typedef struct lode_spike_place {
    int64_t prompt, layer;
} lode_spike_place_t;

/* The spike of values [tokens, width]; a NaN is none. */
lode_spike_t lode_spike_of(const float *values, int64_t tokens, int64_t width);

/* *scale = the larger of two medians of magnitudes that are not 0, of values [tokens, width] and of
 * the row `token` of it; of an even number the larger one in the middle; 0 where all are 0.
 * Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_spike_scale(double *scale, const float *values, int64_t tokens,
                                             int64_t width, int64_t token);

/* The channel k of largest |u[k]·w[k]|, products in float64; −1 where count is 0.
 * u, w [count]: the activations of one token, and one row of Wdown. */
int64_t lode_spike_channel(const float *u, const float *w, int64_t count);

/* u_tk·Wdown[i, k] / Y_ti; 0 where there is no spike. */
double lode_spike_share(const lode_spike_layer_t *layer);

/* |value| as a multiple of its scale; 0 for 0, infinite where only the scale is 0. */
double lode_spike_ratio(double value, double scale);

/* Whether the layer's output spike makes its channel's weight a super weight. */
bool lode_spike_is_super(const lode_spike_layer_t *layer, const lode_spike_limits_t *limits);

/* The super weight to take next: of the earliest layer that has one in any prompt; of the prompts
 * in which that layer has one, the first. layers [prompts, count] in; *place is set where there is
 * one. Returns whether there is. */
bool lode_spike_choose(lode_spike_place_t *place, const lode_spike_layer_t *layers, int64_t prompts,
                       int64_t count, const lode_spike_limits_t *limits);

#endif
