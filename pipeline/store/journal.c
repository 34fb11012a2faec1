#include "store/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "store/internal.h"

/* What a unit's byte says; anything else is not done. */
enum { WRITTEN = 'w', SYNCED = 's' };

/* After the text: which start of which machine all ranks are on, "" for several. */
enum { BOOT_TEXT = 37, BOOT_BYTES = 64 };

static const double SYNC_SECONDS = 1; /* between syncs, at least */
static const double SYNC_SHARE = 20;  /* or so many times as long as one takes */

/* Units that were marked and are not known to be on disk. */
typedef struct run {
    int64_t first, count;
} run_t;
typedef struct pending {
    run_t *runs;
    int64_t count, room;
} pending_t;

struct lode_journal {
    char *path, *skeleton; /* <path>.journal; where datasets are laid out while the journal waits */
    char fingerprint[LODE_DIGEST_TEXT];
    bool waits;           /* for lode_store_resume(), with what an interrupted run left */
    bool keep;            /* that was taken over, or this run has marked something */
    bool opened;          /* units may be marked */
    int descriptor, data; /* of the journal and of the partial file */
    int64_t marks_at;     /* the place of unit 0's byte */
    int parts;
    int64_t *first;        /* [parts + 1] units, counted through all parts */
    uint8_t *done;         /* [first[parts]] when the journal was opened, 0 or 1 */
    pending_t own, shared; /* shared: marked together; on rank 0 */
    double synced, interval;
};

/* --- small things ---------------------------------------------------------------------------- */

static lode_status_t with_ending(char **out, const char *path, const char *ending) {
    const size_t bytes = strlen(path) + strlen(ending) + 1;
    LODE_TRY(LODE_NEW_RAW(out, (int64_t)bytes, "path"));
    snprintf(*out, bytes, "%s%s", path, ending);
    return LODE_OK;
}

static lode_status_t fail_io(const char *path, const char *what) {
    return lode_fail(LODE_ERR_IO, "%s: %s: %s; check the disk's space and quota", path, what,
                     strerror(errno));
}

static bool read_at(int descriptor, void *data, int64_t size, int64_t offset) {
    for (int64_t done = 0; done < size;) {
        const ssize_t got =
            pread(descriptor, (char *)data + done, (size_t)(size - done), (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += got;
    }
    return true;
}

static bool write_at(int descriptor, const void *data, int64_t size, int64_t offset) {
    for (int64_t done = 0; done < size;) {
        if (lode_fault(LODE_FAULT_WRITE))
            return false;
        const ssize_t put = pwrite(descriptor, (const char *)data + done, (size_t)(size - done),
                                   (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        done += put;
    }
    return true;
}

static void boot_of_machine(char boot[BOOT_TEXT]) {
    memset(boot, 0, BOOT_TEXT);
    const int descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    if (!read_at(descriptor, boot, BOOT_TEXT - 1, 0))
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

/* Deletes the journal of `path`, for good: it must never speak of a later file. */
static void delete_journal(const char *path) {
    char name[4200];
    snprintf(name, sizeof name, "%s.journal", path);
    if (unlink(name) != 0)
        return;
    char *slash = strrchr(name, '/');
    if (slash)
        slash[slash == name] = '\0';
    const int folder = open(slash ? name : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        (void)!fsync(folder);
        close(folder);
    }
}

void lode_store_discard(const char *path) {
    static const char *const endings[] = {".journal.partial", ".partial.new", ".partial"};
    char name[4200];
    delete_journal(path);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        snprintf(name, sizeof name, "%s%s", path, endings[i]);
        unlink(name);
    }
}

/* --- the text -------------------------------------------------------------------------------- */

static lode_status_t put_head(lode_buffer_t *text, const char *fingerprint) {
    return lode_buffer_printf(text, "lodestone journal 1\nfingerprint %s\n", fingerprint);
}

static lode_status_t put_text(lode_buffer_t *text, const lode_store_t *store,
                              const lode_part_t *parts, int64_t count) {
    LODE_TRY(put_head(text, store->journal->fingerprint));
    for (int64_t i = 0; i < count; i++)
        LODE_TRY(
            lode_buffer_printf(text, "part %s %lld\n", parts[i].name, (long long)parts[i].units));
    for (int64_t i = 0; i < store->entry_count; i++) {
        const lode_store_entry_t *entry = &store->entries[i];
        LODE_TRY(lode_buffer_printf(text, "dataset %s [", lode_type_name(entry->type)));
        for (int axis = 0; axis < entry->axes; axis++)
            LODE_TRY(
                lode_buffer_printf(text, "%s%lld", axis ? "," : "", (long long)entry->shape[axis]));
        LODE_TRY(lode_buffer_printf(text, "] at %lld %s\n", (long long)lode_store_start(entry),
                                    entry->name));
    }
    return lode_buffer_printf(text, "end\n");
}

/* Whether the file at `path` begins with these bytes. */
static bool begins_with(const char *path, const lode_buffer_t *text) {
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    char *found = malloc(text->length);
    const bool same = found && read_at(descriptor, found, (int64_t)text->length, 0) &&
                      memcmp(found, text->data, text->length) == 0;
    free(found);
    close(descriptor);
    return same;
}

/* Whether an interrupted run of this fingerprint has left anything; what others have left is
 * deleted. By rank 0. */
static bool look_for_interrupted(const lode_store_t *store, bool afresh) {
    const lode_journal_t *journal = store->journal;
    lode_buffer_t head = {0};
    struct stat info;
    unlink(journal->skeleton);
    if (stat(journal->path, &info) != 0)
        return false;
    /* A second name would be that of a file which is complete. */
    const bool good = put_head(&head, journal->fingerprint) == LODE_OK &&
                      begins_with(journal->path, &head) && stat(store->partial, &info) == 0 &&
                      S_ISREG(info.st_mode) && info.st_nlink == 1;
    lode_buffer_free(&head);
    if (good && !afresh)
        return true;
    if (!good)
        lode_log_info("%s: left by an interrupted run of other inputs or settings, or incomplete; "
                      "it is thrown away",
                      journal->path);
    lode_store_discard(store->path);
    return false;
}

/* --- creating -------------------------------------------------------------------------------- */

static lode_status_t new_journal(lode_store_t *store, const char *fingerprint) {
    LODE_TRY(LODE_NEW(&store->journal, 1, "journal"));
    lode_journal_t *journal = store->journal;
    journal->descriptor = journal->data = -1;
    snprintf(journal->fingerprint, sizeof journal->fingerprint, "%s", fingerprint);
    LODE_TRY(with_ending(&journal->path, store->path, ".journal"));
    return with_ending(&journal->skeleton, store->partial, ".new");
}

lode_status_t lode_store_create_resumable(lode_store_t **out, const lode_comm_t *comm,
                                          const char *path, const char *fingerprint, bool afresh) {
    lode_store_t *store = NULL;
    int waits = 0;
    *out = NULL;
    lode_status_t status = lode_store_new(&store, comm, path, true);
    if (status == LODE_OK)
        status = new_journal(store, fingerprint);
    if (status == LODE_OK && comm->rank == 0)
        waits = store->journal->waits = look_for_interrupted(store, afresh);
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        status = lode_comm_broadcast(comm, &waits, sizeof waits, 0);
    if (status == LODE_OK) {
        store->journal->waits = waits != 0;
        status = lode_store_create_file(store, waits ? store->journal->skeleton : store->partial);
    }
    if (status == LODE_OK)
        *out = store;
    else if (store)
        lode_store_drop(&store, false);
    return status;
}

bool lode_journal_waits(const lode_store_t *store) {
    return store->journal && store->journal->waits;
}

/* --- taking over ----------------------------------------------------------------------------- */

/* The place after the last dataset's bytes. */
static int64_t data_end(const lode_store_t *store) {
    int64_t end = 0;
    for (int64_t i = 0; i < store->entry_count; i++) {
        const int64_t last =
            lode_store_start(&store->entries[i]) + lode_store_bytes(&store->entries[i]);
        end = last > end ? last : end;
    }
    return end;
}

/* Whether the interrupted run's file has the same datasets in the same places. By rank 0. */
static bool fits(const lode_store_t *store, const lode_buffer_t *text) {
    struct stat info;
    if (begins_with(store->journal->path, text) && stat(store->partial, &info) == 0 &&
        info.st_size >= data_end(store))
        return true;
    lode_log_info(
        "%s: left by an interrupted run and laid out otherwise, or cut short; it is thrown "
        "away",
        store->partial);
    return false;
}

typedef struct range {
    int64_t start, end;
} range_t;

static int compare_ranges(const void *left, const void *right) {
    const range_t *a = left, *b = right;
    return a->start < b->start ? -1 : a->start > b->start;
}

static bool copy_range(int from, int to, char *block, int64_t room, range_t range) {
    while (range.start < range.end) {
        const int64_t piece = range.end - range.start < room ? range.end - range.start : room;
        if (!read_at(from, block, piece, range.start) || !write_at(to, block, piece, range.start))
            return false;
        range.start += piece;
    }
    return true;
}

/* Copies all of the first file but the datasets' bytes, which are ranges[count]. */
static bool copy_between(int from, int to, const range_t *ranges, int64_t count) {
    enum { ROOM = 1 << 20 };
    struct stat info;
    char *block = malloc(ROOM);
    bool good = block && fstat(from, &info) == 0;
    int64_t at = 0;
    for (int64_t i = 0; i < count && good; i++) {
        good = copy_range(from, to, block, ROOM, (range_t){at, ranges[i].start});
        at = ranges[i].end > at ? ranges[i].end : at;
    }
    if (good)
        good = copy_range(from, to, block, ROOM, (range_t){at, info.st_size});
    /* What follows is of datasets that are not there yet, and must read as zeros. */
    good = good && ftruncate(to, info.st_size) == 0 && fsync(to) == 0;
    free(block);
    return good;
}

/* Makes the interrupted run's file a sound one. By rank 0, the new file being closed and `ranges`
 * its datasets'. */
static lode_status_t overlay(lode_store_t *store, const range_t *ranges, int64_t count) {
    const lode_journal_t *journal = store->journal;
    const int from = open(journal->skeleton, O_RDONLY | O_CLOEXEC);
    const int to = open(store->partial, O_RDWR | O_CLOEXEC);
    lode_status_t status = LODE_OK;
    if (from < 0 || to < 0 || !copy_between(from, to, ranges, count))
        status = fail_io(store->partial, "what an interrupted run left cannot be taken over");
    if (from >= 0)
        close(from);
    unlink(journal->skeleton);
    store->descriptor = to;
    if (status == LODE_OK)
        status = lode_store_claim(store, "metadata", count > 0 ? ranges[count - 1].end : 0, 0);
    return status;
}

/* Opens the file and its datasets for writing. Collective, not agreed. */
static lode_status_t reopen(lode_store_t *store) {
    hid_t access = lode_store_access(&store->comm);
    if (access >= 0 && H5Pset_sieve_buf_size(access, 0) >= 0)
        store->file = H5Fopen(store->partial, H5F_ACC_RDWR, access);
    if (access >= 0)
        H5Pclose(access);
    for (int64_t i = 0; i < store->entry_count; i++) {
        lode_store_entry_t *entry = &store->entries[i];
        if (store->file >= 0)
            entry->dataset = H5Dopen2(store->file, entry->name, H5P_DEFAULT);
        if (entry->dataset < 0)
            return lode_fail(LODE_ERR_IO, "%s: cannot be opened again: %s; check the disk",
                             store->partial, lode_store_reason());
    }
    return LODE_OK;
}

/* Continues in the interrupted run's file. Collective. */
static lode_status_t take_over(lode_store_t *store) {
    const lode_comm_t *comm = &store->comm;
    range_t *ranges;
    int64_t count = 0;
    lode_status_t status =
        lode_comm_agree(comm, LODE_NEW(&ranges, store->entry_count + 1, "datasets"));
    if (status != LODE_OK) {
        free(ranges);
        return status;
    }
    for (int64_t i = 0; i < store->entry_count; i++) {
        const int64_t start = lode_store_start(&store->entries[i]);
        const int64_t bytes = lode_store_bytes(&store->entries[i]);
        if (bytes > 0)
            ranges[count++] = (range_t){start, start + bytes};
    }
    if (count > 0)
        qsort(ranges, (size_t)count, sizeof *ranges, compare_ranges);
    store->journal->waits = false;
    store->journal->keep = true;
    status = lode_store_shut(store);
    for (int64_t i = 0; i < store->entry_count; i++)
        store->entries[i].dataset = H5I_INVALID_HID;
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        status = lode_comm_agree(comm, comm->rank == 0 ? overlay(store, ranges, count) : LODE_OK);
    if (status == LODE_OK)
        status = lode_comm_agree(comm, reopen(store));
    free(ranges);
    return status;
}

/* Continues in the new file after all, with what was put off when its datasets were created.
 * Collective. */
static lode_status_t begin_anew(lode_store_t *store) {
    lode_status_t status = LODE_OK;
    store->journal->waits = false;
    if (store->comm.rank == 0) {
        delete_journal(store->path);
        if (rename(store->journal->skeleton, store->partial) != 0)
            status = fail_io(store->partial, "cannot be created");
        for (int64_t i = 0; i < store->entry_count && status == LODE_OK; i++)
            status = lode_store_claim(store, store->entries[i].name,
                                      lode_store_start(&store->entries[i]),
                                      lode_store_bytes(&store->entries[i]));
    }
    LODE_TRY(lode_comm_agree(&store->comm, status));
    for (int64_t i = 0; i < store->entry_count && status == LODE_OK; i++)
        if (store->entries[i].fill && store->entries[i].type != LODE_TYPE_U8)
            status = lode_store_stick(store, lode_store_fill_share(store, &store->entries[i]));
    return lode_store_synchronise(store);
}

/* --- the marks ------------------------------------------------------------------------------- */

static lode_status_t number_units(lode_journal_t *journal, const lode_part_t *parts,
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
    const bool known = read_at(descriptor, theirs, BOOT_BYTES, journal->marks_at - BOOT_BYTES);
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
        write_at(journal->descriptor, marks, units, journal->marks_at) &&
        fsync(journal->descriptor) == 0 &&
        write_at(journal->descriptor, field, BOOT_BYTES, journal->marks_at - BOOT_BYTES);
    free(marks);
    return good ? LODE_OK : fail_io(journal->path, "cannot be written");
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
        return fail_io(journal->path, "cannot be opened");
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
    return good ? LODE_OK : fail_io(store->partial, "cannot be synced to disk");
}

/* Collective. */
static lode_status_t open_journal(lode_store_t *store, lode_buffer_t *text, bool found) {
    const lode_comm_t *comm = &store->comm;
    lode_journal_t *journal = store->journal;
    const size_t units = (size_t)journal->first[journal->parts];
    char boot[BOOT_TEXT];
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

lode_status_t lode_store_resume(lode_store_t *store, const lode_part_t *parts, int64_t count) {
    const lode_comm_t *comm = &store->comm;
    lode_journal_t *journal = store->journal;
    lode_buffer_t text = {0};
    int found = 0;
    LODE_ASSERT(journal && !journal->opened);
    lode_status_t status = lode_store_sticky(store);
    if (status == LODE_OK)
        status = put_text(&text, store, parts, count);
    if (status == LODE_OK)
        status = number_units(journal, parts, count);
    journal->marks_at = (int64_t)text.length + BOOT_BYTES;
    if (status == LODE_OK && comm->rank == 0 && journal->waits)
        found = fits(store, &text);
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        status = lode_comm_broadcast(comm, &found, sizeof found, 0);
    if (status == LODE_OK && journal->waits)
        status = found ? take_over(store) : begin_anew(store);
    if (status == LODE_OK)
        status = open_journal(store, &text, found != 0);
    lode_buffer_free(&text);
    return lode_store_stick(store, status);
}

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

static lode_status_t put_marks(lode_journal_t *journal, run_t run, char mark) {
    char marks[256];
    memset(marks, mark, sizeof marks);
    for (int64_t done = 0; done < run.count;) {
        const int64_t left = run.count - done, room = sizeof marks;
        const int64_t piece = left < room ? left : room;
        if (!write_at(journal->descriptor, marks, piece, journal->marks_at + run.first + done))
            return fail_io(journal->path, "cannot be written");
        done += piece;
    }
    return LODE_OK;
}

/* Notes units whose data may not be on disk yet. */
static lode_status_t put_off(pending_t *pending, run_t run) {
    if (pending->count == pending->room) {
        const int64_t room = pending->room ? 2 * pending->room : 64;
        run_t *grown = realloc(pending->runs, (size_t)room * sizeof *grown);
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
static lode_status_t settle(lode_journal_t *journal, pending_t *pending) {
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
        return fail_io(store->partial, "cannot be synced to disk");
    journal->synced = lode_time();
    const double rest = SYNC_SHARE * (journal->synced - start);
    journal->interval = rest > SYNC_SECONDS ? rest : SYNC_SECONDS;
    return settle(journal, &journal->own);
}

static bool is_due(const lode_journal_t *journal) {
    return lode_time() - journal->synced >= journal->interval;
}

static lode_status_t mark(lode_store_t *store, run_t run) {
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
    const run_t run = {.first = number_of(store->journal, part, first, count), .count = count};
    return lode_store_stick(store, mark(store, run));
}

/* By rank 0, `synced` by all. */
static lode_status_t mark_shared(lode_journal_t *journal, int64_t unit, bool synced) {
    const run_t run = {.first = unit, .count = 1};
    journal->keep = true;
    LODE_TRY(put_marks(journal, run, WRITTEN));
    LODE_TRY(put_off(&journal->shared, run));
    obey_test();
    if (!synced)
        return LODE_OK;
    LODE_TRY(settle(journal, &journal->shared));
    return fsync(journal->descriptor) == 0 ? LODE_OK
                                           : fail_io(journal->path, "cannot be synced to disk");
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

/* --- ending ---------------------------------------------------------------------------------- */

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

void lode_journal_close(lode_store_t *store, bool committed, bool keep) {
    lode_journal_t *journal = store->journal;
    if (store->comm.rank == 0) {
        if (journal && journal->waits)
            unlink(journal->skeleton); /* what it waits with stays */
        else if (committed && journal)
            delete_journal(store->path);
        else if (!committed && !keep)
            lode_store_discard(store->path);
    }
    if (!journal)
        return;
    if (journal->descriptor >= 0)
        close(journal->descriptor);
    if (journal->data >= 0)
        close(journal->data);
    free(journal->path);
    free(journal->skeleton);
    free(journal->first);
    free(journal->done);
    free(journal->own.runs);
    free(journal->shared.runs);
    free(journal);
    store->journal = NULL;
}
