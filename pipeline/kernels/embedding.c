#include "kernels/embedding.h"

#include "base/error.h"

/* Columns that are summed at once. */
enum { COLUMNS = 64 };

/* Merges the sorted runs [first, middle) and [middle, end) of `from` into `to`; of equal ids, the
 * first run's come first. */
static void merge(const int32_t *ids, const int32_t *from, int64_t first, int64_t middle,
                  int64_t end, int32_t *to) {
    int64_t a = first, b = middle;
    for (int64_t i = first; i < end; i++)
        to[i] = b == end || (a < middle && ids[from[a]] <= ids[from[b]]) ? from[a++] : from[b++];
}

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Tokens by their ids, those of one id in their own order; order [2·tokens], the result is one half
 * of it. */
static const int32_t *sort_tokens(int64_t tokens, const int32_t *ids, int32_t *order) {
    int32_t *from = order, *to = order + tokens;
    for (int64_t t = 0; t < tokens; t++)
        from[t] = (int32_t)t;
    for (int64_t run = 1; run < tokens; run *= 2) {
        for (int64_t first = 0; first < tokens; first += 2 * run)
            merge(ids, from, first, min2(first + run, tokens), min2(first + 2 * run, tokens), to);
        int32_t *swapped = from;
        from = to;
        to = swapped;
    }
    return from;
}

/* row [d] += scale · Σ dx_t over the tokens listed. */
static void add_tokens(lode_real_t *row, int64_t d, const int32_t *listed, int64_t count,
                       double scale, const lode_real_t *dx) {
    for (int64_t first = 0; first < d; first += COLUMNS) {
        const int64_t columns = min2(d - first, COLUMNS);
        double sum[COLUMNS] = {0};
        for (int64_t k = 0; k < count; k++)
            for (int64_t i = 0; i < columns; i++)
                sum[i] += (double)dx[listed[k] * d + first + i];
        for (int64_t i = 0; i < columns; i++)
            row[first + i] = (lode_real_t)((double)row[first + i] + scale * sum[i]);
    }
}

void lode_embedding_gradient(const lode_gradient_t *gradient, int64_t d, int64_t tokens,
                             const int32_t *ids, double scale, const lode_real_t *dx,
                             int32_t *order) {
    LODE_ASSERT(!gradient->transposed && tokens <= INT32_MAX);
    const int32_t *sorted = sort_tokens(tokens, ids, order);
#pragma omp parallel for schedule(dynamic, 32)
    for (int64_t k = 0; k < tokens; k++) {
        const int32_t id = ids[sorted[k]];
        int64_t end = k + 1;
        if (k > 0 && ids[sorted[k - 1]] == id) /* one of those before adds it */
            continue;
        while (end < tokens && ids[sorted[end]] == id)
            end++;
        add_tokens(gradient->data + id * gradient->pitch, d, sorted + k, end - k, scale, dx);
    }
}

/* The same of all tokens at a position. */
static void add_position(lode_real_t *row, int64_t d, const lode_sequences_t *sequences,
                         int64_t position, const lode_real_t *dx) {
    for (int64_t first = 0; first < d; first += COLUMNS) {
        const int64_t columns = min2(d - first, COLUMNS);
        double sum[COLUMNS] = {0};
        for (int64_t s = 0; s < sequences->count; s++) {
            const int64_t t = sequences->offsets[s] + position;
            for (int64_t i = 0; t < sequences->offsets[s + 1] && i < columns; i++)
                sum[i] += (double)dx[t * d + first + i];
        }
        for (int64_t i = 0; i < columns; i++)
            row[first + i] = (lode_real_t)((double)row[first + i] + sum[i]);
    }
}

void lode_positions_gradient(const lode_gradient_t *gradient, int64_t d,
                             const lode_sequences_t *sequences, const lode_real_t *dx) {
    int64_t longest = 0;
    LODE_ASSERT(!gradient->transposed);
    for (int64_t s = 0; s < sequences->count; s++) {
        const int64_t length = sequences->offsets[s + 1] - sequences->offsets[s];
        longest = length > longest ? length : longest;
    }
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < longest; p++)
        add_position(gradient->data + p * gradient->pitch, d, sequences, p, dx);
}
