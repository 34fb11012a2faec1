#include "score/retention.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "score/weights.h"

/* Adds one pair of weights. */
static void add(lode_retention_channel_t *channel, double before, double after) {
    const double change = after - before;
    channel->weight += before * before;
    channel->error += change * change;
    channel->zeros += after == 0;
    channel->changed += change != 0;
}

/* Where the version has channel j. */
static int64_t place_of(const int32_t *place, int64_t j) {
    return place ? place[j] : j;
}

/* Adds the rows of a projection into the block: one row is one channel. */
static lode_status_t add_rows(lode_retention_channel_t *channel, lode_weights_reader_t *original,
                              lode_weights_reader_t *version, const int32_t *place) {
    const int64_t m = original->tensor->shape[0], d = original->tensor->shape[1];
    for (int64_t j = 0; j < m; j++) {
        const int64_t at = place_of(place, j), before = channel[j].zeros;
        const double *row, *other = NULL;
        LODE_TRY(lode_weights_at(original, j, &row));
        if (at >= 0)
            LODE_TRY(lode_weights_at(version, at, &other));
        for (int64_t i = 0; i < d; i++)
            add(&channel[j], row[i], other ? other[i] : 0);
        channel[j].zeroed |= other && channel[j].zeros - before == d;
    }
    return LODE_OK;
}

/* Adds the rows of the projection out of it: each has a weight of every channel. */
static lode_status_t add_columns(lode_retention_channel_t *channel, lode_weights_reader_t *original,
                                 lode_weights_reader_t *version, const int32_t *place,
                                 int64_t *before) {
    const int64_t d = original->tensor->shape[0], m = original->tensor->shape[1];
    for (int64_t j = 0; j < m; j++)
        before[j] = channel[j].zeros;
    for (int64_t i = 0; i < d; i++) {
        const double *row, *other;
        LODE_TRY(lode_weights_at(original, i, &row));
        LODE_TRY(lode_weights_at(version, i, &other));
        for (int64_t j = 0; j < m; j++) {
            const int64_t at = place_of(place, j);
            add(&channel[j], row[j], at >= 0 ? other[at] : 0);
        }
    }
    for (int64_t j = 0; j < m; j++)
        channel[j].zeroed |= !channel[j].removed && channel[j].zeros - before[j] == d;
    return LODE_OK;
}

/* One projection of both, of `rows` rows in the original and `version_rows` in the version. */
static lode_status_t add_projection(lode_retention_channel_t *channel,
                                    const lode_tensor_t *original, const lode_tensor_t *version,
                                    const int64_t shape[2], const int64_t version_shape[2],
                                    const int32_t *place, int64_t *before, const char *what) {
    lode_weights_reader_t reader = {0}, other = {0};
    lode_status_t status = lode_weights_open(&reader, original, shape[0], shape[1], what);
    if (status == LODE_OK)
        status = lode_weights_open(&other, version, version_shape[0], version_shape[1], what);
    if (status == LODE_OK)
        status = before ? add_columns(channel, &reader, &other, place, before)
                        : add_rows(channel, &reader, &other, place);
    lode_weights_close(&other);
    lode_weights_close(&reader);
    return status;
}

lode_status_t lode_retention_block(lode_retention_channel_t *channel,
                                   lode_retention_block_t original, lode_retention_block_t version,
                                   const int32_t *place) {
    const int64_t m = original.up->shape[0], d = original.up->shape[1];
    const int64_t n = version.up->shape[0];
    const int64_t in[] = {m, d}, in_version[] = {n, d}, out[] = {d, m}, out_version[] = {d, n};
    int64_t *before;
    for (int64_t j = 0; j < m; j++)
        channel[j] = (lode_retention_channel_t){.removed = place_of(place, j) < 0};
    LODE_TRY(LODE_NEW(&before, m, "zero weights"));
    lode_status_t status = LODE_OK;
    if (original.gate->data)
        status = add_projection(channel, original.gate, version.gate, in, in_version, place, NULL,
                                "gate_proj");
    if (status == LODE_OK)
        status = add_projection(channel, original.up, version.up, in, in_version, place, NULL,
                                "up_proj");
    if (status == LODE_OK)
        status = add_projection(channel, original.down, version.down, out, out_version, place,
                                before, "down_proj");
    free(before);
    return status;
}

void lode_retention_add_channel(lode_retention_share_t *share,
                                const lode_retention_channel_t *channel, int64_t elements) {
    share->weight += channel->weight;
    share->error += channel->error;
    share->zeros += channel->zeros;
    share->elements += elements;
}

lode_status_t lode_retention_add_matrix(lode_retention_share_t *share,
                                        const lode_tensor_t *original, const lode_tensor_t *version,
                                        const char *what) {
    lode_weights_reader_t reader = {0}, other = {0};
    const int64_t rows = original->shape[0], columns = original->shape[1];
    lode_retention_channel_t sum = {0};
    lode_status_t status;
    LODE_GUARD(status, lode_weights_open(&reader, original, rows, columns, what), done);
    LODE_GUARD(status, lode_weights_open(&other, version, rows, columns, what), done);
    for (int64_t i = 0; i < rows; i++) {
        const double *row, *changed;
        LODE_GUARD(status, lode_weights_at(&reader, i, &row), done);
        LODE_GUARD(status, lode_weights_at(&other, i, &changed), done);
        for (int64_t j = 0; j < columns; j++)
            add(&sum, row[j], changed[j]);
    }
    lode_retention_add_channel(share, &sum, rows * columns);
done:
    lode_weights_close(&other);
    lode_weights_close(&reader);
    return status;
}

double lode_retention_error(const lode_retention_share_t *share) {
    return share->weight > 0 ? sqrt(share->error / share->weight) : NAN;
}

double lode_retention_zeros(const lode_retention_share_t *share) {
    return share->elements > 0 ? (double)share->zeros / (double)share->elements : NAN;
}
