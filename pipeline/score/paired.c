#include "score/paired.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

static const double pi = 3.14159265358979323846;

int64_t lode_paired_blocks(int64_t targets) {
    int64_t blocks = targets / LODE_PAIRED_BLOCK_TARGETS;
    if (blocks > LODE_PAIRED_BLOCKS)
        blocks = LODE_PAIRED_BLOCKS;
    return blocks >= LODE_PAIRED_FEWEST_BLOCKS ? blocks : 0;
}

/* First target of block i. Quotient and remainder apart, so that no product overflows. */
static int64_t block_begin(int64_t i, int64_t blocks, int64_t targets) {
    return targets / blocks * i + targets % blocks * i / blocks;
}

void lode_paired_block_means(double *means, int64_t blocks, const double *nll, int64_t targets) {
    for (int64_t i = 0; i < blocks; i++) {
        const int64_t begin = block_begin(i, blocks, targets);
        const int64_t end = block_begin(i + 1, blocks, targets);
        double sum = 0;
        for (int64_t t = begin; t < end; t++)
            sum += nll[t];
        means[i] = sum / (double)(end - begin);
    }
}

void lode_paired_compare(lode_paired_t *result, const double *a, const double *b, int64_t blocks,
                         int64_t targets, double level) {
    *result = (lode_paired_t){NAN, NAN, NAN, NAN, NAN};
    double sum = 0, plain = 0;
    for (int64_t i = 0; i < blocks; i++) {
        const int64_t length =
            block_begin(i + 1, blocks, targets) - block_begin(i, blocks, targets);
        sum += (a[i] - b[i]) * (double)length;
        plain += a[i] - b[i];
    }
    if (!isfinite(sum))
        return;
    result->difference = sum / (double)targets;
    if (blocks < 2)
        return;
    const double mean = plain / (double)blocks;
    double squares = 0;
    for (int64_t i = 0; i < blocks; i++)
        squares += (a[i] - b[i] - mean) * (a[i] - b[i] - mean);
    const double error = sqrt(squares / (double)(blocks - 1) / (double)blocks);
    const double reach = lode_student_quantile(level, blocks - 1) * error;
    result->standard_error = error;
    result->low = result->difference - reach;
    result->high = result->difference + reach;
    if (error > 0)
        result->p = lode_student_p(result->difference / error, blocks - 1);
    else
        result->p = result->difference == 0 ? 1 : 0;
}

double lode_student_p(double t, int64_t freedom) {
    const double angle = atan(fabs(t) / sqrt((double)freedom));
    const double cosine = cos(angle), sine = sin(angle);
    const bool odd = freedom % 2 == 1;
    double term = odd ? cosine : 1, sum = 0;
    for (int64_t i = odd ? 1 : 0; i <= freedom - 2; i += 2) {
        sum += term;
        term *= cosine * cosine * (double)(i + 1) / (double)(i + 2);
    }
    const double inside = odd ? 2 / pi * (angle + sine * sum) : sine * sum;
    return fmin(1, fmax(0, 1 - inside));
}

double lode_student_quantile(double level, int64_t freedom) {
    double low = 0, high = 1;
    while (lode_student_p(high, freedom) > 1 - level && high < 1e12)
        high *= 2;
    for (int step = 0; step < 200 && low < high; step++) {
        const double middle = 0.5 * (low + high);
        if (middle <= low || middle >= high)
            break;
        if (lode_student_p(middle, freedom) > 1 - level)
            low = middle;
        else
            high = middle;
    }
    return high;
}

typedef struct ranked {
    double p;
    int64_t index;
} ranked_t;

static int compare_ranked(const void *left, const void *right) {
    const ranked_t *a = left, *b = right;
    if (a->p != b->p)
        return a->p < b->p ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

lode_status_t lode_paired_holm(double *adjusted, const double *p, int64_t count) {
    ranked_t *ranked;
    LODE_TRY(LODE_NEW(&ranked, count, "comparisons"));
    int64_t known = 0;
    for (int64_t i = 0; i < count; i++) {
        adjusted[i] = NAN;
        if (!isnan(p[i]))
            ranked[known++] = (ranked_t){p[i], i};
    }
    if (known > 0)
        qsort(ranked, (size_t)known, sizeof *ranked, compare_ranked);
    double before = 0;
    for (int64_t i = 0; i < known; i++) {
        before = fmax(before, fmin(1, (double)(known - i) * ranked[i].p));
        adjusted[ranked[i].index] = before;
    }
    free(ranked);
    return LODE_OK;
}
