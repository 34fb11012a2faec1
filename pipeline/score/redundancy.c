#include "score/redundancy.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "comm/context.h"
#include "score/order.h"

static const double nodelens_epsilon = 1e-8;

/* Standardised q of some channels. */
typedef struct columns {
    const int32_t *channels; /* [count] */
    int64_t count;
    double *values;   /* [count, tokens], such that the product of two is their covariance, or their
                         correlation where that is scale-free */
    double *variance; /* [count] */
} columns_t;

static lode_status_t columns_allocate(columns_t *columns, int64_t count, int64_t tokens) {
    LODE_TRY(LODE_NEW_RAW(&columns->values, count * tokens, "standardised q"));
    return LODE_NEW_RAW(&columns->variance, count, "variances of q");
}

static void columns_free(columns_t *columns) {
    free(columns->values);
    free(columns->variance);
}

/* Centres a column and scales it: to unit length, so that the product of two is their correlation,
 * or by 1/√tokens. Returns its variance. A constant one becomes 0 exactly: the sum of up to 2²⁹
 * equal floats has no rounding in double, so their mean is that float and nothing is left that
 * could correlate by accident. */
static double standardise(double *column, int64_t tokens, lode_correlation_t correlation) {
    double sum = 0, squares = 0;
    for (int64_t t = 0; t < tokens; t++)
        sum += column[t];
    double mean = sum / (double)tokens;
    for (int64_t t = 0; t < tokens; t++) {
        column[t] -= mean;
        squares += column[t] * column[t];
    }
    double scale = squares > 0 ? 1 / sqrt(squares) : 0;
    if (correlation == LODE_CORRELATION_NODELENS)
        scale = 1 / sqrt((double)tokens);
    for (int64_t t = 0; t < tokens; t++)
        column[t] *= scale;
    return squares / (double)tokens;
}

/* Fills columns for channels[count]. Tokens are the outer loop: q is far larger than a cache, and
 * reading it along its rows touches each page once. */
static lode_status_t gather(columns_t *columns, lode_q_t q, const int32_t *channels, int64_t count,
                            lode_correlation_t correlation) {
    columns->channels = channels;
    columns->count = count;
    for (int64_t t = 0; t < q.tokens; t++)
        for (int64_t i = 0; i < count; i++) {
            double value = (double)q.q[t * q.stride + channels[i]];
            if (!isfinite(value))
                return lode_fail(LODE_ERR_NUMERIC,
                                 "q of channel %d at token %lld is %g; look for NaN or infinite "
                                 "weights in the checkpoint",
                                 (int)channels[i], (long long)t, value);
            columns->values[i * q.tokens + t] = value;
        }
    for (int64_t i = 0; i < count; i++)
        columns->variance[i] = standardise(columns->values + i * q.tokens, q.tokens, correlation);
    return LODE_OK;
}

static double redundancy_of(double correlation, lode_redundancy_t options) {
    double r = fmin(0.9999, fmax(-0.9999, correlation));
    if (options.positive_only)
        r = fmax(0, r);
    if (options.correlation == LODE_CORRELATION_NODELENS) {
        const float square = (float)r * (float)r;
        return fabs(0.5 * log((double)(1 - square))); /* no −0 */
    }
    return -0.5 * log1p(-r * r);
}

/* Red of all pairs [a.count, b.count]. */
static lode_status_t correlate(double *pairs, const columns_t *a, const columns_t *b,
                               int64_t tokens, lode_redundancy_t options) {
    int rows, columns, inner;
    LODE_TRY(lode_narrow(&rows, a->count, "channels"));
    LODE_TRY(lode_narrow(&columns, b->count, "channels"));
    LODE_TRY(lode_narrow(&inner, tokens, "tokens kept for redundancy"));
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, columns, inner, 1.0, a->values,
                inner, b->values, inner, 0.0, pairs, columns);
    for (int64_t i = 0; i < a->count; i++)
        for (int64_t j = 0; j < b->count; j++) {
            double *pair = &pairs[i * b->count + j];
            if (options.correlation == LODE_CORRELATION_NODELENS)
                *pair /= sqrt(a->variance[i] * b->variance[j] + nodelens_epsilon);
            *pair = a->channels[i] == b->channels[j] ? 0 : redundancy_of(*pair, options);
        }
    return LODE_OK;
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

enum { BLOCK = 128 }; /* channels correlated at once: bounds the working memory */

static int64_t block_size(int64_t count) {
    return count < BLOCK ? count : BLOCK;
}

int64_t lode_redundancy_memory(int64_t tokens, int64_t a, int64_t b) {
    const int64_t block = block_size(a);
    return ((block + b) * (tokens + 1) + block * b) * (int64_t)sizeof(double) +
           b * (int64_t)sizeof(int32_t);
}

lode_status_t lode_redundancy_to_core(double *redundancy, lode_q_t q, const int32_t *core,
                                      int64_t core_size, const int32_t *others, int64_t count,
                                      lode_redundancy_t options) {
    LODE_ASSERT(q.tokens > 0 && q.stride >= q.channels && core_size > 0 && options.top_k > 0);
    const int64_t block = block_size(count);
    const int64_t top = options.top_k < core_size ? options.top_k : core_size;
    columns_t a = {0}, b = {0};
    double *pairs = NULL;
    int32_t *order = NULL;
    lode_status_t status;
    LODE_GUARD(status, columns_allocate(&a, block, q.tokens), done);
    LODE_GUARD(status, columns_allocate(&b, core_size, q.tokens), done);
    LODE_GUARD(status, LODE_NEW_RAW(&pairs, block * core_size, "redundancies"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&order, core_size, "core by redundancy"), done);
    LODE_GUARD(status, gather(&b, q, core, core_size, options.correlation), done);
    for (int64_t first = 0; first < count; first += block) {
        const int64_t rows = count - first < block ? count - first : block;
        LODE_GUARD(status, gather(&a, q, others + first, rows, options.correlation), done);
        LODE_GUARD(status, correlate(pairs, &a, &b, q.tokens, options), done);
        for (int64_t i = 0; i < rows; i++)
            LODE_GUARD(status,
                       mean_of_largest(&redundancy[first + i], order, pairs + i * core_size,
                                       core_size, top),
                       done);
    }
done:
    columns_free(&a);
    columns_free(&b);
    free(pairs);
    free(order);
    return status;
}

lode_status_t lode_redundancy_pairs(double *pairs, lode_q_t q, const int32_t *a, int64_t a_count,
                                    const int32_t *b, int64_t b_count, lode_redundancy_t options) {
    LODE_ASSERT(q.tokens > 0 && q.stride >= q.channels);
    if (a_count == 0 || b_count == 0)
        return LODE_OK;
    const int64_t block = block_size(a_count);
    columns_t left = {0}, right = {0};
    lode_status_t status;
    LODE_GUARD(status, columns_allocate(&left, block, q.tokens), done);
    LODE_GUARD(status, columns_allocate(&right, b_count, q.tokens), done);
    LODE_GUARD(status, gather(&right, q, b, b_count, options.correlation), done);
    for (int64_t first = 0; first < a_count; first += block) {
        const int64_t rows = a_count - first < block ? a_count - first : block;
        LODE_GUARD(status, gather(&left, q, a + first, rows, options.correlation), done);
        LODE_GUARD(status, correlate(pairs + first * b_count, &left, &right, q.tokens, options),
                   done);
    }
done:
    columns_free(&left);
    columns_free(&right);
    return status;
}
