#include "training/reduce.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/lanes.h"

/* Elements that a thread takes at once, and that go into one message between replicas. */
enum { RUN = 1 << 14, MESSAGE_ELEMENTS = 1 << 26, TAG_SUM = 111, TAG_GATHER = 112 };

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* --- elements --------------------------------------------------------------------------------- */

static void add_run(float *restrict sum, const float *restrict more, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        sum[i] += more[i];
}

void lode_reduce_add(float *sum, const float *more, int64_t count) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i += RUN)
        add_run(sum + i, more + i, min2(count - i, RUN));
}

static void clear(float *x, int64_t count) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i += RUN)
        memset(x + i, 0, (size_t)min2(count - i, RUN) * sizeof *x);
}

void lode_tree_sum(float *own, int place, float *others, int64_t stride, int parts, int64_t count) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i += RUN) {
        const int64_t length = min2(count - i, RUN);
        for (int apart = 1; apart < parts; apart *= 2)
            for (int one = 0; one < parts; one += 2 * apart) {
                /* Sums that hold the own part are kept in its place. */
                const int other = one + apart;
                const bool own_one = place >= one && place < other;
                const bool own_other = place >= other && place < other + apart;
                float *a = others + (one - (one > place)) * stride + i;
                float *b = others + (other - (other > place)) * stride + i;
                if (own_one)
                    add_run(own + i, b, length);
                else if (own_other)
                    add_run(own + i, a, length);
                else
                    add_run(a, b, length);
            }
    }
}

double lode_block_square(const float *x, int64_t count) {
    double lanes[LODE_LANES] = {0};
    int64_t i = 0;
    for (; i + LODE_LANES <= count; i += LODE_LANES)
        for (int j = 0; j < LODE_LANES; j++)
            lanes[j] += (double)x[i + j] * (double)x[i + j];
    for (; i < count; i++)
        lanes[0] += (double)x[i] * (double)x[i];
    return lode_lanes_sum(lanes);
}

/* --- groups ----------------------------------------------------------------------------------- */

int lode_group_sum_buffers(int64_t groups) {
    int buffers = 1;
    while (groups > 1) {
        groups /= 2;
        buffers++;
    }
    return buffers;
}

static lode_status_t fill(lode_group_sum_t *sum) {
    LODE_TRY(LODE_NEW(&sum->buffer, sum->buffers, "gradients"));
    LODE_TRY(LODE_NEW(&sum->held, sum->buffers, "gradients"));
    LODE_TRY(LODE_NEW(&sum->covers, sum->buffers, "gradients"));
    for (int i = 0; i < sum->buffers; i++)
        LODE_TRY(LODE_NEW_RAW(&sum->buffer[i], sum->elements, "gradients"));
    return LODE_OK;
}

lode_status_t lode_group_sum_create(lode_group_sum_t *sum, int64_t groups, int64_t elements) {
    *sum = (lode_group_sum_t){
        .elements = elements, .buffers = lode_group_sum_buffers(groups), .current = -1};
    const lode_status_t status = fill(sum);
    if (status != LODE_OK)
        lode_group_sum_free(sum);
    return status;
}

void lode_group_sum_free(lode_group_sum_t *sum) {
    for (int i = 0; sum->buffer && i < sum->buffers; i++)
        free(sum->buffer[i]);
    free((void *)sum->buffer);
    free(sum->held);
    free(sum->covers);
    *sum = (lode_group_sum_t){0};
}

void lode_group_sum_start(lode_group_sum_t *sum) {
    sum->held_count = 0;
    sum->current = -1;
}

/* Adds the group in hand to the sums of as many groups. */
static void carry(lode_group_sum_t *sum) {
    int64_t covered = 1;
    while (sum->held_count > 0 && sum->covers[sum->held_count - 1] == covered) {
        const int earlier = sum->held[--sum->held_count];
        lode_reduce_add(sum->buffer[sum->current], sum->buffer[earlier], sum->elements);
        covered *= 2;
    }
    sum->held[sum->held_count] = sum->current;
    sum->covers[sum->held_count++] = covered;
    sum->current = -1;
}

static int unused(const lode_group_sum_t *sum) {
    for (int i = 0; i < sum->buffers; i++) {
        bool used = false;
        for (int j = 0; j < sum->held_count; j++)
            used = used || sum->held[j] == i;
        if (!used)
            return i;
    }
    LODE_ASSERT(!"more groups than were announced");
    return 0;
}

int lode_group_sum_next(lode_group_sum_t *sum) {
    if (sum->current >= 0)
        carry(sum);
    sum->current = unused(sum);
    clear(sum->buffer[sum->current], sum->elements);
    return sum->current;
}

int lode_group_sum_end(lode_group_sum_t *sum) {
    LODE_ASSERT(sum->current >= 0);
    carry(sum);
    LODE_ASSERT(sum->held_count == 1);
    return sum->held[0];
}

/* --- blocks ----------------------------------------------------------------------------------- */

static int64_t blocks_of(int64_t elements) {
    return (elements + LODE_BLOCK_ELEMENTS - 1) / LODE_BLOCK_ELEMENTS;
}

static void list_blocks(lode_blocks_t *blocks, const lode_parameters_t *parameters) {
    int64_t next = 0, number = 0; /* of the inventory, and its first block */
    for (int64_t p = 0; p < parameters->count; p++) {
        const lode_parameter_t *parameter = &parameters->list[p];
        for (; next < parameter->index; next++)
            number += blocks_of(lode_inventory_elements(&parameters->inventory, next));
        for (int64_t first = 0; first < parameter->elements; first += LODE_BLOCK_ELEMENTS)
            blocks->list[blocks->count++] = (lode_block_t){
                .offset = parameter->offset + first,
                .count = min2(parameter->elements - first, LODE_BLOCK_ELEMENTS),
                .parameter = p,
                .number = parameter->counted ? number + first / LODE_BLOCK_ELEMENTS : -1};
    }
}

/* Shard r begins with the first block after its even share of the elements. */
static void cut(lode_blocks_t *blocks, int64_t elements) {
    int64_t block = 0;
    for (int r = 0; r <= blocks->replicas; r++) {
        const double share = (double)elements * r / blocks->replicas;
        while (block < blocks->count &&
               (r == blocks->replicas || (double)blocks->list[block].offset < share))
            block++;
        blocks->first[r] = block;
        blocks->begin[r] = block < blocks->count ? blocks->list[block].offset : elements;
    }
}

lode_status_t lode_blocks_create(lode_blocks_t *blocks, const lode_parameters_t *parameters,
                                 int replicas) {
    int64_t count = 0;
    lode_status_t status;
    *blocks = (lode_blocks_t){.replicas = replicas};
    for (int64_t i = 0; i < parameters->inventory.count; i++)
        blocks->total += blocks_of(lode_inventory_elements(&parameters->inventory, i));
    for (int64_t p = 0; p < parameters->count; p++)
        count += blocks_of(parameters->list[p].elements);
    LODE_GUARD(status, LODE_NEW(&blocks->list, count, "list of parameters"), failed);
    LODE_GUARD(status, LODE_NEW(&blocks->first, 2 * ((int64_t)replicas + 1), "list of parameters"),
               failed);
    blocks->begin = blocks->first + replicas + 1;
    list_blocks(blocks, parameters);
    cut(blocks, parameters->elements);
    return LODE_OK;
failed:
    lode_blocks_free(blocks);
    return status;
}

void lode_blocks_free(lode_blocks_t *blocks) {
    free(blocks->list);
    free(blocks->first);
    *blocks = (lode_blocks_t){0};
}

/* --- between replicas ------------------------------------------------------------------------- */

/* Elements of a piece that each of the others sends at once. */
static int64_t piece_elements(int replicas) {
    const int64_t share = LODE_PIECE_BYTES / (int64_t)sizeof(float) / (replicas > 1 ? replicas : 1);
    return share > RUN ? share : RUN;
}

int64_t lode_reduce_buffer(int replicas) {
    return piece_elements(replicas) * (replicas > 1 ? replicas - 1 : 1);
}

/* Exchanges piece number `number` of all shards: the own one's of all others arrives in buffer, in
 * their order. */
static void exchange_piece(const lode_comm_t *comm, const int64_t *begin, int64_t number,
                           float *gradient, float *buffer) {
    const int64_t piece = piece_elements(comm->size), done = number * piece;
    const int64_t own = min2(begin[comm->rank + 1] - begin[comm->rank] - done, piece);
    for (int round = 1; round < comm->size; round++) {
        const int to = (comm->rank + round) % comm->size;
        const int from = (comm->rank + comm->size - round) % comm->size;
        const int64_t theirs = min2(begin[to + 1] - begin[to] - done, piece);
        MPI_Request request[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
        if (own > 0)
            MPI_Irecv(buffer + (from - (from > comm->rank)) * piece, (int)own, MPI_FLOAT, from,
                      TAG_SUM, comm->comm, &request[0]);
        if (theirs > 0)
            MPI_Isend(gradient + begin[to] + done, (int)theirs, MPI_FLOAT, to, TAG_SUM, comm->comm,
                      &request[1]);
        MPI_Waitall(2, request, MPI_STATUSES_IGNORE);
    }
}

void lode_reduce_shards(const lode_comm_t *comm, const int64_t *begin, float *gradient,
                        float *buffer) {
    const int64_t piece = piece_elements(comm->size);
    int64_t longest = 0;
    for (int r = 0; r < comm->size; r++)
        longest = begin[r + 1] - begin[r] > longest ? begin[r + 1] - begin[r] : longest;
    for (int64_t number = 0; comm->size > 1 && number * piece < longest; number++) {
        const int64_t first = begin[comm->rank] + number * piece;
        const int64_t count = min2(begin[comm->rank + 1] - first, piece);
        exchange_piece(comm, begin, number, gradient, buffer);
        if (count > 0)
            lode_tree_sum(gradient + first, comm->rank, buffer, piece, comm->size, count);
    }
}

void lode_gather_shards(const lode_comm_t *comm, const int64_t *begin, float *weights) {
    for (int round = 1; round < comm->size; round++) {
        const int to = (comm->rank + round) % comm->size;
        const int from = (comm->rank + comm->size - round) % comm->size;
        int64_t sent = begin[comm->rank], received = begin[from];
        while (sent < begin[comm->rank + 1] || received < begin[from + 1]) {
            const int64_t out = min2(begin[comm->rank + 1] - sent, MESSAGE_ELEMENTS);
            const int64_t in = min2(begin[from + 1] - received, MESSAGE_ELEMENTS);
            MPI_Request request[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
            if (in > 0)
                MPI_Irecv(weights + received, (int)in, MPI_FLOAT, from, TAG_GATHER, comm->comm,
                          &request[0]);
            if (out > 0)
                MPI_Isend(weights + sent, (int)out, MPI_FLOAT, to, TAG_GATHER, comm->comm,
                          &request[1]);
            MPI_Waitall(2, request, MPI_STATUSES_IGNORE);
            sent += out > 0 ? out : 0;
            received += in > 0 ? in : 0;
        }
    }
}
