/* stages/tokenizer: a tokenizer of one's own.
 *
 * A BPE tokenizer of train.tokenizer.vocabulary tokens is trained on train.corpus (text/bpe_train)
 * and written to run->tokenizer, where the stages that follow look for it. It depends on the text,
 * the vocabulary and, where there is a sample, on that and the seed; one rank trains it, so it does
 * not depend on the ranks.
 *
 * The stage's file says what it was trained on: root attributes `vocabulary` (tokens), `alphabet`
 * (of these, single characters), `merges`, `texts` (of the corpus), `lines`, `bytes` (that were
 * read), `words` (distinct ones among them) and the text `digest` (of tokenizer.json), and
 *
 *   /merges/count   i64 [merges]   how often the two tokens of each merge stood next to each other
 */
#ifndef LODE_STAGES_TOKENIZER_H
#define LODE_STAGES_TOKENIZER_H

#include "common/run.h"

/* Errors: LODE_ERR_CONFIG (a vocabulary that does not fit the model, other BOS or EOS ids in
 * config.json than the tokenizer's), those of lode_corpus_read and lode_bpe_train. Collective. */
LODE_MUST_USE lode_status_t lode_stage_tokenizer(lode_run_t *run);

/* Whether run->tokenizer is as the stage's file says it was written; says so where it is another
 * one. Local. */
bool lode_tokenizer_present(const lode_run_t *run);

#endif
