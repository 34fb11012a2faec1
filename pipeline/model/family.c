#include "model/family.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Limits under which no count of parameters or operations leaves 63 bits. */
enum {
    MAX_LAYERS = 1 << 12,
    MAX_WIDTH = 1 << 24,
    MAX_HEADS = 1 << 20,
    MAX_TOKENS = INT32_MAX, /* token ids and positions are 32-bit integers */
};

#define FIELD(name) offsetof(lode_architecture_t, name)

static const lode_family_size_t llama_sizes[] = {
    {"num_hidden_layers", FIELD(layers), MAX_LAYERS, 0},
    {"hidden_size", FIELD(hidden), MAX_WIDTH, 0},
    {"intermediate_size", FIELD(intermediate), MAX_WIDTH, 0},
    {"num_attention_heads", FIELD(heads), MAX_HEADS, 0},
    {"vocab_size", FIELD(vocab), MAX_TOKENS, 0},
    {"max_position_embeddings", FIELD(max_positions), MAX_TOKENS, 2048},
    {0},
};

static const lode_family_real_t llama_reals[] = {
    {"rms_norm_eps", FIELD(norm_eps), 1e-6},
    {0},
};

/* Options of Llama, and of relatives that are published as "llama" with changes. */
static const lode_family_option_t llama_options[] = {
    {"attention_bias", LODE_NEUTRAL_FALSE},
    {"mlp_bias", LODE_NEUTRAL_FALSE},
    {"quantization_config", LODE_NEUTRAL_EMPTY},
    {"sliding_window", 0},
    {"sliding_window_size", 0},
    {"use_sliding_window", LODE_NEUTRAL_FALSE},
    {"layer_types", LODE_NEUTRAL_EMPTY | LODE_NEUTRAL_FULL_ATTENTION},
    {"use_bidirectional_attention", LODE_NEUTRAL_FALSE},
    {"partial_rotary_factor", LODE_NEUTRAL_ONE},
    {"rope_interleaved", LODE_NEUTRAL_FALSE},
    {"no_rope_layers", LODE_NEUTRAL_EMPTY},
    {"alibi", LODE_NEUTRAL_FALSE},
    {"clip_qkv", 0},
    {"qk_norm", LODE_NEUTRAL_FALSE},
    {"use_qk_norm", LODE_NEUTRAL_FALSE},
    {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0},
    {"query_pre_attn_scalar", 0},
    {"attention_multiplier", 0},
    {"embedding_multiplier", LODE_NEUTRAL_ONE},
    {"residual_multiplier", LODE_NEUTRAL_ONE},
    {"logits_scaling", LODE_NEUTRAL_ONE},
    {"logit_scale", LODE_NEUTRAL_ONE},
    {"parallel_attn", LODE_NEUTRAL_FALSE},
    {"use_parallel_residual", LODE_NEUTRAL_FALSE},
    {"num_experts", LODE_NEUTRAL_ZERO | LODE_NEUTRAL_ONE},
    {"num_local_experts", LODE_NEUTRAL_ZERO | LODE_NEUTRAL_ONE},
    {"pruned_heads", LODE_NEUTRAL_EMPTY},
    {"is_encoder_decoder", LODE_NEUTRAL_FALSE},
    {0},
};

static const lode_family_t families[LODE_MODEL_TYPE_COUNT] = {
    [LODE_MODEL_LLAMA] =
        {
            .model_type = "llama",
            .sizes = llama_sizes,
            .reals = llama_reals,
            .options = llama_options,
            .activation_key = "hidden_act",
            .ffn_bias_key = "mlp_bias",
            .tied_key = "tie_word_embeddings",
            .tied_preset = false,
            .bos_preset = 1,
            .eos_preset = 2,
            .prefix = "model.",
            .tensors =
                {
                    [LODE_ROLE_INPUT_NORM] = {"layers.#.input_layernorm.weight",
                                              {LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_Q] = {"layers.#.self_attn.q_proj.weight",
                                     {LODE_EXTENT_QUERY, LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_K] = {"layers.#.self_attn.k_proj.weight",
                                     {LODE_EXTENT_KEY_VALUE, LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_V] = {"layers.#.self_attn.v_proj.weight",
                                     {LODE_EXTENT_KEY_VALUE, LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_O] = {"layers.#.self_attn.o_proj.weight",
                                     {LODE_EXTENT_HIDDEN, LODE_EXTENT_QUERY}},
                    [LODE_ROLE_POST_NORM] = {"layers.#.post_attention_layernorm.weight",
                                             {LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_GATE] = {"layers.#.mlp.gate_proj.weight",
                                        {LODE_EXTENT_INTERMEDIATE, LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_UP] = {"layers.#.mlp.up_proj.weight",
                                      {LODE_EXTENT_INTERMEDIATE, LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_DOWN] = {"layers.#.mlp.down_proj.weight",
                                        {LODE_EXTENT_HIDDEN, LODE_EXTENT_INTERMEDIATE}},
                    [LODE_ROLE_EMBEDDING] = {"embed_tokens.weight",
                                             {LODE_EXTENT_VOCAB, LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_FINAL_NORM] = {"norm.weight", {LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_HEAD] = {"lm_head.weight", {LODE_EXTENT_VOCAB, LODE_EXTENT_HIDDEN}},
                },
        },
};

const lode_family_t *lode_family(lode_model_type_t model_type) {
    LODE_ASSERT((unsigned)model_type < LODE_MODEL_TYPE_COUNT);
    return &families[model_type];
}

int64_t lode_family_extent(const lode_architecture_t *architecture, lode_extent_t extent) {
    switch (extent) {
    case LODE_EXTENT_NONE:
        return 0;
    case LODE_EXTENT_HIDDEN:
        return architecture->hidden;
    case LODE_EXTENT_INTERMEDIATE:
        return architecture->intermediate;
    case LODE_EXTENT_QUERY:
        return architecture->heads * architecture->head_dim;
    case LODE_EXTENT_KEY_VALUE:
        return architecture->kv_heads * architecture->head_dim;
    case LODE_EXTENT_VOCAB:
        return architecture->vocab;
    }
    return 0;
}

void lode_family_tensor_name(char *bytes, size_t capacity, const lode_family_t *family,
                             lode_role_t role, int64_t layer, bool prefixed) {
    const char *prefix = prefixed && role != LODE_ROLE_HEAD ? family->prefix : "";
    const char *name = family->tensors[role].name;
    const char *mark = strchr(name, '#');
    int length;
    if (mark)
        length = snprintf(bytes, capacity, "%s%.*s%" PRId64 "%s", prefix, (int)(mark - name), name,
                          layer, mark + 1);
    else
        length = snprintf(bytes, capacity, "%s%s", prefix, name);
    LODE_ASSERT(length >= 0 && (size_t)length < capacity);
}
