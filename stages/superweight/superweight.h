/* stages/superweight: super weights, and what they are compared with.
 *
 * Source: The Super Weight in Large Language Models (arXiv:2411.07191); what is called one is in
 * score/spike.h. Reads tokenize.h5, accumulate.h5, classify.h5 and the checkpoint; writes
 * superweight.h5. No statistic of a corpus takes part in finding them: all prompts pass through the
 * model, the earliest super weight of any of them is set to 0, and they pass again, until there is
 * none or superweight.limit are found.
 *
 * For n super weights found, in the order in which they were:
 *
 * /weights
 * | layer, row, channel i32 [n]       | of Wdown [d, m], each from 0 | | value f64 [n] | Wdown[row,
 * channel]                                        | | iteration, prompt, token i32 [n]  | where its
 * spike was seen; token of the prompt, BOS counts  | | input, output, product f64 [n]    | u_tk,
 * Y_ti, u_tk·Wdown[i, k]                               | | ratio_input, ratio_output f64 [n] | the
 * first two as multiples of their scales                 | | loss_proxy_rank i32 [n]           | of
 * the channel in its layer, 0 is the largest              | | loss_proxy_share f64 [n]          |
 * of the channel in its layer's sum                          | | core, halo u8 [n] | whether the
 * channel is in them                             | | known u8 [n]                      | whether
 * superweight.known lists it                         | attributes: limit_reached (1 where there may
 * be more).
 *
 * /prompts: attribute texts (each on a line of its own, newlines and backslashes escaped with a
 * backslash), count; tokens i64 [prompts].
 *
 * /traces/<iteration>/<prompt>: each layer's spikes with the first <iteration> super weights set to
 * 0; 0 is the model as it is, n the last.
 * | input_max, output_max f64 [L]                 | of largest magnitude, with its sign | |
 * input_token, input_channel i32 [L]            | its place                                      |
 * | output_token, output_channel i32 [L]          | the same; the channel is a row of Wdown | |
 * input_scale, output_scale f64 [L]             | of layer and output_token: see score/spike.h   |
 * | product_channel i32 [L], product_share f64 [L]| of the output's largest single product |
 *
 * /others/tensor: in each linear matrix the ⌊superweight.others_fraction × its weights⌋ of largest
 * magnitude; /others/global: the superweight.others_count largest of all; super weights are left
 * out of both, and equal magnitudes go to the lower layer, matrix, row, column. Both in that order:
 * | layer, matrix, row, col i32 [k]   | matrix: 0 … 6 are q, k, v, o, gate, up, down | | value f64
 * [k]                     |                                                            | Of extent
 * 0 where superweight.experiments does not have them.
 *
 * /stopwords, where superweight.stopwords is given: for W words, the mean probability of each as
 * the next token over all positions of all texts of superweight.corpus. A word's probability is the
 * sum over its tokens: as it stands or capitalised, with or without a space before it.
 * | tokens i32 [W]                    | how many tokens it has; one without any has probability 0 |
 * | before, after, restored f64 [W]   | the model as it is; super weights 0; that, but with their |
 * |                                   | products put back (lode_restore_t) | attributes: words (one
 * on a line), texts, positions; before_all, after_all, restored_all (the sum over all tokens of all
 * words), missing (words without a token).
 *
 * /known, where superweight.known is given and lists a model of this name, k weights:
 * | layer, row, channel i32 [k]       | as published | | found u8 [k]                      | |
 * attributes: source (text), found, missed, others (found, but not listed).
 *
 * Everything is bit-identical for any number of ranks. The stage keeps nothing of an interrupted
 * run: a pass over a prompt is one reading of the weights, so that a model of 8 billion parameters
 * takes seconds for each super weight and one more.
 *
 * The default of superweight.ratio: over 24 prompts no layer of stories260k, babyllama105 and
 * books3m, which have no super weight, has an output spike above 20 times its scale, or one above 13
 * times that also has the input's largest at its token; input spikes reach 720. Super weights
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

/* Errors: LODE_ERR_NUMERIC where hidden states are not finite, LODE_ERR_FORMAT (superweight.known),
 * LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_stage_superweight(lode_run_t *run);

#endif
