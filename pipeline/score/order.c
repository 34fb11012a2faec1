#include "score/order.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

typedef struct entry {
    double value;
    int32_t index;
} entry_t;

/* No two entries compare equal, so that qsort, which need not be stable, has one result. */
static int compare_index(const entry_t *a, const entry_t *b) {
    return (a->index > b->index) - (a->index < b->index);
}

static int compare_ascending(const void *left, const void *right) {
    const entry_t *a = left, *b = right;
    if (a->value != b->value)
        return a->value < b->value ? -1 : 1;
    return compare_index(a, b);
}

static int compare_descending(const void *left, const void *right) {
    const entry_t *a = left, *b = right;
    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return compare_index(a, b);
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

static lode_status_t sorted_entries(entry_t **entries, const double *values, int64_t count,
                                    const char *what, int (*compare)(const void *, const void *)) {
    *entries = NULL;
    if (count > INT32_MAX)
        return lode_fail(LODE_ERR_SHAPE, "%s: %lld values are too many to rank", what,
                         (long long)count);
    LODE_TRY(lode_order_check(values, count, what));
    LODE_TRY(LODE_NEW_RAW(entries, count, what));
    for (int64_t i = 0; i < count; i++)
        (*entries)[i] = (entry_t){values[i], (int32_t)i};
    if (count > 0)
        qsort(*entries, (size_t)count, sizeof **entries, compare);
    return LODE_OK;
}

lode_status_t lode_order_top(int32_t *top, int64_t top_count, const double *values, int64_t count,
                             const char *what) {
    LODE_ASSERT(0 <= top_count && top_count <= count);
    entry_t *entries;
    LODE_TRY(sorted_entries(&entries, values, count, what, compare_descending));
    for (int64_t i = 0; i < top_count; i++)
        top[i] = entries[i].index;
    free(entries);
    return LODE_OK;
}

lode_status_t lode_order_ascending(int32_t *order, const double *values, int64_t count,
                                   const char *what) {
    entry_t *entries;
    LODE_TRY(sorted_entries(&entries, values, count, what, compare_ascending));
    for (int64_t i = 0; i < count; i++)
        order[i] = entries[i].index;
    free(entries);
    return LODE_OK;
}

lode_status_t lode_order_ranks(double *ranks, const double *values, int64_t count,
                               const char *what) {
    entry_t *entries;
    LODE_TRY(sorted_entries(&entries, values, count, what, compare_ascending));
    for (int64_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && entries[end].value == entries[first].value;)
            end++;
        double mean = 0.5 * (double)(first + 1 + end); /* of the ranks first + 1 … end */
        for (int64_t i = first; i < end; i++)
            ranks[entries[i].index] = mean;
    }
    free(entries);
    return LODE_OK;
}
