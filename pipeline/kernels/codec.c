#include "kernels/codec.h"

#include "kernels/coding.h"

enum { CHUNK = 512 };

bool lode_codec_changes(const lode_codec_t *codec) {
    return codec->bits > 0 || codec->row_bits || codec->col_bits || codec->held_count > 0 ||
           codec->smooth;
}

int64_t lode_codec_blocks(const lode_codec_t *codec, int64_t out, int64_t in) {
    const int64_t size = codec->granularity.size;
    if (codec->row_bits || codec->col_bits)
        return codec->row_bits ? out : in;
    if (codec->bits == 0 || out == 0 || in == 0)
        return 0;
    switch (codec->granularity.kind) {
    case LODE_GRANULARITY_TENSOR:
        break;
    case LODE_GRANULARITY_CHANNEL:
        return out;
    case LODE_GRANULARITY_GROUP:
        return out * ((in + size - 1) / size);
    case LODE_GRANULARITY_BLOCK:
        return (out * in + size * size - 1) / (size * size);
    }
    return 1;
}

void lode_codec_read(const lode_weight_t *weight, int64_t row, int64_t rows, int64_t col,
                     int64_t cols, lode_real_t *out) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        lode_weight_row(weight, row + i, col, cols, out + i * cols);
        if (weight->codec)
            lode_coding_row(weight->codec, weight->in, row + i, col, cols, out + i * cols);
    }
    lode_weight_t lines = *weight;
    lines.transposed = false; /* as they lie in `out` */
    lode_coding_hold(&lines, row, rows, col, cols, out);
}

void lode_codec_integers(const lode_weight_t *weight, int64_t row, int64_t rows, int64_t col,
                         int64_t cols, uint8_t *q) {
    const lode_codec_t *codec = weight->codec;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t first = 0; first < cols; first += CHUNK) {
            lode_real_t x[CHUNK];
            const int64_t some = cols - first < CHUNK ? cols - first : CHUNK;
            lode_weight_row(weight, row + i, col + first, some, x);
            if (codec->smooth)
                lode_coding_smooth(codec, col + first, some, x);
            lode_coding_integers(codec, weight->in, row + i, col + first, some, x,
                                 q + i * cols + first);
        }
    for (int64_t h = lode_coding_find(codec, row, 0); h < codec->held_count; h++) {
        const lode_held_t *held = &codec->held[h];
        if (held->row >= row + rows)
            break;
        if (held->col >= col && held->col < col + cols)
            q[(held->row - row) * cols + held->col - col] = 0;
    }
}
