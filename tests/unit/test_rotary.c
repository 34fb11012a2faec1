/* Rotary positions: frequencies and attention factors against transformers, and what config.json
 * may say of them. */
#include "testing/cmocka_all.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/architecture.h"
#include "testing/compare.h"

static lode_status_t parse(lode_architecture_t *out, const char *json) {
    return lode_architecture_parse(out, json, strlen(json), "x/config.json");
}

/* A small model with `pairs` at the end of its config. */
static lode_status_t parse_with(lode_architecture_t *out, const char *type, const char *pairs) {
    char json[2048];
    snprintf(json, sizeof json,
             "{\"model_type\":\"%s\",\"num_hidden_layers\":2,\"hidden_size\":64,"
             "\"intermediate_size\":24,\"num_attention_heads\":4,\"vocab_size\":50%s%s}",
             type, *pairs ? "," : "", pairs);
    return parse(out, json);
}

static void refuse(const char *type, const char *pairs, lode_status_t status, const char *part) {
    lode_architecture_t out;
    LODE_ASSERT_FAILS(parse_with(&out, type, pairs), status, part);
    assert_int_equal(out.layers, 0);
}

/* --- against transformers ------------------------------------------------------------------- */

static double number(json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void check_case(json_t *expected, json_t *config) {
    lode_architecture_t a;
    char *text = json_dumps(config, JSON_REAL_PRECISION(17));
    LODE_ASSERT_OK(parse(&a, text));
    json_t *list = json_object_get(expected, "frequencies");
    double frequencies[LODE_ROTARY_MAX_FREQUENCIES], factor;
    assert_int_equal(2 * (int64_t)json_array_size(list), a.rotary.dims);
    lode_rotary_frequencies(&a.rotary, (int64_t)number(expected, "length"), frequencies, &factor);
    assert_true(fabs(factor - number(expected, "attention_factor")) < 1e-14);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const double wanted = json_number_value(json_array_get(list, i));
        if (!(fabs(frequencies[i] - wanted) <= 1e-13 * wanted))
            fail_msg("%s: frequency %zu is %.17g, should be %.17g", text, i, frequencies[i],
                     wanted);
    }
    free(text);
}

/* The same settings in the spelling of transformers 4: rope_theta outside, "type" inside. */
static void respell(json_t *config) {
    json_t *rope = json_deep_copy(json_object_get(config, "rope_parameters"));
    json_object_set(config, "rope_theta", json_object_get(rope, "rope_theta"));
    json_object_set(rope, "type", json_object_get(rope, "rope_type"));
    json_object_del(rope, "rope_theta");
    json_object_del(rope, "rope_type");
    json_object_set_new(config, "rope_scaling", rope);
    json_object_del(config, "rope_parameters");
}

static void frequencies_are_those_of_transformers(void **state) {
    (void)state;
    json_t *cases = json_load_file("tests/golden/rotary.json", 0, NULL), *one;
    size_t i;
    assert_true(json_array_size(cases) > 15);
    json_array_foreach(cases, i, one) {
        json_t *config = json_pack(
            "{s:s, s:i, s:i, s:i, s:i, s:i, s:O, s:O}", "model_type", "llama", "num_hidden_layers",
            2, "hidden_size", 64, "intermediate_size", 24, "num_attention_heads", 4, "vocab_size",
            50, "max_position_embeddings", json_object_get(one, "max_position_embeddings"),
            "rope_parameters", json_object_get(one, "rope_parameters"));
        assert_non_null(config);
        check_case(one, config);
        respell(config);
        check_case(one, config);
        json_decref(config);
    }
    json_decref(cases);
}

static void plain_frequencies_are_powers_of_the_base(void **state) {
    (void)state;
    lode_architecture_t a;
    double frequencies[8], factor;
    LODE_ASSERT_OK(parse_with(&a, "llama", "\"rope_theta\":81"));
    assert_int_equal(a.rotary.kind, LODE_ROTARY_DEFAULT);
    assert_int_equal(a.rotary.dims, 16);
    lode_rotary_frequencies(&a.rotary, 1 << 20, frequencies, &factor);
    assert_true(factor == 1);
    for (int i = 0; i < 8; i++)
        assert_true(fabs(frequencies[i] - pow(3, -i / 2.0)) < 1e-15);
}

static void only_two_kinds_depend_on_the_length(void **state) {
    (void)state;
    lode_rotary_t rotary = {.kind = LODE_ROTARY_YARN, .dims = 2, .original_positions = 10};
    assert_false(lode_rotary_differs(&rotary, 3, 300));
    rotary.kind = LODE_ROTARY_LONGROPE;
    assert_false(lode_rotary_differs(&rotary, 3, 10));
    assert_true(lode_rotary_differs(&rotary, 10, 11));
    assert_false(lode_rotary_differs(&rotary, 11, 300));
    rotary.kind = LODE_ROTARY_DYNAMIC;
    assert_false(lode_rotary_differs(&rotary, 3, 10));
    assert_true(lode_rotary_differs(&rotary, 3, 11));
    assert_true(lode_rotary_differs(&rotary, 11, 12));
    assert_false(lode_rotary_differs(&rotary, 12, 12));
}

/* --- config.json ---------------------------------------------------------------------------- */

#define FACTORS "\"short_factor\":[1,1,1,1,1,1,1,1],\"long_factor\":[2,2,2,2,2,2,2,2]"

static void phi3_has_its_own_rules(void **state) {
    (void)state;
    lode_architecture_t a;
    LODE_ASSERT_OK(parse_with(&a, "phi3", "\"partial_rotary_factor\":0.75"));
    assert_int_equal(a.rotary.dims, 12);
    LODE_ASSERT_OK(parse_with(&a, "phi3",
                              "\"rope_scaling\":{\"type\":\"su\"," FACTORS
                              "},\"max_position_embeddings\":131072"));
    assert_int_equal(a.rotary.kind, LODE_ROTARY_LONGROPE);
    assert_int_equal(a.rotary.original_positions, 4096);
    assert_true(fabs(a.rotary.attention_factor - 1.1902380714238083) < 1e-15);
    LODE_ASSERT_OK(parse_with(&a, "phi3",
                              "\"rope_scaling\":{\"type\":\"yarn\"," FACTORS
                              "},\"original_max_position_embeddings\":64"));
    assert_int_equal(a.rotary.kind, LODE_ROTARY_LONGROPE);
    assert_int_equal(a.rotary.original_positions, 64);
    refuse("phi3", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}", LODE_ERR_UNSUPPORTED,
           "\"rope_scaling\" is \"linear\", which this version does not implement; supported: "
           "\"default\", \"longrope\"");
    refuse("phi3", "\"partial_rotary_factor\":0.7", LODE_ERR_FORMAT, "turn 11 of the 16 elements");
    refuse("phi3", "\"partial_rotary_factor\":1.5", LODE_ERR_FORMAT, "must be at most 1");
    refuse(
        "phi3",
        "\"rope_scaling\":{\"type\":\"longrope\",\"original_max_position_embeddings\":32," FACTORS
        "}",
        LODE_ERR_FORMAT, "\"original_max_position_embeddings\" is 4096 by default and");
    refuse("phi3",
           "\"original_max_position_embeddings\":64,\"rope_scaling\":{\"type\":\"longrope\","
           "\"original_max_position_embeddings\":32," FACTORS "}",
           LODE_ERR_FORMAT, "\"original_max_position_embeddings\" is 64 and \"rope_scaling\"");
}

static void refuses_settings_that_are_incomplete(void **state) {
    (void)state;
    static const struct {
        const char *pairs, *part;
        lode_status_t status;
    } cases[] = {
        {"\"rope_scaling\":{\"type\":\"linear\"}", "\"rope_scaling\" has no \"factor\"",
         LODE_ERR_FORMAT},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}", "\"factor\" is 0, must be",
         LODE_ERR_FORMAT},
        {"\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1}",
         "\"rope_parameters\" has no \"high_freq_factor\"", LODE_ERR_FORMAT},
        {"\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":2,"
         "\"high_freq_factor\":2}",
         "\"high_freq_factor\" 2 is not above", LODE_ERR_FORMAT},
        {"\"rope_parameters\":{\"rope_type\":\"yarn\"}", "has no \"factor\"", LODE_ERR_FORMAT},
        {"\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":2,\"rope_theta\":1}",
         "\"rope_theta\" is 1", LODE_ERR_FORMAT},
        {"\"rope_parameters\":{\"rope_type\":\"longrope\"}", "has no \"short_factor\"",
         LODE_ERR_FORMAT},
        {"\"rope_parameters\":{\"rope_type\":\"longrope\",\"short_factor\":[1]}",
         "\"short_factor\" must be a list of 8 numbers", LODE_ERR_FORMAT},
        {"\"rope_parameters\":{\"rope_type\":\"longrope\",\"short_factor\":[1,1,1,1,1,1,1,-1]}",
         "\"short_factor\" is -1, must be a list of numbers above 0", LODE_ERR_FORMAT},
        {"\"rope_parameters\":{\"rope_type\":\"proportional\"}", "\"rope_parameters\" is \"prop",
         LODE_ERR_UNSUPPORTED},
        {"\"rope_parameters\":{\"rope_type\":\"mrope\"}", "supported: \"default\", \"linear\"",
         LODE_ERR_UNSUPPORTED},
        {"\"rope_parameters\":{\"rope_type\":\"default\"},\"rope_scaling\":{\"type\":\"linear\","
         "\"factor\":2}",
         "\"rope_scaling\" and \"rope_parameters\" differ", LODE_ERR_FORMAT},
        {"\"rope_theta\":1e300,\"rope_scaling\":{\"type\":\"linear\",\"factor\":1e-310}",
         "frequencies that are no numbers", LODE_ERR_FORMAT},
        {"\"head_dim\":1024", "rotary positions turn 1024", LODE_ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuse("llama", cases[i].pairs, cases[i].status, cases[i].part);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_are_those_of_transformers),
        cmocka_unit_test(plain_frequencies_are_powers_of_the_base),
        cmocka_unit_test(only_two_kinds_depend_on_the_length),
        cmocka_unit_test(phi3_has_its_own_rules),
        cmocka_unit_test(refuses_settings_that_are_incomplete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
