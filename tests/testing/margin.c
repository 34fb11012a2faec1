#include "testing/margin.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const double negligible = 1e-6; /* of the largest score */

static bool flagged(const uint8_t *flags, int64_t channel) {
    return flags && flags[channel];
}

static void reject(lode_margin_t *result, const char *name, const char *reason, int64_t where) {
    if (result->equal)
        snprintf(result->text, sizeof result->text, "%s: %s (at %" PRId64 ")", name, reason, where);
    result->equal = false;
    result->worst = INFINITY;
}

/* The smallest scale that differences are measured against; NaN where a score is not finite. */
static double smallest_scale(const lode_margin_scores_t *decided) {
    double largest = 0;
    for (int64_t j = 0; j < decided->m; j++) {
        if (!isfinite(decided->scores[j]))
            return NAN;
        largest = fmax(largest, fabs(decided->scores[j]));
    }
    return negligible * largest;
}

/* Records that `channel` crossed from `score` to the place of one scored `other`. */
static void cross(lode_margin_t *result, const char *name, const lode_margin_scores_t *decided,
                  double scale, int64_t channel, double score, double other) {
    double gap = INFINITY;
    if (score == other)
        gap = 0;
    else if (isfinite(other))
        gap = fabs(score - other) / fmax(scale, fmax(fabs(score), fabs(other)));
    if (gap > result->worst)
        result->worst = gap;
    if (gap <= decided->tolerance)
        return;
    if (result->equal)
        snprintf(result->text, sizeof result->text,
                 "%s: channel %" PRId64 ", score %.9g, is where %.9g belongs (gap %.3g, margin %g)",
                 name, channel, score, other, gap, decided->tolerance);
    result->equal = false;
}

/* --- lists ---------------------------------------------------------------------------------- */

/* Marks members[channel] with `bit`; false where an index is out of range or repeated. */
static bool mark(uint8_t *members, int64_t m, const int32_t *list, int64_t count, uint8_t bit) {
    for (int64_t i = 0; i < count; i++) {
        if (list[i] < 0 || list[i] >= m || (members[list[i]] & bit))
            return false;
        members[list[i]] |= bit;
    }
    return true;
}

enum { GOT = 1, WANT = 2 };

/* Channels in one selection only, against the boundary of the reference's. */
static void check_members(lode_margin_t *result, const char *name, const uint8_t *members,
                          double last_in, const lode_margin_scores_t *decided, double scale) {
    double best_out = -INFINITY;
    for (int64_t j = 0; j < decided->m; j++)
        if (!(members[j] & WANT) && !flagged(decided->excluded, j))
            best_out = fmax(best_out, decided->scores[j]);
    for (int64_t j = 0; j < decided->m; j++) {
        if (members[j] == GOT && flagged(decided->excluded, j))
            reject(result, name, "a channel that cannot be selected", j);
        else if (members[j] == GOT)
            cross(result, name, decided, scale, j, decided->scores[j], last_in);
        else if (members[j] == WANT)
            cross(result, name, decided, scale, j, decided->scores[j], best_out);
    }
}

lode_margin_t lode_margin_list(const char *name, const int32_t *got, int64_t got_count,
                               const int32_t *want, int64_t want_count,
                               const lode_margin_scores_t *decided) {
    lode_margin_t result = {.equal = true};
    const double scale = smallest_scale(decided);
    if (got_count != want_count) {
        reject(&result, name, "wrong number of channels", got_count);
        return result;
    }
    if (isnan(scale)) {
        reject(&result, name, "a deciding score is not finite", 0);
        return result;
    }
    uint8_t *members = calloc((size_t)decided->m + 1, 1);
    if (!members || !mark(members, decided->m, want, want_count, WANT) ||
        !mark(members, decided->m, got, got_count, GOT)) {
        reject(&result, name, "a channel out of range or listed twice", 0);
    } else if (want_count > 0) {
        for (int64_t i = 0; i < got_count; i++) {
            if (got[i] == want[i])
                continue;
            result.swapped++;
            cross(&result, name, decided, scale, got[i], decided->scores[got[i]],
                  decided->scores[want[i]]);
        }
        check_members(&result, name, members, decided->scores[want[want_count - 1]], decided,
                      scale);
    }
    free(members);
    return result;
}

/* --- masks ---------------------------------------------------------------------------------- */

static int ascending(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The scores on the two sides of the boundary, each moved outwards by the excused channels. */
typedef struct boundary {
    double removed, kept; /* largest score that may be removed, smallest that may be kept */
} boundary_t;

static boundary_t find_boundary(const uint8_t *want, const lode_margin_scores_t *decided,
                                double *sorted) {
    int64_t candidates = 0, removed = 0, excused = 0;
    for (int64_t j = 0; j < decided->m; j++) {
        removed += want[j] == 0;
        excused += flagged(decided->excused, j);
        if (!flagged(decided->excluded, j))
            sorted[candidates++] = decided->scores[j];
    }
    boundary_t boundary = {-INFINITY, INFINITY};
    if (candidates == 0)
        return boundary;
    qsort(sorted, (size_t)candidates, sizeof *sorted, ascending);
    int64_t high = removed - 1 + excused, low = removed - excused;
    high = high < candidates ? high : candidates - 1;
    low = low > 0 ? low : 0;
    if (high >= 0)
        boundary.removed = sorted[high];
    if (low < candidates)
        boundary.kept = sorted[low];
    return boundary;
}

static void check_channels(lode_margin_t *result, const char *name, const uint8_t *got,
                           const uint8_t *want, const lode_margin_scores_t *decided, double scale,
                           boundary_t boundary) {
    for (int64_t j = 0; j < decided->m; j++) {
        const double score = decided->scores[j];
        if (got[j] == want[j])
            continue;
        result->swapped++;
        if (flagged(decided->excused, j))
            continue;
        if (flagged(decided->excluded, j))
            reject(result, name, "a protected channel differs", j);
        else if (want[j] && score > boundary.removed) /* removed here only */
            cross(result, name, decided, scale, j, score, boundary.removed);
        else if (!want[j] && score < boundary.kept) /* kept here only */
            cross(result, name, decided, scale, j, score, boundary.kept);
    }
}

lode_margin_t lode_margin_mask(const char *name, const uint8_t *got, int64_t got_count,
                               const uint8_t *want, const lode_margin_scores_t *decided) {
    lode_margin_t result = {.equal = true};
    const double scale = smallest_scale(decided);
    if (got_count != decided->m) {
        reject(&result, name, "wrong number of channels", got_count);
        return result;
    }
    if (isnan(scale)) {
        reject(&result, name, "a deciding score is not finite", 0);
        return result;
    }
    int64_t surplus = 0;
    for (int64_t j = 0; j < decided->m; j++) {
        if (got[j] > 1 || want[j] > 1)
            reject(&result, name, "an entry that is neither 0 nor 1", j);
        surplus += (int64_t)got[j] - want[j];
    }
    if (surplus != 0)
        reject(&result, name, "more or fewer channels kept than the reference keeps", surplus);
    double *sorted = calloc((size_t)decided->m + 1, sizeof *sorted);
    if (!sorted)
        reject(&result, name, "out of memory", 0);
    if (result.equal)
        check_channels(&result, name, got, want, decided, scale,
                       find_boundary(want, decided, sorted));
    free(sorted);
    return result;
}
