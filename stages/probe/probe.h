/* stages/probe: causal checks. Channels are taken out, and what that does to the loss is measured.
 *
 * Reads tokenize.h5, calibrate.h5, accumulate.h5, classify.h5 and the checkpoint; writes probe.h5,
 * one group for each of probe.checks. Source: Supernodes and Halos (arXiv:2604.23475). A check is a
 * list of n candidates, each the model with some channels' u set to 0 (or to their mean), over one
 * of three texts. Every figure is against the unchanged model over the same text.
 *
 * | text         | what it is                                                   | checks         |
 * |--------------|--------------------------------------------------------------|----------------|
 * | `perplexity` | windows of the evaluate.perplexity named by probe.perplexity | dose_response, |
 * |              |                                                              | random_cores,  |
 * |              |                                                              | score_core     |
 * | `ablation`   | the first probe.sequences of probe.corpus, or else of the    | ablation, mean |
 * |              | calibration, cut at probe.max_length                         | _replacement   |
 * | `halo`       | the first probe.halo_sequences of these, cut at              | halo_ablation  |
 * |              | probe.halo_max_length                                        |                |
 *
 * /texts/<text>, where a check uses it, S sequences (windows, for `perplexity`):
 * | targets   i64 [S] | scored next tokens of each sequence                                      |
 * | dense_nll f64 [S] | mean negative log-likelihood (NLL) of each, in nats, unchanged model     |
 * attributes: source (name of the perplexity, "corpus" or "calibration"), protocol (of the
 * perplexity; "texts" where every next token of every text is scored), length, sequences, targets,
 * nll (mean over all targets), perplexity, stderr (of the perplexity).
 *
 * Every check's group, n candidates:
 * | perplexity        f64 [n]    | exp of the mean NLL; of protocol lm-eval, word perplexity     |
 * | perplexity_stderr f64 [n]    | its standard error over targets, as llama.cpp prints it       |
 * | delta_nll         f64 [n]    | mean NLL over all targets, minus that of the unchanged model  |
 * | delta_nll_stderr  f64 [n]    | its standard error over sequences, paired; NaN for one        |
 * | sequence_nll      f64 [n, S] | mean NLL of each sequence                                     |
 * attribute texts: which of the texts. An integer that stands for a name has the attribute
 * <dataset>_names, the names of 0, 1, … separated by commas. −1 is "does not apply".
 *
 * /dose_response: random masks at probe.sparsity that remove a share of the core from every layer
 * | rate f64 [n], draw i32 [n]     | probe.rates × probe.draws                                   |
 * | core_removed i32 [n]           | core channels that are gone from every layer                |
 * | keep u8 [n, L, m]              | the masks; attributes sparsity, core_size, removed (both of |
 * |                                | every layer) on the group                                   |
 * /random_cores: LP ranking at probe.sparsity, protecting a core
 * | core i32 [n], draw i32 [n]     | core_names "lp,activation,none,random"; draw −1 unless it   |
 * |                                | is random                                                   |
 * | keep u8 [n, L, m]              | attributes sparsity, core_size, removed                     |
 * /score_core: what is ranked by against what is protected
 * | score i32 [n], core i32 [n]    | score_names "lp,activation"; core_names as above            |
 * | keep u8 [n, L, m]              | attributes sparsity, core_size, removed                     |
 * /ablation: one channel at a time, u_j = 0, in every layer_step-th layer
 * | layer, channel, bin i32 [n]    | bin of the quantiles of log LP, 0 the lowest                |
 * | loss_proxy, activation_power   | of the channel, f64 [n]                                     |
 * /ablation/spearman: for each of the p layers, over all its sampled channels, whatever their sign
 * | layer, channels i32 [p]        | channels: how many                                          |
 * | loss_proxy, activation_power, absolute_loss_proxy, absolute_activation_power f64 [p]         |
 * |                                | Spearman of ΔNLL, or of |ΔNLL|, with LP or activation power |
 * | <each of these>_interval f64 [p, 2] | 95 % bootstrap over channels, classify.controls.draws  |
 * /halo_ablation: sets of channels, u = 0, in every layer_step-th layer
 * | layer, kind, draw i32 [n]      | kind_names "halo,matched,core,core+halo,core+matched"; draw |
 * |                                | −1 unless matched                                           |
 * | channels i32 [n, width]        | what is taken out, −1 beyond; attribute core_size, count    |
 * |                                | (halo channels, and matched ones) on the group              |
 * /mean_replacement: the mean of u_j over the calibration in place of u_j, and 0 beside it
 * | layer, kind, draw, set, replacement i32 [n] | layer −1: all layers at once; kind_names       |
 * |                                | "lp,activation,random"; set: row of `sets`;                 |
 * |                                | replacement_names "zero,mean"                               |
 * | sets i32 [sets, L, k]          | channels of each set: LP core, activation core, random ones |
 *
 * All of it is bit-identical for any number of ranks. How channels are drawn: score/probe.h.
 */
#ifndef LODE_STAGES_PROBE_H
#define LODE_STAGES_PROBE_H

#include "common/run.h"

/* Whether a check is among probe.checks. Local. */
bool lode_probe_wants(const lode_config_t *config, lode_probe_check_t check);

/* The evaluate.perplexity that the checks of pruned models use: *entry is borrowed from the
 * experiment, NULL where no such check is asked for. Errors: LODE_ERR_CONFIG, naming
 * probe.perplexity, where there is none of the name, or none at all. Local. */
LODE_MUST_USE lode_status_t lode_probe_perplexity(const lode_config_perplexity_t **entry,
                                                  const lode_config_t *config);

/* The stage. Errors: LODE_ERR_CONFIG where a check cannot be made with these sizes (each names the
 * keys), LODE_ERR_NUMERIC, LODE_ERR_MEMORY, LODE_ERR_IO. Collective. */
LODE_MUST_USE lode_status_t lode_stage_probe(lode_run_t *run);

#endif
