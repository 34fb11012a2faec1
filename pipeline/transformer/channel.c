#include "transformer/channel.h"

#include <stdlib.h>

#include "base/memory.h"

#ifdef LODE_REAL_DOUBLE
#define REAL_MPI MPI_DOUBLE
#else
#define REAL_MPI MPI_FLOAT
#endif

/* The mark is the message's first element and the data follow a cache line later, so that the
 * kernels find them aligned. */
enum { HEADER = 64 / sizeof(lode_real_t) };

int64_t lode_channel_memory(int64_t largest) {
    return LODE_CHANNEL_DEPTH * (largest + HEADER) * (int64_t)sizeof(lode_real_t);
}

lode_status_t lode_channel_open(lode_channel_t *channel, MPI_Comm comm, int peer, int tag,
                                int64_t largest) {
    *channel = (lode_channel_t){.comm = comm, .peer = peer, .tag = tag, .largest = largest};
    for (int i = 0; i < LODE_CHANNEL_DEPTH; i++)
        channel->request[i] = MPI_REQUEST_NULL;
    if (peer < 0)
        return LODE_OK;
    if (largest + HEADER > INT32_MAX)
        return lode_fail(LODE_ERR_MEMORY,
                         "a micro-batch of %lld values is too large for one message; lower "
                         "micro_batch or the sequence length",
                         (long long)largest);
    for (int i = 0; i < LODE_CHANNEL_DEPTH; i++)
        LODE_TRY(LODE_NEW(&channel->buffer[i], largest + HEADER, "message buffer"));
    return LODE_OK;
}

void lode_channel_post(lode_channel_t *channel, int64_t consumed, int64_t messages) {
    if (channel->peer < 0)
        return;
    for (; channel->posted < messages && channel->posted < consumed + LODE_CHANNEL_DEPTH;
         channel->posted++) {
        const int64_t slot = channel->posted % LODE_CHANNEL_DEPTH;
        MPI_Irecv(channel->buffer[slot], (int)(channel->largest + HEADER), REAL_MPI, channel->peer,
                  channel->tag, channel->comm, &channel->request[slot]);
    }
}

lode_mark_t lode_channel_receive(lode_channel_t *channel, int64_t number, lode_real_t **data) {
    LODE_ASSERT(channel->peer >= 0 && number < channel->posted);
    const int64_t slot = number % LODE_CHANNEL_DEPTH;
    MPI_Wait(&channel->request[slot], MPI_STATUS_IGNORE);
    *data = channel->buffer[slot] + HEADER;
    return (lode_mark_t)channel->buffer[slot][0];
}

lode_real_t *lode_channel_buffer(lode_channel_t *channel, int64_t number) {
    LODE_ASSERT(channel->peer >= 0);
    const int64_t slot = number % LODE_CHANNEL_DEPTH;
    MPI_Wait(&channel->request[slot], MPI_STATUS_IGNORE);
    return channel->buffer[slot] + HEADER;
}

void lode_channel_send(lode_channel_t *channel, int64_t number, int64_t count, lode_mark_t mark) {
    LODE_ASSERT(channel->peer >= 0 && count <= channel->largest);
    const int64_t slot = number % LODE_CHANNEL_DEPTH;
    channel->buffer[slot][0] = (lode_real_t)mark;
    MPI_Isend(channel->buffer[slot], (int)(count + HEADER), REAL_MPI, channel->peer, channel->tag,
              channel->comm, &channel->request[slot]);
    channel->posted = number + 1;
}

void lode_channel_progress(lode_channel_t *channel) {
    /* A status query drives MPI's engine without completing the request. */
    int done;
    for (int i = 0; i < LODE_CHANNEL_DEPTH; i++)
        if (channel->request[i] != MPI_REQUEST_NULL)
            MPI_Request_get_status(channel->request[i], &done, MPI_STATUS_IGNORE);
}

void lode_channel_close(lode_channel_t *channel) {
    for (int i = 0; i < LODE_CHANNEL_DEPTH; i++) {
        MPI_Wait(&channel->request[i], MPI_STATUS_IGNORE);
        free(channel->buffer[i]);
        channel->buffer[i] = NULL;
    }
}
