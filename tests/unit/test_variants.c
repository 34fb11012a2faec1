/* prune/variants: the product of an experiment's lists, without doubles. */
#include "testing/cmocka_all.h"

#include <string.h>

#include "prune/prune.h"
#include "testing/compare.h"

static lode_config_t *parse(const char *prune) {
    char text[1024];
    snprintf(text, sizeof text,
             "name = \"x\"; models = ( { name = \"m\"; path = \"m\"; } );\n"
             "calibration = { corpus = \"c.txt\"; };\nprune = { %s };\n",
             prune);
    lode_config_t *config;
    LODE_ASSERT_OK(lode_config_parse(&config, text, strlen(text), "exp.cfg"));
    return config;
}

/* Names of all variants, one a line. */
static void assert_names(const char *prune, const char *expected) {
    lode_config_t *config = parse(prune);
    lode_variant_t *variants;
    int64_t count;
    lode_buffer_t names = {0};
    LODE_ASSERT_OK(lode_variants_list(&variants, &count, config));
    LODE_ASSERT_OK(lode_buffer_printf(&names, "%s", ""));
    for (int64_t i = 0; i < count; i++)
        LODE_ASSERT_OK(lode_buffer_printf(&names, "%s\n", variants[i].name));
    assert_string_equal(names.data, expected);
    lode_buffer_free(&names);
    lode_variants_free(&variants, count);
    assert_null(variants);
    lode_config_destroy(&config);
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products),
                                       cmocka_unit_test(test_doubles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
