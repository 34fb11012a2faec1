#include "store/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"

/* --- small things ---------------------------------------------------------------------------- */

static lode_status_t with_ending(char **out, const char *path, const char *ending) {
    const size_t bytes = strlen(path) + strlen(ending) + 1;
    LODE_TRY(LODE_NEW_RAW(out, (int64_t)bytes, "path"));
    snprintf(*out, bytes, "%s%s", path, ending);
    return LODE_OK;
}

lode_status_t lode_journal_fail(const char *path, const char *what) {
    return lode_fail(LODE_ERR_IO, "%s: %s: %s; check the disk's space and quota", path, what,
                     strerror(errno));
}

bool lode_journal_read(int descriptor, void *data, int64_t size, int64_t offset) {
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

bool lode_journal_write(int descriptor, const void *data, int64_t size, int64_t offset) {
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

void lode_journal_delete(const char *path) {
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
    lode_journal_delete(path);
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
    const bool same = found && lode_journal_read(descriptor, found, (int64_t)text->length, 0) &&
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

/* --- resuming -------------------------------------------------------------------------------- */

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
        status = lode_journal_number(journal, parts, count);
    if (status == LODE_OK && comm->rank == 0 && journal->waits)
        found = fits(store, &text);
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        status = lode_comm_broadcast(comm, &found, sizeof found, 0);
    if (status == LODE_OK && journal->waits)
        status = found ? lode_journal_take_over(store) : lode_journal_begin_anew(store);
    if (status == LODE_OK)
        status = lode_journal_start(store, &text, found != 0);
    lode_buffer_free(&text);
    return lode_store_stick(store, status);
}

/* --- ending ---------------------------------------------------------------------------------- */

void lode_journal_close(lode_store_t *store, bool committed, bool keep) {
    lode_journal_t *journal = store->journal;
    if (store->comm.rank == 0) {
        if (journal && journal->waits)
            unlink(journal->skeleton); /* what it waits with stays */
        else if (committed && journal)
            lode_journal_delete(store->path);
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
