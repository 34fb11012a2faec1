/* testing/compare: the one comparator of all tests.
 *
 * An element passes where |got − want| ≤ absolute + relative · |want|. Anything non-finite in
 * either array fails before a tolerance is looked at, and so do unequal lengths.
 */
#ifndef LODE_TESTING_COMPARE_H
#define LODE_TESTING_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct lode_comparison {
    bool equal;
    int64_t first_bad; /* index of the first failing element, −1 if none (or lengths differ) */
    int64_t bad;       /* failing elements */
    double worst;   /* largest |got − want| / (absolute + relative·|want|), ∞ if non-finite */
    char text[256]; /* what to print on failure: name, index, both values */
} lode_comparison_t;

lode_comparison_t lode_compare_f64(const char *name, const double *got, int64_t got_count,
                                   const double *want, int64_t want_count, double absolute,
                                   double relative);
lode_comparison_t lode_compare_f32(const char *name, const float *got, int64_t got_count,
                                   const double *want, int64_t want_count, double absolute,
                                   double relative);
/* Exact equality of integers. */
lode_comparison_t lode_compare_i32(const char *name, const int32_t *got, int64_t got_count,
                                   const int32_t *want, int64_t want_count);

/* Fails the running cmocka test with the comparison's text unless it is equal. */
#define LODE_ASSERT_CLOSE(comparison)                                                              \
    do {                                                                                           \
        lode_comparison_t lode_result_ = (comparison);                                             \
        if (!lode_result_.equal)                                                                   \
            fail_msg("%s", lode_result_.text);                                                     \
    } while (0)

/* Fails the running cmocka test with the recorded error message unless the call succeeds. */
#define LODE_ASSERT_OK(expression)                                                                 \
    do {                                                                                           \
        lode_status_t lode_result_ = (expression);                                                 \
        if (lode_result_ != LODE_OK)                                                               \
            fail_msg("%s: %s", #expression, lode_error_message());                                 \
    } while (0)

/* Fails unless the call returns `expected` and its message contains `part`. */
#define LODE_ASSERT_FAILS(expression, expected, part)                                              \
    do {                                                                                           \
        lode_status_t lode_result_ = (expression);                                                 \
        if (lode_result_ != (expected) || !strstr(lode_error_message(), (part)))                   \
            fail_msg("%s: status %d, message \"%s\", wanted status %d and \"%s\"", #expression,    \
                     (int)lode_result_, lode_error_message(), (int)(expected), (part));            \
    } while (0)

#endif
