/* stages/tokenize/tasks: the ids of every request of a task. */
#ifndef LODE_STAGES_TOKENIZE_TASKS_H
#define LODE_STAGES_TOKENIZE_TASKS_H

#include "tokenize/work.h"

/* Requests of a task in the order of its file: context and continuation of each are one sequence.
 * Initialise with {0}. */
typedef struct lode_task_ids {
    lode_ids_t ids;
    int64_t items, requests;
    int64_t *first;      /* [items + 1], item i has requests first[i] … first[i + 1] − 1 */
    int32_t *gold;       /* [items] */
    int32_t *context;    /* [requests] ids that are context and not scored, ≥ 1 */
    int32_t *characters; /* [requests] code points of the continuation less a space before it */
} lode_task_ids_t;

/* Encodes a task by the rules of tokenize/pair, with its examples (text/task) before each context.
 * A context that neighbouring requests of an item share is encoded once. On rank 0 while the others
 * serve. Errors: LODE_ERR_INPUT, LODE_ERR_FORMAT, naming the file and the line. */
LODE_MUST_USE lode_status_t lode_tokenize_task(lode_task_ids_t *task, const lode_run_t *run,
                                               const lode_config_task_t *entry,
                                               const lode_crew_t *crew);

/* Writes rank 0's task as /tasks/<name>/ids, offsets, context, first, gold and characters; i32, but
 * i64 offsets and first. Collective. */
LODE_MUST_USE lode_status_t lode_tokenize_put_task(lode_store_t *store, const lode_run_t *run,
                                                   const char *name, const lode_task_ids_t *task);

void lode_task_ids_free(lode_task_ids_t *task); /* leaves {0}. Local. */

#endif
