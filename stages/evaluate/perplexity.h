/* stages/evaluate/perplexity: perplexities of all variants, by the protocols of common/protocol. */
#ifndef LODE_STAGES_EVALUATE_PERPLEXITY_H
#define LODE_STAGES_EVALUATE_PERPLEXITY_H

#include "evaluate/work.h"

/* Creates the datasets of entry `index` of evaluate.perplexity, and sets work->parts[index].
 * Errors: LODE_ERR_MEMORY, LODE_ERR_IO. Collective. */
LODE_MUST_USE lode_status_t lode_evaluate_perplexity_create(lode_evaluate_work_t *work,
                                                            int64_t index);

/* Writes its /perplexity/<name>/<variant>, once the store is resumed. Errors: LODE_ERR_NUMERIC,
 * LODE_ERR_MEMORY, LODE_ERR_IO, LODE_STOPPED. Collective. */
LODE_MUST_USE lode_status_t lode_evaluate_perplexity(lode_evaluate_work_t *work, int64_t index);

#endif
