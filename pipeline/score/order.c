#include "score/order.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* A value as an integer of the same order, and where it came from. */
typedef struct entry {
    uint64_t key;
    int32_t index;
} entry_t;

typedef enum direction { ASCENDING, DESCENDING } direction_t;

/* Positive doubles order as their bits do, negative ones the other way round and below them.
 * Adding 0 makes 0 of −0. */
static uint64_t key_of(double value, direction_t direction) {
    const uint64_t sign = (uint64_t)1 << 63;
    uint64_t bits;
    value += 0.0;
    memcpy(&bits, &value, sizeof bits);
    bits = bits & sign ? ~bits : bits | sign;
    return direction == ASCENDING ? bits : ~bits;
}

enum { DIGITS = 8, BUCKETS = 256 }; /* a key's bytes, and the values of one */

/* Sorts by keys, byte by byte from the last. Every pass is stable, so entries of equal keys stay in
 * the order of their indices, which is the rule for ties. A byte that all keys share, as many share
 * their exponent, is passed over. The result lies in `entries`; `other` is as large. */
static void radix_sort(entry_t *entries, entry_t *other, int64_t count) {
    int64_t ends[DIGITS][BUCKETS] = {{0}};
    entry_t *from = entries, *to = other;
    for (int64_t i = 0; i < count; i++)
        for (int d = 0; d < DIGITS; d++)
            ends[d][entries[i].key >> 8 * d & 255]++;
    for (int d = 0; d < DIGITS; d++) {
        int64_t *start = ends[d], sum = 0;
        if (start[entries[0].key >> 8 * d & 255] == count)
            continue;
        for (int b = 0; b < BUCKETS; b++) {
            const int64_t size = start[b];
            start[b] = sum;
            sum += size;
        }
        for (int64_t i = 0; i < count; i++)
            to[start[from[i].key >> 8 * d & 255]++] = from[i];
        entry_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != entries)
        memcpy(entries, from, (size_t)count * sizeof *entries);
}

lode_status_t lode_order_check(const double *values, int64_t count, const char *what) {
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return lode_fail(LODE_ERR_NUMERIC,
                             "%s of channel %lld is %g; look for NaN or infinite weights in the "
                             "checkpoint",
                             what, (long long)i, values[i]);
    return LODE_OK;
}

/* The entries in order, the caller's; twice as many are allocated, to sort in. */
static lode_status_t sorted_entries(entry_t **entries, const double *values, int64_t count,
                                    const char *what, direction_t direction) {
    *entries = NULL;
    if (count > INT32_MAX)
        return lode_fail(LODE_ERR_SHAPE, "%s: %lld values are too many to rank", what,
                         (long long)count);
    LODE_TRY(lode_order_check(values, count, what));
    LODE_TRY(LODE_NEW_RAW(entries, 2 * count, what));
    for (int64_t i = 0; i < count; i++)
        (*entries)[i] = (entry_t){key_of(values[i], direction), (int32_t)i};
    if (count > 0)
        radix_sort(*entries, *entries + count, count);
    return LODE_OK;
}

/* The first places of `count` values in that direction. */
static lode_status_t first_entries(int32_t *first, int64_t first_count, const double *values,
                                   int64_t count, const char *what, direction_t direction) {
    entry_t *entries;
    LODE_TRY(sorted_entries(&entries, values, count, what, direction));
    for (int64_t i = 0; i < first_count; i++)
        first[i] = entries[i].index;
    free(entries);
    return LODE_OK;
}

lode_status_t lode_order_top(int32_t *top, int64_t top_count, const double *values, int64_t count,
                             const char *what) {
    LODE_ASSERT(0 <= top_count && top_count <= count);
    return first_entries(top, top_count, values, count, what, DESCENDING);
}

lode_status_t lode_order_ascending(int32_t *order, const double *values, int64_t count,
                                   const char *what) {
    return first_entries(order, count, values, count, what, ASCENDING);
}

void lode_order_ranks_of(double *ranks, const int32_t *descending, const double *values,
                         int64_t count) {
    for (int64_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && values[descending[end]] == values[descending[first]];)
            end++;
        /* The mean of the ranks count − end + 1 … count − first, counted from the smallest. */
        double mean = 0.5 * (double)(2 * count - first - end + 1);
        for (int64_t i = first; i < end; i++)
            ranks[descending[i]] = mean;
    }
}

lode_status_t lode_order_ranks(double *ranks, const double *values, int64_t count,
                               const char *what) {
    int32_t *descending;
    LODE_TRY(LODE_NEW_RAW(&descending, count, what));
    lode_status_t status = lode_order_top(descending, count, values, count, what);
    if (status == LODE_OK)
        lode_order_ranks_of(ranks, descending, values, count);
    free(descending);
    return status;
}
