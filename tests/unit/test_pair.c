/* The ids of contexts and continuations by rules written out here, the prefix token of folders made
 * here, and the sequences that requests become. lm_eval's own ids are in the test stages.tasks. */
#include "testing/cmocka_all.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "evaluate/requests.h"
#include "model/prefix.h"
#include "testing/checkpoint.h"
#include "testing/compare.h"
#include "testing/temporary.h"
#include "tokenize/pair.h"

static const char TOKENIZER[] = "configs/quickstart/model/tokenizer.json";

/* --- pairs ---------------------------------------------------------------------------------- */

static void test_context_length(void **state) {
    (void)state;
    static const struct {
        const char *context;
        size_t kept;
    } cases[] = {{"", 0},
                 {"ab", 2},
                 {"ab ", 2},
                 {"a b \n\t", 3},
                 {" \n", 0},
                 {"é\xe3\x80\x80", 2},
                 {"a\xc2\xa0\x1c ", 1},
                 {" a", 2},
                 {"a\xe2\x80\x8b", 4} /* a space of no width is none */};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(lode_pair_context_length(cases[i].context, strlen(cases[i].context)),
                         cases[i].kept);
}

static void test_special(void **state) {
    (void)state;
    lode_pair_rule_t rule = {.bos = LODE_BOS_AUTO, .bos_id = 1, .prefix = 1, .prefix_text = "<s>"};
    assert_true(lode_pair_special(&rule, "text", 4, false));
    assert_true(lode_pair_special(&rule, "<s", 2, false));
    assert_false(lode_pair_special(&rule, "<s>text", 7, false));
    assert_false(lode_pair_special(&rule, "text", 4, true));
    rule.prefix_text = "";
    assert_true(lode_pair_special(&rule, "<s>text", 7, false));
    rule.bos = LODE_BOS_ALWAYS;
    assert_false(lode_pair_special(&rule, "text", 4, false));
    rule.bos = LODE_BOS_NEVER;
    assert_false(lode_pair_special(&rule, "text", 4, false));
}

static void test_ids(void **state) {
    (void)state;
    static const struct {
        lode_bos_t bos;
        int64_t context;
        int32_t whole[4];
        int64_t count;
        int32_t want[5];
        int64_t want_count;
        int32_t of_context;
    } cases[] = {
        {LODE_BOS_AUTO, 2, {1, 5, 6, 7}, 4, {1, 5, 6, 7}, 4, 2},
        {LODE_BOS_NEVER, 1, {5, 6}, 2, {5, 6}, 2, 1},
        {LODE_BOS_ALWAYS, 1, {5, 6}, 2, {1, 5, 6}, 3, 2},
        {LODE_BOS_ALWAYS, 1, {1, 6}, 2, {1, 6}, 2, 1}, /* the context brings it */
        /* No context: the prefix, unless the continuation begins with it. */
        {LODE_BOS_AUTO, 0, {5, 6}, 2, {2, 5, 6}, 3, 1},
        {LODE_BOS_AUTO, 0, {2, 6}, 2, {2, 6}, 2, 1},
        {LODE_BOS_NEVER, 0, {5, 6}, 2, {2, 5, 6}, 3, 1},
        {LODE_BOS_ALWAYS, 0, {5}, 1, {2, 5}, 2, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const lode_pair_rule_t rule = {
            .bos = cases[i].bos, .bos_id = 1, .prefix = 2, .prefix_text = ""};
        lode_ids_t ids = {0};
        int32_t of_context;
        LODE_ASSERT_OK(lode_pair_append(&rule, &ids, cases[i].context, cases[i].whole,
                                        cases[i].count, &of_context));
        LODE_ASSERT_CLOSE(
            lode_compare_i32("ids", ids.id, ids.count, cases[i].want, cases[i].want_count));
        assert_int_equal(of_context, cases[i].of_context);
        assert_int_equal(ids.sequences, 1);
        lode_ids_free(&ids);
    }
}

static void test_nothing_to_score(void **state) {
    (void)state;
    lode_pair_rule_t rule = {.bos = LODE_BOS_AUTO, .bos_id = 1, .prefix = 2, .prefix_text = ""};
    const int32_t whole[] = {2, 5};
    lode_ids_t ids = {0};
    int32_t of_context;
    const char part[] = "has no token to score";
    LODE_ASSERT_FAILS(lode_pair_append(&rule, &ids, 2, whole, 2, &of_context), LODE_ERR_INPUT,
                      part);
    LODE_ASSERT_FAILS(lode_pair_append(&rule, &ids, 3, whole, 2, &of_context), LODE_ERR_INPUT,
                      part);
    LODE_ASSERT_FAILS(lode_pair_append(&rule, &ids, 0, whole, 1, &of_context), LODE_ERR_INPUT,
                      part);
    LODE_ASSERT_FAILS(lode_pair_append(&rule, &ids, 0, whole, 0, &of_context), LODE_ERR_INPUT,
                      part);
    rule.prefix = -1;
    LODE_ASSERT_FAILS(lode_pair_append(&rule, &ids, 0, whole, 2, &of_context), LODE_ERR_INPUT,
                      "has no context, and the model has neither BOS nor EOS");
    assert_int_equal(ids.count, 0);
    lode_ids_free(&ids);
}

/* --- the prefix token ----------------------------------------------------------------------- */

static int32_t prefix_of(const lode_tokenizer_t *tokenizer, const char *config, int32_t bos,
                         int32_t eos, lode_status_t status, const char *part) {
    const char *folder = lode_test_temporary();
    const lode_architecture_t architecture = {.bos = bos, .eos = eos};
    int32_t id = -2;
    if (config)
        LODE_ASSERT_OK(lode_test_write_text(folder, "tokenizer_config.json", config));
    if (status == LODE_OK)
        LODE_ASSERT_OK(lode_prefix_token(&id, folder, tokenizer, &architecture));
    else
        LODE_ASSERT_FAILS(lode_prefix_token(&id, folder, tokenizer, &architecture), status, part);
    return id;
}

static void test_prefix(void **state) {
    (void)state;
    lode_tokenizer_t *tokenizer;
    LODE_ASSERT_OK(lode_tokenizer_load(&tokenizer, TOKENIZER)); /* puts <s>, 1, first */
    assert_int_equal(prefix_of(tokenizer, NULL, 7, 8, LODE_OK, NULL), 1);
    assert_int_equal(prefix_of(tokenizer, "{\"bos_token\": \"</s>\"}", 7, 8, LODE_OK, NULL), 2);
    assert_int_equal(prefix_of(tokenizer,
                               "{\"bos_token\": {\"content\": \"<unk>\", \"lstrip\": false}}", 7, 8,
                               LODE_OK, NULL),
                     0);
    assert_int_equal(
        prefix_of(tokenizer, "{\"bos_token\": null, \"eos_token\": \"</s>\"}", 7, 8, LODE_OK, NULL),
        2);
    assert_int_equal(prefix_of(tokenizer, "{\"bos_token\": null}", 7, 8, LODE_OK, NULL), 1);
    prefix_of(tokenizer, "{\"bos_token\": \"<|start of all|>\"}", 7, 8, LODE_ERR_FORMAT,
              "tokenizer_config.json: \"bos_token\" is \"<|start of all|>\", which is no token");
    prefix_of(tokenizer, "{", 7, 8, LODE_ERR_FORMAT, "tokenizer_config.json");
    lode_tokenizer_destroy(&tokenizer);
    /* A tokenizer that puts nothing before a text: config.json decides. */
    char *json;
    size_t size;
    LODE_ASSERT_OK(lode_file_read(&json, &size, TOKENIZER));
    char *at = strstr(json, "\"post_processor\"");
    assert_non_null(at);
    memcpy(at, "\"past_processor\"", strlen("\"past_processor\""));
    LODE_ASSERT_OK(lode_tokenizer_parse(&tokenizer, json, size, "tokenizer.json"));
    assert_int_equal(prefix_of(tokenizer, NULL, 7, 8, LODE_OK, NULL), 7);
    assert_int_equal(prefix_of(tokenizer, NULL, -1, 8, LODE_OK, NULL), 8);
    assert_int_equal(prefix_of(tokenizer, NULL, -1, -1, LODE_OK, NULL), -1);
    lode_tokenizer_destroy(&tokenizer);
    free(json);
}

/* --- sequences of requests ------------------------------------------------------------------ */

enum { REQUESTS = 5, ITEMS = 3 };

static void put(lode_store_t *store, const char *part, lode_type_t type, int64_t count,
                const void *data) {
    char path[64];
    const int64_t offset = 0;
    snprintf(path, sizeof path, "/tasks/t/%s", part);
    LODE_ASSERT_OK(lode_store_dataset(store, path, type, 1, &count, false));
    LODE_ASSERT_OK(lode_store_write(store, path, &offset, &count, data));
}

/* Requests 0 to 4: two that differ in the continuation, a long one, and two equal to the first and
 * to each other, the second of them scored for more tokens. */
static void open_task(lode_store_t **store, int32_t last_context) {
    static const int32_t ids[] = {1, 5, 6, 7, /**/ 1, 5, 8, /**/ 1, 9, 9, 9, 4, 3, /**/
                                  1, 5, 6, 7, /**/ 1, 5, 6, 7};
    static const int64_t offsets[] = {0, 4, 7, 13, 17, 21}, first[] = {0, 2, 3, 5};
    static const int32_t gold[] = {1, 0, 0}, characters[] = {2, 1, 3, 4, 5};
    const int32_t context[] = {2, 2, 4, 2, last_context};
    const lode_comm_t alone = lode_comm_describe(MPI_COMM_SELF);
    char *path;
    LODE_ASSERT_OK(lode_path_join(&path, lode_test_temporary(), "tokenize.h5"));
    LODE_ASSERT_OK(lode_store_create(store, &alone, path));
    put(*store, "ids", LODE_TYPE_I32, sizeof ids / sizeof *ids, ids);
    put(*store, "offsets", LODE_TYPE_I64, REQUESTS + 1, offsets);
    put(*store, "context", LODE_TYPE_I32, REQUESTS, context);
    put(*store, "first", LODE_TYPE_I64, ITEMS + 1, first);
    put(*store, "gold", LODE_TYPE_I32, ITEMS, gold);
    put(*store, "characters", LODE_TYPE_I32, REQUESTS, characters);
    LODE_ASSERT_OK(lode_store_commit(store));
    LODE_ASSERT_OK(lode_store_open(store, &alone, path));
    free(path);
}

static void test_sequences(void **state) {
    (void)state;
    lode_store_t *store;
    lode_requests_t requests;
    open_task(&store, 1);
    LODE_ASSERT_OK(lode_requests_read(&requests, store, "t", 100));
    assert_int_equal(requests.items, ITEMS);
    assert_int_equal(requests.count, REQUESTS);
    assert_int_equal(requests.width, 2);
    assert_int_equal(requests.truncated, 0);
    /* The long one, the first and its double, the double that is scored for more, the short one. */
    const int64_t offsets[] = {0, 5, 8, 11, 13}, sequence[] = {1, 3, 0, 1, 2};
    const int32_t ids[] = {1, 9, 9, 9, 4, /**/ 1, 5, 6, /**/ 1, 5, 6, /**/ 1, 5};
    const int32_t target[] = {-1, -1, -1, 4, 3, /**/ -1, 6, 7, /**/ 5, 6, 7, /**/ -1, 8};
    const int32_t tokens[] = {2, 1, 2, 2, 3};
    assert_int_equal(requests.text.sequences, 4);
    assert_memory_equal(requests.text.offsets, offsets, sizeof offsets);
    assert_memory_equal(requests.sequence, sequence, sizeof sequence);
    LODE_ASSERT_CLOSE(lode_compare_i32("ids", requests.text.ids, 13, ids, 13));
    LODE_ASSERT_CLOSE(lode_compare_i32("target", requests.text.target, 13, target, 13));
    LODE_ASSERT_CLOSE(lode_compare_i32("tokens", requests.tokens, REQUESTS, tokens, REQUESTS));
    int32_t table[ITEMS * 2];
    const int32_t spread[ITEMS * 2] = {2, 1, 3, -1, 4, 5};
    lode_requests_spread(&requests, requests.characters, -1, table);
    LODE_ASSERT_CLOSE(lode_compare_i32("table", table, ITEMS * 2, spread, ITEMS * 2));
    lode_requests_free(&requests);
    assert_null(requests.ids);
    lode_store_close(&store);
}

/* Long requests keep their ends: positions and one token more, of which the last is not computed.
 */
static void test_truncation(void **state) {
    (void)state;
    lode_store_t *store;
    lode_requests_t requests;
    open_task(&store, 1);
    LODE_ASSERT_OK(lode_requests_read(&requests, store, "t", 3));
    assert_int_equal(requests.truncated, 1);
    const int32_t ids[] = {9, 9, 4}, target[] = {-1, 4, 3};
    const int64_t s = requests.sequence[2], begin = requests.text.offsets[s];
    assert_int_equal(requests.text.offsets[s + 1] - begin, 3);
    LODE_ASSERT_CLOSE(lode_compare_i32("ids", requests.text.ids + begin, 3, ids, 3));
    LODE_ASSERT_CLOSE(lode_compare_i32("target", requests.text.target + begin, 3, target, 3));
    lode_requests_free(&requests);
    LODE_ASSERT_FAILS(lode_requests_read(&requests, store, "t", 2), LODE_ERR_INPUT,
                      "evaluate.tasks \"t\": the continuation of item 2, request 1 has 3 tokens, "
                      "the model has 2 positions");
    assert_null(requests.first);
    lode_store_close(&store);
}

static void test_broken_file(void **state) {
    (void)state;
    lode_store_t *store;
    lode_requests_t requests;
    for (int32_t context = 0; context <= 4; context += 4) {
        open_task(&store, context);
        LODE_ASSERT_FAILS(lode_requests_read(&requests, store, "t", 100), LODE_ERR_FORMAT,
                          "/tasks/t: its parts do not fit each other");
        lode_store_close(&store);
    }
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_context_length),
        cmocka_unit_test(test_special),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_nothing_to_score),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_broken_file),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
