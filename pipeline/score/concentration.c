#include "score/concentration.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "score/order.h"

/* Checks that the values can be shares of something, and adds them up. */
static lode_status_t total_of_shares(double *total, const double *values, int64_t count,
                                     const char *what) {
    *total = 0;
    LODE_TRY(lode_order_check(values, count, what));
    for (int64_t i = 0; i < count; i++) {
        if (values[i] < 0)
            return lode_fail(LODE_ERR_NUMERIC, "%s of channel %lld is %g; it cannot be negative",
                             what, (long long)i, values[i]);
        *total += values[i];
    }
    if (!isfinite(*total))
        return lode_fail(LODE_ERR_NUMERIC, "%s: the sum over channels overflows", what);
    return LODE_OK;
}

double lode_concentration_gini_of(const double *values, const int32_t *descending, int64_t count) {
    double total = 0, weighted = 0;
    for (int64_t i = 0; i < count; i++)
        total += values[i];
    if (total == 0)
        return NAN;
    for (int64_t i = 0; i < count; i++)
        weighted += (double)(2 * i + 1 - count) * (values[descending[count - 1 - i]] / total);
    return weighted / (double)count;
}

lode_status_t lode_concentration_gini(double *gini, const double *values, int64_t count,
                                      const char *what) {
    double total;
    *gini = NAN;
    LODE_TRY(total_of_shares(&total, values, count, what));
    int32_t *descending;
    LODE_TRY(LODE_NEW_RAW(&descending, count, what));
    lode_status_t status = lode_order_top(descending, count, values, count, what);
    if (status == LODE_OK)
        *gini = lode_concentration_gini_of(values, descending, count);
    free(descending);
    return status;
}

lode_status_t lode_concentration_effective(double *effective, const double *values, int64_t count,
                                           const char *what) {
    double total, entropy = 0;
    *effective = NAN;
    LODE_TRY(total_of_shares(&total, values, count, what));
    if (total == 0)
        return LODE_OK;
    for (int64_t i = 0; i < count; i++) {
        double share = values[i] / total;
        if (share > 0)
            entropy -= share * log(share);
    }
    *effective = exp(entropy);
    return LODE_OK;
}

/* The mean of the ranks 1 … count, with or without ties, is known. */
double lode_concentration_rank_correlation(const double *a, const double *b, int64_t count) {
    double mean = 0.5 * (double)(count + 1), aa = 0, bb = 0, ab = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = a[i] - mean, y = b[i] - mean;
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    if (aa == 0 || bb == 0)
        return NAN;
    return fmin(1, fmax(-1, ab / sqrt(aa) / sqrt(bb)));
}

lode_status_t lode_concentration_spearman(double *rho, const double *a, const double *b,
                                          int64_t count, const char *what) {
    double *ranks;
    *rho = NAN;
    LODE_TRY(LODE_NEW_RAW(&ranks, 2 * count, what));
    lode_status_t status;
    LODE_GUARD(status, lode_order_ranks(ranks, a, count, what), done);
    LODE_GUARD(status, lode_order_ranks(ranks + count, b, count, what), done);
    *rho = lode_concentration_rank_correlation(ranks, ranks + count, count);
done:
    free(ranks);
    return status;
}

/* Sets `bit` for each index of the set. */
static lode_status_t mark_set(uint8_t *marks, uint8_t bit, const int32_t *set, int64_t count,
                              int64_t extent) {
    for (int64_t i = 0; i < count; i++) {
        if (set[i] < 0 || set[i] >= extent || (marks[set[i]] & bit))
            return lode_fail(LODE_ERR_INTERNAL,
                             "channel %d is outside 0 … %lld or twice in its set", (int)set[i],
                             (long long)extent - 1);
        marks[set[i]] |= bit;
    }
    return LODE_OK;
}

lode_status_t lode_concentration_jaccard(double *jaccard, const int32_t *a, int64_t a_count,
                                         const int32_t *b, int64_t b_count, int64_t extent) {
    uint8_t *marks;
    int64_t both = 0, either = 0;
    *jaccard = NAN;
    LODE_TRY(LODE_NEW(&marks, extent, "marks of channels"));
    lode_status_t status;
    LODE_GUARD(status, mark_set(marks, 1, a, a_count, extent), done);
    LODE_GUARD(status, mark_set(marks, 2, b, b_count, extent), done);
    for (int64_t i = 0; i < extent; i++) {
        both += marks[i] == 3;
        either += marks[i] != 0;
    }
    *jaccard = either ? (double)both / (double)either : 1;
done:
    free(marks);
    return status;
}
