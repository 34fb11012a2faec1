/* comm/context: the group of ranks a piece of work runs on, and agreement among them.
 *
 * Rank-local work may fail on one rank alone. It then skips its remaining local work, takes part
 * in the collectives that follow, and all ranks leave together through lode_comm_agree().
 *
 * A group of one talks to nobody: what is declared here works for it without MPI.
 */
#ifndef LODE_COMM_CONTEXT_H
#define LODE_COMM_CONTEXT_H

#include <mpi.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct lode_comm {
    MPI_Comm comm;
    int rank, size;
} lode_comm_t;

/* MPI gives no promise about anything after one of its calls has failed, and a rank that cannot
 * talk cannot tell the others: such a failure prints one message and ends all ranks with the exit
 * status of LODE_ERR_COMM, instead of MPI's own report. Holds for `handle` and all communicators
 * made from it afterwards; results of MPI's calls on them need no checks. (A rank that dies is
 * noticed by mpirun or srun, which end the others.) Local. */
void lode_comm_guard(MPI_Comm handle);

/* LODE_ERR_COMM, naming `what`, where tests want this rank's receiving to fail (base/fault.h), for
 * whoever has received something by MPI's own calls; else LODE_OK. Local. */
LODE_MUST_USE lode_status_t lode_comm_received(const lode_comm_t *comm, const char *what);

/* Describes `comm`, which stays the caller's. Local. */
lode_comm_t lode_comm_describe(MPI_Comm comm);

/* The group of a process that has not started MPI. Local. */
lode_comm_t lode_comm_alone(void);

/* Returns on every rank the status of the lowest failing rank, and makes its message the current
 * one everywhere; LODE_OK where nobody failed. Collective. */
LODE_MUST_USE lode_status_t lode_comm_agree(const lode_comm_t *comm, lode_status_t local);

/* Copies `size` bytes from rank `root` to all; size_t lengths are sent in pieces. Returns the same
 * on all ranks, as do the two below. Collective. */
LODE_MUST_USE lode_status_t lode_comm_broadcast(const lode_comm_t *comm, void *data, size_t size,
                                                int root);

/* Gives every rank a copy of root's `*data` (`*size` bytes, allocated here on the other ranks with
 * a NUL after the last byte; root's must have one too). `local` is root's own status so far: a
 * failure there reaches all ranks instead of the data. The copies are the callers'. Collective. */
LODE_MUST_USE lode_status_t lode_comm_share(const lode_comm_t *comm, char **data, size_t *size,
                                            int root, lode_status_t local);

/* Brings numbers together that ranks have worked out between them: each of values [count] was set
 * by one rank and is 0 on all others. Rank `root` gets all of them, exactly; the others keep what
 * they have. Collective. */
LODE_MUST_USE lode_status_t lode_comm_collect(const lode_comm_t *comm, double *values,
                                              int64_t count, int root);

/* Whether to stop before the next unit of work, which takes about `unit_seconds` (0 where nobody
 * knows): LODE_STOPPED on all ranks where lode_stop_before() holds on any, with a message that says
 * why, where the work stands and how to go on; else LODE_OK. Call it between units. Collective. */
LODE_MUST_USE lode_status_t lode_comm_stop(const lode_comm_t *comm, double unit_seconds);

/* Narrows an extent for MPI or BLAS; LODE_ERR_INTERNAL where it does not fit. Local. */
LODE_MUST_USE lode_status_t lode_narrow(int *out, int64_t value, const char *what);

#endif
