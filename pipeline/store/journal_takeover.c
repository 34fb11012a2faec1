#include "store/journal_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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
        if (!lode_journal_read(from, block, piece, range.start) ||
            !lode_journal_write(to, block, piece, range.start))
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
        status =
            lode_journal_fail(store->partial, "what an interrupted run left cannot be taken over");
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

lode_status_t lode_journal_take_over(lode_store_t *store) {
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

lode_status_t lode_journal_begin_anew(lode_store_t *store) {
    lode_status_t status = LODE_OK;
    store->journal->waits = false;
    if (store->comm.rank == 0) {
        lode_journal_delete(store->path);
        if (rename(store->journal->skeleton, store->partial) != 0)
            status = lode_journal_fail(store->partial, "cannot be created");
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
