#include "store/journal_internal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"

/* What a unit's byte says; anything else is not done. */
enum { WRITTEN = 'w', SYNCED = 's' };

/* After the text: which start of which machine all ranks are on, "" for several. */
enum { BOOT_TEXT = 37, BOOT_BYTES = 64 };

static const double SYNC_SECONDS = 1; /* between syncs, at least */
static const double SYNC_SHARE = 20;  /* or so many times as long as one takes */

/* --- which start of which machine ------------------------------------------------------------ */

static void boot_of_machine(char boot[BOOT_TEXT]) {
    memset(boot, 0, BOOT_TEXT);
    const int descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    if (!lode_journal_read(descriptor, boot, BOOT_TEXT - 1, 0))
        boot[0] = '\0';
    close(descriptor);
}

/* "" where ranks are on several machines. Collective. */
static void boot_of_all(const lode_comm_t *comm, char boot[BOOT_TEXT]) {
    char mine[BOOT_TEXT];
    boot_of_machine(mine);
    memcpy(boot, mine, sizeof mine);
    if (comm->size == 1)
        return;
    MPI_Bcast(boot, BOOT_TEXT, MPI_CHAR, 0, comm->comm);
    int same = memcmp(boot, mine, sizeof mine) == 0;
    MPI_Allreduce(MPI_IN_PLACE, &same, 1, MPI_INT, MPI_MIN, comm->comm);
    if (!same)
        boot[0] = '\0';
}

/* --- beginning ------------------------------------------------------------------------------- */

lode_status_t lode_journal_number(lode_journal_t *journal, const lode_part_t *parts,
                                  int64_t count) {
    LODE_TRY(LODE_NEW(&journal->first, count + 1, "journal"));
    journal->parts = (int)count;
    for (int64_t i = 0; i < count; i++)
        journal->first[i + 1] = journal->first[i] + parts[i].units;
    return LODE_NEW(&journal->done, journal->first[count] + 1, "journal");
}

/* Turns the bytes that the interrupted run left into 0 and 1. */
static void read_marks(lode_journal_t *journal, const char *boot) {
    const int64_t units = journal->first[journal->parts];
    char theirs[BOOT_BYTES] = "";
    const int descriptor = open(journal->path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    const bool known =
        lode_journal_read(descriptor, theirs, BOOT_BYTES, journal->marks_at - BOOT_BYTES);
    const bool same = known && *boot && strncmp(theirs, boot, BOOT_TEXT - 1) == 0;
    int64_t found = 0; /* bytes that were cut off say nothing */
    while (found < units) {
        const ssize_t got = pread(descriptor, journal->done + found, (size_t)(units - found),
                                  (off_t)(journal->marks_at + found));
        if (got <= 0)
            break;
        found += got;
    }
    for (int64_t i = 0; i < units; i++)
        journal->done[i] =
            i < found && (journal->done[i] == SYNCED || (journal->done[i] == WRITTEN && same));
    close(descriptor);
}

/* Makes all that is done durable under the interrupted run's journal, then makes that ours. By rank
 * 0. */
static lode_status_t renew(lode_store_t *store, const char *boot) {
    lode_journal_t *journal = store->journal;
    const int64_t units = journal->first[journal->parts];
    char field[BOOT_BYTES] = "", *marks;
    memcpy(field, boot, BOOT_TEXT);
    LODE_TRY(LODE_NEW(&marks, units + 1, "journal"));
    for (int64_t i = 0; i < units; i++)
        marks[i] = journal->done[i] ? SYNCED : 0;
    const bool good =
        fsync(store->descriptor) == 0 &&
        lode_journal_write(journal->descriptor, marks, units, journal->marks_at) &&
        fsync(journal->descriptor) == 0 &&
        lode_journal_write(journal->descriptor, field, BOOT_BYTES, journal->marks_at - BOOT_BYTES);
    free(marks);
    return good ? LODE_OK : lode_journal_fail(journal->path, "cannot be written");
}

/* Writes a journal of which nothing is done. By rank 0. */
static lode_status_t write_journal(const lode_journal_t *journal, lode_buffer_t *text,
                                   const char *boot) {
    const int64_t units = journal->first[journal->parts];
    char field[BOOT_BYTES] = "", *marks;
    memcpy(field, boot, BOOT_TEXT);
    LODE_TRY(lode_buffer_append(text, field, sizeof field));
    LODE_TRY(LODE_NEW(&marks, units + 1, "journal"));
    lode_status_t status = lode_buffer_append(text, marks, (size_t)units);
    free(marks);
    if (status == LODE_OK)
        status = lode_file_write_atomic(journal->path, text->data, text->length);
    return status;
}

static lode_status_t open_marks(lode_store_t *store) {
    lode_journal_t *journal = store->journal;
    journal->descriptor = open(journal->path, O_RDWR | O_CLOEXEC);
    journal->data = open(store->partial, O_RDWR | O_CLOEXEC);
    if (lode_fault(LODE_FAULT_OPEN) || journal->descriptor < 0 || journal->data < 0)
        return lode_journal_fail(journal->path, "cannot be opened");
    journal->synced = lode_time();
    journal->interval = SYNC_SECONDS;
    return LODE_OK;
}

/* What was not written must read as missing even after a power cut, before any mark says more. */
static lode_status_t sync_fill(const lode_store_t *store) {
    const int descriptor = open(store->partial, O_RDWR | O_CLOEXEC);
    const bool good = descriptor >= 0 && fsync(descriptor) == 0;
    if (descriptor >= 0)
        close(descriptor);
    return good ? LODE_OK : lode_journal_fail(store->partial, "cannot be synced to disk");
}

lode_status_t lode_journal_start(lode_store_t *store, lode_buffer_t *text, bool found) {
    const lode_comm_t *comm = &store->comm;
    lode_journal_t *journal = store->journal;
    const size_t units = (size_t)journal->first[journal->parts];
    char boot[BOOT_TEXT];
    journal->marks_at = (int64_t)text->length + BOOT_BYTES;
    lode_status_t status = found ? LODE_OK : sync_fill(store);
    boot_of_all(comm, boot);
    LODE_TRY(lode_comm_agree(comm, status));
    if (comm->rank == 0 && found) {
        char here[BOOT_TEXT]; /* the earlier run's machine may be one of ours */
        boot_of_machine(here);
        read_marks(journal, here);
    } else if (comm->rank == 0) {
        status = write_journal(journal, text, boot);
    }
    LODE_TRY(lode_comm_agree(comm, status));
    LODE_TRY(lode_comm_agree(comm, open_marks(store)));
    if (comm->rank == 0 && found)
        status = renew(store, boot);
    LODE_TRY(lode_comm_agree(comm, status));
    LODE_TRY(lode_comm_broadcast(comm, journal->done, units, 0));
    journal->opened = true;
    return LODE_OK;
}

/* --- what is done, and marking more ---------------------------------------------------------- */

/* The first of a run of units, counted through all parts. */
static int64_t number_of(const lode_journal_t *journal, int part, int64_t first, int64_t count) {
    LODE_ASSERT(part < journal->parts && first >= 0 && count >= 0 &&
                first + count <= journal->first[part + 1] - journal->first[part]);
    return journal->first[part] + first;
}

bool lode_store_done(const lode_store_t *store, int part, int64_t first, int64_t count) {
    const lode_journal_t *journal = store->journal;
    if (!journal || !journal->opened)
        return false;
    const int64_t number = number_of(journal, part, first, count);
    for (int64_t i = 0; i < count; i++)
        if (!journal->done[number + i])
            return false;
    return true;
}

int64_t lode_store_done_count(const lode_store_t *store, int part) {
    const lode_journal_t *journal = store->journal;
    int64_t count = 0;
    if (!journal || !journal->opened)
        return 0;
    for (int64_t i = journal->first[part]; i < journal->first[part + 1]; i++)
        count += journal->done[i];
    return count;
}

static lode_status_t put_marks(lode_journal_t *journal, lode_journal_run_t run, char mark) {
    char marks[256];
    memset(marks, mark, sizeof marks);
    for (int64_t done = 0; done < run.count;) {
        const int64_t left = run.count - done, room = sizeof marks;
        const int64_t piece = left < room ? left : room;
        if (!lode_journal_write(journal->descriptor, marks, piece,
                                journal->marks_at + run.first + done))
            return lode_journal_fail(journal->path, "cannot be written");
        done += piece;
    }
    return LODE_OK;
}

/* Notes units whose data may not be on disk yet. */
static lode_status_t put_off(lode_journal_pending_t *pending, lode_journal_run_t run) {
    if (pending->count == pending->room) {
        const int64_t room = pending->room ? 2 * pending->room : 64;
        lode_journal_run_t *grown = realloc(pending->runs, (size_t)room * sizeof *grown);
        if (!grown)
            return lode_fail(LODE_ERR_MEMORY, "no memory for the journal's units");
        pending->runs = grown;
        pending->room = room;
    }
    pending->runs[pending->count++] = run;
    return LODE_OK;
}

/* Does what LODE_MARKS asks for, after each mark. */
static void obey_test(void) {
    static int64_t marks = 0;
    long long wanted;
    char what[5] = "";
    const char *text = getenv("LODE_MARKS");
    marks++;
    if (text && sscanf(text, "%4[a-z]:%lld", what, &wanted) == 2 && wanted == marks)
        raise(strcmp(what, "kill") == 0 ? SIGKILL : SIGTERM);
}

/* After a sync of the data. */
static lode_status_t settle(lode_journal_t *journal, lode_journal_pending_t *pending) {
    for (int64_t i = 0; i < pending->count; i++)
        LODE_TRY(put_marks(journal, pending->runs[i], SYNCED));
    pending->count = 0;
    return LODE_OK;
}

/* Puts what this rank has written on disk, and says so of the units that are its own. */
static lode_status_t sync_own(lode_store_t *store) {
    lode_journal_t *journal = store->journal;
    const double start = lode_time();
    if (lode_fault(LODE_FAULT_WRITE) || fsync(journal->data) != 0)
        return lode_journal_fail(store->partial, "cannot be synced to disk");
    journal->synced = lode_time();
    const double rest = SYNC_SHARE * (journal->synced - start);
    journal->interval = rest > SYNC_SECONDS ? rest : SYNC_SECONDS;
    return settle(journal, &journal->own);
}

static bool is_due(const lode_journal_t *journal) {
    return lode_time() - journal->synced >= journal->interval;
}

static lode_status_t mark(lode_store_t *store, lode_journal_run_t run) {
    lode_journal_t *journal = store->journal;
    LODE_TRY(lode_store_sticky(store));
    journal->keep = true;
    LODE_TRY(put_marks(journal, run, WRITTEN));
    LODE_TRY(put_off(&journal->own, run));
    obey_test();
    return is_due(journal) ? sync_own(store) : LODE_OK;
}

lode_status_t lode_store_mark(lode_store_t *store, int part, int64_t first, int64_t count) {
    if (!store->journal || !store->journal->opened)
        return LODE_OK;
    const lode_journal_run_t run = {.first = number_of(store->journal, part, first, count),
                                    .count = count};
    return lode_store_stick(store, mark(store, run));
}

/* By rank 0, `synced` by all. */
static lode_status_t mark_shared(lode_journal_t *journal, int64_t unit, bool synced) {
    const lode_journal_run_t run = {.first = unit, .count = 1};
    journal->keep = true;
    LODE_TRY(put_marks(journal, run, WRITTEN));
    LODE_TRY(put_off(&journal->shared, run));
    obey_test();
    if (!synced)
        return LODE_OK;
    LODE_TRY(settle(journal, &journal->shared));
    return fsync(journal->descriptor) == 0
               ? LODE_OK
               : lode_journal_fail(journal->path, "cannot be synced to disk");
}

lode_status_t lode_store_mark_all(lode_store_t *store, int part, int64_t unit, bool sync,
                                  lode_status_t local) {
    const lode_comm_t *comm = &store->comm;
    lode_journal_t *journal = store->journal;
    LODE_TRY(lode_comm_agree(comm, local == LODE_OK ? lode_store_sticky(store) : local));
    if (!journal || !journal->opened)
        return LODE_OK;
    const int64_t number = number_of(journal, part, unit, 1);
    int due = sync || is_due(journal);
    LODE_TRY(lode_comm_broadcast(comm, &due, sizeof due, 0));
    lode_status_t status = LODE_OK;
    if (due)
        status = lode_comm_agree(comm, lode_store_stick(store, sync_own(store)));
    if (status == LODE_OK && comm->rank == 0)
        status = lode_store_stick(store, mark_shared(journal, number, due != 0));
    return lode_comm_agree(comm, status);
}

bool lode_journal_suspend(lode_store_t *store) {
    const lode_comm_t *comm = &store->comm;
    lode_journal_t *journal = store->journal;
    if (!journal)
        return false;
    char message[LODE_MESSAGE_MAX];
    snprintf(message, sizeof message, "%s", lode_error_message());
    int keep = journal->keep, synced = 1;
    if (journal->opened) /* where it fails, units count as long as the machine is up */
        synced = sync_own(store) == LODE_OK;
    if (comm->size > 1) {
        MPI_Allreduce(MPI_IN_PLACE, &keep, 1, MPI_INT, MPI_MAX, comm->comm);
        MPI_Allreduce(MPI_IN_PLACE, &synced, 1, MPI_INT, MPI_MIN, comm->comm);
    }
    if (journal->opened && synced && settle(journal, &journal->shared) == LODE_OK)
        (void)!fsync(journal->descriptor);
    if (*message)
        (void)lode_fail(LODE_ERR_INTERNAL, "%s", message); /* the text alone counts */
    return keep != 0;
}
