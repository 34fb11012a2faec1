#include "score/entropy.h"

#include <math.h>
#include <string.h>

#include "kernels/elementary.h"
#include "score/order.h"
#include "score/weights.h"

/* Channels whose sums are taken together, and rows that are widened at a time: whole cache lines of
 * either storage, and a panel that stays in the first cache. */
enum { WIDTH = 128, HEIGHT = 16 };

/* Largest magnitude of what is added to a gradient: below the largest float. */
static const double STEEPEST = 1e38;

/* Some channels of a matrix, and of each: the scale of its weights, Σ f, Σ f·ln f. */
typedef struct tile {
    const lode_tensor_t *down;
    int64_t column, columns;
    double most[WIDTH], sum[WIDTH], weighted[WIDTH];
} tile_t;

/* --- one weight ------------------------------------------------------------------------------- */

/* f of a weight over that of the largest, and its logarithm, finite also where f is 0. */
typedef struct share {
    double f, log_f;
} share_t;

static inline share_t share_of(double weight, double most, lode_entropy_form_t form) {
    const double size = fabs(weight);
    if (form == LODE_ENTROPY_SOFTMAX)
        return (share_t){lode_exp_nonpositive_f64(size - most), size - most};
    const double part = size / most, logarithm = lode_log_positive(part < 1e-300 ? 1e-300 : part);
    return form == LODE_ENTROPY_SQUARE ? (share_t){part * part, 2 * logarithm}
                                       : (share_t){part, logarithm};
}

/* f' over F in units of 1 / Σ f: what −(ln p + H) is multiplied by. */
static inline double slope_of(double weight, double f, double most, lode_entropy_form_t form) {
    const double sign = weight > 0 ? 1 : weight < 0 ? -1 : 0;
    if (form == LODE_ENTROPY_SOFTMAX)
        return sign * f;
    return form == LODE_ENTROPY_SQUARE ? 2 * (weight / most) / most : sign / most;
}

/* --- the channels of a tile ------------------------------------------------------------------- */

/* Widens the rows from `row` on; returns how many. */
static int64_t read_panel(double panel[HEIGHT * WIDTH], const tile_t *tile, int64_t row) {
    const int64_t left = tile->down->shape[0] - row, rows = left < HEIGHT ? left : HEIGHT;
    lode_weights_block(panel, tile->down, row, rows, tile->column, tile->columns);
    return rows;
}

/* Largest magnitudes. A channel of zeros has none to divide by and takes 1. */
static void find_most(tile_t *tile, double panel[HEIGHT * WIDTH], lode_entropy_form_t form) {
    const int64_t d = tile->down->shape[0], columns = tile->columns;
    memset(tile->most, 0, sizeof tile->most);
    for (int64_t row = 0; row < d; row += HEIGHT) {
        const int64_t rows = read_panel(panel, tile, row);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) {
                const double size = fabs(panel[i * columns + j]);
                tile->most[j] = size > tile->most[j] ? size : tile->most[j];
            }
    }
    for (int64_t j = 0; j < columns; j++)
        if (tile->most[j] == 0 && form != LODE_ENTROPY_SOFTMAX)
            tile->most[j] = 1;
}

static inline void add_panel(tile_t *tile, const double *panel, int64_t rows,
                             lode_entropy_form_t form) {
    const int64_t columns = tile->columns;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            const share_t share = share_of(panel[i * columns + j], tile->most[j], form);
            tile->sum[j] += share.f;
            tile->weighted[j] += share.f * share.log_f;
        }
}

/* Σ f and Σ f·ln f. Each form has a loop of its own, without a choice inside. */
static void add_up(tile_t *tile, double panel[HEIGHT * WIDTH], lode_entropy_form_t form) {
    memset(tile->sum, 0, sizeof tile->sum);
    memset(tile->weighted, 0, sizeof tile->weighted);
    for (int64_t row = 0; row < tile->down->shape[0]; row += HEIGHT) {
        const int64_t rows = read_panel(panel, tile, row);
        if (form == LODE_ENTROPY_ABSOLUTE)
            add_panel(tile, panel, rows, LODE_ENTROPY_ABSOLUTE);
        else if (form == LODE_ENTROPY_SQUARE)
            add_panel(tile, panel, rows, LODE_ENTROPY_SQUARE);
        else
            add_panel(tile, panel, rows, LODE_ENTROPY_SOFTMAX);
    }
}

/* H = ln Σf − Σ f·ln f / Σf; both terms are positive. NaN stays NaN. */
static double entropy_of(double sum, double weighted, int64_t d) {
    return sum == 0 ? log((double)d) : log(sum) - weighted / sum;
}

static tile_t tile_at(const lode_tensor_t *down, int64_t column) {
    const int64_t left = down->shape[1] - column;
    return (tile_t){.down = down, .column = column, .columns = left < WIDTH ? left : WIDTH};
}

/* workspace NULL: not wanted. */
static void take_entropies(const lode_tensor_t *down, lode_entropy_form_t form, double *h,
                           double *workspace) {
    const int64_t d = down->shape[0], m = down->shape[1];
#pragma omp parallel for schedule(static)
    for (int64_t column = 0; column < m; column += WIDTH) {
        double panel[HEIGHT * WIDTH];
        tile_t tile = tile_at(down, column);
        find_most(&tile, panel, form);
        add_up(&tile, panel, form);
        for (int64_t j = 0; j < tile.columns; j++)
            h[column + j] = entropy_of(tile.sum[j], tile.weighted[j], d);
        if (!workspace)
            continue;
        memcpy(workspace + column, tile.most, (size_t)tile.columns * sizeof *workspace);
        memcpy(workspace + m + column, tile.sum, (size_t)tile.columns * sizeof *workspace);
    }
}

/* The panel's weights become what is added to the gradient; `weighted` holds H − ln Σf of the
 * channels, `sum` scale / Σf. */
static inline void differentiate(const tile_t *tile, double *panel, int64_t rows,
                                 lode_entropy_form_t form) {
    const int64_t columns = tile->columns;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            const double weight = panel[i * columns + j];
            const share_t share = share_of(weight, tile->most[j], form);
            const double slope = slope_of(weight, share.f, tile->most[j], form);
            const double change = -slope * tile->sum[j] * (share.log_f + tile->weighted[j]);
            panel[i * columns + j] = change > STEEPEST    ? STEEPEST
                                     : change < -STEEPEST ? -STEEPEST
                                                          : change;
        }
}

static void add_to_gradient(const tile_t *tile, const double *panel, int64_t row, int64_t rows,
                            float *gradient) {
    const int64_t columns = tile->columns, pitch = tile->down->pitch;
    if (tile->down->transposed)
        for (int64_t j = 0; j < columns; j++) {
            float *line = gradient + (tile->column + j) * pitch + row;
            for (int64_t i = 0; i < rows; i++)
                line[i] = (float)((double)line[i] + panel[i * columns + j]);
        }
    else
        for (int64_t i = 0; i < rows; i++) {
            float *line = gradient + (row + i) * pitch + tile->column;
            for (int64_t j = 0; j < columns; j++)
                line[j] = (float)((double)line[j] + panel[i * columns + j]);
        }
}

/* The factors of differentiate(). A channel of zeros has no derivatives. */
static void prepare(tile_t *tile, const double *h, const double *workspace, double scale) {
    const int64_t m = tile->down->shape[1];
    for (int64_t j = 0; j < tile->columns; j++) {
        const double sum = workspace[m + tile->column + j];
        tile->most[j] = workspace[tile->column + j];
        tile->sum[j] = sum == 0 ? 0 : scale / sum;
        tile->weighted[j] = sum == 0 ? 0 : h[tile->column + j] - log(sum);
    }
}

static lode_tensor_t view_of(const float *weights, int64_t d, int64_t m, int64_t pitch,
                             bool transposed) {
    lode_tensor_t view = lode_tensor_matrix(weights, LODE_DTYPE_F32, d, m);
    view.pitch = pitch;
    view.transposed = transposed;
    return view;
}

void lode_entropy_columns(const float *weights, int64_t d, int64_t m, int64_t pitch,
                          bool transposed, lode_entropy_form_t form, double *h, double *workspace) {
    const lode_tensor_t down = view_of(weights, d, m, pitch, transposed);
    take_entropies(&down, form, h, workspace);
}

void lode_entropy_gradient(const float *weights, int64_t d, int64_t m, int64_t pitch,
                           bool transposed, lode_entropy_form_t form, const double *h,
                           const double *workspace, double scale, float *gradient) {
    const lode_tensor_t down = view_of(weights, d, m, pitch, transposed);
#pragma omp parallel for schedule(static)
    for (int64_t column = 0; column < m; column += WIDTH) {
        double panel[HEIGHT * WIDTH];
        tile_t tile = tile_at(&down, column);
        prepare(&tile, h, workspace, scale);
        for (int64_t row = 0; row < d; row += HEIGHT) {
            const int64_t rows = read_panel(panel, &tile, row);
            if (form == LODE_ENTROPY_ABSOLUTE)
                differentiate(&tile, panel, rows, LODE_ENTROPY_ABSOLUTE);
            else if (form == LODE_ENTROPY_SQUARE)
                differentiate(&tile, panel, rows, LODE_ENTROPY_SQUARE);
            else
                differentiate(&tile, panel, rows, LODE_ENTROPY_SOFTMAX);
            add_to_gradient(&tile, panel, row, rows, gradient);
        }
    }
}

lode_status_t lode_entropy_tensor(double *h, const lode_tensor_t *down, lode_entropy_form_t form,
                                  const char *what) {
    LODE_TRY(lode_weights_check(down, down->shape[0], down->shape[1], what));
    take_entropies(down, form, h, NULL);
    for (int64_t j = 0; j < down->shape[1]; j++)
        if (isnan(h[j])) /* what is wrong there, by rows */
            LODE_TRY(lode_weights_finite(down, what));
    return lode_order_check(h, down->shape[1], what);
}
