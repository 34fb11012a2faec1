/* stages/evaluate: perplexity of the model and of every variant of it, and their answers to tasks.
 *
 * Reads tokenize.h5, the checkpoint, and what the variants are made from (common/edits.h); writes
 * evaluate.h5: /perplexity/<name>/<variant> f64 [targets], the negative log-likelihood of
 * every scored token in nats in text order, with the attributes value, stderr, protocol, length,
 * windows, targets, bos (token id before the text, −1 for none), of the protocol lm-eval also
 * words, bytes, and word_perplexity (the value), byte_perplexity, bits_per_byte, token_perplexity
 * with <each>_stderr (common/protocol.h), and digest (evaluate/reuse.h): losses that earlier
 * results of the experiment hold are copied from there. The unpruned model is the variant "dense".
 * Pruned variants run with physically smaller feed-forward blocks; quantized ones have the values
 * that a written folder of theirs holds.
 *
 * What tasks leave there is in evaluate/tasks.h.
 */
#ifndef LODE_STAGES_EVALUATE_H
#define LODE_STAGES_EVALUATE_H

#include "common/run.h"

/* Errors: LODE_ERR_NUMERIC, LODE_ERR_MEMORY, LODE_ERR_IO. Collective. */
LODE_MUST_USE lode_status_t lode_stage_evaluate(lode_run_t *run);

#endif
