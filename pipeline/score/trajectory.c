#include "score/trajectory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "score/concentration.h"
#include "score/order.h"
#include "score/resample.h"
#include "score/supernode.h"

/* --- draws ------------------------------------------------------------------------------- */

/* Adds up the sequences, each as often as it was drawn, in their order. */
static double add_sequences(double *values, const lode_trajectory_sums_t *in, const double *times) {
    double total = 0;
    memset(values, 0, (size_t)in->channels * sizeof *values);
    for (int64_t s = 0; s < in->sequences; s++) {
        const double *row = in->sums + s * in->stride;
        for (int64_t j = 0; times[s] > 0 && j < in->channels; j++)
            values[j] += times[s] * row[j];
    }
    for (int64_t j = 0; j < in->channels; j++)
        total += values[j];
    return total;
}

/* What draw number `d` makes of the values; order [channels] is room. */
static lode_status_t take_draw(const lode_trajectory_draws_t *draws, int64_t d,
                               const double *values, int64_t channels, double total,
                               int32_t *order) {
    static const char what[] = "loss proxy of a draw";
    int32_t *core = draws->cores + d * draws->core_size;
    LODE_TRY(lode_order_top(order, channels, values, channels, what));
    lode_order_ranks_of(draws->ranks + d * channels, order, values, channels);
    for (int64_t i = 0; i < draws->core_size; i++)
        core[i] = total > 0 ? order[i] : -1;
    for (int64_t f = 0; f < draws->fraction_count; f++)
        LODE_TRY(lode_supernode_mass(&draws->masses[f * draws->count + d], order,
                                     lode_supernode_size(draws->fractions[f], channels), values,
                                     channels));
    return LODE_OK;
}

lode_status_t lode_trajectory_draw(const lode_trajectory_draws_t *draws,
                                   const lode_trajectory_sums_t *sums, int64_t seed,
                                   int64_t layer) {
    const int64_t channels = sums->channels;
    LODE_ASSERT(1 <= draws->core_size && draws->core_size <= channels && sums->sequences >= 1);
    double *values = NULL, *times = NULL;
    int32_t *order = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW_RAW(&values, channels, "loss proxy of a draw"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&times, sums->sequences, "bootstrap sequences"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&order, channels, "order of channels"), done);
    for (int64_t d = 0; d < draws->count; d++) {
        lode_resample_times(times, sums->sequences, lode_random_key(seed, "trajectory", layer, d));
        const double total = add_sequences(values, sums, times);
        LODE_GUARD(status, take_draw(draws, d, values, channels, total, order), done);
    }
done:
    free(values);
    free(times);
    free(order);
    return status;
}

void lode_trajectory_correlations(double *rhos, int64_t count, const double *ranks,
                                  const double *lasts, int64_t channels) {
    for (int64_t d = 0; d < count; d++)
        rhos[d] = lode_concentration_rank_correlation(ranks + d * channels, lasts + d * channels,
                                                      channels);
}

lode_status_t lode_trajectory_overlaps(double *shares, int64_t count, const int32_t *cores,
                                       int64_t core_size, const int32_t *lasts, int64_t last_size,
                                       int64_t channels) {
    int64_t *mark; /* the number of the last draw, from 1, that has the channel in its core */
    LODE_TRY(LODE_NEW(&mark, channels, "channels of a core"));
    for (int64_t d = 0; d < count; d++) {
        const int32_t *core = cores + d * core_size, *last = lasts + d * last_size;
        int64_t members = 0, found = 0;
        for (int64_t i = 0; i < core_size && core[i] >= 0; i++)
            mark[core[i]] = d + 1;
        for (; members < last_size && last[members] >= 0; members++)
            found += mark[last[members]] == d + 1;
        shares[d] = members > 0 && core[0] >= 0 ? (double)found / (double)members : NAN;
    }
    free(mark);
    return LODE_OK;
}

/* --- one layer's figures ------------------------------------------------------------------ */

lode_status_t lode_trajectory_masses(double *masses, const double *fractions, int64_t count,
                                     const double *values, int64_t channels, const char *what) {
    int32_t *order;
    LODE_TRY(LODE_NEW_RAW(&order, channels, "order of channels"));
    lode_status_t status = lode_order_top(order, channels, values, channels, what);
    for (int64_t i = 0; status == LODE_OK && i < count; i++)
        status = lode_supernode_mass(&masses[i], order, lode_supernode_size(fractions[i], channels),
                                     values, channels);
    free(order);
    return status;
}

/* Median of all, of an even number the mean of the two in the middle. */
static lode_status_t median_of(double *median, const double *values, int64_t count,
                               const char *what) {
    int32_t *order;
    LODE_TRY(LODE_NEW_RAW(&order, count, "order of channels"));
    lode_status_t status = lode_order_ascending(order, values, count, what);
    if (status == LODE_OK)
        *median = 0.5 * (values[order[(count - 1) / 2]] + values[order[count / 2]]);
    free(order);
    return status;
}

static double kurtosis_of(const double *power, int64_t count) {
    double mean = 0, second = 0, fourth = 0;
    for (int64_t j = 0; j < count; j++)
        mean += sqrt(power[j]);
    mean /= (double)count;
    for (int64_t j = 0; j < count; j++) {
        const double square = (sqrt(power[j]) - mean) * (sqrt(power[j]) - mean);
        second += square;
        fourth += square * square;
    }
    return second > 0 ? fourth * (double)count / (second * second) : NAN;
}

lode_status_t lode_trajectory_reach(lode_trajectory_reach_t *reach, const double *largest,
                                    const double *power, int64_t channels, double threshold) {
    *reach = (lode_trajectory_reach_t){NAN, NAN, NAN};
    LODE_TRY(lode_order_check(power, channels, "activation power"));
    reach->kurtosis = kurtosis_of(power, channels);
    if (!largest)
        return LODE_OK;
    double median, top = 0;
    int64_t outliers = 0;
    LODE_TRY(median_of(&median, largest, channels, "largest activation"));
    for (int64_t j = 0; j < channels; j++) {
        top = fmax(top, largest[j]);
        outliers += largest[j] > threshold * median;
    }
    reach->ratio = median > 0 ? top / median : NAN;
    reach->outliers = (double)outliers / (double)channels;
    return LODE_OK;
}
