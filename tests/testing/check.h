/* testing/check: checks for MPI tests. A cmocka assertion would leave one rank's test function and
 * the other ranks waiting in a collective; these count failures, and main() ends with
 * lode_check_result(), where the ranks add them up. */
#ifndef LODE_TESTING_CHECK_H
#define LODE_TESTING_CHECK_H

#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

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

/* Whether all ranks hold the same status and, where it is a failure, message. Collective
 * over MPI_COMM_WORLD. */
static inline bool lode_check_same(lode_status_t status) {
    char mine[LODE_MESSAGE_MAX + 16], roots[sizeof mine] = "";
    snprintf(mine, sizeof mine, "%d %s", (int)status,
             status == LODE_OK ? "" : lode_error_message());
    memcpy(roots, mine, sizeof mine);
    MPI_Bcast(roots, (int)sizeof roots, MPI_BYTE, 0, MPI_COMM_WORLD);
    if (strcmp(mine, roots) != 0)
        fprintf(stderr, "here: %s\non rank 0: %s\n", mine, roots);
    return strcmp(mine, roots) == 0;
}

/* Whether it is a failure of status `expected` on all ranks, with `part` in the message.
 * Collective over MPI_COMM_WORLD. */
static inline bool lode_check_fails(lode_status_t status, lode_status_t expected,
                                    const char *part) {
    return lode_check_same(status) && status == expected && strstr(lode_error_message(), part);
}

/* Whether any check failed on any rank, as an exit status. Collective over MPI_COMM_WORLD. */
static inline int lode_check_result(void) {
    int all = 0;
    MPI_Allreduce(&lode_check_failures, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    return all == 0 ? 0 : 1;
}

#endif
