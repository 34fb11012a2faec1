/* testing/check: checks for MPI tests. A cmocka assertion would leave one rank's test function and
 * the other ranks waiting in a collective; these count failures, and main() ends with
 * lode_check_result(), where the ranks add them up. */
#ifndef LODE_TESTING_CHECK_H
#define LODE_TESTING_CHECK_H

#include <mpi.h>
#include <stdio.h>

#include "base/error.h"

static int lode_check_failures;

/* Counts and prints a condition that does not hold; the test goes on. */
#define LODE_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            lode_check_failures++;                                                                 \
            fprintf(stderr, "%s:%d: %s does not hold (last message: %s)\n", __FILE__, __LINE__,    \
                    #condition, lode_error_message());                                             \
        }                                                                                          \
    } while (0)

/* The same where nothing can go on without it: ends all ranks. */
#define LODE_REQUIRE(condition)                                                                    \
    do {                                                                                           \
        LODE_CHECK(condition);                                                                     \
        if (lode_check_failures > 0)                                                               \
            MPI_Abort(MPI_COMM_WORLD, 1);                                                          \
    } while (0)

/* Whether any check failed on any rank, as an exit status. Collective over MPI_COMM_WORLD. */
static inline int lode_check_result(void) {
    int all = 0;
    MPI_Allreduce(&lode_check_failures, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    return all == 0 ? 0 : 1;
}

#endif
