/* stages/evaluate/requests: the requests of a task as sequences to compute.
 *
 * A request's sequence is its context and continuation less the last token, and its targets are the
 * continuation's tokens. What is longer than the model's positions loses tokens at the beginning,
 * so that the last `positions` + 1 of context and continuation remain, as in lm_eval
 * (HFLM._loglikelihood_tokens). Requests that are equal then are computed once. Sequences are in
 * descending order of length, and of their ids where lengths are equal: nothing about them depends
 * on ranks. Everything here is Local.
 */
#ifndef LODE_STAGES_EVALUATE_REQUESTS_H
#define LODE_STAGES_EVALUATE_REQUESTS_H

#include "base/hash.h"
#include "store/store.h"
#include "transformer/batch.h"

typedef struct lode_requests {
    int64_t items, count, width; /* width: requests of the item that has most */
    int64_t *first;              /* [items + 1] first requests of the items */
    int32_t *gold;               /* [items] */
    int32_t *characters;         /* [count] */
    int32_t *tokens;             /* [count] of the continuation */
    int64_t *sequence;           /* [count] of the text below, which is the request's */
    lode_text_t text;            /* the sequences; its arrays are those below */
    int64_t *offsets;
    int32_t *ids, *target;
    int64_t truncated; /* requests that lost tokens */
} lode_requests_t;

/* Reads a task from the open tokenize file and builds its sequences.
 *   name       in, of the task
 *   positions  in, the longest sequence of the model
 * *requests is for lode_requests_free, {0} on failure. Errors: LODE_ERR_INPUT where a continuation
 * alone has more than `positions` tokens, LODE_ERR_FORMAT (the file contradicts itself),
 * LODE_ERR_MEMORY, LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_requests_read(lode_requests_t *requests, lode_store_t *tokenize,
                                               const char *name, int64_t positions);
void lode_requests_free(lode_requests_t *requests); /* leaves {0} */

/* Adds which sequence is whose: what results [items, width] depend on beside the text. */
void lode_requests_hash(const lode_requests_t *requests, lode_hash_t *hash);

/* Private bytes. */
int64_t lode_requests_memory(const lode_requests_t *requests);

/* Spreads values of requests over [items, width]; behind an item's last request stands `missing`.
 */
void lode_requests_spread(const lode_requests_t *requests, const int32_t *values, int32_t missing,
                          int32_t *table);

#endif
