/* store/journal_internal: what the journal's own files share.
 *
 * journal.c has its text and its life, journal_takeover.c what becomes of an interrupted run's
 * data, journal_marks.c the bytes that say which units are done.
 */
#ifndef LODE_STORE_JOURNAL_INTERNAL_H
#define LODE_STORE_JOURNAL_INTERNAL_H

#include "base/memory.h"
#include "store/internal.h"

/* Units that were marked and are not known to be on disk. */
typedef struct lode_journal_run {
    int64_t first, count;
} lode_journal_run_t;

typedef struct lode_journal_pending {
    lode_journal_run_t *runs;
    int64_t count, room;
} lode_journal_pending_t;

struct lode_journal {
    char *path, *skeleton; /* <path>.journal; where datasets are laid out while the journal waits */
    char fingerprint[LODE_DIGEST_TEXT];
    bool waits;           /* for lode_store_resume(), with what an interrupted run left */
    bool keep;            /* that was taken over, or this run has marked something */
    bool opened;          /* units may be marked */
    int descriptor, data; /* of the journal and of the partial file */
    int64_t marks_at;     /* the place of unit 0's byte */
    int parts;
    int64_t *first;                     /* [parts + 1] units, counted through all parts */
    uint8_t *done;                      /* [first[parts]] when the journal was opened, 0 or 1 */
    lode_journal_pending_t own, shared; /* shared: marked together; on rank 0 */
    double synced, interval;
};

/* --- journal.c ------------------------------------------------------------------------------- */

/* LODE_ERR_IO with a message of `path`, `what` failed there, and why errno says so. Local. */
LODE_MUST_USE lode_status_t lode_journal_fail(const char *path, const char *what);
/* Move all of data[size] between memory and a file; false where that fails. Local. */
bool lode_journal_read(int descriptor, void *data, int64_t size, int64_t offset);
bool lode_journal_write(int descriptor, const void *data, int64_t size, int64_t offset);
/* Deletes the journal of `path`, for good: it must never speak of a later file. Local. */
void lode_journal_delete(const char *path);

/* --- journal_takeover.c ---------------------------------------------------------------------- */

/* Continues in the interrupted run's file. Collective. */
LODE_MUST_USE lode_status_t lode_journal_take_over(lode_store_t *store);
/* Continues in the new file after all, with what was put off when its datasets were created.
 * Collective. */
LODE_MUST_USE lode_status_t lode_journal_begin_anew(lode_store_t *store);

/* --- journal_marks.c ------------------------------------------------------------------------- */

/* Numbers the units of parts[count], none of which is done. Local. */
LODE_MUST_USE lode_status_t lode_journal_number(lode_journal_t *journal, const lode_part_t *parts,
                                                int64_t count);
/* Opens the journal that begins with `text` for marks: with `found` that of the interrupted run,
 * whose marks are read, else a new one, which is written from `text`. Collective. */
LODE_MUST_USE lode_status_t lode_journal_start(lode_store_t *store, lode_buffer_t *text,
                                               bool found);

#endif
