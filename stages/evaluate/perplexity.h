/* stages/evaluate/perplexity: perplexities of all variants, by the protocols of common/protocol. */
#ifndef LODE_STAGES_EVALUATE_PERPLEXITY_H
#define LODE_STAGES_EVALUATE_PERPLEXITY_H

#include "evaluate/work.h"

/* Writes /perplexity/<name>/<variant> of every evaluate.perplexity. Errors: LODE_ERR_NUMERIC,
 * LODE_ERR_MEMORY, LODE_ERR_IO. Collective. */
LODE_MUST_USE lode_status_t lode_evaluate_perplexities(lode_evaluate_work_t *work);

#endif
