#include "score/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

void lode_resample_times(double *times, int64_t count, uint64_t key) {
    memset(times, 0, (size_t)count * sizeof *times);
    for (int64_t i = 0; i < count; i++)
        times[lode_random_below(key, (uint64_t)i, count)]++;
}

static int compare_doubles(const void *left, const void *right) {
    double a, b;
    memcpy(&a, left, sizeof a);
    memcpy(&b, right, sizeof b);
    return (a > b) - (a < b);
}

/* Percentile of sorted values, linear between neighbours. */
static double percentile(const double *sorted, int64_t count, double fraction) {
    double position = fraction * (double)(count - 1);
    int64_t below = (int64_t)floor(position);
    int64_t above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (position - (double)below) * (sorted[above] - sorted[below]);
}

void lode_resample_interval(double interval[2], double *figures, int64_t draws, double level) {
    LODE_ASSERT(0 < level && level < 1);
    int64_t count = 0;
    for (int64_t i = 0; i < draws; i++)
        if (!isnan(figures[i]))
            figures[count++] = figures[i];
    interval[0] = interval[1] = NAN;
    if (count == 0)
        return;
    qsort(figures, (size_t)count, sizeof *figures, compare_doubles);
    double tail = 0.5 * (1 - level);
    interval[0] = percentile(figures, count, tail);
    interval[1] = percentile(figures, count, 1 - tail);
}
