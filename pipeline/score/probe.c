#include "score/probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "score/concentration.h"
#include "score/order.h"
#include "score/resample.h"

static uint64_t key_of(lode_probe_stream_t stream, const char *purpose) {
    return lode_random_key(stream.seed, purpose, stream.layer, stream.draw);
}

/* --- random channels ------------------------------------------------------------------------- */

int64_t lode_probe_core_removed(double rate, int64_t core_size) {
    return (int64_t)floor(rate * (double)core_size);
}

/* Removes in `order` until `core_left` channels of the core and `other_left` others are gone. */
static void remove_in_order(uint8_t *keep, const int32_t *order, int64_t channels,
                            const uint8_t *in_core, int64_t core_left, int64_t other_left) {
    memset(keep, 1, (size_t)channels);
    for (int64_t i = 0; i < channels; i++) {
        int64_t *left = in_core[order[i]] ? &core_left : &other_left;
        if (*left > 0) {
            keep[order[i]] = 0;
            (*left)--;
        }
    }
}

lode_status_t lode_probe_random_mask(uint8_t *keep, int64_t channels, const int32_t *core,
                                     int64_t core_size, int64_t core_removed, int64_t removed,
                                     lode_probe_stream_t stream) {
    LODE_ASSERT(0 <= core_removed && core_removed <= core_size && core_size <= channels);
    const int64_t others = removed - core_removed;
    if (others < 0 || others > channels - core_size)
        return lode_fail(LODE_ERR_CONFIG,
                         "layer %lld: a mask cannot remove %lld of its %lld channels with exactly "
                         "%lld of the %lld of the core; change probe.sparsity, probe.rates or "
                         "classify.core_fraction",
                         (long long)stream.layer, (long long)removed, (long long)channels,
                         (long long)core_removed, (long long)core_size);
    const uint64_t key = key_of(stream, "random mask");
    double *place = NULL;
    int32_t *order = NULL;
    uint8_t *in_core = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW_RAW(&place, channels, "random order"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&order, channels, "random order"), done);
    LODE_GUARD(status, LODE_NEW(&in_core, channels, "core"), done);
    for (int64_t j = 0; j < channels; j++)
        place[j] = lode_random_uniform(key, (uint64_t)j);
    for (int64_t i = 0; i < core_size; i++)
        in_core[core[i]] = 1;
    LODE_GUARD(status, lode_order_ascending(order, place, channels, "random order"), done);
    remove_in_order(keep, order, channels, in_core, core_removed, others);
done:
    free(place);
    free(order);
    free(in_core);
    return status;
}

/* Draws `count` of `total` channels in ascending order. */
static lode_status_t draw_from(int32_t *drawn, int64_t count, const int32_t *channels,
                               int64_t total, uint64_t key) {
    int64_t *sample;
    LODE_TRY(LODE_NEW_RAW(&sample, count, "random channels"));
    lode_random_sample(key, sample, count, total);
    for (int64_t i = 0; i < count; i++)
        drawn[i] = channels[sample[i]];
    free(sample);
    return LODE_OK;
}

lode_status_t lode_probe_random_set(int32_t *set, int64_t count, int64_t channels,
                                    const uint8_t *excluded, const char *purpose,
                                    lode_probe_stream_t stream) {
    int32_t *candidates;
    int64_t total = 0;
    LODE_TRY(LODE_NEW_RAW(&candidates, channels, "random channels"));
    for (int64_t j = 0; j < channels; j++)
        if (!excluded || !excluded[j])
            candidates[total++] = (int32_t)j;
    lode_status_t status;
    if (count > total)
        status = lode_fail(LODE_ERR_CONFIG,
                           "layer %lld: %lld random channels beside the core are asked for, and "
                           "only %lld of %lld are outside it; lower classify.core_fraction",
                           (long long)stream.layer, (long long)count, (long long)total,
                           (long long)channels);
    else
        status = draw_from(set, count, candidates, total, key_of(stream, purpose));
    free(candidates);
    return status;
}

/* --- quantile bins --------------------------------------------------------------------------- */

static int compare_channels(const void *left, const void *right) {
    int32_t a, b;
    memcpy(&a, left, sizeof a);
    memcpy(&b, right, sizeof b);
    return (a > b) - (a < b);
}

static void sort_channels(int32_t *channels, int64_t count) {
    if (count > 1)
        qsort(channels, (size_t)count, sizeof *channels, compare_channels);
}

/* First place, in ascending order, of bin `bin`. */
static int64_t bin_start(int64_t bin, int64_t bins, int64_t total) {
    return (int64_t)((__int128)bin * total / bins);
}

lode_status_t lode_probe_binned_sample(int32_t *sample, int32_t *bin, int64_t count,
                                       const double *loss_proxy, int64_t channels, int64_t bins,
                                       lode_probe_stream_t stream) {
    LODE_ASSERT(0 <= count && count <= channels && bins >= 1);
    const uint64_t key = key_of(stream, "channels to ablate");
    int32_t *order;
    int64_t taken = 0;
    LODE_TRY(LODE_NEW_RAW(&order, channels, "channels by loss proxy"));
    lode_status_t status = lode_order_ascending(order, loss_proxy, channels, "loss proxy");
    for (int64_t b = 0; b < bins && status == LODE_OK; b++) {
        const int64_t first = bin_start(b, bins, channels), end = bin_start(b + 1, bins, channels);
        /* A bin that holds one channel too few leaves it to the next; since there are channels
         * enough, no more than one is ever left, and none by the last bin. */
        const int64_t wanted = bin_start(b + 1, bins, count) - taken;
        const int64_t share = wanted < end - first ? wanted : end - first;
        status = draw_from(sample + taken, share, order + first, end - first,
                           lode_random_bits(key, (uint64_t)b));
        sort_channels(sample + taken, share);
        for (int64_t i = taken; i < taken + share; i++)
            bin[i] = (int32_t)b;
        taken += share;
    }
    free(order);
    return status;
}

/* --- channels matched in loss proxy ---------------------------------------------------------- */

enum { DECILES = 10 };

/* One layer's channels outside the core by decile. */
typedef struct deciles {
    int32_t *channel;           /* [total] those outside halo and core, by decile */
    int64_t first[DECILES + 1]; /* where each decile begins in it */
    int64_t wanted[DECILES];    /* channels of the set in each */
} deciles_t;

/* Marks the set's channels in `in_set` and fills `deciles` in ascending order of LP. */
static void fill_deciles(deciles_t *deciles, const int32_t *order, int64_t channels,
                         const uint8_t *role, const uint8_t *in_set) {
    int64_t outside_core = 0, place = 0, stored = 0;
    for (int64_t j = 0; j < channels; j++)
        outside_core += role[j] != LODE_PROBE_CORE;
    int decile = -1;
    for (int64_t i = 0; i < channels; i++) {
        const int32_t j = order[i];
        if (role[j] == LODE_PROBE_CORE)
            continue;
        while (decile + 1 < DECILES && place >= bin_start(decile + 1, DECILES, outside_core))
            deciles->first[++decile] = stored;
        if (role[j] == LODE_PROBE_OTHER)
            deciles->channel[stored++] = j;
        deciles->wanted[decile] += in_set[j];
        place++;
    }
    while (decile < DECILES)
        deciles->first[++decile] = stored;
}

/* Moves what a decile cannot give to the nearest one that can. */
static void settle_deciles(deciles_t *deciles) {
    int64_t spare[DECILES];
    for (int d = 0; d < DECILES; d++)
        spare[d] = deciles->first[d + 1] - deciles->first[d] - deciles->wanted[d];
    for (int d = 0; d < DECILES; d++) {
        for (int distance = 1; distance < DECILES && spare[d] < 0; distance++) {
            for (int side = -1; side <= 1 && spare[d] < 0; side += 2) {
                const int other = d + side * distance;
                if (other < 0 || other >= DECILES || spare[other] <= 0)
                    continue;
                const int64_t moved = spare[other] < -spare[d] ? spare[other] : -spare[d];
                deciles->wanted[d] -= moved;
                deciles->wanted[other] += moved;
                spare[d] += moved;
                spare[other] -= moved;
            }
        }
    }
}

static lode_status_t draw_deciles(int32_t *matched, const deciles_t *deciles, uint64_t key) {
    int64_t taken = 0;
    for (int d = 0; d < DECILES; d++) {
        LODE_TRY(draw_from(
            matched + taken, deciles->wanted[d], deciles->channel + deciles->first[d],
            deciles->first[d + 1] - deciles->first[d], lode_random_bits(key, (uint64_t)d)));
        taken += deciles->wanted[d];
    }
    sort_channels(matched, taken);
    return LODE_OK;
}

lode_status_t lode_probe_matched_set(int32_t *matched, const int32_t *set, int64_t count,
                                     const uint8_t *role, const double *loss_proxy,
                                     int64_t channels, lode_probe_stream_t stream) {
    deciles_t deciles = {0};
    int32_t *order = NULL;
    uint8_t *in_set = NULL;
    int64_t others = 0;
    for (int64_t j = 0; j < channels; j++)
        others += role[j] == LODE_PROBE_OTHER;
    if (others < count)
        return lode_fail(LODE_ERR_CONFIG,
                         "layer %lld: %lld channels to compare with the halo are asked for, and "
                         "only %lld are outside halo and core; lower classify.halo_fraction or "
                         "classify.core_fraction",
                         (long long)stream.layer, (long long)count, (long long)others);
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW_RAW(&order, channels, "channels by loss proxy"), done);
    LODE_GUARD(status, LODE_NEW(&in_set, channels, "halo"), done);
    LODE_GUARD(status, LODE_NEW(&deciles.channel, others, "channels outside the halo"), done);
    LODE_GUARD(status, lode_order_ascending(order, loss_proxy, channels, "loss proxy"), done);
    for (int64_t i = 0; i < count; i++) {
        LODE_ASSERT(role[set[i]] == LODE_PROBE_HALO);
        in_set[set[i]] = 1;
    }
    fill_deciles(&deciles, order, channels, role, in_set);
    settle_deciles(&deciles);
    status = draw_deciles(matched, &deciles, key_of(stream, "matched channels"));
done:
    free(order);
    free(in_set);
    free(deciles.channel);
    return status;
}

/* --- figures --------------------------------------------------------------------------------- */

void lode_probe_moments(double *mean, double *variance, const double *nll, int64_t count) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++)
        sum += nll[i];
    *mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++)
        squares += (nll[i] - *mean) * (nll[i] - *mean);
    *variance = squares / (double)count;
}

void lode_probe_figures(double *perplexity, double *standard_error, const double *mean,
                        const double *variance, const int64_t *targets, int64_t sequences) {
    int64_t longest = 1, total = 0;
    for (int64_t s = 0; s < sequences; s++) {
        longest = targets[s] > longest ? targets[s] : longest;
        total += targets[s];
    }
    /* Weights are relative to the longest sequence: equal ones then weigh exactly 1. */
    double weights = 0, weighted = 0, squares = 0;
    for (int64_t s = 0; s < sequences; s++) {
        const double weight = (double)targets[s] / (double)longest;
        weights += weight;
        weighted += weight * mean[s];
    }
    const double all = weighted / weights;
    for (int64_t s = 0; s < sequences; s++)
        squares += (double)targets[s] * (variance[s] + (mean[s] - all) * (mean[s] - all));
    *perplexity = exp(all);
    const double spread = squares / (double)(total - 1); /* 0/0, NaN, for one token */
    *standard_error = *perplexity * sqrt(spread / (double)total);
}

void lode_probe_difference(double *delta, double *standard_error, const double *nll,
                           const double *dense, const int64_t *targets, int64_t sequences) {
    double total = 0, sum = 0, squares = 0;
    for (int64_t s = 0; s < sequences; s++) {
        total += (double)targets[s];
        sum += (double)targets[s] * (nll[s] - dense[s]);
    }
    *delta = sum / total;
    for (int64_t s = 0; s < sequences; s++) {
        const double rest = (double)targets[s] * (nll[s] - dense[s] - *delta);
        squares += rest * rest;
    }
    const double count = (double)sequences;
    *standard_error = sequences > 1 ? sqrt(count / (count - 1) * squares) / total : NAN;
}

/* --- rank correlation ------------------------------------------------------------------------ */

lode_status_t lode_probe_spearman(double *rho, double interval[2], const double *a, const double *b,
                                  int64_t count, int64_t draws, double level,
                                  lode_probe_stream_t stream) {
    const uint64_t key = key_of(stream, "Spearman of ablations");
    double *pairs = NULL, *figures = NULL;
    interval[0] = interval[1] = NAN;
    LODE_TRY(lode_concentration_spearman(rho, a, b, count, "ablated channels"));
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW_RAW(&pairs, 2 * count, "bootstrap"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&figures, draws, "bootstrap"), done);
    for (int64_t i = 0; i < draws; i++) {
        const uint64_t draw = lode_random_bits(key, (uint64_t)i);
        for (int64_t c = 0; c < count; c++) {
            const int64_t from = lode_random_below(draw, (uint64_t)c, count);
            pairs[c] = a[from];
            pairs[count + c] = b[from];
        }
        LODE_GUARD(status,
                   lode_concentration_spearman(&figures[i], pairs, pairs + count, count,
                                               "ablated channels"),
                   done);
    }
    lode_resample_interval(interval, figures, draws, level);
done:
    free(pairs);
    free(figures);
    return status;
}
