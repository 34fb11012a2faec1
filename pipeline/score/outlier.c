#include "score/outlier.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/memory.h"

static int by_place(const void *a, const void *b) {
    const lode_outlier_t *x = a, *y = b;
    const int32_t differences[][2] = {
        {x->layer, y->layer}, {x->matrix, y->matrix}, {x->row, y->row}, {x->col, y->col}};
    for (int i = 0; i < 4; i++)
        if (differences[i][0] != differences[i][1])
            return differences[i][0] < differences[i][1] ? -1 : 1;
    return 0;
}

/* Whether a is to be given up before b. */
static bool is_less(const lode_outlier_t *a, const lode_outlier_t *b) {
    const float x = fabsf(a->value), y = fabsf(b->value);
    return x != y ? x < y : by_place(a, b) > 0;
}

lode_status_t lode_outliers_create(lode_outliers_t *outliers, int64_t most) {
    *outliers = (lode_outliers_t){.most = most};
    return LODE_NEW(&outliers->item, most, "largest weights");
}

void lode_outliers_free(lode_outliers_t *outliers) {
    free(outliers->item);
    *outliers = (lode_outliers_t){0};
}

float lode_outliers_least(const lode_outliers_t *outliers) {
    if (outliers->most == 0)
        return INFINITY;
    return outliers->count < outliers->most ? 0 : fabsf(outliers->item[0].value);
}

static void rise(lode_outlier_t *item, int64_t at) {
    const lode_outlier_t moved = item[at];
    for (int64_t above = (at - 1) / 2; at > 0 && is_less(&moved, &item[above]);
         at = above, above = (at - 1) / 2)
        item[at] = item[above];
    item[at] = moved;
}

static void sink(lode_outlier_t *item, int64_t count, int64_t at) {
    const lode_outlier_t moved = item[at];
    for (int64_t below = 2 * at + 1; below < count; at = below, below = 2 * at + 1) {
        if (below + 1 < count && is_less(&item[below + 1], &item[below]))
            below++;
        if (!is_less(&item[below], &moved))
            break;
        item[at] = item[below];
    }
    item[at] = moved;
}

void lode_outliers_offer(lode_outliers_t *outliers, const lode_outlier_t *weight) {
    if (!(fabsf(weight->value) > 0) || outliers->most == 0)
        return;
    if (outliers->count < outliers->most) {
        outliers->item[outliers->count] = *weight;
        rise(outliers->item, outliers->count++);
    } else if (is_less(&outliers->item[0], weight)) {
        outliers->item[0] = *weight;
        sink(outliers->item, outliers->count, 0);
    }
}

void lode_outliers_sort(lode_outlier_t *weights, int64_t count) {
    if (count > 0)
        qsort(weights, (size_t)count, sizeof *weights, by_place);
}
