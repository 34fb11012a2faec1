#include "text/task.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/random.h"
#include "text/field.h"
#include "text/utf8.h"

typedef struct request {
    size_t begin, middle, end; /* of the context, of the continuation, and its end, in the bytes */
} request_t;

typedef struct item {
    int64_t line, first, requests;
    int32_t gold;
} item_t;

struct lode_task {
    char *name;
    lode_buffer_t bytes; /* contexts and continuations, one behind the other */
    item_t *item;
    int64_t items, item_capacity;
    request_t *request;
    int64_t requests, request_capacity;
    int64_t widest;
};

enum { WHERE = 512 };

/* --- reading -------------------------------------------------------------------------------- */

/* Makes room for one element more in an array of elements of `size` bytes. */
static lode_status_t grow(void *array, int64_t count, int64_t *capacity, size_t size) {
    void *old, *larger;
    if (count < *capacity)
        return LODE_OK;
    const int64_t wanted = *capacity ? 2 * *capacity : 64;
    LODE_TRY(lode_alloc_raw(&larger, wanted, size, "items of a task"));
    memcpy(&old, array, sizeof old);
    if (count)
        memcpy(larger, old, (size_t)count * size);
    free(old);
    memcpy(array, &larger, sizeof larger);
    *capacity = wanted;
    return LODE_OK;
}

/* Appends a string of a request; `what` is "context" or "continuation". */
static lode_status_t add_text(lode_task_t *task, const json_t *value, int64_t place,
                              const char *what, const char *where) {
    char name[64];
    snprintf(name, sizeof name, "the %s of request %lld", what, (long long)place);
    LODE_TRY(lode_field_expect(value, JSON_STRING, name, where));
    const char *text = json_string_value(value);
    const size_t length = json_string_length(value);
    if (memchr(text, '\0', length))
        return lode_fail(LODE_ERR_FORMAT, "%s: %s has a NUL character; take it out", where, name);
    return lode_buffer_append(&task->bytes, text, length);
}

static lode_status_t add_request(lode_task_t *task, const json_t *pair, int64_t place,
                                 const char *where) {
    if (!json_is_array(pair) || json_array_size(pair) != 2)
        return lode_fail(LODE_ERR_FORMAT, "%s: request %lld must be [context, continuation]", where,
                         (long long)place);
    request_t request = {.begin = task->bytes.length};
    LODE_TRY(add_text(task, json_array_get(pair, 0), place, "context", where));
    request.middle = task->bytes.length;
    LODE_TRY(add_text(task, json_array_get(pair, 1), place, "continuation", where));
    request.end = task->bytes.length;
    if (request.middle == request.end)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: the continuation of request %lld is empty; there is nothing to score",
                         where, (long long)place);
    LODE_TRY(grow(&task->request, task->requests, &task->request_capacity, sizeof request));
    task->request[task->requests++] = request;
    return LODE_OK;
}

/* Adds the item that `object` describes. */
static lode_status_t add_item(lode_task_t *task, const json_t *object, int64_t line,
                              const char *where) {
    json_t *requests, *gold, *id;
    LODE_TRY(lode_field_expect(object, JSON_OBJECT, "the line", where));
    LODE_TRY(lode_field_find(&id, object, "id", JSON_STRING, where));
    LODE_TRY(lode_field_get(&requests, object, "requests", JSON_ARRAY, where));
    LODE_TRY(lode_field_get(&gold, object, "gold", JSON_INTEGER, where));
    const int64_t count = (int64_t)json_array_size(requests);
    const json_int_t right = json_integer_value(gold);
    if (count == 0)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"requests\" is empty; an item needs at least one",
                         where);
    if (count > LODE_TASK_MAX_REQUESTS)
        return lode_fail(LODE_ERR_FORMAT, "%s: has %lld requests, more than %d", where,
                         (long long)count, (int)LODE_TASK_MAX_REQUESTS);
    if (right < 0 || right >= count)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"gold\" is %lld, no place among %lld %s", where,
                         (long long)right, (long long)count, count == 1 ? "request" : "requests");
    LODE_TRY(grow(&task->item, task->items, &task->item_capacity, sizeof *task->item));
    const item_t item = {
        .line = line, .first = task->requests, .requests = count, .gold = (int32_t)right};
    for (int64_t r = 0; r < count; r++)
        LODE_TRY(add_request(task, json_array_get(requests, (size_t)r), r, where));
    task->item[task->items++] = item;
    task->widest = count > task->widest ? count : task->widest;
    return LODE_OK;
}

static lode_status_t add_line(lode_task_t *task, const char *text, size_t length, int64_t line) {
    char where[WHERE];
    json_error_t problem;
    snprintf(where, sizeof where, "%.440s: line %lld", task->name, (long long)line);
    LODE_TRY(lode_utf8_check(text, length, where));
    if (lode_utf8_is_blank(text, length))
        return LODE_OK;
    json_t *object = json_loadb(text, length, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &problem);
    const lode_status_t status =
        object ? add_item(task, object, line, where)
               : lode_fail(LODE_ERR_FORMAT, "%s: is not a JSON object: %s (column %d)", where,
                           problem.text, problem.column);
    json_decref(object);
    return status;
}

static lode_status_t add_lines(lode_task_t *task, const char *bytes, size_t size, int64_t limit) {
    int64_t line = 0;
    LODE_TRY(lode_utf8_check_start(bytes, size, task->name));
    for (size_t begin = 0; begin < size && (limit == 0 || task->items < limit);) {
        const char *newline = memchr(bytes + begin, '\n', size - begin);
        const size_t end = newline ? (size_t)(newline - bytes) : size;
        LODE_TRY(add_line(task, bytes + begin, end - begin, ++line));
        begin = end + 1;
    }
    if (task->items == 0)
        return lode_fail(LODE_ERR_INPUT,
                         "%s: there is no item in it; name a task file that has "
                         "some",
                         task->name);
    return LODE_OK;
}

lode_status_t lode_task_parse(lode_task_t **out, const char *bytes, size_t size, int64_t limit,
                              const char *name) {
    lode_task_t *task;
    *out = NULL;
    LODE_TRY(LODE_NEW(&task, 1, "task"));
    lode_status_t status = lode_strdup(&task->name, name);
    if (status == LODE_OK)
        status = add_lines(task, bytes, size, limit);
    if (status != LODE_OK)
        lode_task_destroy(&task);
    *out = task;
    return status;
}

lode_status_t lode_task_read(lode_task_t **out, const char *path, int64_t limit) {
    char *bytes;
    size_t size;
    *out = NULL;
    LODE_TRY(lode_file_read(&bytes, &size, path));
    const lode_status_t status = lode_task_parse(out, bytes, size, limit, path);
    free(bytes);
    return status;
}

void lode_task_destroy(lode_task_t **task) {
    if (!*task)
        return;
    lode_buffer_free(&(*task)->bytes);
    free((*task)->name);
    free((*task)->item);
    free((*task)->request);
    free(*task);
    *task = NULL;
}

/* --- looking at items ----------------------------------------------------------------------- */

static const item_t *item_of(const lode_task_t *task, int64_t item) {
    LODE_ASSERT(item >= 0 && item < task->items);
    return &task->item[item];
}

static const request_t *request_of(const lode_task_t *task, int64_t item, int64_t request) {
    LODE_ASSERT(request >= 0 && request < item_of(task, item)->requests);
    return &task->request[task->item[item].first + request];
}

int64_t lode_task_items(const lode_task_t *task) {
    return task->items;
}

int64_t lode_task_line(const lode_task_t *task, int64_t item) {
    return item_of(task, item)->line;
}

int64_t lode_task_requests(const lode_task_t *task, int64_t item) {
    return item_of(task, item)->requests;
}

int64_t lode_task_widest(const lode_task_t *task) {
    return task->widest;
}

int32_t lode_task_gold(const lode_task_t *task, int64_t item) {
    return item_of(task, item)->gold;
}

void lode_task_context(const lode_task_t *task, int64_t item, int64_t request, const char **text,
                       size_t *length) {
    const request_t *place = request_of(task, item, request);
    *text = task->bytes.data + place->begin;
    *length = place->middle - place->begin;
}

void lode_task_continuation(const lode_task_t *task, int64_t item, int64_t request,
                            const char **text, size_t *length) {
    const request_t *place = request_of(task, item, request);
    *text = task->bytes.data + place->middle;
    *length = place->end - place->middle;
}

int64_t lode_task_characters(const lode_task_t *task, int64_t item, int64_t request) {
    const char *text;
    size_t length;
    lode_task_continuation(task, item, request, &text, &length);
    return lode_utf8_count(text, length) - (text[0] == ' ');
}

/* --- examples ------------------------------------------------------------------------------- */

/* Context and continuation of an item's right request, which lie side by side. */
static void solved(const lode_task_t *task, int64_t item, const char **text, size_t *length) {
    const request_t *place = request_of(task, item, task->item[item].gold);
    *text = task->bytes.data + place->begin;
    *length = place->end - place->begin;
}

static bool same_text(const lode_task_t *task, int64_t a, int64_t b) {
    const char *a_text, *b_text;
    size_t a_length, b_length;
    solved(task, a, &a_text, &a_length);
    solved(task, b, &b_text, &b_length);
    return a_length == b_length && memcmp(a_text, b_text, a_length) == 0;
}

/* Draws chosen [shots]: of each draw that does not fit, the next one is taken. */
static void draw(const lode_task_t *task, int64_t item, int64_t shots, int64_t seed,
                 int64_t *chosen) {
    const uint64_t key = lode_random_key(seed, "examples of a task", item, 0);
    uint64_t counter = 0;
    for (int64_t taken = 0; taken < shots;) {
        const int64_t other = lode_random_below(key, counter++, task->items);
        bool fits = !same_text(task, other, item);
        for (int64_t i = 0; i < taken && fits; i++)
            fits = chosen[i] != other;
        if (fits)
            chosen[taken++] = other;
    }
}

lode_status_t lode_task_examples(lode_buffer_t *prefix, const lode_task_t *task, int64_t item,
                                 int64_t shots, int64_t seed) {
    int64_t others = 0, *chosen;
    if (shots == 0)
        return LODE_OK;
    for (int64_t i = 0; i < task->items && others < shots; i++)
        others += !same_text(task, i, item);
    if (others < shots)
        return lode_fail(LODE_ERR_INPUT,
                         "%s: has %lld other %s to stand before the one on line %lld, shots = %lld "
                         "needs more; ask for fewer shots or name a longer file",
                         task->name, (long long)others, others == 1 ? "item" : "items",
                         (long long)task->item[item].line, (long long)shots);
    LODE_TRY(LODE_NEW(&chosen, shots, "examples of a task"));
    draw(task, item, shots, seed, chosen);
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < shots && status == LODE_OK; i++) {
        const char *text;
        size_t length;
        solved(task, chosen[i], &text, &length);
        status = lode_buffer_append(prefix, text, length);
        if (status == LODE_OK)
            status = lode_buffer_append(prefix, "\n\n", 2);
    }
    free(chosen);
    return status;
}
