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

/* The value of "model_type"; the order is not stored anywhere. */
typedef enum lode_model_type {
    LODE_MODEL_LLAMA,
    LODE_MODEL_TYPE_COUNT,
} lode_model_type_t;

/* act in u = act(h·Wgateᵀ) ⊙ (h·Wupᵀ). */
typedef enum lode_activation {
    LODE_ACTIVATION_SILU,
} lode_activation_t;

typedef struct lode_architecture {
    lode_model_type_t model_type;
    lode_activation_t activation;
    int64_t layers;        /* L */
    int64_t hidden;        /* d */
    int64_t intermediate;  /* m */
    int64_t heads;         /* H, query heads */
    int64_t kv_heads;      /* G, divides H */
    int64_t head_dim;      /* a, even; H·a need not be d */
    int64_t vocab;         /* V */
    int64_t max_positions; /* longest sequence, tokens */
    double norm_eps;       /* under the root of RMSNorm */
    double rope_theta;     /* base of the rotary frequencies */
    bool tied;             /* the head is the embedding */
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

/* Parameters of one layer: 2·H·a·d + 2·G·a·d (attention) + 3·m·d (FFN) + 2·d (norms). Local. */
int64_t lode_architecture_layer_parameters(const lode_architecture_t *architecture);

/* Parameters of the embedding: V·d. Local. */
int64_t lode_architecture_embedding_parameters(const lode_architecture_t *architecture);

/* Parameters of the final norm (d) and of a head of its own (V·d, none where tied). Local. */
int64_t lode_architecture_head_parameters(const lode_architecture_t *architecture);

/* All parameters of the model, a tied embedding counted once. Local. */
int64_t lode_architecture_parameters(const lode_architecture_t *architecture);

/* Floating-point operations of one layer's forward pass for one token, averaged over a causal
 * sequence of `context` tokens: 2·(2·H·a·d + 2·G·a·d + 3·m·d) for the matrices and
 * 2·H·a·(context+1) for scores and values; a multiply-add counts as two, norms and activations are
 * left out. Full backward passes cost twice as much. Local. */
int64_t lode_architecture_layer_flops(const lode_architecture_t *architecture, int64_t context);

/* The same for the head and one token: 2·V·d. Local. */
int64_t lode_architecture_head_flops(const lode_architecture_t *architecture);

#endif
