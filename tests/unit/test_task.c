/* Task files written out here: what is read, what is refused and how, and how examples are drawn.
 */
#include "testing/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testing/compare.h"
#include "text/task.h"

static lode_task_t *parse(const char *text, int64_t limit) {
    lode_task_t *task;
    LODE_ASSERT_OK(lode_task_parse(&task, text, strlen(text), limit, "t.jsonl"));
    return task;
}

static void assert_request(const lode_task_t *task, int64_t item, int64_t request,
                           const char *context, const char *continuation) {
    const char *text;
    size_t length;
    lode_task_context(task, item, request, &text, &length);
    assert_int_equal(length, strlen(context));
    assert_memory_equal(text, context, length);
    lode_task_continuation(task, item, request, &text, &length);
    assert_int_equal(length, strlen(continuation));
    assert_memory_equal(text, continuation, length);
}

static const char THREE[] =
    "{\"id\": \"a\", \"requests\": [[\"Q: é?\", \" né\"], [\"Q: é?\", \"  x\"]], \"gold\": 1}\r\n"
    "  \n"
    "{\"gold\": 0, \"requests\": [[\"\", \"\\u00e9\\ud83d\\ude00\"]], \"id\": \"a\", \"more\": "
    "[1]}\n"
    "{\"requests\": [[\"c\", \" \"], [\"d\", \"e\"], [\"f\", \"g\"]], \"gold\": 2}";

static void test_items(void **state) {
    (void)state;
    lode_task_t *task = parse(THREE, 0);
    assert_int_equal(lode_task_items(task), 3);
    assert_int_equal(lode_task_widest(task), 3);
    const int64_t lines[] = {1, 3, 4}, requests[] = {2, 1, 3}, gold[] = {1, 0, 2};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lode_task_line(task, i), lines[i]);
        assert_int_equal(lode_task_requests(task, i), requests[i]);
        assert_int_equal(lode_task_gold(task, i), gold[i]);
    }
    assert_request(task, 0, 0, "Q: é?", " né");
    assert_request(task, 0, 1, "Q: é?", "  x");
    assert_request(task, 1, 0, "", "é😀");
    assert_request(task, 2, 1, "d", "e");
    /* One space at the beginning does not count. */
    assert_int_equal(lode_task_characters(task, 0, 0), 2);
    assert_int_equal(lode_task_characters(task, 0, 1), 2);
    assert_int_equal(lode_task_characters(task, 1, 0), 2);
    assert_int_equal(lode_task_characters(task, 2, 0), 0);
    lode_task_destroy(&task);
    assert_null(task);
    lode_task_destroy(&task);
}

static void test_limit(void **state) {
    (void)state;
    lode_task_t *task = parse(THREE, 2);
    assert_int_equal(lode_task_items(task), 2);
    assert_int_equal(lode_task_widest(task), 2);
    lode_task_destroy(&task);
    task = parse(THREE, 4);
    assert_int_equal(lode_task_items(task), 3);
    lode_task_destroy(&task);
    /* What follows is not looked at. */
    task = parse("{\"requests\": [[\"a\", \"b\"]], \"gold\": 0}\nnonsense", 1);
    assert_int_equal(lode_task_items(task), 1);
    lode_task_destroy(&task);
}

static void assert_refused(const char *text, size_t size, lode_status_t status, const char *part) {
    lode_task_t *task;
    LODE_ASSERT_FAILS(lode_task_parse(&task, text, size, 0, "t.jsonl"), status, part);
    assert_null(task);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *line, *part;
    } cases[] = {
        {"{\"requests\": ", "t.jsonl: line 2: is not a JSON object: "},
        {"[1]", "t.jsonl: line 2: the line must be an object, not an array"},
        {"{\"gold\": 0}", "t.jsonl: line 2: \"requests\" is missing"},
        {"{\"requests\": {}, \"gold\": 0}", "\"requests\" must be an array, not an object"},
        {"{\"requests\": [], \"gold\": 0}", "\"requests\" is empty; an item needs at least one"},
        {"{\"requests\": [[\"a\", \"b\"]]}", "t.jsonl: line 2: \"gold\" is missing"},
        {"{\"requests\": [[\"a\", \"b\"]], \"gold\": \"0\"}", "\"gold\" must be an integer"},
        {"{\"requests\": [[\"a\", \"b\"]], \"gold\": 0.0}", "\"gold\" must be an integer"},
        {"{\"requests\": [[\"a\", \"b\"]], \"gold\": 1}",
         "\"gold\" is 1, no place among 1 request"},
        {"{\"requests\": [[\"a\", \"b\"]], \"gold\": -1}", "\"gold\" is -1, no place among"},
        {"{\"id\": 7, \"requests\": [[\"a\", \"b\"]], \"gold\": 0}", "\"id\" must be a string"},
        {"{\"requests\": [[\"a\", \"b\", \"c\"]], \"gold\": 0}",
         "request 0 must be [context, continuation]"},
        {"{\"requests\": [[\"a\", \"b\"], \"c\"], \"gold\": 0}",
         "request 1 must be [context, continuation]"},
        {"{\"requests\": [[1, \"b\"]], \"gold\": 0}",
         "the context of request 0 must be a string, not an integer"},
        {"{\"requests\": [[\"a\", null]], \"gold\": 0}",
         "the continuation of request 0 must be a string, not null"},
        {"{\"requests\": [[\"a\", \"b\"], [\"a\", \"\"]], \"gold\": 0}",
         "the continuation of request 1 is empty; there is nothing to score"},
        {"{\"requests\": [[\"a\\u0000\", \"b\"]], \"gold\": 0}",
         "the context of request 0 has a NUL character"},
        {"{\"requests\": [[\"a\", \"b\"]], \"gold\": 0, \"gold\": 0}", "duplicate object key"},
        {"{\"requests\": [[\"a\", \"\\ud800\"]], \"gold\": 0}", "is not a JSON object: "},
        {"{\"requests\": [[\"a\", \"b\"]], \"gold\": 0} x", "is not a JSON object: "},
        {"{\"requests\": [[\"a\", \"\xff\"]], \"gold\": 0}", "t.jsonl: line 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"requests\": [[\"a\", \"b\"]], \"gold\": 0}\n%s\n",
                 cases[i].line);
        assert_refused(text, strlen(text), LODE_ERR_FORMAT, cases[i].part);
    }
    assert_refused("", 0, LODE_ERR_INPUT, "t.jsonl: there is no item in it");
    assert_refused(" \n\n", 3, LODE_ERR_INPUT, "t.jsonl: there is no item in it");
    static const char mark[] = "\xef\xbb\xbf{\"requests\": [[\"a\", \"b\"]], \"gold\": 0}";
    assert_refused(mark, sizeof mark - 1, LODE_ERR_FORMAT,
                   "t.jsonl: begins with a byte order mark; save it as UTF-8 without one");
    static const char nul[] = "{\"requests\": [[\"a\", \"b\"]],\0 \"gold\": 0}";
    assert_refused(nul, sizeof nul - 1, LODE_ERR_FORMAT, "line 1");
    lode_task_t *task;
    LODE_ASSERT_FAILS(lode_task_read(&task, "/nowhere/t.jsonl", 0), LODE_ERR_INPUT,
                      "/nowhere/t.jsonl");
}

static void test_many_requests(void **state) {
    (void)state;
    for (int extra = 0; extra < 2; extra++) {
        lode_buffer_t text = {0};
        lode_task_t *task;
        LODE_ASSERT_OK(lode_buffer_printf(&text, "{\"gold\": 1023, \"requests\": [[\"a\", \"b\"]"));
        for (int i = 1; i < LODE_TASK_MAX_REQUESTS + extra; i++)
            LODE_ASSERT_OK(lode_buffer_printf(&text, ", [\"a\", \"b%d\"]", i));
        LODE_ASSERT_OK(lode_buffer_printf(&text, "]}"));
        if (extra == 0) {
            task = parse(text.data, 0);
            assert_int_equal(lode_task_requests(task, 0), LODE_TASK_MAX_REQUESTS);
            assert_request(task, 0, 1023, "a", "b1023");
            lode_task_destroy(&task);
        } else {
            assert_refused(text.data, text.length, LODE_ERR_FORMAT, "has 1025 requests, more than");
        }
        lode_buffer_free(&text);
    }
}

/* --- examples --------------------------------------------------------------------------- */

enum { ITEMS = 10 };

/* Items "q<i>" with the answer " r<i>" second; the last is the first once more. */
static lode_task_t *make_items(void) {
    lode_buffer_t text = {0};
    for (int i = 0; i < ITEMS; i++)
        LODE_ASSERT_OK(lode_buffer_printf(
            &text, "{\"requests\": [[\"q%d\", \" w\"], [\"q%d\", \" r%d\"]], \"gold\": 1}\n",
            i % (ITEMS - 1), i % (ITEMS - 1), i % (ITEMS - 1)));
    lode_task_t *task = parse(text.data, 0);
    lode_buffer_free(&text);
    return task;
}

static void test_examples(void **state) {
    (void)state;
    lode_task_t *task = make_items();
    int differ = 0, seen[ITEMS] = {0};
    char before[256] = "";
    for (int64_t item = 0; item < ITEMS; item++) {
        lode_buffer_t prefix = {0}, again = {0}, other = {0};
        LODE_ASSERT_OK(lode_task_examples(&prefix, task, item, 3, 42));
        LODE_ASSERT_OK(lode_task_examples(&again, task, item, 3, 42));
        LODE_ASSERT_OK(lode_task_examples(&other, task, item, 3, 43));
        assert_string_equal(prefix.data, again.data);
        differ += strcmp(prefix.data, other.data) != 0;
        differ += strcmp(prefix.data, before) != 0;
        snprintf(before, sizeof before, "%s", prefix.data);
        /* Three of the others, each solved, never the item's own text. */
        const char *next = prefix.data;
        for (int i = 0; i < 3; i++) {
            int q, r, length;
            assert_int_equal(sscanf(next, "q%d r%d%n", &q, &r, &length), 2);
            assert_int_equal(q, r);
            assert_int_not_equal(q, item % (ITEMS - 1));
            seen[q]++;
            assert_memory_equal(next + length, "\n\n", 2);
            next += length + 2;
        }
        assert_int_equal(*next, '\0');
        lode_buffer_free(&prefix);
        lode_buffer_free(&again);
        lode_buffer_free(&other);
    }
    assert_true(differ > 12);
    for (int i = 0; i < ITEMS - 1; i++)
        assert_true(seen[i] < ITEMS);
    lode_task_destroy(&task);
}

static void test_example_counts(void **state) {
    (void)state;
    lode_task_t *task = make_items();
    lode_buffer_t prefix = {0};
    LODE_ASSERT_OK(lode_task_examples(&prefix, task, 3, 0, 42));
    assert_null(prefix.data);
    LODE_ASSERT_OK(lode_task_examples(&prefix, task, 3, ITEMS - 1, 42));
    assert_int_equal(prefix.length, (ITEMS - 1) * strlen("q0 r0\n\n"));
    LODE_ASSERT_FAILS(lode_task_examples(&prefix, task, 3, ITEMS, 42), LODE_ERR_INPUT,
                      "t.jsonl: has 9 other items to stand before the one on line 4, shots = 10 "
                      "needs more");
    /* Its double is not another item. */
    LODE_ASSERT_FAILS(lode_task_examples(&prefix, task, 0, ITEMS - 1, 42), LODE_ERR_INPUT,
                      "has 8 other items");
    lode_buffer_free(&prefix);
    lode_task_destroy(&task);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items),    cmocka_unit_test(test_limit),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_many_requests),
        cmocka_unit_test(test_examples), cmocka_unit_test(test_example_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
