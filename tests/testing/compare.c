#include "testing/compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static bool lengths_differ(lode_comparison_t *result, const char *name, int64_t got, int64_t want) {
    *result = (lode_comparison_t){.equal = got == want, .first_bad = -1};
    if (got != want) {
        result->worst = INFINITY;
        snprintf(result->text, sizeof result->text,
                 "%s: %" PRId64 " elements where %" PRId64 " were expected", name, got, want);
    }
    return got != want;
}

static void compare_element(lode_comparison_t *result, const char *name, int64_t i, double got,
                            double want, double absolute, double relative) {
    double excess = INFINITY;
    if (isfinite(got) && isfinite(want)) {
        double error = fabs(got - want), allowed = absolute + relative * fabs(want);
        excess = error == 0 ? 0 : error / allowed; /* 0 allowed: infinite */
    }
    if (excess > result->worst)
        result->worst = excess;
    if (excess <= 1)
        return;
    if (result->bad++ == 0) {
        result->equal = false;
        result->first_bad = i;
        snprintf(result->text, sizeof result->text,
                 "%s[%" PRId64 "] is %.17g, expected %.17g (absolute %g, relative %g)", name, i,
                 got, want, absolute, relative);
    }
}

lode_comparison_t lode_compare_f64(const char *name, const double *got, int64_t got_count,
                                   const double *want, int64_t want_count, double absolute,
                                   double relative) {
    lode_comparison_t result;
    if (lengths_differ(&result, name, got_count, want_count))
        return result;
    for (int64_t i = 0; i < got_count; i++)
        compare_element(&result, name, i, got[i], want[i], absolute, relative);
    return result;
}

lode_comparison_t lode_compare_f32(const char *name, const float *got, int64_t got_count,
                                   const double *want, int64_t want_count, double absolute,
                                   double relative) {
    lode_comparison_t result;
    if (lengths_differ(&result, name, got_count, want_count))
        return result;
    for (int64_t i = 0; i < got_count; i++)
        compare_element(&result, name, i, (double)got[i], want[i], absolute, relative);
    return result;
}

lode_comparison_t lode_compare_i32(const char *name, const int32_t *got, int64_t got_count,
                                   const int32_t *want, int64_t want_count) {
    lode_comparison_t result;
    if (lengths_differ(&result, name, got_count, want_count))
        return result;
    for (int64_t i = 0; i < got_count; i++)
        compare_element(&result, name, i, (double)got[i], (double)want[i], 0, 0);
    return result;
}
