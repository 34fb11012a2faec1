/* base/log: what a run says on stderr, and the progress of long work.
 *
 * One rank speaks (the one that called lode_log_enable(true), rank 0 by convention); on the others
 * every call here is silent, except lode_error_print. Everything here is Local.
 */
#ifndef LODE_BASE_LOG_H
#define LODE_BASE_LOG_H

#include <stdint.h>

#include "base/error.h"

void lode_log_enable(bool speaks);

/* One line, prefixed "lode: "; control characters become "?". No trailing newline in the format. */
void lode_log_info(const char *format, ...) LODE_PRINTF(1, 2);
/* The same, prefixed "lode: warning: ". */
void lode_log_warning(const char *format, ...) LODE_PRINTF(1, 2);
/* "lode: error: <message>", whoever calls it. */
void lode_error_print(const char *message);

/* Progress of one piece of work: a line that rewrites itself where stderr is a terminal, a plain
 * line at most every ten seconds otherwise, and one line at the end. */
typedef struct lode_progress {
    const char *stage; /* kept by reference */
    const char *unit;  /* "micro-batch", "layer" … kept by reference */
    int64_t units, units_done;
    int64_t units_before; /* of these, by an earlier run */
    int64_t tokens_done;  /* 0 where the work has no tokens */
    double start, last_shown;
    char note[96]; /* what else the line is to say, see lode_progress_note; "" nothing */
} lode_progress_t;

void lode_progress_start(lode_progress_t *progress, const char *stage, const char *unit,
                         int64_t units);
/* Counts units that an earlier run has done, before any are added: they took no time. */
void lode_progress_resume(lode_progress_t *progress, int64_t units);
/* Adds finished units and the tokens they held; shows stage, unit, tokens/s and time left. */
void lode_progress_add(lode_progress_t *progress, int64_t units, int64_t tokens);
void lode_progress_end(lode_progress_t *progress);
/* What the lines after it also say, between units and tokens/s: "loss 3.48". */
void lode_progress_note(lode_progress_t *progress, const char *format, ...) LODE_PRINTF(2, 3);

/* Where this rank's work stands: "accumulate after micro-batch 12 of 32", "" between pieces of
 * work. Static storage. */
const char *lode_progress_text(void);

/* Seconds on a monotonic clock. */
double lode_time(void);

#endif
