/* stages/superweight: super weights, and what they are compared with.
 *
 * Source: The Super Weight in Large Language Models (arXiv:2411.07191); what is called one is in
 * score/spike.h. Reads tokenize.h5, accumulate.h5, classify.h5 and the checkpoint; writes
 * superweight.h5. No statistic of a corpus takes part in finding them: all prompts pass through the
 * model, the earliest super weight of any of them is set to 0, and they pass again, until there is
 * none or superweight.limit are found.
 *
 * For n super weights found, in the order in which they were, /weights:
 * | layer, row, channel i32 [n]  | of Wdown [d, m], each from 0                                |
 * | value f64 [n]                | Wdown[row, channel]                                         |
 * | iteration, prompt i32 [n]    | where its spike was seen                                    |
 * | token i32 [n]                | of the prompt; BOS counts                                   |
 * | input, output f64 [n]        | u_tk and Y_ti                                               |
 * | product f64 [n]              | u_tk·Wdown[i, k]                                            |
 * | ratio_input f64 [n]          | |input| as a multiple of its scale                          |
 * | ratio_output f64 [n]         | |output| likewise                                           |
 * | loss_proxy_rank i32 [n]      | of the channel in its layer, 0 is the largest               |
 * | loss_proxy_share f64 [n]     | of the channel in its layer's sum                           |
 * | core, halo u8 [n]            | whether the channel is in them                              |
 * | known u8 [n]                 | whether superweight.known lists it                          |
 *
 * The group has the attribute limit_reached, 1 where there may be more.
 *
 * /prompts: tokens i64 [prompts]; attributes count, and texts: each on a line of its own, with
 * newlines and backslashes escaped by a backslash.
 *
 * /traces/<iteration>/<prompt>: each layer's spikes with the first <iteration> super weights set to
 * 0; 0 is the model as it is, n the last.
 * | input_max f64 [L]            | u of largest magnitude, with its sign                       |
 * | input_token i32 [L]          | where                                                       |
 * | input_channel i32 [L]        | where                                                       |
 * | output_max f64 [L]           | Y of largest magnitude, with its sign                       |
 * | output_token i32 [L]         | where                                                       |
 * | output_channel i32 [L]       | where: a row of Wdown                                       |
 * | input_scale f64 [L]          | of u at output_token (score/spike.h)                        |
 * | output_scale f64 [L]         | of Y there                                                  |
 * | product_channel i32 [L]      | of the output's largest single product                      |
 * | product_share f64 [L]        | of it in output_max                                         |
 *
 * /others/tensor: in each linear matrix the ⌊superweight.others_fraction × its weights⌋ of largest
 * magnitude, but superweight.others_least at least; /others/global: the superweight.others_count
 * largest of all. Super weights are left out of both, and equal magnitudes go to the lower layer,
 * matrix, row, column. Both in that order, and of extent 0 where superweight.experiments does not
 * have them:
 * | layer, matrix i32 [k]        | matrix: 0 … 6 are q, k, v, o, gate, up, down                |
 * | row, col i32 [k]             |                                                             |
 * | value f64 [k]                |                                                             |
 *
 * /stopwords, where superweight.stopwords is given: for W words, the mean probability of each as
 * the next token over all positions of all texts of superweight.corpus. A word's probability is the
 * sum over its tokens: as it stands or capitalised, with or without a space before it.
 * | tokens i32 [W]               | how many tokens it has; a word of none has probability 0    |
 * | before f64 [W]               | the model as it is                                          |
 * | after f64 [W]                | with the super weights set to 0                             |
 * | restored f64 [W]             | and with their products put back (lode_layer_t.restore)     |
 *
 * The group has the attributes words (one on a line), texts, positions, missing (words without a
 * token), and before_all, after_all, restored_all: the sum over all tokens of all words.
 *
 * /known, where superweight.known is given and lists a model of this name, k weights:
 * | layer, row, channel i32 [k]  | as published                                                |
 * | found u8 [k]                 |                                                             |
 *
 * The group has the attributes source (text), found, missed, and others (found, but not listed).
 *
 * Everything is bit-identical for any number of ranks. The stage keeps nothing of an interrupted
 * run: a pass over a prompt is one reading of the weights, so that a model of 8 billion parameters
 * takes seconds for each super weight and one more.
 *
 * The default of superweight.ratio: over 24 prompts no layer of stories260k, babyllama105 and
 * books3m, which have no super weight, has an output spike above 20 times its scale, or one above
 * 13 times that also has the input's largest at its token; input spikes reach 720. Super weights
 * planted into them give thousands, and so do published ones, whose activations are thousands
 * beside a median below one. 100 lies well apart from both.
 */
#ifndef LODE_STAGES_SUPERWEIGHT_H
#define LODE_STAGES_SUPERWEIGHT_H

#include "common/run.h"
#include "common/size.h"

/* What the stage takes for so many prompts, with `longest` tokens in the longest micro-batch of
 * prompts and of texts, and for `words` stopwords and `texts` texts, 0 of which where there are
 * none. The file is counted as if superweight.limit were found. Local. */
LODE_MUST_USE lode_status_t lode_superweight_size(lode_stage_size_t *size, lode_run_t *run,
                                                  int64_t prompts, int64_t longest, int64_t words,
                                                  int64_t texts);

/* Refuses a list superweight.known that cannot be read or is none; the stage would, after all that
 * comes before it. Errors: LODE_ERR_INPUT, LODE_ERR_FORMAT. Local. */
LODE_MUST_USE lode_status_t lode_superweight_known_check(const lode_config_t *config);

/* Errors: LODE_ERR_NUMERIC where hidden states are not finite, LODE_ERR_FORMAT (superweight.known),
 * LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_stage_superweight(lode_run_t *run);

#endif
