/* stages/evaluate/tasks: what all variants answer to multiple-choice and last-word items.
 *
 *   /tasks/<name>/<variant>        f64 [items, requests]: Σ log p of the continuation's tokens in
 * nats, NaN behind an item's last request; attributes acc, acc_stderr, acc_norm, acc_norm_stderr,
 * items, shots, bos, truncated (requests whose context lost tokens), chance, digest
 * (evaluate/reuse.h), and perplexity, perplexity_stderr where all items have one request
 *   /task_greedy/<name>/<variant>  u8 [items, requests]: 1 where each token of the continuation has
 *                                  the largest logit
 *   /task_items/<name>/            gold i32 [items]; characters, tokens i32 [items, requests] of
 * the continuations, −1 behind an item's last request
 */
#ifndef LODE_STAGES_EVALUATE_TASKS_H
#define LODE_STAGES_EVALUATE_TASKS_H

#include "evaluate/work.h"

/* Creates the datasets of task `index` of evaluate.tasks, and sets its work->parts and
 * work->scratch_parts. Errors: LODE_ERR_INPUT (a continuation longer than the model's positions),
 * LODE_ERR_MEMORY, LODE_ERR_IO. Collective. */
LODE_MUST_USE lode_status_t lode_evaluate_task_create(lode_evaluate_work_t *work, int64_t index);

/* Writes what they hold, once the stores are resumed. Errors: LODE_ERR_NUMERIC, LODE_ERR_MEMORY,
 * LODE_ERR_IO, LODE_STOPPED. Collective. */
LODE_MUST_USE lode_status_t lode_evaluate_task(lode_evaluate_work_t *work, int64_t index);

#endif
