/* testing/timing: what the programs measure speeds with. Local. */
#ifndef LODE_TESTING_TIMING_H
#define LODE_TESTING_TIMING_H

#include <stdbool.h>

/* Chooses the clock by its name: "wall", which is the default, or "cpu", the time that the process
 * computes, which other work on the machine disturbs least. False where it is neither. */
bool lode_test_clock(const char *name);

/* Seconds by that clock, since whenever. */
double lode_test_seconds(void);

/* The median of values [count], which it sorts; count ≥ 1. */
double lode_test_median(double *values, int count);

#endif
