#include "testing/timing.h"

#include <string.h>
#include <time.h>

static clockid_t chosen = CLOCK_MONOTONIC;

bool lode_test_clock(const char *name) {
    const bool processor = strcmp(name, "cpu") == 0;
    chosen = processor ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    return processor || strcmp(name, "wall") == 0;
}

double lode_test_seconds(void) {
    struct timespec now;
    clock_gettime(chosen, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double lode_test_median(double *values, int count) {
    for (int i = 1; i < count; i++)
        for (int j = i; j > 0 && values[j] < values[j - 1]; j--) {
            const double swapped = values[j];
            values[j] = values[j - 1];
            values[j - 1] = swapped;
        }
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}
