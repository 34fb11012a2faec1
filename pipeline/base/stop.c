#include "base/stop.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static volatile sig_atomic_t caught = 0; /* number of the first signal */
static double start = 0;                 /* 0: the clock does not run yet */
static double limit = 0;                 /* seconds since start, 0: none */

static const struct {
    int number;
    const char *name;
} signals[] = {
    {SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}, {SIGINT, "SIGINT"}};

enum { SIGNAL_COUNT = sizeof signals / sizeof *signals };

static void note_signal(int number) {
    if (caught == 0)
        caught = number;
    if (number != SIGINT)
        return;
    /* Someone at a terminal, who should know what goes on, and who means it when asking twice. */
    static const char text[] =
        "lode: ending the unit of work in hand; interrupt again to end at once\n";
    const int error = errno;
    const ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    (void)written;
    signal(SIGINT, SIG_DFL);
    errno = error;
}

static void start_clock(void) {
    if (start == 0)
        start = lode_time();
}

void lode_stop_install(void) {
    static bool installed = false;
    if (installed)
        return;
    installed = true;
    start_clock();
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        /* Reads and writes go on after the signal, rather than fail. */
        struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
        sigemptyset(&action.sa_mask);
        sigaction(signals[i].number, &action, NULL);
    }
}

void lode_stop_after(double seconds) {
    start_clock();
    limit = seconds;
}

static bool out_of_time(double seconds) {
    return limit > 0 && lode_time() - start + seconds >= limit;
}

bool lode_stop_requested(void) {
    return caught != 0 || out_of_time(0);
}

bool lode_stop_before(double seconds) {
    const double margin = 1.1;
    return caught != 0 || out_of_time(margin * seconds);
}

const char *lode_stop_reason(void) {
    static char text[64];
    for (int i = 0; i < SIGNAL_COUNT; i++)
        if (caught == signals[i].number)
            return signals[i].name;
    if (limit <= 0)
        return "";
    snprintf(text, sizeof text, "the time limit of %.10g s", limit);
    return text;
}

/* --- durations ------------------------------------------------------------------------------ */

/* A number without sign, exponent or other decoration; *end is where it stops, NULL for none. */
static double read_number(const char *text, const char **end) {
    const size_t digits = strspn(text, "0123456789.");
    char copy[32], *stop;
    *end = NULL;
    if (digits == 0 || digits >= sizeof copy)
        return NAN;
    memcpy(copy, text, digits);
    copy[digits] = '\0';
    const double value = strtod(copy, &stop);
    if (*stop == '\0')
        *end = text + digits;
    return value;
}

/* 3h30m; NAN where it is none. */
static double read_units(const char *text) {
    static const struct {
        char letter;
        double seconds;
    } units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
    double sum = 0;
    size_t unit = 0;
    do {
        const double value = read_number(text, &text);
        if (!text)
            return NAN;
        while (unit < 4 && units[unit].letter != *text)
            unit++;
        if (unit == 4)
            return NAN;
        sum += value * units[unit++].seconds;
        text++;
    } while (*text);
    return sum;
}

/* [days-]hours:minutes:seconds, minutes:seconds or seconds; NAN where it is none of them. */
static double read_colons(const char *text) {
    const bool whole = strchr(text, '-') != NULL;
    double days = 0, sum = 0;
    int parts = 0;
    if (whole) {
        days = read_number(text, &text);
        if (!text || *text++ != '-')
            return NAN;
    }
    for (;; text++) {
        const double value = read_number(text, &text);
        if (!text || (parts > 0 && value >= 60))
            return NAN;
        sum = 60 * sum + value;
        parts++;
        if (*text != ':')
            break;
    }
    const bool sound = *text == '\0' && (whole ? parts == 3 : parts <= 3);
    return sound ? 86400 * days + sum : NAN;
}

lode_status_t lode_stop_parse(double *seconds, const char *text) {
    const bool units = *text && strchr("dhms", text[strlen(text) - 1]) != NULL;
    *seconds = units ? read_units(text) : read_colons(text);
    if (*seconds > 0)
        return LODE_OK;
    *seconds = 0;
    return lode_fail(LODE_ERR_USAGE,
                     "\"%s\" is no duration; write 3600 (seconds), 3h30m or 3:30:00", text);
}
