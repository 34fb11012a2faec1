/* stages/export: variants as Hugging Face folders.
 *
 * Reads the checkpoint, and prune.h5, compensate.h5, superweight.h5, quantize.h5 and classify.h5 as
 * far as the variants need them. For each entry of `export` it writes the folder
 * <path>[/<point of the sweep>][/<model>] (the parts in brackets where the experiment has a sweep,
 * or several models or a sweep): the weights in the source's own types, config.json with another
 * intermediate_size, the files beside the source's weights, and lodestone.json, which says what the
 * folder is and which channels it kept. A sliced layer keeps its channels in ascending order; a
 * padded one has zero rows and columns after them. An output bias becomes the down projection's,
 * beside zero biases of gate and up.
 *
 * A quantized folder's weights are dequantized, so that any loader reads them; they are the numbers
 * that evaluate computes with. Beside them lies quantization.safetensors, which has for each
 * quantized matrix the tensors of export/coding.h, called after the tensor of the weights, like
 * "model.layers.0.mlp.up_proj.weight.scale", and in fused ones after the part too, like
 * "model.layers.0.mlp.gate_up_proj.weight.up.scale". They are of the matrix [out, in] before it is
 * padded or transposed; which block a weight is in follows from the granularity in lodestone.json,
 * or is its row or column where these have bits of their own. Such a folder always has
 * model.safetensors.index.json, for loaders that would take every safetensors file for weights.
 * lodestone.json has "quantization": method, bits, granularity, clip, protection, dequantized
 * (true), parameters (the file), codes, bytes and bits_per_weight (of a packed folder, as
 * quantize.h5 has them). That of an experiment has "super_weight": experiment, changed_weights,
 * factor.
 *
 * What happens only while a model runs cannot be exported: quantized activations, and super
 * activations that are put back.
 *
 * A run that is interrupted leaves <folder>.partial with marks of the tensors that are on disk
 * (model/writer.h), and the next run goes on with it on any number of ranks.
 *
 * export.h5 records what was written: /exports/<i>/widths i64 [L], the channels kept, with the
 * attributes variant, path, layout, digest and intermediate_size of the group.
 */
#ifndef LODE_STAGES_EXPORT_H
#define LODE_STAGES_EXPORT_H

#include "common/run.h"

/* Makes sure, before anything is computed, that the experiment has every variant that it wants
 * exported, that no folder lies in another's, and that nothing of somebody else's is in the way of
 * those of one point of the sweep ("" without one) and of the model called `model`, NULL for all.
 * Errors: LODE_ERR_CONFIG, naming the key and the nearest variant; LODE_ERR_UNSUPPORTED (a variant
 * that no folder can hold, with one that it can); LODE_ERR_IO. Local. */
LODE_MUST_USE lode_status_t lode_export_check(const lode_config_t *config, const char *point,
                                              const char *model);

/* Whether all folders that a complete export.h5 of this run records are still there. Local. */
bool lode_export_present(const lode_run_t *run);

/* The stage; a folder that is there already, with the same contents, is left alone unless
 * run->force. Errors: LODE_ERR_CONFIG (no such variant, sliced where widths differ), LODE_ERR_IO (a
 * folder of somebody else's, no space), LODE_ERR_UNSUPPORTED (an output bias that the model's
 * family has no place for), LODE_ERR_NUMERIC (a weight beyond its type's range), LODE_STOPPED.
 * Collective. */
LODE_MUST_USE lode_status_t lode_stage_export(lode_run_t *run);

#endif
