/* transformer/channel: one direction of the traffic between neighbouring pipeline stages.
 *
 * Messages are numbered from 0 on both sides and hold one micro-batch's hidden states (or their
 * gradient) plus a mark that says what the sender made of it. Two buffers a side: one
 * travels while the other is being computed with. Everything here is Local, but the two ends must
 * go through the same messages.
 */
#ifndef LODE_TRANSFORMER_CHANNEL_H
#define LODE_TRANSFORMER_CHANNEL_H

#include <mpi.h>

#include "base/error.h"
#include "kernels/real.h"

enum { LODE_CHANNEL_DEPTH = 2 };

typedef enum lode_mark {
    LODE_MARK_SOUND,
    LODE_MARK_FAILED,  /* nothing that follows counts */
    LODE_MARK_SKIPPED, /* this micro-batch was not begun, nor will one that follows be */
} lode_mark_t;

typedef struct lode_channel {
    MPI_Comm comm;
    int peer, tag;   /* peer −1: an end of the pipeline, every call does nothing */
    int64_t largest; /* reals of a message without its mark */
    int64_t posted;  /* messages sent, or receives posted */
    lode_real_t *buffer[LODE_CHANNEL_DEPTH];
    MPI_Request request[LODE_CHANNEL_DEPTH];
} lode_channel_t;

/* Private bytes of one channel for messages of `largest` reals. */
int64_t lode_channel_memory(int64_t largest);

/* peer −1 makes an inert channel. Errors: LODE_ERR_MEMORY; the channel may then only be closed. */
LODE_MUST_USE lode_status_t lode_channel_open(lode_channel_t *channel, MPI_Comm comm, int peer,
                                              int tag, int64_t largest);

/* Posts receives up to two messages ahead of `consumed`, the number already released, out of
 * `messages` in all. */
void lode_channel_post(lode_channel_t *channel, int64_t consumed, int64_t messages);

/* Waits for message `number`; *data [largest] is valid until the next lode_channel_post that counts
 * it as consumed. Returns the sender's mark. */
lode_mark_t lode_channel_receive(lode_channel_t *channel, int64_t number, lode_real_t **data);

/* The buffer of message `number`, once its previous use has left it. */
lode_real_t *lode_channel_buffer(lode_channel_t *channel, int64_t number);

/* Sends `count` reals of that buffer and the mark. */
void lode_channel_send(lode_channel_t *channel, int64_t number, int64_t count, lode_mark_t mark);

/* Lets MPI move what is under way. */
void lode_channel_progress(lode_channel_t *channel);

/* Waits for what was sent and releases the buffers. */
void lode_channel_close(lode_channel_t *channel);

#endif
