#include "kernels/coding.h"

enum { CHUNK = 512 };

/* What each element of a chunk is coded with. */
typedef struct parameters {
    float scale[CHUNK], minimum[CHUNK];
    float top[CHUNK]; /* 2^bits − 1; −1: as stored */
} parameters_t;

static float top_of(int bits) {
    return bits > 8 ? -1.0f : (float)((1 << bits) - 1);
}

/* --- what lies where ------------------------------------------------------------------------- */

lode_coding_run_t lode_coding_run(const lode_codec_t *codec, int64_t in, int64_t row, int64_t col,
                                  int64_t count) {
    const int64_t size = codec->granularity.size;
    int64_t left = count;
    if (codec->row_bits)
        return (lode_coding_run_t){row, count, codec->row_bits[row]};
    lode_coding_run_t run = {.count = count, .bits = codec->bits};
    switch (codec->granularity.kind) {
    case LODE_GRANULARITY_TENSOR:
        break;
    case LODE_GRANULARITY_CHANNEL:
        run.block = row;
        break;
    case LODE_GRANULARITY_GROUP:
        run.block = row * ((in + size - 1) / size) + col / size;
        left = size - col % size;
        break;
    case LODE_GRANULARITY_BLOCK:
        run.block = (row * in + col) / (size * size);
        left = size * size - (row * in + col) % (size * size);
        break;
    }
    run.count = left < count ? left : count;
    return run;
}

int64_t lode_coding_find(const lode_codec_t *codec, int64_t row, int64_t col) {
    int64_t first = 0, end = codec->held_count;
    while (first < end) {
        const int64_t middle = first + (end - first) / 2;
        const lode_held_t *held = &codec->held[middle];
        if (held->row < row || (held->row == row && held->col < col))
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

/* Elements [col, col + count) of a row. */
static void row_parameters(parameters_t *p, const lode_codec_t *codec, int64_t in, int64_t row,
                           int64_t col, int64_t count) {
    if (codec->col_bits) {
        for (int64_t i = 0; i < count; i++) {
            p->scale[i] = codec->scale[col + i];
            p->minimum[i] = codec->minimum[col + i];
            p->top[i] = top_of(codec->col_bits[col + i]);
        }
    } else {
        for (int64_t first = 0; first < count;) {
            const lode_coding_run_t run =
                lode_coding_run(codec, in, row, col + first, count - first);
            const float scale = codec->scale[run.block], minimum = codec->minimum[run.block];
            const float top = top_of(run.bits);
            for (int64_t i = first; i < first + run.count; i++) {
                p->scale[i] = scale;
                p->minimum[i] = minimum;
                p->top[i] = top;
            }
            first += run.count;
        }
    }
    for (int64_t i = 0; codec->keep_col && i < count; i++)
        p->top[i] = codec->keep_col[col + i] ? -1.0f : p->top[i];
    for (int64_t i = 0; codec->keep_row && codec->keep_row[row] && i < count; i++)
        p->top[i] = -1;
}

static void set(parameters_t *p, int64_t i, const lode_codec_t *codec, int64_t block, int bits) {
    p->scale[i] = codec->scale[block];
    p->minimum[i] = codec->minimum[block];
    p->top[i] = top_of(bits);
}

/* Elements [row, row + count) of a column. */
static void column_parameters(parameters_t *p, const lode_codec_t *codec, int64_t in, int64_t row,
                              int64_t col, int64_t count) {
    const int64_t size = codec->granularity.size;
    if (codec->col_bits) {
        for (int64_t i = 0; i < count; i++)
            set(p, i, codec, col, codec->col_bits[col]);
    } else if (codec->row_bits) {
        for (int64_t i = 0; i < count; i++)
            set(p, i, codec, row + i, codec->row_bits[row + i]);
    } else if (codec->granularity.kind == LODE_GRANULARITY_BLOCK) {
        /* Divisions would cost as much as all the rest: from row to row it is `in` elements on. */
        const int64_t elements = size * size, whole = in / elements, part = in % elements;
        int64_t block = (row * in + col) / elements, place = (row * in + col) % elements;
        for (int64_t i = 0; i < count; i++) {
            set(p, i, codec, block, codec->bits);
            block += whole;
            place += part;
            if (place >= elements) {
                place -= elements;
                block++;
            }
        }
    } else {
        const bool tensor = codec->granularity.kind == LODE_GRANULARITY_TENSOR;
        const bool group = codec->granularity.kind == LODE_GRANULARITY_GROUP;
        const int64_t stride = tensor ? 0 : group ? (in + size - 1) / size : 1;
        const int64_t first = row * stride + (group ? col / size : 0);
        for (int64_t i = 0; i < count; i++)
            set(p, i, codec, first + i * stride, codec->bits);
    }
    for (int64_t i = 0; codec->keep_row && i < count; i++)
        p->top[i] = codec->keep_row[row + i] ? -1.0f : p->top[i];
    for (int64_t i = 0; codec->keep_col && codec->keep_col[col] && i < count; i++)
        p->top[i] = -1;
}

/* --- rounding -------------------------------------------------------------------------------- */

/* q of x. A scale of 0 gives infinities and NaN, which become numbers in 0 … top. */
static inline float integer_of(float x, float scale, float minimum, float top) {
    const float shift = 12582912.0f; /* 1.5·2²³: sums with it are rounded to integers */
    float q = (x - minimum) / scale;
    q = q > 0 ? q : 0;
    q = q < top ? q : top;
    return (q + shift) - shift;
}

static void code(lode_real_t *x, int64_t count, const parameters_t *p) {
    for (int64_t i = 0; i < count; i++) {
        const float value = (float)x[i];
        const float q = integer_of(value, p->scale[i], p->minimum[i], p->top[i]);
        const float coded = p->scale[i] * q + p->minimum[i];
        x[i] = (lode_real_t)(p->top[i] < 0 ? value : coded);
    }
}

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float to_bfloat(float x) {
    const uint32_t bits = bits_of(x), sign = bits & 0x80000000u;
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    const bool over = (rounded & 0x7f800000u) == 0x7f800000u;
    return float_of(!finite ? bits : over ? sign | 0x7f7f0000u : rounded);
}

static inline float to_half(float x) {
    const uint32_t bits = bits_of(x), sign = bits & 0x80000000u, magnitude = bits & 0x7fffffffu;
    const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u)) & 0xffffe000u;
    /* Below 2⁻¹⁴ the numbers are 2⁻²⁴ apart, as those of float32 are next to 0.75. */
    const uint32_t small = bits_of((float_of(magnitude) + 0.75f) - 0.75f);
    const uint32_t most = 0x477fe000u; /* 65504 */
    const uint32_t rounded = magnitude < 0x38800000u                    ? small
                             : normal > most && magnitude < 0x7f800000u ? most
                                                                        : normal;
    return float_of(magnitude >= 0x7f800000u ? bits : sign | rounded);
}

/* Rounds to the dtype of the checkpoint. */
static void settle(lode_real_t *x, int64_t count, lode_dtype_t dtype) {
    switch (dtype) {
    case LODE_DTYPE_F32:
        break;
    case LODE_DTYPE_F16:
        for (int64_t i = 0; i < count; i++)
            x[i] = (lode_real_t)to_half((float)x[i]);
        break;
    case LODE_DTYPE_BF16:
        for (int64_t i = 0; i < count; i++)
            x[i] = (lode_real_t)to_bfloat((float)x[i]);
        break;
    }
}

/* --- parts of lines -------------------------------------------------------------------------- */

static bool rounds(const lode_codec_t *codec) {
    return codec->bits > 0 || codec->row_bits || codec->col_bits;
}

void lode_coding_smooth(const lode_codec_t *codec, int64_t col, int64_t count, lode_real_t *x) {
    const float *smooth = codec->smooth + col;
    for (int64_t i = 0; i < count; i++)
        x[i] = (lode_real_t)((float)x[i] * smooth[i]);
}

void lode_coding_row(const lode_codec_t *codec, int64_t in, int64_t row, int64_t col, int64_t count,
                     lode_real_t *x) {
    parameters_t parameters;
    for (int64_t first = 0; first < count; first += CHUNK) {
        const int64_t some = count - first < CHUNK ? count - first : CHUNK;
        if (codec->smooth)
            lode_coding_smooth(codec, col + first, some, x + first);
        if (rounds(codec)) {
            row_parameters(&parameters, codec, in, row, col + first, some);
            code(x + first, some, &parameters);
        }
        if (codec->smooth || rounds(codec))
            settle(x + first, some, codec->dtype);
    }
}

static void code_column(const lode_codec_t *codec, int64_t in, int64_t col, int64_t row,
                        int64_t count, lode_real_t *x) {
    parameters_t parameters;
    for (int64_t first = 0; first < count; first += CHUNK) {
        const int64_t some = count - first < CHUNK ? count - first : CHUNK;
        for (int64_t i = first; codec->smooth && i < first + some; i++)
            x[i] = (lode_real_t)((float)x[i] * codec->smooth[col]);
        if (rounds(codec)) {
            column_parameters(&parameters, codec, in, row + first, col, some);
            code(x + first, some, &parameters);
        }
        if (codec->smooth || rounds(codec))
            settle(x + first, some, codec->dtype);
    }
}

void lode_coding_line(const lode_weight_t *weight, int64_t line, int64_t place, int64_t places,
                      lode_real_t *out) {
    lode_weight_line(weight, line, place, places, out);
    if (weight->codec && weight->transposed)
        code_column(weight->codec, weight->in, line, place, places, out);
    else if (weight->codec)
        lode_coding_row(weight->codec, weight->in, line, place, places, out);
}

/* What a held weight has become. */
static lode_real_t held_value(const lode_codec_t *codec, const lode_held_t *held) {
    lode_real_t value = (lode_real_t)held->value;
    if (codec->smooth)
        lode_coding_smooth(codec, held->col, 1, &value);
    settle(&value, 1, codec->dtype);
    return value;
}

void lode_coding_hold(const lode_weight_t *weight, int64_t line, int64_t lines, int64_t place,
                      int64_t places, lode_real_t *block) {
    const lode_codec_t *codec = weight->codec;
    const bool turned = weight->transposed;
    const int64_t row = turned ? place : line, rows = turned ? places : lines;
    const int64_t col = turned ? line : place, cols = turned ? lines : places;
    if (!codec || codec->held_count == 0)
        return;
    const int64_t end = lode_coding_find(codec, row + rows, 0);
    for (int64_t h = lode_coding_find(codec, row, 0); h < end; h++) {
        const lode_held_t *held = &codec->held[h];
        const int64_t i = held->row - row, j = held->col - col;
        if (j >= 0 && j < cols)
            block[turned ? j * places + i : i * places + j] = held_value(codec, held);
    }
}

void lode_coding_integers(const lode_codec_t *codec, int64_t in, int64_t row, int64_t col,
                          int64_t count, const lode_real_t *x, uint8_t *q) {
    parameters_t p;
    for (int64_t first = 0; first < count; first += CHUNK) {
        const int64_t some = count - first < CHUNK ? count - first : CHUNK;
        row_parameters(&p, codec, in, row, col + first, some);
        for (int64_t i = 0; i < some; i++) {
            const float value = integer_of((float)x[first + i], p.scale[i], p.minimum[i], p.top[i]);
            q[first + i] = p.top[i] < 0 || p.scale[i] == 0 ? 0 : (uint8_t)value;
        }
    }
}
