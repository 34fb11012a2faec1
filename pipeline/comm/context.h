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

/* Describes `comm`, which stays the caller's. Local. */
lode_comm_t lode_comm_describe(MPI_Comm comm);

/* The group of a process that has not started MPI. Local. */
lode_comm_t lode_comm_alone(void);

/* Returns on every rank the status of the lowest failing rank, and makes its message the current
 * one everywhere; LODE_OK where nobody failed. Collective. */
LODE_MUST_USE lode_status_t lode_comm_agree(const lode_comm_t *comm, lode_status_t local);

/* Copies `size` bytes from rank `root` to all; size_t lengths are sent in pieces. Collective. */
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

/* Narrows an extent for MPI or BLAS; LODE_ERR_INTERNAL where it does not fit. Local. */
LODE_MUST_USE lode_status_t lode_narrow(int *out, int64_t value, const char *what);

#endif
