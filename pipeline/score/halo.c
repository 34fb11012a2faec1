#include "score/halo.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "comm/context.h"
#include "score/order.h"
#include "score/weights.h"

static const char down_name[] = "down_proj";

lode_status_t lode_halo_support(int32_t *support, int64_t support_size, const lode_tensor_t *down,
                                const int32_t *core, int64_t core_size) {
    int64_t hidden = down->shape[0], channels = down->shape[1];
    LODE_TRY(lode_weights_check(down, hidden, channels, down_name));
    if (support_size < 1 || support_size >= hidden)
        return lode_fail(LODE_ERR_CONFIG,
                         "classify.write_support is %lld, but the hidden size is %lld; choose "
                         "1 … %lld (with every dimension in it, connectivity is 1 everywhere)",
                         (long long)support_size, (long long)hidden, (long long)hidden - 1);
    double *row = NULL, *written = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW_RAW(&row, channels, "row of down_proj"), done);
    LODE_GUARD(status, LODE_NEW(&written, hidden, "what the core writes"), done);
    for (int64_t h = 0; h < hidden; h++) {
        LODE_GUARD(status, lode_weights_row(row, down, h, down_name), done);
        for (int64_t i = 0; i < core_size; i++)
            written[h] += fabs(row[core[i]]);
    }
    status = lode_order_top(support, support_size, written, hidden, "what the core writes");
done:
    free(row);
    free(written);
    return status;
}

/* Adds the absolute values of all rows to `whole`, and of those in the support to `inside`. */
static lode_status_t add_write_sums(double *inside, double *whole, double *row,
                                    const lode_tensor_t *down, const uint8_t *in_support) {
    int64_t hidden = down->shape[0], channels = down->shape[1];
    for (int64_t h = 0; h < hidden; h++) {
        LODE_TRY(lode_weights_row(row, down, h, down_name));
        for (int64_t j = 0; j < channels; j++)
            whole[j] += fabs(row[j]);
        for (int64_t j = 0; in_support[h] && j < channels; j++)
            inside[j] += fabs(row[j]);
    }
    return LODE_OK;
}

lode_status_t lode_halo_connectivity(double *connectivity, const lode_tensor_t *down,
                                     const int32_t *support, int64_t support_size) {
    int64_t hidden = down->shape[0], channels = down->shape[1];
    LODE_TRY(lode_weights_check(down, hidden, channels, down_name));
    uint8_t *in_support = NULL;
    double *row = NULL, *whole = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW(&in_support, hidden, "write support"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&row, channels, "row of down_proj"), done);
    LODE_GUARD(status, LODE_NEW(&whole, channels, "column sums of down_proj"), done);
    for (int64_t i = 0; i < support_size; i++)
        in_support[support[i]] = 1;
    memset(connectivity, 0, (size_t)channels * sizeof *connectivity);
    LODE_GUARD(status, add_write_sums(connectivity, whole, row, down, in_support), done);
    for (int64_t j = 0; j < channels; j++)
        connectivity[j] = whole[j] > 0 ? connectivity[j] / whole[j] : 0;
done:
    free(in_support);
    free(row);
    free(whole);
    return status;
}

int64_t lode_halo_size(double halo_fraction, int64_t channels, int64_t core_size) {
    int64_t others = channels - core_size;
    if (others <= 0)
        return 0;
    int64_t halo_size = (int64_t)floor(halo_fraction * (double)others);
    return halo_size > 1 ? halo_size : 1;
}

lode_status_t lode_halo_select(int32_t *halo, int64_t halo_size, const double *connectivity,
                               int64_t channels, const int32_t *core, int64_t core_size) {
    LODE_ASSERT(0 <= halo_size && halo_size <= channels - core_size);
    int32_t *order = NULL;
    uint8_t *in_core = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW_RAW(&order, channels, "channels by connectivity"), done);
    LODE_GUARD(status, LODE_NEW(&in_core, channels, "marks of the core"), done);
    LODE_GUARD(status, lode_order_top(order, channels, connectivity, channels, "connectivity"),
               done);
    for (int64_t i = 0; i < core_size; i++)
        in_core[core[i]] = 1;
    for (int64_t i = 0, taken = 0; taken < halo_size; i++)
        if (!in_core[order[i]])
            halo[taken++] = order[i];
done:
    free(order);
    free(in_core);
    return status;
}

/* A layer's q, read by column. */
typedef struct q_view {
    const float *q;
    int64_t tokens, stride;
} q_view_t;

/* Centres a column and scales it to unit length, so that the product of two is their correlation.
 * A constant one becomes 0 exactly: the sum of up to 2²⁹ equal floats has no rounding in double, so
 * their mean is that float and nothing is left that could correlate by accident. */
static void standardise(double *column, int64_t tokens) {
    double sum = 0, squares = 0;
    for (int64_t t = 0; t < tokens; t++)
        sum += column[t];
    double mean = sum / (double)tokens;
    for (int64_t t = 0; t < tokens; t++) {
        column[t] -= mean;
        squares += column[t] * column[t];
    }
    double scale = squares > 0 ? 1 / sqrt(squares) : 0;
    for (int64_t t = 0; t < tokens; t++)
        column[t] *= scale;
}

/* Standardised q of some channels as columns [count, tokens]. Tokens are the outer loop: q is far
 * larger than a cache, and reading it along its rows touches each page once. */
static lode_status_t gather_columns(double *columns, q_view_t view, const int32_t *channels,
                                    int64_t count) {
    for (int64_t t = 0; t < view.tokens; t++)
        for (int64_t i = 0; i < count; i++) {
            double value = (double)view.q[t * view.stride + channels[i]];
            if (!isfinite(value))
                return lode_fail(LODE_ERR_NUMERIC,
                                 "q of channel %d at token %lld is %g; look for NaN or infinite "
                                 "weights in the checkpoint",
                                 (int)channels[i], (long long)t, value);
            columns[i * view.tokens + t] = value;
        }
    for (int64_t i = 0; i < count; i++)
        standardise(columns + i * view.tokens, view.tokens);
    return LODE_OK;
}

static double redundancy_of(double correlation, bool positive_only) {
    double r = fmin(0.9999, fmax(-0.9999, correlation));
    if (positive_only)
        r = fmax(0, r);
    return -0.5 * log1p(-r * r);
}

/* Mean of the `top` largest values, added largest first, so that no order of the core matters. */
static lode_status_t mean_of_largest(double *mean, int32_t *order, const double *values,
                                     int64_t count, int64_t top) {
    LODE_TRY(lode_order_top(order, top, values, count, "redundancy"));
    double sum = 0;
    for (int64_t i = 0; i < top; i++)
        sum += values[order[i]];
    *mean = sum / (double)top;
    return LODE_OK;
}

enum { LODE_HALO_BLOCK = 128 }; /* halo channels correlated at once: bounds the working memory */

typedef struct correlator {
    double *core_columns; /* [core_size, tokens] */
    double *halo_columns; /* [block, tokens] */
    double *correlations; /* [block, core_size] */
    int32_t *order;       /* [core_size] */
} correlator_t;

static lode_status_t correlator_allocate(correlator_t *c, int64_t tokens, int64_t core_size,
                                         int64_t block) {
    LODE_TRY(LODE_NEW_RAW(&c->core_columns, core_size * tokens, "q of the core"));
    LODE_TRY(LODE_NEW_RAW(&c->halo_columns, block * tokens, "q of the halo"));
    LODE_TRY(LODE_NEW_RAW(&c->correlations, block * core_size, "core–halo correlations"));
    return LODE_NEW_RAW(&c->order, core_size, "core by redundancy");
}

static lode_status_t correlate_block(correlator_t *c, int64_t tokens, int64_t core_size,
                                     int64_t count) {
    int rows, columns, inner;
    LODE_TRY(lode_narrow(&rows, count, "halo channels"));
    LODE_TRY(lode_narrow(&columns, core_size, "core channels"));
    LODE_TRY(lode_narrow(&inner, tokens, "tokens kept for redundancy"));
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, columns, inner, 1.0, c->halo_columns,
                inner, c->core_columns, inner, 0.0, c->correlations, columns);
    return LODE_OK;
}

static lode_status_t redundancy_block(double *redundancy, correlator_t *c, q_view_t view,
                                      int64_t core_size, const int32_t *halo, int64_t count,
                                      lode_redundancy_t options) {
    LODE_TRY(gather_columns(c->halo_columns, view, halo, count));
    LODE_TRY(correlate_block(c, view.tokens, core_size, count));
    int64_t top = options.top_k < core_size ? options.top_k : core_size;
    for (int64_t i = 0; i < count; i++) {
        double *row = c->correlations + i * core_size;
        for (int64_t s = 0; s < core_size; s++)
            row[s] = redundancy_of(row[s], options.positive_only);
        LODE_TRY(mean_of_largest(&redundancy[i], c->order, row, core_size, top));
    }
    return LODE_OK;
}

lode_status_t lode_halo_redundancy(double *redundancy, const float *q, int64_t tokens,
                                   int64_t stride, int64_t channels, const int32_t *core,
                                   int64_t core_size, const int32_t *halo, int64_t halo_size,
                                   lode_redundancy_t options) {
    LODE_ASSERT(tokens > 0 && stride >= channels && core_size > 0 && options.top_k > 0);
    q_view_t view = {q, tokens, stride};
    correlator_t c = {0};
    int64_t block = halo_size < LODE_HALO_BLOCK ? halo_size : LODE_HALO_BLOCK;
    lode_status_t status;
    LODE_GUARD(status, correlator_allocate(&c, tokens, core_size, block), done);
    LODE_GUARD(status, gather_columns(c.core_columns, view, core, core_size), done);
    for (int64_t first = 0; first < halo_size; first += block) {
        int64_t count = halo_size - first < block ? halo_size - first : block;
        LODE_GUARD(
            status,
            redundancy_block(redundancy + first, &c, view, core_size, halo + first, count, options),
            done);
    }
done:
    free(c.core_columns);
    free(c.halo_columns);
    free(c.correlations);
    free(c.order);
    return status;
}

lode_status_t lode_halo_protection(double *protection, int64_t channels, const int32_t *halo,
                                   const double *redundancy, int64_t halo_size, double floor,
                                   double power) {
    for (int64_t j = 0; j < channels; j++)
        protection[j] = 1;
    if (halo_size < 2)
        return lode_order_check(redundancy, halo_size, "redundancy to the core");
    int32_t *order;
    LODE_TRY(LODE_NEW_RAW(&order, halo_size, "halo by redundancy"));
    lode_status_t status =
        lode_order_ascending(order, redundancy, halo_size, "redundancy to the core");
    for (int64_t i = 0; status == LODE_OK && i < halo_size; i++) {
        double rank = (double)i / (double)(halo_size - 1);
        protection[halo[order[i]]] = floor + (1 - floor) * (1 - pow(rank, power));
    }
    free(order);
    return status;
}
