/* config.json: what is read, what is refused, and with which words. */
#include "testing/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/architecture.h"
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
    refuse(WITH("\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}"), LODE_ERR_UNSUPPORTED,
           "\"rope_scaling\" is \"linear\"");
    refuse(WITH("\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}"), LODE_ERR_UNSUPPORTED,
           "\"rope_scaling\" is \"llama3\"");
    refuse(WITH("\"rope_parameters\":{\"rope_type\":\"yarn\"}"), LODE_ERR_UNSUPPORTED,
           "\"rope_parameters\" is \"yarn\"");
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
        "\"attention_bias\":true",
        "\"mlp_bias\":true",
        "\"quantization_config\":{\"bits\":4}",
        "\"sliding_window\":4096",
        "\"hidden_act\":\"gelu\"",
        "\"rope_interleaved\":true",
        "\"partial_rotary_factor\":0.25",
        "\"logit_scale\":0.5",
        "\"embedding_multiplier\":12.0",
        "\"final_logit_softcapping\":30.0",
        "\"num_local_experts\":8",
        "\"layer_types\":[\"full_attention\",\"sliding_attention\"]",
        "\"no_rope_layers\":[1]",
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char json[512], key[64];
        snprintf(json, sizeof json, "{" SMALLEST ",%s}", pairs[i]);
        snprintf(key, sizeof key, "%.*s is ", (int)strcspn(pairs[i], ":"), pairs[i]);
        refuse(json, LODE_ERR_UNSUPPORTED, key);
    }
    refuse("{\"model_type\":\"mamba\"}", LODE_ERR_UNSUPPORTED,
           "\"model_type\" is \"mamba\", which this version does not implement; supported: "
           "\"llama\"");
    /* What a message quotes must not reach a terminal as it is. */
    refuse("{\"model_type\":\"\\u001b[2J\"}", LODE_ERR_UNSUPPORTED, "\"\\u001B[2J\"");
}

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
}

static void reads_the_published_configs(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double parameters; /* as published, 0 where the model is refused */
        const char *refusal;
    } cases[] = {
        {"llama2_7b", 6738415616, NULL},
        {"llama2_13b", 13015864320, NULL},
        {"llama2_70b", 68976648192, NULL},
        {"tinyllama_1b_chat_v1.0", 1100048384, NULL},
        {"smollm2_135m", 134515008, NULL},
        {"llama3_1_8b", 0, "\"rope_scaling\" is \"llama3\""},
        {"llama3_1_70b", 0, "\"rope_scaling\" is \"llama3\""},
        {"llama3_2_1b", 0, "\"rope_scaling\" is \"llama3\""},
        {"mistral_7b", 0, "\"model_type\" is \"mistral\""},
        {"mistral_7b_v03", 0, "\"model_type\" is \"mistral\""},
        {"qwen2_0_5b", 0, "\"model_type\" is \"qwen2\""},
        {"qwen2_7b", 0, "\"model_type\" is \"qwen2\""},
        {"qwen3_0.6b", 0, "\"model_type\" is \"qwen3\""},
        {"gemma2_2b", 0, "\"model_type\" is \"gemma2\""},
        {"gemma2_9b", 0, "\"model_type\" is \"gemma2\""},
        {"gemma2_27b", 0, "\"model_type\" is \"gemma2\""},
        {"olmo2_7b", 0, "\"model_type\" is \"olmo2\""},
        {"olmo2_13b", 0, "\"model_type\" is \"olmo2\""},
        {"gpt2", 0, "\"model_type\" is \"gpt2\""},
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
        lode_status_t status = lode_architecture_parse(&a, json, size, path);
        free(json);
        if (cases[i].refusal)
            LODE_ASSERT_FAILS(status, LODE_ERR_UNSUPPORTED, cases[i].refusal);
        else
            LODE_ASSERT_OK(status);
        if (!cases[i].refusal)
            assert_true((double)lode_architecture_parameters(&a) == cases[i].parameters);
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
        cmocka_unit_test(counts_parameters_and_operations),
        cmocka_unit_test(counts_the_largest_model),
        cmocka_unit_test(reads_the_published_configs),
        cmocka_unit_test(reads_the_config_of_a_folder),
    };
    return cmocka_run_group_tests_name("architecture", tests, NULL, NULL);
}
