/* training/reduce: sums of gradients whose bits do not depend on who computes what.
 *
 * A step's micro-batches form G groups, G a power of two. A group's gradients are added up in one
 * buffer in their order; the groups' sums are added in pairs, these sums in pairs, and so on. A
 * replica of R, a power of two ≤ G, computes G / R consecutive groups, a subtree, with a binary
 * counter: whenever two sums of equally many groups are there, they become one. The R sums are then
 * added in the same tree, each element by the replica that owns it.
 *
 * Owning goes by blocks: each tensor is cut into runs of LODE_BLOCK_ELEMENTS, its last one shorter,
 * and each replica of a stage owns a contiguous run of the rank's blocks, its shard. Blocks are
 * also what sums over elements are taken of, so that these depend on the model alone.
 */
#ifndef LODE_TRAINING_REDUCE_H
#define LODE_TRAINING_REDUCE_H

#include "comm/context.h"
#include "training/parameters.h"

enum { LODE_BLOCK_ELEMENTS = 1 << 16 };

/* --- groups: Local ---------------------------------------------------------------------------- */

/* The sum over a replica's groups while it grows. */
typedef struct lode_group_sum {
    int64_t elements; /* of a buffer */
    int buffers;      /* 1 + log₂ groups */
    float **buffer;   /* [buffers] of [elements] */
    int *held;        /* [buffers] buffers of finished sums, each of fewer groups than the last */
    int64_t *covers;  /* [buffers] so many groups each */
    int held_count;
    int current; /* the buffer of the group in hand, −1: none */
} lode_group_sum_t;

/* Buffers that so many groups, a power of two, take. */
int lode_group_sum_buffers(int64_t groups);

/* *sum is for lode_group_sum_free, {0} on failure. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_group_sum_create(lode_group_sum_t *sum, int64_t groups,
                                                  int64_t elements);
void lode_group_sum_free(lode_group_sum_t *sum);

/* Forgets all sums, before the first group of a step. */
void lode_group_sum_start(lode_group_sum_t *sum);

/* Ends the group in hand, if any, and begins the next: the number of a buffer, all 0. */
int lode_group_sum_next(lode_group_sum_t *sum);

/* Ends the last group; the number of the buffer with the sum of all, a power of two of them. */
int lode_group_sum_end(lode_group_sum_t *sum);

/* sum [count] += more, on all threads. */
void lode_reduce_add(float *sum, const float *more, int64_t count);

/* own [count] = the sum in pairs of `parts` arrays, a power of two: the first is `own` where it is
 * number `place` of them, the others lie `stride` elements apart in `others` in their order, with
 * one left out. Overwrites `others`. On all threads. */
void lode_tree_sum(float *own, int place, float *others, int64_t stride, int parts, int64_t count);

/* --- blocks and shards: Local ----------------------------------------------------------------- */

typedef struct lode_block {
    int64_t offset, count; /* elements of the flat arrays */
    int64_t parameter;     /* in the rank's list */
    int64_t number;        /* in the model's order of tensors; −1: not counted */
} lode_block_t;

typedef struct lode_blocks {
    int64_t count;
    lode_block_t *list; /* [count] */
    int64_t total;      /* of the model */
    int replicas;
    int64_t *first; /* [replicas + 1] shard r has the blocks first[r] … first[r + 1] − 1 */
    int64_t *begin; /* [replicas + 1] and the elements begin[r] … begin[r + 1] − 1 */
} lode_blocks_t;

/* *blocks is for lode_blocks_free, {0} on failure. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_blocks_create(lode_blocks_t *blocks,
                                               const lode_parameters_t *parameters, int replicas);
void lode_blocks_free(lode_blocks_t *blocks);

/* Σ x² of a block, in double, in lanes. */
double lode_block_square(const float *x, int64_t count);

/* --- between the replicas of a stage: Collective over `comm` ---------------------------------- */

/* What travels at once takes at most about this many bytes of a buffer on a rank. */
enum { LODE_PIECE_BYTES = 1 << 23 };

/* Elements of the buffer that the functions below need. */
int64_t lode_reduce_buffer(int replicas);

/* Turns own elements begin[r] … begin[r + 1] − 1 of `gradient` on replica r = comm->rank into the
 * sum over all replicas; the others are left as they are. buffer as above. */
void lode_reduce_shards(const lode_comm_t *comm, const int64_t *begin, float *gradient,
                        float *buffer);

/* Gives every replica all shards of `weights`. */
void lode_gather_shards(const lode_comm_t *comm, const int64_t *begin, float *weights);

#endif
