/* text/task: the items of a multiple-choice or last-word set, in the order of the file.
 *
 * A task file is UTF-8, one JSON object a line; lines of nothing but white space are skipped.
 *
 *   {"id": "7", "requests": [["context", " continuation"], …], "gold": 0}
 *
 * An item asks for the log-likelihood of each request's continuation after its context; `gold` is
 * the place of the right one. Items may differ in how many requests they have, contexts may be
 * empty and may differ within an item; ids are not looked at and may repeat, and so may be missing.
 * An item with one request is right where its continuation is what the model would say.
 *
 * Everything here is Local.
 */
#ifndef LODE_TEXT_TASK_H
#define LODE_TEXT_TASK_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"

enum { LODE_TASK_MAX_REQUESTS = 1024 }; /* of one item */

typedef struct lode_task lode_task_t;

/* Takes the items out of a file's bytes. Pure: the bytes are copied, not kept.
 *   out     the task, the caller's to destroy; NULL on failure
 *   bytes   [size], any content
 *   limit   items that are read, the first ones, ≥ 0; 0 for all. What follows is not looked at
 *   name    the file, for messages
 * Errors: LODE_ERR_FORMAT, naming the line and what is wrong with it (not UTF-8, no JSON object, a
 * key that is given twice, no request, an empty continuation, a NUL character, a wrong type, gold
 * that is no place of a request); LODE_ERR_INPUT (no item); LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_task_parse(lode_task_t **out, const char *bytes, size_t size,
                                            int64_t limit, const char *name);

/* The same of a file; `path` has been expanded. Errors: those above, and lode_file_read's. */
LODE_MUST_USE lode_status_t lode_task_read(lode_task_t **out, const char *path, int64_t limit);

/* *task may be NULL and becomes NULL. */
void lode_task_destroy(lode_task_t **task);

/* Items, at least 1. */
int64_t lode_task_items(const lode_task_t *task);

/* Line of the file that item `item` stands on, from 1. */
int64_t lode_task_line(const lode_task_t *task, int64_t item);

/* Requests of an item, at least 1; and of the item that has the most. */
int64_t lode_task_requests(const lode_task_t *task, int64_t item);
int64_t lode_task_widest(const lode_task_t *task);

/* The place of the right request, in [0, requests). */
int32_t lode_task_gold(const lode_task_t *task, int64_t item);

/* Context and continuation of a request: valid UTF-8 without NUL, the task's, not terminated. The
 * continuation has at least one byte. */
void lode_task_context(const lode_task_t *task, int64_t item, int64_t request, const char **text,
                       size_t *length);
void lode_task_continuation(const lode_task_t *task, int64_t item, int64_t request,
                            const char **text, size_t *length);

/* Code points of a continuation without one space at its beginning, by which acc_norm divides. */
int64_t lode_task_characters(const lode_task_t *task, int64_t item, int64_t request);

/* Appends the examples that stand before the contexts of an item: `shots` other items, each its
 * right context and continuation and an empty line ("\n\n").
 *   prefix   in out; untouched where shots is 0
 *   shots    ≥ 0; the task must have been read without a limit
 *   seed     of the experiment
 * The examples are drawn for each item by itself, without repetition, from all items of the file
 * whose text is not the item's own, as lm_eval draws them from the split it scores; the draw
 * depends on the seed, the item's place and the file alone. Errors: LODE_ERR_INPUT where the file
 * has too few other items; LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_task_examples(lode_buffer_t *prefix, const lode_task_t *task,
                                               int64_t item, int64_t shots, int64_t seed);

#endif
