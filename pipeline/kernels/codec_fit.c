/* Scales and minima of blocks. Sums of a block are those of its parts of rows, added in the order
 * of the rows, and those have the lanes of kernels/lanes; of a column they are plain. */
#include <float.h>

#include "kernels/coding.h"
#include "kernels/lanes.h"

enum { CHUNK = 512, PANEL = 64, COLUMNS = 256 };

/* --- statistics of blocks -------------------------------------------------------------------- */

/* What is fitted to what. */
typedef struct fit {
    const lode_codec_t *codec;
    const lode_weight_t *weight;
    double clip;
} fit_t;

/* Of some elements, protected ones aside. */
typedef struct tally {
    double sum; /* of elements, or of squares about a mean */
    int64_t count;
    float least, most;
    int64_t bad; /* number of the first element that is not finite, row-major; −1 for none */
} tally_t;

static const tally_t nothing = {.least = INFINITY, .most = -INFINITY, .bad = -1};

/* Adds what comes later in the matrix. */
static void tally_add(tally_t *tally, const tally_t *more) {
    tally->sum += more->sum;
    tally->count += more->count;
    tally->least = more->least < tally->least ? more->least : tally->least;
    tally->most = more->most > tally->most ? more->most : tally->most;
    tally->bad = tally->bad < 0 ? more->bad : tally->bad;
}

/* x [cols] = part of a row, smoothed, with NaN for protected elements. Returns the first column
 * whose element is not finite, −1 for none. */
static int64_t read_free(const fit_t *fit, int64_t row, int64_t col, int64_t cols, float *x) {
    const lode_codec_t *codec = fit->codec;
    lode_real_t value[CHUNK];
    lode_weight_row(fit->weight, row, col, cols, value);
    if (codec->smooth)
        lode_coding_smooth(codec, col, cols, value);
    int bad = 0;
    for (int64_t i = 0; i < cols; i++) {
        x[i] = (float)value[i];
        bad |= !(fabsf(x[i]) <= FLT_MAX);
    }
    for (int64_t i = 0; bad && i < cols; i++)
        if (!(fabsf(x[i]) <= FLT_MAX))
            return col + i;
    const bool keep = codec->keep_row && codec->keep_row[row];
    for (int64_t i = 0; keep && i < cols; i++)
        x[i] = NAN;
    for (int64_t i = 0; codec->keep_col && i < cols; i++)
        x[i] = codec->keep_col[col + i] ? NAN : x[i];
    for (int64_t h = lode_coding_find(codec, row, col); h < codec->held_count; h++) {
        const lode_held_t *held = &codec->held[h];
        if (held->row != row || held->col >= col + cols)
            break;
        x[held->col - col] = NAN;
    }
    return -1;
}

/* Sums of some elements by lanes. */
typedef struct lanes {
    double sum[LODE_LANES];
    float least[LODE_LANES], most[LODE_LANES];
    int32_t count[LODE_LANES];
} lanes_t;

/* Adds x [LODE_LANES], NaN aside: themselves, or their squares about `mean` where `squares`. */
static inline void lanes_add(lanes_t *lanes, const float *x, bool squares, double mean) {
    for (int j = 0; j < LODE_LANES; j++) {
        const float value = x[j];
        const double deviation = (double)value - mean;
        const double term = squares ? deviation * deviation : (double)value;
        lanes->sum[j] += value == value ? term : 0;
        lanes->count[j] += value == value;
        lanes->least[j] = value < lanes->least[j] ? value : lanes->least[j];
        lanes->most[j] = value > lanes->most[j] ? value : lanes->most[j];
    }
}

/* Of columns [col, col + cols) of a row: sums of x, or of (x − *mean)². */
static tally_t tally_of(const fit_t *fit, int64_t row, int64_t col, int64_t cols,
                        const double *mean) {
    tally_t tally = nothing;
    lanes_t lanes = {.sum = {0}};
    float x[CHUNK];
    for (int j = 0; j < LODE_LANES; j++) {
        lanes.least[j] = INFINITY;
        lanes.most[j] = -INFINITY;
    }
    for (int64_t first = 0; first < cols; first += CHUNK) {
        const int64_t some = cols - first < CHUNK ? cols - first : CHUNK;
        const int64_t bad = read_free(fit, row, col + first, some, x);
        if (bad >= 0) {
            tally.bad = row * fit->weight->in + bad;
            return tally;
        }
        for (int64_t i = some; i % LODE_LANES != 0; i++)
            x[i] = NAN;
        for (int64_t i = 0; i < some; i += LODE_LANES)
            lanes_add(&lanes, x + i, mean != NULL, mean ? *mean : 0);
    }
    tally.sum = lode_lanes_sum(lanes.sum);
    for (int j = 0; j < LODE_LANES; j++) {
        tally.count += lanes.count[j];
        tally.least = lanes.least[j] < tally.least ? lanes.least[j] : tally.least;
        tally.most = lanes.most[j] > tally.most ? lanes.most[j] : tally.most;
    }
    return tally;
}

/* --- fitting --------------------------------------------------------------------------------- */

/* Scale and minimum of a block; `squares` are about its mean. Returns whether they are finite. */
static bool set_block(const fit_t *fit, const tally_t *tally, double squares, int bits,
                      float *scale, float *minimum) {
    *scale = *minimum = 0;
    if (tally->count == 0 || bits > 8)
        return true;
    float least = tally->least, most = tally->most;
    if (fit->clip < INFINITY) {
        const double mean = tally->sum / (double)tally->count;
        const double width = fit->clip * sqrt(squares / (double)tally->count);
        const float low = (float)(mean - width), high = (float)(mean + width);
        least = least < low ? low : least;
        most = most > high ? high : most;
        most = most < least ? least : most;
    }
    /* Never −0, which equals 0 but has other bits. */
    *minimum = least + 0.0f;
    *scale = (most - least) / (float)((1 << bits) - 1) + 0.0f;
    return *scale <= FLT_MAX;
}

/* Of elements [begin, end) of the flattened matrix. */
static tally_t tally_range(const fit_t *fit, int64_t begin, int64_t end, const double *mean) {
    const int64_t in = fit->weight->in;
    tally_t tally = nothing;
    for (int64_t e = begin; e < end && tally.bad < 0;) {
        const int64_t left = in - e % in, some = end - e < left ? end - e : left;
        const tally_t part = tally_of(fit, e / in, e % in, some, mean);
        tally_add(&tally, &part);
        e += some;
    }
    return tally;
}

/* The same of the whole matrix, by all threads: rows by rows, added in their order. */
static tally_t tally_whole(const fit_t *fit, const double *mean) {
    const int64_t out = fit->weight->out, in = fit->weight->in;
    tally_t tally = nothing;
    for (int64_t row = 0; row < out && tally.bad < 0; row += PANEL) {
        const int64_t rows = out - row < PANEL ? out - row : PANEL;
        tally_t part[PANEL];
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < rows; i++)
            part[i] = tally_of(fit, row + i, 0, in, mean);
        for (int64_t i = 0; i < rows; i++)
            tally_add(&tally, &part[i]);
    }
    return tally;
}

/* What kept a fit from being made: the first element that is not finite, or else the first block
 * that is too wide; INT64_MAX for none. */
typedef struct trouble {
    int64_t element, block;
} trouble_t;

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void fit_tensor(const fit_t *fit, float *scale, float *minimum, trouble_t *trouble) {
    const tally_t tally = tally_whole(fit, NULL);
    double squares = 0;
    if (tally.bad >= 0) {
        trouble->element = tally.bad;
        return;
    }
    if (fit->clip < INFINITY && tally.count > 0) {
        const double mean = tally.sum / (double)tally.count;
        squares = tally_whole(fit, &mean).sum;
    }
    if (!set_block(fit, &tally, squares, fit->codec->bits, scale, minimum))
        trouble->block = 0;
}

/* The first element of a block, of all kinds but columns' bits. */
static int64_t begin_of(const fit_t *fit, int64_t block) {
    const lode_codec_t *codec = fit->codec;
    const int64_t in = fit->weight->in, size = codec->granularity.size;
    if (codec->row_bits || codec->granularity.kind == LODE_GRANULARITY_CHANNEL)
        return block * in;
    if (codec->granularity.kind == LODE_GRANULARITY_BLOCK)
        return min2(block * size * size, fit->weight->out * in);
    const int64_t groups = (in + size - 1) / size;
    return block / groups * in + block % groups * size;
}

static void fit_ranges(const fit_t *fit, float *scale, float *minimum, trouble_t *trouble) {
    const int64_t blocks = lode_codec_blocks(fit->codec, fit->weight->out, fit->weight->in);
    int64_t element = INT64_MAX, wide = INT64_MAX;
#pragma omp parallel for schedule(static) reduction(min : element, wide)
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t begin = begin_of(fit, b), end = begin_of(fit, b + 1);
        const int bits = fit->codec->row_bits ? fit->codec->row_bits[b] : fit->codec->bits;
        const tally_t tally = tally_range(fit, begin, end, NULL);
        double squares = 0;
        if (fit->clip < INFINITY && tally.count > 0 && tally.bad < 0) {
            const double mean = tally.sum / (double)tally.count;
            squares = tally_range(fit, begin, end, &mean).sum;
        }
        if (tally.bad >= 0)
            element = min2(element, tally.bad);
        else if (!set_block(fit, &tally, squares, bits, &scale[b], &minimum[b]))
            wide = min2(wide, b);
    }
    trouble->element = element;
    trouble->block = wide;
}

/* Some columns, each of which is a block. */
typedef struct columns {
    tally_t tally[COLUMNS];
    double squares[COLUMNS]; /* about their means */
    int64_t bad;             /* as in tally_t */
} columns_t;

/* Adds a row's elements to the tallies of their columns, or to the squares. */
static void add_row(const fit_t *fit, int64_t row, int64_t col, int64_t cols, bool squares,
                    columns_t *columns) {
    float x[CHUNK];
    const int64_t bad = read_free(fit, row, col, cols, x);
    if (bad >= 0 && columns->bad < 0)
        columns->bad = row * fit->weight->in + bad;
    for (int64_t j = 0; j < cols; j++) {
        tally_t *own = &columns->tally[j];
        if (x[j] != x[j])
            continue;
        if (squares) {
            const double deviation = (double)x[j] - own->sum / (double)own->count;
            columns->squares[j] += deviation * deviation;
            continue;
        }
        own->sum += (double)x[j];
        own->count++;
        own->least = x[j] < own->least ? x[j] : own->least;
        own->most = x[j] > own->most ? x[j] : own->most;
    }
}

/* Tallies and squares of columns [col, col + cols). */
static void tally_columns(const fit_t *fit, int64_t col, int64_t cols, columns_t *columns) {
    const int64_t out = fit->weight->out;
    columns->bad = -1;
    for (int64_t j = 0; j < cols; j++) {
        columns->tally[j] = nothing;
        columns->squares[j] = 0;
    }
    for (int64_t row = 0; row < out; row++)
        add_row(fit, row, col, cols, false, columns);
    for (int64_t row = 0; row < out && fit->clip < INFINITY && columns->bad < 0; row++)
        add_row(fit, row, col, cols, true, columns);
}

static void fit_columns(const fit_t *fit, float *scale, float *minimum, trouble_t *trouble) {
    const int64_t in = fit->weight->in;
    int64_t element = INT64_MAX, wide = INT64_MAX;
#pragma omp parallel for schedule(static) reduction(min : element, wide)
    for (int64_t col = 0; col < in; col += COLUMNS) {
        const int64_t cols = min2(in - col, COLUMNS);
        columns_t columns;
        tally_columns(fit, col, cols, &columns);
        if (columns.bad >= 0)
            element = min2(element, columns.bad);
        for (int64_t j = 0; j < cols && columns.bad < 0; j++)
            if (!set_block(fit, &columns.tally[j], columns.squares[j],
                           fit->codec->col_bits[col + j], &scale[col + j], &minimum[col + j]))
                wide = min2(wide, col + j);
    }
    trouble->element = element;
    trouble->block = wide;
}

lode_status_t lode_codec_fit(const lode_codec_t *codec, const lode_weight_t *weight, double clip,
                             float *scale, float *minimum) {
    const fit_t fit = {.codec = codec, .weight = weight, .clip = clip};
    trouble_t trouble = {INT64_MAX, INT64_MAX};
    if (lode_codec_blocks(codec, weight->out, weight->in) == 0)
        return LODE_OK;
    if (codec->col_bits)
        fit_columns(&fit, scale, minimum, &trouble);
    else if (!codec->row_bits && codec->granularity.kind == LODE_GRANULARITY_TENSOR)
        fit_tensor(&fit, scale, minimum, &trouble);
    else
        fit_ranges(&fit, scale, minimum, &trouble);
    if (trouble.element < INT64_MAX)
        return lode_fail(LODE_ERR_NUMERIC,
                         "the weight in row %lld, column %lld is NaN or infinite%s; a matrix that "
                         "holds such weights cannot be quantized",
                         (long long)(trouble.element / weight->in),
                         (long long)(trouble.element % weight->in),
                         codec->smooth ? ", perhaps only after smoothing" : "");
    if (trouble.block < INT64_MAX)
        return lode_fail(LODE_ERR_NUMERIC,
                         "the weights of block %lld span more than float32 can hold; they cannot "
                         "be quantized together",
                         (long long)trouble.block);
    return LODE_OK;
}
