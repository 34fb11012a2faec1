/* stages/quantize: the parameters of every quantized variant.
 *
 * Reads classify.h5 and accumulate.h5 (supernodes, LP), superweight.h5 and, of pruned bases,
 * prune.h5 and compensate.h5, where variants need them; tokenize.h5 where calibration decides
 * something. Weights are fitted as the base has them, compensated down projections included. Writes
 * quantize.h5, L layers, m channels, hidden size d; the seven matrices are q, k, v, o, gate, up,
 * down:
 *
 * /variants/<variant>/<layer>/<matrix>/{scale,minimum} f32 [blocks] of kernels/codec.h, for the
 *     matrices that quantize.tensors names; row_bits u8 [out] of gate and up and col_bits u8 [in]
 * of down, of the quantizer lp /variants/<variant>/z f64 [L, 7]      at how many standard
 * deviations weights are clipped; NaN: they are not /variants/<variant>/{stored,coded} i64 [L, 7]
 * bytes of a matrix as the base has it, in the checkpoint's dtype, and as it is quantized; equal
 * where it is not /variants/<variant>/protected i64 [L, 2]  supernode channels and single weights
 * left as they are in a layer /error/<variant> f64 [L, 7, candidates]  of variants with a searched
 * clip: ‖X·(Ŵ_z − W)ᵀ‖²_F over the first quantize.sequences calibration sequences, X the input of
 * the unquantized base; the candidates are /candidates f64, infinity for no clipping. The least
 * error is taken, the larger z of equal ones. Of a smoothed variant X is X/s and W is W·s
 * /smooth/<layer>/{attention,ffn} f32 [d]  SmoothQuant's s (arXiv:2211.10438) of the dense model's
 *     q, k, v and of gate, up; /smooth/<base>/<layer>/… of a pruned base. s_j = max(A_j^α /
 *     max(B_j, 1e-5)^(1−α), 1e-5), A_j = max |X_tj| over the same sequences, B_j = max |W_ij| over
 *     the matrices that read X; α is the attribute alpha of /smooth
 * of the quantizer lp (score/bits.h):
 * /variants/<variant>/channel_bits u8 [L, m]  0 where the base lacks the channel
 * /variants/<variant>/bits i64 [L, 8]   channels with 2, …, 8 and 16 bits
 * /variants/<variant>/core_high f64 [L] share of the base's supernodes that have 8 bits or more
 * /variants/<variant>/weighted_error f64 [2]  Σ LP·ε, and by how much at most it is above the least
 *
 * /sizes/<variant> i64 [L], of "dense" and of every variant of the experiment: bytes of each layer
 *     in a packed folder, and in the attribute bytes those of the whole model: quantized weights
 *     take bits/8 each, a block's scale and minimum 8, a channel that is left as stored its weights
 *     and 4, a single such weight 10, a row or column of mixed precision 1; all else is as in the
 *     checkpoint.
 *
 * Attributes of /variants/<variant>: base ("dense" or a pruned variant), method, bits, granularity,
 * clip, activations, protection, bytes (of the model), bits_per_weight (of the quantized matrices,
 * with all that is stored for them).
 */
#ifndef LODE_STAGES_QUANTIZE_H
#define LODE_STAGES_QUANTIZE_H

#include "common/run.h"
#include "common/size.h"

/* What the stage takes on a rank with `layers` layers, `text` being the calibration sequences
 * (offsets alone are read). A rank that idles has 0 layers. `memory` leaves out those of layers and
 * of the pass. Local. */
LODE_MUST_USE lode_status_t lode_quantize_size(lode_stage_size_t *size, lode_run_t *run,
                                               const lode_text_t *text, int64_t layers);

/* The pass over calibration sequences that an experiment's variants need: *sequences of them, 0
 * where they need none, *models unquantized models in one pass, *passes such passes. Errors:
 * LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_quantize_pass(const lode_config_t *config, int64_t *sequences,
                                               int64_t *models, int64_t *passes);

/* Errors: LODE_ERR_INPUT (a file of a stage before is missing or of other settings),
 * LODE_ERR_NUMERIC (a weight that is not finite, named), LODE_ERR_IO, LODE_ERR_MEMORY; LODE_STOPPED
 * between layers. Bit-identical for any number of ranks; an interrupted run goes on. Collective. */
LODE_MUST_USE lode_status_t lode_stage_quantize(lode_run_t *run);

#endif
