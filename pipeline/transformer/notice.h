/* transformer/notice: how the ranks that feed pipelines learn that some rank wants them to stop.
 *
 * Only the first stage of each replica begins micro-batches, so it alone can end a pass early, but
 * a signal, or a failure, may come to any rank, and in a forward pass no message goes back. So
 * during a pass every rank sends one number to each of these stages, the feeders: 1 as soon as it
 * wants them to stop, else 0 at the end. Ranks that idle meanwhile look for signals too.
 */
#ifndef LODE_TRANSFORMER_NOTICE_H
#define LODE_TRANSFORMER_NOTICE_H

#include "comm/context.h"
#include "transformer/layout.h"

typedef struct lode_notice {
    const lode_comm_t *comm;
    int feeders, apart;    /* the feeders' ranks are 0, apart, 2·apart … */
    bool feeds;            /* this rank */
    bool deaf;             /* to signals and the time limit; false at first */
    bool told, asked;      /* has sent; was asked to stop */
    int word;              /* that was sent */
    MPI_Request *requests; /* [feeders] sent, then on a feeder [size] to be received */
    int *words;            /* [size] received */
} lode_notice_t;

/* Begins a pass. All ranks must then end with lode_notice_close(), whatever happens. `notice` stays
 * where it is meanwhile. Errors: LODE_ERR_MEMORY, agreed upon. Collective over `comm`. */
LODE_MUST_USE lode_status_t lode_notice_open(lode_notice_t *notice, const lode_comm_t *comm,
                                             const lode_layout_t *layout);

/* Asks all feeders to stop, the first time it is called. Local. */
void lode_notice_ask(lode_notice_t *notice);

/* The same where this rank was asked to stop by a signal or the time limit. Local. */
void lode_notice_look(lode_notice_t *notice);

/* On a feeder: whether any rank has asked. Local. */
bool lode_notice_asked(lode_notice_t *notice);

/* Ends the pass when all ranks do. Safe on what was not opened. Collective. */
void lode_notice_close(lode_notice_t *notice);

#endif
