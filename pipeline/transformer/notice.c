#include "transformer/notice.h"

#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "base/stop.h"

enum { TAG_NOTICE = 103 };

/* Received on a feeder from each rank but itself. */
static MPI_Request *received(const lode_notice_t *notice) {
    return notice->requests + notice->feeders;
}

lode_status_t lode_notice_open(lode_notice_t *notice, const lode_comm_t *comm,
                               const lode_layout_t *layout) {
    const int count = layout->replicas + comm->size;
    *notice = (lode_notice_t){.comm = comm,
                              .feeders = layout->replicas,
                              .apart = layout->stages,
                              .feeds = layout->stage == 0};
    lode_status_t status = LODE_NEW(&notice->words, comm->size, "notices");
    if (status == LODE_OK)
        status = LODE_NEW(&notice->requests, count, "notices");
    status = lode_comm_agree(comm, status);
    if (status != LODE_OK) {
        free(notice->words);
        free(notice->requests);
        *notice = (lode_notice_t){0};
        return status;
    }
    for (int i = 0; i < count; i++)
        notice->requests[i] = MPI_REQUEST_NULL;
    for (int r = 0; r < comm->size && notice->feeds; r++)
        if (r != comm->rank)
            MPI_Irecv(&notice->words[r], 1, MPI_INT, r, TAG_NOTICE, comm->comm,
                      &received(notice)[r]);
    return LODE_OK;
}

static void tell(lode_notice_t *notice, int word) {
    if (notice->told || !notice->requests)
        return;
    notice->told = true;
    notice->word = word;
    for (int i = 0; i < notice->feeders; i++)
        if (i * notice->apart != notice->comm->rank)
            MPI_Isend(&notice->word, 1, MPI_INT, i * notice->apart, TAG_NOTICE, notice->comm->comm,
                      &notice->requests[i]);
}

void lode_notice_ask(lode_notice_t *notice) {
    notice->asked = true;
    tell(notice, 1);
}

void lode_notice_look(lode_notice_t *notice) {
    if (!notice->deaf && !notice->told && lode_stop_requested())
        lode_notice_ask(notice);
}

bool lode_notice_asked(lode_notice_t *notice) {
    lode_notice_look(notice);
    for (int r = 0; r < notice->comm->size && notice->feeds && !notice->asked; r++) {
        int here = 0;
        if (received(notice)[r] != MPI_REQUEST_NULL)
            MPI_Test(&received(notice)[r], &here, MPI_STATUS_IGNORE);
        if (here && notice->words[r])
            notice->asked = true;
    }
    return notice->asked;
}

void lode_notice_close(lode_notice_t *notice) {
    const struct timespec pause = {.tv_nsec = 2000000};
    MPI_Request end;
    int ended = 0;
    if (!notice->requests)
        return;
    /* Whoever has done its share, or idles, leaves the processor to the others until all have. */
    MPI_Ibarrier(notice->comm->comm, &end);
    MPI_Test(&end, &ended, MPI_STATUS_IGNORE);
    while (!ended) {
        nanosleep(&pause, NULL);
        lode_notice_look(notice);
        MPI_Test(&end, &ended, MPI_STATUS_IGNORE);
    }
    tell(notice, 0);
    const int count = notice->feeders + (notice->feeds ? notice->comm->size : 0);
    MPI_Waitall(count, notice->requests, MPI_STATUSES_IGNORE);
    free(notice->requests);
    free(notice->words);
    *notice = (lode_notice_t){0};
}
