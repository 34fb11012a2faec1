#include "base/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAULTS_MAX = 16 };

/* Calls first … last of a kind fail. */
typedef struct fault {
    lode_fault_kind_t kind;
    int64_t first, last;
} fault_t;

static const char *const kind_names[] = {
#define LODE_FAULT_NAME(kind, name) name,
    LODE_FAULT_LIST(LODE_FAULT_NAME)
#undef LODE_FAULT_NAME
};

bool lode_fault_armed;
static fault_t faults[FAULTS_MAX];
static int fault_count, this_rank;
static bool reports;
static atomic_int_least64_t calls[LODE_FAULT_KINDS];

static lode_status_t fail_text(const char *text, size_t length) {
    return lode_fail(LODE_ERR_USAGE,
                     "LODE_FAULT: \"%.*s\" is no fault; write <kind>[:rank=R][:call=N | :from=N], "
                     "kind allocation, open, read, write, receive or kill, or write count",
                     (int)(length < 200 ? length : 200), text);
}

static bool is_word(const char *text, size_t length, const char *word) {
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

/* The number behind "<name>=" where the field is of that name; false where it is not a number. */
static bool take_number(const char *field, size_t length, const char *name, int64_t *value) {
    const size_t skip = strlen(name);
    if (length <= skip + 1 || memcmp(field, name, skip) != 0 || field[skip] != '=')
        return false;
    char *end;
    errno = 0;
    const long long number = strtoll(field + skip + 1, &end, 10);
    if (errno != 0 || number < 0 || end != field + length)
        return false;
    *value = number;
    return true;
}

/* One fault, "write:rank=1:call=57". */
static lode_status_t parse(const char *text, size_t length, int rank) {
    size_t at = strcspn(text, ":,");
    fault_t fault = {.kind = LODE_FAULT_KINDS, .first = 1, .last = 1};
    int64_t on = rank, call = 1;
    if (is_word(text, length, "count")) {
        reports = true;
        return LODE_OK;
    }
    for (int kind = 0; kind < LODE_FAULT_KINDS; kind++)
        if (is_word(text, at, kind_names[kind]))
            fault.kind = (lode_fault_kind_t)kind;
    bool good = fault.kind != LODE_FAULT_KINDS && fault_count < FAULTS_MAX;
    while (good && at < length) {
        const char *field = text + at + 1;
        const size_t bytes = strcspn(field, ":,");
        if (take_number(field, bytes, "call", &call))
            fault.first = fault.last = call;
        else if (take_number(field, bytes, "from", &call))
            fault.first = call, fault.last = INT64_MAX;
        else
            good = take_number(field, bytes, "rank", &on);
        at += 1 + bytes;
    }
    if (!good)
        return fail_text(text, length);
    if (on == rank)
        faults[fault_count++] = fault;
    return LODE_OK;
}

lode_status_t lode_fault_arm(const char *text, int rank) {
    lode_fault_armed = false;
    reports = false;
    fault_count = 0;
    this_rank = rank;
    for (int kind = 0; kind < LODE_FAULT_KINDS; kind++)
        atomic_store(&calls[kind], 0);
    if (!text || !*text)
        return LODE_OK;
    for (const char *at = text;; at++) {
        const size_t length = strcspn(at, ",");
        LODE_TRY(parse(at, length, rank));
        at += length;
        if (!*at)
            break;
    }
    lode_fault_armed = true;
    return LODE_OK;
}

static bool falls(lode_fault_kind_t kind, int64_t call) {
    for (int i = 0; i < fault_count; i++)
        if (faults[i].kind == kind && call >= faults[i].first && call <= faults[i].last)
            return true;
    return false;
}

bool lode_fault_due(lode_fault_kind_t kind) {
    static const int reasons[] = {ENOMEM, EMFILE, EIO, ENOSPC, ECOMM, 0};
    const int64_t call = atomic_fetch_add(&calls[kind], 1) + 1;
    if (kind == LODE_FAULT_WRITE && falls(LODE_FAULT_KILL, call))
        raise(SIGKILL);
    if (!falls(kind, call))
        return false;
    errno = reasons[kind];
    return true;
}

int64_t lode_fault_calls(lode_fault_kind_t kind) {
    return atomic_load(&calls[kind]);
}

void lode_fault_report(void) {
    if (!reports)
        return;
    char line[256];
    int used = snprintf(line, sizeof line, "lode: calls that can fail on rank %d:", this_rank);
    for (int kind = 0; kind < LODE_FAULT_KILL; kind++)
        used += snprintf(line + used, sizeof line - (size_t)used, " %s %" PRId64, kind_names[kind],
                         lode_fault_calls((lode_fault_kind_t)kind));
    fprintf(stderr, "%s\n", line);
}
