#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char message[LODE_MESSAGE_MAX];

lode_status_t lode_fail(lode_status_t status, const char *format, ...) {
    LODE_ASSERT(status != LODE_OK);
    /* Formatted aside, so that an argument may be the current message. */
    char text[LODE_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(message, text, sizeof message);
    return status;
}

lode_status_t lode_fail_context(lode_status_t status, const char *format, ...) {
    if (status == LODE_OK || status == LODE_STOPPED) /* which is nothing's fault */
        return status;
    char prefix[LODE_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(prefix, sizeof prefix, format, arguments);
    va_end(arguments);
    size_t used = strlen(prefix);
    if (used + 2 < sizeof prefix) /* a prefix that fills the buffer stands alone */
        snprintf(prefix + used, sizeof prefix - used, ": %.*s", (int)(sizeof prefix - used - 3),
                 message);
    memcpy(message, prefix, sizeof message);
    return status;
}

const char *lode_error_message(void) {
    return message;
}

const char *lode_status_text(lode_status_t status) {
    switch (status) {
#define LODE_STATUS_CASE(code, exit_status, text)                                                  \
    case code:                                                                                     \
        return text;
        LODE_STATUS_LIST(LODE_STATUS_CASE)
#undef LODE_STATUS_CASE
    }
    return "unknown status";
}

void lode_assert_failed(const char *condition, const char *file, int line) {
    fprintf(stderr, "lode: internal error at %s:%d: %s does not hold; please report this\n", file,
            line, condition);
    abort();
}
