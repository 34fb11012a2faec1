/* stages/bench: how fast this machine computes a model, layer by layer and kernel by kernel.
 *
 * A few layers of the model get random weights in memory; a pass over them, the products of the
 * same shapes by BLAS alone, and each kernel are timed in turn, several times, and the medians are
 * what is reported. Several ranks measure at the same time, as they compute in a run.
 *
 * Operations counted are those executed: a multiply-add is two, and products with weights and
 * scores of attention count, of the latter those that causality leaves (4·H·a for each pair of
 * tokens forward, 10·H·a backward, where scores are computed again). Norms, rotations, activations
 * and statistics take time and count nothing. Recomputed activations are executed, so they count.
 *
 * The file that `lode bench --output` writes and `lode plan --machine` reads is one JSON object:
 *
 *   "lodestone"        version of the program
 *   "machine"          {"host", "processor", "cpus", "blas"}
 *   "model"            {"config", "model_type", "hidden", "intermediate", "vocab", "parameters"}
 *   "ranks", "threads", "tokens", "length", "dtype", "layers", "repetitions"
 *                      what was measured: tokens of a micro-batch in sequences of `length`
 *   "sgemm_gflops"     BLAS at the shapes of the layer's products, weighted by their operations
 *   "forward_gflops", "backward_gflops"
 *                      a layer forward; its backward alone, activations kept
 *   "both_gflops", "recomputed_gflops"
 *                      forward and backward with activations kept, and with them computed again
 *   "training_gflops"  forward and backward of a layer with the gradients of its weights
 *   "optimizer_gbs"    AdamW, 28 bytes a parameter
 *   "head_gflops", "head_backward_gflops"
 *                      final norm, head and loss; the same with the gradient
 *   "perplexity_gflops", "accumulate_gflops"
 *                      the whole model with its head, put together from the above: forward; forward
 *                      and backward, activations kept, with the channel sums
 *   "step_gflops"      the whole model trained: with the gradients of all weights, those of the
 *                      head at the rate of its other products, and AdamW once a micro-batch
 *   "shapes"           [{"name", "out", "in", "count", "sgemm_gflops", "forward_gflops",
 *                      "backward_gflops", "gradient_gflops"}], the linear layers, `count` of each
 *                      in a layer; gradient: of the weights
 *   "kernels"          [{"name", "seconds_per_token", "gflops" or "gbs", "share"}] of one layer;
 *                      share: of the layer's forward and backward, absent from "channel sums" and
 *                      "weight gradients", which come on top, and "weight conversion", which
 *                      linear layers include
 *   "passes"           [{"name", "seconds_per_token", "tokens_per_second", "gflops",
 *                      "share_of_sgemm", "flops_per_token"}], the same passes as above
 *   "non_gemm_share"   of a layer's forward and backward, all but linear layers
 *   "mean"             the top-level rates as means over ranks; all others are the slowest rank's
 *
 * Training keeps its weights in F32: its rates want --dtype F32, with any other they include the
 * conversion of weights. Rates are in 10⁹ a second and rank, seconds in seconds.
 */
#ifndef LODE_STAGES_BENCH_BENCH_H
#define LODE_STAGES_BENCH_BENCH_H

#include "comm/context.h"
#include "model/architecture.h"
#include "model/tensor.h"

typedef struct lode_bench_request {
    const char *model;         /* a config.json, or the folder that has one */
    int threads;               /* of a rank */
    int64_t tokens, length;    /* of a micro-batch; of its sequences, 0: min(tokens, positions) */
    int64_t layers;            /* measured, at most the model's; their weights exist apart */
    const lode_dtype_t *dtype; /* of the weights; NULL: what config.json says, else BF16 */
    const char *output;        /* JSON file, NULL: none */
} lode_bench_request_t;

/* Measures, prints a table on rank 0's standard output, and writes the file.
 * Errors: LODE_ERR_USAGE, LODE_ERR_INPUT, LODE_ERR_MEMORY, LODE_ERR_IO and what reading config.json
 * gives. Collective; a lone process needs no MPI. */
LODE_MUST_USE lode_status_t lode_bench(const lode_comm_t *comm,
                                       const lode_bench_request_t *request);

#endif
