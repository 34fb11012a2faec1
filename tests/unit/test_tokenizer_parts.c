/* Texts encoded in parts: wherever a tokenizer says that its parts join, their ids must be those of
 * the whole text. */
#include "testing/cmocka_all.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "testing/compare.h"
#include "testing/data.h"
#include "testing/tokenizer_json.h"
#include "text/tokenizer.h"

static json_t *vectors; /* tests/golden/tokenizer_vectors.json */

static int load_vectors(void **state) {
    (void)state;
    vectors = json_load_file("tests/golden/tokenizer_vectors.json", 0, NULL);
    return vectors ? 0 : -1;
}

static int free_vectors(void **state) {
    (void)state;
    json_decref(vectors);
    return 0;
}

static unsigned draw(unsigned *seed, unsigned bound) {
    *seed = *seed * 1103515245u + 12345u;
    return (*seed >> 16) % bound;
}

static void append_word(lode_buffer_t *text, unsigned *seed) {
    static const char *const words[] = {"the ", "then ", "rain ", "in ", "spain. "};
    const char *word = words[draw(seed, 5)];
    LODE_ASSERT_OK(lode_buffer_append(text, word, strlen(word)));
}

/* The texts of the vector file in any order, with words between. */
static void make_text(lode_buffer_t *text, unsigned seed, size_t length) {
    static const char *const words[] = {" the", " then", "\n", " rain", "x", ", ", " 12", "."};
    const json_t *texts = json_object_get(vectors, "texts");
    text->length = 0;
    while (text->length < length) {
        for (unsigned left = draw(&seed, 60); left > 0; left--) {
            const char *word = words[draw(&seed, 8)];
            LODE_ASSERT_OK(lode_buffer_append(text, word, strlen(word)));
        }
        const json_t *one = json_array_get(texts, draw(&seed, (unsigned)json_array_size(texts)));
        LODE_ASSERT_OK(lode_buffer_append(text, json_string_value(one), json_string_length(one)));
    }
}

typedef struct tally {
    int cuts, joined; /* cuts that were found, and those that held */
} tally_t;

/* Encodes a text in parts of about `step` bytes. Where a cut does not hold, goes on with the whole
 * up to the next one that does. */
static void check_parts(const char *label, const lode_tokenizer_t *tokenizer,
                        const lode_buffer_t *text, size_t step, tally_t *tally) {
    lode_buffer_t made = {0};
    int32_t *ids;
    int64_t count;
    size_t start = 0, cut, visible;
    bool found, joined;
    lode_encoder_t *encoder;
    LODE_ASSERT_OK(lode_encoder_create(&encoder, tokenizer, text->length));
    for (size_t from = step; start < text->length; from = cut + step) {
        cut = visible = text->length;
        found = false;
        if (from < text->length)
            LODE_ASSERT_OK(lode_tokenizer_find_cut(tokenizer, &found, text->data, text->length,
                                                   from, &cut, &visible));
        if (!found)
            cut = visible = text->length;
        const lode_text_part_t part = {.text = text->data + start,
                                       .length = cut - start,
                                       .visible = visible - start,
                                       .first = start == 0,
                                       .last = visible == text->length};
        const int32_t *id;
        LODE_ASSERT_OK(lode_encoder_encode(encoder, &part, true, &id, &count, &joined));
        tally->cuts += found;
        tally->joined += found && joined;
        assert_true(joined || found);
        if (joined) {
            LODE_ASSERT_OK(lode_buffer_append(&made, id, (size_t)count * sizeof *id));
            start = cut;
        }
    }
    LODE_ASSERT_OK(lode_tokenizer_encode(tokenizer, text->data, text->length, true, &ids, &count));
    int32_t *got = malloc(made.length + 1);
    memcpy(got, made.data, made.length);
    LODE_ASSERT_CLOSE(
        lode_compare_i32(label, got, (int64_t)(made.length / sizeof *got), ids, count));
    free(got);
    free(ids);
    lode_buffer_free(&made);
    lode_encoder_destroy(&encoder);
}

static lode_tokenizer_t *parse(json_t *json) {
    char *bytes = json_dumps(json, 0);
    lode_tokenizer_t *tokenizer;
    LODE_ASSERT_OK(lode_tokenizer_parse(&tokenizer, bytes, strlen(bytes), "my.json"));
    free(bytes);
    json_decref(json);
    return tokenizer;
}

/* Tokenizers that must say no: their steps look behind, replace more than one character or put
 * something before every piece; or they do not cut at all, and their merges cross every place. */
static bool refuses(const char *name) {
    static const char *const names[] = {"replace by pattern",
                                        "lookaround",
                                        "numbers",
                                        "no pattern",
                                        "llama",
                                        "no fallback",
                                        "no fusing",
                                        "part of a fallback",
                                        "part, no fusing",
                                        "unknowns dropped",
                                        "whole tokens",
                                        "metaspace first"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static void test_variants(void **state) {
    (void)state;
    size_t i;
    json_t *variant;
    lode_buffer_t text = {0};
    tally_t all = {0, 0};
    json_array_foreach(json_object_get(vectors, "variants"), i, variant) {
        const char *name = json_string_value(json_object_get(variant, "name"));
        json_t *json = lode_test_tokenizer(
            vectors, json_string_value(json_object_get(variant, "base")),
            json_object_get(variant, "members"), json_object_get(variant, "model"));
        assert_non_null(json);
        lode_tokenizer_t *tokenizer = parse(json);
        tally_t tally = {0, 0};
        for (unsigned seed = 1; seed <= 6; seed++) {
            make_text(&text, seed, 6000);
            check_parts(name, tokenizer, &text, 300 + 100 * seed, &tally);
        }
        if (refuses(name) != (tally.cuts == 0))
            fail_msg("%s: %d cuts", name, tally.cuts);
        all.cuts += tally.cuts;
        all.joined += tally.joined;
        lode_tokenizer_destroy(&tokenizer);
    }
    assert_true(all.joined > 1000);
    lode_buffer_free(&text);
}

/* Pieces of seven characters, whose ends depend on where the text began: a place tried from a
 * little before it is right one time in seven, and the others must be found out. */
static void test_counted(void **state) {
    (void)state;
    json_t *json = lode_test_tokenizer(vectors, "bytes", NULL, NULL);
    json_object_set_new(json, "pre_tokenizer",
                        json_pack("{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s, s:b, s:b}]}", "type",
                                  "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex",
                                  "[a-z .]{7}", "behavior", "Isolated", "type", "ByteLevel",
                                  "add_prefix_space", 0, "use_regex", 0));
    lode_tokenizer_t *tokenizer = parse(json);
    lode_buffer_t text = {0};
    tally_t tally = {0, 0};
    unsigned seed = 1;
    while (text.length < 60000)
        append_word(&text, &seed);
    check_parts("counted", tokenizer, &text, 650, &tally);

    assert_true(tally.cuts > 50 && tally.joined > 0 && tally.joined < tally.cuts / 2);
    lode_buffer_free(&text);
    lode_tokenizer_destroy(&tokenizer);
}

static void test_families(void **state) {
    (void)state;
    int found = 0;
    size_t i;
    json_t *family;
    lode_buffer_t text = {0};
    json_array_foreach(json_object_get(vectors, "families"), i, family) {
        const char *name = json_string_value(json_object_get(family, "path"));
        const char *path = lode_test_data(name);
        if (!path)
            continue;
        lode_tokenizer_t *tokenizer;
        LODE_ASSERT_OK(lode_tokenizer_load(&tokenizer, path));
        tally_t tally = {0, 0};
        for (unsigned seed = 1; seed <= 10; seed++) {
            make_text(&text, seed, 20000);
            check_parts(name, tokenizer, &text, 700, &tally);
        }
        assert_true(tally.joined > 100);
        lode_tokenizer_destroy(&tokenizer);
        found++;
    }
    lode_buffer_free(&text);
    if (!found)
        skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_counted),
        cmocka_unit_test(test_families),
    };
    return cmocka_run_group_tests(tests, load_vectors, free_vectors);
}
