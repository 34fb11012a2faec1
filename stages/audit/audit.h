/* stages/audit: what other versions of the model have kept of what matters to it.
 *
 * A version is any folder of the same architecture: pruned, quantized and dequantized, trained on,
 * made by anybody. Reads tokenize.h5, accumulate.h5, classify.h5, evaluate.h5, superweight.h5 where
 * super weights were looked for, the checkpoint and the folders; writes audit.h5, for each folder
 * /folders/<name> with the attributes path, layers, channels (n, of a layer), known
 * ("index", "lodestone.json", "similarity": how its channels are known to be the original's;
 * audit/version.h) and, all by the original's channels, core and halo:
 *
 * kept i32 [L, n]               the original's channel that each channel is, −1 for padding
 * similarity f64 [L]            the least of the matched channels, NaN where none were matched
 * core_removed, core_zeroed, core_changed f64 [L]
 *                               shares of the core that the version lacks; that it has with an
 *                               all-zero gate row, up row or write vector; that it has with any
 *                               weight of another value (which the zeroed are among)
 * weight_error_{core,halo,rest,attention} f64 [L]
 *                               ‖Ŵ − W‖ / ‖W‖ over the set's gate rows, up rows and write vectors,
 *                               over q, k, v and o
 * zero_{core,halo,rest,attention} f64 [L]
 *                               share of weights that are 0; removed channels count as zeros
 * with audit.loss_proxy, measured in the version over the calibration sequences:
 * loss_proxy f64 [L, m]         NaN for channels that the version lacks
 * core_mass f64 [L]             share of it on the original's core
 * core_overlap f64 [L]          share of the original's core that is in the version's
 * proxy_correlation f64 [L]     Spearman's, with the original's, over the channels the version has
 * where super weights were looked for, those of the original, in the order of superweight.h5:
 * superweights/{layer,row,channel} i32, {value,original} f64, {survives,detected} u8 [weights
 * found] value in the version, 0 where the channel is gone; survives: it has the sign and at least
 * half of the magnitude; detected: the search of the version finds it, too and those that the same
 * search (superweight/search.h), with the same prompts, settings and limit, finds in the version,
 * in the order of finding; [superweight.limit], −1 or NaN behind the last:
 * detected/{layer,row,channel,original,prompt,token} i32, {value,input,output,ratio_input,
 * ratio_output} f64             as in superweight.h5 (superweight/superweight.h); channel: −1 for
 *                               padding; original: its place in superweights, −1 for a new one
 * detected/limit_reached u8 [1] 1 where there may be more
 * perplexity/<name> f64 [targets], tasks/<name> f64 [items, requests], task_greedy/<name>,
 * task_items/<name>/…           as evaluate.h5 has them for a variant, with their attributes
 *
 * and for the original /original/core_mass, /original/perplexity/<name>, with the same attributes.
 */
#ifndef LODE_STAGES_AUDIT_H
#define LODE_STAGES_AUDIT_H

#include "common/run.h"
#include "common/size.h"
#include "evaluate/size.h"

/* Refuses what lode check can tell: a folder of the experiment's audit.folders that is missing,
 * broken or not of the model's architecture; one that the experiment itself exports may be missing.
 *   point         of the sweep, "" without one
 *   model         name; architecture  of the model
 * Errors: those of lode_audit_version_create. Local. */
LODE_MUST_USE lode_status_t lode_audit_check(const lode_config_t *config, const char *point,
                                             const char *model,
                                             const lode_architecture_t *architecture);

/* What the stage takes for folders that have as many channels as the model, and for so many
 * calibration sequences; the file is counted as if superweight.limit were found in each, and what
 * the search for them takes in memory is that of superweight/search.h besides. Local. */
LODE_MUST_USE lode_status_t lode_audit_size(lode_stage_size_t *size, lode_run_t *run,
                                            const lode_evaluate_extents_t *extents,
                                            int64_t sequences);

/* Goes on with what an interrupted run has done, by layer, micro-batch and data set. Errors:
 * LODE_ERR_NUMERIC (weights or hidden states of a version that are not finite), LODE_ERR_SHAPE
 * (channels that match none), those of lode_audit_version_create, LODE_ERR_IO, LODE_ERR_MEMORY,
 * LODE_STOPPED. Collective. */
LODE_MUST_USE lode_status_t lode_stage_audit(lode_run_t *run);

#endif
