#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static bool speaks = false;

/* Whether the terminal's last line is an unfinished progress line. */
static bool line_open = false;

/* The work in hand, as it was last heard of; no stage between pieces of work. */
static lode_progress_t current;

void lode_log_enable(bool enable) {
    speaks = enable;
}

/* One line, whatever the names and quotations in it hold: a control character could end it, or tell
 * a terminal to do something. */
static void print(const char *prefix, const char *text) {
    char line[LODE_MESSAGE_MAX];
    snprintf(line, sizeof line, "%s", text);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    fprintf(stderr, "%slode: %s%s\n", line_open ? "\r\033[K" : "", prefix, line);
    line_open = false;
}

LODE_PRINTF(2, 0)
static void print_line(const char *prefix, const char *format, va_list arguments) {
    char text[LODE_MESSAGE_MAX];
    vsnprintf(text, sizeof text, format, arguments);
    print(prefix, text);
}

void lode_log_info(const char *format, ...) {
    if (!speaks)
        return;
    va_list arguments;
    va_start(arguments, format);
    print_line("", format, arguments);
    va_end(arguments);
}

void lode_log_warning(const char *format, ...) {
    if (!speaks)
        return;
    va_list arguments;
    va_start(arguments, format);
    print_line("warning: ", format, arguments);
    va_end(arguments);
}

void lode_error_print(const char *message) {
    print("error: ", message);
}

double lode_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void lode_progress_start(lode_progress_t *progress, const char *stage, const char *unit,
                         int64_t units) {
    double now = lode_time();
    *progress = (lode_progress_t){
        .stage = stage, .unit = unit, .units = units, .start = now, .last_shown = now};
    current = *progress;
}

static void show(const lode_progress_t *progress, double now, bool end) {
    double elapsed = now - progress->start;
    double rate = elapsed > 0 ? (double)progress->tokens_done / elapsed : 0;
    char tokens[64] = "", left[64] = "";
    if (progress->tokens_done > 0)
        snprintf(tokens, sizeof tokens, ", %.0f tokens/s", rate);
    if (end) {
        snprintf(left, sizeof left, ", %.1f s", elapsed);
    } else if (progress->units_done > progress->units_before) {
        double seconds = elapsed / (double)(progress->units_done - progress->units_before) *
                         (double)(progress->units - progress->units_done);
        snprintf(left, sizeof left, ", %02d:%02d:%02d left", (int)(seconds / 3600),
                 (int)(seconds / 60) % 60, (int)seconds % 60);
    }
    bool terminal = isatty(STDERR_FILENO);
    fprintf(stderr, "%slode: %s: %s %lld/%lld%s%s%s%s%s", terminal ? "\r\033[K" : "",
            progress->stage, progress->unit, (long long)progress->units_done,
            (long long)progress->units, *progress->note ? ", " : "", progress->note, tokens, left,
            terminal && !end ? "" : "\n");
    fflush(stderr);
    line_open = terminal && !end;
}

void lode_progress_resume(lode_progress_t *progress, int64_t units) {
    progress->units_done = progress->units_before = units;
    current = *progress;
}

void lode_progress_add(lode_progress_t *progress, int64_t units, int64_t tokens) {
    progress->units_done += units;
    progress->tokens_done += tokens;
    current = *progress;
    if (!speaks)
        return;
    double now = lode_time();
    double interval = isatty(STDERR_FILENO) ? 0.2 : 10.0;
    if (now - progress->last_shown < interval)
        return;
    progress->last_shown = now;
    show(progress, now, false);
}

void lode_progress_note(lode_progress_t *progress, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(progress->note, sizeof progress->note, format, arguments);
    va_end(arguments);
}

void lode_progress_end(lode_progress_t *progress) {
    current = (lode_progress_t){0};
    if (speaks)
        show(progress, lode_time(), true);
}

const char *lode_progress_text(void) {
    static char text[128];
    if (!current.stage)
        return "";
    const bool begun = current.units_done > 0;
    snprintf(text, sizeof text, "%s %s %s %lld of %lld", current.stage, begun ? "after" : "before",
             current.unit, (long long)(begun ? current.units_done : 1), (long long)current.units);
    return text;
}
