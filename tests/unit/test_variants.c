/* common/variants: the product of an experiment's lists, without doubles. */
#include "testing/cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "common/variants.h"
#include "testing/compare.h"

/* An experiment with these keys of `prune`, and others after it. */
static lode_config_t *parse_with(const char *prune, const char *more) {
    char text[2048];
    snprintf(text, sizeof text,
             "name = \"x\"; models = ( { name = \"m\"; path = \"m\"; } );\n"
             "calibration = { corpus = \"c.txt\"; };\nprune = { %s };\n%s",
             prune, more);
    lode_config_t *config;
    LODE_ASSERT_OK(lode_config_parse(&config, text, strlen(text), "exp.cfg"));
    return config;
}

/* That a name says all that its variant is. */
static void assert_parsed(const lode_variant_t *variants, int64_t index) {
    const lode_variant_t *v = &variants[index];
    lode_variant_t parsed;
    size_t base;
    assert_int_equal(lode_variants_parse(&parsed, &base, v->name), !v->pruned);
    assert_int_equal(v->pruned + v->experiment + v->quantized, 1);
    if (v->pruned)
        return;
    const char *start = v->base < 0 ? "" : variants[v->base].name;
    assert_int_equal(base, strlen(start));
    assert_memory_equal(v->name, start, base);
    assert_true(parsed.experiment == v->experiment && parsed.quantized == v->quantized);
    if (v->experiment)
        assert_true(parsed.what == v->what && parsed.factor == v->factor);
    else
        assert_true(parsed.quantizer == v->quantizer && parsed.bits == v->bits &&
                    lode_granularity_equal(parsed.granularity, v->granularity) &&
                    parsed.clip == v->clip && parsed.activations == v->activations &&
                    parsed.protection == v->protection);
}

/* Names of all variants, one a line. */
static void assert_all_names(const char *prune, const char *more, const char *expected) {
    lode_config_t *config = parse_with(prune, more);
    lode_variant_t *variants, *pruned;
    int64_t count, pruned_count;
    lode_buffer_t names = {0};
    LODE_ASSERT_OK(lode_variants_list(&variants, &count, config));
    LODE_ASSERT_OK(lode_variants_pruned(&pruned, &pruned_count, config));
    LODE_ASSERT_OK(lode_buffer_printf(&names, "%s", ""));
    for (int64_t i = 0; i < count; i++) {
        LODE_ASSERT_OK(lode_buffer_printf(&names, "%s\n", variants[i].name));
        assert_int_equal(variants[i].pruned, i < pruned_count);
        if (i < pruned_count)
            assert_string_equal(variants[i].name, pruned[i].name);
        assert_ptr_equal(lode_variants_find(variants, count, variants[i].name), &variants[i]);
        assert_parsed(variants, i);
    }
    assert_string_equal(names.data, expected);
    lode_buffer_free(&names);
    lode_variants_free(&variants, count);
    lode_variants_free(&pruned, pruned_count);
    assert_null(variants);
    lode_config_destroy(&config);
}

static void assert_names(const char *prune, const char *expected) {
    assert_all_names(prune, "", expected);
}

static void test_products(void **state) {
    (void)state;
    assert_names("methods = [ ];", "");
    assert_names("methods = [ \"lp\", \"flap\" ]; sparsity = ( 0.25, 0.5 );",
                 "lp@0.25\nlp@0.5\nflap@0.25\nflap@0.5\n");
    assert_names(
        "methods = [ \"lp\" ]; sparsity = ( 0.5 ); allocation = [ \"uniform\", \"global\" ]; "
        "compensation = [ \"none\", \"bias\", \"least-squares\", \"sequential\" ];",
        "lp@0.5\nlp@0.5+bias\nlp@0.5+least-squares\nlp@0.5+sequential\nlp@0.5+global\n"
        "lp@0.5+global+bias\nlp@0.5+global+least-squares\nlp@0.5+global+sequential\n");
    assert_names("methods = [ \"lp\" ]; sparsity = ( 0.5 ); compensation = [ \"sequential\" ];",
                 "lp@0.5+sequential\n");
}

/* A method's own core is the default one, under one name. */
static void test_doubles(void **state) {
    (void)state;
    assert_names(
        "methods = [ \"scar-lp\", \"lp\" ]; sparsity = ( 0.5 ); "
        "cores = [ \"default\", \"lp\", \"none\" ]; compensation = [ \"none\", \"bias\" ];",
        "scar-lp@0.5\nscar-lp@0.5+bias\nscar-lp@0.5~none\nscar-lp@0.5~none+bias\n"
        "lp@0.5\nlp@0.5+bias\nlp@0.5~lp\nlp@0.5~lp+bias\n");
}

#define PROMPTS "prompts = [ \"p\" ]; "

static void test_experiments(void **state) {
    (void)state;
    assert_all_names("methods = [ \"lp\" ];",
                     "superweight = { " PROMPTS "experiments = [ \"others-tensor\", \"scale\", "
                     "\"prune\", \"restore\", \"others-global\" ]; scales = ( 0, 1.5, 1e-5 ); };",
                     "lp@0.5\nsuper-weight:others-tensor\nsuper-weight:scale-0\n"
                     "super-weight:scale-1.5\nsuper-weight:scale-1e-05\nsuper-weight:prune\n"
                     "super-weight:restore\nsuper-weight:others-global\n");
}

static void test_quantized(void **state) {
    (void)state;
    assert_all_names("methods = [ ];", "quantize = { methods = [ \"rtn\", \"lp\" ]; };",
                     "int4-channel\nlp4-channel\n");
    assert_all_names(
        "methods = [ ];",
        "quantize = { methods = [ \"rtn\" ]; bits = ( 8, 3 ); granularity = [ \"tensor\", "
        "\"block-128\" ]; clip = [ \"none\", \"searched\" ]; };",
        "int8-tensor\nint8-tensor-clip\nint8-block-128\nint8-block-128-clip\n"
        "int3-tensor\nint3-tensor-clip\nint3-block-128\nint3-block-128-clip\n");
    assert_all_names("methods = [ ];",
                     "superweight = { " PROMPTS
                     "}; quantize = { methods = [ \"rtn\" ]; bits = ( 8 ); "
                     "activations = [ \"none\", \"token-held\", \"tensor-smooth\" ]; "
                     "protection = [ \"none\", \"both\" ]; };",
                     "int8-channel\nint8-channel:both\nint8-channel-a8-token-held\n"
                     "int8-channel-a8-token-held:both\nint8-channel-a8-tensor-smooth\n"
                     "int8-channel-a8-tensor-smooth:both\n");
    assert_all_names(
        "methods = [ \"lp\" ]; compensation = [ \"none\", \"bias\" ];",
        "quantize = { methods = [ \"rtn\" ]; granularity = [ \"group-64\" ]; clip = [ "
        "\"searched\" ]; protection = [ \"supernode\" ]; pruned = true; };",
        "lp@0.5\nlp@0.5+bias\nint4-group-64-clip:supernode\n"
        "lp@0.5:int4-group-64-clip:supernode\nlp@0.5+bias:int4-group-64-clip:supernode\n");
    /* mixed precision alone has rows and columns for blocks */
    assert_all_names("methods = [ ];",
                     "quantize = { methods = [ \"rtn\", \"lp\" ]; tensors = \"ffn\"; granularity = "
                     "[ \"group-64\", \"tensor\" ]; };",
                     "int4-group-64\nint4-tensor\nlp4-channel\n");
    assert_all_names(
        "methods = [ ];",
        "quantize = { methods = [ \"lp\" ]; granularity = [ \"group-64\", \"tensor\" ]; };",
        "lp4-group-64\nlp4-tensor\n");
}

static void test_sparsities(void **state) {
    (void)state;
    lode_variant_t *variants;
    int64_t count;
    lode_config_t *config =
        parse_with("methods = [ \"lp\" ]; sparsity = ( 0.25, 0.5 );",
                   "superweight = { " PROMPTS "experiments = [ \"prune\" ]; };\n"
                   "quantize = { methods = [ \"rtn\" ]; pruned = true; };");
    static const double expected[] = {0.25, 0.5, 0, 0, 0.25, 0.5};
    LODE_ASSERT_OK(lode_variants_list(&variants, &count, config));
    assert_int_equal(count, 6);
    for (int64_t i = 0; i < count; i++)
        assert_true(lode_variants_sparsity(variants, i) == expected[i]);
    lode_variants_free(&variants, count);
    lode_config_destroy(&config);
}

static void test_names_that_are_none(void **state) {
    (void)state;
    static const char *const names[] = {"",
                                        "dense",
                                        "lp@0.5",
                                        "lp@0.5+bias",
                                        "int4",
                                        "int9-channel",
                                        "int1-channel",
                                        "int44-channel",
                                        "int4-",
                                        "int4-group-1",
                                        "int4-channel:",
                                        "int4-channel:none",
                                        ":int4-channel",
                                        "super-weight:both",
                                        "int4-channel:both:both",
                                        "int4-clip",
                                        "int4-channel-a8",
                                        "int4-channel-a8-",
                                        "int4-channel-a8-none",
                                        "int4-channel-a8-token-clip",
                                        "super-weight:",
                                        "super-weight:scale",
                                        "super-weight:scale-",
                                        "super-weight:scale-1.50",
                                        "super-weight:scale-x",
                                        "both"};
    lode_variant_t variant;
    size_t base;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (lode_variants_parse(&variant, &base, names[i]))
            fail_msg("\"%s\" is taken for a variant", names[i]);
    assert_true(lode_variants_parse(&variant, &base, "whatever:int4-channel:both"));
    assert_int_equal(base, 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),    cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_experiments), cmocka_unit_test(test_quantized),
        cmocka_unit_test(test_sparsities),  cmocka_unit_test(test_names_that_are_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
