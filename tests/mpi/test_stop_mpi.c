/* The agreement to stop: whichever rank is asked, all leave with the same status and message. */
#include <mpi.h>
#include <signal.h>
#include <string.h>

#include "base/log.h"
#include "base/stop.h"
#include "comm/context.h"
#include "testing/check.h"

/* Whether all ranks have rank 0's message. Collective. */
static bool one_message(const lode_comm_t *comm) {
    char first[LODE_MESSAGE_MAX];
    memcpy(first, lode_error_message(), strlen(lode_error_message()) + 1);
    MPI_Bcast(first, sizeof first, MPI_CHAR, 0, comm->comm);
    return strcmp(first, lode_error_message()) == 0;
}

int main(int argc, char **argv) {
    int provided;
    lode_stop_install();
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    const lode_comm_t world = lode_comm_describe(MPI_COMM_WORLD);
    const int last = world.size - 1;
    LODE_CHECK(lode_comm_stop(&world, 1e9) == LODE_OK);

    /* Only one rank's unit is too long for a limit that only it has. */
    if (world.rank == last)
        lode_stop_after(1e6);
    LODE_CHECK(lode_comm_stop(&world, 1e3) == LODE_OK);
    LODE_CHECK(lode_comm_stop(&world, 1e6) == LODE_STOPPED);
    LODE_CHECK(strstr(lode_error_message(), "stopped by the time limit of 1000000 s; ") != NULL);
    LODE_CHECK(one_message(&world));

    /* A signal at one rank, which knows where the work stands. */
    if (world.rank == last) {
        lode_progress_t progress;
        lode_progress_start(&progress, "evaluate", "layer", 9);
        lode_progress_add(&progress, 4, 0);
        raise(SIGUSR1);
    }
    LODE_CHECK(lode_comm_stop(&world, 0) == LODE_STOPPED);
    LODE_CHECK(strcmp(lode_error_message(),
                      "stopped by SIGUSR1 in evaluate after layer 4 of 9; what is done is kept; "
                      "run the same command again to go on") == 0);
    LODE_CHECK(one_message(&world));
    LODE_CHECK(lode_stop_requested() == (world.rank == last));
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
