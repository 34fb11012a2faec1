#include "score/match.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "kernels/linear.h"
#include "score/weights.h"

/* Products that are held at once: of some channels of the version with all of the original. */
enum { BLOCK_PRODUCTS = 1 << 21 };

typedef struct match {
    lode_match_rows_t original, version;
    int64_t m, n, d;      /* channels of both, hidden size */
    int64_t height;       /* channels of the version in a block */
    double *norm;         /* [m] of the original's vectors */
    double *version_norm; /* [n] */
    int32_t *holder;      /* [m] the version's channel that has it, −1 while it is free */
    int64_t *queue;       /* [n] the version's channels that are to propose */
    int64_t waiting;      /* of them */
    lode_real_t *rows;    /* [height, d] */
    lode_real_t *product; /* [height, m] */
    lode_real_t *workspace;
    double *similarity; /* [n] of a channel that has a partner; the caller's */
} match_t;

static int64_t block_height(int64_t original, int64_t version) {
    const int64_t height = original < BLOCK_PRODUCTS ? BLOCK_PRODUCTS / original : 1;
    return height < version ? height : version;
}

static void release(match_t *match) {
    free(match->norm);
    free(match->version_norm);
    free(match->holder);
    free(match->queue);
    free(match->rows);
    free(match->product);
    free(match->workspace);
}

static int64_t workspace_of(const match_t *match) {
    const lode_weight_t up = lode_weight_of(match->original.up);
    int64_t reals = lode_linear_workspace(&up);
    if (match->original.gate->data) {
        const lode_weight_t gate = lode_weight_of(match->original.gate);
        const int64_t others = lode_linear_workspace(&gate);
        reals = others > reals ? others : reals;
    }
    return reals;
}

static lode_status_t allocate(match_t *match) {
    static const char what[] = "matched channels";
    LODE_TRY(LODE_NEW(&match->norm, match->m, what));
    LODE_TRY(LODE_NEW(&match->version_norm, match->n, what));
    LODE_TRY(LODE_NEW(&match->holder, match->m, what));
    LODE_TRY(LODE_NEW(&match->queue, match->n, what));
    LODE_TRY(LODE_NEW_RAW(&match->rows, match->height * match->d, what));
    LODE_TRY(LODE_NEW_RAW(&match->product, match->height * match->m, what));
    return LODE_NEW_RAW(&match->workspace, workspace_of(match), what);
}

int64_t lode_match_memory(int64_t original, int64_t version, int64_t hidden) {
    const int64_t height = block_height(original, version);
    const int64_t weights = original * hidden;
    return (original + 2 * version) * (int64_t)sizeof(double) +
           original * (int64_t)sizeof(int32_t) +
           (height * (hidden + original) + (weights < 1 << 22 ? weights : 1 << 22)) *
               (int64_t)sizeof(lode_real_t);
}

/* norm [channels] out, of gate and up row together; `rows` is room for as many. */
static lode_status_t read_norms(double *norm, double *rows, lode_match_rows_t weights,
                                int64_t channels) {
    LODE_TRY(lode_weights_row_norms(norm, weights.up, "up_proj"));
    if (!weights.gate->data)
        return LODE_OK;
    LODE_TRY(lode_weights_row_norms(rows, weights.gate, "gate_proj"));
    for (int64_t j = 0; j < channels; j++)
        norm[j] = sqrt(norm[j] * norm[j] + rows[j] * rows[j]);
    return LODE_OK;
}

/* Adds the products of the version's rows queue[0 … count) of one matrix to those in `product`. */
static lode_status_t add_products(match_t *match, const lode_tensor_t *version,
                                  const lode_tensor_t *original, const int64_t *queue,
                                  int64_t count, bool accumulate) {
    const int64_t d = match->d;
    const lode_weight_t weight = lode_weight_of(original);
    lode_weights_reader_t reader;
    lode_status_t status = lode_weights_open(&reader, version, match->n, d, "projection");
    for (int64_t i = 0; i < count && status == LODE_OK; i++) {
        const double *row;
        LODE_GUARD(status, lode_weights_at(&reader, queue[i], &row), done);
        for (int64_t k = 0; k < d; k++)
            match->rows[i * d + k] = (lode_real_t)row[k];
    }
    if (status == LODE_OK)
        lode_linear_forward(&weight, count, match->rows, accumulate, match->product,
                            match->workspace);
done:
    lode_weights_close(&reader);
    return status;
}

static lode_status_t multiply(match_t *match, const int64_t *queue, int64_t count) {
    const bool gated = match->original.gate->data != NULL;
    if (gated)
        LODE_TRY(
            add_products(match, match->version.gate, match->original.gate, queue, count, false));
    return add_products(match, match->version.up, match->original.up, queue, count, gated);
}

/* The original's channel that `channel` likes best among those that would rather have it than whom
 * they have, −1 for none; product [m] are its. */
static int64_t propose(const match_t *match, int64_t channel, const lode_real_t *product,
                       double *similarity) {
    int64_t best = -1;
    for (int64_t j = 0; j < match->m; j++) {
        if (match->norm[j] == 0)
            continue;
        double s = (double)product[j] / (match->version_norm[channel] * match->norm[j]);
        s = s > 1 ? 1 : s < -1 ? -1 : s;
        const int32_t holder = match->holder[j];
        const bool wins = holder < 0 || s > match->similarity[holder] ||
                          (s == match->similarity[holder] && channel < holder);
        if (wins && (best < 0 || s > *similarity)) {
            best = j;
            *similarity = s;
        }
    }
    return best;
}

/* Lets everybody in the queue propose once; those who lose their partner make the next queue. */
static lode_status_t run_round(match_t *match, int64_t *next) {
    int64_t losers = 0;
    for (int64_t first = 0; first < match->waiting; first += match->height) {
        const int64_t left = match->waiting - first;
        const int64_t count = left < match->height ? left : match->height;
        LODE_TRY(multiply(match, match->queue + first, count));
        for (int64_t i = 0; i < count; i++) {
            const int64_t channel = match->queue[first + i];
            double similarity = NAN;
            const int64_t j = propose(match, channel, match->product + i * match->m, &similarity);
            match->similarity[channel] = similarity;
            if (j < 0)
                continue;
            if (match->holder[j] >= 0)
                next[losers++] = match->holder[j];
            match->holder[j] = (int32_t)channel;
        }
    }
    match->waiting = losers;
    return LODE_OK;
}

static lode_status_t run_rounds(match_t *match) {
    int64_t *next;
    LODE_TRY(LODE_NEW(&next, match->n, "matched channels"));
    lode_status_t status = LODE_OK;
    while (match->waiting > 0 && status == LODE_OK) {
        status = run_round(match, next);
        int64_t *const done = match->queue;
        match->queue = next;
        next = done;
    }
    free(next);
    return status;
}

static lode_status_t check_shapes(const match_t *match) {
    LODE_TRY(lode_weights_check(match->version.up, match->n, match->d, "up_proj"));
    if (match->original.gate->data)
        LODE_TRY(lode_weights_check(match->version.gate, match->n, match->d, "gate_proj"));
    LODE_ASSERT(match->n <= match->m);
    return LODE_OK;
}

/* The original's and the version's vectors, free and in the queue. */
static lode_status_t begin(match_t *match) {
    double *rows;
    LODE_TRY(LODE_NEW_RAW(&rows, match->m, "matched channels"));
    lode_status_t status = read_norms(match->norm, rows, match->original, match->m);
    if (status == LODE_OK)
        status = read_norms(match->version_norm, rows, match->version, match->n);
    free(rows);
    for (int64_t j = 0; j < match->m; j++)
        match->holder[j] = -1;
    for (int64_t i = 0; i < match->n; i++) {
        match->similarity[i] = NAN;
        if (match->version_norm[i] > 0)
            match->queue[match->waiting++] = i;
    }
    return status;
}

lode_status_t lode_match_channels(int32_t *out, double *similarity, lode_match_rows_t original,
                                  lode_match_rows_t version) {
    match_t match = {.original = original,
                     .version = version,
                     .m = original.up->shape[0],
                     .n = version.up->shape[0],
                     .d = original.up->shape[1],
                     .similarity = similarity};
    match.height = block_height(match.m, match.n);
    lode_status_t status = check_shapes(&match);
    if (status == LODE_OK)
        status = allocate(&match);
    if (status == LODE_OK)
        status = begin(&match);
    if (status == LODE_OK)
        status = run_rounds(&match);
    for (int64_t i = 0; i < match.n && status == LODE_OK; i++)
        out[i] = -1;
    for (int64_t j = 0; j < match.m && status == LODE_OK; j++)
        if (match.holder[j] >= 0)
            out[match.holder[j]] = (int32_t)j;
    release(&match);
    return status;
}
