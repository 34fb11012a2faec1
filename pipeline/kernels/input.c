#include "kernels/input.h"

const char *lode_input_name(lode_input_t which) {
    static const char *const names[LODE_INPUTS] = {[LODE_INPUT_ATTENTION] = "attention",
                                                   [LODE_INPUT_OUTPUT] = "output",
                                                   [LODE_INPUT_FFN] = "ffn",
                                                   [LODE_INPUT_DOWN] = "down"};
    return names[which];
}

bool lode_input_changes(const lode_input_codec_t *codec) {
    return codec->bits > 0 || codec->smooth;
}

/* out [width] = x [width], smoothed. */
static void smooth(const lode_input_codec_t *codec, int64_t width, const lode_real_t *x,
                   lode_real_t *out) {
    for (int64_t i = 0; i < width; i++)
        out[i] = codec->smooth ? (lode_real_t)((float)x[i] / codec->smooth[i]) : x[i];
}

/* The element of channel `channel` of x [tokens, width] that is held. */
static int64_t held_element(int64_t tokens, int64_t width, int64_t channel, const lode_real_t *x) {
    int64_t place = channel;
    float most = -1;
    for (int64_t t = 0; t < tokens; t++) {
        const float magnitude = fabsf((float)x[t * width + channel]);
        if (magnitude > most) {
            most = magnitude;
            place = t * width + channel;
        }
    }
    return place;
}

/* The scale of `count` elements; NaN aside, which stay what they are. */
static float scale_of(int bits, int64_t count, const lode_real_t *x) {
    float most = 0;
    for (int64_t i = 0; i < count; i++) {
        const float magnitude = fabsf((float)x[i]);
        most = magnitude > most ? magnitude : most;
    }
    return most / (float)((1 << (bits - 1)) - 1);
}

static void quantize(int bits, float scale, int64_t count, lode_real_t *x) {
    const float shift = 12582912.0f; /* 1.5·2²³: sums with it are rounded to integers */
    const float top = (float)((1 << (bits - 1)) - 1);
    const float divisor = scale == 0 ? 1 : scale;
    for (int64_t i = 0; i < count; i++) {
        float q = (float)x[i] / divisor;
        q = q > top ? top : q;
        q = q < -top ? -top : q; /* NaN stays */
        q = (q + shift) - shift;
        x[i] = (lode_real_t)(scale * q);
    }
}

/* One sequence. */
static void code_sequence(const lode_input_codec_t *codec, int64_t tokens, int64_t width,
                          const lode_real_t *x, lode_real_t *out) {
    const int bits = codec->bits;
    float scale = 0;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++)
        smooth(codec, width, x + t * width, out + t * width);
    if (bits == 0)
        return;
    for (int64_t h = 0; h < codec->held_count; h++) /* 0 decides no scale */
        out[held_element(tokens, width, codec->held[h], x)] = 0;
#pragma omp parallel for schedule(static) reduction(max : scale)
    for (int64_t t = 0; t < tokens; t++) {
        const float own = scale_of(bits, width, out + t * width);
        scale = own > scale ? own : scale;
        if (!codec->tensor)
            quantize(bits, own, width, out + t * width);
    }
    if (codec->tensor) {
#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < tokens; t++)
            quantize(bits, scale, width, out + t * width);
    }
    for (int64_t h = 0; h < codec->held_count; h++) {
        const int64_t channel = codec->held[h];
        const int64_t place = held_element(tokens, width, channel, x);
        out[place] =
            codec->smooth ? (lode_real_t)((float)x[place] / codec->smooth[channel]) : x[place];
    }
}

void lode_input_code(const lode_input_codec_t *codec, const lode_sequences_t *sequences,
                     int64_t width, const lode_real_t *x, lode_real_t *out) {
    for (int64_t s = 0; s < sequences->count; s++) {
        const int64_t first = sequences->offsets[s], tokens = sequences->offsets[s + 1] - first;
        if (tokens > 0 && width > 0)
            code_sequence(codec, tokens, width, x + first * width, out + first * width);
    }
}
