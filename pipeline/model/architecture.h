/* model/architecture: what a Hugging Face config.json says, as plain numbers.
 *
 * Notation of the shapes: L layers, d hidden, m intermediate channels, H query heads, G key/value
 * heads, a elements a head, V tokens in the vocabulary. Which keys a model type reads, what they
 * default to, and which of its options this version refuses, are in its entry of model/family.
 */
#ifndef LODE_MODEL_ARCHITECTURE_H
#define LODE_MODEL_ARCHITECTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/rotary.h"

/* The value of "model_type"; the order is not stored anywhere. */
typedef enum lode_model_type {
    LODE_MODEL_LLAMA,
    LODE_MODEL_MISTRAL,
    LODE_MODEL_QWEN2,
    LODE_MODEL_QWEN3,
    LODE_MODEL_OLMO,
    LODE_MODEL_OLMO2,
    LODE_MODEL_GEMMA2,
    LODE_MODEL_PHI3,
    LODE_MODEL_GPT2,
    LODE_MODEL_TYPE_COUNT,
} lode_model_type_t;

/* act in u = act(h·Wgateᵀ) ⊙ (h·Wupᵀ), or in u = act(h·Wupᵀ) of a model without a gate. */
typedef enum lode_activation {
    LODE_ACTIVATION_SILU,      /* x·σ(x) */
    LODE_ACTIVATION_GELU_TANH, /* x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))) */
    LODE_ACTIVATION_GELU,      /* x/2·(1 + erf(x/√2)) */
    LODE_ACTIVATION_RELU,
    LODE_ACTIVATIONS,
} lode_activation_t;

typedef enum lode_norm_kind {
    LODE_NORM_NONE,  /* y = x */
    LODE_NORM_RMS,   /* x / √(mean x² + ε) */
    LODE_NORM_LAYER, /* (x − mean x) / √(var x + ε) */
} lode_norm_kind_t;

/* Norms of queries and keys, before they are turned. */
typedef enum lode_qk_norm {
    LODE_QK_NORM_NONE,
    LODE_QK_NORM_WHOLE, /* over all heads of a token at once: weights [H·a], [G·a] */
    LODE_QK_NORM_HEAD,  /* over each head: weights [a] */
} lode_qk_norm_t;

enum { LODE_ARCHITECTURE_MAX_LAYERS = 1 << 12 };

/* One layer, with n… for a norm where it is applied and the identity otherwise:
 *   q, k, v = clip(n(x)·Wᵀ + b); q, k = turn(nqk(q)), turn(nqk(k))
 *   x = x + npost(attention(q, k, v)·Woᵀ + b)
 *   x = x + npost(u·Wdownᵀ + b), u = act(n(x)·Wgateᵀ + b) ⊙ (n(x)·Wupᵀ + b) */
typedef struct lode_architecture {
    lode_model_type_t model_type;
    lode_activation_t activation;
    bool gated;            /* false: u = act(n(x)·Wupᵀ + b), there is no gate */
    int64_t layers;        /* L */
    int64_t hidden;        /* d */
    int64_t intermediate;  /* m */
    int64_t heads;         /* H, query heads */
    int64_t kv_heads;      /* G, divides H */
    int64_t head_dim;      /* a, even where positions are rotary; H·a need not be d */
    int64_t vocab;         /* V */
    int64_t max_positions; /* longest sequence, tokens */

    lode_norm_kind_t norm; /* of the layers' norms and of the final one */
    bool norm_offset;      /* the factor is 1 + w */
    double norm_eps;       /* under the root */
    bool attention_norm, attention_post_norm, ffn_norm, ffn_post_norm; /* which are applied; they
                              may lack weights: lode_tensor_t.data NULL means 1 and 0 */
    lode_qk_norm_t qk_norm; /* RMS with norm_eps, never with an offset */

    bool attention_bias; /* of q, k and v */
    bool output_bias;    /* of o */
    bool ffn_bias;       /* of gate, up and down */

    double clip_qkv;        /* |q|, |k|, |v| are cut at this; 0: never */
    double attention_scale; /* of q·k; 1/√a in most models */
    double attention_cap;   /* c in c·tanh(score / c); 0: none */
    double logit_cap;       /* the same for logits */
    double embedding_scale; /* factor of the embedding's rows, not of the head's */
    int64_t window;         /* a token attends to itself and window − 1 before it; 0: to all */
    uint8_t window_layers[LODE_ARCHITECTURE_MAX_LAYERS / 8]; /* in which layers: bit l%8 of l/8 */
    bool learned_positions; /* rows [max_positions, d] are added to the embedding */
    lode_rotary_t rotary;

    bool tied;        /* the head is the embedding */
    int32_t bos, eos; /* token ids in [0,V), −1 if none; the first one where there are several */
} lode_architecture_t;

/* "llama" …, as config.json spells it. Local. */
const char *lode_model_type_name(lode_model_type_t model_type);

/* Reads `size` bytes of a config.json into *out; `name` stands for the file in messages. *out is
 * zeroed on failure. Errors: LODE_ERR_FORMAT (not JSON, a key missing, of the wrong type, out of
 * range or contradicting another), LODE_ERR_UNSUPPORTED (a model type or an option that would
 * change results and is not implemented), LODE_ERR_MEMORY; every message names file and key. Local.
 */
LODE_MUST_USE lode_status_t lode_architecture_parse(lode_architecture_t *out, const char *json,
                                                    size_t size, const char *name);

/* The same from `folder`/config.json; LODE_ERR_INPUT where there is none. Local. */
LODE_MUST_USE lode_status_t lode_architecture_read(lode_architecture_t *out, const char *folder);

/* The attention window of `layer` in [0,L), 0 where it attends to everything before. Local. */
int64_t lode_architecture_window(const lode_architecture_t *architecture, int64_t layer);

/* Parameters of one layer: matrices, biases and norm weights, as the family has them. Local. */
int64_t lode_architecture_layer_parameters(const lode_architecture_t *architecture);

/* Parameters of the embedding, V·d, and of learned positions. Local. */
int64_t lode_architecture_embedding_parameters(const lode_architecture_t *architecture);

/* Parameters of the final norm and of a head of its own (V·d, none where tied). Local. */
int64_t lode_architecture_head_parameters(const lode_architecture_t *architecture);

/* All parameters of the model, a tied embedding counted once. Local. */
int64_t lode_architecture_parameters(const lode_architecture_t *architecture);

/* Floating-point operations of the forward pass of `layer` in [0,L) for one token, averaged over a
 * causal sequence of `context` tokens: 2·(2·H·a·d + 2·G·a·d + 3·m·d) for the matrices (2·m·d less
 * without a gate), and 4·H·a for each position attended to; a multiply-add counts as two, biases,
 * norms and activations are left out. Full backward passes cost twice as much. Local. */
int64_t lode_architecture_layer_flops(const lode_architecture_t *architecture, int64_t layer,
                                      int64_t context);

/* The same for the head and one token: 2·V·d. Local. */
int64_t lode_architecture_head_flops(const lode_architecture_t *architecture);

#endif
