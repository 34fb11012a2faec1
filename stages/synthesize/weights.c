#include "synthesize/weights.h"

#include <math.h>
#include <string.h>

#include "base/random.h"
#include "model/writer.h"

/* Elements that one draw of 64 bits gives, and that are made at once. */
enum { EACH = 4, BLOCK = 1 << 12 };

lode_random_weights_t lode_random_weights(const lode_architecture_t *architecture, lode_role_t role,
                                          int64_t seed, const char *name) {
    const lode_extent_t *shape = lode_family(architecture->model_type)->tensors[role].shape;
    lode_random_weights_t weights = {.key = lode_random_key(seed, name, 0, 0)};
    if (shape[1] != LODE_EXTENT_NONE) {
        const double columns = (double)lode_family_extent(architecture, shape[1]);
        weights.scale = (float)sqrt(3 / columns);
        return weights;
    }
    weights.scale = (float)(0.1 * sqrt(3));
    weights.centre = lode_family_neutral(architecture, role);
    return weights;
}

/* Elements first … first + BLOCK − 1: the four parts of 16 bits of each draw, as odd multiples of
 * 2⁻¹⁶. Float32 holds more than that, but one checkpoint in three types is one model. */
static void fill_block(const lode_random_weights_t *weights, int64_t first, float *out) {
    const float step = weights->scale * 0x1p-16f, centre = weights->centre;
    for (int64_t i = 0; i < BLOCK / EACH; i++) {
        const uint64_t bits = lode_random_bits(weights->key, (uint64_t)(first / EACH + i));
        for (int j = 0; j < EACH; j++) {
            const int32_t odd = 2 * (int32_t)(bits >> 16 * j & 0xffff) - 0xffff;
            out[EACH * i + j] = centre + step * (float)odd;
        }
    }
}

void lode_random_weights_fill(const lode_random_weights_t *weights, lode_dtype_t dtype,
                              int64_t first, int64_t count, void *out) {
    const size_t size = lode_dtype_size(dtype);
#pragma omp parallel for schedule(static)
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        const int64_t length = count - begin < BLOCK ? count - begin : BLOCK;
        float values[BLOCK];
        fill_block(weights, first + begin, values);
        const lode_status_t status =
            lode_writer_round((char *)out + (size_t)begin * size, dtype, values, length);
        LODE_ASSERT(status == LODE_OK); /* all of the order of one */
    }
}
