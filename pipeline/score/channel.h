/* score/channel: the pruning score of every channel of a layer. The highest are kept.
 *
 * | method             | score of channel j                                                  |
 * |--------------------|---------------------------------------------------------------------|
 * | scar-lp, lp        | LP_j                                                                |
 * | scar-prot          | LP_j · P_j                                                          |
 * | scar-conn          | LP_j · ((1 − Conn_j) + Conn_j · P_j)                                |
 * | wanda-channel      | Σ over its rows and its column of |W|·√(mean over sequences Σ_t x²) |
 * | magnitude          | Σ over its rows and its column of their L2 norms                    |
 * | magnitude-reversed | − the same                                                          |
 * | activation         | mean_t u_j²                                                         |
 * | taylor             | mean_t |u_j·g_j|                                                    |
 * | entropy            | −H_j of its column of Wdown, form absolute of score/entropy.h       |
 * | entropy-square     | −H_j, form square                                                   |
 * | entropy-softmax    | −H_j, form softmax                                                  |
 * | entropy-reversed   | H_j, form absolute                                                  |
 * | sparsegpt-channel  | Σ over its rows and its column of W²/[H⁻¹]_ii, H = second           |
 * |                    | moment of the projection's input + 1 % of its mean diagonal         |
 * | flap               | (mean_t u_j² − (mean_t u_j)²) · ‖down column‖₂²                     |
 * | random             | uniform in [0, 1) from seed, layer and channel                      |
 *
 * A channel's rows are those of gate and up, or of up alone in a block without a gate; its column
 * is that of down. Biases have no part in any score.
 *
 * The scar methods are those of Supernodes and Halos (arXiv:2604.23475), wanda-channel the channel
 * form of Wanda (arXiv:2306.11695) used there, sparsegpt-channel that of SparseGPT's criterion
 * (arXiv:2301.00774), flap the fluctuation metric of FLAP (arXiv:2312.11983), entropy follows The
 * Role of Outgoing Connection Heterogeneity in Feedforward Layers of LLMs (EMNLP 2025 main.1143) in
 * our normalisations, so that uniform writers go first; a column of zeros has the entropy of one,
 * ln d. Reversed, what entropy and magnitude keep goes first, equal scores still by index. What a
 * method protects is not part of its score: see score/mask.h. Everything here is Local.
 */
#ifndef LODE_SCORE_CHANNEL_H
#define LODE_SCORE_CHANNEL_H

#include <stdint.h>

#include "base/error.h"
#include "config/choices.h"
#include "model/tensor.h"

/* What a score is computed from, as bits of lode_score_needs(). */
enum {
    LODE_NEEDS_LOSS_PROXY = 1,
    LODE_NEEDS_ACTIVATION_POWER = 2,
    LODE_NEEDS_TAYLOR = 4,
    LODE_NEEDS_CONNECTIVITY = 8,
    LODE_NEEDS_PROTECTION = 16,
    LODE_NEEDS_INPUT_POWER = 32, /* input_power_mean and u_power_mean */
    LODE_NEEDS_DOWN = 64,
    LODE_NEEDS_GATE_UP = 128,
    LODE_NEEDS_ACTIVATION_MEAN = 256,
    LODE_NEEDS_INVERSE_MOMENTS = 512, /* inverse_input and inverse_u */
};

/* The inputs that `method` reads; all others may stay unset. */
unsigned lode_score_needs(lode_method_t method);

/* One layer's inputs, m channels and hidden size d; all arrays belong to the caller. */
typedef struct lode_score_inputs {
    int64_t m, d;
    const double *loss_proxy;       /* [m] */
    const double *activation_power; /* [m], mean over tokens of u² */
    const double *taylor;           /* [m], mean over tokens of |q| */
    const double *connectivity;     /* [m] */
    const double *protection;       /* [m] */
    const double *input_power_mean; /* [d], mean over sequences of Σ_t h² */
    const double *u_power_mean;     /* [m], mean over sequences of Σ_t u² */
    const double *activation_mean;  /* [m], mean over tokens of u */
    const double *inverse_input;    /* [d], diagonal of (E[h hᵀ] + damping)⁻¹ */
    const double *inverse_u;        /* [m], diagonal of (E[u uᵀ] + damping)⁻¹ */
    lode_tensor_t gate, up;         /* [m, d]; gate's data is NULL in a block without a gate */
    lode_tensor_t down;             /* [d, m] */
    int64_t seed, layer;            /* name the stream of `random` */
} lode_score_inputs_t;

/* Scores of one layer; every sum in float64, in index order.
 *   score [m] out
 * Errors: LODE_ERR_NUMERIC where an input or the score of a channel is not finite, LODE_ERR_SHAPE
 * for a tensor that does not fit m and d, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_score_channels(double *score, lode_method_t method,
                                                const lode_score_inputs_t *inputs);

#endif
