/* The families, one entry each. Presets are those of transformers' configuration classes. */
#include "model/family.h"

/* Limits under which no count of parameters or operations leaves 63 bits. */
enum {
    MAX_LAYERS = LODE_ARCHITECTURE_MAX_LAYERS,
    MAX_WIDTH = 1 << 24,
    MAX_HEADS = 1 << 20,
    MAX_TOKENS = INT32_MAX, /* token ids and positions are 32-bit integers */
};

#define FIELD(name) offsetof(lode_architecture_t, name)

static const lode_family_option_t common_options[] = {
    {"attention_bias", LODE_NEUTRAL_FALSE},
    {"mlp_bias", LODE_NEUTRAL_FALSE},
    {"quantization_config", LODE_NEUTRAL_EMPTY},
    {"sliding_window", 0},
    {"use_sliding_window", LODE_NEUTRAL_FALSE},
    {"use_bidirectional_attention", LODE_NEUTRAL_FALSE},
    {"rope_interleaved", LODE_NEUTRAL_FALSE},
    {"no_rope_layers", LODE_NEUTRAL_EMPTY},
    {"alibi", LODE_NEUTRAL_FALSE},
    {"clip_qkv", 0},
    {"qk_norm", LODE_NEUTRAL_FALSE},
    {"use_qk_norm", LODE_NEUTRAL_FALSE},
    {"qk_layernorm", LODE_NEUTRAL_FALSE},
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
    {"add_cross_attention", LODE_NEUTRAL_FALSE},
    {"pruned_heads", LODE_NEUTRAL_EMPTY},
    {"is_encoder_decoder", LODE_NEUTRAL_FALSE},
    {0},
};

static const lode_family_option_t no_options[] = {{0}};

/* --- llama ---------------------------------------------------------------------------------- */

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
    {"rms_norm_eps", FIELD(norm_eps), 1e-6, false},
    {0},
};

static const lode_family_switch_t no_switches[] = {{0}};

static const lode_family_t families[LODE_MODEL_TYPE_COUNT] = {
    [LODE_MODEL_LLAMA] =
        {
            .model_type = "llama",
            .constant = {.gated = true,
                         .norm = LODE_NORM_RMS,
                         .attention_norm = true,
                         .ffn_norm = true,
                         .embedding_scale = 1},
            .sizes = llama_sizes,
            .reals = llama_reals,
            .switches = no_switches,
            .options = no_options,
            .heads_key = "num_attention_heads",
            .kv_heads_key = "num_key_value_heads",
            .head_dim_key = "head_dim",
            .activation_key = "hidden_act",
            .activation_preset = LODE_ACTIVATION_SILU,
            .ffn_bias_key = "mlp_bias",
            .rotary_kinds = 1u << LODE_ROTARY_DEFAULT,
            .tied_key = "tie_word_embeddings",
            .bos_preset = 1,
            .eos_preset = 2,
            .prefix = "model.",
            .tensors =
                {
                    [LODE_ROLE_ATTENTION_NORM] = {"layers.#.input_layernorm.weight",
                                                  {LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_Q] = {"layers.#.self_attn.q_proj.weight",
                                     {LODE_EXTENT_QUERY, LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_K] = {"layers.#.self_attn.k_proj.weight",
                                     {LODE_EXTENT_KEY_VALUE, LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_V] = {"layers.#.self_attn.v_proj.weight",
                                     {LODE_EXTENT_KEY_VALUE, LODE_EXTENT_HIDDEN}},
                    [LODE_ROLE_O] = {"layers.#.self_attn.o_proj.weight",
                                     {LODE_EXTENT_HIDDEN, LODE_EXTENT_QUERY}},
                    [LODE_ROLE_FFN_NORM] = {"layers.#.post_attention_layernorm.weight",
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

const lode_family_option_t *lode_family_common_options(void) {
    return common_options;
}
