#include "score/spike.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { HALF_BITS = 16, HALF = 1 << HALF_BITS };

lode_spike_t lode_spike_of(const float *values, int64_t tokens, int64_t width) {
    float largest = 0;
    int64_t place = 0;
    for (int64_t i = 0; i < tokens * width; i++)
        if (fabsf(values[i]) > largest) {
            largest = fabsf(values[i]);
            place = i;
        }
    if (!(largest > 0))
        return (lode_spike_t){0};
    return (lode_spike_t){.value = (double)values[place],
                          .token = (int32_t)(place / width),
                          .index = (int32_t)(place % width)};
}

/* --- the scale ------------------------------------------------------------------------------ */

/* Magnitudes of floats are ordered as these integers are. */
static uint32_t magnitude_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x7fffffffu;
}

/* The bucket in which the `rank`th (from 1) largest lies, counted from the top; *rank becomes its
 * rank in there. */
static uint32_t bucket_of(const int64_t *histogram, int64_t *rank) {
    uint32_t bucket = HALF - 1;
    while (histogram[bucket] < *rank)
        *rank -= histogram[bucket--];
    return bucket;
}

/* The bits of the `rank`th largest magnitude: by its upper half, then its lower one, so that no
 * copy of the values is sorted. histogram [HALF]. */
static uint32_t nth_largest(const float *values, int64_t count, int64_t rank, int64_t *histogram) {
    memset(histogram, 0, HALF * sizeof *histogram);
    for (int64_t i = 0; i < count; i++)
        histogram[magnitude_bits(values[i]) >> HALF_BITS]++;
    const uint32_t upper = bucket_of(histogram, &rank);
    memset(histogram, 0, HALF * sizeof *histogram);
    for (int64_t i = 0; i < count; i++)
        if (magnitude_bits(values[i]) >> HALF_BITS == upper)
            histogram[magnitude_bits(values[i]) & (HALF - 1)]++;
    return upper << HALF_BITS | bucket_of(histogram, &rank);
}

/* The median of the magnitudes that are not 0; 0 where there is none. */
static double median(const float *values, int64_t count, int64_t *histogram) {
    int64_t nonzero = 0;
    for (int64_t i = 0; i < count; i++)
        nonzero += values[i] != 0;
    if (nonzero == 0)
        return 0;
    const uint32_t bits = nth_largest(values, count, (nonzero + 1) / 2, histogram);
    float magnitude;
    memcpy(&magnitude, &bits, sizeof magnitude);
    return (double)magnitude;
}

lode_status_t lode_spike_scale(double *scale, const float *values, int64_t tokens, int64_t width,
                               int64_t token) {
    int64_t *histogram;
    *scale = 0;
    if (tokens * width == 0)
        return LODE_OK;
    LODE_TRY(LODE_NEW(&histogram, HALF, "scale of activations"));
    const double layer = median(values, tokens * width, histogram);
    const double row = median(values + token * width, width, histogram);
    free(histogram);
    *scale = row > layer ? row : layer;
    return LODE_OK;
}

/* --- the decision --------------------------------------------------------------------------- */

int64_t lode_spike_channel(const float *u, const float *w, int64_t count) {
    int64_t best = count > 0 ? 0 : -1;
    double largest = 0;
    for (int64_t k = 0; k < count; k++) {
        const double product = fabs((double)u[k] * (double)w[k]);
        if (product > largest) {
            largest = product;
            best = k;
        }
    }
    return best;
}

double lode_spike_share(const lode_spike_layer_t *layer) {
    return layer->output.value != 0 ? layer->activation * layer->weight / layer->output.value : 0;
}

double lode_spike_ratio(double value, double scale) {
    return value == 0 ? 0 : fabs(value) / scale;
}

static bool is_spike(double value, double scale, const lode_spike_limits_t *limits) {
    return limits->relative ? lode_spike_ratio(value, scale) > limits->ratio
                            : fabs(value) > limits->absolute;
}

bool lode_spike_is_super(const lode_spike_layer_t *layer, const lode_spike_limits_t *limits) {
    return layer->channel >= 0 && is_spike(layer->output.value, layer->output_scale, limits) &&
           layer->input.token == layer->output.token &&
           is_spike(layer->activation, layer->input_scale, limits) &&
           lode_spike_share(layer) >= limits->product;
}

bool lode_spike_choose(lode_spike_place_t *place, const lode_spike_layer_t *layers, int64_t prompts,
                       int64_t count, const lode_spike_limits_t *limits) {
    for (int64_t layer = 0; layer < count; layer++)
        for (int64_t prompt = 0; prompt < prompts; prompt++)
            if (lode_spike_is_super(&layers[prompt * count + layer], limits)) {
                *place = (lode_spike_place_t){.prompt = prompt, .layer = layer};
                return true;
            }
    return false;
}
