/* store/internal: what the store's own files share. */
#ifndef LODE_STORE_INTERNAL_H
#define LODE_STORE_INTERNAL_H

#include <hdf5.h>

#include "base/file.h"
#include "store/journal.h"
#include "store/store.h"

typedef struct lode_store_entry {
    char *name; /* without the leading '/' */
    hid_t dataset;
    lode_type_t type;
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    bool fill;  /* created with it */
    bool sound; /* its checksums were compared */
} lode_store_entry_t;

typedef struct lode_journal lode_journal_t;

struct lode_store {
    lode_comm_t comm;
    char *path;
    char *partial; /* NULL where the store was opened for reading */
    hid_t file;
    int descriptor; /* rank 0 of a store being written: its own handle on the partial file */
    lode_journal_t *journal; /* of a resumable store */
    lode_mapping_t mapping;  /* of the whole file, once lode_store_map() was called */
    bool sound;              /* all checksums were compared, or need not be */
    lode_status_t status;
    char message[LODE_MESSAGE_MAX]; /* of `status` */
    lode_store_entry_t *entries;    /* open datasets; in writing, all of them */
    int64_t entry_count, entry_capacity;
    int64_t *index; /* [2·entry_capacity] by a hash of the name: 1 + an entry's place, 0 for none */
    bool tallied;   /* no file: only its bytes are counted */
    int64_t tally_data, tally_metadata;
};

/* Allocates a store that is not open yet. Local. */
LODE_MUST_USE lode_status_t lode_store_new(lode_store_t **out, const lode_comm_t *comm,
                                           const char *path, bool writing);
/* Closes what is open; the table of datasets stays, for their shapes. Collective where the file was
 * opened collectively. */
LODE_MUST_USE lode_status_t lode_store_shut(lode_store_t *store);
/* Frees a store that was shut. Local. */
void lode_store_free(lode_store_t **store);

/* lode_store_open() without a look at the file's seal. Collective. */
LODE_MUST_USE lode_status_t lode_store_open_unsealed(lode_store_t **out, const lode_comm_t *comm,
                                                     const char *path);
/* Opens `path` for reading into store->file. Collective over the store's ranks, not agreed. */
LODE_MUST_USE lode_status_t lode_store_open_file(lode_store_t *store, const char *path);

/* Counts a dataset, or an attribute of `bytes` beside its header, of a tallied store. */
void lode_store_tally_dataset(lode_store_t *store, lode_type_t type, int axes,
                              const int64_t *shape);
void lode_store_tally_attribute(lode_store_t *store, int64_t bytes);

/* Names as HDF5's iterations hand them over, to be put in byte order. */
typedef struct lode_store_names {
    char **names; /* release with lode_store_list_free() */
    int64_t count, capacity;
    lode_status_t status; /* of the iteration's callback */
} lode_store_names_t;
LODE_MUST_USE lode_status_t lode_store_names_add(lode_store_names_t *list, const char *name);
void lode_store_names_sort(lode_store_names_t *list);

/* The name without leading '/'; "." for the root, which HDF5 takes for the group itself. */
const char *lode_store_relative(const char *name);

/* The entry of a dataset, opened where it is not yet and `open` is set. Local. */
LODE_MUST_USE lode_status_t lode_store_find(lode_store_t *store, const char *name, bool open,
                                            lode_store_entry_t **entry);
/* Takes the open dataset into the table; on failure the dataset is closed. Local. */
LODE_MUST_USE lode_status_t lode_store_remember(lode_store_t *store, const char *name,
                                                hid_t dataset, lode_store_entry_t **entry);

/* Closes the dataset that was taken last, and takes it out of the table again. Local. */
void lode_store_forget(lode_store_t *store);

/* Moves a hyperslab between memory and file, in pieces that MPI-IO can count. Local. */
LODE_MUST_USE lode_status_t lode_store_transfer(lode_store_t *store,
                                                const lode_store_entry_t *entry,
                                                const int64_t *offset, const int64_t *count,
                                                lode_type_t type, void *into, const void *from);

/* --- write.c, for the journal ---------------------------------------------------------------- */

/* Creates `name` and the HDF5 file in it. Collective. */
LODE_MUST_USE lode_status_t lode_store_create_file(lode_store_t *store, const char *name);
/* Rank 0 claims `bytes` of the partial file from `start`, and some for metadata; `what` is for the
 * message. Local. */
LODE_MUST_USE lode_status_t lode_store_claim(lode_store_t *store, const char *what, int64_t start,
                                             int64_t bytes);
/* Writes "missing" into this rank's share of a dataset. Local. */
LODE_MUST_USE lode_status_t lode_store_fill_share(lode_store_t *store,
                                                  const lode_store_entry_t *entry);
/* Closes a store that was being written, and deletes what need not be kept, without waiting for the
 * other ranks; keeps the current error message. */
void lode_store_drop(lode_store_t **store, bool keep);
/* Where a dataset's bytes begin, 0 where it has none; how many they are. Local. */
int64_t lode_store_start(const lode_store_entry_t *entry);
int64_t lode_store_bytes(const lode_store_entry_t *entry);
/* Keeps a store's first error, so that its commit fails. Hands the status on. Local. */
lode_status_t lode_store_stick(lode_store_t *store, lode_status_t status);
/* The store's sticky error as this rank's current one. Local. */
LODE_MUST_USE lode_status_t lode_store_sticky(const lode_store_t *store);

/* --- journal.c and journal_marks.c, for the store --------------------------------------------- */

/* Whether datasets are only laid out yet, since those of an interrupted run may be taken over. */
bool lode_journal_waits(const lode_store_t *store);
/* Syncs what this rank has marked, as far as that works, and tells whether any rank knows of a unit
 * that is done. Collective. */
bool lode_journal_suspend(lode_store_t *store);
/* Closes the journal and deletes what is not worth keeping: of a store that failed everything but
 * what `keep` says, of one that was committed the journal. The store's files are closed. Local. */
void lode_journal_close(lode_store_t *store, bool committed, bool keep);

/* File access properties for the store's communicator; negative on failure. */
hid_t lode_store_access(const lode_comm_t *comm);
hid_t lode_store_file_type(lode_type_t type);
hid_t lode_store_memory_type(lode_type_t type);
/* Which of our types an HDF5 type is; false where it is none of them. */
bool lode_store_classify(hid_t type, lode_type_t *out);

/* Turns HDF5's error printing off. Local. */
void lode_store_quiet(void);
/* The innermost message on HDF5's error stack, "unknown HDF5 error" if none; clears the stack. The
 * text is valid until the next call. Local. */
const char *lode_store_reason(void);

#endif
