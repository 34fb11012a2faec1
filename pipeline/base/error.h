/* base/error: the one error convention of Lodestone.
 *
 * A function that can fail returns a lode_status_t. On failure it has described what went wrong,
 * and what the user can do about it, with lode_fail(); callers hand the code on unchanged
 * (LODE_TRY, LODE_GUARD) and add nothing unless they know a better name for the thing that failed.
 *
 * The message belongs to the calling thread and stays until the next lode_fail() there. A code
 * reached on one rank becomes everybody's with lode_comm_agree() (comm/context.h), the only place
 * where errors cross ranks.
 */
#ifndef LODE_BASE_ERROR_H
#define LODE_BASE_ERROR_H

#include <stdbool.h>

/* code, process exit status, what it means */
#define LODE_STATUS_LIST(X)                                                                        \
    X(LODE_OK, 0, "success")                                                                       \
    X(LODE_ERR_USAGE, 2, "wrong command line")                                                     \
    X(LODE_ERR_CONFIG, 3, "wrong experiment file")                                                 \
    X(LODE_ERR_INPUT, 4, "missing, unreadable or empty input")                                     \
    X(LODE_ERR_FORMAT, 5, "input that breaks its file format")                                     \
    X(LODE_ERR_SHAPE, 6, "tensor or array of the wrong shape or dtype")                            \
    X(LODE_ERR_UNSUPPORTED, 7, "valid input that this version does not implement")                 \
    X(LODE_ERR_IO, 8, "failed read, write, rename or lock")                                        \
    X(LODE_ERR_MEMORY, 9, "out of memory, or over the memory budget")                              \
    X(LODE_ERR_NUMERIC, 10, "NaN, infinity or a failed factorisation")                             \
    X(LODE_ERR_COMM, 11, "MPI failure")                                                            \
    X(LODE_ERR_BUSY, 12, "another run holds the lock")                                             \
    X(LODE_ERR_INTERNAL, 13, "a bug in Lodestone")                                                 \
    X(LODE_STOPPED, 75, "stopped on request, to be continued")

typedef enum lode_status {
#define LODE_STATUS_ENUM(code, exit_status, text) code = exit_status,
    LODE_STATUS_LIST(LODE_STATUS_ENUM)
#undef LODE_STATUS_ENUM
} lode_status_t;

#define LODE_MUST_USE __attribute__((warn_unused_result))
#define LODE_PRINTF(format_index, first_index)                                                     \
    __attribute__((format(printf, format_index, first_index)))

enum { LODE_MESSAGE_MAX = 2048 }; /* bytes of an error message, NUL included */

/* Records a formatted message for this thread and returns `status`, which must not be LODE_OK.
 * The sentence names the file, key or tensor and the remedy; no trailing newline. Local. */
lode_status_t lode_fail(lode_status_t status, const char *format, ...) LODE_PRINTF(2, 3);

/* Puts a formatted prefix and ": " before the recorded message; returns `status` for chaining:
 * return lode_fail_context(status, "%s", path). No effect where status is LODE_OK or LODE_STOPPED.
 * Local. */
lode_status_t lode_fail_context(lode_status_t status, const char *format, ...) LODE_PRINTF(2, 3);

/* The message of the last lode_fail() of this thread, "" if none. Never NULL. Local. */
const char *lode_error_message(void);

/* Short description of a code, for logs. Local. */
const char *lode_status_text(lode_status_t status);

/* Hands a failure on to the caller. */
#define LODE_TRY(expression)                                                                       \
    do {                                                                                           \
        lode_status_t lode_try_status_ = (expression);                                             \
        if (lode_try_status_ != LODE_OK)                                                           \
            return lode_try_status_;                                                               \
    } while (0)

/* The same where something must be released first: stores into `status`, jumps to `label`. */
#define LODE_GUARD(status, expression, label)                                                      \
    do {                                                                                           \
        (status) = (expression);                                                                   \
        if ((status) != LODE_OK)                                                                   \
            goto label;                                                                            \
    } while (0)

/* Prints the broken invariant and aborts: for our own bugs only, never for anything a user or a
 * file can cause. Always on; keep it out of inner loops. */
#define LODE_ASSERT(condition)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            lode_assert_failed(#condition, __FILE__, __LINE__);                                    \
    } while (0)
_Noreturn void lode_assert_failed(const char *condition, const char *file, int line);

#endif
