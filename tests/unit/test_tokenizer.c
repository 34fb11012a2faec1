/* The tokenizer against ids of the `tokenizers` library (golden/tokenizer_vectors.py), and against
 * files that are wrong. The tokenizers of published models are checked where the data folder is. */
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
    json_error_t problem;
    vectors = json_load_file("tests/golden/tokenizer_vectors.json", 0, &problem);
    if (!vectors)
        fprintf(stderr, "tests/golden/tokenizer_vectors.json: %s\n", problem.text);
    return vectors ? 0 : -1;
}

static int free_vectors(void **state) {
    (void)state;
    json_decref(vectors);
    return 0;
}

static lode_status_t parse_json(lode_tokenizer_t **tokenizer, const json_t *json) {
    char *text = json_dumps(json, 0);
    assert_non_null(text);
    lode_status_t status = lode_tokenizer_parse(tokenizer, text, strlen(text), "my.json");
    free(text);
    return status;
}

/* One text, against a JSON array of ids. */
static void assert_ids(const lode_tokenizer_t *tokenizer, const char *name, const json_t *text,
                       bool add_special, const json_t *want) {
    int32_t *ids, expected[4096];
    int64_t count;
    size_t wanted = json_array_size(want);
    assert_true(json_is_array(want) && wanted <= 4096);
    for (size_t i = 0; i < wanted; i++)
        expected[i] = (int32_t)json_integer_value(json_array_get(want, i));
    LODE_ASSERT_OK(lode_tokenizer_encode(tokenizer, json_string_value(text),
                                         json_string_length(text), add_special, &ids, &count));
    char label[256];
    snprintf(label, sizeof label, "%.60s: \"%.80s\"", name, json_string_value(text));
    LODE_ASSERT_CLOSE(lode_compare_i32(label, ids, count, expected, (int64_t)wanted));
    free(ids);
}

/* All texts of the vector file, against an array with the ids of each. */
static void assert_all(const lode_tokenizer_t *tokenizer, const char *name, bool add_special,
                       const json_t *want) {
    const json_t *texts = json_object_get(vectors, "texts");
    assert_true(json_array_size(texts) > 40);
    assert_int_equal(json_array_size(texts), json_array_size(want));
    for (size_t i = 0; i < json_array_size(texts); i++)
        assert_ids(tokenizer, name, json_array_get(texts, i), add_special, json_array_get(want, i));
}

static json_t *make_variant(const char *base, json_t *members, json_t *model) {
    json_t *made = lode_test_tokenizer(vectors, base, members, model);
    assert_non_null(made);
    return made;
}

static void test_variants(void **state) {
    (void)state;
    size_t i;
    json_t *variant;
    assert_true(json_array_size(json_object_get(vectors, "variants")) > 30);
    json_array_foreach(json_object_get(vectors, "variants"), i, variant) {
        const char *name = json_string_value(json_object_get(variant, "name"));
        json_t *json =
            make_variant(json_string_value(json_object_get(variant, "base")),
                         json_object_get(variant, "members"), json_object_get(variant, "model"));
        lode_tokenizer_t *tokenizer;
        LODE_ASSERT_OK(parse_json(&tokenizer, json));
        const json_t *plain = json_object_get(variant, "ids");
        const json_t *special = json_object_get(variant, "special_ids");
        assert_all(tokenizer, name, false, plain);
        assert_all(tokenizer, name, true, special ? special : plain);
        lode_tokenizer_destroy(&tokenizer);
        json_decref(json);
    }
}

static void test_families(void **state) {
    (void)state;
    int found = 0;
    size_t i;
    json_t *family;
    json_array_foreach(json_object_get(vectors, "families"), i, family) {
        const char *name = json_string_value(json_object_get(family, "path"));
        const char *path = lode_test_data(name);
        if (!path)
            continue;
        lode_tokenizer_t *tokenizer;
        LODE_ASSERT_OK(lode_tokenizer_load(&tokenizer, path));
        assert_all(tokenizer, name, true, json_object_get(family, "ids"));
        lode_tokenizer_destroy(&tokenizer);
        found++;
    }
    if (!found)
        skip();
}

/* Pairs of text and ids from llama.cpp's vocabulary tests, without BOS. */
static void test_published(void **state) {
    (void)state;
    static const char *const names[] = {"llama-2", "llama-3.1", "qwen2", "gpt-2"};
    int found = 0;
    for (int n = 0; n < 4; n++) {
        char relative[128];
        snprintf(relative, sizeof relative, "tokenizers/%s/vectors.json", names[n]);
        const char *path = lode_test_data(relative);
        json_t *pairs = path ? json_load_file(path, 0, NULL) : NULL;
        if (!pairs)
            continue;
        snprintf(relative, sizeof relative, "tokenizers/%s/tokenizer.json", names[n]);
        lode_tokenizer_t *tokenizer;
        LODE_ASSERT_OK(lode_tokenizer_load(&tokenizer, lode_test_data(relative)));
        assert_true(json_array_size(pairs) > 20);
        for (size_t i = 0; i < json_array_size(pairs); i++) {
            const json_t *pair = json_array_get(pairs, i);
            assert_ids(tokenizer, names[n], json_object_get(pair, "text"), false,
                       json_object_get(pair, "ids"));
        }
        lode_tokenizer_destroy(&tokenizer);
        json_decref(pairs);
        found++;
    }
    if (!found)
        skip();
}

/* --- what is asked of a tokenizer ----------------------------------------------------------- */

static void test_questions(void **state) {
    (void)state;
    json_t *bare = make_variant("characters", NULL, NULL), *members = NULL;
    size_t i;
    json_t *variant;
    json_array_foreach(
        json_object_get(vectors, "variants"), i,
        variant) if (strcmp(json_string_value(json_object_get(variant, "name")), "llama") == 0)
        members = json_object_get(variant, "members");
    assert_non_null(members);
    lode_tokenizer_t *tokenizer;
    int32_t bos = 7;
    const char *text;
    LODE_ASSERT_OK(parse_json(&tokenizer, bare));
    assert_false(lode_tokenizer_adds_bos(tokenizer));
    assert_false(lode_tokenizer_bos(tokenizer, &bos));
    assert_int_equal(bos, -1);
    int32_t size = lode_tokenizer_vocab_size(tokenizer);
    assert_int_equal(size,
                     json_object_size(json_object_get(json_object_get(bare, "model"), "vocab")));
    lode_tokenizer_destroy(&tokenizer);

    json_object_update(bare, members);
    json_array_append_new(
        json_object_get(bare, "added_tokens"),
        json_pack("{s:i, s:s, s:b}", "id", (int)size, "content", "<extra>", "normalized", 0));
    LODE_ASSERT_OK(parse_json(&tokenizer, bare));
    assert_true(lode_tokenizer_bos(tokenizer, &bos));
    assert_int_equal(bos, 1);
    assert_int_equal(lode_tokenizer_vocab_size(tokenizer), size + 1);
    LODE_ASSERT_OK(lode_tokenizer_token(tokenizer, size, &text));
    assert_string_equal(text, "<extra>");
    LODE_ASSERT_OK(lode_tokenizer_token(tokenizer, 3 + 0x41, &text));
    assert_string_equal(text, "<0x41>");
    LODE_ASSERT_FAILS(lode_tokenizer_token(tokenizer, size + 1, &text), LODE_ERR_INPUT, "my.json");
    assert_string_equal(text, "");
    LODE_ASSERT_FAILS(lode_tokenizer_token(tokenizer, -1, &text), LODE_ERR_INPUT, "-1");
    int32_t *ids;
    int64_t count;
    LODE_ASSERT_FAILS(lode_tokenizer_encode(tokenizer, "ab\xC3", 3, true, &ids, &count),
                      LODE_ERR_FORMAT, "offset 2");
    assert_null(ids);
    LODE_ASSERT_OK(lode_tokenizer_encode(tokenizer, "a\0b", 3, false, &ids, &count));
    assert_true(count == 4 && ids[2] == 3); /* ▁ a <0x00> b */
    free(ids);
    lode_tokenizer_destroy(&tokenizer);
    assert_null(tokenizer);
    lode_tokenizer_destroy(&tokenizer);
    json_decref(bare);
}

/* --- long texts ----------------------------------------------------------------------------- */

static lode_tokenizer_t *base_tokenizer(const char *base) {
    lode_tokenizer_t *tokenizer;
    json_t *json = make_variant(base, NULL, NULL);
    LODE_ASSERT_OK(parse_json(&tokenizer, json));
    json_decref(json);
    return tokenizer;
}

/* A text that is long enough for the word cache and the heap, against its words encoded alone. */
static void test_cache(void **state) {
    (void)state;
    static const char *const words[] = {" the", " then", " q\xC3\xA9z", " mainlytherain",
                                        " \xE4\xBD\xA0"};
    lode_tokenizer_t *tokenizer = base_tokenizer("bytes");
    lode_buffer_t text = {0};
    int32_t *want = malloc(100000 * sizeof *want);
    int64_t wanted = 0;
    for (unsigned i = 0, draw = 1; i < 4000; i++) {
        int32_t *ids;
        int64_t count;
        draw = draw * 1103515245u + 12345u;
        const char *word = words[(draw >> 16) % 5];
        LODE_ASSERT_OK(lode_buffer_append(&text, word, strlen(word)));
        LODE_ASSERT_OK(lode_tokenizer_encode(tokenizer, word, strlen(word), false, &ids, &count));
        assert_true(wanted + count < 100000);
        memcpy(want + wanted, ids, (size_t)count * sizeof *want);
        wanted += count;
        free(ids);
    }
    int32_t *ids;
    int64_t count;
    LODE_ASSERT_OK(lode_tokenizer_encode(tokenizer, text.data, text.length, false, &ids, &count));
    LODE_ASSERT_CLOSE(lode_compare_i32("cached", ids, count, want, wanted));
    free(ids);
    free(want);
    lode_buffer_free(&text);
    lode_tokenizer_destroy(&tokenizer);
}

static void encode(const lode_tokenizer_t *tokenizer, const char *text, size_t length,
                   int32_t **ids, int64_t *count) {
    LODE_ASSERT_OK(lode_tokenizer_encode(tokenizer, text, length, false, ids, count));
}

/* Appends a word that no merge joins with its neighbours: none has an x. */
static void append_word(lode_buffer_t *text, unsigned *draw) {
    static const char *const parts[] = {"the", "m", "other", "in", "ain", "st", "mm", "o", "a"};
    *draw = *draw * 1103515245u + 12345u;
    for (unsigned left = 1 + (*draw >> 16) % 5; left > 0; left--) {
        *draw = *draw * 1103515245u + 12345u;
        const char *part = parts[(*draw >> 16) % 9];
        LODE_ASSERT_OK(lode_buffer_append(text, part, strlen(part)));
    }
    LODE_ASSERT_OK(lode_buffer_append(text, "x", 1));
}

/* One megabyte without a space, merged by the heap, against its words, merged by scanning. Takes
 * minutes where merging is quadratic. */
static void test_long_piece(void **state) {
    (void)state;
    static const char *const bases[] = {"characters", "bytes"};
    for (int b = 0; b < 2; b++) {
        json_t *json = make_variant(bases[b], NULL, NULL);
        json_object_set_new(json, "normalizer", json_null());
        lode_tokenizer_t *tokenizer;
        LODE_ASSERT_OK(parse_json(&tokenizer, json));
        lode_buffer_t text = {0}, want = {0};
        int32_t *ids;
        int64_t count;
        for (unsigned draw = 1; text.length < 1000000;) {
            size_t start = text.length;
            append_word(&text, &draw);
            encode(tokenizer, text.data + start, text.length - start, &ids, &count);
            LODE_ASSERT_OK(lode_buffer_append(&want, ids, (size_t)count * sizeof *ids));
            free(ids);
        }
        encode(tokenizer, text.data, text.length, &ids, &count);
        int64_t wanted = (int64_t)(want.length / sizeof *ids);
        assert_true(wanted < (int64_t)text.length * 3 / 4); /* something was merged */
        int32_t *expected = malloc(want.length);
        memcpy(expected, want.data, want.length);
        LODE_ASSERT_CLOSE(lode_compare_i32(bases[b], ids, count, expected, wanted));
        free(expected);
        free(ids);
        lode_buffer_free(&text);
        lode_buffer_free(&want);
        lode_tokenizer_destroy(&tokenizer);
        json_decref(json);
    }
}

/* A run of marks in the worst order, which takes minutes where sorting it is quadratic. */
static void test_long_marks(void **state) {
    (void)state;
    enum { PAIRS = 100000 };
    json_t *json = make_variant("bytes", NULL, NULL);
    json_object_set_new(json, "normalizer", json_pack("{s:s}", "type", "NFC"));
    lode_tokenizer_t *tokenizer;
    LODE_ASSERT_OK(parse_json(&tokenizer, json));
    char *text = malloc(4 * PAIRS), *sorted = malloc(4 * PAIRS);
    for (int i = 0; i < PAIRS; i++) {
        memcpy(text + 4 * i, "\xCC\x80\xCC\xA3", 4); /* U+0300 of class 230, U+0323 of 220 */
        memcpy(sorted + 2 * i, "\xCC\xA3", 2);
        memcpy(sorted + 2 * (PAIRS + i), "\xCC\x80", 2);
    }
    int32_t *got, *want;
    int64_t got_count, want_count;
    encode(tokenizer, text, 4 * PAIRS, &got, &got_count);
    encode(tokenizer, sorted, 4 * PAIRS, &want, &want_count);
    LODE_ASSERT_CLOSE(lode_compare_i32("marks", got, got_count, want, want_count));
    free(got);
    free(want);
    free(text);
    free(sorted);
    lode_tokenizer_destroy(&tokenizer);
    json_decref(json);
}

/* --- files that are wrong ------------------------------------------------------------------- */

typedef struct wrong {
    const char *path;  /* members from the root, with dots between */
    const char *value; /* JSON, "" to remove the member */
    lode_status_t status;
    const char *part; /* of the message */
} wrong_t;

static const wrong_t WRONG[] = {
    {"version", "\"2.0\"", LODE_ERR_UNSUPPORTED, "2.0"},
    {"version", "1", LODE_ERR_FORMAT, "version"},
    {"model", "", LODE_ERR_FORMAT, "\"model\" is missing"},
    {"model", "[]", LODE_ERR_FORMAT, "must be an object"},
    {"model.type", "\"Unigram\"", LODE_ERR_UNSUPPORTED, "Unigram"},
    {"model.dropout", "0.1", LODE_ERR_UNSUPPORTED, "dropout"},
    {"model.continuing_subword_prefix", "\"##\"", LODE_ERR_UNSUPPORTED, "continuing_subword"},
    {"model.end_of_word_suffix", "\"</w>\"", LODE_ERR_UNSUPPORTED, "end_of_word"},
    {"model.byte_fallback", "1", LODE_ERR_FORMAT, "byte_fallback"},
    {"model.unk_token", "3", LODE_ERR_FORMAT, "unk_token"},
    {"model.vocab", "", LODE_ERR_FORMAT, "\"vocab\" is missing"},
    {"model.vocab", "[]", LODE_ERR_FORMAT, "vocab"},
    {"model.vocab", "{}", LODE_ERR_FORMAT, "empty"},
    {"model.vocab.the", "1.5", LODE_ERR_FORMAT, "the id of \"the\""},
    {"model.vocab.the", "-1", LODE_ERR_FORMAT, "-1"},
    {"model.vocab.the", "99999999999999", LODE_ERR_FORMAT, "99999999999999"},
    {"model.vocab.the", "2147483647", LODE_ERR_FORMAT, "2147483647"},
    {"model.vocab.the", "0", LODE_ERR_FORMAT, "same id 0"},
    {"model.merges", "", LODE_ERR_FORMAT, "\"merges\" is missing"},
    {"model.merges", "{}", LODE_ERR_FORMAT, "merges"},
    {"model.merges", "[\"h e\", \"t\"]", LODE_ERR_FORMAT, "merge 1 is neither"},
    {"model.merges", "[\"t h e\"]", LODE_ERR_FORMAT, "merge 0 is neither"},
    {"model.merges", "[[\"t\", \"h\", \"e\"]]", LODE_ERR_FORMAT, "merge 0 is neither"},
    {"model.merges", "[[\"t\", 1]]", LODE_ERR_FORMAT, "merge 0 is neither"},
    {"model.merges", "[7]", LODE_ERR_FORMAT, "merge 0 is neither"},
    {"model.merges", "[\"t nosuch\"]", LODE_ERR_FORMAT, "\"nosuch\""},
    {"model.merges", "[\"x x\"]", LODE_ERR_FORMAT, "\"xx\""},
    {"normalizer", "{}", LODE_ERR_FORMAT, "\"type\" is missing"},
    {"normalizer", "\"NFC\"", LODE_ERR_FORMAT, "normalizer"},
    {"normalizer", "{\"type\": \"BertNormalizer\"}", LODE_ERR_UNSUPPORTED, "BertNormalizer"},
    {"normalizer", "{\"type\": \"Prepend\"}", LODE_ERR_FORMAT, "\"prepend\" is missing"},
    {"normalizer", "{\"type\": \"Sequence\"}", LODE_ERR_FORMAT, "normalizers"},
    {"normalizer", "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Nmt\"}]}",
     LODE_ERR_UNSUPPORTED, "Nmt"},
    {"normalizer", "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}, \"content\": \"\"}",
     LODE_ERR_UNSUPPORTED, "empty pattern"},
    {"normalizer", "{\"type\": \"Replace\", \"pattern\": {\"Glob\": \"\"}, \"content\": \"\"}",
     LODE_ERR_FORMAT, "pattern"},
    {"pre_tokenizer", "{\"type\": \"Whitespace\"}", LODE_ERR_UNSUPPORTED, "Whitespace"},
    {"pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"ab\"}", LODE_ERR_FORMAT,
     "one character"},
    {"pre_tokenizer",
     "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"maybe\"}",
     LODE_ERR_UNSUPPORTED, "maybe"},
    {"pre_tokenizer",
     "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"first\", "
     "\"add_prefix_space\": false}",
     LODE_ERR_FORMAT, "add_prefix_space"},
    {"pre_tokenizer",
     "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\"}, {\"type\": "
     "\"Digits\"}]}",
     LODE_ERR_UNSUPPORTED, "behind \"ByteLevel\""},
    {"pre_tokenizer",
     "{\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": \"Eaten\"}",
     LODE_ERR_UNSUPPORTED, "Eaten"},
    {"post_processor", "{\"type\": \"BertProcessing\"}", LODE_ERR_UNSUPPORTED, "BertProcessing"},
    {"post_processor", "[]", LODE_ERR_FORMAT, "post_processor"},
    {"post_processor", "{\"type\": \"TemplateProcessing\", \"single\": [], \"special_tokens\": {}}",
     LODE_ERR_UNSUPPORTED, "\"A\""},
    {"post_processor",
     "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}], "
     "\"special_tokens\": {}}",
     LODE_ERR_FORMAT, "\"<s>\" is missing"},
    {"post_processor",
     "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"a\"}}, "
     "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"a\": {\"ids\": [99999]}}}",
     LODE_ERR_FORMAT, "no token has the id 99999"},
    {"added_tokens", "{}", LODE_ERR_FORMAT, "added_tokens"},
    {"added_tokens", "[1]", LODE_ERR_FORMAT, "an entry"},
    {"added_tokens", "[{\"id\": 1, \"content\": \"<unk>\"}]", LODE_ERR_FORMAT, "id 1 where 0"},
    {"added_tokens", "[{\"id\": 5000, \"content\": \"new\"}]", LODE_ERR_FORMAT, "id 5000"},
    {"added_tokens",
     "[{\"id\": 420, \"content\": \" zz\"}, {\"id\": 421, \"content\": \"\xE2\x96\x81zz\"}]",
     LODE_ERR_FORMAT, "same text"},
    {"added_tokens", "[{\"id\": 420, \"content\": \"z\"}, {\"id\": 421, \"content\": \"z\"}]",
     LODE_ERR_FORMAT, "420 and 421"},
    {"added_tokens", "[{\"id\": 421, \"content\": \"z\"}, {\"id\": 420, \"content\": \"y\"}]",
     LODE_ERR_FORMAT, "id 421 where 420"},
    {"added_tokens", "[{\"content\": \"<unk>\"}]", LODE_ERR_FORMAT, "not an integer"},
};

/* Expressions that Oniguruma and PCRE2 read differently, or that cannot be. */
static const wrong_t WRONG_PATTERNS[] = {
    {"^a", NULL, LODE_ERR_UNSUPPORTED, "\"^\""},
    {"a$+", NULL, LODE_ERR_UNSUPPORTED, "\"+\""},
    {"\\w+", NULL, LODE_ERR_UNSUPPORTED, "\"\\w\""},
    {"\\bx", NULL, LODE_ERR_UNSUPPORTED, "\"\\b\""},
    {"\\h", NULL, LODE_ERR_UNSUPPORTED, "\"\\h\""},
    {"\\", NULL, LODE_ERR_UNSUPPORTED, "\"\\\""},
    {"\\p{Han}", NULL, LODE_ERR_UNSUPPORTED, "\"\\p{Han}\""},
    {"\\p{Zz}", NULL, LODE_ERR_UNSUPPORTED, "\"\\p{Zz}\""},
    {"\\pL", NULL, LODE_ERR_UNSUPPORTED, "\"\\pL\""},
    {"\\p{L", NULL, LODE_ERR_UNSUPPORTED, "\"\\p{L\""},
    {"[a&&b]", NULL, LODE_ERR_UNSUPPORTED, "\"&&\""},
    {"[[:alpha:]]", NULL, LODE_ERR_UNSUPPORTED, "\"[:\""},
    {"[]a]", NULL, LODE_ERR_UNSUPPORTED, "\"[]a\""},
    {"[a-\\s]", NULL, LODE_ERR_UNSUPPORTED, "\"-\\s\""},
    {"[^\\S]", NULL, LODE_ERR_UNSUPPORTED, "\"\\S\""},
    {"[a", NULL, LODE_ERR_FORMAT, "'['"},
    {"[b-a]", NULL, LODE_ERR_FORMAT, "range"},
    {"(?<n>a)", NULL, LODE_ERR_UNSUPPORTED, "\"(?<n\""},
    {"(?i)a", NULL, LODE_ERR_UNSUPPORTED, "\"(?i)\""},
    {"(?m:a)", NULL, LODE_ERR_UNSUPPORTED, "\"(?m:\""},
    {"(*UCP)a", NULL, LODE_ERR_UNSUPPORTED, "\"(*UC\""},
    {"(a", NULL, LODE_ERR_FORMAT, "'('"},
    {"a)", NULL, LODE_ERR_FORMAT, "')'"},
    {"a**", NULL, LODE_ERR_UNSUPPORTED, "\"*\""},
    {"a{2}+", NULL, LODE_ERR_UNSUPPORTED, "\"+\""},
    {"a{,2}", NULL, LODE_ERR_UNSUPPORTED, "\"{,2}\""},
    {"+a", NULL, LODE_ERR_UNSUPPORTED, "\"+a\""},
    {"a{99999}", NULL, LODE_ERR_FORMAT, "too big"},
    {"(?i:ss)", NULL, LODE_ERR_UNSUPPORTED, "\"ss\""},
    {"(?i:\\p{Lu})", NULL, LODE_ERR_UNSUPPORTED, "\"\\p{Lu}"},
    {"(?i:\xC3\xA9)", NULL, LODE_ERR_UNSUPPORTED, "\xC3\xA9"},
};

static void set_path(json_t *json, const char *path, const char *value) {
    char copy[256];
    snprintf(copy, sizeof copy, "%s", path);
    char *key = copy, *dot;
    while ((dot = strchr(key, '.'))) {
        *dot = '\0';
        json = json_object_get(json, key);
        key = dot + 1;
    }
    json_t *made = *value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(made || !*value);
    assert_int_equal(made ? json_object_set_new(json, key, made) : json_object_del(json, key), 0);
}

static void assert_wrong(const json_t *json, const char *label, const wrong_t *wrong) {
    lode_tokenizer_t *tokenizer;
    lode_status_t status = parse_json(&tokenizer, json);
    const char *message = lode_error_message();
    if (status != wrong->status || !strstr(message, wrong->part) || !strstr(message, "my.json"))
        fail_msg("%s = %s: status %d, message \"%s\"", label, wrong->value, (int)status, message);
    assert_null(tokenizer);
}

static void test_wrong_files(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        json_t *json = make_variant("characters", NULL, NULL);
        set_path(json, WRONG[i].path, WRONG[i].value);
        assert_wrong(json, WRONG[i].path, &WRONG[i]);
        json_decref(json);
    }
}

static void test_wrong_patterns(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof WRONG_PATTERNS / sizeof *WRONG_PATTERNS; i++) {
        json_t *json = make_variant("bytes", NULL, NULL);
        json_object_set_new(json, "pre_tokenizer",
                            json_pack("{s:s, s:{s:s}, s:s}", "type", "Split", "pattern", "Regex",
                                      WRONG_PATTERNS[i].path, "behavior", "Isolated"));
        assert_wrong(json, WRONG_PATTERNS[i].path, &WRONG_PATTERNS[i]);
        json_decref(json);
    }
}

static void test_wrong_json(void **state) {
    (void)state;
    static const char *const texts[] = {"", "{", "[]", "\"model\"", "{\"model\": {}} x", "\xFF"};
    lode_tokenizer_t *tokenizer;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        LODE_ASSERT_FAILS(lode_tokenizer_parse(&tokenizer, texts[i], strlen(texts[i]), "my.json"),
                          LODE_ERR_FORMAT, "my.json");
        assert_null(tokenizer);
    }
    enum { DEPTH = 100000 };
    char *deep = malloc(DEPTH);
    memset(deep, '[', DEPTH);
    LODE_ASSERT_FAILS(lode_tokenizer_parse(&tokenizer, deep, DEPTH, "my.json"), LODE_ERR_FORMAT,
                      "my.json");
    free(deep);
    LODE_ASSERT_FAILS(lode_tokenizer_load(&tokenizer, "tests/no-such.json"), LODE_ERR_INPUT,
                      "tests/no-such.json");
    assert_null(tokenizer);
}

/* A sequence in a sequence and so on: within what the JSON parser reads, beyond what is sensible.
 */
static void test_deep_sequence(void **state) {
    (void)state;
    json_t *step = json_pack("{s:s}", "type", "NFC"), *json = make_variant("bytes", NULL, NULL);
    for (int i = 0; i < 500; i++)
        step = json_pack("{s:s, s:[o]}", "type", "Sequence", "normalizers", step);
    json_object_set_new(json, "normalizer", step);
    lode_tokenizer_t *tokenizer;
    LODE_ASSERT_FAILS(parse_json(&tokenizer, json), LODE_ERR_UNSUPPORTED, "nested too deep");
    json_decref(json);
}

/* The unknown token is missed only where it is needed. */
static void test_no_unknown(void **state) {
    (void)state;
    json_t *json = make_variant("characters", NULL, NULL);
    set_path(json, "model.byte_fallback", "false");
    set_path(json, "model.unk_token", "\"<none>\"");
    lode_tokenizer_t *tokenizer;
    LODE_ASSERT_OK(parse_json(&tokenizer, json));
    int32_t *ids;
    int64_t count;
    LODE_ASSERT_OK(lode_tokenizer_encode(tokenizer, "a", 1, false, &ids, &count));
    assert_int_equal(count, 2);
    free(ids);
    LODE_ASSERT_FAILS(lode_tokenizer_encode(tokenizer, "aq", 2, false, &ids, &count),
                      LODE_ERR_FORMAT, "\"q\"");
    assert_null(ids);
    lode_tokenizer_destroy(&tokenizer);
    json_decref(json);
}

/* An expression that backtracks without end is given up, not waited for. */
static void test_endless_pattern(void **state) {
    (void)state;
    json_t *json = make_variant("bytes", NULL, NULL);
    json_object_set_new(json, "pre_tokenizer",
                        json_pack("{s:s, s:{s:s}, s:s}", "type", "Split", "pattern", "Regex",
                                  "(?:a+)+[bc]", "behavior", "Isolated"));
    lode_tokenizer_t *tokenizer;
    LODE_ASSERT_OK(parse_json(&tokenizer, json));
    int32_t *ids;
    int64_t count;
    char text[64];
    memset(text, 'a', sizeof text);
    LODE_ASSERT_FAILS(lode_tokenizer_encode(tokenizer, text, sizeof text, false, &ids, &count),
                      LODE_ERR_UNSUPPORTED, "match limit");
    assert_null(ids);
    lode_tokenizer_destroy(&tokenizer);
    json_decref(json);
}

/* Replacements that double the text again and again. */
static void test_endless_growth(void **state) {
    (void)state;
    json_t *json = make_variant("bytes", NULL, NULL), *steps = json_array();
    for (int i = 0; i < 60; i++)
        json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                               "String", "a", "content", "aa"));
    json_object_set_new(json, "normalizer",
                        json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", steps));
    lode_tokenizer_t *tokenizer;
    LODE_ASSERT_OK(parse_json(&tokenizer, json));
    int32_t *ids;
    int64_t count;
    LODE_ASSERT_FAILS(lode_tokenizer_encode(tokenizer, "a", 1, false, &ids, &count),
                      LODE_ERR_UNSUPPORTED, "replacement");
    lode_tokenizer_destroy(&tokenizer);
    json_decref(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants),        cmocka_unit_test(test_families),
        cmocka_unit_test(test_published),       cmocka_unit_test(test_questions),
        cmocka_unit_test(test_cache),           cmocka_unit_test(test_long_piece),
        cmocka_unit_test(test_long_marks),      cmocka_unit_test(test_wrong_files),
        cmocka_unit_test(test_wrong_patterns),  cmocka_unit_test(test_wrong_json),
        cmocka_unit_test(test_deep_sequence),   cmocka_unit_test(test_no_unknown),
        cmocka_unit_test(test_endless_pattern), cmocka_unit_test(test_endless_growth),
    };
    return cmocka_run_group_tests(tests, load_vectors, free_vectors);
}
