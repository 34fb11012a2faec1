/* Training of tokenizers: merges worked out by hand, and those of the `tokenizers` library
 * (tests/golden/bpe_train.py). */
#include "testing/cmocka_all.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/hash.h"
#include "base/memory.h"
#include "testing/compare.h"
#include "text/bpe_train.h"
#include "text/bpe_words.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

static const char CORPUS[] = "configs/quickstart/text/calibration.txt";

/* The setting of most tests: every character in the alphabet, every pair. */
static lode_bpe_setting_t all_of(int64_t vocabulary) {
    return (lode_bpe_setting_t){.vocabulary = vocabulary, .coverage = 1, .least = 1};
}

static lode_status_t train_on(lode_bpe_trained_t **trained, const char *text,
                              lode_bpe_setting_t setting, lode_corpus_format_t format) {
    lode_corpus_t *corpus;
    *trained = NULL;
    LODE_TRY(
        lode_corpus_parse(&corpus, text, strlen(text), format, LODE_CORPUS_ROWS, NULL, "test"));
    const lode_status_t status = lode_bpe_train(trained, corpus, setting, "test");
    lode_corpus_destroy(&corpus);
    return status;
}

static lode_bpe_trained_t *train(const char *text, lode_bpe_setting_t setting) {
    lode_bpe_trained_t *trained;
    LODE_ASSERT_OK(train_on(&trained, text, setting, LODE_CORPUS_LINES));
    assert_int_equal(lode_bpe_trained_size(trained).tokens, setting.vocabulary);
    return trained;
}

/* Fails unless the merges are these, written "left right count"; the list ends with NULL. */
static void assert_merges(const lode_bpe_trained_t *trained, const char *const *want) {
    int64_t count = 0;
    for (; want[count]; count++) {
        char got[256];
        assert_true(count < lode_bpe_trained_size(trained).merges);
        const lode_bpe_merge_t merge = lode_bpe_trained_merge(trained, count);
        snprintf(got, sizeof got, "%s %s %lld", lode_bpe_trained_token(trained, merge.left),
                 lode_bpe_trained_token(trained, merge.right), (long long)merge.count);
        assert_string_equal(got, want[count]);
    }
    assert_int_equal(count, lode_bpe_trained_size(trained).merges);
}

static lode_tokenizer_t *load(const lode_bpe_trained_t *trained) {
    lode_buffer_t json = {0};
    lode_tokenizer_t *tokenizer;
    LODE_ASSERT_OK(lode_bpe_trained_write(trained, &json));
    LODE_ASSERT_OK(lode_tokenizer_parse(&tokenizer, json.data, json.length, "tokenizer.json"));
    lode_buffer_free(&json);
    return tokenizer;
}

/* --- by hand -------------------------------------------------------------------------------- */

/* "▁abab" twice and "▁cd" once, with a = 259, b, c, d and ▁ = 263. First "a b", in four places;
 * then "▁ ab" and "ab ab" stand in two each, and 263 is lower than 264; at last "c d" and "▁ c" in
 * one each, and 261 is lower than 263. */
static void test_by_hand(void **state) {
    (void)state;
    const char *merges[] = {"a b 4", "▁ ab 2", "▁ab ab 2", "c d 1", "▁ cd 1", NULL};
    lode_bpe_trained_t *trained = train("abab abab cd", all_of(269));
    assert_merges(trained, merges);
    const lode_bpe_size_t size = lode_bpe_trained_size(trained);
    assert_int_equal(size.alphabet, 5);
    assert_int_equal(size.words, 2);
    assert_int_equal(size.bytes, 12);
    assert_int_equal(size.lines, 1);
    assert_string_equal(lode_bpe_trained_token(trained, 0), "<unk>");
    assert_string_equal(lode_bpe_trained_token(trained, 258), "<0xFF>");
    assert_string_equal(lode_bpe_trained_token(trained, 263), "▁");
    assert_string_equal(lode_bpe_trained_token(trained, 266), "▁abab");
    lode_bpe_trained_destroy(&trained);
    assert_null(trained);
}

/* Equal counts: the lower left id first, then the lower right id, whatever comes first in the text.
 * a = 259, b, c, d, ▁ = 263. */
static void test_ties(void **state) {
    (void)state;
    const char *merges[] = {"a c 1", "a d 1", "b d 1", "c b 1", "▁ ac 1", NULL};
    lode_bpe_trained_t *trained = train("ac1ad1cb1bd", all_of(270));
    assert_int_equal(lode_bpe_trained_size(trained).alphabet, 6); /* and "1" = 259 */
    assert_merges(trained, merges);
    lode_bpe_trained_destroy(&trained);
}

/* "▁aaaaa": "a a" stands in four places, and from the left two pairs of them are merged; then
 * "▁ aa" is the lowest of three, and "aa a" goes before "▁aa aa". */
static void test_overlaps(void **state) {
    (void)state;
    const char *merges[] = {"a a 4", "▁ aa 1", "aa a 1", "▁aa aaa 1", NULL};
    lode_bpe_trained_t *trained = train("aaaaa", all_of(265));
    assert_merges(trained, merges);
    lode_bpe_trained_destroy(&trained);
    const char *twice[] = {"a a 6", "▁ aa 2", NULL}; /* ▁ aa aa, twice */
    trained = train("aaaa\naaaa", all_of(263));
    assert_merges(trained, twice);
    lode_bpe_trained_destroy(&trained);
}

/* A line of a text that goes on has no space in front of it, and no word reaches over its end. */
static void test_lines_of_a_text(void **state) {
    (void)state;
    lode_bpe_trained_t *trained;
    const char *one[] = {"a b 3", NULL}, *each[] = {"a b 3", "▁ ab 3", NULL};
    LODE_ASSERT_OK(train_on(&trained, "ab\nab\nab\n", all_of(263), LODE_CORPUS_TEXT));
    assert_int_equal(lode_bpe_trained_size(trained).words, 3); /* "▁ab", "\n", "ab" */
    assert_int_equal(lode_bpe_trained_size(trained).alphabet, 3);
    assert_int_equal(lode_bpe_trained_size(trained).lines, 3);
    assert_int_equal(lode_bpe_trained_merge(trained, 0).count, 3);
    lode_bpe_trained_destroy(&trained);
    LODE_ASSERT_FAILS(train_on(&trained, "ab\nab\nab\n", all_of(265), LODE_CORPUS_TEXT),
                      LODE_ERR_INPUT, "264 tokens, not of 265");
    lode_bpe_setting_t setting = all_of(263);
    setting.least = 2;
    LODE_ASSERT_OK(train_on(&trained, "ab\nab\nab\n", setting, LODE_CORPUS_TEXT));
    assert_merges(trained, one);
    lode_bpe_trained_destroy(&trained);
    setting.vocabulary = 264;
    LODE_ASSERT_OK(train_on(&trained, "ab\nab\nab\n", setting, LODE_CORPUS_LINES));
    assert_merges(trained, each);
    lode_bpe_trained_destroy(&trained);
}

/* --- long words ----------------------------------------------------------------------------- */

/* How often the pair stands in text [length], overlapping or not. */
static int64_t places_of(const int32_t *text, int64_t length, int32_t left, int32_t right) {
    int64_t places = 0;
    for (int64_t i = 0; i + 1 < length; i++)
        places += text[i] == left && text[i + 1] == right;
    return places;
}

/* The pair in the most places, the lowest of equals, looked for in the whole text. */
static lode_bpe_merge_t most_frequent(const int32_t *text, int64_t length, int64_t tokens) {
    lode_bpe_merge_t best = {0};
    int64_t *counts = calloc((size_t)(tokens * tokens), sizeof *counts);
    assert_non_null(counts);
    for (int64_t i = 0; i + 1 < length; i++)
        counts[text[i] * tokens + text[i + 1]]++;
    for (int64_t pair = 0; pair < tokens * tokens; pair++)
        if (counts[pair] > best.count)
            best = (lode_bpe_merge_t){(int32_t)(pair / tokens), (int32_t)(pair % tokens),
                                      counts[pair]};
    free(counts);
    return best;
}

/* One word of `letters` different letters, against merging in the plainest way. */
static void check_long_word(unsigned draw, int letters, int64_t length, int64_t merges) {
    char *word = malloc((size_t)length + 1);
    int32_t *text = malloc((size_t)(length + 1) * sizeof *text);
    assert_non_null(word);
    assert_non_null(text);
    const int32_t first = LODE_BPE_RESERVED; /* of "a"; "▁" comes behind all letters */
    text[0] = first + letters;
    for (int64_t i = 0; i < length; i++) {
        draw = draw * 1103515245u + 12345u;
        /* Half of them go on as eleven letters before, so that tokens become long. */
        const bool again = i >= 11 + letters && draw >> 31;
        const int letter = i < letters ? (int)i : (int)((draw >> 16) % (unsigned)letters);
        word[i] = again ? word[i - 11] : (char)('a' + letter);
        text[i + 1] = first + word[i] - 'a';
    }
    word[length] = '\0';
    lode_bpe_trained_t *trained = train(word, all_of(first + letters + 1 + merges));
    int64_t left = length + 1, tokens = first + letters + 1;
    for (int64_t m = 0; m < merges; m++, tokens++) {
        const lode_bpe_merge_t want = most_frequent(text, left, tokens);
        const lode_bpe_merge_t got = lode_bpe_trained_merge(trained, m);
        assert_int_equal(got.left, want.left);
        assert_int_equal(got.right, want.right);
        assert_int_equal(got.count, want.count);
        assert_int_equal(got.count, places_of(text, left, got.left, got.right));
        int64_t kept = 0;
        for (int64_t i = 0; i < left; i++) {
            const bool is_pair = i + 1 < left && text[i] == want.left && text[i + 1] == want.right;
            text[kept++] = is_pair ? (int32_t)tokens : text[i];
            i += is_pair;
        }
        left = kept;
    }
    lode_bpe_trained_destroy(&trained);
    free(word);
    free(text);
}

static void test_long_words(void **state) {
    (void)state;
    for (unsigned draw = 1; draw <= 12; draw++) {
        check_long_word(draw, 1 + (int)(draw % 4), 300 + draw, 6);
        check_long_word(draw, 2 + (int)(draw % 6), 3000, 60);
    }
}

/* A word of a million letters and thousands of merges, each of few places: takes long where a
 * merge looks at all of the word. */
static void test_longest_word(void **state) {
    (void)state;
    enum { LENGTH = 1000000, MERGES = 20000 };
    char *word = malloc(LENGTH + 1);
    assert_non_null(word);
    unsigned draw = 1;
    for (int i = 0; i < LENGTH; i++) {
        draw = draw * 1103515245u + 12345u;
        word[i] = (char)('a' + (draw >> 16) % 26);
    }
    word[LENGTH] = '\0';
    lode_bpe_trained_t *trained = train(word, all_of(LODE_BPE_RESERVED + 27 + MERGES));
    assert_true(lode_bpe_trained_merge(trained, MERGES - 1).count < 20);
    assert_true(lode_bpe_trained_merge(trained, MERGES - 1).count > 1);
    lode_bpe_trained_destroy(&trained);
    free(word);
}

/* The forecast of memory: with the text where every word is new, hardly where all are known, and
 * never less for more. */
static void test_forecast(void **state) {
    (void)state;
    enum { LENGTH = 100000 };
    char *text = malloc(LENGTH);
    assert_non_null(text);
    memset(text, 'a', LENGTH);
    const int64_t none = lode_bpe_train_memory(text, 0, 0, 300);
    const int64_t once = lode_bpe_train_memory(text, LENGTH, LENGTH, 300);
    const int64_t tenfold = lode_bpe_train_memory(text, LENGTH, 10 * LENGTH, 300);
    assert_true(once - none > 20 * LENGTH && once - none < 30 * LENGTH);
    assert_true(llabs(tenfold - none - 10 * (once - none)) < (once - none) / 10);
    for (int i = 3; i < LENGTH; i += 4)
        text[i] = ' ';
    const int64_t known = lode_bpe_train_memory(text, LENGTH, 10 * LENGTH, 300);
    assert_true(known >= none && known - none < 1000);
    assert_true(lode_bpe_train_memory(text, LENGTH, LENGTH, 30000) > once - 23 * LENGTH);
    text[4] = '\xFF'; /* what is behind is not counted */
    assert_true(lode_bpe_train_memory(text, LENGTH, LENGTH, 300) - none < 500);
    free(text);
}

/* --- the alphabet --------------------------------------------------------------------------- */

/* Of the 16 characters of a text that count, ▁ is 1, a 6, b 4, é 3, ☃ 2. */
static void test_alphabet(void **state) {
    (void)state;
    static const struct {
        double coverage;
        int64_t most;
        const char *alphabet;
    } cases[] = {{1, 0, "abé▁☃"},    {0.88, 0, "abé▁☃"}, {0.875, 0, "abé▁"}, {0.7, 0, "abé▁"},
                 {0.6875, 0, "ab▁"}, {0.1, 0, "a▁"},     {1, 3, "ab▁"},      {0.01, 0, "▁"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[64] = "";
        const int64_t characters = lode_utf8_count(cases[i].alphabet, strlen(cases[i].alphabet));
        lode_bpe_setting_t setting = all_of(LODE_BPE_RESERVED + characters);
        setting.coverage = cases[i].coverage;
        setting.alphabet = cases[i].most;
        lode_bpe_trained_t *trained = train("aaaaaabbbbééé☃☃\t", setting);
        assert_int_equal(lode_bpe_trained_size(trained).alphabet, characters);
        for (int64_t c = 0; c < characters; c++)
            strcat(got, lode_bpe_trained_token(trained, LODE_BPE_RESERVED + c));
        assert_string_equal(got, cases[i].alphabet);
        lode_bpe_trained_destroy(&trained);
    }
}

/* What is left out of the alphabet parts a word: no "a a" over it. */
static void test_left_out(void **state) {
    (void)state;
    lode_bpe_trained_t *trained;
    lode_bpe_setting_t setting = all_of(262);
    setting.alphabet = 2;
    const char *merges[] = {"▁ a 3", NULL};
    trained = train("aéa aéa aéa", setting);
    assert_merges(trained, merges);
    lode_bpe_trained_destroy(&trained);
    setting.vocabulary = 263;
    LODE_ASSERT_FAILS(train_on(&trained, "aéa aéa aéa", setting, LODE_CORPUS_LINES), LODE_ERR_INPUT,
                      "262 tokens, not of 263");
}

/* The text of ids: byte tokens are bytes, the mark is a space, the one in front is gone. */
static void decode(lode_buffer_t *text, const lode_tokenizer_t *tokenizer, const int32_t *ids,
                   int64_t count) {
    for (int64_t i = 1; i < count; i++) {
        const char *token, *at;
        unsigned byte;
        LODE_ASSERT_OK(lode_tokenizer_token(tokenizer, ids[i], &token));
        if (ids[i] < LODE_BPE_RESERVED) {
            assert_int_equal(sscanf(token, "<0x%02X>", &byte), 1);
            const char bytes[1] = {(char)byte};
            LODE_ASSERT_OK(lode_buffer_append(text, bytes, 1));
            continue;
        }
        for (; (at = strstr(token, "▁")); token = at + strlen("▁")) {
            LODE_ASSERT_OK(lode_buffer_append(text, token, (size_t)(at - token)));
            LODE_ASSERT_OK(lode_buffer_append(text, " ", 1));
        }
        LODE_ASSERT_OK(lode_buffer_append(text, token, strlen(token)));
    }
}

/* Whatever is not in the alphabet comes back from its bytes. */
static void test_round_trip(void **state) {
    (void)state;
    static const char *const texts[] = {"abab", "aéa", "日本語 ab\tab\n\nab  b", "😀\x01 12,ab.",
                                        "xyz ▁"};
    lode_bpe_trained_t *trained = train("abab abab, ab. é", all_of(269));
    lode_tokenizer_t *tokenizer = load(trained);
    assert_int_equal(lode_tokenizer_vocab_size(tokenizer), 269);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t *ids;
        int64_t count;
        lode_buffer_t text = {0};
        LODE_ASSERT_OK(
            lode_tokenizer_encode(tokenizer, texts[i], strlen(texts[i]), true, &ids, &count));
        assert_true(count > 1);
        assert_int_equal(ids[0], 1);
        decode(&text, tokenizer, ids, count);
        assert_int_equal(text.data[0], ' ');
        if (i == 4)
            assert_string_equal(text.data, " xyz  "); /* a mark in a text is a space */
        else
            assert_string_equal(text.data + 1, texts[i]);
        lode_buffer_free(&text);
        free(ids);
    }
    lode_tokenizer_destroy(&tokenizer);
    lode_bpe_trained_destroy(&trained);
}

/* --- words ---------------------------------------------------------------------------------- */

static void test_cuts(void **state) {
    (void)state;
    enum { MARK = 0x2581, SNOWMAN = 0x2603, ACUTE = 0x301, NBSP = 0xA0, HALF = 0xBD };
    static const uint32_t kept[][2] = {{'a', 'b'},   {'a', ACUTE}, {0x4E2D, 'a'}, {MARK, 'a'},
                                       {MARK, ','},  {'-', '-'},   {'.', '"'},    {SNOWMAN, '$'},
                                       {ACUTE, 'a'}, {MARK, ACUTE}};
    static const uint32_t cut[][2] = {{'a', ','},   {',', 'a'},   {'a', '1'},  {'1', '1'},
                                      {'1', 'a'},   {MARK, '1'},  {'a', MARK}, {MARK, MARK},
                                      {',', MARK},  {'a', '\n'},  {'\n', 'a'}, {'\n', '\n'},
                                      {MARK, NBSP}, {MARK, HALF}, {',', HALF}};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        assert_false(lode_bpe_words_divides(kept[i][0], kept[i][1]));
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++)
        assert_true(lode_bpe_words_divides(cut[i][0], cut[i][1]));
}

/* No token has a place in it where words are cut, so that no pre-tokenizer is needed. */
static void test_no_token_over_a_cut(void **state) {
    (void)state;
    lode_corpus_t *corpus;
    lode_bpe_trained_t *trained;
    LODE_ASSERT_OK(lode_corpus_read(&corpus, CORPUS, LODE_CORPUS_TEXT, LODE_CORPUS_ROWS, NULL));
    LODE_ASSERT_OK(lode_bpe_train(&trained, corpus, all_of(1500), CORPUS));
    for (int64_t id = LODE_BPE_RESERVED; id < 1500; id++) {
        const char *token = lode_bpe_trained_token(trained, id);
        uint32_t before = 0, character;
        for (size_t at = 0; token[at];) {
            const size_t start = at;
            at += (size_t)lode_utf8_decode(token + at, strlen(token + at), &character);
            if (start > 0 && lode_bpe_words_divides(before, character))
                fail_msg("token %lld, \"%s\"", (long long)id, token);
            before = character;
        }
    }
    lode_bpe_trained_destroy(&trained);
    lode_corpus_destroy(&corpus);
}

/* --- settings ------------------------------------------------------------------------------- */

static void test_refusals(void **state) {
    (void)state;
    lode_bpe_trained_t *trained;
    LODE_ASSERT_FAILS(train_on(&trained, "ab", all_of(259), LODE_CORPUS_LINES), LODE_ERR_CONFIG,
                      "must lie above 259");
    LODE_ASSERT_FAILS(train_on(&trained, "ab", all_of((1 << 22) + 1), LODE_CORPUS_LINES),
                      LODE_ERR_CONFIG, "not above");
    LODE_ASSERT_FAILS(train_on(&trained, "abc", all_of(262), LODE_CORPUS_LINES), LODE_ERR_CONFIG,
                      "raise it to 263");
    lode_bpe_setting_t setting = all_of(263);
    setting.least = 2;
    LODE_ASSERT_FAILS(train_on(&trained, "ab", setting, LODE_CORPUS_LINES), LODE_ERR_INPUT,
                      "stands in 2 places or more");
    assert_null(trained);
    const lode_bpe_setting_t usual = lode_bpe_setting(2048, 5, 6);
    assert_int_equal(usual.vocabulary, 2048);
    assert_int_equal(usual.alphabet, (2048 - 259) / 2);
    assert_int_equal(usual.least, 2);
    assert_int_equal(usual.sample, 5);
    assert_int_equal(usual.seed, 6);
}

/* The tokenizer.json of a sample of the quickstart's text, and what was read; the caller's. */
static char *sampled(int64_t sample, int64_t seed, lode_bpe_size_t *size) {
    lode_corpus_t *corpus;
    lode_bpe_trained_t *trained;
    lode_buffer_t json = {0};
    LODE_ASSERT_OK(lode_corpus_read(&corpus, CORPUS, LODE_CORPUS_LINES, LODE_CORPUS_ROWS, NULL));
    LODE_ASSERT_OK(lode_bpe_train(&trained, corpus, lode_bpe_setting(400, sample, seed), CORPUS));
    LODE_ASSERT_OK(lode_bpe_trained_write(trained, &json));
    *size = lode_bpe_trained_size(trained);
    lode_bpe_trained_destroy(&trained);
    lode_corpus_destroy(&corpus);
    return json.data;
}

static void test_sample(void **state) {
    (void)state;
    static const int64_t samples[] = {0, 8000, 8000, 8000, INT64_MAX};
    static const int64_t seeds[] = {1, 1, 1, 2, 2};
    lode_bpe_size_t size[5];
    char *json[5];
    for (int i = 0; i < 5; i++)
        json[i] = sampled(samples[i], seeds[i], &size[i]);
    assert_true(size[0].bytes > 20000);
    assert_true(size[1].bytes <= 8000 && size[1].bytes > 6000);
    assert_true(size[1].lines > 10 && size[1].lines < size[0].lines);
    assert_string_equal(json[1], json[2]);
    assert_string_not_equal(json[1], json[3]);
    assert_string_not_equal(json[1], json[0]);
    assert_string_equal(json[4], json[0]); /* there is no more text than that */
    assert_int_equal(size[4].bytes, size[0].bytes);
    for (int i = 0; i < 5; i++)
        free(json[i]);
    lode_bpe_trained_t *trained;
    lode_bpe_setting_t setting = all_of(262);
    setting.sample = 5;
    LODE_ASSERT_FAILS(train_on(&trained, "abcdef\nabcdef", setting, LODE_CORPUS_LINES),
                      LODE_ERR_INPUT, "a sample of 5 bytes");
}

/* Memory may run out anywhere. */
static void test_memory(void **state) {
    (void)state;
    lode_status_t status = LODE_ERR_MEMORY;
    int calls = 0;
    for (; status == LODE_ERR_MEMORY && calls < 1000; calls++) {
        char fault[64];
        lode_bpe_trained_t *trained;
        lode_buffer_t json = {0};
        snprintf(fault, sizeof fault, "allocation:call=%d", calls + 1);
        LODE_ASSERT_OK(lode_fault_arm(fault, 0));
        lode_bpe_setting_t setting = all_of(268);
        setting.sample = 10;
        status = train_on(&trained, "abab abab\ncd\ncdcd", setting, LODE_CORPUS_LINES);
        if (status == LODE_OK)
            status = lode_bpe_trained_write(trained, &json);
        else
            assert_null(trained);
        LODE_ASSERT_OK(lode_fault_arm(NULL, 0));
        lode_bpe_trained_destroy(&trained);
        lode_buffer_free(&json);
    }
    assert_true(calls > 20);
    assert_int_equal(status, LODE_ERR_INPUT); /* of so short a sample */
}

/* --- the library ---------------------------------------------------------------------------- */

static void assert_listed(const lode_bpe_trained_t *trained, const json_t *list, int64_t first) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        char got[256];
        const lode_bpe_merge_t merge = lode_bpe_trained_merge(trained, first + (int64_t)i);
        snprintf(got, sizeof got, "%s %s", lode_bpe_trained_token(trained, merge.left),
                 lode_bpe_trained_token(trained, merge.right));
        assert_string_equal(got, json_string_value(json_array_get(list, i)));
    }
}

static void assert_merge_digest(const lode_bpe_trained_t *trained, const char *want) {
    lode_buffer_t text = {0};
    char digest[LODE_SHA256_TEXT];
    for (int64_t i = 0; i < lode_bpe_trained_size(trained).merges; i++) {
        const lode_bpe_merge_t merge = lode_bpe_trained_merge(trained, i);
        LODE_ASSERT_OK(lode_buffer_printf(&text, "%s %s\n",
                                          lode_bpe_trained_token(trained, merge.left),
                                          lode_bpe_trained_token(trained, merge.right)));
    }
    LODE_ASSERT_OK(lode_sha256_text(digest, text.data, text.length));
    assert_string_equal(digest, want);
    lode_buffer_free(&text);
}

static void add_ids(lode_buffer_t *all, int64_t *total, const lode_tokenizer_t *tokenizer,
                    const char *text, size_t length) {
    const int32_t end = -1;
    int32_t *ids;
    int64_t count;
    LODE_ASSERT_OK(lode_tokenizer_encode(tokenizer, text, length, true, &ids, &count));
    if (count > 0)
        LODE_ASSERT_OK(lode_buffer_append(all, ids, (size_t)count * sizeof *ids));
    LODE_ASSERT_OK(lode_buffer_append(all, &end, sizeof end));
    *total += count;
    free(ids);
}

/* The ids of held-out text, and of strange texts, against the library's. */
static void assert_ids(const lode_bpe_trained_t *trained, const json_t *golden,
                       const json_t *expected) {
    lode_buffer_t all = {0};
    char digest[LODE_SHA256_TEXT];
    int64_t total = 0;
    lode_corpus_t *corpus;
    lode_tokenizer_t *tokenizer = load(trained);
    LODE_ASSERT_OK(lode_corpus_read(&corpus, json_string_value(json_object_get(golden, "held_out")),
                                    LODE_CORPUS_LINES, LODE_CORPUS_ROWS, NULL));
    for (int64_t i = 0; i < lode_corpus_count(corpus); i++) {
        const char *text;
        size_t length;
        lode_corpus_text(corpus, i, &text, &length);
        add_ids(&all, &total, tokenizer, text, length);
    }
    const json_t *texts = json_object_get(golden, "texts");
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *text = json_array_get(texts, i);
        add_ids(&all, &total, tokenizer, json_string_value(text), json_string_length(text));
    }
    LODE_ASSERT_OK(lode_sha256_text(digest, all.data, all.length));
    assert_int_equal(total, json_integer_value(json_object_get(expected, "ids")));
    assert_string_equal(digest, json_string_value(json_object_get(expected, "ids_sha256")));
    lode_buffer_free(&all);
    lode_corpus_destroy(&corpus);
    lode_tokenizer_destroy(&tokenizer);
}

static void test_library(void **state) {
    (void)state;
    json_error_t problem;
    json_t *golden = json_load_file("tests/golden/bpe_train.json", JSON_ALLOW_NUL, &problem);
    assert_non_null(golden);
    lode_corpus_t *corpus;
    LODE_ASSERT_OK(lode_corpus_read(&corpus,
                                    json_string_value(json_object_get(golden, "trained_on")),
                                    LODE_CORPUS_LINES, LODE_CORPUS_ROWS, NULL));
    const json_t *cases = json_object_get(golden, "cases");
    assert_true(json_array_size(cases) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *expected = json_array_get(cases, i);
        const lode_bpe_setting_t setting = {
            .vocabulary = json_integer_value(json_object_get(expected, "vocabulary")),
            .coverage = json_number_value(json_object_get(expected, "coverage")),
            .alphabet = json_integer_value(json_object_get(expected, "alphabet")),
            .least = json_integer_value(json_object_get(expected, "least"))};
        lode_bpe_trained_t *trained;
        LODE_ASSERT_OK(lode_bpe_train(&trained, corpus, setting, CORPUS));
        const lode_bpe_size_t size = lode_bpe_trained_size(trained);
        const json_t *last = json_object_get(expected, "last");
        assert_int_equal(size.merges, json_integer_value(json_object_get(expected, "merges")));
        assert_listed(trained, json_object_get(expected, "first"), 0);
        assert_listed(trained, last, size.merges - (int64_t)json_array_size(last));
        assert_merge_digest(trained, json_string_value(json_object_get(expected, "merges_sha256")));
        assert_ids(trained, golden, expected);
        lode_bpe_trained_destroy(&trained);
    }
    lode_corpus_destroy(&corpus);
    json_decref(golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),    cmocka_unit_test(test_ties),
        cmocka_unit_test(test_overlaps),   cmocka_unit_test(test_lines_of_a_text),
        cmocka_unit_test(test_long_words), cmocka_unit_test(test_longest_word),
        cmocka_unit_test(test_forecast),   cmocka_unit_test(test_alphabet),
        cmocka_unit_test(test_left_out),   cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_cuts),       cmocka_unit_test(test_no_token_over_a_cut),
        cmocka_unit_test(test_refusals),   cmocka_unit_test(test_sample),
        cmocka_unit_test(test_memory),     cmocka_unit_test(test_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
