/* config.json: what is read, what is refused, and with which words. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/architecture.h"
#include "model/describe.h"
#include "testing/checkpoint.h"
#include "testing/compare.h"
#include "testing/data.h"
#include "testing/temporary.h"

/* The smallest config, and one more pair at its end. */
#define SMALLEST                                                                                   \
    "\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":16,"                         \
    "\"intermediate_size\":24,\"num_attention_heads\":4,\"vocab_size\":50"
#define WITH(pair) "{" SMALLEST "," pair "}"

static lode_status_t parse(lode_architecture_t *out, const char *json) {
    return lode_architecture_parse(out, json, strlen(json), "x/config.json");
}

/* Refused with `status`, the file's name and `part`; and *out is zeroed. */
static void refuse(const char *json, lode_status_t status, const char *part) {
    lode_architecture_t out;
    memset(&out, 0x55, sizeof out);
    LODE_ASSERT_FAILS(parse(&out, json), status, part);
    if (strncmp(lode_error_message(), "x/config.json: ", 15) != 0)
        fail_msg("the message \"%s\" does not begin with the file", lode_error_message());
    assert_int_equal(out.layers, 0);
    assert_int_equal(out.vocab, 0);
}

static void fills_in_defaults(void **state) {
    (void)state;
    lode_architecture_t a;
    LODE_ASSERT_OK(parse(&a, "{" SMALLEST "}"));
    assert_int_equal(a.model_type, LODE_MODEL_LLAMA);
    assert_int_equal(a.activation, LODE_ACTIVATION_SILU);
    assert_int_equal(a.layers, 2);
    assert_int_equal(a.hidden, 16);
    assert_int_equal(a.intermediate, 24);
    assert_int_equal(a.heads, 4);
    assert_int_equal(a.kv_heads, 4);
    assert_int_equal(a.head_dim, 4);
    assert_int_equal(a.vocab, 50);
    assert_int_equal(a.max_positions, 2048);
    assert_true(a.norm_eps == 1e-6);
    assert_true(a.rotary.theta == 10000.0);
    assert_false(a.tied);
    assert_int_equal(a.bos, 1);
    assert_int_equal(a.eos, 2);
}

static void reads_every_key(void **state) {
    (void)state;
    lode_architecture_t a;
    LODE_ASSERT_OK(parse(
        &a, WITH("\"num_key_value_heads\":2,\"head_dim\":6,\"max_position_embeddings\":99,"
                 "\"rms_norm_eps\":1e-5,\"rope_theta\":500000,\"tie_word_embeddings\":true,"
                 "\"bos_token_id\":7,\"eos_token_id\":[8,9],\"hidden_act\":\"silu\","
                 "\"attention_bias\":false,\"mlp_bias\":null,\"rope_scaling\":null,"
                 "\"layer_types\":[\"full_attention\",\"full_attention\"],\"pruned_heads\":{},"
                 "\"partial_rotary_factor\":1.0,\"torch_dtype\":\"float32\",\"anything\":true")));
    assert_int_equal(a.kv_heads, 2);
    assert_int_equal(a.head_dim, 6);
    assert_int_equal(a.max_positions, 99);
    assert_true(a.norm_eps == 1e-5);
    assert_true(a.rotary.theta == 500000.0);
    assert_true(a.tied);
    assert_int_equal(a.bos, 7);
    assert_int_equal(a.eos, 8);
}

static void reads_special_tokens(void **state) {
    (void)state;
    lode_architecture_t a;
    LODE_ASSERT_OK(parse(&a, WITH("\"bos_token_id\":null,\"eos_token_id\":[]")));
    assert_int_equal(a.bos, -1);
    assert_int_equal(a.eos, -1);
    LODE_ASSERT_OK(parse(&a, WITH("\"bos_token_id\":[49,3],\"eos_token_id\":-1")));
    assert_int_equal(a.bos, 49);
    assert_int_equal(a.eos, -1);
    LODE_ASSERT_OK(parse(&a,
                         "{\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":16,"
                         "\"intermediate_size\":24,\"num_attention_heads\":4,\"vocab_size\":2}"));
    assert_int_equal(a.bos, 1);
    assert_int_equal(a.eos, -1); /* the default, 2, is no token here */
    refuse(WITH("\"bos_token_id\":50"), LODE_ERR_FORMAT, "\"bos_token_id\" is 50, must be below");
    refuse(WITH("\"eos_token_id\":\"</s>\""), LODE_ERR_FORMAT, "\"eos_token_id\" is \"</s>\"");
    refuse(WITH("\"eos_token_id\":[1.5]"), LODE_ERR_FORMAT, "\"eos_token_id\" is [1.5]");
}

static void reads_rotary_positions_of_either_style(void **state) {
    (void)state;
    lode_architecture_t a;
    LODE_ASSERT_OK(
        parse(&a, WITH("\"rope_parameters\":{\"rope_theta\":5e5,\"rope_type\":\"default\"}")));
    assert_true(a.rotary.theta == 5e5);
    LODE_ASSERT_OK(parse(&a, WITH("\"rope_parameters\":{\"rope_theta\":7}")));
    assert_true(a.rotary.theta == 7.0);
    LODE_ASSERT_OK(parse(
        &a,
        WITH("\"rope_theta\":5e5,\"rope_parameters\":{\"rope_theta\":5e5,\"type\":\"default\"}")));
    assert_true(a.rotary.theta == 5e5);
    LODE_ASSERT_OK(parse(&a, WITH("\"rope_scaling\":{\"type\":\"default\"}")));
    assert_true(a.rotary.theta == 10000.0);
    refuse(WITH("\"rope_theta\":1e4,\"rope_parameters\":{\"rope_theta\":5e5}"), LODE_ERR_FORMAT,
           "\"rope_theta\" is 10000 and \"rope_parameters\" says 500000");
    refuse(WITH("\"rope_theta\":0"), LODE_ERR_FORMAT, "\"rope_theta\" is 0, must be");
    refuse(WITH("\"rope_theta\":\"10\""), LODE_ERR_FORMAT, "\"rope_theta\" is \"10\", must be");
    refuse(WITH("\"rope_scaling\":{\"factor\":8}"), LODE_ERR_FORMAT, "no \"rope_type\"");
    refuse(WITH("\"rope_parameters\":{\"factor\":8,\"rope_theta\":9}"), LODE_ERR_FORMAT,
           "no \"rope_type\"");
    refuse(WITH("\"rope_parameters\":{\"full_attention\":{\"rope_theta\":7}}"), LODE_ERR_FORMAT,
           "no \"rope_type\"");
    refuse(WITH("\"rope_scaling\":2.0"), LODE_ERR_FORMAT, "\"rope_scaling\" is 2.0");
    refuse(WITH("\"rope_parameters\":{\"rope_theta\":7,\"partial_rotary_factor\":0.5}"),
           LODE_ERR_UNSUPPORTED, "\"partial_rotary_factor\" is 0.5");
}

static void names_a_missing_key(void **state) {
    (void)state;
    static const char *const pairs[] = {"\"model_type\":\"llama\"",  "\"num_hidden_layers\":2",
                                        "\"hidden_size\":16",        "\"intermediate_size\":24",
                                        "\"num_attention_heads\":4", "\"vocab_size\":50"};
    enum { COUNT = sizeof pairs / sizeof pairs[0] };
    for (int absent = 0; absent < COUNT; absent++) {
        char json[512] = "{\"use_cache\":true", key[64];
        for (int i = 0; i < COUNT; i++)
            if (i != absent)
                snprintf(json + strlen(json), sizeof json - strlen(json), ",%s", pairs[i]);
        snprintf(json + strlen(json), sizeof json - strlen(json), "}");
        snprintf(key, sizeof key, "%.*s is missing", (int)strcspn(pairs[absent], ":"),
                 pairs[absent]);
        refuse(json, LODE_ERR_FORMAT, key);
    }
}

/* A number out of range, or something else than a number, in place of one of the sizes. */
static void refuses_wrong_sizes(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "0", "-1", "2147483648", "9223372036854775807", "2.0", "\"2\"", "true", "[2]", "{}"};
    static const char *const keys[] = {"num_hidden_layers",   "hidden_size",
                                       "intermediate_size",   "num_attention_heads",
                                       "vocab_size",          "max_position_embeddings",
                                       "num_key_value_heads", "head_dim"};
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
            char json[512] = "{\"model_type\":\"llama\"", part[128];
            for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
                snprintf(json + strlen(json), sizeof json - strlen(json), ",\"%s\":%s", keys[i],
                         i == k ? wrong[w] : "2");
            snprintf(json + strlen(json), sizeof json - strlen(json), "}");
            snprintf(part, sizeof part, "\"%s\" is %s, must be a whole number from 1 to", keys[k],
                     wrong[w]);
            refuse(json, LODE_ERR_FORMAT, part);
        }
    }
}

static void refuses_heads_that_do_not_divide(void **state) {
    (void)state;
    refuse(WITH("\"num_key_value_heads\":3"), LODE_ERR_FORMAT,
           "\"num_attention_heads\" 4 is not a multiple of \"num_key_value_heads\" 3");
    refuse(WITH("\"head_dim\":5"), LODE_ERR_FORMAT, "\"head_dim\"");
    refuse("{\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":18,"
           "\"intermediate_size\":24,\"num_attention_heads\":4,\"vocab_size\":50}",
           LODE_ERR_FORMAT, "\"hidden_size\" 18 is not a multiple of \"num_attention_heads\" 4");
    refuse(WITH("\"head_dim\":8388608"), LODE_ERR_FORMAT, "\"head_dim\" is 8388608");
    lode_architecture_t a;
    LODE_ASSERT_OK(parse(&a, WITH("\"head_dim\":10"))); /* H·a need not be d */
    assert_int_equal(a.head_dim, 10);
}

static void refuses_other_types(void **state) {
    (void)state;
    refuse(WITH("\"tie_word_embeddings\":1"), LODE_ERR_FORMAT, "\"tie_word_embeddings\" is 1");
    refuse(WITH("\"rms_norm_eps\":-1e-5"), LODE_ERR_FORMAT, "\"rms_norm_eps\" is -1");
    refuse(WITH("\"rms_norm_eps\":false"), LODE_ERR_FORMAT, "\"rms_norm_eps\" is false");
    refuse(WITH("\"hidden_act\":3"), LODE_ERR_FORMAT, "\"hidden_act\" is 3");
    refuse("{\"model_type\":5}", LODE_ERR_FORMAT, "\"model_type\"");
    refuse("[]", LODE_ERR_FORMAT, "must be a JSON object");
    refuse("", LODE_ERR_FORMAT, "line 1");
    refuse("{\"a\":1,\n\"a\":2}", LODE_ERR_FORMAT, "line 2");
    refuse("{" SMALLEST, LODE_ERR_FORMAT, "line 1");
}

static void refuses_what_is_not_implemented(void **state) {
    (void)state;
    static const char *const pairs[] = {
        "\"quantization_config\":{\"bits\":4}",
        "\"sliding_window\":4096",
        "\"sliding_window_size\":4096",
        "\"hidden_act\":\"gelu_fast\"",
        "\"rope_interleaved\":true",
        "\"partial_rotary_factor\":0.25",
        "\"logit_scale\":0.5",
        "\"embedding_multiplier\":12.0",
        "\"final_logit_softcapping\":30.0",
        "\"query_pre_attn_scalar\":256",
        "\"clip_qkv\":8.0",
        "\"qk_layernorm\":true",
        "\"num_local_experts\":8",
        "\"no_rope_layers\":[1]",
        "\"is_causal\":false",
        "\"per_layer_config\":{\"1\":{\"rms_norm_eps\":0.5}}",
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char json[512], key[64];
        snprintf(json, sizeof json, "{" SMALLEST ",%s}", pairs[i]);
        snprintf(key, sizeof key, "%.*s is ", (int)strcspn(pairs[i], ":"), pairs[i]);
        refuse(json, LODE_ERR_UNSUPPORTED, key);
    }
    refuse(WITH("\"layer_types\":[\"full_attention\",\"sliding_attention\"]"), LODE_ERR_UNSUPPORTED,
           "\"layer_types\" is \"sliding_attention\"");
    refuse("{\"model_type\":\"mamba\"}", LODE_ERR_UNSUPPORTED,
           "\"model_type\" is \"mamba\", which this version does not implement; supported: "
           "\"llama\", \"mistral\", \"qwen2\", \"qwen3\", \"olmo\", \"olmo2\", \"gemma2\", "
           "\"phi3\", \"gpt2\"");
    refuse("{\"model_type\":\"llava\",\"text_config\":{\"model_type\":\"llama\"}}",
           LODE_ERR_UNSUPPORTED, "it wraps a language model (\"text_config\")");
    /* What a message quotes must not reach a terminal as it is. */
    refuse("{\"model_type\":\"\\u001b[2J\"}", LODE_ERR_UNSUPPORTED, "\"\\u001B[2J\"");
}

/* --- families ------------------------------------------------------------------------------- */

#define SIZES                                                                                      \
    "\"num_hidden_layers\":4,\"hidden_size\":64,\"intermediate_size\":24,"                         \
    "\"num_attention_heads\":32,\"vocab_size\":60000"

/* The smallest config of a type, with `pairs` at its end. */
static lode_status_t parse_type(lode_architecture_t *out, const char *type, const char *pairs) {
    char json[1024];
    snprintf(json, sizeof json, "{\"model_type\":\"%s\",%s%s%s}", type,
             strcmp(type, "gpt2") == 0
                 ? "\"n_layer\":4,\"n_embd\":64,\"n_head\":32,\"vocab_size\":60000"
                 : SIZES,
             *pairs ? "," : "", pairs);
    return parse(out, json);
}

/* The presets of transformers' configuration classes. */
static void families_have_their_presets(void **state) {
    (void)state;
    static const struct {
        const char *type;
        int64_t kv_heads, head_dim, positions, window, windowed;
        double eps;
        lode_activation_t activation;
        bool tied;
        int32_t bos, eos;
    } cases[] = {
        {"llama", 32, 2, 2048, 0, 0, 1e-6, LODE_ACTIVATION_SILU, false, 1, 2},
        {"mistral", 8, 2, 131072, 4096, 4, 1e-6, LODE_ACTIVATION_SILU, false, 1, 2},
        {"qwen2", 32, 2, 32768, 0, 0, 1e-6, LODE_ACTIVATION_SILU, false, -1, -1},
        {"qwen3", 32, 128, 32768, 0, 0, 1e-6, LODE_ACTIVATION_SILU, false, -1, -1},
        {"olmo", 32, 2, 2048, 0, 0, 1e-5, LODE_ACTIVATION_SILU, false, -1, 50279},
        {"olmo2", 32, 2, 2048, 0, 0, 1e-5, LODE_ACTIVATION_SILU, false, -1, 50279},
        {"gemma2", 4, 256, 8192, 4096, 2, 1e-6, LODE_ACTIVATION_GELU_TANH, true, 2, 1},
        {"phi3", 32, 2, 4096, 0, 0, 1e-5, LODE_ACTIVATION_SILU, false, 1, 32000},
        {"gpt2", 32, 2, 1024, 0, 0, 1e-5, LODE_ACTIVATION_GELU_TANH, true, 50256, 50256},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lode_architecture_t a;
        LODE_ASSERT_OK(parse_type(&a, cases[i].type, ""));
        assert_string_equal(lode_model_type_name(a.model_type), cases[i].type);
        assert_int_equal(a.kv_heads, cases[i].kv_heads);
        assert_int_equal(a.head_dim, cases[i].head_dim);
        assert_int_equal(a.max_positions, cases[i].positions);
        int64_t windowed = 0;
        for (int64_t l = 0; l < 4; l++) {
            const int64_t window = lode_architecture_window(&a, l);
            assert_true(window == 0 || window == cases[i].window);
            windowed += window > 0;
        }
        assert_int_equal(windowed, cases[i].windowed);
        assert_true(a.norm_eps == cases[i].eps);
        assert_int_equal(a.activation, cases[i].activation);
        assert_int_equal(a.tied, cases[i].tied);
        assert_int_equal(a.bos, cases[i].bos);
        assert_int_equal(a.eos, cases[i].eos);
        assert_int_equal(a.rotary.kind, i == 8 ? LODE_ROTARY_NONE : LODE_ROTARY_DEFAULT);
    }
}

/* What no key says. */
static void families_have_their_computation(void **state) {
    (void)state;
    static const struct {
        const char *type;
        lode_norm_kind_t norm;
        lode_qk_norm_t qk_norm;
        bool gated, pre, post, offset, qkv_bias, o_bias, ffn_bias, positions;
    } cases[] = {
        {"llama", LODE_NORM_RMS, LODE_QK_NORM_NONE, 1, 1, 0, 0, 0, 0, 0, 0},
        {"mistral", LODE_NORM_RMS, LODE_QK_NORM_NONE, 1, 1, 0, 0, 0, 0, 0, 0},
        {"qwen2", LODE_NORM_RMS, LODE_QK_NORM_NONE, 1, 1, 0, 0, 1, 0, 0, 0},
        {"qwen3", LODE_NORM_RMS, LODE_QK_NORM_HEAD, 1, 1, 0, 0, 0, 0, 0, 0},
        {"olmo", LODE_NORM_LAYER, LODE_QK_NORM_NONE, 1, 1, 0, 0, 0, 0, 0, 0},
        {"olmo2", LODE_NORM_RMS, LODE_QK_NORM_WHOLE, 1, 0, 1, 0, 0, 0, 0, 0},
        {"gemma2", LODE_NORM_RMS, LODE_QK_NORM_NONE, 1, 1, 1, 1, 0, 0, 0, 0},
        {"phi3", LODE_NORM_RMS, LODE_QK_NORM_NONE, 1, 1, 0, 0, 0, 0, 0, 0},
        {"gpt2", LODE_NORM_LAYER, LODE_QK_NORM_NONE, 0, 1, 0, 0, 1, 1, 1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lode_architecture_t a;
        const bool gemma = strcmp(cases[i].type, "gemma2") == 0;
        LODE_ASSERT_OK(parse_type(&a, cases[i].type, ""));
        assert_int_equal(a.norm, cases[i].norm);
        assert_int_equal(a.qk_norm, cases[i].qk_norm);
        assert_int_equal(a.gated, cases[i].gated);
        assert_true(a.attention_norm == cases[i].pre && a.ffn_norm == cases[i].pre);
        assert_true(a.attention_post_norm == cases[i].post && a.ffn_post_norm == cases[i].post);
        assert_int_equal(a.norm_offset, cases[i].offset);
        assert_int_equal(a.attention_bias, cases[i].qkv_bias);
        assert_int_equal(a.output_bias, cases[i].o_bias);
        assert_int_equal(a.ffn_bias, cases[i].ffn_bias);
        assert_int_equal(a.learned_positions, cases[i].positions);
        assert_true(a.clip_qkv == 0);
        assert_true(a.attention_cap == (gemma ? 50 : 0) && a.logit_cap == (gemma ? 30 : 0));
        assert_true(a.embedding_scale == (gemma ? 8 : 1));
        const double scalar = gemma ? 256 : (double)a.head_dim;
        assert_true(a.attention_scale == 1 / sqrt(scalar));
    }
}

static void reads_the_switches_of_families(void **state) {
    (void)state;
    lode_architecture_t a;
    static const char *const biased[] = {"llama", "qwen3", "olmo", "olmo2", "gemma2"};
    for (size_t i = 0; i < sizeof biased / sizeof biased[0]; i++) {
        LODE_ASSERT_OK(parse_type(&a, biased[i], "\"attention_bias\":true"));
        assert_true(a.attention_bias && a.output_bias && !a.ffn_bias);
    }
    LODE_ASSERT_OK(parse_type(&a, "llama", "\"mlp_bias\":true,\"hidden_act\":\"gelu\""));
    assert_true(a.ffn_bias && !a.attention_bias && a.activation == LODE_ACTIVATION_GELU);
    LODE_ASSERT_OK(parse_type(&a, "qwen2", "\"attention_bias\":true,\"hidden_act\":\"swish\""));
    assert_true(a.attention_bias && !a.output_bias && a.activation == LODE_ACTIVATION_SILU);
    LODE_ASSERT_OK(parse_type(&a, "olmo", "\"clip_qkv\":8.0,\"hidden_act\":\"relu\""));
    assert_true(a.clip_qkv == 8 && a.activation == LODE_ACTIVATION_RELU);
    LODE_ASSERT_OK(parse_type(&a, "olmo", "\"clip_qkv\":null"));
    assert_true(a.clip_qkv == 0);
    LODE_ASSERT_OK(parse_type(&a, "gemma2",
                              "\"attn_logit_softcapping\":null,\"final_logit_softcapping\":7,"
                              "\"query_pre_attn_scalar\":4,\"hidden_act\":\"relu\","
                              "\"hidden_activation\":\"gelu\",\"tie_word_embeddings\":false"));
    assert_true(a.attention_cap == 0 && a.logit_cap == 7 && a.attention_scale == 0.5);
    assert_true(a.activation == LODE_ACTIVATION_GELU && !a.tied);
    LODE_ASSERT_OK(parse_type(&a, "gpt2",
                              "\"n_inner\":null,\"n_ctx\":7,\"reorder_and_upcast_attn\":true,"
                              "\"scale_attn_weights\":true"));
    assert_true(a.intermediate == 256 && a.tied);
    LODE_ASSERT_OK(parse_type(&a, "gpt2", "\"tie_word_embeddings\":false"));
    assert_false(a.tied);
    LODE_ASSERT_OK(parse_type(&a, "gpt2", "\"n_inner\":100,\"activation_function\":\"relu\""));
    assert_true(a.intermediate == 100 && a.activation == LODE_ACTIVATION_RELU);
    /* transformers reads the other families' names as its own */
    LODE_ASSERT_OK(parse_type(&a, "gpt2", "\"max_position_embeddings\":77"));
    assert_int_equal(a.max_positions, 77);
    LODE_ASSERT_FAILS(parse_type(&a, "gpt2", "\"num_hidden_layers\":3"), LODE_ERR_FORMAT,
                      "\"num_hidden_layers\" and \"n_layer\" are the same setting and differ");
    LODE_ASSERT_FAILS(parse_type(&a, "gpt2", "\"scale_attn_weights\":false"), LODE_ERR_UNSUPPORTED,
                      "\"scale_attn_weights\" is false");
    LODE_ASSERT_FAILS(parse_type(&a, "gpt2", "\"scale_attn_by_inverse_layer_idx\":true"),
                      LODE_ERR_UNSUPPORTED, "\"scale_attn_by_inverse_layer_idx\" is true");
    LODE_ASSERT_FAILS(parse_type(&a, "mistral", "\"attention_bias\":true"), LODE_ERR_UNSUPPORTED,
                      "\"attention_bias\" is true");
    LODE_ASSERT_OK(parse_type(&a, "mistral", "\"num_key_value_heads\":null"));
    assert_int_equal(a.kv_heads, 32);
    LODE_ASSERT_OK(parse_type(&a, "qwen3", "\"head_dim\":6,\"torch_dtype\":\"bfloat16\""));
    assert_int_equal(a.head_dim, 6);
}

/* The windows of four layers, as digits. */
static void check_windows(const char *type, const char *pairs, int64_t window, const char *layers) {
    lode_architecture_t a;
    LODE_ASSERT_OK(parse_type(&a, type, pairs));
    for (int64_t l = 0; l < 4; l++)
        assert_int_equal(lode_architecture_window(&a, l), layers[l] == '1' ? window : 0);
}

#define TYPES(a, b, c, d)                                                                          \
    "\"layer_types\":[\"" a "_attention\",\"" b "_attention\",\"" c "_attention\",\"" d            \
    "_attention\"]"

static void reads_windows(void **state) {
    (void)state;
    check_windows("mistral", "\"sliding_window\":7", 7, "1111");
    check_windows("mistral", "\"sliding_window\":null", 0, "0000");
    check_windows("mistral", "\"sliding_window_size\":4096", 4096, "1111");
    check_windows("mistral", TYPES("sliding", "sliding", "sliding", "sliding"), 4096, "1111");
    check_windows("phi3", "\"sliding_window\":2047", 2047, "1111");
    check_windows("phi3", "\"sliding_window\":null", 0, "0000");
    check_windows("gemma2", "\"sliding_window\":9", 9, "1010");
    check_windows("gemma2", "\"sliding_window\":9," TYPES("full", "sliding", "sliding", "full"), 9,
                  "0110");
    check_windows("gemma2", "\"sliding_window\":9,\"layer_types\":null", 9, "1010");
    check_windows("qwen2", "\"sliding_window\":9,\"max_window_layers\":1", 0, "0000");
    check_windows("qwen2",
                  "\"sliding_window\":9,\"max_window_layers\":1,\"use_sliding_window\":true", 9,
                  "0111");
    check_windows("qwen2", "\"use_sliding_window\":true", 0, "0000"); /* from layer 28 on */
    check_windows("qwen3",
                  "\"use_sliding_window\":true,\"max_window_layers\":0,\"sliding_window\":null", 0,
                  "0000");
    check_windows("qwen3",
                  "\"use_sliding_window\":true," TYPES("full", "sliding", "full", "sliding"), 4096,
                  "0101");
}

static void describes_what_is_special(void **state) {
    (void)state;
    static const struct {
        const char *type, *pairs, *text;
    } descriptions[] = {
        {"llama", "", "llama"},
        {"llama", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.5},\"mlp_bias\":true",
         "llama (biases, linear positions × 2.5)"},
        {"mistral", "", "mistral (window 4096 in 4 of 4 layers)"},
        {"olmo", "\"clip_qkv\":8", "olmo (bare LayerNorm, clip_qkv 8)"},
        {"olmo2", "", "olmo2 (norms after attention and FFN, norms of queries and keys)"},
        {"gemma2", "",
         "gemma2 (gelu_tanh, norms around attention and FFN, window 4096 in 2 of 4 layers, scores "
         "capped at 50, logits capped at 30)"},
        {"phi3", "\"head_dim\":8,\"partial_rotary_factor\":0.5",
         "phi3 (4 of 8 elements of a head turned)"},
        {"gpt2", "", "gpt2 (gelu_tanh, no gate, biases, LayerNorm, learned positions)"},
    };
    for (size_t i = 0; i < sizeof descriptions / sizeof descriptions[0]; i++) {
        lode_architecture_t a;
        char text[LODE_DESCRIPTION_BYTES];
        LODE_ASSERT_OK(parse_type(&a, descriptions[i].type, descriptions[i].pairs));
        lode_architecture_describe(text, &a);
        assert_string_equal(text, descriptions[i].text);
    }
}

static void refuses_windows_that_contradict(void **state) {
    (void)state;
    static const struct {
        const char *type, *pairs, *part;
        lode_status_t status;
    } cases[] = {
        {"mistral", "\"sliding_window\":0", "\"sliding_window\" is 0", LODE_ERR_FORMAT},
        {"mistral", "\"sliding_window_size\":7", "\"sliding_window_size\" is 7",
         LODE_ERR_UNSUPPORTED},
        {"mistral", TYPES("full", "sliding", "sliding", "full"),
         "\"layer_types\" is \"full_attention\"", LODE_ERR_UNSUPPORTED},
        {"qwen2", TYPES("full", "sliding", "sliding", "full"), "\"use_sliding_window\" is false",
         LODE_ERR_FORMAT},
        {"qwen2", "\"layer_types\":[\"full_attention\"]", "\"layer_types\" must be a list of 4",
         LODE_ERR_FORMAT},
        {"qwen2", TYPES("full", "chunked", "full", "full"),
         "\"layer_types\" is \"chunked_attention\"", LODE_ERR_UNSUPPORTED},
        {"gemma2", "\"sliding_window\":null", "\"sliding_window\" is null", LODE_ERR_FORMAT},
        {"qwen2", "\"max_window_layers\":-1", "\"max_window_layers\" is -1", LODE_ERR_FORMAT},
        {"gemma2", "\"sliding_window\":null," TYPES("full", "full", "full", "sliding"),
         "\"layer_types\" asks for windows", LODE_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lode_architecture_t a;
        LODE_ASSERT_FAILS(parse_type(&a, cases[i].type, cases[i].pairs), cases[i].status,
                          cases[i].part);
    }
}

/* --- counts --------------------------------------------------------------------------------- */

static void counts_parameters_and_operations(void **state) {
    (void)state;
    lode_architecture_t a;
    LODE_ASSERT_OK(parse(&a, WITH("\"num_key_value_heads\":2,\"head_dim\":6")));
    /* q, o: 24·16; k, v: 12·16; gate, up, down: 24·16; norms: 2·16 */
    int64_t matrices = 2 * 384 + 2 * 192 + 3 * 384;
    assert_int_equal(lode_architecture_layer_parameters(&a), matrices + 32);
    assert_int_equal(lode_architecture_embedding_parameters(&a), 800);
    assert_int_equal(lode_architecture_head_parameters(&a), 816);
    assert_int_equal(lode_architecture_parameters(&a), 2 * (matrices + 32) + 1616);
    assert_int_equal(lode_architecture_head_flops(&a), 1600);
    /* Three positions attend to 1 + 2 + 3 others, each 4 operations for each of 24 elements. */
    assert_int_equal(3 * lode_architecture_layer_flops(&a, 0, 3), 3 * 2 * matrices + 6 * 4 * 24);
    a.tied = true;
    assert_int_equal(lode_architecture_head_parameters(&a), 16);
    assert_int_equal(lode_architecture_parameters(&a), 2 * (matrices + 32) + 816);
}

/* Windows shorten attention alone; a model without a gate has a matrix less. */
static void counts_windows_and_gates(void **state) {
    (void)state;
    lode_architecture_t a;
    LODE_ASSERT_OK(parse_type(&a, "gemma2", "\"sliding_window\":3,\"head_dim\":2"));
    const int64_t matrices = 2 * 64 * 64 + 2 * 8 * 64 + 3 * 24 * 64;
    assert_int_equal(lode_architecture_layer_parameters(&a), matrices + 4 * 64);
    /* Six positions attend to 1 + 2 + 3 + 3 + 3 + 3 others in layer 0, to 21 in layer 1. */
    assert_int_equal(6 * lode_architecture_layer_flops(&a, 0, 6), 6 * 2 * matrices + 15 * 4 * 64);
    assert_int_equal(6 * lode_architecture_layer_flops(&a, 1, 6), 6 * 2 * matrices + 21 * 4 * 64);
    assert_int_equal(lode_architecture_layer_flops(&a, 0, 3),
                     lode_architecture_layer_flops(&a, 1, 3));
    LODE_ASSERT_OK(parse_type(&a, "gpt2", "\"n_inner\":24,\"n_positions\":10"));
    const int64_t own = 4 * 64 * 64 + 2 * 24 * 64, biases = 4 * 64 + 24 + 64 + 4 * 64;
    assert_int_equal(lode_architecture_layer_parameters(&a), own + biases);
    assert_int_equal(lode_architecture_layer_flops(&a, 0, 1), 2 * own + 4 * 64);
    assert_int_equal(lode_architecture_embedding_parameters(&a), 60010 * 64);
    assert_int_equal(lode_architecture_head_parameters(&a), 128);
}

/* The largest sizes that are accepted must not overflow a count. */
static void counts_the_largest_model(void **state) {
    (void)state;
    lode_architecture_t a;
    LODE_ASSERT_OK(parse(&a, "{\"model_type\":\"llama\",\"num_hidden_layers\":4096,"
                             "\"hidden_size\":16777216,\"intermediate_size\":16777216,"
                             "\"num_attention_heads\":1048576,\"vocab_size\":2147483647}"));
    double d = 16777216.0, parameters = 4096 * (7 * d * d + 2 * d) + 2 * d * 2147483647.0 + d;
    assert_true((double)lode_architecture_parameters(&a) == parameters);
    assert_true(lode_architecture_layer_flops(&a, 0, INT32_MAX) > 0);
    LODE_ASSERT_OK(parse(&a, "{\"model_type\":\"gpt2\",\"n_layer\":4096,\"n_embd\":4194304,"
                             "\"n_head\":1048576,\"vocab_size\":2147483647,"
                             "\"n_inner\":16777216,\"n_positions\":2147483647}"));
    d = 4194304.0;
    parameters = 4096 * (4 * d * d + 2 * d * 16777216 + 9 * d + 16777216) + 2 * d;
    parameters += 2 * d * 2147483647.0;
    assert_true((double)lode_architecture_parameters(&a) == parameters);
    LODE_ASSERT_OK(parse(&a, "{\"model_type\":\"mistral\",\"num_hidden_layers\":1,"
                             "\"hidden_size\":16777216,\"intermediate_size\":16777216,"
                             "\"num_attention_heads\":1048576,\"vocab_size\":2147483647,"
                             "\"sliding_window\":2147483646}"));
    assert_true(lode_architecture_layer_flops(&a, 0, INT32_MAX) > 0);
}

/* Parameters and the rest as transformers' classes make them of the same files. */
static void reads_the_published_configs(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double parameters;
        int64_t head_dim, positions, window, windowed;
        double theta;
        lode_rotary_kind_t rotary;
        bool tied;
        int32_t bos, eos;
    } cases[] = {
        {"llama2_7b", 6738415616, 128, 2048, 0, 0, 1e4, LODE_ROTARY_DEFAULT, 0, 1, 2},
        {"llama2_13b", 13015864320, 128, 2048, 0, 0, 1e4, LODE_ROTARY_DEFAULT, 0, 1, 2},
        {"llama2_70b", 68976648192, 128, 2048, 0, 0, 1e4, LODE_ROTARY_DEFAULT, 0, 1, 2},
        {"tinyllama_1b_chat_v1.0", 1100048384, 64, 2048, 0, 0, 1e4, LODE_ROTARY_DEFAULT, 0, 1, 2},
        {"smollm2_135m", 134515008, 64, 8192, 0, 0, 1e5, LODE_ROTARY_DEFAULT, 1, 1, 2},
        {"llama3_1_8b", 8030261248, 128, 131072, 0, 0, 5e5, LODE_ROTARY_LLAMA3, 0, 128000, 128001},
        {"llama3_1_70b", 70553706496, 128, 131072, 0, 0, 5e5, LODE_ROTARY_LLAMA3, 0, 128000,
         128001},
        {"llama3_2_1b", 1235814400, 64, 131072, 0, 0, 5e5, LODE_ROTARY_LLAMA3, 1, 128000, 128001},
        {"mistral_7b", 7241732096, 128, 32768, 4096, 32, 1e4, LODE_ROTARY_DEFAULT, 0, 1, 2},
        {"mistral_7b_v03", 7248023552, 128, 32768, 0, 0, 1e6, LODE_ROTARY_DEFAULT, 0, 1, 2},
        {"qwen2_0_5b", 494032768, 64, 32768, 0, 0, 1e6, LODE_ROTARY_DEFAULT, 1, 151643, 151645},
        {"qwen2_7b", 7615616512, 128, 32768, 0, 0, 1e6, LODE_ROTARY_DEFAULT, 0, 151643, 151645},
        {"qwen3_0.6b", 596049920, 128, 40960, 0, 0, 1e6, LODE_ROTARY_DEFAULT, 1, 151643, 151645},
        {"gemma2_2b", 2614341888, 256, 8192, 4096, 13, 1e4, LODE_ROTARY_DEFAULT, 1, 2, 1},
        {"gemma2_9b", 9241705984, 256, 8192, 4096, 21, 1e4, LODE_ROTARY_DEFAULT, 1, 2, 1},
        {"gemma2_27b", 27227128320, 128, 8192, 4096, 23, 1e4, LODE_ROTARY_DEFAULT, 1, 2, 1},
        {"olmo2_7b", 7298617344, 128, 4096, 0, 0, 5e5, LODE_ROTARY_DEFAULT, 0, -1, 50279},
        {"olmo2_13b", 13716198400, 128, 4096, 0, 0, 5e5, LODE_ROTARY_DEFAULT, 0, -1, 50279},
        {"gpt2", 124439808, 64, 1024, 0, 0, 0, LODE_ROTARY_NONE, 1, 50256, 50256},
    };
    if (!lode_test_data("configs/llama2_7b.json"))
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char relative[128], *json;
        size_t size;
        lode_architecture_t a;
        snprintf(relative, sizeof relative, "configs/%s.json", cases[i].name);
        const char *path = lode_test_data(relative);
        assert_non_null(path);
        LODE_ASSERT_OK(lode_file_read(&json, &size, path));
        LODE_ASSERT_OK(lode_architecture_parse(&a, json, size, path));
        free(json);
        assert_true((double)lode_architecture_parameters(&a) == cases[i].parameters);
        assert_int_equal(a.head_dim, cases[i].head_dim);
        assert_int_equal(a.max_positions, cases[i].positions);
        int64_t windowed = 0;
        for (int64_t l = 0; l < a.layers; l++)
            windowed += lode_architecture_window(&a, l) > 0;
        assert_int_equal(a.window, cases[i].window);
        assert_int_equal(windowed, cases[i].windowed);
        assert_true(a.rotary.theta == cases[i].theta);
        assert_int_equal(a.rotary.kind, cases[i].rotary);
        assert_int_equal(a.tied, cases[i].tied);
        assert_int_equal(a.bos, cases[i].bos);
        assert_int_equal(a.eos, cases[i].eos);
    }
}

static void reads_the_config_of_a_folder(void **state) {
    (void)state;
    lode_architecture_t a, written = {.layers = 3,
                                      .hidden = 8,
                                      .intermediate = 10,
                                      .heads = 2,
                                      .kv_heads = 1,
                                      .head_dim = 6,
                                      .vocab = 11,
                                      .max_positions = 12,
                                      .norm_eps = 1e-5,
                                      .rotary.theta = 1234.5,
                                      .tied = true,
                                      .bos = 4,
                                      .eos = -1};
    const char *folder = lode_test_temporary();
    LODE_ASSERT_FAILS(lode_architecture_read(&a, folder), LODE_ERR_INPUT, "/config.json: ");
    LODE_ASSERT_OK(lode_test_write_config(folder, &written));
    LODE_ASSERT_OK(lode_architecture_read(&a, folder));
    assert_int_equal(a.layers, 3);
    assert_int_equal(a.head_dim, 6);
    assert_true(a.rotary.theta == 1234.5);
    assert_true(a.tied);
    assert_int_equal(a.bos, 4);
    assert_int_equal(a.eos, -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_in_defaults),
        cmocka_unit_test(reads_every_key),
        cmocka_unit_test(reads_special_tokens),
        cmocka_unit_test(reads_rotary_positions_of_either_style),
        cmocka_unit_test(names_a_missing_key),
        cmocka_unit_test(refuses_wrong_sizes),
        cmocka_unit_test(refuses_heads_that_do_not_divide),
        cmocka_unit_test(refuses_other_types),
        cmocka_unit_test(refuses_what_is_not_implemented),
        cmocka_unit_test(families_have_their_presets),
        cmocka_unit_test(families_have_their_computation),
        cmocka_unit_test(reads_the_switches_of_families),
        cmocka_unit_test(reads_windows),
        cmocka_unit_test(refuses_windows_that_contradict),
        cmocka_unit_test(describes_what_is_special),
        cmocka_unit_test(counts_parameters_and_operations),
        cmocka_unit_test(counts_windows_and_gates),
        cmocka_unit_test(counts_the_largest_model),
        cmocka_unit_test(reads_the_published_configs),
        cmocka_unit_test(reads_the_config_of_a_folder),
    };
    return cmocka_run_group_tests_name("architecture", tests, NULL, NULL);
}
