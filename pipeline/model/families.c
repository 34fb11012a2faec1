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
    {"is_causal", LODE_NEUTRAL_TRUE},
    {"per_layer_config", LODE_NEUTRAL_EMPTY},
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

/* --- what several families share ------------------------------------------------------------- */

/* Extents, short enough for tables. */
#define D LODE_EXTENT_HIDDEN
#define M LODE_EXTENT_INTERMEDIATE
#define QUERY LODE_EXTENT_QUERY
#define KEY_VALUE LODE_EXTENT_KEY_VALUE
#define HEAD LODE_EXTENT_HEAD
#define V LODE_EXTENT_VOCAB
#define P LODE_EXTENT_POSITIONS

enum {
    DEFAULT_ROTARY = 1u << LODE_ROTARY_DEFAULT,
    LONGROPE_ROTARY = 1u << LODE_ROTARY_LONGROPE,
    ALL_ROTARY = DEFAULT_ROTARY | LONGROPE_ROTARY | 1u << LODE_ROTARY_LINEAR |
                 1u << LODE_ROTARY_DYNAMIC | 1u << LODE_ROTARY_LLAMA3 | 1u << LODE_ROTARY_YARN,
};

/* What all but GPT-2 have from Llama; and those that also have its activation and positions. */
#define LLAMA_KEYS                                                                                 \
    .heads_key = "num_attention_heads", .kv_heads_key = "num_key_value_heads",                     \
    .head_dim_key = "head_dim", .tied_key = "tie_word_embeddings", .prefix = "model."
#define SILU .activation_key = "hidden_act", .activation_preset = LODE_ACTIVATION_SILU
#define LLAMA_LIKE LLAMA_KEYS, SILU, .rotary_kinds = ALL_ROTARY

/* Constants: blocks of Llama, and their norms. */
#define GATED_RMS .gated = true, .norm = LODE_NORM_RMS
#define NORMS_BEFORE .attention_norm = true, .ffn_norm = true
#define NORMS_BEHIND .attention_post_norm = true, .ffn_post_norm = true

/* Sizes under the names that all but GPT-2 use. */
#define COMMON_SIZES(positions)                                                                    \
    {"num_hidden_layers", FIELD(layers), MAX_LAYERS, 0},                                           \
        {"hidden_size", FIELD(hidden), MAX_WIDTH, 0},                                              \
        {"intermediate_size", FIELD(intermediate), MAX_WIDTH, 0},                                  \
        {"num_attention_heads", FIELD(heads), MAX_HEADS, 0},                                       \
        {"vocab_size", FIELD(vocab), MAX_TOKENS, 0},                                               \
        {"max_position_embeddings", FIELD(max_positions), MAX_TOKENS, positions}, {                \
        0                                                                                          \
    }

/* Where weights are; the extents of a matrix are [out, in], however it is stored. */
#define MATRIX(tensor, out, in)                                                                    \
    {                                                                                              \
        .name = tensor, .shape = { out, in }                                                       \
    }
#define TRANSPOSED(tensor, out, in)                                                                \
    { .name = tensor, .shape = {out, in}, .transposed = true }
#define VECTOR(tensor, extent)                                                                     \
    {                                                                                              \
        .name = tensor, .shape = { extent }                                                        \
    }
#define VECTOR_IF(tensor, extent, field)                                                           \
    { .name = tensor, .shape = {extent}, .only_if = FIELD(field) }

/* Weights under the names of Llama. */
#define EMBEDDING_AND_HEAD                                                                         \
    [LODE_ROLE_EMBEDDING] = MATRIX("embed_tokens.weight", V, D), [LODE_ROLE_HEAD] = MATRIX(        \
                                                                     "lm_head.weight", V, D)
#define ATTENTION_MATRICES                                                                         \
    [LODE_ROLE_Q] = MATRIX("layers.#.self_attn.q_proj.weight", QUERY, D),                          \
    [LODE_ROLE_K] = MATRIX("layers.#.self_attn.k_proj.weight", KEY_VALUE, D),                      \
    [LODE_ROLE_V] = MATRIX("layers.#.self_attn.v_proj.weight", KEY_VALUE, D),                      \
    [LODE_ROLE_O] = MATRIX("layers.#.self_attn.o_proj.weight", D, QUERY)
#define ATTENTION_BIASES                                                                           \
    [LODE_ROLE_Q_BIAS] = VECTOR_IF("layers.#.self_attn.q_proj.bias", QUERY, attention_bias),       \
    [LODE_ROLE_K_BIAS] = VECTOR_IF("layers.#.self_attn.k_proj.bias", KEY_VALUE, attention_bias),   \
    [LODE_ROLE_V_BIAS] = VECTOR_IF("layers.#.self_attn.v_proj.bias", KEY_VALUE, attention_bias),   \
    [LODE_ROLE_O_BIAS] = VECTOR_IF("layers.#.self_attn.o_proj.bias", D, output_bias)
#define FFN_MATRICES                                                                               \
    [LODE_ROLE_GATE] = MATRIX("layers.#.mlp.gate_proj.weight", M, D),                              \
    [LODE_ROLE_UP] = MATRIX("layers.#.mlp.up_proj.weight", M, D),                                  \
    [LODE_ROLE_DOWN] = MATRIX("layers.#.mlp.down_proj.weight", D, M)
/* Biases are there where a constant or a switch of the family says so. */
#define LLAMA_MATRICES ATTENTION_MATRICES, ATTENTION_BIASES, FFN_MATRICES, EMBEDDING_AND_HEAD
#define PRE_NORMS                                                                                  \
    [LODE_ROLE_ATTENTION_NORM] = VECTOR("layers.#.input_layernorm.weight", D),                     \
    [LODE_ROLE_FFN_NORM] = VECTOR("layers.#.post_attention_layernorm.weight", D),                  \
    [LODE_ROLE_FINAL_NORM] = VECTOR("norm.weight", D)

static const lode_family_switch_t attention_switches[] = {
    {"attention_bias", FIELD(attention_bias), false},
    {"attention_bias", FIELD(output_bias), false},
    {0},
};
static const lode_family_real_t rms_1e6[] = {{"rms_norm_eps", FIELD(norm_eps), 1e-6, false}, {0}};
static const lode_family_real_t rms_1e5[] = {{"rms_norm_eps", FIELD(norm_eps), 1e-5, false}, {0}};
static const lode_family_size_t sizes_2048[] = {COMMON_SIZES(2048)};
static const lode_family_size_t sizes_4096[] = {COMMON_SIZES(4096)};
static const lode_family_size_t sizes_8192[] = {COMMON_SIZES(8192)};
static const lode_family_size_t sizes_32768[] = {COMMON_SIZES(32768)};
static const lode_family_size_t sizes_131072[] = {COMMON_SIZES(131072)};

/* --- options of single families --------------------------------------------------------------- */

static const lode_family_switch_t llama_switches[] = {
    {"attention_bias", FIELD(attention_bias), false},
    {"attention_bias", FIELD(output_bias), false},
    {"mlp_bias", FIELD(ffn_bias), false},
    {0},
};

/* Queries, keys and values have biases whatever a config says. */
static const lode_family_option_t qwen2_options[] = {
    {"attention_bias", LODE_NEUTRAL_FALSE | LODE_NEUTRAL_TRUE},
    {0},
};

static const lode_family_real_t olmo_reals[] = {
    {"clip_qkv", FIELD(clip_qkv), 0, true},
    {0},
};

static const lode_family_real_t gemma2_reals[] = {
    {"rms_norm_eps", FIELD(norm_eps), 1e-6, false},
    {"attn_logit_softcapping", FIELD(attention_cap), 50, true},
    {"final_logit_softcapping", FIELD(logit_cap), 30, true},
    {0},
};

static const lode_family_size_t gpt2_sizes[] = {
    {"n_layer", FIELD(layers), MAX_LAYERS, 0},
    {"n_embd", FIELD(hidden), MAX_WIDTH / 4, 0},
    {"n_inner", FIELD(intermediate), MAX_WIDTH, 0},
    {"n_head", FIELD(heads), MAX_HEADS, 0},
    {"vocab_size", FIELD(vocab), MAX_TOKENS, 0},
    {"n_positions", FIELD(max_positions), MAX_TOKENS, 1024},
    {0},
};

static const lode_family_real_t gpt2_reals[] = {
    {"layer_norm_epsilon", FIELD(norm_eps), 1e-5, false},
    {0},
};

static const lode_family_option_t gpt2_options[] = {
    {"scale_attn_weights", LODE_NEUTRAL_TRUE},
    {"scale_attn_by_inverse_layer_idx", LODE_NEUTRAL_FALSE},
    {0},
};

static const lode_family_alias_t gpt2_aliases[] = {
    {"num_hidden_layers", "n_layer"},
    {"hidden_size", "n_embd"},
    {"num_attention_heads", "n_head"},
    {"max_position_embeddings", "n_positions"},
    {0},
};

/* --- the families --------------------------------------------------------------------------- */

static const lode_family_t families[LODE_MODEL_TYPE_COUNT] = {
    [LODE_MODEL_LLAMA] =
        {
            .model_type = "llama",
            LLAMA_LIKE,
            .constant = {GATED_RMS, NORMS_BEFORE},
            .sizes = sizes_2048,
            .reals = rms_1e6,
            .switches = llama_switches,
            .ffn_bias_key = "mlp_bias",
            .bos_preset = 1,
            .eos_preset = 2,
            .tensors =
                {
                    PRE_NORMS,
                    LLAMA_MATRICES,
                    [LODE_ROLE_GATE_BIAS] = VECTOR_IF("layers.#.mlp.gate_proj.bias", M, ffn_bias),
                    [LODE_ROLE_UP_BIAS] = VECTOR_IF("layers.#.mlp.up_proj.bias", M, ffn_bias),
                    [LODE_ROLE_DOWN_BIAS] = VECTOR_IF("layers.#.mlp.down_proj.bias", D, ffn_bias),
                },
        },
    [LODE_MODEL_MISTRAL] =
        {
            .model_type = "mistral",
            LLAMA_LIKE,
            .constant = {GATED_RMS, NORMS_BEFORE},
            .sizes = sizes_131072,
            .reals = rms_1e6,
            .kv_heads_preset = 8,
            .window = LODE_FAMILY_WINDOW_ALL,
            .window_preset = 4096,
            .bos_preset = 1,
            .eos_preset = 2,
            .tensors = {PRE_NORMS, LLAMA_MATRICES},
        },
    [LODE_MODEL_QWEN2] =
        {
            .model_type = "qwen2",
            LLAMA_LIKE,
            .constant = {GATED_RMS, NORMS_BEFORE, .attention_bias = true},
            .sizes = sizes_32768,
            .reals = rms_1e6,
            .options = qwen2_options,
            .kv_heads_preset = 32,
            .window = LODE_FAMILY_WINDOW_UPPER,
            .window_preset = 4096,
            .bos_preset = -1,
            .eos_preset = -1,
            .tensors = {PRE_NORMS, LLAMA_MATRICES},
        },
    [LODE_MODEL_QWEN3] =
        {
            .model_type = "qwen3",
            LLAMA_LIKE,
            .constant = {GATED_RMS, NORMS_BEFORE, .qk_norm = LODE_QK_NORM_HEAD},
            .sizes = sizes_32768,
            .reals = rms_1e6,
            .switches = attention_switches,
            .kv_heads_preset = 32,
            .head_dim_preset = 128,
            .window = LODE_FAMILY_WINDOW_UPPER,
            .window_preset = 4096,
            .bos_preset = -1,
            .eos_preset = -1,
            .tensors =
                {
                    PRE_NORMS,
                    LLAMA_MATRICES,
                    [LODE_ROLE_Q_NORM] = VECTOR("layers.#.self_attn.q_norm.weight", HEAD),
                    [LODE_ROLE_K_NORM] = VECTOR("layers.#.self_attn.k_norm.weight", HEAD),
                },
        },
    [LODE_MODEL_OLMO] =
        {
            .model_type = "olmo",
            LLAMA_LIKE,
            .constant = {.gated = true, .norm = LODE_NORM_LAYER, .norm_eps = 1e-5, NORMS_BEFORE},
            .sizes = sizes_2048,
            .reals = olmo_reals,
            .switches = attention_switches,
            .bos_preset = -1,
            .eos_preset = 50279,
            .tensors = {LLAMA_MATRICES},
        },
    [LODE_MODEL_OLMO2] =
        {
            .model_type = "olmo2",
            LLAMA_LIKE,
            .constant = {GATED_RMS, NORMS_BEHIND, .qk_norm = LODE_QK_NORM_WHOLE},
            .sizes = sizes_2048,
            .reals = rms_1e5,
            .switches = attention_switches,
            .bos_preset = -1,
            .eos_preset = 50279,
            .tensors =
                {
                    LLAMA_MATRICES,
                    [LODE_ROLE_Q_NORM] = VECTOR("layers.#.self_attn.q_norm.weight", QUERY),
                    [LODE_ROLE_K_NORM] = VECTOR("layers.#.self_attn.k_norm.weight", KEY_VALUE),
                    [LODE_ROLE_ATTENTION_POST_NORM] =
                        VECTOR("layers.#.post_attention_layernorm.weight", D),
                    [LODE_ROLE_FFN_POST_NORM] =
                        VECTOR("layers.#.post_feedforward_layernorm.weight", D),
                    [LODE_ROLE_FINAL_NORM] = VECTOR("norm.weight", D),
                },
        },
    [LODE_MODEL_GEMMA2] =
        {
            .model_type = "gemma2",
            LLAMA_KEYS,
            .constant = {GATED_RMS, .norm_offset = true, NORMS_BEFORE, NORMS_BEHIND},
            .sizes = sizes_8192,
            .reals = gemma2_reals,
            .switches = attention_switches,
            .kv_heads_preset = 4,
            .head_dim_preset = 256,
            .activation_key = "hidden_activation",
            .activation_preset = LODE_ACTIVATION_GELU_TANH,
            .attention_scalar_key = "query_pre_attn_scalar",
            .attention_scalar_preset = 256,
            .scale_embedding = true,
            .window = LODE_FAMILY_WINDOW_ALTERNATE,
            .window_preset = 4096,
            .rotary_kinds = ALL_ROTARY,
            .tied_preset = true,
            .bos_preset = 2,
            .eos_preset = 1,
            .tensors =
                {
                    LLAMA_MATRICES,
                    [LODE_ROLE_ATTENTION_NORM] = VECTOR("layers.#.input_layernorm.weight", D),
                    [LODE_ROLE_ATTENTION_POST_NORM] =
                        VECTOR("layers.#.post_attention_layernorm.weight", D),
                    [LODE_ROLE_FFN_NORM] = VECTOR("layers.#.pre_feedforward_layernorm.weight", D),
                    [LODE_ROLE_FFN_POST_NORM] =
                        VECTOR("layers.#.post_feedforward_layernorm.weight", D),
                    [LODE_ROLE_FINAL_NORM] = VECTOR("norm.weight", D),
                },
        },
    [LODE_MODEL_PHI3] =
        {
            .model_type = "phi3",
            LLAMA_KEYS,
            SILU,
            .constant = {GATED_RMS, NORMS_BEFORE},
            .sizes = sizes_4096,
            .reals = rms_1e5,
            .window = LODE_FAMILY_WINDOW_ALL,
            .partial_rotary = true,
            .rotary_kinds = DEFAULT_ROTARY | LONGROPE_ROTARY,
            .original_preset = 4096,
            .bos_preset = 1,
            .eos_preset = 32000,
            .tensors =
                {
                    PRE_NORMS,
                    EMBEDDING_AND_HEAD,
                    [LODE_ROLE_Q] = MATRIX("layers.#.self_attn.qkv_proj.weight", QUERY, D),
                    [LODE_ROLE_K] = MATRIX("layers.#.self_attn.qkv_proj.weight", KEY_VALUE, D),
                    [LODE_ROLE_V] = MATRIX("layers.#.self_attn.qkv_proj.weight", KEY_VALUE, D),
                    [LODE_ROLE_O] = MATRIX("layers.#.self_attn.o_proj.weight", D, QUERY),
                    [LODE_ROLE_GATE] = MATRIX("layers.#.mlp.gate_up_proj.weight", M, D),
                    [LODE_ROLE_UP] = MATRIX("layers.#.mlp.gate_up_proj.weight", M, D),
                    [LODE_ROLE_DOWN] = MATRIX("layers.#.mlp.down_proj.weight", D, M),
                },
        },
    [LODE_MODEL_GPT2] =
        {
            .model_type = "gpt2",
            .constant = {.norm = LODE_NORM_LAYER,
                         NORMS_BEFORE,
                         .attention_bias = true,
                         .output_bias = true,
                         .ffn_bias = true,
                         .learned_positions = true},
            .sizes = gpt2_sizes,
            .reals = gpt2_reals,
            .options = gpt2_options,
            .aliases = gpt2_aliases,
            .heads_key = "n_head",
            .ffn_multiple = 4,
            .activation_key = "activation_function",
            .activation_preset = LODE_ACTIVATION_GELU_TANH,
            .tied_key = "tie_word_embeddings",
            .tied_preset = true,
            .bos_preset = 50256,
            .eos_preset = 50256,
            .prefix = "transformer.",
            .tensors =
                {
                    [LODE_ROLE_ATTENTION_NORM] = VECTOR("h.#.ln_1.weight", D),
                    [LODE_ROLE_ATTENTION_NORM_BIAS] = VECTOR("h.#.ln_1.bias", D),
                    [LODE_ROLE_Q] = TRANSPOSED("h.#.attn.c_attn.weight", QUERY, D),
                    [LODE_ROLE_K] = TRANSPOSED("h.#.attn.c_attn.weight", KEY_VALUE, D),
                    [LODE_ROLE_V] = TRANSPOSED("h.#.attn.c_attn.weight", KEY_VALUE, D),
                    [LODE_ROLE_O] = TRANSPOSED("h.#.attn.c_proj.weight", D, QUERY),
                    [LODE_ROLE_Q_BIAS] = VECTOR("h.#.attn.c_attn.bias", QUERY),
                    [LODE_ROLE_K_BIAS] = VECTOR("h.#.attn.c_attn.bias", KEY_VALUE),
                    [LODE_ROLE_V_BIAS] = VECTOR("h.#.attn.c_attn.bias", KEY_VALUE),
                    [LODE_ROLE_O_BIAS] = VECTOR("h.#.attn.c_proj.bias", D),
                    [LODE_ROLE_FFN_NORM] = VECTOR("h.#.ln_2.weight", D),
                    [LODE_ROLE_FFN_NORM_BIAS] = VECTOR("h.#.ln_2.bias", D),
                    [LODE_ROLE_UP] = TRANSPOSED("h.#.mlp.c_fc.weight", M, D),
                    [LODE_ROLE_DOWN] = TRANSPOSED("h.#.mlp.c_proj.weight", D, M),
                    [LODE_ROLE_UP_BIAS] = VECTOR("h.#.mlp.c_fc.bias", M),
                    [LODE_ROLE_DOWN_BIAS] = VECTOR("h.#.mlp.c_proj.bias", D),
                    [LODE_ROLE_EMBEDDING] = MATRIX("wte.weight", V, D),
                    [LODE_ROLE_POSITIONS] = MATRIX("wpe.weight", P, D),
                    [LODE_ROLE_FINAL_NORM] = VECTOR("ln_f.weight", D),
                    [LODE_ROLE_FINAL_NORM_BIAS] = VECTOR("ln_f.bias", D),
                    [LODE_ROLE_HEAD] = MATRIX("lm_head.weight", V, D),
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
