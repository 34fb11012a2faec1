#include "comm/context.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/stop.h"

/* Called by MPI where a call on one of our communicators failed. */
static void on_mpi_error(MPI_Comm *handle, int *code, ...) {
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length, rank;
    MPI_Error_string(*code, text, &length);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    char message[LODE_MESSAGE_MAX];
    snprintf(message, sizeof message,
             "MPI failed on rank %d: %s; all ranks are stopped: run the same command again to go "
             "on, and look at the nodes and their network where it happens again",
             rank, text);
    lode_error_print(message);
    MPI_Abort(*handle, LODE_ERR_COMM);
}

void lode_comm_guard(MPI_Comm handle) {
    MPI_Errhandler handler;
    MPI_Comm_create_errhandler(on_mpi_error, &handler);
    MPI_Comm_set_errhandler(handle, handler);
    MPI_Errhandler_free(&handler); /* lives on with the communicators that have it */
}

lode_comm_t lode_comm_describe(MPI_Comm handle) {
    lode_comm_t comm = {.comm = handle};
    MPI_Comm_rank(handle, &comm.rank);
    MPI_Comm_size(handle, &comm.size);
    return comm;
}

lode_comm_t lode_comm_alone(void) {
    return (lode_comm_t){.comm = MPI_COMM_NULL, .size = 1};
}

lode_status_t lode_comm_agree(const lode_comm_t *comm, lode_status_t local) {
    lode_memory_sample(); /* every stage comes here between its steps, with all it holds */
    if (comm->size == 1)
        return local;
    /* The lowest rank that failed, or size where none did. */
    int mine = local == LODE_OK ? comm->size : comm->rank, first = 0;
    MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, comm->comm);
    if (first == comm->size)
        return LODE_OK;
    struct {
        int status;
        char message[LODE_MESSAGE_MAX];
    } report = {.status = (int)local};
    if (comm->rank == first)
        snprintf(report.message, sizeof report.message, "%s", lode_error_message());
    MPI_Bcast(&report, (int)sizeof report, MPI_BYTE, first, comm->comm);
    return lode_fail((lode_status_t)report.status, "%s", report.message);
}

lode_status_t lode_comm_received(const lode_comm_t *comm, const char *what) {
    if (!lode_fault(LODE_FAULT_RECEIVE))
        return LODE_OK;
    return lode_fail(LODE_ERR_COMM, "rank %d could not receive %s: %s", comm->rank, what,
                     strerror(errno));
}

lode_status_t lode_comm_broadcast(const lode_comm_t *comm, void *data, size_t size, int root) {
    const size_t piece = 1u << 30;
    if (comm->size == 1)
        return LODE_OK;
    for (size_t done = 0; done < size; done += piece) {
        size_t count = size - done < piece ? size - done : piece;
        MPI_Bcast((char *)data + done, (int)count, MPI_BYTE, root, comm->comm);
    }
    return lode_comm_agree(comm, comm->rank == root ? LODE_OK : lode_comm_received(comm, "a copy"));
}

lode_status_t lode_comm_share(const lode_comm_t *comm, char **data, size_t *size, int root,
                              lode_status_t local) {
    if (comm->rank != root)
        *data = NULL;
    LODE_TRY(lode_comm_agree(comm, comm->rank == root ? local : LODE_OK));
    uint64_t bytes = *size;
    LODE_TRY(lode_comm_broadcast(comm, &bytes, sizeof bytes, root));
    lode_status_t status = LODE_OK;
    if (comm->rank != root)
        status = lode_alloc_raw(data, (int64_t)bytes + 1, 1, "shared input");
    LODE_TRY(lode_comm_agree(comm, status));
    *size = (size_t)bytes;
    return lode_comm_broadcast(comm, *data, (size_t)bytes + 1, root);
}

lode_status_t lode_comm_stop(const lode_comm_t *comm, double unit_seconds) {
    lode_status_t status = LODE_OK;
    if (lode_stop_before(unit_seconds)) {
        const char *place = lode_progress_text();
        status = lode_fail(LODE_STOPPED,
                           "stopped by %s%s%s; what is done is kept; run the same command again to "
                           "go on",
                           lode_stop_reason(), *place ? " in " : "", place);
    }
    return lode_comm_agree(comm, status);
}

lode_status_t lode_narrow(int *out, int64_t value, const char *what) {
    if (value < INT_MIN || value > INT_MAX)
        return lode_fail(LODE_ERR_INTERNAL, "%s: %lld does not fit an int", what, (long long)value);
    *out = (int)value;
    return LODE_OK;
}
