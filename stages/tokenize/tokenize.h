/* stages/tokenize: texts to token ids.
 *
 * Reads the corpora and the model's tokenizer.json; writes tokenize.h5: /calibration/ids i32 [N],
 * /calibration/offsets i64 [S+1], /perplexity/<name>/ids i32 with /perplexity/<name>/offsets i64 of
 * its documents, one but for the protocol lm-eval, /tasks/<name>/… (tokenize/tasks.h), and
 * /probe/ids i32, /probe/offsets i64 where probe.corpus is given. Where there are
 * superweight.prompts, /superweight/ids i32 with /superweight/offsets i64, a sequence for each; and
 * where there are superweight.stopwords, /superweight/texts/ids and offsets, those that their
 * probabilities are measured on, and /superweight/stopwords/ids and offsets, the tokens of each
 * word (tokenize/superweight.h), with words u8, the list itself, one on a line. The group
 * /perplexity/<name> has the attributes bos (token id that stands before each document and is among
 * its ids, −1 for none), prefix (token id that lm-eval predicts a document from, which is not, −1
 * for other protocols), words and bytes (of its texts). Of a model that is trained also /train/ids
 * and /validation/ids i32, sequences of equal length one after the other (none where there is no
 * text to validate on), with the root attributes train_length, train_sequences and
 * validation_sequences; of one from scratch nothing else. Rank 0 reads the corpora and decides what
 * is needed; all ranks encode.
 */
#ifndef LODE_STAGES_TOKENIZE_H
#define LODE_STAGES_TOKENIZE_H

#include "common/run.h"

/* Errors: LODE_ERR_INPUT (no corpus, no usable text, no tokenizer.json), LODE_ERR_FORMAT,
 * LODE_ERR_UNSUPPORTED, LODE_ERR_IO. Collective. */
LODE_MUST_USE lode_status_t lode_stage_tokenize(lode_run_t *run);

#endif
