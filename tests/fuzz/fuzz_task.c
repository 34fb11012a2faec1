/* Fuzz target: whatever bytes a task file has, it is refused, or its items lie within what was read
 * and examples can be drawn for them or are refused. */
#include <stdlib.h>

#include "text/task.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition)
        abort();
}

static void check_item(const lode_task_t *task, int64_t item) {
    const int64_t requests = lode_task_requests(task, item);
    require(requests >= 1 && requests <= lode_task_widest(task));
    require(lode_task_gold(task, item) >= 0 && lode_task_gold(task, item) < requests);
    for (int64_t r = 0; r < requests; r++) {
        const char *text;
        size_t length;
        lode_task_context(task, item, r, &text, &length);
        require(lode_utf8_check(text, length, "context") == LODE_OK);
        lode_task_continuation(task, item, r, &text, &length);
        require(length > 0 && lode_utf8_check(text, length, "continuation") == LODE_OK);
        require(lode_task_characters(task, item, r) >= 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lode_task_t *task;
    if (lode_task_parse(&task, (const char *)data, size, 0, "fuzz") != LODE_OK) {
        require(task == NULL && lode_error_message()[0] != '\0');
        return 0;
    }
    for (int64_t i = 0; i < lode_task_items(task); i++) {
        lode_buffer_t prefix = {0};
        check_item(task, i);
        if (lode_task_examples(&prefix, task, i, 2, (int64_t)size) == LODE_OK)
            require(lode_utf8_check(prefix.data, prefix.length, "examples") == LODE_OK);
        lode_buffer_free(&prefix);
    }
    lode_task_destroy(&task);
    return 0;
}
