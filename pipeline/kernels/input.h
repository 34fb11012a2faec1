/* kernels/input: what the inputs of linear layers go through when activations are quantized.
 *
 * Symmetric, to nearest with ties to even: with top = 2^(bits−1) − 1,
 *
 *   scale = max|x| / top,  q = rint(x / scale) held to −top … top,  x̂ = scale·q,  0 where scale is
 * 0
 *
 * over a token or a whole sequence, in float32, each operation rounded by itself. Everything here
 * is Local.
 */
#ifndef LODE_KERNELS_INPUT_H
#define LODE_KERNELS_INPUT_H

#include "kernels/real.h"
#include "kernels/sequences.h"

/* The four inputs of a layer's linear layers. */
typedef enum lode_input {
    LODE_INPUT_ATTENTION, /* of q, k, v: h₁ [tokens, d] */
    LODE_INPUT_OUTPUT,    /* of o [tokens, H·hd] */
    LODE_INPUT_FFN,       /* of gate and up: h₂ [tokens, d] */
    LODE_INPUT_DOWN,      /* of down: u [tokens, m] */
    LODE_INPUTS,
} lode_input_t;

/* "attention", "output", "ffn", "down". Static. */
const char *lode_input_name(lode_input_t which);

/* No array is owned. */
typedef struct lode_input_codec {
    int bits;    /* 2 … 8; 0: nothing is rounded, `smooth` applies */
    bool tensor; /* one scale for a sequence's [tokens, width], else one for each token */
    /* Channels of which, in each sequence, the element of largest magnitude (the first among
     * equals) is left out of the scale and stays as it is: a super activation, which Yu et al.
     * replace by the median while quantizing and then restores. The median never decides a scale.
     */
    const int32_t *held;
    int64_t held_count;
    const float *smooth; /* [width] x is divided by it first; NULL: it is not */
} lode_input_codec_t;

/* Whether it can change anything. */
bool lode_input_changes(const lode_input_codec_t *codec);

/* out [T, width] = x [T, width], coded; they lie apart. Non-finite elements give non-finite ones.
 */
void lode_input_code(const lode_input_codec_t *codec, const lode_sequences_t *sequences,
                     int64_t width, const lode_real_t *x, lode_real_t *out);

#endif
